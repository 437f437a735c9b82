//! What happens when the provider that answers is lost: another one goes on.
//!
//! What the caller was told becomes the beginning of the assistant's message
//! in a request to the next provider, one that has tried that its backend goes
//! on from there. Each part is an exchange of its own with its own receipt, so
//! nothing is billed twice but the reading of what was said before. The second
//! provider sees the beginning of the answer, as it sees the question; it does
//! not learn who gave it.
//!
//! Vectors are simpler: the next provider is asked for those that are missing.
//! They are of the same card as those that came, since others do not compare.
//!
//! Where that cannot be (`openai::Partial` knows where), or the caller wants
//! an answer of one piece, it breaks off with an error that says so.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use market::{Address, Amount, Asked, Demand, Labels, Outcome};
use memchr::memmem;
use openai::{Partial, Request, Resumed, Seam};
use routing::Defaults;
use seal::Pacing;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::answer::{Part, PartSummary, Summary, since_ms};
use crate::budgets::Budget;
use crate::error::{BrokenError, InferError};
use crate::routes::RouteId;
use crate::shell::Inner;

/// Providers in one answer.
const PARTS_MAX: usize = 16;

/// Time to find one that goes on; all may be busy, or coming back.
const RESUME_WITHIN: Duration = Duration::from_secs(30);

/// Between two rounds of asking.
const ROUND_EVERY: Duration = Duration::from_millis(300);

/// What to do when the provider is lost within an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failover {
    /// Another one goes on where it broke off.
    #[default]
    Continue,
    /// The answer breaks off: all of it is one provider's, or none.
    Strict,
}

/// A header that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is not a way to go on; allowed are continue and strict")]
pub struct FailoverError {
    /// What it says.
    pub got: String,
}

impl std::str::FromStr for Failover {
    type Err = FailoverError;

    fn from_str(text: &str) -> Result<Self, FailoverError> {
        match text.trim() {
            "continue" => Ok(Self::Continue),
            "strict" => Ok(Self::Strict),
            got => Err(FailoverError {
                got: got.to_owned(),
            }),
        }
    }
}

/// What a caller wants beside the answer.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The labels that it insists on; with less the request fails.
    pub demand: Demand,
    /// What to do when a provider is lost.
    pub failover: Failover,
    /// What it prefers where the request's body says nothing.
    pub preferences: Arc<Defaults>,
    /// At what pace it is to travel; as all of the node's, if it is none.
    pub pacing: Option<Pacing>,
    /// What it counts against, if its key has a budget.
    pub budget: Option<Arc<Budget>>,
}

/// On the way to the next provider.
pub(crate) type Resuming = Pin<Box<dyn Future<Output = Result<Part, BrokenError>> + Send>>;

/// How it goes on after a part broke off.
pub(crate) enum Next {
    /// Words go on behind a seam; vectors need none.
    Resume(Resuming, Option<Box<Seam>>),
    /// All had come.
    Over(Option<Bytes>, Box<Summary>),
    Broken(BrokenError),
}

/// What has been so far.
pub(crate) struct Story {
    inner: Arc<Inner>,
    request: Request,
    conditions: Conditions,
    started: Instant,
    ttft_ms: u64,
    /// What the caller was told, and the tokens of it: of parts that are over,
    /// and of the one that runs.
    partial: Partial,
    tokens_before: u32,
    tokens: u32,
    /// Vectors that the caller has.
    rows: usize,
    parts: Vec<PartSummary>,
    labels: Option<Labels>,
    holds_calls: bool,
}

impl Story {
    pub(crate) fn new(
        inner: Arc<Inner>,
        request: Request,
        conditions: Conditions,
        started: Instant,
    ) -> Self {
        let has_tools = matches!(&request, Request::Chat(chat) if chat.has_tools());
        let holds_calls = has_tools && conditions.failover == Failover::Continue;
        Self {
            ttft_ms: since_ms(started),
            inner,
            request,
            conditions,
            started,
            partial: Partial::default(),
            tokens_before: 0,
            tokens: 0,
            rows: 0,
            parts: vec![],
            labels: None,
            holds_calls,
        }
    }

    /// Whether a chunk is a piece of a call that the caller must not have
    /// before it is whole, since it could not be said again.
    pub(crate) fn holds(&self, json: &[u8]) -> bool {
        const NAMES: [&[u8]; 2] = [b"\"tool_calls\"", b"\"function_call\""];
        // Cheap first: the second look is at few chunks.
        self.holds_calls
            && NAMES.iter().any(|name| memmem::find(json, name).is_some())
            && openai::scan(json).is_ok_and(|facts| facts.calls)
    }

