//! `kill -9` in the middle of answers, on either side, at many points: nobody
//! loses more than one step, and chain and both journals agree to the unit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use market::{Amount, Ledger, Purse, PurseEvent, STEP_TOKENS, Till, TillEvent};
use serde::de::DeserializeOwned;
use store::Store;

use crate::anvil::Anvil;
use crate::backend::{Counting, INPUT_TOKENS};
use crate::process::{Client, PATIENCE, Running};

pub(crate) const MODEL: &str = "counting";
/// Base units per 10^6 tokens, both ways: one unit a token.
const PRICE: &str = "0.000000000001";
const LONG: &str = "100000";
/// Each story: a first answer, then five that are cut and five after them.
const ANSWERS: u64 = 11;

/// The embedded chain, or anvil if its path is given: the same stories hold on both.
enum Chain {
    Embedded(Running),
    Anvil(Anvil),
}

pub(crate) struct Town {
    folder: tempfile::TempDir,
    backend: Counting,
    chain: Chain,
}

impl Town {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = Counting::start().await;
        let chain = match std::env::var_os("LETHE_STORIES_ANVIL") {
            Some(path) => Chain::Anvil(Anvil::start(&path).await),
            None => {
                let data = folder.path().join("chain");
                Chain::Embedded(Running::start(&data, &["chain", "--rpc", "127.0.0.1:0"]))
            }
        };
        Self {
            folder,
            backend,
            chain,
        }
    }

    fn rpc_url(&self) -> String {
        match &self.chain {
            Chain::Embedded(running) => running.said("rpc_url"),
            Chain::Anvil(anvil) => anvil.rpc_url.clone(),
        }
    }

    /// What all channels hold on chain.
    async fn escrow(&self) -> Amount {
        let key = Arc::new(chain::DEVELOPMENT_ACCOUNTS[1].wallet());
        let journal = Arc::new(chain::MemoryJournal::default());
        let network = chain::Network::local();
        let rpc_url = self.rpc_url();
        let ledger = chain::EvmLedger::connect(&rpc_url, network, key, journal)
            .await
            .unwrap();
        let settlement = ledger.domain().settlement;
        ledger.balance(ledger.mor(), settlement).await.unwrap()
    }

    pub(crate) fn provider(&self) -> Running {
        let rpc = self.rpc_url();
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

    pub(crate) fn consumer(&self) -> Running {
        let rpc = self.rpc_url();
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
async fn books(town: &Town) -> (Purse, Till) {
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
    let channel = till.iter().find_map(|event| match event {
        TillEvent::Receipted { receipt } => Some(receipt.channel),
        _ => None,
    });
    let till = Till::replay(channel.unwrap(), &till);
    (Purse::replay(&purse).unwrap(), till)
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
    let (purse, till) = books(town).await;
    assert_eq!(
        purse.charged(),
        till.charged(),
        "what one side bills the other side books"
    );
    assert_eq!(purse.sequence(), till.sequence());
    assert!(
        till.sequence() >= ANSWERS,
        "an answer without a receipt: {}",
        till.sequence()
    );
    assert!(till.ceiling() <= purse.ceiling());
    let short = till.charged().less(till.ceiling());
    assert!(short <= step(), "the provider is {short} short");

    // The first voucher reckons with the request's bytes; the rest is the step.
    let input_estimate = Amount::new(200);
    let ahead = purse.ceiling().less(purse.charged());
    assert!(
        ahead <= step().plus(input_estimate).unwrap(),
        "{ahead} signed ahead"
    );
    let inputs = u128::from(INPUT_TOKENS) * u128::from(till.sequence());
    assert!(purse.charged() >= Amount::new(inputs));

    // The chain has what was claimed, and it is no more than was promised.
    let escrow = town.escrow().await;
    assert!(till.claimed() <= till.ceiling());
    assert!(
        purse.ceiling() <= escrow,
        "{} signed, {escrow} there",
        purse.ceiling()
    );
}
