//! Cutting text into the pieces that byte-level BPE merges within.
//!
//! Each model family was trained with its own cut, named by
//! `tokenizer.ggml.pre`. The published patterns end in `\s+(?!\S)|\s+`: a run
//! of white space leaves its last character to the word that follows. That
//! look-ahead would need a backtracking engine; here the pattern says `\s+`
//! and [`Splitter::pieces`] gives the last character back, in linear time.

use regex::Regex;

/// `pre` names by the pattern they mean.
const GPT2_NAMES: &[&str] = &[
    "gpt-2", "gpt2", "phi-2", "jina-en", "mpt", "olmo", "jais", "exaone",
];
const LLAMA3_NAMES: &[&str] = &[
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "smaug-bpe",
    "dbrx",
    "lfm2",
];
const QWEN2_NAMES: &[&str] = &["qwen2", "qwen3", "deepseek-r1-qwen", "megrez", "stablelm2"];
const SINGLE_DIGIT_NAMES: &[&str] = &["smollm", "starcoder", "refact", "command-r", "codeshell"];
const GPT4O_NAMES: &[&str] = &["gpt-4o", "llama4"];
const TEKKEN_NAMES: &[&str] = &["tekken"];
const DEFAULT_NAMES: &[&str] = &["default"];

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";

/// A cut, made of passes: each cuts the pieces of the one before.
pub(super) struct Splitter {
    passes: Vec<Pass>,
    /// Llama 3 and its kin take a piece that is a token as that token.
    pub(super) whole_first: bool,
    /// Llama 3 files want a start token even when they do not say so.
    pub(super) bos_by_default: bool,
}

struct Pass {
    regex: Regex,
    /// The pattern ends in `\s+`, which stands for `\s+(?!\S)|\s+`.
    gives_back: bool,
    /// White space up to a line end is a piece of its own before that.
    line_ends_first: bool,
}

impl Splitter {
    /// Every `pre` name that [`Splitter::named`] knows.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        [
            GPT2_NAMES,
            LLAMA3_NAMES,
            QWEN2_NAMES,
            SINGLE_DIGIT_NAMES,
            GPT4O_NAMES,
            TEKKEN_NAMES,
            DEFAULT_NAMES,
        ]
        .into_iter()
        .flatten()
        .copied()
    }

    /// The cut of this name, if it is known.
    pub(super) fn named(pre: &str) -> Option<Self> {
        let patterns: &[&str] = match pre {
            _ if GPT2_NAMES.contains(&pre) => &[GPT2],
            _ if LLAMA3_NAMES.contains(&pre) => &[LLAMA3],
            _ if QWEN2_NAMES.contains(&pre) => &[QWEN2],
            _ if SINGLE_DIGIT_NAMES.contains(&pre) => &[r"\p{N}", GPT2],
            _ if GPT4O_NAMES.contains(&pre) => &[GPT4O],
            _ if TEKKEN_NAMES.contains(&pre) => &[TEKKEN],
            _ if DEFAULT_NAMES.contains(&pre) => {
                &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]
            }
            _ => return None,
        };
        let passes = patterns
            .iter()
            .map(|pattern| Pass {
                regex: Regex::new(pattern).expect("the patterns above are tested to compile"),
                gives_back: pattern.ends_with(r"|\s+"),
                line_ends_first: pattern.contains(r"|\s*[\r\n]+|"),
            })
            .collect();
        let llama3 = LLAMA3_NAMES[..3].contains(&pre) || pre == "falcon3";
        Some(Self {
            passes,
            whole_first: llama3 || TEKKEN_NAMES.contains(&pre),
            bos_by_default: llama3 || TEKKEN_NAMES.contains(&pre),
        })
    }

    /// The pieces of a text, in order and without loss.
    pub(super) fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for pass in &self.passes {
            pieces = pieces.into_iter().fold(Vec::new(), |mut cut, piece| {
                pass.cut(piece, &mut cut);
                cut
            });
        }
        pieces
    }
}

impl Pass {
    fn cut<'a>(&self, text: &'a str, pieces: &mut Vec<&'a str>) {
        let mut at = 0;
        while at < text.len() {
            let Some(found) = self.regex.find_at(text, at) else {
                break;
            };
            if found.start() > at {
                pieces.push(&text[at..found.start()]);
            }
            at = if found.end() < text.len() {
                found.start() + self.kept(found.as_str())
            } else {
                found.end()
            };
            pieces.push(&text[found.start()..at]);
        }
        if at < text.len() {
            pieces.push(&text[at..]);
        }
    }

    /// How much of a match that text follows stays in its piece: all but the
    /// last character of a run of white space.
    fn kept(&self, found: &str) -> usize {
        let mut before = found.chars();
        let Some(last) = before.next_back() else {
            return found.len();
        };
        let own_line = self.line_ends_first && matches!(last, '\r' | '\n');
        let is_run = !before.as_str().is_empty() && found.chars().all(char::is_whitespace);
        if self.gives_back && is_run && !own_line {
            found.len() - last.len_utf8()
        } else {
            found.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'a>(pre: &str, text: &'a str) -> Vec<&'a str> {
        Splitter::named(pre).unwrap().pieces(text)
    }

    #[test]
    fn every_named_cut_compiles_and_loses_nothing() {
        let text = "  Hello's WORLD\t\tfoo\r\n\n  1234567 «é»!!\n 日本 ½ \u{a0}x   ";
        for pre in Splitter::names() {
            assert_eq!(pieces(pre, text).concat(), text, "{pre}");
        }
        assert!(Splitter::named("no-such-cut").is_none());
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_word() {
        let text = "Hello'Ve world 123\n\n  foo";
        assert_eq!(
            pieces("llama-bpe", text),
            ["Hello", "'Ve", " world", " ", "123", "\n\n", " ", " foo"]
        );
        assert_eq!(
            pieces("qwen2", text),
            [
                "Hello", "'Ve", " world", " ", "1", "2", "3", "\n\n", " ", " foo"
            ]
        );
        assert_eq!(
            pieces("gpt-2", "a  b \n c   "),
            ["a", " ", " b", " \n", " c", "   "]
        );
        assert_eq!(pieces("gpt-2", "a \nb"), ["a", " ", "\n", "b"]);
        assert_eq!(pieces("smollm", "in 2024"), ["in", " ", "2", "0", "2", "4"]);
    }
}