    pub(crate) fn hold_no_more(&mut self) {
        self.holds_calls = false;
    }

    /// The caller has this, and with it so many tokens of the running part.
    pub(crate) fn told(&mut self, chunks: &[Bytes], tokens: u32) {
        self.tokens = tokens;
        let is_chat = matches!(self.request, Request::Chat(_));
        if is_chat && self.conditions.failover == Failover::Continue {
            chunks.iter().for_each(|json| self.partial.push(json));
        }
    }

    /// So many vectors more.
    pub(crate) fn came(&mut self, rows: usize) {
        self.rows = self.rows.saturating_add(rows);
    }

    /// The running part is lost. `billed`: what it cost, if its receipt came.
    pub(crate) fn goes_on(
        &mut self,
        part: &Part,
        broken: BrokenError,
        billed: Option<&Summary>,
    ) -> Next {
        self.part_over(part, broken.tokens, billed);
        if self.conditions.failover == Failover::Strict {
            return Next::Broken(broken);
        }
        let problem = broken.problem;
        let because = |why: String| {
            Next::Broken(BrokenError {
                tokens: self.tokens_before,
                problem: format!("{problem}; {why}"),
            })
        };
        if self.inner.stop.is_cancelled() {
            return because("the node is stopping".into());
        }
        if self.parts.len() >= PARTS_MAX {
            return because(format!("{PARTS_MAX} providers were lost within it"));
        }
        let (request, seam) = match &self.request {
            Request::Chat(chat) => match chat.resumed(&self.partial, self.tokens_before) {
                Ok(Resumed::Over(last)) => {
                    return Next::Over(last, Box::new(self.unreceipted(part)));
                }
                Ok(Resumed::Ask(request, seam)) => ((*request).into(), Some(Box::new(seam))),
                Err(why) => return because(format!("nobody can go on with it: {why}")),
            },
            Request::Embeddings(embeddings) => match embeddings.rest(self.rows) {
                None => return Next::Over(None, Box::new(self.unreceipted(part))),
                Some(_) if part.card.is_none() => {
                    return because("it has no card that another one could be held to".into());
                }
                Some(rest) => (rest.into(), None),
            },
        };
        info!(provider = %part.provider, %problem, "lost within an answer; another one goes on");
        let going_on = Resume {
            inner: Arc::clone(&self.inner),
            request,
            conditions: Conditions {
                demand: self.demand(),
                ..self.conditions.clone()
            },
            model: Asked::qualified(&part.model, part.card),
            route: part.route,
            token: part.token,
            begun: seam.as_ref().is_some_and(|seam| seam.is_within()),
            lost: self.parts.iter().map(|part| part.provider).collect(),
            tokens: self.tokens_before,
            problem,
        };
        Next::Resume(Box::pin(going_on.run()), seam)
    }

    /// What was demanded, and no less than there was.
    fn demand(&self) -> Demand {
        let upstream = self.labels.map(|labels| labels.upstream);
        Demand {
            upstream: self.conditions.demand.upstream.or(upstream),
            ..self.conditions.demand
        }
    }

    fn part_over(&mut self, part: &Part, delivered: u32, billed: Option<&Summary>) {
        self.parts.push(PartSummary {
            request: part.request,
            provider: part.provider,
            input_tokens: billed.map(|billed| billed.input_tokens),
            output_tokens: delivered,
            cost: billed.map(|billed| billed.cost),
        });
        let labels = self.labels.get_or_insert(part.labels);
        labels.upstream = labels.upstream.max(part.labels.upstream);
        self.tokens_before = self.tokens_before.saturating_add(self.tokens);
        self.tokens = 0;
    }

    /// The summary of an answer of which all came but the last receipt.
    fn unreceipted(&self, part: &Part) -> Summary {
        Summary {
            request: part.request,
            provider: part.provider,
            token: part.token,
            input_tokens: inputs(&self.parts),
            output_tokens: self.tokens_before,
            cost: costs(&self.parts),
            outcome: Outcome::Complete,
            ttft_ms: self.ttft_ms,
            duration_ms: since_ms(self.started),
            token_us: None,
            labels: part.labels,
            parts: self.parts.clone(),
        }
    }

