//! The provider as a whole: its parts, its tasks, its start and its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use market::{
    Address, Card, CertificateError, ChannelTerms, ClaimPolicy, Domain, Host, Kind, Ledger,
    LedgerError, ModelId, NodeKey, Rates, SignedCertificate, SignedClaim, Timestamp, WalletKey,
};
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use transport::{Incoming, Node, door};

use crate::backend::{BackendError, continues};
use crate::behind;
use crate::books::TillView;
use crate::claim::{self, Claimed};
use crate::config::{Config, ConfigError, check_rates};
use crate::counters::Counters;
use crate::descriptor::{Descriptor, Identity};
use crate::desk::Desk;
use crate::exchange;
use crate::load::{self, Relays};
use crate::register::{RegisterError, registered};
use crate::sale::Sale;
use crate::session::{ReplayError, Sessions};
use crate::status::{Continues, Status, Tried, status};
use crate::tasks::Tasks;
use crate::times::Times;

/// Wall time, read at the edge.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Streams served at a time, whatever they are for; the next ones wait.
const STREAMS_MAX: usize = 1024;

/// Between two looks at the age of the quotes.
const QUOTES_EVERY: Duration = Duration::from_secs(5);

/// Between two questions to the backends how they do.
const HEALTH_EVERY: Duration = Duration::from_secs(15);

/// The same while one of them was never there.
const ARRIVAL_EVERY: Duration = Duration::from_secs(2);

/// How often it is tried whether a backend goes on with a begun answer.
const PROBES_MAX: u32 = 3;

/// Between two looks at what still runs when stopping.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// When the time for running answers is over: time for their receipts.
const RECEIPTS_WITHIN: Duration = Duration::from_secs(5);

/// What a provider is made of.
pub struct Deps {
    /// The chain, as the provider's account, or its host's.
    pub ledger: Arc<dyn Ledger>,
    /// The wire.
    pub node: Node,
    /// The journal.
    pub store: Store,
    /// The provider's account, or its host's: signs the descriptor, may claim.
    pub wallet: Arc<WalletKey>,
    /// The node's key: signs receipts.
    pub node_key: Arc<NodeKey>,
    /// What it is told.
    pub config: Config,
    /// Where the descriptor is served.
    pub listener: TcpListener,
    /// Wall time.
    pub clock: Clock,
}

/// Why a provider did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger writes from another account than the wallet's.
    #[error("the ledger's account is {ledger}, the provider's wallet is {wallet}")]
    Account {
        /// The ledger's.
        ledger: Address,
        /// The wallet's.
        wallet: Address,
    },
    /// The node has another key than the one that signs receipts.
    #[error("the node's key is not the one that signs receipts")]
    NodeKey,
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Ledger(#[from] LedgerError),
    /// The certificate of hosts does not hold, or not for this account.
    #[error(transparent)]
    Hosts(#[from] CertificateError),
    /// The provider is not on the market.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The journal is not to be understood.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Nobody is registered where it is to wait.
    #[error(
        "no relay is registered with endpoint {relay:?}; `--behind` takes the host:port that a relay has in the registry"
    )]
    NoRelay {
        /// Which.
        relay: String,
    },
    /// Where it is to wait somebody else is.
    #[error(
        "what is registered with endpoint {relay:?} does not say that it is a relay; `--behind` takes the host:port that a relay has in the registry"
    )]
    NotARelay {
        /// Which.
        relay: String,
    },
    /// The descriptor cannot be served.
    #[error("the descriptor's listener has no address")]
    Listener(#[source] io::Error),
}

/// Why a price was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RatesError {
    /// There is no such offer.
    #[error("model {model} is not on offer here")]
    UnknownModel {
        /// The model.
        model: ModelId,
    },
    /// They cannot work.
    #[error(transparent)]
    Rates(#[from] ConfigError),
}

