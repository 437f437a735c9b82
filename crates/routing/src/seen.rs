//! What this consumer has seen of one provider.
//!
//! Times and successes are its own measurements. What a provider tells of its
//! own load is kept beside them and counts little, see [`crate::Terms`].

use core::time::Duration;

use market::Moment;

use crate::breaker::Breaker;
use crate::others::Past;
use crate::peak::{Peak, micros};

/// One provider, as seen from here.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    running: u32,
    wait: Option<Peak>,
    token: Option<Peak>,
    trip_us: Option<u64>,
    good: u32,
    bad: u32,
    breaker: Breaker,
    busy_until: Option<Moment>,
    /// In a row.
    refusals: u32,
    told: Option<(Duration, Moment)>,
    /// Times to the first token in milliseconds, latest last.
    firsts_ms: Vec<u32>,
    pub(crate) past: Past,
}

impl Seen {
    /// Times to the first token that are kept.
    const FIRSTS_KEPT: usize = 32;
    /// Good and bad together; beyond it both are halved, so that it can better itself.
    const COUNTED_MAX: u32 = 64;
    /// The longest that a provider is believed to be busy.
    const BUSY_MAX: Duration = Duration::from_secs(60);
    /// What a provider tells of its load is old after that.
    const TOLD_FOR: Duration = Duration::from_secs(30);
    /// Fewer answers than this: a newcomer.
    const NEW_BELOW: u32 = 3;
    /// Where nothing was seen: two requests are supposed of which 95 % went well.
    pub(crate) const UNKNOWN_PERMILLE: u32 = 604;

    /// Requests that it is answering for us.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Whether too little was seen of it.
    pub fn is_new(&self) -> bool {
        self.good.saturating_add(self.bad) < Self::NEW_BELOW
    }

    /// Its breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// It said it is busy until then.
    pub fn busy_until(&self, now: Moment) -> Option<Moment> {
        self.busy_until.filter(|until| now < *until)
    }

    /// From the request to the first token, without the way, in microseconds.
    pub fn wait_us(&self, now: Moment) -> Option<u64> {
        Some(self.wait?.value_us(now))
    }

    /// For each further token, in microseconds.
    pub fn token_us(&self, now: Moment) -> Option<u64> {
        Some(self.token?.value_us(now))
    }

    /// There and back, in microseconds: the shortest that was measured.
    pub fn trip_us(&self) -> Option<u64> {
        self.trip_us
    }

    /// The median time to the first token lately.
    pub fn first_median_ms(&self) -> Option<u64> {
        nearest_rank(&self.firsts_ms, 50).map(u64::from)
    }

    pub(crate) fn firsts_ms(&self) -> &[u32] {
        &self.firsts_ms
    }

    pub(crate) fn told_us(&self, now: Moment) -> u64 {
        match self.told {
            Some((wait, at)) if now.since(at) <= Self::TOLD_FOR => micros(wait),
            _ => 0,
        }
    }

    /// The lower end of what its share of good answers may be (Wilson's
    /// interval, one standard deviation), in thousandths.
    pub fn quality_permille(&self) -> u32 {
        let good = f64::from(self.good) + 1.9;
        let all = f64::from(self.good) + f64::from(self.bad) + 2.0;
        let share = good / all;
        let spread = (share * (1.0 - share) / all + 0.25 / (all * all)).sqrt();
        let low = (share + 0.5 / all - spread) / (1.0 + 1.0 / all);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=1000 in the line"
        )]
        let permille = (low * 1000.0).clamp(0.0, 1000.0) as u32;
        permille
    }

    /// A request goes out to it.
    pub(crate) fn begun(&mut self) {
        self.running = self.running.saturating_add(1);
        self.breaker.begun();
    }

    /// A request to it is over, however it ended.
    pub(crate) fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
        self.breaker.left();
    }

    /// It took the request so long after it was sent.
    pub(crate) fn taken(&mut self, after: Duration) {
        let us = micros(after);
        // A shorter way counts at once; a longer one may have been a queue.
        let longer = |known: u64| known.saturating_add(us.saturating_sub(known) / 16);
        self.trip_us = Some(self.trip_us.map_or(us, |known| us.min(longer(known))));
    }

    /// Its first token came so long after the request was sent. What is left
    /// of it without the way.
    pub(crate) fn first(&mut self, after: Duration, now: Moment) -> Duration {
        let trip = Duration::from_micros(self.trip_us.unwrap_or(0));
        let wait = after.saturating_sub(trip);
        add(&mut self.wait, wait, now);
        if self.firsts_ms.len() == Self::FIRSTS_KEPT {
            self.firsts_ms.remove(0);
        }
        self.firsts_ms
            .push(u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
        self.busy_until = None;
        self.refusals = 0;
        self.breaker.succeeded();
        wait
    }

    /// So many further tokens came within this time.
    pub(crate) fn spoke(&mut self, tokens: u32, within: Duration, now: Moment) -> Option<Duration> {
        let each = within.checked_div(tokens)?;
        add(&mut self.token, each, now);
        Some(each)
    }

    /// An answer came to its end.
    pub(crate) fn answered(&mut self) {
        self.good += 1;
        self.level();
    }

    /// It failed.
    pub(crate) fn failed(&mut self, now: Moment) {
        self.bad += 1;
        self.level();
        self.breaker.failed(now);
    }

    /// It refused because it is busy: left alone for as long as it says, twice
    /// as long for each refusal in a row. To be answered by it one would have
    /// had to wait so long: that counts as its wait.
    pub(crate) fn busy(&mut self, wait: Duration, usual_us: u64, now: Moment) {
        self.refusals = self.refusals.saturating_add(1);
        let times = 1_u32.checked_shl(self.refusals - 1).unwrap_or(u32::MAX);
        let long = wait.saturating_mul(times).min(Self::BUSY_MAX);
        self.busy_until = Some(now.after(long));
        let before = self.wait_us(now).unwrap_or(usual_us);
        let sample = Duration::from_micros(before).saturating_add(wait.min(Self::BUSY_MAX));
        add(&mut self.wait, sample.min(Self::BUSY_MAX), now);
        self.breaker.left();
    }

    /// It tells that a request would wait so long.
    pub(crate) fn told(&mut self, wait: Duration, now: Moment) {
        self.told = Some((wait, now));
    }

    fn level(&mut self) {
        if self.good.saturating_add(self.bad) > Self::COUNTED_MAX {
            self.good /= 2;
            self.bad /= 2;
        }
    }
}

