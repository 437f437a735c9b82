//! One answer from one provider: ask, read on, pay step by step, book the
//! receipt at the end.
//!
//! Reading never waits for paying. Chunks flow on while the next ceiling is
//! written to the journal and its voucher signed; the rule of exposure leaves
//! one step for that. When the caller leaves, the provider is told so and its
//! receipt is still awaited for a moment, so that the books close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::paths::{Carrier, Way};
use bytes::Bytes;
use market::{
    Amount, BEGIN_WITHIN, Buying, BuyingError, ChannelTerms, InputBound, LAST_VOUCHER_WITHIN,
    Labels, Moment, PurseError, RequestId, SIGN_OF_LIFE_WITHIN, Said, SignedReceipt, SignedVoucher,
    Turn, with_causes,
};
use openai::Request;
use openai::embeddings::Rows;
use seal::Pacing;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use transport::message::{Ask, Failure, FromConsumer, FromProvider, Infer, Reason, Refusal};
use transport::{ReceiveError, ReceiveHalf, SendHalf, Stream};

use crate::answer::{Part, Summary, Word};
use crate::attempt::Attempt;
use crate::budgets::{Budget, BudgetError, Held, Price, Purchase};
use crate::catalog::Seller;
use crate::error::{BrokenError, InferError};
use crate::payment::{Channel, PaymentError, Reserved};
use crate::reconcile::reconcile_first;
use crate::restore::revive;
use crate::router::{Asking, Candidate};
use crate::routes::RouteId;
use crate::session::SessionError;
use crate::shell::Inner;
use crate::speaking::Speaking;

/// Time for the padding behind the last word.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Pieces on their way to a caller that reads slowly; beyond it the provider waits.
const PIECES_BUFFERED: usize = 32;

/// Deposits tried for one request before it counts as unpayable.
const TOP_UPS: usize = 3;

/// A request on its way around.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(crate) request: &'a Request,
    pub(crate) route: RouteId,
    pub(crate) pacing: Pacing,
    /// What it counts against.
    pub(crate) budget: Option<&'a Budget>,
    /// When it was begun; others may have been asked since.
    pub(crate) started: Instant,
    /// Whether the provider has it: until then what takes long is this node's own doing.
    pub(crate) is_out: &'a AtomicBool,
}

/// Asks one provider. Returns once the first piece is there. One that waits at
/// several relays is asked again if the first of them does not reach it, and anyone
/// if what is lost is the guard that carried.
pub(crate) async fn begin(
    inner: &Arc<Inner>,
    candidate: &Candidate,
    errand: Errand<'_>,
) -> Result<Part, Attempt> {
    let guard = inner.paths.carrying();
    let begun = Box::pin(begin_once(inner, candidate, errand)).await;
    let has_way = || inner.paths.has_detour(&candidate.seller) || inner.paths.carrying() != guard;
    match &begun {
        Err(Attempt::Elsewhere {
            error: InferError::Path { .. },
            ..
        }) if has_way() => Box::pin(begin_once(inner, candidate, errand)).await,
        _ => begun,
    }
}

async fn begin_once(
    inner: &Arc<Inner>,
    candidate: &Candidate,
    errand: Errand<'_>,
) -> Result<Part, Attempt> {
    let provider = candidate.seller.address;
    let asking = inner.router.asking(candidate);
    let seller = &candidate.seller;
    let terms = candidate.terms();
    let body = errand.request.upstream_body(&candidate.offer.name);
    let bound = bound(candidate, errand.request, &body);
    let longest = longest(candidate, errand.request);
    let id = inner.new_request_id();
    let mut held = hold(inner, candidate, errand, (id, bound, longest))?;
    Box::pin(revive(inner, candidate)).await;
    let opening = inner.paths.open_at(seller, errand.pacing, inner.now());
    let (channel, way) = tokio::join!(inner.sessions.acquire(&terms), opening);
    let channel = channel.map_err(|error| Attempt::unpayable(provider, error))?;
    let Way { stream, carrier } = way.map_err(|error| Attempt::lost(provider, &error))?;
    let channel = reconciled(inner, seller, &terms, channel).await?;

    let reserved = reserve(inner, &channel, (id, bound), candidate, held.as_mut()).await;
    let (reserved, voucher) = reserved.map_err(|error| Attempt::unpayable(provider, error))?;
    failpoint::hit("consumer.voucher.signed");
    let debt = Debt {
        inner: Arc::clone(inner),
        seller: Arc::clone(seller),
        channel: Arc::clone(&channel),
        reserved,
        held,
    };
    let key = channel.hot_key();
    let key = key.map_err(|error| Attempt::unpayable(provider, error.into()))?;
    let infer = Infer {
        request: id,
        signature: key.sign_message(Infer::signed_text(id, channel.id).as_bytes()),
        channel: channel.config,
        voucher,
        model: candidate.offer.model,
        rates: candidate.offer.quote.rates,
        body,
    };
    let Stream { mut send, receive } = stream;
    let buying = Buying::new(id, longest, Moment::new(errand.started.elapsed()));
    let asked_at = Instant::now();
    let asked = send.send(&Ask::Infer(Box::new(infer))).await;
    asked.map_err(|error| Attempt::lost(provider, &error))?;
    failpoint::hit("consumer.request.sent");
    errand.is_out.store(true, Ordering::Relaxed);

    let exchange = Exchange {
        inner: Arc::clone(inner),
        route: errand.route,
        pacing: errand.pacing,
        labels: inner.labels(&candidate.offer),
        candidate: candidate.clone(),
        carrier,
        channel,
        debt,
        buying,
        rows: expected(errand.request),
        started: errand.started,
        asked_at,
        _asking: asking,
        ttft: None,
        speaking: Speaking::new(errand.pacing),
        receive,
        dues: Arc::default(),
    };
    exchange.begun(send).await
}

