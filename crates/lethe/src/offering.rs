//! `lethe sell`: what `lethe provide` would have to be told of one model of
//! this machine, found out.

use std::path::{Path, PathBuf};

use market::{Amount, B256, Card, CardError, CardFields, Kind, ParseAmountError};

use crate::cli::{self, sell::Sell};
use crate::folder::{Folder, FolderError};
use crate::model;
use crate::models::ModelsError;
use crate::models::ollama::{self, Offered, OllamaError};
use crate::models::pulled::{self, Pulled};
use crate::models::reference::is_model;
use crate::role_error::RoleError;
use crate::roles;
use crate::secret::{self, SecretError};

/// What is in front of the name of one of Ollama's models.
const OLLAMA: &str = "ollama:";
/// Fields of a request that Ollama's OpenAI dialect heeds with every model;
/// `max_completion_tokens` as the provider says it under the older name, too.
const OLLAMA_HEEDS: [&str; 9] = [
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_p",
];

/// The file that every folder of a model for embeddings has.
const CONFIG: &str = "config.json";

/// The most digits after the point that a price has.
const DIGITS: u8 = 18;

/// Why a model cannot be sold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferingError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Models(#[from] ModelsError),
    #[error(transparent)]
    Ollama(#[from] OllamaError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("--price is not an amount")]
    Price(#[source] ParseAmountError),
    #[error(transparent)]
    Role(Box<RoleError>),
    #[error(
        "there is no file {path:?}; `lethe model list` has what was pulled, and what Ollama has"
    )]
    NoFile { path: PathBuf },
    #[error("{path:?} is no .gguf file; the engine reads no other files")]
    NoModel { path: PathBuf },
    #[error(
        "{path:?} is no folder of a model for embeddings: it has no {CONFIG}; of a model for chat, say its .gguf file"
    )]
    NoEncoder { path: PathBuf },
    #[error("only a part of {model} is here; `lethe model pull {model}` goes on, then sell it")]
    Part { model: String },
    #[error("what is known of {model:?} makes no card")]
    Card {
        model: String,
        #[source]
        source: CardError,
    },
}

impl OfferingError {
    /// Whether a flag is why.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Price(_) => true,
            Self::Role(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// `lethe sell`.
pub(crate) async fn sell(args: Sell) -> Result<(), OfferingError> {
    let what = What::of(&args).await?;
    // In which token, the chain may have to say; half of it is half of it in any.
    let price = Amount::from_decimal(&args.price, DIGITS).map_err(OfferingError::Price)?;
    let half = Amount::new(price.base_units() / 2).to_decimal(DIGITS);
    let provide = cli::Provide {
        data: args.data,
        network: args.network,
        model: args.name.unwrap_or(what.name),
        backend: what.backend.iter().map(|(url, _)| url.clone()).collect(),
        backend_key_file: args.backend_key_file,
        backend_model: what.backend.map(|(_, name)| name),
        first_chunk_within: cli::FIRST_CHUNK_WITHIN_S,
        stall_after: cli::STALL_AFTER_S,
        no_probe: false,
        gguf: what.gguf,
        embedder: what.embedder,
        card: None,
        heeds: what.heeds,
        input_price: args.input_price.unwrap_or(half),
        output_price: args.price,
        sale: args.sale,
    };
    let offered = Box::pin(roles::offer(provide, what.card)).await;
    offered.map_err(|error| OfferingError::Role(Box::new(error)))
}

/// A model that is to be sold.
#[derive(Debug, Default)]
struct What {
    /// In the market.
    name: String,
    gguf: Option<PathBuf>,
    /// A folder with a sentence encoder.
    embedder: Option<PathBuf>,
    /// Where a server is, and the model's name there.
    backend: Option<(String, String)>,
    card: Option<Card>,
    heeds: Vec<String>,
}

impl What {
    async fn of(args: &Sell) -> Result<Self, OfferingError> {
        if let Some(name) = args.model.strip_prefix(OLLAMA) {
            let key = args.backend_key_file.as_deref();
            let key = key.map(secret::backend_key).transpose()?;
            let key = key.as_ref().map(|key| key.as_str());
            let offered = ollama::find(&args.ollama, key, name).await?;
            return Self::of_ollama(&args.ollama, &offered);
        }
        let path = Path::new(&args.model);
        if path.is_file() {
            return Self::of_file(path);
        }
        let is_path = path.is_absolute() || args.model.starts_with('.');
        // A pulled model may be called like a folder that happens to be here.
        if path.is_dir() && (is_path || path.join(CONFIG).is_file()) {
            return Self::of_folder(path);
        }
        if is_path {
            let path = path.to_owned();
            return Err(OfferingError::NoFile { path });
        }
        Self::of_pulled(&find(args.data.folder.clone(), &args.model)?)
    }

    fn of_file(path: &Path) -> Result<Self, OfferingError> {
        if !is_model(&path.to_string_lossy()) {
            let path = path.to_owned();
            return Err(OfferingError::NoModel { path });
        }
        Ok(Self {
            name: model::market_name(Some(path)),
            gguf: Some(path.to_owned()),
            ..Self::default()
        })
    }

    fn of_folder(path: &Path) -> Result<Self, OfferingError> {
        let path = path.to_owned();
        if !path.join(CONFIG).is_file() {
            return Err(OfferingError::NoEncoder { path });
        }
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            embedder: Some(path),
            ..Self::default()
        })
    }

