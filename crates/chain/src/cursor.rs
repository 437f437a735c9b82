//! Where a reader of logs is, so that it goes on after any outage: no block is
//! passed over, and what a reorganisation takes back is told.
//!
//! Pure. A cursor remembers the hashes of some of the blocks that it has read,
//! and the logs above the oldest of them. The chain is asked for the newest of
//! these blocks that it still has; everything above is read again, and what
//! was told before is compared with what is there now. So a reorganisation of
//! [`REORG_MAX`] blocks is found at whatever moment it happens, also while
//! nobody looked; a deeper one is an error, never a silence.

use std::collections::VecDeque;

use alloy::primitives::B256;
use alloy::rpc::types::Log;
use market::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::journal::JournalError;

/// The deepest reorganisation that is followed.
pub const REORG_MAX: u64 = 64;
/// Below the head such marks are set after a long range, so that there is one
/// under a reorganisation of any depth.
const MARKS_BELOW: [u64; 7] = [64, 32, 16, 8, 4, 2, 1];
/// A cursor is worth saving after so many blocks without news.
const SAVE_EVERY: u64 = 1024;

/// A block that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// The first block that was not read.
    next_block: u64,
    /// Ascending.
    marks: VecDeque<Mark>,
    /// What was told of blocks after the oldest mark, in their order.
    told: Vec<Log>,
}

/// What is new since the cursor's last step.
#[derive(Debug, Clone, PartialEq)]
pub struct News<T> {
    /// It happened.
    pub fresh: Vec<T>,
    /// It was told before, and did not happen after all.
    pub retracted: Vec<T>,
    /// The head of the chain was reached; otherwise go on at once.
    pub at_head: bool,
}

/// The chain has none of the blocks that the cursor remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the chain was reorganised below block {oldest}, deeper than {REORG_MAX} blocks, or is another \
     one; what was read before no longer holds, read again from a block that is final"
)]
pub struct TooDeep {
    /// The oldest that it remembers.
    pub oldest: u64,
}

/// Where cursors outlast the process. Save after the news was acted on: what
/// came after the saved one is told again.
pub trait CursorBook: Send + Sync + 'static {
    /// The one that was saved last.
    fn load(&self) -> BoxFuture<'_, Result<Option<Cursor>, JournalError>>;

    /// Saves one.
    fn save<'a>(&'a self, cursor: &'a Cursor) -> BoxFuture<'a, Result<(), JournalError>>;
}

impl Cursor {
    /// Before this block; that one is read first.
    pub fn new(from_block: u64) -> Self {
        Self {
            next_block: from_block,
            marks: VecDeque::new(),
            told: Vec::new(),
        }
    }

    /// The first block that was not read.
    pub fn next_block(&self) -> u64 {
        self.next_block
    }

    /// Whether it says much that `saved` does not.
    pub fn is_worth_saving(&self, saved: Option<&Self>) -> bool {
        saved.is_none_or(|saved| {
            saved.told != self.told
                || saved.next_block > self.next_block
                || self.next_block - saved.next_block >= SAVE_EVERY
        })
    }

    /// The blocks to look for in the chain, newest first.
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> {
        self.marks.iter().rev().copied()
    }

    /// Goes back to the newest mark that the chain has; gives what was told
    /// beyond it. None: it has none of them.
    pub(crate) fn go_back_to(&mut self, common: Option<Mark>) -> Result<Vec<Log>, TooDeep> {
        let Some(common) = common else {
            return match self.marks.front() {
                Some(oldest) => Err(TooDeep {
                    oldest: oldest.number,
                }),
                None => Ok(Vec::new()),
            };
        };
        self.marks.retain(|mark| mark.number <= common.number);
        self.next_block = common.number + 1;
        let doubted = |log: &Log| log.block_number > Some(common.number);
        let (doubted, kept) = self.told.drain(..).partition(doubted);
        self.told = kept;
        Ok(doubted)
    }

    /// The blocks to be marked once all before `next` are read, ascending. The
    /// last is the newest that was read.
    pub(crate) fn to_mark(&self, next: u64) -> Vec<u64> {
        let Some(last) = next.checked_sub(1).filter(|last| *last >= self.next_block) else {
            return Vec::new();
        };
        let below = MARKS_BELOW.iter().map(|depth| last.saturating_sub(*depth));
        let unread = below.filter(|number| *number >= self.next_block);
        // The block before the first is a mark too, if there is no other.
        let before = self
            .next_block
            .checked_sub(1)
            .filter(|_| self.marks.is_empty());
        let mut numbers: Vec<u64> = before.into_iter().chain(unread).chain([last]).collect();
        numbers.dedup();
        numbers
    }

    /// All before `next` are read: `logs` is what they have, `doubted` what was
    /// told of them before.
    pub(crate) fn advance(
        &mut self,
        next: u64,
        marks: Vec<Mark>,
        logs: Vec<Log>,
        doubted: Vec<Log>,
    ) -> (Vec<Log>, Vec<Log>) {
        let fresh = logs.iter().filter(|log| !doubted.contains(log));
        let fresh = fresh.cloned().collect();
        let gone = doubted.into_iter().filter(|log| !logs.contains(log));
        let retracted = gone.collect();
        self.next_block = self.next_block.max(next);
        self.told.extend(logs);
        self.marks.extend(marks);
        self.prune();
        (fresh, retracted)
    }

