//! Where each unit of MOR is: every place that can hold some, and whether the
//! sum is the supply.

use std::collections::{BTreeMap, BTreeSet};

use chain::EvmLedger;
use consumer::{ChannelView, Consumer};
use market::{Address, Amount, AmountOverflow, Ledger, LedgerError};
use serde::{Deserialize, Serialize};

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
    /// The sum is the supply; of one's own money: every place could be read.
    pub(crate) complete: bool,
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
        mut places: Vec<Place>,
        policies: Vec<String>,
    ) -> Result<Self, AmountOverflow> {
        places.retain(|place| !place.amount.is_zero());
        Ok(Self {
            scope: "own".to_owned(),
            supply,
            sum: Amount::sum(places.iter().map(|place| place.amount))?,
            complete: true,
            places,
            policies,
        })
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
    /// Everybody who was ever given MOR, as far as was looked.
    pub(crate) seen: tokio::sync::Mutex<Seen>,
}

/// Everybody who was ever given MOR, up to a block.
#[derive(Default)]
pub(crate) struct Seen {
    accounts: BTreeSet<Address>,
    next_block: u64,
}

impl Holders {
    /// Reads the chain and the consumer's books.
    pub(crate) async fn look(&self, consumer: &Consumer) -> Result<Money, MoneyError> {
        let ledger = &self.ledger;
        let mor = ledger.mor();
        let mut places = vec![place(
            "your wallet".into(),
            "wallet",
            ledger.balance(mor, consumer.payer()).await?,
            "yours at any time",
        )];
        let pseudonyms = consumer.pseudonyms();
        for pseudonym in &pseudonyms {
            let provider = self.name(pseudonym.provider);
            let held = ledger.balance(mor, pseudonym.account).await?;
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
        }
        for (address, name) in &self.providers {
            places.extend(self.provider(*address, name).await?);
        }
        places.extend(self.registry().await?);
        places.extend(self.settlement(&channels).await?);
        let mut treasury = Amount::ZERO;
        for account in &self.treasury {
            treasury = treasury.plus(ledger.balance(mor, *account).await?)?;
        }
        if !treasury.is_zero() {
            places.push(place(
                "treasury".into(),
                "treasury",
                treasury,
                "of the demonstration",
            ));
        }
        let mine = pseudonyms.iter().map(|pseudonym| pseudonym.account);
        let mine = mine.chain([consumer.payer()]).collect();
        places.push(self.others(mine).await?);
        places.retain(|place| !place.amount.is_zero());

        let supply = ledger.supply(mor).await?;
        let sum = Amount::sum(places.iter().map(|place| place.amount))?;
        Ok(Money {
            scope: of_the_market(),
            supply,
            sum,
            complete: sum == supply,
            places,
            policies: self.policies(consumer),
        })
    }

    fn policies(&self, consumer: &Consumer) -> Vec<String> {
        let mut policies = vec![funding_words(consumer.funding())];
        policies.extend(self.claims.iter().map(claim_words));
        policies
    }

    async fn provider(&self, address: Address, name: &str) -> Result<[Place; 2], MoneyError> {
        let mor = self.ledger.mor();
        let wallet = self.ledger.balance(mor, address).await?;
        let receiver = self.ledger.receiver(address, mor).await?;
        let claimed = receiver.total_claimed.less(receiver.total_settled);
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

    async fn registry(&self) -> Result<[Place; 2], MoneyError> {
        let mor = self.ledger.mor();
        let held = self
            .ledger
            .balance(mor, self.ledger.network().registry)
            .await?;
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
    async fn settlement(&self, channels: &[ChannelView]) -> Result<[Place; 1], MoneyError> {
        let mor = self.ledger.mor();
        let mut rest = self
            .ledger
            .balance(mor, self.ledger.domain().settlement)
            .await?;
        for channel in channels {
            rest = rest.less(channel.escrow.less(channel.claimed));
        }
        for address in self.providers.keys() {
            let receiver = self.ledger.receiver(*address, mor).await?;
            rest = rest.less(receiver.total_claimed.less(receiver.total_settled));
        }
        Ok([place(
            "other channels".into(),
            "escrow",
            rest,
            "of payers that this node does not know",
        )])
    }

    /// What accounts hold that nothing above speaks of, by the token's own log.
    async fn others(&self, mine: Vec<Address>) -> Result<Place, MoneyError> {
        let (ledger, mor) = (&self.ledger, self.ledger.mor());
        let mut seen = self.seen.lock().await;
        let (given, latest) = ledger.recipients(mor, seen.next_block).await?;
        seen.accounts.extend(given);
        seen.next_block = latest + 1;

        let mut told: BTreeSet<Address> = self.providers.keys().copied().collect();
        told.extend(&self.treasury);
        told.extend(mine);
        told.extend([ledger.domain().settlement, ledger.network().registry]);
        let mut sum = Amount::ZERO;
        let mut holders = 0usize;
        for account in seen.accounts.difference(&told) {
            let amount = ledger.balance(mor, *account).await?;
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

fn place(label: String, kind: &str, amount: Amount, detail: &str) -> Place {
    Place::new(label, kind, amount, detail)
}
