//! A node's own money and state, told by the node itself while it runs: the
//! same at `/api/money` and `/api/state` of a consumer's gateway and of a
//! provider's local door.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chain::EvmLedger;
use consumer::{AnswerView, Consumer, ModelView};
use market::{Address, Amount, Ledger};
use provider::{Provider, Status};
use serde::Serialize;

use crate::bookkeeping::Statement;
use crate::chain_watch;
use crate::doorkeeper::{guarded, refuse};
use crate::estate::{Account, Estate, EstateError, Role};
use crate::money::{Money, MoneyError};
use crate::places::{Paid, Place, Seller, name};
use crate::policies::{claim_words, funding_words};

/// Whose money is told.
pub(crate) struct Own {
    pub(crate) whose: Whose,
    /// The reader.
    pub(crate) ledger: EvmLedger,
    /// What a command needs to work on the node's folder.
    pub(crate) flags: String,
}

/// Which role of a node.
pub(crate) enum Whose {
    /// A consumer's.
    Consumer(Consumer),
    /// A provider's.
    Provider(Arc<Provider>),
}

/// What runs, in the words of the dashboard's state; it needs no chain.
#[derive(Debug, Default, Serialize)]
struct Running {
    version: &'static str,
    models: Vec<ModelView>,
    answers: Vec<AnswerView>,
    sellers: Vec<Selling>,
}

#[derive(Debug, Serialize)]
struct Selling {
    name: &'static str,
    #[serde(flatten)]
    status: Status,
}

impl Own {
    /// Its routes, behind the node's key.
    pub(crate) fn routes(self, key: &str) -> Router {
        let routes = [("/api/money", get(money)), ("/api/state", get(state))];
        guarded(routes, key).with_state(Arc::new(self))
    }

    fn running(&self) -> Running {
        let version = env!("CARGO_PKG_VERSION");
        match &self.whose {
            Whose::Consumer(consumer) => Running {
                version,
                models: consumer.models(),
                answers: consumer.recent(),
                ..Running::default()
            },
            Whose::Provider(provider) => Running {
                version,
                sellers: vec![Selling {
                    name: "provider",
                    status: provider.status(),
                }],
                ..Running::default()
            },
        }
    }

    async fn look(&self) -> Result<Money, MoneyError> {
        let (ledger, flags) = (&self.ledger, &self.flags);
        match &self.whose {
            Whose::Consumer(consumer) => {
                let mor = ledger.mor();
                let mut statement = Statement::new(mor, []);
                let mut places = vec![wallet(ledger, consumer.payer(), &mut statement).await?];
                for pseudonym in consumer.pseudonyms() {
                    let (account, to) = (pseudonym.account, pseudonym.provider.to_string());
                    places.push(account_for(ledger, account, &to, &mut statement).await?);
                }
                for view in consumer.channels().await? {
                    if view.config.token == mor {
                        let to = view.config.receiver.to_string();
                        let paid = Paid::from(&view);
                        statement.channel(view.config.id(&ledger.domain()), &paid.state);
                        places.extend(paid.places(ledger.network(), &to));
                    }
                }
                let words = vec![funding_words(consumer.funding())];
                let supply = ledger.supply(mor).await?;
                let money = Money::own(supply, statement, places, words, flags);
                Ok(money.with_warnings(chain_watch::warnings(ledger).await))
            }
            Whose::Provider(provider) => {
                let seller = Seller {
                    ledger,
                    account: ledger.account(),
                    name: "provider",
                    tills: &provider.tills(),
                };
                let words = vec![claim_words(provider.claim_policy())];
                let supply = ledger.supply(ledger.mor()).await?;
                let mut statement = Statement::new(ledger.mor(), []);
                let places = seller.places(&mut statement).await?;
                let money = Money::own(supply, statement, places, words, flags);
                Ok(money.with_warnings(chain_watch::warnings(ledger).await))
            }
        }
    }
}

async fn money(State(own): State<Arc<Own>>) -> Response {
    match own.look().await {
        Ok(money) => Json(money).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn state(State(own): State<Arc<Own>>) -> Json<Running> {
    Json(own.running())
}

async fn wallet(
    ledger: &EvmLedger,
    account: Address,
    statement: &mut Statement,
) -> Result<Place, MoneyError> {
    let held = ledger.balance(ledger.mor(), account).await?;
    statement.wallet(account, held);
    Ok(Place::new(
        "your wallet",
        "wallet",
        held,
        "yours at any time",
    ))
}

async fn account_for(
    ledger: &EvmLedger,
    account: Address,
    to: &str,
    statement: &mut Statement,
) -> Result<Place, MoneyError> {
    let held = ledger.balance(ledger.mor(), account).await?;
    statement.wallet(account, held);
    let detail = "yours at any time; the next deposit takes it first";
    let label = format!("your account for {to}");
    Ok(Place::new(label, "wallet", held, detail))
}

/// Why a folder's money cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnError {
    #[error(transparent)]
    Estate(#[from] EstateError),
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// The money of a folder on which no node runs.
pub(crate) async fn of_folder(estate: &Estate) -> Result<Money, OwnError> {
    let mut places = Vec::new();
    let Some(ledger) = estate.reader().await? else {
        let nothing = Statement::default();
        return Ok(Money::own(Amount::ZERO, nothing, places, vec![], ""));
    };
    let purses = estate.accounts.iter().flat_map(|account| &account.purses);
    let paid = purses.map(|purse| purse.config.id(&ledger.domain()));
    let mut statement = Statement::new(ledger.mor(), paid);
    let mut names = BTreeMap::new();
    for account in estate.accounts.iter().filter(|a| a.role == Role::Seller) {
        names.insert(account.address(), account.name.clone());
    }
    for account in &estate.accounts {
        places.extend(places_of(account, &ledger, &names, &mut statement).await?);
    }
    let supply = ledger.supply(ledger.mor()).await;
    let words = vec!["no node runs on this folder: nothing moves by itself".to_owned()];
    let supply = supply.map_err(MoneyError::from)?;
    let flags = estate.place.flags();
    let money = Money::own(supply, statement, places, words, &flags);
    Ok(money.with_warnings(chain_watch::warnings(&ledger).await))
}

async fn places_of(
    account: &Account,
    ledger: &EvmLedger,
    names: &BTreeMap<Address, String>,
    statement: &mut Statement,
) -> Result<Vec<Place>, MoneyError> {
    let mut places = match account.role {
        Role::Seller => {
            let seller = Seller {
                ledger,
                account: account.address(),
                name: &account.name,
                tills: &account.tills,
            };
            seller.places(statement).await?
        }
        Role::Wallet => vec![wallet(ledger, account.address(), statement).await?],
        Role::Pseudonym => {
            let to = account.purses.first().map(|purse| purse.config.receiver);
            let to = name(names, to.unwrap_or_default());
            vec![account_for(ledger, account.address(), &to, statement).await?]
        }
    };
    for purse in &account.purses {
        if purse.config.token == ledger.mor() {
            let to = name(names, purse.config.receiver);
            let paid = Paid::read(ledger, purse).await?;
            statement.channel(purse.config.id(&ledger.domain()), &paid.state);
            places.extend(paid.places(ledger.network(), &to));
        }
    }
    Ok(places)
}
