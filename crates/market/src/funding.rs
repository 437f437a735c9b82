//! A payer's policy for one channel: what is paid in and when, what the
//! channel may hold, and when an idle one is emptied.
//!
//! Pure: the channel's state and the time come in, one step goes out. The
//! consumer's session follows it; so does the simulator.

use core::time::Duration;

use crate::{Amount, ChannelState, Timestamp};

/// What the owner of the money allows for each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundingPolicy {
    /// Paid in at a time, if no more is needed.
    pub deposit: Amount,
    /// The most that one channel may hold of what is not spent yet.
    pub channel_max: Amount,
    /// Pay in again when less than this is left, before it runs dry; nothing:
    /// only when an answer needs it.
    pub top_up_below: Amount,
    /// Empty a channel that was not used for so long; none: never.
    pub withdraw_idle: Option<Duration>,
}

/// The channel would have to hold more than the policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the channel would have to hold {needed} base units, the policy allows {allowed} \
     (raise channel-max, or use another provider)"
)]
pub struct OverLimit {
    /// What it would have to hold.
    pub needed: Amount,
    /// What is allowed.
    pub allowed: Amount,
}

/// One channel as its payer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escrowed {
    /// On chain.
    pub state: ChannelState,
    /// The channel's withdrawal delay.
    pub withdraw_delay_s: u64,
    /// Signed away at most.
    pub ceiling: Amount,
    /// Of it, billed.
    pub charged: Amount,
    /// Answers run, or ran since it was last looked at.
    pub in_use: bool,
    /// For how long it was not used.
    pub idle: Duration,
}

/// What to do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FundingStep {
    /// Nothing; look again after this, if the policy has anything to wait for.
    Rest(Option<Duration>),
    /// Pay so much in.
    TopUp(Amount),
    /// Begin to withdraw so much.
    Withdraw(Amount),
    /// The delay is over: take it.
    Finalise,
}

impl FundingPolicy {
    /// What to pay in so that a voucher up to `ceiling` is covered; none if it is already.
    pub fn deposit_for(
        &self,
        ceiling: Amount,
        covered: Amount,
        charged: Amount,
    ) -> Result<Option<Amount>, OverLimit> {
        if covered >= ceiling {
            return Ok(None);
        }
        let (needed, allowed) = (ceiling.less(charged), self.channel_max);
        if needed > allowed {
            return Err(OverLimit { needed, allowed });
        }
        let room = allowed.less(covered.less(charged));
        let amount = ceiling.less(covered).max(self.deposit).min(room);
        Ok(Some(amount))
    }

    /// What is due for a channel at `now` of the chain, without anybody asking.
    pub fn upkeep(&self, channel: &Escrowed, now: Timestamp) -> FundingStep {
        if let Some(withdrawal) = channel.state.withdrawal {
            let ready = withdrawal.initiated_at.after_s(channel.withdraw_delay_s);
            return match ready.since_s(now) {
                0 => FundingStep::Finalise,
                left => FundingStep::Rest(Some(Duration::from_secs(left))),
            };
        }
        if channel.in_use {
            return self.ahead(channel);
        }
        let Some(idle) = self.withdraw_idle else {
            return FundingStep::Rest(None);
        };
        // What is billed is the provider's; it comes and takes it.
        let (balance, claimed) = (channel.state.balance, channel.state.total_claimed);
        let mine = balance.less(channel.charged.max(claimed));
        match (mine.is_zero(), idle.checked_sub(channel.idle)) {
            (true, _) => FundingStep::Rest(None),
            (false, Some(left)) if !left.is_zero() => FundingStep::Rest(Some(left)),
            (false, _) => FundingStep::Withdraw(mine),
        }
    }

