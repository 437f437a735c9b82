//! All offers of one model, arranged so that choosing does not look at each.
//!
//! Built anew when offers change, used for every request until then.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use market::{Address, Amount, CardId, Labels, ModelTag, Rates, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::preferences::Quantization;

/// What probably fails together: one hand, one data centre, one network.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Operator(pub u64);

/// One offer, as far as choosing looks at it.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Whose: a provider's account, or that of one of its hosts.
    pub provider: Address,
    /// The account that is registered and has the stake: the provider's, also of its hosts.
    pub registered: Address,
    /// What its load digests call the model.
    pub model: ModelTag,
    /// What it probably fails together with.
    pub operator: Operator,
    /// What is staked for it and all hosts beside it, in MOR.
    pub stake: Amount,
    /// The price, in base units of the token that prices are compared in.
    pub rates: Rates,
    /// Whether it is paid in a token that is paid with.
    pub payable: bool,
    /// The quote is good before this moment.
    pub expires_at: Timestamp,
    /// Tokens of request and answer together that fit.
    pub context_length: Option<u32>,
    /// The longest answer sold.
    pub output_tokens_max: Option<u32>,
    /// What is proved about an answer's privacy.
    pub labels: Labels,
    /// The precision of the weights, if it is declared.
    pub quantization: Option<Quantization>,
    /// Fields of a request that it heeds, if it declares them.
    pub parameters: Option<Vec<String>>,
    /// What exactly it is, if that is declared. All cards on one shelf are the same.
    pub card: Option<CardId>,
    /// Whether it can be asked: its address and key are known.
    pub reachable: bool,
}

/// The offers of one model.
#[derive(Debug, Default)]
pub struct Shelf {
    listings: Vec<Listing>,
    places: HashMap<Address, usize>,
    /// Of providers with hosts: where each of these has its cheapest offer.
    hosts: HashMap<Address, Vec<usize>>,
    by_price: Vec<usize>,
    has_card: bool,
    /// Sums of weights up to and including each place.
    weights: Vec<u64>,
    pub(crate) by_blank_score: OnceLock<Vec<usize>>,
}

impl Shelf {
    /// No operator is drawn more often than in one of so many cases, whatever it stakes.
    pub const OPERATOR_ONE_IN: u64 = 5;
    /// Stakes count in thousandths of MOR.
    const STAKE_UNIT: u128 = 1_000_000_000_000_000;
    /// The root of a stake counts up to this.
    const ROOT_MAX: u64 = 1 << 32;

    /// Arranges offers.
    pub fn new(listings: Vec<Listing>) -> Self {
        let mut by_price: Vec<usize> = (0..listings.len()).collect();
        let price = |place: usize| {
            let rates = listings[place].rates;
            let sum = rates.input_per_million.plus(rates.output_per_million);
            sum.unwrap_or(Amount::new(u128::MAX))
        };
        let payable = || listings.iter().filter(|listing| listing.payable);
        let has_card = payable().any(|listing| listing.card.is_some());
        by_price.sort_by_cached_key(|place| {
            let listing = &listings[*place];
            let is_spare = has_card && listing.card.is_none();
            // Of several offers of one provider the one that can be paid is found.
            (!listing.payable, is_spare, price(*place), listing.provider)
        });
        let mut places = HashMap::with_capacity(listings.len());
        let mut hosts: HashMap<Address, Vec<usize>> = HashMap::new();
        for place in &by_price {
            let Listing {
                provider,
                registered,
                ..
            } = listings[*place];
            if places.contains_key(&provider) {
                continue;
            }
            places.insert(provider, *place);
            if provider != registered {
                hosts.entry(registered).or_default().push(*place);
            }
        }
        let weights = weights(&listings, has_card);
        Self {
            listings,
            places,
            hosts,
            by_price,
            has_card,
            weights,
            by_blank_score: OnceLock::new(),
        }
    }

    /// How many offers there are.
    pub fn len(&self) -> usize {
        self.listings.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listings.is_empty()
    }

    /// The offer at a place.
    pub fn at(&self, place: usize) -> Option<&Listing> {
        self.listings.get(place)
    }

    /// Where a provider's cheapest offer is.
    pub fn place(&self, provider: &Address) -> Option<usize> {
        self.places.get(provider).copied()
    }

    /// Where an account has its cheapest offer, and where each of its hosts has.
    pub(crate) fn places_of(&self, account: &Address) -> Vec<usize> {
        let hosts = self.hosts.get(account).into_iter().flatten();
        self.place(account)
            .into_iter()
            .chain(hosts.copied())
            .collect()
    }

    /// Whether it has no card where others have one: nobody knows that it is the same.
    pub fn is_spare(&self, place: usize) -> bool {
        self.has_card && self.at(place).is_some_and(|listing| listing.card.is_none())
    }

