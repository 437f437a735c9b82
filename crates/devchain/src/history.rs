//! All blocks, found by number, by hash and by the transactions in them.
//!
//! Kept whole: clients read events from the first block on. A block with one
//! token transfer takes about two kilobytes.

use std::collections::HashMap;
use std::sync::Arc;

use alloy::primitives::{B256, TxHash};
use alloy::rpc::types::{Filter, Log};

use crate::block::{Block, Mined};

/// The most logs that one query gives.
pub(crate) const LOGS_MAX: usize = 20_000;
/// The most data, in bytes, that the logs of one query carry.
pub(crate) const LOGS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// More logs match than one answer holds.
#[derive(Debug)]
pub(crate) struct TooManyLogs {
    /// The block at which it was full.
    pub(crate) reached: u64,
}

/// See the module's text. There is always a first block.
#[derive(Debug, Clone)]
pub(crate) struct History {
    blocks: Vec<Arc<Block>>,
    by_hash: HashMap<B256, usize>,
    by_transaction: HashMap<TxHash, (usize, usize)>,
    latest: Arc<Block>,
}

impl History {
    pub(crate) fn starting_with(first: Arc<Block>) -> Self {
        let mut history = Self {
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            by_transaction: HashMap::new(),
            latest: first.clone(),
        };
        history.push(first);
        history
    }

    pub(crate) fn push(&mut self, block: Arc<Block>) {
        let at = self.blocks.len();
        self.by_hash.insert(block.header.hash(), at);
        for (index, mined) in block.transactions.iter().enumerate() {
            self.by_transaction.insert(*mined.tx.tx_hash(), (at, index));
        }
        self.latest = block.clone();
        self.blocks.push(block);
    }

    /// Forgets every block after `number`.
    pub(crate) fn cut_after(&mut self, number: u64) {
        while self.latest.number() > number
            && let Some(gone) = self.blocks.pop()
        {
            self.by_hash.remove(&gone.header.hash());
            for hash in gone.transaction_hashes() {
                self.by_transaction.remove(&hash);
            }
            if let Some(last) = self.blocks.last() {
                self.latest = last.clone();
            }
        }
    }

    pub(crate) fn latest(&self) -> &Arc<Block> {
        &self.latest
    }

    pub(crate) fn first(&self) -> &Arc<Block> {
        self.blocks.first().unwrap_or(&self.latest)
    }

    pub(crate) fn number(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn hash(&self, hash: &B256) -> Option<&Arc<Block>> {
        self.blocks.get(*self.by_hash.get(hash)?)
    }

    /// Where the transaction was mined: the block and the place in it.
    pub(crate) fn transaction(&self, hash: &TxHash) -> Option<(&Arc<Block>, usize)> {
        let (block, index) = self.by_transaction.get(hash)?;
        Some((self.blocks.get(*block)?, *index))
    }

    /// The logs in the blocks `from..=to` that the filter lets pass.
    pub(crate) fn logs(
        &self,
        from: u64,
        to: u64,
        filter: &Filter,
    ) -> Result<Vec<Log>, TooManyLogs> {
        let to = to.min(self.latest.number());
        let (mut logs, mut bytes) = (Vec::new(), 0);
        for block in (from..=to).map_while(|number| self.number(number)) {
            if !filter.matches_bloom(block.header.logs_bloom) {
                continue;
            }
            let all = block.transactions.iter().enumerate();
            let all = all.flat_map(|(index, mined)| logs_of(block, index, mined));
            for log in all.filter(|log| filter.matches(&log.inner)) {
                bytes += log.inner.data.data.len();
                logs.push(log);
            }
            if logs.len() > LOGS_MAX || bytes > LOGS_BYTES_MAX {
                return Err(TooManyLogs {
                    reached: block.number(),
                });
            }
        }
        Ok(logs)
    }
}

/// A mined transaction's logs with their place in the chain.
pub(crate) fn logs_of(block: &Block, index: usize, mined: &Mined) -> Vec<Log> {
    let numbered = mined.receipt.logs().iter().enumerate();
    numbered
        .map(|(offset, log)| Log {
            inner: log.clone(),
            block_hash: Some(block.header.hash()),
            block_number: Some(block.number()),
            block_timestamp: Some(block.header.timestamp),
            transaction_hash: Some(*mined.tx.tx_hash()),
            transaction_index: Some(index as u64),
            log_index: Some((mined.logs_before + offset) as u64),
            removed: false,
        })
        .collect()
}
