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
use consumer::{AnswerView, ChannelView, Consumer, ModelView};
use market::{Address, Ledger, LedgerError, UsdRates};
use provider::{Provider, Status, TillView};
use serde::Serialize;
use tokio::sync::watch;

use crate::bookkeeping::Statement;
use crate::chain_watch;
use crate::doorkeeper::{guarded, refuse};
use crate::estate::{Account, Estate, EstateError, Role, WALLET};
use crate::money::{Audited, Holding, Money, MoneyError};
use crate::output;
use crate::place::Spare;
use crate::places::{Paid, Place, Seller, host_words, name};
use crate::policies::{MOR_DECIMALS as COIN_DECIMALS, claim_words, funding_words};
use crate::pseudonyms::payer_name;
use crate::rates;
use crate::tokens::{TokenView, TokenViews};
use crate::when::When;

/// Whose money is told.
pub(crate) struct Own {
    pub(crate) whose: Whose,
    /// The reader.
    pub(crate) ledger: EvmLedger,
    /// What a command needs to work on the node's folder.
    pub(crate) flags: String,
    /// Accounts of its folder that it does not use.
    pub(crate) spares: Vec<Spare>,
    /// What tokens are worth.
    pub(crate) usd_rates: watch::Receiver<UsdRates>,
    /// The tokens that it deals in.
    pub(crate) tokens: TokenViews,
}

/// Which role of a node.
pub(crate) enum Whose {
    /// A consumer's.
    Consumer(Consumer),
    /// A provider's, the token that it sells for, and when it does so, if not always.
    Provider(Arc<Provider>, Address, Option<When>),
    /// A relay's or a tower's, who earn nothing: a wallet, and a stake if it has one.
    Staker {
        /// What it is called.
        name: &'static str,
    },
}

/// What runs, in the words of the dashboard's state; it needs no chain.
#[derive(Debug, Default, Serialize)]
struct Running {
    version: &'static str,
    tokens: TokenViews,
    models: Vec<ModelView>,
    answers: Vec<AnswerView>,
    sellers: Vec<Selling>,
}

#[derive(Debug, Serialize)]
struct Selling {
    name: &'static str,
    /// Until when it rests, in words; none: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    rests: Option<String>,
    #[serde(flatten)]
    status: Status,
}

impl Own {
    /// A relay's or a tower's.
    pub(crate) async fn staker(
        name: &'static str,
        ledger: &EvmLedger,
        flags: String,
        spares: Vec<Spare>,
    ) -> Result<Self, LedgerError> {
        Ok(Self {
            whose: Whose::Staker { name },
            tokens: TokenViews::read(ledger, vec![], &UsdRates::default()).await?,
            ledger: ledger.clone(),
            flags,
            spares,
            usd_rates: watch::channel(UsdRates::default()).1,
        })
    }

    /// Its routes, behind the node's key.
    pub(crate) fn routes(self, key: &str) -> Router {
        let routes = [("/api/money", get(money)), ("/api/state", get(state))];
        guarded(routes, key).with_state(Arc::new(self))
    }

    /// What tokens are worth now.
    fn usd_rates(&self) -> UsdRates {
        self.usd_rates.borrow().clone()
    }

    fn running(&self) -> Running {
        let version = env!("CARGO_PKG_VERSION");
        match &self.whose {
            Whose::Consumer(consumer) => Running {
                version,
                tokens: self.tokens.priced(&self.usd_rates()),
                models: consumer.models(),
                answers: consumer.recent(),
                ..Running::default()
            },
            Whose::Provider(provider, _, when) => {
                let status = provider.status();
                let when = when.as_ref().filter(|_| status.resting);
                Running {
                    version,
                    tokens: self.tokens.priced(&self.usd_rates()),
                    sellers: vec![Selling {
                        name: "provider",
                        rests: when.map(When::rest),
                        status,
                    }],
                    ..Running::default()
                }
            }
            Whose::Staker { .. } => Running {
                version,
                tokens: self.tokens.priced(&self.usd_rates()),
                ..Running::default()
            },
        }
    }

