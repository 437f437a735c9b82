//! Logs of a contract, read in ranges that a server is willing to answer.
//!
//! Servers cap a range by blocks, by logs, by bytes or by time, each at its
//! own number and in its own words. So nothing is assumed: a range that is not
//! answered is halved, down to one block, and no block is ever passed over. A
//! reading is bounded; who wants more goes on at the block that it names.

use alloy::primitives::{Address, B256, U64};
use alloy::rpc::types::Log;
use market::LedgerError;
use serde_json::json;

use crate::rpc::{Rpc, RpcError};

/// Logs of one reading; the last range may bring more.
const LOGS_MAX: usize = 20_000;
/// Ranges of one reading, so that one ends also where nothing is found.
const RANGES_MAX: usize = 256;
/// The first range that is tried, in blocks.
const WIDTH_FIRST: u64 = 1 << 20;
/// After so many answers in a row a wider range is tried again.
const WIDEN_AFTER: u32 = 8;

/// Which logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a> {
    /// The contracts.
    pub(crate) addresses: &'a [Address],
    /// The signatures of the events, of any of the contracts.
    pub(crate) topics: &'a [B256],
}

/// What one reading brought.
#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    /// In the order of the chain.
    pub(crate) logs: Vec<Log>,
    /// The first block that was not read.
    pub(crate) next_block: u64,
}

/// Reads from `from` up to and including `last`, or as far as one reading goes.
pub(crate) async fn read(
    rpc: &Rpc,
    query: Query<'_>,
    from: u64,
    last: u64,
) -> Result<Page, LedgerError> {
    let mut ranges = Ranges::new(from, last);
    let mut logs = Vec::new();
    for _ in 0..RANGES_MAX {
        let Some(range) = ranges.next() else { break };
        match ask(rpc, query, range).await {
            Ok(found) => {
                for log in &found {
                    fits(log, query, range)?;
                }
                logs.extend(found);
                ranges.answered();
            }
            Err(error) if may_be_too_much(&error) && ranges.halve() => {}
            Err(error) => return Err(error.into()),
        }
        if logs.len() >= LOGS_MAX {
            break;
        }
    }
    Ok(Page {
        logs,
        next_block: ranges.from,
    })
}

async fn ask(rpc: &Rpc, query: Query<'_>, (from, to): (u64, u64)) -> Result<Vec<Log>, RpcError> {
    let filter = json!({
        "address": query.addresses,
        "topics": [query.topics],
        "fromBlock": U64::from(from),
        "toBlock": U64::from(to),
    });
    rpc.logs(filter, to).await
}

/// Whether a smaller range may be answered. Servers have no common code or
/// words for it, so only what surely has another cause is told apart.
pub(crate) fn may_be_too_much(error: &RpcError) -> bool {
    match error {
        RpcError::TooLong { .. } | RpcError::Timeout { .. } => true,
        RpcError::Status { status, .. } => matches!(status, 400 | 413 | 500 | 502..=504),
        RpcError::Answer { .. } => true,
        RpcError::Address { .. }
        | RpcError::NoTls
        | RpcError::Limited { .. }
        | RpcError::WrongChain { .. }
        | RpcError::Disputed(_)
        | RpcError::Transport { .. }
        | RpcError::Malformed { .. }
        | RpcError::Reverted { .. } => false,
    }
}

/// A log that was not asked for is not taken.
fn fits(log: &Log, query: Query<'_>, (from, to): (u64, u64)) -> Result<(), LedgerError> {
    let known = |topic: &B256| query.topics.contains(topic);
    let asked = query.addresses.contains(&log.address()) && log.topic0().is_some_and(known);
    let inside = log
        .block_number
        .is_some_and(|block| (from..=to).contains(&block));
    if asked && inside && !log.removed {
        return Ok(());
    }
    Err(LedgerError::Nonsense {
        problem: format!(
            "eth_getLogs was asked for events {:?} of {:?} in blocks {from} to {to} and told another log \
             (of {}, block {:?})",
            query.topics,
            query.addresses,
            log.address(),
            log.block_number
        ),
    })
}

/// The ranges that cover some blocks, each once.
#[derive(Debug)]
struct Ranges {
    /// The first block that was not answered.
    from: u64,
    last: u64,
    width: u64,
    answers: u32,
}

impl Ranges {
    fn new(from: u64, last: u64) -> Self {
        Self {
            from,
            last,
            width: WIDTH_FIRST,
            answers: 0,
        }
    }

    /// First and last block to ask for. None: all are answered.
    fn next(&self) -> Option<(u64, u64)> {
        let to = self.from.saturating_add(self.width - 1).min(self.last);
        (self.from <= self.last).then_some((self.from, to))
    }

    fn answered(&mut self) {
        if let Some((_, to)) = self.next() {
            self.from = to.saturating_add(1);
        }
        self.answers += 1;
        if self.answers >= WIDEN_AFTER {
            self.answers = 0;
            self.width = (self.width * 2).min(WIDTH_FIRST);
        }
    }

    /// Asks for less the next time; false if it was one block only.
    fn halve(&mut self) -> bool {
        let asked = self.next().map_or(0, |(from, to)| to - from + 1);
        self.answers = 0;
        self.width = (asked / 2).max(1);
        asked > 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_log_that_was_not_asked_for_is_not_taken() {
        let (address, topic) = (Address::repeat_byte(1), B256::repeat_byte(2));
        let query = Query {
            addresses: &[address, Address::repeat_byte(3)],
            topics: &[B256::repeat_byte(4), topic],
        };
        let log = |address, topic, block| Log {
            inner: alloy::primitives::Log::new_unchecked(
                address,
                vec![topic],
                alloy::primitives::Bytes::new(),
            ),
            block_number: block,
            ..Log::default()
        };
        let range = (5, 9);
        assert!(fits(&log(address, topic, Some(9)), query, range).is_ok());
        for wrong in [
            log(Address::ZERO, topic, Some(9)),
            log(address, B256::ZERO, Some(9)),
            log(address, topic, Some(4)),
            log(address, topic, Some(10)),
            log(address, topic, None),
        ] {
            assert!(fits(&wrong, query, range).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_block_is_read_once_whatever_the_server_takes(
            from in 0u64..1000,
            count in 0u64..5000,
            limits in prop::collection::vec(1u64..3000, 1..20),
        ) {
            let last = (from + count).saturating_sub(1);
            let mut ranges = Ranges::new(from, last);
            let mut read = Vec::new();
            let mut limits = limits.iter().cycle();
            let mut limit = *limits.next().unwrap();
            while let Some((first, to)) = ranges.next() {
                if to - first < limit {
                    read.extend(first..=to);
                    ranges.answered();
                    limit = *limits.next().unwrap();
                } else {
                    prop_assert!(ranges.halve(), "one block is always taken here");
                }
            }
            let all: Vec<u64> = if from <= last { (from..=last).collect() } else { Vec::new() };
            prop_assert_eq!(read, all);
        }
    }
}
