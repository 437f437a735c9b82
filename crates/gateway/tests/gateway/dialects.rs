//! Other dialects: translated on the way in and out, with the same headers,
//! conditions and limits, and errors in their own form.

use consumer::{Conditions, InferError};
use gateway::{ApiKey, Limits, Settings};
use serde_json::{Value, json};

use crate::scripted::{ROUTE, Town, USAGE, model};
use crate::wire::Wire;

const MESSAGE: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const GENERATE: &str = r#"{"model":"m","prompt":"hi"}"#;
const RESPONSE: &str = r#"{"model":"m","input":"hi"}"#;

/// Path, body that asks for one piece, how the answer's text is found, media type of a stream.
const DIALECTS: [(&str, &str, &str, &str); 5] = [
    (
        "/v1/messages",
        MESSAGE,
        "/content/0/text",
        "text/event-stream; charset=utf-8",
    ),
    (
        "/api/chat",
        CHAT,
        "/message/content",
        "application/x-ndjson",
    ),
    (
        "/api/generate",
        GENERATE,
        "/response",
        "application/x-ndjson",
    ),
    (
        "/v1/completions",
        GENERATE,
        "/choices/0/text",
        "text/event-stream; charset=utf-8",
    ),
    (
        "/v1/responses",
        RESPONSE,
        "/output/0/content/0/text",
        "text/event-stream; charset=utf-8",
    ),
];

/// The same request with this field.
fn with(body: &str, field: &str) -> String {
    format!("{},{field}}}", body.strip_suffix('}').unwrap())
}

async fn post(town: &Town, path: &str, headers: &str, body: &str) -> Wire {
    let mut wire = town.connect().await;
    let length = body.len();
    wire.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire
}

fn read(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {body}"))
}

