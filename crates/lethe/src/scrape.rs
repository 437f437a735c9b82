//! `/metrics` of a provider, a relay and a tower: what Prometheus reads. It is
//! at the node's local door, and at an address of its own where one is given;
//! behind the node's key at both, since it tells what is earned.
//!
//! Names follow OpenTelemetry's conventions for generative AI where these have
//! one. No label holds a prompt, an account that asked, a key, or a server's
//! address: that may have a key in it, so servers go by their number.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use market::Outcome;
use metrics::{Page, Unit, label};
use provider::{Pool, Provider, Standing, Status, Times};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::doorkeeper::guarded;
use crate::listen::{Exposed, ListenError, listen, warn_if_open};

/// Writes the page anew each time that it is read.
pub(crate) type Figures = Arc<dyn Fn() -> String + Send + Sync>;

/// The page, behind the node's key.
pub(crate) fn routes(figures: Figures, key: &str) -> Router {
    let page = get(async move || ([(header::CONTENT_TYPE, Page::MEDIA_TYPE)], figures()));
    guarded([("/metrics", page)], key)
}

/// Where the page is served at an address of its own, and which that came to be.
type Served = (TcpListener, SocketAddr);

/// Listens at the address of its own that the page has, if one is given: before a node does,
/// as what cannot be had is no reason to go out and come back.
pub(crate) async fn open(address: Option<SocketAddr>) -> Result<Option<Served>, ListenError> {
    match address {
        Some(address) => listen(address, "--metrics").await.map(Some),
        None => Ok(None),
    }
}

/// Serves the page there.
pub(crate) fn serve(
    listening: Option<Served>,
    routes: Router,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let Some((listener, bound)) = listening else {
        return;
    };
    warn_if_open(bound, Exposed::Metrics);
    let served = axum::serve(listener, routes).into_future();
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            served = served => drop(served),
        }
    });
    info!(address = %bound, "Prometheus reads /metrics here");
}

/// A provider's. `pool`: its servers, where it has some.
pub(crate) fn of_provider(provider: Arc<Provider>, pool: Option<Arc<Pool>>) -> Figures {
    Arc::new(move || {
        let standings = pool.as_ref().map(|pool| pool.standings());
        let standings = standings.unwrap_or_default();
        provider_page(&provider.status(), &provider.times(), &standings)
    })
}

/// A relay's.
pub(crate) fn of_relay(relay: relay::Watch) -> Figures {
    Arc::new(move || relay_page(&relay.counts(), &relay.tables()))
}

/// What every node tells.
pub(crate) fn begun(role: &str) -> Page {
    let mut page = Page::default();
    page.head("lethe_info", "gauge", "1, with version and role.");
    let version = env!("CARGO_PKG_VERSION");
    page.line(&format!("{{version=\"{version}\",role=\"{role}\"}}"), &1);
    if let Some(bytes) = resident_bytes() {
        page.one(
            "process_resident_memory_bytes",
            "gauge",
            "Memory of the process that is in use.",
            &bytes,
        );
    }
    page
}

/// Memory of this process; none where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn provider_page(
    status: &Status,
    times: &[(String, Arc<Times>)],
    standings: &[Standing],
) -> String {
    let mut page = begun("provider");
    answers(&mut page, status);
    took(&mut page, times);
    offers(&mut page, status);
    servers(&mut page, standings);
    money(&mut page, status);
    page.one(
        "lethe_provider_resting",
        "gauge",
        "1 while nothing is on offer by its own wish (--when).",
        &u8::from(status.resting),
    );
    page.head(
        "lethe_provider_relay_reached",
        "gauge",
        "1 while the relay takes the provider that waits at it.",
    );
    for behind in &status.behind {
        let relay = label(&behind.relay);
        page.line(&format!("{{relay=\"{relay}\"}}"), &u8::from(behind.reached));
    }
    page.text()
}

