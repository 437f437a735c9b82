//! Who is registered, and what each says of itself: read by the relay from
//! registry and endpoints, and told on word for word. Whoever asks checks the
//! signatures; the relay checks them too, so that it dials nobody's victim.
//!
//! A provider with several hosts certifies them ([`market::Certificate`]): each is asked
//! at its own endpoint, and told by its own account. One door of them is enough to
//! learn of all, and what was learnt stays while the certificate is good.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use market::{
    Address, B256, Certificate, CertificateError, Domain, Host, HostBook, Ledger, LedgerError,
    NodeId, Provider, Timestamp,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;
use transport::NodeAddr;
use transport::describe::{DescribeError, Described, fetch};
use transport::message::Description;

use crate::passed_on::PassedOn;
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

/// One door that is asked for a description.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Door {
    /// Whose it should be: the registered account's, which may let a host of its answer,
    /// or a host's.
    host: Host,
    endpoint: String,
}

/// What is known of one door.
#[derive(Debug, Clone, Default)]
struct Known {
    /// What was told there last, by whichever host.
    told: Option<Told>,
    /// Fetches that failed, since the last one that did not.
    failures: u32,
}

/// What a node told, checked.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    host: Host,
    /// Who the hosts are, in the same text.
    hosts: Option<Arc<Certificate>>,
    text: Bytes,
    addr: NodeAddr,
    is_relay: bool,
    /// It waits at relays, and is not to be dialled.
    waits: bool,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl Told {
    pub(crate) fn host(&self) -> Host {
        self.host
    }

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
    registered: BTreeSet<Address>,
    hosts: HostBook,
    known: BTreeMap<Door, Known>,
    /// What is told, by the account that it is of.
    told: BTreeMap<Address, Told>,
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

    /// The node that a registered account, or a host, described.
    pub(crate) fn node_of(&self, account: Address) -> Option<NodeId> {
        Some(self.told.get(&account)?.addr.id)
    }

    /// Registered accounts that are known.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether a registered node waits at relays, and cannot be dialled.
    pub(crate) fn waits(&self, node: NodeId) -> bool {
        self.waiting.contains(&node)
    }

    /// Whether an account was in the registry at the last look.
    pub(crate) fn is_registered(&self, account: Address) -> bool {
        self.registered.contains(&account)
    }

    /// Whether what was told is of somebody who counts: registered at the last look, or a host
    /// of one that was.
    pub(crate) fn admits(&self, told: &Told) -> Result<(), CertificateError> {
        let host = told.host;
        if !self.is_registered(host.provider) {
            return Err(CertificateError::NotAHost { host });
        }
        let is_registered = |account| self.is_registered(account);
        self.hosts.admits(host, told.hosts.as_ref(), is_registered)
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
        let each = self.told.iter();
        each.map(|(account, told)| (*account, &told.text))
    }

    /// The doors of those registered now: one of each first, then those of further hosts.
    fn doors(&self, registered: &[Provider]) -> Vec<Door> {
        let (mut doors, mut more) = (Vec::with_capacity(registered.len()), Vec::new());
        for provider in registered {
            let own = Door {
                host: Host::own(provider.address),
                endpoint: provider.endpoint.clone(),
            };
            let hosts = self.hosts.of(provider.address);
            let hosts = hosts.map_or(&[][..], |hosts| &hosts.hosts);
            let mut certified = hosts.iter().map(|host| Door {
                host: Host {
                    account: host.account,
                    provider: provider.address,
                },
                endpoint: host.endpoint.clone(),
            });
            if hosts.iter().any(|host| host.endpoint == own.endpoint) {
                doors.extend(certified.next());
            } else {
                doors.push(own);
            }
            more.extend(certified);
        }
        doors.extend(more);
        doors.truncate(NODES_MAX);
        doors
    }

    /// The same in two lots: who answered last time or is new, and
    /// of the others as many as are asked in one look.
    fn lots(&self, registered: &[Provider]) -> [Vec<Door>; 2] {
        let failures = |door: &Door| self.known.get(door).map_or(0, |known| known.failures);
        let (first, mut failed): (Vec<_>, Vec<_>) = self
            .doors(registered)
            .into_iter()
            .partition(|door| failures(door) == 0);
        failed.sort_by_key(failures);
        failed.truncate(FAILED_AT_A_LOOK);
        [first, failed]
    }

    /// Doors of hosts that were certified lately, and were not asked yet.
    fn fresh_doors(&self, registered: &[Provider]) -> Vec<Door> {
        let mut doors = self.doors(registered);
        doors.retain(|door| !self.known.contains_key(door));
        doors
    }

    /// What it becomes with what was fetched: who is no longer registered goes, and
    /// what could not be fetched stays, as long as it is good.
    fn with(&self, registered: &[Provider], found: Vec<Fetched>, now: Timestamp) -> Self {
        let mut found: HashMap<_, _> = found.into_iter().collect();
        let mut after = Self {
            registered: registered.iter().map(|one| one.address).collect(),
            hosts: self.hosts.clone(),
            told: self.told.clone(),
            ..Self::default()
        };
        let heard = found.values().flatten();
        for hosts in heard.filter_map(|told| told.hosts.as_ref()) {
            after.hosts.hear(hosts);
        }
        let registered_now = &after.registered;
        after
            .hosts
            .keep(|account| registered_now.contains(&account), now);
        for door in self.doors(registered) {
            let mut known = self.known.get(&door).cloned().unwrap_or_default();
            match found.remove(&door) {
                Some(Ok(told)) => {
                    after.tell(&door, &told);
                    known.told = Some(told);
                    known.failures = 0;
                }
                Some(Err(Failed)) => known.failures = known.failures.saturating_add(1),
                // One that was certified meanwhile is asked at once.
                None if !self.known.contains_key(&door) => continue,
                None => {}
            }
            known.told = known.told.filter(|told| told.is_good(now));
            after.known.insert(door, known);
        }
        after.drop_what_is_over(now);
        after.arrange();
        after
    }

    /// Takes over what was told at a door. Of two providers that name one account as their
    /// host, its newest word says whose it is.
    fn tell(&mut self, at: &Door, told: &Told) {
        let before = self.told.get(&told.host.account);
        let replaces = |before: &Told| {
            let is_own_door = at.host == told.host && before.host == told.host;
            is_own_door || before.issued_at <= told.issued_at
        };
        if before.is_none_or(replaces) {
            self.told.insert(told.host.account, told.clone());
        }
    }

    fn drop_what_is_over(&mut self, now: Timestamp) {
        let mut all = std::mem::take(&mut self.told);
        all.retain(|account, told| match self.admits(told) {
            Ok(()) => told.is_good(now),
            Err(error) => {
                debug!(%account, %error, "not told any more");
                false
            }
        });
        self.told = all;
    }

    fn arrange(&mut self) {
        let mut hash = Sha256::new();
        for (account, told) in &self.told {
            hash.update(account);
            hash.update(Sha256::digest(&told.text));
            if told.waits {
                self.waiting.insert(told.addr.id);
                continue;
            }
            self.nodes.insert(told.addr.id, told.addr.clone());
            // Who carries has a stake of its own.
            if told.is_relay && told.host.is_own() {
                self.relays.insert(told.addr.id);
            }
        }
        self.digest = B256::from_slice(&hash.finalize());
    }
}

