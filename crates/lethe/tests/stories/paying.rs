//! Answers that follow each other on one channel, each paid step by step.

use crate::process::{Answer, Client};
use crate::town::{MODEL, Town};

/// Estimated at far more tokens than the backend counts.
const LONG_PROMPT_WORDS: usize = 4_000;
/// More than two steps: it needs vouchers of its own.
const TOKENS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_left_over_does_not_hold_up_the_next() {
    let town = Town::start().await;
    let _provider = town.provider();
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client
        .answered(MODEL, &"water ".repeat(LONG_PROMPT_WORDS))
        .await;

    let answer = Answer::read(client.ask(MODEL, &TOKENS.to_string()).await).await;
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text.split_whitespace().count(), TOKENS);
}
