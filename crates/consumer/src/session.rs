//! Channels to providers: found or opened, funded by policy, reconciled with
//! the provider after an answer that ended without a receipt.
//!
//! A channel's configuration is in the journal before money goes into it, so
//! no deposit is ever forgotten. How much is in it is read from the chain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use market::{
    Address, Amount, B256, ChannelConfig, ChannelTerms, LedgerError, Payer, Purse, PurseEvent,
    Spending, Timestamp, U256,
};
use serde::{Deserialize, Serialize};
use store::{AppendError, Entry, Store};
use transport::message::{Ask, FromProvider, MAX_RECEIPTS, ReceiptsAsk};

use crate::StartError;
use crate::catalog::Seller;
use crate::paths::{PathError, Paths};
use crate::payer::{PayerKeys, PayerNumber, Payers};
use crate::payment::{Channel, PaymentError, entry};
use crate::shell::Policy;
use crate::view::{ChannelView, PseudonymView};

/// The journal that lists the channels.
const CHANNELS: &str = "consumer/channels";

/// Time for a provider to send the receipts that we have not seen.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rounds of receipts fetched at a time: a provider cannot keep us busy for ever.
const RECONCILE_ROUNDS: usize = 64;

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
    #[error("payer account {number} has no keys")]
    Keys {
        /// Its number.
        number: u32,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A voucher could not be made.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The policy allows no more money in one channel.
    #[error(
        "the channel would have to hold {needed} base units, the policy allows {allowed} \
         (raise channel-max, or use another provider)"
    )]
    OverLimit {
        /// What it would have to hold.
        needed: Amount,
        /// What the policy allows.
        allowed: Amount,
    },
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

#[derive(Serialize, Deserialize)]
struct Opened {
    config: ChannelConfig,
    /// Which account pays.
    #[serde(default)]
    payer: PayerNumber,
}

/// All channels of this consumer.
pub(crate) struct Sessions {
    payers: Payers,
    store: Store,
    policy: Policy,
    channels: Mutex<Vec<Arc<Channel>>>,
    /// One channel is opened at a time, so that none is opened twice.
    opening: tokio::sync::Mutex<()>,
}

