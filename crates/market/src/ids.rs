//! Identifiers, each a type of its own so that none is taken for another.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = <B256 as FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id32! {
    /// A model in the registry: `keccak256(owner ‖ baseModelId)`.
    ModelId
}
id32! {
    /// A provider's bid for a model: `keccak256(provider ‖ modelId ‖ nonce)`.
    BidId
}
id32! {
    /// A payment channel: the EIP-712 hash of its configuration.
    ChannelId
}
id32! {
    /// A node on the wire: its ed25519 public key.
    NodeId
}

impl ModelId {
    /// The id under which `owner` registers `base`.
    pub fn derive(owner: Address, base: B256) -> Self {
        Self(keccak256([owner.as_slice(), base.as_slice()].concat()))
    }
}

impl BidId {
    /// The id of the `nonce`-th bid of `provider` for `model`.
    pub fn derive(provider: Address, model: ModelId, nonce: u64) -> Self {
        let nonce = alloy_primitives::U256::from(nonce).to_be_bytes::<32>();
        Self(keccak256(
            [provider.as_slice(), model.0.as_slice(), nonce.as_slice()].concat(),
        ))
    }
}

/// One request for one answer, chosen at random by the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub alloy_primitives::FixedBytes<16>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
