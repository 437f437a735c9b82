//! From a wish to a final inclusion, with one nonce.
//!
//! Pure: events and the time come in, effects go out, in the order in which
//! they must be carried out. No runtime, no chain, no clock, so every path can
//! be tried by a test or a simulator.
//!
//! * A wish is priced, gets a nonce, is signed, journalled and only then sent.
//!   Whoever repeats a wish that was signed for is given what became of it.
//! * What is not included in time is signed again with the *same* nonce and
//!   higher fees, up to a ceiling, and that is journalled before it is sent
//!   too. All that was signed with a nonce is watched; whichever is included
//!   counts. So a wish is fulfilled once, whatever is dropped or delayed.
//! * Included is not final. An inclusion is followed until the chain says that
//!   it stays; if it is undone before, the same bytes are sent again.
//! * A nonce is given up only when a transaction of somebody else has it for
//!   good, seen several times; only then does a wish get another nonce.
//!
//! What must survive a crash is in the journal: [`Machine::restored`] makes
//! the same machine of its entries. Callers are not in it, they ask again.

mod looking;
mod slot;
#[cfg(test)]
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy::primitives::B256;
use market::TxHash;

use super::fees::{Asked, Ceiling, Fees};
use super::words::Said;
use crate::journal::Ended;
use slot::{Making, Phase, Slot};

/// Transactions that were signed and are not final; more are not begun.
const KEPT_MAX: usize = 1024;
/// How often a wish whose nonce somebody else took gets another.
const NONCES_MAX: u32 = 3;
/// What is sent again at once; the next ones follow.
const RESENT_AT_ONCE: usize = 16;
/// Wishes of our own have tickets from here on.
const OWN_TICKETS: u64 = 1 << 63;

/// How patient to be with a chain, and how generous.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The first wait before the chain is looked at again; later ones grow.
    pub poll_min: Duration,
    /// Up to this.
    pub poll_max: Duration,
    /// How long after it was sent it is sent again.
    pub resend: Duration,
    /// How long after it was signed it is signed again with higher fees.
    pub raise_after: Duration,
    /// Blocks from the inclusion on, with its own, until the caller is told.
    pub tell_depth: u64,
    /// How long an outcome that nobody waited for is kept for who repeats the wish.
    pub keep_untold: Duration,
    /// Transactions on their way at a time; more wishes are turned away.
    pub open_max: usize,
    /// What one transaction may cost.
    pub ceiling: Ceiling,
}

/// Who waits for a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A transaction that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Its hash.
    pub hash: TxHash,
    /// Its nonce.
    pub nonce: u64,
    /// The wish.
    pub intent: B256,
    /// The gas that it may use.
    pub gas: u64,
    /// What it pays for it.
    pub fees: Fees,
}

/// What the journal kept of a transaction without a known end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The transaction.
    pub attempt: Attempt,
    /// Its outcome was told to who waited.
    pub told: bool,
}

/// A line of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It may be sent once this is written.
    Signed(Attempt),
    /// Who waited knows that this was included.
    Told(TxHash),
    /// No more need be known of it, nor of others with its nonce; after
    /// [`Ended::Rejected`] only of itself.
    Ended(TxHash, Ended),
}

/// In which block a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inclusion {
    /// Which of those with its nonce.
    pub hash: TxHash,
    /// The block's number.
    pub block: u64,
    /// It did not revert.
    pub succeeded: bool,
}

/// What was seen of one nonce that is used up at the latest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// By one of ours.
    Ours(Inclusion),
    /// By none of ours.
    NotOurs,
}

/// What was seen of the chain, in this order: the head, the counts, the receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The latest block.
    pub head: u64,
    /// The latest block that stays.
    pub final_block: u64,
    /// The account's transactions at that block, where the node still knows.
    pub final_latest: Option<u64>,
    /// What blocks ask for.
    pub asked: Asked,
    /// The account's transactions at the latest block.
    pub latest: u64,
    /// And with those that wait.
    pub pending: u64,
    /// Of the nonces that were asked for; those of which nothing sure is known are absent.
    pub sights: BTreeMap<u64, Sight>,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants something written.
    Wished {
        /// Who.
        ticket: Ticket,
        /// What; a repeated wish has the same.
        intent: B256,
    },
    /// Who waited is gone, or was answered by the shell with why it cannot be priced.
    Left(Ticket),
    /// Who waited knows the outcome.
    Told(Ticket),
    /// What it takes.
    Priced {
        /// For whom.
        ticket: Ticket,
        /// The gas.
        gas: u64,
        /// Its price.
        fees: Fees,
        /// The account's transactions, with those that wait.
        pending: u64,
    },
    /// It has a signature.
    Signed(Attempt),
    /// This line of the journal is durable.
    Written(Entry),
    /// It is not.
    Unwritten(Entry),
    /// Nodes answered to a transaction that was handed in.
    Said {
        /// Which.
        hash: TxHash,
        /// What they said together.
        said: Said,
    },
    /// The chain was looked at.
    Looked(Look),
    /// It could not be.
    Blind,
    /// Time passed.
    Tick,
}

