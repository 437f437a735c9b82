//! Whoever answers is lost within the answer: another provider goes on, and
//! the client reads one answer, nothing twice and nothing missing.

use std::process::Command;
use std::time::Duration;

use market::Address;
use serde_json::{Value, json};

use crate::accounts::wallet;
use crate::backend::{CALL_PIECES, Counting, INPUT_TOKENS};
use crate::process::{Answer, Client, PATIENCE, Running};
use crate::town::{MODEL, Town};

/// Less than what the other asks, so that it is asked first.
const CHEAPER: &str = "0.0000000000001";
const PRICE: &str = "0.000000000001";
/// The client counts to here.
const TO: u32 = 400;

pub(crate) fn counted(to: u32) -> String {
    (0..to).map(|n| format!("{n} ")).collect()
}

/// A provider whose offer says that it goes on with a begun answer.
async fn provider(town: &Town, folder: &str, backend: &Counting, price: &str) -> Running {
    provider_with(town, folder, backend, price, &[]).await
}

/// The same, with more flags.
pub(crate) async fn provider_with(
    town: &Town,
    folder: &str,
    backend: &Counting,
    price: &str,
    flags: &[&str],
) -> Running {
    let args = town.provider_args(backend, price);
    let args = args.iter().map(String::as_str);
    let args = args.filter(|arg| *arg != "--no-probe");
    let args: Vec<_> = args.chain(flags.iter().copied()).collect();
    let running = Running::start(&town.folder().join(folder), &args);
    goes_on(&running).await;
    running
}

