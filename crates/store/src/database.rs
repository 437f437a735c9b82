//! The file: its lock, its schema, and every SQL statement.
//!
//! The lock is a file of its own beside the database, held as long as the
//! store is open and let go by the kernel when the process dies, however it
//! dies. Write-ahead log with `synchronous=FULL`: each commit fsyncs the log
//! before it returns.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::writer::Append;
use crate::{Entry, Page};

/// The schema that this code writes; kept in the file's `user_version`.
pub const SCHEMA_VERSION: u32 = 1;

/// Marks the file as ours ("LTHE"); kept in its `application_id`.
const APPLICATION_ID: u32 = 0x4c54_4845;

/// No file that has anything in it is shorter: the smallest page of SQLite.
const SHORTEST_BYTES: u64 = 512;

/// Pages in the log before they are moved to the file, which takes two syncs
/// and many small writes: 16 MB.
const CHECKPOINT_PAGES: u32 = 4096;

const SCHEMA: &str = "
    CREATE TABLE journals (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE entries (
        journal INTEGER NOT NULL REFERENCES journals (id),
        number INTEGER NOT NULL,
        kind TEXT NOT NULL,
        key TEXT,
        payload BLOB NOT NULL,
        PRIMARY KEY (journal, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX entries_by_key ON entries (journal, kind, key, number) WHERE key IS NOT NULL;
    CREATE INDEX entries_by_kind ON entries (journal, kind, number);
";

/// The plus keeps SQLite from walking the index of names.
const LOAD_NEXT: &str = "
    SELECT kind, key, payload, name, id
    FROM journals CROSS JOIN entries ON entries.journal = journals.id
    WHERE id > ?2 AND substr(+name, 1, length(?1)) = ?1
    ORDER BY id, number
";

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is missing, or may not be written.
    #[error("data folder {} cannot be written: make it, or give this user the right to write in it", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another store has it open.
    #[error("data folder is in use by another process ({} is locked): stop that one, or use another folder", lock.display())]
    InUse {
        /// The lock file.
        lock: PathBuf,
    },
    /// The file is not one of ours.
    #[error("{} is not a data file of this program: move it away, or use another folder", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{} has schema version {found}, this program knows up to {known}: use the newer program", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that this code knows.
        known: u32,
    },
    /// The file is damaged.
    #[error("{} is damaged: restore it from a backup ({finding})", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What the check found first.
        finding: String,
    },
    /// The file system cannot hold a write-ahead log (some network drives).
    #[error("{} is on a file system without write-ahead logs (mode {mode}): use a folder on a local disk", path.display())]
    NoLog {
        /// Which.
        path: PathBuf,
        /// The mode that SQLite fell back to.
        mode: String,
    },
    /// The disk, or the limit of the file, is full. Nothing is lost by that: it opens when there is room.
    #[error("no room left on the disk of {}: free some space", path.display())]
    Full {
        /// Which.
        path: PathBuf,
        /// What SQLite or the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// SQLite cannot work with the file.
    #[error("{} cannot be opened", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The system gives no thread.
    #[error("no thread for the store")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The open file and its lock.
pub(crate) struct Database {
    // Before the lock: fields drop in this order.
    connection: Connection,
    _lock: File,
}

impl Database {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let file = private_file(path).map_err(|source| folder_error(path, source))?;
        if let Some(bytes) = cut(&file, path).map_err(|source| folder_error(path, source))? {
            return Err(OpenError::Damaged {
                path: path.into(),
                finding: format!("it was cut to {bytes} bytes"),
            });
        }
        let connection = prepare(path).map_err(|error| match error {
            Trouble::Sqlite(source) => sqlite_error(path, source),
            Trouble::Open(error) => error,
        })?;
        Ok(Self {
            connection,
            _lock: lock,
        })
    }

    /// Writes all of `group` in one transaction and returns the last number
    /// of each. On an error none is written.
    pub(crate) fn append(&mut self, group: &[Append]) -> rusqlite::Result<Vec<u64>> {
        let transaction = self.connection.transaction()?;
        let mut numbers = Vec::with_capacity(group.len());
        for append in group {
            numbers.push(append_one(&transaction, append)?);
        }
        failpoint::hit("store.commit.before");
        transaction.commit()?;
        failpoint::hit("store.commit.after");
        Ok(numbers)
    }

    /// Lets the file grow by no more than `pages`, as a full disk would.
    #[cfg(test)]
    pub(crate) fn limit_growth(&self, pages: u32) -> rusqlite::Result<()> {
        let count: u32 = self
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))?;
        self.connection
            .pragma_update_and_check(None, "max_page_count", count + pages, |_| Ok(()))
    }

    /// Whether commits reach the disk before they return.
    #[cfg(test)]
    pub(crate) fn modes(&self) -> rusqlite::Result<(String, u32)> {
        let journal = self
            .connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous = self
            .connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))?;
        Ok((journal, synchronous))
    }

    pub(crate) fn load(&self, journal: &str) -> rusqlite::Result<Vec<Entry>> {
        self.connection
            .prepare_cached(
                "SELECT kind, key, payload FROM entries
                 JOIN journals ON journals.id = entries.journal
                 WHERE journals.name = ?1 ORDER BY number",
            )?
            .query_map([journal], entry)?
            .collect()
    }

    pub(crate) fn find(
        &self,
        journal: &str,
        kind: &str,
        key: &str,
    ) -> rusqlite::Result<Option<Entry>> {
        self.connection
            .prepare_cached(
                "SELECT kind, key, payload FROM entries
                 WHERE journal = (SELECT id FROM journals WHERE name = ?1) AND kind = ?2 AND key = ?3
                 ORDER BY number DESC LIMIT 1",
            )?
            .query_row([journal, kind, key], entry)
            .optional()
    }

    pub(crate) fn recent(
        &self,
        journal: &str,
        kind: &str,
        limit: usize,
    ) -> rusqlite::Result<Vec<Entry>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(
                "SELECT kind, key, payload FROM entries
                 WHERE journal = (SELECT id FROM journals WHERE name = ?1) AND kind = ?2
                 ORDER BY number DESC LIMIT ?3",
            )?
            .query_map(params![journal, kind, limit], entry)?
            .collect()
    }

    pub(crate) fn journals(&self, prefix: &str) -> rusqlite::Result<Vec<String>> {
        self.connection
            .prepare_cached(
                "SELECT name FROM journals WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name",
            )?
            .query_map([prefix], |row| row.get(0))?
            .collect()
    }

    /// The journals behind `after` until there are so many entries. Both tables
    /// are walked in the order of their keys; nothing is looked up or sorted.
    pub(crate) fn load_next(
        &self,
        prefix: &str,
        after: i64,
        entries: usize,
    ) -> rusqlite::Result<Page> {
        let mut query = self.connection.prepare_cached(LOAD_NEXT)?;
        let mut rows = query.query(params![prefix, after])?;
        let (mut page, mut count) = (Page::default(), 0);
        while let Some(row) = rows.next()? {
            let id = row.get(4)?;
            if page.last() != Some(id) {
                if count >= entries {
                    break;
                }
                page.begin(id, row.get_ref(3)?.as_str()?);
            }
            count += 1;
            page.push(row.get_ref(0)?.as_str()?, row.get_ref(2)?.as_blob()?);
        }
        Ok(page)
    }

    /// Folds the log into the file, so that one file is all there is.
    pub(crate) fn close(self) {
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the store's file did not close; nothing is lost");
        }
    }
}

