//! One stream: what it is for, and the answer to that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use market::NodeId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use transport::message::{Description, FromRelay, Hello, MAX_DESCRIBED, MAX_LOADS, RelayRefusal};
use transport::{Carried, CarryLimits, Incoming, SendError, SendHalf, Stream, carry};

use crate::shell::Inner;
use crate::{gossip, waiting};

/// Time to say what a stream is for.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// Time for a refusal, or for a part of the descriptions, to be read.
const SAY_WITHIN: Duration = Duration::from_secs(10);

/// Descriptions go out in parts of about this size.
const PART_BYTES: usize = 1024 * 1024;

/// Streams at a time that one peer has, by its key.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<NodeId, usize>>);

/// One of a peer's streams; given back when dropped.
pub(crate) struct Place {
    peers: Arc<Peers>,
    peer: NodeId,
}

impl Peers {
    /// Those that have streams now.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn place(self: &Arc<Self>, peer: NodeId, limit: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        let peers = Arc::clone(self);
        Some(Place { peers, peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Serves one stream.
pub(crate) async fn serve(inner: &Inner, incoming: Incoming, turn: OwnedSemaphorePermit) {
    let Incoming {
        peer,
        mut stream,
        back,
        patience: _,
    } = incoming;
    let hello = stream.receive.receive_within::<Hello>(HELLO_WITHIN).await;
    match hello {
        Ok(Some(Hello::Relay { to })) => relay(inner, peer, to, stream).await,
        Ok(Some(Hello::Describe { known })) => describe(inner, known, stream.send).await,
        Ok(Some(Hello::Load { digest })) => gossip::told(inner, peer, digest).await,
        Ok(Some(Hello::Loads)) => loads(inner, stream.send).await,
        Ok(Some(Hello::Gossip)) => gossip::listen(inner, peer, stream.receive).await,
        Ok(Some(Hello::Wait)) => waiting::host(inner, peer, stream, back, turn).await,
        // Nothing is sealed to a relay.
        Ok(Some(Hello::Sealed { .. }) | None) | Err(_) => inner.counters.malformed(),
    }
}

/// Refuses a stream before it says what it is for, at once or not at all: who
/// does not take a word now is told by the stream's end. The peer's next one
/// has to wait.
pub(crate) fn turn_away(inner: &Inner, incoming: Incoming, wait: Duration) {
    incoming.patience.lose(wait);
    // Kept until then: who is told to stop sending might not read why.
    let Stream {
        mut send,
        receive: _unread,
    } = incoming.stream;
    inner.counters.refused(RelayRefusal::Busy);
    let refused = FromRelay::Refused(RelayRefusal::Busy);
    let _ = last(&mut send, &refused).now_or_never();
}

async fn relay(inner: &Inner, peer: NodeId, to: NodeId, mut near: Stream) {
    let limits = &inner.config;
    let Some(_place) = inner.peers.place(peer, limits.streams_per_peer) else {
        return refuse(inner, near.send, RelayRefusal::Busy).await;
    };
    let (far, _place_there) = match way(inner, to).await {
        Ok(way) => way,
        Err(refusal) => return refuse(inner, near.send, refusal).await,
    };
    if near.send.send(&FromRelay::Carrying).await.is_err() {
        return;
    }
    let mut running = Running {
        inner,
        carried: Carried::default(),
    };
    inner.counters.began();
    let limits = CarryLimits {
        bytes: limits.bytes_per_stream,
        idle: limits.idle,
    };
    running.carried = carry(near, far, limits).await;
}

/// A stream to a registered node: on the connection of one that waits here, with
/// its place there; else dialled.
async fn way(inner: &Inner, to: NodeId) -> Result<(Stream, Option<Place>), RelayRefusal> {
    if let Some(opened) = inner.waiting.open(to).await {
        return opened.map(|(stream, place)| (stream, Some(place)));
    }
    let addr = {
        let directory = inner.directory.borrow();
        let refusal = match directory.waits(to) {
            true => RelayRefusal::Unreachable,
            false => RelayRefusal::Unknown,
        };
        directory.find(to).cloned().ok_or(refusal)?
    };
    let dialled = inner.node.open(&addr).await;
    let stream = dialled.map_err(|_| RelayRefusal::Unreachable)?;
    Ok((stream, None))
}

/// Counts a stream as running until it is dropped, however it ends.
struct Running<'a> {
    inner: &'a Inner,
    carried: Carried,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.inner.counters.ended(self.carried);
    }
}

/// Says why not.
pub(crate) async fn refuse(inner: &Inner, mut send: SendHalf, refusal: RelayRefusal) {
    inner.counters.refused(refusal);
    let refused = FromRelay::Refused(refusal);
    let _ = timeout(SAY_WITHIN, last(&mut send, &refused)).await;
}

async fn last(send: &mut SendHalf, message: &FromRelay) -> Result<(), SendError> {
    send.send(message).await?;
    send.finish().await
}

async fn describe(inner: &Inner, known: Option<market::B256>, mut send: SendHalf) {
    inner.counters.described();
    let (digest, parts) = {
        let directory = inner.directory.borrow();
        let digest = directory.digest();
        match known == Some(digest) {
            true => (digest, None),
            false => (digest, Some(directory.parts(MAX_DESCRIBED, PART_BYTES))),
        }
    };
    let Some(parts) = parts else {
        let _ = timeout(SAY_WITHIN, last(&mut send, &FromRelay::Unchanged)).await;
        return;
    };
    for part in parts {
        let said = timeout(SAY_WITHIN, tell(&mut send, part)).await;
        if !matches!(said, Ok(Ok(()))) {
            return;
        }
    }
    let complete = FromRelay::Complete { digest };
    let _ = timeout(SAY_WITHIN, last(&mut send, &complete)).await;
}

async fn loads(inner: &Inner, mut send: SendHalf) {
    inner.counters.loads_told();
    let told = inner.gossip.told(inner.now());
    for part in told.chunks(MAX_LOADS) {
        let part = FromRelay::Loads(part.to_vec());
        if !matches!(timeout(SAY_WITHIN, send.send(&part)).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(SAY_WITHIN, send.finish()).await;
}

async fn tell(send: &mut SendHalf, part: Vec<Description>) -> Result<(), SendError> {
    send.send(&FromRelay::Described(part)).await
}
