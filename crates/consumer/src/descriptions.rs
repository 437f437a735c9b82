//! What registered nodes and hosts of theirs say of themselves, checked.
//!
//! No I/O: what was told comes in, by whoever told it. What was checked once is not
//! checked again while the words are the same. Who the hosts of a provider are is
//! remembered while its certificate is good, so that a door that is dead hides nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use market::{Address, Domain, HostBook, Provider, Timestamp, with_causes};
use seal::EpochKey;
use tracing::debug;
use transport::describe::{Described, Opened};

use crate::telling::Told;

/// Certificates of one provider that are checked at a look, of each who tells.
const CERTIFICATES_LOOKED_AT: usize = 4;

/// What is known of a registered node, or a host.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) opened: Arc<Opened>,
    /// Why its key may not be used, if so.
    pub(crate) doubt: Option<String>,
}

/// What was checked once.
struct Checked {
    words: Vec<Bytes>,
    /// Who of those asked has no words.
    silent: Vec<Address>,
    known: Known,
}

/// What was told and checked before.
#[derive(Default)]
pub(crate) struct Descriptions {
    memo: HashMap<Address, Checked>,
    hosts: HostBook,
}

impl Descriptions {
    /// Who the hosts of providers are.
    pub(crate) fn hosts(&self) -> &HostBook {
        &self.hosts
    }

    /// Where the hosts of these are asked.
    pub(crate) fn doors(&self, registered: &[Provider]) -> Vec<(Address, String)> {
        let certificates = registered.iter();
        let certificates = certificates.filter_map(|one| self.hosts.of(one.address));
        let all = certificates.flat_map(|certificate| &certificate.hosts);
        all.map(|host| (host.account, host.endpoint.clone()))
            .collect()
    }

    /// The same of those of whom nothing was told.
    pub(crate) fn unasked(&self, registered: &[Provider], told: &[Told]) -> Vec<(Address, String)> {
        let mut doors = self.doors(registered);
        doors.retain(|(account, _)| !told.iter().any(|told| told.contains_key(account)));
        doors
    }

    /// Takes over who the hosts of registered providers are, from what was told just now. Of
    /// each who tells only so many certificates of one provider are looked at: it may tell anything.
    pub(crate) fn hear(
        &mut self,
        told: &[Told],
        registered: &BTreeSet<Address>,
        domain: &Domain,
        now: Timestamp,
    ) {
        let mut seen = BTreeSet::new();
        let mut looked: BTreeMap<(usize, Address), usize> = BTreeMap::new();
        let all = told.iter().enumerate();
        let all = all.flat_map(|(by, told)| told.iter().map(move |told| (by, told)));
        for (by, (account, text)) in all {
            let is_known = |checked: &Checked| checked.words.contains(text);
            if self.memo.get(account).is_some_and(is_known) {
                continue;
            }
            let described = Described::parse(text).ok();
            let Some(signed) = described.and_then(|described| described.hosts) else {
                continue;
            };
            let provider = signed.read().ok().map(|it| it.provider);
            let Some(provider) = provider.filter(|it| registered.contains(it)) else {
                continue;
            };
            let before = looked.entry((by, provider)).or_default();
            let same = (signed.certificate.clone(), signed.signature.as_bytes());
            if *before >= CERTIFICATES_LOOKED_AT || !seen.insert(same) {
                continue;
            }
            *before += 1;
            match signed.open(provider, domain, now) {
                Ok(certificate) => self.hosts.hear(&Arc::new(certificate)),
                Err(error) => debug!(%provider, %error, "a certificate is not believed"),
            }
        }
        self.hosts
            .keep(|account| registered.contains(&account), now);
    }

    /// What registered nodes and their hosts said, by account. `needed`: how many have
    /// to tell the same of an epoch key. `relays`: who told each.
    pub(crate) fn open(
        &mut self,
        (told, relays): (&[Told], &[Address]),
        (registered, needed): (&BTreeSet<Address>, usize),
        domain: &Domain,
        now: Timestamp,
    ) -> BTreeMap<Address, Result<Known, String>> {
        let certificates = registered.iter().filter_map(|one| self.hosts.of(*one));
        let hosts = certificates.flat_map(|certificate| &certificate.hosts);
        let hosts = hosts.map(|host| host.account);
        let asked: BTreeSet<_> = hosts.chain(registered.iter().copied()).collect();
        // Who is neither registered nor anybody's host is not remembered.
        self.memo.retain(|account, _| asked.contains(account));
        let is_registered = |account| registered.contains(&account);
        let mut opened = BTreeMap::new();
        for account in asked {
            let told = (told, relays);
            let known = self.known(account, told, (registered, needed), (domain, now));
            let known = known.and_then(|known| {
                let host = known.opened.host;
                let admitted = self.hosts.admits(host, None, is_registered);
                admitted.map_err(|error| error.to_string()).map(|()| known)
            });
            opened.insert(account, known);
        }
        opened
    }

