//! Whether a backend goes on with an answer that somebody else began.
//!
//! Servers differ: some continue the last message where it ends, some begin a
//! new one behind it, some say it all again. So it is tried: a short answer at
//! temperature 0, then the same with its first half given. If the second half
//! comes out as before, the backend goes on.

use std::time::Duration;

use ::openai::{Aggregate, ChatRequest, Partial, Resumed};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use super::{BackendError, BackendFailure, BackendHandle, Work};

/// Any that is answered with some words; what they are does not matter.
const QUESTION: &str = "What is a river? Answer in one sentence.";
/// Tokens of an answer.
const TOKENS: u32 = 24;
/// Not every backend keeps to that.
const TEXT_BYTES_MAX: usize = 160;
/// So much of the second half has to be alike, unless the answer is over before.
const ALIKE_BYTES_MIN: usize = 8;
/// Time for each of the two answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// It took no request.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// It broke off.
    #[error(transparent)]
    Broken(#[from] BackendFailure),
    /// It is too slow to try.
    #[error("it did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Slow,
    /// It says too little to cut in two.
    #[error("it answered {bytes} bytes, which cannot be cut in two")]
    Short {
        /// Of text, which is nobody's business.
        bytes: usize,
    },
}

/// Tries it.
pub(crate) async fn continues(backend: &BackendHandle, model: &str) -> Result<bool, ProbeError> {
    let body = json!({
        "model": model,
        "messages": [{ "role": "user", "content": QUESTION }],
        "max_tokens": TOKENS,
        "temperature": 0,
        "seed": 1,
    });
    let question = ChatRequest::parse(body.to_string().into()).expect("a request by the rules");
    let whole = answer(backend, &question, model).await?;
    let Some(cut) = middle(&whole) else {
        return Err(ProbeError::Short { bytes: whole.len() });
    };
    let (first, second) = whole.split_at(cut);
    let mut begun = Partial::default();
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": first } }] });
    begun.push(&chunk.to_string().into());
    let Ok(Resumed::Ask(request, _)) = question.resumed(&begun, 0) else {
        return Ok(false);
    };
    let rest = answer(backend, &request, model).await?;
    Ok(are_alike(second, &rest))
}

fn are_alike(expected: &str, got: &str) -> bool {
    let same = expected
        .bytes()
        .zip(got.bytes())
        .take_while(|(a, b)| a == b);
    let same = same.count();
    let shorter = expected.len().min(got.len());
    same == shorter && (same >= ALIKE_BYTES_MIN || expected == got)
}

/// The end of the word in the middle.
fn middle(text: &str) -> Option<usize> {
    let spaces: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
    let at = *spaces.get(spaces.len() / 2)?;
    (at > 0 && !text[..at].trim().is_empty()).then_some(at)
}

async fn answer(
    backend: &BackendHandle,
    request: &ChatRequest,
    model: &str,
) -> Result<String, ProbeError> {
    let reading = async {
        let work = Work::Chat(request.upstream_body(model));
        let mut chunks = backend.answer(work).await?;
        let mut whole = Aggregate::new();
        let mut bytes = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            bytes += chunk.facts.text_bytes;
            if whole.push(&chunk.json).is_err() || bytes >= TEXT_BYTES_MAX {
                break;
            }
        }
        let whole = whole.finish().unwrap_or_default();
        let text = whole
            .get("choices")
            .map(|choices| &choices[0]["message"]["content"]);
        Ok(text
            .and_then(|text| text.as_str())
            .unwrap_or_default()
            .to_owned())
    };
    timeout(ANSWER_WITHIN, reading)
        .await
        .unwrap_or(Err(ProbeError::Slow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Line, Script, ScriptedBackend};

    async fn tried(script: Script) -> Result<bool, ProbeError> {
        continues(&BackendHandle::new(ScriptedBackend::new(script)), "m").await
    }

    fn words(continues: bool) -> Script {
        let words = ["Water", " that", " runs", " down", " to", " the", " sea."];
        Script {
            lines: words.map(|word| Line::Say(word.to_owned())).into(),
            continues,
            ..Script::default()
        }
    }

    #[tokio::test]
    async fn it_is_found_out_by_trying() {
        assert!(tried(words(true)).await.unwrap());
        assert!(!tried(words(false)).await.unwrap());
    }

    #[tokio::test]
    async fn who_says_one_word_or_breaks_off_is_not_known() {
        let one = Script {
            lines: vec![Line::Say("Water.".to_owned())],
            ..Script::default()
        };
        assert!(matches!(tried(one).await, Err(ProbeError::Short { .. })));
        let broken = Script {
            lines: vec![Line::Say("Water ".to_owned()), Line::Break],
            ..Script::default()
        };
        assert!(matches!(tried(broken).await, Err(ProbeError::Broken(_))));
    }
}
