//! Inputs that have broken others, with what must come of each. The counts
//! stand beside the tables: a case that gets lost is noticed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod chunks;
mod dialects;
mod embeddings;
mod events;
mod fuzzed;
mod requests;
mod tongues;
