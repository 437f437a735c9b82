//! `lethe where`: where each unit of MOR is, and whether the sum is right.

use crate::cli;
use crate::client::{Client, ClientError, json};
use crate::money::Money;
use crate::output;

/// MOR has 18 digits after the point.
const DECIMALS: u8 = 18;

/// Asks the running node and prints. Whether the sum is right.
pub(crate) async fn whereabouts(args: cli::Where) -> Result<bool, ClientError> {
    let client = Client::of(args.data.folder)?;
    let money: Money = match client.get("/api/money").await {
        Err(ClientError::Refused { status: 404, .. }) => return Err(ClientError::NoMoneyMap),
        response => json(response?).await?,
    };
    if args.json {
        output::json(&money);
    } else {
        output::line(table(&money));
    }
    Ok(money.complete)
}

fn table(money: &Money) -> String {
    let amounts: Vec<_> = money
        .places
        .iter()
        .map(|place| place.amount.to_decimal(DECIMALS))
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
            "{:label$}  {shown:>amount$} MOR  {}\n",
            place.label, place.detail
        ));
    }
    let sum = money.sum.to_decimal(DECIMALS);
    let supply = money.supply.to_decimal(DECIMALS);
    let verdict = match money.complete {
        true => "every unit is accounted for".to_owned(),
        false => format!("NOT all of the supply of {supply} MOR; please report this"),
    };
    text.push_str(&format!("{:label$}  {sum:>amount$} MOR  {verdict}", "sum"));
    text
}

#[cfg(test)]
mod tests {
    use market::Amount;

    use super::*;
    use crate::money::Place;

    #[test]
    fn the_table_lines_up_and_says_whether_the_sum_is_right() {
        let place = |label: &str, units| Place {
            label: label.into(),
            detail: "d".into(),
            kind: "wallet".into(),
            amount: Amount::new(units),
        };
        let mut money = Money {
            supply: Amount::new(1_500_000_000_000_000_000),
            sum: Amount::new(1_500_000_000_000_000_000),
            complete: true,
            places: vec![
                place("your wallet", 1_000_000_000_000_000_000),
                place("x", 500_000_000_000_000_000),
            ],
        };
        let expected = "your wallet    1 MOR  d\nx            0.5 MOR  d\nsum          1.5 MOR  every unit is accounted for";
        assert_eq!(table(&money), expected);
        money.complete = false;
        assert!(table(&money).contains("NOT all"));
    }
}
