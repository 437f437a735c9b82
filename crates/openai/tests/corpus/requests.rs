//! Chat requests: what is taken, what is refused and in which words.

use bytes::Bytes;
use openai::{BadRequest, ChatRequest, MAX_BODY_BYTES, MAX_DEPTH, MAX_ELEMENTS, MAX_FIELDS};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(text: impl AsRef<[u8]>) -> Result<ChatRequest, BadRequest> {
    ChatRequest::parse(Bytes::copy_from_slice(text.as_ref()))
}

/// A good request with these fields added to it or put in place of its own.
fn with(fields: &str) -> String {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let fields: Value = serde_json::from_str(fields).unwrap();
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    request.to_string()
}

/// A request with one message.
fn message(message: &str) -> String {
    format!(r#"{{"model":"m","messages":[{message}]}}"#)
}

/// The field at fault, and fields that bring the fault in.
const BAD_FIELDS: [(&str, &str); 66] = [
    ("model", r#"{"model":null}"#),
    ("model", r#"{"model":""}"#),
    ("model", r#"{"model":"  "}"#),
    ("model", r#"{"model":7}"#),
    ("model", r#"{"model":["m"]}"#),
    ("messages", r#"{"messages":null}"#),
    ("messages", r#"{"messages":[]}"#),
    ("messages", r#"{"messages":"hi"}"#),
    ("messages", r#"{"messages":{"role":"user"}}"#),
    ("messages[0]", r#"{"messages":["hi"]}"#),
    ("messages[0]", r#"{"messages":[null]}"#),
    ("messages[0].role", r#"{"messages":[{"content":"hi"}]}"#),
    (
        "messages[0].role",
        r#"{"messages":[{"role":"robot","content":"hi"}]}"#,
    ),
    (
        "messages[0].role",
        r#"{"messages":[{"role":1,"content":"hi"}]}"#,
    ),
    (
        "messages[0].role",
        r#"{"messages":[{"role":null,"content":"hi"}]}"#,
    ),
    ("messages[0].content", r#"{"messages":[{"role":"user"}]}"#),
    (
        "messages[0].content",
        r#"{"messages":[{"role":"user","content":null}]}"#,
    ),
    (
        "messages[0].content",
        r#"{"messages":[{"role":"user","content":7}]}"#,
    ),
    (
        "messages[0].content",
        r#"{"messages":[{"role":"user","content":{"text":"hi"}}]}"#,
    ),
    (
        "messages[0].content[0]",
        r#"{"messages":[{"role":"user","content":["hi"]}]}"#,
    ),
    (
        "messages[0].content[0].type",
        r#"{"messages":[{"role":"user","content":[{}]}]}"#,
    ),
    (
        "messages[0].content[0].text",
        r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
    ),
    (
        "messages[0].content[0].text",
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":1}]}]}"#,
    ),
    (
        "messages[0].content[0].image_url",
        r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
    ),
    (
        "messages[0].content[0].input_audio",
        r#"{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":"x"}]}]}"#,
    ),
    (
        "messages[0].name",
        r#"{"messages":[{"role":"user","content":"hi","name":1}]}"#,
    ),
    (
        "messages[0].tool_call_id",
        r#"{"messages":[{"role":"tool","content":"hi","tool_call_id":1}]}"#,
    ),
    (
        "messages[0].tool_calls",
        r#"{"messages":[{"role":"assistant","tool_calls":{}}]}"#,
    ),
    (
        "messages[0].tool_calls[0]",
        r#"{"messages":[{"role":"assistant","tool_calls":[1]}]}"#,
    ),
    (
        "messages[0].tool_calls[0].function.arguments",
        r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":{}}}]}]}"#,
    ),
    (
        "messages[1].role",
        r#"{"messages":[{"role":"user","content":"hi"},{"role":"you","content":"hi"}]}"#,
    ),
    ("stream", r#"{"stream":"true"}"#),
    ("stream", r#"{"stream":1}"#),
    ("stream_options", r#"{"stream_options":true}"#),
    (
        "stream_options.include_usage",
        r#"{"stream_options":{"include_usage":"yes"}}"#,
    ),
    ("temperature", r#"{"temperature":2.1}"#),
    ("temperature", r#"{"temperature":-0.1}"#),
    ("temperature", r#"{"temperature":"1"}"#),
    ("top_p", r#"{"top_p":1.5}"#),
    ("presence_penalty", r#"{"presence_penalty":3}"#),
    ("frequency_penalty", r#"{"frequency_penalty":-3}"#),
    ("n", r#"{"n":2}"#),
    ("n", r#"{"n":0}"#),
    ("n", r#"{"n":1.0}"#),
    ("max_tokens", r#"{"max_tokens":0}"#),
    ("max_tokens", r#"{"max_tokens":-1}"#),
    ("max_tokens", r#"{"max_tokens":1.5}"#),
    ("max_tokens", r#"{"max_tokens":4294967296}"#),
    ("max_tokens", r#"{"max_tokens":"100"}"#),
    ("max_completion_tokens", r#"{"max_completion_tokens":0}"#),
    ("stop", r#"{"stop":1}"#),
    ("stop[1]", r#"{"stop":["a",1]}"#),
    (
        "stop",
        r#"{"stop":["","","","","","","","","","","","","","","","",""]}"#,
    ),
    ("seed", r#"{"seed":1.5}"#),
    ("seed", r#"{"seed":"1"}"#),
    ("logprobs", r#"{"logprobs":5}"#),
    ("top_logprobs", r#"{"top_logprobs":21}"#),
    ("logit_bias", r#"{"logit_bias":[]}"#),
    ("tools", r#"{"tools":{}}"#),
    ("tools[0].type", r#"{"tools":[{"function":{"name":"f"}}]}"#),
    ("tools[0].function", r#"{"tools":[{"type":"function"}]}"#),
    (
        "tools[0].function.name",
        r#"{"tools":[{"type":"function","function":{"name":""}}]}"#,
    ),
    ("tool_choice", r#"{"tool_choice":"always"}"#),
    ("tool_choice", r#"{"tool_choice":true}"#),
    ("response_format", r#"{"response_format":"json"}"#),
    (
        "response_format.json_schema",
        r#"{"response_format":{"type":"json_schema"}}"#,
    ),
];

#[test]
fn every_bad_field_is_named() {
    for (field, fields) in BAD_FIELDS {
        let bad = parse(with(fields)).expect_err(fields);
        assert_eq!(bad.field, field, "of {fields}: {bad}");
        let helps = ["allowed", "needs it", "give ", "missing"];
        assert!(
            helps.iter().any(|word| bad.problem.contains(word)),
            "no help in {bad}"
        );
    }
}

/// Texts that are no request at all.
const BAD_TEXTS: [&[u8]; 38] = [
    b"",
    b" ",
    b"null",
    b"true",
    b"7",
    b"\"hi\"",
    b"[]",
    b"{",
    b"}",
    b"{}{}",
    b"{} x",
    b"{,}",
    b"{\"model\"}",
    b"{\"model\":}",
    b"{\"model\":\"m\",}",
    b"{'model':'m'}",
    b"{model:\"m\"}",
    b"{\"model\":\"m\" \"messages\":[]}",
    b"{\"model\":\"m\",\"model\":\"m\"}",
    b"{\"model\":\"m\",\"mod\\u0065l\":\"n\"}",
    b"{\"x\":NaN}",
    b"{\"x\":Infinity}",
    b"{\"x\":-Infinity}",
    b"{\"x\":01}",
    b"{\"x\":1.}",
    b"{\"x\":.5}",
    b"{\"x\":+1}",
    b"{\"x\":0x10}",
    b"{\"x\":1e}",
    b"{\"x\":undefined}",
    b"{\"x\":\"\\x41\"}",
    b"{\"x\":\"\\u12\"}",
    b"{\"x\":\"\\ud800\"}",
    b"{\"x\":\"a\nb\"}",
    b"{\"x\":\"\xff\"}",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"/* hi */ {}",
];

#[test]
fn what_is_no_json_object_is_refused_as_a_whole() {
    for text in BAD_TEXTS {
        let bad = parse(text).expect_err(&String::from_utf8_lossy(text));
        assert_eq!(
            bad.field,
            BadRequest::BODY,
            "{}: {bad}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn faults_below_a_known_field_are_found_too() {
    for (field, text) in [
        (
            "messages[0]",
            message(r#"{"role":"user","role":"system","content":"hi"}"#),
        ),
        (
            "messages[0].content[0]",
            message(r#"{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}"#),
        ),
    ] {
        let bad = parse(text).unwrap_err();
        assert_eq!(bad.field, field);
        assert!(bad.problem.contains("twice"), "{bad}");
    }
    let lone = parse(message(r#"{"role":"user","content":"\udc00"}"#)).unwrap_err();
    assert!(lone.problem.contains("surrogate"), "{lone}");
}

#[test]
fn bombs_are_refused_fast() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bad =
        parse(with(&format!("{{\"x\":{}}}", deep(100))).replace(&deep(100), &deep(1_000_000)))
            .unwrap_err();
    assert!(bad.problem.contains("deeper"), "{bad}");
    assert!(parse(with(&format!("{{\"x\":{}}}", deep(MAX_DEPTH - 2)))).is_ok());

    let fields: Vec<String> = (0..=MAX_FIELDS).map(|n| format!("\"{n}\":0")).collect();
    let bad = parse(format!("{{{}}}", fields.join(","))).unwrap_err();
    assert!(bad.problem.contains("more than"), "{bad}");

    let messages = vec![r#"{"role":"user","content":""}"#; MAX_ELEMENTS + 1].join(",");
    let bad = parse(message(&messages)).unwrap_err();
    assert_eq!(bad.field, "messages");

    let bad = parse(vec![b' '; MAX_BODY_BYTES + 1]).unwrap_err();
    assert!(bad.problem.contains("at most"), "{bad}");
}

#[test]
fn a_message_never_repeats_a_prompt() {
    let secret = "my secret";
    for text in [
        with(&format!(r#"{{"messages":"{secret}"}}"#)),
        with(&format!(r#"{{"messages":["{secret}"]}}"#)),
        with(&format!(
            r#"{{"messages":[{{"role":"user","content":{{"a":"{secret}"}}}}]}}"#
        )),
        with(&format!(r#"{{"stop":{{"a":"{secret}"}}}}"#)),
    ] {
        let bad = parse(text).unwrap_err();
        assert!(!bad.to_string().contains("secret"), "{bad}");
    }
    let long = "x".repeat(10_000);
    let bad = parse(with(&format!(r#"{{"tool_choice":"{long}"}}"#))).unwrap_err();
    assert!(
        bad.to_string().len() < 300,
        "{} bytes",
        bad.to_string().len()
    );
}

/// Fields that pass, odd as some are.
const GOOD_FIELDS: [&str; 32] = [
    r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[]},{"role":"tool","content":"x","tool_call_id":"c"}]}"#,
    r#"{"messages":[{"role":"assistant","refusal":"no"}]}"#,
    r#"{"messages":[{"role":"developer","content":""}]}"#,
    r#"{"messages":[{"role":"system","content":[]}]}"#,
    r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}]}"#,
    r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"x"}]}]}"#,
    r#"{"messages":[{"role":"user","content":[{"type":"video_of_tomorrow","x":1}]}]}"#,
    r#"{"messages":[{"role":"user","content":"\ud83d\ude00 \u0000"}]}"#,
    r#"{"messages":[{"role":"user","content":"hi","whatever":{"deep":[1]}}]}"#,
    r#"{"stream":null,"stream_options":null,"temperature":null,"n":null,"stop":null,"tools":null}"#,
    r#"{"temperature":0}"#,
    r#"{"temperature":2}"#,
    r#"{"temperature":1e-3}"#,
    r#"{"top_p":1}"#,
    r#"{"n":1}"#,
    r#"{"max_tokens":1}"#,
    r#"{"max_tokens":4294967295}"#,
    r#"{"stop":"a"}"#,
    r#"{"stop":[]}"#,
    r#"{"seed":-9223372036854775808}"#,
    r#"{"logprobs":true,"top_logprobs":20}"#,
    r#"{"logit_bias":{"50256":-100}}"#,
    r#"{"tools":[]}"#,
    r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]}"#,
    r#"{"tools":[{"type":"web_search_preview"}]}"#,
    r#"{"tool_choice":"none"}"#,
    r#"{"tool_choice":{"type":"function","function":{"name":"f"}}}"#,
    r#"{"response_format":{"type":"json_object"}}"#,
    r#"{"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}}}"#,
    r#"{"response_format":{"type":"structural_tag"}}"#,
    r#"{"x":1e999,"y":123456789012345678901234567890}"#,
    r#"{"top_k":-1,"min_p":"whatever","provider":{"order":["a"]}}"#,
];

#[test]
fn what_is_odd_but_allowed_passes() {
    for fields in GOOD_FIELDS {
        // As text: a tree would change what is odd about some.
        let fields = fields.strip_prefix('{').unwrap();
        let messages = if fields.contains("\"messages\"") {
            ""
        } else {
            r#""messages":[{"role":"user","content":"hi"}],"#
        };
        let text = format!(r#"{{"model":"m",{messages}{fields}"#);
        assert_eq!(parse(&text).map(drop), Ok(()), "{text}");
    }
}

#[test]
fn the_questions_are_answered() {
    let request = parse(with(
        r#"{"stream":true,"stream_options":{"include_usage":true},"max_tokens":5}"#,
    ))
    .unwrap();
    assert_eq!(
        (request.model(), request.stream(), request.include_usage()),
        ("m", true, true)
    );
    assert_eq!(request.max_output_tokens(), Some(5));
    let request = parse(with(r#"{"max_tokens":5,"max_completion_tokens":6}"#)).unwrap();
    assert_eq!(
        (
            request.stream(),
            request.include_usage(),
            request.max_output_tokens()
        ),
        (false, false, Some(6))
    );
}

#[test]
fn the_backend_gets_the_same_request_streamed() {
    let text = r#" {"stream":false, "messages":[{"role":"user","content":"\u0041 é"}],"x" : 1e999, "model":"m","stream_options":{"include_usage":false,"y":[1]},"mess\"age":1.0} "#;
    let body = parse(text).unwrap().upstream_body("/models/a \"b\".gguf");
    assert_eq!(
        String::from_utf8(body.to_vec()).unwrap(),
        r#"{"model":"/models/a \"b\".gguf","stream":true,"stream_options":{"include_usage":true,"y":[1]},"messages":[{"role":"user","content":"\u0041 é"}],"x":1e999,"mess\"age":1.0}"#
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(bytes);
    }

    #[test]
    fn a_damaged_request_is_refused_or_safe(at in 0usize..400, byte: u8) {
        let mut text = with(r#"{"tools":[{"type":"function","function":{"name":"f"}}],"stop":["a"],"n":1}"#).into_bytes();
        let place = at % text.len();
        text[place] = byte;
        if let Ok(request) = parse(&text) {
            let body: Value = serde_json::from_slice(&request.upstream_body("up")).unwrap();
            prop_assert_eq!(&body["model"], "up");
            prop_assert_eq!(&body["stream"], true);
        }
    }

    #[test]
    fn all_else_reaches_the_backend_unchanged(extra in prop::collection::btree_map("[a-z]{12,14}", "\\PC*", 0..8)) {
        let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (name, text) in &extra {
            request[name] = json!({ "text": text });
        }
        let body = parse(request.to_string()).unwrap().upstream_body("m");
        let body: Value = serde_json::from_slice(&body).unwrap();
        request["stream"] = true.into();
        request["stream_options"] = json!({"include_usage": true});
        prop_assert_eq!(body, request);
    }
}
