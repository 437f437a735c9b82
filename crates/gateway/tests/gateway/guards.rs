//! Who gets in: keys, names, pages; and what happens to those who talk nonsense.

use consumer::{Conditions, Failover, Pacing};
use gateway::{ApiKey, Settings};

use crate::scripted::{ASK, Town};
use crate::wire::code;

const KEY: &str = "lethe-0123456789";

fn with_key() -> Settings {
    Settings {
        keys: vec![ApiKey::new(KEY).unwrap()],
        ..Settings::default()
    }
}

async fn status(town: &Town, start: &str, headers: &str) -> (u16, String) {
    let mut wire = town.connect().await;
    wire.send(&format!("{start} HTTP/1.1\r\n{headers}\r\n"))
        .await;
    wire.answer().await
}

#[tokio::test]
async fn only_a_right_key_opens() {
    let town = Town::with(with_key()).await;
    for (header, open) in [
        (format!("Authorization: Bearer {KEY}\r\n"), true),
        (format!("authorization: bearer  {KEY}\r\n"), true),
        (format!("x-api-key: {KEY}\r\n"), true),
        (String::new(), false),
        (format!("Authorization: {KEY}\r\n"), false),
        (format!("Authorization: Basic {KEY}\r\n"), false),
        ("Authorization: Bearer\r\n".into(), false),
        ("Authorization: Bearer \r\n".into(), false),
        ("Authorization: \u{e9}\r\n".into(), false),
        (format!("Authorization: Bearer {KEY}x\r\n"), false),
        (format!("x-api-key: {}\r\n", &KEY[1..]), false),
    ] {
        for path in ["/v1/models", "/metrics"] {
            let (status, body) = status(
                &town,
                &format!("GET {path}"),
                &format!("Host: localhost\r\n{header}"),
            )
            .await;
            assert_eq!(status == 200, open, "{header:?} at {path}: {status} {body}");
            if !open {
                assert_eq!((status, code(&body).as_str()), (401, "invalid_api_key"));
                assert!(
                    body.contains("the file api-key of its data folder"),
                    "{body}"
                );
            }
        }
    }
    assert_eq!(town.get("/healthz").await.0, 200);
    assert_eq!(town.get("/readyz").await.0, 503);
    // A body is not even read for one without a key.
    let (status, _) = status(
        &town,
        "POST /v1/chat/completions",
        "Host: localhost\r\nContent-Length: 10\r\n",
    )
    .await;
    assert_eq!(status, 401);
}

