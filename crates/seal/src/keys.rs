//! The provider's epoch keys: private halves in memory only, for a while.
//!
//! New every [`EPOCH_SECONDS`]. The last ones open requests for
//! [`GRACE_SECONDS`] more and are then forgotten: who takes the machine later
//! can read nothing that was recorded before. Nothing here can be printed,
//! copied or stored; the memory is wiped when the last request that was being
//! opened with a key is dropped, so requests must not be let run for ever.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use market::{Domain, NodeKey, Timestamp};
use ohttp::KeyConfig;
use sha2::{Digest, Sha256};

use crate::epoch::{Epoch, SignedEpoch};
use crate::suite::{SYMMETRIC, Suite};

/// How long a key is good: epoch `n` ends at `(n + 1)` times this.
pub const EPOCH_SECONDS: u64 = 6 * 60 * 60;

/// How much longer requests to it are opened: those under way when it ended.
pub const GRACE_SECONDS: u64 = 10 * 60;

/// For whom records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Chain and contract.
    pub domain: Domain,
    /// The registered account.
    pub provider: Address,
}

/// The keys in force. There is no way to save them.
pub struct EpochKeys {
    identity: Identity,
    record: SignedEpoch,
    current: Arc<Generation>,
    previous: Option<Arc<Generation>>,
}

/// The keys of one epoch.
pub(crate) struct Generation {
    /// The hash of the record that offers them.
    pub(crate) record: B256,
    epoch: u64,
    not_before: Timestamp,
    not_after: Timestamp,
    configs: [KeyConfig; Suite::ALL.len()],
}

impl EpochKeys {
    /// Makes the first keys.
    pub fn new(identity: Identity, node: &NodeKey, now: Timestamp) -> Self {
        Self::from_configs(identity, node, now, fresh)
    }

    /// Keys that follow from a secret, for published test vectors; whoever
    /// knows it reads everything. The next epoch's are random again.
    pub fn from_secret(
        identity: Identity,
        node: &NodeKey,
        now: Timestamp,
        secret: &[u8; 32],
    ) -> Self {
        Self::from_configs(identity, node, now, |suite, key_id| {
            derived(suite, key_id, secret)
        })
    }

    fn from_configs(
        identity: Identity,
        node: &NodeKey,
        now: Timestamp,
        make: impl Fn(Suite, u8) -> KeyConfig,
    ) -> Self {
        let (current, record) = Generation::make(identity, node, now, B256::ZERO, make);
        Self {
            identity,
            record,
            current: Arc::new(current),
            previous: None,
        }
    }

    /// Makes new keys when the epoch is over, and forgets those whose grace
    /// is. Call it a few times a minute. `true`: the record is a new one.
    pub fn refresh(&mut self, node: &NodeKey, now: Timestamp) -> bool {
        self.previous.take_if(|previous| !previous.opens_at(now));
        if now < self.current.not_after {
            return false;
        }
        let before = self.current.record;
        let (next, record) = Generation::make(self.identity, node, now, before, fresh);
        let last = core::mem::replace(&mut self.current, Arc::new(next));
        self.previous = Some(last).filter(|last| last.opens_at(now));
        self.record = record;
        true
    }

    /// What consumers are told.
    pub fn record(&self) -> &SignedEpoch {
        &self.record
    }

    /// The number of the epoch.
    pub fn epoch(&self) -> u64 {
        self.current.epoch
    }

    /// When the next [`EpochKeys::refresh`] has something to do.
    pub fn not_after(&self) -> Timestamp {
        self.current.not_after
    }

    /// The keys that open requests at this time, the newest first.
    pub(crate) fn opening_at(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Generation>> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .filter(move |generation| generation.opens_at(now))
    }
}

impl Generation {
    fn make(
        identity: Identity,
        node: &NodeKey,
        now: Timestamp,
        previous: B256,
        make: impl Fn(Suite, u8) -> KeyConfig,
    ) -> (Self, SignedEpoch) {
        let epoch = now.0 / EPOCH_SECONDS;
        let not_after = Timestamp(epoch.saturating_add(1).saturating_mul(EPOCH_SECONDS));
        let configs = Suite::ALL.map(|suite| make(suite, key_id(epoch, suite)));
        let keys = KeyConfig::encode_list(&configs).expect("two short entries can be encoded");
        let record = Epoch {
            version: 1,
            chain_id: identity.domain.chain_id,
            settlement: identity.domain.settlement,
            provider: identity.provider,
            node: node.id(),
            epoch,
            not_before: now,
            not_after,
            keys,
            previous,
        }
        .sign(node);
        let generation = Self {
            record: record.hash(),
            epoch,
            not_before: now,
            not_after,
            configs,
        };
        (generation, record)
    }

    /// Whether requests to these keys are opened; also a little before their
    /// beginning, for clocks that were set back.
    fn opens_at(&self, now: Timestamp) -> bool {
        now < self.not_after.after_s(GRACE_SECONDS) && now.after_s(GRACE_SECONDS) >= self.not_before
    }

    /// The key of this number.
    pub(crate) fn find(&self, wanted: u8) -> Option<(Suite, &KeyConfig)> {
        Suite::ALL
            .into_iter()
            .zip(&self.configs)
            .find(|(suite, _)| key_id(self.epoch, *suite) == wanted)
    }
}

/// Numbers of keys repeat after 128 epochs; those of neighbours differ.
fn key_id(epoch: u64, suite: Suite) -> u8 {
    let [.., low] = (epoch.wrapping_mul(2)).to_be_bytes();
    match suite {
        Suite::X25519 => low,
        Suite::XWing => low + 1,
    }
}

fn fresh(suite: Suite, key_id: u8) -> KeyConfig {
    KeyConfig::new(key_id, suite.kem(), SYMMETRIC.to_vec())
        .expect("the operating system gives random bytes")
}

/// The secret is not used itself, so that the two keys have nothing in common.
fn derived(suite: Suite, key_id: u8, secret: &[u8; 32]) -> KeyConfig {
    let label: &[u8] = match suite {
        Suite::X25519 => b"lethe vector x25519\n",
        Suite::XWing => b"lethe vector x-wing\n",
    };
    let material = Sha256::new_with_prefix(label)
        .chain_update(secret)
        .finalize();
    KeyConfig::derive(key_id, suite.kem(), SYMMETRIC.to_vec(), &material)
        .expect("32 bytes of material make a key")
}
