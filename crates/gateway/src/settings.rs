//! What the gateway runs with: who may ask, from where, and how much.

use std::sync::Arc;
use std::time::Duration;

use consumer::Conditions;
use http::HeaderValue;
use market::UsdRates;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;

/// Who may ask, from where, and how much.
#[derive(Default)]
pub struct Settings {
    /// The keys that are accepted; with none, everybody who gets here may ask.
    pub keys: Vec<ApiKey>,
    /// Names under which the gateway's own routes may be called besides
    /// `localhost` and plain addresses; `*` for any.
    pub hosts: Vec<String>,
    /// The same for all routes, the owner's included.
    pub owner_hosts: Vec<String>,
    /// Origins of web pages that may call it besides pages of this machine,
    /// like `https://chat.example.org`; `*` for any.
    pub origins: Vec<String>,
    /// How much.
    pub limits: Limits,
    /// What prices are in dollars, for people to read; nothing is paid by it.
    pub usd: Option<watch::Receiver<UsdRates>>,
}

/// How much of everything there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest request body.
    pub body_bytes: usize,
    /// All request bodies in memory together.
    pub bodies_bytes: usize,
    /// How long a request's head may take, and an idle connection may wait for one.
    pub head_time: Duration,
    /// How long a body may take, apart from what its length allows.
    pub body_time: Duration,
    /// How fast a body must come at least, on average, after that time.
    pub body_bytes_per_s: u32,
    /// How long a client may leave what we write unread.
    pub write_stall: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// Answers at a time.
    pub answers: usize,
    /// Silence in a stream after which a comment is sent.
    pub keep_alive: Duration,
    /// How long answers may go on after the gateway was told to stop.
    pub drain: Duration,
    /// How long a connection that we close is read on, so that the client gets our last words.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: openai::MAX_BODY_BYTES,
            bodies_bytes: 512 * 1024 * 1024,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(15),
            body_bytes_per_s: 16 * 1024,
            write_stall: Duration::from_secs(60),
            connections: 8192,
            answers: 4096,
            keep_alive: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// A key that clients show: its SHA-256, and what holds for its requests. Keys
/// are random, so that nobody finds one to a hash.
#[derive(Clone)]
pub struct ApiKey {
    hash: [u8; 32],
    defaults: Arc<Conditions>,
}

/// Why a text cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// Too easy to guess.
    #[error(
        "an api key of {length} characters; at least {} are needed",
        ApiKey::MIN_LENGTH
    )]
    Short {
        /// How long it is.
        length: usize,
    },
    /// It cannot stand in a header.
    #[error("an api key with a space or a character that is not ASCII")]
    Unprintable,
}

impl ApiKey {
    /// The shortest key that is taken.
    pub const MIN_LENGTH: usize = 16;

    /// A key, if it is one that can be sent and not easily guessed.
    pub fn new(text: impl Into<String>) -> Result<Self, ApiKeyError> {
        let text = text.into();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ApiKeyError::Unprintable);
        }
        if text.len() < Self::MIN_LENGTH {
            return Err(ApiKeyError::Short { length: text.len() });
        }
        Ok(Self::of_hash(Sha256::digest(text).into()))
    }

    /// The key with this SHA-256.
    pub fn of_hash(hash: [u8; 32]) -> Self {
        Self {
            hash,
            defaults: Arc::default(),
        }
    }

    /// What holds for requests with this key that say nothing of it. They may
    /// not demand less than it does.
    #[must_use]
    pub fn with_defaults(mut self, defaults: Conditions) -> Self {
        self.defaults = Arc::new(defaults);
        self
    }

    /// Which of the keys a client shows: what holds for it. All are looked at,
    /// each in the same time, whatever is shown.
    pub(crate) fn find(keys: &[Self], shown: &[u8]) -> Option<Arc<Conditions>> {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let (mut any, mut place) = (Choice::from(0), 0_u64);
        for (n, key) in (0..).zip(keys) {
            let same = key.hash.ct_eq(&shown);
            place.conditional_assign(&n, same);
            any |= same;
        }
        let place = usize::try_from(place).ok()?;
        let found = keys.get(place).filter(|_| any.into())?;
        Some(Arc::clone(&found.defaults))
    }
}

impl Settings {
    /// What prices are in dollars now.
    pub(crate) fn usd_rates(&self) -> UsdRates {
        let rates = self.usd.as_ref().map(|rates| rates.borrow().clone());
        rates.unwrap_or_default()
    }

