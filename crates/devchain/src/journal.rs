//! The records on disk: a text file that only grows.
//!
//! One line is one durable write: a checksum, a space, a JSON array of records,
//! a line feed. A crash can only leave the last line unfinished; such a line was
//! never acknowledged to anyone and is cut off. Damage anywhere else is reported
//! and nothing is guessed. A lock file keeps a second process away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy::hex;
use alloy::primitives::keccak256;
use tracing::warn;

use crate::chain::ReplayError;
use crate::record::{Record, VERSION};

/// The longest line that is read; [`crate::keeper`] writes far shorter ones.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const LOG: &str = "chain.log";
const LOCK: &str = "chain.lock";
/// Hex digits of the checksum, a truncated Keccak-256.
const CHECKSUM: usize = 16;

/// Why a chain could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder or a file in it can't be used.
    #[error("cannot {what} {path:?}: check that the folder exists, is writable and has space")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another process has this chain open.
    #[error("chain data {path:?} is in use by another process: stop it, or choose another folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The stored chain began differently.
    #[error(
        "chain data {path:?} was made with another genesis (chain id, accounts or contracts changed): delete the folder to start a new chain, or go back to the configuration that made it"
    )]
    GenesisChanged {
        /// The log.
        path: PathBuf,
    },
    /// The log was written by another version of this software.
    #[error(
        "chain data {path:?} has format {found}, this build reads {VERSION}: use the build that wrote it, or delete the folder to start a new chain"
    )]
    Version {
        /// The log.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A line before the last one isn't what was written.
    #[error(
        "chain data {path:?} is damaged at line {line} ({why}): restore the file from a backup, or delete the folder to start a new chain"
    )]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The log is intact but executing it again comes to another end.
    #[error(
        "chain data {path:?} cannot be executed again at line {line}: it was written by a build with other rules; use that build, or delete the folder to start a new chain"
    )]
    Replay {
        /// The log.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Where it differs.
        #[source]
        source: ReplayError,
    },
    /// The thread that owns the chain could not be started.
    #[error("cannot start the chain's thread")]
    Thread(#[source] io::Error),
}

/// The open log.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Held, not read: the lock goes when it is dropped.
    _lock: File,
}

impl Journal {
    /// Opens the log in `folder`, creating it with `first` if there is none.
    pub(crate) fn open(folder: &Path, first: &Record) -> Result<Self, OpenError> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let lock_path = folder.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let lock = options
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked {
                path: lock_path.clone(),
            },
            TryLockError::Error(source) => io_error("lock", &lock_path)(source),
        })?;

        let path = folder.join(LOG);
        if !path.exists() {
            create(folder, &path, first).map_err(io_error("create", &path))?;
        }
        let file = OpenOptions::new().read(true).append(true).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        Ok(Self {
            file,
            path,
            _lock: lock,
        })
    }

    /// Hands every stored line to `each`, in order, and cuts off an unfinished
    /// last one.
    pub(crate) fn replay(
        &mut self,
        fingerprint: alloy::primitives::B256,
        mut each: impl FnMut(Record) -> Result<(), ReplayError>,
    ) -> Result<(), OpenError> {
        let read_error = |source| io_error("read", &self.path)(source);
        let length = self.file.metadata().map_err(read_error)?.len();
        let mut reader = BufReader::new(&self.file);
        let (mut offset, mut line) = (0, 0);
        let mut bytes = Vec::new();
        while offset < length {
            line += 1;
            bytes.clear();
            let mut limited = (&mut reader).take(LINE_BYTES_MAX);
            let read = limited.read_until(b'\n', &mut bytes).map_err(read_error)? as u64;
            let last = offset + read >= length;
            let records = match parse(&bytes) {
                Ok(records) => records,
                Err(_) if last && line > 1 => break,
                Err(why) => {
                    return Err(OpenError::Damaged {
                        path: self.path.clone(),
                        line,
                        why,
                    });
                }
            };
            for record in records {
                if let Record::Genesis {
                    version,
                    fingerprint: stored,
                    ..
                } = &record
                {
                    self.check_genesis(*version, *stored == fingerprint)?;
                }
                each(record).map_err(|source| OpenError::Replay {
                    path: self.path.clone(),
                    line,
                    source,
                })?;
            }
            offset += read;
        }
        if line == 0 {
            return Err(OpenError::Damaged {
                path: self.path.clone(),
                line: 1,
                why: "it is empty",
            });
        }
        self.cut_to(offset, length)
    }

    /// Writes records down and returns when they will survive a crash.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.file.write_all(&line(records)?)?;
        self.file.sync_data()
    }

    /// A log that can be read and not written, as on a disk that failed.
    #[cfg(test)]
    pub(crate) fn that_fails(folder: &Path, first: &Record) -> Self {
        let mut journal = Self::open(folder, first).unwrap();
        journal.file = File::open(&journal.path).unwrap();
        journal
    }

    fn check_genesis(&self, version: u32, same: bool) -> Result<(), OpenError> {
        if version != VERSION {
            return Err(OpenError::Version {
                path: self.path.clone(),
                found: version,
            });
        }
        if !same {
            return Err(OpenError::GenesisChanged {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    fn cut_to(&self, offset: u64, length: u64) -> Result<(), OpenError> {
        if offset == length {
            return Ok(());
        }
        let cut = length - offset;
        warn!(path = ?self.path, bytes = cut, "the last write was unfinished and is dropped");
        let write_error = |source| io_error("write", &self.path)(source);
        self.file.set_len(offset).map_err(write_error)?;
        (&self.file).seek(SeekFrom::End(0)).map_err(write_error)?;
        self.file.sync_all().map_err(write_error)
    }
}

/// A log appears whole or not at all, so that its first line is never torn.
fn create(folder: &Path, path: &Path, first: &Record) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(&line(std::slice::from_ref(first))?)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

fn line(records: &[Record]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(records)?;
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Vec<Record>, &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("it has no end")?;
    let (sum, json) = line.split_at_checked(CHECKSUM).ok_or("it is too short")?;
    let json = json.strip_prefix(b" ").ok_or("it has no checksum")?;
    if sum != checksum(json).as_bytes() {
        return Err("its checksum is wrong");
    }
    serde_json::from_slice(json).map_err(|_| "it holds unknown records")
}

fn checksum(json: &[u8]) -> String {
    hex::encode(&keccak256(json)[..CHECKSUM / 2])
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
