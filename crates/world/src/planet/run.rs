//! One run: events in the order of their time, until every request has ended.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use ::market::{Demand, Moment, Timestamp};
use routing::{Knowledge, Preferences, Rule, Wanted, Worth, choose};
use world::Random;

use crate::planet::loads::{Heard, TOLD_EVERY_US, Told};
use crate::planet::market::{Kind, Market, town};
use crate::planet::tally::{Figures, ratio};

/// Providers asked for one request, as in the node.
const TRIES: usize = 8;
/// Of those, the ones whose work may be lost.
const LOST_MAX: usize = 4;
/// The mean time that an outage lasts.
const OUTAGE_US: u64 = 600_000_000;
/// From the death of a provider to its being noticed: signs of life are missing.
const NOTICED_US: u64 = 500_000;
/// Who refuses says to come again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Between two reports of progress.
const REPORTED: u64 = 1_000;
/// What the one who knows everything compares at a time.
const WEIGHED: usize = 16;
/// Tokens of an answer: this, and up to the most by chance.
const OUTPUT_MIN: u64 = 32;
const OUTPUT_MEAN: u64 = 256;
const OUTPUT_MAX: u64 = 1024;
/// Tokens of a request.
const INPUT: core::ops::Range<u64> = 100..2_000;

/// By what rule consumers choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Policy {
    /// Knows who is up and free, and how fast everybody really is.
    Clairvoyant,
    /// Ours, with what providers tell of their load.
    Told,
    /// Ours, without that.
    Cost,
    /// Morpheus' rating.
    Morpheus,
    /// By chance.
    Random,
    /// One after the other.
    RoundRobin,
}

impl Policy {
    pub(super) const ALL: [Self; 6] = [
        Self::Clairvoyant,
        Self::Told,
        Self::Cost,
        Self::Morpheus,
        Self::Random,
        Self::RoundRobin,
    ];
    pub(super) const SWEPT: [Self; 4] = [Self::Told, Self::Cost, Self::Random, Self::RoundRobin];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clairvoyant => "clairvoyant",
            Self::Told => "choose",
            Self::Cost => "no digests",
            Self::Morpheus => "Morpheus",
            Self::Random => "random",
            Self::RoundRobin => "round robin",
        }
    }
}

/// What is played.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) policy: Policy,
    /// Thousandths of what all providers can do.
    pub(super) load: u64,
    /// Thousandths of downtime that hits whole operators.
    pub(super) share: u64,
    pub(super) requests: u64,
    pub(super) seed: u64,
    pub(super) providers: u64,
    pub(super) consumers: u64,
    /// Whether some of them lie.
    pub(super) liars: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    /// A request reaches a provider.
    Reaches {
        try_id: u64,
    },
    /// Its first token is at the consumer.
    Speaks {
        try_id: u64,
    },
    /// The answer is complete.
    Ends {
        try_id: u64,
    },
    /// The consumer hears that it is refused.
    Refused {
        try_id: u64,
    },
    /// The consumer gives up on it.
    Lost {
        try_id: u64,
    },
    /// All tell of their load.
    Tell,
    /// A provider goes or comes back.
    Turns {
        provider: usize,
    },
    /// An operator does, with all that it has.
    TurnsAll {
        operator: usize,
    },
}

/// One provider, now.
#[derive(Default)]
struct Now {
    own_up: bool,
    /// Requests on their way to it.
    coming: usize,
    running: Vec<u64>,
    queue: VecDeque<u64>,
}

/// One try of one request.
struct Try {
    request: Request,
    provider: usize,
    sent_us: u64,
    spoke_us: Option<u64>,
    trip_us: u64,
}

/// One request.
struct Request {
    consumer: usize,
    born_us: u64,
    input: u32,
    /// Tokens of the whole answer, and those that are still to come.
    output: u32,
    left: u32,
    ranked: VecDeque<usize>,
    tried: usize,
    lost: usize,
    has_spoken: bool,
}

struct Consumer {
    town: usize,
    knowledge: Knowledge,
    heard: Heard,
    turn: u64,
}

