//! The two ends of a sealed stream, in the words of [`crate::stream`]: frames
//! go in and cells come out, and the other way round.

use bytes::{Bytes, BytesMut};
use seal::{
    CELL_DATA_BYTES, Cell, OpenError, Pacing, RequestOpener, RequestSealer, ResponseOpener,
    ResponseSealer, SealError,
};

use crate::paced::{ANSWER_CELLS, ASK_CELLS};

/// Seals what is said.
pub(crate) enum Sealer {
    Request { sealer: RequestSealer, opened: bool },
    Response(ResponseSealer),
}

/// Opens what is heard.
pub(crate) enum Opener {
    Request(RequestOpener),
    Response(ResponseOpener),
}

/// What is heard on a sealed stream.
pub(crate) struct Sealed {
    opener: Opener,
    /// Opened, and not taken yet.
    plain: BytesMut,
    cells: u64,
    /// How the answer is wanted, once that was read.
    pacing: Pacing,
}

impl Sealer {
    pub(crate) fn request(sealer: RequestSealer) -> Self {
        Self::Request {
            sealer,
            opened: false,
        }
    }

    /// The first message of a request is padded up the ladder; what follows
    /// goes in cells.
    pub(crate) fn data(&mut self, frames: &[u8]) -> Result<Bytes, SealError> {
        match self {
            Self::Request { sealer, opened } => {
                if std::mem::replace(opened, true) {
                    sealer.data(frames)
                } else {
                    sealer.opening(frames)
                }
            }
            Self::Response(sealer) => sealer.data(frames),
        }
    }

    /// As [`Sealer::data`], in no fewer cells than `room` bytes more would take.
    pub(crate) fn data_in(&mut self, frames: &[u8], room: usize) -> Result<Bytes, SealError> {
        let cells = |bytes: usize| bytes.div_ceil(CELL_DATA_BYTES);
        let padding = cells(frames.len() + room) - cells(frames.len());
        let data = self.data(frames)?;
        if padding == 0 {
            return Ok(data);
        }
        let padding = self.pad(padding)?;
        Ok([data, padding].concat().into())
    }

    /// Cells that say nothing.
    pub(crate) fn pad(&mut self, cells: usize) -> Result<Bytes, SealError> {
        match self {
            Self::Request { sealer, .. } => sealer.pad(cells),
            Self::Response(sealer) => sealer.pad(cells),
        }
    }

    /// Cells that still hide how much was said. The side that asks ends when
    /// the answer has ended, which hides its own length.
    pub(crate) fn padding_due(&self) -> usize {
        match self {
            Self::Request { .. } => 0,
            Self::Response(sealer) => sealer.padding_due(),
        }
    }

    pub(crate) fn cells_each_tick(&self) -> usize {
        match self {
            Self::Request { .. } => ASK_CELLS,
            Self::Response(_) => ANSWER_CELLS,
        }
    }

    pub(crate) fn keep_alive(&mut self) -> Result<Bytes, SealError> {
        match self {
            Self::Request { .. } => Ok(Bytes::new()),
            Self::Response(sealer) => sealer.keep_alive(),
        }
    }

    pub(crate) fn end(&mut self) -> Result<Bytes, SealError> {
        match self {
            Self::Request { sealer, .. } => sealer.end(),
            Self::Response(sealer) => sealer.end(),
        }
    }
}

impl Sealed {
    pub(crate) fn new(opener: Opener) -> Self {
        Self {
            opener,
            plain: BytesMut::new(),
            cells: 0,
            pacing: Pacing::Fast,
        }
    }

    pub(crate) fn cells(&self) -> u64 {
        self.cells
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        match &mut self.opener {
            Opener::Request(opener) => opener.push(bytes),
            Opener::Response(opener) => opener.push(bytes),
        }
    }

    /// What can be opened of what was pushed, and was not taken yet.
    pub(crate) fn open(&mut self) -> Result<&mut BytesMut, OpenError> {
        while let Some(cell) = self.next()? {
            self.cells += 1;
            match cell {
                Cell::Opening(opening) => {
                    self.pacing = opening.pacing;
                    self.plain.extend_from_slice(&opening.data);
                }
                Cell::Data(data) => self.plain.extend_from_slice(&data),
                Cell::KeepAlive | Cell::Pad | Cell::End => {}
            }
        }
        Ok(&mut self.plain)
    }

    fn next(&mut self) -> Result<Option<Cell>, OpenError> {
        match &mut self.opener {
            Opener::Request(opener) => opener.next(),
            Opener::Response(opener) => opener.next(),
        }
    }

    /// The bytes ended; good only if their end was sealed too. Whether an
    /// unfinished frame is left.
    pub(crate) fn ended(&mut self) -> Result<bool, OpenError> {
        let rest = !self.open()?.is_empty();
        match &mut self.opener {
            Opener::Request(opener) => opener.ended()?,
            Opener::Response(opener) => opener.ended()?,
        }
        Ok(rest)
    }

    pub(crate) fn encapsulated(&self) -> Option<[u8; 32]> {
        match &self.opener {
            Opener::Request(opener) => opener.encapsulated(),
            Opener::Response(_) => None,
        }
    }

    /// What seals the answer to this request, and how it is wanted.
    pub(crate) fn respond(&mut self) -> Option<(Sealer, Pacing)> {
        let pacing = self.pacing;
        match &mut self.opener {
            Opener::Request(opener) => {
                let sealer = opener.respond()?;
                Some((Sealer::Response(sealer), pacing))
            }
            Opener::Response(_) => None,
        }
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("cells", &self.cells)
            .finish_non_exhaustive()
    }
}
