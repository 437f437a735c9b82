//! Sealing as its two sides use it, and as somebody between them abuses it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attacks;
mod corpus;
mod doors;
mod epochs;
mod exchange;
mod pieces;
mod vectors;
mod world;
