//! Anthropic's `/v1/messages`.
//!
//! Blocks of one message become one text: an assistant's as they stand, all
//! others with a line's end between them. Results of tools come before the
//! text beside them, as a chat wants them right after the calls. Thoughts of
//! earlier turns are left out; thoughts of the answer are told if the request
//! turns `thinking` on, with an empty signature.

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::blocks::{Block, Step};
use super::writing::{
    Listed, Written, function_tool, joined, named_choice, schema_format, text_part, texts,
};
use super::{
    Dialect, EVENTS, Finish, Opening, Part, Reason, TranslateError, Translated, Translator,
};
use crate::carried::quoted;
use crate::chat::{BadRequest, ChatRequest};
use crate::object::{Object, is_text, mismatch};
use crate::{ErrorBody, Usage, sse};

const ROLES: [&str; 2] = ["user", "assistant"];
const TEXT: [&str; 1] = ["text"];
const CHOICES: [&str; 4] = ["auto", "any", "tool", "none"];
const THINKING: [&str; 3] = ["enabled", "disabled", "adaptive"];
const MAX_OUTPUT_TOKENS: u64 = u32::MAX as u64;

/// What stands before the result of a tool that failed: a chat has no field for it.
const FAILED: &str = "error: ";

/// A request for a message.
pub fn message(body: &Bytes) -> Result<Translated, BadRequest> {
    let request = Object::whole(body)?;
    if request
        .integer("max_tokens", 1..=MAX_OUTPUT_TOKENS)?
        .is_none()
    {
        let problem = "missing; give the most tokens that the answer may have";
        return Err(request.fault("max_tokens", problem));
    }
    let thinking = thinking(&request)?;
    Ok(Translated {
        chat: chat(&request)?,
        translator: Translator::new(Message {
            thinking,
            ..Message::default()
        }),
    })
}

/// The chat request whose tokens are to be counted: a message's without its settings.
pub fn counted(body: &Bytes) -> Result<ChatRequest, BadRequest> {
    chat(&Object::whole(body)?)
}

/// The status and the body of an error, of the status and the body that
/// clients of OpenAI get.
pub fn error(status: u16, error: &ErrorBody) -> (u16, Vec<u8>) {
    let (status, kind) = match status {
        401 => (401, "authentication_error"),
        402 => (402, "billing_error"),
        403 => (403, "permission_error"),
        404 => (404, "not_found_error"),
        413 => (413, "request_too_large"),
        429 => (429, "rate_limit_error"),
        // Conditions that nobody meets; Anthropic knows no such status.
        412 => (400, "invalid_request_error"),
        503 => (529, "overloaded_error"),
        status if status < 500 => (status, "invalid_request_error"),
        _ => (500, "api_error"),
    };
    (status, told(kind, error).to_string().into_bytes())
}

