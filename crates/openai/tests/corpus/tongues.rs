//! What backends send and what clients ask, bad and odd, the same for every
//! dialect: `streams.json` and `bodies.json`. Whoever adds a dialect adds it to
//! [`TONGUES`] and has all of them tried.
//!
//! A part of an input is a text, bytes that are none, or a text many times.

use bytes::{Bytes, BytesMut};
use openai::dialect::{Translated, Translator, anthropic, completions, responses};
use openai::sse::{self, Decoder};
use openai::{Aggregate, BadRequest, ChatRequest, ErrorBody, ErrorKind, scan, with_identity};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::dialects::{Read, chat, ending, generate, opening};

const STREAMS: &str = include_str!("streams.json");
const BODIES: &str = include_str!("bodies.json");
/// Cases of each kind that there have to be.
const STREAMS_MIN: usize = 120;
const BODIES_MIN: usize = 80;
/// The longest event that a provider reads.
const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Pieces in which a stream comes, in bytes.
const PIECES: [usize; 4] = [1, 7, 4096, usize::MAX];
/// Streams that are longer come in large pieces only.
const CUT_FINELY_MAX: usize = 16 * 1024;
/// What only a whole answer has.
const ENDS: [&str; 6] = [
    "[DONE]",
    "event: message_stop",
    "event: message_delta",
    "event: response.completed",
    r#""done":true"#,
    r#""status":"completed","error":null,"incomplete"#,
];

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Piece {
    Text(String),
    Bytes {
        bytes: Vec<u8>,
    },
    Many {
        of: String,
        times: usize,
        /// A `#` in it is its number.
        #[serde(default)]
        numbered: bool,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Pieces(Vec<Piece>),
}

/// A stream of a backend, and what clients of every dialect read of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    kind: String,
    name: String,
    stream: Vec<Piece>,
    text: Option<Text>,
    #[serde(default)]
    calls: Vec<(String, Value)>,
    /// It is no whole answer; the error says this.
    broken: Option<String>,
}

/// A body, and what becomes of it in every dialect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    kind: String,
    name: String,
    /// `<ask>` stands for the dialect's model and question, `<question>` for the latter.
    body: Vec<Piece>,
    /// The question's JSON, where it is not a greeting.
    question: Option<Vec<Piece>>,
    refused: Option<String>,
    field: Option<String>,
    #[serde(default)]
    taken: bool,
}

fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => all.extend_from_slice(text.as_bytes()),
            Piece::Bytes { bytes } => all.extend_from_slice(bytes),
            Piece::Many {
                of,
                times,
                numbered: false,
            } => all.extend(of.repeat(*times).into_bytes()),
            Piece::Many { of, times, .. } => {
                let numbers = (0..*times).map(|n| of.replace('#', &n.to_string()));
                all.extend(numbers.collect::<String>().into_bytes());
            }
        }
    }
    all
}

/// A dialect: how it asks, and how its client reads.
struct Tongue {
    name: &'static str,
    /// None: the backend's own, which is passed on as it is.
    read: Option<Read>,
    /// What stands before the question, beside the model.
    before: &'static str,
    after: &'static str,
    tells_calls: bool,
    /// The text and the calls of a stream.
    heard: fn(&str) -> Answer,
    /// Those of an answer in one piece.
    whole: fn(&Value) -> Answer,
}

#[derive(Debug, Default, PartialEq)]
struct Answer {
    text: String,
    calls: Vec<(String, Value)>,
}

