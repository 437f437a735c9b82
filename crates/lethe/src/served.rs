//! What a server of models says that it has: asked by the doctor, and at the
//! start of a provider that is to sell its answers.

use std::time::Duration;

use provider::base_url;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::timeout;

use crate::cli;
use crate::config::without_secrets;
use crate::output;
use crate::secret;

/// The longest list of models that is read.
const LIST_BYTES_MAX: usize = 1 << 20;
/// So many models are named.
const SHOWN: usize = 3;
/// So long is a server asked for its list at the start.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a server's models are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// It cannot be asked.
    #[error("no such address")]
    Url,
    /// It did not answer, or broke off.
    #[error("{}", output::with_causes(.0))]
    Http(reqwest::Error),
    /// It answered something else.
    #[error("status {0}")]
    Status(StatusCode),
    /// The list is too long.
    #[error("more than {LIST_BYTES_MAX} bytes")]
    Long,
    /// It is no JSON.
    #[error("{0}")]
    Json(serde_json::Error),
    /// It is JSON without a list.
    #[error("no list `data` in it")]
    NoList,
}

impl ListError {
    /// Whether it lets only those in who have a key.
    pub(crate) fn wants_key(&self) -> bool {
        matches!(
            self,
            Self::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
    }
}

/// The names of its models, asked at the address that a provider uses.
pub(crate) async fn models(url: &str, key: Option<&str>) -> Result<Vec<String>, ListError> {
    let told = |error: reqwest::Error| ListError::Http(error.without_url());
    let mut url = base_url(url).ok_or(ListError::Url)?;
    let path = format!("{}/models", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(told)?;
    let mut request = client.get(url);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let mut response = request.send().await.map_err(told)?;
    if !response.status().is_success() {
        return Err(ListError::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(told)? {
        if body.len() + piece.len() > LIST_BYTES_MAX {
            return Err(ListError::Long);
        }
        body.extend_from_slice(&piece);
    }
    let list: Value = serde_json::from_slice(&body).map_err(ListError::Json)?;
    let data = list["data"].as_array().ok_or(ListError::NoList)?;
    let names = data.iter().filter_map(|one| one["id"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// The first of them in words.
pub(crate) fn listed(models: &[String]) -> String {
    let named: Vec<_> = models.iter().take(SHOWN).map(String::as_str).collect();
    let more = match models.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match named.is_empty() {
        true => "it has no models".to_owned(),
        false => format!("{}{more}", output::plain(&named.join(", "))),
    }
}

/// A warning for each server that answers and does not list the model that is
/// to be sold. Some answer all the same, so it is no more than that.
pub(crate) async fn unlisted(args: &cli::Provide) -> Vec<String> {
    // A file that cannot be read ended the start before.
    let key = args.backend_key_file.as_deref();
    let key = key.and_then(|path| secret::backend_key(path).ok());
    let key = key.as_ref().map(|key| key.as_str());
    let asked = args.backend_model.as_ref().unwrap_or(&args.model);
    let mut warnings = Vec::new();
    for url in &args.backend {
        if let Ok(Ok(models)) = timeout(PATIENCE, models(url, key)).await {
            warnings.extend(missing(asked, &without_secrets(url), &models));
        }
    }
    warnings
}

/// What is said if a model is not among those that a server lists.
fn missing(model: &str, url: &str, models: &[String]) -> Option<String> {
    // Ollama adds its own word for the usual version.
    let is_it = |one: &String| one == model || one.strip_suffix(":latest") == Some(model);
    if models.iter().any(is_it) {
        return None;
    }
    let has = match models.is_empty() {
        true => "it has no models".to_owned(),
        false => format!("it has {}", listed(models)),
    };
    Some(format!(
        "WARNING: {url} does not list {model:?}: {has}. Its requests may fail; name one of these with --backend-model."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_server_does_not_list_is_warned_of() {
        let models: Vec<_> = ["llama3:latest", "phi", "qwen", "tiny"]
            .map(str::to_owned)
            .into();
        for known in ["phi", "llama3", "llama3:latest"] {
            assert_eq!(missing(known, "http://a/", &models), None);
        }
        let told = missing("Phi", "http://a/", &models).unwrap();
        assert!(
            told.contains("llama3:latest, phi, qwen and 1 more"),
            "{told}"
        );
        let told = missing("phi", "http://a/", &[]).unwrap();
        assert!(told.contains("it has no models"), "{told}");
    }

    #[tokio::test]
    async fn an_address_without_a_path_is_asked_where_a_provider_asks() {
        let routes = axum::Router::new()
            .route(
                "/v1/models",
                axum::routing::get(async || r#"{"data":[{"id":"m"}]}"#),
            )
            .route(
                "/closed/models",
                axum::routing::get(async || StatusCode::UNAUTHORIZED),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut served = tokio::task::JoinSet::new();
        served.spawn(axum::serve(listener, routes).into_future());
        for path in ["", "/", "/v1", "/v1/"] {
            assert_eq!(
                models(&format!("{url}{path}"), None).await.unwrap(),
                ["m"],
                "{path}"
            );
        }
        assert!(
            models(&format!("{url}/closed"), None)
                .await
                .unwrap_err()
                .wants_key()
        );
        assert!(
            !models(&format!("{url}/none"), None)
                .await
                .unwrap_err()
                .wants_key()
        );
    }
}