#[tokio::test]
async fn every_dialect_is_answered_in_one_piece_with_labels_and_cost() {
    let town = Town::open().await;
    for (path, body, text, _) in DIALECTS {
        let hand = town.plan();
        hand.say("Hel").await;
        hand.say("lo").await;
        hand.chunk(USAGE).await;
        hand.end().await;
        let mut wire = post(&town, path, "", &with(body, r#""stream":false"#)).await;
        let head = wire.head().await;
        let whole = read(&wire.body(&head).await);
        assert_eq!(head.status, 200, "{path}: {whole}");
        assert_eq!(head.header("x-lethe-route"), ROUTE);
        assert_eq!(
            head.header("x-lethe-request"),
            format!("0x{}", "07".repeat(16))
        );
        assert!(head.header("x-lethe-labels").contains("network=oblivious"));
        assert_eq!(
            whole.pointer(text),
            Some(&json!("Hello")),
            "{path}: {whole}"
        );
        assert_eq!(whole["lethe"]["cost"], "11", "{path}: {whole}");
    }
    for asked in town.market.asked.lock().unwrap().iter() {
        assert_eq!(asked.model(), "m");
        assert!(
            asked
                .field("messages")
                .unwrap()
                .contains(r#""content":"hi""#)
        );
    }
}

#[tokio::test]
async fn every_dialect_is_streamed_as_it_comes() {
    let town = Town::open().await;
    for (path, body, _, media_type) in DIALECTS {
        let hand = town.plan();
        let mut wire = post(&town, path, "", &with(body, r#""stream":true"#)).await;
        hand.say("Hel").await;
        let head = wire.head().await;
        assert_eq!(head.header("content-type"), media_type);
        assert_eq!(head.header("x-lethe-route"), ROUTE);
        let first = wire.chunk().await.unwrap().unwrap();
        assert!(first.contains("Hel"), "{path}: {first}");
        // The chunk says no time, and nobody has counted yet.
        assert!(!first.contains("1970"), "{path}: {first}");
        if path == "/v1/messages" {
            let estimate = format!(
                r#""input_tokens":{}"#,
                32 + with(body, r#""stream":true"#).len() / 3
            );
            assert!(first.contains(&estimate), "{estimate}: {first}");
        }
        hand.end().await;
        let end = wire.body(&head).await;
        let last = match path {
            "/v1/messages" => "event: message_stop\n",
            "/v1/completions" => "data: [DONE]\n",
            "/v1/responses" => "event: response.completed\n",
            _ => r#""done":true"#,
        };
        assert!(
            end.contains(last) && end.contains("\"cost\":\"11\""),
            "{path}: {end}"
        );
    }
}

#[tokio::test]
async fn a_broken_stream_of_any_dialect_says_so_and_is_never_done() {
    let town = Town::open().await;
    let not_json = "{";
    for (path, body, _, _) in DIALECTS {
        for way in ["says so", "silent", "malformed"] {
            let hand = town.plan();
            hand.say("a").await;
            match way {
                "says so" => hand.break_off().await,
                "malformed" => hand.chunk(not_json).await,
                _ => {}
            }
            let mut wire = post(&town, path, "", &with(body, r#""stream":true"#)).await;
            if way == "malformed" {
                hand.dropped().await;
            }
            drop(hand);
            let (status, stream) = wire.answer().await;
            assert_eq!(status, 200);
            let last = match path {
                "/v1/messages" => "event: error\n",
                "/v1/completions" => "data: {\"error\":",
                "/v1/responses" => "event: response.failed\n",
                _ => "{\"error\":",
            };
            assert!(stream.contains(last), "{path} {way}: {stream}");
            for end in [
                "[DONE]",
                "message_stop",
                "response.completed",
                "\"done\":true",
            ] {
                assert!(!stream.contains(end), "{path} {way}: {stream}");
            }
        }
    }
}

#[tokio::test]
async fn errors_are_told_in_the_dialect_of_the_route() {
    let town = Town::open().await;
    let unknown = || InferError::UnknownModel {
        model: "m".into(),
        known: vec!["n".into()],
    };
    for (path, body, _, _) in DIALECTS {
        town.plan_failure(unknown());
        let (status, text) = post(&town, path, "", body).await.answer().await;
        let error = read(&text);
        assert_eq!(status, 404, "{path}: {text}");
        match path {
            "/v1/messages" => {
                assert_eq!(error["type"], "error");
                assert_eq!(error["error"]["type"], "not_found_error");
            }
            "/api/chat" | "/api/generate" => {
                let message = error["error"].as_str().unwrap();
                assert!(message.contains("GET /api/tags"), "{text}");
            }
            _ => assert_eq!(error["error"]["code"], "model_not_found"),
        }
    }
    town.plan_failure(InferError::Overloaded { running: 9 });
    let mut wire = post(&town, "/v1/messages", "X-Request-Id: mine\r\n", MESSAGE).await;
    let head = wire.head().await;
    let text = wire.body(&head).await;
    assert_eq!(
        (head.status, head.header("retry-after")),
        (529, "1"),
        "{text}"
    );
    assert_eq!(head.header("request-id"), "mine");
    assert_eq!(read(&text)["error"]["type"], "overloaded_error");
    let image = MESSAGE.replace(r#""hi""#, r#"[{"type":"image","source":{}}]"#);
    let (status, text) = post(&town, "/v1/messages", "", &image).await.answer().await;
    assert_eq!(status, 400, "{text}");
    assert!(
        text.contains("messages[0].content[0].type") && text.contains("image"),
        "{text}"
    );
}

#[tokio::test]
async fn keys_conditions_and_preferences_hold_in_every_dialect() {
    const KEY: &str = "0123456789abcdef";
    let key = ApiKey::new(KEY).unwrap();
    let settings = Settings {
        keys: vec![key.with_defaults(Conditions {
            demand: "network=oblivious".parse().unwrap(),
            ..Conditions::default()
        })],
        ..Settings::default()
    };
    let town = Town::with(settings).await;
    for (path, body, _, _) in DIALECTS {
        let (status, text) = post(&town, path, "", body).await.answer().await;
        assert_eq!(status, 401, "{path}: {text}");
        let headers = format!(
            "X-Api-Key: {KEY}\r\nAnthropic-Version: 2023-06-01\r\nX-Lethe-Demand: upstream=own-engine\r\n"
        );
        let hand = town.plan();
        hand.say("a").await;
        hand.end().await;
        let body = with(body, r#""provider":{"sort":"price"}"#);
        let (status, text) = post(&town, path, &headers, &body).await.answer().await;
        assert_eq!(status, 200, "{path}: {text}");
    }
    let both = "network=oblivious,upstream=own-engine".parse().unwrap();
    for conditions in town.market.conditions.lock().unwrap().iter() {
        assert_eq!(conditions.demand, both);
    }
    for asked in town.market.asked.lock().unwrap().iter() {
        assert_eq!(asked.field("provider"), Some(r#"{"sort":"price"}"#));
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_in_the_dialect() {
    let limits = Limits {
        body_bytes: 16,
        ..Limits::default()
    };
    let town = Town::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let (status, text) = post(&town, "/v1/messages", "", MESSAGE)
        .await
        .answer()
        .await;
    assert_eq!(
        (status, &read(&text)["error"]["type"]),
        (413, &json!("request_too_large"))
    );
    let (status, text) = post(&town, "/api/chat", "", CHAT).await.answer().await;
    assert_eq!(status, 413);
    assert!(read(&text)["error"].is_string(), "{text}");
}

#[tokio::test]
async fn tokens_are_estimated_as_the_first_voucher_would_cover_them() {
    let town = Town::open().await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let mut wire = post(&town, "/v1/messages/count_tokens", "", body).await;
    let (status, text) = wire.answer().await;
    assert_eq!(
        (status, &read(&text)["error"]["type"]),
        (404, &json!("not_found_error"))
    );
    *town.market.models.lock().unwrap() = vec![model("m", true)];
    let mut wire = post(&town, "/v1/messages/count_tokens", "", body).await;
    let (status, text) = wire.answer().await;
    // The chat request is as long as the body here; a third of it, and 32.
    assert_eq!(status, 200, "{text}");
    assert_eq!(read(&text), json!({ "input_tokens": body.len() / 3 + 32 }));
    assert!(town.market.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn models_are_shown_as_each_client_expects() {
    let town = Town::open().await;
    *town.market.models.lock().unwrap() = vec![model("m", true)];
    let (status, text) = town.get("/api/tags").await;
    assert_eq!(status, 200);
    assert_eq!(read(&text)["models"][0]["name"], "m");
    assert_eq!(
        read(&text)["models"][0]["modified_at"],
        "2023-11-14T22:13:20Z"
    );
    let (status, text) = town.get("/api/version").await;
    assert!(
        status == 200 && read(&text)["version"].is_string(),
        "{text}"
    );
    let (status, text) = post(&town, "/api/show", "", r#"{"model":"m:latest"}"#)
        .await
        .answer()
        .await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(read(&text)["model_info"]["lethe.context_length"], 4096);
    let (status, text) = post(&town, "/api/show", "", r#"{"model":"x"}"#)
        .await
        .answer()
        .await;
    assert!(status == 404 && read(&text)["error"].is_string(), "{text}");
    let (status, text) = post(&town, "/api/generate", "", r#"{"model":"m"}"#)
        .await
        .answer()
        .await;
    assert_eq!((status, &read(&text)["done_reason"]), (200, &json!("load")));
    let mut wire = town.connect().await;
    wire.send(
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAnthropic-Version: 2023-06-01\r\n\r\n",
    )
    .await;
    let (_, text) = wire.answer().await;
    assert_eq!(read(&text)["data"][0]["type"], "model");
    assert_eq!(read(&text)["last_id"], "m");
    let (_, text) = town.get("/v1/models").await;
    assert_eq!(read(&text)["object"], "list");
}
