//! What is said to which contract, as bytes. Pure: no chain is needed to
//! build a call, to show it ([`Call::cast`]) or to test it.

use alloy::primitives::aliases::U40;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolCall;
use market::{Amount, BidId, ChannelConfig, Claim, ExitStep, ModelId, SignedClaim};

use crate::bindings::{Erc20, Market, Settlement};
use crate::profile::Network;

/// A call of a contract, not yet sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// Selector and arguments.
    pub data: Bytes,
}

/// What a provider, or anybody, says of a model that it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// Who registers it.
    pub owner: Address,
    /// Chosen by the owner; the model's id follows from both.
    pub base: B256,
    /// Where it is described.
    pub ipfs_cid: B256,
    /// Stored by the registry, without effect.
    pub fee: U256,
    /// Added to what is staked on it.
    pub stake: Amount,
    /// For people.
    pub name: String,
    /// Free words.
    pub tags: Vec<String>,
}

impl Call {
    fn new(to: Address, call: &impl SolCall) -> Self {
        Self {
            to,
            data: call.abi_encode().into(),
        }
    }

    /// Lets `spender` take so much of the caller's tokens.
    pub fn approve(token: Address, spender: Address, amount: U256) -> Self {
        let value = amount;
        Self::new(token, &Erc20::approveCall { spender, value })
    }

    /// Gives tokens away.
    pub fn transfer(token: Address, to: Address, amount: Amount) -> Self {
        let value = units(amount);
        Self::new(token, &Erc20::transferCall { to, value })
    }

    /// Registers a provider, changes its endpoint, or adds to its stake.
    pub fn register_provider(
        network: &Network,
        provider: Address,
        stake: Amount,
        endpoint: String,
    ) -> Self {
        let call = Market::providerRegisterCall {
            provider,
            amount: units(stake),
            endpoint,
        };
        Self::new(network.registry, &call)
    }

    /// Registers a model, changes it, or adds to its stake.
    pub fn register_model(network: &Network, model: ModelEntry) -> Self {
        let call = Market::modelRegisterCall {
            modelOwner: model.owner,
            baseModelId: model.base,
            ipfsCID: model.ipfs_cid,
            fee: model.fee,
            amount: units(model.stake),
            name: model.name,
            tags: model.tags,
        };
        Self::new(network.registry, &call)
    }

    /// Bids for a model.
    pub fn post_bid(
        network: &Network,
        provider: Address,
        model: ModelId,
        price_per_second: Amount,
    ) -> Self {
        let call = Market::postModelBidCall {
            provider,
            modelId: model.0,
            pricePerSecond: units(price_per_second),
        };
        Self::new(network.registry, &call)
    }

    /// Takes a bid off the market.
    pub fn delete_bid(network: &Network, bid: BidId) -> Self {
        Self::new(
            network.registry,
            &Market::deleteModelBidCall { bidId: bid.0 },
        )
    }

    /// Takes a model off the market; its stake comes back.
    pub fn deregister_model(network: &Network, model: ModelId) -> Self {
        let call = Market::modelDeregisterCall { modelId: model.0 };
        Self::new(network.registry, &call)
    }

    /// Takes a provider off the market; its stake comes back.
    pub fn deregister_provider(network: &Network, provider: Address) -> Self {
        let call = Market::providerDeregisterCall { provider };
        Self::new(network.registry, &call)
    }

    /// Pays into a channel through `collector`.
    pub fn deposit(
        network: &Network,
        config: &ChannelConfig,
        amount: Amount,
        collector: Address,
        collector_data: Bytes,
    ) -> Self {
        let call = Settlement::depositCall {
            config: typed(config),
            amount: amount.base_units(),
            collector,
            collectorData: collector_data,
        };
        Self::new(network.settlement, &call)
    }

    /// Claims as receiver or its authorizer.
    pub fn claim(network: &Network, claims: &[Claim]) -> Self {
        let call = Settlement::claimCall {
            voucherClaims: claims.iter().map(row).collect(),
        };
        Self::new(network.settlement, &call)
    }

