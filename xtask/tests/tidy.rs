//! The rules of the house, one test each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use xtask::{files, files_below, production_lines, read, root, source_hash};

/// Dependencies of other platforms are not fetched where nobody builds for them.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// What was found wrong, or nothing.
fn clean(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn metadata() -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The table "crate | floor | may use" of ARCHITECTURE.md.
fn floors() -> Result<BTreeMap<String, (u32, BTreeSet<String>)>> {
    let text = read(Path::new("ARCHITECTURE.md"))?;
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| crate | floor |"))
        .skip(2);
    let mut floors = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        let floor = cells[1]
            .parse()
            .with_context(|| format!("floor of {name}"))?;
        let uses = cells[2]
            .split_whitespace()
            .map(|cell| cell.trim_matches(['`', ',']).to_owned());
        floors.insert(name, (floor, uses.filter(|cell| cell != "–").collect()));
    }
    Ok(floors)
}

#[test]
fn the_crates_depend_on_each_other_as_the_table_says() -> Result<()> {
    let floors = floors()?;
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let names: BTreeSet<_> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("name")?;
        let Some((floor, uses)) = floors.get(name) else {
            findings.push(format!(
                "crate {name} is not in the table of ARCHITECTURE.md"
            ));
            continue;
        };
        let dependencies = package["dependencies"].as_array().context("dependencies")?;
        let ours = dependencies
            .iter()
            .filter_map(|dependency| dependency["name"].as_str());
        let ours: BTreeSet<_> = ours
            .filter(|used| names.contains(used))
            .map(str::to_owned)
            .collect();
        if ours != *uses {
            findings.push(format!(
                "crate {name} uses {ours:?}, the table says {uses:?}"
            ));
        }
        for used in &ours {
            if floors.get(used).is_some_and(|(below, _)| below >= floor) {
                findings.push(format!(
                    "crate {name} (floor {floor}) uses {used}, which is not below it"
                ));
            }
        }
    }
    for name in floors.keys().filter(|name| !names.contains(name.as_str())) {
        findings.push(format!(
            "the table of ARCHITECTURE.md has {name}, which is no crate"
        ));
    }
    clean(&findings);
    Ok(())
}

