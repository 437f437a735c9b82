//! What a market is asked for: an answer in words, or vectors.

use core::hash::Hasher;

use bytes::Bytes;

use crate::{ChatRequest, EmbeddingsRequest};

/// A request of one kind or the other, as far as they are alike.
#[derive(Debug, Clone)]
pub enum Request {
    /// For words.
    Chat(ChatRequest),
    /// For vectors.
    Embeddings(EmbeddingsRequest),
}

impl Request {
    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        match self {
            Self::Chat(chat) => chat.body(),
            Self::Embeddings(embeddings) => embeddings.body(),
        }
    }

    /// The model that is asked for, by name.
    pub fn model(&self) -> &str {
        match self {
            Self::Chat(chat) => chat.model(),
            Self::Embeddings(embeddings) => embeddings.model(),
        }
    }

    /// The JSON text of a field; none if it is absent or null.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self {
            Self::Chat(chat) => chat.field(name),
            Self::Embeddings(embeddings) => embeddings.field(name),
        }
    }

    /// Names of the fields that a backend has to heed, beyond those that everybody knows.
    pub fn parameters(&self) -> Vec<&str> {
        match self {
            Self::Chat(chat) => chat.parameters().collect(),
            Self::Embeddings(embeddings) => embeddings.parameters().collect(),
        }
    }

    /// Texts that a model reads one by one, each within its length.
    pub fn texts(&self) -> usize {
        match self {
            Self::Chat(_) => 1,
            Self::Embeddings(embeddings) => embeddings.inputs(),
        }
    }

    /// The most tokens that the answer may have, if that is known: vectors are none.
    pub fn max_output_tokens(&self) -> Option<u32> {
        match self {
            Self::Chat(chat) => chat.max_output_tokens(),
            Self::Embeddings(_) => Some(0),
        }
    }

    /// Feeds a hash with what stays the same in a conversation. Whether there is one.
    pub fn hash_opening(&self, state: &mut impl Hasher) -> bool {
        match self {
            Self::Chat(chat) => chat.hash_opening(state),
            Self::Embeddings(_) => false,
        }
    }

    /// As a backend gets it, with its own name for the model.
    pub fn upstream_body(&self, upstream_model: &str) -> Bytes {
        match self {
            Self::Chat(chat) => chat.upstream_body(upstream_model),
            Self::Embeddings(embeddings) => embeddings.upstream_body(upstream_model),
        }
    }
}

impl From<ChatRequest> for Request {
    fn from(chat: ChatRequest) -> Self {
        Self::Chat(chat)
    }
}

impl From<EmbeddingsRequest> for Request {
    fn from(embeddings: EmbeddingsRequest) -> Self {
        Self::Embeddings(embeddings)
    }
}
