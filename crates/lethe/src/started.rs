//! What a role says when it has started, beside where it is: its chain, its
//! wallet and what that holds, and what to do next. It never keeps a node from
//! starting: what the chain does not tell is left out.

use chain::{EvmLedger, Token};
use market::{Address, Amount, Ledger, LedgerError};

use crate::buying::Buying;
use crate::config::without_secrets;
use crate::first_money;
use crate::folder::{Folder, Running};
use crate::place::Place;
use crate::policies::MOR_DECIMALS;
use crate::summary;

/// Models that are named.
const MODELS_TOLD: usize = 5;
/// Digits after the point that are told of coins.
const COIN_DIGITS: u32 = 6;
/// Relays that are counted.
const RELAYS_MAX: usize = 100;

/// What `lethe consume` says. `tokens`: what it pays with.
pub(crate) async fn consumer(
    place: &Place,
    buying: &Buying,
    tokens: &[Token],
    running: &Running,
    key: &str,
) -> String {
    let (folder, key_path) = (&place.folder, place.folder.join("api-key"));
    let models = buying.consumer.models();
    let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
    let relays = buying.consumer.relays(RELAYS_MAX).len();
    let data = folder.flag();
    format!(
        "{}\n{}\n{}\nNext: `lethe chat{data}` asks, `lethe top{data}` watches, `lethe where{data}` says where the money is. \
         Ctrl-C stops.",
        summary::consumer(running, key, &key_path),
        stands(place, &buying.ledger, tokens).await,
        on_offer(&names, relays),
    )
}

/// What `lethe provide` and `lethe relay` say below their first line. `tokens`: what it earns.
pub(crate) async fn seller(place: &Place, ledger: &EvmLedger, tokens: &[Token]) -> String {
    let stands = stands(place, ledger, tokens).await;
    format!("{stands}\n{}", next_of_seller(&place.folder))
}

fn next_of_seller(folder: &Folder) -> String {
    let data = folder.flag();
    format!(
        "Next: `lethe top{data}` watches, `lethe where{data}` says where the money is. Ctrl-C stops."
    )
}

/// Its chain and its wallet.
async fn stands(place: &Place, ledger: &EvmLedger, tokens: &[Token]) -> String {
    let (network, url) = (&place.network.name, without_secrets(&place.rpc_url));
    let account = ledger.account();
    let has = match balances(ledger, tokens).await {
        Ok((tokens, coins)) => holds(&tokens, coins),
        Err(_) => "holds what the chain does not tell now".to_owned(),
    };
    wallet(network, &url, account, &has)
}

fn wallet(network: &str, url: &str, account: Address, has: &str) -> String {
    format!("Chain: {network} at {url}\nWallet: {account} {has}")
}

/// MOR, then what else it deals in, then coins.
async fn balances(
    ledger: &EvmLedger,
    tokens: &[Token],
) -> Result<(Vec<(Token, Amount)>, Amount), LedgerError> {
    let mor = first_money::mor(ledger);
    let others = tokens.iter().filter(|token| token.address != mor.address);
    let all = [mor.clone()].into_iter().chain(others.cloned());
    let mut held = Vec::new();
    for token in all {
        let amount = ledger.balance(token.address, ledger.account()).await?;
        held.push((token, amount));
    }
    let coins = ledger.coins(ledger.account()).await?;
    Ok((held, coins))
}

fn holds(tokens: &[(Token, Amount)], coins: Amount) -> String {
    let tokens = tokens.iter().map(|(token, amount)| token.shown(*amount));
    let tokens: Vec<_> = tokens.collect();
    let coins = rounded(coins).to_decimal(MOR_DECIMALS);
    format!("has {} and {coins} ETH for gas", tokens.join(", "))
}

/// Without the digits that nobody reads, if something is left then.
fn rounded(coins: Amount) -> Amount {
    let least = 10_u128.pow(u32::from(MOR_DECIMALS) - COIN_DIGITS);
    let rest = coins.base_units() % least;
    match coins.base_units() < least {
        true => coins,
        false => coins.less(Amount::new(rest)),
    }
}

fn on_offer(names: &[&str], relays: usize) -> String {
    let relays = match relays {
        0 => "no relay".to_owned(),
        1 => "1 relay".to_owned(),
        RELAYS_MAX.. => format!("{RELAYS_MAX} relays or more"),
        relays => format!("{relays} relays"),
    };
    let shown = names.iter().take(MODELS_TOLD).copied();
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(MODELS_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match names.len() {
        0 => format!("Market: nothing on offer so far, {relays}"),
        1 => format!("Market: 1 model ({shown}), {relays}"),
        count => format!("Market: {count} models ({shown}{more}), {relays}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_chain_wallet_and_market_in_a_line_each() {
        let mor = chain::Network::local().tokens[0].clone();
        let units = 1_500_000_000_000_000_000;
        let has = holds(&[(mor, Amount::new(units))], Amount::new(units));
        assert_eq!(has, "has 1.5 MOR and 1.5 ETH for gas");
        let coins = holds(&[], Amount::new(units + 5));
        assert!(coins.ends_with(" and 1.5 ETH for gas"), "{coins}");
        assert_eq!(rounded(Amount::new(7)), Amount::new(7));
        let account = Address::repeat_byte(1);
        let said = wallet("local", "http://h:1", account, &has);
        let expected = format!("Chain: local at http://h:1\nWallet: {account} {has}");
        assert_eq!(said, expected);
        assert_eq!(
            on_offer(&[], 0),
            "Market: nothing on offer so far, no relay"
        );
        assert_eq!(on_offer(&["a"], 2), "Market: 1 model (a), 2 relays");
        let many = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(
            on_offer(&many, 100),
            "Market: 7 models (a, b, c, d, e and 2 more), 100 relays or more"
        );
    }
}
