//! One answer, as it is written.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::mpsc;

/// Why an answer that had begun did not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine was dropped.
    #[error("the engine was closed while it was answering")]
    Closed,
    /// The network gave scores that are not numbers.
    #[error("the model's scores are not numbers: the file is damaged")]
    Scores,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or said one of the stop texts.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// A token and how likely the model found it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token's id in this model's vocabulary.
    pub id: u32,
    /// Its bytes; a token may hold part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature and penalties.
    pub logprob: f32,
}

impl TokenLogprob {
    /// The token as text, with U+FFFD where its bytes are not whole characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A chosen token among its alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The one that was chosen.
    pub chosen: TokenLogprob,
    /// As many of the likeliest as were asked for, best first.
    pub top: Vec<TokenLogprob>,
}

/// What happens while an answer is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// One token.
    Token {
        /// What it adds to the text. Empty while a character is incomplete or
        /// the text may be the beginning of a stop; nothing is lost by that.
        text: String,
        /// Present if the request asked for it.
        logprobs: Option<TokenLogprobs>,
    },
    /// The end; nothing follows.
    Done {
        /// Why.
        finish: Finish,
        /// How many tokens were written.
        completion_tokens: u32,
    },
}

/// A stream of [`Event`]s that ends with [`Event::Done`] or an error.
///
/// Dropping it stops the work behind it: the engine looks at the latest
/// between two parts of a layer.
#[derive(Debug)]
pub struct Answer {
    /// How many tokens the rendered messages have.
    pub prompt_tokens: u32,
    pub(crate) events: mpsc::Receiver<Result<Event, EngineError>>,
    pub(crate) is_over: bool,
}

impl Stream for Answer {
    type Item = Result<Event, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let event = match self.events.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            // The worker went without a word: it was told to close.
            Poll::Ready(None) => Err(EngineError::Closed),
            Poll::Ready(Some(event)) => event,
        };
        self.is_over = !matches!(event, Ok(Event::Token { .. }));
        Poll::Ready(Some(event))
    }
}
