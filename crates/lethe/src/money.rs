//! Where each unit of money is, token by token: every place that can hold some,
//! and whether all of it agrees with the books of what moved. No two tokens are
//! ever added.

use std::collections::BTreeMap;

use chain::EvmLedger;
use consumer::{ChannelView, Consumer};
use market::{Account, Address, Amount, AmountOverflow, Books, Ledger, LedgerError, UsdRates};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::bookkeeping::{Bookkeeping, Findings, Statement, uneven};
use crate::chain_watch;
use crate::estate::WALLET;
use crate::output;
use crate::place::Spare;
use crate::places::{Paid, Place, apart, name};
use crate::policies::{claim_words, funding_words};
use crate::pseudonyms::payer_name;
use crate::tokens::{TokenView, TokenViews};

/// All places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Money {
    /// `market`: all money there is; `own`: what this data folder holds.
    #[serde(default = "of_the_market")]
    pub(crate) scope: String,
    /// All MOR there is.
    pub(crate) supply: Amount,
    /// The MOR in these places.
    pub(crate) sum: Amount,
    /// Places, chain and books agree, for each token.
    pub(crate) complete: bool,
    /// Where they do not: which account, and how much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
    /// What is wrong around the node, as a clock that is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Those that hold MOR.
    pub(crate) places: Vec<Place>,
    /// The same of each other token of which there is some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<Holding>,
    /// What moves money by itself, in words.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// What a whole MOR is called, and worth.
    pub(crate) token: TokenView,
}

/// All places that hold some of one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    pub(crate) token: TokenView,
    /// All there is of it.
    pub(crate) supply: Amount,
    pub(crate) sum: Amount,
    pub(crate) places: Vec<Place>,
}

/// A holding, and what does not agree.
pub(crate) type Audited = (Holding, Vec<String>);

fn of_the_market() -> String {
    "market".to_owned()
}

impl Holding {
    /// Of one data folder: no more is known than its own places.
    pub(crate) fn own(
        supply: Amount,
        statement: Statement,
        places: Vec<Place>,
        flags: &str,
    ) -> Audited {
        let places = told(places, flags);
        let token = statement.token().clone();
        let (sum, problems) = statement.end(&places);
        let holding = Self {
            token,
            supply,
            sum,
            places,
        };
        (holding, problems)
    }
}

impl Money {
    /// Of these tokens, MOR first; others are left out where there is nothing of them.
    pub(crate) fn new(
        scope: &str,
        mor: Audited,
        others: Vec<Audited>,
        policies: Vec<String>,
    ) -> Self {
        let (mor, mut problems) = mor;
        let mut kept = Vec::new();
        for (holding, unlike) in others {
            if !holding.places.is_empty() || !unlike.is_empty() {
                kept.push(holding);
            }
            problems.extend(unlike);
        }
        Self {
            scope: scope.to_owned(),
            supply: mor.supply,
            sum: mor.sum,
            complete: problems.is_empty(),
            problems,
            warnings: Vec::new(),
            places: mor.places,
            others: kept,
            policies,
            token: mor.token,
        }
    }

    /// The same, with what is wrong around the node.
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// Token by token, MOR first.
    pub(crate) fn holdings(&self) -> impl Iterator<Item = (&TokenView, &[Place], Amount, Amount)> {
        let mor = (&self.token, self.places.as_slice(), self.sum, self.supply);
        let others = self.others.iter().map(|other| {
            (
                &other.token,
                other.places.as_slice(),
                other.sum,
                other.supply,
            )
        });
        std::iter::once(mor).chain(others)
    }
}

/// Why the money cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoneyError {
    #[error("the chain cannot be read")]
    Ledger(#[from] LedgerError),
    #[error("the books do not add up")]
    Overflow(#[from] AmountOverflow),
}

impl MoneyError {
    /// For people: which server of the chain does not answer, and what to do.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Ledger(LedgerError::Unreachable(cause)) => format!(
                "the chain cannot be read: {cause}; is its server running (`lethe chain`, or the `lethe up` that it is \
                 of)? `lethe doctor` looks at it"
            ),
            error => output::with_causes(error),
        }
    }
}

