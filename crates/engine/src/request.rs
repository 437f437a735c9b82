//! What a chat request asks for, read from an OpenAI body and checked.
//!
//! Raw JSON comes in, a [`Request`] goes out that needs no more checks.
//! Fields this engine does not know are ignored, as clients expect; fields it
//! knows and can't honour are refused by name, so that nobody takes an
//! unconstrained answer for a constrained one.

use serde_json::{Map, Value};

use crate::sampler::Sampling;

/// Stop texts a request may name; OpenAI allows 4.
const STOPS_MAX: usize = 16;
/// How long one of them may be.
const STOP_BYTES_MAX: usize = 1024;
/// Most alternatives per token in `top_logprobs`.
const TOP_LOGPROBS_MAX: u64 = 20;
/// Entries in `logit_bias`.
const BIAS_MAX: usize = 1024;
/// Messages in one conversation.
const MESSAGES_MAX: usize = 4096;

/// A field that cannot be honoured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) field: String,
    pub(crate) problem: String,
}

/// Those that a model may know nothing of.
pub(crate) const TOOLS: [&str; 2] = ["tool_choice", "tools"];

/// Fields of a request that are heeded, beyond model, messages and how the
/// answer is sent.
pub(crate) const PARAMETERS: [&str; 17] = [
    "chat_template_kwargs",
    "continue_final_message",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "min_p",
    "presence_penalty",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
];

/// A request that has been checked.
#[derive(Debug)]
pub(crate) struct Request {
    /// Every content is a string; roles are known ones.
    pub(crate) messages: Vec<Value>,
    /// What the assistant has already said of its answer: it goes on from there.
    pub(crate) begun: Option<String>,
    pub(crate) tools: Option<Value>,
    pub(crate) template_variables: Option<Map<String, Value>>,
    pub(crate) sampling: Sampling,
    pub(crate) stops: Vec<String>,
    pub(crate) tokens_max: Option<u32>,
    /// How many alternatives to report per token; `None` for no logprobs.
    pub(crate) logprobs: Option<usize>,
}

impl Request {
    pub(crate) fn read(body: &Value) -> Result<Self, Problem> {
        let fields = Fields(body.as_object().ok_or_else(|| Problem {
            field: "body".to_owned(),
            problem: "must be a JSON object".to_owned(),
        })?);
        fields.refuse_what_is_not_done()?;
        let (messages, begun) = conversation(&fields)?;
        Ok(Self {
            messages,
            begun,
            tools: tools(&fields)?,
            template_variables: fields.object("chat_template_kwargs")?.cloned(),
            sampling: sampling(&fields)?,
            stops: stops(&fields)?,
            tokens_max: tokens_max(&fields)?,
            logprobs: logprobs(&fields)?,
        })
    }
}

fn problem<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem {
        field: field.into(),
        problem: problem.into(),
    })
}

/// A value as it may stand in a message: not longer than a line.
fn shown(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= CHARACTERS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    short.push('…');
    short
}

/// The fields of the body; `null` counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn find(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn number(&self, field: &str, min: f64, max: f64) -> Result<Option<f64>, Problem> {
        let Some(value) = self.find(field) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => problem(
                field,
                format!(
                    "is {}, allowed is a number from {min} to {max}",
                    shown(value)
                ),
            ),
        }
    }

    fn integer(&self, field: &str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.find(field) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => problem(
                field,
                format!(
                    "is {}, allowed is an integer from {min} to {max}",
                    shown(value)
                ),
            ),
        }
    }

    fn boolean(&self, field: &str) -> Result<Option<bool>, Problem> {
        match self.find(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => problem(
                field,
                format!("is {}, allowed is true or false", shown(other)),
            ),
        }
    }

    fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>, Problem> {
        match self.find(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => problem(field, format!("is {}, allowed is an object", shown(other))),
        }
    }

    fn refuse_what_is_not_done(&self) -> Result<(), Problem> {
        if let Some(format) = self.object("response_format")?
            && format.get("type").and_then(Value::as_str) != Some("text")
        {
            return problem(
                "response_format",
                "is not heeded: this engine does not constrain its output; leave the field out, or choose a model of a provider that heeds it",
            );
        }
        if self.integer("n", 1, u64::MAX)?.is_some_and(|n| n > 1) {
            return problem(
                "n",
                "is more than 1: this engine gives one answer per request; send several requests",
            );
        }
        if let Some(choice) = self.find("tool_choice")
            && !matches!(choice.as_str(), Some("auto" | "none"))
        {
            return problem(
                "tool_choice",
                format!(
                    "is {}, allowed is \"auto\" or \"none\": this engine cannot force a call",
                    shown(choice)
                ),
            );
        }
        for field in ["functions", "function_call"] {
            if self.find(field).is_some() {
                return problem(field, "is the retired form; use tools");
            }
        }
        for field in ["audio", "modalities"] {
            let only_text = self
                .find(field)
                .is_none_or(|value| *value == serde_json::json!(["text"]));
            if !only_text {
                return problem(field, "is more than text: this engine speaks text only");
            }
        }
        Ok(())
    }
}

