//! One owner of the nonce: no wish is lost, and none is fulfilled twice.

use std::sync::Arc;
use std::time::Duration;

use chain::{
    DEVELOPMENT_ACCOUNTS, Ended, EvmLedger, JournalError, MemoryJournal, Network, OpenTx, SignedTx,
    TxJournal,
};
use futures_util::future::{join_all, try_join_all};
use market::{Address, Amount, BoxFuture, Ledger, LedgerError, TxHash, WalletKey};
use serde_json::json;

use crate::node::{Anvil, GRANT};

const ACCOUNT: chain::DevelopmentAccount = DEVELOPMENT_ACCOUNTS[0];
const FRIEND: Address = Address::repeat_byte(0x77);

async fn friend_has(ledger: &EvmLedger) -> u128 {
    let has = ledger.balance(ledger.mor(), FRIEND).await;
    has.expect("balance").base_units()
}

/// What does not come by then does not come.
const SOON: Duration = Duration::from_secs(20);

/// Until a transaction of the account waits in the pool; then its hash.
async fn pooled(anvil: &Anvil) -> serde_json::Value {
    let pooled = tokio::time::timeout(SOON, first_pooled(anvil)).await;
    pooled.expect("a transaction comes into the pool")
}

async fn first_pooled(anvil: &Anvil) -> serde_json::Value {
    loop {
        let pool = anvil.call("txpool_content", json!([])).await;
        let waiting = pool["pending"]
            .as_object()
            .and_then(|by| by.values().next());
        if let Some(first) = waiting.and_then(|txs| txs.as_object()?.values().next()) {
            return first["hash"].clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Until the journal says of each transaction that it ended: who waits for one
/// is told first.
pub(crate) async fn nothing_open(journal: &MemoryJournal) {
    let ended = async {
        while !journal.open().await.expect("journal").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(SOON, ended).await;
    ended.expect("what was told ends in the journal");
}

/// Until so many transactions wait in the pool.
async fn pool_of(anvil: &Anvil, count: &str) {
    let full = async {
        while anvil.call("txpool_status", json!([])).await["pending"] != json!(count) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let filled = tokio::time::timeout(SOON, full).await;
    filled.expect("the transactions come into the pool");
}

#[tokio::test]
async fn writes_at_the_same_time_take_successive_nonces() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger(ACCOUNT).await;
    let mor = ledger.mor();
    let wishes = (1..=20).map(|n| ledger.transfer(mor, FRIEND, Amount::new(n)));
    let hashes = try_join_all(wishes).await.expect("all are included");
    let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), 20);
    assert_eq!(friend_has(&ledger).await, 210);
}

#[tokio::test]
async fn deposits_at_the_same_time_do_not_take_each_others_allowance() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger(ACCOUNT).await;
    let config = |salt| market::ChannelConfig {
        payer: ACCOUNT.address,
        payer_authorizer: Address::ZERO,
        receiver: FRIEND,
        receiver_authorizer: FRIEND,
        token: ledger.mor(),
        withdraw_delay_s: 900,
        salt: market::B256::repeat_byte(salt),
    };
    let deposits = (0..5).map(|salt| ledger.deposit(config(salt), Amount::new(100)));
    for outcome in join_all(deposits).await {
        outcome.expect("each is approved for itself");
    }
    let left = ledger.balance(ledger.mor(), ACCOUNT.address).await;
    assert_eq!(left.expect("balance"), GRANT.less(Amount::new(500)));
}

#[tokio::test]
async fn a_forsaken_wish_that_is_repeated_is_not_fulfilled_twice() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger(ACCOUNT).await;
    let mor = ledger.mor();
    anvil.call("evm_setAutomine", json!([false])).await;
    tokio::select! {
        outcome = ledger.transfer(mor, FRIEND, Amount::new(5)) => panic!("no block, but {outcome:?}"),
        _ = pooled(&anvil) => {}
    }
    let first = pooled(&anvil).await;

    let again = ledger.transfer(mor, FRIEND, Amount::new(5));
    let mined = async {
        // Another wish of the account goes behind it, so the repeated one was taken up by then.
        let other = ledger.transfer(mor, FRIEND, Amount::new(1));
        let block = async {
            pool_of(&anvil, "0x2").await;
            anvil.call("evm_mine", json!([])).await;
        };
        tokio::join!(other, block).0
    };
    let (again, other) = tokio::join!(again, mined);
    other.expect("the other wish is fulfilled");
    assert_eq!(json!(again.expect("the first transaction's")), first);
    assert_eq!(friend_has(&ledger).await, 6);

    // Now that its end was told, the same words are a new wish.
    anvil.call("evm_setAutomine", json!([true])).await;
    let anew = ledger.transfer(mor, FRIEND, Amount::new(5)).await;
    assert_ne!(json!(anew.expect("a new one")), first);
    assert_eq!(friend_has(&ledger).await, 11);
}

