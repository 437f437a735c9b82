//! What survives: the chain is closed, or its machine fails, and it is opened
//! again.

use std::fs;
use std::path::Path;

use alloy::primitives::{Address, B256, Bytes, U256};
use devchain::{Devchain, Genesis, OpenError, Options};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{Draft, GWEI, Rpc, START, Served, creation_code, genesis, key};

fn options(folder: &Path) -> Options {
    Options {
        data: Some(folder.to_owned()),
        cheats: true,
        ..Options::default()
    }
}

fn open(folder: &Path, genesis: &Genesis) -> Result<Devchain, OpenError> {
    Devchain::open(genesis, options(folder), || START + 10)
}

async fn served(folder: &Path) -> Served {
    Served::of(open(folder, &genesis()).unwrap()).await
}

/// All that can be asked about a chain: its blocks, balances and time.
async fn portrait(rpc: &Rpc) -> Vec<Value> {
    let latest = rpc.quantity("eth_blockNumber", json!([])).await.to::<u64>();
    let mut seen = Vec::new();
    for number in 0..=latest {
        let number = json!(format!("{number:#x}"));
        seen.push(rpc.get("eth_getBlockByNumber", json!([number, true])).await);
        seen.push(rpc.get("eth_getBlockReceipts", json!([number])).await);
    }
    for index in 0..4 {
        let who = key(index).address();
        seen.push(rpc.get("eth_getBalance", json!([who, "latest"])).await);
        seen.push(
            rpc.get("eth_getTransactionCount", json!([who, "pending"]))
                .await,
        );
    }
    let pending = rpc
        .get("eth_getBlockByNumber", json!(["pending", false]))
        .await;
    seen.push(pending["timestamp"].clone());
    seen.push(pending["baseFeePerGas"].clone());
    seen
}

/// One transfer of `value` wei from account 0.
fn payment(nonce: u64, value: u64) -> Draft {
    Draft {
        nonce,
        value: U256::from(value),
        ..Draft::default()
    }
}

/// A folder with `count` payments in blocks of their own, and their hashes.
async fn folder_with(count: u64) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let served = served(folder.path()).await;
    let mut hashes = Vec::new();
    for nonce in 0..count {
        let receipt = served.rpc.mined(&payment(nonce, nonce + 1), &key(0)).await;
        hashes.push(receipt["transactionHash"].clone());
    }
    served.close().await;
    (folder, hashes)
}

fn log(folder: &Path) -> std::path::PathBuf {
    folder.join("chain.log")
}

#[tokio::test]
async fn a_chain_is_the_same_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let first = served(folder.path()).await;
    let rpc = &first.rpc;
    rpc.mined(&payment(0, 5), &key(0)).await;
    let arguments = [B256::left_padding_from(key(0).address().as_slice()); 2].concat();
    let code = [
        creation_code("MorToken"),
        arguments,
        B256::with_last_byte(9).to_vec(),
    ]
    .concat();
    let deploy = Draft {
        nonce: 1,
        to: None,
        data: code.into(),
        gas: 3_000_000,
        ..Draft::default()
    };
    let token = rpc.mined(&deploy, &key(0)).await["contractAddress"].clone();
    // What waits, what was replaced, what was moved, edited and taken back.
    rpc.send(&payment(5, 1).signed(&key(0)).0).await.unwrap();
    let better = Draft {
        max_fee: 20 * GWEI,
        tip: 2 * GWEI,
        ..payment(5, 2)
    };
    let (raw, waiting) = better.signed(&key(0));
    rpc.send(&raw).await.unwrap();
    rpc.get("evm_increaseTime", json!([500])).await;
    rpc.get("anvil_mine", json!(["0x2"])).await;
    rpc.get("evm_setNextBlockTimestamp", json!([START + 9_000]))
        .await;
    let snapshot = rpc.get("evm_snapshot", json!([])).await;
    rpc.mined(&payment(0, 3), &key(1)).await;
    rpc.get("evm_revert", json!([snapshot])).await;
    rpc.mined(&payment(0, 4), &key(1)).await;
    rpc.get("anvil_setCode", json!([Address::repeat_byte(8), "0x6001"]))
        .await;
    rpc.get("anvil_setNonce", json!([key(3).address(), "0x7"]))
        .await;
    rpc.get("anvil_setBalance", json!([key(3).address(), "0x1234"]))
        .await;
    let before = portrait(rpc).await;
    first.close().await;

    let second = served(folder.path()).await;
    let rpc = &second.rpc;
    assert_eq!(portrait(rpc).await, before);
    assert_eq!(
        rpc.get("eth_getCode", json!([Address::repeat_byte(8)]))
            .await,
        "0x6001"
    );
    assert_ne!(rpc.get("eth_getCode", json!([token])).await, "0x");
    for nonce in 2..5 {
        rpc.mined(&payment(nonce, 1), &key(0)).await;
    }
    assert_eq!(
        rpc.get("eth_getTransactionReceipt", json!([waiting])).await["status"],
        "0x1"
    );
    let before = portrait(rpc).await;
    second.close().await;
    let third = served(folder.path()).await;
    assert_eq!(portrait(&third.rpc).await, before);
}

