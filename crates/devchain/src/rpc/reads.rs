//! The methods that every Ethereum node has.

use std::ops::RangeInclusive;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, TxHash, U64, U256, keccak256};
use alloy::rpc::types::state::StateOverride;
use alloy::rpc::types::{Filter, FilterBlockOption, Log, TransactionRequest};
use revm::DatabaseRef;
use serde_json::Value;
use std::sync::Arc;

use super::error::RpcError;
use super::fees::SUGGESTED_TIP;
use super::filters::Interest;
use super::request::Params;
use super::{Answer, Node, answers, json};
use crate::block::Block;
use crate::chain::Chain;
use crate::evm;
use crate::rpc::call::At;

/// What `web3_clientVersion` says.
const CLIENT: &str = concat!("lethe-devchain/v", env!("CARGO_PKG_VERSION"));

/// Addresses, or values of one topic, in one filter; the same as geth's.
const FILTER_TERMS_MAX: usize = 1_000;

impl Node {
    /// Questions about accounts, blocks, transactions and logs; `None` if the
    /// method is not one of them.
    pub(crate) fn read(&self, method: &str, params: &mut Params, clock: u64) -> Option<Answer> {
        let chain = &self.chain;
        Some(match method {
            "web3_clientVersion" => json(CLIENT),
            "web3_sha3" => params
                .required("data")
                .and_then(|data: Bytes| json(keccak256(data))),
            "net_version" => json(chain.rules.chain_id.to_string()),
            "net_listening" => json(true),
            "net_peerCount" => json(U64::ZERO),
            "eth_chainId" => json(U64::from(chain.rules.chain_id)),
            "eth_syncing" | "eth_mining" => json(false),
            "eth_accounts" => json::<[Address; 0]>([]),
            "eth_protocolVersion" => json("0x45"),
            "eth_blockNumber" => json(U64::from(chain.history.latest().number())),
            "eth_getBalance" => chain.balance(params),
            "eth_getCode" => chain.code(params),
            "eth_getStorageAt" => chain.storage(params),
            "eth_getTransactionCount" => chain.transaction_count(params),
            "eth_call" => chain.answer_call(params, clock),
            "eth_estimateGas" => chain.answer_estimate(params, clock),
            "eth_getBlockByNumber" => chain.block_by_number(params, clock),
            "eth_getBlockByHash" => chain.block_by_hash(params),
            "eth_getBlockReceipts" => chain.block_receipts(params),
            "eth_getBlockTransactionCountByNumber" => chain.count_in_number(params),
            "eth_getBlockTransactionCountByHash" => chain.count_in_hash(params),
            "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => json(U64::ZERO),
            "eth_getTransactionByHash" => chain.transaction_by_hash(params),
            "eth_getTransactionByBlockNumberAndIndex" => chain.transaction_in_number(params),
            "eth_getTransactionByBlockHashAndIndex" => chain.transaction_in_hash(params),
            "eth_getTransactionReceipt" => chain.receipt(params),
            "eth_getLogs" => params
                .required("filter")
                .and_then(|filter| chain.logs(&filter))
                .and_then(json),
            _ => return None,
        })
    }

    /// Questions about fees.
    pub(crate) fn ask_fees(&self, method: &str, params: &mut Params) -> Option<Answer> {
        let chain = &self.chain;
        Some(match method {
            "eth_gasPrice" => json(U256::from(chain.gas_price())),
            "eth_maxPriorityFeePerGas" => json(U256::from(SUGGESTED_TIP)),
            "eth_blobBaseFee" => json(U64::ONE),
            "eth_feeHistory" => chain.answer_fee_history(params),
            _ => return None,
        })
    }

    /// Sending, and asking again and again.
    pub(crate) fn submit_or_filter(
        &mut self,
        method: &str,
        params: &mut Params,
        clock: u64,
    ) -> Option<Answer> {
        Some(match method {
            "eth_sendRawTransaction" => params
                .required("signed transaction")
                .and_then(|raw: Bytes| Ok(self.chain.submit(&raw, clock)?))
                .and_then(json),
            "eth_newBlockFilter" => self.new_filter(Interest::Blocks),
            "eth_newPendingTransactionFilter" => self.new_filter(Interest::Transactions),
            "eth_newFilter" => params.required("filter").and_then(|filter: Filter| {
                self.chain.range(&filter)?;
                self.new_filter(Interest::Logs(Box::new(filter)))
            }),
            "eth_getFilterChanges" => params
                .required("filter id")
                .and_then(|id: U64| self.filter_changes(id)),
            "eth_getFilterLogs" => params
                .required("filter id")
                .and_then(|id: U64| self.filter_logs(id)),
            "eth_uninstallFilter" => params
                .required("filter id")
                .and_then(|id: U64| json(self.filters.remove(id.to()))),
            "eth_subscribe" | "eth_unsubscribe" => Err(RpcError::NoSubscriptions),
            _ => return None,
        })
    }

