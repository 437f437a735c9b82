//! Durable state: journals on one SQLite file, with group commit.
//!
//! A journal is a named list of entries that only grows; its owner folds it
//! into state when it starts. [`Journal::append`] returns when the entries
//! are on the disk and not before, because "journal before sign, sign before
//! send" rests on it. One thread owns the database: every append that waits
//! when it turns to its queue shares one transaction and one fsync. What an
//! entry means is its owner's business; nothing here reads a payload.

mod database;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

pub use database::{OpenError, SCHEMA_VERSION, is_full};
use writer::{Append, Command, Writer};

/// The most entries in one [`Journal::append`].
pub const MAX_ENTRIES: usize = 1024;

/// The longest name of a journal, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// The longest kind of an entry, in bytes.
pub const MAX_KIND_BYTES: usize = 64;

/// The longest key of an entry, in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// The longest payload of an entry, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

/// Entries of [`Scan::next`], about; a journal is never cut.
const PAGE_ENTRIES: usize = 4096;

/// Some journals with all their entries, in four pieces of memory whatever
/// their number: a scan passes hundreds of thousands of entries from one
/// thread to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    journals: Vec<Head>,
    /// All names and kinds.
    words: String,
    payloads: Vec<u8>,
    /// Where each entry's kind and payload end.
    ends: Vec<(usize, usize)>,
}

/// Where a journal begins in its [`Page`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    id: i64,
    name: (usize, usize),
    payloads: usize,
    entries: usize,
}

impl Page {
    fn begin(&mut self, id: i64, name: &str) {
        let start = self.words.len();
        self.words.push_str(name);
        self.journals.push(Head {
            id,
            name: (start, self.words.len()),
            payloads: self.payloads.len(),
            entries: self.ends.len(),
        });
    }

    fn push(&mut self, kind: &str, payload: &[u8]) {
        self.words.push_str(kind);
        self.payloads.extend_from_slice(payload);
        self.ends.push((self.words.len(), self.payloads.len()));
    }

    /// The journal that was begun last.
    fn last(&self) -> Option<i64> {
        self.journals.last().map(|head| head.id)
    }

    /// Whether it has no journals.
    pub fn is_empty(&self) -> bool {
        self.journals.is_empty()
    }

    /// Its journals, in the order in which they came to be.
    pub fn journals(&self) -> impl Iterator<Item = Loaded<'_>> {
        let nexts = self.journals.iter().skip(1).map(|head| head.entries);
        let ends = nexts.chain([self.ends.len()]);
        let journals = self.journals.iter().zip(ends);
        journals.map(|(head, end)| Loaded {
            name: &self.words[head.name.0..head.name.1],
            page: self,
            start: (head.name.1, head.payloads),
            ends: &self.ends[head.entries..end],
        })
    }
}

/// A journal of a [`Page`].
#[derive(Debug, Clone, Copy)]
pub struct Loaded<'a> {
    /// Its name.
    pub name: &'a str,
    page: &'a Page,
    start: (usize, usize),
    ends: &'a [(usize, usize)],
}

impl<'a> Loaded<'a> {
    /// Its entries, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let (page, ends) = (self.page, self.ends);
        let starts = [self.start].into_iter().chain(ends.iter().copied());
        let bounds = starts.zip(ends);
        bounds.map(|((kind, payload), (kind_end, payload_end))| Line {
            kind: &page.words[kind..*kind_end],
            payload: &page.payloads[payload..*payload_end],
        })
    }
}

/// An [`Entry`] as it is read: what happened, and the owner's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// What happened, in a word.
    pub kind: &'a str,
    /// The owner's text.
    pub payload: &'a [u8],
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened, in a word: `voucher`, `receipt`.
    pub kind: String,
    /// What it is about, for [`Journal::find`].
    pub key: Option<String>,
    /// The owner's text, JSON by custom.
    pub payload: Vec<u8>,
}

impl Entry {
    /// What is read of it.
    pub fn line(&self) -> Line<'_> {
        Line {
            kind: &self.kind,
            payload: &self.payload,
        }
    }
}

/// Why entries were not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written: the caller asks for what no journal holds.
    #[error("{what} is {size} long (allowed: {limit})")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Nothing was written: the disk, or the limit of the file, is full. Works again when there is room.
    #[error("no room left for the journal: free some space on its disk")]
    Full {
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Whether it was written is not known; the store takes nothing more
    /// until it is opened again, which tells.
    #[error("the journal could not be written: restart once its disk is well")]
    Disk {
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// An earlier [`AppendError::Disk`] closed the store for writing.
    #[error(
        "the journal takes no entries since an earlier write failed: restart once its disk is well"
    )]
    Refused {
        /// That earlier failure.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a journal could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read, or is damaged.
    #[error("the journal could not be read")]
    Disk {
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// An open store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    writer: Arc<Writer>,
}

/// A named journal of a [`Store`]. Clones are the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    writer: Arc<Writer>,
    name: Arc<str>,
}

