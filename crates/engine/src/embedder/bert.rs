//! The network: BERT's encoder, several texts at a time.
//!
//! The tokens of all texts stand below one another as rows, without padding:
//! all products with the weights, nearly all of the work, are made of all rows
//! together, so that weights are fetched from memory once a batch. Only attention
//! is reckoned text by text, and no text's rows ever meet another's: there is
//! nothing to mask.

use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor};
use sha2::{Digest, Sha256};

use super::config::{Activation, Config, EmbedderError, Pooling, WEIGHTS_BYTES_MAX, bytes};

/// The file of the weights.
const WEIGHTS: &str = "model.safetensors";

/// A product with what was learnt, and a sum.
struct Linear {
    /// Transposed: inputs by outputs.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn of(&self, input: &Tensor) -> Result<Tensor> {
        input.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Brings each row to mean 0 and spread 1, then to what was learnt.
struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl Norm {
    fn of(&self, input: &Tensor) -> Result<Tensor> {
        let centred = input.broadcast_sub(&input.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let spread = (variance + self.epsilon)?.sqrt()?;
        centred
            .broadcast_div(&spread)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: Norm,
    wide: Linear,
    narrow: Linear,
    norm: Norm,
}

pub(super) struct Bert {
    words: Tensor,
    positions: Tensor,
    /// The row of the first kind: all tokens are of one sentence.
    kind: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    width: usize,
    activation: Activation,
    pooling: Pooling,
    normalises: bool,
    parameters: u64,
    /// As the file stores them.
    stored: DType,
}

/// The weights of a file, by name.
struct Weights {
    all: std::collections::HashMap<String, Tensor>,
    /// What stands before every name, where a task's head was trained beside it.
    prefix: &'static str,
    epsilon: f64,
}

impl Weights {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let Some(tensor) = self.all.get(&name) else {
            candle_core::bail!("{name} is missing");
        };
        if tensor.dims() != shape {
            candle_core::bail!("{name} is {:?}, expected is {shape:?}", tensor.dims());
        }
        tensor.to_dtype(DType::F32)?.contiguous()
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear {
            weight: weight.t()?.contiguous()?,
            bias: self.tensor(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        // Older files have the names of the time.
        let is_old = !self
            .all
            .contains_key(&format!("{}{name}.weight", self.prefix));
        let (weight, bias) = match is_old {
            true => ("gamma", "beta"),
            false => ("weight", "bias"),
        };
        Ok(Norm {
            weight: self.tensor(&format!("{name}.{weight}"), &[width])?,
            bias: self.tensor(&format!("{name}.{bias}"), &[width])?,
            epsilon: self.epsilon,
        })
    }

    fn layer(&self, at: usize, config: &Config) -> Result<Layer> {
        let width = config.width;
        let name = |part: &str| format!("encoder.layer.{at}.{part}");
        let square = |part: &str| self.linear(&name(part), width, width);
        let feed = config.feed_width;
        Ok(Layer {
            query: square("attention.self.query")?,
            key: square("attention.self.key")?,
            value: square("attention.self.value")?,
            attended: square("attention.output.dense")?,
            attended_norm: self.norm(&name("attention.output.LayerNorm"), width)?,
            wide: self.linear(&name("intermediate.dense"), width, feed)?,
            narrow: self.linear(&name("output.dense"), feed, width)?,
            norm: self.norm(&name("output.LayerNorm"), width)?,
        })
    }
}

impl Bert {
    /// Reads the weights. With the file's SHA-256.
    pub(super) fn read(
        folder: &Path,
        config: &Config,
    ) -> core::result::Result<(Self, [u8; 32]), EmbedderError> {
        let path = folder.join(WEIGHTS);
        let bytes = bytes(&path, WEIGHTS_BYTES_MAX)?;
        let bert = Self::of(&bytes, config);
        let bert = bert.map_err(|source| EmbedderError::Weights { path, source })?;
        Ok((bert, Sha256::digest(&bytes).into()))
    }

    fn of(bytes: &[u8], config: &Config) -> Result<Self> {
        let all = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
        let prefix = match all.keys().any(|name| name.starts_with("bert.")) {
            true => "bert.",
            false => "",
        };
        let weights = Weights {
            all,
            prefix,
            epsilon: config.epsilon,
        };
        let width = config.width;
        let table =
            |name: &str, rows| weights.tensor(&format!("embeddings.{name}"), &[rows, width]);
        let kinds = table("token_type_embeddings.weight", config.kinds)?;
        let layers = (0..config.layers).map(|at| weights.layer(at, config));
        let words = format!("{prefix}embeddings.word_embeddings.weight");
        let stored = weights.all.get(&words).map(Tensor::dtype);
        let numbers = weights
            .all
            .values()
            .map(|tensor| tensor.elem_count() as u64);
        Ok(Self {
            words: table("word_embeddings.weight", config.vocabulary)?,
            positions: table("position_embeddings.weight", config.positions)?,
            kind: kinds.narrow(0, 0, 1)?,
            norm: weights.norm("embeddings.LayerNorm", width)?,
            layers: layers.collect::<Result<_>>()?,
            heads: config.heads,
            width,
            activation: config.activation,
            pooling: config.pooling,
            normalises: config.normalises,
            parameters: numbers.sum(),
            stored: stored.unwrap_or(DType::F32),
        })
    }

    /// How many numbers a vector has.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The precision of the file, such as `F32`.
    pub(super) fn precision(&self) -> String {
        self.stored.as_str().to_uppercase()
    }

    /// How many numbers were learnt.
    pub(super) fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The vectors of texts, in their order.
    pub(super) fn embed(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let ids = Tensor::new(texts.concat(), &Device::Cpu)?;
        let positions = lengths
            .iter()
            .map(|length| self.positions.narrow(0, 0, *length));
        let positions = positions.collect::<Result<Vec<_>>>()?;
        let mut rows = self
            .words
            .index_select(&ids, 0)?
            .broadcast_add(&self.kind)?
            .add(&Tensor::cat(&positions, 0)?)?;
        rows = self.norm.of(&rows)?;
        for layer in &self.layers {
            rows = self.through(layer, &rows, &lengths)?;
        }
        let texts = of_each(&rows, &lengths)?;
        texts.iter().map(|rows| self.pooled(rows)).collect()
    }

    /// A text's vector, of its tokens'.
    fn pooled(&self, rows: &Tensor) -> Result<Vec<f32>> {
        let vector = match self.pooling {
            Pooling::Mean => rows.mean(0)?,
            Pooling::First => rows.narrow(0, 0, 1)?.squeeze(0)?,
        };
        let mut vector = vector.to_vec1::<f32>()?;
        if self.normalises {
            let squares: f32 = vector.iter().map(|number| number * number).sum();
            // As sentence-transformers has it: nothing is divided by nothing.
            let length = squares.sqrt().max(1e-12);
            vector.iter_mut().for_each(|number| *number /= length);
        }
        Ok(vector)
    }

    fn through(&self, layer: &Layer, rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let attended = self.attend(layer, rows, lengths)?;
        let attended = layer.attended.of(&attended)?.add(rows)?;
        let attended = layer.attended_norm.of(&attended)?;
        let wide = layer.wide.of(&attended)?;
        let wide = match self.activation {
            Activation::Gelu => wide.gelu_erf()?,
            Activation::GeluTanh => wide.gelu()?,
            Activation::Relu => wide.relu()?,
        };
        layer.norm.of(&layer.narrow.of(&wide)?.add(&attended)?)
    }

    /// What each token takes of the others of its text.
    fn attend(&self, layer: &Layer, rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let query = of_each(&layer.query.of(rows)?, lengths)?;
        let key = of_each(&layer.key.of(rows)?, lengths)?;
        let value = of_each(&layer.value.of(rows)?, lengths)?;
        let texts = query.iter().zip(&key).zip(&value);
        let texts = texts.map(|((query, key), value)| self.attend_within(query, key, value));
        Tensor::cat(&texts.collect::<Result<Vec<_>>>()?, 0)
    }

    /// The same of one text, head by head.
    fn attend_within(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let (count, head) = (query.dim(0)?, self.width / self.heads);
        let heads = |rows: &Tensor| {
            rows.reshape((count, self.heads, head))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (query, key, value) = (heads(query)?, heads(key)?, heads(value)?);
        let scores = (query.matmul(&key.transpose(1, 2)?.contiguous()?)? / (head as f64).sqrt())?;
        let scores = scores
            .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
            .exp()?;
        let shares = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        shares
            .matmul(&value)?
            .transpose(0, 1)?
            .reshape((count, self.width))
    }
}

/// The rows of each text.
fn of_each(rows: &Tensor, lengths: &[usize]) -> Result<Vec<Tensor>> {
    let mut from = 0;
    let texts = lengths.iter().map(|length| {
        let text = rows.narrow(0, from, *length);
        from += length;
        text
    });
    texts.collect()
}
