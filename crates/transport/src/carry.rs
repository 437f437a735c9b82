//! A relay's whole work: bytes of one stream go out on another, both ways,
//! as they are.
//!
//! Nothing is parsed and little is held: one read at a time each way. An end
//! is passed on as an end, a break as a break, at once: who leaves is felt on
//! the other side as if there were no relay between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::stream::{ReceiveHalf, SendHalf, Stream};

/// Between two looks at whether anything still moves.
const LOOKS: u32 = 4;

/// How far a stream may go.
#[derive(Debug, Clone, Copy)]
pub struct CarryLimits {
    /// Bytes each way.
    pub bytes: u64,
    /// Time in which nothing moves either way.
    pub idle: Duration,
}

/// How much was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// From who asked.
    pub up_bytes: u64,
    /// To who asked.
    pub down_bytes: u64,
}

/// Carries until both ways have ended or a limit is reached.
pub async fn carry(near: Stream, far: Stream, limits: CarryLimits) -> Carried {
    let (up, down) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let both = async {
        tokio::join!(
            one_way(near.receive, far.send, &up, limits.bytes),
            one_way(far.receive, near.send, &down, limits.bytes),
        );
    };
    tokio::select! {
        () = both => {}
        () = idle(&up, &down, limits.idle) => {}
    }
    Carried {
        up_bytes: up.load(Ordering::Relaxed),
        down_bytes: down.load(Ordering::Relaxed),
    }
}

/// Dropping the halves at its end tells both neighbours.
async fn one_way(mut from: ReceiveHalf, mut to: SendHalf, moved: &AtomicU64, limit: u64) {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    let mut bytes = from.take_buffered();
    loop {
        if !bytes.is_empty() && !forward(&mut to, &mut bytes, moved, limit).await {
            return;
        }
        tokio::select! {
            biased;
            read = from.read_raw(&mut bytes) => match read {
                Ok(true) => {}
                Ok(false) => {
                    let _ = to.finish_raw().await;
                    return;
                }
                Err(_) => return,
            },
            () = &mut stopped => return,
        }
    }
}

async fn forward(to: &mut SendHalf, bytes: &mut BytesMut, moved: &AtomicU64, limit: u64) -> bool {
    let piece: Bytes = bytes.split().freeze();
    let size = u64::try_from(piece.len()).unwrap_or(u64::MAX);
    let so_far = moved
        .fetch_add(size, Ordering::Relaxed)
        .saturating_add(size);
    so_far <= limit && to.write(piece).await.is_ok()
}

/// Resolves when nothing moved for `long`.
async fn idle(up: &AtomicU64, down: &AtomicU64, long: Duration) {
    let seen = || {
        up.load(Ordering::Relaxed)
            .wrapping_add(down.load(Ordering::Relaxed))
    };
    let (mut last, mut since) = (seen(), Instant::now());
    while since.elapsed() < long {
        tokio::time::sleep(long / LOOKS).await;
        if seen() != last {
            (last, since) = (seen(), Instant::now());
        }
    }
}
