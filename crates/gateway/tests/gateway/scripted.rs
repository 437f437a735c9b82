//! A market that answers as the test says, and a gateway in front of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use consumer::{
    BrokenError, Conditions, InferError, ModelView, OfferView, Piece, RouteId, Shortage, Summary,
    Unserved,
};
use futures_util::Stream;
use gateway::{Gateway, Market, Running, Settings};
use market::{
    Address, Amount, Labels, ModelId, Network, Outcome, Payer, Rates, RequestId, Timestamp,
    Upstream,
};
use openai::{ChatRequest, EmbeddingsRequest, Request};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::wire::Wire;

/// No test waits longer than this for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the time is.
const NOW: Timestamp = Timestamp(1_700_000_000);

/// The route of every answer.
pub(crate) const ROUTE: &str = "000000000000000000000000000000aa";

/// Pieces that wait unread.
const QUEUE: usize = 64;

type Item = Result<Piece, BrokenError>;

enum Plan {
    Fail(InferError),
    Answer(mpsc::Receiver<Item>),
    /// The answer never begins; the receiver only tells when nobody waits any more.
    Never(mpsc::Receiver<Item>),
}

/// The market.
#[derive(Default)]
pub(crate) struct Scripted {
    plans: Mutex<VecDeque<Plan>>,
    pub(crate) asked: Mutex<Vec<Request>>,
    pub(crate) conditions: Mutex<Vec<Conditions>>,
    pub(crate) models: Mutex<Vec<ModelView>>,
    pub(crate) shortage: Mutex<Option<Shortage>>,
}

impl Market for Scripted {
    type Answer = Play;

    async fn infer(&self, request: ChatRequest, conditions: Conditions) -> Result<Play, Unserved> {
        self.play(request.into(), conditions).await
    }

    async fn embed(
        &self,
        request: EmbeddingsRequest,
        conditions: Conditions,
    ) -> Result<Play, Unserved> {
        self.play(request.into(), conditions).await
    }

    fn models(&self) -> Vec<ModelView> {
        self.models.lock().unwrap().clone()
    }

    fn shortage(&self) -> Option<Shortage> {
        *self.shortage.lock().unwrap()
    }

    fn now(&self) -> Timestamp {
        NOW
    }
}

impl Scripted {
    async fn play(&self, request: Request, conditions: Conditions) -> Result<Play, Unserved> {
        self.asked.lock().unwrap().push(request);
        self.conditions.lock().unwrap().push(conditions);
        let plan = self.plans.lock().unwrap().pop_front();
        match plan.expect("a request that the test did not plan") {
            Plan::Fail(error) => Err(Unserved {
                error,
                route: ROUTE.parse().ok(),
            }),
            Plan::Answer(pieces) => Ok(Play(pieces)),
            Plan::Never(_held) => std::future::pending().await,
        }
    }
}

/// An answer that is played.
pub(crate) struct Play(mpsc::Receiver<Item>);

impl Stream for Play {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.poll_recv(cx)
    }
}

impl Running for Play {
    fn request(&self) -> RequestId {
        summary().request
    }

    fn provider(&self) -> Address {
        summary().provider
    }

    fn labels(&self) -> Labels {
        LABELS
    }

    fn route(&self) -> Option<RouteId> {
        ROUTE.parse().ok()
    }
}

/// The test's hand on an answer.
pub(crate) struct Hand(mpsc::Sender<Item>);

impl Hand {
    pub(crate) async fn say(&self, text: &str) {
        self.chunk(&chunk(text)).await;
    }

    pub(crate) async fn chunk(&self, json: &str) {
        self.give(Ok(Piece::Chunk(Bytes::copy_from_slice(json.as_bytes()))))
            .await;
    }

    pub(crate) async fn end(&self) {
        self.give(Ok(Piece::End(summary()))).await;
    }

    pub(crate) async fn break_off(&self) {
        let problem = "the provider is gone".into();
        self.give(Err(BrokenError { tokens: 1, problem })).await;
    }

    async fn give(&self, item: Item) {
        timeout(PATIENCE, self.0.send(item))
            .await
            .expect("the gateway reads")
            .expect("the gateway is there");
    }

    /// Waits until the gateway has dropped the answer.
    pub(crate) async fn dropped(&self) {
        timeout(PATIENCE, self.0.closed())
            .await
            .expect("the answer is dropped");
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.0.is_closed()
    }

