//! What happened, as counts for people and as one hash for comparing.

use std::collections::BTreeMap;

use market::Amount;
use sha2::{Digest, Sha256};

use crate::misfortune::Misfortune;
use crate::plan::Fault;
use crate::town::{Event, Timer};
use crate::wire::Message;

/// Counts of one or many stories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were handled.
    pub events: u64,
    /// Effects at which a node could have died.
    pub effects: u64,
    /// Clients that had a complete answer.
    pub answers: u64,
    /// Clients that had an explicit error.
    pub errors: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Reorganisations, and the blocks that they took away.
    pub reorgs: u64,
    /// Blocks that were taken away.
    pub blocks_undone: u64,
    /// Transactions that the pool took.
    pub transactions: u64,
    /// How often one was handed in.
    pub handed_in: u64,
    /// Transactions that were signed again for higher fees.
    pub raised: u64,
    /// Inclusions that were taken back.
    pub undone: u64,
    /// MOR base units that providers were paid, and consumers got back.
    pub paid: u128,
    /// What came back to consumers.
    pub returned: u128,
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u64>,
}

impl Tally {
    /// One more fault.
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn moved(&mut self, paid: Amount, returned: Amount) {
        self.paid += paid.base_units();
        self.returned += returned.base_units();
    }

    /// Adds another story's.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.effects += other.effects;
        self.answers += other.answers;
        self.errors += other.errors;
        self.crashes += other.crashes;
        self.reorgs += other.reorgs;
        self.blocks_undone += other.blocks_undone;
        self.transactions += other.transactions;
        self.handed_in += other.handed_in;
        self.raised += other.raised;
        self.undone += other.undone;
        self.paid += other.paid;
        self.returned += other.returned;
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
    }
}

/// The hash of a story, event by event.
#[derive(Default)]
pub(crate) struct Trace(Sha256);

impl Trace {
    pub(crate) fn event(&mut self, at_ms: u64, event: &Event) {
        let (kind, a, b): (u8, u64, u64) = match event {
            Event::Heard { id, message, .. } => (1, *id, said(message)),
            Event::Broke { id, .. } => (2, *id, 0),
            Event::Synced { life, .. } => (3, *life, 0),
            Event::Replied { life, .. } => (4, *life, 0),
            Event::Timer { life, timer, .. } => (5, *life, rung(timer)),
            Event::Mine => (6, 0, 0),
            Event::Wish(client) => (7, number(*client), 0),
            Event::Misfortune(misfortune) => (8, struck(misfortune), 0),
            Event::Calm => (9, 0, 0),
            Event::Settled => (10, 0, 0),
            Event::Leave(at) => (11, number(*at), 0),
            Event::End => (12, 0, 0),
        };
        let mut bytes = [0; 25];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&at_ms.to_be_bytes());
        bytes[9..17].copy_from_slice(&a.to_be_bytes());
        bytes[17..].copy_from_slice(&b.to_be_bytes());
        self.0.update(bytes);
    }

    /// Something that was decided.
    pub(crate) fn number(&mut self, number: u128) {
        self.0.update(number.to_be_bytes());
    }

    /// Something that was said.
    pub(crate) fn text(&mut self, text: &str) {
        self.0.update(text.as_bytes());
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

fn number(at: usize) -> u64 {
    at.try_into().unwrap_or(u64::MAX)
}

fn said(message: &Message) -> u64 {
    match message {
        Message::Infer(infer) => u64::from(infer.length),
        Message::Pay { read_tokens, .. } => (1 << 32) | u64::from(*read_tokens),
        Message::Leave => 2 << 32,
        Message::AskReceipts { after, .. } => (3 << 32) | after,
        Message::Begin => 4 << 32,
        Message::Refused { reason } => (5 << 32) | number(reason.len()),
        Message::Alive => 6 << 32,
        Message::Chunk { tokens, .. } => (7 << 32) | u64::from(*tokens),
        Message::End { receipt, .. } => (8 << 32) | receipt.receipt.sequence,
        Message::Receipts { receipts, .. } => (9 << 32) | number(receipts.len()),
    }
}

fn rung(timer: &Timer) -> u64 {
    match timer {
        Timer::Silence(_) => 1,
        Timer::Mend(_) => 2,
        Timer::MendAgain(..) => 3,
        Timer::Tick => 5,
        Timer::Patience(_) => 6,
        Timer::Chunk(_) => 7,
        Timer::Alive(_) => 8,
        Timer::Flush(_) => 9,
        Timer::Reread(_) => 10,
        Timer::Claims => 11,
        Timer::Look => 12,
    }
}

fn struck(misfortune: &Misfortune) -> u64 {
    match misfortune {
        Misfortune::Crash(_) => 1,
        Misfortune::Start(_) => 2,
        Misfortune::RelayGone(_) => 3,
        Misfortune::RelayBack(_) => 4,
        Misfortune::Cut(_) => 5,
        Misfortune::DiskFull(..) => 6,
        Misfortune::DiskFails(_) => 7,
        Misfortune::Reorg(depth) => (8 << 32) | depth,
        Misfortune::DropTx => 9,
        Misfortune::Gas(gwei) => (10 << 32) | gwei,
        Misfortune::Sequencer(stopped) => 11 + u64::from(*stopped),
        Misfortune::Clock(..) => 13,
    }
}
