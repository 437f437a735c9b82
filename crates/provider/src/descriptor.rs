//! The provider's description of itself, signed, and always fresh.
//!
//! The text that is served is made here and nowhere else: when the provider
//! starts, when a price changes, when half of a quote's time is over, when a
//! relay takes it or loses it, and when it rests or sells again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use market::{
    Address, Domain, ModelId, NodeId, NodeKey, Offer as RecordOffer, Quote, Rates, Record,
    SignedCertificate, Timestamp, WalletKey,
};
use seal::SignedEpoch;
use tokio::sync::watch;
use transport::describe::Described;

use crate::config::{Config, OfferConfig};
use crate::quotes::Quotes;

/// The version of the record's form.
const VERSION: u32 = 1;

struct Listed {
    model: ModelId,
    config: OfferConfig,
    quotes: Quotes,
    continues: bool,
    /// Whether it is in the record: not before somebody is there to answer.
    offered: bool,
}

/// What does not change while the provider runs.
pub(crate) struct Identity {
    pub(crate) domain: Domain,
    /// Who is registered; not the node's own account, where it is a host.
    pub(crate) provider: Address,
    pub(crate) node: NodeId,
    pub(crate) addresses: Vec<String>,
    pub(crate) withdraw_delay_min_s: u64,
}

/// The description, its prices, and the text that is served.
pub(crate) struct Descriptor {
    identity: Identity,
    listed: Mutex<Vec<Listed>>,
    /// The relays at which it waits now, by their endpoints.
    relays: Mutex<BTreeMap<String, NodeId>>,
    /// Who the hosts of the provider are.
    hosts: Mutex<Option<SignedCertificate>>,
    /// Whether nothing is on offer for now, whoever is there to answer.
    resting: AtomicBool,
    served: watch::Sender<Bytes>,
}

impl Descriptor {
    pub(crate) fn new(
        identity: Identity,
        config: &Config,
        models: &[ModelId],
        now: Timestamp,
    ) -> Self {
        let listed = config
            .offers
            .iter()
            .zip(models)
            .map(|(offer, model)| Listed {
                model: *model,
                config: offer.clone(),
                quotes: Quotes::new(offer.token, offer.rates, config.quote_validity_s, now),
                continues: false,
                offered: false,
            });
        Self {
            identity,
            listed: Mutex::new(listed.collect()),
            relays: Mutex::default(),
            hosts: Mutex::new(config.hosts.clone()),
            resting: AtomicBool::new(false),
            served: watch::Sender::new(Bytes::new()),
        }
    }

    /// The text to serve.
    pub(crate) fn served(&self) -> watch::Receiver<Bytes> {
        self.served.subscribe()
    }

    /// Another price from now on. False: no such offer.
    pub(crate) fn set_rates(&self, model: ModelId, rates: Rates, now: Timestamp) -> bool {
        let mut listed = self.listed();
        let Some(offer) = listed.iter_mut().find(|offer| offer.model == model) else {
            return false;
        };
        offer.quotes.give(rates, now);
        true
    }

    /// Whether an offer's backend goes on with a begun answer. Whether that is news.
    pub(crate) fn set_continues(&self, model: ModelId, continues: bool) -> bool {
        let mut listed = self.listed();
        let offer = listed.iter_mut().find(|offer| offer.model == model);
        offer.is_some_and(|offer| std::mem::replace(&mut offer.continues, continues) != continues)
    }

    /// From now on the model is in the record. Whether that is news.
    pub(crate) fn offer(&self, model: ModelId) -> bool {
        let mut listed = self.listed();
        let offer = listed.iter_mut().find(|offer| offer.model == model);
        offer.is_some_and(|offer| !std::mem::replace(&mut offer.offered, true))
    }

    /// From now on it is reached through that relay. Whether that is news.
    pub(crate) fn reached(&self, relay: &str, node: NodeId) -> bool {
        self.relays().insert(relay.to_owned(), node) != Some(node)
    }

    /// It is not any more. Whether that is news.
    pub(crate) fn unreached(&self, relay: &str) -> bool {
        self.relays().remove(relay).is_some()
    }

