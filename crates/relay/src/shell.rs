//! The relay as a whole: its parts, its tasks, its start and its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use market::{Domain, Ledger, LedgerError, NodeKey, Record, Timestamp, WalletKey};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use transport::describe::{Described, http_client};
use transport::{Node, door};

use crate::counters::{Counters, Counts, Tables};
use crate::directory::{self, Directory, Sources};
use crate::gossip::{self, Gossip};
use crate::passed_on::PassedOn;
use crate::shares::Shares;
use crate::stream::{Peers, serve, turn_away};
use crate::waiting::Waiting;

/// What a relay's record names among its capabilities.
pub const CAPABILITY: &str = Record::RELAY;

/// Streams that begin in a second before each peer has only its share, if
/// nothing else is said.
pub const STREAMS_PER_SECOND: usize = 1000;

/// Nodes that cannot be dialled and may wait at a time.
const WAITING: usize = 128;

/// For how long its own record is good.
const RECORD_GOOD_S: u64 = 600;

/// Between two signatures of it.
const SIGN_EVERY: Duration = Duration::from_secs(120);

/// Wall time, read at the edge.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a relay is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` where others reach the description; goes into the registry.
    pub endpoint: String,
    /// `host:port` (UDP) where others reach the node; empty: where it is bound.
    pub addresses: Vec<String>,
    /// The public address, where this machine has none of its own.
    pub passed_on: Option<PassedOn>,
    /// Streams carried at a time.
    pub streams: usize,
    /// Of those, by one peer.
    pub streams_per_peer: usize,
    /// Streams that begin in a second before each peer has only its share.
    pub streams_per_second: usize,
    /// Nodes that cannot be dialled and wait here at a time.
    pub waiting: usize,
    /// Bytes each way in one stream.
    pub bytes_per_stream: u64,
    /// A stream on which nothing moves for so long is given up.
    pub idle: Duration,
    /// Between two looks at registry and descriptions.
    pub refresh: Duration,
}

impl Config {
    /// The usual limits.
    pub fn at(endpoint: String, refresh: Duration) -> Self {
        Self {
            endpoint,
            addresses: vec![],
            passed_on: None,
            streams: 4096,
            streams_per_peer: 256,
            streams_per_second: STREAMS_PER_SECOND,
            waiting: WAITING,
            bytes_per_stream: 256 * 1024 * 1024,
            idle: Duration::from_secs(60),
            refresh,
        }
    }
}

