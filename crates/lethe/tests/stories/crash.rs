//! `kill -9` in the middle of answers, on either side, at many points: nobody
//! loses more than one step, and chain and both journals agree to the unit.

use std::path::Path;
use std::time::Duration;

use market::{Amount, Purse, PurseEvent, STEP_TOKENS, Till, TillEvent};
use serde::de::DeserializeOwned;
use store::Store;

use crate::backend::{Counting, INPUT_TOKENS};
use crate::process::{Client, PATIENCE, Running};

const MODEL: &str = "counting";
/// Base units per 10^6 tokens, both ways: one unit a token.
const PRICE: &str = "0.000000000001";
const LONG: &str = "100000";

struct Town {
    folder: tempfile::TempDir,
    backend: Counting,
    chain: Running,
}

impl Town {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = Counting::start().await;
        let chain = Running::start(
            &folder.path().join("chain"),
            &["chain", "--rpc", "127.0.0.1:0"],
        );
        Self {
            folder,
            backend,
            chain,
        }
    }

    fn provider(&self) -> Running {
        let rpc = self.chain.said("rpc_url");
        let args = [
            "provide",
            "--rpc-url",
            &rpc,
            "--model",
            MODEL,
            "--backend",
            &self.backend.url,
            "--endpoint",
            "127.0.0.1:0",
            "--input-price",
            PRICE,
            "--output-price",
            PRICE,
        ];
        Running::start(&self.folder.path().join("provider"), &args)
    }

    fn consumer(&self) -> Running {
        let rpc = self.chain.said("rpc_url");
        Running::start(
            &self.folder.path().join("consumer"),
            &["consume", "--rpc-url", &rpc, "--http", "127.0.0.1:0"],
        )
    }

    /// Nothing computes for somebody who is gone.
    async fn backend_rests(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.backend.running() > 0 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the backend works on for nobody"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads until so many tokens came.
async fn read_tokens(response: &mut reqwest::Response, tokens: usize) {
    let mut came = 0;
    while came < tokens {
        let piece = response
            .chunk()
            .await
            .unwrap()
            .expect("the answer ended early");
        came += String::from_utf8_lossy(&piece)
            .matches("\"content\"")
            .count();
    }
}

/// The events of the one journal whose name starts like this.
async fn journal<E: DeserializeOwned>(file: &Path, prefix: &str) -> Vec<E> {
    let store = Store::open(file).unwrap();
    let names = store.journals(prefix).await.unwrap();
    assert_eq!(names.len(), 1, "one channel was enough: {names:?}");
    let entries = store.journal(&names[0]).load().await.unwrap();
    store.close().await;
    // The first entry of a till says which channel it is; that is no event.
    entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.payload).ok())
        .collect()
}

/// Both sides' books, from their journals.
async fn books(town: &Town) -> (Purse, Till, u64) {
    let purse: Vec<PurseEvent> = journal(
        &town.folder.path().join("consumer/consumer.sqlite"),
        "consumer/purse/",
    )
    .await;
    let till: Vec<TillEvent> = journal(
        &town.folder.path().join("provider/provider.sqlite"),
        "till/",
    )
    .await;
    let asked = purse
        .iter()
        .filter(|event| matches!(event, PurseEvent::Asked { .. }))
        .count();
    let channel = till.iter().find_map(|event| match event {
        TillEvent::Receipted { receipt } => Some(receipt.channel),
        _ => None,
    });
    let till = Till::replay(channel.unwrap(), &till);
    (
        Purse::replay(&purse).unwrap(),
        till,
        u64::try_from(asked).unwrap(),
    )
}

fn step() -> Amount {
    Amount::new(u128::from(STEP_TOKENS))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_provider_loses_at_most_a_step_and_the_books_agree() {
    let town = Town::start().await;
    let mut provider = town.provider();
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;

    for tokens in [1, 31, 33, 64, 100] {
        let mut response = client.ask(MODEL, LONG).await;
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
        read_tokens(&mut response, tokens).await;
        provider.kill();
        provider = town.provider();
        // The next answer pays for the last one as far as the provider knows of it.
        client.answered(MODEL, "3").await;
    }
    town.backend_rests().await;
    consumer.stop();
    provider.stop();
    agree(&town).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_consumer_loses_at_most_a_step_and_the_books_agree() {
    let town = Town::start().await;
    let provider = town.provider();
    let mut consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "3").await;

    for tokens in [1, 32, 40, 65, 97] {
        let client = Client::of(&consumer);
        let mut response = client.ask(MODEL, LONG).await;
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
        read_tokens(&mut response, tokens).await;
        consumer.kill();
        town.backend_rests().await;
        consumer = town.consumer();
        Client::of(&consumer).answered(MODEL, "3").await;
    }
    consumer.stop();
    provider.stop();
    agree(&town).await;
}

/// Both journals tell the same, and what is signed is no more than a step and
/// an input ahead of what is charged.
async fn agree(town: &Town) {
    let (purse, till, asked) = books(town).await;
    assert_eq!(
        purse.charged(),
        till.charged(),
        "what one side bills the other side books"
    );
    assert_eq!(purse.sequence(), till.sequence());
    assert_eq!(
        till.sequence(),
        asked,
        "every request that was taken has its receipt"
    );
    assert!(till.ceiling() <= purse.ceiling());
    assert!(
        till.charged() <= till.ceiling().plus(step()).unwrap(),
        "the provider is a step short at most"
    );

    // The first voucher reckons with the request's bytes; the rest is the step.
    let input_estimate = Amount::new(200);
    let ahead = purse.ceiling().less(purse.charged());
    assert!(
        ahead <= step().plus(input_estimate).unwrap(),
        "{ahead} signed ahead"
    );
    assert!(purse.charged() >= Amount::new(u128::from(INPUT_TOKENS) * u128::from(asked)));
}
