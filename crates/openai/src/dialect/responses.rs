//! OpenAI's `/v1/responses`.
//!
//! Nothing is stored here: a request brings its whole conversation in
//! `input`, and one that relies on what a server keeps (`previous_response_id`,
//! `conversation`, `store: true`, `background`) is refused. Thoughts are not
//! told; they count in the usage.

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::blocks::{Block, Step};
use super::writing::{Listed, Written, function_tool, joined, named_choice, texts};
use super::{
    Dialect, EVENTS, Finish, Opening, Part, Reason, TranslateError, Translated, Translator,
};
use crate::chat::{BadRequest, ChatRequest};
use crate::object::{Object, mismatch};
use crate::{ErrorBody, Usage, sse};

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];
const TEXTS: [&str; 2] = ["input_text", "output_text"];
const ITEMS: &str = "message, function_call, function_call_output, reasoning";
const CHOICES: [&str; 3] = ["none", "auto", "required"];
const FORMATS: [&str; 3] = ["text", "json_object", "json_schema"];
const MAX_OUTPUT_TOKENS: u64 = u32::MAX as u64;
/// Fields of a request that its answer repeats, and what stands for those that are not given.
const REPEATED: [(&str, &str); 8] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("temperature", "null"),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "null"),
];

/// A request for a response.
pub fn response(body: &Bytes) -> Result<Translated, BadRequest> {
    let request = Object::whole(body)?;
    refuse(&request)?;
    let mut messages = Listed::default();
    request.text("instructions")?;
    if let Some(instructions) = request.find("instructions") {
        messages.say("system", instructions.get().as_bytes());
    }
    input(&request, &mut messages)?;
    let mut chat = Written::default();
    let carried = [
        "model",
        "temperature",
        "top_p",
        "stream",
        "parallel_tool_calls",
        "top_logprobs",
        "provider",
        "models",
    ];
    chat.carry(&request, &carried);
    request.integer("max_output_tokens", 1..=MAX_OUTPUT_TOKENS)?;
    chat.carry_as(&request, "max_output_tokens", "max_tokens")
        .raw("messages", &messages.finish());
    if let Some(reasoning) = request.object("reasoning")? {
        reasoning.text("effort")?;
        chat.carry_as(&reasoning, "effort", "reasoning_effort");
    }
    tools(&request, &mut chat)?;
    format(&request, &mut chat)?;
    let mut repeated = Map::new();
    for (name, absent) in REPEATED {
        let text = request.find(name).map_or(absent, RawValue::get);
        let value = serde_json::from_str(text);
        repeated.insert(name.to_owned(), value.unwrap_or_default());
    }
    Ok(Translated {
        chat: ChatRequest::parse(chat.finish())?,
        translator: Translator::new(Response {
            repeated,
            ..Response::default()
        }),
    })
}

/// What relies on something that a server keeps, or does later.
fn refuse(request: &Object<'_>) -> Result<(), BadRequest> {
    const NOTHING_KEPT: &str =
        "nothing is stored here; leave it out, and send the whole conversation in input";
    for name in ["previous_response_id", "conversation"] {
        if request.find(name).is_some() {
            return Err(request.fault(name, NOTHING_KEPT));
        }
    }
    if request.find("prompt").is_some() {
        return Err(request.fault("prompt", "no templates are stored here; send input"));
    }
    for name in ["store", "background"] {
        if request.boolean(name)? == Some(true) {
            let problem = "true; nothing is stored here, allowed: false";
            return Err(request.fault(name, problem));
        }
    }
    let truncation = request.one_of("truncation", &["auto", "disabled"])?;
    if truncation.is_some_and(|truncation| truncation == "auto") {
        let problem = "\"auto\" cannot be translated; allowed: disabled";
        return Err(request.fault("truncation", problem));
    }
    Ok(())
}