    fn known(
        &mut self,
        account: Address,
        (told, relays): (&[Told], &[Address]),
        (registered, needed): (&BTreeSet<Address>, usize),
        (domain, now): (&Domain, Timestamp),
    ) -> Result<Known, String> {
        let words: Vec<_> = told
            .iter()
            .filter_map(|told| told.get(&account).cloned())
            .collect();
        let silent = relays.iter().zip(told);
        let silent = silent.filter(|(_, told)| !told.contains_key(&account));
        let silent: Vec<_> = silent.map(|(relay, _)| *relay).collect();
        if let Some(before) = self.memo.get(&account)
            && (&before.words, &before.silent) == (&words, &silent)
            && now < before.known.opened.record.expires_at
        {
            return Ok(before.known.clone());
        }
        let mut problem = "no description of it is to be had".to_owned();
        let mut opened = Vec::new();
        for words in &words {
            match open(words, account, registered, domain, now) {
                Ok(found) => opened.push(found),
                Err(error) => problem = error,
            }
        }
        let doubt = doubt(&opened, needed, &silent);
        let newest = opened
            .into_iter()
            .max_by_key(|opened| opened.record.issued_at);
        let known = Known {
            opened: Arc::new(newest.ok_or(problem)?),
            doubt,
        };
        let checked = Checked {
            words,
            silent,
            known: known.clone(),
        };
        self.memo.insert(account, checked);
        Ok(known)
    }
}

/// Which host tells this, if it is one of several.
pub(crate) fn teller(text: &[u8]) -> Option<Address> {
    let described = Described::parse(text).ok()?;
    described.host_of()?;
    described.descriptor.signer()
}

/// What an account says, if it is registered, or a host of somebody who is.
fn open(
    text: &[u8],
    account: Address,
    registered: &BTreeSet<Address>,
    domain: &Domain,
    now: Timestamp,
) -> Result<Opened, String> {
    let described = Described::parse(text).map_err(|error| with_causes(&error))?;
    let provider = described.host_of().unwrap_or(account);
    if !registered.contains(&provider) {
        return Err(format!("{provider} is not registered"));
    }
    let opened = described.open(provider, domain, now);
    let opened = opened.map_err(|error| with_causes(&error))?;
    match opened.host.account == account {
        true => Ok(opened),
        false => Err(format!("it is told by {}", opened.host.account)),
    }
}

/// Why the epoch key is not certain, if so. `silent`: relays that tell nothing of it.
fn doubt(told: &[Opened], needed: usize, silent: &[Address]) -> Option<String> {
    let keys: Vec<&Arc<EpochKey>> = told
        .iter()
        .filter_map(|opened| opened.epoch.as_ref()?.as_ref().ok())
        .collect();
    let refused = told
        .iter()
        .find_map(|opened| opened.epoch.as_ref()?.as_ref().err());
    let Some(first) = keys.first() else {
        let none = || "it has no epoch key".to_owned();
        return Some(refused.map_or_else(none, |error| with_causes(error)));
    };
    if keys.len() < needed {
        let silent = silent
            .iter()
            .map(|relay| format!("; relay {relay} tells nothing of it, and may not reach it"));
        return Some(format!(
            "its epoch key was told by {} of {needed} relays{}",
            keys.len(),
            silent.collect::<String>()
        ));
    }
    let same = keys.iter().all(|key| key.hash() == first.hash());
    (!same).then(|| "the relays tell different epoch keys of it".to_owned())
}

