//! What is written down so that the chain can be rebuilt: everything that came
//! from outside, in order. The state itself is never stored; it is what comes
//! out when the records are executed again.

use alloy::primitives::{Address, B256, Bytes, TxHash, U256};
use serde::{Deserialize, Serialize};

use crate::time::Timekeeper;

/// One thing that happened to the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Record {
    /// Always the first, and only there.
    Genesis {
        version: u32,
        fingerprint: B256,
        timestamp: u64,
        /// Not in logs of before it was drawn.
        #[serde(default)]
        randomness: B256,
    },
    /// A signed transaction was taken into the pool. Its sender stands here too,
    /// because finding it in the signature is most of the work of executing a
    /// transfer; who can write this file can write anything into it.
    Transaction { from: Address, raw: Bytes },
    /// A waiting transaction turned out not to be executable and was let go.
    Dropped(TxHash),
    /// A block was made of these; `hash` proves that executing them again came
    /// to the same end.
    Block {
        timestamp: u64,
        transactions: Vec<TxHash>,
        hash: B256,
    },
    /// The chain's time was moved.
    Time(Timekeeper),
    /// An account was changed from outside.
    Edit { address: Address, edit: Edit },
    /// The chain as it is now was remembered under this number.
    Snapshot(u64),
    /// The chain went back to a remembered one.
    Revert(u64),
}

/// A change to an account that no transaction made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Edit {
    Balance(U256),
    Nonce(u64),
    Code(Bytes),
    Storage { slot: U256, value: B256 },
}

/// The format that this build writes and reads.
pub(crate) const VERSION: u32 = 1;
