//! Opening of what the other side sealed: requests and answers.
//!
//! Bytes are pushed in pieces of any size, cells come out. The first error
//! ends a stream for good. No error holds content, and none tells more than
//! the bytes that everybody on the way saw anyway.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use market::Timestamp;
use sha2::{Digest, Sha256};

use crate::cell::{CELL_BYTES, Cell, CellError, CellKind, Opening, OpeningHead, read_cell};
use crate::envelope::{self, ChunkReader, ChunkWriter};
use crate::frame::{Frame, Intake, LENGTH_BYTES, TAG_BYTES};
use crate::keys::{EpochKeys, Generation};
use crate::ladder::{CHUNK_BYTES_MAX, LADDER_BYTES, Shape};
use crate::response::ResponseSealer;
use crate::suite::{HEADER_BYTES, RESPONSE_NONCE_BYTES, SYMMETRIC, Suite, identifiers};

/// The most bytes that may wait to be opened: the longest opening.
pub const BACKLOG_BYTES_MAX: usize = LADDER_BYTES[LADDER_BYTES.len() - 1];

/// How far the clocks of consumer and provider may be apart, travel included.
pub const WINDOW_SECONDS: u64 = 120;

/// Whether a request that was sealed at `issued_at` may be taken `now`.
pub fn is_fresh(issued_at: Timestamp, now: Timestamp) -> bool {
    issued_at.since_s(now) <= WINDOW_SECONDS && now.since_s(issued_at) <= WINDOW_SECONDS
}

/// Why a stream was not opened, or not further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed to a key that is over, or to another provider's. The consumer
    /// should fetch the record again.
    #[error("no key has number {key_id} now")]
    UnknownKey {
        /// Which it was sealed to.
        key_id: u8,
    },
    /// Sealed in a way that the key's record does not offer.
    #[error("key {key_id} is not offered with KEM {kem:#06x}, KDF and AEAD {symmetric:02x?}")]
    NotOffered {
        /// The key.
        key_id: u8,
        /// The KEM asked for.
        kem: u16,
        /// KDF and AEAD asked for, two bytes each.
        symmetric: [u8; 4],
    },
    /// More was pushed than was taken.
    #[error("more than {limit} bytes wait to be opened")]
    Backlog {
        /// The limit.
        limit: usize,
    },
    /// A length that is not written in two bytes.
    #[error("a chunk's length is not in two bytes")]
    LengthForm,
    /// A chunk of a size that it cannot have here.
    #[error("chunk of {bytes} bytes where none can be")]
    ChunkLength {
        /// Its ciphertext.
        bytes: usize,
    },
    /// It was changed on the way, moved, or sealed for somebody else.
    #[error("a chunk does not open")]
    Rejected,
    /// It opens, and is no cell.
    #[error("malformed cell")]
    Cell(#[from] CellError),
    /// A cell that cannot be here.
    #[error("{kind:?} cell out of turn")]
    OutOfTurn {
        /// Its kind.
        kind: CellKind,
    },
    /// The consumer was shown another record of this key than ours.
    #[error("sealed by another epoch record than ours")]
    OtherRecord,
    /// Too old, or from the future: the consumer's clock, or a replay.
    #[error("sealed at {issued_at}, it is {now} now (allowed: {WINDOW_SECONDS} s apart)", issued_at = .issued_at.0, now = .now.0)]
    Stale {
        /// By the consumer's clock.
        issued_at: Timestamp,
        /// By ours.
        now: Timestamp,
    },
    /// The opening's cells do not hold what its head says, as the ladder says.
    #[error("opening holds {bytes} bytes of data, its head says {total}")]
    OpeningLength {
        /// What was there.
        bytes: usize,
        /// What should have been.
        total: u32,
    },
    /// Ended without its authenticated end: something is missing.
    #[error("the stream breaks off")]
    Truncated,
    /// Something follows the authenticated end.
    #[error("{bytes} bytes behind the end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// There was an error before.
    #[error("an earlier error ended this stream")]
    Failed,
}

/// Opens a request.
///
/// Nothing is computed with a private key before [`RequestOpener::next`]:
/// look at [`RequestOpener::encapsulated`] first, and drop a replay.
pub struct RequestOpener {
    generations: Vec<Arc<Generation>>,
    now: Timestamp,
    intake: Intake,
    stage: RequestStage,
    encapsulated: Option<[u8; 32]>,
    answer: Option<ChunkWriter>,
}

