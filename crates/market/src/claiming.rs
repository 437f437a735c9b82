//! When a provider claims what it earned, and when it is paid out: by amount,
//! by age, and in any case before a payer's withdrawal takes it away.
//!
//! Pure: what is due, the price of gas and the chain's time come in, a
//! [`ClaimPlan`] goes out. The node, the tower and the simulator follow the
//! same plan. A claim whose gas costs more than a share of what it brings
//! waits; one that a withdrawal would take waits no longer than the policy's
//! margin, and is then made if it brings more than it costs.

use core::time::Duration;
use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::{Amount, ChannelConfig, ChannelId, ChannelState, Timestamp};

/// Gas of a claim beside its rows: measured, see `contracts/snapshots`.
pub const CLAIM_GAS: u64 = 45_000;
/// Gas of one row of a claim.
pub const CLAIM_ROW_GAS: u64 = 21_000;
/// Gas of a settlement.
pub const SETTLE_GAS: u64 = 64_000;
/// When gas is too dear, the price is looked at again after this.
pub const GAS_LOOK: Duration = Duration::from_secs(60);

/// Wei in one of the chain's own coins.
const COIN_WEI: u128 = 1_000_000_000_000_000_000;

/// What gas may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GasPolicy {
    /// In which token gas is reckoned; what is earned in others is not weighed.
    pub token: Address,
    /// Base units of it for one of the chain's own coins.
    pub coin_price: Amount,
    /// A claim or a settlement may cost so much of what it brings, in percent.
    pub share_percent: u32,
}

impl GasPolicy {
    /// What so much gas costs, in base units of the token; the end of the range if it is beyond.
    pub fn cost(&self, gas: u64, wei_per_gas: Amount) -> Amount {
        let wei = wei_per_gas.base_units().saturating_mul(u128::from(gas));
        let price = self.coin_price.base_units();
        // Parts of a coin cost something too: rounded up.
        let whole = (wei / COIN_WEI).saturating_mul(price);
        let parts = (wei % COIN_WEI)
            .checked_mul(price)
            .map_or(price, |product| product.div_ceil(COIN_WEI));
        Amount::new(whole.saturating_add(parts))
    }

    fn allows(&self, gas: u64, wei_per_gas: Amount, brings: Amount, percent: u32) -> bool {
        let cost = self.cost(gas, wei_per_gas).base_units();
        let allowed = share(brings, percent);
        cost <= allowed.base_units()
    }
}

fn share(amount: Amount, percent: u32) -> Amount {
    let (amount, percent) = (amount.base_units(), u128::from(percent));
    let product = amount.checked_mul(percent);
    Amount::new(product.map_or_else(
        || (amount / 100).saturating_mul(percent),
        |product| product / 100,
    ))
}

/// When earned money is claimed on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPolicy {
    /// Claim as soon as so much of one token is earned and not claimed.
    pub threshold: Amount,
    /// Claim what has waited so long.
    pub interval: Duration,
    /// So long before a payer's withdrawal may be finished, claim whatever the
    /// share that gas takes, as long as it is not all.
    pub margin: Duration,
    /// After a withdrawal began, somebody else has so long to claim: a tower
    /// leaves it to its provider.
    pub patience: Duration,
    /// Be paid out as soon as so much is claimed.
    pub settle_threshold: Amount,
    /// What gas may cost; none: it is not weighed.
    pub gas: Option<GasPolicy>,
    /// Claim before stopping.
    pub on_stop: bool,
}

impl Default for ClaimPolicy {
    /// One MOR, ten minutes, and five minutes before a withdrawal's end.
    fn default() -> Self {
        Self {
            threshold: Amount::new(COIN_WEI),
            interval: Duration::from_secs(600),
            margin: Duration::from_secs(300),
            patience: Duration::ZERO,
            settle_threshold: Amount::ZERO,
            gas: None,
            on_stop: false,
        }
    }
}

/// A payer's withdrawal that waits for its delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Since when.
    pub began_at: Timestamp,
    /// From then on the payer can have the money.
    pub ends_at: Timestamp,
}

impl Departure {
    /// The one that is under way on this channel, if any.
    pub fn of(config: &ChannelConfig, state: &ChannelState) -> Option<Self> {
        let began_at = state.withdrawal?.initiated_at;
        Some(Self {
            began_at,
            ends_at: began_at.after_s(config.withdraw_delay_s),
        })
    }
}