/// The list of models, of their names and the seconds since 1970 when they were seen.
pub fn models<'a>(models: impl Iterator<Item = (&'a str, u64)>) -> Value {
    let models = models.map(|(name, seen)| {
        json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": super::ollama::time(seen),
        })
    });
    let data: Vec<Value> = models.collect();
    let id = |model: Option<&Value>| model.map(|model| model["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    json!({ "data": data, "has_more": false, "first_id": first, "last_id": last })
}

fn told(kind: &str, error: &ErrorBody) -> Value {
    let detail = &error.error;
    json!({
        "type": "error",
        "error": {
            "type": kind,
            "message": detail.message,
            "code": detail.code,
        },
    })
}

fn thinking(request: &Object<'_>) -> Result<bool, BadRequest> {
    let Some(thinking) = request.object("thinking")? else {
        return Ok(false);
    };
    let kind = thinking.one_of("type", &THINKING)?;
    Ok(kind.is_some_and(|kind| kind != "disabled"))
}

fn chat(request: &Object<'_>) -> Result<ChatRequest, BadRequest> {
    let mut chat = Written::default();
    let carried = [
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stream",
        "provider",
        "models",
    ];
    if request.find("top_k").is_some() {
        request.integer("top_k", 0..=MAX_OUTPUT_TOKENS)?;
    }
    chat.carry(request, &carried);
    if let Some(stops) = request.elements("stop_sequences")? {
        for (n, stop) in stops.iter().enumerate() {
            is_text(&format!("stop_sequences[{n}]"), stop)?;
        }
        if !stops.is_empty() {
            chat.carry_as(request, "stop_sequences", "stop");
        }
    }
    let mut messages = Listed::default();
    if let Some(system) = request.find("system") {
        messages.say("system", &joined(&texts("system", system, &TEXT)?, "\n")?);
    }
    let begun = turns(request, &mut messages)?;
    chat.raw("messages", &messages.finish());
    if begun {
        // The last message begins the answer.
        chat.raw("continue_final_message", b"true");
        chat.raw("add_generation_prompt", b"false");
    }
    tools(request, &mut chat)?;
    format(request, &mut chat)?;
    ChatRequest::parse(chat.finish())
}

/// Writes all turns. Whether the last one is the assistant's words, and
/// therefore the beginning of the answer.
fn turns(request: &Object<'_>, messages: &mut Listed) -> Result<bool, BadRequest> {
    let turns = request.elements("messages")?.unwrap_or_default();
    if turns.is_empty() {
        let problem = "missing or empty; give an array with at least one message";
        return Err(request.fault("messages", problem));
    }
    let mut begun = false;
    for (n, turn) in turns.into_iter().enumerate() {
        let turn = Object::open(format!("messages[{n}]"), turn)?;
        let role = turn.one_of("role", &ROLES)?;
        let Some(content) = turn.find("content") else {
            let problem = "missing; give a string or an array of blocks";
            return Err(turn.fault("content", problem));
        };
        begun = match role.as_deref() {
            Some("assistant") => said(&turn, content, messages)?,
            Some(_) => {
                asked(&turn, content, messages)?;
                false
            }
            None => {
                return Err(turn.fault("role", format!("missing; allowed: {}", ROLES.join(", "))));
            }
        };
    }
    Ok(begun)
}

/// The blocks of a message; none if it is a string.
fn blocks<'a>(
    turn: &Object<'a>,
    content: &'a RawValue,
) -> Result<Option<Vec<Object<'a>>>, BadRequest> {
    if content.get().starts_with('"') {
        return Ok(None);
    }
    if !content.get().starts_with('[') {
        let path = turn.path("content");
        return Err(mismatch(&path, content, "a string or an array of blocks"));
    }
    let blocks = turn.elements("content")?.unwrap_or_default();
    let blocks = blocks.into_iter().enumerate();
    let opened = blocks.map(|(n, block)| Object::open(turn.path(&format!("content[{n}]")), block));
    opened.collect::<Result<_, _>>().map(Some)
}

/// What a block is. One without a type is told what is allowed.
fn kind(block: &Object<'_>, allowed: &str) -> Result<String, BadRequest> {
    let kind = block.string("type")?;
    kind.ok_or_else(|| block.fault("type", format!("missing; allowed: {allowed}")))
}

/// The user's turn.
fn asked<'a>(
    turn: &Object<'a>,
    content: &'a RawValue,
    messages: &mut Listed,
) -> Result<(), BadRequest> {
    const ALLOWED: &str = "text, tool_result";
    let Some(blocks) = blocks(turn, content)? else {
        messages.say("user", content.get().as_bytes());
        return Ok(());
    };
    let mut words = Vec::new();
    let mut results = false;
    for block in &blocks {
        match kind(block, ALLOWED)?.as_str() {
            "text" => words.push(text_part(block, &TEXT)?),
            "tool_result" => {
                result(block, messages)?;
                results = true;
            }
            other => return Err(untranslatable(block, other, ALLOWED)),
        }
    }
    if !words.is_empty() || !results {
        messages.say("user", &joined(&words, "\n")?);
    }
    Ok(())
}

fn untranslatable(block: &Object<'_>, kind: &str, allowed: &str) -> BadRequest {
    let problem = format!("{kind:.60?} cannot be translated; allowed: {allowed}");
    block.fault("type", problem)
}

/// What a tool came to.
fn result(block: &Object<'_>, messages: &mut Listed) -> Result<(), BadRequest> {
    let Some(id) = block.string("tool_use_id")? else {
        return Err(block.fault("tool_use_id", "missing; give the id of the tool_use"));
    };
    let words = match block.find("content") {
        Some(content) => joined(&texts(&block.path("content"), content, &TEXT)?, "\n")?,
        None => quoted(""),
    };
    let words = if block.boolean("is_error")? == Some(true) {
        let words: String = serde_json::from_slice(&words).unwrap_or_default();
        quoted(&format!("{FAILED}{words}"))
    } else {
        words
    };
    let mut message = Written::default();
    message
        .text("role", "tool")
        .text("tool_call_id", &id)
        .raw("content", &words);
    messages.push(&message.finish());
    Ok(())
}