pub(crate) struct Inner {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) node_key: Arc<NodeKey>,
    wallet: Arc<WalletKey>,
    pub(crate) node: Node,
    pub(crate) sales: BTreeMap<ModelId, Arc<Sale>>,
    pub(crate) sessions: Sessions,
    pub(crate) descriptor: Descriptor,
    pub(crate) desk: Desk,
    /// All but the token, which is the offer's.
    pub(crate) terms: ChannelTerms,
    pub(crate) endpoint: String,
    /// Endpoints of the relays at which it waits, if it cannot be dialled.
    pub(crate) behind: Vec<String>,
    pub(crate) claims: ClaimPolicy,
    pub(crate) pay_within: Duration,
    stop_within: Duration,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    /// Something was earned.
    pub(crate) earned: Notify,
    /// The same, for whoever keeps an eye on it.
    pub(crate) earnings: watch::Sender<()>,
    /// What came of trying whether the offers go on with begun answers, by model.
    tried: watch::Sender<BTreeMap<ModelId, Tried>>,
    /// One claim at a time.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    closing: AtomicBool,
    /// Requests whose consumer has not had the last word yet.
    pub(crate) answering: AtomicUsize,
    pub(crate) tasks: Tasks,
}

impl Inner {
    /// The account that it signs and claims with: the provider's, or its host's.
    pub(crate) fn account(&self) -> Address {
        self.terms.receiver_authorizer
    }

    fn now_there(&self) -> (Domain, Timestamp) {
        (self.ledger.domain(), (self.clock)())
    }

    /// Whether no new requests are taken.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// The selling side. Dropping it ends everything at once, as a crash would;
/// [`Provider::stop`] lets running answers come to their end.
pub struct Provider {
    inner: Arc<Inner>,
    address: SocketAddr,
}

impl Provider {
    /// Puts the offers on the market and begins to serve.
    pub async fn start(deps: Deps) -> Result<Self, StartError> {
        let Deps {
            ledger,
            node,
            store,
            wallet,
            node_key,
            config,
            listener,
            clock,
        } = deps;
        if node.id() != node_key.id() {
            return Err(StartError::NodeKey);
        }
        is_of(ledger.account(), wallet.address())?;
        let address = listener.local_addr().map_err(StartError::Listener)?;
        let stakes = ledger.stakes().await?;
        config.check(&stakes)?;
        let config = placed(&*ledger, config, clock()).await?;
        let tasks = Tasks::default();
        let sessions = Sessions::load(Arc::clone(&ledger), store, tasks.clone(), clock()).await?;
        let host = host(wallet.address(), &config, (ledger.domain(), clock()))?;
        let (config, models) = registered(&*ledger, host, config, &stakes).await?;

        let identity = Identity {
            domain: ledger.domain(),
            provider: host.provider,
            node: node.id(),
            addresses: addresses(&config, &node),
            withdraw_delay_min_s: config.withdraw_delay_min_s,
        };
        let descriptor = Descriptor::new(identity, &config, &models, clock());
        let desk = Desk::new(ledger.domain(), &wallet, &node_key, clock());
        let sales = sales(&config, &models, &descriptor).await;
        descriptor.sign(&wallet, &node_key, desk.record(), clock());
        let terms = ChannelTerms {
            receiver: host.provider,
            receiver_authorizer: host.account,
            token: Address::ZERO,
            withdraw_delay_min_s: config.withdraw_delay_min_s,
        };
        let inner = Arc::new(Inner {
            ledger,
            node_key,
            wallet,
            node,
            sessions,
            descriptor,
            desk,
            terms,
            endpoint: config.endpoint,
            behind: config.behind,
            claims: config.claims,
            pay_within: config.pay_within,
            stop_within: config.stop_within,
            clock,
            counters: Counters::default(),
            earned: Notify::new(),
            earnings: watch::Sender::default(),
            tried: watch::Sender::new(untried(&sales)),
            sales,
            claiming: tokio::sync::Mutex::default(),
            closing: AtomicBool::new(false),
            answering: AtomicUsize::new(0),
            tasks,
        });
        inner.begin(listener);
        failpoint::hit("provider.started");
        info!(provider = %host.provider, account = %host.account, %address, offers = inner.sales.len(), "selling");
        Ok(Self { inner, address })
    }

