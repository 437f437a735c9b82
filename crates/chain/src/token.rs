//! Tokens as people call them: symbol and digits after the point, out of the
//! network's profile, or read from the chain once.
//!
//! What a token says of itself was written by whoever made it. A symbol is
//! taken only if it is short and plain, and stands beside the token's address:
//! no token looks like one of the profile's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use alloy::primitives::Address;
use market::{Amount, DECIMALS_MAX, LedgerError};

use crate::bindings::Erc20;
use crate::ledger::EvmLedger;
use crate::profile::{Network, Token};
use crate::rpc::RpcError;

/// The longest symbol that is taken.
const SYMBOL_MAX: usize = 12;
/// Tokens beyond the profile's that are remembered.
const REMEMBERED_MAX: usize = 256;
/// Characters of an address that tell a token from others: 0x and eight digits.
const ADDRESS_SHOWN: usize = 10;

/// What a user may say for the dollar of a network, whatever its symbol is there.
const DOLLAR: &str = "usdc";

/// Tokens that were read.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<BTreeMap<Address, Token>>);

impl Remembered {
    fn find(&self, address: Address) -> Option<Token> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&address).cloned()
    }

    fn keep(&self, token: &Token) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED_MAX {
            known.insert(token.address, token.clone());
        }
    }
}

impl Token {
    /// So much of it, for people: `1.5 MOR`.
    pub fn shown(&self, amount: Amount) -> String {
        format!("{} {}", amount.to_decimal(self.decimals), self.symbol)
    }

    /// One of which nothing is known: amounts are told in its base units.
    pub fn unknown(address: Address) -> Self {
        Self {
            address,
            symbol: format!("base units of {}", short(address)),
            decimals: 0,
            eip3009: None,
        }
    }

    /// One that is not in the profile, by what it says of itself.
    fn foreign(address: Address, symbol: Option<&str>, decimals: u8) -> Self {
        let plain = |symbol: &&str| {
            let fits = (1..=SYMBOL_MAX).contains(&symbol.len());
            fits && symbol.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let symbol = match symbol.filter(plain) {
            Some(symbol) => format!("{symbol}@{}", short(address)),
            None => short(address),
        };
        Self {
            address,
            symbol,
            decimals,
            eip3009: None,
        }
    }
}

fn short(address: Address) -> String {
    address.to_string().chars().take(ADDRESS_SHOWN).collect()
}

impl Network {
    /// The token that a user calls so: by its symbol, `usdc` for the dollar of
    /// a local chain too; none if the profile has none of that name.
    pub fn token_named(&self, name: &str) -> Option<&Token> {
        let by_symbol = |token: &&Token| token.symbol.eq_ignore_ascii_case(name);
        let found = self.tokens.iter().find(by_symbol);
        let dollar = || {
            let wanted = self.is_local() && name.eq_ignore_ascii_case(DOLLAR);
            self.tokens
                .iter()
                .find(|token| wanted && token.address != self.mor)
        };
        found.or_else(dollar)
    }
}

impl Network {
    /// What a user may call one of its tokens, its symbol first.
    pub fn names(&self, token: &Token) -> Vec<String> {
        let mut names = vec![token.symbol.clone()];
        let is_dollar = self
            .token_named(DOLLAR)
            .is_some_and(|dollar| dollar.address == token.address);
        if is_dollar && !token.symbol.eq_ignore_ascii_case(DOLLAR) {
            names.push(DOLLAR.to_owned());
        }
        names
    }
}

impl EvmLedger {
    /// Symbol and digits of a token; one that says neither is told in base units.
    pub async fn token(&self, address: Address) -> Result<Token, LedgerError> {
        if let Some(known) = self.network().token(address) {
            return Ok(known.clone());
        }
        if let Some(known) = self.remembered().find(address) {
            return Ok(known);
        }
        let token = match self.decimals(address).await? {
            Some(decimals) => {
                let symbol = self.symbol(address).await?;
                Token::foreign(address, symbol.as_deref(), decimals)
            }
            None => Token::unknown(address),
        };
        self.remembered().keep(&token);
        Ok(token)
    }