    /// All of it.
    pub(crate) async fn look(&self) -> Result<Money, MoneyError> {
        let ledger = &self.ledger;
        let (mut all, words) = match &self.whose {
            Whose::Consumer(consumer) => {
                let channels = consumer.channels().await?;
                let usd_rates = self.usd_rates();
                let tokens =
                    TokenViews::of_consumer(ledger, consumer, &channels, &usd_rates).await?;
                let mut all = Vec::new();
                for token in tokens.iter() {
                    all.push(self.bought(consumer, &channels, token).await?);
                }
                (all, funding_words(consumer.funding(), &tokens))
            }
            Whose::Provider(provider, sells_for, _) => {
                let tills = provider.tills();
                let earned = tills.iter().filter_map(TillView::claim);
                let mut earned: Vec<_> = earned.map(|claim| claim.config.token).collect();
                earned.push(*sells_for);
                let tokens = TokenViews::read(ledger, earned, &self.usd_rates()).await?;
                let mut all = Vec::new();
                for token in tokens.iter() {
                    all.push(self.sold("provider", &tills, token).await?);
                }
                let token = tokens.get(*sells_for);
                let mut words = vec![claim_words(provider.claim_policy(), &token)];
                for token in tokens.iter() {
                    words.extend(host_words(ledger, ledger.account(), &tills, token).await?);
                }
                (all, words)
            }
            Whose::Staker { name } => {
                let tokens = TokenViews::read(ledger, vec![], &self.usd_rates()).await?;
                let mor = tokens.get(ledger.mor());
                let gas = gas_words(ledger, name, ledger.account()).await?;
                (vec![self.sold(name, &[], &mor).await?], vec![gas])
            }
        };
        let mor = all.remove(0);
        let money = Money::new("own", mor, all, words);
        Ok(money.with_warnings(chain_watch::warnings(ledger).await))
    }

    async fn bought(
        &self,
        consumer: &Consumer,
        channels: &[ChannelView],
        token: &TokenView,
    ) -> Result<Audited, MoneyError> {
        let ledger = &self.ledger;
        let mut statement = Statement::new(token.clone(), []);
        let wallet = wallet(ledger, consumer.payer(), &mut statement).await?;
        let is_paid_with = consumer.funding().contains_key(&token.address);
        let mut places = vec![wallet.staying(is_paid_with)];
        for spare in &self.spares {
            places.push(spare.place(ledger, &mut statement).await?);
        }
        let mut keys = BTreeMap::new();
        for pseudonym in consumer.pseudonyms() {
            keys.insert(pseudonym.account, payer_name(pseudonym.number));
            let (account, to) = (pseudonym.account, pseudonym.provider.to_string());
            places.push(account_for(ledger, account, &to, &mut statement).await?);
        }
        for view in channels {
            if view.config.token == token.address {
                let paid = Paid::from(view);
                let id = view.config.id(&ledger.domain());
                let to = paid.to(&view.config.receiver.to_string());
                statement.channel(id, &paid.state);
                let key = keys.get(&view.config.payer);
                let key = key.map_or(WALLET, String::as_str);
                places.extend(paid.places(ledger.network(), (&to, key)));
            }
        }
        let supply = ledger.supply(token.address).await?;
        Ok(Holding::own(supply, statement, places, &self.flags))
    }

    async fn sold(
        &self,
        name: &'static str,
        tills: &[TillView],
        token: &TokenView,
    ) -> Result<Audited, MoneyError> {
        let ledger = &self.ledger;
        let seller = Seller {
            ledger,
            account: ledger.account(),
            name,
            tills,
        };
        let mut statement = Statement::new(token.clone(), []);
        let mut places = seller.places(&mut statement).await?;
        for spare in &self.spares {
            places.push(spare.place(ledger, &mut statement).await?);
        }
        let supply = ledger.supply(token.address).await?;
        Ok(Holding::own(supply, statement, places, &self.flags))
    }
}

async fn money(State(own): State<Arc<Own>>) -> Response {
    match own.look().await {
        Ok(money) => Json(money).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.told()),
    }
}

async fn state(State(own): State<Arc<Own>>) -> Json<Running> {
    Json(own.running())
}

impl Spare {
    /// The place that it is, and its posting.
    async fn place(
        &self,
        ledger: &EvmLedger,
        statement: &mut Statement,
    ) -> Result<Place, MoneyError> {
        let held = ledger
            .balance(statement.token().address, self.address)
            .await?;
        statement.wallet(self.address, held);
        Ok(self.holding(held))
    }
}

/// What an account has that pays for gas and earns nothing.
async fn gas_words(
    ledger: &EvmLedger,
    name: &str,
    account: Address,
) -> Result<String, LedgerError> {
    let coins = ledger.coins(account).await?.to_decimal(COIN_DECIMALS);
    Ok(format!("{name}: account {account} has {coins} ETH for gas"))
}

