//! What is counted, in Prometheus' text form. Names follow OpenTelemetry's
//! GenAI conventions where they have one. Never a prompt, an answer, a key or
//! a client's address.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consumer::Summary;
use http::StatusCode;
use market::{Address, Amount};
use metrics::{DURATION_MS, Histogram, Page, TOKEN_TIME_MS, TOKENS, TTFT_MS, Unit, label};

/// Tokens of money that are counted apart; a market has one or two.
const MAX_TOKENS: usize = 16;
/// Models that are counted apart; clients name them, so there must be an end.
const MODELS_MAX: usize = 64;
/// What the others are counted as.
const OTHER_MODELS: &str = "other";

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    Chat,
    Embeddings,
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
            "/v1/embeddings" => Self::Embeddings,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/messages" | "/v1/messages/count_tokens" => Self::Messages,
            "/api/chat" | "/api/generate" | "/api/embed" | "/api/embeddings" | "/api/tags"
            | "/api/show" | "/api/version" => Self::Ollama,
            "/healthz" | "/readyz" => Self::Health,
            "/metrics" => Self::Metrics,
            path if path.starts_with("/v1/models") => Self::Models,
            _ => Self::Other,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
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
    models: Mutex<BTreeMap<String, Arc<OfModel>>>,
    running: AtomicU64,
    connections: AtomicU64,
}

/// What is counted of one model's answers.
#[derive(Debug)]
pub(crate) struct OfModel {
    duration: BTreeMap<Ending, Histogram>,
    ttft: Histogram,
    token_time: Histogram,
    input_tokens: Histogram,
    output_tokens: Histogram,
}

impl Default for OfModel {
    fn default() -> Self {
        let endings = [Ending::Complete, Ending::Broken, Ending::Abandoned];
        Self {
            duration: endings
                .map(|ending| (ending, Histogram::new(&DURATION_MS)))
                .into(),
            ttft: Histogram::new(&TTFT_MS),
            token_time: Histogram::new(&TOKEN_TIME_MS),
            input_tokens: Histogram::new(&TOKENS),
            output_tokens: Histogram::new(&TOKENS),
        }
    }
}

impl OfModel {
    pub(crate) fn first_chunk(&self, after: Duration) {
        self.ttft.time(after);
    }

    fn ended(&self, ending: Ending, took: Duration) {
        if let Some(duration) = self.duration.get(&ending) {
            duration.time(took);
        }
    }

    fn summary(&self, summary: &Summary, after: Duration) {
        self.input_tokens.record(summary.input_tokens.into());
        self.output_tokens.record(summary.output_tokens.into());
        if summary.output_tokens > 1 {
            self.token_time.time(after / (summary.output_tokens - 1));
        }
    }
}

impl Metrics {
    pub(crate) fn request(&self, route: Route, status: StatusCode) {
        *locked(&self.requests)
            .entry((route, status.as_u16()))
            .or_default() += 1;
    }

    /// An answer of this model began.
    pub(crate) fn answer_began(&self, model: &str) -> Arc<OfModel> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let mut models = locked(&self.models);
        let model = match models.contains_key(model) || models.len() < MODELS_MAX {
            true => model,
            false => OTHER_MODELS,
        };
        if let Some(known) = models.get(model) {
            return Arc::clone(known);
        }
        Arc::clone(models.entry(model.to_owned()).or_default())
    }

    pub(crate) fn answer_ended(&self, model: &OfModel, ending: Ending, took: Duration) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        *locked(&self.answers).entry(ending).or_default() += 1;
        model.ended(ending, took);
    }

    /// An answer came to its end, `after` its first chunk.
    pub(crate) fn summary(&self, model: &OfModel, summary: &Summary, after: Duration) {
        model.summary(summary, after);
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
            "lethe_gateway_running_answers",
            "gauge",
            "Answers that are being delivered.",
        );
        page.line("", &read(&self.running));
        page.head("lethe_gateway_connections", "gauge", "Open connections.");
        page.line("", &read(&self.connections));
        // Out of the lock: writing them takes its time.
        let models = locked(&self.models).clone();
        of_models(&mut page, &models);
        page.text()
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_models(page: &mut Page, models: &BTreeMap<String, Arc<OfModel>>) {
    let usual = |model: &String| {
        let model = label(model);
        format!(
            "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"lethe\",gen_ai_request_model=\"{model}\""
        )
    };
    page.head(
        "gen_ai_client_operation_duration_seconds",
        "histogram",
        "From the request to the end of the answer.",
    );
    for (model, of) in models {
        for (ending, duration) in &of.duration {
            let error = match ending {
                Ending::Complete => String::new(),
                ending => format!(",error_type=\"{}\"", ending.label()),
            };
            page.histogram(&format!("{}{error}", usual(model)), duration, Unit::Seconds);
        }
    }
    page.head(
        "gen_ai_client_token_usage",
        "histogram",
        "Tokens billed, of a request and of its answer.",
    );
    for (model, of) in models {
        for (kind, tokens) in [("input", &of.input_tokens), ("output", &of.output_tokens)] {
            let labels = format!("{},gen_ai_token_type=\"{kind}\"", usual(model));
            page.histogram(&labels, tokens, Unit::Count);
        }
    }
    page.head(
        "gen_ai_server_time_to_first_token_seconds",
        "histogram",
        "From the request to the first chunk.",
    );
    for (model, of) in models {
        page.histogram(&usual(model), &of.ttft, Unit::Seconds);
    }
    page.head(
        "gen_ai_server_time_per_output_token_seconds",
        "histogram",
        "Time per token after the first.",
    );
    for (model, of) in models {
        page.histogram(&usual(model), &of.token_time, Unit::Seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        let model = metrics.answer_began("a\"b");
        for ms in [1, 3, 300_000] {
            model.first_chunk(Duration::from_millis(ms));
        }
        let page = metrics.render();
        let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="lethe",gen_ai_request_model="a\"b""#;
        for (what, labels, value) in [
            ("bucket", format!("{labels},le=\"0.001\""), "1"),
            ("bucket", format!("{labels},le=\"0.005\""), "2"),
            ("bucket", format!("{labels},le=\"10\""), "2"),
            ("bucket", format!("{labels},le=\"+Inf\""), "3"),
            ("sum", labels.to_owned(), "300.004"),
            ("count", labels.to_owned(), "3"),
        ] {
            let line =
                format!("gen_ai_server_time_to_first_token_seconds_{what}{{{labels}}} {value}");
            assert!(
                page.lines().any(|found| found == line),
                "{line} is not in\n{page}"
            );
        }
    }

    #[test]
    fn models_without_end_are_counted_together() {
        let metrics = Metrics::default();
        for number in 0..1000 {
            metrics.answer_began(&format!("model-{number}"));
        }
        assert_eq!(locked(&metrics.models).len(), MODELS_MAX + 1);
        assert!(metrics.render().contains("gen_ai_request_model=\"other\""));
        let known = metrics.answer_began("model-0");
        assert!(Arc::ptr_eq(&known, &locked(&metrics.models)["model-0"]));
    }
}
