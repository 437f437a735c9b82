//! `lethe reset`: begins a demonstration anew.
//!
//! Deleted are the chain and the books of what was done on it. Keys, the
//! gateway's keys and kept conversations stay. A folder that may hold money of
//! another chain is refused: its books are what brings that money back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chain::LOCAL_CHAIN_ID;
use serde_json::json;
use store::LoadError;

use crate::chain_watch;
use crate::cli;
use crate::folder::{Folder, FolderError, flag_of};
use crate::last_chain;
use crate::output;
use crate::place::{self, PlaceError};

/// What may lie beside a book's file, by the ending of its name.
const BESIDE: [&str; 5] = ["", "-wal", "-shm", ".mark", ".lock"];

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResetError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the books {path:?} cannot be read")]
    Load {
        path: PathBuf,
        #[source]
        source: LoadError,
    },
    #[error(
        "data folder {path:?} is no demonstration's: neither an embedded chain nor books of one are in it"
    )]
    NoDemo { path: PathBuf },
    #[error(
        "data folder {path:?} has books of chain {chain_id}, which is no demonstration's: they bring its money back \
         (`lethe where{0}`, `lethe exit{0}`); nothing was deleted",
        flag_of(path)
    )]
    OtherChain { path: PathBuf, chain_id: String },
    #[error(
        "data folder {path:?} has keys that another program made ({name}); move them away if they open nothing; \
         nothing was deleted"
    )]
    ForeignKeys { path: PathBuf, name: String },
    #[error("nobody is there to be asked; give --yes to delete {path:?}'s chain and books")]
    NobodyToAsk { path: PathBuf },
    #[error("nothing was deleted: the answer was not \"yes\"")]
    Kept,
    #[error("{path:?} cannot be deleted; run the same command again when it can")]
    Delete {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Looks, asks, deletes.
pub(crate) async fn reset(args: cli::Reset) -> Result<(), ResetError> {
    let look = Folder::look(args.data.folder.clone())?;
    let path = look.path().to_owned();
    if !path.is_dir() {
        return Err(ResetError::NoDemo { path });
    }
    // Nobody else is in it from here on.
    let folder = Folder::take(args.data.folder)?;
    let doomed = doomed(&folder).await?;
    if !args.yes {
        ask(&path, &doomed)?;
    }
    let starts = folder.starts();
    for one in &doomed {
        delete(one)?;
    }
    match args.json {
        true => output::json(&json!({ "deleted": doomed })),
        false => output::line(format!(
            "Deleted the chain and the books in {}. Keys and kept conversations are as they were; {starts} begins anew.",
            path.display(),
        )),
    }
    Ok(())
}

/// Deletes what [`reset`] would, unasked; nothing where there is nothing yet.
pub(crate) async fn begin_anew(folder: &Folder) -> Result<(), ResetError> {
    if !folder.join("chain").is_dir() && !folder.has_books()? {
        return Ok(());
    }
    for one in &doomed(folder).await? {
        delete(one)?;
    }
    Ok(())
}

/// What is to be deleted, the chain last: as long as it is there, an
/// interrupted reset can be run again.
async fn doomed(folder: &Folder) -> Result<Vec<PathBuf>, ResetError> {
    let path = folder.path().to_owned();
    let chain = folder.join("chain");
    let has_chain = chain.is_dir();
    let books = folder.books()?;
    if !has_chain && books.is_empty() {
        return Err(ResetError::NoDemo { path });
    }
    if let Some(name) = foreign_key(&folder.join("keys")) {
        return Err(ResetError::ForeignKeys { path, name });
    }
    let mut doomed = Vec::new();
    for book in books {
        let chains = chains(&book).await?;
        let local = LOCAL_CHAIN_ID.to_string();
        if let Some(chain_id) = chains.iter().find(|id| **id != local) {
            let chain_id = chain_id.clone();
            return Err(ResetError::OtherChain { path, chain_id });
        }
        if chains.is_empty() && !has_chain {
            return Err(ResetError::NoDemo { path });
        }
        for ending in BESIDE {
            let mut name = book.clone().into_os_string();
            name.push(ending);
            let beside = PathBuf::from(name);
            doomed.extend(beside.exists().then_some(beside));
        }
    }
    let last = folder.join(last_chain::FILE);
    doomed.extend(last.exists().then_some(last));
    doomed.extend(has_chain.then_some(chain));
    Ok(doomed)
}

/// The chains that a book was used with, as far as they told their first block.
async fn chains(book: &Path) -> Result<Vec<String>, ResetError> {
    let store = place::open(book)?;
    let known = chain_watch::known(&store).await;
    store.close().await;
    known.map_err(|source| ResetError::Load {
        path: book.to_owned(),
        source,
    })
}

/// A key in a file of its own: imported, or from before there were words.
fn foreign_key(keys: &Path) -> Option<String> {
    let entries = fs::read_dir(keys).ok()?;
    let names =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    names.filter(|name| name.ends_with(".key")).min()
}

fn ask(path: &Path, doomed: &[PathBuf]) -> Result<(), ResetError> {
    if !output::is_terminal() {
        let path = path.to_owned();
        return Err(ResetError::NobodyToAsk { path });
    }
    output::line("This deletes, for good:");
    for one in doomed {
        output::line(format!("  {}", one.display()));
    }
    output::line("Type \"yes\" and Enter to go on:");
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(ResetError::Kept),
    }
}

fn delete(path: &Path) -> Result<(), ResetError> {
    let deleted = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match deleted {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ResetError::Delete {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
