//! A moving average that believes bad news at once and good news slowly.
//!
//! A sample above the value replaces it; below it the value sinks towards the
//! sample. Between samples the peak sinks towards what is usual, so that one
//! bad moment does not keep a provider away for ever. The share of an old
//! value after `t` is `T / (T + t)` with `T` = [`Peak::DECAY`]: unlike an
//! exponential the same on every machine.

use core::time::Duration;

use market::Moment;

/// The average of a time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    peak_us: u64,
    usual_us: u64,
    at: Moment,
}

impl Peak {
    /// After this time half of a peak is forgotten.
    pub const DECAY: Duration = Duration::from_secs(10);
    /// One sample's share of what is usual.
    const SHARE: u64 = 8;

    /// The first sample.
    pub fn new(sample: Duration, now: Moment) -> Self {
        let us = micros(sample);
        Self {
            peak_us: us,
            usual_us: us,
            at: now,
        }
    }

    /// The value now, in microseconds.
    pub fn value_us(&self, now: Moment) -> u64 {
        let above = self.peak_us.saturating_sub(self.usual_us);
        self.usual_us
            .min(self.peak_us)
            .saturating_add(left(above, now.since(self.at)))
    }

    /// What is usual, whatever the last ones were, in microseconds.
    pub fn usual_us(&self) -> u64 {
        self.usual_us
    }

    /// Another sample.
    pub fn add(&mut self, sample: Duration, now: Moment) {
        let us = micros(sample);
        let value = self.value_us(now);
        self.peak_us = match us >= value {
            true => us,
            false => us.saturating_add(left(value - us, now.since(self.at))),
        };
        let moved = self.usual_us.abs_diff(us) / Self::SHARE;
        self.usual_us = match us >= self.usual_us {
            true => self.usual_us.saturating_add(moved),
            false => self.usual_us - moved,
        };
        self.at = now;
    }
}

/// What is left of `value` after `idle`.
fn left(value: u64, idle: Duration) -> u64 {
    let decay = Peak::DECAY.as_millis();
    let kept = u128::from(value) * decay / (decay + idle.as_millis());
    u64::try_from(kept).unwrap_or(u64::MAX)
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment::new(Duration::from_secs(s))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bad_news_count_at_once_and_fade() {
        let mut peak = Peak::new(ms(100), at(0));
        peak.add(ms(4100), at(1));
        assert_eq!(peak.value_us(at(1)), 4_100_000);
        // What is usual rose by an eighth of the difference.
        assert_eq!(peak.value_us(at(11)), 600_000 + 1_750_000);
        assert!(peak.value_us(at(1000)) < 640_000);
    }

    #[test]
    fn good_news_count_slowly() {
        let mut peak = Peak::new(ms(1000), at(0));
        peak.add(ms(100), at(0));
        assert_eq!(peak.value_us(at(0)), 1_000_000);
        peak.add(ms(100), at(10));
        assert!((450_000..=1_000_000).contains(&peak.value_us(at(10))));
        for s in 11..60 {
            peak.add(ms(100), at(s));
        }
        assert!(peak.value_us(at(60)) < 130_000);
    }

    #[test]
    fn absurd_times_are_no_panic() {
        let mut peak = Peak::new(Duration::MAX, Moment::new(Duration::MAX));
        peak.add(Duration::ZERO, at(0));
        peak.add(Duration::MAX, Moment::new(Duration::MAX));
        assert_eq!(peak.value_us(at(0)), u64::MAX);
    }
}
