//! Rates that are read on the chain: what a reading comes to, which one is
//! believed, and for how long.
//!
//! Pure: readings and the time come in. What a price feed or a pool says can
//! be old, nothing, negative or wrong by far, and whoever believes it shows
//! nonsense to people and compares offers by it. So a reading that is not
//! believable leaves the last good one in place, with its age, until that is
//! too old itself; then there is none.

use alloy_primitives::{I256, U512};

use crate::Timestamp;

/// A rate, and when its source said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateReading {
    /// Millionths of a dollar for a whole token.
    pub micro_usd: u64,
    /// By the chain's clock.
    pub at: Timestamp,
}

/// What is believed of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRule {
    /// The oldest reading that is taken.
    pub fresh_for_s: u64,
    /// How old the last good reading may become before there is none.
    pub kept_for_s: u64,
    /// The most by which a reading may be a multiple of the last one, or the
    /// last one of it.
    pub jump_max: u64,
}

/// Why a reading is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateFault {
    /// Worth nothing, or less.
    #[error("it says that the token is worth nothing, or less")]
    NotPositive,
    /// Beyond what is reckoned with: nothing at six digits, or above 2^64 millionths of a dollar.
    #[error("it says a price that is beyond what is reckoned with")]
    Range,
    /// Said too long ago.
    #[error("it says what it said {age_s} s ago; allowed are {allowed_s} s")]
    Old {
        /// Its age.
        age_s: u64,
        /// The oldest that is taken.
        allowed_s: u64,
    },
    /// Not said yet.
    #[error("it says what it will have said in {early_s} s")]
    Early {
        /// How far ahead.
        early_s: u64,
    },
    /// What was said later is known.
    #[error("it says less than it has said already")]
    Back,
    /// Too far from the last.
    #[error(
        "it says {micro_usd} millionths of a dollar, the last was {last}: more than {jump_max} times as much or as little"
    )]
    Jump {
        /// What it says.
        micro_usd: u64,
        /// What it said last.
        last: u64,
        /// What is allowed.
        jump_max: u64,
    },
}

/// What one source said last that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateBook {
    rule: RateRule,
    last: Option<RateReading>,
}

impl RateBook {
    /// How far the clocks of chain and node may be apart.
    const EARLY_MAX_S: u64 = 120;

    /// Nothing is known.
    pub fn new(rule: RateRule) -> Self {
        Self { rule, last: None }
    }

    /// The source was read. What is not believed changes nothing.
    pub fn read(&mut self, reading: RateReading, now: Timestamp) -> Result<(), RateFault> {
        let RateRule {
            fresh_for_s,
            jump_max,
            ..
        } = self.rule;
        let RateReading { micro_usd, at } = reading;
        if micro_usd == 0 {
            return Err(RateFault::NotPositive);
        }
        let early_s = at.since_s(now);
        if early_s > Self::EARLY_MAX_S {
            return Err(RateFault::Early { early_s });
        }
        let age_s = now.since_s(at);
        if age_s > fresh_for_s {
            return Err(RateFault::Old {
                age_s,
                allowed_s: fresh_for_s,
            });
        }
        if let Some(last) = self.known(now) {
            if at < last.at {
                return Err(RateFault::Back);
            }
            let (least, most) = (micro_usd.min(last.micro_usd), micro_usd.max(last.micro_usd));
            if most > least.saturating_mul(jump_max) {
                return Err(RateFault::Jump {
                    micro_usd,
                    last: last.micro_usd,
                    jump_max,
                });
            }
        }
        self.last = Some(reading);
        Ok(())
    }

    /// The last good reading, as long as it may be shown.
    pub fn known(&self, now: Timestamp) -> Option<RateReading> {
        let last = self.last?;
        (now.since_s(last.at) <= self.rule.kept_for_s).then_some(last)
    }
}

/// What a price feed's answer with so many digits after the point comes to, in
/// millionths of a dollar, rounded to the nearest.
pub fn feed_micro_usd(answer: I256, decimals: u8) -> Result<u64, RateFault> {
    if !answer.is_positive() {
        return Err(RateFault::NotPositive);
    }
    let one = ten_to(decimals)?;
    micro(
        U512::from(answer.into_raw()) * U512::from(1_000_000_u64),
        one,
    )
}

/// A pool of two tokens, as seen from the one that is priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSide {
    /// It is the pool's first token.
    pub is_first: bool,
    /// Its digits after the point.
    pub decimals: u8,
    /// Those of the other one.
    pub other_decimals: u8,
    /// Millionths of a dollar for one of the other one.
    pub other_micro_usd: u64,
}

