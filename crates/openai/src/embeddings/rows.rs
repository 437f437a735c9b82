//! The pieces in which vectors travel from a provider to a consumer.
//!
//! A piece is `{"data":["<base64>",…],"usage":{"prompt_tokens":n}}`: the next
//! vectors in the order of the request's texts, each as base64 of its 32-bit
//! floats with the lowest byte first, and what of the request was read for
//! them, where the backend counts. Half as long as numbers in decimals, exact,
//! and never read on the way to a client that wants base64 itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

use super::{EmbeddingsRequest, MAX_DIMENSIONS};

/// A piece is closed when it is as long as this.
const CHUNK_BYTES: usize = 32 * 1024;
/// Bytes of a number.
pub(super) const FLOAT_BYTES: usize = 4;

/// Why vectors are not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// Not JSON, or not of this form.
    #[error("not a list of vectors")]
    Malformed(#[from] serde_json::Error),
    /// An array where numbers of tokens would be; or a vector is no base64 of floats.
    #[error("a vector is not base64 of 32-bit floats")]
    Encoding,
    /// One is not a number.
    #[error("a vector has a number that is not finite")]
    NotFinite,
    /// Not one for each text.
    #[error("{got} vectors came for {wanted} texts")]
    Count {
        /// How many came, or their last number.
        got: usize,
        /// How many texts there are.
        wanted: usize,
    },
    /// Of another length than was asked for, than the others have, or than anybody wants.
    #[error("a vector has {got} numbers, expected are {expected}")]
    Dimensions {
        /// Its length.
        got: usize,
        /// What it should be.
        expected: usize,
    },
    /// All of them take more memory than an answer may.
    #[error("the vectors are longer than {} bytes", crate::MAX_ANSWER_BYTES)]
    TooLong,
}

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) data: Vec<&'a str>,
    #[serde(default)]
    pub(super) usage: Option<Count>,
}

#[derive(Deserialize)]
pub(super) struct Count {
    pub(super) prompt_tokens: u32,
}

/// What a piece brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Vectors.
    pub rows: usize,
    /// Tokens that were read for them, if they are counted.
    pub prompt_tokens: Option<u32>,
}

/// Checks the pieces of one answer as they come.
#[derive(Debug, Clone)]
pub struct Rows {
    wanted: usize,
    came: usize,
    dimensions: Option<usize>,
}

impl Rows {
    /// Of the answer to this request.
    pub fn of(request: &EmbeddingsRequest) -> Self {
        Self {
            wanted: request.inputs(),
            came: 0,
            dimensions: request.dimensions(),
        }
    }

    /// Checks the next piece.
    pub fn take(&mut self, json: &[u8]) -> Result<Taken, RowsError> {
        let chunk: Chunk<'_> = serde_json::from_slice(json)?;
        let came = self.came.saturating_add(chunk.data.len());
        if came > self.wanted {
            let (got, wanted) = (came, self.wanted);
            return Err(RowsError::Count { got, wanted });
        }
        for text in &chunk.data {
            let row = floats(text)?;
            let expected = *self.dimensions.get_or_insert(row.len());
            check(&row, expected)?;
        }
        self.came = came;
        Ok(Taken {
            rows: chunk.data.len(),
            prompt_tokens: chunk.usage.map(|usage| usage.prompt_tokens),
        })
    }

    /// That there is a vector for each text.
    pub fn whole(&self) -> Result<(), RowsError> {
        let (got, wanted) = (self.came, self.wanted);
        match got == wanted {
            true => Ok(()),
            false => Err(RowsError::Count { got, wanted }),
        }
    }
}

/// That it is a vector of this length.
pub(super) fn check(row: &[f32], expected: usize) -> Result<(), RowsError> {
    let got = row.len();
    if got != expected || got == 0 {
        return Err(RowsError::Dimensions { got, expected });
    }
    if got > MAX_DIMENSIONS {
        let expected = MAX_DIMENSIONS;
        return Err(RowsError::Dimensions { got, expected });
    }
    match row.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(RowsError::NotFinite),
    }
}

/// The numbers of a vector in base64.
pub(super) fn floats(text: &str) -> Result<Vec<f32>, RowsError> {
    let bytes = STANDARD.decode(text).map_err(|_| RowsError::Encoding)?;
    let (numbers, rest) = bytes.as_chunks::<FLOAT_BYTES>();
    if !rest.is_empty() {
        return Err(RowsError::Encoding);
    }
    Ok(numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect())
}

