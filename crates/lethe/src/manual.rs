//! What is made from the flags for shells and for `man`.

use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

use crate::config::declared;
use crate::output;

/// Why there are no manual pages.
#[derive(Debug, thiserror::Error)]
#[error("manual pages cannot be written into {folder:?}; choose another folder")]
pub(crate) struct PagesError {
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// `lethe completions`.
pub(crate) fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut declared(), "lethe", &mut script);
    output::text(String::from_utf8_lossy(&script));
}

/// `lethe man`.
pub(crate) fn pages(folder: &Path) -> Result<(), PagesError> {
    let at = |source| PagesError {
        folder: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(at)?;
    clap_mangen::generate_to(declared(), folder).map_err(at)?;
    output::line(format!(
        "Wrote the manual pages; `man -l {}` shows the first.",
        folder.join("lethe.1").display()
    ));
    Ok(())
}
