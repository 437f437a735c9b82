//! A market in one process: a ledger, a network, a provider, and a buyer who
//! speaks the messages by hand and may lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use market::{
    Address, Amount, B256, Card, Certificate, CertifiedHost, ChannelConfig, ChannelId, Domain,
    Durable, InputBound, Ledger, MemoryLedger, ModelId, NodeKey, Rates, RequestId, STEP_TOKENS,
    SignedCertificate, SignedReceipt, SignedVoucher, Timestamp, Voucher, WalletKey,
};
use provider::{
    Backend, BackendHandle, ClaimPolicy, Config, Deps, OfferConfig, Provider, Script,
    ScriptedBackend,
};
use seal::{EpochKey, Pacing, Suite};
use store::Store;
use tempfile::TempDir;
use tokio::net::TcpListener;
use transport::describe::{Described, fetch, http_client};
use transport::message::{Ask, Failure, FromConsumer, FromProvider, Infer, ReceiptsAsk, Refusal};
use transport::{MemoryNetwork, Node, NodeAddr, Stream};

pub(crate) const MOR: Address = Address::repeat_byte(9);
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000);
/// What it says that its model is.
pub(crate) const CARD: &str = r#"{"repo":"owner/name","quantization":"int8"}"#;

/// One base unit a token, both ways: amounts are tokens.
pub(crate) const RATES: Rates = Rates {
    input_per_million: Amount::new(1_000_000),
    output_per_million: Amount::new(1_000_000),
};
pub(crate) const BODY: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"stream":true}"#;
pub(crate) const STEP: u128 = STEP_TOKENS as u128;
/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const DOMAIN: Domain = Domain {
    chain_id: 31337,
    settlement: Address::repeat_byte(8),
};

/// What the input of [`BODY`] is reckoned at.
pub(crate) fn input() -> u128 {
    InputBound::of_body(BODY.len()).estimate.into()
}

/// The most that may be billed for it.
pub(crate) fn input_ceiling() -> u128 {
    InputBound::of_body(BODY.len()).ceiling.into()
}

pub(crate) struct World {
    pub(crate) ledger: MemoryLedger,
    network: MemoryNetwork,
    pub(crate) folder: TempDir,
    clock: Arc<AtomicU64>,
    wallet: Arc<WalletKey>,
    node_key: Arc<NodeKey>,
    buyers: AtomicU8,
}

/// Where a provider is, and what is sealed to it.
#[derive(Clone)]
pub(crate) struct To {
    pub(crate) addr: NodeAddr,
    pub(crate) key: Arc<EpochKey>,
}

/// A provider and what it is made of.
pub(crate) struct Selling {
    pub(crate) provider: Provider,
    pub(crate) model: ModelId,
    pub(crate) to: To,
    store: Store,
    node: Node,
}

