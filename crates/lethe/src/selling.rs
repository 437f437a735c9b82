//! A provider with all that belongs to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use chain::{EvmLedger, Network, Token};
use engine::Engine;
use market::{
    Address, Amount, B256, Card, Kind, Ledger, LedgerError, NodeKey, Rates, SignedCertificate,
    WalletKey,
};
use provider::{
    BackendHandle, ClaimPolicy, Config, EngineBackend, FindRelaysError, OfferConfig, Provider,
    StartError, find_relays,
};
use sha2::{Digest, Sha256};
use store::Store;
use transport::{BindError, Node};

use crate::clock;
use crate::endpoint::{Endpoint, Listening};
use crate::first_money::{self, Wanted};
use crate::listen::ListenError;
use crate::output;
use crate::place::{Place, PlaceError};
use crate::policies::MOR_DECIMALS;
use crate::signals::{STOP_WITHIN, waits_for};

/// MOR that a demonstration's provider starts with: for stakes and fees.
const FIRST_MOR: Amount = Amount::new(2_000_000_000_000_000_000);

/// In place of relays: any of those in the registry.
pub(crate) const AUTO: &str = "auto";

/// So many of them.
pub(crate) const RELAYS: usize = 2;

/// Why a provider does not sell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SellError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the node cannot listen; choose another address with --listen ADDR")]
    Bind(#[from] BindError),
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
    #[error("no relay to wait at")]
    Relays(#[from] FindRelaysError),
    #[error("provider {name:?} did not start")]
    Start {
        name: String,
        #[source]
        source: Box<StartError>,
    },
    #[error("{name:?} does not come on the market: {lack}")]
    Lacks { name: String, lack: Box<Lack> },
}

/// Money that an account lacks to be on the market.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its account {account} has {has}, and {needs} are needed; {next}")]
pub(crate) struct Lack {
    account: Address,
    /// In whole tokens.
    has: String,
    needs: String,
    /// What to do about it.
    next: &'static str,
}

impl Lack {
    /// The reason of an error, if this is it.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static), network: &Network) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        let lacking = causes.find_map(|cause| match cause.downcast_ref::<LedgerError>() {
            Some(LedgerError::Insufficient {
                owner,
                token,
                has,
                needs,
            }) => Some((*owner, *token, *has, *needs)),
            _ => None,
        });
        let (account, token, has, needs) = lacking?;
        let shown = |amount: Amount| match token.is_zero() {
            true => format!("{} ETH", amount.to_decimal(MOR_DECIMALS)),
            false => match network.token(token) {
                Some(token) => token.shown(amount),
                None => Token::unknown(token).shown(amount),
            },
        };
        Some(Self {
            account,
            has: shown(has),
            needs: shown(needs),
            next: match network.is_local() {
                true => {
                    "send it the rest (on the chain of a `lethe up`: `lethe faucet ADDRESS`), then start it again"
                }
                false => "send it the rest, then start it again",
            },
        })
    }
}

/// What is sold, by whom.
pub(crate) struct Shop {
    /// The provider's name here; names its keys and its journal.
    pub(crate) name: String,
    /// The model's name in the market.
    pub(crate) model: String,
    /// In what it is paid.
    pub(crate) token: Address,
    pub(crate) rates: Rates,
    pub(crate) slots: usize,
    pub(crate) queue: usize,
    pub(crate) output_tokens_max: Option<u32>,
    pub(crate) context_length: Option<u32>,
    pub(crate) backend: BackendHandle,
    /// The model's name at the backend.
    pub(crate) upstream_model: String,
    /// `own-engine` or `third-party`.
    pub(crate) upstream: &'static str,
    /// Whether it is tried if the backend goes on with a begun answer.
    pub(crate) probe: bool,
    /// What exactly the model is.
    pub(crate) card: Option<Card>,
    /// Fields of a request that are heeded.
    pub(crate) parameters: Vec<String>,
    /// When it claims.
    pub(crate) claims: ClaimPolicy,
    /// Relays at which it waits, if it cannot be dialled.
    pub(crate) behind: Vec<String>,
    /// Who the hosts of its provider are; none: it is registered itself.
    pub(crate) hosts: Option<SignedCertificate>,
}