/// Nothing, or nothing good, came in time.
#[derive(Debug, Clone, Copy)]
struct Failed;

type Fetched = (Door, Result<Told, Failed>);

/// Where descriptions are had.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// From everybody's door.
    pub(crate) http: &'a reqwest::Client,
    /// Of those who wait here, as they brought them.
    pub(crate) waiting: &'a Waiting,
    /// Of those who may be on this machine, there first.
    pub(crate) passed_on: Option<PassedOn>,
}

/// Reads registry and descriptions anew, and tells twice what came of it:
/// after those who answered last time, and after some of the others. Once more,
/// if hosts were certified that nobody knew.
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
        take(sources, directory, (&registered, lot), domain, now).await;
    }
    let fresh = directory.borrow().fresh_doors(&registered);
    if !fresh.is_empty() {
        take(sources, directory, (&registered, fresh), domain, now).await;
    }
    Ok(())
}

async fn take(
    sources: Sources<'_>,
    directory: &watch::Sender<Arc<Directory>>,
    (registered, lot): (&[Provider], Vec<Door>),
    domain: Domain,
    now: Timestamp,
) {
    let before = Arc::clone(&directory.borrow());
    let found = fetch_all(sources, &before, lot, domain, now).await;
    directory.send_replace(Arc::new(before.with(registered, found, now)));
}

async fn fetch_all(
    sources: Sources<'_>,
    before: &Directory,
    lot: Vec<Door>,
    domain: Domain,
    now: Timestamp,
) -> Vec<Fetched> {
    let mut missing: BTreeSet<Door> = lot.iter().cloned().collect();
    let mut found = Vec::with_capacity(lot.len());
    let fetches = stream::iter(lot)
        .map(|door| one(sources, before, door, domain, now))
        .buffer_unordered(FETCHES);
    let mut fetches = pin!(fetches.take_until(sleep(LOOK_WITHIN)));
    while let Some((door, told)) = fetches.next().await {
        missing.remove(&door);
        found.push((door, told));
    }
    found.extend(missing.into_iter().map(|door| (door, Err(Failed))));
    found
}