/// Something earned on one channel and not claimed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earned {
    /// Where.
    pub channel: ChannelId,
    /// In what.
    pub token: Address,
    /// How much a claim would bring.
    pub amount: Amount,
    /// For how long it has waited.
    pub waiting: Duration,
    /// The payer is on the way out.
    pub departure: Option<Departure>,
}

/// What to do now, and when to think again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimPlan {
    /// Channels to claim on now, in one or more batches.
    pub claim: Vec<ChannelId>,
    /// Channels whose claim is wanted and waits, because gas is too dear.
    pub too_dear: Vec<ChannelId>,
    /// Plan again after this, if nothing new is earned; none: nothing is due.
    pub look_after: Option<Duration>,
}

/// What to claim of what is `earned`, at `now` of the chain.
pub fn plan_claims(
    earned: &[Earned],
    wei_per_gas: Amount,
    now: Timestamp,
    policy: &ClaimPolicy,
) -> ClaimPlan {
    let mut plan = ClaimPlan::default();
    let mut by_token = BTreeMap::<Address, Vec<&Earned>>::new();
    for one in earned.iter().filter(|one| !one.amount.is_zero()) {
        by_token.entry(one.token).or_default().push(one);
    }
    for (token, rows) in by_token {
        let gas = policy.gas.filter(|gas| gas.token == token);
        let scale = Scale { gas, wei_per_gas };
        plan.weigh(&rows, &scale, now, policy);
    }
    plan
}

/// Whether what was claimed is to be paid out now.
pub fn is_settlement_due(
    token: Address,
    unsettled: Amount,
    wei_per_gas: Amount,
    policy: &ClaimPolicy,
) -> bool {
    if unsettled.is_zero() || unsettled < policy.settle_threshold {
        return false;
    }
    let gas = policy.gas.filter(|gas| gas.token == token);
    gas.is_none_or(|gas| gas.allows(SETTLE_GAS, wei_per_gas, unsettled, gas.share_percent))
}

/// What gas weighs against.
struct Scale {
    gas: Option<GasPolicy>,
    wei_per_gas: Amount,
}

impl Scale {
    /// Whether the rows are worth the gas of a claim, at so many percent; each
    /// that is not worth its own row is left out first.
    fn worth<'a>(&self, rows: &[&'a Earned], percent: Option<u32>) -> Vec<&'a Earned> {
        let Some(gas) = self.gas else {
            return rows.to_vec();
        };
        let percent = percent.unwrap_or(gas.share_percent);
        let allows = |units, brings| gas.allows(units, self.wei_per_gas, brings, percent);
        let rows = rows.iter().copied();
        let worth: Vec<_> = rows
            .filter(|row| allows(CLAIM_ROW_GAS, row.amount))
            .collect();
        let units = CLAIM_ROW_GAS
            .saturating_mul(u64::try_from(worth.len()).unwrap_or(u64::MAX))
            .saturating_add(CLAIM_GAS);
        match allows(units, sum(&worth)) {
            true => worth,
            false => vec![],
        }
    }
}

fn sum(rows: &[&Earned]) -> Amount {
    let amounts = rows.iter().map(|row| row.amount);
    Amount::sum(amounts).unwrap_or(Amount::new(u128::MAX))
}

/// How a withdrawal presses.
enum Press {
    /// It is left to somebody else, for so long.
    Others(Duration),
    /// Claim as soon as gas allows; at the latest after so long.
    Soon(Duration),
    /// Claim now if it brings anything.
    Now,
}

fn press(departure: &Departure, now: Timestamp, policy: &ClaimPolicy) -> Press {
    let last = departure.ends_at.since_s(now);
    let margin = policy.margin.as_secs();
    if last <= margin {
        return Press::Now;
    }
    let until_last = Duration::from_secs(last - margin);
    let waited = now.since_s(departure.began_at);
    match policy.patience.as_secs().checked_sub(waited) {
        Some(left) if left > 0 => Press::Others(Duration::from_secs(left).min(until_last)),
        _ => Press::Soon(until_last),
    }
}

