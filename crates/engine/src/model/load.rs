//! Finding a network's weights in a file and checking that they fit.

use candle_core::quantized::GgmlDType;

use super::config::RopeScaling;
use super::matrix::{self, Matrix};
use super::rope::{Pairing, Rope};
use super::{Architecture, Config, File, GateUp, Layer, Linear, Model, QueryKeyValue};
use crate::gguf::{Contents, TensorInfo};
use crate::kernel::Level;

/// Why a file's weights do not make the network that its metadata describes.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// A tensor that this architecture has.
    #[error("tensor {name:?} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape.
    #[error("tensor {name:?} has dimensions {found:?}, the metadata says {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// What the file has, innermost first.
        found: Vec<usize>,
        /// What it should be.
        expected: Vec<usize>,
    },
    /// Numbers that cannot be computed with as they lie.
    #[error(
        "tensor {name:?} of type {kind} cannot be used: its width must be a multiple of 32 and it must lie at an even address"
    )]
    Layout {
        /// Its name.
        name: String,
        /// Its storage type.
        kind: String,
    },
    /// A norm, bias or factor stored in blocks.
    #[error("tensor {name:?} is stored as {kind}, expected F32, F16 or BF16")]
    Floats {
        /// Its name.
        name: String,
        /// Its storage type.
        kind: String,
    },
    /// A vocabulary that the network was not made for.
    #[error("the tokenizer has {tokens} tokens, the network {rows}")]
    Vocabulary {
        /// Tokens in the metadata.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
}

impl Model {
    pub(crate) fn load(
        file: &File,
        contents: &Contents<'_>,
        config: Config,
        vocabulary: usize,
        context: usize,
        level: Level,
    ) -> Result<Self, WeightError> {
        let tensors = Tensors { file, contents };
        let rows = tensors
            .info("token_embd.weight")?
            .dimensions
            .get(1)
            .copied()
            .unwrap_or(1);
        if rows != vocabulary {
            return Err(WeightError::Vocabulary {
                tokens: vocabulary,
                rows,
            });
        }
        let embedding = tensors.matrix("token_embd.weight", vocabulary, config.width)?;
        let output = tensors.optional_matrix("output.weight", vocabulary, config.width)?;
        // Layers are checked one by one, so a false count fails at the first missing one.
        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(Layer::load(&tensors, &config, index)?);
        }
        let (rope, rope_sliding) = ropes(&tensors, &config, context)?;
        let multiplications =
            layers.iter().map(Layer::weights).sum::<usize>() + vocabulary * config.width;
        let parameters = contents
            .tensors
            .values()
            .map(|info| {
                info.dimensions
                    .iter()
                    .map(|&size| size as u64)
                    .product::<u64>()
            })
            .sum();
        Ok(Self {
            output_norm: tensors.vector("output_norm.weight", config.width)?,
            level,
            embedding,
            layers,
            output,
            rope,
            rope_sliding,
            multiplications,
            parameters,
            config,
        })
    }
}

impl Layer {
    fn load(tensors: &Tensors<'_>, config: &Config, index: usize) -> Result<Self, WeightError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (width, feed) = (config.width, config.feed_width);
        let queries = config.heads * config.head_width;
        let keys = config.key_value_heads * config.head_width;
        let is_phi = config.architecture == Architecture::Phi3;
        let is_gemma = config.architecture == Architecture::Gemma3;
        let norms_heads = is_gemma || config.architecture == Architecture::Qwen3;
        let norm_if = |wanted: bool, part: &str, width: usize| {
            if wanted {
                tensors.vector(&name(part), width).map(Some)
            } else {
                Ok(None)
            }
        };

        let query_key_value = if is_phi {
            QueryKeyValue::Fused(tensors.linear(&name("attn_qkv"), queries + 2 * keys, width)?)
        } else {
            QueryKeyValue::Apart {
                query: tensors.linear(&name("attn_q"), queries, width)?,
                key: tensors.linear(&name("attn_k"), keys, width)?,
                value: tensors.linear(&name("attn_v"), keys, width)?,
            }
        };
        let gate_up = if is_phi {
            GateUp::Fused(tensors.linear(&name("ffn_up"), 2 * feed, width)?)
        } else {
            GateUp::Apart {
                gate: tensors.linear(&name("ffn_gate"), feed, width)?,
                up: tensors.linear(&name("ffn_up"), feed, width)?,
            }
        };
        Ok(Self {
            attention_norm: tensors.vector(&name("attn_norm.weight"), width)?,
            query_key_value,
            query_norm: norm_if(norms_heads, "attn_q_norm.weight", config.head_width)?,
            key_norm: norm_if(norms_heads, "attn_k_norm.weight", config.head_width)?,
            attention_output: tensors.linear(&name("attn_output"), width, queries)?,
            attention_after_norm: norm_if(is_gemma, "post_attention_norm.weight", width)?,
            feed_norm: tensors.vector(&name("ffn_norm.weight"), width)?,
            gate_up,
            down: tensors.linear(&name("ffn_down"), width, feed)?,
            feed_after_norm: norm_if(is_gemma, "post_ffw_norm.weight", width)?,
            window: config.window(index),
        })
    }

