//! What a decision takes: `cargo run --release --bin world -- decide`.
//!
//! One thread, the best and the median of many rounds. A consumer that knows
//! some of the providers chooses again and again, each time with another seed.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use ::market::{
    Address, Amount, Demand, Labels, ModelTag, Moment, Network, Payer, Rates, Timestamp, Upstream,
};
use routing::{
    Chance, Knowledge, Listing, MaxPrice, Operator, Preferences, Rule, Shelf, Sort, Wanted, Worth,
    choose,
};

const ROUNDS: usize = 200;
const PER_ROUND: u64 = 200;
const MOR: u128 = 1_000_000_000_000_000_000;

/// Prints a line for each number of offers and kind of request.
pub(crate) fn decide() {
    let mut out = std::io::stdout().lock();
    // A reader that is gone needs no more.
    let _ = writeln!(
        out,
        "{:>9}  {:<34}{:>10}{:>10}",
        "offers", "request", "best", "median"
    );
    for offers in [10, 1_000, 10_000, 100_000] {
        let shelf = shelf(offers);
        let knowledge = knowledge(offers.min(2_000));
        let requests = requests();
        for (name, preferences) in &requests {
            let (best, median) = timed(&shelf, &knowledge, preferences);
            let _ = writeln!(out, "{offers:>9}  {name:<34}{best:>10.2?}{median:>10.2?}");
        }
    }
}

/// Kinds of requests, by what they prefer.
fn requests() -> [(&'static str, Preferences); 5] {
    let cap = MaxPrice {
        prompt: Some(Amount::new(MOR)),
        completion: Some(Amount::new(MOR)),
        request: None,
    };
    [
        ("no preferences", Preferences::default()),
        (
            "a price cap that 1 % meet",
            Preferences {
                max_price: cap,
                ..Preferences::default()
            },
        ),
        (
            "sorted by price",
            Preferences {
                sort: Some(Sort::Price),
                ..Preferences::default()
            },
        ),
        (
            "sorted by throughput",
            Preferences {
                sort: Some(Sort::Throughput),
                ..Preferences::default()
            },
        ),
        (
            "nobody collects data (5 % do not)",
            Preferences {
                allow_collection: false,
                ..Preferences::default()
            },
        ),
    ]
}

fn account(n: u64) -> Address {
    let mut account = [0; 20];
    account[..8].copy_from_slice(&Chance::new(n).draw().to_be_bytes());
    account[12..].copy_from_slice(&n.to_be_bytes());
    account.into()
}

fn shelf(offers: u64) -> Shelf {
    let mut chance = Chance::new(1);
    let listing = |n| {
        // From 0.5 to 50 MOR a million; a hundredth of them below 1.
        let price = Amount::new(MOR / 2 + u128::from(chance.below(50_000)) * MOR / 1000);
        let upstream = match chance.below(20) {
            0 => Upstream::OwnEngine,
            _ => Upstream::ThirdParty,
        };
        Listing {
            provider: account(n),
            registered: account(n),
            model: ModelTag([0; 4]),
            operator: Operator(chance.below(300)),
            stake: Amount::new(MOR / 5 + u128::from(chance.below(1000)) * MOR / 100),
            rates: Rates {
                input_per_million: price,
                output_per_million: price,
            },
            expires_at: Timestamp(u64::MAX),
            context_length: Some(32_768),
            output_tokens_max: Some(8192),
            labels: Labels {
                network: Network::Oblivious,
                payer: Payer::Pseudonym,
                upstream,
            },
            quantization: None,
            parameters: None,
            card: None,
            reachable: chance.below(100) > 2,
            payable: true,
        }
    };
    Shelf::new((0..offers).map(listing).collect())
}

fn knowledge(providers: u64) -> Knowledge {
    let (mut knowledge, mut chance) = (Knowledge::default(), Chance::new(2));
    for n in 0..providers {
        let (provider, now) = (account(n), Moment::new(Duration::from_millis(n)));
        knowledge.begun(provider);
        knowledge.taken(provider, Duration::from_millis(20 + chance.below(200)));
        match chance.below(20) {
            0 => knowledge.failed(provider, now),
            _ => {
                knowledge.first(
                    "m",
                    provider,
                    Duration::from_millis(200 + chance.below(900)),
                    now,
                );
                knowledge.spoke(provider, 200, Duration::from_secs(2 + chance.below(8)), now);
                knowledge.answered(provider);
            }
        }
        knowledge.ended(provider);
    }
    knowledge
}

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn timed(shelf: &Shelf, knowledge: &Knowledge, preferences: &Preferences) -> (Duration, Duration) {
    let demand = Demand::default();
    let wanted = Wanted {
        model: "m",
        input_tokens: 700,
        texts: 1,
        output_tokens_max: Some(512),
        demand: &demand,
        preferences,
        parameters: &[],
        stick_to: None,
        worth: Worth::default(),
        wall: Timestamp(1000),
    };
    let now = Moment::new(Duration::from_secs(10));
    let mut rounds: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let first = u64::try_from(round).unwrap_or_default() * PER_ROUND;
        let start = std::time::Instant::now();
        for seed in first..first + PER_ROUND {
            black_box(choose(
                shelf,
                knowledge,
                black_box(&wanted),
                Rule::Cost,
                seed,
                now,
            ));
        }
        rounds.push(start.elapsed());
    }
    rounds.sort_unstable();
    let each = |round: Duration| round / u32::try_from(PER_ROUND).unwrap_or(u32::MAX);
    (each(rounds[0]), each(rounds[ROUNDS / 2]))
}
