//! The chain itself: state, blocks, pool and time.
//!
//! Pure but for the clock's reading, which is an argument. Everything that
//! changes it leaves a [`Record`]; [`Chain::replay`] takes the records back in.
//! Who writes them to disk, and answers only after that, is [`crate::keeper`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Sealed, Transaction};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::primitives::{Address, B256, Bytes, TxHash, U256, keccak256};
use revm::DatabaseRef;
use revm::context::CfgEnv;
use tracing::warn;

use crate::admission::{self, Refusal, Terms};
use crate::block::{Block, Building};
use crate::evm::{self, ExecuteError, State};
use crate::genesis::{Birth, Genesis};
use crate::history::History;
use crate::past::Past;
use crate::pool::{Pool, Signed};
use crate::record::{Edit, Record};
use crate::rpc::subscriptions::News;
use crate::time::Timekeeper;

/// Remembered states at once; each is a copy of all accounts.
const SNAPSHOTS_MAX: usize = 16;
/// How far back the `BLOCKHASH` instruction sees.
const BLOCK_HASHES: u64 = 256;

/// Why stored records don't fit this build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A stored transaction is not one.
    #[error("a stored transaction is not valid")]
    Transaction(#[from] Refusal),
    /// A record speaks of a transaction that isn't there.
    #[error("transaction {0} is not waiting")]
    Missing(TxHash),
    /// A transaction that was mined can't be executed.
    #[error("transaction {hash} cannot be executed: {why}")]
    Unexecutable {
        /// Which one.
        hash: TxHash,
        /// Why.
        why: String,
    },
    /// Executing a block again gave another block.
    #[error("block {number} comes out as {got}, stored is {stored}")]
    Differs {
        /// Which one.
        number: u64,
        /// What it was.
        stored: B256,
        /// What it is now.
        got: B256,
    },
    /// An account was changed to something impossible.
    #[error("a stored change of an account is not valid: {0}")]
    Edit(String),
    /// The chain is to go back to a state that was not remembered.
    #[error("there is no snapshot {0}")]
    Snapshot(u64),
}

/// A remembered chain.
#[derive(Debug, Clone)]
struct Snapshot {
    state: State,
    past: Past,
    number: u64,
    pool: Pool,
    time: Timekeeper,
}

/// See the module's text.
pub(crate) struct Chain {
    pub(crate) rules: CfgEnv,
    pub(crate) call_rules: CfgEnv,
    pub(crate) state: State,
    pub(crate) past: Past,
    pub(crate) history: History,
    pub(crate) pool: Pool,
    pub(crate) time: Timekeeper,
    snapshots: BTreeMap<u64, Snapshot>,
    snapshots_taken: u64,
    /// Whether every transaction gets a block at once.
    automine: bool,
    unwritten: Vec<Record>,
}

impl Chain {
    pub(crate) fn new(genesis: &Genesis, birth: Birth, automine: bool) -> Self {
        let header = Sealed::new(genesis.header(birth));
        let hash = header.hash();
        let first = Arc::new(Block {
            header,
            transactions: Vec::new(),
        });
        let mut state = genesis.state();
        state.cache.block_hashes.insert(U256::ZERO, hash);
        Self {
            rules: evm::rules(genesis.chain_id),
            call_rules: evm::call_rules(genesis.chain_id),
            state,
            past: Past::default(),
            history: History::starting_with(first),
            pool: Pool::default(),
            time: Timekeeper::default(),
            snapshots: BTreeMap::new(),
            snapshots_taken: 0,
            automine,
            unwritten: Vec::new(),
        }
    }

