//! A consumer with all that belongs to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chain::EvmLedger;
use consumer::{Consumer, Pacing, Policy};
use market::{Amount, FundingPolicy, Ledger, LedgerError, Network, Payer};
use store::Store;
use transport::Endpoints;

use crate::clock;
use crate::first_money::{self, Wanted};
use crate::place::{Place, PlaceError};
use crate::pseudonyms::KeptPseudonyms;

const ONE_MOR: u128 = 1_000_000_000_000_000_000;
/// MOR that a demonstration's payer starts with.
const FIRST_MOR: Amount = Amount::new(100 * ONE_MOR);

/// Why nothing can be bought.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuyError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
    #[error("the consumer did not start")]
    Start(#[from] consumer::StartError),
}

/// A consumer that buys.
pub(crate) struct Buying {
    pub(crate) consumer: Consumer,
    pub(crate) ledger: EvmLedger,
    store: Store,
}

/// How requests go, and who pays for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) network: Network,
    pub(crate) pacing: Pacing,
    pub(crate) payer: Payer,
    pub(crate) standby: bool,
}

/// What the owner of the money allows, if nothing else is said.
fn policy(local: bool, way: Way, funding: FundingPolicy) -> Policy {
    // On one machine a look costs nothing, and a provider that was just
    // started is found at once.
    let refresh = if local {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(15)
    };
    Policy {
        funding,
        withdraw_delay_s: market::WITHDRAW_DELAY_MIN_S,
        refresh,
        running_max: 4096,
        network: way.network,
        pacing: way.pacing,
        payer: way.payer,
        standby: way.standby,
    }
}

/// Opens the consumer's journal and keys and begins to watch the market.
/// Requests go `way`; channels are kept as `funding` says.
pub(crate) async fn buy(
    place: &Place,
    way: Way,
    funding: FundingPolicy,
) -> Result<Buying, BuyError> {
    let payer = Arc::new(place.keys.wallet("payer").map_err(PlaceError::from)?);
    let hot_key = Arc::new(place.keys.wallet("hot").map_err(PlaceError::from)?);
    let store = place.store("consumer").await?;
    if let Some(treasury) = place.treasury().await? {
        treasury.fund(payer.address(), FIRST_MOR).await?;
    }
    let ledger = place.ledger(payer, &store, "payer").await?;
    let first = Wanted {
        mor: funding.deposit,
        mor_for: "for the first channel (--deposit)",
    };
    first_money::tell(place, &ledger, first).await?;
    let pseudonyms = Arc::new(KeptPseudonyms::new(place, store.clone()));
    // It only dials out; on a chain of this machine there is nobody elsewhere.
    let bind = match place.network.is_local() && place.rpc_url.contains("127.0.0.1") {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::UNSPECIFIED,
    };
    let endpoints = Endpoints::Quic(SocketAddr::from((bind, 0)));
    let deps = consumer::Deps {
        ledger: Arc::new(ledger.clone()),
        endpoints,
        store: store.clone(),
        hot_key,
        pseudonyms,
        policy: policy(place.network.is_local(), way, funding),
        clock: clock::wall(),
    };
    let consumer = Consumer::start(deps).await?;
    consumer.refresh().await?;
    Ok(Buying {
        consumer,
        ledger,
        store,
    })
}

impl Buying {
    /// The wallet.
    pub(crate) fn payer(&self) -> market::Address {
        self.ledger.account()
    }

    /// Answers that run.
    pub(crate) fn running(&self) -> usize {
        let models = self.consumer.models();
        let running = models
            .iter()
            .flat_map(|model| &model.offers)
            .map(|offer| offer.running);
        usize::try_from(running.sum::<u32>()).unwrap_or(usize::MAX)
    }

    /// Ends what runs.
    pub(crate) async fn stop(self) {
        self.consumer.stop().await;
        self.store.close().await;
    }
}
