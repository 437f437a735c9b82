//! What is on offer: the registry's providers, each with the descriptor that
//! its endpoint serves, checked, as one snapshot that readers share.
//!
//! A provider whose descriptor cannot be had keeps its last offers until they
//! expire, marked with the problem, and is asked again at the next refresh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use market::{
    Address, Amount, ChannelTerms, Domain, Ledger, LedgerError, ModelId, NodeId, Offer, Provider,
    Record, SignedRecord, Timestamp,
};
use tracing::debug;
use transport::NodeAddr;

/// The longest descriptor that is read: a record, its signature, and JSON's escapes.
pub const MAX_DESCRIPTOR_BYTES: usize = 2 * market::MAX_RECORD_BYTES;

/// Time for one provider to answer for its descriptor.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(3);

/// Descriptors fetched at a time.
const FETCHES: usize = 16;

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
    /// The models that it has a bid on.
    pub(crate) bids: Vec<ModelId>,
    /// Its offers for models that are registered and that it has a bid on.
    pub(crate) offers: Vec<Offer>,
    /// Why the last fetch failed, if it did.
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

/// All that is known to be on offer at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
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

/// Reads the registry and all descriptors anew. What could not be fetched is
/// taken over from `before`.
pub(crate) async fn refresh(
    ledger: &dyn Ledger,
    http: &reqwest::Client,
    before: &Snapshot,
    now: Timestamp,
) -> Result<Snapshot, LedgerError> {
    let names: BTreeMap<_, _> = ledger
        .models()
        .await?
        .into_iter()
        .map(|model| (model.id, model.name))
        .collect();
    let providers = ledger.providers().await?;
    let domain = ledger.domain();

    let look = |provider: Provider| {
        let names = &names;
        async move {
            let bids = ledger.bids(provider.address).await?;
            let models: Vec<_> = bids.into_iter().map(|bid| bid.model).collect();
            let found = describe(http, &provider, &domain, now).await;
            let last = before.sellers.get(&provider.address);
            Ok::<_, LedgerError>(seller(&provider, found, last, models, names, now))
        }
    };
    let looked: Vec<_> = stream::iter(providers)
        .map(look)
        .buffer_unordered(FETCHES)
        .collect()
        .await;

    let mut sellers = BTreeMap::new();
    for seller in looked {
        let seller = seller?;
        sellers.insert(seller.address, Arc::new(seller));
    }
    let seen = |id: &ModelId| (*id, before.seen_at.get(id).copied().unwrap_or(now));
    let seen_at = names.keys().map(seen).collect();
    Ok(Snapshot {
        names,
        seen_at,
        sellers,
    })
}

/// The descriptors anew, of the providers that the registry had: while the
/// chain does not answer, quotes go on.
pub(crate) async fn renew(
    http: &reqwest::Client,
    before: &Snapshot,
    domain: &Domain,
    now: Timestamp,
) -> Snapshot {
    let look = |last: Arc<Seller>| async move {
        let provider = Provider {
            address: last.address,
            endpoint: last.endpoint.clone(),
            stake: Amount::ZERO,
        };
        let found = describe(http, &provider, domain, now).await;
        let models = last.bids.clone();
        seller(&provider, found, Some(&last), models, &before.names, now)
    };
    let looked: Vec<_> = stream::iter(before.sellers.values().cloned())
        .map(look)
        .buffer_unordered(FETCHES)
        .collect()
        .await;
    let sellers = looked
        .into_iter()
        .map(|seller| (seller.address, Arc::new(seller)));
    Snapshot {
        sellers: sellers.collect(),
        ..before.clone()
    }
}

fn seller(
    provider: &Provider,
    found: Result<Record, DescribeError>,
    last: Option<&Arc<Seller>>,
    bids: Vec<ModelId>,
    names: &BTreeMap<ModelId, String>,
    now: Timestamp,
) -> Seller {
    let on_offer = |offer: &Offer| {
        bids.contains(&offer.model)
            && names.contains_key(&offer.model)
            && now < offer.quote.expires_at
    };
    match found {
        Ok(record) => Seller {
            address: provider.address,
            endpoint: provider.endpoint.clone(),
            node: record.node,
            addresses: record
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            receiver_authorizer: record.receiver_authorizer,
            withdraw_delay_min_s: record.withdraw_delay_min_s,
            offers: record.offers.into_iter().filter(on_offer).collect(),
            bids,
            problem: None,
        },
        Err(error) => {
            let problem = Some(reason(&error));
            debug!(provider = %provider.address, problem, "no descriptor");
            let mut seller = last.map_or_else(
                || Seller {
                    address: provider.address,
                    endpoint: provider.endpoint.clone(),
                    node: NodeId(market::B256::ZERO),
                    addresses: vec![],
                    receiver_authorizer: Address::ZERO,
                    withdraw_delay_min_s: 0,
                    bids: vec![],
                    offers: vec![],
                    problem: None,
                },
                |last| Seller::clone(last),
            );
            seller.problem = problem;
            seller.offers.retain(on_offer);
            seller.bids = bids;
            seller
        }
    }
}

/// Why a provider's descriptor is not to be had.
#[derive(Debug, thiserror::Error)]
enum DescribeError {
    #[error("its endpoint {endpoint:?} is not host:port")]
    Endpoint { endpoint: String },
    #[error("its endpoint does not answer")]
    Fetch(#[source] reqwest::Error),
    #[error("its endpoint answers with status {status}")]
    Status { status: u16 },
    #[error("its descriptor is longer than {MAX_DESCRIPTOR_BYTES} bytes")]
    TooLong,
    #[error("its descriptor is not JSON of the right form")]
    Malformed(#[source] serde_json::Error),
    #[error("its descriptor is not believed")]
    Disbelieved(#[source] market::DescriptorError),
}

/// An error and its causes in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn describe(
    http: &reqwest::Client,
    provider: &Provider,
    domain: &Domain,
    now: Timestamp,
) -> Result<Record, DescribeError> {
    let endpoint = &provider.endpoint;
    let plain = !endpoint.contains(['/', '@', '?', '#', ' ']) && endpoint.contains(':');
    if !plain {
        return Err(DescribeError::Endpoint {
            endpoint: endpoint.clone(),
        });
    }
    let url = format!("http://{endpoint}/.well-known/lethe");
    let response = http.get(url).timeout(DESCRIPTOR_TIMEOUT).send().await;
    let mut response = response.map_err(|error| DescribeError::Fetch(error.without_url()))?;
    if !response.status().is_success() {
        return Err(DescribeError::Status {
            status: response.status().as_u16(),
        });
    }
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|e| DescribeError::Fetch(e.without_url()))?
    {
        if body.len() + piece.len() > MAX_DESCRIPTOR_BYTES {
            return Err(DescribeError::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    let signed: SignedRecord = serde_json::from_slice(&body).map_err(DescribeError::Malformed)?;
    signed
        .open(provider.address, domain, now)
        .map_err(DescribeError::Disbelieved)
}
