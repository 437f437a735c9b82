//! Where each unit of MOR is: every place that can hold some, and whether all
//! of it agrees with the books of what moved.

use std::collections::BTreeMap;

use chain::EvmLedger;
use consumer::{ChannelView, Consumer};
use market::{Account, Address, Amount, AmountOverflow, Books, Ledger, LedgerError};
use serde::{Deserialize, Serialize};

use crate::bookkeeping::{Bookkeeping, Findings, Statement, uneven};
use crate::chain_watch;
use crate::places::{Paid, Place, name};
use crate::policies::{claim_words, funding_words};

/// All places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Money {
    /// `market`: all MOR there is; `own`: what this data folder holds.
    #[serde(default = "of_the_market")]
    pub(crate) scope: String,
    pub(crate) supply: Amount,
    pub(crate) sum: Amount,
    /// Places, chain and books agree.
    pub(crate) complete: bool,
    /// Where they do not: which account, and how much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
    /// What is wrong around the node, as a clock that is off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    pub(crate) places: Vec<Place>,
    /// What moves money by itself, in words.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
}

fn of_the_market() -> String {
    "market".to_owned()
}

impl Money {
    /// Of one data folder: no more is known than its own places.
    pub(crate) fn own(
        supply: Amount,
        statement: Statement,
        places: Vec<Place>,
        policies: Vec<String>,
        flags: &str,
    ) -> Self {
        let places = told(places, flags);
        let (sum, problems) = statement.end(&places);
        Self {
            scope: "own".to_owned(),
            supply,
            sum,
            complete: problems.is_empty(),
            problems,
            warnings: Vec::new(),
            places,
            policies,
        }
    }

    /// The same, with what is wrong around the node.
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
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

/// Whose money there is.
pub(crate) struct Holders {
    /// The reader.
    pub(crate) ledger: EvmLedger,
    /// Providers by name.
    pub(crate) providers: BTreeMap<Address, String>,
    /// Of a demonstration: where all MOR came from.
    pub(crate) treasury: Vec<Address>,
    /// When the providers claim.
    pub(crate) claims: Option<market::ClaimPolicy>,
    /// What a command needs to work on this folder.
    pub(crate) flags: String,
    /// All that ever moved, as far as was looked.
    pub(crate) books: tokio::sync::Mutex<Bookkeeping>,
}

impl Holders {
    /// Reads the chain and the consumer's books.
    pub(crate) async fn look(&self, consumer: &Consumer) -> Result<Money, MoneyError> {
        let ledger = &self.ledger;
        let mor = ledger.mor();
        let mut books = self.books.lock().await;
        let (books, mut problems) = match books.catch_up(ledger).await? {
            Ok(books) => (books.clone(), vec![]),
            Err(problem) => (Books::default(), vec![problem]),
        };
        let mut findings = Findings::default();
        let mut places = vec![place(
            "your wallet".into(),
            "wallet",
            findings.wallet(ledger, consumer.payer()).await?,
            "yours at any time",
        )];
        for pseudonym in &consumer.pseudonyms() {
            let provider = self.name(pseudonym.provider);
            let held = findings.wallet(ledger, pseudonym.account).await?;
            places.push(place(
                format!("your account for {provider}"),
                "wallet",
                held,
                "yours at any time; the next deposit takes it first",
            ));
        }
        let channels: Vec<_> = consumer
            .channels()
            .await?
            .into_iter()
            .filter(|c| c.config.token == mor)
            .collect();
        for channel in &channels {
            let to = self.name(channel.config.receiver);
            places.extend(Paid::from(channel).places(ledger.network(), &to));
            let id = channel.config.id(&ledger.domain());
            let held = channel.escrow.less(channel.claimed);
            findings.found(Account::Escrow(id), held);
        }
        for (address, name) in &self.providers {
            places.extend(self.provider(*address, name, &mut findings).await?);
        }
        places.extend(self.registry(&mut findings).await?);
        places.push(self.settlement(&channels, &mut findings).await?);
        places.extend(self.treasury(&mut findings).await?);
        places.push(self.others(&books, &mut findings).await?);
        let places = told(places, &self.flags);

        let supply = ledger.supply(mor).await?;
        findings.found(Account::Issue, supply);
        if problems.is_empty() {
            let settlement = ledger.domain().settlement;
            problems = findings.differences(&books, mor, settlement);
            problems.extend(uneven(&places, books.issued(mor)));
        }
        Ok(Money {
            scope: of_the_market(),
            supply,
            sum: Amount::sum(places.iter().map(|place| place.amount))?,
            complete: problems.is_empty(),
            problems,
            warnings: chain_watch::warnings(ledger).await,
            places,
            policies: self.policies(consumer),
        })
    }

    /// Where all MOR of a demonstration came from.
    async fn treasury(&self, findings: &mut Findings) -> Result<Option<Place>, MoneyError> {
        let mut treasury = Amount::ZERO;
        for account in &self.treasury {
            treasury = treasury.plus(findings.wallet(&self.ledger, *account).await?)?;
        }
        let words = "of the demonstration";
        let told = place("treasury".into(), "treasury", treasury, words);
        Ok((!treasury.is_zero()).then_some(told))
    }

    fn policies(&self, consumer: &Consumer) -> Vec<String> {
        let mut policies = vec![funding_words(consumer.funding())];
        policies.extend(self.claims.iter().map(claim_words));
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
                "earned",
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
        channels: &[ChannelView],
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
        let mor = self.ledger.mor();
        let (mut sum, mut holders) = (Amount::ZERO, 0usize);
        for (token, account, _) in books.accounts() {
            let Account::Wallet(owner) = account else {
                continue;
            };
            if token != mor || findings.has(account) {
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

/// Those that hold something, with commands that work as they are.
fn told(places: Vec<Place>, flags: &str) -> Vec<Place> {
    let some = places.into_iter().filter(|place| !place.amount.is_zero());
    some.map(|place| place.with_flags(flags)).collect()
}

fn place(label: String, kind: &str, amount: Amount, detail: &str) -> Place {
    Place::new(label, kind, amount, detail)
}
