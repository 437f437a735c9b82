//! The chain from outside: over HTTP, across restarts, with bad input.

mod client;
mod input;
mod restart;
mod rpc;
