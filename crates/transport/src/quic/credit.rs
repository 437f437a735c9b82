//! How many streams the peer of an accepted connection may have open, and when
//! its next one is taken. Whoever reads the streams says when it has had enough
//! of a peer; QUIC's own credit (MAX_STREAMS, RFC 9000 section 4.6) then keeps
//! the peer from sending more, so that a flood ends where it begins.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::Connection;
use tokio::time::Instant;

use super::{Link, STREAMS_PER_CONNECTION};

/// Of one connection. Clones are the same credit.
#[derive(Debug, Clone)]
pub(crate) struct Credit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: Connection,
    /// Halves of streams that live.
    halves: Arc<AtomicUsize>,
    /// Streams that the peer may have open.
    streams: AtomicU32,
    /// Nothing is taken before.
    not_before: Mutex<Instant>,
}

impl Credit {
    pub(super) fn new(link: &Link, streams: u32) -> Self {
        Self(Arc::new(Shared {
            connection: link.connection.clone(),
            halves: Arc::clone(&link.streams),
            streams: AtomicU32::new(streams),
            not_before: Mutex::new(Instant::now()),
        }))
    }

    /// One stream more, up to what any peer may have.
    pub(crate) fn raise(&self) {
        let before = self.0.streams.load(Ordering::Relaxed);
        if before < STREAMS_PER_CONNECTION {
            self.set(before + 1);
        }
    }

    /// No stream beyond those that are open, and none is taken for so long.
    pub(crate) fn hold(&self, long: Duration) {
        let halves = self.0.halves.load(Ordering::Relaxed);
        let open = u32::try_from(halves.div_ceil(2)).unwrap_or(u32::MAX);
        self.set(open.clamp(1, STREAMS_PER_CONNECTION));
        *self.not_before() = Instant::now() + long;
    }

    /// Waits while it is held.
    pub(super) async fn ready(&self) {
        loop {
            let until = *self.not_before();
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn set(&self, streams: u32) {
        if self.0.streams.swap(streams, Ordering::Relaxed) != streams {
            self.0
                .connection
                .set_max_concurrent_bi_streams(streams.into());
        }
    }

    fn not_before(&self) -> MutexGuard<'_, Instant> {
        self.0
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
