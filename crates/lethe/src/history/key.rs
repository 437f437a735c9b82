//! What kept conversations are encrypted with: an age identity. Either the
//! folder's own, which lies beside them encrypted with a passphrase, or one in
//! a file that the user names. A passphrase is typed or read from a file; it
//! never comes from an argument or the environment, where others can see it.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, EncryptError, Encryptor, scrypt, x25519};
use zeroize::Zeroizing;

/// The work of one guess at a passphrase, as a power of two: about a second and 256 MiB.
const WORK: u8 = 18;
/// The most work that opening a key file may ask for: four times that.
const WORK_MAX: u8 = WORK + 2;
/// The largest file of keys.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// The longest passphrase.
const PASSPHRASE_BYTES_MAX: u64 = 4096;
/// How an encrypted file begins.
const AGE_FILE: &[u8] = b"age-encryption.org/";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("key or passphrase file {path:?} cannot be read")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} is larger than {max} bytes and no key or passphrase")]
    TooLarge { path: PathBuf, max: u64 },
    #[error(
        "{path:?} holds a secret and can be read by others (mode {mode:o}); run `chmod 600` on it"
    )]
    Readable { path: PathBuf, mode: u32 },
    #[error(
        "kept conversations are encrypted, and nobody is at a terminal to type the passphrase; \
         give --passphrase-file FILE or --identity FILE"
    )]
    NobodyToAsk,
    #[error("the passphrase could not be read from the terminal")]
    Terminal(#[source] io::Error),
    #[error("the first line of {path:?} is to be a passphrase; the file is no UTF-8 text")]
    NotText { path: PathBuf },
    #[error("the passphrase is empty; conversations are kept only encrypted")]
    Empty,
    #[error("the two passphrases are not the same; nothing was written")]
    Differ,
    #[error("this is not the passphrase of {path:?}; nothing was changed")]
    WrongPassphrase { path: PathBuf },
    #[error("key file {path:?} is damaged or no age file; restore it from a backup")]
    Damaged {
        path: PathBuf,
        #[source]
        source: DecryptError,
    },
    #[error(
        "line {line} of {path:?} is no age key; allowed are identities (AGE-SECRET-KEY-1…), \
         recipients (age1…), empty lines and comments (#…)"
    )]
    NotAKey { path: PathBuf, line: usize },
    #[error("{path:?} holds no age key; `age-keygen` makes one")]
    NoKey { path: PathBuf },
    #[error(
        "with recipients alone a conversation can be begun, but not opened; give the file of the identity"
    )]
    RecipientsOnly,
    #[error("the conversation could not be encrypted")]
    Seal(#[source] EncryptError),
}

/// Why something could not be decrypted.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("there are recipients only")]
    NoIdentity,
    #[error("no key fits")]
    NoMatch,
    #[error("it is not an intact age file")]
    Damaged(#[source] DecryptError),
    #[error("it is cut short or was changed")]
    Cut(#[source] io::Error),
}

/// Where a passphrase comes from.
pub(crate) enum Passphrase {
    Typed,
    /// The first line of a file, which may also be `/dev/fd/N`.
    File(PathBuf),
}

impl Passphrase {
    fn of(&self, key_file: &Path) -> Result<SecretString, KeyError> {
        match self {
            Self::Typed => typed(&format!("Passphrase of {}: ", key_file.display())),
            Self::File(path) => from_file(path),
        }
    }

    fn fresh(&self) -> Result<SecretString, KeyError> {
        let Self::File(path) = self else {
            let first = typed("New passphrase for kept conversations (nobody can restore it): ")?;
            let second = typed("The same once more: ")?;
            return match first.expose_secret() == second.expose_secret() {
                true => Ok(first),
                false => Err(KeyError::Differ),
            };
        };
        from_file(path)
    }
}

/// What is typed on the terminal, unseen.
fn typed(prompt: &str) -> Result<SecretString, KeyError> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(KeyError::NobodyToAsk);
    }
    let text = rpassword::prompt_password(prompt).map_err(KeyError::Terminal)?;
    passphrase(text)
}

fn from_file(path: &Path) -> Result<SecretString, KeyError> {
    let (text, mode) = contents(path, PASSPHRASE_BYTES_MAX)?;
    only_owners(path, mode)?;
    let text = std::str::from_utf8(&text).map_err(|_| KeyError::NotText {
        path: path.to_owned(),
    })?;
    passphrase(text.lines().next().unwrap_or_default().to_owned())
}

fn passphrase(text: String) -> Result<SecretString, KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    Ok(SecretString::from(text))
}

/// Encrypts and, unless it is of recipients only, decrypts.
pub(crate) struct Key {
    identities: Vec<x25519::Identity>,
    recipients: Vec<x25519::Recipient>,
}

