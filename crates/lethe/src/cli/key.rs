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

/// A model and an amount of MOR.
fn budget(text: &str) -> Result<(String, String), String> {
    // A name may hold an equals sign, an amount does not.
    let Some((model, amount)) = text.rsplit_once('=') else {
        return Err("allowed: MODEL=AMOUNT, such as llama=0.5".to_owned());
    };
    Ok((model.to_owned(), super::amount(amount)?))
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
    /// What its requests may cost in a day of UTC, in MOR. None is begun that may cost more than is left.
    #[arg(long, value_name = "AMOUNT", value_parser = super::amount)]
    pub(crate) budget_per_day: Option<String>,
    /// The same for one model, such as `llama=0.5`; may be given for several.
    #[arg(long = "budget", value_name = "MODEL=AMOUNT", value_parser = budget)]
    pub(crate) budgets: Vec<(String, String)>,
    /// At what pace its requests travel, whatever the node's --paced says: `fast` or `paced`.
    #[arg(long, value_name = "PACE", value_parser = ["fast", "paced"])]
    pub(crate) pacing: Option<String>,
}
