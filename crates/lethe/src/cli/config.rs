//! `lethe config` and its flags.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) act: Act,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Write a file with every key, what it means and its default. An existing file is never touched.
    Init,
    /// Say what a role would run with and where each value comes from. Shows no secret.
    Show {
        /// Which.
        #[arg(value_enum)]
        role: Role,
    },
}

/// The commands that run until they are told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    Up,
    Provide,
    Consume,
    Relay,
    Chain,
    Tower,
}

impl Role {
    /// Its command's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Provide => "provide",
            Self::Consume => "consume",
            Self::Relay => "relay",
            Self::Chain => "chain",
            Self::Tower => "tower",
        }
    }

    /// The one of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let mut roles = Self::value_variants().iter().copied();
        roles.find(|role| role.name() == name)
    }
}
