//! `lethe tower`: claims for a provider that is away, before a payer's
//! withdrawal ends.
//!
//! It knows the provider's signed claims and nothing else of it, and its own
//! key pays for gas only: what it claims is the provider's. It looks at the
//! channels of its file, and follows [`market::plan_claims`] with some
//! patience, in which the provider itself may claim.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chain::{EvmLedger, Network, NetworkError};
use futures_util::{StreamExt, TryStreamExt, stream};
use market::{
    Amount, ClaimPolicy, Departure, Earned, Ledger, LedgerError, SignedClaim, Timestamp,
    plan_claims,
};
use serde_json::json;
use tracing::{info, warn};

use crate::cli;
use crate::clock;
use crate::folder::{Folder, FolderError};
use crate::output;
use crate::place::{Place, PlaceError};
use crate::policies::{PolicyError, watching};
use crate::signals::stopped;
use crate::signed_claims::{self, ClaimsFileError};

/// Channels read from the chain at a time.
const READS: usize = 8;

/// Why a tower does not watch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TowerError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Claims(#[from] ClaimsFileError),
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
}

/// Watches until it is told to stop.
pub(crate) async fn tower(args: cli::Tower) -> Result<(), TowerError> {
    let network = Network::by_name(&args.network.network, args.network.unaudited)?;
    let policy = watching(&args, network.mor)?;
    let folder = Folder::take(args.data.folder)?;
    let place = Place::new(folder, network, args.network.rpc_url)?;
    let key = Arc::new(place.keys.wallet("tower").map_err(PlaceError::from)?);
    let store = place.store("tower").await?;
    if let Some(treasury) = place.treasury().await? {
        treasury.fund(key.address(), Amount::ZERO).await?;
    }
    let ledger = place.ledger(key, &store, "tower").await?;
    let watch = Watch {
        ledger,
        policy,
        file: args.claims,
    };
    let held = signed_claims::read(&watch.file, &place.network)?.len();
    let account = watch.ledger.account();
    match args.json {
        true => output::json(&json!({ "tower": account, "claims": held })),
        false => output::line(format!(
            "Watching {held} channels; account {account} pays the gas"
        )),
    }
    let watching = watch.run(Duration::from_secs(args.look_every));
    tokio::select! {
        () = stopped() => {}
        () = watching => {}
    }
    drop(watch);
    store.close().await;
    Ok(())
}

struct Watch {
    ledger: EvmLedger,
    policy: ClaimPolicy,
    file: PathBuf,
}

impl Watch {
    async fn run(&self, every: Duration) {
        loop {
            let wait = match self.look().await {
                Ok(next) => next.map_or(every, |next| next.min(every)),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "not looked after; tried again");
                    every
                }
            };
            tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
        }
    }

    /// One look at the file and the chain. How soon the next is wanted.
    async fn look(&self) -> Result<Option<Duration>, TowerError> {
        let claims = signed_claims::read(&self.file, self.ledger.network())?;
        let reads = stream::iter(claims).map(|signed| self.weigh(signed));
        let weighed: Vec<_> = reads.buffered(READS).try_collect().await?;
        let due: Vec<(SignedClaim, Earned)> = weighed.into_iter().flatten().collect();
        if due.iter().all(|(_, earned)| earned.departure.is_none()) {
            return Ok(None);
        }
        let gas_price = match self.policy.gas {
            Some(_) => self.ledger.gas_price().await?,
            None => Amount::ZERO,
        };
        // Where no blocks are made, the chain's time stands still.
        let now: Timestamp = self.ledger.now().await?.max(clock::now());
        let earned: Vec<Earned> = due.iter().map(|(_, earned)| *earned).collect();
        let plan = plan_claims(&earned, gas_price, now, &self.policy);
        for (signed, earned) in &due {
            if !plan.claim.contains(&earned.channel) {
                continue;
            }
            let (channel, amount) = (earned.channel, earned.amount);
            match self.ledger.claim_signed(*signed).await {
                Ok(_) => info!(%channel, %amount, "claimed for the provider"),
                Err(LedgerError::Refused { reason }) => {
                    warn!(%channel, %amount, reason, "the contract does not take a claim");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(plan.look_after)
    }

    /// What one claim would bring now; nothing, if it was made or is not covered.
    async fn weigh(
        &self,
        signed: SignedClaim,
    ) -> Result<Option<(SignedClaim, Earned)>, TowerError> {
        let config = signed.claim.config;
        let channel = config.id(&self.ledger.domain());
        let state = self.ledger.channel(channel).await?;
        let amount = signed.claim.total.less(state.total_claimed);
        if amount.is_zero() || signed.claim.total > state.balance {
            return Ok(None);
        }
        let earned = Earned {
            channel,
            token: config.token,
            amount,
            waiting: Duration::ZERO,
            departure: Departure::of(&config, &state),
        };
        Ok(Some((signed, earned)))
    }
}
