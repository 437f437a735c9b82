//! What a provider's channels have earned, for people, for a tower and for the
//! way out: of a running provider, or of its journal alone.

use market::Timestamp;
use market::{Amount, ChannelConfig, ChannelId, ChannelState, Claim, Domain, SignedVoucher, Till};
use serde::Serialize;
use store::{Entry, Store};

use crate::session::{PREFIX, ReplayError, Replayed, replay};

/// One channel and what was earned on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TillView {
    /// Its id.
    pub id: ChannelId,
    /// Its configuration.
    pub config: ChannelConfig,
    /// What the chain was last seen to say; zeros if it was not asked yet.
    pub state: ChannelState,
    /// Billed by receipts.
    pub charged: Amount,
    /// Allowed to be claimed at most.
    pub ceiling: Amount,
    /// Of it, claimed on chain as far as is known.
    pub claimed: Amount,
    /// The best voucher.
    pub voucher: Option<SignedVoucher>,
}

impl TillView {
    pub(crate) fn of(config: ChannelConfig, till: &Till) -> Self {
        Self {
            id: till.channel(),
            config,
            state: *till.state(),
            charged: till.charged(),
            ceiling: till.ceiling(),
            claimed: till.claimed().max(till.state().total_claimed),
            voucher: till.best().copied(),
        }
    }

    /// All that was ever earned and promised.
    pub fn earned(&self) -> Amount {
        self.charged.min(self.ceiling)
    }

    /// The claim for it, if there is something that was not claimed.
    pub fn claim(&self) -> Option<Claim> {
        let total = self.earned();
        (total > self.claimed).then_some(Claim {
            config: self.config,
            voucher: self.voucher?,
            total,
        })
    }
}

/// The tills that a provider's journal describes. Answers that were running
/// count as they will at the next start; nothing is written.
pub async fn read_books(
    store: &Store,
    domain: &Domain,
    now: Timestamp,
) -> Result<Vec<TillView>, ReplayError> {
    let mut views = Vec::new();
    for name in store.journals(PREFIX).await? {
        let entries = store.journal(&name).load().await?;
        let Replayed { config, earning } = replay(&name, entries.iter().map(Entry::line), domain)?;
        let mut till = earning.till().clone();
        till.interrupted(now).map_err(|source| ReplayError::Till {
            journal: name.clone(),
            source,
        })?;
        views.push(TillView::of(config, &till));
    }
    Ok(views)
}
