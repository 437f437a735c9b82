//! The ledger in memory: the executable specification of the contracts, and
//! what the tests of both sides of the market run on.
//!
//! All accounts share one book; [`MemoryLedger::of`] gives the view of one of
//! them. Time stands still until [`MemoryLedger::advance`]. Gas, approvals and
//! blocks do not exist here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy_primitives::{Address, B256, keccak256};

use crate::{
    Amount, Bid, BidId, BoxFuture, ChannelConfig, ChannelId, ChannelState, Claim, Domain, Ledger,
    LedgerError, Model, ModelId, Provider, Receiver, SignedClaim, Stakes, Timestamp, TxHash,
    WITHDRAW_DELAY_MAX_S, WITHDRAW_DELAY_MIN_S, Withdrawal,
};

#[derive(Default)]
struct Book {
    now: Timestamp,
    transactions: u64,
    balances: BTreeMap<(Address, Address), Amount>,
    providers: BTreeMap<Address, Provider>,
    models: BTreeMap<ModelId, Model>,
    model_stakes: BTreeMap<ModelId, Amount>,
    /// Of every model that ever was.
    model_owners: BTreeMap<ModelId, Address>,
    /// Providers that left.
    left: BTreeSet<Address>,
    gas_price: Amount,
    bids: BTreeMap<(Address, ModelId), Bid>,
    bid_nonces: BTreeMap<(Address, ModelId), u64>,
    channels: BTreeMap<ChannelId, ChannelState>,
    receivers: BTreeMap<(Address, Address), Receiver>,
}

/// The ledger in memory, seen from one account.
#[derive(Clone)]
pub struct MemoryLedger {
    account: Address,
    domain: Domain,
    mor: Address,
    book: Arc<Mutex<Book>>,
}

impl MemoryLedger {
    /// What the market asks of its members here.
    pub const STAKES: Stakes = Stakes {
        provider_min: Amount::new(200),
        model_min: Amount::new(100),
        bid_fee: Amount::new(3),
        price_per_second_min: Amount::new(1),
        price_per_second_max: Amount::new(1_000_000),
    };

    /// An empty book, opened at `now`.
    pub fn new(domain: Domain, mor: Address, now: Timestamp) -> Self {
        let book = Book {
            now,
            ..Book::default()
        };
        Self {
            account: Address::ZERO,
            domain,
            mor,
            book: Arc::new(Mutex::new(book)),
        }
    }

    /// The same book, seen from `account`.
    #[must_use]
    pub fn of(&self, account: Address) -> Self {
        Self {
            account,
            ..self.clone()
        }
    }

    /// Creates money.
    pub fn mint(&self, token: Address, owner: Address, amount: Amount) -> Result<(), LedgerError> {
        self.book().credit(token, owner, amount)
    }

    /// Lets time pass.
    pub fn advance(&self, seconds: u64) {
        let mut book = self.book();
        book.now = book.now.after_s(seconds);
    }

    /// What a unit of gas is said to cost. Nobody pays it here.
    pub fn set_gas_price(&self, wei: Amount) {
        self.book().gas_price = wei;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does it at once; the future is only for the trait.
    fn at_once<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self, &mut Book) -> Result<T, LedgerError>,
    ) -> BoxFuture<'_, Result<T, LedgerError>> {
        let outcome = act(self, &mut self.book());
        Box::pin(core::future::ready(outcome))
    }

    fn transact(
        &self,
        act: impl FnOnce(&Self, &mut Book) -> Result<(), LedgerError>,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.at_once(|this, book| {
            act(this, book)?;
            Ok(book.next_hash())
        })
    }
}

fn refused<T>(reason: &str) -> Result<T, LedgerError> {
    Err(LedgerError::Refused {
        reason: reason.to_owned(),
    })
}

fn require(holds: bool, reason: &str) -> Result<(), LedgerError> {
    if holds { Ok(()) } else { refused(reason) }
}

impl Book {
    fn next_hash(&mut self) -> TxHash {
        self.transactions += 1;
        keccak256(self.transactions.to_be_bytes())
    }

    fn balance(&self, token: Address, owner: Address) -> Amount {
        self.balances
            .get(&(token, owner))
            .copied()
            .unwrap_or_default()
    }

