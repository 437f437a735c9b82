//! Conversations that are kept because somebody asked for it: one file each in
//! `DATA/chats`, encrypted, written anew by rename after every answer. There
//! is no way to keep one in clear.
//!
//! The files are plain age files, so that they can be read without this
//! program: `age -d -i DATA/chats/key.age DATA/chats/ID.age`. Their number,
//! their times and their size in steps of 4 KiB are not hidden.

mod conversation;
mod key;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) use conversation::{Conversation, Id, IdError, Message, Role, Summary};
pub(crate) use key::{Key, KeyError};

use crate::cli;
use crate::folder::flag_of;
use crate::keystore::write_private;
use conversation::FormatError;
use key::{OpenError, Passphrase};

/// The largest file that is written or read.
const FILE_BYTES_MAX: usize = 16 << 20;
/// What age adds to a text of that size, and more.
const OVERHEAD_BYTES_MAX: usize = 64 << 10;

/// Why a conversation could not be kept, found or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error("{path:?} cannot be read or written; conversations are kept there")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no conversation {id} is kept here; `lethe chats{flag}` lists those that are")]
    Unknown { id: Id, flag: String },
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "nothing is kept under a passphrase here ({path:?} is not there); \
         if it was kept with --identity FILE, give that file"
    )]
    NoKey { path: PathBuf },
    #[error(
        "conversation {id} is not encrypted to this key: give the --identity FILE that it was kept with, \
         or none if it was a passphrase"
    )]
    OtherKey { id: Id },
    #[error(
        "conversation {id} is damaged: {path:?} is cut short or was changed; \
         restore it from a backup, or forget it with `lethe chats{flag} --forget {id}`"
    )]
    Damaged {
        id: Id,
        flag: String,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "{path:?} is larger than {max} bytes, the most that a kept conversation may be; begin another"
    )]
    TooLong { path: PathBuf, max: usize },
    #[error(
        "conversation {id} was changed or forgotten by another lethe meanwhile; the last answer is not kept"
    )]
    Changed { id: Id },
}

/// The key that the flags name, to go on or to read.
pub(crate) fn unlocked(chats: &Chats, unlock: &cli::Unlock) -> Result<Key, HistoryError> {
    if let Some(path) = &unlock.identity {
        return Ok(Key::from_file(path, &unlock.passphrase())?);
    }
    let own = chats.key(&unlock.passphrase())?;
    own.ok_or_else(|| HistoryError::NoKey {
        path: chats.key_path(),
    })
}

/// The key that the flags name, to begin with; the folder's own is made if it has none.
pub(crate) fn unlocked_or_new(chats: &Chats, unlock: &cli::Unlock) -> Result<Key, HistoryError> {
    match unlock.identity {
        Some(_) => unlocked(chats, unlock),
        None => chats.key_or_new(&unlock.passphrase()),
    }
}

/// The folder of kept conversations. It is made when the first one is kept.
pub(crate) struct Chats {
    folder: PathBuf,
}

/// A kept conversation as it was last read or written.
pub(crate) struct Kept {
    /// What its file held; nothing before the first write.
    revision: Option<[u8; 32]>,
}

impl Kept {
    /// Whether it was never written.
    pub(crate) fn is_new(&self) -> bool {
        self.revision.is_none()
    }
}

impl cli::Unlock {
    fn passphrase(&self) -> Passphrase {
        let file = self.passphrase_file.clone();
        file.map_or(Passphrase::Typed, Passphrase::File)
    }

    /// The first of its flags that was given.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        let identity = self.identity.is_some().then_some("--identity");
        identity.or(self
            .passphrase_file
            .is_some()
            .then_some("--passphrase-file"))
    }
}

impl Chats {
    /// Those in this folder.
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder's own key, if it has one: made with the first conversation
    /// that is kept under a passphrase.
    pub(crate) fn key(&self, passphrase: &Passphrase) -> Result<Option<Key>, HistoryError> {
        let path = self.key_path();
        match path.try_exists() {
            Ok(true) => Ok(Some(Key::from_file(&path, passphrase)?)),
            Ok(false) => Ok(None),
            Err(source) => Err(HistoryError::File { path, source }),
        }
    }

    /// The folder's own key; made under a new passphrase if there was none.
    pub(crate) fn key_or_new(&self, passphrase: &Passphrase) -> Result<Key, HistoryError> {
        if let Some(key) = self.key(passphrase)? {
            return Ok(key);
        }
        let (key, sealed) = Key::generate(passphrase)?;
        let alone = self.alone()?;
        let path = self.key_path();
        if path.exists() {
            // Another lethe was faster; its key is the one.
            drop(alone);
            return Ok(Key::from_file(&path, passphrase)?);
        }
        write_private(&path, &sealed).map_err(|source| HistoryError::File { path, source })?;
        Ok(key)
    }

