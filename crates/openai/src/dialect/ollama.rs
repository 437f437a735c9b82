//! Ollama's `/api/chat` and `/api/generate`, `/api/embed` and `/api/embeddings`.
//!
//! Streams are lines of JSON, and what is asked for unless `stream` is false.
//! Calls have no ids there: the results that follow belong to them in order,
//! or by `tool_name`. Options that a chat request has no field for are left
//! out, as Ollama leaves out those that a model does not know.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::blocks::{Block, Step};
use super::writing::{Listed, Written, schema_format};
use super::{Dialect, Finish, Opening, Part, Reason, TranslateError, Translated, Translator};
use crate::chat::{BadRequest, ChatRequest};
use crate::object::{Object, is_text, mismatch};
use crate::{EmbeddingsRequest, ErrorBody};

const LINES: &str = "application/x-ndjson";
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];
const EFFORTS: [&str; 3] = ["low", "medium", "high"];
/// Options that a chat request has under the same name.
const OPTIONS: [&str; 7] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
];
/// The tag that Ollama's clients put behind a name without one.
const LATEST: &str = ":latest";

/// What a request is for.
pub enum Asked {
    /// An answer.
    Answer(Box<Translated>),
    /// Nothing: only that the model is loaded, which is not ours to do.
    Load {
        /// The model.
        model: String,
        /// Whether for `/api/chat`.
        chat: bool,
    },
}

/// A request to `/api/chat`.
pub fn chat(body: &Bytes) -> Result<Asked, BadRequest> {
    let request = Object::whole(body)?;
    let given = request.elements("messages")?.unwrap_or_default();
    if given.is_empty() {
        let model = model(&request)?;
        return Ok(Asked::Load { model, chat: true });
    }
    let mut messages = Listed::default();
    let mut calls = Calls::default();
    for (n, message) in given.into_iter().enumerate() {
        let message = Object::open(format!("messages[{n}]"), message)?;
        turn(&message, &mut calls, &mut messages)?;
    }
    let mut written = Written::default();
    written.raw("messages", &messages.finish());
    if let Some(tools) = request.elements("tools")?.filter(|tools| !tools.is_empty()) {
        for (n, tool) in tools.into_iter().enumerate() {
            Object::open(format!("tools[{n}]"), tool)?;
        }
        // They look as in a chat request.
        written.carry(&request, &["tools"]);
    }
    answer(&request, written, true)
}

/// A request to `/api/generate`.
pub fn generate(body: &Bytes) -> Result<Asked, BadRequest> {
    let request = Object::whole(body)?;
    for name in ["suffix", "template"] {
        if request.string(name)?.is_some_and(|text| !text.is_empty()) {
            return Err(request.fault(name, "cannot be translated; leave it out"));
        }
    }
    for name in ["images", "context"] {
        if request.elements(name)?.is_some_and(|list| !list.is_empty()) {
            return Err(request.fault(name, "cannot be translated; leave it out"));
        }
    }
    if request.boolean("raw")? == Some(true) {
        let problem =
            "true cannot be translated, as providers apply the model's template; allowed: false";
        return Err(request.fault("raw", problem));
    }
    request.text("prompt")?;
    let prompt = request
        .find("prompt")
        .filter(|prompt| prompt.get() != "\"\"");
    let Some(prompt) = prompt else {
        let model = model(&request)?;
        return Ok(Asked::Load { model, chat: false });
    };
    let mut messages = Listed::default();
    request.text("system")?;
    if let Some(system) = request
        .find("system")
        .filter(|system| system.get() != "\"\"")
    {
        messages.say("system", system.get().as_bytes());
    }
    messages.say("user", prompt.get().as_bytes());
    let mut written = Written::default();
    written.raw("messages", &messages.finish());
    answer(&request, written, false)
}

/// What a request for embeddings is for.
pub enum Embed {
    /// Vectors.
    Answer(Box<EmbeddingsRequest>),
    /// Nothing: it has no text, and only that the model is loaded is asked.
    Load {
        /// The model.
        model: String,
    },
}

/// A request to `/api/embed`.
pub fn embed(body: &Bytes) -> Result<Embed, BadRequest> {
    embedding(body, "input")
}

/// A request to `/api/embeddings`, which is older and takes one text.
pub fn embeddings(body: &Bytes) -> Result<Embed, BadRequest> {
    let request = Object::whole(body)?;
    request.text("prompt")?;
    embedding(body, "prompt")
}