    /// Keeps one mark at or below the deepest reorganisation, and what is above it.
    fn prune(&mut self) {
        let deepest = self.next_block.saturating_sub(1 + REORG_MAX);
        while self
            .marks
            .get(1)
            .is_some_and(|second| second.number <= deepest)
        {
            self.marks.pop_front();
        }
        if let Some(oldest) = self.marks.front() {
            self.told
                .retain(|log| log.block_number > Some(oldest.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use proptest::prelude::*;

    use super::*;

    /// A chain of block hashes; some blocks have a log.
    #[derive(Debug, Clone, Default)]
    struct Chain {
        blocks: Vec<(B256, bool)>,
        made: u64,
    }

    impl Chain {
        fn grow(&mut self, logs: &[bool]) {
            for log in logs {
                self.made += 1;
                let hash = B256::left_padding_from(&self.made.to_be_bytes());
                self.blocks.push((hash, *log));
            }
        }

        fn mark(&self, number: u64) -> Option<Mark> {
            let (hash, _) = *self.blocks.get(usize::try_from(number).unwrap())?;
            Some(Mark { number, hash })
        }

        fn logs(&self, from: u64, next: u64) -> Vec<Log> {
            let numbered = (0..).zip(&self.blocks);
            let read = numbered.filter(|(number, (_, log))| *log && (from..next).contains(number));
            read.map(|(number, (hash, _))| Log {
                inner: alloy::primitives::Log::new_unchecked(
                    Address::ZERO,
                    Vec::new(),
                    alloy::primitives::Bytes::new(),
                ),
                block_hash: Some(*hash),
                block_number: Some(number),
                ..Log::default()
            })
            .collect()
        }

        /// One step of the shell, with pages of at most so many blocks.
        fn step(&self, cursor: &mut Cursor, page: u64) -> Result<(Vec<Log>, Vec<Log>), TooDeep> {
            let common = cursor.marks().find(|m| self.mark(m.number) == Some(*m));
            let doubted = cursor.go_back_to(common)?;
            let from = cursor.next_block();
            let next = (from + page).min(self.blocks.len() as u64).max(from);
            let to_mark = cursor.to_mark(next);
            let marks = to_mark.iter().map(|n| self.mark(*n).unwrap()).collect();
            let logs = self.logs(from, next);
            Ok(cursor.advance(next, marks, logs, doubted))
        }
    }

    proptest! {
        #[test]
        fn what_was_told_is_what_the_chain_has_whatever_it_takes_back(
            acts in prop::collection::vec(
                (prop::collection::vec(any::<bool>(), 0..100), 0u64..=REORG_MAX, 1u64..200, any::<bool>()),
                1..20,
            ),
            from in 0u64..3,
        ) {
            let mut chain = Chain::default();
            chain.grow(&[false; 3]);
            let mut cursor = Cursor::new(from);
            let mut believed: Vec<Log> = Vec::new();
            for (grown, depth, page, restart) in acts {
                let height = chain.blocks.len();
                let depth = usize::try_from(depth).unwrap().min(height - 3);
                chain.blocks.truncate(height - depth);
                chain.grow(&vec![false; depth]);
                chain.grow(&grown);
                while {
                    let (fresh, retracted) = chain.step(&mut cursor, page).unwrap();
                    for log in &retracted {
                        prop_assert!(believed.contains(log), "taken back, but never told");
                    }
                    believed.retain(|log| !retracted.contains(log));
                    for log in &fresh {
                        prop_assert!(!believed.contains(log), "told twice");
                    }
                    believed.extend(fresh);
                    cursor.next_block() < chain.blocks.len() as u64
                } {}
                prop_assert_eq!(&believed, &chain.logs(from, u64::MAX));
                prop_assert!(cursor.marks.len() as u64 <= 1 + REORG_MAX);
                if restart {
                    let saved = serde_json::to_string(&cursor).unwrap();
                    cursor = serde_json::from_str(&saved).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_reorganisation_beyond_all_marks_is_an_error() {
        let mut chain = Chain::default();
        chain.grow(&[false; 200]);
        let mut cursor = Cursor::new(0);
        chain.step(&mut cursor, 1000).unwrap();
        chain.blocks.clear();
        chain.grow(&[true; 300]);
        let outcome = chain.step(&mut cursor, 1000);
        assert_eq!(outcome, Err(TooDeep { oldest: 135 }));
    }

    #[test]
    fn a_cursor_is_saved_for_news_or_after_many_blocks() {
        let cursor = Cursor::new(10);
        assert!(cursor.is_worth_saving(None));
        assert!(!Cursor::new(11).is_worth_saving(Some(&cursor)));
        assert!(Cursor::new(10 + SAVE_EVERY).is_worth_saving(Some(&cursor)));
        assert!(Cursor::new(9).is_worth_saving(Some(&cursor)));
    }
}
