//! A chat request: read once, checked where there are rules, and passed on
//! with everything else as it came.
//!
//! The body stays text. Fields with rules are checked and refused by name and
//! value; fields without are nobody's business but the backend's.

mod rules;

use core::hash::Hasher;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::carried::{Carried, put_field, quoted};
use crate::json::{Elements, Fields};
use crate::object::Object;

pub(crate) use rules::model;

/// The longest body that is read.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// What is wrong with a request. The text is for the one who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BadRequest {
    /// Where: `messages[0].role`, or `body` for the whole.
    pub field: String,
    /// What is there, and what is allowed.
    pub problem: String,
}

impl BadRequest {
    /// The field that stands for the body as a whole.
    pub const BODY: &'static str = "body";

    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// A request for a chat completion that has been checked.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    body: Bytes,
    fields: Carried,
    known: rules::Known,
}

impl ChatRequest {
    /// Reads a request, or says what is wrong with it.
    pub fn parse(body: Bytes) -> Result<Self, BadRequest> {
        let request = Object::whole(&body)?;
        let known = rules::check(&request)?;
        Ok(Self {
            fields: Carried::of(request, &body),
            body,
            known,
        })
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The model that is asked for, by name.
    pub fn model(&self) -> &str {
        &self.known.model
    }

    /// Whether the answer is wanted piece by piece.
    pub fn stream(&self) -> bool {
        self.known.stream
    }

    /// Whether a streamed answer is to end with a usage chunk.
    pub fn include_usage(&self) -> bool {
        self.known.include_usage
    }

    /// The most tokens that the answer may have, if the request says so.
    pub fn max_output_tokens(&self) -> Option<u32> {
        self.known.max_output_tokens
    }

    /// Whether the answer may call tools.
    pub fn has_tools(&self) -> bool {
        self.find("tools").is_some() || self.find("functions").is_some()
    }

    /// Whether the answer follows a grammar: OpenAI's `response_format`, or
    /// what vLLM, SGLang and llama.cpp have beside it.
    pub(crate) fn is_constrained(&self) -> bool {
        const GRAMMARS: [&str; 9] = [
            "grammar",
            "json_schema",
            "structured_outputs",
            "guided_json",
            "guided_regex",
            "guided_choice",
            "guided_grammar",
            "regex",
            "ebnf",
        ];
        let format = self.find("response_format");
        let format = format.and_then(|format| serde_json::from_slice::<Value>(format).ok());
        format.is_some_and(|format| format["type"] != "text")
            || GRAMMARS.iter().any(|name| self.find(name).is_some())
    }

    /// The request to go on where an answer has come to `text`, by at most
    /// `left` tokens. None: its last message is the assistant's already, and
    /// is not one to be gone on with.
    pub(crate) fn begun(&self, text: &str, left: Option<u32>) -> Option<Self> {
        let messages = self.find("messages")?;
        let mut messages: Elements<'_> = serde_json::from_slice(messages).ok()?;
        let mut begun = text.to_owned();
        let last: Value = serde_json::from_str(messages.0.last()?.get()).ok()?;
        if last["role"] == "assistant" {
            let goes_on = self.find("continue_final_message");
            if goes_on.is_none_or(|value| value != "true") {
                return None;
            }
            begun.insert_str(0, last["content"].as_str()?);
            messages.0.pop();
        }
        let mut out = BytesMut::with_capacity(self.body.len() + begun.len());
        for (name, value) in self.fields.iter() {
            match name {
                "messages" | "continue_final_message" | "add_generation_prompt" | "min_tokens" => {}
                "max_tokens" | "max_completion_tokens" if left.is_some() => {}
                _ => put_field(&mut out, name, value),
            }
        }
        let said = json!({ "role": "assistant", "content": begun }).to_string();
        let all = messages.0.into_iter().map(RawValue::get);
        let all: Vec<&str> = all.chain([said.as_str()]).collect();
        put_field(
            &mut out,
            "messages",
            format!("[{}]", all.join(",")).as_bytes(),
        );
        put_field(&mut out, "continue_final_message", b"true");
        put_field(&mut out, "add_generation_prompt", b"false");
        if let Some(left) = left {
            put_field(&mut out, "max_tokens", left.to_string().as_bytes());
        }
        out.put_u8(b'}');
        Self::parse(out.freeze()).ok()
    }

    /// The value of a field; none if it is absent or null.
    fn find(&self, name: &str) -> Option<&Bytes> {
        self.fields.find(name)
    }

    /// The JSON text of a field; none if it is absent or null.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.text(name)
    }