    /// Claims as anybody, by the word of the receiver's authorizer.
    pub fn claim_signed(network: &Network, signed: &SignedClaim) -> Self {
        let call = Settlement::claimWithSignatureCall {
            voucherClaims: vec![row(&signed.claim)],
            authorizerSignature: signed.authorization.as_bytes().to_vec().into(),
        };
        Self::new(network.settlement, &call)
    }

    /// Pays out to `receiver` all that was claimed for it. Anybody may call it.
    pub fn settle(network: &Network, receiver: Address, token: Address) -> Self {
        Self::new(
            network.settlement,
            &Settlement::settleCall { receiver, token },
        )
    }

    /// Starts the payer's way out.
    pub fn initiate_withdraw(network: &Network, config: &ChannelConfig, amount: Amount) -> Self {
        let call = Settlement::initiateWithdrawCall {
            config: typed(config),
            amount: amount.base_units(),
        };
        Self::new(network.settlement, &call)
    }

    /// Ends it, after the delay.
    pub fn finalize_withdraw(network: &Network, config: &ChannelConfig) -> Self {
        let config = typed(config);
        Self::new(
            network.settlement,
            &Settlement::finalizeWithdrawCall { config },
        )
    }

    /// The receiver gives back, at once.
    pub fn refund(network: &Network, config: &ChannelConfig, amount: Amount) -> Self {
        let call = Settlement::refundCall {
            config: typed(config),
            amount: amount.base_units(),
        };
        Self::new(network.settlement, &call)
    }

    /// What a step of an exit of `account` says to which contract.
    pub fn of_exit(network: &Network, account: Address, step: &ExitStep) -> Self {
        match step {
            ExitStep::Claim(claims) => Self::claim(network, claims),
            ExitStep::Settle {
                receiver, token, ..
            } => Self::settle(network, *receiver, *token),
            ExitStep::DeleteBid(bid) => Self::delete_bid(network, *bid),
            ExitStep::DeregisterModel(model) => Self::deregister_model(network, *model),
            ExitStep::DeregisterProvider => Self::deregister_provider(network, account),
            ExitStep::Initiate { config, amount } => {
                Self::initiate_withdraw(network, config, *amount)
            }
            ExitStep::Finalise { config, .. } => Self::finalize_withdraw(network, config),
            ExitStep::Send { token, to, amount } => Self::transfer(*token, *to, *amount),
        }
    }

    /// Tells this call from others.
    pub(crate) fn digest(&self) -> B256 {
        keccak256([self.to.as_slice(), self.data.as_ref()].concat())
    }
}

fn row(claim: &Claim) -> Settlement::VoucherClaim {
    Settlement::VoucherClaim {
        voucher: Settlement::Voucher {
            channel: typed(&claim.config),
            maxClaimableAmount: claim.voucher.voucher.ceiling.base_units(),
        },
        signature: claim.voucher.signature.as_bytes().to_vec().into(),
        totalClaimed: claim.total.base_units(),
    }
}

pub(crate) fn units(amount: Amount) -> U256 {
    U256::from(amount.base_units())
}

pub(crate) fn typed(config: &ChannelConfig) -> Settlement::ChannelConfig {
    Settlement::ChannelConfig {
        payer: config.payer,
        payerAuthorizer: config.payer_authorizer,
        receiver: config.receiver,
        receiverAuthorizer: config.receiver_authorizer,
        token: config.token,
        // As in the channel's id; the contract refuses such a delay anyway.
        withdrawDelay: U40::saturating_from(config.withdraw_delay_s),
        salt: config.salt,
    }
}

/// The channel configuration that a log or a call carries.
pub(crate) fn untyped(config: &Settlement::ChannelConfig) -> ChannelConfig {
    ChannelConfig {
        payer: config.payer,
        payer_authorizer: config.payerAuthorizer,
        receiver: config.receiver,
        receiver_authorizer: config.receiverAuthorizer,
        token: config.token,
        withdraw_delay_s: config.withdrawDelay.to(),
        salt: config.salt,
    }
}
