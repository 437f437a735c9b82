//! The chain of the simulation: blocks over [`MemoryLedger`], a pool of
//! transactions with nonces and fees, and what may go wrong with them.
//!
//! Each block has a ledger of its own, so a reorganisation takes the last
//! blocks away and their transactions fall back into the pool, or out of it.

use std::collections::BTreeMap;

use chain::sender::fees::{Asked, Fees};
use chain::sender::machine::{Attempt, Inclusion, Look, Sight};
use chain::sender::words::Said;
use futures_util::FutureExt;
use market::{
    Address, Amount, B256, ChannelConfig, ChannelId, ChannelState, Claim, Ledger, LedgerError,
    MemoryLedger, Receiver, SignedVoucher, TxHash,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::random::Random;

/// How deep a reorganisation may reach.
pub(crate) const REORG_MAX: u64 = 64;
/// A block stays once it has so many, itself included: one more than a
/// reorganisation takes.
const FINAL_DEPTH: u64 = REORG_MAX + 1;
/// Of the chain's own coin.
pub(crate) const GWEI: u128 = 1_000_000_000;
/// What blocks ask for when nothing is the matter.
pub(crate) const BASE_FEE: u128 = 10 * GWEI;
/// The usual tip.
const TIP: u128 = GWEI;

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    Deposit(ChannelConfig, Amount),
    Claim(Vec<(ChannelConfig, SignedVoucher, Amount)>),
    Settle(Address, Address),
    Initiate(ChannelConfig, Amount),
    Finalize(ChannelConfig),
    /// Uses a nonce up.
    Nothing,
}

/// A signed transaction. Who has signed is not in doubt here: nobody has
/// another's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tx {
    pub(crate) from: Address,
    pub(crate) attempt: Attempt,
    pub(crate) op: Op,
}

impl Tx {
    /// Signs it: its hash follows from all that it says.
    pub(crate) fn sign(
        from: Address,
        intent: B256,
        nonce: u64,
        (gas, fees): (u64, Fees),
        op: Op,
    ) -> Self {
        let said = (from, nonce, gas, fees.fee_per_gas, fees.tip_per_gas, &op);
        let attempt = Attempt {
            hash: digest(&said),
            nonce,
            intent,
            gas,
            fees,
        };
        Self { from, attempt, op }
    }
}

/// The hash of what something says.
pub(crate) fn digest(of: &impl Serialize) -> B256 {
    let bytes = serde_json::to_vec(of).expect("it has only string keys");
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    B256::from(hash)
}

/// What became of it: nothing, or the error's name.
pub(crate) type Outcome = Result<(), String>;

/// Where transactions are: in which block, and how they went.
type Included = BTreeMap<TxHash, (u64, Outcome)>;

struct Block {
    number: u64,
    at_s: u64,
    ledger: MemoryLedger,
    nonces: BTreeMap<Address, u64>,
    txs: Vec<(Tx, Outcome)>,
}

