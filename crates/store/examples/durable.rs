//! What it costs to make a voucher durable:
//! `cargo run --release -p store --example durable -- [FOLDER]`.
//!
//! So many channels at a time each append an entry of a voucher's size, wait
//! until it is on the disk, and append the next; group commit lets those that
//! wait share an fsync. Below them the disk itself: one write and one fsync
//! after the other. FOLDER says on which disk; the system's temporary folder
//! if nothing is said.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use store::{Entry, Store};

/// Channels that pay at a time.
const CHANNELS: [usize; 5] = [1, 8, 64, 256, 1024];
const FOR: Duration = Duration::from_secs(3);
/// A till's voucher entry has about so many bytes.
const VOUCHER_BYTES: usize = 260;

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let said = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = tempfile::tempdir_in(said.unwrap_or_else(std::env::temp_dir))?;
    let store = Store::open(&folder.path().join("store"))?;
    println!(
        "{:>8} {:>12} {:>10} {:>14}",
        "channels", "vouchers/s", "commits/s", "wait of each"
    );
    for channels in CHANNELS {
        let (begun, before) = (now(), store.commits());
        let paying = (0..channels).map(|channel| {
            let journal = store.journal(&format!("till/{channel}"));
            async move {
                let mut written = 0u64;
                while begun.elapsed() < FOR {
                    journal.append(vec![voucher()]).await?;
                    written += 1;
                }
                Ok::<_, store::AppendError>(written)
            }
        });
        let mut written = 0;
        for one in join_all(paying).await {
            written += one?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let per_second = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds;
        let rate = per_second(written);
        let wait = f64::from(u32::try_from(channels)?) / rate * 1000.0;
        let commits = per_second(store.commits() - before);
        println!("{channels:>8} {rate:>12.0} {commits:>10.0} {wait:>11.2} ms");
    }
    let mut file = File::create(folder.path().join("plain"))?;
    let (begun, mut synced) = (now(), 0u32);
    while begun.elapsed() < FOR {
        file.write_all(&[7; VOUCHER_BYTES])?;
        file.sync_data()?;
        synced += 1;
    }
    println!(
        "the disk: {:.0} fsyncs/s",
        f64::from(synced) / begun.elapsed().as_secs_f64()
    );
    store.close().await;
    Ok(())
}

fn voucher() -> Entry {
    Entry {
        kind: "voucher".into(),
        key: None,
        payload: vec![b'7'; VOUCHER_BYTES],
    }
}
