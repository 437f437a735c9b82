//! From vouchers to money: claims what was earned, many channels in one
//! transaction, and settles.
//!
//! A claim is made when enough was earned, when enough time has passed, and
//! at once when a payer begins to withdraw, because a voucher reserves
//! nothing. What the chain says was claimed is the truth; the journal follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use market::{Address, Amount, ChannelConfig, Claim, LedgerError};
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
    withdrawing: bool,
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
            withdrawing: till.state().withdrawal.is_some(),
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
    let policy = inner.claims.clone();
    let mut claimed_at = Instant::now();
    let mut watched_at = Instant::now();
    let mut not_before = Instant::now();
    // The process before may have ended between claim, journal and settlement.
    let mut behind = true;
    loop {
        if behind && Instant::now() >= not_before {
            match catch_up(&inner).await {
                Ok(()) => behind = false,
                Err(error) => {
                    warn!(%error, "claims not compared with the chain yet");
                    not_before = Instant::now() + RETRY_AFTER;
                }
            }
        }
        let look = tokio::time::sleep_until(watched_at + WATCH_EVERY);
        let by_time = tokio::time::sleep_until((claimed_at + policy.interval).max(not_before));
        tokio::select! {
            () = inner.earned.notified() => tokio::time::sleep(LOOK_PAUSE).await,
            () = look => {
                watched_at = Instant::now();
                refresh(&inner).await;
            }
            () = tokio::time::sleep_until(not_before), if behind => continue,
            () = by_time => {}
        }
        let dues = all_due(&inner);
        if dues.is_empty() {
            if claimed_at.elapsed() >= policy.interval {
                claimed_at = Instant::now();
            }
            continue;
        }
        let by_time = claimed_at.elapsed() >= policy.interval;
        let wanted = by_time || enough(&dues, policy.threshold);
        let wanted = wanted || dues.iter().any(|due| due.withdrawing);
        if !wanted || Instant::now() < not_before {
            continue;
        }
        match claim_all(&inner).await {
            Ok(claimed) => {
                claimed_at = Instant::now();
                if claimed.refused > 0 {
                    not_before = Instant::now() + RETRY_AFTER;
                }
            }
            Err(error) => {
                warn!(%error, "claim put off");
                behind = true;
                not_before = Instant::now() + RETRY_AFTER;
            }
        }
    }
}

/// Takes over what the chain says of earlier claims, and settles what they left.
async fn catch_up(inner: &Inner) -> Result<(), LedgerError> {
    let _one_at_a_time = inner.claiming.lock().await;
    refresh(inner).await;
    failpoint::hit("provider.claim.compared");
    settle(inner).await
}

/// Whether one token's sum reaches the threshold.
fn enough(dues: &[Due], threshold: Amount) -> bool {
    let mut sums = BTreeMap::<Address, Amount>::new();
    for due in dues {
        let sum = sums.entry(due.claim.config.token).or_default();
        *sum = sum.plus(due.more).unwrap_or(Amount::new(u128::MAX));
    }
    sums.values().any(|sum| *sum >= threshold)
}

/// Reads the chain for channels with something to claim, so that no claim is
/// for what is gone, and none is made twice.
async fn refresh(inner: &Inner) {
    let owed = inner.sessions.all().into_iter().filter(is_owed);
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

/// Claims all there is and settles it. One claim at a time.
pub(crate) async fn claim_all(inner: &Inner) -> Result<Claimed, LedgerError> {
    let _one_at_a_time = inner.claiming.lock().await;
    refresh(inner).await;
    let mut dues = all_due(inner);
    let mut claimed = Claimed::default();
    while !dues.is_empty() {
        let rest = dues.split_off(dues.len().min(BATCH));
        let batch = std::mem::replace(&mut dues, rest);
        claim_batch(inner, batch, &mut claimed).await?;
    }
    failpoint::hit("provider.claim.journalled");
    settle(inner).await?;
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

/// Pays out what was claimed, in every token that is sold for.
async fn settle(inner: &Inner) -> Result<(), LedgerError> {
    let receiver = inner.terms.receiver;
    for token in tokens(inner) {
        let state = inner.ledger.receiver(receiver, token).await?;
        if state.total_claimed > state.total_settled {
            failpoint::hit("provider.settle.wished");
            inner.ledger.settle(receiver, token).await?;
            failpoint::hit("provider.settle.included");
            info!(%token, amount = %state.total_claimed.less(state.total_settled), "settled");
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
