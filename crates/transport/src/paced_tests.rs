//! What somebody on the path sees of a paced stream: the relay here writes
//! down when how many bytes come by.

use std::time::Duration;

use bytes::BytesMut;
use seal::Pacing;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::sealed_tests::Three;
use crate::{ANSWER_CELLS, ReceiveError, ReceiveHalf, SendHalf, Stream, TICK};

/// Bytes of a sealed cell on the wire.
const CELL: usize = 2 + 256 + 16;

/// A piece of an answer: when it is said, and how many bytes it has.
type Said = (u64, usize);

/// When bytes came by, and how many.
type Trace = Vec<(Duration, usize)>;

/// Carries one way, and writes down what comes by.
async fn watched(mut from: ReceiveHalf, mut to: SendHalf, since: Instant) -> Trace {
    let mut trace = Trace::new();
    let mut bytes = from.take_buffered();
    loop {
        if !bytes.is_empty() {
            let (at, size) = (since.elapsed(), bytes.len());
            match trace.last_mut() {
                Some((last, sum)) if *last == at => *sum += size,
                _ => trace.push((at, size)),
            }
            let piece: BytesMut = bytes.split();
            to.write(piece.freeze()).await.unwrap();
        }
        if !matches!(from.read_raw(&mut bytes).await, Ok(true)) {
            to.finish_raw().await.unwrap();
            return trace;
        }
    }
}

/// What comes by, up and down, while an answer of these pieces is given and
/// vouchers are sent at these times.
async fn traces(answer: &[Said], vouchers: &[u64]) -> [Trace; 2] {
    let three = Three::new();
    let since = Instant::now();
    let Stream {
        mut send,
        mut receive,
    } = three.through_at(Pacing::Paced).await;
    let watching = async {
        let (near, far) = three.introduced().await;
        let mut ways = JoinSet::new();
        ways.spawn(async move { (0, watched(near.receive, far.send, since).await) });
        ways.spawn(async move { (1, watched(far.receive, near.send, since).await) });
        let mut traces = ways.join_all().await;
        traces.sort_unstable_by_key(|(way, _)| *way);
        traces
            .into_iter()
            .map(|(_, trace)| trace)
            .collect::<Vec<_>>()
    };
    let asking = async {
        send.send(&"question").await.unwrap();
        let paying = async {
            for at in vouchers {
                tokio::time::sleep_until(since + Duration::from_millis(*at)).await;
                send.send(&"voucher").await.unwrap();
            }
        };
        let hearing = async {
            let mut heard = 0;
            while let Some(said) = receive.receive::<String>().await.unwrap() {
                heard += said.len();
            }
            heard
        };
        let ((), heard) = tokio::join!(paying, hearing);
        send.finish().await.unwrap();
        heard
    };
    let answering = async {
        let (mut far, _) = three.asked().await;
        for (at, bytes) in answer {
            tokio::time::sleep_until(since + Duration::from_millis(*at)).await;
            far.send.send(&"x".repeat(*bytes)).await.unwrap();
        }
        far.send.finish().await.unwrap();
        let mut vouchers = 0;
        while far.receive.receive::<String>().await.unwrap().is_some() {
            vouchers += 1;
        }
        vouchers
    };
    let (traces, heard, paid) = tokio::join!(watching, asking, answering);
    assert_eq!(heard, answer.iter().map(|(_, bytes)| bytes).sum::<usize>());
    assert_eq!(paid, vouchers.len());
    traces.try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn on_the_beat_one_answer_looks_like_another() {
    let one_word = traces(&[(530, 3)], &[]).await;
    let [_, down] = &one_word;
    let every_tick = |(at, _): &(Duration, usize)| at.as_millis() % TICK.as_millis() == 0;
    assert!(down.iter().all(every_tick), "{down:?}");
    let middle = &down[1..down.len() - 1];
    assert!(
        middle.iter().all(|(_, size)| *size == ANSWER_CELLS * CELL),
        "{down:?}"
    );

    let many: Vec<Said> = (0..30).map(|n| (n * 15, 40)).collect();
    assert_eq!(traces(&many, &[20, 130, 420]).await, one_word);
    // What is more than a tick's worth waits for the next ones.
    assert_eq!(
        traces(&[(10, 5 * ANSWER_CELLS * 253)], &[290]).await,
        one_word
    );
}

#[tokio::test(start_paused = true)]
async fn a_longer_answer_only_shows_as_a_longer_class() {
    let cells = |[_, down]: &[Trace; 2]| down.iter().map(|(_, size)| size / CELL).sum::<usize>();
    let mut seen: Vec<usize> = Vec::new();
    for ticks in 1..12 {
        seen.push(cells(&traces(&[(ticks * 100, 5)], &[]).await));
    }
    seen.dedup();
    assert_eq!(seen, [16, 32, 64, 128]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_paced_stream_is_felt_at_once() {
    let three = Three::new();
    let mut near = three.through_at(Pacing::Paced).await;
    let leaving = async {
        near.send.send(&"question").await.unwrap();
        let (mut far, _) = three.asked().await;
        sleep(5 * TICK).await;
        drop(near);
        let felt = timeout(TICK, far.receive.receive::<String>())
            .await
            .unwrap();
        assert!(matches!(felt, Err(ReceiveError::Left)), "{felt:?}");
        timeout(TICK, far.send.stopped()).await.unwrap();
        sleep(TICK).await;
        far.send.send(&"to nobody").await.unwrap_err();
    };
    tokio::join!(leaving, three.carries());
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_within_its_padding_is_not_whole() {
    let three = Three::new();
    let mut near = three.through_at(Pacing::Paced).await;
    let cutting = async {
        near.send.send(&"question").await.unwrap();
        let (mut far, _) = three.asked().await;
        far.send.send(&"all of it").await.unwrap();
        let heard = near.receive.receive::<String>().await.unwrap();
        assert_eq!(heard.as_deref(), Some("all of it"));
        drop(far);
        let end = near.receive.receive::<String>().await;
        assert!(matches!(end, Err(ReceiveError::Left)), "{end:?}");
    };
    tokio::join!(cutting, three.carries());
}