impl World {
    pub(crate) fn new() -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let wallet = Arc::new(WalletKey::from_bytes(&[1; 32]).unwrap());
        let ledger = MemoryLedger::new(DOMAIN, MOR, NOW);
        ledger
            .mint(MOR, wallet.address(), Amount::new(100_000))
            .unwrap();
        Self {
            ledger,
            network: MemoryNetwork::new(),
            folder: TempDir::new().unwrap(),
            clock: Arc::new(AtomicU64::new(NOW.0)),
            wallet,
            node_key: Arc::new(NodeKey::from_bytes(&[2; 32])),
            buyers: AtomicU8::new(10),
        }
    }

    /// From now on the provider's clock is so much ahead of [`NOW`].
    pub(crate) fn later(&self, seconds: u64) -> Timestamp {
        let now = NOW.after_s(seconds);
        self.clock.store(now.0, Ordering::SeqCst);
        now
    }

    /// Another node on the network.
    pub(crate) fn node(&self, key: &NodeKey) -> Node {
        Node::memory(&self.network, key.id())
    }

    pub(crate) fn domain(&self) -> Domain {
        DOMAIN
    }

    pub(crate) fn seller(&self) -> Address {
        self.wallet.address()
    }

    /// A provider with one offer of this backend; `adjust` may change the rest.
    pub(crate) async fn sells(
        &self,
        backend: Arc<impl Backend>,
        adjust: impl FnOnce(&mut Config),
    ) -> Selling {
        let wallet = Arc::clone(&self.wallet);
        self.sells_as("provider", wallet, backend, adjust).await
    }

    /// What the wallet says of these hosts from now on.
    pub(crate) fn certifies(&self, accounts: &[Address]) -> SignedCertificate {
        let host = |account: &Address| CertifiedHost {
            account: *account,
            endpoint: "127.0.0.1:3333".to_owned(),
        };
        let hosts = accounts.iter().map(host).collect();
        let when = (Timestamp(self.clock.load(Ordering::SeqCst)), 1);
        let certificate = Certificate::new(self.seller(), &DOMAIN, hosts, when);
        certificate.sign(&self.wallet).unwrap()
    }

    /// The same with another account and other books, such as a host has them.
    pub(crate) async fn sells_as(
        &self,
        name: &str,
        wallet: Arc<WalletKey>,
        backend: Arc<impl Backend>,
        adjust: impl FnOnce(&mut Config),
    ) -> Selling {
        let mut config = config(BackendHandle::shared(backend));
        adjust(&mut config);
        let model = ModelId::derive(self.seller(), config.offers[0].base);
        let store = Store::open(&self.folder.path().join(format!("{name}.sqlite"))).unwrap();
        let node = Node::memory(&self.network, self.node_key.id());
        let clock = Arc::clone(&self.clock);
        let deps = Deps {
            ledger: Arc::new(self.ledger.of(wallet.address())),
            node: node.clone(),
            store: store.clone(),
            wallet,
            node_key: Arc::clone(&self.node_key),
            config,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            clock: Arc::new(move || Timestamp(clock.load(Ordering::SeqCst))),
        };
        let provider = Provider::start(deps).await.unwrap();
        let text = fetch(&http_client().unwrap(), &provider.addr().to_string()).await;
        let described = Described::parse(&text.unwrap()).unwrap();
        let opened = described.open(self.seller(), &DOMAIN, NOW).unwrap();
        let to = To {
            addr: node.addr(),
            key: opened.epoch.unwrap().unwrap(),
        };
        Selling {
            provider,
            model,
            to,
            store,
            node,
        }
    }

    /// The usual case: a script, nothing special.
    pub(crate) async fn sells_script(&self, script: Script) -> (Selling, Arc<ScriptedBackend>) {
        let backend = Arc::new(ScriptedBackend::new(script));
        (self.sells(Arc::clone(&backend), |_| {}).await, backend)
    }

    /// A buyer with a channel to the provider that holds so much.
    pub(crate) async fn buyer(&self, escrow: u128) -> Buyer {
        self.buyer_at(self.seller(), escrow).await
    }

    /// The same, to the host with this account.
    pub(crate) async fn buyer_at(&self, host: Address, escrow: u128) -> Buyer {
        let n = self.buyers.fetch_add(1, Ordering::Relaxed);
        let hot = WalletKey::from_bytes(&[n; 32]).unwrap();
        let payer = Address::repeat_byte(n);
        let channel = ChannelConfig {
            payer,
            payer_authorizer: hot.address(),
            receiver: self.seller(),
            receiver_authorizer: host,
            token: MOR,
            withdraw_delay_s: 900,
            salt: B256::ZERO,
        };
        let ledger = self.ledger.of(payer);
        let buyer = Buyer {
            node: Node::memory(&self.network, NodeKey::from_bytes(&[n; 32]).id()),
            hot,
            channel,
            ledger,
            requests: AtomicU8::new(0),
        };
        buyer.deposit(escrow).await;
        buyer
    }

    /// What the provider's account has.
    pub(crate) async fn money(&self) -> u128 {
        self.ledger
            .balance(MOR, self.seller())
            .await
            .unwrap()
            .base_units()
    }
}