    /// The records since this was last asked; they must be durable before
    /// anyone hears of what they say.
    pub(crate) fn take_unwritten(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.unwritten)
    }

    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// What those who listen hear of a record.
    pub(crate) fn news(&self, record: &Record) -> Option<News> {
        match record {
            Record::Block { hash, .. } => self.history.hash(hash).cloned().map(News::Block),
            Record::Transaction { raw, .. } => self.signed(&keccak256(raw)).map(News::Waiting),
            _ => None,
        }
    }

    /// A transaction that waits or is in a block.
    fn signed(&self, hash: &TxHash) -> Option<Signed> {
        if let Some(waiting) = self.pool.find(hash) {
            return Some(waiting.clone());
        }
        let (block, index) = self.history.transaction(hash)?;
        Some(block.transactions.get(index)?.tx.clone())
    }

    /// The base fee that the next block asks, in wei per gas.
    pub(crate) fn next_base_fee(&self) -> u64 {
        let latest = &self.history.latest().header;
        latest
            .next_block_base_fee(BaseFeeParams::ethereum())
            .unwrap_or_default()
    }

    /// Balance and nonce of `address` after the latest block.
    pub(crate) fn account(&self, address: Address) -> (U256, u64) {
        evm::account(&self.state, address)
    }

    /// The nonce of `address` when all that waits in order is mined.
    pub(crate) fn pending_nonce(&self, address: Address) -> u64 {
        self.pool.next_nonce(address, self.account(address).1)
    }

    /// Takes a signed transaction; with automining it is in a block when this
    /// returns, unless one before it is missing.
    pub(crate) fn submit(&mut self, raw: &Bytes, clock: u64) -> Result<TxHash, Refusal> {
        let tx = admission::decode(raw)?;
        let hash = *tx.tx_hash();
        let (balance, nonce) = self.account(tx.signer());
        let terms = Terms {
            rules: &self.rules,
            block_gas_limit: self.history.latest().header.gas_limit,
            base_fee: self.next_base_fee(),
            balance,
            nonce,
        };
        admission::admit(&tx, &terms)?;
        self.pool.check(&tx, nonce)?;
        let from = tx.signer();
        self.pool.insert(Arc::new(tx));
        self.unwritten.push(Record::Transaction {
            from,
            raw: raw.clone(),
        });
        if self.automine {
            let refused = self.mine_waiting(clock);
            if let Some((_, why)) = refused.into_iter().find(|(refused, _)| *refused == hash) {
                return Err(Refusal::Unexecutable(why));
            }
        }
        Ok(hash)
    }

    /// Makes one block of as many waiting transactions as fit, none too.
    pub(crate) fn mine(&mut self, clock: u64) {
        self.make_block(clock, usize::MAX, true);
    }

    /// Makes a block for each waiting transaction that can be mined, and says
    /// which could not after all.
    fn mine_waiting(&mut self, clock: u64) -> Vec<(TxHash, String)> {
        let mut refused = Vec::new();
        loop {
            let waiting = self.pool.len();
            refused.extend(self.make_block(clock, 1, false));
            if self.pool.len() == waiting {
                return refused;
            }
        }
    }

    fn make_block(&mut self, clock: u64, most: usize, even_empty: bool) -> Vec<(TxHash, String)> {
        let ready = {
            let state = &self.state;
            self.pool.ready(self.next_base_fee(), most, |sender| {
                evm::account(state, sender).1
            })
        };
        let parent = &self.history.latest().header;
        let timestamp = self.time.next_block(parent.timestamp, clock);
        let mut building = Building::on(parent, timestamp);
        let mut refused = Vec::new();
        let mut passed_over = HashSet::new();
        for tx in ready {
            if passed_over.contains(&tx.signer()) || tx.gas_limit() > building.gas_left() {
                passed_over.insert(tx.signer());
                continue;
            }
            let (hash, sender) = (*tx.tx_hash(), tx.signer());
            self.pool.take(&hash);
            if let Err(error) = building.execute(&mut self.state, &mut self.past, &self.rules, tx) {
                warn!(%hash, %error, "a waiting transaction could not be executed and is dropped");
                passed_over.insert(sender);
                self.unwritten.push(Record::Dropped(hash));
                refused.push((hash, error.to_string()));
            }
        }
        if even_empty || !building.is_empty() {
            self.close(building, clock);
        }
        refused
    }

    fn close(&mut self, building: Building, clock: u64) {
        let block = self.append(building);
        self.unwritten.push(Record::Block {
            timestamp: block.header.timestamp,
            transactions: block.transaction_hashes(),
            hash: block.header.hash(),
        });
        self.set_time(self.time.after_block(block.header.timestamp, clock));
    }

    fn append(&mut self, building: Building) -> Arc<Block> {
        let block = building.seal();
        let hashes = &mut self.state.cache.block_hashes;
        hashes.insert(U256::from(block.number()), block.header.hash());
        if let Some(old) = block.number().checked_sub(BLOCK_HASHES + 1) {
            hashes.remove(&U256::from(old));
        }
        self.past.close();
        self.history.push(block.clone());
        block
    }

    /// The empty block that would come next.
    pub(crate) fn pending_block(&self, clock: u64) -> Arc<Block> {
        let parent = &self.history.latest().header;
        Building::on(parent, self.time.next_block(parent.timestamp, clock)).seal()
    }

    /// Moves the chain's time.
    pub(crate) fn set_time(&mut self, time: Timekeeper) {
        if self.time != time {
            self.time = time;
            self.unwritten.push(Record::Time(time));
        }
    }

    /// Changes an account without a transaction.
    ///
    /// # Errors
    /// Says why the code is no code.
    pub(crate) fn edit(&mut self, address: Address, edit: Edit) -> Result<(), String> {
        self.apply_edit(address, &edit)?;
        self.unwritten.push(Record::Edit { address, edit });
        Ok(())
    }

    /// Remembers the chain as it is; `None` when too many are remembered.
    pub(crate) fn snapshot(&mut self) -> Option<u64> {
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return None;
        }
        let id = self.apply_snapshot();
        self.unwritten.push(Record::Snapshot(id));
        Some(id)
    }

    /// Goes back to a remembered chain, forgetting it and all later ones.
    pub(crate) fn revert(&mut self, id: u64) -> bool {
        let found = self.apply_revert(id);
        if found {
            self.unwritten.push(Record::Revert(id));
        }
        found
    }

    /// Takes in what an earlier run wrote down.
    pub(crate) fn replay(&mut self, record: Record) -> Result<(), ReplayError> {
        match record {
            Record::Genesis { .. } => {}
            Record::Transaction { from, raw } => {
                let tx = Recovered::new_unchecked(admission::envelope(&raw)?, from);
                self.pool.insert(Arc::new(tx));
            }
            Record::Dropped(hash) => {
                self.pool.take(&hash).ok_or(ReplayError::Missing(hash))?;
            }
            Record::Block {
                timestamp,
                transactions,
                hash,
            } => {
                self.replay_block(timestamp, &transactions, hash)?;
            }
            Record::Time(time) => self.time = time,
            Record::Edit { address, edit } => {
                self.apply_edit(address, &edit).map_err(ReplayError::Edit)?;
            }
            Record::Snapshot(_) => {
                self.apply_snapshot();
            }
            Record::Revert(id) => {
                if !self.apply_revert(id) {
                    return Err(ReplayError::Snapshot(id));
                }
            }
        }
        Ok(())
    }

    fn replay_block(
        &mut self,
        timestamp: u64,
        transactions: &[TxHash],
        stored: B256,
    ) -> Result<(), ReplayError> {
        let mut building = Building::on(&self.history.latest().header, timestamp);
        for hash in transactions {
            let tx: Signed = self.pool.take(hash).ok_or(ReplayError::Missing(*hash))?;
            let unexecutable = |error: ExecuteError| ReplayError::Unexecutable {
                hash: *hash,
                why: error.to_string(),
            };
            building
                .execute(&mut self.state, &mut self.past, &self.rules, tx)
                .map_err(unexecutable)?;
        }
        let block = self.append(building);
        let got = block.header.hash();
        if got != stored {
            return Err(ReplayError::Differs {
                number: block.number(),
                stored,
                got,
            });
        }
        Ok(())
    }

    fn apply_edit(&mut self, address: Address, edit: &Edit) -> Result<(), String> {
        let mut info = match self.state.basic_ref(address) {
            Ok(info) => info.unwrap_or_default(),
            Err(never) => match never {},
        };
        let slot = match edit {
            Edit::Storage { slot, .. } => Some(*slot),
            _ => None,
        };
        self.past.note_edit(&self.state, address, slot);
        match edit {
            Edit::Balance(balance) => info.balance = *balance,
            Edit::Nonce(nonce) => info.nonce = *nonce,
            Edit::Code(code) => evm::set_code(&mut info, code)?,
            Edit::Storage { slot, value } => {
                let value = U256::from_be_bytes(value.0);
                match self.state.insert_account_storage(address, *slot, value) {
                    Ok(()) => {}
                    Err(never) => match never {},
                }
            }
        }
        self.state.insert_account_info(address, info);
        Ok(())
    }

    fn apply_snapshot(&mut self) -> u64 {
        let id = self.snapshots_taken;
        self.snapshots_taken += 1;
        let snapshot = Snapshot {
            state: self.state.clone(),
            past: self.past.clone(),
            number: self.history.latest().number(),
            pool: self.pool.clone(),
            time: self.time,
        };
        self.snapshots.insert(id, snapshot);
        id
    }

    fn apply_revert(&mut self, id: u64) -> bool {
        let mut forgotten = self.snapshots.split_off(&id);
        let Some(snapshot) = forgotten.remove(&id) else {
            self.snapshots.append(&mut forgotten);
            return false;
        };
        self.history.cut_after(snapshot.number);
        self.state = snapshot.state;
        self.past = snapshot.past;
        self.pool = snapshot.pool;
        self.time = snapshot.time;
        true
    }
}
