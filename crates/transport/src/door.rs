//! A registered node's TCP door: its description over HTTP.
//!
//! The port is the one in the registry, and other protocols are to share it
//! later: the first byte tells them apart. A capital letter begins an HTTP
//! method; what begins otherwise is not spoken here and is closed.

use std::convert::Infallible;
use std::future::ready;
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
use market::Address;
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

/// What is served for others, who cannot be asked themselves.
pub type Guests = Arc<dyn Fn(Address) -> Option<Bytes> + Send + Sync>;

/// What is behind a door.
#[derive(Clone)]
struct Behind {
    descriptor: watch::Receiver<Bytes>,
    guests: Guests,
}

/// Serves what `descriptor` holds, always the latest, until it is dropped.
pub async fn serve(listener: TcpListener, descriptor: watch::Receiver<Bytes>) {
    serve_with(listener, descriptor, Arc::new(|_| None)).await;
}

/// The same, and below it, at `/ACCOUNT`, what there is of guests.
pub async fn serve_with(listener: TcpListener, descriptor: watch::Receiver<Bytes>, guests: Guests) {
    let behind = Behind { descriptor, guests };
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
        let behind = behind.clone();
        connections.spawn(async move {
            let _place = place;
            if timeout(CONNECTION_TIMEOUT, connection(stream, behind))
                .await
                .is_err()
            {
                debug!("connection held for too long");
            }
        });
    }
}

async fn connection(stream: TcpStream, behind: Behind) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut first = [0];
    match timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0].is_ascii_uppercase() => {}
        _ => return,
    }
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(&request, &behind))));
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

impl Behind {
    /// What is served at a path.
    fn find(&self, path: &str) -> Option<Bytes> {
        match path.strip_prefix(DESCRIPTOR_PATH)? {
            "" => Some(self.descriptor.borrow().clone()),
            below => (self.guests)(below.strip_prefix('/')?.parse().ok()?),
        }
    }
}

/// Bodies are never read: a connection with one is closed after the answer.
fn answer(request: &Request<Incoming>, behind: &Behind) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let Some(text) = behind.find(request.uri().path()) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
    } else {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        *response.body_mut() = Full::new(text);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GUEST: Address = Address::repeat_byte(7);

    /// What the door answers to these bytes until it closes.
    async fn said_to(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_sender, descriptor) = watch::channel(Bytes::from_static(b"{\"record\":1}"));
        let guests: Guests = Arc::new(|account| (account == GUEST).then(|| "a guest's".into()));
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
            () = serve_with(listener, descriptor, guests) => unreachable!(),
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
        let of = |account: Address| format!("GET /.well-known/lethe/{account:#x} {end}");
        let answer = said_to(of(GUEST).as_bytes()).await;
        assert!(answer.ends_with("a guest's"), "{answer}");
        assert_eq!(status_of(&of(Address::ZERO)).await, "404");
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