impl ClaimPlan {
    /// The rows of one token.
    fn weigh(&mut self, rows: &[&Earned], scale: &Scale, now: Timestamp, policy: &ClaimPolicy) {
        let (mut urgent, mut wanted) = (Vec::new(), Vec::new());
        let oldest = rows.iter().map(|row| row.waiting).max().unwrap_or_default();
        let by_policy = sum(rows) >= policy.threshold || oldest >= policy.interval;
        if !by_policy {
            self.look_within(policy.interval.saturating_sub(oldest));
        }
        for row in rows {
            match row
                .departure
                .map(|departure| press(&departure, now, policy))
            {
                Some(Press::Now) => urgent.push(*row),
                Some(Press::Soon(last)) => {
                    self.look_within(last);
                    wanted.push(*row);
                }
                Some(Press::Others(left)) => {
                    self.look_within(left);
                    if by_policy {
                        wanted.push(*row);
                    }
                }
                None if by_policy => wanted.push(*row),
                None => {}
            }
        }
        let now_or_never = scale.worth(&urgent, Some(100));
        self.take(&urgent, &now_or_never);
        let worth = scale.worth(&wanted, None);
        self.take(&wanted, &worth);
    }

    fn take(&mut self, asked: &[&Earned], worth: &[&Earned]) {
        self.claim.extend(worth.iter().map(|row| row.channel));
        let taken = |row: &Earned| worth.iter().any(|other| other.channel == row.channel);
        let dear = asked
            .iter()
            .filter(|row| !taken(row))
            .map(|row| row.channel);
        let before = self.too_dear.len();
        self.too_dear.extend(dear);
        if self.too_dear.len() > before {
            self.look_within(GAS_LOOK);
        }
    }

