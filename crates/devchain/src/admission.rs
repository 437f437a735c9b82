//! Whether a signed transaction may wait in the pool, with geth's words when
//! it may not: wallets and libraries recognise errors by these texts.

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{Address, U256};
use revm::context::CfgEnv;
use revm::primitives::eip3860::MAX_INITCODE_SIZE;

use crate::evm;

/// The largest transaction that is taken, in bytes; the same as geth's.
pub const TRANSACTION_BYTES_MAX: usize = 128 * 1024;

/// Why a transaction was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes aren't a transaction.
    #[error("failed to decode transaction: {0}")]
    Undecodable(String),
    /// The transaction is larger than is taken.
    #[error("oversized data: transaction size {size}, limit {TRANSACTION_BYTES_MAX}")]
    Oversized {
        /// In bytes.
        size: usize,
    },
    /// Blobs have no home on this chain.
    #[error(
        "transaction type not supported: blob transactions (EIP-4844) are not taken by this chain"
    )]
    Blobs,
    /// No key makes this signature, or it is malleable (EIP-2).
    #[error("invalid sender: invalid transaction v, r, s values")]
    Signature,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// What the transaction says.
        have: u64,
        /// This chain.
        want: u64,
    },
    /// The same transaction waits already.
    #[error("already known")]
    AlreadyKnown,
    /// The sender has used this nonce.
    #[error("nonce too low: next nonce {next}, tx nonce {got}")]
    NonceTooLow {
        /// The one to use.
        next: u64,
        /// The one in the transaction.
        got: u64,
    },
    /// EIP-2681.
    #[error("nonce has max value: address {sender}")]
    NonceMax {
        /// Who signed it.
        sender: Address,
    },
    /// The waiting transaction of the same nonce pays nearly as much or more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// Too many wait.
    #[error("txpool is full: {limit} transactions wait")]
    PoolFull {
        /// How many may wait.
        limit: usize,
    },
    /// Too many of this sender wait.
    #[error("account limit exceeded: {limit} transactions of {sender} wait")]
    SenderFull {
        /// Who signed them.
        sender: Address,
        /// How many may wait.
        limit: usize,
    },
    /// More gas than a block holds.
    #[error("exceeds block gas limit: tx gas {got}, block gas limit {limit}")]
    GasLimit {
        /// What the transaction asks for.
        got: u64,
        /// What a block holds.
        limit: u64,
    },
    /// Less gas than the transaction costs before the first instruction.
    #[error("intrinsic gas too low: gas {got}, minimum needed {least}")]
    IntrinsicGas {
        /// What the transaction offers.
        got: u64,
        /// What it needs.
        least: u64,
    },
    /// Less gas than its data costs (EIP-7623).
    #[error("insufficient gas for floor data gas cost: gas {got}, minimum needed {least}")]
    FloorGas {
        /// What the transaction offers.
        got: u64,
        /// What it needs.
        least: u64,
    },
    /// EIP-3860.
    #[error("max initcode size exceeded: code size {size}, limit {MAX_INITCODE_SIZE}")]
    InitCode {
        /// In bytes.
        size: usize,
    },
    /// EIP-7702 wants at least one authorization.
    #[error("EIP-7702 transaction with empty auth list")]
    NoAuthorization,
    /// It would pay less than every block asks.
    #[error(
        "max fee per gas less than block base fee: address {sender}, maxFeePerGas: {max_fee}, baseFee: {base_fee}"
    )]
    FeeCapTooLow {
        /// Who signed it.
        sender: Address,
        /// What it pays at most, in wei per gas.
        max_fee: u128,
        /// What the next block asks, in wei per gas.
        base_fee: u64,
    },
    /// The tip is a part of the fee.
    #[error(
        "max priority fee per gas higher than max fee per gas: address {sender}, maxPriorityFeePerGas: {tip}, maxFeePerGas: {max_fee}"
    )]
    TipAboveFeeCap {
        /// Who signed it.
        sender: Address,
        /// In wei per gas.
        tip: u128,
        /// In wei per gas.
        max_fee: u128,
    },
    /// The sender can't pay for it.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {}", .cost.saturating_sub(*.balance))]
    Funds {
        /// What the sender has, in wei.
        balance: U256,
        /// What it may cost, in wei.
        cost: U256,
    },
    /// The EVM would not execute it.
    #[error("transaction cannot be executed: {0}")]
    Unexecutable(String),
}

