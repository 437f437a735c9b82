//! An inference engine behind the provider, and what may go wrong with it.
//!
//! Three implementations keep the seam honest: [`OpenAiBackend`] speaks HTTP
//! to any OpenAI-compatible server, [`EngineBackend`] is the embedded engine,
//! [`ScriptedBackend`] plays chunks with given delays and faults.

mod engine;
mod limit;
mod openai;
mod pool;
mod probe;
mod scripted;
mod words;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::openai::{ChunkFacts, ErrorBody};
use bytes::Bytes;
use futures_util::Stream;
use market::BoxFuture;

pub use engine::EngineBackend;
pub(crate) use limit::limited;
pub use openai::{OpenAiBackend, OpenAiConfig, OpenAiConfigError};
pub use pool::{BACKENDS_MAX, Pool, Standing};
pub(crate) use probe::continues;
pub use scripted::{Line, Script, ScriptedBackend};
pub use words::Redacted;

/// One chunk of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChunk {
    /// An OpenAI `chat.completion.chunk` as JSON text.
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

    /// Whether it would take a request now.
    fn check(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Whether its owner wants nothing new to go to it.
    fn is_drained(&self) -> bool {
        false
    }
}

/// [`Backend`] as an object.
trait Boxed: Send + Sync {
    fn chat(&self, body: Bytes) -> BoxFuture<'static, Result<ChunkStream, BackendError>>;
    fn check(&self) -> BoxFuture<'static, Result<(), BackendError>>;
    fn is_drained(&self) -> bool;
}

impl<B: Backend> Boxed for Arc<B> {
    fn chat(&self, body: Bytes) -> BoxFuture<'static, Result<ChunkStream, BackendError>> {
        let this = Arc::clone(self);
        Box::pin(async move { Backend::chat(&*this, body).await })
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

    /// See [`Backend::chat`].
    pub(crate) fn chat(
        &self,
        body: Bytes,
    ) -> BoxFuture<'static, Result<ChunkStream, BackendError>> {
        self.0.chat(body)
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
