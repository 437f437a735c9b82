//! One wallet, two hosts: both sell under its registration, one goes on where the other was
//! killed, and all that was paid arrives at the wallet; also where one is found by a name
//! and the other waits at relays.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use market::{Address, Amount, ChannelConfig, Ledger, Purse, PurseEvent, Till, TillEvent};
use serde_json::{Value, json};

use crate::accounts::{Opened, opened, until, wallet};
use crate::failover::{counted, goes_on, read};
use crate::process::{Answer, Client, PATIENCE, Running, ended};
use crate::town::{MODEL, PRICE, Town};

/// The client counts to here.
const TO: u32 = 400;
/// Seconds that a host waits for its backend.
const BACKEND_WITHIN: &str = "20";

/// One host's folder, account and place.
struct Host {
    data: PathBuf,
    account: String,
    /// Where others ask for its descriptor.
    endpoint: String,
    /// Where it serves it.
    serves: String,
    /// The relays that it waits at.
    behind: Vec<String>,
}

/// A port that is free, and that nobody is given who asks for any: those begin at 32768.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Host {
    fn new(town: &Town, folder: &str) -> Self {
        let data = town.folder().join(folder);
        let said = ended(&data, &["host", "account", "--json"]);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        // It is named before it listens.
        let free = format!("127.0.0.1:{}", free_port());
        Self {
            data,
            account: said["account"].as_str().unwrap().to_owned(),
            endpoint: free.clone(),
            serves: free,
            behind: vec![],
        }
    }

    /// One that is found by a name.
    fn with_name(town: &Town, folder: &str) -> Self {
        let host = Self::new(town, folder);
        let name = host.endpoint.replace("127.0.0.1", "localhost");
        Self {
            endpoint: name.clone(),
            serves: name,
            ..host
        }
    }

    /// One that cannot be dialled.
    fn behind(town: &Town, folder: &str, relays: &[Running]) -> Self {
        let host = Self::new(town, folder);
        let relays: Vec<_> = relays.iter().map(|relay| relay.said("endpoint")).collect();
        Self {
            endpoint: format!("{}/{}", relays.join(","), host.account),
            behind: relays,
            ..host
        }
    }

    fn named(&self) -> String {
        format!("{}={}", self.account, self.endpoint)
    }

    fn args(&self, town: &Town, flags: &[&str]) -> Vec<String> {
        let mut args = town.provider_args(&town.backend, PRICE);
        args.retain(|arg| arg != "--no-probe");
        // On a busy machine three tries of a second each may all be too short to find out
        // whether the backend goes on with a begun answer.
        for flag in ["--first-chunk-within", "--stall-after"] {
            let at = args.iter().position(|arg| arg == flag).unwrap();
            BACKEND_WITHIN.clone_into(&mut args[at + 1]);
        }
        let endpoint = args.iter_mut().find(|arg| *arg == "127.0.0.1:0").unwrap();
        endpoint.clone_from(&self.serves);
        for relay in &self.behind {
            args.extend(["--behind".to_owned(), relay.clone()]);
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        args
    }

    async fn sells(&self, town: &Town, hosts: &Path) -> Running {
        let args = self.args(town, &["--hosts", hosts.to_str().unwrap()]);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let running = Running::start(&self.data, &args);
        goes_on(&running).await;
        running
    }
}