    /// The summary of all parts, the last of which ended well.
    pub(crate) fn whole(&mut self, last: Summary) -> Summary {
        if self.parts.is_empty() {
            return last;
        }
        let mut parts = std::mem::take(&mut self.parts);
        parts.push(PartSummary {
            request: last.request,
            provider: last.provider,
            input_tokens: Some(last.input_tokens),
            output_tokens: last.output_tokens,
            cost: Some(last.cost),
        });
        let mut labels = last.labels;
        if let Some(first) = self.labels {
            labels.upstream = labels.upstream.max(first.upstream);
        }
        Summary {
            labels,
            input_tokens: inputs(&parts),
            cost: costs(&parts),
            output_tokens: self.tokens_before.saturating_add(last.output_tokens),
            ttft_ms: self.ttft_ms,
            duration_ms: since_ms(self.started),
            token_us: None,
            parts,
            ..last
        }
    }
}

/// Tokens of the requests of these parts, as far as they are billed.
fn inputs(parts: &[PartSummary]) -> u32 {
    let billed = parts.iter().filter_map(|part| part.input_tokens);
    billed.fold(0, u32::saturating_add)
}

/// What these parts cost, as far as they are billed.
fn costs(parts: &[PartSummary]) -> Amount {
    let billed = parts.iter().filter_map(|part| part.cost);
    Amount::sum(billed).unwrap_or(Amount::new(u128::MAX))
}

/// Why nobody goes on.
#[derive(Debug, thiserror::Error)]
enum ResumeError {
    #[error(
        "no other offer of the same card, for the same token, says that it goes on with a begun answer"
    )]
    Nobody,
    #[error(transparent)]
    Infer(#[from] InferError),
}

impl ResumeError {
    /// Whether waiting does not help.
    fn stays(&self) -> bool {
        match self {
            Self::Nobody => true,
            Self::Infer(error) => matches!(
                error,
                InferError::BadRequest(_)
                    | InferError::TooLong { .. }
                    | InferError::Refused { .. }
                    | InferError::Budget(_)
                    | InferError::Stopping
            ),
        }
    }
}

/// Looks for somebody who goes on.
struct Resume {
    inner: Arc<Inner>,
    request: Request,
    conditions: Conditions,
    /// The model that began, with its card or with none; another one does not go on.
    model: String,
    /// Of the part that is lost.
    route: Option<RouteId>,
    /// The caller has a beginning that the next one must go on from.
    begun: bool,
    /// What the answer is paid in: what two tokens cost could not be one sum.
    token: Address,
    /// Who was lost; asked last.
    lost: Vec<Address>,
    tokens: u32,
    problem: String,
}

impl Resume {
    async fn run(self) -> Result<Part, BrokenError> {
        let until = Instant::now() + RESUME_WITHIN;
        loop {
            let why = match self.round().await {
                Ok(part) => return Ok(part),
                Err(why) => why,
            };
            debug!(error = %why, "nobody goes on with the answer yet");
            let late = Instant::now() + ROUND_EVERY > until || self.inner.stop.is_cancelled();
            if late || why.stays() {
                return Err(self.broken(&why));
            }
            sleep(ROUND_EVERY).await;
        }
    }

    async fn round(&self) -> Result<Part, ResumeError> {
        let router = &self.inner.router;
        let wishes = router.wishes(&self.request, &self.conditions.preferences);
        let mut wishes = wishes.map_err(InferError::from)?;
        wishes.models = vec![self.model.clone()];
        let mut route = self
            .inner
            .route(&self.request, &wishes, &self.conditions.demand)
            .map_err(|unserved| unserved.error)?;
        self.inner.router.resumes(&route, self.route);
        for candidates in &mut route.candidates {
            candidates.retain(|candidate| {
                let goes_on = !self.begun || candidate.offer.continues;
                goes_on && candidate.offer.quote.token == self.token
            });
            // Who stands by is asked first, who was lost last.
            candidates.sort_by_cached_key(|candidate| {
                let is_lost = self.lost.contains(&candidate.seller.address);
                let stands_by = self.inner.sessions.stands_by(&candidate.terms());
                (is_lost, !stands_by)
            });
        }
        if route.candidates.iter().all(Vec::is_empty) {
            return Err(ResumeError::Nobody);
        }
        let started = Instant::now();
        let (inner, conditions) = (&self.inner, &self.conditions);
        let asked = inner.ask_each(&self.request, &route, conditions, started);
        Ok(asked.await?)
    }

    fn broken(&self, why: &ResumeError) -> BrokenError {
        BrokenError {
            tokens: self.tokens,
            problem: format!("{}; nobody else went on with it: {why}", self.problem),
        }
    }
}
