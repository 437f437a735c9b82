//! The HTTP backend against a server that answers whatever it is told, byte
//! by byte: every fault has its name, and a dropped answer is a closed connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, Options};
use futures_util::StreamExt;
use provider::{
    Backend, BackendError, BackendFailure, EngineBackend, Found, OpenAiBackend, OpenAiConfig,
    detect_at,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use transport::message::FromProvider;

use crate::world::{NOW, STEP, World, input, until};

const CHUNK: &str = r#"data: {"id":"x","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;

/// A server that says the same to everybody.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Says `answer`; then closes, or holds the connection until the client goes.
    pub(crate) async fn says(answer: impl Into<Vec<u8>>, holds: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let (answer, counted) = (Arc::new(answer.into()), Arc::clone(&open));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, open) = (Arc::clone(&answer), Arc::clone(&counted));
                connections.spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    // A client that goes while we speak is part of the play.
                    let _ = converse(stream, &answer, holds).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            open,
            _tasks: tasks,
        }
    }

    pub(crate) fn backend(&self) -> OpenAiBackend {
        backend(&format!("http://{}", self.address))
    }
}

async fn converse(mut stream: TcpStream, answer: &[u8], holds: bool) -> std::io::Result<()> {
    let mut head = vec![0; 4096];
    let mut read = 0;
    while !String::from_utf8_lossy(&head[..read]).contains("\r\n\r\n") {
        match stream.read(&mut head[read..]).await? {
            0 => return Ok(()),
            more => read += more,
        }
    }
    stream.write_all(answer).await?;
    if holds {
        while stream.read(&mut head).await? > 0 {}
    }
    Ok(())
}

fn backend(url: &str) -> OpenAiBackend {
    // Once for the process; whoever was first is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = OpenAiConfig {
        api_key: Some("secret".into()),
        first_chunk_within: Duration::from_millis(300),
        stall_after: Duration::from_millis(100),
        ..OpenAiConfig::new(url)
    };
    OpenAiBackend::new(config).unwrap()
}

/// An answer as a stream of these events, the connection closed at its end.
fn events(events: &[&str]) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    format!("{head}{}", events.concat())
}

