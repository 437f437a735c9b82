//! What the provider tells of its load and its prices, when, and to whom.
//!
//! A few relays are told, each on a stream of its own that nothing comes back on;
//! they pass it on to each other ([`market::LoadDigest`]). It is told every five
//! seconds, and at once when an offer becomes full or free or has another price. Whoever stops or
//! rests, or whose backends are drained or down, says that it takes nothing.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use market::{Address, Domain, LOADS_MAX, Load, LoadDigest, Provider, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;
use transport::describe::{DescribeError, Described, fetch, http_client};
use transport::message::Hello;
use transport::{Node, NodeAddr, OpenError, SendError};

use crate::sale::Sale;
use crate::shell::Inner;

/// It is told so often, whatever happens.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// And no more often than this, however much happens.
const TELL_APART: Duration = Duration::from_secs(1);

/// Between two looks at what there is to tell.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Relays that are told.
const RELAYS: usize = 3;

/// Time for a relay to take it.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// A relay that did not take it so often in a row is no longer told.
const FAILURES_MAX: u32 = 3;

/// Registered nodes that are asked in one look whether they are relays.
const ASKED: usize = 16;

/// Between two looks for relays, while there are too few: twice as long each time.
const FIND_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Between two looks whether those that are told are still registered.
const CHECK_EVERY: Duration = Duration::from_secs(600);

/// When it was told what.
#[derive(Debug, Default)]
struct Teller {
    number: u64,
    told: Option<(Vec<Load>, Instant)>,
}

impl Teller {
    /// Whether it is time to tell this.
    fn is_due(&self, loads: &[Load], now: Instant) -> bool {
        let Some((told, at)) = &self.told else {
            return true;
        };
        let wait = match is_turned(told, loads) {
            true => TELL_APART,
            false => TELL_EVERY,
        };
        now.saturating_duration_since(*at) >= wait
    }

    /// What is told now.
    fn digest(
        &mut self,
        provider: Address,
        mut loads: Vec<Load>,
        wall: Timestamp,
        now: Instant,
    ) -> LoadDigest {
        self.number = LoadDigest::number_after(self.number, wall);
        self.told = Some((loads.clone(), now));
        // Where there are too many, those that had better not be asked.
        loads.sort_by_key(|load| std::cmp::Reverse(load.wait_ms.map_or(u64::MAX, u64::from)));
        loads.truncate(LOADS_MAX);
        LoadDigest {
            provider,
            number: self.number,
            issued_at: wall,
            loads,
        }
    }
}

/// Whether an offer became full or free, or has another price.
fn is_turned(before: &[Load], now: &[Load]) -> bool {
    let standing = |load: &Load| {
        let is_full = (load.free_slots == 0, load.wait_ms.is_none());
        (is_full, load.rates)
    };
    let standings = |loads: &[Load]| loads.iter().map(standing).collect::<Vec<_>>();
    standings(before) != standings(now)
}

fn loads(inner: &Inner) -> Vec<Load> {
    let closed = |load: Load| Load {
        free_slots: 0,
        wait_ms: None,
        ..load
    };
    let loads = inner.sales.values().filter_map(|sale| {
        let quote = inner.descriptor.quote(sale.model)?;
        Some(Sale::load(sale, quote))
    });
    match inner.is_closing() || inner.descriptor.is_resting() {
        true => loads.map(closed).collect(),
        false => loads.collect(),
    }
}

/// A relay that is told.
#[derive(Debug, Clone)]
struct Relay {
    account: Address,
    addr: NodeAddr,
    /// In a row.
    failures: u32,
}

/// The relays that are told.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    known: Mutex<Vec<Relay>>,
    /// One of them was given up.
    lost: Notify,
}

