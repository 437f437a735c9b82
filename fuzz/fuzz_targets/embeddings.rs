//! Fuzzes requests for embeddings, in each of their dialects.
#![no_main]

#[path = "../bodies/openai.rs"]
#[expect(dead_code, reason = "a target uses one of them")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::embeddings(bytes));
