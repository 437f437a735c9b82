//! `planet`: the rule that the node follows, on ten thousand providers, beside
//! other rules and one that knows everything.
//!
//! The same `routing::choose` that the node calls, driven by a simulation on
//! virtual time: distances over a globe, slots and short queues, outages of
//! single providers and of whole operators, liars, and many consumers that see
//! their own requests and hear what providers tell of their load. The same seed
//! gives the same figures.
//! Deliberately absent: money that moves, and bytes.

mod loads;
mod market;
mod picture;
mod run;
mod tally;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use run::{Policy, Settings};
use tally::Figures;

/// Loads that are played, in thousandths of what all providers together can do.
const LOADS: [u64; 3] = [300, 600, 800];
/// Shares of downtime that hit whole operators, in thousandths.
const SHARES: [u64; 4] = [0, 100, 300, 1000];
/// The share in all other runs.
const SHARE: u64 = 100;
/// The load at which the share is swept.
const SWEPT_AT: u64 = 600;

#[derive(Debug, clap::Args)]
pub(crate) struct Planet {
    /// Requests in each run.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// The seed of providers, outages and requests.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Providers.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..))]
    providers: u64,
    /// Consumers that do not know of each other.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    consumers: u64,
    /// Runs played at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where the picture is written.
    #[arg(long, value_name = "FILE", default_value = "target/planet.svg")]
    svg: std::path::PathBuf,
    /// The figures as JSON.
    #[arg(long)]
    json: bool,
    /// Fail if at some load the rule fails more than half as often as taking turns.
    #[arg(long)]
    check: bool,
}

/// One run and what came of it.
struct Played {
    settings: Settings,
    figures: Figures,
}

pub(crate) fn planet(args: &Planet) -> ExitCode {
    let played = play_all(args);
    let written = write(&args.svg, &picture::draw(&played));
    let mut out = std::io::stdout().lock();
    // A reader that is gone needs no table.
    let _ = match args.json {
        true => writeln!(out, "{}", as_json(&played)),
        false => out.write_all(as_text(args, &played).as_bytes()),
    };
    let (kept, mut problems) = match args.check {
        true => checked(&played),
        false => (vec![], vec![]),
    };
    // Beside the table, which a program may read.
    let mut asides = kept;
    match written {
        Ok(()) => asides.push(format!("the picture is in {}", args.svg.display())),
        Err(error) => problems.push(format!("{} was not written: {error}", args.svg.display())),
    }
    for aside in &asides {
        let _ = writeln!(std::io::stderr(), "{aside}");
    }
    for problem in &problems {
        let _ = writeln!(std::io::stderr(), "{problem}");
    }
    match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Writes the picture, into a folder that may have to be made.
fn write(path: &Path, picture: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, picture)
}

/// At which loads the rule fails at most half as often as taking turns; and at
/// which more, or where that says nothing.
fn checked(played: &[Played]) -> (Vec<String>, Vec<String>) {
    let failed = |policy, load| {
        let run = played.iter().find(|run| {
            let Settings { share, liars, .. } = run.settings;
            (run.settings.policy, run.settings.load) == (policy, load) && share == SHARE && liars
        });
        run.map_or(0, |run| run.figures.failed)
    };
    let (mut kept, mut broken) = (vec![], vec![]);
    for load in LOADS {
        let (ours, turns) = (failed(Policy::Told, load), failed(Policy::RoundRobin, load));
        let at = tally::ratio(load, 1000);
        let counted =
            format!("check: at load {at} the rule failed {ours} times, taking turns {turns} times");
        if turns == 0 {
            broken.push(format!(
                "check: at load {at} taking turns never failed, so that nothing is compared; give more --requests"
            ));
        } else if ours.saturating_mul(2) > turns {
            broken.push(format!("{counted}; allowed is half of that"));
        } else {
            kept.push(format!("{counted}: passed, half of that was allowed"));
        }
    }
    (kept, broken)
}

