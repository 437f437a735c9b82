//! `eth_call` and `eth_estimateGas`: executing without a transaction.
//!
//! A call at `latest` sees the latest block's number and base fee, but the
//! chain's present time. With automining an idle chain makes no blocks, so the
//! last block's time may be hours old, and a contract that waits for a deadline
//! would seem to wait for ever. (anvil shows the last block's time.)

use alloy::consensus::Header;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::state::{AccountOverride, StateOverride};
use revm::context::either::Either;
use revm::context::result::{ExecutionResult, HaltReason};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::{Database, DatabaseRef};

use super::error::RpcError;
use crate::block::next_header;
use crate::chain::Chain;
use crate::evm::{self, Scratch};

/// The most gas that a call may burn, whatever it asks for; the same as geth's.
pub(crate) const CALL_GAS_MAX: u64 = 50_000_000;
/// What the cheapest transaction costs.
const TRANSFER_GAS: u64 = 21_000;

/// Which state a question is about; the latest and the pending are the same
/// accounts, but another block around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Latest,
    Pending,
    /// At the end of the block with this number, which is not the latest.
    Past(u64),
}

/// A call, ready to be executed with different gas limits.
struct Call<'a> {
    scratch: Scratch<'a>,
    rules: CfgEnv,
    block: BlockEnv,
    tx: TxEnv,
}

impl Chain {
    /// The state that `block` names, if it is one that is kept.
    pub(crate) fn at(&self, block: Option<BlockId>) -> Result<At, RpcError> {
        let latest = self.history.latest();
        let (asked, known) = match block.unwrap_or_default() {
            BlockId::Number(BlockNumberOrTag::Pending) => return Ok(At::Pending),
            BlockId::Number(BlockNumberOrTag::Number(number)) => {
                (format!("block {number}"), self.history.number(number))
            }
            BlockId::Number(BlockNumberOrTag::Earliest) => {
                ("block 0".to_owned(), self.history.number(0))
            }
            BlockId::Number(_) => return Ok(At::Latest),
            BlockId::Hash(hash) => (
                format!("block {}", hash.block_hash),
                self.history.hash(&hash.block_hash),
            ),
        };
        let number = latest.number();
        match known {
            Some(block) if block.number() == number => Ok(At::Latest),
            Some(block) if self.past.keeps(number - block.number()) => Ok(At::Past(block.number())),
            Some(_) => Err(RpcError::HistoricalState {
                asked,
                latest: number,
            }),
            None => Err(RpcError::UnknownBlock {
                asked,
                latest: number,
            }),
        }
    }

    /// The accounts there. What is written to it is forgotten with it.
    pub(crate) fn state_at(&self, at: At) -> Scratch<'_> {
        let back = match at {
            At::Latest | At::Pending => 0,
            At::Past(number) => self.history.latest().number().saturating_sub(number),
        };
        self.past.state(&self.state, back)
    }

    fn header_at(&self, at: At, clock: u64) -> Header {
        let latest = &self.history.latest().header;
        match at {
            At::Latest => Header {
                timestamp: latest.timestamp.max(self.time.now(clock)),
                ..latest.inner().clone()
            },
            At::Pending => next_header(latest, self.time.next_block(latest.timestamp, clock)),
            At::Past(number) => {
                let block = self.history.number(number);
                let header = block.map_or(latest, |block| &block.header);
                header.inner().clone()
            }
        }
    }

    /// What the call returns.
    pub(crate) fn call(
        &self,
        request: &TransactionRequest,
        at: At,
        overrides: Option<&StateOverride>,
        clock: u64,
    ) -> Result<Bytes, RpcError> {
        let mut call = self.prepare(request, at, overrides, clock)?;
        let gas = request
            .gas
            .unwrap_or(call.block.gas_limit)
            .min(CALL_GAS_MAX);
        match call.run(gas)? {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            ExecutionResult::Revert { output, .. } => Err(RpcError::reverted(output)),
            ExecutionResult::Halt { reason, .. } => Err(RpcError::halted(&reason)),
        }
    }

    /// The smallest gas limit with which the transaction succeeds.
    pub(crate) fn estimate(
        &self,
        request: &TransactionRequest,
        at: At,
        overrides: Option<&StateOverride>,
        clock: u64,
    ) -> Result<u64, RpcError> {
        let mut call = self.prepare(request, at, overrides, clock)?;
        let most = call.affordable(request.gas.unwrap_or(call.block.gas_limit))?;
        if call.is_transfer()
            && call
                .run(TRANSFER_GAS.min(most))
                .is_ok_and(|run| run.is_success())
        {
            return Ok(TRANSFER_GAS);
        }
        let used = match call.run(most)? {
            ExecutionResult::Success { gas, .. } => gas.tx_gas_used(),
            ExecutionResult::Revert { output, .. } => return Err(RpcError::reverted(output)),
            ExecutionResult::Halt {
                reason: HaltReason::OutOfGas(_),
                ..
            } => {
                return Err(RpcError::Allowance { allowance: most });
            }
            ExecutionResult::Halt { reason, .. } => return Err(RpcError::halted(&reason)),
        };
        Ok(call.least(used.saturating_sub(1), most))
    }

    fn prepare(
        &self,
        request: &TransactionRequest,
        at: At,
        overrides: Option<&StateOverride>,
        clock: u64,
    ) -> Result<Call<'_>, RpcError> {
        let mut scratch = self.state_at(at);
        for (address, account) in overrides.into_iter().flatten() {
            override_account(&mut scratch, *address, account)?;
        }
        let caller = request.from.unwrap_or_default();
        let nonce = request.nonce.unwrap_or(evm::account(&scratch, caller).1);
        let price = request
            .gas_price
            .or(request.max_fee_per_gas)
            .unwrap_or_default();
        let mut rules = self.call_rules.clone();
        rules.disable_base_fee = price == 0;
        Ok(Call {
            scratch,
            tx: call_env(request, caller, nonce, price, rules.chain_id)?,
            rules,
            block: evm::block_env(&self.header_at(at, clock)),
        })
    }
}

