//! Which endpoints to ask.
//!
//! Pure. An endpoint that fails is left alone for a while, longer each time;
//! one that says when to come back is taken at its word; one on another chain,
//! or far behind the best, is not asked at all.

use std::time::Duration;

/// The first rest after a failure; it doubles with each.
const REST_MIN: Duration = Duration::from_millis(500);
/// Up to this.
const REST_MAX: Duration = Duration::from_secs(60);
/// A server that asks for less work and does not say until when.
const LIMITED_REST: Duration = Duration::from_secs(1);
/// One that asks for more than this is asked again all the same.
const LIMITED_REST_MAX: Duration = Duration::from_secs(300);
/// How long one on another chain is left alone.
const WRONG_CHAIN_REST: Duration = Duration::from_secs(60);
/// So many blocks behind the best is stale.
const STALE_BLOCKS: u64 = 64;
/// So many seconds too.
const STALE_S: u64 = 60;

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// An answer.
    Answer,
    /// None, or not what it should be.
    Failure,
    /// It wants to be asked less.
    Limited {
        /// When it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It is on this chain.
    Chain {
        /// The right one.
        right: bool,
    },
}

/// A head, as an endpoint tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Which block.
    pub(crate) number: u64,
    /// Unix seconds.
    pub(crate) timestamp: u64,
}

#[derive(Debug, Clone, Default)]
struct State {
    failures: u32,
    rests_until: Option<Duration>,
    /// It rests because it asked for it.
    limited: bool,
    right_chain: bool,
    wrong_chain: bool,
    stale: bool,
}

/// All endpoints, in the order in which the user named them.
#[derive(Debug, Clone)]
pub(crate) struct Health(Vec<State>);

impl Health {
    /// Nothing is known yet.
    pub(crate) fn new(endpoints: usize) -> Self {
        Self(vec![State::default(); endpoints])
    }

    /// Learns from one call.
    pub(crate) fn note(&mut self, endpoint: usize, came: Came, now: Duration) {
        let Some(state) = self.0.get_mut(endpoint) else {
            return;
        };
        match came {
            Came::Answer => {
                state.failures = 0;
                state.limited = false;
                state.rests_until = None;
            }
            Came::Failure => {
                let rest = REST_MIN.saturating_mul(1 << state.failures.min(16));
                state.failures += 1;
                state.rests_until = Some(now + rest.min(REST_MAX));
                // Behind the same address may be another server now.
                state.right_chain = false;
            }
            Came::Limited { retry_after } => {
                let rest = retry_after.unwrap_or(LIMITED_REST).min(LIMITED_REST_MAX);
                state.limited = true;
                state.rests_until = Some(now + rest);
            }
            Came::Chain { right } => {
                state.right_chain = right;
                state.wrong_chain = !right;
                if !right {
                    state.rests_until = Some(now + WRONG_CHAIN_REST);
                }
            }
        }
    }

    /// Compares heads that were told at the same time: with the best, or where
    /// there are three, with the second, so that one alone cannot make all
    /// others look late.
    pub(crate) fn heads(&mut self, heads: &[(usize, Seen)]) {
        let mut by_number: Vec<Seen> = heads.iter().map(|(_, seen)| *seen).collect();
        by_number.sort_by_key(|seen| core::cmp::Reverse(seen.number));
        let best = by_number.get(1).filter(|_| by_number.len() >= 3);
        let Some(best) = best.or(by_number.first()).copied() else {
            return;
        };
        for (endpoint, seen) in heads {
            if let Some(state) = self.0.get_mut(*endpoint) {
                let late = best.timestamp.saturating_sub(seen.timestamp) > STALE_S;
                let behind = best.number.saturating_sub(seen.number) > STALE_BLOCKS;
                state.stale = behind || (late && best.number > seen.number);
            }
        }
    }

    /// Whether its chain was asked for since it last failed.
    pub(crate) fn is_checked(&self, endpoint: usize) -> bool {
        self.0.get(endpoint).is_some_and(|state| state.right_chain)
    }