/// Returns as soon as its offer says that it goes on with a begun answer.
pub(crate) async fn goes_on(running: &Running) {
    let descriptor = format!("http://{}/.well-known/lethe", running.said("endpoint"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = http
            .get(&descriptor)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        if text.contains(r#"\"continues\":true"#) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not found out: {text}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn question(to: u32) -> Value {
    json!({
        "model": MODEL, "stream": true, "temperature": 0,
        "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": to.to_string() }],
    })
}

/// Reads an answer; once so many tokens came, something happens.
pub(crate) async fn read(
    mut response: reqwest::Response,
    tokens: usize,
    then: impl FnOnce(),
) -> Answer {
    let (mut raw, mut then) = (Vec::new(), Some(then));
    while let Ok(Some(piece)) = response.chunk().await {
        raw.extend_from_slice(&piece);
        let came = String::from_utf8_lossy(&raw).matches("\"content\"").count();
        if came >= tokens
            && let Some(then) = then.take()
        {
            then();
        }
    }
    Answer::of(String::from_utf8_lossy(&raw).into_owned())
}

fn usage(answer: &Answer) -> Value {
    let chunks = answer
        .raw
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"));
    let mut chunks =
        chunks.filter_map(|rest| serde_json::from_str::<Value>(&format!("{{{rest}")).ok());
    chunks
        .rfind(|chunk| chunk["usage"].is_object())
        .map_or(Value::Null, |chunk| chunk["usage"].clone())
}

fn is_whole(answer: &Answer) {
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text, counted(TO));
    let parts = answer.tail["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{}", answer.tail);
    assert_ne!(parts[0]["provider"], parts[1]["provider"]);
    assert!(
        parts[0]["cost"].is_null() && parts[1]["cost"].is_string(),
        "{}",
        answer.tail
    );
    let (input, all) = (INPUT_TOKENS, INPUT_TOKENS + TO);
    let expected = json!({ "prompt_tokens": input, "completion_tokens": TO, "total_tokens": all });
    assert_eq!(usage(answer), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_when_its_provider_is_killed_and_again_when_one_falls_silent() {
    let town = Town::start().await;
    let cheaper = provider(&town, "cheaper", &town.backend, CHEAPER).await;
    let other = provider(&town, "other", &town.backend, PRICE).await;
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;

    let response = client.ask_with(&[], &question(TO)).await;
    let route = response.headers()["x-lethe-route"].to_str().unwrap();
    let route = format!("/api/routes/{route}");
    let answer = read(response, 50, move || cheaper.kill()).await;
    is_whole(&answer);
    let route = client.api("GET", &route).await;
    assert_eq!(route["asked"][0]["ending"], "lost", "{route}");

    // It is stopped, so that nothing is heard of it, and nothing closed.
    let again = provider(&town, "cheaper", &town.backend, CHEAPER).await;
    let pid = other.id();
    let response = client.ask_with(&[], &question(TO)).await;
    let first = response.headers()["x-lethe-provider"]
        .to_str()
        .unwrap()
        .to_owned();
    let (stopped, _goes_on) = match first.eq_ignore_ascii_case(&other.said("provider")) {
        true => (pid, again),
        false => (again.id(), again),
    };
    let signal = move |name: &'static str| {
        let command = format!("kill -{name} {stopped}");
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    };
    let answer = read(response, 70, move || signal("STOP")).await;
    signal("CONT");
    is_whole(&answer);
    town.backend_rests().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_stands_by_and_is_paid_without_another_deposit() {
    let town = Town::start().await;
    let cheaper = provider(&town, "cheaper", &town.backend, CHEAPER).await;
    let _other = provider(&town, "other", &town.backend, PRICE).await;
    let consumer = town.consumer();
    let alone = town.consumer_with("alone", &["--no-standby"]);
    let (client, alone) = (Client::of(&consumer), Client::of(&alone));
    client.answered(MODEL, "3").await;
    alone.answered(MODEL, "3").await;
    client.funded(2).await;
    alone.funded(1).await;

    let payer: Address = consumer.said("payer").parse().unwrap();
    let before = wallet(&town, payer).await;
    let response = client.ask_with(&[], &question(TO)).await;
    let answer = read(response, 50, move || cheaper.kill()).await;
    is_whole(&answer);
    assert_eq!(wallet(&town, payer).await, before, "a deposit within it");
    alone.funded(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_one_provider_or_none_gets_an_error() {
    let town = Town::start().await;
    let cheaper = provider(&town, "cheaper", &town.backend, CHEAPER).await;
    let _other = provider(&town, "other", &town.backend, PRICE).await;
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;

    let wrong = client
        .ask_with(&[("x-lethe-failover", "perhaps")], &question(3))
        .await;
    assert_eq!(wrong.status(), 400);
    let text = wrong.text().await.unwrap();
    assert!(text.contains("continue and strict"), "{text}");

    let strict = [("x-lethe-failover", "strict")];
    let response = client.ask_with(&strict, &question(TO)).await;
    let answer = read(response, 50, move || cheaper.kill()).await;
    assert!(!answer.done);
    assert!(counted(TO).starts_with(&answer.text), "{}", answer.text);
    assert!(answer.raw.contains("\"error\""), "{}", answer.raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_that_broke_off_is_made_anew_and_once() {
    let town = Town::start().await;
    let cheaper = provider(&town, "cheaper", &town.backend, CHEAPER).await;
    let _other = provider(&town, "other", &town.backend, PRICE).await;
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;

    let mut body = question(20);
    body["tools"] = json!([{ "type": "function", "function": { "name": "count" } }]);
    let response = client.ask_with(&[], &body).await;
    let answer = read(response, 20, move || {
        // Within the call, of which nothing is passed on yet.
        std::thread::sleep(Duration::from_millis(100));
        cheaper.kill();
    });
    let answer = answer.await;
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text, counted(20));
    assert_eq!(
        answer.tail["parts"].as_array().map(Vec::len),
        Some(2),
        "{}",
        answer.tail
    );
    let mut arguments = String::new();
    for line in answer
        .raw
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
    {
        let chunk: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0]["function"];
        arguments.push_str(call["arguments"].as_str().unwrap_or_default());
    }
    let pieces = usize::try_from(CALL_PIECES - 2).unwrap();
    assert_eq!(arguments, format!("[{}9]", "1,".repeat(pieces)));
}

/// The part that a provider's own server broke off costs no input, since nobody
/// counted it; and what is told in the end is told of all parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_server_fails_costs_what_came_and_is_in_the_sum() {
    const CAME: u32 = 50;
    let town = Town::start().await;
    let failing = Counting::silent_after(CAME).await;
    let cheaper = provider(&town, "cheaper", &failing, CHEAPER).await;
    let _other = provider(&town, "other", &town.backend, PRICE).await;
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;

    let response = client.ask_with(&[], &question(100)).await;
    let answer = read(response, usize::MAX, || {}).await;
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text, counted(100));
    let tail = &answer.tail;
    let parts = tail["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{tail}");
    assert_eq!(parts[0]["provider"], cheaper.said("provider"), "{tail}");
    let told: Vec<_> = parts
        .iter()
        .map(|part| (&part["input_tokens"], &part["output_tokens"]))
        .collect();
    let input = json!(INPUT_TOKENS + CAME);
    let (came, rest) = (json!(CAME), json!(100 - CAME));
    assert_eq!(told, [(&json!(0), &came), (&input, &rest)], "{tail}");
    // Fifty tokens at a tenth of a unit, then all of them at one.
    let costs: Vec<_> = parts.iter().map(|part| part["cost"].as_str()).collect();
    assert_eq!(costs, [Some("5"), Some("109")], "{tail}");
    assert_eq!(tail["cost"], "114", "{tail}");
    assert_eq!(
        (&tail["input_tokens"], &tail["output_tokens"]),
        (&input, &json!(100)),
        "{tail}"
    );
}
