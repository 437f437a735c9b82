//! Connections that others dial, and the streams on them.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::ServerConfig;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    ACCEPTED_CONNECTIONS, ALPN, CODE_DONE, CODE_UNUSED, CROWDED_STREAMS, CROWDED_WINDOW, Credit,
    DIAL_WITHIN, KEEP_UNUSED_ACCEPTED, Link, STREAMS_PER_CONNECTION, transport_config,
};
use crate::queue::Queue;
use crate::{Back, Incoming, Patience, WayBack};

/// Fewer free places than this are a crowd.
const CROWDED: usize = ACCEPTED_CONNECTIONS / 4;

/// Handshakes a second with peers that have not proved to receive at their
/// address. Beyond that they are asked for the proof first, and nothing is kept
/// of them until then: it costs them a round trip, and one who only begins
/// handshakes costs us little. Each leaves some 25 kB behind for a while.
const UNPROVEN_PER_SECOND: f64 = 32.0;

/// As many may come at once after a quiet time.
const UNPROVEN_AT_ONCE: f64 = 64.0;

/// Connections that get a wide window and all streams from the beginning. Those
/// beyond them get a narrow one and fewer: what all of them may have on the way
/// stays under a gigabyte.
pub(super) const WIDE: usize = 64;

/// How long a connection without streams keeps its place in a crowd.
const KEEP_UNUSED_CROWDED: Duration = Duration::from_secs(10);

/// Accepts until told to stop; each connection gets a task.
pub(super) async fn run(
    endpoint: iroh::Endpoint,
    incoming: Arc<Queue<Incoming>>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(ACCEPTED_CONNECTIONS));
    let mut unproven = Allowance::new(Instant::now());
    let narrow = Arc::new(narrow(&endpoint));
    loop {
        let dialled = tokio::select! {
            () = stop.cancelled() => return,
            dialled = endpoint.accept() => dialled,
        };
        let Some(dialled) = dialled else { return };
        if !dialled.remote_addr_validated() && !unproven.take(Instant::now()) {
            if let Err(error) = dialled.retry() {
                tracing::debug!(%error, "no proof could be asked for");
            }
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(
                limit = ACCEPTED_CONNECTIONS,
                "connection refused: all places are taken"
            );
            dialled.refuse();
            continue;
        };
        let taken = ACCEPTED_CONNECTIONS - places.available_permits();
        let (config, streams) = match taken > WIDE {
            true => (Some(Arc::clone(&narrow)), CROWDED_STREAMS),
            false => (None, STREAMS_PER_CONNECTION),
        };
        let incoming = Arc::clone(&incoming);
        let places = Arc::clone(&places);
        let stop = stop.clone();
        tasks.spawn(async move {
            let _place = place;
            let link = tokio::select! {
                () = stop.cancelled() => return,
                link = greet(dialled, config) => link,
            };
            if let Some(link) = link {
                serve(link, streams, &incoming, &places, &stop).await;
            }
        });
    }
}

/// Handshakes that may begin without a proof.
struct Allowance {
    left: f64,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            left: UNPROVEN_AT_ONCE,
            since: now,
        }
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let earned = (now - self.since).as_secs_f64() * UNPROVEN_PER_SECOND;
        self.since = now;
        self.left = (self.left + earned).min(UNPROVEN_AT_ONCE);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// What connections in a crowd are told.
fn narrow(endpoint: &iroh::Endpoint) -> ServerConfig {
    endpoint
        .create_server_config_builder(vec![ALPN.to_vec()])
        .set_transport_config(transport_config(CROWDED_STREAMS, CROWDED_WINDOW))
        .build()
}

/// The handshake, within its time.
async fn greet(
    dialled: iroh::endpoint::Incoming,
    config: Option<Arc<ServerConfig>>,
) -> Option<Link> {
    let accepting = match config {
        Some(config) => dialled.accept_with(config),
        None => dialled.accept(),
    };
    let accepting = accepting.ok()?;
    match tokio::time::timeout(DIAL_WITHIN, accepting).await {
        Ok(Ok(connection)) => Some(Link::new(connection)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            None
        }
    }
}

async fn serve(
    link: Link,
    streams: u32,
    incoming: &Queue<Incoming>,
    places: &Semaphore,
    stop: &CancellationToken,
) {
    let code = tokio::select! {
        () = stop.cancelled() => CODE_DONE,
        () = link.unused_for(KEEP_UNUSED_ACCEPTED) => CODE_UNUSED,
        () = crowded_out(&link, places, KEEP_UNUSED_CROWDED) => CODE_UNUSED,
        () = pass_on(&link, streams, incoming) => CODE_DONE,
    };
    link.connection.close(code, b"");
}

/// Resolves when no stream was seen for `keep` and few places are free.
pub(super) async fn crowded_out(link: &Link, places: &Semaphore, keep: Duration) {
    loop {
        link.unused_for(keep).await;
        if places.available_permits() < CROWDED {
            return;
        }
    }
}

/// Moves streams to the queue until the connection or the queue ends. A full
/// queue is felt by the peer, who has a limited number of streams.
pub(super) async fn pass_on(link: &Link, streams: u32, incoming: &Queue<Incoming>) {
    let peer = link.peer();
    let credit = Credit::new(link, streams);
    loop {
        credit.ready().await;
        let Ok((send, receive)) = link.connection.accept_bi().await else {
            return;
        };
        let opened = Incoming {
            peer,
            stream: link.stream(send, receive),
            back: WayBack(Back::Quic(link.clone())),
            patience: Patience::quic(credit.clone()),
        };
        if incoming.push(opened).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_handshakes_is_soon_asked_for_proofs() {
        let start = Instant::now();
        let mut unproven = Allowance::new(start);
        let taken = |unproven: &mut Allowance, at: Duration| {
            (0..1000).filter(|_| unproven.take(start + at)).count()
        };
        assert_eq!(taken(&mut unproven, Duration::ZERO), 64);
        assert_eq!(taken(&mut unproven, Duration::from_secs(1)), 32);
        assert_eq!(taken(&mut unproven, Duration::from_secs(60)), 64);
    }
}
