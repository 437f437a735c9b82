//! Fuzzes a backend's vectors, and pieces of them that come to a consumer.
#![no_main]

#[path = "../bodies/openai.rs"]
#[expect(dead_code, reason = "a target uses one of them")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::vectors(bytes));
