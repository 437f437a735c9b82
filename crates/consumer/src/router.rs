//! Which provider to ask: what the catalog has and what was seen of providers,
//! as the rule in crate `routing` wants it.
//!
//! This is the rule's memory within a node: what is known of providers, who
//! answers in which conversation, why the last requests went where they went.
//! All of it is gone when the node stops. The rule itself is pure and not here.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use market::{
    Accepted, Address, Amount, Asked, ChannelTerms, Demand, InputBound, Kind, Labels, Load, Moment,
    Network, Offer, Payer, Quote, Rates, Tender, Timestamp, UsdRates,
};
use openai::{BadRequest, Request};
use routing::{
    Choice, Defaults, Knowledge, Listing, Names, Operator, Patience, Preferences, Quantization,
    Rule, Shelf, Wanted, Wishes, Worth, choose,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::catalog::{self, CardChoice, Resolved, Seller, Several, Snapshot};
use crate::error::InferError;
use crate::misfits::{Unfit, too_long, unfit, unmet};
use crate::routes::{AskedView, ChoiceView, Ending, HostView, RouteId, RouteView, Routes};

/// Models whose offers are kept arranged.
const STANDS_MAX: usize = 1024;
/// Conversations that are remembered.
const CONVERSATIONS_KEPT: usize = 4096;

/// An offer in its place in the list.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) seller: Arc<Seller>,
    pub(crate) offer: Offer,
}

impl Candidate {
    /// What a channel for it must look like.
    pub(crate) fn terms(&self) -> ChannelTerms {
        self.seller.terms(&self.offer)
    }
}

/// The offers of one model, arranged for the rule.
#[derive(Debug)]
struct Stand {
    shelf: Shelf,
    /// In the order of the shelf.
    offers: Vec<(Arc<Seller>, Offer)>,
    /// Those of them that are not their provider's only node.
    hosts: Vec<HostView>,
    /// The cards among which nobody chose; the shelf is empty then.
    several: Option<Several>,
}

/// A conversation as this node knows it: a hash with a key of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Conversation(u64);

/// Whom to ask for a request.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    /// The models that the request names, in order.
    pub(crate) models: Vec<String>,
    /// Those to ask of each model that is on offer.
    pub(crate) candidates: Vec<Vec<Candidate>>,
    /// A model of which it is not said which card is meant, and the cards.
    pub(crate) ambiguous: Option<(String, Vec<CardChoice>)>,
    /// Labels that fall short, where that is why nobody is left.
    pub(crate) unmet: Option<(&'static str, &'static str)>,
    /// Why nobody is left, if other wishes are why.
    pub(crate) unfit: Option<Unfit>,
    /// The longest answer that was asked for, and the longest on sale, where that is why nobody is left.
    pub(crate) too_long: Option<(u32, u32)>,
    /// What is wanted of them.
    pub(crate) kind: Kind,
    conversation: Option<Conversation>,
}

impl Route {
    fn new(request: &Request, wishes: &Wishes, conversation: Option<Conversation>) -> Self {
        Self {
            id: RouteId::new(rand::random()),
            models: wishes.models.clone(),
            candidates: Vec::new(),
            ambiguous: None,
            unmet: None,
            unfit: None,
            too_long: None,
            kind: kind_of(request),
            conversation,
        }
    }

    /// Who is asked, one after the other.
    pub(crate) fn in_order(&self) -> VecDeque<&Candidate> {
        let each = self.candidates.iter();
        each.flat_map(|ranked| ranked.iter().take(ATTEMPTS))
            .collect()
    }

    /// Why nobody is to be asked; none if somebody is. `nobody`: says it of
    /// models that are known and not to be had.
    pub(crate) fn fault(
        &mut self,
        snapshot: &Snapshot,
        nobody: impl Fn(&str) -> InferError,
    ) -> Option<InferError> {
        if let Some((model, choices)) = self.ambiguous.take() {
            return Some(InferError::Ambiguous { model, choices });
        }
        if !self.candidates.is_empty() {
            return None;
        }
        let model = self.models.join(", ");
        if let Some((demanded, offered)) = self.unmet {
            return Some(InferError::Demand {
                model,
                demanded,
                offered,
            });
        }
        if let Some((asked, most)) = self.too_long {
            return Some(InferError::TooLong { model, asked, most });
        }
        if let Some(Unfit { reasons, is_wished }) = self.unfit.take() {
            return Some(InferError::NobodyFits {
                model,
                reasons,
                is_wished,
            });
        }
        let asked = self.kind;
        let other = |model: &String| snapshot.other_kind(model, asked);
        if let Some(is) = self.models.iter().find_map(other) {
            return Some(InferError::OtherKind { model, is, asked });
        }
        let known = |model: &String| snapshot.may_come(model);
        Some(match self.models.iter().any(known) {
            true => nobody(&model),
            false => InferError::UnknownModel {
                model,
                known: snapshot.names_on_offer(&self.models),
            },
        })
    }
}

/// Time spent on a provider by one request; ends when this is dropped.
pub(crate) struct Asking {
    router: Arc<Router>,
    provider: Address,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.router.state().knowledge.ended(self.provider);
    }
}

struct State {
    usd_rates: watch::Receiver<UsdRates>,
    /// By the rates as they are now.
    tender: Tender,
    names: Names,
    knowledge: Knowledge,
    stands: HashMap<Option<Kind>, HashMap<String, Arc<Stand>>>,
    /// What the stands were made from.
    snapshot: Arc<Snapshot>,
    conversations: HashMap<Conversation, Address>,
    /// The same, in the order in which they began.
    begun: VecDeque<Conversation>,
    routes: Routes,
}

/// Chooses providers and remembers how they did.
pub(crate) struct Router {
    network: Network,
    payer: Payer,
    /// The tokens that are paid with.
    accepted: Vec<Accepted>,
    worth: Worth,
    start: Instant,
    key: RandomState,
    state: Mutex<State>,
}

/// Providers asked for one request, of each model that it names.
const ATTEMPTS: usize = 8;

