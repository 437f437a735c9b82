//! The data folder: where it is, who is in it, what runs on it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use market::Address;
use serde::{Deserialize, Serialize};

use crate::keystore::write_private;
use crate::listen::opens_at;
use crate::output;

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
        "the lethe that has data folder {path:?} is of a kind that tells nothing, as `lethe chain` or `lethe exit` \
         (while that waits, `lethe where` shows the money), or has not started yet; ask again, or stop it first"
    )]
    TellsNothing { path: PathBuf },
    #[error(
        "data folder {path:?} is of `lethe {owner}`, which has its own chain in it: books of another one do not go \
         beside that; give `lethe {tenant}` a folder of its own with --data DIR"
    )]
    OwnChain {
        path: PathBuf,
        owner: &'static str,
        tenant: &'static str,
    },
    #[error(
        "data folder {path:?} is of `lethe {owner}`, with books of a chain elsewhere that bring its money back \
         (`lethe where{0}`); give `lethe {tenant}` a folder of its own with --data DIR",
        flag_of(path)
    )]
    ChainElsewhere {
        path: PathBuf,
        owner: String,
        tenant: &'static str,
    },
    #[error(
        "data folder {path:?} is of `lethe up`, and its chain is gone: put its folder `chain` back, begin anew with \
         `lethe up{0} --reset`, or choose another with --data DIR",
        flag_of(path)
    )]
    ChainGone { path: PathBuf },
}

/// The books of `lethe up` that no other command has.
const MARKET: [&str; 5] = ["amber", "birch", "cedar", "dogwood", "elder"];