struct Run<'a> {
    settings: &'a Settings,
    market: Market,
    now: Vec<Now>,
    operator_up: Vec<bool>,
    /// Providers of each operator.
    members: Vec<Vec<usize>>,
    consumers: Vec<Consumer>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    tries: HashMap<u64, Try>,
    numbered: u64,
    time_us: u64,
    between_us: u64,
    to_come: u64,
    random: Random,
    outages: Random,
    choices: Random,
    free: Option<Free>,
    told: Told,
    figures: Figures,
}

/// Providers that are up, honest and have a free place, for each town the best first.
struct Free {
    /// For each town: of each provider its rank, and of each rank its provider.
    ranks: Vec<(Vec<usize>, Vec<usize>)>,
    free: Vec<BTreeSet<usize>>,
}

/// Plays a run; `progress` hears of requests that ended.
pub(super) fn play(settings: &Settings, mut progress: impl FnMut(u64)) -> Figures {
    let mut run = Run::new(settings);
    run.at(0, Event::Arrives);
    if settings.policy == Policy::Told {
        run.at(0, Event::Tell);
    }
    let mut told = 0;
    while let Some(Reverse((time, _, event))) = run.events.pop() {
        run.time_us = time;
        run.happens(event);
        if run.figures.requests - told >= REPORTED {
            progress(run.figures.requests - told);
            told = run.figures.requests;
        }
        if run.figures.requests == settings.requests {
            break;
        }
    }
    progress(run.figures.requests - told);
    run.figures.close();
    run.figures
}

impl<'a> Run<'a> {
    fn new(settings: &'a Settings) -> Self {
        // The same providers, outages and requests whatever the rule.
        let seed = Random::new(settings.seed);
        let market = Market::new(settings.providers, settings.liars, &mut seed.apart(1));
        let mut random = seed.apart(2);
        let mut phases = seed.apart(5);
        let consumer = |_| Consumer {
            town: town(&mut random),
            knowledge: Knowledge::default(),
            heard: Heard::new(phases.draw()),
            turn: random.draw(),
        };
        let consumers = (0..settings.consumers).map(consumer).collect();
        let mut members = vec![Vec::new(); market.operators];
        let mut rate = 0.0;
        for (n, provider) in market.providers.iter().enumerate() {
            members[provider.operator].push(n);
            // What it can do: requests a second, all places in use.
            let busy_us = provider.wait_us + OUTPUT_MEAN * provider.token_us;
            let slots = u64::try_from(provider.slots).unwrap_or(u64::MAX);
            rate += ratio(slots * 1_000_000, busy_us);
        }
        let between = 1_000_000.0 * 1000.0 / (rate * ratio(settings.load, 1));
        let mut run = Self {
            settings,
            now: market.providers.iter().map(|_| Now::default()).collect(),
            operator_up: vec![true; market.operators],
            members,
            consumers,
            events: BinaryHeap::new(),
            tries: HashMap::new(),
            numbered: 0,
            time_us: 0,
            between_us: whole(between),
            to_come: settings.requests,
            random,
            outages: seed.apart(3),
            choices: seed.apart(4),
            free: None,
            told: Told::default(),
            figures: Figures::default(),
            market,
        };
        if settings.policy == Policy::Clairvoyant {
            run.free = Some(Free::new(&run.market));
        }
        run.begin_outages();
        run
    }

    /// Everybody begins up or down as it is over a long time.
    fn begin_outages(&mut self) {
        for provider in 0..self.now.len() {
            let up = self.outages.within(0..1_000_000) >= self.down_millionths(provider, false);
            self.now[provider].own_up = up;
            let wait = self.turn_in(provider, up, false);
            self.at(wait, Event::Turns { provider });
        }
        for operator in 0..self.operator_up.len() {
            let Some(first) = self.members[operator].first().copied() else {
                continue;
            };
            let up = self.outages.within(0..1_000_000) >= self.down_millionths(first, true);
            self.operator_up[operator] = up;
            let wait = self.turn_in(first, up, true);
            self.at(wait, Event::TurnsAll { operator });
        }
        for provider in 0..self.now.len() {
            self.touch(provider);
        }
    }

    /// How much of the time it is down, alone or with its operator.
    fn down_millionths(&self, provider: usize, together: bool) -> u64 {
        let down = 1000 - self.market.providers[provider].up_permille;
        match together {
            true => down * self.settings.share,
            false => down * (1000 - self.settings.share),
        }
    }