pub(crate) fn refusal(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

async fn chat(backend: &OpenAiBackend) -> Result<(usize, Option<BackendFailure>), BackendError> {
    let mut stream = backend.chat(Bytes::from_static(b"{}")).await?;
    let mut chunks = 0;
    while let Some(next) = stream.next().await {
        match next {
            Ok(_) => chunks += 1,
            Err(failure) => return Ok((chunks, Some(failure))),
        }
    }
    Ok((chunks, None))
}

/// Chunks that came, and how it ended in words.
async fn ending(answer: String, holds: bool) -> (usize, String) {
    let server = Server::says(answer, holds).await;
    let (chunks, failure) = chat(&server.backend()).await.unwrap();
    let words = failure.map_or_else(|| "complete".to_owned(), |failure| failure.to_string());
    (chunks, words)
}

#[tokio::test]
async fn an_answer_is_complete_when_the_server_says_so() {
    let chunk = format!("{CHUNK}\n\n");
    for answer in [
        events(&[&chunk, &chunk, "data: [DONE]\n\n"]),
        events(&[": hi\r\n\r\n", &chunk, &chunk, "data: [DONE]\r\n\r\n"]),
    ] {
        assert_eq!(ending(answer, false).await, (2, "complete".to_owned()));
    }
}

#[tokio::test]
async fn every_way_to_break_off_has_its_name() {
    let chunk = format!("{CHUNK}\n\n");
    let half = &chunk[..chunk.len() / 2];
    let error = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    let endless = format!("data: {}", "a".repeat(2 * 1024 * 1024));
    for (answer, chunks, expected) in [
        (events(&[&chunk]), 1, "ended without saying"),
        (events(&[&chunk, half]), 1, "not an answer"),
        (events(&[&chunk, "data: {]\n\n"]), 1, "not an answer"),
        (events(&[&endless]), 0, "not an answer"),
        (events(&[&chunk, error]), 1, "reported an error"),
    ] {
        let (got, words) = ending(answer, false).await;
        assert!(words.contains(expected), "{expected}: {words}");
        assert_eq!(got, chunks, "{expected}");
    }
    for (answer, chunks) in [(events(&[&chunk]), 1), (events(&[]), 0)] {
        let (got, words) = ending(answer, true).await;
        assert!(words.contains("sent nothing"), "{words}");
        assert_eq!(got, chunks);
    }
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_is_broken() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n";
    let server = Server::says(format!("{head}{CHUNK}\n\n"), false).await;
    let (chunks, failure) = chat(&server.backend()).await.unwrap();
    assert_eq!(chunks, 1);
    assert!(
        matches!(failure, Some(BackendFailure::Broken(_))),
        "{failure:?}"
    );
}

#[tokio::test]
async fn refusals_are_told_apart_and_keys_are_not_repeated() {
    let body = r#"{"error":{"message":"key secret: no such thing"}}"#;
    let error = |status: &'static str, headers: &'static str| async move {
        let server = Server::says(refusal(status, headers, body), false).await;
        chat(&server.backend()).await.unwrap_err()
    };
    for status in ["400 Bad Request", "413 Too Large", "422 Unprocessable"] {
        let error = error(status, "").await;
        assert!(
            matches!(&error, BackendError::Request { message } if message.contains("status 4"))
        );
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let error = error(status, "").await;
        assert!(
            matches!(error, BackendError::Misconfigured { .. }),
            "{error:?}"
        );
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    for (status, headers, seconds) in [
        ("429 Too Many", "retry-after: 7\r\n", Some(7)),
        ("503 Unavailable", "", None),
        ("503 Unavailable", "retry-after: soon\r\n", None),
    ] {
        let error = error(status, headers).await;
        let expected = seconds.map(Duration::from_secs);
        assert!(matches!(error, BackendError::Busy { retry_after } if retry_after == expected));
    }
    assert!(matches!(
        error("500 Oh", "").await,
        BackendError::Failed { status: 500 }
    ));
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_answer_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = Server::says("", true).await;
    assert!(matches!(
        chat(&silent.backend()).await,
        Err(BackendError::Timeout { .. })
    ));
    drop(listener);
    let gone = backend(&format!("http://{address}"));
    assert!(matches!(
        chat(&gone).await,
        Err(BackendError::Unreachable(_))
    ));
    assert!(matches!(
        gone.check().await,
        Err(BackendError::Unreachable(_))
    ));
}

/// A server may not use the time for its head and then the same again for its first chunk.
#[tokio::test]
async fn the_first_chunk_has_one_limit_from_the_request_on() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let backend = backend(&url);
    let begun = tokio::time::Instant::now();
    let slow = async {
        let (mut stream, _) = server.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        stream.write_all(events(&[]).as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Until the client goes.
        let _ = stream.read_to_end(&mut rest).await;
    };
    let asking = async {
        let (chunks, failure) = chat(&backend).await.unwrap();
        assert_eq!(chunks, 0);
        assert!(
            matches!(failure, Some(BackendFailure::Stalled { .. })),
            "{failure:?}"
        );
    };
    tokio::join!(slow, asking);
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(500), "{waited:?}");
}

#[test]
fn no_server_is_waited_for_longer_than_a_consumer_waits() {
    for (seconds, taken) in [(0, false), (1, true), (90, true), (91, false)] {
        let config = OpenAiConfig {
            first_chunk_within: Duration::from_secs(seconds),
            ..OpenAiConfig::new("http://127.0.0.1:1")
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let backend = OpenAiBackend::new(config);
        assert_eq!(backend.is_ok(), taken, "{seconds} s");
        if let Err(error) = backend {
            let told = error.to_string();
            assert!(
                told.contains("first_chunk_within") && told.contains("90 s"),
                "{told}"
            );
        }
    }
}

#[tokio::test]
async fn a_dropped_answer_closes_the_connection() {
    let server = Server::says(events(&[CHUNK, "\n\n"]), true).await;
    let backend = server.backend();
    let mut stream = backend.chat(Bytes::from_static(b"{}")).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(_))));
    assert_eq!(server.open.load(Ordering::SeqCst), 1);
    drop(stream);
    until("the connection is closed", || {
        server.open.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn the_embedded_engine_answers_through_the_whole_provider() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/model/demo.gguf");
    let engine = Engine::open(model.as_ref(), Options::default()).unwrap();
    let backend = Arc::new(EngineBackend::new(engine, Arc::new(|| NOW)));
    let world = World::new();
    let selling = world
        .sells(backend, |config| {
            config.offers[0].output_tokens_max = Some(8)
        })
        .await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    let Some(FromProvider::Chunk { tokens: 0, json }) = talk.hears().await else {
        panic!("the role comes first");
    };
    let first: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(first["created"], NOW.0);
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let whole = talk.reads_on(Some(0)).await;
    assert_eq!(whole.failure, None);
    let receipt = whole.receipt.receipt;
    assert!((1..=8).contains(&receipt.output_tokens), "{receipt:?}");
    assert!(receipt.input_tokens > 0, "the engine counts the request");
}

#[tokio::test]
async fn servers_on_this_machine_are_found() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let list = r#"{"object":"list","data":[{"id":"llama"},{"id":"qwen","owned_by":"me"}]}"#;
    let server = Server::says(refusal("200 OK", "", list), false).await;
    let named = r#"{"data":[{"id":"llama","owned_by":"vllm"}]}"#;
    let named = Server::says(refusal("200 OK", "", named), false).await;
    let ollama = r#"{"data":[],"version":"0.13.0"}"#;
    let ollama = Server::says(refusal("200 OK", "", ollama), false).await;
    let other = Server::says(refusal("200 OK", "", "<html>"), false).await;
    let elsewhere = "192.0.2.1:80".parse().unwrap();
    let here = [&server, &other, &named, &ollama].map(|server| server.address);
    let found = detect_at(here.into_iter().chain([elsewhere]).collect()).await;
    let expected = |name: &str, server: &Server, models: &[&str]| Found {
        name: name.into(),
        url: format!("http://{}/v1", server.address),
        models: models.iter().map(|model| (*model).to_owned()).collect(),
    };
    // The port says nothing: one that does not say what it is is just a server.
    let expected = [
        expected("a server", &server, &["llama", "qwen"]),
        expected("vLLM", &named, &["llama"]),
        expected("Ollama", &ollama, &[]),
    ];
    assert_eq!(found, expected);
}
