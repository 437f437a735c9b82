//! A provider that nobody can dial, behind a router without an open port: it
//! dials relays, waits at each, and is reached on the connections that it dialled.
//!
//! It waits at all relays that were named, so that it is still reached when one
//! is gone. Each has a task: dial, say what there is to say of us, say it anew when
//! it changes, and when the connection ends begin again after a pause that grows.
//! The record names the relays that take us now, and no others.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use market::{Ledger, LedgerError, NodeId, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};
use transport::describe::{DescribeError, Endpoint, http_client};
use transport::message::{Description, FromRelay, Hello, RelayRefusal};
use transport::{Node, OpenError, ReceiveError, SendError, SendHalf, Stream};

use crate::load::meet;
use crate::shell::Inner;

/// The first pause before a relay is dialled again, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Who waited so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// A relay that does not know us is nothing to be said before so many tries: it
/// looks at the registry now and then only.
const NEW: u32 = 6;

/// Time for a relay to look at our description and to take us.
const TAKE_WITHIN: Duration = Duration::from_secs(15);

/// Between two descriptions that a relay is brought.
const TEXTS_APART: Duration = Duration::from_secs(1);

/// Time for a relay to take one.
const TELL_WITHIN: Duration = Duration::from_secs(10);

/// Registered nodes that are asked whether they are relays.
const ASKED: usize = 64;

/// How long it is waited before the next try.
#[derive(Debug, Default)]
struct Pauses {
    /// That ended soon, in a row.
    short: u32,
}

impl Pauses {
    /// After one that lasted so long. `chance`: from 0 to 1; those whom one relay
    /// lost at once do not come back at once.
    fn after(&mut self, lasted: Duration, chance: f64) -> Duration {
        if lasted >= STEADY {
            self.short = 0;
        }
        let [first, longest] = PAUSE;
        let pause = first.saturating_mul(1 << self.short.min(16)).min(longest);
        self.short = self.short.saturating_add(1);
        pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Why a relay does not have us waiting, or no longer.
#[derive(Debug, thiserror::Error)]
enum WaitError {
    #[error("the registry cannot be read")]
    Ledger(#[from] LedgerError),
    #[error("no relay is registered with this endpoint")]
    NotRegistered,
    #[error("what is registered there does not say that it is a relay")]
    NoRelay,
    #[error(transparent)]
    Describe(#[from] DescribeError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error("it takes no description within {TELL_WITHIN:?}")]
    Late,
    #[error("it does not take us: it {}", words(.0))]
    Refused(RelayRefusal),
    #[error("it spoke out of turn")]
    OutOfTurn,
    #[error("it ended our waiting")]
    Ended,
    #[error("the provider is ending")]
    Stopping,
}

fn words(refusal: &RelayRefusal) -> &'static str {
    match refusal {
        RelayRefusal::Unknown => "has not seen us in the registry yet, or does not believe us",
        RelayRefusal::Unreachable => "does not reach us",
        RelayRefusal::Busy => "has as many waiting as it takes",
    }
}

/// The first of these that no registered node has as its endpoint, if there is one.
pub(crate) async fn unregistered<'a>(
    ledger: &dyn Ledger,
    relays: &'a [String],
) -> Result<Option<&'a String>, LedgerError> {
    if relays.is_empty() {
        return Ok(None);
    }
    let registered = ledger.providers().await?;
    let is_known = |relay: &&String| registered.iter().any(|one| one.endpoint == **relay);
    Ok(relays.iter().find(|relay| !is_known(relay)))
}

/// The first of these that answers and does not say that it is a relay. Who is silent now may
/// answer later.
pub(crate) async fn no_relay<'a>(
    ledger: &dyn Ledger,
    relays: &'a [String],
    now: Timestamp,
) -> Result<Option<&'a String>, LedgerError> {
    let (registered, domain) = (ledger.providers().await?, ledger.domain());
    let Ok(http) = http_client() else {
        return Ok(None);
    };
    let (http, domain) = (&http, &domain);
    let asked = relays.iter().filter_map(|relay| {
        let one = registered.iter().find(|one| one.endpoint == *relay)?;
        Some(async move { (relay, meet(http, one, domain, now).await) })
    });
    let met = join_all(asked).await;
    let others = met.into_iter().filter(|(_, met)| matches!(met, Ok(None)));
    Ok(others.map(|(relay, _)| relay).next())
}

