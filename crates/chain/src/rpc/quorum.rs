//! What several endpoints say alike.
//!
//! Pure. What decides money is believed when two say the same of the same
//! block; with one endpoint there is only its word, and with two both must
//! agree. The block is the newest that enough of them have, so who was told
//! of an inclusion by two sees it in the next read.

use std::error::Error;
use std::fmt;

/// Endpoints that must agree, of so many.
pub(crate) fn need(endpoints: usize) -> usize {
    endpoints.min(2)
}

/// The newest block that `need` of these heads have.
pub(crate) fn common_block(heads: impl IntoIterator<Item = u64>, need: usize) -> Option<u64> {
    vouched(heads, need)
}

/// The most that `need` of them say, or exceed.
pub(crate) fn vouched(said: impl IntoIterator<Item = u64>, need: usize) -> Option<u64> {
    let mut said: Vec<u64> = said.into_iter().collect();
    said.sort_unstable_by(|a, b| b.cmp(a));
    said.get(need.checked_sub(1)?).copied()
}

/// What at least `need` say.
pub(crate) fn agreed<T: PartialEq>(said: &[T], need: usize) -> Option<&T> {
    let votes = |value: &T| said.iter().filter(|other| *other == value).count();
    said.iter().find(|value| votes(value) >= need)
}

/// Endpoints contradict each other, or too few answered, on what decides
/// money. Nothing is believed then; asking again later is right.
#[derive(Debug)]
pub struct Disagreement {
    /// What was asked.
    pub what: &'static str,
    /// How many had to agree.
    pub need: usize,
    /// Scheme, host and port of each, and what it said.
    pub said: Vec<(String, String)>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, need, said } = self;
        write!(f, "{need} endpoints must agree on {what}:")?;
        for (place, (server, said)) in said.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            write!(f, "{separator} {server} says {said}")?;
        }
        Ok(())
    }
}

impl Error for Disagreement {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_of_three_decide_both_of_two_and_the_one_there_is() {
        assert_eq!(agreed(&[1, 2, 1], need(3)), Some(&1));
        assert_eq!(agreed(&[1, 2, 3], need(3)), None);
        assert_eq!(agreed(&[1], need(3)), None);
        assert_eq!(agreed(&[1, 2], need(2)), None);
        assert_eq!(agreed(&[1, 1], need(2)), Some(&1));
        assert_eq!(agreed(&[1], need(1)), Some(&1));
        assert_eq!(agreed::<u8>(&[], need(1)), None);
    }

    #[test]
    fn the_block_is_the_newest_that_enough_have() {
        assert_eq!(common_block([100, 103, 7], need(3)), Some(100));
        assert_eq!(common_block([100, 103], need(2)), Some(100));
        assert_eq!(common_block([100], need(1)), Some(100));
        assert_eq!(common_block([100], need(3)), None);
    }

    proptest! {
        #[test]
        fn one_liar_of_three_decides_nothing(truth: u8, lie: u8, place in 0usize..3) {
            let mut said = vec![truth; 3];
            said[place] = lie;
            prop_assert_eq!(agreed(&said, need(3)), Some(&truth));
            let told = said.iter().map(|value| u64::from(*value));
            let most = vouched(told, need(3)).unwrap();
            prop_assert!(most <= u64::from(truth));
        }
    }
}
