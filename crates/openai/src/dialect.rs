//! Other dialects, translated to chat requests and from chunks.
//!
//! A request of another API becomes the one chat request that the market
//! knows, and the chunks of its answer become that API's answer, streamed or
//! whole. What has no counterpart is refused by name where leaving it out
//! would change the answer, and left out where it would not. Nothing is kept
//! between requests.

pub mod anthropic;
mod blocks;
pub mod completions;
pub mod ollama;
pub mod responses;
mod writing;

use bytes::BytesMut;
use serde_json::{Value, json};

use crate::{ChatRequest, ErrorBody, MAX_ANSWER_BYTES, ScanError, Usage, sse};
use blocks::{Block, Blocks, Heard, Step};

/// The media type of server-sent events.
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// A request that was translated, and who translates its answer.
pub struct Translated {
    /// What the market is asked.
    pub chat: ChatRequest,
    /// For its answer.
    pub translator: Translator,
}

/// What is known when an answer begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// The market's id of the request, as hex digits.
    pub request: String,
    /// The model, as the request named it.
    pub model: String,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The tokens that the request may have; counted is only later.
    pub input_estimate: u32,
}

/// What is known when an answer has ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The tokens that are billed, for an answer whose backend told none.
    pub billed: Usage,
    /// From the request to the first chunk.
    pub ttft_ms: u64,
    /// From the request to the end.
    pub duration_ms: u64,
    /// What it was and cost, as JSON.
    pub summary: Value,
}

/// Why chunks cannot be told in another dialect.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// A text is no JSON, or not a chunk.
    #[error(transparent)]
    Malformed(#[from] ScanError),
    /// There is more than the one choice that was asked for.
    #[error("choice number {index} where only one choice was asked for")]
    Choice {
        /// Its number.
        index: u64,
    },
    /// A piece of a call that had ended already.
    #[error("a piece of tool call number {index} after call number {latest} had begun")]
    Interleaved {
        /// The call's number.
        index: u64,
        /// The call that had begun.
        latest: u64,
    },
    /// The arguments of a call are no JSON object, where they must be one.
    #[error("the arguments of a call of tool {name:?} are not a JSON object")]
    Arguments {
        /// The tool.
        name: String,
    },
    /// The answer does not end.
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
}

/// Why an answer ended, as every dialect has a word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Stop,
    Length,
    Calls,
    Filtered,
}

/// How an answer ended.
struct Finish<'a> {
    reason: Reason,
    /// The stop sequence that it came to, if the backend says so.
    stop: Option<&'a str>,
    usage: Usage,
    ending: &'a Ending,
}

impl Finish<'_> {
    /// What the answer was and cost, as a comment: clients skip it.
    fn put_receipt(&self, out: &mut BytesMut) {
        sse::comment_into(&format!("lethe {}", self.ending.summary), out);
    }
}

/// The arguments of a call, where a dialect wants them as an object.
fn arguments(name: &str, text: &str) -> Result<Value, TranslateError> {
    match serde_json::from_str(text) {
        Ok(arguments @ Value::Object(_)) => Ok(arguments),
        _ if text.trim().is_empty() => Ok(json!({})),
        _ => Err(TranslateError::Arguments {
            name: name.to_owned(),
        }),
    }
}

/// The same in one piece; none for a call that the limit cut off.
fn whole_arguments(
    name: &str,
    text: &str,
    finish: &Finish<'_>,
) -> Result<Option<Value>, TranslateError> {
    match arguments(name, text) {
        Err(_) if finish.reason == Reason::Length => Ok(None),
        arguments => arguments.map(Some),
    }
}

/// A part of an answer, whole.
struct Part {
    block: Block,
    text: String,
}

/// How one API tells an answer. Four implementations keep this seam honest.
trait Dialect: Send {
    /// The media type of a streamed answer.
    fn media_type(&self) -> &'static str;
    /// A stream begins.
    fn begin(&mut self, opening: &Opening, out: &mut BytesMut);
    /// It goes on.
    fn step(&mut self, step: Step, out: &mut BytesMut) -> Result<(), TranslateError>;
    /// It ends well.
    fn end(&mut self, finish: &Finish<'_>, out: &mut BytesMut);
    /// It breaks off: nothing comes after this, and nothing before it says that it is finished.
    fn fail(&mut self, error: &ErrorBody, out: &mut BytesMut);
    /// It is quiet for a while.
    fn quiet(&self, out: &mut BytesMut);
    /// The answer in one piece.
    fn whole(
        &mut self,
        opening: &Opening,
        parts: Vec<Part>,
        finish: &Finish<'_>,
    ) -> Result<Value, TranslateError>;
}

/// Tells one answer in another dialect.
pub struct Translator {
    dialect: Box<dyn Dialect>,
    opening: Opening,
    blocks: Blocks,
    parts: Vec<Part>,
    text_bytes: usize,
    finish_reason: Option<String>,
    stop: Option<String>,
    usage: Option<Usage>,
}

impl Translator {
    fn new(dialect: impl Dialect + 'static) -> Self {
        Self {
            dialect: Box::new(dialect),
            opening: Opening::default(),
            blocks: Blocks::default(),
            parts: Vec::new(),
            text_bytes: 0,
            finish_reason: None,
            stop: None,
            usage: None,
        }
    }