/// What a relay is made of.
pub struct Deps {
    /// The chain, as the relay's account.
    pub ledger: Arc<dyn Ledger>,
    /// The wire.
    pub node: Node,
    /// The relay's account: signs its description.
    pub wallet: Arc<WalletKey>,
    /// The node's key.
    pub node_key: Arc<NodeKey>,
    /// What it is told.
    pub config: Config,
    /// Where the description is served.
    pub listener: TcpListener,
    /// Wall time.
    pub clock: Clock,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not in the registry.
    #[error("the relay could not be registered with endpoint {endpoint:?}")]
    Register {
        /// Its endpoint.
        endpoint: String,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Ledger(#[from] LedgerError),
    /// The node has another key than the one it is described with.
    #[error("the node's key is not the one that was given")]
    NodeKey,
    /// The HTTP client for descriptions cannot be built.
    #[error("no HTTP client")]
    Http(#[source] reqwest::Error),
}

pub(crate) struct Inner {
    ledger: Arc<dyn Ledger>,
    pub(crate) node: Node,
    wallet: Arc<WalletKey>,
    node_key: Arc<NodeKey>,
    pub(crate) config: Config,
    http: reqwest::Client,
    clock: Clock,
    pub(crate) directory: watch::Sender<Arc<Directory>>,
    served: watch::Sender<Bytes>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) waiting: Waiting,
    pub(crate) gossip: Gossip,
    pub(crate) counters: Counters,
}

/// A relay that runs. Dropping it ends everything at once.
pub struct Relay {
    inner: Arc<Inner>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Relay {
    /// Registers the relay and begins to carry.
    pub async fn start(deps: Deps) -> Result<Self, StartError> {
        let Deps {
            ledger,
            node,
            wallet,
            node_key,
            config,
            listener,
            clock,
        } = deps;
        if node.id() != node_key.id() {
            return Err(StartError::NodeKey);
        }
        let stakes = ledger.stakes().await?;
        market::register_endpoint(&*ledger, &config.endpoint, &stakes)
            .await
            .map_err(|source| StartError::Register {
                endpoint: config.endpoint.clone(),
                source,
            })?;
        let (gossip, heard) = Gossip::new(ledger.domain());
        let inner = Arc::new(Inner {
            ledger,
            node,
            wallet,
            node_key,
            config,
            http: http_client().map_err(StartError::Http)?,
            clock,
            directory: watch::Sender::new(Arc::default()),
            served: watch::Sender::new(Bytes::new()),
            peers: Arc::default(),
            waiting: Waiting::default(),
            gossip,
            counters: Counters::default(),
        });
        inner.sign();
        let relay = Self {
            inner,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        relay.begin(listener, heard);
        info!(account = %relay.inner.ledger.account(), endpoint = relay.inner.config.endpoint, "relaying");
        Ok(relay)
    }

    fn begin(&self, listener: TcpListener, heard: mpsc::Receiver<gossip::Event>) {
        let inner = &self.inner;
        let waiting = Arc::clone(inner);
        let guests = Arc::new(move |account| waiting.waiting.text(account, waiting.now()));
        self.spawn(door::serve_with(listener, inner.served.subscribe(), guests));
        self.spawn(Arc::clone(inner).sign_on());
        self.spawn(Arc::clone(inner).look_on());
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        self.spawn(gossip::run(Arc::clone(inner), heard, tasks, stop));
        let accept = accept(Arc::clone(inner), self.tasks.clone(), self.stop.clone());
        self.spawn(accept);
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn(&self.tasks, &self.stop, task);
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// The same for somebody else to look at.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.inner))
    }

    /// Reads registry and descriptions now instead of at the next turn.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        self.inner.look().await
    }

    /// Ends what runs and waits for it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Looks at a relay's counters.
#[derive(Clone)]
pub struct Watch(Arc<Inner>);

impl Watch {
    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// What it keeps in memory now.
    pub fn tables(&self) -> Tables {
        let inner = &self.0;
        let (loads, relays) = inner.gossip.sizes(inner.now());
        Tables {
            nodes: inner.directory.borrow().count(),
            peers: inner.peers.count(),
            loads,
            relays,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn spawn(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(task).await;
    });
}

async fn accept(inner: Arc<Inner>, tasks: TaskTracker, stop: CancellationToken) {
    let turns = Arc::new(Semaphore::new(inner.config.streams));
    let mut shares = Shares::new(inner.config.streams_per_second, Instant::now());
    while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
        let Some(incoming) = inner.node.accept().await else {
            return;
        };
        if let Err(wait) = shares.take(incoming.peer, Instant::now()) {
            turn_away(&inner, incoming, wait);
            continue;
        }
        incoming.patience.grow();
        let inner = Arc::clone(&inner);
        spawn(&tasks, &stop, async move {
            serve(&inner, incoming, turn).await;
        });
    }
}

impl Inner {
    async fn look_on(self: Arc<Self>) {
        let mut unread = false;
        loop {
            match self.look().await {
                Ok(()) => {
                    if unread {
                        info!("the registry can be read again");
                    }
                    unread = false;
                }
                // Once is enough while it stays so.
                Err(error) if unread => debug!(%error, "the registry still cannot be read"),
                Err(error) => {
                    warn!(%error, "the registry could not be read; the last view of it stays");
                    unread = true;
                }
            }
            tokio::time::sleep(self.config.refresh).await;
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            waiting: u64::try_from(self.waiting.count()).unwrap_or(u64::MAX),
            ..self.counters.counts()
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        self.ledger.domain()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    async fn look(&self) -> Result<(), LedgerError> {
        let now = self.now();
        let sources = Sources {
            http: &self.http,
            waiting: &self.waiting,
            passed_on: self.config.passed_on,
        };
        directory::look(&*self.ledger, sources, &self.directory, now).await
    }

    async fn sign_on(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SIGN_EVERY).await;
            self.sign();
        }
    }

    fn sign(&self) {
        let now = self.now();
        let addresses = match self.config.addresses.is_empty() {
            true => {
                let bound = self.node.addr().addresses;
                bound.iter().map(ToString::to_string).collect()
            }
            false => self.config.addresses.clone(),
        };
        let domain = self.ledger.domain();
        let record = Record {
            version: 1,
            chain_id: domain.chain_id,
            settlement: domain.settlement,
            provider: self.wallet.address(),
            receiver_authorizer: self.wallet.address(),
            withdraw_delay_min_s: market::WITHDRAW_DELAY_MIN_S,
            node: self.node.id(),
            addresses,
            relays: vec![],
            offers: vec![],
            capabilities: vec![CAPABILITY.to_owned()],
            issued_at: now,
            expires_at: now.after_s(RECORD_GOOD_S),
        };
        let described = Described {
            descriptor: record.sign(&self.wallet, &self.node_key),
            epoch: None,
            hosts: None,
        };
        self.served.send_replace(described.to_text().into());
    }
}
