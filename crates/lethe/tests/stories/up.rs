//! The main story: one command, a paid answer, every unit accounted for.

use serde_json::Value;

use crate::process::{Client, Running, ended};

const UP: [&str; 5] = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];

fn units(money: &Value, label: &str) -> u128 {
    let places = money["places"].as_array().unwrap();
    let found = places
        .iter()
        .filter(|place| place["label"].as_str().unwrap().contains(label));
    found
        .map(|place| place["amount"].as_str().unwrap().parse::<u128>().unwrap())
        .sum()
}

#[tokio::test]
async fn one_command_serves_paid_answers_and_accounts_for_every_unit() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);

    let models: Value = client.get("/models").await.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "lethe-demo");
    let before = client.api("GET", "/api/money").await;
    assert_eq!(before["complete"], true, "{before}");

    let answer = client.answered("lethe-demo", "What is a glacier?").await;
    assert!(
        answer.text.to_lowercase().contains("ice"),
        "{}",
        answer.text
    );
    assert!(answer.chunks > 3, "it did not come in pieces");
    let cost: u128 = answer.tail["cost"].as_str().unwrap().parse().unwrap();
    assert!(cost > 0);

    // Somebody stands by; no money moves after that.
    client.funded(2).await;
    // Billed: owed out of the channel; then claimed and settled: the provider's.
    let billed = client.api("GET", "/api/money").await;
    assert_eq!(billed["complete"], true, "{billed}");
    assert_eq!(units(&billed, ": owed"), cost);
    let wallets = units(&billed, ": wallet");
    let settled = client.api("POST", "/api/claim").await;
    assert_eq!(settled["complete"], true, "{settled}");
    assert_eq!(units(&settled, ": owed"), 0);
    assert_eq!(units(&settled, ": wallet"), wallets + cost);

    // The same after a restart, and it goes on.
    up.stop();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    let again = client.api("GET", "/api/money").await;
    assert_eq!(again, settled);
    let second = client.answered("lethe-demo", "What is a glacier?").await;
    assert_eq!(second.text, answer.text);
    let state = client.api("GET", "/api/state").await;
    assert_eq!(state["answers"].as_array().unwrap().len(), 2);

    let told = ended(folder.path(), &["where", "--json"]);
    assert!(told.status.success());
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["complete"], true);
}

#[tokio::test]
async fn who_pays_in_dollars_alone_finds_offers_in_dollars() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &[&UP[..], &["--pay-with", "usdc"]].concat());
    let client = Client::of(&up);
    let answer = client.answered("lethe-demo", "What is a glacier?").await;
    let dollar = chain::Network::local().tokens[1].address;
    assert_eq!(answer.tail["token"].as_str().unwrap().parse(), Ok(dollar));
    // As dear as for MOR: 2 dollars for 0.8 MOR, a million tokens of answer.
    let models: Value = client.get("/models").await.json().await.unwrap();
    let pricing = &models["data"][0]["pricing"];
    assert_eq!(pricing["output_per_million"], "2000000", "{pricing}");
    let money = client.api("GET", "/api/money").await;
    assert_eq!(money["complete"], true, "{money}");
}

#[tokio::test]
async fn the_page_is_served_and_its_data_needs_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let root = up.said("base_url").replace("/v1", "/");
    // The client installs the crypto provider.
    let _client = Client::of(&up);
    let page = reqwest::get(&root).await.unwrap();
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(page.text().await.unwrap().contains("page.js"));
    for path in [
        "api/state",
        "api/events",
        "api/money",
        "api/route?model=m",
        "api/routes/00",
        "api/chain/blocks",
        "api/chain/find?for=0",
        "api/chain/channels",
        "api/chain/registrations",
    ] {
        assert_eq!(
            reqwest::get(format!("{root}{path}"))
                .await
                .unwrap()
                .status(),
            401,
            "{path}"
        );
    }
}

/// Consumer and provider are one process here; the answer crosses sockets all the same.
#[tokio::test]
async fn the_answers_bytes_cross_the_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    client.answered("lethe-demo", "What is a glacier?").await;
    let received = |state: &Value| state["wire"]["bytes_received"].as_u64().unwrap();
    let before = received(&client.api("GET", "/api/state").await);
    let mut chunks = 0;
    for _ in 0..5 {
        let answer = client.answered("lethe-demo", "What is a glacier?").await;
        let json = |line: &&str| line.starts_with("data: {");
        chunks += answer.raw.lines().filter(json).map(str::len).sum::<usize>();
    }
    let crossed = received(&client.api("GET", "/api/state").await) - before;
    assert!(
        crossed >= chunks as u64,
        "{crossed} bytes crossed, the answers had {chunks}"
    );
}

/// A provider is asked by the name that the page shows, written as it is there.
#[tokio::test]
async fn providers_of_the_demonstration_are_asked_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    let figures = client.api("GET", "/api/state").await;
    let question = |name: &str| {
        serde_json::json!({
            "model": "lethe-demo", "provider": { "only": [name] },
            "messages": [{ "role": "user", "content": "What is a glacier?" }],
        })
    };
    for name in ["cedar", "amber"] {
        let asked = client.ask_with(&[], &question(name)).await;
        assert_eq!(asked.status(), 200);
        let by = asked.headers()["x-lethe-provider"].to_str().unwrap();
        assert_eq!(figures["names"][by.to_lowercase()], name, "{figures}");
    }
    let asked = client.ask_with(&[], &question("Amber")).await;
    assert_eq!(asked.status(), 400);
    let told = asked.text().await.unwrap();
    assert!(
        told.contains("provider.only[0]") && told.contains("amber"),
        "{told}"
    );
}

/// What a request prefers is heeded, what contradicts itself refused, and
/// where an answer came from can be looked up, without a word of it.
#[tokio::test]
async fn why_an_answer_came_from_where_it_came_can_be_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    let asked = client.ask("lethe-demo:floor", "What is a glacier?").await;
    assert_eq!(asked.status(), 200);
    let id = asked.headers()["x-lethe-route"]
        .to_str()
        .unwrap()
        .to_owned();
    let provider = asked.headers()["x-lethe-provider"]
        .to_str()
        .unwrap()
        .to_lowercase();
    asked.text().await.unwrap();
    let route = client.api("GET", &format!("/api/routes/{id}")).await;
    // On a busy machine another one may have been asked before it, or beside it.
    let asked = route["asked"].as_array().unwrap();
    let answered = asked.iter().find(|one| one["ending"] == "answered");
    assert_eq!(answered.unwrap()["provider"], provider.as_str(), "{route}");
    let figures = client.api("GET", "/api/state").await;
    assert_eq!(figures["answers"][0]["route"], id.as_str());
    let choice = &route["choices"][0];
    assert_eq!(choice["model"], "lethe-demo");
    let ranked = choice["ranked"].as_array().unwrap();
    let price = |ranked: &Value| -> u128 {
        let price = ranked["terms"]["price"].as_str().unwrap();
        price.parse().unwrap()
    };
    assert!(ranked.iter().all(|other| price(&ranked[0]) <= price(other)));
    assert!(!route.to_string().contains("glacier"), "{route}");

    let shown = ended(folder.path(), &["route", "show", &id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.to_lowercase().contains(&provider) && shown.contains("answered"),
        "{shown}"
    );
    let told = ended(folder.path(), &["route", "explain", "lethe-demo", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        told["choices"][0]["ranked"].as_array().unwrap().len(),
        ranked.len()
    );
    assert!(told["asked"].as_array().unwrap().is_empty());
    let unknown = ended(folder.path(), &["route", "show", &"0".repeat(32)]);
    assert!(!unknown.status.success());
}
