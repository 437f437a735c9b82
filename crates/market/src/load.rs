//! What a provider tells of its load and its prices: a short record, signed by its
//! node, new every few seconds. Called a *load digest*.
//!
//! A digest stands alone: whoever has it, from whomever, can see by the chain's
//! registry and the descriptor whose it is. [`LoadBook`] keeps the newest one of
//! each provider and refuses everything else; relays and consumers keep the
//! same one. Its prices are those of the descriptor, heard sooner: a quote that was
//! given stays good as promised.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::{Amount, Domain, ModelId, NodeId, NodeKey, Rates, Timestamp};

/// Models that one digest tells of.
pub const LOADS_MAX: usize = 16;

/// The longest digest on the wire.
pub const LOAD_BYTES_MAX: usize = HEAD_BYTES + LOADS_MAX * EACH_BYTES + SIGNATURE_BYTES;

/// Version, provider, number, time, and how many models follow.
const HEAD_BYTES: usize = 1 + 20 + 8 + 8 + 1;
/// A model's tag, free slots, wait, the token's tag, two rates.
const EACH_BYTES: usize = 4 + 2 + 4 + 4 + 16 + 16;
const SIGNATURE_BYTES: usize = 64;
const VERSION: u8 = 2;
/// In place of a wait: no request is taken.
const TAKES_NONE: u32 = u32::MAX;
const TAG: &[u8] = b"lethe load v2\n";

/// The first four bytes of a model's id: they tell the models of one provider apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelTag(pub [u8; 4]);

impl From<ModelId> for ModelTag {
    fn from(model: ModelId) -> Self {
        let [a, b, c, d, ..] = model.0.0;
        Self([a, b, c, d])
    }
}

/// The first four bytes of a token's address: they tell the tokens apart that one
/// provider may have been paid in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenTag(pub [u8; 4]);

impl From<Address> for TokenTag {
    fn from(token: Address) -> Self {
        let [a, b, c, d, ..] = token.0.0;
        Self([a, b, c, d])
    }
}

/// The load and the price of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Which.
    pub model: ModelTag,
    /// Requests more that would be answered at once.
    pub free_slots: u16,
    /// How long one more would wait for a slot, in milliseconds; none: it would
    /// be refused.
    pub wait_ms: Option<u32>,
    /// What the rates are in.
    pub token: TokenTag,
    /// The price now.
    pub rates: Rates,
}

/// What a provider tells of its load at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadDigest {
    /// Whose.
    pub provider: Address,
    /// Grows from one to the next, over restarts too ([`LoadDigest::number_after`]).
    pub number: u64,
    /// When it was told.
    pub issued_at: Timestamp,
    /// At most [`LOADS_MAX`]. Of a model that is missing nothing is told.
    pub loads: Vec<Load>,
}

/// Why a digest is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Longer than any.
    #[error("load digest has {bytes} bytes (allowed: {LOAD_BYTES_MAX})")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// Not one of this version.
    #[error("load digest is malformed, or of a version that is not known (known: {VERSION})")]
    Malformed,
    /// No provider is registered, and described, under that account.
    #[error("load digest is of account {provider}, which is no registered provider")]
    Stranger {
        /// Which.
        provider: Address,
    },
    /// Not signed by the node of the provider that it names.
    #[error("load digest is not signed by node {node}, as provider {provider} would have it")]
    BadSignature {
        /// Whose it is said to be.
        provider: Address,
        /// That provider's node.
        node: NodeId,
    },
    /// Told too long ago.
    #[error("load digest is {age_s} s old (allowed: {allowed_s} s)", allowed_s = LoadDigest::GOOD_S)]
    Old {
        /// How long ago.
        age_s: u64,
    },
    /// Told in the future.
    #[error("load digest is from {ahead_s} s ahead (allowed: {allowed_s} s): see that the clocks are right", allowed_s = LoadDigest::AHEAD_S)]
    Early {
        /// How far ahead.
        ahead_s: u64,
    },
    /// A newer one of the same provider is known.
    #[error("load digest has number {got}, {last} is known")]
    Passed {
        /// The newest one's number.
        last: u64,
        /// This one's.
        got: u64,
    },
    /// The provider tells more often than once a second.
    #[error("load digests of provider {provider} come more often than once a second")]
    TooOften {
        /// Whose.
        provider: Address,
    },
    /// As many providers as are kept.
    #[error("load digests of {limit} providers are kept, which is the limit", limit = LoadBook::PROVIDERS_MAX)]
    Full,
}

