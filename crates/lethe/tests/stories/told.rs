//! What the dashboard reads is what the OpenAPI document says: of it the page's types are made.

use serde_json::{Value, json};

use crate::document::Document;
use crate::process::{Client, Running, ended};
use crate::town::{MODEL, Town};

const UP: [&str; 5] = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];
const STRANGER: &str = "0x00000000000000000000000000000000000c0c0c";
/// Fields that come where something goes wrong or waits, and of what a demonstration does not have.
const ELSEWHERE: [&str; 15] = [
    "Card/revision",
    "Holding/places",
    "Holding/sum",
    "Holding/supply",
    "Holding/token",
    "Money/others",
    "Money/problems",
    "Money/warnings",
    "Place/since",
    "Place/unlocks_at",
    "Seller/behind/reached",
    "Seller/behind/relay",
    "State/kept/file",
    "Withdrawal/amount",
    "Withdrawal/initiated_at",
];

#[tokio::test]
async fn what_a_market_tells_is_what_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    let added = ["key", "add", "k", "--budget-per-day", "1", "--budget"];
    let made = ended(
        folder.path(),
        &[&added[..], &["lethe-demo=1", "--json"]].concat(),
    );
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let keyed = client.with_key(made["api_key"].as_str().unwrap());
    let answer = keyed.answered("lethe-demo", "What is a glacier?").await;
    let mut document = Document::of_the_node();
    document.check("Cost", &answer.tail);
    document.check("KeyList", &client.api("GET", "/api/keys").await);

    let mut events = client.get("/../api/events").await;
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n") {
        event.extend(events.chunk().await.unwrap().unwrap());
    }
    let events_told = std::str::from_utf8(&event).unwrap();
    let event = events_told.split_inclusive("\n\n").next().unwrap();
    document.check("StateEvent", &event.into());
    let state: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    document.check("State", &state);
    drop(events);
    document.check("State", &client.api("GET", "/api/state").await);
    document.check("Money", &client.api("POST", "/api/claim").await);
    document.check("Money", &client.api("GET", "/api/money").await);

    let asked = state["answers"][0]["route"].as_str().unwrap();
    let path = format!("/api/routes/{asked}");
    document.check("Route", &client.api("GET", &path).await);
    for demand in ["", "upstream=own-engine"] {
        let path = format!("/api/route?model=lethe-demo&demand={demand}");
        document.check("Route", &client.api("GET", &path).await);
    }

    for block in list(&client.api("GET", "/api/chain/blocks").await) {
        document.check("Block", &block);
        for line in list(&block["transactions"]) {
            let path = format!("/api/chain/find?for={}", line["hash"].as_str().unwrap());
            document.check("Found", &client.api("GET", &path).await);
        }
    }
    let channels = list(&client.api("GET", "/api/chain/channels").await);
    for channel in &channels {
        document.check("ChannelLine", channel);
    }
    let payer = channels[0]["config"]["payer"].as_str().unwrap();
    for name in [channels[0]["id"].as_str().unwrap(), payer, "1"] {
        let found = client
            .api("GET", &format!("/api/chain/find?for={name}"))
            .await;
        document.check("Found", &found);
    }
    let registered = client.api("GET", "/api/chain/registrations").await;
    document.check("Registrations", &registered);
    let body = json!({ "address": STRANGER });
    let (status, given) = client.post_at("/api/faucet", &body).await;
    assert_eq!(status, 200, "{given}");
    document.check("Given", &given);

    let all = [
        "State",
        "KeyList",
        "Money",
        "Block",
        "Found",
        "Registrations",
    ];
    let mut unseen = document.unseen(&all);
    // Of tokens beside MOR, and of rates that are read: `tokens.rs` plays those.
    let others = ["Funding/", "TokenFlows/", "UsdRate/at"];
    unseen.retain(|field| {
        let is_others = others.iter().any(|other| field.starts_with(other));
        !is_others && !ELSEWHERE.contains(&field.as_str())
    });
    assert!(unseen.is_empty(), "documented, and never told: {unseen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_and_a_consumer_tell_is_what_the_document_says() {
    let town = Town::start().await;
    let _selling = town.provider();
    let flags = [
        "--pay-with",
        "both",
        "--usd-rate",
        "mor=2",
        "--usd-rate",
        "usdc=1",
    ];
    let buying = town.consumer_with("consumer", &flags);
    let buying = Client::of(&buying);
    buying.answered(MODEL, "3").await;
    let mut document = Document::of_the_node();
    document.check("State", &buying.api("GET", "/api/state").await);
    assert!(document.unseen(&["Funding"]).is_empty());

    let folder = town.folder().join("provider");
    let running = std::fs::read(folder.join("running.json")).unwrap();
    let running: Value = serde_json::from_slice(&running).unwrap();
    let url = format!("{}api/state", running["dashboard_url"].as_str().unwrap());
    let key = std::fs::read_to_string(folder.join("api-key")).unwrap();
    let told = reqwest::Client::new().get(url).bearer_auth(key.trim());
    let told: Value = told.send().await.unwrap().json().await.unwrap();
    assert_eq!(told["sellers"][0]["counted"]["completed"], 1, "{told}");
    document.check("RoleState", &told);

    let url = format!("{}metrics", running["dashboard_url"].as_str().unwrap());
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 401);
    let page = reqwest::Client::new().get(url).bearer_auth(key.trim());
    let page = page.send().await.unwrap().text().await.unwrap();
    let labels = "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"lethe\",gen_ai_request_model=\"counting\"";
    for line in [
        "lethe_provider_answers_total{ending=\"complete\"} 1".to_owned(),
        "lethe_provider_backend_up{gen_ai_request_model=\"counting\"} 1".to_owned(),
        "lethe_provider_tokens_total{gen_ai_token_type=\"output\"} 3".to_owned(),
        format!("gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 1"),
        format!("gen_ai_server_request_duration_seconds_count{{{labels}}} 1"),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    assert!(
        page.contains("lethe_provider_earned_base_units{token="),
        "{page}"
    );
    let payer = buying.api("GET", "/api/state").await["wallet"].clone();
    assert!(!page.contains(payer.as_str().unwrap()), "{page}");
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}
