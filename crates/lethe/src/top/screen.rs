//! What there is to see of a node, as tables of text. Pure: what the node
//! said and the time come in; the terminal and the plain page show the same.

use std::time::Duration;

use market::{Address, Outcome, Rates};
use serde::Deserialize;

use crate::money::Money;
use crate::tokens::{TokenView, TokenViews};

/// The longest list of each kind.
const ROWS_MAX: usize = 12;
/// What is told of billed tokens is the mean over so many looks.
const LOOKS_MAX: usize = 11;

/// What a node says of itself at `/api/state`; what is not shown is left out.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    tokens: TokenViews,
    #[serde(default)]
    sellers: Vec<Seller>,
    #[serde(default)]
    models: Vec<Model>,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Debug, Deserialize)]
struct Seller {
    name: String,
    offers: Vec<Offer>,
    counted: Counted,
}

#[derive(Debug, Deserialize)]
struct Offer {
    name: String,
    #[serde(default)]
    token: Address,
    rates: Rates,
    slots: usize,
    running: usize,
    queued: usize,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Counted {
    output_tokens: u64,
    failed: u64,
    refused_busy: u64,
    refused_payment: u64,
    refused_other: u64,
}

/// A model on offer, as a consumer sees it.
#[derive(Debug, Deserialize)]
struct Model {
    name: String,
    offers: Vec<Offered>,
}

#[derive(Debug, Deserialize)]
struct Offered {
    provider: String,
    #[serde(default)]
    token: Address,
    rates: Rates,
    live: bool,
    running: u32,
    ttft_ms: Option<u64>,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    model: String,
    provider: String,
    outcome: Option<Outcome>,
}

/// Of a gateway's `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Gateway {
    running: u64,
    output_tokens: u64,
}

impl Gateway {
    /// None: this is no page of a gateway.
    pub(crate) fn read(page: &str) -> Option<Self> {
        let figure = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        let running = page
            .lines()
            .find(|line| line.starts_with("lethe_gateway_running_answers "))?;
        let tokens = page.lines().filter(|line| {
            line.starts_with("gen_ai_client_token_usage_sum{")
                && line.contains("gen_ai_token_type=\"output\"")
        });
        Some(Self {
            running: figure(running)?,
            output_tokens: tokens.filter_map(figure).sum(),
        })
    }
}

/// Of a relay's `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Relayed {
    running: u64,
    carried: u64,
    waiting: u64,
    refused: u64,
    up_bytes: u64,
    down_bytes: u64,
}

impl Relayed {
    /// None: this is no page of a relay.
    pub(crate) fn read(page: &str) -> Option<Self> {
        let sum = |begin: &str| {
            let lines = page.lines().filter(|line| line.starts_with(begin));
            let figures = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            figures.reduce(|sum, figure| sum.saturating_add(figure))
        };
        Some(Self {
            running: sum("lethe_relay_running_streams ")?,
            carried: sum("lethe_relay_streams_total ")?,
            waiting: sum("lethe_relay_waiting_nodes ")?,
            refused: sum("lethe_relay_refused_total{")?,
            up_bytes: sum("lethe_relay_bytes_total{direction=\"up\"}")?,
            down_bytes: sum("lethe_relay_bytes_total{direction=\"down\"}")?,
        })
    }

    fn table(self) -> Table {
        let row = |what: &str, figure: String| vec![what.to_owned(), figure];
        let rows = vec![
            row("streams that run", self.running.to_string()),
            row("streams carried since the start", self.carried.to_string()),
            row("streams refused", self.refused.to_string()),
            row(
                "bytes carried, up / down",
                format!("{} / {}", self.up_bytes, self.down_bytes),
            ),
            row("providers that wait here", self.waiting.to_string()),
        ];
        Table {
            title: "Relay",
            head: vec!["", ""],
            rows,
            empty: "none",
        }
    }
}

/// Billed tokens, look by look.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    looks: Vec<(Duration, u64)>,
}

