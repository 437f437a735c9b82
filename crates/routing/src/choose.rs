//! The rule: whom to ask first, whom next, and why.
//!
//! Power of two choices with memory: a few offers of those that answered lately
//! compete with two that are drawn by chance, and the cheapest of them by
//! [`Terms`] is asked first. Looking at all and taking the best would send
//! everybody to the same one. Where there are few offers all of them are
//! weighed, so that the rest of the list is in the order of its cost; where
//! there are many, only a handful is.

use market::{Address, Amount, CardId, Moment};
use serde::Serialize;

use crate::chance::Chance;
use crate::cost::{Known, Terms, Tokens, Usual};
use crate::knowledge::Knowledge;
use crate::others;
use crate::preferences::Sort;
use crate::seen::Seen;
use crate::shelf::Shelf;
use crate::wanted::{Misfit, Wanted};

/// By what rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Ours.
    Cost,
    /// The highest of Morpheus' ratings first; to compare with.
    Morpheus,
    /// By chance; to compare with.
    Random,
    /// One after the other, from this turn on; to compare with.
    RoundRobin {
        /// Whose turn it is.
        turn: u64,
    },
}

/// How an offer came to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drawn {
    /// The request names it.
    Named,
    /// It answered before in this conversation.
    Conversation,
    /// It answered lately.
    Good,
    /// By chance.
    Chance,
    /// A newcomer, put first so that it becomes known.
    Explored,
    /// Because it is among the first by what the request sorts by, or because there are few.
    Listed,
}

/// Whether an offer fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does.
    Fits,
    /// It is asked only where nobody better is left.
    LastResort(Misfit),
}

/// An offer in its place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ranked {
    /// Where it stands on the shelf.
    #[serde(skip)]
    pub place: usize,
    /// Whose.
    pub provider: Address,
    /// What exactly it offers; none if it is cardless.
    pub card: Option<CardId>,
    /// How it came to be looked at.
    pub drawn: Drawn,
    /// Whether it fits.
    pub standing: Standing,
    /// What asking it would cost.
    pub terms: Terms,
}

/// An offer that must not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfit {
    /// Whose.
    pub provider: Address,
    /// Why.
    #[serde(flatten)]
    pub misfit: Misfit,
}

/// Whom to ask, in which order, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// By which rule.
    pub rule: Rule,
    /// Offers on the shelf.
    pub offers: usize,
    /// In the order in which they are asked.
    pub ranked: Vec<Ranked>,
    /// Those that were looked at and must not be asked.
    pub unfit: Vec<Unfit>,
    /// More of those.
    pub more_unfit: usize,
}

impl Choice {
    /// Why the first one is first, in a sentence.
    pub fn reason(&self) -> &'static str {
        let Some(first) = self.ranked.first() else {
            return "nobody fits";
        };
        match (self.rule, &first.standing, first.drawn) {
            (Rule::Morpheus, ..) => "it has the highest of Morpheus' ratings",
            (Rule::Random, ..) => "chance drew it",
            (Rule::RoundRobin { .. }, ..) => "it is its turn",
            (_, Standing::LastResort(_), _) => "nobody better is left",
            (_, _, Drawn::Named) => "the request names it",
            (_, _, Drawn::Conversation) => {
                "it answered before in this conversation, and nothing speaks against it"
            }
            (_, _, Drawn::Explored) => "it is new, and a few requests go to newcomers",
            (_, _, Drawn::Good | Drawn::Chance) if self.ranked.len() == 1 => {
                "it is the only one that fits"
            }
            (_, _, Drawn::Good) => {
                "by price, speed and risk it is the best of those compared, and it answered lately"
            }
            (_, _, Drawn::Chance) => "by price, speed and risk it is the best of those compared",
            (_, _, Drawn::Listed) => "it is the first by what the request sorts by",
        }
    }
}

/// Offers up to this number are all weighed.
const ALL_MAX: usize = 64;
/// Offers in the list where there are more.
const RANKED: usize = 8;
/// Drawn by chance that compete for the first place.
const CONTEST: usize = 2;
/// Drawn of those that answered lately. More than two: only this consumer
/// remembers them, so that no crowd follows.
const GOOD: usize = 4;
/// Draws for one place before the shelf is gone through, cheapest first.
const TRIES: usize = 32;
/// Requests of a thousand whose first place goes to a newcomer.
const EXPLORED_PERMILLE: u64 = 30;
/// A newcomer may cost this many times what the best one costs.
const EXPLORED_PRICE: u128 = 2;
/// Offers that do not fit and are listed.
const UNFIT_KEPT: usize = 64;
/// Known providers that are weighed where the fastest are wanted.
const KNOWN_WEIGHED: usize = 96;

