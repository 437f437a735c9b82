//! Keeps channels as the policy wants them without being asked: topped up
//! before they run dry, emptied when nobody uses them, and withdrawals finished
//! when their delay is over.
//!
//! What is due is [`market::FundingPolicy::upkeep`]'s word. Here is only who
//! remembers when a channel was last used, and when the chain is worth a look.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use market::{Amount, ChannelId, FundingPolicy, FundingStep, Timestamp};
use tracing::{debug, info};

use crate::payment::Channel;
use crate::policy::Policy;
use crate::session::Sessions;

/// Between two looks at the purses.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// Between two looks at the chain for a channel that waits for something.
const WAITING_LOOK_S: u64 = 15;
/// For a channel that waits for nothing: somebody may have withdrawn without us.
const LOOK_S: u64 = 600;
/// Between two looks in any case.
const PAUSE_S: u64 = 10;
/// Channels for which the chain is read in one turn; the others have theirs in the next.
const LOOKS: usize = 16;

/// Ceiling and number of receipts.
type Mark = (Amount, u64);

/// What is remembered of a channel between two turns.
struct Kept {
    used_at: Timestamp,
    /// Moves with every answer.
    mark: Mark,
    /// It was used since the chain was last asked.
    in_use: bool,
    /// The chain is asked at the latest.
    look_at: Timestamp,
    /// And not before.
    not_before: Timestamp,
}

/// Looks after all channels.
pub(crate) struct Keeper {
    /// Of the channels that there were at the start: where they stood.
    marks: BTreeMap<ChannelId, Mark>,
    kept: BTreeMap<ChannelId, Kept>,
}

impl Keeper {
    /// From here on.
    pub(crate) fn new(sessions: &Sessions) -> Self {
        let channels = sessions.all();
        let marks = channels.iter().map(|channel| (channel.id, mark(channel)));
        Self {
            marks: marks.collect(),
            kept: BTreeMap::new(),
        }
    }

    /// Does what is due at `now`, by the wall.
    pub(crate) async fn turn(&mut self, sessions: &Sessions, policy: &Policy, now: Timestamp) {
        let mut due = sessions.all();
        due.retain(|channel| {
            let funding = policy.funding_of(channel.config.token);
            self.is_due(sessions, channel, &funding, now)
        });
        for channel in due.iter().take(LOOKS) {
            let funding = policy.funding_of(channel.config.token);
            let Some(kept) = self.kept.get_mut(&channel.id) else {
                continue;
            };
            let idle_s = now.since_s(kept.used_at);
            let wait_s = match sessions.keep(channel, kept.in_use, idle_s, now).await {
                Ok(step) => {
                    kept.in_use = false;
                    told(channel, step);
                    next_look_s(step, &funding)
                }
                Err(error) => {
                    debug!(channel = %channel.id, %error, "not kept as the policy says");
                    WAITING_LOOK_S
                }
            };
            kept.look_at = now.after_s(wait_s);
            kept.not_before = now.after_s(PAUSE_S.min(wait_s));
        }
    }

    /// Whether the chain is to be asked for this channel: after the start, when
    /// it runs dry, and now and then.
    fn is_due(
        &mut self,
        sessions: &Sessions,
        channel: &Channel,
        policy: &FundingPolicy,
        now: Timestamp,
    ) -> bool {
        let (left, running) = channel.purse(|purse| {
            let left = purse.escrow().less(purse.ceiling());
            (left, purse.running() > 0)
        });
        let start = self.marks.get(&channel.id).copied().unwrap_or_default();
        let kept = self.kept.entry(channel.id).or_insert_with(|| Kept {
            used_at: sessions.last_used(&channel.id).unwrap_or(now),
            mark: start,
            in_use: false,
            look_at: now,
            not_before: now,
        });
        if channel.relied_on.swap(false, Ordering::Relaxed) {
            kept.used_at = now;
        }
        let mark = mark(channel);
        if running || kept.mark != mark {
            kept.in_use = true;
            (kept.mark, kept.used_at) = (mark, now);
        }
        let dry = kept.in_use && left < policy.top_up_below;
        now >= kept.not_before && (dry || now >= kept.look_at)
    }
}

fn mark(channel: &Channel) -> Mark {
    channel.purse(|purse| (purse.ceiling(), purse.sequence()))
}

/// The chain's clock may go before the wall's, so no wait is long. A channel
/// that is in use now may have been idle for the policy's time by the next look.
fn next_look_s(step: FundingStep, policy: &FundingPolicy) -> u64 {
    let idle_s = policy.withdraw_idle.map_or(LOOK_S, |idle| idle.as_secs());
    match step {
        FundingStep::Rest(None) => LOOK_S.min(idle_s.max(WAITING_LOOK_S)),
        FundingStep::Rest(Some(wait)) => wait.as_secs().clamp(1, WAITING_LOOK_S),
        FundingStep::TopUp(_) | FundingStep::Withdraw(_) | FundingStep::Finalise => PAUSE_S,
    }
}

fn told(channel: &Channel, step: FundingStep) {
    let channel = channel.id;
    match step {
        FundingStep::Rest(_) => {}
        FundingStep::TopUp(amount) => info!(%channel, %amount, "topped up before it runs dry"),
        FundingStep::Withdraw(amount) => info!(%channel, %amount, "idle: withdrawal begun"),
        FundingStep::Finalise => info!(%channel, "withdrawal finished"),
    }
}
