//! JSON taken apart one level at a time, without a tree.
//!
//! A request may be 16 MiB long and hostile. Its text is checked once in a
//! line ([`check`]), then only those levels are opened that have a rule;
//! everything below stays text and travels on as it came.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects that is accepted anywhere.
pub const MAX_DEPTH: usize = 128;

/// The most fields of an object that has rules.
pub const MAX_FIELDS: usize = 4096;

/// The most elements of an array that has rules.
pub const MAX_ELEMENTS: usize = 65_536;

/// What is wrong with a text as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    #[error("not UTF-8 (byte {at}); send JSON as UTF-8")]
    NotUtf8 { at: usize },
    #[error("nested deeper than {MAX_DEPTH} levels (byte {at})")]
    TooDeep { at: usize },
    #[error("half a surrogate pair (byte {at}); escape both halves, or send the character itself")]
    LoneSurrogate { at: usize },
}

/// Checks what a parser that skips values would let through: the encoding,
/// the depth, and escapes that are no character.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|error| TextError::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1)?,
            b'{' | b'[' if depth == MAX_DEPTH => return Err(TextError::TooDeep { at }),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(text)
}

/// The position of the quote that ends the string which `at` is in, or of the text's end.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, TextError> {
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if bytes[at] == b'"' {
            return Ok(at);
        }
        at += match surrogate(bytes, at) {
            None => 2,
            Some(Half::High) if surrogate(bytes, at + 6) == Some(Half::Low) => 12,
            Some(_) => return Err(TextError::LoneSurrogate { at }),
        };
    }
    Ok(bytes.len())
}

#[derive(PartialEq)]
enum Half {
    High,
    Low,
}

/// Which half of a surrogate pair the escape at `at` is, if it is one.
fn surrogate(bytes: &[u8], at: usize) -> Option<Half> {
    match bytes.get(at..at + 6)? {
        [b'\\', b'u', b'd' | b'D', third, _, _] => match third {
            b'8' | b'9' | b'a' | b'b' | b'A' | b'B' => Some(Half::High),
            b'c'..=b'f' | b'C'..=b'F' => Some(Half::Low),
            _ => None,
        },
        _ => None,
    }
}

/// The fields of an object in order, each name once.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The value of a field; none if it is absent or null.
    pub(crate) fn find(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        (value.get() != "null").then_some(*value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;

        impl<'de> Visitor<'de> for Walk {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some(field) = map.next_entry()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_FIELDS} fields in one object"
                        )));
                    }
                    fields.push(field);
                }
                let mut seen = HashSet::with_capacity(fields.len());
                match fields.iter().find(|(name, _)| !seen.insert(name.as_str())) {
                    Some((name, _)) => Err(A::Error::custom(format_args!(
                        "field {} is there twice",
                        shown(name)
                    ))),
                    None => Ok(Fields(fields)),
                }
            }
        }

        deserializer.deserialize_map(Walk)
    }
}

/// The elements of an array.
#[derive(Debug)]
pub(crate) struct Elements<'a>(pub(crate) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;

        impl<'de> Visitor<'de> for Walk {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if elements.len() == MAX_ELEMENTS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_ELEMENTS} elements in one array"
                        )));
                    }
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }

        deserializer.deserialize_seq(Walk)
    }
}

/// A text as an error message may show it: quoted, and never long.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_pass_and_halves_do_not() {
        for good in [
            r#""\ud83d\ude00""#,
            r#""\\ud83d""#,
            r#""\\\\ud800""#,
            r#""\u00e9""#,
            r#""\"\ud83d\uDE00""#,
        ] {
            assert!(check(good.as_bytes()).is_ok(), "{good} was refused");
        }
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\ud83d""#,
            r#""\ud83dx\ude00""#,
            r#"{"a":"\uDFFF"}"#,
            r#""\\\ud800""#,
        ] {
            assert!(
                matches!(check(bad.as_bytes()), Err(TextError::LoneSurrogate { .. })),
                "{bad} was taken"
            );
        }
    }

    #[test]
    fn brackets_within_strings_are_no_depth() {
        let text = format!("[\"{}\"]", "[".repeat(1000));
        assert!(check(text.as_bytes()).is_ok());
        let deepest = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(check(deepest.as_bytes()).is_ok());
        assert_eq!(
            check("[".repeat(MAX_DEPTH + 1).as_bytes()),
            Err(TextError::TooDeep { at: MAX_DEPTH })
        );
    }

    #[test]
    fn cut_text_is_no_panic() {
        let text = br#"{"a":"\ud83d\ude00"}"#;
        for end in 0..text.len() {
            let _ = check(&text[..end]);
        }
    }
}
