//! One block: being built, and built.
//!
//! Header, roots, bloom and receipts are those of the protocol, with one
//! exception: `stateRoot` is zero from block 1 on, because a Merkle root over
//! all accounts per transaction is the one thing a development chain can't
//! afford and nobody asks of it. The header's hash is real.

use std::sync::Arc;

use alloy::consensus::proofs::ordered_trie_root_with_encoder;
use alloy::consensus::transaction::TxHashRef;
use alloy::consensus::{Header, Receipt, ReceiptEnvelope, Sealed, Transaction, TxReceipt};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, Bloom, TxHash, keccak256};
use revm::context::{BlockEnv, CfgEnv};

use crate::evm::{self, ExecuteError, State};
use crate::genesis::blank_header;
use crate::past::Past;
use crate::pool::Signed;

/// A transaction in a block, with what came of it.
#[derive(Debug)]
pub(crate) struct Mined {
    pub(crate) tx: Signed,
    pub(crate) receipt: ReceiptEnvelope,
    pub(crate) gas_used: u64,
    /// Where the created contract lies (also if the creation failed, as geth says).
    pub(crate) contract_address: Option<Address>,
    /// How many logs of the block come before this transaction's.
    pub(crate) logs_before: usize,
}

/// A block that won't change any more.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: Sealed<Header>,
    pub(crate) transactions: Vec<Mined>,
}

impl Block {
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    pub(crate) fn transaction_hashes(&self) -> Vec<TxHash> {
        self.transactions
            .iter()
            .map(|mined| *mined.tx.tx_hash())
            .collect()
    }
}

/// What a block after `parent` starts from.
pub(crate) fn next_header(parent: &Sealed<Header>, timestamp: u64) -> Header {
    Header {
        parent_hash: parent.hash(),
        number: parent.number + 1,
        gas_limit: parent.gas_limit,
        timestamp,
        mix_hash: keccak256(parent.hash()),
        base_fee_per_gas: parent.next_block_base_fee(BaseFeeParams::ethereum()),
        ..blank_header()
    }
}

/// A block that takes transactions.
pub(crate) struct Building {
    header: Header,
    env: BlockEnv,
    transactions: Vec<Mined>,
    logs: usize,
}

impl Building {
    pub(crate) fn on(parent: &Sealed<Header>, timestamp: u64) -> Self {
        let header = next_header(parent, timestamp);
        let env = evm::block_env(&header);
        Self {
            header,
            env,
            transactions: Vec::new(),
            logs: 0,
        }
    }

    pub(crate) fn gas_left(&self) -> u64 {
        self.header.gas_limit.saturating_sub(self.header.gas_used)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Executes one more transaction. On an error nothing has changed.
    pub(crate) fn execute(
        &mut self,
        state: &mut State,
        past: &mut Past,
        rules: &CfgEnv,
        tx: Signed,
    ) -> Result<(), ExecuteError> {
        let result = evm::transact(state, past, rules, &self.env, evm::tx_env(&tx))?;
        let gas_used = result.tx_gas_used();
        let contract_address = tx.is_create().then(|| tx.signer().create(tx.nonce()));
        self.header.gas_used += gas_used;
        let receipt = Receipt {
            status: result.is_success().into(),
            cumulative_gas_used: self.header.gas_used,
            logs: if result.is_success() {
                result.into_logs()
            } else {
                Vec::new()
            },
        };
        let logs_before = self.logs;
        self.logs += receipt.logs.len();
        let receipt = ReceiptEnvelope::from_typed(tx.tx_type(), receipt.with_bloom());
        self.transactions.push(Mined {
            tx,
            receipt,
            gas_used,
            contract_address,
            logs_before,
        });
        Ok(())
    }

    /// Closes the block.
    pub(crate) fn seal(mut self) -> Arc<Block> {
        let mined = &self.transactions;
        self.header.transactions_root =
            ordered_trie_root_with_encoder(mined, |mined, out| mined.tx.inner().encode_2718(out));
        self.header.receipts_root =
            ordered_trie_root_with_encoder(mined, |mined, out| mined.receipt.encode_2718(out));
        self.header.logs_bloom = mined
            .iter()
            .fold(Bloom::ZERO, |bloom, mined| bloom | mined.receipt.bloom());
        Arc::new(Block {
            header: Sealed::new(self.header),
            transactions: self.transactions,
        })
    }
}
