//! `lethe doctor`: looks at everything that a node needs, changes nothing,
//! and says of each thing that is not well what to do.

mod machine;
mod reach;
mod relays;
mod shelf;

use serde::Serialize;

use crate::cli;
use crate::folder::{Folder, FolderError};
use crate::output;
use crate::secret::{self, SecretError};

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Network(#[from] chain::NetworkError),
    #[error("--backend-key-file cannot be used")]
    Secret(#[from] SecretError),
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// A node starts, and something will be amiss.
    Warn,
    /// A node does not start, or does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    #[serde(rename = "do")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Warn,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(name, found, advice)
        }
    }
}

/// Looks and prints. Whether nothing failed.
pub(crate) async fn doctor(args: cli::Doctor) -> Result<bool, DoctorError> {
    let network = chain::Network::by_name(&args.network.network, true)?;
    let folder = Folder::look(args.data.folder)?;
    let mut checks = shelf::look(&folder);
    checks.extend(machine::look(&folder).await);
    checks.extend(reach::chain(&folder, &network, &args.network.rpc_url).await);
    let key = args.backend_key_file.as_deref();
    let key = key.map(secret::backend_key).transpose()?;
    let key = key.as_ref().map(|key| key.as_str());
    checks.extend(reach::backends(&args.backend, key).await);
    let urls = reach::servers(&folder, &network, &args.network.rpc_url);
    checks.extend(relays::look(&folder, &network, &urls, &args.behind).await);
    let worst = checks.iter().map(|check| check.verdict).max();
    let is_well = worst != Some(Verdict::Fail);
    match args.json {
        true => output::json(&serde_json::json!({ "ok": is_well, "checks": checks })),
        false => print(&checks, worst),
    }
    Ok(is_well)
}

fn print(checks: &[Check], worst: Option<Verdict>) {
    let width = checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or(0);
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let line = format!("{mark}  {:width$}  {}", check.name, check.found);
        output::line(output::plain(&line));
        if let Some(advice) = &check.advice {
            let line = format!("      {:width$}  -> {advice}", "");
            output::line(output::plain(&line));
        }
    }
    output::line(match worst {
        Some(Verdict::Fail) => "\nA node will not work before what is marked FAIL is mended.",
        Some(Verdict::Warn) => "\nA node starts; look at what is marked WARN.",
        _ => "\nAll is well.",
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That it warns of this, and says this to do.
    pub(super) fn warned(check: &Check, found: &str, advice: &str) {
        assert_eq!(check.verdict, Verdict::Warn, "{check:?}");
        assert!(check.found.contains(found), "{check:?}");
        let told = check.advice.as_deref().unwrap_or_default();
        assert!(told.contains(advice), "{check:?}");
    }
}
