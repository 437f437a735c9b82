//! What tokens are worth in dollars, by a named word for it: for people who
//! read prices, and to compare prices in different tokens. Nothing that is
//! paid follows from it. In integers: millionths of a dollar.

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use crate::{Amount, Named, Stated, Timestamp, Unit};

/// Millionths of a dollar in a dollar.
const DOLLAR: u128 = 1_000_000;
/// Digits of a dollar after the point.
const DOLLAR_DECIMALS: u8 = 6;
/// Digits after the point in which prices of different tokens are compared.
const COMMON_DECIMALS: u8 = 18;
/// Digits after the point of dollars that are counted, as of budgets.
pub const USD_DECIMALS: u8 = COMMON_DECIMALS;
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
    /// When that was said; none: it is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
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

    /// What so much is worth in 10^-18 dollars, rounded up: what is counted so
    /// is never too little.
    pub fn usd_of(&self, amount: Amount) -> Amount {
        let micro = U256::from(amount.base_units()) * U256::from(self.micro_usd);
        let worth = micro * one(USD_DECIMALS - DOLLAR_DECIMALS);
        Amount::new(worth.div_ceil(one(self.decimals)).saturating_to())
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Which.
    pub token: Address,
    /// Its digits after the point.
    pub decimals: u8,
    /// What it may be called: its symbol, then other names.
    pub names: Vec<String>,
}

impl Accepted {
    /// Whether a user may mean it so.
    pub fn is(&self, named: &Named) -> bool {
        match named {
            Named::Address(address) => self.token == *address,
            Named::Symbol(symbol) => {
                let mut names = self.names.iter();
                names.any(|name| name.eq_ignore_ascii_case(symbol))
            }
        }
    }
}

/// Why a cap on a price cannot be heeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// It is in a token in which nothing is paid.
    #[error("{stated:?} is in no token that this node pays with; allowed: an amount alone, or in one of {}, USD", .allowed.join(", "))]
    Token {
        /// As it was stated.
        stated: String,
        /// Tokens that are paid with.
        allowed: Vec<String>,
    },
    /// It cannot be compared with prices.
    #[error("{stated:?} cannot be compared with prices: nobody says now what {} is worth in dollars (--usd-rate)", .token)]
    NoRate {
        /// As it was stated.
        stated: String,
        /// Of which token the rate is missing.
        token: String,
    },
}

/// The tokens that a consumer pays in, and how prices in them compare: in
/// 10^-18 of the first of them, by the rates in dollars. Where there is only
/// one, no rate is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tender {
    accepted: Vec<Accepted>,
    ratios: Vec<Ratio>,
    /// Millionths of a dollar for one of the first token.
    first: Option<U256>,
}

/// So many whole ones of it count `times` / `parts` whole ones of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ratio {
    token: Address,
    decimals: u8,
    times: U256,
    parts: U256,
}

impl Tender {
    /// Of these tokens, the one that prices are compared in first, as far as
    /// rates are known: without those that cannot be compared with the first.
    pub fn new(accepted: &[Accepted], usd_rates: &UsdRates) -> Self {
        let first = accepted.first().map(|first| first.token);
        let unit = first.and_then(|token| worth(usd_rates, token));
        let ratio = |one: &Accepted| {
            let (times, parts) = match Some(one.token) == first {
                true => (U256::from(1), U256::from(1)),
                false => (worth(usd_rates, one.token)?, unit?),
            };
            Some(Ratio {
                token: one.token,
                decimals: one.decimals,
                times,
                parts,
            })
        };
        Self {
            accepted: accepted.to_vec(),
            ratios: accepted.iter().filter_map(ratio).collect(),
            first: unit,
        }
    }

    /// Whether it is paid with.
    pub fn takes(&self, token: Address) -> bool {
        self.ratio(token).is_some()
    }

    /// What a token is called that is paid with, whether prices in it compare now or not.
    pub fn symbol(&self, token: Address) -> Option<&str> {
        let mut accepted = self.accepted.iter();
        let known = accepted.find(|one| one.token == token)?;
        known.names.first().map(String::as_str)
    }

    /// An amount as it is compared, rounded up; none: the token is not paid
    /// with. What is beyond the range is the end of it.
    pub fn comparable(&self, token: Address, amount: Amount) -> Option<Amount> {
        let ratio = self.ratio(token)?;
        // An amount, 10^18 and a rate are less than 2^128, 2^60 and 2^64.
        let product = U256::from(amount.base_units()) * one(COMMON_DECIMALS) * ratio.times;
        let parts = one(ratio.decimals) * ratio.parts;
        Some(Amount::new(product.div_ceil(parts).saturating_to()))
    }

    /// What a cap on prices comes to as they are compared, rounded down; one
    /// that does not say in what it is, is in the first token.
    pub fn cap(&self, stated: &Stated) -> Result<Amount, CapError> {
        let no_rate = |token: &Accepted| CapError::NoRate {
            stated: stated.to_string(),
            token: token.names.first().cloned().unwrap_or_default(),
        };
        let (times, parts) = match (stated.unit(), self.accepted.first()) {
            (Unit::Unsaid, _) | (_, None) => return Ok(stated.amount_18()),
            (Unit::Usd, Some(first)) => {
                let unit = self.first.ok_or_else(|| no_rate(first))?;
                (U256::from(DOLLAR), unit)
            }
            (Unit::Token(named), Some(first)) => {
                let meant = self.accepted.iter().find(|one| one.is(named));
                let meant = meant.ok_or_else(|| self.not_paid_with(stated))?;
                let lacks = if self.first.is_none() { first } else { meant };
                let ratio = self.ratio(meant.token).ok_or_else(|| no_rate(lacks))?;
                (ratio.times, ratio.parts)
            }
        };
        let amount = U256::from(stated.amount_18().base_units()) * times / parts;
        Ok(Amount::new(amount.saturating_to()))
    }

