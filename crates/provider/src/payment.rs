//! One channel as the provider holds it: its engine and its journal.
//!
//! The order is [`market::Earning`]'s. Whatever moves it is handed to the
//! channel's writer under the engine's own lock, so the journal has the
//! engine's order. The writer puts what waits into one append and reports it;
//! only then do vouchers count, and only then does a receipt come out that may
//! be signed. Nobody who meters tokens ever waits for the disk.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use market::{
    Amount, ChannelConfig, ChannelId, Closing, Domain, Durable, Earning, Move, MoveId, NodeKey,
    Receipt, RequestId, SignedReceipt, SignedVoucher, Sold, Till, TillError, TillEvent,
    VoucherError,
};
use serde::{Deserialize, Serialize};
use store::{AppendError, Entry, Journal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, warn};
use transport::message::Infer;

use crate::tasks::Tasks;

/// Writes that wait for the disk, per channel; more wait before the till moves.
const WRITES_QUEUED: usize = 256;

/// Writes that share one append; each has a few entries.
const WRITES_AT_ONCE: usize = 128;

/// Time for something to get to the disk; longer, and it counts as broken.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// A claim that is younger is looked at again: a reorganisation may have taken
/// it back, and its transaction may then have failed.
const YOUNG_FOR: Duration = Duration::from_secs(900);

/// One that was made before the start counts as young for so long.
const YOUNG_LEFT: Duration = Duration::from_secs(90);

/// When the disk is full, between two tries.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The kinds of entries in a channel's journal. The first is always `CHANNEL`.
pub(crate) const CHANNEL: &str = "channel";
pub(crate) const VOUCHER: &str = "voucher";
pub(crate) const PROGRESS: &str = "progress";
pub(crate) const REFUSED: &str = "refused";
pub(crate) const RECEIPTED: &str = "receipted";
pub(crate) const CLAIMED: &str = "claimed";

/// The entry that says what a channel is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) config: ChannelConfig,
}

/// Why a voucher or a request is not taken, or a receipt not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PaymentError {
    /// The voucher is none.
    #[error(transparent)]
    Voucher(#[from] VoucherError),
    /// The till's rules are against it.
    #[error(transparent)]
    Till(#[from] TillError),
    /// A voucher that was seen before, with a request that its signer did not
    /// sign: claims are public, so anybody could have it.
    #[error("the voucher is an old one, and the request is not signed by the channel's authorizer")]
    Stranger,
    /// It could not be made durable.
    #[error("the provider's journal cannot be written")]
    Journal,
}

/// What the writer and the users of a channel share.
struct Books {
    earning: Mutex<Earning>,
    /// Says that a voucher counts that did not before; made for the first who asks.
    moved: OnceLock<watch::Sender<()>>,
}

impl Books {
    fn earning(&self) -> MutexGuard<'_, Earning> {
        lock(&self.earning)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What goes to the journal, and who waits for it.
struct Write {
    entries: Vec<Entry>,
    /// The engine's move; none for what the engine knows nothing of.
    id: Option<MoveId>,
    done: oneshot::Sender<Vec<Durable<Receipt>>>,
}

/// The promise that something is in the journal.
#[must_use = "it may not be acted upon before it is durable"]
pub(crate) struct Promise(oneshot::Receiver<Vec<Durable<Receipt>>>);

impl Promise {
    /// Waits for it, and has the receipts that may then be signed. Earlier
    /// writes of the channel are durable then, too.
    pub(crate) async fn wait(self) -> Result<Vec<Durable<Receipt>>, PaymentError> {
        let written = timeout(DURABLE_WITHIN, self.0).await;
        match written {
            Ok(Ok(receipts)) => Ok(receipts),
            _ => Err(PaymentError::Journal),
        }
    }
}

/// How fresh the escrow of a channel is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// When it was last read.
    pub(crate) at: Option<Instant>,
    /// When the chain last did not answer for it.
    pub(crate) failed_at: Option<Instant>,
}

/// A channel that this provider is paid over.
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) config: ChannelConfig,
    pub(crate) journal: Journal,
    domain: Domain,
    books: Arc<Books>,
    /// To the writer, which runs from the first write on: most channels of an
    /// old journal are never used again.
    writes: OnceLock<mpsc::Sender<Write>>,
    tasks: Tasks,
    /// When the chain last said something new of its claims.
    claimed_at: Mutex<Option<Instant>>,
    /// When its escrow was read from the chain; one reads at a time.
    pub(crate) reading: tokio::sync::Mutex<Reading>,
}

impl Channel {
    /// A channel that is new to this provider; see [`Self::known`].
    pub(crate) fn open(
        config: ChannelConfig,
        domain: Domain,
        journal: Journal,
        earning: Earning,
        tasks: Tasks,
    ) -> Self {
        let channel = Self::known(config, domain, journal, earning, tasks);
        let (done, _nobody_waits) = oneshot::channel();
        let first = Write {
            entries: vec![entry(CHANNEL, None, &Opened { config })],
            id: None,
            done,
        };
        channel
            .writes()
            .try_send(first)
            .expect("a new queue has room, and its reader is held");
        channel
    }

