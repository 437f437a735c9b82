//! From vouchers to money on the ledger.

use std::sync::Arc;
use std::time::Duration;

use market::{Amount, Claim, GasPolicy, Ledger};
use provider::{Claimed, Script, ScriptedBackend};

use crate::world::{Buyer, STEP, Selling, World, input, until};

const EARNED: u128 = 7 + 20;

async fn world_that_earned(adjust: impl FnOnce(&mut provider::Config)) -> (World, Selling, Buyer) {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(Script::tokens(20, Duration::ZERO)));
    let selling = world.sells(backend, adjust).await;
    let buyer = world.buyer(1000).await;
    buyer
        .asks(&selling, input() + STEP)
        .await
        .reads_on(None)
        .await;
    (world, selling, buyer)
}

#[tokio::test]
async fn a_claim_brings_what_was_earned_once() {
    let (world, selling, buyer) = world_that_earned(|_| {}).await;
    let before = world.money().await;
    let other = world.buyer(1000).await;
    other
        .asks(&selling, input() + STEP)
        .await
        .reads_on(None)
        .await;

    let claimed = selling.provider.claim_now().await.unwrap();
    assert_eq!(
        claimed,
        Claimed {
            channels: 2,
            refused: 0
        }
    );
    assert_eq!(world.money().await, before + 2 * EARNED);
    assert_eq!(
        selling.provider.claim_now().await.unwrap(),
        Claimed::default()
    );
    assert_eq!(world.money().await, before + 2 * EARNED);

    let money = selling.provider.status().money[0];
    assert_eq!(
        (money.claimed, money.claimable),
        (Amount::new(2 * EARNED), Amount::ZERO)
    );
    let state = world.ledger.channel(buyer.id()).await.unwrap();
    assert_eq!(state.total_claimed, Amount::new(EARNED));
}

#[tokio::test]
async fn enough_is_claimed_without_being_told() {
    let (world, _selling, buyer) =
        world_that_earned(|config| config.claims.threshold = Amount::new(EARNED)).await;
    let before = world.money().await;
    let claimed = || async {
        world
            .ledger
            .channel(buyer.id())
            .await
            .unwrap()
            .total_claimed
            == Amount::new(EARNED)
    };
    let settled = async {
        while !claimed().await || world.money().await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, settled)
        .await
        .expect("claimed by policy");
}

#[tokio::test]
async fn a_payer_who_withdraws_does_not_get_what_was_earned() {
    let (world, selling, buyer) = world_that_earned(|_| {}).await;
    let before = world.money().await;
    buyer
        .ledger
        .initiate_withdraw(buyer.channel, Amount::new(1000))
        .await
        .unwrap();
    selling.provider.claim_now().await.unwrap();
    assert_eq!(world.money().await, before + EARNED);
    world.ledger.advance(900);
    buyer.ledger.finalize_withdraw(buyer.channel).await.unwrap();
    let back = world
        .ledger
        .balance(crate::world::MOR, buyer.channel.payer)
        .await
        .unwrap();
    assert_eq!(back, Amount::new(1000 - EARNED));
}

#[tokio::test]
async fn a_channel_that_was_emptied_does_not_take_the_others_with_it() {
    let (world, selling, buyer) = world_that_earned(|_| {}).await;
    buyer
        .ledger
        .initiate_withdraw(buyer.channel, Amount::new(1000))
        .await
        .unwrap();
    world.ledger.advance(900);
    buyer.ledger.finalize_withdraw(buyer.channel).await.unwrap();
    let other = world.buyer(1000).await;
    other
        .asks(&selling, input() + STEP)
        .await
        .reads_on(None)
        .await;
    let before = world.money().await;
    selling.provider.claim_now().await.unwrap();
    assert_eq!(world.money().await, before + EARNED);
}

#[tokio::test]
async fn a_provider_claims_before_it_stops_if_it_is_told_to() {
    let (world, selling, _buyer) = world_that_earned(|config| config.claims.on_stop = true).await;
    let before = world.money().await;
    selling.provider.stop().await;
    assert_eq!(world.money().await, before + EARNED);
}

