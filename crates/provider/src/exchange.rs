//! One stream of a consumer: take or refuse the request, pass the answer on
//! step by step as it is paid for, and end with a receipt.
//!
//! Three things run side by side and none waits for another: the backend's
//! chunks going out, vouchers coming in, and the journal. When the consumer
//! leaves, in whatever way, the backend's stream is dropped first and the
//! books are closed after it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use market::{
    Earning, Go, Kind, LAST_VOUCHER_WITHIN, Moment, Outcome, Receipt, RequestId, Selling, Sold,
    TillError, Upstream,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};
use transport::message::{
    Ask, Failure, FailureKind, FromConsumer, FromProvider, Hello, Infer, Reason, Refusal,
};
use transport::{Incoming, ReceiveError, ReceiveHalf, SendError, SendHalf, Stream};

use crate::admit::{self, Admitted, refusal};
use crate::backend::{BackendChunk, BackendError, BackendFailure, ChunkStream, limited};
use crate::counters::{add, count};
use crate::desk::DeskError;
use crate::meter::Meter;
use crate::payment::{Channel, PaymentError};
use crate::reconcile;
use crate::sale::{Sale, Slot};
use crate::shell::Inner;

/// Time for the first message of a stream.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Time for a message to a consumer that does not read.
const SEND_WITHIN: Duration = Duration::from_secs(60);

/// The same when the answer is over already.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A backend that thinks for longer before it takes a request is not waited
/// for: the consumer is told that work began.
const BEGIN_AFTER: Duration = Duration::from_secs(10);

/// Chunks are sealed in as many cells as if their text had so many bytes, where
/// it has fewer: a word's length does not show.
const TEXT_ROOM_BYTES: usize = 64;

/// A stream on which there is nothing to say carries a sign of life this often.
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(200);

/// The longest that an answer may take: the private key that opened its
/// request lives as long as it does.
const ANSWER_WITHIN: Duration = Duration::from_secs(3600);

/// Chunks that are ready together go out in one write; no more than this.
const CHUNKS_AT_ONCE: usize = 16;

/// Serves one stream. What is not a sealed request gets no answer: nothing is
/// ever said in the clear.
pub(crate) async fn serve(inner: Arc<Inner>, incoming: Incoming) {
    let opened = timeout(ASK_WITHIN, open(&inner, incoming.stream)).await;
    let (ask, stream) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            count(&inner.counters.unopened);
            debug!(%error, "no request");
            return;
        }
        Err(_) => {
            count(&inner.counters.unopened);
            debug!("no request in time");
            return;
        }
    };
    failpoint::hit("provider.request.opened");
    let Stream { send, receive } = stream;
    match ask {
        Ask::Infer(infer) => Box::pin(infer_on(&inner, *infer, send, receive)).await,
        Ask::Receipts(ask) => reconcile::receipts(&inner, &ask, send).await,
    }
}

/// Opens a sealed request: cheap questions first, the private key last.
async fn open(inner: &Inner, mut stream: Stream) -> Result<(Ask, Stream), UnopenedError> {
    let hello = stream.receive.receive::<Hello>().await?;
    let Some(Hello::Sealed { token }) = hello else {
        return Err(UnopenedError::NotSealed);
    };
    let now = (inner.clock)();
    inner.desk.enter(token.as_ref(), now)?;
    stream.unseal(inner.desk.opener(now));
    let encapsulated = stream.receive.encapsulated().await?;
    inner.desk.not_again(&encapsulated)?;
    let ask = stream.receive.receive::<Ask>().await?;
    inner.desk.first(encapsulated, now)?;
    stream.respond()?;
    let ask = ask.ok_or(UnopenedError::NotSealed)?;
    Ok((ask, stream))
}

