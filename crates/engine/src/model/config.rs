//! The shape of a network, from a file's metadata.

use crate::gguf::{Contents, Value};
use crate::kernel::Activation;

/// More than any model has; a larger number is an error in the file.
const LAYERS_MAX: usize = 1024;
const HEADS_MAX: usize = 1024;
const HEAD_WIDTH_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 20;
const CONTEXT_MAX: usize = 1 << 24;
/// How much of a foreign name a message quotes.
const NAME_CHARACTERS_MAX: usize = 64;

/// Gemma's sliding layers rotate by this, and no key says so.
const GEMMA_SLIDING_BASE: f32 = 10_000.0;
/// Every sixth layer of gemma 3 sees everything.
const GEMMA_PATTERN: usize = 6;
/// Layers of gemma 3 27B, whose queries are scaled in another way.
const GEMMA_27B_LAYERS: usize = 62;

/// A family of networks that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
    Phi3,
}

impl Architecture {
    const ALL: [Self; 5] = [
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma3,
        Self::Phi3,
    ];

    /// The name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
        }
    }
}

/// Why a file's network cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Another family.
    #[error(
        "architecture {architecture:?} is not supported; supported are llama, qwen2, qwen3, gemma3 and phi3"
    )]
    Architecture {
        /// What the file names.
        architecture: String,
    },
    /// A key that is needed and not there, or of another type.
    #[error("metadata key {key:?} is {found}, expected {expected}")]
    Key {
        /// The key.
        key: String,
        /// What is there.
        found: &'static str,
        /// What should be.
        expected: &'static str,
    },
    /// A number that no network has.
    #[error("metadata key {key:?} is {value}, allowed is {allowed}")]
    Range {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What it may say.
        allowed: String,
    },
    /// Something of this family that is not done here.
    #[error("metadata key {key:?} is {value}, which this engine does not support")]
    Unsupported {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
    },
}

/// How positions beyond those of the training are reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RopeScaling {
    None,
    /// All positions are divided by this.
    Linear(f32),
    /// Factors per frequency, from tensors; `original` is the trained length.
    Long {
        original: usize,
        attention: Option<f32>,
    },
}

/// The shape of a network; once it exists, its numbers fit together.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) architecture: Architecture,
    pub(crate) context: usize,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) feed_width: usize,
    pub(crate) heads: usize,
    pub(crate) key_value_heads: usize,
    pub(crate) head_width: usize,
    /// How many numbers of a head are rotated.
    pub(crate) rotated: usize,
    pub(crate) rope_base: f32,
    pub(crate) rope_scaling: RopeScaling,
    pub(crate) rope_base_sliding: f32,
    pub(crate) epsilon: f32,
    pub(crate) query_scale: f32,
    pub(crate) embedding_scale: f32,
    pub(crate) activation: Activation,
    pub(crate) logit_cap: Option<f32>,
    window: Option<usize>,
}

impl Config {
    pub(crate) fn read(contents: &Contents<'_>) -> Result<Self, ConfigError> {
        let architecture = architecture(contents)?;
        let keys = Keys {
            contents,
            name: architecture.name(),
        };
        keys.refuse_experts()?;

        let is_gemma = architecture == Architecture::Gemma3;
        let layers = keys.size("block_count", LAYERS_MAX)?;
        let width = keys.size("embedding_length", WIDTH_MAX)?;
        let Heads {
            heads,
            key_value_heads,
            head_width,
            rotated,
        } = keys.heads(width)?;
        let (query_scale, embedding_scale) = if is_gemma {
            let per_query = if layers == GEMMA_27B_LAYERS {
                width / heads
            } else {
                head_width
            };
            (1.0 / root(per_query), root(width))
        } else {
            (1.0 / root(head_width), 1.0)
        };
        Ok(Self {
            architecture,
            context: keys.size("context_length", CONTEXT_MAX)?,
            layers,
            width,
            feed_width: keys.size("feed_forward_length", WIDTH_MAX)?,
            heads,
            key_value_heads,
            head_width,
            rotated,
            rope_base: keys.positive("rope.freq_base", if is_gemma { 1e6 } else { 1e4 })?,
            rope_scaling: keys.rope_scaling(architecture)?,
            rope_base_sliding: keys.positive("rope.freq_base_swa", GEMMA_SLIDING_BASE)?,
            epsilon: keys.positive("attention.layer_norm_rms_epsilon", f32::NAN)?,
            query_scale,
            embedding_scale,
            activation: if is_gemma {
                Activation::Gelu
            } else {
                Activation::Silu
            },
            logit_cap: keys.optional("final_logit_softcapping")?,
            window: if is_gemma {
                Some(keys.size("attention.sliding_window", CONTEXT_MAX)?)
            } else {
                None
            },
        })
    }

    /// How far back a layer sees, itself included; `None` for all the way.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        self.window
            .filter(|_| !(layer + 1).is_multiple_of(GEMMA_PATTERN))
    }
}

