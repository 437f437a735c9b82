//! JSON-RPC over a WebSocket, at the same address as over HTTP: requests and
//! batches, and besides them what a client subscribed to.
//!
//! One task a connection. It answers one message after the other, so a client
//! that asks faster than it reads is felt by itself alone. News waits in one
//! bounded queue for all; who falls behind it, does not read, or is silent to
//! pings is cut off and told why.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::answering;
use crate::http::{BODY_BYTES_MAX, Doors, unread};
use crate::keeper::Asker;
use crate::rpc::request::{Body, Request};
use crate::rpc::subscriptions::Subscriptions;

/// WebSockets at once.
pub(crate) const SOCKETS_MAX: usize = 64;
/// How long a client may take to read an answer, or all that tells of one event.
const READ_WAIT: Duration = Duration::from_secs(5);
/// Between two pings; who has said nothing since the last one is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How much of what comes in is read at once; requests are small.
const READ_BUFFER: usize = 16 * 1024;

/// A connection that became a WebSocket, with its place among them.
pub(crate) struct Upgraded {
    socket: WebSocket,
    _place: OwnedSemaphorePermit,
}

/// Where connections wait to become WebSockets.
#[derive(Debug, Clone)]
pub(crate) struct Lobby {
    places: Arc<Semaphore>,
    upgraded: mpsc::Sender<Upgraded>,
}

impl Lobby {
    /// And where they come out of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Upgraded>) {
        let (upgraded, out) = mpsc::channel(SOCKETS_MAX);
        let places = Arc::new(Semaphore::new(SOCKETS_MAX));
        (Self { places, upgraded }, out)
    }
}

/// Why a connection ends.
enum End {
    /// The client left, or broke the connection or its rules.
    Left,
    /// It does not read what it asked for.
    Slow,
    /// It does not answer pings.
    Silent,
    /// The chain stops.
    Stopped,
}

/// Makes a WebSocket of a connection that asks for it.
pub(crate) async fn upgrade(
    State(doors): State<Doors>,
    headers: HeaderMap,
    wanted: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(_) if !headers.contains_key(header::UPGRADE) => {
            let why = "JSON-RPC is asked by POST, or over a WebSocket at the same address";
            return unread(StatusCode::METHOD_NOT_ALLOWED, why.to_owned());
        }
        Err(rejection) => return rejection.into_response(),
    };
    let Lobby { places, upgraded } = doors.lobby;
    let Ok(place) = places.try_acquire_owned() else {
        let why = format!("there are {SOCKETS_MAX} WebSockets, and no more at once: close one");
        return unread(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    wanted
        .read_buffer_size(READ_BUFFER)
        .max_message_size(BODY_BYTES_MAX)
        .max_frame_size(BODY_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            let socket = Upgraded {
                socket,
                _place: place,
            };
            // When the server has stopped, dropping it closes the connection.
            let _ = upgraded.send(socket).await;
        })
}

/// Serves one connection to its end.
pub(crate) async fn converse(upgraded: Upgraded, asker: Asker, stop: CancellationToken) {
    let Upgraded { socket, _place } = upgraded;
    let mut connection = Connection {
        socket,
        asker,
        subscriptions: Subscriptions::default(),
    };
    let (code, reason) = match connection.talk(stop).await {
        End::Left => return,
        End::Slow => (close_code::POLICY, "too slow a reader"),
        End::Silent => (close_code::POLICY, "no answer to a ping"),
        End::Stopped => (close_code::AWAY, "the chain stops"),
    };
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }));
    // Who does not read this either is cut off without it.
    let _ = timeout(READ_WAIT, connection.socket.send(close)).await;
}

struct Connection {
    socket: WebSocket,
    asker: Asker,
    subscriptions: Subscriptions,
}

impl Connection {
    async fn talk(&mut self, stop: CancellationToken) -> End {
        let mut news = self.asker.news();
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = true;
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                message = self.socket.recv() => {
                    heard = true;
                    match message {
                        Some(Ok(Message::Text(text))) => self.answer(text.as_bytes()).await,
                        Some(Ok(Message::Binary(bytes))) => self.answer(&bytes).await,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Left,
                    }
                }
                told = news.recv() => match told {
                    Ok(told) => {
                        let (socket, subscriptions) = (&mut self.socket, &self.subscriptions);
                        in_time(async {
                            for text in subscriptions.told(&told) {
                                socket.send(Message::text(text)).await?;
                            }
                            Ok(())
                        }).await
                    }
                    Err(RecvError::Lagged(_)) => return End::Slow,
                    Err(RecvError::Closed) => return End::Stopped,
                },
                _ = pings.tick() => {
                    if !std::mem::take(&mut heard) {
                        return End::Silent;
                    }
                    in_time(self.socket.send(Message::Ping(Default::default()))).await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn answer(&mut self, bytes: &[u8]) -> Result<(), End> {
        let text = match Body::parse(bytes) {
            Ok(Body::One(request)) => self.answer_one(request).await,
            other => answering::answer(&self.asker, other).await,
        };
        match text {
            Some(text) => in_time(self.socket.send(Message::text(text))).await,
            None => Ok(()),
        }
    }

    async fn answer_one(&mut self, request: Request) -> Option<String> {
        let own = self
            .subscriptions
            .answer(&request.method, request.params.as_deref());
        match own {
            None => answering::answer(&self.asker, Ok(Body::One(request))).await,
            Some(answer) => request.id.map(|id| answering::write(Some(&id), &answer)),
        }
    }
}

/// Waits until the client has read it, but not for ever.
async fn in_time(sending: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
    match timeout(READ_WAIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::Slow),
    }
}
