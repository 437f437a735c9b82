//! `lethe top` and its flags.

use clap::Args;

use super::Data;

#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) data: Data,
}