fn architecture(contents: &Contents<'_>) -> Result<Architecture, ConfigError> {
    let named = contents.metadata.get("general.architecture");
    let name = named
        .and_then(Value::as_str)
        .ok_or_else(|| ConfigError::Key {
            key: "general.architecture".to_owned(),
            found: named.map_or("missing", Value::kind),
            expected: "a string",
        })?;
    Architecture::ALL
        .into_iter()
        .find(|architecture| architecture.name() == name)
        .ok_or_else(|| ConfigError::Architecture {
            architecture: name.chars().take(NAME_CHARACTERS_MAX).collect(),
        })
}

/// The square root of a size.
fn root(size: usize) -> f32 {
    (size as f32).sqrt()
}

/// How a layer's width is cut into heads.
struct Heads {
    heads: usize,
    key_value_heads: usize,
    head_width: usize,
    rotated: usize,
}

/// The keys of one architecture.
struct Keys<'c, 'a> {
    contents: &'c Contents<'a>,
    name: &'c str,
}

impl<'a> Keys<'_, 'a> {
    fn heads(&self, width: usize) -> Result<Heads, ConfigError> {
        let heads = self.size("attention.head_count", HEADS_MAX)?;
        let key_value_heads = self.size_or("attention.head_count_kv", heads, HEADS_MAX)?;
        if !heads.is_multiple_of(key_value_heads) {
            return Err(self.range(
                "attention.head_count_kv",
                key_value_heads,
                format!("a divisor of {heads}"),
            ));
        }
        let head_width = self.size_or("attention.key_length", width / heads, HEAD_WIDTH_MAX)?;
        if self.size_or("attention.value_length", head_width, HEAD_WIDTH_MAX)? != head_width {
            return Err(ConfigError::Unsupported {
                key: self.full("attention.value_length"),
                value: "other than the key length".to_owned(),
            });
        }
        let rotated = self.size_or("rope.dimension_count", head_width, HEAD_WIDTH_MAX)?;
        if rotated > head_width || !rotated.is_multiple_of(2) {
            return Err(self.range(
                "rope.dimension_count",
                rotated,
                format!("an even number up to {head_width}"),
            ));
        }
        Ok(Heads {
            heads,
            key_value_heads,
            head_width,
            rotated,
        })
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn find(&self, key: &str) -> Option<&Value<'a>> {
        self.contents.metadata.get(self.full(key).as_str())
    }

    fn range(&self, key: &str, value: impl ToString, allowed: String) -> ConfigError {
        ConfigError::Range {
            key: self.full(key),
            value: value.to_string(),
            allowed,
        }
    }

    fn wrong(&self, key: &str, expected: &'static str) -> ConfigError {
        ConfigError::Key {
            key: self.full(key),
            found: self.find(key).map_or("missing", Value::kind),
            expected,
        }
    }

    fn size(&self, key: &str, max: usize) -> Result<usize, ConfigError> {
        let value = self.find(key).and_then(Value::as_u64);
        let value = value.ok_or_else(|| self.wrong(key, "an integer"))?;
        match usize::try_from(value) {
            Ok(size) if (1..=max).contains(&size) => Ok(size),
            _ => Err(self.range(key, value, format!("1 to {max}"))),
        }
    }

    fn size_or(&self, key: &str, default: usize, max: usize) -> Result<usize, ConfigError> {
        if self.find(key).is_some() {
            return self.size(key, max);
        }
        if (1..=max).contains(&default) {
            return Ok(default);
        }
        Err(self.range(key, default, format!("1 to {max}")))
    }

    fn optional(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let number = value.as_f32().ok_or_else(|| self.wrong(key, "a float"))?;
        if number.is_finite() && number > 0.0 {
            Ok(Some(number))
        } else {
            Err(self.range(key, number, "a positive number".to_owned()))
        }
    }

    /// A positive number; a `default` of NaN means that it must be there.
    fn positive(&self, key: &str, default: f32) -> Result<f32, ConfigError> {
        match self.optional(key)? {
            Some(number) => Ok(number),
            None if default.is_nan() => Err(self.wrong(key, "a float")),
            None => Ok(default),
        }
    }

    /// Mixtures of experts share the name of the plain family.
    fn refuse_experts(&self) -> Result<(), ConfigError> {
        match self.find("expert_count").and_then(Value::as_u64) {
            None | Some(0) => Ok(()),
            Some(count) => Err(ConfigError::Unsupported {
                key: self.full("expert_count"),
                value: count.to_string(),
            }),
        }
    }

    fn rope_scaling(&self, architecture: Architecture) -> Result<RopeScaling, ConfigError> {
        if architecture == Architecture::Phi3 {
            let context = self.size("context_length", CONTEXT_MAX)?;
            return Ok(RopeScaling::Long {
                original: self.size_or(
                    "rope.scaling.original_context_length",
                    context,
                    CONTEXT_MAX,
                )?,
                attention: self.optional("rope.scaling.attn_factor")?,
            });
        }
        match self.find("rope.scaling.type").and_then(Value::as_str) {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear(
                self.positive("rope.scaling.factor", 1.0)?,
            )),
            Some(other) => Err(ConfigError::Unsupported {
                key: self.full("rope.scaling.type"),
                value: format!("{other:?}"),
            }),
        }
    }
}
