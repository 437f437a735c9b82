//! Load digests among relays as a whole: over UDP on this machine and in memory,
//! against nodes that speak the messages by hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use market::{
    Address, Amount, Domain, Ledger as _, Load, LoadDigest, MemoryLedger, ModelTag, NodeKey, Rates,
    Record, Timestamp, TokenTag, WITHDRAW_DELAY_MIN_S, WalletKey,
};
use relay::{Config, Deps, Relay};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use transport::describe::Described;
use transport::message::{FromRelay, Hello, MAX_GOSSIP_BYTES};
use transport::{Endpoints, MemoryNetwork, Node, NodeAddr, SendHalf, Stream, door};

const NOW: Timestamp = Timestamp(1_700_000_000);
const MOR: Address = Address::repeat_byte(9);
const DOMAIN: Domain = Domain {
    chain_id: 31337,
    settlement: Address::repeat_byte(4),
};
/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry and those who are in it.
struct Town {
    ledger: MemoryLedger,
    endpoints: Endpoints,
    clock: Arc<AtomicU64>,
    doors: JoinSet<()>,
    keys: u8,
}

/// A registered node that does what the test does.
struct Hand {
    account: Address,
    key: NodeKey,
    node: Node,
}

/// A relay and where it is.
struct Carrying {
    relay: Relay,
    node: Node,
}

impl Town {
    fn quic() -> Self {
        Self::on(Endpoints::Quic("127.0.0.1:0".parse().unwrap()))
    }

    fn memory() -> Self {
        Self::on(Endpoints::Memory(MemoryNetwork::new()))
    }

    fn on(endpoints: Endpoints) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            ledger: MemoryLedger::new(DOMAIN, MOR, NOW),
            endpoints,
            clock: Arc::new(AtomicU64::new(NOW.0)),
            doors: JoinSet::new(),
            keys: 0,
        }
    }

    async fn keys(&mut self) -> (WalletKey, NodeKey, Node) {
        self.keys += 1;
        let wallet = WalletKey::from_bytes(&[self.keys; 32]).unwrap();
        let key = NodeKey::from_bytes(&[self.keys; 32]);
        let stake = Amount::new(1_000_000);
        self.ledger.mint(MOR, wallet.address(), stake).unwrap();
        let node = match &self.endpoints {
            Endpoints::Quic(bind) => Node::quic(&key, *bind).await.unwrap(),
            Endpoints::Memory(network) => Node::memory(network, key.id()),
        };
        (wallet, key, node)
    }

    async fn relays(&mut self, count: usize) -> Vec<Carrying> {
        let mut relays = Vec::new();
        for _ in 0..count {
            let (wallet, key, node) = self.keys().await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = listener.local_addr().unwrap().to_string();
            let clock = Arc::clone(&self.clock);
            let deps = Deps {
                ledger: Arc::new(self.ledger.of(wallet.address())),
                node: node.clone(),
                wallet: Arc::new(wallet),
                node_key: Arc::new(key),
                config: Config::at(endpoint, Duration::from_millis(200)),
                listener,
                clock: Arc::new(move || Timestamp(clock.load(Ordering::SeqCst))),
            };
            let relay = Relay::start(deps).await.unwrap();
            relays.push(Carrying { relay, node });
        }
        relays
    }

    /// Registers a node that describes itself, as a relay or not.
    async fn hand(&mut self, is_relay: bool) -> Hand {
        let (wallet, key, node) = self.keys().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let ledger = self.ledger.of(wallet.address());
        let stakes = ledger.stakes().await.unwrap();
        market::register_endpoint(&ledger, &endpoint, &stakes)
            .await
            .unwrap();
        let addresses = node.addr().addresses;
        let record = Record {
            version: 1,
            chain_id: DOMAIN.chain_id,
            settlement: DOMAIN.settlement,
            provider: wallet.address(),
            receiver_authorizer: wallet.address(),
            withdraw_delay_min_s: WITHDRAW_DELAY_MIN_S,
            node: key.id(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            relays: vec![],
            offers: vec![],
            capabilities: is_relay
                .then(|| Record::RELAY.to_owned())
                .into_iter()
                .collect(),
            issued_at: NOW,
            expires_at: NOW.after_s(3600),
        };
        let described = Described {
            descriptor: record.sign(&wallet, &key),
            epoch: None,
            hosts: None,
        };
        let (text, served) = watch::channel(Bytes::from(described.to_text()));
        self.doors.spawn(async move {
            door::serve(listener, served).await;
            drop(text);
        });
        Hand {
            account: wallet.address(),
            key,
            node,
        }
    }
}

