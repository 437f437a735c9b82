//! The OpenAI dialect: chat requests and their faults, chunks of an answer,
//! embeddings ([`embeddings`]), server-sent events, error bodies; and other dialects, translated to it and
//! from it ([`dialect`]).
//!
//! Pure: bytes in, bytes out. Nothing here knows a socket or a clock, so both
//! sides of the market and the gateway read and write the same dialect from
//! the same code. What this crate does not understand it passes on untouched.

mod aggregate;
mod body;
mod carried;
mod chat;
pub mod dialect;
pub mod embeddings;
mod identity;
mod json;
mod object;
mod request;
mod scan;
mod seam;
pub mod sse;

pub use aggregate::{Aggregate, AggregateError, MAX_ANSWER_BYTES, MAX_TOOL_CALLS};
pub use body::{ErrorBody, ErrorDetail, ErrorKind, ModelCard, ModelList};
pub use chat::{BadRequest, ChatRequest, MAX_BODY_BYTES};
pub use embeddings::{EmbeddingsRequest, VectorFormat};
pub use identity::with_identity;
pub use json::{MAX_DEPTH, MAX_ELEMENTS, MAX_FIELDS};
pub use request::Request;
pub use scan::{ChunkFacts, ScanError, Usage, created, scan};
pub use seam::{OVERLAP_BYTES_MIN, PARTIAL_BYTES_MAX, Partial, Resumed, Seam, UnresumableError};
