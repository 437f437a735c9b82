//! Paid, unpaid, forged, replayed, refused, left: one request at a time.

use std::sync::Arc;
use std::time::Duration;

use market::{Amount, Outcome, Rates, STEP_TOKENS};
use provider::{Continues, Line, Script, ScriptedBackend};
use tokio::time::Instant;
use transport::message::{Ask, FailureKind, FromConsumer, FromProvider, Hello, Reason};

use crate::world::{BODY, PATIENCE, RATES, STEP, World, input, input_ceiling, until};

/// Time for a backend to be dropped once its consumer left.
const DROPPED_WITHIN: Duration = Duration::from_millis(20);

/// Says one token, then nothing more.
fn one_then_silence() -> Script {
    Script {
        lines: vec![Line::Say("first ".into()), Line::Stall],
        ..Script::default()
    }
}

#[tokio::test]
async fn a_paid_answer_comes_whole_and_is_billed_by_the_backends_count() {
    let world = World::new();
    let (selling, _) = world
        .sells_script(Script::tokens(200, Duration::ZERO))
        .await;
    let buyer = world.buyer(10_000).await;
    let whole = buyer
        .asks(&selling, input() + STEP)
        .await
        .reads_on(Some(0))
        .await;
    assert_eq!(whole.failure, None);
    assert_eq!(whole.text, "token ".repeat(200));
    let receipt = whole.receipt.receipt;
    assert_eq!((receipt.sequence, receipt.outcome), (1, Outcome::Complete));
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (7, 200));
    assert_eq!(receipt.amount, Amount::new(207));

    let whole = buyer
        .asks(&selling, 207 + input() + STEP)
        .await
        .reads_on(Some(207))
        .await;
    assert_eq!(whole.receipt.receipt.sequence, 2);
    assert_eq!(whole.receipt.receipt.charged_total, Amount::new(414));
    let status = selling.provider.status();
    assert_eq!(status.money[0].earned, Amount::new(414));
    assert_eq!((status.counted.begun, status.counted.completed), (2, 2));
}

#[tokio::test]
async fn chunks_bear_the_markets_names_and_not_the_backends() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::tokens(1, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    let Some(FromProvider::Chunk { json, .. }) = talk.hears().await else {
        panic!("no chunk");
    };
    let chunk: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(chunk["id"], format!("chatcmpl-{}", talk.request));
    assert_eq!(chunk["model"], "m");
}

#[tokio::test]
async fn many_answers_at_once_on_one_channel_add_up() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::tokens(20, Duration::ZERO)).await;
    let buyer = world.buyer(100_000).await;
    let asked = (1..=8).map(|n| buyer.asks(&selling, n * (input() + STEP)));
    let talks = futures_util::future::join_all(asked).await;
    let wholes = talks.into_iter().map(|talk| talk.reads_on(None));
    let mut receipts: Vec<_> = futures_util::future::join_all(wholes)
        .await
        .into_iter()
        .map(|whole| whole.receipt.receipt)
        .collect();
    receipts.sort_by_key(|receipt| receipt.sequence);
    for (n, receipt) in (1..).zip(&receipts) {
        assert_eq!(receipt.sequence, n);
        assert_eq!(receipt.charged_total, Amount::new(u128::from(n) * 27));
    }
    assert_eq!(receipts.len(), 8);
}

#[tokio::test]
async fn who_does_not_pay_on_gets_one_step_more_and_a_receipt() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(Script::tokens(500, Duration::ZERO)));
    let selling = world
        .sells(Arc::clone(&backend), |config| {
            config.pay_within = Duration::from_millis(100);
        })
        .await;
    let buyer = world.buyer(10_000).await;
    let whole = buyer
        .asks(&selling, input() + STEP)
        .await
        .reads_on(None)
        .await;
    assert_eq!(whole.failure.unwrap().kind, FailureKind::Unpaid);
    let receipt = whole.receipt.receipt;
    assert_eq!(receipt.outcome, Outcome::Cancelled);
    assert_eq!(
        receipt.output_tokens, whole.chunks,
        "billed is what was delivered"
    );
    assert_eq!(whole.chunks, 2 * STEP_TOKENS);
    until("the backend is dropped", || backend.running() == 0).await;
}

