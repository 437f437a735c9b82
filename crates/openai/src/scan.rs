//! What must be known of a chunk, found in one pass and without a tree.
//!
//! Both sides look at every chunk they pass on; this is the look. Unknown
//! fields are skipped, so a backend may add what it likes.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkFacts {
    /// Bytes of text that it brings, as UTF-8 without escapes: content,
    /// reasoning, refusal, names and arguments of calls.
    pub text_bytes: usize,
    /// Whether a choice says why it ended.
    pub finished: bool,
    /// Whether there is a piece of a tool call in it.
    pub calls: bool,
    /// Whether it has no choice at all, as the last chunk with the usage does.
    pub no_choices: bool,
    /// Whether it is an `error` object in a chunk's place.
    pub is_error: bool,
    /// The tokens counted by the backend.
    pub usage: Option<Usage>,
}

/// Tokens as a backend counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the request.
    pub prompt_tokens: u32,
    /// Of the answer.
    pub completion_tokens: u32,
}

/// Why a text is not a chunk.
#[derive(Debug, thiserror::Error)]
#[error("not a chat completion chunk")]
pub struct ScanError(#[from] serde_json::Error);

/// Looks a chunk through once.
pub fn scan(json: &[u8]) -> Result<ChunkFacts, ScanError> {
    let chunk: Chunk = parse_object(json)?;
    let choices = chunk.choices.unwrap_or_default();
    Ok(ChunkFacts {
        text_bytes: choices.text_bytes,
        finished: choices.finished,
        calls: choices.calls,
        no_choices: choices.count == 0,
        is_error: chunk.error.is_some(),
        usage: chunk.usage.and_then(UsageFields::complete),
    })
}

/// When an answer began, in seconds since 1970, as a chunk of it says.
pub fn created(json: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Created {
        created: Option<u64>,
    }

    parse_object::<Created>(json).ok()?.created
}

/// Derived readers take an array for an object; a chunk is never one.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ScanError> {
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(ScanError(serde::de::Error::custom(
            "an array where an object belongs",
        )));
    }
    Ok(serde_json::from_slice(json)?)
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Chunk {
    choices: Option<Choices>,
    usage: Option<UsageFields>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(crate) struct UsageFields {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

impl UsageFields {
    pub(crate) fn complete(self) -> Option<Usage> {
        Some(Usage {
            prompt_tokens: self.prompt_tokens?,
            completion_tokens: self.completion_tokens?,
        })
    }
}

/// All choices together.
#[derive(Default)]
struct Choices {
    count: usize,
    text_bytes: usize,
    finished: bool,
    calls: bool,
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;

        impl<'de> Visitor<'de> for Walk {
            type Value = Choices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices, A::Error> {
                let mut all = Choices::default();
                while let Some(choice) = seq.next_element::<Choice>()? {
                    if let Some(index) = choice.index.filter(|index| *index > 0) {
                        let problem = format!("choice number {index} where one was asked for");
                        return Err(A::Error::custom(problem));
                    }
                    all.count += 1;
                    all.finished |= choice.finish_reason.is_some();
                    let delta = choice.delta.as_ref();
                    all.calls |= delta.is_some_and(Delta::calls);
                    all.text_bytes += delta.map_or(0, Delta::text_bytes);
                }
                Ok(all)
            }
        }

        deserializer.deserialize_seq(Walk)
    }
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Delta>,
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: TextBytes,
    #[serde(default)]
    reasoning_content: TextBytes,
    #[serde(default)]
    reasoning: TextBytes,
    #[serde(default)]
    refusal: TextBytes,
    #[serde(default)]
    tool_calls: Option<Calls>,
    #[serde(default)]
    function_call: Option<Function>,
}

impl Delta {
    fn calls(&self) -> bool {
        self.tool_calls
            .as_ref()
            .is_some_and(|calls| calls.count > 0)
            || self.function_call.is_some()
    }

    fn text_bytes(&self) -> usize {
        // Some backends write the same reasoning under both names.
        let reasoning = self.reasoning_content.0.max(self.reasoning.0);
        let calls = self.tool_calls.as_ref().map_or(0, |calls| calls.text_bytes);
        let function = self.function_call.as_ref().map_or(0, Function::text_bytes);
        self.content.0 + reasoning + self.refusal.0 + calls + function
    }
}

#[derive(Deserialize)]
struct Call {
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: TextBytes,
    #[serde(default)]
    arguments: TextBytes,
}

impl Function {
    fn text_bytes(&self) -> usize {
        self.name.0 + self.arguments.0
    }
}

/// How many calls, and their text.
struct Calls {
    count: usize,
    text_bytes: usize,
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;

        impl<'de> Visitor<'de> for Walk {
            type Value = Calls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of tool calls")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Calls, A::Error> {
                let (mut count, mut text_bytes) = (0, 0);
                while let Some(call) = seq.next_element::<Call>()? {
                    count += 1;
                    text_bytes += call.function.as_ref().map_or(0, Function::text_bytes);
                }
                Ok(Calls { count, text_bytes })
            }
        }

        deserializer.deserialize_seq(Walk)
    }
}

/// How long a text is; the text itself is not kept. A text may come in parts,
/// as an array of objects: then all strings in it but their `type` count.
#[derive(Default)]
struct TextBytes(usize);

impl<'de> Deserialize<'de> for TextBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextWalk)
    }
}

struct TextWalk;

impl<'de> Visitor<'de> for TextWalk {
    type Value = TextBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<TextBytes, E> {
        Ok(TextBytes(text.len()))
    }

    fn visit_unit<E>(self) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_bool<E>(self, _: bool) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_u64<E>(self, _: u64) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<TextBytes, E> {
        Ok(TextBytes(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TextBytes, A::Error> {
        let mut bytes = 0;
        while let Some(TextBytes(part)) = seq.next_element()? {
            bytes += part;
        }
        Ok(TextBytes(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextBytes, A::Error> {
        let mut bytes = 0;
        while let Some(name) = map.next_key::<String>()? {
            let TextBytes(part) = map.next_value()?;
            if name != "type" {
                bytes += part;
            }
        }
        Ok(TextBytes(bytes))
    }
}
