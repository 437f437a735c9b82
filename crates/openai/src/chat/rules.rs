//! What the known fields of a chat request may hold.
//!
//! `null` counts as absent, as with OpenAI. A message names the field and
//! what is allowed; it shows a value only where it is a setting, never a
//! prompt.

use serde_json::value::RawValue;

use super::BadRequest;
use crate::object::{Object, elements, is_text, mismatch, parse};

/// What the rest of the program asks about a request.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) max_output_tokens: Option<u32>,
}

type Check = Result<(), BadRequest>;

const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];
const TOOL_CHOICES: [&str; 3] = ["none", "auto", "required"];
/// The longest model name; the registry's names are far shorter.
const MAX_MODEL_BYTES: usize = 256;
/// The most stop sequences.
const MAX_STOPS: usize = 16;
/// The most alternatives per token that may be asked for.
const MAX_TOP_LOGPROBS: u64 = 20;
/// The longest answer that may be asked for, in tokens.
const MAX_OUTPUT_TOKENS: u64 = u32::MAX as u64;

/// Checks every field that has a rule.
pub(super) fn check(request: &Object<'_>) -> Result<Known, BadRequest> {
    let known = Known {
        model: model(request)?,
        stream: request.boolean("stream")?.unwrap_or(false),
        include_usage: include_usage(request)?,
        max_output_tokens: max_output_tokens(request)?,
    };
    messages(request)?;
    sampling(request)?;
    tools(request)?;
    tool_choice(request)?;
    response_format(request)?;
    Ok(known)
}

/// The name of the model.
pub(crate) fn model(request: &Object<'_>) -> Result<String, BadRequest> {
    let allowed = "give the name of a model, as /v1/models lists them";
    let Some(model) = request.string("model")? else {
        return Err(request.fault("model", format!("missing; {allowed}")));
    };
    if model.trim().is_empty() {
        return Err(request.fault("model", format!("empty; {allowed}")));
    }
    if model.len() > MAX_MODEL_BYTES {
        let problem = format!(
            "{} bytes long; at most {MAX_MODEL_BYTES} are allowed",
            model.len()
        );
        return Err(request.fault("model", problem));
    }
    Ok(model)
}

fn include_usage(request: &Object<'_>) -> Result<bool, BadRequest> {
    let Some(options) = request.object("stream_options")? else {
        return Ok(false);
    };
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

fn max_output_tokens(request: &Object<'_>) -> Result<Option<u32>, BadRequest> {
    let old = request.integer("max_tokens", 1..=MAX_OUTPUT_TOKENS)?;
    let new = request.integer("max_completion_tokens", 1..=MAX_OUTPUT_TOKENS)?;
    Ok(new
        .or(old)
        .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)))
}

fn messages(request: &Object<'_>) -> Check {
    let Some(messages) = request.elements("messages")? else {
        return Err(request.fault(
            "messages",
            "missing; give an array with at least one message",
        ));
    };
    if messages.is_empty() {
        return Err(request.fault("messages", "empty; give at least one message"));
    }
    for (n, value) in messages.iter().enumerate() {
        message(&Object::open(format!("messages[{n}]"), value)?)?;
    }
    Ok(())
}

fn message(message: &Object<'_>) -> Check {
    let role = message.one_of("role", &ROLES)?;
    let Some(role) = role else {
        return Err(message.fault("role", format!("missing; allowed: {}", ROLES.join(", "))));
    };
    match message.find("content") {
        Some(content) => check_content(&message.path("content"), content)?,
        // Calls, refusals and the like may stand in for an assistant's words.
        None if role == "assistant" => {}
        None => {
            let problem = format!("missing; a {role} message needs a string or an array of parts");
            return Err(message.fault("content", problem));
        }
    }
    message.text("name")?;
    message.text("tool_call_id")?;
    tool_calls(message)
}

fn check_content(path: &str, content: &RawValue) -> Check {
    match content.get().as_bytes().first() {
        Some(b'"') => Ok(()),
        Some(b'[') => {
            let parts = elements(path, content)?;
            parts
                .iter()
                .enumerate()
                .try_for_each(|(n, part)| check_part(&Object::open(format!("{path}[{n}]"), part)?))
        }
        _ => Err(mismatch(path, content, "a string or an array of parts")),
    }
}

