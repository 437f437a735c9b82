//! Routes that only the owner may use: behind the node's bearer key; at the
//! node's own address, or at a door of their own.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, routing::MethodRouter};
use openai::{ErrorBody, ErrorKind};
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::folder::{FolderError, Running};
use crate::listen::{ListenError, listen};
use crate::place::Place;

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Opens a door on this machine, behind the folder's key, at which other
/// commands ask, and announces it. `endpoint`: where the node's description is
/// served, if it is.
pub(crate) async fn open_door(
    place: &Place,
    endpoint: Option<SocketAddr>,
    routes: Router,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), DoorError> {
    let mut running = serve_door(place, routes, tasks, stop).await?;
    running.endpoint = endpoint.map(|endpoint| endpoint.to_string());
    place.folder.announce(&running)?;
    Ok(())
}

/// The same, of which nobody hears yet: what is to be announced.
pub(crate) async fn serve_door(
    place: &Place,
    routes: Router,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Running, ListenError> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let (listener, http) = listen(anywhere, "--data").await?;
    let served = axum::serve(listener, routes).into_future();
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            served = served => drop(served),
        }
    });
    Ok(Running {
        base_url: format!("http://{http}/v1"),
        rpc_url: place.rpc_url.clone(),
        dashboard_url: format!("http://{http}/"),
        endpoint: None,
        hosts: vec![],
        pays_with: vec![],
    })
}

/// Lets only those to `routes` who show `key`.
pub(crate) fn guarded<S: Clone + Send + Sync + 'static>(
    routes: impl IntoIterator<Item = (&'static str, MethodRouter<S>)>,
    key: &str,
) -> Router<S> {
    let key: Arc<str> = key.into();
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, to)| router.route(path, to));
    router.route_layer(from_fn_with_state(key, shown))
}

/// Lets through who shows the node's key.
async fn shown(State(key): State<Arc<str>>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let bearer = shown
        .and_then(|shown| shown.strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if bool::from(bearer.ct_eq(key.as_bytes())) {
        next.run(request).await
    } else {
        refuse(
            StatusCode::UNAUTHORIZED,
            "this needs the node's own key, the first line of the file api-key in its data folder: Authorization: Bearer KEY",
        )
    }
}

/// The query of a request; what is wrong with it is told as other errors are.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(refuse(StatusCode::BAD_REQUEST, &error.body_text())),
        }
    }
}

/// An error as the gateway words it.
pub(crate) fn refuse(status: StatusCode, message: &str) -> Response {
    let (kind, code) = match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Authentication, "invalid_api_key"),
        StatusCode::NOT_FOUND => (ErrorKind::InvalidRequest, "not_found"),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::RateLimit, "too_many_requests"),
        status if status.is_client_error() => (ErrorKind::InvalidRequest, "invalid_request"),
        _ => (ErrorKind::Server, "unavailable"),
    };
    let body = ErrorBody::new(kind, code, message);
    (status, Json(body)).into_response()
}