/// Ranks offers for a request. Pure: the same arguments give the same choice.
pub fn choose(
    shelf: &Shelf,
    knowledge: &Knowledge,
    wanted: &Wanted<'_>,
    rule: Rule,
    seed: u64,
    now: Moment,
) -> Choice {
    let mut table = Table {
        shelf,
        knowledge,
        wanted,
        now,
        usual: knowledge.usual(),
        seats: Vec::new(),
        looked: Vec::new(),
        unfit: Vec::new(),
        more_unfit: 0,
    };
    let mut chance = Chance::new(seed);
    let ranked = match rule {
        Rule::Cost => table.by_cost(&mut chance),
        Rule::Morpheus => table.as_listed(others::morpheus(shelf, knowledge, wanted)),
        Rule::Random => table.as_listed(others::random(shelf, wanted, &mut chance)),
        Rule::RoundRobin { turn } => table.as_listed(others::round_robin(shelf, wanted, turn)),
    };
    Choice {
        rule,
        offers: shelf.len(),
        ranked,
        unfit: table.unfit,
        more_unfit: table.more_unfit,
    }
}

/// The offers that are being looked at.
struct Table<'a> {
    shelf: &'a Shelf,
    knowledge: &'a Knowledge,
    wanted: &'a Wanted<'a>,
    now: Moment,
    usual: Usual,
    seats: Vec<Ranked>,
    /// Places that were looked at, whether they fit or not.
    looked: Vec<usize>,
    unfit: Vec<Unfit>,
    more_unfit: usize,
}