impl Router {
    pub(crate) fn new(
        network: Network,
        payer: Payer,
        accepted: Vec<Accepted>,
        mut usd_rates: watch::Receiver<UsdRates>,
    ) -> Arc<Self> {
        let tender = Tender::new(&accepted, &usd_rates.borrow_and_update());
        let state = State {
            usd_rates,
            tender,
            names: Names::default(),
            knowledge: Knowledge::default(),
            stands: HashMap::new(),
            snapshot: Arc::default(),
            conversations: HashMap::new(),
            begun: VecDeque::new(),
            routes: Routes::default(),
        };
        Arc::new(Self {
            network,
            payer,
            accepted,
            worth: Worth::default(),
            start: Instant::now(),
            key: RandomState::new(),
            state: Mutex::new(state),
        })
    }

    /// What providers are called from now on.
    pub(crate) fn set_names(&self, names: Names) {
        self.state().names = names;
    }

    /// What a request says of routing.
    pub(crate) fn wishes(
        &self,
        request: &Request,
        defaults: &Defaults,
    ) -> Result<Wishes, BadRequest> {
        let (provider, models) = (request.field("provider"), request.field("models"));
        let state = self.state();
        let over = (defaults, &state.tender, &state.names);
        Wishes::read(request.model(), provider, models, over).map_err(|error| BadRequest {
            field: error.field,
            problem: error.problem,
        })
    }

    /// Whom to ask for a request, and keeps why.
    pub(crate) fn route(
        &self,
        snapshot: &Arc<Snapshot>,
        request: &Request,
        wishes: &Wishes,
        demand: &Demand,
        wall: Timestamp,
    ) -> Route {
        let conversation = self.conversation(request);
        let parameters = request.parameters();

        let mut state = self.state();
        let stick_to = conversation.and_then(|known| state.conversations.get(&known).copied());
        let mut route = Route::new(request, wishes, conversation);
        let (mut choices, mut hosts) = (Vec::new(), Vec::new());
        for model in &wishes.models {
            let stand = self.stand(&mut state, snapshot, (model, Some(route.kind)));
            hosts.extend_from_slice(&stand.hosts);
            if let Some(several) = &stand.several {
                route.ambiguous = Some((model.clone(), several.cards.clone()));
                return route;
            }
            let wanted = Wanted {
                model: Asked::read(model).name,
                input_tokens: InputBound::of_body(request.body().len()).estimate,
                texts: u32::try_from(request.texts()).unwrap_or(u32::MAX),
                output_tokens_max: request.max_output_tokens(),
                demand,
                preferences: &wishes.preferences,
                parameters: &parameters,
                stick_to,
                worth: self.worth,
                wall,
            };
            let (seed, now) = (rand::random(), self.now());
            let choice = choose(
                &stand.shelf,
                &state.knowledge,
                &wanted,
                Rule::Cost,
                seed,
                now,
            );
            let ranked = stand.candidates(&choice);
            if ranked.is_empty() {
                route.unmet = route.unmet.or_else(|| unmet(&choice));
                route.too_long = route.too_long.max(too_long(&choice));
                let told = || unfit(&choice, &stand.offers, &state.tender);
                route.unfit = route.unfit.take().or_else(told);
            } else {
                route.candidates.push(ranked);
            }
            choices.push(view(model, choice));
        }
        state.routes.keep(RouteView {
            id: Some(route.id),
            at: wall,
            resumes: None,
            choices,
            hosts,
            asked: Vec::new(),
            notes: Vec::new(),
        });
        route
    }

    /// What would be chosen for a model, without asking anybody.
    pub(crate) fn explain(
        &self,
        snapshot: &Arc<Snapshot>,
        model: &str,
        demand: &Demand,
        wall: Timestamp,
    ) -> RouteView {
        let mut state = self.state();
        let (mut choices, mut hosts, mut notes) = (vec![], vec![], snapshot.notes(model));
        for model in self.entries_of(&mut state, snapshot, model) {
            let stand = self.stand(&mut state, snapshot, (&model, None));
            hosts.extend_from_slice(&stand.hosts);
            let wanted = Wanted {
                model: Asked::read(&model).name,
                input_tokens: InputBound::of_body(0).estimate,
                texts: 1,
                output_tokens_max: None,
                demand,
                preferences: &Preferences::default(),
                parameters: &[],
                stick_to: None,
                worth: self.worth,
                wall,
            };
            let (seed, now) = (rand::random(), self.now());
            let knowledge = &state.knowledge;
            let choice = choose(&stand.shelf, knowledge, &wanted, Rule::Cost, seed, now);
            notes.extend(snapshot.unreached(&choice));
            choices.push(view(&model, choice));
        }
        RouteView {
            id: None,
            at: wall,
            resumes: None,
            choices,
            hosts,
            asked: Vec::new(),
            notes,
        }
    }

    /// Why a request went where it went, if that is still known.
    pub(crate) fn found(&self, id: RouteId) -> Option<RouteView> {
        self.state().routes.find(id).cloned()
    }

    /// The offers of one model: those with its card first, of them those that
    /// can be asked, then by price.
    pub(crate) fn offers(
        &self,
        snapshot: &Arc<Snapshot>,
        model: &str,
        wall: Timestamp,
    ) -> Vec<Listed> {
        let now = self.now();
        let mut state = self.state();
        let stand = self.stand(&mut state, snapshot, (model, None));
        let tender = &state.tender;
        let input = InputBound::of_body(0).estimate;
        let mut listed: Vec<_> = stand
            .offers
            .iter()
            .enumerate()
            .filter(|(_, (seller, offer))| seller.key.is_some() && wall < offer.quote.expires_at)
            .filter_map(|(place, (seller, offer))| {
                let output = Wanted::TYPICAL_OUTPUT_TOKENS;
                let rates = compared(tender, offer).unwrap_or(offer.quote.rates);
                let payable = tender.takes(offer.quote.token);
                let price = rates.cost(input, output).ok()?;
                let seen = state.knowledge.seen(&seller.address);
                let listing = stand.shelf.at(place);
                let load = listing.and_then(|listing| state.knowledge.load(listing, now));
                let is_out = seen.is_some_and(|seen| {
                    seen.breaker().shut_until(now).is_some() || seen.busy_until(now).is_some()
                });
                let listed = Listed {
                    seller: Arc::clone(seller),
                    offer: offer.clone(),
                    live: !is_out && seller.problem.is_none() && payable,
                    payable,
                    full: load.is_some_and(|load| load.wait_ms.is_none()),
                    ttft_ms: seen.and_then(routing::Seen::first_median_ms),
                    running: seen.map_or(0, routing::Seen::running),
                };
                Some((stand.shelf.is_spare(place), price, listed))
            })
            .collect();
        listed.sort_by_key(|(spare, price, listed): &(bool, Amount, Listed)| {
            let Listed { seller, .. } = listed;
            (*spare, !listed.live, *price, listed.running, seller.address)
        });
        listed.into_iter().map(|(_, _, listed)| listed).collect()
    }

