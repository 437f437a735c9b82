//! What one consumer has seen of all providers, and what follows for waiting.
//!
//! Its methods are the feedback of the rule: whoever asks a provider calls them
//! as things happen. Nothing in here is written to disk.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};

use market::{Address, Load, Moment};

use crate::budget::RetryBudget;
use crate::cost::Usual;
use crate::others::MarketPast;
use crate::peak::Peak;
use crate::seen::{Seen, add, nearest_rank};
use crate::shelf::Listing;

/// How long to wait for a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To be connected.
    pub connect: Duration,
    /// To the first token, from the moment the request is sent.
    pub first_token: Duration,
    /// When a second provider may be asked beside it, where the budget allows:
    /// 95 % of its first tokens came within this.
    pub hedge_after: Duration,
    /// The longest silence within an answer, where signs of life are not heard either.
    pub stall: Duration,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    seen: HashMap<Address, Seen>,
    /// The same providers in the order in which they were met.
    met: Vec<Address>,
    /// Where the next one goes when there are too many.
    turn: usize,
    /// Of each model, who answered lately; latest last.
    good: BTreeMap<String, Vec<Address>>,
    wait: Option<Peak>,
    token: Option<Peak>,
    trip_us: Option<u64>,
    firsts_ms: Vec<u32>,
    /// Requests that run, at all providers.
    running: usize,
    budget: RetryBudget,
    pub(crate) past: MarketPast,
    /// What providers tell of their load, and until when that counts.
    loads: HashMap<Address, (Vec<Load>, Moment)>,
}

impl Knowledge {
    /// Providers that are remembered.
    pub const PROVIDERS_MAX: usize = 16_384;
    /// Models that are remembered.
    pub const MODELS_MAX: usize = 1024;
    /// Providers of a model that are remembered as good: at least so many,
    pub const GOOD_MIN: usize = 16;
    /// at most so many, and in between twice as many as requests are running,
    /// so that one's own requests do not crowd at a few.
    pub const GOOD_MAX: usize = 512;
    /// Times to the first token that are kept over all providers.
    const FIRSTS_KEPT: usize = 128;
    /// Fewer times say nothing of their tail.
    const ENOUGH: usize = 20;
    /// Where nothing was seen.
    const UNKNOWN: Usual = Usual {
        wait_us: 1_000_000,
        token_us: 30_000,
        trip_us: 100_000,
    };
    /// The longest wait for a first token where nothing was seen.
    pub const FIRST_TOKEN_UNKNOWN: Duration = Duration::from_secs(20);
    /// No first token is given up on sooner.
    pub const FIRST_TOKEN_MIN: Duration = Duration::from_secs(2);
    const CONNECT: Duration = Duration::from_secs(1);
    const STALL: Duration = Duration::from_secs(3);

    /// What was seen of a provider.
    pub fn seen(&self, provider: &Address) -> Option<&Seen> {
        self.seen.get(provider)
    }

    /// Providers in the order in which they were met.
    pub(crate) fn met(&self) -> &[Address] {
        &self.met
    }

    /// Who answered for a model lately, latest last.
    pub(crate) fn good(&self, model: &str) -> &[Address] {
        self.good.get(model).map_or(&[], Vec::as_slice)
    }

    /// What is usual of all: an unknown one is reckoned with it.
    pub(crate) fn usual(&self) -> Usual {
        let value = |peak: Option<Peak>| peak.map(|peak| peak.usual_us());
        Usual {
            wait_us: value(self.wait).unwrap_or(Self::UNKNOWN.wait_us),
            token_us: value(self.token).unwrap_or(Self::UNKNOWN.token_us),
            trip_us: self.trip_us.unwrap_or(Self::UNKNOWN.trip_us),
        }
    }

    /// How long to wait for a provider. The first token: as long as 99 % of
    /// the last ones took, of this provider or, where that says little, twice
    /// as long as those of all.
    pub fn patience(&self, provider: &Address) -> Patience {
        let own = self.seen.get(provider).map_or(&[][..], Seen::firsts_ms);
        let enough = |times: &[u32]| times.len() >= Self::ENOUGH;
        // Others say less: twice as long as they took.
        let (times, factor) = match enough(own) {
            true => (own, 1),
            false => (self.firsts_ms.as_slice(), 2),
        };
        let within = |percent| {
            let rank = nearest_rank(times, percent).filter(|_| enough(times));
            rank.map(|ms| Duration::from_millis(u64::from(ms) * factor))
        };
        let first_token = within(99).unwrap_or(Self::FIRST_TOKEN_UNKNOWN);
        Patience {
            connect: Self::CONNECT,
            first_token: first_token.max(Self::FIRST_TOKEN_MIN),
            hedge_after: within(95).unwrap_or(Self::FIRST_TOKEN_MIN),
            stall: Self::STALL,
        }
    }

