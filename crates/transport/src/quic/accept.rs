//! Connections that others dial, and the streams on them.

use std::sync::Arc;

use iroh::endpoint::Connection;
use market::NodeId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    ACCEPTED_CONNECTIONS, CODE_DONE, CODE_UNUSED, DIAL_WITHIN, KEEP_UNUSED_ACCEPTED, Link,
};
use crate::Incoming;
use crate::queue::Queue;

/// Accepts until told to stop; each connection gets a task.
pub(super) async fn run(
    endpoint: iroh::Endpoint,
    incoming: Arc<Queue<Incoming>>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(ACCEPTED_CONNECTIONS));
    loop {
        let dialled = tokio::select! {
            () = stop.cancelled() => return,
            dialled = endpoint.accept() => dialled,
        };
        let Some(dialled) = dialled else { return };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(
                limit = ACCEPTED_CONNECTIONS,
                "connection refused: all places are taken"
            );
            dialled.refuse();
            continue;
        };
        let incoming = Arc::clone(&incoming);
        let stop = stop.clone();
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                Some(link) = greet(dialled) => serve(link, &incoming, &stop).await,
            }
        });
    }
}

/// The handshake, within its time.
async fn greet(dialled: iroh::endpoint::Incoming) -> Option<Link> {
    let accepting = dialled.accept().ok()?;
    match tokio::time::timeout(DIAL_WITHIN, accepting).await {
        Ok(Ok(connection)) => Some(Link::new(connection)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            None
        }
    }
}

async fn serve(link: Link, incoming: &Queue<Incoming>, stop: &CancellationToken) {
    let code = tokio::select! {
        () = stop.cancelled() => CODE_DONE,
        () = link.unused_for(KEEP_UNUSED_ACCEPTED) => CODE_UNUSED,
        () = pass_on(&link, incoming) => CODE_DONE,
    };
    link.connection.close(code, b"");
}

/// Moves streams to the queue until the connection or the queue ends. A full
/// queue is felt by the peer, who has a limited number of streams.
async fn pass_on(link: &Link, incoming: &Queue<Incoming>) {
    let peer = peer_id(&link.connection);
    while let Ok((send, receive)) = link.connection.accept_bi().await {
        let stream = link.stream(send, receive);
        if incoming.push(Incoming { peer, stream }).await.is_err() {
            return;
        }
    }
}

fn peer_id(connection: &Connection) -> NodeId {
    NodeId((*connection.remote_id().as_bytes()).into())
}
