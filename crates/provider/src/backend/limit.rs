//! Cuts an answer at the length that was asked for, whatever the backend does.
//!
//! A chunk that brings text counts as a token, as everywhere before the
//! backend's own count is known. The chunk that would be one too many does not
//! go out: the backend is dropped, and the answer ends as one that had reached
//! its length. A count beyond the limit is not believed.

use bytes::Bytes;
use futures_util::stream::{StreamExt, unfold};
use serde_json::json;

use super::{BackendChunk, BackendFailure, ChunkStream};

struct Limited {
    /// None: it was cut.
    stream: Option<ChunkStream>,
    left: u32,
    limit: u32,
}

/// The answer with at most so many tokens.
pub(crate) fn limited(stream: ChunkStream, limit: Option<u32>) -> ChunkStream {
    let Some(limit) = limit else {
        return stream;
    };
    let limited = Limited {
        stream: Some(stream),
        left: limit,
        limit,
    };
    unfold(limited, Limited::next).boxed()
}

impl Limited {
    async fn next(mut self) -> Option<(Result<BackendChunk, BackendFailure>, Self)> {
        let mut chunk = match self.stream.as_mut()?.next().await? {
            Ok(chunk) => chunk,
            Err(failure) => return Some((Err(failure), self)),
        };
        if let Some(usage) = &mut chunk.facts.usage {
            usage.completion_tokens = usage.completion_tokens.min(self.limit);
        }
        if chunk.facts.text_bytes == 0 {
            return Some((Ok(chunk), self));
        }
        if self.left == 0 {
            self.stream = None;
            tracing::warn!(
                limit = self.limit,
                "the backend went on beyond the limit: cut"
            );
            return Some((BackendChunk::read(cut()), self));
        }
        self.left -= 1;
        Some((Ok(chunk), self))
    }
}

/// The last chunk of an answer that reached its length.
fn cut() -> Bytes {
    let chunk = json!({
        "object": "chat.completion.chunk",
        "created": 0,
        "choices": [{ "index": 0, "delta": {}, "finish_reason": "length" }],
    });
    chunk.to_string().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Backend, Script, ScriptedBackend};
    use super::*;

    /// Chunks with text, whether one says `length`, the count of the backend, and who still runs.
    async fn heard(tokens: u32, limit: Option<u32>) -> (usize, bool, Option<u32>, usize) {
        let backend = ScriptedBackend::new(Script::tokens(tokens, Duration::ZERO));
        let stream = backend.chat(Bytes::new()).await.unwrap();
        let mut stream = limited(stream, limit);
        let (mut texts, mut length, mut counted) = (0, false, None);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.unwrap();
            texts += usize::from(chunk.facts.text_bytes > 0);
            length |= chunk.json.windows(8).any(|part| part == b"\"length\"");
            counted = chunk
                .facts
                .usage
                .map(|usage| usage.completion_tokens)
                .or(counted);
        }
        (texts, length, counted, backend.running())
    }

    #[tokio::test]
    async fn an_answer_within_its_limit_is_left_alone() {
        for limit in [None, Some(5), Some(6)] {
            assert_eq!(heard(5, limit).await, (5, false, Some(5), 0), "{limit:?}");
        }
    }

    #[tokio::test]
    async fn one_that_goes_on_is_cut_and_its_backend_dropped() {
        assert_eq!(heard(500, Some(5)).await, (5, true, None, 0));
        assert_eq!(heard(1, Some(0)).await, (0, true, None, 0));
    }

    #[tokio::test]
    async fn a_count_beyond_the_limit_is_not_believed() {
        let usage = br#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":90}}"#;
        let chunk = BackendChunk::read(Bytes::from_static(usage)).unwrap();
        let stream = futures_util::stream::iter([Ok(chunk)]).boxed();
        let chunk = limited(stream, Some(5)).next().await.unwrap().unwrap();
        assert_eq!(chunk.facts.usage.unwrap().completion_tokens, 5);
    }
}
