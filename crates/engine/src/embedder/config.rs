//! What a folder says of its model, checked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// No description is longer; a tokenizer is a list of words, and may be.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
pub(super) const TOKENIZER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The largest weights that are read into memory.
pub(super) const WEIGHTS_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// What a sensible encoder does not exceed.
const WIDTH_MAX: usize = 16_384;
const LAYERS_MAX: usize = 256;
const POSITIONS_MAX: usize = 65_536;
const VOCABULARY_MAX: usize = 1 << 24;

/// The files of sentence-transformers.
const MODULES: &str = "modules.json";
const SENTENCE: &str = "sentence_bert_config.json";

/// Why a folder could not be opened as a sentence encoder.
#[derive(Debug, thiserror::Error)]
pub enum EmbedderError {
    /// A file could not be read.
    #[error("{path:?} could not be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is longer than any of its kind.
    #[error("{path:?} is longer than {limit} bytes")]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file is not what its name says.
    #[error("{path:?} is not of its form")]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A model that this engine cannot run.
    #[error("{path:?} says {field} {got}; {allowed} can be run here")]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// Of what.
        field: &'static str,
        /// What it says.
        got: String,
        /// What would do.
        allowed: &'static str,
    },
    /// The tokenizer is none.
    #[error("{path:?} is no tokenizer that can be run here")]
    Tokenizer {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The weights are damaged, or not of such a model.
    #[error("{path:?} has no sound weights")]
    Weights {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: candle_core::Error,
    },
}

/// How the tokens' vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the mark at the beginning.
    First,
}

/// What was learnt between two layers is bent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// With the error function.
    Gelu,
    /// As approximated with a tangent.
    GeluTanh,
    Relu,
}

/// What a folder says. Once this exists, its numbers fit together.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) feed_width: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) kinds: usize,
    pub(super) epsilon: f64,
    pub(super) activation: Activation,
    pub(super) pooling: Pooling,
    /// Whether vectors are brought to the length 1.
    pub(super) normalises: bool,
    /// Tokens of a text, the marks included.
    pub(super) tokens_max: usize,
}

/// `config.json`
#[derive(Deserialize)]
struct Network {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn two() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `1_Pooling/config.json`
#[derive(Deserialize)]
struct PoolingFile {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

/// `sentence_bert_config.json`
#[derive(Deserialize)]
struct SentenceFile {
    #[serde(default)]
    max_seq_length: Option<usize>,
}

impl Network {
    /// Refuses what cannot be run. `path`: the file that says so.
    fn check(&self, path: &Path) -> Result<Activation, EmbedderError> {
        let unsupported = |field, got: String, allowed| EmbedderError::Unsupported {
            path: path.to_owned(),
            field,
            got,
            allowed,
        };
        if self.model_type != "bert" {
            return Err(unsupported("model_type", self.model_type.clone(), "bert"));
        }
        let positions = self.position_embedding_type.as_deref();
        if !matches!(positions, None | Some("absolute")) {
            let got = positions.unwrap_or_default().to_owned();
            return Err(unsupported("position_embedding_type", got, "absolute"));
        }
        let sizes = [
            ("hidden_size", self.hidden_size, WIDTH_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, WIDTH_MAX),
            ("intermediate_size", self.intermediate_size, 8 * WIDTH_MAX),
            ("vocab_size", self.vocab_size, VOCABULARY_MAX),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                POSITIONS_MAX,
            ),
            ("type_vocab_size", self.type_vocab_size, WIDTH_MAX),
        ];
        for (field, size, most) in sizes {
            if size == 0 || size > most {
                let allowed = "a size as models have it";
                return Err(unsupported(field, size.to_string(), allowed));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let got = self.num_attention_heads.to_string();
            let allowed = "a number that divides hidden_size";
            return Err(unsupported("num_attention_heads", got, allowed));
        }
        match self.hidden_act.as_deref() {
            None | Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            Some(other) => {
                let allowed = "gelu, gelu_new or relu";
                Err(unsupported("hidden_act", other.to_owned(), allowed))
            }
        }
    }
}

impl Config {
    pub(super) fn read(folder: &Path) -> Result<Self, EmbedderError> {
        let path = folder.join("config.json");
        let network: Network = json(&path)?;
        let activation = network.check(&path)?;
        let (pooling, normalises) = modules(folder)?;
        let sentence: Option<SentenceFile> = optional(&folder.join(SENTENCE))?;
        let said = sentence.and_then(|file| file.max_seq_length);
        let longest = network.max_position_embeddings;
        Ok(Self {
            width: network.hidden_size,
            layers: network.num_hidden_layers,
            heads: network.num_attention_heads,
            feed_width: network.intermediate_size,
            vocabulary: network.vocab_size,
            positions: longest,
            kinds: network.type_vocab_size,
            epsilon: network.layer_norm_eps,
            activation,
            pooling,
            normalises,
            // Two marks, and something between them.
            tokens_max: said.unwrap_or(longest).clamp(3.min(longest), longest),
        })
    }

    /// Tokens of a text, the marks included.
    pub(crate) fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// Words of the vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }
}

/// How vectors are put together; a plain BERT does not say.
fn modules(folder: &Path) -> Result<(Pooling, bool), EmbedderError> {
    let path = folder.join(MODULES);
    let Some(modules) = optional::<Vec<Module>>(&path)? else {
        return Ok((Pooling::Mean, false));
    };
    let (mut pooling, mut normalises) = (Pooling::Mean, false);
    for module in modules {
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => normalises = true,
            "Pooling" => {
                // A name within the folder, and nothing else.
                let inner = Path::new(&module.path).file_name().unwrap_or_default();
                pooling = pooling_of(&folder.join(inner).join("config.json"))?;
            }
            other => {
                return Err(EmbedderError::Unsupported {
                    path,
                    field: "type",
                    got: other.chars().take(64).collect(),
                    allowed: "Transformer, Pooling and Normalize",
                });
            }
        }
    }
    Ok((pooling, normalises))
}

fn pooling_of(path: &Path) -> Result<Pooling, EmbedderError> {
    let file: PoolingFile = json(path)?;
    let other = file.pooling_mode_max_tokens
        || file.pooling_mode_mean_sqrt_len_tokens
        || file.pooling_mode_weightedmean_tokens
        || file.pooling_mode_lasttoken;
    match (file.pooling_mode_mean_tokens, file.pooling_mode_cls_token) {
        (true, false) if !other => Ok(Pooling::Mean),
        (false, true) if !other => Ok(Pooling::First),
        _ => Err(EmbedderError::Unsupported {
            path: path.to_owned(),
            field: "pooling_mode",
            got: "another pooling, or several".to_owned(),
            allowed: "mean_tokens or cls_token alone",
        }),
    }
}

/// Reads a file of limited length.
pub(super) fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, EmbedderError> {
    let unread = |source| EmbedderError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unread)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unread)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let path = path.to_owned();
        return Err(EmbedderError::TooLong { path, limit });
    }
    Ok(bytes)
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, EmbedderError> {
    let bytes = bytes(path, CONFIG_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|source| EmbedderError::Json {
        path: path.to_owned(),
        source,
    })
}

/// The same of a file that need not be there.
fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EmbedderError> {
    match json(path) {
        Err(EmbedderError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        read => read.map(Some),
    }
}
