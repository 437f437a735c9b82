//! Embeddings: every text gets its vector, all of one card, paid by what was read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::backend::{Counting, vector};
use crate::process::{Client, PATIENCE, Running};
use crate::town::{MODEL, PRICE, Town};

const EMBEDDER: &str = "vectors";
/// More than are asked of a backend together.
const TEXTS: usize = 70;

fn texts() -> Vec<String> {
    (0..TEXTS)
        .map(|n| format!("text number {n} · {n}é"))
        .collect()
}

/// A provider of vectors with this card.
fn embedder(town: &Town, folder: &str, backend: &Counting, price: &str, repo: &str) -> Running {
    let path = town.folder().join(format!("{folder}.json"));
    let card = json!({ "repo": repo, "modality": "text->embeddings" });
    std::fs::write(&path, card.to_string()).unwrap();
    let mut args = town.provider_args(backend, price);
    for arg in &mut args {
        if arg == MODEL {
            EMBEDDER.clone_into(arg);
        }
    }
    let args = args.iter().map(String::as_str);
    let args: Vec<_> = args.chain(["--card", path.to_str().unwrap()]).collect();
    Running::start(&town.folder().join(folder), &args)
}

/// Waits until so many live providers are listed.
async fn listed(client: &Client, providers: u64) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let list: Value = client.get("/models").await.json().await.unwrap();
        let list = list["data"].as_array().unwrap().clone();
        let live = list.iter().filter_map(|entry| entry["providers"].as_u64());
        if live.sum::<u64>() == providers {
            return list;
        }
        assert!(tokio::time::Instant::now() < deadline, "{list:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn floats(embedding: &Value) -> Vec<f32> {
    serde_json::from_value(embedding.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_text_gets_its_vector_and_what_was_read_is_paid() {
    let town = Town::start().await;
    let _embedder = embedder(&town, "embedder", &town.backend, PRICE, "example/vectors");
    let _chat = town.provider();
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    let list = listed(&client, 2).await;
    let entry = list.iter().find(|entry| entry["id"] == EMBEDDER).unwrap();
    assert_eq!(entry["kind"], "embeddings", "{entry}");
    assert_eq!(
        entry["architecture"]["output_modalities"],
        json!(["embeddings"])
    );

    let texts = texts();
    let ask = json!({ "model": EMBEDDER, "input": texts });
    let (status, answer) = client.post_at("/v1/embeddings", &ask).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["model"], EMBEDDER);
    assert_eq!(
        answer["usage"],
        json!({ "prompt_tokens": TEXTS, "total_tokens": TEXTS })
    );
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), TEXTS);
    for (n, row) in data.iter().enumerate() {
        assert_eq!(row["index"], n);
        assert_eq!(floats(&row["embedding"]), vector(&texts[n]), "{n}");
    }
    // One unit a token, and none for what comes out.
    let receipt = &answer["lethe"];
    assert_eq!(receipt["cost"], TEXTS.to_string(), "{receipt}");
    assert_eq!(receipt["output_tokens"], 0, "{receipt}");

    let ask = json!({ "model": EMBEDDER, "input": "one", "encoding_format": "base64" });
    let (status, answer) = client.post_at("/v1/embeddings", &ask).await;
    assert_eq!(status, 200, "{answer}");
    let bytes = STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap());
    let expected: Vec<u8> = vector("one").iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(bytes.unwrap(), expected);

    let ask = json!({ "model": EMBEDDER, "input": ["a", "b"] });
    let (status, answer) = client.post_at("/api/embed", &ask).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(floats(&answer["embeddings"][1]), vector("b"));
    let ask = json!({ "model": EMBEDDER, "prompt": "c" });
    let (_, answer) = client.post_at("/api/embeddings", &ask).await;
    assert_eq!(floats(&answer["embedding"]), vector("c"), "{answer}");
    let (_, shown) = client
        .post_at("/api/show", &json!({ "model": EMBEDDER }))
        .await;
    assert_eq!(shown["capabilities"], json!(["embedding"]), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_only_for_what_it_is_for() {
    let town = Town::start().await;
    let _embedder = embedder(&town, "embedder", &town.backend, PRICE, "example/vectors");
    let _chat = town.provider();
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    listed(&client, 2).await;
    let before = town.backend.asked();
    let chat = json!({ "model": EMBEDDER, "messages": [{ "role": "user", "content": "hi" }] });
    let embed = json!({ "model": MODEL, "input": "hi" });
    for (path, body, told) in [
        (
            "/v1/chat/completions",
            chat,
            "is for embeddings, not for chat; ask it at POST /v1/embeddings",
        ),
        ("/v1/embeddings", embed, "is for chat, not for embeddings"),
    ] {
        let (status, answer) = client.post_at(path, &body).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(answer["error"]["code"], "model_kind", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{message}");
    }
    assert_eq!(town.backend.asked(), before, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_comes_from_another_provider_of_the_same_card_and_no_other() {
    let town = Town::start().await;
    // The cheapest falls silent after its first batch.
    let silent = Counting::silent_after(1).await;
    let cheap = "0.0000000000005";
    let _first = embedder(&town, "first", &silent, cheap, "example/vectors");
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    listed(&client, 1).await;
    let other = embedder(&town, "other", &town.backend, cheap, "example/others");
    let list = listed(&client, 2).await;
    let of = |repo: &str| {
        let named = |entry: &&Value| entry["card"]["repo"] == repo;
        list.iter().find(named).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let model = of("example/vectors");
    let ask = json!({ "model": model, "input": texts() });
    let (status, answer) = client.post_at("/v1/embeddings", &ask).await;
    assert_eq!(status, 502, "nobody of the other card goes on: {answer}");
    other.kill();

    let silent = Counting::silent_after(1).await;
    let _first = embedder(&town, "again", &silent, cheap, "example/vectors");
    let second = embedder(&town, "second", &town.backend, PRICE, "example/vectors");
    let second = second.said("provider");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (status, answer) = client.post_at("/v1/embeddings", &ask).await;
        let parts = answer["lethe"]["parts"].as_array().map_or(0, Vec::len);
        if status == 200 {
            let data = answer["data"].as_array().unwrap();
            assert_eq!(data.len(), TEXTS);
            for (row, text) in data.iter().zip(texts()) {
                assert_eq!(floats(&row["embedding"]), vector(&text));
            }
            let last = answer["lethe"]["provider"].as_str().unwrap();
            assert!(last.eq_ignore_ascii_case(&second), "{answer}");
            assert_eq!(answer["usage"]["prompt_tokens"], TEXTS);
        }
        if parts > 1 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