fn play_all(args: &Planet) -> Vec<Played> {
    let settings = |policy, load, share, requests| Settings {
        policy,
        load,
        share,
        requests,
        seed: args.first_seed,
        providers: args.providers,
        consumers: args.consumers,
        liars: true,
    };
    let mut runs = Vec::new();
    for load in LOADS {
        for policy in Policy::ALL {
            runs.push(settings(policy, load, SHARE, args.requests));
        }
    }
    for share in SHARES.into_iter().filter(|share| *share != SHARE) {
        for policy in Policy::SWEPT {
            runs.push(settings(policy, SWEPT_AT, share, args.requests));
        }
    }
    for policy in Policy::ALL {
        let honest = settings(policy, SWEPT_AT, SHARE, args.requests);
        runs.push(Settings {
            liars: false,
            ..honest
        });
    }
    let all = args.requests * u64::try_from(runs.len()).unwrap_or(u64::MAX);
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(all),
        false => ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::hidden()),
    };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} requests, {eta} left") {
        bar.set_style(style);
    }
    let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(settings) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let figures = run::play(settings, |requests| bar.inc(requests));
            let settings = settings.clone();
            let mut played = played
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            played.push(Played { settings, figures });
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..args.jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    bar.finish_and_clear();
    let mut played = played
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    played.sort_by_key(|run| {
        let Settings {
            policy,
            load,
            share,
            liars,
            ..
        } = run.settings;
        (!liars, share != SHARE, share, load, policy)
    });
    played
}

/// How much more a run cost than the one that knows everything, in percent.
fn regret(played: &[Played], run: &Played) -> Option<f64> {
    let best = played.iter().find(|other| {
        let (other, own) = (&other.settings, &run.settings);
        other.policy == Policy::Clairvoyant
            && (other.load, other.share, other.liars) == (own.load, own.share, own.liars)
    })?;
    Some((run.figures.cost_mean() / best.figures.cost_mean() - 1.0) * 100.0)
}

fn as_text(args: &Planet, played: &[Played]) -> String {
    let Planet {
        requests,
        first_seed,
        providers,
        consumers,
        ..
    } = args;
    let mut text = format!(
        "{providers} providers, {consumers} consumers, {requests} requests a run, seed {first_seed}\n\n\
         load  common  liars  rule          failed  availability  ttft p50 /   p95 /   p99 ms  \
         price   cost  regret  tries  lost\n"
    );
    for run in played {
        let Figures {
            requests,
            failed,
            tries,
            lost,
            ..
        } = run.figures;
        let each = |n: u64| tally::ratio(n, requests);
        let [p50, p95, p99] = [50, 95, 99].map(|percent| run.figures.first_ms(percent));
        let regret = regret(played, run).map_or("-".to_owned(), |more| format!("{more:.0} %"));
        text.push_str(&format!(
            "{:>4}  {:>5}%  {:>5}  {:<12}  {failed:>6}  {:>11.4}%  {p50:>8} / {p95:>5} / {p99:>5}     \
             {:>5.2}  {:>5.2}  {regret:>6}  {:>5.2}  {:.3}\n",
            tally::ratio(run.settings.load, 1000),
            run.settings.share / 10,
            if run.settings.liars { "5 %" } else { "none" },
            run.settings.policy.name(),
            (1.0 - each(failed)) * 100.0,
            run.figures.price_mean(),
            run.figures.cost_mean(),
            each(tries),
            each(lost),
        ));
    }
    text.push_str(
        "\nprice and cost: mMOR a request; cost: price, time at 0.5 mMOR a second, 5 mMOR for a failure\n\
         regret: mean cost over that of a rule that knows everything; lost: tries that ended in nothing but a wait\n",
    );
    text
}

