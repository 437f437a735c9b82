//! Wall time: the one place that reads it. Everybody else is handed a [`consumer::Clock`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use market::Timestamp;

/// The machine's clock.
pub(crate) fn wall() -> consumer::Clock {
    Arc::new(now)
}

/// Seconds since the epoch; zero on a machine whose clock stands before it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge where time is read"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    )
}
