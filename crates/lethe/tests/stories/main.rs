//! Stories on the real binary: processes, sockets, files and signals, as a
//! user has them.

mod anvil;
mod backend;
mod crash;
mod process;
mod refusals;
mod up;
