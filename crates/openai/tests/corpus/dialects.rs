//! Requests of other dialects as chat requests, and answers as they tell them.

use bytes::{Bytes, BytesMut};
use openai::dialect::{
    Ending, Opening, TranslateError, Translated, Translator, anthropic, completions, ollama,
    responses,
};
use openai::sse::Decoder;
use openai::{BadRequest, ErrorBody, ErrorKind, Usage};
use serde_json::{Value, json};

pub(super) type Read = fn(&Bytes) -> Result<Translated, BadRequest>;

const HI: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

pub(super) fn chat(body: &Bytes) -> Result<Translated, BadRequest> {
    answered(ollama::chat(body)?)
}

pub(super) fn generate(body: &Bytes) -> Result<Translated, BadRequest> {
    answered(ollama::generate(body)?)
}

fn answered(asked: ollama::Asked) -> Result<Translated, BadRequest> {
    match asked {
        ollama::Asked::Answer(translated) => Ok(*translated),
        ollama::Asked::Load { model, .. } => panic!("only {model} is loaded"),
    }
}

fn asked(read: Read, body: &Value) -> Value {
    let translated = read(&Bytes::from(body.to_string()));
    let translated = translated.unwrap_or_else(|bad| panic!("{body}: {bad}"));
    serde_json::from_slice(translated.chat.body()).unwrap()
}

fn refused(read: Read, body: &str) -> (String, String) {
    let bad = read(&Bytes::copy_from_slice(body.as_bytes())).err();
    let bad = bad.unwrap_or_else(|| panic!("{body} was taken"));
    (bad.field, bad.problem)
}

pub(super) fn opening() -> Opening {
    Opening {
        request: "07".into(),
        model: "m".into(),
        created: 1_700_000_000,
        input_estimate: 35,
    }
}

pub(super) fn ending() -> Ending {
    Ending {
        billed: Usage {
            prompt_tokens: 30,
            completion_tokens: 20,
        },
        ttft_ms: 1,
        duration_ms: 3,
        summary: json!({ "cost": "11" }),
    }
}

fn translator(read: Read, body: &str) -> Translator {
    let body = Bytes::copy_from_slice(body.as_bytes());
    read(&body).unwrap_or_else(|bad| panic!("{bad}")).translator
}

fn delta(delta: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
}

/// A thought, words, two calls, and the usage.
fn chunks() -> Vec<String> {
    let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    vec![
        delta(r#"{"role":"assistant","content":""}"#),
        delta(r#"{"reasoning_content":"hm"}"#),
        delta(r#"{"content":"Hel"}"#),
        delta(r#"{"content":"lo"}"#),
        delta(
            r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
        ),
        delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#),
        delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#),
        delta(r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#),
        finish.to_owned(),
        usage.to_owned(),
    ]
}

fn streamed(mut translator: Translator, chunks: &[String]) -> String {
    let mut out = BytesMut::new();
    translator.begin(opening(), &mut out);
    for chunk in chunks {
        translator.chunk(chunk.as_bytes(), &mut out).unwrap();
    }
    translator.end(&ending(), &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

fn whole(mut translator: Translator, chunks: &[String]) -> Value {
    for chunk in chunks {
        translator.keep(chunk.as_bytes()).unwrap();
    }
    translator.whole(&opening(), &ending()).unwrap()
}

/// The events of a stream, each under its own name.
fn events(stream: &str) -> Vec<Value> {
    let mut decoder = Decoder::new();
    decoder.push(stream.as_bytes());
    let mut events = Vec::new();
    while let Some(event) = decoder.next().unwrap() {
        let value: Value = serde_json::from_slice(&event.data).unwrap();
        if let Some(name) = event.name {
            assert_eq!(value["type"].as_str().unwrap().as_bytes(), name);
        }
        events.push(value);
    }
    decoder.finish().unwrap();
    events
}

fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["type"].as_str().unwrap());
    names.collect()
}

fn message(more: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":9,{HI}{more}}}"#)
}

#[test]
fn a_message_becomes_a_chat() {
    let body = json!({
        "model": "m", "max_tokens": 9, "temperature": 0.5, "stream": true,
        "system": [{"type": "text", "text": "s1", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "s2"}],
        "stop_sequences": ["END"], "metadata": {"user_id": "u"}, "provider": {"sort": "price"},
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "a"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1.0}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "b"},
                {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [{"type": "text", "text": "no"}]},
            ]},
        ],
    });
    assert_eq!(
        asked(anthropic::message, &body),
        json!({
            "model": "m", "max_tokens": 9, "temperature": 0.5, "stream": true, "provider": {"sort": "price"},
            "stop": ["END"],
            "messages": [
                {"role": "system", "content": "s1\ns2"},
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "a", "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1.0}"}}
                ]},
                {"role": "tool", "tool_call_id": "t", "content": "error: no"},
                {"role": "user", "content": "b"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
            "tool_choice": "required", "parallel_tool_calls": false,
        })
    );
}

