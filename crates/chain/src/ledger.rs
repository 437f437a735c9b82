//! The market's ledger on an EVM chain, seen from one account.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use market::{
    Amount, Bid, BidId, BoxFuture, ChannelConfig, ChannelId, ChannelState, Claim, Domain, Ledger,
    LedgerError, Model, ModelId, Provider, Receiver, SignedClaim, Stakes, Timestamp, TxHash,
    WalletKey, Withdrawal,
};
use tokio::sync::Semaphore;

use crate::bindings::{Erc20, Market, Settlement};
use crate::call::{Call, ModelEntry, units, untyped};
use crate::deposit::{Agreement, Spender};
use crate::directory::{Directory, amount};
use crate::journal::TxJournal;
use crate::logs::{self, Query};
use crate::profile::Network;
use crate::rpc::{At, Endpoints, Message, Receipt, Rpc, RpcError};
use crate::sender::{Intent, Pace, Sender, fee_per_gas};
use crate::token::Remembered;
use crate::watch::block_hash;

/// Who asks the log for this target sees each write as a line for `cast`.
pub const CAST: &str = "cast";
/// Rows of one claim: about 4 million gas.
pub const CLAIMS_MAX: usize = 100;
/// Gas that an account gets for a channel: an approval, two deposits and the way
/// out are about 400,000, and what a rollup pays for its data comes on top.
const CHANNEL_LIFE_GAS: u128 = 1_000_000;
/// Gas that is kept back when all coins are sent: 21,000, a quarter of it as a
/// margin, and as much again for a fee that rises meanwhile and for what a
/// rollup pays for its data.
const SWEEP_GAS: u128 = 52_500;
/// How long the payer's signature on a deposit is good, from the latest block.
const DEPOSIT_GOOD_S: u64 = 3600;

/// The contracts of one network, for one account. Cheap to clone; there must
/// be no second one with the same key on the same chain, see [`crate::TxJournal`].
#[derive(Clone)]
pub struct EvmLedger(Arc<Inner>);

struct Inner {
    network: Network,
    rpc: Rpc,
    directory: Directory,
    key: Arc<WalletKey>,
    tokens: Remembered,
    sender: Sender,
    /// Who spends out of an allowance has the turn from reading it until the
    /// money moved: two at once would take it from each other.
    turn: Semaphore,
}

impl EvmLedger {
    /// Connects to a chain's JSON-RPC, at one URL or several, and checks that the chain is the one that `network` says,
    /// with its contracts where it says. Then goes after what `journal` has open.
    pub async fn connect(
        endpoints: impl Into<Endpoints>,
        network: Network,
        key: Arc<WalletKey>,
        journal: Arc<dyn TxJournal>,
    ) -> Result<Self, LedgerError> {
        network
            .admits(key.address())
            .map_err(|error| LedgerError::Refused {
                reason: error.to_string(),
            })?;
        let rpc = Rpc::new(&endpoints.into(), Some(network.chain_id))?;
        verify(&rpc, &network).await?;
        let pace = if network.is_local() {
            Pace::LOCAL
        } else {
            Pace::PUBLIC
        };
        let chain_id = network.chain_id;
        let sender = Sender::start(rpc.clone(), chain_id, key.clone(), journal, pace).await?;
        Ok(Self(Arc::new(Inner {
            directory: Directory {
                rpc: rpc.clone(),
                registry: network.registry,
            },
            network,
            rpc,
            key,
            tokens: Remembered::default(),
            sender,
            turn: Semaphore::new(1),
        })))
    }

    pub(crate) fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    pub(crate) fn remembered(&self) -> &Remembered {
        &self.0.tokens
    }

    /// Its servers, each with scheme, host and port alone: the rest of a URL may be a secret.
    pub fn servers(&self) -> Vec<Arc<str>> {
        self.0.rpc.servers()
    }