/// The largest tick of a pool, either way.
const TICK_MAX: i32 = 887_272;

/// What a pool's mean tick comes to, in millionths of a dollar, rounded to the
/// nearest. A tick says that a base unit of the first token is worth 1.0001 to
/// its power base units of the second.
pub fn pool_micro_usd(tick: i32, side: &PoolSide) -> Result<u64, RateFault> {
    if !(-TICK_MAX..=TICK_MAX).contains(&tick) {
        return Err(RateFault::Range);
    }
    let tick = if side.is_first { tick } else { -tick };
    let (shrunk, one) = (
        shrunk(tick.unsigned_abs()),
        U512::from(1_u64) << FRACTION_BITS,
    );
    let (times, parts) = match tick < 0 {
        true => (shrunk, one),
        false => (one, shrunk),
    };
    let worth = times * ten_to(side.decimals)? * U512::from(side.other_micro_usd);
    micro(worth, parts * ten_to(side.other_decimals)?)
}

/// Binary digits after the point of a power of 1 / 1.0001.
const FRACTION_BITS: usize = 192;

/// 1.0001 to the power of `-steps`, by squaring, with [`FRACTION_BITS`] after
/// the point. Each of at most 40 multiplications loses less than one of the
/// last digit; at the largest tick 64 digits are left.
fn shrunk(steps: u32) -> U512 {
    let one = U512::from(1_u64) << FRACTION_BITS;
    let (mut power, mut square) = (one, one * U512::from(10_000_u64) / U512::from(10_001_u64));
    let mut left = steps;
    while left > 0 {
        if left & 1 == 1 {
            power = (power * square) >> FRACTION_BITS;
        }
        square = (square * square) >> FRACTION_BITS;
        left >>= 1;
    }
    power
}

fn ten_to(decimals: u8) -> Result<U512, RateFault> {
    if decimals > crate::DECIMALS_MAX {
        return Err(RateFault::Range);
    }
    Ok(U512::from(10_u64).pow(U512::from(decimals)))
}

fn micro(times: U512, parts: U512) -> Result<u64, RateFault> {
    let nearest = (times + parts / U512::from(2_u64)) / parts;
    let nearest = u64::try_from(nearest).map_err(|_| RateFault::Range)?;
    // What is less than half a millionth cannot be told.
    (nearest > 0).then_some(nearest).ok_or(RateFault::Range)
}

