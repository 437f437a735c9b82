//! What the machine makes of a look at the chain.

use std::time::Duration;

use alloy::primitives::{B256, keccak256};

use super::slot::{Making, Phase, Slot, Theirs};
use super::{
    Effect, Entry, Inclusion, Look, Machine, NONCES_MAX, Notice, Outcome, Sight, Ticket, What,
};
use crate::journal::Ended;

/// How often in a row a nonce must be seen used up, and by none of ours, before
/// it counts: nodes behind one address differ for a while.
const THEIRS_AFTER: u32 = 3;
/// Signed with one nonce; more raises are not made.
const ATTEMPTS_MAX: usize = 48;

/// The wish to use a nonce up.
pub(super) fn to_fill(nonce: u64) -> B256 {
    keccak256([b"gap".as_slice(), &nonce.to_be_bytes()].concat())
}

impl Machine {
    pub(super) fn looked(&mut self, look: Look, now: Duration, to: &mut Vec<Effect>) {
        self.back_off(now);
        let nonces: Vec<u64> = self.slots.keys().copied().collect();
        for nonce in nonces {
            if nonce >= look.latest {
                self.not_included(nonce, now, to);
            } else {
                self.used_up(nonce, &look, now, to);
            }
        }
        self.raise(&look, now, to);
        self.fill_gap(&look, now, to);
    }

    /// The nonce is not used up.
    fn not_included(&mut self, nonce: u64, now: Duration, to: &mut Vec<Effect>) {
        let raise_after = self.policy.raise_after;
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        slot.theirs = None;
        if let Phase::Included(inclusion) = slot.phase {
            slot.undone(now, now + raise_after);
            let block = inclusion.block;
            to.push(Effect::Say(Notice::Undone { nonce, block }));
        }
    }

    /// The nonce is used up.
    fn used_up(&mut self, nonce: u64, look: &Look, now: Duration, to: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        match (look.sights.get(&nonce), slot.phase.clone()) {
            (Some(Sight::Ours(inclusion)), Phase::Sent | Phase::Included(_)) => {
                self.included(nonce, *inclusion, look, to);
            }
            (Some(Sight::NotOurs), Phase::Sent | Phase::Included(_)) => {
                self.not_ours(nonce, look, now, to);
            }
            // It was not asked for, or nothing sure is known.
            (None, Phase::Included(inclusion))
                if inclusion.block <= look.final_block && slot.is_watched() && !slot.confirm =>
            {
                slot.confirm = true;
                self.look_at = now;
            }
            _ => {}
        }
        self.tell(nonce, look, now, to);
    }

    fn included(&mut self, nonce: u64, seen: Inclusion, look: &Look, to: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        if let Phase::Included(before) = slot.phase
            && slot.told
            && before.succeeded
            && !seen.succeeded
        {
            to.push(Effect::Say(Notice::Turned { nonce }));
        }
        slot.theirs = None;
        slot.confirm = false;
        slot.phase = Phase::Included(seen);
        slot.is_final = seen.block <= look.final_block;
        self.wait = self.policy.poll_min;
    }

    /// Tells who waits, once it is deep enough; starts to keep it for who asks again.
    fn tell(&mut self, nonce: u64, look: &Look, now: Duration, to: &mut Vec<Effect>) {
        let (depth, keep) = (self.policy.tell_depth, self.policy.keep_untold);
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        let Phase::Included(inclusion) = slot.phase else {
            return;
        };
        let deep = (look.head + 1).saturating_sub(inclusion.block) >= depth;
        match slot.ticket {
            Some(ticket) if deep && !slot.telling => {
                slot.telling = true;
                to.push(Effect::Tell(ticket, Outcome::Included(inclusion)));
            }
            None if !slot.told && slot.forget_at.is_none() => slot.forget_at = Some(now + keep),
            _ => {}
        }
    }

    fn not_ours(&mut self, nonce: u64, look: &Look, now: Duration, to: &mut Vec<Effect>) {
        let raise_after = self.policy.raise_after;
        let Some(slot) = self.slots.get_mut(&nonce) else {
            return;
        };
        if let Phase::Included(inclusion) = slot.phase {
            slot.undone(now, now + raise_after);
            let block = inclusion.block;
            to.push(Effect::Say(Notice::Undone { nonce, block }));
        }
        let with_nobody = slot.is_with_nobody();
        let theirs = slot.theirs.get_or_insert(Theirs {
            since_block: look.head,
            seen: 0,
        });
        theirs.seen += 1;
        let stays = match look.final_latest {
            Some(used_up) => nonce < used_up,
            // Only a second reorganisation could make it free again.
            None => look.final_block >= theirs.since_block,
        };
        let stays = stays || with_nobody;
        if theirs.seen >= THEIRS_AFTER && stays && slot.making == Making::Nothing {
            self.lost(nonce, to);
        }
    }

