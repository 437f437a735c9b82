//! The market in one process: consumers, providers, relays, disks, a chain and
//! the ways between them, on virtual time and one seed, with everything that
//! can go wrong. It drives what the node drives: the engines and policies of
//! crate `market` (claims, deposits, the way out), and the sender of
//! transactions of crate `chain`; and it checks after every event that
//! nobody's money is lost.
//!
//! `cargo run --release --bin world -- torture --seeds 1000` plays many seeds.
//!
//! What is deliberately absent: sealing and bytes on a wire, and RPC as bytes
//! (they have suites of their own); gas as money, so no account is too poor
//! for it; withdrawals of idle channels, which the node's usual policy does
//! not make either. Logs that a server leaves out are absent, too: no node
//! decides about money by logs, but by the state of channels, which it reads.
//! What reads logs (`chain::Cursor`, `lethe wallet restore`) is tried against
//! such servers in `chain/tests/hostile`.

mod chain;
mod consumer;
mod disk;
mod exit;
mod misfortune;
mod oracle;
mod people;
mod plan;
mod provider;
mod random;
mod sender;
mod shrink;
mod telling;
mod town;
mod trace;
mod wire;

pub use plan::{ConsumerKind, Fault, Mutant, Plan, ProviderKind};
pub use random::Random;
pub use shrink::{Shrunk, shrink};
pub use telling::{About, Line};
pub use town::{Story, Violation, play};
pub use trace::Tally;
