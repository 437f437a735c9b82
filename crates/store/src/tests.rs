//! Order, durability and refusal, on files that are opened again.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::future::join_all;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::database::Database;
use crate::writer::Writer;
use crate::{
    AppendError, Entry, Line, LoadError, MAX_PAYLOAD_BYTES, OpenError, SCHEMA_VERSION, Store,
};

fn entry(kind: &str, key: Option<&str>, payload: &str) -> Entry {
    Entry {
        kind: kind.into(),
        key: key.map(Into::into),
        payload: payload.into(),
    }
}

fn note(text: &str) -> Entry {
    entry("note", None, text)
}

fn payloads(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| std::str::from_utf8(&entry.payload).unwrap())
        .collect()
}

/// A folder that goes with the test, and the file in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    (folder, path)
}

fn refusal(path: &Path) -> OpenError {
    Store::open(path).expect_err("a refusal")
}

#[tokio::test]
async fn entries_come_back_in_order_after_reopening() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("purse/a");
    let first = vec![note("1"), entry("voucher", Some("k"), "2")];
    assert_eq!(journal.append(first.clone()).await.unwrap(), 2);
    assert_eq!(journal.append(vec![note("3")]).await.unwrap(), 3);
    assert_eq!(
        store
            .journal("purse/b")
            .append(vec![note("other")])
            .await
            .unwrap(),
        1
    );
    store.close().await;

    let store = Store::open(&path).unwrap();
    let journal = store.journal("purse/a");
    assert_eq!(
        journal.load().await.unwrap(),
        [first, vec![note("3")]].concat()
    );
    assert_eq!(journal.append(vec![note("4")]).await.unwrap(), 4);
    assert_eq!(
        payloads(&journal.load().await.unwrap()),
        ["1", "2", "3", "4"]
    );
}

#[tokio::test]
async fn journals_are_listed_by_prefix() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    for name in ["till/b", "purse/a", "till/a", "till"] {
        store.journal(name).append(vec![note("x")]).await.unwrap();
    }
    assert_eq!(store.journals("till/").await.unwrap(), ["till/a", "till/b"]);
    assert_eq!(store.journals("").await.unwrap().len(), 4);
    assert_eq!(store.journals("%").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_scan_has_every_journal_of_the_prefix_whole_and_once() {
    const JOURNALS: usize = 700;
    const ENTRIES: usize = 13;
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let mut expected = Vec::new();
    let mut appends = Vec::new();
    for number in 0..JOURNALS {
        // In no order of names, and others between them.
        let name = format!("purse/{}", number * 31 % JOURNALS);
        let entry = |at| note(&format!("{name} {at}"));
        let entries: Vec<_> = (0..ENTRIES).map(entry).collect();
        appends.push((store.journal(&name), entries.clone()));
        appends.push((store.journal("other"), vec![note("x")]));
        let lines = entries.into_iter().map(|entry| (entry.kind, entry.payload));
        expected.push((name, lines.collect()));
    }
    let appends = appends.iter();
    let written = join_all(appends.map(|(journal, entries)| journal.append(entries.clone())));
    assert!(written.await.into_iter().all(|written| written.is_ok()));
    let (mut scan, mut found, mut pages) = (store.scan("purse/"), Vec::new(), 0);
    loop {
        let page = scan.next().await.unwrap();
        if page.is_empty() {
            break;
        }
        pages += 1;
        for loaded in page.journals() {
            let line = |line: Line<'_>| (line.kind.to_owned(), line.payload.to_vec());
            let lines: Vec<_> = loaded.lines().map(line).collect();
            found.push((loaded.name.to_owned(), lines));
        }
    }
    assert!(pages > 1, "one page is no test of the seam");
    // With more appends than the queue has room, another one may go first.
    found.sort();
    expected.sort();
    assert!(
        found == expected,
        "a journal is missing, cut or there twice"
    );
    assert!(store.scan("none/").next().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_entry_is_found_by_kind_and_key() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("till/a");
    let entries = vec![
        entry("receipt", Some("r1"), "old"),
        entry("voucher", Some("r1"), "a voucher"),
        entry("receipt", Some("r1"), "new"),
        entry("receipt", Some("r2"), "another"),
    ];
    journal.append(entries).await.unwrap();
    store
        .journal("till/b")
        .append(vec![entry("receipt", Some("r1"), "elsewhere")])
        .await
        .unwrap();

    let found = journal.find("receipt", "r1").await.unwrap();
    assert_eq!(found, Some(entry("receipt", Some("r1"), "new")));
    assert_eq!(journal.find("receipt", "r3").await.unwrap(), None);
    assert_eq!(
        store.journal("none").find("receipt", "r1").await.unwrap(),
        None
    );
}

#[tokio::test]
async fn the_newest_entries_come_first() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("answers");
    for n in 0..10 {
        journal
            .append(vec![note(&n.to_string()), entry("noise", None, "")])
            .await
            .unwrap();
    }
    assert_eq!(
        payloads(&journal.recent("note", 3).await.unwrap()),
        ["9", "8", "7"]
    );
    assert_eq!(journal.recent("note", usize::MAX).await.unwrap().len(), 10);
    assert!(journal.recent("none", 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn appends_that_wait_together_share_a_commit() {
    const APPENDS: usize = 400;
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journals: Vec<_> = (0..4).map(|n| store.journal(&n.to_string())).collect();
    let appends = (0..APPENDS).map(|n| {
        let journal = journals[n % 4].clone();
        async move { journal.append(vec![note(&n.to_string())]).await.unwrap() }
    });
    let numbers = join_all(appends).await;

    let expected: Vec<u64> = (0..APPENDS as u64).map(|n| n / 4 + 1).collect();
    assert_eq!(
        numbers, expected,
        "each journal counts in the order of the calls"
    );
    let commits = store.commits();
    assert!(
        commits < APPENDS as u64 / 4,
        "{commits} commits for {APPENDS} appends"
    );
    assert!(commits > 0);
}

#[tokio::test]
async fn an_append_is_seen_by_the_read_behind_it() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("a");
    for n in 1..=20 {
        let (appended, loaded) = tokio::join!(journal.append(vec![note("x")]), journal.load());
        assert_eq!(appended.unwrap(), n);
        assert_eq!(loaded.unwrap().len() as u64, n);
    }
}

#[tokio::test]
async fn what_no_journal_holds_is_refused_before_the_queue() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("a");
    let large = Entry {
        payload: vec![0; MAX_PAYLOAD_BYTES + 1],
        ..note("")
    };
    let error = journal.append(vec![note("1"), large]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "an entry's payload is 4194305 long (allowed: 4194304)"
    );
    let error = journal
        .append(vec![entry(&"k".repeat(65), None, "")])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "an entry's kind is 65 long (allowed: 64)"
    );
    let error = store
        .journal(&"n".repeat(257))
        .append(vec![])
        .await
        .unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { limit: 256, .. }));
    assert!(journal.load().await.unwrap().is_empty(), "all or none");
}

