//! Which copy of the books this is. Two nodes that sign for the same channels
//! cost their owner money, so books that were copied, or put back from a
//! backup, are not used before their owner says so (`lethe wallet adopt`).
//!
//! The books say on which machine and in which file they were made; a copy is
//! another file. And each start leaves a mark in the books and in a small file
//! beside them; when the books alone are put back, the two do not agree.
//! A machine that is cloned with its disk, and a whole folder whose files are
//! overwritten in place, look the same from here: those are found out by what
//! provider and chain know (`market::Purse::restore`, `market::Till`).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{AppendError, Entry, LoadError, Store};

use crate::folder::flag_of;
use crate::keystore::write_private;

/// The journal that says so.
const JOURNAL: &str = "identity";
/// Entries that bind the books to a place.
const BOUND: &str = "bound";
/// Entries of one start each.
const STARTED: &str = "started";
/// The ending of the file beside the books.
const MARK: &str = "mark";
/// Where a machine's name for itself is.
const MACHINE_ID: &str = "/etc/machine-id";

/// Why the books are not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(
        "the books {path:?} are a copy: {how}. If another lethe may go on with the original, use that one. \
         If the original is gone for good, run `lethe wallet adopt{}`: it signs nothing on their \
         channels until all receipts are fetched and the chain proves them",
        flag_of(folder(path))
    )]
    Copied { path: PathBuf, how: Copied },
    #[error("the mark {path:?} of the last start cannot be read or written")]
    Mark {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the books cannot be read")]
    Load(#[from] LoadError),
    #[error("the books cannot be written")]
    Append(#[from] AppendError),
    #[error("the books {path:?} do not say where they were made; restore them from a backup")]
    Entry {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// How it shows that books are a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Copied {
    #[error("they were made on another machine")]
    Machine,
    #[error("they were made in another file than they are in now")]
    File,
    #[error("they are older or newer than the mark of their last start beside them")]
    Mark,
}

/// Where books are: what a copy does not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spot {
    /// The machine, if it has a name for itself; never that name.
    machine: Option<String>,
    inode: u64,
    /// When the file was made, where the file system knows.
    born_ns: Option<u64>,
}

impl Spot {
    /// Where the file at `path` is. Its device is left out: numbers of
    /// devices change from one start of a machine to the next.
    fn of(path: &Path, machine_id: &str) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let since = |time: std::time::SystemTime| {
            let age = time.duration_since(std::time::UNIX_EPOCH).ok()?;
            u64::try_from(age.as_nanos()).ok()
        };
        let digest = || {
            let tagged = [b"lethe books v1\n", machine_id.as_bytes()].concat();
            hex::encode(&Sha256::digest(tagged)[..16])
        };
        Ok(Self {
            machine: (!machine_id.is_empty()).then(digest),
            inode: metadata.ino(),
            born_ns: metadata.created().ok().and_then(since),
        })
    }

    /// Whether books that were made at `self` and are at `here` are a copy.
    /// What one of the two does not know is not compared.
    fn moved(&self, here: &Self) -> Option<Copied> {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        if differ(&self.machine, &here.machine) {
            return Some(Copied::Machine);
        }
        let born = self.born_ns.is_some() && here.born_ns.is_some() && self.born_ns != here.born_ns;
        (self.inode != here.inode || born).then_some(Copied::File)
    }
}

/// What the books say.
#[derive(Default)]
struct Said {
    spot: Option<Spot>,
    last: Option<String>,
    before: Option<String>,
}

impl Said {
    /// Whether the file beside the books is of their last start, or of the
    /// one before if that one was cut off.
    fn agrees(&self, mark: Option<&str>) -> bool {
        self.last.is_none() || mark == self.last.as_deref() || mark == self.before.as_deref()
    }

    /// Whether the books that say so are a copy, in this place and with this mark beside them.
    fn copied(&self, here: &Spot, mark: Option<&str>) -> Option<Copied> {
        match &self.spot {
            // Books without a word of themselves are new, or from before there was one.
            None => mark.is_some().then_some(Copied::Mark),
            Some(spot) => {
                let moved = spot.moved(here);
                moved.or_else(|| (!self.agrees(mark)).then_some(Copied::Mark))
            }
        }
    }
}

/// How it shows that the books at `path` are a copy, which no role starts with; they are only
/// looked at. `latest`: the payloads of their journal of this name and kind, the newest first.
pub(crate) fn copied<E>(
    path: &Path,
    latest: impl Fn(&str, &str) -> Result<Vec<Vec<u8>>, E>,
) -> Result<Option<Copied>, E> {
    let (Ok(here), Ok(mark)) = (here(path), mark(&mark_path(path))) else {
        // Where that cannot be read, no start says whether they are one.
        return Ok(None);
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let spot = latest(JOURNAL, BOUND)?.into_iter().next();
    let mut starts = latest(JOURNAL, STARTED)?.into_iter().map(text);
    let said = Said {
        spot: spot.and_then(|spot| serde_json::from_slice(&spot).ok()),
        last: starts.next(),
        before: starts.next(),
    };
    Ok(said.copied(&here, mark.as_deref()))
}

/// Where the file at `path` is on this machine.
fn here(path: &Path) -> io::Result<Spot> {
    // Not everywhere is there such a file.
    let machine_id = fs::read_to_string(MACHINE_ID).unwrap_or_default();
    Spot::of(path, machine_id.trim())
}

/// The file beside the books at `path`.
fn mark_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(MARK);
    name.into()
}

/// What that file says.
fn mark(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(source),
    }
}