fn messages(fields: &Fields<'_>) -> Result<Vec<Value>, Problem> {
    let Some(Value::Array(messages)) = fields.find("messages") else {
        return problem("messages", "must be a list of messages");
    };
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return problem(
            "messages",
            format!(
                "has {} entries, allowed is 1 to {MESSAGES_MAX}",
                messages.len()
            ),
        );
    }
    messages
        .iter()
        .enumerate()
        .map(|(at, message)| read_message(at, message))
        .collect()
}

/// The messages; with `continue_final_message`, as vLLM and SGLang have it,
/// the last of them is the beginning of the answer.
fn conversation(fields: &Fields<'_>) -> Result<(Vec<Value>, Option<String>), Problem> {
    let mut messages = messages(fields)?;
    if fields.boolean("continue_final_message")? != Some(true) {
        return Ok((messages, None));
    }
    if fields.boolean("add_generation_prompt")? == Some(true) {
        return problem(
            "add_generation_prompt",
            "is true, allowed beside continue_final_message is false: an answer is either begun or gone on with",
        );
    }
    let begun = messages.pop().unwrap_or_default();
    let plain = begun["role"] == "assistant" && begun.get("tool_calls").is_none();
    match begun["content"].as_str() {
        Some(text) if plain && !messages.is_empty() => Ok((messages, Some(text.to_owned()))),
        _ => problem(
            "continue_final_message",
            "is true, allowed is that only if the last of several messages is an assistant's, without calls",
        ),
    }
}

fn read_message(at: usize, message: &Value) -> Result<Value, Problem> {
    let field = |name: &str| format!("messages[{at}].{name}");
    let Some(given) = message.as_object() else {
        return problem(
            format!("messages[{at}]"),
            "must be an object with role and content",
        );
    };
    let role = match given.get("role").and_then(Value::as_str) {
        // Templates know the older name only.
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        _ => {
            return problem(
                field("role"),
                format!(
                    "is {}, allowed is system, developer, user, assistant or tool",
                    shown(given.get("role").unwrap_or(&Value::Null))
                ),
            );
        }
    };
    let calls = given.get("tool_calls").filter(|calls| !calls.is_null());
    let content = match given.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => read_parts(at, parts)?,
        None | Some(Value::Null) if role == "assistant" => String::new(),
        other => {
            return problem(
                field("content"),
                format!(
                    "is {}, allowed is a string or a list of text parts",
                    shown(other.unwrap_or(&Value::Null))
                ),
            );
        }
    };

    let mut read = Map::new();
    read.insert("role".to_owned(), role.into());
    read.insert("content".to_owned(), content.into());
    if let Some(calls) = calls {
        read.insert("tool_calls".to_owned(), read_calls(calls));
    }
    for name in ["name", "tool_call_id", "reasoning_content"] {
        if let Some(text @ Value::String(_)) = given.get(name) {
            read.insert(name.to_owned(), text.clone());
        }
    }
    Ok(Value::Object(read))
}

fn read_parts(at: usize, parts: &[Value]) -> Result<String, Problem> {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let kind = part.get("type").and_then(Value::as_str);
        match (kind, part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => texts.push(text),
            _ => {
                return problem(
                    format!("messages[{at}].content[{index}]"),
                    format!(
                        "is a part of type {}, allowed is {{\"type\": \"text\", \"text\": …}}: this model reads text only",
                        shown(part.get("type").unwrap_or(&Value::Null))
                    ),
                );
            }
        }
    }
    Ok(texts.join("\n"))
}

/// Clients send a call's arguments as text; templates expect the object.
fn read_calls(calls: &Value) -> Value {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else {
            continue;
        };
        let parsed = arguments
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok());
        if let Some(object @ Value::Object(_)) = parsed {
            *arguments = object;
        }
    }
    calls
}

