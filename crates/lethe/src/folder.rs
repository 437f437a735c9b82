//! The data folder: where it is, who is in it, what runs on it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::keystore::write_private;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("no data folder: neither --data nor an absolute HOME is set; give --data DIR")]
    Nowhere,
    #[error("data folder {path:?} cannot be used; choose another with --data DIR")]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "data folder {path:?} is in use by another lethe; stop that one, or choose another with --data DIR"
    )]
    InUse { path: PathBuf },
    #[error("nothing runs on data folder {path:?}; start it with {}", starts(path))]
    NothingRuns { path: PathBuf },
    #[error(
        "the lethe that has data folder {path:?} is of a kind that tells nothing, as `lethe chain`, or has not \
         started yet; ask again, or stop it first"
    )]
    TellsNothing { path: PathBuf },
}

/// The commands that a folder is of, by the journals in it: one that holds the
/// chain and books is a demonstration's.
const ROLES: [(&str, &str); 4] = [
    ("consumer", "consume"),
    ("provider", "provide"),
    ("relay", "relay"),
    ("tower", "tower"),
];

/// The commands that ran on the folder at this path, by what they left in it.
fn roles_of(path: &Path) -> Vec<&'static str> {
    let journal = |name: &&(&str, &str)| path.join(format!("{}.sqlite", name.0)).exists();
    let roles: Vec<_> = ROLES
        .iter()
        .filter(journal)
        .map(|(_, role)| *role)
        .collect();
    match (path.join("chain").is_dir(), roles.is_empty()) {
        (true, true) => vec!["chain"],
        (true, false) => vec!["up"],
        (false, _) => roles,
    }
}

/// How what runs on this folder is started, as lines to type.
pub(crate) fn starts(path: &Path) -> String {
    let roles = match roles_of(path) {
        roles if roles.is_empty() => vec!["up", "consume"],
        roles => roles,
    };
    let data = flag_of(path);
    let line = |role: &&str| match *role {
        // Nobody can leave out which model it is.
        "provide" => format!("`lethe provide{data} --model …` as before"),
        "tower" => format!("`lethe tower{data} --claims FILE`"),
        role => format!("`lethe {role}{data}`"),
    };
    let lines: Vec<_> = roles.iter().map(line).collect();
    lines.join(" or ")
}

/// What to add to a command that is to use the folder at this path: nothing
/// for the usual one.
pub(crate) fn flag_of(path: &Path) -> String {
    match Folder::place(None) {
        Ok(usual) if usual == path => String::new(),
        _ => format!(" --data {}", quoted(&path.to_string_lossy())),
    }
}

/// A word as a shell takes it for one.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What a running node tells the other commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) base_url: String,
    pub(crate) rpc_url: String,
    pub(crate) dashboard_url: String,
    /// Where a provider's or a relay's description is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// Names that its gateway may be called by beside localhost and addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosts: Vec<String>,
}

/// A data folder; with the lock, nobody else writes into it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: Option<File>,
}

impl Folder {
    /// Where it is: as said, or by the platform's custom.
    fn place(said: Option<PathBuf>) -> Result<PathBuf, FolderError> {
        if let Some(path) = said {
            // What is printed of it has to hold in another folder, too.
            return Ok(std::path::absolute(&path).unwrap_or(path));
        }
        let absolute = |path: &std::ffi::OsString| Path::new(path).is_absolute();
        let base = std::env::var_os("XDG_DATA_HOME").filter(absolute);
        let home = std::env::var_os("HOME").filter(absolute);
        let home = || home.map(|home| Path::new(&home).join(".local/share"));
        let base = base
            .map(PathBuf::from)
            .or_else(home)
            .ok_or(FolderError::Nowhere)?;
        Ok(base.join("lethe"))
    }

