//! Fuzzes load digests, well signed or not.
#![no_main]

#[path = "../bodies/market.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::load(bytes));
