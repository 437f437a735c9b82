//! What is done with bytes that are anything: by the fuzzer, and by a test
//! with what the fuzzer found worth keeping (`corpus/`).

use bytes::Bytes;
use openai::dialect::Ending;
use openai::dialect::ollama::{self, Embed};
use openai::embeddings::{Answered, Gathered, MAX_DIMENSIONS, MAX_INPUTS, Rows, chunks};
use openai::{EmbeddingsRequest, Usage, VectorFormat};
use serde_json::Value;

/// Bodies of `/v1/embeddings`, and of Ollama's `/api/embed` and `/api/embeddings`.
pub(crate) fn embeddings(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let ollama = [ollama::embed(&body), ollama::embeddings(&body)];
    let ollama = ollama.into_iter().filter_map(|asked| match asked {
        Ok(Embed::Answer(request)) => Some(*request),
        Ok(Embed::Load { .. }) | Err(_) => None,
    });
    for request in EmbeddingsRequest::parse(body.clone())
        .into_iter()
        .chain(ollama)
    {
        assert!((1..=MAX_INPUTS).contains(&request.inputs()));
        let asked = |body| EmbeddingsRequest::parse(body).expect("what goes on is a request");
        let upstream = asked(request.upstream_body("m"));
        assert_eq!(upstream.model(), "m");
        assert_eq!(texts(&upstream), texts(&request));
        assert_eq!(upstream.dimensions(), request.dimensions());
        let parameters: Vec<_> = request.parameters().collect();
        assert_eq!(upstream.parameters().collect::<Vec<_>>(), parameters);
        if let Some(rest) = request.rest(1) {
            assert_eq!(rest.inputs(), request.inputs() - 1);
            assert_eq!(rest.body(), &request.part(1, MAX_INPUTS));
            assert_eq!(texts(&asked(rest.body().clone())), texts(&rest));
        }
    }
}

/// None: a text is well written and stands for no Unicode.
fn texts(request: &EmbeddingsRequest) -> Option<Vec<String>> {
    request.texts().ok()
}

/// A backend's answer to a request for embeddings, and a provider's pieces of one.
pub(crate) fn vectors(bytes: &[u8]) {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let wanted = json["data"].as_array().map_or(1, Vec::len).max(1);
    if wanted > MAX_INPUTS {
        return;
    }
    if let Ok(answered) = Answered::read(bytes, wanted) {
        assert_eq!(answered.rows.len(), wanted);
        let dimensions = answered.rows[0].len();
        assert!((1..=MAX_DIMENSIONS).contains(&dimensions));
        let pieces = chunks(&answered.rows, answered.prompt_tokens);
        let told = told(wanted, &pieces).expect("what is sent is taken");
        assert_eq!(told.rows, answered.rows);
        let tokens = answered.prompt_tokens.unwrap_or(BILLED);
        assert_eq!(told.prompt_tokens, Some(tokens));
    }
    let _ = told(wanted, &[Bytes::copy_from_slice(bytes)]);
}

/// What is billed where nobody counts.
const BILLED: u32 = 7;

/// What a client reads in the end of pieces that are taken; the same in every form.
fn told(wanted: usize, pieces: &[Bytes]) -> Option<Answered> {
    let request = format!(
        r#"{{"model":"m","input":["a"{}]}}"#,
        r#","a""#.repeat(wanted - 1)
    );
    let request = EmbeddingsRequest::parse(request.into()).expect("a good request");
    let (mut rows, mut gathered) = (Rows::of(&request), Gathered::default());
    for piece in pieces {
        rows.take(piece).ok()?;
        gathered.push(piece.clone()).expect("it was taken");
    }
    rows.whole().ok()?;
    let ending = Ending {
        billed: Usage {
            prompt_tokens: BILLED,
            completion_tokens: 0,
        },
        ttft_ms: 1,
        duration_ms: 2,
        summary: Value::Null,
    };
    let [floats, base64] = [VectorFormat::Float, VectorFormat::Base64].map(|format| {
        let body = gathered.openai("m", format, &ending).expect("it was taken");
        Answered::read(&body, wanted).expect("a client reads what it is told")
    });
    assert_eq!(floats, base64);
    let embed = gathered.ollama("m", &ending).expect("it was taken");
    let embed: Value = serde_json::from_slice(&embed).expect("it is JSON");
    assert_eq!(embed["embeddings"].as_array().map(Vec::len), Some(wanted));
    if wanted == 1 {
        let one = gathered.ollama_one(&ending).expect("it was taken");
        let one: Value = serde_json::from_slice(&one).expect("it is JSON");
        assert_eq!(one["embedding"], embed["embeddings"][0]);
    }
    Some(floats)
}
