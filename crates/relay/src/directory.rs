//! Who is registered, and what each says of itself: read by the relay from
//! registry and endpoints, and told on word for word. Whoever asks checks the
//! signatures; the relay checks them too, so that it dials nobody's victim.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use market::{Address, B256, Domain, Ledger, LedgerError, NodeId, Provider, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;
use transport::NodeAddr;
use transport::describe::{DescribeError, Described, fetch};
use transport::message::Description;

use crate::waiting::Waiting;

/// Descriptions fetched at a time.
const FETCHES: usize = 64;

/// Nodes that are known at a time.
const NODES_MAX: usize = 16_384;

/// The longest that a look takes at those who answered last time; who has not
/// answered by then has failed.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Of those who did not, so many are asked in one look, the most reliable
/// first: whoever registers many endpoints that hang delays nobody else.
const FAILED_AT_A_LOOK: usize = 64;

/// What is known of one node.
#[derive(Debug, Clone, Default)]
struct Known {
    told: Option<Told>,
    /// Fetches that failed, since the last one that did not.
    failures: u32,
}

/// What a node told, checked.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    text: Bytes,
    addr: NodeAddr,
    is_relay: bool,
    /// It waits at relays, and is not to be dialled.
    waits: bool,
    expires_at: Timestamp,
}

impl Told {
    pub(crate) fn node(&self) -> NodeId {
        self.addr.id
    }

    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    pub(crate) fn is_good(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// All that is known at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    known: BTreeMap<Address, Known>,
    nodes: HashMap<NodeId, NodeAddr>,
    waiting: BTreeSet<NodeId>,
    relays: BTreeSet<NodeId>,
    digest: B256,
}

impl Directory {
    /// Where a registered node is that can be dialled.
    pub(crate) fn find(&self, node: NodeId) -> Option<&NodeAddr> {
        self.nodes.get(&node)
    }

    /// The node that a registered account described.
    pub(crate) fn node_of(&self, account: Address) -> Option<NodeId> {
        let told = self.known.get(&account)?.told.as_ref()?;
        Some(told.addr.id)
    }

    /// Whether a registered node waits at relays, and cannot be dialled.
    pub(crate) fn waits(&self, node: NodeId) -> bool {
        self.waiting.contains(&node)
    }

    /// Whether an account was in the registry at the last look.
    pub(crate) fn is_registered(&self, account: Address) -> bool {
        self.known.contains_key(&account)
    }

    /// Whether a registered node says that it is a relay.
    pub(crate) fn is_relay(&self, node: NodeId) -> bool {
        self.relays.contains(&node)
    }

    /// All that say so.
    pub(crate) fn relays(&self) -> Vec<NodeId> {
        self.relays.iter().copied().collect()
    }

    /// Names this state of things.
    pub(crate) fn digest(&self) -> B256 {
        self.digest
    }