/// The chain.
pub(crate) struct Chain {
    blocks: Vec<Block>,
    pool: Vec<Tx>,
    included: Included,
    pub(crate) base_fee: u128,
    pub(crate) stopped: bool,
    /// Nothing is taken whose nonce is not the next one, as some sequencers do.
    pub(crate) strict: bool,
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
            number: 0,
            at_s,
            ledger,
            nonces: BTreeMap::new(),
            txs: vec![],
        };
        Self {
            blocks: vec![first],
            pool: vec![],
            included: BTreeMap::new(),
            base_fee: BASE_FEE,
            stopped: false,
            strict: false,
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

    /// Time, by the latest block.
    pub(crate) fn now_s(&self) -> u64 {
        self.head().at_s
    }

    /// Takes a transaction, or says why not. A better fee replaces.
    pub(crate) fn submit(&mut self, tx: Tx) -> Said {
        let Attempt {
            nonce, fees, hash, ..
        } = tx.attempt;
        if nonce < self.nonce(tx.from, 0) {
            return Said::NonceTooLow;
        }
        let pending = self.pending(tx.from, 0);
        let base_fee = self.base_fee;
        let same = |other: &&mut Tx| (other.from, other.attempt.nonce) == (tx.from, nonce);
        let known = self.pool.iter_mut().find(same);
        if known
            .as_ref()
            .is_some_and(|known| known.attempt.hash == hash)
        {
            return Said::Taken;
        }
        if let Some(known) = &known {
            let enough = |old: u128, new: u128| new * 10 >= old * 11;
            let old = known.attempt.fees;
            if !enough(old.fee_per_gas, fees.fee_per_gas)
                || !enough(old.tip_per_gas, fees.tip_per_gas)
            {
                return Said::Underpriced;
            }
        }
        if fees.fee_per_gas < base_fee {
            return Said::FeeTooLow;
        }
        match known {
            Some(known) => *known = tx,
            None if self.strict && nonce > pending => return Said::NonceTooHigh,
            None => self.pool.push(tx),
        }
        Said::Taken
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
            number: head.number + 1,
            at_s: at_s.max(head.at_s),
            ledger,
            nonces: head.nonces.clone(),
            txs: vec![],
        };
        loop {
            let ready = |tx: &Tx| {
                let nonce = block.nonces.get(&tx.from).copied().unwrap_or_default();
                tx.attempt.nonce == nonce && tx.attempt.fees.fee_per_gas >= self.base_fee
            };
            let Some(at) = self.pool.iter().position(ready) else {
                break;
            };
            let tx = self.pool.remove(at);
            *block.nonces.entry(tx.from).or_default() += 1;
            let outcome = execute(&block.ledger, tx.from, &tx.op)?;
            let place = (block.number, outcome.clone());
            self.included.insert(tx.attempt.hash, place);
            block.txs.push((tx, outcome));
        }
        let nonces = &block.nonces;
        self.pool.retain(|tx| {
            let used = nonces.get(&tx.from).copied().unwrap_or_default();
            tx.attempt.nonce >= used
        });
        let made = block.txs.len();
        self.blocks.push(block);
        if self.blocks.len() > usize::try_from(FINAL_DEPTH).unwrap_or(usize::MAX) {
            self.blocks.remove(0);
        }
        Ok(made)
    }

    /// The last block: its number and what it has.
    pub(crate) fn latest(&self) -> (u64, &[(Tx, Outcome)]) {
        let head = self.head();
        (head.number, &head.txs)
    }

    /// Takes the last blocks away; of their transactions some are forgotten.
    /// How many blocks, and how many transactions.
    pub(crate) fn reorg(&mut self, depth: u64, drops: bool, random: &mut Random) -> (u64, u64) {
        let (mut gone, mut dropped) = (0, 0);
        while gone < depth && self.blocks.len() > 1 {
            let block = self.blocks.pop().expect("more than one");
            gone += 1;
            for (tx, _) in block.txs {
                self.included.remove(&tx.attempt.hash);
                let place = |tx: &Tx| (tx.from, tx.attempt.nonce);
                if random.chance(2_000) && drops {
                    dropped += 1;
                } else if self.pool.iter().all(|other| place(other) != place(&tx)) {
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
        let nonces = &self.below(depth).nonces;
        nonces.get(&of).copied().unwrap_or_default()
    }

    /// The same with those that wait.
    pub(crate) fn pending(&self, of: Address, depth: usize) -> u64 {
        let has = |nonce| {
            let mut pool = self.pool.iter();
            pool.any(|tx| (tx.from, tx.attempt.nonce) == (of, nonce))
        };
        let latest = self.nonce(of, depth);
        (latest..).find(|nonce| !has(*nonce)).unwrap_or(latest)
    }

    /// What blocks ask for now.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            base_fee_per_gas: self.base_fee,
            tip_per_gas: TIP,
        }
    }

    /// What an account sees of its transactions in the block so many below the
    /// head, and of their receipts so many below. A server may be behind with
    /// the second only.
    pub(crate) fn look(
        &self,
        of: Address,
        wanted: &BTreeMap<u64, Vec<TxHash>>,
        (depth, receipts_depth): (usize, usize),
    ) -> Look {
        let head = self.below(depth).number;
        let latest = self.nonce(of, depth);
        let final_block = (head + 1).saturating_sub(FINAL_DEPTH);
        let last_seen = self.below(receipts_depth).number;
        let inclusion = |hash: &TxHash| {
            let (block, outcome) = self.included.get(hash)?;
            (*block <= last_seen).then_some(Inclusion {
                hash: *hash,
                block: *block,
                succeeded: outcome.is_ok(),
            })
        };
        let sight = |hashes: &Vec<TxHash>| {
            let found = hashes.iter().find_map(inclusion);
            found.map_or(Sight::NotOurs, Sight::Ours)
        };
        let used_up = wanted.iter().filter(|(nonce, _)| **nonce < latest);
        Look {
            head,
            final_block,
            // Older states are forgotten, as nodes do.
            final_latest: self.nonce_at(of, final_block),
            asked: self.asked(),
            latest,
            pending: self.pending(of, depth),
            sights: used_up.map(|(nonce, all)| (*nonce, sight(all))).collect(),
        }
    }

    fn nonce_at(&self, of: Address, block: u64) -> Option<u64> {
        let block = self.blocks.iter().find(|known| known.number == block)?;
        Some(block.nonces.get(&of).copied().unwrap_or_default())
    }

    /// Why a transaction did not do what it should.
    pub(crate) fn outcome(&self, hash: &TxHash) -> Option<Outcome> {
        self.included.get(hash).map(|(_, outcome)| outcome.clone())
    }

    /// What would come of it now.
    pub(crate) fn tried(&self, from: Address, op: &Op) -> Result<Outcome, LedgerError> {
        execute(&self.ledger().fork(), from, op)
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

fn execute(ledger: &MemoryLedger, from: Address, op: &Op) -> Result<Outcome, LedgerError> {
    let ledger = ledger.of(from);
    let done = match op {
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
        Op::Nothing => return Ok(Ok(())),
    };
    match done {
        Ok(_) => Ok(Ok(())),
        Err(LedgerError::Refused { reason }) => Ok(Err(reason)),
        Err(LedgerError::Insufficient { .. }) => Ok(Err("ERC20InsufficientBalance".to_owned())),
        // Books that do not balance.
        Err(broken) => Err(broken),
    }
}
