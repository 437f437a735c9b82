//! The chain of the simulation: blocks over [`MemoryLedger`], a pool of
//! transactions with nonces and fees, and what may go wrong with them.
//!
//! Each block has a ledger of its own, so a reorganisation takes the last
//! blocks away and their transactions fall back into the pool, or out of it.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use market::{
    Address, Amount, ChannelConfig, ChannelId, ChannelState, Claim, Ledger, LedgerError,
    MemoryLedger, Receiver, SignedVoucher,
};
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How deep a reorganisation may reach.
pub(crate) const REORG_MAX: u64 = 64;

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    Deposit(ChannelConfig, Amount),
    Claim(Vec<(ChannelConfig, SignedVoucher, Amount)>),
    Settle(Address, Address),
    Initiate(ChannelConfig, Amount),
    Finalize(ChannelConfig),
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tx {
    pub(crate) from: Address,
    pub(crate) nonce: u64,
    pub(crate) fee: u64,
    pub(crate) op: Op,
}

/// What became of it: nothing, or the error's name.
pub(crate) type Outcome = Result<(), String>;

struct Block {
    at_s: u64,
    ledger: MemoryLedger,
    nonces: BTreeMap<Address, u64>,
    txs: Vec<(Tx, Outcome)>,
}

/// The chain.
pub(crate) struct Chain {
    blocks: Vec<Block>,
    pool: Vec<Tx>,
    pub(crate) base_fee: u64,
    pub(crate) stopped: bool,
}

/// What the ledger in memory says, which it does at once.
fn at_once<T>(answer: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    answer
        .now_or_never()
        .expect("the ledger in memory never waits")
}

impl Chain {
    /// A chain with this ledger in its first block.
    pub(crate) fn new(ledger: MemoryLedger, at_s: u64) -> Self {
        let first = Block {
            at_s,
            ledger,
            nonces: BTreeMap::new(),
            txs: vec![],
        };
        Self {
            blocks: vec![first],
            pool: vec![],
            base_fee: 10,
            stopped: false,
        }
    }

    fn head(&self) -> &Block {
        self.blocks.last().expect("the first block stays")
    }

    /// The block so many below the head.
    fn below(&self, depth: usize) -> &Block {
        let at = self.blocks.len().saturating_sub(1 + depth);
        &self.blocks[at]
    }

    /// The ledger of the head.
    pub(crate) fn ledger(&self) -> &MemoryLedger {
        &self.head().ledger
    }

