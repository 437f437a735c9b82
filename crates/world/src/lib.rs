//! The market in one process: consumers, providers, relays, disks, a chain and
//! the ways between them, on virtual time and one seed, with everything that
//! can go wrong. It drives the engines of crate `market` that the node drives,
//! and checks after every event that nobody's money is lost.
//!
//! `cargo run --release -p world -- torture --seeds 1000` plays many seeds.
//! What is deliberately absent: sealing and bytes on a wire (they have suites
//! of their own), and gas as money.

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
mod town;
mod trace;
mod wire;

pub use plan::{ConsumerKind, Fault, Mutant, Plan, ProviderKind};
pub use random::Random;
pub use shrink::{Shrunk, shrink};
pub use town::{Story, Violation, play};
pub use trace::Tally;
