//! Fuzzes cells that were sealed well and are anything.
#![no_main]

#[path = "../bodies/seal.rs"]
#[expect(dead_code, reason = "a target uses one of them")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::request_cells(bytes));