fn as_json(played: &[Played]) -> serde_json::Value {
    let run = |run: &Played| {
        let figures = &run.figures;
        json!({
            "rule": run.settings.policy.name(),
            "load": tally::ratio(run.settings.load, 1000),
            "liars": run.settings.liars,
            "common_cause_share": tally::ratio(run.settings.share, 1000),
            "requests": figures.requests,
            "failed": figures.failed,
            "ttft_ms": {
                "p50": figures.first_ms(50),
                "p95": figures.first_ms(95),
                "p99": figures.first_ms(99),
            },
            "price_mean_mmor": figures.price_mean(),
            "cost_mean_mmor": figures.cost_mean(),
            "regret_percent": regret(played, run),
            "tries": figures.tries,
            "refused": figures.refused,
            "lost": figures.lost,
        })
    };
    played.iter().map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(policy: Policy, load: u64, seed: u64) -> Figures {
        let settings = Settings {
            policy,
            load,
            share: SHARE,
            requests: 20_000,
            seed,
            providers: 400,
            consumers: 50,
            liars: true,
        };
        run::play(&settings, |_| ())
    }

    #[test]
    fn the_same_seed_gives_the_same_figures_and_another_one_others() {
        for policy in Policy::ALL {
            let first = figures(policy, 600, 1);
            assert_eq!(first, figures(policy, 600, 1), "{policy:?}");
            assert_ne!(first, figures(policy, 600, 2), "{policy:?}");
            assert_eq!(first.requests, 20_000);
        }
    }

    #[test]
    fn ours_fails_at_most_half_as_often_as_taking_turns_and_costs_less_than_all_others() {
        for load in LOADS {
            let ours = figures(Policy::Told, load, 3);
            let turns = figures(Policy::RoundRobin, load, 3);
            assert!(
                2 * ours.failed <= turns.failed,
                "at {load}: {} against {}",
                ours.failed,
                turns.failed
            );
            for other in [
                Policy::Cost,
                Policy::Morpheus,
                Policy::Random,
                Policy::RoundRobin,
            ] {
                let other = figures(other, load, 3);
                assert!(ours.cost_mean() < other.cost_mean(), "at {load}");
            }
            let knowing = figures(Policy::Clairvoyant, load, 3);
            assert!(knowing.cost_mean() < ours.cost_mean(), "at {load}");
        }
    }

    #[test]
    fn a_rule_that_fails_more_than_half_as_often_does_not_pass() {
        let played = |ours: u64, turns: u64| -> Vec<Played> {
            let run = |(load, policy, failed)| Played {
                settings: Settings {
                    policy,
                    load,
                    share: SHARE,
                    requests: 1,
                    seed: 0,
                    providers: 10,
                    consumers: 1,
                    liars: true,
                },
                figures: Figures {
                    failed,
                    ..Figures::default()
                },
            };
            let both = |load| {
                [
                    (load, Policy::Told, ours),
                    (load, Policy::RoundRobin, turns),
                ]
            };
            LOADS.into_iter().flat_map(both).map(run).collect()
        };
        let (kept, broken) = checked(&played(5, 10));
        assert_eq!(broken, Vec::<String>::new());
        assert_eq!(kept.len(), LOADS.len());
        assert!(
            kept[0].contains("failed 5 times, taking turns 10 times: passed"),
            "{kept:?}"
        );
        let (kept, told) = checked(&played(6, 10));
        assert_eq!(kept, Vec::<String>::new());
        assert_eq!(told.len(), LOADS.len());
        assert!(
            told[0].contains("load 0.3 the rule failed 6 times"),
            "{told:?}"
        );
        assert!(checked(&played(0, 0)).1[0].contains("nothing is compared"));
    }

    #[test]
    fn the_picture_and_the_table_have_every_run() {
        let args = Planet {
            requests: 300,
            first_seed: 1,
            providers: 50,
            consumers: 10,
            jobs: 2,
            svg: "unused".into(),
            json: false,
            check: false,
        };
        let played = play_all(&args);
        assert_eq!(
            played.len(),
            4 * Policy::ALL.len() + 3 * Policy::SWEPT.len()
        );
        let (text, svg) = (as_text(&args, &played), picture::draw(&played));
        for policy in Policy::ALL {
            assert!(text.contains(policy.name()) && svg.contains(policy.name()));
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(as_json(&played).as_array().unwrap().len(), played.len());
    }
}