    /// Until it goes, or comes back.
    fn turn_in(&mut self, provider: usize, up: bool, together: bool) -> u64 {
        let down = self.down_millionths(provider, together);
        let mean = match (up, down) {
            (false, _) => OUTAGE_US,
            (true, 0) => return u64::MAX,
            (true, down) => OUTAGE_US / down.max(1) * (1_000_000 - down),
        };
        exponential(mean, &mut self.outages)
    }

    fn at(&mut self, wait_us: u64, event: Event) {
        self.numbered += 1;
        let time = self.time_us.saturating_add(wait_us);
        self.events.push(Reverse((time, self.numbered, event)));
    }

    fn moment(&self) -> Moment {
        Moment::new(Duration::from_micros(self.time_us))
    }

    fn is_up(&self, provider: usize) -> bool {
        self.now[provider].own_up && self.operator_up[self.market.providers[provider].operator]
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives => self.arrives(),
            Event::Reaches { try_id } => self.reaches(try_id),
            Event::Speaks { try_id } => self.speaks(try_id),
            Event::Ends { try_id } => self.ends(try_id),
            Event::Refused { try_id } => self.refused(try_id),
            Event::Lost { try_id } => self.lost(try_id),
            Event::Tell => {
                self.told.tell(self.time_us, self.taken());
                self.at(TOLD_EVERY_US, Event::Tell);
            }
            Event::Turns { provider } => {
                let up = !self.now[provider].own_up;
                self.now[provider].own_up = up;
                self.turned(provider);
                let wait = self.turn_in(provider, up, false);
                self.at(wait, Event::Turns { provider });
            }
            Event::TurnsAll { operator } => {
                let up = !self.operator_up[operator];
                self.operator_up[operator] = up;
                for provider in self.members[operator].clone() {
                    self.turned(provider);
                }
                if let Some(first) = self.members[operator].first().copied() {
                    let wait = self.turn_in(first, up, true);
                    self.at(wait, Event::TurnsAll { operator });
                }
            }
        }
    }

    /// Who has no free slot and says so; those who lie seem to be free.
    fn taken(&self) -> Vec<(usize, Option<u32>)> {
        let providers = self.market.providers.iter().zip(&self.now).enumerate();
        let full = providers.filter(|(n, (it, now))| {
            it.kind == Kind::Honest && now.running.len() >= it.slots && self.is_up(*n)
        });
        full.map(|(n, (it, now))| {
            let each_us = it.wait_us + OUTPUT_MEAN * it.token_us;
            let places = u64::try_from(it.slots).unwrap_or(1).max(1);
            let before = u64::try_from(now.queue.len()).unwrap_or(u64::MAX);
            let wait_ms = each_us.saturating_mul(before + 1) / places / 1000;
            let has_room = now.queue.len() < it.queue_max;
            (
                n,
                has_room.then(|| u32::try_from(wait_ms).unwrap_or(u32::MAX - 1)),
            )
        })
        .collect()
    }

    /// Whoever was being served when it went is noticed to be gone.
    fn turned(&mut self, provider: usize) {
        if !self.is_up(provider) {
            let now = &mut self.now[provider];
            let running = std::mem::take(&mut now.running);
            for try_id in running.into_iter().chain(std::mem::take(&mut now.queue)) {
                self.at(NOTICED_US, Event::Lost { try_id });
            }
        }
        self.touch(provider);
    }

    fn arrives(&mut self) {
        self.to_come -= 1;
        if self.to_come > 0 {
            let wait = exponential(self.between_us, &mut self.random);
            self.at(wait, Event::Arrives);
        }
        let consumer = self.random.place(self.consumers.len());
        let more = exponential(OUTPUT_MEAN - OUTPUT_MIN, &mut self.random);
        let output = (OUTPUT_MIN + more).min(OUTPUT_MAX);
        let input = self.random.within(INPUT);
        let [input, output] = [input, output].map(|tokens| u32::try_from(tokens).unwrap_or(0));
        let mut request = Request {
            consumer,
            born_us: self.time_us,
            input,
            output,
            left: output,
            ranked: VecDeque::new(),
            tried: 0,
            lost: 0,
            has_spoken: false,
        };
        self.consumers[consumer].knowledge.requested();
        request.ranked = self.ranked(&request);
        self.ask(request);
    }

    fn ranked(&mut self, request: &Request) -> VecDeque<usize> {
        let consumer = &mut self.consumers[request.consumer];
        let Consumer {
            heard, knowledge, ..
        } = consumer;
        self.told.hear(heard, knowledge, self.time_us);
        let rule = match self.settings.policy {
            Policy::Told | Policy::Cost => Rule::Cost,
            Policy::Morpheus => Rule::Morpheus,
            Policy::Random => Rule::Random,
            Policy::RoundRobin => {
                consumer.turn = consumer.turn.wrapping_add(1);
                Rule::RoundRobin {
                    turn: consumer.turn,
                }
            }
            Policy::Clairvoyant => return self.best(request),
        };
        let wanted = Wanted {
            model: "m",
            input_tokens: request.input,
            texts: 1,
            output_tokens_max: None,
            demand: &Demand::default(),
            preferences: &Preferences::default(),
            parameters: &[],
            stick_to: None,
            worth: Worth::default(),
            wall: Timestamp(0),
        };
        let now = Moment::new(Duration::from_micros(self.time_us));
        let seed = self.choices.draw();
        let shelf = &self.market.shelf;
        let choice = choose(shelf, &consumer.knowledge, &wanted, rule, seed, now);
        choice.ranked.iter().map(|seat| seat.place).collect()
    }

    /// What the one who knows everything would do.
    fn best(&self, request: &Request) -> VecDeque<usize> {
        let Some(free) = &self.free else {
            return VecDeque::new();
        };
        let town = self.consumers[request.consumer].town;
        let (_, by_rank) = &free.ranks[town];
        let near = free.free[town]
            .iter()
            .take(WEIGHED)
            .map(|rank| by_rank[*rank]);
        let mut near: Vec<_> = near
            .map(|provider| {
                (
                    true_cost(&self.market, town, provider, request.input, request.left),
                    provider,
                )
            })
            .collect();
        near.sort_unstable();
        near.into_iter().map(|(_, provider)| provider).collect()
    }

    /// Asks the next one, or gives up.
    fn ask(&mut self, mut request: Request) {
        let next = request.ranked.pop_front();
        let Some(provider) = next.filter(|_| request.tried < TRIES) else {
            return self.over(&request, None);
        };
        request.tried += 1;
        self.figures.tries += 1;
        let consumer = &mut self.consumers[request.consumer];
        let account = Market::account(provider);
        consumer.knowledge.begun(account);
        let patience = consumer.knowledge.patience(&account);
        let trip_us = self.market.trip_us(consumer.town, provider);
        self.numbered += 1;
        let try_id = self.numbered;
        let up = self.is_up(provider);
        self.now[provider].coming += usize::from(up);
        self.touch(provider);
        self.tries.insert(
            try_id,
            Try {
                request,
                provider,
                sent_us: self.time_us,
                spoke_us: None,
                trip_us,
            },
        );
        match up {
            true => {
                self.at(trip_us / 2, Event::Reaches { try_id });
                self.at(micros(patience.first_token), Event::Lost { try_id });
            }
            false => self.at(micros(patience.connect), Event::Lost { try_id }),
        }
    }

    fn reaches(&mut self, try_id: u64) {
        let Some((provider, trip_us, consumer)) = self.known(try_id) else {
            return;
        };
        self.now[provider].coming -= 1;
        self.touch(provider);
        if !self.is_up(provider) {
            return self.at(NOTICED_US, Event::Lost { try_id });
        }
        let it = &self.market.providers[provider];
        let now = &mut self.now[provider];
        let (starts, has_room) = (now.running.len() < it.slots, now.queue.len() < it.queue_max);
        if it.kind == Kind::Bait {
            return self.at(trip_us / 2, Event::Lost { try_id });
        }
        if !starts && !has_room {
            return self.at(trip_us / 2, Event::Refused { try_id });
        }
        let account = Market::account(provider);
        let trip = Duration::from_micros(trip_us + trip_us * self.random.within(0..100) / 1000);
        self.consumers[consumer].knowledge.taken(account, trip);
        match starts {
            true => self.starts(try_id),
            false => self.now[provider].queue.push_back(try_id),
        }
    }

    fn starts(&mut self, try_id: u64) {
        let Some((provider, trip_us, _)) = self.known(try_id) else {
            return;
        };
        self.now[provider].running.push(try_id);
        self.touch(provider);
        let it = &self.market.providers[provider];
        if it.kind == Kind::Hole {
            return;
        }
        let mean = it.wait_us / 2;
        let wait = mean + exponential(mean, &mut self.random);
        self.at(wait + trip_us / 2, Event::Speaks { try_id });
    }

    fn speaks(&mut self, try_id: u64) {
        let (time_us, moment) = (self.time_us, self.moment());
        let Some(tried) = self.tries.get_mut(&try_id) else {
            return;
        };
        // What broke meanwhile has said nothing.
        if !self.now[tried.provider].running.contains(&try_id) {
            return;
        }
        tried.spoke_us = Some(time_us);
        let account = Market::account(tried.provider);
        let after = Duration::from_micros(time_us - tried.sent_us);
        let request = &mut tried.request;
        let consumer = &mut self.consumers[request.consumer];
        consumer.knowledge.first("m", account, after, moment);
        if !request.has_spoken {
            request.has_spoken = true;
            let ms = (time_us - request.born_us) / 1000;
            let ms = u32::try_from(ms).unwrap_or(u32::MAX);
            self.figures.firsts_ms.push(ms);
        }
        let token_us = self.market.providers[tried.provider].token_us;
        let wait = u64::from(request.left) * token_us;
        self.at(wait, Event::Ends { try_id });
    }

    fn ends(&mut self, try_id: u64) {
        let is_running =
            |run: &Self, tried: &Try| run.now[tried.provider].running.contains(&try_id);
        if !self
            .tries
            .get(&try_id)
            .is_some_and(|tried| is_running(self, tried))
        {
            return;
        }
        let Some(tried) = self.tries.remove(&try_id) else {
            return;
        };
        let moment = self.moment();
        let account = Market::account(tried.provider);
        let knowledge = &mut self.consumers[tried.request.consumer].knowledge;
        let speaking = self.time_us - tried.spoke_us.unwrap_or(self.time_us);
        knowledge.spoke(
            account,
            tried.request.left,
            Duration::from_micros(speaking),
            moment,
        );
        knowledge.answered(account);
        knowledge.ended(account);
        self.leaves(tried.provider, try_id);
        self.over(&tried.request, Some(tried.provider));
    }

    fn refused(&mut self, try_id: u64) {
        let Some(tried) = self.tries.remove(&try_id) else {
            return;
        };
        let moment = self.moment();
        let account = Market::account(tried.provider);
        let knowledge = &mut self.consumers[tried.request.consumer].knowledge;
        knowledge.busy(account, RETRY_AFTER, moment);
        knowledge.ended(account);
        self.figures.refused += 1;
        self.again(tried.request);
    }

    /// No connection, no first token in time, or an answer that broke off.
    fn lost(&mut self, try_id: u64) {
        let Some(tried) = self.tries.get(&try_id) else {
            return;
        };
        let is_served = self.now[tried.provider].running.contains(&try_id);
        if tried.spoke_us.is_some() && is_served {
            // It was the wait for the first token, and that came.
            return;
        }
        let Some(mut tried) = self.tries.remove(&try_id) else {
            return;
        };
        let moment = self.moment();
        let account = Market::account(tried.provider);
        let knowledge = &mut self.consumers[tried.request.consumer].knowledge;
        knowledge.failed(account, moment);
        knowledge.ended(account);
        self.figures.lost += 1;
        self.leaves(tried.provider, try_id);
        if let Some(spoke) = tried.spoke_us {
            // What was said so far is kept; another one goes on from there.
            let spoken = self.time_us.saturating_sub(spoke + NOTICED_US);
            let tokens = spoken / self.market.providers[tried.provider].token_us;
            let left = u64::from(tried.request.left).saturating_sub(tokens).max(1);
            tried.request.left = u32::try_from(left).unwrap_or(u32::MAX);
        }
        tried.request.lost += 1;
        let may = match self.settings.policy {
            _ if tried.request.lost == LOST_MAX => false,
            Policy::Told | Policy::Cost => {
                let knowledge = &mut self.consumers[tried.request.consumer].knowledge;
                knowledge.may_retry()
            }
            _ => true,
        };
        match may {
            true => self.again(tried.request),
            false => self.over(&tried.request, None),
        }
    }

    /// The next try; the one who knows everything looks anew.
    fn again(&mut self, mut request: Request) {
        if self.settings.policy == Policy::Clairvoyant {
            request.ranked = self.best(&request);
        }
        self.ask(request);
    }

    /// A place is free again.
    fn leaves(&mut self, provider: usize, try_id: u64) {
        let now = &mut self.now[provider];
        now.running.retain(|running| *running != try_id);
        now.queue.retain(|waiting| *waiting != try_id);
        while self.now[provider].running.len() < self.market.providers[provider].slots {
            let Some(next) = self.now[provider].queue.pop_front() else {
                break;
            };
            self.starts(next);
        }
        self.touch(provider);
    }

    fn over(&mut self, request: &Request, answered: Option<usize>) {
        let figures = &mut self.figures;
        figures.requests += 1;
        let worth = Worth::default();
        let time = u128::from(self.time_us - request.born_us);
        figures.cost += worth.second.base_units() * time / 1_000_000;
        match answered {
            None => {
                figures.failed += 1;
                figures.cost += worth.failure.base_units();
            }
            Some(provider) => {
                let rates = self.market.providers[provider].rates;
                let price = rates.cost(request.input, request.output);
                let price = price.map_or(u128::MAX, |price| price.base_units());
                figures.price += price;
                figures.cost += price;
            }
        }
    }

    fn known(&self, try_id: u64) -> Option<(usize, u64, usize)> {
        let tried = self.tries.get(&try_id)?;
        Some((tried.provider, tried.trip_us, tried.request.consumer))
    }

    /// Keeps the list of free ones right.
    fn touch(&mut self, provider: usize) {
        let Some(mut free) = self.free.take() else {
            return;
        };
        let it = &self.market.providers[provider];
        let honest = matches!(it.kind, Kind::Honest | Kind::Hoarder);
        let now = &self.now[provider];
        let taken = now.running.len() + now.coming;
        let is_free = honest && self.is_up(provider) && taken < it.slots;
        for (town, (rank_of, _)) in free.ranks.iter().enumerate() {
            match is_free {
                true => free.free[town].insert(rank_of[provider]),
                false => free.free[town].remove(&rank_of[provider]),
            };
        }
        self.free = Some(free);
    }
}