#[test]
fn the_pure_crates_stay_pure() -> Result<()> {
    let banned = [
        "tokio",
        "std::net",
        "std::fs",
        "std::time::SystemTime",
        "Instant::now",
        "rand::",
        "std::env",
    ];
    let mut findings = Vec::new();
    for folder in [
        "crates/market/src",
        "crates/metrics/src",
        "crates/openai/src",
        "crates/routing/src",
    ] {
        for path in files_below(folder, &["rs"])? {
            let text = read(&path)?;
            for line in production_lines(&text)
                .iter()
                .filter(|line| !line.trim_start().starts_with("//"))
            {
                for word in banned.iter().filter(|word| line.contains(**word)) {
                    findings.push(format!("{}: {word} in a pure crate", path.display()));
                }
            }
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn every_source_file_says_what_it_is_for() -> Result<()> {
    let mut findings = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in files_below(folder, &["rs"])? {
            if !read(&path)?.starts_with("//! ") {
                findings.push(format!(
                    "{}: no header (`//! …` on the first line)",
                    path.display()
                ));
            }
        }
    }
    clean(&findings);
    Ok(())
}

/// The sources that are not tests.
fn production_files() -> Result<Vec<PathBuf>> {
    let files = files_below("crates", &["rs"])?;
    let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests");
    Ok(files.into_iter().filter(|path| !is_test(path)).collect())
}

#[test]
fn no_file_is_too_long() -> Result<()> {
    const LINES: usize = 800;
    let mut findings = Vec::new();
    for path in production_files()? {
        let lines = production_lines(&read(&path)?).len();
        if lines > LINES {
            findings.push(format!(
                "{}: {lines} production lines (allowed: {LINES})",
                path.display()
            ));
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn no_function_is_too_long() -> Result<()> {
    const LINES: usize = 70;
    let mut findings = Vec::new();
    for path in production_files()? {
        let text = read(&path)?;
        let lines = production_lines(&text);
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let starts = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "pub(crate) async fn ",
            ];
            if !starts
                .iter()
                .any(|start| line.trim_start().starts_with(start))
                || line.ends_with(';')
            {
                continue;
            }
            // A trait's function may have no body.
            let mut rest = lines[at..].iter();
            let opens = rest.find(|line| line.ends_with('{') || line.ends_with(';'));
            if opens.is_none_or(|line| line.ends_with(';')) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let Some(length) = lines[at..].iter().position(|line| *line == end) else {
                continue;
            };
            if length > LINES {
                findings.push(format!(
                    "{}:{}: a function of {length} lines (allowed: {LINES})",
                    path.display(),
                    at + 1
                ));
            }
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn no_file_or_crate_has_an_empty_name() -> Result<()> {
    let banned = [
        "util", "utils", "common", "helper", "helpers", "shared", "misc", "manager", "imp",
        "types", "mod",
    ];
    let mut findings = Vec::new();
    for path in files()? {
        let below =
            path.starts_with("crates") || path.starts_with("xtask") || path.starts_with("web/src");
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let folder = path
            .components()
            .any(|part| banned.iter().any(|word| part.as_os_str() == *word));
        if below && (banned.contains(&stem) || folder) {
            findings.push(format!("{}: the name says nothing", path.display()));
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn nothing_unfinished_and_nothing_of_one_machine_is_left() -> Result<()> {
    // Put together here, so that this file does not find itself.
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X:"].concat(),
    ];
    let machine = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    let mut findings = Vec::new();
    for path in files()? {
        let Ok(text) = read(&path) else { continue };
        let generated = path.starts_with("contracts/artifacts") || path.starts_with("web/dist");
        for (at, line) in text.lines().enumerate() {
            let mark = !generated && marks.iter().any(|mark| line.contains(mark.as_str()));
            if mark || machine.iter().any(|place| line.contains(place.as_str())) {
                findings.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn the_contracts_artifacts_are_fresh() -> Result<()> {
    let sources: Vec<_> = files()?
        .into_iter()
        .filter(|path| {
            path.starts_with("contracts/src") || path == Path::new("contracts/foundry.toml")
        })
        .collect();
    let expected = source_hash("contracts", &sources)?;
    let mut findings = Vec::new();
    for path in files_below("contracts/artifacts", &["json"])? {
        let artifact: Value = serde_json::from_str(&read(&path)?)?;
        if artifact["sourceHash"] != expected.as_str() {
            findings.push(format!(
                "{}: not made from contracts/src as it is; run `npm run build` there",
                path.display()
            ));
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn the_dashboard_is_fresh() -> Result<()> {
    let sources: Vec<_> = files()?
        .into_iter()
        .filter(|path| {
            path.starts_with("web") && !path.starts_with("web/dist") && !path.ends_with("README.md")
        })
        .collect();
    let expected = source_hash("web", &sources)?;
    let recorded = read(Path::new("web/dist/source-hash.txt"))?;
    assert_eq!(
        recorded.trim(),
        expected,
        "web/dist is not made from web as it is; run `npm run build` there"
    );
    Ok(())
}

#[test]
fn the_dashboards_types_are_made_from_the_document_as_it_is() -> Result<()> {
    let document = read(Path::new("crates/lethe/openapi.json"))?;
    let expected = hex::encode(Sha256::digest(document));
    let types = read(Path::new("web/src/openapi.ts"))?;
    let first = types.lines().next().unwrap_or_default();
    assert!(
        first.contains(&format!("SHA-256 {expected}.")),
        "web/src/openapi.ts is not made from crates/lethe/openapi.json as it is; run `npm run build` in web: {first}"
    );
    Ok(())
}

#[test]
fn links_between_the_documents_lead_somewhere() -> Result<()> {
    let mut findings = Vec::new();
    for path in files()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
    {
        let text = read(&path)?;
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let base = path.parent().unwrap_or(Path::new(""));
            if !root().join(base).join(file).exists() {
                findings.push(format!("{}: link to {target}", path.display()));
            }
        }
    }
    clean(&findings);
    Ok(())
}

/// A command as `.ci/run` has it: one run of the whole suite is enough.
fn as_ci_runs_it(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        ["cargo", "test", "--workspace", ..] => "cargo test --workspace".to_owned(),
        _ => words.join(" "),
    }
}

#[test]
fn what_the_readme_says_to_run_is_run_by_ci() -> Result<()> {
    let mut runs = String::new();
    for script in [".ci/run", ".ci/release-up"] {
        for line in read(Path::new(script))?.lines() {
            runs.push_str(&as_ci_runs_it(line));
            runs.push('\n');
        }
    }
    let text = read(Path::new("README.md"))?;
    let blocks = text.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    let commands: Vec<_> = lines
        .map(|line| line.split(" #").next().unwrap_or_default())
        .map(as_ci_runs_it)
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    let missing = commands.iter().filter(|command| !runs.contains(*command));
    let findings: Vec<_> = missing
        .map(|command| format!("README.md: nothing in .ci runs `{command}`"))
        .collect();
    clean(&findings);
    Ok(())
}

/// A source with the texts that go over several lines in one.
fn unfolded(text: &str) -> String {
    let mut whole = String::new();
    let mut pieces = text.split("\\\n");
    whole.extend(pieces.next());
    for piece in pieces {
        whole.push_str(piece.trim_start());
    }
    whole
}

#[test]
fn errors_that_are_explained_are_still_said() -> Result<()> {
    let sources: Vec<_> = production_files()?
        .iter()
        .map(|path| Ok(unfolded(&read(path)?)))
        .collect::<Result<_>>()?;
    let page = "docs/operate/troubleshooting.md";
    let text = read(Path::new(page))?;
    let mut findings = Vec::new();
    let mut explained = 0;
    for heading in text.lines().filter_map(|line| line.strip_prefix("### `")) {
        explained += 1;
        let error = heading.trim_end_matches('`');
        // What differs is a field of the text: `{path:?}`.
        let fragments: Vec<_> = error.split('…').map(str::trim).collect();
        let said = sources
            .iter()
            .any(|source| fragments.iter().all(|fragment| source.contains(fragment)));
        if !said {
            findings.push(format!("{page}: nobody says {error:?}"));
        }
    }
    assert!(explained > 10, "{page} explains {explained} errors");
    clean(&findings);
    Ok(())
}

#[test]
fn files_named_in_the_architecture_exist() -> Result<()> {
    let text = read(Path::new("ARCHITECTURE.md"))?;
    let known: BTreeSet<_> = files()?.into_iter().collect();
    let mut findings = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        let is_path = ["crates/", "contracts/", "web/", "xtask/", "tools/", "docs/"]
            .iter()
            .any(|start| word.starts_with(start));
        let path = Path::new(word.trim_end_matches('/'));
        if is_path && !known.iter().any(|file| file.starts_with(path)) {
            findings.push(format!(
                "ARCHITECTURE.md names {word}, which does not exist"
            ));
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn each_invariant_is_named_by_a_test() -> Result<()> {
    let text = read(Path::new("ARCHITECTURE.md"))?;
    let section = text
        .split("\n## ")
        .find(|part| part.contains("Invariants"))
        .context("a section of invariants")?;
    let mut findings = Vec::new();
    for line in section.lines().skip(1) {
        let Some((number, rest)) = line.split_once(". ") else {
            continue;
        };
        if number.parse::<u32>().is_err() {
            continue;
        }
        let Some(test) = rest
            .rsplit("*Held by* `")
            .next()
            .and_then(|tail| tail.split('`').next())
        else {
            continue;
        };
        let name = test.rsplit("::").next().unwrap_or(test);
        let found = files_below("", &["rs", "sol", "sh"])?.iter().any(|path| {
            read(path).is_ok_and(|text| {
                text.contains(&format!("fn {name}(")) || text.contains(&format!("function {name}("))
            })
        });
        if !rest.contains("*Held by*") || !found {
            findings.push(format!(
                "invariant {number} names no existing test ({test})"
            ));
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn licences_of_all_dependencies_are_allowed() -> Result<()> {
    let allowed = [
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "Unicode-3.0",
        "CC0-1.0",
        "MIT-0",
        "0BSD",
        "BSL-1.0",
        "Unlicense",
        "MPL-2.0",
        "OpenSSL",
        "CDLA-Permissive-2.0",
        "NCSA",
    ];
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            HOST,
        ])
        .current_dir(root())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(licence) = package["license"].as_str() else {
            if package["license_file"].is_null() {
                findings.push(format!("{name}: no licence"));
            }
            continue;
        };
        // One of the alternatives must be made of allowed licences only.
        let plain = licence.replace(['(', ')'], "").replace('/', " OR ");
        let is_allowed = |text: &str| {
            text.split(" AND ")
                .all(|part| allowed.contains(&part.trim()))
        };
        let by_alternative = plain.split(" OR ").any(is_allowed);
        let by_part = plain
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|one| allowed.contains(&one.trim())));
        if !by_alternative && !by_part {
            findings.push(format!("{name}: {licence}"));
        }
    }
    clean(&findings);
    Ok(())
}

#[test]
fn every_failpoint_is_listed_and_every_listed_one_is_hit_once() -> Result<()> {
    let listed: Vec<_> = read(Path::new("crates/failpoint/src/points.rs"))?
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
        .map(str::to_owned)
        .collect();
    let mut findings = Vec::new();
    if !listed.is_sorted() {
        findings.push("crates/failpoint/src/points.rs: not sorted".to_owned());
    }
    let mut hits: BTreeMap<String, usize> = listed.into_iter().map(|name| (name, 0)).collect();
    for path in production_files()? {
        if path.starts_with("crates/failpoint") {
            continue;
        }
        let text = read(&path)?;
        for call in text.split("failpoint::hit(").skip(1) {
            let name = call.trim_start().strip_prefix('"');
            let name = name.and_then(|rest| rest.split('"').next());
            match name.and_then(|name| hits.get_mut(name)) {
                Some(times) => *times += 1,
                None => findings.push(format!("{}: hits {name:?}, not listed", path.display())),
            }
        }
    }
    for (name, times) in hits.iter().filter(|(_, times)| **times != 1) {
        findings.push(format!(
            "failpoint {name} is hit at {times} places (must be 1)"
        ));
    }
    clean(&findings);
    Ok(())
}
