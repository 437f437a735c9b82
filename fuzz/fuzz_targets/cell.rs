//! Fuzzes one cell.
#![no_main]

#[path = "../bodies/seal.rs"]
#[expect(dead_code, reason = "a target uses one of them")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::cell(bytes));