    /// Says as much as the gateway takes, until it drops the answer.
    pub(crate) async fn say_until_dropped(&self) {
        let chunk = Bytes::from(chunk(&"x".repeat(64 * 1024)));
        let all = async { while self.0.send(Ok(Piece::Chunk(chunk.clone()))).await.is_ok() {} };
        timeout(PATIENCE, all).await.expect("the answer is dropped");
    }
}

/// A chunk that brings this text.
pub(crate) fn chunk(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}"#
    )
}

pub(crate) const USAGE: &str =
    r#"{"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

pub(crate) const LABELS: Labels = Labels {
    network: Network::Oblivious,
    payer: Payer::Wallet,
    upstream: Upstream::OwnEngine,
};

pub(crate) fn summary() -> Summary {
    Summary {
        request: RequestId([7; 16].into()),
        provider: Address::repeat_byte(8),
        token: Address::repeat_byte(9),
        input_tokens: 3,
        output_tokens: 2,
        cost: Amount::new(11),
        outcome: Outcome::Complete,
        ttft_ms: 1,
        duration_ms: 2,
        token_us: None,
        labels: LABELS,
        parts: vec![],
    }
}

pub(crate) fn model(name: &str, live: bool) -> ModelView {
    ModelView {
        name: name.into(),
        ids: vec![ModelId([1; 32].into())],
        seen_at: Timestamp(1_700_000_000),
        card: None,
        look_alike_of: vec![],
        offers: vec![OfferView {
            provider: Address::repeat_byte(8),
            registered: Address::repeat_byte(8),
            endpoint: "http://127.0.0.1:1".into(),
            token: Address::repeat_byte(9),
            rates: Rates {
                input_per_million: Amount::new(5),
                output_per_million: Amount::new(6),
            },
            context_length: Some(4096),
            output_tokens_max: Some(512),
            labels: LABELS,
            card: None,
            parameters: vec![],
            upstream: None,
            live,
            full: false,
            ttft_ms: None,
            running: 0,
            problem: (!live).then(|| "its descriptor is stale".into()),
        }],
    }
}

/// A gateway that runs, and its market.
pub(crate) struct Town {
    pub(crate) address: SocketAddr,
    pub(crate) market: Arc<Scripted>,
    pub(crate) stop: CancellationToken,
    serving: JoinSet<()>,
}

impl Town {
    pub(crate) async fn open() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (market, stop) = (Arc::new(Scripted::default()), CancellationToken::new());
        let owners = Router::new().route("/owner", get(async || "hers"));
        let gateway = Gateway::new(Arc::clone(&market), settings).with_owner_routes(owners);
        let mut serving = JoinSet::new();
        serving.spawn(gateway.serve(listener, stop.clone()));
        Self {
            address,
            market,
            stop,
            serving,
        }
    }

    /// The next request gets an answer that the test plays.
    pub(crate) fn plan(&self) -> Hand {
        let (sender, pieces) = mpsc::channel(QUEUE);
        self.market
            .plans
            .lock()
            .unwrap()
            .push_back(Plan::Answer(pieces));
        Hand(sender)
    }

    /// The next request waits for ever.
    pub(crate) fn plan_nothing(&self) -> Hand {
        let (sender, pieces) = mpsc::channel(QUEUE);
        self.market
            .plans
            .lock()
            .unwrap()
            .push_back(Plan::Never(pieces));
        Hand(sender)
    }

    pub(crate) fn plan_failure(&self, error: InferError) {
        self.market
            .plans
            .lock()
            .unwrap()
            .push_back(Plan::Fail(error));
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// Sends one request over a connection of its own.
    pub(crate) async fn ask(&self, body: &str) -> Wire {
        let mut wire = self.connect().await;
        wire.post(body).await;
        wire
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut wire = self.connect().await;
        wire.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let head = wire.head().await;
        (head.status, wire.body(&head).await)
    }

    /// Waits until the gateway has ended.
    pub(crate) async fn ended(&mut self) {
        let ended = timeout(PATIENCE, self.serving.join_next())
            .await
            .expect("the gateway ends");
        ended.expect("it ran").expect("it did not panic");
    }
}

pub(crate) const ASK: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const STREAM: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
