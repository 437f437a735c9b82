//! A backend over HTTP: any server that speaks the OpenAI dialect (vLLM,
//! SGLang, llama.cpp, Ollama, LM Studio, a hosted one).
//!
//! One request is one connection while it runs: dropping the stream closes
//! it, which is how such servers learn that nobody listens any more. An
//! answer is complete only when the server says `[DONE]`. The server's key
//! never leaves this file, and neither do its words when it refuses the key;
//! of other refusals the consumer learns the status, the log a redacted text.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, try_unfold};
use openai::embeddings::Answered;
use openai::sse::Decoder;
use openai::{EmbeddingsRequest, ErrorBody};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::{Instant, timeout, timeout_at};
use transport::message::SILENCE_MAX;

use super::vectors::{TEXTS_AT_ONCE, Written};
use super::words::{Redacted, refused};
use super::{Backend, BackendChunk, BackendError, BackendFailure, ChunkStream};

/// Time to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time until the first chunk, where nothing else is said. Servers load a
/// model on first use, and long prompts take their time.
const FIRST_CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that a server is waited for: a consumer gives an answer up
/// after [`SILENCE_MAX`], and should hear before that what is wrong.
const PATIENCE_MAX: Duration = Duration::from_secs(SILENCE_MAX.as_secs() * 3 / 4);

/// Silence within an answer that counts as its end, where nothing else is said.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Time for an error's body.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// So much of an error's body is read.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest event of an answer.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The longest answer with the vectors of texts that are asked for together.
const VECTORS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Time for the list of models, which is how a server is checked.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections kept for the next request, and for how long.
const IDLE_CONNECTIONS: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest wait that is believed of a server's `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Where a server is and how patient to be.
pub struct OpenAiConfig {
    /// `http://127.0.0.1:8000/v1`; `/v1` is added to an address without a path.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub api_key: Option<String>,
    /// Time from the request to the first chunk.
    pub first_chunk_within: Duration,
    /// Silence within an answer that counts as its end.
    pub stall_after: Duration,
}

impl OpenAiConfig {
    /// A server with the usual patience and no key.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            first_chunk_within: FIRST_CHUNK_TIMEOUT,
            stall_after: STALL_TIMEOUT,
        }
    }
}

