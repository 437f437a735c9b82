//! Streams between nodes, addressed by public key: iroh/QUIC and an in-memory twin.
//!
//! A [`Node`] opens streams to others and accepts theirs. On a stream travel
//! the messages of [`message`], each in a frame ([`stream`] has the format and
//! its limits), sealed from one end to the other. Both forms of a node speak
//! the same frames through the same code, so what holds on one in a test holds
//! on the other. Nothing is discovered: who dials knows key and address, from
//! what a registered node says of itself ([`describe`], served by [`door`]).
//! A relay [`carry`]s streams without opening them.

mod carry;
pub mod describe;
pub mod door;
#[cfg(test)]
mod hostile_tests;
mod memory;
pub mod message;
mod paced;
#[cfg(test)]
mod paced_tests;
mod queue;
mod quic;
mod sealed;
#[cfg(test)]
mod sealed_tests;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use market::{NodeId, NodeKey};

pub use carry::{Carried, CarryLimits, carry};
pub use memory::MemoryNetwork;
pub use paced::{ANSWER_CELLS, ASK_CELLS, TICK};
pub use quic::{
    ACCEPTED_CONNECTIONS, DIAL_WITHIN, DIALLED_CONNECTIONS, IDLE_TIMEOUT, KEEP_ALIVE, STREAMS_BACK,
    STREAMS_PER_CONNECTION,
};
pub use stream::{ReceiveError, ReceiveHalf, SendError, SendHalf, Stream, messages_in};

/// Streams that were accepted and wait for [`Node::accept`]. Behind them
/// waits the peer.
pub const ACCEPT_QUEUE: usize = 256;

/// How long to wait for a free stream on a connection.
pub const STREAM_WITHIN: Duration = Duration::from_secs(4);

/// An endpoint. Clones are the same endpoint; with the last one it goes.
#[derive(Debug, Clone)]
pub struct Node(Arc<Form>);

#[derive(Debug)]
enum Form {
    Quic(quic::Endpoint),
    Memory(memory::Member),
}

/// Where a process may make nodes, each with a key of its own.
#[derive(Debug, Clone)]
pub enum Endpoints {
    /// On UDP, at this address; with port 0 each at another port.
    Quic(SocketAddr),
    /// Within the process.
    Memory(MemoryNetwork),
}

impl Endpoints {
    /// A node whose key nobody has seen before; it is in memory only.
    pub async fn fresh(&self) -> Result<Node, BindError> {
        let key = NodeKey::from_bytes(&rand::random());
        match self {
            Self::Quic(bind) => Node::quic(&key, *bind).await,
            Self::Memory(network) => Ok(Node::memory(network, key.id())),
        }
    }
}

/// Who a node is and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddr {
    /// Its key; whoever answers has to prove it.
    pub id: NodeId,
    /// Its UDP addresses; none in memory.
    pub addresses: Vec<SocketAddr>,
}

/// A stream that a peer opened.
#[derive(Debug)]
pub struct Incoming {
    /// The peer, proven.
    pub peer: NodeId,
    /// Its stream.
    pub stream: Stream,
    /// To the peer, on the connection on which it came.
    pub back: WayBack,
    /// With the peer, who may want to open more.
    pub patience: Patience,
}

/// A way to a peer that cannot be dialled: on a connection that it dialled,
/// where it lets us in ([`Node::open_and_let_in`]).
#[derive(Debug, Clone)]
pub struct WayBack(Back);

#[derive(Debug, Clone)]
enum Back {
    Quic(quic::Link),
    Memory(memory::Back),
}

impl WayBack {
    /// Opens a stream. The peer learns of it with the first message.
    pub async fn open(&self) -> Result<Stream, OpenError> {
        match &self.0 {
            Back::Quic(link) => link.open_back().await,
            Back::Memory(back) => back.open().await,
        }
    }

    /// Takes in as much at a time as [`STREAMS_BACK`] streams may have on the
    /// way: one reader who stalls does not hold up the others.
    pub fn widen(&self) {
        match &self.0 {
            Back::Quic(link) => link.widen(),
            Back::Memory(_) => {}
        }
    }
}

/// How much more of a peer is wanted. In memory nothing comes of it.
#[derive(Debug, Clone)]
pub struct Patience(Option<quic::Credit>);

impl Patience {
    pub(crate) fn quic(credit: quic::Credit) -> Self {
        Self(Some(credit))
    }

    pub(crate) fn endless() -> Self {
        Self(None)
    }

    /// The peer may have one more stream open at a time, up to
    /// [`STREAMS_PER_CONNECTION`].
    pub fn grow(&self) {
        if let Some(credit) = &self.0 {
            credit.raise();
        }
    }

    /// The peer may open no stream beyond those that are open, and the next is
    /// taken only after so long.
    pub fn lose(&self, long: std::time::Duration) {
        if let Some(credit) = &self.0 {
            credit.hold(long);
        }
    }
}

