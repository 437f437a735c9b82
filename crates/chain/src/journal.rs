//! The record of what was signed, kept before it is sent.
//!
//! A transaction that was handed in may be included at any later time, so it
//! must not be forgotten before its end is known: after a restart the same
//! bytes are sent again, never a second transaction for the same intent. One
//! that is signed again for more gas money is a line of its own with the same
//! nonce and intent.

use std::error::Error;
use std::sync::{Mutex, MutexGuard};

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::Decodable2718;
use alloy::primitives::{Address, B256, Bytes};
use market::{BoxFuture, TxHash};
use serde::{Deserialize, Serialize};

use crate::sender::fees::Fees;
use crate::sender::machine::Attempt;

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

impl SignedTx {
    /// What its bytes say. None: they are no transaction.
    pub fn attempt(&self) -> Option<Attempt> {
        let tx = TxEnvelope::decode_2718(&mut self.raw.as_ref()).ok()?;
        Some(Attempt {
            hash: self.hash,
            nonce: self.nonce,
            intent: self.intent,
            gas: tx.gas_limit(),
            fees: Fees {
                fee_per_gas: tx.max_fee_per_gas(),
                tip_per_gas: tx.max_priority_fee_per_gas().unwrap_or_default(),
            },
        })
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Included for good, and it did what it should.
    Succeeded,
    /// Included for good, and reverted.
    Reverted,
    /// No node took it, so nobody has it.
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

    /// Who wished it knows that it was included: the same wish is a new one now.
    fn told(&self, hash: TxHash) -> BoxFuture<'_, Result<(), JournalError>>;

    /// It is over.
    fn ended(&self, hash: TxHash, how: Ended) -> BoxFuture<'_, Result<(), JournalError>>;

    /// All that was signed and of which no end is known, oldest first: what
    /// [`OpenTxs`] makes of the lines.
    fn open(&self) -> BoxFuture<'_, Result<Vec<OpenTx>, JournalError>>;
}

/// A signed transaction of which no end is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTx {
    /// As it was signed.
    pub tx: SignedTx,
    /// Its inclusion was told.
    pub told: bool,
}

/// What the lines of a journal leave open.
#[derive(Debug, Clone, Default)]
pub struct OpenTxs(Vec<OpenTx>);

impl OpenTxs {
    /// A line of [`TxJournal::signed`].
    pub fn signed(&mut self, tx: SignedTx) {
        self.0.push(OpenTx { tx, told: false });
    }

    /// A line of [`TxJournal::told`].
    pub fn told(&mut self, hash: TxHash) {
        for open in self.0.iter_mut().filter(|open| open.tx.hash == hash) {
            open.told = true;
        }
    }

    /// A line of [`TxJournal::ended`]: the end of all with the same number, but
    /// that of one which nobody took is its own.
    pub fn ended(&mut self, hash: TxHash, how: Ended) {
        let place = |tx: &SignedTx| (tx.chain_id, tx.account, tx.nonce);
        let ended = self.0.iter().find(|open| open.tx.hash == hash);
        let Some(ended) = ended.map(|open| place(&open.tx)) else {
            return;
        };
        let alone = how == Ended::Rejected;
        self.0.retain(|open| match alone {
            true => open.tx.hash != hash,
            false => place(&open.tx) != ended,
        });
    }

    /// What is left, oldest first.
    pub fn left(self) -> Vec<OpenTx> {
        self.0
    }
}

/// A journal that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    open: Mutex<OpenTxs>,
}

impl MemoryJournal {
    fn book(&self) -> MutexGuard<'_, OpenTxs> {
        self.open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl TxJournal for MemoryJournal {
    fn signed(&self, tx: SignedTx) -> BoxFuture<'_, Result<(), JournalError>> {
        self.book().signed(tx);
        Box::pin(core::future::ready(Ok(())))
    }

    fn told(&self, hash: TxHash) -> BoxFuture<'_, Result<(), JournalError>> {
        self.book().told(hash);
        Box::pin(core::future::ready(Ok(())))
    }

    fn ended(&self, hash: TxHash, how: Ended) -> BoxFuture<'_, Result<(), JournalError>> {
        self.book().ended(hash, how);
        Box::pin(core::future::ready(Ok(())))
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<OpenTx>, JournalError>> {
        let open = self.book().clone().left();
        Box::pin(core::future::ready(Ok(open)))
    }
}
