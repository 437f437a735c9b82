//! The other commands as clients of a running node.

use std::path::PathBuf;

use crate::folder::{Folder, FolderError, Running};
use crate::keystore::{KeystoreError, bearer};

/// Why a running node could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error("the node at {url} does not answer; is it still running? start it with `lethe up`")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the node answered with status {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the node's answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("the node's answer is not understood; is it of another version?")]
    Malformed(#[source] serde_json::Error),
}

/// A running node.
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) running: Running,
    /// Where conversations are kept, if they are.
    pub(crate) chats: PathBuf,
    key: String,
}

impl Client {
    /// The node that runs on this data folder.
    pub(crate) fn of(said: Option<PathBuf>) -> Result<Self, ClientError> {
        let folder = Folder::look(said)?;
        let running = folder.running()?;
        let key = bearer(&folder.join("api-key"))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .map_err(|source| ClientError::Unreachable {
                url: running.base_url.clone(),
                source,
            })?;
        Ok(Self {
            http,
            running,
            chats: folder.join("chats"),
            key,
        })
    }

    /// Gets from a path of the node.
    pub(crate) async fn get(&self, path: &str) -> Result<reqwest::Response, ClientError> {
        let url = format!("{}{path}", self.running.dashboard_url.trim_end_matches('/'));
        self.send(self.http.get(&url), url.clone()).await
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
        let response = sent.map_err(|source| ClientError::Unreachable { url, source })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.text().await.map_err(ClientError::Broken)?;
        let message = openai::ErrorBody::message_in(text.as_bytes()).unwrap_or(text);
        Err(ClientError::Refused { status, message })
    }
}

/// A response's JSON.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(
    response: reqwest::Response,
) -> Result<T, ClientError> {
    let bytes = response.bytes().await.map_err(ClientError::Broken)?;
    serde_json::from_slice(&bytes).map_err(ClientError::Malformed)
}
