//! What holds for a sealed stream, straight to its node and through a relay.

use std::time::Duration;

use market::{Address, Domain, NodeKey, Timestamp, WalletKey};
use seal::{EpochKey, EpochKeys, Identity, Pacing, RequestOpener, Suite};
use tokio::time::timeout;

use crate::message::{FromRelay, Hello, RelayRefusal};
use crate::{CarryLimits, Incoming, MemoryNetwork, Node, ReceiveError, Stream, carry};

const NOW: Timestamp = Timestamp(1_700_000_000);

/// What happens "at once" happens within this, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(2);

const LIMITS: CarryLimits = CarryLimits {
    bytes: 10_000_000,
    idle: Duration::from_secs(60),
};

/// A consumer, a relay and a provider that know each other.
pub(crate) struct Three {
    network: MemoryNetwork,
    consumer: Node,
    relay: Node,
    provider: Node,
    keys: EpochKeys,
    key: EpochKey,
}

impl Three {
    pub(crate) fn new() -> Self {
        let network = MemoryNetwork::new();
        let node_key = |seed: u8| NodeKey::from_bytes(&[seed; 32]);
        let node = |seed: u8| Node::memory(&network, node_key(seed).id());
        let domain = Domain {
            chain_id: 1,
            settlement: Address::ZERO,
        };
        let provider = WalletKey::from_bytes(&[9; 32]).unwrap().address();
        let identity = Identity { domain, provider };
        let keys = EpochKeys::new(identity, &node_key(3), NOW);
        let record = keys.record();
        let key = record
            .open(node_key(3).id(), provider, &domain, NOW)
            .unwrap();
        Self {
            consumer: node(1),
            relay: node(2),
            provider: node(3),
            network,
            keys,
            key,
        }
    }

    fn sealed(&self, stream: Stream) -> Stream {
        self.sealed_at(stream, Pacing::Fast)
    }

    fn sealed_at(&self, mut stream: Stream, pacing: Pacing) -> Stream {
        let sealed = seal::ask(&self.key, Suite::X25519, pacing, NOW).unwrap();
        stream.seal(None, sealed).unwrap();
        stream
    }

    async fn direct(&self) -> Stream {
        self.sealed(self.consumer.open(&self.provider.addr()).await.unwrap())
    }

    async fn through(&self) -> Stream {
        self.through_at(Pacing::Fast).await
    }

    pub(crate) async fn through_at(&self, pacing: Pacing) -> Stream {
        let mut stream = self.consumer.open(&self.relay.addr()).await.unwrap();
        stream.through(self.provider.id()).unwrap();
        self.sealed_at(stream, pacing)
    }

    /// Carries one stream to wherever it wants to go.
    pub(crate) async fn carries(&self) {
        let (stream, far) = self.introduced().await;
        carry(stream, far, LIMITS).await;
    }

    /// Both sides of a stream that the relay is to carry.
    pub(crate) async fn introduced(&self) -> (Stream, Stream) {
        let Incoming { mut stream, .. } = self.relay.accept().await.unwrap();
        let hello = stream.receive.receive().await.unwrap();
        assert_eq!(
            hello,
            Some(Hello::Relay {
                to: self.provider.id()
            })
        );
        let far = self.relay.open(&self.provider.addr()).await.unwrap();
        stream.send.send(&FromRelay::Carrying).await.unwrap();
        (stream, far)
    }

    /// The provider's end of the next stream, and the request on it.
    pub(crate) async fn asked(&self) -> (Stream, String) {
        let Incoming { mut stream, .. } = self.provider.accept().await.unwrap();
        let hello = stream.receive.receive().await.unwrap();
        assert_eq!(hello, Some(Hello::Sealed { token: None }));
        stream.unseal(RequestOpener::new(&self.keys, NOW));
        stream.receive.encapsulated().await.unwrap();
        let asked = stream.receive.receive().await.unwrap().unwrap();
        stream.respond().unwrap();
        (stream, asked)
    }
}

