//! What nodes say to a transaction that is handed in, understood.
//!
//! There are no codes for it; the words are those of geth, Nitro, reth, erigon
//! and anvil.

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It is in the pool.
    Taken,
    /// No answer: it may be in the pool.
    Unknown,
    /// A transaction with this nonce is in a block: this one, or another.
    NonceTooLow,
    /// Another transaction with this nonce is in the pool and pays nearly as much.
    Underpriced,
    /// An earlier one is missing.
    NonceTooHigh,
    /// Less than blocks ask for now.
    FeeTooLow,
    /// The account cannot pay for the gas.
    TooPoor,
    /// Not taken, for another reason.
    Refused {
        /// Which.
        message: String,
    },
}

impl Said {
    /// Whether nobody has it if all say so.
    pub fn rejects(&self) -> bool {
        matches!(self, Self::TooPoor | Self::Refused { .. })
    }

    /// What several nodes said, as one: whoever may have it counts most.
    pub fn together(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().min().unwrap_or(Self::Unknown)
    }
}

/// A node's error.
pub(crate) fn understood(message: String) -> Said {
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["already known", "already imported", "known transaction"]) {
        Said::Taken
    } else if says(&["nonce too low", "nonce is too low"]) {
        Said::NonceTooLow
    } else if says(&[
        "replacement transaction underpriced",
        "replacement fee too low",
    ]) {
        Said::Underpriced
    } else if says(&["nonce too high", "nonce is too high", "nonce gap"]) {
        Said::NonceTooHigh
    } else if says(&[
        "less than block base fee",
        "transaction underpriced",
        "fee too low",
    ]) {
        Said::FeeTooLow
    } else if says_too_poor(&message) {
        Said::TooPoor
    } else if says(&[
        "txpool is full",
        "limit exceeded",
        "rate limit",
        "too many requests",
    ]) {
        // Another node, or the same one later, may take it.
        Said::Unknown
    } else {
        Said::Refused { message }
    }
}

/// Whether these words of a node mean that the account cannot pay for the gas.
pub(crate) fn says_too_poor(message: &str) -> bool {
    message.to_ascii_lowercase().contains("insufficient funds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Said {
        let message = message.to_owned();
        Said::Refused { message }
    }

    #[test]
    fn the_words_of_known_nodes_are_understood() {
        for (message, expected) in [
            ("already known", Said::Taken),
            ("transaction already imported", Said::Taken),
            ("nonce too low: next nonce 5, tx nonce 3", Said::NonceTooLow),
            ("replacement transaction underpriced", Said::Underpriced),
            (
                "nonce too high: address 0x1, tx: 9 state: 3",
                Said::NonceTooHigh,
            ),
            (
                "max fee per gas less than block base fee: address 0x1",
                Said::FeeTooLow,
            ),
            ("transaction underpriced: tip needed 1", Said::FeeTooLow),
            ("Insufficient funds for gas * price + value", Said::TooPoor),
            ("txpool is full", Said::Unknown),
            ("intrinsic gas too low", refused("intrinsic gas too low")),
        ] {
            assert_eq!(understood(message.to_owned()), expected, "{message}");
        }
    }

    #[test]
    fn one_node_that_may_have_it_outweighs_all_that_refuse() {
        let no = || refused("no");
        for (all, expected) in [
            (vec![no(), Said::Taken], Said::Taken),
            (vec![no(), Said::Unknown, Said::TooPoor], Said::Unknown),
            (vec![Said::NonceTooLow, Said::Unknown], Said::Unknown),
            (vec![Said::TooPoor, no()], Said::TooPoor),
            (vec![no()], no()),
            (vec![], Said::Unknown),
        ] {
            assert_eq!(Said::together(all.clone()), expected, "{all:?}");
        }
    }
}
