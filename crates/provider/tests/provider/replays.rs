//! A sealed request that somebody on the way kept and says again, and what is
//! on the disk for those who would rather open it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use market::Timestamp;
use provider::{Script, ScriptedBackend};
use seal::{EPOCH_SECONDS, GRACE_SECONDS, Pacing, Suite};
use transport::Stream;
use transport::describe::{Described, fetch, http_client};
use transport::message::{Ask, Hello, Infer};

use crate::world::{Buyer, NOW, PATIENCE, STEP, Selling, To, World, input, until};

/// What a relay saw of a request.
struct Recorded(Bytes);

impl Recorded {
    fn new(to: &To, infer: Infer) -> Self {
        let message = postcard::to_stdvec(&Ask::Infer(Box::new(infer))).unwrap();
        let length = u32::try_from(message.len()).unwrap();
        let frame = [&length.to_be_bytes()[..], &message].concat();
        let (mut sealer, _) = seal::ask(&to.key, Suite::X25519, Pacing::Fast, NOW).unwrap();
        Self(sealer.opening(&frame).unwrap())
    }

    /// Says it, for the first time or not.
    async fn said(&self, by: &Buyer, to: &To) -> Stream {
        let mut stream = by.node.open(&to.addr).await.unwrap();
        let hello = Hello::Sealed { token: None };
        stream.send.send(&hello).await.unwrap();
        stream.send.write(self.0.clone()).await.unwrap();
        stream
    }

    /// Says it to one who is to take it; what it was taken by stays.
    async fn taken(&self, by: &Buyer, to: &To, backend: &ScriptedBackend) {
        let _stream = self.said(by, to).await;
        until("a request is taken", || backend.started() == 1).await;
    }

    /// Says it to one who is not to open it.
    async fn refused(&self, by: &Buyer, selling: &Selling) {
        let unopened = || selling.provider.status().counted.unopened;
        let before = unopened();
        let _stream = self.said(by, &selling.to).await;
        until("a replay is refused", || unopened() == before + 1).await;
    }
}

fn script() -> Script {
    Script::tokens(3, Duration::ZERO)
}

/// All files of the provider, and what is in them.
fn disk(world: &World) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(world.folder.path()).unwrap();
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(entry.path()).unwrap())
    };
    files.map(|entry| read(entry.unwrap())).collect()
}

/// Waits until the provider describes itself with the key of another epoch.
async fn another_epoch(world: &World, selling: &Selling, now: Timestamp) {
    let http = http_client().unwrap();
    let waiting = async {
        loop {
            let text = fetch(&http, &selling.provider.addr().to_string())
                .await
                .unwrap();
            let described = Described::parse(&text).unwrap();
            let opened = described.open(world.seller(), &world.domain(), now);
            // Its quotes are renewed at the same time; before that they are over.
            if let Some(Ok(key)) = opened.ok().and_then(|opened| opened.epoch)
                && key.epoch() != selling.to.key.epoch()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the same epoch for ever");
}

#[tokio::test]
async fn a_request_that_is_said_again_is_refused_and_the_backend_does_nothing() {
    let world = World::new();
    let (selling, backend) = world.sells_script(script()).await;
    let (buyer, thief) = (world.buyer(10_000).await, world.buyer(0).await);
    let recorded = Recorded::new(&selling.to, buyer.request(selling.model, input() + STEP));
    recorded.taken(&buyer, &selling.to, &backend).await;
    recorded.refused(&buyer, &selling).await;
    recorded.refused(&thief, &selling).await;
    assert_eq!(backend.started(), 1);
}

#[tokio::test]
async fn so_is_one_that_was_said_to_another_or_before_a_restart() {
    let (world, other) = (World::new(), World::new());
    let (selling, backend) = world.sells_script(script()).await;
    // By the same names: only the epoch's key is another one.
    let (elsewhere, elsewhere_backend) = other.sells_script(script()).await;
    let (buyer, thief) = (world.buyer(10_000).await, other.buyer(10_000).await);
    let recorded = Recorded::new(&selling.to, buyer.request(selling.model, input() + STEP));
    recorded.taken(&buyer, &selling.to, &backend).await;
    recorded.refused(&thief, &elsewhere).await;

    selling.crashes().await;
    let (selling, backend) = world.sells_script(script()).await;
    recorded.refused(&buyer, &selling).await;
    assert_eq!((backend.started(), elsewhere_backend.started()), (0, 0));
}

#[tokio::test]
async fn so_is_one_of_the_last_epoch_whose_keys_were_never_on_the_disk() {
    let world = World::new();
    let (selling, backend) = world.sells_script(script()).await;
    let buyer = world.buyer(10_000).await;
    let kept = Recorded::new(&selling.to, buyer.request(selling.model, input() + STEP));
    let before = disk(&world);
    // Its keys still open in the grace; the request is too old by then.
    let over = EPOCH_SECONDS - NOW.0 % EPOCH_SECONDS;
    another_epoch(&world, &selling, world.later(over)).await;
    kept.refused(&buyer, &selling).await;
    world.later(over + GRACE_SECONDS);
    kept.refused(&buyer, &selling).await;
    assert_eq!(backend.started(), 0);
    assert!(
        !before.is_empty() && disk(&world) == before,
        "an epoch left something behind"
    );
}
