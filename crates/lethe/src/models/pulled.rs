//! The folder of pulled models: `ORG/REPO/FILE`, beside each what is known of it.
//!
//! A file that is whole and checked has its own name; on the way it is
//! `FILE.part`, with the wrong checksum `FILE.wrong`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ModelsError;
use super::reference::{Digest, FILE_PARTS_MAX, Reference, is_model};
use crate::folder::Folder;
use crate::keystore::write_private;

/// The folder of all models in the data folder.
const FOLDER: &str = "models";
/// Files and folders that are looked at; nobody has so many models.
const ENTRIES_MAX: usize = 10_000;
/// The longest text of what is known of a file.
const NOTE_BYTES_MAX: u64 = 4096;

/// What is known of a pulled file, beside it as `FILE.json`; of one that is on the way as `FILE.part.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) sha256: Digest,
    pub(crate) bytes: u64,
    /// The commit, if the server named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
}

impl Note {
    /// None: there is none that can be read, which is as good as none.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let is_short = fs::metadata(path).is_ok_and(|file| file.len() <= NOTE_BYTES_MAX);
        let text = is_short.then(|| fs::read(path).ok()).flatten()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), ModelsError> {
        let text = serde_json::to_vec(self).expect("it has only string keys");
        write_private(path, &text).map_err(|source| ModelsError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

/// A model's file in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulled {
    pub(crate) reference: Reference,
    /// Where the whole file is, or is to be.
    pub(crate) path: PathBuf,
    /// What is there of it, in bytes.
    pub(crate) held: u64,
    /// None: only a part is there.
    pub(crate) is_whole: bool,
    pub(crate) note: Option<Note>,
}

/// Where a model's files are.
pub(super) struct Paths {
    pub(super) file: PathBuf,
    pub(super) note: PathBuf,
    pub(super) part: PathBuf,
    pub(super) part_note: PathBuf,
    pub(super) wrong: PathBuf,
}

impl Paths {
    pub(super) fn of(models: &Path, reference: &Reference) -> Self {
        let file = reference.path_below(models);
        let with = |ending: &str| {
            let mut path = file.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        };
        Self {
            note: with(".json"),
            part: with(".part"),
            part_note: with(".part.json"),
            wrong: with(".wrong"),
            file,
        }
    }
}

/// The folder of all models.
pub(crate) fn folder(data: &Folder) -> PathBuf {
    data.join(FOLDER)
}

/// All that are there, in the order of their names.
pub(crate) fn list(models: &Path) -> Result<Vec<Pulled>, ModelsError> {
    let mut found = Vec::new();
    let mut left = ENTRIES_MAX;
    walk(models, &mut Vec::new(), &mut left, &mut found)?;
    found.sort_by_key(|one| one.reference.to_string());
    Ok(found)
}

/// The one that is meant: by its name, its file's name, or its whole reference.
pub(crate) fn find(models: &Path, asked: &str) -> Result<Pulled, ModelsError> {
    let all = list(models)?;
    let is_meant = |one: &&Pulled| {
        let Pulled { reference, .. } = one;
        let file = reference.file().rsplit('/').next();
        reference.name() == asked || file == Some(asked) || reference.to_string() == asked
    };
    let meant: Vec<_> = all.iter().filter(is_meant).collect();
    let names = |of: &[&Pulled]| {
        let names: Vec<_> = of.iter().map(|one| one.reference.to_string()).collect();
        names.join(", ")
    };
    match meant.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(ModelsError::Unknown {
            asked: asked.to_owned(),
            known: match all.is_empty() {
                true => {
                    "none was pulled; `lethe model pull hf:ORG/REPO:FILE` brings one".to_owned()
                }
                false => format!("there are {}", names(&all.iter().collect::<Vec<_>>())),
            },
        }),
        several => Err(ModelsError::Ambiguous {
            asked: asked.to_owned(),
            names: names(several),
        }),
    }
}

/// Deletes it, and what is known of it. The bytes that came free.
pub(crate) fn remove(models: &Path, pulled: &Pulled) -> Result<u64, ModelsError> {
    let paths = Paths::of(models, &pulled.reference);
    let mut freed = 0;
    for path in [
        &paths.file,
        &paths.note,
        &paths.part,
        &paths.part_note,
        &paths.wrong,
    ] {
        let bytes = fs::symlink_metadata(path).map_or(0, |file| file.len());
        match fs::remove_file(path) {
            Ok(()) => freed += bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ModelsError::Write {
                    path: path.clone(),
                    source,
                });
            }
        }
    }
    // The folders above it, as far as they are empty.
    let above = pulled.path.ancestors().skip(1);
    for folder in above.take_while(|folder| *folder != models) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(freed)
}