impl Speed {
    /// So many were billed in all at this time of ours. How many a second lately; none at first.
    fn at(&mut self, now: Duration, tokens: u64) -> Option<f64> {
        self.looks.push((now, tokens));
        if self.looks.len() > LOOKS_MAX {
            self.looks.remove(0);
        }
        let (first, before) = *self.looks.first()?;
        let passed = now.saturating_sub(first).as_secs_f64();
        let billed = u32::try_from(tokens.saturating_sub(before)).unwrap_or(u32::MAX);
        (passed > 0.0).then(|| f64::from(billed) / passed)
    }
}

/// All that a look found.
pub(crate) struct Look<'a> {
    pub(crate) state: &'a State,
    pub(crate) gateway: Option<Gateway>,
    /// A relay sells and buys nothing: this is what it does.
    pub(crate) relayed: Option<Relayed>,
    /// As far as it could be had.
    pub(crate) money: Result<&'a Money, &'a str>,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Screen {
    pub(crate) title: String,
    tables: Vec<Table>,
}

/// One part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    title: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// What is said where there are no rows.
    empty: &'static str,
}

impl Screen {
    pub(crate) fn of(look: &Look<'_>, url: &str, now: Duration, speed: &mut Speed) -> Self {
        let state = look.state;
        let offers = state.sellers.iter().flat_map(|seller| &seller.offers);
        let sold: usize = offers.map(|offer| offer.running).sum();
        let tokens = match look.gateway {
            Some(gateway) => gateway.output_tokens,
            None => {
                let each = state.sellers.iter();
                each.map(|seller| seller.counted.output_tokens).sum()
            }
        };
        let running = match look.gateway {
            Some(gateway) => gateway.running.to_string(),
            None => sold.to_string(),
        };
        let speed = match speed.at(now, tokens) {
            Some(speed) => format!("{speed:.1}"),
            None => "-".to_owned(),
        };
        let version = &state.version;
        let (title, first) = match look.relayed {
            Some(relayed) => (
                format!(
                    "lethe {version} at {url}   a relay   {} streams running   {} in all",
                    relayed.running, relayed.carried
                ),
                relayed.table(),
            ),
            None => (
                format!(
                    "lethe {version} at {url}   {running} requests running   {speed} tokens/s billed   {tokens} tokens in all"
                ),
                offers_table(state),
            ),
        };
        Self {
            title: crate::output::plain(&title),
            tables: vec![first, channels_table(look.money), errors_table(look)],
        }
    }

    /// Line by line.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = vec![Line::title(&self.title)];
        for table in &self.tables {
            lines.extend([Line::text(String::new()), Line::title(table.title)]);
            if table.rows.is_empty() {
                lines.push(Line::text(format!("  {}", table.empty)));
                continue;
            }
            let widths = table.widths();
            let head: Vec<_> = table.head.iter().map(|cell| (*cell).to_owned()).collect();
            let head = head.iter().any(|cell| !cell.is_empty()).then_some(&head);
            for row in head.into_iter().chain(&table.rows) {
                let cells = row.iter().zip(&widths);
                let cells: Vec<_> = cells
                    .map(|(cell, width)| format!("{cell:width$}"))
                    .collect();
                let text = format!("  {}", cells.join("  "));
                lines.push(Line::text(text.trim_end().to_owned()));
            }
        }
        lines
    }
}

/// A line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) is_title: bool,
}

impl Line {
    fn title(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_title: true,
        }
    }

    fn text(text: String) -> Self {
        Self {
            text,
            is_title: false,
        }
    }
}

