//! First packets of handshakes that nobody goes on with. A plain client dials
//! a socket of this process, which passes on the first packet of each
//! connection, from one of many ports, and nothing else, either way.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use transport::NodeAddr;

use crate::Failure;

/// Ports that the packets come from.
const PORTS: usize = 256;

/// Between two bursts.
const BURST_EVERY: Duration = Duration::from_millis(10);

/// Where the connection's id begins in a first packet, behind its length.
const ID_AT: usize = 6;

pub(crate) async fn run(
    relay: NodeAddr,
    per_second: u32,
    lasts: Duration,
) -> Result<Value, Failure> {
    let target = *relay
        .addresses
        .first()
        .ok_or("a relay without an address")?;
    let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
    let door = UdpSocket::bind(any_port).await?;
    let at = door.local_addr()?;
    let passed = Arc::new(AtomicU64::new(0));
    let mut passing = JoinSet::new();
    passing.spawn(pass_on(door, target, Arc::clone(&passed)));

    let mut client = Endpoint::client(any_port)?;
    client.set_default_client_config(config()?);
    let deadline = Instant::now() + lasts;
    let mut bursts = interval(BURST_EVERY);
    let mut due = 0.0;
    while Instant::now() < deadline {
        bursts.tick().await;
        due += f64::from(per_second) * BURST_EVERY.as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            // Its close goes to the door, which does not pass it on.
            drop(client.connect(at, "localhost")?);
        }
    }
    drop(passing);
    Ok(json!({ "half_open": passed.load(Ordering::Relaxed) }))
}

async fn pass_on(
    door: UdpSocket,
    target: SocketAddr,
    passed: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut ports = Vec::with_capacity(PORTS);
    for _ in 0..PORTS {
        ports.push(UdpSocket::bind(any_port).await?);
    }
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut packet = [0; 2048];
    loop {
        let (length, _) = door.recv_from(&mut packet).await?;
        let packet = &packet[..length];
        let Some(id_length) = packet.get(ID_AT - 1) else {
            continue;
        };
        let Some(id) = packet.get(ID_AT..ID_AT + usize::from(*id_length)) else {
            continue;
        };
        if seen.insert(id.to_vec()) {
            let port = &ports[seen.len() % PORTS];
            if port.send_to(packet, target).await.is_ok() {
                passed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn config() -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"lethe/1".to_vec()];
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(
        tls,
    )?)))
}
