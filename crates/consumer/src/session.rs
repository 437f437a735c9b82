//! Channels to providers: found or opened, and funded by policy.
//!
//! A channel's configuration is in the journal before money goes into it, so
//! no deposit is ever forgotten. How much is in it is read from the chain.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use market::{
    Address, Amount, B256, ChannelConfig, ChannelState, ChannelTerms, Domain, Escrowed,
    FundingStep, LedgerError, OverLimit, Payer, PurseError, PurseEvent, Spending, Timestamp, U256,
    read_json,
};
use serde::{Deserialize, Serialize};
use store::{AppendError, Loaded, Store};
use tracing::warn;

use crate::StartError;
use crate::budgets::Budgets;
use crate::payer::{KeysError, PayerNumber, Payers};
use crate::payment::{Channel, PaymentError, entry};
use crate::policy::Policy;
use crate::view::{ChannelView, PseudonymView};

/// The journal that lists the channels.
pub(crate) const CHANNELS: &str = "consumer/channels";

/// The journals of channels are named after them.
pub(crate) const PURSES: &str = "consumer/purse/";

/// Pages of journals replayed at a time.
const REPLAYS: usize = 4;

/// Channels to one provider that are out of use; with so many of them no new
/// one is opened: a provider that makes them so gets no more of our money to hold.
const UNUSED_MAX: usize = 2;

/// Why a channel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The chain did not do, or say, what was needed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The channel's configuration could not be made durable; nothing was sent.
    #[error("the journal cannot be written")]
    Journal(#[from] AppendError),
    /// The keys of the account that would pay cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A voucher could not be made.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The account that pays has too little. Amounts as people read them.
    #[error("account {owner} has {has}, {needed} is needed: send {lacking} to it")]
    Insufficient {
        /// The account.
        owner: Address,
        /// What it has.
        has: String,
        /// What it would have to have.
        needed: String,
        /// The difference.
        lacking: String,
    },
    /// The policy allows no more money in one channel. Amounts as people read them.
    #[error("the channel would have to hold {needed}, this node allows {allowed} (--channel-max)")]
    OverLimit {
        /// What it would have to hold.
        needed: String,
        /// What is allowed.
        allowed: String,
    },
    /// Too many channels to the provider are out of use.
    #[error(
        "{channels} channels to this provider are out of use: restored, and not proved by its claims yet, \
         or refused by it; use another provider, or withdraw from them"
    )]
    Unused {
        /// How many.
        channels: usize,
    },
}

impl SessionError {
    /// What the chain says of a payment, in words of the tokens that the policy knows.
    pub(crate) fn of_ledger(error: LedgerError, policy: &Policy) -> Self {
        match error {
            LedgerError::Insufficient {
                owner,
                token,
                has,
                needs,
            } => {
                let shown = |amount| policy.shown(token, amount);
                Self::Insufficient {
                    owner,
                    has: shown(has),
                    needed: shown(needs),
                    lacking: shown(needs.less(has)),
                }
            }
            other => Self::Ledger(other),
        }
    }

    pub(crate) fn of_limit(over: OverLimit, token: Address, policy: &Policy) -> Self {
        Self::OverLimit {
            needed: policy.shown(token, over.needed),
            allowed: policy.shown(token, over.allowed),
        }
    }

    /// Whether what has to be written down could not be.
    pub(crate) fn is_unwritten(&self) -> bool {
        matches!(
            self,
            Self::Journal(_)
                | Self::Payment(PaymentError::Journal(_))
                | Self::Keys(KeysError::NoRoom { .. })
                | Self::Payment(PaymentError::Keys(KeysError::NoRoom { .. }))
        )
    }

    /// Whether what this node has, allows or can write is why: nothing was
    /// learned of the provider. That the contract refuses may lie in its terms.
    pub(crate) fn is_this_nodes(&self) -> bool {
        match self {
            Self::Ledger(LedgerError::Refused { .. }) | Self::Unused { .. } => false,
            Self::Ledger(_)
            | Self::Journal(_)
            | Self::Keys(_)
            | Self::Insufficient { .. }
            | Self::OverLimit { .. } => true,
            Self::Payment(PaymentError::Purse(error)) => {
                matches!(error, PurseError::Escrow { .. })
            }
            Self::Payment(_) => true,
        }
    }
}

