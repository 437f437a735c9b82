//! The gateway's further keys, each with what holds for its requests, and
//! `lethe key`.
//!
//! They are in one file of the data folder, by hash: who reads it can ask
//! nothing with it. The node's own key is not among them; that one alone
//! opens the dashboard.

mod on_offer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chain::Network;
use consumer::{
    Allowance, Budget, Coin, Conditions, Consumer, Defaults, Failover, Pacing, SpentView, Tallies,
    TallyView,
};
use gateway::ApiKey;
use market::{Accepted, Amount, Asked, Demand, Stated, Unit, Which};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cli::key::{Act, Add, Key};
use crate::client::{self, Client, ClientError};
use crate::clock;
use crate::doorkeeper::{guarded, refuse};
use crate::folder::{Folder, FolderError, flag_of};
use crate::keystore::{self, KeystoreError, private_text, write_private};
use crate::output;
use crate::place::{self, PlaceError};
use crate::tokens;
use crate::watched::watched;
use on_offer::OnOffer;

/// The file in the data folder.
const FILE: &str = "api-keys.json";
/// The longest name, in characters.
const NAME_MAX: usize = 64;
/// Keys of one node; a request is compared with each.
const KEYS_MAX: usize = 256;
/// Amounts of one budget.
const AMOUNTS_MAX: usize = 8;
/// What an amount of a budget is in that does not say so.
const UNSAID: &str = "mor";

/// What was spent today, by the keys' names.
type Spent = BTreeMap<String, SpentView>;
/// How the day of each key is, by its name.
type Today = BTreeMap<String, Day>;

/// Why the keys cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiKeysError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    File(#[from] KeystoreError),
    #[error("{path:?} is not a file of keys; correct it, or make keys with `lethe key add`")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path:?}, key {name:?}: {problem}")]
    Entry {
        path: PathBuf,
        name: String,
        problem: String,
    },
    /// What was asked for, not what the file says.
    #[error("key {name:?}: {problem}")]
    Asked { name: String, problem: String },
    #[error("what was spent today cannot be told")]
    Ask(#[from] ClientError),
    #[error("what was spent today cannot be told")]
    Place(#[from] Box<PlaceError>),
    #[error("what was spent today cannot be told")]
    Spent(#[from] consumer::StartError),
    #[error("--prefer is not JSON")]
    Prefer(#[source] serde_json::Error),
    #[error(
        "there is a key {name:?} already; choose another name, or first `lethe key remove {name}{}`",
        flag_of(folder)
    )]
    Taken { name: String, folder: PathBuf },
    #[error(
        "data folder {folder:?} has no gateway, and a key of it would open nothing; start one with \
         `lethe up --data DIR` or `lethe consume --data DIR`, then add keys to its folder"
    )]
    NoGateway { folder: PathBuf },
    #[error("no key {name:?} in {path:?}; `lethe key list` says which there are")]
    Unknown { path: PathBuf, name: String },
    #[error("{path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Budgets as they are stated, with the model of each that is of one.
type StatedBudgets<'a> = Vec<(Option<&'a str>, Vec<Stated>)>;

/// What the file says of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// Of the key, in hex.
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    demand: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failover: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pacing: Option<String>,
    /// Amounts with commas between, whatever the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget_per_day: Option<String>,
    /// The same by model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    budgets: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Entry>,
}

