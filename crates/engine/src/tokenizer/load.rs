//! Building a tokenizer from a file's metadata.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use super::split::Splitter;
use super::{Family, Kind, Tokenizer};
use crate::gguf::{Contents, Value};

/// SentencePiece writes a space as this.
pub(super) const SPACE: char = '\u{2581}';

/// More tokens than any model has; bounds what a crafted file can cost.
const VOCABULARY_MAX: usize = 1 << 21;

/// Texts of control tokens that end an answer, whatever the file names as its end.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|return|>",
    "<EOT>",
    "</s>",
    "<eos>",
];

/// Why a file's tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A key that every chat model has is not there, or is of another type.
    #[error("metadata key {key:?} is {found}, expected {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// What is there.
        found: &'static str,
        /// What should be.
        expected: &'static str,
    },
    /// A tokenizer of another family.
    #[error(
        "tokenizer {model:?} is not supported; supported are \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece)"
    )]
    Model {
        /// What the file names.
        model: String,
    },
    /// A way of cutting text that this engine does not know.
    #[error("pre-tokenizer {pre:?} is not supported; supported are {supported}")]
    Pre {
        /// What the file names.
        pre: String,
        /// What it could name.
        supported: String,
    },
    /// An array whose length does not fit the vocabulary.
    #[error("metadata key {key:?} has {found} entries, the vocabulary has {expected}")]
    Length {
        /// The key.
        key: &'static str,
        /// How many it has.
        found: usize,
        /// How many it needs.
        expected: usize,
    },
    /// A token id that is not in the vocabulary.
    #[error("metadata key {key:?} is token {id}, the vocabulary ends at {size}")]
    Id {
        /// The key.
        key: &'static str,
        /// The id.
        id: u64,
        /// Size of the vocabulary.
        size: usize,
    },
    /// A vocabulary of impossible size.
    #[error("the vocabulary has {size} tokens, allowed is 1 to {VOCABULARY_MAX}")]
    Size {
        /// Its size.
        size: usize,
    },
    /// A score that is not a number.
    #[error("the score of token {id} is not a number")]
    Score {
        /// The token.
        id: usize,
    },
    /// The texts of the special tokens are too many or too long to match.
    #[error("the special tokens cannot be matched")]
    Specials {
        /// Why.
        #[source]
        source: aho_corasick::BuildError,
    },
}

impl Tokenizer {
    /// `architecture` decides one habit: phi-3's control tokens swallow the
    /// white space after them, which the file has no key for.
    pub(crate) fn load(
        contents: &Contents<'_>,
        architecture: &str,
    ) -> Result<Self, TokenizerError> {
        let texts = texts(contents, "tokenizer.ggml.tokens")?;
        let size = texts.len();
        if size == 0 || size > VOCABULARY_MAX {
            return Err(TokenizerError::Size { size });
        }
        let mut kinds = kinds(contents, size)?;
        let model = text(contents, "tokenizer.ggml.model")?;
        let scored = match model {
            "gpt2" => false,
            "llama" => true,
            other => {
                return Err(TokenizerError::Model {
                    model: other.to_owned(),
                });
            }
        };

        let ids: HashMap<Box<str>, u32> = (0u32..)
            .zip(texts)
            .map(|(id, &text)| (Box::from(text), id))
            .collect();
        let bos = id(contents, "tokenizer.ggml.bos_token_id", size)?;
        let eos = id(contents, "tokenizer.ggml.eos_token_id", size)?;
        let unknown = id(contents, "tokenizer.ggml.unknown_token_id", size)?;
        let ends = end_ids(contents, &ids, &mut kinds, eos)?;

        let (family, bos_by_default) = if scored {
            (scored_family(contents, size, architecture)?, true)
        } else {
            byte_family(contents, &ids)?
        };
        let add_bos = contents
            .metadata
            .get("tokenizer.ggml.add_bos_token")
            .and_then(Value::as_bool)
            .unwrap_or(bos_by_default);

        let bytes: Vec<Box<[u8]>> = texts
            .iter()
            .zip(&kinds)
            .map(|(text, kind)| shown(text, *kind, scored))
            .collect();
        let (specials, special_ids) = specials(texts, &kinds)?;
        Ok(Self {
            byte_ids: byte_ids(&ids, scored),
            family,
            bytes,
            kinds,
            ids,
            specials,
            special_ids,
            bos,
            add_bos,
            eos,
            unknown,
            ends,
        })
    }
}