/// The channel once its receipts are here; another one, if they put it out of use.
async fn reconciled(
    inner: &Inner,
    seller: &Seller,
    terms: &ChannelTerms,
    channel: Arc<Channel>,
) -> Result<Arc<Channel>, Attempt> {
    let provider = seller.address;
    let reconciled = reconcile_first(&inner.paths, seller, &channel, inner.now()).await;
    reconciled.map_err(|error| Attempt::lost(provider, &error))?;
    if !channel.is_out_of_use() {
        return Ok(channel);
    }
    let other = inner.sessions.acquire(terms).await;
    other.map_err(|error| Attempt::unpayable(provider, error))
}

/// What the request may cost, as its provider will reckon.
fn bound(candidate: &Candidate, request: &Request, body: &Bytes) -> InputBound {
    let bound = InputBound::of_body(body.len());
    bound.within_each(candidate.offer.context_length, request.texts())
}

/// The vectors that are to come; none for words.
fn expected(request: &Request) -> Option<Rows> {
    match request {
        Request::Chat(_) => None,
        Request::Embeddings(request) => Some(Rows::of(request)),
    }
}

/// How many tokens the answer may have: what was asked for, or what is sold.
fn longest(candidate: &Candidate, request: &Request) -> Option<u32> {
    let limits = [
        request.max_output_tokens(),
        candidate.offer.output_tokens_max,
    ];
    limits.into_iter().flatten().min()
}

/// Holds what a request may cost at most of its key's budget, if it has one.
fn hold(
    inner: &Inner,
    candidate: &Candidate,
    errand: Errand<'_>,
    (request, bound, longest): (RequestId, InputBound, Option<u32>),
) -> Result<Option<Held>, Attempt> {
    let Some(budget) = errand.budget else {
        return Ok(None);
    };
    let (provider, offer) = (candidate.seller.address, &candidate.offer);
    let short = |error: BudgetError| Attempt::elsewhere(error.into());
    let limits = [longest, offer.context_length].into_iter().flatten();
    let Some(longest) = limits.min() else {
        return Err(short(BudgetError::Unlimited { provider }));
    };
    // What no amount can hold no budget can.
    let rates = offer.quote.rates;
    let cost = |output| {
        let cost = rates.cost(bound.ceiling, output);
        cost.unwrap_or(Amount::new(u128::MAX))
    };
    let (most, least) = (cost(longest), cost(longest.min(1)));
    let token = offer.quote.token;
    let rate = inner.usd_rates.borrow().rate(token).cloned();
    let price = Price {
        token,
        most,
        least,
        rate,
    };
    let symbol = inner.policy.symbol(token);
    let buys = Purchase {
        provider,
        model: &offer.name,
        symbol: &symbol,
    };
    let held = inner
        .budgets
        .hold(budget, request, buys, price, inner.now());
    held.map(Some).map_err(short)
}