    fn of_pulled(pulled: &Pulled) -> Result<Self, OfferingError> {
        let model = pulled.reference.to_string();
        if !pulled.is_whole {
            return Err(OfferingError::Part { model });
        }
        let note = pulled.note.as_ref();
        // The engine computes the digest of what it reads and compares it with this one.
        let card = Card::new(CardFields {
            repo: pulled.reference.repo(),
            revision: note.and_then(|note| note.revision.clone()),
            weights: note.map(|note| B256::from(note.sha256.0)),
            ..CardFields::default()
        });
        Ok(Self {
            name: pulled.reference.name().to_owned(),
            gguf: Some(pulled.path.clone()),
            card: Some(card.map_err(|source| OfferingError::Card { model, source })?),
            ..Self::default()
        })
    }

    /// Its context is not said: Ollama grants what its own settings say, and tells nobody.
    fn of_ollama(url: &str, offered: &Offered) -> Result<Self, OfferingError> {
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let repo = offered.name.split(':').next().unwrap_or_default();
        let is_encoder = offered.details.is_encoder();
        let modality = is_encoder.then_some(Kind::TEXT_EMBEDDINGS);
        let card = Card::new(CardFields {
            repo: format!("ollama/{repo}"),
            revision: said(&offered.digest),
            quantization: said(&offered.details.quantization_level),
            modality: modality.map(str::to_owned),
            ..CardFields::default()
        });
        let model = offered.name.clone();
        Ok(Self {
            name: offered.short().to_owned(),
            backend: Some((ollama::backend(url)?, offered.name.clone())),
            card: Some(card.map_err(|source| OfferingError::Card { model, source })?),
            heeds: match is_encoder {
                true => vec!["dimensions".to_owned()],
                false => OLLAMA_HEEDS.map(str::to_owned).into(),
            },
            ..Self::default()
        })
    }
}

