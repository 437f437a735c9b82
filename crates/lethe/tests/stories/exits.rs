//! The way out: every unit comes back with a data folder and the chain alone,
//! wherever the program is killed, and nobody takes what another has earned.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use market::{Address, Amount, ChannelConfig, ChannelState, Ledger};
use serde_json::{Value, json};

use crate::accounts::{Opened, journal, until, wallet};
use crate::process::{Client, Running, ended, lethe};
use crate::town::{MODEL, Town};

/// Base units per 10^6 tokens: a thousand units a token, so that what is billed shows.
const PRICE: &str = "0.000000001";
/// The channel's delay.
const DELAY_S: u64 = 900;
/// So long after a withdrawal began it is over: blocks in a row are a second
/// apart, so a new chain's time is ahead of the clock.
pub(crate) const OVER_S: u64 = DELAY_S + 120;
/// `lethe exit` did what could be done.
pub(crate) const NOT_ALL: i32 = 4;
/// How long an exit lives before it is killed; its steps take about this long.
const LIVES_MS: [u64; 8] = [10, 40, 80, 130, 200, 280, 380, 500];

/// A provider that claims only when it must.
pub(crate) fn provider(town: &Town, flags: &[&str]) -> Running {
    let rpc = town.rpc_url();
    let usual = [
        "provide",
        "--rpc-url",
        &rpc,
        "--model",
        MODEL,
        "--backend",
        &town.backend.url,
        "--endpoint",
        "127.0.0.1:0",
        "--input-price",
        PRICE,
        "--output-price",
        PRICE,
    ];
    let seldom = ["--claim-every", "86400"];
    let claims = if flags.contains(&"--claim-every") {
        &[][..]
    } else {
        &seldom[..]
    };
    Running::start(
        &folder(town, "provider"),
        &[&usual[..], claims, flags].concat(),
    )
}

pub(crate) fn folder(town: &Town, name: &str) -> PathBuf {
    town.folder().join(name)
}

/// A command on one of the folders, beside the town's chain.
pub(crate) fn run(town: &Town, name: &str, args: &[&str]) -> Output {
    let rpc = town.rpc_url();
    let args = [args, &["--rpc-url", &rpc, "--json"]].concat();
    ended(&folder(town, name), &args)
}

/// What it printed, and its exit code.
pub(crate) fn told(output: &Output) -> (Value, i32) {
    let code = output.status.code().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout);
    (
        json.unwrap_or_else(|_| panic!("exit code {code}: {said}")),
        code,
    )
}

pub(crate) fn exit(town: &Town, name: &str, flags: &[&str]) -> (Value, i32) {
    told(&run(town, name, &[&["exit"], flags].concat()))
}

fn places(money: &Value) -> Vec<(String, u128)> {
    let places = money["places"]
        .as_array()
        .unwrap_or_else(|| panic!("{money}"));
    let told = |place: &Value| {
        let amount = place["amount"].as_str().unwrap().parse().unwrap();
        (place["label"].as_str().unwrap().to_owned(), amount)
    };
    let mut places: Vec<_> = places.iter().map(told).collect();
    places.sort();
    places
}

pub(crate) fn held(money: &Value, word: &str) -> u128 {
    let held = places(money).into_iter();
    held.filter(|(label, _)| label.contains(word))
        .map(|(_, amount)| amount)
        .sum()
}

pub(crate) async fn channel(town: &Town) -> (ChannelConfig, ChannelState) {
    let opened: Vec<Opened> = journal(&town.consumer_journal(), "consumer/channels").await;
    let ledger = town.ledger().await;
    let config = opened[0].config;
    let state = ledger.channel(config.id(&ledger.domain())).await.unwrap();
    (config, state)
}

pub(crate) async fn units(town: &Town, owner: Address) -> u128 {
    wallet(town, owner).await.base_units()
}