impl LoadError {
    /// Whether nobody who keeps the rules passes such a one on.
    pub fn is_foul(&self) -> bool {
        match self {
            Self::TooLong { .. } | Self::Malformed | Self::BadSignature { .. } => true,
            Self::Stranger { .. }
            | Self::Old { .. }
            | Self::Early { .. }
            | Self::Passed { .. }
            | Self::TooOften { .. }
            | Self::Full => false,
        }
    }
}

impl LoadDigest {
    /// Nobody believes an older one.
    pub const GOOD_S: u64 = 30;
    /// How far a provider's clock may be ahead of the reader's.
    pub const AHEAD_S: u64 = 10;

    /// The number of the one that comes after number `last`. It begins with the
    /// clock, so that after a restart nobody's memory is in its way.
    pub fn number_after(last: u64, now: Timestamp) -> u64 {
        last.saturating_add(1).max(now.0.saturating_mul(1000))
    }

    /// As it travels. Loads beyond [`LOADS_MAX`] are left out.
    pub fn sign(&self, domain: &Domain, node: &NodeKey) -> Vec<u8> {
        let loads = &self.loads[..self.loads.len().min(LOADS_MAX)];
        let mut bytes = Vec::with_capacity(LOAD_BYTES_MAX);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.provider.as_slice());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.issued_at.0.to_be_bytes());
        bytes.push(u8::try_from(loads.len()).unwrap_or(u8::MAX));
        for load in loads {
            let wait = load.wait_ms.map_or(TAKES_NONE, |ms| ms.min(TAKES_NONE - 1));
            bytes.extend_from_slice(&load.model.0);
            bytes.extend_from_slice(&load.free_slots.to_be_bytes());
            bytes.extend_from_slice(&wait.to_be_bytes());
            bytes.extend_from_slice(&load.token.0);
            let Rates {
                input_per_million,
                output_per_million,
            } = load.rates;
            for rate in [input_per_million, output_per_million] {
                bytes.extend_from_slice(&rate.base_units().to_be_bytes());
            }
        }
        let signature = node.sign(&signing_bytes(domain, &bytes));
        bytes.extend_from_slice(&signature);
        bytes
    }

    /// What the bytes say, whoever signed them.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > LOAD_BYTES_MAX {
            let bytes = bytes.len();
            return Err(LoadError::TooLong { bytes });
        }
        Self::parse(bytes).ok_or(LoadError::Malformed)
    }

    /// What is told of a model, if anything.
    pub fn load(&self, model: ModelTag) -> Option<&Load> {
        self.loads.iter().find(|load| load.model == model)
    }

    /// None if it is too old, or from the future.
    pub fn age_s(&self, now: Timestamp) -> Result<u64, LoadError> {
        let ahead_s = self.issued_at.since_s(now);
        if ahead_s > Self::AHEAD_S {
            return Err(LoadError::Early { ahead_s });
        }
        let age_s = now.since_s(self.issued_at);
        match age_s > Self::GOOD_S {
            true => Err(LoadError::Old { age_s }),
            false => Ok(age_s),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, _) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        let (version, rest) = body.split_first_chunk::<1>()?;
        let (provider, rest) = rest.split_first_chunk::<20>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (issued_at, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<1>()?;
        if *version != [VERSION] || rest.len() != usize::from(count[0]) * EACH_BYTES {
            return None;
        }
        let load = |each: &[u8]| {
            let (model, each) = each.split_first_chunk::<4>()?;
            let (free_slots, each) = each.split_first_chunk::<2>()?;
            let (wait_ms, each) = each.split_first_chunk::<4>()?;
            let (token, each) = each.split_first_chunk::<4>()?;
            let (input, output) = each.split_first_chunk::<16>()?;
            let rate = |bytes: &[u8; 16]| Amount::new(u128::from_be_bytes(*bytes));
            let wait_ms = u32::from_be_bytes(*wait_ms);
            Some(Load {
                model: ModelTag(*model),
                free_slots: u16::from_be_bytes(*free_slots),
                wait_ms: Some(wait_ms).filter(|wait_ms| *wait_ms != TAKES_NONE),
                token: TokenTag(*token),
                rates: Rates {
                    input_per_million: rate(input),
                    output_per_million: rate(output.first_chunk::<16>()?),
                },
            })
        };
        Some(Self {
            provider: Address::from(*provider),
            number: u64::from_be_bytes(*number),
            issued_at: Timestamp(u64::from_be_bytes(*issued_at)),
            loads: rest.chunks(EACH_BYTES).map(load).collect::<Option<_>>()?,
        })
    }
}