    fn credit(
        &mut self,
        token: Address,
        owner: Address,
        amount: Amount,
    ) -> Result<(), LedgerError> {
        let sum = self.balance(token, owner).plus(amount);
        let sum = sum.map_err(|overflow| LedgerError::Nonsense {
            problem: overflow.to_string(),
        })?;
        self.balances.insert((token, owner), sum);
        Ok(())
    }

    fn debit(&mut self, token: Address, owner: Address, amount: Amount) -> Result<(), LedgerError> {
        let has = self.balance(token, owner);
        let left = has.minus(amount).map_err(|_| LedgerError::Insufficient {
            owner,
            token,
            has,
            needs: amount,
        })?;
        self.balances.insert((token, owner), left);
        Ok(())
    }

    fn claim(
        &mut self,
        caller: Address,
        domain: &Domain,
        claim: &Claim,
    ) -> Result<(), LedgerError> {
        let config = &claim.config;
        require(
            caller == config.receiver || caller == config.receiver_authorizer,
            "NotAuthorizedToClaim",
        )?;
        self.record_claim(domain, claim)
    }

    fn record_claim(&mut self, domain: &Domain, claim: &Claim) -> Result<(), LedgerError> {
        let Claim {
            config,
            voucher,
            total,
        } = claim;
        let channel = self.channels.entry(config.id(domain)).or_default();
        if *total <= channel.total_claimed {
            return Ok(());
        }
        require(*total <= voucher.voucher.ceiling, "ClaimExceedsCeiling")?;
        require(*total <= channel.balance, "ClaimExceedsBalance")?;
        require(voucher.verify(config, domain).is_ok(), "InvalidSignature")?;
        let receiver = self
            .receivers
            .entry((config.receiver, config.token))
            .or_default();
        let due = total.less(channel.total_claimed);
        receiver.total_claimed =
            receiver
                .total_claimed
                .plus(due)
                .map_err(|overflow| LedgerError::Nonsense {
                    problem: overflow.to_string(),
                })?;
        channel.total_claimed = *total;
        Ok(())
    }
}

/// The way off the market.
impl Book {
    fn delete_bid(&mut self, caller: Address, id: BidId) -> Result<(), LedgerError> {
        let found = self.bids.values().find(|bid| bid.id == id);
        let Some(bid) = found.cloned() else {
            return refused("MarketplaceActiveBidNotFound");
        };
        require(bid.provider == caller, "InsufficientRightsForOperation")?;
        self.bids.remove(&(bid.provider, bid.model));
        Ok(())
    }

    fn deregister_model(
        &mut self,
        caller: Address,
        mor: Address,
        id: ModelId,
    ) -> Result<(), LedgerError> {
        let stake = self.model_stakes.get(&id).copied();
        let owner = self.model_owners.get(&id).copied();
        require(owner == Some(caller), "InsufficientRightsForOperation")?;
        let bid_for = self.bids.values().any(|bid| bid.model == id);
        require(!bid_for, "ModelHasActiveBids")?;
        let known = self.models.remove(&id).is_some();
        require(known, "ModelHasAlreadyDeregistered")?;
        self.model_stakes.remove(&id);
        self.credit(mor, caller, stake.unwrap_or_default())
    }

    fn deregister_provider(&mut self, caller: Address, mor: Address) -> Result<(), LedgerError> {
        let bids = self.bids.values().any(|bid| bid.provider == caller);
        let Some(provider) = self.providers.get(&caller) else {
            let was_one = self.left.contains(&caller);
            return refused(match was_one {
                true => "ProviderHasAlreadyDeregistered",
                false => "ProviderNotFound",
            });
        };
        require(!bids, "ProviderHasActiveBids")?;
        let stake = provider.stake;
        self.providers.remove(&caller);
        self.left.insert(caller);
        self.credit(mor, caller, stake)
    }
}

fn valid(config: &ChannelConfig) -> Result<(), LedgerError> {
    let zero = [
        config.payer,
        config.receiver,
        config.receiver_authorizer,
        config.token,
    ]
    .contains(&Address::ZERO);
    require(!zero, "InvalidChannel")?;
    let in_range = (WITHDRAW_DELAY_MIN_S..=WITHDRAW_DELAY_MAX_S).contains(&config.withdraw_delay_s);
    require(in_range, "WithdrawDelayOutOfRange")
}

impl Ledger for MemoryLedger {
    fn account(&self) -> Address {
        self.account
    }

    fn domain(&self) -> Domain {
        self.domain
    }