/// What crossed a node's own UDP sockets: all of it, headers and repeats too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, or not one of this machine's.
    #[error("cannot listen on UDP {address}: choose a free port and an address of this machine")]
    Address {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why no stream could be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The id is no public key.
    #[error("node id {peer} is no ed25519 public key")]
    NotAKey {
        /// The id.
        peer: NodeId,
    },
    /// There is nowhere to dial.
    #[error("no address is known for node {peer}")]
    NoAddress {
        /// Whom.
        peer: NodeId,
    },
    /// A node has no connection to itself.
    #[error("node {peer} is this node itself")]
    Oneself {
        /// Whom.
        peer: NodeId,
    },
    /// The peer did not answer in time.
    #[error("node {peer} did not answer at {addresses:?} within {within:?}")]
    TimedOut {
        /// Whom.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
        /// How long was waited.
        within: Duration,
    },
    /// The peer, or who sits at its address, refused.
    #[error("node {peer} could not be reached at {addresses:?}")]
    Unreachable {
        /// Whom.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
        /// What happened.
        #[source]
        source: Arc<io::Error>,
    },
    /// The peer has that many of our streams open and none came free.
    #[error("no stream to node {peer} came free within {within:?} (allowed at once: {limit})")]
    NoStream {
        /// Whom.
        peer: NodeId,
        /// How many streams there may be.
        limit: u32,
        /// How long was waited.
        within: Duration,
    },
    /// This node is connected to as many peers as it may be.
    #[error("connected to {limit} nodes, which is the limit: try again when one is unused")]
    TooManyPeers {
        /// The limit.
        limit: usize,
    },
    /// This node was closed.
    #[error("this node is closed")]
    Closed,
}

impl Node {
    /// Listens on the UDP address `bind` alone (port 0: any free port) with
    /// `key` as its identity. It dials from there too: bound to a loopback
    /// address it reaches only this machine, and IPv6 only from an IPv6 one.
    pub async fn quic(key: &NodeKey, bind: SocketAddr) -> Result<Self, BindError> {
        let endpoint = quic::Endpoint::bind(key, bind, None).await?;
        Ok(Self(Arc::new(Form::Quic(endpoint))))
    }

    /// The same where others reach this node at `public`, which passes the port of
    /// `bind` on to it under the same number.
    pub async fn quic_behind(
        key: &NodeKey,
        bind: SocketAddr,
        public: IpAddr,
    ) -> Result<Self, BindError> {
        let endpoint = quic::Endpoint::bind(key, bind, Some(public)).await?;
        Ok(Self(Arc::new(Form::Quic(endpoint))))
    }

    /// Joins `network` as `id`. Who had this id there before is cut off, as if killed.
    pub fn memory(network: &MemoryNetwork, id: NodeId) -> Self {
        Self(Arc::new(Form::Memory(network.join(id))))
    }

    /// This node's public key.
    pub fn id(&self) -> NodeId {
        match &*self.0 {
            Form::Quic(endpoint) => endpoint.id(),
            Form::Memory(member) => member.id(),
        }
    }

    /// What others need to dial this node, with the address as bound, if no public one
    /// was said: after binding to all interfaces (`0.0.0.0`) the caller has to know better.
    pub fn addr(&self) -> NodeAddr {
        let addresses = match &*self.0 {
            Form::Quic(endpoint) => endpoint.addresses(),
            Form::Memory(_) => Vec::new(),
        };
        NodeAddr {
            id: self.id(),
            addresses,
        }
    }

    /// Opens a stream, on the connection that there is or on a new one: all
    /// callers share one dial per peer. The peer learns of the stream with
    /// the first message.
    pub async fn open(&self, to: &NodeAddr) -> Result<Stream, OpenError> {
        if to.id == self.id() {
            return Err(OpenError::Oneself { peer: to.id });
        }
        match &*self.0 {
            Form::Quic(endpoint) => endpoint.open(to).await,
            Form::Memory(member) => member.open(to.id).await,
        }
    }

    /// The same; from then on, as long as that connection lasts, the peer may
    /// open up to [`STREAMS_BACK`] streams at a time on it, and they come to
    /// [`Node::accept`]: for one who cannot be dialled.
    pub async fn open_and_let_in(&self, to: &NodeAddr) -> Result<Stream, OpenError> {
        if to.id == self.id() {
            return Err(OpenError::Oneself { peer: to.id });
        }
        match &*self.0 {
            Form::Quic(endpoint) => endpoint.open_and_let_in(to).await,
            Form::Memory(member) => member.open(to.id).await,
        }
    }

    /// The next stream that any peer opened; `None` once the node is closed.
    ///
    /// How long a peer may take over its first message is for the caller to
    /// say: [`ReceiveHalf::receive_within`].
    pub async fn accept(&self) -> Option<Incoming> {
        match &*self.0 {
            Form::Quic(endpoint) => endpoint.accept().await,
            Form::Memory(member) => member.accept().await,
        }
    }

    /// What crossed this node's sockets so far; in memory nothing ever does.
    pub fn counters(&self) -> Counters {
        match &*self.0 {
            Form::Quic(endpoint) => endpoint.counters(),
            Form::Memory(_) => Counters::default(),
        }
    }

    /// Ends every stream and connection, tells the peers and joins all tasks.
    pub async fn close(&self) {
        match &*self.0 {
            Form::Quic(endpoint) => endpoint.close().await,
            Form::Memory(member) => member.close(),
        }
    }
}
