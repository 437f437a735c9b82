//! The town: everybody in one process, on virtual time and one seed.
//!
//! One queue holds what is going to happen, in an order that the seed decides.
//! A node may die at every effect: before a line goes to its disk, a message
//! out, a voucher under its key, a transaction to the chain. After each event
//! the invariants are checked where something happened.

use std::collections::BTreeMap;
use std::time::Duration;

use chain::sender::machine::Ticket;
use market::{
    Address, Amount, ChannelId, ChannelState, MemoryLedger, Moment, MoveId, Receiver, RequestId,
    Timestamp, TxHash,
};

use crate::chain::{Chain, Tx};
use crate::consumer::{CHANNEL_MAX, Consumer};
use crate::disk::{Book, Disk, Told};
use crate::exit::Leaver;
use crate::misfortune::Misfortune;
use crate::oracle::Oracle;
use crate::people;
use crate::plan::{Fault, Plan, Wish};
use crate::provider::Provider;
use crate::random::Random;
use crate::telling::{About, Line};
use crate::trace::{Tally, Trace};
use crate::wire::{Cut, Message, Side, Stream, StreamId};

/// When the story begins, on the wall.
const START_S: u64 = 1_800_000_000;
/// What every consumer has in the beginning.
const GRANT: Amount = Amount::new(50_000);
/// After the faults, everything settles within so long.
pub(crate) const SETTLE_MS: u64 = 60_000;
/// More events than any story has: one that goes on for ever is stopped.
const EVENTS_MAX: u64 = 400_000;

/// Who has keys, a disk and a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Consumer(usize),
    Provider(usize),
}

/// Who waits for a line to be on the disk.
#[derive(Debug, Clone)]
pub(crate) enum Token {
    Opened {
        provider: usize,
    },
    Asked {
        request: RequestId,
        id: MoveId,
    },
    Ceiling {
        request: RequestId,
        id: MoveId,
    },
    Booked {
        request: RequestId,
        id: MoveId,
        failure: Option<String>,
    },
    Late {
        provider: usize,
        id: MoveId,
        request: RequestId,
    },
    Sent,
    Till {
        channel: ChannelId,
    },
}

/// What a node asks its RPC endpoint.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Channel(ChannelId),
    Price(Ticket),
    Look(BTreeMap<u64, Vec<TxHash>>),
    HandIn(Box<Tx>),
    Receiver,
}

/// What a node waits for by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timer {
    Silence(RequestId),
    Mend(usize),
    MendAgain(usize, StreamId),
    Look,
    Tick,
    Patience(Ticket),
    Chunk(RequestId),
    Alive(RequestId),
    Flush(ChannelId),
    Reread(ChannelId),
    Claims,
}

/// Everything that can happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Heard {
        id: StreamId,
        to: Side,
        message: Message,
    },
    Broke {
        id: StreamId,
        side: Side,
    },
    Synced {
        who: Who,
        life: u64,
    },
    Replied {
        who: Who,
        life: u64,
        ask: Ask,
    },
    Timer {
        who: Who,
        life: u64,
        timer: Timer,
    },
    Mine,
    Wish(usize),
    Misfortune(Misfortune),
    Calm,
    Settled,
    Leave(usize),
    End,
}

/// A client of a gateway.
pub(crate) struct Client {
    pub(crate) wish: Wish,
    pub(crate) begun: bool,
    pub(crate) tried: usize,
    pub(crate) request: Option<RequestId>,
    pub(crate) tokens: u32,
    pub(crate) problem: Option<String>,
    pub(crate) told: Option<Result<(), String>>,
}

impl Client {
    pub(crate) fn is_open(&self) -> bool {
        self.begun && self.told.is_none()
    }
}

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: u8,
    /// What was seen.
    pub problem: String,
    /// When, in the story.
    pub at_ms: u64,
}

