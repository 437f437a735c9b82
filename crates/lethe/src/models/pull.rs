//! Brings one file: into `FILE.part`, on from where it broke off, renamed
//! only when it is whole and has its checksum.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::HumanBytes;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::ModelsError;
use super::hub::{Hub, HubError, begins};
use super::pulled::{Note, Paths};
use super::reference::{Digest, Reference};
use crate::progress::Transfer;

/// Tries that bring nothing new before it is given up.
const TRIES_MAX: u32 = 5;
/// Before the second try; before each further one twice as long.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// What stays free on the disk: a journal that cannot be written stops a node.
const DISK_RESERVE_BYTES: u64 = 512 * 1024 * 1024;
/// Read at a time, of what is there already.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(
        "{server} does not say what the file's SHA-256 is, so it could not be checked; give --sha256 HEX, as the \
         model's page has it"
    )]
    NoDigest { server: String },
    #[error(
        "{server} is spoken to without TLS, so what it says of the file proves nothing; give --sha256 HEX, or an \
         https:// address"
    )]
    Untrusted { server: String },
    #[error("{server} does not say how large the file is; another one: --mirror URL")]
    NoSize { server: String },
    #[error("the file has {}, allowed are {} (--size-max GIB)", HumanBytes(*.bytes), HumanBytes(*.max))]
    TooLarge { bytes: u64, max: u64 },
    #[error(
        "the disk of {path:?} has {} free, {} are needed and {} stay free; free some, or choose another with --data DIR",
        HumanBytes(*.free), HumanBytes(*.needed), HumanBytes(DISK_RESERVE_BYTES)
    )]
    Disk {
        path: PathBuf,
        free: u64,
        needed: u64,
    },
    #[error("{path:?} is being pulled by another lethe; wait for it")]
    InUse { path: PathBuf },
    #[error(
        "{path:?} cannot be written; what is there stays, and the same command goes on from it"
    )]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{server} broke off at {} of {}; the same command goes on from there",
        HumanBytes(*.held), HumanBytes(*.bytes)
    )]
    Broken {
        server: String,
        held: u64,
        bytes: u64,
        #[source]
        source: Option<reqwest::Error>,
    },
    #[error(
        "{server} sends something else than was asked for (status {status}); try again later, or another one: --mirror URL"
    )]
    Confused { server: String, status: u16 },
    #[error(
        "wrong checksum: the file's SHA-256 is {found}, it should be {expected}. It is not used, and lies at {path:?}. \
         {advice}"
    )]
    Checksum {
        found: Digest,
        expected: Digest,
        path: PathBuf,
        advice: &'static str,
    },
}

impl PullError {
    /// Whether the next try may do better.
    fn may_pass(&self) -> bool {
        match self {
            Self::Hub(error) => error.may_pass(),
            Self::Broken { .. } => true,
            _ => false,
        }
    }
}

/// What is to be brought, and how.
pub(super) struct Wanted<'a> {
    pub(super) reference: &'a Reference,
    pub(super) revision: &'a str,
    /// Said by the user.
    pub(super) sha256: Option<Digest>,
    pub(super) bytes_max: u64,
    pub(super) silent: bool,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Brought {
    pub(super) note: Note,
    pub(super) path: PathBuf,
    /// Nothing had to be brought.
    pub(super) was_there: bool,
}

/// Brings it into the folder of models.
pub(super) async fn pull(
    models: &Path,
    hub: &Hub,
    wanted: &Wanted<'_>,
) -> Result<Brought, ModelsError> {
    let note = expected(hub, wanted).await?;
    let paths = Paths::of(models, wanted.reference);
    if is_there(&paths, &note)? {
        return Ok(Brought {
            note,
            path: paths.file,
            was_there: true,
        });
    }
    let held = fs::metadata(&paths.part).map_or(0, |part| part.len());
    has_room(models, note.bytes.saturating_sub(held))?;
    let mut part = Part::open(&paths, &note, wanted.silent)?;
    // What is pulled is what was looked at, also when a branch moves on meanwhile.
    let revision = note.revision.as_deref().unwrap_or(wanted.revision);
    part.fill(hub, wanted.reference, revision).await?;
    let found = part.digest();
    if found != note.sha256 {
        part.set_aside(&paths)?;
        let advice = match wanted.sha256 {
            Some(_) => {
                "Compare --sha256 with the model's page; then pull it again, or from another server with --mirror URL"
            }
            None => {
                "Pull it again; if it stays so, take another server with --mirror URL, or compare with the model's page"
            }
        };
        let (expected, path) = (note.sha256, paths.wrong);
        return Err(PullError::Checksum {
            found,
            expected,
            path,
            advice,
        }
        .into());
    }
    part.name(&paths)?;
    note.write(&paths.note)?;
    Ok(Brought {
        note,
        path: paths.file,
        was_there: false,
    })
}

