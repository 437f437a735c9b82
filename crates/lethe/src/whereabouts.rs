//! `lethe where`: where each unit of money is, token by token, since when, when it can be had,
//! and by which command. Asks the node that runs on the folder; where none
//! does, it reads the folder's journals and the chain; an exit that waits is asked for that.

use crate::cli;
use crate::client::{Client, ClientError, json};
use crate::clock;
use crate::estate::{Bookless, Estate, EstateError};
use crate::folder::{Folder, FolderError};
use crate::money::Money;
use crate::output;
use crate::own::{self, OwnError};
use crate::place::{cast_at, cast_flag};
use crate::places::Place;

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
    let (running, runs) = match look.running() {
        Ok(running) => (Some(running), true),
        Err(error @ FolderError::TellsNothing { .. }) => match look.exit_that_waits() {
            Some(exit) => (Some(exit), false),
            None => return Err(error.into()),
        },
        Err(_) => (None, false),
    };
    let told = match running {
        Some(running) => {
            let rpc = cast_flag(&running.rpc_url);
            let money = asked(Client::at(&look, running)?).await?;
            money.map(|money| (money, rpc))
        }
        None => None,
    };
    let runs = runs && told.is_some();
    let (mut money, rpc) = match told {
        Some(told) => told,
        None => read(args.data, &args.network, &look).await?,
    };
    // What is the usual folder for the node need not be it for who asks.
    for place in &mut money.places {
        place.name_folder(&look.flag());
    }
    if args.json {
        output::json(&money);
    } else {
        let cast = match args.cast {
            true => Cast::Told(&rpc),
            false => Cast::Named(look.flag()),
        };
        output::line(table(&money, runs, &cast));
    }
    Ok(money.complete)
}

/// None: it said that it runs, and is gone.
async fn asked(client: Client) -> Result<Option<Money>, WhereError> {
    match client.get("/api/money").await {
        Err(ClientError::Unreachable { .. }) => Ok(None),
        response => Ok(Some(json(response?).await?)),
    }
}

/// And the flag with which cast finds the chain.
async fn read(
    data: cli::Data,
    network: &cli::Network,
    look: &Folder,
) -> Result<(Money, String), WhereError> {
    let nothing = || FolderError::NothingRuns {
        path: look.path().to_owned(),
    };
    let estate = Box::pin(Estate::open(data, network, Bookless::Look)).await?;
    let estate = estate.ok_or_else(nothing)?;
    let money = own::of_folder(&estate).await;
    let rpc = estate.place.cast_flag();
    estate.close().await;
    Ok((money?.ok_or_else(nothing)?, rpc))
}

/// Whether the lines of cast are told.
enum Cast<'a> {
    /// All of them; with this flag cast finds the chain.
    Told(&'a str),
    /// Only what tells them; with this flag it finds the folder.
    Named(String),
}

/// The places and their sums come first, then what is not right, then how it gets out.
/// `runs`: a node runs on the folder, which the commands need for themselves.
fn table(money: &Money, runs: bool, cast: &Cast<'_>) -> String {
    let all = || money.holdings().flat_map(|(_, places, ..)| places);
    let label = all().map(|place| place.label.chars().count());
    let label = label.max().unwrap_or(0);
    let amounts = money.holdings().flat_map(|(token, places, sum, _)| {
        let amounts = places.iter().map(|place| place.amount).chain([sum]);
        amounts.map(|amount| token.figure(amount).chars().count())
    });
    let amount = amounts.max().unwrap_or(0);
    let ways = Ways::of(all());
    let (mut text, mut sums) = (String::new(), String::new());
    for (token, places, sum, supply) in money.holdings() {
        let symbol = output::plain(&token.symbol);
        for place in places {
            let mark = match cast {
                Cast::Told(_) => ways.mark(place),
                Cast::Named(_) => String::new(),
            };
            text.push_str(&format!(
                "{:label$}  {:>amount$} {symbol}{}  {}{mark}\n{}",
                place.label,
                token.figure(place.amount),
                token.worth(place.amount),
                place.detail,
                times(place)
            ));
        }
        let verdict = verdict(money, &token.shown(supply));
        let (sum, worth) = (token.figure(sum), token.worth(sum));
        sums.push_str(&format!(
            "{:label$}  {sum:>amount$} {symbol}{worth}  {verdict}\n",
            "sum"
        ));
    }
    text.push_str(&sums);
    for problem in &money.problems {
        text.push_str(&format!("DIFFERENCE: {problem}\n"));
    }
    for warning in &money.warnings {
        text.push_str(&format!("WARNING: {warning}\n"));
    }
    text.push_str(&ways.told(runs, cast));
    for policy in &money.policies {
        text.push_str(&format!("policy: {policy}\n"));
    }
    for rate in money
        .holdings()
        .filter_map(|(token, ..)| token.rate_words())
    {
        text.push_str(&format!("{rate}\n"));
    }
    text.trim_end().to_owned()
}

fn verdict(money: &Money, supply: &str) -> String {
    match (money.scope.as_str(), money.complete) {
        ("own", true) => format!("of this data folder, out of {supply} that there are"),
        (_, true) => "every unit is accounted for".to_owned(),
        (_, false) => format!(
            "NOT every unit is accounted for, out of {supply} that there are; please report this"
        ),
    }
}

/// Since when a place's money waits and when it can be had, in a line of its own.
fn times(place: &Place) -> String {
    let (Some(since), Some(unlocks)) = (place.since, place.unlocks_at) else {
        return String::new();
    };
    let now = clock::now();
    let when = match unlocks.since_s(now) {
        0 => "now".to_owned(),
        left => format!("in {left} s"),
    };
    format!(
        "    since {} s, unlocks {when} (Unix time {})\n",
        now.since_s(since),
        unlocks.0
    )
}

