//! The gateway over real sockets, with a market that plays what each test says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod dialects;
mod embeddings;
mod guards;
mod leaving;
mod limits;
mod scripted;
mod stopping;
mod wire;
