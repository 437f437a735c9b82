//! `lethe service` and its flags.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::Data;
use super::config::Role;
use crate::config::SELL;

#[derive(Debug, Args)]
pub(crate) struct Service {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Which command is to run in the background.
    #[arg(value_parser = commands())]
    pub(crate) role: String,
    /// Its flags, behind `--`, and the model of `sell`.
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<String>,
}

/// Those that run until they are told to stop.
fn commands() -> PossibleValuesParser {
    let roles = Role::value_variants().iter().map(|role| role.name());
    PossibleValuesParser::new(roles.chain([SELL]))
}