fn signing_bytes(domain: &Domain, body: &[u8]) -> Vec<u8> {
    let chain_id = domain.chain_id.to_be_bytes();
    [TAG, &chain_id, domain.settlement.as_slice(), body].concat()
}

fn is_signed(bytes: &[u8], domain: &Domain, node: NodeId) -> bool {
    let Some((body, signature)) = bytes.split_last_chunk::<SIGNATURE_BYTES>() else {
        return false;
    };
    node.verifies(&signing_bytes(domain, body), signature)
}

/// What became of a digest that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is the provider's newest: kept, and worth passing on.
    New,
    /// The same was heard before.
    Again,
}

/// Of one provider.
#[derive(Debug, Clone)]
struct Kept {
    bytes: Vec<u8>,
    digest: LoadDigest,
    /// Digests that it may tell now.
    left: u64,
    since: Timestamp,
}

/// The newest digest of each provider.
#[derive(Debug, Clone)]
pub struct LoadBook {
    domain: Domain,
    kept: BTreeMap<Address, Kept>,
}

impl LoadBook {
    /// Providers whose digests are kept.
    pub const PROVIDERS_MAX: usize = 16_384;
    /// Digests of one provider that may come at once; after that one a second.
    const AT_ONCE: u64 = 4;

    /// An empty one, for digests of this chain and contract.
    pub fn new(domain: Domain) -> Self {
        let kept = BTreeMap::new();
        Self { domain, kept }
    }

    /// Keeps a digest that it believes. `node_of`: the node of a registered
    /// provider, by its descriptor.
    pub fn hear(
        &mut self,
        bytes: &[u8],
        node_of: impl FnOnce(Address) -> Option<NodeId>,
        now: Timestamp,
    ) -> Result<Heard, LoadError> {
        let digest = LoadDigest::read(bytes)?;
        digest.age_s(now)?;
        let (provider, got) = (digest.provider, digest.number);
        let node = node_of(provider).ok_or(LoadError::Stranger { provider })?;
        if let Some(kept) = self.kept.get(&provider) {
            if kept.bytes == bytes {
                return Ok(Heard::Again);
            }
            let last = kept.digest.number;
            if got <= last {
                return Err(LoadError::Passed { last, got });
            }
        }
        if !is_signed(bytes, &self.domain, node) {
            return Err(LoadError::BadSignature { provider, node });
        }
        let left = self.left(provider, now)?;
        let kept = Kept {
            bytes: bytes.to_vec(),
            digest,
            left: left - 1,
            since: now,
        };
        self.kept.insert(provider, kept);
        Ok(Heard::New)
    }

    /// The newest one of a provider, while it is good.
    pub fn find(&self, provider: Address, now: Timestamp) -> Option<&LoadDigest> {
        let digest = &self.kept.get(&provider)?.digest;
        digest.age_s(now).is_ok().then_some(digest)
    }

    /// All that are good now, as they travel.
    pub fn told(&self, now: Timestamp) -> impl Iterator<Item = &[u8]> {
        let good = self.kept.values().filter(move |kept| kept.is_good(now));
        good.map(|kept| kept.bytes.as_slice())
    }

    /// What a provider may tell now, this one included: one or more.
    fn left(&mut self, provider: Address, now: Timestamp) -> Result<u64, LoadError> {
        if let Some(kept) = self.kept.get(&provider) {
            let left = kept.left.saturating_add(now.since_s(kept.since));
            return match left.min(Self::AT_ONCE) {
                0 => Err(LoadError::TooOften { provider }),
                left => Ok(left),
            };
        }
        if self.kept.len() >= Self::PROVIDERS_MAX {
            self.kept.retain(|_, kept| kept.is_good(now));
        }
        match self.kept.len() < Self::PROVIDERS_MAX {
            true => Ok(Self::AT_ONCE),
            false => Err(LoadError::Full),
        }
    }
}

