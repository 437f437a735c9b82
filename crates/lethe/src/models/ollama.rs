//! The models that a local Ollama has.

use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Time to be there: it is near.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for the whole list.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest list that is read.
const LIST_BYTES_MAX: usize = 1024 * 1024;
/// The tag that is meant if none is said.
const USUAL_TAG: &str = ":latest";

/// Why it does not say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OllamaError {
    #[error("{url:?} is no server's address (allowed: http://HOST:PORT)")]
    Url { url: String },
    #[error(
        "no Ollama answers at {url}; start it (`ollama serve`), or say where it is with --ollama URL"
    )]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("what answers at {url} is no Ollama (status {status})")]
    Status { url: String, status: u16 },
    #[error(
        "what answers at {url} is no Ollama, or one whose list is longer than {LIST_BYTES_MAX} bytes"
    )]
    List { url: String },
    #[error("Ollama at {url} has no model {asked:?}; {known}")]
    Unknown {
        url: String,
        asked: String,
        known: String,
    },
}

impl OllamaError {
    /// Whether somebody is there at all.
    pub(crate) fn is_somebody(&self) -> bool {
        !matches!(self, Self::Unreachable { .. })
    }
}

/// A model that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {
    /// With its tag.
    pub(crate) name: String,
    /// Bytes on its disk.
    #[serde(default)]
    pub(crate) size: u64,
    /// Of its manifest: says which model it is, and is not that of the weights.
    #[serde(default)]
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) details: Details,
}

/// What is said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    /// What it is built like, such as `llama` or `nomic-bert`.
    #[serde(default)]
    pub(crate) family: String,
    /// The precision, such as `Q4_K_M`.
    #[serde(default)]
    pub(crate) quantization_level: String,
}

impl Details {
    /// Whether it makes embeddings: what is built like BERT does nothing else.
    pub(crate) fn is_encoder(&self) -> bool {
        self.family.ends_with("bert") || self.family.ends_with("roberta")
    }
}

#[derive(Deserialize)]
struct Tags {
    models: Vec<Offered>,
}

/// All that it has. `key`: for a proxy in front of it that asks for one.
pub(crate) async fn list(url: &str, key: Option<&str>) -> Result<Vec<Offered>, OllamaError> {
    let list = below(url, "/api/tags")?;
    let unreachable = |source: reqwest::Error| OllamaError::Unreachable {
        url: url.to_owned(),
        source,
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(unreachable)?;
    let mut request = client.get(list);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let mut response = request.send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(OllamaError::Status {
            url: url.to_owned(),
            status: response.status().as_u16(),
        });
    }
    let odd = || OllamaError::List {
        url: url.to_owned(),
    };
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        if body.len() + piece.len() > LIST_BYTES_MAX {
            return Err(odd());
        }
        body.extend_from_slice(&piece);
    }
    let tags: Tags = serde_json::from_slice(&body).map_err(|_| odd())?;
    Ok(tags.models)
}

/// The one of this name; without a tag its latest.
pub(crate) async fn find(
    url: &str,
    key: Option<&str>,
    asked: &str,
) -> Result<Offered, OllamaError> {
    let all = list(url, key).await?;
    let latest = format!("{asked}{USUAL_TAG}");
    let found = all.iter().find(|one| one.name == asked);
    let found = found.or_else(|| all.iter().find(|one| one.name == latest));
    if let Some(found) = found {
        return Ok(found.clone());
    }
    let names: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
    Err(OllamaError::Unknown {
        url: url.to_owned(),
        asked: asked.to_owned(),
        known: match names.is_empty() {
            true => format!("`ollama pull {asked}` brings it"),
            false => format!("there are {}", names.join(", ")),
        },
    })
}

impl Offered {
    /// Its name as people say it: the usual tag is left out.
    pub(crate) fn short(&self) -> &str {
        self.name.strip_suffix(USUAL_TAG).unwrap_or(&self.name)
    }
}

/// Where it speaks the OpenAI dialect.
pub(crate) fn backend(url: &str) -> Result<String, OllamaError> {
    Ok(below(url, "/v1")?.to_string())
}

fn below(url: &str, path: &str) -> Result<Url, OllamaError> {
    let odd = || OllamaError::Url {
        url: url.to_owned(),
    };
    let mut parsed = Url::parse(url).map_err(|_| odd())?;
    let is_plain = matches!(parsed.scheme(), "http" | "https")
        && parsed.has_host()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if !is_plain {
        return Err(odd());
    }
    let above = parsed.path().trim_end_matches('/').to_owned();
    parsed.set_path(&format!("{above}{path}"));
    Ok(parsed)
}
