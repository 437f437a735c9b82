//! The chain as the rest of the market sees it: registry and payment
//! channels, without a word of how they are reached.
//!
//! Two forms: `chain::EvmLedger` speaks to the contracts, [`crate::MemoryLedger`]
//! is the executable specification that they are tested against.

use core::error::Error;
use core::future::Future;
use core::pin::Pin;

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::{
    Amount, BidId, ChannelConfig, ChannelId, Domain, ModelId, SignedClaim, SignedVoucher, Timestamp,
};

/// A future in a box, so that the trait can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The hash of a transaction.
pub type TxHash = B256;

/// A registered provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its account.
    pub address: Address,
    /// `host:port`, where its descriptor is served.
    pub endpoint: String,
    /// What it staked, in MOR.
    pub stake: Amount,
}

/// A registered model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// Who registered it.
    pub owner: Address,
    /// Its name. Not unique.
    pub name: String,
    /// Free words.
    pub tags: Vec<String>,
}

/// A provider's standing bid for a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// Its id.
    pub id: BidId,
    /// Who bids.
    pub provider: Address,
    /// For what.
    pub model: ModelId,
    /// MOR base units per second of a session, within the market's bounds. What
    /// tokens cost says the provider's quote; neither follows from the other.
    pub price_per_second: Amount,
}

/// A wish to withdraw that waits for its delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// How much.
    pub amount: Amount,
    /// Since when.
    pub initiated_at: Timestamp,
}

/// What the contract knows of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChannelState {
    /// All deposits, less refunds and withdrawals; claims do not lower it.
    pub balance: Amount,
    /// All that was claimed.
    pub total_claimed: Amount,
    /// A withdrawal on its way.
    pub withdrawal: Option<Withdrawal>,
}

impl ChannelState {
    /// Up to where a voucher is safe: what a pending withdrawal leaves.
    pub fn covered(&self) -> Amount {
        let leaving = self
            .withdrawal
            .map_or(Amount::ZERO, |withdrawal| withdrawal.amount);
        self.balance.less(leaving)
    }
}

/// What the contract owes a receiver in one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receiver {
    /// Claimed over all channels.
    pub total_claimed: Amount,
    /// Of that, paid out.
    pub total_settled: Amount,
}

/// One row of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The channel.
    pub config: ChannelConfig,
    /// The voucher that allows it.
    pub voucher: SignedVoucher,
    /// All that will have been claimed after it.
    pub total: Amount,
}

/// Why the ledger did not do, or say, what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nobody answered, or not in time: the state is unknown.
    #[error("the chain cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The contract refused; nothing was changed.
    #[error("the contract refused: {reason}")]
    Refused {
        /// Its error, by name, as in its ABI.
        reason: String,
    },
    /// The account cannot pay.
    #[error("account {owner} has {has} base units of {token}, {needs} are needed")]
    Insufficient {
        /// The account.
        owner: Address,
        /// Of which token; zero: the chain's own, for gas.
        token: Address,
        /// What it has.
        has: Amount,
        /// What it would have to have.
        needs: Amount,
    },
    /// An answer that cannot be right: a wrong chain, or no contract there.
    #[error("the chain's answer makes no sense: {problem}")]
    Nonsense {
        /// What is wrong with it.
        problem: String,
    },
}