#[tokio::test]
async fn what_was_acknowledged_is_on_disk_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let served = served(folder.path()).await;
    for nonce in 0..3 {
        let receipt = served.rpc.mined(&payment(nonce, 1), &key(0)).await;
        // The machine fails now: what is in the file is all there is.
        fs::copy(log(folder.path()), log(copy.path())).unwrap();
        let found = open(copy.path(), &genesis()).unwrap();
        let asked = found
            .ask("eth_getTransactionReceipt", [&receipt["transactionHash"]])
            .await;
        let asked: Value = serde_json::from_str(asked.unwrap().get()).unwrap();
        assert_eq!(asked["blockHash"], receipt["blockHash"]);
    }
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_dropped_and_nothing_else() {
    let (folder, hashes) = folder_with(3).await;
    let whole = fs::read(log(folder.path())).unwrap();
    let last_line = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    let with_end = |end: &[u8]| [&whole[..last_line], end].concat();
    let mut garbled = whole.clone();
    garbled[last_line + 40] ^= 1;
    let torn = [
        whole[..last_line + 1].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..whole.len() - 9].to_vec(),
        with_end(&[0; 300]),
        with_end(b"\n"),
        garbled,
    ];
    for bytes in torn {
        fs::write(log(folder.path()), &bytes).unwrap();
        let served = served(folder.path()).await;
        let rpc = &served.rpc;
        assert_eq!(
            rpc.quantity("eth_blockNumber", json!([])).await,
            U256::from(2)
        );
        let gone = rpc
            .get("eth_getTransactionByHash", json!([hashes[2]]))
            .await;
        assert_eq!(gone, Value::Null);
        assert_eq!(fs::read(log(folder.path())).unwrap(), whole[..last_line]);
        let again = rpc.mined(&payment(2, 3), &key(0)).await;
        assert_eq!(again["transactionHash"], hashes[2]);
        served.close().await;
        assert_eq!(fs::read(log(folder.path())).unwrap(), whole);
    }
}

