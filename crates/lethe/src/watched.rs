//! A file of the data folder that a running node heeds when it changes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Between two looks at the file.
const EVERY: Duration = Duration::from_secs(1);

/// Tells once in the beginning, and whenever the file was written, replaced,
/// made or removed since the last look; until told to stop.
pub(crate) async fn watched(path: &Path, stop: CancellationToken, mut changed: impl FnMut()) {
    let mut seen = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = stamp(path);
        if seen != Some(now) {
            seen = Some(now);
            changed();
        }
    }
}

/// What is another one when a file was written; none if it is not there.
fn stamp(path: &Path) -> Option<(u64, i64, i64, u32)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let (changed, nanos) = (metadata.ctime(), metadata.ctime_nsec());
    Some((metadata.ino(), changed, nanos, metadata.mode()))
}
