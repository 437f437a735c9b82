//! Clients that leave: the work behind them must stop.

use std::time::Duration;

use gateway::{Limits, Settings};
use tokio::io::AsyncWriteExt;

use crate::scripted::{ASK, STREAM, Town};

#[tokio::test]
async fn a_stream_stops_when_its_client_leaves_between_tokens() {
    let town = Town::open().await;
    let hand = town.plan();
    let mut wire = town.ask(STREAM).await;
    hand.say("a").await;
    wire.head().await;
    wire.chunk().await.unwrap();
    assert!(!hand.is_dropped());
    drop(wire);
    hand.dropped().await;
}

#[tokio::test]
async fn a_stream_stops_when_its_client_leaves_before_the_first_token() {
    let town = Town::open().await;
    for ask in [STREAM, ASK] {
        for hand in [town.plan(), town.plan_nothing()] {
            let wire = town.ask(ask).await;
            while town.market.asked.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(!hand.is_dropped());
            drop(wire);
            hand.dropped().await;
            town.market.asked.lock().unwrap().clear();
        }
    }
}

#[tokio::test]
async fn a_whole_answer_stops_when_its_client_leaves() {
    let town = Town::open().await;
    let hand = town.plan();
    let wire = town.ask(ASK).await;
    hand.say("a").await;
    drop(wire);
    hand.dropped().await;
    let (_, page) = town.get("/metrics").await;
    assert!(
        page.contains("lethe_gateway_answers_total{ending=\"abandoned\"} 1"),
        "{page}"
    );
}

/// A socket that was half closed looks like one that was left; a client that
/// wants its answer keeps its side open, as all clients of HTTP/1.1 do.
#[tokio::test]
async fn a_client_that_closes_its_half_has_left() {
    let town = Town::open().await;
    let hand = town.plan();
    let mut wire = town.ask(STREAM).await;
    hand.say("a").await;
    wire.head().await;
    wire.socket.shutdown().await.unwrap();
    hand.dropped().await;
    wire.closed().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left_in_the_end() {
    let limits = Limits {
        write_stall: Duration::from_millis(100),
        ..Limits::default()
    };
    let town = Town::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let hand = town.plan();
    let wire = town.ask(STREAM).await;
    hand.say_until_dropped().await;
    drop(wire);
}

#[tokio::test]
async fn one_that_leaves_disturbs_no_other() {
    let town = Town::open().await;
    let (leaving, staying) = (town.plan(), town.plan());
    let mut left = town.ask(STREAM).await;
    leaving.say("a").await;
    left.head().await;
    let mut stays = town.ask(STREAM).await;
    staying.say("a").await;
    stays.head().await;
    drop(left);
    leaving.dropped().await;
    staying.say("b").await;
    staying.end().await;
    let mut body = String::new();
    while let Some(chunk) = stays.chunk().await.unwrap() {
        body.push_str(&chunk);
    }
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
}
