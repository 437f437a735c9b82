//! The figures as an SVG, so that they can be looked at.

use std::fmt::Write;

use crate::planet::run::Policy;
use crate::planet::tally::ratio;
use crate::planet::{LOADS, Played, SHARE, SHARES, SWEPT_AT};

/// A panel's size, and where its plot lies in it.
const PANEL: (f64, f64) = (460.0, 300.0);
const PLOT: (f64, f64, f64, f64) = (64.0, 44.0, 372.0, 200.0);

const HEAD: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 640" font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="t d">
  <title id="t">Rules for choosing a provider, compared</title>
  <desc id="d">Share of failed requests, time to the first token and mean cost by load, and failed requests by the share of outages that hit whole operators.</desc>
  <rect width="920" height="640" fill="#fff"/>
"##;

fn colour(policy: Policy) -> &'static str {
    match policy {
        Policy::Clairvoyant => "#777777",
        Policy::Told => "#0a7d4f",
        Policy::Cost => "#7fb89f",
        Policy::Morpheus => "#b8461c",
        Policy::Random => "#5470b8",
        Policy::RoundRobin => "#8a5aa8",
    }
}

/// A line of one rule: what stands below, and the value.
type Line = (Policy, Vec<(f64, f64)>);

struct Panel {
    title: &'static str,
    below: &'static str,
    lines: Vec<Line>,
}