#[tokio::test]
async fn damage_before_the_end_is_reported_and_nothing_is_touched() {
    let (folder, _) = folder_with(3).await;
    let whole = fs::read(log(folder.path())).unwrap();
    let lines: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(i, _)| i)
        .collect();
    for (line, at) in [(1, 3), (1, 40), (2, lines[0] + 30), (3, lines[1] + 2)] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(log(folder.path()), &damaged).unwrap();
        let error = open(folder.path(), &genesis()).unwrap_err();
        assert!(
            matches!(error, OpenError::Damaged { line: found, .. } if found == line),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("restore the file from a backup, or delete"),
            "{error}"
        );
        assert_eq!(fs::read(log(folder.path())).unwrap(), damaged);
    }
    fs::write(log(folder.path()), b"").unwrap();
    let error = open(folder.path(), &genesis()).unwrap_err();
    assert!(
        matches!(error, OpenError::Damaged { line: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_line_is_noticed_even_though_every_checksum_is_right() {
    let (folder, _) = folder_with(3).await;
    let text = fs::read_to_string(log(folder.path())).unwrap();
    let kept: Vec<&str> = text
        .lines()
        .enumerate()
        .filter(|(at, _)| *at != 1)
        .map(|(_, l)| l)
        .collect();
    fs::write(log(folder.path()), kept.join("\n") + "\n").unwrap();
    let error = open(folder.path(), &genesis()).unwrap_err();
    assert!(matches!(error, OpenError::Replay { .. }), "{error}");
}

#[tokio::test]
async fn another_genesis_is_refused() {
    let (folder, _) = folder_with(1).await;
    let other = genesis().with_code(Address::repeat_byte(1), Bytes::from_static(&[0]));
    let error = open(folder.path(), &other).unwrap_err();
    assert!(matches!(error, OpenError::GenesisChanged { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("delete the folder to start a new chain"),
        "{error}"
    );
    open(folder.path(), &genesis()).unwrap();
}

#[tokio::test]
async fn a_start_without_a_fixed_time_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let floating = Genesis {
        timestamp: None,
        ..genesis()
    };
    let hash = open(folder.path(), &floating).unwrap().genesis_hash();
    let later = Devchain::open(&floating, options(folder.path()), || START + 5_000).unwrap();
    assert_eq!(later.genesis_hash(), hash);

    // Another chain that starts in the same second is another one.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), &floating).unwrap();
    assert_ne!(other.genesis_hash(), hash);
}

#[tokio::test]
async fn one_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), &genesis()).unwrap();
    let error = open(folder.path(), &genesis()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(first);
    open(folder.path(), &genesis()).unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    let error = open(&file, &genesis()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn contracts_of_the_genesis_are_there() {
    let there = Address::repeat_byte(3);
    let genesis = genesis()
        .with_code(
            there,
            Bytes::from_static(&[0x5f, 0x54, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3]),
        )
        .with_storage(there, U256::ZERO, U256::from(42));
    let chain = Devchain::open(&genesis, Options::default(), || START).unwrap();
    let answer = chain.ask("eth_call", [json!({"to": there})]).await.unwrap();
    assert_eq!(answer.get(), format!("\"{}\"", B256::with_last_byte(42)));
    let nonce = chain.ask("eth_getTransactionCount", [there]).await.unwrap();
    assert_eq!(nonce.get(), "\"0x1\"");
}

/// Something that may happen to a chain.
#[derive(Debug, Clone)]
enum Event {
    /// Account `from` sends, `skip` nonces ahead of what it should use.
    Pay {
        from: usize,
        skip: u64,
        value: u64,
        tip: u128,
    },
    Mine,
    Wait(u64),
    Give {
        to: usize,
        balance: u64,
    },
    Remember,
    GoBack(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_usize, 0..3_u64, 0..9_u64, 1..4_u128)
            .prop_map(|(from, skip, value, tip)| Event::Pay { from, skip, value, tip }),
        1 => Just(Event::Mine),
        1 => (1..90_u64).prop_map(Event::Wait),
        1 => (0..4_usize, 0..9_u64).prop_map(|(to, balance)| Event::Give { to, balance }),
        1 => Just(Event::Remember),
        1 => (0..3_u64).prop_map(Event::GoBack),
    ]
}

/// Lets it happen; what is refused is refused, that too must be the same later.
async fn happen(chain: &Devchain, event: &Event) {
    let _ = match *event {
        Event::Pay {
            from,
            skip,
            value,
            tip,
        } => {
            let next = chain
                .ask("eth_getTransactionCount", (key(from).address(), "pending"))
                .await;
            let next: U256 = serde_json::from_str(next.unwrap().get()).unwrap();
            let nonce = next.to::<u64>() + skip;
            let draft = Draft {
                tip: tip * GWEI,
                ..payment(nonce, value)
            };
            chain
                .ask("eth_sendRawTransaction", [draft.signed(&key(from)).0])
                .await
        }
        Event::Mine => chain.ask("evm_mine", ()).await,
        Event::Wait(seconds) => chain.ask("evm_increaseTime", [seconds]).await,
        Event::Give { to, balance } => {
            let balance = U256::from(balance) * U256::from(10).pow(U256::from(18));
            chain
                .ask("anvil_setBalance", (key(to).address(), balance))
                .await
        }
        Event::Remember => chain.ask("evm_snapshot", ()).await,
        Event::GoBack(id) => chain.ask("evm_revert", [id]).await,
    };
}

async fn likeness(chain: &Devchain) -> Vec<String> {
    let mut seen = Vec::new();
    for tag in ["latest", "pending"] {
        seen.push(
            chain
                .ask("eth_getBlockByNumber", (tag, true))
                .await
                .unwrap()
                .to_string(),
        );
        for index in 0..4 {
            let who = key(index).address();
            for method in ["eth_getTransactionCount", "eth_getBalance"] {
                seen.push(chain.ask(method, (who, tag)).await.unwrap().to_string());
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_chain_is_the_same_after_it_was_closed(
        events in prop::collection::vec(event(), 0..16),
        closed_after in 0..16_usize,
        beat in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let block_time = beat.then_some(std::time::Duration::from_secs(9));
        let open = || {
            let options = Options { block_time, ..options(folder.path()) };
            Devchain::open(&genesis(), options, || START + 10).unwrap()
        };
        let mut chain = open();
        for (index, event) in events.iter().enumerate() {
            runtime.block_on(happen(&chain, event));
            if index == closed_after {
                drop(chain);
                chain = open();
            }
        }
        let before = runtime.block_on(likeness(&chain));
        drop(chain);
        let after = runtime.block_on(likeness(&open()));
        prop_assert_eq!(before, after);
    }
}