/// What is to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// What this ticket wishes.
    Wish(Ticket),
    /// The same as in this transaction, with other fees.
    Again(TxHash),
    /// Nothing, to the account itself: the nonce is missing before others.
    Nothing,
}

/// What is to be done. The list is closed and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Find out what it takes: answer with [`Event::Priced`] or [`Event::Left`].
    Price {
        /// Whose wish.
        ticket: Ticket,
        /// Nothing is to be sent to the account itself.
        nothing: bool,
    },
    /// Answer with [`Event::Signed`].
    Sign {
        /// What.
        what: What,
        /// The wish.
        intent: B256,
        /// With this nonce.
        nonce: u64,
        /// This gas.
        gas: u64,
        /// At this price.
        fees: Fees,
    },
    /// Answer with [`Event::Written`] or [`Event::Unwritten`].
    Journal(Entry),
    /// Hand it in; answer with [`Event::Said`].
    Send(TxHash),
    /// Look at the chain, and at these transactions by nonce where the nonce is
    /// used up; answer with [`Event::Looked`] or [`Event::Blind`].
    Look(BTreeMap<u64, Vec<TxHash>>),
    /// Answer with [`Event::Told`], or [`Event::Left`] if nobody is there.
    Tell(Ticket, Outcome),
    /// Nothing will be asked of these any more.
    Forget(Vec<TxHash>),
    /// For the log.
    Say(Notice),
}

/// What becomes of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in a block.
    Included(Inclusion),
    /// No node takes it, so nobody has it.
    Refused {
        /// Why.
        message: String,
    },
    /// The account cannot pay for the gas.
    TooPoor,
    /// It could not be journalled, so it was not sent.
    Unjournalled,
    /// Too many are on their way.
    TooMany {
        /// So many may be.
        most: usize,
    },
    /// Somebody else keeps taking the nonces.
    Outrun,
}

/// What the operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Signed again for more.
    Raised {
        /// Its nonce.
        nonce: u64,
        /// What it pays now.
        fees: Fees,
    },
    /// The ceiling forbids to pay more; it waits.
    AtCeiling {
        /// Its nonce.
        nonce: u64,
        /// What it pays.
        fee_per_gas: u128,
        /// The most, for its gas.
        most: u128,
    },
    /// A block that had it is no more; it is sent again.
    Undone {
        /// Its nonce.
        nonce: u64,
        /// The block.
        block: u64,
    },
    /// Success was told, and now it is included again and reverted.
    Turned {
        /// Its nonce.
        nonce: u64,
    },
    /// Somebody else's transaction has the nonce for good. Success had been told
    /// if `told`: a reorganisation and another program of the same key.
    Taken {
        /// The nonce.
        nonce: u64,
        /// Somebody was told otherwise.
        told: bool,
    },
    /// Nodes do not take it now; it may be with others, so it is kept.
    Unwelcome {
        /// Its nonce.
        nonce: u64,
        /// What they say.
        said: Said,
    },
    /// A nonce before ours is missing; nothing is sent with it.
    Gap {
        /// The nonce.
        nonce: u64,
    },
}

/// A wish without a nonce yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    intent: B256,
    /// Nonces that were taken from it.
    nonces_lost: u32,
    /// To fill a gap.
    nothing: bool,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Machine {
    policy: Policy,
    wishes: BTreeMap<Ticket, Wish>,
    /// What is signed or about to be, by nonce.
    slots: BTreeMap<u64, Slot>,
    /// Nonces below have ended for good.
    floor: u64,
    looking: bool,
    /// Once more, as soon as the look has ended.
    look_again: bool,
    look_at: Duration,
    wait: Duration,
    /// Since when a nonce before ours is missing.
    gap_since: Option<Duration>,
    own_tickets: u64,
}