fn embedding(body: &Bytes, texts: &str) -> Result<Embed, BadRequest> {
    let request = Object::whole(body)?;
    let model = model(&request)?;
    let given = request.find(texts).map(RawValue::get);
    let is_empty = |text: &str| text == "\"\"" || text.trim_matches(['[', ']', ' ']).is_empty();
    let given = given.filter(|text| !is_empty(text));
    let Some(given) = given else {
        return Ok(Embed::Load { model });
    };
    let mut written = Written::default();
    written.text("model", &model);
    written.raw("input", given.as_bytes());
    request.boolean("truncate")?;
    written.carry(&request, &["dimensions", "truncate", "provider"]);
    let asked = EmbeddingsRequest::parse(written.finish())?;
    Ok(Embed::Answer(Box::new(asked)))
}

/// The answer of `/api/embed` to a request without a text.
pub fn no_embeddings(model: &str) -> Value {
    json!({ "model": model, "embeddings": [] })
}

/// The same of `/api/embeddings`.
pub fn no_embedding() -> Value {
    json!({ "embedding": [] })
}

/// The model that `/api/show` is asked for, under its newer and its older name.
pub fn shown(body: &Bytes) -> Result<String, BadRequest> {
    let request = Object::whole(body)?;
    match request.string("name")?.filter(|name| !name.is_empty()) {
        Some(name) if request.find("model").is_none() => Ok(name_of(&name).to_owned()),
        _ => model(&request),
    }
}

/// The body of an error, of the body that clients of OpenAI get.
pub fn error(error: &ErrorBody) -> Vec<u8> {
    let detail = &error.error;
    let body = json!({ "error": detail.message, "code": detail.code });
    body.to_string().into_bytes()
}

/// The answer to a request that only loads a model.
pub fn loaded(model: &str, chat: bool, now: u64) -> Value {
    let mut line =
        json!({ "model": model, "created_at": time(now), "done": true, "done_reason": "load" });
    if chat {
        line["message"] = json!({ "role": "assistant", "content": "" });
    } else {
        line["response"] = "".into();
    }
    line
}

/// The name of a model without the tag that only says that there is none.
fn name_of(model: &str) -> &str {
    model.strip_suffix(LATEST).unwrap_or(model)
}

