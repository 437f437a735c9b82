//! What is counted, in Prometheus' text form. Names follow OpenTelemetry's
//! GenAI conventions where they have one. Never a prompt, an answer, a key or
//! a client's address.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consumer::Summary;
use http::StatusCode;
use market::{Address, Amount};

/// Tokens of money that are counted apart; a market has one or two.
const MAX_TOKENS: usize = 16;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    Chat,
    Completions,
    Responses,
    Messages,
    Ollama,
    Models,
    Health,
    Metrics,
    Other,
}

impl Route {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/messages" | "/v1/messages/count_tokens" => Self::Messages,
            "/api/chat" | "/api/generate" | "/api/tags" | "/api/show" | "/api/version" => {
                Self::Ollama
            }
            "/healthz" | "/readyz" => Self::Health,
            "/metrics" => Self::Metrics,
            path if path.starts_with("/v1/models") => Self::Models,
            _ => Self::Other,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Ollama => "ollama",
            Self::Models => "models",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Other => "other",
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    Complete,
    Broken,
    /// The client left before the end.
    Abandoned,
}

impl Ending {
    fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Broken => "broken",
            Self::Abandoned => "abandoned",
        }
    }
}

/// All counters of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Route, u16), u64>>,
    answers: Mutex<BTreeMap<Ending, u64>>,
    cost: Mutex<BTreeMap<Address, Amount>>,
    running: AtomicU64,
    connections: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    ttft: Histogram,
    token_time: Histogram,
    duration: Histogram,
}

impl Metrics {
    pub(crate) fn request(&self, route: Route, status: StatusCode) {
        *locked(&self.requests)
            .entry((route, status.as_u16()))
            .or_default() += 1;
    }

    pub(crate) fn answer_began(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answer_ended(&self, ending: Ending, took: Duration) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        *locked(&self.answers).entry(ending).or_default() += 1;
        self.duration.record(took);
    }

    pub(crate) fn first_chunk(&self, after: Duration) {
        self.ttft.record(after);
    }

    /// An answer came to its end, `after` its first chunk.
    pub(crate) fn summary(&self, summary: &Summary, after: Duration) {
        self.input_tokens
            .fetch_add(summary.input_tokens.into(), Ordering::Relaxed);
        self.output_tokens
            .fetch_add(summary.output_tokens.into(), Ordering::Relaxed);
        if summary.output_tokens > 1 {
            self.token_time.record(after / (summary.output_tokens - 1));
        }
        let mut cost = locked(&self.cost);
        if cost.len() < MAX_TOKENS || cost.contains_key(&summary.token) {
            let sum = cost.entry(summary.token).or_default();
            *sum = sum.plus(summary.cost).unwrap_or(*sum);
        }
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self) -> String {
        let mut page = Page::default();
        page.head(
            "lethe_gateway_requests_total",
            "counter",
            "Requests by route and status.",
        );
        for ((route, status), count) in locked(&self.requests).iter() {
            page.line(
                &format!("{{route=\"{}\",status=\"{status}\"}}", route.label()),
                count,
            );
        }
        page.head(
            "lethe_gateway_answers_total",
            "counter",
            "Answers by how they ended.",
        );
        for (ending, count) in locked(&self.answers).iter() {
            page.line(&format!("{{ending=\"{}\"}}", ending.label()), count);
        }
        page.head(
            "lethe_gateway_cost_base_units_total",
            "counter",
            "What answers cost, by token.",
        );
        for (token, sum) in locked(&self.cost).iter() {
            page.line(&format!("{{token=\"{token}\"}}"), sum);
        }
        page.head(
            "gen_ai_client_token_usage_total",
            "counter",
            "Tokens billed.",
        );
        page.line("{gen_ai_token_type=\"input\"}", &read(&self.input_tokens));
        page.line("{gen_ai_token_type=\"output\"}", &read(&self.output_tokens));
        page.head(
            "lethe_gateway_running_answers",
            "gauge",
            "Answers that are being delivered.",
        );
        page.line("", &read(&self.running));
        page.head("lethe_gateway_connections", "gauge", "Open connections.");
        page.line("", &read(&self.connections));
        page.histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request to the first chunk.",
            &self.ttft,
        );
        page.histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first.",
            &self.token_time,
        );
        page.histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request to the end of the answer.",
            &self.duration,
        );
        page.text
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Upper bounds of the buckets, in milliseconds; one more counts the rest.
const BOUNDS_MS: [u64; 14] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 30_000, 120_000,
];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn record(&self, duration: Duration) {
        let within = |bound: &u64| duration <= Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().position(within).unwrap_or(BOUNDS_MS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Page {
    text: String,
    name: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        self.put(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, labels: &str, value: &dyn std::fmt::Display) {
        let name = self.name.clone();
        self.put(&format!("{name}{labels} {value}\n"));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut count = 0;
        for (bound, bucket) in BOUNDS_MS.iter().zip(&histogram.buckets) {
            count += read(bucket);
            let bound = Duration::from_millis(*bound).as_secs_f64();
            self.put(&format!("{name}_bucket{{le=\"{bound}\"}} {count}\n"));
        }
        count += read(&histogram.buckets[BOUNDS_MS.len()]);
        self.put(&format!("{name}_bucket{{le=\"+Inf\"}} {count}\n"));
        let sum = Duration::from_micros(read(&histogram.sum_us)).as_secs_f64();
        self.put(&format!("{name}_sum {sum}\n{name}_count {count}\n"));
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
    fn buckets_add_up() {
        let metrics = Metrics::default();
        for ms in [1, 3, 300_000] {
            metrics.first_chunk(Duration::from_millis(ms));
        }
        let page = metrics.render();
        for line in [
            "gen_ai_server_time_to_first_token_seconds_bucket{le=\"0.001\"} 1",
            "gen_ai_server_time_to_first_token_seconds_bucket{le=\"0.005\"} 2",
            "gen_ai_server_time_to_first_token_seconds_bucket{le=\"120\"} 2",
            "gen_ai_server_time_to_first_token_seconds_bucket{le=\"+Inf\"} 3",
            "gen_ai_server_time_to_first_token_seconds_sum 300.004",
            "gen_ai_server_time_to_first_token_seconds_count 3",
        ] {
            assert!(
                page.lines().any(|found| found == line),
                "{line} is not in\n{page}"
            );
        }
    }
}