impl Table<'_> {
    /// Weighs the offer at a place, once. Its seat, if it may be asked.
    fn look(&mut self, place: usize, drawn: Drawn) -> Option<usize> {
        let listing = self.shelf.at(place)?;
        if self.looked.contains(&place) {
            return self.seats.iter().position(|seat| seat.place == place);
        }
        self.looked.push(place);
        if let Some(misfit) = self.wanted.misfit(listing) {
            self.turn_away(listing.provider, misfit);
            return None;
        }
        let seen = self.knowledge.seen(&listing.provider);
        let spare = self.shelf.is_spare(place).then_some(Misfit::Cardless);
        let load = self.knowledge.load(listing, self.now);
        let drawback = self.wanted.drawback(listing, (seen, load), self.now);
        let drawback = drawback.or(spare);
        let tokens = Tokens {
            input: self.wanted.input_tokens,
            output: self.wanted.output_tokens(),
        };
        let sticky = self.wanted.stick_to == Some(listing.provider);
        let known = Known {
            seen,
            load,
            usual: self.usual,
        };
        let terms = Terms::of(
            &listing.rates,
            tokens,
            known,
            &self.wanted.worth,
            sticky,
            self.now,
        );
        let Some(terms) = terms else {
            let cap = Amount::new(u128::MAX);
            self.turn_away(listing.provider, Misfit::Price { price: cap, cap });
            return None;
        };
        self.seats.push(Ranked {
            place,
            provider: listing.provider,
            card: listing.card,
            drawn,
            standing: drawback.map_or(Standing::Fits, Standing::LastResort),
            terms,
        });
        Some(self.seats.len() - 1)
    }

    fn turn_away(&mut self, provider: Address, misfit: Misfit) {
        match self.unfit.len() < UNFIT_KEPT {
            true => self.unfit.push(Unfit { provider, misfit }),
            false => self.more_unfit += 1,
        }
    }

    fn fits(&self, seat: usize) -> bool {
        self.seats[seat].standing == Standing::Fits
    }

    fn is_spare(&self, seat: &Ranked) -> bool {
        self.shelf.is_spare(seat.place)
    }

    /// The places of a rule that ranks by itself.
    fn as_listed(&mut self, places: Vec<usize>) -> Vec<Ranked> {
        for place in places {
            self.look(place, Drawn::Listed);
        }
        std::mem::take(&mut self.seats)
    }

    fn by_cost(&mut self, chance: &mut Chance) -> Vec<Ranked> {
        let preferences = self.wanted.preferences;
        self.named(&preferences.order);
        let first = self.seats.len();
        if preferences.allow_fallbacks || preferences.order.is_empty() {
            match (&preferences.only, preferences.sort) {
                (Some(only), _) => self.named(only),
                (None, Some(sort)) => self.sorted(sort),
                (None, None) => self.drawn(chance),
            }
        }
        let mut rest = self.seats.split_off(first);
        let mut ranked = std::mem::take(&mut self.seats);
        self.arrange(&mut rest, chance);
        // Who is named is asked in the order of the names, but while it is out it waits.
        ranked.append(&mut rest);
        // Who has no card stands behind all who have one, named or not.
        ranked.sort_by_key(|seat| (self.is_spare(seat), seat.standing != Standing::Fits));
        if !preferences.allow_fallbacks && preferences.order.is_empty() {
            ranked.truncate(1);
        }
        ranked
    }

    fn named(&mut self, accounts: &[Address]) {
        for account in accounts {
            let places = self.shelf.places_of(account);
            if places.is_empty() {
                self.turn_away(*account, Misfit::NotSold);
            }
            for place in places {
                self.look(place, Drawn::Named);
            }
        }
    }

    /// Those that are first by price, or the fastest of those that are known.
    fn sorted(&mut self, sort: Sort) {
        if self.shelf.len() > ALL_MAX && sort != Sort::Price {
            let chosen = self.knowledge.good(self.wanted.model).iter();
            let met = self.knowledge.met().iter().rev().take(KNOWN_WEIGHED);
            for known in chosen.chain(met) {
                if let Some(place) = self.shelf.place(known) {
                    self.look(place, Drawn::Listed);
                }
            }
        }
        self.listed();
    }

    /// All of them where there are few; otherwise the cheapest that fit.
    fn listed(&mut self) {
        let shelf = self.shelf;
        let mut found = 0;
        for place in shelf.by_price() {
            if shelf.len() > ALL_MAX && found >= RANKED {
                return;
            }
            let seat = self.look(*place, Drawn::Listed);
            found += usize::from(seat.is_some_and(|seat| self.fits(seat)));
        }
    }

    /// The conversation's provider, some that answered lately, some by chance.
    fn drawn(&mut self, chance: &mut Chance) {
        if let Some(place) = self
            .wanted
            .stick_to
            .and_then(|last| self.shelf.place(&last))
        {
            self.look(place, Drawn::Conversation);
        }
        let knowledge = self.knowledge;
        let chosen = knowledge.good(self.wanted.model);
        let mut found = 0;
        for _ in 0..GOOD * 2 {
            let drawn = chance.place(chosen.len());
            let place = drawn.and_then(|n| self.shelf.place(&chosen[n]));
            let seat = place.and_then(|place| self.look_anew(place, Drawn::Good));
            found += usize::from(seat.is_some_and(|seat| self.fits(seat)));
            if found == GOOD {
                break;
            }
        }
        let all = self.shelf.len() <= ALL_MAX;
        let enough = match all {
            true => CONTEST,
            false => RANKED - GOOD,
        };
        let mut found = 0;
        for _ in 0..enough * TRIES {
            if found == enough || self.looked.len() == self.shelf.len() {
                break;
            }
            let place = self.shelf.draw(chance);
            let seat = place.and_then(|place| self.look_anew(place, Drawn::Chance));
            found += usize::from(seat.is_some_and(|seat| self.fits(seat)));
        }
        if all || found < enough {
            self.listed();
        }
    }

    fn look_anew(&mut self, place: usize, drawn: Drawn) -> Option<usize> {
        match self.looked.contains(&place) {
            true => None,
            false => self.look(place, drawn),
        }
    }

    /// Orders what was drawn: the winner of the contest, then the others by
    /// cost, each operator once before one comes a second time.
    fn arrange(&self, seats: &mut Vec<Ranked>, chance: &mut Chance) {
        let sort = self.wanted.preferences.sort;
        seats.sort_by_cached_key(|seat| {
            let out = seat.standing != Standing::Fits;
            (
                self.is_spare(seat),
                out,
                sorted_by(sort, &seat.terms),
                seat.terms.total,
                seat.provider,
            )
        });
        if sort.is_some() || self.wanted.preferences.only.is_some() {
            return;
        }
        let fits = |seat: &Ranked| seat.standing == Standing::Fits;
        if let Some(winner) = self.winner(seats, chance) {
            let winner = seats.remove(winner);
            seats.insert(0, winner);
        }
        // Behind it the same again: of the next two that were drawn the
        // cheaper, each operator once before one comes a second time.
        let count = seats.iter().filter(|seat| fits(seat)).count();
        let operator = |seat: &Ranked| self.shelf.at(seat.place).map(|it| it.operator);
        let drawn = |seat: &Ranked| self.looked.iter().position(|place| *place == seat.place);
        let mut operators: Vec<_> = seats.iter().take(1).map(operator).collect();
        for at in 1..count.min(RANKED) {
            let rest = || seats[at..count].iter().enumerate();
            let fresh = |(_, seat): &(usize, &Ranked)| !operators.contains(&operator(seat));
            let mut open: Vec<usize> = rest().filter(fresh).map(|(n, _)| n).collect();
            if open.is_empty() {
                open = rest().map(|(n, _)| n).collect();
            }
            // Cheaper ones stand before dearer ones: of two the first is the cheaper.
            open.sort_by_key(|n| drawn(&seats[at + n]));
            let next = open.into_iter().take(CONTEST).min().unwrap_or(0);
            let next = seats.remove(at + next);
            operators.push(operator(&next));
            seats.insert(at, next);
        }
    }

    /// Who is asked first, among seats in the order of their cost.
    fn winner(&self, seats: &mut [Ranked], chance: &mut Chance) -> Option<usize> {
        let fits = |seat: &&Ranked| seat.standing == Standing::Fits;
        let mut by_chance = 0;
        let mut competes = |seat: &Ranked| match seat.drawn {
            Drawn::Conversation | Drawn::Good => true,
            Drawn::Chance => {
                by_chance += 1;
                by_chance <= CONTEST
            }
            Drawn::Named | Drawn::Explored | Drawn::Listed => false,
        };
        // In the order in which they were drawn, not in that of their cost.
        let drawn = self.looked.iter().filter_map(|place| {
            let at = seats.iter().position(|seat| seat.place == *place)?;
            Some(at).filter(|at| fits(&&seats[*at]) && competes(&seats[*at]))
        });
        let winner = drawn
            .min()
            .or_else(|| seats.iter().position(|seat| fits(&seat)))?;
        if self.wanted.stick_to.is_some() || chance.below(1000) >= EXPLORED_PERMILLE {
            return Some(winner);
        }
        let most = seats[winner].terms.price.times(EXPLORED_PRICE);
        let is_new = |seat: &Ranked| {
            let seen = self.knowledge.seen(&seat.provider);
            seen.is_none_or(Seen::is_new) && most.is_ok_and(|most| seat.terms.price <= most)
        };
        let newcomers: Vec<usize> = (0..seats.len())
            .filter(|at| fits(&&seats[*at]) && is_new(&seats[*at]))
            .collect();
        let Some(drawn) = chance.place(newcomers.len()) else {
            return Some(winner);
        };
        seats[newcomers[drawn]].drawn = Drawn::Explored;
        Some(newcomers[drawn])
    }
}