    /// A channel from the journal. Its writer runs among `tasks`, and ends
    /// with the last handle.
    pub(crate) fn known(
        config: ChannelConfig,
        domain: Domain,
        journal: Journal,
        earning: Earning,
        tasks: Tasks,
    ) -> Self {
        let id = earning.till().channel();
        let books = Arc::new(Books {
            earning: Mutex::new(earning),
            moved: OnceLock::new(),
        });
        // One of an earlier life is looked at once more.
        let before = Instant::now().checked_sub(YOUNG_FOR - YOUNG_LEFT);
        let claimed = !lock(&books.earning).till().claimed().is_zero();
        let claimed_at = Mutex::new(before.filter(|_| claimed));
        Self {
            id,
            config,
            journal,
            domain,
            books,
            writes: OnceLock::new(),
            tasks,
            claimed_at,
            reading: tokio::sync::Mutex::default(),
        }
    }

    fn writes(&self) -> &mpsc::Sender<Write> {
        self.writes.get_or_init(|| {
            let (writes, queue) = mpsc::channel(WRITES_QUEUED);
            let (journal, books) = (self.journal.clone(), Arc::clone(&self.books));
            self.tasks.spawn(write(journal, queue, books));
            writes
        })
    }

    /// Looks at the till.
    pub(crate) fn till<T>(&self, look: impl FnOnce(&Till) -> T) -> T {
        look(self.books.earning().till())
    }

    /// Looks at the engine, or meters with it. What has to be durable goes
    /// through the methods below.
    pub(crate) fn earning<T>(&self, act: impl FnOnce(&mut Earning) -> T) -> T {
        act(&mut self.books.earning())
    }

    /// Changes whenever a voucher begins to count.
    pub(crate) fn moved(&self) -> watch::Receiver<()> {
        let moved = self.books.moved.get_or_init(watch::Sender::default);
        moved.subscribe()
    }

    /// Takes the voucher that comes with a request. One that is new was seen
    /// by nobody else; with an old one the request itself has to be signed.
    pub(crate) async fn pay_first(&self, infer: &Infer) -> Result<(), PaymentError> {
        let voucher = &infer.voucher;
        failpoint::hit("provider.voucher.received");
        self.verify(voucher)?;
        failpoint::hit("provider.voucher.verified");
        let signed_here = || infer.is_by(self.config.payer_authorizer);
        let promise = self.record(|earning| match earning.take(voucher)? {
            Some(taken) => Ok(Some(taken)),
            None if signed_here() => Ok(None),
            None => Err(PaymentError::Stranger),
        });
        promise.await.map(drop)
    }

    /// Takes a voucher within an answer: the consumer has read so many of its
    /// tokens. How many are now queued for the journal as delivered.
    pub(crate) async fn pay(
        &self,
        voucher: &SignedVoucher,
        request: RequestId,
        read_tokens: u32,
    ) -> Result<u32, PaymentError> {
        self.verify(voucher)?;
        let mut journaled = 0;
        let promise = self.record(|earning| {
            let (paid, tokens) = earning.pay(voucher, request, read_tokens)?;
            journaled = tokens;
            Ok(Some(paid))
        });
        promise.await.map(|_| journaled)
    }

    /// Takes a request; it is durable, with all vouchers before it, after [`Promise::wait`].
    pub(crate) async fn admit(
        &self,
        request: RequestId,
        sold: Sold,
        input_tokens: u32,
    ) -> Result<Promise, PaymentError> {
        self.record(|earning| Ok(Some(earning.admit(request, sold, input_tokens)?)))
            .await
    }

    /// Gives a request back: nothing was done.
    pub(crate) async fn refuse(&self, request: RequestId) -> Result<Promise, PaymentError> {
        self.record(|earning| Ok(Some(earning.refuse(request)?)))
            .await
    }

    /// Writes how far an answer has come, without a voucher. So many tokens
    /// are now queued for the journal.
    pub(crate) async fn progress(&self, request: RequestId) -> Result<u32, PaymentError> {
        let mut journaled = 0;
        let promise = self.record(|earning| {
            let (progress, tokens) = earning.progress(request)?;
            journaled = tokens;
            Ok(Some(progress))
        });
        promise.await.map(|_| journaled)
    }

    /// Ends an answer: books it, makes that durable, and signs.
    pub(crate) async fn close(
        &self,
        closing: Closing,
        key: &NodeKey,
    ) -> Result<SignedReceipt, PaymentError> {
        let promise = self.record(|earning| Ok(Some(earning.close(closing)?)));
        let promise = promise.await?;
        failpoint::hit("provider.receipt.booked");
        let receipt = promise.wait().await?.pop();
        failpoint::hit("provider.receipt.journalled");
        Ok(receipt.ok_or(PaymentError::Journal)?.sign(key))
    }

