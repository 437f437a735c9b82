//! The tower: claims for a provider that is away, also when it was off itself.

use std::path::PathBuf;
use std::process::Stdio;

use market::Ledger;
use serde_json::{Value, json};

use crate::accounts::until;
use crate::exits::{
    NOT_ALL, OVER_S, account, channel, exit, folder, held, provider, run, told, units,
};
use crate::process::{Client, Running, lethe};
use crate::town::{MODEL, Town};

/// A provider with a tower's file and a consumer that owes it something, both
/// gone; the file, and how much it is.
async fn owed(town: &Town) -> (PathBuf, u128) {
    let file = folder(town, "signed-claims.json");
    let selling = provider(town, &["--tower-file", file.to_str().unwrap()]);
    let buying = town.consumer_with("consumer", &["--payer", "wallet"]);
    Client::of(&buying).answered(MODEL, "40").await;
    let charged = held(&told(&run(town, "consumer", &["where"])).0, ": owed");
    let promised = || {
        let text = std::fs::read(&file).unwrap_or_default();
        let written: Value = serde_json::from_slice(&text).unwrap_or_default();
        written["claims"][0]["total"].as_str().map(str::to_owned)
    };
    until("in the tower's file", async || {
        promised() == Some(charged.to_string())
    })
    .await;
    selling.kill();
    buying.kill();
    (file, charged)
}

fn tower_args(town: &Town, file: &std::path::Path, patience: &str) -> Vec<String> {
    let (rpc, file) = (town.rpc_url(), file.to_str().unwrap());
    let args = [
        "tower",
        "--rpc-url",
        &rpc,
        "--claims",
        file,
        "--look-every",
        "1",
        "--patience",
        patience,
    ];
    args.map(str::to_owned).to_vec()
}

fn tower(town: &Town, file: &std::path::Path, patience: &str) -> Running {
    let args = tower_args(town, file, patience);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let tower = Running::start(&folder(town, "tower"), &args);
    assert_eq!(tower.ready["claims"], 1);
    tower
}

/// Until the tower has been at the head of the chain and has written so.
async fn has_cursor(town: &Town) {
    let file = folder(town, "tower").join("tower.sqlite-wal");
    let main = folder(town, "tower").join("tower.sqlite");
    until("a cursor on disk", async || {
        [&file, &main].iter().any(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(10).any(|part| part == b"next_block")
        })
    })
    .await;
}

async fn claimed(town: &Town) -> u128 {
    channel(town).await.1.total_claimed.base_units()
}

async fn transactions_of(town: &Town, owner: &str) -> Value {
    town.rpc("eth_getTransactionCount", json!([owner, "latest"]))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_closes_while_the_provider_is_away_does_not_win() {
    let town = Town::start_movable().await;
    let file = folder(&town, "signed-claims.json");
    let selling = provider(&town, &["--tower-file", file.to_str().unwrap()]);
    let buying = town.consumer_with("consumer", &["--payer", "wallet"]);
    let payer = account(&buying, "payer");
    let before = units(&town, payer).await;
    Client::of(&buying).answered(MODEL, "40").await;
    let charged = held(&told(&run(&town, "consumer", &["where"])).0, ": owed");
    let promised = || {
        let text = std::fs::read(&file).unwrap_or_default();
        let written: Value = serde_json::from_slice(&text).unwrap_or_default();
        written["claims"][0]["total"].as_str().map(str::to_owned)
    };
    until("in the tower's file", async || {
        promised() == Some(charged.to_string())
    })
    .await;
    selling.kill();
    buying.kill();

    let (_, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL);
    let tower = tower(&town, &file, "300");
    assert_eq!(
        claimed(&town).await,
        0,
        "it leaves the first minutes to the provider"
    );
    town.pass(301 + 120).await;
    until("claimed by the tower", async || {
        claimed(&town).await == charged
    })
    .await;

    town.pass(OVER_S).await;
    let (done, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, 0, "{done}");
    assert_eq!(units(&town, payer).await, before - charged);
    tower.stop();

    // It was claimed for the provider, who finds it when it is back.
    let back = provider(&town, &[]);
    let (ledger, seller) = (town.ledger().await, account(&back, "provider"));
    let settled = async || {
        let owed = ledger.receiver(seller, ledger.mor()).await.unwrap();
        owed.total_settled.base_units() == charged
    };
    until("paid out", settled).await;
    back.stop();
}

/// It was off when the withdrawal began: the log tells it, from where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_was_off_finds_the_withdrawal_and_repeats_nothing_after_a_kill() {
    let town = Town::start_movable().await;
    let (file, charged) = owed(&town).await;
    let first = tower(&town, &file, "0");
    has_cursor(&town).await;
    first.stop();

    let (_, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL);
    town.pass(500).await;

    // Killed when its claim is in the chain and nothing of it is saved.
    let args = tower_args(&town, &file, "0");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = lethe(&folder(&town, "tower"), &args);
    command.env("LETHE_FAILPOINT", "tx.included").arg("--json");
    // It is killed in any case when this is dropped.
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut dying = Running::ready(child, Value::Null);
    until("killed at its claim", async || {
        claimed(&town).await == charged
    })
    .await;
    while dying.runs() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!dying.ended().unwrap().success());

    let back = tower(&town, &file, "0");
    let account = back.said("tower");
    let sent = transactions_of(&town, &account).await;
    assert_eq!(sent, "0x1", "one claim, by a tower that needs no more");
    town.pass(60).await;
    has_cursor(&town).await;
    back.stop();
    let again = tower(&town, &file, "0");
    town.pass(60).await;
    again.stop();
    assert_eq!(transactions_of(&town, &account).await, sent);
    assert_eq!(claimed(&town).await, charged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_that_the_chain_takes_back_is_not_claimed_for_until_it_begins_again() {
    let town = Town::start_movable().await;
    let (file, charged) = owed(&town).await;
    let tower = tower(&town, &file, "120");
    has_cursor(&town).await;
    let before = town.rpc("evm_snapshot", json!([])).await;
    let (_, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL);
    assert!(channel(&town).await.1.withdrawal.is_some());

    town.rpc("evm_revert", json!([before])).await;
    assert!(channel(&town).await.1.withdrawal.is_none());
    for _ in 0..4 {
        town.pass(60).await;
    }
    let (_, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL);
    assert_eq!(claimed(&town).await, 0, "its patience is not over");
    town.pass(240).await;
    until("claimed by the tower", async || {
        claimed(&town).await == charged
    })
    .await;
    tower.stop();
}