/// What holds for a key holds for its requests, and its demand cannot be taken back.
#[tokio::test]
async fn each_key_brings_its_defaults() {
    const OTHER: &str = "lethe-fedcba9876";
    let defaults = Conditions {
        demand: "network=oblivious".parse().unwrap(),
        failover: Failover::Strict,
        pacing: Some(Pacing::Paced),
        ..Conditions::default()
    };
    let town = Town::with(Settings {
        keys: vec![
            ApiKey::new(OTHER).unwrap(),
            ApiKey::new(KEY).unwrap().with_defaults(defaults),
        ],
        ..Settings::default()
    })
    .await;
    let both = "network=oblivious,upstream=own-engine";
    for (key, said, demand, failover, pacing) in [
        (OTHER, "", "", Failover::Continue, None),
        (
            KEY,
            "",
            "network=oblivious",
            Failover::Strict,
            Some(Pacing::Paced),
        ),
        (
            KEY,
            "x-lethe-demand: network=direct,upstream=own-engine\r\nx-lethe-failover: continue\r\n",
            both,
            Failover::Continue,
            Some(Pacing::Paced),
        ),
    ] {
        let hand = town.plan();
        let mut wire = town.connect().await;
        let headers = format!("x-api-key: {key}\r\n{said}");
        wire.post_with(ASK, &headers).await;
        hand.say("a").await;
        hand.end().await;
        assert_eq!(wire.head().await.status, 200);
        let asked = town.market.conditions.lock().unwrap().pop().unwrap();
        assert_eq!(asked.demand, demand.parse().unwrap(), "{headers}");
        assert_eq!(
            (asked.failover, asked.pacing),
            (failover, pacing),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn only_a_known_name_is_answered() {
    let town = Town::with(Settings {
        hosts: vec!["node.example".into()],
        ..Settings::default()
    })
    .await;
    for (start, headers, expected) in [
        ("GET /healthz", "Host: localhost:1\r\n", 200),
        ("GET /healthz", "Host: 127.0.0.1\r\n", 200),
        ("GET /healthz", "Host: [::1]:80\r\n", 200),
        ("GET /healthz", "Host: NODE.example\r\n", 200),
        ("GET /healthz", "Host: evil.example\r\n", 403),
        ("GET /healthz", "Host: \r\n", 403),
        (
            "GET http://evil.example/healthz",
            "Host: localhost\r\n",
            403,
        ),
        ("GET http://localhost/healthz", "Host: localhost\r\n", 200),
        ("GET /healthz", "", 400),
        (
            "GET /healthz",
            "Host: localhost\r\nHost: localhost\r\n",
            400,
        ),
    ] {
        let (status, body) = status(&town, start, headers).await;
        assert_eq!(status, expected, "{start} {headers:?}: {body}");
    }
}

#[tokio::test]
async fn the_owners_routes_have_names_of_their_own_and_a_refusal_says_the_flag() {
    let town = Town::with(Settings {
        hosts: vec!["api.example".into()],
        owner_hosts: vec!["home.example".into()],
        ..Settings::default()
    })
    .await;
    for (path, host, flag) in [
        ("/healthz", "api.example:8082", None),
        ("/healthz", "home.example", None),
        ("/owner", "home.example", None),
        ("/owner", "localhost", None),
        (
            "/owner",
            "api.example:8082",
            Some("--allow-admin-host api.example"),
        ),
        (
            "/healthz",
            "evil.example:80",
            Some("--allow-host evil.example"),
        ),
        ("/owner", "evil.example", Some("--allow-host evil.example")),
    ] {
        let (status, body) =
            status(&town, &format!("GET {path}"), &format!("Host: {host}\r\n")).await;
        match flag {
            None => assert_eq!(status, 200, "{path} {host}: {body}"),
            Some(flag) => {
                assert_eq!(
                    (status, code(&body).as_str()),
                    (403, "unknown_host"),
                    "{body}"
                );
                assert!(body.contains(flag), "{path} {host}: {body}");
            }
        }
    }
}

#[tokio::test]
async fn only_known_pages_may_call() {
    let town = Town::with(Settings {
        origins: vec!["https://chat.example".into()],
        ..with_key()
    })
    .await;
    let mut wire = town.connect().await;
    for (origin, allowed) in [
        ("https://chat.example", true),
        ("http://localhost:3000", true),
        ("https://evil.example", false),
        ("null", false),
    ] {
        // A browser asks first, without the key.
        wire.send(&format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, x-stainless-os\r\n\r\n"
        ))
        .await;
        let head = wire.head().await;
        if allowed {
            assert_eq!(
                (head.status, head.header("access-control-allow-origin")),
                (204, origin)
            );
            assert_eq!(
                head.header("access-control-allow-headers"),
                "authorization, x-stainless-os"
            );
            assert!(head.header("access-control-allow-methods").contains("POST"));
        } else {
            assert_eq!(
                (head.status, head.header("access-control-allow-origin")),
                (403, "")
            );
            assert_eq!(code(&wire.body(&head).await), "unknown_origin");
        }
        // Errors must be readable for the page too.
        wire.send(&format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"
        ))
        .await;
        let head = wire.head().await;
        assert_eq!(head.status, if allowed { 401 } else { 403 });
        assert_eq!(
            head.header("access-control-allow-origin"),
            if allowed { origin } else { "" }
        );
        wire.body(&head).await;
    }
}

#[tokio::test]
async fn a_request_keeps_the_name_its_client_gave_it() {
    let town = Town::open().await;
    for (given, kept) in [
        ("my-id_1", true),
        ("with space", false),
        (&"x".repeat(129)[..], false),
    ] {
        let mut wire = town.connect().await;
        wire.send(&format!(
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {given}\r\n\r\n"
        ))
        .await;
        let head = wire.head().await;
        assert_eq!(head.header("x-request-id") == given, kept, "{given}");
        assert!(!head.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn wrong_doors_are_named() {
    let town = Town::open().await;
    let (status, body) = town.get("/v1/nonsense").await;
    assert_eq!((status, code(&body).as_str()), (404, "unknown_route"));
    for path in ["/v1/chat/completions", "/v1/messages", "GET /v1/models"] {
        assert!(body.contains(path), "{path}: {body}");
    }
    // In the words of the client that has the wrong base URL.
    let (status, body) = town.get("/v1/v1/messages").await;
    assert_eq!(status, 404);
    assert!(
        body.starts_with(r#"{"type":"error","error":{"type":"not_found_error","#),
        "{body}"
    );
    assert!(body.contains("ends without /v1"), "{body}");
    let (_, body) = town.get("/v1/api/chat").await;
    assert!(
        body.starts_with(r#"{"error":"no route"#) && body.contains("ends without /v1"),
        "{body}"
    );
    let mut wire = town.connect().await;
    wire.send("GET /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("allow")), (405, "POST"));
    let body = wire.body(&head).await;
    assert_eq!(code(&body), "wrong_method");
    assert!(body.contains("; allowed: POST\""), "{body}");
}

#[tokio::test]
async fn nonsense_is_refused_and_nothing_breaks() {
    let town = Town::open().await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(100_000)
    );
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let smuggled = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{ASK}"
    );
    let nonsense = [
        "\r\n\r\n\r\n",
        "hello\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n: x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}{",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        &long,
        &many,
        &smuggled,
    ];
    for text in nonsense {
        let mut wire = town.connect().await;
        wire.send(text).await;
        // Nothing more comes from us: what is unfinished stays so.
        tokio::io::AsyncWriteExt::shutdown(&mut wire.socket)
            .await
            .unwrap();
        if let Some(head) = wire.try_head().await {
            assert!(
                (400..500).contains(&head.status),
                "{:.60}: {}",
                text.escape_debug(),
                head.status
            );
        }
        wire.closed().await;
    }
    assert!(town.market.asked.lock().unwrap().is_empty());
    assert_eq!(town.get("/healthz").await.0, 200);
}