/// What the pool must know of the chain to admit a transaction.
pub(crate) struct Terms<'a> {
    pub(crate) rules: &'a CfgEnv,
    pub(crate) block_gas_limit: u64,
    /// The next block's, in wei per gas.
    pub(crate) base_fee: u64,
    pub(crate) balance: U256,
    pub(crate) nonce: u64,
}

/// Reads a signed transaction from its wire bytes and finds its sender.
pub(crate) fn decode(raw: &[u8]) -> Result<Recovered<TxEnvelope>, Refusal> {
    let tx = envelope(raw)?;
    let signature = tx.signature();
    if signature.normalize_s().is_some() {
        return Err(Refusal::Signature);
    }
    let sender = signature
        .recover_address_from_prehash(&tx.signature_hash())
        .map_err(|_| Refusal::Signature)?;
    Ok(Recovered::new_unchecked(tx, sender))
}

/// Reads a signed transaction from its wire bytes.
pub(crate) fn envelope(raw: &[u8]) -> Result<TxEnvelope, Refusal> {
    if raw.len() > TRANSACTION_BYTES_MAX {
        return Err(Refusal::Oversized { size: raw.len() });
    }
    let tx = TxEnvelope::decode_2718_exact(raw)
        .map_err(|error| Refusal::Undecodable(error.to_string()))?;
    if tx.is_eip4844() {
        return Err(Refusal::Blobs);
    }
    Ok(tx)
}

/// Checks what can be known before a block takes the transaction.
pub(crate) fn admit(tx: &Recovered<TxEnvelope>, terms: &Terms<'_>) -> Result<(), Refusal> {
    let sender = tx.signer();
    if let Some(have) = tx.chain_id().filter(|have| *have != terms.rules.chain_id) {
        return Err(Refusal::ChainId {
            have,
            want: terms.rules.chain_id,
        });
    }
    if tx.nonce() < terms.nonce {
        return Err(Refusal::NonceTooLow {
            next: terms.nonce,
            got: tx.nonce(),
        });
    }
    if tx.nonce() == u64::MAX {
        return Err(Refusal::NonceMax { sender });
    }
    if tx.gas_limit() > terms.block_gas_limit {
        return Err(Refusal::GasLimit {
            got: tx.gas_limit(),
            limit: terms.block_gas_limit,
        });
    }
    if tx.is_create() && tx.input().len() > MAX_INITCODE_SIZE {
        return Err(Refusal::InitCode {
            size: tx.input().len(),
        });
    }
    if tx.is_eip7702() && tx.authorization_list().is_none_or(<[_]>::is_empty) {
        return Err(Refusal::NoAuthorization);
    }
    admit_fees(tx, terms)?;
    admit_gas(tx, terms)
}

fn admit_fees(tx: &Recovered<TxEnvelope>, terms: &Terms<'_>) -> Result<(), Refusal> {
    let (sender, max_fee) = (tx.signer(), tx.max_fee_per_gas());
    if let Some(tip) = tx.max_priority_fee_per_gas().filter(|tip| *tip > max_fee) {
        return Err(Refusal::TipAboveFeeCap {
            sender,
            tip,
            max_fee,
        });
    }
    if max_fee < u128::from(terms.base_fee) {
        return Err(Refusal::FeeCapTooLow {
            sender,
            max_fee,
            base_fee: terms.base_fee,
        });
    }
    let gas = U256::from(tx.gas_limit()).saturating_mul(U256::from(max_fee));
    let cost = gas.saturating_add(tx.value());
    if cost > terms.balance {
        return Err(Refusal::Funds {
            balance: terms.balance,
            cost,
        });
    }
    Ok(())
}

fn admit_gas(tx: &Recovered<TxEnvelope>, terms: &Terms<'_>) -> Result<(), Refusal> {
    let got = tx.gas_limit();
    let needs = terms
        .rules
        .gas_params
        .initial_tx_gas_for_tx(evm::tx_env(tx), None);
    if got < needs.initial_regular_gas {
        return Err(Refusal::IntrinsicGas {
            got,
            least: needs.initial_regular_gas,
        });
    }
    if got < needs.floor_gas {
        return Err(Refusal::FloorGas {
            got,
            least: needs.floor_gas,
        });
    }
    Ok(())
}
