//! Who sells, where, how fast, at what price, and how honestly.

use ::market::{Address, Amount, Labels, ModelTag, Network, Payer, Rates, Timestamp, Upstream};
use routing::{Listing, Operator, Shelf};
use world::Random;

/// Towns, as points of a unit sphere in thousandths, and their share of providers and consumers.
const TOWNS: [([i64; 3], u64); 12] = [
    ([268, -735, 623], 18),  // US, east
    ([-459, -649, 607], 14), // US, west
    ([-30, -773, 634], 8),   // US, middle
    ([622, -1, 783], 9),     // London
    ([635, 97, 766], 12),    // Frankfurt
    ([500, 160, 851], 4),    // Stockholm
    ([-236, 973, 23], 7),    // Singapore
    ([-622, 525, 581], 9),   // Tokyo
    ([279, 904, 325], 8),    // Mumbai
    ([-733, 399, -552], 3),  // Sydney
    ([632, -665, -399], 5),  // São Paulo
    ([813, 365, -453], 3),   // Johannesburg
];

/// Kilometres of a chord on the unit sphere, detours of the cables included.
const KM: u64 = 6371 * 13 / 10;

/// What is not as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All is as it says.
    Honest,
    /// It takes far more requests than it can serve.
    Hoarder,
    /// It quotes half of what it wants, and refuses.
    Bait,
    /// Its first token comes fast and the others do not.
    Trickler,
    /// It accepts and never answers.
    Hole,
}

/// One provider.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    pub(super) kind: Kind,
    pub(super) town: usize,
    pub(super) operator: usize,
    pub(super) slots: usize,
    pub(super) queue_max: usize,
    /// From the start of its work to the first token, on average.
    pub(super) wait_us: u64,
    /// For each token, alone.
    pub(super) token_us: u64,
    pub(super) rates: Rates,
    pub(super) stake: Amount,
    /// Thousandths of the time that it is up.
    pub(super) up_permille: u64,
    /// Beyond the way between towns.
    pub(super) last_mile_us: u64,
}

/// All of them, and the ways between.
pub(super) struct Market {
    pub(super) providers: Vec<Provider>,
    pub(super) operators: usize,
    pub(super) shelf: Shelf,
    /// There and back between towns.
    ways_us: Vec<Vec<u64>>,
}

impl Market {
    /// A guard near the consumer adds so much.
    const GUARD_US: u64 = 15_000;
    /// Nothing is nearer than this.
    const NEAREST_US: u64 = 8_000;

    pub(super) fn new(count: u64, liars: bool, random: &mut Random) -> Self {
        let operators = operators(count, random);
        let providers: Vec<_> = (0..count)
            .map(|_| provider(&operators, liars, random))
            .collect();
        let listings = providers.iter().enumerate();
        let shelf = Shelf::new(listings.map(|(n, provider)| listing(n, provider)).collect());
        let way = |a: [i64; 3], b: [i64; 3]| {
            let squares = (0..3).map(|axis| (a[axis] - b[axis]).unsigned_abs().pow(2));
            let chord = squares.sum::<u64>().isqrt();
            // Light in glass: 200 km a millisecond, there and back.
            Self::NEAREST_US + chord * KM / 1000 * 10
        };
        let row =
            |(from, _): &([i64; 3], u64)| TOWNS.iter().map(|(to, _)| way(*from, *to)).collect();
        Self {
            operators: operators.len(),
            shelf,
            ways_us: TOWNS.iter().map(row).collect(),
            providers,
        }
    }

    /// There and back from a town to a provider, through a guard.
    pub(super) fn trip_us(&self, town: usize, provider: usize) -> u64 {
        let provider = &self.providers[provider];
        Self::GUARD_US + self.ways_us[town][provider.town] + provider.last_mile_us
    }

    pub(super) fn account(provider: usize) -> Address {
        let mut account = [0; 20];
        account[12..].copy_from_slice(&u64::try_from(provider).unwrap_or(u64::MAX).to_be_bytes());
        account.into()
    }

    pub(super) fn towns() -> usize {
        TOWNS.len()
    }
}

pub(super) fn town(random: &mut Random) -> usize {
    let shares = TOWNS.map(|(_, share)| share);
    weighted(&shares, random)
}

fn weighted(shares: &[u64], random: &mut Random) -> usize {
    let mut drawn = random.within(0..shares.iter().sum());
    for (n, share) in shares.iter().enumerate() {
        match drawn.checked_sub(*share) {
            Some(rest) => drawn = rest,
            None => return n,
        }
    }
    0
}

/// One in thirty as many as providers; how many of those each one has falls
/// with its number, and all of one are in one town.
fn operators(providers: u64, random: &mut Random) -> Vec<(u64, usize)> {
    let count = (providers / 30).max(3);
    (1..=count)
        .map(|n| (1_000_000 / (n + 4), town(random)))
        .collect()
}

fn provider(operators: &[(u64, usize)], liars: bool, random: &mut Random) -> Provider {
    let shares: Vec<_> = operators.iter().map(|(share, _)| *share).collect();
    let operator = weighted(&shares, random);
    let kind = match random.within(0..1000) {
        0..15 => Kind::Hoarder,
        15..30 => Kind::Bait,
        30..45 => Kind::Trickler,
        45..50 => Kind::Hole,
        _ => Kind::Honest,
    };
    let kind = if liars { kind } else { Kind::Honest };
    // A faster one is dearer, and both vary.
    let speed = random.within(15..90);
    let dear = random.within(500..1500) + speed * 20;
    let asked = match kind {
        Kind::Honest | Kind::Hoarder | Kind::Trickler => dear,
        Kind::Bait | Kind::Hole => dear / 2,
    };
    let rate = |thousandths: u64| Amount::new(u128::from(thousandths) * 1_000_000_000_000_000);
    let slots = random.within(2..9);
    let queue_max = match kind {
        Kind::Hoarder => 64,
        _ => random.within(0..4),
    };
    let token_us = 1_000_000 / speed;
    Provider {
        kind,
        town: operators[operator].1,
        operator,
        slots: usize::try_from(slots).unwrap_or(1),
        queue_max: usize::try_from(queue_max).unwrap_or(0),
        wait_us: random.within(150_000..900_000),
        token_us: match kind {
            Kind::Trickler => token_us * 10,
            _ => token_us,
        },
        rates: Rates {
            input_per_million: rate(asked / 2),
            output_per_million: rate(asked),
        },
        stake: rate(200 + random.within(0..5_000)),
        up_permille: random.within(950..971),
        last_mile_us: random.within(1_000..25_000),
    }
}

fn listing(n: usize, provider: &Provider) -> Listing {
    Listing {
        provider: Market::account(n),
        registered: Market::account(n),
        model: ModelTag([0; 4]),
        operator: Operator(u64::try_from(provider.operator).unwrap_or(u64::MAX)),
        stake: provider.stake,
        rates: provider.rates,
        expires_at: Timestamp(u64::MAX),
        context_length: None,
        output_tokens_max: None,
        labels: Labels {
            network: Network::Oblivious,
            payer: Payer::Pseudonym,
            upstream: Upstream::OwnEngine,
        },
        quantization: None,
        parameters: None,
        card: None,
        reachable: true,
        payable: true,
    }
}
