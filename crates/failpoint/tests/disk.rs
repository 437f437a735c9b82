//! The disk that fails, tried on its own: it loses what was not fsynced and
//! nothing else. The control is SQLite, which loses a commit on this disk
//! when it is told not to sync, and keeps it as the store has it.
//!
//! This binary is also the process that writes: it starts itself.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use failpoint::disk::{self, FOLDER_VARIABLE, FSYNC_VARIABLE, Fault};
use rusqlite::Connection;

/// The first argument of a process that writes.
const WRITE: &str = "write-as";
const SIGKILL: i32 = 9;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, first, script, folder] = &arguments[..]
        && first == WRITE
    {
        write(script, Path::new(folder)).expect("the writer's disk works until it does not");
        return ExitCode::SUCCESS;
    }
    let build = tempfile::tempdir().expect("a temporary folder");
    let library = disk::build(build.path()).expect("a C compiler, as cargo test needs it");
    for (name, test) in [
        ("what is fsynced stays", what_is_fsynced_stays as fn(&Path)),
        ("the rest is gone", the_rest_is_gone),
        ("names need their folder", names_need_their_folder),
        ("a full disk takes no more", a_full_disk_takes_no_more),
        ("sqlite with and without sync", sqlite_with_and_without_sync),
        ("a lying disk loses all", a_lying_disk_loses_all),
    ] {
        test(&library);
        let _ = writeln!(std::io::stdout(), "disk: {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// What the process that writes does before its disk fails.
fn write(script: &str, folder: &Path) -> Outcome {
    let open = |name: &str| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(name))
    };
    match script {
        "overwritten" => {
            let mut file = open("file")?;
            file.write_all(b"durable ")?;
            file.sync_data()?;
            File::open(folder)?.sync_all()?;
            file.write_all(b"and lost")?;
            let inside = OpenOptions::new().write(true).open(folder.join("file"))?;
            std::os::unix::fs::FileExt::write_all_at(&inside, b"DUR", 0)?;
            inside.set_len(4)?;
            fs::write(folder.join("file"), b"made anew")?;
        }
        "names" => {
            for (name, text) in [("old", "old text"), ("kept", "kept text")] {
                let mut file = open(name)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
            }
            File::open(folder)?.sync_all()?;
            let mut file = open("new")?;
            file.write_all(b"new text")?;
            file.sync_all()?;
            fs::rename(folder.join("new"), folder.join("old"))?;
            fs::remove_file(folder.join("kept"))?;
        }
        "full" => {
            open("file")?.write_all(b"1234")?;
            disk::ask(Fault::Full);
            let mut file = OpenOptions::new().write(true).open(folder.join("file"))?;
            file.write_all(b"abcd")?;
            let grown = file.write_all(b"e").err();
            let made = File::create(folder.join("other")).err();
            let folder_made = fs::create_dir(folder.join("inside")).err();
            for error in [grown, made, folder_made] {
                let kind = error.map(|error| error.kind());
                assert_eq!(kind, Some(std::io::ErrorKind::StorageFull));
            }
            return Ok(());
        }
        synchronous => commit(&folder.join("db"), synchronous)?,
    }
    disk::ask(Fault::Cut);
    Ok(())
}

fn commit(path: &Path, synchronous: &str) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE numbers (number INTEGER)")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch("INSERT INTO numbers VALUES (7)")?;
    // Closed cleanly, it would be copied out of the log.
    std::mem::forget(connection);
    Ok(())
}

/// Runs the writer on a disk that fails.
fn run(library: &Path, script: &str, folder: &Path, fsync: &str) -> ExitStatus {
    let this = std::env::current_exe().expect("the path of this binary");
    Command::new(this)
        .args([WRITE, script])
        .arg(folder)
        .env("LD_PRELOAD", library)
        .env(FOLDER_VARIABLE, folder)
        .env(FSYNC_VARIABLE, fsync)
        .status()
        .expect("this binary starts")
}

/// The folder after the power was cut.
fn cut(library: &Path, script: &str, fsync: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let status = run(library, script, folder.path(), fsync);
    assert_eq!(status.signal(), Some(SIGKILL), "{script}: {status}");
    let note = fs::read_to_string(folder.path().join(Fault::Cut.file_name()));
    assert!(
        note.is_ok_and(|note| note.contains("taken back")),
        "{script}"
    );
    folder
}

fn text(folder: &tempfile::TempDir, name: &str) -> Option<String> {
    fs::read_to_string(folder.path().join(name)).ok()
}

fn what_is_fsynced_stays(library: &Path) {
    let folder = cut(library, "overwritten", "");
    assert_eq!(text(&folder, "file").as_deref(), Some("durable "));
}

fn the_rest_is_gone(library: &Path) {
    let folder = cut(library, "OFF", "");
    let length = |name: &str| fs::metadata(folder.path().join(name)).map(|status| status.len());
    let note = text(&folder, Fault::Cut.file_name()).unwrap_or_default();
    assert!(!note.starts_with("0 writes"), "{note}");
    assert!(length("db").is_ok(), "it was there before the first fsync");
}

fn names_need_their_folder(library: &Path) {
    let folder = cut(library, "names", "");
    assert_eq!(text(&folder, "old").as_deref(), Some("old text"));
    assert_eq!(text(&folder, "kept").as_deref(), Some("kept text"));
    assert_eq!(text(&folder, "new"), None);
}

fn a_full_disk_takes_no_more(library: &Path) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(run(library, "full", folder.path(), "").success());
    assert_eq!(text(&folder, "file").as_deref(), Some("abcd"));
    let note = text(&folder, Fault::Full.file_name());
    assert_eq!(note.as_deref(), Some("3 answers of ENOSPC\n"));
}

/// How many rows the next process finds; none, if not even the table.
fn rows(folder: &tempfile::TempDir) -> u32 {
    let connection = Connection::open(folder.path().join("db")).expect("a database");
    connection
        .query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
        .unwrap_or_default()
}

fn sqlite_with_and_without_sync(library: &Path) {
    assert_eq!(rows(&cut(library, "FULL", "")), 1);
    assert_eq!(rows(&cut(library, "OFF", "")), 0, "this disk loses nothing");
}

fn a_lying_disk_loses_all(library: &Path) {
    assert_eq!(rows(&cut(library, "FULL", "ignored")), 0);
}
