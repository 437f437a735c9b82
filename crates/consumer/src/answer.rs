//! An answer as it comes: pieces, then a summary of what it was and cost.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use market::{Address, Amount, Labels, Outcome, RequestId};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use crate::BrokenError;
use crate::shell::Place;

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// One OpenAI `chat.completion.chunk` as JSON text, as the provider sent it.
    Chunk(Bytes),
    /// The end: complete, receipted, paid. Nothing comes after it.
    End(Summary),
}

/// What an answer was and cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The request.
    pub request: RequestId,
    /// Who answered.
    pub provider: Address,
    /// In what it is paid.
    pub token: Address,
    /// Tokens of the request, as billed.
    pub input_tokens: u32,
    /// Tokens of the answer, as billed.
    pub output_tokens: u32,
    /// What it cost, in base units of the token.
    pub cost: Amount,
    /// How it ended, as the provider signed it.
    pub outcome: Outcome,
    /// From the request to the first piece.
    pub ttft_ms: u64,
    /// From the request to the end.
    pub duration_ms: u64,
    /// What is proved about its privacy.
    pub labels: Labels,
}

/// A running answer. Dropping it stops the provider and its backend.
pub struct Answer {
    pub(crate) request: RequestId,
    pub(crate) provider: Address,
    pub(crate) labels: Labels,
    pub(crate) first: Option<Result<Piece, BrokenError>>,
    pub(crate) rest: mpsc::Receiver<Result<Piece, BrokenError>>,
    /// Cancels the exchange when this is dropped.
    pub(crate) _guard: DropGuard,
    /// Its place among the running requests.
    pub(crate) place: Option<Place>,
}

impl Answer {
    /// The request's id.
    pub fn request(&self) -> RequestId {
        self.request
    }

    pub(crate) fn holding(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Who answers.
    pub fn provider(&self) -> Address {
        self.provider
    }

    /// What is proved about its privacy.
    pub fn labels(&self) -> Labels {
        self.labels
    }
}

impl Stream for Answer {
    type Item = Result<Piece, BrokenError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => self.rest.poll_recv(cx),
        }
    }
}
