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

/// Journals, receipts and chain agree to the base unit; nothing was paid twice.
/// How many tokens are signed for and not charged.
pub(crate) async fn all_agrees(town: &Town, opening: &Opening, mor_per_million: &str) -> u128 {
    let mor: u128 = mor_per_million.parse().unwrap();
    let story = Story {
        answers: ANSWERS,
        claims: 1,
        token: Amount::new(mor * ONE_MOR / 1_000_000),
    };
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
    let earned = signed_and_charged(town).await;
    let provider = town.provider_of("provider", &town.backend, mor_per_million);
    opening.settled(town, earned).await;
    provider.stop();
    claims_agree(town, opening, story, earned).await;
    signed_ahead(town, story.token).await
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

async fn signed_ahead(town: &Town, token: Amount) -> u128 {
    let purse: Vec<PurseEvent> = journal(&town.consumer_journal(), "consumer/purse/").await;
    let purse = market::Purse::replay(&purse).unwrap();
    purse.ceiling().less(purse.charged()).base_units() / token.base_units()
}
