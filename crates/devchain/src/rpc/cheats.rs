//! What only a development chain can: moving time, making blocks, editing
//! accounts, going back. The names are anvil's and hardhat's. They exist only
//! when [`crate::Options::cheats`] says so.

use alloy::primitives::{Address, B256, Bytes, U64, U256};
use serde::Deserialize;

use super::error::RpcError;
use super::request::Params;
use super::{Answer, Node, json};
use crate::record::Edit;

/// Blocks that one request may make.
const MINE_MAX: u64 = 10_000;
/// The largest code that can be put somewhere; far above what a deployment can.
const CODE_BYTES_MAX: usize = 128 * 1024;

/// `evm_mine` takes a time or an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Mine {
    At(U64),
    Wish {
        timestamp: Option<U64>,
        blocks: Option<U64>,
    },
}

impl Node {
    /// Answers a cheat; `None` if the method is not one.
    pub(crate) fn cheat(
        &mut self,
        method: &str,
        params: &mut Params,
        clock: u64,
    ) -> Option<Answer> {
        Some(match method {
            "evm_mine" => self.evm_mine(params, clock),
            "anvil_mine" | "hardhat_mine" => self.mine_many(params, clock),
            "evm_increaseTime" | "anvil_increaseTime" => self.increase_time(params),
            "evm_setNextBlockTimestamp" | "anvil_setNextBlockTimestamp" => params
                .required("timestamp")
                .and_then(|timestamp: U64| self.demand_time(timestamp.to()))
                .and_then(json),
            "anvil_setBalance" | "hardhat_setBalance" => self.edit(params, |params| {
                params.required("balance").map(Edit::Balance)
            }),
            "anvil_setNonce" | "hardhat_setNonce" => self.edit(params, |params| {
                params
                    .required("nonce")
                    .map(|nonce: U64| Edit::Nonce(nonce.to()))
            }),
            "anvil_setCode" | "hardhat_setCode" => self.edit(params, code),
            "anvil_setStorageAt" | "hardhat_setStorageAt" => self.edit(params, |params| {
                let slot: U256 = params.required("storage slot")?;
                let value: B256 = params.required("value")?;
                Ok(Edit::Storage { slot, value })
            }),
            "evm_snapshot" | "anvil_snapshot" => self.snapshot(),
            "evm_revert" | "anvil_revert" => params
                .required("snapshot id")
                .and_then(|id: U64| json(self.chain.revert(id.to()))),
            _ => return None,
        })
    }

    fn evm_mine(&mut self, params: &mut Params, clock: u64) -> Answer {
        let (timestamp, blocks) = match params.optional("timestamp")? {
            None => (None, None),
            Some(Mine::At(timestamp)) => (Some(timestamp), None),
            Some(Mine::Wish { timestamp, blocks }) => (timestamp, blocks),
        };
        if let Some(timestamp) = timestamp {
            self.demand_time(timestamp.to())?;
        }
        self.mine(blocks.map_or(1, |blocks| blocks.to()), clock)?;
        json("0x0")
    }

    fn mine_many(&mut self, params: &mut Params, clock: u64) -> Answer {
        let blocks: U64 = params.optional("block count")?.unwrap_or(U64::ONE);
        let interval: Option<U64> = params.optional("interval in seconds")?;
        let blocks: u64 = blocks.to();
        check("block count", blocks, MINE_MAX)?;
        for index in 0..blocks {
            if let Some(interval) = interval.filter(|_| index > 0) {
                let latest = self.chain.history.latest().header.timestamp;
                self.demand_time(latest.saturating_add(interval.to::<u64>().max(1)))?;
            }
            self.chain.mine(clock);
        }
        json(())
    }

    fn mine(&mut self, blocks: u64, clock: u64) -> Result<(), RpcError> {
        check("block count", blocks, MINE_MAX)?;
        for _ in 0..blocks {
            self.chain.mine(clock);
        }
        Ok(())
    }

    fn increase_time(&mut self, params: &mut Params) -> Answer {
        let seconds: U64 = params.required("seconds")?;
        let time = self.chain.time.advanced(seconds.to());
        self.chain.set_time(time);
        json(time.offset())
    }

    fn demand_time(&mut self, timestamp: u64) -> Result<(), RpcError> {
        let latest = self.chain.history.latest().header.timestamp;
        if timestamp <= latest {
            return Err(RpcError::Param {
                index: 0,
                name: "timestamp",
                why: format!("{timestamp} is not after the latest block's timestamp {latest}"),
            });
        }
        self.chain.set_time(self.chain.time.demanding(timestamp));
        Ok(())
    }

    fn edit(
        &mut self,
        params: &mut Params,
        read: impl FnOnce(&mut Params) -> Result<Edit, RpcError>,
    ) -> Answer {
        let address: Address = params.required("address")?;
        let edit = read(params)?;
        self.chain
            .edit(address, edit)
            .map_err(|why| RpcError::Param {
                index: 1,
                name: "code",
                why,
            })?;
        json(())
    }

    fn snapshot(&mut self) -> Answer {
        let id = self.chain.snapshot().ok_or_else(|| {
            RpcError::Unexecutable("too many snapshots: revert to an earlier one first".to_owned())
        })?;
        json(U64::from(id))
    }
}

fn code(params: &mut Params) -> Result<Edit, RpcError> {
    let code: Bytes = params.required("code")?;
    check("code size", code.len() as u64, CODE_BYTES_MAX as u64)?;
    Ok(Edit::Code(code))
}

fn check(what: &'static str, got: u64, limit: u64) -> Result<(), RpcError> {
    if got > limit {
        Err(RpcError::Limit { what, got, limit })
    } else {
        Ok(())
    }
}
