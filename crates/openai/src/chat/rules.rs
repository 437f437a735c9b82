//! What the known fields of a chat request may hold.
//!
//! `null` counts as absent, as with OpenAI. A message names the field and
//! what is allowed; it shows a value only where it is a setting, never a
//! prompt.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use super::BadRequest;
use crate::json::{Elements, Fields, shown};

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
pub(super) fn check(fields: &Fields<'_>) -> Result<Known, BadRequest> {
    let request = Object { path: "", fields };
    let known = Known {
        model: model(&request)?,
        stream: request.boolean("stream")?.unwrap_or(false),
        include_usage: include_usage(&request)?,
        max_output_tokens: max_output_tokens(&request)?,
    };
    messages(&request)?;
    sampling(&request)?;
    tools(&request)?;
    tool_choice(&request)?;
    response_format(&request)?;
    Ok(known)
}

fn model(request: &Object<'_, '_>) -> Result<String, BadRequest> {
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

fn include_usage(request: &Object<'_, '_>) -> Result<bool, BadRequest> {
    let Some(options) = request.fields("stream_options")? else {
        return Ok(false);
    };
    let options = Object {
        path: "stream_options",
        fields: &options,
    };
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

fn max_output_tokens(request: &Object<'_, '_>) -> Result<Option<u32>, BadRequest> {
    let old = request.integer("max_tokens", 1..=MAX_OUTPUT_TOKENS)?;
    let new = request.integer("max_completion_tokens", 1..=MAX_OUTPUT_TOKENS)?;
    Ok(new
        .or(old)
        .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)))
}

fn messages(request: &Object<'_, '_>) -> Check {
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
        let path = format!("messages[{n}]");
        let fields = object(&path, value)?;
        message(&Object {
            path: &path,
            fields: &fields,
        })?;
    }
    Ok(())
}

fn message(message: &Object<'_, '_>) -> Check {
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
            parts.iter().enumerate().try_for_each(|(n, part)| {
                let path = format!("{path}[{n}]");
                let fields = object(&path, part)?;
                check_part(&Object {
                    path: &path,
                    fields: &fields,
                })
            })
        }
        _ => Err(mismatch(path, content, "a string or an array of parts")),
    }
}

/// Kinds of part that we do not know pass: backends know more of them.
fn check_part(part: &Object<'_, '_>) -> Check {
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
        "input_audio" => part.fields("input_audio")?.map(drop).ok_or("input_audio"),
        _ => Ok(()),
    };
    needed.map_err(|name| part.fault(name, format!("missing; a part of type {kind} needs it")))
}

fn tool_calls(message: &Object<'_, '_>) -> Check {
    for (n, value) in message
        .elements("tool_calls")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let path = message.path(&format!("tool_calls[{n}]"));
        let fields = object(&path, value)?;
        let call = Object {
            path: &path,
            fields: &fields,
        };
        call.text("id")?;
        if let Some(fields) = call.fields("function")? {
            let path = call.path("function");
            let function = Object {
                path: &path,
                fields: &fields,
            };
            function.text("name")?;
            function.text("arguments")?;
        }
    }
    Ok(())
}