    /// A request came from outside, whoever will be asked.
    pub fn requested(&mut self) {
        self.budget.pay_in();
    }

    /// Whether another provider may be asked after lost work, or beside one
    /// that is slow; takes it from the budget.
    pub fn may_retry(&mut self) -> bool {
        self.budget.take()
    }

    /// A provider is asked. Every `begun` has its [`Self::ended`].
    pub fn begun(&mut self, provider: Address) {
        self.running += 1;
        let seen = self.of(provider);
        seen.begun();
        seen.past.tried();
    }

    /// It took the request so long after it was sent: the way there and back,
    /// through the guard if there is one.
    pub fn taken(&mut self, provider: Address, after: Duration) {
        self.of(provider).taken(after);
        let trip = self.of(provider).trip_us();
        let mix = |own: u64, all: u64| all - all / 8 + own / 8;
        self.trip_us = match (trip, self.trip_us) {
            (Some(own), Some(all)) => Some(mix(own, all)),
            (own, all) => own.or(all),
        };
    }

    /// Its first token came so long after the request was sent: among those
    /// that were good for this model lately.
    pub fn first(&mut self, model: &str, provider: Address, after: Duration, now: Moment) {
        self.good_for(model, provider);
        let wait = self.of(provider).first(after, now);
        add(&mut self.wait, wait, now);
        if self.firsts_ms.len() == Self::FIRSTS_KEPT {
            self.firsts_ms.remove(0);
        }
        let ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        self.firsts_ms.push(ms);
        let past = self.of(provider).past.first(after);
        self.past.first(past);
    }

    /// So many tokens after the first came within this time. May be told once
    /// for an answer or again and again while it runs.
    pub fn spoke(&mut self, provider: Address, tokens: u32, within: Duration, now: Moment) {
        let Some(each) = self.of(provider).spoke(tokens, within, now) else {
            return;
        };
        add(&mut self.token, each, now);
        let past = self.of(provider).past.spoke(tokens, within);
        self.past.spoke(past);
    }

    /// An answer of it came to its end.
    pub fn answered(&mut self, provider: Address) {
        self.of(provider).answered();
        self.of(provider).past.answered();
    }

    /// It failed: no connection, no answer in time, an error, an answer that broke off.
    pub fn failed(&mut self, provider: Address, now: Moment) {
        self.of(provider).failed(now);
        self.no_longer_good(provider);
    }

    /// It refused at once because it is busy, for about so long.
    pub fn busy(&mut self, provider: Address, wait: Duration, now: Moment) {
        let usual = self.usual().wait_us;
        self.of(provider).busy(wait, usual, now);
        self.no_longer_good(provider);
    }

    /// It tells, itself or through others, that a request would wait so long.
    pub fn told(&mut self, provider: Address, wait: Duration, now: Moment) {
        self.of(provider).told(wait, now);
    }

    /// It tells of its load, of each model; counts for so long. That it is free
    /// counts nothing, a queue as much as its own wait at most, and that it
    /// would refuse puts it last.
    pub fn told_load(&mut self, provider: Address, loads: Vec<Load>, good: Duration, now: Moment) {
        if self.loads.len() >= Self::PROVIDERS_MAX && !self.loads.contains_key(&provider) {
            self.loads.retain(|_, (_, until)| now < *until);
            if self.loads.len() >= Self::PROVIDERS_MAX {
                return;
            }
        }
        self.loads.insert(provider, (loads, now.after(good)));
    }

    /// What a provider tells of its load with an offer's model, while that counts.
    pub fn load(&self, listing: &Listing, now: Moment) -> Option<Load> {
        let (loads, until) = self.loads.get(&listing.provider)?;
        let mut loads = loads.iter().filter(|_| now < *until);
        loads.find(|load| load.model == listing.model).copied()
    }

    /// A request to it is over, however it ended.
    pub fn ended(&mut self, provider: Address) {
        self.running = self.running.saturating_sub(1);
        self.of(provider).ended();
    }

    fn good_for(&mut self, model: &str, provider: Address) {
        if self.good.len() >= Self::MODELS_MAX && !self.good.contains_key(model) {
            self.good.clear();
        }
        if !self.good.contains_key(model) {
            self.good.insert(model.to_owned(), Vec::new());
        }
        let Some(good) = self.good.get_mut(model) else {
            return;
        };
        good.retain(|before| *before != provider);
        good.push(provider);
        let kept = (2 * self.running).clamp(Self::GOOD_MIN, Self::GOOD_MAX);
        let extra = good.len().saturating_sub(kept);
        good.drain(..extra);
    }

