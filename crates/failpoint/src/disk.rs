//! A disk that fails: a library in C that a test builds and preloads
//! (`LD_PRELOAD`) into the process that it watches.
//!
//! It knows every byte that was written below one folder and not yet fsynced,
//! and can take those bytes back, or be full. What it covers, and what not, is
//! said at the top of `disk.c`. A process talks to it by opening a file of a
//! name that only it knows.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("disk.c");

/// Names the folder that the disk watches.
pub const FOLDER_VARIABLE: &str = "LETHE_FAULT_DISK";

/// Set to `ignored`, fsync does nothing: a disk that lies.
pub const FSYNC_VARIABLE: &str = "LETHE_FAULT_FSYNC";

/// What the disk is asked to do. It leaves a file of that name in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No file grows any more.
    Full,
    /// What was not fsynced is gone, and the process with it.
    Cut,
}

impl Fault {
    /// The name that the disk knows it by.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Full => "disk-fault.full",
            Self::Cut => "disk-fault.cut",
        }
    }
}

/// The file that is only there for a process with such a disk.
const IS_LOADED: &str = "disk-fault.loaded";

/// How the disk says that it did what it was asked for (EALREADY).
const DONE: i32 = 114;

fn says_done(name: &str) -> bool {
    File::open(name).is_err_and(|error| error.raw_os_error() == Some(DONE))
}

/// Whether this process has such a disk.
pub fn is_loaded() -> bool {
    says_done(IS_LOADED)
}

/// Asks this process's disk for a fault.
pub fn ask(fault: Fault) {
    assert!(says_done(fault.file_name()), "there is no disk that fails");
}

/// Compiles the library into `folder` with the system's C compiler.
pub fn build(folder: &Path) -> io::Result<PathBuf> {
    let (source, library) = (folder.join("disk.c"), folder.join("disk.so"));
    std::fs::write(&source, SOURCE)?;
    let compiled = Command::new("cc")
        .args([
            "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o",
        ])
        .args([&library, &source])
        .arg("-ldl")
        .output()?;
    if !compiled.status.success() {
        let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
        return Err(io::Error::other(said));
    }
    Ok(library)
}