#[tokio::test]
async fn vouchers_that_raise_too_little_do_not_buy_more() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(Script::tokens(500, Duration::ZERO)));
    let selling = world
        .sells(Arc::clone(&backend), |config| {
            config.pay_within = Duration::from_millis(100);
        })
        .await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.pays(input() + STEP + 1, 2 * STEP_TOKENS).await;
    let whole = talk.reads_on(None).await;
    assert_eq!(whole.failure.unwrap().kind, FailureKind::Unpaid);
    let chunks = whole.chunks;
    assert!(chunks <= 2 * STEP_TOKENS + 1, "{chunks} chunks");
}

/// The backend counts 150 tokens in what were two chunks.
fn many_tokens_at_once() -> Script {
    Script {
        lines: vec![
            Line::Say("first ".into()),
            Line::Say("x".repeat(1000)),
            Line::Usage {
                prompt_tokens: 7,
                completion_tokens: 150,
            },
        ],
        ..Script::default()
    }
}

#[tokio::test]
async fn a_chunk_larger_than_a_step_is_billed_to_who_pays_for_it() {
    let world = World::new();
    let (selling, _) = world.sells_script(many_tokens_at_once()).await;
    let buyer = world.buyer(10_000).await;
    let talk = buyer.asks(&selling, input() + STEP).await;
    let whole = talk.reads_on(Some(0)).await;
    assert_eq!(whole.failure, None);
    let receipt = whole.receipt.receipt;
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (7, 150));
    assert_eq!(receipt.outcome, Outcome::Complete);
}

#[tokio::test]
async fn a_chunk_larger_than_a_step_is_billed_with_one_step_to_who_does_not() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(many_tokens_at_once()));
    let selling = world
        .sells(backend, |config| {
            config.pay_within = Duration::from_millis(100);
        })
        .await;
    let buyer = world.buyer(10_000).await;
    let talk = buyer.asks(&selling, input() + STEP).await;
    let whole = talk.reads_on(None).await;
    assert_eq!(whole.failure.unwrap().kind, FailureKind::Unpaid);
    let receipt = whole.receipt.receipt;
    assert_eq!(receipt.output_tokens, 2 * STEP_TOKENS);
}

#[tokio::test]
async fn a_voucher_after_the_end_still_counts() {
    let world = World::new();
    let script = Script {
        lines: vec![
            Line::Say("token ".into()),
            Line::Usage {
                prompt_tokens: u32::MAX,
                completion_tokens: 1,
            },
        ],
        ..Script::default()
    };
    let (selling, _) = world.sells_script(script).await;
    let buyer = world.buyer(10_000).await;
    let mut first = buyer.asks(&selling, input() + STEP).await;
    let mut heard = first.hears().await;
    while !matches!(heard, Some(FromProvider::End { .. })) {
        heard = first.hears().await;
    }
    let charged = input_ceiling() + 1;
    first.pays(charged + STEP, 0).await;
    until("the last voucher counts", || {
        selling.provider.status().money[0].claimable == Amount::new(charged)
    })
    .await;
}

