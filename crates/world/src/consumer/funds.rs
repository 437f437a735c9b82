//! Money for a consumer's channel: read what the chain says, deposit what is
//! missing, and let those go on who waited for it.

use market::{Amount, ChannelId, ChannelState};

use super::{CHANNEL_MAX, DEPOSIT, Upkeep, Waiter};
use crate::chain::{Op, Outcome};
use crate::sender::Why;
use crate::town::{Ask, Timer, Town, Who};

/// Between two looks at the chain when there is nothing else to do.
const LOOK_MS: u64 = 15_000;

impl Town {
    /// Money for a channel: read what is there, deposit what is missing.
    pub(super) fn top_up(&mut self, at: usize, provider: usize, needed: Amount, waiter: Waiter) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        channel.wanted = channel.wanted.max(needed);
        channel.waiters.push(waiter);
        if channel.upkeep == Upkeep::Idle {
            channel.upkeep = Upkeep::Reading;
            let id = channel.id;
            self.question(Who::Consumer(at), Ask::Channel(id));
        }
    }

    /// The chain said what a channel holds, or did not.
    pub(crate) fn consumer_read(
        &mut self,
        at: usize,
        id: ChannelId,
        read: Result<ChannelState, String>,
    ) {
        let Some(live) = self.live(at) else { return };
        let unsure = live.sender.is_unsure();
        let found = live
            .channels
            .iter_mut()
            .find(|(_, channel)| channel.id == id);
        let Some((&provider, channel)) = found else {
            return;
        };
        if let Ok(state) = &read {
            channel.spending.claimed_to(state.total_claimed);
        }
        if channel.upkeep != Upkeep::Reading {
            return self.missing(at, provider);
        }
        let state = match read {
            // What was sent before the last crash may still come about.
            Ok(_) if unsure => {
                return self.timer(Who::Consumer(at), 1_000, Timer::ReadAgain(id));
            }
            Ok(state) => state,
            Err(problem) => return self.funded(at, provider, Err(problem)),
        };
        channel.spending.funded(state.covered());
        if state.covered() >= channel.wanted {
            return self.funded(at, provider, Ok(()));
        }
        let needed = channel.wanted;
        if needed > CHANNEL_MAX {
            let problem = format!("the channel would have to hold {needed}");
            return self.funded(at, provider, Err(problem));
        }
        let missing = needed.less(state.covered());
        let room = CHANNEL_MAX.less(state.covered());
        let amount = missing.max(DEPOSIT).min(room);
        channel.upkeep = Upkeep::Depositing;
        let op = Op::Deposit(channel.config, amount);
        self.transact(Who::Consumer(at), op, Why::Deposit(provider));
    }

    /// Looks at the chain in quiet times, too.
    pub(crate) fn consumer_looks(&mut self, at: usize) {
        let Some(live) = self.live(at) else { return };
        let ids: Vec<_> = live.channels.values().map(|channel| channel.id).collect();
        for id in ids {
            self.question(Who::Consumer(at), Ask::Channel(id));
        }
        self.timer(Who::Consumer(at), LOOK_MS, Timer::Look);
    }

    /// Sees to receipts if some are missing.
    pub(super) fn missing(&mut self, at: usize, provider: usize) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        if channel.spending.purse().needs_reconciling() && !channel.unreconciled {
            channel.unreconciled = true;
            self.mend_later(at, provider, 1_000);
        }
    }

    /// Reads a channel again.
    pub(crate) fn consumer_reads_again(&mut self, at: usize, id: ChannelId) {
        let Some(live) = self.live(at) else { return };
        let reading = live
            .channels
            .values()
            .any(|c| c.id == id && c.upkeep == Upkeep::Reading);
        if reading {
            self.question(Who::Consumer(at), Ask::Channel(id));
        }
    }

    /// A deposit is in a block, or is not.
    pub(crate) fn consumer_sent(&mut self, at: usize, why: Why, outcome: Outcome) {
        let Why::Deposit(provider) = why else { return };
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        match outcome {
            Ok(()) => {
                channel.upkeep = Upkeep::Reading;
                let id = channel.id;
                self.question(Who::Consumer(at), Ask::Channel(id));
            }
            Err(problem) => self.funded(at, provider, Err(problem)),
        }
    }

    /// The money is there, or is not: who waited goes on.
    pub(super) fn funded(&mut self, at: usize, provider: usize, outcome: Outcome) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        channel.upkeep = Upkeep::Idle;
        channel.wanted = Amount::ZERO;
        for waiter in std::mem::take(&mut channel.waiters) {
            match (waiter, &outcome) {
                (Waiter::Ask(request), Ok(())) => self.reserve(at, request),
                (Waiter::Pay(request), Ok(())) => self.pay(at, request),
                (Waiter::Ask(request) | Waiter::Pay(request), Err(problem)) => {
                    self.give_up(at, request, problem.clone());
                }
            }
        }
    }
}
