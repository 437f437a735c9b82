//! The consumer's side of sealing: the request, and the key of its answer.

use std::io;

use bytes::Bytes;
use market::Timestamp;

use crate::cell::{
    CELL_BYTES, CELL_DATA_BYTES, CELL_HEAD_BYTES, CellKind, OPENING_HEAD_BYTES, OpeningHead,
    Pacing, write_cell,
};
use crate::envelope::{self, ChunkWriter};
use crate::epoch::EpochKey;
use crate::frame::{LENGTH_BYTES, TAG_BYTES};
use crate::ladder::{LADDER_BYTES, Shape, opening_data_max};
use crate::open::ResponseOpener;
use crate::response::PAD_CELLS_MAX;
use crate::suite::Suite;

/// Seals what the consumer says.
pub struct RequestSealer {
    writer: ChunkWriter,
    suite: Suite,
    pacing: Pacing,
    issued_at: Timestamp,
    record: [u8; 32],
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Open,
    Ended,
}

/// Why something was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The provider's record has no such key.
    #[error("the provider offers no {suite:?} key")]
    NotOffered {
        /// What was asked for.
        suite: Suite,
    },
    /// The key is no longer good; fetch the provider's record again.
    #[error("epoch key was good before {not_after}, it is {now} now", not_after = .not_after.0, now = .now.0)]
    Expired {
        /// Its end.
        not_after: Timestamp,
        /// The caller's clock.
        now: Timestamp,
    },
    /// More than the highest rung takes.
    #[error("opening of {bytes} bytes is too long (allowed: {limit})")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More padding at once than anyone needs.
    #[error("{cells} cells of padding at once (allowed: {PAD_CELLS_MAX})")]
    TooMuchPadding {
        /// How many.
        cells: usize,
    },
    /// The opening comes first, and once.
    #[error("out of turn: the opening comes first, once, and nothing comes after the end")]
    OutOfTurn,
    /// The cipher did not work.
    #[error("sealing failed")]
    Cipher(#[from] io::Error),
}

/// Begins an exchange: what seals the request, and what opens its answer.
pub fn ask(
    key: &EpochKey,
    suite: Suite,
    pacing: Pacing,
    now: Timestamp,
) -> Result<(RequestSealer, ResponseOpener), SealError> {
    let not_after = key.not_after();
    if now >= not_after {
        return Err(SealError::Expired { not_after, now });
    }
    let config = key.find(suite).ok_or(SealError::NotOffered { suite })?;
    let (writer, reader) = envelope::seal_to(config)?;
    let sealer = RequestSealer {
        writer,
        suite,
        pacing,
        issued_at: now,
        record: key.hash().0,
        stage: Stage::New,
    };
    Ok((sealer, ResponseOpener::new(reader)))
}

impl RequestSealer {
    /// How the answer is wanted.
    pub fn pacing(&self) -> Pacing {
        self.pacing
    }

    /// The front of the request, padded up the ladder.
    pub fn opening(&mut self, data: &[u8]) -> Result<Bytes, SealError> {
        self.must_be(Stage::New)?;
        let too_long = || SealError::TooLong {
            bytes: data.len(),
            limit: opening_data_max(self.suite),
        };
        let shape = Shape::fitting(data.len(), self.suite).ok_or_else(too_long)?;
        let total = u32::try_from(data.len()).map_err(|_| too_long())?;
        let head = OpeningHead {
            record: self.record,
            issued_at: self.issued_at,
            pacing: self.pacing,
            total,
        };
        self.stage = Stage::Ended; // until all went well

        let mut cell = vec![0; shape.cell_bytes(0)];
        let room = cell.len() - CELL_HEAD_BYTES - OPENING_HEAD_BYTES;
        let (now, mut rest) = data.split_at(data.len().min(room));
        write_cell(
            CellKind::Opening,
            &[&head.encode(), now].concat(),
            &mut cell,
        );
        self.writer.reserve(shape.wire_bytes(self.suite));
        self.writer.write(&cell)?;
        for index in 1..shape.chunks() {
            cell.resize(shape.cell_bytes(index), 0);
            rest = write_cell(CellKind::More, rest, &mut cell);
            self.writer.write(&cell)?;
        }
        self.stage = Stage::Open;
        let bytes = self.writer.take();
        debug_assert!(LADDER_BYTES.contains(&bytes.len()) && rest.is_empty());
        Ok(bytes)
    }

    /// What is said later, in as many cells as it needs.
    pub fn data(&mut self, data: &[u8]) -> Result<Bytes, SealError> {
        self.must_be(Stage::Open)?;
        write_data(&mut self.writer, data)?;
        Ok(self.writer.take())
    }

    /// Cells that say nothing.
    pub fn pad(&mut self, cells: usize) -> Result<Bytes, SealError> {
        self.must_be(Stage::Open)?;
        write_padding(&mut self.writer, cells)?;
        Ok(self.writer.take())
    }

    /// A cell that says: still here.
    pub fn keep_alive(&mut self) -> Result<Bytes, SealError> {
        self.must_be(Stage::Open)?;
        write_empty(&mut self.writer, CellKind::KeepAlive)?;
        Ok(self.writer.take())
    }

    /// The authenticated end of the request.
    pub fn end(&mut self) -> Result<Bytes, SealError> {
        self.must_be(Stage::Open)?;
        self.stage = Stage::Ended;
        self.writer.close()?;
        Ok(self.writer.take())
    }

    fn must_be(&self, stage: Stage) -> Result<(), SealError> {
        match self.stage == stage {
            true => Ok(()),
            false => Err(SealError::OutOfTurn),
        }
    }
}

/// Writes data cells; how many.
pub(crate) fn write_data(writer: &mut ChunkWriter, mut data: &[u8]) -> Result<usize, SealError> {
    let cells = data.len().div_ceil(CELL_DATA_BYTES);
    writer.reserve(cells * (LENGTH_BYTES + CELL_BYTES + TAG_BYTES));
    let mut cell = [0; CELL_BYTES];
    while !data.is_empty() {
        data = write_cell(CellKind::Data, data, &mut cell);
        writer.write(&cell)?;
    }
    Ok(cells)
}

pub(crate) fn write_padding(writer: &mut ChunkWriter, cells: usize) -> Result<(), SealError> {
    if cells > PAD_CELLS_MAX {
        return Err(SealError::TooMuchPadding { cells });
    }
    for _ in 0..cells {
        write_empty(writer, CellKind::Pad)?;
    }
    Ok(())
}

pub(crate) fn write_empty(writer: &mut ChunkWriter, kind: CellKind) -> Result<(), SealError> {
    let mut cell = [0; CELL_BYTES];
    write_cell(kind, &[], &mut cell);
    writer.write(&cell)?;
    Ok(())
}
