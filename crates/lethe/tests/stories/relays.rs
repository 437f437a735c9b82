//! Relays that have too much to do.

use futures_util::{StreamExt as _, stream};

use crate::process::{Answer, Client};
use crate::town::{MODEL, Town};

/// More than one relay takes of a consumer at once, less than both do.
const REQUESTS: usize = 36;
const AT_ONCE: usize = 4;

/// A relay that soon counts each peer's share.
const NARROW: [&str; 2] = ["--streams-per-second", "1"];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_busy_relay_refuses_goes_through_the_other_one() {
    let town = Town::start().await;
    let _provider = town.provider();
    let _relays = ["one", "two"].map(|folder| town.relay(folder, &NARROW));
    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "0").await;

    let asked = stream::iter(1..REQUESTS).map(|n| {
        let client = &client;
        async move { Answer::read(client.ask(MODEL, &n.to_string()).await).await }
    });
    let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    for answer in answers {
        assert!(answer.done, "{}", answer.raw);
    }
}
