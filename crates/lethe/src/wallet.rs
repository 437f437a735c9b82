//! `lethe wallet`: the keys of a data folder, and channels found again from
//! its words. It needs no running node, and but for `show` none may run.

mod restore;

use std::path::{Path, PathBuf};

use market::{Address, WalletKey};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::wallet::{Act, Adopt, Export, Import, New, Phrase, Show, Wallet};
use crate::estate::CONSUMER;
use crate::folder::{Folder, FolderError, flag_of};
use crate::identity::{Books, IdentityError};
use crate::keystore::v3::{self, V3Error};
use crate::keystore::{self, Keystore, KeystoreError, Source, branch_of, is_former};
use crate::output;
use crate::phrase::Branch;
use crate::place::{self, PlaceError};
use crate::secret::{self, SecretError};

/// The names of the keys that roles use: the buyer's wallet, and one of each that earns.
const USED_NAMES: [&str; 4] = ["payer", "provider", "relay", "tower"];

/// Why the wallet command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalletError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Restore(#[from] restore::RestoreError),
    #[error("--words {words} is not allowed (allowed: 12 or 24)")]
    Words { words: u8 },
    #[error(
        "no keys in {folder:?}; `lethe wallet new{}` or a first start makes words that all follow from",
        flag_of(folder)
    )]
    NoKeys { folder: PathBuf },
    #[error(
        "the folder has words already; `lethe wallet show{}` says what follows from them",
        flag_of(folder)
    )]
    HasWords { folder: PathBuf },
    #[error(
        "this folder has no words: its keys are in files of their own, see `lethe wallet show{}`",
        flag_of(folder)
    )]
    NoWords { folder: PathBuf },
    #[error(
        "the words are printed only on a terminal, for who sees them has the money; \
         give --yes if they are to go elsewhere"
    )]
    NotATerminal,
    #[error(
        "no key {name:?} in {folder:?} (there: {known}); `lethe wallet show{0}` lists them",
        flag_of(folder)
    )]
    Unknown {
        name: String,
        folder: PathBuf,
        known: String,
    },
    #[error("--name {name:?} is no name for a key (allowed: letters, digits and `-`)")]
    Name { name: String },
    #[error(
        "{name} is {there} already, {}, and {given} would take its place: what {there} has would stay with it. Give the \
         other key a folder of its own with --data DIR, or --replace: then `lethe where` and `lethe exit` go on counting both",
        comes(from)
    )]
    InUse {
        name: String,
        there: Address,
        from: Source,
        given: Address,
    },
    #[error(
        "{name} is {there} already, and the books in {folder:?} are written with it, so {given} cannot take its place: \
         give that key a folder of its own with --data DIR, and bring the money here back with `lethe exit{} --to {given}`",
        flag_of(folder)
    )]
    HasBooks {
        name: String,
        there: Address,
        given: Address,
        folder: PathBuf,
    },
    #[error("{path:?} gives no key")]
    V3 {
        path: PathBuf,
        #[source]
        source: V3Error,
    },
    #[error("{path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} is there already and is not overwritten; give another --out")]
    Exists { path: PathBuf },
    #[error("there are no books in {folder:?} to adopt")]
    NothingToAdopt { folder: PathBuf },
}

/// Runs one of them.
pub(crate) async fn wallet(args: Wallet) -> Result<(), WalletError> {
    match args.act {
        Act::Show(show) => list(&Folder::look(args.data.folder)?, &show),
        Act::Phrase(phrase) => print_words(&Folder::look(args.data.folder)?, &phrase),
        Act::New(new) => begin(&Folder::take(args.data.folder)?, &new),
        Act::Import(import) => take(&Folder::take(args.data.folder)?, &import),
        Act::Export(export) => give(&Folder::look(args.data.folder)?, &export),
        Act::Adopt(adopt) => adopted(&Folder::take(args.data.folder)?, &adopt).await,
        Act::Restore(args_of) => {
            // Wrong words leave no folder behind.
            let phrase = restore::given(&Folder::look(args.data.folder.clone())?, &args_of)?;
            let folder = Folder::take(args.data.folder)?;
            Ok(Box::pin(restore::restore(folder, args_of, phrase)).await?)
        }
    }
}

