//! The network: five architectures, one forward pass.
//!
//! llama, qwen2, qwen3, gemma3 and phi3 differ in what they add to the same
//! skeleton (a bias here, a norm there, another rotation); what a file has is
//! decided once in `load`, and `forward` runs what is there. candle gives the
//! storage formats and the k-quant loops. Its ready-made models are not used:
//! they build tensors and masks for every step, which on a small model costs
//! ten times the arithmetic, and they keep one conversation each, where this
//! one computes the steps of several conversations together.

mod cache;
mod config;
mod forward;
mod load;
mod matrix;
mod rope;

use std::sync::Arc;

pub(crate) use cache::Cache;
pub use config::ConfigError;
pub(crate) use config::{Architecture, Config};
pub(crate) use forward::{Row, Scratch};
pub use load::WeightError;
use matrix::Matrix;
use rope::Rope;

use crate::kernel::Level;

/// The bytes of a file, for as long as anything points into them.
#[derive(Clone)]
pub(crate) enum File {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
    Owned(Arc<Vec<u8>>),
}

impl std::ops::Deref for File {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Weights that are ready to compute with.
pub(crate) struct Model {
    config: Config,
    level: Level,
    embedding: Matrix,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    /// `None` where the embedding does this too.
    output: Option<Matrix>,
    rope: Rope,
    /// The rotation of gemma's sliding layers.
    rope_sliding: Option<Rope>,
    /// Numbers multiplied for one token; what a step costs.
    multiplications: usize,
    parameters: u64,
}

impl Model {
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How many tokens it scores.
    pub(crate) fn vocabulary(&self) -> usize {
        self.embedding.rows
    }

    /// How many numbers were learnt.
    pub(crate) fn parameters(&self) -> u64 {
        self.parameters
    }

    pub(crate) fn multiplications(&self) -> usize {
        self.multiplications
    }
}

/// One layer; what an architecture lacks is `None`.
struct Layer {
    attention_norm: Vec<f32>,
    query_key_value: QueryKeyValue,
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    attention_output: Linear,
    attention_after_norm: Option<Vec<f32>>,
    feed_norm: Vec<f32>,
    gate_up: GateUp,
    down: Linear,
    feed_after_norm: Option<Vec<f32>>,
    /// Positions that attention looks back at, itself included; `None` for all.
    window: Option<usize>,
}

/// A matrix and what is added to its product.
struct Linear {
    matrix: Matrix,
    bias: Option<Vec<f32>>,
}

enum QueryKeyValue {
    Apart {
        query: Linear,
        key: Linear,
        value: Linear,
    },
    /// One matrix with the rows of all three.
    Fused(Linear),
}

enum GateUp {
    Apart {
        gate: Linear,
        up: Linear,
    },
    /// One matrix: the rows of the gate, then the others.
    Fused(Linear),
}
