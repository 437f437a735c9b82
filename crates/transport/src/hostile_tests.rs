//! A relay that does not carry what it was given. Whatever it does, nobody
//! hears anything but the beginning of what was said, or takes it for whole.

use std::time::Duration;

use bytes::BytesMut;
use seal::Pacing;

use crate::sealed_tests::Three;
use crate::{ReceiveHalf, SendHalf, Stream};

/// Bytes of a sealed cell on the wire, and of its length in front.
const CELL: usize = 2 + 256 + 16;

/// A peer that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(3);

/// What is said each way.
const SAID: usize = 12;

/// What is done to the cells of one direction.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Flip {
        at: usize,
    },
    Drop {
        cell: usize,
    },
    Swap {
        cell: usize,
    },
    Double {
        cell: usize,
    },
    /// The rest of another stream behind so much of this one.
    Splice {
        cell: usize,
    },
    /// A clean end where there is none.
    End {
        cell: usize,
    },
    /// Nothing more, for ever.
    Stall {
        cell: usize,
    },
    /// As [`Deed::Stall`], within a cell.
    Hold {
        bytes: usize,
    },
}

impl Deed {
    /// What goes on instead of `bytes`, whose cells begin at `front`, and whether it ends.
    fn done(self, bytes: &[u8], other: &[u8], front: usize) -> (Vec<u8>, bool) {
        let at = |cell: usize| front + cell * CELL;
        let (before, cell, behind) = match self {
            Self::Drop { cell } | Self::Swap { cell } | Self::Double { cell } => (
                &bytes[..at(cell)],
                &bytes[at(cell)..at(cell + 1)],
                &bytes[at(cell + 1)..],
            ),
            _ => (bytes, &[][..], &[][..]),
        };
        match self {
            Self::Nothing => (bytes.to_vec(), true),
            Self::Flip { at } => {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1;
                (flipped, true)
            }
            Self::Drop { .. } => ([before, behind].concat(), true),
            Self::Double { .. } => ([before, cell, cell, behind].concat(), true),
            Self::Swap { .. } => {
                let (next, rest) = behind.split_at(CELL);
                ([before, next, cell, rest].concat(), true)
            }
            Self::Splice { cell } => ([&bytes[..at(cell)], &other[at(cell)..]].concat(), true),
            Self::End { cell } => (bytes[..at(cell)].to_vec(), true),
            Self::Stall { cell } => (bytes[..at(cell)].to_vec(), false),
            Self::Hold { bytes: held } => (bytes[..held].to_vec(), false),
        }
    }
}

fn words(stream: usize) -> Vec<String> {
    (0..SAID)
        .map(|n| format!("{stream} {n} {}", "x".repeat(200)))
        .collect()
}

/// Everything that one direction carries.
async fn all_of(mut from: ReceiveHalf) -> Vec<u8> {
    let mut bytes: BytesMut = from.take_buffered();
    while from.read_raw(&mut bytes).await.unwrap() {}
    bytes.to_vec()
}

async fn pass_on(bytes: Vec<u8>, ends: bool, mut to: SendHalf) {
    // Who noticed reads no more.
    let _ = to.write(bytes.into()).await;
    if ends {
        let _ = to.finish_raw().await;
    } else {
        tokio::time::sleep(10 * SILENCE).await;
    }
}

async fn say(words: &[String], mut send: SendHalf) {
    for word in words {
        send.send(word).await.unwrap();
    }
    send.finish().await.unwrap();
}

/// What is heard, and whether it ended well.
async fn hear(mut receive: ReceiveHalf) -> (Vec<String>, bool) {
    let mut heard = Vec::new();
    loop {
        match receive.receive_alive::<String>(SILENCE).await {
            Ok(Some(word)) => heard.push(word),
            Ok(None) => return (heard, true),
            Err(_) => return (heard, false),
        }
    }
}

/// An answer of a stream, as it comes to the relay, and the near end that waits for it.
async fn answered(three: &Three, stream: usize) -> (Vec<u8>, SendHalf, ReceiveHalf) {
    let Stream { mut send, receive } = three.through_at(Pacing::Fast).await;
    send.send(&"question").await.unwrap();
    send.finish().await.unwrap();
    let (near, far) = three.introduced().await;
    let up = async {
        let bytes = all_of(near.receive).await;
        pass_on(bytes, true, far.send).await;
    };
    let answer = async {
        let (end, _) = three.asked().await;
        say(&words(stream), end.send).await;
    };
    let ((), (), down) = tokio::join!(up, answer, all_of(far.receive));
    (down, near.send, receive)
}

#[tokio::test(start_paused = true)]
async fn whatever_a_relay_does_to_an_answer_only_its_beginning_is_heard() {
    let three = Three::new();
    let (other, ..) = answered(&three, 1).await;
    let deeds = (0..SAID - 2).flat_map(|cell| {
        [
            Deed::Drop { cell },
            Deed::Swap { cell },
            Deed::Double { cell },
            Deed::Splice { cell },
            Deed::End { cell },
            Deed::Stall { cell },
            Deed::Hold {
                bytes: cell * CELL + 100,
            },
            Deed::Flip {
                at: cell * CELL + 150,
            },
        ]
    });
    for deed in [Deed::Nothing].into_iter().chain(deeds) {
        let (bytes, near, receive) = answered(&three, 0).await;
        // The end is a chunk without a cell.
        let front = (bytes.len() - (CELL - 256 + 1)) % CELL;
        let (bytes, ends) = deed.done(&bytes, &other, front);
        let ((heard, is_whole), ()) = tokio::join!(hear(receive), pass_on(bytes, ends, near));
        assert!(words(0).starts_with(&heard), "{deed:?}: {heard:?}");
        match deed {
            Deed::Nothing => assert_eq!((heard.len(), is_whole), (SAID, true)),
            _ => assert!(
                !is_whole && heard.len() < SAID,
                "{deed:?}: {} heard",
                heard.len()
            ),
        }
    }
}