impl Entry {
    /// The key, or what is wrong with a field; its budget is in these, where
    /// that is known.
    fn key(&self, coins: Option<&[Accepted]>) -> Result<ApiKey, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=NAME_MAX).contains(&self.name.len()) && self.name.chars().all(allowed);
        if !fits {
            let rule = format!("1 to {NAME_MAX} letters, digits, `-`, `_` and `.`");
            return Err(format!("name: allowed are {rule}"));
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut hash)
            .map_err(|_| "sha256: allowed are 64 hexadecimal digits".to_owned())?;
        Ok(ApiKey::of_hash(hash).with_defaults(self.conditions(coins)?))
    }

    fn conditions(&self, coins: Option<&[Accepted]>) -> Result<Conditions, String> {
        let provider = self.provider.as_ref().unwrap_or(&Value::Null);
        let preferences = Defaults::read(provider).map_err(|error| error.to_string())?;
        let demand: Demand = match &self.demand {
            None => Demand::default(),
            Some(text) => text.parse().map_err(|error| format!("demand: {error}"))?,
        };
        let failover: Failover = match &self.failover {
            None => Failover::default(),
            Some(text) => text.parse().map_err(|error| format!("failover: {error}"))?,
        };
        let pacing = match self.pacing.as_deref() {
            None => None,
            Some("fast") => Some(Pacing::Fast),
            Some("paced") => Some(Pacing::Paced),
            Some(got) => return Err(format!("pacing: {got:?}; allowed are fast and paced")),
        };
        Ok(Conditions {
            demand,
            failover,
            preferences: Arc::new(preferences),
            pacing,
            budget: self.budget(coins)?.map(Arc::new),
        })
    }

    /// Its budgets as they are stated, that of all models first.
    fn stated(&self) -> Result<StatedBudgets<'_>, String> {
        let mut all = Vec::new();
        if let Some(text) = &self.budget_per_day {
            all.push((None, amounts("budget_per_day", text)?));
        }
        for (model, text) in &self.budgets {
            if model.is_empty() || Asked::read(model).which != Which::Any {
                return Err(format!(
                    "budgets: {model:?}; allowed is a model's name without a card"
                ));
            }
            all.push((Some(model.as_str()), amounts("budgets", text)?));
        }
        Ok(all)
    }

    fn budget(&self, coins: Option<&[Accepted]>) -> Result<Option<Budget>, String> {
        let stated = self.stated()?;
        let Some(coins) = coins.filter(|_| !stated.is_empty()) else {
            return Ok(None);
        };
        let mut budget = Budget {
            key: self.name.clone(),
            ..Budget::default()
        };
        for (model, amounts) in stated {
            let allowed = allowances(&amounts, coins)?;
            match model {
                None => budget.per_day = allowed,
                Some(model) => _ = budget.models.insert(model.to_owned(), allowed),
            }
        }
        Ok(Some(budget))
    }

    /// What was spent today of each amount of its budget, or why it opens nothing.
    fn day(&self, coins: &[Accepted], spent: Option<&SpentView>) -> Day {
        Day {
            today: self.today(coins, spent),
            problem: self.budget(Some(coins)).err(),
        }
    }

    fn today(&self, coins: &[Accepted], spent: Option<&SpentView>) -> Vec<TodayView> {
        let mut today = Vec::new();
        for (model, amounts) in self.stated().unwrap_or_default() {
            let tallies = match (spent, model) {
                (None, _) => None,
                (Some(spent), None) => Some(&spent.all),
                (Some(spent), Some(model)) => spent.models.get(model),
            };
            let seen = |stated| TodayView::of(model, stated, coins, tallies);
            today.extend(amounts.iter().filter_map(seen));
        }
        today
    }

    /// A token of its budget that no network has. Others, which only --pay-with names, go by their address.
    fn unknown_token(&self) -> Option<String> {
        let coins = coins_anywhere();
        let stated = self.stated().ok()?;
        let mut amounts = stated.iter().flat_map(|(_, amounts)| amounts);
        amounts.find_map(|stated| match stated.unit() {
            Unit::Token(market::Named::Symbol(_)) => allowance(stated, &coins, None).err(),
            Unit::Token(market::Named::Address(_)) | Unit::Usd | Unit::Unsaid => None,
        })
    }

    fn has_budget(&self) -> bool {
        self.budget_per_day.is_some() || !self.budgets.is_empty()
    }

    /// What holds for its requests, for people. `on_offer`: what is sold, where that is known.
    fn told(&self, day: &Day, on_offer: Option<&OnOffer>) -> String {
        let mut words = vec![self.name.clone()];
        let texts = [
            ("demand", &self.demand),
            ("failover", &self.failover),
            ("pacing", &self.pacing),
        ];
        for (field, value) in texts {
            words.extend(value.as_ref().map(|value| format!("{field}: {value}")));
        }
        words.extend(self.provider.as_ref().map(|it| format!("provider: {it}")));
        words.extend(day.today.iter().map(|today| today.told(on_offer)));
        let problem = day.problem.as_ref();
        words.extend(problem.map(|problem| format!("NOT IN FORCE: {problem}")));
        words.join("  ")
    }

    /// The same, as JSON.
    fn shown(&self, day: &Day) -> Value {
        json!({
            "name": self.name, "provider": self.provider, "demand": self.demand,
            "failover": self.failover, "pacing": self.pacing,
            "budget_per_day": self.budget_per_day, "budgets": self.budgets,
            "today": day.today, "problem": day.problem,
        })
    }
}