    /// The media type of the answer, if it is streamed.
    pub fn media_type(&self) -> &'static str {
        self.dialect.media_type()
    }

    /// Begins a stream.
    pub fn begin(&mut self, opening: Opening, out: &mut BytesMut) {
        self.dialect.begin(&opening, out);
        self.opening = opening;
    }

    /// Tells a chunk. After an error only [`Self::fail`] may follow.
    pub fn chunk(&mut self, json: &[u8], out: &mut BytesMut) -> Result<(), TranslateError> {
        for step in self.hear(json)? {
            self.dialect.step(step, out)?;
        }
        Ok(())
    }

    /// Ends the stream well.
    pub fn end(&mut self, ending: &Ending, out: &mut BytesMut) -> Result<(), TranslateError> {
        let reason = reason(self.finish_reason.as_deref(), self.blocks.has_calls());
        for step in self.blocks.finish() {
            match self.dialect.step(step, out) {
                // The limit cut the call off; that is what the answer says.
                Err(TranslateError::Arguments { .. }) if reason == Reason::Length => {}
                told => told?,
            }
        }
        let finish = Finish {
            reason,
            stop: self.stop.as_deref(),
            usage: self.usage.unwrap_or(ending.billed),
            ending,
        };
        self.dialect.end(&finish, out);
        Ok(())
    }

    /// Breaks the stream off.
    pub fn fail(&mut self, error: &ErrorBody, out: &mut BytesMut) {
        self.dialect.fail(error, out);
    }

    /// Shows that a quiet stream is still there.
    pub fn quiet(&self, out: &mut BytesMut) {
        self.dialect.quiet(out);
    }

    /// Keeps a chunk for an answer in one piece.
    pub fn keep(&mut self, json: &[u8]) -> Result<(), TranslateError> {
        let steps = self.hear(json)?;
        self.put_together(steps);
        Ok(())
    }

    /// The answer in one piece, of the chunks that were kept.
    pub fn whole(mut self, opening: &Opening, ending: &Ending) -> Result<Value, TranslateError> {
        let steps = self.blocks.finish();
        self.put_together(steps);
        let finish = Finish {
            reason: reason(self.finish_reason.as_deref(), self.blocks.has_calls()),
            stop: self.stop.as_deref(),
            usage: self.usage.unwrap_or(ending.billed),
            ending,
        };
        self.dialect.whole(opening, self.parts, &finish)
    }

    fn put_together(&mut self, steps: Vec<Step>) {
        for step in steps {
            match (step, self.parts.last_mut()) {
                (Step::Open(block), _) => self.parts.push(Part {
                    block,
                    text: String::new(),
                }),
                (Step::More(more), Some(part)) => part.text.push_str(&more),
                (Step::More(_), None) | (Step::Close, _) => {}
            }
        }
    }

    /// What a chunk adds.
    fn hear(&mut self, json: &[u8]) -> Result<Vec<Step>, TranslateError> {
        let heard = Heard::read(json)?;
        self.text_bytes = self.text_bytes.saturating_add(heard.text_bytes());
        if self.text_bytes > MAX_ANSWER_BYTES {
            return Err(TranslateError::TooLong);
        }
        self.usage = heard.usage.or(self.usage);
        if let Some(reason) = heard.finish_reason.clone() {
            self.finish_reason = Some(reason);
        }
        if let Some(stop) = heard.stop.clone() {
            self.stop = Some(stop);
        }
        self.blocks.hear(heard)
    }
}

/// Some backends end a call with `stop`.
fn reason(word: Option<&str>, has_calls: bool) -> Reason {
    match word {
        Some("length") => Reason::Length,
        Some("content_filter") => Reason::Filtered,
        Some("tool_calls" | "function_call") => Reason::Calls,
        _ if has_calls => Reason::Calls,
        _ => Reason::Stop,
    }
}