fn answers(page: &mut Page, status: &Status) {
    let counted = &status.counted;
    page.one(
        "lethe_provider_answers_begun_total",
        "counter",
        "Answers that began.",
        &counted.begun,
    );
    page.head(
        "lethe_provider_answers_total",
        "counter",
        "Answers by how they ended.",
    );
    for (ending, count) in [
        ("complete", counted.completed),
        ("cancelled", counted.cancelled),
        ("failed", counted.failed),
    ] {
        page.line(&format!("{{ending=\"{ending}\"}}"), &count);
    }
    page.head(
        "lethe_provider_refused_total",
        "counter",
        "Requests that were refused, and streams that brought none, by reason.",
    );
    for (reason, count) in [
        ("busy", counted.refused_busy),
        ("payment", counted.refused_payment),
        ("other", counted.refused_other),
        ("unopened", counted.unopened),
    ] {
        page.line(&format!("{{reason=\"{reason}\"}}"), &count);
    }
    page.head(
        "lethe_provider_tokens_total",
        "counter",
        "Tokens billed, of requests and of answers.",
    );
    for (kind, count) in [
        ("input", counted.input_tokens),
        ("output", counted.output_tokens),
    ] {
        page.line(&format!("{{gen_ai_token_type=\"{kind}\"}}"), &count);
    }
    page.one(
        "lethe_provider_waits_for_payment_total",
        "counter",
        "Times that an answer had to wait for a voucher.",
        &counted.waits_for_payment,
    );
}

/// What a model's figures bear as labels.
fn of_model(name: &str) -> String {
    let name = label(name);
    format!(
        "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"lethe\",gen_ai_request_model=\"{name}\""
    )
}

fn took(page: &mut Page, times: &[(String, Arc<Times>)]) {
    page.head(
        "gen_ai_server_request_duration_seconds",
        "histogram",
        "From taking a request to the end of its answer.",
    );
    for (name, times) in times {
        for (outcome, error) in [
            (Outcome::Complete, ""),
            (Outcome::Cancelled, ",error_type=\"cancelled\""),
            (Outcome::Failed, ",error_type=\"failed\""),
        ] {
            let labels = format!("{}{error}", of_model(name));
            page.histogram(&labels, times.duration(outcome), Unit::Seconds);
        }
    }
    page.head(
        "gen_ai_server_time_to_first_token_seconds",
        "histogram",
        "From taking a request to the first chunk of its answer.",
    );
    for (name, times) in times {
        page.histogram(&of_model(name), times.ttft(), Unit::Seconds);
    }
    page.head(
        "gen_ai_server_time_per_output_token_seconds",
        "histogram",
        "Time per token after the first.",
    );
    for (name, times) in times {
        page.histogram(&of_model(name), times.token(), Unit::Seconds);
    }
}

fn offers(page: &mut Page, status: &Status) {
    type Of = fn(&provider::OfferStatus) -> usize;
    let figures: [(&str, &str, Of); 4] = [
        (
            "lethe_provider_slots",
            "Answers that may run at a time.",
            |offer| offer.slots,
        ),
        (
            "lethe_provider_running_answers",
            "Answers that run.",
            |offer| offer.running,
        ),
        (
            "lethe_provider_queued_requests",
            "Requests that wait for a place.",
            |offer| offer.queued,
        ),
        (
            "lethe_provider_backend_up",
            "1 while what answers for the model is well.",
            |offer| usize::from(offer.problem.is_none()),
        ),
    ];
    for (name, help, of) in figures {
        page.head(name, "gauge", help);
        for offer in &status.offers {
            let model = label(&offer.name);
            page.line(&format!("{{gen_ai_request_model=\"{model}\"}}"), &of(offer));
        }
    }
    page.one(
        "lethe_provider_channels",
        "gauge",
        "Channels of consumers that it knows.",
        &status.channels,
    );
}

fn servers(page: &mut Page, standings: &[Standing]) {
    type Of = fn(&Standing) -> usize;
    let figures: [(&str, &str, Of); 3] = [
        (
            "lethe_provider_server_running_answers",
            "Answers that a server gives, by its number in the order of --backend.",
            |standing| standing.running,
        ),
        (
            "lethe_provider_server_failing",
            "1 while a server did not answer a moment ago.",
            |standing| usize::from(standing.failing),
        ),
        (
            "lethe_provider_server_drained",
            "1 while nothing new goes to a server.",
            |standing| usize::from(standing.drained),
        ),
    ];
    for (name, help, of) in figures {
        page.head(name, "gauge", help);
        for (number, standing) in (1..).zip(standings) {
            page.line(&format!("{{server=\"{number}\"}}"), &of(standing));
        }
    }
}