#[tokio::test]
async fn what_reverts_in_its_block_is_told_by_its_reason() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger(ACCOUNT).await;
    let mor = ledger.mor();
    anvil.call("evm_setAutomine", json!([false])).await;
    // Each would do alone, so both pass before the block; in it, only the first does.
    let first = ledger.transfer(mor, FRIEND, Amount::new(6_000));
    let second = ledger.transfer(mor, FRIEND, Amount::new(6_001));
    let block = async {
        pool_of(&anvil, "0x2").await;
        anvil.call("evm_mine", json!([])).await;
    };
    let (first, second, ()) = tokio::join!(first, second, block);
    first.expect("there is enough for it");
    match second {
        Err(LedgerError::Insufficient {
            token, has, needs, ..
        }) => {
            assert_eq!(token, mor);
            assert_eq!((has, needs), (Amount::new(4_000), Amount::new(6_001)));
        }
        other => panic!("expected to lack tokens, got {other:?}"),
    }
}

#[tokio::test]
async fn what_was_signed_is_sent_after_a_restart() {
    let anvil = Anvil::with_contracts().await;
    let journal = Arc::new(MemoryJournal::default());
    let ledger = anvil.ledger_with(ACCOUNT, journal.clone()).await;
    let ledger = ledger.expect("connected");
    let mor = ledger.mor();
    anvil.call("evm_setAutomine", json!([false])).await;
    tokio::select! {
        outcome = ledger.transfer(mor, FRIEND, Amount::new(5)) => panic!("no block, but {outcome:?}"),
        _ = pooled(&anvil) => {}
    }
    let hash = pooled(&anvil).await;
    drop(ledger);
    anvil.call("anvil_dropTransaction", json!([hash])).await;
    assert_eq!(journal.open().await.expect("journal").len(), 1);

    anvil.call("evm_setAutomine", json!([true])).await;
    let ledger = anvil.ledger_with(ACCOUNT, journal.clone()).await;
    let ledger = ledger.expect("connected");
    let again = ledger.transfer(mor, FRIEND, Amount::new(5)).await;
    assert_eq!(json!(again.expect("the first transaction's")), hash);
    assert_eq!(friend_has(&ledger).await, 5);
    nothing_open(&journal).await;
}

/// A full disk.
struct NoJournal;

impl TxJournal for NoJournal {
    fn signed(&self, _: SignedTx) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(core::future::ready(Err("no space left".into())))
    }

    fn told(&self, _: TxHash) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(core::future::ready(Err("no space left".into())))
    }

    fn ended(&self, _: TxHash, _: Ended) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(core::future::ready(Err("no space left".into())))
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<OpenTx>, JournalError>> {
        Box::pin(core::future::ready(Ok(Vec::new())))
    }
}

