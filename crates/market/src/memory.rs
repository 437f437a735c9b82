//! The ledger in memory: the executable specification of the contracts, and
//! what the tests of both sides of the market run on.
//!
//! All accounts share one book; [`MemoryLedger::of`] gives the view of one of
//! them. Time stands still until [`MemoryLedger::advance`]. Gas, approvals and
//! blocks do not exist here. Money is moved by postings of [`Books`] only, and
//! after each transaction channels and receivers are compared with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy_primitives::{Address, B256, keccak256};

use crate::{
    Account, Amount, Bid, BidId, Books, BooksError, BoxFuture, ChannelConfig, ChannelId,
    ChannelState, Claim, Domain, Ledger, LedgerError, LedgerEvent, Model, ModelId, Posting,
    Provider, Receiver, SignedClaim, Stakes, Timestamp, TxHash, WITHDRAW_DELAY_MAX_S,
    WITHDRAW_DELAY_MIN_S, Withdrawal,
};

#[derive(Default, Clone)]
struct Book {
    now: Timestamp,
    transactions: u64,
    money: Books,
    events: Vec<LedgerEvent>,
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

    /// A book of its own, as this one is now.
    #[must_use]
    pub fn fork(&self) -> Self {
        let book = self.book().clone();
        Self {
            book: Arc::new(Mutex::new(book)),
            ..self.clone()
        }
    }

    /// Creates money.
    pub fn mint(&self, token: Address, owner: Address, amount: Amount) -> Result<(), LedgerError> {
        let to = Account::Wallet(owner);
        self.book().post(token, Account::Issue, to, amount)
    }

    /// What the settlement contract would have told since the beginning, from
    /// the event of this number on.
    pub fn events(&self, from: usize) -> Vec<LedgerEvent> {
        let book = self.book();
        book.events.get(from..).unwrap_or_default().to_vec()
    }

    /// All money of a token, account by account.
    pub fn accounts(&self, token: Address) -> Vec<(Account, Amount)> {
        let book = self.book();
        let all = book.money.accounts();
        let of = all.filter(|(held, ..)| *held == token);
        of.map(|(_, account, amount)| (account, amount)).collect()
    }

    /// All that was ever minted of a token.
    pub fn issued(&self, token: Address) -> Amount {
        self.book().money.issued(token)
    }

    /// Adds everything up anew: accounts against what was minted.
    pub fn audit(&self) -> Result<(), BooksError> {
        self.book().money.audit()
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
            book.money.audit().map_err(nonsense)?;
            Ok(book.next_hash())
        })
    }
}

type LedgerResult = Result<(), LedgerError>;

