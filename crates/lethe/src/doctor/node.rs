//! The node that runs on the folder, by its own word: whether it would answer,
//! whether it has what it pays with. And the keys of the folder's gateway.

use std::time::Duration;

use market::Address;
use serde::Deserialize;
use tokio::time::timeout;

use super::Check;
use crate::api_keys;
use crate::client::{Client, ClientError, Readiness, json};
use crate::folder::{Folder, Running};
use crate::money::Money;
use crate::output;

/// The longest that the node is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

const NODE: &str = "node";
pub(super) const WALLET: &str = "wallet";

pub(super) async fn look(folder: &Folder) -> Vec<Check> {
    let mut checks = keys(folder).await;
    let (Ok(true), Ok(running)) = (folder.is_taken(), folder.running()) else {
        return checks;
    };
    let url = &running.dashboard_url;
    match timeout(PATIENCE, asked(folder)).await {
        Ok(Ok(told)) => checks.extend(told),
        Ok(Err(error)) => checks.push(Check::fail(
            NODE,
            output::with_causes(&error),
            "is it just starting, or stopping? Ask again; if it stays so, stop it and start it as before",
        )),
        Err(_) => checks.push(Check::fail(
            NODE,
            format!(
                "the one at {url} says nothing for {} s",
                PATIENCE.as_secs()
            ),
            "stop it, and start it as before; its log says what it waits for",
        )),
    }
    checks
}

async fn asked(folder: &Folder) -> Result<Vec<Check>, ClientError> {
    let client = Client::of(Some(folder.path().to_owned()))?;
    let mut checks = Vec::new();
    let readiness = client.readiness().await?;
    checks.extend(readiness.into_iter().flat_map(stands));
    let sells: Sells = json(client.get("/api/state").await?).await?;
    checks.extend(sells.sellers.iter().flat_map(sold));
    if !client.running.pays_with.is_empty() {
        // Where the chain does not answer, that is told of the chain.
        if let Ok(told) = client.get("/api/money").await {
            checks.extend(purse(&client.running, &json(told).await?));
        }
    }
    Ok(checks)
}

/// What a gateway says of itself.
fn stands(readiness: Readiness) -> Vec<Check> {
    let beside = |problem: String| {
        Check::warn(
            NODE,
            problem,
            "the node looks again by itself; `/readyz` says when it is over",
        )
    };
    if readiness.ready {
        let models = match readiness.models {
            1 => "1 model".to_owned(),
            more => format!("{more} models"),
        };
        let found = format!("ready: {models} can be asked for");
        let mut checks = vec![Check::ok(NODE, found)];
        checks.extend(readiness.warnings.into_iter().map(beside));
        return checks;
    }
    let mut checks = vec![Check::fail(
        NODE,
        format!("not ready: {}", readiness.reason),
        "until that is mended it answers no request; it goes on by itself then",
    )];
    let others = readiness.problems.into_iter();
    let others = others.filter(|problem| *problem != readiness.reason);
    checks.extend(others.map(beside));
    checks
}

/// What a node says at `/api/state` of what it sells.
#[derive(Debug, Default, Deserialize)]
struct Sells {
    #[serde(default)]
    sellers: Vec<Seller>,
}

#[derive(Debug, Deserialize)]
struct Seller {
    name: String,
    #[serde(default)]
    resting: bool,
    #[serde(default)]
    rests: Option<String>,
    offers: Vec<Offer>,
}

#[derive(Debug, Deserialize)]
struct Offer {
    name: String,
    problem: Option<String>,
}

/// How what a provider sells stands.
fn sold(seller: &Seller) -> Vec<Check> {
    const OFFER: &str = "offer";
    let name = &seller.name;
    let offers = seller.offers.iter().map(|offer| {
        let model = &offer.name;
        if let Some(problem) = &offer.problem {
            let found = format!("{model} of {name} answers nobody: {problem}");
            let advice = "start its server again, or look at its address; the node goes back to it by itself";
            return Check::fail(OFFER, found, advice);
        }
        let until = seller.rests.as_deref().unwrap_or("by its own wish (--when)");
        match seller.resting {
            true => Check::ok(OFFER, format!("{model} of {name} rests {until}")),
            false => Check::ok(OFFER, format!("{model} of {name} is sold")),
        }
    });
    offers.collect()
}

/// What it has of each token that it pays with.
fn purse(running: &Running, money: &Money) -> Vec<Check> {
    let holdings = money.holdings();
    let paid = holdings.filter(|(token, ..)| running.pays_with.contains(&token.address));
    let wallets = paid.filter_map(|(token, places, ..)| {
        let wallet = places.iter().find(|place| place.label == "your wallet")?;
        Some((token, wallet.amount))
    });
    let told = wallets.map(|(token, amount)| match amount.is_zero() {
        false => Check::ok(WALLET, format!("it has {}", token.shown(amount))),
        true => empty(&format!("no {}", token.symbol), None),
    });
    told.collect()
}

/// A wallet without what it pays with.
pub(super) fn empty(lacks: &str, account: Option<Address>) -> Check {
    let account = account.map_or(
        "its address, which `lethe wallet show` tells".to_owned(),
        |it| it.to_string(),
    );
    Check::warn(
        WALLET,
        format!("it has {lacks}: no new channel can be paid for"),
        format!(
            "send some to {account}; on the chain of a `lethe up`, `lethe faucet ADDRESS` gives some"
        ),
    )
}

