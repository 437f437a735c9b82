//! Filters that a client asks again and again for what is new.

use std::collections::BTreeMap;

use alloy::rpc::types::Filter;

/// Filters at once; the one that was asked longest ago makes room.
const FILTERS_MAX: usize = 256;

/// What a filter looks for.
#[derive(Debug, Clone)]
pub(crate) enum Interest {
    Blocks,
    Logs(Box<Filter>),
    /// Waiting transactions are seldom seen where each is mined at once.
    Transactions,
}

/// One client's place in the chain.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) interest: Interest,
    /// The first block that the client has not seen.
    pub(crate) next_block: u64,
    asked: u64,
}

/// All clients' filters.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    watches: BTreeMap<u64, Watch>,
    given: u64,
    asks: u64,
}

impl Filters {
    /// Starts to watch from `next_block` on.
    pub(crate) fn add(&mut self, interest: Interest, next_block: u64) -> u64 {
        if self.watches.len() >= FILTERS_MAX {
            let oldest = self.watches.iter().min_by_key(|(_, watch)| watch.asked);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.watches.remove(&id);
            }
        }
        self.given += 1;
        self.asks += 1;
        self.watches.insert(
            self.given,
            Watch {
                interest,
                next_block,
                asked: self.asks,
            },
        );
        self.given
    }

    /// The filter with this number.
    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Watch> {
        self.asks += 1;
        let watch = self.watches.get_mut(&id)?;
        watch.asked = self.asks;
        Some(watch)
    }

    /// Stops; `false` if there was none.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        self.watches.remove(&id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_that_was_asked_longest_ago_makes_room() {
        let mut filters = Filters::default();
        let first = filters.add(Interest::Blocks, 0);
        let second = filters.add(Interest::Blocks, 0);
        for _ in 2..FILTERS_MAX {
            filters.add(Interest::Blocks, 0);
        }
        assert!(filters.find(first).is_some());
        filters.add(Interest::Blocks, 0);
        assert!(filters.find(second).is_none());
        assert!(filters.find(first).is_some());
    }
}