/// What the file must be; refused if that is not known, or too much.
async fn expected(hub: &Hub, wanted: &Wanted<'_>) -> Result<Note, PullError> {
    let server = hub.name();
    if wanted.sha256.is_none() && !hub.is_trusted() {
        return Err(PullError::Untrusted { server });
    }
    let told = hub.look(wanted.reference, wanted.revision).await?;
    let Some(bytes) = told.bytes else {
        return Err(PullError::NoSize { server });
    };
    let Some(sha256) = wanted.sha256.or(told.sha256) else {
        return Err(PullError::NoDigest { server });
    };
    let max = wanted.bytes_max;
    if bytes > max {
        return Err(PullError::TooLarge { bytes, max });
    }
    Ok(Note {
        sha256,
        bytes,
        revision: told.commit,
    })
}

/// Whether this very file is there. One that nothing is known of is read through.
fn is_there(paths: &Paths, note: &Note) -> Result<bool, ModelsError> {
    let Ok(file) = File::open(&paths.file) else {
        return Ok(false);
    };
    let unread = |source| ModelsError::Read {
        path: paths.file.clone(),
        source,
    };
    let length = file.metadata().map_err(unread)?.len();
    if length != note.bytes {
        return Ok(false);
    }
    let known = Note::read(&paths.note).filter(|known| known.bytes == length);
    if let Some(known) = known
        && known.sha256 == note.sha256
    {
        return Ok(true);
    }
    // The start before was cut off between the file's name and the note.
    let mut sum = Sha256::new();
    read_through(file, &mut sum, |_| {}).map_err(unread)?;
    let is_same = Digest(sum.finalize().into()) == note.sha256;
    if is_same {
        note.write(&paths.note)?;
    }
    Ok(is_same)
}

fn has_room(models: &Path, needed: u64) -> Result<(), PullError> {
    // Where it is not known, writing will say so.
    let Ok(disk) = rustix::fs::statvfs(models) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed.saturating_add(DISK_RESERVE_BYTES) {
        return Err(PullError::Disk {
            path: models.to_owned(),
            free,
            needed,
        });
    }
    Ok(())
}

/// The file on its way, locked.
struct Part {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// What is there of it, and the sum of that.
    held: u64,
    sum: Sha256,
    shown: Transfer,
}