impl Call<'_> {
    fn run(&mut self, gas: u64) -> Result<ExecutionResult, RpcError> {
        let tx = TxEnv {
            gas_limit: gas,
            ..self.tx.clone()
        };
        Ok(evm::simulate(
            &mut self.scratch,
            &self.rules,
            &self.block,
            tx,
        )?)
    }

    /// The gas limit that the sender can pay for, up to `wanted`.
    fn affordable(&self, wanted: u64) -> Result<u64, RpcError> {
        let wanted = wanted.min(CALL_GAS_MAX);
        if self.tx.gas_price == 0 {
            return Ok(wanted);
        }
        let (balance, _) = evm::account(&self.scratch, self.tx.caller);
        let left = balance
            .checked_sub(self.tx.value)
            .ok_or_else(|| RpcError::Unexecutable("insufficient funds for transfer".to_owned()))?;
        let gas = left / U256::from(self.tx.gas_price);
        Ok(wanted.min(gas.saturating_to()))
    }

    /// Plain value to an account without code always costs the same.
    fn is_transfer(&mut self) -> bool {
        let Some(to) = self.tx.kind.to().copied() else {
            return false;
        };
        let plain = self.tx.data.is_empty()
            && self.tx.access_list.is_empty()
            && self.tx.authorization_list.is_empty();
        let code = match self.scratch.basic_ref(to) {
            Ok(info) => info.is_some_and(|info| !info.is_empty_code_hash()),
            Err(never) => match never {},
        };
        plain && !code
    }

    /// Closes in on the smallest limit; `fails` is known to be too little and
    /// `enough` to suffice.
    fn least(&mut self, mut fails: u64, mut enough: u64) -> u64 {
        while enough - fails > 1 {
            // The answer is nearly always just above what was used.
            let middle = (fails + (enough - fails) / 2).min(fails.saturating_mul(2).max(1));
            if self.run(middle).is_ok_and(|run| run.is_success()) {
                enough = middle;
            } else {
                fails = middle;
            }
        }
        enough
    }
}

fn call_env(
    request: &TransactionRequest,
    caller: Address,
    nonce: u64,
    price: u128,
    chain_id: u64,
) -> Result<TxEnv, RpcError> {
    let invalid = |why: &str| RpcError::Param {
        index: 0,
        name: "transaction",
        why: why.to_owned(),
    };
    if request.gas_price.is_some() && request.max_fee_per_gas.is_some() {
        return Err(invalid("both gasPrice and maxFeePerGas specified"));
    }
    if request.blob_versioned_hashes.is_some() {
        return Err(invalid(
            "blob transactions (EIP-4844) are not taken by this chain",
        ));
    }
    let data = request
        .input
        .unique_input()
        .map_err(|_| invalid("input and data differ"))?;
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let mut tx = TxEnv {
        tx_type: 0,
        caller,
        gas_limit: 0,
        gas_price: price,
        kind: request.to.unwrap_or_default(),
        value: request.value.unwrap_or_default(),
        data: data.cloned().unwrap_or_default(),
        nonce,
        chain_id: Some(chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: request.max_priority_fee_per_gas.filter(|_| price > 0),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
    };
    tx.derive_tx_type()
        .map_err(|error| invalid(&error.to_string()))?;
    Ok(tx)
}

fn override_account(
    scratch: &mut Scratch<'_>,
    address: Address,
    account: &AccountOverride,
) -> Result<(), RpcError> {
    let invalid = |why: &str| RpcError::Param {
        index: 2,
        name: "state override",
        why: format!("account {address}: {why}"),
    };
    if account.move_precompile_to.is_some() {
        return Err(invalid("moving precompiles is not supported"));
    }
    let mut info = match scratch.basic(address) {
        Ok(info) => info.unwrap_or_default(),
        Err(never) => match never {},
    };
    if let Some(balance) = account.balance {
        info.balance = balance;
    }
    if let Some(nonce) = account.nonce {
        info.nonce = nonce;
    }
    if let Some(code) = &account.code {
        evm::set_code(&mut info, code).map_err(|why| invalid(&why))?;
    }
    scratch.insert_account_info(address, info);
    let word = |slot: &B256| U256::from_be_bytes(slot.0);
    let written = match (&account.state, &account.state_diff) {
        (Some(_), Some(_)) => return Err(invalid("has both state and stateDiff")),
        (Some(all), None) => scratch.replace_account_storage(
            address,
            all.iter()
                .map(|(slot, value)| (word(slot), word(value)))
                .collect(),
        ),
        (None, Some(some)) => some.iter().try_for_each(|(slot, value)| {
            scratch.insert_account_storage(address, word(slot), word(value))
        }),
        (None, None) => Ok(()),
    };
    match written {
        Ok(()) => Ok(()),
        Err(never) => match never {},
    }
}
