//! The dashboard: its page, and the state that it shows, as JSON and as a
//! stream of events. Loopback, behind the node's bearer key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chain::{DEPLOYER, DEVELOPMENT_ACCOUNTS, EvmLedger, Explorer};
use consumer::{AnswerView, Consumer, ModelView, RelayView};
use market::{Address, Amount, FundingPolicy, Ledger};
use provider::Provider;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::doorkeeper::{guarded, refuse};
use crate::explorer;
use crate::faucet::{Faucet, Gift};
use crate::flows::{Flows, Seller};
use crate::keystore::Kept;
use crate::money::{Holders, Money, MoneyError};
use crate::own::Own;
use crate::route;
use crate::tokens::{TokenView, TokenViews};

/// Between two looks at what the page shows.
const EVERY: Duration = Duration::from_secs(1);
/// The longest that the chain is waited for before the page is told that it does not answer.
const CHAIN_WITHIN: Duration = Duration::from_secs(5);
/// Pages that listen at a time.
const LISTENERS_MAX: usize = 64;
/// Relays that are shown.
const RELAYS_MAX: usize = 100;
/// Times the money is looked at until the sum is right: it moves while it is counted.
const LOOKS: usize = 5;

const PAGE: &str = include_str!("../../../web/dist/index.html");
const SCRIPT: &str = include_str!("../../../web/dist/page.js");
const STYLE: &str = include_str!("../../../web/dist/page.css");

/// Nothing from elsewhere, nothing inline.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the page shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shown {
    version: &'static str,
    demonstration: bool,
    base_url: String,
    chain: ChainShown,
    /// MOR.
    token: TokenShown,
    /// All that the node deals in.
    tokens: TokenViews,
    parts: Vec<Part>,
    names: BTreeMap<Address, String>,
    models: Vec<ModelView>,
    /// Those of the registry.
    relays: Vec<RelayView>,
    answers: Vec<AnswerView>,
    money: Option<Money>,
    /// None while the chain does not answer.
    flows: Option<Flows>,
    /// The providers of this node.
    sellers: Vec<Seller>,
    wire: WireShown,
    /// None where money may be worth something.
    faucet: Option<Gift>,
    /// What may go into channels.
    budget: BudgetShown,
    /// What a command needs to find the node's folder.
    data: String,
    /// The same, and its chain.
    flags: String,
    /// The wallet that all is paid from.
    wallet: Address,
    /// What brings its key back.
    kept: Kept,
}

/// What the node may put into channels, as it was started.
#[derive(Debug, Clone, Serialize)]
struct BudgetShown {
    /// In the token that prices are compared in.
    #[serde(flatten)]
    first: FundingShown,
    /// In the others that are paid with.
    others: Vec<FundingShown>,
    /// What is not spent comes back so long after it is asked for.
    delay_s: u64,
    /// A second provider has a deposit, too.
    standby: bool,
}

/// What may go into channels of a token.
#[derive(Debug, Clone, Default, Serialize)]
struct FundingShown {
    token: Address,
    deposit: Amount,
    channel_max: Amount,
    top_up_below: Amount,
}

/// What crossed the consumer's own UDP sockets.
#[derive(Debug, Clone, Serialize)]
struct WireShown {
    bytes_sent: u64,
    bytes_received: u64,
}

#[derive(Debug, Clone, Serialize)]
struct ChainShown {
    id: u64,
    network: String,
    block: u64,
    rpc_url: String,
    /// Contracts and accounts of the chain that have names.
    known: BTreeMap<Address, &'static str>,
}

#[derive(Debug, Clone, Serialize)]
struct TokenShown {
    symbol: &'static str,
    decimals: u8,
    address: Address,
}

#[derive(Debug, Clone, Serialize)]
struct Part {
    name: String,
    kind: &'static str,
    running: bool,
    detail: String,
}