impl Part {
    /// With what is there already, if it is of the same file.
    fn open(paths: &Paths, note: &Note, silent: bool) -> Result<Self, PullError> {
        let path = paths.part.clone();
        let at = |source| PullError::Write {
            path: path.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at)?;
        }
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PullError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(at(source)),
        }
        if !is_named(&file, &path).map_err(at)? {
            return Err(PullError::InUse { path });
        }
        let length = file.metadata().map_err(at)?.len();
        let known = Note::read(&paths.part_note);
        let is_same =
            known.is_some_and(|known| (known.sha256, known.bytes) == (note.sha256, note.bytes));
        let shown = Transfer::new(note.bytes, silent);
        let mut sum = Sha256::new();
        let held = match is_same && length <= note.bytes {
            true => {
                let read = read_through(&mut file, &mut sum, |held| shown.at(held));
                read.map_err(at)?
            }
            false => {
                file.set_len(0).map_err(at)?;
                0
            }
        };
        let text = serde_json::to_vec(note).expect("it has only string keys");
        crate::keystore::write_private(&paths.part_note, &text).map_err(at)?;
        Ok(Self {
            file,
            path,
            bytes: note.bytes,
            held,
            sum,
            shown,
        })
    }

    /// Brings what is missing, from try to try.
    async fn fill(
        &mut self,
        hub: &Hub,
        reference: &Reference,
        revision: &str,
    ) -> Result<(), PullError> {
        let (mut furthest, mut tries) = (self.held, 0);
        while self.held < self.bytes {
            let Err(error) = self.once(hub, reference, revision).await else {
                continue;
            };
            (furthest, tries) = match self.held > furthest {
                true => (self.held, 1),
                false => (furthest, tries + 1),
            };
            if !error.may_pass() || tries >= TRIES_MAX {
                // What is there is to be found by the next command.
                self.file
                    .sync_data()
                    .map_err(|source| self.unwritten(source))?;
                return Err(error);
            }
            let wait = WAIT_FIRST * 2_u32.pow(tries - 1);
            self.shown.waits(&crate::output::with_causes(&error), wait);
            sleep(wait).await;
        }
        self.shown.done();
        Ok(())
    }

    /// One try.
    async fn once(
        &mut self,
        hub: &Hub,
        reference: &Reference,
        revision: &str,
    ) -> Result<(), PullError> {
        let mut response = hub.open(reference, revision, self.held).await?;
        let Some(first) = begins(&response, self.held, self.bytes) else {
            let status = response.status().as_u16();
            return Err(PullError::Confused {
                server: hub.name(),
                status,
            });
        };
        if first != self.held {
            self.empty()?;
        }
        let broken = |held, source| PullError::Broken {
            server: hub.name(),
            held,
            bytes: self.bytes,
            source,
        };
        while self.held < self.bytes {
            let piece = response.chunk().await;
            let piece = piece.map_err(|source| broken(self.held, Some(source.without_url())))?;
            let Some(piece) = piece else {
                return Err(broken(self.held, None));
            };
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if length > self.bytes - self.held {
                let status = response.status().as_u16();
                return Err(PullError::Confused {
                    server: hub.name(),
                    status,
                });
            }
            if let Err(source) = self.file.write_all(&piece) {
                return Err(self.unwritten(source));
            }
            self.sum.update(&piece);
            self.held += length;
            self.shown.at(self.held);
        }
        Ok(())
    }

    /// Forgets what is there.
    fn empty(&mut self) -> Result<(), PullError> {
        self.sum = Sha256::new();
        self.held = 0;
        let emptied = self.file.set_len(0);
        let emptied = emptied.and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(|source| self.unwritten(source))
    }

    fn digest(&self) -> Digest {
        Digest(self.sum.clone().finalize().into())
    }

    /// It is whole and right: gives it its name.
    fn name(self, paths: &Paths) -> Result<(), PullError> {
        let named = self.file.sync_all();
        let named = named.and_then(|()| fs::rename(&paths.part, &paths.file));
        named.map_err(|source| self.unwritten(source))?;
        // What is known of a part is of no more use; the next look passes over it.
        let _ = fs::remove_file(&paths.part_note);
        // So is one that was wrong before.
        let _ = fs::remove_file(&paths.wrong);
        Ok(())
    }

    /// It is wrong: nobody goes on from it.
    fn set_aside(self, paths: &Paths) -> Result<(), PullError> {
        let moved = fs::rename(&paths.part, &paths.wrong);
        moved.map_err(|source| self.unwritten(source))?;
        let _ = fs::remove_file(&paths.part_note);
        Ok(())
    }

    fn unwritten(&self, source: io::Error) -> PullError {
        PullError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whether an open file still has this name: who had it before may have
/// finished it between our opening and our lock.
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sums up what is there, from the beginning. How much it is.
fn read_through(
    mut file: impl Read,
    sum: &mut Sha256,
    mut shown: impl FnMut(u64),
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut held = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(held);
        }
        sum.update(&buffer[..length]);
        held += u64::try_from(length).unwrap_or(u64::MAX);
        shown(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Note = Note {
        sha256: Digest([7; 32]),
        bytes: 4,
        revision: None,
    };

    #[test]
    fn a_part_has_one_writer_and_a_file_that_was_finished_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let reference = Reference::parse("hf:a/b:m.gguf").unwrap();
        let paths = Paths::of(folder.path(), &reference);
        let first = Part::open(&paths, &NOTE, true).unwrap();
        let second = Part::open(&paths, &NOTE, true);
        assert!(matches!(second, Err(PullError::InUse { .. })));
        assert!(is_named(&first.file, &paths.part).unwrap());
        let late = File::open(&paths.part).unwrap();
        first.name(&paths).unwrap();
        assert!(!is_named(&late, &paths.part).unwrap());
        assert!(is_named(&late, &paths.file).unwrap());
    }
}