/// The further keys of the gateway; nothing where there are none.
async fn keys(folder: &Folder) -> Vec<Check> {
    const NAME: &str = "API keys";
    let data = folder.flag();
    match api_keys::not_in_force(folder).await {
        Ok((0, _)) => Vec::new(),
        Ok((count, dead)) if dead.is_empty() => {
            vec![Check::ok(NAME, format!("{count} beside the node's own"))]
        }
        Ok((_, dead)) => {
            let told = dead.iter().map(|(name, problem)| {
                Check::warn(
                    NAME,
                    format!("key {name:?} is not in force: {problem}"),
                    format!("`lethe key remove {name}{data}`, then add it anew"),
                )
            });
            told.collect()
        }
        Err(error) => vec![Check::fail(
            NAME,
            format!("not in force: {}", output::with_causes(&error)),
            "correct the file: a node that runs keeps the keys that it had, and none starts with it",
        )],
    }
}

#[cfg(test)]
mod tests {
    use chain::Network;
    use market::{Amount, UsdRates};
    use serde_json::json;

    use super::*;
    use crate::doctor::{Verdict, tests::warned};
    use crate::keystore::write_private;
    use crate::places::Place;
    use crate::tokens::TokenView;

    fn told(readiness: serde_json::Value) -> Vec<Check> {
        stands(serde_json::from_value(readiness).unwrap())
    }

    #[test]
    fn what_readyz_says_is_what_the_doctor_says() {
        let well = told(json!({ "ready": true, "models": 3 }));
        assert_eq!(well.len(), 1, "{well:?}");
        assert_eq!(well[0].verdict, Verdict::Ok);
        let amiss = told(json!({ "ready": true, "models": 3, "warnings": ["the clock is off"] }));
        warned(&amiss[1], "the clock is off", "/readyz");
        let not =
            told(json!({ "ready": false, "reason": "no relay", "problems": ["no relay", "x"] }));
        assert_eq!(not[0].verdict, Verdict::Fail);
        assert!(not[0].found.ends_with("not ready: no relay"), "{not:?}");
        assert_eq!(not.len(), 2, "{not:?}");
        warned(&not[1], "x", "/readyz");
    }

    #[test]
    fn what_is_sold_and_answers_nobody_fails_and_a_rest_does_not() {
        let told = |extra: &str, problem: serde_json::Value| {
            let state = format!(
                r#"{{"sellers": [{{"name": "provider", {extra} "offers": [{{"name": "m", "problem": {problem}}}]}}]}}"#
            );
            let sells: Sells = serde_json::from_str(&state).unwrap();
            sold(&sells.sellers[0])
        };
        let well = told("", json!(null));
        assert_eq!((well.len(), well[0].verdict), (1, Verdict::Ok), "{well:?}");
        let away = told("", json!("the backend cannot be reached"));
        assert_eq!(away[0].verdict, Verdict::Fail, "{away:?}");
        let rests = told(r#""resting": true, "rests": "until 22:00","#, json!(null));
        assert_eq!(rests[0].verdict, Verdict::Ok);
        assert!(rests[0].found.ends_with("rests until 22:00"), "{rests:?}");
    }

    #[test]
    fn an_empty_wallet_is_warned_of_if_it_is_paid_with() {
        let network = Network::local();
        let view = |at: usize| TokenView::new(&network.tokens[at], &UsdRates::default());
        let wallet = |units| vec![Place::new("your wallet", "wallet", Amount::new(units), "d")];
        let (mor, usd) = (view(0), view(1));
        let money = Money {
            scope: "own".into(),
            policies: vec![],
            supply: Amount::new(1),
            sum: Amount::new(1),
            complete: true,
            problems: vec![],
            warnings: vec![],
            places: wallet(1),
            others: vec![crate::money::Holding {
                token: usd.clone(),
                supply: Amount::ZERO,
                sum: Amount::ZERO,
                places: wallet(0),
            }],
            token: mor.clone(),
        };
        let pays = |with| {
            let http = "127.0.0.1:1".parse().unwrap();
            purse(&Running::gateway(http, "r", vec![], with), &money)
        };
        let one = pays(vec![mor.address]);
        assert_eq!((one.len(), one[0].verdict), (1, Verdict::Ok), "{one:?}");
        let both = pays(vec![mor.address, usd.address]);
        warned(&both[1], "no USDdev", "lethe faucet");
    }

    #[tokio::test]
    async fn keys_that_open_nothing_are_named_and_a_wrong_file_fails() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        assert_eq!(keys(&folder).await, []);
        let file =
            |text: &str| write_private(&folder.join("api-keys.json"), text.as_bytes()).unwrap();
        let hash = "07".repeat(32);
        file(&format!(r#"{{"keys":[{{"name":"a","sha256":"{hash}"}}]}}"#));
        assert_eq!(keys(&folder).await[0].verdict, Verdict::Ok);
        file(&format!(
            r#"{{"keys":[{{"name":"a","sha256":"{hash}","budget_per_day":"5 eur"}}]}}"#
        ));
        let dead = keys(&folder).await;
        warned(
            &dead[0],
            "key \"a\" is not in force: \"5 eur\" is in no token",
            "lethe key remove a",
        );
        file(r#"{"keys":[{"name":"a","sha256":"07"}]}"#);
        let wrong = keys(&folder).await;
        assert_eq!(wrong[0].verdict, Verdict::Fail, "{wrong:?}");
        assert!(
            wrong[0].found.contains("64 hexadecimal digits"),
            "{wrong:?}"
        );
    }
}
