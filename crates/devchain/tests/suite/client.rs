//! A client for the tests: raw JSON-RPC over HTTP, well-known keys, and signed
//! transactions, so that the same bytes can go to two chains.

#![expect(dead_code, reason = "each test target uses a part of it")]

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, Signed, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, Signature, TxHash, TxKind, U256, hex};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use devchain::{Devchain, Genesis, Options};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The chain id of development chains.
pub(crate) const CHAIN_ID: u64 = 31_337;
/// When the chains of the tests begin.
pub(crate) const START: u64 = 1_800_000_000;
/// 1 gwei, in wei.
pub(crate) const GWEI: u128 = 1_000_000_000;

/// The accounts of the well-known mnemonic ("test test … junk").
const KEYS: [&str; 4] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];

/// One of the well-known keys.
pub(crate) fn key(index: usize) -> PrivateKeySigner {
    let bytes = hex::decode(KEYS[index]).unwrap();
    PrivateKeySigner::from_slice(&bytes).unwrap()
}

/// A genesis that gives every well-known account 10,000 ether.
pub(crate) fn genesis() -> Genesis {
    let ether = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    let start = Genesis {
        timestamp: Some(START),
        ..Genesis::new(CHAIN_ID)
    };
    (0..KEYS.len()).fold(start, |genesis, index| {
        genesis.with_balance(key(index).address(), ether)
    })
}

/// The creation code of a committed contract.
pub(crate) fn creation_code(contract: &str) -> Vec<u8> {
    code(contract, "bytecode")
}

/// The runtime code of a committed contract.
pub(crate) fn runtime_code(contract: &str) -> Bytes {
    code(contract, "deployedBytecode").into()
}

fn code(contract: &str, which: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root
        .join("../../contracts/artifacts")
        .join(format!("{contract}.json"));
    let artifact: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    hex::decode(artifact[which].as_str().unwrap()).unwrap()
}

/// A transaction before it is signed.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) chain_id: u64,
    pub(crate) nonce: u64,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) gas: u64,
    pub(crate) max_fee: u128,
    pub(crate) tip: u128,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            chain_id: CHAIN_ID,
            nonce: 0,
            to: Some(key(1).address()),
            value: U256::ZERO,
            data: Bytes::new(),
            gas: 21_000,
            max_fee: 10 * GWEI,
            tip: GWEI,
        }
    }
}

impl Draft {
    /// The wire bytes and the hash.
    pub(crate) fn signed(&self, key: &PrivateKeySigner) -> (Bytes, TxHash) {
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: self.max_fee,
            max_priority_fee_per_gas: self.tip,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value,
            access_list: alloy::eips::eip2930::AccessList::default(),
            input: self.data.clone(),
        };
        sign(tx, key)
    }
}

/// The wire bytes and the hash of any kind of transaction.
pub(crate) fn sign<T>(tx: T, key: &PrivateKeySigner) -> (Bytes, TxHash)
where
    T: SignableTransaction<Signature>,
    TxEnvelope: From<Signed<T>>,
{
    let signature = key.sign_hash_sync(&tx.signature_hash()).unwrap();
    let envelope = TxEnvelope::from(tx.into_signed(signature));
    (envelope.encoded_2718().into(), *envelope.tx_hash())
}

/// A JSON-RPC endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    http: reqwest::Client,
    pub(crate) url: String,
}

impl Rpc {
    pub(crate) fn new(url: String) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            rustls::crypto::aws_lc_rs::default_provider()
                .install_default()
                .unwrap();
        });
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60));
        Self {
            http: http.build().unwrap(),
            url,
        }
    }

    /// Sends a body as it is; the status and the body that come back.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        let response = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// What a browser asks before it sends anything.
    pub(crate) async fn preflight(&self) -> reqwest::Response {
        let request = self.http.request(reqwest::Method::OPTIONS, &self.url);
        request
            .header("origin", "http://localhost:3000")
            .send()
            .await
            .unwrap()
    }

    /// The result, or the error object.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (_, text) = self.post(body.to_string()).await;
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        }
    }

    /// The result of a request that works.
    pub(crate) async fn get(&self, method: &str, params: Value) -> Value {
        let asked = params.to_string();
        let shown = asked.get(..200).unwrap_or(&asked);
        match self.ask(method, params).await {
            Ok(result) => result,
            Err(error) => panic!("{method} {shown}: {error}"),
        }
    }

    /// Code and message of a request that fails.
    pub(crate) async fn error(&self, method: &str, params: Value) -> (i64, String) {
        let error = self.ask(method, params).await.expect_err(method);
        (
            error["code"].as_i64().unwrap(),
            error["message"].as_str().unwrap().to_owned(),
        )
    }

    /// A quantity.
    pub(crate) async fn quantity(&self, method: &str, params: Value) -> U256 {
        quantity(&self.get(method, params).await)
    }

    /// Sends a signed transaction.
    pub(crate) async fn send(&self, raw: &Bytes) -> Result<TxHash, Value> {
        let hash = self.ask("eth_sendRawTransaction", json!([raw])).await?;
        Ok(serde_json::from_value(hash).unwrap())
    }

    /// Signs, sends and gives the receipt.
    pub(crate) async fn mined(&self, draft: &Draft, key: &PrivateKeySigner) -> Value {
        let (raw, hash) = draft.signed(key);
        assert_eq!(self.send(&raw).await.unwrap(), hash);
        let receipt = self.get("eth_getTransactionReceipt", json!([hash])).await;
        assert!(receipt.is_object(), "{hash} was not mined at once");
        receipt
    }

    /// The hash of the latest block.
    pub(crate) async fn head(&self) -> B256 {
        let block = self
            .get("eth_getBlockByNumber", json!(["latest", false]))
            .await;
        serde_json::from_value(block["hash"].clone()).unwrap()
    }
}

/// Reads `"0x…"`.
pub(crate) fn quantity(value: &Value) -> U256 {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no quantity"))
        .parse()
        .unwrap()
}

/// An address in an answer.
pub(crate) fn address(value: &Value) -> Address {
    serde_json::from_value(value.clone()).unwrap()
}

/// A chain that is served on a port of its own until this is dropped.
pub(crate) struct Served {
    pub(crate) rpc: Rpc,
    stop: DropGuard,
    tasks: JoinSet<()>,
}

impl Served {
    pub(crate) async fn new(genesis: &Genesis, options: Options) -> Self {
        Self::of(Devchain::open(genesis, options, || START + 10).unwrap()).await
    }

    pub(crate) async fn of(chain: Devchain) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rpc = Rpc::new(format!("http://{}", listener.local_addr().unwrap()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(devchain::serve(chain, listener, stop.clone()));
        Self {
            rpc,
            stop: stop.drop_guard(),
            tasks,
        }
    }

    /// Stops and waits until the chain is closed.
    pub(crate) async fn close(mut self) {
        self.stop.disarm().cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}
