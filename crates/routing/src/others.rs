//! Other rules, to compare with: Morpheus' rating, chance, and taking turns.
//!
//! They look at the same offers and get the same feedback. None of them knows
//! breakers: what must not be asked is left out, what failed lately is not.

use core::time::Duration;

use market::Amount;

use crate::chance::Chance;
use crate::knowledge::Knowledge;
use crate::seen::Seen;
use crate::shelf::{Listing, Shelf};
use crate::wanted::Wanted;

/// Places that a rule ranks.
const RANKED: usize = 8;
/// Draws for one place before chance gives up.
const TRIES: usize = 64;

/// What Morpheus' rating keeps of one provider.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Past {
    tried: u32,
    answered: u32,
    firsts: u32,
    first_ms: f64,
    spoken: u32,
    tokens_per_s: f64,
    seconds: f64,
}

impl Past {
    pub(crate) fn tried(&mut self) {
        self.tried = self.tried.saturating_add(1);
    }

    pub(crate) fn answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    pub(crate) fn first(&mut self, after: Duration) -> f64 {
        let ms = after.as_secs_f64() * 1000.0;
        self.firsts = self.firsts.saturating_add(1);
        self.first_ms += (ms - self.first_ms) / f64::from(self.firsts);
        self.seconds += after.as_secs_f64();
        ms
    }

    /// Tokens a second of this answer, and its seconds.
    pub(crate) fn spoke(&mut self, tokens: u32, within: Duration) -> (f64, f64) {
        let seconds = within.as_secs_f64();
        let speed = f64::from(tokens) / seconds.max(0.001);
        self.spoken = self.spoken.saturating_add(1);
        self.tokens_per_s += (speed - self.tokens_per_s) / f64::from(self.spoken);
        self.seconds += seconds;
        (speed, seconds)
    }
}

/// Count, mean and squares of a figure.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let off = value - self.mean;
        self.mean += off / self.count;
        self.squares += off * (value - self.mean);
    }

    /// Where a value lies between three deviations below and above: 0 to 1.
    fn place(&self, value: f64, better_up: bool) -> f64 {
        let deviation = match self.count > 1.0 {
            true => (self.squares / (self.count - 1.0)).sqrt(),
            false => 0.0,
        };
        let off = match deviation > 0.0 {
            true => (value - self.mean) / deviation,
            false => 0.0,
        };
        let signed = if better_up { off } else { -off };
        ((signed + 3.0) / 6.0).clamp(0.0, 1.0)
    }
}

/// What it keeps of all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MarketPast {
    first_ms: Spread,
    tokens_per_s: Spread,
    seconds: Spread,
}

impl MarketPast {
    pub(crate) fn first(&mut self, ms: f64) {
        self.first_ms.add(ms);
    }

    pub(crate) fn spoke(&mut self, (speed, seconds): (f64, f64)) {
        self.tokens_per_s.add(speed);
        self.seconds.add(seconds);
    }
}

/// The least that a provider stakes with Morpheus: 0.2 MOR.
const STAKE_MIN: f64 = 0.2e18;

/// Morpheus' score: 0.24 speed, 0.08 first token, 0.24 duration, 0.32 success
/// squared, 0.12 stake, divided by the price. The price is per second there;
/// here it is that of the estimated tokens, in MOR.
fn score(listing: &Listing, seen: Option<&Seen>, all: &MarketPast, wanted: &Wanted<'_>) -> f64 {
    let past = seen.map(|seen| seen.past).unwrap_or_default();
    let known = |count: u32, place: f64| if count == 0 { 0.5 } else { place };
    let speed = known(past.spoken, all.tokens_per_s.place(past.tokens_per_s, true));
    let first = known(past.firsts, all.first_ms.place(past.first_ms, false));
    let duration = known(past.spoken, all.seconds.place(past.seconds, true));
    let success = match past.tried {
        0 => 0.0,
        tried => (f64::from(past.answered) / f64::from(tried)).powi(2),
    };
    let stake = approximate(listing.stake);
    let staked = ((stake - STAKE_MIN) / (9.0 * STAKE_MIN)).clamp(0.0, 1.0);
    let price = listing
        .rates
        .cost(wanted.input_tokens, wanted.output_tokens());
    let price = approximate(price.unwrap_or(Amount::new(u128::MAX))) / 1e18;
    let sum = 0.24 * speed + 0.08 * first + 0.24 * duration + 0.32 * success + 0.12 * staked;
    sum / price.max(1e-18)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rating of the reference is a float; nobody is paid by it"
)]
fn approximate(amount: Amount) -> f64 {
    amount.base_units() as f64
}

/// The places with the highest score. Offers of which nothing was seen are
/// arranged once: between them only stake and price count.
pub(crate) fn morpheus(shelf: &Shelf, knowledge: &Knowledge, wanted: &Wanted<'_>) -> Vec<usize> {
    let listings = shelf.listings();
    let all = &knowledge.past;
    let descending = |scored: &mut Vec<(f64, usize)>| {
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    };
    let blank = shelf.by_blank_score.get_or_init(|| {
        let none = MarketPast::default();
        let scores = listings.iter().enumerate();
        let mut scored: Vec<_> = scores
            .map(|(place, listing)| (score(listing, None, &none, wanted), place))
            .collect();
        descending(&mut scored);
        scored.into_iter().map(|(_, place)| place).collect()
    });
    let fits = |place: &usize| wanted.misfit(&listings[*place]).is_none();
    let unknown = |place: &&usize| knowledge.seen(&listings[**place].provider).is_none();
    let unseen = blank.iter().filter(unknown).filter(|place| fits(place));
    let mut best: Vec<(f64, usize)> = unseen
        .take(RANKED)
        .map(|place| (score(&listings[*place], None, all, wanted), *place))
        .collect();
    let known = knowledge.met().iter().filter_map(|met| shelf.place(met));
    best.extend(known.filter(fits).map(|place| {
        let seen = knowledge.seen(&listings[place].provider);
        (score(&listings[place], seen, all, wanted), place)
    }));
    descending(&mut best);
    best.truncate(RANKED);
    best.into_iter().map(|(_, place)| place).collect()
}

/// Places by chance, all alike.
pub(crate) fn random(shelf: &Shelf, wanted: &Wanted<'_>, chance: &mut Chance) -> Vec<usize> {
    let mut drawn = Vec::new();
    for _ in 0..RANKED * TRIES {
        let Some(place) = chance.place(shelf.len()) else {
            break;
        };
        if !drawn.contains(&place) && wanted.misfit(&shelf.listings()[place]).is_none() {
            drawn.push(place);
        }
        if drawn.len() == RANKED {
            break;
        }
    }
    drawn
}

/// Places in a fixed order, from the one whose turn it is.
pub(crate) fn round_robin(shelf: &Shelf, wanted: &Wanted<'_>, turn: u64) -> Vec<usize> {
    let len = shelf.len();
    let start = u64::try_from(len)
        .ok()
        .and_then(|len| turn.checked_rem(len));
    let start = start.and_then(|start| usize::try_from(start).ok());
    let Some(start) = start else {
        return Vec::new();
    };
    let places = (start..len).chain(0..start);
    places
        .filter(|place| wanted.misfit(&shelf.listings()[*place]).is_none())
        .take(RANKED)
        .collect()
}
