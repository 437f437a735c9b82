//! `torture`: plays many seeds and says what came of them, so that anybody can
//! play the same again. `planet`: the rule by which providers are chosen, measured.

mod decide;
mod planet;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};
use world::{About, Line, Mutant, Plan, Story, Tally, Violation, play, shrink};

/// The market in one process, with everything that can go wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells what happens in one seed: who asks and is answered, what goes wrong, where money moves.
    Story(Told),
    /// Plays seeds and checks after every event that nobody's money is lost.
    Torture(Torture),
    /// Plays the rule by which providers are chosen on ten thousand of them, beside other rules.
    Planet(planet::Planet),
    /// Measures what one decision takes, from ten offers to a hundred thousand.
    Decide,
}

#[derive(Debug, clap::Args)]
struct Told {
    /// Which.
    seed: u64,
    /// Tells every event as well, as the program has it.
    #[arg(long)]
    all: bool,
    /// Breaks a rule on purpose.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
}

#[derive(Debug, clap::Args)]
struct Torture {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Seeds played at a time; they do not know of each other.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// The summary as JSON.
    #[arg(long)]
    json: bool,
    /// Breaks a rule on purpose, to see that the checks notice.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, mutant)| mutant).ok_or_else(|| {
        let names = Mutant::ALL.map(|(known, _)| known).join(", ");
        format!("no such mutant (allowed: {names})")
    })
}

/// What all seeds came to.
struct Summary {
    first: u64,
    seeds: u64,
    tally: Tally,
    trace: String,
    failed: BTreeMap<u64, Story>,
}

fn main() -> ExitCode {
    let torture = match Cli::parse().command {
        Command::Torture(torture) => torture,
        Command::Story(told) => return tell(&told),
        Command::Planet(args) => return planet::planet(&args),
        Command::Decide => {
            decide::decide();
            return ExitCode::SUCCESS;
        }
    };
    let summary = run(&torture);
    let mut out = std::io::stdout().lock();
    // A reader that is gone needs no summary.
    let _ = match torture.json {
        true => writeln!(out, "{}", as_json(&summary)),
        false => out.write_all(as_text(&summary).as_bytes()),
    };
    if let Some(seed) = summary.failed.keys().next() {
        let _ = out.write_all(explain(&torture, *seed).as_bytes());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn tell(told: &Told) -> ExitCode {
    let mut plan = Plan::of(told.seed);
    (plan.told, plan.mutant) = (true, told.mutant);
    let story = play(&plan);
    let mut text = format!(
        "{plan}what happens, by milliseconds ({})\n{}",
        Line::LEGEND,
        lines(&story, told.all)
    );
    text.push_str(&verdict(&story));
    // A reader that is gone needs no more.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    match story.violation {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

/// What happens in a story, a line each.
fn lines(story: &Story, all: bool) -> String {
    let inner = |line: &&Line| line.about == About::Inner;
    let mut text: String = story
        .lines
        .iter()
        .filter(|line| all || !inner(line))
        .map(|line| format!("{:>8} {} {}\n", line.at_ms, line.mark(), line.text))
        .collect();
    let left_out = story.lines.iter().filter(inner).count();
    if !all && left_out > 0 {
        text.push_str(&format!(
            "--all tells {left_out} more: every single event\n"
        ));
    }
    text
}

/// What came of a story, in words.
fn verdict(story: &Story) -> String {
    let tally = &story.tally;
    match &story.violation {
        None => format!(
            "violations 0: {} events, {} answers complete, {} explicit errors, {} crashes; every unit is accounted for\n",
            tally.events, tally.answers, tally.errors, tally.crashes,
        ),
        Some(violation) => format!("violations 1: {}\n", broken(violation)),
    }
}

fn broken(violation: &Violation) -> String {
    format!(
        "invariant {} at {} ms: {}",
        violation.invariant, violation.at_ms, violation.problem
    )
}

fn plan(torture: &Torture, seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    plan.mutant = torture.mutant;
    plan
}

fn run(torture: &Torture) -> Summary {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(torture.seeds),
        false => ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let next = AtomicU64::new(0);
    let worker = || {
        let mut played = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= torture.seeds {
                return played;
            }
            let seed = torture.first_seed.wrapping_add(at);
            played.push((at, seed, play(&plan(torture, seed))));
            bar.inc(1);
        }
    };
    let mut stories: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..torture.jobs.max(1))
            .map(|_| scope.spawn(worker))
            .collect();
        let played = workers.into_iter().map(|worker| worker.join());
        played
            .flat_map(|played| played.expect("a story does not panic"))
            .collect()
    });
    bar.finish_and_clear();
    stories.sort_by_key(|(at, ..)| *at);
    let mut summary = Summary {
        first: torture.first_seed,
        seeds: torture.seeds,
        tally: Tally::default(),
        trace: String::new(),
        failed: BTreeMap::new(),
    };
    let mut trace = Sha256::new();
    for (_, seed, story) in stories {
        summary.tally.add(&story.tally);
        trace.update(story.trace);
        if story.violation.is_some() {
            summary.failed.insert(seed, story);
        }
    }
    let bytes: [u8; 32] = trace.finalize().into();
    summary.trace = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    summary
}

