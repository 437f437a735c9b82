//! An answer as it comes: pieces, then a summary of what it was and cost.
//!
//! The caller reads one answer. Behind it may be several providers: when the
//! one that answers is lost, the next goes on where it broke off
//! ([`crate::failover`]). What the caller was told is kept unread for that.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use market::{Address, Amount, CardId, Labels, Outcome, RequestId};
use openai::Seam;
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use crate::BrokenError;
use crate::failover::{Next, Resuming, Story};
use crate::routes::RouteId;
use crate::shell::Place;

/// Chunks with tool calls that are held until the answer is whole; a call
/// that is longer is passed on as it comes, and is lost with its provider.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// One OpenAI `chat.completion.chunk` as JSON text, as the provider sent
    /// it; of vectors, a piece of [`openai::embeddings`].
    Chunk(Bytes),
    /// The end: complete, receipted, paid. Nothing comes after it.
    End(Summary),
}

/// What an answer was and cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The request.
    pub request: RequestId,
    /// Who answered; of several the last.
    #[serde(serialize_with = "checksummed")]
    pub provider: Address,
    /// In what it is paid.
    #[serde(serialize_with = "checksummed")]
    pub token: Address,
    /// Tokens of the request, as billed; of several parts together, as far as
    /// their receipts are there.
    pub input_tokens: u32,
    /// Tokens of the answer, as billed.
    pub output_tokens: u32,
    /// What it cost, in base units of the token; of several parts together, as
    /// far as their receipts are there.
    pub cost: Amount,
    /// How it ended, as the provider signed it.
    pub outcome: Outcome,
    /// From the request to the first piece.
    pub ttft_ms: u64,
    /// From the request to the end.
    pub duration_ms: u64,
    /// Microseconds for a token, as they came in from the provider; none of so little that it says
    /// nothing, of several parts, and where the wire was paced.
    pub token_us: Option<u64>,
    /// What is proved about its privacy: the least of its parts.
    pub labels: Labels,
    /// Where it was put together of several providers' parts: all of them, in
    /// their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartSummary>,
}

/// What one provider had in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartSummary {
    /// The request for it.
    pub request: RequestId,
    /// Who.
    #[serde(serialize_with = "checksummed")]
    pub provider: Address,
    /// Tokens of the request, as billed: a part that goes on reads what was said
    /// before. None while its receipt is missing.
    pub input_tokens: Option<u32>,
    /// Tokens that it delivered.
    pub output_tokens: u32,
    /// What it cost; none while its receipt is missing, which is then asked for.
    pub cost: Option<Amount>,
}

/// As the headers of the answer have it.
fn checksummed<S: Serializer>(account: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(account)
}

/// What one provider says.
#[derive(Debug)]
pub(crate) enum Word {
    /// A chunk, with which the part comes to so many tokens. It brings so many vectors.
    Chunk {
        json: Bytes,
        tokens: u32,
        rows: usize,
    },
    /// Complete, receipted, paid.
    End(Summary),
    /// It broke off, and the receipt says what that costs.
    Billed(Summary, BrokenError),
}

/// The answer of one provider. Dropping it stops it and its backend.
pub(crate) struct Part {
    pub(crate) request: RequestId,
    pub(crate) provider: Address,
    pub(crate) token: Address,
    pub(crate) labels: Labels,
    /// By this name it is sold.
    pub(crate) model: String,
    /// With this card.
    pub(crate) card: Option<CardId>,
    /// Why it comes from where it comes.
    pub(crate) route: Option<RouteId>,
    pub(crate) first: Option<Result<Word, BrokenError>>,
    pub(crate) rest: mpsc::Receiver<Result<Word, BrokenError>>,
    /// Cancels the exchange when this is dropped.
    pub(crate) _guard: DropGuard,
}

/// A running answer. Dropping it stops the provider and its backend.
pub struct Answer {
    request: RequestId,
    provider: Address,
    labels: Labels,
    route: Option<RouteId>,
    now: Now,
    /// What is to be said next.
    ready: VecDeque<Result<Piece, BrokenError>>,
    /// Tool calls, until they are whole.
    held: Vec<Bytes>,
    held_bytes: usize,
    seam: Option<Seam>,
    story: Story,
    /// Its place among the running requests.
    _place: Place,
}

enum Now {
    Reading(Box<Part>),
    Resuming(Resuming),
    Over,
}

