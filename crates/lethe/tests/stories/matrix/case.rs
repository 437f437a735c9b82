//! Which point, on which side, with what: the list of all cases, and the
//! part of it that a run takes.

use std::fmt;
use std::process::Command;

use failpoint::{Action, Plan};

/// Who fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Provider,
    Consumer,
}

/// What is done, in this order, until the point is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// An answer that comes to its end.
    Answer,
    /// A question that the backend does not take.
    Refused,
    /// An answer that its client leaves in the middle.
    Left,
    /// An answer of several steps and deposits.
    Long,
    /// Until the provider has claimed and settled.
    Claim,
    /// `kill -9` for the consumer within an answer; then questions.
    ConsumerCrash,
    /// The same for the provider.
    ProviderCrash,
    /// SIGTERM for the side that is to fail; then it starts again.
    Stop,
    /// A consumer that nobody uses empties its channel by its policy.
    Idle,
    /// `lethe exit` asked for the channel's money and its delay is over: the
    /// consumer takes it home.
    Return,
}

/// One point, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) side: Side,
    pub(crate) plan: Plan,
    /// The process fails here first.
    pub(crate) before: Option<Plan>,
    /// It may fail in its first life already, or only in a later one.
    pub(crate) from_start: bool,
    pub(crate) script: &'static [Act],
}

impl Case {
    /// Whether a withdrawal's delay has to pass.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.script.last(), Some(Act::Idle | Act::Return))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Provider => "provider",
            Side::Consumer => "consumer",
        };
        f.pad(&format!("{} ({side})", self.plan))
    }
}

const USUAL: &[Act] = &[
    Act::Answer,
    Act::Left,
    Act::Long,
    Act::Claim,
    Act::ConsumerCrash,
    Act::ProviderCrash,
    Act::Refused,
    Act::Stop,
];

/// How points that start like this are reached; the others by all there is.
/// Points in both sides' code are tried on both.
const WAYS: [(&str, bool, &[Act]); 11] = [
    ("consumer.replay", false, &[Act::Answer, Act::ConsumerCrash]),
    ("provider.replay", false, &[Act::Answer, Act::ProviderCrash]),
    (
        "consumer.reconcile",
        true,
        &[Act::Answer, Act::ConsumerCrash],
    ),
    (
        "provider.receipts",
        true,
        &[Act::Answer, Act::ConsumerCrash],
    ),
    ("consumer.refusal", true, &[Act::Answer, Act::Refused]),
    ("provider.refusal", true, &[Act::Answer, Act::Refused]),
    ("store.close", true, &[Act::Answer, Act::Stop]),
    ("tx.re", true, &[Act::Answer, Act::Claim]),
    ("consumer.withdraw", true, &[Act::Answer, Act::Idle]),
    ("consumer.finish", true, &[Act::Answer, Act::Return]),
    ("consumer.home", true, &[Act::Answer, Act::Return]),
];

/// Later hits of what is hit often: (point, hit).
const LATER: [(&str, u32); 14] = [
    ("consumer.chunk.metered", 40),
    ("consumer.step.signed", 3),
    ("file.synced", 3),
    ("provider.chunk.sent", 40),
    ("provider.write.counted", 7),
    ("provider.write.journalled", 4),
    ("store.commit.after", 4),
    ("store.commit.after", 11),
    ("store.commit.before", 4),
    ("store.commit.before", 11),
    ("tx.included", 4),
    ("tx.journalled", 4),
    ("tx.signed", 5),
    ("tx.submitted", 5),
];

/// The first transaction that is kept in a store, after the treasury's two.
const OWN_TX: &str = "tx.journalled:3";

/// Tried by every `cargo test`.
const SAMPLE: [&str; 8] = [
    "consumer.receipt.journalled:1:kill",
    "consumer.step.signed:1:kill",
    "consumer.deposit.included:1:kill",
    "provider.write.journalled:1:kill",
    "provider.receipt.signed:1:kill",
    "provider.claim.included:1:kill",
    "store.commit.before:4:cut",
    "store.commit.after:4:full",
];

/// Each point with its way, first hits first.
fn all(action: Action) -> Vec<Case> {
    let firsts = failpoint::ALL.iter().map(|point| (*point, 1));
    let hits: Vec<_> = firsts.chain(LATER).collect();
    hits.into_iter()
        .flat_map(|(point, nth)| at(point, nth, action))
        .collect()
}

fn at(point: &'static str, nth: u32, action: Action) -> Vec<Case> {
    let sides: &[Side] = match point.split('.').next() {
        Some("consumer" | "deposit") => &[Side::Consumer],
        Some("provider") => &[Side::Provider],
        _ => &[Side::Provider, Side::Consumer],
    };
    let way = WAYS.iter().find(|(start, _, _)| point.starts_with(start));
    let (from_start, script) = way.map_or((true, USUAL), |(_, from, script)| (*from, *script));
    let before = point.starts_with("tx.re").then(|| OWN_TX.parse().unwrap());
    let case = |side: &Side| Case {
        side: *side,
        plan: Plan { point, nth, action },
        before,
        from_start,
        script,
    };
    sides.iter().map(case).collect()
}

/// The cases of this run, and what they are.
pub(crate) fn chosen(asked: Option<&str>) -> (Vec<Case>, String) {
    let everything = || Action::ALL.into_iter().flat_map(all);
    match asked {
        None => {
            let plans = SAMPLE.map(|text| text.parse::<Plan>().unwrap());
            let cases = plans.iter().map(|p| at(p.point, p.nth, p.action));
            let first = |cases: Vec<Case>| cases.into_iter().next();
            (cases.filter_map(first).collect(), "a sample".into())
        }
        Some("every") => {
            let (turn, why) = turn();
            let is_first = |case: &Case| case.plan.nth == 1;
            let is_due = |case: &Case| case.plan.action == Action::Kill;
            let tenth = everything().filter(is_first).enumerate();
            let cases = tenth.filter(|(at, case)| is_due(case) || at % 10 == turn);
            let cases = cases.map(|(_, case)| case).collect();
            (cases, format!("every point, and {why}"))
        }
        Some("all") => (everything().collect(), "everything".into()),
        Some(part) => {
            let is_meant = |case: &Case| format!("{case}").contains(part);
            let cases = everything().filter(is_meant).collect();
            (cases, format!("what contains {part:?}"))
        }
    }
}

/// Which tenth's turn it is: the commit's hash decides.
fn turn() -> (usize, String) {
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let head = head.ok().filter(|output| output.status.success());
    let head = head.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let head = head.unwrap_or_default();
    let digits = head
        .get(..8)
        .and_then(|start| u32::from_str_radix(start, 16).ok());
    let turn = usize::try_from(digits.unwrap_or_default() % 10).unwrap();
    (
        turn,
        format!("tenth {turn} (of commit {head:.8}) with full and cut"),
    )
}
