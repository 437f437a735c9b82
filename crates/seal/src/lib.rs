//! Sealing: one request and its answer, readable by consumer and provider only.
//!
//! A request is sealed to a key that the provider makes new every few hours
//! and keeps in memory only ([`EpochKeys`], [`SignedEpoch`]). The form is
//! Chunked OHTTP (HPKE, RFC 9180 and RFC 9458), with one cell of ours in each
//! chunk: cells have fixed sizes, so what passes by shows no lengths of
//! words. `docs/protocol/wire.md` has every byte.
//!
//! ```text
//! consumer                                   provider
//! ask(key) -> RequestSealer ═══ opening ═══► RequestOpener -> Cell::Opening
//!                           ─── data ──────►               -> Cell::Data
//!             ResponseOpener ◄══ cells ═════ ResponseSealer
//! ```
//!
//! Bytes come in and bytes go out: no sockets, no runtime, and the time is an
//! argument. Everything fails closed: after any error a stream yields nothing
//! more, and only an authenticated end makes an exchange complete.

mod admission;
mod cell;
mod envelope;
mod epoch;
mod frame;
mod keys;
mod ladder;
mod open;
mod replay;
mod request;
mod response;
mod seen;
mod suite;

pub use admission::{Admission, TOKEN_SECONDS, TOKENS_PER_ISSUE_MAX, TOKENS_SPENT_MAX, Token};
pub use cell::{
    CELL_BYTES, CELL_DATA_BYTES, Cell, CellError, CellKind, Opening, Pacing, read_cell,
};
pub use epoch::{EPOCH_RECORD_BYTES_MAX, Epoch, EpochError, EpochKey, SignedEpoch};
pub use keys::{EPOCH_SECONDS, EpochKeys, GRACE_SECONDS, Identity};
pub use ladder::{LADDER_BYTES, opening_data_max};
pub use open::{
    BACKLOG_BYTES_MAX, OpenError, RequestOpener, ResponseOpener, WINDOW_SECONDS, is_fresh,
};
pub use replay::{REPLAYS_MAX, Replays};
pub use request::{RequestSealer, SealError, ask};
pub use response::{PAD_CELLS_MAX, ResponseSealer};
pub use suite::{KeyListError, Suite};
