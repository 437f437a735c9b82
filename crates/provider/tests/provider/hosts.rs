//! A host of a provider: it sells what the provider bids on, is paid on its own channels
//! alone, and what it claims goes to the provider.

use std::sync::Arc;
use std::time::Duration;

use market::{Amount, Ledger, NodeKey, Timestamp, WalletKey};
use provider::{Config, Deps, Provider, Script, ScriptedBackend, StartError};
use transport::describe::{Described, Opened, fetch, http_client};
use transport::message::Reason;

use crate::world::{MOR, NOW, STEP, Selling, World, input};

fn account(n: u8) -> Arc<WalletKey> {
    Arc::new(WalletKey::from_bytes(&[n; 32]).unwrap())
}

fn backend() -> Arc<ScriptedBackend> {
    Arc::new(ScriptedBackend::new(Script::tokens(20, Duration::ZERO)))
}

/// A provider that is on the market, and not there any more.
async fn world() -> World {
    let world = World::new();
    let selling = world.sells(backend(), |_| {}).await;
    selling.crashes().await;
    world
}

async fn host(world: &World, key: &Arc<WalletKey>) -> Selling {
    let hosts = world.certifies(&[world.seller(), key.address()]);
    let with = |config: &mut Config| config.hosts = Some(hosts);
    world
        .sells_as("host", Arc::clone(key), backend(), with)
        .await
}

async fn described(world: &World, selling: &Selling, now: Timestamp) -> Opened {
    let http = http_client().unwrap();
    let text = fetch(&http, &selling.provider.addr().to_string()).await;
    let described = Described::parse(&text.unwrap()).unwrap();
    described
        .open(world.seller(), &world.domain(), now)
        .unwrap()
}

#[tokio::test]
async fn a_host_is_paid_on_its_own_channels_and_its_provider_has_the_money() {
    let world = world().await;
    let key = account(40);
    let selling = host(&world, &key).await;
    let opened = described(&world, &selling, NOW).await;
    assert_eq!(opened.host.account, key.address());
    assert_eq!(opened.record.provider, world.seller());
    assert_eq!(opened.record.receiver_authorizer, key.address());
    assert_eq!(opened.record.offers.len(), 1);

    // A channel at the provider's own node, or at another host, is not spent here.
    for elsewhere in [world.seller(), account(41).address()] {
        let buyer = world.buyer_at(elsewhere, 1000).await;
        let refusal = buyer.asks(&selling, input() + STEP).await.refused().await;
        assert_eq!(refusal.reason, Reason::Payment);
        assert!(
            refusal.message.contains("receiverAuthorizer"),
            "{}",
            refusal.message
        );
    }

    let before = world.money().await;
    let buyer = world.buyer_at(key.address(), 1000).await;
    let talk = buyer.asks(&selling, input() + STEP).await;
    let whole = talk.reads_on(None).await;
    let earned = whole.receipt.receipt.charged_total.base_units();
    assert!(earned > 20);
    selling.provider.claim_now().await.unwrap();
    assert_eq!(world.money().await, before + earned);
    let own = world.ledger.balance(MOR, key.address()).await.unwrap();
    assert_eq!(own, Amount::ZERO);
    let status = selling.provider.status();
    assert_eq!(status.provider, world.seller());
    assert_eq!(status.account, key.address());
}

#[tokio::test]
async fn the_way_out_of_a_host_pays_its_provider_also_what_was_claimed_before() {
    let world = world().await;
    let key = account(40);
    let selling = host(&world, &key).await;
    let before = world.money().await;
    let buyer = world.buyer_at(key.address(), 1000).await;
    let talk = buyer.asks(&selling, input() + STEP).await;
    let whole = talk.reads_on(None).await;
    let earned = whole.receipt.receipt.charged_total.base_units();
    let tills = selling.provider.tills();
    let claims: Vec<_> = tills.iter().filter_map(|till| till.claim()).collect();
    let ledger = world.ledger.of(key.address());
    // Claimed, and the process ended before it was settled.
    ledger.claim(claims.clone()).await.unwrap();
    assert_eq!(world.money().await, before);
    let belongings = market::Belongings {
        claims,
        earns_for: [world.seller()].into(),
        tokens: vec![MOR],
        ..market::Belongings::default()
    };
    let left = market::exit(&ledger, &belongings, NOW, |_| {}).await;
    assert!(left.unwrap().is_complete());
    assert_eq!(world.money().await, before + earned);
}

#[tokio::test]
async fn another_certificate_is_served_if_it_names_the_host_and_is_its_providers() {
    let world = world().await;
    let (key, other) = (account(40), account(41).address());
    let selling = host(&world, &key).await;
    let later = world.later(1);
    let both = world.certifies(&[key.address(), other]);
    selling.provider.set_hosts(both).unwrap();
    let hosts = described(&world, &selling, later).await.hosts.unwrap();
    assert!(hosts.endpoint_of(other).is_some());

    let without = world.certifies(&[other]);
    let error = selling.provider.set_hosts(without).unwrap_err().to_string();
    assert!(error.contains("is not among the hosts"), "{error}");
    let hosts = described(&world, &selling, later).await.hosts.unwrap();
    assert!(hosts.endpoint_of(key.address()).is_some());
}

#[tokio::test]
async fn who_is_not_certified_or_no_longer_does_not_start() {
    let world = world().await;
    let (key, certified) = (account(40), world.certifies(&[account(41).address()]));
    let tries = async |certificate, now: Timestamp| {
        let node_key = NodeKey::from_bytes(&[60; 32]);
        let folder = tempfile::tempdir().unwrap();
        let mut config = crate::world::config(provider::BackendHandle::shared(backend()));
        config.hosts = Some(certificate);
        let deps = Deps {
            ledger: Arc::new(world.ledger.of(key.address())),
            node: world.node(&node_key),
            store: store::Store::open(&folder.path().join("host.sqlite")).unwrap(),
            wallet: Arc::clone(&key),
            node_key: Arc::new(node_key),
            config,
            listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            clock: Arc::new(move || now),
        };
        match Provider::start(deps).await {
            Err(StartError::Hosts(error)) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it sells"),
        }
    };
    let error = tries(certified, NOW).await;
    assert!(error.contains("is not among the hosts"), "{error}");
    let own = world.certifies(&[key.address()]);
    let error = tries(own, NOW.after_s(24 * 3600)).await;
    assert!(error.contains("lethe host certify"), "{error}");
}
