//! Copied, old and lost data folders: none of them signs for what it does not
//! know, each says what to do, and in the end every answer is paid once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use market::{Amount, ChannelId, Ledger, Purse, PurseEvent, Till, TillEvent};
use serde_json::Value;

use crate::accounts::{Opened, Opening, opened, wallet};
use crate::process::{Client, PATIENCE, Running, ended};
use crate::town::{MODEL, Town};

/// Between two looks at the chain.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Most that the first voucher of an answer is ahead of its receipt: a step, and the estimate of the input.
const AHEAD: Amount = Amount::new(32 + 200);

fn consume(town: &Town, folder: &Path) -> std::process::Output {
    let rpc = town.rpc_url();
    let args = [
        "consume",
        "--direct",
        "--rpc-url",
        &rpc,
        "--http",
        "127.0.0.1:0",
    ];
    ended(folder, &args)
}

fn said(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "it was not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_of(folder: &Path, args: &[&str]) -> Value {
    let output = ended(folder, args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The files of a folder and of those in it, and what they hold.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(contents(&path)),
            false => files.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

/// As `cp -a`.
fn copied(from: &Path, to: &Path) {
    for (path, bytes) in contents(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, bytes).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&target, mode).unwrap();
    }
}

/// Every channel of a consumer, with its purse.
async fn purses(folder: &Path) -> Vec<(Opened, Vec<PurseEvent>)> {
    let store = opened(&folder.join("consumer.sqlite")).await;
    let mut purses = Vec::new();
    for line in store.journal("consumer/channels").load().await.unwrap() {
        let name = format!("consumer/purse/{}", line.key.as_ref().unwrap());
        let lines = store.journal(&name).load().await.unwrap();
        let events = lines
            .iter()
            .map(|line| serde_json::from_slice(&line.payload).unwrap());
        let opened = serde_json::from_slice(&line.payload).unwrap();
        purses.push((opened, events.collect()));
    }
    store.close().await;
    purses
}

/// Every channel of the provider, with its till.
async fn tills(town: &Town) -> Vec<Till> {
    let store = opened(&town.provider_journal()).await;
    let mut tills = Vec::new();
    for name in store.journals("till/").await.unwrap() {
        let lines = store.journal(&name).load().await.unwrap();
        let events = lines
            .iter()
            .skip(1)
            .map(|line| serde_json::from_slice(&line.payload).unwrap());
        let events: Vec<TillEvent> = events.collect();
        let id: ChannelId = name.trim_start_matches("till/").parse().unwrap();
        tills.push(Till::replay(id, &events));
    }
    store.close().await;
    tills
}

/// All that was charged on one side is charged on the other, and nobody
/// signed more than a step and an input ahead of it on any channel.
async fn agree(town: &Town, consumer: &Path) {
    let mut charged = Vec::new();
    for (opened, events) in purses(consumer).await {
        let purse = Purse::replay(&events).unwrap();
        charged.push((opened.config, purse.charged(), purse.ceiling()));
    }
    for till in tills(town).await {
        assert!(till.ceiling().less(till.charged()) <= AHEAD, "{till:?}");
        assert_eq!(
            till.charged().less(till.ceiling()),
            Amount::ZERO,
            "not covered"
        );
    }
    let ledger = town.ledger().await;
    for (config, booked, _) in &charged {
        let id = config.id(&ledger.domain());
        let of_till = tills(town)
            .await
            .iter()
            .map(Till::charged)
            .collect::<Vec<_>>();
        assert!(
            of_till.contains(booked),
            "{id} booked {booked}, the provider has {of_till:?}"
        );
    }
}