fn input(request: &Object<'_>, messages: &mut Listed) -> Result<(), BadRequest> {
    const ALLOWED: &str = "a string or an array of items";
    let Some(input) = request.find("input") else {
        return Err(request.fault("input", format!("missing; give {ALLOWED}")));
    };
    match input.get().as_bytes().first() {
        Some(b'"') => messages.say("user", input.get().as_bytes()),
        Some(b'[') => {
            let items = request.elements("input")?.unwrap_or_default();
            // Calls that follow one another are one message of a chat.
            let mut calls = Listed::default();
            for (n, item) in items.into_iter().enumerate() {
                let item = Object::open(format!("input[{n}]"), item)?;
                self::item(&item, &mut calls, messages)?;
            }
            flush(&mut calls, messages);
        }
        _ => return Err(mismatch("input", input, ALLOWED)),
    }
    if messages.is_empty() {
        return Err(request.fault("input", "empty; give at least one item"));
    }
    Ok(())
}

fn flush(calls: &mut Listed, messages: &mut Listed) {
    if calls.is_empty() {
        return;
    }
    let mut message = Written::default();
    message
        .text("role", "assistant")
        .raw("content", b"null")
        .raw("tool_calls", &std::mem::take(calls).finish());
    messages.push(&message.finish());
}

fn item(item: &Object<'_>, calls: &mut Listed, messages: &mut Listed) -> Result<(), BadRequest> {
    let kind = item.string("type")?;
    match kind.as_deref().unwrap_or("message") {
        "function_call" => calls.push(&call(item)?),
        "reasoning" => {}
        "function_call_output" => {
            flush(calls, messages);
            messages.push(&output(item)?);
        }
        "message" => {
            flush(calls, messages);
            let Some(role) = item.one_of("role", &ROLES)? else {
                return Err(item.fault("role", format!("missing; allowed: {}", ROLES.join(", "))));
            };
            let Some(content) = item.find("content") else {
                return Err(item.fault("content", "missing; give a string or an array of parts"));
            };
            let role = if role == "developer" { "system" } else { &role };
            let words = texts(&item.path("content"), content, &TEXTS)?;
            messages.say(role, &joined(&words, "\n")?);
        }
        other => {
            let problem = format!("{other:.60?} cannot be translated; allowed: {ITEMS}");
            return Err(item.fault("type", problem));
        }
    }
    Ok(())
}

fn needed(item: &Object<'_>, name: &str) -> Result<String, BadRequest> {
    let missing = || item.fault(name, "missing; this item needs it");
    item.string(name)?.ok_or_else(missing)
}

fn call(item: &Object<'_>) -> Result<Bytes, BadRequest> {
    let mut function = Written::default();
    function
        .text("name", &needed(item, "name")?)
        .text("arguments", &needed(item, "arguments")?);
    let mut call = Written::default();
    call.text("id", &needed(item, "call_id")?)
        .text("type", "function")
        .raw("function", &function.finish());
    Ok(call.finish())
}

fn output(item: &Object<'_>) -> Result<Bytes, BadRequest> {
    let Some(output) = item.find("output") else {
        return Err(item.fault("output", "missing; this item needs it"));
    };
    let words = joined(&texts(&item.path("output"), output, &TEXTS)?, "\n")?;
    let mut message = Written::default();
    message
        .text("role", "tool")
        .text("tool_call_id", &needed(item, "call_id")?)
        .raw("content", &words);
    Ok(message.finish())
}

fn tools(request: &Object<'_>, chat: &mut Written) -> Result<(), BadRequest> {
    let mut tools = Listed::default();
    let given = request.elements("tools")?.unwrap_or_default();
    for (n, tool) in given.into_iter().enumerate() {
        let tool = Object::open(format!("tools[{n}]"), tool)?;
        tool.one_of("type", &["function"])?
            .ok_or_else(|| tool.fault("type", "missing; allowed: function"))?;
        tools.push(&function_tool(&tool, "parameters")?);
    }
    if tools.is_empty() {
        return Ok(());
    }
    chat.raw("tools", &tools.finish());
    match request.find("tool_choice") {
        Some(choice) if choice.get().starts_with('{') => {
            let choice = Object::open("tool_choice", choice)?;
            choice.one_of("type", &["function"])?;
            chat.raw("tool_choice", &named_choice(&choice)?);
        }
        _ => {
            if let Some(choice) = request.one_of("tool_choice", &CHOICES)? {
                chat.text("tool_choice", &choice);
            }
        }
    }
    Ok(())
}

