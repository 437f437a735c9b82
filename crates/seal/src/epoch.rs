//! The epoch record: which key a provider can be reached with now.
//!
//! The record is JSON, signed with the provider's node key (ed25519) over a
//! tag and its exact text, so there is no canonical form to disagree on. Its
//! hash is SHA-256 over the text; the next record names it, and every request
//! says which record it was sealed to, so that a provider notices when a
//! consumer was shown another.

use alloy_primitives::{Address, B256, B512, hex};
use market::{Domain, NodeId, NodeKey, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::EPOCH_SECONDS;
use crate::suite::{KeyList, KeyListError, Suite};

/// Nobody's record is longer than this.
pub const EPOCH_RECORD_BYTES_MAX: usize = 16 * 1024;

/// How far a provider's clock may be ahead of ours.
const CLOCK_SKEW_S: u64 = 120;

/// The keys that a provider opens requests with for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// 1.
    pub version: u32,
    /// The chain that the provider is registered on.
    pub chain_id: u64,
    /// The settlement contract that it takes vouchers of.
    pub settlement: Address,
    /// The registered account.
    pub provider: Address,
    /// The node that has the keys; must be the signer.
    pub node: NodeId,
    /// Counts up.
    pub epoch: u64,
    /// Good from this moment on.
    pub not_before: Timestamp,
    /// Good before this moment.
    pub not_after: Timestamp,
    /// A list of key configurations as RFC 9458 writes it; hex in JSON.
    #[serde(with = "hex")]
    pub keys: Vec<u8>,
    /// The hash of the record before this one; zero if the node does not know one.
    pub previous: B256,
}

/// A record's exact text and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedEpoch {
    /// The record as JSON text.
    pub record: String,
    /// ed25519 by the node, over a tag and `record`.
    pub signature: B512,
}

/// A key that a request can be sealed to.
#[derive(Debug, Clone)]
pub struct EpochKey {
    keys: KeyList,
    hash: B256,
    epoch: u64,
    not_after: Timestamp,
}

/// Why an epoch record is not believed.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// Larger than anyone needs.
    #[error("epoch record has {bytes} bytes (allowed: {EPOCH_RECORD_BYTES_MAX})")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Not signed by the node that should have.
    #[error("epoch record is not signed by node {node}")]
    BadSignature {
        /// Who should have.
        node: NodeId,
    },
    /// Not a record.
    #[error("epoch record is malformed")]
    Malformed(#[source] serde_json::Error),
    /// From a later version of the protocol.
    #[error("epoch record has version {got} (known: 1)")]
    UnknownVersion {
        /// Its version.
        got: u32,
    },
    /// It speaks for another node, account, chain or contract.
    #[error("epoch record's {field} is {got}, expected {expected}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// What it says.
        got: String,
        /// What it should say.
        expected: String,
    },
    /// No longer, or not yet, good.
    #[error("epoch record is good from {not_before} to {not_after}, it is {now} now", not_before = .not_before.0, not_after = .not_after.0, now = .now.0)]
    Stale {
        /// Its beginning.
        not_before: Timestamp,
        /// Its end.
        not_after: Timestamp,
        /// The reader's clock.
        now: Timestamp,
    },
    /// A key that lives too long protects the past too little.
    #[error("epoch of {seconds} s is too long (allowed: {EPOCH_SECONDS})")]
    TooLong {
        /// Its length.
        seconds: u64,
    },
    /// Its keys cannot be used.
    #[error("epoch record's keys are of no use")]
    Keys(#[from] KeyListError),
}

impl Epoch {
    const TAG: &'static [u8] = b"lethe epoch v1\n";

    /// Writes and signs it.
    pub fn sign(&self, node: &NodeKey) -> SignedEpoch {
        let record = serde_json::to_string(self).expect("a record has only string keys");
        let signature = B512::from(node.sign(&Self::signing_bytes(&record)));
        SignedEpoch { record, signature }
    }

    fn signing_bytes(record: &str) -> Vec<u8> {
        [Self::TAG, record.as_bytes()].concat()
    }
}

impl SignedEpoch {
    /// SHA-256 over the record's text: its name in the next record, in every
    /// request, and wherever nodes compare what they were shown.
    pub fn hash(&self) -> B256 {
        B256::from(<[u8; 32]>::from(Sha256::digest(&self.record)))
    }

    /// The key, if `node` signed the record, for this provider, chain and
    /// contract, and it is good now.
    pub fn open(
        &self,
        node: NodeId,
        provider: Address,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<EpochKey, EpochError> {
        let epoch = self.read(node)?;
        must_be("node", epoch.node, node)?;
        must_be("provider", epoch.provider, provider)?;
        must_be("chainId", epoch.chain_id, domain.chain_id)?;
        must_be("settlement", epoch.settlement, domain.settlement)?;
        let Epoch {
            not_before,
            not_after,
            ..
        } = epoch;
        if now >= not_after || not_before > now.after_s(CLOCK_SKEW_S) {
            return Err(EpochError::Stale {
                not_before,
                not_after,
                now,
            });
        }
        let seconds = not_after.since_s(not_before);
        if seconds > EPOCH_SECONDS {
            return Err(EpochError::TooLong { seconds });
        }
        Ok(EpochKey {
            keys: KeyList::decode(&epoch.keys)?,
            hash: self.hash(),
            epoch: epoch.epoch,
            not_after,
        })
    }

    /// What the record says, if `node` signed it; whether it holds here and
    /// now is not looked at.
    pub fn read(&self, node: NodeId) -> Result<Epoch, EpochError> {
        let bytes = self.record.len();
        if bytes > EPOCH_RECORD_BYTES_MAX {
            return Err(EpochError::TooLarge { bytes });
        }
        if !node.verifies(&Epoch::signing_bytes(&self.record), &self.signature.0) {
            return Err(EpochError::BadSignature { node });
        }
        let epoch: Epoch = serde_json::from_str(&self.record).map_err(EpochError::Malformed)?;
        if epoch.version != 1 {
            let got = epoch.version;
            return Err(EpochError::UnknownVersion { got });
        }
        Ok(epoch)
    }
}

impl EpochKey {
    /// Whether the provider takes requests sealed so.
    pub fn offers(&self, suite: Suite) -> bool {
        self.keys.find(suite).is_some()
    }

    /// The strongest suite that the provider takes.
    pub fn strongest(&self) -> Suite {
        match self.offers(Suite::XWing) {
            true => Suite::XWing,
            false => Suite::X25519,
        }
    }

    /// The number of the epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The hash of the record.
    pub fn hash(&self) -> B256 {
        self.hash
    }

    /// Good before this moment.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub(crate) fn find(&self, suite: Suite) -> Option<&ohttp::KeyConfig> {
        self.keys.find(suite)
    }
}

fn must_be<T: PartialEq + ToString>(
    field: &'static str,
    got: T,
    expected: T,
) -> Result<(), EpochError> {
    if got == expected {
        Ok(())
    } else {
        Err(EpochError::Mismatch {
            field,
            got: got.to_string(),
            expected: expected.to_string(),
        })
    }
}