pub(crate) fn add(peak: &mut Option<Peak>, sample: Duration, now: Moment) {
    match peak {
        Some(peak) => peak.add(sample, now),
        None => *peak = Some(Peak::new(sample, now)),
    }
}

/// The value that so many percent do not pass.
pub(crate) fn nearest_rank(values: &[u32], percent: usize) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::new(Duration::from_secs(5));

    #[test]
    fn what_is_not_known_counts_less_than_what_is_good_and_more_than_what_is_bad() {
        let unknown = Seen::default();
        assert_eq!(unknown.quality_permille(), Seen::UNKNOWN_PERMILLE);
        let (mut good, mut bad) = (Seen::default(), Seen::default());
        for _ in 0..30 {
            good.answered();
            bad.answered();
            bad.failed(NOW);
        }
        assert!(good.quality_permille() > 940, "{}", good.quality_permille());
        assert!((400..560).contains(&bad.quality_permille()));
        assert!(unknown.is_new() && !good.is_new());
    }

    #[test]
    fn who_was_bad_can_better_itself() {
        let mut seen = Seen::default();
        for _ in 0..1000 {
            seen.failed(NOW);
        }
        for _ in 0..200 {
            seen.answered();
        }
        assert!(seen.quality_permille() > 900, "{}", seen.quality_permille());
    }

    #[test]
    fn the_way_is_the_shortest_measured_and_no_part_of_the_wait() {
        let ms = Duration::from_millis;
        let mut seen = Seen::default();
        for after in [80, 40, 200] {
            seen.taken(ms(after));
        }
        assert_eq!(seen.trip_us(), Some(50_000));
        assert_eq!(seen.first(ms(150), NOW), ms(100));
        assert_eq!(seen.wait_us(NOW), Some(100_000));
        assert_eq!(seen.spoke(10, ms(200), NOW), Some(ms(20)));
        assert_eq!(seen.spoke(0, ms(200), NOW), None);
        assert_eq!(seen.first_median_ms(), Some(150));
    }

    #[test]
    fn who_refuses_is_left_alone_for_longer_each_time_and_counts_as_slow() {
        let s = Duration::from_secs;
        let mut seen = Seen::default();
        seen.first(s(1), NOW);
        for wait in [1, 2, 4] {
            seen.busy(s(1), 0, NOW);
            assert_eq!(seen.busy_until(NOW), Some(NOW.after(s(wait))));
        }
        assert_eq!(seen.wait_us(NOW), Some(4_000_000));
        for _ in 0..100 {
            seen.busy(s(1), 0, NOW);
        }
        assert_eq!(seen.busy_until(NOW), Some(NOW.after(s(60))));
        assert_eq!(seen.wait_us(NOW), Some(60_000_000));
        seen.first(s(1), NOW);
        assert_eq!(seen.busy_until(NOW), None);
        seen.busy(s(1), 0, NOW);
        assert_eq!(seen.busy_until(NOW), Some(NOW.after(s(1))));
    }

    #[test]
    fn what_it_tells_of_itself_grows_old() {
        let mut seen = Seen::default();
        seen.told(Duration::from_secs(1), NOW);
        assert_eq!(seen.told_us(NOW), 1_000_000);
        assert_eq!(seen.told_us(NOW.after(Duration::from_secs(31))), 0);
    }
}
