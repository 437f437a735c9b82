//! Relays: what they do when they have too much to do, who waits at them, and
//! where their money is.

use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::process::{Answer, Client, PATIENCE, Running, ended};
use crate::town::{MODEL, PRICE, Town};

/// More than one relay takes of a consumer at once, less than both do.
const REQUESTS: usize = 36;
const AT_ONCE: usize = 4;

/// A relay that soon counts each peer's share.
const NARROW: [&str; 2] = ["--streams-per-second", "1"];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_busy_relay_refuses_goes_through_the_other_one() {
    let town = Town::start().await;
    let _provider = town.provider();
    let _relays = ["one", "two"].map(|folder| town.relay(folder, &NARROW));
    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "0").await;

    let asked = stream::iter(1..REQUESTS).map(|n| {
        let client = &client;
        async move { Answer::read(client.ask(MODEL, &n.to_string()).await).await }
    });
    let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    for answer in answers {
        assert!(answer.done, "{}", answer.raw);
    }
}

/// A provider that waits at these relays and is reached in no other way.
fn provider_behind(town: &Town, relays: &[&Running], flags: &[&str]) -> Running {
    let mut args = town.provider_args(&town.backend, PRICE);
    for relay in relays {
        args.extend(["--behind".to_owned(), relay.said("endpoint")]);
    }
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    Running::start(&town.folder().join("provider"), &args)
}

/// Asks until somebody answers.
async fn answered_again(client: &Client) -> Answer {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let response = client.ask(MODEL, "5").await;
        if response.status().is_success() {
            let answer = Answer::read(response).await;
            if answer.done {
                return answer;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody answers");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_dialled_sells_through_relays_and_goes_on_when_one_is_killed() {
    let town = Town::start().await;
    let [one, two, three] = ["one", "two", "three"].map(|folder| town.relay(folder, &[]));
    let provider = provider_behind(&town, &[&one, &two], &[]);
    let behind: Value = provider.ready["behind"].clone();
    assert_eq!(behind.as_array().map(Vec::len), Some(2), "{behind}");
    let registered = town.ledger().await;
    let registered = market::Ledger::providers(&registered).await.unwrap();
    let address: market::Address = provider.said("provider").parse().unwrap();
    let own = registered.iter().find(|one| one.address == address);
    let endpoint = &own.unwrap().endpoint;
    assert!(
        endpoint.starts_with(&one.said("endpoint")) && endpoint.contains("/0x"),
        "{endpoint}"
    );

    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "5").await;
    one.kill();
    answered_again(&client).await;
    drop((two, three));
}

/// What the doctor says of relays.
fn doctor(town: &Town, folder: &str, flags: &[&str]) -> Vec<(String, String)> {
    let rpc = town.rpc_url();
    let args = [&["doctor", "--json", "--rpc-url", &rpc], flags].concat();
    let ran = ended(&town.folder().join(folder), &args);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let checks = told["checks"].as_array().unwrap().iter();
    let checks = checks.filter(|check| check["name"] == "relay");
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    checks
        .map(|check| (text(check, "verdict"), text(check, "found")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tries_relays_and_asks_the_provider_that_waits_at_some() {
    let town = Town::start().await;
    let [one, two] = ["one", "two"].map(|folder| town.relay(folder, &[]));
    let (first, second) = (one.said("endpoint"), two.said("endpoint"));
    let tried = doctor(&town, "new", &["--behind", &first, "--behind", &second]);
    assert!(
        tried.len() == 2 && tried.iter().all(|(verdict, _)| verdict == "ok"),
        "{tried:?}"
    );
    let found = doctor(&town, "new", &["--behind", "auto"]);
    assert_eq!(found.len(), 2, "{found:?}");
    let tried = doctor(&town, "new", &["--behind", "127.0.0.1:9"]);
    assert_eq!(tried[0].0, "fail", "{tried:?}");
    assert!(tried[0].1.contains("no relay is registered"), "{tried:?}");
    assert_eq!(tried[1].0, "warn", "{tried:?}");
    assert!(tried[1].1.contains("is the only one"), "{tried:?}");

    let _provider = provider_behind(&town, &[&one, &two], &[]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let told = doctor(&town, "provider", &[]);
        assert_eq!(told.len(), 2, "{told:?}");
        if told
            .iter()
            .all(|(_, found)| found.contains("takes this folder's provider"))
        {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_consumer_reaches_such_a_provider_by_its_relay_and_claims_no_more_for_it() {
    let town = Town::start().await;
    let one = town.relay("one", &[]);
    let _provider = provider_behind(&town, &[&one], &[]);
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "5").await;
    let response = client.ask(MODEL, "5").await;
    let labels = response.headers()["x-lethe-labels"].to_str().unwrap();
    assert!(labels.contains("network=direct"), "{labels}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_its_hours_a_provider_has_nothing_on_offer() {
    let town = Town::start().await;
    // None of these hours ends while this runs.
    let hour = |ahead: u64| (hour_now() + ahead) % 24;
    let (closed, open) = (
        format!("{:02}:00-{:02}:00", hour(6), hour(7)),
        format!("{:02}:00-{:02}:00", hour(22), hour(4)),
    );
    let provider = provider_behind(&town, &[], &["--when", &closed]);
    assert_eq!(provider.ready["resting"], true, "{}", provider.ready);
    let offers = record(&provider).await["offers"].clone();
    assert_eq!(offers.as_array().map(Vec::len), Some(0), "{offers}");
    provider.stop();

    let provider = provider_behind(&town, &[], &["--when", &open]);
    assert_eq!(provider.ready["resting"], false, "{}", provider.ready);
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "5").await;
}

/// The hour of the day in the zone of the processes.
fn hour_now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs() / 3600 % 24
}

/// What a provider says of itself.
async fn record(provider: &Running) -> Value {
    let url = format!("http://{}/.well-known/lethe", provider.said("endpoint"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let described: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    serde_json::from_str(described["record"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_says_where_its_money_is() {
    let town = Town::start().await;
    let relay = town.relay("one", &[]);
    let folder = town.folder().join("one");
    let told = ended(&folder, &["where", "--json"]);
    let money: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| {
        panic!("{}", String::from_utf8_lossy(&told.stderr));
    });
    assert_eq!(
        (&money["scope"], &money["complete"]),
        (&"own".into(), &true.into())
    );
    let places = money["places"].as_array().unwrap();
    let stake = places.iter().find(|place| place["label"] == "relay: stake");
    let command = stake.unwrap()["command"].as_str().unwrap();
    assert!(command.starts_with("lethe exit --data /"), "{command}");
    relay.stop();
}