#[tokio::test]
async fn what_cannot_be_journalled_is_not_sent() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger_with(ACCOUNT, Arc::new(NoJournal)).await;
    let ledger = ledger.expect("connected");
    let outcome = ledger.transfer(ledger.mor(), FRIEND, Amount::new(5)).await;
    match outcome {
        Err(LedgerError::Unreachable(cause)) => {
            assert!(cause.to_string().contains("journalled"), "{cause}");
        }
        other => panic!("expected the journal's error, got {other:?}"),
    }
    let sent = anvil
        .call(
            "eth_getTransactionCount",
            json!([ACCOUNT.address, "pending"]),
        )
        .await;
    assert_eq!(sent, json!("0x0"));
}

#[tokio::test]
async fn a_nonce_that_another_program_took_is_made_good() {
    let anvil = Anvil::with_contracts().await;
    let (one, other) = (anvil.ledger(ACCOUNT).await, anvil.ledger(ACCOUNT).await);
    let mor = one.mor();
    for n in [1, 2, 3] {
        one.transfer(mor, FRIEND, Amount::new(n))
            .await
            .expect("one");
        other
            .transfer(mor, FRIEND, Amount::new(10 * n))
            .await
            .expect("other");
    }
    assert_eq!(friend_has(&one).await, 66);
}

#[tokio::test]
async fn an_account_without_coins_for_gas_is_told_so() {
    let anvil = Anvil::with_contracts().await;
    let rich = anvil.ledger(ACCOUNT).await;
    let key = Arc::new(WalletKey::from_bytes(&[9; 32]).expect("a key"));
    let journal = Arc::new(MemoryJournal::default());
    let poor = EvmLedger::connect(&anvil.url, Network::local(), key.clone(), journal).await;
    let poor = poor.expect("connected");
    rich.transfer(rich.mor(), key.address(), Amount::new(5))
        .await
        .expect("tokens come");

    let outcome = poor.transfer(poor.mor(), FRIEND, Amount::new(5)).await;
    match outcome {
        Err(LedgerError::Insufficient {
            owner,
            token,
            has,
            needs,
        }) => {
            assert_eq!(
                (owner, token, has),
                (key.address(), Address::ZERO, Amount::ZERO)
            );
            assert!(!needs.is_zero());
        }
        other => panic!("expected to be told of the gas, got {other:?}"),
    }
    rich.transfer_coins(key.address(), Amount::new(10_u128.pow(18)))
        .await
        .expect("coins come");
    poor.transfer(poor.mor(), FRIEND, Amount::new(5))
        .await
        .expect("now it can");
}

#[tokio::test]
async fn a_chain_that_is_not_what_its_profile_says_is_refused() {
    let other = Anvil::bare(&["--chain-id", "1"]).await;
    let outcome = other
        .ledger_with(ACCOUNT, Arc::new(MemoryJournal::default()))
        .await;
    let problem = outcome.err().expect("refused").to_string();
    assert!(
        problem.contains("chain 1, network \"local\" is chain 31337"),
        "{problem}"
    );

    let empty = Anvil::bare(&[]).await;
    let outcome = empty
        .ledger_with(ACCOUNT, Arc::new(MemoryJournal::default()))
        .await;
    let problem = outcome.err().expect("refused").to_string();
    assert!(problem.contains("no settlement contract at"), "{problem}");

    let url = empty.url.clone();
    drop(empty);
    let journal = Arc::new(MemoryJournal::default());
    let key = Arc::new(ACCOUNT.wallet());
    let outcome = EvmLedger::connect(&url, Network::local(), key, journal).await;
    assert!(matches!(outcome.err(), Some(LedgerError::Unreachable(_))));
}

#[tokio::test]
async fn a_deployment_is_taken_up_where_it_stopped() {
    let anvil = Anvil::with_contracts().await;
    let before = anvil.ledger(ACCOUNT).await;
    let market = crate::node::market();
    let again = chain::deploy(&anvil.url, &market).await.expect("found");
    assert_eq!(again.mor, Network::local().mor);
    let has = before.balance(again.mor, ACCOUNT.address).await;
    assert_eq!(has.expect("balance"), GRANT, "granted once");
}
