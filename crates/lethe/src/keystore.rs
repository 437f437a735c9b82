//! Private keys on disk: the words that they follow from, and keys in files
//! of their own, all readable by their owner only and written once. Keys are
//! loaded here and lent to whoever signs.
//!
//! A key in a file wins over the one that follows from the words, so folders
//! from before there were words go on as they are. The words lie there in
//! the clear: a node signs at any hour, with nobody there to type a
//! passphrase (`docs/decisions/007-the-words-lie-in-the-clear.md`).

mod accounts;
pub(crate) mod v3;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use market::{Address, KeyError, NodeKey, WalletKey};
use zeroize::Zeroizing;

pub(crate) use self::accounts::{Kept, branch_of, is_former};
use crate::folder::flag_of;
use crate::phrase::{self, Branch, Phrase, PhraseError, Seed};

/// The file of the words.
const PHRASE: &str = "mnemonic";
/// The file of the account's number; without it, it is 0.
const ACCOUNT: &str = "account";
/// The list of the keys that were lent and follow from the words. No secret,
/// and nothing depends on it: it is there to be read.
const DERIVED: &str = "derived";
/// The largest file of the above, and of a key.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Entropy of new words: 12 words have as many bits as a key has strength.
pub(crate) const ENTROPY_BYTES: usize = 16;

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeystoreError {
    #[error("key file {path:?} cannot be read or written")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "key file {path:?} can be read by others (mode {mode:o}); \
         run `chmod 600` on it, or move the money: the key may be known"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("key file {path:?} does not hold 64 hexadecimal digits; restore it from a backup")]
    Malformed { path: PathBuf },
    #[error(
        "file {path:?} holds no key that is known here: neither a Keystore V3, as of geth and Foundry, nor 64 hexadecimal digits"
    )]
    Unknown { path: PathBuf },
    #[error("key file {path:?} is not a key")]
    NotAKey {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("{path:?} is larger than {max} bytes and none of this program's files")]
    TooLarge { path: PathBuf, max: u64 },
    #[error(
        "{path:?} does not hold a phrase; move the file away and restore it with `lethe wallet restore{}`",
        of_keys(path)
    )]
    Phrase {
        path: PathBuf,
        #[source]
        source: PhraseError,
    },
    #[error("no key {name:?} follows from the phrase")]
    Derive {
        name: String,
        #[source]
        source: PhraseError,
    },
    #[error(
        "{path:?} does not hold an account's number (allowed: 0 to {})",
        phrase::ACCOUNT_MAX
    )]
    Account { path: PathBuf },
    #[error(
        "data folder {folder:?} has books and no keys; restore the keys with `lethe wallet restore{}` \
         or from a backup, or choose another folder with --data DIR",
        flag_of(folder)
    )]
    Gone { folder: PathBuf },
    #[error(
        "{path:?} is a link to {target:?}, where nothing is: mount what it is on, or remove the link"
    )]
    Dangling { path: PathBuf, target: PathBuf },
    #[error("{path:?} is there already and is not overwritten; move it away if you are sure")]
    Exists { path: PathBuf },
}

/// The flag of the data folder with this file of keys.
fn of_keys(path: &Path) -> String {
    let folder = path.parent().and_then(Path::parent);
    folder.map(flag_of).unwrap_or_default()
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file of its own.
    File(PathBuf),
    /// The words.
    Phrase(phrase::Path),
}

/// What follows from the words.
struct Held {
    seed: Seed,
    account: u32,
    /// The keys that were lent, with path and public half.
    derived: BTreeMap<String, String>,
}

/// A folder of keys. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Keystore {
    folder: PathBuf,
    /// Something was done with keys here before: none are made up anew.
    books: bool,
    held: Arc<Mutex<Option<Held>>>,
}

impl Keystore {
    /// The folder; made if it is not there. `books`: the data folder around it
    /// was in use before; then it is made with the first key that is put into it, so that
    /// nothing stands in the way of one that is put back.
    pub(crate) fn open(folder: PathBuf, books: bool) -> Result<Self, KeystoreError> {
        let keys = Self {
            folder,
            books,
            held: Arc::default(),
        };
        if !books || keys.folder.exists() {
            keys.make()?;
        }
        Ok(keys)
    }

