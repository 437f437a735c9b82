//! `lethe route`: why a request goes where it goes. A running node tells it at
//! `/api/route` and `/api/routes/{id}`; the command asks that node and prints
//! a table. Nothing of what was asked or answered is in it.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use consumer::{Consumer, RouteId, RouteView};
use market::{Amount, CardId, Demand, UsdRate};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli;
use crate::client::{Client, ClientError, json};
use crate::doorkeeper::{Params, guarded, refuse};
use crate::output;
use crate::tokens::TokenView;

/// Digits after the point of what costs are compared in, whatever the token has.
const COST_DECIMALS: u8 = 18;

/// Of an account, where a line has no room for all of it.
const ACCOUNT_FIRST: usize = 10;
/// Characters of a line of the table that has accounts in full.
const LINE: usize = 160;

/// What stands in the columns, for who has not read `docs/protocol/routing.md`.
const COLUMNS: &str = "  \
    cost: price, time and what a failure is worth, together; the lowest goes first. \
    price: of the estimated tokens. time: what it takes, as money\n  \
    wait: to the first token, without the way. running: our own requests there. way: there and back. \
    quality: share of good answers, at least\n  \
    how it came among those that compete: good: it answered lately. chance: by lot. listed: there are few, or it is first by \
    what is sorted by. named: the request names it.\n  \
    explored: it is new. conversation: it answered before in this one; of its cost three tenths count (x 0.3). \
    last resort: only where nobody better is left\n";

/// The routes of a node that buys, behind its key.
/// `unit`: the token that prices are compared in.
pub(crate) fn routes(consumer: Consumer, unit: Option<TokenView>, key: &str) -> Router {
    let behind_key = [
        ("/api/route", get(explain)),
        ("/api/routes/{id}", get(found)),
    ];
    guarded(behind_key, key).with_state(Desk { consumer, unit })
}

#[derive(Clone)]
struct Desk {
    consumer: Consumer,
    unit: Option<TokenView>,
}

/// A route, and in what its costs are: in 10^-18 of this token.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    route: RouteView,
    unit: Option<TokenView>,
}

impl Desk {
    fn told(self, route: RouteView) -> Response {
        let usd_rates = self.consumer.usd_rates();
        let unit = self.unit.map(|unit| unit.priced(&usd_rates));
        Json(Told { route, unit }).into_response()
    }
}

/// What would be chosen.
#[derive(Debug, Deserialize)]
struct Question {
    model: String,
    #[serde(default)]
    demand: String,
}

async fn explain(State(desk): State<Desk>, Params(question): Params<Question>) -> Response {
    let demand: Demand = match question.demand.parse() {
        Ok(demand) => demand,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("demand: {error}")),
    };
    let route = desk.consumer.explain(&question.model, &demand);
    desk.told(route)
}

async fn found(State(desk): State<Desk>, Path(id): Path<String>) -> Response {
    let id: RouteId = match id.parse() {
        Ok(id) => id,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    match desk.consumer.found(id) {
        Some(route) => desk.told(route),
        None => {
            let message = "no such route; only the last few hundred of this run are kept";
            refuse(StatusCode::NOT_FOUND, message)
        }
    }
}

/// Asks the running node, and prints.
pub(crate) async fn route(args: cli::Route) -> Result<(), ClientError> {
    let client = Client::of(args.data.folder)?;
    let path = match &args.act {
        cli::RouteAct::Explain { model, demand } => {
            let escaped = |text: &str| {
                let escape = |byte: u8| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                        char::from(byte).to_string()
                    }
                    byte => format!("%{byte:02x}"),
                };
                text.bytes().map(escape).collect::<String>()
            };
            let demand = demand.as_deref().unwrap_or_default();
            format!(
                "/api/route?model={}&demand={}",
                escaped(model),
                escaped(demand)
            )
        }
        cli::RouteAct::Show { id } => format!("/api/routes/{id}"),
    };
    let told: Value = json(client.get(&path).await?).await?;
    let state: Value = json(client.get("/api/state").await?).await?;
    if args.json {
        output::json(&told);
    }
    if let cli::RouteAct::Explain { model, .. } = &args.act
        && is_sold_by_nobody(&told)
    {
        let offered = on_offer(&state);
        let message = format!("no provider offers model {model:?}; on offer: {offered}");
        return Err(ClientError::Failed { message });
    }
    if !args.json {
        let names = Names::read(&state);
        let names = match output::is_terminal() {
            true => names.within(console::Term::stdout().size().1.into()),
            false => names,
        };
        output::text(table(&told, &names));
    }
    Ok(())
}