    /// Nothing of ours can ever be included with this nonce.
    fn lost(&mut self, nonce: u64, to: &mut Vec<Effect>) {
        let Some(slot) = self.slots.remove(&nonce) else {
            return;
        };
        self.floor = self.floor.max(nonce + 1);
        let told = slot.told && slot.intent != to_fill(nonce);
        to.push(Effect::Say(Notice::Taken { nonce, told }));
        if let Some(last) = slot.attempts.last() {
            to.push(Effect::Journal(Entry::Ended(last.hash, Ended::Replaced)));
        }
        to.push(Effect::Forget(slot.hashes()));
        let Some(ticket) = slot.ticket else { return };
        // A journal that did not take this end before a restart has the wish twice.
        if self.joined(ticket, slot.intent, to) {
            return;
        }
        if slot.nonces_lost < NONCES_MAX {
            self.ask_price(ticket, slot.intent, slot.nonces_lost + 1, to);
        } else {
            to.push(Effect::Tell(ticket, Outcome::Outrun));
        }
    }

    /// Signs again for more what waits too long: the first in line, and what no
    /// block takes at its price.
    fn raise(&mut self, look: &Look, now: Duration, to: &mut Vec<Effect>) {
        let (ceiling, after) = (self.policy.ceiling, self.policy.raise_after);
        for (nonce, slot) in self.slots.range_mut(look.latest..) {
            let waits = slot.phase == Phase::Sent && slot.making == Making::Nothing;
            let Some(newest) = slot.attempts.last().copied() else {
                continue;
            };
            let behind = *nonce > look.latest && newest.fees.suffices(look.asked);
            if !waits || behind || now < slot.raise_at {
                continue;
            }
            slot.raise_at = now + after;
            let raised = newest.fees.raised(look.asked, slot.gas, &ceiling);
            match raised.filter(|_| slot.attempts.len() < ATTEMPTS_MAX) {
                Some(fees) => {
                    slot.making = Making::Signature;
                    let nonce = *nonce;
                    to.push(Effect::Say(Notice::Raised { nonce, fees }));
                    to.push(Effect::Sign {
                        what: What::Again(newest.hash),
                        intent: slot.intent,
                        nonce,
                        gas: slot.gas,
                        fees,
                    });
                }
                None => to.push(Effect::Say(Notice::AtCeiling {
                    nonce: *nonce,
                    fee_per_gas: newest.fees.fee_per_gas,
                    most: ceiling.of(slot.gas),
                })),
            }
        }
    }

    /// A nonce before ours that no pool has, for a while: ours would wait for ever.
    fn fill_gap(&mut self, look: &Look, now: Duration, to: &mut Vec<Effect>) {
        let waits = |(_, slot): &(&u64, &Slot)| slot.phase == Phase::Sent;
        let mut ahead = self.slots.range(look.latest..);
        let Some((first, _)) = ahead.find(waits) else {
            self.gap_since = None;
            return;
        };
        let missing =
            (look.latest.max(look.pending)..*first).find(|nonce| !self.slots.contains_key(nonce));
        let filling = self.wishes.values().any(|wish| wish.nothing);
        let (Some(nonce), false) = (missing, filling) else {
            self.gap_since = None;
            return;
        };
        let since = *self.gap_since.get_or_insert(now);
        if now >= since + self.policy.raise_after {
            self.gap_since = None;
            let ticket = Ticket(self.own_tickets);
            self.own_tickets += 1;
            to.push(Effect::Say(Notice::Gap { nonce }));
            self.ask_price(ticket, to_fill(nonce), 0, to);
        }
    }

    /// Lets go of what is final and told, or was kept long enough.
    pub(super) fn end_what_is_over(&mut self, now: Duration, to: &mut Vec<Effect>) {
        let over = |slot: &Slot| {
            let kept_enough = slot.forget_at.is_some_and(|at| at <= now);
            let unheard = slot.ticket.is_none() && (slot.told || kept_enough || slot.reverted());
            slot.is_final && unheard && slot.making == Making::Nothing
        };
        let nonces: Vec<u64> = self
            .slots
            .iter()
            .filter(|(_, slot)| over(slot))
            .map(|(nonce, _)| *nonce)
            .collect();
        for nonce in nonces {
            let Some(slot) = self.slots.remove(&nonce) else {
                continue;
            };
            let Phase::Included(inclusion) = slot.phase else {
                continue;
            };
            self.floor = self.floor.max(nonce + 1);
            let how = match inclusion.succeeded {
                true => Ended::Succeeded,
                false => Ended::Reverted,
            };
            to.push(Effect::Journal(Entry::Ended(inclusion.hash, how)));
            to.push(Effect::Forget(slot.hashes()));
        }
    }
}