    /// Every text that means offers of this name which are taken for one
    /// another: the name itself, or one for each card.
    pub(crate) fn entries(&self, snapshot: &Arc<Snapshot>, model: &str) -> Vec<String> {
        self.entries_of(&mut self.state(), snapshot, model)
    }

    fn entries_of(&self, state: &mut State, snapshot: &Arc<Snapshot>, model: &str) -> Vec<String> {
        match &self.stand(state, snapshot, (model, None)).several {
            Some(several) => several.entries(),
            None => vec![model.to_owned()],
        }
    }

    /// A request came.
    pub(crate) fn requested(&self) {
        self.state().knowledge.requested();
    }

    /// Whether another provider may be asked after one whose work is lost, or
    /// beside one that is slow.
    pub(crate) fn may_retry(&self) -> bool {
        self.state().knowledge.may_retry()
    }

    /// How long to wait for a provider.
    pub(crate) fn patience(&self, provider: Address) -> Patience {
        self.state().knowledge.patience(&provider)
    }

    /// A provider is asked; it is until the value is dropped.
    pub(crate) fn asking(self: &Arc<Self>, candidate: &Candidate) -> Asking {
        let provider = candidate.seller.address;
        let mut state = self.state();
        state.knowledge.begun(provider);
        Asking {
            router: Arc::clone(self),
            provider,
        }
    }

    /// It took the request so long after it was sent.
    pub(crate) fn taken(&self, provider: Address, after: Duration) {
        self.state().knowledge.taken(provider, after);
    }

    /// Its first piece came so long after the request was sent.
    pub(crate) fn first(&self, candidate: &Candidate, after: Duration) {
        let (now, provider) = (self.now(), candidate.seller.address);
        let model = &candidate.offer.name;
        self.state().knowledge.first(model, provider, after, now);
    }

    /// Its answer is complete; so many tokens came after the first piece, within this time,
    /// if that was measured.
    pub(crate) fn answered(&self, provider: Address, spoke: Option<(u32, Duration)>) {
        let (now, mut state) = (self.now(), self.state());
        if let Some((tokens, within)) = spoke {
            state.knowledge.spoke(provider, tokens, within, now);
        }
        state.knowledge.answered(provider);
    }

    /// It failed, before or within an answer.
    pub(crate) fn failed(&self, provider: Address) {
        let now = self.now();
        self.state().knowledge.failed(provider, now);
    }

    /// Its first piece takes at least so long.
    pub(crate) fn slow(&self, provider: Address, wait: Duration) {
        let now = self.now();
        self.state().knowledge.told(provider, wait, now);
    }

    /// It tells of its load; that counts for so long.
    pub(crate) fn told_load(&self, provider: Address, loads: Vec<Load>, good: Duration) {
        let now = self.now();
        let knowledge = &mut self.state().knowledge;
        knowledge.told_load(provider, loads, good, now);
    }

    /// It is busy for about so long.
    pub(crate) fn busy(&self, provider: Address, wait: Duration) {
        let now = self.now();
        self.state().knowledge.busy(provider, wait, now);
    }

    /// Who began to answer is lost within the answer, through its own fault or this node's.
    pub(crate) fn lost(&self, route: RouteId, provider: Address, is_ours: bool) {
        if !is_ours {
            self.failed(provider);
        }
        self.state().routes.lost(route, provider);
    }

    /// This route looks for somebody who goes on with the answer of that one.
    pub(crate) fn resumes(&self, route: &Route, lost: Option<RouteId>) {
        self.state().routes.resumes(route.id, lost);
    }

    /// How asking one of a route's candidates ended.
    pub(crate) fn asked(&self, route: &Route, asked: AskedView) {
        let mut state = self.state();
        state.routes.asked(route.id, asked);
        if let (Some(conversation), Ending::Answered) = (route.conversation, asked.ending) {
            let before = state.conversations.insert(conversation, asked.provider);
            if before.is_none() {
                state.begun.push_back(conversation);
            }
            while state.begun.len() > CONVERSATIONS_KEPT {
                let oldest = state.begun.pop_front();
                oldest.and_then(|oldest| state.conversations.remove(&oldest));
            }
        }
    }

    fn conversation(&self, request: &Request) -> Option<Conversation> {
        let mut hasher = self.key.build_hasher();
        let known = request.hash_opening(&mut hasher);
        known.then(|| Conversation(hasher.finish()))
    }

    /// The offers of a model, those that are for this, if that is said.
    fn stand(
        &self,
        state: &mut State,
        snapshot: &Arc<Snapshot>,
        (model, kind): (&str, Option<Kind>),
    ) -> Arc<Stand> {
        let full = state.stands.values().map(HashMap::len).sum::<usize>() >= STANDS_MAX;
        if full || !Arc::ptr_eq(&state.snapshot, snapshot) {
            state.stands.clear();
            state.snapshot = Arc::clone(snapshot);
        }
        let known = state.stands.get(&kind);
        if let Some(stand) = known.and_then(|stands| stands.get(model)) {
            return Arc::clone(stand);
        }
        let (offers, several) = match snapshot.resolve(model, kind) {
            Resolved::Offers(offers) => (offers, None),
            Resolved::Several(several) => (vec![], Some(several)),
        };
        let tender = &state.tender;
        let listings = offers
            .iter()
            .map(|offer| self.listing(snapshot, tender, offer));
        let stand = Arc::new(Stand {
            shelf: Shelf::new(listings.collect()),
            hosts: hosts(&offers),
            offers,
            several,
        });
        // What nobody sells is not worth a place.
        if !stand.offers.is_empty() || stand.several.is_some() {
            let stands = state.stands.entry(kind).or_default();
            stands.insert(model.to_owned(), Arc::clone(&stand));
        }
        stand
    }