/// Why money could not be moved out of a channel.
#[derive(Debug, thiserror::Error)]
pub enum MoneyError {
    /// There is no such channel here.
    #[error("no channel {channel} is known here")]
    UnknownChannel {
        /// What was asked for.
        channel: market::ChannelId,
    },
    /// The chain did not do what was needed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why a channel was not kept as the policy wants it. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    PayIn(#[from] SessionError),
    #[error(transparent)]
    Withdraw(#[from] MoneyError),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) config: ChannelConfig,
    /// Which account pays.
    #[serde(default)]
    pub(crate) payer: PayerNumber,
}

/// All channels of this consumer.
pub(crate) struct Sessions {
    payers: Arc<Payers>,
    store: Store,
    policy: Policy,
    budgets: Arc<Budgets>,
    channels: Mutex<Vec<Arc<Channel>>>,
    /// When the journal last heard of an answer on a channel, at the start.
    last_used: BTreeMap<market::ChannelId, Timestamp>,
    /// One channel is opened at a time, so that none is opened twice.
    opening: tokio::sync::Mutex<()>,
}

impl Sessions {
    /// What the journal knows.
    pub(crate) async fn load(
        payers: Payers,
        (store, policy, budgets): (Store, Policy, Arc<Budgets>),
    ) -> Result<Self, StartError> {
        let mut sessions = Self {
            payers: Arc::new(payers),
            store,
            policy,
            budgets,
            channels: Mutex::default(),
            last_used: BTreeMap::new(),
            opening: tokio::sync::Mutex::default(),
        };
        failpoint::hit("consumer.replay.begun");
        let domain = sessions.payers.wallet.domain();
        let opened = opened(&sessions.store, domain);
        let (mut purses, opened) = tokio::try_join!(purses(&sessions.store), opened)?;
        for (id, opened) in opened {
            // None: nothing was ever asked over it.
            let replayed = purses.remove(&id);
            if let Some(used_at) = replayed.as_ref().and_then(|replayed| replayed.used_at) {
                sessions.last_used.insert(id, used_at);
            }
            let spending = replayed.map_or_else(|| Spending::new(id), |replayed| replayed.spending);
            let channel = sessions.channel(&opened, spending);
            sessions.channels().push(channel);
            failpoint::hit("consumer.replay.channel");
        }
        sessions.are_ours()?;
        failpoint::hit("consumer.replay.ended");
        Ok(sessions)
    }

    /// Whether the keys here are those of the journal. A pseudonym's are derived
    /// when it first signs, which for a hundred thousand takes long; the newest
    /// channels tell whether they come from the same words.
    fn are_ours(&self) -> Result<(), KeysError> {
        let channels = self.channels();
        let newest = channels.iter().max_by_key(|channel| channel.payer);
        let is_wallets = |channel: &&Arc<Channel>| channel.payer == PayerNumber::WALLET;
        let by_wallet = channels.iter().rev().find(is_wallets);
        for channel in newest.into_iter().chain(by_wallet) {
            channel.hot_key()?;
        }
        Ok(())
    }

    fn channel(&self, opened: &Opened, spending: Spending) -> Arc<Channel> {
        let journal = self.store.journal(&journal_name(&spending.channel()));
        Arc::new(Channel::new(
            opened.config,
            opened.payer,
            Arc::clone(&self.payers),
            (journal, Arc::clone(&self.budgets)),
            spending,
        ))
    }

    fn channels(&self) -> MutexGuard<'_, Vec<Arc<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, terms: &ChannelTerms) -> Option<Arc<Channel>> {
        let suits = |channel: &&Arc<Channel>| {
            channel.config.suits(terms).is_ok()
                && channel.payer.label() == self.policy.payer
                && !channel.is_out_of_use()
        };
        self.channels().iter().find(suits).cloned()
    }

    /// The channels to one provider for which nothing may be signed.
    pub(crate) fn restored(&self, terms: &ChannelTerms) -> Vec<Arc<Channel>> {
        let mut channels = self.of(terms.receiver, terms.receiver_authorizer);
        channels.retain(|channel| channel.purse(|purse| purse.is_restored()));
        channels
    }

