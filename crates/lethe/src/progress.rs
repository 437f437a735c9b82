//! What is being done while the user waits, on standard error.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// How far a file has come, how fast, and how long it takes still.
const TRANSFER: &str = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

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

/// A bar that says how much of a file is there.
pub(crate) struct Transfer {
    bar: ProgressBar,
    silent: bool,
}

impl Transfer {
    /// Not drawn if nobody is looking, or nothing may be printed.
    pub(crate) fn new(bytes: u64, silent: bool) -> Self {
        let bar = ProgressBar::new(bytes);
        if silent || !stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template(TRANSFER);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, silent }
    }

    /// So many bytes are there.
    pub(crate) fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// It does not go on by itself; it is tried again after this time.
    pub(crate) fn waits(&self, why: &str, wait: Duration) {
        if !self.silent {
            let told = format!("{why}. Trying again in {} ms.", wait.as_millis());
            self.bar.suspend(|| output::aside(told));
        }
    }

    /// All is there.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
