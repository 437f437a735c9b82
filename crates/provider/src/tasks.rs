//! The tasks of a provider: one owner, two ways to end.
//!
//! Gracefully: the [`Tasks::stopping`] token asks them to come to an end.
//! At once: [`Tasks::kill`] drops them where they stand, as a crash would;
//! the journal is made for that.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handle to the tasks of one provider.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    killed: CancellationToken,
}

impl Tasks {
    /// Runs it until it ends or is killed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let killed = self.killed.clone();
        self.tracker.spawn(async move {
            killed.run_until_cancelled(task).await;
        });
    }

    /// Cancelled when running work should come to an end.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Ends all that is left, and waits for it.
    pub(crate) async fn kill(&self) {
        self.stopping.cancel();
        self.killed.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The same without waiting.
    pub(crate) fn abandon(&self) {
        self.stopping.cancel();
        self.killed.cancel();
        self.tracker.close();
    }
}
