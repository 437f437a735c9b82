//! The real form: an iroh endpoint on one UDP socket.
//!
//! Nothing is asked of others to find a peer: no relay, no discovery, no
//! port mapping. Connections that a node dials carry streams that it opens;
//! [`peers`] has them. Those it accepts carry streams that the peer opens;
//! [`accept`] serves them. Only where who dialled lets the other one in do
//! streams go the other way, too: that is how one is reached who cannot be dialled. Every task belongs to the endpoint's
//! tracker and ends with its token.

mod accept;
mod credit;
mod peers;
mod pipe;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use iroh::RelayMode;
use iroh::endpoint::{Connection, IdleTimeout, QuicTransportConfig, VarInt, presets};
use market::{NodeId, NodeKey};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::queue::Queue;
use crate::{
    ACCEPT_QUEUE, BindError, Counters, Incoming, NodeAddr, OpenError, STREAM_WITHIN, Stream,
};
pub(crate) use credit::Credit;
use peers::Peers;
pub(crate) use pipe::{QuicReader, QuicWriter};

/// What is spoken on a connection.
const ALPN: &[u8] = b"lethe/1";

/// Connections that a node dials and keeps at a time.
pub const DIALLED_CONNECTIONS: usize = 256;

/// Connections that a node accepts at a time; more are refused.
pub const ACCEPTED_CONNECTIONS: usize = 1024;

/// Streams that a peer may have open on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 256;

/// The same to begin with, where many are connected: it grows with use.
const CROWDED_STREAMS: u32 = 32;

/// Streams that a peer may open on a connection that it did not dial, where it is let in.
pub const STREAMS_BACK: u32 = 64;

/// How long a dial may take, the handshake included: room for two repeats.
pub const DIAL_WITHIN: Duration = Duration::from_secs(4);

/// A connection on which nothing at all is heard for this long is dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a connection is made to be heard on.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long the dialling side keeps a connection without streams.
const KEEP_UNUSED: Duration = Duration::from_secs(60);

/// How long the accepting side does: longer, so that it does not hang up on
/// one who is just opening a stream.
const KEEP_UNUSED_ACCEPTED: Duration = Duration::from_secs(120);

/// What one stream may have on the way to a reader that does not read.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What all answers on a dialled connection may: all windows at once, so that
/// one reader who stalls never holds up the streams beside it.
const DIALLED_WINDOW: u32 = STREAM_WINDOW * STREAMS_PER_CONNECTION;

/// The same of one whose answers come on a connection that it dialled, and what
/// requests may on the way to it.
const BACK_WINDOW: u32 = STREAM_WINDOW * STREAMS_BACK;

/// What all requests of one accepted connection may: strangers get less.
const ACCEPTED_WINDOW: u32 = 8 * 1024 * 1024;

/// The same, where many are connected.
const CROWDED_WINDOW: u32 = 256 * 1024;

/// Codes on the wire: why a connection or a half was given up.
const CODE_DONE: VarInt = VarInt::from_u32(0);
const CODE_LEFT: VarInt = VarInt::from_u32(1);
const CODE_UNUSED: VarInt = VarInt::from_u32(2);

/// A node on UDP.
#[derive(Debug)]
pub(crate) struct Endpoint {
    inner: iroh::Endpoint,
    id: NodeId,
    /// Whose ports are passed on to the sockets.
    public: Option<IpAddr>,
    peers: Peers,
    incoming: Arc<Queue<Incoming>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Endpoint {
    pub(crate) async fn bind(
        key: &NodeKey,
        bind: SocketAddr,
        public: Option<IpAddr>,
    ) -> Result<Self, BindError> {
        let inner = listen(key, bind)
            .await
            .map_err(|source| BindError::Address {
                address: bind,
                source,
            })?;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let incoming = Arc::new(Queue::new(ACCEPT_QUEUE));
        tasks.spawn(accept::run(
            inner.clone(),
            Arc::clone(&incoming),
            tasks.clone(),
            stop.clone(),
        ));
        Ok(Self {
            peers: Peers::new(
                inner.clone(),
                Arc::clone(&incoming),
                tasks.clone(),
                stop.clone(),
            ),
            id: key.id(),
            public,
            inner,
            incoming,
            tasks,
            stop,
        })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.inner.bound_sockets().into_iter();
        let told = bound.map(|bound| match self.public {
            Some(public) => SocketAddr::new(public, bound.port()),
            None => bound,
        });
        told.collect()
    }

    pub(crate) async fn open(&self, to: &NodeAddr) -> Result<Stream, OpenError> {
        self.peers.open(to).await
    }

    pub(crate) async fn open_and_let_in(&self, to: &NodeAddr) -> Result<Stream, OpenError> {
        self.peers.open_and_let_in(to).await
    }

    pub(crate) async fn accept(&self) -> Option<Incoming> {
        self.incoming.pop().await
    }

    pub(crate) fn counters(&self) -> Counters {
        let socket = &self.inner.metrics().socket;
        Counters {
            bytes_sent: socket.send_ipv4.get() + socket.send_ipv6.get(),
            bytes_received: socket.recv_data_ipv4.get() + socket.recv_data_ipv6.get(),
        }
    }

    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.incoming.close();
        self.tasks.close();
        self.tasks.wait().await;
        self.inner.close().await;
    }
}

