//! Which of a provider's servers get nothing new, and `lethe backend`.
//!
//! A file of the data folder has the servers of the last start and which of
//! them are drained. The command changes it; the running provider heeds that
//! within two seconds, and tells at its local door how each one stands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use provider::{Pool, Standing};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::backend::{Act, Backend};
use crate::client::{self, Client, ClientError};
use crate::config::without_secrets;
use crate::doorkeeper::guarded;
use crate::folder::{Folder, FolderError};
use crate::keystore::{KeystoreError, is_there, private_text, write_private};
use crate::output;
use crate::watched::watched;

/// The file in the data folder.
const FILE: &str = "backends.json";

/// Where a running provider tells how they stand.
const DOOR: &str = "/api/backends";

/// Why servers cannot be listed or drained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendsError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    File(#[from] KeystoreError),
    #[error("{path:?} is not a file of backends; remove it, and start the provider anew")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("no provider with --backend was started on this folder: {path:?} is missing")]
    None { path: PathBuf },
    #[error("no backend {0:?} here; known are {known}", without_secrets(url))]
    Unknown { url: String, known: String },
    #[error("{path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What the file says of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    #[serde(default)]
    drained: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    backends: Vec<Entry>,
}

/// Whether two addresses are of one server: a slash at the end says nothing.
fn is_same(url: &str, other: &str) -> bool {
    url.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Whether the owner means this server by this text: its address, or the address
/// as it is listed, without what opens the server.
fn is_meant(url: &str, said: &str) -> bool {
    is_same(url, said) || is_same(&without_secrets(url), said)
}

impl File {
    /// None: there is no such file.
    fn read(path: &Path) -> Result<Option<Self>, BackendsError> {
        if !is_there(path)? {
            return Ok(None);
        }
        let text = private_text(path)?;
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|source| BackendsError::Json {
            path: path.to_owned(),
            source,
        })
    }

    fn write(&self, path: &Path) -> Result<(), BackendsError> {
        let text = serde_json::to_string_pretty(self).expect("it has only string keys");
        write_private(path, text.as_bytes()).map_err(|source| BackendsError::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn is_drained(&self, url: &str) -> bool {
        let mut entries = self.backends.iter();
        entries.any(|entry| is_same(&entry.url, url) && entry.drained)
    }

    /// Sets it for the server, wherever it stands in the list.
    fn set(&mut self, url: &str, drained: bool) -> Result<(), BackendsError> {
        let mut is_known = false;
        let meant = |entry: &&mut Entry| is_meant(&entry.url, url);
        for entry in self.backends.iter_mut().filter(meant) {
            (entry.drained, is_known) = (drained, true);
        }
        if is_known {
            return Ok(());
        }
        let known = self.backends.iter();
        let known: Vec<_> = known.map(|entry| without_secrets(&entry.url)).collect();
        Err(BackendsError::Unknown {
            url: url.to_owned(),
            known: known.join(", "),
        })
    }
}

/// The servers of a running provider.
pub(crate) struct Backends {
    path: PathBuf,
    urls: Vec<String>,
    pool: Arc<Pool>,
}

/// How a server stands, as the door tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) url: String,
    pub(crate) drained: bool,
    /// Answers that it gives. None: the provider does not run.
    pub(crate) running: Option<usize>,
    pub(crate) failing: bool,
}

impl Told {
    fn of(url: &str, standing: Standing) -> Self {
        Self {
            url: without_secrets(url),
            drained: standing.drained,
            running: Some(standing.running),
            failing: standing.failing,
        }
    }

    /// In a word or a few.
    pub(crate) fn state(&self) -> String {
        match (self.drained, self.running, self.failing) {
            (true, Some(0) | None, _) => "drained".to_owned(),
            (true, Some(running), _) => format!("draining, {running} running"),
            (false, None, _) => "live when the provider runs".to_owned(),
            (false, Some(running), true) => format!("failing, {running} running"),
            (false, Some(running), false) => format!("live, {running} running"),
        }
    }
}

impl Backends {
    /// Writes down the servers of this start. Those that were drained before still are.
    pub(crate) fn load(
        folder: &Folder,
        urls: Vec<String>,
        pool: Arc<Pool>,
    ) -> Result<Self, BackendsError> {
        let path = folder.join(FILE);
        let before = File::read(&path)?.unwrap_or_default();
        let entry = |url: &String| Entry {
            url: url.clone(),
            drained: before.is_drained(url),
        };
        let now = File {
            backends: urls.iter().map(entry).collect(),
        };
        if now != before {
            now.write(&path)?;
        }
        let backends = Self { path, urls, pool };
        backends.heed(&now);
        Ok(backends)
    }

    fn heed(&self, file: &File) {
        let standings = self.pool.standings();
        for (at, (url, before)) in self.urls.iter().zip(standings).enumerate() {
            let drained = file.is_drained(url);
            if drained != before.drained {
                info!(backend = at, drained, "backend");
                self.pool.drain(at, drained);
            }
        }
    }

    /// Heeds what is changed, until it is told to stop. While the file is
    /// wrong or gone all stays as it was.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        watched(&self.path, stop, || match File::read(&self.path) {
            Ok(Some(file)) => self.heed(&file),
            Ok(None) => warn!("the file of backends is gone; they stay as they were"),
            Err(error) => {
                let error = output::with_causes(&error);
                warn!(%error, "the backends stay as they were");
            }
        })
        .await;
    }

    /// Its door, behind the node's key.
    pub(crate) fn routes(self: Arc<Self>, key: &str) -> Router {
        guarded([(DOOR, get(tell))], key).with_state(self)
    }

    fn told(&self) -> Vec<Told> {
        let both = self.urls.iter().zip(self.pool.standings());
        both.map(|(url, standing)| Told::of(url, standing))
            .collect()
    }
}

