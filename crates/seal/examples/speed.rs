//! What sealing costs: `cargo run --release -p seal --example speed`.
//!
//! Processor time of one exchange's public-key work and of one cell, each
//! sealed and opened in this process, one thread; the best of many short rounds, which a busy machine seldom interrupts.
//! Below them the two ciphers that a record offers, on `ohttp` alone.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use market::{Address, Domain, NodeKey, Timestamp};
use ohttp::hpke::{Aead, Kdf, Kem};
use ohttp::{ClientRequest, KeyConfig, Server, SymmetricSuite};
use seal::{
    Cell, EpochKeys, Identity, Pacing, RequestOpener, ResponseOpener, ResponseSealer, Suite, ask,
};

const NOW: Timestamp = Timestamp(1_000_000);
const ROUNDS: usize = 200;
const CELLS: usize = 512;

fn main() {
    println!("{:<44}{:>12}", "step", "time");
    for suite in Suite::ALL {
        let steps = exchange(suite);
        for (step, time) in steps {
            println!("{:<44}{time:>12.2?}", format!("{suite:?}: {step}"));
        }
    }
    for (name, aead) in [
        ("AES-128-GCM", Aead::Aes128Gcm),
        ("ChaCha20-Poly1305", Aead::ChaCha20Poly1305),
    ] {
        let (seal, open) = cipher(aead);
        println!("{:<44}{seal:>12.2?}", format!("{name}: seal 256 bytes"));
        println!("{:<44}{open:>12.2?}", format!("{name}: open 256 bytes"));
    }
}

/// The best of several rounds of `work`, each doing `times` things.
fn best(times: usize, mut work: impl FnMut() -> Duration) -> Duration {
    let rounds = (0..ROUNDS).map(|_| work());
    let best = rounds.min().expect("there are rounds");
    best / u32::try_from(times).expect("a few thousand")
}

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = std::time::Instant::now();
    let made = black_box(work());
    (start.elapsed(), made)
}

fn exchange(suite: Suite) -> Vec<(&'static str, Duration)> {
    const EXCHANGES: usize = 10;
    let node = NodeKey::from_bytes(&[7; 32]);
    let identity = Identity {
        domain: Domain {
            chain_id: 31337,
            settlement: Address::repeat_byte(4),
        },
        provider: Address::repeat_byte(5),
    };
    let keys = EpochKeys::new(identity, &node, NOW);
    let key = keys
        .record()
        .open(node.id(), identity.provider, &identity.domain, NOW)
        .expect("a fresh record is good");
    let prompt = [b'x'; 500];

    let seal = best(EXCHANGES, || {
        let work = || {
            for _ in 0..EXCHANGES {
                let (mut sealer, answer) = ask(&key, suite, Pacing::Fast, NOW).expect("offered");
                black_box((sealer.opening(&prompt).expect("short"), answer));
            }
        };
        timed(work).0
    });
    let requests: Vec<_> = (0..EXCHANGES)
        .map(|_| {
            let (mut sealer, answer) = ask(&key, suite, Pacing::Fast, NOW).expect("offered");
            (sealer.opening(&prompt).expect("short"), answer)
        })
        .collect();
    let open = best(EXCHANGES, || {
        let work = || {
            for (bytes, _) in &requests {
                let mut opener = RequestOpener::new(&keys, NOW);
                opener.push(bytes).expect("good");
                black_box(opener.next().expect("good"));
            }
        };
        timed(work).0
    });

    let mut opener = RequestOpener::new(&keys, NOW);
    opener.push(&requests[0].0).expect("good");
    opener.next().expect("good");
    let response = opener.respond().expect("opened");
    let (_, answer) = requests.into_iter().next().expect("there are some");
    let (sealed, opened) = cells(response, answer);
    vec![
        ("seal a request of 500 bytes", seal),
        ("open it, and derive the answer's key", open),
        ("both together", seal + open),
        ("seal a cell", sealed),
        ("open a cell", opened),
    ]
}

/// Sealing and opening of one cell of an answer.
fn cells(mut response: ResponseSealer, mut answer: ResponseOpener) -> (Duration, Duration) {
    let (mut sealed, mut opened) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (time, cells) = timed(|| {
            let cell = |_| response.data(&[b'x'; 200]).expect("open");
            (0..CELLS).map(cell).collect::<Vec<_>>()
        });
        sealed = sealed.min(time / 512);
        let (time, ()) = timed(|| {
            for cell in &cells {
                answer.push(cell).expect("good");
                while let Some(Cell::Data(data)) = answer.next().expect("good") {
                    black_box(data);
                }
            }
        });
        opened = opened.min(time / 512);
    }
    (sealed, opened)
}

/// Sealing and opening of one chunk without anything of ours around it.
fn cipher(aead: Aead) -> (Duration, Duration) {
    let symmetric = vec![SymmetricSuite::new(Kdf::HkdfSha256, aead)];
    let config = KeyConfig::new(1, Kem::X25519Sha256, symmetric).expect("supported");
    let (mut seal, mut open) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let client = ClientRequest::from_config(&mut config.clone()).expect("supported");
        let mut context = Context::from_waker(Waker::noop());
        let mut wire = Vec::with_capacity(CELLS * 300);
        let mut request = client.encapsulate_stream(&mut wire).expect("supported");
        let cell = [b'x'; 256];
        let (time, ()) = timed(|| {
            for _ in 0..CELLS {
                let written = Pin::new(&mut request).poll_write(&mut context, &cell);
                assert!(matches!(written, Poll::Ready(Ok(256))));
            }
        });
        seal = seal.min(time / 512);
        drop(request);
        let server = Server::new(config.clone()).expect("it has its private key");
        let mut request = server.decapsulate_stream(&wire[..]);
        let mut plaintext = [0; 256 + 16];
        let (time, ()) = timed(|| {
            for _ in 0..CELLS {
                let read = Pin::new(&mut request).poll_read(&mut context, &mut plaintext);
                assert!(matches!(read, Poll::Ready(Ok(256))));
            }
        });
        open = open.min(time / 512);
    }
    (seal, open)
}
