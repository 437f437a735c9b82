//! What providers tell of their load and their prices, as a guard passes it on.
//!
//! While this consumer is in use it asks its guard every few seconds for all load
//! digests there are, and believes those that are signed by the nodes of providers in
//! its catalog. The guard learns that the consumer is in use, which it sees
//! anyhow, and nothing of what for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use market::{Heard, LoadBook, LoadDigest};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::shell::Inner;

/// Between two questions.
const HEAR_EVERY: Duration = Duration::from_secs(5);

/// Who did not ask for anything in so long is not in use.
const IN_USE: Duration = Duration::from_secs(60);

/// When this consumer was used last.
#[derive(Debug, Default)]
pub(crate) struct Used {
    at: Mutex<Option<Instant>>,
    again: Notify,
}

impl Used {
    /// Now.
    pub(crate) fn now(&self) {
        let was_lately = self.is_lately();
        *self.at() = Some(Instant::now());
        if !was_lately {
            self.again.notify_one();
        }
    }

    fn is_lately(&self) -> bool {
        let at = *self.at();
        at.is_some_and(|at| at.elapsed() < IN_USE)
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of loads until the consumer stops.
pub(crate) async fn hear_on(inner: Arc<Inner>) {
    let mut book = LoadBook::new(inner.domain());
    loop {
        let turn = async {
            if !inner.used.is_lately() {
                inner.used.again.notified().await;
            }
            hear(&inner, &mut book).await;
            sleep(HEAR_EVERY).await;
        };
        if inner.stop.run_until_cancelled(turn).await.is_none() {
            return;
        }
    }
}

async fn hear(inner: &Inner, book: &mut LoadBook) {
    let Some(told) = inner.paths.loads().await else {
        return;
    };
    let (snapshot, now) = (inner.snapshot(), inner.now());
    for bytes in told {
        let node_of = |account| Some(snapshot.sellers.get(&account)?.node);
        match book.hear(&bytes, node_of, now) {
            Ok(Heard::New) => {}
            Ok(Heard::Again) => continue,
            Err(error) => {
                debug!(%error, "a load digest is not believed");
                continue;
            }
        }
        let Ok(digest) = LoadDigest::read(&bytes) else {
            continue;
        };
        let age_s = now.since_s(digest.issued_at);
        let good = Duration::from_secs(LoadDigest::GOOD_S.saturating_sub(age_s));
        let LoadDigest {
            provider,
            issued_at,
            loads,
            ..
        } = digest;
        inner.prices.told(provider, issued_at, loads.clone(), now);
        inner.router.told_load(provider, loads, good);
    }
    inner.reprice();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_used_within_a_minute_is_in_use() {
        let used = Used::default();
        assert!(!used.is_lately());
        used.now();
        assert!(used.is_lately());
        used.again.notified().await;
        tokio::time::advance(IN_USE).await;
        assert!(!used.is_lately());
    }
}