async fn one(
    sources: Sources<'_>,
    before: &Directory,
    door: Door,
    domain: Domain,
    now: Timestamp,
) -> Fetched {
    let account = door.host.account;
    if let Some(told) = sources.waiting.told(account, now) {
        return (door, Ok(told));
    }
    let here = sources.passed_on.and_then(|it| it.door(&door.endpoint));
    if let Some(here) = here
        && let Ok(told) = ask(sources, before, (&door, &here), domain, now).await
    {
        return (door, Ok(told));
    }
    let told = ask(sources, before, (&door, &door.endpoint), domain, now).await;
    let told = told.map_err(|error| {
        debug!(%account, %error, "no description");
        Failed
    });
    (door, told)
}

/// What is told at `endpoint` of whose door it is.
async fn ask(
    sources: Sources<'_>,
    before: &Directory,
    (door, endpoint): (&Door, &str),
    domain: Domain,
    now: Timestamp,
) -> Result<Told, DescribeError> {
    let text = fetch(sources.http, endpoint).await?;
    let last = before.known.get(door);
    let last = last.and_then(|known| known.told.as_ref());
    // Its signatures were checked before.
    if let Some(last) = last.filter(|last| last.text == text && last.is_good(now)) {
        return Ok(last.clone());
    }
    let mut told = checked(text.into(), door.host.provider, &domain, now)?;
    if let Some(passed_on) = sources.passed_on {
        told.addr = passed_on.widened(told.addr);
    }
    Ok(told)
}