/// A pulled model: of the folder that is sold from, or of the usual one.
fn find(said: Option<PathBuf>, asked: &str) -> Result<Pulled, OfferingError> {
    let own = pulled::folder(&Folder::look(said)?);
    let found = pulled::find(&own, asked);
    let (Err(ModelsError::Unknown { .. }), Ok(usual)) = (&found, Folder::look(None)) else {
        return Ok(found?);
    };
    Ok(pulled::find(&pulled::folder(&usual), asked)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::models::reference::{Digest, Reference};

    #[test]
    fn a_pulled_model_is_sold_with_the_card_of_its_repo() {
        let pulled = Pulled {
            reference: Reference::parse("hf:org/repo:sub/tiny.gguf").unwrap(),
            path: "/models/tiny.gguf".into(),
            held: 5,
            is_whole: true,
            note: Some(pulled::Note {
                sha256: Digest([7; 32]),
                bytes: 5,
                revision: Some("c0ffee".into()),
            }),
        };
        let what = What::of_pulled(&pulled).unwrap();
        assert_eq!(what.name, "tiny");
        assert_eq!(what.gguf, Some("/models/tiny.gguf".into()));
        let card = what.card.unwrap();
        assert_eq!(card.repo, "org/repo");
        assert_eq!(card.revision.as_deref(), Some("c0ffee"));
        assert_eq!(card.weights, Some(B256::repeat_byte(7)));
        let part = Pulled {
            is_whole: false,
            ..pulled
        };
        let said = What::of_pulled(&part).unwrap_err().to_string();
        assert!(
            said.contains("lethe model pull hf:org/repo:sub/tiny.gguf"),
            "{said}"
        );
    }

    #[test]
    fn a_model_of_ollama_is_sold_by_its_short_name_with_what_is_known_of_it() {
        let tags = r#"{"name":"llama3.2:latest","size":7,"digest":"ab12","details":{"quantization_level":"Q4_K_M"}}"#;
        let offered: Offered = serde_json::from_str(tags).unwrap();
        let what = What::of_ollama("http://127.0.0.1:11434/", &offered).unwrap();
        assert_eq!(what.name, "llama3.2");
        let backend = (
            "http://127.0.0.1:11434/v1".to_owned(),
            "llama3.2:latest".to_owned(),
        );
        assert_eq!(what.backend, Some(backend));
        let card = what.card.unwrap();
        assert_eq!(card.repo, "ollama/llama3.2");
        assert_eq!(card.revision.as_deref(), Some("ab12"));
        assert_eq!(card.quantization.as_deref(), Some("Q4_K_M"));
        assert_eq!(card.weights, None, "that is the manifest's digest");
        assert_eq!(card.context_length, None);
        assert_eq!(card.modality, None);
        let tags = r#"{"name":"all-minilm:latest","details":{"family":"bert"}}"#;
        let offered: Offered = serde_json::from_str(tags).unwrap();
        let what = What::of_ollama("http://127.0.0.1:11434/", &offered).unwrap();
        assert_eq!(Kind::of_card(what.card.as_ref()), Kind::Embeddings);
        assert_eq!(what.heeds, ["dimensions"]);
    }

    #[tokio::test]
    async fn what_is_no_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("readme.md");
        std::fs::write(&text, "no model").unwrap();
        let data = folder.path().to_str().unwrap();
        let refused = async |model: &str| {
            let words = ["lethe", "sell", model, "--price", "1", "--data", data];
            let cli::Command::Sell(args) = cli::Cli::parse_from(words).command else {
                panic!("another command");
            };
            What::of(&args).await.unwrap_err().to_string()
        };
        assert!(
            refused(text.to_str().unwrap())
                .await
                .contains("no .gguf file")
        );
        assert!(refused(data).await.contains("no config.json"));
        assert!(refused("./absent.gguf").await.contains("there is no file"));
        assert!(refused("absent").await.contains("no pulled model"));
        let offline = ["ollama:llama3.2", "--ollama", "http://127.0.0.1:9"];
        let words = [&["lethe", "sell"], &offline[..], &["--price", "1"]].concat();
        let cli::Command::Sell(args) = cli::Cli::parse_from(words).command else {
            panic!("another command");
        };
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let said = What::of(&args).await.unwrap_err().to_string();
        assert!(said.contains("ollama serve"), "{said}");
    }
}