    /// Those of its servers that do not answer now, where too few others are left to agree on what
    /// decides money: nothing that is sent would be known to have come. Else nobody.
    pub async fn lacking(&self) -> Vec<Arc<str>> {
        self.0.rpc.lacking().await
    }

    /// Where it is.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// What `owner` has of the chain's own coin, in wei: for gas.
    pub async fn coins(&self, owner: Address) -> Result<Amount, LedgerError> {
        amount(self.0.rpc.coins(owner).await?)
    }

    /// How much of a token there is.
    pub async fn supply(&self, token: Address) -> Result<Amount, LedgerError> {
        amount(self.0.rpc.view(token, &Erc20::totalSupplyCall {}).await?)
    }

    /// The channels that were created in the blocks from this one on, each with
    /// its block, as far as one reading goes, and the first block that was not
    /// read. All are read when that is the block that was asked for.
    ///
    /// A channel that was emptied and filled again is told again.
    pub async fn channels_created(
        &self,
        from_block: u64,
    ) -> Result<(Vec<(ChannelConfig, u64)>, u64), LedgerError> {
        let query = Query {
            addresses: &[self.0.network.settlement],
            topics: &[Settlement::ChannelCreated::SIGNATURE_HASH],
        };
        let head = self.block_number().await?;
        let page = logs::read(&self.0.rpc, query, from_block, head).await?;
        let domain = self.0.network.domain();
        let created = page.logs.iter().map(|log| created(log, &domain));
        Ok((created.collect::<Result<_, _>>()?, page.next_block))
    }

    /// The number of the latest block.
    pub async fn block_number(&self) -> Result<u64, LedgerError> {
        Ok(self.0.rpc.head().await?.number.to())
    }

    /// The hash of the chain's first block, which no other chain has; None: the servers do not keep it.
    pub async fn first_block(&self) -> Result<Option<B256>, LedgerError> {
        block_hash(&self.0.rpc, 0).await
    }

    /// What time it is on the chain: of the latest block, or on a local chain,
    /// which makes blocks on demand, of the block that would come now.
    pub async fn time_there(&self) -> Result<Timestamp, LedgerError> {
        #[derive(serde::Deserialize)]
        struct Coming {
            timestamp: U64,
        }
        let block = match self.0.network.is_local() {
            true => "pending",
            false => "latest",
        };
        let params = serde_json::json!([block, false]);
        let coming: Coming = self.0.rpc.request("eth_getBlockByNumber", params).await?;
        Ok(Timestamp(coming.timestamp.to()))
    }

    /// Gives coins of the account away, in wei.
    pub async fn transfer_coins(&self, to: Address, wei: Amount) -> Result<TxHash, LedgerError> {
        let value = units(wei);
        let id = keccak256([to.as_slice(), &value.to_be_bytes::<32>()].concat());
        let intent = Intent {
            id,
            to: to.into(),
            data: Bytes::new(),
            value,
        };
        hash(self.0.sender.send(intent).await)
    }