/// Whose money there is.
pub(crate) struct Holders {
    /// The reader.
    pub(crate) ledger: EvmLedger,
    /// Providers by name.
    pub(crate) providers: BTreeMap<Address, String>,
    /// Accounts of the folder that nothing of the market uses.
    pub(crate) spares: Vec<Spare>,
    /// Of a demonstration: where all money came from.
    pub(crate) treasury: Vec<Address>,
    /// When the providers claim.
    pub(crate) claims: Option<market::ClaimPolicy>,
    /// What a command needs to work on this folder.
    pub(crate) flags: String,
    /// What tokens are worth.
    pub(crate) usd_rates: watch::Receiver<UsdRates>,
    /// All that ever moved of each token, as far as was looked.
    pub(crate) books: tokio::sync::Mutex<BTreeMap<Address, Bookkeeping>>,
}

impl Holders {
    /// Reads the chain and the consumer's books.
    pub(crate) async fn look(&self, consumer: &Consumer) -> Result<Money, MoneyError> {
        let ledger = &self.ledger;
        let channels = consumer.channels().await?;
        let usd_rates = self.usd_rates.borrow().clone();
        let tokens = TokenViews::of_consumer(ledger, consumer, &channels, &usd_rates).await?;
        let mut all = Vec::new();
        for token in tokens.iter() {
            all.push(self.audit(consumer, &channels, token).await?);
        }
        let mor = all.remove(0);
        let money = Money::new("market", mor, all, self.policies(consumer, &tokens));
        Ok(money.with_warnings(chain_watch::warnings(ledger).await))
    }

    /// One token's places, compared with what moved. Of a token that nobody
    /// of this node has there are none.
    async fn audit(
        &self,
        consumer: &Consumer,
        channels: &[ChannelView],
        token: &TokenView,
    ) -> Result<Audited, MoneyError> {
        let ledger = &self.ledger;
        let channels: Vec<_> = channels
            .iter()
            .filter(|channel| channel.config.token == token.address)
            .collect();
        let mut findings = Findings::new(token.clone());
        let mut places = self.bought(consumer, &channels, &mut findings).await?;
        for (address, name) in &self.providers {
            places.extend(self.provider(*address, name, &mut findings).await?);
        }
        let supply = ledger.supply(token.address).await?;
        let is_mor = token.address == ledger.mor();
        let is_nothing = |place: &Place| place.amount.is_zero() && !place.stays;
        if !is_mor && places.iter().all(is_nothing) {
            let nothing = Holding {
                token: token.clone(),
                supply,
                sum: Amount::ZERO,
                places: Vec::new(),
            };
            return Ok((nothing, Vec::new()));
        }
        let mut books = self.books.lock().await;
        let book = books.entry(token.address);
        let book = book.or_insert_with(|| Bookkeeping::new(token.clone()));
        let (books, mut problems) = match book.catch_up(ledger).await? {
            Ok(books) => (books.clone(), vec![]),
            Err(problem) => (Books::default(), vec![problem]),
        };
        if is_mor {
            places.extend(self.registry(&mut findings).await?);
        }
        places.push(self.settlement(&channels, &mut findings).await?);
        places.extend(self.treasury(&mut findings).await?);
        places.push(self.others(&books, &mut findings).await?);
        let places = told(places, &self.flags);
        findings.found(Account::Issue, supply);
        if problems.is_empty() {
            let settlement = ledger.domain().settlement;
            problems = findings.differences(&books, settlement);
            problems.extend(uneven(&places, books.issued(token.address), token));
        }
        let holding = Holding {
            token: token.clone(),
            supply,
            sum: Amount::sum(places.iter().map(|place| place.amount))?,
            places,
        };
        Ok((holding, problems))
    }

    /// What the consumer has.
    async fn bought(
        &self,
        consumer: &Consumer,
        channels: &[&ChannelView],
        findings: &mut Findings,
    ) -> Result<Vec<Place>, MoneyError> {
        let ledger = &self.ledger;
        let mut places = vec![
            place(
                "your wallet".into(),
                "wallet",
                findings.wallet(ledger, consumer.payer()).await?,
                "yours at any time",
            )
            .staying(consumer.funding().contains_key(&findings.token().address)),
        ];
        for spare in &self.spares {
            places.push(spare.holding(findings.wallet(ledger, spare.address).await?));
        }
        let mut keys = BTreeMap::new();
        for pseudonym in &consumer.pseudonyms() {
            keys.insert(pseudonym.account, payer_name(pseudonym.number));
            let provider = self.name(pseudonym.provider);
            let held = findings.wallet(ledger, pseudonym.account).await?;
            places.push(place(
                format!("your account for {provider}"),
                "wallet",
                held,
                "yours at any time; the next deposit takes it first",
            ));
        }
        for channel in channels {
            let paid = Paid::from(*channel);
            let to = paid.to(&self.name(channel.config.receiver));
            let key = keys.get(&channel.config.payer);
            let key = key.map_or(WALLET, String::as_str);
            places.extend(paid.places(ledger.network(), (&to, key)));
            let id = channel.config.id(&ledger.domain());
            let held = channel.escrow.less(channel.claimed);
            findings.found(Account::Escrow(id), held);
        }
        Ok(places)
    }