    /// All places, the cheapest offer first; those that are spare behind all others.
    pub(crate) fn by_price(&self) -> &[usize] {
        &self.by_price
    }

    pub(crate) fn listings(&self) -> &[Listing] {
        &self.listings
    }

    /// A place, drawn by the square root of the stake.
    pub(crate) fn draw(&self, chance: &mut Chance) -> Option<usize> {
        let all = self.weights.last().copied().filter(|all| *all > 0)?;
        let drawn = chance.below(all);
        Some(self.weights.partition_point(|sum| *sum <= drawn))
    }
}

/// Square roots of stakes, shared by the hosts of one stake, those of one operator together
/// at most a share of all. Who cannot be paid is not drawn, nor who has no card where there is one.
fn weights(listings: &[Listing], has_card: bool) -> Vec<u64> {
    let mut hosts: HashMap<Address, HashSet<Address>> = HashMap::new();
    for listing in listings {
        let of = hosts.entry(listing.registered).or_default();
        of.insert(listing.provider);
    }
    let own = |listing: &Listing| {
        if !listing.payable || (has_card && listing.card.is_none()) {
            return 0;
        }
        let root = (listing.stake.base_units() / Shelf::STAKE_UNIT).isqrt();
        let root = u64::try_from(root).unwrap_or(u64::MAX).min(Shelf::ROOT_MAX);
        // Finer than whole numbers, so that a share of it can be taken.
        let shared_by = hosts.get(&listing.registered).map_or(1, HashSet::len);
        (root + 1) * 1024 / u64::try_from(shared_by).unwrap_or(u64::MAX)
    };
    let mut operators: HashMap<Operator, u64> = HashMap::new();
    for listing in listings {
        let weight = own(listing);
        let sum = operators.entry(listing.operator).or_default();
        *sum = sum.saturating_add(weight);
    }
    let cap = operator_cap(operators.values().copied().collect());
    let mut sum = 0_u64;
    let capped = |listing: &Listing| {
        let (weight, together) = (own(listing), operators[&listing.operator]);
        let scaled = u128::from(weight) * u128::from(cap) / u128::from(together.max(1));
        match together > cap {
            true => u64::try_from(scaled).unwrap_or(u64::MAX).max(weight.min(1)),
            false => weight,
        }
    };
    listings
        .iter()
        .map(|listing| {
            sum = sum.saturating_add(capped(listing));
            sum
        })
        .collect()
}

/// The most that one operator may weigh so that it is at most a fifth of all,
/// those that weigh too much cut down. With five and fewer: all weigh alike.
fn operator_cap(mut operators: Vec<u64>) -> u64 {
    operators.sort_unstable_by(|a, b| b.cmp(a));
    let mut rest: u128 = operators.iter().copied().map(u128::from).sum();
    for (cut, next) in operators.iter().enumerate() {
        let shares = u64::try_from(cut).ok();
        let Some(shares) = shares.and_then(|cut| Shelf::OPERATOR_ONE_IN.checked_sub(cut)) else {
            break;
        };
        if shares == 0 {
            break;
        }
        let cap = rest / u128::from(shares);
        if u128::from(*next) <= cap {
            return u64::try_from(cap).unwrap_or(u64::MAX);
        }
        rest -= u128::from(*next);
    }
    operators.last().copied().unwrap_or(1).max(1)
}

#[cfg(test)]
pub(crate) mod tests {
    use market::{Network, Payer, Upstream};

    use super::*;

    pub(crate) const LABELS: Labels = Labels {
        network: Network::Oblivious,
        payer: Payer::Pseudonym,
        upstream: Upstream::OwnEngine,
    };

    /// An offer at so much for a million tokens either way.
    pub(crate) fn listing(n: u64, price: u128) -> Listing {
        let mut account = [0; 20];
        account[12..].copy_from_slice(&n.to_be_bytes());
        Listing {
            provider: account.into(),
            registered: account.into(),
            model: ModelTag([0; 4]),
            operator: Operator(n),
            stake: Amount::new(1_000_000_000_000_000_000),
            rates: Rates {
                input_per_million: Amount::new(price),
                output_per_million: Amount::new(price),
            },
            expires_at: Timestamp(u64::MAX),
            context_length: None,
            output_tokens_max: None,
            labels: LABELS,
            quantization: None,
            parameters: None,
            card: None,
            reachable: true,
            payable: true,
        }
    }