/// The whole world.
pub(crate) struct Town {
    pub(crate) plan: Plan,
    pub(crate) now_ms: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub(crate) next_stream: StreamId,
    pub(crate) dice: Random,
    pub(crate) chain: Chain,
    pub(crate) mining: bool,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) leavers: Vec<Leaver>,
    pub(crate) relay_up: Vec<bool>,
    pub(crate) relay_lives: Vec<u64>,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) calm: bool,
    pub(crate) over: bool,
    pub(crate) violation: Option<Violation>,
    /// What happened, in words, if the plan asks for it.
    pub(crate) lines: Vec<Line>,
}

impl Town {
    /// The town of a plan, before anything happened.
    pub(crate) fn new(plan: Plan) -> Self {
        let ledger = MemoryLedger::new(people::DOMAIN, people::MOR, Timestamp(START_S));
        for at in 0..plan.consumers.len() {
            let owner = people::wallet(at).address();
            // An empty book takes it.
            let _ = ledger.mint(people::MOR, owner, GRANT);
        }
        let consumers = plan.consumers.iter().map(|kind| Consumer {
            kind: *kind,
            disk: Disk::default(),
            life: 0,
            clock_s: 0,
            live: None,
            asked: 0,
        });
        let providers = plan.providers.iter().map(|kind| Provider {
            kind: *kind,
            disk: Disk::default(),
            life: 0,
            clock_s: 0,
            live: None,
        });
        let mut chain = Chain::new(ledger, START_S);
        chain.strict = plan.seed % 2 == 1;
        let client = |wish: &Wish| Client {
            wish: *wish,
            begun: false,
            tried: 0,
            request: None,
            tokens: 0,
            problem: None,
            told: None,
        };
        Self {
            now_ms: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            next_stream: 0,
            dice: Random::new(plan.seed).apart(2),
            chain,
            mining: false,
            consumers: consumers.collect(),
            providers: providers.collect(),
            leavers: vec![],
            relay_up: vec![true; plan.relays],
            relay_lives: vec![0; plan.relays],
            streams: BTreeMap::new(),
            cuts: vec![],
            clients: plan.wishes.iter().map(client).collect(),
            oracle: Oracle::default(),
            tally: Tally::default(),
            trace: Trace::default(),
            calm: false,
            over: false,
            violation: None,
            lines: vec![],
            plan,
        }
    }

    /// The whole story.
    pub(crate) fn run(&mut self) {
        for at in 0..self.providers.len() {
            self.provider_starts(at);
        }
        for at in 0..self.consumers.len() {
            self.consumer_starts(at);
        }
        for at in 0..self.clients.len() {
            self.at(self.clients[at].wish.at_ms, Event::Wish(at));
        }
        self.misfortunes();
        self.at(self.plan.calm_ms, Event::Calm);
        self.at(self.plan.calm_ms + SETTLE_MS, Event::Settled);
        while self.violation.is_none() && !self.over {
            let Some(((at_ms, _), event)) = self.queue.pop_first() else {
                break;
            };
            self.now_ms = at_ms;
            self.tally.events += 1;
            if self.tally.events > EVENTS_MAX {
                return self.violate(4, "the story does not come to an end".to_owned());
            }
            self.trace.event(at_ms, &event);
            self.note_event(&event);
            self.happen(event);
            self.check();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Heard { id, to, message } => self.heard(id, to, message),
            Event::Broke { id, side } => self.broke(id, side),
            Event::Synced { who, life } => self.synced(who, life),
            Event::Replied { who, life, ask } => self.replied(who, life, ask),
            Event::Timer { who, life, timer } if self.lives(who, Some(life)) => {
                self.rings(who, timer);
            }
            Event::Timer { .. } => {}
            Event::Mine => self.mine(),
            Event::Wish(client) => {
                self.clients[client].begun = true;
                self.wish(client);
            }
            Event::Misfortune(misfortune) => self.strikes(misfortune),
            Event::Calm => self.calms_down(),
            Event::Settled => self.settled(),
            Event::Leave(at) => self.leave_town(at),
            Event::End => self.ends(),
        }
    }

