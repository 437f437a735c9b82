//! Whether somebody sells what a key has a budget for: a name that is mistyped
//! limits nothing; and whether dollars can be counted. Only a running node knows.

use std::collections::{BTreeMap, BTreeSet};

use market::{Asked, Stated, Unit};
use serde_json::Value;

use crate::client::{self, Client};
use crate::folder::Folder;

/// Names that are told of those on offer.
const SHOWN: usize = 20;

/// What is sold where a node looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OnOffer {
    /// Models, without their cards.
    names: BTreeSet<String>,
    /// Somebody says what one of the tokens that they are sold for is worth.
    is_rated: bool,
}

impl OnOffer {
    /// What the node that runs on a folder knows; none where none runs, or it knows of nothing yet.
    pub(super) async fn ask(folder: &Folder) -> Option<Self> {
        let runs = folder.running().is_ok() && folder.is_taken().unwrap_or(false);
        let path = runs.then(|| folder.path().to_owned())?;
        let client = Client::of(Some(path)).ok()?;
        let list: Value = client::json(client.get("/v1/models").await.ok()?)
            .await
            .ok()?;
        Self::read(&list)
    }

    fn read(list: &Value) -> Option<Self> {
        let models = list["data"].as_array()?;
        let ids = models.iter().filter_map(|model| model["id"].as_str());
        let names: BTreeSet<_> = ids.map(|id| Asked::read(id).name.to_owned()).collect();
        let mut prices = models.iter().map(|model| &model["pricing"]["micro_usd"]);
        let is_rated = prices.any(|usd| !usd.is_null());
        (!names.is_empty()).then_some(Self { names, is_rated })
    }

    pub(super) fn has(&self, model: &str) -> bool {
        self.names.contains(model)
    }

    /// What to tell who makes a key with these budgets.
    pub(super) fn warnings(
        &self,
        per_day: Option<&str>,
        budgets: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let unsold = budgets.keys().filter(|model| !self.has(model));
        let unsold: Vec<_> = unsold.map(|model| format!("{model:?}")).collect();
        if !unsold.is_empty() {
            let offered: Vec<_> = self.names.iter().take(SHOWN).map(String::as_str).collect();
            let others = match per_day {
                None => "; without --budget-per-day the key may spend any amount on other models",
                Some(_) => "",
            };
            warnings.push(format!(
                "WARNING: nobody sells {} now, so that its budget limits nothing; on offer: {}{others}",
                unsold.join(", "),
                offered.join(", ")
            ));
        }
        let mut amounts = budgets.values().map(String::as_str).chain(per_day);
        if !self.is_rated && amounts.any(is_in_dollars) {
            warnings.push(
                "WARNING: this node does not know what tokens are worth in dollars, and a budget in USD pays for \
                 nothing until it does; start it with --usd-rate TOKEN=USD"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Whether one of these amounts is.
fn is_in_dollars(amounts: &str) -> bool {
    let mut stated = amounts.split(',').map(str::parse::<Stated>);
    stated.any(|one| one.is_ok_and(|one| matches!(one.unit(), Unit::Usd)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_budget_that_limits_or_pays_nothing_is_told() {
        assert_eq!(OnOffer::read(&json!({ "data": [] })), None);
        let list = json!({ "data": [{ "id": "tiny" }, { "id": "small@0123456789ab" }] });
        let on_offer = OnOffer::read(&list).unwrap();
        let told = |per_day: Option<&str>, names: &[&str]| {
            let each = names
                .iter()
                .map(|name| ((*name).to_owned(), "1".to_owned()));
            on_offer.warnings(per_day, &each.collect()).join("\n")
        };
        assert_eq!(told(None, &["tiny", "small"]), "");
        let typo = told(None, &["tinny"]);
        assert!(typo.contains("nobody sells \"tinny\" now"), "{typo}");
        assert!(
            typo.contains("on offer: small, tiny; without --budget-per-day"),
            "{typo}"
        );
        assert!(!told(Some("1"), &["tinny"]).contains("without"));
        assert!(told(Some("1, 5 usd"), &[]).contains("--usd-rate"));
        let rated = json!({ "data": [{ "id": "m", "pricing": { "micro_usd": {} } }] });
        let rated = OnOffer::read(&rated).unwrap();
        assert!(rated.warnings(Some("5usd"), &BTreeMap::new()).is_empty());
    }
}