#[tokio::test]
async fn what_is_not_paid_for_is_refused_and_nothing_is_done() {
    let world = World::new();
    let (selling, backend) = world.sells_script(Script::tokens(5, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    let good = || buyer.request(selling.model, input() + 3 * STEP);
    let stranger = world.buyer(0).await;

    let low = buyer.request(selling.model, input() - 1);
    let mut forged = good();
    forged.voucher = stranger.voucher(input() + STEP);
    forged.voucher.voucher.channel = buyer.id();
    let mut other_channel = good();
    other_channel.voucher = stranger.voucher(input() + STEP);
    let empty = stranger.request(selling.model, input() + STEP);
    let beyond = buyer.request(selling.model, 10_001);
    let mut short_delay = good();
    short_delay.channel.withdraw_delay_s = 899;
    let mut dear = good();
    dear.rates = Rates {
        output_per_million: Amount::new(1),
        ..RATES
    };
    let mut unknown = good();
    unknown.model = market::ModelId(market::B256::ZERO);
    let mut malformed = good();
    malformed.body = "{}".into();

    for (name, infer, reason) in [
        ("a voucher that does not reach", low, Reason::Payment),
        ("a forged voucher", forged, Reason::Payment),
        (
            "a voucher of another channel",
            other_channel,
            Reason::Payment,
        ),
        ("a channel without money", empty, Reason::Payment),
        ("a voucher beyond the escrow", beyond, Reason::Payment),
        ("a delay that is too short", short_delay, Reason::Payment),
        ("rates that are not on offer", dear, Reason::Quote),
        ("a model that is not on offer", unknown, Reason::Model),
        ("a body that is no request", malformed, Reason::Request),
    ] {
        let refusal = buyer.send(&selling.to, infer).await.refused().await;
        assert_eq!(refusal.reason, reason, "{name}: {}", refusal.message);
    }
    assert_eq!(backend.started(), 0);
    assert_eq!(selling.provider.status().counted.begun, 0);
}

#[tokio::test]
async fn a_request_id_is_good_for_one_answer() {
    let world = World::new();
    let (selling, backend) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    let infer = buyer.request(selling.model, input() + 9 * STEP);
    buyer
        .send(&selling.to, infer.clone())
        .await
        .reads_on(None)
        .await;
    let refusal = buyer.send(&selling.to, infer).await.refused().await;
    assert_eq!(refusal.reason, Reason::Protocol);
    assert_eq!(backend.started(), 1);
}

#[tokio::test]
async fn an_old_voucher_in_other_hands_buys_nothing() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    let infer = buyer.request(selling.model, input() + 9 * STEP);
    let public = infer.clone();
    buyer.send(&selling.to, infer).await.reads_on(None).await;

    // Claims are on chain: whoever reads them has channel, voucher and signature.
    let thief = world.buyer(0).await;
    let mut stolen = thief.request(selling.model, 0);
    (stolen.channel, stolen.voucher) = (public.channel, public.voucher);
    let refusal = thief.send(&selling.to, stolen).await.refused().await;
    assert_eq!(refusal.reason, Reason::Payment);
}

#[tokio::test]
async fn a_full_house_refuses_at_once_and_says_when_to_come_again() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(one_then_silence()));
    let selling = world
        .sells(Arc::clone(&backend), |config| {
            (config.offers[0].slots, config.offers[0].queue) = (1, 1);
        })
        .await;
    let buyer = world.buyer(10_000).await;
    let price = input() + STEP;
    let mut first = buyer.asks(&selling, price).await;
    first.begins().await;
    let mut second = buyer.asks(&selling, 2 * price).await;
    until("the second waits", || {
        selling.provider.status().offers[0].queued == 1
    })
    .await;
    let refusal = buyer.asks(&selling, 3 * price).await.refused().await;
    assert_eq!(refusal.reason, Reason::Busy);
    assert!(refusal.retry_after_ms.is_some());

    drop(first);
    second.begins().await;
    assert_eq!(selling.provider.status().offers[0].queued, 0);
}

#[tokio::test]
async fn when_the_consumer_is_gone_the_backend_is_dropped_at_once() {
    let world = World::new();
    let (selling, backend) = world.sells_script(one_then_silence()).await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    assert_eq!(talk.chunk().await, "first ");
    assert_eq!(backend.running(), 1);
    drop(talk);
    let left = Instant::now();
    until("the backend is dropped", || backend.running() == 0).await;
    assert!(left.elapsed() < DROPPED_WITHIN, "{:?}", left.elapsed());

    // The receipt is in the journal for when it asks.
    until("the answer is booked", || {
        selling.provider.status().money[0].earned > Amount::ZERO
    })
    .await;
    let (receipts, running) = buyer.receipts(&selling.to, 0).await.unwrap();
    assert_eq!(running, 0);
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].receipt.outcome, Outcome::Cancelled);
    assert_eq!(receipts[0].receipt.output_tokens, 1);
    receipts[0].verify(selling.to.addr.id).unwrap();
}