fn as_text(summary: &Summary) -> String {
    let Summary {
        first,
        seeds,
        tally,
        trace,
        failed,
    } = summary;
    let mut text = format!(
        "seeds          {seeds} ({first} to {})\n\
         events         {}\n\
         effects        {} at which a node could die\n\
         answers        {} complete, {} explicit errors\n\
         crashes        {}\n\
         reorgs         {} of {} blocks\n\
         transactions   {}, handed in {} times, {} signed again for more, {} inclusions taken back\n\
         base units     {} paid to providers, {} back with consumers\n\
         faults\n",
        first.wrapping_add(seeds.saturating_sub(1)),
        tally.events,
        tally.effects,
        tally.answers,
        tally.errors,
        tally.crashes,
        tally.reorgs,
        tally.blocks_undone,
        tally.transactions,
        tally.handed_in,
        tally.raised,
        tally.undone,
        tally.paid,
        tally.returned,
    );
    for (fault, times) in &tally.faults {
        text.push_str(&format!("  {:<13} {times}\n", format!("{fault:?}")));
    }
    text.push_str(&format!(
        "violations     {}\ntrace          {trace}\n",
        failed.len()
    ));
    for (seed, story) in failed.iter().take(10) {
        if let Some(violation) = &story.violation {
            text.push_str(&format!("seed {seed}: {}\n", broken(violation)));
        }
    }
    text
}

fn as_json(summary: &Summary) -> serde_json::Value {
    let tally = &summary.tally;
    let faults = tally
        .faults
        .iter()
        .map(|(fault, times)| (format!("{fault:?}"), json!(times)));
    let faults: serde_json::Map<_, _> = faults.collect();
    let failed = summary.failed.iter().filter_map(|(seed, story)| {
        let violation = story.violation.as_ref()?;
        Some(json!({
            "seed": seed,
            "invariant": violation.invariant,
            "at_ms": violation.at_ms,
            "problem": violation.problem,
        }))
    });
    json!({
        "first_seed": summary.first,
        "seeds": summary.seeds,
        "events": tally.events,
        "effects": tally.effects,
        "answers": tally.answers,
        "errors": tally.errors,
        "crashes": tally.crashes,
        "reorgs": tally.reorgs,
        "blocks_undone": tally.blocks_undone,
        "transactions": tally.transactions,
        "handed_in": tally.handed_in,
        "raised": tally.raised,
        "undone": tally.undone,
        "paid": tally.paid.to_string(),
        "returned": tally.returned.to_string(),
        "faults": faults,
        "violations": failed.collect::<Vec<_>>(),
        "trace": summary.trace,
    })
}

/// The first failing seed, made smaller, and the line that keeps it.
fn explain(torture: &Torture, seed: u64) -> String {
    let Some(small) = shrink(&plan(torture, seed)) else {
        return format!("seed {seed} did not fail again: the simulator is not deterministic\n");
    };
    let kept = match torture.mutant {
        None => format!("keep it in crates/world/tests/suite/seeds.rs:\n    {seed}, // why\n"),
        Some(_) => String::new(),
    };
    format!(
        "seed {seed}, made smaller in {} tries: {} requests, faults {:?}\n\
         {}\n{kept}",
        small.tries,
        small.plan.requests(),
        small.faults,
        broken(&small.violation),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_ends_with_a_verdict() {
        let kept = verdict(&play(&Plan::of(1)));
        assert!(kept.starts_with("violations 0: "), "{kept}");
        assert!(kept.contains("every unit is accounted for"), "{kept}");
        let problem = "a unit is missing".to_owned();
        let violation = Some(Violation {
            invariant: 3,
            problem,
            at_ms: 5,
        });
        let story = play(&Plan::of(1));
        let told = verdict(&Story { violation, ..story });
        assert_eq!(
            told,
            "violations 1: invariant 3 at 5 ms: a unit is missing\n"
        );
    }

    #[test]
    fn a_story_is_in_words_unless_all_is_asked_for() {
        let mut plan = Plan::of(1);
        plan.told = true;
        let story = play(&plan);
        let (few, all) = (lines(&story, false), lines(&story, true));
        assert!(few.contains(" $ ") && few.contains(" . "), "{few}");
        assert!(!few.contains(" | ") && all.contains(" | Timer {"), "{few}");
        assert!(few.contains("--all tells ") && !all.contains("--all tells "));
    }

    #[test]
    fn no_seeds_are_no_proof() {
        let told = Cli::try_parse_from(["world", "torture", "--seeds", "0"]);
        assert!(told.unwrap_err().to_string().contains("1.."));
    }
}
