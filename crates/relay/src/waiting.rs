//! Nodes that nobody can dial, behind a router without an open port: they wait
//! at this relay, and who asks for one is brought to it on the connection that
//! it dialled.
//!
//! Only registered nodes may wait, only so many, and each has only so many
//! streams brought at a time. Nothing comes in this way that the relay does not
//! count: whoever asks begins a stream like any other, within its own share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use market::{Address, NodeId, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use transport::describe::Described;
use transport::message::{Description, FromRelay, MAX_DESCRIPTION_BYTES, RelayRefusal};
use transport::{ReceiveHalf, STREAMS_BACK, Stream, WayBack};

use crate::directory::{Told, checked};
use crate::gossip::Allowance;
use crate::shell::Inner;
use crate::stream::{Peers, Place, refuse};

/// Time for the first description of who wants to wait.
const TEXT_WITHIN: Duration = Duration::from_secs(10);

/// The longest frame with a description: beside it an account and two lengths.
const FRAME_BYTES: usize = MAX_DESCRIPTION_BYTES + 64;

/// Descriptions a second that one may bring.
const TEXTS_PER_SECOND: u32 = 2;

/// Streams that are brought to one at a time.
const STREAMS: usize = STREAMS_BACK as usize;

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    guests: Mutex<HashMap<NodeId, Guest>>,
    streams: Arc<Peers>,
}

/// One that waits.
#[derive(Debug, Clone)]
struct Guest {
    told: Told,
    back: WayBack,
    /// Ends its waiting.
    cut: CancellationToken,
}

/// The place of one that waits; given back when dropped.
struct Seat<'a> {
    waiting: &'a Waiting,
    node: NodeId,
    cut: CancellationToken,
}

impl Waiting {
    /// A stream to one that waits, and its place among those; none: it does not wait here.
    pub(crate) async fn open(&self, to: NodeId) -> Option<Result<(Stream, Place), RelayRefusal>> {
        let back = self.guests().get(&to)?.back.clone();
        // Its own limit, and no word about how busy the relay is.
        let Some(place) = self.streams.place(to, STREAMS) else {
            return Some(Err(RelayRefusal::Unreachable));
        };
        let opened = back.open().await.map_err(|error| {
            debug!(%error, "one that waits takes no stream");
            RelayRefusal::Unreachable
        });
        Some(opened.map(|stream| (stream, place)))
    }

    /// What one that waits says of itself.
    pub(crate) fn told(&self, account: Address, now: Timestamp) -> Option<Told> {
        let guests = self.guests();
        let guest = guests
            .values()
            .find(|guest| guest.told.host().account == account)?;
        Some(guest.told.clone()).filter(|told| told.is_good(now))
    }

    /// Its words, as they are served.
    pub(crate) fn text(&self, account: Address, now: Timestamp) -> Option<Bytes> {
        self.told(account, now).map(|told| told.text().clone())
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.guests().len()
    }

    /// Takes one in, in the place of the connection on which it waited before;
    /// none: there are as many as may.
    fn enter(&self, told: Told, back: WayBack, limit: usize) -> Option<Seat<'_>> {
        let node = told.node();
        let mut guests = self.guests();
        if guests.len() >= limit && !guests.contains_key(&node) {
            return None;
        }
        let cut = CancellationToken::new();
        let guest = Guest {
            told,
            back,
            cut: cut.clone(),
        };
        if let Some(before) = guests.insert(node, guest) {
            before.cut.cancel();
        }
        Some(Seat {
            waiting: self,
            node,
            cut,
        })
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<NodeId, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// What it says of itself now.
    fn tells(&self, told: Told) {
        if let Some(guest) = self.waiting.guests().get_mut(&self.node)
            && !self.cut.is_cancelled()
        {
            guest.told = told;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut guests = self.waiting.guests();
        // Another connection of it may have taken the place: that one stays.
        if !self.cut.is_cancelled() {
            self.cut.cancel();
            guests.remove(&self.node);
        }
    }
}

/// Lets a node wait until it leaves, says what is not believed, or is not
/// registered any more. `turn`: one of the streams that are served at a time; it is
/// given back, as those who wait have places of their own.
pub(crate) async fn host(
    inner: &Inner,
    peer: NodeId,
    stream: Stream,
    back: WayBack,
    turn: OwnedSemaphorePermit,
) {
    let Stream {
        mut send,
        mut receive,
    } = stream;
    receive.limit(FRAME_BYTES);
    let first = receive.receive_within::<Description>(TEXT_WITHIN).await;
    let Ok(Some(first)) = first else {
        return inner.counters.malformed();
    };
    let Some(told) = believed(inner, peer, first) else {
        return refuse(inner, send, RelayRefusal::Unknown).await;
    };
    let limit = inner.config.waiting;
    let Some(seat) = inner.waiting.enter(told.clone(), back.clone(), limit) else {
        return refuse(inner, send, RelayRefusal::Busy).await;
    };
    back.widen();
    if send.send(&FromRelay::Waiting).await.is_err() {
        return;
    }
    drop(turn);
    stay(inner, &seat, told, receive).await;
}

async fn stay(inner: &Inner, seat: &Seat<'_>, mut told: Told, mut receive: ReceiveHalf) {
    let mut directory = inner.directory.subscribe();
    let mut texts = Allowance::new(TEXTS_PER_SECOND, Instant::now());
    loop {
        tokio::select! {
            () = seat.cut.cancelled() => return,
            Ok(()) = directory.changed() => {
                if directory.borrow_and_update().admits(&told).is_err() {
                    return;
                }
            }
            said = receive.receive::<Description>() => {
                let Ok(Some(said)) = said else { return };
                let account = told.host().account;
                let is_own = said.account == account && texts.take(1, Instant::now());
                let said = is_own.then(|| believed(inner, seat.node, said)).flatten();
                let Some(said) = said else {
                    return inner.counters.malformed();
                };
                told = said.clone();
                seat.tells(said);
            }
        }
    }
}

/// What a registered node, or a host, says of itself, on a connection of its own.
fn believed(inner: &Inner, peer: NodeId, said: Description) -> Option<Told> {
    let Description { account, text } = said;
    let provider = Described::parse(&text).ok()?.host_of().unwrap_or(account);
    if !inner.directory.borrow().is_registered(provider) {
        return None;
    }
    let told = match checked(text, provider, &inner.domain(), inner.now()) {
        Ok(told) => told,
        Err(error) => {
            debug!(%account, %error, "one that wants to wait is not believed");
            return None;
        }
    };
    if let Err(error) = inner.directory.borrow().admits(&told) {
        debug!(%account, %error, "one that wants to wait does not count");
        return None;
    }
    let is_own = told.node() == peer && told.host().account == account;
    is_own.then_some(told)
}
