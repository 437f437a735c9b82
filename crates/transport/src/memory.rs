//! The in-memory twin: nodes that reach each other through pipes in the process.
//!
//! Same frames, same ends: a dropped half is felt at once by the other side,
//! and a node that goes takes its streams with it. What it leaves out is the
//! network: no datagrams, no handshake, no delay; a stream is seen by the peer
//! when it is opened, not with its first message, and everybody is let in.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use market::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::stream::{Broken, Stream};
use crate::{ACCEPT_QUEUE, Incoming, OpenError, Patience, STREAM_WITHIN, WayBack};

/// What a pipe holds before its writer waits; as a stream's window on QUIC.
const PIPE_BYTES: usize = 256 * 1024;

/// The least room for one read.
const READ_BYTES: usize = 16 * 1024;

/// A network within the process. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork {
    members: Arc<Mutex<HashMap<NodeId, Arc<Desk>>>>,
}

/// What the network knows of a member.
#[derive(Debug)]
struct Desk {
    incoming: Queue<Incoming>,
    gone: CancellationToken,
}

/// A way to a peer.
#[derive(Debug, Clone)]
pub(crate) struct Back {
    network: MemoryNetwork,
    own: NodeId,
    desk: Arc<Desk>,
    peer: NodeId,
}

impl Back {
    pub(crate) async fn open(&self) -> Result<Stream, OpenError> {
        self.network.open(self.own, &self.desk, self.peer).await
    }
}

/// A node on the network.
#[derive(Debug)]
pub(crate) struct Member {
    id: NodeId,
    desk: Arc<Desk>,
    network: MemoryNetwork,
}

impl MemoryNetwork {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts a node off from one moment to the next, as if its process died.
    /// Returns whether there was one.
    pub fn kill(&self, id: NodeId) -> bool {
        match self.members().remove(&id) {
            Some(desk) => {
                desk.leave();
                true
            }
            None => false,
        }
    }

    pub(crate) fn join(&self, id: NodeId) -> Member {
        let desk = Arc::new(Desk {
            incoming: Queue::new(ACCEPT_QUEUE),
            gone: CancellationToken::new(),
        });
        if let Some(before) = self.members().insert(id, Arc::clone(&desk)) {
            before.leave();
        }
        Member {
            id,
            desk,
            network: self.clone(),
        }
    }

    async fn open(&self, own: NodeId, desk: &Desk, to: NodeId) -> Result<Stream, OpenError> {
        if desk.gone.is_cancelled() {
            return Err(OpenError::Closed);
        }
        let unreachable = |kind: io::ErrorKind| OpenError::Unreachable {
            peer: to,
            addresses: Vec::new(),
            source: Arc::new(kind.into()),
        };
        let peer = self.members().get(&to).map(Arc::clone);
        let peer = peer.ok_or_else(|| unreachable(io::ErrorKind::ConnectionRefused))?;

        let (near, far) = stream_pair(&desk.gone, &peer.gone);
        let incoming = Incoming {
            peer: own,
            stream: far,
            patience: Patience::endless(),
            back: WayBack(crate::Back::Memory(Back {
                network: self.clone(),
                own: to,
                desk: Arc::clone(&peer),
                peer: own,
            })),
        };
        match tokio::time::timeout(STREAM_WITHIN, peer.incoming.push(incoming)).await {
            Ok(Ok(())) => Ok(near),
            Ok(Err(_)) => Err(unreachable(io::ErrorKind::ConnectionReset)),
            Err(_) => Err(OpenError::TimedOut {
                peer: to,
                addresses: Vec::new(),
                within: STREAM_WITHIN,
            }),
        }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Desk>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn leave(&self) {
        self.gone.cancel();
        self.incoming.close();
    }
}

impl Member {
    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) async fn open(&self, to: NodeId) -> Result<Stream, OpenError> {
        self.network.open(self.id, &self.desk, to).await
    }

    pub(crate) async fn accept(&self) -> Option<Incoming> {
        self.desk.incoming.pop().await
    }

    pub(crate) fn close(&self) {
        let mut members = self.network.members();
        // Another may have taken the id since.
        if members
            .get(&self.id)
            .is_some_and(|desk| Arc::ptr_eq(desk, &self.desk))
        {
            members.remove(&self.id);
        }
        drop(members);
        self.desk.leave();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the two ends of a pipe tell each other beside the bytes.
#[derive(Debug, Clone)]
struct Signals {
    /// The writer went before its end.
    reset: CancellationToken,
    /// The reader went.
    stopped: CancellationToken,
    /// Either node went.
    gone: [CancellationToken; 2],
}

/// The writing end of a pipe.
#[derive(Debug)]
pub(crate) struct MemoryWriter {
    pipe: DuplexStream,
    signals: Signals,
}

/// The reading end of a pipe.
#[derive(Debug)]
pub(crate) struct MemoryReader {
    pipe: DuplexStream,
    signals: Signals,
}

fn stream_pair(near: &CancellationToken, far: &CancellationToken) -> (Stream, Stream) {
    let (there, from_near) = pipe(near, far);
    let (back, from_far) = pipe(near, far);
    (
        Stream::memory(there, from_far),
        Stream::memory(back, from_near),
    )
}

fn pipe(near: &CancellationToken, far: &CancellationToken) -> (MemoryWriter, MemoryReader) {
    let (write, read) = tokio::io::duplex(PIPE_BYTES);
    let signals = Signals {
        reset: CancellationToken::new(),
        stopped: CancellationToken::new(),
        gone: [near.clone(), far.clone()],
    };
    let writer = MemoryWriter {
        pipe: write,
        signals: signals.clone(),
    };
    let reader = MemoryReader {
        pipe: read,
        signals,
    };
    (writer, reader)
}

impl Signals {
    /// Resolves when either node is gone.
    async fn lost(&self) -> Broken {
        let [near, far] = &self.gone;
        tokio::select! {
            () = near.cancelled() => {}
            () = far.cancelled() => {}
        }
        Broken::Lost(io::ErrorKind::ConnectionReset.into())
    }
}

impl MemoryWriter {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        tokio::select! {
            biased;
            broken = self.signals.lost() => Err(broken),
            () = self.signals.stopped.cancelled() => Err(Broken::Left),
            written = self.pipe.write_all(bytes) => written.map_err(|_| Broken::Left),
        }
    }

    pub(crate) async fn finish(&mut self) -> Result<(), Broken> {
        // The reader may have gone, which is no matter at the end.
        let _ = self.pipe.shutdown().await;
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        self.signals.reset.cancel();
    }

    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let signals = self.signals.clone();
        async move {
            tokio::select! {
                _ = signals.lost() => {}
                () = signals.stopped.cancelled() => {}
            }
        }
    }
}

impl MemoryReader {
    /// Appends what there is to `buffer`; `false` at the end.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> Result<bool, Broken> {
        buffer.reserve(READ_BYTES);
        tokio::select! {
            biased;
            broken = self.signals.lost() => Err(broken),
            () = self.signals.reset.cancelled() => Err(Broken::Left),
            read = self.pipe.read_buf(buffer) => match read {
                Ok(count) => Ok(count > 0),
                Err(source) => Err(Broken::Lost(source)),
            },
        }
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        self.signals.stopped.cancel();
    }
}