    /// The contract says that so much was claimed.
    pub(crate) async fn claimed_to(&self, total: Amount) -> Result<(), PaymentError> {
        let mut news = false;
        let promise = self.record(|earning| {
            let claimed = earning.claimed_to(total);
            news = claimed.is_some();
            Ok(claimed)
        });
        let promise = promise.await?;
        if news {
            *lock(&self.claimed_at) = Some(Instant::now());
        }
        promise.wait().await.map(drop)
    }

    /// Whether the chain may still take its last claim back.
    pub(crate) fn claim_is_young(&self) -> bool {
        lock(&self.claimed_at).is_some_and(|at| at.elapsed() < YOUNG_FOR)
    }

    /// Waits until all that moved by now is durable.
    pub(crate) async fn caught_up(&self) -> Result<(), PaymentError> {
        self.record(|_| Ok(None)).await?.wait().await.map(drop)
    }

    /// Public-key work, unless it is the very voucher that counts now.
    fn verify(&self, voucher: &SignedVoucher) -> Result<(), PaymentError> {
        if self.till(|till| till.best() == Some(voucher)) {
            return Ok(());
        }
        Ok(voucher.verify(&self.config, &self.domain)?)
    }

    /// Moves the engine and queues what that means, in one go. Without a
    /// move, the promise is for those before it.
    async fn record(
        &self,
        act: impl FnOnce(&mut Earning) -> Result<Option<Move<TillEvent>>, PaymentError>,
    ) -> Result<Promise, PaymentError> {
        let place = self
            .writes()
            .reserve()
            .await
            .map_err(|_| PaymentError::Journal)?;
        let (done, promised) = oneshot::channel();
        let mut earning = self.books.earning();
        let moved = act(&mut earning)?;
        let events = moved.as_ref().map_or(&[][..], Move::events);
        place.send(Write {
            entries: events.iter().map(till_entry).collect(),
            id: moved.as_ref().map(Move::id),
            done,
        });
        Ok(Promise(promised))
    }
}

/// Writes until the last handle is gone, or the journal fails. After a
/// failure nothing of this channel can be made durable any more: all who wait
/// learn that, and vouchers do not count.
async fn write(journal: Journal, mut queue: mpsc::Receiver<Write>, books: Arc<Books>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, WRITES_AT_ONCE).await > 0 {
        let entries: Vec<_> = batch
            .iter_mut()
            .flat_map(|write| std::mem::take(&mut write.entries))
            .collect();
        if let Err(failure) = append(&journal, entries).await {
            error!(journal = journal.name(), error = %failure, "channel closed");
            return;
        }
        failpoint::hit("provider.write.journalled");
        let mut earning = books.earning();
        for Write { id, done, .. } in batch.drain(..) {
            let receipts = match id.map(|id| earning.written(id)).transpose() {
                Ok(receipts) => receipts.unwrap_or_default(),
                Err(failure) => {
                    error!(journal = journal.name(), error = %failure, "channel closed");
                    return;
                }
            };
            // Who asked may be gone.
            let _ = done.send(receipts);
        }
        failpoint::hit("provider.write.counted");
        drop(earning);
        // Who asks only now looks at the till after that, and finds it moved.
        if let Some(moved) = books.moved.get() {
            moved.send_replace(());
        }
    }
}

/// Appends; a disk that is full is waited for, because the till has moved and
/// its journal must follow in the same order.
async fn append(journal: &Journal, entries: Vec<Entry>) -> Result<(), AppendError> {
    if entries.is_empty() {
        return Ok(());
    }
    loop {
        match journal.append(entries.clone()).await {
            Err(full @ AppendError::Full { .. }) => {
                warn!(journal = journal.name(), error = %full, "waiting");
                sleep(RETRY_AFTER).await;
            }
            written => return written.map(drop),
        }
    }
}

/// A journal's line about the till.
pub(crate) fn till_entry(event: &TillEvent) -> Entry {
    let (kind, key) = match event {
        TillEvent::Voucher { .. } => (VOUCHER, None),
        TillEvent::Progress { request, .. } => (PROGRESS, Some(request)),
        TillEvent::Refused { request } => (REFUSED, Some(request)),
        TillEvent::Receipted { receipt } => (RECEIPTED, Some(&receipt.request)),
        TillEvent::Claimed { .. } => (CLAIMED, None),
    };
    entry(kind, key.map(RequestId::to_string), event)
}

fn entry(kind: &str, key: Option<String>, payload: &impl Serialize) -> Entry {
    let payload = serde_json::to_vec(payload).expect("entries have only string keys");
    Entry {
        kind: kind.to_owned(),
        key,
        payload,
    }
}

/// The receipt in a journal's line.
pub(crate) fn receipt_in(entry: &Entry) -> Result<Option<Receipt>, serde_json::Error> {
    match serde_json::from_slice(&entry.payload)? {
        TillEvent::Receipted { receipt } => Ok(Some(*receipt)),
        _ => Ok(None),
    }
}
