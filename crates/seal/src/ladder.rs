//! The sizes that the opening of a request may have on the wire.
//!
//! An opening (header, encapsulated key and chunks together) is padded to the
//! next rung, and its chunks follow from the rung alone. So its length tells
//! which rung, and the chunks tell nothing more.

use crate::cell::{CELL_HEAD_BYTES, OPENING_HEAD_BYTES};
use crate::frame::{LENGTH_BYTES, TAG_BYTES};
use crate::suite::Suite;

/// The rungs: all bytes of an opening on the wire.
pub const LADDER_BYTES: [usize; 8] = [
    2 << 10,
    8 << 10,
    32 << 10,
    128 << 10,
    512 << 10,
    2 << 20,
    8 << 20,
    20 << 20,
];

/// The longest chunk of an opening, its length and tag included: as much as
/// the two bytes of its length can say.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 << 10;

/// What a chunk costs beside its data.
const CHUNK_OVERHEAD_BYTES: usize = LENGTH_BYTES + TAG_BYTES + CELL_HEAD_BYTES;

/// How one rung is cut into chunks: into as few as can be, as equal as can
/// be, the longer ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes on the wire behind header and encapsulated key.
    body_bytes: usize,
    chunks: usize,
}

impl Shape {
    /// The lowest rung that takes so much data.
    pub(crate) fn fitting(data_bytes: usize, suite: Suite) -> Option<Self> {
        LADDER_BYTES
            .into_iter()
            .map(|rung| Self::of(rung, suite))
            .find(|shape| shape.capacity() >= data_bytes)
    }

    fn of(rung: usize, suite: Suite) -> Self {
        let body_bytes = rung - suite.head_bytes();
        let chunks = body_bytes.div_ceil(CHUNK_BYTES_MAX);
        Self { body_bytes, chunks }
    }

    /// The data that fits.
    fn capacity(&self) -> usize {
        self.body_bytes - self.chunks * CHUNK_OVERHEAD_BYTES - OPENING_HEAD_BYTES
    }

    /// All bytes of the opening.
    pub(crate) fn wire_bytes(&self, suite: Suite) -> usize {
        suite.head_bytes() + self.body_bytes
    }

    pub(crate) fn chunks(&self) -> usize {
        self.chunks
    }

    /// The size of the cell in the `index`-th chunk.
    pub(crate) fn cell_bytes(&self, index: usize) -> usize {
        let longer = usize::from(index < self.body_bytes % self.chunks);
        self.body_bytes / self.chunks + longer - LENGTH_BYTES - TAG_BYTES
    }
}

/// The most data that an opening takes.
pub fn opening_data_max(suite: Suite) -> usize {
    Shape::of(LADDER_BYTES[LADDER_BYTES.len() - 1], suite).capacity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunks_of_every_rung_fill_it_exactly() {
        for suite in Suite::ALL {
            for rung in LADDER_BYTES {
                let shape = Shape::of(rung, suite);
                let chunks = (0..shape.chunks())
                    .map(|index| shape.cell_bytes(index) + LENGTH_BYTES + TAG_BYTES);
                assert!(
                    chunks
                        .clone()
                        .all(|chunk| (66..=CHUNK_BYTES_MAX).contains(&chunk))
                );
                assert_eq!(suite.head_bytes() + chunks.sum::<usize>(), rung);
            }
        }
    }

    #[test]
    fn data_climbs_to_the_next_rung_only_when_it_must() {
        for suite in Suite::ALL {
            for (below, rung) in LADDER_BYTES.iter().zip(&LADDER_BYTES[1..]) {
                let full = Shape::of(*below, suite).capacity();
                assert_eq!(Shape::fitting(full, suite), Some(Shape::of(*below, suite)));
                assert_eq!(
                    Shape::fitting(full + 1, suite),
                    Some(Shape::of(*rung, suite))
                );
            }
            assert_eq!(Shape::fitting(opening_data_max(suite) + 1, suite), None);
        }
    }

    #[test]
    fn the_longest_body_with_its_voucher_fits() {
        const BODY_AND_VOUCHER: usize = (16 << 20) + (64 << 10);
        assert!(
            Suite::ALL
                .into_iter()
                .all(|suite| opening_data_max(suite) > BODY_AND_VOUCHER)
        );
    }
}
