//! One channel as the consumer holds it: its engine, its journal, and the hot
//! key that signs its vouchers.
//!
//! The order is [`market::Spending`]'s: this file writes the moves that it
//! asks for, reports them, and signs what comes out.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use market::{
    Amount, ChannelConfig, ChannelId, Domain, InputBound, Move, MoveId, OrderError, Pay, Purse,
    PurseError, PurseEvent, Rates, RequestId, SignedReceipt, SignedVoucher, Spending, WalletKey,
    Written,
};
use store::{AppendError, Entry, Journal};
use tokio::sync::Notify;
use tracing::debug;

use crate::budgets::Budgets;
use crate::payer::{KeysError, PayerNumber, Payers};
use crate::reconcile::Missing;

/// So often in a row a provider may refuse a channel before another one is used.
const REFUSALS_MAX: u32 = 3;

/// Why a voucher could not be made or a receipt not be booked.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// The rules of the purse are against it.
    #[error(transparent)]
    Purse(#[from] PurseError),
    /// The keys that would sign cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// It could not be made durable, so it did not happen.
    #[error("the journal cannot be written")]
    Journal(#[from] AppendError),
    /// What was written is not what was to be written: a bug. Nothing is signed.
    #[error("journal and purse are out of step: restart")]
    Order(#[from] OrderError),
}

/// A channel that this consumer pays over.
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) config: ChannelConfig,
    /// Whose money is in it.
    pub(crate) payer: PayerNumber,
    domain: Domain,
    payers: Arc<Payers>,
    /// Signs its vouchers; derived when it first does.
    hot_key: OnceLock<Arc<WalletKey>>,
    spending: Mutex<Spending>,
    journal: Journal,
    /// What its receipts come to counts there.
    budgets: Arc<Budgets>,
    /// A receipt raised the ceiling: whoever pays over this channel sends the
    /// voucher, because answers that run on may wait for it.
    pub(crate) raised: Notify,
    /// Requests that the provider refused to be paid for, one after the other.
    refusals: AtomicU32,
    /// One deposit at a time.
    pub(crate) upkeep: tokio::sync::Mutex<Upkeep>,
    /// Receipts that the provider may hold.
    pub(crate) missing: Missing,
    /// It stood by since this was last asked, see [`crate::standby`].
    pub(crate) relied_on: AtomicBool,
}

/// What must be seen to before a channel is used.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// The escrow was read from the chain since the start.
    pub(crate) funded: bool,
    /// When it was last tried to bring a restored channel back.
    pub(crate) tried_at: Option<tokio::time::Instant>,
}

impl Channel {
    /// The channel that `journal` describes; a new one if it is empty.
    pub(crate) fn new(
        config: ChannelConfig,
        payer: PayerNumber,
        payers: Arc<Payers>,
        (journal, budgets): (Journal, Arc<Budgets>),
        spending: Spending,
    ) -> Self {
        let missing = Missing::default();
        if !spending.durable().is_zero() {
            missing.some();
        }
        let domain = payers.wallet.domain();
        Self {
            id: spending.channel(),
            config,
            payer,
            domain,
            payers,
            hot_key: OnceLock::new(),
            spending: Mutex::new(spending),
            journal,
            budgets,
            raised: Notify::new(),
            refusals: AtomicU32::new(0),
            upkeep: tokio::sync::Mutex::default(),
            missing,
            relied_on: AtomicBool::new(false),
        }
    }

