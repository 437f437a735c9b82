//! `lethe up`: the whole market on this machine, from the chain to the page.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chain::{DEPLOYER, DEVELOPMENT_ACCOUNTS, Explorer, Network};
use engine::Engine;
use futures_util::future::{join, join_all};
use gateway::{ApiKey, Gateway, Settings};
use market::{Accepted, Address, Amount, Card, ClaimPolicy, Kind, Rates, UsdRate, UsdRates};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Accounts, Dashboard};
use crate::api_keys::ApiKeys;
use crate::buying::{Buying, Means, Way, buy};
use crate::card;
use crate::chain_watch;
use crate::cli;
use crate::estate::WALLET;
use crate::faucet::Faucet;
use crate::folder::{Folder, Running, Tenant};
use crate::keystore::Kept;
use crate::keystore::bearer;
use crate::listen::{Exposed, listen, warn_if_open};
use crate::local;
use crate::model;
use crate::money::Holders;
use crate::openapi;
use crate::output;
use crate::place::{Place, Spare};
use crate::policies::usual_funding;
use crate::progress::Progress;
use crate::rates;
use crate::relaying::{Relaying, carry};
use crate::reset;
use crate::role_error::RoleError;
use crate::selling::{Selling, Shop, engine_backend, sell};
use crate::signals::{Signals, stopped, waits_for};
use crate::summary;
use crate::tokens::{self, TokenView, TokenViews};

/// Between two claims of a demonstration's provider, so that one can watch it.
const CLAIM_EVERY: Duration = Duration::from_secs(30);
/// Requests computed at a time over the one engine that the three providers share.
const ENGINE_SLOTS: usize = 4;
/// Requests that may wait in front of it; the providers' own queues are shorter.
const ENGINE_QUEUE: usize = 64;

/// One of the demonstration's providers.
struct Spec {
    name: &'static str,
    /// 10^-18 MOR per 10^6 tokens.
    input: u128,
    output: u128,
    slots: usize,
    queue: usize,
}

/// What tokens are taken to be worth in the demonstration, where they are worth nothing: for MOR in
/// millionths of a dollar, and for the chain's dollar.
const DEMO_MICRO_USD: [u64; 2] = [2_500_000, 1_000_000];
/// Whose word that is.
const DEMO_SOURCE: &str = "demo, made up";

const MILLI_MOR: u128 = 1_000_000_000_000_000;
const MOR: u128 = 1_000 * MILLI_MOR;

/// Different in price and capacity.
const SPECS: [Spec; 3] = [
    Spec {
        name: "amber",
        input: 400 * MILLI_MOR,
        output: 800 * MILLI_MOR,
        slots: 1,
        queue: 2,
    },
    Spec {
        name: "birch",
        input: 500 * MILLI_MOR,
        output: 1000 * MILLI_MOR,
        slots: 2,
        queue: 8,
    },
    Spec {
        name: "cedar",
        input: 800 * MILLI_MOR,
        output: 1600 * MILLI_MOR,
        slots: 4,
        queue: 32,
    },
];

/// The demonstration's relays: one carries, the other confirms what it tells.
const RELAYS: [&str; 2] = ["dogwood", "elder"];

/// Everything that runs.
struct Market {
    usd_rates: watch::Receiver<UsdRates>,
    tokens: TokenViews,
    unit: Option<TokenView>,
    /// What amounts may be stated in.
    coins: Vec<Accepted>,
    place: Place,
    /// Accounts of the folder that nothing here uses.
    spares: Vec<Spare>,
    /// What brings the wallet's key back.
    kept: Kept,
    relaying: Vec<Relaying>,
    selling: Vec<Selling>,
    buying: Buying,
    chain_stop: CancellationToken,
    chain_tasks: TaskTracker,
}

