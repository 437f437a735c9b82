//! Which file of which repo: `hf:ORG/REPO:FILE`, as people write it.
//!
//! The parts become parts of a URL and of a path on this machine, so only
//! plain characters are taken, and nothing that means a folder above.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where models are.
const SCHEME: &str = "hf:";
/// The engine reads no other files.
const EXTENSION: &str = ".gguf";
/// The longest owner, repo, or part of a file's path; the hub's own names are not longer.
const PART_BYTES_MAX: usize = 128;
/// Folders within a repo, and the file.
pub(super) const FILE_PARTS_MAX: usize = 4;

/// Why it is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error(
        "it has another form (allowed: hf:ORG/REPO:FILE, such as hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q8_0.gguf)"
    )]
    Form,
    #[error(
        "{what} is {part:?} (allowed: up to {PART_BYTES_MAX} letters, digits and `-_.+`, not beginning with `.` or `-`)"
    )]
    Part { what: &'static str, part: String },
    #[error("FILE has {parts} parts (allowed: up to {FILE_PARTS_MAX}, with `/` between them)")]
    Deep { parts: usize },
    #[error(
        "FILE is {file:?} (allowed: a name that ends in {EXTENSION}; the engine reads no other files)"
    )]
    Extension { file: String },
    #[error("it is {text:?} (allowed: 64 hexadecimal digits)")]
    Digest { text: String },
}

/// A file of a repo. Once it exists, its parts are safe in a URL and in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    org: String,
    repo: String,
    file: String,
}

impl Reference {
    /// As it is written.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let parts = text.strip_prefix(SCHEME).and_then(|rest| {
            let (repo, file) = rest.split_once(':')?;
            let (org, repo) = repo.split_once('/')?;
            Some((org, repo, file))
        });
        let (org, repo, file) = parts.ok_or(ReferenceError::Form)?;
        Self::of(org, repo, file)
    }

    /// Of its parts.
    pub(super) fn of(org: &str, repo: &str, file: &str) -> Result<Self, ReferenceError> {
        plain("ORG", org)?;
        plain("REPO", repo)?;
        let parts = file.split('/').count();
        if parts > FILE_PARTS_MAX {
            return Err(ReferenceError::Deep { parts });
        }
        for part in file.split('/') {
            plain("a part of FILE", part)?;
        }
        if !is_model(file) {
            return Err(ReferenceError::Extension {
                file: file.to_owned(),
            });
        }
        Ok(Self {
            org: org.to_owned(),
            repo: repo.to_owned(),
            file: file.to_owned(),
        })
    }

    /// `ORG/REPO`.
    pub(crate) fn repo(&self) -> String {
        format!("{}/{}", self.org, self.repo)
    }

    /// The file's path in the repo.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// What it is called for short: the file's name without its ending.
    pub(crate) fn name(&self) -> &str {
        let name = self.file.rsplit('/').next().unwrap_or(&self.file);
        &name[..name.len() - EXTENSION.len()]
    }

    /// Where it is below the folder of all models.
    pub(crate) fn path_below(&self, models: &Path) -> PathBuf {
        models.join(&self.org).join(&self.repo).join(&self.file)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { org, repo, file } = self;
        write!(f, "{SCHEME}{org}/{repo}:{file}")
    }
}

/// Whether a file of this name is taken for a model.
pub(crate) fn is_model(name: &str) -> bool {
    name.len() > EXTENSION.len() && name.to_ascii_lowercase().ends_with(EXTENSION)
}

/// A branch, a tag or a commit that is safe in a URL.
pub(crate) fn revision(text: &str) -> Result<String, ReferenceError> {
    for part in text.split('/') {
        plain("a part of it", part)?;
    }
    Ok(text.to_owned())
}

fn plain(what: &'static str, part: &str) -> Result<(), ReferenceError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let is_plain = (1..=PART_BYTES_MAX).contains(&part.len())
        && part.bytes().all(allowed)
        && !part.starts_with(['.', '-']);
    match is_plain {
        true => Ok(()),
        false => Err(ReferenceError::Part {
            what,
            part: part.to_owned(),
        }),
    }
}

/// The SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// 64 hexadecimal digits, `sha256:` in front or not.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ReferenceError::Digest {
            text: text.to_owned(),
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl TryFrom<String> for Digest {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_written_alike() {
        let text = "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:sub/qwen2.5-0.5b_q8_0.gguf";
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.name(), "qwen2.5-0.5b_q8_0");
        assert_eq!(
            reference.path_below("/m".as_ref()),
            Path::new("/m/Qwen/Qwen2.5-0.5B-Instruct-GGUF/sub/qwen2.5-0.5b_q8_0.gguf")
        );
    }

    #[test]
    fn no_part_leads_out_of_its_folder_or_means_something_in_a_url() {
        for text in [
            "hf:../b:m.gguf",
            "hf:a/..:m.gguf",
            "hf:a/b:../m.gguf",
            "hf:a/b:x/../m.gguf",
            "hf:a/b:/etc/m.gguf",
            "hf:a/b:x//m.gguf",
            "hf:a/b:.gguf",
            "hf:a/b:m\0.gguf",
            "hf:a/b:m\n.gguf",
            "hf:a/b:..\\m.gguf",
            "hf:a/b:%2e%2e/m.gguf",
            "hf:a/b:m.gguf?x.gguf",
            "hf:a/b:m.gguf#x.gguf",
            "hf:a/b/c:m.gguf",
            "hf:/b:m.gguf",
            "hf:a/:m.gguf",
            "hf:a/-b:m.gguf",
            "hf:a/b:ü.gguf",
            "hf:user@a/b:m.gguf",
        ] {
            let said = Reference::parse(text).unwrap_err().to_string();
            assert!(said.contains("allowed: "), "{text:?}: {said}");
        }
        let long = format!("hf:a/b:{}.gguf", "x".repeat(PART_BYTES_MAX));
        assert!(matches!(
            Reference::parse(&long),
            Err(ReferenceError::Part { .. })
        ));
        assert_eq!(
            Reference::parse("hf:a/b:1/2/3/4/m.gguf"),
            Err(ReferenceError::Deep { parts: 5 })
        );
        for text in ["hf:a/b:m.safetensors", "hf:a/b:m.gguf.exe"] {
            let refused = Reference::parse(text);
            assert!(matches!(refused, Err(ReferenceError::Extension { .. })));
        }
        for text in [
            "",
            "a/b:m.gguf",
            "hf:a/b",
            "hf:ab:m.gguf",
            "https://a/b:m.gguf",
        ] {
            assert_eq!(
                Reference::parse(text),
                Err(ReferenceError::Form),
                "{text:?}"
            );
        }
        for text in ["..", "a/../b", "", "a b", "-x"] {
            assert!(revision(text).is_err(), "{text:?}");
        }
        assert_eq!(revision("refs/pr/7"), Ok("refs/pr/7".to_owned()));
    }

    #[test]
    fn a_digest_is_64_digits() {
        let digits = "ab".repeat(32);
        assert_eq!(Digest::parse(&digits).unwrap().to_string(), digits);
        assert_eq!(
            Digest::parse(&format!("sha256:{digits}")),
            Digest::parse(&digits)
        );
        for text in ["", "ab", "xy", &digits[1..], &format!("{digits}ab")] {
            assert!(Digest::parse(text).is_err(), "{text:?}");
        }
    }
}