    /// The provider was, or was not, content with what was paid over this channel.
    pub(crate) fn contented(&self, is_content: bool) {
        match is_content {
            true => self.refusals.store(0, Ordering::Relaxed),
            false => _ = self.refusals.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The provider cannot go on with this channel: its books are old.
    pub(crate) fn shun(&self) {
        self.refusals.store(REFUSALS_MAX, Ordering::Relaxed);
    }

    /// Whether another channel is to be used in its place.
    pub(crate) fn is_out_of_use(&self) -> bool {
        let refused = self.refusals.load(Ordering::Relaxed) >= REFUSALS_MAX;
        refused || self.purse(|purse| purse.is_restored())
    }

    /// Signs for this channel.
    pub(crate) fn hot_key(&self) -> Result<&WalletKey, KeysError> {
        if let Some(key) = self.hot_key.get() {
            return Ok(key);
        }
        let key = self.payers.hot_key(self.payer, &self.config)?;
        Ok(self.hot_key.get_or_init(|| key))
    }

    fn engine(&self) -> MutexGuard<'_, Spending> {
        self.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at, or moves, the engine. Never held across an await.
    pub(crate) fn spending<T>(&self, act: impl FnOnce(&mut Spending) -> T) -> T {
        act(&mut self.engine())
    }

    /// Looks at the purse.
    pub(crate) fn purse<T>(&self, look: impl FnOnce(&Purse) -> T) -> T {
        look(self.engine().purse())
    }

    /// Reserves a request, durably, and signs the voucher to send with it.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        request: RequestId,
        rates: Rates,
        bound: InputBound,
    ) -> Result<(Reserved, SignedVoucher), PaymentError> {
        let key = self.hot_key()?;
        let asked = self.spending(|spending| spending.ask(request, rates, bound))?;
        let reserved = Reserved {
            channel: Arc::clone(self),
            request,
            open: true,
        };
        failpoint::hit("consumer.request.reserved");
        let voucher = self.write(&asked).await?.voucher;
        failpoint::hit("consumer.request.journalled");
        Ok((reserved, voucher.sign(&self.domain, key)))
    }

    /// A voucher for all that is read by now.
    pub(crate) async fn voucher(&self) -> Result<SignedVoucher, PaymentError> {
        let key = self.hot_key()?;
        let pay = self.spending(Spending::pay)?;
        let voucher = match pay {
            Pay::Sign(voucher) => voucher,
            Pay::Write(ceiling) => {
                failpoint::hit("consumer.ceiling.raised");
                let written = self.write(&ceiling).await?;
                failpoint::hit("consumer.ceiling.journalled");
                written.voucher
            }
        };
        Ok(voucher.sign(&self.domain, key))
    }

    /// Books a receipt that came later, durably.
    pub(crate) async fn reconciled(&self, signed: &SignedReceipt) -> Result<(), PaymentError> {
        match self.spending(|spending| spending.reconciled(signed))? {
            Some(booked) => self.write(&booked).await.map(drop),
            None => Ok(()),
        }
    }

    /// Signs nothing more, durably, until [`Self::resume`].
    pub(crate) async fn restore(&self) -> Result<(), PaymentError> {
        match self.spending(Spending::restore) {
            Some(restored) => self.write(&restored).await.map(drop),
            None => Ok(()),
        }
    }

    /// Signs again, if the chain proves what the receipts say, to within `allowance`.
    pub(crate) async fn resume(&self, allowance: Amount) -> Result<(), PaymentError> {
        let resumed = self.spending(|spending| spending.resume(allowance))?;
        self.write(&resumed).await.map(drop)
    }

    /// The provider says that nothing runs: nothing is reserved any more for
    /// answers that ended without a receipt.
    pub(crate) fn settled_up(&self) {
        self.spending(Spending::settled_up);
        self.budgets.give_up(self.id, |request| {
            self.purse(|purse| purse.is_running(request))
        });
    }

    /// Makes a move durable, and reports it.
    pub(crate) async fn write(&self, to_write: &Move<PurseEvent>) -> Result<Written, PaymentError> {
        let unreported = Unreported {
            channel: self,
            id: to_write.id(),
        };
        let entries = to_write.events().iter().map(written).collect();
        self.journal.append(entries).await?;
        let reported = self.spending(|spending| spending.written(to_write.id()))?;
        drop(unreported);
        for event in to_write.events() {
            if let PurseEvent::Receipted { receipt, .. } = event {
                let receipt = &receipt.receipt;
                self.budgets.receipted(receipt.request, receipt.amount);
            }
        }
        if reported.raised {
            self.raised.notify_one();
        }
        Ok(reported)
    }
}

/// A move on its way to the journal. If nobody waits for that any more, or it
/// failed, nothing is signed for it.
struct Unreported<'a> {
    channel: &'a Channel,
    id: MoveId,
}

impl Drop for Unreported<'_> {
    fn drop(&mut self) {
        // One that was reported waits no more.
        self.channel
            .spending(|spending| spending.unwritten(self.id));
    }
}

/// A journal's line about the purse.
fn written(event: &PurseEvent) -> Entry {
    let payload = serde_json::to_vec(event).expect("an event has only string keys");
    let about = match event {
        PurseEvent::Asked { request, .. } => Some(request),
        PurseEvent::Receipted { receipt, .. } => Some(&receipt.receipt.request),
        _ => None,
    };
    entry(event.kind(), about.map(RequestId::to_string), payload)
}

/// A request that the purse reckons with; if it is dropped before its
/// receipt, what it may cost stays reserved.
pub(crate) struct Reserved {
    channel: Arc<Channel>,
    request: RequestId,
    open: bool,
}

impl Reserved {
    /// Whether its receipt is still missing.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// It was refused, or its receipt is durable.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = self
                .channel
                .spending(|spending| spending.broken(self.request))
        {
            debug!(%error, "reservation was gone");
        }
    }
}

/// One line of a journal.
pub(crate) fn entry(kind: &str, key: Option<String>, payload: Vec<u8>) -> Entry {
    Entry {
        kind: kind.to_owned(),
        key,
        payload,
    }
}