#[cfg(test)]
mod tests {
    use market::{
        Certificate, CertifiedHost, NodeKey, Record, SignedCertificate, WITHDRAW_DELAY_MIN_S,
        WalletKey,
    };
    use seal::{EpochKeys, Identity};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000);
    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    };

    fn key(n: u8) -> WalletKey {
        WalletKey::from_bytes(&[n; 32]).unwrap()
    }

    fn account(n: u8) -> Address {
        key(n).address()
    }

    fn certificate(of: u8, hosts: &[u8], later_s: u64) -> SignedCertificate {
        let host = |n: &u8| CertifiedHost {
            account: account(*n),
            endpoint: format!("192.0.2.{n}:1"),
        };
        let (hosts, when) = (hosts.iter().map(host).collect(), (NOW.after_s(later_s), 1));
        let certificate = Certificate::new(account(of), &DOMAIN, hosts, when);
        certificate.sign(&key(of)).unwrap()
    }

    /// What one says who is a host of another by its own word.
    fn text(n: u8, of: u8, hosts: &SignedCertificate) -> Bytes {
        let node = NodeKey::from_bytes(&[n; 32]);
        let record = Record {
            version: 1,
            chain_id: DOMAIN.chain_id,
            settlement: DOMAIN.settlement,
            provider: account(of),
            receiver_authorizer: account(n),
            withdraw_delay_min_s: WITHDRAW_DELAY_MIN_S,
            node: node.id(),
            addresses: vec![],
            relays: vec![],
            offers: vec![],
            capabilities: vec![],
            issued_at: NOW,
            expires_at: NOW.after_s(600),
        };
        let described = Described {
            descriptor: record.sign(&key(n), &node),
            epoch: None,
            hosts: Some(hosts.clone()),
        };
        described.to_text().into()
    }

    /// Whom one knows who was told this, one after the other; nobody but 1 and 2 is registered.
    fn known(told: &[&[(u8, Bytes)]]) -> Vec<Address> {
        let registered = [account(1), account(2)].into();
        let mut descriptions = Descriptions::default();
        let mut opened = BTreeMap::new();
        for told in told {
            let told = told.iter().map(|(n, text)| (account(*n), text.clone()));
            let told = [told.collect()];
            descriptions.hear(&told, &registered, &DOMAIN, NOW);
            opened = descriptions.open((&told, &[]), (&registered, 1), &DOMAIN, NOW);
        }
        let good = opened.into_iter().filter(|(_, known)| known.is_ok());
        good.map(|(account, _)| account).collect()
    }

    fn sorted(accounts: &[u8]) -> Vec<Address> {
        let accounts: BTreeSet<_> = accounts.iter().map(|n| account(*n)).collect();
        accounts.into_iter().collect()
    }

    #[test]
    fn a_relay_that_tells_nothing_of_it_is_named() {
        let described = |n: u8| {
            let text = text(n, n, &certificate(n, &[n], 0));
            let (node, provider) = (NodeKey::from_bytes(&[n; 32]), account(n));
            let domain = DOMAIN;
            let keys = EpochKeys::new(Identity { domain, provider }, &node, NOW);
            let described = Described {
                epoch: Some(keys.record().clone()),
                ..Described::parse(&text).unwrap()
            };
            (provider, described.to_text().into())
        };
        let told: [Told; 2] = [[described(1), described(2)].into(), [described(2)].into()];
        let (relays, registered) = ([account(8), account(9)], [account(1)].into());
        let mut descriptions = Descriptions::default();
        let mut doubt = |relays: &[Address]| {
            let told = (&told[..], relays);
            let opened = descriptions.open(told, (&registered, 2), &DOMAIN, NOW);
            opened[&account(1)].as_ref().unwrap().doubt.clone().unwrap()
        };
        let first = doubt(&relays);
        assert!(
            first.contains(&format!("relay {} tells nothing of it", account(9))),
            "{first}"
        );
        assert!(!first.contains(&account(8).to_string()), "{first}");
        let other = doubt(&[account(8), account(7)]);
        assert!(other.contains(&account(7).to_string()), "{other}");
    }

    #[test]
    fn hosts_are_told_by_their_own_account_and_known_by_any_of_their_texts() {
        let hosts = certificate(1, &[5, 6], 0);
        let both = [(5, text(5, 1, &hosts)), (6, text(6, 1, &hosts))];
        assert_eq!(known(&[&both]), sorted(&[5, 6]));
        // Told by somebody else's account it is nobody's.
        assert!(known(&[&[(7, text(5, 1, &hosts))]]).is_empty());
        assert!(known(&[&[(1, text(5, 1, &hosts))]]).is_empty());
        // The provider's own node may be among them.
        let with_own = certificate(1, &[1, 5], 0);
        let both = [(1, text(1, 1, &with_own)), (5, text(5, 1, &with_own))];
        assert_eq!(known(&[&both]), sorted(&[1, 5]));
    }

    #[test]
    fn who_is_certified_by_strangers_or_claims_to_be_a_host_is_none() {
        let hosts = certificate(1, &[5], 0);
        // A stranger's wallet names it, and it says whose it is.
        let strangers = certificate(2, &[5, 1], 0);
        assert!(known(&[&[(5, text(5, 1, &strangers))]]).is_empty());
        // One claims to be a host that is not certified.
        assert!(known(&[&[(6, text(6, 1, &hosts))]]).is_empty());
        // Of who is not registered nobody is a host, and who is registered is no host.
        let unknown = certificate(3, &[5], 0);
        assert!(known(&[&[(5, text(5, 3, &unknown))]]).is_empty());
        assert!(known(&[&[(1, text(1, 2, &strangers))]]).is_empty());
    }

    #[test]
    fn the_newest_certificate_holds_and_junk_does_not_hide_it() {
        let (first, second) = (certificate(1, &[5, 6], 0), certificate(1, &[6], 1));
        let five = (5, text(5, 1, &first));
        let six = (6, text(6, 1, &second));
        assert_eq!(known(&[&[five.clone(), six.clone()]]), sorted(&[6]));
        let both = [six.clone(), five.clone()].map(|one| [one]);
        assert!(known(&[&both[0], &both[1]]).is_empty());

        // One who tells the same words without the signature hides nothing from who asks two.
        let forged = |n| SignedCertificate {
            signature: key(9).sign_message(&[n]),
            ..first.clone()
        };
        let junk = (10..30).map(|n| (account(n), text(n, 1, &forged(n))));
        let junk: Told = junk.collect();
        let good: Told = [(account(5), five.1)].into();
        let registered = [account(1)].into();
        let mut descriptions = Descriptions::default();
        descriptions.hear(&[junk, good], &registered, &DOMAIN, NOW);
        assert!(descriptions.hosts().of(account(1)).is_some());
    }
}
