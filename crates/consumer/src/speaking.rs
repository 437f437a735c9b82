//! How fast a provider speaks, from when its pieces come in. Who reads them here may be
//! slower, and a paced wire has a beat of its own: neither is the provider's doing, and
//! neither is measured.

use std::time::Duration;

use seal::Pacing;

/// A reader that keeps a piece waiting for so long holds the answer up: what comes
/// after that has waited on its way, too.
const HELD: Duration = Duration::from_millis(10);

/// Of fewer tokens after the first piece, or of less time, no speed is told: a burst has none.
const TOKENS_FEW: u32 = 4;
const TIME_SHORT: Duration = Duration::from_millis(20);

/// The pieces of one answer.
#[derive(Debug)]
pub(crate) struct Speaking {
    /// When the first piece came, and the tokens until then.
    first: Option<(Duration, u32)>,
    /// The same of the last one that counts.
    last: (Duration, u32),
    /// Nothing counts any more.
    is_over: bool,
}

impl Speaking {
    pub(crate) fn new(pacing: Pacing) -> Self {
        Self {
            first: None,
            last: (Duration::ZERO, 0),
            is_over: pacing != Pacing::Fast,
        }
    }

    /// A piece came at this moment of the request; so many tokens are there with it.
    pub(crate) fn heard(&mut self, tokens: u32, at: Duration) {
        if !self.is_over {
            self.first.get_or_insert((at, tokens));
            self.last = (at, tokens);
        }
    }

    /// A piece waited so long for whoever reads.
    pub(crate) fn waited(&mut self, wait: Duration) {
        self.is_over |= wait >= HELD;
    }

    /// Tokens after the first piece, and the time in which they came. Nothing, if none came.
    pub(crate) fn measured(&self) -> Option<(u32, Duration)> {
        let ((first, before), (last, tokens)) = (self.first?, self.last);
        let tokens = tokens.checked_sub(before).filter(|count| *count > 0)?;
        Some((tokens, last.saturating_sub(first)))
    }

    /// Microseconds for a token, if there is something to tell.
    pub(crate) fn token_us(&self) -> Option<u64> {
        let measured = self.measured();
        let (tokens, time) =
            measured.filter(|(tokens, time)| *tokens >= TOKENS_FEW && *time >= TIME_SHORT)?;
        u64::try_from((time / tokens).as_micros()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn heard(pacing: Pacing, pieces: &[(u64, u32)]) -> Speaking {
        let mut speaking = Speaking::new(pacing);
        for (at, tokens) in pieces {
            speaking.heard(*tokens, ms(*at));
        }
        speaking
    }

    #[test]
    fn it_is_the_time_between_the_pieces_and_not_before_them() {
        let pieces: Vec<_> = (0..11).map(|n| (500 + 10 * u64::from(n), n + 1)).collect();
        let speaking = heard(Pacing::Fast, &pieces);
        assert_eq!(speaking.measured(), Some((10, ms(100))));
        assert_eq!(speaking.token_us(), Some(10_000));
        // A first piece of many tokens says nothing of how fast those were.
        let pieces = [(500, 50), (600, 60)];
        assert_eq!(heard(Pacing::Fast, &pieces).token_us(), Some(10_000));
    }

    #[test]
    fn a_burst_has_no_speed() {
        assert_eq!(heard(Pacing::Fast, &[]).measured(), None);
        assert_eq!(heard(Pacing::Fast, &[(5, 200)]).measured(), None);
        assert_eq!(heard(Pacing::Fast, &[(5, 1), (7, 12)]).token_us(), None);
        assert_eq!(heard(Pacing::Fast, &[(5, 1), (900, 3)]).token_us(), None);
    }

    #[test]
    fn neither_a_paced_wire_nor_a_slow_reader_makes_a_provider_slow() {
        let pieces: Vec<_> = (0..20).map(|n| (100 * u64::from(n), n + 1)).collect();
        assert_eq!(heard(Pacing::Paced, &pieces).measured(), None);

        let mut speaking = heard(Pacing::Fast, &[(0, 1), (20, 11), (40, 21)]);
        speaking.waited(ms(1));
        speaking.heard(31, ms(60));
        speaking.waited(ms(400));
        speaking.heard(32, ms(460));
        assert_eq!(speaking.token_us(), Some(2_000));
    }
}
