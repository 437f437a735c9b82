//! Tokens on the command line: by symbol or address, and what one is worth.

use clap::Args;
use market::{Named, Stated, UsdRate};

/// Characters of a source's name.
const SOURCE_MAX: usize = 64;

/// `mor`, `usdc`, or an address.
pub(crate) fn token(text: &str) -> Result<Named, String> {
    text.parse()
        .map_err(|error: market::NamedError| error.to_string())
}

/// `0.5`, `20usdc`, or `"20 USDC"`.
pub(crate) fn stated(text: &str) -> Result<Stated, String> {
    text.parse()
        .map_err(|error: market::StatedError| error.to_string())
}

/// What one token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rated {
    pub(crate) token: Named,
    /// Millionths of a dollar for a whole one.
    pub(crate) micro_usd: u64,
    /// Whose word that is.
    pub(crate) source: String,
}

/// `mor=2.5`, or `mor=2.5:where that is from`.
pub(crate) fn rated(text: &str) -> Result<Rated, String> {
    const ALLOWED: &str =
        "allowed: TOKEN=USD or TOKEN=USD:SOURCE, such as mor=2.5:\"coingecko, 28 November\"";
    let (name, rest) = text.split_once('=').ok_or(ALLOWED)?;
    let (usd, source) = match rest.split_once(':') {
        Some((usd, source)) => (usd, source.trim()),
        None => (rest, "fixed, by --usd-rate"),
    };
    let micro_usd = UsdRate::read(usd).ok_or_else(|| {
        format!(
            "{usd:?} is no price (allowed: dollars above 0, with at most 6 digits after the point)"
        )
    })?;
    let is_plain = source.chars().all(|c| !c.is_control());
    if source.is_empty() || source.chars().count() > SOURCE_MAX || !is_plain {
        return Err(format!(
            "the source is to be 1 to {SOURCE_MAX} characters of text ({ALLOWED})"
        ));
    }
    Ok(Rated {
        token: token(name)?,
        micro_usd,
        source: source.to_owned(),
    })
}

/// What is paid with.
#[derive(Debug, Args)]
pub(crate) struct Paying {
    /// The tokens to pay with: `mor`, `usdc`, `both`, or tokens' addresses. Offers in others are not asked. Prices are compared
    /// in the first of them, by the rates of --usd-rate, which several tokens need.
    #[arg(long, value_name = "TOKENS", default_value = "mor", value_delimiter = ',', value_parser = token)]
    pub(crate) pay_with: Vec<Named>,
}

/// What money is worth.
#[derive(Debug, Args)]
pub(crate) struct Worth {
    /// What one token is worth in dollars, and by whose word: prices and amounts are then told in dollars, too, and
    /// prices in different tokens are compared by it. Once for each token; nothing that is paid depends on it.
    #[arg(long, value_name = "TOKEN=USD[:SOURCE]", value_parser = rated)]
    pub(crate) usd_rate: Vec<Rated>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_names_token_dollars_and_source() {
        let of = |text| rated(text).unwrap();
        let mor = of("mor=2.5");
        assert_eq!(mor.token, Named::Symbol("mor".into()));
        assert_eq!(
            (mor.micro_usd, &*mor.source),
            (2_500_000, "fixed, by --usd-rate")
        );
        assert_eq!(of("usdc=1: the peg: believed").source, "the peg: believed");
        let zeros = "0x00000000000000000000000000000000000000aa=1";
        assert!(matches!(of(zeros).token, Named::Address(_)));
        for odd in [
            "mor",
            "mor=",
            "mor=0",
            "mor=-1",
            "=1",
            "m r=1",
            "mor=1:",
            "0x12=1",
            "mor=1:\u{7}",
        ] {
            let error = rated(odd).unwrap_err();
            assert!(error.contains("allowed"), "{odd}: {error}");
        }
    }
}