impl Selling {
    /// The tokens that the journal knows of a buyer's running answer.
    pub(crate) async fn journaled_tokens(&self, buyer: &Buyer) -> u64 {
        let journal = self.store.journal(&format!("till/{}", buyer.id()));
        let progress = journal.recent("progress", 1).await.unwrap();
        let progress: Option<serde_json::Value> = progress
            .first()
            .map(|entry| serde_json::from_slice(&entry.payload).unwrap());
        progress
            .and_then(|progress| progress["output_tokens"].as_u64())
            .unwrap_or(0)
    }

    /// The process dies: nothing is told to anybody. Its journal is closed.
    pub(crate) async fn crashes(self) {
        self.provider.kill().await;
        self.node.close().await;
        self.store.close().await;
    }
}

pub(crate) fn config(backend: BackendHandle) -> Config {
    let offer = OfferConfig {
        name: "m".into(),
        base: B256::repeat_byte(3),
        tags: vec![],
        rates: RATES,
        token: MOR,
        price_per_second: Amount::new(10),
        context_length: Some(4096),
        output_tokens_max: None,
        upstream: Some("own-engine".into()),
        upstream_model: "upstream".into(),
        backend,
        slots: 4,
        queue: 4,
        probe: false,
        card: Some(Card::read(CARD).unwrap()),
        parameters: vec!["top_p".into()],
    };
    Config {
        endpoint: "127.0.0.1:3333".into(),
        addresses: vec![],
        behind: vec![],
        hosts: None,
        offers: vec![offer],
        withdraw_delay_min_s: 900,
        quote_validity_s: 600,
        pay_within: PATIENCE,
        stop_within: Duration::from_secs(5),
        claims: ClaimPolicy {
            threshold: Amount::new(u128::MAX),
            interval: Duration::from_secs(3600),
            ..ClaimPolicy::default()
        },
    }
}

pub(crate) struct Buyer {
    pub(crate) node: Node,
    pub(crate) hot: WalletKey,
    pub(crate) channel: ChannelConfig,
    pub(crate) ledger: MemoryLedger,
    requests: AtomicU8,
}

impl Buyer {
    pub(crate) async fn deposit(&self, amount: u128) {
        if amount > 0 {
            self.ledger
                .mint(MOR, self.channel.payer, Amount::new(amount))
                .unwrap();
            self.ledger
                .deposit(self.channel, Amount::new(amount))
                .await
                .unwrap();
        }
    }

    pub(crate) fn id(&self) -> ChannelId {
        self.channel.id(&DOMAIN)
    }

    pub(crate) fn voucher(&self, ceiling: u128) -> SignedVoucher {
        let voucher = Voucher {
            channel: self.id(),
            ceiling: Amount::new(ceiling),
        };
        Durable::read_back(voucher).sign(&DOMAIN, &self.hot)
    }

    /// A request as an honest buyer would write it, with a voucher up to `ceiling`.
    pub(crate) fn request(&self, model: ModelId, ceiling: u128) -> Infer {
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut id = [n; 16];
        id[0] = self.channel.payer.0[0];
        let request = RequestId(id.into());
        let signed = Infer::signed_text(request, self.id());
        Infer {
            request,
            signature: self.hot.sign_message(signed.as_bytes()),
            channel: self.channel,
            voucher: self.voucher(ceiling),
            model,
            rates: RATES,
            body: Bytes::from_static(BODY.as_bytes()),
        }
    }

    /// A stream that is sealed to the provider.
    pub(crate) async fn sealed(&self, to: &To) -> Stream {
        let mut stream = self.node.open(&to.addr).await.unwrap();
        let sealed = seal::ask(&to.key, Suite::X25519, Pacing::Fast, NOW).unwrap();
        stream.seal(None, sealed).unwrap();
        stream
    }

