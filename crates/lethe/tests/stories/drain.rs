//! One of two servers is taken out from behind a running provider.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::backend::Counting;
use crate::process::{Answer, Client, PATIENCE, Running, ended};
use crate::town::{MODEL, PRICE, Town};

const ANSWERS: u32 = 50;
/// What each counts to: it takes about a second, so that several run at a time.
const TO: u32 = 150;
/// Between two questions, so that some come before, some after the word.
const APART: Duration = Duration::from_millis(200);
/// A provider heeds the word within this.
const HEEDED: Duration = Duration::from_secs(2);

fn states(town: &Town) -> Vec<String> {
    let output = ended(
        &town.folder().join("provider"),
        &["backend", "list", "--json"],
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let backends = told["backends"].as_array().unwrap().iter();
    let state = |backend: &Value| backend["state"].as_str().unwrap().to_owned();
    backends.map(state).collect()
}

fn told(town: &Town, act: &str, backend: &Counting) {
    let output = ended(
        &town.folder().join("provider"),
        &["backend", act, &backend.url],
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

fn provider(town: &Town, out_url: &str) -> Running {
    let mut args = town.provider_args(&town.backend, PRICE);
    let more = ["--backend", out_url, "--slots", "60"];
    args.extend(more.map(str::to_owned));
    // Fifty answers at once on a machine with other work: this is not about haste.
    for flag in ["--first-chunk-within", "--stall-after"] {
        let at = args.iter().position(|arg| arg == flag).unwrap();
        args[at + 1] = "15".to_owned();
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    Running::start(&town.folder().join("provider"), &args)
}

/// Says the word, waits until the server may be stopped, and stops it.
async fn killed_when_drained(town: &Town, out: Counting) {
    tokio::time::sleep(10 * APART).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while out.running() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "it is never asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    told(town, "drain", &out);
    tokio::time::sleep(HEEDED).await;
    let asked = out.asked();
    while states(town)[1] != "drained" {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", states(town));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(out.running(), 0);
    assert_eq!(out.asked(), asked, "something new reached it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_drained_and_killed_while_fifty_answers_come() {
    let town = Town::start().await;
    let out = Counting::start().await;
    let selling = provider(&town, &out.url);
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;

    let out_url = out.url.clone();
    let ask = async {
        let mut answers = JoinSet::new();
        for number in 0..ANSWERS {
            let client = Client::of(&consumer);
            let to = (TO + number).to_string();
            answers.spawn(async move { Answer::read(client.ask(MODEL, &to).await).await });
            tokio::time::sleep(APART).await;
        }
        answers
    };
    let (mut answers, ()) = tokio::join!(ask, killed_when_drained(&town, out));
    let mut texts = Vec::new();
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.done, "{}", answer.raw);
        texts.push(answer.text);
    }
    texts.sort();
    let count = |to: u32| (0..to).map(|at| format!("{at} ")).collect::<String>();
    let mut expected: Vec<_> = (0..ANSWERS).map(|number| count(TO + number)).collect();
    expected.sort();
    assert_eq!(texts, expected, "an answer is lost, cut or doubled");

    // It stays out over a restart; with the other one gone too, nobody is asked.
    selling.stop();
    assert_eq!(states(&town)[1], "drained");
    let _selling = provider(&town, &out_url);
    assert_eq!(states(&town)[1], "drained");
    assert_eq!(client.answered(MODEL, "3").await.text, "0 1 2 ");
    told(&town, "drain", &town.backend);
    tokio::time::sleep(HEEDED).await;
    let before = town.backend.asked();
    let refused = client.ask(MODEL, "3").await;
    assert!(!refused.status().is_success(), "{}", refused.status());
    assert_eq!(town.backend.asked(), before);
    told(&town, "resume", &town.backend);
    assert_eq!(client.answered(MODEL, "3").await.text, "0 1 2 ");
}

/// Whether the provider stands last since it says that it takes nothing.
async fn is_full(client: &Client, provider: &str) -> bool {
    let route = client
        .api("GET", &format!("/api/route?model={MODEL}"))
        .await;
    let ranked = route["choices"][0]["ranked"].as_array();
    let mut ranked = ranked.into_iter().flatten();
    let is_it = |seat: &&Value| {
        let told = seat["provider"].as_str().unwrap();
        told.eq_ignore_ascii_case(provider)
    };
    let seat = ranked.find(is_it);
    seat.is_some_and(|seat| seat["standing"]["last-resort"]["reason"] == "full")
}

async fn waits_for(client: &Client, provider: &str, full: bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while is_full(client, provider).await != full {
        assert!(tokio::time::Instant::now() < deadline, "never full: {full}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_hears_that_all_servers_are_drained_before_it_asks() {
    let town = Town::start().await;
    let other = Counting::start().await;
    let drained = town.provider();
    let _other = town.provider_of("other", &other, PRICE);
    let _relays = ["one", "two"].map(|folder| town.relay(folder, &[]));
    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "0").await;

    let account = drained.said("provider");
    told(&town, "drain", &town.backend);
    waits_for(&client, &account, true).await;
    for number in 1..=10 {
        let response = client.ask(MODEL, &number.to_string()).await;
        let route = response.headers()["x-lethe-route"].to_str().unwrap();
        let route = format!("/api/routes/{route}");
        assert!(Answer::read(response).await.done);
        let asked = client.api("GET", &route).await["asked"].take();
        assert_eq!(asked.as_array().unwrap().len(), 1, "{asked}");
        let by = asked[0]["provider"].as_str().unwrap();
        assert!(!by.eq_ignore_ascii_case(&account), "{asked}");
    }
    told(&town, "resume", &town.backend);
    waits_for(&client, &account, false).await;
}
