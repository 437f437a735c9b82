//! Receipts that the provider holds and we do not: fetched before the next
//! request, and after an answer that ended without one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use market::{Purse, PurseError, SIGN_OF_LIFE_WITHIN, SignedReceipt, Timestamp};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};
use transport::message::{Ask, FromProvider, MAX_RECEIPTS, ReceiptsAsk};

use crate::catalog::Seller;
use crate::paths::{PathError, Paths};
use crate::payer::KeysError;
use crate::payment::{Channel, PaymentError};

/// Time for a provider to notice that answers were left by a process that is
/// gone: it hears nothing for five seconds. A stream that was opened meanwhile
/// is good for ten.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(7);

/// Between two questions for it.
const FORGOTTEN_PAUSE: Duration = Duration::from_millis(250);

/// Rounds of receipts fetched at a time: a provider cannot keep us busy for ever.
const RECONCILE_ROUNDS: usize = 64;

/// Whether receipts of a channel may be missing here. They are fetched by one
/// at a time, which nothing else waits for.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// How often somebody saw that some may be.
    seen: AtomicU64,
    fetching: tokio::sync::Mutex<Fetched>,
}

#[derive(Debug, Default)]
struct Fetched {
    /// What had been seen when the last fetch that brought all began.
    seen: u64,
    /// When the last one began, if it was in vain, and what it met with.
    vain: Option<(Instant, Vain)>,
}

/// What else a fetch may meet with than receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vain {
    Silence,
    Running,
}