/// Amounts with commas between.
fn amounts(field: &str, text: &str) -> Result<Vec<Stated>, String> {
    let amounts: Result<Vec<Stated>, _> = text.split(',').map(str::parse).collect();
    let amounts = amounts.map_err(|error| format!("{field}: {error}"))?;
    match amounts.len() {
        0..=AMOUNTS_MAX => Ok(amounts),
        given => Err(format!(
            "{field}: {given} amounts; allowed are {AMOUNTS_MAX} at most"
        )),
    }
}

/// What these amounts are of, once each.
fn allowances(amounts: &[Stated], coins: &[Accepted]) -> Result<Vec<Allowance>, String> {
    let mut allowed: Vec<Allowance> = Vec::with_capacity(amounts.len());
    for stated in amounts {
        let one = allowance(stated, coins, None)?;
        if allowed.iter().any(|other| other.coin == one.coin) {
            let name = one.coin.name();
            return Err(format!(
                "budget of {stated}: the budget names {name} twice; say it once"
            ));
        }
        allowed.push(one);
    }
    Ok(allowed)
}

/// What an amount is of. Of several tokens of that name, as where the network is not known, the one that was paid.
fn allowance(
    stated: &Stated,
    coins: &[Accepted],
    paid: Option<&Tallies>,
) -> Result<Allowance, String> {
    let unsaid = market::Named::Symbol(UNSAID.to_owned());
    let named = match stated.unit() {
        Unit::Usd => {
            let (coin, amount) = (Coin::Usd, stated.amount_18());
            return Ok(Allowance { coin, amount });
        }
        Unit::Unsaid => &unsaid,
        Unit::Token(named) => named,
    };
    let mut known = coins.iter().filter(|coin| coin.is(named));
    let was_paid =
        |coin: &&Accepted| paid.is_some_and(|paid| paid.tokens.contains_key(&coin.token));
    let meant = known.clone().find(was_paid).or_else(|| known.next());
    let Some(meant) = meant else {
        let names = coins.iter().filter_map(|coin| coin.names.first());
        let mut names: Vec<_> = names.map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        return Err(format!(
            "{:?} is in no token that is known here; allowed are {}, USD, and the address of a token of --pay-with",
            stated.to_string(),
            names.join(", ")
        ));
    };
    let amount = stated.amount(meant.decimals);
    let amount = amount.map_err(|error| format!("{:?}: {error}", stated.to_string()))?;
    let coin = Coin::Token {
        address: meant.token,
        symbol: meant.names.first().cloned().unwrap_or_default(),
        decimals: meant.decimals,
    };
    Ok(Allowance { coin, amount })
}

/// How a key's day is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Day {
    /// What was spent of each amount of its budget.
    today: Vec<TodayView>,
    /// Why it opens nothing, if so.
    problem: Option<String>,
}

/// What was spent today of an amount of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TodayView {
    /// None: whatever the model.
    model: Option<String>,
    /// What it is in: a token's symbol, or `USD`.
    unit: String,
    /// Digits after its point; the amounts are in base units.
    decimals: u8,
    budget: Amount,
    spent: Amount,
    /// What requests that run may come to.
    held: Amount,
}

impl TodayView {
    fn of(
        model: Option<&str>,
        stated: &Stated,
        coins: &[Accepted],
        tallies: Option<&Tallies>,
    ) -> Option<Self> {
        let Allowance { coin, amount } = allowance(stated, coins, tallies).ok()?;
        let tally = tallies.map(|tallies| tallies.of(&coin));
        let TallyView { spent, held } = tally.unwrap_or_default();
        Some(Self {
            model: model.map(str::to_owned),
            unit: coin.name().to_owned(),
            decimals: coin.decimals(),
            budget: amount,
            spent,
            held,
        })
    }

