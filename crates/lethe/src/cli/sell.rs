//! `lethe sell` and its flags.

use std::path::PathBuf;

use clap::Args;

use super::model::OLLAMA_URL;
use super::{Data, Network, Sale, amount, values};

#[derive(Debug, Args)]
pub(crate) struct Sell {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// A pulled model (`lethe model list`), the path of a .gguf file, of a folder with a BERT model for embeddings, or ollama:NAME
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// What a million tokens of an answer cost, in MOR or what --token says.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub(crate) price: String,
    /// What a million tokens of a request cost; half of --price, if it is not given.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub(crate) input_price: Option<String>,
    /// The model's name in the market; that of the file, or of Ollama, if it is not given.
    #[arg(long, value_parser = values::model)]
    pub(crate) name: Option<String>,
    /// Where the local Ollama listens.
    #[arg(long, value_name = "URL", default_value = OLLAMA_URL, value_parser = values::server)]
    pub(crate) ollama: String,
    /// A file with the API key of that Ollama, where a proxy in front of it asks for one, sent as `Authorization: Bearer …`; nobody but its owner may be able to read it.
    #[arg(long, value_name = "FILE")]
    pub(crate) backend_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sale: Sale,
}
