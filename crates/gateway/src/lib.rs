//! The HTTP edge: the OpenAI dialect and others, keys, health, metrics.
//!
//! A request comes in over [`serve`](Gateway::serve)'s own accept loop, passes
//! the guards (host, origin, key), is read within limits, and goes to the
//! [`Market`]. The answer's chunks are forwarded as they come, without being
//! parsed; when the client leaves, the answer is dropped and with it all work
//! behind it. Nothing of a prompt or an answer is logged or measured.

mod astray;
mod behind;
mod body;
mod chat;
mod dialects;
mod embeddings;
mod fault;
mod gate;
mod guard;
mod metrics;
mod models;
mod server;
mod settings;
mod stall;
mod stream;

pub use behind::{Market, Running};
pub use gate::{Gateway, Notice};
pub use settings::{ApiKey, ApiKeyError, Limits, Settings};