    /// Who pays this provider: the wallet, or the account that only it knows.
    fn payer_for(&self, receiver: Address) -> PayerNumber {
        if self.policy.payer == Payer::Wallet {
            return PayerNumber::WALLET;
        }
        let channels = self.channels();
        let known = channels.iter().find(|channel| {
            channel.config.receiver == receiver && channel.payer != PayerNumber::WALLET
        });
        let highest = channels.iter().map(|channel| channel.payer).max();
        known.map_or_else(
            || PayerNumber(highest.unwrap_or_default().0 + 1),
            |channel| channel.payer,
        )
    }

    /// The channel to a provider with these terms, its escrow known; opened if
    /// there is none that may be signed for.
    pub(crate) async fn acquire(&self, terms: &ChannelTerms) -> Result<Arc<Channel>, SessionError> {
        loop {
            let channel = match self.find(terms) {
                Some(channel) => channel,
                None => self.open(terms).await?,
            };
            let mut upkeep = channel.upkeep.lock().await;
            if !upkeep.funded {
                self.read_escrow(&channel).await?;
                upkeep.funded = true;
                // If somebody paid into it that is not in the journal, the provider knows.
                if channel.purse(|purse| !purse.escrow().is_zero()) {
                    channel.missing.some();
                }
            }
            drop(upkeep);
            // What the chain says may have put it out of use; each turn then has one less.
            if channel.is_out_of_use() {
                continue;
            }
            // After a withdrawal, what was signed before may be more than what is there.
            let (ceiling, escrow) = channel.purse(|purse| (purse.ceiling(), purse.escrow()));
            if escrow < ceiling {
                self.top_up(&channel, ceiling).await?;
            }
            return Ok(channel);
        }
    }

    /// Whether there is a channel with money for these terms. Whoever asks
    /// relies on it, so it does not count as idle.
    pub(crate) fn stands_by(&self, terms: &ChannelTerms) -> bool {
        let channel = self.find(terms);
        let funded =
            channel.filter(|channel| channel.purse(|purse| purse.escrow() > purse.ceiling()));
        if let Some(channel) = &funded {
            channel.relied_on.store(true, Ordering::Relaxed);
        }
        funded.is_some()
    }

