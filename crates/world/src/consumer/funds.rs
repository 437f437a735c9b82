//! Money for a consumer's channel: read what the chain says, deposit what is
//! missing, and let those go on who waited for it.
//!
//! How much is paid in, and when without anybody asking, is
//! [`FundingPolicy`]'s word, as in the node.

use std::time::Duration;

use market::{Amount, ChannelId, ChannelState, Escrowed, FundingPolicy, FundingStep, Timestamp};

use super::{CHANNEL_MAX, Upkeep, Waiter};
use crate::chain::{Op, Outcome};
use crate::sender::Why;
use crate::town::{Ask, Timer, Town, Who};

/// Between two looks at the chain when there is nothing else to do.
const LOOK_MS: u64 = 15_000;

/// What is paid in when.
const FUNDING: FundingPolicy = FundingPolicy {
    deposit: Amount::new(500),
    channel_max: CHANNEL_MAX,
    top_up_below: Amount::new(100),
    withdraw_idle: None,
};

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
            let idle = channel.upkeep == Upkeep::Idle;
            if let (true, Ok(state)) = (idle, read) {
                channel.spending.funded(state.covered());
                self.keep(at, provider, state);
            }
            return self.missing(at, provider);
        }
        let state = match read {
            Ok(state) => state,
            Err(problem) => return self.funded(at, provider, Err(problem)),
        };
        channel.spending.funded(state.covered());
        let charged = channel.spending.purse().charged();
        match FUNDING.deposit_for(channel.wanted, state.covered(), charged) {
            Ok(None) => self.funded(at, provider, Ok(())),
            Ok(Some(amount)) => self.deposit(at, provider, amount),
            Err(over) => self.funded(at, provider, Err(over.to_string())),
        }
    }

    fn deposit(&mut self, at: usize, provider: usize, amount: Amount) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        channel.upkeep = Upkeep::Depositing;
        let op = Op::Deposit(channel.config, amount);
        self.transact(Who::Consumer(at), op, Why::Deposit(provider));
    }

    /// What the policy has due for a channel that nobody waits for.
    fn keep(&mut self, at: usize, provider: usize, state: ChannelState) {
        let Some(channel) = self.channel(at, provider) else {
            return;
        };
        let purse = channel.spending.purse();
        let mark = (purse.ceiling(), purse.sequence());
        let in_use = purse.running() > 0 || std::mem::replace(&mut channel.mark, mark) != mark;
        let escrowed = Escrowed {
            state,
            withdraw_delay_s: channel.config.withdraw_delay_s,
            ceiling: mark.0,
            charged: purse.billed(),
            in_use,
            idle: Duration::ZERO,
        };
        // Nothing waits for a delay here: only its owner's key empties a channel.
        if let FundingStep::TopUp(amount) = FUNDING.upkeep(&escrowed, Timestamp::default()) {
            self.deposit(at, provider, amount);
        }
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
