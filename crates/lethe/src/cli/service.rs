//! `lethe service` and its flags.

use clap::Args;

use super::Data;
use super::config::Role;

#[derive(Debug, Args)]
pub(crate) struct Service {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Which command is to run in the background.
    #[arg(value_enum)]
    pub(crate) role: Role,
    /// Its flags, behind `--`.
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<String>,
}
