//! Sells answers: says what it offers, takes paid requests, passes them to a
//! backend, meters, and turns vouchers into money.
//!
//! The way of a request: [`Provider`] accepts a stream, `exchange` reads the
//! ask, `admit` takes or refuses it, `sale` gives it a slot, a [`Backend`]
//! answers, `meter` counts, `payment` holds the till and its journal, `claim`
//! goes to the chain. Consumers are known only through `transport`'s
//! messages, the chain only through [`market::Ledger`]. Nothing of what is
//! asked or answered is logged or stored.

mod admit;
mod backend;
mod behind;
mod books;
mod claim;
mod config;
mod counters;
mod descriptor;
mod desk;
mod detect;
mod exchange;
mod load;
mod meter;
mod payment;
mod quotes;
mod reconcile;
mod register;
mod sale;
mod session;
mod shell;
mod status;
mod tasks;
mod times;
mod uncounted;

pub use backend::{
    BACKENDS_MAX, Backend, BackendChunk, BackendError, BackendFailure, BackendHandle, ChunkStream,
    EmbedderBackend, EngineBackend, Line, OpenAiBackend, OpenAiConfig, OpenAiConfigError, Pool,
    Redacted, Script, ScriptedBackend, Standing, base_url,
};
pub use behind::{FindRelaysError, TryRelayError, find_relays, try_relay};
pub use books::{TillView, read_books};
pub use claim::Claimed;
pub use config::{
    Config, ConfigError, DECLARED_BYTES_MAX, OFFERS_MAX, OfferConfig, PLACES_MAX,
    QUOTE_VALIDITY_MIN_S,
};
pub use counters::Counted;
pub use detect::{Found, detect, detect_at};
pub use market::ClaimPolicy;
pub use register::RegisterError;
pub use session::ReplayError;
pub use shell::{Clock, Deps, Provider, RatesError, StartError};
pub use status::{Continues, MoneyStatus, OfferStatus, RelayStatus, Status, Tried};
pub use times::Times;