    /// Made if it is not there, and locked.
    pub(crate) fn take(said: Option<PathBuf>) -> Result<Self, FolderError> {
        let path = Self::place(said)?;
        let at = |source| FolderError::Unusable {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&path).map_err(at)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(path.join("lock"))
            .map_err(at)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(at(source)),
        }
        Ok(Self {
            path,
            lock: Some(lock),
        })
    }

    /// Makes it, if it is not there.
    pub(crate) fn make(&self) -> Result<(), FolderError> {
        fs::create_dir_all(&self.path).map_err(|source| FolderError::Unusable {
            path: self.path.clone(),
            source,
        })
    }

    /// Whether somebody has it; not known where there is no lock to look at.
    pub(crate) fn is_taken(&self) -> io::Result<bool> {
        let lock = match File::open(self.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            lock => lock?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Only to look.
    pub(crate) fn look(said: Option<PathBuf>) -> Result<Self, FolderError> {
        Ok(Self {
            path: Self::place(said)?,
            lock: None,
        })
    }

    /// What to add to a command that is to use this folder: nothing for the
    /// usual one.
    pub(crate) fn flag(&self) -> String {
        flag_of(&self.path)
    }

    /// The commands that ran on it: `up`, `chain`, or any of the others.
    pub(crate) fn roles(&self) -> Vec<&'static str> {
        roles_of(&self.path)
    }

    /// How what runs on it is started, as lines to type.
    pub(crate) fn starts(&self) -> String {
        starts(&self.path)
    }

    /// The file or folder of this name in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The books that were kept in it, sorted.
    pub(crate) fn books(&self) -> Result<Vec<PathBuf>, FolderError> {
        let at = |source| FolderError::Unusable {
            path: self.path.clone(),
            source,
        };
        let mut books = Vec::new();
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(books),
            entries => entries.map_err(at)?,
        };
        for entry in entries {
            let path = entry.map_err(at)?.path();
            if path.extension() == Some("sqlite".as_ref()) {
                books.push(path);
            }
        }
        books.sort();
        Ok(books)
    }

    /// Whether books were kept in it.
    pub(crate) fn has_books(&self) -> Result<bool, FolderError> {
        Ok(!self.books()?.is_empty())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells other commands what runs here.
    pub(crate) fn announce(&self, running: &Running) -> Result<(), FolderError> {
        let json = serde_json::to_vec(running).expect("it has only string keys");
        write_private(&self.join("running.json"), &json).map_err(|source| FolderError::Unusable {
            path: self.path.clone(),
            source,
        })
    }

    /// What runs here.
    pub(crate) fn running(&self) -> Result<Running, FolderError> {
        let path = || self.path.clone();
        let nothing = || match self.is_taken() {
            Ok(true) => FolderError::TellsNothing { path: path() },
            _ => FolderError::NothingRuns { path: path() },
        };
        let text = fs::read(self.join("running.json")).map_err(|_| nothing())?;
        serde_json::from_slice(&text).map_err(|_| nothing())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // If it stays, the next command finds nobody answering there.
            let _ = fs::remove_file(self.join("running.json"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted("/tmp/a-b_c.d"), "/tmp/a-b_c.d");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted("https://x/?key=1&b"), "'https://x/?key=1&b'");
        assert_eq!(flag_of(Path::new("/a b")), " --data '/a b'");
    }

    #[test]
    fn a_folder_is_named_from_the_root() {
        let look = Folder::look(Some("demo".into())).unwrap();
        assert!(look.path().is_absolute() && look.path().ends_with("demo"));
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let said = Some(folder.path().join("data"));
        let first = Folder::take(said.clone()).unwrap();
        assert!(matches!(
            Folder::take(said.clone()),
            Err(FolderError::InUse { .. })
        ));
        drop(first);
        assert!(Folder::take(said).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = Folder::take(Some("/dev/null/data".into())).unwrap_err();
        assert!(error.to_string().contains("/dev/null/data"), "{error}");
    }

    #[test]
    fn what_runs_is_known_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let said = Some(folder.path().to_owned());
        let taken = Folder::take(said.clone()).unwrap();
        let look = Folder::look(said).unwrap();
        assert!(matches!(
            look.running(),
            Err(FolderError::TellsNothing { .. })
        ));
        let running = Running {
            base_url: "b".into(),
            rpc_url: "r".into(),
            dashboard_url: "d".into(),
            endpoint: None,
            hosts: vec![],
        };
        taken.announce(&running).unwrap();
        assert_eq!(look.running().unwrap().base_url, "b");
        drop(taken);
        assert!(matches!(
            look.running(),
            Err(FolderError::NothingRuns { .. })
        ));
    }

    #[test]
    fn a_hint_names_the_command_that_the_folder_is_of() {
        let folder = tempfile::tempdir().unwrap();
        let look = Folder::look(Some(folder.path().to_owned())).unwrap();
        let hint = || look.running().unwrap_err().to_string();
        let book = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        assert!(
            hint().contains("`lethe up --data /") && hint().contains("or `lethe consume --data /")
        );
        book("relay.sqlite");
        assert_eq!(look.roles(), ["relay"]);
        assert!(
            hint().contains("start it with `lethe relay --data /"),
            "{}",
            hint()
        );
        book("provider.sqlite");
        assert_eq!(look.roles(), ["provide", "relay"]);
        fs::create_dir(folder.path().join("chain")).unwrap();
        assert_eq!(look.roles(), ["up"]);
        assert!(
            hint().contains("start it with `lethe up --data /"),
            "{}",
            hint()
        );
    }
}
