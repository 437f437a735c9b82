//! Streams between nodes, addressed by public key: iroh/QUIC and an in-memory twin.

pub mod message;