    /// How many weights a token meets here.
    fn weights(&self) -> usize {
        let size = |linear: &Linear| linear.matrix.rows * linear.matrix.width;
        let attention = match &self.query_key_value {
            QueryKeyValue::Apart { query, key, value } => size(query) + size(key) + size(value),
            QueryKeyValue::Fused(all) => size(all),
        };
        let feed = match &self.gate_up {
            GateUp::Apart { gate, up } => size(gate) + size(up),
            GateUp::Fused(both) => size(both),
        };
        attention + size(&self.attention_output) + feed + size(&self.down)
    }
}

/// The rotations of a network: of all layers, and of gemma's sliding ones.
fn ropes(
    tensors: &Tensors<'_>,
    config: &Config,
    context: usize,
) -> Result<(Rope, Option<Rope>), WeightError> {
    let pairing = if config.architecture == Architecture::Llama {
        Pairing::Neighbours
    } else {
        Pairing::Halves
    };
    let pairs = config.rotated / 2;
    let (slowdown, scale, magnitude) = match config.rope_scaling {
        RopeScaling::None => (
            tensors.optional_vector("rope_freqs.weight", pairs)?,
            1.0,
            1.0,
        ),
        RopeScaling::Linear(scale) => (
            tensors.optional_vector("rope_freqs.weight", pairs)?,
            scale,
            1.0,
        ),
        RopeScaling::Long {
            original,
            attention,
        } => {
            let name = if context > original {
                "rope_factors_long.weight"
            } else {
                "rope_factors_short.weight"
            };
            let factors = tensors.optional_vector(name, pairs)?;
            let magnitude = if factors.is_some() {
                attention.unwrap_or(1.0)
            } else {
                1.0
            };
            (factors, 1.0, magnitude)
        }
    };
    let rope = Rope::new(
        pairing,
        config.rotated,
        config.rope_base,
        scale,
        &slowdown.unwrap_or_default(),
        magnitude,
    );
    let sliding = (config.architecture == Architecture::Gemma3).then(|| {
        Rope::new(
            pairing,
            config.rotated,
            config.rope_base_sliding,
            1.0,
            &[],
            1.0,
        )
    });
    Ok((rope, sliding))
}

/// The tensors of a file, by name.
struct Tensors<'a> {
    file: &'a File,
    contents: &'a Contents<'a>,
}

impl Tensors<'_> {
    fn info(&self, name: &str) -> Result<&TensorInfo, WeightError> {
        self.contents
            .tensors
            .get(name)
            .ok_or_else(|| WeightError::Missing {
                name: name.to_owned(),
            })
    }

    fn shaped(&self, name: &str, expected: &[usize]) -> Result<&TensorInfo, WeightError> {
        let info = self.info(name)?;
        // Trailing dimensions of 1 say nothing.
        let found = info.dimensions.as_slice();
        let used = found
            .iter()
            .rposition(|&size| size != 1)
            .map_or(1, |last| last + 1);
        let wanted = expected
            .iter()
            .rposition(|&size| size != 1)
            .map_or(1, |last| last + 1);
        if found[..used] == expected[..wanted] {
            Ok(info)
        } else {
            Err(WeightError::Shape {
                name: name.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            })
        }
    }

    fn matrix(&self, name: &str, rows: usize, width: usize) -> Result<Matrix, WeightError> {
        let info = self.shaped(name, &[width, rows])?;
        Matrix::new(self.file, info.bytes.clone(), info.kind, rows, width).ok_or_else(|| {
            WeightError::Layout {
                name: name.to_owned(),
                kind: format!("{:?}", info.kind),
            }
        })
    }

    fn optional_matrix(
        &self,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Result<Option<Matrix>, WeightError> {
        if self.contents.tensors.contains_key(name) {
            self.matrix(name, rows, width).map(Some)
        } else {
            Ok(None)
        }
    }

    /// `NAME.weight`, with `NAME.bias` where the file has one.
    fn linear(&self, name: &str, rows: usize, width: usize) -> Result<Linear, WeightError> {
        Ok(Linear {
            matrix: self.matrix(&format!("{name}.weight"), rows, width)?,
            bias: self.optional_vector(&format!("{name}.bias"), rows)?,
        })
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, WeightError> {
        let info = self.shaped(name, &[width])?;
        if !matches!(info.kind, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16) {
            return Err(WeightError::Floats {
                name: name.to_owned(),
                kind: format!("{:?}", info.kind),
            });
        }
        let mut numbers = vec![0.0; width];
        matrix::read_floats(info.kind, &self.file[info.bytes.clone()], &mut numbers);
        Ok(numbers)
    }

    fn optional_vector(&self, name: &str, width: usize) -> Result<Option<Vec<f32>>, WeightError> {
        if self.contents.tensors.contains_key(name) {
            self.vector(name, width).map(Some)
        } else {
            Ok(None)
        }
    }
}
