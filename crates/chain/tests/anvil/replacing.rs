//! What waits, vanishes or is taken back: the same nonce, whatever it takes.

use std::sync::Arc;
use std::time::Duration;

use chain::{DEVELOPMENT_ACCOUNTS, EvmLedger, MemoryJournal, Network, TxJournal};
use market::{Address, Amount, B256, Ledger, WalletKey};
use serde_json::{Value, json};

use crate::node::Anvil;
use crate::sending::nothing_open;

const ACCOUNT: chain::DevelopmentAccount = DEVELOPMENT_ACCOUNTS[0];
const FRIEND: Address = Address::repeat_byte(0x77);
/// What does not come by then does not come.
const SOON: Duration = Duration::from_secs(60);

/// The hashes of the account's transactions that wait.
async fn waiting(anvil: &Anvil) -> Vec<B256> {
    let pool = anvil.call("txpool_content", json!([])).await;
    let accounts = ["pending", "queued"].map(|part| pool[part].as_object().cloned());
    let txs = accounts
        .into_iter()
        .flatten()
        .flat_map(|by| by.into_values().collect::<Vec<_>>());
    let hashes = txs.flat_map(|txs| {
        let txs = txs.as_object().cloned().unwrap_or_default();
        txs.into_values()
            .map(|tx| tx["hash"].clone())
            .collect::<Vec<Value>>()
    });
    hashes
        .map(|hash| serde_json::from_value(hash).expect("a hash"))
        .collect()
}

/// Until one waits that is not `other`.
async fn arrives(anvil: &Anvil, other: Option<B256>) -> B256 {
    let found = async {
        loop {
            let news = waiting(anvil)
                .await
                .into_iter()
                .find(|hash| Some(*hash) != other);
            if let Some(hash) = news {
                return hash;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(SOON, found).await;
    found.expect("a transaction comes into the pool")
}

async fn friend_has(ledger: &EvmLedger) -> u128 {
    let has = ledger.balance(ledger.mor(), FRIEND).await;
    has.expect("balance").base_units()
}

async fn sent(anvil: &Anvil, account: Address) -> Value {
    let params = json!([account, "latest"]);
    anvil.call("eth_getTransactionCount", params).await
}

#[tokio::test]
async fn what_the_base_fee_left_behind_is_signed_again_for_more_and_included_once() {
    let anvil = Anvil::with_contracts().await;
    let journal = Arc::new(MemoryJournal::default());
    let ledger = anvil.ledger_with(ACCOUNT, journal.clone()).await;
    let ledger = ledger.expect("connected");
    anvil.call("evm_setAutomine", json!([false])).await;
    let wish = ledger.transfer(ledger.mor(), FRIEND, Amount::new(5));
    let dearer = async {
        let first = arrives(&anvil, None).await;
        let base_fee = format!("{:#x}", 50_000_000_000_u64);
        anvil
            .call("anvil_setNextBlockBaseFeePerGas", json!([base_fee]))
            .await;
        anvil.call("evm_mine", json!([])).await;
        assert_eq!(sent(&anvil, ACCOUNT.address).await, json!("0x0"));
        let second = arrives(&anvil, Some(first)).await;

        let lines = journal.open().await.expect("journal");
        let lines: Vec<(u64, B256)> = lines.iter().map(|l| (l.tx.nonce, l.tx.hash)).collect();
        assert_eq!(lines.first(), Some(&(0, first)));
        assert!(lines.contains(&(0, second)), "{lines:?}");
        assert!(lines.iter().all(|(nonce, _)| *nonce == 0), "{lines:?}");
        anvil.call("evm_mine", json!([])).await;
        first
    };
    let (included, first) = tokio::join!(wish, dearer);
    assert_ne!(included.expect("it is paid enough"), first);
    assert_eq!(friend_has(&ledger).await, 5);
    assert_eq!(sent(&anvil, ACCOUNT.address).await, json!("0x1"));
    nothing_open(&journal).await;
}

#[tokio::test]
async fn what_the_node_dropped_is_sent_again_as_it_was() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger(ACCOUNT).await;
    anvil.call("evm_setAutomine", json!([false])).await;
    let wish = ledger.transfer(ledger.mor(), FRIEND, Amount::new(5));
    let dropped = async {
        let first = arrives(&anvil, None).await;
        anvil.call("anvil_dropTransaction", json!([first])).await;
        assert!(waiting(&anvil).await.is_empty());
        let again = arrives(&anvil, None).await;
        anvil.call("evm_mine", json!([])).await;
        (first, again)
    };
    let (included, (first, again)) = tokio::join!(wish, dropped);
    assert_eq!((included.expect("it comes again"), again), (first, first));
    assert_eq!(friend_has(&ledger).await, 5);
}

#[tokio::test]
async fn what_a_reorganisation_takes_back_after_it_was_told_comes_again() {
    let anvil = Anvil::with_contracts().await;
    let key = Arc::new(WalletKey::from_bytes(&[9; 32]).expect("a key"));
    let rich = anvil.ledger(ACCOUNT).await;
    let coins = Amount::new(10_u128.pow(18));
    let given = rich.transfer_coins(key.address(), coins).await;
    given.expect("coins");
    let given = rich
        .transfer(rich.mor(), key.address(), Amount::new(9))
        .await;
    given.expect("tokens");
    drop(rich);
    // A chain that is not thrown away is not trusted to keep its blocks.
    anvil.call("anvil_setChainId", json!([84_532])).await;
    let network = Network {
        name: "reorganised".to_owned(),
        chain_id: 84_532,
        ..Network::local()
    };
    let journal = Arc::new(MemoryJournal::default());
    let ledger = EvmLedger::connect(&anvil.url, network, key.clone(), journal.clone()).await;
    let ledger = ledger.expect("connected");
    let told = ledger.transfer(ledger.mor(), FRIEND, Amount::new(5)).await;
    let hash = told.expect("included");
    assert_eq!(friend_has(&ledger).await, 5);
    let open = async { journal.open().await.expect("journal") };
    assert_eq!(open.await.len(), 1, "it is followed on");

    anvil.call("anvil_reorg", json!([1, []])).await;
    anvil.call("anvil_dropTransaction", json!([hash])).await;
    assert_eq!(friend_has(&ledger).await, 0, "the block is no more");
    let comes_again = async {
        while friend_has(&ledger).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let came = tokio::time::timeout(SOON, comes_again).await;
    came.expect("it is sent again");
    assert_eq!(friend_has(&ledger).await, 5);
    assert_eq!(sent(&anvil, key.address()).await, json!("0x1"));
    let receipt = anvil.call("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["status"], json!("0x1"), "the same bytes");
}

#[tokio::test]
async fn three_servers_are_given_every_transaction_and_one_may_die() {
    let anvil = Anvil::with_contracts().await;
    let dead = "http://127.0.0.1:9".to_owned();
    let urls = vec![dead, anvil.url.clone(), anvil.url.clone()];
    let key = Arc::new(ACCOUNT.wallet());
    let journal = Arc::new(MemoryJournal::default());
    let ledger = EvmLedger::connect(urls, Network::local(), key, journal).await;
    let ledger = ledger.expect("two of three are there");
    let told = ledger.transfer(ledger.mor(), FRIEND, Amount::new(5)).await;
    told.expect("included");
    assert_eq!(friend_has(&ledger).await, 5);
}
