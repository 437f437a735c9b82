//! What is on offer: the registry's providers, each with what it says of
//! itself, checked, as one snapshot that readers share. Of a provider with several
//! hosts each is a seller by itself: what is seen of one says nothing of another.
//!
//! A provider whose description cannot be had keeps its last offers until they
//! expire, marked with the problem, and is asked for again at the next refresh.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use market::{
    Address, Amount, Asked, Card, CardId, Certificate, ChannelTerms, Domain, Host, Kind, Ledger,
    LedgerError, Model, ModelId, NAME_BYTES_MAX, NameFault, NodeId, Offer, Provider, Record,
    Timestamp, Upstream, Which,
};
use routing::{Choice, Misfit};
use seal::EpochKey;
use serde::Serialize;
use tracing::{debug, info};
use transport::NodeAddr;

use crate::descriptions::Known;
use crate::look_alikes::{LookAlikes, is_alike, look_alikes};
use crate::paths::Paths;

/// Bids read at a time.
const READS: usize = 16;
/// Registered names that cannot be offered and are remembered as such.
const FAULTY_MAX: usize = 256;

/// A provider that can be asked: registered, described, checked.
#[derive(Debug, Clone)]
pub(crate) struct Seller {
    /// Its account: the provider's, or that of one of its hosts.
    pub(crate) address: Address,
    /// The account that is registered and paid: the provider's.
    pub(crate) registered: Address,
    /// Where its descriptor is.
    pub(crate) endpoint: String,
    /// Its key on the wire.
    pub(crate) node: NodeId,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The same of all hosts of its provider, in the certificate's order; none: it is the only one.
    pub(crate) beside: Vec<SocketAddr>,
    /// The relays at which it waits, if it cannot be dialled, with their addresses as far as known.
    pub(crate) relays: Vec<NodeAddr>,
    /// Who may claim for it.
    pub(crate) receiver_authorizer: Address,
    /// The shortest withdrawal delay it accepts.
    pub(crate) withdraw_delay_min_s: u64,
    /// When its description was written.
    pub(crate) described_at: Timestamp,
    /// What requests to it are sealed to; none while that is not certain.
    pub(crate) key: Option<Arc<EpochKey>>,
    /// Its offers for models that are registered and that it has a bid on.
    pub(crate) offers: Vec<Offer>,
    /// Why it cannot be asked, or what it says is old, if so.
    pub(crate) problem: Option<String>,
}

impl Seller {
    /// One of which nothing is known.
    fn unknown(host: Host, endpoint: &str) -> Self {
        Self {
            address: host.account,
            registered: host.provider,
            endpoint: endpoint.to_owned(),
            node: NodeId(market::B256::ZERO),
            addresses: vec![],
            beside: vec![],
            relays: vec![],
            receiver_authorizer: Address::ZERO,
            withdraw_delay_min_s: 0,
            described_at: Timestamp(0),
            key: None,
            offers: vec![],
            problem: None,
        }
    }

    /// Whether it is one of several of its provider.
    pub(crate) fn is_host(&self) -> bool {
        self.address != self.registered || !self.beside.is_empty()
    }

    /// Where its node is dialled.
    pub(crate) fn node_addr(&self) -> NodeAddr {
        NodeAddr {
            id: self.node,
            addresses: self.addresses.clone(),
        }
    }

    /// What a channel to it must look like.
    pub(crate) fn terms(&self, offer: &Offer) -> ChannelTerms {
        ChannelTerms {
            receiver: self.registered,
            receiver_authorizer: self.receiver_authorizer,
            token: offer.quote.token,
            withdraw_delay_min_s: self.withdraw_delay_min_s,
        }
    }
}

/// Who makes the tokens of an offer, as declared.
pub(crate) fn upstream(offer: &Offer) -> Upstream {
    Upstream::declared(offer.upstream.as_deref())
}

/// What the registry has.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Names of models.
    names: BTreeMap<ModelId, String>,
    /// Some of the names that are offered to nobody, and why.
    faulty: BTreeMap<String, NameFault>,
    /// Everybody, those who only relay included.
    providers: Vec<Provider>,
    /// The models that each has a bid on.
    bids: BTreeMap<Address, Vec<ModelId>>,
}

