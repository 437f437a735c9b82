//! Secrets that come from a person: typed unseen, or read from a file or a
//! pipe; never from an argument or the environment. Wiped when dropped.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::keystore::{KeystoreError, private_text};

/// The longest secret, in bytes.
const BYTES_MAX: u64 = 4096;

/// What the words of a phrase are called.
const WORDS: &str = "words";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("nobody is at a terminal to type the {what}; give {flag} FILE")]
    NobodyToAsk {
        what: &'static str,
        flag: &'static str,
    },
    #[error("the {what} could not be read")]
    Read {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "the file {path:?} of the {what} can be read by others (mode {mode:o}); run `chmod 600` on it, \
         and if somebody may have read it, {}",
        instead(what)
    )]
    Open {
        what: &'static str,
        path: PathBuf,
        mode: u32,
    },
    #[error("the file {path:?} of the {what} cannot be read")]
    Unreadable {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    File(KeystoreError),
    #[error("the {what} is empty")]
    Empty { what: &'static str },
    #[error("the {what} in {path:?} is empty")]
    EmptyFile { what: &'static str, path: PathBuf },
    #[error("the two passphrases are not the same; nothing was written")]
    Differ,
}

/// What to do with a secret that others may know.
fn instead(what: &str) -> String {
    match what {
        WORDS => "send the money to a wallet of other words".to_owned(),
        what => format!("take another {what}"),
    }
}

/// A passphrase: the first line of `file`, or typed; `fresh`: typed twice.
pub(crate) fn passphrase(
    file: Option<&Path>,
    prompt: &str,
    fresh: bool,
) -> Result<Zeroizing<String>, SecretError> {
    const WHAT: &str = "passphrase";
    if let Some(path) = file {
        return first_line(WHAT, path);
    }
    let first = typed(WHAT, "--passphrase-file", prompt)?;
    if fresh && *first != *typed(WHAT, "--passphrase-file", "The same once more: ")? {
        return Err(SecretError::Differ);
    }
    Ok(first)
}

/// The key of a server that asks for one: the first line of `file`.
pub(crate) fn backend_key(file: &Path) -> Result<Zeroizing<String>, SecretError> {
    let line = first_line("API key", file)?;
    Ok(Zeroizing::new(line.trim().to_owned()))
}

fn first_line(what: &'static str, path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let text = text(what, path)?;
    let line = text.lines().next().unwrap_or_default();
    match line.trim().is_empty() {
        true => Err(SecretError::EmptyFile {
            what,
            path: path.to_owned(),
        }),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// The text of a file that nobody else may read, which is no key's: its faults
/// are told as what it is.
fn text(what: &'static str, path: &Path) -> Result<Zeroizing<String>, SecretError> {
    private_text(path).map_err(|error| match error {
        KeystoreError::Open { path, mode } => SecretError::Open { what, path, mode },
        KeystoreError::File { path, source } => SecretError::Unreadable { what, path, source },
        other => SecretError::File(other),
    })
}

/// The words of a phrase: from `file`, from standard input if that is `-`, or typed.
pub(crate) fn words(file: Option<&Path>) -> Result<Zeroizing<String>, SecretError> {
    match file {
        None => typed(WORDS, "--phrase-file", "The words, in their order: "),
        Some(path) if path == Path::new("-") => {
            let mut text = Zeroizing::new(String::new());
            let read = io::stdin().lock().take(BYTES_MAX).read_to_string(&mut text);
            read.map_err(|source| SecretError::Read {
                what: WORDS,
                source,
            })?;
            Ok(text)
        }
        Some(path) => text(WORDS, path),
    }
}

/// What is typed on the terminal, unseen.
fn typed(
    what: &'static str,
    flag: &'static str,
    prompt: &str,
) -> Result<Zeroizing<String>, SecretError> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(SecretError::NobodyToAsk { what, flag });
    }
    let text = rpassword::prompt_password(prompt);
    let text = text.map_err(|source| SecretError::Read { what, source })?;
    let text = Zeroizing::new(text);
    match text.is_empty() {
        true => Err(SecretError::Empty { what }),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::write_private;

    #[test]
    fn a_passphrase_is_the_first_line_of_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        write_private(&path, b"first line \nsecond").unwrap();
        let taken = passphrase(Some(&path), "", true).unwrap();
        assert_eq!(*taken, "first line ");
        write_private(&path, b"\nsecond").unwrap();
        let refused = passphrase(Some(&path), "", true);
        assert!(matches!(refused, Err(SecretError::EmptyFile { .. })));
        std::fs::write(folder.path().join("open"), b"x").unwrap();
        let open = folder.path().join("open");
        let refused = passphrase(Some(&open), "", true).unwrap_err().to_string();
        for words in ["of the passphrase can be read by others", "chmod 600"] {
            assert!(refused.contains(words), "{refused}");
        }
        assert!(!refused.contains("money"), "{refused}");
        let of_words = words(Some(&open)).unwrap_err().to_string();
        assert!(
            of_words.ends_with("to a wallet of other words"),
            "{of_words}"
        );
        let refused = backend_key(&open).unwrap_err().to_string();
        assert!(refused.contains("of the API key can be read"), "{refused}");
        write_private(&path, b"sk-1 \n").unwrap();
        assert_eq!(*backend_key(&path).unwrap(), "sk-1");
    }
}
