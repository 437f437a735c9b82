//! An anvil of our own on a free port, with the contracts on it.

use std::process::Stdio;
use std::sync::Arc;

use chain::{
    DEVELOPMENT_ACCOUNTS, DevelopmentAccount, EvmLedger, Grant, LocalMarket, MemoryJournal,
    Network, TxJournal,
};
use market::{Amount, LedgerError, MemoryLedger};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// What each development account has in the beginning, in both tokens.
pub(crate) const GRANT: Amount = Amount::new(10_000);

/// A running anvil; dropping it kills it.
pub(crate) struct Anvil {
    pub(crate) url: String,
    client: reqwest::Client,
    _child: Child,
    /// Reads on, or anvil would stop at a full pipe.
    _reader: JoinSet<()>,
}

impl Anvil {
    /// An empty chain.
    pub(crate) async fn bare(arguments: &[&str]) -> Self {
        // A second test of the process finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let program = std::env::var_os("ANVIL").expect("ANVIL=path of anvil is needed");
        let mut child = Command::new(program)
            .args(["--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("anvil starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = loop {
            let line = lines.next_line().await.expect("anvil speaks");
            let line = line.expect("anvil says where it listens before it ends");
            if let Some(address) = line.strip_prefix("Listening on ") {
                break address.to_owned();
            }
        };
        let mut reader = JoinSet::new();
        reader.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            url: format!("http://{address}"),
            client: reqwest::Client::new(),
            _child: child,
            _reader: reader,
        }
    }

    /// A chain with the contracts, and with money in the first six accounts.
    pub(crate) async fn with_contracts() -> Self {
        let anvil = Self::bare(&[]).await;
        chain::place_code(&anvil.url).await.expect("code is placed");
        chain::deploy(&anvil.url, &market())
            .await
            .expect("contracts are deployed");
        anvil
    }

    /// The ledger of one account.
    pub(crate) async fn ledger(&self, account: DevelopmentAccount) -> EvmLedger {
        self.ledger_with(account, Arc::new(MemoryJournal::default()))
            .await
            .expect("the chain is as its profile says")
    }

    /// The same with a given journal.
    pub(crate) async fn ledger_with(
        &self,
        account: DevelopmentAccount,
        journal: Arc<dyn TxJournal>,
    ) -> Result<EvmLedger, LedgerError> {
        let key = Arc::new(account.wallet());
        EvmLedger::connect(&self.url, Network::local(), key, journal).await
    }

    /// A raw call, for what only a test chain can do.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.client.post(&self.url).json(&body).send().await;
        let mut answer: Value = answer.expect("anvil answers").json().await.expect("JSON");
        assert_eq!(answer["error"], Value::Null, "{method}");
        answer["result"].take()
    }

    /// Lets time pass.
    pub(crate) async fn advance(&self, seconds: u64) {
        self.call("evm_increaseTime", json!([seconds])).await;
        self.call("evm_mine", json!([])).await;
    }
}

/// The terms of the ledger in memory, and money for the first six accounts.
pub(crate) fn market() -> LocalMarket {
    LocalMarket {
        stakes: MemoryLedger::STAKES,
        grants: DEVELOPMENT_ACCOUNTS[..6]
            .iter()
            .map(|account| Grant {
                account: account.address,
                mor: GRANT,
                usd: GRANT,
            })
            .collect(),
    }
}
