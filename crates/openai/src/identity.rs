//! A chunk under another name.
//!
//! Backends put into a chunk what is theirs alone: their own request id, the
//! path of the model's file. A provider shows the market's names in their
//! place. The two values are cut out and replaced; nothing else is touched.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::ScanError;
use crate::scan::parse_object;

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Names<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    model: Option<&'a RawValue>,
}

/// Unlike an option on its own, this takes `null` for a value that is there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The chunk with this `id` and `model` at its top level, put in if it has none.
pub fn with_identity(json: &[u8], id: &str, model: &str) -> Result<Bytes, ScanError> {
    const ROOM: usize = 32;
    let names: Names<'_> = parse_object(json)?;
    let mut out = BytesMut::with_capacity(json.len() + id.len() + model.len() + ROOM);

    let opened = json.len() - json.trim_ascii_start().len() + 1;
    out.put_slice(&json[..opened]);
    let mut replaced = [None, None];
    let both = [("id", names.id, id), ("model", names.model, model)];
    for (slot, (name, found, value)) in replaced.iter_mut().zip(both) {
        match found {
            Some(found) => *slot = Some((range_in(json, found), value)),
            None => put_missing(&mut out, opened, name, value),
        }
    }
    if out.len() > opened && !json[opened..].trim_ascii_start().starts_with(b"}") {
        out.put_u8(b',');
    }

    replaced.sort_by_key(|place| place.as_ref().map(|(at, _)| at.start));
    let mut copied = opened;
    for (at, value) in replaced.into_iter().flatten() {
        out.put_slice(&json[copied..at.start]);
        put_string(&mut out, value);
        copied = at.end;
    }
    out.put_slice(&json[copied..]);
    Ok(out.freeze())
}

fn put_missing(out: &mut BytesMut, opened: usize, name: &str, value: &str) {
    if out.len() > opened {
        out.put_u8(b',');
    }
    put_string(out, name);
    out.put_u8(b':');
    put_string(out, value);
}

fn put_string(out: &mut BytesMut, text: &str) {
    serde_json::to_writer(out.writer(), text).expect("a string is always JSON, memory takes it");
}

/// Where in `whole` a value stands that was read from it.
fn range_in(whole: &[u8], part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.get().len()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn named(json: &str) -> String {
        let out = with_identity(json.as_bytes(), "chatcmpl-\"1\"", "m/é").unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn both_names_are_replaced_wherever_they_stand() {
        for given in [
            r#"{"id":"x","model":"/models/secret.gguf","choices":[]}"#,
            r#"{"model":"/models/secret.gguf","choices":[],"id":"x"}"#,
            r#" { "choices" : [] , "model" : null , "id" : 7 } "#,
            r#"{"choices":[],"mod\u0065l":{"path":"secret"},"\u0069d":["x"]}"#,
            r#"{"choices":[]}"#,
            r#"{"choices":[],"id":"x"}"#,
            r#"{"model":"secret","choices":[]}"#,
        ] {
            let out: Value = serde_json::from_str(&named(given)).unwrap();
            assert_eq!(
                out,
                json!({"id": "chatcmpl-\"1\"", "model": "m/é", "choices": []}),
                "from {given}"
            );
            assert_eq!(out.as_object().unwrap().len(), 3);
        }
        assert_eq!(named("{}"), r#"{"id":"chatcmpl-\"1\"","model":"m/é"}"#);
        assert_eq!(
            named(" { } "),
            r#" {"id":"chatcmpl-\"1\"","model":"m/é" } "#
        );
    }

    #[test]
    fn deeper_names_stay() {
        let given =
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1"}]}}],"id":"x","model":"y"}"#;
        assert!(named(given).contains("call_1"));
    }

    #[test]
    fn all_else_is_kept_byte_for_byte() {
        let given = r#"{"id":"","created" : 1e0,"model":"","x":"\u0041 é"}"#;
        assert_eq!(
            named(given),
            r#"{"id":"chatcmpl-\"1\"","created" : 1e0,"model":"m/é","x":"\u0041 é"}"#
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            "[]",
            "null",
            "\"id\"",
            "{",
            "{\"id\":1,\"id\":2}",
            "{\"id\":}",
            "{} x",
            "[DONE]",
        ] {
            assert!(
                with_identity(bad.as_bytes(), "a", "b").is_err(),
                "{bad:?} was taken"
            );
        }
    }
}
