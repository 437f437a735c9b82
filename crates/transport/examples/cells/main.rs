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

const FLAT_OUT_CELLS: u32 = 50_000;

/// Cells per second.
const PACES: [u32; 3] = [50, 400, 1_000];

const PACED: Duration = Duration::from_secs(3);

/// The forms take turns, so that all of them meet the same machine.
const ROUNDS: usize = 5;

/// Of a round; all but the first are processor time per cell.
const FIGURES: [&str; 5] = ["round trip", "flat out", "50/s", "400/s", "1000/s"];

type Row = [f64; FIGURES.len()];

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
    let network = MemoryNetwork::new();
    let [near_memory, far_memory] = keys.map(|key| Node::memory(&network, key.id()));

    let mut iroh = stream(&near, &far).await?;
    let mut quinn = plain::stream().await?;
    let mut memory = stream(&near_memory, &far_memory).await?;
    let mut rows = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rows[0].push(measure(&mut iroh.0, &mut iroh.1).await?);
        rows[1].push(measure(&mut quinn.0, &mut quinn.1).await?);
        rows[2].push(measure(&mut memory.0, &mut memory.1).await?);
    }
    println!("microseconds, median of {ROUNDS}:");
    for (form, rows) in ["iroh", "quinn", "memory"].into_iter().zip(&rows) {
        print!("{form:8}");
        for (at, name) in FIGURES.iter().enumerate() {
            let mut column: Vec<f64> = rows.iter().map(|row| row[at]).collect();
            column.sort_by(f64::total_cmp);
            print!("{name} {:.2}  ", column[ROUNDS / 2]);
        }
        println!();
    }
    Ok(())
}

async fn stream(near: &Node, far: &Node) -> Result<(Stream, Stream), Failure> {
    let mut here = near.open(&far.addr()).await?;
    here.say(&cell(0)).await?;
    let mut there = far.accept().await.ok_or("closed")?.stream;
    there.hear().await?;
    Ok((here, there))
}

/// The [`FIGURES`] of one round.
async fn measure(here: &mut impl End, there: &mut impl End) -> Result<Row, Failure> {
    let round_trip = round_trip(here, there).await?.as_secs_f64() * 1e6;
    let flat_out = cost(here, there, FLAT_OUT_CELLS, None).await?;
    let mut row = [round_trip, flat_out, 0.0, 0.0, 0.0];
    for (paced, pace) in row[2..].iter_mut().zip(PACES) {
        let cells = pace * u32::try_from(PACED.as_secs())?;
        *paced = cost(here, there, cells, Some(pace)).await?;
    }
    Ok(row)
}

/// The median time of one cell there and back.
async fn round_trip(here: &mut impl End, there: &mut impl End) -> Result<Duration, Failure> {
    let mut round_trips = Vec::with_capacity(ROUND_TRIPS);
    for n in 0..ROUND_TRIPS {
        let question = cell(u32::try_from(n)?);
        let sent = Instant::now();
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
    Ok(round_trips[ROUND_TRIPS / 2])
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