/// Looks at the folder with these names above it. Links are not followed.
fn walk(
    folder: &Path,
    above: &mut Vec<String>,
    left: &mut usize,
    found: &mut Vec<Pulled>,
) -> Result<(), ModelsError> {
    let at = |source| ModelsError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at)?,
    };
    for entry in entries {
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        let entry = entry.map_err(at)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().map_err(at)?;
        if kind.is_dir() && above.len() <= FILE_PARTS_MAX {
            above.push(name);
            walk(&entry.path(), above, left, found)?;
            above.pop();
        } else if kind.is_file() {
            found.extend(look(&entry.path(), above, &name));
        }
    }
    Ok(())
}

/// What this file is: a model, or a part of one; otherwise none.
fn look(path: &Path, above: &[String], name: &str) -> Option<Pulled> {
    let [org, repo, folders @ ..] = above else {
        return None;
    };
    let (name, is_whole) = match name.strip_suffix(".part") {
        Some(name) => (name, false),
        None => (name, true),
    };
    if !is_model(name) {
        return None;
    }
    let mut parts: Vec<&str> = folders.iter().map(String::as_str).collect();
    parts.push(name);
    let reference = Reference::of(org, repo, &parts.join("/")).ok()?;
    let whole = path.with_file_name(name);
    // One that is being replaced is listed as it is.
    if !is_whole && whole.is_file() {
        return None;
    }
    let note = match is_whole {
        true => path.with_file_name(format!("{name}.json")),
        false => path.with_file_name(format!("{name}.part.json")),
    };
    let held = fs::metadata(path).ok()?.len();
    let known = Note::read(&note);
    Some(Pulled {
        reference,
        path: whole,
        held,
        is_whole,
        // What is said of a file of another length is said of another file.
        note: known.filter(|note| !is_whole || note.bytes == held),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = b"GGUF";

    fn put(models: &Path, text: &str, ending: &str) {
        let reference = Reference::parse(text).unwrap();
        let path = reference.path_below(models);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let name = format!("{}{ending}", path.file_name().unwrap().to_str().unwrap());
        fs::write(path.with_file_name(name), BYTES).unwrap();
    }

    #[test]
    fn what_is_there_is_found_by_its_name_and_gone_when_removed() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        assert!(list(&models).unwrap().is_empty());
        let said = find(&models, "one").unwrap_err().to_string();
        assert!(said.contains("lethe model pull"), "{said}");
        put(&models, "hf:a/b:one.gguf", "");
        put(&models, "hf:a/b:deep/er/two.gguf", "");
        put(&models, "hf:c/d:two.gguf", "");
        put(&models, "hf:c/d:three.gguf", ".part");
        put(&models, "hf:c/d:four.gguf", ".wrong");
        fs::write(models.join("a/b/readme.md"), "no model").unwrap();
        let all = list(&models).unwrap();
        let names: Vec<_> = all.iter().map(|one| one.reference.to_string()).collect();
        let expected = [
            "hf:a/b:deep/er/two.gguf",
            "hf:a/b:one.gguf",
            "hf:c/d:three.gguf",
            "hf:c/d:two.gguf",
        ];
        assert_eq!(names, expected);
        assert!(!all[2].is_whole && all[3].is_whole);

        let one = find(&models, "one").unwrap();
        assert_eq!(find(&models, "one.gguf").unwrap(), one);
        assert_eq!(find(&models, "hf:a/b:one.gguf").unwrap(), one);
        let said = find(&models, "two").unwrap_err().to_string();
        assert!(
            said.contains("hf:a/b:deep/er/two.gguf, hf:c/d:two.gguf"),
            "{said}"
        );
        let said = find(&models, "nine").unwrap_err().to_string();
        assert!(said.contains("hf:a/b:one.gguf"), "{said}");

        let deep = find(&models, "hf:a/b:deep/er/two.gguf").unwrap();
        assert_eq!(remove(&models, &deep).unwrap(), 4);
        assert!(!models.join("a/b/deep").exists() && models.join("a/b/one.gguf").exists());
    }

    #[test]
    fn what_is_said_of_another_file_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path();
        put(models, "hf:a/b:one.gguf", "");
        let paths = Paths::of(models, &Reference::parse("hf:a/b:one.gguf").unwrap());
        let mut note = Note {
            sha256: Digest([7; 32]),
            bytes: 4,
            revision: None,
        };
        note.write(&paths.note).unwrap();
        assert_eq!(find(models, "one").unwrap().note, Some(note.clone()));
        note.bytes = 5;
        note.write(&paths.note).unwrap();
        assert_eq!(find(models, "one").unwrap().note, None);
    }
}