impl Key {
    /// A new one, and what its file is to hold.
    pub(super) fn generate(passphrase: &Passphrase) -> Result<(Self, Vec<u8>), KeyError> {
        let identity = x25519::Identity::generate();
        let text = identity.to_string();
        let mut lock = scrypt::Recipient::new(passphrase.fresh()?);
        lock.set_work_factor(WORK);
        let sealed = seal(text.expose_secret().as_bytes(), &[&lock])?;
        let key = Self {
            recipients: vec![identity.to_public()],
            identities: vec![identity],
        };
        Ok((key, sealed))
    }

    /// The keys in a file; the passphrase is asked for if it is encrypted.
    pub(crate) fn from_file(path: &Path, passphrase: &Passphrase) -> Result<Self, KeyError> {
        let (bytes, mode) = contents(path, KEY_FILE_BYTES_MAX)?;
        if bytes.starts_with(AGE_FILE) {
            let text = unlock(path, &bytes, passphrase)?;
            return Self::parse(path, &text);
        }
        let key = Self::parse(path, &bytes)?;
        if !key.identities.is_empty() {
            only_owners(path, mode)?;
        }
        Ok(key)
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, KeyError> {
        let (mut identities, mut recipients) = (Vec::new(), Vec::new());
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = std::str::from_utf8(line).unwrap_or("not text").trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Ok(identity) = line.parse::<x25519::Identity>() {
                identities.push(identity);
            } else if let Ok(recipient) = line.parse::<x25519::Recipient>() {
                recipients.push(recipient);
            } else {
                return Err(KeyError::NotAKey {
                    path: path.to_owned(),
                    line: at + 1,
                });
            }
        }
        for identity in &identities {
            let own = identity.to_public();
            if !recipients.contains(&own) {
                recipients.push(own);
            }
        }
        if recipients.is_empty() {
            return Err(KeyError::NoKey {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            identities,
            recipients,
        })
    }

    /// Encrypts.
    pub(super) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let recipients: Vec<_> = self.recipients.iter().map(|to| to as _).collect();
        seal(plain, &recipients)
    }

    /// Decrypts.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if self.identities.is_empty() {
            return Err(OpenError::NoIdentity);
        }
        let identities: Vec<_> = self.identities.iter().map(|own| own as _).collect();
        open(sealed, &identities)
    }
}

/// What an encrypted file of keys holds.
fn unlock(
    path: &Path,
    sealed: &[u8],
    passphrase: &Passphrase,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut lock = scrypt::Identity::new(passphrase.of(path)?);
    lock.set_max_work_factor(WORK_MAX);
    let damaged = |source| KeyError::Damaged {
        path: path.to_owned(),
        source,
    };
    open(sealed, &[&lock]).map_err(|error| match error {
        OpenError::Damaged(DecryptError::DecryptionFailed) => KeyError::WrongPassphrase {
            path: path.to_owned(),
        },
        OpenError::Damaged(source) => damaged(source),
        OpenError::Cut(source) => damaged(DecryptError::Io(source)),
        OpenError::NoMatch | OpenError::NoIdentity => damaged(DecryptError::NoMatchingKeys),
    })
}

fn seal(plain: &[u8], recipients: &[&dyn age::Recipient]) -> Result<Vec<u8>, KeyError> {
    let to = recipients.iter().copied();
    let encryptor = Encryptor::with_recipients(to).map_err(KeyError::Seal)?;
    let mut sealed = Vec::new();
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut output| {
        output.write_all(plain)?;
        output.finish()
    });
    written.map_err(|source| KeyError::Seal(source.into()))?;
    Ok(sealed)
}

fn open(sealed: &[u8], identities: &[&dyn age::Identity]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let opened = Decryptor::new_buffered(sealed)
        .and_then(|decryptor| decryptor.decrypt(identities.iter().copied()));
    let mut reader = opened.map_err(|error| match error {
        DecryptError::NoMatchingKeys => OpenError::NoMatch,
        error => OpenError::Damaged(error),
    })?;
    // What comes out is shorter than what goes in, so this never moves.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plain).map_err(OpenError::Cut)?;
    Ok(plain)
}

/// A file's bytes, and the mode of a regular file.
fn contents(path: &Path, max: u64) -> Result<(Zeroizing<Vec<u8>>, Option<u32>), KeyError> {
    let at = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(at)?;
    let metadata = file.metadata().map_err(at)?;
    let mode = metadata.is_file().then(|| metadata.permissions().mode());
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(max + 1).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() as u64 > max {
        return Err(KeyError::TooLarge {
            path: path.to_owned(),
            max,
        });
    }
    Ok((bytes, mode))
}

fn only_owners(path: &Path, mode: Option<u32>) -> Result<(), KeyError> {
    match mode.map(|mode| mode & 0o777) {
        Some(mode) if mode & 0o077 != 0 => Err(KeyError::Readable {
            path: path.to_owned(),
            mode,
        }),
        _ => Ok(()),
    }
}