    /// As enough servers say: prices are read and written by it. None: it has none.
    async fn decimals(&self, address: Address) -> Result<Option<u8>, LedgerError> {
        let said = self
            .rpc()
            .decided("a token's decimals", move |endpoint, at| {
                Box::pin(async move {
                    let call = Erc20::decimalsCall {};
                    told(endpoint.view(address, &call, at).await)
                })
            });
        let small = said.await?.and_then(|said| u8::try_from(said).ok());
        Ok(small.filter(|decimals| *decimals <= DECIMALS_MAX))
    }

    async fn symbol(&self, address: Address) -> Result<Option<String>, LedgerError> {
        let said = self.rpc().decided("a token's symbol", move |endpoint, at| {
            Box::pin(async move {
                let call = Erc20::symbolCall {};
                told(endpoint.view(address, &call, at).await)
            })
        });
        Ok(said.await?)
    }
}

/// None: the contract has no such answer.
fn told<T>(answer: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(RpcError::Reverted { .. } | RpcError::Malformed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Some tokens, at hand where nothing can be waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens(BTreeMap<Address, Token>);

impl Tokens {
    /// Those of the profile and these.
    pub async fn read(ledger: &EvmLedger, others: Vec<Address>) -> Result<Self, LedgerError> {
        let mut tokens = Self::of(ledger.network());
        for address in others {
            if let Entry::Vacant(place) = tokens.0.entry(address) {
                place.insert(ledger.token(address).await?);
            }
        }
        Ok(tokens)
    }

    /// Those of the profile.
    pub fn of(network: &Network) -> Self {
        let known = network.tokens.iter();
        Self(known.map(|token| (token.address, token.clone())).collect())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Token> {
        self.0.values()
    }

    /// What is known of one.
    pub fn get(&self, address: Address) -> Token {
        let known = self.0.get(&address).cloned();
        known.unwrap_or_else(|| Token::unknown(address))
    }

    /// So much of one, for people.
    pub fn shown(&self, address: Address, amount: Amount) -> String {
        self.get(address).shown(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Address = Address::repeat_byte(0xab);

    #[test]
    fn a_foreign_token_never_looks_like_one_of_the_profile() {
        let named = |symbol| Token::foreign(SOME, Some(symbol), 6).symbol;
        assert_eq!(named("MOR"), "MOR@0xABaBaBaB");
        let long = "A".repeat(SYMBOL_MAX + 1);
        for hostile in ["", "U\u{202e}DSU", "\x1b[2J", "<b>", "MOR ", "МОR", &long] {
            assert_eq!(named(hostile), "0xABaBaBaB", "{hostile:?}");
        }
        let amount = Amount::new(1_500_000);
        let shown = Token::foreign(SOME, None, 6).shown(amount);
        assert_eq!(shown, "1.5 0xABaBaBaB");
        let unknown = Token::unknown(SOME).shown(amount);
        assert_eq!(unknown, "1500000 base units of 0xABaBaBaB");
    }

    #[test]
    fn usdc_is_the_dollar_of_the_network() {
        let local = Network::local();
        let named = |name| local.token_named(name).map(|token| token.symbol.as_str());
        assert_eq!(named("mor"), Some("MOR"));
        assert_eq!(named("usdc"), Some("USDdev"));
        assert_eq!(named("usddev"), Some("USDdev"));
        assert_eq!(named("dai"), None);
        let base = Network::by_name("base", true).unwrap();
        assert_eq!(
            base.token_named("USDC").map(|token| token.decimals),
            Some(6)
        );
        assert_eq!(base.token_named("usddev"), None);
        assert_eq!(local.names(&local.tokens[1]), ["USDdev", "usdc"]);
        assert_eq!(base.names(&base.tokens[1]), ["USDC"]);
    }
}