/// The letter that byte-level BPE writes for a byte: itself where that is
/// visible, else one from beyond Latin-1, in order.
fn letter(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=0x20 => char::from_u32(0x100 + u32::from(byte)).unwrap_or(SPACE),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte) - 0x7f).unwrap_or(SPACE),
        0xad => '\u{143}',
    }
}

/// The byte that a letter stands for.
fn unletter(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Bytes as a byte-level vocabulary spells them.
pub(super) fn spell_bytes(bytes: &[u8]) -> String {
    bytes.iter().copied().map(letter).collect()
}

/// What a reader sees of a token.
fn shown(text: &str, kind: Kind, scored: bool) -> Box<[u8]> {
    if kind == Kind::Byte
        && let Some(byte) = text
            .strip_prefix("<0x")
            .and_then(|rest| rest.strip_suffix('>'))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
    {
        return Box::from([byte]);
    }
    if kind == Kind::Control || kind == Kind::Unknown {
        return Box::from(text.as_bytes());
    }
    if scored {
        return text.replace(SPACE, " ").into_bytes().into();
    }
    // Added tokens are spelled as they are; some are not in the byte alphabet.
    if kind == Kind::Fixed {
        return Box::from(text.as_bytes());
    }
    text.chars()
        .map(unletter)
        .collect::<Option<Vec<u8>>>()
        .map_or_else(|| Box::from(text.as_bytes()), Vec::into_boxed_slice)
}

fn byte_ids(ids: &HashMap<Box<str>, u32>, scored: bool) -> [Option<u32>; 256] {
    let mut found = [None; 256];
    for byte in 0..=u8::MAX {
        let spelled = if scored {
            format!("<0x{byte:02X}>")
        } else {
            letter(byte).to_string()
        };
        found[usize::from(byte)] = ids.get(spelled.as_str()).copied();
    }
    found
}

fn byte_family(
    contents: &Contents<'_>,
    ids: &HashMap<Box<str>, u32>,
) -> Result<(Family, bool), TokenizerError> {
    let pre = match contents.metadata.get("tokenizer.ggml.pre") {
        None => "default",
        Some(_) => text(contents, "tokenizer.ggml.pre")?,
    };
    let splitter = Splitter::named(pre).ok_or_else(|| TokenizerError::Pre {
        pre: pre.to_owned(),
        supported: Splitter::names().collect::<Vec<_>>().join(", "),
    })?;
    let mut merges = HashMap::new();
    for (rank, pair) in (0u32..).zip(texts(contents, "tokenizer.ggml.merges")?) {
        // The first character may itself be a space in odd vocabularies.
        let Some(cut) = pair
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == ' ')
            .map(|(at, _)| at)
        else {
            continue;
        };
        let (left, right) = (&pair[..cut], &pair[cut + 1..]);
        let merged = [left, right].concat();
        // A merge over tokens that do not exist can never happen.
        if let (Some(&left), Some(&right), Some(&merged)) =
            (ids.get(left), ids.get(right), ids.get(merged.as_str()))
        {
            merges.entry((left, right)).or_insert((rank, merged));
        }
    }
    let bos_by_default = splitter.bos_by_default;
    let family = Family::Bytes {
        whole_first: splitter.whole_first,
        splitter,
        merges,
    };
    Ok((family, bos_by_default))
}

fn scored_family(
    contents: &Contents<'_>,
    size: usize,
    architecture: &str,
) -> Result<Family, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores: Vec<f32> = match contents.metadata.get(KEY) {
        Some(Value::Numbers(numbers)) => numbers
            .values()
            .filter_map(|value| value.as_f32())
            .collect(),
        other => return Err(wrong(KEY, other, "an array of floats")),
    };
    if scores.len() != size {
        return Err(TokenizerError::Length {
            key: KEY,
            found: scores.len(),
            expected: size,
        });
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(TokenizerError::Score { id });
    }
    let space_first = contents
        .metadata
        .get("tokenizer.ggml.add_space_prefix")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    Ok(Family::Scores {
        scores,
        space_first,
        trim_after_control: architecture == "phi3",
    })
}