    /// Before it runs dry.
    fn ahead(&self, channel: &Escrowed) -> FundingStep {
        let covered = channel.state.covered();
        let left = covered.less(channel.ceiling);
        // What was never paid into is not used either.
        if covered.is_zero() || left >= self.top_up_below {
            return FundingStep::Rest(None);
        }
        let held = covered.less(channel.charged);
        let amount = self.deposit.min(self.channel_max.less(held));
        match amount.is_zero() {
            true => FundingStep::Rest(None),
            false => FundingStep::TopUp(amount),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Withdrawal;

    const POLICY: FundingPolicy = FundingPolicy {
        deposit: Amount::new(100),
        channel_max: Amount::new(250),
        top_up_below: Amount::new(30),
        withdraw_idle: Some(Duration::from_secs(3600)),
    };

    fn channel(balance: u128, ceiling: u128, charged: u128, idle_s: u64) -> Escrowed {
        Escrowed {
            state: ChannelState {
                balance: Amount::new(balance),
                ..ChannelState::default()
            },
            withdraw_delay_s: 900,
            ceiling: Amount::new(ceiling),
            charged: Amount::new(charged),
            in_use: false,
            idle: Duration::from_secs(idle_s),
        }
    }

    fn deposit(ceiling: u128, covered: u128, charged: u128) -> Result<Option<u128>, u128> {
        let [ceiling, covered, charged] = [ceiling, covered, charged].map(Amount::new);
        POLICY
            .deposit_for(ceiling, covered, charged)
            .map(|amount| amount.map(Amount::base_units))
            .map_err(|over| over.needed.base_units())
    }

    #[test]
    fn the_first_deposit_and_later_ones_stay_within_the_cap() {
        assert_eq!(deposit(10, 0, 0), Ok(Some(100)));
        assert_eq!(deposit(10, 10, 0), Ok(None));
        assert_eq!(deposit(220, 100, 0), Ok(Some(120)));
        assert_eq!(deposit(220, 200, 0), Ok(Some(50)));
        assert_eq!(deposit(251, 100, 0), Err(251));
        // What was spent does not count: a channel may live for ever.
        assert_eq!(deposit(1_020, 1_000, 990), Ok(Some(100)));
        assert_eq!(deposit(1_240, 1_000, 990), Ok(Some(240)));
        assert_eq!(deposit(1_241, 1_000, 990), Err(251));
    }

    #[test]
    fn a_channel_in_use_is_filled_before_it_is_dry() {
        let step = |balance, ceiling, in_use| {
            let channel = channel(balance, ceiling, ceiling, 0);
            POLICY.upkeep(&Escrowed { in_use, ..channel }, Timestamp(0))
        };
        let rest = FundingStep::Rest(None);
        assert_eq!(step(100, 70, true), rest);
        assert_eq!(step(100, 71, true), FundingStep::TopUp(Amount::new(100)));
        assert_eq!(step(0, 0, true), rest, "never paid into");
        let emptied = step(71, 71, false);
        assert_eq!(emptied, rest, "what was emptied is not filled again");
        let full = Escrowed {
            in_use: true,
            ceiling: Amount::new(249),
            ..channel(250, 0, 0, 0)
        };
        assert_eq!(POLICY.upkeep(&full, Timestamp(0)), rest, "at the cap");
    }

    #[test]
    fn an_idle_channel_is_emptied_but_for_what_is_owed() {
        let idle = channel(100, 40, 25, 3600);
        let step = POLICY.upkeep(&idle, Timestamp(0));
        assert_eq!(step, FundingStep::Withdraw(Amount::new(75)));
        let used = Escrowed {
            in_use: true,
            ..idle
        };
        assert!(matches!(
            POLICY.upkeep(&used, Timestamp(0)),
            FundingStep::Rest(_)
        ));
        let never = FundingPolicy {
            withdraw_idle: None,
            ..POLICY
        };
        assert_eq!(never.upkeep(&idle, Timestamp(0)), FundingStep::Rest(None));
        let soon = POLICY.upkeep(&channel(100, 40, 25, 3000), Timestamp(0));
        assert_eq!(soon, FundingStep::Rest(Some(Duration::from_secs(600))));
    }

    #[test]
    fn a_withdrawal_is_finished_when_its_delay_is_over() {
        let mut leaving = channel(100, 0, 0, 0);
        leaving.state.withdrawal = Some(Withdrawal {
            amount: Amount::new(100),
            initiated_at: Timestamp(1_000),
        });
        let left = FundingStep::Rest(Some(Duration::from_secs(1)));
        assert_eq!(POLICY.upkeep(&leaving, Timestamp(1_899)), left);
        assert_eq!(
            POLICY.upkeep(&leaving, Timestamp(1_900)),
            FundingStep::Finalise
        );
    }

    proptest! {
        #[test]
        fn no_deposit_goes_beyond_the_cap_or_falls_short(
            ceiling in 0u128..2_000, covered in 0u128..2_000, charged in 0u128..2_000,
        ) {
            let charged = charged.min(covered);
            if let Ok(Some(amount)) = deposit(ceiling, covered, charged) {
                prop_assert!(covered + amount >= ceiling);
                prop_assert!(covered + amount - charged <= 250);
            }
        }
    }
}