/// `text.format`; the schema stands beside its name there, and below it in a chat request.
fn format(request: &Object<'_>, chat: &mut Written) -> Result<(), BadRequest> {
    let text = request.object("text")?;
    let Some(format) = text
        .map(|text| text.object("format"))
        .transpose()?
        .flatten()
    else {
        return Ok(());
    };
    let kind = format.one_of("type", &FORMATS)?.unwrap_or_default();
    if kind != "json_schema" {
        let mut written = Written::default();
        written.text("type", &kind);
        if kind == "json_object" {
            chat.raw("response_format", &written.finish());
        }
        return Ok(());
    }
    format.object("schema")?;
    if format.find("schema").is_none() {
        return Err(format.fault("schema", "missing; type json_schema needs it"));
    }
    let mut inner = Written::default();
    let name = format.string("name")?;
    inner
        .text("name", name.as_deref().unwrap_or("answer"))
        .carry(&format, &["schema", "strict", "description"]);
    let mut written = Written::default();
    written
        .text("type", "json_schema")
        .raw("json_schema", &inner.finish());
    chat.raw("response_format", &written.finish());
    Ok(())
}

/// Tells a response.
#[derive(Default)]
struct Response {
    repeated: Map<String, Value>,
    opening: Opening,
    sequence: u64,
    /// Items that are done.
    output: Vec<Value>,
    open: Option<Block>,
    /// The text of the open item.
    text: String,
}

impl Response {
    fn id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.opening.request, self.output.len())
    }

    /// The item of a block, with so much text; none for thoughts.
    fn item(&self, block: &Block, text: &str, status: &str) -> Option<Value> {
        match block {
            Block::Reasoning => None,
            Block::Text => {
                let content = match status {
                    "in_progress" => json!([]),
                    _ => json!([part(text)]),
                };
                Some(json!({
                    "id": self.id("msg"),
                    "type": "message",
                    "status": status,
                    "role": "assistant",
                    "content": content,
                }))
            }
            Block::Call { id, name } => {
                let call_id = id.clone().unwrap_or_else(|| self.id("call"));
                Some(json!({
                    "id": self.id("fc"),
                    "type": "function_call",
                    "status": status,
                    "call_id": call_id,
                    "name": name,
                    "arguments": text,
                }))
            }
        }
    }

    fn put(&mut self, name: &str, mut event: Value, out: &mut BytesMut) {
        event["type"] = name.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        sse::named_into(name, event.to_string().as_bytes(), out);
    }

    /// An event within the open item.
    fn put_within(&mut self, name: &str, mut event: Value, out: &mut BytesMut) {
        let kind = if self.open == Some(Block::Text) {
            event["content_index"] = 0.into();
            "msg"
        } else {
            "fc"
        };
        event["item_id"] = self.id(kind).into();
        event["output_index"] = self.output.len().into();
        self.put(name, event, out);
    }

    fn opened(&mut self, block: Block, out: &mut BytesMut) {
        if let Some(item) = self.item(&block, "", "in_progress") {
            let event = json!({ "output_index": self.output.len(), "item": item });
            self.put("response.output_item.added", event, out);
        }
        let is_text = block == Block::Text;
        self.open = Some(block);
        if is_text {
            let event = json!({ "part": part("") });
            self.put_within("response.content_part.added", event, out);
        }
    }

    fn grown(&mut self, more: &str, out: &mut BytesMut) {
        self.text.push_str(more);
        match &self.open {
            Some(Block::Text) => {
                let event = json!({ "delta": more, "logprobs": [] });
                self.put_within("response.output_text.delta", event, out);
            }
            Some(Block::Call { .. }) => {
                let event = json!({ "delta": more });
                self.put_within("response.function_call_arguments.delta", event, out);
            }
            Some(Block::Reasoning) | None => self.text.clear(),
        }
    }

    fn closed(&mut self, out: &mut BytesMut) {
        let text = std::mem::take(&mut self.text);
        match &self.open {
            Some(Block::Text) => {
                let event = json!({ "text": text, "logprobs": [] });
                self.put_within("response.output_text.done", event, out);
                let event = json!({ "part": part(&text) });
                self.put_within("response.content_part.done", event, out);
            }
            Some(Block::Call { name, .. }) => {
                let event = json!({ "name": name, "arguments": text });
                self.put_within("response.function_call_arguments.done", event, out);
            }
            Some(Block::Reasoning) | None => {}
        }
        let Some(block) = self.open.take() else {
            return;
        };
        if let Some(item) = self.item(&block, &text, "completed") {
            let event = json!({ "output_index": self.output.len(), "item": item });
            self.put("response.output_item.done", event, out);
            self.output.push(item);
        }
    }

    /// The response, as it is by now.
    fn envelope(&self, status: &str) -> Value {
        let mut whole = json!({
            "id": format!("resp_{}", self.opening.request),
            "object": "response",
            "created_at": self.opening.created,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "model": self.opening.model,
            "output": self.output,
            "previous_response_id": null,
            "store": false,
            "truncation": "disabled",
            "usage": null,
        });
        for (name, value) in &self.repeated {
            whole[name] = value.clone();
        }
        whole
    }

    /// The name of the last event, and the response as it ended.
    fn finished(&self, finish: &Finish<'_>) -> (&'static str, Value) {
        let cut = match finish.reason {
            Reason::Length => Some("max_output_tokens"),
            Reason::Filtered => Some("content_filter"),
            Reason::Stop | Reason::Calls => None,
        };
        let (name, status) = match cut {
            Some(_) => ("response.incomplete", "incomplete"),
            None => ("response.completed", "completed"),
        };
        let mut whole = self.envelope(status);
        if let Some(reason) = cut {
            whole["incomplete_details"] = json!({ "reason": reason });
        }
        whole["usage"] = usage(finish.usage);
        (name, whole)
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn usage(usage: Usage) -> Value {
    let total = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": total,
    })
}

