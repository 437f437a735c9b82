//! Stories on the real binary: processes, sockets, files and signals, as a
//! user has them.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod anvil;
mod backend;
mod crash;
mod paying;
mod process;
mod refusals;
mod up;