/// A question, more of it, an answer, more of it, and both ends.
async fn talk(near: &mut Stream, three: &Three) {
    let long = "x".repeat(100_000);
    let ask = async {
        near.send.send(&"question").await.unwrap();
        near.send.send(&long).await.unwrap();
        near.send.finish().await.unwrap();
        let mut heard = Vec::new();
        while let Some(said) = near.receive.receive_alive::<String>(AT_ONCE).await.unwrap() {
            heard.push(said);
        }
        heard
    };
    let answer = async {
        let (mut far, asked) = three.asked().await;
        assert_eq!(asked, "question");
        assert_eq!(far.receive.receive().await.unwrap(), Some(long.clone()));
        assert_eq!(far.receive.receive::<String>().await.unwrap(), None);
        far.send.send(&"answer").await.unwrap();
        far.send.keep_alive().await.unwrap();
        far.send.send_many(&["and", "more"]).await.unwrap();
        far.send.finish().await.unwrap();
    };
    let (heard, ()) = tokio::join!(ask, answer);
    assert_eq!(heard, ["answer", "and", "more"]);
}

#[tokio::test]
async fn what_is_sealed_is_opened_at_the_other_end() {
    let three = Three::new();
    let mut near = three.direct().await;
    talk(&mut near, &three).await;
}

#[tokio::test]
async fn a_relay_carries_what_it_cannot_open() {
    let three = Three::new();
    let mut near = three.through().await;
    tokio::join!(talk(&mut near, &three), three.carries());
}

#[tokio::test]
async fn who_leaves_is_felt_through_the_relay_at_once() {
    let three = Three::new();
    let mut near = three.through().await;
    let leaving = async {
        near.send.send(&"question").await.unwrap();
        let (mut far, _) = three.asked().await;
        drop(near);
        let felt = timeout(AT_ONCE, far.receive.receive::<String>())
            .await
            .unwrap();
        assert!(matches!(felt, Err(ReceiveError::Left)), "{felt:?}");
        timeout(AT_ONCE, far.send.stopped()).await.unwrap();
    };
    tokio::join!(leaving, three.carries());
}

#[tokio::test]
async fn a_break_is_never_taken_for_the_end() {
    let three = Three::new();
    let mut near = three.through().await;
    let breaking = async {
        near.send.send(&"question").await.unwrap();
        let (mut far, _) = three.asked().await;
        far.send.send(&"half").await.unwrap();
        assert_eq!(
            near.receive.receive::<String>().await.unwrap().as_deref(),
            Some("half")
        );
        three.network.kill(three.provider.id());
        let felt = timeout(AT_ONCE, near.receive.receive::<String>())
            .await
            .unwrap();
        assert!(felt.is_err(), "{felt:?}");
    };
    tokio::join!(breaking, three.carries());
}

#[tokio::test]
async fn a_relay_that_refuses_is_not_taken_for_the_provider() {
    let three = Three::new();
    let mut near = three.through().await;
    near.send.send(&"question").await.unwrap();
    let Incoming { mut stream, .. } = three.relay.accept().await.unwrap();
    let refused = FromRelay::Refused(RelayRefusal::Unknown);
    stream.send.send(&refused).await.unwrap();
    let heard = near.receive.receive::<String>().await;
    assert!(matches!(
        heard,
        Err(ReceiveError::Relay(RelayRefusal::Unknown))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_silent_path_is_told_from_a_slow_answer() {
    const SILENCE: Duration = Duration::from_secs(3);
    let three = Three::new();
    let mut near = three.direct().await;
    near.send.send(&"question").await.unwrap();
    let (mut far, _) = three.asked().await;
    let slow = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            far.send.keep_alive().await.unwrap();
        }
        far.send.send(&"at last").await.unwrap();
    };
    let heard = near.receive.receive_alive::<String>(SILENCE);
    let (heard, ()) = tokio::join!(heard, slow);
    assert_eq!(heard.unwrap().as_deref(), Some("at last"));

    let heard = near.receive.receive_alive::<String>(SILENCE).await;
    assert!(matches!(heard, Err(ReceiveError::Late { .. })), "{heard:?}");
}