/// The provider's claims have come up with all that it earned.
async fn claimed(town: &Town, provider: &Running, charged: Amount) {
    let ledger = town.ledger().await;
    let provider = provider.said("provider").parse().unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let receiver = ledger.receiver(provider, ledger.mor()).await.unwrap();
        if receiver.total_claimed >= charged {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never claimed");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_folder_is_refused_until_it_is_adopted() {
    let town = Town::start().await;
    let provider = town.provider();
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();
    let (original, copy) = (town.folder().join("consumer"), town.folder().join("copy"));
    copied(&original, &copy);

    let text = said(&consume(&town, &copy));
    assert!(text.contains("are a copy"), "{text}");
    assert!(text.contains("lethe wallet adopt --data"), "{text}");
    let looked = ended(&copy, &["doctor", "--json"]);
    let told = String::from_utf8_lossy(&looked.stdout);
    assert_eq!(looked.status.code(), Some(5), "{told}");
    assert!(told.contains("are a copy"), "{told}");
    // The original goes on as ever.
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();

    let adopted = json_of(&copy, &["wallet", "adopt", "--json"]);
    assert_eq!(
        adopted["channels"].as_array().unwrap().len(),
        1,
        "{adopted}"
    );
    let consumer = town.consumer_in("copy");
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();
    provider.stop();
    // Nothing was signed on the channel before its receipts were there.
    let (_, events) = purses(&copy).await.remove(0);
    let marked = events
        .iter()
        .position(|event| *event == PurseEvent::Restored)
        .unwrap();
    let signs =
        |event: &PurseEvent| matches!(event, PurseEvent::Asked { .. } | PurseEvent::Ceiling { .. });
    let rest = &events[marked..];
    let resumed = rest
        .iter()
        .position(|event| matches!(event, PurseEvent::Resumed { .. }));
    let unproved = &rest[..resumed.unwrap_or(rest.len())];
    assert!(!unproved.iter().any(signs), "{unproved:?}");
    agree(&town, &copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_put_back_in_place_is_found_out_by_the_provider_s_receipts() {
    let town = Town::start().await;
    let provider = town.provider();
    let folder = town.folder().join("consumer");
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();
    let backup = contents(&folder);
    let consumer = town.consumer();
    for _ in 0..3 {
        Client::of(&consumer).answered(MODEL, "5").await;
    }
    consumer.stop();
    let lost = purses(&folder).await.remove(0).1;
    let lost = Purse::replay(&lost).unwrap();
    // Into the same files: nothing on this machine tells them from before.
    for (path, bytes) in &backup {
        fs::write(path, bytes).unwrap();
    }
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();
    provider.stop();

    let mut purses = purses(&folder).await;
    let (_, events) = purses.remove(0);
    assert!(events.contains(&PurseEvent::Restored), "{events:?}");
    let purse = Purse::replay(&events).unwrap();
    assert!(purse.charged() >= lost.charged(), "its receipts came back");
    agree(&town, &folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_alone_find_every_channel_and_go_on_with_it() {
    let town = Town::start().await;
    let provider = town.provider();
    let consumer = town.consumer();
    let payer = consumer.said("payer");
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();
    let folder = town.folder().join("consumer");
    let before = purses(&folder).await.remove(0);
    let charged = Purse::replay(&before.1).unwrap().charged();

    let words = ended(&folder, &["wallet", "phrase"]);
    assert!(
        said(&words).contains("--yes"),
        "words went where nobody looks"
    );
    assert!(words.stdout.is_empty());
    let words = ended(&folder, &["wallet", "phrase", "--yes"]).stdout;
    fs::remove_dir_all(&folder).unwrap();
    claimed(&town, &provider, charged).await;

    let file = town.folder().join("words");
    store_private(&file, &words);
    let rpc = town.rpc_url();
    let args = [
        "wallet",
        "restore",
        "--rpc-url",
        &rpc,
        "--phrase-file",
        file.to_str().unwrap(),
        "--json",
    ];
    let restored = json_of(&folder, &args);
    assert_eq!(restored["wallet"], payer.as_str());
    let channels = restored["channels"].as_array().unwrap();
    let ids: BTreeSet<_> = channels.iter().map(|c| c["id"].as_str().unwrap()).collect();
    let ledger = town.ledger().await;
    let id = before.0.config.id(&ledger.domain()).to_string();
    assert_eq!(ids, BTreeSet::from([id.as_str()]), "{restored}");
    // Again is no harm, and the folder knows by then where its chain is.
    let again = [
        "wallet",
        "restore",
        "--phrase-file",
        file.to_str().unwrap(),
        "--json",
    ];
    let again = json_of(&folder, &again);
    assert_eq!(again["channels"][0]["new"], false);
    let asked = json_of(&folder, &["where", "--json"]);
    assert!(asked["complete"].as_bool().unwrap(), "{asked}");

    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "3").await;
    consumer.stop();
    provider.stop();
    let after = purses(&folder).await;
    assert_eq!(
        after.len(),
        1,
        "its receipts were proved: no second channel"
    );
    let resumed = |event: &PurseEvent| matches!(event, PurseEvent::Resumed { .. });
    assert!(after[0].1.iter().any(resumed));
    let purse = Purse::replay(&after[0].1).unwrap();
    assert!(purse.charged() > charged);
    agree(&town, &folder).await;
    let left = wallet(&town, payer.parse().unwrap()).await;
    assert!(!left.is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_old_books_takes_nothing_that_they_contradict() {
    let town = Town::start().await;
    let provider = town.provider();
    let consumer = town.consumer();
    let opening = Opening::of(&town, &provider, &consumer).await;
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;
    opening.claimed_beyond(&town, Amount::ZERO).await;
    provider.stop();
    let backup = contents(&town.folder().join("provider"));
    let provider = town.provider();
    let before = opening.claimed(&town).await;
    client.answered(MODEL, "3").await;
    opening.claimed_beyond(&town, before).await;
    provider.stop();
    for (path, bytes) in &backup {
        fs::write(path, bytes).unwrap();
    }
    // The channel of before is refused; a new one is opened, and pays.
    let provider = town.provider();
    client.answered(MODEL, "3").await;
    consumer.stop();
    provider.stop();
    let purses = purses(&town.folder().join("consumer")).await;
    assert_eq!(purses.len(), 2, "the old channel was used on");
    let old = Purse::replay(&purses[0].1).unwrap();
    assert_eq!(old.sequence(), 2, "an answer was billed over old books");
    let new = Purse::replay(&purses[1].1).unwrap();
    assert_eq!(new.sequence(), 1);
}

fn store_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
