//! What a request must pass before it is looked at: the name it was called
//! by, the page it comes from, the key it shows.
//!
//! A node on a laptop has no other wall against web pages: without these
//! checks any page could spend its owner's money.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, HeaderMap, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::fault::Fault;
use crate::gate::Front;
use crate::metrics::Route;
use crate::settings::without_port;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_PRIVATE: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Said to whoever asks: of this machine it tells nothing but what the docs tell of every one.
const WHERE_KEYS_ARE: &str = "the node's own is in the file api-key of its data folder (--data DIR, \
                              else ~/.local/share/lethe), `lethe key add NAME` makes others";

/// Gives every answer a name, the client's own if it brings one.
pub(crate) async fn name(request: Request, next: Next) -> Response {
    let fits = |id: &&HeaderValue| {
        id.len() <= MAX_REQUEST_ID && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let given = request.headers().get(REQUEST_ID).filter(fits).cloned();
    let id = given.unwrap_or_else(|| {
        let id = format!("req_{:032x}", rand::random::<u128>());
        HeaderValue::try_from(id).expect("hex digits fit a header")
    });
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Counts every answer by its status.
pub(crate) async fn count(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let route = Route::of(request.uri().path());
    let response = next.run(request).await;
    front.metrics.request(route, response.status());
    response
}

/// Lets through what was called by a known name, from no page or a known one.
pub(crate) async fn page(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let settings = &front.settings;
    let host = match host_of(&request) {
        Ok(host) => host,
        Err(fault) => return fault.into_response(),
    };
    if let Some(host) = host.as_deref().filter(|host| !settings.allows_host(host)) {
        return unknown_host(host, "--allow-host").into_response();
    }
    let Some(origin) = request.headers().get(ORIGIN).cloned() else {
        return next.run(request).await;
    };
    if !settings.allows_origin(&origin, host.as_deref()) {
        return unknown_origin(&origin).into_response();
    }
    let asks_first = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks_first {
        preflight(request.headers())
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("origin"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "x-request-id, x-lethe-request, x-lethe-provider, x-lethe-labels, x-lethe-route, retry-after",
        ),
    );
    response
}

/// Lets through what was called by a name that is good for the owner's routes, too.
pub(crate) async fn owner(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let host = match host_of(&request) {
        Ok(host) => host,
        Err(fault) => return fault.into_response(),
    };
    match host.as_deref() {
        Some(host) if !front.settings.allows_owner_host(host) => {
            unknown_host(host, "--allow-admin-host").into_response()
        }
        _ => next.run(request).await,
    }
}

/// By what name the gateway was called; none only before HTTP/1.1.
fn host_of(request: &Request) -> Result<Option<String>, Fault> {
    let fault = |problem: &str| {
        let message = format!("header Host: {problem}; send it once, as name or name:port");
        Fault::new(StatusCode::BAD_REQUEST, "bad_host", message)
    };
    let mut given = request.headers().get_all(HOST).iter();
    let header = match (given.next(), given.next()) {
        (_, Some(_)) => return Err(fault("there twice")),
        (None, _) if request.version() >= Version::HTTP_11 => return Err(fault("missing")),
        (None, _) => None,
        (Some(host), _) => Some(host.to_str().map_err(|_| fault("not ASCII"))?),
    };
    // A target with a name of its own says whom it means in place of the header.
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    Ok(target.or(header).map(str::to_owned))
}

/// `flag`: which one allows it.
fn unknown_host(host: &str, flag: &str) -> Fault {
    let host: String = host.chars().take(100).collect();
    let name = without_port(&host);
    let message = format!(
        "header Host: {host:?} is not a name of this node; call it by localhost or its address, or allow the name: {flag} {name}"
    );
    Fault::new(StatusCode::FORBIDDEN, "unknown_host", message)
}

fn unknown_origin(origin: &HeaderValue) -> Fault {
    let origin: String = String::from_utf8_lossy(origin.as_bytes())
        .chars()
        .take(100)
        .collect();
    let message = format!(
        "header Origin: pages of {origin:?} may not call this node, only those of this machine (localhost, any port); call it from that page's server"
    );
    Fault::new(StatusCode::FORBIDDEN, "unknown_origin", message)
}

/// Tells a browser that the page may go on.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    // Clients send headers of their own making (x-stainless-…): all are fine.
    let wanted = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let wanted = wanted.unwrap_or(HeaderValue::from_static(
        "authorization, content-type, x-api-key",
    ));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if asked.contains_key(REQUEST_PRIVATE) {
        headers.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
    }
    response
}

/// Lets through who shows a key, if keys are asked for.
pub(crate) async fn key(
    State(front): State<Arc<Front>>,
    mut request: Request,
    next: Next,
) -> Response {
    if front.is_open() {
        return next.run(request).await;
    }
    let problem = match shown_key(request.headers()) {
        None => "no key",
        Some(shown) => match front.known(shown) {
            None => "the key is not one of this node's",
            Some(defaults) => {
                request.extensions_mut().insert(defaults);
                return next.run(request).await;
            }
        },
    };
    let message = format!(
        "{problem}; send one as Authorization: Bearer KEY, or as x-api-key: KEY; {WHERE_KEYS_ARE}"
    );
    let fault = Fault::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
    let mut response = fault.into_response();
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn shown_key(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: usize = "bearer ".len();
    let bearer = headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .and_then(|value| {
            let (scheme, key) = value.split_at_checked(SCHEME)?;
            scheme
                .eq_ignore_ascii_case(b"bearer ")
                .then_some(key.trim_ascii())
        });
    bearer.or_else(|| headers.get(API_KEY).map(HeaderValue::as_bytes))
}
