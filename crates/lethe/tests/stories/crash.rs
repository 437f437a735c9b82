//! `kill -9` in the middle of answers and of claims, on either side, at many
//! points: nobody loses more than one step, and chain and both journals agree
//! to the unit.

use market::Amount;

use crate::accounts::{Opening, agree};
use crate::process::Client;
use crate::town::{LONG, MODEL, Town, read_tokens};

/// Each story: a first answer, then five that are cut and five after them.
const ANSWERS: u64 = 11;
/// Claims that the provider does not survive.
const KILLED_CLAIMS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_provider_loses_at_most_a_step_and_the_books_agree() {
    let town = Town::start().await;
    let mut provider = town.provider();
    let consumer = town.consumer();
    let opening = Opening::of(&town, &provider, &consumer).await;
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;
    opening.claimed_beyond(&town, Amount::ZERO).await;

    for tokens in [1, 31, 33, 64, 100] {
        let mut response = client.ask(MODEL, LONG).await;
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
        read_tokens(&mut response, tokens).await;
        provider.kill();
        provider = town.provider();
        // The next answer pays for the last one as far as the provider knows of it.
        client.answered(MODEL, "3").await;
    }
    town.backend_rests().await;
    consumer.stop();
    provider.stop();
    agree(&town, &opening, ANSWERS).await;
}

/// The claim is on chain and not yet in the journal, or not yet settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_killed_in_the_middle_of_a_claim_has_all_of_it_in_the_end() {
    let town = Town::start().await;
    let mut provider = town.provider();
    let consumer = town.consumer();
    let opening = Opening::of(&town, &provider, &consumer).await;
    let client = Client::of(&consumer);

    for _ in 0..KILLED_CLAIMS {
        let before = opening.claimed(&town).await;
        client.answered(MODEL, "3").await;
        let _running = client.ask(MODEL, LONG).await;
        opening.claimed_beyond(&town, before).await;
        provider.kill();
        provider = town.provider();
    }
    client.answered(MODEL, "3").await;
    town.backend_rests().await;
    consumer.stop();
    provider.stop();
    agree(&town, &opening, 2 * KILLED_CLAIMS + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_consumer_loses_at_most_a_step_and_the_books_agree() {
    let town = Town::start().await;
    let provider = town.provider();
    let mut consumer = town.consumer();
    let opening = Opening::of(&town, &provider, &consumer).await;
    Client::of(&consumer).answered(MODEL, "3").await;
    opening.claimed_beyond(&town, Amount::ZERO).await;

    for tokens in [1, 32, 40, 65, 97] {
        let client = Client::of(&consumer);
        let mut response = client.ask(MODEL, LONG).await;
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
        read_tokens(&mut response, tokens).await;
        consumer.kill();
        town.backend_rests().await;
        consumer = town.consumer();
        Client::of(&consumer).answered(MODEL, "3").await;
    }
    consumer.stop();
    provider.stop();
    agree(&town, &opening, ANSWERS).await;
}
