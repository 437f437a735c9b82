//! The dashboard's explorer: the demonstration's chain, read over this
//! address, behind the node's key. What is shown says `chain::Explorer`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chain::Explorer;
use market::LedgerError;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::doorkeeper::{Params, guarded, refuse};

/// Questions at a time, of all pages; each is some hundred questions to the chain at most.
const ASKED_MAX: usize = 8;
/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 128;

struct Desk {
    explorer: Explorer,
    turns: Semaphore,
}

/// Its routes.
pub(crate) fn routes(explorer: Explorer, key: &str) -> Router {
    let behind_key = [
        ("/api/chain/blocks", get(blocks)),
        ("/api/chain/find", get(find)),
        ("/api/chain/channels", get(channels)),
        ("/api/chain/registrations", get(registrations)),
    ];
    let desk = Desk {
        explorer,
        turns: Semaphore::new(ASKED_MAX),
    };
    guarded(behind_key, key).with_state(Arc::new(desk))
}

#[derive(Debug, Deserialize)]
struct Page {
    /// The block that the page ends before.
    before: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(rename = "for")]
    text: String,
}

async fn blocks(State(desk): State<Arc<Desk>>, Params(page): Params<Page>) -> Response {
    desk.answer(desk.explorer.blocks(page.before)).await
}

async fn channels(State(desk): State<Arc<Desk>>) -> Response {
    desk.answer(desk.explorer.channels()).await
}

async fn registrations(State(desk): State<Arc<Desk>>) -> Response {
    desk.answer(desk.explorer.registrations()).await
}

async fn find(State(desk): State<Arc<Desk>>, Params(wanted): Params<Wanted>) -> Response {
    if wanted.text.len() > TEXT_BYTES_MAX {
        let message = format!("for: at most {TEXT_BYTES_MAX} bytes are looked for");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    let nothing = "nothing on this chain has that name: a block's number or hash, a transaction's hash, \
                   an address or a channel's id";
    desk.respond(desk.explorer.find(&wanted.text), |found| match found {
        Some(found) => Json(found).into_response(),
        None => refuse(StatusCode::NOT_FOUND, nothing),
    })
    .await
}

impl Desk {
    async fn answer<T: Serialize>(
        &self,
        looking: impl Future<Output = Result<T, LedgerError>>,
    ) -> Response {
        self.respond(looking, |told| Json(told).into_response())
            .await
    }

    async fn respond<T>(
        &self,
        looking: impl Future<Output = Result<T, LedgerError>>,
        respond: impl FnOnce(T) -> Response,
    ) -> Response {
        let Ok(_turn) = self.turns.try_acquire() else {
            let message = "the chain is being looked at by too many pages; try again";
            return refuse(StatusCode::TOO_MANY_REQUESTS, message);
        };
        match looking.await {
            Ok(told) => respond(told),
            Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }
}
