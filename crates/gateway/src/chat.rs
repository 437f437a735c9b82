//! `POST /v1/chat/completions`: one request, from its body to its answer.
//! Requests of other dialects go the same way, translated at both ends.
//!
//! The status is decided once the first piece is there: until then a failure
//! is an error with a status of its own, afterwards an error within the
//! stream. Whether streamed or not, the client's leaving drops the answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use consumer::{BrokenError, Conditions, Failover, FailoverError, Piece, Summary, Unserved};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use market::{Demand, DemandError, InputBound};
use openai::dialect::{self, Opening, Translator};
use openai::{Aggregate, BadRequest, ChatRequest, Usage};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::behind::{Market, Running};
use crate::body::{self, Place};
use crate::fault::Fault;
use crate::gate::{Front, Shop};
use crate::metrics::{Ending, OfModel};
use crate::stream::{Events, Telling};

const REQUEST: HeaderName = HeaderName::from_static("x-lethe-request");
const PROVIDER: HeaderName = HeaderName::from_static("x-lethe-provider");
/// What is proved about the answer's privacy.
const LABELS: HeaderName = HeaderName::from_static("x-lethe-labels");
/// Under which id the node says why the answer comes from where it comes.
pub(crate) const ROUTE: HeaderName = HeaderName::from_static("x-lethe-route");
/// What of that the client insists on.
const DEMAND: HeaderName = HeaderName::from_static("x-lethe-demand");
/// Whether another provider may go on with it.
const FAILOVER: HeaderName = HeaderName::from_static("x-lethe-failover");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A body up to this length is parsed in well under a millisecond.
const PARSED_INLINE_BYTES: usize = 64 * 1024;

/// A request that was read, and how its answer is told.
pub(crate) struct Asked {
    pub(crate) chat: ChatRequest,
    /// None: as it comes.
    pub(crate) translator: Option<Translator>,
}

/// A request that is being answered: its body is read.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) place: Place,
    begun: Instant,
    conditions: Conditions,
    /// What it demands itself, without its key.
    demand: Demand,
}

/// `POST /v1/chat/completions`
pub(crate) async fn complete<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    let received = receive(&shop.front, request).await?;
    let chat = parse(received.body.clone(), ChatRequest::parse).await?;
    let asked = Asked {
        chat,
        translator: None,
    };
    answer(shop, received, asked).await
}

/// Reads the headers and the body of a request.
pub(crate) async fn receive(front: &Front, request: Request) -> Result<Received, Fault> {
    let begun = Instant::now();
    let (conditions, demand) = conditions(&request)?;
    let (body, place) =
        body::read(request.into_body(), &front.room, &front.settings.limits).await?;
    Ok(Received {
        body,
        place,
        begun,
        conditions,
        demand,
    })
}

/// An answer that has begun.
pub(crate) struct Begun<A> {
    pub(crate) answer: A,
    pub(crate) first: Piece,
    pub(crate) delivery: Delivery,
    /// Whose it is, and what is proved about it.
    pub(crate) headers: HeaderMap,
}

impl<A: Running> Begun<A> {
    /// Reads all of an answer that goes out in one piece, chunk by chunk; what
    /// it was and cost, and the headers that it goes out with.
    pub(crate) async fn whole(
        self,
        push: impl FnMut(Bytes) -> Result<(), Fault>,
    ) -> Result<(HeaderMap, Summary), Fault> {
        let on = self.answer.route();
        let front = Arc::clone(&self.delivery.front);
        let summary = tokio::select! {
            summary = all(self.answer, self.first, self.delivery, push) => summary,
            () = front.cut.cancelled() => Err(Fault::stopping()),
        };
        let summary = summary.map_err(|fault| fault.on(on))?;
        Ok((self.headers, summary))
    }
}

/// All chunks of an answer.
async fn all<A: Running>(
    mut answer: A,
    first: Piece,
    mut delivery: Delivery,
    mut push: impl FnMut(Bytes) -> Result<(), Fault>,
) -> Result<Summary, Fault> {
    let mut piece = first;
    loop {
        match piece {
            Piece::End(summary) => {
                drop(answer);
                delivery.complete(&summary);
                return Ok(summary);
            }
            Piece::Chunk(json) => {
                delivery.chunk();
                if let Err(fault) = push(json) {
                    delivery.ended(Ending::Broken);
                    return Err(fault);
                }
            }
        }
        piece = match answer.next().await.unwrap_or_else(|| Err(silent())) {
            Ok(piece) => piece,
            Err(broken) => {
                delivery.ended(Ending::Broken);
                return Err(Fault::from(&broken));
            }
        };
    }
}

