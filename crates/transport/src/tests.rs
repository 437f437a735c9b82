//! What holds for a stream of either form: every story runs on both.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use market::NodeKey;
use tokio::time::timeout;

use crate::message::{MAX_MESSAGE_BYTES, VERSION};
use crate::{Incoming, MemoryNetwork, Node, OpenError, ReceiveError, SendError, Stream};

/// What happens "at once" happens within this, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Two nodes that know each other.
struct Pair {
    near: Node,
    far: Node,
}

impl Pair {
    async fn quic() -> Self {
        let node = async |seed: u8| {
            let key = NodeKey::from_bytes(&[seed; 32]);
            let bind = "127.0.0.1:0".parse().unwrap();
            Node::quic(&key, bind).await.unwrap()
        };
        Self {
            near: node(1).await,
            far: node(2).await,
        }
    }

    async fn memory() -> Self {
        let network = MemoryNetwork::new();
        let node = |seed: u8| Node::memory(&network, NodeKey::from_bytes(&[seed; 32]).id());
        Self {
            near: node(1),
            far: node(2),
        }
    }

    /// A stream from near to far, seen from both ends after a first message.
    async fn stream(&self) -> (Stream, Stream) {
        let mut near = self.near.open(&self.far.addr()).await.unwrap();
        near.send.send(&"first").await.unwrap();
        let Incoming { peer, stream, .. } = self.far.accept().await.unwrap();
        assert_eq!(peer, self.near.id());
        let mut far = stream;
        let first: Option<String> = far.receive.receive().await.unwrap();
        assert_eq!(first.as_deref(), Some("first"));
        (near, far)
    }
}

/// Runs each story on both forms, as `quic::story` and `memory::story`.
macro_rules! on_both_forms {
    ($($story:ident),* $(,)?) => {
        mod quic {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Pair::quic().await).await;
            })*
        }
        mod memory {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Pair::memory().await).await;
            })*
        }
    };
}

on_both_forms![
    messages_come_in_order_and_whole,
    a_message_of_megabytes_arrives,
    a_message_above_the_limit_is_not_sent,
    an_announced_length_above_the_limit_is_refused,
    an_announced_length_takes_no_memory,
    garbage_is_an_error,
    bytes_behind_a_message_are_an_error,
    another_version_is_named,
    each_direction_ends_on_its_own,
    an_end_within_a_message_is_no_end,
    a_reader_who_leaves_is_felt_at_once,
    a_writer_who_leaves_is_felt_at_once,
    a_cancelled_receive_loses_nothing,
    a_cancelled_send_spends_the_stream,
    a_stranger_who_says_nothing_is_late,
    two_hundred_streams_at_once,
    closing_ends_everything,
    nobody_opens_a_stream_to_oneself,
    who_cannot_be_dialled_is_reached_on_the_connection_that_it_dialled,
];

async fn messages_come_in_order_and_whole(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    let said: Vec<(u32, String)> = (0..1000)
        .map(|n| (n, "x".repeat(n as usize % 50)))
        .collect();
    let talk = async {
        near.send.send(&said[0]).await.unwrap();
        near.send.send_many(&said[1..600]).await.unwrap();
        near.send.send_many(&said[600..]).await.unwrap();
        near.send.finish().await.unwrap();
    };
    let listen = async {
        let mut heard: Vec<(u32, String)> = Vec::new();
        while let Some(message) = far.receive.receive().await.unwrap() {
            heard.push(message);
        }
        heard
    };
    let ((), heard) = tokio::join!(talk, listen);
    assert_eq!(heard, said);
}

async fn a_message_of_megabytes_arrives(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    let large = Bytes::from(
        (0..3_000_000u32)
            .map(|n| n.to_le_bytes()[0])
            .collect::<Vec<_>>(),
    );
    let (sent, heard) = tokio::join!(near.send.send(&large), far.receive.receive::<Bytes>());
    sent.unwrap();
    assert!(heard.unwrap().unwrap() == large);
}

async fn a_message_above_the_limit_is_not_sent(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    let error = near
        .send
        .send(&Bytes::from(vec![0; MAX_MESSAGE_BYTES]))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::TooLong { .. }));
    assert!(
        error.to_string().contains(&MAX_MESSAGE_BYTES.to_string()),
        "{error}"
    );

    near.send.send(&"short").await.unwrap();
    assert_eq!(
        far.receive.receive::<String>().await.unwrap().as_deref(),
        Some("short")
    );
}

async fn an_announced_length_above_the_limit_is_refused(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send
        .write(announcing(MAX_MESSAGE_BYTES + 1))
        .await
        .unwrap();
    let error = far.receive.receive::<Bytes>().await.unwrap_err();
    assert!(matches!(error, ReceiveError::TooLong { .. }));
    assert!(
        error.to_string().contains(&MAX_MESSAGE_BYTES.to_string()),
        "{error}"
    );
}

