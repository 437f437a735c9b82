//! From vouchers to money: claims what was earned, many channels in one
//! transaction, and settles.
//!
//! What is claimed when is [`market::plan_claims`]'s word; here is only who
//! reads the chain, keeps the time and sends. A withdrawal is looked for once
//! a minute and at the start, because a voucher reserves nothing. What the
//! chain says was claimed is the truth; the journal follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use market::{
    Address, Amount, ChannelConfig, ChannelId, Claim, Departure, Earned, LedgerError, Timestamp,
    is_settlement_due, plan_claims,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::payment::Channel;
use crate::shell::Inner;

/// Channels in one claim; a block has room for more.
const BATCH: usize = 64;

/// Between two looks at what was earned.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at the chain for withdrawals. The shortest delay of a
/// channel is fifteen times as long.
const WATCH_EVERY: Duration = Duration::from_secs(60);

/// After a claim that did not go through, by policy or for a withdrawal.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Channels read from the chain at a time.
const READS: usize = 8;

/// What a claim brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claimed {
    /// Channels that were claimed on.
    pub channels: usize,
    /// Channels whose claim was refused.
    pub refused: usize,
}

/// A channel with something to claim.
struct Due {
    channel: Arc<Channel>,
    claim: Claim,
    /// What is new in it.
    more: Amount,
    departure: Option<Departure>,
}

fn due(channel: &Arc<Channel>) -> Option<Due> {
    channel.till(|till| {
        let total = till.claimable_total();
        let claimed = till.claimed().max(till.state().total_claimed);
        let more = total.less(claimed);
        let voucher = *till.best()?;
        (!more.is_zero()).then(|| Due {
            channel: Arc::clone(channel),
            claim: Claim {
                config: channel.config,
                voucher,
                total,
            },
            more,
            departure: Departure::of(&channel.config, till.state()),
        })
    })
}

fn all_due(inner: &Inner) -> Vec<Due> {
    inner.sessions.all().iter().filter_map(due).collect()
}

/// Whether the journal knows of something earned that it does not know to be
/// claimed, whatever the chain was last seen to hold: after a start that is nothing yet.
fn is_owed(channel: &Arc<Channel>) -> bool {
    channel.till(|till| till.charged().min(till.ceiling()) > till.claimed())
}

