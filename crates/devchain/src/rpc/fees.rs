//! What to pay: the answers that wallets fill transactions with.

use alloy::consensus::{Header, Transaction};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::rpc::types::{FeeHistory, TxGasAndReward};

use super::error::RpcError;
use crate::block::Block;
use crate::chain::Chain;

/// The tip that is suggested, in wei per gas; the same as anvil's.
pub(crate) const SUGGESTED_TIP: u128 = 1_000_000_000;
/// Blocks in one fee history; the same as geth's.
const FEE_HISTORY_BLOCKS_MAX: u64 = 1_024;
/// Percentiles in one fee history; the same as geth's.
const PERCENTILES_MAX: usize = 100;
/// What a blob would cost, in wei per gas; there are none.
const BLOB_BASE_FEE: u128 = 1;

impl Chain {
    /// A price at which the next block surely takes a legacy transaction.
    pub(crate) fn gas_price(&self) -> u128 {
        u128::from(self.next_base_fee()) + SUGGESTED_TIP
    }

    /// Base fees, fullness and tips of up to `count` blocks that end at `newest`.
    pub(crate) fn fee_history(
        &self,
        count: u64,
        newest: u64,
        percentiles: Option<&[f64]>,
    ) -> Result<FeeHistory, RpcError> {
        check_percentiles(percentiles.unwrap_or_default())?;
        let count = count.min(FEE_HISTORY_BLOCKS_MAX).min(newest + 1);
        if count == 0 {
            return Ok(FeeHistory::default());
        }
        let oldest = newest + 1 - count;
        let blocks = || (oldest..=newest).filter_map(|number| self.history.number(number));
        let after = blocks()
            .next_back()
            .and_then(|block| next_base_fee(block.header.inner()));
        let fees = blocks().map(|block| u128::from(block.base_fee()));
        let blobs = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(FeeHistory {
            base_fee_per_gas: fees.chain(after.map(u128::from)).collect(),
            gas_used_ratio: blocks().map(|block| fullness(&block.header)).collect(),
            base_fee_per_blob_gas: vec![BLOB_BASE_FEE; blobs + 1],
            blob_gas_used_ratio: vec![0.0; blobs],
            oldest_block: oldest,
            reward: percentiles
                .filter(|percentiles| !percentiles.is_empty())
                .map(|percentiles| blocks().map(|block| tips(block, percentiles)).collect()),
        })
    }
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), RpcError> {
    let invalid = |why: String| RpcError::Param {
        index: 2,
        name: "reward percentiles",
        why,
    };
    if percentiles.len() > PERCENTILES_MAX {
        return Err(invalid(format!(
            "{} are given, at most {PERCENTILES_MAX} are allowed",
            percentiles.len()
        )));
    }
    if percentiles
        .iter()
        .any(|percentile| !(0.0..=100.0).contains(percentile))
    {
        return Err(invalid("each must be between 0 and 100".to_owned()));
    }
    if !percentiles.is_sorted() {
        return Err(invalid("they must be in ascending order".to_owned()));
    }
    Ok(())
}

fn next_base_fee(header: &Header) -> Option<u64> {
    header.next_block_base_fee(BaseFeeParams::ethereum())
}

fn fullness(header: &Header) -> f64 {
    header.gas_used as f64 / header.gas_limit.max(1) as f64
}

/// The tips at these percentiles of the block's gas.
fn tips(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let tip = |tx: &dyn Transaction| {
        tx.effective_tip_per_gas(block.base_fee())
            .unwrap_or_default()
    };
    let mut paid: Vec<_> = block
        .transactions
        .iter()
        .map(|mined| TxGasAndReward {
            gas_used: mined.gas_used,
            reward: tip(mined.tx.inner()),
        })
        .collect();
    paid.sort();
    let total = block.header.gas_used as f64;
    let at = |percentile: f64| {
        let threshold = total * percentile / 100.0;
        let mut sum = 0.0;
        let reached = paid.iter().find(|paid| {
            sum += paid.gas_used as f64;
            sum >= threshold
        });
        reached.or(paid.last()).map_or(0, |paid| paid.reward)
    };
    percentiles
        .iter()
        .map(|percentile| at(*percentile))
        .collect()
}