    /// Brings an account that has less than half of the gas of a channel's life up to all of it.
    async fn provide_gas_to(&self, to: Address) -> Result<(), LedgerError> {
        let (fee, has) = tokio::join!(fee_per_gas(&self.0.rpc), self.coins(to));
        let (wanted, has) = (Amount::new(fee?.saturating_mul(CHANNEL_LIFE_GAS)), has?);
        if has.base_units() < wanted.base_units() / 2 {
            self.transfer_coins(to, wanted.less(has)).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Sends all coins but what the sending may cost. What it then really
    /// costs is less; the difference stays, it would not pay for its own way.
    async fn sweep_coins(&self, to: Address) -> Result<Option<TxHash>, LedgerError> {
        let (fee, has) = tokio::join!(fee_per_gas(&self.rpc), self.rpc.coins(self.account()));
        let (gas, has) = (fee?.saturating_mul(SWEEP_GAS), amount(has?)?);
        let value = has.less(Amount::new(gas));
        if value.base_units() < gas {
            return Ok(None);
        }
        let id = keccak256([b"sweep", to.as_slice(), &value.base_units().to_be_bytes()].concat());
        let intent = Intent {
            id,
            to: to.into(),
            data: Bytes::new(),
            value: units(value),
        };
        hash(self.sender.send(intent).await).map(Some)
    }
}

/// The channel that a log tells of. The id is the hash of the rest, so a log
/// with another id was made up.
pub(crate) fn created(log: &Log, domain: &Domain) -> Result<(ChannelConfig, u64), LedgerError> {
    let nonsense = |problem: String| LedgerError::Nonsense { problem };
    let event = Settlement::ChannelCreated::decode_log(&log.inner)
        .map_err(|error| nonsense(format!("a log of a new channel cannot be read: {error}")))?;
    let config = untyped(&event.config);
    if config.id(domain).0 != event.channelId {
        return Err(nonsense(format!(
            "a log says that channel {} was created with a configuration of channel {}",
            event.channelId,
            config.id(domain)
        )));
    }
    let block = log
        .block_number
        .ok_or_else(|| nonsense("a log without a block".to_owned()))?;
    Ok((config, block))
}

/// Tokens that a call takes of the account.
struct Spending {
    token: Address,
    amount: Amount,
    spender: Option<Spender>,
    /// Tells the wish, if the call's bytes do not.
    intent: Option<B256>,
}

impl Spending {
    /// Without anybody being approved.
    fn outright(token: Address, amount: Amount) -> Self {
        Self {
            token,
            amount,
            spender: None,
            intent: None,
        }
    }
}

impl Inner {
    fn account(&self) -> Address {
        self.key.address()
    }

    async fn write(&self, call: Call, intent: Option<B256>) -> Result<Receipt, LedgerError> {
        tracing::debug!(target: CAST, account = %self.account(), "{}", call.cast());
        let intent = Intent {
            id: intent.unwrap_or_else(|| call.digest()),
            to: call.to.into(),
            data: call.data,
            value: U256::ZERO,
        };
        self.sender.send(intent).await
    }

    /// Writes a call that takes the account's tokens; approves it first if needed.
    async fn spend(&self, call: Call, spending: Spending) -> Result<Receipt, LedgerError> {
        let _turn = match spending.spender {
            Some(_) => Some(self.turn.acquire().await.expect("it is never closed")),
            None => None,
        };
        if let Some(spender) = spending.spender {
            self.approve(&call, &spending, spender).await?;
        }
        match self.write(call, spending.intent).await {
            Err(LedgerError::Refused { reason }) if about_balance(&reason) => {
                self.affords(&spending).await?;
                Err(LedgerError::Refused { reason })
            }
            other => other,
        }
    }

    /// Makes the allowance suffice, unless the call would be refused anyway.
    async fn approve(
        &self,
        call: &Call,
        spending: &Spending,
        spender: Spender,
    ) -> Result<(), LedgerError> {
        let allowance = Erc20::allowanceCall {
            owner: self.account(),
            spender: spender.address,
        };
        let allowed = self.rpc.view(spending.token, &allowance).await?;
        if allowed >= units(spending.amount) {
            return Ok(());
        }
        let message = Message {
            from: Some(self.account()),
            to: Some(call.to),
            data: &call.data,
            value: U256::ZERO,
        };
        let tried = self.rpc.call(message, At::Latest).await;
        match tried.map_err(LedgerError::from) {
            Err(LedgerError::Refused { reason }) if about_allowance(&reason) => {}
            Err(error) if !matches!(&error, LedgerError::Refused { reason } if about_balance(reason)) =>
            {
                return Err(error);
            }
            _ => {}
        }
        self.affords(spending).await?;
        let value = if spender.unlimited {
            U256::MAX
        } else {
            units(spending.amount)
        };
        let approval = Call::approve(spending.token, spender.address, value);
        self.write(approval, None).await.map(drop)
    }

    async fn affords(&self, spending: &Spending) -> Result<(), LedgerError> {
        let has = self.balance(spending.token, self.account()).await?;
        if has >= spending.amount {
            return Ok(());
        }
        Err(LedgerError::Insufficient {
            owner: self.account(),
            token: spending.token,
            has,
            needs: spending.amount,
        })
    }

    async fn balance(&self, token: Address, owner: Address) -> Result<Amount, LedgerError> {
        let call = Erc20::balanceOfCall { account: owner };
        amount(self.rpc.view(token, &call).await?)
    }

    /// MOR for the registry, which must be approved.
    fn for_registry(&self, amount: Amount) -> Spending {
        let spender = Spender {
            address: self.network.registry,
            unlimited: false,
        };
        Spending {
            token: self.network.mor,
            amount,
            spender: (!amount.is_zero()).then_some(spender),
            intent: None,
        }
    }

    async fn register_model(
        &self,
        base: B256,
        name: String,
        tags: Vec<String>,
        stake: Amount,
    ) -> Result<ModelId, LedgerError> {
        let owner = self.account();
        let id = ModelId::derive(owner, base);
        // The registry overwrites all fields: keep those that we don't know of.
        let before = self.directory.model(id).await?;
        let entry = ModelEntry {
            owner,
            base,
            ipfs_cid: before.ipfsCID,
            fee: before.fee,
            stake,
            name,
            tags,
        };
        let call = Call::register_model(&self.network, entry);
        self.spend(call, self.for_registry(stake)).await?;
        Ok(id)
    }

    async fn post_bid(
        &self,
        model: ModelId,
        price_per_second: Amount,
    ) -> Result<BidId, LedgerError> {
        let fee = self.directory.bid_fee().await?;
        let call = Call::post_bid(&self.network, self.account(), model, price_per_second);
        let receipt = self.spend(call, self.for_registry(fee)).await?;
        let posted = receipt
            .logs
            .iter()
            .filter(|log| log.address() == self.network.registry)
            .find_map(|log| Market::MarketplaceBidPosted::decode_log(&log.inner).ok())
            .and_then(|event| u64::try_from(event.nonce).ok())
            .ok_or_else(|| LedgerError::Nonsense {
                problem: "the bid was posted without an event of it".to_owned(),
            })?;
        Ok(BidId::derive(self.account(), model, posted))
    }

    async fn channel(&self, id: ChannelId) -> Result<ChannelState, LedgerError> {
        let settlement = self.network.settlement;
        let (channel, pending) = self
            .rpc
            .decided("a channel", move |endpoint, at| {
                let channel = Settlement::channelsCall { channelId: id.0 };
                let pending = Settlement::pendingWithdrawalsCall { channelId: id.0 };
                Box::pin(async move {
                    tokio::try_join!(
                        endpoint.view(settlement, &channel, at),
                        endpoint.view(settlement, &pending, at),
                    )
                })
            })
            .await?;
        let initiated_at: u64 = pending.initiatedAt.to();
        Ok(ChannelState {
            balance: Amount::new(channel.balance),
            total_claimed: Amount::new(channel.totalClaimed),
            withdrawal: (initiated_at != 0).then_some(Withdrawal {
                amount: Amount::new(pending.amount),
                initiated_at: Timestamp(initiated_at),
            }),
        })
    }

    async fn deposit(&self, config: ChannelConfig, amount: Amount) -> Result<Receipt, LedgerError> {
        if config.payer != self.account() {
            return Err(LedgerError::Refused {
                reason: format!(
                    "the channel's payer is {}, only that account can deposit (this is {})",
                    config.payer,
                    self.account()
                ),
            });
        }
        let by = self
            .network
            .deposit_by(config.token)
            .ok_or_else(|| LedgerError::Refused {
                reason: format!(
                    "network {:?} has no collector for token {}; configure one",
                    self.network.name, config.token
                ),
            })?;
        let now: u64 = self.rpc.decided_head().await?.timestamp.to();
        let channel = config.id(&self.network.domain());
        let agreement = Agreement {
            chain_id: self.network.chain_id,
            channel,
            token: config.token,
            amount,
            nonce: U256::from_be_bytes(rand::random::<[u8; 32]>()),
            deadline: now.saturating_add(DEPOSIT_GOOD_S),
        };
        let data = by.collector_data(&agreement, &self.key);
        failpoint::hit("deposit.authorised");
        let call = Call::deposit(&self.network, &config, amount, by.collector(), data);
        let spending = Spending {
            token: config.token,
            amount,
            spender: by.spender(),
            // Its nonce is new each time, the wish is the same.
            intent: Some(deposit_intent(channel, amount)),
        };
        self.spend(call, spending).await
    }
}

fn deposit_intent(channel: ChannelId, amount: Amount) -> B256 {
    let amount = amount.base_units().to_be_bytes();
    keccak256([b"deposit", channel.0.as_slice(), &amount].concat())
}

fn about_allowance(reason: &str) -> bool {
    // Permit2 does not say why the token refused it.
    ["llowance", "TRANSFER_FROM_FAILED"]
        .iter()
        .any(|word| reason.contains(word))
}

fn about_balance(reason: &str) -> bool {
    ["InsufficientBalance", "exceeds balance"]
        .iter()
        .any(|word| reason.contains(word))
}

fn hash(receipt: Result<Receipt, LedgerError>) -> Result<TxHash, LedgerError> {
    receipt.map(|receipt| receipt.transaction_hash)
}

/// Whether the chain is what the profile says.
async fn verify(rpc: &Rpc, network: &Network) -> Result<(), LedgerError> {
    let nonsense = |problem: String| Err(LedgerError::Nonsense { problem });
    match rpc.check_chains().await {
        Err(RpcError::WrongChain { got, expected, .. }) => {
            return nonsense(format!(
                "the node is on chain {got}, network {:?} is chain {expected}; check the RPC address",
                network.name
            ));
        }
        checked => checked?,
    }
    let contracts = [
        ("settlement", Some(network.settlement)),
        ("registry", Some(network.registry)),
        ("MOR token", Some(network.mor)),
        ("allowance collector", network.collectors.allowance),
        ("EIP-3009 collector", network.collectors.eip3009),
        ("Permit2 collector", network.collectors.permit2),
    ];
    for (name, address) in contracts {
        let Some(address) = address else { continue };
        if rpc.code(address).await?.is_empty() {
            return nonsense(format!(
                "there is no {name} contract at {address} on network {:?}",
                network.name
            ));
        }
    }
    let token = rpc.view(network.registry, &Market::getTokenCall {}).await?;
    if token != network.mor {
        return nonsense(format!(
            "the registry at {} is of token {token}, not of MOR ({})",
            network.registry, network.mor
        ));
    }
    Ok(())
}

impl Ledger for EvmLedger {
    fn account(&self) -> Address {
        self.0.account()
    }

    fn domain(&self) -> Domain {
        self.0.network.domain()
    }

    fn mor(&self) -> Address {
        self.0.network.mor
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, LedgerError>> {
        Box::pin(async move { Ok(Timestamp(self.0.rpc.decided_head().await?.timestamp.to())) })
    }

    fn balance(
        &self,
        token: Address,
        owner: Address,
    ) -> BoxFuture<'_, Result<Amount, LedgerError>> {
        Box::pin(self.0.balance(token, owner))
    }

    fn transfer(
        &self,
        token: Address,
        to: Address,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::transfer(token, to, amount);
        let spending = Spending::outright(token, amount);
        Box::pin(async move { hash(self.0.spend(call, spending).await) })
    }

    fn provide_gas(&self, to: Address) -> BoxFuture<'_, Result<(), LedgerError>> {
        Box::pin(self.provide_gas_to(to))
    }

    fn sweep_coins(&self, to: Address) -> BoxFuture<'_, Result<Option<TxHash>, LedgerError>> {
        Box::pin(self.0.sweep_coins(to))
    }

