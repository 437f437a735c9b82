//! What a provider says of itself to its owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use market::{Address, Amount, CardId, ModelId, Rates, Timestamp};
use serde::Serialize;

use crate::counters::Counted;
use crate::sale::Sale;
use crate::shell::Inner;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The provider's account.
    pub provider: Address,
    /// The account that signs and claims here: the provider's, or its host's.
    pub account: Address,
    /// The endpoint in the registry.
    pub endpoint: String,
    /// The relays that it is to be reached through, if it cannot be dialled.
    pub behind: Vec<RelayStatus>,
    /// Whether nothing is on offer for now, by its own wish.
    pub resting: bool,
    /// What is sold.
    pub offers: Vec<OfferStatus>,
    /// What was earned, per token.
    pub money: Vec<MoneyStatus>,
    /// Channels that are known.
    pub channels: usize,
    /// What was counted since the start.
    pub counted: Counted,
}

/// A relay at which the provider waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayStatus {
    /// Its endpoint in the registry.
    pub relay: String,
    /// Whether it takes the provider now.
    pub reached: bool,
}

/// One offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferStatus {
    /// The model.
    pub model: ModelId,
    /// Its name.
    pub name: String,
    /// In what it is paid.
    pub token: Address,
    /// For how much, now.
    pub rates: Rates,
    /// How long the current quote is good.
    pub quote_expires_at: Timestamp,
    /// Answers at a time.
    pub slots: usize,
    /// That run.
    pub running: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Why its backend is not well, if so.
    pub problem: Option<String>,
}

/// What came of trying whether an offer goes on with an answer that another provider began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The model's name.
    pub name: String,
    /// Whose card the offer has: it goes on for offers with the same, without one for
    /// those without.
    pub card: Option<CardId>,
    /// Whether it does.
    pub continues: Continues,
}

/// Whether a backend goes on with an answer that another provider began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continues {
    /// It said the second half as before.
    Yes,
    /// It said something else.
    No,
    /// It could not be tried: why. It is tried again, some times.
    Unknown(String),
    /// It is not to be tried.
    Untried,
}

/// The money in one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MoneyStatus {
    /// The token.
    pub token: Address,
    /// All receipts together.
    pub earned: Amount,
    /// Of that, what could be claimed now.
    pub claimable: Amount,
    /// Of that, what was claimed.
    pub claimed: Amount,
}

pub(crate) fn status(inner: &Inner) -> Status {
    let mut offers: Vec<_> = inner
        .sales
        .values()
        .filter_map(|sale| offer(inner, sale))
        .collect();
    offers.sort_by(|a, b| a.name.cmp(&b.name).then(a.model.cmp(&b.model)));
    let channels = inner.sessions.all();
    let mut money = BTreeMap::<Address, MoneyStatus>::new();
    for channel in &channels {
        let token = channel.config.token;
        let sum = money.entry(token).or_insert(MoneyStatus {
            token,
            earned: Amount::ZERO,
            claimable: Amount::ZERO,
            claimed: Amount::ZERO,
        });
        channel.till(|till| {
            let claimed = till.claimed().max(till.state().total_claimed);
            add(&mut sum.earned, till.charged());
            add(&mut sum.claimable, till.claimable_total().less(claimed));
            add(&mut sum.claimed, claimed);
        });
    }
    let reached = inner.descriptor.relays_reached();
    let behind = inner.behind.iter().map(|relay| RelayStatus {
        relay: relay.clone(),
        reached: reached.contains(relay),
    });
    Status {
        provider: inner.terms.receiver,
        account: inner.account(),
        endpoint: inner.endpoint.clone(),
        behind: behind.collect(),
        resting: inner.descriptor.is_resting(),
        offers,
        money: money.into_values().collect(),
        channels: channels.len(),
        counted: inner.counters.read(),
    }
}

fn offer(inner: &Inner, sale: &Arc<Sale>) -> Option<OfferStatus> {
    let quote = inner.descriptor.quote(sale.model)?;
    Some(OfferStatus {
        model: sale.model,
        name: sale.config.name.clone(),
        token: quote.token,
        rates: quote.rates,
        quote_expires_at: quote.expires_at,
        slots: sale.config.slots,
        running: sale.running(),
        queued: sale.queued(),
        problem: sale.problem(),
    })
}

/// A sum for people: at the end of the range it stays there.
fn add(sum: &mut Amount, more: Amount) {
    *sum = sum.plus(more).unwrap_or(Amount::new(u128::MAX));
}
