//! `lethe price` and its flags.

use clap::Args;

use super::{Data, amount};

#[derive(Debug, Args)]
pub(crate) struct Price {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// What a million tokens of a request cost from now on, in the token that the provider sells for.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub(crate) input_price: Option<String>,
    /// What a million tokens of an answer cost from now on, in the same.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub(crate) output_price: Option<String>,
}
