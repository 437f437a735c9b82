//! What is on offer: the registry's providers, each with what it says of
//! itself, checked, as one snapshot that readers share.
//!
//! A provider whose description cannot be had keeps its last offers until they
//! expire, marked with the problem, and is asked for again at the next refresh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use market::{
    Address, Amount, ChannelTerms, Domain, Ledger, LedgerError, Model, ModelId, NodeId, Offer,
    Provider, Timestamp, Upstream,
};
use seal::EpochKey;
use tracing::debug;
use transport::NodeAddr;

use crate::paths::{Known, Paths};

/// Bids read at a time.
const READS: usize = 16;

/// A provider that can be asked: registered, described, checked.
#[derive(Debug, Clone)]
pub(crate) struct Seller {
    /// Its account.
    pub(crate) address: Address,
    /// Where its descriptor is.
    pub(crate) endpoint: String,
    /// Its key on the wire.
    pub(crate) node: NodeId,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Who may claim for it.
    pub(crate) receiver_authorizer: Address,
    /// The shortest withdrawal delay it accepts.
    pub(crate) withdraw_delay_min_s: u64,
    /// What requests to it are sealed to; none while that is not certain.
    pub(crate) key: Option<Arc<EpochKey>>,
    /// Its offers for models that are registered and that it has a bid on.
    pub(crate) offers: Vec<Offer>,
    /// Why it cannot be asked, or what it says is old, if so.
    pub(crate) problem: Option<String>,
}

impl Seller {
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
            receiver: self.address,
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
}

impl Snapshot {
    /// Every name that somebody offers now.
    pub(crate) fn names_on_offer(&self) -> Vec<String> {
        let offered = self.sellers.values().flat_map(|seller| &seller.offers);
        let mut names: Vec<_> = offered
            .filter_map(|offer| self.names.get(&offer.model))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Offers for a model by name, or by id in hex.
    pub(crate) fn offers(&self, model: &str) -> Vec<(Arc<Seller>, Offer)> {
        let by_id = model.parse::<ModelId>().ok();
        let matches = |offer: &&Offer| {
            by_id == Some(offer.model)
                || self
                    .names
                    .get(&offer.model)
                    .is_some_and(|name| name == model)
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

/// Reads the registry.
pub(crate) async fn read(ledger: &dyn Ledger) -> Result<Registry, LedgerError> {
    let models = ledger.models().await?.into_iter();
    let models = models.filter(|model| Model::name_fault(&model.name).is_none());
    let names = models.map(|model| (model.id, model.name)).collect();
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
        providers,
        bids,
    } = &*registry;
    // Who has no bid sells nothing: to be seen dialling it tells nothing.
    let sells = |provider: &&Provider| bids.get(&provider.address).is_some_and(|b| !b.is_empty());
    let relays = providers.iter().filter(|provider| !sells(provider));
    let relays: Vec<_> = relays.cloned().collect();
    let mut described = paths.describe(providers, &relays, domain, now).await;

    let mut sellers = BTreeMap::new();
    for provider in providers.iter().filter(sells) {
        let address = provider.address;
        let found = described
            .remove(&address)
            .unwrap_or_else(|| Err("no description of it is to be had".to_owned()));
        let on_offer = |offer: &Offer| {
            bids[&address].contains(&offer.model)
                && names.contains_key(&offer.model)
                && now < offer.quote.expires_at
        };
        let last = before.sellers.get(&address);
        let mut seller = seller(provider, found, last.map(Arc::as_ref));
        seller.offers.retain(on_offer);
        sellers.insert(address, Arc::new(seller));
    }
    let seen = |id: &ModelId| (*id, before.seen_at.get(id).copied().unwrap_or(now));
    let (names, seen_at) = (names.clone(), names.keys().map(seen).collect());
    Snapshot {
        registry,
        names,
        seen_at,
        sellers,
    }
}

fn seller(provider: &Provider, found: Result<Known, String>, last: Option<&Seller>) -> Seller {
    match found {
        Ok(Known { opened, doubt }) => {
            let record = &opened.record;
            let addresses = record.addresses.iter();
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
                address: provider.address,
                endpoint: provider.endpoint.clone(),
                node: record.node,
                addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
                receiver_authorizer: record.receiver_authorizer,
                withdraw_delay_min_s: record.withdraw_delay_min_s,
                offers: record.offers.clone(),
                problem: doubt.filter(|_| key.is_none()),
                key,
            }
        }
        Err(problem) => {
            debug!(provider = %provider.address, problem, "no description");
            let unknown = || Seller {
                address: provider.address,
                endpoint: provider.endpoint.clone(),
                node: NodeId(market::B256::ZERO),
                addresses: vec![],
                receiver_authorizer: Address::ZERO,
                withdraw_delay_min_s: 0,
                key: None,
                offers: vec![],
                problem: None,
            };
            let mut seller = last.cloned().unwrap_or_else(unknown);
            seller.problem = Some(problem);
            seller
        }
    }
}
