//! What tokens are worth in dollars, by a named word for it: for people who
//! read prices, and to compare prices in different tokens. Nothing that is
//! paid follows from it. In integers: millionths of a dollar.

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use crate::Amount;

/// Millionths of a dollar in a dollar.
const DOLLAR: u128 = 1_000_000;
/// Digits of a dollar after the point.
const DOLLAR_DECIMALS: u8 = 6;
/// Digits after the point in which prices of different tokens are compared.
const COMMON_DECIMALS: u8 = 18;
/// The most digits after the point that a token may have.
pub const DECIMALS_MAX: u8 = 36;

/// What one token is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsdRate {
    /// Which token.
    pub token: Address,
    /// Its digits after the point, at most [`DECIMALS_MAX`].
    pub decimals: u8,
    /// Millionths of a dollar that one whole token is worth.
    pub micro_usd: u64,
    /// Whose word that is.
    pub source: String,
}

impl UsdRate {
    /// Dollars as people write them: more than nothing, six digits after the
    /// point at most. In millionths.
    pub fn read(text: &str) -> Option<u64> {
        let micro_usd = Amount::from_decimal(text, DOLLAR_DECIMALS).ok()?;
        let micro_usd = u64::try_from(micro_usd.base_units()).ok()?;
        (micro_usd > 0).then_some(micro_usd)
    }

    /// What so much is worth, in millionths of a dollar, rounded to the nearest.
    pub fn micro_usd_of(&self, amount: Amount) -> u128 {
        let one = one(self.decimals);
        let product = U256::from(amount.base_units()) * U256::from(self.micro_usd);
        let worth = (product + one / U256::from(2)) / one;
        worth.saturating_to()
    }

    /// The same as people write it: whole cents, or as many digits as say something.
    pub fn shown(&self, amount: Amount) -> String {
        let micro = self.micro_usd_of(amount);
        if micro == 0 && !amount.is_zero() {
            return "<$0.000001".to_owned();
        }
        let fraction = format!("{:06}", micro % DOLLAR);
        let digits = fraction.trim_end_matches('0').len().max(2);
        format!("${}.{}", micro / DOLLAR, &fraction[..digits])
    }
}

/// The rates of some tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsdRates(Vec<UsdRate>);

impl UsdRates {
    /// These; of two of the same token the first counts.
    pub fn new(rates: Vec<UsdRate>) -> Self {
        Self(rates)
    }

    /// All of them.
    pub fn rates(&self) -> &[UsdRate] {
        &self.0
    }

    /// What a token is worth, if somebody said so.
    pub fn rate(&self, token: Address) -> Option<&UsdRate> {
        self.0.iter().find(|rate| rate.token == token)
    }

    /// So much of a token in dollars, for people; none where nobody said its worth.
    pub fn shown(&self, token: Address, amount: Amount) -> Option<String> {
        self.rate(token).map(|rate| rate.shown(amount))
    }
}

/// 10^`decimals`, which is at most [`DECIMALS_MAX`].
fn one(decimals: u8) -> U256 {
    U256::from(10).pow(U256::from(decimals.min(DECIMALS_MAX)))
}

/// A token that a consumer pays in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Which.
    pub token: Address,
    /// Its digits after the point.
    pub decimals: u8,
}

/// Prices in this token cannot be compared with those in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "prices in {token} cannot be compared with those in another token: nobody says what it is worth in dollars"
)]
pub struct NoRate {
    /// Which.
    pub token: Address,
}

/// The tokens that a consumer pays in, and how prices in them compare: in
/// 10^-18 of the first of them, by the rates in dollars. Where there is only
/// one, no rate is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tender(Vec<Ratio>);

/// An amount counts `times` / `parts` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ratio {
    token: Address,
    times: U256,
    parts: U256,
}

impl Tender {
    /// Of these tokens, the one that prices are compared in first.
    pub fn new(accepted: &[Accepted], usd_rates: &UsdRates) -> Result<Self, NoRate> {
        let Some((first, others)) = accepted.split_first() else {
            return Ok(Self(Vec::new()));
        };
        let rate = |token| match usd_rates.rate(token) {
            Some(rate) if rate.micro_usd > 0 => Ok(U256::from(rate.micro_usd)),
            _ => Err(NoRate { token }),
        };
        let common = one(COMMON_DECIMALS);
        let mut ratios = vec![Ratio {
            token: first.token,
            times: common,
            parts: one(first.decimals),
        }];
        for other in others {
            ratios.push(Ratio {
                token: other.token,
                times: common * rate(other.token)?,
                parts: one(other.decimals) * rate(first.token)?,
            });
        }
        Ok(Self(ratios))
    }

    /// Whether it is paid with.
    pub fn takes(&self, token: Address) -> bool {
        self.0.iter().any(|ratio| ratio.token == token)
    }

