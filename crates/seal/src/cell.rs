//! A cell: what stands in one chunk.
//!
//! `kind u8 | length u16 | data | zeros`, numbers big-endian. Behind a
//! request's opening, and in all of a response, a cell has [`CELL_BYTES`];
//! within an opening it has what the ladder says. Whatever is not exactly of
//! this form is refused, non-zero padding included: there is one way to write
//! a cell, and nothing can be smuggled beside it.

use bytes::Bytes;
use market::Timestamp;

/// The plaintext of a cell.
pub const CELL_BYTES: usize = 256;

/// Kind and length.
pub(crate) const CELL_HEAD_BYTES: usize = 3;

/// The data that fits into a cell.
pub const CELL_DATA_BYTES: usize = CELL_BYTES - CELL_HEAD_BYTES;

/// Version, hash of the epoch record, time, pacing and total length.
pub(crate) const OPENING_HEAD_BYTES: usize = 1 + 32 + 8 + 1 + 4;

/// The version of an opening's layout.
const OPENING_VERSION: u8 = 1;

/// What a cell is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// The first of a request.
    Opening = 1,
    /// The opening goes on.
    More = 2,
    /// A piece of what is said.
    Data = 3,
    /// Nothing to say; still there.
    KeepAlive = 4,
    /// Hides how much was said.
    Pad = 5,
}

/// How the answer is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// As soon as there is something: sizes are hidden, times are not.
    Fast,
    /// At a steady beat: times are hidden as well.
    Paced,
}

/// The first thing a request says; its data is whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    /// When the consumer sealed it, by its clock.
    pub issued_at: Timestamp,
    /// How it wants the answer.
    pub pacing: Pacing,
    /// What it asks.
    pub data: Bytes,
}

/// What a stream yields.
#[derive(Clone, PartialEq, Eq)]
pub enum Cell {
    /// The beginning of a request; once, and before anything else.
    Opening(Opening),
    /// More of what is said; never empty.
    Data(Bytes),
    /// The peer is there.
    KeepAlive,
    /// Padding.
    Pad,
    /// The authenticated end: nothing is missing, and nothing may follow.
    End,
}

/// Why bytes are no cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// Shorter than its own head.
    #[error("cell of {bytes} bytes (a head has {CELL_HEAD_BYTES})")]
    Short {
        /// How many.
        bytes: usize,
    },
    /// Of a kind that is not known.
    #[error("unknown kind of cell {got}")]
    UnknownKind {
        /// Which.
        got: u8,
    },
    /// Its data would reach beyond its end.
    #[error("cell says it holds {length} bytes, there is room for {room}")]
    TooLong {
        /// What it says.
        length: usize,
        /// What would fit.
        room: usize,
    },
    /// Data where there must be none, or none where there must be some.
    #[error("{kind:?} cell with {length} bytes")]
    WrongLength {
        /// Its kind.
        kind: CellKind,
        /// What it says.
        length: usize,
    },
    /// The padding has to be zero.
    #[error("padding is not zero")]
    Padding,
    /// The opening is of another version.
    #[error("opening has version {got} (known: {OPENING_VERSION})")]
    UnknownVersion {
        /// Which.
        got: u8,
    },
    /// The opening asks for a pacing that is not known.
    #[error("unknown pacing {got}")]
    UnknownPacing {
        /// Which.
        got: u8,
    },
}

/// Kind and data of a cell, if it is one.
pub fn read_cell(cell: &[u8]) -> Result<(CellKind, &[u8]), CellError> {
    let Some((&[kind, high, low], body)) = cell.split_first_chunk::<CELL_HEAD_BYTES>() else {
        return Err(CellError::Short { bytes: cell.len() });
    };
    let kind = match kind {
        1 => CellKind::Opening,
        2 => CellKind::More,
        3 => CellKind::Data,
        4 => CellKind::KeepAlive,
        5 => CellKind::Pad,
        got => return Err(CellError::UnknownKind { got }),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let Some((data, padding)) = body.split_at_checked(length) else {
        let room = body.len();
        return Err(CellError::TooLong { length, room });
    };
    let length_fits = match kind {
        CellKind::Opening => length >= OPENING_HEAD_BYTES,
        CellKind::More => true,
        CellKind::Data => length > 0,
        CellKind::KeepAlive | CellKind::Pad => length == 0,
    };
    if !length_fits {
        return Err(CellError::WrongLength { kind, length });
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(CellError::Padding);
    }
    Ok((kind, data))
}

/// Writes a cell over all of `cell`, with as much of the data as fits;
/// returns the rest.
pub(crate) fn write_cell<'d>(kind: CellKind, data: &'d [u8], cell: &mut [u8]) -> &'d [u8] {
    let (head, body) = cell.split_at_mut(CELL_HEAD_BYTES);
    let (now, rest) = data.split_at(data.len().min(body.len()));
    let length = u16::try_from(now.len()).expect("no cell is longer than a chunk of 16 KiB");
    head[0] = kind as u8;
    head[1..].copy_from_slice(&length.to_be_bytes());
    body[..now.len()].copy_from_slice(now);
    body[now.len()..].fill(0);
    rest
}

/// What the first cell says before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpeningHead {
    /// The SHA-256 of the epoch record's text.
    pub(crate) record: [u8; 32],
    pub(crate) issued_at: Timestamp,
    pub(crate) pacing: Pacing,
    /// Bytes of data in the whole opening.
    pub(crate) total: u32,
}