/// Why a stream brought no request. The other end learns nothing of it.
#[derive(Debug, thiserror::Error)]
enum UnopenedError {
    #[error("the stream is not a sealed request")]
    NotSealed,
    #[error(transparent)]
    Desk(#[from] DeskError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Somebody waits for a refusal or a receipt; stopping waits for that.
struct Answering(Arc<Inner>);

impl Answering {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.answering.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(inner))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn say_no(inner: &Inner, mut send: SendHalf, refusal: Refusal) {
    inner.counters.refused(refusal.reason);
    say_last(&mut send, &FromProvider::Refused(refusal)).await;
}

/// A last word; the peer may not be there for it.
pub(crate) async fn say_last(send: &mut SendHalf, message: &FromProvider) {
    let said = timeout(END_WITHIN, async {
        send.send(message).await?;
        send.finish().await
    });
    if !matches!(said.await, Ok(Ok(()))) {
        debug!("the peer did not wait for the last word");
    }
}

async fn infer_on(inner: &Arc<Inner>, infer: Infer, mut send: SendHalf, receive: ReceiveHalf) {
    let answering = Answering::new(inner);
    let admitted = match alive(&mut send, admit::admit(inner, &infer)).await {
        Ok(admitted) => admitted,
        Err(refusal) => return say_no(inner, send, refusal).await,
    };
    let journaled = Arc::new(AtomicU32::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let reader = Reader {
        inner: Arc::clone(inner),
        channel: Arc::clone(&admitted.channel),
        request: infer.request,
        receive,
        journaled: Arc::clone(&journaled),
        over: Arc::clone(&over),
    };
    let stopped = deaf(send.stopped(), Arc::clone(&over));
    let left = async move {
        tokio::select! {
            left = reader.run() => left,
            () = stopped => Left::Gone,
        }
    };
    tokio::pin!(left);
    let started = Instant::now();
    let beginning = begin(inner, &infer, admitted, left.as_mut());
    let (begun, channel) = match alive(&mut send, beginning).await {
        Ok(begun) => begun,
        Err(None) => return,
        Err(Some(refusal)) => return say_no(inner, send, refusal).await,
    };
    let sale = Arc::clone(&begun.sale);
    let exchange = Exchange {
        inner: Arc::clone(inner),
        id: format!("chatcmpl-{}", infer.request),
        request: infer.request,
        body_bytes: infer.body.len(),
        channel,
        sale: begun.sale,
        meter: begun.meter,
        journaled,
        over,
        send,
        selling: Selling::new(infer.request, inner.pay_within),
        started,
        first: None,
        held: None,
        last: None,
        answering: Some(answering),
    };
    exchange.run(begun.stream, begun.slot, left.as_mut()).await;
    sale.took(started.elapsed());
}

/// Waits for it, and says every now and then that somebody is there.
async fn alive<T>(send: &mut SendHalf, waiting: impl Future<Output = T>) -> T {
    tokio::pin!(waiting);
    loop {
        match timeout(KEEP_ALIVE_EVERY, &mut waiting).await {
            Ok(done) => return done,
            Err(_) => {
                // A consumer that is gone is noticed elsewhere.
                let _ = timeout(SEND_WITHIN, send.keep_alive()).await;
            }
        }
    }
}

/// Resolves when the consumer reads no more before all was said.
async fn deaf(stopped: impl Future<Output = ()>, over: Arc<AtomicBool>) {
    stopped.await;
    if over.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// A request that is paid, and that the backend works on.
struct Begun {
    sale: Arc<Sale>,
    slot: Slot,
    meter: Meter,
    stream: ChunkStream,
}

/// Waits for a slot, books the request, starts the backend. None: the
/// consumer left, and there is nobody to refuse.
async fn begin(
    inner: &Inner,
    infer: &Infer,
    admitted: Admitted,
    mut left: Pin<&mut impl Future<Output = Left>>,
) -> Result<(Begun, Arc<Channel>), Option<Refusal>> {
    let Admitted {
        sale,
        place,
        channel,
        work,
        bound,
        output_tokens_max,
    } = admitted;
    let stopping = inner.tasks.stopping();
    let slot = tokio::select! {
        biased;
        left = &mut left => return Err(left.before_begin()),
        () = stopping.cancelled() => return Err(Some(stopping_refusal())),
        slot = sale.slot(place) => slot.ok_or_else(|| Some(admit::busy(&sale)))?,
    };
    failpoint::hit("provider.slot.taken");
    let meter = Meter::new(bound, sale.counts.of(infer.body.len()));
    let sold = Sold {
        model: infer.model,
        rates: infer.rates,
        upstream: Upstream::declared(sale.config.upstream.as_deref()),
    };
    let paid = channel.admit(infer.request, sold, meter.input_estimate());
    let paid = paid.await;
    let durable = paid.map_err(|error| Some(admit::payment(&error)))?;

    failpoint::hit("provider.request.admitted");
    // The journal writes while the backend begins.
    let mut opening = sale.config.backend.answer(work);
    let opened = tokio::select! {
        biased;
        left = &mut left => Err(left.before_begin()),
        () = stopping.cancelled() => Err(Some(stopping_refusal())),
        opened = timeout(BEGIN_AFTER, &mut opening) => Ok(opened),
    };
    let stream = match opened {
        Ok(Ok(Ok(stream))) => {
            sale.is_well();
            stream
        }
        Ok(Ok(Err(error))) => return Err(unbegun(&sale, &channel, infer.request, &error).await),
        Ok(Err(_)) => late(opening),
        Err(answer) => {
            drop(opening);
            give_back(&channel, infer.request).await;
            return Err(answer);
        }
    };
    if let Err(error) = durable.wait().await {
        drop(stream);
        give_back(&channel, infer.request).await;
        return Err(Some(admit::payment(&error)));
    }
    failpoint::hit("provider.request.durable");
    let begun = Begun {
        sale,
        slot,
        meter,
        stream: limited(stream, output_tokens_max),
    };
    Ok((begun, channel))
}

/// The backend did not take it: nothing was done, nothing is owed.
async fn unbegun(
    sale: &Sale,
    channel: &Channel,
    request: RequestId,
    error: &BackendError,
) -> Option<Refusal> {
    sale.is_unwell(error);
    give_back(channel, request).await;
    Some(admit::backend(error, sale))
}

async fn give_back(channel: &Channel, request: RequestId) {
    failpoint::hit("provider.refusal.wished");
    let given_back = async { channel.refuse(request).await?.wait().await };
    if let Err(error) = given_back.await {
        warn!(channel = %channel.id, %error, "refused request not taken off the books");
    }
}

/// The answer of a backend that has yet to take the request.
fn late(opening: market::BoxFuture<'static, Result<ChunkStream, BackendError>>) -> ChunkStream {
    let opened = opening.map(|opened| match opened {
        Ok(stream) => stream,
        Err(error) => stream::once(async { Err(BackendFailure::from(error)) }).boxed(),
    });
    stream::once(opened).flatten().boxed()
}

fn stopping_refusal() -> Refusal {
    refusal(
        Reason::Unavailable,
        "the provider is stopping; ask another one",
    )
}

/// How a consumer goes before the end.
enum Left {
    /// It said so, and waits for the receipt.
    Leave,
    /// It is not there any more.
    Gone,
    /// It sent what is no voucher.
    Fraud(String),
}

impl Left {
    /// What it is told if nothing was begun.
    fn before_begin(self) -> Option<Refusal> {
        match self {
            Self::Gone => None,
            Self::Leave => Some(refusal(Reason::Unavailable, "left before it began")),
            Self::Fraud(problem) => Some(refusal(Reason::Payment, problem)),
        }
    }
}

/// Reads what the consumer says while its answer runs.
struct Reader {
    inner: Arc<Inner>,
    channel: Arc<Channel>,
    request: RequestId,
    receive: ReceiveHalf,
    /// So many tokens went to the journal beside a voucher.
    journaled: Arc<AtomicU32>,
    /// All was said: nothing more is expected than a last voucher.
    over: Arc<AtomicBool>,
}

impl Reader {
    /// Ends when the consumer leaves. One that only has no more to say stays.
    async fn run(mut self) -> Left {
        loop {
            let message = match self.receive.receive::<FromConsumer>().await {
                Ok(Some(message)) => message,
                Ok(None) if self.over.load(Ordering::Relaxed) => return Left::Gone,
                Ok(None) => std::future::pending().await,
                Err(error) => {
                    debug!(request = %self.request, %error, "the consumer is gone");
                    return Left::Gone;
                }
            };
            let (voucher, read_tokens) = match message {
                FromConsumer::Leave => {
                    failpoint::hit("provider.leave.received");
                    return Left::Leave;
                }
                FromConsumer::Pay {
                    voucher,
                    read_tokens,
                } => (voucher, read_tokens),
            };
            failpoint::hit("provider.step.received");
            let mut paid = self.channel.pay(&voucher, self.request, read_tokens).await;
            if let Err(PaymentError::Till(TillError::BeyondEscrow { .. })) = paid {
                // It may come right after a deposit.
                if let Err(error) = self.inner.sessions.reread(&self.channel).await {
                    debug!(channel = %self.channel.id, %error, "escrow not read");
                }
                paid = self.channel.pay(&voucher, self.request, read_tokens).await;
            }
            match paid {
                Ok(tokens) => {
                    failpoint::hit("provider.step.queued");
                    self.journaled.fetch_max(tokens, Ordering::Relaxed);
                }
                Err(error @ PaymentError::Voucher(_)) => return Left::Fraud(error.to_string()),
                // It does not count; if it was needed, the answer will end unpaid.
                Err(error) => debug!(request = %self.request, %error, "voucher not taken"),
            }
        }
    }
}

/// Chunks that go out together.
#[derive(Default)]
struct Batch {
    messages: Vec<FromProvider>,
    /// What their texts leave of their room.
    room: usize,
}

/// How an answer ended.
enum Ended {
    Complete,
    Left(Left),
    Unpaid,
    Backend(BackendFailure),
    /// It went on for longer than an epoch's key may be kept for it.
    TooLong,
    Stopping,
    /// Amounts left their range, or the books do not know the answer.
    Books(TillError),
}

impl Ended {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Complete => Outcome::Complete,
            Self::Left(_) | Self::Unpaid => Outcome::Cancelled,
            Self::Backend(_) | Self::TooLong | Self::Stopping | Self::Books(_) => Outcome::Failed,
        }
    }

    fn failure(&self) -> Option<Failure> {
        let (kind, message) = match self {
            Self::Complete | Self::Left(Left::Leave | Left::Gone) => return None,
            Self::Left(Left::Fraud(problem)) => (FailureKind::Unpaid, problem.clone()),
            Self::Unpaid => (
                FailureKind::Unpaid,
                "no voucher came for the next step".to_owned(),
            ),
            Self::Backend(failure) => (FailureKind::Backend, told(failure)),
            Self::TooLong => (
                FailureKind::Stopping,
                format!("answers may take {} s", ANSWER_WITHIN.as_secs()),
            ),
            Self::Stopping => (FailureKind::Stopping, "the provider is stopping".to_owned()),
            Self::Books(error) => (FailureKind::Backend, error.to_string()),
        };
        Some(Failure { kind, message })
    }
}

/// What a consumer is told of a backend's failure.
fn told(failure: &BackendFailure) -> String {
    match failure {
        BackendFailure::Late(error) => admit::told(error),
        failure => failure.to_string(),
    }
}

/// One running answer.
struct Exchange {
    inner: Arc<Inner>,
    channel: Arc<Channel>,
    sale: Arc<Sale>,
    request: RequestId,
    /// How long the request is.
    body_bytes: usize,
    /// The answer's id in its chunks.
    id: String,
    meter: Meter,
    /// So many tokens are in the journal.
    journaled: Arc<AtomicU32>,
    /// All was said; the consumer may stop reading.
    over: Arc<AtomicBool>,
    send: SendHalf,
    /// Decides when a chunk may go out.
    selling: Selling,
    started: Instant,
    /// From then to its first chunk.
    first: Option<Duration>,
    /// A chunk that waits for its voucher.
    held: Option<BackendChunk>,
    /// How it ends, once what goes before has gone out.
    last: Option<Ended>,
    answering: Option<Answering>,
}

impl Exchange {
    async fn run(
        mut self,
        stream: ChunkStream,
        slot: Slot,
        mut left: Pin<&mut impl Future<Output = Left>>,
    ) {
        count(&self.inner.counters.begun);
        let tokens = self.inner.desk.tokens((self.inner.clock)());
        failpoint::hit("provider.begin.ready");
        let begin = FromProvider::Begin { tokens };
        let ended = match timeout(SEND_WITHIN, self.send.send(&begin)).await {
            Ok(Ok(())) => self.pump(stream, left.as_mut()).await,
            _ => Ended::Left(Left::Gone),
        };
        drop(slot);
        let ended = self.until_billable(ended, left.as_mut()).await;
        self.end(&ended).await;
        drop(self.answering.take());
        if !matches!(ended, Ended::Left(_)) {
            // The last step may have run ahead of the vouchers.
            let _ = timeout(LAST_VOUCHER_WITHIN, left).await;
        }
    }

    /// Passes chunks on until something ends it. The backend's stream is gone
    /// when this returns.
    async fn pump(
        &mut self,
        mut stream: ChunkStream,
        mut left: Pin<&mut impl Future<Output = Left>>,
    ) -> Ended {
        let stopping = self.inner.tasks.stopping().clone();
        let long = sleep(ANSWER_WITHIN);
        tokio::pin!(long);
        loop {
            let batch = loop {
                tokio::select! {
                    biased;
                    left = &mut left => return Ended::Left(left),
                    () = stopping.cancelled() => return Ended::Stopping,
                    () = &mut long => return Ended::TooLong,
                    batch = self.batch(&mut stream) => break batch,
                    () = sleep(KEEP_ALIVE_EVERY) => {}
                }
                if !matches!(
                    timeout(SEND_WITHIN, self.send.keep_alive()).await,
                    Ok(Ok(()))
                ) {
                    return Ended::Left(Left::Gone);
                }
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(ended) => return ended,
            };
            {
                let sending = self.send.send_many_in(&batch.messages, batch.room);
                let sending = timeout(SEND_WITHIN, sending);
                tokio::pin!(sending);
                tokio::select! {
                    biased;
                    left = &mut left => {
                        drop(stream);
                        // A message is sent whole or the stream is of no more use.
                        if !matches!(left, Left::Gone) {
                            let _ = timeout(END_WITHIN, sending).await;
                        }
                        return Ended::Left(left);
                    }
                    sent = &mut sending => match sent {
                        Ok(Ok(())) => {}
                        _ => return Ended::Left(Left::Gone),
                    },
                }
            }
            failpoint::hit("provider.chunk.sent");
            self.first.get_or_insert_with(|| self.started.elapsed());
            if let Some(ended) = self.last.take() {
                return ended;
            }
            self.journal().await;
        }
    }

    /// A chunk larger than a step is billed once it is paid for; an answer that
    /// had none is billable as it is.
    async fn until_billable(
        &mut self,
        ended: Ended,
        mut left: Pin<&mut impl Future<Output = Left>>,
    ) -> Ended {
        if !matches!(ended, Ended::Complete | Ended::Backend(_)) {
            return ended;
        }
        let stopping = self.inner.tasks.stopping().clone();
        loop {
            tokio::select! {
                biased;
                left = &mut left => return Ended::Left(left),
                () = stopping.cancelled() => return ended,
                paid = self.paid_for(Selling::bill) => return match paid {
                    Ok(()) => ended,
                    Err(unpaid) => unpaid,
                },
                () = sleep(KEEP_ALIVE_EVERY) => {}
            }
            if !matches!(
                timeout(SEND_WITHIN, self.send.keep_alive()).await,
                Ok(Ok(()))
            ) {
                return Ended::Left(Left::Gone);
            }
        }
    }

    /// Writes how far it has come, if no voucher did that for a step.
    async fn journal(&self) {
        let journaled = self.journaled.load(Ordering::Relaxed);
        if !self.selling.lags(journaled) {
            return;
        }
        match self.channel.progress(self.request).await {
            Ok(tokens) => {
                failpoint::hit("provider.progress.queued");
                self.journaled.fetch_max(tokens, Ordering::Relaxed);
            }
            Err(error) => {
                warn!(channel = %self.channel.id, %error, "progress not journaled");
            }
        }
    }

    /// The next chunks: one that is waited for, and what is ready behind it. A
    /// chunk that nobody has paid for is held until its voucher is there.
    async fn batch(&mut self, stream: &mut ChunkStream) -> Result<Batch, Ended> {
        let mut batch = Batch::default();
        let mut next = match self.held.take() {
            Some(held) => Some(Ok(held)),
            None => stream.next().await,
        };
        loop {
            match next {
                Some(Ok(chunk)) => {
                    let meter = self.meter.with(&chunk.facts);
                    let tokens = meter.tokens();
                    let selling = &self.selling;
                    let may = self
                        .channel
                        .earning(|earning| selling.may_deliver(earning, tokens));
                    if !may.map_err(Ended::Books)? {
                        self.held = Some(chunk);
                        failpoint::hit("provider.chunk.held");
                        if !batch.messages.is_empty() {
                            break;
                        }
                        // It may be cut short, for a sign of life; the chunk stays.
                        self.paid_for(|selling, earning, now| {
                            selling.deliver(earning, tokens, now)
                        })
                        .await?;
                        next = self.held.take().map(Ok);
                        continue;
                    }
                    match self.metered(&chunk, meter) {
                        Ok(message) => {
                            batch.messages.push(message);
                            batch.room += TEXT_ROOM_BYTES.saturating_sub(chunk.facts.text_bytes);
                        }
                        Err(ended) => self.last = Some(ended),
                    }
                }
                Some(Err(failure)) => self.last = Some(Ended::Backend(failure)),
                None => self.last = Some(Ended::Complete),
            }
            if self.last.is_some() || batch.messages.len() == CHUNKS_AT_ONCE {
                break;
            }
            match stream.next().now_or_never() {
                Some(ready) => next = ready,
                None => break,
            }
        }
        if batch.messages.is_empty()
            && let Some(ended) = self.last.take()
        {
            return Err(ended);
        }
        Ok(batch)
    }

    /// A chunk as it goes out.
    fn metered(&mut self, chunk: &BackendChunk, meter: Meter) -> Result<FromProvider, Ended> {
        let json = match self.sale.config.kind() {
            Kind::Chat => openai::with_identity(&chunk.json, &self.id, &self.sale.config.name)
                .map_err(|error| Ended::Backend(BackendFailure::Garbage(error.into())))?,
            // Pieces of vectors have no names.
            Kind::Embeddings => chunk.json.clone(),
        };
        self.meter = meter;
        let tokens = self.meter.tokens();
        let (selling, input) = (&mut self.selling, self.meter.input_estimate());
        let delivered = self
            .channel
            .earning(|earning| selling.delivered(earning, input, tokens));
        delivered.map_err(Ended::Books)?;
        failpoint::hit("provider.chunk.metered");
        Ok(FromProvider::Chunk { tokens, json })
    }

    /// Waits for a voucher that is enough, if it is not there.
    async fn paid_for(
        &mut self,
        ask: impl Fn(&mut Selling, &Earning, Moment) -> Result<Go, TillError>,
    ) -> Result<(), Ended> {
        let mut moved = self.channel.moved();
        loop {
            let waited = self.selling.is_waiting();
            let now = Moment::new(self.started.elapsed());
            let selling = &mut self.selling;
            let go = self.channel.earning(|earning| ask(selling, earning, now));
            let until = match go.map_err(Ended::Books)? {
                Go::On => return Ok(()),
                Go::Unpaid => return Err(Ended::Unpaid),
                Go::Wait { until } => until,
            };
            if !waited {
                count(&self.inner.counters.waits_for_payment);
            }
            // What came of the wait is seen in the engine.
            let _ = timeout(until.since(now), moved.changed()).await;
        }
    }

    /// Books the answer, and gives the receipt to whoever is there for it.
    async fn end(&mut self, ended: &Ended) {
        if let Ended::Backend(failure) = ended {
            let cause = std::error::Error::source(failure).map(ToString::to_string);
            warn!(request = %self.request, %failure, cause, "answer broke off");
        }
        let outcome = ended.outcome();
        if let (Outcome::Complete, Some(counted)) = (outcome, self.meter.input_counted()) {
            self.sale.counts.learn(self.body_bytes, counted);
        }
        let closing = self.selling.closing(
            outcome,
            self.meter.input_billed(outcome),
            self.meter.output_billed(),
            (self.inner.clock)(),
        );
        count(match closing.outcome {
            Outcome::Complete => &self.inner.counters.completed,
            Outcome::Cancelled => &self.inner.counters.cancelled,
            Outcome::Failed => &self.inner.counters.failed,
        });
        let (took, tokens) = (self.started.elapsed(), self.meter.tokens());
        let times = &self.sale.times;
        times.ended(closing.outcome, took, self.first, tokens);
        let receipt = match self.channel.close(closing, &self.inner.node_key).await {
            Ok(receipt) => receipt,
            Err(error) => {
                warn!(channel = %self.channel.id, %error, "no receipt");
                return;
            }
        };
        failpoint::hit("provider.receipt.signed");
        self.billed(&receipt.receipt);
        self.inner.earned.notify_one();
        self.inner.earnings.send_replace(());
        if !matches!(ended, Ended::Left(Left::Gone)) {
            let failure = ended.failure();
            self.over.store(true, Ordering::Relaxed);
            say_last(&mut self.send, &FromProvider::End { receipt, failure }).await;
            failpoint::hit("provider.receipt.sent");
        }
    }

    fn billed(&self, receipt: &Receipt) {
        let counters = &self.inner.counters;
        add(&counters.input_tokens, receipt.input_tokens.into());
        add(&counters.output_tokens, receipt.output_tokens.into());
    }
}
