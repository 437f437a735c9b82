//! `lethe service`: a node in the background, the platform's way. Prints a unit
//! for systemd's user manager; installs nothing and starts nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::service::Service;
use crate::codes::USAGE;
use crate::config::{self, ConfigError};
use crate::folder::{Folder, FolderError};
use crate::output;
use crate::signals::STOP_WITHIN;

/// What a node may take to stop beyond the time that its answers have: to claim, and to say goodbye.
const LEAVING: Duration = Duration::from_secs(30);

/// Why there is no unit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("it is not known where this program is")]
    Program(#[source] std::io::Error),
    #[error("it is not known in which folder this is; change to one that is there")]
    Here(#[source] std::io::Error),
}

/// Tries the form of the command line out, and prints the unit that runs it,
/// in the folder that this is: a file that it names is the one that was meant.
/// Where `config` names a file, the unit names it, too.
pub(crate) fn service(args: Service, config: Option<PathBuf>) -> Result<(), ServiceError> {
    let program = std::env::current_exe().map_err(ServiceError::Program)?;
    let folder = Folder::look(args.data.folder)?;
    let here = std::env::current_dir().map_err(ServiceError::Here)?;
    let mut words = vec![program.display().to_string()];
    if let Some(config) = config {
        let config = std::path::absolute(&config).unwrap_or(config);
        words.extend(["--config".to_owned(), config.display().to_string()]);
    }
    let data = folder.path().display().to_string();
    words.extend([args.role.clone(), "--data".to_owned(), data]);
    words.extend(args.flags);
    config::tried(&words)?;
    output::text(unit(&args.role, folder.path(), &here, &words));
    Ok(())
}

fn unit(role: &str, data: &Path, here: &Path, words: &[String]) -> String {
    let line: Vec<String> = words.iter().map(|word| escaped(word)).collect();
    let literal = |path: &Path| path.display().to_string().replace('%', "%%");
    format!(
        "\
# systemctl --user daemon-reload && systemctl --user enable --now lethe-{role}
# `journalctl --user -u lethe-{role}` has what it says; `loginctl enable-linger` keeps it when you log out.
[Unit]
Description=lethe {role} on {data}

[Service]
WorkingDirectory={here}
ExecStart={line}
Restart=on-failure
RestartSec=5
# A wrong command line or config file does not mend itself.
RestartPreventExitStatus={USAGE}
# Running answers may end, for {answers} s at most.
TimeoutStopSec={stop}
LimitNOFILE=65536
NoNewPrivileges=true

[Install]
WantedBy=default.target
",
        stop = (STOP_WITHIN + LEAVING).as_secs(),
        answers = STOP_WITHIN.as_secs(),
        data = literal(data),
        here = literal(here),
        line = line.join(" "),
    )
}

/// A word as it stands in a unit's command line.
fn escaped(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@+,".contains(c);
    let word = word.replace('%', "%%");
    match !word.is_empty() && word.chars().all(|c| plain(c) || c == '%') {
        true => word,
        false => {
            let inner = word.replace('\\', r"\\").replace('"', "\\\"");
            format!("\"{}\"", inner.replace('$', "$$"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_for_systemd() {
        assert_eq!(escaped("--data"), "--data");
        assert_eq!(escaped("/a b/50%"), "\"/a b/50%%\"");
        assert_eq!(escaped(r#"say "$x" \"#), r#""say \"$$x\" \\""#);
        assert_eq!(escaped(""), "\"\"");
    }

    #[test]
    fn a_unit_runs_the_command_and_does_not_repeat_what_is_wrong() {
        let words = ["/bin/lethe", "consume", "--data", "/d"].map(str::to_owned);
        let unit = unit(
            "consume",
            Path::new("/d"),
            Path::new("/my models/50%"),
            &words,
        );
        for line in [
            "WorkingDirectory=/my models/50%%",
            "ExecStart=/bin/lethe consume --data /d",
            "RestartPreventExitStatus=2",
            "WantedBy=default.target",
            "TimeoutStopSec=150",
        ] {
            assert!(unit.lines().any(|has| has == line), "{line}: {unit}");
        }
    }
}