/// What the dashboard looks at.
pub(crate) struct Dashboard {
    pub(crate) key: String,
    pub(crate) base_url: String,
    pub(crate) rpc_url: String,
    pub(crate) consumer: Consumer,
    pub(crate) providers: Vec<(String, Arc<Provider>)>,
    pub(crate) relays: Vec<(String, relay::Watch)>,
    pub(crate) accounts: Accounts,
    pub(crate) demonstration: bool,
    pub(crate) standby: bool,
    /// None: who wants to see the chain goes to one of its own.
    pub(crate) explorer: Option<Explorer>,
    pub(crate) faucet: Option<Arc<Faucet>>,
    pub(crate) tokens: TokenViews,
    /// The token that prices are compared in.
    pub(crate) unit: Option<TokenView>,
    /// The flag that names the data folder; empty for the usual one.
    pub(crate) data: String,
    /// What brings the wallet's key back.
    pub(crate) kept: Kept,
    /// So long what the chain said is shown without asking anew: servers of others count questions.
    pub(crate) fresh_for: Duration,
    pub(crate) read: tokio::sync::Mutex<Option<(Instant, OnChain)>>,
    pub(crate) shown: watch::Sender<Bytes>,
    /// Ends the streams of pages that listen: a node that stops does not wait for them.
    pub(crate) stop: CancellationToken,
}

/// What is read from the chain; none where it did not answer.
#[derive(Debug, Clone)]
pub(crate) struct OnChain {
    block: Option<u64>,
    money: Option<Money>,
    flows: Option<Flows>,
    sellers: Vec<Seller>,
}

/// Whose money is accounted for.
pub(crate) enum Accounts {
    /// All of a market that runs on this machine.
    Market(Box<Holders>),
    /// The node's own.
    Own(Own),
}

impl Accounts {
    /// The reader.
    fn ledger(&self) -> &EvmLedger {
        match self {
            Self::Market(holders) => &holders.ledger,
            Self::Own(own) => &own.ledger,
        }
    }

    fn flags(&self) -> &str {
        match self {
            Self::Market(holders) => &holders.flags,
            Self::Own(own) => &own.flags,
        }
    }

    /// Providers and relays by name.
    fn names(&self) -> BTreeMap<Address, String> {
        match self {
            Self::Market(holders) => holders.providers.clone(),
            Self::Own(_) => BTreeMap::new(),
        }
    }

    async fn look(&self, consumer: &Consumer) -> Result<Money, MoneyError> {
        match self {
            Self::Market(holders) => holders.look(consumer).await,
            Self::Own(own) => own.look().await,
        }
    }
}

