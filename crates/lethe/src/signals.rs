//! Being told to stop.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::codes;
use crate::folder::Folder;
use crate::output;

/// The longest that a node which is told to stop lets running answers go on.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(120);

/// What ends a node: Ctrl-C, or what `kill` and service managers send. Heard
/// from when this is made: a node listens before it says that it is ready.
pub(crate) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// One that cannot be listened to ends the process at once, as if nobody listened.
    pub(crate) fn listen() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Resolves with the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            () = next(&mut self.interrupt) => {}
            () = next(&mut self.terminate) => {}
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Resolves on Ctrl-C or SIGTERM and says what becomes of what runs, in the words
/// of `running` ([`waits_for`], [`cuts`]). A second one ends the process at once, which
/// costs the answers that run and nothing else: what is signed is in the journals.
/// Who wants `folder` meanwhile waits for the end.
pub(crate) async fn stopped(
    mut signals: Signals,
    folder: &Folder,
    silent: bool,
    running: impl FnOnce() -> String,
) {
    signals.next().await;
    folder.leaves();
    if !silent {
        output::aside(format!(
            "Stopping: {}. Ctrl-C again ends at once; the journals are complete either way.",
            running()
        ));
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for it: it ends with the process, or ends it"
    )]
    tokio::spawn(async move {
        signals.next().await;
        if !silent {
            output::aside("Ended at once.");
        }
        std::process::exit(codes::ENDED_AT_ONCE.into());
    });
}

/// Of a node that answers: what runs may end.
pub(crate) fn waits_for(running: usize) -> String {
    let within = STOP_WITHIN.as_secs();
    match running {
        0 => "nothing is being answered".to_owned(),
        1 => format!("waiting for 1 answer to end, up to {within} s"),
        running => format!("waiting for {running} answers to end, up to {within} s"),
    }
}

/// Of a relay: it does not know what passes through it, nor when that ends.
pub(crate) fn cuts(running: usize) -> String {
    match running {
        0 => "nothing passes through".to_owned(),
        1 => "1 stream that passes through is cut off".to_owned(),
        running => format!("{running} streams that pass through are cut off"),
    }
}
