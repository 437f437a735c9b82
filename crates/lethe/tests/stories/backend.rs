//! An OpenAI-compatible server that counts to a number, slowly enough to be
//! interrupted, or falls silent on the way; it goes on with what was begun.
//! Given tools, it calls one with what it counted, piece by piece. Like Ollama it
//! tells what it has at `/api/tags`. For embeddings it makes up a vector of each
//! text, which has nothing to do with what that means.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Tokens of the request, as it says.
pub(crate) const INPUT_TOKENS: u32 = 9;
/// A question that it does not take.
pub(crate) const REFUSED: &str = "none";
/// Pieces that a call comes in.
pub(crate) const CALL_PIECES: u32 = 100;
const GAP: Duration = Duration::from_millis(4);

/// It runs until dropped.
pub(crate) struct Counting {
    pub(crate) url: String,
    running: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

/// Counts streams that are open.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counting {
    pub(crate) async fn start() -> Self {
        Self::silent_after(u32::MAX).await
    }

    /// Here, and nowhere else.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::serving(TcpListener::bind(address).await.unwrap(), u32::MAX, None)
    }

    /// Answers nobody who does not show this key.
    pub(crate) async fn guarded(key: &'static str) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any).await.unwrap();
        Self::serving(listener, u32::MAX, Some(key))
    }

    /// Says nothing any more after so many chunks; after none: never answers at all.
    pub(crate) async fn silent_after(chunks: u32) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::serving(TcpListener::bind(any).await.unwrap(), chunks, None)
    }

    fn serving(listener: TcpListener, chunks: u32, key: Option<&'static str>) -> Self {
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let running = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let routes = Router::new()
            .route(
                "/v1/models",
                get(|| async { axum::Json(json!({ "data": [{ "id": "counting" }] })) }),
            )
            .route("/api/tags", get(|| async { axum::Json(tags()) }))
            .route(
                "/v1/chat/completions",
                post(move |state, body| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    count(state, body)
                }),
            )
            .route("/v1/embeddings", post(embed))
            .with_state((Arc::clone(&running), chunks))
            .layer(middleware::from_fn(move |request, next| {
                shown(key, request, next)
            }));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            running,
            asked,
            _task: task,
        }
    }

    /// Requests that ever came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Streams that are open.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// Lets through who shows the key, if there is one.
async fn shown(key: Option<&str>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION);
    match key.map(|key| format!("Bearer {key}")) {
        Some(key) if given.is_none_or(|given| *given != key) => {
            StatusCode::UNAUTHORIZED.into_response()
        }
        _ => next.run(request).await,
    }
}

fn tags() -> Value {
    let details = json!({ "family": "numbers", "quantization_level": "Q4_K_M" });
    let model =
        json!({ "name": "counting:latest", "size": 7, "digest": "ab12", "details": details });
    json!({ "models": [model] })
}

/// The vector that it makes up for a text.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let bytes = || text.bytes().map(f32::from);
    vec![bytes().sum(), bytes().count() as f32 / 3.0, -0.1]
}

/// A vector and a token for each text; silent after so many batches.
async fn embed(
    State((batches, silent_after)): State<(Arc<AtomicUsize>, u32)>,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let before = batches.fetch_add(1, Ordering::SeqCst);
    if before >= silent_after as usize {
        std::future::pending::<()>().await;
    }
    let texts = body["input"].as_array().unwrap();
    let row = |(index, text): (usize, &Value)| {
        let embedding = vector(text.as_str().unwrap());
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<_> = texts.iter().enumerate().map(row).collect();
    let usage = json!({ "prompt_tokens": texts.len(), "total_tokens": texts.len() });
    axum::Json(json!({ "object": "list", "data": data, "model": "/secret/path", "usage": usage }))
        .into_response()
}

/// Counts up to the number that the last message is.
async fn count(
    State((running, silent_after)): State<(Arc<AtomicUsize>, u32)>,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let mut messages = body["messages"].as_array().cloned().unwrap_or_default();
    let mut last = messages.pop().unwrap_or_default();
    let mut begun = String::new();
    if body["continue_final_message"] == true {
        begun = last["content"].as_str().unwrap_or_default().to_owned();
        last = messages.pop().unwrap_or_default();
    }
    let to: u32 = last["content"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    if last["content"] == REFUSED {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    running.fetch_add(1, Ordering::SeqCst);
    let open = Open(running);
    if silent_after == 0 {
        std::future::pending::<()>().await;
    }
    let calls = body["tools"].is_array();
    let (first, cut) = begins(begun.len(), to);
    let lines = futures_util::stream::unfold((first, open), move |(at, open)| async move {
        if at == silent_after {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GAP).await;
        let cut = if at == first { cut } else { 0 };
        let line = match at.checked_sub(to) {
            Some(piece) if calls && piece < CALL_PIECES => call(piece),
            Some(piece) if calls => line(to + piece - CALL_PIECES, to, first, 0)?,
            _ => line(at, to, first, cut)?,
        };
        Some((Ok::<_, Infallible>(line), (at + 1, open)))
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// The number that so many bytes of counting end in, and how much of it they have.
fn begins(mut bytes: usize, to: u32) -> (u32, usize) {
    for at in 0..to {
        let length = format!("{at} ").len();
        if bytes < length {
            return (at, bytes);
        }
        bytes -= length;
    }
    (to, 0)
}

/// A piece of a call: its name first, its argument digit by digit.
fn call(piece: u32) -> String {
    let function = match piece {
        0 => json!({ "name": "count", "arguments": "[" }),
        piece if piece == CALL_PIECES - 1 => json!({ "arguments": "9]" }),
        _ => json!({ "arguments": "1," }),
    };
    let chunk = json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "/secret/path",
        "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "function": function }] } }],
    });
    format!("data: {chunk}\n\n")
}

fn line(at: u32, to: u32, first: u32, cut: usize) -> Option<String> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "/secret/path",
                            "choices": choices, "usage": usage });
        Some(format!("data: {chunk}\n\n"))
    };
    match at {
        at if at < to => chunk(
            json!([{ "index": 0, "delta": { "content": &format!("{at} ")[cut..] } }]),
            Value::Null,
        ),
        at if at == to => chunk(
            json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]),
            Value::Null,
        ),
        at if at == to + 1 => {
            let usage = json!({ "prompt_tokens": INPUT_TOKENS + first, "completion_tokens": to - first,
                                "total_tokens": INPUT_TOKENS + to });
            chunk(json!([]), usage)
        }
        at if at == to + 2 => Some("data: [DONE]\n\n".into()),
        _ => None,
    }
}
