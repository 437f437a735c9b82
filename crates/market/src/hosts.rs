//! Several nodes of one provider: the document by which its wallet certifies
//! them, and which of them count.
//!
//! A host sells with an account of its own, under its provider's registration, and
//! is paid over channels of its own: the receiver is the provider's wallet, the
//! receiver authorizer the host's account. So a voucher is good at one host and no
//! other, and a host never has the wallet's key. The wallet says who its hosts
//! are, each host's own record says whose host it is: both have to agree.
//!
//! The signature is EIP-191 over the text as it stands, as with a record. No record
//! can be taken for a certificate, nor the other way round: unknown fields are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, Signature};
use serde::{Deserialize, Serialize};

use crate::{Domain, Timestamp, WalletKey};

/// The hosts of one provider.
pub const HOSTS_MAX: usize = 16;

/// The longest that a certificate is good, in days.
pub const CERTIFICATE_DAYS_MAX: u64 = 90;

/// The longest endpoint that is read, in bytes: of a host, as of the registry.
pub const ENDPOINT_BYTES_MAX: usize = 256;

/// Nobody certifies hosts in more than this.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// A node of a provider, by its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// The account that the node signs with, and claims.
    pub account: Address,
    /// Who is registered, and paid.
    pub provider: Address,
}

impl Host {
    /// The node whose account is registered itself.
    pub fn own(provider: Address) -> Self {
        let account = provider;
        Self { account, provider }
    }

    /// Whether its account is registered itself, so that it needs no certificate.
    pub fn is_own(&self) -> bool {
        self.account == self.provider
    }
}

/// One host as its provider names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedHost {
    /// Its account.
    pub account: Address,
    /// Where its record is served, in the registry's form.
    pub endpoint: String,
}

/// Who the hosts of a provider are. The newest one of a provider counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// 1.
    pub version: u32,
    /// The chain that the provider is registered on.
    pub chain_id: u64,
    /// The settlement contract that its hosts take vouchers of.
    pub settlement: Address,
    /// The registered account; must be the signer.
    pub provider: Address,
    /// Its hosts, each once. Its own account may be one of them.
    pub hosts: Vec<CertifiedHost>,
    /// When this was written.
    pub issued_at: Timestamp,
    /// Good before this moment.
    pub expires_at: Timestamp,
}

/// A certificate's exact text and its signature, as served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCertificate {
    /// The certificate as JSON text.
    pub certificate: String,
    /// By the provider's wallet, over `certificate`.
    pub signature: Signature,
}

/// Why a certificate, or a host, does not count.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Larger than anyone needs.
    #[error("certificate has {bytes} bytes (allowed: {CERTIFICATE_BYTES_MAX})")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Signed by nobody, or by somebody else than the provider.
    #[error("certificate is not signed by provider {provider}")]
    BadSignature {
        /// Who should have.
        provider: Address,
    },
    /// Not a certificate.
    #[error("certificate is malformed")]
    Malformed(#[source] serde_json::Error),
    /// From a later version of the protocol.
    #[error("certificate has version {got} (known: 1)")]
    UnknownVersion {
        /// Its version.
        got: u32,
    },
    /// It speaks for another account, chain or contract.
    #[error("certificate's {field} is {got}, expected {expected}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// What it says.
        got: String,
        /// What it should say.
        expected: String,
    },
    /// No longer, or not yet, good.
    #[error(
        "certificate is good from {issued_at} to {expires_at}, it is {now} now; \
         the wallet makes a new one with `lethe host certify`",
        issued_at = .issued_at.0, expires_at = .expires_at.0, now = .now.0
    )]
    Stale {
        /// Its beginning.
        issued_at: Timestamp,
        /// Its end.
        expires_at: Timestamp,
        /// The reader's clock.
        now: Timestamp,
    },
    /// Good for longer than a lost host may go on.
    #[error("certificate is good for {got_s} s (allowed: {CERTIFICATE_DAYS_MAX} days)")]
    TooLong {
        /// How long.
        got_s: u64,
    },
    /// No hosts, or too many.
    #[error("certificate names {count} hosts (allowed: 1 to {HOSTS_MAX})")]
    Count {
        /// How many.
        count: usize,
    },
    /// One host twice.
    #[error("certificate names host {account} twice")]
    Twice {
        /// Which.
        account: Address,
    },
    /// A host that nobody could fetch.
    #[error(
        "certificate's endpoint of host {account} is not 1 to {ENDPOINT_BYTES_MAX} printable characters without spaces"
    )]
    Endpoint {
        /// Whose.
        account: Address,
    },
    /// Somebody who is not among the hosts.
    #[error("account {account} is not among the hosts that provider {provider} certifies", account = .host.account, provider = .host.provider)]
    NotAHost {
        /// Who, of whom.
        host: Host,
    },
    /// A host that is registered as a provider of its own.
    #[error("account {account} is itself registered: it is no host of provider {provider}", account = .host.account, provider = .host.provider)]
    Registered {
        /// Who, of whom.
        host: Host,
    },
}

