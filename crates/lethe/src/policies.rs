//! What the owner of the money allows, from the flags, and in words for
//! `lethe where`.

use std::time::Duration;

use market::{Address, Amount, ClaimPolicy, FundingPolicy, GasPolicy, ParseAmountError};

use crate::cli;

/// MOR has 18 digits after the point.
pub(crate) const MOR_DECIMALS: u8 = 18;
const MILLI_MOR: u128 = 1_000_000_000_000_000;

/// A flag that is no amount.
#[derive(Debug, thiserror::Error)]
#[error("{flag} is not an amount of MOR")]
pub(crate) struct PolicyError {
    flag: &'static str,
    #[source]
    source: ParseAmountError,
}

/// MOR as the user writes it.
pub(crate) fn mor(flag: &'static str, text: &str) -> Result<Amount, PolicyError> {
    Amount::from_decimal(text, MOR_DECIMALS).map_err(|source| PolicyError { flag, source })
}

/// What `lethe consume` does if nothing is said, and `lethe up` always.
pub(crate) fn usual_funding() -> FundingPolicy {
    FundingPolicy {
        deposit: Amount::new(1_000 * MILLI_MOR),
        channel_max: Amount::new(10_000 * MILLI_MOR),
        top_up_below: Amount::new(100 * MILLI_MOR),
        withdraw_idle: None,
    }
}

/// From the flags of `lethe consume`.
pub(crate) fn funding(flags: &cli::Funding) -> Result<FundingPolicy, PolicyError> {
    Ok(FundingPolicy {
        deposit: mor("--deposit", &flags.deposit)?,
        channel_max: mor("--channel-max", &flags.channel_max)?,
        top_up_below: mor("--top-up-below", &flags.top_up_below)?,
        withdraw_idle: flags.withdraw_idle.map(Duration::from_secs),
    })
}

/// From the flags of `lethe provide`.
pub(crate) fn claiming(flags: &cli::Sale, token: Address) -> Result<ClaimPolicy, PolicyError> {
    Ok(ClaimPolicy {
        threshold: mor("--claim-at", &flags.claim_at)?,
        interval: Duration::from_secs(flags.claim_every),
        margin: Duration::from_secs(flags.claim_margin),
        settle_threshold: mor("--settle-at", &flags.settle_at)?,
        gas: gas(&flags.gas, token)?,
        ..ClaimPolicy::default()
    })
}

/// From the flags of `lethe tower`: nothing but what a withdrawal would take.
pub(crate) fn watching(flags: &cli::Tower, token: Address) -> Result<ClaimPolicy, PolicyError> {
    Ok(ClaimPolicy {
        threshold: Amount::new(u128::MAX),
        interval: Duration::MAX,
        margin: Duration::from_secs(flags.claim_margin),
        patience: Duration::from_secs(flags.patience),
        gas: gas(&flags.gas, token)?,
        ..ClaimPolicy::default()
    })
}

fn gas(flags: &cli::Gas, token: Address) -> Result<Option<GasPolicy>, PolicyError> {
    let Some(price) = &flags.coin_price else {
        return Ok(None);
    };
    Ok(Some(GasPolicy {
        token,
        coin_price: mor("--coin-price", price)?,
        share_percent: flags.gas_share,
    }))
}

fn shown(amount: Amount) -> String {
    amount.to_decimal(MOR_DECIMALS)
}

/// The policy of a payer, in a sentence.
pub(crate) fn funding_words(policy: &FundingPolicy) -> String {
    let idle = match policy.withdraw_idle {
        Some(idle) => format!("emptied after {} s without use", idle.as_secs()),
        None => "never emptied by itself (--withdraw-idle)".to_owned(),
    };
    format!(
        "a channel gets {} MOR at a time (--deposit), again below {} MOR (--top-up-below), holds at most {} MOR \
         unspent (--channel-max), and is {idle}",
        shown(policy.deposit),
        shown(policy.top_up_below),
        shown(policy.channel_max),
    )
}

/// The policy of a provider, in a sentence.
pub(crate) fn claim_words(policy: &ClaimPolicy) -> String {
    let gas = match &policy.gas {
        Some(gas) => format!(
            "waits while gas costs more than {} % of it at {} MOR a coin",
            gas.share_percent,
            shown(gas.coin_price)
        ),
        None => "does not weigh gas (--coin-price)".to_owned(),
    };
    format!(
        "a claim is made at {} MOR (--claim-at), after {} s (--claim-every), at once when a payer withdraws and at the \
         latest {} s before its delay ends (--claim-margin); it {gas}; paid out from {} MOR on (--settle-at)",
        shown(policy.threshold),
        policy.interval.as_secs(),
        policy.margin.as_secs(),
        shown(policy.settle_threshold),
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
        assert_eq!(funding(&flags.funding).unwrap(), usual_funding());
    }

    #[test]
    fn gas_is_weighed_only_where_it_has_a_price() {
        let token = Address::repeat_byte(1);
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
        assert_eq!((gas.token, gas.share_percent), (token, 5));
        assert!(claim_words(&weighed).contains("5 % of it at 300 MOR a coin"));
        let parsed = cli::Cli::try_parse_from(["lethe", "consume", "--deposit", "much"]);
        let error = parsed.unwrap_err().to_string();
        assert!(
            error.contains("--deposit") && error.contains("allowed"),
            "{error}"
        );
    }
}
