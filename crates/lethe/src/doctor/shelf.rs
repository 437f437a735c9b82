//! The data folder: whether it can be written, who has it, its disk, its keys
//! and its journals. Everything is opened to read only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::Check;
use crate::chain_watch;
use crate::folder::Folder;
use crate::identity;
use crate::keystore::Keystore;
use crate::last_chain::LastChain;

/// Below this a node soon has no room for its journals.
const FREE_BYTES_MIN: u64 = 100 << 20;
/// Below this a full disk is not far.
const FREE_BYTES_FEW: u64 = 1 << 30;
/// A journal is not read with less: the index of its log is made anew for that.
const READING_BYTES: u64 = 64 << 10;
/// How a journal's file is opened here.
const READ_ONLY: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

pub(super) fn look(folder: &Folder) -> Vec<Check> {
    let path = folder.path();
    if !path.exists() {
        let parent = path.ancestors().find(|one| one.exists());
        let parent = parent.unwrap_or(Path::new("/"));
        return vec![new_folder(path, parent), disk(parent)];
    }
    let mut checks = vec![writable(path), role(folder), lock(folder), disk(path)];
    checks.extend(keys(folder));
    checks.push(journals(folder));
    checks.extend(copies(folder));
    checks
}

/// A folder that a node would make.
fn new_folder(path: &Path, parent: &Path) -> Check {
    const NAME: &str = "data folder";
    let found = format!("{} is not there yet", path.display());
    match is_writable(parent) {
        Ok(()) => Check::ok(NAME, format!("{found}; the first start makes it")),
        Err(error) => Check::fail(
            NAME,
            format!(
                "{found}, and {} cannot be written: {error}",
                parent.display()
            ),
            "choose another with --data DIR",
        ),
    }
}

/// Tries it with a file that is deleted at once.
fn is_writable(path: &Path) -> io::Result<()> {
    let trial = path.join(format!(".doctor-{}", std::process::id()));
    fs::File::options()
        .write(true)
        .create_new(true)
        .open(&trial)?;
    fs::remove_file(&trial)
}

fn writable(path: &Path) -> Check {
    const NAME: &str = "data folder";
    if let Err(error) = is_writable(path) {
        return Check::fail(
            NAME,
            format!("{} cannot be written: {error}", path.display()),
            "give it to the user that lethe runs as, or choose another with --data DIR",
        );
    }
    match mode(path) {
        Ok(mode) if mode & 0o022 != 0 => Check::warn(
            NAME,
            format!(
                "{} can be written by others (mode {mode:o})",
                path.display()
            ),
            format!("chmod go-w {}", path.display()),
        ),
        _ => Check::ok(NAME, format!("{} can be written", path.display())),
    }
}

/// What the folder is for, by what was left in it.
fn role(folder: &Folder) -> Check {
    let roles = folder.roles();
    if let Some(gone) = folder.chain_is_gone() {
        let advice = format!(
            "put its folder `chain` back, or begin anew: lethe up{} --reset",
            folder.flag()
        );
        return Check::fail("role", crate::output::with_causes(&gone), advice);
    }
    let strangers = folder.strangers();
    let last = LastChain::read(folder).filter(|_| folder.join("chain").is_dir());
    if let Some(last) = last {
        return Check::warn(
            "role",
            format!(
                "of two chains: one is in it, and it was used with another at {}",
                last.shown()
            ),
            format!(
                "`lethe exit{} --rpc-url URL`, with that chain's URL, brings the money there back; without the flag, what is on the chain in it",
                folder.flag()
            ),
        );
    }
    if !strangers.is_empty() {
        return Check::warn(
            "role",
            format!(
                "of `lethe up`, which has its chain in it, and beside it books of another chain: {}",
                strangers.join(", ")
            ),
            format!(
                "`lethe exit{} --rpc-url URL`, with that chain's URL, brings their money back; use each role on a folder of its own",
                folder.flag()
            ),
        );
    }
    let chains = chains(folder);
    if chains.len() > 1 {
        let told = chains.iter().map(|((id, first), books)| {
            format!(
                "{} on the chain of id {id} that begins with {first}",
                books.join(", ")
            )
        });
        return Check::warn(
            "role",
            format!(
                "of {} chains: {}",
                chains.len(),
                told.collect::<Vec<_>>().join("; ")
            ),
            format!(
                "`lethe exit{} --rpc-url URL`, with the URL of each of the chains, brings the money there back; \
                 use each chain with a folder of its own",
                folder.flag()
            ),
        );
    }
    let found = match roles.is_empty() {
        true => "none yet; the first start says what the folder is for".to_owned(),
        false => format!("of `lethe {}`", roles.join("` and `lethe ")),
    };
    Check::ok("role", found)
}