/// Tokens matched whole, longest first where several start at one place.
fn specials(texts: &[&str], kinds: &[Kind]) -> Result<(AhoCorasick, Vec<u32>), TokenizerError> {
    let mut patterns = Vec::new();
    let mut ids = Vec::new();
    for ((id, text), kind) in (0u32..).zip(texts).zip(kinds) {
        // A control token of one character could not be told from text.
        let matched = match kind {
            Kind::Control | Kind::Unknown => text.chars().nth(1).is_some(),
            Kind::Fixed => !text.is_empty(),
            _ => false,
        };
        if matched {
            patterns.push(*text);
            ids.push(id);
        }
    }
    let specials = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(patterns)
        .map_err(|source| TokenizerError::Specials { source })?;
    Ok((specials, ids))
}

/// The tokens that end an answer; all of them become control tokens.
fn end_ids(
    contents: &Contents<'_>,
    ids: &HashMap<Box<str>, u32>,
    kinds: &mut [Kind],
    eos: Option<u32>,
) -> Result<Vec<u32>, TokenizerError> {
    let mut ends: Vec<u32> = eos.into_iter().collect();
    for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ends.extend(id(contents, key, kinds.len())?);
    }
    for text in END_TEXTS {
        if let Some(&id) = ids.get(*text)
            && kinds[id as usize] == Kind::Control
        {
            ends.push(id);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    for &id in &ends {
        kinds[id as usize] = Kind::Control;
    }
    Ok(ends)
}

fn kinds(contents: &Contents<'_>, size: usize) -> Result<Vec<Kind>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let kinds: Vec<Kind> = match contents.metadata.get(KEY) {
        None => return Ok(vec![Kind::Normal; size]),
        Some(Value::Numbers(numbers)) => numbers
            .values()
            .map(|value| match value.as_u64() {
                Some(2) => Kind::Unknown,
                Some(3) => Kind::Control,
                Some(4) => Kind::Fixed,
                Some(5) => Kind::Unused,
                Some(6) => Kind::Byte,
                _ => Kind::Normal,
            })
            .collect(),
        other => return Err(wrong(KEY, other, "an array of integers")),
    };
    if kinds.len() != size {
        return Err(TokenizerError::Length {
            key: KEY,
            found: kinds.len(),
            expected: size,
        });
    }
    // Some converters mark `<|user|>` and its kin as mere text. They steer
    // the model all the same, so a user must not be able to write them.
    let texts = texts(contents, "tokenizer.ggml.tokens")?;
    let steers = |text: &str| {
        (text.starts_with("<|") && text.ends_with("|>"))
            || text == "<start_of_turn>"
            || text == "<end_of_turn>"
    };
    Ok(kinds
        .into_iter()
        .zip(texts)
        .map(|(kind, text)| match kind {
            Kind::Fixed if steers(text) => Kind::Control,
            other => other,
        })
        .collect())
}

fn wrong(key: &'static str, found: Option<&Value<'_>>, expected: &'static str) -> TokenizerError {
    TokenizerError::Key {
        key,
        found: found.map_or("missing", Value::kind),
        expected,
    }
}

fn text<'a>(contents: &Contents<'a>, key: &'static str) -> Result<&'a str, TokenizerError> {
    let value = contents.metadata.get(key);
    value
        .and_then(Value::as_str)
        .ok_or_else(|| wrong(key, value, "a string"))
}

fn texts<'c, 'a>(
    contents: &'c Contents<'a>,
    key: &'static str,
) -> Result<&'c [&'a str], TokenizerError> {
    match contents.metadata.get(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        other => Err(wrong(key, other, "an array of strings")),
    }
}

fn id(
    contents: &Contents<'_>,
    key: &'static str,
    size: usize,
) -> Result<Option<u32>, TokenizerError> {
    let Some(value) = contents.metadata.get(key) else {
        return Ok(None);
    };
    let id = value
        .as_u64()
        .ok_or_else(|| wrong(key, Some(value), "a token id"))?;
    // Some files write -1 or the like for "none"; as_u64 has refused that.
    match u32::try_from(id) {
        Ok(short) if (short as usize) < size => Ok(Some(short)),
        _ => Err(TokenizerError::Id { key, id, size }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_of_its_own_and_comes_back() {
        let letters: std::collections::HashSet<char> = (0..=u8::MAX).map(letter).collect();
        assert_eq!(letters.len(), 256);
        for byte in 0..=u8::MAX {
            assert_eq!(unletter(letter(byte)), Some(byte));
        }
        assert_eq!(spell_bytes(b" a\n"), "\u{120}a\u{10a}");
    }
}
