//! What there is to see of a node, as tables of text. Pure: what the node
//! said and the time come in; the terminal and the plain page show the same.

use std::time::Duration;

use market::{Address, Amount, Outcome, Rates, Timestamp};
use serde::Deserialize;

use crate::money::Money;
use crate::tokens::{TokenView, TokenViews};

/// The longest list of each kind.
const ROWS_MAX: usize = 12;
/// What is told of billed tokens is the mean over so many looks.
const LOOKS_MAX: usize = 11;
/// Spaces between the pieces of the title.
const GAP: usize = 3;
/// Words are given a line at least so wide.
const WORDS_MIN: usize = 24;

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

#[cfg(test)]
impl State {
    /// Of a node that sells and buys nothing.
    pub(super) fn without_sellers(self) -> Self {
        Self {
            sellers: vec![],
            answers: vec![],
            ..self
        }
    }
}

#[derive(Debug, Deserialize)]
struct Seller {
    name: String,
    #[serde(default)]
    provider: String,
    /// Whether nothing is on offer for now, by its own wish, and until when.
    #[serde(default)]
    resting: bool,
    #[serde(default)]
    rests: Option<String>,
    offers: Vec<Offer>,
    counted: Counted,
}

impl Seller {
    /// What an offer of it does.
    fn does(&self, offer: &Offer) -> String {
        match (&offer.problem, self.resting, &self.rests) {
            (Some(_), ..) => "failing".to_owned(),
            (None, true, Some(until)) => format!("rests {until}"),
            (None, true, None) => "rests".to_owned(),
            (None, false, _) => "sells".to_owned(),
        }
    }
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
    #[serde(default)]
    input_tokens: u64,
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
    input_tokens: u64,
    output_tokens: u64,
}

impl Gateway {
    /// None: this is no page of a gateway.
    pub(crate) fn read(page: &str) -> Option<Self> {
        let figure = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        let running = page
            .lines()
            .find(|line| line.starts_with("lethe_gateway_running_answers "))?;
        let tokens = |kind: &str| {
            let kind = format!("gen_ai_token_type=\"{kind}\"");
            let counted = page.lines().filter(|line| {
                line.starts_with("gen_ai_client_token_usage_sum{") && line.contains(&kind)
            });
            counted.filter_map(figure).sum()
        };
        Some(Self {
            running: figure(running)?,
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
        })
    }
}

/// Of a relay's `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Relayed {
    running: u64,
    carried: u64,
    waiting: u64,
    /// All, and those because it was busy.
    refused: u64,
    busy: u64,
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
            busy: sum("lethe_relay_refused_total{reason=\"busy\"}").unwrap_or(0),
            up_bytes: sum("lethe_relay_bytes_total{direction=\"up\"}")?,
            down_bytes: sum("lethe_relay_bytes_total{direction=\"down\"}")?,
        })
    }

    fn title(self) -> Vec<String> {
        vec![
            "a relay".to_owned(),
            format!("{} streams running", self.running),
            format!("{} since the start", self.carried),
        ]
    }

    /// How many, and why.
    fn refusals(self) -> String {
        match self.refused {
            0 => "0".to_owned(),
            all => format!(
                "{all}: {} while it was busy, {} to nodes that it does not reach",
                self.busy,
                all.saturating_sub(self.busy)
            ),
        }
    }

    fn table(self) -> Table {
        let rows = vec![
            row("streams that run", self.running.to_string()),
            row("streams carried since the start", self.carried.to_string()),
            row("streams refused", self.refusals()),
            row(
                "bytes carried, up / down",
                format!("{} / {}", self.up_bytes, self.down_bytes),
            ),
            row("providers that wait here", self.waiting.to_string()),
        ];
        Table::figures("Relay", rows)
    }
}

/// Of a tower's `/metrics`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Watched {
    held: u64,
    leaving: u64,
    made: u64,
    refused: u64,
    failed_looks: u64,
    /// In Unix seconds; none: not yet.
    looked_at: Option<Timestamp>,
    claimed_at: Option<Timestamp>,
    claimed: Vec<(Address, Amount)>,
}