impl OpeningHead {
    pub(crate) fn encode(&self) -> [u8; OPENING_HEAD_BYTES] {
        let mut bytes = [0; OPENING_HEAD_BYTES];
        bytes[0] = OPENING_VERSION;
        bytes[1..33].copy_from_slice(&self.record);
        bytes[33..41].copy_from_slice(&self.issued_at.0.to_be_bytes());
        bytes[41] = match self.pacing {
            Pacing::Fast => 0,
            Pacing::Paced => 1,
        };
        bytes[42..].copy_from_slice(&self.total.to_be_bytes());
        bytes
    }

    /// The head, and the data behind it.
    pub(crate) fn decode(data: &[u8]) -> Result<(Self, &[u8]), CellError> {
        let Some((head, rest)) = data.split_first_chunk::<OPENING_HEAD_BYTES>() else {
            let kind = CellKind::Opening;
            let length = data.len();
            return Err(CellError::WrongLength { kind, length });
        };
        let (version, head) = head.split_first().expect("a head is not empty");
        if *version != OPENING_VERSION {
            return Err(CellError::UnknownVersion { got: *version });
        }
        let (record, head) = head.split_first_chunk().expect("as long as is written");
        let (issued_at, head) = head.split_first_chunk().expect("as long as is written");
        let (pacing, head) = head.split_first().expect("as long as is written");
        let total = head.first_chunk().expect("as long as is written");
        let pacing = match pacing {
            0 => Pacing::Fast,
            1 => Pacing::Paced,
            got => return Err(CellError::UnknownPacing { got: *got }),
        };
        let head = Self {
            record: *record,
            issued_at: Timestamp(u64::from_be_bytes(*issued_at)),
            pacing,
            total: u32::from_be_bytes(*total),
        };
        Ok((head, rest))
    }
}

impl core::fmt::Debug for Opening {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Opening")
            .field("issued_at", &self.issued_at)
            .field("pacing", &self.pacing)
            .field("bytes", &self.data.len())
            .finish()
    }
}

/// Sizes, never content: cells end up in error messages and logs.
impl core::fmt::Debug for Cell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Opening(opening) => opening.fmt(f),
            Self::Data(data) => write!(f, "Data({} bytes)", data.len()),
            Self::KeepAlive => f.write_str("KeepAlive"),
            Self::Pad => f.write_str("Pad"),
            Self::End => f.write_str("End"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(kind: CellKind, data: &[u8]) -> [u8; CELL_BYTES] {
        let mut cell = [0xff; CELL_BYTES];
        write_cell(kind, data, &mut cell);
        cell
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(
            read_cell(&cell(CellKind::Data, b"word")),
            Ok((CellKind::Data, &b"word"[..]))
        );
        assert_eq!(
            read_cell(&cell(CellKind::Pad, b"")),
            Ok((CellKind::Pad, &b""[..]))
        );
        let full = [7; CELL_DATA_BYTES];
        assert_eq!(
            read_cell(&cell(CellKind::Data, &full)),
            Ok((CellKind::Data, &full[..]))
        );
    }

    #[test]
    fn what_does_not_fit_is_left_over() {
        let mut cell = [0; CELL_BYTES];
        let rest = write_cell(CellKind::Data, &[7; CELL_DATA_BYTES + 2], &mut cell);
        assert_eq!(rest, [7, 7]);
    }

    #[test]
    fn anything_else_is_no_cell() {
        assert_eq!(read_cell(&[3, 0]), Err(CellError::Short { bytes: 2 }));
        let mut padded = cell(CellKind::Data, b"word");
        padded[255] = 1;
        assert_eq!(read_cell(&padded), Err(CellError::Padding));
        for got in [0, 6, 255] {
            let mut unknown = cell(CellKind::Pad, b"");
            unknown[0] = got;
            assert_eq!(read_cell(&unknown), Err(CellError::UnknownKind { got }));
        }
        let mut long = cell(CellKind::Data, b"");
        long[2] = 254;
        let (length, room) = (254, CELL_DATA_BYTES);
        assert_eq!(read_cell(&long), Err(CellError::TooLong { length, room }));
        for (kind, data) in [
            (CellKind::Data, &b""[..]),
            (CellKind::Pad, b"x"),
            (CellKind::KeepAlive, b"x"),
            (CellKind::Opening, b"short"),
        ] {
            let length = data.len();
            assert_eq!(
                read_cell(&cell(kind, data)),
                Err(CellError::WrongLength { kind, length })
            );
        }
    }

    #[test]
    fn the_head_of_an_opening_is_read_as_written() {
        let head = OpeningHead {
            record: [3; 32],
            issued_at: Timestamp(5),
            pacing: Pacing::Paced,
            total: 6,
        };
        let bytes = [&head.encode()[..], b"data"].concat();
        assert_eq!(OpeningHead::decode(&bytes), Ok((head, &b"data"[..])));
        let mut later = bytes.clone();
        later[0] = 2;
        assert_eq!(
            OpeningHead::decode(&later),
            Err(CellError::UnknownVersion { got: 2 })
        );
        let mut hasty = bytes;
        hasty[41] = 2;
        assert_eq!(
            OpeningHead::decode(&hasty),
            Err(CellError::UnknownPacing { got: 2 })
        );
    }
}