    pub(crate) async fn send(&self, to: &To, infer: Infer) -> Talk<'_> {
        let mut stream = self.sealed(to).await;
        let request = infer.request;
        stream
            .send
            .send(&Ask::Infer(Box::new(infer)))
            .await
            .unwrap();
        Talk {
            buyer: self,
            request,
            stream,
        }
    }

    pub(crate) async fn asks(&self, selling: &Selling, ceiling: u128) -> Talk<'_> {
        self.send(&selling.to, self.request(selling.model, ceiling))
            .await
    }

    /// All receipts of the channel, and how many answers run.
    pub(crate) async fn receipts(
        &self,
        to: &To,
        after: u64,
    ) -> Result<(Vec<SignedReceipt>, u32), Refusal> {
        let ask = ReceiptsAsk::sign(self.id(), after, &self.hot);
        let mut stream = self.sealed(to).await;
        stream.send.send(&Ask::Receipts(ask)).await.unwrap();
        match stream.receive.receive().await.unwrap() {
            Some(FromProvider::Receipts { receipts, running }) => Ok((receipts, running)),
            Some(FromProvider::Refused(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

/// A running request.
pub(crate) struct Talk<'a> {
    pub(crate) buyer: &'a Buyer,
    pub(crate) request: RequestId,
    pub(crate) stream: Stream,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    /// Chunks with text.
    pub(crate) chunks: u32,
    pub(crate) receipt: SignedReceipt,
    pub(crate) failure: Option<Failure>,
}

impl Talk<'_> {
    /// The next message; none when the provider finished or left.
    pub(crate) async fn hears(&mut self) -> Option<FromProvider> {
        let heard = tokio::time::timeout(PATIENCE, self.stream.receive.receive());
        heard
            .await
            .expect("the provider fell silent")
            .ok()
            .flatten()
    }

    pub(crate) async fn begins(&mut self) {
        let heard = self.hears().await;
        assert!(
            matches!(heard, Some(FromProvider::Begin { .. })),
            "{heard:?}"
        );
    }

    pub(crate) async fn refused(mut self) -> Refusal {
        match self.hears().await {
            Some(FromProvider::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The text of the next chunk.
    pub(crate) async fn chunk(&mut self) -> String {
        match self.hears().await {
            Some(FromProvider::Chunk { json, .. }) => text(&json),
            other => panic!("no chunk: {other:?}"),
        }
    }

    pub(crate) async fn pays(&mut self, ceiling: u128, read_tokens: u32) {
        let voucher = self.buyer.voucher(ceiling);
        let pay = FromConsumer::Pay {
            voucher,
            read_tokens,
        };
        self.stream.send.send(&pay).await.unwrap();
    }

    /// Reads to the end. `paid` is what the channel was charged before this
    /// request; None: pays nothing more.
    pub(crate) async fn reads_on(mut self, paid: Option<u128>) -> Whole {
        let mut whole = (String::new(), 0);
        let mut steps = 0;
        loop {
            match self.hears().await {
                Some(FromProvider::Begin { .. }) => {}
                Some(FromProvider::Chunk { tokens, json }) => {
                    let text = text(&json);
                    whole.1 += u32::from(!text.is_empty());
                    whole.0.push_str(&text);
                    if let Some(before) = paid
                        && tokens / STEP_TOKENS > steps
                    {
                        steps = tokens / STEP_TOKENS;
                        let covered = u128::from(steps + 1) * STEP;
                        self.pays(before + input() + covered, tokens).await;
                    }
                }
                Some(FromProvider::End { receipt, failure }) => {
                    receipt.verify(self.seller()).unwrap();
                    assert_eq!(receipt.receipt.request, self.request);
                    let (text, chunks) = whole;
                    return Whole {
                        text,
                        chunks,
                        receipt,
                        failure,
                    };
                }
                other => panic!("no end: {other:?}"),
            }
        }
    }

    fn seller(&self) -> market::NodeId {
        NodeKey::from_bytes(&[2; 32]).id()
    }
}

/// The text of a chunk.
pub(crate) fn text(json: &[u8]) -> String {
    let chunk: serde_json::Value = serde_json::from_slice(json).unwrap();
    chunk["choices"][0]["delta"]["content"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
