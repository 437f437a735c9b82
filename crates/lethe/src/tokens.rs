//! Tokens as commands, API and page tell them: symbol, digits after the point,
//! and what one is worth in dollars where the owner of the node says so.

use chain::{EvmLedger, Network, Token, Tokens};
use consumer::{ChannelView, Consumer};
use market::{Accepted, Address, Amount, LedgerError, Named, UsdRate, UsdRates};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock;
use crate::output;

/// A token that the user names and that is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(
        "{flag}: network {network:?} has no token {name:?} (allowed: {allowed}, or a token's address)"
    )]
    Unknown {
        flag: &'static str,
        name: String,
        network: String,
        allowed: String,
    },
    #[error(
        "{flag}: the contract at {address} does not say how many decimals it has: it is no token that can be priced"
    )]
    NoDecimals {
        flag: &'static str,
        address: Address,
    },
    #[error(
        "--pay-with names several tokens, and nobody says what {symbol} is worth: prices in it cannot be compared \
         with the others; say it with --usd-rate TOKEN=USD, once for each token, or pay with one"
    )]
    NoRate { symbol: String },
    #[error("{flag}: the token cannot be read from the chain")]
    Ledger {
        flag: &'static str,
        #[source]
        source: LedgerError,
    },
}

impl TokenError {
    /// Whether the flag is why, whatever the chain says at another time.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::NoDecimals { .. } | Self::NoRate { .. } => true,
            Self::Ledger { .. } => false,
        }
    }
}

/// A token as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenView {
    pub(crate) address: Address,
    pub(crate) symbol: String,
    pub(crate) decimals: u8,
    /// None: nobody said what it is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usd: Option<UsdRate>,
}

impl TokenView {
    pub(crate) fn new(token: &Token, usd_rates: &UsdRates) -> Self {
        Self {
            address: token.address,
            symbol: token.symbol.clone(),
            decimals: token.decimals,
            usd: usd_rates.rate(token.address).cloned(),
        }
    }

    /// The same, as it is worth now.
    pub(crate) fn priced(&self, usd_rates: &UsdRates) -> Self {
        Self {
            usd: usd_rates.rate(self.address).cloned(),
            ..self.clone()
        }
    }

    /// So much of it without its name.
    pub(crate) fn figure(&self, amount: Amount) -> String {
        grouped(&amount.to_decimal(self.decimals))
    }

    /// So much of it: `1.5 MOR`.
    pub(crate) fn shown(&self, amount: Amount) -> String {
        let figure = self.figure(amount);
        format!("{figure} {}", output::plain(&self.symbol))
    }

    /// What it is worth, to stand behind an amount: ` ($3.75)`, or nothing.
    pub(crate) fn worth(&self, amount: Amount) -> String {
        match &self.usd {
            Some(rate) => format!(" ({})", grouped(&rate.shown(amount))),
            None => String::new(),
        }
    }

    /// At which rate dollars are told, and by whose word; none without one.
    pub(crate) fn rate_words(&self) -> Option<String> {
        let rate = self.usd.as_ref()?;
        let one = rate.shown(Amount::new(10_u128.checked_pow(self.decimals.into())?));
        let (symbol, source) = (output::plain(&self.symbol), output::plain(&rate.source));
        let age = rate.at.map(|at| {
            let age_s = clock::wall()().since_s(at);
            format!(", {} ago", span(age_s))
        });
        let age = age.unwrap_or_default();
        Some(format!(
            "dollars at {one} for one {symbol} ({source}{age}); only to be read"
        ))
    }
}

/// The same figure with a narrow space between thousands, as the page has it,
/// from five digits on: four are read at a glance.
fn grouped(figure: &str) -> String {
    const FEW: usize = 4;
    let (whole, fraction) = match figure.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (figure, String::new()),
    };
    let (sign, whole) = match whole.strip_prefix('$') {
        Some(digits) => ("$", digits),
        None => ("", whole),
    };
    if whole.len() <= FEW {
        return figure.to_owned();
    }
    let mut text = String::with_capacity(figure.len() + whole.len());
    text.push_str(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text + &fraction
}

/// A span of time in words.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// The tokens of a node, MOR first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TokenViews(Vec<TokenView>);

impl TokenViews {
    /// Those of the network, and these.
    pub(crate) async fn read(
        ledger: &EvmLedger,
        others: Vec<Address>,
        usd_rates: &UsdRates,
    ) -> Result<Self, LedgerError> {
        let mut all = others;
        all.extend(usd_rates.rates().iter().map(|rate| rate.token));
        let tokens = Tokens::read(ledger, all).await?;
        let mut views: Vec<_> = tokens
            .all()
            .map(|token| TokenView::new(token, usd_rates))
            .collect();
        let mor = ledger.network().mor;
        views.sort_by_key(|view| (view.address != mor, view.address));
        Ok(Self(views))
    }

    /// Those of the network, and those that a consumer pays in or has in channels.
    pub(crate) async fn of_consumer(
        ledger: &EvmLedger,
        consumer: &Consumer,
        channels: &[ChannelView],
        usd_rates: &UsdRates,
    ) -> Result<Self, LedgerError> {
        let mut paid: Vec<_> = consumer.funding().keys().copied().collect();
        paid.extend(channels.iter().map(|channel| channel.config.token));
        Self::read(ledger, paid, usd_rates).await
    }

