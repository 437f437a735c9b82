//! The embedded sentence encoder as a backend.

use std::collections::VecDeque;

use bytes::Bytes;
use engine::{EmbedError, Embedder, Texts};
use futures_util::stream::{StreamExt, try_unfold};
use market::Kind;
use openai::EmbeddingsRequest;
use openai::embeddings::Answered;

use super::vectors::{TEXTS_AT_ONCE, Written};
use super::{Backend, BackendChunk, BackendError, BackendFailure, ChunkStream};

/// Fields of a request that it heeds.
const PARAMETERS: [&str; 2] = ["dimensions", "truncate"];

/// The embedded sentence encoder.
pub struct EmbedderBackend {
    embedder: Embedder,
}

impl EmbedderBackend {
    /// Of a loaded model.
    pub fn new(embedder: Embedder) -> Self {
        Self { embedder }
    }

    /// Fields of a request that it heeds, beyond the texts.
    pub fn parameters() -> Vec<String> {
        PARAMETERS.map(str::to_owned).into()
    }
}

impl Backend for EmbedderBackend {
    async fn chat(&self, _body: Bytes) -> Result<ChunkStream, BackendError> {
        Err(BackendError::not_for(Kind::Chat))
    }

    async fn embed(&self, request: EmbeddingsRequest) -> Result<ChunkStream, BackendError> {
        let refused = |message: String| BackendError::Request { message };
        let own = self.embedder.dimensions();
        if let Some(asked) = request.dimensions().filter(|asked| *asked != own) {
            let message = format!("dimensions: {asked}; the vectors of this model have {own}");
            return Err(refused(message));
        }
        let cut = request.field("truncate") == Some("true");
        let texts = request.texts().map_err(|bad| refused(bad.to_string()))?;
        let texts = self.embedder.read(texts, cut).await.map_err(refusal)?;
        let rest = Rest {
            embedder: self.embedder.clone(),
            texts,
            ready: VecDeque::new(),
            written: Written::default(),
        };
        Ok(try_unfold(rest, Rest::next).boxed())
    }

    async fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

fn refusal(error: EmbedError) -> BackendError {
    match error {
        EmbedError::TooLong { .. } | EmbedError::Tokenizer { .. } => BackendError::Request {
            message: error.to_string(),
        },
        EmbedError::Compute(_) | EmbedError::Stopped => BackendError::Unreachable(error.into()),
    }
}

/// What is still to come.
struct Rest {
    embedder: Embedder,
    texts: Texts,
    ready: VecDeque<BackendChunk>,
    written: Written,
}

impl Rest {
    async fn next(mut self) -> Result<Option<(BackendChunk, Self)>, BackendFailure> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some((chunk, self)));
            }
            if self.texts.left() == 0 {
                return Ok(None);
            }
            let embedded = self.embedder.embed(&mut self.texts, TEXTS_AT_ONCE).await;
            let embedded = embedded.map_err(|error| BackendFailure::Broken(error.into()))?;
            let tokens = embedded.iter().map(|text| text.tokens);
            let answered = Answered {
                prompt_tokens: Some(tokens.fold(0, u32::saturating_add)),
                rows: embedded.into_iter().map(|text| text.vector).collect(),
            };
            self.ready = self.written.chunks(&answered);
        }
    }
}
