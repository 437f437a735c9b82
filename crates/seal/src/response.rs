//! The provider's side of sealing: the answer.

use bytes::Bytes;

use crate::cell::CellKind;
use crate::envelope::ChunkWriter;
use crate::request::{SealError, write_data, write_empty, write_padding};

/// The most cells of padding at once: 64 KiB.
pub const PAD_CELLS_MAX: usize = 256;

/// Seals what the provider says. Dropped before [`ResponseSealer::end`], the
/// consumer sees that the answer is not complete.
pub struct ResponseSealer {
    writer: ChunkWriter,
    cells: usize,
    has_ended: bool,
}

impl ResponseSealer {
    pub(crate) fn new(writer: ChunkWriter) -> Self {
        Self {
            writer,
            cells: 0,
            has_ended: false,
        }
    }

    /// What is said, in as many cells as it needs.
    pub fn data(&mut self, data: &[u8]) -> Result<Bytes, SealError> {
        self.must_be_open()?;
        self.cells += write_data(&mut self.writer, data)?;
        Ok(self.writer.take())
    }

    /// A cell that says: still here.
    pub fn keep_alive(&mut self) -> Result<Bytes, SealError> {
        self.must_be_open()?;
        write_empty(&mut self.writer, CellKind::KeepAlive)?;
        self.cells += 1;
        Ok(self.writer.take())
    }

    /// Cells that say nothing.
    pub fn pad(&mut self, cells: usize) -> Result<Bytes, SealError> {
        self.must_be_open()?;
        write_padding(&mut self.writer, cells)?;
        self.cells += cells;
        Ok(self.writer.take())
    }

    /// How many cells of padding hide the length of this answer: up to the
    /// next power of two, or beyond [`PAD_CELLS_MAX`] cells up to the next
    /// multiple of that.
    pub fn padding_due(&self) -> usize {
        let step = self.cells.next_power_of_two().min(PAD_CELLS_MAX);
        self.cells.next_multiple_of(step) - self.cells
    }

    /// The authenticated end of the answer.
    pub fn end(&mut self) -> Result<Bytes, SealError> {
        self.must_be_open()?;
        self.has_ended = true;
        self.writer.close()?;
        Ok(self.writer.take())
    }

    fn must_be_open(&self) -> Result<(), SealError> {
        match self.has_ended {
            false => Ok(()),
            true => Err(SealError::OutOfTurn),
        }
    }
}
