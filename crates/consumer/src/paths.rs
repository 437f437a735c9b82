//! How this consumer reaches the market: through a guard, or directly; and
//! through one more relay where a provider waits at relays.
//!
//! Through a guard it dials relays only. They tell what registered nodes say
//! of themselves, and carry what is sealed to a provider. Each guard knows
//! this consumer by an endpoint key of its own, made for this run. What one
//! guard tells of a provider's epoch key counts only once a second guard tells
//! the same: a key made for one victim would have to fool both.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use market::{Address, B256, Domain, HostBook, Network, NodeId, Provider, Timestamp};
use seal::{Pacing, Token};
use store::Store;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};
use transport::describe::{Described, fetch};
use transport::{Counters, Endpoints, Node, NodeAddr, OpenError, ReceiveError, SendError, Stream};

use crate::catalog::Seller;
use crate::descriptions::{Descriptions, Known, teller};
use crate::detours::Detours;
use crate::error::Shortage;
use crate::guards::{GUARDS, PINNED_MAX, Pin, pick, standing};
use crate::payment::entry;
use crate::telling::{TellError, Told, ask, ask_loads, is_busy};

/// The journal of pinned guards.
const JOURNAL: &str = "consumer/guards";

/// Time for a relay to tell all it knows.
const DESCRIBE_WITHIN: Duration = Duration::from_secs(10);

/// Relays that are measured when guards are chosen.
const MEASURED_MAX: usize = 16;

/// Fetched or measured at a time.
const AT_ONCE: usize = 16;

/// Time for a guard to tell all load digests.
const LOADS_WITHIN: Duration = Duration::from_secs(5);

/// A guard that failed is not used for so long, if there is another.
const SHUN: Duration = Duration::from_secs(20);

/// A guard that is busy is not used for so long, if there is another.
const BUSY: Duration = Duration::from_secs(5);

/// Time for a guard that is suspected to say something.
const SUSPECT_WITHIN: Duration = Duration::from_secs(2);

/// Between two such questions.
const SUSPECT_EVERY: Duration = Duration::from_secs(1);

/// Tokens kept for one provider.
const TOKENS_KEPT: usize = 64;

/// A stream to a provider, and who carries it.
pub(crate) struct Way {
    pub(crate) stream: Stream,
    /// None: nobody, it goes there directly.
    pub(crate) carrier: Option<Carrier>,
}

/// Who carries a stream.
pub(crate) struct Carrier {
    guard: Option<Kept>,
    /// The provider's node, and the relay at which it waits, if it does.
    behind: Option<(NodeId, NodeId)>,
}

/// The guard of a stream, kept as long as that: what it carries is not cut
/// when another takes its place.
struct Kept {
    account: Address,
    _node: Node,
}

/// Why a provider was not reached. Nobody signed for any of this: it says
/// nothing about the provider.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// No relay can be used.
    #[error(
        "no relay can be reached; see that one is running (`lethe relay`), or let \
         requests go straight to providers (`--direct`)"
    )]
    NoGuard,
    /// The provider's key is not known for sure.
    #[error("the provider's epoch key is not confirmed: {problem}")]
    Key {
        /// What is missing.
        problem: String,
    },
    /// The next node does not answer.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No endpoint for it.
    #[error("no socket to dial from")]
    Bind(#[from] transport::BindError),
    /// Nothing went out.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] seal::SealError),
}

/// A relay in use.
#[derive(Clone)]
struct Guard {
    account: Address,
    node: Node,
    addr: NodeAddr,
    told: Arc<Told>,
    digest: Option<B256>,
    /// It did not answer.
    shunned_until: Option<Instant>,
    /// It said that it is busy. It stays a guard: another would see more of us.
    busy_until: Option<Instant>,
}

impl Guard {
    /// How gladly it is used now: less is better.
    fn rank(&self, now: Instant) -> (bool, bool) {
        let is_ahead = |until: Option<Instant>| until.is_some_and(|until| now < until);
        (is_ahead(self.shunned_until), is_ahead(self.busy_until))
    }

    /// What it tells; none: what it told before.
    async fn ask(&self) -> Result<Option<(Told, B256)>, TellError> {
        ask(&self.node, &self.addr, self.digest).await
    }

    fn failed(&mut self, is_busy: bool) {
        match is_busy {
            true => self.busy_until = Some(Instant::now() + BUSY),
            false => self.shunned_until = Some(Instant::now() + SHUN),
        }
    }
}

struct State {
    /// Relays in the registry when it was last looked at.
    registered: usize,
    pins: Vec<Pin>,
    guards: Vec<Guard>,
    /// What was told and checked before.
    descriptions: Descriptions,
}