fn tools(fields: &Fields<'_>) -> Result<Option<Value>, Problem> {
    if fields.find("tool_choice").and_then(Value::as_str) == Some("none") {
        return Ok(None);
    }
    match fields.find("tools") {
        None => Ok(None),
        Some(Value::Array(tools)) if tools.is_empty() => Ok(None),
        Some(tools @ Value::Array(list)) if list.iter().all(Value::is_object) => {
            Ok(Some(tools.clone()))
        }
        Some(other) => problem(
            "tools",
            format!("is {}, allowed is a list of tools", shown(other)),
        ),
    }
}

fn sampling(fields: &Fields<'_>) -> Result<Sampling, Problem> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "all within ±100, where f32 is exact enough"
    )]
    let number = |field: &str, min: f64, max: f64, default: f32| {
        Ok(fields
            .number(field, min, max)?
            .map_or(default, |number| number as f32))
    };
    Ok(Sampling {
        temperature: number("temperature", 0.0, 2.0, 1.0)?,
        top_p: number("top_p", 0.0, 1.0, 1.0)?,
        min_p: number("min_p", 0.0, 1.0, 0.0)?,
        top_k: fields
            .integer("top_k", 0, u64::from(u32::MAX))?
            .and_then(|k| usize::try_from(k).ok())
            .unwrap_or(0),
        frequency_penalty: number("frequency_penalty", -2.0, 2.0, 0.0)?,
        presence_penalty: number("presence_penalty", -2.0, 2.0, 0.0)?,
        bias: bias(fields)?,
        seed: seed(fields)?,
    })
}

fn bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>, Problem> {
    const FIELD: &str = "logit_bias";
    let Some(map) = fields.object(FIELD)? else {
        return Ok(Vec::new());
    };
    if map.len() > BIAS_MAX {
        return problem(
            FIELD,
            format!("has {} entries, allowed is up to {BIAS_MAX}", map.len()),
        );
    }
    map.iter()
        .map(|(token, bias)| match (token.parse(), bias.as_f64()) {
            #[expect(clippy::cast_possible_truncation, reason = "within ±100")]
            (Ok(token), Some(bias)) if (-100.0..=100.0).contains(&bias) => Ok((token, bias as f32)),
            _ => problem(
                format!("{FIELD}[{}]", shown(&Value::from(token.as_str()))),
                format!(
                    "is {}, allowed is a token id with a number from -100 to 100",
                    shown(bias)
                ),
            ),
        })
        .collect()
}

fn seed(fields: &Fields<'_>) -> Result<Option<u64>, Problem> {
    match fields.find("seed") {
        None => Ok(None),
        Some(value) => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => Ok(Some(seed)),
            (None, Some(seed)) => Ok(Some(seed.cast_unsigned())),
            _ => problem(
                "seed",
                format!("is {}, allowed is a 64-bit integer", shown(value)),
            ),
        },
    }
}

fn stops(fields: &Fields<'_>) -> Result<Vec<String>, Problem> {
    let list = match fields.find("stop") {
        None => return Ok(Vec::new()),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return problem(
                "stop",
                format!(
                    "is {}, allowed is a string or a list of strings",
                    shown(other)
                ),
            );
        }
    };
    if list.len() > STOPS_MAX {
        return problem(
            "stop",
            format!("has {} entries, allowed is up to {STOPS_MAX}", list.len()),
        );
    }
    list.iter()
        .enumerate()
        .map(|(at, stop)| match stop.as_str() {
            Some(stop) if !stop.is_empty() && stop.len() <= STOP_BYTES_MAX => Ok(stop.to_owned()),
            _ => problem(
                format!("stop[{at}]"),
                format!(
                    "is {}, allowed is a string of 1 to {STOP_BYTES_MAX} bytes",
                    shown(stop)
                ),
            ),
        })
        .collect()
}

fn tokens_max(fields: &Fields<'_>) -> Result<Option<u32>, Problem> {
    let max = u64::from(u32::MAX);
    let newer = fields.integer("max_completion_tokens", 1, max)?;
    let older = fields.integer("max_tokens", 1, max)?;
    Ok(newer
        .or(older)
        .and_then(|tokens| u32::try_from(tokens).ok()))
}