impl Registry {
    /// What a provider staked.
    pub(crate) fn stake(&self, provider: Address) -> Amount {
        let mut providers = self.providers.iter();
        let found = providers.find(|registered| registered.address == provider);
        found.map_or(Amount::ZERO, |registered| registered.stake)
    }

    /// Whether it has a bid.
    fn sells(&self, provider: Address) -> bool {
        let bids = self.bids.get(&provider);
        bids.is_some_and(|bids| !bids.is_empty())
    }

    /// Who has no bid sells nothing: to be seen dialling it tells nothing.
    pub(crate) fn relays(&self) -> impl Iterator<Item = &Provider> {
        let all = self.providers.iter();
        all.filter(|provider| !self.sells(provider.address))
    }
}

/// All that is known to be on offer at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// The registry, as last read.
    pub(crate) registry: Arc<Registry>,
    /// Names of registered models.
    pub(crate) names: BTreeMap<ModelId, String>,
    /// When a model's name was first seen here.
    pub(crate) seen_at: BTreeMap<ModelId, Timestamp>,
    /// Those who sell.
    pub(crate) sellers: BTreeMap<Address, Arc<Seller>>,
    /// Names on offer that look like others on offer.
    pub(crate) look_alikes: LookAlikes,
}

/// A card on offer under a name that has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CardChoice {
    /// What a request's `model` says to mean it: `name@3f9a0c41d2e7`.
    pub model: String,
    /// The card.
    pub card: Card,
    /// Who has it.
    pub providers: Vec<Address>,
}

/// What a request's `model` comes to.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// Offers of one card, and of none.
    Offers(Vec<(Arc<Seller>, Offer)>),
    /// Offers of several cards: which ones are meant is not said.
    Several(Several),
}

/// The cards of one name.
#[derive(Debug, Clone)]
pub(crate) struct Several {
    pub(crate) cards: Vec<CardChoice>,
    /// What a request's `model` says to mean the offers without a card, if there are some.
    pub(crate) cardless: Option<String>,
}

impl Several {
    /// Every text that means some of the offers and no others.
    pub(crate) fn entries(&self) -> Vec<String> {
        let cards = self.cards.iter().map(|choice| choice.model.clone());
        cards.chain(self.cardless.clone()).collect()
    }
}

impl Snapshot {
    /// Every name that somebody offers now; instead of it those with a card, where these models
    /// name a card of it that nobody has.
    pub(crate) fn names_on_offer(&self, asked: &[String]) -> Vec<String> {
        let asked = asked.iter().map(|model| Asked::read(model));
        let carded: BTreeSet<&str> = asked
            .filter(|asked| asked.which != Which::Any)
            .map(|asked| asked.name)
            .collect();
        let mut names = Vec::new();
        for name in on_offer(&self.sellers, &self.names) {
            match carded.contains(name) {
                true => names.extend(self.cards_of(name)),
                false => names.push(name.to_owned()),
            }
        }
        names
    }

    /// A name with each of the cards that it is offered with.
    fn cards_of(&self, name: &str) -> BTreeSet<String> {
        let offers = self.offers(Asked::read(name)).into_iter();
        let cards = offers.map(|(_, offer)| match offer.card_id() {
            Some(card) => format!("{name}@{}", card.first(CardId::SHOWN)),
            None => Asked::qualified(name, None),
        });
        cards.collect()
    }

    /// Whether it may be on offer soon: a model of this name is registered, and if a card is named, nobody
    /// has told yet that he sells it with another one.
    pub(crate) fn may_come(&self, model: &str) -> bool {
        let Asked { name, which } = Asked::read(model);
        let is_registered = self.names.values().any(|known| known == name);
        is_registered && (which == Which::Any || self.offers(Asked::read(name)).is_empty())
    }

