//! A registered node's TCP door: its description over HTTP.
//!
//! The port is the one in the registry, and other protocols are to share it
//! later: the first byte tells them apart. A capital letter begins an HTTP
//! method; what begins otherwise is not spoken here and is closed.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Where the descriptor is.
pub const DESCRIPTOR_PATH: &str = "/.well-known/lethe";

/// Connections at a time; the next ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// Time for the first byte, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection ends after this, whatever it is doing.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// After an error of the listener itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves what `descriptor` holds, always the latest, until it is dropped.
pub async fn serve(listener: TcpListener, descriptor: watch::Receiver<Bytes>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let descriptor = descriptor.clone();
        connections.spawn(async move {
            let _place = place;
            if timeout(CONNECTION_TIMEOUT, connection(stream, descriptor))
                .await
                .is_err()
            {
                debug!("connection held for too long");
            }
        });
    }
}

async fn connection(stream: TcpStream, descriptor: watch::Receiver<Bytes>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut first = [0];
    match timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0].is_ascii_uppercase() => {}
        _ => return,
    }
    let service = service_fn(|request| answer(request, descriptor.borrow().clone()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "connection broke");
    }
}

/// Bodies are never read: a connection with one is closed after the answer.
fn answer(
    request: Request<Incoming>,
    descriptor: Bytes,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
    let mut response = Response::new(Full::default());
    let known = request.uri().path() == DESCRIPTOR_PATH;
    if !known {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
    } else {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        *response.body_mut() = Full::new(descriptor);
    }
    std::future::ready(Ok(response))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What the door answers to these bytes until it closes.
    async fn said_to(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_sender, descriptor) = watch::channel(Bytes::from_static(b"{\"record\":1}"));
        let asking = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an answer too: the rest of what we sent was not read.
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        tokio::select! {
            answer = asking => answer,
            () = serve(listener, descriptor) => unreachable!(),
        }
    }

    async fn status_of(head: &str) -> String {
        let answer = said_to(head.as_bytes()).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn the_descriptor_is_served_and_nothing_else() {
        let end = "HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = said_to(format!("GET /.well-known/lethe {end}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("{\"record\":1}"), "{answer}");
        assert_eq!(status_of(&format!("GET /metrics {end}")).await, "404");
        assert_eq!(
            status_of(&format!("POST /.well-known/lethe {end}")).await,
            "405"
        );
    }

    #[tokio::test]
    async fn other_protocols_are_closed_without_a_word() {
        for bytes in [&b"\x16\x03\x01"[..], b"{\"method\":1}", b"\0"] {
            assert_eq!(said_to(bytes).await, "");
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_refused() {
        let mut head = b"GET / HTTP/1.1\r\nx: ".to_vec();
        head.resize(10 * HEAD_BYTES_MAX, b'a');
        assert_eq!(
            said_to(&head).await.split(' ').nth(1).unwrap_or("reset"),
            "431"
        );
    }
}
