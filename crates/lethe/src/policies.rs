//! What the owner of the money allows, from the flags, and in words for
//! `lethe where`.

use std::collections::BTreeMap;
use std::time::Duration;

use market::{
    Accepted, Address, Amount, ClaimPolicy, FundingPolicy, GasPolicy, ParseAmountError, Stated,
    Unit,
};

use crate::cli;
use crate::tokens::{TokenView, TokenViews};

/// MOR, and the chain's own coins, have 18 digits after the point.
pub(crate) const MOR_DECIMALS: u8 = 18;

/// A flag that is no amount, or not of what it could be of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("{flag} is not an amount of {symbol}")]
    Amount {
        flag: &'static str,
        symbol: String,
        #[source]
        source: ParseAmountError,
    },
    #[error("{flag}: {stated:?} is in no token that is paid with (--pay-with; allowed: {allowed})")]
    Other {
        flag: &'static str,
        stated: String,
        allowed: String,
    },
    #[error("{flag} names {symbol} more than once; say it once")]
    Twice { flag: &'static str, symbol: String },
}

/// An amount of a token as the user writes it.
pub(crate) fn amount(
    flag: &'static str,
    text: &str,
    token: &chain::Token,
) -> Result<Amount, PolicyError> {
    Amount::from_decimal(text, token.decimals).map_err(|source| PolicyError::Amount {
        flag,
        symbol: token.symbol.clone(),
        source,
    })
}

/// What `lethe consume` does if nothing is said, and `lethe up` always: 1, 10 and 0.1 tokens.
pub(crate) fn usual_funding(token: &chain::Token) -> FundingPolicy {
    let tenth = 10_u128.saturating_pow(token.decimals.saturating_sub(1).into());
    FundingPolicy {
        deposit: Amount::new(tenth.saturating_mul(10)),
        channel_max: Amount::new(tenth.saturating_mul(100)),
        top_up_below: Amount::new(tenth),
        withdraw_idle: None,
    }
}

/// From the flags of `lethe consume`, for each of the tokens that are paid with: what is stated of it, else
/// what is usual.
pub(crate) fn funding(
    flags: &cli::Funding,
    paid_with: &[chain::Token],
    accepted: &[Accepted],
) -> Result<Vec<FundingPolicy>, PolicyError> {
    let each = |flag, stated: &[Stated]| each(flag, stated, paid_with, accepted);
    let deposits = each("--deposit", &flags.deposit)?;
    let most = each("--channel-max", &flags.channel_max)?;
    let low = each("--top-up-below", &flags.top_up_below)?;
    let policies = paid_with.iter().map(|token| {
        let (usual, address) = (usual_funding(token), token.address);
        let of = |stated: &BTreeMap<Address, Amount>, usual| {
            let own = stated.get(&address).copied();
            own.unwrap_or(usual)
        };
        FundingPolicy {
            deposit: of(&deposits, usual.deposit),
            channel_max: of(&most, usual.channel_max),
            top_up_below: of(&low, usual.top_up_below),
            withdraw_idle: flags.withdraw_idle.map(Duration::from_secs),
        }
    });
    Ok(policies.collect())
}

/// What a flag states of each token; of the first where it names none.
fn each(
    flag: &'static str,
    stated: &[Stated],
    paid_with: &[chain::Token],
    accepted: &[Accepted],
) -> Result<BTreeMap<Address, Amount>, PolicyError> {
    let meant = |stated: &Stated| {
        let place = match stated.unit() {
            Unit::Unsaid => Some(0),
            Unit::Usd => None,
            Unit::Token(named) => accepted.iter().position(|one| one.is(named)),
        };
        place.and_then(|place| paid_with.get(place))
    };
    let mut amounts = BTreeMap::new();
    for one in stated {
        let Some(token) = meant(one) else {
            let symbols = paid_with.iter().map(|token| token.symbol.as_str());
            return Err(PolicyError::Other {
                flag,
                stated: one.to_string(),
                allowed: symbols.collect::<Vec<_>>().join(", "),
            });
        };
        let symbol = || token.symbol.clone();
        let amount = one.amount(token.decimals);
        let amount = amount.map_err(|source| PolicyError::Amount {
            flag,
            symbol: symbol(),
            source,
        })?;
        if amounts.insert(token.address, amount).is_some() {
            let symbol = symbol();
            return Err(PolicyError::Twice { flag, symbol });
        }
    }
    Ok(amounts)
}

/// From the flags of `lethe provide`, which sells for this token.
pub(crate) fn claiming(
    flags: &cli::Sale,
    token: &chain::Token,
) -> Result<ClaimPolicy, PolicyError> {
    Ok(ClaimPolicy {
        threshold: amount("--claim-at", &flags.claim_at, token)?,
        interval: Duration::from_secs(flags.claim_every),
        margin: Duration::from_secs(flags.claim_margin),
        settle_threshold: amount("--settle-at", &flags.settle_at, token)?,
        gas: gas(&flags.gas, token)?,
        ..ClaimPolicy::default()
    })
}

/// From the flags of `lethe tower`: nothing but what a withdrawal would take.
pub(crate) fn watching(
    flags: &cli::Tower,
    token: &chain::Token,
) -> Result<ClaimPolicy, PolicyError> {
    Ok(ClaimPolicy {
        threshold: Amount::new(u128::MAX),
        interval: Duration::MAX,
        margin: Duration::from_secs(flags.claim_margin),
        patience: Duration::from_secs(flags.patience),
        gas: gas(&flags.gas, token)?,
        ..ClaimPolicy::default()
    })
}