    /// What is offered under a name, or a model's id in hex. `kind`: only
    /// what is for that; where it is not said, offers of two kinds are told
    /// apart like those of two cards.
    pub(crate) fn resolve(&self, model: &str, kind: Option<Kind>) -> Resolved {
        let asked = Asked::read(model);
        let mut offers = self.offers(asked);
        offers.retain(|(_, offer)| kind.is_none_or(|kind| offer.kind() == kind));
        let mut cards: BTreeMap<CardId, (Card, Vec<Address>)> = BTreeMap::new();
        for (seller, offer) in &offers {
            let Some(card) = &offer.card else { continue };
            let (_, providers) = cards
                .entry(card.id())
                .or_insert_with(|| (card.clone(), vec![]));
            providers.push(seller.address);
        }
        let mut kinds = offers.iter().map(|(_, offer)| offer.kind());
        let first = kinds.next();
        if cards.len() < 2 && kinds.all(|kind| Some(kind) == first) {
            return Resolved::Offers(offers);
        }
        let digits = digits_apart(cards.keys());
        let choice = |(id, (card, mut providers)): (CardId, (Card, Vec<Address>))| {
            providers.dedup();
            CardChoice {
                model: format!("{}@{}", asked.name, id.first(digits)),
                card,
                providers,
            }
        };
        let rest = offers.iter().any(|(_, offer)| offer.card.is_none());
        Resolved::Several(Several {
            cards: cards.into_iter().map(choice).collect(),
            cardless: rest.then(|| Asked::qualified(asked.name, None)),
        })
    }

    /// What else a name is for, if it is not for this.
    pub(crate) fn other_kind(&self, model: &str, kind: Kind) -> Option<Kind> {
        let offers = self.offers(Asked::read(model));
        let mut kinds = offers.iter().map(|(_, offer)| offer.kind());
        let other = kinds.clone().find(|found| *found != kind)?;
        (!kinds.any(|found| found == kind)).then_some(other)
    }

    /// What has to be said of a name beside who offers it.
    pub(crate) fn notes(&self, model: &str) -> Vec<String> {
        const TOLD: usize = 8;
        let name = Asked::read(model).name;
        let mut notes = Vec::new();
        if let Resolved::Several(several) = self.resolve(model, None) {
            let count = several.cards.len();
            notes.push(format!(
                "{count} cards are on offer under this name: it is refused without one of them behind it"
            ));
        }
        for other in self.look_alikes.get(name).into_iter().flatten() {
            notes.push(format!("it looks like {other:?}, which is another model"));
        }
        let faulty = self.registry.faulty.iter();
        let alike = faulty.filter(|(other, _)| *other == name || is_alike(&visible(other), name));
        for (other, fault) in alike.take(TOLD) {
            notes.push(format!("{other:?} is registered and not offered: {fault}"));
        }
        notes
    }

    /// Why providers that would be asked are not reached.
    pub(crate) fn unreached(&self, choice: &Choice) -> Vec<String> {
        let unfit = choice.unfit.iter();
        let unreached = unfit.filter(|unfit| unfit.misfit == Misfit::Unreachable);
        let told = unreached.filter_map(|unfit| {
            let problem = self.sellers.get(&unfit.provider)?.problem.as_ref()?;
            Some(format!("{} is not reached: {problem}", unfit.provider))
        });
        told.collect()
    }

    fn offers(&self, asked: Asked<'_>) -> Vec<(Arc<Seller>, Offer)> {
        let by_id = asked.name.parse::<ModelId>().ok();
        let named = |id: &ModelId| self.names.get(id).is_some_and(|name| name == asked.name);
        let matches = |offer: &&Offer| {
            let is_model = by_id == Some(offer.model) || named(&offer.model);
            is_model && asked.means(offer.card_id())
        };
        let of = |seller: &Arc<Seller>| {
            let found: Vec<_> = seller.offers.iter().filter(matches).cloned().collect();
            found
                .into_iter()
                .map(|offer| (Arc::clone(seller), offer))
                .collect::<Vec<_>>()
        };
        self.sellers.values().flat_map(of).collect()
    }
}

/// The names that somebody offers.
fn on_offer<'a>(
    sellers: &BTreeMap<Address, Arc<Seller>>,
    names: &'a BTreeMap<ModelId, String>,
) -> BTreeSet<&'a str> {
    let offers = sellers.values().flat_map(|seller| &seller.offers);
    let names = offers.filter_map(|offer| names.get(&offer.model));
    names.map(String::as_str).collect()
}

/// How many digits tell these ids apart.
fn digits_apart<'a>(ids: impl Iterator<Item = &'a CardId> + Clone) -> usize {
    const ALL: usize = 64;
    let apart = |digits: &usize| {
        let mut firsts: Vec<_> = ids.clone().map(|id| id.first(*digits)).collect();
        let count = firsts.len();
        firsts.dedup();
        firsts.len() == count
    };
    let mut enough = (CardId::SHOWN..ALL).step_by(4);
    enough.find(apart).unwrap_or(ALL)
}