    fn told(&self, on_offer: Option<&OnOffer>) -> String {
        let figure = |amount: Amount| amount.to_decimal(self.decimals);
        let mut today = format!("{} spent today", figure(self.spent));
        if !self.held.is_zero() {
            today += &format!(", {} held", figure(self.held));
        }
        let is_unsold = |model: &String| on_offer.is_some_and(|known| !known.has(model));
        if self.model.as_ref().is_some_and(is_unsold) {
            today += "; NOBODY SELLS IT NOW";
        }
        let of = self.model.as_deref().unwrap_or("budget");
        format!(
            "{of}: {} {} a day ({today})",
            figure(self.budget),
            self.unit
        )
    }
}

/// The file, checked.
struct Keys {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Keys {
    fn read(path: PathBuf) -> Result<Self, ApiKeysError> {
        if !keystore::is_there(&path)? {
            let entries = Vec::new();
            return Ok(Self { path, entries });
        }
        let text = private_text(&path)?;
        let file: Result<File, _> = serde_json::from_str(&text);
        match file {
            Ok(File { keys: entries }) => Ok(Self { path, entries }),
            Err(source) => Err(ApiKeysError::Json { path, source }),
        }
    }

    fn wrong(&self, name: &str, problem: impl Into<String>) -> ApiKeysError {
        ApiKeysError::Entry {
            path: self.path.clone(),
            name: name.chars().take(NAME_MAX).collect(),
            problem: problem.into(),
        }
    }

    /// The keys, if all of the file is right; with budgets in these, where
    /// that is known.
    fn keys(&self, coins: Option<&[Accepted]>) -> Result<Vec<ApiKey>, ApiKeysError> {
        if let Some(entry) = self.entries.get(KEYS_MAX) {
            let problem = format!("too many keys; allowed are {KEYS_MAX}");
            return Err(self.wrong(&entry.name, problem));
        }
        let mut keys = Vec::with_capacity(self.entries.len());
        for (n, entry) in self.entries.iter().enumerate() {
            let key = entry.key(coins);
            keys.push(key.map_err(|problem| self.wrong(&entry.name, problem))?);
            let before = &self.entries[..n];
            if before.iter().any(|other| other.name == entry.name) {
                return Err(self.wrong(&entry.name, "name: there twice; give each key its own"));
            }
            let hash = &entry.sha256;
            if before.iter().any(|it| it.sha256.eq_ignore_ascii_case(hash)) {
                return Err(self.wrong(&entry.name, "sha256: another key has the same"));
            }
        }
        Ok(keys)
    }

    /// The keys whose budgets are in these, and what is wrong with each other one. An error: the file is wrong.
    fn in_force(
        &self,
        coins: &[Accepted],
    ) -> Result<(Vec<ApiKey>, Vec<ApiKeysError>), ApiKeysError> {
        self.keys(None)?;
        let (mut keys, mut others) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            match entry.key(Some(coins)) {
                Ok(key) => keys.push(key),
                Err(problem) => others.push(self.wrong(&entry.name, problem)),
            }
        }
        Ok((keys, others))
    }

    /// How the day of each key is.
    fn today(&self, coins: &[Accepted], spent: &Spent) -> Today {
        let entries = self.entries.iter();
        let today = entries.map(|entry| {
            let day = entry.day(coins, spent.get(&entry.name));
            (entry.name.clone(), day)
        });
        today.collect()
    }

    /// As JSON, with what was spent today.
    fn shown(&self, today: &Today) -> Value {
        let entries = self.entries.iter();
        let shown: Vec<_> = entries
            .map(|entry| entry.shown(&of(today, entry)))
            .collect();
        json!({ "keys": shown })
    }