impl Dashboard {
    /// Its routes, to be served beside the gateway's.
    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        let behind_key = [
            ("/api/state", get(state)),
            ("/api/events", get(events)),
            ("/api/money", get(money)),
            ("/api/claim", post(claim)),
        ];
        let behind_key = guarded(behind_key, &self.key).with_state(Arc::clone(self));
        let behind_key = behind_key.merge(route::routes(
            self.consumer.clone(),
            self.unit.clone(),
            &self.key,
        ));
        let behind_key = match &self.explorer {
            Some(explorer) => behind_key.merge(explorer::routes(explorer.clone(), &self.key)),
            None => behind_key,
        };
        let behind_key = match &self.faucet {
            Some(faucet) => behind_key.merge(faucet.routes(&self.key)),
            None => behind_key,
        };
        Router::new()
            .route(
                "/",
                get(|| async { asset("text/html; charset=utf-8", PAGE) }),
            )
            .route(
                "/page.js",
                get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }),
            )
            .route(
                "/page.css",
                get(|| async { asset("text/css; charset=utf-8", STYLE) }),
            )
            .merge(behind_key)
    }

    /// Looks once a second, as long as somebody listens.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if self.shown.receiver_count() > 0 {
                self.refresh().await;
            }
        }
    }

    async fn refresh(&self) {
        let event = self.event().await;
        self.shown.send_if_modified(|shown| {
            let changed = *shown != event;
            if changed {
                *shown = event;
            }
            changed
        });
    }

    async fn event(&self) -> Bytes {
        let json = serde_json::to_string(&self.look().await).expect("it has only string keys");
        Bytes::from(format!("data: {json}\n\n"))
    }

    async fn look(&self) -> Shown {
        let ledger = self.accounts.ledger();
        let network = ledger.network();
        let OnChain {
            block,
            money,
            flows,
            sellers,
        } = self.on_chain().await;
        let wire = self.consumer.counters();
        let models = self.consumer.models();
        let mut names = host_names(&models);
        names.extend(self.accounts.names());
        Shown {
            version: env!("CARGO_PKG_VERSION"),
            demonstration: self.demonstration,
            base_url: self.base_url.clone(),
            chain: ChainShown {
                id: network.chain_id,
                network: network.name.clone(),
                block: block.unwrap_or_default(),
                rpc_url: self.rpc_url.clone(),
                known: self.known(),
            },
            token: TokenShown {
                symbol: "MOR",
                decimals: 18,
                address: ledger.mor(),
            },
            tokens: self.tokens.priced(&self.consumer.usd_rates()),
            parts: self.parts(block),
            names,
            models,
            relays: self.consumer.relays(RELAYS_MAX),
            answers: self.consumer.recent(),
            money,
            flows,
            sellers,
            wire: WireShown {
                bytes_sent: wire.bytes_sent,
                bytes_received: wire.bytes_received,
            },
            faucet: self.faucet.as_ref().map(|_| Gift::usual()),
            budget: self.budget(),
            data: self.data.clone(),
            flags: self.accounts.flags().to_owned(),
            wallet: self.consumer.payer(),
            kept: self.kept.clone(),
        }
    }

    /// What the chain says, or said a moment ago. Whoever looks waits no longer
    /// than [`CHAIN_WITHIN`] for each of it.
    async fn on_chain(&self) -> OnChain {
        let mut read = self.read.lock().await;
        if let Some((at, known)) = &*read
            && at.elapsed() < self.fresh_for
        {
            return known.clone();
        }
        let ledger = self.accounts.ledger();
        let (block, money, flows, sellers) = tokio::join!(
            timeout(CHAIN_WITHIN, ledger.block_number()),
            timeout(CHAIN_WITHIN, self.money()),
            timeout(CHAIN_WITHIN, Flows::look(ledger, &self.consumer)),
            timeout(CHAIN_WITHIN, self.sellers()),
        );
        let known = OnChain {
            block: block.ok().and_then(Result::ok),
            money: money.ok().and_then(Result::ok),
            flows: flows.ok().and_then(Result::ok),
            sellers: sellers.unwrap_or_default(),
        };
        *read = Some((Instant::now(), known.clone()));
        known
    }

    /// In what prices are compared in, and in the other tokens that are paid with.
    fn budget(&self) -> BudgetShown {
        let policies = self.consumer.funding();
        let mor = self.accounts.ledger().mor();
        let first = self.unit.as_ref().map_or(mor, |unit| unit.address);
        let shown = |token: Address, funding: &FundingPolicy| FundingShown {
            token,
            deposit: funding.deposit,
            channel_max: funding.channel_max,
            top_up_below: funding.top_up_below,
        };
        let others = policies.iter().filter(|(token, _)| **token != first);
        let none = FundingShown {
            token: first,
            ..FundingShown::default()
        };
        let own = policies.get(&first);
        BudgetShown {
            first: own.map_or(none, |funding| shown(first, funding)),
            others: others
                .map(|(token, funding)| shown(*token, funding))
                .collect(),
            delay_s: market::WITHDRAW_DELAY_MIN_S,
            standby: self.standby,
        }
    }

    /// Those whose figures can be had: what is on chain cannot while that does not answer.
    async fn sellers(&self) -> Vec<Seller> {
        let mut sellers = Vec::with_capacity(self.providers.len());
        for (name, provider) in &self.providers {
            sellers.extend(
                Seller::look(self.accounts.ledger(), name, provider)
                    .await
                    .ok(),
            );
        }
        sellers
    }

    fn known(&self) -> BTreeMap<Address, &'static str> {
        let explorer = self.explorer.as_ref();
        let mut known = explorer.map(Explorer::contracts).unwrap_or_default();
        if self.demonstration {
            known.insert(DEVELOPMENT_ACCOUNTS[0].address, "the treasury");
            known.insert(DEPLOYER.address, "the deployer");
        }
        known
    }

    fn parts(&self, block: Option<u64>) -> Vec<Part> {
        let chain = Part {
            name: "chain".into(),
            kind: match self.demonstration {
                true => "embedded chain",
                false => "chain",
            },
            running: block.is_some(),
            detail: block.map_or("does not answer".into(), |block| format!("block {block}")),
        };
        let gateway = Part {
            name: "gateway".into(),
            kind: "APIs of OpenAI, Anthropic and Ollama",
            running: true,
            detail: self.base_url.clone(),
        };
        let providers = self.providers.iter().map(|(name, provider)| {
            let status = provider.status();
            let offer = status.offers.first();
            let problem = offer.and_then(|offer| offer.problem.clone());
            let detail = offer.map_or(String::new(), |offer| {
                format!(
                    "{} of {} running, {} waiting",
                    offer.running, offer.slots, offer.queued
                )
            });
            Part {
                name: name.clone(),
                kind: "provider",
                running: problem.is_none(),
                detail: problem.unwrap_or(detail),
            }
        });
        let relays = self.relays.iter().map(|(name, relay)| {
            let counts = relay.counts();
            Part {
                name: name.clone(),
                kind: "relay",
                running: true,
                detail: format!(
                    "{} streams carried, {} running",
                    counts.carried, counts.running
                ),
            }
        });
        [chain, gateway]
            .into_iter()
            .chain(relays)
            .chain(providers)
            .collect()
    }

    /// Where the money is; counted again if it moved meanwhile.
    async fn money(&self) -> Result<Money, MoneyError> {
        let mut money = self.accounts.look(&self.consumer).await?;
        for _ in 1..LOOKS {
            if money.complete {
                break;
            }
            money = self.accounts.look(&self.consumer).await?;
        }
        Ok(money)
    }
}