    fn no_longer_good(&mut self, provider: Address) {
        for good in self.good.values_mut() {
            good.retain(|before| *before != provider);
        }
    }

    fn of(&mut self, provider: Address) -> &mut Seen {
        if !self.seen.contains_key(&provider) {
            self.meet(provider);
        }
        self.seen.entry(provider).or_default()
    }

    /// Remembers a new one in place of an old one where there are too many.
    fn meet(&mut self, provider: Address) {
        if self.met.len() < Self::PROVIDERS_MAX {
            self.met.push(provider);
            return;
        }
        let is_running = |seen: &HashMap<Address, Seen>, old: &Address| {
            seen.get(old).is_some_and(|seen| seen.running() > 0)
        };
        // One of them is at rest: far fewer requests run at a time.
        for _ in 0..Self::PROVIDERS_MAX {
            self.turn = (self.turn + 1) % Self::PROVIDERS_MAX;
            if !is_running(&self.seen, &self.met[self.turn]) {
                break;
            }
        }
        let old = core::mem::replace(&mut self.met[self.turn], provider);
        self.seen.remove(&old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::new(Duration::from_secs(5));

    fn provider(n: u64) -> Address {
        let mut account = [0; 20];
        account[12..].copy_from_slice(&n.to_be_bytes());
        account.into()
    }

    #[test]
    fn a_first_token_is_waited_for_as_long_as_99_of_100_took_but_two_seconds_at_least() {
        let mut knowledge = Knowledge::default();
        let ms = Duration::from_millis;
        let waited = |knowledge: &Knowledge, n| knowledge.patience(&provider(n)).first_token;
        assert_eq!(waited(&knowledge, 1), Knowledge::FIRST_TOKEN_UNKNOWN);
        for _ in 0..20 {
            knowledge.first("m", provider(1), ms(300), NOW);
        }
        assert_eq!(waited(&knowledge, 1), Knowledge::FIRST_TOKEN_MIN);
        assert_eq!(knowledge.patience(&provider(1)).hedge_after, ms(300));
        for _ in 0..20 {
            knowledge.first("m", provider(2), ms(7000), NOW);
        }
        assert_eq!(waited(&knowledge, 1), Knowledge::FIRST_TOKEN_MIN);
        assert_eq!(waited(&knowledge, 2), ms(7000));
        // Of a third one nothing was seen: twice what all took counts.
        assert_eq!(waited(&knowledge, 3), ms(14_000));
    }

    #[test]
    fn no_more_providers_are_remembered_than_there_is_room_for() {
        let mut knowledge = Knowledge::default();
        knowledge.begun(provider(1));
        let most = Knowledge::PROVIDERS_MAX as u64;
        for n in 0..2 * most + 10 {
            knowledge.busy(provider(n), Duration::ZERO, NOW);
        }
        assert_eq!(knowledge.met.len(), Knowledge::PROVIDERS_MAX);
        assert_eq!(knowledge.seen.len(), Knowledge::PROVIDERS_MAX);
        assert_eq!(knowledge.seen(&provider(1)).unwrap().running(), 1);
        assert!(knowledge.seen(&provider(2 * most + 9)).is_some());
    }

    #[test]
    fn no_more_loads_are_remembered_than_there_is_room_for_and_old_ones_go_first() {
        let mut knowledge = Knowledge::default();
        let most = Knowledge::PROVIDERS_MAX as u64;
        let second = Duration::from_secs(1);
        for n in 0..most + 10 {
            knowledge.told_load(provider(n), vec![], second, NOW);
        }
        assert_eq!(knowledge.loads.len(), Knowledge::PROVIDERS_MAX);
        assert!(!knowledge.loads.contains_key(&provider(most)));
        knowledge.told_load(provider(most), vec![], second, NOW.after(second));
        assert_eq!(knowledge.loads.len(), 1);
    }

    #[test]
    fn who_failed_is_no_longer_among_the_good() {
        let mut knowledge = Knowledge::default();
        for n in [1, 2, 1] {
            knowledge.first("m", provider(n), Duration::ZERO, NOW);
        }
        assert_eq!(knowledge.good("m"), [provider(2), provider(1)]);
        knowledge.failed(provider(1), NOW);
        assert_eq!(knowledge.good("m"), [provider(2)]);
        assert!(knowledge.good("other").is_empty());
    }
}
