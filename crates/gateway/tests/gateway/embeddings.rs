//! Vectors through the gateway: in the form that was asked for, whole or not at all.

use consumer::InferError;
use market::{Card, Kind};
use openai::Request;
use openai::embeddings::chunks;
use serde_json::{Value, json};

use crate::scripted::{Hand, ROUTE, Town, model};
use crate::wire::Wire;

const ASK: &str = r#"{"model":"m","input":["a","b"]}"#;

async fn post(town: &Town, path: &str, body: &str) -> Wire {
    let mut wire = town.connect().await;
    let length = body.len();
    wire.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire
}

async fn asked(town: &Town, path: &str, body: &str) -> (u16, Value) {
    let (status, text) = post(town, path, body).await.answer().await;
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
    (status, json)
}

async fn give(hand: &Hand, row: Vec<f32>) {
    for chunk in chunks(&[row], Some(4)) {
        hand.chunk(core::str::from_utf8(&chunk).unwrap()).await;
    }
}

async fn two_rows(town: &Town) {
    let hand = town.plan();
    give(&hand, vec![1.0, 0.1]).await;
    give(&hand, vec![2.0, 0.2]).await;
    hand.end().await;
}

#[tokio::test]
async fn vectors_come_as_numbers_or_as_their_bytes_with_labels_and_cost() {
    let town = Town::open().await;
    two_rows(&town).await;
    let mut wire = post(&town, "/v1/embeddings", ASK).await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("x-lethe-route")), (200, ROUTE));
    assert!(head.header("x-lethe-labels").contains("network=oblivious"));
    let whole: Value = serde_json::from_str(&wire.body(&head).await).unwrap();
    assert_eq!(
        whole["data"],
        json!([
            { "object": "embedding", "index": 0, "embedding": [1.0, 0.1] },
            { "object": "embedding", "index": 1, "embedding": [2.0, 0.2] },
        ])
    );
    assert_eq!(
        whole["usage"],
        json!({ "prompt_tokens": 8, "total_tokens": 8 })
    );
    assert_eq!(
        (&whole["model"], &whole["lethe"]["cost"]),
        (&json!("m"), &json!("11"))
    );

    two_rows(&town).await;
    let body = r#"{"model":"m","input":["a","b"],"encoding_format":"base64","user":"u"}"#;
    let (status, whole) = asked(&town, "/v1/embeddings", body).await;
    assert_eq!(
        (status, &whole["data"][0]["embedding"]),
        (200, &json!("AACAP83MzD0="))
    );
    let wanted = town.market.asked.lock().unwrap();
    assert!(matches!(&wanted[0], Request::Embeddings(asked) if asked.inputs() == 2));
}

#[tokio::test]
async fn ollamas_clients_get_theirs() {
    let town = Town::open().await;
    two_rows(&town).await;
    let (status, whole) = asked(&town, "/api/embed", ASK).await;
    assert_eq!(
        (status, &whole["embeddings"]),
        (200, &json!([[1.0, 0.1], [2.0, 0.2]]))
    );
    assert_eq!(whole["prompt_eval_count"], 8);
    let hand = town.plan();
    give(&hand, vec![3.0]).await;
    hand.end().await;
    let (status, whole) = asked(&town, "/api/embeddings", r#"{"model":"m","prompt":"a"}"#).await;
    assert_eq!((status, &whole["embedding"]), (200, &json!([3.0])));
    let mut embedder = model("m", true);
    let card = Card::read(r#"{"repo":"a/b","modality":"text->embeddings"}"#);
    embedder.card = Some(card.unwrap());
    *town.market.models.lock().unwrap() = vec![embedder];
    let (status, whole) = asked(&town, "/api/embed", r#"{"model":"m","input":""}"#).await;
    assert_eq!((status, &whole["embeddings"]), (200, &json!([])));
    let (_, whole) = asked(&town, "/api/show", r#"{"model":"m"}"#).await;
    assert_eq!(whole["capabilities"], json!(["embedding"]));
    let (_, text) = town.get("/v1/models").await;
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["data"][0]["kind"], "embeddings");
    assert_eq!(
        list["data"][0]["architecture"],
        json!({ "modality": "text->embeddings", "input_modalities": ["text"], "output_modalities": ["embeddings"] })
    );
}

#[tokio::test]
async fn what_does_not_come_whole_is_an_error_in_the_dialect() {
    let town = Town::open().await;
    let hand = town.plan();
    give(&hand, vec![1.0]).await;
    hand.break_off().await;
    let (status, whole) = asked(&town, "/v1/embeddings", ASK).await;
    assert_eq!(
        (status, &whole["error"]["code"]),
        (502, &json!("answer_broken"))
    );
    let hand = town.plan();
    give(&hand, vec![1.0]).await;
    give(&hand, vec![1.0, 2.0]).await;
    let (status, whole) = asked(&town, "/api/embed", ASK).await;
    assert_eq!(status, 502, "{whole}");
    assert!(whole["error"].is_string(), "{whole}");
    for (path, body) in [
        ("/v1/embeddings", r#"{"model":"m","input":[1,2]}"#),
        ("/api/embed", r#"{"model":"m","input":[1,2]}"#),
        ("/api/embeddings", r#"{"model":"m","prompt":7}"#),
    ] {
        let (status, whole) = asked(&town, path, body).await;
        assert_eq!(status, 400, "{path}: {whole}");
        assert_eq!(
            whole["error"].is_string(),
            path.starts_with("/api"),
            "{whole}"
        );
    }
    for (asked_for, is, there) in [
        (Kind::Chat, Kind::Embeddings, "POST /v1/embeddings"),
        (Kind::Embeddings, Kind::Chat, "POST /v1/chat/completions"),
    ] {
        let model = "m".to_owned();
        town.plan_failure(InferError::OtherKind {
            model,
            is,
            asked: asked_for,
        });
        let (status, whole) = asked(&town, "/v1/embeddings", ASK).await;
        let error = &whole["error"];
        assert_eq!(
            (status, &error["code"], &error["param"]),
            (400, &json!("model_kind"), &json!("model"))
        );
        assert!(
            error["message"].as_str().unwrap().contains(there),
            "{error}"
        );
    }
}
