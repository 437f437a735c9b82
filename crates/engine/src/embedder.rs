//! Embeddings: a sentence encoder of the BERT family, from a folder as Hugging
//! Face has them.
//!
//! [`Embedder`] reads `config.json`, `tokenizer.json`, `model.safetensors` and,
//! where they are, the files of sentence-transformers that say how the vectors
//! of a text's tokens become one. Texts are computed several at a time, in
//! batches that the tokens bound; what is asked beside a text changes its vector
//! by no more than the rounding of sums.
//!
//! The folder is a stranger's input like any model file: opening it ends in an
//! encoder or in an [`EmbedderError`] that says what is wrong.

mod bert;
mod config;
mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use crate::card::Card;
use bert::Bert;
use tokens::Tokens;

pub(crate) use config::Config;
pub use config::EmbedderError;

/// More than this at a time is no sensible wish.
const SLOTS_MAX: usize = 256;

/// The most texts of a batch: those that one is given at a time.
const BATCH_TEXTS_MAX: usize = 32;

/// The most tokens of a batch; a longer text is one by itself. By so many the
/// weights are fetched seldom enough, the memory for what is between the layers
/// is bounded (a few MB a slot in the widest of them), and whoever leaves is noticed soon.
const BATCH_TOKENS_MAX: usize = 512;

/// A sentence encoder that is loaded. Cheap to clone.
#[derive(Clone)]
pub struct Embedder {
    shared: Arc<Shared>,
}

struct Shared {
    bert: Bert,
    tokens: Tokens,
    card: Card,
    /// Requests that are computed at a time.
    slots: Arc<Semaphore>,
}

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The numbers.
    pub vector: Vec<f32>,
    /// Tokens that were read, the marks at both ends included.
    pub tokens: u32,
}

impl Embedding {
    fn of((vector, tokens): (Vec<f32>, usize)) -> Self {
        Self {
            vector,
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        }
    }
}

/// Why texts get no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// A text is longer than the model reads.
    #[error(
        "input[{index}] has {tokens} tokens, and the model reads {limit}; shorten it, or let it be cut (\"truncate\": true)"
    )]
    TooLong {
        /// Which text, from 0.
        index: usize,
        /// How long it is.
        tokens: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A text cannot be taken apart.
    #[error("input[{index}] is not text that the model's tokenizer takes")]
    Tokenizer {
        /// Which text, from 0.
        index: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It could not be computed.
    #[error("the vector could not be computed")]
    Compute(#[source] candle_core::Error),
    /// Whoever asked is gone, or the process ends.
    #[error("nobody waits for the vectors any more")]
    Stopped,
}

/// Texts that were taken apart, whose vectors are still to be computed.
#[derive(Debug)]
pub struct Texts {
    all: std::vec::IntoIter<Vec<u32>>,
}

impl Texts {
    /// How many are left.
    pub fn left(&self) -> usize {
        self.all.len()
    }
}

/// Stops the work of whoever dropped it.
struct Leaving(Arc<AtomicBool>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Embedder {
    /// Loads a model's folder. Reads all of the weights, which takes a while.
    pub fn open(folder: &Path, slots: usize) -> Result<Self, EmbedderError> {
        let config = Config::read(folder)?;
        let tokens = Tokens::read(folder, &config)?;
        let (bert, sha256) = Bert::read(folder, &config)?;
        let card = Card {
            parameters: bert.parameters(),
            quantization: bert.precision(),
            ..Card::of_encoder(folder, &config, sha256)
        };
        Ok(Self {
            shared: Arc::new(Shared {
                bert,
                tokens,
                card,
                slots: Arc::new(Semaphore::new(slots.clamp(1, SLOTS_MAX))),
            }),
        })
    }

    /// What it is.
    pub fn card(&self) -> &Card {
        &self.shared.card
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.shared.bert.width()
    }

    /// Takes texts apart. `cut`: those that are too long are cut, and not refused.
    pub async fn read(&self, texts: Vec<String>, cut: bool) -> Result<Texts, EmbedError> {
        let shared = Arc::clone(&self.shared);
        let read = move || {
            let all = texts.iter().enumerate();
            let all = all.map(|(index, text)| shared.tokens.of(index, text, cut));
            all.collect::<Result<Vec<_>, _>>()
        };
        let all = tokio::task::spawn_blocking(read).await;
        let all = all.map_err(|_| EmbedError::Stopped)??;
        Ok(Texts {
            all: all.into_iter(),
        })
    }

    /// The vectors of the next texts, so many at most and in their order.
    /// Dropping the future stops the work before the next batch.
    pub async fn embed(
        &self,
        texts: &mut Texts,
        count: usize,
    ) -> Result<Vec<Embedding>, EmbedError> {
        let next: Vec<Vec<u32>> = texts.all.by_ref().take(count).collect();
        let slot = Arc::clone(&self.shared.slots).acquire_owned().await;
        let slot = slot.map_err(|_| EmbedError::Stopped)?;
        let gone = Arc::new(AtomicBool::new(false));
        let _leaving = Leaving(Arc::clone(&gone));
        let shared = Arc::clone(&self.shared);
        let compute = move || {
            let _slot = slot;
            let mut all = Vec::with_capacity(next.len());
            let mut left = next.as_slice();
            while !left.is_empty() {
                if gone.load(Ordering::Relaxed) {
                    return Err(EmbedError::Stopped);
                }
                let (batch, rest) = left.split_at(batch(left));
                left = rest;
                let vectors = shared.bert.embed(batch).map_err(EmbedError::Compute)?;
                let tokens = batch.iter().map(Vec::len);
                all.extend(vectors.into_iter().zip(tokens).map(Embedding::of));
            }
            Ok(all)
        };
        let all = tokio::task::spawn_blocking(compute).await;
        all.map_err(|_| EmbedError::Stopped)?
    }
}

/// How many of these texts are computed together, from the first one; one at least.
fn batch(texts: &[Vec<u32>]) -> usize {
    let mut tokens = 0_usize;
    let fits = |text: &&Vec<u32>| {
        tokens = tokens.saturating_add(text.len());
        tokens <= BATCH_TOKENS_MAX
    };
    let fitting = texts.iter().take(BATCH_TEXTS_MAX).take_while(fits).count();
    fitting.max(1).min(texts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_texts_and_tokens_and_never_empty() {
        let batches = |lengths: &[usize]| {
            let texts: Vec<Vec<u32>> = lengths.iter().map(|length| vec![1; *length]).collect();
            let mut left = texts.as_slice();
            let mut sizes = Vec::new();
            while !left.is_empty() {
                let size = batch(left);
                sizes.push(size);
                left = &left[size..];
            }
            sizes
        };
        let (texts, tokens) = (BATCH_TEXTS_MAX, BATCH_TOKENS_MAX);
        assert!(batches(&[]).is_empty());
        assert_eq!(batches(&vec![1; 2 * texts + 1]), [texts, texts, 1]);
        assert_eq!(batches(&[tokens, 1, tokens - 1, 1]), [1, 2, 1]);
        assert_eq!(batches(&[1, tokens + 1, 2, 2]), [1, 1, 2]);
    }
}