    /// Where all money of a demonstration came from.
    async fn treasury(&self, findings: &mut Findings) -> Result<Option<Place>, MoneyError> {
        let mut treasury = Amount::ZERO;
        for account in &self.treasury {
            treasury = treasury.plus(findings.wallet(&self.ledger, *account).await?)?;
        }
        let words = "of the demonstration";
        let told = place("treasury".into(), "treasury", treasury, words);
        Ok((!treasury.is_zero()).then_some(told))
    }

    fn policies(&self, consumer: &Consumer, tokens: &TokenViews) -> Vec<String> {
        let mut policies = funding_words(consumer.funding(), tokens);
        let mor = tokens.get(self.ledger.mor());
        let claims = self.claims.iter().map(|claims| claim_words(claims, &mor));
        policies.extend(claims);
        policies
    }

    async fn provider(
        &self,
        address: Address,
        name: &str,
        findings: &mut Findings,
    ) -> Result<[Place; 2], MoneyError> {
        let wallet = findings.wallet(&self.ledger, address).await?;
        let claimed = findings.earned(&self.ledger, address).await?;
        Ok([
            place(
                format!("{name}: wallet"),
                "wallet",
                wallet,
                "its operator's at any time",
            ),
            place(
                format!("{name}: claimed"),
                "earned",
                claimed,
                "the provider's when anybody settles it",
            ),
        ])
    }

    async fn registry(&self, findings: &mut Findings) -> Result<[Place; 2], MoneyError> {
        let registry = self.ledger.network().registry;
        let held = findings.wallet(&self.ledger, registry).await?;
        let stakes = self
            .ledger
            .providers()
            .await?
            .into_iter()
            .map(|provider| provider.stake);
        let stakes = Amount::sum(stakes)?;
        let rest = held.less(stakes);
        let stakes = held.less(rest);
        Ok([
            place(
                "registry: stakes".into(),
                "stake",
                stakes,
                "of providers; back when they leave",
            ),
            place(
                "registry: models and fees".into(),
                "stake",
                rest,
                "stakes of models, fees of bids",
            ),
        ])
    }

    /// What the settlement contract holds beyond the channels and receivers that are known here.
    async fn settlement(
        &self,
        channels: &[&ChannelView],
        findings: &mut Findings,
    ) -> Result<Place, MoneyError> {
        let settlement = self.ledger.domain().settlement;
        let mut rest = findings.wallet(&self.ledger, settlement).await?;
        for channel in channels {
            rest = rest.less(channel.escrow.less(channel.claimed));
        }
        for address in self.providers.keys() {
            rest = rest.less(findings.earned(&self.ledger, *address).await?);
        }
        Ok(place(
            "other channels".into(),
            "escrow",
            rest,
            "of payers that this node does not know",
        ))
    }

    /// What accounts hold that nothing above speaks of, by the token's own log.
    async fn others(&self, books: &Books, findings: &mut Findings) -> Result<Place, MoneyError> {
        let own = findings.token().address;
        let (mut sum, mut holders) = (Amount::ZERO, 0usize);
        for (token, account, _) in books.accounts() {
            let Account::Wallet(owner) = account else {
                continue;
            };
            if token != own || findings.has(account) {
                continue;
            }
            let amount = findings.wallet(&self.ledger, owner).await?;
            holders += usize::from(!amount.is_zero());
            sum = sum.plus(amount)?;
        }
        let detail = format!("of {holders} accounts that this node does not run");
        Ok(place("other accounts".into(), "wallet", sum, &detail))
    }

    fn name(&self, provider: Address) -> String {
        name(&self.providers, provider)
    }
}

/// Those that hold something, or stay, with commands that work as they are.
fn told(places: Vec<Place>, flags: &str) -> Vec<Place> {
    let places = places.into_iter();
    let some = places.filter(|place| place.stays || !place.amount.is_zero());
    apart(some.map(|place| place.with_flags(flags)).collect())
}

fn place(label: String, kind: &str, amount: Amount, detail: &str) -> Place {
    Place::new(label, kind, amount, detail)
}