    fn write(&self) -> Result<(), ApiKeysError> {
        self.keys(None)?;
        let file = File {
            keys: self.entries.clone(),
        };
        let text = serde_json::to_string_pretty(&file).expect("it has only string keys");
        write_private(&self.path, text.as_bytes()).map_err(|source| ApiKeysError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// A new key, if all of it is right; it is not written yet. The only time that it is seen.
    fn fresh(&mut self, add: &Add) -> Result<String, ApiKeysError> {
        if self.entries.iter().any(|entry| entry.name == add.name) {
            return Err(ApiKeysError::Taken {
                name: add.name.clone(),
                folder: self.path.parent().unwrap_or(&self.path).to_owned(),
            });
        }
        let key = keystore::fresh_bearer();
        let provider = add.prefer.as_deref().map(serde_json::from_str);
        let entry = Entry {
            name: add.name.clone(),
            sha256: hex::encode(Sha256::digest(&key)),
            provider: provider.transpose().map_err(ApiKeysError::Prefer)?,
            demand: add.demand.clone(),
            failover: add.failover.clone(),
            pacing: add.pacing.clone(),
            budget_per_day: add.budget_per_day.clone(),
            budgets: together(&add.budgets),
        };
        let problem = entry.key(None).err().or_else(|| entry.unknown_token());
        if let Some(problem) = problem {
            let name = add.name.chars().take(NAME_MAX).collect();
            return Err(ApiKeysError::Asked { name, problem });
        }
        self.entries.push(entry);
        self.keys(None)?;
        Ok(key)
    }

    fn remove(&mut self, name: &str) -> Result<(), ApiKeysError> {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.name != name);
        if self.entries.len() == before {
            return Err(ApiKeysError::Unknown {
                path: self.path.clone(),
                name: name.to_owned(),
            });
        }
        self.write()
    }
}

/// What is said of one model several times counts together.
fn together(said: &[(String, String)]) -> BTreeMap<String, String> {
    let mut budgets: BTreeMap<String, String> = BTreeMap::new();
    for (model, text) in said {
        let all = budgets.entry(model.clone()).or_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(text);
    }
    budgets
}

/// What is told of a key's day.
fn of(today: &Today, entry: &Entry) -> Day {
    today.get(&entry.name).cloned().unwrap_or_default()
}

/// The tokens of every network: of which one a folder is, its keys do not say.
fn coins_anywhere() -> Vec<Accepted> {
    let networks = Network::all().into_iter();
    networks
        .flat_map(|network| tokens::coins(&network, &[]))
        .collect()
}

/// The keys of a running node: its own, and those of the file as it is at the time.
pub(crate) struct ApiKeys {
    path: PathBuf,
    own: ApiKey,
    /// What budgets may be in.
    coins: Arc<[Accepted]>,
    told: watch::Sender<Vec<ApiKey>>,
}

impl ApiKeys {
    /// Whether the file is right, as far as that can be seen without a network.
    pub(crate) fn check(folder: &Folder) -> Result<(), ApiKeysError> {
        Keys::read(folder.join(FILE))?.keys(None).map(drop)
    }

    /// Reads the file for the first time; budgets may be in these.
    pub(crate) fn load(
        folder: &Folder,
        own: ApiKey,
        coins: Vec<Accepted>,
    ) -> Result<Self, ApiKeysError> {
        let path = folder.join(FILE);
        let all = Self::all(&path, &own, &coins)?;
        Ok(Self {
            path,
            own,
            coins: coins.into(),
            told: watch::Sender::new(all),
        })
    }

    /// For the gateway.
    pub(crate) fn receiver(&self) -> watch::Receiver<Vec<ApiKey>> {
        self.told.subscribe()
    }

    /// What `lethe key list` and the page show, behind the node's own key.
    pub(crate) fn routes(&self, consumer: Consumer, key: &str) -> Router {
        let listed = Listed {
            path: self.path.clone(),
            coins: Arc::clone(&self.coins),
            consumer,
        };
        guarded([("/api/keys", get(listing))], key).with_state(listed)
    }

    /// Heeds what is changed, until it is told to stop. While the file is
    /// wrong the keys stay as they were; a key whose budget is in an unknown
    /// token opens nothing, and the others do.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        watched(&self.path, stop, || {
            match Self::all(&self.path, &self.own, &self.coins) {
                Ok(all) => drop(self.told.send_replace(all)),
                Err(error) => {
                    let error = output::with_causes(&error);
                    warn!(%error, "the gateway's keys stay as they were");
                }
            }
        })
        .await;
    }

    fn all(path: &Path, own: &ApiKey, coins: &[Accepted]) -> Result<Vec<ApiKey>, ApiKeysError> {
        let mut all = vec![own.clone()];
        let (keys, others) = Keys::read(path.to_owned())?.in_force(coins)?;
        for error in others {
            warn!("{error}; this key opens nothing, `lethe key remove` takes it away");
        }
        all.extend(keys);
        Ok(all)
    }
}