/// The assistant's turn. Whether it is only words.
fn said<'a>(
    turn: &Object<'a>,
    content: &'a RawValue,
    messages: &mut Listed,
) -> Result<bool, BadRequest> {
    const ALLOWED: &str = "text, tool_use, thinking, redacted_thinking";
    let Some(blocks) = blocks(turn, content)? else {
        messages.say("assistant", content.get().as_bytes());
        return Ok(true);
    };
    let mut words = Vec::new();
    let mut calls = Listed::default();
    for block in &blocks {
        match kind(block, ALLOWED)?.as_str() {
            "text" => words.push(text_part(block, &TEXT)?),
            "tool_use" => calls.push(&call(block)?),
            "thinking" | "redacted_thinking" => {}
            other => return Err(untranslatable(block, other, ALLOWED)),
        }
    }
    let words = joined(&words, "")?;
    if calls.is_empty() {
        messages.say("assistant", &words);
        return Ok(true);
    }
    let mut message = Written::default();
    message
        .text("role", "assistant")
        .raw("content", &words)
        .raw("tool_calls", &calls.finish());
    messages.push(&message.finish());
    Ok(false)
}

/// A call that the assistant made.
fn call(block: &Object<'_>) -> Result<Bytes, BadRequest> {
    let missing = |name: &str| block.fault(name, "missing; a block of type tool_use needs it");
    let id = block.string("id")?.ok_or_else(|| missing("id"))?;
    let name = block.string("name")?.ok_or_else(|| missing("name"))?;
    block.object("input")?;
    let input = block.find("input").map_or("{}", RawValue::get);
    let mut function = Written::default();
    function.text("name", &name).text("arguments", input);
    let mut call = Written::default();
    call.text("id", &id)
        .text("type", "function")
        .raw("function", &function.finish());
    Ok(call.finish())
}

fn tools(request: &Object<'_>, chat: &mut Written) -> Result<(), BadRequest> {
    let mut tools = Listed::default();
    let given = request.elements("tools")?.unwrap_or_default();
    for (n, tool) in given.into_iter().enumerate() {
        let tool = Object::open(format!("tools[{n}]"), tool)?;
        if let Some(other) = tool.string("type")?.filter(|kind| kind != "custom") {
            return Err(untranslatable(&tool, &other, "custom, a tool of your own"));
        }
        tools.push(&function_tool(&tool, "input_schema")?);
    }
    if tools.is_empty() {
        return Ok(());
    }
    chat.raw("tools", &tools.finish());
    let Some(choice) = request.object("tool_choice")? else {
        return Ok(());
    };
    match choice.one_of("type", &CHOICES)?.as_deref() {
        Some("tool") => chat.raw("tool_choice", &named_choice(&choice)?),
        Some("any") => chat.text("tool_choice", "required"),
        Some(same) => chat.text("tool_choice", same),
        None => {
            let problem = format!("missing; allowed: {}", CHOICES.join(", "));
            return Err(choice.fault("type", problem));
        }
    };
    if choice.boolean("disable_parallel_tool_use")? == Some(true) {
        chat.raw("parallel_tool_calls", b"false");
    }
    Ok(())
}

/// What form the answer must have, under its newer and its older name.
fn format(request: &Object<'_>, chat: &mut Written) -> Result<(), BadRequest> {
    let config = request.object("output_config")?;
    let format = match &config {
        Some(config) => config.object("format")?,
        None => request.object("output_format")?,
    };
    let Some(format) = format else {
        return Ok(());
    };
    format.one_of("type", &["json_schema"])?;
    format.object("schema")?;
    let Some(schema) = format.find("schema") else {
        return Err(format.fault("schema", "missing; type json_schema needs it"));
    };
    chat.raw("response_format", &schema_format("answer", schema, true));
    Ok(())
}

/// Tells a message.
#[derive(Default)]
struct Message {
    /// Whether thoughts are told.
    thinking: bool,
    request: String,
    /// Blocks that were told.
    told: usize,
    calls: usize,
    /// What the open block is, if it is told.
    open: Option<Grows>,
}

#[derive(Clone, Copy)]
enum Grows {
    Text,
    Thinking,
    Input,
}

impl Message {
    fn opened(&mut self, block: Block) -> Option<(Grows, Value)> {
        match block {
            Block::Text => Some((Grows::Text, json!({ "type": "text", "text": "" }))),
            Block::Reasoning if !self.thinking => None,
            Block::Reasoning => {
                let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                Some((Grows::Thinking, block))
            }
            Block::Call { id, name } => {
                let id = id.unwrap_or_else(|| format!("toolu_{}_{}", self.request, self.calls));
                self.calls += 1;
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                Some((Grows::Input, block))
            }
        }
    }
}