/// Seconds since 1970 as Ollama writes a time.
pub fn time(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Years begin in March here, so that the odd day is the last one.
    let days = seconds / DAY + 719_468;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let second = seconds % DAY;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

fn model(request: &Object<'_>) -> Result<String, BadRequest> {
    let model = request.string("model")?.filter(|model| !model.is_empty());
    let Some(model) = model else {
        return Err(request.fault("model", "missing; give a name, as /api/tags lists them"));
    };
    Ok(name_of(&model).to_owned())
}

/// What both kinds of request have alike.
fn answer(request: &Object<'_>, mut written: Written, is_chat: bool) -> Result<Asked, BadRequest> {
    written.text("model", &model(request)?);
    let stream = request.boolean("stream")?.unwrap_or(true);
    written.raw("stream", if stream { b"true" } else { b"false" });
    written.carry(request, &["provider", "models", "logprobs", "top_logprobs"]);
    options(request, &mut written)?;
    format(request, &mut written)?;
    let thinking = think(request, &mut written)?;
    let chat = ChatRequest::parse(written.finish())?;
    let translator = Translator::new(Lines {
        is_chat,
        thinking,
        ..Lines::default()
    });
    Ok(Asked::Answer(Box::new(Translated { chat, translator })))
}

fn options(request: &Object<'_>, written: &mut Written) -> Result<(), BadRequest> {
    let Some(options) = request.object("options")? else {
        return Ok(());
    };
    options.number("temperature", 0.0..=2.0)?;
    options.number("top_p", 0.0..=1.0)?;
    options.number("min_p", 0.0..=1.0)?;
    options.number("presence_penalty", -2.0..=2.0)?;
    options.number("frequency_penalty", -2.0..=2.0)?;
    options.integer("top_k", 0..=u64::from(u32::MAX))?;
    options.read::<i64>("seed", "a whole number of 64 bits")?;
    written.carry(&options, &OPTIONS);
    // -1 and -2 say that there is no limit.
    let limit = options.read::<i64>("num_predict", "a whole number")?;
    if let Some(limit) = limit.filter(|limit| *limit > 0) {
        written.raw("max_tokens", limit.to_string().as_bytes());
    }
    match options.find("stop") {
        None => {}
        Some(stop) if stop.get().starts_with('"') => {
            written.carry(&options, &["stop"]);
        }
        Some(_) => {
            let stops = options.elements("stop")?.unwrap_or_default();
            for (n, stop) in stops.iter().enumerate() {
                is_text(&format!("options.stop[{n}]"), stop)?;
            }
            if !stops.is_empty() {
                written.carry(&options, &["stop"]);
            }
        }
    }
    Ok(())
}

fn format(request: &Object<'_>, written: &mut Written) -> Result<(), BadRequest> {
    match request.find("format") {
        None => {}
        Some(text) if text.get() == "\"\"" => {}
        Some(text) if text.get() == "\"json\"" => {
            written.raw("response_format", br#"{"type":"json_object"}"#);
        }
        Some(schema) if schema.get().starts_with('{') => {
            written.raw("response_format", &schema_format("answer", schema, true));
        }
        Some(other) => return Err(mismatch("format", other, "json, or a JSON schema")),
    }
    Ok(())
}

/// Whether thoughts are told: unless the request says false.
fn think(request: &Object<'_>, written: &mut Written) -> Result<bool, BadRequest> {
    match request.find("think").map(RawValue::get) {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => {
            let effort = request.one_of("think", &EFFORTS)?.unwrap_or_default();
            written.text("reasoning_effort", &effort);
            Ok(true)
        }
    }
}

/// Calls that wait for their results.
#[derive(Default)]
struct Calls {
    made: usize,
    waiting: VecDeque<(String, String)>,
}

impl Calls {
    /// The id of the call that a result belongs to.
    fn answered(&mut self, name: Option<&str>) -> Option<String> {
        let named = |(called, _): &(String, String)| Some(called.as_str()) == name;
        let at = self.waiting.iter().position(named).unwrap_or(0);
        self.waiting.remove(at).map(|(_, id)| id)
    }
}

fn turn(message: &Object<'_>, calls: &mut Calls, messages: &mut Listed) -> Result<(), BadRequest> {
    let Some(role) = message.one_of("role", &ROLES)? else {
        return Err(message.fault("role", format!("missing; allowed: {}", ROLES.join(", "))));
    };
    if message
        .elements("images")?
        .is_some_and(|images| !images.is_empty())
    {
        return Err(message.fault("images", "images cannot be translated; allowed: content"));
    }
    message.text("content")?;
    let words = message.find("content").map_or("\"\"", RawValue::get);
    let mut written = Written::default();
    written.text("role", &role).raw("content", words.as_bytes());
    let made = message.elements("tool_calls")?.unwrap_or_default();
    if role == "assistant" && !made.is_empty() {
        let mut told = Listed::default();
        for (n, call) in made.into_iter().enumerate() {
            let call = Object::open(message.path(&format!("tool_calls[{n}]")), call)?;
            told.push(&self::call(&call, calls)?);
        }
        written.raw("tool_calls", &told.finish());
    }
    if role == "tool" {
        let given = message.string("tool_call_id")?;
        let name = message.string("tool_name")?;
        let waiting = calls.answered(name.as_deref());
        let Some(id) = given.or(waiting) else {
            return Err(message.fault(
                "role",
                "tool, without a call before it; allowed: as many as there are calls",
            ));
        };
        written.text("tool_call_id", &id);
    }
    messages.push(&written.finish());
    Ok(())
}

/// A call that the assistant made.
fn call(call: &Object<'_>, calls: &mut Calls) -> Result<Bytes, BadRequest> {
    let Some(function) = call.object("function")? else {
        return Err(call.fault("function", "missing; give name and arguments"));
    };
    let Some(name) = function.string("name")? else {
        return Err(function.fault("name", "missing; give the tool's name"));
    };
    function.object("arguments")?;
    let arguments = function.find("arguments").map_or("{}", RawValue::get);
    let id = call.string("id")?.filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| format!("call_{}", calls.made));
    calls.made += 1;
    calls.waiting.push_back((name.clone(), id.clone()));
    let mut inner = Written::default();
    inner.text("name", &name).text("arguments", arguments);
    let mut written = Written::default();
    written
        .text("id", &id)
        .text("type", "function")
        .raw("function", &inner.finish());
    Ok(written.finish())
}

/// Tells an answer line by line.
#[derive(Default)]
struct Lines {
    is_chat: bool,
    thinking: bool,
    opening: Opening,
    open: Option<Block>,
    /// The arguments of the open call: it is told whole.
    arguments: String,
}

impl Lines {
    fn line(&self, opening: &Opening, done: bool) -> Value {
        json!({ "model": opening.model, "created_at": time(opening.created), "done": done })
    }

    /// Puts words, thoughts and calls where this kind of answer has them.
    fn fill(&self, line: &mut Value, words: String, thoughts: String, calls: Vec<Value>) {
        let into = if self.is_chat {
            line["message"] = json!({ "role": "assistant", "content": words });
            &mut line["message"]
        } else {
            line["response"] = words.into();
            line
        };
        if !thoughts.is_empty() {
            into["thinking"] = thoughts.into();
        }
        if !calls.is_empty() {
            into["tool_calls"] = calls.into();
        }
    }

    fn put(&self, words: String, thoughts: String, calls: Vec<Value>, out: &mut BytesMut) {
        let mut line = self.line(&self.opening, false);
        self.fill(&mut line, words, thoughts, calls);
        put_line(&line, out);
    }

    fn finish(line: &mut Value, finish: &Finish<'_>) {
        const NS_OF_MS: u64 = 1_000_000;
        let ending = finish.ending;
        let nanoseconds = |ms: u64| ms.saturating_mul(NS_OF_MS);
        let reason = match finish.reason {
            Reason::Length => "length",
            Reason::Stop | Reason::Calls | Reason::Filtered => "stop",
        };
        line["done"] = true.into();
        line["done_reason"] = reason.into();
        line["total_duration"] = nanoseconds(ending.duration_ms).into();
        line["load_duration"] = 0.into();
        line["prompt_eval_count"] = finish.usage.prompt_tokens.into();
        line["prompt_eval_duration"] = nanoseconds(ending.ttft_ms).into();
        line["eval_count"] = finish.usage.completion_tokens.into();
        let rest = ending.duration_ms.saturating_sub(ending.ttft_ms);
        line["eval_duration"] = nanoseconds(rest).into();
        line["lethe"] = ending.summary.clone();
    }
}

/// A call, as Ollama tells it.
fn told_call(name: &str, arguments: Value) -> Value {
    json!({ "function": { "name": name, "arguments": arguments } })
}

fn put_line(line: &Value, out: &mut BytesMut) {
    out.put_slice(line.to_string().as_bytes());
    out.put_u8(b'\n');
}

impl Dialect for Lines {
    fn media_type(&self) -> &'static str {
        LINES
    }

    fn begin(&mut self, opening: &Opening, _: &mut BytesMut) {
        self.opening = opening.clone();
    }

    fn step(&mut self, step: Step, out: &mut BytesMut) -> Result<(), TranslateError> {
        match (step, &self.open) {
            (Step::Open(block), _) => self.open = Some(block),
            (Step::More(text), Some(Block::Text)) => self.put(text, String::new(), vec![], out),
            (Step::More(text), Some(Block::Reasoning)) => {
                if self.thinking {
                    self.put(String::new(), text, vec![], out);
                }
            }
            (Step::More(text), Some(Block::Call { .. })) => self.arguments.push_str(&text),
            (Step::Close, _) => {
                let text = std::mem::take(&mut self.arguments);
                if let Some(Block::Call { name, .. }) = self.open.take() {
                    let call = told_call(&name, super::arguments(&name, &text)?);
                    self.put(String::new(), String::new(), vec![call], out);
                }
            }
            (Step::More(_), None) => {}
        }
        Ok(())
    }

    fn end(&mut self, finish: &Finish<'_>, out: &mut BytesMut) {
        let mut line = self.line(&self.opening, true);
        self.fill(&mut line, String::new(), String::new(), vec![]);
        Self::finish(&mut line, finish);
        put_line(&line, out);
    }

    fn fail(&mut self, body: &ErrorBody, out: &mut BytesMut) {
        out.put_slice(&error(body));
        out.put_u8(b'\n');
    }

    /// A line that says nothing: lines have no comments.
    fn quiet(&self, out: &mut BytesMut) {
        self.put(String::new(), String::new(), vec![], out);
    }

    fn whole(
        &mut self,
        opening: &Opening,
        parts: Vec<Part>,
        finish: &Finish<'_>,
    ) -> Result<Value, TranslateError> {
        let (mut words, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
        for part in parts {
            match part.block {
                Block::Text => words.push_str(&part.text),
                Block::Reasoning if self.thinking => thoughts.push_str(&part.text),
                Block::Reasoning => {}
                Block::Call { name, .. } => {
                    let arguments = super::whole_arguments(&name, &part.text, finish)?;
                    calls.extend(arguments.map(|arguments| told_call(&name, arguments)));
                }
            }
        }
        let mut whole = self.line(opening, true);
        self.fill(&mut whole, words, thoughts, calls);
        Self::finish(&mut whole, finish);
        Ok(whole)
    }
}
