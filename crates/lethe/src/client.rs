//! The other commands as clients of a running node.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use crate::folder::{Folder, FolderError, Running};
use crate::keystore::{KeystoreError, bearer};

/// Why a running node could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(
        "the node at {url} does not answer; is it still running? start it as before, with {starts}"
    )]
    Unreachable {
        starts: String,
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the node answered with status {status}: {message}")]
    Refused {
        status: u16,
        /// The gateway's word for it, if it has one.
        code: Option<String>,
        message: String,
    },
    #[error("the connection to the node broke off before the answer's end")]
    Broken(#[source] reqwest::Error),
    #[error(
        "the node went away within the answer, and what came is not the whole of it; ask again when it runs"
    )]
    // What the library says of it helps nobody.
    Cut,
    #[error("{message}")]
    Failed { message: String },
    #[error("the node's answer is not understood; is it of another version?")]
    Malformed(#[source] serde_json::Error),
}

/// Between two looks whether a new key holds.
const KEY_LOOK: Duration = Duration::from_millis(100);
/// The most of them: 4 s together, twice what a gateway takes.
const KEY_LOOKS: usize = 40;

/// A running node.
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) running: Running,
    /// Where conversations are kept, if they are.
    pub(crate) chats: PathBuf,
    /// The flag that names the data folder; empty for the usual one.
    pub(crate) data: String,
    /// How the node is started.
    starts: String,
    key: String,
}

impl Client {
    /// The node that runs on this data folder.
    pub(crate) fn of(said: Option<PathBuf>) -> Result<Self, ClientError> {
        let folder = Folder::look(said)?;
        let running = folder.running()?;
        Self::at(&folder, running)
    }

    /// What said this of itself in its folder.
    pub(crate) fn at(folder: &Folder, running: Running) -> Result<Self, ClientError> {
        let key = bearer(&folder.join("api-key"))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .map_err(|source| ClientError::Unreachable {
                url: running.base_url.clone(),
                starts: folder.starts(),
                source,
            })?;
        Ok(Self {
            http,
            running,
            chats: folder.join("chats"),
            data: folder.flag(),
            starts: folder.starts(),
            key,
        })
    }

    /// Gets from a path of the node.
    pub(crate) async fn get(&self, path: &str) -> Result<reqwest::Response, ClientError> {
        let url = format!("{}{path}", self.running.dashboard_url.trim_end_matches('/'));
        self.send(self.http.get(&url), url.clone()).await
    }

    /// Waits until the gateway, which looks at its file of keys in steps, takes this
    /// further one; not for long.
    pub(crate) async fn takes(&self, key: &str) {
        let url = format!("{}/models", self.running.base_url);
        for _ in 0..KEY_LOOKS {
            let asked = self.http.get(&url).bearer_auth(key).send().await;
            // Where nobody answers, the key holds from the next start on.
            if asked.map_or(true, |response| {
                response.status() != StatusCode::UNAUTHORIZED
            }) {
                return;
            }
            tokio::time::sleep(KEY_LOOK).await;
        }
    }

    /// Whether it would answer a request; none of a node that has no gateway.
    pub(crate) async fn readiness(&self) -> Result<Option<Readiness>, ClientError> {
        let url = format!("{}readyz", self.running.dashboard_url);
        let sent = self.http.get(&url).send().await;
        let response = sent.map_err(|source| ClientError::Unreachable {
            url,
            starts: self.starts.clone(),
            source,
        })?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            _ => json(response).await.map(Some),
        }
    }

    /// Posts JSON to a path of the node.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<reqwest::Response, ClientError> {
        let url = format!("{}{path}", self.running.dashboard_url.trim_end_matches('/'));
        self.send(self.http.post(&url).json(body), url.clone())
            .await
    }

    /// Asks the chat endpoint.
    pub(crate) async fn chat(
        &self,
        body: &serde_json::Value,
    ) -> Result<reqwest::Response, ClientError> {
        let url = format!("{}/chat/completions", self.running.base_url);
        self.send(self.http.post(&url).json(body), url.clone())
            .await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: String,
    ) -> Result<reqwest::Response, ClientError> {
        let sent = request.bearer_auth(&self.key).send().await;
        let response = sent.map_err(|source| ClientError::Unreachable {
            url,
            starts: self.starts.clone(),
            source,
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.text().await.map_err(ClientError::Broken)?;
        let code = serde_json::from_str::<openai::ErrorBody>(&text);
        let code = code.ok().and_then(|body| body.error.code);
        let message = openai::ErrorBody::message_in(text.as_bytes());
        let message = message.or_else(|| reason(&text)).unwrap_or(text);
        Err(ClientError::Refused {
            status,
            code,
            message,
        })
    }
}

/// What `/readyz` says.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// Models that can be asked for.
    #[serde(default)]
    pub(crate) models: usize,
    /// Why it is not.
    #[serde(default)]
    pub(crate) reason: String,
    /// What is wrong beside that.
    #[serde(default)]
    pub(crate) problems: Vec<String>,
    /// What is amiss although it is ready.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// Why `/readyz` says no.
fn reason(text: &str) -> Option<String> {
    let said: serde_json::Value = serde_json::from_str(text).ok()?;
    said["reason"].as_str().map(str::to_owned)
}

/// A response's JSON.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(
    response: reqwest::Response,
) -> Result<T, ClientError> {
    let bytes = response.bytes().await.map_err(ClientError::Broken)?;
    serde_json::from_slice(&bytes).map_err(ClientError::Malformed)
}