async fn reserve(
    inner: &Inner,
    channel: &Arc<Channel>,
    (request, bound): (RequestId, InputBound),
    candidate: &Candidate,
    held: Option<&mut Held>,
) -> Result<(Reserved, SignedVoucher), SessionError> {
    let rates = candidate.offer.quote.rates;
    if let Some(held) = &held {
        held.write(channel.id).await?;
    }
    for _ in 0..TOP_UPS {
        match channel.ask(request, rates, bound).await {
            Err(PaymentError::Purse(PurseError::Escrow { needed, .. })) => {
                inner.sessions.top_up(channel, needed).await?;
            }
            outcome => {
                let reserved = outcome?;
                held.into_iter().for_each(Held::asked);
                return Ok(reserved);
            }
        }
    }
    let escrow = channel.purse(|purse| purse.escrow());
    Err(PaymentError::from(PurseError::Escrow {
        escrow,
        needed: escrow,
    })
    .into())
}

/// What the reading side tells the paying side.
#[derive(Default)]
struct Dues {
    due: Notify,
    /// Tokens read and reckoned with in the purse.
    read_tokens: AtomicU32,
    leaving: CancellationToken,
    /// The answer has ended.
    over: CancellationToken,
}

/// What a request may come to. Dropped before its receipt was booked, it asks
/// for that in the background.
struct Debt {
    inner: Arc<Inner>,
    seller: Arc<Seller>,
    channel: Arc<Channel>,
    reserved: Reserved,
    /// Of its key's budget.
    held: Option<Held>,
}

impl Debt {
    /// Nothing came of the request.
    fn refused(&mut self) {
        self.reserved.close();
        self.held.iter().for_each(Held::refused);
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.reserved.is_open() {
            return;
        }
        let (inner, seller, channel) = (
            Arc::clone(&self.inner),
            Arc::clone(&self.seller),
            Arc::clone(&self.channel),
        );
        self.inner
            .tasks
            .spawn(async move { inner.mend(&seller, &channel).await });
    }
}

struct Exchange {
    inner: Arc<Inner>,
    route: RouteId,
    pacing: Pacing,
    labels: Labels,
    candidate: Candidate,
    carrier: Option<Carrier>,
    channel: Arc<Channel>,
    debt: Debt,
    buying: Buying,
    /// What is still expected, of vectors.
    rows: Option<Rows>,
    started: Instant,
    /// When this provider was asked; others may have been before.
    asked_at: Instant,
    _asking: Asking,
    ttft: Option<Duration>,
    speaking: Speaking,
    receive: ReceiveHalf,
    dues: Arc<Dues>,
}

/// One message of the provider, seen by the reader.
enum Step {
    /// With so many vectors, if it is of those.
    Chunk(Bytes, usize),
    End(Box<SignedReceipt>, Option<Failure>),
}

impl Exchange {
    /// Waits for the provider to take the request. Its refusal, if it does not.
    async fn taken(&mut self) -> Result<Option<Refusal>, Attempt> {
        let provider = self.candidate.seller.address;
        let failed = |message: String| Attempt::failed(provider, message);
        let patience = self.buying.patience(self.moment());
        let opening = self
            .receive
            .receive_alive::<FromProvider>(SIGN_OF_LIFE_WITHIN);
        match timeout(patience, opening).await {
            Ok(Ok(Some(FromProvider::Begin { tokens }))) => {
                failpoint::hit("consumer.begin.received");
                self.inner.router.taken(provider, self.asked_at.elapsed());
                self.hear(Said::Begin)
                    .map_err(|error| failed(error.to_string()))?;
                self.inner.paths.keep(provider, tokens);
                self.channel.contented(true);
                Ok(None)
            }
            Ok(Ok(Some(FromProvider::Refused(refusal)))) => {
                failpoint::hit("consumer.refusal.received");
                self.hear(Said::Refused)
                    .map_err(|error| failed(error.to_string()))?;
                self.debt.refused();
                if refusal.reason == Reason::Payment {
                    self.channel.contented(false);
                }
                Ok(Some(refusal))
            }
            Ok(Ok(_)) => Err(failed("it spoke out of turn".into())),
            Ok(Err(error)) => {
                self.inner.paths.broke(self.carrier.as_ref(), &error).await;
                Err(Attempt::lost(provider, &error))
            }
            Err(_) => {
                let waited = BEGIN_WITHIN.as_secs();
                Err(failed(format!(
                    "it neither took nor refused the request within {waited} s"
                )))
            }
        }
    }

