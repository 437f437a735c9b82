//! What is being done while the user waits, on standard error.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that says what is being started.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Silent if nobody is looking, or nothing may be printed.
    pub(crate) fn new(silent: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if silent || !stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// Now this is being started.
    pub(crate) fn step(&self, what: &str) {
        self.bar.set_message(format!("starting {what} …"));
    }

    /// Everything is up.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
