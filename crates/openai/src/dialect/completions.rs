//! OpenAI's older `/v1/completions`.
//!
//! The market sells chat only, so the prompt is asked as one message of the
//! user, and the model's template is applied to it: a prompt is answered, not
//! gone on with. What needs the bare model (`suffix`, `echo`, `logprobs`,
//! several prompts or answers) is refused.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::blocks::{Block, Step};
use super::writing::{Listed, Written};
use super::{
    Dialect, EVENTS, Finish, Opening, Part, Reason, TranslateError, Translated, Translator,
};
use crate::chat::{BadRequest, ChatRequest};
use crate::object::{Object, mismatch};
use crate::{ErrorBody, Usage, sse};

/// Fields that mean the same in a chat request.
const CARRIED: [&str; 12] = [
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stream",
    "provider",
    "models",
];

/// A request for a completion.
pub fn completion(body: &Bytes) -> Result<Translated, BadRequest> {
    let request = Object::whole(body)?;
    refuse(&request)?;
    let mut messages = Listed::default();
    messages.say("user", prompt(&request)?.get().as_bytes());
    let mut chat = Written::default();
    chat.carry(&request, &CARRIED)
        .raw("messages", &messages.finish());
    let options = request.object("stream_options")?;
    let include_usage = match &options {
        Some(options) => options.boolean("include_usage")?.unwrap_or(false),
        None => false,
    };
    Ok(Translated {
        chat: ChatRequest::parse(chat.finish())?,
        translator: Translator::new(Completion {
            include_usage,
            ..Completion::default()
        }),
    })
}

/// The one prompt: a string, or an array of one.
fn prompt<'a>(request: &Object<'a>) -> Result<&'a RawValue, BadRequest> {
    const ALLOWED: &str = "a string, or an array of one string";
    let Some(prompt) = request.find("prompt") else {
        return Err(request.fault("prompt", format!("missing; give {ALLOWED}")));
    };
    match prompt.get().as_bytes().first() {
        Some(b'"') => Ok(prompt),
        Some(b'[') => match request.elements("prompt")?.unwrap_or_default().as_slice() {
            [one] if one.get().starts_with('"') => Ok(*one),
            [one] => Err(mismatch("prompt[0]", one, "a string, not tokens")),
            several => {
                let problem = format!("{} elements; allowed: {ALLOWED}", several.len());
                Err(request.fault("prompt", problem))
            }
        },
        _ => Err(mismatch("prompt", prompt, ALLOWED)),
    }
}

/// What would change the answer and cannot be had by chat.
fn refuse(request: &Object<'_>) -> Result<(), BadRequest> {
    request.integer("n", 1..=1)?;
    request.integer("best_of", 1..=1)?;
    if request.boolean("echo")? == Some(true) {
        return Err(request.fault("echo", "true cannot be translated; allowed: false"));
    }
    if request
        .string("suffix")?
        .is_some_and(|text| !text.is_empty())
    {
        return Err(request.fault("suffix", "cannot be translated; leave it out"));
    }
    if request.find("logprobs").is_some() {
        let problem = "cannot be translated; leave it out, or use /v1/chat/completions";
        return Err(request.fault("logprobs", problem));
    }
    Ok(())
}

/// Tells a completion.
#[derive(Default)]
struct Completion {
    include_usage: bool,
    opening: Opening,
    /// Whether the open block is told: thoughts are not.
    open: bool,
}

fn envelope(opening: &Opening, choices: &Value) -> Value {
    json!({
        "id": format!("cmpl-{}", opening.request),
        "object": "text_completion",
        "created": opening.created,
        "model": opening.model,
        "choices": choices,
    })
}

fn choice(text: String, finish_reason: Option<&str>) -> Value {
    json!([{ "text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason }])
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Length => "length",
        Reason::Filtered => "content_filter",
        Reason::Stop | Reason::Calls => "stop",
    }
}

fn usage(usage: Usage) -> Value {
    let total = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    })
}

fn put(event: &Value, out: &mut BytesMut) {
    sse::encode_into(event.to_string().as_bytes(), out);
}

impl Dialect for Completion {
    fn media_type(&self) -> &'static str {
        EVENTS
    }

    fn begin(&mut self, opening: &Opening, _: &mut BytesMut) {
        self.opening = opening.clone();
    }

    fn step(&mut self, step: Step, out: &mut BytesMut) -> Result<(), TranslateError> {
        match step {
            Step::Open(block) => self.open = block == Block::Text,
            Step::More(text) if self.open => {
                put(&envelope(&self.opening, &choice(text, None)), out);
            }
            Step::More(_) | Step::Close => {}
        }
        Ok(())
    }

    fn end(&mut self, finish: &Finish<'_>, out: &mut BytesMut) {
        let last = choice(String::new(), Some(word(finish.reason)));
        put(&envelope(&self.opening, &last), out);
        if self.include_usage {
            let mut event = envelope(&self.opening, &json!([]));
            event["usage"] = usage(finish.usage);
            put(&event, out);
        }
        finish.put_receipt(out);
        out.put_slice(&sse::DONE);
    }

    fn fail(&mut self, error: &ErrorBody, out: &mut BytesMut) {
        sse::encode_into(&error.to_json(), out);
    }

    fn quiet(&self, out: &mut BytesMut) {
        out.put_slice(&sse::KEEP_ALIVE);
    }

    fn whole(
        &mut self,
        opening: &Opening,
        parts: Vec<Part>,
        finish: &Finish<'_>,
    ) -> Result<Value, TranslateError> {
        let texts = parts.into_iter().filter(|part| part.block == Block::Text);
        let text = texts.map(|part| part.text).collect();
        let mut whole = envelope(opening, &choice(text, Some(word(finish.reason))));
        whole["usage"] = usage(finish.usage);
        whole["lethe"] = finish.ending.summary.clone();
        Ok(whole)
    }
}