    /// Opens a channel with these terms, if there is none, and pays the
    /// policy's deposit into it, if nothing is left in it.
    pub(crate) async fn make_ready(&self, terms: &ChannelTerms) -> Result<(), SessionError> {
        let channel = self.acquire(terms).await?;
        let (ceiling, escrow) = channel.purse(|purse| (purse.ceiling(), purse.escrow()));
        if let (true, Ok(needed)) = (escrow <= ceiling, ceiling.plus(Amount::new(1))) {
            self.top_up(&channel, needed).await?;
        }
        channel.relied_on.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn open(&self, terms: &ChannelTerms) -> Result<Arc<Channel>, SessionError> {
        let _one_at_a_time = self.opening.lock().await;
        if let Some(channel) = self.find(terms) {
            return Ok(channel);
        }
        let unused = self
            .of(terms.receiver, terms.receiver_authorizer)
            .into_iter();
        let channels = unused.filter(|channel| channel.is_out_of_use()).count();
        if channels >= UNUSED_MAX {
            return Err(SessionError::Unused { channels });
        }
        let payer = self.payer_for(terms.receiver);
        let keys = self.payers.keys(payer)?;
        failpoint::hit("consumer.channel.keyed");
        let config = ChannelConfig {
            payer: keys.account,
            payer_authorizer: keys.hot_key.address(),
            receiver: terms.receiver,
            receiver_authorizer: terms.receiver_authorizer,
            token: terms.token,
            withdraw_delay_s: self.policy.withdraw_delay_s.max(terms.withdraw_delay_min_s),
            salt: self.next_salt(payer),
        };
        let opened = Opened { config, payer };
        let payload = serde_json::to_vec(&opened).expect("a config has only string keys");
        let id = config.id(&self.payers.wallet.domain());
        let key = Some(id.to_string());
        self.store
            .journal(CHANNELS)
            .append(vec![entry("opened", key, payload)])
            .await?;
        failpoint::hit("consumer.channel.journalled");
        let channel = self.channel(&opened, Spending::new(id));
        self.channels().push(Arc::clone(&channel));
        Ok(channel)
    }

    /// Salts count up, so that all channels of an account can be found again.
    fn next_salt(&self, payer: PayerNumber) -> B256 {
        let channels = self.channels();
        let before = channels.iter().filter(|channel| channel.payer == payer);
        let highest = before
            .map(|channel| U256::from_be_bytes(channel.config.salt.0))
            .max();
        let next = highest.map_or(U256::ZERO, |highest| highest.wrapping_add(U256::ONE));
        B256::from(next)
    }

    /// Pays into a channel what it lacks, or the policy's deposit if that is more.
    pub(crate) async fn top_up(
        &self,
        channel: &Channel,
        needed: Amount,
    ) -> Result<(), SessionError> {
        let _one_at_a_time = channel.upkeep.lock().await;
        self.read_escrow(channel).await?;
        let (escrow, charged) = channel.purse(|purse| (purse.escrow(), purse.charged()));
        let token = channel.config.token;
        let deposit = self.policy.funding_of(token);
        let deposit = deposit.deposit_for(needed, escrow, charged);
        let deposit = deposit.map_err(|over| SessionError::of_limit(over, token, &self.policy));
        let Some(amount) = deposit? else {
            return Ok(());
        };
        self.pay_in(channel, amount).await
    }

    async fn pay_in(&self, channel: &Channel, amount: Amount) -> Result<(), SessionError> {
        let (payer, token) = (channel.payer, channel.config.token);
        failpoint::hit("consumer.deposit.wished");
        let worded = |error| SessionError::of_ledger(error, &self.policy);
        let ledger = self.payers.ledger_with(payer, token, amount).await;
        let ledger = ledger.map_err(worded)?;
        failpoint::hit("consumer.deposit.funded");
        let deposited = ledger.deposit(channel.config, amount).await;
        deposited.map_err(worded)?;
        failpoint::hit("consumer.deposit.included");
        self.read_escrow(channel).await
    }

    pub(crate) async fn read_escrow(&self, channel: &Channel) -> Result<(), SessionError> {
        self.look_at(channel).await?;
        Ok(())
    }

    /// Takes over what the chain says. If more was claimed than this journal
    /// ever signed for, the journal is an old copy.
    async fn look_at(&self, channel: &Channel) -> Result<ChannelState, SessionError> {
        let state = self.payers.wallet.channel(channel.id).await?;
        let claimed = state.total_claimed;
        let is_old = channel.spending(|spending| {
            spending.funded(state.covered());
            spending.claimed_to(claimed);
            let purse = spending.purse();
            claimed > purse.ceiling() && !purse.is_restored()
        });
        if is_old {
            warn!(channel = %channel.id, %claimed, "more was claimed than this journal signed for: it is an old copy, and signs nothing on this channel until it has all receipts");
            channel.restore().await?;
        }
        failpoint::hit("consumer.escrow.read");
        Ok(state)
    }

    /// When the last answer before the start ended on this channel.
    pub(crate) fn last_used(&self, id: &market::ChannelId) -> Option<Timestamp> {
        self.last_used.get(id).copied()
    }

    /// All channels.
    pub(crate) fn all(&self) -> Vec<Arc<Channel>> {
        self.channels().clone()
    }

    /// Does what the policy has due for a channel that is `in_use`, or was not
    /// used for `idle_s`; the chain's word and the time are read anew for it.
    pub(crate) async fn keep(
        &self,
        channel: &Arc<Channel>,
        in_use: bool,
        idle_s: u64,
        wall: Timestamp,
    ) -> Result<FundingStep, KeepError> {
        let upkeep = channel.upkeep.lock().await;
        let state = self.look_at(channel).await?;
        let now = match state.withdrawal {
            // Where no blocks are made, the chain's time stands still.
            Some(_) => self.payers.wallet.now().await?.max(wall),
            None => Timestamp::default(),
        };
        // A channel that is not used is not topped up, whatever receipts come in.
        let in_use = in_use && !channel.is_out_of_use();
        let escrowed = channel.purse(|purse| Escrowed {
            state,
            withdraw_delay_s: channel.config.withdraw_delay_s,
            ceiling: purse.ceiling(),
            charged: purse.billed(),
            in_use,
            idle: Duration::from_secs(idle_s),
        });
        let funding = self.policy.funding_of(channel.config.token);
        let step = funding.upkeep(&escrowed, now);
        match step {
            FundingStep::Rest(_) => {}
            FundingStep::TopUp(amount) => self.pay_in(channel, amount).await?,
            FundingStep::Withdraw(amount) => {
                drop(upkeep);
                self.begin_withdraw(channel, amount).await?;
            }
            FundingStep::Finalise => {
                drop(upkeep);
                self.finish_withdraw(channel.id).await?;
            }
        }
        Ok(step)
    }

    /// Every channel with its money, on chain and in the purse.
    pub(crate) async fn view(&self) -> Result<Vec<ChannelView>, LedgerError> {
        let channels = self.channels().clone();
        let mut views = Vec::with_capacity(channels.len());
        for channel in channels {
            let state = self.payers.wallet.channel(channel.id).await?;
            views.push(channel.purse(|purse| ChannelView {
                id: channel.id,
                config: channel.config,
                escrow: state.balance,
                claimed: state.total_claimed,
                ceiling: purse.ceiling(),
                charged: purse.charged(),
                receipts: purse.sequence(),
                withdrawal: state.withdrawal,
            }));
        }
        Ok(views)
    }

    /// The accounts beside the wallet.
    pub(crate) fn pseudonyms(&self) -> Vec<PseudonymView> {
        let channels = self.channels();
        let pseudonymous = channels.iter().filter(|c| c.payer != PayerNumber::WALLET);
        let by_account = pseudonymous.map(|c| (c.config.payer, (c.config.receiver, c.payer.0)));
        let accounts: BTreeMap<_, _> = by_account.collect();
        let view = |(account, (provider, number))| PseudonymView {
            account,
            provider,
            number,
        };
        accounts.into_iter().map(view).collect()
    }

    /// The channels to one provider that this account claims on: those of one node of it.
    pub(crate) fn of(&self, provider: Address, account: Address) -> Vec<Arc<Channel>> {
        let to = |channel: &&Arc<Channel>| {
            let config = &channel.config;
            config.receiver == provider && config.receiver_authorizer == account
        };
        self.channels().iter().filter(to).cloned().collect()
    }

    /// Starts the way out of a channel: all that is not billed.
    pub(crate) async fn withdraw(&self, id: market::ChannelId) -> Result<Amount, MoneyError> {
        let channel = self.known(id)?;
        let state = self.payers.wallet.channel(id).await?;
        let billed = channel.purse(|purse| purse.billed());
        let free = state.balance.less(billed.max(state.total_claimed));
        self.begin_withdraw(&channel, free).await?;
        Ok(free)
    }

    async fn begin_withdraw(&self, channel: &Channel, amount: Amount) -> Result<(), MoneyError> {
        let (payer, token) = (channel.payer, channel.config.token);
        let ledger = self.payers.ledger_with(payer, token, Amount::ZERO).await?;
        failpoint::hit("consumer.withdraw.wished");
        ledger.initiate_withdraw(channel.config, amount).await?;
        failpoint::hit("consumer.withdraw.begun");
        channel.upkeep.lock().await.funded = false;
        Ok(())
    }

    /// Ends it, after the delay; the money comes back into the wallet.
    pub(crate) async fn finish_withdraw(&self, id: market::ChannelId) -> Result<(), MoneyError> {
        let channel = self.known(id)?;
        let (payer, token) = (channel.payer, channel.config.token);
        let ledger = self.payers.ledger(payer).await?;
        failpoint::hit("consumer.finish.wished");
        ledger.finalize_withdraw(channel.config).await?;
        failpoint::hit("consumer.finish.included");
        channel.upkeep.lock().await.funded = false;
        self.payers.bring_home(payer, token).await?;
        Ok(())
    }

    fn known(&self, id: market::ChannelId) -> Result<Arc<Channel>, MoneyError> {
        let found = self
            .channels()
            .iter()
            .find(|channel| channel.id == id)
            .cloned();
        found.ok_or(MoneyError::UnknownChannel { channel: id })
    }
}

fn receipted_at(event: &PurseEvent) -> Option<Timestamp> {
    match event {
        PurseEvent::Receipted { receipt, .. } => Some(receipt.receipt.issued_at),
        _ => None,
    }
}

pub(crate) fn journal_name(id: &market::ChannelId) -> String {
    format!("{PURSES}{id}")
}

/// What a channel's journal says.
struct Replayed {
    spending: Spending,
    /// When the last answer ended.
    used_at: Option<Timestamp>,
}

impl Replayed {
    /// None: it is not the journal of a channel.
    fn of(loaded: Loaded<'_>) -> Result<Option<(market::ChannelId, Self)>, StartError> {
        let Some(Ok(id)) = loaded.name.strip_prefix(PURSES).map(str::parse) else {
            return Ok(None);
        };
        let odd = |source| StartError::Entry {
            journal: loaded.name.to_owned(),
            source,
        };
        let (mut used_at, mut unread) = (None, None);
        // Nothing is kept of an event but what follows from it.
        let events = loaded
            .lines()
            .map_while(|line| match read_json::<PurseEvent>(line.payload) {
                Ok(event) => {
                    used_at = receipted_at(&event).or(used_at);
                    Some(event)
                }
                Err(error) => {
                    unread = Some(error);
                    None
                }
            });
        let replayed = Spending::replay(id, events);
        if let Some(error) = unread {
            return Err(odd(error.into()));
        }
        let spending = replayed.map_err(|error| odd(error.into()))?;
        Ok(Some((id, Self { spending, used_at })))
    }
}

/// Every channel's journal, read by one thread and replayed by others.
async fn purses(store: &Store) -> Result<HashMap<market::ChannelId, Replayed>, StartError> {
    let pages = stream::try_unfold(store.scan(PURSES), |mut scan| async move {
        let page = scan.next().await;
        let page = page.map_err(|error| StartError::Journal(error.into()))?;
        Ok::<_, StartError>((!page.is_empty()).then_some((page, scan)))
    });
    let replayed = pages.map(|page| async move {
        let page = page?;
        let replay = move || {
            page.journals()
                .map(Replayed::of)
                .collect::<Result<Vec<_>, _>>()
        };
        on_a_thread(replay).await
    });
    let mut replayed = pin!(replayed.buffered(REPLAYS));
    let mut purses = HashMap::new();
    while let Some(page) = replayed.next().await {
        purses.extend(page?.into_iter().flatten());
    }
    Ok(purses)
}

/// Every channel that was opened, and its id.
async fn opened(
    store: &Store,
    domain: Domain,
) -> Result<Vec<(market::ChannelId, Opened)>, StartError> {
    let loaded = loaded(store, CHANNELS).await?;
    let read = move || {
        let opened = parsed::<Opened>(CHANNELS, loaded.iter().map(store::Entry::line))?;
        let with_id = |opened: Opened| (opened.config.id(&domain), opened);
        Ok(opened.into_iter().map(with_id).collect())
    };
    on_a_thread(read).await
}

/// What takes long, while others go on.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
}

pub(crate) async fn entries<T: serde::de::DeserializeOwned>(
    store: &Store,
    name: &str,
) -> Result<Vec<T>, StartError> {
    let loaded = loaded(store, name).await?;
    parsed(name, loaded.iter().map(store::Entry::line))
}

async fn loaded(store: &Store, name: &str) -> Result<Vec<store::Entry>, StartError> {
    let loaded = store.journal(name).load().await;
    loaded.map_err(|error| StartError::Journal(error.into()))
}

fn parsed<'a, T: serde::de::DeserializeOwned>(
    name: &str,
    lines: impl Iterator<Item = store::Line<'a>>,
) -> Result<Vec<T>, StartError> {
    let parsed = lines.map(|line| read_json(line.payload));
    let parsed: Result<_, serde_json::Error> = parsed.collect();
    parsed.map_err(|error| StartError::Entry {
        journal: name.to_owned(),
        source: error.into(),
    })
}