impl Shop {
    /// Whether it sells for another account than this one.
    fn is_host(&self, account: Address) -> bool {
        let hosts = self.hosts.as_ref().and_then(|hosts| hosts.read().ok());
        hosts.is_some_and(|hosts| hosts.provider != account)
    }
}

/// A provider that sells.
pub(crate) struct Selling {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// Where its descriptor is served, as others are told.
    pub(crate) endpoint: String,
    pub(crate) provider: Arc<Provider>,
    pub(crate) ledger: EvmLedger,
    node: Node,
    store: Store,
}

/// The backend of an engine in this process.
pub(crate) fn engine_backend(engine: &Engine) -> BackendHandle {
    BackendHandle::new(EngineBackend::new(engine.clone(), clock::wall()))
}

/// Opens a provider's journal and keys, puts it on the market, and serves.
/// `endpoint`: where the descriptor is to be served; none: where it was before, if that is free.
pub(crate) async fn sell(
    place: &Place,
    mut shop: Shop,
    endpoint: Option<&Endpoint>,
    bind: SocketAddr,
) -> Result<Selling, SellError> {
    let name = &shop.name;
    let wallet = Arc::new(place.keys.wallet(name).map_err(PlaceError::from)?);
    let node_key = Arc::new(place.keys.node(name).map_err(PlaceError::from)?);
    // Ports first: who cannot be reached needs no money and no place in the registry.
    let listening = match shop.behind.is_empty() {
        true => listen_at(endpoint, bind).await,
        false => listen_here(endpoint, bind).await,
    };
    let listening = listening?;
    if shop.behind == [AUTO] {
        let reader = place.reader(Arc::clone(&wallet)).await?;
        shop.behind = find_relays(&reader, clock::now(), RELAYS).await?;
    }
    let node = match shop.behind.is_empty() {
        true => node_at(&node_key, bind, listening.as_ref()).await?,
        false => Node::quic(&node_key, dialling(bind, &shop.behind)).await?,
    };
    let sold = on_market(place, shop, (wallet, node_key), listening, node.clone()).await;
    if sold.is_err() {
        // Nobody is to wait for it as for one that was lost.
        node.close().await;
    }
    sold
}

/// Puts what listens on the market.
async fn on_market(
    place: &Place,
    shop: Shop,
    (wallet, node_key): (Arc<WalletKey>, Arc<NodeKey>),
    listening: Option<Listening>,
    node: Node,
) -> Result<Selling, SellError> {
    let (name, address) = (shop.name.clone(), wallet.address());
    let store = place.store(&name).await?;
    let ledger = funded(place, &shop, &wallet, &store).await?;
    let Listening {
        listener,
        at,
        endpoint,
        ..
    } = match listening {
        Some(listening) => listening,
        None => listen_as_before(&ledger).await?,
    };
    if shop.behind.is_empty() {
        warn_if_alone(place, at, &endpoint);
    }
    let config = config(shop, endpoint.clone(), &ledger).await?;
    let deps = provider::Deps {
        ledger: Arc::new(ledger.clone()),
        node: node.clone(),
        store: store.clone(),
        wallet,
        node_key,
        config,
        listener,
        clock: clock::wall(),
    };
    let started = Provider::start(deps).await;
    let provider = started.map_err(|source| match Lack::of(&source, &place.network) {
        Some(lack) => SellError::Lacks {
            name: name.clone(),
            lack: Box::new(lack),
        },
        None => SellError::Start {
            name: name.clone(),
            source: Box::new(source),
        },
    })?;
    Ok(Selling {
        name,
        address,
        endpoint,
        provider: Arc::new(provider),
        ledger,
        node,
        store,
    })
}