    /// Waits for the provider to take the request and for the first piece.
    async fn begun(mut self, send: SendHalf) -> Result<Part, Attempt> {
        let provider = self.candidate.seller.address;
        let failed = |message: String| Attempt::failed(provider, message);
        if let Some(refusal) = self.taken().await? {
            let refused = Attempt::refused(refusal, &self.candidate);
            self.linger(send);
            return Err(refused);
        }

        let first = match self.step().await {
            Ok(Step::Chunk(json, rows)) => Ok(self.chunk(json, rows)),
            Ok(Step::End(receipt, None)) => self.ended(&receipt, None).await,
            Ok(Step::End(receipt, Some(failure))) => {
                if let Err(error) = self.book(&receipt).await {
                    warn!(%error, "receipt of a failed answer not booked");
                }
                return Err(failed(failure.message));
            }
            Err(problem) => return Err(failed(problem.problem)),
        };
        let (labels, token) = (self.labels, self.candidate.offer.quote.token);
        let route = self.route;
        let model = self.candidate.offer.name.clone();
        let card = self.candidate.offer.card_id();
        let ended = !matches!(first, Ok(Word::Chunk { .. }));
        let ttft = self.started.elapsed();
        self.ttft = Some(ttft);
        self.inner
            .router
            .first(&self.candidate, self.asked_at.elapsed());

        let (out, rest) = mpsc::channel(PIECES_BUFFERED);
        let cancel = self.inner.stop.child_token();
        let guard = cancel.clone().drop_guard();
        let request = self.buying.request();
        match ended {
            true => self.linger(send),
            false => {
                let inner = Arc::clone(&self.inner);
                inner.tasks.spawn(self.run(send, out, cancel));
            }
        }
        Ok(Part {
            request,
            provider,
            token,
            labels,
            model,
            card,
            route: Some(route),
            first: Some(first),
            rest,
            _guard: guard,
        })
    }

    /// Stays on a paced stream until its padding ended, so that an answer of one
    /// word looks like any other.
    fn linger(self, send: SendHalf) {
        if self.pacing == Pacing::Fast {
            return;
        }
        let inner = Arc::clone(&self.inner);
        inner.tasks.spawn(async move {
            let mut receive = self.receive;
            drained(&mut receive).await;
            drop(send);
        });
    }

    /// Reads to the end, or until the caller leaves.
    async fn run(
        mut self,
        send: SendHalf,
        out: mpsc::Sender<Result<Word, BrokenError>>,
        cancel: CancellationToken,
    ) {
        let provider = self.candidate.seller.address;
        let payer = Payer {
            inner: Arc::clone(&self.inner),
            channel: Arc::clone(&self.channel),
            dues: Arc::clone(&self.dues),
            send,
        };
        let inner = Arc::clone(&self.inner);
        let paying = payer.run();
        tokio::pin!(paying);
        let mut is_ours = false;
        let last = tokio::select! {
            biased;
            last = self.read(&out, &cancel) => last,
            Err(error) = &mut paying => {
                is_ours = error.is_this_nodes();
                let error = with_causes(&error);
                Some(Err(self.broken(format!("it could not be paid on: {error}"))))
            }
        };
        let failed = matches!(last, Some(Err(_) | Ok(Word::Billed(..))));
        if failed {
            inner.router.lost(self.route, provider, is_ours);
        }
        let complete = matches!(last, Some(Ok(Word::End(_))));
        if let Some(last) = last {
            // The caller may have left meanwhile.
            let _ = out.send(last).await;
        }
        let outlives = match complete {
            true => tokio::select! {
                () = drained(&mut self.receive) => true,
                _ = &mut paying => false,
            },
            false => false,
        };
        self.dues.over.cancel();
        if outlives {
            // If it does not get through, the next request brings it.
            let _ = timeout(LAST_VOUCHER_WITHIN, paying).await;
        }
    }

    /// Passes pieces on. None: the caller left, and there is nobody to tell.
    async fn read(
        &mut self,
        out: &mpsc::Sender<Result<Word, BrokenError>>,
        cancel: &CancellationToken,
    ) -> Option<Result<Word, BrokenError>> {
        loop {
            let step = tokio::select! {
                biased;
                () = cancel.cancelled() => return self.leave().await,
                step = self.step() => step,
            };
            let (json, rows) = match step {
                Ok(Step::Chunk(json, rows)) => (json, rows),
                Ok(Step::End(receipt, failure)) => {
                    return Some(self.ended(&receipt, failure).await);
                }
                Err(broken) => return Some(Err(broken)),
            };
            let full_at = Instant::now();
            let room = tokio::select! {
                biased;
                () = cancel.cancelled() => return self.leave().await,
                room = out.reserve() => room,
            };
            self.speaking.waited(full_at.elapsed());
            match room {
                Ok(room) => room.send(Ok(self.chunk(json, rows))),
                Err(_) => return self.leave().await,
            }
        }
    }

