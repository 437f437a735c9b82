//! Texts as the numbers of their tokens, by the model's own tokenizer.

use std::path::Path;

use tokenizers::Tokenizer;

use super::EmbedError;
use super::config::{Config, EmbedderError, TOKENIZER_BYTES_MAX, bytes};

pub(super) struct Tokens {
    tokenizer: Tokenizer,
    limit: usize,
}

impl Tokens {
    pub(super) fn read(folder: &Path, config: &Config) -> Result<Self, EmbedderError> {
        let path = folder.join("tokenizer.json");
        let text = bytes(&path, TOKENIZER_BYTES_MAX)?;
        let odd = |source| EmbedderError::Tokenizer {
            path: path.clone(),
            source,
        };
        let mut tokenizer = Tokenizer::from_bytes(text).map_err(odd)?;
        // What is too long is seen here, and one text is not filled up to the length of another.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(odd)?;
        let words = tokenizer.get_vocab_size(true);
        if words > config.vocabulary {
            return Err(EmbedderError::Unsupported {
                path,
                field: "a vocabulary of",
                got: words.to_string(),
                allowed: "as many words as config.json says, at most,",
            });
        }
        Ok(Self {
            tokenizer,
            limit: config.tokens_max,
        })
    }

    /// A text's tokens with the marks at both ends.
    pub(super) fn of(&self, index: usize, text: &str, cut: bool) -> Result<Vec<u32>, EmbedError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        let encoding = encoding.map_err(|source| EmbedError::Tokenizer { index, source })?;
        let mut ids = encoding.get_ids().to_vec();
        let (tokens, limit) = (ids.len(), self.limit);
        if tokens <= limit {
            return Ok(ids);
        }
        if !cut {
            return Err(EmbedError::TooLong {
                index,
                tokens,
                limit,
            });
        }
        // The mark at the end stays one.
        let last = ids.pop();
        ids.truncate(limit - 1);
        ids.extend(last);
        Ok(ids)
    }
}