fn append_one(transaction: &Transaction<'_>, append: &Append) -> rusqlite::Result<u64> {
    transaction
        .prepare_cached("INSERT INTO journals (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?
        .execute([&*append.journal])?;
    let (journal, last): (i64, i64) = transaction
        .prepare_cached(
            "SELECT id, coalesce((SELECT max(number) FROM entries WHERE journal = id), 0)
             FROM journals WHERE name = ?1",
        )?
        .query_row([&*append.journal], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO entries (journal, number, kind, key, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut number = last;
    for entry in &append.entries {
        number += 1;
        insert.execute(params![
            journal,
            number,
            entry.kind,
            entry.key,
            entry.payload
        ])?;
    }
    Ok(u64::try_from(number).expect("numbers count up from 1"))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        kind: row.get(0)?,
        key: row.get(1)?,
        payload: row.get(2)?,
    })
}

/// What can go wrong while a file is prepared.
enum Trouble {
    Sqlite(rusqlite::Error),
    Open(OpenError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// To how many bytes a file was cut, if it does not end with a page. SQLite
/// would fill the last page with zeros, or take what is left for a new file. A
/// crash leaves such an end too, but then the log has the whole page.
fn cut(mut file: &File, path: &Path) -> io::Result<Option<u64>> {
    let bytes = file.metadata()?.len();
    let log = log_of(path);
    if bytes == 0 || log.metadata().is_ok_and(|log| log.len() > 0) {
        return Ok(None);
    }
    if bytes < SHORTEST_BYTES {
        return Ok(Some(bytes));
    }
    let mut head = [0; 18];
    file.read_exact(&mut head)?;
    // The size of a page, as the file says it; 1 stands for the largest.
    let page = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        said => u64::from(said),
    };
    // What says no such size is none of ours; that is told later.
    let ends_within = page.is_power_of_two() && page >= SHORTEST_BYTES && bytes % page != 0;
    Ok(ends_within.then_some(bytes))
}

/// Where SQLite keeps the log of a file.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn prepare(path: &Path) -> Result<Connection, Trouble> {
    let mut connection = Connection::open(path)?;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: u32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = tables == 0 && found == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(Trouble::Open(OpenError::Foreign { path: path.into() }));
    }
    if !is_new && found == 0 {
        return Err(Trouble::Open(OpenError::Damaged {
            path: path.into(),
            finding: "it has tables and no schema version".into(),
        }));
    }
    if found > SCHEMA_VERSION {
        return Err(Trouble::Open(OpenError::Newer {
            path: path.into(),
            found,
            known: SCHEMA_VERSION,
        }));
    }
    let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if finding != "ok" {
        return Err(Trouble::Open(OpenError::Damaged {
            path: path.into(),
            finding,
        }));
    }

    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Trouble::Open(OpenError::NoLog {
            path: path.into(),
            mode,
        }));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Where the system's fsync does not reach the disk itself (macOS).
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if is_new {
        failpoint::hit("store.made.before");
        create(&mut connection)?;
        failpoint::hit("store.made.after");
    }
    Ok(connection)
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