    #[test]
    fn hosts_share_what_their_provider_staked_and_are_found_by_its_name() {
        let registered = listing(9, 1).provider;
        let host = |n, price| Listing {
            registered,
            operator: Operator(9),
            ..listing(n, price)
        };
        let shelf = Shelf::new(vec![listing(1, 1), host(2, 3), host(3, 2), host(3, 5)]);
        assert_eq!(shelf.places_of(&registered), [2, 1]);
        assert_eq!(shelf.places_of(&listing(3, 0).provider), [2]);
        assert_eq!(shelf.places_of(&listing(1, 0).provider), [0]);
        let mut weights = shelf.weights.clone();
        for at in (1..weights.len()).rev() {
            weights[at] -= weights[at - 1];
        }
        assert_eq!(weights[1], weights[2]);
        assert!(weights[1] <= weights[0] / 2, "{weights:?}");
    }

    #[test]
    fn the_stake_counts_by_its_root_and_an_operator_by_its_share_at_most() {
        let drawn = |stakes: &[(u64, u128)]| {
            let listings = stakes
                .iter()
                .enumerate()
                .map(|(n, (operator, stake))| Listing {
                    operator: Operator(*operator),
                    stake: Amount::new(stake * 1_000_000_000_000_000_000),
                    ..listing(n as u64, 1)
                });
            let shelf = Shelf::new(listings.collect());
            let (mut chance, mut times) = (Chance::new(1), vec![0_u32; stakes.len()]);
            for _ in 0..10_000 {
                times[shelf.draw(&mut chance).unwrap()] += 1;
            }
            times
        };
        // 32 for each MOR, 64 for four of them; a fifth of 320 is not reached.
        let times = drawn(&[
            (0, 1),
            (1, 4),
            (2, 1),
            (3, 1),
            (4, 1),
            (5, 1),
            (6, 1),
            (7, 1),
            (8, 1),
        ]);
        assert!((1850..2150).contains(&times[1]), "{times:?}");
        assert!((900..1100).contains(&times[0]), "{times:?}");
        // Who stakes a million times as much is drawn once in five.
        let mut whale: Vec<(u64, u128)> = (1..20).map(|n| (n, 1)).collect();
        whale.push((0, 1_000_000));
        assert!((1800..2200).contains(&drawn(&whale)[19]));
        // So is who registers five hundred times.
        let mut many = vec![(7, 1); 500];
        many.extend((10..110).map(|n| (n, 1)));
        let of_one: u32 = drawn(&many)[..500].iter().sum();
        assert!((1800..2200).contains(&of_one), "{of_one}");
        let times = drawn(&[(0, 1), (1, 1_000_000)]);
        assert!((4800..5200).contains(&times[0]), "{times:?}");
    }

    #[test]
    fn who_cannot_be_paid_is_not_drawn_and_stands_in_nobodys_way() {
        let unpayable = |n, price| Listing {
            payable: false,
            card: Some(CardId(market::B256::ZERO)),
            ..listing(n, price)
        };
        let shelf = Shelf::new(vec![unpayable(1, 1), listing(1, 20), unpayable(2, 2)]);
        assert_eq!(shelf.by_price(), [1, 0, 2]);
        assert_eq!(shelf.place(&listing(1, 0).provider), Some(1));
        assert!(!shelf.is_spare(1), "a card that cannot be bought is none");
        let mut chance = Chance::new(1);
        assert!((0..1000).all(|_| shelf.draw(&mut chance) == Some(1)));
        let nobody = Shelf::new(vec![unpayable(1, 1)]);
        assert_eq!(nobody.draw(&mut chance), None);
    }

    #[test]
    fn where_one_has_a_card_those_without_stand_behind_it_and_are_not_drawn() {
        let mut listings = vec![listing(1, 10), listing(2, 30), listing(1, 20)];
        listings[1].card = Some(CardId(market::B256::ZERO));
        let shelf = Shelf::new(listings);
        assert_eq!(shelf.by_price(), [1, 0, 2]);
        assert_eq!([0, 1, 2].map(|at| shelf.is_spare(at)), [true, false, true]);
        let mut chance = Chance::new(1);
        assert!((0..1000).all(|_| shelf.draw(&mut chance) == Some(1)));
        let none = Shelf::new(vec![listing(1, 10)]);
        assert!(!none.is_spare(0));
    }

    #[test]
    fn the_cheapest_is_first_and_a_provider_is_found_at_its_cheapest_offer() {
        let listings = vec![listing(1, 30), listing(2, 10), listing(1, 20)];
        let shelf = Shelf::new(listings);
        assert_eq!(shelf.by_price(), [1, 2, 0]);
        assert_eq!(shelf.place(&listing(1, 0).provider), Some(2));
        assert_eq!(shelf.place(&listing(3, 0).provider), None);
        assert_eq!(Shelf::default().draw(&mut Chance::new(1)), None);
    }
}