fn logprobs(fields: &Fields<'_>) -> Result<Option<usize>, Problem> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0, TOP_LOGPROBS_MAX)?;
    match (wanted, top) {
        (true, top) => Ok(Some(
            top.and_then(|top| usize::try_from(top).ok()).unwrap_or(0),
        )),
        (false, None | Some(0)) => Ok(None),
        (false, Some(top)) => problem(
            "top_logprobs",
            format!("is {top}, which needs \"logprobs\": true"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A minimal body with one more field.
    fn with(field: &str, value: Value) -> Result<Request, Problem> {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        Request::read(&body)
    }

    #[test]
    fn what_is_said_to_be_heeded_is_read() {
        for field in PARAMETERS {
            let error = with(field, json!([[1]])).unwrap_err();
            assert!(error.field.starts_with(field), "{field}: {}", error.field);
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name_value_and_range() {
        let cases = [
            (
                "temperature",
                json!(2.5),
                "is 2.5, allowed is a number from 0 to 2",
            ),
            (
                "temperature",
                json!("hot"),
                "is \"hot\", allowed is a number from 0 to 2",
            ),
            (
                "top_p",
                json!(-0.1),
                "is -0.1, allowed is a number from 0 to 1",
            ),
            (
                "max_tokens",
                json!(0),
                "is 0, allowed is an integer from 1 to 4294967295",
            ),
            (
                "max_completion_tokens",
                json!(1.5),
                "is 1.5, allowed is an integer from 1 to 4294967295",
            ),
            (
                "top_logprobs",
                json!(21),
                "is 21, allowed is an integer from 0 to 20",
            ),
            (
                "top_logprobs",
                json!(3),
                "is 3, which needs \"logprobs\": true",
            ),
            ("logprobs", json!(1), "is 1, allowed is true or false"),
            (
                "stop",
                json!(5),
                "is 5, allowed is a string or a list of strings",
            ),
            ("seed", json!("x"), "is \"x\", allowed is a 64-bit integer"),
            (
                "n",
                json!(2),
                "is more than 1: this engine gives one answer per request; send several requests",
            ),
            ("messages", json!([]), "has 0 entries, allowed is 1 to 4096"),
            ("tools", json!("x"), "is \"x\", allowed is a list of tools"),
        ];
        for (field, value, text) in cases {
            let refused = with(field, value).unwrap_err();
            assert_eq!(
                (refused.field.as_str(), refused.problem.as_str()),
                (field, text)
            );
        }
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (field, value) in [
            ("response_format", json!({"type": "json_object"})),
            ("tool_choice", json!("required")),
            ("logit_bias", json!([1])),
        ] {
            assert_eq!(with(field, value).unwrap_err().field, field);
        }
        assert_eq!(with("stop", json!([""])).unwrap_err().field, "stop[0]");
        assert_eq!(
            with("logit_bias", json!({"a": 1})).unwrap_err().field,
            "logit_bias[\"a\"]"
        );
    }

    #[test]
    fn contents_are_strings_or_text_parts() {
        let read = |messages: Value| with("messages", messages);
        let parts = read(
            json!([{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
        );
        assert_eq!(
            parts.unwrap().messages,
            [json!({"role": "system", "content": "a\nb"})]
        );
        let image = read(
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        );
        assert_eq!(image.unwrap_err().field, "messages[0].content[0]");
        let absent = read(json!([{"role": "user"}]));
        assert_eq!(absent.unwrap_err().field, "messages[0].content");
        let role = read(json!([{"role": "wizard", "content": "x"}]));
        assert_eq!(role.unwrap_err().field, "messages[0].role");
    }

    #[test]
    fn arguments_of_calls_become_objects() {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
        let request = with(
            "messages",
            json!([{"role": "assistant", "content": null, "tool_calls": [call]}]),
        )
        .unwrap();
        assert_eq!(
            request.messages[0]["tool_calls"][0]["function"]["arguments"],
            json!({"a": 1})
        );
        assert_eq!(request.messages[0]["content"], "");
    }

    #[test]
    fn unknown_and_null_fields_are_ignored() {
        let request = with("frobnicate", json!(true)).unwrap();
        assert_eq!(request.stops, [""; 0]);
        assert_eq!(
            with("temperature", Value::Null)
                .unwrap()
                .sampling
                .temperature,
            1.0
        );
        assert_eq!(with("stop", json!("x")).unwrap().stops, ["x"]);
        assert_eq!(with("max_tokens", json!(7)).unwrap().tokens_max, Some(7));
        assert_eq!(
            with("seed", json!(-1)).unwrap().sampling.seed,
            Some(u64::MAX)
        );
    }
}