#[tokio::test]
async fn who_says_that_it_leaves_gets_its_receipt() {
    let world = World::new();
    let (selling, backend) = world.sells_script(one_then_silence()).await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    talk.chunk().await;
    talk.stream.send.send(&FromConsumer::Leave).await.unwrap();
    let left = Instant::now();
    let whole = talk.reads_on(None).await;
    assert_eq!(whole.receipt.receipt.outcome, Outcome::Cancelled);
    assert_eq!(whole.failure, None);
    assert_eq!(backend.running(), 0);
    assert!(
        left.elapsed() < Duration::from_secs(1),
        "{:?}",
        left.elapsed()
    );
}

/// Who leaves before anybody counted pays for what requests like its own had,
/// and no more than it signed for.
#[tokio::test]
async fn who_leaves_uncounted_pays_what_requests_like_it_had() {
    let leaves_after = async |answers: u32| {
        let world = World::new();
        let script = Script::tokens(3, Duration::from_millis(150));
        let (selling, _) = world.sells_script(script).await;
        let buyer = world.buyer(10_000).await;
        let mut charged = 0;
        for _ in 0..answers {
            let talk = buyer.asks(&selling, charged + input() + STEP).await;
            let whole = talk.reads_on(Some(charged)).await.receipt.receipt;
            assert_eq!(whole.input_tokens, 7);
            charged = whole.charged_total.base_units();
        }
        let mut talk = buyer.asks(&selling, charged + input() + STEP).await;
        talk.begins().await;
        talk.chunk().await;
        talk.stream.send.send(&FromConsumer::Leave).await.unwrap();
        let left = talk.reads_on(None).await.receipt.receipt;
        assert_eq!(left.outcome, Outcome::Cancelled);
        left.input_tokens
    };
    let bytes = u32::try_from(BODY.len()).unwrap();
    assert_eq!(leaves_after(0).await, bytes / 16);
    assert_eq!(leaves_after(1).await, 7);
}

#[tokio::test]
async fn who_leaves_the_queue_owes_nothing() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(one_then_silence()));
    let selling = world
        .sells(Arc::clone(&backend), |config| config.offers[0].slots = 1)
        .await;
    let buyer = world.buyer(10_000).await;
    let price = input() + STEP;
    let mut first = buyer.asks(&selling, price).await;
    first.begins().await;
    let second = buyer.asks(&selling, 2 * price).await;
    until("the second waits", || {
        selling.provider.status().offers[0].queued == 1
    })
    .await;
    drop(second);
    until("the second left", || {
        selling.provider.status().offers[0].queued == 0
    })
    .await;
    assert_eq!(backend.started(), 1);
    let (receipts, running) = buyer.receipts(&selling.to, 0).await.unwrap();
    assert_eq!((receipts.len(), running), (0, 1));
}

