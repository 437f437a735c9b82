//! The chain over a WebSocket: requests, subscriptions, and what they are limited to.

use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256};
use devchain::{BODY_BYTES_MAX, Options};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::{Draft, Served, genesis, key, quantity};

/// The limits, as the crate has them.
const SOCKETS_MAX: usize = 64;
const SUBSCRIPTIONS_MAX: usize = 64;
/// Longer than the chain waits for a slow reader.
const PATIENCE: Duration = Duration::from_secs(20);

/// Code that emits one log without data, with the topic 1.
const EMITS: &str = "0x600160006000a1";

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn try_open(served: &Served) -> Result<Self, Error> {
        let url = served.rpc.url.replace("http://", "ws://");
        connect_async(url).await.map(|(socket, _)| Self(socket))
    }

    async fn open(served: &Served) -> Self {
        Self::try_open(served).await.unwrap()
    }

    async fn say(&mut self, message: &Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    /// The next message that is not a ping.
    async fn hear(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
            {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))
            .await;
        let answer = self.hear().await;
        assert_eq!(answer["id"], 7, "{answer}");
        answer
    }

    async fn subscribe(&mut self, params: Value) -> Value {
        self.ask("eth_subscribe", params).await["result"].take()
    }

    /// The subscription and the result of the next notification.
    async fn told(&mut self) -> (Value, Value) {
        let mut message = self.hear().await;
        assert_eq!(message["method"], "eth_subscription", "{message}");
        let params = &mut message["params"];
        (params["subscription"].take(), params["result"].take())
    }
}

async fn served() -> Served {
    let cheats = Options {
        cheats: true,
        ..Options::default()
    };
    Served::new(&genesis(), cheats).await
}

#[tokio::test]
async fn requests_and_batches_are_answered_over_a_websocket() {
    let served = served().await;
    let mut socket = Socket::open(&served).await;
    assert_eq!(
        socket.ask("eth_chainId", json!([])).await["result"],
        "0x7a69"
    );
    socket
        .say(&json!([
            {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"},
            {"jsonrpc": "2.0", "id": 2, "method": "eth_subscribe", "params": ["newHeads"]},
        ]))
        .await;
    let answers = socket.hear().await;
    assert_eq!(answers[0]["result"], "0x0");
    assert_eq!(answers[1]["error"]["code"], -32601);
    socket.0.send(Message::text("nonsense")).await.unwrap();
    assert_eq!(socket.hear().await["error"]["code"], -32700);
}

#[tokio::test]
async fn heads_logs_and_transactions_are_told_as_they_come() {
    let served = served().await;
    let mut socket = Socket::open(&served).await;
    let emitter = Address::repeat_byte(7);
    served
        .rpc
        .get("anvil_setCode", json!([emitter, EMITS]))
        .await;
    let heads = socket.subscribe(json!(["newHeads"])).await;
    let logs = socket
        .subscribe(json!(["logs", {"address": emitter}]))
        .await;
    let others = json!(["logs", {"address": Address::repeat_byte(8)}]);
    socket.subscribe(others).await;
    let waiting = socket.subscribe(json!(["newPendingTransactions"])).await;
    let whole = socket
        .subscribe(json!(["newPendingTransactions", true]))
        .await;

    let draft = Draft {
        to: Some(emitter),
        gas: 100_000,
        ..Draft::default()
    };
    let receipt = served.rpc.mined(&draft, &key(0)).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(socket.told().await);
    }
    let found = |id: &Value| {
        let found = told.iter().find(|(subscription, _)| subscription == id);
        found.unwrap().1.clone()
    };
    assert_eq!(found(&waiting), receipt["transactionHash"]);
    assert_eq!(found(&whole)["hash"], receipt["transactionHash"]);
    assert_eq!(found(&whole)["blockNumber"], Value::Null);
    assert_eq!(found(&heads)["hash"], receipt["blockHash"]);
    assert_eq!(found(&heads)["number"], "0x1");
    assert_eq!(found(&logs), receipt["logs"][0]);

    // Ended ones are silent, and cannot be ended twice.
    for id in [&logs, &waiting, &whole] {
        let ended = socket.ask("eth_unsubscribe", json!([id])).await;
        assert_eq!(ended["result"], true);
    }
    let again = socket.ask("eth_unsubscribe", json!([logs])).await;
    assert_eq!(again["error"]["message"], "subscription not found");
    served.rpc.get("evm_mine", json!([])).await;
    let (id, head) = socket.told().await;
    assert_eq!((id, quantity(&head["number"])), (heads, U256::from(2)));
}