/// The command that is to use a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// `lethe up`; with `reset` its chain and books are about to be deleted.
    Up { reset: bool },
    /// `lethe chain`.
    Chain,
    /// A role that uses a chain elsewhere: its command's name.
    Role(&'static str),
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
    let journal = |name: &&(&str, &str)| has_book(path, name.0);
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

/// Whether there are books of this name in the folder at this path.
fn has_book(path: &Path, name: &str) -> bool {
    path.join(format!("{name}.sqlite")).exists()
}

/// Whether the folder at this path was used with a chain that is in it.
fn has_market(path: &Path) -> bool {
    path.join("chain").is_dir() || MARKET.iter().any(|name| has_book(path, name))
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
        "provide" => format!("`lethe provide{data} --model …` or `lethe sell{data} …` as before"),
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
    /// The tokens that it pays with, if it pays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pays_with: Vec<Address>,
}

impl Running {
    /// A gateway that listens there, with its page.
    /// `pays_with`: the tokens that it pays with.
    pub(crate) fn gateway(
        http: SocketAddr,
        rpc_url: &str,
        hosts: Vec<String>,
        pays_with: Vec<Address>,
    ) -> Self {
        let http = opens_at(http);
        Self {
            base_url: format!("http://{http}/v1"),
            rpc_url: rpc_url.to_owned(),
            dashboard_url: format!("http://{http}/"),
            endpoint: None,
            hosts,
            pays_with,
        }
    }

    /// Whether clients ask there: who buys pays. Others have a door for commands alone.
    pub(crate) fn is_gateway(&self) -> bool {
        !self.pays_with.is_empty()
    }
}

/// The file that says of a node that it is about to leave its folder.
const STOPPING: &str = "stopping";
/// The file that says what runs here.
const RUNNING: &str = "running.json";
/// The file that says where an exit that waits can be asked.
const EXIT: &str = "exit.json";
/// Between two looks whether it has.
const STOPPING_LOOK: Duration = Duration::from_millis(50);
/// The most of them, 10 s together: longer than a node takes that answers nobody.
const STOPPING_WAITS: u32 = 200;

/// Takes the lock, after so many pauses at most.
fn locked(lock: &File, mut waits: u32, mut pause: impl FnMut()) -> Result<(), TryLockError> {
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if waits > 0 => {
                waits -= 1;
                pause();
            }
            done => return done,
        }
    }
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
        let waits = if path.join(STOPPING).exists() {
            STOPPING_WAITS
        } else {
            0
        };
        let mut is_told = false;
        let pause = || {
            if !std::mem::replace(&mut is_told, true) {
                output::aside(format!(
                    "The lethe that has data folder {path:?} is stopping; waiting for its end, up to {} s.",
                    (STOPPING_LOOK * STOPPING_WAITS).as_secs()
                ));
            }
            std::thread::sleep(STOPPING_LOOK);
        };
        match locked(&lock, waits, pause) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(at(source)),
        }
        let folder = Self {
            path,
            lock: Some(lock),
        };
        // One that was killed left what it said of itself.
        folder.unsay();
        Ok(folder)
    }

    /// The same for this command: refused, with nothing written into it, is a
    /// folder that is another one's.
    pub(crate) fn take_for(said: Option<PathBuf>, tenant: Tenant) -> Result<Self, FolderError> {
        let folder = Self::take(said)?;
        folder.admits(tenant)?;
        Ok(folder)
    }

    /// A chain in the folder and books of another one do not go together: each
    /// would be looked for on the wrong chain when the money is to come back.
    fn admits(&self, tenant: Tenant) -> Result<(), FolderError> {
        let path = || self.path.clone();
        let tenant_name = match tenant {
            Tenant::Up { .. } => "up",
            Tenant::Chain => "chain",
            Tenant::Role(name) => name,
        };
        let is_market = has_market(&self.path);
        match tenant {
            Tenant::Role(tenant) if is_market => Err(FolderError::OwnChain {
                path: path(),
                owner: match self.has_books()? {
                    true => "up",
                    false => "chain",
                },
                tenant,
            }),
            Tenant::Role(_) => Ok(()),
            Tenant::Up { reset: true } if is_market => Ok(()),
            _ if self.join("chain").is_dir() || !self.has_books()? => Ok(()),
            _ if is_market => Err(FolderError::ChainGone { path: path() }),
            _ => Err(FolderError::ChainElsewhere {
                path: path(),
                owner: match self.roles() {
                    roles if roles.is_empty() => "another command".to_owned(),
                    roles => roles.join("` and `lethe "),
                },
                tenant: tenant_name,
            }),
        }
    }

    /// Books of roles that use a chain elsewhere, in a folder that has its own.
    pub(crate) fn strangers(&self) -> Vec<&'static str> {
        let names = ROLES.iter().map(|(book, _)| *book);
        let strange = names.filter(|book| *book != "consumer" && has_book(&self.path, book));
        match self.join("chain").is_dir() {
            true => strange.collect(),
            false => Vec::new(),
        }
    }

    /// Why no command starts on it: it is a demonstration's, without its chain.
    pub(crate) fn chain_is_gone(&self) -> Option<FolderError> {
        let gone = self.admits(Tenant::Up { reset: false }).err()?;
        matches!(gone, FolderError::ChainGone { .. }).then_some(gone)
    }

    /// Whether a gateway was started on it.
    pub(crate) fn has_gateway(&self) -> bool {
        has_book(&self.path, "consumer") || self.join("api-keys.json").exists()
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
        self.say(RUNNING, running)
    }

    /// Tells `lethe where` that an exit waits here, and where to ask it.
    pub(crate) fn announce_exit(&self, running: &Running) -> Result<(), FolderError> {
        self.say(EXIT, running)
    }

    fn say(&self, name: &str, running: &Running) -> Result<(), FolderError> {
        let json = serde_json::to_vec(running).expect("it has only string keys");
        write_private(&self.join(name), &json).map_err(|source| FolderError::Unusable {
            path: self.path.clone(),
            source,
        })
    }

    /// Takes back what was said of what runs here. If it stays, the next command
    /// finds nobody answering there.
    fn unsay(&self) {
        for name in [RUNNING, STOPPING, EXIT] {
            let _ = fs::remove_file(self.join(name));
        }
    }

    /// The exit that waits here, if one does.
    pub(crate) fn exit_that_waits(&self) -> Option<Running> {
        let text = fs::read(self.join(EXIT)).ok()?;
        let is_taken = self.is_taken().unwrap_or(false);
        serde_json::from_slice(&text).ok().filter(|_| is_taken)
    }

    /// Tells who wants the folder that it is free soon.
    pub(crate) fn leaves(&self) {
        // Without it nobody waits.
        let _ = fs::write(self.join(STOPPING), "");
    }

    /// What runs here.
    pub(crate) fn running(&self) -> Result<Running, FolderError> {
        let path = || self.path.clone();
        let nothing = || match self.is_taken() {
            Ok(true) => FolderError::TellsNothing { path: path() },
            _ => FolderError::NothingRuns { path: path() },
        };
        let text = fs::read(self.join(RUNNING)).map_err(|_| nothing())?;
        serde_json::from_slice(&text).map_err(|_| nothing())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.unsay();
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
    fn who_is_stopping_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let said = Some(folder.path().to_owned());
        let mut first = Some(Folder::take(said.clone()).unwrap());
        first.as_ref().unwrap().leaves();
        let stopping = folder.path().join(STOPPING);
        assert!(stopping.exists());
        let lock = File::open(folder.path().join("lock")).unwrap();
        let mut pauses = 0;
        // It goes while it is waited for.
        let taken = locked(&lock, 3, || {
            pauses += 1;
            drop(first.take());
        });
        assert!(taken.is_ok() && pauses == 1, "{taken:?} after {pauses}");
        assert!(!stopping.exists());
        let refused = locked(&File::open(folder.path().join("lock")).unwrap(), 2, || {
            pauses += 1
        });
        assert!(matches!(refused, Err(TryLockError::WouldBlock)) && pauses == 3);
        drop(lock);
        // Killed while it stopped.
        fs::write(&stopping, "").unwrap();
        let second = Folder::take(said).unwrap();
        assert!(!stopping.exists());
        drop(second);
    }

    #[test]
    fn a_folder_is_for_what_it_was_used_for() {
        const UP: Tenant = Tenant::Up { reset: false };
        const ANEW: Tenant = Tenant::Up { reset: true };
        const CONSUME: Tenant = Tenant::Role("consume");
        let folder = tempfile::tempdir().unwrap();
        let look = Folder::look(Some(folder.path().to_owned())).unwrap();
        let book = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        let refused = |tenant| look.admits(tenant).unwrap_err().to_string();
        for tenant in [UP, ANEW, CONSUME, Tenant::Chain] {
            look.admits(tenant).unwrap();
        }
        book("consumer.sqlite");
        look.admits(CONSUME).unwrap();
        look.admits(Tenant::Role("relay")).unwrap();
        for tenant in [UP, ANEW, Tenant::Chain] {
            let said = refused(tenant);
            assert!(said.contains("of `lethe consume`, with books"), "{said}");
            assert!(said.contains("--data DIR"), "{said}");
        }
        book("amber.sqlite");
        assert!(refused(UP).contains("lethe up --data /"), "{}", refused(UP));
        look.admits(ANEW).unwrap();
        assert!(refused(CONSUME).contains("is of `lethe up`"));
        fs::create_dir(folder.path().join("chain")).unwrap();
        for tenant in [UP, ANEW, Tenant::Chain] {
            look.admits(tenant).unwrap();
        }
        assert!(refused(CONSUME).contains("is of `lethe up`"));
        assert!(look.strangers().is_empty());
        book("relay.sqlite");
        assert_eq!(look.strangers(), ["relay"]);
        let bare = tempfile::tempdir().unwrap();
        fs::create_dir(bare.path().join("chain")).unwrap();
        let look = Folder::look(Some(bare.path().to_owned())).unwrap();
        let said = look.admits(CONSUME).unwrap_err().to_string();
        assert!(said.contains("is of `lethe chain`"), "{said}");
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
            pays_with: vec![],
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
