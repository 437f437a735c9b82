//! Tokens on the command line: by symbol or address, and what one is worth.

use clap::Args;
use market::{Address, Named, Stated, UsdRate};

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
    pub(crate) said: Said,
}

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The user.
    Fixed {
        /// Millionths of a dollar for a whole one.
        micro_usd: u64,
        /// Whose word that is.
        source: String,
    },
    /// A price feed on the chain.
    Feed {
        feed: Address,
        /// The oldest word that is taken.
        fresh_for_s: u64,
    },
    /// A pool on the chain, in whose other token it is priced.
    Pool {
        pool: Address,
        /// The time whose mean price counts.
        window_s: u32,
    },
}

const RATE_ALLOWED: &str = "allowed: TOKEN=USD or TOKEN=USD:SOURCE, such as mor=2.5:\"coingecko, 28 November\"; \
                            TOKEN=feed:0x…[@SECONDS]; TOKEN=pool:0x…[@SECONDS]";
/// A feed that says something once a day at least, and an hour late, is believed.
const FEED_FRESH_S: u64 = 90_000;
/// The longest that may be asked for.
const FEED_FRESH_MAX_S: u64 = 7 * 86_400;
/// The time whose mean counts, if nothing else is said.
const POOL_WINDOW_S: u32 = 1_800;

/// `mor=2.5`, `mor=2.5:where that is from`, `usdc=feed:0x…`, `mor=pool:0x…@1800`.
pub(crate) fn rated(text: &str) -> Result<Rated, String> {
    let (name, rest) = text.split_once('=').ok_or(RATE_ALLOWED)?;
    let said = match rest.split_once(':') {
        Some(("feed", source)) => feed(source)?,
        Some(("pool", source)) => pool(source)?,
        Some((usd, source)) => fixed(usd, source.trim())?,
        None => fixed(rest, "fixed, by --usd-rate")?,
    };
    let token = token(name)?;
    Ok(Rated { token, said })
}

fn fixed(usd: &str, source: &str) -> Result<Said, String> {
    let micro_usd = UsdRate::read(usd).ok_or_else(|| {
        format!(
            "{usd:?} is no price (allowed: dollars above 0, with at most 6 digits after the point, or feed:0x…, pool:0x…)"
        )
    })?;
    let is_plain = source.chars().all(|c| !c.is_control());
    if source.is_empty() || source.chars().count() > SOURCE_MAX || !is_plain {
        return Err(format!(
            "the source is to be 1 to {SOURCE_MAX} characters of text ({RATE_ALLOWED})"
        ));
    }
    let source = source.to_owned();
    Ok(Said::Fixed { micro_usd, source })
}

/// A contract, and seconds if there are some.
fn contract(
    text: &str,
    seconds: std::ops::RangeInclusive<u64>,
) -> Result<(Address, Option<u64>), String> {
    let (address, said) = match text.split_once('@') {
        Some((address, said)) => (address, Some(said)),
        None => (text, None),
    };
    let said = said.map(|said| match said.parse() {
        Ok(given) if seconds.contains(&given) => Ok(given),
        _ => Err(format!(
            "{said:?} seconds (allowed: {} to {})",
            seconds.start(),
            seconds.end()
        )),
    });
    Ok((super::account(address)?, said.transpose()?))
}

fn feed(text: &str) -> Result<Said, String> {
    let (feed, fresh_for_s) = contract(text, 60..=FEED_FRESH_MAX_S)?;
    let fresh_for_s = fresh_for_s.unwrap_or(FEED_FRESH_S);
    Ok(Said::Feed { feed, fresh_for_s })
}

fn pool(text: &str) -> Result<Said, String> {
    let allowed = chain::POOL_WINDOW_MIN_S.into()..=chain::POOL_WINDOW_MAX_S.into();
    let (pool, window_s) = contract(text, allowed)?;
    let window_s = window_s.and_then(|window_s| u32::try_from(window_s).ok());
    let window_s = window_s.unwrap_or(POOL_WINDOW_S);
    Ok(Said::Pool { pool, window_s })
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
    /// prices in different tokens are compared by it. Fixed (`mor=2.5:SOURCE`), or read from the chain each minute: by a
    /// price feed (`usdc=feed:0x…`), or as the mean price of a pool (`mor=pool:0x…@1800`) in a token that has a rate, too.
    /// Once for each token.
    #[arg(long, value_name = "TOKEN=RATE", value_parser = rated)]
    pub(crate) usd_rate: Vec<Rated>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_names_token_dollars_and_source() {
        let of = |text: &str| rated(text).unwrap();
        let mor = of("mor=2.5");
        assert_eq!(mor.token, Named::Symbol("mor".into()));
        let fixed = |micro_usd, source: &str| Said::Fixed {
            micro_usd,
            source: source.into(),
        };
        assert_eq!(mor.said, fixed(2_500_000, "fixed, by --usd-rate"));
        let believed = of("usdc=1: the peg: believed").said;
        assert_eq!(believed, fixed(1_000_000, "the peg: believed"));
        let address = Address::repeat_byte(0xaa);
        let feed = |fresh_for_s| Said::Feed {
            feed: address,
            fresh_for_s,
        };
        assert_eq!(of(&format!("usdc=feed:{address}")).said, feed(90_000));
        assert_eq!(of(&format!("usdc=feed:{address}@3600")).said, feed(3_600));
        let pool = Said::Pool {
            pool: address,
            window_s: 600,
        };
        assert_eq!(of(&format!("mor=pool:{address}@600")).said, pool);
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
            "mor=feed:",
            "mor=feed:0x12",
            "mor=feed:0x00000000000000000000000000000000000000aa@59",
            "mor=pool:0x00000000000000000000000000000000000000aa@86401",
            "mor=pool:0x00000000000000000000000000000000000000aa@-1",
        ] {
            let error = rated(odd).unwrap_err();
            assert!(error.contains("allowed"), "{odd}: {error}");
        }
    }
}
