//! Stands between those who ask and those who answer: carries sealed streams
//! to registered nodes, so that the one side does not see who asks, and tells
//! what registered nodes say of themselves, so that nobody has to ask them.
//! Relays pass on to each other what providers tell of their load.
//!
//! A relay learns who dials it, which node is meant, and how much is said
//! when. It cannot open anything, keeps counters and nothing else, and reaches
//! registered nodes only: it is no way out to anywhere else.

mod counters;
mod directory;
mod gossip;
mod mesh;
mod passed_on;
mod shares;
mod shell;
mod stream;
mod waiting;

pub use counters::{Counts, Tables};
pub use passed_on::PassedOn;
pub use shell::{CAPABILITY, Clock, Config, Deps, Relay, STREAMS_PER_SECOND, StartError, Watch};
