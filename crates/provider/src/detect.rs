//! Finds inference servers on this machine: who listens on a usual port and
//! answers `GET /v1/models`. Loopback only, one short question each.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use serde::Deserialize;

/// Servers and their usual ports.
const USUAL: [(&str, u16); 5] = [
    ("Ollama", 11434),
    ("vLLM", 8000),
    ("SGLang", 30000),
    ("llama.cpp", 8080),
    ("LM Studio", 1234),
];

/// Time to be there: it is the same machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Time for the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest list of models that is read.
const LIST_BYTES_MAX: usize = 1024 * 1024;

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What usually listens there; the server itself does not say.
    pub name: String,
    /// For [`crate::OpenAiConfig`].
    pub url: String,
    /// The models that it names.
    pub models: Vec<String>,
}

/// What matters of a list of models; servers differ in the rest.
#[derive(Deserialize)]
struct Models {
    data: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// The servers that are there, in the order of the usual ports.
pub async fn detect() -> Vec<Found> {
    let at = |(name, port): (&str, u16)| (name.to_owned(), (Ipv4Addr::LOCALHOST, port).into());
    detect_at(USUAL.map(at).to_vec()).await
}

/// The same at other ports of this machine. Addresses of other machines are passed over.
pub async fn detect_at(places: Vec<(String, SocketAddr)>) -> Vec<Found> {
    let client = Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let Ok(client) = client else {
        return vec![];
    };
    let local = places
        .into_iter()
        .filter(|(_, address)| address.ip().is_loopback());
    let asked = local.map(|(name, address)| ask(&client, name, address));
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(client: &Client, name: String, address: SocketAddr) -> Option<Found> {
    let url = format!("http://{address}/v1");
    let mut response = client.get(format!("{url}/models")).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        if body.len() + piece.len() > LIST_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    let list: Models = serde_json::from_slice(&body).ok()?;
    let models = list.data.into_iter().map(|model| model.id).collect();
    Some(Found { name, url, models })
}
