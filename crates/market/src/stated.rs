//! Amounts as their owners state them: a figure, and in what it is. `0.5`,
//! `20 USDC`, `5 USD`. What a name means is not known here: that depends on
//! the network.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::Address;

use crate::{Amount, ParseAmountError};

/// Characters of a token's symbol.
const SYMBOL_MAX: usize = 16;
/// What dollars are called. No token can be.
const DOLLARS: &str = "USD";

/// A token as its user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By its symbol in the network's profile.
    Symbol(String),
    /// By its contract.
    Address(Address),
}

/// In what an amount is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Nothing is said.
    Unsaid,
    /// Dollars; each token counts by what it is worth.
    Usd,
    /// Whole ones of a token.
    Token(Named),
}

/// An amount as its owner states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    figure: String,
    unit: Unit,
}

/// Why a text states no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatedError {
    /// It does not begin with an amount.
    #[error(
        "{text:?} does not begin with an amount: {source}; in what it is stands behind it: 0.5, \"20 USDC\" or \"5 USD\""
    )]
    Figure {
        /// What was read.
        text: String,
        /// What is wrong.
        source: ParseAmountError,
    },
    /// What is behind the amount names no token.
    #[error(transparent)]
    Unit(#[from] NamedError),
}

/// Why a text names no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamedError {
    /// It could be nobody's symbol.
    #[error("{text:?} names no token (allowed: mor, usdc, or a token's address)")]
    Symbol {
        /// What was read.
        text: String,
    },
    /// It is no address, or one that is mistyped.
    #[error(
        "{text:?} is no token's address: {problem} (allowed: 0x and 40 hexadecimal digits, of both cases only with their checksum)"
    )]
    Address {
        /// What was read.
        text: String,
        /// What is wrong.
        problem: String,
    },
}

impl Stated {
    /// Digits after the point that an amount may have before it is known in what it is.
    pub const DECIMALS: u8 = 18;

    /// In what it is.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// How much it is in base units, of something with so many digits after the point.
    pub fn amount(&self, decimals: u8) -> Result<Amount, ParseAmountError> {
        Amount::from_decimal(&self.figure, decimals)
    }

    /// How much it is, in 10^-18 of it.
    pub fn amount_18(&self) -> Amount {
        let read = Amount::from_decimal(&self.figure, Self::DECIMALS);
        read.expect("no other figure is taken")
    }
}

impl FromStr for Stated {
    type Err = StatedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        // A comma is no unit: who means a point by it is told so.
        let is_unit = |c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',');
        let (figure, unit) = text.split_at(text.find(is_unit).unwrap_or(text.len()));
        // `1e3` is a thousand to some and one e3 to nobody.
        let exponent = unit.strip_prefix(['e', 'E']);
        let is_exponent = exponent.is_some_and(|digits| digits.parse::<u32>().is_ok());
        let read = if is_exponent { text } else { figure };
        if let Err(source) = Amount::from_decimal(read, Self::DECIMALS) {
            let text = shortened(text);
            return Err(StatedError::Figure { text, source });
        }
        let unit = match unit.trim_start() {
            "" => Unit::Unsaid,
            dollars if dollars.eq_ignore_ascii_case(DOLLARS) => Unit::Usd,
            token => Unit::Token(token.parse()?),
        };
        let figure = figure.to_owned();
        Ok(Self { figure, unit })
    }
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.figure)?;
        match &self.unit {
            Unit::Unsaid => Ok(()),
            Unit::Usd => write!(f, " {DOLLARS}"),
            Unit::Token(named) => write!(f, " {named}"),
        }
    }
}

impl FromStr for Named {
    type Err = NamedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("0x") {
            let both =
                [char::is_lowercase, char::is_uppercase].map(|is| text.chars().skip(2).any(is));
            let parsed = match both == [true; 2] {
                true => Address::parse_checksummed(text, None).map_err(|error| error.to_string()),
                false => text.parse().map_err(|error| format!("{error}")),
            };
            let refused = |problem| NamedError::Address {
                text: shortened(text),
                problem,
            };
            return match parsed {
                Ok(zero) if zero == Address::ZERO => Err(refused("it is zero".to_owned())),
                parsed => parsed.map(Self::Address).map_err(refused),
            };
        }
        // A number alone is no name.
        let is_named = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        let fits = is_named && text.len() <= SYMBOL_MAX;
        match fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => Ok(Self::Symbol(text.to_owned())),
            false => Err(NamedError::Symbol {
                text: shortened(text),
            }),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(symbol) => f.write_str(symbol),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Not more of it than a line can show.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_says_in_what_it_is() {
        let address = Address::repeat_byte(0xaa);
        for (text, unit, shown) in [
            ("0.5", Unit::Unsaid, "0.5"),
            (" 5 usd ", Unit::Usd, "5 USD"),
            ("5USD", Unit::Usd, "5 USD"),
            (
                "20 USDC",
                Unit::Token(Named::Symbol("USDC".into())),
                "20 USDC",
            ),
            (
                "20usdc",
                Unit::Token(Named::Symbol("usdc".into())),
                "20 usdc",
            ),
            (
                &format!("1.5 {address}"),
                Unit::Token(Named::Address(address)),
                &format!("1.5 {address}"),
            ),
        ] {
            let stated: Stated = text.parse().unwrap();
            assert_eq!(*stated.unit(), unit, "{text}");
            assert_eq!(stated.to_string(), shown);
            assert_eq!(shown.parse(), Ok(stated));
        }
        let stated: Stated = "1.5 USDC".parse().unwrap();
        assert_eq!(stated.amount(6), Ok(Amount::new(1_500_000)));
        assert_eq!(stated.amount_18(), Amount::new(1_500_000_000_000_000_000));
        assert!(stated.amount(0).is_err());
    }

    #[test]
    fn what_states_no_amount_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "USDC",
            "-1",
            "1e3",
            "1 2",
            "1 US DC",
            "1 0x12",
            "1 0x0000000000000000000000000000000000000000",
            "1 0xAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "1.0000000000000000001",
            "1 12345678901234567",
            "1..2",
        ] {
            let error = text.parse::<Stated>().unwrap_err().to_string();
            let told = error.matches("allowed").count() + error.matches("digits after").count();
            assert_eq!(told, 1, "{text}: {error}");
        }
        for text in ["1,5", "1,5 USDC"] {
            let error = text.parse::<Stated>().unwrap_err().to_string();
            assert!(error.contains("use a point: 1.5"), "{error}");
        }
    }
}
