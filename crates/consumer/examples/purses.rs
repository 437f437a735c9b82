//! How long a consumer with many channels takes to come back:
//! `cargo run --release -p consumer --example purses -- [CHANNELS] [wallet]`.
//!
//! Makes a store in which each channel has what a first answer leaves behind
//! (its configuration, a request, a ceiling, a receipt; one in a hundred has no
//! receipt yet), then opens it as after a crash and starts a consumer on it.
//! Each channel is paid by an account of its own, whose keys are made anew from
//! a seed; with `wallet` all are paid by the wallet.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use consumer::{Consumer, Deps, Pacing, PayerKeys, Policy, Pseudonyms};
use futures_util::future::try_join_all;
use market::{
    Accepted, Address, Amount, B256, BoxFuture, ChannelConfig, ChannelId, Domain, Durable,
    FundingPolicy, InputBound, Ledger, LedgerError, MemoryLedger, ModelId, Network, NodeKey,
    Outcome, Payer, Purse, Rates, Receipt, RequestId, Timestamp, U256, Upstream, UsdRates,
    WalletKey,
};
use serde_json::json;
use store::{Entry, Store};
use transport::{Endpoints, MemoryNetwork};

const CHANNELS: u32 = 100_000;
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
/// One in so many has no receipt yet.
const CUT_SHORT: u32 = 100;
/// Journals written at a time.
const AT_ONCE: u32 = 512;

type Outcomes<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[tokio::main]
async fn main() -> Outcomes<()> {
    let mut said = std::env::args().skip(1);
    let channels = said.next().map(|said| said.parse()).transpose()?;
    let channels = channels.unwrap_or(CHANNELS);
    let by_wallet = said.next().as_deref() == Some("wallet");
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "the crypto provider was installed twice")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("consumer.sqlite");
    fill(&Store::open(&path)?, channels, by_wallet).await?;
    let bytes = std::fs::metadata(&path)?.len();
    println!("{channels} channels, {} MB of journal", bytes / 1_000_000);

    let before = resident_mb()?;
    let begun = now();
    let store = Store::open(&path)?;
    println!(
        "opened and checked after {:>6} ms",
        begun.elapsed().as_millis()
    );
    let consumer = start(store.clone(), by_wallet).await?;
    println!(
        "serves after             {:>6} ms",
        begun.elapsed().as_millis()
    );
    println!("memory: {} MB more", resident_mb()? - before);
    println!("{} channels known", consumer.channels().await?.len());
    consumer.stop().await;
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

fn key(kind: u8, number: u32) -> Outcomes<WalletKey> {
    let mut secret = [kind; 32];
    secret[28..].copy_from_slice(&number.to_be_bytes());
    Ok(WalletKey::from_bytes(&secret)?)
}

/// Accounts whose keys follow from their numbers.
struct Seeded(MemoryLedger);

impl Pseudonyms for Seeded {
    fn keys(&self, number: u32) -> Outcomes<PayerKeys> {
        Ok(PayerKeys {
            account: key(1, number)?.address(),
            hot_key: Arc::new(key(2, number)?),
        })
    }

    fn ledger(&self, number: u32) -> BoxFuture<'_, Result<Arc<dyn Ledger>, LedgerError>> {
        Box::pin(async move {
            let keys = self.keys(number).map_err(LedgerError::Unreachable)?;
            Ok(Arc::new(self.0.of(keys.account)) as Arc<dyn Ledger>)
        })
    }
}

async fn fill(store: &Store, channels: u32, by_wallet: bool) -> Outcomes<()> {
    let node = NodeKey::from_bytes(&[2; 32]);
    let mut number = 0;
    while number < channels {
        let end = channels.min(number + AT_ONCE);
        let (mut appends, mut opened) = (Vec::new(), Vec::new());
        for one in number..end {
            let payer = if by_wallet { 0 } else { one + 1 };
            let config = ChannelConfig {
                payer: key(1, payer)?.address(),
                payer_authorizer: key(2, payer)?.address(),
                receiver: Address::repeat_byte(5),
                receiver_authorizer: Address::repeat_byte(5),
                token: MOR,
                withdraw_delay_s: 900,
                salt: B256::from(U256::from(one)),
            };
            let channel = config.id(&DOMAIN);
            opened.push(entry(
                "opened",
                &json!({ "config": config, "payer": payer }),
            )?);
            let journal = store.journal(&format!("consumer/purse/{channel}"));
            appends.push((journal, purse(one, channel, &node)?));
        }
        // The list is written first, as it is when a channel is opened.
        store.journal("consumer/channels").append(opened).await?;
        let appends = appends.into_iter();
        try_join_all(appends.map(async |(journal, entries)| journal.append(entries).await)).await?;
        number = end;
    }
    store.close().await;
    Ok(())
}

/// What a first answer leaves in a channel's journal.
fn purse(number: u32, channel: ChannelId, node: &NodeKey) -> Outcomes<Vec<Entry>> {
    let request = RequestId(B256::from(U256::from(number)).0[16..].try_into()?);
    let bound = InputBound::of_body(120);
    let mut purse = Purse::default();
    purse.funded(Amount::new(1_000_000));
    let mut events = vec![purse.ask(request, RATES, bound)?];
    let (output_tokens, input_tokens) = (70, 20);
    purse.delivered(request, output_tokens, 400)?;
    events.extend(purse.due()?);
    if !number.is_multiple_of(CUT_SHORT) {
        let receipt = Receipt {
            request,
            channel,
            sequence: 1,
            model: ModelId(B256::repeat_byte(4)),
            rates: RATES,
            upstream: Upstream::declared(None),
            input_tokens,
            output_tokens,
            amount: Amount::new(90),
            charged_total: Amount::new(90),
            outcome: Outcome::Complete,
            issued_at: NOW,
        };
        events.extend(purse.receipted(&Durable::read_back(receipt).sign(node))?);
    }
    events
        .iter()
        .map(|event| entry(event.kind(), event))
        .collect()
}

fn entry(kind: &str, payload: &impl serde::Serialize) -> Outcomes<Entry> {
    Ok(Entry {
        kind: kind.into(),
        key: None,
        payload: serde_json::to_vec(payload)?,
    })
}

fn paid() -> Accepted {
    Accepted {
        token: MOR,
        decimals: 18,
        names: vec!["MOR".to_owned()],
    }
}

const FUNDING: FundingPolicy = FundingPolicy {
    deposit: Amount::new(1_000),
    channel_max: Amount::new(10_000),
    top_up_below: Amount::ZERO,
    withdraw_idle: None,
};

async fn start(store: Store, by_wallet: bool) -> Outcomes<Consumer> {
    let book = MemoryLedger::new(DOMAIN, MOR, NOW);
    let deps = Deps {
        ledger: Arc::new(book.of(key(1, 0)?.address())),
        endpoints: Endpoints::Memory(MemoryNetwork::new()),
        store,
        hot_key: Arc::new(key(2, 0)?),
        pseudonyms: Arc::new(Seeded(book)),
        policy: Policy {
            accepted: vec![paid()],
            funding: [(MOR, FUNDING)].into(),
            withdraw_delay_s: 900,
            refresh: Duration::from_secs(60),
            running_max: 64,
            standby: false,
            network: Network::Direct,
            pacing: Pacing::Fast,
            payer: match by_wallet {
                true => Payer::Wallet,
                false => Payer::Pseudonym,
            },
        },
        usd_rates: tokio::sync::watch::channel(UsdRates::default()).1,
        clock: Arc::new(|| NOW),
    };
    Ok(Consumer::start(deps).await?)
}