impl Hand {
    fn digest(&self, number: u64, issued_at: Timestamp) -> LoadDigest {
        let load = Load {
            model: ModelTag([1; 4]),
            free_slots: 0,
            wait_ms: None,
            token: TokenTag([0; 4]),
            rates: Rates {
                input_per_million: Amount::ZERO,
                output_per_million: Amount::ZERO,
            },
        };
        LoadDigest {
            provider: self.account,
            number,
            issued_at,
            loads: vec![load],
        }
    }

    fn signed(&self, number: u64) -> Bytes {
        self.digest(number, NOW).sign(&DOMAIN, &self.key).into()
    }

    /// Brings a digest to a relay, whosever it is.
    async fn tell(&self, to: &Carrying, digest: Bytes) {
        let mut stream = self.node.open(&to.node.addr()).await.unwrap();
        stream.send.send(&Hello::Load { digest }).await.unwrap();
        stream.send.finish().await.unwrap();
        // The relay is done with it when it ends its side.
        let _ = timeout(PATIENCE, stream.receive.receive::<FromRelay>()).await;
    }

    async fn gossip(&self, to: &NodeAddr) -> SendHalf {
        let Stream { mut send, receive } = self.node.open(to).await.unwrap();
        send.send(&Hello::Gossip).await.unwrap();
        // It says nothing on this one.
        drop(receive);
        send
    }
}

impl Carrying {
    /// What it tells who asks.
    async fn tells(&self, asks: &Node) -> Vec<Bytes> {
        let mut stream = asks.open(&self.node.addr()).await.unwrap();
        stream.send.send(&Hello::Loads).await.unwrap();
        let mut loads = Vec::new();
        while let Some(told) = stream.receive.receive::<FromRelay>().await.unwrap() {
            let FromRelay::Loads(part) = told else {
                panic!("it tells {told:?}")
            };
            loads.extend(part);
        }
        loads
    }

