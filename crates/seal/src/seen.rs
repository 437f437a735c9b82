//! A memory for things that may happen once, of a bounded size.
//!
//! It forgets only what can no longer happen, and only when it needs the
//! room; with no room left it refuses what is new.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use market::Timestamp;

pub(crate) struct Seen<T> {
    known: HashSet<T>,
    /// In the order of their ends.
    order: VecDeque<(Timestamp, T)>,
    limit: usize,
    /// A clock that is set back must not bring anything back.
    latest: Timestamp,
}

impl<T: Copy + Eq + Hash> Seen<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            limit,
            latest: Timestamp(0),
        }
    }

    pub(crate) fn contains(&self, item: &T) -> bool {
        self.known.contains(item)
    }

    /// Whether it is new and is remembered from now on, for `seconds` at least.
    pub(crate) fn insert(&mut self, item: T, seconds: u64, now: Timestamp) -> bool {
        self.latest = self.latest.max(now);
        if self.known.len() >= self.limit {
            self.forget();
        }
        if self.known.len() >= self.limit || !self.known.insert(item) {
            return false;
        }
        self.order.push_back((self.latest.after_s(seconds), item));
        true
    }

    fn forget(&mut self) {
        while let Some((end, item)) = self.order.front() {
            if *end >= self.latest {
                break;
            }
            self.known.remove(item);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these, at these times, are taken as new; 10 s each, three at most.
    fn taken(items: &[(u8, u64)]) -> Vec<bool> {
        let mut seen = Seen::new(3);
        items
            .iter()
            .map(|(item, at)| seen.insert(*item, 10, Timestamp(*at)))
            .collect()
    }

    #[test]
    fn nothing_is_new_twice() {
        assert_eq!(
            taken(&[(1, 0), (1, 0), (2, 0), (1, 99)]),
            [true, false, true, false]
        );
    }

    #[test]
    fn with_no_room_nothing_is_new_until_something_is_over() {
        let full = [(1, 0), (2, 5), (3, 5)];
        assert_eq!(taken(&[&full[..], &[(4, 10)]].concat())[3..], [false]);
        assert_eq!(
            taken(&[&full[..], &[(4, 11), (5, 11)]].concat())[3..],
            [true, false]
        );
        assert_eq!(
            taken(&[&full[..], &[(4, 16), (5, 16), (6, 16)]].concat())[3..],
            [true; 3]
        );
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_new() {
        let items = [(1, 50), (2, 0), (3, 0), (4, 11), (1, 11)];
        assert_eq!(taken(&items)[3..], [false, false]);
    }
}
