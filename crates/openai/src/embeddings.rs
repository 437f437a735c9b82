//! Embeddings: a vector for each of a request's texts.
//!
//! A request is read like a chat request: fields with rules are checked, the
//! rest goes on as it came. Between provider and consumer the answer travels
//! in pieces of our own ([`rows`](chunks)), since one body of all vectors may
//! be long and a backend may stop within it; a client gets the one body that
//! it expects ([`Gathered`]).

mod answer;
mod gathered;
mod rows;

use bytes::{BufMut, Bytes, BytesMut};

use crate::carried::{Carried, put_field, quoted};
use crate::chat::{BadRequest, model};
use crate::object::{Object, is_text, mismatch};

pub use answer::Answered;
pub use gathered::Gathered;
pub use rows::{Rows, RowsError, Taken, chunks};

/// The most texts of one request.
pub const MAX_INPUTS: usize = 2048;

/// The most numbers of one vector.
pub const MAX_DIMENSIONS: usize = 16_384;

/// In which form a client wants its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VectorFormat {
    /// As arrays of numbers.
    #[default]
    Float,
    /// As base64 of the numbers' bytes: 32-bit floats, the lowest byte first.
    Base64,
}

/// A request for embeddings that has been checked.
#[derive(Debug, Clone)]
pub struct EmbeddingsRequest {
    body: Bytes,
    fields: Carried,
    model: String,
    /// JSON strings.
    inputs: Vec<Bytes>,
    format: VectorFormat,
    dimensions: Option<usize>,
}

impl EmbeddingsRequest {
    /// Reads a request, or says what is wrong with it.
    pub fn parse(body: Bytes) -> Result<Self, BadRequest> {
        let request = Object::whole(&body)?;
        let model = model(&request)?;
        let inputs = inputs(&request)?;
        let inputs = inputs.into_iter().map(|text| body.slice_ref(text));
        let inputs = inputs.collect();
        let format = match request.one_of("encoding_format", &["float", "base64"])? {
            Some(word) if word == "base64" => VectorFormat::Base64,
            _ => VectorFormat::Float,
        };
        let dimensions = request.integer("dimensions", 1..=MAX_DIMENSIONS as u64)?;
        request.text("user")?;
        if request.find("models").is_some() {
            let problem = "only a chat request may name several; vectors of different models do not compare, leave it out";
            return Err(request.fault("models", problem));
        }
        Ok(Self {
            fields: Carried::of(request, &body),
            body,
            model,
            inputs,
            format,
            dimensions: dimensions.and_then(|number| usize::try_from(number).ok()),
        })
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The model that is asked for, by name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many texts there are; one at least.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The texts.
    pub fn texts(&self) -> Result<Vec<String>, BadRequest> {
        let read = |(n, text): (usize, &Bytes)| {
            let unread = |error: serde_json::Error| BadRequest::new(at(n), error.to_string());
            serde_json::from_slice(text).map_err(unread)
        };
        self.inputs.iter().enumerate().map(read).collect()
    }

    /// In which form the vectors are wanted.
    pub fn format(&self) -> VectorFormat {
        self.format
    }

    /// How many numbers a vector is to have, if the request says so.
    pub fn dimensions(&self) -> Option<usize> {
        self.dimensions
    }

    /// The JSON text of a field; none if it is absent or null.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.text(name)
    }

