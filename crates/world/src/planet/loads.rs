//! What providers tell of their load, as consumers of the node hear it: each
//! asks its guard every five seconds, and what that has is up to a second old.

use std::collections::VecDeque;
use std::time::Duration;

use ::market::{Amount, Load, ModelTag, Moment, Rates, TokenTag};
use routing::Knowledge;

use crate::planet::market::Market;

/// Between two states that are told of.
pub(super) const TOLD_EVERY_US: u64 = 1_000_000;
/// Between two times that a consumer asks.
const HEARD_EVERY_US: u64 = 5 * TOLD_EVERY_US;
/// States kept: as old as one that a consumer acts on can be, and one more.
const KEPT: usize = 7;

/// Who had no free slot at a moment, and how long one more would wait there.
type State = Vec<(usize, Option<u32>)>;

/// What all told in the last seconds.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// When, and what; the newest last.
    states: VecDeque<(u64, State)>,
}

/// What one consumer heard last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// When it asks first.
    phase_us: u64,
    at_us: Option<u64>,
}

impl Heard {
    /// `drawn` by chance: consumers do not ask at the same time.
    pub(super) fn new(drawn: u64) -> Self {
        Self {
            phase_us: drawn % HEARD_EVERY_US,
            at_us: None,
        }
    }
}

impl Told {
    pub(super) fn tell(&mut self, now_us: u64, state: State) {
        if self.states.len() == KEPT {
            self.states.pop_front();
        }
        self.states.push_back((now_us, state));
    }

    /// Brings a consumer to what it has heard by now.
    pub(super) fn hear(&self, heard: &mut Heard, knowledge: &mut Knowledge, now_us: u64) {
        let Some(since) = now_us.checked_sub(heard.phase_us) else {
            return;
        };
        let at_us = heard.phase_us + since / HEARD_EVERY_US * HEARD_EVERY_US;
        if heard.at_us == Some(at_us) {
            return;
        }
        heard.at_us = Some(at_us);
        let known = |(told_us, _): &&(u64, State)| *told_us <= at_us;
        let Some((_, state)) = self.states.iter().rev().find(known) else {
            return;
        };
        // Until it hears the next: who is free again then is not in it.
        let at = Moment::new(Duration::from_micros(at_us));
        for (provider, wait_ms) in state {
            let load = Load {
                model: ModelTag([0; 4]),
                free_slots: 0,
                wait_ms: *wait_ms,
                token: TokenTag([0; 4]),
                rates: Rates {
                    input_per_million: Amount::ZERO,
                    output_per_million: Amount::ZERO,
                },
            };
            let good = Duration::from_micros(HEARD_EVERY_US);
            knowledge.told_load(Market::account(*provider), vec![load], good, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_is_of_the_last_time_that_was_asked() {
        let second = TOLD_EVERY_US;
        let market = Market::new(10, false, &mut world::Random::new(1));
        let full = |knowledge: &Knowledge, provider: usize, now_us: u64| {
            let listing = market.shelf.at(provider).unwrap();
            let load = knowledge.load(listing, Moment::new(Duration::from_micros(now_us)));
            load.is_some_and(|load| load.wait_ms.is_none())
        };
        let (mut told, mut knowledge) = (Told::default(), Knowledge::default());
        let mut heard = Heard::new(2 * second + 1);
        for n in 0..10 {
            told.tell(n * second, vec![(usize::try_from(n).unwrap(), None)]);
            told.hear(&mut heard, &mut knowledge, n * second + second / 2);
            // It asks just after 2 s and 7 s.
            let known = match n {
                0..2 => None,
                2..7 => Some(2),
                _ => Some(7),
            };
            for provider in 0..10 {
                let is_full = full(&knowledge, provider, n * second + second / 2);
                assert_eq!(is_full, known == Some(provider), "{provider} at {n}");
            }
        }
    }
}
