//! Chunks put together: the answer a client without streaming gets.

use openai::{Aggregate, AggregateError, MAX_ANSWER_BYTES, MAX_TOOL_CALLS};
use proptest::prelude::*;
use serde_json::{Value, json};

fn whole(chunks: &[Value]) -> Result<Value, AggregateError> {
    let mut aggregate = Aggregate::new();
    for chunk in chunks {
        aggregate.push(chunk.to_string().as_bytes())?;
    }
    aggregate.finish().map(Value::Object)
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

#[test]
fn an_answer_comes_together() {
    let head = json!({"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "system_fingerprint": "fp"});
    let with_head = |mut chunk: Value| {
        chunk
            .as_object_mut()
            .unwrap()
            .extend(head.as_object().unwrap().clone());
        chunk
    };
    let answer = whole(&[
        with_head(delta(json!({"role": "assistant", "content": ""}))),
        with_head(delta(json!({"reasoning_content": "hm"}))),
        with_head(delta(json!({"content": "Hel"}))),
        with_head(delta(json!({"content": "lo \u{1f600}"}))),
        with_head(
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 2}]}),
        ),
        with_head(
            json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}),
        ),
    ]);
    assert_eq!(
        answer.unwrap(),
        json!({
            "id": "c", "object": "chat.completion", "created": 7, "model": "m", "system_fingerprint": "fp",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "Hello \u{1f600}", "reasoning_content": "hm"},
                "logprobs": null, "finish_reason": "stop", "stop_reason": 2,
            }],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        })
    );
}

#[test]
fn calls_come_together_by_their_number() {
    let call = |call: Value| delta(json!({ "tool_calls": [call] }));
    let answer = whole(&[
        call(json!({"index": 0, "id": "a", "type": "function", "function": {"name": "get", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"x\""}})),
        call(json!({"index": 1, "id": "b", "type": "function", "function": {"name": "put", "arguments": "{}"}})),
        call(json!({"index": 0, "id": "a", "function": {"name": "get", "arguments": ":1}"}})),
        call(json!({"index": 1, "id": "", "function": {"arguments": null}})),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ])
    .unwrap();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(
        message["tool_calls"],
        json!([
            {"id": "a", "type": "function", "function": {"name": "get", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "put", "arguments": "{}"}},
        ])
    );
}

#[test]
fn what_else_there_is_comes_together_too() {
    for (chunks, pointer, expected) in [
        (
            vec![
                delta(json!({"refusal": "n"})),
                delta(json!({"refusal": "o"})),
            ],
            "/choices/0/message/refusal",
            json!("no"),
        ),
        (
            vec![delta(json!({"refusal": "no"}))],
            "/choices/0/message/content",
            Value::Null,
        ),
        (
            vec![delta(json!({"content": null}))],
            "/choices/0/message/content",
            json!(""),
        ),
        (
            vec![delta(json!({}))],
            "/choices/0/message/role",
            json!("assistant"),
        ),
        (
            vec![
                delta(json!({"role": "assistant"})),
                delta(json!({"role": "assistant"})),
            ],
            "/choices/0/message/role",
            json!("assistant"),
        ),
        (
            vec![
                delta(json!({"function_call": {"name": "f", "arguments": "{"}})),
                delta(json!({"function_call": {"arguments": "}"}})),
            ],
            "/choices/0/message/function_call",
            json!({"name": "f", "arguments": "{}"}),
        ),
        (
            vec![
                json!({"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a"}]}}]}),
                json!({"choices": [{"delta": {}, "logprobs": null}]}),
                json!({"choices": [{"delta": {}, "logprobs": {"content": [{"token": "b"}], "refusal": null}}]}),
            ],
            "/choices/0/logprobs/content",
            json!([{"token": "a"}, {"token": "b"}]),
        ),
        (
            vec![
                delta(json!({"annotations": [1]})),
                delta(json!({"annotations": [2]})),
            ],
            "/choices/0/message/annotations",
            json!([1, 2]),
        ),
        (
            vec![
                json!({"choices": [], "usage": {"a": 1}}),
                json!({"choices": [], "usage": null}),
            ],
            "/usage",
            json!({"a": 1}),
        ),
        (
            vec![
                json!({"choices": [], "service_tier": "x"}),
                json!({"choices": [], "service_tier": null}),
            ],
            "/service_tier",
            json!("x"),
        ),
        (
            vec![
                delta(json!({"content": "a"})),
                delta(json!({"tool_calls": [{"function": {"name": "f"}}]})),
            ],
            "/choices/0/message/content",
            json!("a"),
        ),
    ] {
        let answer = whole(&chunks).unwrap();
        assert_eq!(
            answer.pointer(pointer),
            Some(&expected),
            "{pointer} of {answer}"
        );
    }
}

#[test]
fn what_makes_no_answer_is_refused() {
    let call =
        |index: u64| delta(json!({"tool_calls": [{"index": index, "function": {"name": "f"}}]}));
    assert!(matches!(whole(&[]), Err(AggregateError::Empty)));
    assert!(whole(&[call(MAX_TOOL_CALLS as u64 - 1)]).is_ok());
    for index in [MAX_TOOL_CALLS as u64, u64::from(u32::MAX), u64::MAX] {
        assert!(
            matches!(whole(&[call(index)]), Err(AggregateError::ToolCall { index: found }) if found == index)
        );
    }
    assert!(matches!(
        whole(&[json!({"choices": [{"index": 1, "delta": {}}]})]),
        Err(AggregateError::Choice { index: 1 })
    ));
    for bad in [
        "",
        "[]",
        "null",
        "[DONE]",
        "{\"choices\":7}",
        "{\"choices\":[7]}",
        "{",
    ] {
        assert!(
            matches!(
                Aggregate::new().push(bad.as_bytes()),
                Err(AggregateError::Malformed(_))
            ),
            "{bad:?} was taken"
        );
    }
}

#[test]
fn an_answer_without_end_is_refused() {
    let chunk = delta(json!({"content": "x".repeat(4 * 1024 * 1024)})).to_string();
    let mut aggregate = Aggregate::new();
    let mut pushed = 0;
    let refused = loop {
        match aggregate.push(chunk.as_bytes()) {
            Ok(()) => pushed += chunk.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AggregateError::TooLong), "{refused}");
    assert!(pushed <= MAX_ANSWER_BYTES);
}

proptest! {
    #[test]
    fn text_is_the_same_however_it_is_cut(pieces in prop::collection::vec("\\PC{0,8}", 1..20)) {
        let chunks: Vec<Value> = pieces.iter().map(|piece| delta(json!({ "content": piece }))).collect();
        let answer = whole(&chunks).unwrap();
        prop_assert_eq!(&answer["choices"][0]["message"]["content"], &Value::from(pieces.concat()));
    }
}
