//! Chunks in a stream of bytes that comes in pieces.
//!
//! A chunk stands behind its length, a QUIC variable-length integer that here
//! always has two bytes; one zero byte announces the last chunk, which is
//! empty and thus only a tag. Chunked OHTTP allows more than that. This is
//! stricter on purpose: lengths are not authenticated, and what has one form
//! only cannot be rewritten on the way.

use bytes::{Buf, BytesMut};

use crate::OpenError;

/// The bytes of a chunk's length.
pub(crate) const LENGTH_BYTES: usize = 2;

/// The bytes that the cipher adds.
pub(crate) const TAG_BYTES: usize = 16;

/// The last chunk on the wire: a zero and a tag.
const END_BYTES: usize = 1 + TAG_BYTES;

/// The two high bits of a length in two bytes, as QUIC writes it.
const TWO_BYTE_FORM: u8 = 0b01;

/// What came and was not yet taken.
#[derive(Default)]
pub(crate) struct Intake {
    bytes: BytesMut,
}

/// A whole chunk at the front.
pub(crate) enum Frame<'i> {
    Chunk {
        /// Its length on the wire and its ciphertext.
        bytes: &'i [u8],
        /// The size of the cell in it.
        cell_bytes: usize,
    },
    End {
        bytes: &'i [u8],
    },
}

impl Intake {
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize) -> Result<(), OpenError> {
        if self.bytes.len() + bytes.len() > limit {
            return Err(OpenError::Backlog { limit });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The chunk behind the first `head` bytes, if it is whole. `allowed`
    /// judges the size of its cell as soon as its length is there.
    pub(crate) fn frame(
        &self,
        head: usize,
        allowed: impl FnOnce(usize) -> bool,
    ) -> Result<Option<Frame<'_>>, OpenError> {
        let bytes = self.bytes.get(head..).unwrap_or_default();
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first == 0 {
            let end = bytes.get(..END_BYTES);
            return Ok(end.map(|bytes| Frame::End { bytes }));
        }
        if first >> 6 != TWO_BYTE_FORM {
            return Err(OpenError::LengthForm);
        }
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let ciphertext_bytes = usize::from(u16::from_be_bytes(*length) & 0x3fff);
        let cell_bytes = ciphertext_bytes.saturating_sub(TAG_BYTES);
        if !allowed(cell_bytes) {
            return Err(OpenError::ChunkLength {
                bytes: ciphertext_bytes,
            });
        }
        let frame = bytes.get(..LENGTH_BYTES + ciphertext_bytes);
        Ok(frame.map(|bytes| Frame::Chunk { bytes, cell_bytes }))
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
    }
}