impl Free {
    fn new(market: &Market) -> Self {
        let ranked = |town: usize| {
            let mut by_rank: Vec<usize> = (0..market.providers.len()).collect();
            by_rank.sort_by_cached_key(|provider| {
                (true_cost(market, town, *provider, 1_000, 256), *provider)
            });
            let mut rank_of = vec![0; by_rank.len()];
            for (rank, provider) in by_rank.iter().enumerate() {
                rank_of[*provider] = rank;
            }
            (rank_of, by_rank)
        };
        Self {
            ranks: (0..Market::towns()).map(ranked).collect(),
            free: vec![BTreeSet::new(); Market::towns()],
        }
    }
}

/// Time and price of an answer by a provider that is free.
fn true_cost(market: &Market, town: usize, provider: usize, input: u32, output: u32) -> u128 {
    let it = &market.providers[provider];
    let time = it.wait_us + market.trip_us(town, provider) + it.token_us * u64::from(output);
    let second = Worth::default().second.base_units();
    let price = it.rates.cost(input, output);
    let price = price.map_or(u128::MAX / 2, |price| price.base_units());
    price + u128::from(time) * second / 1_000_000
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Spread as waits between things that happen by chance.
fn exponential(mean: u64, random: &mut Random) -> u64 {
    const STEPS: u64 = 1 << 52;
    let share = ratio(random.within(0..STEPS) + 1, STEPS);
    whole(-share.ln() * ratio(mean, 1))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of range becomes the end of the range"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