async fn an_announced_length_takes_no_memory(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send
        .write(announcing(MAX_MESSAGE_BYTES))
        .await
        .unwrap();
    near.send
        .write(Bytes::from_static(&[0; 100]))
        .await
        .unwrap();
    near.send.finish().await.unwrap();
    let error = far.receive.receive::<Bytes>().await.unwrap_err();
    assert!(matches!(error, ReceiveError::Truncated), "{error}");
    assert!(
        far.receive.held_bytes() < 64 * 1024,
        "{} bytes",
        far.receive.held_bytes()
    );
}

async fn garbage_is_an_error(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send
        .write(Bytes::from_static(&[0, 0, 0, 3, 255, 255, 255]))
        .await
        .unwrap();
    let error = far.receive.receive::<String>().await.unwrap_err();
    assert!(
        matches!(error, ReceiveError::Malformed { size: 3, .. }),
        "{error}"
    );
}

async fn bytes_behind_a_message_are_an_error(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send
        .write(Bytes::from_static(&[0, 0, 0, 3, 7, 0, 0]))
        .await
        .unwrap();
    let error = far.receive.receive::<u8>().await.unwrap_err();
    assert!(
        matches!(error, ReceiveError::Trailing { extra: 2, size: 1 }),
        "{error}"
    );
}

async fn another_version_is_named(pair: Pair) {
    let mut near = pair.near.open(&pair.far.addr()).await.unwrap();
    near.send
        .write(Bytes::from_static(&[VERSION + 8]))
        .await
        .unwrap();
    let mut far = pair.far.accept().await.unwrap().stream;
    for _ in 0..2 {
        let error = far.receive.receive::<u8>().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the peer speaks version 9 (spoken here: 1)"
        );
    }
}

async fn each_direction_ends_on_its_own(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send.finish().await.unwrap();
    assert_eq!(far.receive.receive::<u8>().await.unwrap(), None);

    far.send.send(&42u8).await.unwrap();
    far.send.finish().await.unwrap();
    drop(far);
    assert_eq!(near.receive.receive::<u8>().await.unwrap(), Some(42));
    assert_eq!(near.receive.receive::<u8>().await.unwrap(), None);
    assert!(matches!(near.send.send(&1u8).await, Err(SendError::Spent)));
}

async fn an_end_within_a_message_is_no_end(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send.write(Bytes::from_static(&[0, 0])).await.unwrap();
    near.send.finish().await.unwrap();
    let error = far.receive.receive::<u8>().await.unwrap_err();
    assert!(matches!(error, ReceiveError::Truncated), "{error}");
}

async fn a_reader_who_leaves_is_felt_at_once(pair: Pair) {
    let (near, mut far) = pair.stream().await;
    let stopped = far.send.stopped();
    drop(near.receive);
    timeout(AT_ONCE, stopped)
        .await
        .expect("the writer hears of it");
    let error = far.send.send(&1u8).await.unwrap_err();
    assert!(matches!(error, SendError::Left), "{error}");
}

async fn a_writer_who_leaves_is_felt_at_once(pair: Pair) {
    let (near, mut far) = pair.stream().await;
    let (listening, ()) = tokio::join!(timeout(AT_ONCE, far.receive.receive::<u8>()), async {
        drop(near.send)
    },);
    let error = listening.expect("the reader hears of it").unwrap_err();
    assert!(matches!(error, ReceiveError::Left), "{error}");
}

async fn a_cancelled_receive_loses_nothing(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    near.send
        .write(Bytes::from_static(&[0, 0, 0, 2, 1]))
        .await
        .unwrap();
    let early = far
        .receive
        .receive_within::<String>(Duration::from_millis(30))
        .await;
    assert!(matches!(early, Err(ReceiveError::Late { .. })));
    near.send.write(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(
        far.receive.receive::<String>().await.unwrap().as_deref(),
        Some("x")
    );
}

async fn a_cancelled_send_spends_the_stream(pair: Pair) {
    let (mut near, mut far) = pair.stream().await;
    let more_than_a_window = Bytes::from(vec![0; 4 * 1024 * 1024]);
    let unread = timeout(
        Duration::from_millis(100),
        near.send.send(&more_than_a_window),
    )
    .await;
    assert!(unread.is_err(), "nobody reads, so it waits");
    assert!(matches!(near.send.send(&1u8).await, Err(SendError::Spent)));
    assert!(matches!(near.send.finish().await, Err(SendError::Spent)));
    drop(near);
    let error = timeout(AT_ONCE, far.receive.receive::<Bytes>())
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, ReceiveError::Left), "{error}");
}

