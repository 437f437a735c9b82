//! Vectors as chunks, and their count of tokens.

use std::collections::VecDeque;

use ::openai::embeddings::{Answered, chunks};
use ::openai::{ChunkFacts, Usage};
use bytes::Bytes;

use super::BackendChunk;

/// Texts that a backend is given together: between two such batches a
/// consumer that left is noticed, and none waits long for its first vector.
pub(super) const TEXTS_AT_ONCE: usize = 32;

/// What of a request was answered.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Tokens that were read, if the backend counts.
    counted: Option<u32>,
}

impl Written {
    /// The next vectors as chunks.
    pub(super) fn chunks(&mut self, answered: &Answered) -> VecDeque<BackendChunk> {
        if let Some(tokens) = answered.prompt_tokens {
            let before = self.counted.unwrap_or(0);
            self.counted = Some(before.saturating_add(tokens));
        }
        let usage = self.counted.map(|prompt_tokens| Usage {
            prompt_tokens,
            completion_tokens: 0,
        });
        let pieces = chunks(&answered.rows, answered.prompt_tokens);
        let chunk = |json| BackendChunk::of_vectors(json, usage);
        pieces.into_iter().map(chunk).collect()
    }
}

impl BackendChunk {
    /// A piece of vectors, by which the request came to so many tokens.
    pub(super) fn of_vectors(json: Bytes, usage: Option<Usage>) -> Self {
        let facts = ChunkFacts {
            usage,
            ..ChunkFacts::default()
        };
        Self { json, facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_add_up_and_are_not_made_up() {
        let mut written = Written::default();
        let mut told = |prompt_tokens| {
            let answered = Answered {
                rows: vec![vec![1.0], vec![2.0]],
                prompt_tokens,
            };
            let chunk = written.chunks(&answered).pop_front().unwrap();
            chunk.facts.usage.map(|usage| usage.prompt_tokens)
        };
        assert_eq!(told(None), None);
        assert_eq!(told(Some(3)), Some(3));
        assert_eq!(told(Some(4)), Some(7));
    }
}
