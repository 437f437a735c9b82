//! The consumer as a whole: its tasks, its state, and the way of a request
//! through them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use market::{
    Address, Amount, BoxFuture, ChannelId, Demand, FundingPolicy, Labels, Ledger, LedgerError,
    Offer, Outcome, RequestId, Timestamp, UsdRates, WalletKey,
};
use openai::{ChatRequest, EmbeddingsRequest, Request};
use seal::Pacing;
use store::Store;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use transport::Endpoints;

use crate::answer::{Answer, Part, Summary};
use crate::attempt::Attempt;
use crate::budgets::{Budgets, SpentView};
use crate::catalog::{self, Seller, Snapshot};
use crate::error::{InferError, Shortage, StartError, Unserved};
use crate::exchange::{Errand, begin};
use crate::failover::{Conditions, Story};
use crate::loads::{self, Used};
use crate::misfits::other_token;
use crate::paths::Paths;
use crate::payer::{Payers, Pseudonyms};
use crate::payment::{Channel, entry};
use crate::policy::Policy;
use crate::prices::Prices;
use crate::reconcile::reconcile;
use crate::router::{Candidate, Listed, Route, Router};
use crate::routes::{Ending, RouteId, RouteView};
use crate::session::{MoneyError, Sessions};
use crate::standby::Standby;
use crate::tries::{HEDGE_AFTER_MIN, Tries};
use crate::upkeep::{self, Keeper};
use crate::view::{AnswerView, ChannelView, ModelView, OfferView, PseudonymView, RelayView};

/// Wall time, read at the edge.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The journal of past answers (figures only).
const ANSWERS: &str = "consumer/answers";
/// Past answers kept at hand.
const ANSWERS_KEPT: usize = 200;
/// When a receipt is asked for again after an answer that ended without one.
const MEND_AFTER: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// What a consumer is made of.
pub struct Deps {
    /// The chain, as the wallet.
    pub ledger: Arc<dyn Ledger>,
    /// Where the wire's ends are made.
    pub endpoints: Endpoints,
    /// The journal.
    pub store: Store,
    /// Signs vouchers where the wallet pays; not the wallet's key.
    pub hot_key: Arc<WalletKey>,
    /// The accounts that pay one provider each.
    pub pseudonyms: Arc<dyn Pseudonyms>,
    /// What is allowed.
    pub policy: Policy,
    /// What tokens are worth now.
    pub usd_rates: watch::Receiver<UsdRates>,
    /// Wall time.
    pub clock: Clock,
}

pub(crate) struct Inner {
    ledger: Arc<dyn Ledger>,
    pub(crate) paths: Paths,
    pub(crate) sessions: Sessions,
    pub(crate) budgets: Arc<Budgets>,
    store: Store,
    pub(crate) policy: Policy,
    pub(crate) usd_rates: watch::Receiver<UsdRates>,
    clock: Clock,
    snapshot: watch::Sender<Arc<Snapshot>>,
    pub(crate) router: Arc<Router>,
    recent: Mutex<VecDeque<AnswerView>>,
    running: AtomicUsize,
    pub(crate) standby: Standby,
    pub(crate) used: Used,
    pub(crate) prices: Prices,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The buying side. Cheap to clone; all clones are one consumer.
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Inner>,
}