    fn new_filter(&mut self, interest: Interest) -> Answer {
        let next = self.chain.history.latest().number() + 1;
        json(U64::from(self.filters.add(interest, next)))
    }

    fn filter_changes(&mut self, id: U64) -> Answer {
        let latest = self.chain.history.latest().number();
        let watch = self.filters.find(id.to()).ok_or(RpcError::UnknownFilter)?;
        // The chain may have been taken back behind what the client saw.
        let from = watch.next_block.min(latest + 1);
        watch.next_block = latest + 1;
        match watch.interest.clone() {
            Interest::Transactions => json::<[TxHash; 0]>([]),
            Interest::Blocks => {
                let new = (from..=latest).filter_map(|number| self.chain.history.number(number));
                json(new.map(|block| block.header.hash()).collect::<Vec<_>>())
            }
            Interest::Logs(filter) => {
                let range = self.chain.range(&filter)?;
                let from = from.max(*range.start());
                json(self.chain.history.logs(from, *range.end(), &filter)?)
            }
        }
    }

    fn filter_logs(&mut self, id: U64) -> Answer {
        match &self
            .filters
            .find(id.to())
            .ok_or(RpcError::UnknownFilter)?
            .interest
        {
            Interest::Logs(filter) => json(self.chain.logs(filter)?),
            Interest::Blocks | Interest::Transactions => Err(RpcError::UnknownFilter),
        }
    }
}

impl Chain {
    /// The block that is named, if the chain has it.
    fn block(&self, number: BlockNumberOrTag) -> Option<&Arc<Block>> {
        match number {
            BlockNumberOrTag::Number(number) => self.history.number(number),
            BlockNumberOrTag::Earliest => Some(self.history.first()),
            _ => Some(self.history.latest()),
        }
    }

    fn block_by_id(&self, id: BlockId) -> Option<&Arc<Block>> {
        match id {
            BlockId::Number(number) => self.block(number),
            BlockId::Hash(hash) => self.history.hash(&hash.block_hash),
        }
    }

    fn balance(&self, params: &mut Params) -> Answer {
        let address = params.required("address")?;
        let at = self.at(params.optional("block")?)?;
        json(evm::account(&self.state_at(at), address).0)
    }

    fn code(&self, params: &mut Params) -> Answer {
        let address: Address = params.required("address")?;
        let state = self.state_at(self.at(params.optional("block")?)?);
        let info = state
            .basic_ref(address)
            .unwrap_or_else(|never| match never {});
        let code = info.map(|info| match info.code {
            Some(code) => code,
            None => state
                .code_by_hash_ref(info.code_hash)
                .unwrap_or_else(|never| match never {}),
        });
        json(code.map(|code| code.original_bytes()).unwrap_or_default())
    }

    fn storage(&self, params: &mut Params) -> Answer {
        let address: Address = params.required("address")?;
        let slot: U256 = params.required("storage slot")?;
        let state = self.state_at(self.at(params.optional("block")?)?);
        let value = state
            .storage_ref(address, slot)
            .unwrap_or_else(|never| match never {});
        json(B256::from(value))
    }

    fn transaction_count(&self, params: &mut Params) -> Answer {
        let address = params.required("address")?;
        let at = self.at(params.optional("block")?)?;
        let nonce = match at {
            At::Latest => self.account(address).1,
            At::Past(_) => evm::account(&self.state_at(at), address).1,
            At::Pending => self.pending_nonce(address),
        };
        json(U64::from(nonce))
    }

    fn answer_call(&self, params: &mut Params, clock: u64) -> Answer {
        let request: TransactionRequest = params.required("transaction")?;
        let at = self.at(params.optional("block")?)?;
        let overrides: Option<StateOverride> = params.optional("state override")?;
        if params.optional::<Value>("block override")?.is_some() {
            return Err(RpcError::Param {
                index: 3,
                name: "block override",
                why: "block overrides are not supported".to_owned(),
            });
        }
        json(self.call(&request, at, overrides.as_ref(), clock)?)
    }

    fn answer_estimate(&self, params: &mut Params, clock: u64) -> Answer {
        let request: TransactionRequest = params.required("transaction")?;
        // A transaction that is sent now meets the next block, not the latest.
        let block = params.optional("block")?.unwrap_or(BlockId::pending());
        let at = self.at(Some(block))?;
        let overrides: Option<StateOverride> = params.optional("state override")?;
        json(U64::from(self.estimate(
            &request,
            at,
            overrides.as_ref(),
            clock,
        )?))
    }

