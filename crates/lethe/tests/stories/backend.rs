//! An OpenAI-compatible server that counts to a number, slowly enough to be
//! interrupted, or falls silent on the way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Tokens of the request, as it says.
pub(crate) const INPUT_TOKENS: u32 = 9;
/// A question that it does not take.
pub(crate) const REFUSED: &str = "none";
const GAP: Duration = Duration::from_millis(4);

/// It runs until dropped.
pub(crate) struct Counting {
    pub(crate) url: String,
    running: Arc<AtomicUsize>,
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

    /// Says nothing any more after so many chunks; after none: never answers at all.
    pub(crate) async fn silent_after(chunks: u32) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let running = Arc::new(AtomicUsize::new(0));
        let routes = Router::new()
            .route(
                "/v1/models",
                get(|| async { axum::Json(json!({ "data": [{ "id": "counting" }] })) }),
            )
            .route("/v1/chat/completions", post(count))
            .with_state((Arc::clone(&running), chunks));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            running,
            _task: task,
        }
    }

    /// Streams that are open.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// Counts up to the number that the last message is.
async fn count(
    State((running, silent_after)): State<(Arc<AtomicUsize>, u32)>,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let last = body["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .cloned()
        .unwrap_or_default();
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
    let lines = futures_util::stream::unfold((0, open), move |(at, open)| async move {
        if at == silent_after {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GAP).await;
        let line = line(at, to)?;
        Some((Ok::<_, Infallible>(line), (at + 1, open)))
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(lines),
    )
        .into_response()
}

fn line(at: u32, to: u32) -> Option<String> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "/secret/path",
                            "choices": choices, "usage": usage });
        Some(format!("data: {chunk}\n\n"))
    };
    match at {
        at if at < to => chunk(
            json!([{ "index": 0, "delta": { "content": format!("{at} ") } }]),
            Value::Null,
        ),
        at if at == to => chunk(
            json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]),
            Value::Null,
        ),
        at if at == to + 1 => {
            let usage = json!({ "prompt_tokens": INPUT_TOKENS, "completion_tokens": to,
                                "total_tokens": INPUT_TOKENS + to });
            chunk(json!([]), usage)
        }
        at if at == to + 2 => Some("data: [DONE]\n\n".into()),
        _ => None,
    }
}