fn sqlite_error(path: &Path, source: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match source.sqlite_error_code() {
        Some(NotADatabase | DatabaseCorrupt) => OpenError::Damaged {
            path: path.into(),
            finding: source.to_string(),
        },
        _ if is_full(&source) => OpenError::Full {
            path: path.into(),
            source: Box::new(source),
        },
        _ => OpenError::Database {
            path: path.into(),
            source,
        },
    }
}

/// Whether an error says that there is no room left, in one of SQLite's two ways: for the file,
/// or for the index of its log, which even who only reads has to make.
pub fn is_full(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_FULL, SQLITE_IOERR_SHMSIZE};
    let said = error.sqlite_error();
    said.is_some_and(|it| [SQLITE_FULL, SQLITE_IOERR_SHMSIZE].contains(&it.extended_code))
}

fn folder_error(path: &Path, source: io::Error) -> OpenError {
    if source.kind() == io::ErrorKind::StorageFull {
        return OpenError::Full {
            path: path.into(),
            source: Box::new(source),
        };
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    OpenError::Folder {
        folder: folder.into(),
        source,
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let file = private_file(&lock).map_err(|source| folder_error(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { lock }),
        Err(TryLockError::Error(source)) => Err(folder_error(path, source)),
    }
}

/// Opens a file that only its owner may read, and makes it if need be.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
