//! The two ends of a sealed stream, in the words of [`crate::stream`]: frames
//! go in and cells come out, and the other way round.

use bytes::{Bytes, BytesMut};
use seal::{
    Cell, OpenError, RequestOpener, RequestSealer, ResponseOpener, ResponseSealer, SealError,
};

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
                Cell::Opening(opening) => self.plain.extend_from_slice(&opening.data),
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

    /// What seals the answer to this request.
    pub(crate) fn respond(&mut self) -> Option<Sealer> {
        match &mut self.opener {
            Opener::Request(opener) => opener.respond().map(Sealer::Response),
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