/// Puts the wallet on the market, where `at` will be, and stops: it may go offline then.
fn registered(town: &Town, folder: &Path, at: &Host) -> Address {
    let args = at.args(town, &["--no-probe"]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let running = Running::start(folder, &args);
    let account = running.said("provider").parse().unwrap();
    running.stop();
    account
}

/// Has the wallet certify these, into a file.
fn certified(wallet: &Path, hosts: &[&Host], file: &Path) {
    let mut args = vec!["host".to_owned(), "certify".to_owned()];
    for host in hosts {
        args.extend(["--host".to_owned(), host.named()]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let made = ended(wallet, &args);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    std::fs::write(file, made.stdout).unwrap();
}

fn question(host: &Host, to: u32) -> Value {
    json!({
        "model": MODEL, "stream": true, "temperature": 0,
        "provider": { "order": [host.account] },
        "messages": [{ "role": "user", "content": to.to_string() }],
    })
}

/// Asks until this host answers: it has to be found first.
async fn answers(client: &Client, host: &Host) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let response = client.ask_with(&[], &question(host, 3)).await;
        let by = response.headers().get("x-lethe-provider").cloned();
        let answer = Answer::read(response).await;
        let by = by.map(|by| by.to_str().unwrap().to_owned());
        if answer.done && by.is_some_and(|by| by.eq_ignore_ascii_case(&host.account)) {
            assert_eq!(answer.text, "0 1 2 ");
            return;
        }
        let in_time = tokio::time::Instant::now() < deadline;
        assert!(in_time, "{} never answers: {}", host.account, answer.raw);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// `kill -9` for a host within its answer: the other one goes on with it.
async fn goes_on_elsewhere(client: &Client, (host, running): (&Host, Running), other: &Host) {
    let response = client.ask_with(&[], &question(host, TO)).await;
    let answer = read(response, 50, move || running.kill()).await;
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text, counted(TO));
    let parts = answer.tail["parts"].as_array().unwrap().iter();
    let by: Vec<_> = parts
        .map(|part| part["provider"].as_str().unwrap().to_lowercase())
        .collect();
    let expected = [host, other].map(|one| one.account.to_lowercase());
    assert_eq!(by, expected, "{}", answer.tail);
}

/// Each host was paid on a channel of its own, and all of it is the wallet's, who had
/// so much before; nobody runs any more.
async fn is_paid(town: &Town, hosts: &[&Host], provider: Address, before: Amount) {
    let ledger = town.ledger().await;
    let paid = paid(&town.consumer_journal()).await;
    assert_eq!(paid.len(), hosts.len());
    let mut sum = Amount::ZERO;
    for host in hosts {
        let account: Address = host.account.parse().unwrap();
        let is_its = |(config, _): &&(ChannelConfig, Amount)| config.receiver_authorizer == account;
        let (config, charged) = paid.iter().find(is_its).unwrap();
        assert_eq!(config.receiver, provider);
        let id = config.id(&ledger.domain());
        let earned = earned(&host.data.join("provider.sqlite")).await;
        assert_eq!(earned, [(id.to_string(), *charged)].into());
        let claimed = ledger.channel(id).await.unwrap().total_claimed;
        assert_eq!(claimed, *charged);
        sum = sum.plus(claimed).unwrap();
        assert_eq!(wallet(town, account).await, Amount::ZERO);
    }
    assert!(sum.base_units() > u128::from(TO));
    let after = wallet(town, provider).await;
    assert_eq!(after.less(before), sum);
}

/// What each channel was charged, by a consumer's books.
async fn paid(file: &Path) -> Vec<(ChannelConfig, Amount)> {
    let store = opened(file).await;
    let mut paid = Vec::new();
    for entry in store.journal("consumer/channels").load().await.unwrap() {
        let opened: Opened = serde_json::from_slice(&entry.payload).unwrap();
        let name = format!("consumer/purse/{}", entry.key.unwrap());
        let entries = store.journal(&name).load().await.unwrap();
        let events = entries
            .iter()
            .filter_map(|entry| serde_json::from_slice(&entry.payload).ok());
        let events: Vec<PurseEvent> = events.collect();
        let purse = Purse::replay(&events).unwrap();
        paid.push((opened.config, purse.charged()));
    }
    store.close().await;
    paid
}

/// What each channel was charged, by a host's books.
async fn earned(file: &Path) -> BTreeMap<String, Amount> {
    let store = opened(file).await;
    let mut earned = BTreeMap::new();
    for name in store.journals("till/").await.unwrap() {
        let channel = name.trim_start_matches("till/").to_owned();
        let entries = store.journal(&name).load().await.unwrap();
        let events = entries
            .iter()
            .filter_map(|entry| serde_json::from_slice(&entry.payload).ok());
        let events: Vec<TillEvent> = events.collect();
        let till = Till::replay(channel.parse().unwrap(), &events);
        earned.insert(channel, till.charged());
    }
    store.close().await;
    earned
}

/// Nothing that was billed is still to be claimed.
async fn all_is_claimed(client: &Client) {
    until("all claimed", async || {
        let money = client.api("GET", "/api/money").await;
        let places = money["places"].as_array().unwrap();
        let is_owed = |place: &&Value| {
            let label = place["label"].as_str().unwrap();
            label.ends_with(": owed") && place["amount"] != "0"
        };
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        !places.iter().any(|place| is_owed(&place))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_sell_for_one_wallet_and_one_goes_on_for_the_other() {
    let town = Town::start().await;
    let (one, two) = (Host::new(&town, "one"), Host::new(&town, "two"));
    let folder = town.folder().join("wallet");
    let provider = registered(&town, &folder, &one);
    let file = town.folder().join("hosts.json");
    certified(&folder, &[&one, &two], &file);
    let before = wallet(&town, provider).await;

    let first = one.sells(&town, &file).await;
    let second = two.sells(&town, &file).await;
    assert_eq!(first.said("provider"), provider.to_string());
    assert_eq!(first.said("account"), one.account);
    let _relays = ["relay-one", "relay-two"].map(|folder| town.relay(folder, &[]));
    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    answers(&client, &one).await;
    answers(&client, &two).await;
    // Each has a channel of its own; the wallet is in both.
    client.funded(2).await;
    let route = client
        .api("GET", &format!("/api/route?model={MODEL}"))
        .await;
    let hosts = route["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 2, "{route}");
    assert_eq!(hosts[0]["provider"], json!(provider), "{route}");

    // The one whose endpoint is registered dies within an answer.
    goes_on_elsewhere(&client, (&one, first), &two).await;
    let first = one.sells(&town, &file).await;
    answers(&client, &one).await;
    all_is_claimed(&client).await;
    for host in [&one, &two] {
        let whereabouts = ended(&host.data, &["where", "--json"]);
        let told = String::from_utf8_lossy(&whereabouts.stdout).into_owned();
        assert!(whereabouts.status.success(), "{told}");
        assert!(told.contains(&format!("host of {provider}")), "{told}");
    }
    consumer.stop();
    first.stop();
    second.stop();

    is_paid(&town, &[&one, &two], provider, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_at_a_name_and_one_behind_relays_go_on_for_each_other() {
    let town = Town::start().await;
    let relays = ["relay-one", "relay-two"].map(|folder| town.relay(folder, &[]));
    let named = Host::with_name(&town, "named");
    let behind = Host::behind(&town, "behind", &relays);
    let folder = town.folder().join("wallet");
    let provider = registered(&town, &folder, &named);
    let known = town.ledger().await.providers().await.unwrap();
    let known = known.iter().find(|known| known.address == provider);
    assert_eq!(known.unwrap().endpoint, named.endpoint);
    let file = town.folder().join("hosts.json");
    certified(&folder, &[&named, &behind], &file);
    let before = wallet(&town, provider).await;

    let first = named.sells(&town, &file).await;
    assert_eq!(first.said("endpoint"), named.endpoint);
    let second = behind.sells(&town, &file).await;
    let waits_at = second.ready["behind"].as_array().map(Vec::len);
    assert_eq!(waits_at, Some(2), "{}", second.ready);
    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    answers(&client, &named).await;
    answers(&client, &behind).await;
    client.funded(2).await;

    goes_on_elsewhere(&client, (&behind, second), &named).await;
    let second = behind.sells(&town, &file).await;
    answers(&client, &behind).await;
    goes_on_elsewhere(&client, (&named, first), &behind).await;
    let first = named.sells(&town, &file).await;
    answers(&client, &named).await;
    all_is_claimed(&client).await;
    consumer.stop();
    first.stop();
    second.stop();
    is_paid(&town, &[&named, &behind], provider, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_starts_with_what_its_wallet_certified_and_nothing_else() {
    let town = Town::start().await;
    let (one, two) = (Host::new(&town, "one"), Host::new(&town, "two"));
    let folder = town.folder().join("wallet");
    let file = town.folder().join("hosts.json");
    let refused = |host: &Host, file: &Path| {
        let args = host.args(&town, &["--hosts", file.to_str().unwrap()]);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let said = ended(&host.data, &args);
        assert!(!said.status.success());
        String::from_utf8(said.stderr).unwrap()
    };
    let certify = ["host", "certify", "--host", &one.named()];
    let said = ended(&town.folder().join("elsewhere"), &certify);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("wallet is not in data folder"), "{said}");

    let account = ended(&folder, &["host", "account"]);
    assert!(account.status.success());
    certified(&folder, &[&one], &file);
    assert!(refused(&one, &file).contains("is not registered; its wallet has to be"));
    let said = refused(&two, &file);
    assert!(said.contains("is not among the hosts"), "{said}");
    std::fs::write(&file, "{}").unwrap();
    assert!(refused(&one, &file).contains("is not what `lethe host certify` prints"));

    // One that is certified later is found without a start of the other.
    registered(&town, &folder, &one);
    certified(&folder, &[&one], &file);
    let _first = one.sells(&town, &file).await;
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    answers(&client, &one).await;
    let both = town.folder().join("both.json");
    certified(&folder, &[&one, &two], &both);
    let _second = two.sells(&town, &both).await;
    std::fs::copy(&both, &file).unwrap();
    answers(&client, &two).await;
}