    /// Names of the fields that a backend has to heed, beyond the texts.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        const EVERYBODYS: [&str; 4] = ["model", "input", "encoding_format", "user"];
        self.fields.parameters(&EVERYBODYS)
    }

    /// The same request as a backend gets it: its own name for the model, texts
    /// in an array, vectors as numbers, nothing of what was said to us on
    /// routing. All else is kept byte for byte.
    pub fn upstream_body(&self, upstream_model: &str) -> Bytes {
        self.written(upstream_model, &self.inputs)
    }

    /// The same for some of the texts: so many from this one on, as far as there are.
    pub fn part(&self, from: usize, count: usize) -> Bytes {
        let rest = self.inputs.get(from..).unwrap_or_default();
        self.written(&self.model, &rest[..count.min(rest.len())])
    }

    /// A request for what is missing when so many vectors have come. None: nothing is.
    pub fn rest(&self, came: usize) -> Option<Self> {
        let rest = self.inputs.get(came..).filter(|rest| !rest.is_empty())?;
        let mut request = self.clone();
        request.inputs = rest.to_vec();
        request.body = request.written(&self.model, rest);
        Some(request)
    }

    /// The same by another name of the model.
    #[must_use]
    pub fn of_model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    fn written(&self, model: &str, inputs: &[Bytes]) -> Bytes {
        const ROOM: usize = 128;
        let mut out = BytesMut::with_capacity(self.body.len() + model.len() + ROOM);
        put_field(&mut out, "model", &quoted(model));
        out.put_slice(b",\"input\":");
        for (n, text) in inputs.iter().enumerate() {
            out.put_u8(if n == 0 { b'[' } else { b',' });
            out.put_slice(text);
        }
        out.put_u8(b']');
        let replaced = ["model", "input", "encoding_format"];
        self.fields.put(&mut out, &replaced);
        out.put_u8(b'}');
        out.freeze()
    }
}

fn at(n: usize) -> String {
    format!("input[{n}]")
}

/// The texts, as JSON strings.
fn inputs<'a>(request: &Object<'a>) -> Result<Vec<&'a [u8]>, BadRequest> {
    const ALLOWED: &str = "a string, or an array of strings";
    let Some(input) = request.find("input") else {
        let problem = format!("missing; allowed: {ALLOWED}");
        return Err(request.fault("input", problem));
    };
    if input.get().starts_with('"') {
        not_empty("input", input.get())?;
        return Ok(vec![input.get().as_bytes()]);
    }
    if !input.get().starts_with('[') {
        return Err(mismatch("input", input, ALLOWED));
    }
    let texts = request.elements("input")?.unwrap_or_default();
    let is_tokens = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    if texts
        .first()
        .is_some_and(|first| is_tokens(first.get().trim_start_matches('[').trim_start()))
    {
        let problem = format!(
            "token ids, which only the tokenizer that made them can read; allowed: {ALLOWED} \
             (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
        );
        return Err(request.fault("input", problem));
    }
    if texts.is_empty() {
        return Err(request.fault("input", "empty; give at least one text"));
    }
    if texts.len() > MAX_INPUTS {
        let problem = format!("{} texts; at most {MAX_INPUTS} are allowed", texts.len());
        return Err(request.fault("input", problem));
    }
    for (n, text) in texts.iter().enumerate() {
        is_text(&at(n), text)?;
        not_empty(&at(n), text.get())?;
    }
    Ok(texts.iter().map(|text| text.get().as_bytes()).collect())
}

fn not_empty(path: &str, text: &str) -> Result<(), BadRequest> {
    if text == "\"\"" {
        let problem = "empty; there is no vector of nothing";
        return Err(BadRequest::new(path, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &str) -> EmbeddingsRequest {
        let body = format!(r#"{{"model":"m",{fields}}}"#);
        EmbeddingsRequest::parse(Bytes::from(body)).unwrap()
    }

    #[test]
    fn a_backend_is_asked_for_numbers_and_hears_nothing_of_routing() {
        let request = request(
            r#""input":"a\nb","encoding_format":"base64","provider":{"sort":"price"},"dimensions":8,"user":"u""#,
        );
        assert_eq!(request.format(), VectorFormat::Base64);
        assert_eq!(request.dimensions(), Some(8));
        assert_eq!(request.texts().unwrap(), ["a\nb"]);
        assert_eq!(request.parameters().collect::<Vec<_>>(), ["dimensions"]);
        assert_eq!(
            request.upstream_body("theirs"),
            r#"{"model":"theirs","input":["a\nb"],"dimensions":8,"user":"u"}"#
        );
    }

    #[test]
    fn what_is_missing_is_asked_for_and_no_more() {
        let request = request(r#""input":["a","b","c"],"truncate":true"#);
        assert_eq!(request.inputs(), 3);
        assert_eq!(
            request.part(1, 9),
            r#"{"model":"m","input":["b","c"],"truncate":true}"#
        );
        let rest = request.rest(2).unwrap();
        assert_eq!(rest.texts().unwrap(), ["c"]);
        assert_eq!(rest.body(), &request.part(2, 1));
        assert!(request.rest(3).is_none() && request.rest(9).is_none());
    }
}