impl Missing {
    /// The provider may hold receipts that we have not seen.
    pub(crate) fn some(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reconciles before a request; waits for a moment for the provider to close
/// answers that a crash made us forget, because it counts them, and its vouchers
/// would not reach. A provider that is silent to this is not to be asked more.
pub(crate) async fn reconcile_first(
    paths: &Paths,
    seller: &Seller,
    channel: &Channel,
    now: Timestamp,
) -> Result<(), Silent> {
    let until = Instant::now() + FORGOTTEN_WITHIN;
    loop {
        match reconcile(paths, seller, channel, now).await {
            Ok(()) => return Ok(()),
            Err(ReconcileError::Running)
                if channel.purse(Purse::forgot) && Instant::now() < until =>
            {
                tokio::time::sleep(FORGOTTEN_PAUSE).await;
            }
            Err(error) if error.is_vain() == Some(Vain::Silence) => {
                debug!(causes = market::with_causes(&error), "receipts not had");
                return Err(Silent(error));
            }
            Err(error) => {
                debug!(%error, "not reconciled yet");
                return Ok(());
            }
        }
    }
}

/// Fetches the receipts that the provider holds and we do not. Once it says
/// that nothing runs any more, nothing is reserved for lost answers.
///
/// Who waits behind a fetch that was in vain learns as much from it, if it began
/// after them: nobody waits for more than two.
pub(crate) async fn reconcile(
    paths: &Paths,
    seller: &Seller,
    channel: &Channel,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let came_at = Instant::now();
    let missing = &channel.missing;
    let mut fetched = missing.fetching.lock().await;
    let seen = missing.seen.load(Ordering::Relaxed);
    if fetched.seen == seen && !channel.purse(Purse::needs_reconciling) {
        return Ok(());
    }
    match fetched.vain {
        Some((began, Vain::Silence)) if began >= came_at => return Err(ReconcileError::Tried),
        Some((began, Vain::Running)) if began >= came_at => return Err(ReconcileError::Running),
        _ => {}
    }
    let began = Instant::now();
    let outcome = timeout(SIGN_OF_LIFE_WITHIN, fetch(paths, seller, channel, now)).await;
    let outcome = match outcome {
        Err(_) => Err(ReconcileError::Timeout),
        Ok(Err(error)) => Err(error),
        // A provider may notice later than we do that the way to us broke.
        Ok(Ok(_)) if channel.purse(Purse::needs_reconciling) => Err(ReconcileError::Running),
        Ok(Ok(_)) => Ok(()),
    };
    match &outcome {
        Ok(()) => {
            failpoint::hit("consumer.reconcile.ended");
            *fetched = Fetched { seen, vain: None };
        }
        Err(error) => fetched.vain = error.is_vain().map(|vain| (began, vain)),
    }
    outcome
}

/// All receipts of a restored channel are here, and nothing runs on it.
pub(crate) async fn complete(
    paths: &Paths,
    seller: &Seller,
    channel: &Channel,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let all = timeout(SIGN_OF_LIFE_WITHIN, fetch(paths, seller, channel, now))
        .await
        .map_err(|_| ReconcileError::Timeout)??;
    match all {
        true => Ok(()),
        false => Err(ReconcileError::Running),
    }
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
    #[error("the provider was asked a moment ago, and did not answer")]
    Tried,
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("a receipt does not hold")]
    Receipt(#[from] market::ReceiptError),
    #[error("a receipt cannot be booked")]
    Payment(#[from] PaymentError),
}

impl ReconcileError {
    fn is_vain(&self) -> Option<Vain> {
        match self {
            Self::Timeout | Self::Tried | Self::Open(_) | Self::Send(_) | Self::Receive(_) => {
                Some(Vain::Silence)
            }
            Self::Running => Some(Vain::Running),
            Self::Unexpected | Self::Keys(_) | Self::Receipt(_) | Self::Payment(_) => None,
        }
    }
}

/// The provider did not say what it holds. Every step of the way to it is in
/// the log; who asked reads only what is the matter.
#[derive(Debug, thiserror::Error)]
#[error("{}", silence(.0))]
pub(crate) struct Silent(ReconcileError);

/// Who cannot be reached may owe nothing at all; so may who was lost on the way.
fn silence(error: &ReconcileError) -> String {
    match error {
        ReconcileError::Open(_) => "it cannot be reached".to_owned(),
        error => {
            format!("it may hold a receipt that is missing here, and does not say so ({error})")
        }
    }
}

/// Whether these were all, and none is to come.
async fn fetch(
    paths: &Paths,
    seller: &Seller,
    channel: &Channel,
    now: Timestamp,
) -> Result<bool, ReconcileError> {
    for _ in 0..RECONCILE_ROUNDS {
        let mut stream = paths.open(seller, now).await?.stream;
        let after = channel.purse(|purse| purse.sequence());
        failpoint::hit("consumer.reconcile.wished");
        let ask = ReceiptsAsk::sign(channel.id, after, channel.hot_key()?);
        stream.send.send(&Ask::Receipts(ask)).await?;
        failpoint::hit("consumer.reconcile.asked");
        let Some(FromProvider::Receipts { receipts, running }) = stream.receive.receive().await?
        else {
            return Err(ReconcileError::Unexpected);
        };
        failpoint::hit("consumer.reconcile.served");
        for receipt in &receipts {
            receipt.verify(seller.node)?;
            book(channel, receipt).await?;
            failpoint::hit("consumer.reconcile.booked");
        }
        if receipts.len() < MAX_RECEIPTS {
            if running == 0 && !channel.purse(|purse| purse.is_restored()) {
                channel.settled_up();
            }
            return Ok(running == 0);
        }
    }
    Ok(false)
}

/// Books a late receipt. One for what this journal never asked says that it is
/// an old copy: from then on nothing is signed on this channel.
async fn book(channel: &Channel, receipt: &SignedReceipt) -> Result<(), PaymentError> {
    match channel.reconciled(receipt).await {
        Err(PaymentError::Purse(error @ PurseError::OldJournal { .. })) => {
            warn!(channel = %channel.id, %error, "nothing is signed on this channel until the chain proves its receipts");
            channel.restore().await?;
            channel.reconciled(receipt).await
        }
        booked => booked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_reached_is_not_said_to_owe_anything() {
        let silent = Silent(ReconcileError::Open(PathError::NoGuard));
        assert_eq!(silent.to_string(), "it cannot be reached");
        for error in [ReconcileError::Timeout, ReconcileError::Tried] {
            let told = Silent(error).to_string();
            assert!(told.contains("may hold a receipt"), "{told}");
        }
    }
}