/// The chain as a seller sees it, with what it needs to be on the market.
async fn funded(
    place: &Place,
    shop: &Shop,
    wallet: &Arc<WalletKey>,
    store: &Store,
) -> Result<EvmLedger, SellError> {
    let address = wallet.address();
    // A host needs gas and nothing else.
    let stakes = match shop.is_host(address) {
        true => vec![],
        false => vec![(place.network.mor, FIRST_MOR)],
    };
    let treasury = place.treasury().await?;
    if let Some(treasury) = &treasury {
        treasury.fund(address, &stakes).await?;
    }
    let ledger = place.ledger(Arc::clone(wallet), store, &shop.name).await?;
    let wanted = match stakes.is_empty() {
        true => vec![],
        false => vec![first_mor(&ledger).await?],
    };
    match treasury {
        // Who left the market and comes back may have taken all of it along.
        Some(treasury) => {
            for Wanted { token, amount, .. } in wanted {
                treasury.make_up(address, token.address, amount).await?;
            }
        }
        None => first_money::tell(place, &ledger, wanted).await?,
    }
    Ok(ledger)
}

/// A node whose description is served there, if that is said.
pub(crate) async fn node_at(
    key: &NodeKey,
    bind: SocketAddr,
    listening: Option<&Listening>,
) -> Result<Node, BindError> {
    let at = listening.map(|listening| listening.at);
    match listening.and_then(|listening| Some((listening.at, listening.public?))) {
        // Passed on are ports that somebody chose: that of the description, if no other.
        Some((at, public)) if bind.port() == 0 => {
            Node::quic_behind(key, SocketAddr::new(bind.ip(), at.port()), public).await
        }
        Some((_, public)) => Node::quic_behind(key, bind, public).await,
        None => Node::quic(key, reachable(bind, at)).await,
    }
}

/// Tells who registers an address for buyers elsewhere that they do not reach.
pub(crate) fn warn_if_alone(place: &Place, at: SocketAddr, endpoint: &str) {
    let chain = place.endpoints.urls();
    if let Some(few) = too_few(at, endpoint, chain.iter().map(String::as_str)) {
        output::aside(format!(
            "WARNING: registered as {endpoint}, which {few}, and the chain is elsewhere: say with --endpoint ADDR where others \
             reach this one (with --listen 0.0.0.0:PORT, where a router passes the ports on); a provider without an open port \
             waits at relays (--behind RELAY)."
        ));
    }
}

/// Who alone reaches an endpoint, if the chain's servers are elsewhere.
fn too_few<'a>(
    at: SocketAddr,
    endpoint: &str,
    mut chain: impl Iterator<Item = &'a str>,
) -> Option<&'static str> {
    let public: Option<SocketAddr> = endpoint.parse().ok();
    let is_private = public.is_some_and(|endpoint| is_private(endpoint.ip()));
    let (is_near, few): (fn(&str) -> bool, _) = match (at.ip().is_loopback(), is_private) {
        (true, _) => (is_here, "nobody on another machine reaches"),
        (false, true) => (is_close, "nobody outside of this network reaches"),
        (false, false) => return None,
    };
    let is_near = |url: &str| {
        let url = reqwest::Url::parse(url).ok();
        let host = url.as_ref().and_then(|url| url.host_str());
        host.is_none_or(|host| is_near(host.trim_matches(['[', ']'])))
    };
    (!chain.any(is_near)).then_some(few)
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let ip = host.parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Whether a host is this machine or in a private network, as one without a domain is.
fn is_close(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || is_private(ip),
        Err(_) => !host.contains('.'),
    }
}

/// Whether an address is of a network that nobody outside reaches.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Where a node listens whose description is served at `endpoint`: an address of
/// this machine alone is of no use to those who read that elsewhere.
fn reachable(bind: SocketAddr, endpoint: Option<SocketAddr>) -> SocketAddr {
    let public = endpoint.filter(|endpoint| !endpoint.ip().is_loopback());
    match (bind.ip().is_loopback(), bind.port(), public) {
        (true, 0, Some(endpoint)) => endpoint,
        (true, port, Some(endpoint)) => SocketAddr::new(endpoint.ip(), port),
        _ => bind,
    }
}

