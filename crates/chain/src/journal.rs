//! The record of what was signed, kept before it is sent.
//!
//! A transaction that was handed in may be included at any later time, so it
//! must not be forgotten before its end is known: after a restart the same
//! bytes are sent again, never a second transaction for the same intent.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, MutexGuard};

use alloy::primitives::{Address, B256, Bytes};
use market::{BoxFuture, TxHash};
use serde::{Deserialize, Serialize};

/// A signed transaction, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTx {
    /// On which chain.
    pub chain_id: u64,
    /// Who signed.
    pub account: Address,
    /// Its number among the account's transactions.
    pub nonce: u64,
    /// Tells what it is for; a repeated wish has the same.
    pub intent: B256,
    /// Its hash.
    pub hash: TxHash,
    /// Its bytes.
    pub raw: Bytes,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Included, and it did what it should.
    Succeeded,
    /// Included, and reverted.
    Reverted,
    /// The node did not take it, so nobody has it.
    Rejected,
    /// Another transaction of the account took its number, so it can never be included.
    Replaced,
}

/// Why a journal could not be written or read.
pub type JournalError = Box<dyn Error + Send + Sync>;

/// Where signed transactions are written down.
///
/// Two forms: [`MemoryJournal`] for tests and throw-away chains, a durable one
/// in the node's store.
pub trait TxJournal: Send + Sync + 'static {
    /// Writes it down. It is sent only after this returned.
    fn signed(&self, tx: SignedTx) -> BoxFuture<'_, Result<(), JournalError>>;

    /// It is over.
    fn ended(&self, hash: TxHash, how: Ended) -> BoxFuture<'_, Result<(), JournalError>>;

    /// All that was signed and of which no end is known, oldest first.
    fn open(&self) -> BoxFuture<'_, Result<Vec<SignedTx>, JournalError>>;
}

/// A journal that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    open: Mutex<BTreeMap<u64, SignedTx>>,
}

impl MemoryJournal {
    fn book(&self) -> MutexGuard<'_, BTreeMap<u64, SignedTx>> {
        self.open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl TxJournal for MemoryJournal {
    fn signed(&self, tx: SignedTx) -> BoxFuture<'_, Result<(), JournalError>> {
        let mut book = self.book();
        let place = book.last_key_value().map_or(0, |(last, _)| last + 1);
        book.insert(place, tx);
        Box::pin(core::future::ready(Ok(())))
    }

    fn ended(&self, hash: TxHash, _how: Ended) -> BoxFuture<'_, Result<(), JournalError>> {
        self.book().retain(|_, tx| tx.hash != hash);
        Box::pin(core::future::ready(Ok(())))
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<SignedTx>, JournalError>> {
        let open = self.book().values().cloned().collect();
        Box::pin(core::future::ready(Ok(open)))
    }
}
