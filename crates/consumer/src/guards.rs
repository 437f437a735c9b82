//! Which relays stand between this consumer and the market: few, and for
//! weeks, so that as few as possible ever see its address.
//!
//! Picking anew for every request would sooner or later pick a bad one; a
//! pinned guard is bad or it is not. Pure: what was measured and a source of
//! chance come in, names come out. [`crate::paths`] measures and remembers.

use std::time::Duration;

use market::{Address, Timestamp};
use serde::{Deserialize, Serialize};

/// Guards in use: one carries, the other confirms what the first one tells,
/// and carries when the first is gone.
pub(crate) const GUARDS: usize = 2;

/// Guards remembered, those that cannot be reached now included.
pub(crate) const PINNED_MAX: usize = 6;

/// A guard stays for so long, and up to half as long again.
const KEEP_S: u64 = 30 * 24 * 3600;

/// A relay this much slower than the fastest is as good: the nearest one
/// alone would tell where we are.
const AS_GOOD: Duration = Duration::from_millis(20);

/// A guard as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    /// Whose relay.
    pub(crate) account: Address,
    /// Kept until then.
    pub(crate) until: Timestamp,
}

impl Pin {
    /// `chance` is evenly spread over all values.
    pub(crate) fn new(account: Address, now: Timestamp, chance: u64) -> Self {
        Self {
            account,
            until: now.after_s(KEEP_S + chance % (KEEP_S / 2)),
        }
    }
}

/// What is left of the pins: those that are not over, and still registered.
pub(crate) fn standing(pins: &[Pin], relays: &[Address], now: Timestamp) -> Vec<Pin> {
    let stands = |pin: &&Pin| now < pin.until && relays.contains(&pin.account);
    pins.iter().filter(stands).copied().collect()
}

/// Picks up to `count` of the relays that answered, by chance among those that
/// are about as fast as the fastest; slower ones only if there are too few.
pub(crate) fn pick(
    answered: &[(Address, Duration)],
    count: usize,
    mut chance: impl FnMut() -> u64,
) -> Vec<Address> {
    let fastest = answered.iter().map(|(_, rtt)| *rtt).min();
    let limit = fastest.unwrap_or_default() * 3 / 2 + AS_GOOD;
    let mut drawn: Vec<_> = answered
        .iter()
        .map(|&(account, rtt)| (rtt > limit, chance(), account))
        .collect();
    drawn.sort_unstable();
    drawn.truncate(count);
    drawn.into_iter().map(|(_, _, account)| account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn relay(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    #[test]
    fn a_guard_stays_for_weeks_and_goes_when_it_is_over_or_not_registered() {
        let pins = [0, u64::MAX].map(|chance| Pin::new(relay(1), NOW, chance));
        let weeks = |n: u64| NOW.after_s(n * 7 * 24 * 3600);
        for pin in pins {
            assert_eq!(standing(&[pin], &[relay(1)], weeks(4)), [pin]);
            assert_eq!(standing(&[pin], &[relay(1)], weeks(7)), []);
            assert_eq!(standing(&[pin], &[relay(2)], NOW), []);
        }
    }

    #[test]
    fn the_fast_ones_are_drawn_by_chance_and_the_slow_ones_come_last() {
        let ms = Duration::from_millis;
        let answered = [(relay(1), ms(300)), (relay(2), ms(10)), (relay(3), ms(30))];
        let picked = |first: u64| {
            let mut chance = first;
            pick(&answered, 2, || {
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                chance
            })
        };
        let all: Vec<_> = (1..50).map(picked).collect();
        assert!(all.iter().all(|picked| !picked.contains(&relay(1))));
        for first in [2, 3] {
            assert!(all.iter().any(|picked| picked[0] == relay(first)));
        }
        assert_eq!(pick(&answered, 3, || 7).last(), Some(&relay(1)));
        assert!(pick(&[], 2, || 7).is_empty());
    }
}
