//! What isn't a good request: wrong, broken, hostile or too much.

use alloy::primitives::{Address, U256};
use devchain::{BODY_BYTES_MAX, Options};
use serde_json::{Value, json};

use crate::client::{Draft, Served, genesis, key};

async fn served() -> Served {
    Served::new(
        &genesis(),
        Options {
            cheats: true,
            ..Options::default()
        },
    )
    .await
}

fn code(answer: &str) -> i64 {
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["jsonrpc"], "2.0");
    answer["error"]["code"]
        .as_i64()
        .unwrap_or_else(|| panic!("{answer} is no error"))
}

#[tokio::test]
async fn a_body_that_is_no_request_is_answered_with_an_error() {
    let served = served().await;
    for (body, expected) in [
        (String::new(), -32700),
        ("{\"jsonrpc\":\"2.0\"".to_owned(), -32700),
        ("null".to_owned(), -32600),
        ("\u{0}\u{1}".to_owned(), -32700),
        ("[]".to_owned(), -32600),
        (format!("[{}]", vec!["1"; 1_001].join(",")), -32600),
        (
            r#"{"id":1,"method":"eth_blockNumber","params":{"a":1}}"#.to_owned(),
            -32602,
        ),
        (
            format!(
                r#"{{"id":1,"method":"eth_call","params":{}{}}}"#,
                "[".repeat(50_000),
                "]".repeat(50_000)
            ),
            -32602,
        ),
        (
            format!(
                r#"{{"id":1,"method":"eth_getLogs","params":[{{"topics":{}{}}}]}}"#,
                "[".repeat(9_000),
                "]".repeat(9_000)
            ),
            -32602,
        ),
        (
            format!(r#"{{"id":1,"method":"{}"}}"#, "x".repeat(100_000)),
            -32601,
        ),
    ] {
        let shown = body.get(..60).unwrap_or(&body).to_owned();
        let (status, answer) = served.rpc.post(body).await;
        assert_eq!(
            (status, code(&answer)),
            (200, expected),
            "{shown}: {answer}"
        );
        assert!(
            answer.len() < 1_000,
            "{shown} is answered with {} bytes",
            answer.len()
        );
    }
    assert_eq!(
        served.rpc.quantity("eth_blockNumber", json!([])).await,
        U256::ZERO
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let served = served().await;
    let (status, answer) = served.rpc.post(vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert_eq!((status, code(&answer)), (413, -32600));
    assert!(answer.contains("larger than 5242880 bytes"), "{answer}");
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let served = served().await;
    for (method, params, message) in [
        (
            "eth_getBalance",
            json!([]),
            "missing value for required argument 0 (address)",
        ),
        (
            "eth_getBalance",
            json!(["0x12"]),
            "invalid argument 0 (address): ",
        ),
        (
            "eth_getBalance",
            json!([key(0).address(), "newest"]),
            "invalid argument 1 (block): ",
        ),
        ("eth_call", json!([7]), "invalid argument 0 (transaction): "),
        (
            "eth_call",
            json!([{"gasPrice": "0x1", "maxFeePerGas": "0x1"}]),
            "invalid argument 0 (transaction): both",
        ),
        (
            "eth_call",
            json!([{"input": "0x01", "data": "0x02"}]),
            "invalid argument 0 (transaction): ",
        ),
        (
            "eth_call",
            json!([{}, "latest", {}, {"number": "0x1"}]),
            "invalid argument 3 (block override): ",
        ),
        (
            "eth_getTransactionReceipt",
            json!(["0x1"]),
            "invalid argument 0 (transaction hash): ",
        ),
        (
            "eth_getStorageAt",
            json!([key(0).address()]),
            "missing value for required argument 1 (storage slot)",
        ),
        (
            "eth_sendRawTransaction",
            json!(["zz"]),
            "invalid argument 0 (signed transaction): ",
        ),
        (
            "eth_getLogs",
            json!(["all"]),
            "invalid argument 0 (filter): ",
        ),
        (
            "eth_feeHistory",
            json!(["0x1", "latest", [101]]),
            "invalid argument 2 (reward percentiles): each must",
        ),
        (
            "evm_increaseTime",
            json!(["soon"]),
            "invalid argument 0 (seconds): ",
        ),
        (
            "anvil_setCode",
            json!([key(0).address(), "0xef0100"]),
            "invalid argument 1 (code): ",
        ),
        ("evm_mine", json!([[1]]), "invalid argument 0 (timestamp): "),
    ] {
        let (code, got) = served.rpc.error(method, params).await;
        assert_eq!(code, -32602, "{method}: {got}");
        assert!(got.starts_with(message), "{method}: {got}");
    }
}

#[tokio::test]
async fn numbers_at_the_edge_do_not_break_it() {
    let served = served().await;
    let rpc = &served.rpc;
    let most = "0xffffffffffffffff";
    rpc.get("eth_feeHistory", json!([most, "latest", []])).await;
    assert_eq!(
        rpc.get("eth_feeHistory", json!(["0x0", "latest", null]))
            .await["oldestBlock"],
        "0x0"
    );
    assert_eq!(
        rpc.get("eth_getLogs", json!([{"fromBlock": most, "toBlock": most}]))
            .await,
        json!([])
    );
    assert_eq!(
        rpc.get("eth_getBlockByNumber", json!([most, true])).await,
        Value::Null
    );
    let hash = served.rpc.head().await;
    let place = json!([hash, most]);
    assert_eq!(
        rpc.get("eth_getTransactionByBlockHashAndIndex", place)
            .await,
        Value::Null
    );
    rpc.get("eth_call", json!([{"gas": most}])).await;
    rpc.error("eth_call", json!([{"nonce": most}])).await;
    let whole = format!("0x{}", "f".repeat(64));
    rpc.ask(
        "eth_call",
        json!([{"value": whole, "gasPrice": "0x1", "gas": most}]),
    )
    .await
    .unwrap_err();
    rpc.ask(
        "eth_estimateGas",
        json!([{"value": whole, "maxFeePerGas": "0x1"}]),
    )
    .await
    .unwrap_err();
    rpc.get("evm_increaseTime", json!([most])).await;
    rpc.get("evm_mine", json!([])).await;
    rpc.mined(&Draft::default(), &key(0)).await;
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_notifications_are_not() {
    let served = served().await;
    let (first, hash) = Draft::default().signed(&key(0));
    let (second, _) = Draft {
        nonce: 1,
        ..Draft::default()
    }
    .signed(&key(0));
    let batch = json!([
        {"jsonrpc": "2.0", "id": "a", "method": "eth_sendRawTransaction", "params": [first]},
        {"jsonrpc": "2.0", "method": "eth_sendRawTransaction", "params": [second]},
        7,
        {"jsonrpc": "2.0", "id": 3, "method": "eth_blockNumber"},
        {"jsonrpc": "2.0", "id": null, "method": "nothing"},
    ]);
    let (status, answer) = served.rpc.post(batch.to_string()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status, 200);
    assert_eq!(answer.as_array().unwrap().len(), 4, "{answer}");
    assert_eq!(
        answer[0],
        json!({"jsonrpc": "2.0", "id": "a", "result": hash})
    );
    assert_eq!(answer[1]["error"]["code"], -32600);
    assert_eq!(answer[2]["result"], "0x2");
    assert_eq!(
        (&answer[3]["id"], &answer[3]["error"]["code"]),
        (&Value::Null, &json!(-32601))
    );
    let (status, answer) = served
        .rpc
        .post(r#"{"jsonrpc":"2.0","method":"eth_chainId"}"#)
        .await;
    assert_eq!((status, answer.as_str()), (200, ""));
}

#[tokio::test]
async fn a_wallet_in_a_browser_may_ask() {
    let served = served().await;
    let allowed = served.rpc.preflight().await;
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "*");
    assert_eq!(allowed.headers()["access-control-allow-methods"], "POST");
    assert_eq!(
        allowed.headers()["access-control-allow-private-network"],
        "true"
    );
}

#[tokio::test]
async fn the_pool_has_a_limit_for_each_sender() {
    let served = served().await;
    let rpc = &served.rpc;
    for nonce in 1..=256 {
        rpc.send(
            &Draft {
                nonce,
                ..Draft::default()
            }
            .signed(&key(0))
            .0,
        )
        .await
        .unwrap();
    }
    let error = rpc
        .send(
            &Draft {
                nonce: 257,
                ..Draft::default()
            }
            .signed(&key(0))
            .0,
        )
        .await
        .unwrap_err();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("account limit exceeded: 256 transactions of 0x"),
        "{message}"
    );
    // The gap closes and everything is mined.
    rpc.mined(&Draft::default(), &key(0)).await;
    assert_eq!(
        rpc.quantity("eth_blockNumber", json!([])).await,
        U256::from(257)
    );
}

#[tokio::test]
async fn a_query_for_too_many_logs_says_where_it_stopped() {
    let served = served().await;
    let rpc = &served.rpc;
    let noisy = Address::repeat_byte(9);
    // Thirty logs of 100 KiB: PUSH3 102400, PUSH0, LOG0.
    rpc.get(
        "anvil_setCode",
        json!([noisy, format!("0x{}", "620190005fa0".repeat(30))]),
    )
    .await;
    for nonce in 0..3 {
        let draft = Draft {
            nonce,
            to: Some(noisy),
            gas: 29_000_000,
            ..Draft::default()
        };
        assert_eq!(rpc.mined(&draft, &key(0)).await["status"], "0x1");
    }
    let (code, message) = rpc
        .error("eth_getLogs", json!([{"fromBlock": "0x0"}]))
        .await;
    assert_eq!(code, -32005);
    assert!(
        message.ends_with("(the limit was reached at block 3)"),
        "{message}"
    );
    let some = rpc.get("eth_getLogs", json!([{"fromBlock": "0x2"}])).await;
    assert_eq!(some.as_array().unwrap().len(), 60);
    let many = (0..1_001_usize).map(|at| Address::left_padding_from(&at.to_be_bytes()));
    let many: Vec<_> = many.collect();
    for method in ["eth_getLogs", "eth_newFilter"] {
        let (code, message) = rpc.error(method, json!([{"address": many}])).await;
        assert_eq!(code, -32005);
        assert_eq!(
            message,
            "the number of a filter's addresses is 1001, at most 1000 is allowed"
        );
    }
}