impl Certificate {
    /// How far a wallet's clock may be ahead of ours.
    const CLOCK_SKEW_S: u64 = 300;

    const DAY_S: u64 = 24 * 3600;

    /// That these are the hosts of `provider`, from now on and for so many days.
    pub fn new(
        provider: Address,
        domain: &Domain,
        hosts: Vec<CertifiedHost>,
        (now, days): (Timestamp, u64),
    ) -> Self {
        Self {
            version: 1,
            chain_id: domain.chain_id,
            settlement: domain.settlement,
            provider,
            hosts,
            issued_at: now,
            expires_at: now.after_s(days.saturating_mul(Self::DAY_S)),
        }
    }

    /// Signs it, if it is one that readers believe.
    pub fn sign(&self, wallet: &WalletKey) -> Result<SignedCertificate, CertificateError> {
        let domain = Domain {
            chain_id: self.chain_id,
            settlement: self.settlement,
        };
        self.check(wallet.address(), &domain, self.issued_at)?;
        let certificate = serde_json::to_string(self).expect("a certificate has only string keys");
        Ok(SignedCertificate {
            signature: wallet.sign_message(certificate.as_bytes()),
            certificate,
        })
    }

    /// Where a host's record is served; none: the account is no host.
    pub fn endpoint_of(&self, account: Address) -> Option<&str> {
        let mut hosts = self.hosts.iter();
        let host = hosts.find(|host| host.account == account)?;
        Some(&host.endpoint)
    }

    /// Whether it is good at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.expires_at && self.issued_at <= now.after_s(Self::CLOCK_SKEW_S)
    }

    fn check(
        &self,
        provider: Address,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        if self.version != 1 {
            return Err(CertificateError::UnknownVersion { got: self.version });
        }
        must_be("provider", self.provider, provider)?;
        must_be("chainId", self.chain_id, domain.chain_id)?;
        must_be("settlement", self.settlement, domain.settlement)?;
        let Self {
            issued_at,
            expires_at,
            ..
        } = *self;
        if !self.is_good(now) {
            return Err(CertificateError::Stale {
                issued_at,
                expires_at,
                now,
            });
        }
        let got_s = expires_at.since_s(issued_at);
        if got_s > CERTIFICATE_DAYS_MAX * Self::DAY_S {
            return Err(CertificateError::TooLong { got_s });
        }
        let count = self.hosts.len();
        if !(1..=HOSTS_MAX).contains(&count) {
            return Err(CertificateError::Count { count });
        }
        for (at, CertifiedHost { account, endpoint }) in self.hosts.iter().enumerate() {
            let account = *account;
            if self.hosts[..at].iter().any(|one| one.account == account) {
                return Err(CertificateError::Twice { account });
            }
            let is_short = (1..=ENDPOINT_BYTES_MAX).contains(&endpoint.len());
            if !is_short || !endpoint.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(CertificateError::Endpoint { account });
            }
        }
        Ok(())
    }
}

impl SignedCertificate {
    /// The certificate, if `provider` signed it for this chain and contract and it is good now.
    pub fn open(
        &self,
        provider: Address,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<Certificate, CertificateError> {
        let certificate = self.read()?;
        let text = self.certificate.as_bytes();
        match self.signature.recover_address_from_msg(text) {
            Ok(signer) if signer == provider => {}
            _ => return Err(CertificateError::BadSignature { provider }),
        }
        certificate.check(provider, domain, now)?;
        Ok(certificate)
    }

    /// What it says, whoever signed it and for whatever chain.
    pub fn read(&self) -> Result<Certificate, CertificateError> {
        let bytes = self.certificate.len();
        if bytes > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLarge { bytes });
        }
        serde_json::from_str(&self.certificate).map_err(CertificateError::Malformed)
    }
}

fn must_be<T: PartialEq + ToString>(
    field: &'static str,
    got: T,
    expected: T,
) -> Result<(), CertificateError> {
    if got == expected {
        return Ok(());
    }
    Err(CertificateError::Mismatch {
        field,
        got: got.to_string(),
        expected: expected.to_string(),
    })
}

/// The newest certificate of each provider, all of them opened before.
#[derive(Debug, Clone, Default)]
pub struct HostBook {
    newest: BTreeMap<Address, Arc<Certificate>>,
}

impl HostBook {
    /// Takes over a certificate, if it is not older than what is known: two of one second may
    /// well be in the order in which they are heard, and the first one alone must not count for ever.
    pub fn hear(&mut self, certificate: &Arc<Certificate>) {
        let known = self.newest.get(&certificate.provider);
        if known.is_none_or(|known| known.issued_at <= certificate.issued_at) {
            let provider = certificate.provider;
            self.newest.insert(provider, Arc::clone(certificate));
        }
    }

