//! Transactions that wait for a block.
//!
//! One line per sender, ordered by nonce: a transaction is ready when all before
//! it are. A replacement must pay at least a tenth more, as geth and anvil ask.
//! The pool is bounded as a whole and per sender; what doesn't fit is refused,
//! never silently dropped.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Transaction, TxEnvelope};
use alloy::primitives::{Address, TxHash};

use crate::admission::Refusal;

/// A signed transaction together with its sender; shared, for it is shown in
/// the pool, in a block and in answers.
pub(crate) type Signed = Arc<Recovered<TxEnvelope>>;

/// All transactions that may wait at once.
const POOL_MAX: usize = 4_096;
/// So many that nothing but ready ones is taken any more: those that wait for
/// one before them must not keep it out.
const POOL_MAX_FOR_GAPS: usize = POOL_MAX / 2;
/// Transactions of one sender that may wait when one before them is missing.
const POOL_MAX_PER_SENDER: usize = 256;
/// A replacement pays this much more, in percent, rounded down as geth does:
/// wallets offer exactly that.
const REPLACEMENT_BUMP_PERCENT: u128 = 10;

#[derive(Debug, Clone)]
struct Waiting {
    tx: Signed,
    /// Order of arrival; the older of two equal offers goes first.
    arrival: u64,
}

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    lines: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    by_hash: HashMap<TxHash, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    /// Checks that `tx` may wait here, replacing one of the same nonce if it
    /// pays enough more.
    pub(crate) fn check(
        &self,
        tx: &Recovered<TxEnvelope>,
        account_nonce: u64,
    ) -> Result<(), Refusal> {
        if self.by_hash.contains_key(tx.tx_hash()) {
            return Err(Refusal::AlreadyKnown);
        }
        let line = self.lines.get(&tx.signer());
        if let Some(old) = line.and_then(|line| line.get(&tx.nonce())) {
            return if pays_for_replacement(&old.tx, tx) {
                Ok(())
            } else {
                Err(Refusal::ReplacementUnderpriced)
            };
        }
        let sender = tx.signer();
        let ready = tx.nonce() == self.next_nonce(sender, account_nonce);
        let limit = if ready { POOL_MAX } else { POOL_MAX_FOR_GAPS };
        if self.by_hash.len() >= limit {
            return Err(Refusal::PoolFull { limit });
        }
        let limit = POOL_MAX_PER_SENDER;
        if !ready && line.is_some_and(|line| line.len() >= limit) {
            return Err(Refusal::SenderFull { sender, limit });
        }
        Ok(())
    }

    /// Adds a transaction that [`Self::check`] let pass.
    pub(crate) fn insert(&mut self, tx: Signed) {
        let (sender, nonce) = (tx.signer(), tx.nonce());
        self.by_hash.insert(*tx.tx_hash(), (sender, nonce));
        let waiting = Waiting {
            tx,
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        let line = self.lines.entry(sender).or_default();
        if let Some(replaced) = line.insert(nonce, waiting) {
            self.by_hash.remove(replaced.tx.tx_hash());
        }
    }

    /// Takes a transaction out.
    pub(crate) fn take(&mut self, hash: &TxHash) -> Option<Signed> {
        let (sender, nonce) = self.by_hash.remove(hash)?;
        let line = self.lines.get_mut(&sender)?;
        let waiting = line.remove(&nonce);
        if line.is_empty() {
            self.lines.remove(&sender);
        }
        waiting.map(|waiting| waiting.tx)
    }

    /// The transaction with this hash, if it waits here.
    pub(crate) fn find(&self, hash: &TxHash) -> Option<&Signed> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        self.lines
            .get(sender)?
            .get(nonce)
            .map(|waiting| &waiting.tx)
    }

    /// The nonce after those of `sender` that wait without a gap from `nonce` on.
    pub(crate) fn next_nonce(&self, sender: Address, nonce: u64) -> u64 {
        let Some(line) = self.lines.get(&sender) else {
            return nonce;
        };
        let ready = line
            .range(nonce..)
            .zip(nonce..)
            .take_while(|((has, _), want)| *has == want);
        nonce + ready.count() as u64
    }

    /// At most `most` transactions in the order in which a block takes them: the
    /// best tip first, each sender's in order of nonce. Those that don't pay the
    /// base fee wait, and so does everything behind them.
    pub(crate) fn ready(
        &self,
        base_fee: u64,
        most: usize,
        nonce_of: impl Fn(Address) -> u64,
    ) -> Vec<Signed> {
        let head = |sender: Address, nonce: u64| {
            let waiting = self.lines.get(&sender)?.get(&nonce)?;
            let tip = waiting.tx.effective_tip_per_gas(base_fee)?;
            Some((tip, Reverse(waiting.arrival), sender, nonce))
        };
        let senders = self.lines.keys();
        let mut heads: BinaryHeap<_> = senders
            .filter_map(|sender| head(*sender, nonce_of(*sender)))
            .collect();

        let mut ready = Vec::new();
        while ready.len() < most
            && let Some((_, _, sender, nonce)) = heads.pop()
        {
            if let Some(waiting) = self.lines.get(&sender).and_then(|line| line.get(&nonce)) {
                ready.push(waiting.tx.clone());
            }
            heads.extend(head(sender, nonce + 1));
        }
        ready
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }
}

fn pays_for_replacement(old: &TxEnvelope, new: &TxEnvelope) -> bool {
    let enough = |old: u128, new: u128| {
        let least = old.saturating_add(old.saturating_mul(REPLACEMENT_BUMP_PERCENT) / 100);
        new >= least && new > old
    };
    let tip = |tx: &TxEnvelope| {
        tx.max_priority_fee_per_gas()
            .unwrap_or(tx.max_fee_per_gas())
    };
    enough(old.max_fee_per_gas(), new.max_fee_per_gas()) && enough(tip(old), tip(new))
}
