//! Finds inference servers on this machine: who listens on a usual port and
//! answers `GET /v1/models`. Loopback only, a short question or two each. What it is,
//! the server says: a port is anybody's.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The usual ports of Ollama, vLLM, SGLang, llama.cpp and LM Studio.
const USUAL: [u16; 5] = [11434, 8000, 30000, 8080, 1234];

/// Servers, and what stands as `owned_by` in their lists of models.
const OWNERS: [(&str, &str); 4] = [
    ("vllm", "vLLM"),
    ("sglang", "SGLang"),
    ("llamacpp", "llama.cpp"),
    ("organization_owner", "LM Studio"),
];

/// The one that has a page of its version instead.
const OLLAMA: &str = "Ollama";

/// One that does not say what it is.
const SOME: &str = "a server";

/// Time to be there: it is the same machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Time for the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest page that is read.
const LIST_BYTES_MAX: usize = 1024 * 1024;

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it says it is.
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
    #[serde(default)]
    owned_by: Option<String>,
}

/// The page of a version.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "version")]
    _version: String,
}

/// The servers that are there, in the order of the usual ports.
pub async fn detect() -> Vec<Found> {
    detect_at(
        USUAL
            .map(|port| (Ipv4Addr::LOCALHOST, port).into())
            .to_vec(),
    )
    .await
}

/// The same at other ports of this machine. Addresses of other machines are passed over.
pub async fn detect_at(places: Vec<SocketAddr>) -> Vec<Found> {
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
        .filter(|address| address.ip().is_loopback());
    let asked = local.map(|address| ask(&client, address));
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(client: &Client, address: SocketAddr) -> Option<Found> {
    let url = format!("http://{address}/v1");
    let list: Models = read(client, &format!("{url}/models")).await?;
    let mut owners = list
        .data
        .iter()
        .filter_map(|model| model.owned_by.as_deref());
    let known = owners.find_map(|owner| OWNERS.iter().find(|(own, _)| *own == owner));
    let name = match known {
        Some((_, name)) => name,
        None => match read::<Version>(client, &format!("http://{address}/api/version")).await {
            Some(_) => OLLAMA,
            None => SOME,
        },
    };
    Some(Found {
        name: name.to_owned(),
        url,
        models: list.data.into_iter().map(|model| model.id).collect(),
    })
}

/// A short page of JSON.
async fn read<T: DeserializeOwned>(client: &Client, url: &str) -> Option<T> {
    let mut response = client.get(url).send().await.ok()?;
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
    serde_json::from_slice(&body).ok()
}
