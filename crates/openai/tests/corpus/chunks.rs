//! Chunks: what one look at them finds.

use openai::{ChunkFacts, Usage, scan, with_identity};
use proptest::prelude::*;
use serde_json::json;

const NONE: ChunkFacts = ChunkFacts {
    text_bytes: 0,
    finished: false,
    calls: false,
    no_choices: false,
    is_error: false,
    usage: None,
};

fn text(text_bytes: usize) -> ChunkFacts {
    ChunkFacts { text_bytes, ..NONE }
}

fn calls(text_bytes: usize) -> ChunkFacts {
    let calls = true;
    ChunkFacts {
        text_bytes,
        calls,
        ..NONE
    }
}

fn used(prompt_tokens: u32, completion_tokens: u32) -> Option<Usage> {
    Some(Usage {
        prompt_tokens,
        completion_tokens,
    })
}

#[test]
fn every_chunk_is_seen_for_what_it_is() {
    let empty = ChunkFacts {
        no_choices: true,
        ..NONE
    };
    let cases: [(&str, ChunkFacts); 44] = [
        (
            r#"{"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}"#,
            text(5),
        ),
        (
            r#"{"choices":[{"finish_reason":null,"delta":{"content":"Hello"},"index":0}],"id":"x"}"#,
            text(5),
        ),
        (
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            text(0),
        ),
        (r#"{"choices":[{"delta":{"role":"assistant"}}]}"#, text(0)),
        (r#"{"choices":[{"delta":{"content":null}}]}"#, text(0)),
        (r#"{"choices":[{"delta":{}}]}"#, text(0)),
        (r#"{"choices":[{"delta":null}]}"#, text(0)),
        (r#"{"choices":[{}]}"#, text(0)),
        (
            r#"{"choices":[{"delta":{"content":"\n\"\\\u00e9"}}]}"#,
            text(5),
        ),
        (
            r#"{"choices":[{"delta":{"content":"\ud83d\ude00"}}]}"#,
            text(4),
        ),
        (r#"{"choices":[{"delta":{"content":"😀"}}]}"#, text(4)),
        (r#"{"choices":[{"delta":{"c\u006fntent":"ab"}}]}"#, text(2)),
        (
            r#"{"choices":[{"delta":{"reasoning_content":"abc"}}]}"#,
            text(3),
        ),
        (r#"{"choices":[{"delta":{"reasoning":"abc"}}]}"#, text(3)),
        (
            r#"{"choices":[{"delta":{"reasoning":"abc","reasoning_content":"abc"}}]}"#,
            text(3),
        ),
        (
            r#"{"choices":[{"delta":{"reasoning":"abc","content":"de"}}]}"#,
            text(5),
        ),
        (r#"{"choices":[{"delta":{"refusal":"abc"}}]}"#, text(3)),
        (
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"fn","arguments":""}}]}}]}"#,
            calls(2),
        ),
        (
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}},{"index":1,"function":{"arguments":"1}"}}]}}]}"#,
            calls(7),
        ),
        (
            r#"{"choices":[{"delta":{"tool_calls":[{"function":null}]}}]}"#,
            calls(0),
        ),
        (r#"{"choices":[{"delta":{"tool_calls":null}}]}"#, text(0)),
        (r#"{"choices":[{"delta":{"tool_calls":[]}}]}"#, text(0)),
        (
            r#"{"choices":[{"delta":{"function_call":{"name":"f","arguments":"{}"}}}]}"#,
            calls(3),
        ),
        (
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{"a":"xyz"}}}]}}]}"#,
            calls(3),
        ),
        (
            r#"{"choices":[{"delta":{"content":[{"type":"text","text":"ab"},{"type":"thinking","thinking":[{"type":"text","text":"c"}]}]}}]}"#,
            text(3),
        ),
        (r#"{"choices":[{"delta":{"content":7}}]}"#, text(0)),
        (
            r#"{"choices":[{"delta":{"content":"a","unknown":{"deep":["long text"]}}}]}"#,
            text(1),
        ),
        (
            r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"bc"}}]}"#,
            text(3),
        ),
        (
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            ChunkFacts {
                finished: true,
                ..NONE
            },
        ),
        (
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}"#,
            ChunkFacts {
                finished: true,
                ..text(1)
            },
        ),
        (
            r#"{"choices":[{"finish_reason":{"odd":1}}]}"#,
            ChunkFacts {
                finished: true,
                ..NONE
            },
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            ChunkFacts {
                usage: used(3, 4),
                ..empty
            },
        ),
        (
            r#"{"usage":{"completion_tokens":4,"x":{"y":[]},"prompt_tokens":3},"choices":[]}"#,
            ChunkFacts {
                usage: used(3, 4),
                ..empty
            },
        ),
        (
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
            ChunkFacts {
                usage: used(3, 1),
                ..text(1)
            },
        ),
        (r#"{"choices":[],"usage":null}"#, empty),
        (r#"{"choices":[],"usage":{}}"#, empty),
        (r#"{"choices":[],"usage":{"prompt_tokens":3}}"#, empty),
        (r#"{"choices":null}"#, empty),
        (r"{}", empty),
        (r#" { "choices" : [ ] } "#, empty),
        (
            r#"{"error":{"message":"no"}}"#,
            ChunkFacts {
                is_error: true,
                ..empty
            },
        ),
        (
            r#"{"error":"no"}"#,
            ChunkFacts {
                is_error: true,
                ..empty
            },
        ),
        (r#"{"error":null,"choices":[]}"#, empty),
        (
            r#"{"nested":{"choices":[{"delta":{"content":"no"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}}"#,
            empty,
        ),
    ];
    for (chunk, facts) in cases {
        assert_eq!(scan(chunk.as_bytes()).unwrap(), facts, "{chunk}");
    }
}

#[test]
fn what_is_no_chunk_is_refused() {
    let bad: [&str; 30] = [
        "",
        " ",
        "null",
        "[]",
        " [ ]",
        "[DONE]",
        "7",
        "\"x\"",
        "{",
        "{}x",
        "{\"choices\"}",
        r#"{"choices":[}"#,
        r#"{"choices":{}}"#,
        r#"{"choices":"x"}"#,
        r#"{"choices":[1]}"#,
        r#"{"choices":[{"delta":"x"}]}"#,
        r#"{"choices":[{"delta":{"content":"x}]}"#,
        r#"{"choices":[{"delta":{"content":"\ud83d"}}]}"#,
        r#"{"choices":[{"delta":{"content":"\x"}}]}"#,
        "{\"choices\":[{\"delta\":{\"content\":\"a\nb\"}}]}",
        r#"{"choices":[{"delta":{"tool_calls":{}}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[1]}}]}"#,
        r#"{"choices":[],"choices":[]}"#,
        r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
        r#"{"usage":{"prompt_tokens":-1,"completion_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":4294967296,"completion_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":1.5,"completion_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":"1","completion_tokens":1}}"#,
        r#"{"usage":7}"#,
        r#"{"id":NaN}"#,
    ];
    for chunk in bad {
        assert!(scan(chunk.as_bytes()).is_err(), "{chunk:?} was taken");
    }
    for bytes in [
        &b"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}"[..],
        b"\xff",
        b"{\"\xff\":1}",
    ] {
        assert!(scan(bytes).is_err(), "{bytes:?} was taken");
    }
}

#[test]
fn depth_is_no_way_in() {
    for depth in [200, 100_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // Skipped without recursion, or refused; never a stack that overflows.
        let _ = scan(format!("{{\"x\":{deep}}}").as_bytes());
        assert!(
            scan(format!("{{\"choices\":[{{\"delta\":{{\"content\":{deep}}}}}]}}").as_bytes())
                .is_err()
        );
    }
}

proptest! {
    #[test]
    fn text_is_measured_as_it_will_be_read(content in "\\PC*", arguments in "(?s).*", ascii: bool) {
        let chunk = json!({"id": "x", "choices": [{"index": 0, "delta": {
            "content": content, "tool_calls": [{"index": 0, "function": {"arguments": arguments}}],
        }}]}).to_string();
        let chunk = if ascii { escaped(&chunk) } else { chunk };
        prop_assert_eq!(scan(chunk.as_bytes()).unwrap().text_bytes, content.len() + arguments.len());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = scan(&bytes);
        let _ = with_identity(&bytes, "a", "b");
    }

    #[test]
    fn a_new_identity_changes_nothing_else(
        id in "\\PC*", model in "\\PC*", content in "\\PC*", swap: bool, pad in "[ \n]{0,3}",
    ) {
        let names = if swap { r#""model":"y","id":"x""# } else { r#""id":"x","model":"y""# };
        let content = json!(content);
        let chunk = format!(r#"{pad}{{{pad}{names},"choices":[{{"delta":{{"content":{content}}}}}]{pad}}}"#);
        let renamed = with_identity(chunk.as_bytes(), &id, &model).unwrap();
        let renamed: serde_json::Value = serde_json::from_slice(&renamed).unwrap();
        prop_assert_eq!(renamed, json!({"id": id, "model": model, "choices": [{"delta": {"content": content}}]}));
    }
}

/// The same JSON with everything outside ASCII escaped.
fn escaped(json: &str) -> String {
    let mut out = String::new();
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}