    /// A conversation that is not yet written.
    pub(crate) fn begin(&self) -> Kept {
        Kept { revision: None }
    }

    /// The conversation of this id.
    pub(crate) fn open(&self, id: &Id, key: &Key) -> Result<(Conversation, Kept), HistoryError> {
        let path = self.path(id);
        let sealed = read(&path)?.ok_or_else(|| HistoryError::Unknown {
            id: id.clone(),
            flag: self.flag(),
        })?;
        let damaged = |source: Box<dyn std::error::Error + Send + Sync>| HistoryError::Damaged {
            id: id.clone(),
            flag: self.flag(),
            path: path.clone(),
            source,
        };
        let plain = key.open(&sealed).map_err(|error| match error {
            OpenError::NoMatch => HistoryError::OtherKey { id: id.clone() },
            OpenError::NoIdentity => KeyError::RecipientsOnly.into(),
            OpenError::Damaged(source) => damaged(Box::new(source)),
            OpenError::Cut(source) => damaged(Box::new(source)),
        })?;
        let conversation = Conversation::from_padded(&plain).map_err(|e| damaged(Box::new(e)))?;
        if conversation.id != *id {
            return Err(damaged(Box::new(FormatError::OtherId {
                found: conversation.id,
            })));
        }
        let revision = Some(revision(&sealed));
        Ok((conversation, Kept { revision }))
    }

    /// Writes the conversation: afterwards its file is the old one or the new
    /// one, whenever the machine stops.
    pub(crate) fn save(
        &self,
        conversation: &Conversation,
        kept: &mut Kept,
        key: &Key,
    ) -> Result<(), HistoryError> {
        let path = self.path(&conversation.id);
        let plain = conversation.to_padded();
        if plain.len() > FILE_BYTES_MAX - OVERHEAD_BYTES_MAX {
            return Err(HistoryError::TooLong {
                path,
                max: FILE_BYTES_MAX,
            });
        }
        let sealed = key.seal(&plain)?;
        let _alone = self.alone()?;
        if read(&path)?.as_deref().map(revision) != kept.revision {
            return Err(HistoryError::Changed {
                id: conversation.id.clone(),
            });
        }
        write_private(&path, &sealed).map_err(|source| HistoryError::File { path, source })?;
        kept.revision = Some(revision(&sealed));
        Ok(())
    }

    /// Deletes the conversation; no key is needed for that.
    pub(crate) fn forget(&self, id: &Id) -> Result<(), HistoryError> {
        let path = self.path(id);
        let at = |source| HistoryError::File {
            path: path.clone(),
            source,
        };
        if !path.try_exists().map_err(at)? {
            return Err(HistoryError::Unknown {
                id: id.clone(),
                flag: self.flag(),
            });
        }
        let _alone = self.alone()?;
        fs::remove_file(&path).map_err(at)?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(at)
    }

    /// The flag of the data folder that these are in.
    pub(crate) fn flag(&self) -> String {
        self.folder.parent().map(flag_of).unwrap_or_default()
    }

    /// The ids of all that are kept, in order.
    pub(crate) fn ids(&self) -> Result<Vec<Id>, HistoryError> {
        let at = |source| HistoryError::File {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(at)?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".age"));
            ids.extend(stem.and_then(|stem| stem.parse::<Id>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    fn path(&self, id: &Id) -> PathBuf {
        self.folder.join(format!("{id}.age"))
    }

    fn key_path(&self) -> PathBuf {
        self.folder.join("key.age")
    }

    /// Nobody else writes here until this is dropped. Clears away what a
    /// write that was cut off has left.
    fn alone(&self) -> Result<File, HistoryError> {
        let at = |source| HistoryError::File {
            path: self.folder.clone(),
            source,
        };
        fs::create_dir_all(&self.folder).map_err(at)?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700)).map_err(at)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("lock"))
            .map_err(at)?;
        lock.lock().map_err(at)?;
        for entry in fs::read_dir(&self.folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if path.extension().is_some_and(|ending| ending == "partial") {
                fs::remove_file(&path).map_err(at)?;
            }
        }
        Ok(lock)
    }
}

/// The whole file; nothing if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, HistoryError> {
    let at = |source| HistoryError::File {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(error)),
    };
    let mut bytes = Vec::new();
    let max = FILE_BYTES_MAX as u64;
    file.take(max + 1).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(HistoryError::TooLong {
            path: path.to_owned(),
            max: FILE_BYTES_MAX,
        });
    }
    Ok(Some(bytes))
}

fn revision(sealed: &[u8]) -> [u8; 32] {
    Sha256::digest(sealed).into()
}

#[cfg(test)]
mod tests;