/// Whether there is no offer of any of the names.
fn is_sold_by_nobody(told: &Value) -> bool {
    let mut choices = list(&told["choices"]).iter();
    choices.all(|choice| choice["offers"] == 0)
}

/// The names that somebody sells.
fn on_offer(state: &Value) -> String {
    const SHOWN: usize = 20;
    let models = list(&state["models"]);
    let names = models.iter().take(SHOWN).map(|model| said(&model["name"]));
    let mut names: Vec<_> = names.collect();
    if models.len() > SHOWN {
        names.push("…".to_owned());
    }
    match names.is_empty() {
        true => "nothing at the moment".to_owned(),
        false => names.join(", "),
    }
}

/// A route's id, checked before it becomes a part of a path.
pub(crate) fn id(text: &str) -> Result<String, String> {
    let id: Result<RouteId, _> = text.parse();
    id.map(|id| id.to_string())
        .map_err(|error| error.to_string())
}

/// What the node says of accounts beside a route.
#[derive(Debug, Default)]
struct Names {
    /// What they are called.
    names: BTreeMap<String, String>,
    /// Why offers of theirs cannot be paid, in words.
    unpaid: BTreeMap<String, String>,
    /// Accounts are written by their first digits, since a whole line has no room.
    is_narrow: bool,
}

impl Names {
    /// From a node's state.
    fn read(state: &Value) -> Self {
        let names = state["names"].as_object().into_iter().flatten();
        let names = names.map(|(account, name)| (account.to_ascii_lowercase(), said(name)));
        let tokens = list(&state["tokens"]).iter();
        let symbols: Vec<_> = tokens
            .map(|token| {
                (
                    output::account(&said(&token["address"])),
                    said(&token["symbol"]),
                )
            })
            .collect();
        let offers = list(&state["models"]).iter();
        let offers = offers.flat_map(|model| list(&model["offers"]));
        let unpaid = offers.filter_map(|offer| {
            let problem = said(&offer["problem"]);
            let token = output::account(&said(&offer["token"]));
            let known = symbols.iter().find(|(address, _)| *address == token);
            let problem = known.map_or(problem.clone(), |(address, symbol)| {
                problem.replace(&format!("token {address}"), symbol)
            });
            let account = said(&offer["provider"]).to_ascii_lowercase();
            problem.contains("is paid in").then_some((account, problem))
        });
        Self {
            names: names.collect(),
            unpaid: unpaid.collect(),
            is_narrow: false,
        }
    }

    /// For a terminal of this width.
    fn within(self, columns: usize) -> Self {
        let is_narrow = columns < LINE;
        Self { is_narrow, ..self }
    }

    /// Why an offer of this account is not asked.
    fn why(&self, unfit: &Value, unit: Option<&TokenView>) -> String {
        let account = said(&unfit["provider"]).to_ascii_lowercase();
        match self.unpaid.get(&account) {
            Some(words) if unfit["reason"] == "other-token" => words.clone(),
            _ => reason_of(unfit, unit),
        }
    }