/// Claims by policy until the provider stops.
pub(crate) async fn watch(inner: Arc<Inner>) {
    let mut watch = Watch::new();
    loop {
        let wait = watch.turn(&inner).await;
        tokio::select! {
            () = inner.earned.notified() => tokio::time::sleep(LOOK_PAUSE).await,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What the policy must remember between two looks.
struct Watch {
    /// When each channel was first seen with something to claim.
    since: BTreeMap<ChannelId, Instant>,
    /// When the chain was last read for all channels. Never: the process
    /// before may have ended between claim, journal and settlement.
    read_at: Option<Instant>,
    /// Nothing is tried before, after something failed.
    not_before: Instant,
}

impl Watch {
    fn new() -> Self {
        Self {
            since: BTreeMap::new(),
            read_at: None,
            not_before: Instant::now(),
        }
    }

    /// Looks, does what is due, and says how long there is nothing to do.
    async fn turn(&mut self, inner: &Inner) -> Duration {
        let now = Instant::now();
        if now < self.not_before {
            return self.not_before - now;
        }
        match self.look(inner).await {
            Ok(wait) => {
                let next_read = self.read_at.map_or(now, |at| at + WATCH_EVERY);
                wait.unwrap_or(WATCH_EVERY)
                    .min(next_read.saturating_duration_since(now))
                    .max(LOOK_PAUSE)
            }
            Err(error) => {
                warn!(%error, "claim put off");
                self.read_at = None;
                self.not_before = now + RETRY_AFTER;
                RETRY_AFTER
            }
        }
    }

    async fn look(&mut self, inner: &Inner) -> Result<Option<Duration>, LedgerError> {
        let now = Instant::now();
        if self.read_at.is_none_or(|at| now >= at + WATCH_EVERY) {
            catch_up(inner).await?;
            self.read_at = Some(now);
        }
        let dues = all_due(inner);
        self.since
            .retain(|id, _| dues.iter().any(|due| due.channel.id == *id));
        if dues.is_empty() {
            return Ok(None);
        }
        let earned: Vec<_> = dues.iter().map(|due| self.earned(due, now)).collect();
        let gas_price = gas_price(inner).await?;
        let chain_now = match dues.iter().any(|due| due.departure.is_some()) {
            // Where no blocks are made, the chain's time stands still.
            true => inner.ledger.now().await?.max((inner.clock)()),
            false => Timestamp(0),
        };
        let plan = plan_claims(&earned, gas_price, chain_now, &inner.claims);
        if !plan.too_dear.is_empty() {
            info!(channels = plan.too_dear.len(), wei = %gas_price, "claims wait for cheaper gas");
        }
        if !plan.claim.is_empty() {
            let only = plan.claim.into_iter().collect();
            let claimed = claim_only(inner, Some(&only)).await?;
            if claimed.refused > 0 {
                self.not_before = now + RETRY_AFTER;
            }
        }
        Ok(plan.look_after)
    }

    fn earned(&mut self, due: &Due, now: Instant) -> Earned {
        let since = *self.since.entry(due.channel.id).or_insert(now);
        Earned {
            channel: due.channel.id,
            token: due.claim.config.token,
            amount: due.more,
            waiting: now.duration_since(since),
            departure: due.departure,
        }
    }
}

/// Takes over what the chain says of earlier claims, and settles what they left.
async fn catch_up(inner: &Inner) -> Result<(), LedgerError> {
    let _one_at_a_time = inner.claiming.lock().await;
    refresh(inner).await;
    failpoint::hit("provider.claim.compared");
    settle(inner, true).await
}

/// What gas costs, if that matters.
async fn gas_price(inner: &Inner) -> Result<Amount, LedgerError> {
    match inner.claims.gas {
        Some(_) => inner.ledger.gas_price().await,
        None => Ok(Amount::ZERO),
    }
}

/// Reads the chain for channels with something to claim, so that no claim is
/// for what is gone, and none is made twice.
async fn refresh(inner: &Inner) {
    let may_be_owed = |channel: &Arc<Channel>| is_owed(channel) || channel.claim_is_young();
    let owed = inner.sessions.all().into_iter().filter(may_be_owed);
    let reads = stream::iter(owed).map(|channel| async move {
        if let Err(error) = inner.sessions.read(&channel, LOOK_PAUSE).await {
            debug!(channel = %channel.id, %error, "channel not read");
            return;
        }
        let total = channel.till(|till| till.state().total_claimed);
        journal_claim(&channel, total).await;
    });
    reads.buffer_unordered(READS).collect::<()>().await;
}

/// Claims all there is and settles it, whatever the policy says.
pub(crate) async fn claim_all(inner: &Inner) -> Result<Claimed, LedgerError> {
    claim_only(inner, None).await
}

/// Claims on these channels, or on all, and settles. One claim at a time.
async fn claim_only(
    inner: &Inner,
    only: Option<&BTreeSet<ChannelId>>,
) -> Result<Claimed, LedgerError> {
    let _one_at_a_time = inner.claiming.lock().await;
    refresh(inner).await;
    let mut dues = all_due(inner);
    dues.retain(|due| only.is_none_or(|only| only.contains(&due.channel.id)));
    let mut claimed = Claimed::default();
    while !dues.is_empty() {
        let rest = dues.split_off(dues.len().min(BATCH));
        let batch = std::mem::replace(&mut dues, rest);
        claim_batch(inner, batch, &mut claimed).await?;
    }
    failpoint::hit("provider.claim.journalled");
    settle(inner, only.is_some()).await?;
    Ok(claimed)
}

/// Claims these; if the contract refuses them together, each half by itself:
/// one row that is refused takes the others with it.
async fn claim_batch(
    inner: &Inner,
    batch: Vec<Due>,
    claimed: &mut Claimed,
) -> Result<(), LedgerError> {
    let mut waiting = vec![batch];
    while let Some(mut dues) = waiting.pop() {
        let claims = dues.iter().map(|due| due.claim).collect();
        failpoint::hit("provider.claim.wished");
        match inner.ledger.claim(claims).await {
            Ok(_) => {
                failpoint::hit("provider.claim.included");
                claimed.channels += dues.len();
                info!(channels = dues.len(), "claimed");
                for due in &dues {
                    book(inner, &due.channel).await;
                }
            }
            Err(LedgerError::Refused { reason }) if dues.len() == 1 => {
                claimed.refused += 1;
                let channel = &dues[0].channel;
                warn!(channel = %channel.id, reason, "claim refused");
                book(inner, channel).await;
            }
            Err(LedgerError::Refused { .. }) => {
                let half = dues.split_off(dues.len() / 2);
                waiting.extend([half, dues]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes over what the chain says.
async fn book(inner: &Inner, channel: &Channel) {
    let state = match inner.ledger.channel(channel.id).await {
        Ok(state) => state,
        // The next claim reads it.
        Err(error) => return debug!(channel = %channel.id, %error, "channel not read"),
    };
    channel.earning(|earning| earning.funded(state));
    journal_claim(channel, state.total_claimed).await;
}

/// Nothing is written if it is known.
async fn journal_claim(channel: &Channel, total: Amount) {
    if let Err(error) = channel.claimed_to(total).await {
        warn!(channel = %channel.id, %error, "claim not journaled");
    }
}

/// Pays out what was claimed, in every token that is sold for; by policy, or all.
async fn settle(inner: &Inner, by_policy: bool) -> Result<(), LedgerError> {
    let receiver = inner.terms.receiver;
    let gas_price = gas_price(inner).await?;
    for token in tokens(inner) {
        let state = inner.ledger.receiver(receiver, token).await?;
        let unsettled = state.total_claimed.less(state.total_settled);
        let due = is_settlement_due(token, unsettled, gas_price, &inner.claims);
        if due || !(by_policy || unsettled.is_zero()) {
            failpoint::hit("provider.settle.wished");
            inner.ledger.settle(receiver, token).await?;
            failpoint::hit("provider.settle.included");
            info!(%token, amount = %unsettled, "settled");
        }
    }
    Ok(())
}

fn tokens(inner: &Inner) -> BTreeSet<Address> {
    let of = |channel: &Arc<Channel>| -> Address {
        let ChannelConfig { token, .. } = channel.config;
        token
    };
    inner.sessions.all().iter().map(of).collect()
}
