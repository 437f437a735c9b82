//! How long a provider with many channels takes to come back:
//! `cargo run --release -p provider --example tills -- [CHANNELS]`.
//!
//! Makes a store in which each channel has what a first answer leaves behind
//! (its configuration, a voucher, a progress, a receipt, and for most of them
//! a claim; one in a hundred was cut short within an answer), then opens it
//! as after a crash and starts a provider on it, until the descriptor is served
//! and streams are taken.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use market::{
    Address, Amount, B256, ChannelConfig, ChannelState, Domain, Durable, MemoryLedger, ModelId,
    NodeKey, Outcome, Rates, RequestId, Sold, Till, TillEvent, Timestamp, U256, Upstream, Voucher,
    WalletKey,
};
use provider::{
    BackendHandle, ClaimPolicy, Config, Deps, OfferConfig, Provider, Script, ScriptedBackend,
};
use serde_json::json;
use store::{Entry, Store};
use tokio::net::TcpListener;
use transport::{MemoryNetwork, Node};

const CHANNELS: usize = 100_000;
const NOW: Timestamp = Timestamp(1_700_000_000);
const MOR: Address = Address::repeat_byte(9);
const DOMAIN: Domain = Domain {
    chain_id: 31337,
    settlement: Address::repeat_byte(8),
};
const RATES: Rates = Rates {
    input_per_million: Amount::new(1_000_000),
    output_per_million: Amount::new(1_000_000),
};
/// One in so many was cut short; one in so many is not claimed yet.
const CUT_SHORT: usize = 100;
const UNCLAIMED: usize = 10;
/// Journals written at a time.
const AT_ONCE: usize = 512;

type Outcomes<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[tokio::main]
async fn main() -> Outcomes<()> {
    let said = std::env::args().nth(1).map(|said| said.parse());
    let channels = said.transpose()?.unwrap_or(CHANNELS);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "the crypto provider was installed twice")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("provider.sqlite");
    let wallet = Arc::new(WalletKey::from_bytes(&[1; 32])?);
    fill(&Store::open(&path)?, channels, wallet.address()).await?;
    let bytes = std::fs::metadata(&path)?.len();
    println!("{channels} channels, {} MB of journal", bytes / 1_000_000);

    let before = resident_mb()?;
    let begun = now();
    let store = Store::open(&path)?;
    println!(
        "opened and checked after {:>6} ms",
        begun.elapsed().as_millis()
    );
    let provider = start(store.clone(), wallet).await?;
    let status = provider.status();
    println!(
        "serves after             {:>6} ms",
        begun.elapsed().as_millis()
    );
    println!("memory: {} MB more", resident_mb()? - before);
    println!("{}", serde_json::to_string(&status)?);
    provider.kill().await;
    store.close().await;
    Ok(())
}

/// What the process holds.
fn resident_mb() -> Outcomes<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next());
    Ok(kb.ok_or("no VmRSS")?.parse::<u64>()? / 1000)
}

async fn fill(store: &Store, channels: usize, receiver: Address) -> Outcomes<()> {
    let hot = WalletKey::from_bytes(&[7; 32])?;
    let mut number = 0;
    while number < channels {
        let end = channels.min(number + AT_ONCE);
        let mut appends = Vec::with_capacity(end - number);
        for one in number..end {
            let (name, entries) = journal(one, receiver, &hot)?;
            appends.push((store.journal(&name), entries));
        }
        let appends = appends.into_iter();
        try_join_all(appends.map(async |(journal, entries)| journal.append(entries).await)).await?;
        number = end;
    }
    store.close().await;
    Ok(())
}

/// What a first answer leaves in a channel's journal.
fn journal(number: usize, receiver: Address, hot: &WalletKey) -> Outcomes<(String, Vec<Entry>)> {
    let config = ChannelConfig {
        payer: Address::repeat_byte(5),
        payer_authorizer: hot.address(),
        receiver,
        receiver_authorizer: receiver,
        token: MOR,
        withdraw_delay_s: 900,
        salt: B256::from(U256::from(number)),
    };
    let channel = config.id(&DOMAIN);
    let request = RequestId(B256::from(U256::from(number)).0[16..].try_into()?);
    let sold = Sold {
        model: ModelId(B256::repeat_byte(4)),
        rates: RATES,
        upstream: Upstream::declared(None),
    };
    let mut till = Till::new(channel);
    till.funded(ChannelState {
        balance: Amount::new(1_000_000),
        ..ChannelState::default()
    });
    let ceiling = Amount::new(300);
    let voucher = Durable::read_back(Voucher { channel, ceiling }).sign(&DOMAIN, hot);
    let mut events: Vec<TillEvent> = till.take(&voucher)?.into_iter().collect();
    till.count(&voucher);
    events.push(till.admit(request, sold, 20)?);
    till.delivered(request, 20, 64)?;
    events.push(till.progress(request)?);
    if !number.is_multiple_of(CUT_SHORT) {
        let receipt = till.close(request, 20, 70, Outcome::Complete, NOW)?;
        events.push(TillEvent::receipted(&receipt));
        if !number.is_multiple_of(UNCLAIMED) {
            events.extend(till.claimed_to(till.charged()));
        }
    }
    let mut entries = vec![entry("channel", &json!({ "config": config }))?];
    for event in &events {
        let kind = match event {
            TillEvent::Voucher { .. } => "voucher",
            TillEvent::Progress { .. } => "progress",
            TillEvent::Refused { .. } => "refused",
            TillEvent::Receipted { .. } => "receipted",
            TillEvent::Claimed { .. } => "claimed",
        };
        entries.push(entry(kind, event)?);
    }
    Ok((format!("till/{channel}"), entries))
}

fn entry(kind: &str, payload: &impl serde::Serialize) -> Outcomes<Entry> {
    Ok(Entry {
        kind: kind.into(),
        key: None,
        payload: serde_json::to_vec(payload)?,
    })
}

async fn start(store: Store, wallet: Arc<WalletKey>) -> Outcomes<Provider> {
    let ledger = MemoryLedger::new(DOMAIN, MOR, NOW);
    ledger.mint(MOR, wallet.address(), Amount::new(100_000))?;
    let node_key = Arc::new(NodeKey::from_bytes(&[2; 32]));
    let deps = Deps {
        ledger: Arc::new(ledger.of(wallet.address())),
        node: Node::memory(&MemoryNetwork::new(), node_key.id()),
        store,
        wallet,
        node_key,
        config: config(),
        listener: TcpListener::bind("127.0.0.1:0").await?,
        clock: Arc::new(|| NOW),
    };
    Ok(Provider::start(deps).await?)
}

fn config() -> Config {
    let backend = BackendHandle::new(ScriptedBackend::new(Script::default()));
    let offer = OfferConfig {
        name: "m".into(),
        base: B256::repeat_byte(3),
        tags: vec![],
        rates: RATES,
        token: MOR,
        price_per_second: Amount::new(10),
        context_length: None,
        output_tokens_max: None,
        upstream: None,
        upstream_model: "m".into(),
        backend,
        slots: 4,
        queue: 4,
        probe: false,
        card: None,
        parameters: vec![],
    };
    Config {
        endpoint: "127.0.0.1:3333".into(),
        addresses: vec![],
        behind: vec![],
        hosts: None,
        offers: vec![offer],
        withdraw_delay_min_s: 900,
        quote_validity_s: 600,
        pay_within: Config::PAY_WITHIN,
        stop_within: Duration::ZERO,
        claims: ClaimPolicy {
            threshold: Amount::new(u128::MAX),
            interval: Duration::from_secs(3600),
            ..ClaimPolicy::default()
        },
    }
}
