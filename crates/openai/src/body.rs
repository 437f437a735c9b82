//! The bodies beside the answers: errors, and the list of models.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What OpenAI clients expect for an error: `{"error": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// What kind.
    #[serde(rename = "type")]
    pub kind: ErrorKind,
    /// The field at fault.
    pub param: Option<String>,
    /// For programs: one word for the case.
    pub code: Option<String>,
}

/// Kinds of error that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request is at fault.
    #[serde(rename = "invalid_request_error")]
    InvalidRequest,
    /// The key is missing or wrong.
    #[serde(rename = "authentication_error")]
    Authentication,
    /// The key may not do this.
    #[serde(rename = "permission_error")]
    Permission,
    /// Too much at a time.
    #[serde(rename = "rate_limit_error")]
    RateLimit,
    /// There is no money for it.
    #[serde(rename = "insufficient_quota")]
    InsufficientQuota,
    /// This side, or the one behind it, is at fault.
    #[serde(rename = "server_error")]
    Server,
}

impl ErrorBody {
    /// An error that no field is at fault for.
    pub fn new(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self {
            error: ErrorDetail {
                message: message.into(),
                kind,
                param: None,
                code: Some(code.to_owned()),
            },
        }
    }

    /// The same, with the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(param.into());
        self
    }

    /// As JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it holds only strings")
    }

    /// The message in a backend's error, in any of the forms that backends
    /// use: `{"error": {"message"}}`, `{"error": ""}`, `{"message"}`, `{"detail"}`.
    pub fn message_in(json: &[u8]) -> Option<String> {
        let Value::Object(body) = serde_json::from_slice(json).ok()? else {
            return None;
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let error = body.get("error");
        text(error.and_then(|error| error.get("message")))
            .or_else(|| text(error))
            .or_else(|| text(body.get("message")))
            .or_else(|| text(body.get("detail")))
    }
}

/// The answer to `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    object: String,
    /// The models.
    pub data: Vec<ModelCard>,
}

impl ModelList {
    /// A list of these.
    pub fn new(data: Vec<ModelCard>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Its name, as a request's `model` says it.
    pub id: String,
    object: String,
    /// Since when, in seconds since 1970.
    pub created: u64,
    /// By whom.
    pub owned_by: String,
    /// What else is known: prices, context length and so on.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl ModelCard {
    /// A card with the standard fields.
    pub fn new(id: impl Into<String>, created: u64, owned_by: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            object: "model".to_owned(),
            created,
            owned_by: owned_by.into(),
            more: Map::new(),
        }
    }

    /// The same, with one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_looks_as_clients_expect() {
        let body =
            ErrorBody::new(ErrorKind::InvalidRequest, "bad_request", "no").with_param("model");
        assert_eq!(
            String::from_utf8(body.to_json()).unwrap(),
            r#"{"error":{"message":"no","type":"invalid_request_error","param":"model","code":"bad_request"}}"#
        );
        assert_eq!(ErrorBody::message_in(&body.to_json()), Some("no".into()));
    }

    #[test]
    fn a_backends_words_are_found() {
        for (json, found) in [
            (r#"{"error":{"message":"a","code":400}}"#, Some("a")),
            (r#"{"error":"b"}"#, Some("b")),
            (r#"{"object":"error","message":"c"}"#, Some("c")),
            (r#"{"detail":"d"}"#, Some("d")),
            (r#"{"detail":[{"loc":["body"]}]}"#, None),
            (r"<html>", None),
            (r"[]", None),
        ] {
            assert_eq!(
                ErrorBody::message_in(json.as_bytes()).as_deref(),
                found,
                "{json}"
            );
        }
    }

    #[test]
    fn a_card_carries_more() {
        let card = ModelCard::new("m", 7, "lethe").with("context_length", 4096);
        let json = serde_json::to_string(&ModelList::new(vec![card])).unwrap();
        assert_eq!(
            json,
            r#"{"object":"list","data":[{"id":"m","object":"model","created":7,"owned_by":"lethe","context_length":4096}]}"#
        );
    }
}
