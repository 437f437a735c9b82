//! The provider's engine of one answer: when a chunk may go out, how long a
//! voucher is waited for, when progress is to be written, what is billed.
//!
//! Pure: the time is an argument. The money is [`Earning`]'s; this asks it
//! before each chunk, without public-key work and without waiting.

use core::time::Duration;

use crate::{Closing, Earning, Moment, Outcome, RequestId, STEP_TOKENS, TillError, Timestamp};

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// It is paid for.
    On,
    /// A voucher is missing; it is waited for until then.
    Wait {
        /// The end of the wait.
        until: Moment,
    },
    /// None came in time: the answer ends.
    Unpaid,
}

/// One answer, as its seller follows it.
#[derive(Debug, Clone)]
pub struct Selling {
    request: RequestId,
    pay_within: Duration,
    tokens: u32,
    unpaid_since: Option<Moment>,
}

impl Selling {
    /// An admitted request; a voucher is waited for so long.
    pub fn new(request: RequestId, pay_within: Duration) -> Self {
        Self {
            request,
            pay_within,
            tokens: 0,
            unpaid_since: None,
        }
    }

    /// Tokens that went out.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether it waits for a voucher.
    pub fn is_waiting(&self) -> bool {
        self.unpaid_since.is_some()
    }

    /// Whether a chunk that takes the answer to so many tokens may go out.
    pub fn may_deliver(&self, earning: &Earning, tokens: u32) -> Result<bool, TillError> {
        earning.till().may_deliver(self.request, tokens)
    }

    /// The same, and if it may not, for how long that is borne.
    pub fn deliver(
        &mut self,
        earning: &Earning,
        tokens: u32,
        now: Moment,
    ) -> Result<Go, TillError> {
        let enough = self.may_deliver(earning, tokens)?;
        Ok(self.paid(enough, now))
    }

    /// Whether the answer may be closed so that all of it is billed: a chunk
    /// larger than a step is billed only once it is paid for.
    pub fn bill(&mut self, earning: &Earning, now: Moment) -> Result<Go, TillError> {
        let enough = earning.till().is_billable(self.request)?;
        Ok(self.paid(enough, now))
    }

    /// A wait that is taken up again has waited before.
    fn paid(&mut self, enough: bool, now: Moment) -> Go {
        if enough {
            self.unpaid_since = None;
            return Go::On;
        }
        let since = *self.unpaid_since.get_or_insert(now);
        let until = since.after(self.pay_within);
        match now < until {
            true => Go::Wait { until },
            false => Go::Unpaid,
        }
    }

    /// A chunk goes out, and the answer has then come to so much.
    pub fn delivered(
        &mut self,
        earning: &mut Earning,
        input_tokens: u32,
        output_tokens: u32,
    ) -> Result<(), TillError> {
        earning.delivered(self.request, input_tokens, output_tokens)?;
        self.tokens = output_tokens;
        Ok(())
    }

    /// Whether its progress is to be written: no voucher did that for a step.
    pub fn lags(&self, journalled: u32) -> bool {
        self.tokens >= journalled.saturating_add(STEP_TOKENS)
    }

    /// How it is closed. Nobody pays for an answer that the provider broke off
    /// before its first word.
    pub fn closing(
        &self,
        outcome: Outcome,
        input_tokens: u32,
        output_tokens: u32,
        now: Timestamp,
    ) -> Closing {
        let nothing = outcome == Outcome::Failed && self.tokens == 0;
        let (input_tokens, output_tokens) = match nothing {
            true => (0, 0),
            false => (input_tokens, output_tokens),
        };
        Closing {
            request: self.request,
            input_tokens,
            output_tokens,
            outcome,
            now,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, FixedBytes};

    use super::*;
    use crate::{Amount, ChannelId, ModelId, Rates, Sold, Upstream};

    const ID: RequestId = RequestId(FixedBytes([1; 16]));
    const SOLD: Sold = Sold {
        model: ModelId(B256::ZERO),
        rates: Rates {
            input_per_million: Amount::new(1_000_000),
            output_per_million: Amount::new(1_000_000),
        },
        upstream: Upstream::OwnEngine,
    };

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    fn sold() -> (Selling, Earning) {
        let mut earning = Earning::new(ChannelId(B256::ZERO));
        let _unwritten = earning.admit(ID, SOLD, 0).unwrap();
        (Selling::new(ID, Duration::from_secs(30)), earning)
    }

    #[test]
    fn a_wait_that_is_taken_up_again_has_waited_before() {
        let (mut selling, mut earning) = sold();
        assert_eq!(selling.deliver(&earning, STEP_TOKENS, at(0)), Ok(Go::On));
        selling.delivered(&mut earning, 0, STEP_TOKENS).unwrap();
        let until = at(31);
        let mut further = |now| selling.deliver(&earning, 2 * STEP_TOKENS, at(now));
        assert_eq!(further(1), Ok(Go::Wait { until }));
        assert_eq!(further(20), Ok(Go::Wait { until }));
        assert_eq!(further(31), Ok(Go::Unpaid));
    }

    #[test]
    fn progress_is_written_once_a_step() {
        let (mut selling, mut earning) = sold();
        selling.delivered(&mut earning, 0, 31).unwrap();
        assert!(!selling.lags(0));
        selling.delivered(&mut earning, 0, 32).unwrap();
        assert!(selling.lags(0));
        assert!(!selling.lags(1));
    }

    #[test]
    fn what_failed_before_its_first_word_costs_nothing() {
        let (mut selling, mut earning) = sold();
        let bill = |selling: &Selling, outcome| {
            let closing = selling.closing(outcome, 9, 0, Timestamp(0));
            closing.input_tokens
        };
        assert_eq!(bill(&selling, Outcome::Failed), 0);
        assert_eq!(bill(&selling, Outcome::Cancelled), 9);
        selling.delivered(&mut earning, 0, 1).unwrap();
        assert_eq!(bill(&selling, Outcome::Failed), 9);
    }
}