fn usage(usage: Usage) -> Value {
    json!({ "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens })
}

fn stop_reason(finish: &Finish<'_>) -> (&'static str, Value) {
    match (finish.reason, finish.stop) {
        (Reason::Stop, Some(stop)) => ("stop_sequence", stop.into()),
        (Reason::Stop, None) => ("end_turn", Value::Null),
        (Reason::Length, _) => ("max_tokens", Value::Null),
        (Reason::Calls, _) => ("tool_use", Value::Null),
        (Reason::Filtered, _) => ("refusal", Value::Null),
    }
}

fn put(event: &Value, out: &mut BytesMut) {
    let name = event["type"].as_str().unwrap_or_default();
    sse::named_into(name, event.to_string().as_bytes(), out);
}

/// A message without its content.
fn envelope(opening: &Opening) -> Value {
    json!({
        "id": format!("msg_{}", opening.request),
        "type": "message",
        "role": "assistant",
        "model": opening.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage(Usage {
            prompt_tokens: opening.input_estimate,
            completion_tokens: 0,
        }),
    })
}

impl Dialect for Message {
    fn media_type(&self) -> &'static str {
        EVENTS
    }

    fn begin(&mut self, opening: &Opening, out: &mut BytesMut) {
        self.request.clone_from(&opening.request);
        put(
            &json!({ "type": "message_start", "message": envelope(opening) }),
            out,
        );
        self.quiet(out);
    }

    fn step(&mut self, step: Step, out: &mut BytesMut) -> Result<(), TranslateError> {
        let index = self.told;
        match (step, self.open) {
            (Step::Open(block), _) => {
                let Some((grows, block)) = self.opened(block) else {
                    return Ok(());
                };
                self.open = Some(grows);
                let event = json!({ "type": "content_block_start", "index": index, "content_block": block });
                put(&event, out);
            }
            (Step::More(text), Some(grows)) => {
                let delta = match grows {
                    Grows::Text => json!({ "type": "text_delta", "text": text }),
                    Grows::Thinking => json!({ "type": "thinking_delta", "thinking": text }),
                    Grows::Input => json!({ "type": "input_json_delta", "partial_json": text }),
                };
                put(
                    &json!({ "type": "content_block_delta", "index": index, "delta": delta }),
                    out,
                );
            }
            (Step::Close, Some(_)) => {
                put(
                    &json!({ "type": "content_block_stop", "index": index }),
                    out,
                );
                self.open = None;
                self.told += 1;
            }
            (Step::More(_) | Step::Close, None) => {}
        }
        Ok(())
    }

    fn end(&mut self, finish: &Finish<'_>, out: &mut BytesMut) {
        let (reason, stop) = stop_reason(finish);
        put(
            &json!({
                "type": "message_delta",
                "delta": { "stop_reason": reason, "stop_sequence": stop },
                "usage": usage(finish.usage),
            }),
            out,
        );
        finish.put_receipt(out);
        put(&json!({ "type": "message_stop" }), out);
    }

    fn fail(&mut self, error: &ErrorBody, out: &mut BytesMut) {
        put(&told("api_error", error), out);
    }

    fn quiet(&self, out: &mut BytesMut) {
        put(&json!({ "type": "ping" }), out);
    }

    fn whole(
        &mut self,
        opening: &Opening,
        parts: Vec<Part>,
        finish: &Finish<'_>,
    ) -> Result<Value, TranslateError> {
        self.request.clone_from(&opening.request);
        let mut content = Vec::new();
        for part in parts {
            let arguments = match &part.block {
                Block::Call { name, .. } => {
                    let Some(arguments) = super::whole_arguments(name, &part.text, finish)? else {
                        continue;
                    };
                    arguments
                }
                _ => Value::Null,
            };
            let Some((grows, mut block)) = self.opened(part.block) else {
                continue;
            };
            match grows {
                Grows::Text => block["text"] = part.text.into(),
                Grows::Thinking => block["thinking"] = part.text.into(),
                Grows::Input => block["input"] = arguments,
            }
            content.push(block);
        }
        let (reason, stop) = stop_reason(finish);
        let mut whole = envelope(opening);
        whole["content"] = content.into();
        whole["stop_reason"] = reason.into();
        whole["stop_sequence"] = stop;
        whole["usage"] = usage(finish.usage);
        whole["lethe"] = finish.ending.summary.clone();
        Ok(whole)
    }
}