/// Draws all runs.
pub(super) fn draw(played: &[Played]) -> String {
    let at = |policy: Policy, load: u64, share: u64| {
        played.iter().find(|run| {
            let settings = &run.settings;
            settings.liars
                && (settings.policy, settings.load, settings.share) == (policy, load, share)
        })
    };
    let by_load = |value: &dyn Fn(&Played) -> f64| {
        let line = |policy| {
            let runs = LOADS
                .iter()
                .filter_map(|load| Some((ratio(*load, 1000), at(policy, *load, SHARE)?)));
            (policy, runs.map(|(load, run)| (load, value(run))).collect())
        };
        Policy::ALL.map(line).to_vec()
    };
    let failed = |run: &Played| ratio(run.figures.failed, run.figures.requests) * 100.0;
    let by_share = Policy::SWEPT.map(|policy| {
        let runs = SHARES
            .iter()
            .filter_map(|share| Some((ratio(*share, 1000), at(policy, SWEPT_AT, *share)?)));
        (
            policy,
            runs.map(|(share, run)| (share, failed(run))).collect(),
        )
    });
    let panels = [
        Panel {
            title: "failed requests, %",
            below: "load",
            lines: by_load(&failed),
        },
        Panel {
            title: "time to the first token, 95 %, seconds",
            below: "load",
            lines: by_load(&|run| f64::from(run.figures.first_ms(95)) / 1000.0),
        },
        Panel {
            title: "price, time and failures of a request, mMOR",
            below: "load",
            lines: by_load(&|run| run.figures.cost_mean()),
        },
        Panel {
            title: "failed requests at load 0.6, %",
            below: "share of outages that hit whole operators",
            lines: by_share.to_vec(),
        },
    ];
    let mut svg = HEAD.to_owned();
    for (n, panel) in panels.iter().enumerate() {
        let (x, y) = (
            if n % 2 == 0 { 0.0 } else { PANEL.0 },
            if n < 2 { 0.0 } else { PANEL.1 },
        );
        svg.push_str(&panel.draw(x, y));
    }
    for (n, policy) in (0_u32..).zip(Policy::ALL) {
        let x = 64.0 + 140.0 * f64::from(n);
        let (colour, name) = (colour(policy), policy.name());
        put(
            &mut svg,
            format_args!(
                "  <line x1=\"{x}\" y1=\"618\" x2=\"{}\" y2=\"618\" stroke=\"{colour}\" stroke-width=\"3\"/>\n  <text x=\"{}\" y=\"623\">{name}</text>\n",
                x + 26.0,
                x + 32.0,
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where things stand in a panel.
struct Frame {
    x: f64,
    y: f64,
    /// Decades, from the floor to the ceiling.
    bottom: f64,
    top: f64,
    right: f64,
}

impl Frame {
    fn across(&self, below: f64) -> f64 {
        self.x + PLOT.0 + below / self.right * PLOT.2
    }

    /// What is nothing stands on the floor.
    fn height(&self, value: f64) -> f64 {
        let decades = match value > 0.0 {
            true => value.log10().max(self.bottom),
            false => self.bottom,
        };
        let share = (decades - self.bottom) / (self.top - self.bottom);
        self.y + PLOT.1 + PLOT.3 - share * PLOT.3
    }
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.lines.iter().flat_map(|(_, points)| points).copied()
    }

    /// Decades up the side: failures and costs differ by factors.
    fn draw(&self, x: f64, y: f64) -> String {
        let values = || self.points().map(|(_, value)| value);
        let most = values().fold(0.001, f64::max);
        let least = values().filter(|value| *value > 0.0).fold(most, f64::min);
        let top = most.log10().ceil();
        let frame = Frame {
            x,
            y,
            bottom: least.log10().floor().min(top - 1.0),
            top,
            right: self.points().map(|(below, _)| below).fold(0.001, f64::max),
        };
        let mut svg = String::new();
        self.axes(&frame, &mut svg);
        for (policy, points) in &self.lines {
            let path: Vec<String> = points
                .iter()
                .map(|(below, value)| {
                    format!("{:.1},{:.1}", frame.across(*below), frame.height(*value))
                })
                .collect();
            let (colour, line) = (colour(*policy), path.join(" "));
            put(
                &mut svg,
                format_args!(
                    "  <polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>\n"
                ),
            );
            for (x, y) in path.iter().filter_map(|point| point.split_once(',')) {
                put(
                    &mut svg,
                    format_args!("  <circle cx=\"{x}\" cy=\"{y}\" r=\"3.5\" fill=\"{colour}\"/>\n"),
                );
            }
        }
        svg
    }

    /// The title, a line for each decade, and what stands below.
    fn axes(&self, frame: &Frame, svg: &mut String) {
        let (left, foot) = (frame.x + PLOT.0, frame.y + PLOT.1 + PLOT.3);
        let (title, below) = (self.title, self.below);
        let (up, right, middle) = (frame.y + 26.0, left + PLOT.2, left + PLOT.2 / 2.0);
        put(
            svg,
            format_args!("  <text x=\"{left}\" y=\"{up}\" font-weight=\"600\">{title}</text>\n"),
        );
        let mut decade = frame.bottom;
        while decade <= frame.top {
            let label = 10_f64.powf(decade);
            let (line, beside, lower) =
                (frame.height(label), left - 6.0, frame.height(label) + 4.0);
            put(
                svg,
                format_args!(
                    "  <line x1=\"{left}\" y1=\"{line:.1}\" x2=\"{right}\" y2=\"{line:.1}\" stroke=\"#ddd\"/>\n  \
                     <text x=\"{beside}\" y=\"{lower:.1}\" text-anchor=\"end\" fill=\"#444\">{label}</text>\n"
                ),
            );
            decade += 1.0;
        }
        let mut marks: Vec<f64> = self.points().map(|(below, _)| below).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        let (first, second) = (foot + 18.0, foot + 36.0);
        for mark in marks {
            let at = frame.across(mark);
            put(
                svg,
                format_args!(
                    "  <text x=\"{at:.1}\" y=\"{first}\" text-anchor=\"middle\" fill=\"#444\">{mark}</text>\n"
                ),
            );
        }
        put(
            svg,
            format_args!(
                "  <text x=\"{middle}\" y=\"{second}\" text-anchor=\"middle\" fill=\"#444\">{below}</text>\n"
            ),
        );
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}
