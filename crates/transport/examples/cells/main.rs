//! What small messages cost on a stream: on iroh's QUIC over loopback, on
//! plain QUIC (quinn) with the same frames, and in memory.
//!
//! `cargo run --release -p transport --example cells`. The round trip of one
//! cell at a time tells whether small writes leave at once. The processor time
//! is that of both ends together, user and system, over all threads of this
//! process; it is told flat out and at the pace of 1, 8 and 20 answers of 50
//! tokens per second, where every cell is a datagram of its own.

#![expect(
    clippy::print_stdout,
    reason = "a program to be read by whoever runs it"
)]

mod plain;

use std::time::Duration;

use bytes::Bytes;
use market::NodeKey;
use tokio::time::{Instant, interval};
use transport::message::FromProvider;
use transport::{MemoryNetwork, Node, Stream};

/// The JSON of one token, about.
const CELL_BYTES: usize = 200;

const ROUND_TRIPS: usize = 2_000;

const FLAT_OUT_CELLS: u32 = 100_000;

/// Cells per second.
const PACES: [u32; 3] = [50, 400, 1_000];

const PACED: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error>;

/// One end of a stream of cells.
trait End {
    async fn say(&mut self, cell: &FromProvider) -> Result<(), Failure>;
    async fn hear(&mut self) -> Result<FromProvider, Failure>;
}

impl End for Stream {
    async fn say(&mut self, cell: &FromProvider) -> Result<(), Failure> {
        Ok(self.send.send(cell).await?)
    }

    async fn hear(&mut self) -> Result<FromProvider, Failure> {
        Ok(self.receive.receive().await?.ok_or("ended")?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let keys = [1, 2].map(|seed| NodeKey::from_bytes(&[seed; 32]));
    let any_port = "127.0.0.1:0".parse()?;
    let near = Node::quic(&keys[0], any_port).await?;
    let far = Node::quic(&keys[1], any_port).await?;
    let (here, there) = stream(&near, &far).await?;
    measure("iroh", here, there).await?;

    let (here, there) = plain::stream().await?;
    measure("quinn", here, there).await?;

    let network = MemoryNetwork::new();
    let [near, far] = keys.map(|key| Node::memory(&network, key.id()));
    let (here, there) = stream(&near, &far).await?;
    measure("memory", here, there).await
}

async fn stream(near: &Node, far: &Node) -> Result<(Stream, Stream), Failure> {
    let mut here = near.open(&far.addr()).await?;
    here.say(&cell(0)).await?;
    let mut there = far.accept().await.ok_or("closed")?.stream;
    there.hear().await?;
    Ok((here, there))
}

async fn measure(form: &str, mut here: impl End, mut there: impl End) -> Result<(), Failure> {
    let mut round_trips = Vec::with_capacity(ROUND_TRIPS);
    for n in 0..ROUND_TRIPS {
        let sent = Instant::now();
        let question = cell(u32::try_from(n)?);
        let (echoed, answered) = tokio::join!(
            async {
                let heard = there.hear().await?;
                there.say(&heard).await
            },
            async {
                here.say(&question).await?;
                here.hear().await
            }
        );
        echoed?;
        answered?;
        round_trips.push(sent.elapsed());
    }
    round_trips.sort_unstable();
    println!(
        "{form:8} round trip p50 {:?} p99 {:?}",
        at(&round_trips, 50),
        at(&round_trips, 99)
    );

    let began = Instant::now();
    let us = cost(&mut here, &mut there, FLAT_OUT_CELLS, None).await?;
    let per_second = f64::from(FLAT_OUT_CELLS) / began.elapsed().as_secs_f64();
    println!(
        "{form:8} flat out: {us:6.2} µs of processor time per cell of {CELL_BYTES} bytes, {per_second:.0} cells/s"
    );
    for pace in PACES {
        let cells = pace * u32::try_from(PACED.as_secs())?;
        let us = cost(&mut here, &mut there, cells, Some(pace)).await?;
        println!("{form:8} {pace:5}/s: {us:7.2} µs of processor time per cell");
    }
    Ok(())
}

/// Microseconds of processor time per cell, for so many that go one way.
async fn cost(
    here: &mut impl End,
    there: &mut impl End,
    cells: u32,
    pace: Option<u32>,
) -> Result<f64, Failure> {
    let before = processor_time()?;
    let (said, heard) = tokio::join!(say(there, cells, pace), async {
        for _ in 0..cells {
            here.hear().await?;
        }
        Ok::<_, Failure>(())
    });
    said?;
    heard?;
    let spent = processor_time()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(cells))
}

async fn say(there: &mut impl End, cells: u32, pace: Option<u32>) -> Result<(), Failure> {
    let mut ticks = pace.map(|pace| interval(Duration::from_secs(1) / pace));
    for n in 0..cells {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        there.say(&cell(n)).await?;
    }
    Ok(())
}

/// Of all threads that there are, from Linux' scheduler, to the nanosecond.
fn processor_time() -> Result<Duration, Failure> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let line = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += line.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
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
