//! Routes of other dialects: Anthropic's messages, Ollama's API, OpenAI's
//! older completions and newer responses.
//!
//! Each is the one way of a chat request with a translator at both ends. What
//! goes wrong before that, a key or a route, is told in the dialect that the
//! path stands for.

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use consumer::ModelView;
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use market::{InputBound, Kind};
use openai::BadRequest;
use openai::dialect::{Translated, anthropic, completions, ollama, responses};
use serde_json::{Value, json};

use crate::astray::without_version;
use crate::behind::Market;
use crate::chat::{self, Asked, parse, receive};
use crate::fault::Fault;
use crate::gate::Shop;
use crate::models;

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Under which Anthropic's clients look for the name of an answer.
const ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The version of Ollama whose API this follows; clients refuse old ones.
const OLLAMA_VERSION: &str = "0.13.0";
/// Where the names of models are, as our own words say it, and for Ollama's clients.
const LIST: &str = "GET /v1/models";
const OLLAMA_LIST: &str = "GET /api/tags";
/// Ollama's paths; others below `/api` are the dashboard's.
const OLLAMA: [&str; 15] = [
    "/api/chat",
    "/api/generate",
    "/api/tags",
    "/api/show",
    "/api/version",
    "/api/ps",
    "/api/embed",
    "/api/embeddings",
    "/api/pull",
    "/api/push",
    "/api/create",
    "/api/copy",
    "/api/delete",
    "/api/web_search",
    "/api/web_fetch",
];

/// Whose errors a client expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errors {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Errors {
    fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        // A base URL that is wrong by its `/v1` is a client's all the same.
        let path = without_version(uri.path());
        let models = path.starts_with("/models") && is_anthropic(headers);
        if models || path == "/messages" || path.starts_with("/messages/") {
            return Self::Anthropic;
        }
        if OLLAMA.contains(&path) {
            return Self::Ollama;
        }
        Self::OpenAi
    }
}

/// Whether a client of Anthropic asks.
pub(crate) fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key(ANTHROPIC_VERSION)
}

/// Tells every fault in the dialect of the route that it happened at.
pub(crate) async fn errors(request: Request, next: Next) -> Response {
    let errors = Errors::of(request.uri(), request.headers());
    let mut response = next.run(request).await;
    if errors == Errors::Anthropic
        && let Some(id) = response.headers().get(REQUEST_ID).cloned()
    {
        response.headers_mut().insert(ANTHROPIC_ID, id);
    }
    let Some(mut fault) = response.extensions_mut().remove::<Fault>() else {
        return response;
    };
    let status = response.status().as_u16();
    let (status, body) = match errors {
        Errors::OpenAi => return response,
        Errors::Anthropic => anthropic::error(status, &fault.body),
        Errors::Ollama => {
            let detail = &mut fault.body.error;
            detail.message = detail.message.replace(LIST, OLLAMA_LIST);
            (status, ollama::error(&fault.body))
        }
    };
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::from_u16(status).unwrap_or(parts.status);
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into())
}

/// Answers a request that is translated so.
async fn translated<M: Market>(
    shop: Shop<M>,
    request: Request,
    read: fn(&Bytes) -> Result<Translated, BadRequest>,
) -> Result<Response, Fault> {
    let received = receive(&shop.front, request).await?;
    let Translated { chat, translator } =
        parse(received.body.clone(), move |body| read(&body)).await?;
    let asked = Asked {
        chat,
        translator: Some(translator),
    };
    chat::answer(shop, received, asked).await
}

/// `POST /v1/messages`
pub(crate) async fn messages<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    translated(shop, request, anthropic::message).await
}