/// What a sort looks at before the whole cost.
fn sorted_by(sort: Option<Sort>, terms: &Terms) -> u128 {
    let queued = u128::from(terms.wait_us) * (u128::from(terms.running) + 1);
    match sort {
        None => 0,
        Some(Sort::Price) => terms.price.base_units(),
        Some(Sort::Latency) => queued + u128::from(terms.trip_us) + u128::from(terms.told_us),
        Some(Sort::Throughput) => terms.token_us.into(),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use market::{Demand, Labels, Load, ModelTag, Rates, Timestamp, TokenTag, Upstream};
    use proptest::prelude::*;

    use super::*;
    use crate::cost::Worth;
    use crate::preferences::{Defaults, Preferences, Wishes};
    use crate::shelf::tests::{LABELS, listing};
    use crate::shelf::{Listing, Operator};

    const MOR: u128 = 1_000_000_000_000_000_000;
    const NO_DEMAND: Demand = Demand {
        network: None,
        payer: None,
        upstream: None,
    };

    fn at(s: u64) -> Moment {
        Moment::new(Duration::from_secs(s))
    }

    fn id(n: u64) -> Address {
        listing(n, 0).provider
    }

    /// Offers 0, 1, 2, … at the prices given, in MOR for a million tokens.
    fn shelf(prices: &[u128]) -> Shelf {
        let listings = prices.iter().enumerate();
        Shelf::new(
            listings
                .map(|(n, price)| listing(n as u64, price * MOR))
                .collect(),
        )
    }

    /// The one place that knows how a choice is asked for.
    struct Asked {
        preferences: Preferences,
        output: Option<u32>,
        stick_to: Option<Address>,
        parameters: Vec<&'static str>,
    }

    fn asked() -> Asked {
        Asked {
            preferences: Preferences::default(),
            output: None,
            stick_to: None,
            parameters: vec![],
        }
    }

    fn preferring(provider: &str) -> Asked {
        let wishes = Wishes::read(
            "m",
            Some(provider),
            None,
            (
                &Defaults::default(),
                &market::Tender::default(),
                &crate::Names::default(),
            ),
        )
        .unwrap();
        Asked {
            preferences: wishes.preferences,
            ..asked()
        }
    }

    impl Asked {
        fn choose(&self, shelf: &Shelf, knowledge: &Knowledge, rule: Rule, seed: u64) -> Choice {
            let wanted = Wanted {
                model: "m",
                input_tokens: 100,
                texts: 1,
                output_tokens_max: self.output,
                demand: &NO_DEMAND,
                preferences: &self.preferences,
                parameters: &self.parameters,
                stick_to: self.stick_to,
                worth: Worth::default(),
                wall: Timestamp(1000),
            };
            choose(shelf, knowledge, &wanted, rule, seed, at(100))
        }

        /// Who is ranked, in order.
        fn ranked(&self, shelf: &Shelf, knowledge: &Knowledge) -> Vec<usize> {
            let choice = self.choose(shelf, knowledge, Rule::Cost, 7);
            choice.ranked.iter().map(|ranked| ranked.place).collect()
        }

        /// How often each is first, of a thousand seeds.
        fn first(&self, shelf: &Shelf, knowledge: &Knowledge) -> Vec<u32> {
            let mut times = vec![0; shelf.len()];
            for seed in 0..1000 {
                let choice = self.choose(shelf, knowledge, Rule::Cost, seed);
                times[choice.ranked[0].place] += 1;
            }
            times
        }
    }

    /// Who answered thirty times, with this time to the first token.
    fn answering(knowledge: &mut Knowledge, n: u64, first: Duration) {
        for _ in 0..30 {
            knowledge.begun(id(n));
            knowledge.first("m", id(n), first, at(90));
            knowledge.spoke(id(n), 100, Duration::from_secs(2), at(90));
            knowledge.answered(id(n));
            knowledge.ended(id(n));
        }
    }

    #[test]
    fn of_equals_the_cheaper_is_asked_first_but_for_a_few_explorations() {
        let shelf = shelf(&[30, 10, 20]);
        assert_eq!(asked().ranked(&shelf, &Knowledge::default()), [1, 2, 0]);
        let times = asked().first(&shelf, &Knowledge::default());
        assert!(times[1] > 600 && 2 * times[1] > 3 * times[2], "{times:?}");
        assert!(
            times[0] < 10,
            "two of three compete: the worst wins only when explored, {times:?}"
        );
    }

    #[test]
    fn a_faster_provider_is_worth_a_higher_price_and_a_busy_one_is_not() {
        let shelf = shelf(&[10, 11]);
        let mut knowledge = Knowledge::default();
        answering(&mut knowledge, 0, Duration::from_secs(5));
        answering(&mut knowledge, 1, Duration::from_millis(200));
        assert_eq!(asked().ranked(&shelf, &knowledge), [1, 0]);
        for _ in 0..100 {
            knowledge.begun(id(1));
        }
        assert_eq!(asked().ranked(&shelf, &knowledge), [0, 1]);
    }

    #[test]
    fn every_term_is_told_and_they_add_up() {
        let shelf = shelf(&[10]);
        let mut knowledge = Knowledge::default();
        knowledge.taken(id(0), Duration::from_millis(50));
        answering(&mut knowledge, 0, Duration::from_millis(250));
        knowledge.begun(id(0));
        knowledge.told(id(0), Duration::from_secs(9), at(99));
        let choice = asked().choose(&shelf, &knowledge, Rule::Cost, 1);
        let terms = &choice.ranked[0].terms;
        assert_eq!(
            (terms.wait_us, terms.trip_us, terms.token_us),
            (200_000, 50_000, 20_000)
        );
        assert_eq!(
            terms.told_us, 200_000,
            "its own word at most doubles the wait"
        );
        let seconds = 200_000 * 2 + 200_000 + 50_000 + 256 * 20_000;
        assert_eq!(
            terms.time.base_units(),
            seconds * 500_000_000_000_000 / 1_000_000
        );
        assert_eq!(terms.price.base_units(), 356 * 10 * MOR / 1_000_000);
        let sum = terms.time.base_units() + terms.price.base_units() + terms.risk.base_units();
        assert_eq!(terms.total.base_units(), sum);
        let text = serde_json::to_string(&choice).unwrap();
        for term in [
            "wait_us",
            "running",
            "trip_us",
            "price",
            "risk",
            "quality_permille",
        ] {
            assert!(text.contains(term), "{text}");
        }
    }

    fn telling(knowledge: &mut Knowledge, n: u64, free_slots: u16, wait_ms: Option<u32>) {
        let load = Load {
            model: ModelTag([0; 4]),
            free_slots,
            wait_ms,
            token: TokenTag([0; 4]),
            rates: Rates {
                input_per_million: Amount::ZERO,
                output_per_million: Amount::ZERO,
            },
        };
        let other = Load {
            model: ModelTag([1; 4]),
            free_slots: 0,
            wait_ms: None,
            ..load
        };
        knowledge.told_load(id(n), vec![other, load], Duration::from_secs(1), at(100));
    }

    #[test]
    fn who_says_that_it_takes_nothing_is_asked_last_while_that_is_fresh() {
        let shelf = shelf(&[10, 20, 30]);
        let mut knowledge = Knowledge::default();
        telling(&mut knowledge, 0, 0, None);
        for seed in 0..1000 {
            let choice = asked().choose(&shelf, &knowledge, Rule::Cost, seed);
            let last = choice.ranked.last().unwrap();
            assert_eq!(last.place, 0, "seed {seed}");
            assert_eq!(last.standing, Standing::LastResort(Misfit::Full));
        }
        // It is free again; or its word has grown old.
        let mut free = knowledge.clone();
        telling(&mut free, 0, 1, Some(0));
        assert!(asked().first(&shelf, &free)[0] > 600);
        assert!(knowledge.load(shelf.at(0).unwrap(), at(100)).is_some());
        assert!(knowledge.load(shelf.at(0).unwrap(), at(101)).is_none());
        // Where all say so, all are asked.
        for n in 1..3 {
            telling(&mut knowledge, n, 0, None);
        }
        assert_eq!(asked().ranked(&shelf, &knowledge).len(), 3);
    }

    #[test]
    fn who_lies_about_its_load_wins_nothing_and_loses_a_second_wait_at_most() {
        let shelf = shelf(&[10, 10]);
        let mut knowledge = Knowledge::default();
        for n in 0..2 {
            answering(&mut knowledge, n, Duration::from_secs(1));
        }
        let terms = |knowledge: &Knowledge| {
            let choice = asked().choose(&shelf, knowledge, Rule::Cost, 1);
            let own = choice.ranked.into_iter().find(|seat| seat.place == 0);
            own.unwrap().terms
        };
        let silent = terms(&knowledge);
        let first = asked().first(&shelf, &knowledge);
        // To be free without end is worth as much as to say nothing.
        telling(&mut knowledge, 0, u16::MAX, Some(0));
        assert_eq!(terms(&knowledge), silent);
        assert_eq!(asked().first(&shelf, &knowledge), first);
        // A queue without end counts as one wait.
        telling(&mut knowledge, 0, 0, Some(u32::MAX - 1));
        let queued = terms(&knowledge);
        assert_eq!(queued.told_us, silent.wait_us);
        let seconds = |terms: &Terms| terms.time.base_units() / 500_000_000_000;
        assert_eq!(seconds(&queued) - seconds(&silent), 1000);
        // What is told of another model says nothing of this one.
        knowledge.told_load(id(0), vec![], Duration::from_secs(1), at(100));
        assert_eq!(terms(&knowledge), silent);
    }

    #[test]
    fn a_conversation_stays_where_it_is_unless_that_is_out() {
        let shelf = shelf(&[20, 10, 10, 10]);
        let mut knowledge = Knowledge::default();
        for n in 0..4 {
            answering(&mut knowledge, n, Duration::from_millis(200));
        }
        let sticky = Asked {
            stick_to: Some(id(0)),
            ..asked()
        };
        let choice = sticky.choose(&shelf, &knowledge, Rule::Cost, 1);
        assert_eq!(choice.ranked[0].place, 0, "{choice:?}");
        assert_eq!(choice.ranked[0].drawn, Drawn::Conversation);
        knowledge.failed(id(0), at(99));
        let ranked = sticky.ranked(&shelf, &knowledge);
        assert_eq!(ranked.last(), Some(&0), "{ranked:?}");
        assert_eq!(ranked.len(), 4);
    }

    #[test]
    fn who_is_out_is_the_last_resort_and_says_why() {
        let shelf = shelf(&[1, 2, 3]);
        let mut knowledge = Knowledge::default();
        knowledge.failed(id(0), at(99));
        knowledge.busy(id(1), Duration::from_secs(5), at(99));
        let choice = asked().choose(&shelf, &knowledge, Rule::Cost, 1);
        let standing: Vec<_> = choice.ranked.iter().map(|seat| &seat.standing).collect();
        let failed = Misfit::Failed {
            times: 1,
            wait_ms: 1000,
        };
        let busy = Misfit::Busy { wait_ms: 4000 };
        assert_eq!(*standing[0], Standing::Fits);
        assert!(standing.contains(&&Standing::LastResort(failed)));
        assert!(standing.contains(&&Standing::LastResort(busy)));
        knowledge.failed(id(2), at(99));
        let choice = asked().choose(&shelf, &knowledge, Rule::Cost, 1);
        assert_eq!(choice.ranked.len(), 3);
        assert_eq!(choice.reason(), "nobody better is left");
    }

    #[test]
    fn who_has_no_card_is_asked_when_nobody_is_left_who_has_it() {
        let mut listings: Vec<_> = (0..4).map(|n| listing(n, (n as u128 + 1) * MOR)).collect();
        let card = Some(market::CardId(market::B256::ZERO));
        (listings[2].card, listings[3].card) = (card, card);
        let shelf = Shelf::new(listings);
        let mut knowledge = Knowledge::default();
        knowledge.failed(id(2), at(99));
        for asked in [
            asked(),
            preferring(r#"{"sort":"price"}"#),
            preferring(&format!(r#"{{"order":["{}"]}}"#, id(0))),
            Asked {
                stick_to: Some(id(0)),
                ..asked()
            },
        ] {
            let choice = asked.choose(&shelf, &knowledge, Rule::Cost, 1);
            let ranked: Vec<_> = choice.ranked.iter().map(|seat| seat.place).collect();
            assert_eq!(ranked, [3, 2, 0, 1], "{:?}", asked.preferences);
            let last = &choice.ranked[3];
            assert_eq!(last.standing, Standing::LastResort(Misfit::Cardless));
            assert_eq!((last.card, choice.ranked[0].card), (None, card));
        }
        // Where nobody has a card that is no drawback.
        let plain = asked().choose(&self::shelf(&[1]), &Knowledge::default(), Rule::Cost, 1);
        assert_eq!(plain.ranked[0].standing, Standing::Fits);
    }

    #[test]
    fn what_must_not_be_asked_is_not_ranked_and_says_why() {
        let spoil: [fn(&mut Listing); 5] = [
            |listing| listing.reachable = false,
            |listing| listing.expires_at = Timestamp(1000),
            |listing| {
                listing.labels = Labels {
                    upstream: Upstream::ThirdParty,
                    ..LABELS
                }
            },
            |listing| listing.rates.output_per_million = Amount::new(3 * MOR),
            |listing| listing.quantization = Some(crate::Quantization::Int4),
        ];
        let listings = spoil.iter().enumerate().map(|(n, spoil)| {
            let mut listing = listing(n as u64, MOR);
            listing.quantization = Some(crate::Quantization::Fp8);
            spoil(&mut listing);
            listing
        });
        let mut good = listing(5, MOR);
        good.quantization = Some(crate::Quantization::Fp8);
        let shelf = Shelf::new(listings.chain([good, listing(6, MOR)]).collect());
        let strict = preferring(
            r#"{"data_collection":"deny","max_price":{"completion":2},"quantizations":["fp8"]}"#,
        );
        let choice = strict.choose(&shelf, &Knowledge::default(), Rule::Cost, 1);
        let ranked: Vec<_> = choice.ranked.iter().map(|seat| seat.place).collect();
        assert_eq!(ranked, [5]);
        let reasons: std::collections::BTreeSet<String> = choice
            .unfit
            .iter()
            .map(|unfit| unfit.misfit.to_string())
            .collect();
        for reason in [
            "address or key",
            "expired",
            "upstream=own-engine is demanded",
            "above the cap 2000000000000000000",
            "precision is int4",
            "precision is unknown",
        ] {
            assert!(
                reasons.iter().any(|told| told.contains(reason)),
                "{reason}: {reasons:?}"
            );
        }
        for rule in [Rule::Random, Rule::RoundRobin { turn: 0 }, Rule::Morpheus] {
            let choice = strict.choose(&shelf, &Knowledge::default(), rule, 1);
            assert!(choice.ranked.iter().all(|seat| seat.place == 5), "{rule:?}");
        }
    }

    #[test]
    fn fields_that_are_not_heeded_and_answers_that_are_too_long_or_dear_count() {
        let mut heeds = listing(0, MOR);
        heeds.parameters = Some(vec!["tools".into()]);
        heeds.output_tokens_max = Some(100);
        let shelf = Shelf::new(vec![heeds, listing(1, MOR)]);
        let mut strict = preferring(r#"{"require_parameters":true}"#);
        strict.parameters = vec!["tools"];
        assert_eq!(strict.ranked(&shelf, &Knowledge::default()), [0]);
        let long = Asked {
            output: Some(200),
            ..asked()
        };
        assert_eq!(long.ranked(&shelf, &Knowledge::default()), [1]);
        let poor = preferring(r#"{"max_price":{"request":0.000355}}"#);
        assert_eq!(poor.ranked(&shelf, &Knowledge::default()), [0_usize; 0]);
    }

    #[test]
    fn names_are_heeded() {
        let shelf = shelf(&[40, 30, 20, 10]);
        let none = Knowledge::default();
        let name = |n| format!("\"{}\"", id(n));
        let order = format!("[{},{}]", name(0), name(2));
        let ordered = preferring(&format!(r#"{{"order":{order}}}"#));
        assert_eq!(ordered.ranked(&shelf, &none)[..2], [0, 2]);
        assert_eq!(ordered.ranked(&shelf, &none).len(), 4);
        let strict = preferring(&format!(r#"{{"order":{order},"allow_fallbacks":false}}"#));
        assert_eq!(strict.ranked(&shelf, &none), [0, 2]);
        let only = preferring(&format!(r#"{{"only":{order}}}"#));
        assert_eq!(only.ranked(&shelf, &none), [2, 0]);
        let ignoring = preferring(&format!(r#"{{"ignore":{order}}}"#));
        assert_eq!(ignoring.ranked(&shelf, &none), [3, 1]);
        let alone = preferring(r#"{"allow_fallbacks":false}"#);
        assert_eq!(alone.ranked(&shelf, &none).len(), 1);
        let stranger = preferring(&format!(r#"{{"only":[{}]}}"#, name(9)));
        let choice = stranger.choose(&shelf, &none, Rule::Cost, 1);
        assert_eq!(choice.unfit[0].misfit, Misfit::NotSold);
        assert_eq!(choice.reason(), "nobody fits");
    }

    #[test]
    fn sorting_is_strict() {
        let shelf = shelf(&[30, 10, 20]);
        let mut knowledge = Knowledge::default();
        for (n, ms) in [(0, 100), (1, 900), (2, 500)] {
            answering(&mut knowledge, n, Duration::from_millis(ms));
        }
        knowledge.spoke(id(2), 1000, Duration::from_secs(1), at(91));
        let by = |sort: &str| {
            let sorted = preferring(&format!(r#"{{"sort":"{sort}"}}"#));
            for seed in 0..50 {
                let choice = sorted.choose(&shelf, &knowledge, Rule::Cost, seed);
                assert_eq!(choice.ranked[0].place, sorted.ranked(&shelf, &knowledge)[0]);
            }
            sorted.ranked(&shelf, &knowledge)
        };
        assert_eq!(by("price"), [1, 2, 0]);
        assert_eq!(by("latency"), [0, 2, 1]);
        assert_eq!(by("throughput")[0], 2);
    }

    #[test]
    fn the_next_one_asked_belongs_to_somebody_else() {
        let listings = (0..6).map(|n| Listing {
            operator: Operator(u64::from(n > 3)),
            ..listing(n, MOR + u128::from(n))
        });
        let shelf = Shelf::new(listings.collect());
        for seed in 0..100 {
            let choice = asked().choose(&shelf, &Knowledge::default(), Rule::Cost, seed);
            let operators: Vec<_> = choice.ranked[..2]
                .iter()
                .map(|seat| seat.place > 3)
                .collect();
            assert_ne!(operators[0], operators[1], "seed {seed}");
        }
    }

    #[test]
    fn on_a_long_shelf_a_handful_is_weighed_and_somebody_is_always_found() {
        let mut prices = vec![20; 5000];
        prices[4321] = 1;
        let shelf = shelf(&prices);
        let choice = asked().choose(&shelf, &Knowledge::default(), Rule::Cost, 1);
        assert!(
            (4..=12).contains(&choice.ranked.len()),
            "{}",
            choice.ranked.len()
        );
        let cheap = preferring(r#"{"max_price":{"prompt":2,"completion":2}}"#);
        assert_eq!(cheap.ranked(&shelf, &Knowledge::default()), [4321]);
        let floor = preferring(r#"{"sort":"price"}"#);
        assert_eq!(floor.ranked(&shelf, &Knowledge::default())[0], 4321);
    }

    #[test]
    fn who_was_good_lately_is_remembered_on_a_long_shelf() {
        let shelf = shelf(&[20; 5000]);
        let mut knowledge = Knowledge::default();
        answering(&mut knowledge, 17, Duration::from_millis(50));
        let times = asked().first(&shelf, &knowledge);
        assert!((930..1000).contains(&times[17]), "{}", times[17]);
    }

    #[test]
    fn taking_turns_takes_turns() {
        let shelf = shelf(&[1, 2, 3]);
        for turn in 0..6 {
            let rule = Rule::RoundRobin { turn };
            let choice = asked().choose(&shelf, &Knowledge::default(), rule, 0);
            assert_eq!(choice.ranked[0].place as u64, turn % 3);
        }
    }

    #[test]
    fn morpheus_rating_is_what_the_reference_says() {
        let first = |prices: &[u128], knowledge: &Knowledge| {
            let choice = asked().choose(&shelf(prices), knowledge, Rule::Morpheus, 0);
            choice.ranked[0].place
        };
        let mut knowledge = Knowledge::default();
        assert_eq!(first(&[20, 10, 30], &knowledge), 1);
        // A stake of 1 MOR: 0.12 * 0.8 / 1.8 = 0.0533. Nothing known: 0.3333 / 10.
        // Always a success, and average otherwise: 0.6533, over 19 more, over 20 less.
        answering(&mut knowledge, 0, Duration::from_millis(100));
        assert_eq!(first(&[20, 10, 30], &knowledge), 1);
        assert_eq!(first(&[19, 10, 30], &knowledge), 0);
    }

    proptest! {
        #[test]
        fn whatever_is_known_nobody_is_asked_twice_and_the_same_comes_out_again(
            prices in prop::collection::vec(1_u128..50, 0..100),
            deeds in prop::collection::vec((0_u64..100, 0_u8..6, 0_u64..5000), 0..200),
            seed in any::<u64>(),
            sort in prop::option::of(0_usize..3),
        ) {
            let shelf = shelf(&prices);
            let mut knowledge = Knowledge::default();
            for (n, deed, ms) in deeds {
                let (now, time) = (Moment::new(Duration::from_millis(ms * 20)), Duration::from_millis(ms));
                match deed {
                    0 => knowledge.begun(id(n)),
                    1 => knowledge.first("m", id(n), time, now),
                    2 => knowledge.failed(id(n), now),
                    3 => knowledge.busy(id(n), time, now),
                    4 => knowledge.taken(id(n), time),
                    _ => knowledge.ended(id(n)),
                }
            }
            let sort = sort.map(|n| [Sort::Price, Sort::Throughput, Sort::Latency][n]);
            let preferences = Preferences { sort, ..Preferences::default() };
            let asked = Asked { preferences, ..asked() };
            for rule in [Rule::Cost, Rule::Morpheus, Rule::Random, Rule::RoundRobin { turn: seed }] {
                let choice = asked.choose(&shelf, &knowledge, rule, seed);
                prop_assert_eq!(&choice, &asked.choose(&shelf, &knowledge, rule, seed));
                let mut places: Vec<_> = choice.ranked.iter().map(|seat| seat.place).collect();
                prop_assert_eq!(places.is_empty(), prices.is_empty());
                if rule == Rule::Cost && prices.len() <= ALL_MAX {
                    prop_assert_eq!(places.len(), prices.len());
                }
                places.sort_unstable();
                places.dedup();
                prop_assert_eq!(places.len(), choice.ranked.len());
            }
        }
    }
}
