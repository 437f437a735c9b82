//! What the owner of the money allows, from the flags, and in words for
//! `lethe where`.

use std::collections::BTreeMap;
use std::time::Duration;

use market::{Address, Amount, ClaimPolicy, FundingPolicy, GasPolicy, ParseAmountError};

use crate::cli;
use crate::tokens::{TokenView, TokenViews};

/// MOR, and the chain's own coins, have 18 digits after the point.
pub(crate) const MOR_DECIMALS: u8 = 18;

/// A flag that is no amount.
#[derive(Debug, thiserror::Error)]
#[error("{flag} is not an amount of {symbol}")]
pub(crate) struct PolicyError {
    flag: &'static str,
    symbol: String,
    #[source]
    source: ParseAmountError,
}

/// An amount of a token as the user writes it.
pub(crate) fn amount(
    flag: &'static str,
    text: &str,
    token: &chain::Token,
) -> Result<Amount, PolicyError> {
    Amount::from_decimal(text, token.decimals).map_err(|source| PolicyError {
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

/// From the flags of `lethe consume`: the same figures, in each of the tokens that is paid with.
pub(crate) fn funding(
    flags: &cli::Funding,
    token: &chain::Token,
) -> Result<FundingPolicy, PolicyError> {
    Ok(FundingPolicy {
        deposit: amount("--deposit", &flags.deposit, token)?,
        channel_max: amount("--channel-max", &flags.channel_max, token)?,
        top_up_below: amount("--top-up-below", &flags.top_up_below, token)?,
        withdraw_idle: flags.withdraw_idle.map(Duration::from_secs),
    })
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

    #[test]
    fn the_usual_policy_is_what_the_flags_say_by_default() {
        let parsed = cli::Cli::parse_from(["lethe", "consume"]);
        let cli::Command::Consume(flags) = parsed.command else {
            panic!("another command");
        };
        let local = chain::Network::local();
        for (token, deposit) in local
            .tokens
            .iter()
            .zip([1_000_000_000_000_000_000, 1_000_000])
        {
            let said = funding(&flags.funding, token).unwrap();
            assert_eq!(said, usual_funding(token));
            assert_eq!(said.deposit, Amount::new(deposit));
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
