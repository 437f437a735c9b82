//! All that is known of one nonce.

use std::time::Duration;

use alloy::primitives::B256;
use market::TxHash;

use super::{Attempt, Effect, Inclusion, Outcome, Policy, Ticket};

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is journalled.
    New,
    /// Something is, so it may be with anybody.
    Sent,
    /// Nobody took it; the journal is told first.
    Refusing(Outcome),
    /// It is in a block.
    Included(Inclusion),
}

/// What is being made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    /// Nothing.
    Nothing,
    /// A signature was asked for.
    Signature,
    /// It is signed; its line in the journal is being written.
    Line(Attempt),
}

/// Somebody else used the nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Theirs {
    /// The head when it was first seen.
    pub(super) since_block: u64,
    /// How often in a row.
    pub(super) seen: u32,
}

/// One nonce, one wish.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) intent: B256,
    pub(super) gas: u64,
    /// Journalled, oldest first.
    pub(super) attempts: Vec<Attempt>,
    pub(super) making: Making,
    pub(super) phase: Phase,
    pub(super) ticket: Option<Ticket>,
    /// An outcome is on its way to the ticket.
    pub(super) telling: bool,
    pub(super) told: bool,
    /// Only refusals were ever said to it.
    pub(super) unseen: bool,
    /// What is being handed in.
    pub(super) handing: Option<TxHash>,
    pub(super) send_at: Duration,
    pub(super) raise_at: Duration,
    pub(super) theirs: Option<Theirs>,
    /// Its block may be final: look whether it is still there.
    pub(super) confirm: bool,
    pub(super) is_final: bool,
    /// Until when an outcome that nobody heard is kept.
    pub(super) forget_at: Option<Duration>,
    pub(super) nonces_lost: u32,
}

impl Slot {
    pub(super) fn new(
        intent: B256,
        ticket: Option<Ticket>,
        nonces_lost: u32,
        gas: u64,
        now: Duration,
    ) -> Self {
        Self {
            intent,
            gas,
            attempts: Vec::new(),
            making: Making::Signature,
            phase: Phase::New,
            ticket,
            // Nobody waits for what fills a gap.
            told: ticket.is_none(),
            telling: false,
            unseen: true,
            handing: None,
            send_at: now,
            raise_at: now,
            theirs: None,
            confirm: false,
            is_final: false,
            forget_at: None,
            nonces_lost,
        }
    }

    /// After a restart. Whether it was sent is not known, so it is sent.
    pub(super) fn kept(attempt: Attempt, told: bool, now: Duration, policy: &Policy) -> Self {
        Self {
            attempts: vec![attempt],
            making: Making::Nothing,
            phase: Phase::Sent,
            told,
            unseen: false,
            raise_at: now + policy.raise_after,
            ..Self::new(attempt.intent, None, 0, attempt.gas, now)
        }
    }

    /// Its outcome is wanted, and nobody is there to hear it.
    pub(super) fn awaits_caller(&self) -> bool {
        self.ticket.is_none() && !self.told
    }

    /// All who were given its bytes refused them, and none is being given them.
    pub(super) fn is_with_nobody(&self) -> bool {
        self.unseen && self.handing.is_none() && self.attempts.len() == 1
    }

    /// No inclusion is known.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Included(_))
    }

    /// The chain can tell news of it.
    pub(super) fn is_watched(&self) -> bool {
        match self.phase {
            Phase::Sent => true,
            Phase::Included(_) => !self.is_final,
            Phase::New | Phase::Refusing(_) => false,
        }
    }

    /// Its receipts are wanted.
    pub(super) fn wants_look(&self) -> bool {
        self.phase == Phase::Sent || (self.is_watched() && self.confirm)
    }

    pub(super) fn hashes(&self) -> Vec<TxHash> {
        self.attempts.iter().map(|attempt| attempt.hash).collect()
    }

    /// When it is to be sent.
    pub(super) fn send_due(&self) -> Option<Duration> {
        let waits = self.phase == Phase::Sent && self.handing.is_none() && self.theirs.is_none();
        waits.then_some(self.send_at)
    }

    /// In a block, and to no effect.
    pub(super) fn reverted(&self) -> bool {
        matches!(self.phase, Phase::Included(inclusion) if !inclusion.succeeded)
    }

    /// The block that had it is no more: the same bytes go out again.
    pub(super) fn undone(&mut self, now: Duration, raise_at: Duration) {
        self.phase = Phase::Sent;
        self.confirm = false;
        self.is_final = false;
        self.telling = false;
        self.forget_at = None;
        self.handing = None;
        self.send_at = now;
        self.raise_at = raise_at;
        self.unseen = false;
    }

    /// When it need not be kept any longer.
    pub(super) fn forget_due(&self) -> Option<Duration> {
        self.forget_at.filter(|_| self.is_final)
    }

    /// A newer one was not taken: the one before may have been lost meanwhile.
    pub(super) fn older_too(&self, not_taken: TxHash, to: &mut Vec<Effect>) {
        if let [.., older, newest] = self.attempts[..]
            && newest.hash == not_taken
        {
            to.push(Effect::Send(older.hash));
        }
    }
}
