//! Requests that were seen, so that each is answered once.

use market::Timestamp;

use crate::open::WINDOW_SECONDS;
use crate::seen::Seen;

/// The most requests that are remembered: over a thousand a second for as
/// long as one of them stays fresh. About 30 MiB when full.
pub const REPLAYS_MAX: usize = 1 << 18;

/// Remembers requests by [`RequestOpener::encapsulated`](crate::RequestOpener::encapsulated).
///
/// Ask [`Replays::knows`] as soon as that is there, before anything is
/// computed; and [`Replays::first`] when the opening has proved good, so that
/// nobody can fill this memory with what was never sealed.
pub struct Replays(Seen<[u8; 32]>);

impl Replays {
    /// Knows none.
    pub fn new() -> Self {
        Self(Seen::new(REPLAYS_MAX))
    }

    /// Whether this one was seen.
    pub fn knows(&self, encapsulated: &[u8; 32]) -> bool {
        self.0.contains(encapsulated)
    }

    /// Whether this is the first time. Also `false` when there is no room to
    /// remember it: nothing fresh is forgotten, and nothing is taken that
    /// could come again unnoticed.
    pub fn first(&mut self, encapsulated: [u8; 32], now: Timestamp) -> bool {
        // From the future at first, and just fresh in the end.
        self.0.insert(encapsulated, 2 * WINDOW_SECONDS, now)
    }
}

impl Default for Replays {
    fn default() -> Self {
        Self::new()
    }
}