#[tokio::test]
async fn receipts_are_for_those_who_used_the_channel() {
    let world = World::new();
    let (selling, _) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    assert_eq!(buyer.receipts(&selling.to, 0).await.unwrap().0.len(), 0);
    for n in 0..3 {
        buyer
            .asks(&selling, 10 * n + input() + STEP)
            .await
            .reads_on(None)
            .await;
    }
    let sequences = |receipts: Vec<market::SignedReceipt>| -> Vec<_> {
        receipts
            .iter()
            .map(|signed| signed.receipt.sequence)
            .collect()
    };
    let (all, _) = buyer.receipts(&selling.to, 0).await.unwrap();
    assert_eq!(sequences(all), [1, 2, 3]);
    let (last, _) = buyer.receipts(&selling.to, 2).await.unwrap();
    assert_eq!(sequences(last), [3]);

    let mut curious = world.buyer(0).await;
    curious.channel = buyer.channel;
    let refusal = curious.receipts(&selling.to, 0).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Payment);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_billed_as_far_as_it_came() {
    for (lines, billed, failure) in [
        (vec![Line::Break], (0, 0), true),
        (vec![Line::Say("a".into()), Line::Break], (0, 1), true),
        (
            vec![Line::Say("a".into()), Line::Raw("{]".into())],
            (0, 1),
            true,
        ),
        (
            vec![
                Line::Say("a".into()),
                Line::Raw(r#"{"error":{"message":"out of memory"}}"#.into()),
            ],
            (0, 1),
            true,
        ),
        (
            vec![Line::Say("a".into()), usage(7, 1), Line::Break],
            (7, 1),
            true,
        ),
        (vec![Line::Say("abc".into()), usage(3, 900)], (3, 3), false),
        (
            vec![Line::Say("abc".into()), usage(100_000, 1)],
            (input_ceiling(), 1),
            false,
        ),
    ] {
        let world = World::new();
        let script = Script {
            lines: lines.clone(),
            ..Script::default()
        };
        let (selling, _) = world.sells_script(script).await;
        let buyer = world.buyer(10_000).await;
        let whole = buyer
            .asks(&selling, input() + STEP)
            .await
            .reads_on(None)
            .await;
        let receipt = whole.receipt.receipt;
        assert_eq!(whole.failure.is_some(), failure, "{lines:?}");
        let expected = if failure {
            Outcome::Failed
        } else {
            Outcome::Complete
        };
        assert_eq!(receipt.outcome, expected, "{lines:?}");
        let got = (u128::from(receipt.input_tokens), receipt.output_tokens);
        assert_eq!(got, billed, "{lines:?}");
    }
}

fn usage(prompt_tokens: u32, completion_tokens: u32) -> Line {
    Line::Usage {
        prompt_tokens,
        completion_tokens,
    }
}

#[tokio::test]
async fn a_deposit_within_an_answer_carries_it_on() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(Script::tokens(100, Duration::ZERO)));
    let selling = world
        .sells(backend, |config| {
            config.pay_within = Duration::from_secs(10)
        })
        .await;
    let buyer = world.buyer(input() + STEP).await;
    let talk = buyer.asks(&selling, input() + STEP).await;
    buyer.deposit(1000).await;
    let whole = talk.reads_on(Some(0)).await;
    assert_eq!(whole.failure, None);
    assert_eq!(whole.receipt.receipt.output_tokens, 100);
}

#[tokio::test]
async fn a_stopping_provider_lets_answers_end_and_takes_no_new_ones() {
    let world = World::new();
    let (selling, _) = world
        .sells_script(Script::tokens(30, Duration::from_millis(5)))
        .await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    let to = selling.to.clone();
    let late = buyer.request(selling.model, 2 * (input() + STEP));
    let stopping = selling.provider.stop();
    let (_, whole, refusal) = tokio::join!(stopping, talk.reads_on(Some(0)), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        buyer.send(&to, late).await.refused().await
    });
    assert_eq!(whole.failure, None);
    assert_eq!(whole.chunks, 30);
    assert_eq!(refusal.reason, Reason::Unavailable);
}

#[tokio::test]
async fn a_provider_that_cannot_wait_says_so_and_receipts_what_was_delivered() {
    let world = World::new();
    let backend = Arc::new(ScriptedBackend::new(one_then_silence()));
    let selling = world
        .sells(backend, |config| config.stop_within = Duration::ZERO)
        .await;
    let buyer = world.buyer(10_000).await;
    let mut talk = buyer.asks(&selling, input() + STEP).await;
    talk.begins().await;
    talk.chunk().await;
    let (_, whole) = tokio::join!(selling.provider.stop(), talk.reads_on(None));
    assert_eq!(whole.failure.unwrap().kind, FailureKind::Stopping);
    assert_eq!(whole.receipt.receipt.output_tokens, 1);
}

