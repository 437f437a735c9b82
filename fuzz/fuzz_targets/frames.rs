//! Fuzzes frames of the stream between nodes.
#![no_main]

#[path = "../bodies/transport.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::frames(bytes));
