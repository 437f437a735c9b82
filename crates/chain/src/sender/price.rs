//! What a wish takes, asked of the chain before anything is signed.

use alloy::primitives::{Address, U256};
use market::{Amount, LedgerError};

use super::fees::{Asked, Ceiling, Fees};
use super::words::says_too_poor;
use super::{FEE_PER_GAS_MAX_WEI, Intent};
use crate::rpc::{Head, Message, Rpc, RpcError};

/// More is not given for one transaction: a block of most chains.
const GAS_MAX: u64 = 30_000_000;
/// The tip where the node cannot say: 0.1 gwei.
const TIP_PER_GAS_WEI: u128 = 100_000_000;

/// The gas of a transaction and what is paid for it, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) gas: u64,
    pub(super) fees: Fees,
    /// What the account must have for it.
    pub(super) total: U256,
    /// The account's transactions, with those that wait.
    pub(super) pending: u64,
}

/// Tries the call at the latest block, and prices it. A revert, or an account
/// that cannot pay, shows here.
pub(super) async fn price(
    rpc: &Rpc,
    account: Address,
    intent: &Intent,
    ceiling: &Ceiling,
) -> Result<Price, LedgerError> {
    let message = Message {
        from: Some(account),
        to: intent.to.to().copied(),
        data: &intent.data,
        value: intent.value,
    };
    let (estimate, asked, coins, pending) = tokio::join!(
        rpc.estimate(message),
        asked(rpc),
        rpc.coins(account),
        rpc.pending_of(account),
    );
    let coins = coins?;
    let estimate = match estimate {
        Err(RpcError::Answer { message, .. }) if says_too_poor(&message) => {
            return Err(insufficient(account, coins, intent.value));
        }
        other => other?,
    };
    let gas = with_margin(estimate)?;
    let fees = Fees::first(asked?, gas, ceiling).map_err(|error| nonsense(&error.to_string()))?;
    let total = U256::from(gas) * U256::from(fees.fee_per_gas);
    let total = total.saturating_add(intent.value);
    if coins < total {
        return Err(insufficient(account, coins, total));
    }
    Ok(Price {
        gas,
        fees,
        total,
        pending: pending?,
    })
}

/// What blocks ask for now.
async fn asked(rpc: &Rpc) -> Result<Asked, LedgerError> {
    let (head, tip) = tokio::join!(rpc.head(), tip(rpc));
    asked_at(&head?, tip)
}

/// The usual tip, or a guess: a node that cannot say is no reason not to pay.
pub(super) async fn tip(rpc: &Rpc) -> U256 {
    rpc.tip().await.unwrap_or(U256::from(TIP_PER_GAS_WEI))
}

/// What blocks after this one ask for.
pub(super) fn asked_at(head: &Head, tip: U256) -> Result<Asked, LedgerError> {
    let base = head
        .base_fee_per_gas
        .ok_or_else(|| nonsense("blocks without a base fee"))?;
    Ok(Asked {
        base_fee_per_gas: base.saturating_to(),
        tip_per_gas: tip.saturating_to(),
    })
}

/// What is paid for one unit of gas now, in wei.
pub(crate) async fn fee_per_gas(rpc: &Rpc) -> Result<u128, LedgerError> {
    let ceiling = Ceiling {
        fee_per_gas: FEE_PER_GAS_MAX_WEI,
        cost: u128::MAX,
    };
    let fees = Fees::first(asked(rpc).await?, 1, &ceiling);
    let fees = fees.map_err(|error| nonsense(&error.to_string()))?;
    Ok(fees.fee_per_gas)
}

/// A quarter more, since state moves.
fn with_margin(estimate: u64) -> Result<u64, LedgerError> {
    if estimate > GAS_MAX {
        return Err(nonsense(&format!(
            "{estimate} gas for one transaction (at most {GAS_MAX} are given)"
        )));
    }
    Ok((estimate + estimate / 4).min(GAS_MAX))
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
    fn gas_has_a_margin_and_an_end() {
        assert_eq!(with_margin(100).unwrap(), 125);
        assert_eq!(with_margin(GAS_MAX).unwrap(), GAS_MAX);
        for estimate in [GAS_MAX + 1, u64::MAX] {
            let outcome = with_margin(estimate);
            assert!(
                matches!(outcome, Err(LedgerError::Nonsense { .. })),
                "{outcome:?}"
            );
        }
    }
}
