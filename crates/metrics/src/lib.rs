//! Figures that are counted by how large they are, and the page in Prometheus'
//! text form that they are read from.
//!
//! Whoever counts chooses names and labels: by OpenTelemetry's conventions for
//! generative AI where these have one, and never a secret, a prompt or who
//! asked. Pure: durations come in, text goes out.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, as OpenTelemetry's conventions advise them; one
/// more counts the rest. Of an answer's time, in milliseconds.
pub const DURATION_MS: [u64; 14] = [
    10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920,
];
/// Of the time to the first token, in milliseconds.
pub const TTFT_MS: [u64; 16] = [
    1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000,
];
/// Of the time of each further token, in milliseconds; the first two are ours, for small models.
pub const TOKEN_TIME_MS: [u64; 15] = [
    1, 5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 2_500,
];
/// Of tokens.
pub const TOKENS: [u64; 14] = [
    1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    67_108_864,
];

/// Figures that are counted by how large they are.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    buckets: Vec<AtomicU64>,
    /// In microseconds, if they are times.
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing yet. `bounds`: upper ones, the smallest first; of times in milliseconds.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a figure.
    pub fn record(&self, figure: u64) {
        self.put(
            self.bounds.iter().position(|bound| figure <= *bound),
            figure,
        );
    }

    /// Counts a time.
    pub fn time(&self, duration: Duration) {
        let within = |bound: &u64| duration <= Duration::from_millis(*bound);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.put(self.bounds.iter().position(within), us);
    }

    fn put(&self, bucket: Option<usize>, figure: u64) {
        let bucket = bucket.unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(figure, Ordering::Relaxed);
    }
}

/// How a histogram's figures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// They are times.
    Seconds,
    /// They are not.
    Count,
}

impl Unit {
    fn bound(self, bound: u64) -> f64 {
        match self {
            Self::Seconds => Duration::from_millis(bound).as_secs_f64(),
            Self::Count => bound as f64,
        }
    }

    fn sum(self, sum: u64) -> f64 {
        match self {
            Self::Seconds => Duration::from_micros(sum).as_secs_f64(),
            Self::Count => sum as f64,
        }
    }
}

/// A value as it stands in a label, between its quotes.
pub fn label(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out
}

/// The page, metric by metric.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    name: String,
}

impl Page {
    /// The media type that it is served with.
    pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a metric. `kind`: `counter`, `gauge` or `histogram`.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        self.put(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A value of the metric that was begun. `labels` stand in their braces;
    /// empty if there are none.
    pub fn line(&mut self, labels: &str, value: &dyn Display) {
        let name = self.name.clone();
        self.put(&format!("{name}{labels} {value}\n"));
    }

    /// A metric of one value.
    pub fn one(&mut self, name: &str, kind: &str, help: &str, value: &dyn Display) {
        self.head(name, kind, help);
        self.line("", value);
    }

    /// A histogram of the metric that was begun. `labels` stand without their braces.
    pub fn histogram(&mut self, labels: &str, histogram: &Histogram, unit: Unit) {
        let name = self.name.clone();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut count = 0;
        for (bound, bucket) in histogram.bounds.iter().zip(&histogram.buckets) {
            count += read(bucket);
            let bound = unit.bound(*bound);
            self.put(&format!(
                "{name}_bucket{{{labels},le=\"{bound}\"}} {count}\n"
            ));
        }
        count += histogram.buckets.last().map_or(0, read);
        self.put(&format!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
        let sum = unit.sum(read(&histogram.sum));
        self.put(&format!(
            "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}\n"
        ));
    }

    /// All of it.
    pub fn text(self) -> String {
        self.text
    }

    fn put(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = self.text.write_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_labels_stay_within_their_quotes() {
        let times = Histogram::new(&TTFT_MS);
        for ms in [1, 3, 300_000] {
            times.time(Duration::from_millis(ms));
        }
        let mut page = Page::default();
        page.head("t_seconds", "histogram", "Times.");
        page.histogram(
            &format!("m=\"{}\"", label("a\"b\n\\")),
            &times,
            Unit::Seconds,
        );
        let page = page.text();
        for line in [
            "# TYPE t_seconds histogram",
            r#"t_seconds_bucket{m="a\"b\n\\",le="0.001"} 1"#,
            r#"t_seconds_bucket{m="a\"b\n\\",le="0.005"} 2"#,
            r#"t_seconds_bucket{m="a\"b\n\\",le="+Inf"} 3"#,
            r#"t_seconds_sum{m="a\"b\n\\"} 300.004"#,
            r#"t_seconds_count{m="a\"b\n\\"} 3"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