/// The ways of one consumer.
pub(crate) struct Paths {
    endpoints: Endpoints,
    network: Network,
    pacing: Pacing,
    store: Store,
    http: reqwest::Client,
    state: Mutex<State>,
    direct: tokio::sync::OnceCell<Node>,
    detours: Detours,
    tokens: Mutex<HashMap<Address, VecDeque<Token>>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    /// When the guards were asked last whether they are there.
    suspecting: tokio::sync::Mutex<Option<Instant>>,
}

impl Paths {
    pub(crate) async fn load(
        endpoints: Endpoints,
        (network, pacing): (Network, Pacing),
        store: Store,
        http: reqwest::Client,
    ) -> Result<Self, store::LoadError> {
        let entries = store.journal(JOURNAL).recent("pins", 1).await?;
        // What an older form wrote is no longer a pin; others are chosen.
        let pins = entries
            .first()
            .map(|entry| serde_json::from_slice(&entry.payload));
        let pins = pins.and_then(Result::ok).unwrap_or_default();
        Ok(Self {
            endpoints,
            network,
            pacing,
            store,
            http,
            state: Mutex::new(State {
                registered: 0,
                pins,
                guards: Vec::new(),
                descriptions: Descriptions::default(),
            }),
            direct: tokio::sync::OnceCell::new(),
            detours: Detours::default(),
            tokens: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            suspecting: tokio::sync::Mutex::default(),
        })
    }

    /// How requests travel.
    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// What crossed this consumer's own sockets.
    pub(crate) fn counters(&self) -> Counters {
        let guards = self.state().guards.clone();
        let nodes = guards
            .iter()
            .map(|guard| &guard.node)
            .chain(self.direct.get());
        nodes.fold(Counters::default(), |sum, node| {
            let counters = node.counters();
            Counters {
                bytes_sent: sum.bytes_sent + counters.bytes_sent,
                bytes_received: sum.bytes_received + counters.bytes_received,
            }
        })
    }

    /// The accounts of the relays in use, the one that carries first.
    pub(crate) fn guards(&self) -> Vec<Address> {
        self.state()
            .guards
            .iter()
            .map(|guard| guard.account)
            .collect()
    }

    /// The guard that the next stream goes through.
    pub(crate) fn carrying(&self) -> Option<Address> {
        self.usable().first().map(|guard| guard.account)
    }

