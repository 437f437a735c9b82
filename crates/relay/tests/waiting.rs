//! Nodes that nobody can dial, at a relay: who may wait, who is brought to them,
//! and what ends it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use market::{
    Address, Amount, Domain, Ledger as _, MemoryLedger, NodeId, NodeKey, Record, Timestamp,
    WITHDRAW_DELAY_MIN_S, WalletKey,
};
use relay::{Config, Deps, Relay};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use transport::describe::{Described, Endpoint, fetch, http_client};
use transport::message::{Description, FromRelay, Hello, RelayRefusal};
use transport::{Endpoints, MemoryNetwork, Node, ReceiveError, STREAMS_BACK, Stream};

const NOW: Timestamp = Timestamp(1_700_000_000);
const MOR: Address = Address::repeat_byte(9);
const DOMAIN: Domain = Domain {
    chain_id: 31337,
    settlement: Address::repeat_byte(4),
};
/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay, and those who come to it.
struct Town {
    ledger: MemoryLedger,
    endpoints: Endpoints,
    relay: Relay,
    node: Node,
    endpoint: String,
}

/// A node behind a home router.
struct Home {
    wallet: WalletKey,
    key: NodeKey,
    node: Node,
}

impl Town {
    /// On UDP, or in memory; so many may wait.
    async fn start(endpoints: Endpoints, waiting: usize) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ledger = MemoryLedger::new(DOMAIN, MOR, NOW);
        let home = Home::new(&ledger, &endpoints, 1).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let deps = Deps {
            ledger: Arc::new(ledger.of(home.wallet.address())),
            node: home.node.clone(),
            wallet: Arc::new(home.wallet),
            node_key: Arc::new(home.key),
            config: Config {
                waiting,
                ..Config::at(endpoint.clone(), Duration::from_millis(50))
            },
            listener,
            clock: Arc::new(|| NOW),
        };
        Self {
            relay: Relay::start(deps).await.unwrap(),
            ledger,
            endpoints,
            node: home.node,
            endpoint,
        }
    }

    async fn memory() -> Self {
        Self::start(Endpoints::Memory(MemoryNetwork::new()), 2).await
    }

    async fn quic() -> Self {
        Self::start(Endpoints::Quic("127.0.0.1:0".parse().unwrap()), 2).await
    }

    async fn home(&self, seed: u8) -> Home {
        Home::new(&self.ledger, &self.endpoints, seed).await
    }

    /// Puts one into the registry, at the relay's door, and lets the relay see it.
    async fn register(&self, home: &Home) -> String {
        let account = home.wallet.address();
        let endpoint = Endpoint::at_relays(vec![self.endpoint.clone()], account).to_string();
        let ledger = self.ledger.of(account);
        let stakes = ledger.stakes().await.unwrap();
        market::register_endpoint(&ledger, &endpoint, &stakes)
            .await
            .unwrap();
        self.relay.refresh().await.unwrap();
        endpoint
    }

    /// A registered one that waits.
    async fn guest(&self, seed: u8) -> (Home, Stream) {
        let home = self.home(seed).await;
        self.register(&home).await;
        let held = self.waits(&home, &home.described(&[self.node.id()])).await;
        (home, held.unwrap())
    }

    /// Whether it may wait; then the stream that holds its place.
    async fn waits(&self, home: &Home, said: &Description) -> Result<Stream, RelayRefusal> {
        let mut held = home.node.open_and_let_in(&self.node.addr()).await.unwrap();
        held.send.send(&Hello::Wait).await.unwrap();
        held.send.send(said).await.unwrap();
        match timeout(PATIENCE, held.receive.receive::<FromRelay>())
            .await
            .unwrap()
        {
            Ok(Some(FromRelay::Waiting)) => Ok(held),
            Ok(Some(FromRelay::Refused(refusal))) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Somebody asks for a node; the stream, with who asked, once it is answered.
    async fn asks(&self, to: NodeId) -> Result<(Node, Stream), ReceiveError> {
        let stranger = self.endpoints.fresh().await.unwrap();
        let mut stream = stranger.open(&self.node.addr()).await.unwrap();
        stream.through(to).unwrap();
        stream.send.send(&"a question").await.unwrap();
        let said = timeout(PATIENCE, stream.receive.receive::<String>());
        match said.await.unwrap()? {
            Some(said) => assert_eq!(said, "an answer"),
            None => panic!("it ended without a word"),
        }
        Ok((stranger, stream))
    }

    /// Why the relay does not carry to it.
    async fn refused(&self, to: NodeId) -> RelayRefusal {
        match self.asks(to).await {
            Err(ReceiveError::Relay(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Home {
    async fn new(ledger: &MemoryLedger, endpoints: &Endpoints, seed: u8) -> Self {
        let wallet = WalletKey::from_bytes(&[seed; 32]).unwrap();
        let key = NodeKey::from_bytes(&[seed; 32]);
        let stake = Amount::new(1_000_000);
        ledger.mint(MOR, wallet.address(), stake).unwrap();
        let node = match endpoints {
            Endpoints::Quic(bind) => Node::quic(&key, *bind).await.unwrap(),
            Endpoints::Memory(network) => Node::memory(network, key.id()),
        };
        Self { wallet, key, node }
    }

    fn described(&self, relays: &[NodeId]) -> Description {
        let account = self.wallet.address();
        let record = Record {
            version: 1,
            chain_id: DOMAIN.chain_id,
            settlement: DOMAIN.settlement,
            provider: account,
            receiver_authorizer: account,
            withdraw_delay_min_s: WITHDRAW_DELAY_MIN_S,
            node: self.key.id(),
            addresses: vec![],
            relays: relays.to_vec(),
            offers: vec![],
            capabilities: vec![],
            issued_at: NOW,
            expires_at: NOW.after_s(3600),
        };
        let descriptor = record.sign(&self.wallet, &self.key);
        let described = Described {
            descriptor,
            epoch: None,
            hosts: None,
        };
        let text = described.to_text().into();
        Description { account, text }
    }

    /// Takes whoever comes, and says the same to all. What it took stays open.
    async fn answers(&self, count: usize) -> Vec<Stream> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let mut stream = self.node.accept().await.unwrap().stream;
            let asked: Option<String> = stream.receive.receive().await.unwrap();
            assert_eq!(asked.as_deref(), Some("a question"));
            stream.send.send(&"an answer").await.unwrap();
            taken.push(stream);
        }
        taken
    }
}

async fn who_waits_is_told_of_and_reached(town: Town) {
    let home = town.home(2).await;
    let endpoint = town.register(&home).await;
    let http = http_client().unwrap();
    assert!(fetch(&http, &endpoint).await.is_err());
    assert_eq!(town.refused(home.key.id()).await, RelayRefusal::Unknown);

    let first = home.described(&[]);
    let mut held = town.waits(&home, &first).await.unwrap();
    assert_eq!(fetch(&http, &endpoint).await.unwrap(), first.text);
    let (asked, _taken) = tokio::join!(town.asks(home.key.id()), home.answers(1));
    asked.unwrap();
    assert_eq!(town.relay.counts().waiting, 1);

    // What it says later is what is told from then on, also to those who ask for all.
    let later = home.described(&[town.node.id()]);
    held.send.send(&later).await.unwrap();
    town.until("the later word is served", async || {
        fetch(&http, &endpoint).await.unwrap() == later.text
    })
    .await;
    town.relay.refresh().await.unwrap();
    let stranger = town.endpoints.fresh().await.unwrap();
    let mut asks = stranger.open(&town.node.addr()).await.unwrap();
    let all = Hello::Describe { known: None };
    asks.send.send(&all).await.unwrap();
    let told: Option<FromRelay> = asks.receive.receive().await.unwrap();
    let Some(FromRelay::Described(told)) = told else {
        panic!("{told:?}")
    };
    assert!(told.contains(&later), "{told:?}");

    // Who leaves is gone at once.
    drop(held);
    town.until("who leaves is not served", async || {
        fetch(&http, &endpoint).await.is_err()
    })
    .await;
    let refused = town.refused(home.key.id()).await;
    assert_eq!(refused, RelayRefusal::Unreachable);
    assert_eq!(town.relay.counts().waiting, 0);
}

#[tokio::test]
async fn who_waits_is_told_of_and_reached_in_memory() {
    who_waits_is_told_of_and_reached(Town::memory().await).await;
}

#[tokio::test]
async fn who_waits_is_told_of_and_reached_over_udp() {
    who_waits_is_told_of_and_reached(Town::quic().await).await;
}

#[tokio::test]
async fn only_a_registered_node_waits_and_only_for_itself() {
    let town = Town::memory().await;
    let (home, other) = (town.home(2).await, town.home(3).await);
    let unknown = RelayRefusal::Unknown;
    let said = home.described(&[]);
    assert_eq!(town.waits(&home, &said).await.err(), Some(unknown));
    town.register(&home).await;
    town.register(&other).await;
    // With another's account, with another's words, and from another's node.
    let borrowed = Description {
        account: other.wallet.address(),
        ..said.clone()
    };
    assert_eq!(town.waits(&home, &borrowed).await.err(), Some(unknown));
    let others = other.described(&[]);
    assert_eq!(town.waits(&home, &others).await.err(), Some(unknown));
    assert_eq!(town.waits(&other, &said).await.err(), Some(unknown));
    town.waits(&home, &said).await.unwrap();
}

#[tokio::test]
async fn who_says_what_is_not_believed_or_too_much_waits_no_longer() {
    let town = Town::memory().await;
    let (home, mut held) = town.guest(2).await;
    let other = town.home(3).await;
    held.send.send(&other.described(&[])).await.unwrap();
    assert!(held.receive.receive::<FromRelay>().await.is_err());

    let mut held = town.waits(&home, &home.described(&[])).await.unwrap();
    let said = home.described(&[]);
    // It may hang up in the middle.
    while held.send.send(&said).await.is_ok() {}
    assert!(held.receive.receive::<FromRelay>().await.is_err());
}

#[tokio::test]
async fn no_more_wait_than_may_and_a_new_connection_takes_its_own_place() {
    let town = Town::memory().await;
    let (first, mut held) = town.guest(2).await;
    let (_second, _held) = town.guest(3).await;
    let third = town.home(4).await;
    town.register(&third).await;
    let busy = RelayRefusal::Busy;
    let said = third.described(&[]);
    assert_eq!(town.waits(&third, &said).await.err(), Some(busy));

    let again = town.waits(&first, &first.described(&[])).await.unwrap();
    assert!(held.receive.receive::<FromRelay>().await.is_err());
    drop(held);
    let (asked, _taken) = tokio::join!(town.asks(first.key.id()), first.answers(1));
    asked.unwrap();
    assert_eq!(town.relay.counts().waiting, 2);
    drop(again);
    town.until("its place is free", async || {
        town.waits(&third, &said).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn one_that_waits_is_brought_no_more_streams_than_so_many() {
    let town = Town::memory().await;
    let (home, _held) = town.guest(2).await;
    let count = usize::try_from(STREAMS_BACK).unwrap();
    let ask_all = async {
        let mut asked = Vec::new();
        for _ in 0..count {
            asked.push(town.asks(home.key.id()).await.unwrap());
        }
        asked
    };
    let (mut asked, _taken) = tokio::join!(ask_all, home.answers(count));
    let refused = town.refused(home.key.id()).await;
    assert_eq!(refused, RelayRefusal::Unreachable);
    // One that ends makes room for another.
    drop(asked.pop());
    let room = async {
        town.until("there is room again", async || {
            town.asks(home.key.id()).await.is_ok()
        })
        .await;
    };
    tokio::join!(room, home.answers(1));
}