fn sampling(request: &Object<'_, '_>) -> Check {
    request.number("temperature", 0.0..=2.0)?;
    request.number("top_p", 0.0..=1.0)?;
    request.number("presence_penalty", -2.0..=2.0)?;
    request.number("frequency_penalty", -2.0..=2.0)?;
    request.integer("n", 1..=1)?;
    request.integer("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
    request.boolean("logprobs")?;
    request.boolean("parallel_tool_calls")?;
    request.fields("logit_bias")?;
    request.text("user")?;
    if let Some(seed) = request.find("seed") {
        parse::<i64>("seed", seed, "a whole number of 64 bits")?;
    }
    stop(request)
}

fn stop(request: &Object<'_, '_>) -> Check {
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

fn tools(request: &Object<'_, '_>) -> Check {
    for (n, value) in request
        .elements("tools")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let path = format!("tools[{n}]");
        let fields = object(&path, value)?;
        let tool = Object {
            path: &path,
            fields: &fields,
        };
        let Some(kind) = tool.string("type")? else {
            return Err(tool.fault(
                "type",
                "missing; allowed: function, or what the model takes",
            ));
        };
        if kind == "function" {
            let Some(fields) = tool.fields("function")? else {
                return Err(tool.fault("function", "missing; a tool of type function needs it"));
            };
            let path = tool.path("function");
            let function = Object {
                path: &path,
                fields: &fields,
            };
            if function.string("name")?.is_none_or(|name| name.is_empty()) {
                return Err(function.fault("name", "missing or empty; give the function's name"));
            }
            function.fields("parameters")?;
        }
    }
    Ok(())
}

fn tool_choice(request: &Object<'_, '_>) -> Check {
    match request.find("tool_choice") {
        Some(choice) if choice.get().starts_with('{') => object("tool_choice", choice).map(drop),
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

fn response_format(request: &Object<'_, '_>) -> Check {
    let Some(fields) = request.fields("response_format")? else {
        return Ok(());
    };
    let format = Object {
        path: "response_format",
        fields: &fields,
    };
    match format.string("type")?.as_deref() {
        None => Err(format.fault("type", "missing; allowed: text, json_object, json_schema")),
        Some("json_schema") if format.fields("json_schema")?.is_none() => {
            Err(format.fault("json_schema", "missing; type json_schema needs it"))
        }
        Some(_) => Ok(()),
    }
}

/// An opened object and where it is.
struct Object<'o, 'a> {
    path: &'o str,
    fields: &'o Fields<'a>,
}

impl<'a> Object<'_, 'a> {
    fn path(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    fn fault(&self, name: &str, problem: impl Into<String>) -> BadRequest {
        BadRequest::new(self.path(name), problem)
    }

    fn find(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.find(name)
    }

    fn read<T: serde::Deserialize<'a>>(
        &self,
        name: &str,
        allowed: &str,
    ) -> Result<Option<T>, BadRequest> {
        match self.find(name) {
            Some(value) => parse(&self.path(name), value, allowed).map(Some),
            None => Ok(None),
        }
    }

    fn string(&self, name: &str) -> Result<Option<String>, BadRequest> {
        self.read(name, "a string")
    }

    /// Whether there is a string, which may be long and is not read.
    fn text(&self, name: &str) -> Result<Option<()>, BadRequest> {
        match self.find(name) {
            Some(value) => is_text(&self.path(name), value).map(Some),
            None => Ok(None),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, BadRequest> {
        self.read(name, "true or false")
    }

    fn one_of(&self, name: &str, allowed: &[&str]) -> Result<Option<String>, BadRequest> {
        let list = allowed.join(", ");
        let found: Option<String> = self.read(name, &format!("one of {list}"))?;
        match found {
            Some(found) if !allowed.contains(&found.as_str()) => {
                Err(self.fault(name, format!("{}; allowed: {list}", shown(&found))))
            }
            found => Ok(found),
        }
    }

    fn number(&self, name: &str, range: RangeInclusive<f64>) -> Check {
        let allowed = format!("a number {}", from_to(&range));
        match self.read::<f64>(name, &allowed)? {
            Some(number) if !range.contains(&number) => {
                Err(self.fault(name, format!("{number}; allowed: {allowed}")))
            }
            _ => Ok(()),
        }
    }

    fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, BadRequest> {
        let allowed = format!("a whole number {}", from_to(&range));
        match self.read::<u64>(name, &allowed)? {
            Some(number) if !range.contains(&number) => {
                Err(self.fault(name, format!("{number}; allowed: {allowed}")))
            }
            found => Ok(found),
        }
    }

    fn fields(&self, name: &str) -> Result<Option<Fields<'a>>, BadRequest> {
        let Some(value) = self.find(name) else {
            return Ok(None);
        };
        object(&self.path(name), value).map(Some)
    }

    fn elements(&self, name: &str) -> Result<Option<Vec<&'a RawValue>>, BadRequest> {
        let Some(value) = self.find(name) else {
            return Ok(None);
        };
        elements(&self.path(name), value).map(Some)
    }
}

fn from_to<T: Display + PartialEq>(range: &RangeInclusive<T>) -> String {
    if range.start() == range.end() {
        return format!("equal to {}", range.start());
    }
    format!("from {} to {}", range.start(), range.end())
}

fn object<'a>(path: &str, value: &'a RawValue) -> Result<Fields<'a>, BadRequest> {
    parse_nested(path, value, '{', "an object")
}

fn elements<'a>(path: &str, value: &'a RawValue) -> Result<Vec<&'a RawValue>, BadRequest> {
    let elements: Elements<'a> = parse_nested(path, value, '[', "an array")?;
    Ok(elements.0)
}

fn parse<'a, T: serde::Deserialize<'a>>(
    path: &str,
    value: &'a RawValue,
    allowed: &str,
) -> Result<T, BadRequest> {
    serde_json::from_str(value.get()).map_err(|_| mismatch(path, value, allowed))
}

/// Like [`parse`], but a value of the right kind may also be wrong inside.
fn parse_nested<'a, T: serde::Deserialize<'a>>(
    path: &str,
    value: &'a RawValue,
    opening: char,
    allowed: &str,
) -> Result<T, BadRequest> {
    if !value.get().starts_with(opening) {
        return Err(mismatch(path, value, allowed));
    }
    serde_json::from_str(value.get()).map_err(|error| BadRequest::new(path, error.to_string()))
}

fn is_text(path: &str, value: &RawValue) -> Check {
    if value.get().starts_with('"') {
        return Ok(());
    }
    Err(mismatch(path, value, "a string"))
}

/// Shows what kind of value was found; the value itself only if it is no text.
fn mismatch(path: &str, value: &RawValue, allowed: &str) -> BadRequest {
    let text = value.get();
    let found = match text.as_bytes().first() {
        Some(b'"') => "a string".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(b'{') => "an object".to_owned(),
        _ => shown(text).replace('"', ""),
    };
    BadRequest::new(path, format!("{found}; allowed: {allowed}"))
}
