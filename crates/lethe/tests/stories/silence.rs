//! A backend that takes a request and says nothing, or nothing more: the next
//! provider is asked, or the client learns what happened.

use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Counting;
use crate::process::{Answer, Client, PATIENCE, Running};
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

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not so in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_to_begin_is_overtaken_and_stopped() {
    let town = Town::start().await;
    let silent = Counting::silent_after(0).await;
    let args = town.provider_args(&silent, CHEAPER);
    let mut args: Vec<_> = args.iter().map(String::as_str).collect();
    let at = args
        .iter()
        .position(|arg| *arg == "--first-chunk-within")
        .unwrap();
    // As long as the client waits at most.
    args[at + 1] = "90";
    let slow = Running::start(&town.folder().join("silent"), &args);
    let other = town.provider();
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    let (slow, other) = (slow.said("provider"), other.said("provider"));
    until("both are on offer", async || {
        let route = client
            .api("GET", &format!("/api/route?model={MODEL}"))
            .await;
        let route = route.to_string().to_lowercase();
        [&slow, &other]
            .iter()
            .all(|one| route.contains(&one.to_lowercase()))
    })
    .await;

    let body = json!({
        "model": MODEL, "stream": true, "provider": { "order": [slow] },
        "messages": [{ "role": "user", "content": "3" }],
    });
    let answer = async {
        let response = client.ask_with(&[], &body).await;
        let said = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let (by, route) = (said("x-lethe-provider"), said("x-lethe-route"));
        (by, route, Answer::read(response).await)
    };
    let worked = until("the slow one works on it", async || silent.running() > 0);
    let ((by, route, answer), ()) = tokio::join!(answer, worked);
    assert!(by.eq_ignore_ascii_case(&other), "answered by {by}");
    assert!(answer.done && answer.text == "0 1 2 ", "{}", answer.raw);
    until("the slow one is stopped", async || silent.running() == 0).await;

    let route = client.api("GET", &format!("/api/routes/{route}")).await;
    let asked = |n: usize| ["turn", "ending"].map(|field| route["asked"][n][field].clone());
    assert_eq!(asked(0), ["beside", "answered"], "{route}");
    assert_eq!(asked(1), ["first", "overtaken"], "{route}");
}
