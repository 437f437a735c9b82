//! The embedded engine as a backend: its tokens as OpenAI chunks.

use bytes::Bytes;
use engine::{Answer, ChatError, Engine, Event, Finish, TokenLogprob, TokenLogprobs};
use futures_util::stream::{StreamExt, unfold};
use market::{Kind, Timestamp};
use openai::{EmbeddingsRequest, Usage};
use serde_json::{Value, json};

use super::{Backend, BackendChunk, BackendError, BackendFailure, ChunkStream};
use crate::Clock;

/// The embedded engine.
pub struct EngineBackend {
    engine: Engine,
    clock: Clock,
}

impl EngineBackend {
    /// Of a loaded model. The clock dates the chunks.
    pub fn new(engine: Engine, clock: Clock) -> Self {
        Self { engine, clock }
    }
}

impl Backend for EngineBackend {
    async fn chat(&self, body: Bytes) -> Result<ChunkStream, BackendError> {
        let request: Value = serde_json::from_slice(&body).map_err(|_| BackendError::Request {
            message: "the body is not JSON".to_owned(),
        })?;
        let answer = self.engine.chat(&request).await.map_err(refusal)?;
        let writer = Writer {
            prompt_tokens: answer.prompt_tokens,
            answer,
            created: (self.clock)(),
            stage: Stage::Role,
        };
        Ok(unfold(writer, Writer::next).boxed())
    }

    async fn embed(&self, _request: EmbeddingsRequest) -> Result<ChunkStream, BackendError> {
        Err(BackendError::not_for(Kind::Embeddings))
    }

    async fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

fn refusal(error: ChatError) -> BackendError {
    match error {
        ChatError::Busy { .. } => BackendError::Busy { retry_after: None },
        ChatError::Closed => BackendError::Unreachable(error.into()),
        ChatError::BadRequest { .. } | ChatError::TooLong { .. } => BackendError::Request {
            message: error.to_string(),
        },
        ChatError::Template { ref source } => BackendError::Request {
            message: format!("{error}: {source}"),
        },
    }
}

/// Where an answer stands.
enum Stage {
    /// The role comes first, before any token.
    Role,
    /// Tokens.
    Tokens,
    /// The last token came; the count is still to be said.
    Usage {
        completion_tokens: u32,
    },
    Over,
}

struct Writer {
    answer: Answer,
    prompt_tokens: u32,
    created: Timestamp,
    stage: Stage,
}

impl Writer {
    async fn next(mut self) -> Option<(Result<BackendChunk, BackendFailure>, Self)> {
        let json = match self.stage {
            Stage::Over => return None,
            Stage::Role => return Some((self.role(), self)),
            Stage::Usage { completion_tokens } => {
                self.stage = Stage::Over;
                self.usage(completion_tokens)
            }
            Stage::Tokens => match self.answer.next().await {
                Some(Ok(Event::Token { text, logprobs })) => {
                    self.chunk(json!({ "content": text }), None, logprobs.as_ref())
                }
                Some(Ok(Event::Done {
                    finish,
                    completion_tokens,
                })) => {
                    self.stage = Stage::Usage { completion_tokens };
                    let reason = match finish {
                        Finish::Stop => "stop",
                        Finish::Length => "length",
                    };
                    self.chunk(json!({}), Some(reason), None)
                }
                Some(Err(error)) => {
                    self.stage = Stage::Over;
                    return Some((Err(BackendFailure::Broken(error.into())), self));
                }
                None => {
                    self.stage = Stage::Over;
                    return Some((Err(BackendFailure::Unfinished), self));
                }
            },
        };
        Some((BackendChunk::read(json.to_string().into()), self))
    }

    /// The role, and how long the request was: whoever leaves early pays no more than that.
    fn role(&mut self) -> Result<BackendChunk, BackendFailure> {
        self.stage = Stage::Tokens;
        let json = self.chunk(json!({ "role": "assistant", "content": "" }), None, None);
        let mut chunk = BackendChunk::read(json.to_string().into())?;
        let prompt_tokens = self.prompt_tokens;
        chunk.facts.usage = Some(Usage {
            prompt_tokens,
            completion_tokens: 0,
        });
        Ok(chunk)
    }

    fn chunk(
        &self,
        delta: Value,
        finish_reason: Option<&str>,
        logprobs: Option<&TokenLogprobs>,
    ) -> Value {
        let mut choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
        if let Some(logprobs) = logprobs {
            choice["logprobs"] = json!({ "content": [likelihoods(logprobs)] });
        }
        let mut chunk = self.envelope();
        chunk["choices"] = json!([choice]);
        chunk
    }

    fn usage(&self, completion_tokens: u32) -> Value {
        let mut chunk = self.envelope();
        chunk["choices"] = json!([]);
        chunk["usage"] = json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens.saturating_add(completion_tokens),
        });
        chunk
    }

    /// Id and model are put in by the exchange.
    fn envelope(&self) -> Value {
        json!({
            "id": "",
            "object": "chat.completion.chunk",
            "created": self.created.0,
            "model": "",
        })
    }
}

fn likelihoods(logprobs: &TokenLogprobs) -> Value {
    let mut chosen = likelihood(&logprobs.chosen);
    chosen["top_logprobs"] = logprobs.top.iter().map(likelihood).collect();
    chosen
}

fn likelihood(token: &TokenLogprob) -> Value {
    json!({ "token": token.text(), "logprob": token.logprob, "bytes": token.bytes })
}
