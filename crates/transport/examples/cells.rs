//! How fast small messages cross a stream, on QUIC over loopback and in memory.
//!
//! `cargo run --release -p transport --example cells`. The round trip of one
//! cell at a time tells whether small writes leave at once; the stream of
//! cells tells what a message costs.

#![expect(
    clippy::print_stdout,
    reason = "a program to be read by whoever runs it"
)]

use std::time::Duration;

use bytes::Bytes;
use market::NodeKey;
use tokio::time::Instant;
use transport::message::FromProvider;
use transport::{MemoryNetwork, Node, Stream};

/// The JSON of one token, about.
const CELL_BYTES: usize = 200;

const ROUND_TRIPS: usize = 2_000;

const CELLS: u32 = 50_000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let keys = [1, 2].map(|seed| NodeKey::from_bytes(&[seed; 32]));
    let any_port = "127.0.0.1:0".parse()?;
    let near = Node::quic(&keys[0], any_port).await?;
    let far = Node::quic(&keys[1], any_port).await?;
    measure("quic", &near, &far).await?;

    let network = MemoryNetwork::new();
    let [near, far] = keys.map(|key| Node::memory(&network, key.id()));
    measure("memory", &near, &far).await
}

async fn measure(form: &str, near: &Node, far: &Node) -> Result<(), Failure> {
    let (mut here, mut there) = stream(near, far).await?;
    let mut round_trips = Vec::with_capacity(ROUND_TRIPS);
    for n in 0..ROUND_TRIPS {
        let sent = Instant::now();
        let (echoed, answered) = tokio::join!(echo(&mut there), async {
            here.send.send(&cell(u32::try_from(n)?)).await?;
            here.receive.receive::<FromProvider>().await?;
            Ok::<_, Failure>(())
        });
        echoed?;
        answered?;
        round_trips.push(sent.elapsed());
    }
    round_trips.sort_unstable();

    let began = Instant::now();
    let (sent, received) = tokio::join!(say_all(&mut there), hear_all(&mut here));
    sent?;
    let received = received?;
    let per_second = f64::from(received) / began.elapsed().as_secs_f64();
    println!(
        "{form:8} round trip p50 {:?} p99 {:?}; {per_second:.0} cells/s of {CELL_BYTES} bytes",
        at(&round_trips, 50),
        at(&round_trips, 99),
    );
    near.close().await;
    far.close().await;
    Ok(())
}

async fn stream(near: &Node, far: &Node) -> Result<(Stream, Stream), Failure> {
    let mut here = near.open(&far.addr()).await?;
    here.send.send(&cell(0)).await?;
    let mut there = far.accept().await.ok_or("closed")?.stream;
    there.receive.receive::<FromProvider>().await?;
    Ok((here, there))
}

async fn echo(there: &mut Stream) -> Result<(), Failure> {
    if let Some(cell) = there.receive.receive::<FromProvider>().await? {
        there.send.send(&cell).await?;
    }
    Ok(())
}

async fn say_all(there: &mut Stream) -> Result<(), Failure> {
    for n in 0..CELLS {
        there.send.send(&cell(n)).await?;
    }
    there.send.finish().await?;
    Ok(())
}

async fn hear_all(here: &mut Stream) -> Result<u32, Failure> {
    let mut heard = 0;
    while here.receive.receive::<FromProvider>().await?.is_some() {
        heard += 1;
    }
    Ok(heard)
}

fn cell(tokens: u32) -> FromProvider {
    FromProvider::Chunk {
        tokens,
        json: Bytes::from(vec![b'x'; CELL_BYTES]),
    }
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[sorted.len() * percent / 100]
}