    /// Where the descriptor is served.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The ids of the models on offer, by name.
    pub fn models(&self) -> Vec<(String, ModelId)> {
        let sales = self.inner.sales.values();
        sales
            .map(|sale| (sale.config.name.clone(), sale.model))
            .collect()
    }

    /// The names of the models that are not on offer, because their backend
    /// was never there; each is on offer as soon as it is.
    pub fn unoffered(&self) -> Vec<String> {
        self.inner.descriptor.unoffered()
    }

    /// What there is to say of it.
    pub fn status(&self) -> Status {
        status(&self.inner)
    }

    /// What came of trying whether the offers go on with answers that other providers
    /// began; those that are still to be tried are not in it, nor embeddings.
    pub fn tried(&self) -> watch::Receiver<BTreeMap<ModelId, Tried>> {
        self.inner.tried.subscribe()
    }

    /// How long the answers of each offer took, by its name.
    pub fn times(&self) -> Vec<(String, Arc<Times>)> {
        let sales = self.inner.sales.values();
        sales
            .map(|sale| (sale.config.name.clone(), Arc::clone(&sale.times)))
            .collect()
    }

    /// Another price from now on. Quotes that were given stay good as promised.
    pub fn set_rates(&self, model: ModelId, rates: Rates) -> Result<(), RatesError> {
        check_rates("rates", &rates)?;
        let inner = &self.inner;
        let now = (inner.clock)();
        if !inner.descriptor.set_rates(model, rates, now) {
            return Err(RatesError::UnknownModel { model });
        }
        inner.sign();
        Ok(())
    }

    /// Takes over another certificate of the provider's hosts, and serves it from now on.
    pub fn set_hosts(&self, hosts: SignedCertificate) -> Result<(), CertificateError> {
        let inner = &self.inner;
        let opened = open(&hosts, inner.account(), inner.now_there())?;
        if opened.provider != inner.terms.receiver {
            let host = opened;
            return Err(CertificateError::NotAHost { host });
        }
        inner.descriptor.set_hosts(hosts);
        inner.sign();
        Ok(())
    }

    /// Takes all offers off the market for now, or puts them back. What runs comes
    /// to its end, and nothing of it counts against the provider.
    pub fn rest(&self, is_resting: bool) {
        if self.inner.descriptor.rest(is_resting) {
            self.inner.sign();
        }
    }

    /// What each channel has earned.
    pub fn tills(&self) -> Vec<TillView> {
        let channels = self.inner.sessions.all();
        channels
            .iter()
            .map(|channel| channel.till(|till| TillView::of(channel.config, till)))
            .collect()
    }

    /// Changes when something was earned.
    pub fn earnings(&self) -> watch::Receiver<()> {
        self.inner.earnings.subscribe()
    }

    /// Signs what a till is good for, so that anybody may claim it for us.
    pub fn sign_claim(&self, till: &TillView) -> Option<SignedClaim> {
        let claim = till.claim()?;
        let domain = self.inner.ledger.domain();
        Some(SignedClaim::sign(claim, &domain, &self.inner.wallet))
    }

    /// When it claims.
    pub fn claim_policy(&self) -> &ClaimPolicy {
        &self.inner.claims
    }

    /// Claims what was earned and settles it, whatever the policy says.
    pub async fn claim_now(&self) -> Result<Claimed, LedgerError> {
        claim::claim_all(&self.inner).await
    }

