//! Reading from one server, two, three.

use std::sync::Arc;

use chain::{Cursor, DEVELOPMENT_ACCOUNTS, Disagreement, EvmLedger, MemoryJournal, Network, News};
use market::{Address, B256, ChannelConfig, ChannelId, Ledger, LedgerError};

use crate::server::{Mood, Server};

const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(7));

pub(crate) async fn servers<const N: usize>() -> [Server; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Server::start().await);
    }
    let Ok(all) = <[Server; N]>::try_from(all) else {
        unreachable!("N were started");
    };
    all
}

pub(crate) async fn connected(servers: &[Server]) -> Result<EvmLedger, LedgerError> {
    let urls: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
    let key = Arc::new(DEVELOPMENT_ACCOUNTS[0].wallet());
    let journal = Arc::new(MemoryJournal::default());
    EvmLedger::connect(urls, Network::local(), key, journal).await
}

async fn balance(ledger: &EvmLedger) -> Result<u128, LedgerError> {
    Ok(ledger.channel(CHANNEL).await?.balance.base_units())
}

fn disagreement(error: &LedgerError) -> &Disagreement {
    match error {
        LedgerError::Unreachable(cause) => cause.downcast_ref().expect("a disagreement"),
        other => panic!("expected a disagreement, got {other}"),
    }
}

fn config(salt: u8) -> ChannelConfig {
    ChannelConfig {
        payer: Address::repeat_byte(1),
        payer_authorizer: Address::repeat_byte(2),
        receiver: Address::repeat_byte(3),
        receiver_authorizer: Address::repeat_byte(4),
        token: Address::repeat_byte(5),
        withdraw_delay_s: 900,
        salt: B256::repeat_byte(salt),
    }
}

#[tokio::test]
async fn one_liar_of_three_decides_nothing_about_money() {
    for liar in 0..3 {
        let three = servers::<3>().await;
        three[liar].says().channel_balance = 1_000_000;
        let ledger = connected(&three).await.expect("connected");
        assert_eq!(balance(&ledger).await.expect("agreed"), 500);
    }
}

#[tokio::test]
async fn two_that_contradict_each_other_are_both_named_and_not_believed() {
    let two = servers::<2>().await;
    let ledger = connected(&two).await.expect("connected");
    assert_eq!(balance(&ledger).await.expect("agreed"), 500);
    two[1].says().channel_balance = 1_000_000;
    let error = balance(&ledger).await.expect_err("contradicted");
    let told = disagreement(&error).to_string();
    for server in &two {
        let origin = server.url.trim_end_matches("/secret-key");
        assert!(told.contains(origin), "{told}");
    }
    assert!(told.contains("500") && told.contains("1000000"), "{told}");
    assert!(!told.contains("secret-key"), "{told}");
}

#[tokio::test]
async fn of_three_that_all_say_otherwise_none_is_believed() {
    let three = servers::<3>().await;
    for (server, said) in three.iter().zip([1, 2, 3]) {
        server.says().channel_balance = said;
    }
    let ledger = connected(&three).await.expect("connected");
    let error = balance(&ledger).await.expect_err("contradicted");
    assert_eq!(disagreement(&error).said.len(), 3);
}

#[tokio::test]
async fn one_that_is_behind_does_not_hold_back_the_others() {
    let three = servers::<3>().await;
    // It has not seen the deposit; whether it is a little or far behind.
    for lag in [1, 900] {
        {
            let mut says = three[0].says();
            says.head = 1_000 - lag;
            says.channel_balance = 0;
        }
        let ledger = connected(&three).await.expect("connected");
        assert_eq!(balance(&ledger).await.expect("agreed"), 500);
        let now = ledger.now().await.expect("agreed").0;
        assert_eq!(now, 1_700_000_000 + 2 * 1_000);
    }
}

#[tokio::test]
async fn one_that_is_ahead_alone_is_not_followed() {
    let three = servers::<3>().await;
    three[2].says().head = 5_000_000;
    let ledger = connected(&three).await.expect("connected");
    let now = ledger.now().await.expect("agreed").0;
    assert_eq!(now, 1_700_000_000 + 2 * 1_000);
}

#[tokio::test]
async fn one_on_another_chain_is_not_used_and_all_on_another_are_refused() {
    let three = servers::<3>().await;
    three[0].says().chain_id = 1;
    three[0].says().channel_balance = 1;
    let ledger = connected(&three).await.expect("connected");
    assert_eq!(balance(&ledger).await.expect("agreed"), 500);
    assert_eq!(three[0].asked("eth_call"), 0);

    for server in &three {
        server.says().chain_id = 1;
    }
    let error = connected(&three).await.err().expect("refused").to_string();
    assert!(error.contains("chain 1, network \"local\""), "{error}");
}

#[tokio::test]
async fn one_that_asks_to_wait_is_left_alone_and_another_answers() {
    let two = servers::<2>().await;
    let ledger = connected(&two).await.expect("connected");
    two[0].says().mood = Mood::Limiting(300);
    let before = two[0].asked("eth_getBalance") + two[0].asked("eth_getBlockByNumber");
    for _ in 0..5 {
        assert_eq!(ledger.block_number().await.expect("the other"), 1_000);
    }
    let after = two[0].asked("eth_getBalance") + two[0].asked("eth_getBlockByNumber");
    assert_eq!(after, before + 1, "asked once, and then left alone");

    // What needs both says that it cannot be had.
    let error = balance(&ledger)
        .await
        .expect_err("one is not enough of two");
    disagreement(&error);
}

