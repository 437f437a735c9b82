//! From token bytes to the text a reader gets, piece by piece.
//!
//! A token may end in the middle of a character, and a stop text may begin in
//! one token and end three later. [`TextStream`] holds back what is not yet
//! certain: bytes that are not a whole character, and text that may turn out
//! to be the beginning of a stop.

/// Bytes of tokens in, text out; never invalid UTF-8, never past a stop.
pub(crate) struct TextStream {
    stops: Vec<String>,
    /// Not yet a whole character: at most 3 bytes between calls.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop.
    held: String,
}

/// What a token added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Text that is certain; may be empty.
    Text(String),
    /// The text before a stop; nothing comes after it.
    Stopped(String),
}

impl TextStream {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            bytes: Vec::new(),
            held: String::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Progress {
        self.bytes.extend_from_slice(bytes);
        let searched_from = self.held.len();
        take_characters(&mut self.bytes, &mut self.held);
        if self.stops.is_empty() {
            return Progress::Text(std::mem::take(&mut self.held));
        }
        if self.held.len() == searched_from {
            return Progress::Text(String::new());
        }
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            self.held.truncate(at);
            return Progress::Stopped(std::mem::take(&mut self.held));
        }
        let certain = self.held.len() - self.longest_beginning();
        let kept = self.held.split_off(certain);
        Progress::Text(std::mem::replace(&mut self.held, kept))
    }

    /// What is left when the answer ends without a stop text.
    pub(crate) fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        if !self.bytes.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.bytes.clear();
        }
        text
    }

    /// Length of the longest end of the held text that a stop begins with.
    fn longest_beginning(&self) -> usize {
        let begins = |stop: &String| {
            (1..stop.len())
                .rev()
                .filter(|&length| stop.is_char_boundary(length))
                .find(|&length| self.held.ends_with(&stop[..length]))
        };
        self.stops.iter().filter_map(begins).max().unwrap_or(0)
    }
}

/// Moves whole characters from `bytes` to `text`; what can never become one
/// turns into U+FFFD, what still can stays.
fn take_characters(bytes: &mut Vec<u8>, text: &mut String) {
    let mut rest = bytes.as_slice();
    loop {
        match core::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                text.push_str(core::str::from_utf8(valid).unwrap_or_default());
                rest = bad;
                match error.error_len() {
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[length..];
                    }
                    None => break,
                }
            }
        }
    }
    let taken = bytes.len() - rest.len();
    bytes.drain(..taken);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text that comes out, and whether a stop ended it.
    fn stream(tokens: &[&[u8]], stops: &[&str]) -> (Vec<String>, bool) {
        let mut stream = TextStream::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut pieces = Vec::new();
        for token in tokens {
            match stream.push(token) {
                Progress::Text(text) => pieces.push(text),
                Progress::Stopped(text) => {
                    pieces.push(text);
                    return (pieces, true);
                }
            }
        }
        pieces.push(stream.finish());
        (pieces, false)
    }

    #[test]
    fn a_character_cut_by_tokens_waits_for_its_end() {
        let (pieces, _) = stream(&[b"a\xf0\x9f", b"\x98", b"\x80b"], &[]);
        assert_eq!(pieces, ["a", "", "\u{1f600}b", ""]);
        let (pieces, _) = stream(&[b"\xff\xc3", b"x", b"\xe2\x82"], &[]);
        assert_eq!(pieces, ["\u{fffd}", "\u{fffd}x", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_across_tokens_is_found_and_not_delivered() {
        let (pieces, stopped) = stream(&[b"one E", b"N", b"D two"], &["END"]);
        assert!(stopped);
        assert_eq!(pieces, ["one ", "", ""]);
    }

    #[test]
    fn what_only_looked_like_a_stop_is_delivered() {
        let (pieces, stopped) = stream(&[b"E", b"N", b"E", b"x"], &["END", "Ex!"]);
        assert!(!stopped);
        assert_eq!(pieces, ["", "", "EN", "", "Ex"]);
    }

    #[test]
    fn the_earliest_stop_counts() {
        let (pieces, stopped) = stream(&[b"abcd"], &["cd", "b"]);
        assert!(stopped);
        assert_eq!(pieces, ["a"]);
    }

    proptest! {
        #[test]
        fn cutting_text_anywhere_changes_nothing(text in "[ab€😀]{0,12}", cuts in prop::collection::vec(0usize..40, 0..6), stop in "[ab€]{1,3}") {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let tokens: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let (pieces, stopped) = stream(&tokens, &[&stop]);
            let expected = text.find(&stop).map_or(text.as_str(), |at| &text[..at]);
            prop_assert_eq!(pieces.concat(), expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
