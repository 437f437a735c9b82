//! What the chain starts with: its id, its first block and the accounts that
//! exist before the first transaction.
//!
//! The caller decides the content (development accounts, contracts at their
//! public addresses); nothing is put in here silently. The state root of the
//! first block is computed for real, so its hash commits to every account; see
//! [`crate::Devchain`] for the later blocks.

use std::collections::BTreeMap;

use alloy::consensus::proofs::{state_root_unhashed, storage_root_unhashed};
use alloy::consensus::{EMPTY_ROOT_HASH, Header, TrieAccount};
use alloy::eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use revm::bytecode::Bytecode;
use revm::database::{CacheDB, EmptyDB};
use revm::state::AccountInfo;

/// The first block and the accounts in it.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// The chain id that transactions are signed for (EIP-155).
    pub chain_id: u64,
    /// Unix seconds of the first block; `None` takes the clock's time when the
    /// chain is opened for the first time and draws its first randomness, so that
    /// no two chains have the same first block (both kept in the log from then on).
    pub timestamp: Option<u64>,
    /// How much gas one block holds.
    pub gas_limit: u64,
    /// The base fee of the first block, in wei per gas.
    pub base_fee_per_gas: u64,
    /// The accounts that exist from the start.
    pub accounts: BTreeMap<Address, GenesisAccount>,
}

/// What one chain's first block has that no other of the same genesis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth {
    /// Unix seconds.
    pub(crate) timestamp: u64,
    /// Block 0's `prevrandao`; zero where the genesis says the time itself.
    pub(crate) randomness: B256,
}

impl Birth {
    /// Of a chain whose time is given: always the same one.
    pub(crate) fn at(timestamp: u64) -> Self {
        Self {
            timestamp,
            randomness: B256::ZERO,
        }
    }
}

/// An account that exists from the start.
#[derive(Debug, Clone, Default)]
pub struct GenesisAccount {
    /// In wei.
    pub balance: U256,
    /// The next nonce. A deployed contract has 1 (EIP-161).
    pub nonce: u64,
    /// Runtime code; empty for a plain account.
    pub code: Bytes,
    /// Storage slots that aren't zero.
    pub storage: BTreeMap<U256, U256>,
}

impl Genesis {
    /// What one block holds unless told otherwise; the same as anvil's.
    pub const GAS_LIMIT: u64 = 30_000_000;
    /// The first base fee unless told otherwise: 1 gwei, the same as anvil's.
    pub const BASE_FEE_PER_GAS: u64 = 1_000_000_000;

    /// A chain without accounts, starting when it is first opened.
    pub fn new(chain_id: u64) -> Self {
        Self {
            chain_id,
            timestamp: None,
            gas_limit: Self::GAS_LIMIT,
            base_fee_per_gas: Self::BASE_FEE_PER_GAS,
            accounts: BTreeMap::new(),
        }
    }

    /// Gives `address` a balance.
    #[must_use]
    pub fn with_balance(mut self, address: Address, balance: U256) -> Self {
        self.accounts.entry(address).or_default().balance = balance;
        self
    }

    /// Puts a deployed contract (its runtime code) at `address`.
    #[must_use]
    pub fn with_code(mut self, address: Address, code: Bytes) -> Self {
        let account = self.accounts.entry(address).or_default();
        account.code = code;
        account.nonce = 1;
        self
    }

    /// Sets one storage slot of the contract at `address`.
    #[must_use]
    pub fn with_storage(mut self, address: Address, slot: U256, value: U256) -> Self {
        let account = self.accounts.entry(address).or_default();
        account.storage.insert(slot, value);
        self
    }

    /// What tells one genesis from another: a hash over all of it.
    pub(crate) fn fingerprint(&self) -> B256 {
        let header = self.header(Birth::at(self.timestamp.unwrap_or_default()));
        let mut bytes = header.hash_slow().to_vec();
        bytes.extend(self.chain_id.to_be_bytes());
        bytes.push(u8::from(self.timestamp.is_some()));
        keccak256(bytes)
    }

    /// The header of block 0.
    pub(crate) fn header(&self, birth: Birth) -> Header {
        Header {
            state_root: self.state_root(),
            gas_limit: self.gas_limit,
            timestamp: birth.timestamp,
            mix_hash: birth.randomness,
            base_fee_per_gas: Some(self.base_fee_per_gas),
            ..blank_header()
        }
    }

    /// The state that the first transaction finds.
    pub(crate) fn state(&self) -> CacheDB<EmptyDB> {
        let mut state = CacheDB::new(EmptyDB::new());
        for (address, account) in &self.accounts {
            state.insert_account_info(*address, account.info());
            for (slot, value) in &account.storage {
                match state.insert_account_storage(*address, *slot, *value) {
                    Ok(()) => {}
                    Err(never) => match never {},
                }
            }
        }
        state
    }

    fn state_root(&self) -> B256 {
        state_root_unhashed(self.accounts.iter().map(|(address, account)| {
            let storage = account.storage.iter().filter(|(_, value)| !value.is_zero());
            let trie = TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root: storage_root_unhashed(
                    storage.map(|(slot, value)| (B256::from(*slot), *value)),
                ),
                code_hash: account.info().code_hash,
            };
            (*address, trie)
        }))
    }
}

impl GenesisAccount {
    fn info(&self) -> AccountInfo {
        let code_hash = if self.code.is_empty() {
            KECCAK256_EMPTY
        } else {
            keccak256(&self.code)
        };
        // A delegation (EIP-7702) that is malformed stays what it is: odd code.
        let code = Bytecode::new_raw_checked(self.code.clone())
            .unwrap_or_else(|_| Bytecode::new_legacy(self.code.clone()));
        AccountInfo {
            balance: self.balance,
            nonce: self.nonce,
            code_hash,
            code: Some(code),
            ..AccountInfo::default()
        }
    }
}

/// The fields that are the same in every block of this chain.
pub(crate) fn blank_header() -> Header {
    Header {
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_genesis_changes_its_fingerprint() {
        let base = Genesis::new(1).with_balance(Address::repeat_byte(1), U256::from(5));
        let others = [
            Genesis {
                chain_id: 2,
                ..base.clone()
            },
            Genesis {
                timestamp: Some(0),
                ..base.clone()
            },
            Genesis {
                gas_limit: 1,
                ..base.clone()
            },
            Genesis {
                base_fee_per_gas: 1,
                ..base.clone()
            },
            base.clone()
                .with_balance(Address::repeat_byte(1), U256::from(6)),
            base.clone()
                .with_balance(Address::repeat_byte(2), U256::from(5)),
            base.clone()
                .with_code(Address::repeat_byte(1), Bytes::from_static(&[0])),
            base.clone()
                .with_storage(Address::repeat_byte(1), U256::ZERO, U256::ONE),
        ];
        for other in others {
            assert_ne!(base.fingerprint(), other.fingerprint(), "{other:?}");
        }
        assert_eq!(base.fingerprint(), base.clone().fingerprint());
    }
}