impl Consumer {
    /// Loads the journal and begins to watch the market.
    pub async fn start(deps: Deps) -> Result<Self, StartError> {
        let Deps {
            ledger,
            endpoints,
            store,
            hot_key,
            pseudonyms,
            policy,
            usd_rates,
            clock,
        } = deps;
        let payers = Payers {
            wallet: Arc::clone(&ledger),
            hot_key,
            pseudonyms,
        };
        let budgets = Budgets::load(store.clone(), ledger.mor(), clock()).await?;
        let budgets = Arc::new(budgets);
        let sessions = (store.clone(), policy.clone(), Arc::clone(&budgets));
        let sessions = Sessions::load(payers, sessions).await?;
        let recent = recent_answers(&store).await?;
        let http = transport::describe::http_client().map_err(StartError::Http)?;
        let paths = Paths::load(
            endpoints,
            (policy.network, policy.pacing),
            store.clone(),
            http,
        )
        .await
        .map_err(|error| StartError::Journal(error.into()))?;
        let (accepted, rates) = (policy.accepted.clone(), usd_rates.clone());
        let router = Router::new(policy.network, policy.payer, accepted, rates);
        let inner = Arc::new(Inner {
            ledger,
            paths,
            sessions,
            budgets,
            store,
            policy,
            usd_rates,
            clock,
            snapshot: watch::Sender::new(Arc::default()),
            router,
            recent: Mutex::new(recent),
            running: AtomicUsize::new(0),
            standby: Standby::default(),
            used: Used::default(),
            prices: Prices::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        inner.tasks.spawn(Arc::clone(&inner).watch());
        inner.tasks.spawn(Arc::clone(&inner).keep());
        inner.tasks.spawn(loads::hear_on(Arc::clone(&inner)));
        failpoint::hit("consumer.started");
        Ok(Self { inner })
    }

    /// Buys one answer. Returns once its first piece is there.
    pub async fn infer(
        &self,
        request: ChatRequest,
        conditions: Conditions,
    ) -> Result<Answer, Unserved> {
        self.ask(request.into(), conditions).await
    }

    /// Buys vectors, all of them of one card. The pieces of the answer are
    /// those of [`openai::embeddings`]. Returns once the first one is there.
    pub async fn embed(
        &self,
        request: EmbeddingsRequest,
        conditions: Conditions,
    ) -> Result<Answer, Unserved> {
        self.ask(request.into(), conditions).await
    }

    async fn ask(&self, request: Request, conditions: Conditions) -> Result<Answer, Unserved> {
        let inner = &self.inner;
        if inner.stop.is_cancelled() {
            return Err(InferError::Stopping.into());
        }
        let place = inner.place()?;
        inner.used.now();
        let started = Instant::now();
        let routing = inner.router.wishes(&request, &conditions.preferences);
        let routing = routing.map_err(InferError::from)?;
        inner.router.requested();
        let part = match inner
            .ask_around(&request, &routing, &conditions, started)
            .await
        {
            // Somebody may have new keys or another address since the last look.
            Err(unserved)
                if matches!(unserved.error, InferError::Path { .. })
                    && inner.refresh().await.is_ok() =>
            {
                inner
                    .ask_around(&request, &routing, &conditions, started)
                    .await?
            }
            answered => answered?,
        };
        let story = Story::new(Arc::clone(inner), request, conditions, started);
        Ok(Answer::new(part, story, place))
    }

    /// Reads registry and descriptors now instead of at the next turn.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        self.inner.refresh().await
    }

    /// Whether there are too few relays for requests to go out.
    pub fn shortage(&self) -> Option<Shortage> {
        self.inner.paths.shortage()
    }

    /// Wall time, as this consumer was given it.
    pub fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// Models and offers as last seen.
    pub fn models(&self) -> Vec<ModelView> {
        self.inner.models()
    }

    /// The relays of the registry as last read, at most so many.
    pub fn relays(&self, most: usize) -> Vec<RelayView> {
        let registry = Arc::clone(&self.inner.snapshot().registry);
        let relays = registry.relays().take(most);
        relays
            .map(|relay| RelayView {
                address: relay.address,
                endpoint: relay.endpoint.clone(),
            })
            .collect()
    }

    /// Why a request went where it went: one of the last few hundred.
    pub fn found(&self, route: RouteId) -> Option<RouteView> {
        self.inner.router.found(route)
    }

    /// Whom a request for this model would go to now, and why.
    pub fn explain(&self, model: &str, demand: &Demand) -> RouteView {
        self.inner.used.now();
        let snapshot = self.inner.snapshot();
        let router = &self.inner.router;
        router.explain(&snapshot, model, demand, self.inner.now())
    }

    /// What tokens are worth now.
    pub fn usd_rates(&self) -> UsdRates {
        self.inner.usd_rates.borrow().clone()
    }

    /// What providers are called here: requests may name them so in `provider.order`, `only` and
    /// `ignore`. What two of them are called is refused.
    pub fn set_names(&self, names: impl IntoIterator<Item = (Address, String)>) {
        self.inner.router.set_names(names.into_iter().collect());
    }

    /// The last answers, latest first.
    pub fn recent(&self) -> Vec<AnswerView> {
        self.inner.recent().iter().rev().cloned().collect()
    }

    /// What keys with a budget have spent today, by their names.
    pub fn spent(&self) -> BTreeMap<String, SpentView> {
        self.inner.budgets.view(self.inner.now())
    }

    /// Every channel and the money in it.
    pub async fn channels(&self) -> Result<Vec<ChannelView>, LedgerError> {
        self.inner.sessions.view().await
    }

    /// Asks every provider that owes receipts for them, now.
    pub async fn reconcile(&self) {
        let sellers: Vec<_> = self
            .inner
            .snapshot
            .borrow()
            .sellers
            .values()
            .cloned()
            .collect();
        let inner = &self.inner;
        for seller in sellers {
            let own = (seller.registered, seller.receiver_authorizer);
            for channel in inner.sessions.of(own.0, own.1) {
                if let Err(error) = reconcile(&inner.paths, &seller, &channel, inner.now()).await {
                    debug!(%error, provider = %seller.address, "not reconciled");
                }
            }
        }
    }

    /// Starts the way out of a channel: all that is not billed. How much that is.
    pub async fn withdraw(&self, channel: ChannelId) -> Result<Amount, MoneyError> {
        self.inner.sessions.withdraw(channel).await
    }

    /// Ends it, after the channel's delay; the money comes back into the wallet.
    pub async fn finish_withdraw(&self, channel: ChannelId) -> Result<(), MoneyError> {
        self.inner.sessions.finish_withdraw(channel).await
    }

    /// What crossed this consumer's own sockets so far.
    pub fn counters(&self) -> transport::Counters {
        self.inner.paths.counters()
    }

    /// The accounts of the relays in use, the one that carries first.
    pub fn guards(&self) -> Vec<Address> {
        self.inner.paths.guards()
    }

    /// The accounts beside the wallet that pay one provider each.
    pub fn pseudonyms(&self) -> Vec<PseudonymView> {
        self.inner.sessions.pseudonyms()
    }

    /// What goes into a channel, and when it comes out again.
    pub fn funding(&self) -> &BTreeMap<Address, FundingPolicy> {
        &self.inner.policy.funding
    }

    /// The wallet: where all that is paid comes from.
    pub fn payer(&self) -> Address {
        self.inner.ledger.account()
    }

    /// Stops everything that runs and waits for it.
    pub async fn stop(&self) {
        failpoint::hit("consumer.stopping");
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.paths.close().await;
        failpoint::hit("consumer.stopped");
    }
}

async fn recent_answers(store: &Store) -> Result<VecDeque<AnswerView>, StartError> {
    let journal = store.journal(ANSWERS);
    let entries = journal
        .recent("answer", ANSWERS_KEPT)
        .await
        .map_err(|error| StartError::Journal(error.into()))?;
    // An entry of an older form is no longer shown; nothing depends on it.
    let mut answers: Vec<AnswerView> = entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.payload).ok())
        .collect();
    answers.reverse();
    Ok(answers.into())
}

