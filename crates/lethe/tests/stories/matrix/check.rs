//! What must hold after a case, whatever failed.

use market::{Amount, Ledger, PurseEvent, TillEvent};

use crate::accounts::{Opening, Story, books_agree, claims_agree, journal, signed_and_charged};
use crate::town::Town;

const ONE_MOR: u128 = 1_000_000_000_000_000_000;
/// What a demonstration gives a consumer and a provider at first.
const CONSUMERS_MOR: u128 = 100 * ONE_MOR;
const PROVIDERS_MOR: u128 = 2 * ONE_MOR;
/// After the failure.
const ANSWERS: u64 = 2;

/// What every case comes to, at so many MOR for 10^6 tokens.
pub(crate) fn story(mor_per_million: &str) -> Story {
    let mor: u128 = mor_per_million.parse().unwrap();
    Story {
        answers: ANSWERS,
        claims: 1,
        token: Amount::new(mor * ONE_MOR / 1_000_000),
    }
}

/// Nothing was paid twice before the first answer, and both journals have the
/// same. What the provider has earned.
pub(crate) async fn journals_agree(town: &Town, opening: &Opening, story: Story) -> Amount {
    let ledger = town.ledger().await;
    let stakes = ledger.stakes().await.unwrap();
    let fees = Amount::sum([stakes.provider_min, stakes.model_min, stakes.bid_fee]).unwrap();
    let provider = Amount::new(PROVIDERS_MOR).minus(fees).unwrap();
    assert_eq!(
        opening.provider_wallet, provider,
        "registered at a wrong price"
    );
    assert_eq!(opening.payer_wallet, Amount::new(CONSUMERS_MOR));
    books_agree(town, story).await;
    receipts_agree(town).await;
    signed_and_charged(town).await
}

/// All that was earned is claimed and settled, and chain, wallets and journals
/// agree to the base unit. How many tokens are signed for and not charged.
pub(crate) async fn chain_agrees(
    town: &Town,
    opening: &Opening,
    story: Story,
    earned: Amount,
) -> u128 {
    claims_agree(town, opening, story, earned).await;
    let purse: Vec<PurseEvent> = journal(&town.consumer_journal(), "consumer/purse/").await;
    let purse = market::Purse::replay(&purse).unwrap();
    let ahead = purse.ceiling().less(purse.charged());
    ahead.base_units() / story.token.base_units()
}

/// Both sides hold the same receipts, each once, in the same order.
async fn receipts_agree(town: &Town) {
    let purse: Vec<PurseEvent> = journal(&town.consumer_journal(), "consumer/purse/").await;
    let till: Vec<TillEvent> = journal(&town.provider_journal(), "till/").await;
    let mut booked: Vec<_> = purse
        .iter()
        .filter_map(|event| match event {
            PurseEvent::Receipted { receipt, .. } => Some(receipt.receipt.clone()),
            _ => None,
        })
        .collect();
    let mut given: Vec<_> = till
        .iter()
        .filter_map(|event| match event {
            TillEvent::Receipted { receipt } => Some((**receipt).clone()),
            _ => None,
        })
        .collect();
    booked.sort_by_key(|receipt| receipt.sequence);
    given.sort_by_key(|receipt| receipt.sequence);
    assert_eq!(booked, given, "the sides hold different receipts");
    let numbered = (1..)
        .zip(&given)
        .all(|(number, receipt)| receipt.sequence == number);
    assert!(numbered, "a receipt is missing, or there twice");
}