/// What is seen of a name that has more in it.
fn visible(name: &str) -> String {
    let is_seen = |character: &char| Model::name_fault(&character.to_string()).is_none();
    name.chars().filter(is_seen).collect()
}

/// Reads the registry.
pub(crate) async fn read(ledger: &dyn Ledger) -> Result<Registry, LedgerError> {
    let models = ledger.models().await?;
    let (mut names, mut faulty) = (BTreeMap::new(), BTreeMap::new());
    for Model { id, name, .. } in models {
        match Model::name_fault(&name) {
            None => drop(names.insert(id, name)),
            Some(fault) if faulty.len() < FAULTY_MAX => {
                let name = name.chars().take(NAME_BYTES_MAX).collect();
                faulty.insert(name, fault);
            }
            Some(_) => {}
        }
    }
    let providers = ledger.providers().await?;
    let bids = |address: Address| async move {
        let bids = ledger.bids(address).await?;
        let models: Vec<_> = bids.into_iter().map(|bid| bid.model).collect();
        Ok::<_, LedgerError>((address, models))
    };
    let addresses: Vec<_> = providers.iter().map(|provider| provider.address).collect();
    let bids = stream::iter(addresses)
        .map(bids)
        .buffer_unordered(READS)
        .try_collect()
        .await?;
    Ok(Registry {
        names,
        faulty,
        providers,
        bids,
    })
}

/// Reads all descriptions anew. What could not be had is taken over from `before`.
pub(crate) async fn look(
    registry: Arc<Registry>,
    paths: &Paths,
    before: &Snapshot,
    domain: &Domain,
    now: Timestamp,
) -> Snapshot {
    let Registry {
        names,
        faulty,
        providers,
        bids,
    } = &*registry;
    for (name, fault) in faulty {
        if !before.registry.faulty.contains_key(name) {
            info!(?name, %fault, "a registered model is not offered");
        }
    }
    let sells = |provider: &&Provider| registry.sells(provider.address);
    let relays: Vec<_> = registry.relays().cloned().collect();
    let (described, hosts) = paths.describe(providers, &relays, domain, now).await;
    let places = places(&described);

    let mut sellers = BTreeMap::new();
    let registered: BTreeSet<_> = providers.iter().map(|one| one.address).collect();
    for provider in providers.iter().filter(sells) {
        let address = provider.address;
        let on_offer = |offer: &Offer| {
            bids[&address].contains(&offer.model)
                && names.contains_key(&offer.model)
                && now < offer.quote.expires_at
        };
        let hosts = hosts.of(address).map(Arc::as_ref);
        let mut own = sellers_of((provider, hosts), &registered, &described, before);
        for seller in &mut own {
            for relay in &mut seller.relays {
                relay.addresses = places.get(&relay.id).cloned().unwrap_or_default();
            }
            seller.offers.retain(on_offer);
            for offer in &mut seller.offers {
                // Its name is what the registry says, whatever the descriptor calls it.
                offer.name.clone_from(&names[&offer.model]);
            }
        }
        sellers.extend(own.into_iter().map(|one| (one.address, Arc::new(one))));
    }
    let seen = |id: &ModelId| (*id, before.seen_at.get(id).copied().unwrap_or(now));
    let (names, seen_at) = (names.clone(), names.keys().map(seen).collect());
    Snapshot {
        look_alikes: look_alikes(&on_offer(&sellers, &names)),
        registry,
        names,
        seen_at,
        sellers,
    }
}

/// Where relays are.
fn places(
    described: &BTreeMap<Address, Result<Known, String>>,
) -> HashMap<NodeId, Vec<SocketAddr>> {
    let records = described.values().flatten();
    let records = records.map(|known| &known.opened.record);
    let relays = records.filter(|record| record.is_relay());
    relays
        .map(|record| (record.node, sockets(record)))
        .collect()
}

fn sockets(record: &Record) -> Vec<SocketAddr> {
    let addresses = record.addresses.iter();
    addresses.filter_map(|text| text.parse().ok()).collect()
}

