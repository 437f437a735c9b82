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
    /// What a million tokens of a request cost from now on, in the token that the provider sells for; 0: nothing.
    #[arg(long, value_name = "AMOUNT", value_parser = price, allow_negative_numbers = true)]
    pub(crate) input_price: Option<String>,
    /// What a million tokens of an answer cost from now on, in the same; 0: nothing.
    #[arg(long, value_name = "AMOUNT", value_parser = price, allow_negative_numbers = true)]
    pub(crate) output_price: Option<String>,
}

/// An amount in the token that the provider sells for.
fn price(text: &str) -> Result<String, String> {
    amount(text).map_err(|error| {
        format!(
            "{error}; a price is in whole tokens of the provider's --token, never in dollars, and 0 or more"
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn what_is_no_price_is_told_what_one_is() {
        for wrong in ["-1", "1usd", "-0.5"] {
            let told = Cli::try_parse_from(["lethe", "price", "--output-price", wrong]);
            let told = told.unwrap_err().to_string();
            assert!(told.contains("never in dollars, and 0 or more"), "{told}");
        }
        for right in ["0", "1.5"] {
            Cli::try_parse_from(["lethe", "price", "--output-price", right]).unwrap();
        }
    }
}