    /// Names of the fields that a backend has to heed, beyond the messages.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        const EVERYBODYS: [&str; 5] = ["model", "messages", "stream", "stream_options", "user"];
        self.fields.parameters(&EVERYBODYS)
    }

    /// Feeds a hash with what stays the same in a conversation: its messages
    /// up to the first one of the user. Whether there is one.
    pub fn hash_opening(&self, state: &mut impl Hasher) -> bool {
        let messages = self.field("messages").unwrap_or_default();
        let Ok(messages) = serde_json::from_str::<Elements<'_>>(messages) else {
            return false;
        };
        for message in messages.0 {
            state.write(message.get().as_bytes());
            let fields = serde_json::from_str::<Fields<'_>>(message.get());
            let role = fields.ok().and_then(|fields| fields.find("role"));
            if role.is_some_and(|role| role.get() == "\"user\"") {
                return true;
            }
        }
        false
    }

    /// The same request as a backend gets it: its own name for the model,
    /// always streamed, always with usage, without what was said to us on
    /// routing. All else is kept byte for byte.
    pub fn upstream_body(&self, upstream_model: &str) -> Bytes {
        const ROOM: usize = 128;
        let mut out = BytesMut::with_capacity(self.body.len() + upstream_model.len() + ROOM);
        put_field(&mut out, "model", &quoted(upstream_model));
        put_field(&mut out, "stream", b"true");
        put_field(&mut out, "stream_options", &self.upstream_stream_options());
        let replaced = ["model", "stream", "stream_options"];
        self.fields.put(&mut out, &replaced);
        out.put_u8(b'}');
        out.freeze()
    }

    fn upstream_stream_options(&self) -> BytesMut {
        let mut out = BytesMut::new();
        put_field(&mut out, "include_usage", b"true");
        let given = self.find("stream_options");
        let given = given.and_then(|value| serde_json::from_slice::<Fields<'_>>(value).ok());
        for (name, value) in given.into_iter().flat_map(|fields| fields.0) {
            if name != "include_usage" {
                put_field(&mut out, &name, value.get().as_bytes());
            }
        }
        out.put_u8(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn request(rest: &str) -> ChatRequest {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        ChatRequest::parse(Bytes::from(body)).unwrap()
    }

    #[test]
    fn what_is_said_on_routing_goes_no_further() {
        let request = request(
            r#""messages":[{"role":"user","content":"hi"}],"provider":{"sort":"price"},"models":["n"],"top_k":3"#,
        );
        assert_eq!(request.field("provider"), Some(r#"{"sort":"price"}"#));
        assert_eq!(request.parameters().collect::<Vec<_>>(), ["top_k"]);
        let upstream = request.upstream_body("theirs");
        let upstream = core::str::from_utf8(&upstream).unwrap();
        assert!(
            !upstream.contains("provider") && !upstream.contains("models"),
            "{upstream}"
        );
        assert!(upstream.contains(r#""top_k":3"#), "{upstream}");
    }

    #[test]
    fn a_conversation_is_known_by_its_opening() {
        let hash = |messages: &str| {
            let mut hasher = DefaultHasher::new();
            let known = request(&format!(r#""messages":[{messages}]"#)).hash_opening(&mut hasher);
            known.then(|| hasher.finish())
        };
        let opening = r#"{"role":"system","content":"s"},{"role":"user","content":"a"}"#;
        let later = format!(r#"{opening},{{"role":"assistant","content":"b"}}"#);
        assert_eq!(hash(opening), hash(&later));
        let other = opening.replace(r#""a""#, r#""c""#);
        assert_ne!(hash(opening), hash(&other));
        assert_eq!(hash(r#"{"role":"system","content":"s"}"#), None);
    }
}