#[tokio::test]
async fn commits_are_synced() {
    let (_folder, path) = place();
    let database = Database::open(&path).unwrap();
    const FULL: u32 = 2;
    assert_eq!(database.modes().unwrap(), ("wal".into(), FULL));
}

#[tokio::test]
async fn a_full_disk_is_told_to_all_who_wait_and_passes() {
    let (_folder, path) = place();
    let database = Database::open(&path).unwrap();
    database.limit_growth(8).unwrap();
    let store = Store {
        writer: Arc::new(Writer::start(database).unwrap()),
    };
    let journal = store.journal("a");
    journal.append(vec![note("before")]).await.unwrap();

    let page = "x".repeat(4096);
    let large = || vec![note(&page); 20];
    let outcomes = join_all((0..5).map(|_| journal.append(large()))).await;
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, AppendError::Full { .. }), "{error}");
        assert!(
            std::error::Error::source(&error).is_some(),
            "with its cause"
        );
    }
    assert_eq!(journal.append(vec![note("after")]).await.unwrap(), 2);
    assert_eq!(
        payloads(&journal.load().await.unwrap()),
        ["before", "after"]
    );
}

#[tokio::test]
async fn a_second_store_is_refused_until_the_first_is_closed() {
    let (folder, path) = place();
    let store = Store::open(&path).unwrap();
    let text = refusal(&path).to_string();
    assert!(text.contains("in use by another process"), "{text}");
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");

    let journal = store.journal("a");
    store.close().await;
    store.close().await;
    assert!(matches!(
        journal.append(vec![note("x")]).await,
        Err(AppendError::Closed)
    ));
    assert!(matches!(journal.load().await, Err(LoadError::Closed)));
    Store::open(&path).expect("free again");
}

#[tokio::test]
async fn what_was_queued_before_closing_is_written() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("a");
    let (appended, ()) = tokio::join!(
        join_all((0..50).map(|_| journal.append(vec![note("x")]))),
        store.close(),
    );
    assert!(appended.iter().all(Result::is_ok));
    let store = Store::open(&path).unwrap();
    assert_eq!(store.journal("a").load().await.unwrap().len(), 50);
}

#[test]
fn a_missing_folder_is_named() {
    let (folder, _) = place();
    let error = refusal(&folder.path().join("missing/state.db"));
    assert!(matches!(error, OpenError::Folder { .. }), "{error}");
    assert!(
        error.to_string().contains("missing cannot be written"),
        "{error}"
    );
}

