//! The gateway's further keys, each with what holds for its requests, and
//! `lethe key`.
//!
//! They are in one file of the data folder, by hash: who reads it can ask
//! nothing with it. The node's own key is not among them; that one alone
//! opens the dashboard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use consumer::{Budget, Conditions, Consumer, Defaults, Failover, Pacing, SpentView, TallyView};
use gateway::ApiKey;
use market::{Amount, Asked, Demand, Which};
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
use crate::policies::MOR_DECIMALS;
use crate::watched::watched;

/// The file in the data folder.
const FILE: &str = "api-keys.json";
/// The longest name, in characters.
const NAME_MAX: usize = 64;
/// Keys of one node; a request is compared with each.
const KEYS_MAX: usize = 256;

/// What was spent today, by the keys' names.
type Spent = BTreeMap<String, SpentView>;

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
    #[error("what was spent today cannot be told")]
    Ask(#[from] ClientError),
    #[error("what was spent today cannot be told")]
    Place(#[from] Box<PlaceError>),
    #[error("what was spent today cannot be told")]
    Spent(#[from] consumer::StartError),
    #[error("--prefer is not JSON")]
    Prefer(#[source] serde_json::Error),
    #[error("no key {name:?} in {path:?}; `lethe key list` says which there are")]
    Unknown { path: PathBuf, name: String },
    #[error("{path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

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
    /// MOR, whatever the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget_per_day: Option<String>,
    /// MOR a day, by model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    budgets: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Entry>,
}

impl Entry {
    /// The key, or what is wrong with a field.
    fn key(&self) -> Result<ApiKey, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=NAME_MAX).contains(&self.name.len()) && self.name.chars().all(allowed);
        if !fits {
            let rule = format!("1 to {NAME_MAX} letters, digits, `-`, `_` and `.`");
            return Err(format!("name: allowed are {rule}"));
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut hash)
            .map_err(|_| "sha256: allowed are 64 hexadecimal digits".to_owned())?;
        Ok(ApiKey::of_hash(hash).with_defaults(self.conditions()?))
    }

    fn conditions(&self) -> Result<Conditions, String> {
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
            budget: self.budget()?.map(Arc::new),
        })
    }

    fn budget(&self) -> Result<Option<Budget>, String> {
        let mor = |field: &str, text: &str| {
            let amount = Amount::from_decimal(text, MOR_DECIMALS);
            amount.map_err(|error| {
                format!("{field}: {text:?} is no amount: {error}; allowed is MOR, such as \"0.5\"")
            })
        };
        if self.budget_per_day.is_none() && self.budgets.is_empty() {
            return Ok(None);
        }
        let per_day = self.budget_per_day.as_deref();
        let per_day = per_day
            .map(|text| mor("budget_per_day", text))
            .transpose()?;
        let mut models = BTreeMap::new();
        for (model, text) in &self.budgets {
            if model.is_empty() || Asked::read(model).which != Which::Any {
                return Err(format!(
                    "budgets: {model:?}; allowed is a model's name without a card"
                ));
            }
            models.insert(model.clone(), mor("budgets", text)?);
        }
        Ok(Some(Budget {
            key: self.name.clone(),
            per_day,
            models,
        }))
    }

    fn has_budget(&self) -> bool {
        self.budget_per_day.is_some() || !self.budgets.is_empty()
    }

    /// What holds for its requests, for people.
    fn told(&self, spent: Option<&SpentView>) -> String {
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
        let today = |tally: Option<TallyView>| {
            let TallyView { spent, held } = tally.unwrap_or_default();
            let mut text = format!("{} spent today", spent.to_decimal(MOR_DECIMALS));
            if !held.is_zero() {
                text += &format!(", {} held", held.to_decimal(MOR_DECIMALS));
            }
            text
        };
        if let Some(budget) = &self.budget_per_day {
            let tally = spent.map(|it| TallyView {
                spent: it.spent,
                held: it.held,
            });
            words.push(format!("budget: {budget} MOR a day ({})", today(tally)));
        }
        for (model, budget) in &self.budgets {
            let tally = spent.and_then(|it| it.models.get(model).copied());
            words.push(format!("{model}: {budget} MOR a day ({})", today(tally)));
        }
        words.join("  ")
    }

    /// The same, as JSON.
    fn shown(&self, spent: Option<&SpentView>) -> Value {
        json!({
            "name": self.name, "provider": self.provider, "demand": self.demand,
            "failover": self.failover, "pacing": self.pacing,
            "budget_per_day": self.budget_per_day, "budgets": self.budgets,
            // In base units; of a key without a budget nothing is kept.
            "spent_today": self.has_budget().then(|| spent.cloned().unwrap_or_default()),
        })
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

    /// The keys, if all of the file is right.
    fn keys(&self) -> Result<Vec<ApiKey>, ApiKeysError> {
        if let Some(entry) = self.entries.get(KEYS_MAX) {
            let problem = format!("too many keys; allowed are {KEYS_MAX}");
            return Err(self.wrong(&entry.name, problem));
        }
        let mut keys = Vec::with_capacity(self.entries.len());
        for (n, entry) in self.entries.iter().enumerate() {
            let key = entry.key();
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

    /// As JSON, with what was spent today.
    fn shown(&self, spent: &Spent) -> Value {
        let entries = self.entries.iter();
        let shown: Vec<_> = entries
            .map(|entry| entry.shown(spent.get(&entry.name)))
            .collect();
        json!({ "keys": shown })
    }

    fn write(&self) -> Result<(), ApiKeysError> {
        self.keys()?;
        let file = File {
            keys: self.entries.clone(),
        };
        let text = serde_json::to_string_pretty(&file).expect("it has only string keys");
        write_private(&self.path, text.as_bytes()).map_err(|source| ApiKeysError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// Makes a key: the only time that it is seen.
    fn add(&mut self, add: &Add) -> Result<String, ApiKeysError> {
        let key = keystore::fresh_bearer();
        let provider = add.prefer.as_deref().map(serde_json::from_str);
        self.entries.push(Entry {
            name: add.name.clone(),
            sha256: hex::encode(Sha256::digest(&key)),
            provider: provider.transpose().map_err(ApiKeysError::Prefer)?,
            demand: add.demand.clone(),
            failover: add.failover.clone(),
            pacing: add.pacing.clone(),
            budget_per_day: add.budget_per_day.clone(),
            budgets: add.budgets.iter().cloned().collect(),
        });
        self.write()?;
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

/// The keys of a running node: its own, and those of the file as it is at the time.
pub(crate) struct ApiKeys {
    path: PathBuf,
    own: ApiKey,
    told: watch::Sender<Vec<ApiKey>>,
}

impl ApiKeys {
    /// Reads the file for the first time.
    pub(crate) fn load(folder: &Folder, own: ApiKey) -> Result<Self, ApiKeysError> {
        let path = folder.join(FILE);
        let all = Self::all(&path, &own)?;
        let told = watch::Sender::new(all);
        Ok(Self { path, own, told })
    }

    /// For the gateway.
    pub(crate) fn receiver(&self) -> watch::Receiver<Vec<ApiKey>> {
        self.told.subscribe()
    }

    /// What `lethe key list` and the page show, behind the node's own key.
    pub(crate) fn routes(&self, consumer: Consumer, key: &str) -> Router {
        let listed = Listed {
            path: self.path.clone(),
            consumer,
        };
        guarded([("/api/keys", get(listing))], key).with_state(listed)
    }

    /// Heeds what is changed, until it is told to stop. While the file is
    /// wrong the keys stay as they were.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        watched(&self.path, stop, || {
            match Self::all(&self.path, &self.own) {
                Ok(all) => drop(self.told.send_replace(all)),
                Err(error) => {
                    let error = output::with_causes(&error);
                    warn!(%error, "the gateway's keys stay as they were");
                }
            }
        })
        .await;
    }

    fn all(path: &Path, own: &ApiKey) -> Result<Vec<ApiKey>, ApiKeysError> {
        let mut all = vec![own.clone()];
        all.extend(Keys::read(path.to_owned())?.keys()?);
        Ok(all)
    }
}

#[derive(Clone)]
struct Listed {
    path: PathBuf,
    consumer: Consumer,
}

async fn listing(State(listed): State<Listed>) -> Response {
    let spent = listed.consumer.spent();
    match Keys::read(listed.path) {
        Ok(keys) => Json(keys.shown(&spent)).into_response(),
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
    spent_today: Option<SpentView>,
}

#[derive(Debug, Deserialize)]
struct AllTold {
    keys: Vec<Told>,
}

/// What was spent today: the node knows, if it runs, and else its books. None
/// while it starts or stops.
async fn spent(folder: &Folder) -> Result<Option<Spent>, ApiKeysError> {
    let said = || Some(folder.path().to_owned());
    if folder.running().is_ok() && folder.is_taken().unwrap_or(true) {
        let told = Client::of(said())?.get("/api/keys").await?;
        let told: AllTold = client::json(told).await?;
        let spent = told.keys.into_iter();
        let spent = spent.filter_map(|key| Some((key.name, key.spent_today?)));
        return Ok(Some(spent.collect()));
    }
    let books = folder.join("consumer.sqlite");
    if !books.exists() {
        return Ok(Some(Spent::new()));
    }
    let _taken = match Folder::take(said()) {
        Err(FolderError::InUse { .. }) => return Ok(None),
        taken => taken?,
    };
    let store = place::open(&books).map_err(Box::new)?;
    let spent = consumer::read_spent(&store, clock::wall()()).await?;
    store.close().await;
    Ok(Some(spent))
}

/// Makes, lists or removes keys.
pub(crate) async fn key(args: Key) -> Result<(), ApiKeysError> {
    let folder = Folder::look(args.data.folder)?;
    let mut keys = Keys::read(folder.join(FILE))?;
    match args.act {
        Act::Add(add) => {
            folder.make()?;
            let key = keys.add(&add)?;
            match args.json {
                true => output::json(&json!({ "name": add.name, "api_key": key })),
                false => {
                    output::line(&key);
                    output::aside("Shown this once; its hash is kept.");
                }
            }
        }
        Act::List => {
            let spent = match keys.entries.iter().any(Entry::has_budget) {
                true => spent(&folder).await?,
                false => None,
            };
            let spent = spent.unwrap_or_default();
            if args.json {
                output::json(&keys.shown(&spent));
                return Ok(());
            }
            if keys.entries.is_empty() {
                let flag = flag_of(folder.path());
                output::line(format!(
                    "None but the node's own; `lethe key add NAME{flag}` makes one."
                ));
            }
            for entry in &keys.entries {
                output::line(output::plain(&entry.told(spent.get(&entry.name))));
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
        Keys::read(folder.join(FILE))?.keys()
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        (dir, folder)
    }

    fn add(name: &str) -> Add {
        Add {
            name: name.into(),
            prefer: Some(r#"{"sort":"price"}"#.into()),
            demand: Some("network=oblivious".into()),
            failover: Some("strict".into()),
            pacing: Some("paced".into()),
            budget_per_day: Some("0.5".into()),
            budgets: vec![("m=1".into(), "0".into())],
        }
    }

    #[test]
    fn a_key_is_kept_by_its_hash_and_can_be_removed() {
        let (_dir, folder) = folder();
        assert!(further(&folder).unwrap().is_empty());
        let key = read(&folder).add(&add("alice")).unwrap();
        let text = private_text(&folder.join(FILE)).unwrap();
        assert!(
            !text.contains(&key) && !text.contains(&key[6..]),
            "{text:?}"
        );
        let mut keys = read(&folder);
        let conditions = keys.entries[0].conditions().unwrap();
        assert_eq!(conditions.failover, Failover::Strict);
        assert_eq!(conditions.pacing, Some(Pacing::Paced));
        assert_eq!(conditions.preferences.fields()["sort"], "price");
        let budget = conditions.budget.unwrap();
        assert_eq!(budget.key, "alice");
        assert_eq!(budget.per_day, Some(Amount::new(500_000_000_000_000_000)));
        assert_eq!(budget.models["m=1"], Amount::ZERO);
        let told = keys.entries[0].told(None);
        assert!(
            told.contains("budget: 0.5 MOR a day (0 spent today)"),
            "{told}"
        );
        assert_eq!(further(&folder).unwrap().len(), 1);
        assert!(!keys.entries[0].shown(None).to_string().contains("sha256"));
        let again = keys.add(&add("alice")).unwrap_err().to_string();
        assert!(again.contains("there twice"), "{again}");
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
                "budget_per_day: \"-1\" is no amount",
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
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, folder) = folder();
        read(&folder).add(&add("alice")).unwrap();
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(folder.join(FILE), open).unwrap();
        let refused = further(&folder).err().unwrap();
        assert!(matches!(
            refused,
            ApiKeysError::File(KeystoreError::Open { .. })
        ));
    }
}
