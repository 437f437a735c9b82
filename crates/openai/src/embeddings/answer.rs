//! A backend's answer: one body with a vector for each text.

use serde::Deserialize;

use super::MAX_DIMENSIONS;
use super::rows::{RowsError, check, floats};

/// Vectors of a backend, in the order of the texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// One for each text.
    pub rows: Vec<Vec<f32>>,
    /// Tokens of the texts, if the backend counts them.
    pub prompt_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: Vec<Row<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(default)]
    index: Option<usize>,
    #[serde(borrow)]
    embedding: Numbers<'a>,
}

/// Some backends have only the one form or the other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Base64(&'a str),
    Floats(Vec<f32>),
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u32>,
}

impl Answered {
    /// Reads it; all vectors are as long as the first.
    pub fn read(json: &[u8], wanted: usize) -> Result<Self, RowsError> {
        let body: Body<'_> = serde_json::from_slice(json)?;
        let got = body.data.len();
        if got != wanted {
            return Err(RowsError::Count { got, wanted });
        }
        let mut rows: Vec<Option<Vec<f32>>> = vec![None; wanted];
        let mut dimensions = None;
        for (n, row) in body.data.into_iter().enumerate() {
            let at = row.index.unwrap_or(n);
            let numbers = match row.embedding {
                Numbers::Base64(text) => floats(text)?,
                Numbers::Floats(numbers) => numbers,
            };
            let expected = *dimensions.get_or_insert(numbers.len().min(MAX_DIMENSIONS));
            check(&numbers, expected)?;
            // A number twice is another one missing.
            match rows.get_mut(at).filter(|place| place.is_none()) {
                Some(place) => *place = Some(numbers),
                None => return Err(RowsError::Count { got: at, wanted }),
            }
        }
        Ok(Self {
            rows: rows.into_iter().flatten().collect(),
            prompt_tokens: body.usage.and_then(|usage| usage.prompt_tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_form_is_read_and_put_in_order() {
        let text = r#"{"object":"list","model":"x","data":[
            {"object":"embedding","index":1,"embedding":[0.5,-1e-3]},
            {"object":"embedding","index":0,"embedding":"AACAPwAAAEA="}],
            "usage":{"prompt_tokens":7,"total_tokens":7}}"#;
        let answered = Answered::read(text.as_bytes(), 2).unwrap();
        assert_eq!(answered.rows, [vec![1.0, 2.0], vec![0.5, -1e-3]]);
        assert_eq!(answered.prompt_tokens, Some(7));
        let bare = br#"{"data":[{"embedding":[1]}]}"#;
        assert_eq!(Answered::read(bare, 1).unwrap().prompt_tokens, None);
    }

    #[test]
    fn what_is_no_vector_for_each_text_is_refused() {
        for (text, wanted) in [
            (r#"{"data":[]}"#, 1),
            (r#"{"data":[{"embedding":[1]},{"embedding":[1]}]}"#, 1),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
                2,
            ),
            (r#"{"data":[{"index":5,"embedding":[1]}]}"#, 1),
            (r#"{"data":[{"embedding":[1]},{"embedding":[1,2]}]}"#, 2),
            (r#"{"data":[{"embedding":[]}]}"#, 1),
            (r#"{"data":[{"embedding":[[1]]}]}"#, 1),
            (r#"{"data":[{"embedding":[1e99]}]}"#, 1),
            (r#"{"data":[{"embedding":null}]}"#, 1),
            (r#"{"error":{"message":"no"}}"#, 1),
        ] {
            assert!(Answered::read(text.as_bytes(), wanted).is_err(), "{text}");
        }
    }
}