async fn a_stranger_who_says_nothing_is_late(pair: Pair) {
    let (near, mut far) = pair.stream().await;
    let within = Duration::from_millis(20);
    let error = far.receive.receive_within::<u8>(within).await.unwrap_err();
    assert_eq!(error.to_string(), "no message within 20ms");
    drop(near);
}

async fn two_hundred_streams_at_once(pair: Pair) {
    const STREAMS: u32 = 200;
    let to = pair.far.addr();
    let ask = async |n: u32| {
        let mut stream = pair.near.open(&to).await.unwrap();
        stream.send.send(&n).await.unwrap();
        let answer: u32 = stream.receive.receive().await.unwrap().unwrap();
        (stream, answer)
    };
    let answer_all = async {
        // All are open before the first is answered.
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(pair.far.accept().await.unwrap().stream);
        }
        for stream in &mut streams {
            let asked: u32 = stream.receive.receive().await.unwrap().unwrap();
            stream.send.send(&(asked * 2)).await.unwrap();
        }
        streams
    };
    let (answers, _streams) = tokio::join!(join_all((0..STREAMS).map(ask)), answer_all);
    let answers: Vec<u32> = answers.into_iter().map(|(_, answer)| answer).collect();
    assert_eq!(answers, (0..STREAMS).map(|n| n * 2).collect::<Vec<_>>());
}

async fn closing_ends_everything(pair: Pair) {
    let (mut near, _far) = pair.stream().await;
    let accepting = pair.far.accept();
    let (accepted, ()) = tokio::join!(accepting, pair.far.close());
    assert!(accepted.is_none());

    let error = timeout(AT_ONCE, near.receive.receive::<u8>())
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, ReceiveError::Lost { .. }), "{error}");
    timeout(AT_ONCE, near.send.stopped()).await.unwrap();
    assert!(matches!(
        near.send.send(&1u8).await,
        Err(SendError::Lost { .. })
    ));

    let error = pair.near.open(&pair.far.addr()).await.unwrap_err();
    assert!(!matches!(error, OpenError::Closed), "{error}");
    let error = pair.far.open(&pair.near.addr()).await.unwrap_err();
    assert!(matches!(error, OpenError::Closed), "{error}");
}

async fn nobody_opens_a_stream_to_oneself(pair: Pair) {
    let error = pair.near.open(&pair.near.addr()).await.unwrap_err();
    assert!(matches!(error, OpenError::Oneself { .. }), "{error}");
}

#[tokio::test]
async fn what_stays_in_memory_crosses_no_socket() {
    let pair = Pair::memory().await;
    let _streams = pair.stream().await;
    assert_eq!(pair.near.counters(), Default::default());
    assert_eq!(pair.far.counters(), Default::default());
}

#[tokio::test]
async fn a_killed_member_takes_its_streams_along() {
    let network = MemoryNetwork::new();
    let ids = [1, 2].map(|seed| NodeKey::from_bytes(&[seed; 32]).id());
    let pair = Pair {
        near: Node::memory(&network, ids[0]),
        far: Node::memory(&network, ids[1]),
    };
    let (mut near, _far) = pair.stream().await;
    assert!(network.kill(ids[1]));
    assert!(!network.kill(ids[1]));
    assert!(matches!(
        near.receive.receive::<u8>().await,
        Err(ReceiveError::Lost { .. })
    ));
    let error = pair.near.open(&pair.far.addr()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(pair.far.accept().await.is_none());
}

/// The head of a frame that announces `size` bytes.
fn announcing(size: usize) -> Bytes {
    Bytes::copy_from_slice(&u32::try_from(size).unwrap().to_be_bytes())
}

async fn who_cannot_be_dialled_is_reached_on_the_connection_that_it_dialled(pair: Pair) {
    let Pair { near, far } = pair;
    let mut held = near.open_and_let_in(&far.addr()).await.unwrap();
    held.send.send(&"here I am").await.unwrap();
    let Incoming { peer, back, .. } = far.accept().await.unwrap();
    assert_eq!(peer, near.id());
    back.widen();
    for n in 0..3_u8 {
        let mut there = back.open().await.unwrap();
        there.send.send(&n).await.unwrap();
        let Incoming {
            peer,
            stream: mut here,
            ..
        } = near.accept().await.unwrap();
        assert_eq!(peer, far.id());
        assert_eq!(here.receive.receive().await.unwrap(), Some(n));
        here.send.send(&(n + 10)).await.unwrap();
        assert_eq!(there.receive.receive().await.unwrap(), Some(n + 10));
    }
    near.close().await;
    assert!(back.open().await.is_err());
}