/// Takes a place for an answer, asks for it, and waits for its first piece.
pub(crate) async fn begin<A: Running>(
    front: &Arc<Front>,
    received: Received,
    model: &str,
    ask: impl AsyncFnOnce(Conditions) -> Result<A, Unserved>,
) -> Result<Begun<A>, Fault> {
    let permit = Arc::clone(&front.answers)
        .try_acquire_owned()
        .map_err(|_| too_many(front))?;
    let begin = async {
        let answer = ask(received.conditions).await;
        let mut answer = answer.map_err(|unserved| Fault::unserved(&unserved, received.demand))?;
        let first = answer.next().await.unwrap_or_else(|| Err(silent()));
        let first = first.map_err(|broken| Fault::from(&broken).on(answer.route()))?;
        Ok::<_, Fault>((answer, first))
    };
    let (answer, first) = tokio::select! {
        begun = begin => begun?,
        () = front.cut.cancelled() => return Err(Fault::stopping()),
    };
    let (begun, place) = (received.begun, received.place);
    let mut headers = HeaderMap::from_iter([
        (REQUEST, header(answer.request())),
        (PROVIDER, header(answer.provider())),
        (LABELS, header(answer.labels())),
    ]);
    headers.extend(answer.route().map(|route| (ROUTE, header(route))));
    Ok(Begun {
        delivery: Delivery::begin(Arc::clone(front), model, begun, permit, place),
        answer,
        first,
        headers,
    })
}

/// Answers one request.
pub(crate) async fn answer<M: Market>(
    shop: Shop<M>,
    received: Received,
    asked: Asked,
) -> Result<Response, Fault> {
    let (request, translator) = (asked.chat, asked.translator);
    let (stream, include_usage) = (request.stream(), request.include_usage());
    let model = request.model().to_owned();
    let input_estimate = InputBound::of_body(request.body().len()).estimate;
    let market = &shop.market;
    let ask = async |conditions| market.infer(request, conditions).await;
    let begun = begin(&shop.front, received, &model, ask).await?;
    let translation = translator.map(|translator| {
        let request = begun.answer.request().to_string();
        let opening = Opening {
            request: request.trim_start_matches("0x").to_owned(),
            model,
            created: created(&begun.first).unwrap_or_else(|| shop.market.now().0),
            input_estimate,
        };
        (translator, opening)
    });
    if stream {
        let telling = Telling::new(include_usage, translation);
        let events = Events::new(begun.answer, begun.first, telling, begun.delivery);
        return Ok((begun.headers, streamed(events)).into_response());
    }
    let on = begun.answer.route();
    let mut whole = Whole::new(translation);
    let (headers, summary) = begun.whole(|json| whole.push(&json)).await?;
    let body = whole.finish(&summary).map_err(|fault| fault.on(on))?;
    Ok((headers, json(body)).into_response())
}

/// A body that is one JSON text.
pub(crate) fn json(body: impl Into<Body>) -> Response {
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, body.into()).into_response()
}

/// When an answer began, in seconds since 1970, as its first chunk tells it.
fn created(first: &Piece) -> Option<u64> {
    match first {
        // Some backends write a zero where they know no time.
        Piece::Chunk(json) => openai::created(json).filter(|seconds| *seconds > 0),
        Piece::End(_) => None,
    }
}

/// Reads the request; a long one where it keeps nobody else waiting.
pub(crate) async fn parse<T: Send + 'static>(
    body: Bytes,
    read: impl FnOnce(Bytes) -> Result<T, BadRequest> + Send + 'static,
) -> Result<T, Fault> {
    let parsed = if body.len() <= PARSED_INLINE_BYTES {
        read(body)
    } else {
        let parsed = tokio::task::spawn_blocking(|| read(body)).await;
        parsed.map_err(|_| Fault::stopping())?
    };
    parsed.map_err(|bad| Fault::from(&bad))
}

/// What the headers say, over what holds for the key; and what they demand alone.
fn conditions(request: &Request) -> Result<(Conditions, Demand), Fault> {
    let defaults = request.extensions().get::<Arc<Conditions>>();
    let defaults = defaults.map(|known| Conditions::clone(known));
    let defaults = defaults.unwrap_or_default();
    let headers = request.headers();
    let demand = demand(headers)?;
    let conditions = Conditions {
        demand: demand.and(defaults.demand),
        failover: failover(headers)?.unwrap_or(defaults.failover),
        ..defaults
    };
    Ok((conditions, demand))
}

/// What the client insists on; several headers count together.
fn demand(headers: &HeaderMap) -> Result<Demand, Fault> {
    let bad = |problem: String| {
        let message = format!("header {DEMAND}: {problem}");
        Fault::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    };
    let mut text = String::new();
    for value in headers.get_all(&DEMAND) {
        let value = value.to_str().map_err(|_| bad("not text".to_owned()))?;
        text.push_str(value);
        text.push(',');
    }
    text.parse()
        .map_err(|error: DemandError| bad(error.to_string()))
}

