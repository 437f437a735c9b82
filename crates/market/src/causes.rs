//! Errors as people read them: with what caused them.

use core::error::Error;

/// An error and its causes in one line, outermost first.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // An error that only hands on another speaks with its words.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outside")]
    struct Outside(#[source] crate::AmountOverflow);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct HandsOn(#[source] crate::AmountOverflow);

    #[test]
    fn the_cause_stands_behind_the_error() {
        let inner = crate::Amount::ZERO
            .minus(crate::Amount::new(1))
            .unwrap_err();
        let expected = format!("outside: {inner}");
        assert_eq!(with_causes(&Outside(inner)), expected);
        assert_eq!(with_causes(&HandsOn(inner)), inner.to_string());
    }
}
