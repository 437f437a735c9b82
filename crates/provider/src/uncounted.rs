//! What a request is taken for whose tokens nobody counted: its buyer left, or
//! its server never says, before a count came.
//!
//! Never more than the buyer signed for, and as many as requests of about the
//! same length had, as the offer's servers counted them. Before there was one,
//! as few as any usual text has. Pure.

use std::sync::{Mutex, PoisonError};

/// No usual text has fewer tokens than one for so many bytes of its request.
const BYTES_A_TOKEN_MAX: u128 = 16;

/// What was counted weighs an eighth less with each further count.
const FADES: u64 = 8;

/// Lengths that are alike: those with as many binary digits.
const LENGTHS: usize = 33;

/// What was counted for requests of one length.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    bytes: u64,
    tokens: u64,
}

/// What an offer's servers counted, by the length of the requests.
#[derive(Debug)]
pub(crate) struct Counts(Mutex<[Counted; LENGTHS]>);

impl Default for Counts {
    fn default() -> Self {
        Self(Mutex::new([Counted::default(); LENGTHS]))
    }
}

impl Counts {
    /// A request of so many bytes had so many tokens.
    pub(crate) fn learn(&self, body_bytes: usize, tokens: u32) {
        let bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
        let mut lengths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = lengths.get_mut(length(bytes)) {
            counted.bytes = counted.bytes - counted.bytes / FADES + u64::from(bytes);
            counted.tokens = counted.tokens - counted.tokens / FADES + u64::from(tokens);
        }
    }

    /// What a request of so many bytes is taken for.
    pub(crate) fn of(&self, body_bytes: usize) -> u32 {
        let bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
        let lengths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = lengths.get(length(bytes)).copied().unwrap_or_default();
        let all = u128::from(bytes) * u128::from(counted.tokens);
        let alike = all.checked_div(counted.bytes.into()).unwrap_or_default();
        let least = u128::from(bytes) / BYTES_A_TOKEN_MAX;
        u32::try_from(alike.max(least)).unwrap_or(u32::MAX)
    }
}

fn length(bytes: u32) -> usize {
    usize::try_from(u32::BITS - bytes.leading_zeros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_for_what_others_of_its_length_had() {
        let counts = Counts::default();
        assert_eq!(
            (counts.of(0), counts.of(160), counts.of(1600)),
            (0, 10, 100)
        );
        counts.learn(150, 15);
        counts.learn(2000, 500);
        assert_eq!((counts.of(160), counts.of(1600)), (16, 400));
        // Another length is another matter.
        assert_eq!(counts.of(16_000), 1000);
    }

    #[test]
    fn odd_requests_bring_it_no_lower_than_any_text_has() {
        let counts = Counts::default();
        for _ in 0..100 {
            counts.learn(1000, 0);
        }
        assert_eq!(counts.of(1000), 62);
    }

    #[test]
    fn what_was_counted_lately_weighs_more() {
        let counts = Counts::default();
        counts.learn(1000, 100);
        for _ in 0..40 {
            counts.learn(1000, 300);
        }
        let now = counts.of(1000);
        assert!((295..=300).contains(&now), "{now}");
    }

    #[test]
    fn the_longest_and_the_most_stay_in_range() {
        let counts = Counts::default();
        for _ in 0..100 {
            counts.learn(usize::MAX, u32::MAX);
        }
        assert_eq!(counts.of(usize::MAX), u32::MAX);
    }
}