/// Runs until it is told to stop.
pub(crate) async fn up(args: cli::Up) -> Result<(), RoleError> {
    let progress = Progress::new(args.json);
    let folder = Folder::take_for(args.data.folder, Tenant::Up { reset: args.reset })?;
    let (listener, http) = listen(args.http, "--http").await?;
    if args.reset {
        reset::begin_anew(&folder).await.map_err(Box::new)?;
    }
    warn_if_open(http, Exposed::Dashboard);
    warn_if_open(args.rpc, Exposed::Chain);
    let key_path = folder.join("api-key");
    let key = bearer(&key_path)?;
    let api_key = |source| RoleError::ApiKey {
        path: key_path.clone(),
        source,
    };
    let own = ApiKey::new(key.clone()).map_err(api_key)?;
    ApiKeys::check(&folder)?;

    let way = Way {
        network: market::Network::Oblivious,
        pacing: cli::pacing(args.paced),
        payer: args.payer.into(),
        standby: true,
    };
    let (model, paying) = (args.model.as_deref(), &args.paying);
    let market = Market::start(folder, args.rpc, model, (way, paying), &progress);
    let market = Box::pin(market).await?;
    let keys = ApiKeys::load(&market.place.folder, own, market.coins.clone())?;
    let paid = market.buying.consumer.funding().keys().copied().collect();
    let running = Running::gateway(http, &market.place.rpc_url, args.hosts.all(), paid);
    let dashboard = Arc::new(market.dashboard(&key, &running));
    let stop = dashboard.stop.clone();
    let tasks = TaskTracker::new();
    let (told, notices) = watch::channel(Vec::new());
    let ledger = market.buying.ledger.clone();
    tasks.spawn(chain_watch::keep(ledger, told, stop.clone()));
    let consumer = Arc::new(market.buying.consumer.clone());
    let gateway = Gateway::new(consumer, market.settings(&args.hosts))
        .with_keys(keys.receiver())
        .with_owner_routes(dashboard.routes())
        .with_routes(openapi::routes())
        .described_at(openapi::PAGE_AT)
        .with_owner_routes(keys.routes(market.buying.consumer.clone(), &key))
        .with_notices(notices);
    tasks.spawn(keys.keep(stop.clone()));
    tasks.spawn(gateway.serve(listener, stop.clone()));
    tasks.spawn(Arc::clone(&dashboard).watch());
    let signals = Signals::listen();
    market.place.folder.announce(&running)?;
    let found = provider::detect().await;
    progress.done();
    summary::print(&summary::Ready {
        running: &running,
        key: &key,
        key_path: &key_path,
        data: &market.place.folder.flag(),
        found: &found,
        json: args.json,
    });

    stopped(signals, &market.place.folder, args.json, || {
        waits_for(market.running())
    })
    .await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    drop(dashboard);
    market.stop().await;
    Ok(())
}