/// A file of a page.
pub(crate) fn asset(kind: &'static str, content: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}

async fn state(State(dashboard): State<Arc<Dashboard>>) -> Json<Shown> {
    Json(dashboard.look().await)
}

async fn money(State(dashboard): State<Arc<Dashboard>>) -> Response {
    match dashboard.money().await {
        Ok(money) => Json(money).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.told()),
    }
}

/// Claims and settles for every provider of this node, now.
async fn claim(State(dashboard): State<Arc<Dashboard>>) -> Response {
    for (name, provider) in &dashboard.providers {
        if let Err(error) = provider.claim_now().await {
            let message = format!("provider {name} could not claim: {error}");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
    }
    money(State(dashboard)).await
}

async fn events(State(dashboard): State<Arc<Dashboard>>) -> Response {
    if dashboard.shown.receiver_count() >= LISTENERS_MAX {
        return refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "too many pages are listening; close some",
        );
    }
    let mut shown = dashboard.shown.subscribe();
    shown.mark_unchanged();
    let first = dashboard.event().await;
    let stop = dashboard.stop.clone();
    let later = futures_util::stream::unfold((shown, stop), |(mut shown, stop)| async {
        stop.run_until_cancelled(shown.changed()).await?.ok()?;
        let event = shown.borrow_and_update().clone();
        Some((Ok::<_, Infallible>(event), (shown, stop)))
    });
    let events = futures_util::StreamExt::chain(
        futures_util::stream::once(async move { Ok::<_, Infallible>(first) }),
        later,
    );
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(events)).into_response()
}
/// What hosts are called, of which their provider has several: whose, and where.
fn host_names(models: &[ModelView]) -> BTreeMap<Address, String> {
    let offers = models.iter().flat_map(|model| &model.offers);
    let hosts = offers.filter(|offer| offer.provider != offer.registered);
    hosts
        .map(|offer| {
            let of: String = offer.registered.to_string().chars().take(8).collect();
            (offer.provider, format!("{of}… at {}", offer.endpoint))
        })
        .collect()
}
