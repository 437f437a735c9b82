//! A budget of retries: where much fails, trying all of it again makes it worse.
//!
//! A token bucket: each request pays in a fifth of a token, each retry after
//! lost work takes one. A refusal at once costs nobody work and is free.

/// Retries that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    fifths: u32,
}

impl Default for RetryBudget {
    /// Full: a node that has just started may retry.
    fn default() -> Self {
        Self {
            fifths: Self::FIFTHS_MAX,
        }
    }
}

impl RetryBudget {
    /// One retry in so many requests, over time: 20 %.
    pub const ONE_IN: u32 = 5;
    /// Retries that can be saved up.
    pub const SAVED_MAX: u32 = 20;
    const FIFTHS_MAX: u32 = Self::SAVED_MAX * Self::ONE_IN;

    /// A request came.
    pub fn pay_in(&mut self) {
        self.fifths = self.fifths.saturating_add(1).min(Self::FIFTHS_MAX);
    }

    /// Takes one retry, if there is one.
    pub fn take(&mut self) -> bool {
        let left = self.fifths.checked_sub(Self::ONE_IN);
        self.fifths = left.unwrap_or(self.fifths);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_requests_may_be_retried_and_a_few_more_at_first() {
        let mut budget = RetryBudget::default();
        let mut retried = 0;
        for _ in 0..1000 {
            budget.pay_in();
            retried += u32::from(budget.take());
        }
        assert!((200..=221).contains(&retried), "{retried}");
    }
}