impl Dialect for Response {
    fn media_type(&self) -> &'static str {
        EVENTS
    }

    fn begin(&mut self, opening: &Opening, out: &mut BytesMut) {
        self.opening = opening.clone();
        let response = self.envelope("in_progress");
        let event = json!({ "response": response });
        self.put("response.created", event.clone(), out);
        self.put("response.in_progress", event, out);
    }

    fn step(&mut self, step: Step, out: &mut BytesMut) -> Result<(), TranslateError> {
        match step {
            Step::Open(block) => self.opened(block, out),
            Step::More(text) => self.grown(&text, out),
            Step::Close => self.closed(out),
        }
        Ok(())
    }

    fn end(&mut self, finish: &Finish<'_>, out: &mut BytesMut) {
        finish.put_receipt(out);
        let (name, whole) = self.finished(finish);
        self.put(name, json!({ "response": whole }), out);
    }

    fn fail(&mut self, error: &ErrorBody, out: &mut BytesMut) {
        let mut whole = self.envelope("failed");
        let detail = &error.error;
        whole["error"] = json!({ "code": "server_error", "message": detail.message });
        self.put("response.failed", json!({ "response": whole }), out);
    }

    fn quiet(&self, out: &mut BytesMut) {
        out.extend_from_slice(&sse::KEEP_ALIVE);
    }

    fn whole(
        &mut self,
        opening: &Opening,
        parts: Vec<Part>,
        finish: &Finish<'_>,
    ) -> Result<Value, TranslateError> {
        self.opening = opening.clone();
        for part in parts {
            let item = self.item(&part.block, &part.text, "completed");
            self.output.extend(item);
        }
        let (_, mut whole) = self.finished(finish);
        whole["lethe"] = finish.ending.summary.clone();
        Ok(whole)
    }
}