/// Kinds of part that we do not know pass: backends know more of them.
fn check_part(part: &Object<'_>) -> Check {
    let Some(kind) = part.string("type")? else {
        return Err(part.fault(
            "type",
            "missing; allowed: text, image_url, or what the model takes",
        ));
    };
    let needed = match kind.as_str() {
        "text" => part.text("text")?.ok_or("text"),
        "refusal" => part.text("refusal")?.ok_or("refusal"),
        "image_url" => part.find("image_url").map(drop).ok_or("image_url"),
        "input_audio" => part.object("input_audio")?.map(drop).ok_or("input_audio"),
        _ => Ok(()),
    };
    needed.map_err(|name| part.fault(name, format!("missing; a part of type {kind} needs it")))
}

fn tool_calls(message: &Object<'_>) -> Check {
    for (n, value) in message
        .elements("tool_calls")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let call = Object::open(message.path(&format!("tool_calls[{n}]")), value)?;
        call.text("id")?;
        if let Some(function) = call.object("function")? {
            function.text("name")?;
            function.text("arguments")?;
        }
    }
    Ok(())
}

fn sampling(request: &Object<'_>) -> Check {
    request.number("temperature", 0.0..=2.0)?;
    request.number("top_p", 0.0..=1.0)?;
    request.number("presence_penalty", -2.0..=2.0)?;
    request.number("frequency_penalty", -2.0..=2.0)?;
    request.integer("n", 1..=1)?;
    request.integer("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
    request.boolean("logprobs")?;
    request.boolean("parallel_tool_calls")?;
    request.object("logit_bias")?;
    request.text("user")?;
    if let Some(seed) = request.find("seed") {
        parse::<i64>("seed", seed, "a whole number of 64 bits")?;
    }
    stop(request)
}

fn stop(request: &Object<'_>) -> Check {
    let Some(stop) = request.find("stop") else {
        return Ok(());
    };
    match stop.get().as_bytes().first() {
        Some(b'"') => Ok(()),
        Some(b'[') => {
            let stops = elements("stop", stop)?;
            if stops.len() > MAX_STOPS {
                let problem = format!("{} sequences; at most {MAX_STOPS} are allowed", stops.len());
                return Err(request.fault("stop", problem));
            }
            stops
                .iter()
                .enumerate()
                .try_for_each(|(n, stop)| is_text(&format!("stop[{n}]"), stop))
        }
        _ => Err(mismatch("stop", stop, "a string or an array of strings")),
    }
}

fn tools(request: &Object<'_>) -> Check {
    for (n, value) in request
        .elements("tools")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let tool = Object::open(format!("tools[{n}]"), value)?;
        let Some(kind) = tool.string("type")? else {
            return Err(tool.fault(
                "type",
                "missing; allowed: function, or what the model takes",
            ));
        };
        if kind == "function" {
            let Some(function) = tool.object("function")? else {
                return Err(tool.fault("function", "missing; a tool of type function needs it"));
            };
            if function.string("name")?.is_none_or(|name| name.is_empty()) {
                return Err(function.fault("name", "missing or empty; give the function's name"));
            }
            function.object("parameters")?;
        }
    }
    Ok(())
}

fn tool_choice(request: &Object<'_>) -> Check {
    match request.find("tool_choice") {
        Some(choice) if choice.get().starts_with('{') => {
            Object::open("tool_choice", choice).map(drop)
        }
        Some(choice) if choice.get().starts_with('"') => {
            request.one_of("tool_choice", &TOOL_CHOICES).map(drop)
        }
        Some(choice) => {
            let allowed = format!("one of {}, or an object", TOOL_CHOICES.join(", "));
            Err(mismatch("tool_choice", choice, &allowed))
        }
        None => Ok(()),
    }
}

fn response_format(request: &Object<'_>) -> Check {
    let Some(format) = request.object("response_format")? else {
        return Ok(());
    };
    match format.string("type")?.as_deref() {
        None => Err(format.fault("type", "missing; allowed: text, json_object, json_schema")),
        Some("json_schema") if format.object("json_schema")?.is_none() => {
            Err(format.fault("json_schema", "missing; type json_schema needs it"))
        }
        Some(_) => Ok(()),
    }
}
