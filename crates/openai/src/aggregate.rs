//! Chunks put together into one `chat.completion`, for clients that do not stream.
//!
//! The network only knows streams; this is the one place where an answer is
//! whole. Fields that are not known here are kept: lists grow, other values
//! are replaced by later ones.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The most JSON that one answer may consist of.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The most tool calls of one answer.
pub const MAX_TOOL_CALLS: usize = 1024;

/// Why chunks do not make an answer.
#[derive(Debug, thiserror::Error)]
pub enum AggregateError {
    /// A text is no JSON, or not a chunk.
    #[error("not a chat completion chunk")]
    Malformed(#[from] serde_json::Error),
    /// The answer does not end.
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// A call has a number that is out of range.
    #[error("tool call number {index}; at most {MAX_TOOL_CALLS} calls are allowed")]
    ToolCall {
        /// Its number.
        index: u64,
    },
    /// There is more than the one choice that was asked for.
    #[error("choice number {index} where only one choice was asked for")]
    Choice {
        /// Its number.
        index: u64,
    },
    /// No chunk came.
    #[error("the answer has no chunk")]
    Empty,
}

/// An answer that is being put together.
#[derive(Debug, Default)]
pub struct Aggregate {
    bytes: usize,
    top: Map<String, Value>,
    usage: Option<Value>,
    message: Map<String, Value>,
    calls: Vec<Map<String, Value>>,
    choice: Map<String, Value>,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Map<String, Value>>>,
    #[serde(flatten)]
    top: Map<String, Value>,
}

impl Aggregate {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next chunk.
    pub fn push(&mut self, json: &[u8]) -> Result<(), AggregateError> {
        self.bytes = self.bytes.saturating_add(json.len());
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(AggregateError::TooLong);
        }
        let chunk: Chunk = serde_json::from_slice(json)?;
        for (name, value) in chunk.top {
            match name.as_str() {
                "usage" if !value.is_null() => self.usage = Some(value),
                "usage" | "object" => {}
                _ => put(&mut self.top, name, value),
            }
        }
        let choices = chunk.choices.unwrap_or_default();
        choices
            .into_iter()
            .try_for_each(|choice| self.add_choice(choice))
    }

    fn add_choice(&mut self, choice: Map<String, Value>) -> Result<(), AggregateError> {
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        if index != 0 {
            return Err(AggregateError::Choice { index });
        }
        for (name, value) in choice {
            match (name.as_str(), value) {
                // The delta says it; a whole message beside it was not counted.
                ("index" | "message", _) => {}
                ("delta", Value::Object(delta)) => self.add_delta(delta)?,
                ("logprobs", Value::Object(more)) => {
                    merge_lists(&mut self.choice, "logprobs", more)
                }
                (_, value) => put(&mut self.choice, name, value),
            }
        }
        Ok(())
    }

    fn add_delta(&mut self, delta: Map<String, Value>) -> Result<(), AggregateError> {
        for (name, value) in delta {
            match (name.as_str(), value) {
                ("tool_calls", Value::Array(calls)) => {
                    for (place, call) in calls.into_iter().enumerate() {
                        self.add_call(place, call)?;
                    }
                }
                ("function_call", Value::Object(more)) => {
                    let call = self.message.entry(name).or_insert_with(|| json!({}));
                    if let Value::Object(call) = call {
                        add_function(call, more);
                    }
                }
                (
                    "content" | "reasoning_content" | "reasoning" | "refusal",
                    Value::String(text),
                ) => {
                    append(&mut self.message, name, text);
                }
                ("content", Value::Array(parts)) => self.add_parts(parts),
                (_, value) => put(&mut self.message, name, value),
            }
        }
        Ok(())
    }

    /// A text that came as Mistral's list of parts: clients of this dialect know it
    /// as a text, with thoughts beside it. Other parts stay a list.
    fn add_parts(&mut self, parts: Vec<Value>) {
        for part in parts {
            let thought = match &part["thinking"] {
                Value::Array(texts) => texts
                    .iter()
                    .filter_map(|text| text["text"].as_str())
                    .collect(),
                thought => thought.as_str().unwrap_or_default().to_owned(),
            };
            if let Some(text) = part["text"].as_str() {
                append(&mut self.message, "content".to_owned(), text.to_owned());
            } else if part["thinking"].is_null() {
                put(&mut self.message, "content".to_owned(), json!([part]));
            } else {
                let name = "reasoning_content".to_owned();
                append(&mut self.message, name, thought);
            }
        }
    }

