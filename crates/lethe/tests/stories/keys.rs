//! Keys of one gateway, each with what holds for its requests.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::process::{Client, PATIENCE, ended, lethe};
use crate::town::{MODEL, Town};

/// Makes a key.
fn added(data: &std::path::Path, args: &[&str]) -> String {
    let made = ended(data, &[&["key", "add", "--json"], args].concat());
    let problem = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{problem}");
    let told: Value = serde_json::from_slice(&made.stdout).unwrap();
    told["api_key"].as_str().unwrap().to_owned()
}

fn question(provider: Value) -> Value {
    json!({
        "model": MODEL, "provider": provider, "max_tokens": 3,
        "messages": [{ "role": "user", "content": "3" }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_for_a_key_holds_where_its_requests_say_nothing() {
    let nobody = "0x00000000000000000000000000000000000000aa";
    let town = Town::start().await;
    let provider = town.provider();
    let somebody = provider.said("provider");
    let data = town.folder().join("consumer");
    town.consumer().stop();
    let only = json!({ "only": [nobody] }).to_string();
    let elsewhere = added(&data, &["elsewhere", "--prefer", &only]);
    let sealed = added(&data, &["sealed", "--demand", "network=oblivious"]);
    let consumer = town.consumer();
    let own = Client::of(&consumer);
    own.answered(MODEL, "3").await;

    let refused = async |client: &Client, headers: &[(&str, &str)]| {
        let refused = client.ask_with(headers, &question(Value::Null)).await;
        assert_eq!(refused.status(), 412);
        refused.text().await.unwrap()
    };
    let client = own.with_key(&elsewhere);
    let told = refused(&client, &[]).await;
    assert!(told.to_lowercase().contains(nobody), "{told}");
    let over = question(json!({ "only": [somebody] }));
    assert_eq!(client.ask_with(&[], &over).await.status(), 200);

    // A demand of the key is not loosened by what a request says.
    let client = own.with_key(&sealed);
    for said in [&[][..], &[("x-lethe-demand", "network=direct")]] {
        let told = refused(&client, said).await;
        assert!(told.contains("network=oblivious"), "{told}");
    }
    // The page and the books are the node's own key's alone.
    let url = format!("/api/route?model={MODEL}");
    assert!(client.api("GET", &url).await["error"].is_object());

    let listed = ended(&data, &["key", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("sealed  demand: network=oblivious"),
        "{listed}"
    );
    assert!(
        !listed.contains(&sealed) && !listed.contains("lethe-"),
        "{listed}"
    );

    // The running node heeds what is changed.
    assert!(ended(&data, &["key", "remove", "sealed"]).status.success());
    let later = own.with_key(&added(&data, &["later"]));
    let deadline = Instant::now() + PATIENCE;
    while client.get("/models").await.status() != 401 || later.get("/models").await.status() != 200
    {
        assert!(Instant::now() < deadline, "the keys stay as they were");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(own.get("/models").await.status(), 200);
}

#[test]
fn a_node_does_not_start_with_defaults_that_it_does_not_understand() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api-keys.json");
    let hash = "0".repeat(64);
    let text =
        format!(r#"{{"keys":[{{"name":"a","sha256":"{hash}","provider":{{"sort":"speed"}}}}]}}"#);
    std::fs::write(&path, text).unwrap();
    let start = || {
        let args = ["consume", "--http", "127.0.0.1:0", "--json"];
        let ended = lethe(folder.path(), &args).output().unwrap();
        assert!(!ended.status.success());
        String::from_utf8(ended.stderr).unwrap()
    };
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    let told = start();
    assert!(
        told.contains("api-keys.json") && told.contains("644"),
        "{told}"
    );
    mode(0o600).unwrap();
    let told = start();
    assert!(
        told.contains(r#"key "a": provider.sort: "speed"; allowed: one of price"#),
        "{told}"
    );
    let refused = ended(folder.path(), &["key", "add", "b", "--failover", "maybe"]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    // What runs is not harmed by what is wrong: the file is as it was.
    assert!(std::fs::read_to_string(&path).unwrap().contains("speed"));
}

#[test]
fn a_key_that_would_open_nothing_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    let seller = folder.path().join("seller");
    std::fs::create_dir(&seller).unwrap();
    std::fs::write(seller.join("provider.sqlite"), "").unwrap();
    for data in [&none, &seller] {
        let refused = ended(data, &["key", "add", "alice"]);
        assert!(!refused.status.success() && refused.stdout.is_empty());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("`lethe consume --data DIR`"), "{said}");
        assert!(!data.join("api-keys.json").exists());
    }
    assert!(!none.exists());
}

/// A question whose answer has three tokens.
fn short_question() -> Value {
    json!({
        "model": MODEL, "max_tokens": 3,
        "messages": [{ "role": "user", "content": "3" }],
    })
}

/// What `lethe key list` says of a key's day: spent and held of its budget's first amount, in base units.
fn today(data: &std::path::Path, name: &str) -> (u128, u128) {
    let listed = ended(data, &["key", "list", "--json"]);
    let problem = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.success(), "{problem}");
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let keys = listed["keys"].as_array().unwrap().iter();
    let mut named = keys.filter(|key| key["name"] == name);
    let today = named.next().unwrap()["today"][0].clone();
    let figure = |field: &str| today[field].as_str().unwrap().parse().unwrap();
    (figure("spent"), figure("held"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_spends_no_more_than_its_budget_whatever_runs_at_a_time() {
    let town = Town::start().await;
    let _provider = town.provider();
    let data = town.folder().join("consumer");
    town.consumer().stop();
    // In units of 10^-18 MOR: one is a token, and a request here may come to some 400.
    let poor = added(&data, &["poor", "--budget-per-day", "0.0000000000000001"]);
    let one = ["one", "--budget", "counting=0.0000000000000007"];
    let one = added(&data, &one);
    let consumer = town.consumer();
    let own = Client::of(&consumer);
    own.answered(MODEL, "3").await;

    let asked = town.backend.asked();
    let client = own.with_key(&poor);
    let refused = client.ask_with(&[], &short_question()).await;
    assert_eq!(refused.status(), 402);
    // Tomorrow it would not fit either.
    assert!(!refused.headers().contains_key("retry-after"));
    let told: Value = refused.json().await.unwrap();
    assert_eq!(told["error"]["code"], "budget_spent");
    assert_eq!(told["error"]["type"], "insufficient_quota");
    let message = told["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("0.0000000000000001 MOR a day; 0 are spent"),
        "{message}"
    );
    assert!(message.contains("than a whole day's budget"), "{message}");
    let told = client.post_at("/v1/messages", &short_question()).await;
    assert_eq!(told.0, 402);
    assert_eq!(told.1["error"]["type"], "billing_error");
    let told = client.post_at("/api/chat", &short_question()).await;
    assert_eq!(told.0, 402);
    assert!(
        told.1["error"].as_str().unwrap().contains("a day"),
        "{}",
        told.1
    );
    assert_eq!(town.backend.asked(), asked);
    assert_eq!(today(&data, "poor"), (0, 0));

    // Of many at a time one fits, whichever; the others may come again.
    let client = own.with_key(&one);
    let question = short_question();
    let asking = (0..8).map(|_| client.ask_with(&[], &question));
    let answers = futures_util::future::join_all(asking).await;
    let mut good = 0;
    for answer in answers {
        match answer.status().as_u16() {
            200 => good += 1,
            status => {
                assert_eq!(status, 429);
                let told: Value = answer.json().await.unwrap();
                assert_eq!(told["error"]["code"], "budget_held");
            }
        }
    }
    assert!(good >= 1);
    let spent = 12 * good;
    assert_eq!(today(&data, "one"), (spent, 0));

    // Killed within an answer: until its receipt is there it counts with all that it may cost.
    let mut long = short_question();
    (long["max_tokens"], long["stream"]) = (40.into(), true.into());
    long["messages"][0]["content"] = crate::town::LONG.into();
    let mut running = client.ask_with(&[], &long).await;
    crate::town::read_tokens(&mut running, 5).await;
    consumer.kill();
    let (after, held) = today(&data, "one");
    assert_eq!(after, spent);
    assert!(held > 200, "{held}");
    let consumer = town.consumer();
    let own = Client::of(&consumer);
    assert_eq!(today(&data, "one"), (spent, held));
    own.answered(MODEL, "3").await;
    let deadline = Instant::now() + PATIENCE;
    while today(&data, "one").1 > 0 {
        assert!(Instant::now() < deadline, "it stays held");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (after, _) = today(&data, "one");
    assert!((spent + 9 + 5..=spent + held).contains(&after), "{after}");
    consumer.stop();
    assert_eq!(today(&data, "one"), (after, 0));
}
