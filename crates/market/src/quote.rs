//! Prices: what a provider asks for tokens, and how far a request's cost can
//! be known before it is served.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::{Amount, AmountOverflow, Timestamp};

/// Output tokens per voucher: how far either side goes ahead of the other.
///
/// Small enough that a lost step is dust (at 1 MOR per 10^6 tokens: 0.000032
/// MOR), large enough that a signature per step is lost in the noise.
pub const STEP_TOKENS: u32 = 32;

/// Base units per 10^6 tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// For a million tokens of the request.
    pub input_per_million: Amount,
    /// For a million tokens of the answer.
    pub output_per_million: Amount,
}

impl Rates {
    const MILLION: u128 = 1_000_000;

    /// What an answer costs: one rounding, up, over input and output together.
    pub fn cost(&self, input_tokens: u32, output_tokens: u32) -> Result<Amount, AmountOverflow> {
        let input = self.input_per_million.times(u128::from(input_tokens))?;
        let output = self.output_per_million.times(u128::from(output_tokens))?;
        Ok(Amount::new(
            input.plus(output)?.base_units().div_ceil(Self::MILLION),
        ))
    }

    /// What one step of output costs.
    pub fn step(&self) -> Result<Amount, AmountOverflow> {
        self.cost(0, STEP_TOKENS)
    }
}

/// An offer of a provider, good until it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The token that the rates are in.
    pub token: Address,
    /// The rates.
    #[serde(flatten)]
    pub rates: Rates,
    /// Good before this moment.
    pub expires_at: Timestamp,
}

/// How many input tokens a request may be billed for, known without a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputBound {
    /// What the first voucher covers.
    pub estimate: u32,
    /// What is refused when billed: a token is at least one byte of the
    /// request, apart from what the chat template adds.
    pub ceiling: u32,
}

impl InputBound {
    /// Tokens that a chat template may add around the request's own text.
    const TEMPLATE_TOKENS: u32 = 256;
    /// Bytes per token that an estimate reckons with.
    const BYTES_PER_TOKEN: u32 = 3;
    /// Added to the estimate, so that short requests are covered too.
    const ESTIMATE_FLOOR: u32 = 32;

    /// The bound for a request whose JSON body is this long.
    pub fn of_body(body_bytes: usize) -> Self {
        let bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
        Self {
            estimate: (bytes / Self::BYTES_PER_TOKEN).saturating_add(Self::ESTIMATE_FLOOR),
            ceiling: bytes.saturating_add(Self::TEMPLATE_TOKENS),
        }
    }

    /// The bound for a model that takes so many tokens of request and answer
    /// together: what does not fit is not paid for.
    #[must_use]
    pub fn within(self, context_length: Option<u32>) -> Self {
        let limit = context_length.unwrap_or(u32::MAX);
        Self {
            estimate: self.estimate.min(limit),
            ceiling: self.ceiling.min(limit),
        }
    }

    /// The same for a model that takes so many texts one by one, each of them
    /// within its length.
    #[must_use]
    pub fn within_each(self, context_length: Option<u32>, texts: usize) -> Self {
        let texts = u32::try_from(texts).unwrap_or(u32::MAX);
        self.within(context_length.map(|length| length.saturating_mul(texts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_rounds_up_once() {
        let rates = Rates {
            input_per_million: Amount::new(1),
            output_per_million: Amount::new(1),
        };
        assert_eq!(rates.cost(0, 0), Ok(Amount::ZERO));
        assert_eq!(rates.cost(1, 1), Ok(Amount::new(1)));
        assert_eq!(rates.cost(1_000_000, 1), Ok(Amount::new(2)));
    }

    #[test]
    fn an_absurd_rate_is_an_error_and_no_panic() {
        let rates = Rates {
            input_per_million: Amount::new(u128::MAX),
            output_per_million: Amount::ZERO,
        };
        assert!(rates.cost(2, 0).is_err());
    }

    #[test]
    fn the_estimate_never_exceeds_the_ceiling() {
        for bytes in [0, 1, 100, 10_000, usize::MAX] {
            let bound = InputBound::of_body(bytes);
            assert!(bound.estimate <= bound.ceiling, "{bytes} bytes");
            let bound = bound.within(Some(40));
            assert!(bound.estimate <= bound.ceiling, "{bytes} bytes, within 40");
        }
    }

    #[test]
    fn what_does_not_fit_the_model_is_not_paid_for() {
        let huge = InputBound::of_body(14_000_000);
        assert_eq!(huge.within(None), huge);
        let bound = huge.within(Some(512));
        assert_eq!((bound.estimate, bound.ceiling), (512, 512));
        let short = InputBound::of_body(30);
        let bound = short.within(Some(512));
        assert_eq!((bound.estimate, bound.ceiling), (42, 286));
        let each = huge.within_each(Some(512), 3);
        assert_eq!((each.estimate, each.ceiling), (1536, 1536));
        assert_eq!(huge.within_each(None, 3), huge);
    }
}