    /// Those that may be asked, best first: what is well; if nothing is, what
    /// failed or is behind. Never one that wants to rest, or is on another chain.
    pub(crate) fn order(&self, now: Duration) -> Vec<usize> {
        let rests = |state: &State| state.rests_until.is_some_and(|until| until > now);
        let well = |state: &State| !rests(state) && !state.stale;
        let hopeless = |state: &State| rests(state) && (state.limited || state.wrong_chain);
        let all = || self.0.iter().enumerate();
        let mut order: Vec<usize> = all().filter(|(_, s)| well(s)).map(|(n, _)| n).collect();
        if order.is_empty() {
            let mut rest: Vec<_> = all().filter(|(_, state)| !hopeless(state)).collect();
            rest.sort_by_key(|(_, state)| (state.stale, state.rests_until));
            order.extend(rest.into_iter().map(|(n, _)| n));
        }
        order
    }

    /// When the first of those that asked for a rest may be asked again.
    pub(crate) fn rested_at(&self) -> Option<Duration> {
        let limited = self.0.iter().filter(|state| state.limited);
        limited.filter_map(|state| state.rests_until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn seen(number: u64, timestamp: u64) -> Seen {
        Seen { number, timestamp }
    }

    #[test]
    fn who_fails_rests_longer_each_time_and_is_asked_if_nobody_else_is_left() {
        let mut health = Health::new(2);
        assert_eq!(health.order(Duration::ZERO), [0, 1]);
        health.note(0, Came::Failure, Duration::ZERO);
        assert_eq!(health.order(Duration::ZERO), [1]);
        assert_eq!(health.order(S), [0, 1]);
        for _ in 0..20 {
            health.note(0, Came::Failure, S);
        }
        assert_eq!(health.order(60 * S), [1]);
        assert_eq!(health.order(61 * S), [0, 1]);
        health.note(1, Came::Failure, 2 * S);
        assert_eq!(health.order(2 * S), [1, 0], "soonest first");
        health.note(0, Came::Answer, 2 * S);
        assert_eq!(health.order(2 * S), [0]);
    }

    #[test]
    fn who_asks_for_a_rest_has_it_even_if_nobody_else_is_left() {
        let mut health = Health::new(1);
        let retry_after = Some(7 * S);
        health.note(0, Came::Limited { retry_after }, Duration::ZERO);
        assert_eq!(health.order(6 * S), [0; 0]);
        assert_eq!(health.rested_at(), Some(7 * S));
        assert_eq!(health.order(7 * S), [0]);
        let retry_after = Some(86_400 * S);
        health.note(0, Came::Limited { retry_after }, 7 * S);
        assert_eq!(health.order(307 * S), [0]);
    }

    #[test]
    fn who_is_on_another_chain_or_far_behind_is_not_asked() {
        let mut health = Health::new(3);
        health.note(0, Came::Chain { right: false }, Duration::ZERO);
        health.heads(&[(1, seen(1000, 5000)), (2, seen(935, 4995))]);
        assert_eq!(health.order(Duration::ZERO), [1]);
        health.heads(&[(1, seen(1000, 5000)), (2, seen(999, 4939))]);
        assert_eq!(health.order(Duration::ZERO), [1]);
        health.heads(&[(1, seen(1000, 5000)), (2, seen(990, 4990))]);
        assert_eq!(health.order(Duration::ZERO), [1, 2]);
        health.heads(&[
            (0, seen(9_000_000, 9000)),
            (1, seen(1000, 5000)),
            (2, seen(990, 4990)),
        ]);
        assert_eq!(
            health.order(Duration::ZERO),
            [1, 2],
            "one alone proves nothing"
        );
        health.note(1, Came::Failure, Duration::ZERO);
        health.note(2, Came::Failure, Duration::ZERO);
        assert_eq!(
            health.order(Duration::ZERO),
            [1, 2],
            "never the wrong chain"
        );
    }

    #[test]
    fn a_failure_makes_the_chain_be_asked_for_again() {
        let mut health = Health::new(1);
        assert!(!health.is_checked(0));
        health.note(0, Came::Chain { right: true }, Duration::ZERO);
        assert!(health.is_checked(0));
        health.note(0, Came::Failure, Duration::ZERO);
        assert!(!health.is_checked(0));
    }
}
