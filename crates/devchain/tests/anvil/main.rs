//! The same signed transactions and questions to this chain and to anvil.
//!
//! What must be equal: whether a transaction is taken, everything in its receipt
//! and in its block's header (roots and bloom included, but for what hangs on
//! the state root), the data that calls return, estimates, reverts, balances.
//! `cargo test -p devchain --test anvil` with ANVIL naming the program.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "../suite/client.rs"]
mod client;

mod scenario;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use alloy::primitives::{Address, Bytes, TxHash, U256};
use alloy::signers::local::PrivateKeySigner;
use devchain::Options;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use client::{CHAIN_ID, Draft, GWEI, Rpc, START, Served, genesis, key, quantity, runtime_code};

/// How often, and how long apart, anvil is asked whether it made a block.
const LOOKS: u32 = 400;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Both chains; whatever is done is done to both.
pub(crate) struct Both {
    ours: Rpc,
    theirs: Rpc,
    /// The next block's time, so that both stamp alike.
    time: u64,
    _served: Served,
    _anvil: Child,
}

impl Both {
    async fn start() -> Self {
        let program = std::env::var_os("ANVIL").expect("ANVIL must name the anvil program");
        let mut anvil = Command::new(&program)
            .args(["--port", "0", "--chain-id", &CHAIN_ID.to_string()])
            .args(["--timestamp", &START.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut lines = BufReader::new(anvil.stdout.take().unwrap()).lines();
        let listening = loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("anvil ended before it listened");
            if let Some(at) = line.strip_prefix("Listening on ") {
                break at.to_owned();
            }
        };
        let options = Options {
            cheats: true,
            ..Options::default()
        };
        let served = Served::new(&genesis(), options).await;
        let theirs = Rpc::new(format!("http://{listening}"));
        // anvil lets block 1 have the base fee of block 0; EIP-1559, and we, lower it.
        let base_fee = served.rpc.quantity("eth_gasPrice", json!([])).await - U256::from(GWEI);
        theirs
            .get("anvil_setNextBlockBaseFeePerGas", json!([base_fee]))
            .await;
        Self {
            ours: served.rpc.clone(),
            theirs,
            time: START + 100,
            _served: served,
            _anvil: anvil,
        }
    }

    /// Does something that has no answer worth comparing.
    pub(crate) async fn cheat(&self, method: &str, params: Value) {
        self.ours.get(method, params.clone()).await;
        self.theirs.get(method, params).await;
    }

    /// Puts a committed contract at an address.
    pub(crate) async fn place(&self, contract: &str, address: Address) {
        self.cheat("anvil_setCode", json!([address, runtime_code(contract)]))
            .await;
    }

    /// Lets time pass until the next block.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.time += seconds;
    }

    /// Sends a transaction to both and compares what comes of it; the receipt.
    pub(crate) async fn send(
        &mut self,
        what: &str,
        draft: &Draft,
        key: &PrivateKeySigner,
    ) -> Value {
        let (raw, hash) = draft.signed(key);
        self.send_raw(what, &raw, hash).await
    }

    pub(crate) async fn send_raw(&mut self, what: &str, raw: &Bytes, hash: TxHash) -> Value {
        self.time += 1;
        self.cheat("evm_setNextBlockTimestamp", json!([self.time]))
            .await;
        self.ours
            .send(raw)
            .await
            .unwrap_or_else(|error| panic!("{what}: ours says {error}"));
        self.theirs
            .send(raw)
            .await
            .unwrap_or_else(|error| panic!("{what}: theirs says {error}"));
        self.they_mined(hash).await;
        let receipt = self
            .same(what, "eth_getTransactionReceipt", json!([hash]), RECEIPT)
            .await;
        self.same(what, "eth_getTransactionByHash", json!([hash]), TRANSACTION)
            .await;
        self.same(
            what,
            "eth_getBlockByNumber",
            json!(["latest", false]),
            BLOCK,
        )
        .await;
        receipt
    }

