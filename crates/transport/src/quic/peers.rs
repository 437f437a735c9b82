//! Connections that this node dials: at most one per peer, and one dial.
//!
//! Who wants a stream while a dial runs waits for that dial and shares its
//! outcome. A dial goes on when its askers leave; it is bounded by time and
//! the next asker has use for it. A dead connection is replaced by the next
//! who asks.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::endpoint::ConnectOptions;
use iroh::{EndpointAddr, PublicKey};
use market::NodeId;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::pass_on;
use super::{
    ALPN, CODE_DONE, CODE_UNUSED, DIAL_WITHIN, DIALLED_CONNECTIONS, DIALLED_WINDOW, KEEP_UNUSED,
    Link, STREAMS_BACK, STREAMS_PER_CONNECTION, transport_config,
};
use crate::queue::Queue;
use crate::{Incoming, NodeAddr, OpenError, STREAM_WITHIN, Stream};

/// How often a stream is tried for: a connection may turn out dead once.
const ATTEMPTS: usize = 2;

#[derive(Debug)]
pub(super) struct Peers {
    endpoint: iroh::Endpoint,
    /// Streams of peers that are let in.
    incoming: Arc<Queue<Incoming>>,
    dials: Mutex<HashMap<NodeId, watch::Receiver<Dial>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How far the connection to a peer is.
#[derive(Debug)]
enum Dial {
    Running,
    Up(Link),
    Failed(OpenError),
}

impl Dial {
    /// Whether the next asker may wait for it.
    fn is_of_use(&self) -> bool {
        match self {
            Self::Running => true,
            Self::Up(link) => link.is_alive(),
            Self::Failed(_) => false,
        }
    }
}

impl Peers {
    pub(super) fn new(
        endpoint: iroh::Endpoint,
        incoming: Arc<Queue<Incoming>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            endpoint,
            incoming,
            dials: Mutex::default(),
            tasks,
            stop,
        }
    }

    pub(super) async fn open(&self, to: &NodeAddr) -> Result<Stream, OpenError> {
        self.open_on(to).await.map(|(stream, _)| stream)
    }

    /// The same; from then on the peer's streams on that connection are taken.
    pub(super) async fn open_and_let_in(&self, to: &NodeAddr) -> Result<Stream, OpenError> {
        let (stream, link) = self.open_on(to).await?;
        if link.let_in() {
            // Those who ask come this way, as they come to who is dialled.
            link.widen();
            let (incoming, stop) = (Arc::clone(&self.incoming), self.stop.clone());
            self.tasks.spawn(async move {
                let taken = pass_on(&link, STREAMS_BACK, &incoming);
                stop.run_until_cancelled(taken).await;
            });
        }
        Ok(stream)
    }

    async fn open_on(&self, to: &NodeAddr) -> Result<(Stream, Link), OpenError> {
        let mut lost = None;
        for _ in 0..ATTEMPTS {
            let link = self.link(to).await?;
            match timeout(STREAM_WITHIN, link.connection.open_bi()).await {
                Ok(Ok((send, receive))) => return Ok((link.stream(send, receive), link)),
                Ok(Err(error)) => lost = Some(error),
                Err(_) => {
                    return Err(OpenError::NoStream {
                        peer: to.id,
                        limit: STREAMS_PER_CONNECTION,
                        within: STREAM_WITHIN,
                    });
                }
            }
        }
        let source = lost.map_or_else(|| io::ErrorKind::NotConnected.into(), io::Error::from);
        Err(unreachable(to, source))
    }

    pub(super) async fn link(&self, to: &NodeAddr) -> Result<Link, OpenError> {
        let mut dial = self.dial(to)?;
        // An error means that the dial's task was stopped.
        match dial
            .wait_for(|dial| !matches!(dial, Dial::Running))
            .await
            .as_deref()
        {
            Ok(Dial::Up(link)) => Ok(link.clone()),
            Ok(Dial::Failed(error)) => Err(error.clone()),
            Ok(Dial::Running) | Err(_) => Err(OpenError::Closed),
        }
    }

    /// The dial that runs or succeeded; else a new one.
    fn dial(&self, to: &NodeAddr) -> Result<watch::Receiver<Dial>, OpenError> {
        if self.stop.is_cancelled() {
            return Err(OpenError::Closed);
        }
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dial) = dials.get(&to.id)
            && dial.borrow().is_of_use()
        {
            return Ok(dial.clone());
        }
        let address = address(to)?;
        dials.retain(|_, dial| dial.borrow().is_of_use());
        if dials.len() >= DIALLED_CONNECTIONS {
            return Err(OpenError::TooManyPeers {
                limit: DIALLED_CONNECTIONS,
            });
        }
        let (outcome, dial) = watch::channel(Dial::Running);
        dials.insert(to.id, dial.clone());
        self.tasks.spawn(run(
            self.endpoint.clone(),
            to.clone(),
            address,
            outcome,
            self.stop.clone(),
        ));
        Ok(dial)
    }
}

/// Dials, then keeps the connection as long as it is of use.
async fn run(
    endpoint: iroh::Endpoint,
    to: NodeAddr,
    address: EndpointAddr,
    outcome: watch::Sender<Dial>,
    stop: CancellationToken,
) {
    let dialled = tokio::select! {
        () = stop.cancelled() => Err(OpenError::Closed),
        dialled = connect(&endpoint, &to, address) => dialled,
    };
    let link = match dialled {
        Ok(link) => link,
        Err(error) => {
            outcome.send_replace(Dial::Failed(error));
            return;
        }
    };
    outcome.send_replace(Dial::Up(link.clone()));
    let code = tokio::select! {
        () = stop.cancelled() => CODE_DONE,
        () = link.unused_for(KEEP_UNUSED) => CODE_UNUSED,
        _ = link.connection.closed() => CODE_DONE,
    };
    link.connection.close(code, b"");
}

async fn connect(
    endpoint: &iroh::Endpoint,
    to: &NodeAddr,
    address: EndpointAddr,
) -> Result<Link, OpenError> {
    // The peer opens no streams on a connection that it did not dial, unless it is let in.
    let options = ConnectOptions::new().with_transport_config(transport_config(0, DIALLED_WINDOW));
    let dialled = async {
        let connecting = endpoint
            .connect_with_opts(address, ALPN, options)
            .await
            .map_err(io::Error::other)?;
        connecting.await.map_err(io::Error::other)
    };
    match timeout(DIAL_WITHIN, dialled).await {
        Ok(Ok(connection)) => Ok(Link::new(connection)),
        Ok(Err(source)) => Err(unreachable(to, source)),
        Err(_) => Err(OpenError::TimedOut {
            peer: to.id,
            addresses: to.addresses.clone(),
            within: DIAL_WITHIN,
        }),
    }
}

fn address(to: &NodeAddr) -> Result<EndpointAddr, OpenError> {
    if to.addresses.is_empty() {
        return Err(OpenError::NoAddress { peer: to.id });
    }
    let key = PublicKey::from_bytes(&to.id.0.0).map_err(|_| OpenError::NotAKey { peer: to.id })?;
    Ok(to
        .addresses
        .iter()
        .fold(EndpointAddr::new(key), |address, &socket| {
            address.with_ip_addr(socket)
        }))
}

fn unreachable(to: &NodeAddr, source: io::Error) -> OpenError {
    OpenError::Unreachable {
        peer: to.id,
        addresses: to.addresses.clone(),
        source: Arc::new(source),
    }
}