const TONGUES: [Tongue; 6] = [
    Tongue {
        name: "chat completions",
        read: None,
        before: r#""messages":[{"role":"user","content":"#,
        after: "}]",
        tells_calls: true,
        heard: heard_chat,
        whole: |answer| message(&answer["choices"][0]["message"]),
    },
    Tongue {
        name: "completions",
        read: Some(completions::completion),
        before: r#""prompt":"#,
        after: "",
        tells_calls: false,
        heard: |stream| text(&events(stream), |event| &event["choices"][0]["text"]),
        whole: |answer| text(std::slice::from_ref(answer), |it| &it["choices"][0]["text"]),
    },
    Tongue {
        name: "messages",
        read: Some(anthropic::message),
        before: r#""max_tokens":9,"messages":[{"role":"user","content":"#,
        after: "}]",
        tells_calls: true,
        heard: heard_messages,
        whole: |answer| {
            let mut told = text(list(&answer["content"]), |part| &part["text"]);
            for part in list(&answer["content"]) {
                if part["type"] == "tool_use" {
                    told.calls
                        .push((owned(&part["name"]), part["input"].clone()));
                }
            }
            told
        },
    },
    Tongue {
        name: "responses",
        read: Some(responses::response),
        before: r#""input":"#,
        after: "",
        tells_calls: true,
        heard: |stream| {
            let done = events(stream).into_iter();
            let done = done.filter(|event| event["type"] == "response.output_item.done");
            items(done.map(|event| event["item"].clone()).collect())
        },
        whole: |answer| items(list(&answer["output"]).to_vec()),
    },
    Tongue {
        name: "ollama chat",
        read: Some(chat),
        before: r#""messages":[{"role":"user","content":"#,
        after: "}]",
        tells_calls: true,
        heard: |stream| {
            let lines = lines(stream);
            let mut told = text(&lines, |line| &line["message"]["content"]);
            told.calls = lines.iter().flat_map(ollama_calls).collect();
            told
        },
        whole: |answer| {
            let mut told = text(std::slice::from_ref(answer), |it| &it["message"]["content"]);
            told.calls = ollama_calls(answer);
            told
        },
    },
    Tongue {
        name: "ollama generate",
        read: Some(generate),
        before: r#""prompt":"#,
        after: "",
        tells_calls: false,
        heard: |stream| text(&lines(stream), |line| &line["response"]),
        whole: |answer| text(std::slice::from_ref(answer), |it| &it["response"]),
    },
];

impl Tongue {
    fn question(&self, question: &[u8]) -> Vec<u8> {
        [self.before.as_bytes(), question, self.after.as_bytes()].concat()
    }

