//! `kill -9`, a full disk and a power cut at every named point of the money
//! path (`failpoint::ALL`), on the side where the point is: the process fails
//! there, is started again, goes on, and both journals, the receipts and the
//! chain agree to the base unit.
//!
//! Without `LETHE_KILL_MATRIX` a small sample is tried. `every`: each point once
//! with SIGKILL, and a tenth of them, by the commit, with the other two. `all`:
//! each point with each of the three, and later hits of what is hit often.
//! Anything else: the points whose line contains it.

mod case;
mod check;
mod play;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use failpoint::disk;
use tokio::time::Instant;

use case::{Case, chosen};
use play::{Played, play};

use crate::process::lethe;

const VARIABLE: &str = "LETHE_KILL_MATRIX";
/// Towns at a time: they mostly wait until somebody notices who is gone.
const AT_ONCE: usize = 6;
/// A failed case is told in so many characters.
const TOLD: usize = 400;

/// How one case went.
struct Line {
    case: Case,
    took: Duration,
    outcome: Result<Played, String>,
}

#[test]
fn whatever_fails_at_any_point_the_books_agree_in_the_end() {
    let asked = std::env::var_os(VARIABLE);
    let asked = asked.map(|asked| asked.to_string_lossy().into_owned());
    let (mut cases, why) = chosen(asked.as_deref());
    // What takes a minute comes first, so that nobody waits for it in the end.
    cases.sort_by_key(|case| !case.waits());
    assert!(!cases.is_empty(), "no point for {VARIABLE}={asked:?}");
    let folder = tempfile::tempdir().unwrap();
    let library = disk::build(folder.path()).unwrap();
    say(&format!("kill matrix: {why}, {} cases", cases.len()));
    let lines = run(&cases, &library);
    tell(&lines);
    let failed = lines.iter().filter(|line| line.outcome.is_err()).count();
    assert_eq!(failed, 0, "of {} cases", lines.len());
}

#[test]
fn a_point_that_there_is_not_is_refused_with_the_names_near_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = lethe(folder.path(), &["where"]);
    command.env("LETHE_FAILPOINT", "consumer.voucher.singed");
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("\"consumer.voucher.singed\""), "{said}");
    assert!(
        said.contains("near it are consumer.voucher.signed"),
        "{said}"
    );
}

fn run(cases: &[Case], library: &Path) -> Vec<Line> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut lines = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let line = run_one(*case, library);
            say(&row(&line));
            lines.push(line);
        }
        lines
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let lines = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        lines.collect()
    })
}

/// In a runtime of its own, so that nothing of a failed case lives on.
fn run_one(case: Case, library: &Path) -> Line {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let begun = Instant::now();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(case, library))));
    Line {
        case,
        took: begun.elapsed(),
        outcome: played.map_err(|panic| told(panic.as_ref())),
    }
}

fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("it panicked").replace('\n', " ");
    text.chars().take(TOLD).collect()
}

fn row(line: &Line) -> String {
    let Line {
        case,
        took,
        outcome,
    } = line;
    let took = took.as_millis();
    match outcome {
        Ok(played) => {
            let back = played.back.as_millis();
            let signed = played.signed_ahead_tokens;
            format!(
                "{case:<58} ok    {took:>6} ms, back in {back:>4} ms, {signed:>3} tokens signed ahead"
            )
        }
        Err(told) => format!("{case:<58} FAILED {took} ms: {told}"),
    }
}

/// The table's totals.
fn tell(lines: &[Line]) {
    for action in failpoint::Action::ALL {
        let of: Vec<_> = lines
            .iter()
            .filter(|l| l.case.plan.action == action)
            .collect();
        if of.is_empty() {
            continue;
        }
        let played: Vec<_> = of.iter().filter_map(|l| l.outcome.as_ref().ok()).collect();
        let longest = played.iter().map(|p| p.back.as_millis()).max();
        let mut took: Vec<_> = of.iter().map(|line| line.took.as_millis()).collect();
        took.sort_unstable();
        say(&format!(
            "{action}: {} of {} well; back after at most {} ms; a case took {} ms in the median",
            played.len(),
            of.len(),
            longest.unwrap_or_default(),
            took[took.len() / 2],
        ));
    }
}

/// The test's own output is shown whatever the harness captures.
fn say(text: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stdout(), "{text}");
}
