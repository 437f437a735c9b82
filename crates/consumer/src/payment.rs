//! One channel as the consumer holds it: the purse, its journal, and the hot
//! key that signs its vouchers.
//!
//! The order is the point of this file: an event is durable before the
//! voucher that it allows is signed, and only a signed voucher is sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use market::{
    Amount, ChannelConfig, ChannelId, Domain, InputBound, Purse, PurseError, PurseEvent, Rates,
    RequestId, SignedReceipt, SignedVoucher, Voucher, WalletKey,
};
use store::{AppendError, Entry, Journal};
use tokio::sync::Notify;
use tracing::debug;

use crate::payer::PayerNumber;

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
            upkeep: tokio::sync::Mutex::new(Upkeep {
                funded: false,
                unreconciled: used,
            }),
        }
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
        failpoint::hit("consumer.request.reserved");
        self.record(&[event]).await?;
        failpoint::hit("consumer.request.journalled");
        Ok((reserved, self.voucher().await?))
    }

    /// A voucher up to the purse's ceiling as it is now.
    pub(crate) async fn voucher(&self) -> Result<SignedVoucher, PaymentError> {
        let (ceiling, durable) = {
            let held = self.held();
            (held.purse.ceiling(), held.durable)
        };
        if durable < ceiling {
            failpoint::hit("consumer.ceiling.raised");
            self.record(&[PurseEvent::Ceiling { ceiling }]).await?;
            failpoint::hit("consumer.ceiling.journalled");
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

    async fn booked(&self, events: &[PurseEvent]) -> Result<(), PaymentError> {
        if events.is_empty() {
            return Ok(());
        }
        failpoint::hit("consumer.receipt.booked");
        self.record(events).await?;
        failpoint::hit("consumer.receipt.journalled");
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
            }
        };
        self.journal
            .append(events.iter().map(written).collect())
            .await?;
        let ceilings = events.iter().filter_map(|event| match event {
            PurseEvent::Asked { ceiling, .. } | PurseEvent::Ceiling { ceiling } => Some(*ceiling),
            PurseEvent::Receipted { .. } => None,
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