impl Table {
    /// Characters that each column needs.
    fn widths(&self) -> Vec<usize> {
        let head = self.head.iter().map(|cell| cell.chars().count());
        let mut widths: Vec<_> = head.collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn offers_table(state: &State) -> Table {
    let own = state.sellers.iter().flat_map(|seller| {
        seller.offers.iter().map(|offer| {
            let load = format!(
                "{} of {} running, {} waiting",
                offer.running, offer.slots, offer.queued
            );
            let how = match offer.problem {
                Some(_) => "failing",
                None => "sells",
            };
            vec![
                plain(&offer.name),
                plain(&seller.name),
                how.to_owned(),
                price(&offer.rates, &state.tokens.get(offer.token)),
                load,
            ]
        })
    });
    // A demonstration's own providers are on offer, too: once is enough.
    let others = state.models.iter().filter(|_| state.sellers.is_empty());
    let others = others.flat_map(|model| {
        model.offers.iter().map(|offer| {
            let load = match offer.ttft_ms {
                Some(ms) => format!("{} of ours running, begins in {ms} ms", offer.running),
                None => format!("{} of ours running", offer.running),
            };
            vec![
                plain(&model.name),
                short(&offer.provider),
                if offer.live { "live" } else { "away" }.to_owned(),
                price(&offer.rates, &state.tokens.get(offer.token)),
                load,
            ]
        })
    });
    Table {
        title: "Offers",
        head: vec!["model", "provider", "", "per million, in/out", "load"],
        rows: own.chain(others).take(ROWS_MAX).collect(),
        empty: "none",
    }
}

fn channels_table(money: Result<&Money, &str>) -> Table {
    let holdings = money.iter().flat_map(|money| money.holdings());
    let places = holdings.flat_map(|(token, places, ..)| places.iter().map(move |it| (token, it)));
    let in_channels = places.filter(|(_, place)| place.label.contains("channel"));
    let held = in_channels.filter(|(_, place)| !place.amount.is_zero());
    let rows = held.map(|(token, place)| {
        let amount = token.shown(place.amount) + &token.worth(place.amount);
        vec![plain(&place.label), amount, plain(&place.detail)]
    });
    Table {
        title: "Channels with money",
        head: vec!["where", "amount", ""],
        rows: rows.take(ROWS_MAX).collect(),
        empty: match money {
            Ok(_) => "none",
            Err(_) => "not known now",
        },
    }
}

fn errors_table(look: &Look<'_>) -> Table {
    let mut rows = Vec::new();
    let mut tell = |what: &str, why: &str| rows.push(vec![plain(what), plain(why)]);
    match look.money {
        Err(why) => tell("money", why),
        Ok(money) => {
            for why in money.problems.iter().chain(&money.warnings) {
                tell("money", why);
            }
        }
    }
    for seller in &look.state.sellers {
        for offer in &seller.offers {
            if let Some(problem) = &offer.problem {
                tell(&format!("{} of {}", offer.name, seller.name), problem);
            }
        }
        let counted = &seller.counted;
        let failures = [
            (counted.failed, "answers broke off since the start"),
            (
                counted.refused_busy,
                "requests were refused: all places were taken",
            ),
            (
                counted.refused_payment,
                "requests were refused because of voucher, channel or quote",
            ),
            (
                counted.refused_other,
                "requests were refused for other reasons",
            ),
        ];
        for (count, what) in failures.iter().filter(|(count, _)| *count > 0) {
            tell(&seller.name, &format!("{count} {what}"));
        }
    }
    for model in &look.state.models {
        for offer in model.offers.iter().filter(|offer| !offer.live) {
            let why = offer.problem.as_deref().unwrap_or("not live");
            tell(
                &format!("{} of {}", model.name, short(&offer.provider)),
                why,
            );
        }
    }
    for answer in &look.state.answers {
        let how = match answer.outcome {
            Some(Outcome::Failed) => "an answer broke off",
            None => "an answer ended without a receipt",
            Some(Outcome::Complete | Outcome::Cancelled) => continue,
        };
        tell(
            &format!("{} of {}", answer.model, short(&answer.provider)),
            how,
        );
    }
    rows.truncate(ROWS_MAX);
    Table {
        title: "Errors",
        head: vec!["what", "why"],
        rows,
        empty: "none",
    }
}

fn plain(text: &str) -> String {
    crate::output::plain(text).replace(['\n', '\t'], " ")
}

/// An account by its first digits.
fn short(account: &str) -> String {
    account.chars().take(10).collect()
}

fn price(rates: &Rates, token: &TokenView) -> String {
    let Rates {
        input_per_million: input,
        output_per_million: output,
    } = *rates;
    let worth = match &token.usd {
        Some(rate) => format!(" ({} / {})", rate.shown(input), rate.shown(output)),
        None => String::new(),
    };
    format!("{} / {}{worth}", token.figure(input), token.shown(output))
}