/// Writes vectors as pieces; the first of them has the count of tokens.
pub fn chunks(rows: &[Vec<f32>], prompt_tokens: Option<u32>) -> Vec<Bytes> {
    let mut all = Vec::new();
    let mut out = BytesMut::new();
    let mut usage = prompt_tokens;
    let mut close = |out: &mut BytesMut| {
        out.put_u8(b']');
        if let Some(tokens) = usage.take() {
            out.put_slice(format!(r#","usage":{{"prompt_tokens":{tokens}}}"#).as_bytes());
        }
        out.put_u8(b'}');
        all.push(out.split().freeze());
    };
    for row in rows {
        out.put_slice(if out.is_empty() {
            b"{\"data\":[\""
        } else {
            b",\""
        });
        let bytes: Vec<u8> = row.iter().flat_map(|number| number.to_le_bytes()).collect();
        out.put_slice(STANDARD.encode(bytes).as_bytes());
        out.put_u8(b'"');
        if out.len() >= CHUNK_BYTES {
            close(&mut out);
        }
    }
    if !out.is_empty() {
        close(&mut out);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: usize, more: &str) -> Rows {
        let texts = vec!["\"a\""; texts].join(",");
        let body = format!(r#"{{"model":"m","input":[{texts}]{more}}}"#);
        Rows::of(&EmbeddingsRequest::parse(body.into()).unwrap())
    }

    #[test]
    fn vectors_come_as_they_went_in_pieces_of_some_size() {
        let given: Vec<Vec<f32>> = (0..40)
            .map(|n| (0..512).map(|at| (at * n) as f32 / 7.0).collect())
            .collect();
        let pieces = chunks(&given, Some(9));
        assert!(pieces.len() > 1);
        let mut check = rows(40, "");
        let mut tokens = 0;
        for piece in &pieces {
            assert!(piece.len() < 2 * CHUNK_BYTES);
            tokens += check.take(piece).unwrap().prompt_tokens.unwrap_or(0);
        }
        assert!(check.whole().is_ok());
        assert_eq!(tokens, 9);
        let first: Chunk<'_> = serde_json::from_slice(&pieces[0]).unwrap();
        assert_eq!(floats(first.data[1]).unwrap(), given[1]);
    }

    #[test]
    fn what_was_not_asked_for_is_noticed() {
        let two = chunks(&[vec![1.0, 2.0], vec![3.0, 4.0]], None).remove(0);
        let uneven = chunks(&[vec![1.0, 2.0], vec![3.0]], None).remove(0);
        let odd = chunks(&[vec![f32::NAN]], None).remove(0);
        let empty = chunks(&[vec![]], None).remove(0);
        let taken = |mut rows: Rows, piece: &[u8]| rows.take(piece).map(|_| rows.whole());
        assert!(taken(rows(2, ""), &two).unwrap().is_ok());
        assert!(taken(rows(3, ""), &two).unwrap().is_err());
        assert!(matches!(
            taken(rows(1, ""), &two),
            Err(RowsError::Count { got: 2, wanted: 1 })
        ));
        assert!(matches!(
            taken(rows(2, r#","dimensions":3"#), &two),
            Err(RowsError::Dimensions {
                got: 2,
                expected: 3
            })
        ));
        assert!(matches!(
            taken(rows(2, ""), &uneven),
            Err(RowsError::Dimensions { .. })
        ));
        assert!(matches!(
            taken(rows(1, ""), &odd),
            Err(RowsError::NotFinite)
        ));
        assert!(matches!(
            taken(rows(1, ""), &empty),
            Err(RowsError::Dimensions { got: 0, .. })
        ));
        for text in [r#"{"data":["AAA="]}"#, r#"{"data":["!"]}"#] {
            let taken = taken(rows(1, ""), text.as_bytes());
            assert!(matches!(taken, Err(RowsError::Encoding)), "{text}");
        }
        for text in [r#"{"data":[[1.0]]}"#, "{}", r#"{"error":"no"}"#, "["] {
            let taken = taken(rows(1, ""), text.as_bytes());
            assert!(matches!(taken, Err(RowsError::Malformed(_))), "{text}");
        }
    }
}