#[test]
fn words_of_the_assistant_at_the_end_begin_the_answer() {
    let body = json!({
        "model": "m", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "He"}],
    });
    let chat = asked(anthropic::message, &body);
    assert_eq!(chat["continue_final_message"], true);
    assert_eq!(chat["add_generation_prompt"], false);
}

#[test]
fn what_cannot_be_translated_is_named() {
    let image = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]}"#;
    let cases: [(Read, String, &str, &str); 14] = [
        (
            anthropic::message,
            image.into(),
            "messages[0].content[0].type",
            "\"image\"",
        ),
        (
            anthropic::message,
            message("").replace(r#""max_tokens":9,"#, ""),
            "max_tokens",
            "missing",
        ),
        (
            anthropic::message,
            message(r#","stop_sequences":[1]"#),
            "stop_sequences[0]",
            "a string",
        ),
        (
            anthropic::message,
            message(r#","temperature":9"#),
            "temperature",
            "0 to 2",
        ),
        (
            anthropic::message,
            message(r#","tools":[{"type":"web_search_20250305","name":"w"}]"#),
            "tools[0].type",
            "web_search",
        ),
        (
            anthropic::message,
            message(r#","system":[{"type":"document"}]"#),
            "system[0].type",
            "document",
        ),
        (
            chat,
            format!(
                r#"{{"model":"m",{}}}"#,
                HI.replace(r#""hi""#, r#""hi","images":["AA"]"#)
            ),
            "messages[0].images",
            "images",
        ),
        (
            chat,
            format!(r#"{{"model":"m","options":{{"temperature":"x"}},{HI}}}"#),
            "options.temperature",
            "a number",
        ),
        (
            generate,
            r#"{"model":"m","prompt":"a","suffix":"b"}"#.into(),
            "suffix",
            "cannot",
        ),
        (
            completions::completion,
            r#"{"model":"m","prompt":["a","b"]}"#.into(),
            "prompt",
            "2 elements",
        ),
        (
            completions::completion,
            r#"{"model":"m","prompt":[[1,2]]}"#.into(),
            "prompt[0]",
            "not tokens",
        ),
        (
            responses::response,
            r#"{"model":"m","input":"a","store":true}"#.into(),
            "store",
            "nothing is stored",
        ),
        (
            responses::response,
            r#"{"model":"m","input":"a","previous_response_id":"r"}"#.into(),
            "previous_response_id",
            "nothing is stored",
        ),
        (
            responses::response,
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_image"}]}]}"#.into(),
            "input[0].content[0].type",
            "input_image",
        ),
    ];
    for (read, body, field, problem) in cases {
        let (found, words) = refused(read, &body);
        assert_eq!(found, field, "{body}");
        assert!(words.contains(problem), "{body}: {words}");
    }
}

#[test]
fn what_is_no_request_is_refused_and_never_a_panic() {
    let reads: [Read; 5] = [
        anthropic::message,
        chat,
        generate,
        completions::completion,
        responses::response,
    ];
    for read in reads {
        for bad in [
            "",
            "[]",
            "null",
            "{",
            r#"{"model":1}"#,
            r#"{"model":"m","messages":{},"input":1,"prompt":1,"max_tokens":1}"#,
            "\u{0}",
        ] {
            if let Ok(translated) =
                std::panic::catch_unwind(|| read(&Bytes::copy_from_slice(bad.as_bytes())))
            {
                assert!(translated.is_err(), "{bad:?} was taken");
            }
        }
    }
}

#[test]
fn a_message_is_told_block_by_block() {
    let stream = streamed(
        translator(
            anthropic::message,
            &message(r#","thinking":{"type":"enabled"}"#),
        ),
        &chunks(),
    );
    let events = events(&stream);
    assert_eq!(
        names(&events),
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events[0]["message"]["id"], "msg_07");
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 35);
    assert_eq!(
        events[3]["delta"],
        json!({"type": "thinking_delta", "thinking": "hm"})
    );
    assert_eq!(
        events[6]["delta"],
        json!({"type": "text_delta", "text": "Hel"})
    );
    assert_eq!(
        events[9]["content_block"],
        json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})
    );
    assert_eq!(events[9]["index"], 2);
    assert_eq!(
        events[10]["delta"],
        json!({"type": "input_json_delta", "partial_json": "{\"x\""})
    );
    assert_eq!(events[13]["index"], 3);
    assert_eq!(
        events[16]["delta"],
        json!({"stop_reason": "tool_use", "stop_sequence": null})
    );
    assert_eq!(
        events[16]["usage"],
        json!({"input_tokens": 3, "output_tokens": 2})
    );
    assert!(stream.contains(": lethe {\"cost\":\"11\"}\n\n"), "{stream}");
}

#[test]
fn a_message_in_one_piece() {
    let whole = whole(translator(anthropic::message, &message("")), &chunks());
    assert_eq!(
        whole["content"],
        json!([
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        ])
    );
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(whole["lethe"]["cost"], "11");
}

#[test]
fn reasons_to_stop_have_their_words() {
    for (finish, word) in [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
    ] {
        let last = format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},"finish_reason":"{finish}"}}]}}"#
        );
        let whole = whole(translator(anthropic::message, &message("")), &[last]);
        assert_eq!(whole["stop_reason"], word);
        // Its backend told no usage: what is billed counts.
        assert_eq!(
            whole["usage"],
            json!({"input_tokens": 30, "output_tokens": 20})
        );
    }
    let stopped =
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"END"}]}"#;
    let whole = whole(
        translator(anthropic::message, &message("")),
        &[stopped.to_owned()],
    );
    assert_eq!(
        (&whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
}

#[test]
fn a_call_that_the_limit_cut_off_is_not_told_as_whole() {
    let cut = [
        delta(
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#,
        ),
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#.to_owned(),
    ];
    let told = whole(translator(anthropic::message, &message("")), &cut);
    assert_eq!(
        (&told["content"], &told["stop_reason"]),
        (&json!([]), &json!("max_tokens"))
    );
    let body = format!(r#"{{"model":"m",{HI}}}"#);
    let lines = streamed(translator(chat, &body), &cut);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains(r#""done_reason":"length""#), "{lines}");
}

#[test]
fn chunks_that_make_no_answer_are_errors() {
    let interleaved = delta(
        r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{"}},{"index":0,"function":{"arguments":"}"}}]}"#,
    );
    let cases = [
        "{",
        "[]",
        "null",
        r#"{"error":{"message":"x"}}"#,
        r#"{"choices":[{"index":1,"delta":{}}]}"#,
        &interleaved,
    ];
    for bad in cases {
        let mut translator = translator(anthropic::message, &message(""));
        let mut out = BytesMut::new();
        translator.begin(opening(), &mut out);
        assert!(
            translator.chunk(bad.as_bytes(), &mut out).is_err(),
            "{bad} was taken"
        );
    }
    let mut translator = translator(chat, &format!(r#"{{"model":"m",{HI}}}"#));
    let mut out = BytesMut::new();
    translator.begin(opening(), &mut out);
    let call = delta(r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"[1]"}}]}"#);
    translator.chunk(call.as_bytes(), &mut out).unwrap();
    assert!(matches!(
        translator.end(&ending(), &mut out),
        Err(TranslateError::Arguments { .. })
    ));
}

#[test]
fn a_broken_stream_never_looks_finished() {
    let error = ErrorBody::new(ErrorKind::Server, "answer_broken", "it broke");
    let reads: [(Read, &str, &str); 5] = [
        (anthropic::message, &message(""), "event: error\n"),
        (
            chat,
            &format!(r#"{{"model":"m",{HI}}}"#),
            r#"{"error":"it broke""#,
        ),
        (
            generate,
            r#"{"model":"m","prompt":"hi"}"#,
            r#"{"error":"it broke""#,
        ),
        (
            completions::completion,
            r#"{"model":"m","prompt":"hi"}"#,
            r#"data: {"error""#,
        ),
        (
            responses::response,
            r#"{"model":"m","input":"hi"}"#,
            "event: response.failed\n",
        ),
    ];
    for (read, body, last) in reads {
        for said in 0..chunks().len() {
            let mut translator = translator(read, body);
            let mut out = BytesMut::new();
            translator.begin(opening(), &mut out);
            for chunk in &chunks()[..said] {
                translator.chunk(chunk.as_bytes(), &mut out).unwrap();
            }
            translator.fail(&error, &mut out);
            let stream = String::from_utf8(out.to_vec()).unwrap();
            assert!(
                stream.contains(last) && stream.contains("it broke"),
                "{stream}"
            );
            for end in [
                "[DONE]",
                "message_stop",
                "message_delta",
                "response.completed",
                r#""done":true"#,
                r#""status":"completed","error":null,"incomplete"#,
            ] {
                assert!(!stream.contains(end), "{end} in {stream}");
            }
        }
    }
}

#[test]
fn a_conversation_of_ollama_becomes_a_chat() {
    let body = json!({
        "model": "m:latest", "format": "json", "think": "low", "keep_alive": "5m",
        "options": {"temperature": 0, "num_predict": 5, "num_ctx": 4096, "stop": ["x"], "seed": 7},
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "g", "arguments": {}}},
            ]},
            {"role": "tool", "content": "2", "tool_name": "g"},
            {"role": "tool", "content": "1"},
        ],
    });
    let chat = asked(chat, &body);
    assert_eq!(chat["model"], "m");
    assert_eq!(chat["stream"], true);
    assert_eq!(chat["max_tokens"], 5);
    assert_eq!(chat["stop"], json!(["x"]));
    assert_eq!(chat["response_format"], json!({"type": "json_object"}));
    assert_eq!(chat["reasoning_effort"], "low");
    assert!(chat.get("num_ctx").is_none(), "{chat}");
    assert_eq!(chat["messages"][1]["tool_calls"][0]["id"], "call_0");
    assert_eq!(
        chat["messages"][1]["tool_calls"][0]["function"]["arguments"],
        "{\"x\":1}"
    );
    assert_eq!(chat["messages"][2]["tool_call_id"], "call_1");
    assert_eq!(chat["messages"][3]["tool_call_id"], "call_0");
}