    /// Everything that is told, in parts of at most `bytes` or one description.
    pub(crate) fn parts(&self, count: usize, bytes: usize) -> Vec<Vec<Description>> {
        let mut parts = Vec::new();
        let (mut part, mut size) = (Vec::new(), 0);
        for (account, text) in self.texts() {
            if !part.is_empty() && (part.len() == count || size + text.len() > bytes) {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            size += text.len();
            let text = text.clone();
            part.push(Description { account, text });
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts
    }

    fn texts(&self) -> impl Iterator<Item = (Address, &Bytes)> {
        self.known
            .iter()
            .filter_map(|(account, known)| Some((*account, &known.told.as_ref()?.text)))
    }

    /// Those registered now, in two lots: who answered last time or is new, and
    /// of the others as many as are asked in one look.
    fn lots(&self, registered: &[Provider]) -> [Vec<Provider>; 2] {
        let failures = |provider: &Provider| {
            let known = self.known.get(&provider.address);
            known.map_or(0, |known| known.failures)
        };
        let (first, mut failed): (Vec<_>, Vec<_>) = registered
            .iter()
            .cloned()
            .partition(|provider| failures(provider) == 0);
        failed.sort_by_key(failures);
        failed.truncate(FAILED_AT_A_LOOK);
        [first, failed]
    }

    /// What it becomes with what was fetched: who is no longer registered goes, and
    /// what could not be fetched stays, as long as it is good.
    fn with(&self, registered: &[Provider], found: Vec<Fetched>, now: Timestamp) -> Self {
        let mut found: HashMap<_, _> = found.into_iter().collect();
        let mut after = Self::default();
        let mut hash = Sha256::new();
        for account in registered.iter().map(|provider| provider.address) {
            let mut known = self.known.get(&account).cloned().unwrap_or_default();
            match found.remove(&account) {
                Some(Ok(told)) => {
                    known.told = Some(told);
                    known.failures = 0;
                }
                Some(Err(Failed)) => known.failures = known.failures.saturating_add(1),
                None => {}
            }
            known.told = known.told.filter(|told| told.is_good(now));
            after.known.insert(account, known);
        }
        for (account, known) in &after.known {
            let Some(told) = &known.told else { continue };
            hash.update(account);
            hash.update(Sha256::digest(&told.text));
            if told.waits {
                after.waiting.insert(told.addr.id);
                continue;
            }
            after.nodes.insert(told.addr.id, told.addr.clone());
            if told.is_relay {
                after.relays.insert(told.addr.id);
            }
        }
        after.digest = B256::from_slice(&hash.finalize());
        after
    }
}

/// Nothing, or nothing good, came in time.
#[derive(Debug, Clone, Copy)]
struct Failed;

type Fetched = (Address, Result<Told, Failed>);

/// Where descriptions are had.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// From everybody's door.
    pub(crate) http: &'a reqwest::Client,
    /// Of those who wait here, as they brought them.
    pub(crate) waiting: &'a Waiting,
}

/// Reads registry and descriptions anew, and tells twice what came of it:
/// after those who answered last time, and after some of the others.
pub(crate) async fn look(
    ledger: &dyn Ledger,
    sources: Sources<'_>,
    directory: &watch::Sender<Arc<Directory>>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let domain = ledger.domain();
    let mut registered = ledger.providers().await?;
    registered.truncate(NODES_MAX);
    let lots = directory.borrow().lots(&registered);
    for lot in lots {
        let before = Arc::clone(&directory.borrow());
        let found = fetch_all(sources, &before, lot, domain, now).await;
        directory.send_replace(Arc::new(before.with(&registered, found, now)));
    }
    Ok(())
}

async fn fetch_all(
    sources: Sources<'_>,
    before: &Directory,
    lot: Vec<Provider>,
    domain: Domain,
    now: Timestamp,
) -> Vec<Fetched> {
    let mut missing: BTreeSet<Address> = lot.iter().map(|provider| provider.address).collect();
    let mut found = Vec::with_capacity(lot.len());
    let fetches = stream::iter(lot)
        .map(|provider| one(sources, before, provider, domain, now))
        .buffer_unordered(FETCHES);
    let mut fetches = pin!(fetches.take_until(sleep(LOOK_WITHIN)));
    while let Some((account, told)) = fetches.next().await {
        missing.remove(&account);
        found.push((account, told));
    }
    found.extend(missing.into_iter().map(|account| (account, Err(Failed))));
    found
}

async fn one(
    sources: Sources<'_>,
    before: &Directory,
    provider: Provider,
    domain: Domain,
    now: Timestamp,
) -> Fetched {
    let account = provider.address;
    if let Some(told) = sources.waiting.told(account, now) {
        return (account, Ok(told));
    }
    let told = match fetch(sources.http, &provider.endpoint).await {
        Ok(text) => {
            let last = before
                .known
                .get(&account)
                .and_then(|known| known.told.as_ref());
            match last.filter(|last| last.text == text && last.is_good(now)) {
                // Its signatures were checked before.
                Some(last) => Ok(last.clone()),
                None => checked(text.into(), account, &domain, now),
            }
        }
        Err(error) => Err(error),
    };
    (
        account,
        told.map_err(|error| {
            debug!(%account, %error, "no description");
            Failed
        }),
    )
}

/// What an account says of its node, if it is believed.
pub(crate) fn checked(
    text: Bytes,
    account: Address,
    domain: &Domain,
    now: Timestamp,
) -> Result<Told, DescribeError> {
    let opened = Described::parse(&text)?.open(account, domain, now)?;
    let addresses = opened.record.addresses.iter();
    let addr = NodeAddr {
        id: opened.record.node,
        addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
    };
    let expires_at = opened.record.expires_at;
    let is_relay = opened.record.is_relay();
    let waits = !opened.record.relays.is_empty();
    Ok(Told {
        text,
        addr,
        is_relay,
        waits,
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn provider(number: u32) -> Provider {
        let mut address = [0; 20];
        address[..4].copy_from_slice(&number.to_be_bytes());
        Provider {
            address: address.into(),
            endpoint: format!("127.0.0.1:{number}"),
            stake: market::Amount::ZERO,
        }
    }

    fn told(number: u32, until: u64) -> Told {
        let addr = NodeAddr {
            id: NodeId(B256::from([u8::try_from(number).unwrap(); 32])),
            addresses: vec![],
        };
        Told {
            text: number.to_string().into(),
            addr,
            is_relay: number == 1,
            waits: number == 2,
            expires_at: Timestamp(until),
        }
    }

    #[test]
    fn who_hangs_delays_only_those_who_hang() {
        let hanging = u32::try_from(FAILED_AT_A_LOOK).unwrap() + 10;
        let all: Vec<_> = (0..hanging + 2).map(provider).collect();
        let [first, failed] = Directory::default().lots(&all);
        assert_eq!((first.len(), failed.len()), (all.len(), 0), "all are new");

        let failing = |provider: &Provider| (provider.address, Err(Failed));
        let found = all[2..].iter().map(failing);
        let found = found.chain([
            (all[0].address, Ok(told(0, 2_000))),
            (all[1].address, Ok(told(1, 2_000))),
        ]);
        let mut directory = Directory::default().with(&all, found.collect(), NOW);
        let [first, failed] = directory.lots(&all);
        assert_eq!(first, all[..2]);
        assert_eq!(failed.len(), FAILED_AT_A_LOOK);

        // Who failed once comes before those who fail again and again.
        let again = failed.iter().map(failing).chain([failing(&all[0])]);
        directory = directory.with(&all, again.collect(), NOW);
        let [first, failed] = directory.lots(&all);
        assert_eq!(first, [all[1].clone()]);
        assert!(failed[..12].contains(&all[0]), "{failed:?}");
    }

    #[test]
    fn who_waits_at_relays_is_told_of_and_not_dialled() {
        let all = [provider(2)];
        let found = vec![(all[0].address, Ok(told(2, 2_000)))];
        let directory = Directory::default().with(&all, found, NOW);
        let node = told(2, 0).addr.id;
        assert!(directory.waits(node) && directory.find(node).is_none());
        assert_eq!(directory.node_of(all[0].address), Some(node));
        assert_eq!(directory.parts(1, 1).len(), 1);
    }

    #[test]
    fn what_was_told_stays_while_it_is_good_and_registered() {
        let all: Vec<_> = (0..2).map(provider).collect();
        let found = |until| {
            all.iter()
                .map(move |p| (p.address, Ok(told(u32::from(p.address[3]), until))))
                .collect()
        };
        let directory = Directory::default().with(&all, found(2_000), NOW);
        let node = told(0, 0).addr.id;
        assert!(directory.find(node).is_some());
        assert_eq!(directory.node_of(all[0].address), Some(node));
        assert_eq!(directory.relays(), [told(1, 0).addr.id]);
        assert!(!directory.is_relay(node));
        let failed = || vec![(all[0].address, Err(Failed))];
        let later = directory.with(&all, failed(), NOW);
        assert!(later.find(node).is_some());
        assert_eq!(later.digest(), directory.digest());
        assert!(
            directory
                .with(&all, failed(), Timestamp(2_000))
                .find(node)
                .is_none()
        );
        let without = directory.with(&all[1..], vec![], NOW);
        assert!(without.find(node).is_none() && without.node_of(all[0].address).is_none());
    }
}
