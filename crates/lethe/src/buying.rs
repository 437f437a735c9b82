//! A consumer with all that belongs to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chain::{EvmLedger, Token};
use consumer::{Consumer, Pacing, Policy};
use market::{
    Accepted, Address, Amount, FundingPolicy, Ledger, LedgerError, Network, Payer, UsdRates,
};
use store::Store;
use tokio::sync::watch;
use transport::Endpoints;

use crate::clock;
use crate::first_money::{self, Wanted};
use crate::place::{Place, PlaceError};
use crate::pseudonyms::KeptPseudonyms;
use crate::signals::waits_for;
use crate::tokens::{self, TokenView};

/// Whole tokens that a demonstration's payer starts with, of each that it pays with.
const FIRST_TOKENS: u128 = 100;

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

/// In what is paid.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// The tokens, each with what goes into a channel of it; the first is the one that prices are compared in.
    pub(crate) tokens: Vec<(Token, FundingPolicy)>,
    /// The same, as amounts may be stated in them.
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) usd_rates: watch::Receiver<UsdRates>,
}

impl Means {
    /// The token that prices are compared in.
    pub(crate) fn unit(&self) -> Option<TokenView> {
        let (token, _) = self.tokens.first()?;
        Some(TokenView::new(token, &self.usd_rates.borrow()))
    }

    /// What amounts may be stated in.
    pub(crate) fn coins(&self, network: &chain::Network) -> Vec<Accepted> {
        let tokens = self.tokens.iter().map(|(token, _)| token.clone());
        tokens::coins(network, &tokens.collect::<Vec<_>>())
    }

    /// All that is paid with.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let tokens = self.tokens.iter();
        tokens.map(|(token, _)| token.address).collect()
    }
}

/// What the owner of the money allows, if nothing else is said.
fn policy(local: bool, way: Way, means: Means) -> Policy {
    // On one machine a look costs nothing, and a provider that was just
    // started is found at once.
    let refresh = if local {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(15)
    };
    let funding = means.tokens.into_iter();
    Policy {
        accepted: means.accepted,
        funding: funding
            .map(|(token, funding)| (token.address, funding))
            .collect(),
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
/// Requests go `way`; channels are kept as `means` says.
pub(crate) async fn buy(place: &Place, way: Way, means: Means) -> Result<Buying, BuyError> {
    let payer = Arc::new(place.keys.wallet("payer").map_err(PlaceError::from)?);
    let hot_key = Arc::new(place.keys.wallet("hot").map_err(PlaceError::from)?);
    let store = place.store("consumer").await?;
    if let Some(treasury) = place.treasury().await? {
        let first = means
            .tokens
            .iter()
            .map(|(token, _)| (token.address, first(token)));
        let first: Vec<_> = first.collect();
        treasury.fund(payer.address(), &first).await?;
    }
    let ledger = place.ledger(payer, &store, "payer").await?;
    let wanted = means.tokens.iter().map(|(token, funding)| Wanted {
        token: token.clone(),
        amount: funding.deposit,
        purpose: "for the first channel (--deposit)",
    });
    let wanted: Vec<_> = wanted.collect();
    let is_local = place.network.is_local();
    if !is_local {
        first_money::tell(place, &ledger, wanted.clone()).await?;
    }
    let usd_rates = means.usd_rates.clone();
    let pseudonyms = Arc::new(KeptPseudonyms::new(place, store.clone()));
    // It only dials out; on a chain of this machine there is nobody elsewhere.
    let bind = match is_local && place.rpc_url.contains("127.0.0.1") {
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
        policy: policy(is_local, way, means),
        usd_rates,
        clock: clock::wall(),
    };
    let consumer = Consumer::start(deps).await?;
    if let Err(error) = consumer.refresh().await {
        consumer.stop().await;
        return Err(error.into());
    }
    // The treasury gives each token once; channels are looked at only where nothing else is left.
    let is_empty = is_local && first_money::has_none(&ledger, &wanted).await?;
    if is_empty && consumer.channels().await?.is_empty() {
        first_money::tell(place, &ledger, wanted).await?;
    }
    Ok(Buying {
        consumer,
        ledger,
        store,
    })
}

fn first(token: &Token) -> Amount {
    let one = 10_u128.saturating_pow(token.decimals.into());
    Amount::new(one.saturating_mul(FIRST_TOKENS))
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

    /// What becomes of it when it is told to stop, in words.
    pub(crate) fn ends(&self) -> String {
        waits_for(self.running())
    }

    /// Ends what runs.
    pub(crate) async fn stop(self) {
        self.consumer.stop().await;
        self.store.close().await;
    }
}