impl fmt::Debug for OpenAiConfig {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiConfig")
            .field("url", &self.url)
            .field("has_api_key", &self.api_key.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a server cannot be spoken to at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiConfigError {
    /// Not an address.
    #[error("{url:?} is not a backend's address (allowed: http://host:port or https://host/path)")]
    Url {
        /// What was given.
        url: String,
    },
    /// The key has characters that cannot be in a header. It is not repeated here.
    #[error(
        "the backend's key holds characters that a header cannot have (allowed: visible ASCII)"
    )]
    Key,
    /// Longer than a consumer would wait, or no time at all.
    #[error("{field} is {} s, allowed is more than 0 and at most {} s", .value.as_secs(), PATIENCE_MAX.as_secs())]
    Patience {
        /// The field, as in [`OpenAiConfig`].
        field: &'static str,
        /// What it says.
        value: Duration,
    },
    /// No HTTP client can be made.
    #[error("no HTTP client")]
    Client(#[source] reqwest::Error),
}

/// A server that speaks the OpenAI dialect.
#[derive(Debug)]
pub struct OpenAiBackend {
    client: Client,
    completions: Url,
    embeddings: Url,
    models: Url,
    first_chunk_within: Duration,
    stall_after: Duration,
}

impl OpenAiBackend {
    /// Prepares to speak to it; does not connect yet.
    pub fn new(config: OpenAiConfig) -> Result<Self, OpenAiConfigError> {
        for (field, value) in [
            ("first_chunk_within", config.first_chunk_within),
            ("stall_after", config.stall_after),
        ] {
            if value.is_zero() || value > PATIENCE_MAX {
                return Err(OpenAiConfigError::Patience { field, value });
            }
        }
        let base = base_url(&config.url).ok_or(OpenAiConfigError::Url { url: config.url })?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.api_key {
            let value = HeaderValue::from_str(&format!("Bearer {key}"));
            let mut value = value.map_err(|_| OpenAiConfigError::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .build()
            .map_err(OpenAiConfigError::Client)?;
        Ok(Self {
            client,
            completions: below(&base, "chat/completions"),
            embeddings: below(&base, "embeddings"),
            models: below(&base, "models"),
            first_chunk_within: config.first_chunk_within,
            stall_after: config.stall_after,
        })
    }
}

impl Backend for OpenAiBackend {
    async fn chat(&self, body: Bytes) -> Result<ChunkStream, BackendError> {
        let request = self
            .client
            .post(self.completions.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let waited = self.first_chunk_within;
        let deadline = Instant::now() + waited;
        let response = timeout_at(deadline, request.send())
            .await
            .map_err(|_| BackendError::Timeout { waited })?
            .map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let reader = Reader {
            response,
            decoder: Decoder::with_limit(EVENT_BYTES_MAX),
            waited,
            deadline,
            stall_after: self.stall_after,
        };
        Ok(try_unfold(reader, Reader::next).boxed())
    }

    async fn embed(&self, request: EmbeddingsRequest) -> Result<ChunkStream, BackendError> {
        let batches = Batches {
            client: self.client.clone(),
            url: self.embeddings.clone(),
            within: self.first_chunk_within,
            request,
            asked: 0,
            ready: VecDeque::new(),
            written: Written::default(),
        };
        // What is refused at once is no answer.
        match batches.next().await {
            Err(BackendFailure::Late(error)) => Err(error),
            Err(failure) => Ok(stream::once(async { Err(failure) }).boxed()),
            Ok(None) => Ok(stream::empty().boxed()),
            Ok(Some((first, rest))) => {
                let first = stream::once(async { Ok(first) });
                Ok(first.chain(try_unfold(rest, Batches::next)).boxed())
            }
        }
    }

    async fn check(&self) -> Result<(), BackendError> {
        let request = self.client.get(self.models.clone()).timeout(CHECK_TIMEOUT);
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refusal(response).await)
    }
}

/// An answer that is being read.
struct Reader {
    response: Response,
    decoder: Decoder,
    /// The next chunk has to be there by then; it was then waited for so long.
    deadline: Instant,
    waited: Duration,
    stall_after: Duration,
}

impl Reader {
    async fn next(mut self) -> Result<Option<(BackendChunk, Self)>, BackendFailure> {
        loop {
            let event = self.decoder.next();
            if let Some(event) = event.map_err(|error| BackendFailure::Garbage(error.into()))? {
                if event.is_done() {
                    // If the end is already there, the connection can be used again.
                    let _ = self.response.chunk().now_or_never();
                    return Ok(None);
                }
                if event.data.trim_ascii().is_empty() {
                    continue;
                }
                let chunk = BackendChunk::read(event.data)?;
                self.waited = self.stall_after;
                self.deadline = Instant::now() + self.stall_after;
                return Ok(Some((chunk, self)));
            }
            let waited = self.waited;
            let piece = timeout_at(self.deadline, self.response.chunk())
                .await
                .map_err(|_| BackendFailure::Stalled { waited })?
                .map_err(|error| BackendFailure::Broken(error.without_url().into()))?;
            match piece {
                Some(piece) => self.decoder.push(&piece),
                None => {
                    let decoder = self.decoder;
                    return match decoder.finish() {
                        Ok(()) => Err(BackendFailure::Unfinished),
                        Err(error) => Err(BackendFailure::Garbage(error.into())),
                    };
                }
            }
        }
    }
}

/// Vectors that are asked for a batch after the other.
struct Batches {
    client: Client,
    url: Url,
    /// Time for a batch.
    within: Duration,
    request: EmbeddingsRequest,
    /// Texts that were asked for.
    asked: usize,
    ready: VecDeque<BackendChunk>,
    written: Written,
}

impl Batches {
    async fn next(mut self) -> Result<Option<(BackendChunk, Self)>, BackendFailure> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some((chunk, self)));
            }
            let left = self.request.inputs().saturating_sub(self.asked);
            if left == 0 {
                return Ok(None);
            }
            let count = left.min(TEXTS_AT_ONCE);
            let waited = self.within;
            let body = timeout(waited, self.batch(count))
                .await
                .map_err(|_| BackendError::Timeout { waited })??;
            self.asked += count;
            let answered = Answered::read(&body, count);
            let answered = answered.map_err(|error| BackendFailure::Garbage(error.into()))?;
            self.ready = self.written.chunks(&answered);
        }
    }

    /// The body with the vectors of the next texts.
    async fn batch(&self, count: usize) -> Result<Vec<u8>, BackendFailure> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(self.request.part(self.asked, count));
        let mut response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(refusal(response).await.into());
        }
        let mut body = Vec::new();
        loop {
            let piece = response.chunk().await;
            let piece =
                piece.map_err(|error| BackendFailure::Broken(error.without_url().into()))?;
            let Some(piece) = piece else { return Ok(body) };
            if body.len() + piece.len() > VECTORS_BYTES_MAX {
                let long = format!("longer than {VECTORS_BYTES_MAX} bytes");
                return Err(BackendFailure::Garbage(long.into()));
            }
            body.extend_from_slice(&piece);
        }
    }
}