enum RequestStage {
    /// Header and encapsulated key are not whole yet.
    Head,
    /// They are; nothing was opened yet.
    Sealed(Sealed),
    /// Within the opening.
    Opening(ChunkReader, Gathering),
    /// Behind it.
    Cells(ChunkReader),
    Ended,
    Failed,
}

struct Sealed {
    generation: Arc<Generation>,
    key_id: u8,
    suite: Suite,
}

/// An opening that is not whole yet. Grows with what really came.
struct Gathering {
    head: OpeningHead,
    shape: Shape,
    chunks: usize,
    data: BytesMut,
}

impl RequestOpener {
    /// For a request that begins to come `now`.
    pub fn new(keys: &EpochKeys, now: Timestamp) -> Self {
        Self {
            generations: keys.opening_at(now).cloned().collect(),
            now,
            intake: Intake::default(),
            stage: RequestStage::Head,
            encapsulated: None,
            answer: None,
        }
    }

    /// Takes what came. Cheap: nothing is opened here. Whoever calls
    /// [`RequestOpener::next`] until `None` behind each push keeps one chunk
    /// waiting at the most.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        let pushed = match self.stage {
            RequestStage::Failed => Err(OpenError::Failed),
            RequestStage::Ended if !bytes.is_empty() => {
                Err(OpenError::Trailing { bytes: bytes.len() })
            }
            _ => self.intake.push(bytes, BACKLOG_BYTES_MAX),
        };
        let pushed = pushed.and_then(|()| self.read_head());
        self.fail_on(pushed)
    }

    /// SHA-256 of the encapsulated key, as soon as it came: no two requests
    /// have the same, and a replay has it again.
    pub fn encapsulated(&self) -> Option<[u8; 32]> {
        self.encapsulated
    }

    /// The next cell; `None` until more comes, and behind the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's `None` would be final"
    )]
    pub fn next(&mut self) -> Result<Option<Cell>, OpenError> {
        let next = self.step();
        self.fail_on(next)
    }

    /// What seals the answer; once, and only behind a good opening.
    pub fn respond(&mut self) -> Option<ResponseSealer> {
        match self.stage {
            RequestStage::Cells(_) | RequestStage::Ended => {
                self.answer.take().map(ResponseSealer::new)
            }
            _ => None,
        }
    }

    /// The bytes of the stream have ended: was that all? To be called when
    /// [`RequestOpener::next`] has nothing more.
    pub fn ended(&mut self) -> Result<(), OpenError> {
        let ended = match self.stage {
            RequestStage::Ended => Ok(()),
            RequestStage::Failed => Err(OpenError::Failed),
            _ => Err(OpenError::Truncated),
        };
        self.fail_on(ended)
    }

    fn fail_on<T>(&mut self, outcome: Result<T, OpenError>) -> Result<T, OpenError> {
        if outcome.is_err() {
            self.stage = RequestStage::Failed;
            self.answer = None;
            self.intake = Intake::default();
            self.generations.clear();
        }
        outcome
    }

    fn read_head(&mut self) -> Result<(), OpenError> {
        if !matches!(self.stage, RequestStage::Head) {
            return Ok(());
        }
        let bytes = self.intake.bytes();
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(());
        };
        let [key_id, kem_high, kem_low, symmetric @ ..] = *header;
        let found = self
            .generations
            .iter()
            .find_map(|generation| Some((generation, generation.find(key_id)?.0)));
        let Some((generation, suite)) = found else {
            return Err(OpenError::UnknownKey { key_id });
        };
        let kem = u16::from_be_bytes([kem_high, kem_low]);
        let is_offered = SYMMETRIC.map(identifiers).contains(&symmetric);
        if kem != u16::from(suite.kem()) || !is_offered {
            return Err(OpenError::NotOffered {
                key_id,
                kem,
                symmetric,
            });
        }
        let Some(encapsulated) = rest.get(..suite.kem().n_enc()) else {
            return Ok(());
        };
        self.encapsulated = Some(Sha256::digest(encapsulated).into());
        self.stage = RequestStage::Sealed(Sealed {
            generation: Arc::clone(generation),
            key_id,
            suite,
        });
        self.generations.clear();
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Cell>, OpenError> {
        if let RequestStage::Sealed(sealed) = &self.stage {
            let Some((reader, answer, gathering)) = sealed.open(&mut self.intake, self.now)? else {
                return Ok(None);
            };
            self.answer = Some(answer);
            self.stage = RequestStage::Opening(reader, gathering);
        }
        if let RequestStage::Opening(reader, gathering) = &mut self.stage {
            if !gathering.gather(reader, &mut self.intake)? {
                return Ok(None);
            }
            let stage = core::mem::replace(&mut self.stage, RequestStage::Failed);
            let RequestStage::Opening(reader, gathering) = stage else {
                return Err(OpenError::Failed);
            };
            let opening = gathering.finish()?;
            self.stage = RequestStage::Cells(reader);
            return Ok(Some(Cell::Opening(opening)));
        }
        let cell = match &mut self.stage {
            RequestStage::Cells(reader) => next_cell(reader, &mut self.intake, 0)?,
            RequestStage::Failed => return Err(OpenError::Failed),
            _ => None,
        };
        if cell == Some(Cell::End) {
            self.stage = RequestStage::Ended;
        }
        Ok(cell)
    }
}