/// From where relays are dialled: an address of this machine alone reaches none
/// that is elsewhere.
fn dialling(bind: SocketAddr, relays: &[String]) -> SocketAddr {
    let is_here = |relay: &String| {
        let relay = relay.parse::<SocketAddr>();
        relay.is_ok_and(|relay| relay.ip().is_loopback())
    };
    if !bind.ip().is_loopback() || relays.iter().all(is_here) {
        return bind;
    }
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, bind.port()))
}

/// Listens where a node's description is to be served, if that is said.
pub(crate) async fn listen_at(
    endpoint: Option<&Endpoint>,
    bind: SocketAddr,
) -> Result<Option<Listening>, ListenError> {
    match endpoint {
        Some(endpoint) => endpoint.listen(bind).await.map(Some),
        None => Ok(None),
    }
}

/// The same of one that waits at relays: nobody elsewhere is told of an address of this
/// machine alone, so that any other port will do.
async fn listen_here(
    endpoint: Option<&Endpoint>,
    bind: SocketAddr,
) -> Result<Option<Listening>, ListenError> {
    match listen_at(endpoint, bind).await {
        Err(ListenError::InUse { address, .. }) if address.ip().is_loopback() => {
            let any = SocketAddr::new(address.ip(), 0);
            Listening::at(any).await.map(Some)
        }
        listening => listening,
    }
}

/// Listens where a registered node's description was served before, if that is free.
pub(crate) async fn listen_as_before(ledger: &EvmLedger) -> Result<Listening, SellError> {
    let providers = ledger.providers().await?;
    let own = providers
        .iter()
        .find(|provider| provider.address == ledger.account());
    if let Some(before) = own.and_then(|own| own.endpoint.parse::<SocketAddr>().ok())
        && let Ok(listening) = Listening::at(before).await
    {
        return Ok(listening);
    }
    Ok(Listening::at(SocketAddr::from(([127, 0, 0, 1], 0))).await?)
}

/// What a provider needs to be in the registry with one model; nothing if it is.
async fn first_mor(ledger: &EvmLedger) -> Result<Wanted, LedgerError> {
    let stakes = ledger.stakes().await?;
    let known = ledger.providers().await?;
    let is_known = known.iter().any(|one| one.address == ledger.account());
    let units = |amount: Amount| amount.base_units();
    let all = units(stakes.provider_min)
        .saturating_add(units(stakes.model_min))
        .saturating_add(units(stakes.bid_fee));
    Ok(Wanted {
        token: first_money::mor(ledger),
        amount: Amount::new(if is_known { 0 } else { all }),
        purpose: "for the stakes of provider and model, which come back, and the fee of a bid",
    })
}

async fn config(shop: Shop, endpoint: String, ledger: &EvmLedger) -> Result<Config, SellError> {
    let stakes = ledger.stakes().await?;
    let offer = OfferConfig {
        base: B256::from_slice(&Sha256::digest(shop.model.as_bytes())),
        name: shop.model,
        tags: vec![tag(shop.card.as_ref()).into()],
        rates: shop.rates,
        token: shop.token,
        price_per_second: stakes.price_per_second_min,
        context_length: shop.context_length,
        output_tokens_max: shop.output_tokens_max,
        upstream: Some(shop.upstream.into()),
        upstream_model: shop.upstream_model,
        backend: shop.backend,
        slots: shop.slots,
        queue: shop.queue,
        probe: shop.probe,
        card: shop.card,
        parameters: shop.parameters,
    };
    Ok(Config {
        endpoint,
        addresses: vec![],
        behind: shop.behind,
        hosts: shop.hosts,
        offers: vec![offer],
        withdraw_delay_min_s: market::WITHDRAW_DELAY_MIN_S,
        quote_validity_s: 600,
        pay_within: Config::PAY_WITHIN,
        stop_within: STOP_WITHIN,
        claims: shop.claims,
    })
}