/// One try, and with whom.
async fn tried<'a>(
    inner: &'a Arc<Inner>,
    candidate: &'a Candidate,
    errand: Errand<'a>,
) -> (&'a Candidate, Result<Part, Attempt>) {
    (candidate, begin(inner, candidate, errand).await)
}

/// A place among the running requests; given back when dropped.
pub(crate) struct Place(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    async fn watch(self: Arc<Self>) {
        let mut turns = tokio::time::interval(self.policy.refresh);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unread = false;
        let mut short = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = turns.tick() => {}
            }
            let read = self.refresh().await;
            let shortage = self.paths.shortage();
            match shortage {
                Some(shortage) if short.is_none() => warn!("{shortage}"),
                None if short.is_some() => info!("there are relays enough again"),
                _ => {}
            }
            short = shortage;
            match read {
                Ok(()) => {
                    if unread {
                        info!("the market can be read again");
                    }
                    unread = false;
                }
                // Once is enough while it stays so.
                Err(error) if unread => debug!(%error, "the market still cannot be read"),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "the market could not be read; the last view of it stays");
                    unread = true;
                }
            }
        }
    }

    /// Keeps the channels as the policy wants them.
    async fn keep(self: Arc<Self>) {
        let mut keeper = Keeper::new(&self.sessions);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(upkeep::EVERY) => {}
            }
            keeper.turn(&self.sessions, &self.policy, self.now()).await;
        }
    }

    async fn refresh(&self) -> Result<(), LedgerError> {
        let before = self.snapshot();
        let registry = catalog::read(&*self.ledger).await;
        let (registry, read) = match registry {
            Ok(registry) => (Arc::new(registry), Ok(())),
            // While the chain does not answer, quotes go on.
            Err(error) => (Arc::clone(&before.registry), Err(error)),
        };
        let domain = self.domain();
        let after = catalog::look(registry, &self.paths, &before, &domain, self.now()).await;
        self.snapshot.send_replace(Arc::new(after));
        self.reprice();
        read
    }

    /// Brings what is on offer to the newest prices that were told.
    pub(crate) fn reprice(&self) {
        self.snapshot.send_if_modified(|snapshot| {
            let after = self.prices.applied(snapshot, self.now());
            let is_new = after.is_some();
            if let Some(after) = after {
                *snapshot = Arc::new(after);
            }
            is_new
        });
    }

    fn place(self: &Arc<Self>) -> Result<Place, InferError> {
        let running = self.running.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if running >= self.policy.running_max {
            return Err(InferError::Overloaded { running });
        }
        Ok(place)
    }

    /// Asks one after the other until somebody begins to answer; those of the
    /// first model, then those of the next one that the request names.
    async fn ask_around(
        self: &Arc<Self>,
        request: &Request,
        wishes: &routing::Wishes,
        conditions: &Conditions,
        started: Instant,
    ) -> Result<Part, Unserved> {
        let route = self.route(request, wishes, &conditions.demand)?;
        let asked = self.ask_each(request, &route, conditions, started).await;
        asked.map_err(|error| error.of(route.id))
    }

    /// The same of a route, in its order; of one that is slow to begin the next
    /// is asked beside it. Boxed, since the types of all that it awaits are deep.
    pub(crate) fn ask_each<'a>(
        self: &'a Arc<Self>,
        request: &'a Request,
        route: &'a Route,
        conditions: &'a Conditions,
        started: Instant,
    ) -> BoxFuture<'a, Result<Part, InferError>> {
        Box::pin(async move {
            let mut tries = Tries::of(&self.router, route, started);
            let is_out = AtomicBool::new(false);
            let errand = Errand {
                request,
                route: route.id,
                pacing: self.pacing(conditions),
                budget: conditions.budget.as_deref(),
                started,
                is_out: &is_out,
            };
            let ask = |candidate| tried(self, candidate, errand);
            let mut asking = FuturesUnordered::new();
            let mut slow: Option<(&Candidate, Instant)> = None;
            loop {
                if asking.is_empty() {
                    let Some(candidate) = tries.another() else {
                        break;
                    };
                    let provider = candidate.seller.address;
                    let patience = self.router.patience(provider).hedge_after;
                    let until = Instant::now() + patience.max(HEDGE_AFTER_MIN);
                    slow = Some((candidate, until));
                    is_out.store(false, Ordering::Relaxed);
                    asking.push(ask(candidate));
                }
                let slow_at = slow.map_or(started, |(_, until)| until);
                let (candidate, begun) = tokio::select! {
                    biased;
                    Some(ended) = asking.next() => ended,
                    () = tokio::time::sleep_until(slow_at), if slow.is_some() => {
                        let Some((candidate, _)) = slow.take() else { continue };
                        let is_slow = is_out.load(Ordering::Relaxed);
                        asking.extend(tries.beside(candidate, is_slow).map(ask));
                        continue;
                    }
                };
                let provider = candidate.seller.address;
                match begun {
                    Ok(part) => {
                        tries.ended(provider, Ending::Answered, None);
                        self.stand_by(route, provider);
                        return Ok(part);
                    }
                    Err(Attempt::Final(error)) => {
                        tries.ended(provider, Ending::Refused, Some(error.kind()));
                        return Err(error);
                    }
                    Err(Attempt::Elsewhere { error, busy }) => {
                        tries.brought_nothing(provider, error, busy);
                    }
                }
            }
            Err(tries
                .best()
                .unwrap_or_else(|| self.nobody(&route.models[0])))
        })
    }

    /// Whom to ask, or why nobody.
    pub(crate) fn route(
        &self,
        request: &Request,
        wishes: &routing::Wishes,
        demand: &Demand,
    ) -> Result<Route, Unserved> {
        let snapshot = self.snapshot();
        let now = self.now();
        let mut route = self.router.route(&snapshot, request, wishes, demand, now);
        match route.fault(&snapshot, |model| self.nobody(model)) {
            Some(error) => Err(error.of(route.id)),
            None => Ok(route),
        }
    }

    fn nobody(&self, model: &str) -> InferError {
        InferError::NobodyThere {
            model: model.to_owned(),
            shortage: self.paths.shortage(),
        }
    }

    /// What is proved about an answer by this offer.
    pub(crate) fn labels(&self, offer: &Offer) -> Labels {
        Labels {
            network: self.paths.network(),
            payer: self.policy.payer,
            upstream: catalog::upstream(offer),
        }
    }

    /// Whether somebody is to stand by.
    pub(crate) fn has_standby(&self) -> bool {
        self.policy.standby
    }

    /// At what pace a request travels.
    pub(crate) fn pacing(&self, conditions: &Conditions) -> Pacing {
        conditions.pacing.unwrap_or(self.policy.pacing)
    }

    /// The market as last seen.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    pub(crate) fn domain(&self) -> market::Domain {
        self.ledger.domain()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn new_request_id(&self) -> RequestId {
        RequestId(rand::random::<[u8; 16]>().into())
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<AnswerView>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the figures of an answer. `spoke`: how many tokens came after the first piece,
    /// in what time.
    pub(crate) async fn remember(
        &self,
        summary: &Summary,
        candidate: &Candidate,
        (route, spoke): (RouteId, Option<(u32, Duration)>),
    ) {
        if summary.outcome != Outcome::Failed {
            self.router.answered(summary.provider, spoke);
        }
        let view = AnswerView {
            request: summary.request,
            model: candidate.offer.name.clone(),
            provider: summary.provider,
            at: self.now(),
            input_tokens: summary.input_tokens,
            output_tokens: summary.output_tokens,
            cost: summary.cost,
            token: summary.token,
            outcome: Some(summary.outcome),
            ttft_ms: summary.ttft_ms,
            duration_ms: summary.duration_ms,
            token_us: summary.token_us,
            labels: Some(summary.labels),
            route: Some(route),
        };
        let payload = serde_json::to_vec(&view).expect("a view has only string keys");
        {
            let mut recent = self.recent();
            if recent.len() == ANSWERS_KEPT {
                recent.pop_front();
            }
            recent.push_back(view);
        }
        let written = entry("answer", Some(summary.request.to_string()), payload);
        if let Err(error) = self.store.journal(ANSWERS).append(vec![written]).await {
            warn!(%error, "figures of an answer not kept");
        }
    }

    /// Asks for a missing receipt until it comes, or the next request does it.
    pub(crate) async fn mend(&self, seller: &Seller, channel: &Channel) {
        channel.missing.some();
        for wait in MEND_AFTER {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match reconcile(&self.paths, seller, channel, self.now()).await {
                Ok(()) => return,
                Err(error) => debug!(%error, "receipt still missing"),
            }
        }
    }

    fn models(&self) -> Vec<ModelView> {
        let snapshot = self.snapshot();
        let now = self.now();
        let mut views = Vec::new();
        for name in snapshot.names_on_offer(&[]) {
            let named = snapshot.names.iter().filter(|(_, other)| **other == name);
            let ids: Vec<_> = named.map(|(id, _)| *id).collect();
            let seen_at = ids
                .iter()
                .filter_map(|id| snapshot.seen_at.get(id))
                .min()
                .copied();
            let look_alikes = snapshot.look_alikes.get(&name);
            for entry in self.router.entries(&snapshot, &name) {
                let listed = self.router.offers(&snapshot, &entry, now);
                let card = listed.iter().find_map(|listed| listed.offer.card.clone());
                let offers = listed.into_iter().map(|listed| self.offer_view(listed));
                views.push(ModelView {
                    name: entry,
                    ids: ids.clone(),
                    seen_at: seen_at.unwrap_or(now),
                    card,
                    look_alike_of: look_alikes.cloned().unwrap_or_default(),
                    offers: offers.collect(),
                });
            }
        }
        views
    }

    fn offer_view(&self, listed: Listed) -> OfferView {
        let Listed {
            seller,
            offer,
            payable,
            ..
        } = listed;
        let paid_in_another = || {
            let token = offer.quote.token;
            let mut accepted = self.policy.accepted.iter();
            let known = accepted.find(|one| one.token == token);
            let symbol = known.map(|_| self.policy.symbol(token));
            (!payable).then(|| other_token(token, symbol.as_deref()))
        };
        let problem = seller.problem.clone().or_else(paid_in_another);
        OfferView {
            provider: seller.address,
            registered: seller.registered,
            endpoint: seller.endpoint.clone(),
            token: offer.quote.token,
            rates: offer.quote.rates,
            context_length: offer.context_length,
            output_tokens_max: offer.output_tokens_max,
            labels: self.labels(&offer),
            card: offer.card_id(),
            parameters: offer.parameters,
            upstream: offer.upstream,
            live: listed.live,
            full: listed.full,
            ttft_ms: listed.ttft_ms,
            running: listed.running,
            problem,
        }
    }
}
