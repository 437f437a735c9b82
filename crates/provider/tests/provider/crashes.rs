//! The provider's process dies at bad moments and comes back.

use std::time::Duration;

use market::{Amount, Ledger, Outcome, STEP_TOKENS};
use provider::{Line, Script};

use crate::world::{PATIENCE, STEP, World, input};

/// So many tokens, then silence.
fn tokens_then_silence(count: u32) -> Script {
    let mut lines = vec![Line::Say("token ".into()); count as usize];
    lines.push(Line::Stall);
    Script {
        lines,
        ..Script::default()
    }
}

#[tokio::test]
async fn a_crash_costs_at_most_a_step_and_the_books_agree_again() {
    let world = World::new();
    const DELIVERED: u32 = 5 * STEP_TOKENS + 10;
    let (selling, _) = world.sells_script(tokens_then_silence(DELIVERED)).await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    let mut ceiling = input() + STEP;
    for read in 1..=DELIVERED {
        assert_eq!(talk.chunk().await, "token ");
        if read % STEP_TOKENS == 0 {
            ceiling = input() + u128::from(read) + STEP;
            talk.pays(ceiling, read).await;
        }
    }
    // What is on its way to the disk gets there, as it does within a step's time.
    let written = async {
        while selling.journaled_tokens(&buyer).await < u64::from(DELIVERED - 10) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written)
        .await
        .expect("progress is journaled");
    selling.crashes().await;
    drop(talk);

    let (again, _) = world.sells_script(Script::tokens(20, Duration::ZERO)).await;
    let (receipts, running) = buyer.receipts(&again.to, 0).await.unwrap();
    assert_eq!((receipts.len(), running), (1, 0));
    receipts[0].verify(again.to.addr.id).unwrap();
    let lost = &receipts[0].receipt;
    assert_eq!((lost.sequence, lost.outcome), (1, Outcome::Failed));
    assert!(
        lost.output_tokens <= DELIVERED,
        "billed more than was delivered"
    );
    let unbilled = DELIVERED - lost.output_tokens;
    assert!(unbilled <= STEP_TOKENS, "{unbilled} tokens lost");
    assert!(lost.charged_total.base_units() <= ceiling);

    // Business goes on where the books stand, and the money comes.
    let charged = lost.charged_total.base_units();
    let whole = buyer
        .asks(&again, charged + input() + STEP)
        .await
        .reads_on(Some(charged))
        .await;
    let receipt = whole.receipt.receipt;
    assert_eq!(receipt.sequence, 2);
    assert_eq!(receipt.charged_total, Amount::new(charged + 27));
    let before = world.money().await;
    again.provider.claim_now().await.unwrap();
    assert_eq!(world.money().await, before + charged + 27);
    let state = world.ledger.channel(buyer.id()).await.unwrap();
    assert_eq!(state.total_claimed, receipt.charged_total);
}

#[tokio::test]
async fn receipts_numbers_and_ids_survive_a_restart() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    let infer = buyer.request(selling.model, input() + STEP);
    let first = buyer
        .send(&selling.to, infer.clone())
        .await
        .reads_on(None)
        .await;
    selling.crashes().await;

    let (again, backend) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let (receipts, _) = buyer.receipts(&again.to, 0).await.unwrap();
    assert_eq!(receipts, [first.receipt]);
    let refusal = buyer.send(&again.to, infer).await.refused().await;
    assert_eq!(refusal.reason, transport::message::Reason::Protocol);
    assert_eq!(backend.started(), 0);
}

#[tokio::test]
async fn a_restart_pays_for_nothing_twice() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::default()).await;
    let once = world.money().await;
    selling.crashes().await;
    let (again, _) = world.sells_script(Script::default()).await;
    assert_eq!(world.money().await, once);
    assert_eq!(again.provider.models().len(), 1);
}
