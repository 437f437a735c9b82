//! A circuit breaker: who fails again and again is left alone for longer each
//! time, then tried with one request.

use core::time::Duration;

use market::Moment;

/// The breaker of one provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    open_until: Option<Moment>,
    probing: bool,
}

impl Breaker {
    /// The longest that it stays open.
    pub const OPEN_MAX: Duration = Duration::from_secs(60);

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when nothing may go through; none if something may.
    pub fn shut_until(&self, now: Moment) -> Option<Moment> {
        match self.open_until {
            Some(until) if now < until || self.probing => Some(until),
            _ => None,
        }
    }

    /// A request goes out. While it is half open this is the probe, and
    /// nothing else may go until that has ended.
    pub fn begun(&mut self) {
        self.probing = self.open_until.is_some();
    }

    /// It answered: closed.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed, the `k`th time in a row: open for 2^k seconds.
    pub fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        let wait_s = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let wait = Duration::from_secs(wait_s).min(Self::OPEN_MAX);
        self.open_until = Some(now.after(wait));
        self.probing = false;
    }

    /// The request ended without telling anything of the provider.
    pub fn left(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment::new(Duration::from_secs(s))
    }

    #[test]
    fn it_opens_for_twice_as_long_each_time_up_to_a_minute() {
        let mut breaker = Breaker::default();
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            breaker.failed(at(100));
            assert_eq!(breaker.shut_until(at(100)), Some(at(100 + wait)));
            assert_eq!(breaker.shut_until(at(100 + wait)), None);
        }
        for _ in 0..100 {
            breaker.failed(at(100));
        }
        assert_eq!(breaker.shut_until(at(100)), Some(at(160)));
    }

    #[test]
    fn half_open_it_lets_one_request_through_at_a_time() {
        let mut breaker = Breaker::default();
        breaker.begun();
        assert_eq!(breaker.shut_until(at(0)), None);
        breaker.failed(at(0));
        breaker.begun();
        assert!(breaker.shut_until(at(5)).is_some());
        breaker.left();
        assert_eq!(breaker.shut_until(at(5)), None);
        breaker.begun();
        breaker.succeeded();
        assert_eq!(breaker.shut_until(at(5)), None);
        assert_eq!(breaker.failures(), 0);
    }
}
