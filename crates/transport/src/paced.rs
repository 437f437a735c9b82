//! Sending at a steady beat: so many cells at each tick, whether there is
//! something to say or not, so that neither sizes nor times tell what is said.
//!
//! A task of its own has the pipe and the sealer; what is said waits in a
//! queue for its tick. The side that answers goes on after its last word until
//! the number of cells is one of a few ([`seal::ResponseSealer::padding_due`]).

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use seal::CELL_DATA_BYTES;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::sealed::Sealer;
use crate::stream::{SendError, Writer};

/// Between two ticks.
pub const TICK: Duration = Duration::from_millis(100);

/// Cells at each tick of the side that answers: about 20 kB/s.
pub const ANSWER_CELLS: usize = 8;

/// Cells at each tick of the side that asks; it has vouchers to send.
pub const ASK_CELLS: usize = 1;

/// Messages that wait for their tick; who has more waits with them.
const QUEUE: usize = 4;

/// Where the task is told what to say. Dropped, it ends the task, and the peer
/// sees that the rest will not come.
#[derive(Debug)]
pub(crate) struct Paced {
    said: mpsc::Sender<Said>,
    task: JoinSet<Result<(), SendError>>,
    gone: CancellationToken,
}

#[derive(Debug)]
enum Said {
    Frames(Vec<u8>),
    End,
}

/// What the task holds.
struct Pacer {
    pipe: Writer,
    sealer: Sealer,
    said: mpsc::Receiver<Said>,
    /// Goes out before the first cell.
    front: Vec<u8>,
    /// Waits for its tick.
    pending: BytesMut,
    has_said_all: bool,
    has_finished: bool,
}

impl Paced {
    /// What says things, and what has to be [started](Self::start) with the pipe.
    pub(crate) fn new() -> (Self, Beginning) {
        let (said, heard) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        let beginning = Beginning {
            heard,
            gone: gone.clone(),
        };
        let task = JoinSet::new();
        (Self { said, task, gone }, beginning)
    }

    /// Begins to beat.
    pub(crate) fn start(
        &mut self,
        beginning: Beginning,
        pipe: Writer,
        sealer: Sealer,
        front: Vec<u8>,
    ) {
        let pacer = Pacer {
            pipe,
            sealer,
            said: beginning.heard,
            front,
            pending: BytesMut::new(),
            has_said_all: false,
            has_finished: false,
        };
        let gone = beginning.gone.drop_guard();
        self.task.spawn(async move {
            let _gone = gone;
            pacer.run().await
        });
    }

    /// Whether the peer is there still, as far as is known.
    pub(crate) async fn is_alive(&mut self) -> Result<(), SendError> {
        match self.said.is_closed() {
            false => Ok(()),
            true => self.outcome().await,
        }
    }

    /// Waits for room in the queue; cancelled, it was not said.
    pub(crate) async fn say(&mut self, frames: Vec<u8>) -> Result<(), SendError> {
        match self.said.send(Said::Frames(frames)).await {
            Ok(()) => Ok(()),
            Err(_) => self.outcome().await,
        }
    }

    /// Waits until all was said, and the padding behind it.
    pub(crate) async fn finish(&mut self) -> Result<(), SendError> {
        // A task that is gone has an outcome of its own.
        let _ = self.said.send(Said::End).await;
        match self.task.join_next().await {
            Some(Ok(outcome)) => outcome,
            _ => Err(SendError::Spent),
        }
    }

    /// Resolves when the task ended: the peer reads no more, or has everything.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.gone.clone().cancelled_owned()
    }

    /// Why the task ended without being told to.
    async fn outcome(&mut self) -> Result<(), SendError> {
        match self.task.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(SendError::Spent),
        }
    }
}

/// What a task begins with.
pub(crate) struct Beginning {
    heard: mpsc::Receiver<Said>,
    gone: CancellationToken,
}

impl Pacer {
    async fn run(mut self) -> Result<(), SendError> {
        let mut beat = interval(TICK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = self.pipe.stopped();
        tokio::pin!(stopped);
        let room = self.sealer.cells_each_tick() * CELL_DATA_BYTES;
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return Err(SendError::Left),
                // As much as the next tick takes; the rest waits where it comes from.
                said = self.said.recv(), if self.pending.len() < room && !self.has_said_all => {
                    match said {
                        Some(Said::Frames(frames)) => self.pending.extend_from_slice(&frames),
                        Some(Said::End) | None => self.has_said_all = true,
                    }
                    continue;
                }
                _ = beat.tick() => {}
            }
            let bytes = self.tick()?;
            self.pipe.write(bytes).await?;
            if self.has_said_all && self.pending.is_empty() && self.sealer.padding_due() == 0 {
                self.pipe.write(self.sealer.end()?).await?;
                self.pipe.finish().await?;
                self.has_finished = true;
                return Ok(());
            }
        }
    }

    /// The bytes of one tick: always as many.
    fn tick(&mut self) -> Result<Bytes, SendError> {
        let cells = self.sealer.cells_each_tick();
        let now = self.pending.len().min(cells * CELL_DATA_BYTES);
        let mut bytes = std::mem::take(&mut self.front);
        bytes.extend_from_slice(&self.sealer.data(&self.pending[..now])?);
        self.pending.advance(now);
        bytes.extend_from_slice(&self.sealer.pad(cells - now.div_ceil(CELL_DATA_BYTES))?);
        Ok(bytes.into())
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        if !self.has_finished {
            self.pipe.reset();
        }
    }
}