    fn add_call(&mut self, place: usize, call: Value) -> Result<(), AggregateError> {
        let Value::Object(mut more) = call else {
            return Ok(());
        };
        let given = more.remove("index").and_then(|index| index.as_u64());
        let index = given.unwrap_or(place as u64);
        let slot = usize::try_from(index)
            .ok()
            .filter(|slot| *slot < MAX_TOOL_CALLS);
        let slot = slot.ok_or(AggregateError::ToolCall { index })?;
        if self.calls.len() <= slot {
            self.calls.resize_with(slot + 1, Map::new);
        }
        let call = &mut self.calls[slot];
        for (name, value) in more {
            match (name.as_str(), value) {
                ("function", Value::Object(more)) => {
                    let function = call.entry(name).or_insert_with(|| json!({}));
                    if let Value::Object(function) = function {
                        add_function(function, more);
                    }
                }
                // Some backends repeat the id in every piece, some send it empty.
                ("id" | "type", Value::String(text)) if text.is_empty() => {}
                (_, value) => put(call, name, value),
            }
        }
        Ok(())
    }

    /// The whole answer, as an object to which more may be added.
    pub fn finish(self) -> Result<Map<String, Value>, AggregateError> {
        if self.bytes == 0 {
            return Err(AggregateError::Empty);
        }
        let mut message = self.message;
        message.entry("role").or_insert_with(|| "assistant".into());
        let calls: Vec<Value> = self
            .calls
            .into_iter()
            .filter(|call| !call.is_empty())
            .map(Value::Object)
            .collect();
        let stands_in = !calls.is_empty()
            || ["function_call", "refusal"]
                .iter()
                .any(|name| message.contains_key(*name));
        let content = if stands_in { Value::Null } else { "".into() };
        message.entry("content").or_insert(content);
        if !calls.is_empty() {
            message.insert("tool_calls".into(), calls.into());
        }

        let mut choice = Map::new();
        choice.insert("index".into(), 0.into());
        choice.insert("message".into(), message.into());
        choice.insert("logprobs".into(), Value::Null);
        choice.insert("finish_reason".into(), Value::Null);
        choice.extend(self.choice);

        let mut whole = self.top;
        whole.insert("object".into(), "chat.completion".into());
        whole.insert("choices".into(), vec![Value::Object(choice)].into());
        if let Some(usage) = self.usage {
            whole.insert("usage".into(), usage);
        }
        Ok(whole)
    }
}

/// Lists grow, other values replace, null changes nothing. A list beside a text takes it in.
fn put(into: &mut Map<String, Value>, name: String, value: Value) {
    match (into.get_mut(&name), value) {
        (_, Value::Null) => {}
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
        (Some(text @ Value::String(_)), Value::Array(more)) if name == "content" => {
            let mut parts = vec![json!({ "type": "text", "text": text.take() })];
            parts.extend(more);
            *text = parts.into();
        }
        (_, value) => {
            into.insert(name, value);
        }
    }
}

fn append(into: &mut Map<String, Value>, name: String, more: String) {
    match into.get_mut(&name) {
        Some(Value::String(text)) => text.push_str(&more),
        Some(Value::Array(parts)) => parts.push(json!({ "type": "text", "text": more })),
        _ => {
            into.insert(name, Value::String(more));
        }
    }
}

fn merge_lists(into: &mut Map<String, Value>, name: &str, more: Map<String, Value>) {
    let merged = into.entry(name).or_insert_with(|| json!({}));
    if let Value::Object(merged) = merged {
        more.into_iter()
            .for_each(|(name, value)| put(merged, name, value));
    }
}

/// Arguments come in pieces; a name too, but some backends repeat it whole.
fn add_function(function: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        match (name.as_str(), value) {
            ("name", Value::String(text))
                if function.get("name") == Some(&text.as_str().into()) => {}
            ("name" | "arguments", Value::String(text)) => append(function, name, text),
            // Clients read them as a text.
            ("arguments", whole @ Value::Object(_)) => append(function, name, whole.to_string()),
            (_, value) => put(function, name, value),
        }
    }
}