impl Drop for Endpoint {
    /// Without `close` everything still ends, but nobody waits for it.
    fn drop(&mut self) {
        let was_closed = self.stop.is_cancelled();
        self.stop.cancel();
        self.incoming.close();
        if let (false, Ok(runtime)) = (was_closed, tokio::runtime::Handle::try_current()) {
            let inner = self.inner.clone();
            self.tasks
                .spawn_on(async move { inner.close().await }, &runtime);
        }
    }
}

/// A connection and how many streams it carries now.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    connection: Connection,
    streams: Arc<AtomicUsize>,
    /// Whether the peer may open streams although it did not dial.
    is_let_in: Arc<AtomicBool>,
}

/// Counts one half of a stream, as long as it lives.
#[derive(Debug)]
struct InUse(Arc<AtomicUsize>);

impl Link {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            streams: Arc::default(),
            is_let_in: Arc::default(),
        }
    }

    fn peer(&self) -> NodeId {
        NodeId((*self.connection.remote_id().as_bytes()).into())
    }

    /// A stream on a connection that the peer dialled.
    pub(crate) async fn open_back(&self) -> Result<Stream, OpenError> {
        let peer = self.peer();
        match timeout(STREAM_WITHIN, self.connection.open_bi()).await {
            Ok(Ok((send, receive))) => Ok(self.stream(send, receive)),
            Ok(Err(source)) => Err(OpenError::Unreachable {
                peer,
                addresses: Vec::new(),
                source: Arc::new(source.into()),
            }),
            Err(_) => Err(OpenError::NoStream {
                peer,
                limit: STREAMS_BACK,
                within: STREAM_WITHIN,
            }),
        }
    }

    /// Takes in what the answers on so many streams may have on the way.
    pub(crate) fn widen(&self) {
        self.connection.set_receive_window(BACK_WINDOW.into());
    }

    /// From now on the peer may open streams. Whether it could not before.
    fn let_in(&self) -> bool {
        let is_new = !self.is_let_in.swap(true, Ordering::Relaxed);
        if is_new {
            let streams = STREAMS_BACK.into();
            self.connection.set_max_concurrent_bi_streams(streams);
        }
        is_new
    }

    fn is_alive(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn stream(
        &self,
        send: iroh::endpoint::SendStream,
        receive: iroh::endpoint::RecvStream,
    ) -> Stream {
        Stream::quic(
            QuicWriter::new(send, self.in_use()),
            QuicReader::new(receive, self.in_use()),
        )
    }

    fn in_use(&self) -> InUse {
        self.streams.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(&self.streams))
    }

    /// Resolves when no stream was seen for `long`.
    async fn unused_for(&self, long: Duration) {
        /// How many looks make up `long`.
        const LOOKS: u32 = 4;
        let mut idle_looks = 0;
        while idle_looks < LOOKS {
            tokio::time::sleep(long / LOOKS).await;
            let is_idle = self.streams.load(Ordering::Relaxed) == 0;
            idle_looks = if is_idle { idle_looks + 1 } else { 0 };
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn listen(
    key: &NodeKey,
    bind: SocketAddr,
) -> Result<iroh::Endpoint, Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = iroh::Endpoint::builder(presets::Minimal)
        .crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()))
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .transport_config(transport_config(STREAMS_PER_CONNECTION, ACCEPTED_WINDOW))
        .clear_ip_transports()
        .bind_addr(bind)?
        .bind()
        .await?;
    Ok(endpoint)
}

/// `streams` is what the peer may open, `window` what it may have on the way.
fn transport_config(streams: u32, window: u32) -> QuicTransportConfig {
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("a few seconds fit");
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(window.into())
        .max_idle_timeout(Some(idle))
        .default_path_max_idle_timeout(IDLE_TIMEOUT)
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .build()
}