async fn tell(State(backends): State<Arc<Backends>>) -> Json<Vec<Told>> {
    Json(backends.told())
}

/// Lists, drains or resumes servers.
pub(crate) async fn backend(args: Backend) -> Result<(), BackendsError> {
    let folder = Folder::look(args.data.folder.clone())?;
    let path = folder.join(FILE);
    let Some(mut file) = File::read(&path)? else {
        return Err(BackendsError::None { path });
    };
    let (url, drained) = match args.act {
        Act::List => {
            list(&file, &folder, args.json).await;
            return Ok(());
        }
        Act::Drain { url } => (url, true),
        Act::Resume { url } => (url, false),
    };
    file.set(&url, drained)?;
    file.write(&path)?;
    let url = without_secrets(&url);
    match (args.json, drained) {
        (true, _) => output::json(&json!({ "url": url, "drained": drained })),
        (false, true) => output::line(output::plain(&format!(
            "{url} gets nothing new within two seconds; `lethe backend list{}` says when it is drained.",
            folder.flag()
        ))),
        (false, false) => output::line(output::plain(&format!("{url} is asked again."))),
    }
    Ok(())
}

async fn list(file: &File, folder: &Folder, json: bool) {
    let told = match asked(folder).await {
        Ok(told) => told,
        Err(_nobody_runs) => {
            let at_rest = file.backends.iter().map(|entry| Told {
                url: without_secrets(&entry.url),
                drained: entry.drained,
                running: None,
                failing: false,
            });
            at_rest.collect()
        }
    };
    if json {
        let shown = told.iter().map(|told| {
            json!({
                "url": told.url, "state": told.state(), "drained": told.drained,
                "running": told.running, "failing": told.failing,
            })
        });
        output::json(&json!({ "backends": shown.collect::<Vec<_>>() }));
        return;
    }
    for told in told {
        output::line(output::plain(&format!("{}  {}", told.url, told.state())));
    }
}

/// The servers of the provider that runs on this folder, as it tells.
pub(crate) async fn asked(folder: &Folder) -> Result<Vec<Told>, ClientError> {
    let client = Client::of(Some(folder.path().to_owned()))?;
    client::json(client.get(DOOR).await?).await
}

/// The servers of the last start on this folder, and which are drained; none if no provider
/// with servers was started on it.
pub(crate) fn kept(folder: &Folder) -> Result<Option<Vec<(String, bool)>>, BackendsError> {
    let file = File::read(&folder.join(FILE))?;
    let servers = |file: File| {
        let entries = file.backends.into_iter();
        entries.map(|entry| (entry.url, entry.drained)).collect()
    };
    Ok(file.map(servers))
}

