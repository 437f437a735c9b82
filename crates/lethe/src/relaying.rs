//! A relay with all that belongs to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use chain::EvmLedger;
use market::{Address, Amount, Ledger, LedgerError, NodeKey, WalletKey};
use relay::{Config, PassedOn, Relay, StartError};
use store::Store;
use transport::Node;

use crate::clock;
use crate::endpoint::{Endpoint, Listening};
use crate::first_money::{self, Wanted};
use crate::place::{Place, PlaceError};
use crate::selling::{SellError, listen_as_before, listen_at, node_at, warn_if_alone};
use crate::signals::cuts;

/// MOR that a demonstration's relay starts with: for its stake.
const FIRST_MOR: Amount = Amount::new(1_000_000_000_000_000_000);

/// A relay that carries.
pub(crate) struct Relaying {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// Where its description is served, as others are told.
    pub(crate) endpoint: String,
    /// The same, on this machine.
    pub(crate) at: SocketAddr,
    pub(crate) relay: Relay,
    pub(crate) ledger: EvmLedger,
    node: Node,
    store: Store,
}

/// Why a relay does not carry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error(transparent)]
    Sell(#[from] SellError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the node cannot listen; choose another address with --listen ADDR")]
    Bind(#[from] transport::BindError),
    #[error("the chain does not answer")]
    Ledger(#[from] market::LedgerError),
    #[error("relay {name:?} did not start")]
    Start {
        name: String,
        #[source]
        source: Box<StartError>,
    },
}

/// Opens a relay's keys, registers it, and carries. `endpoint`: where its
/// description is to be served; none: where it was before, if that is free.
/// `per_second`: streams that begin in a second before each peer has its share.
pub(crate) async fn carry(
    place: &Place,
    name: &str,
    endpoint: Option<&Endpoint>,
    bind: SocketAddr,
    per_second: usize,
) -> Result<Relaying, RelayError> {
    let wallet = Arc::new(place.keys.wallet(name).map_err(PlaceError::from)?);
    let node_key = Arc::new(place.keys.node(name).map_err(PlaceError::from)?);
    // Ports first: who cannot be reached needs no money and no place in the registry.
    let listening = listen_at(endpoint, bind).await.map_err(SellError::from)?;
    let node = node_at(&node_key, bind, listening.as_ref()).await?;
    let keys = (wallet, node_key);
    let carries = registered(place, name, keys, listening, (node.clone(), per_second)).await;
    if carries.is_err() {
        // Nobody is to wait for it as for one that was lost.
        node.close().await;
    }
    carries
}

/// Registers what listens, and carries.
async fn registered(
    place: &Place,
    name: &str,
    (wallet, node_key): (Arc<WalletKey>, Arc<NodeKey>),
    listening: Option<Listening>,
    (node, per_second): (Node, usize),
) -> Result<Relaying, RelayError> {
    let address = wallet.address();
    let store = place.store(name).await?;
    let treasury = place.treasury().await?;
    if let Some(treasury) = &treasury {
        treasury
            .fund(address, &[(place.network.mor, FIRST_MOR)])
            .await?;
    }
    let ledger = place.ledger(Arc::clone(&wallet), &store, name).await?;
    let wanted = first_mor(&ledger).await?;
    match treasury {
        // Who left the market and comes back may have taken all of it along.
        Some(treasury) => {
            treasury
                .make_up(address, wanted.token.address, wanted.amount)
                .await?;
        }
        None => first_money::tell(place, &ledger, vec![wanted]).await?,
    }
    let Listening {
        listener,
        at,
        endpoint,
        public,
    } = match listening {
        Some(listening) => listening,
        None => listen_as_before(&ledger).await?,
    };
    warn_if_alone(place, at, &endpoint);
    let refresh = match place.network.is_local() {
        true => Duration::from_secs(1),
        false => Duration::from_secs(15),
    };
    let deps = relay::Deps {
        ledger: Arc::new(ledger.clone()) as Arc<dyn Ledger>,
        node: node.clone(),
        wallet,
        node_key,
        config: Config {
            streams_per_second: per_second,
            passed_on: public.and_then(passed_on),
            ..Config::at(endpoint.clone(), refresh)
        },
        listener,
        clock: clock::wall(),
    };
    let relay = Relay::start(deps)
        .await
        .map_err(|source| RelayError::Start {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
    Ok(Relaying {
        name: name.to_owned(),
        address,
        endpoint,
        at,
        relay,
        ledger,
        node,
        store,
    })
}

/// Which of this machine's addresses a public one is passed on to; none: it is this machine's own.
fn passed_on(public: IpAddr) -> Option<PassedOn> {
    let anywhere: IpAddr = match public {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The way there says it; nothing is sent.
    let socket = UdpSocket::bind((anywhere, 0)).ok()?;
    socket.connect((public, 9)).ok()?;
    let here = socket.local_addr().ok()?.ip();
    (here != public).then_some(PassedOn { public, here })
}

/// What a relay needs to be in the registry; nothing if it is.
async fn first_mor(ledger: &EvmLedger) -> Result<Wanted, LedgerError> {
    let known = ledger.providers().await?;
    let is_known = known.iter().any(|one| one.address == ledger.account());
    Ok(Wanted {
        token: first_money::mor(ledger),
        amount: match is_known {
            true => Amount::ZERO,
            false => ledger.stakes().await?.provider_min,
        },
        purpose: "for the relay's stake, which comes back",
    })
}

impl Relaying {
    /// Streams that run.
    fn running(&self) -> usize {
        usize::try_from(self.relay.counts().running).unwrap_or(usize::MAX)
    }

    /// What becomes of it when it is told to stop, in words.
    pub(crate) fn ends(&self) -> String {
        cuts(self.running())
    }

    /// Ends what runs.
    pub(crate) async fn stop(self) {
        self.relay.stop().await;
        self.node.close().await;
        self.store.close().await;
    }
}