/// The mean tick between two of a pool's running sums, rounded down as the
/// pool itself does; none: no time is between them, or they make no sense.
pub fn mean_tick(sums: [i64; 2], window_s: u32) -> Option<i32> {
    let window = i64::from(window_s);
    let passed = sums[1].checked_sub(sums[0])?;
    i32::try_from(passed.checked_div_euclid(window)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: RateRule = RateRule {
        fresh_for_s: 100,
        kept_for_s: 1_000,
        jump_max: 2,
    };
    const NOW: Timestamp = Timestamp(1_000_000);

    fn answer(said: i64) -> I256 {
        I256::try_from(said).unwrap()
    }

    fn said(micro_usd: u64, age_s: u64) -> RateReading {
        RateReading {
            micro_usd,
            at: Timestamp(NOW.0 - age_s),
        }
    }

    #[test]
    fn what_is_not_believable_leaves_the_last_good_one_until_that_is_too_old() {
        let mut book = RateBook::new(RULE);
        assert_eq!(book.known(NOW), None);
        for (reading, fault) in [
            (said(0, 0), RateFault::NotPositive),
            (
                said(5, 101),
                RateFault::Old {
                    age_s: 101,
                    allowed_s: 100,
                },
            ),
            (
                RateReading {
                    micro_usd: 5,
                    at: NOW.after_s(121),
                },
                RateFault::Early { early_s: 121 },
            ),
        ] {
            assert_eq!(book.read(reading, NOW), Err(fault));
            assert_eq!(book.known(NOW), None);
        }
        let good = said(1_000, 50);
        assert_eq!(book.read(good, NOW), Ok(()));
        for unlikely in [2_001, 499, u64::MAX, 1] {
            let fault = book.read(said(unlikely, 0), NOW).unwrap_err();
            assert!(matches!(fault, RateFault::Jump { last: 1_000, .. }));
        }
        assert_eq!(book.read(said(1_000, 51), NOW), Err(RateFault::Back));
        let last = good.at.after_s(1_000);
        assert_eq!(book.known(last), Some(good), "with its age");
        assert_eq!(book.known(last.after_s(1)), None);
        // What was unlikely before is believed when nothing is known any more.
        let later = RateReading {
            micro_usd: 9_000,
            at: last.after_s(1),
        };
        assert_eq!(book.read(later, last.after_s(1)), Ok(()));
        assert_eq!(book.known(last.after_s(1)), Some(later));
        let twice = RateReading {
            micro_usd: 18_000,
            ..later
        };
        assert_eq!(book.read(twice, last.after_s(1)), Ok(()));
    }

    #[test]
    fn a_feed_says_dollars_with_digits_of_its_own() {
        for (said, decimals, micro_usd) in [
            (250_000_000, 8, Ok(2_500_000)),
            (99_998_499, 8, Ok(999_985)),
            (3, 0, Ok(3_000_000)),
            (0, 8, Err(RateFault::NotPositive)),
            (-1, 8, Err(RateFault::NotPositive)),
            (1, 8, Err(RateFault::Range)),
            (1, 37, Err(RateFault::Range)),
            (i64::MAX, 0, Err(RateFault::Range)),
        ] {
            assert_eq!(feed_micro_usd(answer(said), decimals), micro_usd, "{said}");
        }
        assert_eq!(feed_micro_usd(I256::MAX, 0), Err(RateFault::Range));
        assert_eq!(feed_micro_usd(I256::MIN, 8), Err(RateFault::NotPositive));
    }

    /// 18 and 6 digits, as of MOR and USDC; a dollar is one.
    fn side(is_first: bool) -> PoolSide {
        PoolSide {
            is_first,
            decimals: 18,
            other_decimals: 6,
            other_micro_usd: 1_000_000,
        }
    }

    #[test]
    fn a_pools_tick_comes_to_the_price_that_its_powers_say() {
        // 1.0001^-276325 = 9.9998e-13: a whole token of 18 digits for a whole one of 6.
        for (tick, expected) in [
            (-276_325, 1.0),
            (-267_161, 2.5),
            (-230_270, 100.0),
            (0, 1e12),
        ] {
            let got = pool_micro_usd(tick, &side(true)).unwrap();
            let exact = 1.0001_f64.powi(tick) * 1e12;
            assert!((exact / expected - 1.0).abs() < 2e-4, "{exact}");
            let far = u128::from(got).abs_diff(micro_of(exact));
            assert!(far <= 1 + u128::from(got) / 1_000_000_000, "{got} {exact}");
            assert_eq!(
                pool_micro_usd(-tick, &side(false)),
                Ok(got),
                "the other way round"
            );
        }
        // Through another token: worth 2000 dollars a piece.
        let through = PoolSide {
            is_first: true,
            decimals: 18,
            other_decimals: 18,
            other_micro_usd: 2_000_000_000,
        };
        assert_eq!(pool_micro_usd(0, &through), Ok(2_000_000_000));
        for tick in [TICK_MAX, -TICK_MAX, TICK_MAX + 1, i32::MIN] {
            assert_eq!(pool_micro_usd(tick, &side(true)), Err(RateFault::Range));
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a test's yardstick"
    )]
    fn micro_of(dollars: f64) -> u128 {
        (dollars * 1e6).round() as u128
    }

    #[test]
    fn the_mean_of_a_time_is_rounded_down() {
        assert_eq!(mean_tick([0, -600_001], 600), Some(-1_001));
        assert_eq!(mean_tick([0, 600_599], 600), Some(1_000));
        assert_eq!(mean_tick([5, 6], 0), None);
        assert_eq!(mean_tick([i64::MIN, i64::MAX], 1), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_was_said_and_is_not_too_old(
            readings in prop::collection::vec((0_u64..5_000, 0_u64..400, 0_u64..300), 1..40),
        ) {
            let (mut book, mut now) = (RateBook::new(RULE), NOW);
            let mut taken = Vec::new();
            for (micro_usd, age_s, pause) in readings {
                now = now.after_s(pause);
                let reading = RateReading { micro_usd, at: Timestamp(now.0 - age_s) };
                if book.read(reading, now).is_ok() {
                    prop_assert!(age_s <= RULE.fresh_for_s && micro_usd > 0);
                    taken.push(reading);
                }
                match book.known(now) {
                    Some(known) => {
                        prop_assert!(taken.contains(&known));
                        prop_assert!(now.since_s(known.at) <= RULE.kept_for_s);
                    }
                    None => prop_assert!(taken.iter().all(|it| now.since_s(it.at) > RULE.kept_for_s)),
                }
            }
        }
    }
}
