//! Requests for embeddings: what is taken, what is refused and in which words.

use bytes::Bytes;
use openai::dialect::ollama::{self, Embed};
use openai::embeddings::{Answered, MAX_DIMENSIONS, MAX_INPUTS, Rows};
use openai::{BadRequest, EmbeddingsRequest};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(text: impl AsRef<[u8]>) -> Result<EmbeddingsRequest, BadRequest> {
    EmbeddingsRequest::parse(Bytes::copy_from_slice(text.as_ref()))
}

/// A good request with these fields added to it or put in place of its own.
fn with(fields: &str) -> String {
    let mut request = json!({"model": "m", "input": ["hi"]});
    let fields: Value = serde_json::from_str(fields).unwrap();
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    request.to_string()
}

/// The field at fault, and fields that bring the fault in.
const BAD_FIELDS: [(&str, &str); 26] = [
    ("model", r#"{"model":null}"#),
    ("model", r#"{"model":""}"#),
    ("model", r#"{"model":7}"#),
    ("input", r#"{"input":null}"#),
    ("input", r#"{"input":""}"#),
    ("input", r#"{"input":7}"#),
    ("input", r#"{"input":true}"#),
    ("input", r#"{"input":{"text":"hi"}}"#),
    ("input", r#"{"input":[]}"#),
    ("input", r#"{"input":[1,2,3]}"#),
    ("input", r#"{"input":[[1,2],[3]]}"#),
    ("input[0]", r#"{"input":[""]}"#),
    ("input[1]", r#"{"input":["a",""]}"#),
    ("input[1]", r#"{"input":["a",null]}"#),
    ("input[1]", r#"{"input":["a",7]}"#),
    ("input[0]", r#"{"input":[["a"]]}"#),
    ("input[0]", r#"{"input":[{"text":"a"}]}"#),
    ("input[0]", r#"{"input":[null]}"#),
    ("encoding_format", r#"{"encoding_format":"int8"}"#),
    ("encoding_format", r#"{"encoding_format":["float"]}"#),
    ("dimensions", r#"{"dimensions":0}"#),
    ("dimensions", r#"{"dimensions":-1}"#),
    ("dimensions", r#"{"dimensions":1.5}"#),
    ("dimensions", r#"{"dimensions":"8"}"#),
    ("user", r#"{"user":7}"#),
    ("models", r#"{"models":["a","b"]}"#),
];

#[test]
fn what_is_wrong_is_named() {
    for (field, fields) in BAD_FIELDS {
        let bad = parse(with(fields)).unwrap_err();
        assert_eq!(bad.field, field, "{fields}: {bad}");
        assert!(!bad.problem.is_empty());
    }
    let many = vec!["a"; MAX_INPUTS + 1];
    let bad = parse(with(&json!({ "input": many }).to_string())).unwrap_err();
    assert!(bad.problem.contains("2049 texts; at most 2048"), "{bad}");
    let wide = json!({ "dimensions": MAX_DIMENSIONS + 1 }).to_string();
    assert_eq!(parse(with(&wide)).unwrap_err().field, "dimensions");
    let tokens = parse(with(r#"{"input":[[1,2],[3]]}"#)).unwrap_err();
    assert!(
        tokens.problem.contains("check_embedding_ctx_length=False"),
        "{tokens}"
    );
    for text in ["", "[]", "\"a\"", "{", "null", "\u{feff}{}"] {
        assert_eq!(parse(text).unwrap_err().field, BadRequest::BODY, "{text:?}");
    }
}

#[test]
fn what_is_usual_is_taken() {
    for fields in [
        r#"{"input":"hi"}"#,
        r#"{"input":["a","é","\ud83d\ude00"," "]}"#,
        r#"{"input":["[1,2]","7"]}"#,
        r#"{"encoding_format":"float"}"#,
        r#"{"encoding_format":null,"dimensions":null,"user":null,"models":null}"#,
        r#"{"dimensions":16384,"user":"u","input_type":"query"}"#,
    ] {
        let request = parse(with(fields)).unwrap();
        let body = request.upstream_body("up");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["model"], "up");
        assert_eq!(body["input"].as_array().unwrap().len(), request.inputs());
        assert_eq!(request.texts().unwrap().len(), request.inputs());
    }
}

#[test]
fn ollamas_requests_are_the_same_by_other_names() {
    let read = |text: &str, old: bool| {
        let body = Bytes::copy_from_slice(text.as_bytes());
        match old {
            true => ollama::embeddings(&body),
            false => ollama::embed(&body),
        }
    };
    for (text, old) in [
        (
            r#"{"model":"m:latest","input":"a","truncate":true,"keep_alive":"5m","options":{}}"#,
            false,
        ),
        (r#"{"model":"m","input":["a"],"dimensions":4}"#, false),
        (r#"{"model":"m","prompt":"a","keep_alive":0}"#, true),
    ] {
        let Ok(Embed::Answer(asked)) = read(text, old) else {
            panic!("{text}");
        };
        assert_eq!((asked.model(), asked.inputs()), ("m", 1));
        assert_eq!(asked.texts().unwrap(), ["a"]);
        assert!(asked.field("keep_alive").is_none() && asked.field("options").is_none());
    }
    for (text, old) in [
        (r#"{"model":"m"}"#, false),
        (r#"{"model":"m","input":[]}"#, false),
        (r#"{"model":"m","input":""}"#, false),
        (r#"{"model":"m","prompt":""}"#, true),
    ] {
        assert!(matches!(read(text, old), Ok(Embed::Load { .. })), "{text}");
    }
    for (text, old) in [
        (r#"{"input":"a"}"#, false),
        (r#"{"model":"m","input":[1]}"#, false),
        (r#"{"model":"m","prompt":["a"]}"#, true),
        (r#"{"model":"m","input":"a","truncate":"yes"}"#, false),
        ("[]", true),
    ] {
        assert!(read(text, old).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let _ = Answered::read(&bytes, 1);
        let request = parse(with("{}")).unwrap();
        let _ = Rows::of(&request).take(&bytes);
    }

    #[test]
    fn a_damaged_request_is_refused_or_safe(at in 0usize..400, byte: u8) {
        let mut text = with(r#"{"input":["a","\u00e9"],"dimensions":8,"encoding_format":"base64"}"#).into_bytes();
        let place = at % text.len();
        text[place] = byte;
        if let Ok(request) = parse(&text) {
            let body: Value = serde_json::from_slice(&request.upstream_body("up")).unwrap();
            prop_assert_eq!(&body["model"], "up");
            prop_assert!(body["input"].is_array());
            prop_assert!(request.texts().is_ok());
        }
    }

    #[test]
    fn the_rest_of_a_request_is_the_request_of_the_rest(texts in prop::collection::vec("\\PC{1,9}", 1..9), came in 0usize..10) {
        let whole = parse(json!({"model": "m", "input": texts, "x": 1}).to_string()).unwrap();
        match whole.rest(came) {
            None => prop_assert!(came >= texts.len()),
            Some(rest) => {
                prop_assert_eq!(rest.texts().unwrap(), &texts[came..]);
                prop_assert_eq!(rest.upstream_body("u"), parse(rest.body()).unwrap().upstream_body("u"));
            }
        }
    }
}
