//! A provider that nobody can dial, at relays that the test plays by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use market::{Amount, Ledger, NodeId, NodeKey, Record, WITHDRAW_DELAY_MIN_S, WalletKey};
use provider::{
    BackendHandle, Deps, FindRelaysError, Provider, Script, ScriptedBackend, StartError,
    find_relays,
};
use seal::{Pacing, Suite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use transport::describe::{Described, Endpoint};
use transport::message::{Ask, Description, FromRelay, Hello, RelayRefusal};
use transport::{Incoming, Node, Stream, WayBack, door};

use crate::world::{MOR, NOW, PATIENCE, STEP, Talk, World, config, input, until};

/// A registered node that says that it is a relay, and does what the test does.
struct Relay {
    endpoint: String,
    node: Node,
    _door: JoinSet<()>,
}

/// A provider that wants to wait.
struct Guest {
    held: Stream,
    back: WayBack,
    record: Record,
}

impl Relay {
    async fn new(world: &World, seed: u8) -> Self {
        let wallet = WalletKey::from_bytes(&[seed; 32]).unwrap();
        let key = NodeKey::from_bytes(&[seed; 32]);
        let account = wallet.address();
        world
            .ledger
            .mint(MOR, account, Amount::new(10_000))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let ledger = world.ledger.of(account);
        let stakes = ledger.stakes().await.unwrap();
        market::register_endpoint(&ledger, &endpoint, &stakes)
            .await
            .unwrap();
        let domain = world.domain();
        let record = Record {
            version: 1,
            chain_id: domain.chain_id,
            settlement: domain.settlement,
            provider: account,
            receiver_authorizer: account,
            withdraw_delay_min_s: WITHDRAW_DELAY_MIN_S,
            node: key.id(),
            addresses: vec![],
            relays: vec![],
            offers: vec![],
            capabilities: vec![Record::RELAY.to_owned()],
            issued_at: NOW,
            expires_at: NOW.after_s(3600),
        };
        let descriptor = record.sign(&wallet, &key);
        let described = Described {
            descriptor,
            epoch: None,
            hosts: None,
        };
        let mut door = JoinSet::new();
        let (text, served) = watch::channel(Bytes::from(described.to_text()));
        door.spawn(async move {
            door::serve(listener, served).await;
            drop(text);
        });
        Self {
            endpoint,
            node: world.node(&key),
            _door: door,
        }
    }

    /// The next one that wants to wait; what else is told, such as loads, is passed over.
    async fn guest(&self, world: &World) -> Guest {
        loop {
            let accepted = timeout(PATIENCE, self.node.accept()).await.unwrap();
            let Incoming {
                mut stream, back, ..
            } = accepted.unwrap();
            let hello: Option<Hello> = stream.receive.receive().await.unwrap();
            if hello == Some(Hello::Wait) {
                let record = heard(world, &mut stream).await;
                return Guest {
                    held: stream,
                    back,
                    record,
                };
            }
        }
    }

    async fn takes(&self, world: &World) -> Guest {
        let mut guest = self.guest(world).await;
        guest.held.send.send(&FromRelay::Waiting).await.unwrap();
        guest
    }

    fn id(&self) -> NodeId {
        self.node.id()
    }
}

impl Guest {
    /// Waits until it names these relays.
    async fn names(&mut self, world: &World, relays: &[&Relay]) {
        let expected: BTreeSet<_> = relays.iter().map(|relay| relay.id()).collect();
        while self.record.relays.iter().copied().collect::<BTreeSet<_>>() != expected {
            self.record = heard(world, &mut self.held).await;
        }
    }
}

/// What a provider says of itself next.
async fn heard(world: &World, stream: &mut Stream) -> Record {
    let said = timeout(PATIENCE, stream.receive.receive::<Description>());
    let said = said.await.unwrap().unwrap().unwrap();
    assert_eq!(said.account, world.seller());
    let described = Described::parse(&said.text).unwrap();
    let opened = described
        .open(world.seller(), &world.domain(), NOW)
        .unwrap();
    assert_eq!(opened.record.addresses, Vec::<String>::new());
    opened.record
}

#[tokio::test]
async fn it_waits_at_each_relay_names_those_that_have_it_and_comes_back_to_one_that_lost_it() {
    let world = World::new();
    let (one, two) = (Relay::new(&world, 50).await, Relay::new(&world, 51).await);
    let script = Script::tokens(3, Duration::ZERO);
    let backend = Arc::new(ScriptedBackend::new(script));
    let relays = vec![one.endpoint.clone(), two.endpoint.clone()];
    let selling = world
        .sells(backend, |config| config.behind.clone_from(&relays))
        .await;
    let registered = world.ledger.providers().await.unwrap();
    let own = registered
        .iter()
        .find(|registered| registered.address == world.seller());
    let account = format!("{:#x}", world.seller());
    assert_eq!(
        own.unwrap().endpoint,
        format!("{}/{account}", relays.join(","))
    );

    // The record names nobody before somebody has it.
    let mut at_one = one.takes(&world).await;
    assert_eq!(at_one.record.relays, vec![]);
    let mut at_two = two.takes(&world).await;
    at_one.names(&world, &[&one, &two]).await;
    at_two.names(&world, &[&one, &two]).await;

    // Who asks comes on the connection that the provider dialled.
    let buyer = world.buyer(10_000).await;
    let infer = buyer.request(selling.model, input() + STEP);
    let mut stream = at_two.back.open().await.unwrap();
    let sealed = seal::ask(&selling.to.key, Suite::X25519, Pacing::Fast, NOW).unwrap();
    stream.seal(None, sealed).unwrap();
    let request = infer.request;
    let ask = Ask::Infer(Box::new(infer));
    stream.send.send(&ask).await.unwrap();
    let talk = Talk {
        buyer: &buyer,
        request,
        stream,
    };
    assert_eq!(talk.reads_on(None).await.failure, None);

    drop(at_one);
    at_two.names(&world, &[&two]).await;
    let reached = || {
        let behind = selling.provider.status().behind;
        behind.iter().map(|relay| relay.reached).collect::<Vec<_>>()
    };
    assert_eq!(reached(), [false, true]);
    let mut again = one.takes(&world).await;
    again.names(&world, &[&one, &two]).await;
    assert_eq!(reached(), [true, true]);
}

#[tokio::test]
async fn relays_are_found_in_the_registry_and_those_of_before_are_kept() {
    let world = World::new();
    let mut relays = Vec::new();
    for seed in 50..56 {
        relays.push(Relay::new(&world, seed).await);
    }
    let kept = relays[5].endpoint.clone();
    let ledger = world.ledger.of(world.seller());
    let found = find_relays(&ledger, NOW, 9).await.unwrap();
    assert_eq!(found.len(), 6);
    let endpoint = Endpoint::at_relays(vec![kept.clone()], world.seller());
    let stakes = ledger.stakes().await.unwrap();
    market::register_endpoint(&ledger, &endpoint.to_string(), &stakes)
        .await
        .unwrap();
    let found = find_relays(&ledger, NOW, 2).await.unwrap();
    assert_eq!((found.len(), &found[0]), (2, &kept));
    drop(relays);
    let none = find_relays(&ledger, NOW, 2).await.unwrap_err();
    assert!(matches!(none, FindRelaysError::None { asked: 6 }), "{none}");
}

#[tokio::test]
async fn one_that_is_no_relay_is_not_waited_at() {
    let world = World::new();
    let (shop, backend) = world.sells_script(Script::default()).await;
    let endpoint = shop.provider.addr().to_string();
    let ledger = world.ledger.of(world.seller());
    let stakes = ledger.stakes().await.unwrap();
    let registered = market::register_endpoint(&ledger, &endpoint, &stakes);
    registered.await.unwrap();

    let wallet = Arc::new(WalletKey::from_bytes(&[70; 32]).unwrap());
    let node_key = Arc::new(NodeKey::from_bytes(&[70; 32]));
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(BackendHandle::shared(backend));
    config.behind = vec![endpoint.clone()];
    let started = Provider::start(Deps {
        ledger: Arc::new(world.ledger.of(wallet.address())),
        node: world.node(&node_key),
        store: store::Store::open(&folder.path().join("other.sqlite")).unwrap(),
        wallet,
        node_key,
        config,
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        clock: Arc::new(|| NOW),
    });
    let error = started.await.err().unwrap();
    assert!(
        matches!(&error, StartError::NotARelay { relay } if *relay == endpoint),
        "{error}"
    );
}

#[tokio::test]
async fn a_relay_that_refuses_is_asked_again() {
    let world = World::new();
    let relay = Relay::new(&world, 50).await;
    let backend = Arc::new(ScriptedBackend::new(Script::default()));
    let selling = world
        .sells(backend, |config| {
            config.behind = vec![relay.endpoint.clone()]
        })
        .await;
    let mut guest = relay.guest(&world).await;
    let refused = FromRelay::Refused(RelayRefusal::Unknown);
    guest.held.send.send(&refused).await.unwrap();
    guest.held.send.finish().await.unwrap();
    assert!(!selling.provider.status().behind[0].reached);
    let _guest = relay.takes(&world).await;
    until("reached", || selling.provider.status().behind[0].reached).await;
}