    /// Takes no more requests, lets running answers end within the time that
    /// was configured, claims if the policy says so, and ends.
    pub async fn stop(self) {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::Relaxed);
        failpoint::hit("provider.stopping");
        inner.drained(inner.stop_within).await;
        inner.tasks.stopping().cancel();
        inner.drained(RECEIPTS_WITHIN).await;
        if inner.claims.on_stop
            && let Err(error) = claim::claim_all(inner).await
        {
            warn!(%error, "not claimed before stopping");
        }
        self.kill().await;
    }

    /// Ends everything at once, as a crash would, and waits until nothing runs.
    pub async fn kill(self) {
        self.inner.sessions.forget();
        self.inner.tasks.kill().await;
        failpoint::hit("provider.stopped");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.inner.sessions.forget();
        self.inner.tasks.abandon();
    }
}

/// Sees that the ledger writes from the wallet's account.
fn is_of(ledger: Address, wallet: Address) -> Result<(), StartError> {
    match ledger == wallet {
        true => Ok(()),
        false => Err(StartError::Account { ledger, wallet }),
    }
}

/// Whose node this is: the provider's own, or a host that its certificate names.
fn host(
    account: Address,
    config: &Config,
    there: (Domain, Timestamp),
) -> Result<Host, CertificateError> {
    match &config.hosts {
        Some(hosts) => open(hosts, account, there),
        None => Ok(Host::own(account)),
    }
}

/// Which host this account is by a certificate.
fn open(
    hosts: &SignedCertificate,
    account: Address,
    (domain, now): (Domain, Timestamp),
) -> Result<Host, CertificateError> {
    let provider = hosts.read()?.provider;
    let host = Host { account, provider };
    let certificate = hosts.open(provider, &domain, now)?;
    match certificate.endpoint_of(account) {
        Some(_) => Ok(host),
        None => Err(CertificateError::NotAHost { host }),
    }
}

/// Sees that relays are registered where it is to wait; they are its endpoint then.
async fn placed(
    ledger: &dyn Ledger,
    mut config: Config,
    now: Timestamp,
) -> Result<Config, StartError> {
    if let Some(relay) = behind::unregistered(ledger, &config.behind).await? {
        let relay = relay.clone();
        return Err(StartError::NoRelay { relay });
    }
    if let Some(relay) = behind::no_relay(ledger, &config.behind, now).await? {
        let relay = relay.clone();
        return Err(StartError::NotARelay { relay });
    }
    config.endpoint = config.registered_endpoint(ledger.account());
    Ok(config)
}

/// What is sold. It goes on offer where somebody is there to answer.
async fn sales(
    config: &Config,
    models: &[ModelId],
    descriptor: &Descriptor,
) -> BTreeMap<ModelId, Arc<Sale>> {
    let sold = models.iter().zip(&config.offers);
    let sold = sold.map(|(model, offer)| async move {
        let sale = Sale::new(*model, offer.clone());
        if is_there(&sale.ask().await) {
            descriptor.offer(*model);
        }
        (*model, Arc::new(sale))
    });
    join_all(sold).await.into_iter().collect()
}

/// What is known of offers that are not to be tried.
fn untried(sales: &BTreeMap<ModelId, Arc<Sale>>) -> BTreeMap<ModelId, Tried> {
    let is_left = |sale: &&Arc<Sale>| !sale.config.probe && sale.config.kind() == Kind::Chat;
    let left = sales.values().filter(is_left);
    left.map(|sale| (sale.model, tried(sale, Continues::Untried)))
        .collect()
}

fn tried(sale: &Sale, continues: Continues) -> Tried {
    Tried {
        name: sale.config.name.clone(),
        card: sale.config.card.as_ref().map(Card::id),
        continues,
    }
}

/// Whether a backend that was asked how it does is there at all.
fn is_there(asked: &Result<(), BackendError>) -> bool {
    asked.as_ref().err().is_none_or(BackendError::is_answer)
}

/// Where others reach the node.
fn addresses(config: &Config, node: &Node) -> Vec<String> {
    if !config.behind.is_empty() {
        return vec![];
    }
    if config.addresses.is_empty() {
        return node
            .addr()
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
    }
    config.addresses.clone()
}