/// Why no relays were found.
#[derive(Debug, thiserror::Error)]
pub enum FindRelaysError {
    /// The registry cannot be read.
    #[error("the registry cannot be read")]
    Ledger(#[from] LedgerError),
    /// Nobody can be asked.
    #[error("no HTTP client")]
    Http(#[source] reqwest::Error),
    /// There is none.
    #[error(
        "none of the {asked} registered nodes that were asked is a relay that answers; name one with `--behind HOST:PORT`"
    )]
    None {
        /// How many.
        asked: usize,
    },
}

/// The endpoints of up to `count` relays at which the ledger's account may wait:
/// those that stand in the registry for it, as far as they answer, then others by chance.
pub async fn find_relays(
    ledger: &dyn Ledger,
    now: Timestamp,
    count: usize,
) -> Result<Vec<String>, FindRelaysError> {
    let http = http_client().map_err(FindRelaysError::Http)?;
    let mut registered = ledger.providers().await?;
    let own = ledger.account();
    let before = registered.iter().find(|one| one.address == own);
    let before = before.and_then(|one| one.endpoint.parse::<Endpoint>().ok());
    let before = before.filter(Endpoint::is_at_relays);
    registered.retain(|one| one.address != own);
    let chance = RandomState::new();
    registered.sort_by_cached_key(|one| {
        let was_there = before
            .as_ref()
            .is_some_and(|before| before.has(&one.endpoint));
        (!was_there, chance.hash_one(one.address))
    });
    registered.truncate(ASKED);
    let (http, domain) = (&http, &ledger.domain());
    let met = registered.iter().map(|one| async move {
        let met = meet(http, one, domain, now).await;
        met.ok().flatten().map(|_| one.endpoint.clone())
    });
    let mut relays: Vec<_> = join_all(met).await.into_iter().flatten().collect();
    relays.truncate(count);
    match relays.is_empty() {
        true => Err(FindRelaysError::None {
            asked: registered.len(),
        }),
        false => Ok(relays),
    }
}

