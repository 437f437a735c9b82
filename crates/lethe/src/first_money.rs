//! What a wallet on a public network lacks before it can begin, and how it
//! gets there. On a local chain the treasury sees to it, once; only who has
//! nothing left is told there.

use chain::{EvmLedger, Token};
use market::{Address, Amount, Ledger, LedgerError};

use crate::output;
use crate::place::{Place, cast_flag};
use crate::policies::MOR_DECIMALS;

/// Gas of a good start: registering, or the first channels, and a way out.
const GAS: u128 = 3_000_000;
/// Gas prices change: so many times of what it costs now.
const MARGIN: u128 = 2;
/// The least that is asked for, in wei: 0.001 coins.
const COINS_MIN: u128 = 1_000_000_000_000_000;

/// What an account begins with, of one token.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) token: Token,
    pub(crate) amount: Amount,
    /// What it is for.
    pub(crate) purpose: &'static str,
}

/// MOR, as the network has it.
pub(crate) fn mor(ledger: &EvmLedger) -> Token {
    let network = ledger.network();
    let known = network.token(network.mor).cloned();
    known.unwrap_or_else(|| Token::unknown(network.mor))
}

/// Whether an account has nothing of any of these.
pub(crate) async fn has_none(ledger: &EvmLedger, of: &[Wanted]) -> Result<bool, LedgerError> {
    for one in of {
        let held = ledger.balance(one.token.address, ledger.account()).await?;
        if !held.is_zero() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says what is missing, if something is.
pub(crate) async fn tell(
    place: &Place,
    ledger: &EvmLedger,
    wanted: Vec<Wanted>,
) -> Result<(), LedgerError> {
    let account = ledger.account();
    let price = ledger.gas_price().await?.base_units();
    let coins = GAS.saturating_mul(MARGIN).saturating_mul(price);
    let mut lacking = Vec::new();
    for one in wanted {
        let has = ledger.balance(one.token.address, account).await?;
        let amount = missing(has, one.amount);
        if !amount.is_zero() {
            lacking.push(Wanted { amount, ..one });
        }
    }
    let lack = Lack {
        account,
        coins: missing(
            ledger.coins(account).await?,
            Amount::new(coins.max(COINS_MIN)),
        ),
        tokens: lacking,
        network: &place.network.name,
        rpc_url: &place.rpc_url,
    };
    if let Some(words) = lack.words() {
        output::aside(words);
    }
    Ok(())
}

/// Nothing, as long as a quarter of it is there.
fn missing(has: Amount, wanted: Amount) -> Amount {
    match has.base_units() < wanted.base_units().div_ceil(4) {
        true => wanted.less(has),
        false => Amount::ZERO,
    }
}

struct Lack<'a> {
    account: Address,
    coins: Amount,
    tokens: Vec<Wanted>,
    network: &'a str,
    rpc_url: &'a str,
}

impl Lack<'_> {
    fn words(&self) -> Option<String> {
        if self.coins.is_zero() && self.tokens.is_empty() {
            return None;
        }
        let Self {
            account, network, ..
        } = self;
        let url = cast_flag(self.rpc_url);
        let mut text = format!("The wallet {account} on {network} has to be funded first:");
        if !self.coins.is_zero() {
            let coins = self.coins.to_decimal(MOR_DECIMALS);
            text.push_str(&format!(
                "\n  {coins} ETH for gas:\n    cast send {account} --value {coins}ether {url} --interactive"
            ));
        }
        for Wanted {
            token,
            amount,
            purpose,
        } in &self.tokens
        {
            text.push_str(&format!(
                "\n  {} {purpose}:\n    cast send {} 'transfer(address,uint256)' {account} {} {url} --interactive",
                token.shown(*amount),
                token.address,
                amount.base_units()
            ));
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(coins: u128, mor: u128, rpc_url: &str) -> Option<String> {
        let lack = Lack {
            account: Address::repeat_byte(1),
            coins: Amount::new(coins),
            tokens: match mor {
                0 => vec![],
                mor => vec![Wanted {
                    token: chain::Network::local().tokens[0].clone(),
                    amount: Amount::new(mor),
                    purpose: "for the stake",
                }],
            },
            network: "base",
            rpc_url,
        };
        lack.words()
    }

    #[test]
    fn what_is_missing_is_told_with_the_line_that_sends_it() {
        assert_eq!(lack(0, 0, "http://rpc"), None);
        let both = lack(COINS_MIN, 5 * COINS_MIN, "http://rpc").unwrap();
        assert!(
            both.contains("--value 0.001ether --rpc-url http://rpc"),
            "{both}"
        );
        assert!(both.contains("0.005 MOR for the stake"), "{both}");
        assert!(both.contains(" 5000000000000000 --rpc-url"), "{both}");
        let secret = lack(1, 0, "https://rpc.example.org/v2/0123456789abcdef0123").unwrap();
        assert!(
            !secret.contains("0123456789") && secret.contains("$ETH_RPC_URL"),
            "{secret}"
        );
        assert!(!secret.contains("MOR"), "{secret}");
    }

    #[test]
    fn who_has_a_quarter_is_left_alone() {
        let missing = |has, wanted| missing(Amount::new(has), Amount::new(wanted)).base_units();
        assert_eq!(
            (missing(0, 100), missing(24, 100), missing(25, 100)),
            (100, 76, 0)
        );
        assert_eq!(missing(0, 0), 0);
    }
}