impl Market {
    async fn start(
        folder: Folder,
        rpc: SocketAddr,
        model: Option<&std::path::Path>,
        (way, paying): (Way, &cli::token::Paying),
        progress: &Progress,
    ) -> Result<Self, RoleError> {
        let (chain_stop, chain_tasks) = (CancellationToken::new(), TaskTracker::new());
        progress.step("the embedded chain and the contracts");
        let rpc_url = local::start(folder.path(), rpc, false, &chain_tasks, &chain_stop).await?;
        let place = Place::new(folder, Network::local(), rpc_url)?.with_chain_found();
        let payer = Arc::new(place.keys.wallet("payer")?);
        // What another role left here is not this market's: its books are not looked at.
        place.begin(payer, &place.folder.strangers()).await?;

        // What the flags say wrong is said before anything listens.
        let usd_rates = demo_rates(&place.network);
        rates::keep(&place.folder, &usd_rates)?;
        let means = means(&place, paying, &usd_rates).await?;
        let sold_for = SoldFor::what_is_paid(&place.network, &means);

        progress.step("the model");
        let engine = model::open(model, ENGINE_SLOTS, ENGINE_QUEUE).await?;
        let name = model::market_name(model);
        let card = card::of_model(engine.card(), Kind::Chat, None)?;

        let mut selling = Vec::new();
        for spec in &SPECS {
            progress.step(&format!("provider {}", spec.name));
            let shop = spec.shop(&name, &sold_for, &engine, card.clone());
            let bind = SocketAddr::from(([127, 0, 0, 1], 0));
            selling.push(sell(&place, shop, None, bind).await?);
        }
        let mut relaying = Vec::new();
        for name in RELAYS {
            progress.step(&format!("relay {name}"));
            let bind = SocketAddr::from(([127, 0, 0, 1], 0));
            let relay = carry(&place, name, None, bind, relay::STREAMS_PER_SECOND).await?;
            relay.relay.refresh().await?;
            relaying.push(relay);
        }
        progress.step("the consumer");
        let (unit, paid) = (means.unit(), means.addresses());
        let told = means.usd_rates.clone();
        let coins = means.coins(&place.network);
        let buying = buy(&place, way, means).await?;
        let named = selling.iter().map(|one| (one.address, one.name.clone()));
        buying.consumer.set_names(named);
        let tokens = tokens::views(&buying.ledger, paid, &told).await?;
        let sellers = SPECS.iter().map(|spec| spec.name).chain(RELAYS);
        let used: Vec<_> = sellers.chain([WALLET]).collect();
        Ok(Self {
            spares: place.spares(&used)?,
            kept: place.keys.kept(WALLET)?,
            usd_rates: told,
            tokens,
            unit,
            coins,
            place,
            relaying,
            selling,
            buying,
            chain_stop,
            chain_tasks,
        })
    }

    fn settings(&self, hosts: &cli::hosts::Hosts) -> Settings {
        Settings {
            usd: Some(self.usd_rates.clone()),
            ..hosts.settings()
        }
    }

    fn dashboard(&self, key: &str, running: &Running) -> Dashboard {
        let selling = self.selling.iter();
        let providers = selling.map(|selling| (selling.address, selling.name.clone()));
        let relaying = self.relaying.iter();
        let relays = relaying.map(|relaying| (relaying.address, relaying.name.clone()));
        let providers: BTreeMap<_, _> = providers.chain(relays).collect();
        Dashboard {
            key: key.to_owned(),
            base_url: running.base_url.clone(),
            rpc_url: running.rpc_url.clone(),
            consumer: self.buying.consumer.clone(),
            stop: CancellationToken::new(),
            relays: self
                .relaying
                .iter()
                .map(|relaying| (relaying.name.clone(), relaying.relay.watch()))
                .collect(),
            providers: self
                .selling
                .iter()
                .map(|selling| (selling.name.clone(), Arc::clone(&selling.provider)))
                .collect(),
            accounts: Accounts::Market(Box::new(Holders {
                ledger: self.buying.ledger.clone(),
                providers,
                spares: self.spares.clone(),
                treasury: vec![DEVELOPMENT_ACCOUNTS[0].address, DEPLOYER.address],
                claims: self
                    .selling
                    .first()
                    .map(|one| one.provider.claim_policy().clone()),
                flags: self.place.flags(),
                usd_rates: self.usd_rates.clone(),
                books: tokio::sync::Mutex::default(),
            })),
            demonstration: true,
            standby: true,
            explorer: Some(Explorer::new(self.buying.ledger.clone())),
            faucet: Faucet::of(&self.place),
            tokens: self.tokens.clone(),
            unit: self.unit.clone(),
            data: self.place.folder.flag(),
            kept: self.kept.clone(),
            fresh_for: Duration::ZERO,
            read: tokio::sync::Mutex::default(),
            shown: watch::Sender::default(),
        }
    }

    /// Answers that run.
    fn running(&self) -> usize {
        self.selling.iter().map(Selling::running).sum()
    }