/// The registry and the payment channels, seen from one account.
///
/// Writing calls return once the transaction is included and succeeded.
/// Reads are of the latest block.
pub trait Ledger: Send + Sync + 'static {
    /// The account that writes.
    fn account(&self) -> Address;

    /// Where vouchers count.
    fn domain(&self) -> Domain;

    /// MOR on this chain.
    fn mor(&self) -> Address;

    /// The time of the latest block.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, LedgerError>>;

    /// What `owner` has of `token`.
    fn balance(&self, token: Address, owner: Address)
    -> BoxFuture<'_, Result<Amount, LedgerError>>;

    /// Gives tokens of the account to somebody.
    fn transfer(
        &self,
        token: Address,
        to: Address,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Sees that `to` has coins for the gas of a channel's life: approval,
    /// deposits, the way out.
    fn provide_gas(&self, to: Address) -> BoxFuture<'_, Result<(), LedgerError>>;

    /// Gives what the account has of the chain's own coins to somebody, less
    /// the gas of it. None: nothing is left beyond that gas.
    fn sweep_coins(&self, to: Address) -> BoxFuture<'_, Result<Option<TxHash>, LedgerError>>;

    /// What a unit of gas costs now, in wei.
    fn gas_price(&self) -> BoxFuture<'_, Result<Amount, LedgerError>>;

    /// All active providers.
    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, LedgerError>>;

    /// All active models.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, LedgerError>>;

    /// The active bids of one provider.
    fn bids(&self, provider: Address) -> BoxFuture<'_, Result<Vec<Bid>, LedgerError>>;

    /// Registers the account as provider, or changes its endpoint; `stake` is added.
    fn register_provider(
        &self,
        stake: Amount,
        endpoint: String,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Registers a model of the account, or changes it; `stake` is added.
    fn register_model(
        &self,
        base: B256,
        name: String,
        tags: Vec<String>,
        stake: Amount,
    ) -> BoxFuture<'_, Result<ModelId, LedgerError>>;

    /// The least that a provider and a model must stake, and the fee of a bid.
    fn stakes(&self) -> BoxFuture<'_, Result<Stakes, LedgerError>>;

    /// Bids for a model; replaces the account's bid before.
    fn post_bid(
        &self,
        model: ModelId,
        price_per_second: Amount,
    ) -> BoxFuture<'_, Result<BidId, LedgerError>>;

    /// Takes a bid of the account off the market. Its fee does not come back.
    fn delete_bid(&self, bid: BidId) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Takes a model of the account off the market, once nobody bids for it;
    /// its stake comes back.
    fn deregister_model(&self, model: ModelId) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Takes the account off the market, once it has no bids; its stake comes back.
    fn deregister_provider(&self) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// MOR that is staked on a model.
    fn model_stake(&self, model: ModelId) -> BoxFuture<'_, Result<Amount, LedgerError>>;

    /// What the contract knows of a channel; zeros for one that it does not know.
    fn channel(&self, id: ChannelId) -> BoxFuture<'_, Result<ChannelState, LedgerError>>;

    /// What the contract owes a receiver.
    fn receiver(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<Receiver, LedgerError>>;

    /// Pays `amount` of the account's tokens into a channel; approves it first if needed.
    fn deposit(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Claims as receiver or its authorizer. Moves no tokens: see [`Ledger::settle`].
    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Claims one row as anybody, by the word of its receiver's authorizer.
    fn claim_signed(&self, claim: SignedClaim) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Pays out to `receiver` all that was claimed for it.
    fn settle(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Starts the payer's way out.
    fn initiate_withdraw(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// Ends it, after the delay: the payer has what was not claimed meanwhile.
    fn finalize_withdraw(
        &self,
        config: ChannelConfig,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;

    /// The receiver gives back, at once.
    fn refund(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>>;
}

/// What it takes to take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stakes {
    /// MOR that a provider must have staked.
    pub provider_min: Amount,
    /// MOR that a model must have staked.
    pub model_min: Amount,
    /// MOR that posting a bid costs.
    pub bid_fee: Amount,
    /// The lowest price per second that the market takes.
    pub price_per_second_min: Amount,
    /// The highest.
    pub price_per_second_max: Amount,
}

/// Sees that the account is registered with this endpoint; pays only what of
/// the stake is missing. Whether anything was written.
pub async fn register_endpoint(
    ledger: &dyn Ledger,
    endpoint: &str,
    stakes: &Stakes,
) -> Result<bool, LedgerError> {
    let providers = ledger.providers().await?;
    let me = ledger.account();
    let known = providers.iter().find(|provider| provider.address == me);
    if known.is_some_and(|known| known.endpoint == endpoint) {
        return Ok(false);
    }
    let staked = known.map_or(Amount::ZERO, |known| known.stake);
    let stake = stakes.provider_min.less(staked);
    ledger.register_provider(stake, endpoint.to_owned()).await?;
    Ok(true)
}
