//! The roles one by one, each a process of its own with a data folder of its
//! own: the embedded chain, a provider, a consumer with its gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chain::{Network, Token};
use gateway::{ApiKey, Gateway, Settings};
use market::{Address, Card, Kind, Rates, SignedCertificate, UsdRates};
use provider::{BackendHandle, EmbedderBackend, OpenAiBackend, OpenAiConfig, Pool, Provider};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Accounts, Dashboard};
use crate::api_keys::ApiKeys;
use crate::backends::Backends;
use crate::begun;
use crate::buying::{Buying, Means, Way, buy};
use crate::card;
use crate::chain_watch;
use crate::claiming::Claiming;
use crate::cli;
use crate::config::without_secrets;
use crate::doorkeeper::open_door;
use crate::estate::WALLET;
use crate::folder::{Folder, Running, Tenant, quoted};
use crate::hosts;
use crate::keystore::{KeystoreError, bearer};
use crate::listen::{Exposed, listen, warn_if_open};
use crate::local;
use crate::model;
use crate::namesakes;
use crate::openapi;
use crate::output;
use crate::own::{Own, Whose};
use crate::place::Place;
use crate::policies::{PolicyError, amount, claiming, funding};
use crate::pricing::Pricing;
use crate::rate_sources::RateSources;
use crate::rates;
use crate::relaying::{RelayError, carry};
use crate::role_error::{BackendFlagError, RoleError};
use crate::scrape;
use crate::secret;
use crate::selling::{Selling, Shop, engine_backend, sell};
use crate::served;
use crate::signals::{Signals, stopped, waits_for};
use crate::signed_claims;
use crate::started;
use crate::summary;
use crate::tokens::{self, TokenView};
use crate::when;

/// The name of a provider's key and of its journal.
pub(crate) const PROVIDER: &str = "provider";

/// How old the page's figures of a public chain may be.
const FRESH_FOR: Duration = Duration::from_secs(15);

