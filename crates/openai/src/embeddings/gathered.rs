//! The pieces of an answer as the one body that a client waits for.
//!
//! Vectors that go out as base64 are copied, not read; for numbers they are
//! decoded once, at the end.

use bytes::Bytes;
use serde_json::{Value, json};

use super::VectorFormat;
use super::rows::{Chunk, RowsError, floats};
use crate::MAX_ANSWER_BYTES;
use crate::dialect::Ending;

/// The pieces of an answer.
#[derive(Debug, Default)]
pub struct Gathered {
    chunks: Vec<Bytes>,
    bytes: usize,
    /// The length of a vector in base64; of all of them.
    row_bytes: Option<usize>,
    prompt_tokens: Option<u32>,
}

impl Gathered {
    /// Adds the next piece.
    pub fn push(&mut self, json: Bytes) -> Result<(), RowsError> {
        let chunk: Chunk<'_> = serde_json::from_slice(&json)?;
        for text in &chunk.data {
            let expected = *self.row_bytes.get_or_insert(text.len());
            if text.len() != expected {
                let got = text.len();
                return Err(RowsError::Dimensions { got, expected });
            }
        }
        if let Some(usage) = chunk.usage {
            let before = self.prompt_tokens.unwrap_or(0);
            self.prompt_tokens = Some(before.saturating_add(usage.prompt_tokens));
        }
        self.bytes = self.bytes.saturating_add(json.len());
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(RowsError::TooLong);
        }
        self.chunks.push(json);
        Ok(())
    }

    /// Tokens of the texts, as the backend counts them; as billed where it does not.
    fn tokens(&self, ending: &Ending) -> u32 {
        self.prompt_tokens.unwrap_or(ending.billed.prompt_tokens)
    }

    /// As OpenAI's clients expect it, with what it was and cost.
    pub fn openai(
        &self,
        model: &str,
        format: VectorFormat,
        ending: &Ending,
    ) -> Result<Vec<u8>, RowsError> {
        let mut out = Vec::with_capacity(self.bytes);
        out.extend_from_slice(br#"{"object":"list","data":["#);
        let mut index = 0_usize;
        self.each(|text| {
            if index > 0 {
                out.push(b',');
            }
            let head = format!(r#"{{"object":"embedding","index":{index},"embedding":"#);
            out.extend_from_slice(head.as_bytes());
            put(text, format, &mut out)?;
            out.push(b'}');
            index += 1;
            Ok(())
        })?;
        let tokens = self.tokens(ending);
        let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        let model = Value::from(model);
        let tail = format!(
            r#"],"model":{model},"usage":{usage},"lethe":{}}}"#,
            ending.summary
        );
        out.extend_from_slice(tail.as_bytes());
        Ok(out)
    }

    /// As Ollama's clients expect it of `/api/embed`.
    pub fn ollama(&self, model: &str, ending: &Ending) -> Result<Vec<u8>, RowsError> {
        let mut out = Vec::with_capacity(self.bytes);
        let head = format!(r#"{{"model":{},"embeddings":["#, Value::from(model));
        out.extend_from_slice(head.as_bytes());
        let mut is_first = true;
        self.each(|text| {
            if !core::mem::take(&mut is_first) {
                out.push(b',');
            }
            put(text, VectorFormat::Float, &mut out)
        })?;
        let tail = format!(
            r#"],"total_duration":{},"load_duration":0,"prompt_eval_count":{},"lethe":{}}}"#,
            ending.duration_ms.saturating_mul(1_000_000),
            self.tokens(ending),
            ending.summary,
        );
        out.extend_from_slice(tail.as_bytes());
        Ok(out)
    }

    /// As they expect it of `/api/embeddings`: the vector of the one text.
    pub fn ollama_one(&self, ending: &Ending) -> Result<Vec<u8>, RowsError> {
        let mut out = br#"{"embedding":"#.to_vec();
        self.each(|text| put(text, VectorFormat::Float, &mut out))?;
        out.extend_from_slice(format!(r#","lethe":{}}}"#, ending.summary).as_bytes());
        Ok(out)
    }

    fn each(&self, mut with: impl FnMut(&str) -> Result<(), RowsError>) -> Result<(), RowsError> {
        for json in &self.chunks {
            let chunk: Chunk<'_> = serde_json::from_slice(json)?;
            chunk.data.into_iter().try_for_each(&mut with)?;
        }
        Ok(())
    }
}

/// Writes a vector that is there in base64.
fn put(text: &str, format: VectorFormat, out: &mut Vec<u8>) -> Result<(), RowsError> {
    match format {
        VectorFormat::Base64 => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
            Ok(())
        }
        // The shortest decimals that are read as the same number.
        VectorFormat::Float => Ok(serde_json::to_writer(out, &floats(text)?)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;
    use crate::embeddings::chunks;

    fn ending() -> Ending {
        Ending {
            billed: Usage {
                prompt_tokens: 5,
                completion_tokens: 0,
            },
            ttft_ms: 1,
            duration_ms: 2,
            summary: json!({ "cost": "1" }),
        }
    }

    fn gathered(counted: Option<u32>) -> Gathered {
        let mut gathered = Gathered::default();
        for rows in [vec![vec![1.0, 0.1]], vec![vec![-3.5e-8, 2.0]]] {
            for chunk in chunks(&rows, counted) {
                gathered.push(chunk).unwrap();
            }
        }
        gathered
    }

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn a_client_gets_the_form_that_it_asked_for() {
        let all = gathered(Some(4));
        let floats = all.openai("m", VectorFormat::Float, &ending()).unwrap();
        assert_eq!(
            text(floats),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.0,0.1]},{"object":"embedding","index":1,"embedding":[-3.5e-8,2.0]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8},"lethe":{"cost":"1"}}"#
        );
        let base64 = all.openai("m", VectorFormat::Base64, &ending()).unwrap();
        let base64: Value = serde_json::from_slice(&base64).unwrap();
        assert_eq!(base64["data"][0]["embedding"], "AACAP83MzD0=");
        assert_eq!(
            text(all.ollama("m", &ending()).unwrap()),
            r#"{"model":"m","embeddings":[[1.0,0.1],[-3.5e-8,2.0]],"total_duration":2000000,"load_duration":0,"prompt_eval_count":8,"lethe":{"cost":"1"}}"#
        );
    }

    #[test]
    fn tokens_are_as_billed_where_nobody_counted() {
        let body = gathered(None).ollama("m", &ending()).unwrap();
        assert!(text(body).contains(r#""prompt_eval_count":5"#));
    }

    #[test]
    fn vectors_of_two_lengths_are_no_answer() {
        let mut gathered = gathered(None);
        let other = chunks(&[vec![1.0]], None).remove(0);
        assert!(matches!(
            gathered.push(other),
            Err(RowsError::Dimensions { .. })
        ));
    }
}