fn keys(folder: &Folder) -> Result<Keystore, WalletError> {
    Ok(Keystore::open(folder.join("keys"), folder.has_books()?)?)
}

/// The keys of a folder that is only looked at: it is not made.
fn keys_there(folder: &Folder) -> Result<Keystore, WalletError> {
    match folder.join("keys").exists() {
        true => keys(folder),
        false => Err(WalletError::NoKeys {
            folder: folder.path().to_owned(),
        }),
    }
}

/// One key, as it is shown.
struct Row {
    name: String,
    public: String,
    source: String,
    /// The file that it is in, if it does not follow from the words.
    file: Option<PathBuf>,
}

/// `show`: looks, and makes nothing up.
fn list(folder: &Folder, show: &Show) -> Result<(), WalletError> {
    let keys = keys_there(folder)?;
    let has_words = keys.phrase()?.is_some();
    let names = shown(&keys, has_words, show.pseudonyms)?;
    let rows = names.iter().map(|file| row(&keys, file));
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let account = keys.account()?;
    let files: Vec<_> = rows.iter().filter_map(|row| row.file.as_deref()).collect();
    if show.json {
        let shown =
            |row: &Row| json!({ "name": row.name, "public": row.public, "source": row.source });
        let keys: Vec<_> = rows.iter().map(shown).collect();
        output::json(&json!({
            "words": has_words,
            "account": account,
            "keys": keys,
            "back_up": { "words": has_words, "files": files },
        }));
        return Ok(());
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for Row {
        name,
        public,
        source,
        ..
    } in &rows
    {
        output::line(format!("{name:width$}  {public}  {source}"));
    }
    let words = has_words.then(|| {
        format!(
            "account {account} of the words in {}",
            folder.join("keys/mnemonic").display()
        )
    });
    output::line(to_back_up(words, &files, &folder.flag()));
    Ok(())
}

/// What has to be kept elsewhere, so that a lost disk is no lost money.
fn to_back_up(words: Option<String>, files: &[&Path], flag: &str) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let copies = match files.len() {
        1 => "a copy of this file, whose key follows from no words",
        _ => "a copy of each of these files, whose keys follow from no words",
    };
    let files = files.join(", ");
    match words {
        Some(words) if files.is_empty() => {
            format!("All follow from {words}. Write the words down: `lethe wallet phrase{flag}`.")
        }
        Some(words) => format!(
            "Two things to keep elsewhere. The words, from which the keys with a path follow ({words}): `lethe wallet \
             phrase{flag}` shows them. And {copies}: {files}."
        ),
        None => format!("Keep elsewhere {copies}: {files}."),
    }
}

/// Where a key comes from, in words.
fn comes(from: &Source) -> String {
    match from {
        Source::File(path) => format!("from its file {}", path.display()),
        Source::Phrase(path) => format!("from the words of this folder ({path})"),
    }
}

