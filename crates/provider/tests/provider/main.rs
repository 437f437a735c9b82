//! The selling side as a whole, against buyers who speak the messages by hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backends;
mod behind;
mod claims;
mod crashes;
mod descriptor;
mod embeddings;
mod hosts;
mod replays;
mod resting;
mod selling;
mod world;