#[cfg(test)]
mod tests {
    use provider::{BackendHandle, Script, ScriptedBackend};

    use std::time::Duration;

    use super::*;

    const URLS: [&str; 2] = ["http://a/v1", "http://b/v1"];

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        (dir, folder)
    }

    fn start(folder: &Folder, urls: &[&str]) -> Backends {
        let backend = |_: &&str| BackendHandle::new(ScriptedBackend::new(Script::default()));
        let pool = Pool::new(urls.iter().map(backend).collect()).unwrap();
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Backends::load(folder, urls, Arc::new(pool)).unwrap()
    }

    fn act(folder: &Folder, act: Act) -> Backend {
        let mut args = Backend {
            data: crate::cli::Data { folder: None },
            json: true,
            act,
        };
        args.data.folder = Some(folder.path().to_owned());
        args
    }

    fn drained(backends: &Backends) -> Vec<bool> {
        backends.told().iter().map(|told| told.drained).collect()
    }

    #[tokio::test]
    async fn what_is_drained_stays_so_over_a_restart_until_it_is_resumed() {
        let (_dir, folder) = folder();
        let url = URLS[0].to_owned();
        let before = backend(act(&folder, Act::List)).await;
        assert!(matches!(before, Err(BackendsError::None { .. })));
        assert_eq!(drained(&start(&folder, &URLS)), [false, false]);
        backend(act(&folder, Act::Drain { url: url.clone() }))
            .await
            .unwrap();
        // Another one goes before it now.
        let turned = [URLS[1], URLS[0], "http://c/v1"];
        assert_eq!(drained(&start(&folder, &turned)), [false, true, false]);
        let url = format!("{url}/");
        backend(act(&folder, Act::Resume { url })).await.unwrap();
        assert_eq!(drained(&start(&folder, &URLS)), [false, false]);
    }

    #[tokio::test]
    async fn what_opens_a_server_is_not_listed() {
        let (_dir, folder) = folder();
        let secret = "http://x:SECRET@a.example/v1";
        let backends = start(&folder, &[secret]);
        let shown = "http://a.example/v1";
        assert_eq!(backends.told()[0].url, shown);
        // What is listed names it.
        let url = shown.to_owned();
        backend(act(&folder, Act::Drain { url })).await.unwrap();
        assert_eq!(drained(&start(&folder, &[secret])), [true]);
        let url = "http://y:SECRET@b.example/v1".to_owned();
        let told = backend(act(&folder, Act::Drain { url })).await;
        let told = told.unwrap_err().to_string();
        assert!(told.contains(shown) && !told.contains("SECRET"), "{told}");
    }

    #[tokio::test]
    async fn who_is_not_known_is_refused_with_the_list() {
        let (_dir, folder) = folder();
        start(&folder, &URLS);
        let url = "http://c/v1".to_owned();
        let told = backend(act(&folder, Act::Drain { url })).await;
        let told = told.unwrap_err().to_string();
        assert!(told.contains("http://a/v1, http://b/v1"), "{told}");
    }

    #[tokio::test]
    async fn a_running_provider_heeds_the_file_and_a_wrong_one_changes_nothing() {
        let (_dir, folder) = folder();
        let backends = Arc::new(start(&folder, &URLS));
        let stop = CancellationToken::new();
        let mut kept = tokio::task::JoinSet::new();
        kept.spawn(Arc::clone(&backends).keep(stop.clone()));
        let url = URLS[1].to_owned();
        backend(act(&folder, Act::Drain { url })).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(drained(&backends), [false, true]);
        write_private(&folder.join(FILE), b"{").unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(drained(&backends), [false, true]);
        stop.cancel();
        kept.join_all().await;
    }

    #[test]
    fn the_state_is_told_in_words() {
        let told = |drained, running, failing| {
            let standing = Standing {
                drained,
                running,
                failing,
            };
            Told::of("u", standing).state()
        };
        assert_eq!(told(false, 2, false), "live, 2 running");
        assert_eq!(told(false, 0, true), "failing, 0 running");
        assert_eq!(told(true, 3, true), "draining, 3 running");
        assert_eq!(told(true, 0, false), "drained");
    }
}
