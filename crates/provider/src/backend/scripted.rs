//! A backend that plays a script: chunks with given delays, and every fault
//! that a real one may have.
//!
//! For tests, and for demonstrations that say that their delays are made up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, try_unfold};
use openai::EmbeddingsRequest;
use openai::embeddings::{Answered, MAX_INPUTS};
use serde_json::json;

use super::vectors::Written;
use super::{Backend, BackendChunk, BackendError, BackendFailure, ChunkStream};

/// One thing that happens in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A chunk with this text.
    Say(String),
    /// The vectors of so many of the request's next texts, a token for each;
    /// see [`Script::vector`].
    Vectors(usize),
    /// Any JSON text in a chunk's place.
    Raw(String),
    /// Time passes.
    Wait(Duration),
    /// The chunk with the count of tokens.
    Usage {
        /// Of the request.
        prompt_tokens: u32,
        /// Of the answer.
        completion_tokens: u32,
    },
    /// Nothing ever comes again.
    Stall,
    /// The connection breaks.
    Break,
}

/// What every answer of a backend is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Before the request is taken.
    pub begin_after: Duration,
    /// What comes, in order; then the answer is complete.
    pub lines: Vec<Line>,
    /// Whether it goes on where the request's last message ends, if that begins the answer.
    pub continues: bool,
}

impl Script {
    /// So many chunks of `token `, one after the other, and an honest usage.
    pub fn tokens(count: u32, delay: Duration) -> Self {
        const PROMPT_TOKENS: u32 = 7;
        let mut lines = Vec::new();
        for _ in 0..count {
            if !delay.is_zero() {
                lines.push(Line::Wait(delay));
            }
            lines.push(Line::Say("token ".into()));
        }
        lines.push(Line::Raw(chunk(&json!({}), Some("stop"))));
        lines.push(Line::Usage {
            prompt_tokens: PROMPT_TOKENS,
            completion_tokens: count,
        });
        Self {
            begin_after: Duration::ZERO,
            lines,
            continues: false,
        }
    }

    /// A vector for each text, all together.
    pub fn vectors() -> Self {
        Self {
            lines: vec![Line::Vectors(MAX_INPUTS)],
            ..Self::default()
        }
    }

    /// The vector that is made up for a text.
    pub fn vector(text: &str) -> Vec<f32> {
        let bytes = text.bytes().map(f32::from);
        let (count, sum) = bytes.fold((0.0, 0.0), |(count, sum), byte| (count + 1.0, sum + byte));
        vec![count, sum, 0.5]
    }

    /// What is still to come of it for this request.
    fn rest(&self, body: &[u8]) -> VecDeque<Line> {
        let mut lines: VecDeque<_> = self.lines.clone().into();
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        if !self.continues || body["continue_final_message"] != true {
            return lines;
        }
        let last = body["messages"].as_array().and_then(|all| all.last());
        let begun = last.and_then(|last| last["content"].as_str());
        let mut begun = begun.unwrap_or_default().to_owned();
        while !begun.is_empty() {
            match lines.pop_front() {
                Some(Line::Say(text)) => match begun.strip_prefix(&text) {
                    Some(rest) => begun = rest.to_owned(),
                    None => {
                        // It ends within this line, or is of another script.
                        let rest = text.strip_prefix(&begun).unwrap_or(&text);
                        lines.push_front(Line::Say(rest.to_owned()));
                        break;
                    }
                },
                Some(_) => {}
                None => break,
            }
        }
        lines
    }
}

/// A backend that plays a script.
#[derive(Debug)]
pub struct ScriptedBackend {
    script: Script,
    running: Arc<AtomicUsize>,
    started: AtomicUsize,
}

impl ScriptedBackend {
    /// One that plays this for every request.
    pub fn new(script: Script) -> Self {
        Self {
            script,
            running: Arc::default(),
            started: AtomicUsize::new(0),
        }
    }

    /// Answers that somebody still listens to.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Answers that were ever begun.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

/// Counts an answer as long as it is held.
struct Listening(Arc<AtomicUsize>);

impl Listening {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(running))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend for ScriptedBackend {
    async fn chat(&self, body: Bytes) -> Result<ChunkStream, BackendError> {
        let listening = Listening::new(&self.running);
        self.started.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.script.begin_after).await;
        let rest = Rest {
            lines: self.script.rest(&body),
            ..Rest::new(listening)
        };
        Ok(try_unfold(rest, play).boxed())
    }

    async fn embed(&self, request: EmbeddingsRequest) -> Result<ChunkStream, BackendError> {
        let listening = Listening::new(&self.running);
        self.started.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.script.begin_after).await;
        let unread = |error: openai::BadRequest| BackendError::Request {
            message: error.to_string(),
        };
        let rest = Rest {
            lines: self.script.lines.clone().into(),
            texts: request.texts().map_err(unread)?.into(),
            ..Rest::new(listening)
        };
        Ok(try_unfold(rest, play).boxed())
    }

    async fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// What is still to come.
struct Rest {
    _listening: Listening,
    lines: VecDeque<Line>,
    /// Those whose vectors are.
    texts: VecDeque<String>,
    /// Vectors that are made up already.
    ready: VecDeque<BackendChunk>,
    written: Written,
}

impl Rest {
    fn new(listening: Listening) -> Self {
        Self {
            _listening: listening,
            lines: VecDeque::new(),
            texts: VecDeque::new(),
            ready: VecDeque::new(),
            written: Written::default(),
        }
    }

    /// Makes up the next vectors.
    fn vectors(&mut self, count: usize) {
        let texts = self.texts.drain(..count.min(self.texts.len()));
        let rows: Vec<_> = texts.map(|text| Script::vector(&text)).collect();
        let answered = Answered {
            prompt_tokens: u32::try_from(rows.len()).ok(),
            rows,
        };
        self.ready = self.written.chunks(&answered);
    }
}

async fn play(mut rest: Rest) -> Result<Option<(BackendChunk, Rest)>, BackendFailure> {
    loop {
        if let Some(chunk) = rest.ready.pop_front() {
            return Ok(Some((chunk, rest)));
        }
        let Some(line) = rest.lines.pop_front() else {
            return Ok(None);
        };
        let json = match line {
            Line::Wait(delay) => {
                tokio::time::sleep(delay).await;
                continue;
            }
            Line::Stall => std::future::pending().await,
            Line::Break => {
                let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                return Err(BackendFailure::Broken(broken.into()));
            }
            Line::Vectors(count) => {
                rest.vectors(count);
                continue;
            }
            Line::Say(text) => chunk(&json!({ "content": text }), None),
            Line::Raw(json) => json,
            Line::Usage {
                prompt_tokens,
                completion_tokens,
            } => usage_chunk(prompt_tokens, completion_tokens),
        };
        return Ok(Some((BackendChunk::read(json.into())?, rest)));
    }
}

fn chunk(delta: &serde_json::Value, finish_reason: Option<&str>) -> String {
    json!({
        "id": "scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    })
    .to_string()
}

fn usage_chunk(prompt_tokens: u32, completion_tokens: u32) -> String {
    json!({
        "id": "scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": [],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens.saturating_add(completion_tokens),
        },
    })
    .to_string()
}