    /// Forgets those that are over, and those of accounts that are not registered.
    pub fn keep(&mut self, is_registered: impl Fn(Address) -> bool, now: Timestamp) {
        let keep = |provider: &Address, certificate: &Certificate| {
            is_registered(*provider) && certificate.is_good(now)
        };
        self.newest
            .retain(|provider, certificate| keep(provider, certificate));
    }

    /// The certificate that counts.
    pub fn of(&self, provider: Address) -> Option<&Arc<Certificate>> {
        self.newest.get(&provider)
    }

    /// Whether a host counts whose record agrees: the newest certificate of its provider, or
    /// a newer one that it `brought`, names it, and it is not registered itself.
    pub fn admits(
        &self,
        host: Host,
        brought: Option<&Arc<Certificate>>,
        is_registered: impl Fn(Address) -> bool,
    ) -> Result<(), CertificateError> {
        if host.is_own() {
            return Ok(());
        }
        if is_registered(host.account) {
            return Err(CertificateError::Registered { host });
        }
        let known = self.of(host.provider);
        let newest = known.into_iter().chain(brought);
        let newest = newest.max_by_key(|certificate| certificate.issued_at);
        match newest.is_some_and(|it| it.endpoint_of(host.account).is_some()) {
            true => Ok(()),
            false => Err(CertificateError::NotAHost { host }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000);
    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    };

    fn wallet(n: u8) -> WalletKey {
        WalletKey::from_bytes(&[n; 32]).unwrap()
    }

    fn host(n: u8) -> CertifiedHost {
        CertifiedHost {
            account: Address::repeat_byte(n),
            endpoint: format!("192.0.2.{n}:3333"),
        }
    }

    fn certificate(hosts: Vec<CertifiedHost>) -> Certificate {
        Certificate::new(wallet(3).address(), &DOMAIN, hosts, (NOW, 30))
    }

    /// Signs whatever it says.
    fn signed(certificate: &Certificate) -> SignedCertificate {
        let text = serde_json::to_string(certificate).unwrap();
        SignedCertificate {
            signature: wallet(3).sign_message(text.as_bytes()),
            certificate: text,
        }
    }

    fn opened(certificate: &Certificate) -> Result<Certificate, CertificateError> {
        signed(certificate).open(wallet(3).address(), &DOMAIN, NOW)
    }

    #[test]
    fn hosts_that_their_wallet_certifies_are_believed() {
        let good = certificate(vec![host(1), host(2)]);
        let signed = good.sign(&wallet(3)).unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        let read: SignedCertificate = serde_json::from_str(&text).unwrap();
        let opened = read.open(wallet(3).address(), &DOMAIN, NOW).unwrap();
        assert_eq!(opened, good);
        assert_eq!(opened.endpoint_of(host(2).account), Some("192.0.2.2:3333"));
        assert_eq!(opened.endpoint_of(host(9).account), None);
    }

    #[test]
    fn the_example_of_the_protocol_is_what_is_signed() {
        const PROTOCOL: &str = include_str!("../../../docs/protocol/wire.md");
        let host = |n: u8| CertifiedHost {
            account: wallet(n).address(),
            endpoint: format!("192.0.2.{n}:3333"),
        };
        let domain = Domain {
            settlement: "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
                .parse()
                .unwrap(),
            ..DOMAIN
        };
        let hosts = vec![host(7), host(8)];
        let when = (Timestamp(1_790_000_000), 30);
        let certificate = Certificate::new(wallet(3).address(), &domain, hosts, when);
        let signed = certificate.sign(&wallet(3)).unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        assert!(PROTOCOL.contains(&text), "{text}");
    }

    #[test]
    fn what_is_odd_is_neither_signed_nor_believed() {
        let good = certificate(vec![host(1)]);
        let many = (1..=u8::try_from(HOSTS_MAX).unwrap() + 1).map(host);
        let endpoint = |endpoint: &str| {
            let endpoint = endpoint.to_owned();
            certificate(vec![CertifiedHost {
                endpoint,
                ..host(1)
            }])
        };
        for (odd, says) in [
            (certificate(vec![]), "names 0 hosts (allowed: 1 to 16)"),
            (certificate(many.collect()), "names 17 hosts"),
            (certificate(vec![host(1), host(2), host(1)]), "twice"),
            (endpoint(""), "endpoint of host"),
            (endpoint("a b:1"), "endpoint of host"),
            (endpoint(&"a".repeat(257)), "endpoint of host"),
            (
                Certificate::new(good.provider, &DOMAIN, vec![host(1)], (NOW, 91)),
                "allowed: 90 days",
            ),
            (
                Certificate {
                    version: 2,
                    ..good.clone()
                },
                "version 2",
            ),
        ] {
            let error = opened(&odd).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(odd.sign(&wallet(3)).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn one_of_another_wallet_chain_or_contract_is_refused() {
        let good = certificate(vec![host(1)]);
        let error = good.sign(&wallet(5)).unwrap_err().to_string();
        assert!(error.contains("certificate's provider is"), "{error}");
        let elsewhere = |domain: Domain| {
            let opened = signed(&good).open(wallet(3).address(), &domain, NOW);
            opened.unwrap_err().to_string()
        };
        let chain_id = 1;
        assert!(elsewhere(Domain { chain_id, ..DOMAIN }).contains("chainId is 31337, expected 1"));
        let settlement = Address::ZERO;
        let other = Domain {
            settlement,
            ..DOMAIN
        };
        assert!(elsewhere(other).contains("settlement is"));
        let forged = signed(&good).open(wallet(5).address(), &DOMAIN, NOW);
        assert!(matches!(
            forged,
            Err(CertificateError::BadSignature { provider }) if provider == wallet(5).address()
        ));
        let mut changed = signed(&good);
        changed.certificate = changed.certificate.replace("192.0.2.1", "192.0.2.2");
        let opened = changed.open(wallet(3).address(), &DOMAIN, NOW);
        assert!(matches!(opened, Err(CertificateError::BadSignature { .. })));
    }

    #[test]
    fn one_that_is_over_or_from_the_future_is_refused() {
        let good = certificate(vec![host(1)]);
        let at = |now| signed(&good).open(good.provider, &DOMAIN, now);
        assert!(at(Timestamp(good.expires_at.0 - 1)).is_ok());
        let error = at(good.expires_at).unwrap_err();
        assert!(error.to_string().contains("lethe host certify"), "{error}");
        assert!(at(Timestamp(NOW.0 - 300)).is_ok());
        let early = at(Timestamp(NOW.0 - 301));
        assert!(matches!(early, Err(CertificateError::Stale { .. })));
    }

    #[test]
    fn a_text_with_more_in_it_is_no_certificate() {
        let text = signed(&certificate(vec![host(1)])).certificate;
        for odd in [
            text.replacen('{', "{\"node\":1,", 1),
            text.replace("hosts", "offers"),
            "x".repeat(CERTIFICATE_BYTES_MAX + 1),
        ] {
            let signed = SignedCertificate {
                signature: wallet(3).sign_message(odd.as_bytes()),
                certificate: odd,
            };
            let opened = signed.open(wallet(3).address(), &DOMAIN, NOW);
            assert!(matches!(
                opened,
                Err(CertificateError::Malformed(_) | CertificateError::TooLarge { .. })
            ));
        }
    }

    #[test]
    fn the_newest_counts_and_nobody_is_host_who_is_registered_itself() {
        let (first, second) = (certificate(vec![host(1), host(2)]), vec![host(2), host(7)]);
        let provider = first.provider;
        let second = Certificate::new(provider, &DOMAIN, second, (NOW.after_s(1), 30));
        let mut book = HostBook::default();
        let admits = |book: &HostBook, n| {
            let account = Address::repeat_byte(n);
            let is_registered = |one| one == Address::repeat_byte(7);
            book.admits(Host { account, provider }, None, is_registered)
        };
        let is_none = |refused| matches!(refused, Err(CertificateError::NotAHost { .. }));
        assert!(is_none(admits(&book, 1)));
        let (brought, account) = (Arc::new(first.clone()), Address::repeat_byte(1));
        let host = Host { account, provider };
        let brings = |book: &HostBook| book.admits(host, Some(&brought), |_| false);
        assert!(brings(&book).is_ok());
        book.hear(&Arc::new(first.clone()));
        assert!(admits(&book, 1).is_ok() && admits(&book, 2).is_ok());
        book.hear(&Arc::new(second));
        book.hear(&Arc::new(first));
        assert!(is_none(admits(&book, 1)) && admits(&book, 2).is_ok());
        assert!(is_none(brings(&book)), "an older one brings nobody back");
        let (mut later, third) = (book.clone(), brought.hosts.clone());
        let third = Certificate::new(provider, &DOMAIN, third, (NOW.after_s(1), 30));
        later.hear(&Arc::new(third));
        assert!(admits(&later, 1).is_ok(), "one of the same second counts");
        let error = admits(&book, 7).unwrap_err().to_string();
        assert!(error.contains("is itself registered"), "{error}");
        assert!(book.admits(Host::own(provider), None, |_| true).is_ok());

        book.keep(|one| one == provider, NOW.after_s(1));
        assert!(admits(&book, 2).is_ok());
        book.keep(|_| true, NOW.after_s(31 * 24 * 3600));
        assert!(is_none(admits(&book, 2)));
    }
}
