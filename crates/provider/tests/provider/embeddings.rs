//! Vectors: what a server has to answer with them, and what is sold and billed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use market::{Card, InputBound, Outcome};
use openai::EmbeddingsRequest;
use openai::embeddings::Rows;
use provider::{Backend, BackendError, Line, OpenAiBackend, OpenAiConfig, Script, ScriptedBackend};
use transport::message::{FromProvider, Reason};

use crate::backends::{Server, refusal};
use crate::world::{Buyer, Selling, World};

const CARD: &str = r#"{"repo":"owner/name","modality":"text->embeddings"}"#;
const BODY: &str = r#"{"model":"m","input":["one","two","three"]}"#;

fn request(texts: usize) -> EmbeddingsRequest {
    let texts = vec!["\"a\""; texts].join(",");
    let body = format!(r#"{{"model":"m","input":[{texts}]}}"#);
    EmbeddingsRequest::parse(body.into()).unwrap()
}

/// What a server is taken for that says this to a request of two texts: how
/// many vectors came, and how it ended.
async fn told(status: &str, body: &str) -> Result<(usize, String), BackendError> {
    let server = Server::says(refusal(status, "", body), false).await;
    let request = request(2);
    let mut rows = Rows::of(&request);
    let mut stream = server.backend().embed(request).await?;
    let mut came = 0;
    while let Some(next) = stream.next().await {
        match next {
            Ok(chunk) => came += rows.take(&chunk.json).unwrap().rows,
            Err(failure) => return Ok((came, failure.to_string())),
        }
    }
    Ok((came, "complete".to_owned()))
}

#[tokio::test]
async fn a_server_has_to_answer_with_a_vector_for_each_text() {
    let whole = r#"{"data":[{"index":1,"embedding":[1,2]},{"index":0,"embedding":[3,4]}]}"#;
    assert_eq!(told("200 OK", whole).await.unwrap(), (2, "complete".into()));
    for body in [
        "",
        "<html>",
        r#"{"data":[]}"#,
        r#"{"data":[{"index":0,"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#,
    ] {
        let (came, ending) = told("200 OK", body).await.unwrap();
        assert_eq!(
            (came, &*ending),
            (0, "the backend sent what is not an answer"),
            "{body}"
        );
    }
    let error = r#"{"error":{"message":"input is too long for the context size"}}"#;
    let refused = told("400 Bad Request", error).await.unwrap_err();
    assert!(
        matches!(refused, BackendError::Request { ref message } if message.contains("context")),
        "{refused}"
    );
    let busy = told("503 Service Unavailable", "").await.unwrap_err();
    assert!(matches!(busy, BackendError::Busy { .. }), "{busy}");
    let absent = told("404 Not Found", "").await.unwrap_err();
    assert!(
        matches!(absent, BackendError::Misconfigured { status: 404 }),
        "{absent}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let server = Server::says("", true).await;
    let config = OpenAiConfig {
        first_chunk_within: Duration::from_millis(100),
        ..OpenAiConfig::new(format!("http://{}", server.address))
    };
    let asked = OpenAiBackend::new(config).unwrap().embed(request(1)).await;
    assert!(matches!(asked, Err(BackendError::Timeout { .. })));
}

async fn sells(world: &World, script: Script) -> Selling {
    let backend = Arc::new(ScriptedBackend::new(script));
    let card = Card::read(CARD).unwrap();
    world
        .sells(backend, |config| config.offers[0].card = Some(card))
        .await
}

/// What the input of a body is reckoned at.
fn estimate() -> u128 {
    InputBound::of_body(BODY.len()).estimate.into()
}

/// The vectors that come of a request, its receipt and its failure.
async fn bought(buyer: &Buyer, selling: &Selling) -> (usize, u32, u32, Outcome) {
    let mut infer = buyer.request(selling.model, estimate());
    infer.body = Bytes::from_static(BODY.as_bytes());
    let mut talk = buyer.send(&selling.to, infer).await;
    talk.begins().await;
    let mut rows = Rows::of(&EmbeddingsRequest::parse(BODY.into()).unwrap());
    let mut came = 0;
    loop {
        match talk.hears().await {
            Some(FromProvider::Chunk { tokens, json }) => {
                assert_eq!(tokens, 0, "vectors are no tokens");
                came += rows.take(&json).unwrap().rows;
            }
            Some(FromProvider::End { receipt, .. }) => {
                let receipt = receipt.receipt;
                return (
                    came,
                    receipt.input_tokens,
                    receipt.output_tokens,
                    receipt.outcome,
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_was_read_is_billed_and_vectors_are_not() {
    let world = World::new();
    let selling = sells(&world, Script::vectors()).await;
    let buyer = world.buyer(10_000).await;
    assert_eq!(bought(&buyer, &selling).await, (3, 3, 0, Outcome::Complete));
}

#[tokio::test]
async fn what_the_backend_breaks_off_costs_nothing() {
    let world = World::new();
    let lines = vec![Line::Vectors(2), Line::Break];
    let selling = sells(
        &world,
        Script {
            lines,
            ..Script::default()
        },
    )
    .await;
    let buyer = world.buyer(10_000).await;
    assert_eq!(bought(&buyer, &selling).await, (2, 0, 0, Outcome::Failed));
}

#[tokio::test]
async fn a_body_of_the_other_kind_is_refused_with_the_kind() {
    let world = World::new();
    let selling = sells(&world, Script::vectors()).await;
    let buyer = world.buyer(10_000).await;
    let asked = buyer.asks(&selling, 1000).await.refused().await;
    assert_eq!(asked.reason, Reason::Request);
    assert!(
        asked.message.contains("this model is for embeddings"),
        "{}",
        asked.message
    );
    let world = World::new();
    let (selling, _) = world.sells_script(Script::default()).await;
    let buyer = world.buyer(10_000).await;
    let mut infer = buyer.request(selling.model, 1000);
    infer.body = Bytes::from_static(BODY.as_bytes());
    let asked = buyer.send(&selling.to, infer).await.refused().await;
    assert!(
        asked.message.contains("this model is for chat"),
        "{}",
        asked.message
    );
}