#[tokio::test]
async fn the_only_one_that_asks_to_wait_is_not_asked_either() {
    let [one] = servers::<1>().await;
    let ledger = connected(std::slice::from_ref(&one))
        .await
        .expect("connected");
    one.says().mood = Mood::Limiting(300);
    for _ in 0..3 {
        let outcome = balance(&ledger).await;
        assert!(
            matches!(outcome, Err(LedgerError::Unreachable(_))),
            "{outcome:?}"
        );
    }
    // A channel is two calls at once.
    assert!(one.asked("eth_call") <= 3, "{}", one.asked("eth_call"));
}

#[tokio::test]
async fn garbage_and_error_pages_are_passed_over() {
    for mood in [Mood::Garbage, Mood::Broken] {
        let three = servers::<3>().await;
        three[0].says().mood = mood;
        let ledger = connected(&three).await.expect("connected");
        assert_eq!(balance(&ledger).await.expect("agreed"), 500, "{mood:?}");
        assert_eq!(ledger.block_number().await.expect("another's"), 1_000);
    }
    let [one] = servers::<1>().await;
    let ledger = connected(std::slice::from_ref(&one))
        .await
        .expect("connected");
    one.says().mood = Mood::Garbage;
    let outcome = balance(&ledger).await;
    assert!(
        matches!(outcome, Err(LedgerError::Nonsense { .. })),
        "{outcome:?}"
    );
    one.says().mood = Mood::Well;
    assert_eq!(balance(&ledger).await.expect("well again"), 500);
}

#[tokio::test]
async fn one_that_says_nothing_is_not_waited_for_long() {
    let three = servers::<3>().await;
    three[0].says().mood = Mood::Silent;
    let patience = std::time::Duration::from_secs(10);
    let read = async {
        let ledger = connected(&three).await.expect("connected");
        balance(&ledger).await.expect("agreed")
    };
    let read = tokio::time::timeout(patience, read).await;
    assert_eq!(read.expect("within seconds"), 500);
}

#[tokio::test]
async fn logs_are_read_whole_in_ranges_that_the_server_takes() {
    let [one] = servers::<1>().await;
    let made: Vec<_> = (0..50)
        .map(|n: u8| (config(n), 20 * u64::from(n)))
        .collect();
    one.says().channels = made.clone();
    let ledger = connected(std::slice::from_ref(&one))
        .await
        .expect("connected");
    for range_max in [u64::MAX, 1_000, 37] {
        one.says().range_max = range_max;
        let (mut found, mut next) = (Vec::new(), 0);
        loop {
            let (more, after) = ledger.channels_created(next).await.expect("logs");
            found.extend(more);
            if after == next {
                break;
            }
            next = after;
        }
        assert_eq!((found, next), (made.clone(), 1_001), "{range_max} at once");
    }
    one.says().range_max = 0;
    let outcome = ledger.channels_created(0).await;
    assert!(outcome.is_err(), "not a block is answered: {outcome:?}");
}

#[tokio::test]
async fn logs_that_one_of_three_leaves_out_are_found_and_strange_ones_are_not_taken() {
    let three = servers::<3>().await;
    let made = vec![(config(1), 10), (config(2), 20)];
    for server in &three {
        server.says().channels = made.clone();
    }
    three[1].says().channels.pop();
    let ledger = connected(&three).await.expect("connected");
    let found = ledger.channels_created(0).await.expect("agreed");
    assert_eq!(found, (made, 1_001));

    let [one] = servers::<1>().await;
    one.says().channels = vec![(config(1), 10)];
    one.says().logs_of = Some(Address::repeat_byte(9));
    let ledger = connected(std::slice::from_ref(&one))
        .await
        .expect("connected");
    let outcome = ledger.channels_created(0).await;
    assert!(
        matches!(outcome, Err(LedgerError::Nonsense { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_watch_goes_on_after_an_outage_and_tells_what_was_taken_back() {
    let [one] = servers::<1>().await;
    let ledger = connected(std::slice::from_ref(&one))
        .await
        .expect("connected");
    let amounts = |news: &[chain::WithdrawStarted]| -> Vec<u128> {
        news.iter()
            .map(|started| started.amount.base_units())
            .collect()
    };
    one.says().withdrawals = vec![(1, 100), (2, 990)];
    let mut cursor = Cursor::new(0);
    let news = ledger.withdrawals_started(&mut cursor).await.expect("read");
    assert_eq!(amounts(&news.fresh), [1, 2]);
    assert!(news.at_head && news.retracted.is_empty());

    // Nothing answers: the cursor stays where it was.
    let before = cursor.clone();
    one.says().mood = Mood::Broken;
    assert!(ledger.withdrawals_started(&mut cursor).await.is_err());
    assert_eq!(cursor, before);

    // Meanwhile the chain went another way from block 980 on, and far ahead.
    {
        let mut says = one.says();
        says.mood = Mood::Well;
        says.fork_at = 980;
        says.head = 3_000;
        says.withdrawals = vec![(1, 100), (3, 985), (4, 2_500)];
    }
    let saved = serde_json::to_string(&cursor).expect("it is plain data");
    let mut cursor: Cursor = serde_json::from_str(&saved).expect("the same");
    let news = ledger.withdrawals_started(&mut cursor).await.expect("read");
    assert_eq!(amounts(&news.fresh), [3, 4]);
    assert_eq!(amounts(&news.retracted), [2]);
    assert_eq!(cursor.next_block(), 3_001);

    let News {
        fresh, retracted, ..
    } = ledger.withdrawals_started(&mut cursor).await.expect("read");
    assert!(fresh.is_empty() && retracted.is_empty());

    // Deeper than is followed: an error, and not silence.
    one.says().fork_at = 1;
    let outcome = ledger.withdrawals_started(&mut cursor).await;
    let problem = outcome.expect_err("too deep").to_string();
    assert!(problem.contains("read again"), "{problem}");
}
