//! Private keys on disk: one file a key, readable by its owner only, written
//! once. Keys are loaded here and lent to whoever signs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use market::{KeyError, NodeKey, WalletKey};
use zeroize::Zeroizing;

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
    #[error("key file {path:?} is not a key")]
    NotAKey {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
}

/// A folder of keys.
#[derive(Clone)]
pub(crate) struct Keystore {
    folder: PathBuf,
}

impl Keystore {
    /// The folder; made if it is not there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, KeystoreError> {
        let at = |source| KeystoreError::File {
            path: folder.clone(),
            source,
        };
        fs::create_dir_all(&folder).map_err(at)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(at)?;
        Ok(Self { folder })
    }

    /// The wallet key of this name; a random one if there was none.
    pub(crate) fn wallet(&self, name: &str) -> Result<WalletKey, KeystoreError> {
        let path = self.folder.join(format!("{name}.key"));
        let secret = secret(&path)?;
        WalletKey::from_bytes(&secret).map_err(|source| KeystoreError::NotAKey { path, source })
    }

    /// The node key of this name; a random one if there was none.
    pub(crate) fn node(&self, name: &str) -> Result<NodeKey, KeystoreError> {
        let path = self.folder.join(format!("{name}.node"));
        Ok(NodeKey::from_bytes(&*secret(&path)?))
    }
}

/// The secret in the file; written anew if there is no such file.
fn secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let at = |source| KeystoreError::File {
        path: path.to_owned(),
        source,
    };
    if !path.try_exists().map_err(at)? {
        let fresh = Zeroizing::new(rand::random::<[u8; 32]>());
        write_private(path, Zeroizing::new(hex::encode(*fresh)).as_bytes()).map_err(at)?;
        return Ok(fresh);
    }
    only_owners(path)?;
    let text = Zeroizing::new(fs::read_to_string(path).map_err(at)?);
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), secret.as_mut_slice()).map_err(|_| {
        KeystoreError::Malformed {
            path: path.to_owned(),
        }
    })?;
    Ok(secret)
}

/// The bearer key in the file; a random one if there was none.
pub(crate) fn bearer(path: &Path) -> Result<String, KeystoreError> {
    let at = |source| KeystoreError::File {
        path: path.to_owned(),
        source,
    };
    if !path.try_exists().map_err(at)? {
        let fresh = format!("lethe-{}", hex::encode(rand::random::<[u8; 24]>()));
        write_private(path, fresh.as_bytes()).map_err(at)?;
        return Ok(fresh);
    }
    only_owners(path)?;
    Ok(fs::read_to_string(path).map_err(at)?.trim().to_owned())
}

fn only_owners(path: &Path) -> Result<(), KeystoreError> {
    let at = |source| KeystoreError::File {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(at)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeystoreError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
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
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keystore::open(folder.path().join("keys")).unwrap();
        let made = keys.wallet("payer").unwrap().address();
        assert_eq!(keys.wallet("payer").unwrap().address(), made);
        assert_ne!(keys.wallet("hot").unwrap().address(), made);
        assert_eq!(
            keys.node("node").unwrap().id(),
            keys.node("node").unwrap().id()
        );
        let mode = fs::metadata(folder.path().join("keys/payer.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keystore::open(folder.path().to_owned()).unwrap();
        keys.wallet("payer").unwrap();
        let path = folder.path().join("payer.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            keys.wallet("payer"),
            Err(KeystoreError::Open { mode: 0o644, .. })
        ));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keystore::open(folder.path().to_owned()).unwrap();
        write_private(&folder.path().join("payer.key"), b"not hex").unwrap();
        assert!(matches!(
            keys.wallet("payer"),
            Err(KeystoreError::Malformed { .. })
        ));
        assert_eq!(
            fs::read(folder.path().join("payer.key")).unwrap(),
            b"not hex"
        );
    }
}