    /// Tells the provider to stop, and waits a moment for its receipt.
    async fn leave(&mut self) -> Option<Result<Word, BrokenError>> {
        self.dues.leaving.cancel();
        self.buying.leave(self.moment());
        failpoint::hit("consumer.leave.told");
        while let Ok(step) = self.step().await {
            if let Step::End(receipt, _) = step {
                if let Err(error) = self.finish(&receipt).await {
                    debug!(%error, "receipt of an abandoned answer not booked");
                }
                break;
            }
        }
        None
    }

    async fn ended(
        &mut self,
        receipt: &SignedReceipt,
        failure: Option<Failure>,
    ) -> Result<Word, BrokenError> {
        let summary = self.finish(receipt).await?;
        let whole = match failure {
            None => self.whole(),
            Some(failure) => Err(self.broken(failure.message)),
        };
        Ok(match whole {
            Ok(()) => Word::End(summary),
            Err(broken) => Word::Billed(summary, broken),
        })
    }

    /// The next message, metered.
    async fn step(&mut self) -> Result<Step, BrokenError> {
        let patience = self.buying.patience(self.moment());
        let receiving = self
            .receive
            .receive_alive::<FromProvider>(SIGN_OF_LIFE_WITHIN);
        let message = match timeout(patience, receiving).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => {
                return Err(self.broken("the provider closed the stream without a receipt".into()));
            }
            Ok(Err(error @ ReceiveError::Late { .. })) => {
                self.inner.paths.broke(self.carrier.as_ref(), &error).await;
                return Err(self.broken("the path failed: nothing is heard any more".into()));
            }
            Ok(Err(error)) => {
                self.inner.paths.strayed(self.carrier.as_ref(), &error);
                return Err(self.broken(format!("the path failed: {}", with_causes(&error))));
            }
            Err(_) => {
                let silence = patience.as_secs();
                return Err(self.broken(format!("the provider said nothing for {silence} s")));
            }
        };
        match message {
            FromProvider::Chunk { tokens, json } => {
                failpoint::hit("consumer.chunk.received");
                let rows = self.metered(tokens, &json)?;
                failpoint::hit("consumer.chunk.metered");
                self.speaking
                    .heard(self.buying.tokens(), self.started.elapsed());
                Ok(Step::Chunk(json, rows))
            }
            FromProvider::End { receipt, failure } => {
                failpoint::hit("consumer.receipt.received");
                self.heard(Said::End)?;
                Ok(Step::End(Box::new(receipt), failure))
            }
            _ => Err(self.broken("the provider spoke out of turn".into())),
        }
    }

    /// Reckons with a chunk. How many vectors it brings.
    fn metered(&mut self, tokens: u32, json: &[u8]) -> Result<usize, BrokenError> {
        let (text_bytes, rows) = match &mut self.rows {
            None => {
                let facts = openai::scan(json);
                let facts =
                    facts.map_err(|error| self.broken(format!("not an answer: {error}")))?;
                (facts.text_bytes, 0)
            }
            // Vectors are no tokens: whatever is counted for them is refused.
            Some(rows) => {
                let taken = rows.take(json);
                let taken =
                    taken.map_err(|error| self.broken(format!("not an answer: {error}")))?;
                (0, taken.rows)
            }
        };
        let bytes = u64::try_from(text_bytes).unwrap_or(u64::MAX);
        if let Turn::Chunk { due: true } = self.heard(Said::Chunk { tokens, bytes })? {
            let read = self.buying.read_tokens();
            self.dues.read_tokens.store(read, Ordering::Relaxed);
            self.dues.due.notify_one();
        }
        Ok(rows)
    }

    fn chunk(&self, json: Bytes, rows: usize) -> Word {
        let tokens = self.buying.tokens();
        Word::Chunk { json, tokens, rows }
    }

    /// That nothing is missing of an answer that is said to be complete.
    fn whole(&self) -> Result<(), BrokenError> {
        let whole = self.rows.as_ref().map_or(Ok(()), Rows::whole);
        whole.map_err(|error| self.broken(error.to_string()))
    }

    /// Time since the request was begun with.
    fn moment(&self) -> Moment {
        Moment::new(self.started.elapsed())
    }

    fn hear(&mut self, said: Said) -> Result<Turn, BuyingError> {
        let (buying, now) = (&mut self.buying, Moment::new(self.started.elapsed()));
        self.channel
            .spending(|spending| buying.hear(said, spending, now))
    }

    fn heard(&mut self, said: Said) -> Result<Turn, BrokenError> {
        self.hear(said)
            .map_err(|error| self.broken(error.to_string()))
    }

    /// Checks a receipt and books it, durably.
    async fn book(&mut self, signed: &SignedReceipt) -> Result<(), BrokenError> {
        signed
            .verify(self.candidate.seller.node)
            .map_err(|error| self.broken(error.to_string()))?;
        failpoint::hit("consumer.receipt.verified");
        let buying = &mut self.buying;
        let booked = self
            .channel
            .spending(|spending| buying.receipted(signed, spending));
        if let Err(BuyingError::Purse(PurseError::OldProvider { .. })) = &booked {
            self.channel.shun();
        }
        let booked = booked.map_err(|error| self.broken(error.to_string()))?;
        failpoint::hit("consumer.receipt.booked");
        let written = self.channel.write(&booked).await;
        written.map_err(|error| self.broken(error.to_string()))?;
        failpoint::hit("consumer.receipt.journalled");
        self.debt.reserved.close();
        Ok(())
    }

    /// Checks the receipt and books it.
    async fn finish(&mut self, signed: &SignedReceipt) -> Result<Summary, BrokenError> {
        self.book(signed).await?;
        failpoint::hit("consumer.receipt.kept");
        let receipt = &signed.receipt;
        let summary = Summary {
            request: self.buying.request(),
            provider: self.candidate.seller.address,
            token: self.candidate.offer.quote.token,
            input_tokens: receipt.input_tokens,
            output_tokens: receipt.output_tokens,
            cost: receipt.amount,
            outcome: receipt.outcome,
            ttft_ms: millis(self.ttft.unwrap_or_else(|| self.started.elapsed())),
            duration_ms: millis(self.started.elapsed()),
            token_us: self.speaking.token_us(),
            labels: Labels {
                // The receipt is the provider's last word on it.
                upstream: self.labels.upstream.max(receipt.upstream),
                ..self.labels
            },
            parts: vec![],
        };
        let spoke = self.speaking.measured();
        self.inner
            .remember(&summary, &self.candidate, (self.route, spoke))
            .await;
        failpoint::hit("consumer.answer.kept");
        Ok(summary)
    }

    fn broken(&self, problem: String) -> BrokenError {
        BrokenError {
            tokens: self.buying.tokens(),
            problem,
        }
    }
}