/// `POST /v1/messages/count_tokens`: what the first voucher would cover, as
/// nobody here has the model's tokenizer.
pub(crate) async fn count_tokens<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Json<Value>, Fault> {
    let received = receive(&shop.front, request).await?;
    let chat = parse(received.body.clone(), |body| anthropic::counted(&body)).await?;
    // Where several are named, one of them may be sold.
    if chat.field("models").is_none()
        && let Err(fault) = models::meant(&shop.market.models(), chat.model())
        && fault.status == StatusCode::NOT_FOUND
    {
        return Err(fault);
    }
    let estimate = InputBound::of_body(chat.body().len()).estimate;
    Ok(Json(json!({ "input_tokens": estimate })))
}

/// `POST /v1/completions`
pub(crate) async fn completions<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    translated(shop, request, completions::completion).await
}

/// `POST /v1/responses`
pub(crate) async fn responses<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    translated(shop, request, responses::response).await
}

/// `POST /api/chat`
pub(crate) async fn ollama_chat<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    ollama_answer(shop, request, ollama::chat).await
}

/// `POST /api/generate`
pub(crate) async fn ollama_generate<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    ollama_answer(shop, request, ollama::generate).await
}

async fn ollama_answer<M: Market>(
    shop: Shop<M>,
    request: Request,
    read: fn(&Bytes) -> Result<ollama::Asked, BadRequest>,
) -> Result<Response, Fault> {
    let received = receive(&shop.front, request).await?;
    match parse(received.body.clone(), move |body| read(&body)).await? {
        ollama::Asked::Load { model, chat } => {
            let found = models::meant(&shop.market.models(), &model)?;
            let loaded = ollama::loaded(&model, chat, found.seen_at.0);
            Ok(Json(loaded).into_response())
        }
        ollama::Asked::Answer(translated) => {
            let asked = Asked {
                chat: translated.chat,
                translator: Some(translated.translator),
            };
            chat::answer(shop, received, asked).await
        }
    }
}

/// `GET /api/version`
pub(crate) async fn ollama_version() -> Json<Value> {
    Json(json!({ "version": OLLAMA_VERSION }))
}

/// `GET /api/tags`: what is on offer.
pub(crate) async fn ollama_tags<M: Market>(State(shop): State<Shop<M>>) -> Json<Value> {
    let models: Vec<Value> = shop.market.models().iter().map(tag).collect();
    Json(json!({ "models": models }))
}

/// `POST /api/show`: what is known of a model.
pub(crate) async fn ollama_show<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    let received = receive(&shop.front, request).await?;
    let name = parse(received.body, |body| ollama::shown(&body)).await?;
    let model = models::meant(&shop.market.models(), &name)?;
    let mut info = json!({ "general.architecture": "lethe" });
    let best = model.offers.first();
    if let Some(length) = best.and_then(|offer| offer.context_length) {
        info["lethe.context_length"] = length.into();
    }
    let heeds = |word: &str| {
        let offers = model.offers.iter();
        offers
            .flat_map(|offer| &offer.parameters)
            .any(|found| found == word)
    };
    let mut capabilities = capabilities(&model);
    if heeds("tools") {
        capabilities.push("tools");
    }
    let shown = json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(&model),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": ollama::time(model.seen_at.0),
    });
    Ok(Json(shown).into_response())
}

/// What it is for, as Ollama's clients read it.
fn capabilities(model: &ModelView) -> Vec<&'static str> {
    match Kind::of_card(model.card.as_ref()) {
        Kind::Chat => vec!["completion"],
        Kind::Embeddings => vec!["embedding"],
    }
}

fn tag(model: &ModelView) -> Value {
    let card = model.card.as_ref().map(|card| card.id().to_string());
    let id = card.or_else(|| model.ids.first().map(ToString::to_string));
    json!({
        "name": model.name,
        "model": model.name,
        "modified_at": ollama::time(model.seen_at.0),
        // Nothing lies on this node's disk.
        "size": 0,
        "digest": id.unwrap_or_default(),
        "details": details(model),
        "capabilities": capabilities(model),
    })
}

fn details(model: &ModelView) -> Value {
    let card = model.card.as_ref();
    let quantization = card.and_then(|card| card.quantization.clone());
    json!({
        "parent_model": "",
        "format": "",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": quantization.unwrap_or_default(),
    })
}
