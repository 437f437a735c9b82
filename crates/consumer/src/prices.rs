//! Prices that providers told since the descriptions were read, as the load digests
//! have them.
//!
//! Descriptions are read every half a minute or so; digests come every few
//! seconds. A price from a digest takes the place of the described one while it
//! is the newer of both: the provider honours every quote that it gave until
//! that expires, so either may be asked with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use market::{Address, Load, LoadBook, LoadDigest, Timestamp};

use crate::catalog::{Seller, Snapshot};

/// What each told last.
#[derive(Debug, Default)]
pub(crate) struct Prices {
    told: Mutex<BTreeMap<Address, Told>>,
}

#[derive(Debug, Clone)]
struct Told {
    at: Timestamp,
    loads: Vec<Load>,
}

impl Prices {
    /// A provider told these at that moment.
    pub(crate) fn told(&self, provider: Address, at: Timestamp, loads: Vec<Load>, now: Timestamp) {
        let mut told = self.held();
        if told.len() >= LoadBook::PROVIDERS_MAX && !told.contains_key(&provider) {
            told.retain(|_, told| is_good(told, now));
            if told.len() >= LoadBook::PROVIDERS_MAX {
                return;
            }
        }
        told.insert(provider, Told { at, loads });
    }

    /// What is on offer, at the newest prices. None: as it is.
    pub(crate) fn applied(&self, snapshot: &Snapshot, now: Timestamp) -> Option<Snapshot> {
        let told = self.held();
        let repriced: Vec<_> = told
            .iter()
            .filter(|(_, told)| is_good(told, now))
            .filter_map(|(provider, told)| {
                let seller = repriced(snapshot.sellers.get(provider)?, told)?;
                Some((*provider, Arc::new(seller)))
            })
            .collect();
        if repriced.is_empty() {
            return None;
        }
        let mut after = snapshot.clone();
        after.sellers.extend(repriced);
        Some(after)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Address, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_good(told: &Told, now: Timestamp) -> bool {
    now.since_s(told.at) <= LoadDigest::GOOD_S
}

/// A seller at what it told. None: it asks that already, or described itself since.
fn repriced(seller: &Seller, told: &Told) -> Option<Seller> {
    if told.at < seller.described_at {
        return None;
    }
    let mut after = None;
    for (place, offer) in seller.offers.iter().enumerate() {
        let (model, token) = (offer.model.into(), offer.quote.token.into());
        let mut loads = told.loads.iter();
        // In another token than it described it would be another amount altogether.
        let load = loads.find(|load| load.model == model && load.token == token);
        let Some(load) = load.filter(|load| load.rates != offer.quote.rates) else {
            continue;
        };
        let after = after.get_or_insert_with(|| seller.clone());
        after.offers[place].quote.rates = load.rates;
    }
    after
}

#[cfg(test)]
mod tests {
    use market::{Amount, B256, ModelId, Quote, Rates};

    use super::*;
    use crate::catalog::tests::{offer, seller};

    const NOW: Timestamp = Timestamp(1_700_000_000);
    const PROVIDER: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);

    fn rates(n: u128) -> Rates {
        Rates {
            input_per_million: Amount::new(n),
            output_per_million: Amount::new(n),
        }
    }

    fn load(model: u8, token: Address, price: u128) -> Load {
        Load {
            model: ModelId(B256::repeat_byte(model)).into(),
            free_slots: 1,
            wait_ms: Some(0),
            token: token.into(),
            rates: rates(price),
        }
    }

    /// One seller of models 1 and 2 at 10 each.
    fn snapshot() -> Snapshot {
        let quote = Quote {
            token: TOKEN,
            rates: rates(10),
            expires_at: NOW.after_s(60),
        };
        let offer = |model| {
            let id = ModelId(B256::repeat_byte(model));
            offer(id, &format!("m{model}"), quote)
        };
        let seller = Seller {
            described_at: NOW,
            ..seller(PROVIDER, vec![offer(1), offer(2)])
        };
        let sellers = [(PROVIDER, Arc::new(seller))].into();
        Snapshot {
            sellers,
            ..Snapshot::default()
        }
    }

    fn prices(snapshot: &Snapshot) -> [u128; 2] {
        let offers = &snapshot.sellers[&PROVIDER].offers;
        [0, 1].map(|n: usize| offers[n].quote.rates.output_per_million.base_units())
    }

    #[test]
    fn a_price_that_was_told_since_is_asked_with_until_its_word_is_old() {
        let told = Prices::default();
        assert!(told.applied(&snapshot(), NOW).is_none());
        told.told(
            PROVIDER,
            NOW,
            vec![load(2, TOKEN, 7), load(3, TOKEN, 1)],
            NOW,
        );
        let after = told.applied(&snapshot(), NOW).unwrap();
        assert_eq!(prices(&after), [10, 7]);
        // It is as told already.
        assert!(told.applied(&after, NOW).is_none());
        let last = NOW.after_s(LoadDigest::GOOD_S);
        assert!(told.applied(&snapshot(), last).is_some());
        assert!(told.applied(&snapshot(), last.after_s(1)).is_none());
    }

    #[test]
    fn a_newer_description_and_another_token_stand_against_it() {
        let told = Prices::default();
        told.told(PROVIDER, Timestamp(NOW.0 - 1), vec![load(1, TOKEN, 7)], NOW);
        assert!(told.applied(&snapshot(), NOW).is_none());
        let other = Address::repeat_byte(3);
        told.told(PROVIDER, NOW, vec![load(1, other, 7)], NOW);
        assert!(told.applied(&snapshot(), NOW).is_none());
        let stranger = Address::repeat_byte(9);
        told.told(stranger, NOW, vec![load(1, TOKEN, 7)], NOW);
        assert!(told.applied(&snapshot(), NOW).is_none());
    }
}