/// How money gets out: each command, and each line of `cast`, once.
#[derive(Debug, Default)]
struct Ways<'a> {
    commands: Vec<&'a str>,
    casts: Vec<&'a str>,
}

impl<'a> Ways<'a> {
    fn of(places: impl Iterator<Item = &'a Place>) -> Self {
        let mut ways = Self::default();
        for place in places {
            let (command, cast) = (place.command.as_deref(), place.cast.as_deref());
            for (known, one) in [(&mut ways.commands, command), (&mut ways.casts, cast)] {
                known.extend(one.filter(|one| !known.contains(one)));
            }
        }
        ways
    }

    /// Behind a place's words: the number of its line of `cast`.
    fn mark(&self, place: &Place) -> String {
        let at = |cast| self.casts.iter().position(|known| *known == cast);
        match place.cast.as_deref().and_then(at) {
            Some(at) => format!(" [{}]", at + 1),
            None => String::new(),
        }
    }

    fn told(&self, runs: bool, cast: &Cast<'_>) -> String {
        let mut text = String::new();
        if !self.commands.is_empty() {
            text.push_str(match runs {
                true => "to bring it back, stop the node, then:\n",
                false => "to bring it back:\n",
            });
        }
        for command in &self.commands {
            text.push_str(&format!("    {command}\n"));
        }
        if self.casts.is_empty() {
            return text;
        }
        let rpc = match cast {
            Cast::Told(rpc) => rpc,
            Cast::Named(data) => {
                text.push_str(&format!(
                    "the same by hand, without this program: `lethe where{data} --cast`\n"
                ));
                return text;
            }
        };
        text.push_str("the same by hand, with Foundry's cast and the key that stands behind it:\n");
        for (number, cast) in (1..).zip(&self.casts) {
            let cast = cast_at(cast, rpc);
            text.push_str(&format!("    [{number}] {cast}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use chain::Network;
    use market::{Amount, UsdRate, UsdRates};

    use super::*;
    use crate::money::Holding;
    use crate::tokens::TokenView;

    fn token(at: usize, micro_usd: u64) -> TokenView {
        let token = &Network::local().tokens[at];
        let rate = UsdRate {
            token: token.address,
            decimals: token.decimals,
            micro_usd,
            source: "a test".into(),
            at: None,
        };
        TokenView::new(token, &UsdRates::new(vec![rate]))
    }

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
            others: vec![],
            token: TokenView {
                usd: None,
                ..token(0, 1)
            },
        };
        let expected = "your wallet    1 MOR  d\nx            0.5 MOR  d\nsum          1.5 MOR  every unit is accounted for\nWARNING: the clock is off";
        let cast = Cast::Told("--rpc-url U");
        assert_eq!(table(&money, true, &cast), expected);
        money.token = token(0, 2_500_000);
        money.others = vec![Holding {
            token: TokenView {
                usd: None,
                ..token(1, 1)
            },
            supply: Amount::new(9_000_000),
            sum: Amount::new(1_200_000),
            places: vec![place("your wallet", 1_200_000)],
        }];
        let told = table(&money, true, &cast);
        let both = "x            0.5 MOR ($1.25)  d\nyour wallet  1.2 USDdev  d\nsum  ";
        assert!(told.contains(both), "{told}");
        let sums = "sum          1.5 MOR ($3.75)  every unit is accounted for\nsum          1.2 USDdev  every unit is accounted for\nWARNING";
        assert!(told.contains(sums), "{told}");
        assert!(
            told.contains("\ndollars at $2.50 for one MOR (a test)"),
            "{told}"
        );
        money.complete = false;
        money.problems = vec!["account 0x1 holds 2 MOR by the chain".into()];
        let told = table(&money, false, &cast);
        assert!(told.contains("NOT every unit") && told.contains("DIFFERENCE: account 0x1"));
    }

    #[test]
    fn a_command_and_a_line_of_cast_are_told_once_each() {
        let place = |label: &str, cast: Option<&str>| Place {
            command: cast.map(|_| "lethe exit".to_owned()),
            cast: cast.map(str::to_owned),
            ..Place::new(label, "escrow", Amount::new(1), "d")
        };
        let money = Money {
            scope: "own".into(),
            policies: vec![],
            supply: Amount::new(3),
            sum: Amount::new(3),
            complete: true,
            problems: vec![],
            warnings: vec![],
            places: vec![
                place("free", Some("cast send A")),
                place("signed", Some("cast send A")),
                place("claimed", Some("cast send B")),
                place("wallet", None),
            ],
            others: vec![],
            token: token(0, 1),
        };
        let cast = Cast::Told("--rpc-url U");
        let told = table(&money, true, &cast);
        for line in [
            " d [1]\nsigned",
            " d [2]\n",
            " that there are\nto bring it back, stop the node, then:\n    lethe exit\n",
        ] {
            assert!(told.contains(line), "{line:?}: {told}");
        }
        for once in ["lethe exit", "U A", "U B", "Foundry"] {
            assert_eq!(told.matches(once).count(), 1, "{once}: {told}");
        }
        assert!(
            told.contains("    [1] cast send --rpc-url U A\n    [2] cast send --rpc-url U B\n"),
            "{told}"
        );
        assert!(!table(&money, false, &cast).contains("stop the node"));
        // Long lines are for who asks for them.
        let told = table(&money, false, &Cast::Named(" --data d".into()));
        assert!(
            !told.contains("cast send") && !told.contains("[1]"),
            "{told}"
        );
        assert!(told.contains("`lethe where --data d --cast`"), "{told}");
    }
}
