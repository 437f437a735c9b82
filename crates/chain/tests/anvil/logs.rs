//! What the contracts told in their logs, found again.

use chain::DEVELOPMENT_ACCOUNTS;
use market::{Address, Amount, B256, ChannelConfig, Ledger};

use crate::node::Anvil;

#[tokio::test]
async fn every_channel_that_was_created_is_found_from_any_block_on() {
    let anvil = Anvil::with_contracts().await;
    let ledger = anvil.ledger(DEVELOPMENT_ACCOUNTS[0]).await;
    let mut made = Vec::new();
    for salt in 1..=3 {
        let config = ChannelConfig {
            payer: ledger.account(),
            payer_authorizer: Address::repeat_byte(0x12),
            receiver: Address::repeat_byte(0x13),
            receiver_authorizer: Address::repeat_byte(0x14),
            token: ledger.mor(),
            withdraw_delay_s: 900,
            salt: B256::repeat_byte(salt),
        };
        let deposit = ledger.deposit(config, Amount::new(5));
        deposit.await.expect("it has the tokens");
        let block = ledger.block_number().await.expect("a head");
        made.push((config, block));
        // More money makes no new channel.
        let more = ledger.deposit(config, Amount::new(5));
        more.await.expect("it has the tokens");
    }
    let head = ledger.block_number().await.expect("a head");
    let found = ledger.channels_created(0).await.expect("logs");
    assert_eq!(found, (made.clone(), head + 1));

    let second = made[1].1;
    let found = ledger.channels_created(second).await.expect("logs");
    assert_eq!(found, (made[1..].to_vec(), head + 1));
    let found = ledger.channels_created(second + 1).await.expect("logs");
    assert_eq!(found, (made[2..].to_vec(), head + 1));
    let found = ledger.channels_created(head + 1).await.expect("logs");
    assert_eq!(found, (Vec::new(), head + 1));
}
