//! A provider, a consumer, and what they say to each other.

use market::{Address, Domain, NodeKey, Timestamp};
use seal::{
    Cell, EpochKey, EpochKeys, Identity, OpenError, Pacing, RequestOpener, RequestSealer,
    ResponseOpener, Suite, ask,
};

pub(crate) const NOW: Timestamp = Timestamp(1_000 * seal::EPOCH_SECONDS + 100);

pub(crate) const IDENTITY: Identity = Identity {
    domain: Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    },
    provider: Address::repeat_byte(5),
};

pub(crate) fn node() -> NodeKey {
    NodeKey::from_bytes(&[7; 32])
}

pub(crate) fn keys() -> EpochKeys {
    EpochKeys::new(IDENTITY, &node(), NOW)
}

/// What a consumer makes of a provider's record.
pub(crate) fn key(keys: &EpochKeys, now: Timestamp) -> EpochKey {
    keys.record()
        .open(node().id(), IDENTITY.provider, &IDENTITY.domain, now)
        .unwrap()
}

pub(crate) fn asked(keys: &EpochKeys, suite: Suite) -> (RequestSealer, ResponseOpener) {
    ask(&key(keys, NOW), suite, Pacing::Fast, NOW).unwrap()
}

/// A whole request: opening, later data and end, each in its own piece.
pub(crate) fn request(sealer: &mut RequestSealer, opening: &[u8], later: &[&[u8]]) -> Vec<u8> {
    let mut bytes = sealer.opening(opening).unwrap().to_vec();
    for data in later {
        bytes.extend_from_slice(&sealer.data(data).unwrap());
    }
    bytes.extend_from_slice(&sealer.end().unwrap());
    bytes
}

/// All that a stream yields when it comes in one piece, and how it ends.
pub(crate) fn opened(stream: &mut impl Opener, bytes: &[u8]) -> (Vec<Cell>, Result<(), OpenError>) {
    let mut cells = Vec::new();
    let mut read = || -> Result<(), OpenError> {
        stream.push(bytes)?;
        while let Some(cell) = stream.next()? {
            cells.push(cell);
        }
        stream.ended()
    };
    let end = read();
    (cells, end)
}

/// The data of all cells, in order.
pub(crate) fn data(cells: &[Cell]) -> Vec<u8> {
    let mut all = Vec::new();
    for cell in cells {
        match cell {
            Cell::Opening(opening) => all.extend_from_slice(&opening.data),
            Cell::Data(data) => all.extend_from_slice(data),
            Cell::KeepAlive | Cell::Pad | Cell::End => {}
        }
    }
    all
}

/// Both directions are opened in the same way.
pub(crate) trait Opener {
    fn push(&mut self, bytes: &[u8]) -> Result<(), OpenError>;
    fn next(&mut self) -> Result<Option<Cell>, OpenError>;
    fn ended(&mut self) -> Result<(), OpenError>;
}

macro_rules! opener {
    ($type:ty) => {
        impl Opener for $type {
            fn push(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
                self.push(bytes)
            }

            fn next(&mut self) -> Result<Option<Cell>, OpenError> {
                self.next()
            }

            fn ended(&mut self) -> Result<(), OpenError> {
                self.ended()
            }
        }
    };
}

opener!(RequestOpener);
opener!(ResponseOpener);