impl Inner {
    /// Starts all tasks.
    fn begin(self: &Arc<Self>, listener: TcpListener) {
        self.tasks
            .spawn(door::serve(listener, self.descriptor.served()));
        self.tasks.spawn(Arc::clone(self).accept());
        self.tasks.spawn(Arc::clone(self).keep_quotes());
        self.tasks.spawn(Arc::clone(self).ask_backends());
        self.tasks.spawn(claim::watch(Arc::clone(self)));
        for relay in self.behind.clone() {
            self.tasks.spawn(behind::wait_on(Arc::clone(self), relay));
        }
        let relays = Arc::new(Relays::default());
        let found = load::find_on(Arc::clone(self), Arc::clone(&relays));
        self.tasks.spawn(found);
        self.tasks.spawn(load::tell_on(Arc::clone(self), relays));
    }

    async fn accept(self: Arc<Self>) {
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Some(incoming) = self.node.accept().await else {
                return;
            };
            let inner = Arc::clone(&self);
            self.tasks.spawn(async move {
                let _place = place;
                serve(inner, incoming).await;
            });
        }
    }

    async fn keep_quotes(self: Arc<Self>) {
        loop {
            sleep(QUOTES_EVERY).await;
            let now = (self.clock)();
            if self.desk.refresh(&self.node_key, now) || self.descriptor.renew(now) {
                self.descriptor
                    .sign(&self.wallet, &self.node_key, self.desk.record(), now);
            }
        }
    }

    async fn ask_backends(self: Arc<Self>) {
        let mut probes = BTreeMap::new();
        loop {
            for sale in self.sales.values() {
                let asked = sale.ask().await;
                if is_there(&asked) && self.descriptor.offer(sale.model) {
                    self.sign();
                    info!(model = sale.config.name, "its backend is there: on offer");
                }
                if asked.is_err() {
                    continue;
                }
                let left = probes.entry(sale.model).or_insert(PROBES_MAX);
                let is_chat = sale.config.kind() == Kind::Chat;
                if sale.config.probe && is_chat && *left > 0 {
                    *left -= 1;
                    if self.probe(sale).await {
                        *left = 0;
                    }
                }
            }
            let every = match self.descriptor.unoffered().is_empty() {
                true => HEALTH_EVERY,
                false => ARRIVAL_EVERY,
            };
            sleep(every).await;
        }
    }

    /// Serves the description as it is now.
    pub(crate) fn sign(&self) {
        let (record, now) = (self.desk.record(), (self.clock)());
        self.descriptor
            .sign(&self.wallet, &self.node_key, record, now);
    }

    /// Tries whether a backend goes on with a begun answer. Whether it does.
    async fn probe(&self, sale: &Sale) -> bool {
        let config = &sale.config;
        let outcome = continues(&config.backend, &config.upstream_model).await;
        let model = &config.name;
        match &outcome {
            Ok(continues) => {
                if self.descriptor.set_continues(sale.model, *continues) {
                    self.sign();
                }
                info!(
                    model,
                    continues, "tried whether the backend goes on with a begun answer"
                );
            }
            Err(error) => {
                debug!(%error, model, "not known whether the backend goes on with a begun answer");
            }
        }
        // One that varies its answers may do better the next time.
        let is_known = matches!(outcome, Ok(true));
        let continues = match outcome {
            Ok(true) => Continues::Yes,
            Ok(false) => Continues::No,
            Err(error) => Continues::Unknown(market::with_causes(&error)),
        };
        let tried = tried(sale, continues);
        self.tried
            .send_modify(|all| drop(all.insert(sale.model, tried)));
        is_known
    }

    /// Waits until everybody had the last word, for so long.
    async fn drained(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.answering.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            sleep(DRAIN_EVERY).await;
        }
    }
}

async fn serve(inner: Arc<Inner>, incoming: Incoming) {
    exchange::serve(inner, incoming).await;
}
