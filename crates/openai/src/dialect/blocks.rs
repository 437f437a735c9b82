//! Chunks of a chat answer as blocks that open, grow and close one after another.
//!
//! Other dialects tell an answer that way: a text, then a call with its
//! arguments, then a second call. Only one block is open at a time.

use serde::Deserialize;
use serde::de::{Error, IgnoredAny};
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
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
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
    arguments: Option<String>,
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
                heard.reasoning.push_str(&reasoning.unwrap_or_default());
                heard.text.push_str(&delta.content.unwrap_or_default());
                // A refusal is what is said in place of an answer.
                heard.text.push_str(&delta.refusal.unwrap_or_default());
                heard.calls.extend(delta.tool_calls.unwrap_or_default());
            }
        }
        Ok(heard)
    }

    pub(super) fn text_bytes(&self) -> usize {
        let calls = self.calls.iter().filter_map(|call| call.function.as_ref());
        let bytes = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let calls = calls.map(|function| bytes(&function.name) + bytes(&function.arguments));
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
        let (name, arguments) =
            function.map_or((None, None), |function| (function.name, function.arguments));
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
