//! The chain from outside: over HTTP, across restarts, with bad input.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod client;
mod input;
mod restart;
mod rpc;
mod websocket;