/// A provider's nodes: its own, or its hosts.
fn sellers_of(
    (provider, hosts): (&Provider, Option<&Certificate>),
    registered: &BTreeSet<Address>,
    described: &BTreeMap<Address, Result<Known, String>>,
    before: &Snapshot,
) -> Vec<Seller> {
    let own = Host::own(provider.address);
    let mut all: Vec<(Host, &str)> = Vec::new();
    for certified in hosts.into_iter().flat_map(|hosts| &hosts.hosts) {
        let host = Host {
            account: certified.account,
            provider: provider.address,
        };
        // Who is registered itself is nobody's host.
        if host.is_own() || !registered.contains(&host.account) {
            all.push((host, &certified.endpoint));
        }
    }
    let has_own = all.iter().any(|(host, _)| host.is_own());
    let says_more = || matches!(described.get(&own.account), Some(Ok(_)));
    if all.is_empty() || (!has_own && says_more()) {
        all.push((own, &provider.endpoint));
    }
    let mut sellers = Vec::with_capacity(all.len());
    for (host, endpoint) in all {
        let unknown = || Err("no description of it is to be had".to_owned());
        let found = described.get(&host.account).cloned();
        let last = before.sellers.get(&host.account).map(Arc::as_ref);
        // Somebody else's, by its own word: not touched here.
        let is_others = |whose: Address| whose != host.provider;
        let said = found.as_ref().and_then(|found| found.as_ref().ok());
        let whose = said.map(|known| known.opened.host.provider);
        if whose
            .or(last.map(|last| last.registered))
            .is_some_and(is_others)
        {
            continue;
        }
        sellers.push(seller(host, endpoint, found.unwrap_or_else(unknown), last));
    }
    if hosts.is_some() {
        let addresses = sellers.iter().flat_map(|seller| &seller.addresses);
        let beside: Vec<_> = addresses.copied().collect();
        for seller in &mut sellers {
            seller.beside.clone_from(&beside);
        }
    }
    sellers
}

