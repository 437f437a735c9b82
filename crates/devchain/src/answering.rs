//! From what a client sent to the text that answers it; the same over HTTP and
//! over a WebSocket.

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::keeper::Asker;
use crate::rpc::Answer;
use crate::rpc::error::RpcError;
use crate::rpc::request::{Body, Request, Response};

/// The largest answer to a batch, in bytes; the same as geth's.
const BATCH_ANSWER_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Requests of one batch that are in the chain's queue at once.
const BATCH_WINDOW: usize = 32;

/// What is answered to `body`; nothing to notifications.
pub(crate) async fn answer(asker: &Asker, body: Result<Body, RpcError>) -> Option<String> {
    match body {
        Err(error) => Some(write(None, &Err(error))),
        Ok(Body::One(request)) => answer_one(asker, request).await,
        Ok(Body::Many(requests)) => answer_many(asker, requests).await,
    }
}

/// One answer as text.
pub(crate) fn write(id: Option<&RawValue>, answer: &Answer) -> String {
    let response = Response::new(id, answer.as_deref());
    serde_json::to_string(&response).unwrap_or_default()
}

async fn answer_one(asker: &Asker, request: Request) -> Option<String> {
    let Request { id, method, params } = request;
    let answer = asker.ask(method, params).await;
    let answer = received(answer).await;
    id.map(|id| write(Some(&id), &answer))
}

/// Many requests of a batch are in the queue before the first answer is awaited,
/// so that its transactions share one write to the disk.
async fn answer_many(asker: &Asker, requests: Vec<Result<Request, RpcError>>) -> Option<String> {
    let mut texts = String::new();
    let mut requests = requests.into_iter().peekable();
    while requests.peek().is_some() {
        let mut asked = Vec::with_capacity(BATCH_WINDOW);
        for request in requests.by_ref().take(BATCH_WINDOW) {
            asked.push(match request {
                Ok(Request { id, method, params }) => (id, Ok(asker.ask(method, params).await)),
                Err(error) => (Some(RawValue::NULL.to_owned()), Err(error)),
            });
        }
        for (id, answer) in asked {
            let answer = match answer {
                Ok(answer) => within(texts.len(), received(answer).await),
                Err(error) => Err(error),
            };
            if let Some(id) = id {
                texts.push(if texts.is_empty() { '[' } else { ',' });
                texts.push_str(&write(Some(&id), &answer));
            }
        }
    }
    (!texts.is_empty()).then(|| texts + "]")
}

/// The answer, if there is room for it after those that are `written`.
fn within(written: usize, answer: Answer) -> Answer {
    let size = written + answer.as_ref().map_or(0, |answer| answer.get().len());
    if answer.is_ok() && size > BATCH_ANSWER_BYTES_MAX {
        return Err(RpcError::Limit {
            what: "the size of a batch's answer in bytes",
            got: size as u64,
            limit: BATCH_ANSWER_BYTES_MAX as u64,
        });
    }
    answer
}

async fn received(answer: oneshot::Receiver<Answer>) -> Answer {
    answer.await.unwrap_or(Err(RpcError::Stopped))
}
