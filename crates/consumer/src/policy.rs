//! What the owner of the money allows a consumer, and how its requests go.

use std::collections::BTreeMap;
use std::time::Duration;

use market::{Accepted, Address, Amount, FundingPolicy, Network, Payer};
use seal::Pacing;

/// What the owner of the money allows.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The tokens that it pays in, the one that prices are compared in first;
    /// offers in others are not asked, nor those that cannot be compared.
    pub accepted: Vec<Accepted>,
    /// What goes into a channel in each of them, and when it comes out again.
    pub funding: BTreeMap<Address, FundingPolicy>,
    /// Seconds that a withdrawal takes at least.
    pub withdraw_delay_s: u64,
    /// Between two looks at registry and descriptors.
    pub refresh: Duration,
    /// Requests running at a time.
    pub running_max: usize,
    /// How requests travel.
    pub network: Network,
    /// How sealed streams go: as soon as there is something, or at a steady beat.
    pub pacing: Pacing,
    /// Who pays.
    pub payer: Payer,
    /// Whether the channel of one more provider is funded before it is needed,
    /// of one that would go on with an answer.
    pub standby: bool,
}

impl Policy {
    /// For channels in this token. Into one that is not paid with any more nothing
    /// goes; what is in it comes out like any other.
    pub(crate) fn funding_of(&self, token: Address) -> FundingPolicy {
        let own = self.funding.get(&token).cloned();
        own.unwrap_or_else(|| FundingPolicy {
            deposit: Amount::ZERO,
            channel_max: Amount::ZERO,
            top_up_below: Amount::ZERO,
            withdraw_idle: self.funding.values().find_map(|own| own.withdraw_idle),
        })
    }
}
