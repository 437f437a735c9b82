//! Answers at a steady beat are whole, are paid, and stop when nobody reads.

use crate::process::{Answer, Client};
use crate::town::{MODEL, Town, read_tokens};

/// More than one step, and more than one tick's worth.
const TOKENS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_paced_answer_is_whole_and_who_leaves_it_stops_the_backend() {
    let town = Town::start().await;
    let _provider = town.provider();
    let consumer = town.consumer_with("consumer", &["--paced"]);
    let client = Client::of(&consumer);
    for _ in 0..2 {
        let answer = Answer::read(client.ask(MODEL, &TOKENS.to_string()).await).await;
        assert!(answer.done, "{}", answer.raw);
        assert_eq!(answer.text.split_whitespace().count(), TOKENS);
    }

    let mut response = client.ask(MODEL, "100000").await;
    read_tokens(&mut response, 5).await;
    drop(response);
    town.backend_rests().await;
}