/// Books at a path, while they are open.
pub(crate) struct Books<'a> {
    store: &'a Store,
    path: &'a Path,
    here: Spot,
}

impl<'a> Books<'a> {
    /// The books in `store`, which is the file at `path`.
    pub(crate) fn at(store: &'a Store, path: &'a Path) -> Result<Self, IdentityError> {
        let here = here(path).map_err(|source| IdentityError::Mark {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { store, path, here })
    }

    /// Lets them be used if they are no copy, and notes this start.
    pub(crate) async fn start(&self) -> Result<(), IdentityError> {
        let said = self.said().await?;
        let mark = self.mark()?;
        if let Some(how) = said.copied(&self.here, mark.as_deref()) {
            return Err(IdentityError::Copied {
                path: self.path.to_owned(),
                how,
            });
        }
        if said.spot.is_none() {
            self.bind().await?;
        }
        // A start that was cut off is made up for, so that the file is never two behind.
        if let Some(last) = said.last.filter(|last| mark.as_ref() != Some(last)) {
            self.write_mark(&last)?;
        }
        self.started().await
    }

    /// Binds them to where they are now, whatever they said.
    pub(crate) async fn adopt(&self) -> Result<(), IdentityError> {
        self.bind().await?;
        self.started().await
    }

    async fn bind(&self) -> Result<(), IdentityError> {
        let payload = serde_json::to_vec(&self.here).expect("a spot has only string keys");
        self.append(BOUND, payload).await
    }

    async fn started(&self) -> Result<(), IdentityError> {
        let mark = hex::encode(rand::random::<[u8; 16]>());
        self.append(STARTED, mark.clone().into_bytes()).await?;
        self.write_mark(&mark)
    }

    async fn append(&self, kind: &str, payload: Vec<u8>) -> Result<(), IdentityError> {
        let entry = Entry {
            kind: kind.to_owned(),
            key: None,
            payload,
        };
        self.store.journal(JOURNAL).append(vec![entry]).await?;
        Ok(())
    }

    async fn said(&self) -> Result<Said, IdentityError> {
        let journal = self.store.journal(JOURNAL);
        let spot = journal.recent(BOUND, 1).await?;
        let spot = spot
            .first()
            .map(|entry| serde_json::from_slice(&entry.payload));
        let spot = spot.transpose().map_err(|source| IdentityError::Entry {
            path: self.path.to_owned(),
            source,
        })?;
        let text = |entry: Entry| String::from_utf8_lossy(&entry.payload).into_owned();
        let mut starts = journal.recent(STARTED, 2).await?.into_iter().map(text);
        Ok(Said {
            spot,
            last: starts.next(),
            before: starts.next(),
        })
    }

    fn mark(&self) -> Result<Option<String>, IdentityError> {
        let path = mark_path(self.path);
        mark(&path).map_err(|source| IdentityError::Mark { path, source })
    }

    fn write_mark(&self, mark: &str) -> Result<(), IdentityError> {
        let path = mark_path(self.path);
        write_private(&path, mark.as_bytes()).map_err(|source| IdentityError::Mark { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn start(path: &Path) -> Result<(), IdentityError> {
        let store = Store::open(path).unwrap();
        let started = Books::at(&store, path).unwrap().start().await;
        store.close().await;
        started
    }

    async fn adopt(path: &Path) {
        let store = Store::open(path).unwrap();
        Books::at(&store, path).unwrap().adopt().await.unwrap();
        store.close().await;
    }

    fn how(started: Result<(), IdentityError>) -> Copied {
        match started {
            Err(IdentityError::Copied { how, path }) => {
                let text = IdentityError::Copied { how, path }.to_string();
                assert!(text.contains("lethe wallet adopt --data"), "{text}");
                how
            }
            other => panic!("{other:?}"),
        }
    }

    /// As `cp -a` does: the same bytes and names in another folder.
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[tokio::test]
    async fn books_start_again_where_they_were_made_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&first).unwrap();
        let name = "consumer.sqlite";
        for _ in 0..3 {
            start(&first.join(name)).await.unwrap();
        }
        copy(&first, &second);
        assert_eq!(how(start(&second.join(name)).await), Copied::File);
        // To move a folder is no copy.
        let third = folder.path().join("c");
        fs::rename(&first, &third).unwrap();
        start(&third.join(name)).await.unwrap();

        adopt(&second.join(name)).await;
        start(&second.join(name)).await.unwrap();
        start(&third.join(name)).await.unwrap();
    }

    #[tokio::test]
    async fn books_that_were_put_back_alone_are_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consumer.sqlite");
        start(&path).await.unwrap();
        let backup = fs::read(&path).unwrap();
        start(&path).await.unwrap();
        start(&path).await.unwrap();
        // In place: the same file, with what it held before.
        fs::write(&path, &backup).unwrap();
        assert_eq!(how(start(&path).await), Copied::Mark);
        adopt(&path).await;
        start(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_start_that_was_cut_off_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consumer.sqlite");
        let mark = folder.path().join("consumer.sqlite.mark");
        start(&path).await.unwrap();
        let mut before = fs::read(&mark).unwrap();
        for _ in 0..3 {
            start(&path).await.unwrap();
            let after = fs::read(&mark).unwrap();
            // The kill came between the books and the file.
            fs::write(&mark, before).unwrap();
            before = after;
        }
        start(&path).await.unwrap();
        // And at the very first one there is no file yet.
        let other = folder.path().join("other.sqlite");
        start(&other).await.unwrap();
        fs::remove_file(folder.path().join("other.sqlite.mark")).unwrap();
        start(&other).await.unwrap();
    }

    #[tokio::test]
    async fn books_that_were_emptied_are_not_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consumer.sqlite");
        start(&path).await.unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(how(start(&path).await), Copied::Mark);
    }

    #[test]
    fn what_a_copy_does_not_share() {
        let spot = |machine: Option<&str>, inode, born_ns| Spot {
            machine: machine.map(str::to_owned),
            inode,
            born_ns,
        };
        let made = spot(Some("a"), 1, Some(5));
        for (here, expected) in [
            (made.clone(), None),
            (spot(None, 1, None), None),
            (spot(Some("b"), 1, Some(5)), Some(Copied::Machine)),
            (spot(Some("a"), 2, Some(5)), Some(Copied::File)),
            (spot(Some("a"), 1, Some(6)), Some(Copied::File)),
            (spot(None, 2, None), Some(Copied::File)),
        ] {
            assert_eq!(made.moved(&here), expected, "{here:?}");
        }
    }

    #[test]
    fn the_machine_is_not_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spot = Spot::of(file.path(), "machine-of-somebody").unwrap();
        let text = serde_json::to_string(&spot).unwrap();
        assert!(!text.contains("somebody"), "{text}");
        assert_ne!(spot, Spot::of(file.path(), "another").unwrap());
    }
}