    /// An account, with its name if it has one.
    fn of(&self, account: &Value) -> String {
        let account = said(account);
        let shown = match output::account(&account) {
            whole if self.is_narrow => {
                let first: String = whole.chars().take(ACCOUNT_FIRST).collect();
                format!("{first}…")
            }
            whole => whole,
        };
        match self.names.get(&account.to_ascii_lowercase()) {
            Some(name) => format!("{shown} ({name})"),
            None => shown,
        }
    }
}

fn table(told: &Value, names: &Names) -> String {
    let unit: Option<TokenView> = serde_json::from_value(told["unit"].clone()).ok();
    let mut text = String::new();
    if let Some(unit) = &unit {
        let symbol = output::plain(&unit.symbol);
        text.push_str(&format!("costs are in thousandths of {symbol}\n"));
        if let Some(rate) = unit.rate_words() {
            text.push_str(&format!("{rate}\n"));
        }
    }
    for note in list(&told["notes"]) {
        text.push_str(&format!("note: {}\n", said(note)));
    }
    for choice in list(&told["choices"]) {
        text.push_str(&chosen(choice, unit.as_ref(), names));
    }
    for host in list(&told["hosts"]) {
        text.push_str(&format!(
            "{} is a host of {}, at {}\n",
            names.of(&host["account"]),
            names.of(&host["provider"]),
            said(&host["endpoint"]),
        ));
    }
    for asked in list(&told["asked"]) {
        let problem = match asked["problem"].is_null() {
            true => String::new(),
            false => format!(": {}", said(&asked["problem"])),
        };
        text.push_str(&format!(
            "asked {} ({}, after {} ms): {}{problem}\n",
            names.of(&asked["provider"]),
            said(&asked["turn"]),
            asked["after_ms"],
            said(&asked["ending"]),
        ));
    }
    if !told["resumes"].is_null() {
        let lost = said(&told["resumes"]);
        text.push_str(&format!("goes on with the answer of route {lost}\n"));
    }
    if list(&told["choices"]).is_empty() && list(&told["asked"]).is_empty() {
        text.push_str("nothing is known of it\n");
    }
    text
}

/// Who would be asked for one model, and who not.
fn chosen(choice: &Value, unit: Option<&TokenView>, names: &Names) -> String {
    let (model, reason) = (said(&choice["model"]), said(&choice["reason"]));
    let any = !list(&choice["ranked"]).is_empty();
    let mut text = match (choice["offers"].as_u64().unwrap_or(0), any) {
        (0, _) => format!("{model}: nobody sells it\n"),
        (1, true) => format!("{model}: 1 offer; it is asked because {reason}\n"),
        (1, false) => format!("{model}: 1 offer, and it does not fit\n"),
        (offers, true) => format!("{model}: {offers} offers; first because {reason}\n"),
        (offers, false) => format!("{model}: {offers} offers, and none fits\n"),
    };
    let all = list(&choice["ranked"]).iter().chain(list(&choice["unfit"]));
    let lengths = all.map(|one| names.of(&one["provider"]).chars().count());
    let width = lengths.max().unwrap_or(0).max("provider".len());
    if any {
        text.push_str(&format!(
            "  {:<width$}  {:<12}  {:>12}  {:>9}  {:>9}  {:>8}  {:>7}  {:>8}  {:>7}  {}\n",
            "provider", "card", "cost", "price", "time", "wait", "running", "way", "quality", "how"
        ));
    }
    for ranked in list(&choice["ranked"]) {
        let who = names.of(&ranked["provider"]);
        text.push_str(&row(&format!("{who:<width$}"), ranked, unit));
    }
    for unfit in list(&choice["unfit"]) {
        let why = names.why(unfit, unit);
        text.push_str(&format!(
            "  {:<width$}  not asked: {why}\n",
            names.of(&unfit["provider"])
        ));
    }
    if let Some(more) = choice["more_unfit"].as_u64().filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more that do not fit\n"));
    }
    if any {
        text.push_str(COLUMNS);
    }
    text
}