impl Kept {
    fn is_good(&self, now: Timestamp) -> bool {
        self.digest.age_s(now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000);
    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    };
    const PROVIDER: Address = Address::repeat_byte(7);

    fn key() -> NodeKey {
        NodeKey::from_bytes(&[5; 32])
    }

    fn digest(number: u64) -> LoadDigest {
        let load = |n: u8, wait_ms| Load {
            model: ModelTag([n; 4]),
            free_slots: u16::from(n),
            wait_ms,
            token: TokenTag([9; 4]),
            rates: Rates {
                input_per_million: Amount::new(u128::from(n)),
                output_per_million: Amount::new(u128::MAX - u128::from(n)),
            },
        };
        LoadDigest {
            provider: PROVIDER,
            number,
            issued_at: NOW,
            loads: vec![load(2, Some(0)), load(0, Some(1500)), load(1, None)],
        }
    }

    fn signed(digest: &LoadDigest) -> Vec<u8> {
        digest.sign(&DOMAIN, &key())
    }

    fn hear(book: &mut LoadBook, bytes: &[u8], now: Timestamp) -> Result<Heard, LoadError> {
        let registered = |account| (account == PROVIDER).then(|| key().id());
        book.hear(bytes, registered, now)
    }

    fn heard(bytes: &[u8]) -> Result<Heard, LoadError> {
        hear(&mut LoadBook::new(DOMAIN), bytes, NOW)
    }

    #[test]
    fn what_is_told_is_read_and_the_longest_fits_a_message_of_the_mesh() {
        assert_eq!(LoadDigest::read(&signed(&digest(1))), Ok(digest(1)));
        let many = LoadDigest {
            loads: vec![digest(1).loads[0]; LOADS_MAX + 1],
            ..digest(1)
        };
        let bytes = signed(&many);
        assert_eq!(bytes.len(), LOAD_BYTES_MAX);
        const { assert!(LOAD_BYTES_MAX <= 840) };
        assert_eq!(heard(&bytes), Ok(Heard::New));
        let model = ModelId(B256::repeat_byte(2));
        assert_eq!(digest(1).load(model.into()).unwrap().free_slots, 2);
    }

    #[test]
    fn the_newest_is_kept_and_told_while_it_is_good() {
        let mut book = LoadBook::new(DOMAIN);
        let (first, second) = (signed(&digest(1)), signed(&digest(2)));
        assert_eq!(hear(&mut book, &first, NOW), Ok(Heard::New));
        assert_eq!(hear(&mut book, &first, NOW), Ok(Heard::Again));
        assert_eq!(hear(&mut book, &second, NOW), Ok(Heard::New));
        assert_eq!(book.told(NOW).collect::<Vec<_>>(), [&second[..]]);
        let last = NOW.after_s(LoadDigest::GOOD_S);
        assert_eq!(book.find(PROVIDER, last), Some(&digest(2)));
        assert_eq!(book.find(PROVIDER, last.after_s(1)), None);
        assert_eq!(book.told(last.after_s(1)).count(), 0);
    }

    #[test]
    fn what_was_passed_is_refused_and_a_replay_changes_nothing() {
        let mut book = LoadBook::new(DOMAIN);
        hear(&mut book, &signed(&digest(5)), NOW).unwrap();
        for got in [4, 5] {
            let mut other = digest(got);
            other.loads.clear();
            let passed = LoadError::Passed { last: 5, got };
            assert_eq!(hear(&mut book, &signed(&other), NOW), Err(passed));
        }
        assert_eq!(book.find(PROVIDER, NOW), Some(&digest(5)));
    }

    #[test]
    fn what_is_forged_or_of_another_chain_or_of_a_stranger_is_refused() {
        let bad = |result: Result<Heard, LoadError>| {
            let error = result.unwrap_err();
            assert!(error.is_foul(), "{error}");
            matches!(error, LoadError::BadSignature { .. })
        };
        let bytes = signed(&digest(1));
        let other = NodeKey::from_bytes(&[6; 32]);
        assert!(bad(heard(&digest(1).sign(&DOMAIN, &other))));
        let elsewhere = Domain {
            chain_id: 1,
            ..DOMAIN
        };
        assert!(bad(heard(&digest(1).sign(&elsewhere, &key()))));
        let mut changed = bytes.clone();
        changed[HEAD_BYTES + 5] ^= 1;
        assert!(bad(heard(&changed)));
        let stranger = LoadDigest {
            provider: Address::repeat_byte(8),
            ..digest(1)
        };
        let refused = heard(&signed(&stranger)).unwrap_err();
        assert!(matches!(refused, LoadError::Stranger { .. }) && !refused.is_foul());
    }

