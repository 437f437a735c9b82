//! Chunks of a chat answer as blocks that open, grow and close one after another.
//!
//! Other dialects tell an answer that way: a text, then a call with its
//! arguments, then a second call. Only one block is open at a time.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::TranslateError;
use crate::scan::{UsageFields, parse_object};
use crate::{ScanError, Usage};

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Text,
    Reasoning,
    Call { id: Option<String>, name: String },
}

/// What happens to the blocks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open(Block),
    /// The open block grows: by text, or by the text of a call's arguments.
    More(String),
    Close,
}

/// What a chunk says.
#[derive(Debug, Default)]
pub(super) struct Heard {
    text: String,
    reasoning: String,
    calls: Vec<CallPiece>,
    pub(super) finish_reason: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<UsageFields>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(expecting = "a choice")]
struct Choice {
    index: Option<u64>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
    /// vLLM's: the stop sequence as a string, or a token as a number.
    stop_reason: Option<Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "a delta")]
struct Delta {
    content: Option<Said>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
    /// The only call of an answer, as older servers tell it.
    function_call: Option<FunctionPiece>,
}

/// A text; or Mistral's list of parts, of which some are thoughts. What is
/// neither says nothing.
#[derive(Debug, Default)]
struct Said {
    text: String,
    thought: String,
}

#[derive(Deserialize)]
#[serde(expecting = "a part of a text")]
struct SaidPart {
    text: Option<String>,
    thinking: Option<Said>,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;

