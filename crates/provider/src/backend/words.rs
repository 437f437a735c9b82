//! What a backend says of a refusal, and how much of it goes where.
//!
//! A server's text may hold its address, a key, or what somebody asked. A
//! consumer gets none of it: only the status and a text of our own. The
//! operator's log gets plain words; whatever could be anything else is left out.

use std::fmt;

/// The longest text of a backend that is logged, in bytes.
const LOGGED_BYTES_MAX: usize = 512;
/// The longest word that is taken for one.
const WORD_CHARS_MAX: usize = 20;
/// The longest number that is taken for a size or a status.
const DIGITS_MAX: usize = 7;
/// What stands for the rest.
const LEFT_OUT: &str = "[…]";

/// A backend's words without what may be a secret, an address or a quotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted(String);

impl Redacted {
    /// Of any text.
    pub fn new(text: &str) -> Self {
        let mut out = String::new();
        let mut quoted_until = None;
        for word in text.split_whitespace() {
            let shown = match quoted_until {
                Some(mark) => {
                    if ends_with(word, mark) {
                        quoted_until = None;
                    }
                    LEFT_OUT
                }
                None => {
                    quoted_until = opened(word);
                    if is_plain(word) { word } else { LEFT_OUT }
                }
            };
            if shown == LEFT_OUT && out.ends_with(LEFT_OUT) {
                continue;
            }
            if out.len() + shown.len() >= LOGGED_BYTES_MAX {
                break;
            }
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(shown);
        }
        Self(out)
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Redacted {}

/// What a consumer is told of a request that a backend does not take. One
/// cause is worth telling apart, for the consumer can do something about it.
pub(super) fn refused(status: u16, words: Option<&str>) -> String {
    let words = words.unwrap_or_default().to_ascii_lowercase();
    let says = |word: &str| words.contains(word);
    if says("context") && ["length", "window", "size"].iter().any(|word| says(word)) {
        return format!(
            "the request does not fit into the model's context (the backend's status {status})"
        );
    }
    format!("the backend refused the request with status {status}")
}

/// The mark that ends a quotation which this word begins and does not end.
fn opened(word: &str) -> Option<char> {
    let begins = word.trim_start_matches(['(', '[', '{', ':', ',']);
    let mark = begins.chars().next()?;
    let end = match mark {
        '"' | '\'' | '`' => mark,
        '“' => '”',
        '‘' => '’',
        '«' => '»',
        // One that begins within the word, as in `field="some text"`.
        _ => {
            let mark = begins.chars().find(|c| matches!(c, '"' | '`'))?;
            let count = begins.chars().filter(|c| *c == mark).count();
            return (count % 2 == 1).then_some(mark);
        }
    };
    let rest = &begins[mark.len_utf8()..];
    (!ends_with(rest, end)).then_some(end)
}

fn ends_with(word: &str, mark: char) -> bool {
    word.contains(mark)
}

/// A word of a language, or a small number.
fn is_plain(word: &str) -> bool {
    let word = word.trim_matches(['.', ',', ';', ':', '!', '?', '(', ')']);
    let digits = word.chars().all(|c| c.is_ascii_digit());
    let letters = word
        .chars()
        .all(|c| c.is_ascii_alphabetic() || matches!(c, '-' | '_'));
    match (digits, letters) {
        (true, _) => word.len() <= DIGITS_MAX,
        (_, true) => word.len() <= WORD_CHARS_MAX && !word.starts_with("sk-"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_words_stay_and_everything_else_goes() {
        for (text, expected) in [
            ("out of memory", "out of memory"),
            (
                "maximum context length is 4096 tokens, you asked for 5000.",
                "maximum context length is 4096 tokens, you asked for 5000.",
            ),
            (
                "Incorrect API key provided: sk-abcDEF.",
                "Incorrect API key provided: […]",
            ),
            ("key sk-abc refused", "key […] refused"),
            (
                "connect to http://10.0.0.7:8000/v1 failed",
                "connect to […] failed",
            ),
            ("host gpu-7.internal.example is down", "host […] is down"),
            ("bad value 'my secret question' here", "bad value […] here"),
            (
                r#"field "content": "what ails me" given"#,
                "field […] given",
            ),
            ("`drop table` (near \"x y\") end", "[…] (near […] end"),
            ("token 0123456789abcdef0123456789abcdef", "token […]"),
            ("", ""),
        ] {
            assert_eq!(Redacted::new(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_consumer_learns_the_status_and_one_cause() {
        let told = refused(
            400,
            Some("This model's maximum context length is 10, key sk-1"),
        );
        assert_eq!(
            told,
            "the request does not fit into the model's context (the backend's status 400)"
        );
        assert_eq!(
            refused(422, Some("key secret at host")),
            "the backend refused the request with status 422"
        );
        assert!(refused(400, None).ends_with("status 400"));
    }

    proptest! {
        #[test]
        fn no_address_and_no_long_word_is_ever_shown(
            words in prop::collection::vec("[ -~]{0,30}", 0..20),
            secret in "[A-Za-z0-9]{21,40}",
        ) {
            let text = format!("{} http://h:1/{secret} {secret}", words.join(" "));
            let shown = Redacted::new(&text).to_string();
            prop_assert!(!shown.contains(&secret) && !shown.contains("://"), "{}", shown);
            prop_assert!(shown.len() <= LOGGED_BYTES_MAX);
        }
    }
}
