//! What keeps the house in order, as tests: `cargo test -p xtask`.
//!
//! Each file of `tests/` checks one rule of `CONTRIBUTING.md` over the files
//! that git tracks. Here is only what they share: finding and reading them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_owned()
}

/// Every file of the repository: tracked, or new and not ignored. Relative to
/// the root, sorted.
pub fn files() -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root())
        .output()
        .context("git is needed to list the files")?;
    ensure!(
        output.status.success(),
        "git ls-files failed: is this a git checkout?"
    );
    let text = String::from_utf8(output.stdout)?;
    let listed = text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let mut files: Vec<_> = listed.filter(|path| root().join(path).is_file()).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The files below `folder` with one of these endings.
pub fn files_below(folder: &str, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let ends = |path: &PathBuf| {
        path.extension()
            .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
    };
    Ok(files()?
        .into_iter()
        .filter(|path| path.starts_with(folder) && ends(path))
        .collect())
}

/// A file's text.
pub fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("{}", path.display()))
}

/// The hash that ties a generated file to its sources: SHA-256 over path,
/// zero, content, zero of each file, in the order of their paths; paths are
/// relative to `base`.
pub fn source_hash(base: &str, paths: &[PathBuf]) -> anyhow::Result<String> {
    let mut relative: Vec<(String, PathBuf)> = Vec::new();
    for path in paths {
        let name = path
            .strip_prefix(base)?
            .to_str()
            .context("paths are UTF-8")?
            .to_owned();
        relative.push((name, root().join(path)));
    }
    relative.sort();
    let mut hash = Sha256::new();
    for (name, path) in relative {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(std::fs::read(&path).with_context(|| format!("{}", path.display()))?);
        hash.update([0]);
    }
    Ok(hex::encode(hash.finalize()))
}

/// The lines of a Rust file that are not tests: up to its `#[cfg(test)]`.
pub fn production_lines(text: &str) -> Vec<&str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .collect()
}