impl Part {
    fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<Result<Word, BrokenError>> {
        if let Some(word) = self.first.take() {
            return Poll::Ready(word);
        }
        let word = ready!(self.rest.poll_recv(cx));
        Poll::Ready(word.unwrap_or_else(|| {
            Err(BrokenError {
                tokens: 0,
                problem: "it ended without an end".into(),
            })
        }))
    }
}

impl Answer {
    pub(crate) fn new(part: Part, story: Story, place: Place) -> Self {
        Self {
            request: part.request,
            provider: part.provider,
            labels: part.labels,
            route: part.route,
            now: Now::Reading(Box::new(part)),
            ready: VecDeque::new(),
            held: vec![],
            held_bytes: 0,
            seam: None,
            story,
            _place: place,
        }
    }

    /// The request's id.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The id under which the node can say why it comes from where it comes;
    /// of several providers the first.
    pub fn route(&self) -> Option<RouteId> {
        self.route
    }

    /// Who answers; of several the first.
    pub fn provider(&self) -> Address {
        self.provider
    }

    /// What is proved about its privacy. Nobody who offers less goes on with it.
    pub fn labels(&self) -> Labels {
        self.labels
    }

    fn hear(&mut self, word: Result<Word, BrokenError>) {
        match word {
            Ok(Word::Chunk { json, tokens, rows }) => {
                self.story.came(rows);
                self.chunk(json, tokens);
            }
            Ok(Word::End(summary)) => {
                self.let_go();
                let summary = self.story.whole(summary);
                self.end_with(Ok(Piece::End(summary)));
            }
            Ok(Word::Billed(summary, broken)) => self.broke(broken, Some(&summary)),
            Err(broken) => self.broke(broken, None),
        }
    }

    fn chunk(&mut self, json: Bytes, tokens: u32) {
        let json = match &mut self.seam {
            None => Some(json),
            Some(seam) => match seam.join(&json) {
                Ok(joined) => joined,
                Err(error) => {
                    let problem = format!("not an answer: {error}");
                    return self.broke(BrokenError { tokens, problem }, None);
                }
            },
        };
        let Some(json) = json else { return };
        if !self.held.is_empty() || self.story.holds(&json) {
            self.held_bytes = self.held_bytes.saturating_add(json.len());
            self.held.push(json);
            if self.held_bytes > HELD_BYTES_MAX {
                self.story.told(&self.held, tokens);
                self.story.hold_no_more();
                self.let_go();
            }
            return;
        }
        self.story.told(std::slice::from_ref(&json), tokens);
        self.ready.push_back(Ok(Piece::Chunk(json)));
    }

    fn let_go(&mut self) {
        let held = std::mem::take(&mut self.held).into_iter();
        self.ready.extend(held.map(|json| Ok(Piece::Chunk(json))));
        self.held_bytes = 0;
    }

    /// `billed`: what the part cost, if its receipt came.
    fn broke(&mut self, broken: BrokenError, billed: Option<&Summary>) {
        let Now::Reading(part) = std::mem::replace(&mut self.now, Now::Over) else {
            return;
        };
        if self
            .held
            .iter()
            .any(|json| openai::scan(json).is_ok_and(|facts| facts.finished))
        {
            // All of it has come, but for the receipt.
            self.story.told(&self.held, broken.tokens);
            self.let_go();
        }
        self.held.clear();
        self.held_bytes = 0;
        match self.story.goes_on(&part, broken, billed) {
            Next::Resume(resuming, seam) => {
                self.seam = seam.map(|seam| *seam);
                self.now = Now::Resuming(resuming);
            }
            Next::Over(last, summary) => {
                self.ready.extend(last.map(|json| Ok(Piece::Chunk(json))));
                self.end_with(Ok(Piece::End(*summary)));
            }
            Next::Broken(broken) => self.end_with(Err(broken)),
        }
    }

    fn end_with(&mut self, last: Result<Piece, BrokenError>) {
        self.now = Now::Over;
        self.ready.push_back(last);
    }
}

impl Stream for Answer {
    type Item = Result<Piece, BrokenError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(piece));
            }
            match &mut self.now {
                Now::Reading(part) => {
                    let word = ready!(part.poll_word(cx));
                    self.hear(word);
                }
                Now::Resuming(resuming) => match ready!(resuming.as_mut().poll(cx)) {
                    Ok(part) => self.now = Now::Reading(Box::new(part)),
                    Err(broken) => self.end_with(Err(broken)),
                },
                Now::Over => return Poll::Ready(None),
            }
        }
    }
}

/// Milliseconds since then.
pub(crate) fn since_ms(then: Instant) -> u64 {
    u64::try_from(then.elapsed().as_millis()).unwrap_or(u64::MAX)
}
