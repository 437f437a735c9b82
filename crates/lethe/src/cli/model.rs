//! `lethe model` and its flags.

use clap::{Args, Subcommand};

use super::{Data, values};
use crate::models::reference::{self, Digest, Reference};

/// Where a local Ollama listens if nobody says otherwise.
pub(crate) const OLLAMA_URL: &str = "http://127.0.0.1:11434";

#[derive(Debug, Args)]
pub(crate) struct Model {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) act: Act,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Bring a model's file to this machine, and check it; what broke off goes on where it was.
    Pull(Pull),
    /// List what was pulled, and what a local Ollama has.
    List {
        /// Where the local Ollama listens.
        #[arg(long, value_name = "URL", default_value = OLLAMA_URL, value_parser = values::server)]
        ollama: String,
    },
    /// Delete a pulled model, or what there is of one that did not come to its end.
    Remove {
        /// Its name, or hf:ORG/REPO:FILE, as `lethe model list` has them.
        #[arg(value_name = "MODEL")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Which file: hf:ORG/REPO:FILE, such as hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q8_0.gguf
    #[arg(value_name = "MODEL", value_parser = Reference::parse)]
    pub(crate) reference: Reference,
    /// Ask this server in place of huggingface.co; before HF_ENDPOINT, which says the same.
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Which state of the repo: a branch, a tag, a commit.
    #[arg(long, value_name = "NAME", default_value = "main", value_parser = reference::revision)]
    pub(crate) revision: String,
    /// What the file's SHA-256 must be, whatever the server says of it.
    #[arg(long, value_name = "HEX", value_parser = Digest::parse)]
    pub(crate) sha256: Option<Digest>,
    /// A larger file is refused.
    #[arg(long, value_name = "GIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) size_max: u64,
}