    /// An amount as it is compared, for people: in whole ones of the first
    /// token, with its symbol.
    pub fn shown(&self, compared: Amount) -> String {
        let figure = compared.to_decimal(COMMON_DECIMALS);
        let first = self.accepted.first();
        match first.and_then(|first| first.names.first()) {
            Some(symbol) => format!("{figure} {symbol}"),
            None => figure,
        }
    }

    fn ratio(&self, token: Address) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.token == token)
    }

    fn not_paid_with(&self, stated: &Stated) -> CapError {
        let names = self.accepted.iter();
        let names = names.filter_map(|one| one.names.first().cloned());
        CapError::Token {
            stated: stated.to_string(),
            allowed: names.collect(),
        }
    }
}

/// Millionths of a dollar for a whole one.
fn worth(usd_rates: &UsdRates, token: Address) -> Option<U256> {
    let rate = usd_rates.rate(token).filter(|rate| rate.micro_usd > 0)?;
    Some(U256::from(rate.micro_usd))
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
            at: None,
        }
    }

    fn accepted(token: Address, decimals: u8) -> Accepted {
        let names = match token == MOR {
            true => vec!["MOR".to_owned()],
            false => vec!["USDdev".to_owned(), "usdc".to_owned()],
        };
        Accepted {
            token,
            decimals,
            names,
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
        let tokens = [accepted(MOR, 36), accepted(USD, 0)];
        let tender = Tender::new(&tokens, &usd_rates);
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
        let (mor, usd) = (accepted(MOR, 18), accepted(USD, 6));
        let usd_rates = UsdRates::new(vec![rate(MOR, 18, 2_500_000), rate(USD, 6, 1_000_000)]);
        let tender = Tender::new(&[mor.clone(), usd.clone()], &usd_rates);
        let of = |token, units| {
            tender
                .comparable(token, Amount::new(units))
                .unwrap()
                .base_units()
        };
        assert_eq!(of(MOR, 7), 7);
        assert_eq!(of(USD, 2_500_000), ONE);
        // In dollars first, the same the other way.
        let tender = Tender::new(&[usd, mor], &usd_rates);
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
    fn one_token_needs_no_rate() {
        let usd = accepted(USD, 6);
        let alone = Tender::new(&[usd], &UsdRates::default());
        let one = Amount::new(1_000_000);
        assert_eq!(alone.comparable(USD, one), Some(Amount::new(ONE)));
        assert_eq!(alone.comparable(MOR, one), None);
    }

    #[test]
    fn dollars_that_are_counted_are_never_too_few() {
        let mor = rate(MOR, 18, 2_500_000);
        assert_eq!(mor.usd_of(Amount::new(1)), Amount::new(3));
        assert_eq!(mor.usd_of(Amount::new(ONE)), Amount::new(ONE / 2 * 5));
        let dollar = rate(USD, 6, 1_000_000);
        assert_eq!(
            dollar.usd_of(Amount::new(7)),
            Amount::new(7 * ONE / 1_000_000)
        );
        let most = Amount::new(u128::MAX);
        assert_eq!(rate(USD, 0, u64::MAX).usd_of(most), most);
    }

    #[test]
    fn a_cap_counts_in_the_unit_of_prices_whatever_it_is_stated_in() {
        let both = [accepted(MOR, 18), accepted(USD, 6)];
        let usd_rates = UsdRates::new(vec![rate(MOR, 18, 2_500_000), rate(USD, 6, 1_000_000)]);
        let tender = Tender::new(&both, &usd_rates);
        let cap = |tender: &Tender, text: &str| tender.cap(&text.parse().unwrap());
        for (text, units) in [
            ("1.5", 3 * ONE / 2),
            ("1.5 mor", 3 * ONE / 2),
            ("5 USD", 2 * ONE),
            ("5 usdc", 2 * ONE),
            ("5 USDdev", 2 * ONE),
            ("0.000000000000000001 USD", 0),
        ] {
            assert_eq!(cap(&tender, text), Ok(Amount::new(units)), "{text}");
        }
        let error = cap(&tender, "1 dai").unwrap_err().to_string();
        assert!(error.contains("one of MOR, USDdev, USD"), "{error}");
        // Alone, a token needs no rate for its own caps, and dollars do.
        let alone = Tender::new(&both[1..], &UsdRates::default());
        assert_eq!(cap(&alone, "5 usdc"), Ok(Amount::new(5 * ONE)));
        let error = cap(&alone, "5 USD").unwrap_err().to_string();
        assert!(error.contains("what USDdev is worth"), "{error}");
        let error = cap(&alone, "5 MOR").unwrap_err();
        assert!(matches!(error, CapError::Token { .. }), "{error}");
    }

    #[test]
    fn a_token_whose_worth_is_forgotten_is_not_paid_with_until_it_is_known_again() {
        let both = [accepted(MOR, 18), accepted(USD, 6)];
        let mor = rate(MOR, 18, 2_500_000);
        for known in [vec![], vec![mor.clone()], vec![rate(USD, 6, 1)]] {
            let tender = Tender::new(&both, &UsdRates::new(known));
            assert!(tender.takes(MOR) && !tender.takes(USD));
            let error = tender.cap(&"5 usdc".parse().unwrap()).unwrap_err();
            assert!(matches!(error, CapError::NoRate { .. }), "{error}");
        }
        let usd_rates = UsdRates::new(vec![mor, rate(USD, 6, 1)]);
        assert!(Tender::new(&both, &usd_rates).takes(USD));
    }
}