fn seller(
    host: Host,
    endpoint: &str,
    found: Result<Known, String>,
    last: Option<&Seller>,
) -> Seller {
    match found {
        Ok(Known { opened, doubt }) => {
            let record = &opened.record;
            let at = |relay: &NodeId| NodeAddr {
                id: *relay,
                addresses: vec![],
            };
            // A key that was certain stays so until it is over: relays hear of
            // a new one at different times.
            let kept = || last.filter(|last| last.node == record.node)?.key.clone();
            let key = match &doubt {
                None => opened
                    .epoch
                    .as_ref()
                    .and_then(|key| key.as_ref().ok())
                    .cloned(),
                Some(_) => kept(),
            };
            Seller {
                address: host.account,
                registered: host.provider,
                endpoint: endpoint.to_owned(),
                node: record.node,
                addresses: sockets(record),
                beside: vec![],
                relays: record.relays.iter().map(at).collect(),
                receiver_authorizer: record.receiver_authorizer,
                withdraw_delay_min_s: record.withdraw_delay_min_s,
                described_at: record.issued_at,
                offers: record.offers.clone(),
                problem: doubt.filter(|_| key.is_none()),
                key,
            }
        }
        Err(problem) => {
            debug!(provider = %host.account, problem, "no description");
            let unknown = || Seller::unknown(host, endpoint);
            let mut seller = last.cloned().unwrap_or_else(unknown);
            seller.problem = Some(problem);
            seller
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use market::{B256, Quote};
    use transport::describe::Opened;

    use super::*;

    /// An offer with no more than it must have.
    pub(crate) fn offer(model: ModelId, name: &str, quote: Quote) -> Offer {
        Offer {
            model,
            name: name.to_owned(),
            quote,
            context_length: None,
            output_tokens_max: None,
            upstream: None,
            continues: false,
            card: None,
            parameters: vec![],
        }
    }

    /// A provider with these offers that nothing is wrong with.
    pub(crate) fn seller(address: Address, offers: Vec<Offer>) -> Seller {
        Seller {
            receiver_authorizer: address,
            withdraw_delay_min_s: 900,
            offers,
            problem: None,
            ..Seller::unknown(Host::own(address), "")
        }
    }

    fn known(account: u8, provider: u8) -> Known {
        let (account, provider) = (
            Address::repeat_byte(account),
            Address::repeat_byte(provider),
        );
        let record = Record {
            version: 1,
            chain_id: 1,
            settlement: Address::ZERO,
            provider,
            receiver_authorizer: account,
            withdraw_delay_min_s: 900,
            node: NodeId(B256::repeat_byte(account[0])),
            addresses: vec![format!("203.0.113.{}:1", account[0])],
            relays: vec![],
            offers: vec![],
            capabilities: vec![],
            issued_at: Timestamp(1),
            expires_at: Timestamp(2),
        };
        let opened = Opened {
            host: Host { account, provider },
            record,
            epoch: None,
            hosts: None,
        };
        Known {
            opened: Arc::new(opened),
            doubt: None,
        }
    }

    #[test]
    fn each_host_is_a_seller_of_its_own_provider_and_of_no_stranger() {
        let provider = |n| Provider {
            address: Address::repeat_byte(n),
            endpoint: "192.0.2.1:1".to_owned(),
            stake: Amount::ZERO,
        };
        let certificate = |of, hosts: &[u8]| {
            let domain = Domain {
                chain_id: 1,
                settlement: Address::ZERO,
            };
            let host = |n: &u8| market::CertifiedHost {
                account: Address::repeat_byte(*n),
                endpoint: format!("192.0.2.{n}:1"),
            };
            let hosts = hosts.iter().map(host).collect();
            Certificate::new(Address::repeat_byte(of), &domain, hosts, (Timestamp(1), 1))
        };
        let (own, stranger) = (provider(1), provider(2));
        let registered = [own.address, stranger.address].into();
        let sellers = |of: &Provider, hosts, described: &_, before: &Snapshot| {
            sellers_of((of, Some(hosts)), &registered, described, before)
        };
        let (hosts, claimed) = (certificate(1, &[5, 6]), certificate(2, &[5, 6, 1]));
        let mut described = [(Address::repeat_byte(5), Ok(known(5, 1)))].into();
        let first = sellers(&own, &hosts, &described, &Snapshot::default());
        let shown: Vec<_> = first
            .iter()
            .map(|it| (it.address[0], it.registered))
            .collect();
        assert_eq!(shown, [(5, own.address), (6, own.address)]);
        assert_eq!(first[0].endpoint, "192.0.2.5:1");
        assert!(first[1].problem.is_some() && first[1].offers.is_empty());
        assert_eq!(first[1].beside, first[0].addresses, "they are one operator");

        // What a stranger certifies is not touched, also while its own word is missing.
        let of_stranger = sellers(&stranger, &claimed, &described, &Snapshot::default());
        let shown: Vec<_> = of_stranger.iter().map(|it| it.address[0]).collect();
        assert_eq!(shown, [6], "nobody has said yet whose 6 is");
        let before = Snapshot {
            sellers: first
                .into_iter()
                .map(|it| (it.address, Arc::new(it)))
                .collect(),
            ..Snapshot::default()
        };
        described.clear();
        assert!(sellers(&stranger, &claimed, &described, &before).is_empty());
        assert_eq!(sellers(&own, &hosts, &described, &before).len(), 2);
    }

    #[test]
    fn ids_are_shown_with_as_many_digits_as_tell_them_apart() {
        let id = |last: u8| {
            let mut bytes = [7; 32];
            bytes[31] = last;
            CardId(bytes.into())
        };
        let apart = |ids: &[CardId]| digits_apart(ids.iter());
        assert_eq!(apart(&[id(1)]), 12);
        assert_eq!(apart(&[id(1), CardId(B256::ZERO)]), 12);
        assert_eq!(apart(&[id(1), id(2)]), 64);
        let mut late = id(1);
        late.0.0[6] = 0;
        assert_eq!(apart(&[late, id(1)]), 16);
    }

    #[test]
    fn a_name_that_is_not_offered_is_told_of_the_one_it_looks_like() {
        let faulty = "m\u{200b}odel".to_owned();
        let fault = Model::name_fault(&faulty).unwrap();
        let registry = Registry {
            faulty: [(faulty, fault), ("other ".to_owned(), NameFault::Spaces)].into(),
            ..Registry::default()
        };
        let snapshot = Snapshot {
            registry: Arc::new(registry),
            look_alikes: [("model".to_owned(), vec!["Model".to_owned()])].into(),
            ..Snapshot::default()
        };
        let notes = snapshot.notes("model");
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("\"Model\""), "{notes:?}");
        assert!(notes[1].contains("U+200B"), "{notes:?}");
        assert!(snapshot.notes("m\u{200b}odel")[0].contains("not offered"));
    }
}