fn row(who: &str, ranked: &Value, unit: Option<&TokenView>) -> String {
    let terms = &ranked["terms"];
    let usd = unit.and_then(|unit| unit.usd.clone()).map(|rate| UsdRate {
        decimals: COST_DECIMALS,
        ..rate
    });
    let price = usd.map_or(String::new(), |rate| {
        format!(", price {}", rate.shown(units(&terms["price"])))
    });
    let ms = |name: &str| format!("{} ms", terms[name].as_u64().unwrap_or(0) / 1000);
    let quality = terms["quality_permille"].as_u64().unwrap_or(0);
    let last = &ranked["standing"]["last-resort"];
    let how = match last.is_null() {
        true => said(&ranked["drawn"]),
        false => format!("last resort: {}", reason_of(last, unit)),
    };
    let card = match ranked["card"].as_str() {
        Some(card) => output::plain(&card.chars().take(CardId::SHOWN).collect::<String>()),
        None => "cardless".to_owned(),
    };
    let sticky = match terms["sticky"].as_bool() {
        Some(true) => " (x 0.3)",
        _ => "",
    };
    format!(
        "  {who}  {card:<12}  {:>12}  {:>9}  {:>9}  {:>8}  {:>7}  {:>8}  {:>5}.{} %  {how}{sticky}{price}\n",
        milli(&terms["total"]),
        milli(&terms["price"]),
        milli(&terms["time"]),
        ms("wait_us"),
        terms["running"].to_string(),
        ms("trip_us"),
        quality / 10,
        quality % 10,
    )
}

/// Why it does not fit, with its figures.
fn reason_of(misfit: &Value, unit: Option<&TokenView>) -> String {
    let of = |name: &str| said(&misfit[name]);
    let whole = |name: &str| {
        let figure = units(&misfit[name]).to_decimal(COST_DECIMALS);
        match unit {
            Some(unit) => format!("{figure} {}", output::plain(&unit.symbol)),
            None => figure,
        }
    };
    match misfit["reason"].as_str().unwrap_or_default() {
        "price" => format!(
            "its price of {} is above the cap of {}",
            whole("price"),
            whole("cap")
        ),
        "label" => format!("{} is demanded, it has {}", of("demanded"), of("offered")),
        "answer-too-long" => format!(
            "an answer of {} tokens is asked for, it sells {}",
            of("asked"),
            of("limit")
        ),
        "request-too-long" => format!(
            "about {} tokens are asked, {} fit",
            of("estimate"),
            of("limit")
        ),
        "failed" => {
            let times = match misfit["times"].as_u64() {
                Some(1) => "once".to_owned(),
                _ => format!("{} times in a row", of("times")),
            };
            format!("it failed {times}; tried again in {} ms", of("wait_ms"))
        }
        "busy" => format!("it is busy for {} ms more", of("wait_ms")),
        "unreachable" => "its address or key is not known".to_owned(),
        "other-token" => "it is paid in a token that this node does not pay with".to_owned(),
        "quote-expired" => "its quote has expired".to_owned(),
        "not-sold" => "it does not sell this model".to_owned(),
        "ignored" => "provider.ignore names it".to_owned(),
        "not-among-only" => "it is not among those that are allowed by name".to_owned(),
        "quantization" => format!("its precision is {}, which is not allowed", of("offered")),
        "parameter" => format!("it does not declare that it heeds {:?}", of("parameter")),
        "full" => "it says that it takes no request now".to_owned(),
        "cardless" => "it declares no card, others do".to_owned(),
        _ => {
            let fields = misfit.as_object().into_iter().flatten();
            let others = fields.filter(|(name, _)| *name != "reason" && *name != "provider");
            let others = others.map(|(name, value)| format!(", {name} {}", said(value)));
            of("reason") + &others.collect::<String>()
        }
    }
}

fn units(value: &Value) -> Amount {
    let amount = value.as_str().and_then(|text| text.parse().ok());
    amount.unwrap_or_default()
}