impl Sessions {
    /// What the journal knows.
    pub(crate) async fn load(
        payers: Payers,
        store: Store,
        policy: Policy,
    ) -> Result<Self, StartError> {
        let sessions = Self {
            payers,
            store,
            policy,
            channels: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        for opened in entries::<Opened>(&sessions.store, CHANNELS).await? {
            let id = opened.config.id(&sessions.payers.wallet.domain());
            let name = journal_name(&id);
            let keys = sessions.keys_of(&opened)?;
            let events = entries::<PurseEvent>(&sessions.store, &name).await?;
            let spending = Spending::replay(id, &events);
            let spending = spending.map_err(|error| StartError::Entry {
                journal: name,
                source: error.into(),
            })?;
            let channel = sessions.channel(opened, keys, spending);
            sessions.channels().push(channel);
        }
        Ok(sessions)
    }

    /// The keys of the account that a journalled channel names.
    fn keys_of(&self, opened: &Opened) -> Result<PayerKeys, StartError> {
        let (number, payer) = (opened.payer, opened.config.payer);
        let keys = self
            .payers
            .keys(number)
            .map_err(|source| StartError::Keys {
                payer,
                number: number.0,
                source,
            })?;
        let signer = opened.config.payer_authorizer;
        if keys.account != payer || keys.hot_key.address() != signer {
            return Err(StartError::OtherKeys {
                payer,
                signer,
                number: number.0,
            });
        }
        Ok(keys)
    }

    fn channel(&self, opened: Opened, keys: PayerKeys, spending: Spending) -> Arc<Channel> {
        let domain = self.payers.wallet.domain();
        let journal = self
            .store
            .journal(&journal_name(&opened.config.id(&domain)));
        Arc::new(Channel::new(
            opened.config,
            opened.payer,
            domain,
            keys.hot_key,
            journal,
            spending,
        ))
    }

    fn channels(&self) -> MutexGuard<'_, Vec<Arc<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, terms: &ChannelTerms) -> Option<Arc<Channel>> {
        let suits = |channel: &&Arc<Channel>| {
            channel.config.suits(terms).is_ok() && channel.payer.label() == self.policy.payer
        };
        self.channels().iter().find(suits).cloned()
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

    /// The channel to a provider with these terms, with at least something in
    /// it; opened if there is none.
    pub(crate) async fn acquire(&self, terms: &ChannelTerms) -> Result<Arc<Channel>, SessionError> {
        let channel = match self.find(terms) {
            Some(channel) => channel,
            None => self.open(terms).await?,
        };
        let mut upkeep = channel.upkeep.lock().await;
        if !upkeep.funded {
            self.read_escrow(&channel).await?;
            upkeep.funded = true;
        }
        drop(upkeep);
        Ok(channel)
    }

    async fn open(&self, terms: &ChannelTerms) -> Result<Arc<Channel>, SessionError> {
        let _one_at_a_time = self.opening.lock().await;
        if let Some(channel) = self.find(terms) {
            return Ok(channel);
        }
        let payer = self.payer_for(terms.receiver);
        let number = payer.0;
        let keys = self.payers.keys(payer);
        let keys = keys.map_err(|source| SessionError::Keys { number, source })?;
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
        let channel = self.channel(opened, keys, Spending::new(id));
        self.channels().push(Arc::clone(&channel));
        Ok(channel)
    }

    /// Salts count up, so that all channels of an account can be found again.
    fn next_salt(&self, payer: PayerNumber) -> B256 {
        let channels = self.channels();
        let before = channels.iter().filter(|channel| channel.payer == payer);
        B256::from(U256::from(before.count()))
    }

    /// Pays into a channel what it lacks, or the policy's deposit if that is more.
    pub(crate) async fn top_up(
        &self,
        channel: &Channel,
        needed: Amount,
    ) -> Result<(), SessionError> {
        let _one_at_a_time = channel.upkeep.lock().await;
        self.read_escrow(channel).await?;
        let escrow = channel.purse(|purse| purse.escrow());
        if escrow >= needed {
            return Ok(());
        }
        let allowed = self.policy.channel_max;
        if needed > allowed {
            return Err(SessionError::OverLimit { needed, allowed });
        }
        let amount = needed
            .less(escrow)
            .max(self.policy.deposit)
            .min(allowed.less(escrow));
        let (payer, token) = (channel.payer, channel.config.token);
        let ledger = self.payers.ledger_with(payer, token, amount).await?;
        ledger.deposit(channel.config, amount).await?;
        self.read_escrow(channel).await
    }

    async fn read_escrow(&self, channel: &Channel) -> Result<(), SessionError> {
        let state = self.payers.wallet.channel(channel.id).await?;
        channel.spending(|spending| {
            spending.funded(state.covered());
            spending.claimed_to(state.total_claimed);
        });
        Ok(())
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
            }));
        }
        Ok(views)
    }

    /// The accounts beside the wallet.
    pub(crate) fn pseudonyms(&self) -> Vec<PseudonymView> {
        let channels = self.channels();
        let pseudonymous = channels.iter().filter(|c| c.payer != PayerNumber::WALLET);
        let by_account = pseudonymous.map(|c| (c.config.payer, c.config.receiver));
        let accounts: std::collections::BTreeMap<_, _> = by_account.collect();
        let view = |(account, provider)| PseudonymView { account, provider };
        accounts.into_iter().map(view).collect()
    }

    /// The channels to one provider.
    pub(crate) fn of(&self, provider: Address) -> Vec<Arc<Channel>> {
        let to = |channel: &&Arc<Channel>| channel.config.receiver == provider;
        self.channels().iter().filter(to).cloned().collect()
    }

    /// Starts the way out of a channel: all that no voucher covers.
    pub(crate) async fn withdraw(&self, id: market::ChannelId) -> Result<Amount, MoneyError> {
        let channel = self.known(id)?;
        let state = self.payers.wallet.channel(id).await?;
        let free = state.covered().less(
            channel
                .purse(|purse| purse.ceiling())
                .max(state.total_claimed),
        );
        let (payer, token) = (channel.payer, channel.config.token);
        let ledger = self.payers.ledger_with(payer, token, Amount::ZERO).await?;
        ledger.initiate_withdraw(channel.config, free).await?;
        channel.upkeep.lock().await.funded = false;
        Ok(free)
    }

    /// Ends it, after the delay; the money comes back into the wallet.
    pub(crate) async fn finish_withdraw(&self, id: market::ChannelId) -> Result<(), MoneyError> {
        let channel = self.known(id)?;
        let (payer, token) = (channel.payer, channel.config.token);
        let ledger = self.payers.ledger(payer).await?;
        ledger.finalize_withdraw(channel.config).await?;
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

fn journal_name(id: &market::ChannelId) -> String {
    format!("consumer/purse/{id}")
}

async fn entries<T: serde::de::DeserializeOwned>(
    store: &Store,
    name: &str,
) -> Result<Vec<T>, StartError> {
    let loaded = store
        .journal(name)
        .load()
        .await
        .map_err(|error| StartError::Journal(error.into()))?;
    let parse = |entry: Entry| serde_json::from_slice(&entry.payload);
    let parsed: Result<_, serde_json::Error> = loaded.into_iter().map(parse).collect();
    parsed.map_err(|error| StartError::Entry {
        journal: name.to_owned(),
        source: error.into(),
    })
}

/// Fetches the receipts that the provider holds and we do not. Once it says
/// that nothing runs any more, nothing is reserved for lost answers.
pub(crate) async fn reconcile(
    paths: &Paths,
    seller: &Seller,
    channel: &Channel,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let mut upkeep = channel.upkeep.lock().await;
    if !upkeep.unreconciled && !channel.purse(Purse::needs_reconciling) {
        return Ok(());
    }
    tokio::time::timeout(RECONCILE_TIMEOUT, fetch(paths, seller, channel, now))
        .await
        .map_err(|_| ReconcileError::Timeout)??;
    // A provider may notice later than we do that the way to us broke.
    if channel.purse(|purse| purse.needs_reconciling()) {
        return Err(ReconcileError::Running);
    }
    upkeep.unreconciled = false;
    Ok(())
}

/// Why receipts could not be fetched. They are asked for again later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("the provider did not send its receipts in time")]
    Timeout,
    #[error("the provider cannot be reached")]
    Open(#[from] PathError),
    #[error("the stream broke")]
    Send(#[from] transport::SendError),
    #[error("the stream broke")]
    Receive(#[from] transport::ReceiveError),
    #[error("the provider answered with something else")]
    Unexpected,
    #[error("the provider still works on an answer that is lost here")]
    Running,
    #[error("a receipt does not hold")]
    Receipt(#[from] market::ReceiptError),
    #[error("a receipt cannot be booked")]
    Payment(#[from] PaymentError),
}

async fn fetch(
    paths: &Paths,
    seller: &Seller,
    channel: &Channel,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    for _ in 0..RECONCILE_ROUNDS {
        let mut stream = paths.open(seller, now).await?;
        let after = channel.purse(|purse| purse.sequence());
        let ask = ReceiptsAsk::sign(channel.id, after, channel.hot_key());
        stream.send.send(&Ask::Receipts(ask)).await?;
        let Some(FromProvider::Receipts { receipts, running }) = stream.receive.receive().await?
        else {
            return Err(ReconcileError::Unexpected);
        };
        for receipt in &receipts {
            receipt.verify(seller.node)?;
            channel.reconciled(receipt).await?;
        }
        if receipts.len() < MAX_RECEIPTS {
            if running == 0 {
                channel.spending(Spending::settled_up);
            }
            return Ok(());
        }
    }
    Ok(())
}
