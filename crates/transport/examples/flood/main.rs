//! Attacks a relay on this machine, for `bench/flood.py`. For one's own relay only.
//!
//! * `flood junk RELAY PROVIDER KEYS PER_SECOND SECONDS BYTES`: as many nodes,
//!   each with a key of its own, open streams through the relay to the provider
//!   and send noise of so many bytes in place of a sealed request (2048: its
//!   smallest size), PER_SECOND of them or as many as the relay lets them begin;
//! * `flood half-open RELAY PER_SECOND SECONDS`: first packets of handshakes,
//!   from many ports, that never go on.
//!
//! RELAY and PROVIDER are `host:port` where the descriptor is served. Says in
//! the end, as JSON, how much it did.

#![expect(
    clippy::print_stdout,
    reason = "a program to be read by whoever runs it"
)]

mod half_open;
mod junk;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use market::NodeId;
use transport::NodeAddr;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return Err("there is a crypto provider already".into());
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = match args[..] {
        ["junk", relay, provider, keys, per_second, seconds, bytes] => {
            let attack = junk::Attack {
                relay: described(relay).await?,
                to: described(provider).await?.id,
                keys: keys.parse()?,
                per_second: per_second.parse()?,
                lasts: Duration::from_secs(seconds.parse()?),
                bytes: bytes.parse()?,
            };
            junk::run(attack).await?
        }
        ["half-open", relay, per_second, seconds] => {
            let lasts = Duration::from_secs(seconds.parse()?);
            half_open::run(described(relay).await?, per_second.parse()?, lasts).await?
        }
        _ => {
            return Err(
                "usage: flood junk RELAY PROVIDER KEYS PER_SECOND SECONDS BYTES | \
                        half-open RELAY PER_SECOND SECONDS"
                    .into(),
            );
        }
    };
    println!("{said}");
    Ok(())
}

/// Where a node is, as its descriptor says.
async fn described(endpoint: &str) -> Result<NodeAddr, Failure> {
    let http = transport::describe::http_client()?;
    let text = transport::describe::fetch(&http, endpoint).await?;
    let text: serde_json::Value = serde_json::from_slice(&text)?;
    let record = record(&text).ok_or("a descriptor without a node")?;
    let node: NodeId = serde_json::from_value(record["node"].clone())?;
    let addresses: Vec<SocketAddr> = serde_json::from_value(record["addresses"].clone())?;
    Ok(NodeAddr {
        id: node,
        addresses,
    })
}

/// The part of a descriptor that names the node, however deep it is.
fn record(value: &serde_json::Value) -> Option<serde_json::Value> {
    if value.get("node").is_some() && value.get("addresses").is_some() {
        return Some(value.clone());
    }
    match value {
        serde_json::Value::Object(fields) => fields.values().find_map(record),
        serde_json::Value::String(text) => record(&serde_json::from_str(text).ok()?),
        _ => None,
    }
}
