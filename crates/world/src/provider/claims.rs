//! From vouchers to money: what a provider claims, and when it is paid out.

use market::{Amount, ChannelConfig, SignedVoucher};

use super::{CLAIM_MS, Channel};
use crate::chain::{Op, Outcome};
use crate::people;
use crate::plan::Mutant;
use crate::sender::Why;
use crate::town::{Ask, Timer, Town, Who};

/// A claim that is younger may still be taken back by the chain.
const YOUNG_MS: u64 = 900_000;

impl Town {
    /// Looks at what may be claimed.
    pub(crate) fn claims(&mut self, at: usize) {
        self.timer(Who::Provider(at), CLAIM_MS, Timer::Claims);
        if self.plan.mutant == Some(Mutant::NeverClaim) {
            return;
        }
        let now_ms = self.now_ms;
        let Some(live) = self.shop(at) else { return };
        if live.claiming || live.sender.is_busy() {
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
        let due: Vec<_> = live.channels.values().filter_map(claimable).collect();
        match due.is_empty() {
            false => {
                live.claiming = true;
                self.transact(Who::Provider(at), Op::Claim(due), Why::Claim);
            }
            true if !live.settling => {
                live.settling = true;
                self.question(Who::Provider(at), Ask::Receiver);
            }
            true => {}
        }
        for id in owed {
            self.read_till(at, id);
        }
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
        let Some(live) = self.shop(at) else { return };
        match read {
            Ok(state) if state.total_claimed > state.total_settled && !live.sender.is_busy() => {
                let op = Op::Settle(account, people::MOR);
                self.transact(Who::Provider(at), op, Why::Settle);
            }
            _ => live.settling = false,
        }
    }
}

/// The claim that would bring something now.
fn claimable(channel: &Channel) -> Option<(ChannelConfig, SignedVoucher, Amount)> {
    let till = channel.earning.till();
    let total = till.claimable_total();
    let claimed = till.claimed().max(till.state().total_claimed);
    let voucher = *till.best()?;
    (total > claimed).then_some((channel.config, voucher, total))
}
