//! What a provider says of itself, as a consumer reads it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use market::{Amount, Card, Host, Ledger, Rates, Record, SignedRecord};
use openai::EmbeddingsRequest;
use provider::{Backend, BackendError, ChunkStream, RatesError, Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use transport::door::DESCRIPTOR_PATH;

use crate::world::{CARD, NOW, RATES, STEP, Selling, World, input, until};

/// A backend that does not take requests.
#[derive(Default)]
struct Idle {
    /// It is there, and refuses.
    is_there: AtomicBool,
}

impl Backend for Idle {
    async fn chat(&self, _: Bytes) -> Result<ChunkStream, BackendError> {
        Err(BackendError::Failed { status: 500 })
    }

    async fn embed(&self, _: EmbeddingsRequest) -> Result<ChunkStream, BackendError> {
        Err(BackendError::Failed { status: 500 })
    }

    async fn check(&self) -> Result<(), BackendError> {
        match self.is_there.load(Ordering::SeqCst) {
            true => Err(BackendError::Misconfigured { status: 404 }),
            false => {
                let nobody = std::io::Error::from(ErrorKind::ConnectionRefused);
                Err(BackendError::Unreachable(nobody.into()))
            }
        }
    }
}

pub(crate) async fn described(world: &World, selling: &Selling) -> Record {
    let mut stream = TcpStream::connect(selling.provider.addr()).await.unwrap();
    let head = format!("GET {DESCRIPTOR_PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let signed: SignedRecord = serde_json::from_str(body).unwrap();
    signed
        .open(Host::own(world.seller()), &world.ledger.domain(), NOW)
        .unwrap()
}

#[tokio::test]
async fn the_record_is_signed_and_names_what_is_sold() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::default()).await;
    let record = described(&world, &selling).await;
    assert_eq!(record.node, selling.to.addr.id);
    assert_eq!(record.receiver_authorizer, world.seller());
    let offer = &record.offers[0];
    assert_eq!((offer.model, offer.name.as_str()), (selling.model, "m"));
    assert_eq!(offer.quote.rates, RATES);
    assert_eq!(offer.upstream.as_deref(), Some("own-engine"));
    assert_eq!(offer.card, Some(Card::read(CARD).unwrap()));
    assert_eq!(offer.parameters, ["top_p"]);
}

#[tokio::test]
async fn nothing_is_on_offer_before_its_backend_is_there() {
    let world = World::new();
    let backend = Arc::new(Idle::default());
    let selling = world.sells(Arc::clone(&backend), |_| {}).await;
    assert_eq!(selling.provider.unoffered(), ["m"]);
    assert!(described(&world, &selling).await.offers.is_empty());
    let problem = selling.provider.status().offers[0].problem.clone();
    assert!(problem.unwrap().contains("cannot be reached"));

    // Who refuses is there: many servers have no `/models`.
    backend.is_there.store(true, Ordering::SeqCst);
    until("offered", || selling.provider.unoffered().is_empty()).await;
    assert_eq!(described(&world, &selling).await.offers.len(), 1);
}

#[tokio::test]
async fn a_new_price_is_signed_at_once_and_the_old_one_is_honoured() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let dearer = Rates {
        input_per_million: Amount::new(2_000_000),
        output_per_million: Amount::new(2_000_000),
    };
    selling.provider.set_rates(selling.model, dearer).unwrap();
    let record = described(&world, &selling).await;
    assert_eq!(record.offers[0].quote.rates, dearer);

    let buyer = world.buyer(10_000).await;
    let whole = buyer
        .asks(&selling, input() + STEP)
        .await
        .reads_on(None)
        .await;
    assert_eq!(
        whole.receipt.receipt.amount,
        Amount::new(7 + 3),
        "at the old price"
    );
    let mut infer = buyer.request(selling.model, 10 + 2 * (input() + STEP));
    infer.rates = dearer;
    let whole = buyer.send(&selling.to, infer).await.reads_on(None).await;
    assert_eq!(whole.receipt.receipt.amount, Amount::new(2 * (7 + 3)));
}

#[tokio::test]
async fn prices_that_cannot_work_are_refused() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::default()).await;
    let absurd = Rates {
        input_per_million: Amount::new(u128::MAX),
        output_per_million: Amount::new(1),
    };
    let refused = selling.provider.set_rates(selling.model, absurd);
    assert!(matches!(refused, Err(RatesError::Rates(_))));
    let nobody = market::ModelId(market::B256::ZERO);
    let refused = selling.provider.set_rates(nobody, RATES);
    assert!(matches!(refused, Err(RatesError::UnknownModel { .. })));
}