impl Machine {
    /// With nothing on its way.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            wishes: BTreeMap::new(),
            slots: BTreeMap::new(),
            floor: 0,
            looking: false,
            look_again: false,
            look_at: Duration::ZERO,
            wait: policy.poll_min,
            gap_since: None,
            own_tickets: OWN_TICKETS,
        }
    }

    /// As the journal has it, oldest first. What was written with a nonce for
    /// one wish and later for another was turned away, or never sent.
    pub fn restored(policy: Policy, kept: &[Kept], now: Duration) -> Self {
        let mut machine = Self::new(policy);
        for Kept { attempt, told } in kept {
            // Nobody waits for what fills a gap.
            let told = *told || attempt.intent == looking::to_fill(attempt.nonce);
            let slot = machine.slots.get_mut(&attempt.nonce);
            match slot.filter(|slot| slot.intent == attempt.intent) {
                Some(slot) => {
                    slot.attempts.push(*attempt);
                    slot.told |= told;
                }
                None => {
                    let slot = Slot::kept(*attempt, told, now, &policy);
                    machine.slots.insert(attempt.nonce, slot);
                }
            }
        }
        machine
    }

    /// Takes an event in; gives what is to be done.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let to = &mut effects;
        match event {
            Event::Wished { ticket, intent } => self.wished(ticket, intent, to),
            Event::Left(ticket) => self.left(ticket, now),
            Event::Told(ticket) => self.told(ticket, to),
            Event::Priced {
                ticket,
                gas,
                fees,
                pending,
            } => self.priced(ticket, gas, fees, pending, now, to),
            Event::Signed(attempt) => self.signed(attempt, to),
            Event::Written(entry) => self.written(entry, now, to),
            Event::Unwritten(entry) => self.unwritten(entry, now, to),
            Event::Said { hash, said } => self.said(hash, said, now, to),
            Event::Looked(look) => self.looked(look, now, to),
            Event::Blind => self.back_off(now),
            Event::Tick => {}
        }
        self.due(now, to);
        effects
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn wake(&self) -> Option<Duration> {
        let look = (!self.looking && self.watches()).then_some(self.look_at);
        let slots = self.slots.values();
        let sends = slots.clone().filter_map(Slot::send_due).min();
        let keeps = slots.filter_map(Slot::forget_due).min();
        [look, sends, keeps].into_iter().flatten().min()
    }

    /// Transactions and wishes of which no inclusion is known.
    pub fn open(&self) -> usize {
        let on_their_way = self.slots.values().filter(|slot| slot.is_open());
        self.wishes.len() + on_their_way.count()
    }

    /// All that was signed and is not final, by nonce.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.slots.values().flat_map(|slot| &slot.attempts)
    }

    fn wished(&mut self, ticket: Ticket, intent: B256, to: &mut Vec<Effect>) {
        if self.joined(ticket, intent, to) {
            return;
        }
        let most = self.policy.open_max;
        if self.open() >= most || self.slots.len() >= KEPT_MAX {
            to.push(Effect::Tell(ticket, Outcome::TooMany { most }));
            return;
        }
        self.ask_price(ticket, intent, 0, to);
    }

    /// Whether the wish was signed for before and nobody has heard of it: then
    /// who asks now waits for that.
    fn joined(&mut self, ticket: Ticket, intent: B256, to: &mut Vec<Effect>) -> bool {
        let forsaken = |slot: &&mut Slot| slot.intent == intent && slot.awaits_caller();
        let Some(slot) = self.slots.values_mut().find(forsaken) else {
            return false;
        };
        slot.ticket = Some(ticket);
        slot.forget_at = None;
        if let Phase::Included(inclusion) = slot.phase {
            slot.telling = true;
            to.push(Effect::Tell(ticket, Outcome::Included(inclusion)));
        }
        true
    }

    fn ask_price(&mut self, ticket: Ticket, intent: B256, lost: u32, to: &mut Vec<Effect>) {
        let wish = Wish {
            intent,
            nonces_lost: lost,
            nothing: ticket.0 >= OWN_TICKETS,
        };
        self.wishes.insert(ticket, wish);
        let nothing = wish.nothing;
        to.push(Effect::Price { ticket, nothing });
    }

    fn left(&mut self, ticket: Ticket, now: Duration) {
        self.wishes.remove(&ticket);
        let keep = now + self.policy.keep_untold;
        for slot in self.slots.values_mut() {
            if slot.ticket == Some(ticket) {
                slot.ticket = None;
                slot.telling = false;
                if matches!(slot.phase, Phase::Included(_)) {
                    slot.forget_at = Some(keep);
                }
            }
        }
    }

    fn told(&mut self, ticket: Ticket, to: &mut Vec<Effect>) {
        let waited = |slot: &&mut Slot| slot.ticket == Some(ticket);
        let Some(slot) = self.slots.values_mut().find(waited) else {
            return;
        };
        slot.ticket = None;
        slot.telling = false;
        slot.told = true;
        // What is final is ended in the journal at once, which says as much.
        if let (Some(newest), false) = (slot.attempts.last(), slot.is_final) {
            to.push(Effect::Journal(Entry::Told(newest.hash)));
        }
    }

    /// The lowest nonce that nobody has: a lost one is used again, a waiting
    /// one of somebody else is not.
    fn free_nonce(&self, pending: u64) -> u64 {
        let taken: BTreeSet<u64> = self.slots.keys().copied().collect();
        let first = pending.max(self.floor);
        (first..)
            .find(|nonce| !taken.contains(nonce))
            .unwrap_or(u64::MAX)
    }

    fn priced(
        &mut self,
        ticket: Ticket,
        gas: u64,
        fees: Fees,
        pending: u64,
        now: Duration,
        to: &mut Vec<Effect>,
    ) {
        let Some(wish) = self.wishes.remove(&ticket) else {
            return;
        };
        let nonce = self.free_nonce(pending);
        let mut later = self.slots.range(nonce..);
        if wish.nothing && !later.any(|(_, slot)| slot.phase == Phase::Sent) {
            // The gap has closed meanwhile.
            return;
        }
        let what = match wish.nothing {
            true => What::Nothing,
            false => What::Wish(ticket),
        };
        let ticket = (!wish.nothing).then_some(ticket);
        let slot = Slot::new(wish.intent, ticket, wish.nonces_lost, gas, now);
        self.slots.insert(nonce, slot);
        to.push(Effect::Sign {
            what,
            intent: wish.intent,
            nonce,
            gas,
            fees,
        });
    }

    fn signed(&mut self, attempt: Attempt, to: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(&attempt.nonce) else {
            return;
        };
        if slot.making == Making::Signature && slot.intent == attempt.intent {
            slot.making = Making::Line(attempt);
            to.push(Effect::Journal(Entry::Signed(attempt)));
        }
    }

    fn written(&mut self, entry: Entry, now: Duration, to: &mut Vec<Effect>) {
        match entry {
            Entry::Signed(attempt) => {
                let Some(slot) = self.slots.get_mut(&attempt.nonce) else {
                    return;
                };
                if slot.making != Making::Line(attempt) {
                    return;
                }
                slot.making = Making::Nothing;
                slot.attempts.push(attempt);
                if slot.phase == Phase::New {
                    slot.phase = Phase::Sent;
                }
                slot.raise_at = now + self.policy.raise_after;
                slot.send_at = now;
                slot.handing = None;
                self.wait = self.policy.poll_min;
                self.look_at = now + self.policy.poll_min;
            }
            Entry::Ended(hash, Ended::Rejected) => self.turned_away(hash, to),
            Entry::Told(_) | Entry::Ended(..) => {}
        }
    }

    fn unwritten(&mut self, entry: Entry, now: Duration, to: &mut Vec<Effect>) {
        let nonce = match entry {
            Entry::Signed(attempt) => attempt.nonce,
            Entry::Ended(hash, Ended::Rejected) => match self.nonce_of(hash) {
                Some(nonce) => nonce,
                None => return,
            },
            Entry::Told(_) | Entry::Ended(..) => return,
        };
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        match slot.phase {
            Phase::New => {
                let ticket = slot.ticket;
                self.slots.remove(&nonce);
                if let Some(ticket) = ticket {
                    to.push(Effect::Tell(ticket, Outcome::Unjournalled));
                }
                if let Entry::Signed(attempt) = entry {
                    to.push(Effect::Forget(vec![attempt.hash]));
                }
            }
            Phase::Refusing(_) => {
                slot.phase = Phase::Sent;
                slot.send_at = now + self.policy.resend;
            }
            Phase::Sent | Phase::Included(_) => {
                slot.making = Making::Nothing;
                slot.raise_at = now + self.policy.raise_after;
            }
        }
    }

    /// The journal knows that nobody has it: who waits may know too.
    fn turned_away(&mut self, hash: TxHash, to: &mut Vec<Effect>) {
        let Some(nonce) = self.nonce_of(hash) else {
            return;
        };
        let Some(slot) = self.slots.get(&nonce) else {
            return;
        };
        let Phase::Refusing(outcome) = slot.phase.clone() else {
            return;
        };
        if let Some(ticket) = slot.ticket {
            to.push(Effect::Tell(ticket, outcome));
        }
        self.slots.remove(&nonce);
        to.push(Effect::Forget(vec![hash]));
    }

    fn said(&mut self, hash: TxHash, said: Said, now: Duration, to: &mut Vec<Effect>) {
        let Some(nonce) = self.nonce_of(hash) else {
            return;
        };
        let policy = self.policy;
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        if slot.handing == Some(hash) {
            slot.handing = None;
        }
        if !matches!(slot.phase, Phase::Sent) {
            return;
        }
        let nobody_has_it = slot.is_with_nobody();
        if !said.rejects() && said != Said::NonceTooLow {
            slot.unseen = false;
        }
        match said {
            Said::Taken | Said::Unknown | Said::NonceTooLow => self.look_soon(now),
            Said::Underpriced => slot.older_too(hash, to),
            Said::FeeTooLow => {
                slot.raise_at = slot.raise_at.min(now + policy.poll_max);
                slot.older_too(hash, to);
            }
            Said::NonceTooHigh => {
                // Nobody keeps it: it follows soon after those before it.
                slot.send_at = slot.send_at.min(now + policy.poll_max);
                let earlier = self.slots.range_mut(..nonce);
                for (_, slot) in earlier.filter(|(_, slot)| slot.phase == Phase::Sent) {
                    slot.send_at = now;
                }
            }
            Said::TooPoor | Said::Refused { .. } if nobody_has_it => {
                slot.phase = Phase::Refusing(match said {
                    Said::Refused { message } => Outcome::Refused { message },
                    _ => Outcome::TooPoor,
                });
                to.push(Effect::Journal(Entry::Ended(hash, Ended::Rejected)));
            }
            Said::TooPoor | Said::Refused { .. } => {
                slot.older_too(hash, to);
                to.push(Effect::Say(Notice::Unwelcome { nonce, said }));
            }
        }
    }

    fn nonce_of(&self, hash: TxHash) -> Option<u64> {
        let has = |slot: &Slot| slot.attempts.iter().any(|attempt| attempt.hash == hash);
        let mut slots = self.slots.iter();
        slots.find(|(_, slot)| has(slot)).map(|(nonce, _)| *nonce)
    }

    /// There is news. A look that is under way may have missed it.
    fn look_soon(&mut self, now: Duration) {
        self.wait = self.policy.poll_min;
        self.look_at = now;
        self.look_again = self.looking;
    }

    /// A look has ended: the next one takes longer, unless there was news meanwhile.
    fn back_off(&mut self, now: Duration) {
        self.looking = false;
        self.look_at = match core::mem::take(&mut self.look_again) {
            true => now,
            false => now + self.wait,
        };
        self.wait = (self.wait * 3 / 2).min(self.policy.poll_max);
    }

    /// What the time asks for: sends, a look, the end of what was kept.
    fn due(&mut self, now: Duration, to: &mut Vec<Effect>) {
        self.end_what_is_over(now, to);
        let resend = self.policy.resend;
        let due = |slot: &&mut Slot| slot.send_due().is_some_and(|at| at <= now);
        let slots = self.slots.values_mut().filter(due);
        for slot in slots.take(RESENT_AT_ONCE) {
            if let Some(newest) = slot.attempts.last() {
                slot.handing = Some(newest.hash);
                slot.send_at = now + resend;
                to.push(Effect::Send(newest.hash));
            }
        }
        if !self.looking && self.look_at <= now && self.watches() {
            self.looking = true;
            let wanted = self.slots.iter().filter(|(_, slot)| slot.wants_look());
            let wanted = wanted.map(|(nonce, slot)| (*nonce, slot.hashes()));
            to.push(Effect::Look(wanted.collect()));
        }
    }

    fn watches(&self) -> bool {
        self.slots.values().any(Slot::is_watched)
    }
}