#[tokio::test]
async fn subscriptions_have_limits_and_say_what_there_is() {
    let served = served().await;
    let mut socket = Socket::open(&served).await;
    let unknown = socket.ask("eth_subscribe", json!(["syncing"])).await;
    let message = unknown["error"]["message"].as_str().unwrap();
    assert!(message.contains("newHeads, logs"), "{message}");
    for _ in 0..SUBSCRIPTIONS_MAX {
        assert!(socket.subscribe(json!(["newHeads"])).await.is_string());
    }
    let refused = socket.ask("eth_subscribe", json!(["logs"])).await;
    assert_eq!(refused["error"]["code"], -32005, "{refused}");
    let (code, message) = served.rpc.error("eth_subscribe", json!(["newHeads"])).await;
    assert_eq!(code, -32601);
    assert!(message.contains("over a WebSocket"), "{message}");
}

#[tokio::test]
async fn there_are_only_so_many_websockets_and_a_closed_one_makes_room() {
    let served = served().await;
    let mut open = Vec::new();
    for _ in 0..SOCKETS_MAX {
        let mut socket = Socket::open(&served).await;
        socket.ask("eth_chainId", json!([])).await;
        open.push(socket);
    }
    match Socket::try_open(&served).await {
        Err(Error::Http(refusal)) => assert_eq!(refusal.status(), 503),
        other => panic!("{:?}", other.err()),
    }
    served.rpc.get("eth_chainId", json!([])).await;
    open.pop().unwrap().0.close(None).await.unwrap();
    timeout(PATIENCE, async {
        while Socket::try_open(&served).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn who_asks_too_much_at_once_is_cut_off() {
    let served = served().await;
    let mut socket = Socket::open(&served).await;
    let huge = " ".repeat(BODY_BYTES_MAX + 1);
    // It may be cut off while it is still sending.
    let _ = socket.0.send(Message::text(huge)).await;
    let ended = timeout(PATIENCE, async {
        while let Some(Ok(message)) = socket.0.next().await {
            assert!(!message.is_text(), "{message:?}");
        }
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_nobody_waits_for_it() {
    let served = served().await;
    let mut slow = Socket::open(&served).await;
    let mut quick = Socket::open(&served).await;
    for _ in 0..SUBSCRIPTIONS_MAX {
        slow.subscribe(json!(["newPendingTransactions", true]))
            .await;
    }
    quick.subscribe(json!(["newHeads"])).await;
    // Each is told 64 times at 200 kB: more than the system holds back for a reader.
    for nonce in 0..3 {
        let draft = Draft {
            nonce,
            data: Bytes::from(vec![0; 100_000]),
            gas: 2_000_000,
            ..Draft::default()
        };
        served.rpc.mined(&draft, &key(0)).await;
        let (_, head) = quick.told().await;
        assert_eq!(quantity(&head["number"]), U256::from(nonce + 1));
    }
    // It reads nothing for longer than the chain waits, then finds the end.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut read = 0;
    let ended = timeout(PATIENCE, async {
        while let Some(Ok(message)) = slow.0.next().await {
            read += usize::from(message.is_text());
        }
    });
    ended.await.unwrap();
    assert!(read < 3 * SUBSCRIPTIONS_MAX, "{read} messages came through");
}

#[tokio::test]
async fn a_chain_that_stops_says_so() {
    let served = served().await;
    let mut socket = Socket::open(&served).await;
    socket.ask("eth_chainId", json!([])).await;
    let (closed, ()) = tokio::join!(socket.0.next(), served.close());
    // The ping that a conversation begins with may come first.
    let closed = match closed.unwrap().unwrap() {
        Message::Ping(_) => socket.0.next().await.unwrap().unwrap(),
        closed => closed,
    };
    let Message::Close(Some(frame)) = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(frame.reason.as_str(), "the chain stops");
}
