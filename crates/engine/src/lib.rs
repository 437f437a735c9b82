//! The embedded inference engine: GGUF files on candle.
//!
//! [`Engine`] loads a llama, qwen2, qwen3, gemma3 or phi3 file with the file's
//! own tokenizer and chat template, and answers OpenAI chat bodies as streams
//! of [`Event`]s. Several requests are computed at a time over one copy of the
//! weights. [`Embedder`] makes embeddings of texts, by a sentence encoder of
//! the BERT family. They know nothing of HTTP, money or the network.
//!
//! From the outside in: `engine` is the handle, `request` and `template` turn
//! a body into text, `guard` and `tokenizer` turn text into tokens, `worker`
//! schedules, `model` and `kernel` compute, `sampler` and `text` turn scores
//! into words. `gguf` reads the container that all of it comes from.
//!
//! A model file is a stranger's input: whatever its bytes are, opening it
//! ends in a model or in a [`LoadError`] that says what is wrong.

mod answer;
mod calendar;
mod card;
mod embedder;
mod engine;
mod gguf;
mod guard;
mod kernel;
mod model;
mod request;
mod sampler;
mod template;
mod text;
mod tokenizer;
mod worker;

pub use answer::{Answer, EngineError, Event, Finish, TokenLogprob, TokenLogprobs};
pub use card::Card;
pub use embedder::{EmbedError, Embedder, EmbedderError, Embedding, Texts};
pub use engine::{ChatError, Engine, LoadError, Options};
pub use gguf::FormatError;
pub use model::{ConfigError, WeightError};
pub use template::{Clock, TemplateError};
pub use tokenizer::TokenizerError;

/// The demonstration model: it knows the definitions of about 3,000 English
/// nouns and nothing else. `tools/demo-model` has how it was trained.
pub fn demo_model() -> &'static [u8] {
    /// Weights are read in place, so they must lie as they do in a file.
    #[repr(align(64))]
    struct Aligned<B: ?Sized>(B);
    static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../model/demo.gguf"));
    &FILE.0
}