/// Reads what comes behind the last word: padding, at most.
async fn drained(receive: &mut ReceiveHalf) {
    let _ = timeout(DRAIN_WITHIN, receive.receive::<FromProvider>()).await;
}

/// Signs and sends what is due, in its own time.
struct Payer {
    inner: Arc<Inner>,
    channel: Arc<Channel>,
    dues: Arc<Dues>,
    send: SendHalf,
}

impl Payer {
    /// Ends when it cannot pay on, or the answer is over and paid.
    async fn run(mut self) -> Result<(), SessionError> {
        let channel = Arc::clone(&self.channel);
        loop {
            tokio::select! {
                biased;
                () = self.dues.leaving.cancelled() => break,
                () = self.dues.due.notified() => {}
                () = channel.raised.notified() => {}
                () = self.dues.over.cancelled() => {
                    // A provider that is gone does not wait for it.
                    let _ = self.send.finish().await;
                    return Ok(());
                }
            }
            self.pay().await?;
        }
        // A provider that is gone needs no telling; the reader notices.
        let _ = self.send.send(&FromConsumer::Leave).await;
        failpoint::hit("consumer.leave.sent");
        std::future::pending().await
    }

    async fn pay(&mut self) -> Result<(), SessionError> {
        let (read_tokens, voucher) = loop {
            failpoint::hit("consumer.step.due");
            // Read before the voucher is made, so that it covers at least this.
            let read_tokens = self.dues.read_tokens.load(Ordering::Relaxed);
            match self.channel.voucher().await {
                Err(PaymentError::Purse(PurseError::Escrow { needed, .. })) => {
                    self.inner.sessions.top_up(&self.channel, needed).await?;
                }
                voucher => break (read_tokens, voucher?),
            }
        };
        failpoint::hit("consumer.step.signed");
        if let Err(error) = self
            .send
            .send(&FromConsumer::Pay {
                voucher,
                read_tokens,
            })
            .await
        {
            debug!(%error, "voucher not sent; the reader will notice");
        }
        failpoint::hit("consumer.step.sent");
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