#[tokio::test]
async fn what_was_claimed_is_known_after_a_restart() {
    let (world, selling, _buyer) = world_that_earned(|_| {}).await;
    selling.provider.claim_now().await.unwrap();
    selling.crashes().await;
    let (again, _) = world.sells_script(Script::default()).await;
    let money = again.provider.status().money[0];
    assert_eq!(
        (money.earned, money.claimed),
        (Amount::new(EARNED), Amount::new(EARNED))
    );
    until("nothing is claimable", || {
        again.provider.status().money[0].claimable == Amount::ZERO
    })
    .await;
}

/// A start has not read any channel yet; what the last process earned is claimed all the same.
#[tokio::test]
async fn what_was_earned_before_a_restart_is_claimed_after_it() {
    let (world, selling, _buyer) = world_that_earned(|_| {}).await;
    let before = world.money().await;
    selling.crashes().await;
    let backend = Arc::new(ScriptedBackend::new(Script::default()));
    let again = world.sells(backend, |_| {}).await;
    again.provider.claim_now().await.unwrap();
    assert_eq!(world.money().await, before + EARNED);
}

/// The process ended after its claim was on chain and before it was settled or in the journal.
#[tokio::test]
async fn a_claim_that_was_cut_short_is_seen_through_at_the_next_start() {
    let (world, selling, buyer) = world_that_earned(|_| {}).await;
    let before = world.money().await;
    let voucher = buyer.voucher(input() + STEP);
    selling.crashes().await;
    let claim = Claim {
        config: buyer.channel,
        voucher,
        total: Amount::new(EARNED),
    };
    let seller = world.ledger.of(world.seller());
    seller.claim(vec![claim]).await.unwrap();
    let (again, _) = world.sells_script(Script::default()).await;
    let seen_through = async {
        while world.money().await != before + EARNED
            || again.provider.status().money[0].claimed != Amount::new(EARNED)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, seen_through)
        .await
        .expect("settled and journaled");
}

/// Nothing is claimed by amount or by age here; the withdrawal alone presses.
#[tokio::test]
async fn a_withdrawal_begun_while_the_provider_was_away_is_answered_at_its_start() {
    let (world, selling, buyer) = world_that_earned(|_| {}).await;
    selling.crashes().await;
    buyer
        .ledger
        .initiate_withdraw(buyer.channel, Amount::new(1000))
        .await
        .unwrap();
    world.ledger.advance(899);
    let before = world.money().await;
    let (_again, _) = world.sells_script(Script::default()).await;
    paid(&world, before + EARNED).await;
}

#[tokio::test]
async fn a_claim_waits_while_gas_is_dear_until_a_withdrawal_would_take_it() {
    let gas = GasPolicy {
        token: crate::world::MOR,
        coin_price: Amount::new(1_000_000_000_000_000_000),
        share_percent: 10,
    };
    // A claim of one row is 66,000 gas.
    let dear = |config: &mut provider::Config| {
        config.claims.threshold = Amount::new(1);
        config.claims.gas = Some(GasPolicy {
            coin_price: Amount::new(300_000_000_000_000),
            ..gas
        });
    };
    let world = World::new();
    world.ledger.set_gas_price(Amount::new(1));
    let backend = Arc::new(ScriptedBackend::new(Script::tokens(20, Duration::ZERO)));
    let selling = world.sells(Arc::clone(&backend), dear).await;
    let buyer = world.buyer(1000).await;
    buyer
        .asks(&selling, input() + STEP)
        .await
        .reads_on(None)
        .await;
    let before = world.money().await;
    // 66,000 gas are 20 units, more than a tenth of what was earned.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(world.money().await, before);
    buyer
        .ledger
        .initiate_withdraw(buyer.channel, Amount::new(1000))
        .await
        .unwrap();
    world.ledger.advance(600);
    selling.crashes().await;
    let _again = world.sells(backend, dear).await;
    let claimed = async || {
        let state = world.ledger.channel(buyer.id()).await.unwrap();
        state.total_claimed == Amount::new(EARNED)
    };
    let pressed = async {
        while !claimed().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, pressed)
        .await
        .expect("claimed before it is lost");
    // Nobody can take it any more: the payout waits for cheaper gas.
    assert_eq!(world.money().await, before);
}

/// Waits until the provider's account has so much.
async fn paid(world: &World, expected: u128) {
    let paid = async {
        while world.money().await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, paid)
        .await
        .expect("claimed and settled");
}
