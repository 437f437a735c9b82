//! Who asks for a route that is not there, or in a way that it does not take:
//! what was probably meant, and where the routes are described.
//!
//! The usual mistake is a base URL with `/v1` where the client adds that by
//! itself, or without where it does not.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_LENGTH};
use http::{Method, StatusCode, Uri};

use crate::fault::Fault;

/// Characters of a path that are said back.
const MAX_PATH: usize = 100;
/// What OpenAI's clients expect in front of every route.
const VERSION: &str = "/v1";
/// What is told to who looks at the base URL itself.
const BASE: &str = "clients of OpenAI's kind take this address as their base URL; GET /v1/models lists what is on offer";
/// What clients ask for; the others are where it is said.
const USUAL: &str = "clients ask for POST /v1/chat/completions, /v1/responses, /v1/completions, /v1/embeddings, \
                     /v1/messages, /api/chat, and for GET /v1/models, /api/tags";

/// The paths that a gateway has, and where they are described, if they are.
pub(crate) struct Known {
    pub(crate) paths: Vec<&'static str>,
    pub(crate) described_at: Option<&'static str>,
}

impl Known {
    fn has(&self, path: &str) -> bool {
        self.paths.contains(&path)
    }

    /// Nothing is at this path.
    pub(crate) fn lost(&self, method: &Method, uri: &Uri) -> Fault {
        let path: String = uri.path().chars().take(MAX_PATH).collect();
        let hint = self.meant(&path).unwrap_or_else(|| USUAL.to_owned());
        let mut message = format!("no route {method} {path}; {hint}");
        if let Some(at) = self.described_at {
            message.push_str(&format!("; GET {at} shows all of them"));
        }
        Fault::new(StatusCode::NOT_FOUND, "unknown_route", message)
    }

    /// What was meant by it, if that can be told.
    fn meant(&self, path: &str) -> Option<String> {
        let path = path.trim_end_matches('/');
        if path == VERSION {
            return Some(BASE.to_owned());
        }
        let bare = without_version(path);
        let versioned = format!("{VERSION}{bare}");
        let (is_doubled, is_bare) = (path.starts_with("/v1/v1"), bare == path);
        let meant = match self.has(&versioned) {
            true => versioned.as_str(),
            false if self.has(bare) => bare,
            false => return None,
        };
        let why = match meant {
            "/v1/messages" | "/v1/messages/count_tokens" if !is_bare => {
                ": the base URL of Anthropic's clients ends without /v1"
            }
            _ if meant == bare && !is_bare => ": the base URL of Ollama's clients ends without /v1",
            _ if is_doubled => ": the base URL has /v1 once too often",
            _ if is_bare && meant != bare => ": the base URL of OpenAI's clients ends in /v1",
            _ => "",
        };
        Some(format!("{meant} may be meant{why}"))
    }
}

/// A path without what base URLs end in, however often it is there.
pub(crate) fn without_version(path: &str) -> &str {
    let mut bare = path;
    while let Some(rest) = bare.strip_prefix(VERSION)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        bare = rest;
    }
    bare
}

/// Nothing takes this method there; which ones do, [`allowed`] says.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Fault {
    let message = format!("{method} is not allowed for {}", uri.path());
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}

/// Says in words what the header `Allow` says.
pub(crate) async fn allowed(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let allow = parts.headers.get(ALLOW).and_then(|it| it.to_str().ok());
    let (Some(allow), Some(mut fault)) = (allow, parts.extensions.get::<Fault>().cloned()) else {
        return Response::from_parts(parts, body);
    };
    let methods: Vec<_> = allow.split(',').map(str::trim).collect();
    let message = &mut fault.body.error.message;
    message.push_str(&format!("; allowed: {}", methods.join(", ")));
    let told = fault.clone().into_response().into_body();
    parts.headers.remove(CONTENT_LENGTH);
    parts.extensions.insert(fault);
    Response::from_parts(parts, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_base_url_is_told_what_is_wrong_with_it() {
        let known = Known {
            paths: vec![
                "/v1/chat/completions",
                "/v1/messages",
                "/v1/models",
                "/api/chat",
            ],
            described_at: Some("/docs"),
        };
        let told = |path: &str| {
            let fault = known.lost(&Method::POST, &path.parse().unwrap());
            fault.body.error.message
        };
        for (path, hint) in [
            (
                "/v1/v1/messages",
                "; /v1/messages may be meant: the base URL of Anthropic's clients ends without /v1;",
            ),
            (
                "/v1/v1/chat/completions",
                "; /v1/chat/completions may be meant: the base URL has /v1 once too often;",
            ),
            (
                "/chat/completions",
                "; /v1/chat/completions may be meant: the base URL of OpenAI's clients ends in /v1;",
            ),
            (
                "/v1/api/chat",
                "; /api/chat may be meant: the base URL of Ollama's clients ends without /v1;",
            ),
            ("/v1/models/", "; /v1/models may be meant;"),
            ("/v1", "take this address as their base URL"),
            ("/v1/", "take this address as their base URL"),
            ("/nonsense", "; clients ask for POST /v1/chat/completions, "),
            (
                "/v1beta/models",
                "; clients ask for POST /v1/chat/completions, ",
            ),
        ] {
            let told = told(path);
            assert!(told.contains(hint), "{path}: {told}");
            assert!(told.ends_with("; GET /docs shows all of them"), "{told}");
        }
    }
}