fn gas(flags: &cli::Gas, token: &chain::Token) -> Result<Option<GasPolicy>, PolicyError> {
    let Some(price) = &flags.coin_price else {
        return Ok(None);
    };
    Ok(Some(GasPolicy {
        token: token.address,
        coin_price: amount("--coin-price", price, token)?,
        share_percent: flags.gas_share,
    }))
}

/// The policy of a payer, a sentence for each token that it pays in.
pub(crate) fn funding_words(
    policies: &BTreeMap<Address, FundingPolicy>,
    tokens: &TokenViews,
) -> Vec<String> {
    let words = policies.iter().map(|(token, policy)| {
        let token = tokens.get(*token);
        let idle = match policy.withdraw_idle {
            Some(idle) => format!("emptied after {} s without use", idle.as_secs()),
            None => "never emptied by itself (--withdraw-idle)".to_owned(),
        };
        format!(
            "a channel gets {} at a time (--deposit), again below {} (--top-up-below), holds at most {} \
             unspent (--channel-max), and is {idle}",
            token.shown(policy.deposit),
            token.shown(policy.top_up_below),
            token.shown(policy.channel_max),
        )
    });
    words.collect()
}

/// The policy of a provider, in a sentence.
pub(crate) fn claim_words(policy: &ClaimPolicy, token: &TokenView) -> String {
    let gas = match &policy.gas {
        Some(gas) => format!(
            "waits while gas costs more than {} % of it at {} a coin",
            gas.share_percent,
            token.shown(gas.coin_price)
        ),
        None => "does not weigh gas (--coin-price)".to_owned(),
    };
    format!(
        "a claim is made at {} (--claim-at), after {} s (--claim-every), at once when a payer withdraws and at the \
         latest {} s before its delay ends (--claim-margin); it {gas}; paid out from {} on (--settle-at)",
        token.shown(policy.threshold),
        policy.interval.as_secs(),
        policy.margin.as_secs(),
        token.shown(policy.settle_threshold),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// What `lethe consume` puts into channels of the local tokens, MOR first, with these flags.
    fn funded(args: &[&str]) -> Result<Vec<FundingPolicy>, String> {
        let parsed = cli::Cli::parse_from([&["lethe", "consume"][..], args].concat());
        let cli::Command::Consume(flags) = parsed.command else {
            panic!("another command");
        };
        let local = chain::Network::local();
        let accepted = crate::tokens::coins(&local, &[]);
        let funded = funding(&flags.funding, &local.tokens, &accepted);
        funded.map_err(|error| crate::output::with_causes(&error))
    }

    #[test]
    fn the_usual_policy_is_what_the_flags_say_by_default() {
        let said = funded(&[]).unwrap();
        let local = chain::Network::local();
        let usual: Vec<_> = local.tokens.iter().map(usual_funding).collect();
        assert_eq!(said, usual);
        let deposits = said.iter().map(|policy| policy.deposit.base_units());
        let deposits: Vec<_> = deposits.collect();
        assert_eq!(deposits, [1_000_000_000_000_000_000, 1_000_000]);
    }

    #[test]
    fn a_figure_is_of_the_token_that_it_names_and_else_of_the_first() {
        let deposits = |args: &[&str]| {
            let said = funded(args)?;
            let units = said.iter().map(|policy| policy.deposit.base_units());
            Ok(units.collect::<Vec<_>>())
        };
        let one = 10_u128.pow(18);
        for (flags, expected) in [
            (&["--deposit", "50"][..], [50 * one, 1_000_000]),
            (&["--deposit", "20usdc"], [one, 20_000_000]),
            (&["--deposit", "50,20 USDdev"], [50 * one, 20_000_000]),
            (
                &["--deposit", "50 mor", "--deposit", "0.5usdc"],
                [50 * one, 500_000],
            ),
        ] {
            assert_eq!(deposits(flags), Ok(expected.into()), "{flags:?}");
        }
        for (text, told) in [
            (
                "5 USD",
                "in no token that is paid with (--pay-with; allowed: MOR, USDdev)",
            ),
            ("5 dai", "in no token that is paid with"),
            ("5,6mor", "--deposit names MOR more than once"),
            ("0.0000001usdc", "not an amount of USDdev"),
        ] {
            let error: String = deposits(&["--deposit", text]).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn gas_is_weighed_only_where_it_has_a_price() {
        let token = &chain::Network::local().tokens[0];
        let policy = |args: &[&str]| {
            let base = ["lethe", "provide", "--model", "m", "--gguf", "m.gguf"];
            let parsed = cli::Cli::parse_from([&base[..], args].concat());
            let cli::Command::Provide(flags) = parsed.command else {
                panic!("another command");
            };
            claiming(&flags.sale, token)
        };
        assert_eq!(policy(&[]).unwrap().gas, None);
        assert_eq!(policy(&[]).unwrap(), ClaimPolicy::default());
        let weighed = policy(&["--coin-price", "300", "--gas-share", "5"]).unwrap();
        let gas = weighed.gas.unwrap();
        assert_eq!((gas.token, gas.share_percent), (token.address, 5));
        assert!(
            claim_words(
                &weighed,
                &TokenView::new(token, &market::UsdRates::default())
            )
            .contains("5 % of it at 300 MOR a coin")
        );
        let parsed = cli::Cli::try_parse_from(["lethe", "consume", "--deposit", "much"]);
        let error = parsed.unwrap_err().to_string();
        assert!(
            error.contains("--deposit") && error.contains("allowed"),
            "{error}"
        );
    }
}