fn money(page: &mut Page, status: &Status) {
    type Of = fn(&provider::MoneyStatus) -> market::Amount;
    let figures: [(&str, &str, Of); 3] = [
        (
            "lethe_provider_earned_base_units",
            "What all receipts come to, by token.",
            |money| money.earned,
        ),
        (
            "lethe_provider_claimable_base_units",
            "What could be claimed now.",
            |money| money.claimable,
        ),
        (
            "lethe_provider_claimed_base_units",
            "What was claimed.",
            |money| money.claimed,
        ),
    ];
    for (name, help, of) in figures {
        page.head(name, "gauge", help);
        for money in &status.money {
            page.line(&format!("{{token=\"{}\"}}", money.token), &of(money));
        }
    }
}

fn relay_page(counts: &relay::Counts, tables: &relay::Tables) -> String {
    let mut page = begun("relay");
    page.one(
        "lethe_relay_streams_total",
        "counter",
        "Streams that were carried, those that run included.",
        &counts.carried,
    );
    page.one(
        "lethe_relay_running_streams",
        "gauge",
        "Streams that run.",
        &counts.running,
    );
    /// Name, help, label, and its values with their counts.
    type Kind<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, u64)]);
    let kinds: [Kind<'_>; 3] = [
        (
            "lethe_relay_bytes_total",
            "Bytes of streams that ended, from those who ask (up) and to them (down).",
            "direction",
            &[("up", counts.up_bytes), ("down", counts.down_bytes)],
        ),
        (
            "lethe_relay_refused_total",
            "Streams that were refused: no such node, it does not answer, too many, or not understood.",
            "reason",
            &[
                ("unknown", counts.unknown),
                ("unreachable", counts.unreachable),
                ("busy", counts.busy),
                ("malformed", counts.malformed),
            ],
        ),
        (
            "lethe_relay_loads_total",
            "Load digests: heard and new, refused, and times that they were told.",
            "outcome",
            &[
                ("heard", counts.loads_heard),
                ("refused", counts.loads_refused),
                ("told", counts.loads_told),
            ],
        ),
    ];
    for (name, help, kind, values) in kinds {
        page.head(name, "counter", help);
        for (value, count) in values {
            page.line(&format!("{{{kind}=\"{value}\"}}"), count);
        }
    }
    page.one(
        "lethe_relay_descriptions_total",
        "counter",
        "Times that descriptions of nodes were told.",
        &counts.described,
    );
    page.one(
        "lethe_relay_waiting_nodes",
        "gauge",
        "Nodes without an open port that wait here.",
        &counts.waiting,
    );
    kept(&mut page, tables);
    page.text()
}

fn kept(page: &mut Page, tables: &relay::Tables) {
    page.head(
        "lethe_relay_table_entries",
        "gauge",
        "Entries of what is kept in memory.",
    );
    for (table, entries) in [
        ("nodes", tables.nodes),
        ("peers", tables.peers),
        ("loads", tables.loads),
        ("relays", tables.relays),
    ] {
        page.line(&format!("{{table=\"{table}\"}}"), &entries);
    }
}

#[cfg(test)]
mod tests {
    use market::{Address, Amount, ModelId, Rates, Timestamp};
    use provider::{Counted, MoneyStatus, OfferStatus, RelayStatus};
    use serde_json::Value;

    use super::*;
    use crate::tower::Tally;

    /// Words of the query language itself.
    const OF_THE_LANGUAGE: [&str; 7] = [
        "sum",
        "by",
        "rate",
        "increase",
        "time",
        "histogram_quantile",
        "__rate_interval",
    ];

    fn status() -> Status {
        let rates = Rates {
            input_per_million: Amount::new(1),
            output_per_million: Amount::new(2),
        };
        Status {
            provider: Address::repeat_byte(7),
            account: Address::repeat_byte(7),
            endpoint: "127.0.0.1:3333".into(),
            behind: vec![RelayStatus {
                relay: "relay.example:3334".into(),
                reached: true,
            }],
            resting: false,
            offers: vec![OfferStatus {
                model: ModelId(market::B256::ZERO),
                name: "a \"model\"".into(),
                token: Address::repeat_byte(9),
                rates,
                quote_expires_at: Timestamp(1),
                slots: 4,
                running: 2,
                queued: 1,
                problem: Some("the backend at http://user:secret@host is away".into()),
            }],
            money: vec![MoneyStatus {
                token: Address::repeat_byte(9),
                earned: Amount::new(10),
                claimable: Amount::new(3),
                claimed: Amount::new(7),
            }],
            channels: 5,
            counted: Counted {
                refused_busy: 6,
                output_tokens: 11,
                ..Counted::default()
            },
        }
    }

