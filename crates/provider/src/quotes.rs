//! The prices of one offer: the one that stands in the descriptor, and those
//! before it that somebody may still hold.
//!
//! A quote that was given is honoured until the expiry it was given with,
//! whatever the price is now. Pure.

use std::collections::VecDeque;

use market::{Address, Quote, Rates, Timestamp};

/// Different rates that are honoured at a time. A price that changes more
/// often than this within one validity cuts the oldest quote short.
const KEPT: usize = 8;

/// A request is on its way for a moment, and clocks differ.
const GRACE_S: u64 = 30;

/// The prices of one offer.
#[derive(Debug, Clone)]
pub(crate) struct Quotes {
    token: Address,
    validity_s: u64,
    /// The newest last; never empty.
    given: VecDeque<Quote>,
}

impl Quotes {
    pub(crate) fn new(token: Address, rates: Rates, validity_s: u64, now: Timestamp) -> Self {
        let mut quotes = Self {
            token,
            validity_s,
            given: VecDeque::new(),
        };
        quotes.give(rates, now);
        quotes
    }

    /// The price now.
    pub(crate) fn current(&self) -> Quote {
        *self
            .given
            .back()
            .expect("one quote is given at the start, and the newest is never dropped")
    }

    /// A quote with these rates, good from now on; the last one stays good as promised.
    pub(crate) fn give(&mut self, rates: Rates, now: Timestamp) {
        self.given.retain(|quote| quote.rates != rates);
        self.given.push_back(Quote {
            token: self.token,
            rates,
            expires_at: now.after_s(self.validity_s),
        });
        while self.given.len() > KEPT {
            self.given.pop_front();
        }
    }

    /// The same price for a while longer.
    pub(crate) fn renew(&mut self, now: Timestamp) {
        self.give(self.current().rates, now);
    }

    /// Whether half of the current quote's time is over.
    pub(crate) fn ages(&self, now: Timestamp) -> bool {
        self.current().expires_at.since_s(now) <= self.validity_s / 2
    }

    /// Whether somebody may hold a quote with these rates.
    pub(crate) fn honours(&self, rates: &Rates, now: Timestamp) -> bool {
        let good = |quote: &Quote| quote.rates == *rates && now < quote.expires_at.after_s(GRACE_S);
        self.given.iter().any(good)
    }
}

#[cfg(test)]
mod tests {
    use market::Amount;

    use super::*;

    fn rates(n: u128) -> Rates {
        Rates {
            input_per_million: Amount::new(n),
            output_per_million: Amount::new(n),
        }
    }

    fn quotes() -> Quotes {
        Quotes::new(Address::ZERO, rates(1), 100, Timestamp(0))
    }

    #[test]
    fn a_quote_is_honoured_until_its_expiry_whatever_the_price_is_now() {
        let mut quotes = quotes();
        quotes.give(rates(2), Timestamp(50));
        assert_eq!(quotes.current().rates, rates(2));
        assert!(quotes.honours(&rates(1), Timestamp(99)));
        assert!(!quotes.honours(&rates(1), Timestamp(100 + GRACE_S)));
        assert!(quotes.honours(&rates(2), Timestamp(100 + GRACE_S)));
        assert!(!quotes.honours(&rates(3), Timestamp(50)));
    }

    #[test]
    fn a_renewed_quote_is_good_for_longer() {
        let mut quotes = quotes();
        assert!(!quotes.ages(Timestamp(49)));
        assert!(quotes.ages(Timestamp(50)));
        quotes.renew(Timestamp(50));
        assert_eq!(quotes.current().expires_at, Timestamp(150));
    }

    #[test]
    fn only_the_last_few_are_kept() {
        let mut quotes = quotes();
        for n in 2..=9 {
            quotes.give(rates(n), Timestamp(1));
        }
        assert!(!quotes.honours(&rates(1), Timestamp(1)));
        assert!(quotes.honours(&rates(2), Timestamp(1)));
    }
}
