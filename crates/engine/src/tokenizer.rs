//! The file's own tokenizer: text to token ids, and ids back to bytes.
//!
//! Two families cover the supported models: byte-level BPE (`gpt2` in the
//! file: llama 3, qwen, phi-4) and SentencePiece (`llama`: llama 2, gemma,
//! phi-3). Both end in the same merge loop ([`merge`]); they differ in how
//! text is cut before it and in what a merge is worth.
//!
//! Tokens that steer a model (`<|im_end|>` and its like) are matched only by
//! [`Tokenizer::encode_rendered`], which the template's output goes through;
//! text inside that output that came from a user carries a guard (see
//! `guard`) and can't become one.

mod load;
mod merge;
mod split;

use std::collections::HashMap;

use aho_corasick::AhoCorasick;

pub use load::TokenizerError;
use split::Splitter;

use crate::guard::Guard;

/// What a token is for; from `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    /// Steers the model; never shown, never made from a user's text.
    Control,
    /// Text that is always one token, such as a run of line ends.
    Fixed,
    Byte,
    Unused,
}

/// How text becomes pieces, and pieces tokens.
enum Family {
    /// Byte-level BPE.
    Bytes {
        splitter: Splitter,
        /// Adjacent tokens to (rank, merged token).
        merges: HashMap<(u32, u32), (u32, u32)>,
        /// A piece that is a token as a whole is taken as that.
        whole_first: bool,
    },
    /// SentencePiece with scores.
    Scores {
        scores: Vec<f32>,
        /// A space is put before the text, as the model saw it in training.
        space_first: bool,
        /// Control tokens swallow the white space that follows them.
        trim_after_control: bool,
    },
}

/// A tokenizer as the file describes it.
pub(crate) struct Tokenizer {
    family: Family,
    /// What each token stands for, in bytes as they reach the reader.
    bytes: Vec<Box<[u8]>>,
    kinds: Vec<Kind>,
    /// Text as the vocabulary spells it, to id.
    ids: HashMap<Box<str>, u32>,
    /// The token of each byte, where there is one.
    byte_ids: [Option<u32>; 256],
    /// Control and fixed tokens, matched leftmost and longest.
    specials: AhoCorasick,
    special_ids: Vec<u32>,
    bos: Option<u32>,
    add_bos: bool,
    eos: Option<u32>,
    unknown: Option<u32>,
    /// Tokens that end an answer.
    ends: Vec<u32>,
}

impl Tokenizer {
    pub(crate) fn vocabulary_size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the answer is over when the model says this token.
    pub(crate) fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The bytes a reader sees for a token; none for control tokens.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        match self.kinds.get(id as usize) {
            Some(Kind::Control | Kind::Unknown | Kind::Unused) | None => &[],
            Some(_) => &self.bytes[id as usize],
        }
    }

    /// The spelling of a token for a template (`bos_token`), control or not.
    fn spelling(&self, id: Option<u32>) -> &str {
        id.and_then(|id| self.bytes.get(id as usize))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }

    pub(crate) fn bos_text(&self) -> &str {
        self.spelling(self.bos)
    }

    pub(crate) fn eos_text(&self) -> &str {
        self.spelling(self.eos)
    }

    /// Whether the vocabulary has this control token.
    pub(crate) fn has_control(&self, text: &str) -> bool {
        self.ids
            .get(text)
            .is_some_and(|&id| self.kinds[id as usize] == Kind::Control)
    }

    /// The texts that must not arise from a user's words.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.special_ids
            .iter()
            .filter(|&&id| self.kinds[id as usize] != Kind::Fixed)
            .map(|&id| self.spelling(Some(id)))
    }

    /// The tokens of a rendered template: control tokens are recognised,
    /// except where `guard` marks the text as a user's.
    pub(crate) fn encode_rendered(&self, text: &str, guard: &Guard) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        let mut after_special = true;
        let mut rest_from = 0;
        for found in self.specials.find_iter(text) {
            let id = self.special_ids[found.pattern().as_usize()];
            if found.start() > rest_from {
                let plain = guard.lift(&text[rest_from..found.start()]);
                self.encode_plain(&plain, after_special, &mut ids);
            }
            ids.push(id);
            after_special = true;
            rest_from = self.skip_after(id, text, found.end()).max(rest_from);
        }
        if rest_from < text.len() {
            let plain = guard.lift(&text[rest_from..]);
            self.encode_plain(&plain, after_special, &mut ids);
        }
        if let (true, Some(bos)) = (self.add_bos, self.bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// What the assistant has said already, behind its rendered prompt: cut
    /// into tokens by itself, as it was when it was said.
    pub(crate) fn encode_begun(&self, text: &str, ids: &mut Vec<u32>) {
        if !text.is_empty() {
            self.encode_plain(text, false, ids);
        }
    }

    /// Where the text goes on after a special token.
    fn skip_after(&self, id: u32, text: &str, end: usize) -> usize {
        let trims = matches!(
            self.family,
            Family::Scores { trim_after_control: true, .. } if self.kinds[id as usize] == Kind::Control
        );
        if trims {
            text.len() - text[end..].trim_start().len()
        } else {
            end
        }
    }

    /// Text without any special tokens in it.
    fn encode_plain(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        match &self.family {
            Family::Bytes {
                splitter,
                merges,
                whole_first,
            } => {
                for piece in splitter.pieces(text) {
                    self.encode_piece(piece, merges, *whole_first, ids);
                }
            }
            Family::Scores {
                scores,
                space_first,
                ..
            } => {
                let mut spelled = String::with_capacity(text.len() + 8);
                if *space_first && after_special {
                    spelled.push(load::SPACE);
                }
                spelled.extend(text.chars().map(|c| if c == ' ' { load::SPACE } else { c }));
                self.encode_scored(&spelled, scores, ids);
            }
        }
    }

    fn encode_piece(
        &self,
        piece: &str,
        merges: &HashMap<(u32, u32), (u32, u32)>,
        whole_first: bool,
        ids: &mut Vec<u32>,
    ) {
        if whole_first && let Some(&id) = self.ids.get(load::spell_bytes(piece.as_bytes()).as_str())
        {
            ids.push(id);
            return;
        }
        let symbols = piece
            .bytes()
            .filter_map(|byte| self.byte_ids[usize::from(byte)].or(self.unknown))
            .collect();
        merge::by_rank(symbols, merges, ids);
    }

    fn encode_scored(&self, spelled: &str, scores: &[f32], ids: &mut Vec<u32>) {
        let score = |text: &str| {
            let id = *self.ids.get(text)?;
            Some(scores[id as usize])
        };
        for piece in merge::by_score(spelled, score) {
            if let Some(&id) = self.ids.get(piece) {
                ids.push(id);
                continue;
            }
            let bytes = piece
                .bytes()
                .filter_map(|byte| self.byte_ids[usize::from(byte)].or(self.unknown));
            ids.extend(bytes);
        }
    }
}