impl Sealed {
    /// Opens the first chunk, if it is whole.
    fn open(
        &self,
        intake: &mut Intake,
        now: Timestamp,
    ) -> Result<Option<(ChunkReader, ChunkWriter, Gathering)>, OpenError> {
        let head_bytes = self.suite.head_bytes();
        let allowed = |cell| cell + TAG_BYTES + LENGTH_BYTES <= CHUNK_BYTES_MAX;
        let (cell_bytes, front_bytes) = match intake.frame(head_bytes, allowed)? {
            None => return Ok(None),
            Some(Frame::End { .. }) => return Err(OpenError::Truncated),
            Some(Frame::Chunk { bytes, cell_bytes }) => (cell_bytes, head_bytes + bytes.len()),
        };
        let (_, key) = self
            .generation
            .find(self.key_id)
            .ok_or(OpenError::UnknownKey {
                key_id: self.key_id,
            })?;
        let front = &intake.bytes()[..front_bytes];
        let (reader, answer) =
            envelope::open_with(key, front, cell_bytes).map_err(|_| OpenError::Rejected)?;
        intake.advance(front_bytes);

        let (kind, data) = read_cell(reader.cell())?;
        if kind != CellKind::Opening {
            return Err(OpenError::OutOfTurn { kind });
        }
        let (head, data) = OpeningHead::decode(data)?;
        if head.record != self.generation.record.0 {
            return Err(OpenError::OtherRecord);
        }
        let issued_at = head.issued_at;
        if !is_fresh(issued_at, now) {
            return Err(OpenError::Stale { issued_at, now });
        }
        let mut gathering = Gathering::new(head, self.suite, cell_bytes)?;
        gathering.take(data)?;
        Ok(Some((reader, answer, gathering)))
    }
}

impl Gathering {
    fn new(head: OpeningHead, suite: Suite, cell_bytes: usize) -> Result<Self, OpenError> {
        let total = head.total;
        let shape = usize::try_from(total)
            .ok()
            .and_then(|total| Shape::fitting(total, suite));
        let Some(shape) = shape else {
            return Err(OpenError::OpeningLength { bytes: 0, total });
        };
        if shape.cell_bytes(0) != cell_bytes {
            let bytes = cell_bytes + TAG_BYTES;
            return Err(OpenError::ChunkLength { bytes });
        }
        Ok(Self {
            head,
            shape,
            chunks: 0,
            data: BytesMut::new(),
        })
    }

    /// Opens what came of it; whether it is whole.
    fn gather(&mut self, reader: &mut ChunkReader, intake: &mut Intake) -> Result<bool, OpenError> {
        while self.chunks < self.shape.chunks() {
            let expected = self.shape.cell_bytes(self.chunks);
            let frame_bytes = match intake.frame(0, |cell| cell == expected)? {
                None => return Ok(false),
                Some(Frame::End { .. }) => return Err(OpenError::Truncated),
                Some(Frame::Chunk { bytes, cell_bytes }) => {
                    let cell = reader
                        .open(bytes, cell_bytes)
                        .map_err(|_| OpenError::Rejected)?;
                    let (kind, data) = read_cell(cell)?;
                    if kind != CellKind::More {
                        return Err(OpenError::OutOfTurn { kind });
                    }
                    self.take(data)?;
                    bytes.len()
                }
            };
            intake.advance(frame_bytes);
        }
        Ok(true)
    }