fn unreachable(error: reqwest::Error) -> BackendError {
    BackendError::Unreachable(error.without_url().into())
}

/// What a server's refusal means to the consumer.
async fn refusal(response: Response) -> BackendError {
    let status = response.status();
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => {
            let body = error_body(response).await;
            let words = ErrorBody::message_in(&body);
            let said = Redacted::new(words.as_deref().unwrap_or_default());
            tracing::warn!(status = status.as_u16(), %said, "the backend refused a request");
            let message = refused(status.as_u16(), words.as_deref());
            BackendError::Request { message }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => BackendError::Busy {
            retry_after: retry_after(response.headers()),
        },
        // The model's name and the address are the provider's own; so is the key.
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED => BackendError::Misconfigured {
            status: status.as_u16(),
        },
        _ => BackendError::Failed {
            status: status.as_u16(),
        },
    }
}

/// As much of an error's body as is worth reading.
async fn error_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            body.extend_from_slice(&piece);
            if body.len() > ERROR_BODY_BYTES_MAX {
                body.truncate(ERROR_BODY_BYTES_MAX);
                break;
            }
        }
    };
    // What came until then will do.
    let _ = timeout(ERROR_BODY_TIMEOUT, read).await;
    body
}

/// Seconds only; a date would need a clock, and backends do not send one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Where a server's routes begin: `/v1` is added to an address without a path.
/// None: it is no such address.
pub fn base_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text.trim()).ok()?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    if url.path() == "/" {
        url.set_path("/v1");
    }
    Some(url)
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (text, completions) in [
            (
                "http://127.0.0.1:8000",
                Some("http://127.0.0.1:8000/v1/chat/completions"),
            ),
            (
                "http://127.0.0.1:8000/",
                Some("http://127.0.0.1:8000/v1/chat/completions"),
            ),
            (
                "https://a.example/api/v1/",
                Some("https://a.example/api/v1/chat/completions"),
            ),
            ("127.0.0.1:8000", None),
            ("ftp://a.example", None),
            ("http://a.example/v1?x=1", None),
            ("", None),
        ] {
            let got = base_url(text).map(|base| below(&base, "chat/completions").to_string());
            assert_eq!(got.as_deref(), completions, "{text:?}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let config = OpenAiConfig {
            api_key: Some("secret".into()),
            ..OpenAiConfig::new("http://a.example")
        };
        assert!(!format!("{config:?}").contains("secret"));
    }
}