    fn block_by_number(&self, params: &mut Params, clock: u64) -> Answer {
        let number: BlockNumberOrTag = params.required("block")?;
        let whole = params.optional("whole transactions")?.unwrap_or(false);
        if number.is_pending() {
            return json(answers::block(&self.pending_block(clock), whole));
        }
        json(self.block(number).map(|block| answers::block(block, whole)))
    }

    fn block_by_hash(&self, params: &mut Params) -> Answer {
        let hash: B256 = params.required("block hash")?;
        let whole = params.optional("whole transactions")?.unwrap_or(false);
        json(
            self.history
                .hash(&hash)
                .map(|block| answers::block(block, whole)),
        )
    }

    fn block_receipts(&self, params: &mut Params) -> Answer {
        let id: BlockId = params.required("block")?;
        json(self.block_by_id(id).map(|block| answers::receipts(block)))
    }

    fn count_in_number(&self, params: &mut Params) -> Answer {
        let number: BlockNumberOrTag = params.required("block")?;
        json(
            self.block(number)
                .map(|block| U64::from(block.transactions.len())),
        )
    }

    fn count_in_hash(&self, params: &mut Params) -> Answer {
        let hash: B256 = params.required("block hash")?;
        json(
            self.history
                .hash(&hash)
                .map(|block| U64::from(block.transactions.len())),
        )
    }

    fn transaction_by_hash(&self, params: &mut Params) -> Answer {
        let hash: TxHash = params.required("transaction hash")?;
        let mined = self.history.transaction(&hash);
        let mined = mined.and_then(|(block, index)| answers::transaction(block, index));
        json(mined.or_else(|| self.pool.find(&hash).map(|tx| answers::waiting(tx))))
    }

    fn transaction_in_number(&self, params: &mut Params) -> Answer {
        let number: BlockNumberOrTag = params.required("block")?;
        let index: U64 = params.required("index")?;
        json(
            self.block(number)
                .and_then(|block| answers::transaction(block, index.saturating_to())),
        )
    }

    fn transaction_in_hash(&self, params: &mut Params) -> Answer {
        let hash: B256 = params.required("block hash")?;
        let index: U64 = params.required("index")?;
        let block = self.history.hash(&hash);
        json(block.and_then(|block| answers::transaction(block, index.saturating_to())))
    }

    fn receipt(&self, params: &mut Params) -> Answer {
        let hash: TxHash = params.required("transaction hash")?;
        let mined = self.history.transaction(&hash);
        json(mined.and_then(|(block, index)| answers::receipt(block, index)))
    }

    fn answer_fee_history(&self, params: &mut Params) -> Answer {
        let count: U64 = params.required("block count")?;
        let newest: BlockNumberOrTag = params.required("newest block")?;
        let percentiles: Option<Vec<f64>> = params.optional("reward percentiles")?;
        let latest = self.history.latest().number();
        let newest = self.block(newest).ok_or_else(|| RpcError::UnknownBlock {
            asked: format!("block {newest}"),
            latest,
        })?;
        json(self.fee_history(count.to(), newest.number(), percentiles.as_deref())?)
    }

    fn logs(&self, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        let range = self.range(filter)?;
        Ok(self.history.logs(*range.start(), *range.end(), filter)?)
    }

    /// The blocks that a filter speaks of.
    fn range(&self, filter: &Filter) -> Result<RangeInclusive<u64>, RpcError> {
        check_filter(filter)?;
        let latest = self.history.latest().number();
        let number = |block: Option<BlockNumberOrTag>| match block {
            Some(BlockNumberOrTag::Number(number)) => number,
            Some(BlockNumberOrTag::Earliest) => 0,
            _ => latest,
        };
        match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let block = self.history.hash(&hash);
                let number = block
                    .ok_or_else(|| RpcError::unknown_hash(hash, latest))?
                    .number();
                Ok(number..=number)
            }
            FilterBlockOption::Range {
                from_block,
                to_block,
            } => {
                let (from, to) = (number(from_block), number(to_block));
                if from > to {
                    return Err(RpcError::Param {
                        index: 0,
                        name: "filter",
                        why: format!("invalid block range: fromBlock {from} is after toBlock {to}"),
                    });
                }
                Ok(from..=to)
            }
        }
    }
}

/// That a filter is not too large.
pub(crate) fn check_filter(filter: &Filter) -> Result<(), RpcError> {
    check_terms("the number of a filter's addresses", filter.address.len())?;
    for topic in &filter.topics {
        check_terms("the number of a filter's values for one topic", topic.len())?;
    }
    Ok(())
}

fn check_terms(what: &'static str, got: usize) -> Result<(), RpcError> {
    if got > FILTER_TERMS_MAX {
        return Err(RpcError::Limit {
            what,
            got: got as u64,
            limit: FILTER_TERMS_MAX as u64,
        });
    }
    Ok(())
}