#[derive(Clone)]
struct Listed {
    path: PathBuf,
    coins: Arc<[Accepted]>,
    consumer: Consumer,
}

async fn listing(State(listed): State<Listed>) -> Response {
    let spent = listed.consumer.spent();
    match Keys::read(listed.path) {
        Ok(keys) => Json(keys.shown(&keys.today(&listed.coins, &spent))).into_response(),
        Err(error) => {
            let told = output::with_causes(&error);
            refuse(StatusCode::INTERNAL_SERVER_ERROR, &told)
        }
    }
}

/// What a running node says of a key.
#[derive(Debug, Deserialize)]
struct Told {
    name: String,
    #[serde(flatten)]
    day: Day,
}

#[derive(Debug, Deserialize)]
struct AllTold {
    keys: Vec<Told>,
}

/// How many keys a folder has beside the node's own, and those that open nothing, each with the
/// reason. An error: the file is wrong, and a node keeps what it had. Nothing is changed.
pub(crate) async fn not_in_force(
    folder: &Folder,
) -> Result<(usize, Vec<(String, String)>), ApiKeysError> {
    let keys = Keys::read(folder.join(FILE))?;
    keys.keys(None)?;
    let runs = folder.is_taken().unwrap_or(false) && folder.running().is_ok();
    // A node that does not tell is told of elsewhere.
    let today = match runs {
        true => today(folder, &keys).await.unwrap_or_default(),
        false => Today::new(),
    };
    let dead = keys.entries.iter().filter_map(|entry| {
        let told = of(&today, entry).problem;
        let problem = told.or_else(|| entry.unknown_token())?;
        Some((entry.name.clone(), problem))
    });
    Ok((keys.entries.len(), dead.collect()))
}

/// What was spent today: the node knows, if it runs, and else its books. Nothing
/// while it starts or stops.
async fn today(folder: &Folder, keys: &Keys) -> Result<Today, ApiKeysError> {
    let said = || Some(folder.path().to_owned());
    if folder.running().is_ok() && folder.is_taken().unwrap_or(true) {
        let told = Client::of(said())?.get("/api/keys").await?;
        let told: AllTold = client::json(told).await?;
        let today = told.keys.into_iter();
        return Ok(today.map(|key| (key.name, key.day)).collect());
    }
    let coins = coins_anywhere();
    let nothing = || keys.today(&coins, &Spent::new());
    let books = folder.join("consumer.sqlite");
    if !books.exists() {
        return Ok(nothing());
    }
    let _taken = match Folder::take(said()) {
        Err(FolderError::InUse { .. }) => return Ok(nothing()),
        taken => taken?,
    };
    let store = place::open(&books).map_err(Box::new)?;
    let spent = consumer::read_spent(&store, clock::wall()()).await?;
    store.close().await;
    Ok(keys.today(&coins, &spent))
}