/// A pass over many journals; see [`Store::scan`].
#[derive(Debug)]
pub struct Scan {
    writer: Arc<Writer>,
    prefix: Arc<str>,
    /// The page after the last one, which is read while that is looked at.
    ahead: Option<oneshot::Receiver<Result<Page, LoadError>>>,
}

impl Store {
    /// Opens the file at `path`, or makes it; its folder must exist. Only one
    /// store at a time, in any process, has a file open. Blocks for the time
    /// of a check of the whole file.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let writer = Arc::new(Writer::start(database::Database::open(path)?)?);
        Ok(Self { writer })
    }

    /// The journal of this name; it comes to be with its first entry.
    pub fn journal(&self, name: &str) -> Journal {
        Journal {
            writer: Arc::clone(&self.writer),
            name: name.into(),
        }
    }

    /// The names of all journals that start with `prefix`, sorted.
    pub async fn journals(&self, prefix: &str) -> Result<Vec<String>, LoadError> {
        let prefix = prefix.to_owned();
        self.writer
            .read(|reply| Command::Journals { prefix, reply })
            .await
    }

    /// All journals whose names start with `prefix`, with their entries: one
    /// pass over the file, where loading them one by one looks each of them up.
    pub fn scan(&self, prefix: &str) -> Scan {
        Scan {
            writer: Arc::clone(&self.writer),
            prefix: prefix.into(),
            ahead: None,
        }
    }

    /// How many transactions were committed since the store was opened.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// Writes what is queued, closes the file and lets go of it. What comes
    /// later is answered with `Closed`. Dropping every handle does the same,
    /// but blocks the thread meanwhile.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

impl Scan {
    /// The next journals, oldest first: a few thousand entries at a time.
    /// Empty: there are no more. What is appended meanwhile may be among them.
    pub async fn next(&mut self) -> Result<Page, LoadError> {
        let asked = match self.ahead.take() {
            Some(asked) => asked,
            None => self.ask(0).await?,
        };
        let page = asked.await.unwrap_or(Err(LoadError::Closed))?;
        if let Some(last) = page.last() {
            self.ahead = Some(self.ask(last).await?);
        }
        Ok(page)
    }

    async fn ask(
        &self,
        after: i64,
    ) -> Result<oneshot::Receiver<Result<Page, LoadError>>, LoadError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::LoadNext {
            prefix: Arc::clone(&self.prefix),
            after,
            entries: PAGE_ENTRIES,
            reply,
        };
        let asked = self.writer.send(command).await;
        asked.map_err(|_| LoadError::Closed)?;
        Ok(answer)
    }
}

impl Journal {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds `entries`, all or none, and returns the number of the last entry
    /// of the journal, counted from 1. They are on the disk by then. Appends
    /// to one journal are written in the order of the calls. A dropped future
    /// may have written or not.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<u64, AppendError> {
        check(&self.name, &entries)?;
        let (reply, answer) = oneshot::channel();
        let append = Append {
            journal: Arc::clone(&self.name),
            entries,
            reply,
        };
        self.writer
            .send(Command::Append(append))
            .await
            .map_err(|_| AppendError::Closed)?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// All entries, in order.
    pub async fn load(&self) -> Result<Vec<Entry>, LoadError> {
        let journal = Arc::clone(&self.name);
        self.writer
            .read(|reply| Command::Load { journal, reply })
            .await
    }

    /// The newest entry of this kind and key.
    pub async fn find(&self, kind: &str, key: &str) -> Result<Option<Entry>, LoadError> {
        let journal = Arc::clone(&self.name);
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.writer
            .read(|reply| Command::Find {
                journal,
                kind,
                key,
                reply,
            })
            .await
    }

    /// The newest entries of this kind, at most `limit`, newest first.
    pub async fn recent(&self, kind: &str, limit: usize) -> Result<Vec<Entry>, LoadError> {
        let journal = Arc::clone(&self.name);
        let kind = kind.to_owned();
        self.writer
            .read(|reply| Command::Recent {
                journal,
                kind,
                limit,
                reply,
            })
            .await
    }
}

/// Refuses before the queue what no journal holds.
fn check(name: &str, entries: &[Entry]) -> Result<(), AppendError> {
    let within = |what, size, limit| {
        if size > limit {
            return Err(AppendError::TooLarge { what, size, limit });
        }
        Ok(())
    };
    within("the journal's name", name.len(), MAX_NAME_BYTES)?;
    within("the list of entries", entries.len(), MAX_ENTRIES)?;
    for entry in entries {
        within("an entry's kind", entry.kind.len(), MAX_KIND_BYTES)?;
        within(
            "an entry's key",
            entry.key.as_ref().map_or(0, String::len),
            MAX_KEY_BYTES,
        )?;
        within("an entry's payload", entry.payload.len(), MAX_PAYLOAD_BYTES)?;
    }
    Ok(())
}