impl Watched {
    /// None: this is no page of a tower.
    pub(crate) fn read(page: &str) -> Option<Self> {
        let figure = |name: &str| {
            let mut lines = page.lines();
            let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            rest?.parse::<u64>().ok()
        };
        let made = |outcome: &str| {
            figure(&format!(
                "lethe_tower_claims_made_total{{outcome=\"{outcome}\"}}"
            ))
        };
        let at = |name: &str| figure(name).filter(|at| *at > 0).map(Timestamp);
        let claimed = page.lines().filter_map(|line| {
            let rest = line.strip_prefix("lethe_tower_claimed_base_units_total{token=\"")?;
            let (token, amount) = rest.split_once("\"} ")?;
            Some((token.parse().ok()?, Amount::new(amount.parse().ok()?)))
        });
        Some(Self {
            held: figure("lethe_tower_claims")?,
            leaving: figure("lethe_tower_leaving_channels")?,
            made: made("taken")?,
            refused: made("refused")?,
            failed_looks: figure("lethe_tower_looks_total{outcome=\"failed\"}")?,
            looked_at: at("lethe_tower_looked_at_seconds"),
            claimed_at: at("lethe_tower_claimed_at_seconds"),
            claimed: claimed.collect(),
        })
    }

    fn title(&self) -> Vec<String> {
        vec![
            "a tower".to_owned(),
            format!("{} signed claims held", self.held),
            format!("{} claims made", self.made),
        ]
    }

    fn table(&self, tokens: &TokenViews, today: Timestamp) -> Table {
        let ago = |at: Option<Timestamp>, never: &str| match at {
            Some(at) => format!("{} s ago", today.since_s(at)),
            None => never.to_owned(),
        };
        let mut rows = vec![
            row("signed claims held", self.held.to_string()),
            row("of these, payer withdrawing", self.leaving.to_string()),
            row("claims made since the start", self.made.to_string()),
            row("the last one", ago(self.claimed_at, "none yet")),
        ];
        rows.extend(self.claimed.iter().map(|(token, amount)| {
            let token = tokens.get(*token);
            let brought = token.shown(*amount) + &token.worth(*amount);
            row("brought the provider", plain(&brought))
        }));
        let looked = ago(self.looked_at, "not yet");
        rows.push(row("last look at the file and the chain", looked));
        Table::figures("Tower", rows)
    }

    /// What went wrong, each with how often.
    fn failures(&self) -> impl Iterator<Item = String> {
        let failures = [
            (
                self.failed_looks,
                "looks at the file and the chain failed since the start",
            ),
            (self.refused, "claims were not taken by the contract"),
        ];
        let happened = failures.into_iter().filter(|(count, _)| *count > 0);
        happened.map(|(count, what)| format!("{count} {what}"))
    }
}

/// What the node does that is looked at, where that is not to sell or to buy.
#[derive(Debug, Default)]
pub(crate) enum Service {
    #[default]
    None,
    Relay(Relayed),
    Tower(Watched),
}

impl Service {
    /// Of a node's `/metrics`.
    pub(crate) fn read(page: &str) -> Self {
        let relay = Relayed::read(page).map(Self::Relay);
        let tower = || Watched::read(page).map(Self::Tower);
        relay.or_else(tower).unwrap_or_default()
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
    pub(crate) service: Service,
    /// By this machine's clock.
    pub(crate) today: Timestamp,
    /// As far as it could be had.
    pub(crate) money: Result<&'a Money, &'a str>,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Screen {
    /// In pieces that stay whole.
    title: Vec<String>,
    tables: Vec<Table>,
}

/// One part of it. What its columns hold is shown as far as there is room.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    title: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    /// What is said where there are no rows.
    empty: &'static str,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    head: &'static str,
    /// The column of the largest one goes first where there is no room; 0 stays.
    spare: u8,
    /// Words, for which lines are broken; it is the last column.
    breaks: bool,
}

impl Column {
    const fn new(head: &'static str, spare: u8) -> Self {
        Self {
            head,
            spare,
            breaks: false,
        }
    }