    /// Takes a transaction, or says why not. A better fee replaces.
    pub(crate) fn submit(&mut self, tx: Tx) -> Result<(), &'static str> {
        if tx.nonce < self.nonce(tx.from, 0) {
            return Err("nonce too low");
        }
        let same = |other: &&mut Tx| other.from == tx.from && other.nonce == tx.nonce;
        match self.pool.iter_mut().find(same) {
            Some(known) if *known == tx => Err("already known"),
            Some(known) if tx.fee * 10 < known.fee * 11 => Err("replacement underpriced"),
            Some(known) => {
                *known = tx;
                Ok(())
            }
            None => {
                self.pool.push(tx);
                Ok(())
            }
        }
    }

    /// Makes a block of what may be in one. How many transactions it has.
    pub(crate) fn mine(&mut self, at_s: u64) -> Result<usize, LedgerError> {
        if self.stopped {
            return Ok(0);
        }
        let head = self.head();
        let ledger = head.ledger.fork();
        ledger.advance(at_s.saturating_sub(head.at_s));
        let mut block = Block {
            at_s: at_s.max(head.at_s),
            ledger,
            nonces: head.nonces.clone(),
            txs: vec![],
        };
        loop {
            let ready = |tx: &Tx| {
                let nonce = block.nonces.get(&tx.from).copied().unwrap_or_default();
                tx.nonce == nonce && tx.fee >= self.base_fee
            };
            let Some(at) = self.pool.iter().position(ready) else {
                break;
            };
            let tx = self.pool.remove(at);
            *block.nonces.entry(tx.from).or_default() += 1;
            let outcome = execute(&block.ledger, &tx)?;
            block.txs.push((tx, outcome));
        }
        let nonces = &block.nonces;
        self.pool
            .retain(|tx| tx.nonce >= nonces.get(&tx.from).copied().unwrap_or_default());
        let made = block.txs.len();
        self.blocks.push(block);
        if self.blocks.len() > 1 + usize::try_from(REORG_MAX).unwrap_or(usize::MAX) {
            self.blocks.remove(0);
        }
        Ok(made)
    }

    /// Takes the last blocks away; of their transactions some are forgotten.
    /// How many blocks, and how many transactions.
    pub(crate) fn reorg(&mut self, depth: u64, drops: bool, random: &mut Random) -> (u64, u64) {
        let (mut gone, mut dropped) = (0, 0);
        while gone < depth && self.blocks.len() > 1 {
            let block = self.blocks.pop().expect("more than one");
            gone += 1;
            for (tx, _) in block.txs {
                if random.chance(2_000) && drops {
                    dropped += 1;
                } else if self
                    .pool
                    .iter()
                    .all(|other| (other.from, other.nonce) != (tx.from, tx.nonce))
                {
                    self.pool.push(tx);
                }
            }
        }
        (gone, dropped)
    }

    /// The pool forgets one. Whether there was any.
    pub(crate) fn drop_one(&mut self, random: &mut Random) -> bool {
        if self.pool.is_empty() {
            return false;
        }
        let at = random.place(self.pool.len());
        self.pool.remove(at);
        true
    }

    /// Transactions that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.pool.len()
    }

    /// How many transactions of an account are in the chain.
    pub(crate) fn nonce(&self, of: Address, depth: usize) -> u64 {
        self.below(depth)
            .nonces
            .get(&of)
            .copied()
            .unwrap_or_default()
    }

    /// How deep the transaction with this nonce is, and what became of it.
    pub(crate) fn included(&self, of: Address, nonce: u64, depth: usize) -> Option<(u64, Outcome)> {
        let seen = self.blocks.len().saturating_sub(depth);
        for (at, block) in self.blocks[..seen.max(1)].iter().enumerate().rev() {
            let found = block
                .txs
                .iter()
                .find(|(tx, _)| (tx.from, tx.nonce) == (of, nonce));
            if let Some((_, outcome)) = found {
                let deep = self.blocks.len() - at;
                return Some((u64::try_from(deep).unwrap_or(u64::MAX), outcome.clone()));
            }
        }
        // What is older than all that is kept is there for good.
        let gone = self.blocks[0].nonces.get(&of).copied().unwrap_or_default();
        (nonce < gone).then_some((REORG_MAX, Ok(())))
    }

    /// A channel, as it was so many blocks ago.
    pub(crate) fn channel(&self, id: ChannelId, depth: usize) -> Result<ChannelState, LedgerError> {
        at_once(self.below(depth).ledger.channel(id))
    }

    /// What a receiver is owed.
    pub(crate) fn receiver(&self, of: Address, token: Address) -> Result<Receiver, LedgerError> {
        at_once(self.head().ledger.receiver(of, token))
    }

    /// What somebody has.
    pub(crate) fn balance(&self, of: Address, token: Address) -> Result<Amount, LedgerError> {
        at_once(self.head().ledger.balance(token, of))
    }
}

fn execute(ledger: &MemoryLedger, tx: &Tx) -> Result<Outcome, LedgerError> {
    let ledger = ledger.of(tx.from);
    let done = match &tx.op {
        Op::Deposit(config, amount) => at_once(ledger.deposit(*config, *amount)),
        Op::Claim(rows) => {
            let claim = |row: &(ChannelConfig, SignedVoucher, Amount)| Claim {
                config: row.0,
                voucher: row.1,
                total: row.2,
            };
            at_once(ledger.claim(rows.iter().map(claim).collect()))
        }
        Op::Settle(receiver, token) => at_once(ledger.settle(*receiver, *token)),
        Op::Initiate(config, amount) => at_once(ledger.initiate_withdraw(*config, *amount)),
        Op::Finalize(config) => at_once(ledger.finalize_withdraw(*config)),
    };
    match done {
        Ok(_) => Ok(Ok(())),
        Err(LedgerError::Refused { reason }) => Ok(Err(reason)),
        Err(LedgerError::Insufficient { .. }) => Ok(Err("ERC20InsufficientBalance".to_owned())),
        // Books that do not balance.
        Err(broken) => Err(broken),
    }
}
