//! Too much, too long, too slow.

use std::time::Duration;

use gateway::{Limits, Settings};
use tokio::io::AsyncWriteExt;

use crate::scripted::{ASK, STREAM, Town};
use crate::wire::code;

async fn limited(limits: Limits) -> Town {
    Town::with(Settings {
        limits,
        ..Settings::default()
    })
    .await
}

const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_not_read() {
    let town = Town::open().await;
    let mut wire = town.connect().await;
    wire.send(&format!("{POST}Content-Length: 100000000\r\n\r\n"))
        .await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("connection")), (413, "close"));
    let body = wire.body(&head).await;
    assert_eq!(code(&body), "body_too_large");
    assert!(body.contains("16777216 bytes"), "{body}");
}

#[tokio::test]
async fn one_that_sends_it_all_the_same_can_read_why_not() {
    let town = Town::open().await;
    let mut wire = town.connect().await;
    wire.send(&format!("{POST}Content-Length: 40000000\r\n\r\n"))
        .await;
    // Writes on while the answer is there already, as most clients do.
    let written = wire.socket.write_all(&vec![b' '; 40_000_000]).await;
    assert!(written.is_ok(), "{written:?}");
    let (status, body) = wire.answer().await;
    assert_eq!((status, code(&body).as_str()), (413, "body_too_large"));
    wire.closed().await;
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_refused() {
    let town = limited(Limits {
        body_bytes: 1000,
        ..Limits::default()
    })
    .await;
    let mut wire = town.connect().await;
    wire.send(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n"))
        .await;
    for _ in 0..11 {
        wire.send(&format!("64\r\n{}\r\n", " ".repeat(100))).await;
    }
    let (status, body) = wire.answer().await;
    assert_eq!((status, code(&body).as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let town = limited(Limits {
        head_time: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    for start in [
        "",
        "GET /healthz HTT",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    ] {
        let mut wire = town.connect().await;
        wire.send(start).await;
        wire.closed().await;
    }
    assert_eq!(town.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_cut_off() {
    let limits = Limits {
        body_time: Duration::from_millis(50),
        body_bytes_per_s: 1_000_000,
        ..Limits::default()
    };
    let town = limited(limits).await;
    let mut wire = town.connect().await;
    wire.send(&format!("{POST}Content-Length: 1000\r\n\r\n{{"))
        .await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("connection")), (408, "close"));
    assert_eq!(code(&wire.body(&head).await), "body_too_slow");
    wire.closed().await;
}

#[tokio::test]
async fn a_slow_body_within_the_rate_is_waited_for() {
    let limits = Limits {
        body_time: Duration::from_millis(1),
        body_bytes_per_s: 1,
        ..Limits::default()
    };
    let town = limited(limits).await;
    let hand = town.plan();
    hand.say("a").await;
    hand.end().await;
    let mut wire = town.connect().await;
    let (start, rest) = ASK.split_at(30);
    // Head and start in one write: 30 bytes earn 30 seconds.
    wire.send(&format!(
        "{POST}Content-Length: {}\r\n\r\n{start}",
        ASK.len()
    ))
    .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    wire.send(rest).await;
    assert_eq!(wire.answer().await.0, 200);
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_request() {
    let town = Town::open().await;
    let mut wire = town.connect().await;
    wire.send(&format!("{POST}Content-Length: 1000\r\n\r\n{ASK}"))
        .await;
    wire.socket.shutdown().await.unwrap();
    wire.closed().await;
    assert!(town.market.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_so_many_answers_run() {
    let town = limited(Limits {
        answers: 1,
        ..Limits::default()
    })
    .await;
    let hand = town.plan();
    let mut first = town.ask(STREAM).await;
    hand.say("a").await;
    first.head().await;
    let mut second = town.ask(STREAM).await;
    let head = second.head().await;
    assert_eq!((head.status, head.header("retry-after")), (503, "1"));
    assert_eq!(code(&second.body(&head).await), "overloaded");
    drop(first);
    hand.dropped().await;
    // The place is free once the first answer's connection has ended.
    loop {
        let hand = town.plan();
        hand.end().await;
        if town.ask(STREAM).await.answer().await.0 == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn only_so_many_connections_are_kept() {
    let town = limited(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = town.connect().await;
    first
        .send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(first.answer().await.0, 200);
    let mut second = town.connect().await;
    let (status, body) = second.answer().await;
    assert_eq!((status, code(&body).as_str()), (503, "overloaded"));
    second.closed().await;
    drop(first);
    while town.connect().await.try_healthz().await != Some(200) {}
}

#[tokio::test]
async fn all_bodies_together_fit_in_memory() {
    let town = limited(Limits {
        bodies_bytes: 4096,
        ..Limits::default()
    })
    .await;
    let long = |bytes: usize| STREAM.replace("hi", &"x".repeat(bytes));
    let hand = town.plan();
    let mut first = town.ask(&long(3000)).await;
    hand.say("a").await;
    first.head().await;
    let (status, body) = town.ask(&long(3000)).await.answer().await;
    assert_eq!((status, code(&body).as_str()), (503, "overloaded"));
    hand.end().await;
    while first.chunk().await.unwrap().is_some() {}
    let hand = town.plan();
    hand.end().await;
    assert_eq!(town.ask(&long(3000)).await.answer().await.0, 200);
}