/// The chains that the books in a folder know, by id and first block, with the books
/// of each. Of a folder on which a node runs none: its books are left alone.
pub(super) fn chains(folder: &Folder) -> BTreeMap<(String, String), Vec<String>> {
    let mut chains: BTreeMap<_, Vec<String>> = BTreeMap::new();
    if folder.is_taken().unwrap_or(true) {
        return chains;
    }
    for book in folder.books().unwrap_or_default() {
        let name = book.file_stem().unwrap_or_default().to_string_lossy();
        // What cannot be read is told of the journals.
        for chain in chains_of(&book).unwrap_or_default() {
            chains.entry(chain).or_default().push(name.to_string());
        }
    }
    chains
}

/// The chains that a journal's file knows; it is only read.
fn chains_of(book: &Path) -> rusqlite::Result<BTreeSet<(String, String)>> {
    let connection = Connection::open_with_flags(book, READ_ONLY)?;
    let mut query = connection.prepare(
        "SELECT key, CAST(payload AS TEXT) FROM entries \
         WHERE journal = (SELECT id FROM journals WHERE name = ?1) AND kind = ?2 AND key IS NOT NULL",
    )?;
    let names = [chain_watch::JOURNAL, chain_watch::FIRST_BLOCK];
    let chains = query.query_map(names, |row| Ok((row.get(0)?, row.get(1)?)))?;
    chains.collect()
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

fn lock(folder: &Folder) -> Check {
    const NAME: &str = "lock";
    match (folder.is_taken(), folder.running()) {
        (Ok(true), Ok(running)) if running.is_gateway() => {
            Check::ok(NAME, format!("a node runs on it, at {}", running.base_url))
        }
        (Ok(true), Ok(_)) => Check::ok(NAME, "a node runs on it"),
        (Ok(true), Err(_)) => Check::ok(NAME, "a lethe has it"),
        (Ok(false), Ok(_)) => Check::ok(NAME, "free; the node before did not end by itself"),
        (Ok(false), Err(_)) => Check::ok(NAME, "free"),
        (Err(error), _) => Check::fail(
            NAME,
            format!("cannot be looked at: {error}"),
            "does its disk know locks? choose another with --data DIR",
        ),
    }
}

fn disk(path: &Path) -> Check {
    const NAME: &str = "disk";
    match rustix::fs::statvfs(path) {
        Ok(disk) => room(disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Check::warn(NAME, format!("not known: {error}"), "look with `df`"),
    }
}

/// What so many free bytes mean.
fn room(free: u64) -> Check {
    const NAME: &str = "disk";
    let found = format!("{} MiB free", free >> 20);
    let advice = "free some space: a journal that cannot be written stops the node";
    match free {
        free if free < FREE_BYTES_MIN => Check::fail(NAME, found, advice),
        free if free < FREE_BYTES_FEW => Check::warn(NAME, found, advice),
        _ => Check::ok(NAME, found),
    }
}

fn keys(folder: &Folder) -> Vec<Check> {
    const NAME: &str = "keys";
    let place = folder.join("keys");
    if !place.exists() {
        return vec![no_keys(folder)];
    }
    let mut private = vec![place.clone()];
    private.extend(files_in(&place));
    private.extend(["api-key", "api-keys.json"].map(|name| folder.join(name)));
    let open = private.iter().filter_map(|path| {
        let mode = mode(path).ok()?;
        (mode & 0o077 != 0).then_some((path, mode))
    });
    let mut checks: Vec<Check> = open
        .map(|(path, mode)| {
            let right = if path.is_dir() { "700" } else { "600" };
            Check::fail(
                NAME,
                format!("{} is open to others (mode {mode:o})", path.display()),
                format!(
                    "chmod {right} {}; who has read it may have the money",
                    path.display()
                ),
            )
        })
        .collect();
    if checks.is_empty() {
        let store = Keystore::look(place);
        let read = store
            .phrase()
            .and_then(|phrase| Ok((phrase, store.files()?)));
        checks.push(match read {
            Ok((None, files)) if files.is_empty() => no_keys(folder),
            Ok((phrase, files)) => Check::ok(
                NAME,
                format!(
                    "{} and {} in files of their own; nobody else can read them",
                    if phrase.is_some() {
                        "the words"
                    } else {
                        "no words"
                    },
                    files.len()
                ),
            ),
            Err(error) => Check::fail(
                NAME,
                crate::output::with_causes(&error),
                "restore them from a backup",
            ),
        });
    }
    checks
}

/// A folder without keys: a new one, or one that no role starts on.
fn no_keys(folder: &Folder) -> Check {
    const NAME: &str = "keys";
    match folder.has_books() {
        Ok(true) => Check::fail(
            NAME,
            "there are books and no keys",
            format!(
                "put them back from a backup, or restore them: lethe wallet restore{}",
                folder.flag()
            ),
        ),
        _ => Check::ok(NAME, "none yet; the first start makes them"),
    }
}

/// Books that no role starts with, because they are a copy. Of a folder on which a node runs
/// none: it started with them.
fn copies(folder: &Folder) -> Vec<Check> {
    if folder.is_taken().unwrap_or(true) {
        return Vec::new();
    }
    let mut copies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for book in folder.books().unwrap_or_default() {
        let read = || -> rusqlite::Result<_> {
            let connection = Connection::open_with_flags(&book, READ_ONLY)?;
            identity::copied(&book, |journal, kind| latest(&connection, journal, kind))
        };
        // What cannot be read is told of the journals.
        if let Ok(Some(how)) = read() {
            let name = book.file_name().unwrap_or_default().to_string_lossy();
            copies.entry(how.to_string()).or_default().push(name.into());
        }
    }
    let copies = copies.into_iter().map(|(how, books)| {
        Check::fail(
            "books",
            format!("{} are a copy: {how}", books.join(", ")),
            format!(
                "if another lethe may go on with the original, use that one; if it is gone for good: \
                 lethe wallet adopt{}",
                folder.flag()
            ),
        )
    });
    copies.collect()
}

/// The payloads of a journal's two newest entries of a kind, the newest first.
fn latest(connection: &Connection, journal: &str, kind: &str) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut query = connection.prepare(
        "SELECT payload FROM entries \
         WHERE journal = (SELECT id FROM journals WHERE name = ?1) AND kind = ?2 \
         ORDER BY number DESC LIMIT 2",
    )?;
    let payloads = query.query_map([journal, kind], |row| row.get(0))?;
    payloads.collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn journals(folder: &Folder) -> Check {
    const NAME: &str = "journals";
    let books = match folder.books() {
        Ok(books) => books,
        Err(error) => {
            return Check::fail(
                NAME,
                crate::output::with_causes(&error),
                "look at its modes",
            );
        }
    };
    if books.is_empty() {
        return Check::ok(NAME, "none yet");
    }
    if folder.is_taken().unwrap_or(false) {
        return Check::ok(
            NAME,
            format!(
                "{} are in use by the running node and were left alone",
                books.len()
            ),
        );
    }
    for book in &books {
        let problem = match read_through(book) {
            Ok(()) => continue,
            Err(Unread::NoRoom) => {
                return Check::fail(
                    NAME,
                    format!("{} cannot be read while its disk is full", book.display()),
                    "free some space on that disk and look again; nothing has to be restored for that",
                );
            }
            Err(Unread::Wrong(problem)) => problem,
        };
        return Check::fail(
            NAME,
            format!("{}: {problem}", book.display()),
            format!(
                "stop here and make a copy of the folder; then restore this file from a backup, or the channels \
                 from the words (`lethe wallet restore{}`)",
                folder.flag()
            ),
        );
    }
    Check::ok(NAME, format!("{} can be read and are whole", books.len()))
}

/// Why a journal's file was not read through.
#[derive(Debug)]
enum Unread {
    /// Its disk has no room, which also who only reads needs a little of.
    NoRoom,
    /// It is damaged, or not one of this program's.
    Wrong(String),
}

/// Whether an error of SQLite comes from a disk without room.
fn is_full(book: &Path, error: &rusqlite::Error) -> bool {
    let is_io = error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
    let free = || rustix::fs::statvfs(book).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    store::is_full(error) || (is_io && free().is_ok_and(|free| free < READING_BYTES))
}

/// Reads a journal's file through, without a change to it.
fn read_through(book: &Path) -> Result<(), Unread> {
    let open = || -> rusqlite::Result<(u32, String)> {
        let connection = Connection::open_with_flags(book, READ_ONLY)?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let whole = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        Ok((version, whole))
    };
    let (version, whole) = open().map_err(|error| match is_full(book, &error) {
        true => Unread::NoRoom,
        false => Unread::Wrong(error.to_string()),
    })?;
    if whole != "ok" {
        return Err(Unread::Wrong(whole));
    }
    let known = store::SCHEMA_VERSION;
    match i64::from(version) > i64::from(known) {
        true => Err(Unread::Wrong(format!(
            "it is of a newer lethe (version {version}, known: {known})"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use chain::Network;

    use super::*;
    use crate::doctor::{Verdict, tests::warned};

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        (dir, folder)
    }

    #[test]
    fn a_folder_that_others_write_in_and_a_disk_that_is_nearly_full_are_warned_of() {
        let (dir, _) = folder();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        warned(&writable(dir.path()), "written by others", "chmod go-w");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(writable(dir.path()).verdict, Verdict::Ok);
        warned(&room(FREE_BYTES_FEW - 1), "MiB free", "free some space");
        warned(&disk(&dir.path().join("gone")), "not known", "df");
        assert_eq!(room(FREE_BYTES_MIN - 1).verdict, Verdict::Fail);
        assert_eq!(room(FREE_BYTES_FEW).verdict, Verdict::Ok);
    }

    #[test]
    fn a_folder_of_two_chains_is_warned_of_however_it_came_to_be() {
        let (dir, folder) = folder();
        fs::create_dir(dir.path().join("chain")).unwrap();
        fs::write(dir.path().join("relay.sqlite"), "").unwrap();
        warned(
            &role(&folder),
            "of another chain: relay",
            "a folder of its own",
        );
        let last = LastChain::new(&Network::local(), &["http://a:1".to_owned()]);
        last.keep(&folder).unwrap();
        warned(&role(&folder), "another at http://a:1", "lethe exit --data");
    }

    #[test]
    fn an_empty_folder_of_keys_beside_books_is_none() {
        let (dir, folder) = folder();
        let of = |folder: &Folder| keys(folder).remove(0);
        assert_eq!(of(&folder).verdict, Verdict::Ok);
        fs::create_dir(dir.path().join("keys")).unwrap();
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.path().join("keys"), private).unwrap();
        assert!(of(&folder).found.contains("none yet"));
        fs::write(dir.path().join("consumer.sqlite"), "").unwrap();
        let told = of(&folder);
        assert_eq!(told.verdict, Verdict::Fail, "{told:?}");
        assert!(told.found.contains("books and no keys"), "{told:?}");
    }

    #[test]
    fn a_demonstration_without_its_chain_does_not_start() {
        let (dir, folder) = folder();
        fs::write(dir.path().join("amber.sqlite"), "").unwrap();
        let told = role(&folder);
        assert_eq!(told.verdict, Verdict::Fail, "{told:?}");
        assert!(told.found.contains("its chain is gone"), "{told:?}");
    }

    #[tokio::test]
    async fn copied_books_are_refused_as_at_a_start() {
        let (dir, folder) = folder();
        let book = dir.path().join("consumer.sqlite");
        let store = store::Store::open(&book).unwrap();
        let books = identity::Books::at(&store, &book).unwrap();
        books.start().await.unwrap();
        store.close().await;
        assert_eq!(copies(&folder), []);
        let (other, copy) = self::folder();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), other.path().join(entry.file_name())).unwrap();
        }
        let told = copies(&copy);
        assert_eq!(
            (told.len(), told[0].verdict),
            (1, Verdict::Fail),
            "{told:?}"
        );
        let advice = told[0].advice.as_deref().unwrap();
        assert!(advice.contains("lethe wallet adopt --data"), "{told:?}");
    }

    #[tokio::test]
    async fn books_of_two_chains_are_told_apart_by_their_first_blocks() {
        let (dir, folder) = folder();
        let known = async |name: &str, id: &str, first: &str| {
            let store = store::Store::open(&dir.path().join(name)).unwrap();
            let entry = store::Entry {
                kind: chain_watch::FIRST_BLOCK.into(),
                key: Some(id.into()),
                payload: first.into(),
            };
            let journal = store.journal(chain_watch::JOURNAL);
            journal.append(vec![entry]).await.unwrap();
            store.close().await;
        };
        known("consumer.sqlite", "31337", "0xaa").await;
        known("relay.sqlite", "31337", "0xaa").await;
        assert_eq!(role(&folder).verdict, Verdict::Ok);
        known("provider.sqlite", "31337", "0xbb").await;
        let told = role(&folder);
        warned(&told, "of 2 chains", "--rpc-url URL");
        for books in ["consumer, relay on the chain", "provider on the chain"] {
            assert!(told.found.contains(books), "{}", told.found);
        }
    }
}
