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