    fn listing(
        &self,
        snapshot: &Snapshot,
        tender: &Tender,
        (seller, offer): &(Arc<Seller>, Offer),
    ) -> Listing {
        let mut parameters = offer.parameters.clone();
        if offer.continues {
            // That is what it has tried: both together.
            let going_on = ["continue_final_message", "add_generation_prompt"];
            parameters.extend(going_on.map(str::to_owned));
        }
        let compared = compared(tender, offer);
        let card = offer.card.as_ref();
        let quantization = card.and_then(|card| card.quantization.as_deref());
        Listing {
            provider: seller.address,
            registered: seller.registered,
            model: offer.model.into(),
            operator: operator(seller),
            stake: snapshot.registry.stake(seller.registered),
            rates: compared.unwrap_or(offer.quote.rates),
            payable: compared.is_some(),
            expires_at: offer.quote.expires_at,
            context_length: offer.context_length,
            output_tokens_max: offer.output_tokens_max,
            labels: Labels {
                network: self.network,
                payer: self.payer,
                upstream: catalog::upstream(offer),
            },
            quantization: quantization.map(Quantization::declared),
            parameters: Some(parameters),
            card: offer.card_id(),
            reachable: seller.key.is_some(),
        }
    }

    fn now(&self) -> Moment {
        Moment::new(self.start.elapsed())
    }

    /// With the rates as they are now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.usd_rates.has_changed().unwrap_or(false) {
            let tender = Tender::new(&self.accepted, &state.usd_rates.borrow_and_update());
            state.tender = tender;
            // What was arranged is in prices of before.
            state.stands.clear();
        }
        state
    }
}

/// An offer's prices as they are compared; none: it is paid in a token that is not paid with.
fn compared(tender: &Tender, offer: &Offer) -> Option<Rates> {
    let Quote { token, rates, .. } = offer.quote;
    let of = |amount| tender.comparable(token, amount);
    Some(Rates {
        input_per_million: of(rates.input_per_million)?,
        output_per_million: of(rates.output_per_million)?,
    })
}

/// What a request wants of a model.
fn kind_of(request: &Request) -> Kind {
    match request {
        Request::Chat(_) => Kind::Chat,
        Request::Embeddings(_) => Kind::Embeddings,
    }
}

/// An offer as it is shown.
pub(crate) struct Listed {
    pub(crate) seller: Arc<Seller>,
    pub(crate) offer: Offer,
    pub(crate) live: bool,
    /// It is paid in a token that is paid with.
    pub(crate) payable: bool,
    /// It says that it takes nothing now.
    pub(crate) full: bool,
    pub(crate) ttft_ms: Option<u64>,
    pub(crate) running: u32,
}

impl Stand {
    /// Those of a choice, in its order.
    fn candidates(&self, choice: &Choice) -> Vec<Candidate> {
        let ranked = choice.ranked.iter();
        ranked.filter_map(|ranked| self.at(ranked.place)).collect()
    }

    fn at(&self, place: usize) -> Option<Candidate> {
        let (seller, offer) = self.offers.get(place)?.clone();
        Some(Candidate { seller, offer })
    }
}

/// Who of those that offer something are not their provider's only node.
fn hosts(offers: &[(Arc<Seller>, Offer)]) -> Vec<HostView> {
    let hosts = offers.iter().map(|(seller, _)| seller);
    let hosts = hosts.filter(|seller| seller.is_host());
    let mut views: Vec<_> = hosts
        .map(|seller| HostView {
            account: seller.address,
            provider: seller.registered,
            endpoint: seller.endpoint.clone(),
        })
        .collect();
    views.dedup();
    views
}

fn view(model: &str, choice: Choice) -> ChoiceView {
    ChoiceView {
        model: model.to_owned(),
        reason: choice.reason(),
        choice,
    }
}