    fn gas_price(&self) -> BoxFuture<'_, Result<Amount, LedgerError>> {
        Box::pin(async move { Ok(Amount::new(fee_per_gas(&self.0.rpc).await?)) })
    }

    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, LedgerError>> {
        Box::pin(self.0.directory.providers())
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, LedgerError>> {
        Box::pin(self.0.directory.models())
    }

    fn bids(&self, provider: Address) -> BoxFuture<'_, Result<Vec<Bid>, LedgerError>> {
        Box::pin(self.0.directory.bids(provider))
    }

    fn register_provider(
        &self,
        stake: Amount,
        endpoint: String,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let this = &self.0;
        let call = Call::register_provider(&this.network, this.account(), stake, endpoint);
        Box::pin(async move { hash(this.spend(call, this.for_registry(stake)).await) })
    }

    fn register_model(
        &self,
        base: B256,
        name: String,
        tags: Vec<String>,
        stake: Amount,
    ) -> BoxFuture<'_, Result<ModelId, LedgerError>> {
        Box::pin(self.0.register_model(base, name, tags, stake))
    }

    fn stakes(&self) -> BoxFuture<'_, Result<Stakes, LedgerError>> {
        Box::pin(self.0.directory.stakes())
    }

    fn post_bid(
        &self,
        model: ModelId,
        price_per_second: Amount,
    ) -> BoxFuture<'_, Result<BidId, LedgerError>> {
        Box::pin(self.0.post_bid(model, price_per_second))
    }

    fn delete_bid(&self, bid: BidId) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::delete_bid(&self.0.network, bid);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn deregister_model(&self, model: ModelId) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::deregister_model(&self.0.network, model);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn deregister_provider(&self) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::deregister_provider(&self.0.network, self.0.account());
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn model_stake(&self, model: ModelId) -> BoxFuture<'_, Result<Amount, LedgerError>> {
        Box::pin(async move { amount(self.0.directory.model(model).await?.stake) })
    }

    fn channel(&self, id: ChannelId) -> BoxFuture<'_, Result<ChannelState, LedgerError>> {
        Box::pin(self.0.channel(id))
    }

    fn receiver(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<Receiver, LedgerError>> {
        Box::pin(async move {
            let settlement = self.0.network.settlement;
            let owed = self
                .0
                .rpc
                .decided("a receiver", move |endpoint, at| {
                    let call = Settlement::receiversCall { receiver, token };
                    Box::pin(async move { endpoint.view(settlement, &call, at).await })
                })
                .await?;
            Ok(Receiver {
                total_claimed: Amount::new(owed.totalClaimed),
                total_settled: Amount::new(owed.totalSettled),
            })
        })
    }

    fn deposit(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        Box::pin(async move { hash(self.0.deposit(config, amount).await) })
    }

    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        Box::pin(async move {
            if claims.len() > CLAIMS_MAX {
                return Err(LedgerError::Refused {
                    reason: format!(
                        "{} rows in one claim (at most {CLAIMS_MAX} fit; split them)",
                        claims.len()
                    ),
                });
            }
            let call = Call::claim(&self.0.network, &claims);
            hash(self.0.write(call, None).await)
        })
    }

    fn claim_signed(&self, claim: SignedClaim) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::claim_signed(&self.0.network, &claim);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn settle(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::settle(&self.0.network, receiver, token);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn initiate_withdraw(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::initiate_withdraw(&self.0.network, &config, amount);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn finalize_withdraw(
        &self,
        config: ChannelConfig,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::finalize_withdraw(&self.0.network, &config);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }

    fn refund(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        let call = Call::refund(&self.0.network, &config, amount);
        Box::pin(async move { hash(self.0.write(call, None).await) })
    }
}