/// What is to happen when a provider is lost within the answer.
fn failover(headers: &HeaderMap) -> Result<Option<Failover>, Fault> {
    let Some(value) = headers.get(&FAILOVER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    text.parse().map(Some).map_err(|error: FailoverError| {
        let message = format!("header {FAILOVER}: {error}");
        Fault::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    })
}

fn too_many(front: &Front) -> Fault {
    let limit = front.settings.limits.answers;
    Fault::overloaded(format!(
        "{limit} requests are running, which is the limit here; try again after the time in Retry-After"
    ))
}

/// An answer that ends without saying so.
pub(crate) fn silent() -> BrokenError {
    BrokenError {
        tokens: 0,
        problem: "it ended without an end".into(),
    }
}

pub(crate) fn header(value: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).expect("hex digits and plain words fit a header")
}

fn streamed<A: Running>(events: Events<A>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(events.media_type())),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Proxies that hold answers back would undo the streaming.
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, Body::new(events)).into_response()
}

/// An answer in one piece, while it comes.
enum Whole {
    Chat(Box<Aggregate>),
    Translated(Box<(Translator, Opening)>),
}

impl Whole {
    fn new(translation: Option<(Translator, Opening)>) -> Self {
        match translation {
            None => Self::Chat(Box::default()),
            Some(translation) => Self::Translated(Box::new(translation)),
        }
    }

    fn push(&mut self, json: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Chat(aggregate) => aggregate.push(json).map_err(|error| unusable(&error)),
            Self::Translated(translation) => {
                let kept = translation.0.keep(json);
                kept.map_err(|error| unusable(&error))
            }
        }
    }

    /// As one JSON text, with what it cost.
    fn finish(self, summary: &Summary) -> Result<Vec<u8>, Fault> {
        let whole = match self {
            Self::Chat(aggregate) => {
                let mut whole = aggregate.finish().map_err(|error| unusable(&error))?;
                whole.insert("lethe".into(), json_of(summary));
                Value::Object(whole)
            }
            Self::Translated(translation) => {
                let (translator, opening) = *translation;
                let whole = translator.whole(&opening, &ending(summary));
                whole.map_err(|error| unusable(&error))?
            }
        };
        Ok(serde_json::to_vec(&whole).expect("a JSON value is always JSON"))
    }
}

fn json_of(summary: &Summary) -> Value {
    serde_json::to_value(summary).expect("a summary has only string keys")
}

/// What a translator has to know of an answer's end.
pub(crate) fn ending(summary: &Summary) -> dialect::Ending {
    dialect::Ending {
        billed: Usage {
            prompt_tokens: summary.input_tokens,
            completion_tokens: summary.output_tokens,
        },
        ttft_ms: summary.ttft_ms,
        duration_ms: summary.duration_ms,
        summary: json_of(summary),
    }
}

pub(crate) fn unusable(error: &dyn std::error::Error) -> Fault {
    let message = format!("the provider's answer cannot be put together: {error}; try again");
    Fault::new(StatusCode::BAD_GATEWAY, "provider_failed", message)
}

/// An answer on its way to a client, for the books; what it takes of the
/// gateway's limits is given back when this is dropped.
pub(crate) struct Delivery {
    front: Arc<Front>,
    /// What is counted of its model.
    of_model: Arc<OfModel>,
    begun: Instant,
    first_chunk: Option<Instant>,
    ending: Ending,
    _answer: OwnedSemaphorePermit,
    _body: Place,
}

impl Delivery {
    fn begin(
        front: Arc<Front>,
        model: &str,
        begun: Instant,
        answer: OwnedSemaphorePermit,
        body: Place,
    ) -> Self {
        Self {
            of_model: front.metrics.answer_began(model),
            front,
            begun,
            first_chunk: None,
            ending: Ending::Abandoned,
            _answer: answer,
            _body: body,
        }
    }

    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    pub(crate) fn chunk(&mut self) {
        if self.first_chunk.is_none() {
            self.first_chunk = Some(Instant::now());
            self.of_model.first_chunk(self.begun.elapsed());
        }
    }

    pub(crate) fn complete(&mut self, summary: &Summary) {
        let since_first = self.first_chunk.unwrap_or(self.begun).elapsed();
        let metrics = &self.front.metrics;
        metrics.summary(&self.of_model, summary, since_first);
        self.ended(Ending::Complete);
    }

    pub(crate) fn ended(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let metrics = &self.front.metrics;
        metrics.answer_ended(&self.of_model, self.ending, took);
    }
}
