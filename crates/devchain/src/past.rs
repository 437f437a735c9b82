//! The states at the latest blocks, kept as what has to be undone to be there
//! again. Wallets ask at the number of the block that they saw last, which is
//! seldom the latest by then.

use std::collections::{HashMap, VecDeque};

use alloy::primitives::{Address, U256};
use revm::DatabaseRef;
use revm::database::CacheDB;
use revm::state::{AccountInfo, EvmState};

use crate::evm::{Scratch, State};

/// Blocks whose states can be asked for, besides the latest; about geth's.
pub(crate) const STATES_KEPT: usize = 128;

/// How the accounts were that one block changed.
#[derive(Debug, Clone, Default)]
struct Undo {
    accounts: HashMap<Address, AccountInfo>,
    storage: HashMap<(Address, U256), U256>,
}

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// Of the block that is being made.
    open: Undo,
    /// Of those that are made, the latest first.
    closed: VecDeque<Undo>,
}

impl Past {
    /// Notes what a transaction is about to change.
    pub(crate) fn note(&mut self, state: &State, changes: &EvmState) {
        for (address, account) in changes {
            if account.is_touched() {
                self.open.account(state, *address);
            }
            for (slot, value) in &account.storage {
                if value.is_changed() {
                    self.open.slot(state, *address, *slot);
                }
            }
        }
    }

    /// The block is made.
    pub(crate) fn close(&mut self) {
        self.closed.push_front(std::mem::take(&mut self.open));
        self.closed.truncate(STATES_KEPT);
    }

    /// Notes that an account is about to be edited. An edit belongs to the block
    /// before it: the next one builds on it.
    pub(crate) fn note_edit(&mut self, state: &State, address: Address, slot: Option<U256>) {
        // Before the first block there is nothing to go back to.
        if let Some(latest) = self.closed.front_mut() {
            latest.account(state, address);
            if let Some(slot) = slot {
                latest.slot(state, address, slot);
            }
        }
    }

    /// Whether the state `back` blocks before the latest can be had.
    pub(crate) fn keeps(&self, back: u64) -> bool {
        usize::try_from(back).is_ok_and(|back| back <= self.closed.len())
    }

    /// The state `back` blocks before the latest, or the oldest that is kept.
    pub(crate) fn state<'a>(&self, state: &'a State, back: u64) -> Scratch<'a> {
        let back = usize::try_from(back).unwrap_or(usize::MAX);
        let mut scratch = CacheDB::new(state);
        // From the latest on: what was undone last is how it was first.
        for undo in self.closed.iter().take(back) {
            for (address, info) in &undo.accounts {
                scratch.insert_account_info(*address, info.clone());
            }
            for ((address, slot), value) in &undo.storage {
                match scratch.insert_account_storage(*address, *slot, *value) {
                    Ok(()) => {}
                    Err(never) => match never {},
                }
            }
        }
        scratch
    }
}

impl Undo {
    fn account(&mut self, state: &State, address: Address) {
        self.accounts.entry(address).or_insert_with(|| {
            let info = state.basic_ref(address);
            info.unwrap_or_else(|never| match never {})
                .unwrap_or_default()
        });
    }

    fn slot(&mut self, state: &State, address: Address, slot: U256) {
        self.storage.entry((address, slot)).or_insert_with(|| {
            let value = state.storage_ref(address, slot);
            value.unwrap_or_else(|never| match never {})
        });
    }
}
