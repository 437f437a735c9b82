//! What a transaction may cost: the first price, each raise, and where it ends.
//!
//! Pure. A pool takes a replacement only if fee and tip are both well above
//! those before (a tenth for geth and most others, an eighth for some), so a
//! raise lifts both by an eighth at least, and follows the base fee from there.

use thiserror::Error;

/// Wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// The most that is paid, base fee and tip together.
    pub fee_per_gas: u128,
    /// Of that, for who makes the block.
    pub tip_per_gas: u128,
}

/// What blocks ask for now, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The latest block's base fee.
    pub base_fee_per_gas: u128,
    /// The usual tip.
    pub tip_per_gas: u128,
}

/// The most that is paid for one transaction, its replacements included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// For one unit of gas, in wei: a node that asks for more lies, or the moment is bad.
    pub fee_per_gas: u128,
    /// For all its gas, in wei.
    pub cost: u128,
}

/// More is asked for than is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a fee of {asked} wei per gas (at most {most} are paid for {gas} gas; try again later)")]
pub struct TooDear {
    /// Wei per gas.
    pub asked: u128,
    /// Wei per gas.
    pub most: u128,
    /// Of the transaction.
    pub gas: u64,
}

impl Ceiling {
    /// For one unit of gas of a transaction with so much of it.
    pub fn of(&self, gas: u64) -> u128 {
        let share = self.cost / u128::from(gas.max(1));
        self.fee_per_gas.min(share)
    }
}

impl Fees {
    /// For a new transaction: twice the base fee, which covers six full blocks in a row.
    pub fn first(asked: Asked, gas: u64, ceiling: &Ceiling) -> Result<Self, TooDear> {
        let fee = wanted(asked, asked.tip_per_gas);
        let most = ceiling.of(gas);
        if fee > most {
            let asked = fee;
            return Err(TooDear { asked, most, gas });
        }
        Ok(Self {
            fee_per_gas: fee,
            tip_per_gas: asked.tip_per_gas,
        })
    }

    /// For its replacement; none if that would be beyond the ceiling.
    pub fn raised(self, asked: Asked, gas: u64, ceiling: &Ceiling) -> Option<Self> {
        let most = ceiling.of(gas);
        let (fee_least, tip_least) = (lifted(self.fee_per_gas), lifted(self.tip_per_gas));
        if fee_least > most || tip_least > most {
            return None;
        }
        let tip = tip_least.max(asked.tip_per_gas);
        let fee = fee_least.max(wanted(asked, tip)).min(most);
        Some(Self {
            fee_per_gas: fee,
            tip_per_gas: tip.min(fee),
        })
    }

    /// Whether the latest block would have taken it.
    pub fn suffices(&self, asked: Asked) -> bool {
        self.fee_per_gas >= asked.base_fee_per_gas
    }
}

fn wanted(asked: Asked, tip: u128) -> u128 {
    asked.base_fee_per_gas.saturating_mul(2).saturating_add(tip)
}

/// An eighth more, and more in any case.
fn lifted(wei: u128) -> u128 {
    wei.saturating_add(wei.div_ceil(8).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GWEI: u128 = 1_000_000_000;
    const CEILING: Ceiling = Ceiling {
        fee_per_gas: 1000 * GWEI,
        cost: 20_000_000 * GWEI,
    };

    fn asked(base: u128, tip: u128) -> Asked {
        Asked {
            base_fee_per_gas: base,
            tip_per_gas: tip,
        }
    }

    #[test]
    fn a_price_has_room_for_six_full_blocks() {
        let fees = Fees::first(asked(1000, 7), 100, &CEILING).unwrap();
        assert_eq!((fees.fee_per_gas, fees.tip_per_gas), (2007, 7));
    }

    #[test]
    fn a_node_cannot_make_us_pay_anything() {
        for (gas, base, tip) in [
            (21_000, 501 * GWEI, 0),
            (21_000, GWEI, 1001 * GWEI),
            (21_000, u128::MAX, u128::MAX),
            // 200 gwei is what 100,000 gas may cost here.
            (100_000, 101 * GWEI, 0),
        ] {
            let outcome = Fees::first(asked(base, tip), gas, &CEILING);
            assert!(outcome.is_err(), "{outcome:?}");
        }
    }

    #[test]
    fn a_raise_follows_the_base_fee_up_to_the_ceiling_and_then_ends() {
        let first = Fees::first(asked(10 * GWEI, GWEI), 100_000, &CEILING).unwrap();
        let next = first.raised(asked(40 * GWEI, GWEI), 100_000, &CEILING);
        let next = next.unwrap();
        assert_eq!(next.tip_per_gas, GWEI + GWEI / 8);
        assert_eq!(next.fee_per_gas, 80 * GWEI + next.tip_per_gas);
        let last = next.raised(asked(500 * GWEI, GWEI), 100_000, &CEILING);
        let last = last.unwrap();
        assert_eq!(last.fee_per_gas, 200 * GWEI);
        assert_eq!(last.raised(asked(GWEI, GWEI), 100_000, &CEILING), None);
    }

    proptest! {
        #[test]
        fn a_raise_is_an_eighth_at_least_and_never_beyond_the_ceiling(
            fee in 0u128..3000 * GWEI,
            tip in 0u128..3000 * GWEI,
            base in 0u128..3000 * GWEI,
            usual in 0u128..3000 * GWEI,
            gas in 0u64..30_000_000,
        ) {
            let before = Fees { fee_per_gas: fee, tip_per_gas: tip.min(fee) };
            if let Some(after) = before.raised(asked(base, usual), gas, &CEILING) {
                prop_assert!(after.fee_per_gas * 8 >= before.fee_per_gas * 9);
                prop_assert!(after.tip_per_gas * 8 >= before.tip_per_gas * 9);
                prop_assert!(after.fee_per_gas > before.fee_per_gas);
                prop_assert!(after.tip_per_gas > before.tip_per_gas);
                prop_assert!(after.tip_per_gas <= after.fee_per_gas);
                prop_assert!(after.fee_per_gas <= CEILING.of(gas));
            }
        }
    }
}
