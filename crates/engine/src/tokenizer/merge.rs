//! The merge loop that both tokenizer families end in.
//!
//! Symbols are a doubly linked list, candidate merges a heap: the cost of a
//! text of n symbols is O(n log n) whatever it says, so that a hostile text
//! costs no more than an honest one of its length.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// No neighbour.
const NONE: usize = usize::MAX;

/// A list of symbols in which neighbours can become one.
struct Chain<S> {
    links: Vec<Link<S>>,
}

struct Link<S> {
    symbol: S,
    before: usize,
    after: usize,
    /// Became part of the symbol before it.
    gone: bool,
}

impl<S: Copy + PartialEq> Chain<S> {
    fn new(symbols: impl Iterator<Item = S>) -> Self {
        let mut links: Vec<Link<S>> = symbols
            .enumerate()
            .map(|(at, symbol)| Link {
                symbol,
                before: at.wrapping_sub(1),
                after: at + 1,
                gone: false,
            })
            .collect();
        if let Some(last) = links.last_mut() {
            last.after = NONE;
        }
        Self { links }
    }

    /// The symbol after this one.
    fn next(&self, left: usize) -> Option<(usize, S)> {
        let right = self.links[left].after;
        Some((right, self.links.get(right)?.symbol))
    }

    /// Whether the two are still neighbours and unchanged.
    fn holds(&self, left: usize, left_symbol: S, right_symbol: S) -> bool {
        let link = &self.links[left];
        !link.gone
            && link.symbol == left_symbol
            && self
                .next(left)
                .is_some_and(|(_, symbol)| symbol == right_symbol)
    }

    /// Makes a symbol and the next one `merged`.
    fn join(&mut self, left: usize, merged: S) {
        let right = self.links[left].after;
        let after = self.links[right].after;
        self.links[right].gone = true;
        self.links[left].symbol = merged;
        self.links[left].after = after;
        if after != NONE {
            self.links[after].before = left;
        }
    }

    fn symbols(&self) -> impl Iterator<Item = S> {
        self.links
            .iter()
            .filter(|link| !link.gone)
            .map(|link| link.symbol)
    }
}

/// A merge that may be made; the greatest is made first.
struct Candidate<P, S> {
    worth: P,
    left: usize,
    pair: (S, S),
    merged: S,
}

impl<P: Ord, S> Ord for Candidate<P, S> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of equals the leftmost goes first.
        self.worth
            .cmp(&other.worth)
            .then_with(|| other.left.cmp(&self.left))
    }
}

impl<P: Ord, S> PartialOrd for Candidate<P, S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P: Ord, S> PartialEq for Candidate<P, S> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<P: Ord, S> Eq for Candidate<P, S> {}

/// Merges until nothing is left to merge.
fn run<P: Ord, S: Copy + PartialEq>(
    chain: &mut Chain<S>,
    propose: impl Fn(S, S) -> Option<(P, S)>,
) {
    let mut heap = BinaryHeap::new();
    let candidate = |chain: &Chain<S>, left: usize| {
        let left_symbol = chain.links[left].symbol;
        let (_, right_symbol) = chain.next(left)?;
        let (worth, merged) = propose(left_symbol, right_symbol)?;
        Some(Candidate {
            worth,
            left,
            pair: (left_symbol, right_symbol),
            merged,
        })
    };
    for left in 0..chain.links.len() {
        heap.extend(candidate(chain, left));
    }
    while let Some(best) = heap.pop() {
        if !chain.holds(best.left, best.pair.0, best.pair.1) {
            continue;
        }
        chain.join(best.left, best.merged);
        let before = chain.links[best.left].before;
        if before != NONE {
            heap.extend(candidate(chain, before));
        }
        heap.extend(candidate(chain, best.left));
    }
}

/// Byte-level BPE: the lowest rank merges first.
pub(super) fn by_rank(
    symbols: Vec<u32>,
    merges: &HashMap<(u32, u32), (u32, u32)>,
    ids: &mut Vec<u32>,
) {
    let mut chain = Chain::new(symbols.into_iter());
    run(&mut chain, |left, right| {
        let &(rank, merged) = merges.get(&(left, right))?;
        Some((std::cmp::Reverse(rank), merged))
    });
    ids.extend(chain.symbols());
}

/// A score that can be ordered; files with NaN are refused at load.
#[derive(PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// SentencePiece: of all merges that give a token, the best score first.
pub(super) fn by_score(
    text: &str,
    score: impl Fn(&str) -> Option<f32>,
) -> impl Iterator<Item = &str> {
    let spans = text
        .char_indices()
        .map(|(start, c)| (start, start + c.len_utf8()));
    let mut chain = Chain::new(spans);
    run(&mut chain, |left, right| {
        let merged = (left.0, right.1);
        let score = score(&text[merged.0..merged.1])?;
        Some((Score(score), merged))
    });
    let spans: Vec<_> = chain.symbols().collect();
    spans.into_iter().map(move |(start, end)| &text[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_rank_merges_first_and_ties_go_left() {
        let merges = HashMap::from([((1, 2), (1, 12)), ((2, 3), (0, 23)), ((1, 1), (2, 11))]);
        let tokens = |symbols: &[u32]| {
            let mut ids = Vec::new();
            by_rank(symbols.to_vec(), &merges, &mut ids);
            ids
        };
        assert_eq!(tokens(&[1, 2, 3]), [1, 23]);
        assert_eq!(tokens(&[1, 2, 4]), [12, 4]);
        assert_eq!(tokens(&[1, 1, 1]), [11, 1]);
        assert_eq!(tokens(&[]), [0u32; 0]);
    }

    #[test]
    fn the_best_score_merges_first() {
        let score = |text: &str| match text {
            "ab" => Some(-2.0),
            "bc" => Some(-1.0),
            "abc" => Some(-3.0),
            _ => None,
        };
        let pieces: Vec<_> = by_score("abcab", score).collect();
        assert_eq!(pieces, ["abc", "ab"]);
        let pieces: Vec<_> = by_score("bcé", score).collect();
        assert_eq!(pieces, ["bc", "é"]);
    }
}
