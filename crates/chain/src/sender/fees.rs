//! What a transaction may cost.

use alloy::primitives::{Address, U256};
use market::{Amount, LedgerError};

use super::Intent;
use crate::rpc::{Message, Rpc, RpcError};

/// More is not given for one transaction: a block of most chains.
const GAS_MAX: u64 = 30_000_000;
/// More is not paid for one unit of gas (1000 gwei): a node that asks for it lies, or the moment is bad.
const FEE_PER_GAS_MAX_WEI: u128 = 1_000_000_000_000;
/// The tip where the node cannot say: 0.1 gwei.
const TIP_PER_GAS_WEI: u128 = 100_000_000;

/// The gas of a transaction and what is paid for it, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) gas: u64,
    pub(super) fee_per_gas: u128,
    pub(super) tip_per_gas: u128,
    value: U256,
}

impl Price {
    /// What the account must have for it.
    pub(super) fn total(&self) -> U256 {
        let gas = U256::from(self.gas) * U256::from(self.fee_per_gas);
        gas.saturating_add(self.value)
    }
}

/// Tries the call at the latest block, and prices it. A revert, or an account
/// that cannot pay, shows here, before anything is signed.
pub(super) async fn price(
    rpc: &Rpc,
    account: Address,
    intent: &Intent,
) -> Result<Price, LedgerError> {
    let message = Message {
        from: Some(account),
        to: intent.to.to().copied(),
        data: &intent.data,
        value: intent.value,
    };
    let (estimate, head, tip, coins) = tokio::join!(
        rpc.estimate(message),
        rpc.head(),
        rpc.tip(),
        rpc.coins(account),
    );
    let coins = coins?;
    let estimate = match estimate {
        Err(RpcError::Answer { message, .. }) if says_too_poor(&message) => {
            return Err(insufficient(account, coins, intent.value));
        }
        other => other?,
    };
    let base = head?
        .base_fee_per_gas
        .ok_or_else(|| nonsense("blocks without a base fee"))?;
    let tip = tip.unwrap_or(U256::from(TIP_PER_GAS_WEI));
    let price = bounded(estimate, base, tip, intent.value)?;
    if coins < price.total() {
        return Err(insufficient(account, coins, price.total()));
    }
    Ok(price)
}

/// What is paid for one unit of gas now, in wei.
pub(crate) async fn fee_per_gas(rpc: &Rpc) -> Result<u128, LedgerError> {
    let (head, tip) = tokio::join!(rpc.head(), rpc.tip());
    let base = head?
        .base_fee_per_gas
        .ok_or_else(|| nonsense("blocks without a base fee"))?;
    let tip = tip.unwrap_or(U256::from(TIP_PER_GAS_WEI));
    Ok(bounded(0, base, tip, U256::ZERO)?.fee_per_gas)
}

/// The estimate with a margin of a quarter, since state moves; twice the base
/// fee, which covers six full blocks in a row.
fn bounded(estimate: u64, base: U256, tip: U256, value: U256) -> Result<Price, LedgerError> {
    let gas = estimate.saturating_add(estimate / 4);
    if estimate > GAS_MAX {
        return Err(nonsense(&format!("{estimate} gas for one transaction")));
    }
    let fee = base.saturating_mul(U256::from(2)).saturating_add(tip);
    let (Ok(fee_per_gas), Ok(tip_per_gas)) = (u128::try_from(fee), u128::try_from(tip)) else {
        return Err(nonsense("a fee beyond all money"));
    };
    if fee_per_gas > FEE_PER_GAS_MAX_WEI {
        return Err(nonsense(&format!(
            "a fee of {fee_per_gas} wei per gas (at most {FEE_PER_GAS_MAX_WEI} are paid; try again later)"
        )));
    }
    Ok(Price {
        gas: gas.min(GAS_MAX),
        fee_per_gas,
        tip_per_gas,
        value,
    })
}

/// Whether these words of a node mean that the account cannot pay for the gas.
pub(super) fn says_too_poor(message: &str) -> bool {
    message.to_ascii_lowercase().contains("insufficient funds")
}

/// That the account cannot pay for it, with what it has.
pub(super) async fn too_poor(rpc: &Rpc, account: Address, needs: U256) -> LedgerError {
    match rpc.coins(account).await {
        Ok(has) => insufficient(account, has, needs),
        Err(error) => error.into(),
    }
}

fn insufficient(owner: Address, has: U256, needs: U256) -> LedgerError {
    let amount = |wei: U256| Amount::new(wei.saturating_to());
    LedgerError::Insufficient {
        owner,
        token: Address::ZERO,
        has: amount(has),
        needs: amount(needs),
    }
}

fn nonsense(problem: &str) -> LedgerError {
    LedgerError::Nonsense {
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_room_for_six_full_blocks() {
        let price = bounded(100, U256::from(1000), U256::from(7), U256::from(5)).unwrap();
        assert_eq!(
            (price.gas, price.fee_per_gas, price.tip_per_gas),
            (125, 2007, 7)
        );
        assert_eq!(price.total(), U256::from(125 * 2007 + 5));
    }

    #[test]
    fn a_node_cannot_make_us_pay_anything() {
        let gwei = |n: u64| U256::from(n) * U256::from(1_000_000_000u64);
        for (estimate, base, tip) in [
            (GAS_MAX + 1, gwei(1), gwei(1)),
            (u64::MAX, gwei(1), gwei(1)),
            (21_000, gwei(501), gwei(0)),
            (21_000, gwei(1), gwei(1001)),
            (21_000, U256::MAX, U256::MAX),
        ] {
            let outcome = bounded(estimate, base, tip, U256::ZERO);
            assert!(
                matches!(outcome, Err(LedgerError::Nonsense { .. })),
                "{outcome:?}"
            );
        }
    }
}