    /// Makes the folder, for its owner alone.
    fn make(&self) -> Result<(), KeystoreError> {
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(at(folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(at(folder))
    }

    /// The folder as it is, to look at: nothing in it is made or changed.
    pub(crate) fn look(folder: PathBuf) -> Self {
        Self {
            folder,
            books: true,
            held: Arc::default(),
        }
    }

    /// The wallet key of this name: from its file, or from the words.
    pub(crate) fn wallet(&self, name: &str) -> Result<WalletKey, KeystoreError> {
        let file = format!("{name}.key");
        match self.source(branch_of(name), &file)? {
            Source::File(path) => {
                let secret = secret(&path)?;
                WalletKey::from_bytes(&secret)
                    .map_err(|source| KeystoreError::NotAKey { path, source })
            }
            Source::Phrase(path) => self.derive(name, |held| {
                let key = held.seed.wallet(path)?;
                let public = key.address().to_string();
                Ok((key, path, public))
            }),
        }
    }

    /// The address of the wallet key of this name; it is not noted as one that is in use.
    pub(crate) fn address(&self, name: &str) -> Result<Address, KeystoreError> {
        Ok(self.unnoted(name)?.address())
    }

    /// The wallet key of this name, which is not noted as one that is in use.
    pub(crate) fn unnoted(&self, name: &str) -> Result<WalletKey, KeystoreError> {
        let file = format!("{name}.key");
        let Source::Phrase(path) = self.source(branch_of(name), &file)? else {
            return self.wallet(name);
        };
        let held = self.held()?;
        let key = held.as_ref().map(|held| held.seed.wallet(path));
        match key {
            Some(Ok(key)) => Ok(key),
            Some(Err(source)) => Err(KeystoreError::Derive {
                name: name.to_owned(),
                source,
            }),
            None => Err(KeystoreError::Gone {
                folder: self.folder.clone(),
            }),
        }
    }

    /// The node key of this name: from its file, or from the words.
    pub(crate) fn node(&self, name: &str) -> Result<NodeKey, KeystoreError> {
        let file = format!("{name}.node");
        match self.source(Branch::Node(name), &file)? {
            Source::File(path) => Ok(NodeKey::from_bytes(&*secret(&path)?)),
            Source::Phrase(path) => self.derive(&file, |held| {
                let key = held.seed.node(path);
                let public = key.id().to_string();
                Ok((key, path, public))
            }),
        }
    }

    /// Where the key in `file` would come from now.
    pub(crate) fn source(&self, branch: Branch<'_>, file: &str) -> Result<Source, KeystoreError> {
        let path = self.folder.join(file);
        if is_there(&path)? {
            return Ok(Source::File(path));
        }
        let mut held = self.held()?;
        if held.is_none() {
            if !self.files()?.is_empty() {
                // From before there were words: it goes on as it is.
                return Ok(Source::File(path));
            }
            if self.books {
                let folder = self.folder.parent().unwrap_or(&self.folder).to_owned();
                return Err(KeystoreError::Gone { folder });
            }
            *held = Some(self.keep(&fresh(ENTROPY_BYTES)?, 0)?);
        }
        let account = held.as_ref().map_or(0, |held| held.account);
        let path = branch.path(account);
        path.map(Source::Phrase)
            .map_err(|source| KeystoreError::Derive {
                name: file.to_owned(),
                source,
            })
    }

    /// A key that follows from the words, and is noted in the list.
    fn derive<K>(
        &self,
        name: &str,
        make: impl FnOnce(&Held) -> Result<(K, phrase::Path, String), PhraseError>,
    ) -> Result<K, KeystoreError> {
        let mut held = self.held()?;
        let Some(held) = held.as_mut() else {
            let folder = self.folder.clone();
            return Err(KeystoreError::Gone { folder });
        };
        let (key, path, public) = make(held).map_err(|source| KeystoreError::Derive {
            name: name.to_owned(),
            source,
        })?;
        let line = format!("{path} {public}");
        if held.derived.get(name) != Some(&line) {
            held.derived.insert(name.to_owned(), line);
            let lines = held.derived.iter();
            let text: String = lines
                .map(|(name, rest)| format!("{name} {rest}\n"))
                .collect();
            let list = self.folder.join(DERIVED);
            write_private(&list, text.as_bytes()).map_err(at(&list))?;
        }
        Ok(key)
    }

    /// What is held, read from the disk if there are words.
    fn held(&self) -> Result<MutexGuard<'_, Option<Held>>, KeystoreError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none()
            && let Some(phrase) = self.phrase()?
        {
            *held = Some(Held {
                seed: phrase.seed(),
                account: self.account()?,
                derived: self.derived()?,
            });
        }
        Ok(held)
    }

    /// The words, if there are any.
    pub(crate) fn phrase(&self) -> Result<Option<Phrase>, KeystoreError> {
        let path = self.folder.join(PHRASE);
        if !is_there(&path)? {
            return Ok(None);
        }
        let phrase = Phrase::parse(&private_text(&path)?);
        phrase
            .map(Some)
            .map_err(|source| KeystoreError::Phrase { path, source })
    }

    /// The number of the phrase's account that this folder uses.
    pub(crate) fn account(&self) -> Result<u32, KeystoreError> {
        let path = self.folder.join(ACCOUNT);
        if !is_there(&path)? {
            return Ok(0);
        }
        let number = private_text(&path)?.trim().parse::<u32>().ok();
        let allowed = number.filter(|number| *number <= phrase::ACCOUNT_MAX);
        allowed.ok_or(KeystoreError::Account { path })
    }

    /// The keys that were lent and follow from the words: name, then path and public half.
    pub(crate) fn derived(&self) -> Result<BTreeMap<String, String>, KeystoreError> {
        let path = self.folder.join(DERIVED);
        if !is_there(&path)? {
            return Ok(BTreeMap::new());
        }
        let text = private_text(&path)?;
        let split = |line: &str| {
            let (name, rest) = line.split_once(' ')?;
            Some((name.to_owned(), rest.to_owned()))
        };
        Ok(text.lines().filter_map(split).collect())
    }

    /// The names of the files that hold a key each.
    pub(crate) fn files(&self) -> Result<Vec<String>, KeystoreError> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries.map_err(at(&self.folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(at(&self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".key") || name.ends_with(".node") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes words for a folder that has neither words nor keys.
    pub(crate) fn begin(&self, entropy_bytes: usize, account: u32) -> Result<(), KeystoreError> {
        self.take_phrase(&fresh(entropy_bytes)?, account)
    }

    /// Keeps these words; others that are there already are not overwritten.
    pub(crate) fn take_phrase(&self, phrase: &Phrase, account: u32) -> Result<(), KeystoreError> {
        let path = self.folder.join(PHRASE);
        match self.phrase()? {
            None => {
                let kept = self.keep(phrase, account)?;
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                Ok(())
            }
            Some(before) if *before.words() == *phrase.words() && self.account()? == account => {
                Ok(())
            }
            Some(_) => Err(KeystoreError::Exists { path }),
        }
    }

    fn keep(&self, phrase: &Phrase, account: u32) -> Result<Held, KeystoreError> {
        self.make()?;
        // First the number: words without it would mean account 0.
        if account != 0 {
            let path = self.folder.join(ACCOUNT);
            let text = format!("{account}\n");
            write_private(&path, text.as_bytes()).map_err(at(&path))?;
        }
        let path = self.folder.join(PHRASE);
        let mut text = phrase.words();
        text.push('\n');
        write_private(&path, text.as_bytes()).map_err(at(&path))?;
        Ok(Held {
            seed: phrase.seed(),
            account,
            derived: BTreeMap::new(),
        })
    }

    /// Keeps this key in a file of its own; one that is there is not overwritten.
    pub(crate) fn take_key(&self, name: &str, key: &WalletKey) -> Result<PathBuf, KeystoreError> {
        let path = self.folder.join(format!("{name}.key"));
        if is_there(&path)? {
            return Err(KeystoreError::Exists { path });
        }
        self.make()?;
        write_key(&path, key)?;
        Ok(path)
    }
}

fn write_key(path: &Path, key: &WalletKey) -> Result<(), KeystoreError> {
    let text = Zeroizing::new(hex::encode(*key.to_bytes()));
    write_private(path, text.as_bytes()).map_err(at(path))
}

fn fresh(entropy_bytes: usize) -> Result<Phrase, KeystoreError> {
    let mut entropy = Zeroizing::new(vec![0; entropy_bytes]);
    rand::fill(entropy.as_mut_slice());
    Phrase::from_entropy(&entropy).map_err(|source| KeystoreError::Phrase {
        path: PHRASE.into(),
        source,
    })
}

/// Whether the file is there. A link that leads nowhere is not a missing file:
/// its target may be on a disk that is not mounted.
pub(crate) fn is_there(path: &Path) -> Result<bool, KeystoreError> {
    if path.try_exists().map_err(at(path))? {
        return Ok(true);
    }
    match fs::read_link(path) {
        Ok(target) => Err(KeystoreError::Dangling {
            path: path.to_owned(),
            target,
        }),
        Err(_) => Ok(false),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeystoreError + use<> {
    let path = path.to_owned();
    move |source| KeystoreError::File { path, source }
}

/// The secret in the file; written anew if there is no such file.
fn secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    if !is_there(path)? {
        let fresh = Zeroizing::new(rand::random::<[u8; 32]>());
        write_private(path, Zeroizing::new(hex::encode(*fresh)).as_bytes()).map_err(at(path))?;
        return Ok(fresh);
    }
    let text = private_text(path)?;
    digits(&text).ok_or_else(|| KeystoreError::Malformed {
        path: path.to_owned(),
    })
}

/// 64 hexadecimal digits, with or without `0x`.
fn digits(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let text = text.trim();
    let mut secret = Zeroizing::new([0; 32]);
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode_to_slice(digits, secret.as_mut_slice()).ok()?;
    Some(secret)
}

/// The wallet key in a file that somebody names: 64 hexadecimal digits.
pub(crate) fn key_in(path: &Path) -> Result<WalletKey, KeystoreError> {
    let text = private_text(path)?;
    let secret = digits(&text).ok_or_else(|| KeystoreError::Unknown {
        path: path.to_owned(),
    })?;
    WalletKey::from_bytes(&secret).map_err(|source| KeystoreError::NotAKey {
        path: path.to_owned(),
        source,
    })
}

/// The text of a small file that nobody else may read. Wiped when dropped.
pub(crate) fn private_text(path: &Path) -> Result<Zeroizing<String>, KeystoreError> {
    is_there(path)?;
    let file = fs::File::open(path).map_err(at(path))?;
    let metadata = file.metadata().map_err(at(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    // A pipe or `/dev/fd/N` has no mode that would say something.
    if metadata.is_file() && mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(KeystoreError::Open { path, mode });
    }
    let mut text = Zeroizing::new(String::new());
    let limited = &mut file.take(FILE_BYTES_MAX + 1);
    limited.read_to_string(&mut text).map_err(at(path))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(KeystoreError::TooLarge {
            path: path.to_owned(),
            max: FILE_BYTES_MAX,
        });
    }
    Ok(text)
}

/// The bearer key in the file; a random one if there was none.
pub(crate) fn bearer(path: &Path) -> Result<String, KeystoreError> {
    if !is_there(path)? {
        let fresh = fresh_bearer();
        write_private(path, fresh.as_bytes()).map_err(at(path))?;
        return Ok(fresh);
    }
    Ok(private_text(path)?.trim().to_owned())
}

/// A random bearer key.
pub(crate) fn fresh_bearer() -> String {
    format!("lethe-{}", hex::encode(rand::random::<[u8; 24]>()))
}

/// Writes a file that only its owner can read; whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    // A leftover of a start that was cut off is never a key in use.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(bytes)?;
    failpoint::hit("file.written");
    file.sync_all()?;
    failpoint::hit("file.synced");
    fs::rename(&partial, path)?;
    failpoint::hit("file.named");
    if let Some(folder) = path.parent() {
        // A name alone is in the folder where one is.
        let here = folder.as_os_str().is_empty();
        let folder = if here { Path::new(".") } else { folder };
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
