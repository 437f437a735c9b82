//! Ways to agree on a key, and the list of them in an epoch record.
//!
//! The list is that of RFC 9458 (`application/ohttp-keys`): each entry behind
//! its length, two bytes, big-endian. Entries with a KEM that is not known
//! here are passed over; a malformed entry refuses the list.

use ohttp::hpke::{Aead, Kdf, Kem};
use ohttp::{KeyConfig, SymmetricSuite};

/// How consumer and provider agree on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// DHKEM(X25519, HKDF-SHA256). Every provider has it.
    X25519,
    /// X-Wing: X25519 and ML-KEM-768 together, good against a recording that
    /// a quantum computer reads later.
    XWing,
}

/// Key id, KEM, KDF and AEAD at the front of a request.
pub(crate) const HEADER_BYTES: usize = 7;

/// The symmetric parts that a provider takes, the best first: where AES is in
/// the processor, as nearly everywhere, a cell costs a fifth of what
/// ChaCha20-Poly1305 does (`examples/bench.rs`).
pub(crate) const SYMMETRIC: [SymmetricSuite; 2] = [
    SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm),
    SymmetricSuite::new(Kdf::HkdfSha256, Aead::ChaCha20Poly1305),
];

/// The one that our consumer asks with; the only one, too, that `ohttp` 0.8.0
/// opens a response in chunks with: its nonce of 32 bytes for the other has no
/// room there.
const PREFERRED: SymmetricSuite = SYMMETRIC[0];

/// The random bytes in front of a response to [`PREFERRED`]: the longer of
/// key and nonce.
pub(crate) const RESPONSE_NONCE_BYTES: usize = 16;

/// Nobody offers more entries than this.
const ENTRIES_MAX: usize = 16;

impl Suite {
    /// All of them, in the order of an epoch record.
    pub const ALL: [Self; 2] = [Self::X25519, Self::XWing];

    pub(crate) fn kem(self) -> Kem {
        match self {
            Self::X25519 => Kem::X25519Sha256,
            Self::XWing => Kem::XWing,
        }
    }

    /// Bytes of a header with its encapsulated key: what a request starts with.
    pub(crate) fn head_bytes(self) -> usize {
        HEADER_BYTES + self.kem().n_enc()
    }

    fn of(kem: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|suite| u16::from(suite.kem()) == kem)
    }
}

/// What is wrong with a list of key configurations.
#[derive(Debug, thiserror::Error)]
pub enum KeyListError {
    /// An entry reaches beyond the end, or has bytes left over.
    #[error("entry {entry} has a wrong length")]
    Length {
        /// Which, from zero.
        entry: usize,
    },
    /// More than anyone needs.
    #[error("more than {ENTRIES_MAX} entries")]
    TooMany,
    /// The same KEM twice.
    #[error("two entries for {suite:?}")]
    Twice {
        /// Which.
        suite: Suite,
    },
    /// The public key is none.
    #[error("entry {entry} has no valid public key")]
    PublicKey {
        /// Which, from zero.
        entry: usize,
        /// Why.
        #[source]
        source: ohttp::Error,
    },
    /// No entry that can be used here.
    #[error("no X25519 entry with HKDF-SHA256 and AES-128-GCM")]
    NoCommonSuite,
}

/// The usable entries of a list, ready to seal to.
#[derive(Debug, Clone)]
pub(crate) struct KeyList {
    entries: Vec<(Suite, KeyConfig)>,
}

impl KeyList {
    pub(crate) fn decode(mut list: &[u8]) -> Result<Self, KeyListError> {
        let mut entries: Vec<(Suite, KeyConfig)> = Vec::new();
        for entry in 0.. {
            if list.is_empty() {
                break;
            }
            if entry == ENTRIES_MAX {
                return Err(KeyListError::TooMany);
            }
            let (config, rest) = prefixed(list).ok_or(KeyListError::Length { entry })?;
            list = rest;
            let Some((suite, preferred)) = only_preferred(config, entry)? else {
                continue;
            };
            if entries.iter().any(|(known, _)| *known == suite) {
                return Err(KeyListError::Twice { suite });
            }
            let config = KeyConfig::decode(&preferred)
                .map_err(|source| KeyListError::PublicKey { entry, source })?;
            entries.push((suite, config));
        }
        let list = Self { entries };
        match list.find(Suite::X25519) {
            Some(_) => Ok(list),
            None => Err(KeyListError::NoCommonSuite),
        }
    }

    pub(crate) fn find(&self, suite: Suite) -> Option<&KeyConfig> {
        let entry = self.entries.iter().find(|(known, _)| *known == suite)?;
        Some(&entry.1)
    }
}

/// Splits off what stands behind a length of two bytes.
fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The same configuration with the preferred symmetric part alone, so that
/// there is nothing left to choose; `None` if it cannot be used here.
fn only_preferred(config: &[u8], entry: usize) -> Result<Option<(Suite, Vec<u8>)>, KeyListError> {
    let wrong = KeyListError::Length { entry };
    let Some((&[_key_id, kem_high, kem_low], rest)) = config.split_first_chunk::<3>() else {
        return Err(wrong);
    };
    let Some(suite) = Suite::of(u16::from_be_bytes([kem_high, kem_low])) else {
        return Ok(None);
    };
    let key_bytes = suite.kem().n_pk();
    let Some((_, symmetric)) = rest.split_at_checked(key_bytes) else {
        return Err(wrong);
    };
    let Some((symmetric, [])) = prefixed(symmetric) else {
        return Err(wrong);
    };
    if symmetric.is_empty() || !symmetric.len().is_multiple_of(4) {
        return Err(wrong);
    }
    let preferred = identifiers(PREFERRED);
    if !symmetric.chunks(4).any(|offered| offered == preferred) {
        return Ok(None);
    }
    let mut only = config[..3 + key_bytes].to_vec();
    only.extend_from_slice(&[0, 4]);
    only.extend_from_slice(&preferred);
    Ok(Some((suite, only)))
}

/// KDF and AEAD as they stand in a list and in a request's header.
pub(crate) fn identifiers(symmetric: SymmetricSuite) -> [u8; 4] {
    let [kdf_high, kdf_low] = u16::from(symmetric.kdf()).to_be_bytes();
    let [aead_high, aead_low] = u16::from(symmetric.aead()).to_be_bytes();
    [kdf_high, kdf_low, aead_high, aead_low]
}
