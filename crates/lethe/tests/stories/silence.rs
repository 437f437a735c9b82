//! A backend that takes a request and says nothing, or nothing more: the next
//! provider is asked, or the client learns what happened.

use serde_json::Value;

use crate::backend::Counting;
use crate::process::{Answer, Client};
use crate::town::{MODEL, Town};

/// Less than what others ask, so that it is asked first.
const CHEAPER: &str = "0.0000000000001";

fn error_in(raw: &str) -> String {
    let mut errors = raw
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["error"]["message"].as_str().map(str::to_owned));
    errors.next_back().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_is_passed_over() {
    let town = Town::start().await;
    let silent = Counting::silent_after(0).await;
    let _cheaper = town.provider_of("silent", &silent, CHEAPER);
    let consumer = town.consumer();
    let client = Client::of(&consumer);

    let response = client.ask(MODEL, "3").await;
    assert_eq!(response.status(), 502);
    let error: Value = response.json().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("did not begin within 1 s"), "{message}");

    let _other = town.provider();
    let answer = client.answered(MODEL, "3").await;
    assert_eq!(answer.text, "0 1 2 ");
    assert_eq!(silent.running(), 0, "it is not waited for any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_falls_silent_midway_ends_the_answer_with_an_error() {
    let town = Town::start().await;
    let silent = Counting::silent_after(5).await;
    let _provider = town.provider_of("silent", &silent, CHEAPER);
    let consumer = town.consumer();

    let answer = Answer::read(Client::of(&consumer).ask(MODEL, "100").await).await;
    assert!(!answer.done);
    assert_eq!(answer.text, "0 1 2 3 4 ");
    let message = error_in(&answer.raw);
    assert!(
        message.contains("after 5 tokens") && message.contains("sent nothing for 1 s"),
        "{message}"
    );
    assert_eq!(silent.running(), 0, "it is not waited for any more");
}
