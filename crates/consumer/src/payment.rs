//! One channel as the consumer holds it: the purse, its journal, and the hot
//! key that signs its vouchers.
//!
//! The order is the point of this file: an event is durable before the
//! voucher that it allows is signed, and only a signed voucher is sent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use market::{
    Amount, ChannelConfig, ChannelId, Domain, InputBound, Purse, PurseError, PurseEvent, Rates,
    RequestId, SignedReceipt, SignedVoucher, Voucher, WalletKey,
};
use store::{AppendError, Entry, Journal};
use tokio::sync::Notify;
use tracing::debug;

use crate::payer::PayerNumber;

/// So often in a row a provider may refuse a channel before another one is used.
const REFUSALS_MAX: u32 = 3;

/// Why a voucher could not be made or a receipt not be booked.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// The rules of the purse are against it.
    #[error(transparent)]
    Purse(#[from] PurseError),
    /// It could not be made durable, so it did not happen.
    #[error("the journal cannot be written")]
    Journal(#[from] AppendError),
}

struct Held {
    purse: Purse,
    /// The highest ceiling that is known to be in the journal.
    durable: Amount,
}

/// A channel that this consumer pays over.
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) config: ChannelConfig,
    /// Whose money is in it.
    pub(crate) payer: PayerNumber,
    domain: Domain,
    hot_key: Arc<WalletKey>,
    held: Mutex<Held>,
    journal: Journal,
    /// A receipt raised the ceiling: whoever pays over this channel sends the
    /// voucher, because answers that run on may wait for it.
    pub(crate) raised: Notify,
    /// Requests that the provider refused to be paid for, one after the other.
    refusals: AtomicU32,
    /// One deposit or reconciliation at a time.
    pub(crate) upkeep: tokio::sync::Mutex<Upkeep>,
}

/// What must be seen to before a channel is used.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// The escrow was read from the chain since the start.
    pub(crate) funded: bool,
    /// The provider may hold receipts that we have not seen.
    pub(crate) unreconciled: bool,
    /// When it was last tried to bring a restored channel back.
    pub(crate) tried_at: Option<tokio::time::Instant>,
}

impl Channel {
    /// The channel that `journal` describes; a new one if it is empty.
    pub(crate) fn new(
        config: ChannelConfig,
        payer: PayerNumber,
        domain: Domain,
        hot_key: Arc<WalletKey>,
        journal: Journal,
        purse: Purse,
    ) -> Self {
        let used = !purse.ceiling().is_zero();
        Self {
            id: config.id(&domain),
            config,
            payer,
            domain,
            hot_key,
            held: Mutex::new(Held {
                durable: purse.ceiling(),
                purse,
            }),
            journal,
            raised: Notify::new(),
            refusals: AtomicU32::new(0),
            upkeep: tokio::sync::Mutex::new(Upkeep {
                funded: false,
                unreconciled: used,
                tried_at: None,
            }),
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
    pub(crate) fn hot_key(&self) -> &WalletKey {
        &self.hot_key
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at, or moves, the purse. Never held across an await.
    pub(crate) fn purse<T>(&self, act: impl FnOnce(&mut Purse) -> T) -> T {
        act(&mut self.held().purse)
    }

    /// Reserves a request, durably, and signs the voucher to send with it.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        request: RequestId,
        rates: Rates,
        bound: InputBound,
    ) -> Result<(Reserved, SignedVoucher), PaymentError> {
        let event = self.purse(|purse| purse.ask(request, rates, bound))?;
        let reserved = Reserved {
            channel: Arc::clone(self),
            request,
            open: true,
        };
        self.record(&[event]).await?;
        Ok((reserved, self.voucher().await?))
    }

    /// A voucher up to the purse's ceiling as it is now.
    pub(crate) async fn voucher(&self) -> Result<SignedVoucher, PaymentError> {
        let (ceiling, durable) = {
            let held = self.held();
            (held.purse.ceiling(), held.durable)
        };
        if durable < ceiling {
            self.record(&[PurseEvent::Ceiling { ceiling }]).await?;
        }
        Ok(Voucher {
            channel: self.id,
            ceiling,
        }
        .sign(&self.domain, &self.hot_key))
    }

    /// Books the receipt of a running answer, durably.
    async fn receipted(&self, signed: &SignedReceipt) -> Result<(), PaymentError> {
        let events = self.purse(|purse| purse.receipted(signed))?;
        self.booked(&events).await
    }

    /// Books a receipt that came later, durably.
    pub(crate) async fn reconciled(&self, signed: &SignedReceipt) -> Result<(), PaymentError> {
        let events = self.purse(|purse| purse.reconciled(signed))?;
        self.booked(&events).await
    }

    /// Signs nothing more, durably, until [`Self::resume`].
    pub(crate) async fn restore(&self) -> Result<(), PaymentError> {
        let event = self.purse(Purse::restore);
        self.record(event.as_slice()).await?;
        Ok(())
    }

    /// Signs again, if the chain proves what the receipts say, to within `allowance`.
    pub(crate) async fn resume(&self, allowance: Amount) -> Result<(), PaymentError> {
        let event = self.purse(|purse| purse.resume(allowance))?;
        self.record(&[event]).await?;
        Ok(())
    }

    async fn booked(&self, events: &[PurseEvent]) -> Result<(), PaymentError> {
        if events.is_empty() {
            return Ok(());
        }
        self.record(events).await?;
        let raises = |event: &PurseEvent| matches!(event, PurseEvent::Ceiling { .. });
        if events.iter().any(raises) {
            self.raised.notify_one();
        }
        Ok(())
    }

    async fn record(&self, events: &[PurseEvent]) -> Result<(), AppendError> {
        let written = |event: &PurseEvent| {
            let payload = serde_json::to_vec(event).expect("an event has only string keys");
            match event {
                PurseEvent::Asked { request, .. } => {
                    entry("asked", Some(request.to_string()), payload)
                }
                PurseEvent::Ceiling { .. } => entry("ceiling", None, payload),
                PurseEvent::Receipted { receipt, .. } => {
                    let key = receipt.receipt.request.to_string();
                    entry("receipted", Some(key), payload)
                }
                PurseEvent::Restored => entry("restored", None, payload),
                PurseEvent::Resumed { .. } => entry("resumed", None, payload),
            }
        };
        self.journal
            .append(events.iter().map(written).collect())
            .await?;
        let ceilings = events.iter().filter_map(|event| match event {
            PurseEvent::Asked { ceiling, .. }
            | PurseEvent::Ceiling { ceiling }
            | PurseEvent::Resumed { ceiling } => Some(*ceiling),
            PurseEvent::Receipted { .. } | PurseEvent::Restored => None,
        });
        let mut held = self.held();
        held.durable = ceilings.fold(held.durable, Amount::max);
        Ok(())
    }
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

    /// The provider did nothing: nothing is owed.
    pub(crate) fn refused(&mut self) {
        self.open = false;
        self.channel.purse(|purse| purse.refused(self.request));
    }

    /// Books its receipt, durably.
    pub(crate) async fn receipted(&mut self, receipt: &SignedReceipt) -> Result<(), PaymentError> {
        self.channel.receipted(receipt).await?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = self.channel.purse(|purse| purse.broken(self.request))
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
