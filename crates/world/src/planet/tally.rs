//! What came of a run.

/// Figures of one run. Times to the first token are of requests that had one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Providers asked.
    pub(super) tries: u64,
    /// Tries that were refused at once.
    pub(super) refused: u64,
    /// Tries that came to nothing otherwise.
    pub(super) lost: u64,
    /// Milliseconds, as they came.
    pub(super) firsts_ms: Vec<u32>,
    /// Base units over all requests.
    pub(super) price: u128,
    pub(super) cost: u128,
}

impl Figures {
    /// Arranges the times, once, in the end.
    pub(super) fn close(&mut self) {
        self.firsts_ms.sort_unstable();
    }

    /// What so many percent of first tokens did not take longer than.
    pub(super) fn first_ms(&self, percent: usize) -> u32 {
        let rank = (self.firsts_ms.len() * percent).div_ceil(100).max(1);
        self.firsts_ms.get(rank - 1).copied().unwrap_or_default()
    }

    /// Thousandths of MOR for a request that was answered.
    pub(super) fn price_mean(&self) -> f64 {
        let answered = self.requests - self.failed;
        milli(self.price) / ratio(answered.max(1), 1)
    }

    /// Price, time and failures, in thousandths of MOR for a request.
    pub(super) fn cost_mean(&self) -> f64 {
        milli(self.cost) / ratio(self.requests.max(1), 1)
    }
}

fn milli(base_units: u128) -> f64 {
    // To 10^-12 MOR first: whole numbers of that size are exact.
    let parts = u64::try_from(base_units / 1_000_000).unwrap_or(u64::MAX);
    ratio(parts, 1_000_000_000)
}

/// One number over another.
#[expect(clippy::cast_precision_loss, reason = "only for people to read")]
pub(super) fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