async fn wallet(
    ledger: &EvmLedger,
    account: Address,
    statement: &mut Statement,
) -> Result<Place, MoneyError> {
    let held = ledger.balance(statement.token().address, account).await?;
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
    let held = ledger.balance(statement.token().address, account).await?;
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

/// The money of a folder on which no node runs; none if it has no keys.
pub(crate) async fn of_folder(estate: &Estate) -> Result<Option<Money>, OwnError> {
    let Some(ledger) = estate.reader().await? else {
        return Ok(None);
    };
    let purses = || estate.accounts.iter().flat_map(|account| &account.purses);
    let tills = || estate.accounts.iter().flat_map(|account| &account.tills);
    let claims = tills().filter_map(TillView::claim);
    let mut used: Vec<_> = claims.map(|claim| claim.config.token).collect();
    used.extend(purses().map(|purse| purse.config.token));
    // Dollars are only to be read: without them the money is told all the same.
    let (usd_rates, no_rates) = match rates::kept(&estate.place.folder) {
        Ok(usd_rates) => (usd_rates, None),
        Err(error) => (UsdRates::default(), Some(output::with_causes(&error))),
    };
    let tokens = TokenViews::read(&ledger, used, &usd_rates).await;
    let tokens = tokens.map_err(MoneyError::from)?;
    let mut names = BTreeMap::new();
    for account in estate.accounts.iter().filter(|a| a.role == Role::Seller) {
        names.insert(account.address(), account.name.clone());
    }
    let flags = estate.place.flags();
    // The wallet is what is looked for first.
    let mut accounts: Vec<_> = estate.accounts.iter().collect();
    accounts.sort_by_key(|account| account.role != Role::Wallet);
    let mut all = Vec::new();
    for token in tokens.iter() {
        let paid = purses().map(|purse| purse.config.id(&ledger.domain()));
        let mut statement = Statement::new(token.clone(), paid);
        let mut places = Vec::new();
        for account in &accounts {
            places.extend(places_of(account, &ledger, &names, &mut statement).await?);
        }
        let supply = ledger.supply(token.address).await;
        let supply = supply.map_err(MoneyError::from)?;
        all.push(Holding::own(supply, statement, places, &flags));
    }
    let mut words = vec![match estate.has_books() {
        true => "no node runs on this folder: nothing moves by itself".to_owned(),
        false => "no node was started on this folder yet".to_owned(),
    }];
    for account in &estate.accounts {
        for token in tokens.iter() {
            let said = host_words(&ledger, account.address(), &account.tills, token).await;
            words.extend(said.map_err(MoneyError::from)?);
        }
        if ["relay", "tower"].contains(&account.name.as_str()) {
            let gas = gas_words(&ledger, &account.name, account.address()).await;
            words.push(gas.map_err(MoneyError::from)?);
        }
    }
    let mor = all.remove(0);
    let mut warnings = chain_watch::warnings(&ledger).await;
    warnings.extend(no_rates);
    warnings.extend(estate.warnings());
    Ok(Some(
        Money::new("own", mor, all, words).with_warnings(warnings),
    ))
}

/// Routes at which a command that has the folder tells its money, behind this key.
pub(crate) fn left(estate: Arc<Estate>, key: &str) -> Router {
    guarded([("/api/money", get(left_money))], key).with_state(estate)
}

async fn left_money(State(estate): State<Arc<Estate>>) -> Response {
    let told = match of_folder(&estate).await {
        Ok(Some(mut money)) => {
            let exits = "`lethe exit --wait` runs on this folder, and takes what can be had when its time has come";
            if let Some(first) = money.policies.first_mut() {
                *first = exits.to_owned();
            }
            return Json(money).into_response();
        }
        Ok(None) => "nothing of a node is in this folder".to_owned(),
        Err(error) => output::with_causes(&error),
    };
    refuse(StatusCode::SERVICE_UNAVAILABLE, &told)
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
        Role::Wallet => {
            // With what else it pays is not known while no node runs.
            let is_mor = statement.token().address == ledger.mor();
            let wallet = wallet(ledger, account.address(), statement).await?;
            vec![wallet.staying(is_mor)]
        }
        Role::Pseudonym if !account.purses.is_empty() => {
            let to = account.purses.first().map(|purse| purse.config.receiver);
            let to = name(names, to.unwrap_or_default());
            vec![account_for(ledger, account.address(), &to, statement).await?]
        }
        Role::Pseudonym | Role::Spare => {
            let spare = Spare {
                name: account.name.clone(),
                address: account.address(),
            };
            vec![spare.place(ledger, statement).await?]
        }
    };
    for purse in &account.purses {
        if purse.config.token == statement.token().address {
            let paid = Paid::read(ledger, purse).await?;
            let id = purse.config.id(&ledger.domain());
            let to = paid.to(&name(names, purse.config.receiver));
            statement.channel(id, &paid.state);
            places.extend(paid.places(ledger.network(), (&to, &account.name)));
        }
    }
    Ok(places)
}
