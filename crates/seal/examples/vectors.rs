//! Recorded exchanges, and the other half of a check between two programs.
//!
//! ```text
//! vectors write FOLDER     writes docs/protocol/vectors anew
//! vectors answer           opens the request on standard input, answers it
//! vectors ask SUITE        sends a request, opens the answer to it
//! ```
//!
//! The last two speak JSON, one line each way; `docs/protocol/client.py`
//! is at the other end (`e2e/seal.sh`).
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::io;
use std::path::Path;

use alloy_primitives::{Address, hex};
use market::{Domain, NodeKey, Timestamp};
use seal::{Cell, EpochKey, EpochKeys, Identity, Pacing, RequestOpener, Suite, ask};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_790_000_000);
const NODE_SECRET: [u8; 32] = [7; 32];
const IDENTITY: Identity = Identity {
    domain: Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    },
    provider: Address::repeat_byte(5),
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", folder] => write(Path::new(folder)),
        ["answer"] => answer(),
        ["ask", suite] => ask_and_open(suite_named(suite)?),
        _ => Err("usage: vectors write FOLDER | answer | ask x25519|x-wing".into()),
    }
}

fn suite_named(name: &str) -> Result<Suite, Box<dyn Error>> {
    match name {
        "x25519" => Ok(Suite::X25519),
        "x-wing" => Ok(Suite::XWing),
        _ => Err(format!("suite {name:?} (known: x25519, x-wing)").into()),
    }
}

fn node() -> NodeKey {
    NodeKey::from_bytes(&NODE_SECRET)
}

fn epoch_key(keys: &EpochKeys) -> Result<EpochKey, Box<dyn Error>> {
    let (node, provider) = (node().id(), IDENTITY.provider);
    Ok(keys.record().open(node, provider, &IDENTITY.domain, NOW)?)
}

fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    let long: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    for (name, opening) in [
        ("x25519", &b"{\"prompt\":\"hello\"}"[..]),
        ("x-wing", b"{\"prompt\":\"hello\"}"),
        ("x25519-long", &long),
    ] {
        let suite = suite_named(name.trim_end_matches("-long"))?;
        let vector = recorded(suite, opening)?;
        let text = serde_json::to_string_pretty(&vector)? + "\n";
        std::fs::write(folder.join(name).with_extension("json"), text)?;
    }
    Ok(())
}

/// An exchange with keys that everybody knows.
fn recorded(suite: Suite, opening: &[u8]) -> Result<Value, Box<dyn Error>> {
    let secret = rand::random();
    let keys = EpochKeys::from_secret(IDENTITY, &node(), NOW, &secret);
    let (mut sealer, mut opener) = ask(&epoch_key(&keys)?, suite, Pacing::Paced, NOW)?;
    let mut request = sealer.opening(opening)?.to_vec();
    request.extend_from_slice(&sealer.data(&[1; 300])?);
    request.extend_from_slice(&sealer.keep_alive()?);
    request.extend_from_slice(&sealer.end()?);

    let mut provider = RequestOpener::new(&keys, NOW);
    provider.push(&request)?;
    let mut asked = Vec::new();
    while let Some(cell) = provider.next()? {
        asked.push(described(&cell));
    }
    let mut sealer = provider.respond().ok_or("the request was not opened")?;
    let mut response = sealer.data(b"{\"answer\":\"hi\"}")?.to_vec();
    response.extend_from_slice(&sealer.keep_alive()?);
    response.extend_from_slice(&sealer.pad(2)?);
    response.extend_from_slice(&sealer.end()?);
    opener.push(&response)?;
    let mut answered = Vec::new();
    while let Some(cell) = opener.next()? {
        answered.push(described(&cell));
    }
    Ok(json!({
        "suite": match suite { Suite::X25519 => "x25519", Suite::XWing => "x-wing" },
        "now": NOW,
        "secret": hex::encode(secret),
        "nodeSecret": hex::encode(NODE_SECRET),
        "node": node().id(),
        "epoch": keys.record(),
        "epochHash": keys.record().hash(),
        "encapsulatedHash": provider.encapsulated().map(hex::encode),
        "request": hex::encode(request),
        "requestCells": asked,
        "response": hex::encode(response),
        "responseCells": answered,
    }))
}

fn described(cell: &Cell) -> Value {
    match cell {
        Cell::Opening(opening) => json!({
            "kind": "opening",
            "issuedAt": opening.issued_at,
            "pacing": match opening.pacing { Pacing::Fast => "fast", Pacing::Paced => "paced" },
            "data": hex::encode(&opening.data),
        }),
        Cell::Data(data) => json!({ "kind": "data", "data": hex::encode(data) }),
        Cell::KeepAlive => json!({ "kind": "keepAlive" }),
        Cell::Pad => json!({ "kind": "pad" }),
        Cell::End => json!({ "kind": "end" }),
    }
}

fn line() -> Result<Value, Box<dyn Error>> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn bytes(value: &Value, field: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let text = value[field].as_str().ok_or_else(|| format!("no {field}"))?;
    Ok(hex::decode(text)?)
}

/// `{secret, request}` in, `{cells, response}` out: the answer is the opening's data.
fn answer() -> Result<(), Box<dyn Error>> {
    let question = line()?;
    let secret = bytes(&question, "secret")?.as_slice().try_into()?;
    let keys = EpochKeys::from_secret(IDENTITY, &node(), NOW, &secret);
    let mut opener = RequestOpener::new(&keys, NOW);
    opener.push(&bytes(&question, "request")?)?;
    let (mut cells, mut said) = (Vec::new(), Vec::new());
    while let Some(cell) = opener.next()? {
        cells.push(described(&cell));
        if let Cell::Opening(opening) = cell {
            said = opening.data.to_vec();
        }
    }
    opener.ended()?;
    let mut sealer = opener.respond().ok_or("the request was not opened")?;
    let mut response = sealer.data(&said)?.to_vec();
    response.extend_from_slice(&sealer.pad(sealer.padding_due())?);
    response.extend_from_slice(&sealer.end()?);
    println!(
        "{}",
        json!({ "cells": cells, "response": hex::encode(response) })
    );
    Ok(())
}

/// `{secret, node, epoch, request}` out, `{response}` in, `{cells}` out.
fn ask_and_open(suite: Suite) -> Result<(), Box<dyn Error>> {
    let secret = rand::random();
    let keys = EpochKeys::from_secret(IDENTITY, &node(), NOW, &secret);
    let (mut sealer, mut opener) = ask(&epoch_key(&keys)?, suite, Pacing::Fast, NOW)?;
    let mut request = sealer.opening(&[b'?'; 10_000])?.to_vec();
    request.extend_from_slice(&sealer.data(&[b'!'; 1_000])?);
    request.extend_from_slice(&sealer.end()?);
    println!(
        "{}",
        json!({
            "secret": hex::encode(secret),
            "node": node().id(),
            "epoch": keys.record(),
            "request": hex::encode(request),
        })
    );
    opener.push(&bytes(&line()?, "response")?)?;
    let mut cells = Vec::new();
    while let Some(cell) = opener.next()? {
        cells.push(described(&cell));
    }
    opener.ended()?;
    println!("{}", json!({ "cells": cells }));
    Ok(())
}
