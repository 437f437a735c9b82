//! `lethe doctor`: looks at everything that a node needs, changes nothing,
//! and says of each thing that is not well what to do.

mod machine;
mod node;
mod reach;
mod relays;
mod shelf;
mod shop;

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
    /// As it is to be, but not every role starts so.
    Note,
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

    fn note(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            ..Self::warn(name, found, advice)
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
    let folder = Folder::look(args.data.folder)?;
    let servers = reach::Servers::of(&folder, &args.network)?;
    let mut checks = shelf::look(&folder);
    checks.extend(machine::look(&folder).await);
    checks.extend(node::look(&folder).await);
    checks.extend(reach::chain(&folder, &servers).await);
    let key = args.backend_key_file.as_deref();
    let key = key.map(secret::backend_key).transpose()?;
    let key = key.as_ref().map(|key| key.as_str());
    checks.extend(reach::backends(&folder, &args.backend, key).await);
    checks.extend(shop::look(&folder).await);
    checks.extend(relays::look(&servers, &args.behind).await);
    let is_well = checks.iter().all(|check| check.verdict != Verdict::Fail);
    match args.json {
        true => output::json(&serde_json::json!({ "ok": is_well, "checks": checks })),
        false => print(&checks),
    }
    Ok(is_well)
}

fn print(checks: &[Check]) {
    let width = checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or(0);
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Note => "note",
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
    output::line(format!("\n{}", ending(checks)));
}

/// What works, as it is.
fn ending(checks: &[Check]) -> &'static str {
    let has = |verdict| checks.iter().any(|check| check.verdict == verdict);
    match (has(Verdict::Fail), has(Verdict::Warn), has(Verdict::Note)) {
        (true, ..) => "A node will not work before what is marked FAIL is mended.",
        (_, true, true) => {
            "`lethe up` starts; look at what is marked WARN. Other roles need a chain."
        }
        (_, true, _) => "Nothing is found that stops every node; look at what is marked WARN.",
        (.., true) => "All is well for `lethe up`; other roles need a chain.",
        _ => "All is well.",
    }
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

    #[test]
    fn all_is_well_is_said_of_what_would_start_alone() {
        let [ok, note] = [Check::ok("a", ""), Check::note("b", "", "c")];
        let [warn, fail] = [Check::warn("d", "", "e"), Check::fail("f", "", "g")];
        let ends = |checks: &[&Check]| {
            let checks: Vec<_> = checks.iter().map(|it| (*it).clone()).collect();
            ending(&checks)
        };
        assert_eq!(ends(&[&ok]), "All is well.");
        assert!(ends(&[&ok, &note]).contains("well for `lethe up`; other roles need"));
        assert!(ends(&[&warn, &note]).contains("WARN. Other roles need"));
        assert!(ends(&[&ok, &warn]).starts_with("Nothing is found that stops"));
        assert!(ends(&[&fail, &warn, &note]).contains("FAIL"));
    }
}