    const fn words(head: &'static str, spare: u8) -> Self {
        Self {
            head,
            spare,
            breaks: true,
        }
    }
}

impl Screen {
    pub(crate) fn of(look: &Look<'_>, url: &str, now: Duration, speed: &mut Speed) -> Self {
        let state = look.state;
        let (does, first) = match &look.service {
            Service::None => (trade(look, now, speed), offers_table(state)),
            Service::Relay(relayed) => (relayed.title(), relayed.table()),
            Service::Tower(watched) => {
                let table = watched.table(&state.tokens, look.today);
                (watched.title(), table)
            }
        };
        let name = format!("lethe {} at {url}", state.version);
        let title = [name].into_iter().chain(does);
        Self {
            title: title.map(|piece| plain(&piece)).collect(),
            tables: vec![first, channels_table(look.money), errors_table(look)],
        }
    }

    /// Line by line, on a screen of this width.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let mut lines: Vec<Line> = broken(&self.title, GAP, width)
            .iter()
            .map(|line| Line::title(line))
            .collect();
        for table in &self.tables {
            lines.extend([Line::text(String::new()), Line::title(table.title)]);
            lines.extend(table.lines(width));
        }
        lines
    }
}

/// What a node that sells or buys does, in pieces.
fn trade(look: &Look<'_>, now: Duration, speed: &mut Speed) -> Vec<String> {
    let sellers = || look.state.sellers.iter();
    let offers = sellers().flat_map(|seller| &seller.offers);
    let sold = offers.map(|offer| offer.running).sum::<usize>();
    let counted = || sellers().map(|seller| &seller.counted);
    let (running, read, written) = match look.gateway {
        Some(gateway) => (
            gateway.running.to_string(),
            gateway.input_tokens,
            gateway.output_tokens,
        ),
        None => (
            sold.to_string(),
            counted().map(|of| of.input_tokens).sum(),
            counted().map(|of| of.output_tokens).sum(),
        ),
    };
    let speed = match speed.at(now, written) {
        Some(speed) => format!("{speed:.1}"),
        None => "-".to_owned(),
    };
    vec![
        format!("{running} requests running"),
        format!("{speed} output tokens/s"),
        format!("since the start: {read} input tokens"),
        format!("{written} output tokens"),
    ]
}