#[tokio::test]
async fn what_is_not_sealed_gets_no_answer() {
    let world = World::new();
    let (selling, backend) = world.sells_script(Script::tokens(3, Duration::ZERO)).await;
    let buyer = world.buyer(10_000).await;
    let infer = Box::new(buyer.request(selling.model, input() + 9 * STEP));
    let hello = Hello::Describe { known: None };

    let mut plain = buyer.node.open(&selling.to.addr).await.unwrap();
    plain.send.send(&Ask::Infer(infer.clone())).await.unwrap();
    let mut other = buyer.node.open(&selling.to.addr).await.unwrap();
    other.send.send(&hello).await.unwrap();
    let mut bare = buyer.node.open(&selling.to.addr).await.unwrap();
    bare.send
        .send(&Hello::Sealed { token: None })
        .await
        .unwrap();
    bare.send.send(&Ask::Infer(infer)).await.unwrap();
    bare.send.finish().await.unwrap();

    for mut stream in [plain, other, bare] {
        let heard = tokio::time::timeout(PATIENCE, stream.receive.receive::<FromProvider>()).await;
        assert!(
            heard.unwrap().is_err(),
            "the stream is dropped without a word"
        );
    }
    assert_eq!(backend.started(), 0);
    assert_eq!(selling.provider.status().counted.unopened, 3);
}

/// A backend that ignores `max_tokens` is cut there, and billed no further.
#[tokio::test]
async fn an_answer_beyond_what_was_asked_for_is_cut_and_billed_to_its_limit() {
    const ASKED: u32 = 9;
    let world = World::new();
    let (selling, backend) = world
        .sells_script(Script::tokens(5_000, Duration::ZERO))
        .await;
    let buyer = world.buyer(100_000).await;
    let body = format!(
        r#"{{"model":"m","stream":true,"max_tokens":{ASKED},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    let mut infer = buyer.request(selling.model, 0);
    infer.voucher = buyer.voucher(body.len() as u128 + STEP);
    infer.body = body.into();
    let whole = buyer.send(&selling.to, infer).await.reads_on(Some(0)).await;
    assert_eq!(whole.failure, None);
    assert_eq!(whole.text, "token ".repeat(ASKED as usize));
    let receipt = whole.receipt.receipt;
    assert_eq!(
        (receipt.outcome, receipt.output_tokens),
        (Outcome::Complete, ASKED)
    );
    until("dropped", || backend.running() == 0).await;
}

/// What a server says of its refusal may hold a key; the consumer gets our words.
#[tokio::test]
async fn a_backends_words_do_not_reach_the_consumer() {
    let world = World::new();
    let error = r#"{"error":{"message":"upstream sk-SECRET at http://10.0.0.7 is out"}}"#;
    let script = Script {
        lines: vec![Line::Say("first ".into()), Line::Raw(error.into())],
        ..Script::default()
    };
    let (selling, _) = world.sells_script(script).await;
    let buyer = world.buyer(10_000).await;
    let talk = buyer.asks(&selling, input() + STEP).await;
    let failure = talk.reads_on(Some(0)).await.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Backend);
    assert_eq!(failure.message, "the backend reported an error");
}

#[tokio::test]
async fn it_is_told_whether_an_offer_goes_on_with_begun_answers() {
    let words = ["Water", " that", " runs", " down", " to", " the", " sea."];
    let outcome = async |continues: bool, probe: bool| {
        let world = World::new();
        let script = Script {
            lines: words.map(|word| Line::Say(word.to_owned())).into(),
            continues,
            ..Script::default()
        };
        let backend = Arc::new(ScriptedBackend::new(script));
        let selling = world
            .sells(backend, |config| config.offers[0].probe = probe)
            .await;
        let mut tried = selling.provider.tried();
        let known = tried.wait_for(|tried| !tried.is_empty()).await.unwrap();
        let tried = known.values().next().unwrap().clone();
        assert!(tried.card.is_some());
        tried.continues
    };
    assert_eq!(outcome(true, true).await, Continues::Yes);
    assert_eq!(outcome(false, true).await, Continues::No);
    assert_eq!(outcome(true, false).await, Continues::Untried);
}