/// What a provider probably fails together with: the network that it is in.
/// Addresses of one machine or a local network tell nothing; there each one
/// stands for itself. Hosts of one provider are one, wherever they are: that
/// of the first of them whose network is known.
fn operator(seller: &Seller) -> Operator {
    let account = || {
        let bytes = seller.registered.as_slice();
        bytes.iter().fold(1 << 63, |sum: u64, byte| {
            sum.rotate_left(7) ^ u64::from(*byte)
        }) | 1 << 63
    };
    let network = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) if !(ip.is_loopback() || ip.is_private() || ip.is_link_local()) => {
            Some(u64::from(ip.to_bits() >> 16))
        }
        IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000 => {
            Some(1 << 62 | u64::try_from(ip.to_bits() >> 96).unwrap_or_default())
        }
        _ => None,
    };
    let addresses = match seller.beside.is_empty() {
        true => &seller.addresses,
        false => &seller.beside,
    };
    let network = addresses.iter().find_map(network);
    Operator(network.unwrap_or_else(account))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use market::{B256, Domain, LedgerError, ModelId, NodeKey, UsdRate};
    use openai::{ChatRequest, EmbeddingsRequest};
    use routing::{Misfit, Seen};
    use seal::{EpochKey, EpochKeys, Identity};
    use std::collections::BTreeMap;
    use store::AppendError;

    use super::*;
    use crate::attempt::Attempt;
    use crate::catalog::tests;
    use crate::payer::KeysError;
    use crate::routes::Turn;
    use crate::session::SessionError;
    use crate::tries::Tries;

    const NOW: Timestamp = Timestamp(1000);

    fn key(provider: Address) -> Arc<EpochKey> {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::ZERO,
        };
        let node = NodeKey::from_bytes(&[1; 32]);
        let keys = EpochKeys::new(Identity { domain, provider }, &node, NOW);
        Arc::new(
            keys.record()
                .open(node.id(), provider, &domain, NOW)
                .unwrap(),
        )
    }

    fn seller(n: u8, price: u128) -> (Address, Arc<Seller>) {
        let address = Address::repeat_byte(n);
        let rate = Amount::new(price * 1_000_000_000_000_000_000);
        let quote = Quote {
            token: Address::ZERO,
            rates: Rates {
                input_per_million: rate,
                output_per_million: rate,
            },
            expires_at: NOW.after_s(10),
        };
        let offer = tests::offer(ModelId(B256::ZERO), "m", quote);
        let seller = Seller {
            key: Some(key(address)),
            addresses: vec!["127.0.0.1:1".parse().unwrap()],
            ..tests::seller(address, vec![offer])
        };
        (address, Arc::new(seller))
    }

    fn snapshot() -> Arc<Snapshot> {
        Arc::new(Snapshot {
            registry: Arc::default(),
            names: [(ModelId(B256::ZERO), "m".to_owned())].into(),
            seen_at: BTreeMap::new(),
            sellers: [seller(1, 90), seller(2, 10), seller(3, 40)].into(),
            look_alikes: BTreeMap::new(),
        })
    }

    fn router() -> Arc<Router> {
        let accepted = vec![accepted(Address::ZERO, 18)];
        let (_, none) = watch::channel(UsdRates::default());
        Router::new(Network::Oblivious, Payer::Pseudonym, accepted, none)
    }

    fn accepted(token: Address, decimals: u8) -> Accepted {
        Accepted {
            token,
            decimals,
            names: vec![token.to_string()],
        }
    }

    /// A question with these further fields.
    fn question(fields: &str) -> Request {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}]{fields}}}"#);
        ChatRequest::parse(Bytes::from(body)).unwrap().into()
    }

    fn routed(router: &Router, fields: &str, demand: &str, wall: Timestamp) -> Route {
        let request = question(fields);
        let wishes = router.wishes(&request, &Defaults::default()).unwrap();
        router.route(
            &snapshot(),
            &request,
            &wishes,
            &demand.parse().unwrap(),
            wall,
        )
    }

    /// Who is asked, in order, when sorted by price.
    fn asked(router: &Router, fields: &str, wall: Timestamp) -> Vec<u8> {
        let fields = format!(r#","provider":{{"sort":"price"{fields}}}"#);
        let route = routed(router, &fields, "", wall);
        let candidates = route.candidates.iter().flatten();
        candidates
            .map(|candidate| candidate.seller.address[0])
            .collect()
    }

    #[test]
    fn what_is_in_the_catalog_is_asked_in_order_and_an_expired_quote_is_not() {
        let router = router();
        assert_eq!(asked(&router, "", NOW), [2, 3, 1]);
        let ignoring = format!(r#","ignore":["{}"]"#, Address::repeat_byte(3));
        assert_eq!(asked(&router, &ignoring, NOW), [2, 1]);
        assert!(asked(&router, "", NOW.after_s(10)).is_empty());
    }

    #[test]
    fn who_is_busy_or_failed_comes_last() {
        let router = router();
        router.busy(Address::repeat_byte(2), Duration::from_secs(5));
        router.failed(Address::repeat_byte(3));
        assert_eq!(asked(&router, "", NOW), [1, 2, 3]);
        let offers = router.offers(&snapshot(), "m", NOW);
        let shown: Vec<_> = offers
            .iter()
            .map(|it| (it.seller.address[0], it.live))
            .collect();
        assert_eq!(shown, [(1, true), (2, false), (3, false)]);
    }

    /// What this node cannot pay for, in so many ways.
    fn unpaid(provider: Address) -> Vec<InferError> {
        let [needed, none] = ["1 MOR", "0 MOR"].map(str::to_owned);
        let causes: [SessionError; 5] = [
            SessionError::Insufficient {
                owner: Address::repeat_byte(9),
                has: none.clone(),
                needed: needed.clone(),
                lacking: needed.clone(),
            },
            LedgerError::Unreachable("no answer".into()).into(),
            SessionError::OverLimit {
                needed,
                allowed: none,
            },
            KeysError::Missing {
                number: 1,
                source: "no room".into(),
            }
            .into(),
            AppendError::Closed.into(),
        ];
        let error = |cause| match Attempt::unpayable(provider, cause) {
            Attempt::Elsewhere { error, .. } | Attempt::Final(error) => error,
        };
        causes.map(error).into()
    }

    #[test]
    fn what_this_node_cannot_pay_leaves_the_offer_as_it_was() {
        let router = router();
        let route = || routed(&router, r#","provider":{"sort":"price"}"#, "", NOW);
        let cheapest = Address::repeat_byte(2);
        let now_failed = |error: InferError| {
            let route = route();
            let mut tries = Tries::of(&router, &route, router.start);
            let first = tries.another().unwrap();
            let asking = router.asking(first);
            tries.brought_nothing(first.seller.address, error, None);
            drop(asking);
            let mut others = 0;
            while let Some(next) = tries.another() {
                let error = unpaid(next.seller.address).remove(0);
                tries.brought_nothing(next.seller.address, error, None);
                others += 1;
            }
            (first.seller.address, others)
        };
        for error in unpaid(cheapest).into_iter().chain(unpaid(cheapest)) {
            assert_eq!(now_failed(error), (cheapest, 2));
            let offers = router.offers(&snapshot(), "m", NOW);
            assert!(offers.iter().all(|offer| offer.live));
            let state = router.state();
            let seen = state.knowledge.seen(&cheapest).unwrap();
            assert_eq!((seen.breaker().failures(), seen.running()), (0, 0));
            assert_eq!(seen.quality_permille(), Seen::default().quality_permille());
        }
        // The contract may refuse what the provider's terms say.
        let reason = "DelayTooLong".to_owned();
        let refused = SessionError::from(LedgerError::Refused { reason });
        let Attempt::Elsewhere { error, .. } = Attempt::unpayable(cheapest, refused) else {
            panic!("another one may do better");
        };
        now_failed(error);
        let offers = router.offers(&snapshot(), "m", NOW);
        assert!(!offers.last().unwrap().live);
        assert_eq!(offers.last().unwrap().seller.address, cheapest);
    }

    #[test]
    fn prices_in_two_tokens_compare_by_their_rates_and_a_third_is_not_asked() {
        let usd = Address::repeat_byte(0xdd);
        let other = Address::repeat_byte(0xee);
        let rates = [(Address::ZERO, 18, 2_000_000), (usd, 6, 1_000_000)];
        let usd_rates = UsdRates::new(
            rates
                .map(|(token, decimals, micro_usd)| UsdRate {
                    token,
                    decimals,
                    micro_usd,
                    source: "a test".into(),
                    at: None,
                })
                .into(),
        );
        let tokens = rates.map(|(token, decimals, _)| accepted(token, decimals));
        let (told, rates) = watch::channel(usd_rates.clone());
        let router = Router::new(Network::Oblivious, Payer::Pseudonym, tokens.into(), rates);
        // 10 MOR, 40 MOR, and 50 dollars, which are 25 MOR; the last asks next to nothing, in what nobody knows.
        let priced = |n: u8, price: u128, token| {
            let (address, seller) = seller(n, 1);
            let mut seller = Seller::clone(&seller);
            let rate = Amount::new(price);
            seller.offers[0].quote.token = token;
            seller.offers[0].quote.rates = Rates {
                input_per_million: rate,
                output_per_million: rate,
            };
            (address, Arc::new(seller))
        };
        const ONE: u128 = 1_000_000_000_000_000_000;
        let snapshot = Arc::new(Snapshot {
            sellers: [
                priced(1, 10 * ONE, Address::ZERO),
                priced(2, 40 * ONE, Address::ZERO),
                priced(3, 50_000_000, usd),
                priced(4, 1, other),
            ]
            .into(),
            ..Snapshot::clone(&snapshot())
        });
        let offers = router.offers(&snapshot, "m", NOW);
        let shown: Vec<_> = offers
            .iter()
            .map(|it| (it.seller.address[0], it.live))
            .collect();
        assert_eq!(shown, [(1, true), (3, true), (2, true), (4, false)]);
        // A rate that is not known any more takes its token off, one that changed moves it.
        let now = |known: Vec<UsdRate>| {
            told.send_replace(UsdRates::new(known));
            let offers = router.offers(&snapshot, "m", NOW);
            offers
                .iter()
                .filter(|it| it.live)
                .map(|it| it.seller.address[0])
                .collect::<Vec<_>>()
        };
        let [mor, dollar] = usd_rates.rates() else {
            panic!("two rates");
        };
        assert_eq!(now(vec![mor.clone()]), [1, 2]);
        let dearer = UsdRate {
            micro_usd: 20_000_000,
            ..mor.clone()
        };
        assert_eq!(now(vec![dearer, dollar.clone()]), [3, 1, 2]);
        assert_eq!(now(vec![mor.clone(), dollar.clone()]), [1, 3, 2]);
        let request = question("");
        let wishes = router.wishes(&request, &Defaults::default()).unwrap();
        let route = router.route(&snapshot, &request, &wishes, &Demand::default(), NOW);
        let asked = route.candidates.iter().flatten();
        assert!(
            asked
                .clone()
                .all(|candidate| candidate.seller.address[0] != 4)
        );
        assert_eq!(asked.count(), 3);
        let told = router.found(route.id).unwrap();
        let unfit = &told.choices[0].choice.unfit;
        assert_eq!(unfit.len(), 1);
        assert_eq!(unfit[0].misfit, Misfit::OtherToken);
    }

    /// The usual offers, of these names and with these cards.
    fn carded(offers: &[(u8, &str, Option<&str>)]) -> Arc<Snapshot> {
        let (mut names, mut sellers) = (BTreeMap::new(), BTreeMap::new());
        for (n, name, quantization) in offers {
            let (address, seller) = seller(*n, u128::from(*n));
            let mut seller = Seller::clone(&seller);
            let model = ModelId(B256::repeat_byte(*n));
            names.insert(model, (*name).to_owned());
            let card = quantization.map(|quantization| {
                let text = format!(r#"{{"repo":"a/b","quantization":"{quantization}"}}"#);
                market::Card::read(&text).unwrap()
            });
            seller.offers[0] = Offer {
                model,
                name: (*name).to_owned(),
                card,
                parameters: vec!["top_p".into()],
                ..seller.offers[0].clone()
            };
            sellers.insert(address, Arc::new(seller));
        }
        Arc::new(Snapshot {
            names,
            sellers,
            ..Snapshot::default()
        })
    }

    /// Who is asked for a model, in order; or by which names they could be.
    fn meant(snapshot: &Arc<Snapshot>, model: &str, fields: &str) -> Result<Vec<u8>, Vec<String>> {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"q"}}]{fields}}}"#
        );
        let request = ChatRequest::parse(Bytes::from(body)).unwrap().into();
        let router = router();
        let wishes = router.wishes(&request, &Defaults::default()).unwrap();
        let route = router.route(snapshot, &request, &wishes, &Demand::default(), NOW);
        if let Some((_, choices)) = route.ambiguous {
            return Err(choices.into_iter().map(|choice| choice.model).collect());
        }
        let candidates = route.candidates.iter().flatten();
        Ok(candidates.map(|it| it.seller.address[0]).collect())
    }

    const BY_PRICE: &str = r#","provider":{"sort":"price"}"#;

    #[test]
    fn one_card_goes_before_none_and_of_several_one_must_be_named() {
        let one = carded(&[
            (1, "m", None),
            (2, "m", Some("int8")),
            (3, "m", Some("int8")),
        ]);
        assert_eq!(meant(&one, "m", BY_PRICE), Ok(vec![2, 3, 1]));
        let none = carded(&[(2, "m", None), (1, "m", None)]);
        assert_eq!(meant(&none, "m", BY_PRICE), Ok(vec![1, 2]));

        let several = [
            (1, "m", None),
            (2, "m", Some("int8")),
            (3, "m", Some("fp8")),
            (4, "n", None),
        ];
        let several = carded(&several);
        let names = meant(&several, "m", BY_PRICE).unwrap_err();
        assert_eq!(names.len(), 2);
        let mut asked = Vec::new();
        for name in &names {
            let digits = name.strip_prefix("m@").unwrap();
            assert_eq!(digits.len(), 12);
            asked.extend(meant(&several, name, BY_PRICE).unwrap());
            let short = format!("m@{}:floor", digits[..8].to_uppercase());
            assert_eq!(meant(&several, &short, ""), meant(&several, name, BY_PRICE));
        }
        asked.sort_unstable();
        assert_eq!(asked, [2, 3]);
        assert_eq!(meant(&several, "m@cardless", ""), Ok(vec![1]));
        assert_eq!(meant(&several, "m@0123456789ab", ""), Ok(vec![]));
        let second = r#","models":["m"]"#;
        assert_eq!(meant(&several, "n", second), Err(names));
        // By the registry's id it is one model, and one offer.
        let id = ModelId(B256::repeat_byte(3)).to_string();
        assert_eq!(meant(&several, &id, ""), Ok(vec![3]));
    }

    /// The usual offers, of one name, with and without a card for embeddings.
    fn two_kinds() -> Arc<Snapshot> {
        let snapshot = carded(&[
            (1, "m", None),
            (2, "m", Some("int8")),
            (3, "m", Some("int8")),
            (4, "chat", None),
        ]);
        let mut snapshot = Snapshot::clone(&snapshot);
        for n in [2, 3] {
            let address = Address::repeat_byte(n);
            let mut seller = Seller::clone(&snapshot.sellers[&address]);
            let text = r#"{"repo":"a/b","modality":"text->embeddings"}"#;
            seller.offers[0].card = Some(market::Card::read(text).unwrap());
            snapshot.sellers.insert(address, Arc::new(seller));
        }
        Arc::new(snapshot)
    }

    #[test]
    fn who_makes_embeddings_is_not_asked_for_chat_and_the_other_way_round() {
        let snapshot = two_kinds();
        assert_eq!(meant(&snapshot, "m", BY_PRICE), Ok(vec![1]));
        let embedded = |model: &str| {
            let body = format!(r#"{{"model":"{model}","input":"a"{BY_PRICE}}}"#);
            let request = EmbeddingsRequest::parse(Bytes::from(body)).unwrap().into();
            let router = router();
            let wishes = router.wishes(&request, &Defaults::default()).unwrap();
            router.route(&snapshot, &request, &wishes, &Demand::default(), NOW)
        };
        let candidates = embedded("m").candidates.concat();
        let asked: Vec<_> = candidates.iter().map(|it| it.seller.address[0]).collect();
        assert_eq!(asked, [2, 3], "and nobody without the card");
        let nobody = |_: &str| InferError::Stopping;
        let told = embedded("chat").fault(&snapshot, nobody);
        assert!(
            matches!(
                told,
                Some(InferError::OtherKind {
                    is: Kind::Chat,
                    asked: Kind::Embeddings,
                    ..
                })
            ),
            "{told:?}"
        );
        let told = embedded("absent").fault(&snapshot, nobody);
        assert!(
            matches!(told, Some(InferError::UnknownModel { .. })),
            "{told:?}"
        );
        // In the list they are two.
        assert_eq!(router().entries(&snapshot, "m").len(), 2);
    }

    #[test]
    fn what_a_card_declares_is_what_preferences_find() {
        let offers = carded(&[(1, "m", None), (2, "m", Some("Q8_0"))]);
        let fields = r#","provider":{"quantizations":["int8"]}"#;
        assert_eq!(meant(&offers, "m", fields), Ok(vec![2]));
        let fields = r#","provider":{"quantizations":["unknown"]}"#;
        assert_eq!(meant(&offers, "m", fields), Ok(vec![1]));
        let heeded = r#","top_p":1,"provider":{"require_parameters":true}"#;
        assert_eq!(meant(&offers, "m", heeded), Ok(vec![2, 1]));
        for other in [r#","top_k":1"#, r#","continue_final_message":true"#] {
            let fields = format!(r#"{other},"provider":{{"require_parameters":true}}"#);
            assert_eq!(meant(&offers, "m", &fields), Ok(vec![]), "{other}");
        }
    }

    #[test]
    fn a_look_alike_is_never_answered_for_a_name() {
        let alike = ["LLAMA", "llam\u{430}", "1lama", "Ilama", "lla\u{200b}ma"];
        let offers: Vec<_> = (2..).zip(alike).map(|(n, name)| (n, name, None)).collect();
        let offers = carded(&offers);
        assert_eq!(meant(&offers, "llama", ""), Ok(vec![]));
        for (n, name) in (2..).zip(alike) {
            assert_eq!(meant(&offers, name, ""), Ok(vec![n]), "{name:?}");
        }
    }

    #[test]
    fn an_explanation_has_each_card_and_says_who_has_none() {
        let several = [
            (1, "m", None),
            (2, "m", Some("int8")),
            (3, "m", Some("fp8")),
        ];
        let told = router().explain(&carded(&several), "m", &Demand::default(), NOW);
        assert_eq!(told.choices.len(), 3);
        assert_eq!(told.choices[2].model, "m@cardless");
        assert_eq!(told.choices[2].choice.ranked[0].card, None);
        assert!(
            told.choices[..2]
                .iter()
                .all(|choice| choice.choice.ranked[0].card.is_some())
        );
        assert!(told.notes[0].contains("2 cards"), "{:?}", told.notes);
    }

    #[test]
    fn only_who_has_the_request_is_slow_to_begin() {
        let waits = |is_slow: bool| {
            let router = router();
            let route = routed(&router, "", "", NOW);
            let mut tries = Tries::of(&router, &route, tokio::time::Instant::now());
            let first = tries.another().unwrap();
            assert!(tries.beside(first, is_slow).is_some());
            let told = router.explain(&snapshot(), "m", &Demand::default(), NOW);
            let mut ranked = told.choices[0].choice.ranked.iter();
            let ranked = ranked.find(|one| one.provider == first.seller.address);
            ranked.unwrap().terms.told_us
        };
        assert!(waits(true) > 0);
        assert_eq!(waits(false), 0);
    }

    #[test]
    fn an_explanation_says_why_a_provider_is_not_reached() {
        let mut snapshot = Snapshot::clone(&carded(&[(1, "m", None)]));
        for seller in snapshot.sellers.values_mut() {
            let seller = Arc::make_mut(seller);
            (seller.key, seller.problem) = (None, Some("told by 1 of 2 relays".into()));
        }
        let told = router().explain(&Arc::new(snapshot), "m", &Demand::default(), NOW);
        assert!(
            told.notes[0].ends_with(" is not reached: told by 1 of 2 relays"),
            "{:?}",
            told.notes
        );
    }

    #[test]
    fn a_conversation_stays_with_who_answered_and_its_route_is_found() {
        let router = router();
        let dear = Address::repeat_byte(3);
        let route = routed(&router, "", "", NOW);
        let answered = AskedView {
            provider: dear,
            turn: Turn::First,
            after_ms: 1,
            ending: Ending::Answered,
            problem: None,
        };
        router.asked(&route, answered);
        let found = router.found(route.id).unwrap();
        assert_eq!(found.asked[0].provider, dear);
        assert_eq!(found.choices[0].choice.ranked.len(), 3);
        let json = serde_json::to_string(&found).unwrap();
        assert!(
            !json.contains(r#""q""#) && json.contains("reason"),
            "{json}"
        );
        let again = routed(&router, r#","temperature":0"#, "", NOW);
        assert_eq!(again.candidates[0][0].seller.address, dear);
    }

    #[test]
    fn requests_that_run_are_counted_until_they_end() {
        let router = router();
        let route = routed(&router, "", "", NOW);
        let candidate = &route.candidates[0][0];
        let running = || {
            let offers = router.offers(&snapshot(), "m", NOW);
            offers.iter().map(|offer| offer.running).sum::<u32>()
        };
        let asking = [router.asking(candidate), router.asking(candidate)];
        assert_eq!(running(), 2);
        drop(asking);
        assert_eq!(running(), 0);
    }

    #[test]
    fn an_answer_longer_than_anybody_sells_is_refused_with_the_longest() {
        let limited = [1, 2, 3].map(|n| {
            let (address, seller) = seller(n, 10);
            let mut seller = Arc::into_inner(seller).unwrap();
            seller.offers[0].output_tokens_max = Some(u32::from(n) * 100);
            (address, Arc::new(seller))
        });
        let market = Arc::new(Snapshot {
            sellers: limited.into(),
            ..Arc::into_inner(snapshot()).unwrap()
        });
        let router = router();
        let ask = |tokens: u32| {
            let request = question(&format!(r#","max_tokens":{tokens}"#));
            let wishes = router.wishes(&request, &Defaults::default()).unwrap();
            router.route(&market, &request, &wishes, &"".parse().unwrap(), NOW)
        };
        assert_eq!(ask(250).candidates[0].len(), 1);
        let nobody = |model: &str| InferError::NobodyThere {
            model: model.to_owned(),
            shortage: None,
        };
        let told = ask(1024).fault(&market, nobody).unwrap().to_string();
        let expected =
            "max_tokens: 1024; the longest answer of model \"m\" on the market has 300 tokens";
        assert_eq!(told, expected);
    }

    #[test]
    fn why_nobody_is_left_is_told() {
        let route = routed(&router(), "", "upstream=own-engine", NOW);
        assert_eq!(
            route.unmet,
            Some(("upstream=own-engine", "upstream=third-party"))
        );
        let cap = r#","provider":{"max_price":{"prompt":1}}"#;
        let told = routed(&router(), cap, "", NOW).unfit.unwrap();
        assert!(told.reasons.contains("above the cap"), "{told:?}");
        assert!(told.is_wished);
        let deny = r#","provider":{"data_collection":"deny"}"#;
        assert!(routed(&router(), deny, "", NOW).unmet.is_some());
        let best = question(r#","provider":{"sort":"best"}"#);
        let error = router().wishes(&best, &Defaults::default()).unwrap_err();
        assert_eq!(error.field, "provider.sort");
    }

    #[test]
    fn what_is_the_same_for_several_is_said_once() {
        let told = |router: &Router, fields| routed(router, fields, "", NOW).unfit.unwrap();
        let (_, none) = watch::channel(UsdRates::default());
        let other = vec![accepted(Address::repeat_byte(0xdd), 18)];
        let other = Router::new(Network::Oblivious, Payer::Pseudonym, other, none);
        let expected = Unfit {
            reasons: format!(
                "3 providers: it is paid in token {}, which this node does not pay with (--pay-with)",
                Address::ZERO
            ),
            is_wished: false,
        };
        assert_eq!(told(&other, ""), expected);
        // These differ.
        let told = told(&router(), r#","provider":{"max_price":{"prompt":1}}"#);
        for n in 1..=3 {
            let own = format!("{}: its price of ", Address::repeat_byte(n));
            assert!(told.reasons.contains(&own), "{told:?}");
        }
        assert!(told.is_wished);
    }

    #[test]
    fn who_is_in_one_network_fails_together_but_not_on_one_machine() {
        let at = |n, address: &str| {
            let mut seller = Seller::clone(&seller(n, 1).1);
            seller.addresses = vec![address.parse().unwrap()];
            operator(&seller)
        };
        assert_eq!(at(1, "203.0.113.1:1"), at(2, "203.0.7.9:2"));
        assert_ne!(at(1, "203.0.113.1:1"), at(1, "198.51.100.1:1"));
        assert_ne!(at(1, "127.0.0.1:1"), at(2, "127.0.0.1:1"));
        assert_eq!(at(1, "[2001:db8::1]:1"), at(2, "[2001:db8:0:1::1]:1"));
        let host = |n, own: &str, beside: &[&str]| {
            let mut seller = Seller::clone(&seller(n, 1).1);
            seller.registered = Address::repeat_byte(9);
            seller.addresses = vec![own.parse().unwrap()];
            seller.beside = beside.iter().map(|it| it.parse().unwrap()).collect();
            operator(&seller)
        };
        let both = ["203.0.113.1:1", "198.51.100.1:1"];
        assert_eq!(host(1, both[0], &both), host(2, both[1], &both));
        assert_eq!(host(1, both[0], &both), at(3, "203.0.7.9:2"));
        let here = ["127.0.0.1:1", "127.0.0.1:2"];
        assert_eq!(host(1, here[0], &here), host(2, here[1], &here));
    }
}
