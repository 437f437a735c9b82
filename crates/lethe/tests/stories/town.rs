//! A market of processes: a chain, a provider with a backend that counts, and
//! a consumer, each with a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::keccak256;
use chain::EvmLedger;
use market::ChannelId;
use serde_json::{Value, json};

use crate::anvil::Anvil;
use crate::backend::Counting;
use crate::process::{PATIENCE, Running};

pub(crate) const MODEL: &str = "counting";
/// A question whose answer does not end by itself.
pub(crate) const LONG: &str = "100000";
/// Base units per 10^6 tokens, both ways: one unit a token.
pub(crate) const PRICE: &str = "0.000000000001";
/// Seconds that a backend is waited for.
const BACKEND_WITHIN: &str = "1";
/// Seconds between two claims: some happen during every story.
const CLAIM_EVERY: &str = "1";

/// The embedded chain, or anvil if its path is given: the same stories hold on both.
enum Chain {
    Embedded(Running),
    Anvil(Anvil),
    /// It was here.
    Gone(String),
}

pub(crate) struct Town {
    folder: tempfile::TempDir,
    pub(crate) backend: Counting,
    chain: Chain,
    /// Whether the chain's time can be moved.
    is_movable: bool,
}

impl Town {
    pub(crate) async fn start() -> Self {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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
            is_movable: false,
        }
    }

    /// With the embedded chain, whatever the environment says.
    pub(crate) async fn start_embedded() -> Self {
        let mut town = Self::start().await;
        if let Chain::Anvil(_) = town.chain {
            let data = town.folder.path().join("chain");
            let chain = Running::start(&data, &["chain", "--rpc", "127.0.0.1:0"]);
            town.chain = Chain::Embedded(chain);
        }
        town
    }

    /// With an embedded chain whose time can be moved.
    pub(crate) async fn start_movable() -> Self {
        let mut town = Self::start().await;
        town.is_movable = true;
        town.chain_starts("127.0.0.1:0");
        town
    }

    /// So many seconds pass on the chain.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.rpc("evm_increaseTime", json!([seconds])).await;
        self.rpc("evm_mine", json!([])).await;
    }

    /// `kill -9` for the chain. Where it was.
    pub(crate) fn chain_dies(&mut self) -> String {
        let rpc_url = self.rpc_url();
        let gone = Chain::Gone(rpc_url.clone());
        match std::mem::replace(&mut self.chain, gone) {
            Chain::Embedded(running) => running.kill(),
            Chain::Anvil(_) | Chain::Gone(_) => panic!("there is no embedded chain"),
        }
        rpc_url
    }

    /// It is back where it was, with what it had.
    pub(crate) fn chain_returns(&mut self) {
        let rpc_url = self.rpc_url();
        self.chain_starts(rpc_url.trim_start_matches("http://"));
    }

    fn chain_starts(&mut self, address: &str) {
        let (folder, flags): (_, &[_]) = match self.is_movable {
            true => ("movable", &["chain", "--cheats", "--rpc", address]),
            false => ("chain", &["chain", "--rpc", address]),
        };
        let running = Running::start(&self.folder.path().join(folder), flags);
        self.chain = Chain::Embedded(running);
    }

    pub(crate) fn rpc_url(&self) -> String {
        match &self.chain {
            Chain::Embedded(running) => running.said("rpc_url"),
            Chain::Anvil(anvil) => anvil.rpc_url.clone(),
            Chain::Gone(rpc_url) => rpc_url.clone(),
        }
    }

    /// Asks the chain's server.
    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.post(self.rpc_url()).json(&request).send().await;
        let mut answer: Value = response.unwrap().json().await.unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The one channel that there is on chain.
    pub(crate) async fn channel(&self) -> ChannelId {
        let config = "(address,address,address,address,address,uint40,bytes32)";
        let created = keccak256(format!("ChannelCreated(bytes32,{config})"));
        let filter = json!([{ "topics": [created], "fromBlock": "0x0", "toBlock": "latest" }]);
        let logs = self.rpc("eth_getLogs", filter).await;
        serde_json::from_value(logs[0]["topics"][1].clone()).unwrap()
    }

    /// The chain as somebody sees it who takes no part.
    pub(crate) async fn ledger(&self) -> EvmLedger {
        let key = Arc::new(chain::DEVELOPMENT_ACCOUNTS[1].wallet());
        let journal = Arc::new(chain::MemoryJournal::default());
        let network = chain::Network::local();
        EvmLedger::connect(&self.rpc_url(), network, key, journal)
            .await
            .unwrap()
    }

    pub(crate) fn provider(&self) -> Running {
        self.provider_of("provider", &self.backend, PRICE)
    }

    /// A provider with a folder of this name, in front of this backend, which
    /// it waits for no longer than a second.
    pub(crate) fn provider_of(&self, folder: &str, backend: &Counting, price: &str) -> Running {
        let args = self.provider_args(backend, price);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        Running::start(&self.folder.path().join(folder), &args)
    }

    /// What a provider is told.
    pub(crate) fn provider_args(&self, backend: &Counting, price: &str) -> Vec<String> {
        let rpc = self.rpc_url();
        let args = [
            "provide",
            "--rpc-url",
            &rpc,
            "--model",
            MODEL,
            "--backend",
            &backend.url,
            "--first-chunk-within",
            BACKEND_WITHIN,
            "--stall-after",
            BACKEND_WITHIN,
            "--endpoint",
            "127.0.0.1:0",
            "--input-price",
            price,
            "--output-price",
            price,
            "--claim-every",
            CLAIM_EVERY,
            "--no-probe",
        ];
        args.map(str::to_owned).into()
    }

    /// A relay with a folder of this name, with more flags.
    pub(crate) fn relay(&self, folder: &str, flags: &[&str]) -> Running {
        let rpc = self.rpc_url();
        let usual = ["relay", "--rpc-url", &rpc, "--endpoint", "127.0.0.1:0"];
        let args: Vec<_> = usual.iter().chain(flags).copied().collect();
        Running::start(&self.folder.path().join(folder), &args)
    }

    /// A consumer that goes through relays.
    pub(crate) fn oblivious_consumer(&self) -> Running {
        let rpc = self.rpc_url();
        let args = ["consume", "--rpc-url", &rpc, "--http", "127.0.0.1:0"];
        Running::start(&self.folder.path().join("consumer"), &args)
    }

    pub(crate) fn consumer(&self) -> Running {
        self.consumer_in("consumer")
    }

    /// A consumer with a folder of this name.
    pub(crate) fn consumer_in(&self, folder: &str) -> Running {
        self.consumer_with(folder, &[])
    }

    /// The same, with more flags.
    pub(crate) fn consumer_with(&self, folder: &str, flags: &[&str]) -> Running {
        let usual = self.consumer_args();
        let usual = usual.iter().map(String::as_str);
        let args: Vec<_> = usual.chain(flags.iter().copied()).collect();
        Running::start(&self.folder.path().join(folder), &args)
    }

    /// What a consumer is told.
    pub(crate) fn consumer_args(&self) -> Vec<String> {
        let rpc = self.rpc_url();
        let usual = [
            "consume",
            "--direct",
            "--rpc-url",
            &rpc,
            "--http",
            "127.0.0.1:0",
        ];
        usual.map(str::to_owned).into()
    }

    /// Where everybody's folders are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the provider's books are.
    pub(crate) fn provider_journal(&self) -> PathBuf {
        self.folder.path().join("provider/provider.sqlite")
    }

    /// Where the consumer's books are.
    pub(crate) fn consumer_journal(&self) -> PathBuf {
        self.folder.path().join("consumer/consumer.sqlite")
    }

    /// Nothing computes for somebody who is gone.
    pub(crate) async fn backend_rests(&self) {
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
pub(crate) async fn read_tokens(response: &mut reqwest::Response, tokens: usize) {
    let (mut came, mut last) = (0, String::new());
    while came < tokens {
        let piece = response.chunk().await.unwrap();
        let piece = piece.unwrap_or_else(|| panic!("the answer ended early: {last}"));
        last = String::from_utf8_lossy(&piece).into_owned();
        came += last.matches("\"content\"").count();
    }
}