    /// An amount as it is compared, rounded up; none: the token is not paid
    /// with. What is beyond the range is the end of it.
    pub fn comparable(&self, token: Address, amount: Amount) -> Option<Amount> {
        let ratio = self.0.iter().find(|ratio| ratio.token == token)?;
        // An amount, 10^18 and a rate are less than 2^128, 2^60 and 2^64.
        let product = U256::from(amount.base_units()) * ratio.times;
        Some(Amount::new(product.div_ceil(ratio.parts).saturating_to()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOR: Address = Address::repeat_byte(1);
    const USD: Address = Address::repeat_byte(2);
    const ONE: u128 = 1_000_000_000_000_000_000;

    fn rate(token: Address, decimals: u8, micro_usd: u64) -> UsdRate {
        UsdRate {
            token,
            decimals,
            micro_usd,
            source: "a test".to_owned(),
        }
    }

    #[test]
    fn what_money_is_worth_is_rounded_to_the_nearest_millionth() {
        for (micro_usd, units, worth, shown) in [
            (2_500_000, 0, 0, "$0.00"),
            (2_500_000, ONE, 2_500_000, "$2.50"),
            (2_500_000, ONE / 1000, 2_500, "$0.0025"),
            (2_500_000, 399_999_999_999, 1, "$0.000001"),
            (2_500_000, 199_999_999_999, 0, "<$0.000001"),
            (1, 3 * ONE / 2, 2, "$0.000002"),
            (
                2_500_000,
                1_234 * ONE + ONE / 3,
                3_085_833_333,
                "$3085.833333",
            ),
        ] {
            let (rate, amount) = (rate(MOR, 18, micro_usd), Amount::new(units));
            assert_eq!(rate.micro_usd_of(amount), worth, "{units}");
            assert_eq!(rate.shown(amount), shown, "{units}");
        }
        let dollar = rate(USD, 6, 1_000_000);
        assert_eq!(dollar.shown(Amount::new(1_230_000)), "$1.23");
        assert_eq!(rate(USD, 0, 1_000_000).shown(Amount::new(7)), "$7.00");
    }

    #[test]
    fn no_amount_is_too_large() {
        let most = Amount::new(u128::MAX);
        assert_eq!(rate(USD, 0, u64::MAX).micro_usd_of(most), u128::MAX);
        let usd_rates = UsdRates::new(vec![rate(USD, 0, u64::MAX), rate(MOR, 36, 1)]);
        let tokens = [(MOR, 36), (USD, 0)].map(|(token, decimals)| Accepted { token, decimals });
        let tender = Tender::new(&tokens, &usd_rates).unwrap();
        assert_eq!(tender.comparable(USD, most), Some(most));
    }

    #[test]
    fn a_rate_is_more_than_nothing() {
        assert_eq!(UsdRate::read("2.5"), Some(2_500_000));
        assert_eq!(UsdRate::read("0.000001"), Some(1));
        for odd in ["0", "0.0000001", "-1", "", "1e3", "99999999999999"] {
            assert_eq!(UsdRate::read(odd), None, "{odd}");
        }
    }

    #[test]
    fn prices_of_two_tokens_compare_by_what_they_are_worth() {
        let mor = Accepted {
            token: MOR,
            decimals: 18,
        };
        let usd = Accepted {
            token: USD,
            decimals: 6,
        };
        let usd_rates = UsdRates::new(vec![rate(MOR, 18, 2_500_000), rate(USD, 6, 1_000_000)]);
        let tender = Tender::new(&[mor, usd], &usd_rates).unwrap();
        let of = |token, units| {
            tender
                .comparable(token, Amount::new(units))
                .unwrap()
                .base_units()
        };
        assert_eq!(of(MOR, 7), 7);
        assert_eq!(of(USD, 2_500_000), ONE);
        // In dollars first, the same the other way.
        let tender = Tender::new(&[usd, mor], &usd_rates).unwrap();
        let of = |token, units| {
            tender
                .comparable(token, Amount::new(units))
                .unwrap()
                .base_units()
        };
        assert_eq!(of(USD, 1), ONE / 1_000_000);
        assert_eq!(of(MOR, ONE), 5 * ONE / 2);
        assert_eq!(of(MOR, 1), 3, "rounded up");
        assert_eq!(tender.comparable(Address::ZERO, Amount::new(1)), None);
        assert!(!tender.takes(Address::ZERO));
    }

    #[test]
    fn one_token_needs_no_rate_and_two_need_both() {
        let mor = Accepted {
            token: MOR,
            decimals: 18,
        };
        let usd = Accepted {
            token: USD,
            decimals: 6,
        };
        let none = UsdRates::default();
        let alone = Tender::new(&[usd], &none).unwrap();
        let one = Amount::new(1_000_000);
        assert_eq!(alone.comparable(USD, one), Some(Amount::new(ONE)));
        assert_eq!(alone.comparable(MOR, one), None);
        let only = UsdRates::new(vec![rate(MOR, 18, 1)]);
        for usd_rates in [none, only] {
            let error = Tender::new(&[mor, usd], &usd_rates).unwrap_err();
            assert_eq!(error.token, USD);
        }
    }
}