impl Relays {
    fn known(&self) -> MutexGuard<'_, Vec<Relay>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, node: &Node, digest: Bytes) {
        let relays = self.known().clone();
        let told = relays.iter().map(|relay| {
            let digest = digest.clone();
            async move {
                let told = timeout(TELL_WITHIN, tell(node, &relay.addr, digest)).await;
                let told = told.unwrap_or(Err(TellError::Late));
                if let Err(error) = &told {
                    debug!(relay = %relay.account, %error, "a relay does not take the load digest");
                }
                (relay.account, told.is_ok())
            }
        });
        let told = join_all(told).await;
        let mut known = self.known();
        for (account, is_told) in told {
            for relay in known.iter_mut().filter(|relay| relay.account == account) {
                relay.failures = if is_told { 0 } else { relay.failures + 1 };
            }
        }
        let before = known.len();
        known.retain(|relay| relay.failures < FAILURES_MAX);
        if known.len() < before {
            self.lost.notify_one();
        }
    }

    /// Forgets those that are not registered any more, and looks for others
    /// among some of the rest. Whether there are as many as are wanted.
    async fn look(&self, inner: &Inner, http: &reqwest::Client) -> bool {
        let registered = match inner.ledger.providers().await {
            Ok(registered) => registered,
            Err(error) => {
                debug!(%error, "no look for relays");
                return false;
            }
        };
        let missing = {
            let mut known = self.known();
            let is_there =
                |relay: &Relay| registered.iter().any(|one| one.address == relay.account);
            known.retain(is_there);
            RELAYS.saturating_sub(known.len())
        };
        if missing == 0 {
            return true;
        }
        let mut found = self.find(inner, http, registered).await;
        found.truncate(missing);
        let mut known = self.known();
        known.extend(found);
        known.len() >= RELAYS
    }

    async fn find(
        &self,
        inner: &Inner,
        http: &reqwest::Client,
        mut registered: Vec<Provider>,
    ) -> Vec<Relay> {
        let own = inner.terms.receiver;
        {
            let known = self.known();
            let is_known = |one: &Provider| known.iter().any(|it| it.account == one.address);
            registered.retain(|one| one.address != own && !is_known(one));
        }
        let chance = RandomState::new();
        registered.sort_by_cached_key(|one| chance.hash_one(one.address));
        let (domain, now) = (inner.ledger.domain(), (inner.clock)());
        let asked = registered.iter().take(ASKED).map(|one| async move {
            let addr = meet(http, one, &domain, now).await;
            if let Err(error) = &addr {
                debug!(account = %one.address, %error, "no relay to tell");
            }
            Some(Relay {
                account: one.address,
                addr: addr.ok().flatten()?,
                failures: 0,
            })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// Where a registered node is, if it says that it is a relay.
pub(crate) async fn meet(
    http: &reqwest::Client,
    one: &Provider,
    domain: &Domain,
    now: Timestamp,
) -> Result<Option<NodeAddr>, DescribeError> {
    let text = fetch(http, &one.endpoint).await?;
    let record = Described::parse(&text)?
        .open(one.address, domain, now)?
        .record;
    let addresses = record.addresses.iter();
    let addr = NodeAddr {
        id: record.node,
        addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
    };
    Ok(record.is_relay().then_some(addr))
}

/// Why a relay was not told.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("it took nothing within {TELL_WITHIN:?}")]
    Late,
}

async fn tell(node: &Node, relay: &NodeAddr, digest: Bytes) -> Result<(), TellError> {
    let mut stream = node.open(relay).await?;
    stream.send.send(&Hello::Load { digest }).await?;
    Ok(stream.send.finish().await?)
}

/// Sees that there are relays to tell.
pub(crate) async fn find_on(inner: Arc<Inner>, relays: Arc<Relays>) {
    let http = match http_client() {
        Ok(http) => http,
        Err(error) => {
            debug!(%error, "nobody is told of the load");
            return;
        }
    };
    let [first, last] = FIND_EVERY;
    let mut wait = first;
    loop {
        let rest = match relays.look(&inner, &http).await {
            true => {
                wait = first;
                CHECK_EVERY
            }
            false => {
                let now = wait;
                wait = (wait * 2).min(last);
                now
            }
        };
        // Where one is lost another is looked for soon, but not at every turn.
        let _ = timeout(rest, relays.lost.notified()).await;
        sleep(first).await;
    }
}

/// Tells the relays of the load.
pub(crate) async fn tell_on(inner: Arc<Inner>, relays: Arc<Relays>) {
    let mut teller = Teller::default();
    let domain = inner.ledger.domain();
    loop {
        let (loads, now) = (loads(&inner), Instant::now());
        let has_relays = !relays.known().is_empty();
        if has_relays && teller.is_due(&loads, now) {
            let wall = (inner.clock)();
            let digest = teller.digest(inner.account(), loads, wall, now);
            let signed = digest.sign(&domain, &inner.node_key);
            relays.tell(&inner.node, signed.into()).await;
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use market::{Amount, ModelTag, Rates, TokenTag};

    use super::*;

    const WALL: Timestamp = Timestamp(1_700_000_000);

    fn load(model: u8, free_slots: u16, wait_ms: Option<u32>) -> Load {
        Load {
            model: ModelTag([model; 4]),
            free_slots,
            wait_ms,
            token: TokenTag([0; 4]),
            rates: Rates {
                input_per_million: Amount::ZERO,
                output_per_million: Amount::ZERO,
            },
        }
    }

    #[test]
    fn it_is_told_every_five_seconds_and_a_turn_once_a_second() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let free = vec![load(1, 3, Some(0))];
        let freer = vec![load(1, 4, Some(0))];
        let full = vec![load(1, 0, Some(900))];
        let fuller = vec![load(1, 0, Some(1900))];
        let none = vec![load(1, 0, None)];
        let mut dearer = free.clone();
        dearer[0].rates.output_per_million = Amount::new(1);
        let mut teller = Teller::default();
        assert!(teller.is_due(&free, start));
        let told = teller.digest(Address::ZERO, free.clone(), WALL, start);
        assert_eq!(told.loads, free);
        for same in [&free, &freer] {
            assert!(!teller.is_due(same, after(4999)));
            assert!(teller.is_due(same, after(5000)));
        }
        for turned in [&full, &none, &dearer] {
            assert!(!teller.is_due(turned, after(999)));
            assert!(teller.is_due(turned, after(1000)));
        }
        let next = teller.digest(Address::ZERO, full, WALL, after(1000));
        assert!(next.number > told.number);
        assert!(!teller.is_due(&fuller, after(5999)));
        assert!(teller.is_due(&none, after(2000)));
        assert!(teller.is_due(&free, after(2000)));
    }

    #[test]
    fn of_many_offers_those_are_told_that_had_better_not_be_asked() {
        let mut loads: Vec<_> = (0..40).map(|n| load(n, 1, Some(0))).collect();
        loads[30] = load(30, 0, None);
        loads[35] = load(35, 0, Some(500));
        let told = Teller::default().digest(Address::ZERO, loads, WALL, Instant::now());
        assert_eq!(told.loads.len(), LOADS_MAX);
        assert_eq!(told.loads[0].model, ModelTag([30; 4]));
        assert_eq!(told.loads[1].model, ModelTag([35; 4]));
    }
}