    /// Buyers first, so that what runs ends well; the chain last. The others
    /// together: each waits for its peers to hear of it, and some are gone by then.
    async fn stop(self) {
        self.buying.stop().await;
        let relays = self.relaying.into_iter().map(Relaying::stop);
        let sellers = self.selling.into_iter().map(Selling::stop);
        join(join_all(relays), join_all(sellers)).await;
        self.chain_stop.cancel();
        self.chain_tasks.close();
        self.chain_tasks.wait().await;
        drop(self.place);
    }
}

/// What tokens are taken to be worth.
fn demo_rates(network: &Network) -> UsdRates {
    let rates = network.tokens.iter().zip(DEMO_MICRO_USD);
    let rates = rates.map(|(token, micro_usd)| UsdRate {
        token: token.address,
        decimals: token.decimals,
        micro_usd,
        source: DEMO_SOURCE.to_owned(),
        at: None,
    });
    UsdRates::new(rates.collect())
}

/// In what the consumer pays.
async fn means(
    place: &Place,
    paying: &cli::token::Paying,
    usd_rates: &UsdRates,
) -> Result<Means, RoleError> {
    let key = Arc::new(place.keys.wallet("payer")?);
    let reader = place.reader(key).await?;
    let paid_with = tokens::paid_with(&reader, &paying.pay_with).await?;
    let is_rated = |token| usd_rates.rate(token).is_some();
    let accepted = tokens::accepted(&place.network, &paid_with, is_rated)?;
    let funded = paid_with.into_iter().map(|token| {
        let funding = usual_funding(&token);
        (token, funding)
    });
    Ok(Means {
        tokens: funded.collect(),
        accepted,
        usd_rates: watch::channel(usd_rates.clone()).1,
    })
}

/// In what the demonstration's providers are paid.
struct SoldFor {
    token: Address,
    /// What a whole MOR of a price is in it, in base units.
    per_mor: u128,
}

impl SoldFor {
    /// MOR, or the chain's dollar where that is paid with and MOR is not: what
    /// is on offer can be bought.
    fn what_is_paid(network: &Network, means: &Means) -> Self {
        let paid = means.addresses();
        let dollar = network
            .tokens
            .iter()
            .find(|token| token.address != network.mor && paid.contains(&token.address));
        match dollar {
            Some(dollar) if !paid.contains(&network.mor) => Self {
                token: dollar.address,
                // A dollar has six digits after the point.
                per_mor: DEMO_MICRO_USD[0].into(),
            },
            _ => {
                if !paid.contains(&network.mor) {
                    output::aside(
                        "Nothing of this demonstration is sold for what it pays with; `lethe sell MODEL --price 1 --token TOKEN` adds an offer.",
                    );
                }
                Self {
                    token: network.mor,
                    per_mor: MOR,
                }
            }
        }
    }

    /// A price, in base units of it.
    fn price(&self, mor: u128) -> Amount {
        Amount::new(mor.saturating_mul(self.per_mor) / MOR)
    }
}

impl Spec {
    fn shop(&self, model: &str, sold_for: &SoldFor, engine: &Engine, card: Card) -> Shop {
        Shop {
            name: self.name.to_owned(),
            model: model.to_owned(),
            token: sold_for.token,
            rates: Rates {
                input_per_million: sold_for.price(self.input),
                output_per_million: sold_for.price(self.output),
            },
            slots: self.slots,
            queue: self.queue,
            // Usual clients ask for 1024 and more; the engine ends where its context does.
            output_tokens_max: Some(cli::ANSWER_MAX),
            context_length: u32::try_from(engine.card().context_length).ok(),
            backend: engine_backend(engine),
            upstream_model: model.to_owned(),
            upstream: "own-engine",
            probe: true,
            card: Some(card),
            parameters: engine.parameters(),
            claims: ClaimPolicy {
                interval: CLAIM_EVERY,
                ..ClaimPolicy::default()
            },
            behind: vec![],
            hosts: None,
        }
    }
}
