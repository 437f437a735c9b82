//! Whether others sell something else under the same name: said at a provider's start. A buyer
//! who asks by the name alone is then told to say which of them is meant.

use std::collections::BTreeMap;
use std::time::Duration;

use chain::EvmLedger;
use futures_util::{StreamExt, stream};
use market::{Address, Card, CardId, Kind, Ledger, Provider};
use tokio::time::timeout;
use tracing::debug;
use transport::describe::{Described, fetch, http_client};

use crate::clock;
use crate::output;

/// Registered nodes that are asked.
const ASKED_MAX: usize = 64;
/// Of them at a time.
const READS: usize = 8;
/// The longest that one is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says it, if there are some. `card`: the own offer's.
pub(crate) async fn say(ledger: EvmLedger, model: String, card: Option<Card>) {
    match others(&ledger, &model, Kind::of_card(card.as_ref())).await {
        Ok(found) => {
            let own = card.as_ref().map(Card::id);
            if let Some(words) = words(&model, own, &found) {
                output::aside(output::plain(&words));
            }
        }
        // It is only to be told; the market goes on.
        Err(error) => debug!(%error, "not known who else sells the name"),
    }
}

/// Who else offers a model of this name for the same, with which card.
async fn others(
    ledger: &EvmLedger,
    model: &str,
    kind: Kind,
) -> Result<Vec<(Address, Option<CardId>)>, market::LedgerError> {
    let mut registered = ledger.providers().await?;
    registered.retain(|one| one.address != ledger.account());
    registered.truncate(ASKED_MAX);
    let Ok(http) = http_client() else {
        return Ok(Vec::new());
    };
    let (http, domain) = (&http, &ledger.domain());
    let asked = registered.into_iter().map(|one: Provider| async move {
        let text = timeout(PATIENCE, fetch(http, &one.endpoint)).await.ok()?;
        let described = Described::parse(&text.ok()?).ok()?;
        let opened = described.open(one.address, domain, clock::now()).ok()?;
        let mut offers = opened.record.offers.iter();
        let is_one = |card: Option<&Card>| Kind::of_card(card) == kind;
        let offer = offers.find(|it| it.name == model && is_one(it.card.as_ref()))?;
        Some((one.address, offer.card_id()))
    });
    let found = stream::iter(asked).buffer_unordered(READS);
    Ok(found.filter_map(async |one| one).collect().await)
}

/// In words, if something else goes by that name.
fn words(model: &str, own: Option<CardId>, found: &[(Address, Option<CardId>)]) -> Option<String> {
    let shown = |card: Option<CardId>| match card {
        Some(card) => format!("card {}", card.prefix()),
        None => "no card".to_owned(),
    };
    let mut cards: BTreeMap<String, usize> = BTreeMap::new();
    for (_, card) in found.iter().filter(|(_, card)| *card != own) {
        *cards.entry(shown(*card)).or_default() += 1;
    }
    if cards.is_empty() {
        return None;
    }
    let others: Vec<_> = cards
        .iter()
        .map(|(card, count)| format!("{count} with {card}"))
        .collect();
    Some(format!(
        "NOTE: others offer a {model:?}, too: {}; this one has {}. Who asks for {model:?} alone is told to say which card \
         is meant, or gets the one that has a card; under another name (`lethe sell --name`, `lethe provide --model`) they stay apart.",
        others.join(", "),
        shown(own)
    ))
}

#[cfg(test)]
mod tests {
    use market::B256;

    use super::*;

    #[test]
    fn only_what_has_another_card_is_told() {
        let card = |byte| Some(CardId(B256::repeat_byte(byte)));
        let of = |byte, card| (Address::repeat_byte(byte), card);
        let own = card(0xaa);
        assert_eq!(words("m", own, &[]), None);
        assert_eq!(words("m", own, &[of(1, own)]), None);
        let told = words("m", own, &[of(1, own), of(2, card(0xbb)), of(3, None)]).unwrap();
        assert!(
            told.contains("1 with card bbbbbbbbbbbb, 1 with no card"),
            "{told}"
        );
        assert!(told.contains("this one has card aaaaaaaaaaaa"), "{told}");
    }
}
