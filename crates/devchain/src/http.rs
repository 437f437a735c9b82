//! JSON-RPC over HTTP.
//!
//! One path: POST for single requests and batches, GET to become a WebSocket
//! ([`crate::websocket`]). Any web page may ask: the chain holds no keys, so a
//! page can do no more than anyone with a signature.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, State};
use axum::http::{HeaderName, HeaderValue, Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::post;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::keeper::Asker;
use crate::rpc::error::RpcError;
use crate::rpc::request::Body;
use crate::websocket::{Lobby, converse, upgrade};
use crate::{Devchain, answering};

/// The largest request body, in bytes; the same as geth's.
pub const BODY_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Connections at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 512;
/// How long a connection may be silent before or in the head of a request;
/// longer than HTTP clients keep idle connections, so that they close first.
const HEAD_WAIT: Duration = Duration::from_secs(120);
/// How long a client may take to send the body of a request.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// How long a request in flight is waited for when the server stops.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// The shortest time between blocks; zero would never end.
const BEAT_MIN: Duration = Duration::from_millis(1);
/// How long to wait after the system refused a connection (no more sockets).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a browser may remember what it is allowed.
const CORS_AGE: HeaderValue = HeaderValue::from_static("86400");
/// With it Chromium lets a page of the internet ask an address of this machine.
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What the routes work with.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    asker: Asker,
    pub(crate) lobby: Lobby,
}

/// Serves the chain until `stop`; with [`crate::Options::block_time`] it also
/// makes a block at every beat. When this returns the chain is closed.
pub async fn serve(chain: Devchain, listener: TcpListener, stop: CancellationToken) {
    let asker = chain.asker().clone();
    let (lobby, mut upgraded) = Lobby::new();
    let app = Router::new()
        .route("/", post(answer).options(preflight).get(upgrade))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Doors {
            asker: asker.clone(),
            lobby,
        });
    let mut tasks = JoinSet::new();
    if let Some(period) = chain.block_time() {
        tasks.spawn(beat(asker.clone(), period, stop.clone()));
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            Some(socket) = upgraded.recv() => {
                tasks.spawn(converse(socket, asker.clone(), stop.clone()));
            }
            accepted = listener.accept(), if tasks.len() < CONNECTIONS_MAX => match accepted {
                Ok((socket, _)) => {
                    tasks.spawn(connection(socket, app.clone(), stop.clone()));
                }
                Err(error) => {
                    warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    while tasks.join_next().await.is_some() {}
    drop(upgraded);
    // Closing joins a thread, which may be writing to the disk.
    let _ = tokio::task::spawn_blocking(move || drop(chain)).await;
}

async fn beat(asker: Asker, period: Duration, stop: CancellationToken) {
    let mut beats = interval(period.max(BEAT_MIN));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beats.tick() => asker.mine().await,
        }
    }
}

async fn connection(socket: TcpStream, app: Router, stop: CancellationToken) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "a socket would not take TCP_NODELAY");
    }
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(into_response(app.oneshot(request).await)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
    let connection = http
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(DRAIN_WAIT, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

fn into_response(response: Result<HttpResponse, Infallible>) -> HttpResponse {
    match response {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn preflight() -> HttpResponse {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, CORS_AGE);
    headers.insert(PRIVATE_NETWORK, HeaderValue::from_static("true"));
    response
}

async fn answer(State(doors): State<Doors>, request: HttpRequest<HttpBody>) -> HttpResponse {
    let body = match timeout(BODY_WAIT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let why = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            return unread(StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        Ok(Err(rejection)) => return unread(rejection.status(), rejection.body_text()),
        Err(_) => {
            let why = format!("the body did not arrive within {} s", BODY_WAIT.as_secs());
            return unread(StatusCode::REQUEST_TIMEOUT, why);
        }
    };
    let text = answering::answer(&doors.asker, Body::parse(&body)).await;
    // Nothing for notifications only.
    json_response(StatusCode::OK, text.unwrap_or_default())
}

/// The answer to what was not read as a request.
pub(crate) fn unread(status: StatusCode, why: String) -> HttpResponse {
    json_response(status, answering::write(None, &Err(RpcError::Request(why))))
}

fn json_response(status: StatusCode, text: String) -> HttpResponse {
    let mut response = (status, HttpBody::from(text)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}