    fn look_within(&mut self, wait: Duration) {
        self.look_after = Some(self.look_after.map_or(wait, |before| before.min(wait)));
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    const MOR: Address = Address::repeat_byte(1);
    const NOW: Timestamp = Timestamp(10_000);
    /// One wei of gas is a base unit, and a tenth of what is brought may go for it.
    const GAS: GasPolicy = GasPolicy {
        token: MOR,
        coin_price: Amount::new(COIN_WEI),
        share_percent: 10,
    };

    fn policy() -> ClaimPolicy {
        ClaimPolicy {
            threshold: Amount::new(100),
            ..ClaimPolicy::default()
        }
    }

    fn earned(channel: u8, amount: u128, waiting_s: u64) -> Earned {
        Earned {
            channel: ChannelId(B256::repeat_byte(channel)),
            token: MOR,
            amount: Amount::new(amount),
            waiting: Duration::from_secs(waiting_s),
            departure: None,
        }
    }

    /// Its payer's withdrawal of 900 seconds began so long ago.
    fn leaving(channel: u8, amount: u128, ago_s: u64) -> Earned {
        let began_at = Timestamp(NOW.0 - ago_s);
        Earned {
            departure: Some(Departure {
                began_at,
                ends_at: began_at.after_s(900),
            }),
            ..earned(channel, amount, 0)
        }
    }

    /// The channels that are claimed on, those that wait for cheaper gas, and
    /// the seconds to the next look.
    fn planned(
        earned: &[Earned],
        gas_price: u128,
        policy: &ClaimPolicy,
    ) -> (Vec<u8>, Vec<u8>, Option<u64>) {
        let plan = plan_claims(earned, Amount::new(gas_price), NOW, policy);
        let bytes = |ids: Vec<ChannelId>| ids.iter().map(|id| id.0[0]).collect();
        let look = plan.look_after.map(|wait| wait.as_secs());
        (bytes(plan.claim), bytes(plan.too_dear), look)
    }

    #[test]
    fn a_claim_is_due_by_amount_or_by_age() {
        let policy = policy();
        let few = [earned(1, 40, 30), earned(2, 59, 100)];
        assert_eq!(planned(&few, 0, &policy), (vec![], vec![], Some(500)));
        let enough = [earned(1, 40, 0), earned(2, 60, 0)];
        assert_eq!(planned(&enough, 0, &policy), (vec![1, 2], vec![], None));
        let old = [earned(1, 1, 600), earned(2, 1, 0)];
        assert_eq!(planned(&old, 0, &policy), (vec![1, 2], vec![], None));
        assert_eq!(planned(&[], 0, &policy), (vec![], vec![], None));
    }

    #[test]
    fn a_withdrawal_is_answered_at_once_and_alone() {
        let rows = [earned(1, 40, 0), leaving(2, 1, 5)];
        let (claim, dear, _) = planned(&rows, 0, &policy());
        assert_eq!((claim, dear), (vec![2], vec![]));
    }

    #[test]
    fn dear_gas_is_waited_for_but_not_beyond_the_margin() {
        let policy = ClaimPolicy {
            gas: Some(GAS),
            ..policy()
        };
        // At 1 wei a claim of one row costs 66,000 base units.
        let worth = 10 * u128::from(CLAIM_GAS + CLAIM_ROW_GAS);
        for (row, claimed, dear) in [
            (earned(1, worth, 0), vec![1], vec![]),
            (earned(1, worth - 1, 0), vec![], vec![1]),
            (leaving(1, worth - 1, 5), vec![], vec![1]),
            (leaving(1, worth - 1, 599), vec![], vec![1]),
            (leaving(1, worth - 1, 600), vec![1], vec![]),
            (leaving(1, 66_000, 600), vec![1], vec![]),
            (leaving(1, 65_999, 600), vec![], vec![1]),
            // The payer has not taken it yet.
            (leaving(1, 66_000, 5_000), vec![1], vec![]),
        ] {
            let (claim, too_dear, look) = planned(&[row], 1, &policy);
            assert_eq!((claim, too_dear.clone()), (claimed, dear), "{row:?}");
            assert!(too_dear.is_empty() || look.is_some_and(|s| s <= 60));
        }
        // In the last second before the margin the look is in one second.
        let (_, _, look) = planned(&[leaving(1, 1, 599)], 1, &policy);
        assert_eq!(look, Some(1));
    }

    #[test]
    fn dust_rides_along_only_if_it_pays_for_its_row() {
        let policy = ClaimPolicy {
            gas: Some(GAS),
            ..policy()
        };
        let rows = [
            earned(1, 10_000_000, 0),
            earned(2, 210_000, 0),
            earned(3, 209_999, 0),
        ];
        let (claim, dear, _) = planned(&rows, 1, &policy);
        assert_eq!((claim, dear), (vec![1, 2], vec![3]));
    }

    #[test]
    fn a_tower_leaves_the_first_minutes_to_its_provider() {
        let policy = ClaimPolicy {
            threshold: Amount::new(u128::MAX),
            interval: Duration::MAX,
            patience: Duration::from_secs(300),
            ..policy()
        };
        assert_eq!(planned(&[leaving(1, 5, 0)], 0, &policy).0, [0u8; 0]);
        let (claim, _, look) = planned(&[leaving(1, 5, 299)], 0, &policy);
        assert_eq!((claim, look), (vec![], Some(1)));
        assert_eq!(planned(&[leaving(1, 5, 300)], 0, &policy).0, [1]);
        assert_eq!(planned(&[earned(1, 5, 9_999)], 0, &policy).0, [0u8; 0]);
    }

    #[test]
    fn a_settlement_waits_for_its_threshold_and_its_gas() {
        let policy = ClaimPolicy {
            settle_threshold: Amount::new(50),
            gas: Some(GAS),
            ..policy()
        };
        let due = |amount, price| {
            is_settlement_due(MOR, Amount::new(amount), Amount::new(price), &policy)
        };
        assert!(!due(0, 0) && !due(49, 0) && due(50, 0));
        assert!(due(640_000, 1) && !due(639_999, 1));
        let other = Address::repeat_byte(2);
        assert!(is_settlement_due(
            other,
            Amount::new(50),
            Amount::new(1),
            &policy
        ));
    }

    #[test]
    fn gas_that_cannot_be_reckoned_costs_everything() {
        let dear = GasPolicy {
            coin_price: Amount::new(u128::MAX),
            ..GAS
        };
        assert_eq!(
            dear.cost(u64::MAX, Amount::new(u128::MAX)).base_units(),
            u128::MAX
        );
        assert_eq!(GAS.cost(0, Amount::new(5)), Amount::ZERO);
        let cheap = GasPolicy {
            coin_price: Amount::new(1),
            ..GAS
        };
        assert_eq!(cheap.cost(1, Amount::new(1)), Amount::new(1), "rounded up");
    }
}
