//! Which time a block gets.
//!
//! The clock is an argument. The cheats `evm_increaseTime` and
//! `evm_setNextBlockTimestamp` move an offset to it; time never runs backwards
//! from one block to the next.

use serde::{Deserialize, Serialize};

/// The distance between the caller's clock and the chain's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timekeeper {
    /// Added to the clock, in seconds.
    offset: i64,
    /// The time that the next block must have, if one was demanded.
    next: Option<u64>,
}

impl Timekeeper {
    /// The chain's time.
    pub(crate) fn now(&self, clock: u64) -> u64 {
        clock.saturating_add_signed(self.offset)
    }

    /// The time of the block that would follow `parent`.
    pub(crate) fn next_block(&self, parent: u64, clock: u64) -> u64 {
        self.next
            .unwrap_or_else(|| self.now(clock))
            .max(parent.saturating_add(1))
    }

    /// Time goes on from the block that was made at `timestamp`.
    pub(crate) fn after_block(self, timestamp: u64, clock: u64) -> Self {
        match self.next {
            None => self,
            Some(_) => Self {
                offset: difference(timestamp, clock),
                next: None,
            },
        }
    }

    /// Moves the chain's time forward by `seconds`.
    pub(crate) fn advanced(self, seconds: u64) -> Self {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Self {
            offset: self.offset.saturating_add(seconds),
            ..self
        }
    }

    /// Demands a time for the next block.
    pub(crate) fn demanding(self, timestamp: u64) -> Self {
        Self {
            next: Some(timestamp),
            ..self
        }
    }

    /// The offset to the caller's clock, in seconds.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }
}

fn difference(to: u64, from: u64) -> i64 {
    let difference = i128::from(to) - i128::from(from);
    i64::try_from(difference).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_later_than_its_parent_even_when_the_clock_stands_still() {
        let time = Timekeeper::default();
        assert_eq!(time.next_block(100, 100), 101);
        assert_eq!(time.next_block(100, 50), 101);
        assert_eq!(time.next_block(100, 200), 200);
    }

    #[test]
    fn time_goes_on_from_a_demanded_timestamp() {
        let time = Timekeeper::default().demanding(1_000);
        assert_eq!(time.next_block(100, 200), 1_000);
        let after = time.after_block(1_000, 200);
        assert_eq!(after.next_block(1_000, 205), 1_005);
    }

    #[test]
    fn advancing_adds_up() {
        let time = Timekeeper::default().advanced(10).advanced(5);
        assert_eq!(time.now(100), 115);
        assert_eq!(time.advanced(u64::MAX).offset(), i64::MAX);
    }
}
