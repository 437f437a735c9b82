//! The gateway stops: running answers end well, or are told that they do not.

use std::time::Duration;

use gateway::{Limits, Settings};
use tokio::net::TcpStream;

use crate::scripted::{ASK, STREAM, Town};
use crate::wire::code;

async fn drained_in(drain: Duration) -> Town {
    let limits = Limits {
        drain,
        ..Limits::default()
    };
    Town::with(Settings {
        limits,
        ..Settings::default()
    })
    .await
}

#[tokio::test]
async fn a_running_answer_comes_to_its_end() {
    let mut town = drained_in(Duration::from_secs(60)).await;
    let hand = town.plan();
    let mut idle = town.connect().await;
    let mut wire = town.ask(STREAM).await;
    hand.say("a").await;
    wire.head().await;
    wire.chunk().await.unwrap();
    town.stop.cancel();
    // Connections that wait for nothing are closed at once.
    idle.closed().await;
    assert!(
        TcpStream::connect(town.address).await.is_err(),
        "a stopped gateway takes no connection"
    );
    hand.say("b").await;
    hand.end().await;
    let mut rest = String::new();
    while let Some(chunk) = wire.chunk().await.unwrap() {
        rest.push_str(&chunk);
    }
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    wire.closed().await;
    town.ended().await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_told_so() {
    let mut town = drained_in(Duration::from_millis(10)).await;
    let (streamed, whole, waiting) = (town.plan(), town.plan(), town.plan_nothing());
    let mut stream = town.ask(STREAM).await;
    streamed.say("a").await;
    stream.head().await;
    stream.chunk().await.unwrap();
    let mut asked = Vec::new();
    for n in 2..4 {
        asked.push(town.ask(ASK).await);
        while town.market.asked.lock().unwrap().len() < n {
            tokio::task::yield_now().await;
        }
    }
    whole.say("a").await;
    town.stop.cancel();

    let last = stream.chunk().await.unwrap().unwrap();
    assert_eq!(code(last.strip_prefix("data: ").unwrap()), "stopping");
    assert_eq!(stream.chunk().await, Ok(None));
    for mut wire in asked {
        let (status, body) = wire.answer().await;
        assert_eq!((status, code(&body).as_str()), (503, "stopping"));
    }
    for hand in [streamed, whole, waiting] {
        hand.dropped().await;
    }
    town.ended().await;
}