    /// Whether the gateway may be called by this name. A page elsewhere that
    /// points its own name at this machine does not get through; a plain
    /// address cannot be pointed anywhere.
    pub(crate) fn allows_host(&self, host: &str) -> bool {
        self.allows_owner_host(host) || is_listed(&self.hosts, host)
    }

    /// Whether the owner's routes may be called by this name.
    pub(crate) fn allows_owner_host(&self, host: &str) -> bool {
        let name = without_port(host);
        let local = name.eq_ignore_ascii_case("localhost");
        let address = name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok();
        local || address || is_listed(&self.owner_hosts, host)
    }

    /// Whether pages of this origin may call the gateway.
    pub(crate) fn allows_origin(&self, origin: &HeaderValue, host: Option<&str>) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let listed = |listed: &String| listed == "*" || listed.eq_ignore_ascii_case(origin);
        if self.origins.iter().any(listed) {
            return true;
        }
        let Some((_, authority)) = origin.split_once("://") else {
            return false;
        };
        let local = ["localhost", "127.0.0.1", "[::1]"].contains(&without_port(authority));
        local || host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    }
}

fn is_listed(names: &[String], host: &str) -> bool {
    let name = without_port(host);
    let mut names = names.iter();
    names.any(|listed| listed == "*" || listed.eq_ignore_ascii_case(name))
}

/// What stands before the port.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use consumer::Failover;

    use super::*;

    #[test]
    fn what_the_owner_may_call_is_listed_apart() {
        let settings = Settings {
            hosts: vec!["api.example".into()],
            owner_hosts: vec!["home.example".into()],
            ..Settings::default()
        };
        for (host, any, owner) in [
            ("api.example:8082", true, false),
            ("HOME.example:8082", true, true),
            ("localhost", true, true),
            ("other.example", false, false),
        ] {
            let allowed = (settings.allows_host(host), settings.allows_owner_host(host));
            assert_eq!(allowed, (any, owner), "{host}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        let settings = Settings {
            hosts: vec!["node.example".into()],
            ..Settings::default()
        };
        for good in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:1",
            "10.1.2.3",
            "node.example:9",
        ] {
            assert!(settings.allows_host(good), "{good} was refused");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
            "",
            "x:y:z",
        ] {
            assert!(!settings.allows_host(bad), "{bad} was taken");
        }
    }

    #[test]
    fn only_pages_of_this_machine_are_origins() {
        let settings = Settings {
            origins: vec!["https://chat.example".into()],
            ..Settings::default()
        };
        let allowed = |origin: &'static str| {
            settings.allows_origin(&HeaderValue::from_static(origin), Some("node.example:80"))
        };
        for good in [
            "http://localhost:3000",
            "http://127.0.0.1",
            "http://[::1]:5",
            "https://chat.example",
            "http://node.example:80",
        ] {
            assert!(allowed(good), "{good} was refused");
        }
        for bad in [
            "null",
            "http://evil.example",
            "http://localhost.evil.example",
            "https://chat.example.evil",
            "localhost",
            "",
        ] {
            assert!(!allowed(bad), "{bad} was taken");
        }
    }

    #[test]
    fn a_key_is_compared_whole() {
        let key = |text: &str, failover| {
            let defaults = Conditions {
                failover,
                ..Conditions::default()
            };
            ApiKey::new(text).unwrap().with_defaults(defaults)
        };
        let keys = [
            key("0123456789abcdef", Failover::Strict),
            key("fedcba9876543210", Failover::Continue),
        ];
        let found = |shown: &[u8]| ApiKey::find(&keys, shown).map(|found| found.failover);
        assert_eq!(found(b"0123456789abcdef"), Some(Failover::Strict));
        assert_eq!(found(b"fedcba9876543210"), Some(Failover::Continue));
        for wrong in [
            &b""[..],
            b"0123456789abcde",
            b"0123456789abcdef0",
            b"0123456789abcdeF",
        ] {
            assert_eq!(found(wrong), None);
        }
        assert!(ApiKey::find(&[], b"0123456789abcdef").is_none());
    }

    #[test]
    fn a_key_must_be_hard_to_guess_and_fit_a_header() {
        assert_eq!(
            ApiKey::new("short").err(),
            Some(ApiKeyError::Short { length: 5 })
        );
        assert_eq!(
            ApiKey::new("0123456789abcde f").err(),
            Some(ApiKeyError::Unprintable)
        );
        assert_eq!(
            ApiKey::new("0123456789abcdé").err(),
            Some(ApiKeyError::Unprintable)
        );
    }
}