pub(crate) fn account(running: &Running, field: &str) -> Address {
    running.said(field).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_with_the_folder_and_the_chain_alone() {
    let town = Town::start_movable().await;
    let selling = provider(&town, &[]);
    let buying = town.consumer();
    let (seller, payer) = (account(&selling, "provider"), account(&buying, "payer"));
    let client = Client::of(&buying);
    let before = units(&town, payer).await;
    for _ in 0..3 {
        client.answered(MODEL, "40").await;
    }

    // Beside running roles, and the same without them.
    let beside = told(&run(&town, "consumer", &["where"])).0;
    assert_eq!(
        (&beside["scope"], &beside["complete"]),
        (&"own".into(), &true.into())
    );
    assert!(
        beside["policies"][0]
            .as_str()
            .unwrap()
            .contains("--top-up-below")
    );
    let charged = held(&beside, ": owed");
    assert!(charged > 0, "{beside}");
    assert_eq!(beside["sum"].as_str().unwrap().parse(), Ok(before));
    let earned = told(&run(&town, "provider", &["where"])).0;
    assert_eq!(held(&earned, "earned on channel"), charged, "{earned}");
    assert!(held(&earned, ": stake") > 0, "{earned}");
    buying.kill();
    selling.kill();
    let alone = told(&run(&town, "consumer", &["where"])).0;
    assert_eq!(places(&alone), places(&beside));
    let alone = told(&run(&town, "provider", &["where"])).0;
    assert_eq!(places(&alone), places(&earned));
    for place in alone["places"].as_array().unwrap() {
        let cast = place["cast"].as_str();
        assert!(
            cast.is_none_or(|cast| cast.starts_with("cast send 0x")),
            "{place}"
        );
    }

    // The payer asks for all; the provider takes what it earned and leaves the market.
    let (first, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL, "{first}");
    assert_eq!(first["waiting"].as_array().unwrap().len(), 1, "{first}");
    let (again, code) = exit(&town, "consumer", &[]);
    assert_eq!(
        (code, again["steps"].as_array().unwrap().len()),
        (NOT_ALL, 0),
        "{again}"
    );
    let leaving = told(&run(&town, "consumer", &["where"])).0;
    let place = leaving["places"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["unlocks_at"].is_u64());
    let place = place.unwrap_or_else(|| panic!("{leaving}"));
    let (since, unlocks) = (
        place["since"].as_u64().unwrap(),
        place["unlocks_at"].as_u64().unwrap(),
    );
    assert_eq!(unlocks - since, DELAY_S);
    assert!(place["cast"].as_str().unwrap().contains("finalizeWithdraw"));

    let home = Address::repeat_byte(0x77);
    let shown = home.to_string();
    let (left, code) = exit(&town, "provider", &["--to", &shown]);
    assert_eq!((code, &left["done"]), (0, &true.into()), "{left}");
    let ledger = town.ledger().await;
    let fee = ledger.stakes().await.unwrap().bid_fee.base_units();
    let granted = 2_000_000_000_000_000_000;
    assert_eq!(units(&town, home).await, granted - fee + charged);
    assert_eq!(units(&town, seller).await, 0);
    assert!(ledger.providers().await.unwrap().is_empty());

    let cold = Address::repeat_byte(0x78);
    town.pass(OVER_S).await;
    let shown = cold.to_string();
    let (done, code) = exit(&town, "consumer", &["--to", &shown]);
    assert_eq!((code, &done["done"]), (0, &true.into()), "{done}");
    assert_eq!(units(&town, cold).await, before - charged);
    assert_eq!(units(&town, payer).await, 0);
    let escrow = ledger
        .balance(ledger.mor(), ledger.domain().settlement)
        .await;
    assert_eq!(
        escrow.unwrap(),
        Amount::ZERO,
        "something is left in the contract"
    );
    let (config, _) = channel(&town).await;
    for owner in [payer, config.payer] {
        let coins = ledger.coins(owner).await.unwrap();
        assert!(
            coins < Amount::new(1_000_000_000_000_000),
            "{coins} wei of gas left behind"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_money_is_can_be_asked_while_an_exit_waits() {
    let town = Town::start_movable().await;
    let _selling = provider(&town, &[]);
    let buying = town.consumer();
    let payer = account(&buying, "payer");
    let before = units(&town, payer).await;
    Client::of(&buying).answered(MODEL, "40").await;
    buying.kill();
    let rpc = town.rpc_url();
    let args = ["exit", "--wait", "--rpc-url", &rpc];
    let mut waiting = lethe(&folder(&town, "consumer"), &args);
    waiting.stdout(std::process::Stdio::null());
    let mut waiting = waiting.spawn().unwrap();
    until("what leaves is told beside the exit", async || {
        let told = run(&town, "consumer", &["where"]);
        let Ok(told) = serde_json::from_slice::<Value>(&told.stdout) else {
            return false;
        };
        let words = told["policies"][0].as_str().unwrap();
        assert!(words.contains("`lethe exit"), "{told}");
        let leaves = held(&told, ": leaving") > 0;
        let sum = told["sum"].as_str().unwrap().parse::<u128>().unwrap();
        assert!(!leaves || sum == before, "{told}");
        leaves
    })
    .await;
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    let after = told(&run(&town, "consumer", &["where"])).0;
    assert!(held(&after, ": leaving") > 0, "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sells_is_paid_when_it_asks_and_comes_back_after_it_took_all_along() {
    let town = Town::start().await;
    let selling = provider(&town, &[]);
    let buying = town.consumer();
    let (seller, client) = (account(&selling, "provider"), Client::of(&buying));
    client.answered(MODEL, "40").await;
    let before = units(&town, seller).await;
    let claim = || told(&ended(&folder(&town, "provider"), &["claim", "--json"]));
    let (first, code) = claim();
    assert_eq!((code, &first["channels"]), (0, &1.into()), "{first}");
    let amount = first["claimed"][0]["amount"].as_str();
    let amount: u128 = amount.unwrap().parse().unwrap();
    assert!(amount > 0, "{first}");
    assert_eq!(units(&town, seller).await, before + amount);
    let (again, code) = claim();
    assert_eq!((code, &again["claimed"]), (0, &json!([])), "{again}");
    // It goes on selling.
    client.answered(MODEL, "3").await;
    buying.stop();
    selling.stop();

    let home = Address::repeat_byte(0x79).to_string();
    let (left, code) = exit(&town, "provider", &["--to", &home]);
    assert_eq!((code, &left["done"]), (0, &true.into()), "{left}");
    assert_eq!(units(&town, seller).await, 0);
    let selling = provider(&town, &[]);
    assert_eq!(account(&selling, "provider"), seller);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_is_killed_anywhere_goes_on() {
    let town = Town::start_movable().await;
    let selling = provider(&town, &[]);
    let buying = town.consumer();
    let payer = account(&buying, "payer");
    let before = units(&town, payer).await;
    Client::of(&buying).answered(MODEL, "40").await;
    buying.stop();
    selling.stop();
    let cold = Address::repeat_byte(0x79).to_string();
    let rpc = town.rpc_url();
    let mut killed = 0;
    for phase in 0..2 {
        for name in ["consumer", "provider"] {
            for lives in LIVES_MS {
                let args = ["exit", "--rpc-url", &rpc, "--json", "--to", &cold];
                let mut child = lethe(&folder(&town, name), &args)
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(lives)).await;
                killed += usize::from(child.try_wait().unwrap().is_none());
                let _ = child.kill();
                child.wait().unwrap();
            }
            let (left, code) = exit(&town, name, &["--to", &cold]);
            let expected = if (phase, name) == (0, "consumer") {
                NOT_ALL
            } else {
                0
            };
            assert_eq!(code, expected, "{left}");
        }
        town.pass(OVER_S).await;
    }
    assert!(
        killed >= LIVES_MS.len(),
        "only {killed} were killed in time"
    );
    let ledger = town.ledger().await;
    let fee = ledger.stakes().await.unwrap().bid_fee.base_units();
    let granted = 2_000_000_000_000_000_000u128;
    let together = units(&town, cold.parse().unwrap()).await;
    assert_eq!(together, before + granted - fee, "money was lost or made");
    let escrow = ledger
        .balance(ledger.mor(), ledger.domain().settlement)
        .await;
    assert_eq!(escrow.unwrap(), Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_waits_rides_out_a_chain_that_is_away() {
    let mut town = Town::start_movable().await;
    let selling = provider(&town, &[]);
    let buying = town.consumer();
    Client::of(&buying).answered(MODEL, "40").await;
    buying.stop();
    let (ledger, id) = (town.ledger().await, town.channel().await);
    let said = town.folder().join("said");
    let rpc = town.rpc_url();
    let mut exit = lethe(
        &folder(&town, "consumer"),
        &["exit", "--rpc-url", &rpc, "--wait"],
    )
    .stdout(
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(&said)
            .unwrap(),
    )
    .stderr(std::fs::File::options().append(true).open(&said).unwrap())
    .spawn()
    .unwrap();
    let says = async |text: &str| std::fs::read_to_string(&said).unwrap().contains(text);
    until("it waits", async || says(" s for the first of them").await).await;
    town.chain_dies();
    until("told that the chain is away", async || {
        says("The chain does not answer; what was asked for stays asked").await
    })
    .await;
    assert!(exit.try_wait().unwrap().is_none(), "it ended");
    town.chain_returns();
    town.pass(OVER_S).await;
    let wait = tokio::task::spawn_blocking(move || exit.wait().unwrap());
    assert!(wait.await.unwrap().success());
    assert!(says("The chain answers again.").await);
    assert!(ledger.channel(id).await.unwrap().balance.is_zero());
    selling.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_off_finds_the_withdrawal_and_claims() {
    let town = Town::start_movable().await;
    let selling = provider(&town, &[]);
    let buying = town.consumer();
    Client::of(&buying).answered(MODEL, "40").await;
    let charged = held(&told(&run(&town, "consumer", &["where"])).0, ": owed");
    selling.kill();
    buying.stop();
    exit(&town, "consumer", &[]);
    assert!(channel(&town).await.1.withdrawal.is_some());
    town.pass(500).await;
    let back = provider(&town, &[]);
    let claimed = async || channel(&town).await.1.total_claimed.base_units();
    until("claimed after the start", async || {
        claimed().await == charged
    })
    .await;
    back.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_topped_up_before_it_runs_dry_and_emptied_when_it_is_idle() {
    let town = Town::start_movable().await;
    let selling = provider(&town, &["--claim-every", "1"]);
    // An answer costs about 50,000 units: after it less than the mark is left.
    let flags = [
        "--deposit",
        "0.0000000000002",
        "--top-up-below",
        "0.00000000000017",
    ];
    let buying = town.consumer_with("consumer", &flags);
    let payer = account(&buying, "payer");
    let before = units(&town, payer).await;
    Client::of(&buying).answered(MODEL, "40").await;
    let balance = async || in_channel(&town).await;
    until("topped up", async || balance().await == 400_000).await;
    buying.stop();

    let idle = ["--withdraw-idle", "1"];
    let buying = town.consumer_with("consumer", &idle);
    let leaves = async || {
        let money = told(&run(&town, "consumer", &["where"])).0;
        held(&money, "leaving") > 0
    };
    until("a withdrawal of its own accord", leaves).await;
    town.pass(OVER_S).await;
    let billed = async || {
        let money = told(&run(&town, "consumer", &["where"])).0;
        held(&money, "owed")
    };
    let home = async || units(&town, payer).await + billed().await;
    let ledger = town.ledger().await;
    let claimed = async || {
        let owed = ledger
            .receiver(account(&selling, "provider"), ledger.mor())
            .await
            .unwrap();
        owed.total_claimed.base_units()
    };
    until("finished and brought home", async || {
        home().await + claimed().await == before
    })
    .await;
    assert!(claimed().await > 0);
    buying.stop();
    selling.stop();
}

/// All that went into the one channel and did not come back, claims included.
async fn in_channel(town: &Town) -> u128 {
    let money = told(&run(town, "consumer", &["where"])).0;
    let claimed = {
        let ledger = town.ledger().await;
        let providers = ledger.providers().await.unwrap();
        let owed = ledger
            .receiver(providers[0].address, ledger.mor())
            .await
            .unwrap();
        owed.total_claimed.base_units()
    };
    held(&money, "channel to") + claimed
}

/// The gateway's and the provider's doors tell the money to the owner only.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_is_told() {
    let town = Town::start_movable().await;
    let _selling = provider(&town, &[]);
    let running = std::fs::read(folder(&town, "provider").join("running.json")).unwrap();
    let running: Value = serde_json::from_slice(&running).unwrap();
    let url = format!("{}api/money", running["dashboard_url"].as_str().unwrap());
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 401);
    let (money, code) = told(&run(&town, "provider", &["where"]));
    assert_eq!((code, &money["scope"]), (0, &"own".into()));
    assert!(
        money["policies"][0]
            .as_str()
            .unwrap()
            .contains("--claim-margin")
    );
}

/// What `where` prints is run as it is printed, by a shell.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_told_works_as_it_is_told() {
    let town = Town::start_movable().await;
    let selling = provider(&town, &[]);
    let buying = town.consumer_with("a folder", &[]);
    Client::of(&buying).answered(MODEL, "40").await;
    let beside = told(&run(&town, "a folder", &["where"])).0;
    selling.kill();
    buying.kill();
    let (alone, _) = told(&run(&town, "a folder", &["where"]));
    let command = |money: &Value| {
        let places = money["places"].as_array().unwrap().iter();
        let mut told = places.filter_map(|place| place["command"].as_str());
        told.next().unwrap().to_owned()
    };
    assert_eq!(command(&beside), command(&alone));
    let by_shell = |line: &str| {
        let line = line.replacen("lethe", env!("CARGO_BIN_EXE_lethe"), 1);
        let mut shell = std::process::Command::new("sh");
        shell
            .env("LETHE_LOG", "error")
            .args(["-c", &line])
            .output()
            .unwrap()
    };
    let first = by_shell(&command(&alone));
    assert_eq!(first.status.code(), Some(NOT_ALL), "{first:?}");
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    let again = said
        .split("run `")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    town.pass(OVER_S).await;
    let second = by_shell(again.unwrap_or_else(|| panic!("{said}")));
    assert_eq!(second.status.code(), Some(0), "{second:?}");
}

/// Where the chain was, a folder knows without being told.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_s_money_is_found_where_it_was() {
    let town = Town::start().await;
    town.consumer().stop();
    let data = folder(&town, "consumer");
    let asked = ended(&data, &["where", "--json"]);
    let said = String::from_utf8_lossy(&asked.stderr);
    let line = format!(
        "asked at {}, which this folder was last used with",
        town.rpc_url()
    );
    assert!(asked.status.success() && said.contains(&line), "{said}");
    let (money, _) = told(&asked);
    assert!(held(&money, "wallet") > 0, "{money}");
    let (left, code) = told(&ended(&data, &["exit", "--json"]));
    assert_eq!(code, 0, "{left}");
    // Who names another is taken at their word.
    let other = ended(&data, &["where", "--rpc-url", "http://127.0.0.1:9"]);
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        said.contains("the chain at http://127.0.0.1:9 does not answer"),
        "{said}"
    );
}

/// A demonstration's folder has its chain in it: the exit starts that.
#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_can_be_left_too() {
    let data = tempfile::tempdir().unwrap();
    let up = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];
    let running = Running::start(data.path(), &up);
    let client = Client::of(&running);
    client.answered("lethe-demo", "What is a glacier?").await;
    let beside = told(&ended(data.path(), &["where", "--json"])).0;
    assert_eq!(
        (&beside["scope"], &beside["complete"]),
        (&"market".into(), &true.into())
    );
    let refused = ended(data.path(), &["exit"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("in use by another lethe"),
        "{said}"
    );
    running.stop();
    let (left, code) = told(&ended(data.path(), &["exit", "--json"]));
    assert_eq!(code, NOT_ALL, "{left}");
    assert!(left["blocked"].as_array().unwrap().is_empty(), "{left}");
    let after = told(&ended(data.path(), &["where", "--json"])).0;
    assert_eq!(held(&after, "stake"), 0, "{after}");
    assert_eq!(
        held(&after, ": claimed") + held(&after, "earned on"),
        0,
        "{after}"
    );
    assert!(held(&after, "leaving") > 0, "{after}");
}