/// Pieces in lines of this width, with so many spaces between; one that is longer has its own.
fn broken(pieces: &[String], gap: usize, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        let long = piece.chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + gap + long <= width => {
                line.push_str(&" ".repeat(gap));
                line.push_str(piece);
            }
            _ => lines.push(piece.clone()),
        }
    }
    lines
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
    /// Names of figures, and the figures.
    fn figures(title: &'static str, rows: Vec<Vec<String>>) -> Self {
        Self {
            title,
            columns: vec![Column::new("", 0), Column::new("", 0)],
            rows,
            empty: "none",
        }
    }

    /// Without its title.
    fn lines(&self, width: usize) -> Vec<Line> {
        if self.rows.is_empty() {
            return vec![Line::text(format!("  {}", self.empty))];
        }
        let widths = self.widths();
        let shown = self.shown(&widths, width);
        let head: Vec<_> = self.columns.iter().map(|one| one.head.to_owned()).collect();
        let has_head = shown.iter().any(|at| !head[*at].is_empty());
        let mut lines = Vec::new();
        for row in has_head.then_some(&head).into_iter().chain(&self.rows) {
            let mut text = String::new();
            for at in &shown {
                text.push_str("  ");
                let begins = text.chars().count();
                let words = match self.columns[*at].breaks {
                    true => row[*at].split(' ').map(str::to_owned).collect(),
                    false => vec![row[*at].clone()],
                };
                let room = width.saturating_sub(begins);
                let pieces = broken(&words, 1, room).join(&format!("\n{}", " ".repeat(begins)));
                let pad = widths[*at].saturating_sub(row[*at].chars().count());
                text.push_str(&pieces);
                text.push_str(&" ".repeat(pad));
            }
            let rows = text.trim_end().split('\n');
            lines.extend(rows.map(|line| Line::text(line.to_owned())));
        }
        lines
    }

    /// The columns for which there is room, of those that hold anything.
    fn shown(&self, widths: &[usize], width: usize) -> Vec<usize> {
        let holds = |at: &usize| self.rows.iter().any(|row| !row[*at].is_empty());
        let mut shown: Vec<usize> = (0..self.columns.len()).filter(holds).collect();
        loop {
            let needs = shown.iter().map(|at| match self.columns[*at].breaks {
                true => 2 + widths[*at].min(WORDS_MIN),
                false => 2 + widths[*at],
            });
            let spare = |at: &usize| self.columns[*at].spare;
            let first = shown.iter().copied().max_by_key(spare);
            match first.filter(|at| needs.sum::<usize>() > width && spare(at) > 0) {
                Some(gone) => shown.retain(|at| *at != gone),
                None => return shown,
            }
        }
    }

    /// Characters that each column needs.
    fn widths(&self) -> Vec<usize> {
        let head = self.columns.iter().map(|one| one.head.chars().count());
        let mut widths: Vec<_> = head.collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// A figure and what it is.
fn row(what: &str, figure: String) -> Vec<String> {
    vec![what.to_owned(), figure]
}

fn offers_table(state: &State) -> Table {
    let own = state.sellers.iter().flat_map(|seller| {
        seller.offers.iter().map(|offer| {
            let token = state.tokens.get(offer.token);
            vec![
                plain(&offer.name),
                plain(&seller.name),
                plain(&seller.does(offer)),
                price(&offer.rates, &token),
                dollars(&offer.rates, &token),
                format!("{} of {} running", offer.running, offer.slots),
                format!("{} waiting", offer.queued),
            ]
        })
    });
    // A demonstration's own providers are on offer, too: once is enough.
    let is_own = |offer: &&Offered| {
        let mut own = state.sellers.iter();
        own.any(|seller| seller.provider.eq_ignore_ascii_case(&offer.provider))
    };
    let others = state.models.iter().flat_map(|model| {
        let others = model.offers.iter().filter(move |offer| !is_own(offer));
        others.map(|offer| {
            let token = state.tokens.get(offer.token);
            let begins = offer.ttft_ms.map(|ms| format!("begins in {ms} ms"));
            vec![
                plain(&model.name),
                short(&offer.provider),
                if offer.live { "live" } else { "away" }.to_owned(),
                price(&offer.rates, &token),
                dollars(&offer.rates, &token),
                format!("{} of ours running", offer.running),
                begins.unwrap_or_default(),
            ]
        })
    });
    Table {
        title: "Offers",
        columns: vec![
            Column::new("model", 0),
            // Without it rows of one model are all alike.
            Column::new("provider", 1),
            Column::new("", 0),
            Column::new("per M in/out", 2),
            Column::new("in dollars", 4),
            Column::new("load", 0),
            Column::new("", 3),
        ],
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
        let worth = token.worth(place.amount);
        vec![
            plain(&place.label),
            token.shown(place.amount),
            worth.trim_start().to_owned(),
            plain(&place.detail),
        ]
    });
    Table {
        title: "Channels with money",
        columns: vec![
            Column::new("where", 0),
            Column::new("amount", 0),
            Column::new("", 2),
            Column::new("", 1),
        ],
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
    if let Service::Tower(watched) = &look.service {
        for why in watched.failures() {
            tell("tower", &why);
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
                "requests were refused: they ask for what the model cannot do, or the backend, chain or journal was away; the client was told which",
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
        columns: vec![Column::new("what", 0), Column::words("why", 0)],
        rows,
        empty: "none",
    }
}

fn plain(text: &str) -> String {
    crate::output::plain(text).replace(['\n', '\t'], " ")
}

/// An account by its first digits.
fn short(account: &str) -> String {
    crate::output::account(account).chars().take(10).collect()
}

fn price(rates: &Rates, token: &TokenView) -> String {
    let Rates {
        input_per_million: input,
        output_per_million: output,
    } = *rates;
    format!("{} / {}", token.figure(input), token.shown(output))
}

/// The same in dollars, where it is known.
fn dollars(rates: &Rates, token: &TokenView) -> String {
    let Some(rate) = &token.usd else {
        return String::new();
    };
    let (input, output) = (rates.input_per_million, rates.output_per_million);
    format!("{} / {}", rate.shown(input), rate.shown(output))
}
