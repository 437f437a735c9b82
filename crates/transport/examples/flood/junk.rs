//! Requests that are noise, from many keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use market::{NodeId, NodeKey};
use rand::RngCore as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use transport::message::Hello;
use transport::{Node, NodeAddr};

use crate::Failure;

/// Nodes that dial at the same time.
const DIAL_AT_ONCE: usize = 32;

/// Between two bursts of a node; a burst is all that is due by then.
const BURST_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct Attack {
    pub(crate) relay: NodeAddr,
    pub(crate) to: NodeId,
    pub(crate) keys: u32,
    pub(crate) per_second: u32,
    pub(crate) lasts: Duration,
    /// Of noise in each.
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct Done {
    sent: AtomicU64,
    failed: AtomicU64,
}

pub(crate) async fn run(attack: Attack) -> Result<Value, Failure> {
    let attack = Arc::new(attack);
    let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
    let dialling = futures_util::stream::iter(0..attack.keys)
        .map(|_| {
            let attack = Arc::clone(&attack);
            async move {
                let node = Node::quic(&NodeKey::from_bytes(&rand::random()), any_port).await?;
                let _ = node.open(&attack.relay).await;
                Ok::<_, Failure>(node)
            }
        })
        .buffer_unordered(DIAL_AT_ONCE);
    let nodes: Vec<Node> = dialling
        .filter_map(async |dialled| dialled.ok())
        .collect()
        .await;

    let done = Arc::new(Done::default());
    let began = Instant::now();
    let mut attackers = JoinSet::new();
    for node in &nodes {
        attackers.spawn(attacker(
            node.clone(),
            Arc::clone(&attack),
            Arc::clone(&done),
        ));
    }
    attackers.join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    let sent = done.sent.load(Ordering::Relaxed);
    Ok(json!({
        "keys": nodes.len(),
        "wanted_per_second": attack.per_second,
        "sent": sent,
        "not_taken": done.failed.load(Ordering::Relaxed),
        "sent_per_second": (f64::from(u32::try_from(sent)?) / seconds).round(),
    }))
}

async fn attacker(node: Node, attack: Arc<Attack>, done: Arc<Done>) {
    let mut bursts = interval(BURST_EVERY);
    bursts.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = Instant::now() + attack.lasts;
    let per_second = f64::from(attack.per_second) / f64::from(attack.keys);
    let head_start = rand::random::<f64>();
    let (began, mut asked) = (Instant::now(), 0.0);
    while Instant::now() < deadline {
        bursts.tick().await;
        let due = head_start + began.elapsed().as_secs_f64() * per_second;
        while asked + 1.0 <= due && Instant::now() < deadline {
            asked += 1.0;
            let sent = timeout(Duration::from_secs(2), junk(&node, &attack)).await;
            let count = match sent {
                Ok(Ok(())) => &done.sent,
                _ => &done.failed,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn junk(node: &Node, attack: &Attack) -> Result<(), Failure> {
    let mut stream = node.open(&attack.relay).await?;
    stream.through(attack.to)?;
    stream.send.send(&Hello::Sealed { token: None }).await?;
    let mut noise = vec![0; attack.bytes];
    rand::rng().fill_bytes(&mut noise);
    stream.send.write(Bytes::from(noise)).await?;
    stream.send.finish().await?;
    Ok(())
}
