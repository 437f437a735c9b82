//! `lethe where`: where each unit of MOR is, since when, when it can be had,
//! and by which command. Asks the node that runs on the folder; where none
//! does, it reads the folder's journals and the chain.

use crate::cli;
use crate::client::{Client, ClientError, json};
use crate::clock;
use crate::estate::{Estate, EstateError};
use crate::folder::{Folder, FolderError};
use crate::money::Money;
use crate::output;
use crate::own::{self, OwnError};
use crate::places::Place;
use crate::policies::MOR_DECIMALS;

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhereError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Estate(#[from] EstateError),
    #[error(transparent)]
    Own(#[from] OwnError),
}

/// Asks the running node, or reads what it left, and prints. Whether the sum is right.
pub(crate) async fn whereabouts(args: cli::Where) -> Result<bool, WhereError> {
    let look = Folder::look(args.data.folder.clone())?;
    let running = match look.running() {
        Ok(_) => asked(args.data.folder.clone()).await?,
        Err(_) => None,
    };
    let runs = running.is_some();
    let money = match running {
        Some(money) => money,
        None => read(args.data, &args.network, &look).await?,
    };
    if args.json {
        output::json(&money);
    } else {
        output::line(table(&money, runs));
    }
    Ok(money.complete)
}

/// None: it said that it runs, and is gone.
async fn asked(folder: Option<std::path::PathBuf>) -> Result<Option<Money>, WhereError> {
    let client = Client::of(folder)?;
    match client.get("/api/money").await {
        Err(ClientError::Unreachable { .. }) => Ok(None),
        response => Ok(Some(json(response?).await?)),
    }
}

async fn read(data: cli::Data, network: &cli::Network, look: &Folder) -> Result<Money, WhereError> {
    let Some(estate) = Box::pin(Estate::open(data, network)).await? else {
        let path = look.path().to_owned();
        return Err(FolderError::NothingRuns { path }.into());
    };
    let money = own::of_folder(&estate).await;
    estate.close().await;
    Ok(money?)
}

/// `runs`: a node runs on the folder, which the commands need for themselves.
fn table(money: &Money, runs: bool) -> String {
    let amounts: Vec<_> = money
        .places
        .iter()
        .map(|place| place.amount.to_decimal(MOR_DECIMALS))
        .collect();
    let label = money
        .places
        .iter()
        .map(|place| place.label.chars().count())
        .max()
        .unwrap_or(0);
    let amount = amounts.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (place, shown) in money.places.iter().zip(&amounts) {
        text.push_str(&format!(
            "{:label$}  {shown:>amount$} MOR  {}\n{}",
            place.label,
            place.detail,
            way_out(place, runs)
        ));
    }
    for policy in &money.policies {
        text.push_str(&format!("policy: {policy}\n"));
    }
    let sum = money.sum.to_decimal(MOR_DECIMALS);
    let supply = money.supply.to_decimal(MOR_DECIMALS);
    let verdict = match (money.scope.as_str(), money.complete) {
        ("own", true) => format!("of this data folder, out of {supply} MOR that there are"),
        (_, true) => "every unit is accounted for".to_owned(),
        (_, false) => format!(
            "NOT every unit is accounted for, out of {supply} MOR that there are; please report this"
        ),
    };
    for warning in &money.warnings {
        text.push_str(&format!("WARNING: {warning}\n"));
    }
    for problem in &money.problems {
        text.push_str(&format!("DIFFERENCE: {problem}\n"));
    }
    text.push_str(&format!("{:label$}  {sum:>amount$} MOR  {verdict}", "sum"));
    text
}

/// When and how a place's money can be had, in lines of their own.
fn way_out(place: &Place, runs: bool) -> String {
    let mut text = String::new();
    if let (Some(since), Some(unlocks)) = (place.since, place.unlocks_at) {
        let now = clock::now();
        let when = match unlocks.since_s(now) {
            0 => "now".to_owned(),
            left => format!("in {left} s"),
        };
        text.push_str(&format!(
            "    since {} s, unlocks {when} (Unix time {})\n",
            now.since_s(since),
            unlocks.0
        ));
    }
    if let Some(command) = &place.command {
        let first = match runs {
            true => "    stop the node, then:\n",
            false => "",
        };
        text.push_str(&format!("{first}    {command}\n"));
    }
    if let Some(cast) = &place.cast {
        text.push_str(&format!("    {cast}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use market::Amount;

    use super::*;

    #[test]
    fn the_table_lines_up_and_says_whether_the_sum_is_right() {
        let place = |label: &str, units| Place::new(label, "wallet", Amount::new(units), "d");
        let mut money = Money {
            scope: "market".into(),
            policies: vec![],
            supply: Amount::new(1_500_000_000_000_000_000),
            sum: Amount::new(1_500_000_000_000_000_000),
            complete: true,
            problems: vec![],
            warnings: vec!["the clock is off".into()],
            places: vec![
                place("your wallet", 1_000_000_000_000_000_000),
                place("x", 500_000_000_000_000_000),
            ],
        };
        let expected = "your wallet    1 MOR  d\nx            0.5 MOR  d\nWARNING: the clock is off\nsum          1.5 MOR  every unit is accounted for";
        assert_eq!(table(&money, true), expected);
        money.complete = false;
        money.problems = vec!["account 0x1 holds 2 MOR by the chain".into()];
        let told = table(&money, false);
        assert!(told.contains("NOT every unit") && told.contains("DIFFERENCE: account 0x1"));
        assert!(!told.contains("stop the node"), "{told}");
        money.places[0].command = Some("lethe exit".into());
        assert!(table(&money, true).contains("stop the node, then:\n    lethe exit\n"));
    }
}