    fn pages() -> [String; 3] {
        let times = [("a \"model\"".to_owned(), Arc::default())];
        let standing = Standing {
            drained: true,
            running: 1,
            failing: false,
        };
        let counts = relay::Counts {
            carried: 8,
            waiting: 2,
            ..relay::Counts::default()
        };
        let tables = relay::Tables {
            nodes: 12,
            ..relay::Tables::default()
        };
        [
            provider_page(&status(), &times, &[standing]),
            relay_page(&counts, &tables),
            Tally::default().page(),
        ]
    }

    #[tokio::test]
    async fn the_page_is_served_to_who_shows_the_key() {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let page = routes(Arc::new(|| pages().concat()), "a key");
        assert!(open(None).await.unwrap().is_none());
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let listening = open(Some(anywhere)).await.unwrap().unwrap();
        let url = format!("http://{}/metrics", listening.1);
        serve(Some(listening), page, &tasks, &stop);
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for (key, status) in [("a key", 200), ("another", 401)] {
            let told = client.get(&url).bearer_auth(key).send().await.unwrap();
            assert_eq!(told.status(), status);
            let kind = told.headers()[header::CONTENT_TYPE].clone();
            let text = told.text().await.unwrap();
            assert_eq!(text.contains("lethe_relay_streams_total 8"), status == 200);
            assert_eq!(kind == Page::MEDIA_TYPE, status == 200);
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[test]
    fn the_pages_tell_what_is_counted_and_nothing_of_a_servers_address() {
        let [provider, relay, tower] = pages();
        for (page, line) in [
            (
                &provider,
                r#"lethe_provider_refused_total{reason="busy"} 6"#,
            ),
            (
                &provider,
                r#"lethe_provider_tokens_total{gen_ai_token_type="output"} 11"#,
            ),
            (
                &provider,
                r#"lethe_provider_backend_up{gen_ai_request_model="a \"model\""} 0"#,
            ),
            (&provider, r#"lethe_provider_server_drained{server="1"} 1"#),
            (
                &provider,
                r#"lethe_provider_relay_reached{relay="relay.example:3334"} 1"#,
            ),
            (
                &provider,
                r#"lethe_provider_claimable_base_units{token="0x0909090909090909090909090909090909090909"} 3"#,
            ),
            (&relay, "lethe_relay_streams_total 8"),
            (&relay, r#"lethe_relay_table_entries{table="nodes"} 12"#),
            (&tower, r#"lethe_tower_looks_total{outcome="failed"} 0"#),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        assert!(
            !provider.contains("secret") && !provider.contains("http"),
            "{provider}"
        );
    }

    /// What a query asks for: all its words but values and those of the language.
    fn asked_for(query: &str) -> Vec<&str> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // Every second piece is a value in quotes.
        let pieces = query.split('"').step_by(2);
        let words = pieces.flat_map(|piece| piece.split(move |c| !is_word(c)));
        let words = words.filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()));
        words
            .filter(|word| !OF_THE_LANGUAGE.contains(word))
            .collect()
    }

    #[test]
    fn the_dashboard_asks_only_for_what_there_is() {
        let pages = pages().concat();
        let is_metric = |word: &&str| {
            let mut rests = pages.lines().filter_map(|line| line.strip_prefix(word));
            rests.any(|rest| rest.starts_with(['{', ' ']))
        };
        let is_label = |word: &str| pages.contains(&format!("{word}=\""));
        let text = include_str!("../../../docs/operate/grafana-sellers.json");
        let dashboard: Value = serde_json::from_str(text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        let targets = panels.filter_map(|panel| panel["targets"].as_array());
        let queries: Vec<&str> = targets
            .flatten()
            .map(|target| target["expr"].as_str().unwrap())
            .collect();
        assert!(queries.len() >= 20, "{}", queries.len());
        for query in queries {
            let words = asked_for(query);
            assert!(words.iter().any(is_metric), "no metric in {query}");
            for word in words {
                assert!(is_metric(&word) || is_label(word), "no {word} for {query}");
            }
        }
    }
}