fn nonsense(problem: impl ToString) -> LedgerError {
    LedgerError::Nonsense {
        problem: problem.to_string(),
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

    fn post(
        &mut self,
        token: Address,
        from: Account,
        to: Account,
        amount: Amount,
    ) -> Result<(), LedgerError> {
        let posting = Posting {
            token,
            from,
            to,
            amount,
        };
        self.money.post(posting).map_err(|error| match error {
            BooksError::Short {
                account: Account::Wallet(owner),
                has,
                needs,
                ..
            } => LedgerError::Insufficient {
                owner,
                token,
                has,
                needs,
            },
            error => nonsense(error),
        })
    }

    /// What a channel holds and is not claimed. Channel and books must agree.
    fn unclaimed(&self, token: Address, id: ChannelId) -> Result<Amount, LedgerError> {
        let channel = self.channels.get(&id).copied().unwrap_or_default();
        let escrow = self.money.holds(token, Account::Escrow(id));
        if channel.total_claimed.plus(escrow) != Ok(channel.balance) {
            return Err(nonsense(format!(
                "channel {id} holds {}, {} of it claimed, the books have {escrow}",
                channel.balance, channel.total_claimed
            )));
        }
        Ok(escrow)
    }

    /// Gives the payer so much of a channel back.
    fn give_back(&mut self, config: &ChannelConfig, id: ChannelId, paid: Amount) -> LedgerResult {
        let to = Account::Wallet(config.payer);
        self.post(config.token, Account::Escrow(id), to, paid)?;
        let channel = self.channels.entry(id).or_default();
        channel.balance = channel.balance.minus(paid).map_err(nonsense)?;
        Ok(())
    }

    /// Tells of a channel that is empty now.
    fn closed(&mut self, config: &ChannelConfig, channel: ChannelId) {
        let state = self.channels.get(&channel).copied().unwrap_or_default();
        if state.balance.is_zero() {
            self.events.push(LedgerEvent::ChannelClosed {
                channel,
                config: *config,
            });
        }
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
        self.record_claim(caller, domain, claim)
    }

    fn record_claim(
        &mut self,
        caller: Address,
        domain: &Domain,
        claim: &Claim,
    ) -> Result<(), LedgerError> {
        let Claim {
            config,
            voucher,
            total,
        } = claim;
        let id = config.id(domain);
        let channel = self.channels.get(&id).copied().unwrap_or_default();
        if *total <= channel.total_claimed {
            return Ok(());
        }
        require(*total <= voucher.voucher.ceiling, "ClaimExceedsCeiling")?;
        require(*total <= channel.balance, "ClaimExceedsBalance")?;
        require(voucher.verify(config, domain).is_ok(), "InvalidSignature")?;
        let amount = total.less(channel.total_claimed);
        let earned = Account::Earned(config.receiver);
        self.post(config.token, Account::Escrow(id), earned, amount)?;
        let receiver = self
            .receivers
            .entry((config.receiver, config.token))
            .or_default();
        receiver.total_claimed = receiver.total_claimed.plus(amount).map_err(nonsense)?;
        self.channels.entry(id).or_default().total_claimed = *total;
        self.events.push(LedgerEvent::Claimed {
            channel: id,
            sender: caller,
            amount,
            new_total: *total,
        });
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
        let (from, to) = (Account::Stake(caller), Account::Wallet(caller));
        self.post(mor, from, to, stake.unwrap_or_default())
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
        let (from, to) = (Account::Stake(caller), Account::Wallet(caller));
        self.post(mor, from, to, stake)
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
        self.at_once(|_, book| Ok(book.money.holds(token, Account::Wallet(owner))))
    }

    fn transfer(
        &self,
        token: Address,
        to: Address,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let (from, to) = (Account::Wallet(this.account), Account::Wallet(to));
            book.post(token, from, to, amount)
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
            let (from, to) = (Account::Wallet(this.account), Account::Stake(this.account));
            book.post(this.mor, from, to, stake)?;
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
            let (from, to) = (Account::Wallet(this.account), Account::Stake(this.account));
            book.post(this.mor, from, to, stake)?;
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
            let (from, fee) = (Account::Wallet(provider), Self::STAKES.bid_fee);
            book.post(this.mor, from, Account::Fees, fee)?;
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
            let id = config.id(&this.domain);
            let before = book.channels.get(&id).copied().unwrap_or_default().balance;
            let after = before.plus(amount);
            let new_balance = after.or_else(|_| refused("DepositOverflow"))?;
            // The payer signs for it, whoever brings it.
            let agreed = this.account == config.payer;
            require(agreed, "AllowanceCollectorInvalidSignature")?;
            let from = Account::Wallet(config.payer);
            book.post(config.token, from, Account::Escrow(id), amount)?;
            book.channels.entry(id).or_default().balance = new_balance;
            book.unclaimed(config.token, id)?;
            if before.is_zero() {
                book.events.push(LedgerEvent::ChannelCreated {
                    channel: id,
                    config,
                });
            }
            book.events.push(LedgerEvent::Deposited {
                channel: id,
                sender: this.account,
                amount,
                new_balance,
            });
            Ok(())
        })
    }

    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            require(!claims.is_empty(), "EmptyBatch")?;
            // All or nothing, as a transaction is.
            let (channels, receivers) = (book.channels.clone(), book.receivers.clone());
            let (money, told) = (book.money.clone(), book.events.len());
            let outcome = claims
                .iter()
                .try_for_each(|claim| book.claim(this.account, &this.domain, claim));
            if outcome.is_err() {
                (book.channels, book.receivers) = (channels, receivers);
                book.money = money;
                book.events.truncate(told);
            }
            outcome
        })
    }

    fn claim_signed(&self, claim: SignedClaim) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            require(claim.is_authorized(&this.domain), "InvalidSignature")?;
            book.record_claim(this.account, &this.domain, &claim.claim)
        })
    }

    fn settle(
        &self,
        receiver: Address,
        token: Address,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let known = book.receivers.get(&(receiver, token)).copied();
            let state = known.unwrap_or_default();
            let amount = state.total_claimed.less(state.total_settled);
            if amount.is_zero() {
                return Ok(());
            }
            let (from, to) = (Account::Earned(receiver), Account::Wallet(receiver));
            book.post(token, from, to, amount)?;
            let state = book.receivers.entry((receiver, token)).or_default();
            state.total_settled = state.total_claimed;
            book.events.push(LedgerEvent::Settled {
                receiver,
                token,
                sender: this.account,
                amount,
            });
            Ok(())
        })
    }

    fn initiate_withdraw(
        &self,
        config: ChannelConfig,
        amount: Amount,
    ) -> BoxFuture<'_, Result<TxHash, LedgerError>> {
        self.transact(|this, book| {
            let may = this.account == config.payer || this.account == config.payer_authorizer;
            require(may, "InvalidChannel")?;
            require(!amount.is_zero(), "NothingToWithdraw")?;
            let initiated_at = book.now;
            let id = config.id(&this.domain);
            let free = book.unclaimed(config.token, id)?;
            let channel = book.channels.entry(id).or_default();
            require(channel.withdrawal.is_none(), "WithdrawalAlreadyPending")?;
            require(amount <= free, "WithdrawAmountExceedsAvailable")?;
            channel.withdrawal = Some(Withdrawal {
                amount,
                initiated_at,
            });
            book.events.push(LedgerEvent::WithdrawInitiated {
                channel: id,
                amount,
                finalize_after: initiated_at.after_s(config.withdraw_delay_s),
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
            let id = config.id(&this.domain);
            let channel = book.channels.entry(id).or_default();
            let Some(withdrawal) = channel.withdrawal else {
                return refused("WithdrawalNotPending");
            };
            let ready = now >= withdrawal.initiated_at.after_s(config.withdraw_delay_s);
            require(ready, "WithdrawDelayNotElapsed")?;
            channel.withdrawal = None;
            let amount = withdrawal.amount.min(book.unclaimed(config.token, id)?);
            book.give_back(&config, id, amount)?;
            book.events.push(LedgerEvent::WithdrawFinalized {
                channel: id,
                sender: this.account,
                amount,
            });
            book.closed(&config, id);
            Ok(())
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
            let id = config.id(&this.domain);
            let paid = amount.min(book.unclaimed(config.token, id)?);
            if paid.is_zero() {
                return Ok(());
            }
            book.give_back(&config, id, paid)?;
            let channel = book.channels.entry(id).or_default();
            // What was refunded need not be withdrawn any more.
            channel.withdrawal = channel
                .withdrawal
                .map(|pending| Withdrawal {
                    amount: pending.amount.less(paid),
                    ..pending
                })
                .filter(|pending| !pending.amount.is_zero());
            book.events.push(LedgerEvent::Refunded {
                channel: id,
                sender: this.account,
                amount: paid,
            });
            book.closed(&config, id);
            Ok(())
        })
    }
}