/// What an account, or a host of it, says of its node, if it is believed.
pub(crate) fn checked(
    text: Bytes,
    provider: Address,
    domain: &Domain,
    now: Timestamp,
) -> Result<Told, DescribeError> {
    let opened = Described::parse(&text)?.open(provider, domain, now)?;
    let addresses = opened.record.addresses.iter();
    let addr = NodeAddr {
        id: opened.record.node,
        addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
    };
    let (issued_at, expires_at) = (opened.record.issued_at, opened.record.expires_at);
    let is_relay = opened.record.is_relay();
    let waits = !opened.record.relays.is_empty();
    Ok(Told {
        host: opened.host,
        hosts: opened.hosts,
        text,
        addr,
        is_relay,
        waits,
        issued_at,
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
            host: Host::own(provider(number).address),
            hosts: None,
            text: number.to_string().into(),
            addr,
            is_relay: number == 1,
            waits: number == 2,
            issued_at: NOW,
            expires_at: Timestamp(until),
        }
    }

    fn door(provider: &Provider) -> Door {
        Door {
            host: Host::own(provider.address),
            endpoint: provider.endpoint.clone(),
        }
    }

    /// Hosts of one provider, by number, certified so many seconds after the others.
    fn certified(of: u32, hosts: &[u32], later_s: u64) -> Arc<Certificate> {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::ZERO,
        };
        let host = |number: &u32| market::CertifiedHost {
            account: provider(*number).address,
            endpoint: provider(*number).endpoint,
        };
        let (of, hosts) = (provider(of).address, hosts.iter().map(host).collect());
        let when = (NOW.after_s(later_s), 1);
        Arc::new(Certificate::new(of, &domain, hosts, when))
    }

    /// What a host tells, with the certificate.
    fn tells(number: u32, certificate: &Arc<Certificate>) -> Told {
        let (account, provider) = (provider(number).address, certificate.provider);
        Told {
            host: Host { account, provider },
            hosts: Some(Arc::clone(certificate)),
            ..told(number, 2_000)
        }
    }

    fn host_door(number: u32, certificate: &Certificate) -> Door {
        let host = tells(number, &Arc::new(certificate.clone())).host;
        let endpoint = provider(number).endpoint;
        Door { host, endpoint }
    }

    fn accounts(directory: &Directory) -> Vec<Address> {
        directory.texts().map(|(account, _)| account).collect()
    }

    #[test]
    fn one_door_is_enough_to_learn_of_all_hosts_and_they_stay_when_it_is_dead() {
        let all = [provider(9)];
        let certificate = certified(9, &[5, 6], 0);
        let found = vec![(door(&all[0]), Ok(tells(5, &certificate)))];
        let directory = Directory::default().with(&all, found, NOW);
        assert_eq!(accounts(&directory), [provider(5).address]);
        let doors = [host_door(5, &certificate), host_door(6, &certificate)];
        assert_eq!(directory.fresh_doors(&all), doors);

        let found = doors.clone().into_iter().zip([5, 6]);
        let found = found.map(|(door, n)| (door, Ok(tells(n, &certificate))));
        let directory = directory.with(&all, found.collect(), NOW);
        assert_eq!(directory.fresh_doors(&all), []);
        let failed = || {
            vec![
                (door(&all[0]), Err(Failed)),
                (doors[0].clone(), Err(Failed)),
            ]
        };
        let later = directory.with(&all, failed(), NOW.after_s(1));
        assert_eq!(accounts(&later), [provider(5).address, provider(6).address]);
        assert_eq!(later.node_of(provider(6).address), Some(told(6, 0).addr.id));
        assert_eq!(later.lots(&all).map(|lot| lot.len()), [1, 2]);
        // Nobody is a host of who left the registry.
        assert!(accounts(&later.with(&[], vec![], NOW)).is_empty());
    }

    #[test]
    fn a_host_that_the_newest_certificate_does_not_name_is_told_no_more() {
        let all = [provider(9)];
        let (first, second) = (certified(9, &[5, 6], 0), certified(9, &[6], 1));
        let found = vec![(door(&all[0]), Ok(tells(5, &first)))];
        let directory = Directory::default().with(&all, found, NOW);
        let found = vec![(host_door(6, &first), Ok(tells(6, &second)))];
        let directory = directory.with(&all, found, NOW);
        assert_eq!(accounts(&directory), [provider(6).address]);
        assert!(directory.admits(&tells(5, &first)).is_err());
        let found = vec![(door(&all[0]), Ok(tells(5, &first)))];
        let directory = directory.with(&all, found, NOW);
        assert_eq!(accounts(&directory), [provider(6).address]);
    }

    #[test]
    fn a_host_is_its_newest_words_and_nobodys_who_is_registered_itself() {
        let all = [provider(8), provider(9)];
        let (first, second) = (certified(8, &[5, 9], 0), certified(9, &[5], 0));
        let newer = Told {
            issued_at: NOW.after_s(1),
            ..tells(5, &second)
        };
        let found = |swap: bool| {
            let mut found = vec![
                (host_door(5, &first), Ok(tells(5, &first))),
                (door(&all[1]), Ok(newer.clone())),
            ];
            if swap {
                found.swap(0, 1);
            }
            found
        };
        let known = vec![(door(&all[0]), Ok(tells(9, &first)))];
        let directory = Directory::default().with(&all, known, NOW);
        assert!(accounts(&directory).is_empty(), "9 is registered itself");
        for swap in [false, true] {
            let directory = directory.with(&all, found(swap), NOW);
            let whose = directory.told[&provider(5).address].host.provider;
            assert_eq!(whose, provider(9).address);
        }
    }

    #[test]
    fn who_hangs_delays_only_those_who_hang() {
        let hanging = u32::try_from(FAILED_AT_A_LOOK).unwrap() + 10;
        let all: Vec<_> = (0..hanging + 2).map(provider).collect();
        let [first, failed] = Directory::default().lots(&all);
        assert_eq!((first.len(), failed.len()), (all.len(), 0), "all are new");

        let failing = |door: &Door| (door.clone(), Err(Failed));
        let doors: Vec<_> = all.iter().map(door).collect();
        let found = doors[2..].iter().map(failing);
        let found = found.chain([
            (doors[0].clone(), Ok(told(0, 2_000))),
            (doors[1].clone(), Ok(told(1, 2_000))),
        ]);
        let mut directory = Directory::default().with(&all, found.collect(), NOW);
        let [first, failed] = directory.lots(&all);
        assert_eq!(first, doors[..2]);
        assert_eq!(failed.len(), FAILED_AT_A_LOOK);

        // Who failed once comes before those who fail again and again.
        let again = failed.iter().map(failing).chain([failing(&doors[0])]);
        directory = directory.with(&all, again.collect(), NOW);
        let [first, failed] = directory.lots(&all);
        assert_eq!(first, [doors[1].clone()]);
        assert!(failed[..12].contains(&doors[0]), "{failed:?}");
    }

    #[test]
    fn who_waits_at_relays_is_told_of_and_not_dialled() {
        let all = [provider(2)];
        let found = vec![(door(&all[0]), Ok(told(2, 2_000)))];
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
                .map(move |p| (door(p), Ok(told(u32::from(p.address[3]), until))))
                .collect()
        };
        let directory = Directory::default().with(&all, found(2_000), NOW);
        let node = told(0, 0).addr.id;
        assert!(directory.find(node).is_some());
        assert_eq!(directory.node_of(all[0].address), Some(node));
        assert_eq!(directory.relays(), [told(1, 0).addr.id]);
        assert!(!directory.is_relay(node));
        let failed = || vec![(door(&all[0]), Err(Failed))];
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