#[test]
fn ollama_is_told_line_by_line() {
    let body = format!(r#"{{"model":"m",{HI}}}"#);
    let lines = streamed(translator(chat, &body), &chunks());
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[0]["message"]["thinking"], "hm");
    assert_eq!(lines[1]["message"]["content"], "Hel");
    assert_eq!(lines[1]["created_at"], "2023-11-14T22:13:20Z");
    assert_eq!(
        lines[3]["message"]["tool_calls"],
        json!([{"function": {"name": "f", "arguments": {"x": 1}}}])
    );
    assert!(
        lines[..5].iter().all(|line| line["done"] == false),
        "{lines:?}"
    );
    let last = &lines[5];
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("stop"))
    );
    assert_eq!(
        (&last["prompt_eval_count"], &last["eval_count"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(last["total_duration"], 3_000_000);
    assert_eq!(last["lethe"]["cost"], "11");
    let told = whole(
        translator(generate, r#"{"model":"m","prompt":"hi","think":false}"#),
        &chunks()[..4],
    );
    assert_eq!(
        (&told["response"], &told["done"]),
        (&json!("Hello"), &json!(true))
    );
    assert!(told.get("thinking").is_none(), "{told}");
}

#[test]
fn what_only_loads_a_model_asks_nobody() {
    for body in [
        r#"{"model":"m"}"#,
        r#"{"model":"m:latest","messages":[],"prompt":""}"#,
    ] {
        let body = Bytes::from(body);
        for asked in [ollama::chat(&body), ollama::generate(&body)] {
            assert!(matches!(asked, Ok(ollama::Asked::Load { model, .. }) if model == "m"));
        }
    }
    assert_eq!(
        ollama::loaded("m", true, 951_782_400)["created_at"],
        "2000-02-29T00:00:00Z"
    );
}

#[test]
fn a_completion_is_asked_as_one_message_of_the_user() {
    let body = json!({"model": "m", "prompt": ["Say hi"], "max_tokens": 4, "stream": true, "user": "u", "stream_options": {"include_usage": true}});
    let chat = asked(completions::completion, &body);
    assert_eq!(
        chat,
        json!({"model": "m", "max_tokens": 4, "stream": true, "messages": [{"role": "user", "content": "Say hi"}]})
    );
    let stream = streamed(
        translator(completions::completion, &body.to_string()),
        &chunks()[..4],
    );
    let (events_text, done) = stream.split_once(": lethe").unwrap();
    let events = events(events_text);
    let texts: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(texts, "Hello");
    assert_eq!(events[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[3]["usage"]["total_tokens"], 50);
    assert!(done.ends_with("data: [DONE]\n\n"), "{stream}");
}

#[test]
fn a_response_becomes_a_chat() {
    let body = json!({
        "model": "m", "instructions": "s", "max_output_tokens": 9, "store": false, "include": [],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ],
    });
    let chat = asked(responses::response, &body);
    assert_eq!(chat["max_tokens"], 9);
    assert_eq!(chat["reasoning_effort"], "low");
    assert_eq!(chat["response_format"]["json_schema"]["name"], "n");
    assert_eq!(
        chat["tool_choice"],
        json!({"type": "function", "function": {"name": "f"}})
    );
    assert_eq!(
        chat["messages"][0],
        json!({"role": "system", "content": "s"})
    );
    assert_eq!(
        chat["messages"][2]["tool_calls"].as_array().unwrap().len(),
        2
    );
    assert_eq!(
        chat["messages"][3],
        json!({"role": "tool", "tool_call_id": "c", "content": "1"})
    );
}

#[test]
fn a_response_is_told_item_by_item() {
    let body = r#"{"model":"m","input":"hi","metadata":{"k":"v"}}"#;
    let stream = streamed(translator(responses::response, body), &chunks());
    let events = events(&stream);
    assert_eq!(
        names(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let last = &events[18]["response"];
    let told = whole(translator(responses::response, body), &chunks());
    assert_eq!(last["output"], told["output"]);
    assert_eq!(last["output"][0]["content"][0]["text"], "Hello");
    assert_eq!(last["output"][1]["arguments"], "{\"x\":1}");
    assert_eq!(last["usage"]["total_tokens"], 5);
    assert_eq!(
        (&last["store"], &last["metadata"]["k"]),
        (&json!(false), &json!("v"))
    );
}

#[test]
fn errors_have_anthropics_statuses() {
    let body = ErrorBody::new(ErrorKind::Server, "c", "m");
    for (given, status, kind) in [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (404, 404, "not_found_error"),
        (412, 400, "invalid_request_error"),
        (413, 413, "request_too_large"),
        (502, 500, "api_error"),
        (503, 529, "overloaded_error"),
    ] {
        let (found, text) = anthropic::error(given, &body);
        let text: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((found, &text["error"]["type"]), (status, &json!(kind)));
        assert_eq!(
            (&text["type"], &text["error"]["message"]),
            (&json!("error"), &json!("m"))
        );
    }
}