/// Makes, lists or removes keys.
pub(crate) async fn key(args: Key) -> Result<(), ApiKeysError> {
    let folder = Folder::look(args.data.folder)?;
    let mut keys = Keys::read(folder.join(FILE))?;
    match args.act {
        Act::Add(add) => {
            let key = keys.fresh(&add)?;
            if !folder.has_gateway() {
                let folder = folder.path().to_owned();
                return Err(ApiKeysError::NoGateway { folder });
            }
            keys.write()?;
            if let Ok(client) = Client::of(Some(folder.path().to_owned())) {
                client.takes(&key).await;
            }
            if let Some(on_offer) = OnOffer::ask(&folder).await {
                let budgets = together(&add.budgets);
                let warnings = on_offer.warnings(add.budget_per_day.as_deref(), &budgets);
                warnings.iter().for_each(output::aside);
            }
            match args.json {
                true => output::json(&json!({ "name": add.name, "api_key": key })),
                false => {
                    output::line(&key);
                    output::aside("Shown this once; its hash is kept.");
                }
            }
        }
        Act::List => {
            let today = match keys.entries.iter().any(Entry::has_budget) {
                true => today(&folder, &keys).await?,
                false => Today::new(),
            };
            if args.json {
                output::json(&keys.shown(&today));
                return Ok(());
            }
            if keys.entries.is_empty() {
                let flag = flag_of(folder.path());
                output::line(format!(
                    "None but the node's own; `lethe key add NAME{flag}` makes one."
                ));
            }
            let on_offer = OnOffer::ask(&folder).await;
            for entry in &keys.entries {
                let told = entry.told(&of(&today, entry), on_offer.as_ref());
                output::line(output::plain(&told));
            }
        }
        Act::Remove { name } => {
            keys.remove(&name)?;
            match args.json {
                true => output::json(&json!({ "removed": name })),
                false => output::line(format!("{name} is removed.")),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Folder) -> Keys {
        Keys::read(folder.join(FILE)).unwrap()
    }

    fn further(folder: &Folder) -> Result<Vec<ApiKey>, ApiKeysError> {
        Keys::read(folder.join(FILE))?.keys(Some(&coins()))
    }

    fn coins() -> Vec<Accepted> {
        tokens::coins(&Network::local(), &[])
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        (dir, folder)
    }

    fn made(keys: &mut Keys, add: &Add) -> Result<String, ApiKeysError> {
        let key = keys.fresh(add)?;
        keys.write()?;
        Ok(key)
    }

    fn add(name: &str) -> Add {
        Add {
            name: name.into(),
            prefer: Some(r#"{"sort":"price"}"#.into()),
            demand: Some("network=oblivious".into()),
            failover: Some("strict".into()),
            pacing: Some("paced".into()),
            budget_per_day: Some("0.5".into()),
            budgets: vec![("m=1".into(), "0".into()), ("m=1".into(), "1.5usdc".into())],
        }
    }

    #[test]
    fn a_key_is_kept_by_its_hash_and_can_be_removed() {
        let (_dir, folder) = folder();
        assert!(further(&folder).unwrap().is_empty());
        let key = made(&mut read(&folder), &add("alice")).unwrap();
        let text = private_text(&folder.join(FILE)).unwrap();
        assert!(
            !text.contains(&key) && !text.contains(&key[6..]),
            "{text:?}"
        );
        let mut keys = read(&folder);
        let conditions = keys.entries[0].conditions(Some(&coins())).unwrap();
        assert_eq!(conditions.failover, Failover::Strict);
        assert_eq!(conditions.pacing, Some(Pacing::Paced));
        assert_eq!(conditions.preferences.fields()["sort"], "price");
        let budget = conditions.budget.unwrap();
        assert_eq!(budget.key, "alice");
        let [half] = budget.per_day.as_slice() else {
            panic!("{budget:?}");
        };
        assert_eq!(half.amount, Amount::new(500_000_000_000_000_000));
        assert_eq!(half.coin.name(), "MOR");
        let of_model: Vec<_> = budget.models["m=1"].iter().collect();
        assert_eq!((of_model.len(), of_model[1].coin.name()), (2, "USDdev"));
        assert_eq!(of_model[1].amount, Amount::new(1_500_000));
        let today = keys.entries[0].day(&coins(), None);
        let told = keys.entries[0].told(&today, None);
        assert!(
            told.contains("budget: 0.5 MOR a day (0 spent today)"),
            "{told}"
        );
        assert_eq!(further(&folder).unwrap().len(), 1);
        assert!(
            told.contains("m=1: 1.5 USDdev a day (0 spent today)"),
            "{told}"
        );
        assert!(!keys.entries[0].shown(&today).to_string().contains("sha256"));
        let again = keys.fresh(&add("alice")).unwrap_err().to_string();
        assert!(again.contains("a key \"alice\" already"), "{again}");
        let mut keys = read(&folder);
        assert!(keys.remove("bob").is_err());
        keys.remove("alice").unwrap();
        assert!(further(&folder).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named_with_what_is_allowed() {
        let (_dir, folder) = folder();
        let hash = "0".repeat(64);
        for (fields, told) in [
            (r#""name":"a b""#.to_owned(), "name: allowed are 1 to 64"),
            (
                r#""name":"a","provider":{"sorted":1}"#.to_owned(),
                "unknown field \"sorted\"; allowed: order",
            ),
            (
                r#""name":"a","provider":{"sort":"speed"}"#.to_owned(),
                "provider.sort: \"speed\"; allowed: one of price",
            ),
            (
                r#""name":"a","demand":"upstream=me""#.to_owned(),
                "demand: \"upstream=me\" is not a label",
            ),
            (
                r#""name":"a","failover":"maybe""#.to_owned(),
                "failover: \"maybe\" is not a way to go on; allowed are",
            ),
            (
                r#""name":"a","pacing":"slow""#.to_owned(),
                "pacing: \"slow\"; allowed are fast and paced",
            ),
            (
                r#""name":"a","budget_per_day":"-1""#.to_owned(),
                "budget_per_day: \"-1\" does not begin with an amount",
            ),
            (
                r#""name":"a","budget_per_day":"1 dai""#.to_owned(),
                "\"1 dai\" is in no token that is known here; allowed are MOR, USDdev, USD, and the address of a token",
            ),
            (
                r#""name":"a","budgets":{"m":"1, 2 MOR"}"#.to_owned(),
                "the budget names MOR twice",
            ),
            (
                r#""name":"a","budgets":{"m":"1.0000001 usdc"}"#.to_owned(),
                "has more than 6 digits after the point",
            ),
            (
                r#""name":"a","budgets":{"m@cardless":"1"}"#.to_owned(),
                "budgets: \"m@cardless\"; allowed is a model's name without a card",
            ),
            (
                r#""name":"a","prefer":{}"#.to_owned(),
                "unknown field `prefer`, expected one of `name`",
            ),
        ] {
            let text = format!(r#"{{"keys":[{{"sha256":"{hash}",{fields}}}]}}"#);
            write_private(&folder.join(FILE), text.as_bytes()).unwrap();
            let error = further(&folder).err().unwrap();
            let said = output::with_causes(&error);
            assert!(said.contains(told) && said.contains(FILE), "{said}");
        }
        let twice = format!(
            r#"{{"keys":[{{"name":"a","sha256":"{hash}"}},{{"name":"b","sha256":"{hash}"}}]}}"#
        );
        write_private(&folder.join(FILE), twice.as_bytes()).unwrap();
        let error = further(&folder).err().unwrap().to_string();
        assert!(error.contains("another key has the same"), "{error}");
    }

    #[test]
    fn a_token_that_is_nowhere_is_refused_and_one_that_is_elsewhere_stops_no_other_key() {
        let (_dir, folder) = folder();
        let with = |name: &str, budget: &str| Add {
            budget_per_day: Some(budget.into()),
            budgets: vec![],
            ..add(name)
        };
        let refused = read(&folder).fresh(&with("typo", "5 mro")).unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains("\"5 mro\" is in no token") && said.contains("USDC"),
            "{said}"
        );
        assert!(!folder.join(FILE).exists());

        let elsewhere = format!("5 {}", market::Address::repeat_byte(7));
        made(&mut read(&folder), &with("elsewhere", &elsewhere)).unwrap();
        made(&mut read(&folder), &with("good", "1")).unwrap();
        let keys = read(&folder);
        let (in_force, others) = keys.in_force(&coins()).unwrap();
        assert_eq!((in_force.len(), others.len()), (1, 1));
        let told = keys.entries[0].told(&keys.entries[0].day(&coins(), None), None);
        assert!(told.contains("NOT IN FORCE: "), "{told}");
        let told = keys.entries[1].told(&keys.entries[1].day(&coins(), None), None);
        assert!(
            told.contains("0 spent today") && !told.contains("NOT"),
            "{told}"
        );
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, folder) = folder();
        made(&mut read(&folder), &add("alice")).unwrap();
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(folder.join(FILE), open).unwrap();
        let refused = further(&folder).err().unwrap();
        assert!(matches!(
            refused,
            ApiKeysError::File(KeystoreError::Open { .. })
        ));
    }
}
