//! The data folder: whether it can be written, who has it, its disk, its keys
//! and its journals. Everything is opened to read only.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::Check;
use crate::folder::Folder;
use crate::keystore::Keystore;
use crate::last_chain::LastChain;

/// Below this a node soon has no room for its journals.
const FREE_BYTES_MIN: u64 = 100 << 20;
/// Below this a full disk is not far.
const FREE_BYTES_FEW: u64 = 1 << 30;

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
    let found = match roles.is_empty() {
        true => "none yet; the first start says what the folder is for".to_owned(),
        false => format!("of `lethe {}`", roles.join("` and `lethe ")),
    };
    Check::ok("role", found)
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

fn lock(folder: &Folder) -> Check {
    const NAME: &str = "lock";
    match (folder.is_taken(), folder.running()) {
        (Ok(true), Ok(running)) => {
            Check::ok(NAME, format!("a node runs on it, at {}", running.base_url))
        }
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
    let free = match rustix::fs::statvfs(path) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return Check::warn(NAME, format!("not known: {error}"), "look with `df`"),
    };
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
        return vec![match folder.has_books() {
            Ok(true) => Check::fail(
                NAME,
                "there are books and no keys",
                format!("restore them: lethe wallet restore{}", folder.flag()),
            ),
            _ => Check::ok(NAME, "none yet; the first start makes them"),
        }];
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
        if let Err(problem) = read_through(book) {
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
    }
    Check::ok(NAME, format!("{} can be read and are whole", books.len()))
}

/// Reads a journal's file through, without a change to it.
fn read_through(book: &Path) -> Result<(), String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<(u32, String)> {
        let connection = Connection::open_with_flags(book, flags)?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let whole = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        Ok((version, whole))
    };
    let (version, whole) = open().map_err(|error| error.to_string())?;
    if whole != "ok" {
        return Err(whole);
    }
    let known = store::SCHEMA_VERSION;
    match i64::from(version) > i64::from(known) {
        true => Err(format!(
            "it is of a newer lethe (version {version}, known: {known})"
        )),
        false => Ok(()),
    }
}