/// The files that the keys of a folder are in, or would be in if they did not follow from the words.
fn shown(keys: &Keystore, has_words: bool, pseudonyms: u32) -> Result<Vec<String>, WalletError> {
    let mut names = keys.files()?;
    let derived = keys.derived()?;
    // One that was never used is in nobody's place.
    let is_shown = |name: &String| match name.strip_prefix("former-") {
        Some(former) => derived.contains_key(former),
        None => true,
    };
    let accounts = keys.accounts()?.into_iter().filter(is_shown);
    names.extend(accounts.map(|name| format!("{name}.key")));
    names.extend(derived.into_keys().map(|name| match name {
        node if node.ends_with(".node") => node,
        name => format!("{name}.key"),
    }));
    if has_words {
        names.extend(["payer.key".into(), "hot.key".into()]);
        let pairs =
            (1..=pseudonyms).flat_map(|n| [format!("payer-{n}.key"), format!("hot-{n}.key")]);
        names.extend(pairs);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Whether a name is of a consumer's n-th account, which follows from the words
/// whether or not it was used: `wallet show --pseudonyms N` lists it.
fn is_pseudonym(name: &str) -> bool {
    let number = ["payer-", "hot-"]
        .iter()
        .find_map(|of| name.strip_prefix(of));
    let number = number.and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| number > 0)
}

/// Refuses the name of a key that is not there: lending it would make one.
fn known(folder: &Folder, keys: &Keystore, name: &str) -> Result<(), WalletError> {
    let has_words = keys.phrase()?.is_some();
    let names = shown(keys, has_words, 0)?;
    let known = names.iter().filter_map(|file| file.strip_suffix(".key"));
    let known: Vec<_> = known.collect();
    if known.contains(&name) || has_words && is_pseudonym(name) {
        return Ok(());
    }
    Err(WalletError::Unknown {
        name: name.to_owned(),
        folder: folder.path().to_owned(),
        known: known.join(", "),
    })
}

fn row(keys: &Keystore, file: &str) -> Result<Row, WalletError> {
    let (name, public, branch) = match file.strip_suffix(".node") {
        Some(name) => (
            file.to_owned(),
            keys.node(name)?.id().to_string(),
            Branch::Node(name),
        ),
        None => {
            let name = file.strip_suffix(".key").unwrap_or(file);
            let public = keys.address(name)?.to_string();
            (name.to_owned(), public, branch_of(name))
        }
    };
    let (source, file) = match keys.source(branch, file)? {
        Source::File(path) => (format!("file {}", path.display()), Some(path)),
        Source::Phrase(path) => (path.to_string(), None),
    };
    Ok(Row {
        name,
        public,
        source,
        file,
    })
}

/// `new`.
fn begin(folder: &Folder, new: &New) -> Result<(), WalletError> {
    let entropy_bytes = match new.words {
        12 => keystore::ENTROPY_BYTES,
        24 => 2 * keystore::ENTROPY_BYTES,
        words => return Err(WalletError::Words { words }),
    };
    let keys = keys(folder)?;
    if keys.phrase()?.is_some() {
        return Err(WalletError::HasWords {
            folder: folder.path().to_owned(),
        });
    }
    if keys.files()?.is_empty() && folder.has_books()? {
        let folder = folder.path().to_owned();
        return Err(KeystoreError::Gone { folder }.into());
    }
    keys.begin(entropy_bytes, new.account)?;
    let wallet = keys.wallet("payer")?.address();
    let (words, flag) = (folder.join("keys/mnemonic"), folder.flag());
    let words = words.display();
    let files = keys.files()?;
    output::line(match files.is_empty() {
        true => format!(
            "Wallet {wallet}. Its words are in {words}; write them down with `lethe wallet phrase{flag}`: they are all that brings the money back."
        ),
        false => format!(
            "Wallet {wallet}. The words in {words} are for keys that have no file: keep a copy of {}, too; `lethe wallet show{flag}` says which key comes from where.",
            files.join(", ")
        ),
    });
    Ok(())
}

/// `phrase`.
fn print_words(folder: &Folder, phrase: &Phrase) -> Result<(), WalletError> {
    let words = keys_there(folder)?
        .phrase()?
        .ok_or_else(|| WalletError::NoWords {
            folder: folder.path().to_owned(),
        })?;
    if !output::is_terminal() && !phrase.yes {
        return Err(WalletError::NotATerminal);
    }
    if output::is_terminal() && !phrase.yes {
        output::line("Who sees these words has the money. Type \"show\" and Enter to see them:");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if read.is_err() || answer.trim() != "show" {
            return Ok(());
        }
    }
    output::line(words.words().as_str());
    Ok(())
}

/// `import`.
fn take(folder: &Folder, import: &Import) -> Result<(), WalletError> {
    let named = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let name = &import.name;
    if name.is_empty() || !name.chars().all(named) || is_former(name) {
        let name = name.clone();
        return Err(WalletError::Name { name });
    }
    let key = foreign_key(&import.file, import.passphrase_file.as_deref())?;
    let keys = keys(folder)?;
    if keys.files()?.is_empty() && keys.phrase()?.is_none() && !folder.has_books()? {
        // What is not imported follows from words, as in every new folder.
        keys.begin(keystore::ENTROPY_BYTES, 0)?;
    }
    let given = key.address();
    let before = keys.in_use(name)?;
    if let Some((there, from)) = &before {
        if *there == given {
            output::line(format!("{there} is {name} already, {}.", comes(from)));
            return Ok(());
        }
        may_replace(folder, import, (*there, from), given)?;
    }
    let (path, former) = keys.replace_key(name, &key)?;
    output::line(format!("{given} is {name} now, in {}.", path.display()));
    if !USED_NAMES.contains(&name.as_str()) {
        output::line(format!(
            "No role uses a key of that name by itself; they use {}, and `lethe up` those of its sellers.",
            USED_NAMES.join(", ")
        ));
    }
    if let (Some((there, _)), Some(former)) = (before, former) {
        output::line(format!(
            "{there} was {name} before and is called {former} now. `lethe where` and `lethe exit` go on counting what it has."
        ));
    }
    output::line(match keys.phrase()?.is_some() {
        true => format!(
            "No words bring this key back: keep a copy of that file. The other keys of this folder follow from its words, \
             so keep them, too: `lethe wallet phrase{}` shows them.",
            folder.flag()
        ),
        false => "No words bring this key back: keep a copy of that file.".to_owned(),
    });
    Ok(())
}

/// Refuses to take the place of a key that is in use, unless that was asked for and no books hang on it.
fn may_replace(
    folder: &Folder,
    import: &Import,
    (there, from): (Address, &Source),
    given: Address,
) -> Result<(), WalletError> {
    let name = import.name.clone();
    let books = match Branch::of(&name) {
        Branch::Wallet | Branch::Payer(_) | Branch::Hot(_) => CONSUMER,
        Branch::Named(_) | Branch::Node(_) => &name,
    };
    if folder.join(&format!("{books}.sqlite")).exists() {
        let folder = folder.path().to_owned();
        return Err(WalletError::HasBooks {
            name,
            there,
            given,
            folder,
        });
    }
    match import.replace {
        true => Ok(()),
        false => Err(WalletError::InUse {
            name,
            there,
            from: from.clone(),
            given,
        }),
    }
}

fn foreign_key(path: &Path, passphrase_file: Option<&Path>) -> Result<WalletKey, WalletError> {
    let encrypted = |text: &str| text.trim_start().starts_with('{');
    let bytes = std::fs::read(path).map_err(|source| KeystoreError::File {
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    drop(Zeroizing::new(bytes));
    if !encrypted(&text) {
        // In the clear: nobody else may be able to read it.
        return Ok(keystore::key_in(path)?);
    }
    if text.len() > v3::FILE_BYTES_MAX {
        let max = v3::FILE_BYTES_MAX as u64;
        let path = path.to_owned();
        return Err(KeystoreError::TooLarge { path, max }.into());
    }
    let prompt = format!("Passphrase of {}: ", path.display());
    let passphrase = secret::passphrase(passphrase_file, &prompt, false)?;
    v3::open(&text, &passphrase).map_err(|source| WalletError::V3 {
        path: path.to_owned(),
        source,
    })
}

/// `export`.
fn give(folder: &Folder, export: &Export) -> Result<(), WalletError> {
    let keys = keys_there(folder)?;
    if keys.phrase()?.is_none() && !keys.files()?.contains(&format!("{}.key", export.name)) {
        return Err(WalletError::NoWords {
            folder: folder.path().to_owned(),
        });
    }
    known(folder, &keys, &export.name)?;
    // A copy is no use: what is listed as used stays as it is.
    let key = keys.unnoted(&export.name)?;
    if is_pseudonym(&export.name) && keys.in_use(&export.name)?.is_none() {
        output::aside(format!(
            "{} has not been used here so far: see that it is the one that you mean.",
            export.name
        ));
    }
    if let Some(path) = export.out.as_ref().filter(|path| path.exists()) {
        let path = path.clone();
        return Err(WalletError::Exists { path });
    }
    let prompt = format!("New passphrase for {}: ", key.address());
    let passphrase = secret::passphrase(export.passphrase_file.as_deref(), &prompt, true)?;
    let text = v3::seal(&key, &passphrase, v3::WORK);
    let Some(path) = &export.out else {
        output::line(text);
        return Ok(());
    };
    keystore::write_private(path, text.as_bytes()).map_err(|source| WalletError::Write {
        path: path.clone(),
        source,
    })?;
    let path = path.display();
    output::line(format!(
        "{} is in {path}. For cast: --keystore {path}, with --password-file FILE where nobody can type.",
        key.address()
    ));
    Ok(())
}

/// `adopt`: the consumer's channels sign nothing until they are proved; all
/// books are bound to where they are now.
async fn adopted(folder: &Folder, adopt: &Adopt) -> Result<(), WalletError> {
    let files = folder.books()?;
    if files.is_empty() {
        let folder = folder.path().to_owned();
        return Err(WalletError::NothingToAdopt { folder });
    }
    let mut channels = Vec::new();
    for path in &files {
        let store = place::open(path)?;
        let restored = consumer::restore_known(&store).await;
        channels.extend(restored.map_err(restore::RestoreError::from)?);
        // Last: what was cut off before is refused as before.
        Books::at(&store, path)?.adopt().await?;
        store.close().await;
    }
    if adopt.json {
        let books: Vec<_> = files
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        output::json(&json!({ "books": books, "channels": channels }));
        return Ok(());
    }
    output::line(format!(
        "{} books are used from here on. {} channels sign nothing until their provider's receipts are fetched and the chain proves them.",
        files.len(),
        channels.len()
    ));
    output::line(format!(
        "Channels that were opened after the copy was made are found by `lethe wallet restore{}`.",
        folder.flag()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_be_kept_is_the_words_and_every_file() {
        let words = || Some("account 0 of the words in /d/keys/mnemonic".to_owned());
        let file = Path::new("/d/keys/payer.key");
        let all = to_back_up(words(), &[], "");
        assert!(
            all.starts_with("All follow from account 0 of the words"),
            "{all}"
        );
        let both = to_back_up(words(), &[file], " --data /d");
        for part in [
            "Two things",
            "`lethe wallet phrase --data /d`",
            "/d/keys/payer.key",
        ] {
            assert!(both.contains(part), "no {part:?} in {both}");
        }
        let files = to_back_up(None, &[file, file], "");
        assert!(
            files.starts_with("Keep elsewhere a copy of each of these files"),
            "{files}"
        );
    }

    #[test]
    fn a_name_that_nobody_has_is_no_key_to_export() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let keys = keys(&folder).unwrap();
        keys.begin(keystore::ENTROPY_BYTES, 0).unwrap();
        for there in ["payer", "hot", "payer-1", "hot-17"] {
            known(&folder, &keys, there).unwrap();
        }
        for absent in ["alice", "payer-0", "payer-x", "provider", ""] {
            let said = known(&folder, &keys, absent).unwrap_err().to_string();
            assert!(said.contains("(there: hot, payer)"), "{said}");
        }
        keys.wallet("provider").unwrap();
        known(&folder, &keys, "provider").unwrap();
    }
}