    fn mor(&self) -> Address {
        self.mor
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, LedgerError>> {
        self.at_once(|_, book| Ok(book.now))
    }

    fn balance(
        &self,
        token: Address,
        owner: Address,
    ) -> BoxFuture<'_, Result<Amount, LedgerError>> {
        self.at_once(|_, book| Ok(book.balance(token, owner)))
    }

    fn transfer(
        &self,
        token: Address,
        to: Address,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            book.debit(token, this.account, amount)?;
            book.credit(token, to, amount)
        })
    }

    fn provide_gas(&self, _to: Address) -> BoxFuture<'_, Result<(), LedgerError>> {
        self.at_once(|_, _| Ok(()))
    }

    fn sweep_coins(&self, _to: Address) -> BoxFuture<'_, Result<Option<TxHash>, LedgerError>> {
        self.at_once(|_, _| Ok(None))
    }

    fn gas_price(&self) -> BoxFuture<'_, Result<Amount, LedgerError>> {
        self.at_once(|_, book| Ok(book.gas_price))
    }

    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, LedgerError>> {
        self.at_once(|_, book| Ok(book.providers.values().cloned().collect()))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, LedgerError>> {
        self.at_once(|_, book| Ok(book.models.values().cloned().collect()))
    }

    fn bids(&self, provider: Address) -> BoxFuture<'_, Result<Vec<Bid>, LedgerError>> {
        self.at_once(|_, book| {
            Ok(book
                .bids
                .values()
                .filter(|bid| bid.provider == provider)
                .cloned()
                .collect())
        })
    }

    fn register_provider(
        &self,
        stake: Amount,
        endpoint: String,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let before = book
                .providers
                .get(&this.account)
                .map_or(Amount::ZERO, |provider| provider.stake);
            let staked = before.plus(stake).or_else(|_| refused("Panic"))?;
            require(staked >= Self::STAKES.provider_min, "ProviderStakeTooLow")?;
            book.debit(this.mor, this.account, stake)?;
            book.providers.insert(
                this.account,
                Provider {
                    address: this.account,
                    endpoint,
                    stake: staked,
                },
            );
            Ok(())
        })
    }

    fn register_model(
        &self,
        base: B256,
        name: String,
        tags: Vec<String>,
        stake: Amount,
    ) -> BoxFuture<'_, Result<ModelId, LedgerError>> {
        self.at_once(|this, book| {
            let id = ModelId::derive(this.account, base);
            let before = book.model_stakes.get(&id).copied().unwrap_or_default();
            let staked = before.plus(stake).or_else(|_| refused("Panic"))?;
            require(staked >= Self::STAKES.model_min, "ModelStakeTooLow")?;
            book.debit(this.mor, this.account, stake)?;
            book.model_stakes.insert(id, staked);
            book.model_owners.insert(id, this.account);
            book.models.insert(
                id,
                Model {
                    id,
                    owner: this.account,
                    name,
                    tags,
                },
            );
            Ok(id)
        })
    }

    fn stakes(&self) -> BoxFuture<'_, Result<Stakes, LedgerError>> {
        self.at_once(|_, _| Ok(Self::STAKES))
    }

    fn post_bid(
        &self,
        model: ModelId,
        price_per_second: Amount,
    ) -> BoxFuture<'_, Result<BidId, LedgerError>> {
        self.at_once(|this, book| {
            let provider = this.account;
            require(
                book.providers.contains_key(&provider),
                "MarketplaceProviderNotFound",
            )?;
            require(book.models.contains_key(&model), "MarketplaceModelNotFound")?;
            let allowed = Self::STAKES.price_per_second_min..=Self::STAKES.price_per_second_max;
            require(
                allowed.contains(&price_per_second),
                "MarketplaceBidPricePerSecondInvalid",
            )?;
            book.debit(this.mor, provider, Self::STAKES.bid_fee)?;
            let nonce = book.bid_nonces.entry((provider, model)).or_default();
            let id = BidId::derive(provider, model, *nonce);
            *nonce += 1;
            book.bids.insert(
                (provider, model),
                Bid {
                    id,
                    provider,
                    model,
                    price_per_second,
                },
            );
            Ok(id)
        })
    }

    fn delete_bid(&self, bid: BidId) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| book.delete_bid(this.account, bid))
    }

    fn deregister_model(&self, model: ModelId) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| book.deregister_model(this.account, this.mor, model))
    }

    fn deregister_provider(&self) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| book.deregister_provider(this.account, this.mor))
    }

    fn model_stake(&self, model: ModelId) -> BoxFuture<'_, Result<Amount, LedgerError>> {
        self.at_once(|_, book| Ok(book.model_stakes.get(&model).copied().unwrap_or_default()))
    }

    fn channel(&self, id: ChannelId) -> BoxFuture<'_, Result<ChannelState, LedgerError>> {
        self.at_once(|_, book| Ok(book.channels.get(&id).copied().unwrap_or_default()))
    }

    fn receiver(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<Receiver, LedgerError>> {
        self.at_once(|_, book| {
            Ok(book
                .receivers
                .get(&(receiver, token))
                .copied()
                .unwrap_or_default())
        })
    }

    fn deposit(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            valid(&config)?;
            require(!amount.is_zero(), "ZeroDeposit")?;
            book.debit(config.token, config.payer, amount)?;
            let channel = book.channels.entry(config.id(&this.domain)).or_default();
            channel.balance = channel
                .balance
                .plus(amount)
                .or_else(|_| refused("DepositOverflow"))?;
            Ok(())
        })
    }

    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            require(!claims.is_empty(), "EmptyBatch")?;
            // All or nothing, as a transaction is.
            let (channels, receivers) = (book.channels.clone(), book.receivers.clone());
            let outcome = claims
                .iter()
                .try_for_each(|claim| book.claim(this.account, &this.domain, claim));
            if outcome.is_err() {
                (book.channels, book.receivers) = (channels, receivers);
            }
            outcome
        })
    }

    fn claim_signed(&self, claim: SignedClaim) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            require(claim.is_authorized(&this.domain), "InvalidSignature")?;
            book.record_claim(&this.domain, &claim.claim)
        })
    }

    fn settle(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|_, book| {
            let state = book.receivers.entry((receiver, token)).or_default();
            let due = state.total_claimed.less(state.total_settled);
            state.total_settled = state.total_claimed;
            book.credit(token, receiver, due)
        })
    }

    fn initiate_withdraw(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let may = this.account == config.payer || this.account == config.payer_authorizer;
            require(may, "NotAuthorizedToFinalizeWithdraw")?;
            let initiated_at = book.now;
            let channel = book.channels.entry(config.id(&this.domain)).or_default();
            require(channel.withdrawal.is_none(), "WithdrawalAlreadyPending")?;
            require(!amount.is_zero(), "NothingToWithdraw")?;
            let free = channel.balance.less(channel.total_claimed);
            require(amount <= free, "WithdrawAmountExceedsAvailable")?;
            channel.withdrawal = Some(Withdrawal {
                amount,
                initiated_at,
            });
            Ok(())
        })
    }

    fn finalize_withdraw(
        &self,
        config: ChannelConfig,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let may = this.account == config.payer || this.account == config.payer_authorizer;
            require(may, "NotAuthorizedToFinalizeWithdraw")?;
            let now = book.now;
            let channel = book.channels.entry(config.id(&this.domain)).or_default();
            let Some(withdrawal) = channel.withdrawal else {
                return refused("WithdrawalNotPending");
            };
            let ready = now >= withdrawal.initiated_at.after_s(config.withdraw_delay_s);
            require(ready, "WithdrawDelayNotElapsed")?;
            let paid = withdrawal
                .amount
                .min(channel.balance.less(channel.total_claimed));
            channel.withdrawal = None;
            channel.balance = channel.balance.less(paid);
            book.credit(config.token, config.payer, paid)
        })
    }

    fn refund(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let may = this.account == config.receiver || this.account == config.receiver_authorizer;
            require(may, "NotAuthorizedToRefund")?;
            require(!amount.is_zero(), "ZeroRefund")?;
            let channel = book.channels.entry(config.id(&this.domain)).or_default();
            let paid = amount.min(channel.balance.less(channel.total_claimed));
            channel.balance = channel.balance.less(paid);
            // What was refunded need not be withdrawn any more.
            channel.withdrawal = channel
                .withdrawal
                .map(|pending| Withdrawal {
                    amount: pending.amount.less(paid),
                    ..pending
                })
                .filter(|pending| !pending.amount.is_zero());
            book.credit(config.token, config.payer, paid)
        })
    }
}