    /// Waits until it knows a registered node, by a digest of it.
    async fn knows(&self, hand: &Hand, number: u64) {
        let deadline = Instant::now() + PATIENCE;
        while !self.tells(&hand.node).await.contains(&hand.signed(number)) {
            assert!(Instant::now() < deadline, "{:?}", self.relay.counts());
            hand.tell(self, hand.signed(number)).await;
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A data message between relays, as the protocol has it: what it brings comes
/// before anybody looks at its id.
fn data(content: &[u8]) -> Bytes {
    let mut frame = vec![1, 0];
    frame.extend_from_slice(&[0; 32]);
    let length = u16::try_from(content.len()).unwrap();
    frame.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
    frame.push(u8::try_from(length >> 7).unwrap());
    frame.extend_from_slice(content);
    frame.extend_from_slice(&[0, 0]);
    frame.into()
}

async fn one_is_told_and_all_tell(mut town: Town) {
    let relays = town.relays(5).await;
    let hand = town.hand(false).await;
    // All know the provider before it tells what counts.
    for (number, relay) in (1..).zip(&relays) {
        relay.knows(&hand, number).await;
        // Others may have passed it on: one a second is heard.
        town.clock.fetch_add(1, Ordering::SeqCst);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut number = 100;
    'told: loop {
        number += 1;
        hand.tell(&relays[0], hand.signed(number)).await;
        // Who joins late hears the next one.
        for _ in 0..20 {
            let mut has = 0;
            for relay in &relays {
                has += usize::from(relay.tells(&hand.node).await == [hand.signed(number)]);
            }
            if has == relays.len() {
                break 'told;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let now = town.clock.fetch_add(1, Ordering::SeqCst);
        assert!(
            now < NOW.0 + 30 && Instant::now() < deadline,
            "not all tell"
        );
    }
    for relay in &relays[1..] {
        assert!(relay.relay.counts().loads_heard > 0);
    }
    for carrying in relays {
        timeout(PATIENCE, carrying.relay.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn what_one_relay_is_told_all_relays_tell() {
    one_is_told_and_all_tell(Town::quic()).await;
}

#[tokio::test]
async fn what_one_relay_is_told_all_relays_tell_in_memory() {
    one_is_told_and_all_tell(Town::memory()).await;
}

#[tokio::test]
async fn only_a_registered_providers_own_fresh_word_is_kept() {
    let mut town = Town::memory();
    let relays = town.relays(1).await;
    let (hand, other) = (town.hand(false).await, town.hand(false).await);
    relays[0].knows(&hand, 5).await;
    relays[0].knows(&other, 5).await;
    let before = relays[0].tells(&hand.node).await;
    assert_eq!(before.len(), 2);
    let refused = relays[0].relay.counts().loads_refused;

    let stranger = Hand {
        account: Address::repeat_byte(77),
        key: NodeKey::from_bytes(&[77; 32]),
        node: town.endpoints.fresh().await.unwrap(),
    };
    let at = |issued_at| Bytes::from(hand.digest(9, issued_at).sign(&DOMAIN, &hand.key));
    let mut forged = hand.signed(9).to_vec();
    forged[45] ^= 1;
    let bad = [
        (&hand, other.signed(9), "another's"),
        (&stranger, stranger.signed(9), "a stranger's"),
        (&hand, forged.into(), "a forged one"),
        (&hand, hand.signed(4), "a passed one"),
        (&hand, at(Timestamp(NOW.0 - 31)), "an old one"),
        (&hand, at(NOW.after_s(11)), "one from the future"),
        (&hand, Bytes::from(vec![1; 301]), "a long one"),
        (&hand, Bytes::new(), "an empty one"),
    ];
    for (count, (from, digest, what)) in (refused + 1..).zip(bad) {
        from.tell(&relays[0], digest).await;
        assert_eq!(relays[0].tells(&hand.node).await, before, "{what}");
        assert_eq!(relays[0].relay.counts().loads_refused, count, "{what}");
    }
    // What it has already is no offence and no news.
    hand.tell(&relays[0], hand.signed(5)).await;
    assert_eq!(relays[0].relay.counts().loads_refused, refused + 8);
}

#[tokio::test]
async fn a_provider_that_tells_without_end_is_heard_now_and_then() {
    let mut town = Town::memory();
    let relays = town.relays(2).await;
    let hand = town.hand(false).await;
    relays[0].knows(&hand, 1).await;
    for number in 2..100 {
        hand.tell(&relays[0], hand.signed(number)).await;
    }
    // The clock stands still: what may come at once, and no more.
    let counts = relays[0].relay.counts();
    assert_eq!(counts.loads_heard, 4, "{counts:?}");
    assert!(counts.loads_refused >= 90, "{counts:?}");
    assert!(relays[1].relay.counts().loads_heard <= 4);
}

#[tokio::test]
async fn a_relay_that_passes_on_what_is_forged_is_not_heard_for_a_while() {
    let mut town = Town::memory();
    let relays = town.relays(1).await;
    let (provider, bad) = (town.hand(false).await, town.hand(true).await);
    relays[0].knows(&provider, 1).await;
    relays[0].knows(&bad, 1).await;
    let addr = relays[0].node.addr();

    // What is only passed is let go, and what is new is kept from whomever.
    let mut said = bad.gossip(&addr).await;
    let stale = LoadDigest {
        number: 0,
        ..provider.digest(0, NOW)
    };
    let stale = stale.sign(&DOMAIN, &provider.key);
    said.send(&data(&stale)).await.unwrap();
    said.send(&data(&provider.signed(2))).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !relays[0]
        .tells(&bad.node)
        .await
        .contains(&provider.signed(2))
    {
        assert!(Instant::now() < deadline, "{:?}", relays[0].relay.counts());
        sleep(Duration::from_millis(20)).await;
    }

    let mut forged = provider.signed(3).to_vec();
    forged[45] ^= 1;
    said.send(&data(&forged)).await.unwrap();
    timeout(PATIENCE, said.stopped())
        .await
        .expect("it is heard on");
    let mut again = bad.gossip(&addr).await;
    let _ = again.send(&data(&provider.signed(3))).await;
    timeout(PATIENCE, again.stopped())
        .await
        .expect("it is heard again");
    let told = relays[0].tells(&bad.node).await;
    assert!(told.contains(&provider.signed(2)), "{}", told.len());
}

#[tokio::test]
async fn no_relay_is_heard_that_is_not_registered_as_one_or_that_says_too_much() {
    let mut town = Town::memory();
    let relays = town.relays(1).await;
    let (provider, other) = (town.hand(false).await, town.hand(true).await);
    relays[0].knows(&provider, 1).await;
    relays[0].knows(&other, 1).await;
    let addr = relays[0].node.addr();
    let before = relays[0].relay.counts().malformed;
    let said = provider.gossip(&addr).await;
    timeout(PATIENCE, said.stopped())
        .await
        .expect("it is heard");
    assert_eq!(relays[0].relay.counts().malformed, before + 1);

    let mut said = other.gossip(&addr).await;
    let long = Bytes::from(vec![0; MAX_GOSSIP_BYTES + 1]);
    let _ = said.send(&long).await;
    timeout(PATIENCE, said.stopped())
        .await
        .expect("it is heard");
}
