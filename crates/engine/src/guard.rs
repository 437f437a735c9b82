//! Keeping a user's words from steering the model.
//!
//! A chat template is text, and so is what a user writes; once joined, a
//! `<|im_end|>` typed by a user looks like the template's own. So before
//! rendering, every control token spelled out in a request is broken by a
//! *mark*: a code point that is not a character (U+FDD0 to U+FDEF) and that
//! the request does not contain. The tokenizer cannot match a broken
//! spelling, and takes the marks out of what remains.
//!
//! What a text might complete across its border counts too: a text that ends
//! in `<|im_` is broken as well, since the template may go on. What this does
//! not cover is a template that edits a user's text character by character;
//! none of the known ones does.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

/// Code points that Unicode reserves for use inside a program.
const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// Finds the spellings of control tokens in text from outside.
pub(crate) struct Guards {
    controls: Vec<Box<str>>,
    finder: Option<AhoCorasick>,
}

/// The mark chosen for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    mark: char,
}

impl Guards {
    pub(crate) fn new<'a>(controls: impl Iterator<Item = &'a str>) -> Self {
        let controls: Vec<Box<str>> = controls.map(Box::from).collect();
        // The tokenizer has built a larger one from the same texts.
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(controls.iter().map(|text| text.as_bytes()))
            .ok();
        Self { controls, finder }
    }

    /// A mark that occurs nowhere in these values; `None` if they use up all
    /// of them, which no honest request does.
    pub(crate) fn choose<'a>(
        &self,
        values: impl Iterator<Item = &'a Value> + Clone,
    ) -> Option<Guard> {
        MARKS
            .into_iter()
            .find(|&mark| !values.clone().any(|value| holds(value, mark)))
            .map(|mark| Guard { mark })
    }

    /// Breaks the control tokens in every string of a value.
    pub(crate) fn arm(&self, value: &mut Value, guard: Guard) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(armed) = self.arm_text(text, guard) {
                    *text = armed;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.arm(value, guard)),
            Value::Object(fields) => {
                let armed = std::mem::take(fields).into_iter().map(|(key, mut value)| {
                    self.arm(&mut value, guard);
                    (self.arm_text(&key, guard).into_owned(), value)
                });
                *fields = armed.collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn arm_text<'t>(&self, text: &'t str, guard: Guard) -> Cow<'t, str> {
        let breaks = self.breaks(text);
        if breaks.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut armed = String::with_capacity(text.len() + 3 * breaks.len());
        let mut from = 0;
        for at in breaks {
            armed.push_str(&text[from..at]);
            armed.push(guard.mark);
            from = at;
        }
        armed.push_str(&text[from..]);
        Cow::Owned(armed)
    }

    /// Where a mark must go, in order: after the first character of every
    /// spelling found, however they overlap.
    fn breaks(&self, text: &str) -> Vec<usize> {
        let after_first = |at: usize| at + text[at..].chars().next().map_or(0, char::len_utf8);
        let mut breaks = Vec::new();
        let mut from = 0;
        // Searching on from just behind the first character finds overlaps.
        while let Some(found) = self
            .finder
            .as_ref()
            .and_then(|finder| finder.find(&text[from..]))
        {
            let at = after_first(from + found.start());
            breaks.push(at);
            from = at;
        }
        for control in &self.controls {
            for (cut, _) in control.char_indices().skip(1) {
                if text.ends_with(&control[..cut]) {
                    breaks.push(after_first(text.len() - cut));
                }
                if text.starts_with(&control[cut..]) {
                    breaks.push(0);
                }
            }
        }
        breaks.sort_unstable();
        breaks.dedup();
        breaks
    }
}

impl Guard {
    /// The text as the user wrote it.
    pub(crate) fn lift<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.contains(self.mark) {
            Cow::Owned(text.replace(self.mark, ""))
        } else {
            Cow::Borrowed(text)
        }
    }
}

fn holds(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(values) => values.iter().any(|value| holds(value, mark)),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains(mark) || holds(value, mark)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn armed(text: &str) -> String {
        let guards = Guards::new(["<|im_end|>", "<|im_start|>"].into_iter());
        let guard = guards.choose([].iter()).unwrap();
        let mut value = json!({ "content": text });
        guards.arm(&mut value, guard);
        let text = value["content"].as_str().unwrap().to_owned();
        assert!(!text.contains("<|im_end|>") && !text.contains("<|im_start|>"));
        text.replace(guard.mark, "·")
    }

    #[test]
    fn control_tokens_are_broken_and_nothing_else() {
        assert_eq!(armed("plain <b>text</b>"), "plain <b>text</b>");
        assert_eq!(armed("a<|im_end|>b"), "a<·|im_end|>b");
        assert_eq!(armed("<|im_end|><|im_end|>"), "<·|im_end|><·|im_end|>");
    }

    #[test]
    fn what_the_template_could_complete_is_broken_too() {
        assert_eq!(armed("bye <|im_"), "bye <·|im_");
        assert_eq!(armed("im_end|> hi"), "·im_end|> hi");
    }

    #[test]
    fn the_mark_is_one_that_the_request_lacks() {
        let guards = Guards::new(["<s>"].into_iter());
        let taken = json!(["\u{fdd0}", { "\u{fdd1}": 1 }]);
        assert_eq!(
            guards.choose([&taken].into_iter()).unwrap().mark,
            '\u{fdd2}'
        );
        let all: String = MARKS.collect();
        assert!(guards.choose([&json!(all)].into_iter()).is_none());
    }
}