/// A sum in thousandths of the token that is compared in.
fn milli(value: &Value) -> String {
    const DIGITS: usize = 6;
    let text = units(value).to_decimal(COST_DECIMALS - 3);
    match text.find('.') {
        Some(point) => text[..text.len().min(point + DIGITS)].to_owned(),
        None => text,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text of the node, which may have it from elsewhere.
fn said(value: &Value) -> String {
    match value.as_str() {
        Some(text) => output::plain(text),
        None => output::plain(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_candidate_has_a_line_with_its_terms_and_its_reason() {
        let terms = json!({
            "wait_us": 250_000, "running": 2, "trip_us": 40_000, "quality_permille": 951,
            "total": "1234567000000000", "price": "234567000000000", "time": "1000000000000000", "sticky": true,
        });
        let told = json!({
            "choices": [{
                "model": "m", "reason": "it is new", "offers": 3, "more_unfit": 2,
                "ranked": [
                    { "provider": "0xaa", "card": "0123456789abcdef", "drawn": "chance", "standing": "fits", "terms": terms },
                    { "provider": "0xbb", "drawn": "listed", "terms": terms,
                      "standing": { "last-resort": { "reason": "busy", "wait_ms": 12 } } },
                ],
                "unfit": [
                    { "provider": "0xcc", "reason": "price", "price": "3000000000000000000", "cap": "2000000000000000000" },
                    { "provider": "0xdd", "reason": "other-token" },
                ],
            }],
            "asked": [
                { "provider": "0xaa", "turn": "first", "after_ms": 0, "ending": "failed", "problem": "no way" },
                { "provider": "0xbb", "turn": "next", "after_ms": 12, "ending": "answered" },
            ],
            "hosts": [{ "account": "0xbb", "provider": "0xee", "endpoint": "192.0.2.1:3333" }],
            "resumes": "0f",
            "notes": ["it looks like \"n\""],
        });
        let dollar = "0x00000000000000000000000000000000000000dd";
        let names = Names::read(&json!({
            "names": { "0xAA": "amber" },
            "tokens": [{ "address": dollar, "symbol": "USDdev", "decimals": 6 }],
            "models": [{ "name": "m", "offers": [{
                "provider": "0xdd", "token": dollar,
                "problem": format!("it is paid in token {}, which this node does not pay with", output::account(dollar)),
            }] }],
        }));
        let text = table(&told, &names);
        for part in [
            "m: 3 offers; first because it is new",
            "note: it looks like \"n\"",
            "0xaa (amber)  0123456789ab  ",
            "0xbb          cardless      ",
            "1.23456  ",
            "250 ms",
            "95.1 %",
            "chance (x 0.3)",
            "last resort: it is busy for 12 ms more",
            "not asked: its price of 3 is above the cap of 2",
            "not asked: it is paid in USDdev, which this node does not pay with\n",
            "and 2 more",
            "good: it answered lately",
            "asked 0xaa (amber) (first, after 0 ms): failed: no way\n",
            "quality: share of good answers",
            "asked 0xbb (next, after 12 ms): answered\n",
            "the answer of route 0f",
            "0xbb is a host of 0xee, at 192.0.2.1:3333\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(names.within(120).of(&json!(dollar)), "0x00000000…");
        assert_eq!(
            table(&json!({}), &Names::default()),
            "nothing is known of it\n"
        );
        let none =
            json!({ "choices": [{ "model": "nope", "reason": "nobody fits", "offers": 0 }] });
        assert_eq!(table(&none, &Names::default()), "nope: nobody sells it\n");
        let failed = |times: u64| {
            reason_of(
                &json!({ "reason": "failed", "times": times, "wait_ms": 7 }),
                None,
            )
        };
        assert_eq!(failed(1), "it failed once; tried again in 7 ms");
        assert_eq!(failed(2), "it failed 2 times in a row; tried again in 7 ms");
    }
}