    /// Anvil answers before it has made the block.
    async fn they_mined(&self, hash: TxHash) {
        for _ in 0..LOOKS {
            let receipt = self
                .theirs
                .get("eth_getTransactionReceipt", json!([hash]))
                .await;
            if !receipt.is_null() {
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Asks both, drops what may differ and compares the rest.
    async fn same(&self, what: &str, method: &str, params: Value, but: &[&str]) -> Value {
        let mut ours = self.ours.get(method, params.clone()).await;
        let mut theirs = self.theirs.get(method, params).await;
        strip(&mut ours, but);
        strip(&mut theirs, but);
        let differences = differences(method, &ours, &theirs);
        assert!(
            differences.is_empty(),
            "{what}:\n{}",
            differences.join("\n")
        );
        ours
    }

    /// Compares what a call returns, or with what data it reverts.
    pub(crate) async fn call(&self, what: &str, request: Value) -> Value {
        self.alike(what, "eth_call", request).await
    }

    /// Compares estimates, or with what data they revert.
    pub(crate) async fn estimate(&self, what: &str, request: Value) -> Value {
        self.alike(what, "eth_estimateGas", request).await
    }

    async fn alike(&self, what: &str, method: &str, request: Value) -> Value {
        let outcome = |answer: Result<Value, Value>| match answer {
            Ok(result) => result,
            Err(error) => json!({"reverted": error["code"], "data": error["data"]}),
        };
        // The tag makes both look at the same time.
        let params = json!([request, "pending"]);
        let ours = outcome(self.ours.ask(method, params.clone()).await);
        let theirs = outcome(self.theirs.ask(method, params).await);
        assert_eq!(
            ours, theirs,
            "{what}: {method} {request}, ours left, theirs right"
        );
        ours
    }

    /// Compares refusals: both refuse, and neither chain moves.
    pub(crate) async fn refused(&self, what: &str, draft: &Draft, key: &PrivateKeySigner) {
        let (raw, _) = draft.signed(key);
        self.ours.send(&raw).await.expect_err(what);
        self.theirs.send(&raw).await.expect_err(what);
        self.same(what, "eth_blockNumber", json!([]), &[]).await;
    }

    /// Compares balances, nonces and fees.
    pub(crate) async fn books(&self, what: &str) {
        for index in 0..4 {
            let who = key(index).address();
            self.same(what, "eth_getBalance", json!([who, "latest"]), &[])
                .await;
            self.same(what, "eth_getTransactionCount", json!([who, "latest"]), &[])
                .await;
        }
        self.same(what, "eth_gasPrice", json!([]), &[]).await;
        self.same(
            what,
            "eth_feeHistory",
            json!(["0x400", "latest", [1.0, 50.0, 99.0]]),
            &[],
        )
        .await;
        let filter = json!([{"fromBlock": "0x0"}]);
        self.same(what, "eth_getLogs", filter, &["blockHash"]).await;
    }
}

/// `blobGasPrice` and `blockTimestamp` are anvil's additions; hashes hang on the
/// state root, which this chain doesn't have.
const RECEIPT: &[&str] = &["blockHash", "blobGasPrice", "blockTimestamp"];
const TRANSACTION: &[&str] = &["blockHash"];
/// `mixHash` is random in anvil, and its `size` forgets the list of withdrawals.
const BLOCK: &[&str] = &["hash", "parentHash", "stateRoot", "mixHash", "size"];

fn strip(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !names.contains(&name.as_str()));
            map.values_mut().for_each(|value| strip(value, names));
        }
        Value::Array(all) => all.iter_mut().for_each(|value| strip(value, names)),
        _ => {}
    }
}

/// The places where two answers aren't the same.
fn differences(at: &str, ours: &Value, theirs: &Value) -> Vec<String> {
    match (ours, theirs) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let absent = Value::String("(absent)".to_owned());
            let side =
                |map: &Map<String, Value>, name: &str| map.get(name).unwrap_or(&absent).clone();
            let each = |name: &&String| {
                differences(
                    &format!("{at}.{name}"),
                    &side(left, name),
                    &side(right, name),
                )
            };
            names.iter().flat_map(each).collect()
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs
                .flat_map(|(index, (l, r))| differences(&format!("{at}[{index}]"), l, r))
                .collect()
        }
        _ if ours == theirs => Vec::new(),
        _ => vec![format!("{at}: ours {ours}, theirs {theirs}")],
    }
}

/// A number in a receipt.
pub(crate) fn number(value: &Value) -> U256 {
    quantity(value)
}
