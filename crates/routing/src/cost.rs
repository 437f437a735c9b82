//! What asking a provider would cost, term by term, in base units of the token
//! that is paid.

use market::{Amount, Load, Moment, Rates};
use serde::Serialize;

use crate::seen::Seen;

/// What time and failure are worth to the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Worth {
    /// A second of waiting, in base units.
    pub second: Amount,
    /// A request that has to be made again elsewhere, in base units.
    pub failure: Amount,
}

impl Default for Worth {
    /// A second: 0.0005 MOR, which at 1 MOR per million tokens buys 500 of
    /// them. A failure: ten seconds.
    fn default() -> Self {
        Self {
            second: Amount::new(500_000_000_000_000),
            failure: Amount::new(5_000_000_000_000_000),
        }
    }
}

/// Every term of a cost. `time` + `price` + `risk` is `total`, less the
/// discount of the conversation's provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// To the first token, without the way: the peak-sensitive average, in microseconds.
    pub wait_us: u64,
    /// Requests that it is answering for us; the wait counts once more for each.
    pub running: u32,
    /// Waiting time that it tells of itself, as far as that counts.
    pub told_us: u64,
    /// There and back, through the guard if there is one.
    pub trip_us: u64,
    /// For each token of the answer.
    pub token_us: u64,
    /// Tokens that the answer is reckoned at.
    pub output_tokens: u32,
    /// All of that time, at what a second is worth.
    pub time: Amount,
    /// As quoted, for the estimated tokens.
    pub price: Amount,
    /// How often it will at least answer, in thousandths.
    pub quality_permille: u32,
    /// What is expected to be lost by its failures.
    pub risk: Amount,
    /// Whether it answered before in this conversation: three tenths count.
    pub sticky: bool,
    /// All together.
    pub total: Amount,
}

/// Tokens that a cost is reckoned for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    pub(crate) input: u32,
    pub(crate) output: u32,
}

/// What is known of a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// From here.
    pub(crate) seen: Option<&'a Seen>,
    /// What it tells of its load.
    pub(crate) load: Option<Load>,
    /// Of all others.
    pub(crate) usual: Usual,
}

/// What is reckoned with where a provider is not known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usual {
    pub(crate) wait_us: u64,
    pub(crate) token_us: u64,
    pub(crate) trip_us: u64,
}

impl Terms {
    /// Of ten parts, those that count for the conversation's provider.
    const STICKY_TENTHS: u128 = 3;

    /// None: the price is out of all bounds.
    pub(crate) fn of(
        rates: &Rates,
        tokens: Tokens,
        known: Known<'_>,
        worth: &Worth,
        sticky: bool,
        now: Moment,
    ) -> Option<Self> {
        let price = rates.cost(tokens.input, tokens.output).ok()?;
        let Known { seen, load, usual } = known;
        let wait_us = seen
            .and_then(|seen| seen.wait_us(now))
            .unwrap_or(usual.wait_us);
        let token_us = seen
            .and_then(|seen| seen.token_us(now))
            .unwrap_or(usual.token_us);
        let trip_us = seen.and_then(Seen::trip_us).unwrap_or(usual.trip_us);
        let running = seen.map_or(0, Seen::running);
        // What it says of itself can at most double its own wait.
        let told_us = seen.map_or(0, |seen| seen.told_us(now));
        let told_us = told_us.max(load.map_or(0, queue_us)).min(wait_us);
        let queued = wait_us.saturating_mul(u64::from(running).saturating_add(1));
        let answering = token_us.saturating_mul(u64::from(tokens.output));
        let all_us = [told_us, trip_us, answering]
            .into_iter()
            .fold(queued, u64::saturating_add);
        let quality_permille = seen.map_or(Seen::UNKNOWN_PERMILLE, Seen::quality_permille);
        let time = scaled(worth.second, u128::from(all_us), 1_000_000);
        let lost = 1000_u128.saturating_sub(u128::from(quality_permille));
        let risk = scaled(worth.failure, lost, 1000);
        let sum = [price, risk]
            .into_iter()
            .fold(time, |sum, term| sum.plus(term).unwrap_or(MOST));
        let total = match sticky {
            true => scaled(sum, Self::STICKY_TENTHS, 10),
            false => sum,
        };
        Some(Self {
            wait_us,
            running,
            told_us,
            trip_us,
            token_us,
            output_tokens: tokens.output,
            time,
            price,
            quality_permille,
            risk,
            sticky,
            total,
        })
    }
}

/// What a request would wait for a slot, as the provider tells; longest where it takes none.
fn queue_us(load: Load) -> u64 {
    match (load.free_slots, load.wait_ms) {
        (_, None) => u64::MAX,
        (0, Some(ms)) => u64::from(ms) * 1000,
        (_, Some(_)) => 0,
    }
}

/// The most that there is.
const MOST: Amount = Amount::new(u128::MAX);

/// `amount * parts / of`, the most there is if that is out of range.
fn scaled(amount: Amount, parts: u128, of: u128) -> Amount {
    match amount.times(parts) {
        Ok(product) => Amount::new(product.base_units() / of),
        Err(_) => MOST,
    }
}
