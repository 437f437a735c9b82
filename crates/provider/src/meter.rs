//! What an answer comes to, chunk by chunk.
//!
//! A chunk that brings text is a token, until the backend says how many there
//! were by then. At the end the backend's own count is billed, and never more
//! tokens than bytes were delivered. Of a request that the backend did not
//! count, nothing is billed where the provider broke off, and otherwise what
//! requests like it had. Pure.

use market::{InputBound, Outcome};
use openai::{ChunkFacts, Usage};

/// The meter of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    bound: InputBound,
    /// What the request is taken for if nobody counts it.
    uncounted: u32,
    /// Chunks that brought text.
    chunks: u32,
    /// Bytes of text in them.
    bytes: u64,
    /// The backend's last count.
    usage: Option<Usage>,
    /// Chunks that brought text after it.
    since: u32,
}

impl Meter {
    pub(crate) fn new(bound: InputBound, uncounted: u32) -> Self {
        Self {
            bound,
            uncounted: uncounted.min(bound.estimate),
            chunks: 0,
            bytes: 0,
            usage: None,
            since: 0,
        }
    }

    /// The meter as it will be when a chunk is delivered.
    pub(crate) fn with(&self, facts: &ChunkFacts) -> Self {
        let mut meter = self.clone();
        meter.add(facts);
        meter
    }

    fn add(&mut self, facts: &ChunkFacts) {
        if facts.text_bytes > 0 {
            self.chunks = self.chunks.saturating_add(1);
            self.since = self.since.saturating_add(1);
        }
        let bytes = u64::try_from(facts.text_bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        if facts.usage.is_some() {
            self.usage = facts.usage;
            self.since = 0;
        }
    }

    /// Tokens of the request that running answers are reckoned with: what
    /// the first voucher covers.
    pub(crate) fn input_estimate(&self) -> u32 {
        self.bound.estimate
    }

    /// Tokens delivered so far.
    pub(crate) fn tokens(&self) -> u32 {
        self.plausible(self.counted().max(self.chunks))
    }

    /// Tokens of the request, as the backend counted them.
    pub(crate) fn input_counted(&self) -> Option<u32> {
        let usage = self.usage?;
        Some(usage.prompt_tokens.min(self.bound.ceiling))
    }

    /// Tokens of the request to bill for an answer that ended so.
    pub(crate) fn input_billed(&self, outcome: Outcome) -> u32 {
        match (self.input_counted(), outcome) {
            (Some(counted), _) => counted,
            (None, Outcome::Failed) => 0,
            (None, Outcome::Complete | Outcome::Cancelled) => self.uncounted,
        }
    }

    /// Tokens of the answer to bill.
    pub(crate) fn output_billed(&self) -> u32 {
        self.plausible(self.counted())
    }

    fn counted(&self) -> u32 {
        self.usage.map_or(self.chunks, |usage| {
            usage.completion_tokens.saturating_add(self.since)
        })
    }

    /// A token is at least one byte.
    fn plausible(&self, tokens: u32) -> u32 {
        tokens.min(u32::try_from(self.bytes).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> ChunkFacts {
        ChunkFacts {
            text_bytes: bytes,
            ..ChunkFacts::default()
        }
    }

    fn usage(prompt_tokens: u32, completion_tokens: u32) -> ChunkFacts {
        ChunkFacts {
            no_choices: true,
            usage: Some(Usage {
                prompt_tokens,
                completion_tokens,
            }),
            ..ChunkFacts::default()
        }
    }

    fn meter(uncounted: u32, chunks: &[ChunkFacts]) -> Meter {
        let bound = InputBound {
            estimate: 40,
            ceiling: 50,
        };
        let mut meter = Meter::new(bound, uncounted);
        for facts in chunks {
            meter.add(facts);
        }
        meter
    }

    /// Input and output billed.
    fn billed(chunks: &[ChunkFacts]) -> (u32, u32) {
        let meter = meter(30, chunks);
        (meter.input_billed(Outcome::Complete), meter.output_billed())
    }

    #[test]
    fn a_request_that_nobody_counted_is_no_guess_of_who_broke_off() {
        let billed = |uncounted, chunks: &[ChunkFacts]| {
            let meter = meter(uncounted, chunks);
            [Outcome::Failed, Outcome::Cancelled].map(|outcome| meter.input_billed(outcome))
        };
        assert_eq!(billed(30, &[text(3)]), [0, 30]);
        // Never more than was signed for.
        assert_eq!(billed(60, &[text(3)]), [0, 40]);
        assert_eq!(billed(30, &[usage(7, 0), text(3)]), [7, 7]);
    }

    #[test]
    fn chunks_with_text_count_until_the_backend_says_better() {
        for (chunks, expected) in [
            (vec![], (30, 0)),
            (vec![text(0), text(3), text(3)], (30, 2)),
            (vec![text(3), text(3), usage(7, 4)], (7, 4)),
            (vec![text(3), usage(7, 1), text(3), usage(7, 2)], (7, 2)),
            (vec![usage(7, 0), text(3), text(3)], (7, 2)),
        ] {
            assert_eq!(billed(&chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn a_backend_that_counts_too_much_is_capped() {
        assert_eq!(billed(&[text(3), usage(1000, 1000)]), (50, 3));
    }

    #[test]
    fn what_runs_never_says_more_tokens_than_bytes() {
        let mut meter = Meter::new(InputBound::of_body(10), 0);
        meter.add(&usage(1, 9));
        assert_eq!(meter.tokens(), 0);
        meter.add(&text(5));
        assert_eq!(meter.tokens(), 5);
    }
}
