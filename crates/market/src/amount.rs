//! Money and time as types, so that one cannot be added to the other.
//!
//! An [`Amount`] counts base units of some token (10^-18 MOR, 10^-6 USDC);
//! which token is said beside it. All arithmetic is checked: there is no `+`.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A sum of money in base units of its token. `uint128` in the contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u128);

/// A sum left the range of [`Amount`]; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range: {left} {operation} {right}")]
pub struct AmountOverflow {
    left: Amount,
    operation: char,
    right: Amount,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many base units.
    pub const fn new(base_units: u128) -> Self {
        Self(base_units)
    }

    /// The number of base units.
    pub const fn base_units(self) -> u128 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self + other`.
    pub fn plus(self, other: Self) -> Result<Self, AmountOverflow> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountOverflow {
            left: self,
            operation: '+',
            right: other,
        })
    }

    /// `self - other`.
    pub fn minus(self, other: Self) -> Result<Self, AmountOverflow> {
        self.0.checked_sub(other.0).map(Self).ok_or(AmountOverflow {
            left: self,
            operation: '-',
            right: other,
        })
    }

    /// What is left of `self` after taking `other` away; nothing if `other` is larger.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self * n`.
    pub fn times(self, n: u128) -> Result<Self, AmountOverflow> {
        self.0.checked_mul(n).map(Self).ok_or(AmountOverflow {
            left: self,
            operation: '*',
            right: Self(n),
        })
    }

    /// The sum of many.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, AmountOverflow> {
        amounts.into_iter().try_fold(Self::ZERO, Self::plus)
    }

    /// The sum of many that have yet to be reckoned; the first that cannot be is the error.
    pub fn try_sum(
        amounts: impl IntoIterator<Item = Result<Self, AmountOverflow>>,
    ) -> Result<Self, AmountOverflow> {
        amounts
            .into_iter()
            .try_fold(Self::ZERO, |sum, amount| sum.plus(amount?))
    }

    /// As a decimal number of whole tokens, `decimals` digits after the point
    /// at most, trailing zeros left out: `1.5` for 1500000 at 6 decimals.
    pub fn to_decimal(self, decimals: u8) -> String {
        let digits = format!("{:0>width$}", self.0, width = usize::from(decimals) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(decimals));
        match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        }
    }

    /// Reads a decimal number of whole tokens; the inverse of [`Self::to_decimal`].
    pub fn from_decimal(text: &str, decimals: u8) -> Result<Self, ParseAmountError> {
        let malformed = || ParseAmountError::Malformed {
            text: text.to_owned(),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(malformed());
        }
        if fraction.len() > usize::from(decimals) {
            return Err(ParseAmountError::TooFine {
                text: text.to_owned(),
                decimals,
            });
        }
        let padded = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
        padded.parse().map(Self).map_err(|_| malformed())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not a decimal number, or too large.
    #[error("{text:?} is not an amount ({})", allowed(.text))]
    Malformed {
        /// What was read.
        text: String,
    },
    /// More digits after the point than the token has.
    #[error("{text:?} has more than {decimals} digits after the point")]
    TooFine {
        /// What was read.
        text: String,
        /// How many the token has.
        decimals: u8,
    },
}

/// What could be written in place of it.
fn allowed(text: &str) -> String {
    const DECIMALS: u8 = 18;
    let pointed = text.replacen(',', ".", 1);
    match text.contains(',') && Amount::from_decimal(&pointed, DECIMALS).is_ok() {
        true => format!("use a point: {pointed}"),
        false => {
            "allowed: digits, at most one point, such as 0.5; below 2^128 base units".to_owned()
        }
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    /// Base units, digits only.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A plus sign is a number to `u128`, and no amount.
        let is_digits = text.bytes().all(|b| b.is_ascii_digit());
        let digits = is_digits.then(|| text.parse().ok()).flatten();
        digits.map(Self).ok_or_else(|| ParseAmountError::Malformed {
            text: text.to_owned(),
        })
    }
}

/// In JSON an amount is a string of digits: 2^53 is less than one MOR.
impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Digits)
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

/// Reads an amount from where its text stands, without a copy.
struct Digits;

impl serde::de::Visitor<'_> for Digits {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
        text.parse().map_err(E::custom)
    }
}

/// Seconds since the Unix epoch, as in a block header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So many seconds later; the end of time if that is out of range.
    #[must_use]
    pub fn after_s(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to `self`; zero if it is not earlier.
    pub fn since_s(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Time since a start that the caller chose. It never goes back, whatever
/// happens to the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// So long after the start.
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// So much later; the end of time if that is out of range.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// From `earlier` to `self`; nothing if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_read_as_people_write_them() {
        for (text, decimals, units) in [
            ("1.5", 6, 1_500_000),
            ("0", 18, 0),
            ("0.000001", 6, 1),
            ("12", 0, 12),
        ] {
            assert_eq!(Amount::from_decimal(text, decimals), Ok(Amount(units)));
            assert_eq!(Amount(units).to_decimal(decimals), text);
        }
        for text in [
            "",
            ".",
            "-1",
            "1e3",
            "1.2.3",
            " 1",
            "0x10",
            "340282366920938463463374607431768211456",
        ] {
            assert!(Amount::from_decimal(text, 6).is_err(), "{text:?} was taken");
        }
        let told = Amount::from_decimal("1,5", 6).unwrap_err().to_string();
        assert!(told.ends_with("(use a point: 1.5)"), "{told}");
        assert_eq!(
            Amount::from_decimal("0.0000001", 6),
            Err(ParseAmountError::TooFine {
                text: "0.0000001".into(),
                decimals: 6
            })
        );
    }

    #[test]
    fn nothing_wraps() {
        let max = Amount(u128::MAX);
        assert!(max.plus(Amount(1)).is_err());
        assert!(Amount::ZERO.minus(Amount(1)).is_err());
        assert!(max.times(2).is_err());
        assert_eq!(Amount(3).less(Amount(5)), Amount::ZERO);
    }

    #[test]
    fn a_sum_is_all_or_the_first_error() {
        let max = Amount(u128::MAX);
        assert_eq!(
            Amount::try_sum([Ok(Amount(1)), Ok(Amount(2))]),
            Ok(Amount(3))
        );
        assert_eq!(
            Amount::try_sum([Ok(Amount(1)), max.times(2), max.times(3)]),
            max.times(2)
        );
        assert_eq!(
            Amount::try_sum([Ok(max), Ok(Amount(1))]),
            max.plus(Amount(1))
        );
    }

    proptest! {
        #[test]
        fn text_and_json_keep_every_unit(units: u128, decimals in 0u8..=30) {
            let amount = Amount(units);
            prop_assert_eq!(Amount::from_decimal(&amount.to_decimal(decimals), decimals), Ok(amount));
            let json = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
        }
    }
}
