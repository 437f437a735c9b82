//! The accept loop and the life of one connection.
//!
//! Our own loop, because the limits of a public edge belong to the socket:
//! how many, how long a head may take, how long a reader may sleep, and that
//! a refused client gets to read why before the connection is gone.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::gate::Front;
use crate::stall::Stall;

/// A pause after a failed accept: the process is out of files, and trying at once changes nothing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most headers of a request.
const MAX_HEADERS: usize = 100;

/// The longest head of a request, and the most that is read or written ahead.
const BUFFER_BYTES: usize = 64 * 1024;

/// The most that is read of what a refused client still sends.
const LINGER_BYTES: usize = 256 * 1024 * 1024;

/// Time for the error events of answers that were cut off to get out.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a client gets when every connection is taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 145\r\n\r\n{\"error\":{\"message\":\"every connection is taken; try again after the time in Retry-After\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";

/// Serves until told to stop, then until the last connection has ended.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    front: Arc<Front>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection's task failed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Err(error) => {
                warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
            Ok((socket, _)) if connections.len() >= front.settings.limits.connections => {
                // Its send buffer is empty: this takes all of it or the socket is gone.
                let _ = socket.try_write(FULL);
            }
            Ok((socket, _)) => {
                let routes = routes.clone();
                connections.spawn(converse(socket, routes, Arc::clone(&front), stop.clone()));
            }
        }
    }
    drop(listener);
    drain(connections, &front).await;
}

/// Waits for running answers, then cuts them off, then leaves.
async fn drain(mut connections: JoinSet<()>, front: &Front) {
    let wait =
        async |connections: &mut JoinSet<()>| while connections.join_next().await.is_some() {};
    if timeout(front.settings.limits.drain, wait(&mut connections))
        .await
        .is_ok()
    {
        return;
    }
    front.cut.cancel();
    if timeout(LAST_WORDS, wait(&mut connections)).await.is_err() {
        warn!(connections = connections.len(), "connections are dropped");
        connections.shutdown().await;
    }
}

/// Serves one connection to its end.
async fn converse(socket: TcpStream, routes: Router, front: Arc<Front>, stop: CancellationToken) {
    let limits = &front.settings.limits;
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "the client is gone already");
        return;
    }
    let _open = OpenConnection::count(&front);
    let io = TokioIo::new(Stall::new(socket, limits.write_stall));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, TowerToHyperService::new(routes));
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        () = stop.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
    // Drops the request that was being answered, and all work behind it.
    let socket = connection.into_parts().io.into_inner().into_inner();
    linger(socket, limits.linger).await;
}

/// Closes our half and reads on for a while: a socket closed with unread
/// input resets the connection, and the client loses what we said last.
async fn linger(mut socket: TcpStream, limit: Duration) {
    let read_out = async {
        socket.shutdown().await?;
        let mut waste = vec![0; BUFFER_BYTES];
        let mut left = LINGER_BYTES;
        loop {
            match socket.read(&mut waste).await? {
                read if read == 0 || read > left => return Ok::<(), std::io::Error>(()),
                read => left -= read,
            }
        }
    };
    match timeout(limit, read_out).await {
        Err(_) => debug!("a client went on sending after the end"),
        Ok(Err(error)) => debug!(%error, "a client left"),
        Ok(Ok(())) => {}
    }
}

struct OpenConnection<'a>(&'a Front);

impl<'a> OpenConnection<'a> {
    fn count(front: &'a Front) -> Self {
        front.metrics.connection_opened();
        Self(front)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.metrics.connection_closed();
    }
}