        impl<'de> Visitor<'de> for Walk {
            type Value = Said;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or its parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Said, E> {
                self.visit_string(text.to_owned())
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Said, E> {
                let thought = String::new();
                Ok(Said { text, thought })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Said, A::Error> {
                let mut said = Said::default();
                while let Some(part) = parts.next_element::<SaidPart>()? {
                    said.text.push_str(&part.text.unwrap_or_default());
                    said.thought
                        .push_str(&part.thinking.unwrap_or_default().text);
                }
                Ok(said)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Said, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Said::default())
            }

            fn visit_unit<E: Error>(self) -> Result<Said, E> {
                Ok(Said::default())
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Said, E> {
                Ok(Said::default())
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Said, E> {
                Ok(Said::default())
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Said, E> {
                Ok(Said::default())
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Said, E> {
                Ok(Said::default())
            }
        }

        deserializer.deserialize_any(Walk)
    }
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a piece of a tool call")]
struct CallPiece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionPiece>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a function")]
struct FunctionPiece {
    name: Option<String>,
    /// A piece of their text; from some servers the whole object.
    arguments: Option<Value>,
}

impl FunctionPiece {
    fn arguments(&self) -> Option<String> {
        match self.arguments.as_ref()? {
            Value::String(text) => Some(text.clone()),
            whole @ Value::Object(_) => Some(whole.to_string()),
            _ => None,
        }
    }
}

impl Heard {
    pub(super) fn read(json: &[u8]) -> Result<Self, TranslateError> {
        let chunk: Chunk = parse_object(json)?;
        if chunk.error.is_some() {
            let error = serde_json::Error::custom("an error in its place");
            return Err(ScanError::from(error).into());
        }
        let mut heard = Self {
            usage: chunk.usage.and_then(UsageFields::complete),
            ..Self::default()
        };
        for choice in chunk.choices.unwrap_or_default() {
            if let Some(index) = choice.index.filter(|index| *index != 0) {
                return Err(TranslateError::Choice { index });
            }
            heard.finish_reason = choice.finish_reason;
            if let Some(Value::String(stop)) = choice.stop_reason {
                heard.stop = Some(stop);
            }
            if let Some(delta) = choice.delta {
                // Some backends write the same reasoning under both names.
                let reasoning = delta.reasoning_content.or(delta.reasoning);
                let content = delta.content.unwrap_or_default();
                heard.reasoning.push_str(&reasoning.unwrap_or_default());
                heard.reasoning.push_str(&content.thought);
                heard.text.push_str(&content.text);
                // A refusal is what is said in place of an answer.
                heard.text.push_str(&delta.refusal.unwrap_or_default());
                heard.calls.extend(delta.tool_calls.unwrap_or_default());
                heard
                    .calls
                    .extend(delta.function_call.map(|function| CallPiece {
                        index: Some(0),
                        id: None,
                        function: Some(function),
                    }));
            }
        }
        Ok(heard)
    }

    pub(super) fn text_bytes(&self) -> usize {
        let calls = self.calls.iter().filter_map(|call| call.function.as_ref());
        let calls = calls.map(|function| {
            let name = function.name.as_ref().map_or(0, String::len);
            name + function.arguments().map_or(0, |text| text.len())
        });
        self.text.len() + self.reasoning.len() + calls.sum::<usize>()
    }
}

/// A call whose name may still grow: it opens with its arguments, or when it ends.
#[derive(Debug)]
struct Named {
    id: Option<String>,
    name: String,
}

/// What is open.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Open {
    #[default]
    Nothing,
    Text,
    Reasoning,
    Call,
}

/// The blocks of one answer.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    open: Open,
    named: Option<Named>,
    latest_call: Option<u64>,
}

impl Blocks {
    pub(super) fn has_calls(&self) -> bool {
        self.latest_call.is_some()
    }

    /// What a chunk does to the blocks.
    pub(super) fn hear(&mut self, heard: Heard) -> Result<Vec<Step>, TranslateError> {
        let mut steps = Vec::new();
        self.grow(Open::Reasoning, heard.reasoning, &mut steps);
        self.grow(Open::Text, heard.text, &mut steps);
        for (place, call) in (0..).zip(heard.calls) {
            self.call(place, call, &mut steps)?;
        }
        Ok(steps)
    }

    /// The answer has ended: closes what is open.
    pub(super) fn finish(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.close(&mut steps);
        steps
    }

    fn grow(&mut self, kind: Open, text: String, steps: &mut Vec<Step>) {
        if text.is_empty() {
            return;
        }
        if self.open != kind {
            self.close(steps);
            self.open = kind;
            let block = match kind {
                Open::Reasoning => Block::Reasoning,
                _ => Block::Text,
            };
            steps.push(Step::Open(block));
        }
        steps.push(Step::More(text));
    }

    fn call(
        &mut self,
        place: u64,
        call: CallPiece,
        steps: &mut Vec<Step>,
    ) -> Result<(), TranslateError> {
        let index = call.index.unwrap_or(place);
        let in_call = self.open == Open::Call || self.named.is_some();
        match self.latest_call {
            Some(latest) if index < latest || (index == latest && !in_call) => {
                return Err(TranslateError::Interleaved { index, latest });
            }
            Some(latest) if index == latest => {}
            _ => {
                self.close(steps);
                self.latest_call = Some(index);
                self.named = Some(Named {
                    id: None,
                    name: String::new(),
                });
            }
        }
        let function = call.function;
        let (name, arguments) = function.map_or((None, None), |function| {
            let arguments = function.arguments();
            (function.name, arguments)
        });
        if let Some(named) = &mut self.named {
            // Some backends repeat the id and the name in every piece.
            named.id = named.id.take().or(call.id.filter(|id| !id.is_empty()));
            let name = name.unwrap_or_default();
            if named.name != name {
                named.name.push_str(&name);
            }
        }
        if let Some(arguments) = arguments.filter(|text| !text.is_empty()) {
            self.open_call(steps);
            steps.push(Step::More(arguments));
        }
        Ok(())
    }

    fn open_call(&mut self, steps: &mut Vec<Step>) {
        if let Some(Named { id, name }) = self.named.take() {
            steps.push(Step::Open(Block::Call { id, name }));
            self.open = Open::Call;
        }
    }

    fn close(&mut self, steps: &mut Vec<Step>) {
        self.open_call(steps);
        if self.open != Open::Nothing {
            steps.push(Step::Close);
            self.open = Open::Nothing;
        }
    }
}
