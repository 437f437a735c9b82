//! The chain goes away while everybody runs: what is funded goes on, what is
//! not says so, and all is well again when the chain is back.

use market::Amount;
use serde_json::Value;

use crate::accounts::Opening;
use crate::process::{Answer, Client};
use crate::town::{MODEL, Town};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_chain_funded_channels_go_on_and_others_say_what_is_missing() {
    let mut town = Town::start_embedded().await;
    let mut provider = town.provider();
    let mut consumer = town.consumer();
    let mut newcomer = town.consumer_in("newcomer");
    let opening = Opening::of(&town, &provider, &consumer).await;
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;
    opening.claimed_beyond(&town, Amount::ZERO).await;

    let server = town.chain_dies();
    // Longer than a claim's turn and several looks at the market.
    for _ in 0..3 {
        let answer = Answer::read(client.ask(MODEL, "300").await).await;
        assert!(answer.done, "{}", answer.raw);
    }
    let response = Client::of(&newcomer).ask(MODEL, "3").await;
    assert_eq!(response.status(), 503);
    let error: Value = response.json().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert_eq!(error["error"]["code"], "chain_unreachable", "{message}");
    assert!(message.contains(&server), "{message}");
    assert!(message.contains("--rpc-url"), "{message}");

    town.chain_returns();
    let before = opening.claimed(&town).await;
    client.answered(MODEL, "3").await;
    Client::of(&newcomer).answered(MODEL, "3").await;
    opening.claimed_beyond(&town, before).await;
    for running in [&mut provider, &mut consumer, &mut newcomer] {
        assert!(running.runs(), "a process ended");
    }
    newcomer.stop();
    consumer.stop();
    provider.stop();
}
