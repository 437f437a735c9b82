//! What a provider counts: figures only, nothing of what was said.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use transport::message::Reason;

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counted {
    /// Answers that began.
    pub begun: u64,
    /// Of these, that came to their end.
    pub completed: u64,
    /// That the consumer left, or did not pay on.
    pub cancelled: u64,
    /// That the backend or the provider broke off.
    pub failed: u64,
    /// Tokens of requests, as billed.
    pub input_tokens: u64,
    /// Tokens of answers, as billed.
    pub output_tokens: u64,
    /// Requests refused because all places were taken.
    pub refused_busy: u64,
    /// Refused because of voucher, channel or quote.
    pub refused_payment: u64,
    /// Refused for any other reason.
    pub refused_other: u64,
    /// Times that an answer had to wait for its consumer's voucher.
    pub waits_for_payment: u64,
    /// Streams that were no sealed request, or that were not opened.
    pub unopened: u64,
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) begun: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) input_tokens: AtomicU64,
    pub(crate) output_tokens: AtomicU64,
    pub(crate) refused_busy: AtomicU64,
    pub(crate) refused_payment: AtomicU64,
    pub(crate) refused_other: AtomicU64,
    pub(crate) waits_for_payment: AtomicU64,
    pub(crate) unopened: AtomicU64,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// So many more.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    /// A request was refused.
    pub(crate) fn refused(&self, reason: Reason) {
        count(match reason {
            Reason::Busy => &self.refused_busy,
            Reason::Payment | Reason::Quote => &self.refused_payment,
            Reason::Model
            | Reason::Request
            | Reason::Backend
            | Reason::Unavailable
            | Reason::Protocol => &self.refused_other,
        });
    }

    /// The figures now.
    pub(crate) fn read(&self) -> Counted {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            begun: of(&self.begun),
            completed: of(&self.completed),
            cancelled: of(&self.cancelled),
            failed: of(&self.failed),
            input_tokens: of(&self.input_tokens),
            output_tokens: of(&self.output_tokens),
            refused_busy: of(&self.refused_busy),
            refused_payment: of(&self.refused_payment),
            refused_other: of(&self.refused_other),
            waits_for_payment: of(&self.waits_for_payment),
            unopened: of(&self.unopened),
        }
    }
}