    #[test]
    fn what_is_too_long_or_cut_or_of_another_version_is_refused() {
        let bytes = signed(&digest(1));
        let long = vec![0; LOAD_BYTES_MAX + 1];
        let too_long = LoadError::TooLong {
            bytes: LOAD_BYTES_MAX + 1,
        };
        assert_eq!(heard(&long), Err(too_long));
        for cut in 0..bytes.len() {
            assert_eq!(heard(&bytes[..cut]), Err(LoadError::Malformed));
        }
        let mut later = bytes.clone();
        later[0] = 3;
        assert_eq!(heard(&later), Err(LoadError::Malformed));
        assert_eq!(
            heard(&[&bytes[..], &[0]].concat()),
            Err(LoadError::Malformed)
        );
    }

    #[test]
    fn what_is_old_or_from_the_future_is_refused() {
        let at = |now: Timestamp| hear(&mut LoadBook::new(DOMAIN), &signed(&digest(1)), now);
        assert_eq!(at(NOW.after_s(30)), Ok(Heard::New));
        assert_eq!(at(NOW.after_s(31)), Err(LoadError::Old { age_s: 31 }));
        assert_eq!(at(Timestamp(NOW.0 - 10)), Ok(Heard::New));
        let early = LoadError::Early { ahead_s: 11 };
        assert_eq!(at(Timestamp(NOW.0 - 11)), Err(early));
    }

    #[test]
    fn who_tells_without_end_is_heard_once_a_second() {
        let mut book = LoadBook::new(DOMAIN);
        let mut number = 0;
        let mut taken = |now: Timestamp| {
            let told = (0..1000).map(|_| {
                number += 1;
                let fresh = LoadDigest {
                    issued_at: now,
                    ..digest(number)
                };
                hear(&mut book, &signed(&fresh), now)
            });
            let told: Vec<_> = told.collect();
            let often = LoadError::TooOften { provider: PROVIDER };
            assert!(told.iter().all(|it| it.is_ok() || *it == Err(often)));
            told.iter().filter(|it| it.is_ok()).count()
        };
        assert_eq!(taken(NOW), 4);
        assert_eq!(taken(NOW), 0);
        assert_eq!(taken(NOW.after_s(1)), 1);
        assert_eq!(taken(NOW.after_s(100)), 4);
    }

    #[test]
    fn no_more_providers_are_kept_than_that_and_old_ones_make_room() {
        let mut book = LoadBook::new(DOMAIN);
        let account = |n: u64| Address::left_padding_from(&n.to_be_bytes());
        // They are kept by hand: to sign so many takes long.
        for n in 0..LoadBook::PROVIDERS_MAX as u64 {
            let digest = LoadDigest {
                provider: account(n),
                ..digest(1)
            };
            let kept = Kept {
                bytes: vec![],
                digest,
                left: 1,
                since: NOW,
            };
            book.kept.insert(account(n), kept);
        }
        let one_more = signed(&digest(1));
        assert_eq!(hear(&mut book, &one_more, NOW), Err(LoadError::Full));
        let later = NOW.after_s(LoadDigest::GOOD_S + 1);
        let fresh = LoadDigest {
            issued_at: later,
            ..digest(1)
        };
        assert_eq!(hear(&mut book, &signed(&fresh), later), Ok(Heard::New));
        assert_eq!(book.kept.len(), 1);
    }

    #[test]
    fn numbers_grow_within_a_run_and_over_a_restart() {
        let first = LoadDigest::number_after(0, NOW);
        let second = LoadDigest::number_after(first, NOW);
        assert!(second > first);
        assert!(LoadDigest::number_after(0, NOW.after_s(1)) > second);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_stumble(bytes in prop::collection::vec(any::<u8>(), 0..LOAD_BYTES_MAX + 2)) {
            prop_assert!(heard(&bytes).is_err());
        }
    }
}