/// What the registry says of a model for people who look for some.
fn tag(card: Option<&Card>) -> &'static str {
    match Kind::of_card(card) {
        Kind::Chat => "LLM",
        Kind::Embeddings => "embeddings",
    }
}

impl Selling {
    /// Answers that run.
    pub(crate) fn running(&self) -> usize {
        let offers = self.provider.status().offers;
        offers.iter().map(|offer| offer.running).sum()
    }

    /// What becomes of it when it is told to stop, in words.
    pub(crate) fn ends(&self) -> String {
        waits_for(self.running())
    }

    /// Lets running answers end, then ends.
    pub(crate) async fn stop(self) {
        // Nobody else holds it by now; if somebody did, it would end as in a crash.
        if let Some(provider) = Arc::into_inner(self.provider) {
            provider.stop().await;
        }
        self.node.close().await;
        self.store.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_in_whole_tokens_with_what_to_do() {
        let network = Network::local();
        let of = |token| {
            let source = LedgerError::Insufficient {
                owner: Address::repeat_byte(1),
                token,
                has: Amount::ZERO,
                needs: Amount::new(200_000_000_000_000_000),
            };
            let error = StartError::from(provider::RegisterError::Provider {
                endpoint: "127.0.0.1:1".into(),
                source,
            });
            Lack::of(&error, &network).unwrap().to_string()
        };
        let mor = of(network.mor);
        assert!(mor.contains("has 0 MOR, and 0.2 MOR are needed; "), "{mor}");
        assert!(mor.contains("`lethe faucet ADDRESS`"), "{mor}");
        let coins = of(Address::ZERO);
        assert!(coins.contains("0.2 ETH are needed"), "{coins}");
        assert_eq!(Lack::of(&StartError::NodeKey, &network), None);
    }

    #[test]
    fn whose_description_is_read_elsewhere_is_not_on_this_machine_alone() {
        let at = |bind: &str, endpoint: &str| {
            let endpoint = Some(endpoint.parse().unwrap());
            reachable(bind.parse().unwrap(), endpoint).to_string()
        };
        assert_eq!(at("127.0.0.1:0", "127.0.0.1:3333"), "127.0.0.1:0");
        assert_eq!(at("127.0.0.1:0", "192.0.2.7:3333"), "192.0.2.7:3333");
        assert_eq!(at("127.0.0.1:5", "192.0.2.7:3333"), "192.0.2.7:5");
        assert_eq!(at("192.0.2.8:5", "192.0.2.7:3333"), "192.0.2.8:5");
        assert_eq!(at("[::1]:0", "[2001:db8::1]:3333"), "[2001:db8::1]:3333");
        let bind = "127.0.0.1:0".parse().unwrap();
        assert_eq!(reachable(bind, None), bind);
    }

    #[test]
    fn who_waits_at_relays_elsewhere_dials_from_where_it_reaches_them() {
        let from = |bind: &str, relays: &[&str]| {
            let relays: Vec<_> = relays.iter().map(|relay| (*relay).to_owned()).collect();
            dialling(bind.parse().unwrap(), &relays).to_string()
        };
        assert_eq!(from("127.0.0.1:5", &[]), "127.0.0.1:5");
        assert_eq!(from("127.0.0.1:5", &["127.0.0.1:3334"]), "127.0.0.1:5");
        assert_eq!(
            from("127.0.0.1:5", &["127.0.0.1:1", "192.0.2.1:1"]),
            "0.0.0.0:5"
        );
        assert_eq!(from("127.0.0.1:0", &["relay.example:3334"]), "0.0.0.0:0");
        assert_eq!(from("192.0.2.7:0", &["192.0.2.1:1"]), "192.0.2.7:0");
    }
}
