//! `lethe key` and its flags.

use clap::{Args, Subcommand};

use super::{Data, values};

#[derive(Debug, Args)]
pub(crate) struct Key {
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
    /// Make a key and print it, once: only its hash is kept.
    Add(Add),
    /// List the keys and what holds for them. Shows no secret.
    List,
    /// Remove a key.
    Remove {
        /// Its name.
        name: String,
    },
}

/// Amounts, each of something else.
fn amounts(text: &str) -> Result<String, String> {
    for one in text.split(',') {
        super::token::stated(one)?;
    }
    Ok(text.to_owned())
}

/// A model and what may be spent on it.
fn budget(text: &str) -> Result<(String, String), String> {
    // A name may hold an equals sign, an amount does not.
    let Some((model, budget)) = text.rsplit_once('=') else {
        return Err("allowed: MODEL=AMOUNTS, such as llama=0.5 or llama=5usdc".to_owned());
    };
    Ok((model.to_owned(), amounts(budget)?))
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// What its requests prefer where they say nothing of it: JSON as in a request's `provider`.
    #[arg(long, value_name = "JSON", value_parser = values::preferences)]
    pub(crate) prefer: Option<String>,
    /// Labels that its requests demand, as in the header x-lethe-demand. A request may demand more, never less.
    #[arg(long, value_name = "LABELS", value_parser = values::labels)]
    pub(crate) demand: Option<String>,
    /// What happens when a provider is lost within an answer: `continue` or `strict`.
    #[arg(long, value_name = "MODE", value_parser = values::failover)]
    pub(crate) failover: Option<String>,
    /// What its requests may cost in a day of UTC: `0.5` is MOR, `"5 USDC"` that token, `"5 USD"` dollars of whatever is paid;
    /// `"0.5, 5 USDC"` so much of each. None is begun that may cost more than is left, or in a token of which no amount is named.
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts)]
    pub(crate) budget_per_day: Option<String>,
    /// The same for one model, such as `llama=0.5` or `llama=5usdc`; may be given for several.
    #[arg(long = "budget", value_name = "MODEL=AMOUNTS", value_parser = budget)]
    pub(crate) budgets: Vec<(String, String)>,
    /// At what pace its requests travel, whatever the node's --paced says: `fast` or `paced`.
    #[arg(long, value_name = "PACE", value_parser = ["fast", "paced"])]
    pub(crate) pacing: Option<String>,
}
