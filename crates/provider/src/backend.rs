//! An inference engine behind the provider, and what may go wrong with it.
//!
//! Four implementations keep the seam honest: [`OpenAiBackend`] speaks HTTP
//! to any OpenAI-compatible server, [`EngineBackend`] is the embedded engine,
//! [`EmbedderBackend`] its encoder of sentences, [`ScriptedBackend`] plays
//! chunks with given delays and faults.

mod embedder;
mod engine;
mod limit;
mod openai;
mod pool;
mod probe;
mod scripted;
mod vectors;
mod words;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::openai::{ChunkFacts, EmbeddingsRequest, ErrorBody};
use bytes::Bytes;
use futures_util::Stream;
use market::{BoxFuture, Kind};

pub use embedder::EmbedderBackend;
pub use engine::EngineBackend;
pub(crate) use limit::limited;
pub use openai::{OpenAiBackend, OpenAiConfig, OpenAiConfigError, base_url};
pub use pool::{BACKENDS_MAX, Pool, Standing};
pub(crate) use probe::continues;
pub use scripted::{Line, Script, ScriptedBackend};
pub use words::Redacted;

/// One chunk of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChunk {
    /// An OpenAI `chat.completion.chunk` as JSON text, or a piece of vectors
    /// ([`openai::embeddings`](::openai::embeddings)).
    pub json: Bytes,
    /// What is in it.
    pub facts: ChunkFacts,
}

/// An answer as it comes. Its end without a failure is the answer's good end.
pub type ChunkStream = Pin<Box<dyn Stream<Item = Result<BackendChunk, BackendFailure>> + Send>>;

/// Why a backend does not take a request. No work was done.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The request itself is at fault; another backend would say the same.
    #[error("{message}")]
    Request {
        /// What a consumer is told: our words, never the server's.
        message: String,
    },
    /// It is overloaded, or still loading its model.
    #[error("the backend is busy")]
    Busy {
        /// When to come again.
        retry_after: Option<Duration>,
    },
    /// It does not accept the key that the provider has for it, or is no such server.
    #[error(
        "the backend refuses the provider with status {status} (check the backend's address and key)"
    )]
    Misconfigured {
        /// The HTTP status.
        status: u16,
    },
    /// It is not there.
    #[error("the backend cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not begin in time.
    #[error("the backend did not begin within {} s", .waited.as_secs())]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
    },
    /// It answered with an error of its own.
    #[error("the backend failed with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
}

impl BackendError {
    /// Whether somebody is there who said so.
    pub(crate) fn is_answer(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::Timeout { .. })
    }
}

/// Why an answer that had begun broke off.
#[derive(Debug, thiserror::Error)]
pub enum BackendFailure {
    /// The connection broke.
    #[error("the backend's connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing came for too long.
    #[error("the backend sent nothing for {} s", .waited.as_secs())]
    Stalled {
        /// How long.
        waited: Duration,
    },
    /// It sent what is no chunk of an answer.
    #[error("the backend sent what is not an answer")]
    Garbage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It closed the connection before the answer's end.
    #[error("the backend ended without saying that the answer is complete")]
    Unfinished,
    /// It said so itself.
    #[error("the backend reported an error")]
    Reported(#[source] Redacted),
    /// It took its time to think, and then refused.
    #[error(transparent)]
    Late(#[from] BackendError),
}

/// An inference engine behind this provider.
pub trait Backend: Send + Sync + 'static {
    /// Starts one answer to an OpenAI chat request, streamed and with usage.
    /// Dropping the future or the stream must stop the engine's work at once.
    fn chat(&self, body: Bytes) -> impl Future<Output = Result<ChunkStream, BackendError>> + Send;

    /// Starts the vectors of a request for embeddings, one for each text in
    /// their order. Dropping the future or the stream must stop the engine's
    /// work.
    fn embed(
        &self,
        request: EmbeddingsRequest,
    ) -> impl Future<Output = Result<ChunkStream, BackendError>> + Send;

    /// Whether it would take a request now.
    fn check(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Whether its owner wants nothing new to go to it.
    fn is_drained(&self) -> bool {
        false
    }
}

/// What a backend is to do.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// See [`Backend::chat`].
    Chat(Bytes),
    /// See [`Backend::embed`].
    Embed(EmbeddingsRequest),
}

/// [`Backend`] as an object.
trait Boxed: Send + Sync {
    fn answer(&self, work: Work) -> BoxFuture<'static, Result<ChunkStream, BackendError>>;
    fn check(&self) -> BoxFuture<'static, Result<(), BackendError>>;
    fn is_drained(&self) -> bool;
}

impl<B: Backend> Boxed for Arc<B> {
    fn answer(&self, work: Work) -> BoxFuture<'static, Result<ChunkStream, BackendError>> {
        let this = Arc::clone(self);
        Box::pin(async move {
            match work {
                Work::Chat(body) => this.chat(body).await,
                Work::Embed(request) => this.embed(request).await,
            }
        })
    }

    fn check(&self) -> BoxFuture<'static, Result<(), BackendError>> {
        let this = Arc::clone(self);
        Box::pin(async move { Backend::check(&*this).await })
    }

    fn is_drained(&self) -> bool {
        Backend::is_drained(&**self)
    }
}

/// Some backend; several offers may share one. Cheap to clone.
#[derive(Clone)]
pub struct BackendHandle(Arc<dyn Boxed>);

impl BackendHandle {
    /// Of any backend.
    pub fn new(backend: impl Backend) -> Self {
        Self::shared(Arc::new(backend))
    }

    /// Of one that the caller goes on looking at.
    pub fn shared<B: Backend>(backend: Arc<B>) -> Self {
        Self(Arc::new(backend))
    }

    /// Starts the answer.
    pub(crate) fn answer(
        &self,
        work: Work,
    ) -> BoxFuture<'static, Result<ChunkStream, BackendError>> {
        self.0.answer(work)
    }

    /// See [`Backend::check`].
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        self.0.check().await
    }

    /// See [`Backend::is_drained`].
    pub(crate) fn is_drained(&self) -> bool {
        self.0.is_drained()
    }
}

impl fmt::Debug for BackendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackendHandle")
    }
}

impl BackendError {
    /// It has no model for that.
    pub(crate) fn not_for(kind: Kind) -> Self {
        let message = format!("the backend's model is not for {kind}");
        Self::Request { message }
    }
}

impl BackendChunk {
    /// Looks a chunk through. An `error` object in a chunk's place is a failure.
    pub fn read(json: Bytes) -> Result<Self, BackendFailure> {
        let facts = ::openai::scan(&json).map_err(|error| BackendFailure::Garbage(error.into()))?;
        if facts.is_error {
            let message = ErrorBody::message_in(&json).unwrap_or_else(|| "no reason".to_owned());
            return Err(BackendFailure::Reported(Redacted::new(&message)));
        }
        Ok(Self { json, facts })
    }
}