    /// Whether there are too few relays for requests to go out.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        if self.network == Network::Direct {
            return None;
        }
        let state = self.state();
        let now = Instant::now();
        let shunned = |guard: &&Guard| guard.shunned_until.is_some_and(|until| now < until);
        let reached = state.guards.len() - state.guards.iter().filter(shunned).count();
        (reached < GUARDS).then_some(Shortage {
            reached,
            needed: GUARDS,
            registered: state.registered,
        })
    }

    /// A way to a seller, sealed to its key; nothing went out yet.
    pub(crate) async fn open(&self, seller: &Seller, now: Timestamp) -> Result<Way, PathError> {
        self.open_at(seller, self.pacing, now).await
    }

    /// The same, at this pace.
    pub(crate) async fn open_at(
        &self,
        seller: &Seller,
        pacing: Pacing,
        now: Timestamp,
    ) -> Result<Way, PathError> {
        let key = seller.key.as_deref().ok_or_else(|| PathError::Key {
            problem: seller
                .problem
                .clone()
                .unwrap_or_else(|| "it has none".into()),
        })?;
        let mut way = match self.network {
            Network::Direct => self.straight(seller).await?,
            Network::Oblivious => self.through_guard(seller).await?,
        };
        let sealed = seal::ask(key, key.strongest(), pacing, now)?;
        way.stream.seal(self.token(seller.address), sealed)?;
        Ok(way)
    }

    async fn direct(&self) -> Result<&Node, transport::BindError> {
        self.direct.get_or_try_init(|| self.endpoints.fresh()).await
    }

    /// To the provider itself; to one that cannot be dialled, by a relay at which it
    /// waits. That one sees who asks and was chosen by the provider: no more
    /// is claimed of it than if the provider saw it itself.
    async fn straight(&self, seller: &Seller) -> Result<Way, PathError> {
        let node = self.direct().await?;
        let addr = seller.node_addr();
        if seller.relays.is_empty() {
            let stream = node.open(&addr).await?;
            let carrier = None;
            return Ok(Way { stream, carrier });
        }
        let mut failed = OpenError::NoAddress { peer: addr.id };
        let relays = &seller.relays;
        for relay in self.detours.ordered(addr.id, relays, Instant::now()) {
            match node.open(&relay).await {
                Ok(mut stream) => {
                    stream.through(addr.id)?;
                    let carrier = Some(Carrier {
                        guard: None,
                        behind: Some((addr.id, relay.id)),
                    });
                    return Ok(Way { stream, carrier });
                }
                Err(error) => {
                    debug!(%error, "a relay at which a provider waits does not answer");
                    self.detours.failed(addr.id, relay.id, Instant::now());
                    failed = error;
                }
            }
        }
        Err(failed.into())
    }

    async fn through_guard(&self, seller: &Seller) -> Result<Way, PathError> {
        let (to, relays) = (seller.node, &seller.relays);
        let mut failed = PathError::NoGuard;
        for guard in self.usable() {
            let own = guard.addr.id;
            let relay = self.detours.first(to, relays, own, Instant::now());
            match guard.node.open(&guard.addr).await {
                Ok(mut stream) => {
                    if let Some(relay) = relay.filter(|relay| *relay != own) {
                        stream.through(relay)?;
                    }
                    stream.through(to)?;
                    let guard = Kept {
                        account: guard.account,
                        _node: guard.node,
                    };
                    let carrier = Some(Carrier {
                        guard: Some(guard),
                        behind: relay.map(|relay| (to, relay)),
                    });
                    return Ok(Way { stream, carrier });
                }
                Err(error) => {
                    debug!(%error, "a guard does not answer");
                    self.failed(guard.account, false);
                    failed = error.into();
                }
            }
        }
        Err(failed)
    }

    /// Guards in the order in which they are tried.
    fn usable(&self) -> Vec<Guard> {
        let mut guards = self.state().guards.clone();
        let now = Instant::now();
        guards.sort_by_key(|guard| guard.rank(now));
        guards
    }

    fn failed(&self, account: Address, is_busy: bool) {
        for guard in &mut self.state().guards {
            if guard.account == account {
                guard.failed(is_busy);
            }
        }
    }

    /// The way to a provider broke. Its end may be silent, or what carried: the
    /// guards are asked for a word, and who has none is not the first choice
    /// for a while. Without that question any provider could drive a consumer
    /// from its guards. A guard that says that it is busy needs no question.
    pub(crate) async fn broke(&self, carrier: Option<&Carrier>, error: &ReceiveError) {
        self.strayed(carrier, error);
        let guard = carrier.and_then(|carrier| carrier.guard.as_ref());
        let Some(guard) = guard else { return };
        if is_busy(error) {
            self.failed(guard.account, true);
            return;
        }
        let mut asked_at = self.suspecting.lock().await;
        if asked_at.is_some_and(|at| at.elapsed() < SUSPECT_EVERY) {
            return;
        }
        let asked = self.usable().into_iter().map(|guard| async move {
            match timeout(SUSPECT_WITHIN, guard.ask()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => self.failed(guard.account, error.is_busy()),
                Err(_) => self.failed(guard.account, false),
            }
        });
        futures_util::future::join_all(asked).await;
        *asked_at = Some(Instant::now());
    }

    /// The way to a provider that waits at relays broke: another of them is tried
    /// next. That it is the guard who is busy says nothing about them.
    pub(crate) fn strayed(&self, carrier: Option<&Carrier>, error: &ReceiveError) {
        let behind = carrier.and_then(|carrier| carrier.behind);
        if let Some((provider, relay)) = behind.filter(|_| !is_busy(error)) {
            self.detours.failed(provider, relay, Instant::now());
        }
    }

    /// Whether a seller is worth asking again at once: the relay at which it was
    /// asked failed, and it waits at another one.
    pub(crate) fn has_detour(&self, seller: &Seller) -> bool {
        self.detours
            .is_left(seller.node, &seller.relays, Instant::now())
    }

    fn token(&self, provider: Address) -> Option<Token> {
        self.tokens().get_mut(&provider)?.pop_front()
    }

    /// Keeps what a provider gave for later requests.
    pub(crate) fn keep(&self, provider: Address, tokens: Vec<Token>) {
        let mut kept = self.tokens();
        let kept = kept.entry(provider).or_default();
        kept.extend(tokens);
        let extra = kept.len().saturating_sub(TOKENS_KEPT);
        kept.drain(..extra);
    }

    /// The load digests that a guard knows, as it tells them: of all providers,
    /// so that nothing shows which of them matter. None: no guard tells any.
    pub(crate) async fn loads(&self) -> Option<Vec<Bytes>> {
        if self.network == Network::Direct {
            return None;
        }
        for guard in self.usable() {
            match timeout(LOADS_WITHIN, ask_loads(&guard.node, &guard.addr)).await {
                Ok(Ok(loads)) => return Some(loads),
                Ok(Err(error)) => debug!(%error, "a guard tells no loads"),
                Err(_) => debug!("a guard tells no loads in time"),
            }
        }
        None
    }

    /// What registered nodes and hosts of theirs say of themselves, by account, and
    /// who the hosts are. `relays`: those registered that sell nothing.
    pub(crate) async fn describe(
        &self,
        registered: &[Provider],
        relays: &[Provider],
        domain: &Domain,
        now: Timestamp,
    ) -> (BTreeMap<Address, Result<Known, String>>, HostBook) {
        let _one = self.looking.lock().await;
        let accounts: BTreeSet<_> = registered.iter().map(|one| one.address).collect();
        let mut told = match self.network {
            Network::Direct => vec![self.fetch_all(&self.doors(registered)).await],
            Network::Oblivious => self.ask_guards(relays, domain, now).await,
        };
        self.heard(&told, &accounts, domain, now);
        if self.network == Network::Direct {
            let fresh = self.state().descriptions.unasked(registered, &told);
            for (account, text) in self.fetch_all(&fresh).await {
                told[0].entry(account).or_insert(text);
            }
            self.heard(&told, &accounts, domain, now);
        }
        let needed = match self.network {
            Network::Direct => 1,
            Network::Oblivious => GUARDS,
        };
        let relays = match self.network {
            Network::Direct => vec![],
            Network::Oblivious => self.guards(),
        };
        let descriptions = &mut self.state().descriptions;
        let told = (&told[..], &relays[..]);
        let opened = descriptions.open(told, (&accounts, needed), domain, now);
        (opened, descriptions.hosts().clone())
    }

    fn heard(
        &self,
        told: &[Told],
        registered: &BTreeSet<Address>,
        domain: &Domain,
        now: Timestamp,
    ) {
        let descriptions = &mut self.state().descriptions;
        descriptions.hear(told, registered, domain, now);
    }

    /// Where registered nodes and hosts that are known are asked.
    fn doors(&self, registered: &[Provider]) -> Vec<(Address, String)> {
        let own = registered.iter();
        let own = own.map(|one| (one.address, one.endpoint.clone()));
        own.chain(self.state().descriptions.doors(registered))
            .collect()
    }

    /// Straight from everybody. A host that answers for its provider is told by its own account.
    async fn fetch_all(&self, doors: &[(Address, String)]) -> Told {
        let texts: Vec<(Address, Address, Bytes)> = stream::iter(doors.to_vec())
            .map(|(account, endpoint)| async move {
                let text = fetch(&self.http, &endpoint).await;
                if let Err(error) = &text {
                    debug!(%account, %error, "no description");
                }
                let text = Bytes::from(text.ok()?);
                Some((account, teller(&text).unwrap_or(account), text))
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(|told| async { told })
            .collect()
            .await;
        let mut told = Told::new();
        for (asked, account, text) in texts {
            // What it tells at its own door goes before what others tell of it.
            if asked == account || !told.contains_key(&account) {
                told.insert(account, text);
            }
        }
        told
    }

    /// From the guards; chosen first, where there are too few.
    async fn ask_guards(&self, relays: &[Provider], domain: &Domain, now: Timestamp) -> Vec<Told> {
        self.keep_guards(relays, domain, now).await;
        let guards = self.state().guards.clone();
        let asked = guards.into_iter().map(|guard| async move {
            let told = timeout(DESCRIBE_WITHIN, guard.ask()).await;
            (guard.account, told.unwrap_or(Err(TellError::Late)))
        });
        let asked = futures_util::future::join_all(asked).await;
        let mut state = self.state();
        for (account, told) in asked {
            let Some(guard) = state
                .guards
                .iter_mut()
                .find(|guard| guard.account == account)
            else {
                continue;
            };
            match told {
                Ok(Some((told, digest))) => {
                    guard.told = Arc::new(told);
                    guard.digest = Some(digest);
                }
                Ok(None) => {}
                Err(error) => {
                    debug!(%error, "a guard tells nothing");
                    guard.failed(error.is_busy());
                }
            }
        }
        state
            .guards
            .iter()
            .map(|guard| Told::clone(&guard.told))
            .collect()
    }

    /// Sees that as many guards as are wanted are in use, those that were
    /// pinned first.
    async fn keep_guards(&self, relays: &[Provider], domain: &Domain, now: Timestamp) {
        let accounts: Vec<_> = relays.iter().map(|relay| relay.address).collect();
        let (pins, used) = {
            let mut state = self.state();
            state.registered = relays.len();
            let pins = standing(&state.pins, &accounts, now);
            let is_pinned = |account: Address| pins.iter().any(|pin| pin.account == account);
            state.guards.retain(|guard| is_pinned(guard.account));
            let shunned = |guard: &Guard| guard.shunned_until.is_some_and(|at| Instant::now() < at);
            if state.guards.len() >= GUARDS && !state.guards.iter().any(shunned) {
                return;
            }
            state.guards.retain(|guard| !shunned(guard));
            let used: Vec<_> = state.guards.iter().map(|guard| guard.account).collect();
            (pins, used)
        };
        let pinned: Vec<_> = pins.iter().map(|pin| pin.account).collect();
        let spare = relays.iter().filter(|relay| !used.contains(&relay.address));
        let (old, new): (Vec<Provider>, Vec<Provider>) = spare
            .cloned()
            .partition(|relay| pinned.contains(&relay.address));
        let mut found = self.measure(&old, domain, now).await;
        let missing = GUARDS.saturating_sub(used.len() + found.len());
        let mut pins = pins;
        if missing > 0 {
            let measured = self.measure(&new, domain, now).await;
            let times: Vec<_> = measured
                .iter()
                .map(|(guard, rtt)| (guard.account, *rtt))
                .collect();
            let picked = pick(&times, missing, rand::random);
            pins.extend(
                picked
                    .iter()
                    .map(|&account| Pin::new(account, now, rand::random())),
            );
            let is_picked = |(guard, _): &(Guard, Duration)| picked.contains(&guard.account);
            found.extend(measured.into_iter().filter(is_picked));
        }
        self.use_guards(pins, found.into_iter().map(|(guard, _)| guard).collect())
            .await;
    }

    async fn use_guards(&self, mut pins: Vec<Pin>, found: Vec<Guard>) {
        let extra = pins.len().saturating_sub(PINNED_MAX);
        pins.drain(..extra);
        let changed = {
            let mut state = self.state();
            let order = |account: Address| pins.iter().position(|pin| pin.account == account);
            state.guards.extend(found);
            state.guards.sort_by_key(|guard| order(guard.account));
            state.guards.truncate(GUARDS);
            let changed = state.pins != pins;
            state.pins.clone_from(&pins);
            changed
        };
        if !changed {
            return;
        }
        info!(guards = pins.len(), "guards chosen");
        let payload = serde_json::to_vec(&pins).expect("pins have only string keys");
        let written = entry("pins", None, payload);
        if let Err(error) = self.store.journal(JOURNAL).append(vec![written]).await {
            debug!(%error, "guards not remembered");
        }
    }

    /// Dials relays, each with a key of its own, and takes the time of one
    /// question; those that do not answer are left out.
    async fn measure(
        &self,
        relays: &[Provider],
        domain: &Domain,
        now: Timestamp,
    ) -> Vec<(Guard, Duration)> {
        let mut relays = relays.to_vec();
        relays.sort_by_cached_key(|_| rand::random::<u64>());
        stream::iter(relays.into_iter().take(MEASURED_MAX))
            .map(|relay| async move {
                match timeout(DESCRIBE_WITHIN, self.meet(&relay, domain, now)).await {
                    Ok(Ok(met)) => Some(met),
                    Ok(Err(error)) => {
                        debug!(%error, "a relay is of no use");
                        None
                    }
                    Err(_) => None,
                }
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(|met| async { met })
            .collect()
            .await
    }

    async fn meet(
        &self,
        relay: &Provider,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<(Guard, Duration), TellError> {
        let text = fetch(&self.http, &relay.endpoint).await?;
        let record = Described::parse(&text)?
            .open(relay.address, domain, now)?
            .record;
        if !record.is_relay() {
            return Err(TellError::NoRelay);
        }
        let addresses = record.addresses.iter();
        let mut guard = Guard {
            account: relay.address,
            node: self.endpoints.fresh().await.map_err(PathError::from)?,
            addr: NodeAddr {
                id: record.node,
                addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
            },
            told: Arc::default(),
            digest: None,
            shunned_until: None,
            busy_until: None,
        };
        // Once for the handshake, once for the time.
        if let Some((told, digest)) = guard.ask().await? {
            guard.told = Arc::new(told);
            guard.digest = Some(digest);
        }
        let asked = Instant::now();
        guard.ask().await?;
        Ok((guard, asked.elapsed()))
    }

    /// Hangs up everywhere.
    pub(crate) async fn close(&self) {
        let guards = std::mem::take(&mut self.state().guards);
        let nodes = guards
            .iter()
            .map(|guard| &guard.node)
            .chain(self.direct.get());
        futures_util::future::join_all(nodes.map(Node::close)).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Address, VecDeque<Token>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