    fn take(&mut self, data: &[u8]) -> Result<(), OpenError> {
        let total = self.head.total;
        let bytes = self.data.len() + data.len();
        if u32::try_from(bytes).is_ok_and(|bytes| bytes <= total) {
            self.data.extend_from_slice(data);
            self.chunks += 1;
            Ok(())
        } else {
            Err(OpenError::OpeningLength { bytes, total })
        }
    }

    fn finish(self) -> Result<Opening, OpenError> {
        let (bytes, total) = (self.data.len(), self.head.total);
        if u32::try_from(bytes) != Ok(total) {
            return Err(OpenError::OpeningLength { bytes, total });
        }
        Ok(Opening {
            issued_at: self.head.issued_at,
            pacing: self.head.pacing,
            data: self.data.freeze(),
        })
    }
}

/// Opens an answer.
pub struct ResponseOpener {
    intake: Intake,
    stage: ResponseStage,
}

enum ResponseStage {
    /// Nothing was opened yet; the nonce stands before the first chunk.
    New(ChunkReader),
    Cells(ChunkReader),
    Ended,
    Failed,
}

impl ResponseOpener {
    pub(crate) fn new(reader: ChunkReader) -> Self {
        Self {
            intake: Intake::default(),
            stage: ResponseStage::New(reader),
        }
    }

    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        let pushed = match self.stage {
            ResponseStage::Failed => Err(OpenError::Failed),
            ResponseStage::Ended if !bytes.is_empty() => {
                Err(OpenError::Trailing { bytes: bytes.len() })
            }
            _ => self.intake.push(bytes, BACKLOG_BYTES_MAX),
        };
        self.fail_on(pushed)
    }

    /// The next cell; `None` until more comes, and behind the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's `None` would be final"
    )]
    pub fn next(&mut self) -> Result<Option<Cell>, OpenError> {
        let next = self.step();
        self.fail_on(next)
    }

    /// The bytes of the stream have ended: was that all? To be called when
    /// [`ResponseOpener::next`] has nothing more.
    pub fn ended(&mut self) -> Result<(), OpenError> {
        let ended = match self.stage {
            ResponseStage::Ended => Ok(()),
            ResponseStage::Failed => Err(OpenError::Failed),
            _ => Err(OpenError::Truncated),
        };
        self.fail_on(ended)
    }

    fn fail_on<T>(&mut self, outcome: Result<T, OpenError>) -> Result<T, OpenError> {
        if outcome.is_err() {
            self.stage = ResponseStage::Failed;
            self.intake = Intake::default();
        }
        outcome
    }

    fn step(&mut self) -> Result<Option<Cell>, OpenError> {
        let (reader, head_bytes) = match &mut self.stage {
            ResponseStage::New(reader) => (reader, RESPONSE_NONCE_BYTES),
            ResponseStage::Cells(reader) => (reader, 0),
            ResponseStage::Ended => return Ok(None),
            ResponseStage::Failed => return Err(OpenError::Failed),
        };
        let cell = next_cell(reader, &mut self.intake, head_bytes)?;
        if cell == Some(Cell::End) {
            self.stage = ResponseStage::Ended;
        } else if cell.is_some() && head_bytes > 0 {
            let stage = core::mem::replace(&mut self.stage, ResponseStage::Failed);
            if let ResponseStage::New(reader) = stage {
                self.stage = ResponseStage::Cells(reader);
            }
        }
        Ok(cell)
    }
}