    fn body(&self, case: &Body) -> Bytes {
        let question = case.question.as_deref().map(bytes);
        let question = self.question(&question.unwrap_or(br#""hi""#.to_vec()));
        let ask = [br#""model":"m","#.as_slice(), &question].concat();
        let body = replaced(&bytes(&case.body), b"<ask>", &ask);
        replaced(&body, b"<question>", &question).into()
    }

    /// What the market is asked.
    fn asks(&self, body: &Bytes) -> Result<ChatRequest, BadRequest> {
        match self.read {
            None => ChatRequest::parse(body.clone()),
            Some(read) => read(body).map(|translated: Translated| translated.chat),
        }
    }

    fn translator(&self) -> Option<Translator> {
        let question = self.question(br#""hi""#);
        let body = [br#"{"model":"m","#.as_slice(), &question, b"}"].concat();
        let read = self.read?;
        Some(
            read(&body.into())
                .unwrap_or_else(|bad| panic!("{bad}"))
                .translator,
        )
    }

    /// The answer as its client hears it piece by piece; or the error that it hears.
    fn streamed(&self, chunks: &[Bytes], broken: Option<&str>) -> Result<Answer, String> {
        let mut out = BytesMut::new();
        let Some(mut translator) = self.translator() else {
            for chunk in chunks {
                let chunk = with_identity(chunk, "id", "m").unwrap();
                out.extend_from_slice(&sse::encode(&chunk));
            }
            return match broken {
                Some(why) => Err(why.to_owned()),
                None => Ok((self.heard)(std::str::from_utf8(&out).unwrap())),
            };
        };
        translator.begin(opening(), &mut out);
        let told = chunks
            .iter()
            .try_for_each(|chunk| translator.chunk(chunk, &mut out))
            .map_err(|error| openai_error(&error));
        let told = told.and_then(|()| broken.map_or(Ok(()), |why| Err(why.to_owned())));
        let told = told.and_then(|()| {
            let ended = translator.end(&ending(), &mut out);
            ended.map_err(|error| openai_error(&error))
        });
        if let Err(why) = told {
            let error = ErrorBody::new(ErrorKind::Server, "answer_broken", "it broke");
            translator.fail(&error, &mut out);
            let said = String::from_utf8(out.to_vec()).unwrap();
            assert!(said.contains("it broke"), "{}: {said}", self.name);
            for end in ENDS {
                assert!(!said.contains(end), "{}: {end} in {said}", self.name);
            }
            return Err(why);
        }
        Ok((self.heard)(std::str::from_utf8(&out).unwrap()))
    }

    /// The answer in one piece.
    fn put_together(&self, chunks: &[Bytes]) -> Result<Answer, String> {
        let Some(mut translator) = self.translator() else {
            let mut aggregate = Aggregate::new();
            for chunk in chunks {
                let pushed = aggregate.push(chunk);
                pushed.map_err(|error| openai_error(&error))?;
            }
            if chunks.is_empty() {
                return Ok(Answer::default());
            }
            let whole = aggregate.finish().map_err(|error| openai_error(&error))?;
            return Ok((self.whole)(&Value::Object(whole)));
        };
        for chunk in chunks {
            let kept = translator.keep(chunk);
            kept.map_err(|error| openai_error(&error))?;
        }
        let whole = translator.whole(&opening(), &ending());
        whole
            .map(|whole| (self.whole)(&whole))
            .map_err(|error| openai_error(&error))
    }
}

fn openai_error(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn replaced(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn owned(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text(values: &[Value], at: fn(&Value) -> &Value) -> Answer {
    let texts = values.iter().filter_map(|value| at(value).as_str());
    Answer {
        text: texts.collect(),
        calls: Vec::new(),
    }
}

fn lines(stream: &str) -> Vec<Value> {
    let lines = stream.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn events(stream: &str) -> Vec<Value> {
    let mut decoder = Decoder::new();
    decoder.push(stream.as_bytes());
    let mut events = Vec::new();
    while let Some(event) = decoder.next().unwrap() {
        if !event.is_done() {
            events.push(serde_json::from_slice(&event.data).unwrap());
        }
    }
    decoder.finish().unwrap();
    events
}

/// Arguments that are a text, as what they mean.
fn arguments(text: &Value) -> Value {
    match text.as_str() {
        Some("") => json!({}),
        Some(text) => serde_json::from_str(text).unwrap(),
        None => text.clone(),
    }
}

fn call(function: &Value) -> (String, Value) {
    (owned(&function["name"]), arguments(&function["arguments"]))
}

/// A message of a chat: of the text of a list's parts, thoughts left out.
fn message(message: &Value) -> Answer {
    let parts = text(list(&message["content"]), |part| &part["text"]).text;
    let old = Some(&message["function_call"]).filter(|call| call.is_object());
    let calls = list(&message["tool_calls"]).iter();
    let calls = calls.map(|call| &call["function"]).chain(old);
    Answer {
        text: owned(&message["content"]) + &parts + &owned(&message["refusal"]),
        calls: calls.map(call).collect(),
    }
}

fn heard_chat(stream: &str) -> Answer {
    let mut aggregate = Aggregate::new();
    for event in events(stream) {
        if let Err(error) = aggregate.push(event.to_string().as_bytes()) {
            let text = openai_error(&error);
            return Answer {
                text,
                ..Answer::default()
            };
        }
    }
    match aggregate.finish() {
        Ok(whole) => message(&whole["choices"][0]["message"]),
        // A stream of no chunk.
        Err(_) => Answer::default(),
    }
}

fn heard_messages(stream: &str) -> Answer {
    let mut answer = Answer::default();
    let mut input = String::new();
    for event in events(stream) {
        let block = &event["content_block"];
        if block["type"] == "tool_use" {
            answer.calls.push((owned(&block["name"]), json!({})));
            input.clear();
        }
        answer.text += &owned(&event["delta"]["text"]);
        input += &owned(&event["delta"]["partial_json"]);
        if event["type"] == "content_block_stop" && !input.is_empty() {
            answer.calls.last_mut().unwrap().1 = serde_json::from_str(&input).unwrap();
            input.clear();
        }
    }
    answer
}

fn items(items: Vec<Value>) -> Answer {
    let mut answer = Answer::default();
    for item in items {
        match item["type"].as_str().unwrap() {
            "message" => answer.text += &text(list(&item["content"]), |part| &part["text"]).text,
            "function_call" => answer.calls.push(call(&item)),
            _ => {}
        }
    }
    answer
}

fn ollama_calls(line: &Value) -> Vec<(String, Value)> {
    let calls = list(&line["message"]["tool_calls"]).iter();
    calls.map(|it| call(&it["function"])).collect()
}

/// What a provider takes of its backend's stream; and why it is no whole answer.
fn heard(stream: &[u8], piece: usize) -> (Vec<Bytes>, Option<String>) {
    let mut decoder = Decoder::with_limit(EVENT_BYTES_MAX);
    let mut chunks = Vec::new();
    for piece in stream.chunks(piece.min(stream.len()).max(1)) {
        decoder.push(piece);
        loop {
            let event = match decoder.next() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => return (chunks, Some(error.to_string())),
            };
            if event.is_done() {
                return (chunks, None);
            }
            if event.data.trim_ascii().is_empty() {
                continue;
            }
            match scan(&event.data) {
                Ok(facts) if facts.is_error => return (chunks, Some("an error".to_owned())),
                Ok(_) => chunks.push(event.data),
                Err(error) => return (chunks, Some(error.to_string())),
            }
        }
    }
    let why = match decoder.finish() {
        Ok(()) => "the stream ended without [DONE]".to_owned(),
        Err(error) => error.to_string(),
    };
    (chunks, Some(why))
}

fn tried(case: &Stream, expected: &Result<Answer, &str>, wrong: &mut Vec<String>) {
    let stream = bytes(&case.stream);
    let sizes = PIECES
        .iter()
        .filter(|size| stream.len() <= CUT_FINELY_MAX || **size >= 4096);
    for size in sizes {
        let (chunks, broken) = heard(&stream, *size);
        for tongue in &TONGUES {
            let streamed = tongue.streamed(&chunks, broken.as_deref());
            let whole = match &broken {
                Some(why) => Err(why.clone()),
                None => tongue.put_together(&chunks),
            };
            for (way, told) in [("streamed", streamed), ("in one piece", whole)] {
                let is_right = match (&told, expected) {
                    (Ok(told), Ok(expected)) => {
                        told.text == expected.text
                            && (!tongue.tells_calls || told.calls == expected.calls)
                    }
                    (Err(told), Err(expected)) => told.contains(expected),
                    _ => false,
                };
                if !is_right {
                    wrong.push(format!(
                        "{}, {}: {} {way}, {size} bytes a piece: {:.300}",
                        case.kind,
                        case.name,
                        tongue.name,
                        format!("{told:?}")
                    ));
                }
            }
        }
    }
}

#[test]
fn every_stream_of_a_backend_comes_to_the_same_in_every_dialect() {
    let cases: Vec<Stream> = serde_json::from_str(STREAMS).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let text = match &case.text {
            Some(Text::Plain(text)) => text.clone(),
            Some(Text::Pieces(pieces)) => String::from_utf8(bytes(pieces)).unwrap(),
            None => String::new(),
        };
        assert_ne!(case.text.is_some(), case.broken.is_some(), "{}", case.name);
        let calls = case.calls.clone();
        let expected = match &case.broken {
            Some(why) => Err(why.as_str()),
            None => Ok(Answer { text, calls }),
        };
        tried(case, &expected, &mut wrong);
    }
    counted(
        cases.iter().map(|case| (&case.kind, &case.name)),
        STREAMS_MIN,
        "streams",
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_body_is_taken_or_refused_alike_in_every_dialect() {
    let cases: Vec<Body> = serde_json::from_str(BODIES).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        assert_ne!(case.taken, case.refused.is_some(), "{}", case.name);
        for tongue in &TONGUES {
            let asked = tongue.asks(&tongue.body(case));
            let told = match (&asked, &case.refused) {
                (Ok(request), None) => {
                    let body: Result<Map<String, Value>, _> =
                        serde_json::from_slice(&request.upstream_body("up"));
                    // A number can be right and too large for this reader.
                    match body {
                        Err(error) if !error.to_string().contains("out of range") => {
                            format!("sends {error}")
                        }
                        _ => continue,
                    }
                }
                (Err(bad), Some(why)) => {
                    let named = case.field.as_ref().is_none_or(|field| bad.field == *field);
                    let short = bad.to_string().len() < 300;
                    if bad.problem.contains(why) && named && short {
                        continue;
                    }
                    bad.to_string()
                }
                (Ok(_), Some(_)) => "taken".to_owned(),
                (Err(bad), None) => bad.to_string(),
            };
            wrong.push(format!(
                "{}, {}: {}: {told:.300}",
                case.kind, case.name, tongue.name
            ));
        }
    }
    counted(
        cases.iter().map(|case| (&case.kind, &case.name)),
        BODIES_MIN,
        "bodies",
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each case once, and so many at least.
#[expect(clippy::print_stdout, reason = "the count is what is asked for")]
fn counted<'a>(names: impl Iterator<Item = (&'a String, &'a String)>, least: usize, what: &str) {
    let mut names: Vec<_> = names.collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "two {what} have one name");
    assert!(all >= least, "{all} {what}, there have to be {least}");
    println!("{all} {what} in {} dialects", TONGUES.len());
}
