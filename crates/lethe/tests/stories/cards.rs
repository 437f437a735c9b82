//! One name, several models: what exactly is meant is said, and an answer
//! stays with it.

use std::path::PathBuf;
use std::time::Duration;

use market::Card;
use serde_json::{Value, json};

use crate::failover::{counted, provider_with, read};
use crate::process::{Client, PATIENCE, Running};
use crate::town::{MODEL, Town};

/// The client counts to here.
const TO: u32 = 400;

fn card(quantization: &str) -> Card {
    let text = json!({ "repo": "example/counting", "quantization": quantization });
    Card::read(&text.to_string()).unwrap()
}

fn written(town: &Town, name: &str, card: &Card) -> PathBuf {
    let path = town.folder().join(name);
    std::fs::write(&path, serde_json::to_vec(card).unwrap()).unwrap();
    path
}

fn question(model: &str, to: u32) -> Value {
    json!({
        "model": model, "stream": true, "temperature": 0,
        "messages": [{ "role": "user", "content": to.to_string() }],
    })
}

/// Waits until so many entries and live providers are listed.
async fn listed(client: &Client, entries: usize, providers: u64) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let list: Value = client.get("/models").await.json().await.unwrap();
        let list = list["data"].as_array().unwrap().clone();
        let live = list.iter().filter_map(|entry| entry["providers"].as_u64());
        if list.len() == entries && live.sum::<u64>() == providers {
            return list;
        }
        assert!(tokio::time::Instant::now() < deadline, "{list:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn is_from(response: &reqwest::Response, provider: &Running) -> bool {
    let from = response.headers()["x-lethe-provider"].to_str().unwrap();
    from.eq_ignore_ascii_case(&provider.said("provider"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_two_cards_must_be_told_apart_and_no_answer_goes_from_one_to_the_other() {
    let town = Town::start().await;
    let (fine, coarse) = (card("int8"), card("int4"));
    let fine_file = written(&town, "fine.json", &fine);
    let coarse_file = written(&town, "coarse.json", &coarse);
    let start = async |folder, price, card: &PathBuf| {
        let flags = ["--card", card.to_str().unwrap(), "--heeds", "temperature"];
        provider_with(&town, folder, &town.backend, price, &flags).await
    };
    let first = start("first", "0.0000000000002", &fine_file).await;
    let second = start("second", "0.000000000001", &fine_file).await;
    let other = start("other", "0.0000000000001", &coarse_file).await;
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    let list = listed(&client, 2, 3).await;

    let fine_name = format!("{MODEL}@{}", fine.id().prefix());
    let coarse_name = format!("{MODEL}@{}", coarse.id().prefix());
    let entry = |name: &str| list.iter().find(|entry| entry["id"] == name).unwrap();
    assert_eq!(entry(&fine_name)["providers"], 2);
    assert_eq!(entry(&fine_name)["card"], json!(fine));
    assert_eq!(entry(&coarse_name)["quantization"], "int4");

    let refused = client.ask(MODEL, "3").await;
    assert_eq!(refused.status(), 400);
    let text = refused.text().await.unwrap();
    for part in [
        "model_ambiguous",
        &fine_name,
        &coarse_name,
        "example/counting",
        "int8",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // A card that nobody has does not come by waiting.
    let refused = client.ask(&format!("{MODEL}@0123456789ab"), "3").await;
    assert_eq!(refused.status(), 404);
    let text = refused.text().await.unwrap();
    for part in ["model_not_found", &fine_name, &coarse_name] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let response = client.ask(&coarse_name, "3").await;
    assert!(is_from(&response, &other));
    let mut body = question(&format!("{MODEL}@{}", fine.id()), TO);
    body["provider"] =
        json!({ "quantizations": ["int8"], "require_parameters": true, "sort": "price" });
    let response = client.ask_with(&[], &body).await;
    assert!(is_from(&response, &first), "{response:?}");
    let name = second.said("provider").to_lowercase();
    let answer = read(response, 50, move || first.kill()).await;
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text, counted(TO));
    let parts = answer.tail["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{}", answer.tail);
    let went_on = parts[1]["provider"].as_str().unwrap().to_lowercase();
    assert_eq!(went_on, name, "not the cheaper one of another card");

    // Nobody is left who has this card.
    let response = client.ask_with(&[], &question(&fine_name, TO)).await;
    assert!(is_from(&response, &second), "{response:?}");
    let answer = read(response, 50, move || second.kill()).await;
    assert!(!answer.done);
    assert!(counted(TO).starts_with(&answer.text), "{}", answer.text);
    let status = client.ask(&fine_name, "3").await.status();
    assert!(status.is_server_error(), "{status}");
    let told = client
        .api("GET", &format!("/api/route?model={MODEL}"))
        .await;
    assert_eq!(told["choices"].as_array().unwrap().len(), 2, "{told}");
    let response = client.ask(&coarse_name, "3").await;
    assert!(is_from(&response, &other));
}