/// The next cell of [`CELL_BYTES`], or the end, behind the first `head_bytes`.
fn next_cell(
    reader: &mut ChunkReader,
    intake: &mut Intake,
    head_bytes: usize,
) -> Result<Option<Cell>, OpenError> {
    let (cell, taken) = match intake.frame(head_bytes, |cell| cell == CELL_BYTES)? {
        None => return Ok(None),
        Some(Frame::Chunk { bytes, cell_bytes }) => {
            reader.put(&intake.bytes()[..head_bytes]);
            let cell = reader
                .open(bytes, cell_bytes)
                .map_err(|_| OpenError::Rejected)?;
            let cell = match read_cell(cell)? {
                (CellKind::Data, data) => Cell::Data(Bytes::copy_from_slice(data)),
                (CellKind::KeepAlive, _) => Cell::KeepAlive,
                (CellKind::Pad, _) => Cell::Pad,
                (kind, _) => return Err(OpenError::OutOfTurn { kind }),
            };
            (cell, bytes.len())
        }
        Some(Frame::End { bytes }) => {
            reader.put(&intake.bytes()[..head_bytes]);
            reader.end(bytes).map_err(|_| OpenError::Rejected)?;
            (Cell::End, bytes.len())
        }
    };
    intake.advance(head_bytes + taken);
    if cell == Cell::End && !intake.bytes().is_empty() {
        let bytes = intake.bytes().len();
        return Err(OpenError::Trailing { bytes });
    }
    Ok(Some(cell))
}

#[cfg(test)]
mod tests {
    //! What opens, and is not as it has to be: somebody sealed it so on purpose.

    use alloy_primitives::Address;
    use market::{Domain, NodeKey};

    use super::*;
    use crate::cell::{CELL_HEAD_BYTES, Pacing, write_cell};
    use crate::keys::Identity;

    const NOW: Timestamp = Timestamp(1_000_000);
    const SUITE: Suite = Suite::X25519;

    fn keys() -> EpochKeys {
        let domain = Domain {
            chain_id: 31337,
            settlement: Address::repeat_byte(4),
        };
        let provider = Address::repeat_byte(5);
        let node = NodeKey::from_bytes(&[7; 32]);
        EpochKeys::new(Identity { domain, provider }, &node, NOW)
    }

    /// A request of cells as they are given, and nothing checked.
    fn sealed(keys: &EpochKeys, cells: &[Vec<u8>]) -> (Vec<u8>, ResponseOpener) {
        let generation = keys.opening_at(NOW).next().unwrap();
        let (_, key) = generation.find(generation_key_id(keys)).unwrap();
        let (mut writer, reader) = envelope::seal_to(key).unwrap();
        for cell in cells {
            writer.write(cell).unwrap();
        }
        writer.close().unwrap();
        (writer.take().to_vec(), ResponseOpener::new(reader))
    }

    fn generation_key_id(keys: &EpochKeys) -> u8 {
        (keys.epoch() * 2).to_le_bytes()[0]
    }

    fn cell(kind: CellKind, data: &[u8], cell_bytes: usize) -> Vec<u8> {
        let mut cell = vec![0; cell_bytes];
        assert!(write_cell(kind, data, &mut cell).is_empty());
        cell
    }

    /// The first cell of an opening, of the lowest rung's size.
    fn opening(keys: &EpochKeys, change: impl FnOnce(&mut OpeningHead)) -> Vec<u8> {
        let mut head = OpeningHead {
            record: keys.record().hash().0,
            issued_at: NOW,
            pacing: Pacing::Fast,
            total: 6,
        };
        change(&mut head);
        let data = [&head.encode()[..], b"prompt"].concat();
        let shape = Shape::fitting(6, SUITE).unwrap();
        cell(CellKind::Opening, &data, shape.cell_bytes(0))
    }

    fn refusal(keys: &EpochKeys, cells: &[Vec<u8>]) -> OpenError {
        let (bytes, _) = sealed(keys, cells);
        let mut opener = RequestOpener::new(keys, NOW);
        opener.push(&bytes).unwrap();
        loop {
            match opener.next() {
                Ok(Some(cell)) => assert_ne!(cell, Cell::End),
                Ok(None) => panic!("nothing was wrong with it"),
                Err(refusal) => return refusal,
            }
        }
    }

    #[test]
    fn an_opening_has_to_be_one() {
        let keys = keys();
        let size = opening(&keys, |_| {}).len();
        let data = cell(CellKind::Data, b"prompt", size);
        let kind = CellKind::Data;
        assert_eq!(refusal(&keys, &[data]), OpenError::OutOfTurn { kind });
        let more = cell(CellKind::More, b"prompt", size);
        let kind = CellKind::More;
        assert_eq!(refusal(&keys, &[more]), OpenError::OutOfTurn { kind });

        let mut padded = opening(&keys, |_| {});
        padded[size - 1] = 1;
        assert_eq!(
            refusal(&keys, &[padded]),
            OpenError::Cell(CellError::Padding)
        );
        let mut later = opening(&keys, |_| {});
        later[CELL_HEAD_BYTES] = 2;
        let refused = OpenError::Cell(CellError::UnknownVersion { got: 2 });
        assert_eq!(refusal(&keys, &[later]), refused);
    }