    fn rings(&mut self, who: Who, timer: Timer) {
        match (who, timer) {
            (_, Timer::Tick) => self.tick(who),
            (_, Timer::Patience(ticket)) => self.patience_ends(who, ticket),
            (Who::Consumer(at), Timer::Look) => self.consumer_looks(at),
            (Who::Consumer(at), Timer::Silence(request)) => self.silence(at, request),
            (Who::Consumer(at), Timer::Mend(provider)) => self.mend(at, provider),
            (Who::Consumer(at), Timer::MendAgain(provider, stream)) => {
                self.mend_again(at, provider, stream);
            }
            (Who::Provider(at), Timer::Chunk(request)) => self.chunk(at, request),
            (Who::Provider(at), Timer::Alive(request)) => self.alive(at, request),
            (Who::Provider(at), Timer::Flush(id)) => self.flush_again(at, id),
            (Who::Provider(at), Timer::Reread(id)) => self.reread(at, id),
            (Who::Provider(at), Timer::Claims) => self.claims(at),
            _ => {}
        }
    }

    /// Something will happen then.
    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.queue
            .insert((at_ms.max(self.now_ms), self.next_event), event);
        self.next_event += 1;
    }

    /// Something will happen so much later.
    pub(crate) fn after(&mut self, wait_ms: u64, event: Event) {
        self.at(self.now_ms.saturating_add(wait_ms), event);
    }

    /// A node will be woken so much later, if it lives on.
    pub(crate) fn timer(&mut self, who: Who, wait_ms: u64, timer: Timer) {
        let life = self.life(who);
        self.after(wait_ms, Event::Timer { who, life, timer });
    }

    /// Time that never goes back.
    pub(crate) fn moment(&self) -> Moment {
        Moment::new(Duration::from_millis(self.now_ms))
    }

    /// Time on a node's wall.
    pub(crate) fn clock(&self, who: Who) -> Timestamp {
        let off = match who {
            Who::Consumer(at) => self.consumers[at].clock_s,
            Who::Provider(at) => self.providers[at].clock_s,
        };
        Timestamp(self.true_s().saturating_add_signed(off))
    }

    /// Time on every honest wall.
    pub(crate) fn true_s(&self) -> u64 {
        START_S + self.now_ms / 1_000
    }

    pub(crate) fn life(&self, who: Who) -> u64 {
        match who {
            Who::Consumer(at) => self.consumers[at].life,
            Who::Provider(at) => self.providers[at].life,
        }
    }

    pub(crate) fn account(&self, who: Who) -> Address {
        match who {
            Who::Consumer(at) => people::wallet(at).address(),
            Who::Provider(at) => people::seller(at).address(),
        }
    }

    /// Whether a node is up, in this life if one is named.
    pub(crate) fn lives(&self, who: Who, life: Option<u64>) -> bool {
        let up = match who {
            Who::Consumer(at) => self.consumers[at].live.is_some(),
            Who::Provider(at) => self.providers[at].live.is_some(),
        };
        up && life.is_none_or(|life| life == self.life(who))
    }

    /// Whether a fault comes about now, so many times in ten thousand. The
    /// dice are rolled in any case, so that a fault that is left out moves
    /// nothing else.
    pub(crate) fn happens(&mut self, fault: Fault, in_ten_thousand: u64) -> bool {
        let drawn = self.dice.chance(in_ten_thousand);
        let happens = drawn && !self.calm && self.plan.has(fault);
        if happens {
            self.tally.fault(fault);
        }
        happens
    }

    /// A node is about to do something that others can see. False: it died.
    pub(crate) fn effect(&mut self, who: Who) -> bool {
        if !self.lives(who, None) {
            return false;
        }
        self.tally.effects += 1;
        if self.happens(Fault::CrashAtEffect, 25) {
            self.crash(who);
            return false;
        }
        true
    }

    /// Hands lines to a node's disk. False: the node died.
    pub(crate) fn append(
        &mut self,
        who: Who,
        book: Book,
        lines: Vec<String>,
        token: Token,
    ) -> bool {
        if !self.effect(who) {
            return false;
        }
        let starts = self.disk(who).append(book, lines, token);
        if starts {
            self.group(who);
        }
        true
    }

    fn group(&mut self, who: Who) {
        let wait = self.dice.within(1..25);
        let life = self.life(who);
        self.after(wait, Event::Synced { who, life });
    }

    pub(crate) fn disk(&mut self, who: Who) -> &mut Disk<Token> {
        match who {
            Who::Consumer(at) => &mut self.consumers[at].disk,
            Who::Provider(at) => &mut self.providers[at].disk,
        }
    }

    fn synced(&mut self, who: Who, life: u64) {
        if !self.lives(who, Some(life)) {
            return;
        }
        if self.happens(Fault::TornWrite, 40) {
            return self.crash(who);
        }
        let mut dice = self.dice.clone();
        let (told, again) = self.disk(who).synced(&mut dice);
        self.dice = dice;
        let broken = self.disk(who).is_broken();
        if again {
            self.group(who);
        }
        for told in told.iter().filter(|told| told.kept) {
            self.oracle.synced(who, told.book, &told.lines);
        }
        for Told { token, written, .. } in told {
            if !self.lives(who, Some(life)) {
                return;
            }
            match who {
                Who::Consumer(at) => self.consumer_written(at, token, written),
                Who::Provider(at) => self.provider_written(at, token, written),
            }
        }
        if broken && self.lives(who, Some(life)) {
            // Its operator sees to the disk and starts it again.
            let wait = self.dice.within(500..4_000);
            self.after(wait, Event::Misfortune(Misfortune::Crash(who)));
        }
    }

    /// A node asks its RPC endpoint.
    pub(crate) fn question(&mut self, who: Who, ask: Ask) {
        let wait = self.dice.within(5..120);
        let life = self.life(who);
        self.after(wait, Event::Replied { who, life, ask });
    }

    fn replied(&mut self, who: Who, life: u64, ask: Ask) {
        // What was handed in is on its way, whatever became of who did.
        if !self.lives(who, Some(life)) && !matches!(ask, Ask::HandIn(_)) {
            return;
        }
        let mut depth = 0;
        let mut fails = None;
        if self.happens(Fault::RpcTimeout, 400) {
            fails = Some("no answer in time");
        } else if self.happens(Fault::RpcLimited, 300) {
            fails = Some("429: too many requests");
        } else if self.happens(Fault::RpcWrongChain, 150) {
            fails = Some("the endpoint is on another chain");
        } else if self.happens(Fault::RpcStale, 400) {
            depth = self.dice.place(12);
        }
        let account = self.account(who);
        match ask {
            Ask::Channel(id) => {
                let read = self.reply(fails, |chain| {
                    chain.channel(id, depth).map_err(|e| e.to_string())
                });
                match who {
                    Who::Consumer(at) => self.consumer_read(at, id, read),
                    Who::Provider(at) => self.provider_read(at, id, read),
                }
            }
            Ask::Price(ticket) => {
                let read = self.reply(fails, |chain| Ok(chain.pending(account, depth)));
                self.priced(who, ticket, read);
            }
            Ask::Look(wanted) => {
                let depths = self.sight(depth);
                let read = self.reply(fails, |chain| Ok(chain.look(account, &wanted, depths)));
                self.looked(who, read);
            }
            Ask::HandIn(tx) => self.handed_in(who, life, *tx, fails.is_some()),
            Ask::Receiver => {
                let read = self.reply(fails, |chain| {
                    chain
                        .receiver(account, people::MOR)
                        .map_err(|e| e.to_string())
                });
                if let Who::Provider(at) = who {
                    self.owed(at, read);
                }
            }
        }
    }

    fn reply<T>(
        &self,
        fails: Option<&str>,
        read: impl FnOnce(&Chain) -> Result<T, String>,
    ) -> Result<T, String> {
        match fails {
            Some(problem) => Err(problem.to_owned()),
            None => read(&self.chain),
        }
    }

    fn mine(&mut self) {
        match self.chain.mine(self.true_s()) {
            Ok(0) => {}
            Ok(_) => self.note_block(),
            Err(broken) => return self.violate(1, broken.to_string()),
        }
        self.chain_moved();
        self.mining = self.chain.waiting() > 0 || !self.calm;
        if self.mining {
            self.after(1_000, Event::Mine);
        }
    }

    /// What the chain holds is added up anew.
    pub(crate) fn chain_moved(&mut self) {
        let ledger = self.chain.ledger();
        if let Err(broken) = ledger.audit() {
            return self.violate(1, broken.to_string());
        }
        let minted = GRANT.times(u128::try_from(self.consumers.len()).unwrap_or(u128::MAX));
        let issued = ledger.issued(people::MOR);
        if Ok(issued) != minted {
            return self.violate(
                1,
                format!("{issued} base units exist, {minted:?} were minted"),
            );
        }
        for consumer in 0..self.consumers.len() {
            for provider in 0..self.providers.len() {
                let id = people::channel_id(consumer, provider);
                let state: ChannelState = self.chain.channel(id, 0).unwrap_or_default();
                if !state.balance.is_zero() || !state.total_claimed.is_zero() {
                    let money = self.oracle.money(id);
                    money.escrow = money.escrow.max(state.balance);
                    if state.total_claimed > money.signed
                        && self.consumers[consumer].kind.is_honest()
                    {
                        let (claimed, signed) = (state.total_claimed, money.signed);
                        self.violate(2, format!("{claimed} claimed, {signed} signed"));
                    }
                }
            }
        }
    }

    /// Whether what happened left everything within its bounds.
    fn check(&mut self) {
        let touched = std::mem::take(&mut self.oracle.touched);
        let mut last = None;
        for id in touched {
            if last == Some(id) {
                continue;
            }
            last = Some(id);
            let Some((consumer, provider)) = people::parties(id) else {
                continue;
            };
            let honest = (
                self.consumers[consumer].kind.is_honest(),
                self.providers[provider].kind.is_honest(),
            );
            if let Err((invariant, problem)) = self.oracle.check(id, honest.0, honest.1) {
                self.violate(
                    invariant,
                    format!("consumer {consumer}, provider {provider}: {problem}"),
                );
            }
        }
    }

    /// A client learns how it went.
    pub(crate) fn tell(&mut self, client: usize, outcome: Result<RequestId, String>) {
        if self.clients[client].told.is_some() {
            return;
        }
        self.note(About::People, || match &outcome {
            Ok(_) => format!("request {client}: answered"),
            Err(problem) => format!("request {client}: an explicit error, {problem}"),
        });
        self.trace.number(u128::from(outcome.is_ok()));
        match outcome {
            Ok(_) => self.tally.answers += 1,
            Err(_) => self.tally.errors += 1,
        }
        self.clients[client].told = Some(outcome.map(drop));
    }

    /// A rule does not hold. The first one counts.
    pub(crate) fn violate(&mut self, invariant: u8, problem: String) {
        let at_ms = self.now_ms;
        self.violation.get_or_insert(Violation {
            invariant,
            problem,
            at_ms,
        });
    }

    /// What a receiver is owed, as the chain has it.
    pub(crate) fn earnings(&self, provider: usize) -> Receiver {
        let account = people::seller(provider).address();
        self.chain
            .receiver(account, people::MOR)
            .unwrap_or_default()
    }
}

const _: () = assert!(CHANNEL_MAX.base_units() < GRANT.base_units());

/// What a story was.
#[derive(Debug, Clone)]
pub struct Story {
    /// Its counts.
    pub tally: Tally,
    /// All that happened, in one number.
    pub trace: [u8; 32],
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
    /// What happened, line by line, if the plan asked for it.
    pub lines: Vec<Line>,
}

/// Plays a plan through.
pub fn play(plan: &Plan) -> Story {
    let mut town = Town::new(plan.clone());
    town.run();
    Story {
        tally: town.tally,
        trace: town.trace.finish(),
        violation: town.violation,
        lines: town.lines,
    }
}
