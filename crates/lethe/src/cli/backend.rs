//! `lethe backend` and its flags.

use clap::{Args, Subcommand};

use super::Data;

#[derive(Debug, Args)]
pub(crate) struct Backend {
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
    /// List the provider's servers and how each stands.
    List,
    /// Send nothing new to a server; what it answers comes to its end. Holds until `resume`, over restarts, too.
    Drain {
        /// As `lethe provide --backend` has it.
        url: String,
    },
    /// Send to a server again.
    Resume {
        /// As `lethe provide --backend` has it.
        url: String,
    },
}
