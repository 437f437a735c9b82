//! What is on the chain, in the form in which clients read it.

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{
    BlockBody, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope, TxReceipt,
};
use alloy::eips::eip4895::Withdrawals;
use alloy::primitives::U256;
use alloy::rlp::Encodable;
use alloy::rpc::types::{
    Block as RpcBlock, BlockTransactions, Header as RpcHeader, Log, Transaction, TransactionReceipt,
};

use crate::block::{Block, Mined};
use crate::history::logs_of;

/// A block, with its transactions whole or as hashes.
pub(crate) fn block(block: &Block, whole: bool) -> RpcBlock {
    let transactions = if whole {
        let all = (0..block.transactions.len()).filter_map(|index| transaction(block, index));
        BlockTransactions::Full(all.collect())
    } else {
        BlockTransactions::Hashes(block.transaction_hashes())
    };
    RpcBlock {
        header: RpcHeader::from_consensus(
            block.header.clone(),
            Some(U256::ZERO),
            Some(U256::from(size(block))),
        ),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Withdrawals::default()),
    }
}

fn size(block: &Block) -> usize {
    let transactions = block
        .transactions
        .iter()
        .map(|mined| mined.tx.inner().clone())
        .collect();
    let body = BlockBody::<TxEnvelope> {
        transactions,
        ommers: Vec::new(),
        withdrawals: Some(Withdrawals::default()),
    };
    alloy::consensus::Block::new(block.header.inner().clone(), body).length()
}

/// A mined transaction.
pub(crate) fn transaction(block: &Block, index: usize) -> Option<Transaction> {
    let mined = block.transactions.get(index)?;
    Some(Transaction {
        inner: mined.tx.as_ref().clone(),
        block_hash: Some(block.header.hash()),
        block_number: Some(block.number()),
        transaction_index: Some(index as u64),
        effective_gas_price: Some(mined.tx.effective_gas_price(Some(block.base_fee()))),
        block_timestamp: Some(block.header.timestamp),
    })
}

/// A transaction that waits.
pub(crate) fn waiting(tx: &Recovered<TxEnvelope>) -> Transaction {
    Transaction {
        effective_gas_price: Some(tx.max_fee_per_gas()),
        inner: tx.clone(),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        block_timestamp: None,
    }
}

/// What came of a mined transaction.
pub(crate) fn receipt(block: &Block, index: usize) -> Option<TransactionReceipt> {
    let mined = block.transactions.get(index)?;
    Some(TransactionReceipt {
        inner: envelope(mined, logs_of(block, index, mined)),
        transaction_hash: *mined.tx.tx_hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.header.hash()),
        block_number: Some(block.number()),
        gas_used: mined.gas_used,
        effective_gas_price: mined.tx.effective_gas_price(Some(block.base_fee())),
        blob_gas_used: None,
        blob_gas_price: None,
        from: mined.tx.signer(),
        to: mined.tx.to(),
        contract_address: mined.contract_address,
    })
}

/// The receipts of a whole block.
pub(crate) fn receipts(block: &Block) -> Vec<TransactionReceipt> {
    (0..block.transactions.len())
        .filter_map(|index| receipt(block, index))
        .collect()
}

fn envelope(mined: &Mined, logs: Vec<Log>) -> ReceiptEnvelope<Log> {
    let receipt = Receipt {
        status: mined.receipt.status_or_post_state(),
        cumulative_gas_used: mined.receipt.cumulative_gas_used(),
        logs,
    };
    let receipt = ReceiptWithBloom {
        receipt,
        logs_bloom: mined.receipt.bloom(),
    };
    ReceiptEnvelope::from_typed(mined.tx.tx_type(), receipt)
}
