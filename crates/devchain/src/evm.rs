//! The rules of execution: revm set up as the Osaka mainnet rules with the same
//! relaxations that anvil has by default.
//!
//! Transactions commit to the state; calls run on a layer above it that is
//! thrown away.

use std::convert::Infallible;

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, Transaction, TxEnvelope, Typed2718};
use alloy::primitives::{Address, Bytes, KECCAK256_EMPTY, U256, keccak256};
use revm::bytecode::Bytecode;
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{DatabaseCommit, DatabaseRef, ExecuteEvm, MainBuilder, MainContext};

use crate::past::Past;

/// All accounts, in memory.
pub(crate) type State = CacheDB<EmptyDB>;

/// A scratch layer above the state for calls and estimates.
pub(crate) type Scratch<'a> = CacheDB<&'a State>;

/// The hard fork in force: what anvil 1.7 runs by default.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

/// Why the EVM did not even start to execute a transaction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// The transaction may not be executed; the state is as before.
    #[error("{0}")]
    Invalid(InvalidTransaction),
    /// The EVM was set up wrongly: a bug of this crate.
    #[error("the evm failed: {0}")]
    Failed(String),
}

impl From<EVMError<Infallible>> for ExecuteError {
    fn from(error: EVMError<Infallible>) -> Self {
        match error {
            EVMError::Transaction(invalid) => Self::Invalid(invalid),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The rules for transactions.
pub(crate) fn rules(chain_id: u64) -> CfgEnv {
    let mut rules = CfgEnv::new_with_spec(SPEC).with_chain_id(chain_id);
    // EIP-7825's cap stays off, as in anvil: one transaction may fill a block.
    rules.tx_gas_limit_cap = Some(u64::MAX);
    rules
}

/// The rules for calls: whoever is named as sender may call, at any nonce, and
/// without a fee unless one is offered.
pub(crate) fn call_rules(chain_id: u64) -> CfgEnv {
    let mut rules = rules(chain_id);
    rules.disable_nonce_check = true;
    rules.disable_eip3607 = true;
    rules.disable_base_fee = true;
    rules.disable_block_gas_limit = true;
    rules.tx_chain_id_check = false;
    rules
}

/// What the code sees of the block with this header.
pub(crate) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(
            0,
            revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
        )),
        slot_num: 0,
    }
}

/// A signed transaction as the EVM takes it.
pub(crate) fn tx_env(tx: &Recovered<TxEnvelope>) -> TxEnv {
    let authorizations = tx.authorization_list().unwrap_or_default();
    TxEnv {
        tx_type: tx.ty(),
        caller: tx.signer(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: authorizations.iter().cloned().map(Either::Left).collect(),
    }
}

/// Executes a transaction and keeps what it changed, and how that was before.
pub(crate) fn transact(
    state: &mut State,
    past: &mut Past,
    rules: &CfgEnv,
    block: &BlockEnv,
    tx: TxEnv,
) -> Result<ExecutionResult, ExecuteError> {
    let mut evm = Context::mainnet()
        .with_db(&mut *state)
        .with_cfg(rules.clone())
        .with_block(block.clone())
        .build_mainnet();
    let done = evm.transact(tx)?;
    drop(evm);
    past.note(state, &done.state);
    state.commit(done.state);
    Ok(done.result)
}

/// Executes a call and forgets what it changed.
pub(crate) fn simulate(
    scratch: &mut Scratch<'_>,
    rules: &CfgEnv,
    block: &BlockEnv,
    tx: TxEnv,
) -> Result<ExecutionResult, ExecuteError> {
    let mut evm = Context::mainnet()
        .with_db(scratch)
        .with_cfg(rules.clone())
        .with_block(block.clone())
        .build_mainnet();
    Ok(evm.transact(tx)?.result)
}

/// Puts runtime code into an account; the error says why it is no code.
pub(crate) fn set_code(info: &mut AccountInfo, code: &Bytes) -> Result<(), String> {
    let bytecode = Bytecode::new_raw_checked(code.clone()).map_err(|error| error.to_string())?;
    info.code_hash = if code.is_empty() {
        KECCAK256_EMPTY
    } else {
        keccak256(code)
    };
    info.code = Some(bytecode);
    Ok(())
}

/// The account's balance and nonce; zero where there is none.
pub(crate) fn account(
    state: &impl DatabaseRef<Error = Infallible>,
    address: Address,
) -> (U256, u64) {
    match state.basic_ref(address) {
        Ok(Some(info)) => (info.balance, info.nonce),
        Ok(None) => (U256::ZERO, 0),
        Err(never) => match never {},
    }
}