    /// The relays at which it waits now, by their endpoints.
    pub(crate) fn relays_reached(&self) -> Vec<String> {
        self.relays().keys().cloned().collect()
    }

    /// Another certificate of the provider's hosts from now on.
    pub(crate) fn set_hosts(&self, hosts: SignedCertificate) {
        *self.hosts() = Some(hosts);
    }

    /// Takes all offers out of the record, or puts them back. Whether that is news.
    pub(crate) fn rest(&self, is_resting: bool) -> bool {
        self.resting.swap(is_resting, Ordering::Relaxed) != is_resting
    }

    /// Whether nothing is on offer for now.
    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// The names of what is not in the record yet.
    pub(crate) fn unoffered(&self) -> Vec<String> {
        let listed = self.listed();
        let waiting = listed.iter().filter(|offer| !offer.offered);
        waiting.map(|offer| offer.config.name.clone()).collect()
    }

    /// Whether somebody may hold a quote with these rates.
    pub(crate) fn honours(&self, model: ModelId, rates: &Rates, now: Timestamp) -> bool {
        let listed = self.listed();
        let offer = listed.iter().find(|offer| offer.model == model);
        offer.is_some_and(|offer| offer.quotes.honours(rates, now))
    }

    /// The price now.
    pub(crate) fn quote(&self, model: ModelId) -> Option<Quote> {
        let listed = self.listed();
        let offer = listed.iter().find(|offer| offer.model == model)?;
        Some(offer.quotes.current())
    }

    /// Renews the quotes, if half of a quote's time is over. Whether it was.
    pub(crate) fn renew(&self, now: Timestamp) -> bool {
        let mut listed = self.listed();
        let ages = listed.iter().any(|offer| offer.quotes.ages(now));
        if ages {
            for offer in listed.iter_mut() {
                offer.quotes.renew(now);
            }
        }
        ages
    }

    /// Signs the record as it is now, and serves it from now on, beside the
    /// record of the epoch's key and the certificate of hosts, if there is one.
    pub(crate) fn sign(
        &self,
        wallet: &WalletKey,
        node: &NodeKey,
        epoch: SignedEpoch,
        now: Timestamp,
    ) {
        let described = Described {
            descriptor: self.record(wallet, now).sign(wallet, node),
            epoch: Some(epoch),
            hosts: self.hosts().clone(),
        };
        self.served.send_replace(described.to_text().into());
    }

    fn record(&self, wallet: &WalletKey, now: Timestamp) -> Record {
        let listed = self.listed();
        let ends = listed.iter().map(|offer| offer.quotes.current().expires_at);
        Record {
            version: VERSION,
            chain_id: self.identity.domain.chain_id,
            settlement: self.identity.domain.settlement,
            provider: self.identity.provider,
            receiver_authorizer: wallet.address(),
            withdraw_delay_min_s: self.identity.withdraw_delay_min_s,
            node: self.identity.node,
            addresses: self.identity.addresses.clone(),
            relays: self.relays().values().copied().collect(),
            expires_at: ends.min().unwrap_or(now),
            offers: listed
                .iter()
                .filter(|offer| offer.offered && !self.is_resting())
                .map(offered)
                .collect(),
            capabilities: vec![],
            issued_at: now,
        }
    }

    fn relays(&self) -> MutexGuard<'_, BTreeMap<String, NodeId>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts(&self) -> MutexGuard<'_, Option<SignedCertificate>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> MutexGuard<'_, Vec<Listed>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn offered(listed: &Listed) -> RecordOffer {
    let OfferConfig {
        name,
        context_length,
        output_tokens_max,
        upstream,
        card,
        parameters,
        ..
    } = &listed.config;
    RecordOffer {
        model: listed.model,
        name: name.clone(),
        quote: listed.quotes.current(),
        context_length: *context_length,
        output_tokens_max: *output_tokens_max,
        upstream: upstream.clone(),
        continues: listed.continues,
        card: card.clone(),
        parameters: parameters.clone(),
    }
}