/// Why nobody could wait at a relay.
#[derive(Debug, thiserror::Error)]
pub enum TryRelayError {
    /// The registry cannot be read.
    #[error("the registry cannot be read")]
    Ledger(#[from] LedgerError),
    /// Nobody can be asked.
    #[error("no HTTP client")]
    Http(#[source] reqwest::Error),
    /// Nobody has this endpoint.
    #[error("no relay is registered with this endpoint")]
    NotRegistered,
    /// Somebody else has.
    #[error("what is registered there does not say that it is a relay")]
    NoRelay,
    /// What it says of itself is not to be had.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// It takes no connection.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Tries what has to work before a provider can wait at a relay: it is
/// registered with this endpoint, says of itself that it is a relay, and takes
/// a connection of `node`. Nobody waits there afterwards.
pub async fn try_relay(
    ledger: &dyn Ledger,
    node: &Node,
    relay: &str,
    now: Timestamp,
) -> Result<(), TryRelayError> {
    let http = http_client().map_err(TryRelayError::Http)?;
    let registered = ledger.providers().await?;
    let registered = registered.iter().find(|one| one.endpoint == relay);
    let registered = registered.ok_or(TryRelayError::NotRegistered)?;
    let addr = meet(&http, registered, &ledger.domain(), now).await?;
    let addr = addr.ok_or(TryRelayError::NoRelay)?;
    node.open(&addr).await?;
    Ok(())
}

/// Waits at a relay, again and again. `relay`: its endpoint in the registry.
pub(crate) async fn wait_on(inner: Arc<Inner>, relay: String) {
    let http = match http_client() {
        Ok(http) => http,
        Err(error) => return warn!(%error, "no HTTP client: nobody is waited at"),
    };
    let mut pauses = Pauses::default();
    let (mut told, mut tries) = (false, 0_u32);
    loop {
        let began = Instant::now();
        let Err(error) = wait(&inner, &http, &relay).await;
        let was_reached = inner.descriptor.unreached(&relay);
        if was_reached {
            inner.sign();
        }
        tries = if was_reached {
            0
        } else {
            tries.saturating_add(1)
        };
        let is_new = matches!(error, WaitError::Refused(RelayRefusal::Unknown)) && tries < NEW;
        // Once is enough while it stays so.
        match was_reached || (!told && !is_new) {
            true => {
                told = true;
                warn!(relay, %error, "not reached through a relay; it is dialled again");
            }
            false => debug!(relay, %error, "not reached through a relay yet"),
        }
        let pause = pauses.after(began.elapsed(), rand::random());
        sleep(pause).await;
    }
}

async fn wait(inner: &Inner, http: &reqwest::Client, relay: &str) -> Result<Infallible, WaitError> {
    let registered = inner.ledger.providers().await?;
    let registered = registered.iter().find(|one| one.endpoint == relay);
    let registered = registered.ok_or(WaitError::NotRegistered)?;
    let (domain, now) = (inner.ledger.domain(), (inner.clock)());
    let addr = meet(http, registered, &domain, now).await?;
    let addr = addr.ok_or(WaitError::NoRelay)?;

    let Stream {
        mut send,
        mut receive,
    } = inner.node.open_and_let_in(&addr).await?;
    send.send(&Hello::Wait).await?;
    let mut served = inner.descriptor.served();
    tell(inner, &mut send, &mut served).await?;
    match timeout(TAKE_WITHIN, receive.receive::<FromRelay>()).await {
        Ok(Ok(Some(FromRelay::Waiting))) => {}
        Ok(heard) => return Err(ended(heard)),
        Err(_) => return Err(WaitError::Late),
    }
    is_reached(inner, relay, addr.id);
    let mut told_at = Instant::now();
    loop {
        tokio::select! {
            heard = receive.receive::<FromRelay>() => return Err(ended(heard)),
            changed = due(&mut served, told_at) => {
                changed.map_err(|_| WaitError::Stopping)?;
                tell(inner, &mut send, &mut served).await?;
                told_at = Instant::now();
            }
        }
    }
}

/// From now on the record names it.
fn is_reached(inner: &Inner, relay: &str, node: NodeId) {
    if inner.descriptor.reached(relay, node) {
        inner.sign();
    }
    info!(relay, "reached through a relay");
}

/// Resolves when there is something new to tell, and it may be told.
async fn due(
    served: &mut watch::Receiver<Bytes>,
    told_at: Instant,
) -> Result<(), watch::error::RecvError> {
    sleep_until(told_at + TEXTS_APART).await;
    served.changed().await
}

async fn tell(
    inner: &Inner,
    send: &mut SendHalf,
    served: &mut watch::Receiver<Bytes>,
) -> Result<(), WaitError> {
    let text = served.borrow_and_update().clone();
    let account = inner.account();
    let told = Description { account, text };
    let sent = timeout(TELL_WITHIN, send.send(&told)).await;
    Ok(sent.map_err(|_| WaitError::Late)??)
}

/// What a relay means that says something else than that we wait.
fn ended(heard: Result<Option<FromRelay>, ReceiveError>) -> WaitError {
    match heard {
        Ok(None) => WaitError::Ended,
        Ok(Some(FromRelay::Refused(refusal))) => WaitError::Refused(refusal),
        Ok(Some(_)) => WaitError::OutOfTurn,
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn after(pauses: &mut Pauses, lasted: Duration) -> u128 {
        pauses.after(lasted, 1.0).as_millis()
    }

    #[test]
    fn a_relay_that_is_gone_is_dialled_ever_more_seldom_and_soon_if_it_was_there_for_long() {
        let mut pauses = Pauses::default();
        let waited: Vec<_> = (0..8).map(|_| after(&mut pauses, SHORT)).collect();
        assert_eq!(
            waited,
            [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(after(&mut pauses, STEADY), 500);
        assert_eq!(after(&mut pauses, SHORT), 1000);
    }

    #[test]
    fn those_whom_one_relay_lost_do_not_all_come_back_at_once() {
        let pause = |chance| Pauses::default().after(STEADY, chance);
        assert_eq!(pause(0.0), PAUSE[0] / 2);
        assert_eq!(pause(0.5), PAUSE[0] * 3 / 4);
        assert_eq!(pause(1.0), PAUSE[0]);
    }
}
