//! From vouchers to money: what a provider claims, and when it is paid out.
//!
//! What is due is [`market::plan_claims`]'s and [`market::is_settlement_due`]'s
//! word, as in the node; here is only who asks, and what the chain brings.

use std::time::Duration;

use chain::sender::fees::{Ceiling, Fees};
use market::{
    Amount, ChannelConfig, ChannelId, ClaimPolicy, Departure, Earned, GasPolicy, SignedVoucher,
    Timestamp, is_settlement_due, plan_claims,
};

use super::{CLAIM_MS, Channel, Live};
use crate::chain::{Op, Outcome};
use crate::people;
use crate::plan::Mutant;
use crate::sender::Why;
use crate::town::{Ask, Timer, Town, Who};

/// A claim that is younger may still be taken back by the chain.
const YOUNG_MS: u64 = 900_000;
/// In calm, gas is worth a base unit or less, so that in the end nothing is
/// left as dust; while it is dear, small claims wait.
const POLICY: ClaimPolicy = ClaimPolicy {
    threshold: Amount::new(300),
    interval: Duration::from_secs(10),
    margin: Duration::from_secs(300),
    patience: Duration::ZERO,
    settle_threshold: Amount::ZERO,
    gas: Some(GasPolicy {
        token: people::MOR,
        coin_price: Amount::new(400),
        share_percent: 100,
    }),
    on_stop: false,
};

/// A claim that would bring something now.
struct Due {
    row: (ChannelConfig, SignedVoucher, Amount),
    earned: Earned,
}

impl Town {
    /// Looks at what may be claimed.
    pub(crate) fn claims(&mut self, at: usize) {
        self.timer(Who::Provider(at), CLAIM_MS, Timer::Claims);
        if self.plan.mutant == Some(Mutant::NeverClaim) {
            return;
        }
        let now_ms = self.now_ms;
        let chain_now = Timestamp(self.chain.now_s()).max(self.clock(Who::Provider(at)));
        let gas_price = self.gas_price();
        let Some(live) = self.shop(at) else { return };
        if live.claiming || live.settling {
            return;
        }
        let owed = |channel: &Channel| {
            let till = channel.earning.till();
            let young = channel
                .claimed_ms
                .is_some_and(|at_ms| now_ms - at_ms < YOUNG_MS);
            young || till.charged().min(till.ceiling()) > till.claimed()
        };
        let owed = live.channels.iter().filter(|(_, channel)| owed(channel));
        let owed: Vec<_> = owed.map(|(id, _)| *id).collect();
        let dues = dues(live, now_ms);
        let earned: Vec<_> = dues.iter().map(|due| due.earned).collect();
        let plan = plan_claims(&earned, gas_price, chain_now, &POLICY);
        let rows = dues.into_iter();
        let rows = rows.filter(|due| plan.claim.contains(&due.earned.channel));
        let rows: Vec<_> = rows.map(|due| due.row).collect();
        match rows.is_empty() {
            false => {
                live.claiming = true;
                self.transact(Who::Provider(at), Op::Claim(rows), Why::Claim);
            }
            true => {
                live.settling = true;
                self.question(Who::Provider(at), Ask::Receiver);
            }
        }
        for id in owed {
            self.read_till(at, id);
        }
    }

    /// What a unit of gas would be paid with now, in wei.
    fn gas_price(&self) -> Amount {
        let any = Ceiling {
            fee_per_gas: u128::MAX,
            cost: u128::MAX,
        };
        let fees = Fees::first(self.chain.asked(), 1, &any);
        fees.map_or(Amount::new(u128::MAX), |fees| Amount::new(fees.fee_per_gas))
    }

    /// A claim or a settlement is in a block, or is not.
    pub(crate) fn provider_sent(&mut self, at: usize, why: Why, _outcome: Outcome) {
        let Some(live) = self.shop(at) else { return };
        match why {
            Why::Claim => {
                live.claiming = false;
                let ids: Vec<_> = live.channels.keys().copied().collect();
                for id in ids {
                    self.read_till(at, id);
                }
            }
            Why::Settle => live.settling = false,
            Why::Deposit(_) => {}
        }
    }

    /// What the contract owes, and whether to have it paid out.
    pub(crate) fn owed(&mut self, at: usize, read: Result<market::Receiver, String>) {
        let account = people::seller(at).address();
        let gas_price = self.gas_price();
        let Some(live) = self.shop(at) else { return };
        let unsettled = read.map(|state| state.total_claimed.less(state.total_settled));
        match unsettled {
            Ok(unsettled) if is_settlement_due(people::MOR, unsettled, gas_price, &POLICY) => {
                let op = Op::Settle(account, people::MOR);
                self.transact(Who::Provider(at), op, Why::Settle);
            }
            _ => live.settling = false,
        }
    }
}

/// What could be claimed now, and for how long it has waited.
fn dues(live: &mut Live, now_ms: u64) -> Vec<Due> {
    let rows = live.channels.iter();
    let rows: Vec<_> = rows
        .filter_map(|(id, channel)| claimable(*id, channel))
        .collect();
    live.since
        .retain(|id, _| rows.iter().any(|due| due.earned.channel == *id));
    let mut dues = rows;
    for due in &mut dues {
        let since = *live.since.entry(due.earned.channel).or_insert(now_ms);
        due.earned.waiting = Duration::from_millis(now_ms - since);
    }
    dues
}

/// The claim that would bring something now.
fn claimable(id: ChannelId, channel: &Channel) -> Option<Due> {
    let till = channel.earning.till();
    let total = till.claimable_total();
    let claimed = till.claimed().max(till.state().total_claimed);
    let voucher = *till.best()?;
    (total > claimed).then(|| Due {
        row: (channel.config, voucher, total),
        earned: Earned {
            channel: id,
            token: channel.config.token,
            amount: total.less(claimed),
            waiting: Duration::ZERO,
            departure: Departure::of(&channel.config, till.state()),
        },
    })
}
