//! Answers, streamed and whole, good and broken.

use std::time::Duration;

use consumer::{BudgetError, CardChoice, Coin, InferError, SessionError, Short, Shortage};
use gateway::{Limits, Settings};
use market::{Address, Amount, Card, Kind, LedgerError, Timestamp, UsdRate, UsdRates};
use openai::BadRequest;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::scripted::{ASK, ROUTE, STREAM, Town, USAGE, chunk, model};
use crate::wire::{code, request};

const ASK_USAGE: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;

fn event(json: &str) -> String {
    format!("data: {json}\n\n")
}

#[tokio::test]
async fn a_stream_is_forwarded_as_it_comes() {
    let town = Town::open().await;
    let hand = town.plan();
    let mut wire = town.ask(STREAM).await;
    hand.say("Hel").await;
    let head = wire.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(
        head.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(
        head.header("x-lethe-request"),
        format!("0x{}", "07".repeat(16))
    );
    assert_eq!(
        head.header("x-lethe-provider").to_lowercase(),
        format!("0x{}", "08".repeat(20))
    );
    assert_eq!(head.header("x-lethe-route"), ROUTE);
    assert!(head.header("x-request-id").starts_with("req_"));
    // The first chunk is here while the second is not even made.
    assert_eq!(wire.chunk().await, Ok(Some(event(&chunk("Hel")))));
    hand.say("lo").await;
    assert_eq!(wire.chunk().await, Ok(Some(event(&chunk("lo")))));
    hand.end().await;
    let end = wire.chunk().await.unwrap().unwrap();
    let (receipt, done) = end.split_once("\n\n").unwrap();
    let receipt: Value = serde_json::from_str(receipt.strip_prefix(": lethe ").unwrap()).unwrap();
    assert_eq!(receipt["cost"], "11");
    assert_eq!(receipt["provider"], format!("0x{}", "08".repeat(20)));
    assert_eq!(done, "data: [DONE]\n\n");
    assert_eq!(wire.chunk().await, Ok(None));
}

#[tokio::test]
async fn what_is_ready_goes_out_in_one_write() {
    let town = Town::open().await;
    let hand = town.plan();
    for text in ["a", "b", "c"] {
        hand.say(text).await;
    }
    let mut wire = town.ask(STREAM).await;
    wire.head().await;
    let all = ["a", "b", "c"].map(|text| event(&chunk(text))).concat();
    assert_eq!(wire.chunk().await, Ok(Some(all)));
}

#[tokio::test]
async fn usage_is_for_those_who_ask() {
    let town = Town::open().await;
    for (ask, wanted) in [(STREAM, false), (ASK_USAGE, true)] {
        let hand = town.plan();
        hand.say("a \\\"usage\\\" b \"usage\"").await;
        hand.chunk(r#"{"choices":[{"delta":{"content":"c"}}],"usage":null}"#)
            .await;
        hand.chunk(r#"{"choices":[{"delta":{"content":"d"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#).await;
        hand.chunk(USAGE).await;
        hand.end().await;
        let (_, body) = town.ask(ask).await.answer().await;
        assert_eq!(body.contains(USAGE), wanted, "{body}");
        assert_eq!(
            body.matches("data: {").count(),
            3 + usize::from(wanted),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_chunk_cannot_break_out_of_its_event() {
    let town = Town::open().await;
    let hand = town.plan();
    hand.chunk("{\"a\":1,\n\ndata: [DONE]\n\n\"b\":2}").await;
    hand.end().await;
    let (_, body) = town.ask(STREAM).await.answer().await;
    assert!(
        body.starts_with("data: {\"a\":1,  data: [DONE]  \"b\":2}\n\n"),
        "{body}"
    );
}

#[tokio::test]
async fn a_broken_stream_says_so_and_is_never_done() {
    let town = Town::open().await;
    for silently in [false, true] {
        let hand = town.plan();
        hand.say("a").await;
        if !silently {
            hand.break_off().await;
        }
        drop(hand);
        let (status, body) = town.ask(STREAM).await.answer().await;
        assert_eq!(status, 200);
        let last = body.trim_end().rsplit("\n\n").next().unwrap();
        assert_eq!(code(last.strip_prefix("data: ").unwrap()), "answer_broken");
        assert!(!body.contains("[DONE]"), "{body}");
    }
}

#[tokio::test]
async fn what_fails_before_the_first_chunk_has_a_status() {
    let town = Town::open().await;
    let model = || "m".to_owned();
    let wait = Duration::from_millis(2500);
    let bad = BadRequest {
        field: "messages[0].role".into(),
        problem: "no".into(),
    };
    let cases = [
        (InferError::BadRequest(bad), 400, "invalid_request", ""),
        (
            InferError::Ambiguous {
                model: model(),
                choices: vec![CardChoice {
                    model: "m@0011aaff".into(),
                    card: Card::read(r#"{"repo":"a/m"}"#).unwrap(),
                    providers: vec![Address::ZERO],
                }],
            },
            400,
            "model_ambiguous",
            "",
        ),
        (
            InferError::UnknownModel {
                model: model(),
                known: vec!["n".into()],
            },
            404,
            "model_not_found",
            "",
        ),
        (
            InferError::OtherKind {
                model: model(),
                is: Kind::Embeddings,
                asked: Kind::Chat,
            },
            400,
            "model_kind",
            "",
        ),
        (
            InferError::NobodyThere {
                model: model(),
                shortage: None,
            },
            503,
            "no_provider",
            "1",
        ),
        (
            InferError::Busy {
                model: model(),
                retry_after: wait,
            },
            503,
            "providers_busy",
            "3",
        ),
        (
            InferError::TooLong {
                model: "m".into(),
                asked: 1024,
                most: 512,
            },
            400,
            "answer_too_long",
            "",
        ),
        (
            InferError::Refused {
                message: "too long".into(),
            },
            400,
            "model_refused",
            "",
        ),
        (unpaid(), 402, "payment_failed", ""),
        (without_chain(), 503, "chain_unreachable", "1"),
        (without_disk(), 503, "journal_failed", "1"),
        (
            InferError::Provider {
                provider: Address::ZERO,
                message: "x".into(),
            },
            502,
            "provider_failed",
            "",
        ),
        (
            InferError::Path {
                provider: Address::ZERO,
                problem: "x".into(),
            },
            502,
            "path_failed",
            "1",
        ),
        (
            InferError::Demand {
                model: "m".into(),
                demanded: "payer=pseudonym",
                offered: "payer=wallet",
            },
            412,
            "demand_not_met",
            "",
        ),
        (
            InferError::NobodyFits {
                model: "m".into(),
                reasons: "0xaa: it is busy".into(),
                is_wished: true,
            },
            412,
            "preferences_not_met",
            "",
        ),
        (short(95, 0), 402, "budget_spent", "7200"),
        (short(0, 95), 429, "budget_held", "1"),
        // On no day would it fit.
        (shut(), 402, "budget_spent", ""),
        (
            BudgetError::Unlimited {
                provider: Address::ZERO,
            }
            .into(),
            400,
            "budget_unlimited",
            "",
        ),
        (
            BudgetError::Token {
                model: None,
                provider: Address::ZERO,
                token: "USDC".into(),
            }
            .into(),
            402,
            "budget_token",
            "",
        ),
        (
            BudgetError::NoRate {
                provider: Address::ZERO,
                token: "USDC".into(),
            }
            .into(),
            402,
            "budget_rate",
            "",
        ),
        (
            InferError::Overloaded { running: 9 },
            503,
            "overloaded",
            "1",
        ),
        (InferError::Stopping, 503, "stopping", "1"),
    ];
    for (error, status, word, retry_after) in cases {
        for ask in [STREAM, ASK] {
            town.plan_failure(again(&error));
            let mut wire = town.ask(ask).await;
            let head = wire.head().await;
            assert_eq!(
                (head.status, head.header("retry-after")),
                (status, retry_after),
                "{error}"
            );
            assert_eq!(head.header("content-type"), "application/json");
            assert_eq!(head.header("x-lethe-route"), ROUTE, "{error}");
            assert_eq!(code(&wire.body(&head).await), word, "{error}");
        }
    }
}

/// A budget of 100 that a request of 10 does not fit into any more.
fn short(spent: u128, held: u128) -> InferError {
    let [budget, needed, spent, held] = [100, 10, spent, held].map(Amount::new);
    let short = Short {
        model: None,
        coin: Coin::Usd,
        budget,
        spent,
        held,
        needed,
        least: needed,
        resets_in_s: 7200,
    };
    BudgetError::Short(Box::new(short)).into()
}

/// A budget of nothing.
fn shut() -> InferError {
    let InferError::Budget(BudgetError::Short(short)) = short(0, 0) else {
        unreachable!("that is what it is");
    };
    let budget = Amount::ZERO;
    BudgetError::Short(Box::new(Short { budget, ..*short })).into()
}

fn unpaid() -> InferError {
    let [needed, allowed] = ["9 MOR", "5 MOR"].map(str::to_owned);
    let source = SessionError::OverLimit { needed, allowed };
    InferError::Payment {
        provider: Address::ZERO,
        source: Box::new(source),
    }
}

fn without_chain() -> InferError {
    let source = LedgerError::Unreachable("no answer from http://127.0.0.1:8545".into());
    InferError::ChainGone {
        provider: Address::ZERO,
        source: Box::new(source.into()),
    }
}

fn without_disk() -> InferError {
    let InferError::Payment { provider, source } = unpaid() else {
        unreachable!("that is what it is");
    };
    InferError::Journal { provider, source }
}

/// The same failure once more; it cannot be cloned.
fn again(error: &InferError) -> InferError {
    match error {
        InferError::BadRequest(bad) => InferError::BadRequest(bad.clone()),
        InferError::UnknownModel { model, known } => InferError::UnknownModel {
            model: model.clone(),
            known: known.clone(),
        },
        InferError::Ambiguous { model, choices } => InferError::Ambiguous {
            model: model.clone(),
            choices: choices.clone(),
        },
        InferError::OtherKind { model, is, asked } => InferError::OtherKind {
            model: model.clone(),
            is: *is,
            asked: *asked,
        },
        InferError::NobodyThere { model, shortage } => InferError::NobodyThere {
            model: model.clone(),
            shortage: *shortage,
        },
        InferError::Busy { model, retry_after } => InferError::Busy {
            model: model.clone(),
            retry_after: *retry_after,
        },
        InferError::TooLong { model, asked, most } => InferError::TooLong {
            model: model.clone(),
            asked: *asked,
            most: *most,
        },
        InferError::Refused { message } => InferError::Refused {
            message: message.clone(),
        },
        InferError::Provider { provider, message } => InferError::Provider {
            provider: *provider,
            message: message.clone(),
        },
        InferError::Path { provider, problem } => InferError::Path {
            provider: *provider,
            problem: problem.clone(),
        },
        InferError::Demand {
            model,
            demanded,
            offered,
        } => InferError::Demand {
            model: model.clone(),
            demanded,
            offered,
        },
        InferError::NobodyFits {
            model,
            reasons,
            is_wished,
        } => InferError::NobodyFits {
            model: model.clone(),
            reasons: reasons.clone(),
            is_wished: *is_wished,
        },
        InferError::Overloaded { running } => InferError::Overloaded { running: *running },
        InferError::Budget(error) => error.clone().into(),
        InferError::Payment { .. } => unpaid(),
        InferError::ChainGone { .. } => without_chain(),
        InferError::Journal { .. } => without_disk(),
        InferError::Stopping => InferError::Stopping,
    }
}

#[tokio::test]
async fn an_answer_that_breaks_at_once_has_a_status_too() {
    let town = Town::open().await;
    for ask in [STREAM, ASK] {
        let hand = town.plan();
        hand.break_off().await;
        let (status, body) = town.ask(ask).await.answer().await;
        assert_eq!((status, code(&body).as_str()), (502, "answer_broken"));
    }
}

#[tokio::test]
async fn a_whole_answer_is_put_together_with_its_receipt() {
    let town = Town::open().await;
    let hand = town.plan();
    hand.say("Hel").await;
    hand.say("lo").await;
    hand.chunk(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#)
        .await;
    hand.chunk(USAGE).await;
    hand.end().await;
    let mut wire = town.ask(ASK).await;
    let head = wire.head().await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, "application/json")
    );
    let body: Value = serde_json::from_str(&wire.body(&head).await).unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(
        body["choices"][0]["message"],
        json!({"role": "assistant", "content": "Hello"})
    );
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["total_tokens"], 5);
    assert_eq!(body["lethe"]["cost"], "11");
    assert_eq!(body["lethe"]["request"], format!("0x{}", "07".repeat(16)));
}

#[tokio::test]
async fn a_whole_answer_that_breaks_is_an_error() {
    let town = Town::open().await;
    let hand = town.plan();
    hand.say("a").await;
    hand.break_off().await;
    let (status, body) = town.ask(ASK).await.answer().await;
    assert_eq!((status, code(&body).as_str()), (502, "answer_broken"));

    let hand = town.plan();
    hand.chunk("{\"choices\":7}").await;
    let (status, body) = town.ask(ASK).await.answer().await;
    assert_eq!((status, code(&body).as_str()), (502, "provider_failed"));
    hand.dropped().await;
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive() {
    let limits = Limits {
        keep_alive: Duration::from_millis(20),
        ..Limits::default()
    };
    let town = Town::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let hand = town.plan();
    let mut wire = town.ask(STREAM).await;
    hand.say("a").await;
    wire.head().await;
    wire.chunk().await.unwrap();
    for _ in 0..3 {
        assert_eq!(wire.chunk().await, Ok(Some(": keep-alive\n\n".into())));
    }
    hand.say("b").await;
    loop {
        let chunk = wire.chunk().await.unwrap().unwrap();
        if chunk != ": keep-alive\n\n" {
            assert!(chunk.contains("\"b\""), "{chunk}");
            break;
        }
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_also_at_once() {
    let town = Town::open().await;
    let mut wire = town.connect().await;
    for text in ["a", "b"] {
        let hand = town.plan();
        hand.say(text).await;
        hand.end().await;
        wire.post(ASK).await;
        let (status, body) = wire.answer().await;
        assert_eq!(status, 200);
        assert!(body.contains(&format!("\"content\":\"{text}\"")), "{body}");
    }
    for text in ["c", "d", "e"] {
        let hand = town.plan();
        hand.say(text).await;
        hand.end().await;
    }
    wire.send(&request(STREAM).repeat(3)).await;
    for text in ["c", "d", "e"] {
        let (status, body) = wire.answer().await;
        assert_eq!(status, 200);
        assert!(body.starts_with(&event(&chunk(text))), "{body}");
        assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    }
}

#[tokio::test]
async fn a_bad_request_names_its_field_and_asks_nobody() {
    let town = Town::open().await;
    for (body, param) in [
        (
            r#"{"model":"m","messages":[{"role":"you","content":"hi"}]}"#,
            Some("messages[0].role"),
        ),
        (r#"{"model":"m"}"#, Some("messages")),
        ("hello", None),
        ("", None),
    ] {
        let (status, answer) = town.ask(body).await.answer().await;
        assert_eq!(status, 400, "{body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["param"].as_str(), param, "{answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    assert!(town.market.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_long_conversation_is_read_too() {
    let town = Town::open().await;
    let hand = town.plan();
    hand.say("a").await;
    hand.end().await;
    let long = "x".repeat(1_000_000);
    let (status, _) = town.ask(&ASK.replace("hi", &long)).await.answer().await;
    assert_eq!(status, 200);
    assert!(town.market.asked.lock().unwrap()[0].body().len() > long.len());
    let (status, body) = town.ask(&ASK.replace("user", &long)).await.answer().await;
    assert_eq!((status, code(&body).as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn models_are_listed_with_what_a_buyer_wants_to_know() {
    let town = Town::open().await;
    assert_eq!(
        town.get("/v1/models").await,
        (200, r#"{"object":"list","data":[]}"#.into())
    );
    *town.market.models.lock().unwrap() = vec![model("meta/llama", true), model("dead", false)];
    let (_, body) = town.get("/v1/models").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        list["data"][0],
        json!({
            "id": "meta/llama", "object": "model", "created": 1_700_000_000, "owned_by": "lethe",
            "kind": "chat", "live": true, "providers": 1, "context_length": 4096, "max_output_tokens": 512,
            "labels": { "network": "oblivious", "payer": "wallet", "upstream": "own-engine" },
            "pricing": {
                "token": format!("0x{}", "09".repeat(20)),
                "input_per_million": "5", "output_per_million": "6",
            },
        })
    );
    assert_eq!(list["data"][1]["live"], false);
    for path in ["/v1/models/meta/llama", "/v1/models/meta%2Fllama"] {
        let (status, body) = town.get(path).await;
        assert_eq!(
            (status, serde_json::from_str::<Value>(&body).unwrap()),
            (200, list["data"][0].clone())
        );
    }
    let (status, body) = town.get("/v1/models/no/such").await;
    assert_eq!((status, code(&body).as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn a_price_is_told_in_dollars_where_somebody_says_what_its_token_is_worth() {
    let rate = |token| UsdRate {
        token: Address::repeat_byte(token),
        decimals: 6,
        micro_usd: 2_000_000,
        source: "a test".into(),
        at: (token == 9).then_some(Timestamp(7)),
    };
    for (token, told) in [
        (
            9,
            json!({ "input_per_million": "10", "output_per_million": "12", "source": "a test", "at": 7 }),
        ),
        (8, Value::Null),
    ] {
        let town = Town::with(Settings {
            usd: Some(watch::channel(UsdRates::new(vec![rate(token)])).1),
            ..Settings::default()
        })
        .await;
        *town.market.models.lock().unwrap() = vec![model("m", true)];
        let (_, body) = town.get("/v1/models").await;
        let list: Value = serde_json::from_str(&body).unwrap();
        let pricing = &list["data"][0]["pricing"];
        assert_eq!(pricing["micro_usd"], told);
        assert_eq!(pricing["input_per_million"], "5");
    }
}

#[tokio::test]
async fn each_card_of_a_name_is_listed_and_the_bare_name_means_several() {
    let town = Town::open().await;
    let mut models = Vec::new();
    for quantization in ["Q8_0", "Q4_K"] {
        let text = json!({ "repo": "meta/llama", "quantization": quantization });
        let card = Card::read(&text.to_string()).unwrap();
        let id = card.id();
        let mut model = model(&format!("meta/llama@{}", id.prefix()), true);
        model.look_alike_of = vec!["meta/LLaMA".into()];
        model.offers[0].card = Some(id);
        model.offers[0].parameters = vec!["top_p".into()];
        let mut without = model.offers[0].clone();
        without.card = None;
        model.offers.push(without);
        model.card = Some(card);
        models.push(model);
    }
    let ids = [0, 1].map(|at: usize| models[at].card.as_ref().unwrap().id());
    *town.market.models.lock().unwrap() = models;

    let (_, body) = town.get("/v1/models").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    let first = &list["data"][0];
    assert_eq!(first["id"], format!("meta/llama@{}", ids[0].prefix()));
    assert_eq!(first["card_id"], ids[0].to_string());
    assert_eq!(
        first["card"],
        json!({ "repo": "meta/llama", "quantization": "Q8_0" })
    );
    assert_eq!(first["quantization"], "Q8_0");
    assert_eq!(
        (&first["providers"], &first["providers_without_card"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(first["supported_parameters"], json!(["top_p"]));
    assert_eq!(first["look_alike_of"], json!(["meta/LLaMA"]));

    let (status, body) = town.get("/v1/models/meta/llama").await;
    assert_eq!((status, code(&body).as_str()), (400, "model_ambiguous"));
    for id in ids {
        assert!(
            body.contains(&format!("meta/llama@{}", id.prefix())),
            "{body}"
        );
    }
    let (status, body) = town.get(&format!("/v1/models/meta/llama@{}", ids[1])).await;
    let one: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &one), (200, &list["data"][1]));
    let (status, _) = town.get("/v1/models/meta/llama@00000000").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn readiness_says_why_not() {
    let town = Town::open().await;
    assert_eq!(town.get("/healthz").await.0, 200);
    let (status, body) = town.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("no model"), "{body}");
    *town.market.models.lock().unwrap() = vec![model("m", false)];
    let (status, body) = town.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("its descriptor is stale"), "{body}");
    town.market.models.lock().unwrap().push(model("n", true));
    assert_eq!(town.get("/readyz").await.0, 200);
    for (reached, is_ready) in [(1, true), (0, false)] {
        *town.market.shortage.lock().unwrap() = Some(Shortage {
            reached,
            needed: 2,
            registered: 2,
        });
        let (status, body) = town.get("/readyz").await;
        assert_eq!(status == 200, is_ready, "{body}");
        assert!(
            body.contains(&format!("{reached} of the 2 relays")),
            "{body}"
        );
    }
}

#[tokio::test]
async fn everything_is_counted() {
    let town = Town::open().await;
    for good in [true, false] {
        let hand = town.plan();
        hand.say("a").await;
        if good {
            hand.end().await;
        } else {
            hand.break_off().await;
        }
        town.ask(STREAM).await.answer().await;
    }
    town.ask("{}").await.answer().await;
    let (_, page) = town.get("/metrics").await;
    let token = format!("0x{}", "09".repeat(20));
    let of = |name: &str, more: &str, figure: u32| {
        let usual = "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"lethe\",gen_ai_request_model=\"m\"";
        format!("{name}{{{usual}{more}}} {figure}")
    };
    for line in [
        "lethe_gateway_requests_total{route=\"chat\",status=\"200\"} 2",
        "lethe_gateway_requests_total{route=\"chat\",status=\"400\"} 1",
        "lethe_gateway_answers_total{ending=\"complete\"} 1",
        "lethe_gateway_answers_total{ending=\"broken\"} 1",
        "lethe_gateway_running_answers 0",
        &of(
            "gen_ai_client_token_usage_sum",
            ",gen_ai_token_type=\"input\"",
            3,
        ),
        &of(
            "gen_ai_client_token_usage_sum",
            ",gen_ai_token_type=\"output\"",
            2,
        ),
        &of("gen_ai_client_operation_duration_seconds_count", "", 1),
        &of(
            "gen_ai_client_operation_duration_seconds_count",
            ",error_type=\"broken\"",
            1,
        ),
        &of("gen_ai_server_time_to_first_token_seconds_count", "", 2),
        &of("gen_ai_server_time_per_output_token_seconds_count", "", 1),
        &format!("lethe_gateway_cost_base_units_total{{token=\"{token}\"}} 11"),
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "{line} is not in\n{page}"
        );
    }
}

/// Words of the query language itself.
const OF_THE_LANGUAGE: [&str; 5] = ["sum", "by", "rate", "histogram_quantile", "__rate_interval"];

/// What a query asks for: all its words but values and those of the language.
fn asked_for(query: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // Every second piece is a value in quotes.
    let pieces = query.split('"').step_by(2);
    let words = pieces.flat_map(|piece| piece.split(move |c| !is_word(c)));
    let words = words.filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()));
    words
        .filter(|word| !OF_THE_LANGUAGE.contains(word))
        .collect()
}

#[tokio::test]
async fn the_dashboard_asks_only_for_what_there_is() {
    let town = Town::open().await;
    for good in [true, false] {
        let hand = town.plan();
        hand.say("a").await;
        if good {
            hand.end().await;
        } else {
            hand.break_off().await;
        }
        town.ask(STREAM).await.answer().await;
    }
    let (_, page) = town.get("/metrics").await;
    let is_metric = |word: &&str| {
        let mut rests = page.lines().filter_map(|line| line.strip_prefix(word));
        rests.any(|rest| rest.starts_with(['{', ' ']))
    };
    let is_label = |word: &str| page.contains(&format!("{word}=\""));
    let text = include_str!("../../../../docs/operate/grafana.json");
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    for target in targets {
        let query = target["expr"].as_str().unwrap();
        let words = asked_for(query);
        assert!(words.iter().any(is_metric), "no metric in {query}");
        for word in words {
            assert!(
                is_metric(&word) || is_label(word),
                "no {word} for {query} in\n{page}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_proved_is_told_and_what_is_demanded_is_passed_on() {
    let town = Town::open().await;
    let hand = town.plan();
    let mut wire = town.connect().await;
    wire.post_with(
        STREAM,
        "x-lethe-demand: network=oblivious\r\nX-Lethe-Demand: upstream=own-engine\r\n",
    )
    .await;
    hand.say("a").await;
    hand.end().await;
    let head = wire.head().await;
    assert_eq!(
        head.header("x-lethe-labels"),
        "network=oblivious,payer=wallet,upstream=own-engine"
    );
    let demand = "network=oblivious,upstream=own-engine".parse().unwrap();
    let asked = town.market.conditions.lock().unwrap().pop().unwrap();
    assert_eq!(asked.demand, demand);

    let mut wire = town.connect().await;
    wire.post_with(ASK, "x-lethe-demand: network=tor\r\n").await;
    let head = wire.head().await;
    assert_eq!(head.status, 400);
    let body = wire.body(&head).await;
    assert!(
        body.contains("network=tor") && body.contains("network=oblivious"),
        "{body}"
    );
}