#[test]
fn a_place_that_cannot_be_a_file_is_refused() {
    // As no right to write, but for the superuser too.
    let (_folder, path) = place();
    std::fs::create_dir(&path).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Folder { .. }), "{error}");
}

#[test]
fn only_the_owner_may_read_the_file() {
    let (_folder, path) = place();
    let _store = Store::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_later_version_is_refused() {
    let (_folder, path) = place();
    drop(Store::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
        .unwrap();
    drop(connection);
    let error = refusal(&path);
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn another_programs_file_is_refused_and_left_alone() {
    let (_folder, path) = place();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (_folder, path) = place();
    std::fs::write(
        &path,
        "no database at all, but long enough to have a header of its own, with more text behind it",
    )
    .unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");

    std::fs::remove_file(&path).unwrap();
    let store = Store::open(&path).unwrap();
    store
        .journal("a")
        .append(vec![note(&"x".repeat(50_000))])
        .await
        .unwrap();
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

/// The files of earlier schemas, as SQL, one for each version up to this one:
/// a new version adds its own, and upgrades from all of them.
const SCHEMAS: [&str; SCHEMA_VERSION as usize] = [include_str!("../tests/schema-1.sql")];

#[tokio::test]
async fn files_of_every_schema_so_far_are_read_and_written() {
    for (schema, version) in SCHEMAS.iter().zip(1u32..) {
        let (_folder, path) = place();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(schema).unwrap();
        let found: u32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(found, version);
        drop(connection);

        let store = Store::open(&path).unwrap();
        assert_eq!(
            store.journals("").await.unwrap(),
            ["consumer/channels", "till/a"]
        );
        let journal = store.journal("till/a");
        assert_eq!(
            payloads(&journal.load().await.unwrap()),
            ["{}", "{\"n\":1}"]
        );
        assert!(journal.find("receipted", "r1").await.unwrap().is_some());
        assert_eq!(journal.append(vec![note("3")]).await.unwrap(), 3);
        store.close().await;
        let found: u32 = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(found, SCHEMA_VERSION);
    }
}

#[test]
fn tables_without_a_version_are_refused() {
    let (_folder, path) = place();
    drop(Store::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 0).unwrap();
    drop(connection);
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_was_cut_is_refused_and_left_alone() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let journal = store.journal("a");
    for n in 0..40 {
        journal
            .append(vec![note(&format!("{n}").repeat(500))])
            .await
            .unwrap();
    }
    store.close().await;
    let whole = std::fs::read(&path).unwrap();
    const PAGE: usize = 4096;
    assert!(whole.len() > 5 * PAGE);
    let mut cuts: Vec<_> = (1..whole.len() / PAGE).map(|page| page * PAGE).collect();
    cuts.extend([1, 50, 99, 100, 2000, PAGE + 1, whole.len() - 1]);
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = refusal(&path);
        let named = matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. });
        assert!(named, "cut to {cut} bytes: {error}");
        assert!(error.to_string().contains("state.db"), "{error}");
        assert_eq!(
            std::fs::read(&path).unwrap().len(),
            cut,
            "it was written to"
        );
    }
}

/// The other process of the test below, which is the same program.
const CHILD: &str = "STORE_TEST_PATH";

/// How many acknowledged appends the child is let live for.
const ACKNOWLEDGED: usize = 150;

#[tokio::test]
async fn a_killed_process_leaves_all_that_was_acknowledged() {
    if let Some(path) = std::env::var_os(CHILD) {
        return append_until_killed(Path::new(&path)).await;
    }
    let (_folder, path) = place();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("tests::a_killed_process_leaves_all_that_was_acknowledged")
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some((_, which)) = line.unwrap().split_once("acknowledged ") {
            acknowledged.push(which.to_owned());
        }
        if acknowledged.len() == ACKNOWLEDGED {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();

    let store = Store::open(&path).expect("the lock went with the process");
    let journal = store.journal("a");
    let written = journal.load().await.unwrap();
    let written = payloads(&written);
    assert!(acknowledged.len() >= ACKNOWLEDGED);
    for which in &acknowledged {
        assert!(written.contains(&which.as_str()), "{which} is lost");
    }
    let next = journal.append(vec![note("next")]).await.unwrap();
    assert_eq!(next, written.len() as u64 + 1, "no number is left out");
}

/// Several tasks append without end; the parent ends it.
async fn append_until_killed(path: &Path) {
    const TASKS: usize = 5;
    const BOUND: usize = 100_000;
    let store = Store::open(path).unwrap();
    join_all((0..TASKS).map(|task| {
        let journal = store.journal("a");
        async move {
            for n in 0..BOUND {
                let which = format!("{task}/{n}");
                journal.append(vec![note(&which)]).await.unwrap();
                println!("acknowledged {which}");
            }
        }
    }))
    .await;
}