    /// The same, as they are worth now.
    pub(crate) fn priced(&self, usd_rates: &UsdRates) -> Self {
        Self(self.0.iter().map(|view| view.priced(usd_rates)).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TokenView> {
        self.0.iter()
    }

    /// One of them; of another only the address is known.
    pub(crate) fn get(&self, address: Address) -> TokenView {
        let known = self.0.iter().find(|view| view.address == address);
        known
            .cloned()
            .unwrap_or_else(|| TokenView::new(&Token::unknown(address), &UsdRates::default()))
    }
}

/// What a node tells of its tokens, beside those of the network these.
pub(crate) async fn views(
    ledger: &EvmLedger,
    others: Vec<Address>,
    usd_rates: &watch::Receiver<UsdRates>,
) -> Result<TokenViews, TokenError> {
    let now = usd_rates.borrow().clone();
    let views = TokenViews::read(ledger, others, &now).await;
    let flag = "--token";
    views.map_err(|source| TokenError::Ledger { flag, source })
}

/// The token that a flag names.
pub(crate) async fn named(
    ledger: &EvmLedger,
    flag: &'static str,
    name: &Named,
) -> Result<Token, TokenError> {
    let address = match name {
        Named::Address(address) => *address,
        Named::Symbol(symbol) => return of_network(ledger.network(), flag, symbol).cloned(),
    };
    let token = ledger.token(address).await;
    let token = token.map_err(|source| TokenError::Ledger { flag, source })?;
    match token == Token::unknown(address) {
        true => Err(TokenError::NoDecimals { flag, address }),
        false => Ok(token),
    }
}

fn of_network<'a>(
    network: &'a Network,
    flag: &'static str,
    name: &str,
) -> Result<&'a Token, TokenError> {
    network.token_named(name).ok_or_else(|| {
        let symbols = network.tokens.iter().map(|token| token.symbol.clone());
        TokenError::Unknown {
            flag,
            name: name.to_owned(),
            network: network.name.clone(),
            allowed: symbols.collect::<Vec<_>>().join(", "),
        }
    })
}

/// What `both` stands for.
const BOTH: [&str; 2] = ["mor", "usdc"];

/// The tokens that `--pay-with` names, once each.
pub(crate) async fn paid_with(
    ledger: &EvmLedger,
    names: &[Named],
) -> Result<Vec<Token>, TokenError> {
    let mut tokens: Vec<Token> = Vec::new();
    for name in names {
        let meant = match name {
            Named::Symbol(both) if both.eq_ignore_ascii_case("both") => {
                BOTH.map(|one| Named::Symbol(one.to_owned())).into()
            }
            one => vec![one.clone()],
        };
        for name in &meant {
            let token = named(ledger, "--pay-with", name).await?;
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
    Ok(tokens)
}

/// These tokens, to pay with: prices in them can be compared, as long as what they are worth is known.
pub(crate) fn accepted(
    network: &Network,
    tokens: &[Token],
    is_rated: impl Fn(Address) -> bool,
) -> Result<Vec<Accepted>, TokenError> {
    let unrated = tokens.iter().find(|token| !is_rated(token.address));
    if let Some(token) = unrated.filter(|_| tokens.len() > 1) {
        let symbol = token.symbol.clone();
        return Err(TokenError::NoRate { symbol });
    }
    Ok(tokens.iter().map(|token| coin(network, token)).collect())
}

/// What amounts may be stated in: the network's tokens, and these.
pub(crate) fn coins(network: &Network, others: &[Token]) -> Vec<Accepted> {
    let known = |token: &&Token| network.token(token.address).is_none();
    let all = network.tokens.iter().chain(others.iter().filter(known));
    all.map(|token| coin(network, token)).collect()
}

fn coin(network: &Network, token: &Token) -> Accepted {
    Accepted {
        token: token.address,
        decimals: token.decimals,
        names: network.names(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_told_with_its_token_and_its_worth() {
        let network = Network::local();
        let usd_rates = UsdRates::new(vec![UsdRate {
            token: network.mor,
            decimals: 18,
            micro_usd: 2_500_000,
            source: "a test\u{1b}[2J".into(),
            at: None,
        }]);
        let [mor, usd] = [0, 1].map(|at: usize| TokenView::new(&network.tokens[at], &usd_rates));
        let amount = Amount::new(1_500_000_000_000_000_000);
        assert_eq!(mor.shown(amount) + &mor.worth(amount), "1.5 MOR ($3.75)");
        for (tokens, shown) in [
            (9_999, "9999 MOR"),
            (10_000, "10\u{202f}000 MOR"),
            (1_234_567, "1\u{202f}234\u{202f}567 MOR"),
        ] {
            let amount = Amount::new(tokens * 1_000_000_000_000_000_000);
            assert_eq!(mor.shown(amount), shown);
        }
        let many = Amount::new(10_000 * 1_000_000_000_000_000_000);
        assert_eq!(mor.worth(many), " ($25\u{202f}000.00)");
        let words = mor.rate_words().unwrap();
        assert_eq!(
            words,
            "dollars at $2.50 for one MOR (a test[2J); only to be read"
        );
        let mut read = mor.clone();
        if let Some(rate) = &mut read.usd {
            rate.at = Some(market::Timestamp(clock::wall()().0 - 7_300));
        }
        let words = read.rate_words().unwrap();
        assert!(words.contains("(a test[2J, 2 h ago)"), "{words}");
        let amount = Amount::new(1_230_000);
        assert_eq!(usd.shown(amount) + &usd.worth(amount), "1.23 USDdev");
        assert_eq!(usd.rate_words(), None);
    }

    #[test]
    fn a_name_that_the_network_lacks_is_answered_with_those_it_has() {
        let error = of_network(&Network::local(), "--token", "dai").unwrap_err();
        let expected = "--token: network \"local\" has no token \"dai\" (allowed: MOR, USDdev, or a token's address)";
        assert_eq!(error.to_string(), expected);
    }
}
