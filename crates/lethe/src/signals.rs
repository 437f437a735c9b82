//! Being told to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves on Ctrl-C or SIGTERM.
pub(crate) async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return interrupted().await;
    };
    tokio::select! {
        () = interrupted() => {}
        _ = terminate.recv() => {}
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without the handler the default one ends the process.
        std::future::pending::<()>().await;
    }
}