    #[test]
    fn an_opening_holds_what_its_head_says() {
        let keys = keys();
        let wrong = |total, bytes| {
            let cell = opening(&keys, |head| head.total = total);
            assert_eq!(
                refusal(&keys, &[cell]),
                OpenError::OpeningLength { bytes, total }
            );
        };
        wrong(5, 6);
        wrong(7, 6);
        wrong(u32::MAX, 0);
        // One that belongs on a higher rung.
        let long = opening(&keys, |head| head.total = 5_000);
        let bytes = long.len() + TAG_BYTES;
        assert_eq!(refusal(&keys, &[long]), OpenError::ChunkLength { bytes });
    }

    #[test]
    fn an_opening_of_many_cells_goes_on_with_its_own_kind_and_sizes() {
        let keys = keys();
        let shape = Shape::fitting(20_000, SUITE).unwrap();
        assert_eq!(shape.chunks(), 2);
        let head = OpeningHead {
            record: keys.record().hash().0,
            issued_at: NOW,
            pacing: Pacing::Fast,
            total: 20_000,
        };
        let room = shape.cell_bytes(0) - CELL_HEAD_BYTES - head.encode().len();
        let first = [&head.encode()[..], &vec![1; room]].concat();
        let first = cell(CellKind::Opening, &first, shape.cell_bytes(0));
        let rest = vec![2; 20_000 - room];
        let second = cell(CellKind::Data, &rest, shape.cell_bytes(1));
        let kind = CellKind::Data;
        assert_eq!(
            refusal(&keys, &[first.clone(), second]),
            OpenError::OutOfTurn { kind }
        );
        let second = cell(CellKind::More, &rest, shape.cell_bytes(1) - 1);
        let bytes = shape.cell_bytes(1) - 1 + TAG_BYTES;
        assert_eq!(
            refusal(&keys, &[first.clone(), second]),
            OpenError::ChunkLength { bytes }
        );
        let short = cell(CellKind::More, &rest[1..], shape.cell_bytes(1));
        let (bytes, total) = (19_999, 20_000);
        let refused = OpenError::OpeningLength { bytes, total };
        assert_eq!(refusal(&keys, &[first, short]), refused);
    }

    #[test]
    fn behind_the_opening_there_are_only_cells_of_one_size_and_no_second_opening() {
        let keys = keys();
        let first = || opening(&keys, |_| {});
        for kind in [CellKind::Opening, CellKind::More] {
            let again = cell(kind, &[1; 100], CELL_BYTES);
            assert_eq!(
                refusal(&keys, &[first(), again]),
                OpenError::OutOfTurn { kind }
            );
        }
        let empty = cell(CellKind::Data, b"", CELL_BYTES);
        let (kind, length) = (CellKind::Data, 0);
        let refused = OpenError::Cell(CellError::WrongLength { kind, length });
        assert_eq!(refusal(&keys, &[first(), empty]), refused);
        let short = cell(CellKind::Data, b"x", CELL_BYTES - 1);
        let bytes = CELL_BYTES - 1 + TAG_BYTES;
        assert_eq!(
            refusal(&keys, &[first(), short]),
            OpenError::ChunkLength { bytes }
        );
    }

    #[test]
    fn an_answer_has_no_opening() {
        let keys = keys();
        let (bytes, mut answer) = sealed(&keys, &[opening(&keys, |_| {})]);
        let mut opener = RequestOpener::new(&keys, NOW);
        opener.push(&bytes).unwrap();
        opener.next().unwrap();
        let mut writer = opener.answer.take().unwrap();
        writer
            .write(&cell(CellKind::Opening, &[1; 100], CELL_BYTES))
            .unwrap();
        answer.push(&writer.take()).unwrap();
        let kind = CellKind::Opening;
        assert_eq!(answer.next(), Err(OpenError::OutOfTurn { kind }));
    }
}