/// `lethe chain`.
pub(crate) async fn chain(args: cli::Chain) -> Result<(), RoleError> {
    let folder = Folder::take_for(args.data.folder, Tenant::Chain)?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let rpc_url = local::start(folder.path(), args.rpc, args.cheats, &tasks, &stop).await?;
    warn_if_open(args.rpc, Exposed::Chain);
    let signals = Signals::listen();
    match args.json {
        true => output::json(&summary::chain_json(&rpc_url)),
        false => output::line(summary::chain(&rpc_url)),
    }
    stopped(signals, &folder, args.json, || waits_for(0)).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// `lethe provide`.
pub(crate) async fn provide(args: cli::Provide) -> Result<(), RoleError> {
    let card = args.card.as_deref().map(card::read).transpose()?;
    Box::pin(offer(args, card)).await
}

/// Sells a model, with this card.
pub(crate) async fn offer(args: cli::Provide, card: Option<Card>) -> Result<(), RoleError> {
    let sale = &args.sale;
    let network = Network::by_name(&args.network.network, args.network.unaudited)?;
    let source = source(&args, card).await?;
    let pool = source.pool.clone();
    let sold_card = source.card.clone();
    let folder = Folder::take_for(args.data.folder.clone(), Tenant::Role("provide"))?;
    let place = Place::new(folder, network, args.network.rpc_url.clone())?;
    let backends = match pool.clone() {
        Some(pool) => {
            let urls = args.backend.clone();
            Some(Arc::new(Backends::load(&place.folder, urls, pool)?))
        }
        None => None,
    };
    let key = Arc::new(place.keys.wallet(PROVIDER)?);
    let reader = place.begin(key, &[]).await?;
    let token = tokens::named(&reader, "--token", &sale.token).await?;
    let sources = RateSources::start(reader, &sale.worth.usd_rate).await?;
    let usd_rates = sources.receiver();
    rates::keep(&place.folder, &usd_rates.borrow())?;
    let mut shop = shop(&args, source, &token)?;
    shop.hosts = sale.hosts.as_deref().map(hosts::read).transpose()?;
    let certificate = shop.hosts.clone();
    let metrics = scrape::open(sale.scraped.metrics).await?;
    let selling = sell(&place, shop, Some(&sale.endpoint), sale.listen).await?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let key = bearer(&place.folder.join("api-key"))?;
    tasks.spawn(sources.keep(stop.clone()));
    let figures = scrape::of_provider(Arc::clone(&selling.provider), pool);
    let figures = scrape::routes(figures, &key);
    let own = doors(&args, &place, &selling, (token.clone(), usd_rates), &key).await?;
    let mut routes = own.merge(figures.clone());
    if let Some(backends) = backends {
        routes = routes.merge(Arc::clone(&backends).routes(&key));
        tasks.spawn(backends.keep(stop.clone()));
    }
    open_door(&place, Some(selling.provider.addr()), routes, &tasks, &stop).await?;
    scrape::serve(metrics, figures, &tasks, &stop);
    let (told, _) = watch::channel(Vec::new());
    tasks.spawn(chain_watch::keep(
        selling.ledger.clone(),
        told,
        stop.clone(),
    ));
    keep(
        &args,
        &place,
        &selling.provider,
        certificate,
        (&tasks, &stop),
    )?;
    let signals = Signals::listen();
    let said = (&selling, &token, sold_card);
    say_selling(&args, &place, said, (&tasks, &stop)).await;
    stopped(signals, &place.folder, sale.json, || selling.ends()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    selling.stop().await;
    Ok(())
}

/// What a running provider is asked at its local door: how it stands, another price, to claim.
async fn doors(
    args: &cli::Provide,
    place: &Place,
    selling: &Selling,
    (token, usd_rates): (Token, watch::Receiver<UsdRates>),
    key: &str,
) -> Result<Router, RoleError> {
    let provider = || Arc::clone(&selling.provider);
    let tokens = tokens::views(&selling.ledger, vec![token.address], &usd_rates).await?;
    let claiming = Claiming {
        provider: provider(),
        tokens: tokens.clone(),
    };
    let own = Own {
        tokens,
        whose: Whose::Provider(provider(), token.address, args.sale.when.clone()),
        spares: place.spares(&[PROVIDER])?,
        ledger: selling.ledger.clone(),
        flags: place.flags(),
        usd_rates,
    };
    let pricing = Pricing {
        provider: provider(),
        token,
    };
    let routes = own.routes(key).merge(pricing.routes(key));
    Ok(routes.merge(claiming.routes(key)))
}

/// A consumer's own money.
async fn own_of_buyer(
    place: &Place,
    buying: &Buying,
    paid: Vec<Address>,
    sources: &RateSources,
) -> Result<Own, RoleError> {
    Ok(Own {
        tokens: tokens::views(&buying.ledger, paid, &sources.receiver()).await?,
        whose: Whose::Consumer(buying.consumer.clone()),
        spares: place.spares(&[WALLET])?,
        ledger: buying.ledger.clone(),
        flags: place.flags(),
        usd_rates: sources.receiver(),
    })
}

/// Keeps what the flags ask for while a provider runs: signed claims for a tower, the
/// hosts of its wallet, its hours.
fn keep(
    args: &cli::Provide,
    place: &Place,
    provider: &Arc<Provider>,
    certificate: Option<SignedCertificate>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<(), when::WhenError> {
    let sale = &args.sale;
    if let Some(path) = sale.tower_file.clone() {
        let network = place.network.clone();
        let keeper = signed_claims::Keeper::new(Arc::clone(provider), network, path);
        tasks.spawn(keeper.keep(stop.clone()));
    }
    if let (Some(path), Some(first)) = (sale.hosts.clone(), certificate) {
        let keeper = hosts::Keeper::new(Arc::clone(provider), path, first);
        tasks.spawn(keeper.keep(stop.clone()));
    }
    if let Some(when) = sale.when.clone() {
        let keeper = when::Keeper::new(Arc::clone(provider), when, args.gguf.is_some())?;
        tasks.spawn(keeper.keep(stop.clone()));
    }
    Ok(())
}

/// What `lethe provide` says when it is ready, and what is amiss with its backend.
async fn say_selling(
    args: &cli::Provide,
    place: &Place,
    (selling, token, card): (&Selling, &Token, Option<Card>),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    for warning in served::unlisted(args).await {
        output::aside(warning);
    }
    let status = selling.provider.status();
    let problem = status.offers.iter().find_map(|offer| offer.problem.clone());
    let is_offered = selling.provider.unoffered().is_empty();
    if let Some(problem) = &problem {
        output::aside(backend_warning(args, problem, is_offered));
    }
    let (address, endpoint) = (selling.address, &selling.endpoint);
    let model = &args.model;
    if args.sale.json {
        return output::json(&json!({
            "provider": status.provider,
            "account": address,
            "endpoint": endpoint,
            "model": model,
            "behind": status.behind,
            "resting": status.resting,
            "offered": is_offered,
            "problem": problem,
        }));
    }
    let begins = match (is_offered, status.resting) {
        (true, false) => format!("Selling {model} as {address}"),
        (true, true) => format!("Ready as {address}, with {model} not on offer at this time"),
        (false, _) => format!("Ready as {address}, with {model} not yet on offer"),
    };
    let relays: Vec<_> = status.behind.iter().map(|one| one.relay.as_str()).collect();
    let found_at = match relays.as_slice() {
        [] => format!(
            "descriptor at http://{endpoint}{}",
            transport::door::DESCRIPTOR_PATH
        ),
        relays => format!("to be reached through {}", relays.join(" and ")),
    };
    let host = match status.provider == address {
        true => String::new(),
        false => format!(", host of {}", status.provider),
    };
    let stands = started::seller(place, &selling.ledger, std::slice::from_ref(token)).await;
    output::line(format!("{begins}{host}; {found_at}\n{stands}"));
    tasks.spawn(begun::say(selling.provider.tried(), stop.clone()));
    let others = namesakes::say(selling.ledger.clone(), args.model.clone(), card);
    let stop = stop.clone();
    tasks.spawn(async move { stop.run_until_cancelled(others).await });
}

fn backend_warning(args: &cli::Provide, problem: &str, is_offered: bool) -> String {
    let urls: Vec<_> = args
        .backend
        .iter()
        .map(|url| without_secrets(url))
        .collect();
    let urls = urls.join(", ");
    let model = &args.model;
    let what = match is_offered {
        true => {
            format!("{model} is on offer, and its requests will fail. Mend the server, or stop")
        }
        false => format!(
            "{model} is not on offer until it answers; it is asked every few seconds. Start the server, or stop"
        ),
    };
    let key = args.backend_key_file.as_ref();
    let key = key.map(|path| format!(" --backend-key-file {}", quoted(&path.to_string_lossy())));
    let flags = args
        .backend
        .iter()
        .map(|url| format!(" --backend {}", quoted(&without_secrets(url))))
        .chain(key);
    let flags: String = flags.collect();
    format!(
        "WARNING: {problem} ({urls}): {what} this and give another --backend URL; `lethe doctor{flags}` looks at it."
    )
}

fn shop(args: &cli::Provide, source: Source, token: &Token) -> Result<Shop, PolicyError> {
    let named = args.backend_model.as_ref().unwrap_or(&args.model);
    let rates = Rates {
        input_per_million: amount("--input-price", &args.input_price, token)?,
        output_per_million: amount("--output-price", &args.output_price, token)?,
    };
    Ok(Shop {
        name: PROVIDER.into(),
        token: token.address,
        upstream_model: named.clone(),
        model: args.model.clone(),
        rates,
        slots: args.sale.slots,
        queue: args.sale.queue,
        // Vectors have no tokens.
        output_tokens_max: match Kind::of_card(source.card.as_ref()) {
            Kind::Chat => Some(args.sale.answer_max),
            Kind::Embeddings => None,
        },
        context_length: source.context_length,
        backend: source.backend,
        upstream: source.upstream,
        claims: claiming(&args.sale, token)?,
        probe: !args.no_probe,
        card: source.card,
        parameters: source.parameters,
        behind: args.sale.behind.clone(),
        hosts: None,
    })
}

/// Where a provider's answers come from, and what is said of them.
struct Source {
    backend: BackendHandle,
    /// The servers that are named, if any are.
    pool: Option<Arc<Pool>>,
    upstream: &'static str,
    card: Option<Card>,
    context_length: Option<u32>,
    parameters: Vec<String>,
}

async fn source(args: &cli::Provide, card: Option<Card>) -> Result<Source, RoleError> {
    if let Some(pool) = backend(args)?.map(Arc::new) {
        return Ok(Source {
            backend: BackendHandle::shared(Arc::clone(&pool)),
            pool: Some(pool),
            upstream: "third-party",
            context_length: card.as_ref().and_then(|card| card.context_length),
            card,
            parameters: args.heeds.clone(),
        });
    }
    if let Some(folder) = &args.embedder {
        let embedder = model::open_embedder(folder, args.sale.slots).await?;
        return Ok(Source {
            pool: None,
            upstream: "own-engine",
            context_length: u32::try_from(embedder.card().context_length).ok(),
            card: Some(card::of_model(embedder.card(), Kind::Embeddings, card)?),
            parameters: EmbedderBackend::parameters(),
            backend: BackendHandle::new(EmbedderBackend::new(embedder)),
        });
    }
    let engine = model::open(args.gguf.as_deref(), args.sale.slots, args.sale.queue).await?;
    Ok(Source {
        backend: engine_backend(&engine),
        pool: None,
        upstream: "own-engine",
        context_length: u32::try_from(engine.card().context_length).ok(),
        card: Some(card::of_model(engine.card(), Kind::Chat, card)?),
        parameters: engine.parameters(),
    })
}

/// The servers that are named, as one backend; none if none is.
fn backend(args: &cli::Provide) -> Result<Option<Pool>, BackendFlagError> {
    if args.backend.is_empty() {
        return Ok(None);
    }
    let key = args.backend_key_file.as_deref();
    let key = key.map(secret::backend_key).transpose()?;
    let mut backends = Vec::with_capacity(args.backend.len());
    for url in &args.backend {
        let config = OpenAiConfig {
            api_key: key.as_ref().map(|key| key.to_string()),
            first_chunk_within: Duration::from_secs(args.first_chunk_within),
            stall_after: Duration::from_secs(args.stall_after),
            ..OpenAiConfig::new(url.clone())
        };
        let backend = OpenAiBackend::new(config).map_err(|source| BackendFlagError::One {
            url: url.clone(),
            source,
        })?;
        backends.push(BackendHandle::new(backend));
    }
    let given = backends.len();
    let pool = Pool::new(backends);
    pool.map(Some).ok_or(BackendFlagError::Many { given })
}

/// `lethe relay`.
pub(crate) async fn relay(args: cli::Relay) -> Result<(), RoleError> {
    let network = Network::by_name(&args.network.network, args.network.unaudited)?;
    let folder = Folder::take_for(args.data.folder, Tenant::Role("relay"))?;
    let place = Place::new(folder, network, args.network.rpc_url)?;
    place
        .begin(Arc::new(place.keys.wallet("relay")?), &[])
        .await?;
    let metrics = scrape::open(args.scraped.metrics).await?;
    let endpoint = Some(&args.endpoint);
    let per_second = args.streams_per_second;
    let relaying = carry(&place, "relay", endpoint, args.listen, per_second).await?;
    let (address, endpoint) = (relaying.address, relaying.endpoint.clone());
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let spares = place.spares(&["relay"])?;
    let own = Own::staker("relay", &relaying.ledger, place.flags(), spares)
        .await
        .map_err(RelayError::from)?;
    let key = bearer(&place.folder.join("api-key"))?;
    let figures = scrape::routes(scrape::of_relay(relaying.relay.watch()), &key);
    let routes = own.routes(&key).merge(figures.clone());
    open_door(&place, Some(relaying.at), routes, &tasks, &stop).await?;
    scrape::serve(metrics, figures, &tasks, &stop);
    let signals = Signals::listen();
    match args.json {
        true => output::json(&json!({ "relay": address, "endpoint": endpoint })),
        false => output::line(format!(
            "Relaying as {address}; description at http://{endpoint}{}\n{}",
            transport::door::DESCRIPTOR_PATH,
            started::seller(&place, &relaying.ledger, &[]).await
        )),
    }
    stopped(signals, &place.folder, args.json, || relaying.ends()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    relaying.stop().await;
    Ok(())
}

/// `lethe consume`.
pub(crate) async fn consume(args: cli::Consume) -> Result<(), RoleError> {
    let network = Network::by_name(&args.network.network, args.network.unaudited)?;
    let folder = Folder::take_for(args.data.folder.clone(), Tenant::Role("consume"))?;
    let (listener, http) = listen(args.http, "--http").await?;
    warn_if_open(http, Exposed::Dashboard);
    let key_path = folder.join("api-key");
    let key = bearer(&key_path)?;
    let api_key = ApiKey::new(key.clone()).map_err(|source| RoleError::ApiKey {
        path: key_path.clone(),
        source,
    })?;
    ApiKeys::check(&folder)?;
    let place = Place::new(folder, network, args.network.rpc_url.clone())?;
    let way = way(&args);
    let (means, sources) = means(&place, &args).await?;
    let (unit, paid) = (means.unit(), means.addresses());
    let tokens: Vec<_> = means
        .tokens
        .iter()
        .map(|(token, _)| token.clone())
        .collect();
    let keys = ApiKeys::load(&place.folder, api_key, means.coins(&place.network))?;
    let buying = buy(&place, way, means).await?;
    let settings = Settings {
        usd: Some(sources.receiver()),
        ..args.hosts.settings()
    };
    let own = own_of_buyer(&place, &buying, paid.clone(), &sources).await?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let running = Running::gateway(http, &place.rpc_url, args.hosts.all(), paid);
    let dashboard = Arc::new(page(
        &place,
        (&buying, own),
        unit,
        way,
        &running,
        &key,
        &stop,
    )?);
    let (told, notices) = watch::channel(Vec::new());
    tasks.spawn(chain_watch::keep(buying.ledger.clone(), told, stop.clone()));
    let gateway = Gateway::new(Arc::new(buying.consumer.clone()), settings)
        .with_keys(keys.receiver())
        .with_owner_routes(dashboard.routes())
        .with_owner_routes(keys.routes(buying.consumer.clone(), &key))
        .with_routes(openapi::routes())
        .described_at(openapi::PAGE_AT)
        .with_notices(notices);
    tasks.spawn(keys.keep(stop.clone()));
    tasks.spawn(sources.keep(stop.clone()));
    tasks.spawn(gateway.serve(listener, stop.clone()));
    tasks.spawn(Arc::clone(&dashboard).watch());
    let signals = Signals::listen();
    place.folder.announce(&running)?;
    match args.json {
        true => output::json(&ready(&running, &buying, &key)),
        false => {
            let said = started::consumer(&place, &buying, &tokens, &running, &key).await;
            output::line(said);
        }
    }
    stopped(signals, &place.folder, args.json, || buying.ends()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    drop(dashboard);
    buying.stop().await;
    Ok(())
}

/// What a program is told when `lethe consume` is ready.
fn ready(running: &Running, buying: &Buying, key: &str) -> serde_json::Value {
    json!({
        "base_url": running.base_url,
        "api_key": key,
        "payer": buying.payer(),
        "dashboard_url": format!("{}#key={key}", running.dashboard_url),
    })
}

/// How `lethe consume` reaches and pays providers.
fn way(args: &cli::Consume) -> Way {
    Way {
        network: match args.direct {
            true => market::Network::Direct,
            false => market::Network::Oblivious,
        },
        pacing: cli::pacing(args.paced),
        payer: args.payer.into(),
        standby: !args.no_standby,
    }
}

/// In what `lethe consume` pays, and what that is worth.
async fn means(place: &Place, args: &cli::Consume) -> Result<(Means, RateSources), RoleError> {
    let key = Arc::new(place.keys.wallet("payer")?);
    let reader = place.begin(key, &[]).await?;
    let paid_with = tokens::paid_with(&reader, &args.paying.pay_with).await?;
    let sources = RateSources::start(reader, &args.worth.usd_rate).await?;
    rates::keep(&place.folder, &sources.receiver().borrow())?;
    let is_rated = |token| sources.is_rated(token);
    let accepted = tokens::accepted(&place.network, &paid_with, is_rated)?;
    let funding = funding(&args.funding, &paid_with, &accepted)?;
    let means = Means {
        tokens: paid_with.into_iter().zip(funding).collect(),
        accepted,
        usd_rates: sources.receiver(),
    };
    Ok((means, sources))
}

/// A consumer's page: its own money, and no chain of its own.
fn page(
    place: &Place,
    (buying, own): (&Buying, Own),
    unit: Option<TokenView>,
    way: Way,
    running: &Running,
    key: &str,
    stop: &CancellationToken,
) -> Result<Dashboard, KeystoreError> {
    Ok(Dashboard {
        key: key.to_owned(),
        base_url: running.base_url.clone(),
        // It may have a key in it.
        rpc_url: without_secrets(&running.rpc_url),
        consumer: buying.consumer.clone(),
        stop: stop.clone(),
        relays: vec![],
        providers: vec![],
        tokens: own.tokens.clone(),
        unit,
        accounts: Accounts::Own(own),
        demonstration: false,
        standby: way.standby,
        explorer: None,
        faucet: None,
        data: place.folder.flag(),
        kept: place.keys.kept(WALLET)?,
        fresh_for: match place.network.is_local() {
            true => Duration::ZERO,
            false => FRESH_FOR,
        },
        read: tokio::sync::Mutex::default(),
        shown: watch::Sender::default(),
    })
}
