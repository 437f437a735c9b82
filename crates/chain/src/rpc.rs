//! Ethereum's JSON-RPC over HTTP, as little of it as the client needs.
//!
//! Every answer is bounded in size and time. Errors name the server and never
//! the whole URL: that often holds an access key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U64, U256};
use alloy::rpc::types::Log;
use alloy::sol_types::SolCall;
use market::LedgerError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::refusal;

/// The longest answer that is read: a page of a registry is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a server's own words is shown.
const SERVER_TEXT_MAX: usize = 200;
/// "Execution reverted", as geth numbers it.
const REVERTED_CODE: i64 = 3;

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// The URL is not one, or not HTTP.
    #[error("{url_scheme:?} is not a JSON-RPC address (allowed: http://… or https://…)")]
    Address {
        /// What was before the colon.
        url_scheme: String,
    },
    /// The process has not chosen how to encrypt.
    #[error("no TLS provider is installed in this process")]
    NoTls,
    /// Not sent, or broken off.
    #[error("no answer to {method} from {server}")]
    Transport {
        /// Which call.
        method: &'static str,
        /// Scheme, host and port.
        server: Arc<str>,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Too late.
    #[error("no answer to {method} from {server} within {} s", CALL_TIMEOUT.as_secs())]
    Timeout {
        /// Which call.
        method: &'static str,
        /// Scheme, host and port.
        server: Arc<str>,
    },
    /// Something else than a JSON-RPC server, or an unwilling one.
    #[error("{server} answered {method} with HTTP status {status}")]
    Status {
        /// Which call.
        method: &'static str,
        /// Scheme, host and port.
        server: Arc<str>,
        /// The status.
        status: u16,
    },
    /// Cut off before it filled the memory.
    #[error("the answer to {method} is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong {
        /// Which call.
        method: &'static str,
    },
    /// Not what the method returns.
    #[error("the answer to {method} cannot be read: {problem}")]
    Malformed {
        /// Which call.
        method: &'static str,
        /// Where it is wrong.
        problem: String,
    },
    /// The server's own error.
    #[error("{method} was refused by the server: {message} (code {code})")]
    Answer {
        /// Which call.
        method: &'static str,
        /// Its number.
        code: i64,
        /// Its words.
        message: String,
    },
    /// The contract reverted.
    #[error("the contract reverted: {}", refusal::reason(data))]
    Reverted {
        /// What it returned.
        data: Bytes,
    },
}

impl From<RpcError> for LedgerError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Reverted { data } => refusal::refused(&data),
            RpcError::Malformed { .. } | RpcError::TooLong { .. } => Self::Nonsense {
                problem: error.to_string(),
            },
            unanswered => Self::Unreachable(Box::new(unanswered)),
        }
    }
}

/// A chain's JSON-RPC endpoint. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rpc {
    client: reqwest::Client,
    url: reqwest::Url,
    /// What errors may tell of it.
    server: Arc<str>,
    next_id: Arc<AtomicU64>,
}

/// The head of the chain.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    /// Which.
    pub(crate) number: U64,
    /// Unix seconds.
    pub(crate) timestamp: U64,
    /// Wei per gas; absent before EIP-1559.
    pub(crate) base_fee_per_gas: Option<U256>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    /// Which.
    pub(crate) transaction_hash: B256,
    /// In which block.
    pub(crate) block_number: U64,
    /// 1: it succeeded.
    pub(crate) status: U64,
    /// What it emitted.
    pub(crate) logs: Vec<Log>,
}

/// A message call that is not sent as a transaction.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// Who asks.
    pub(crate) from: Option<Address>,
    /// Whom; None: a contract is created.
    pub(crate) to: Option<Address>,
    /// What.
    pub(crate) data: &'a Bytes,
    /// With how many coins.
    pub(crate) value: U256,
}

impl Message<'_> {
    fn json(&self) -> Value {
        let mut message = serde_json::Map::new();
        if let Some(from) = self.from {
            message.insert("from".into(), json!(from));
        }
        if let Some(to) = self.to {
            message.insert("to".into(), json!(to));
        }
        if !self.value.is_zero() {
            message.insert("value".into(), json!(self.value));
        }
        message.insert("data".into(), json!(self.data));
        Value::Object(message)
    }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    result: Option<Box<serde_json::value::RawValue>>,
    #[serde(default)]
    error: Option<ServerError>,
}

#[derive(Deserialize)]
struct ServerError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

impl ServerError {
    /// What the contract returned: servers put it into `data`, plainly or one level down.
    fn revert_data(&self) -> Option<Bytes> {
        let plain = self.data.as_str();
        let nested = self.data.get("data").and_then(Value::as_str);
        plain.or(nested)?.parse().ok()
    }
}

impl Rpc {
    /// Speaks to the server at `url`. Nothing is sent yet.
    pub(crate) fn new(url: &str) -> Result<Self, RpcError> {
        let url: reqwest::Url = url.parse().map_err(|_| RpcError::Address {
            url_scheme: String::new(),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RpcError::Address {
                url_scheme: url.scheme().to_owned(),
            });
        }
        // The client would panic without one, even for plain HTTP.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(RpcError::NoTls);
        }
        let server: Arc<str> = url.origin().ascii_serialization().into();
        let client = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .map_err(|source| RpcError::Transport {
                method: "(set-up)",
                server: Arc::clone(&server),
                source: source.without_url(),
            })?;
        Ok(Self {
            client,
            url,
            server,
            next_id: Arc::default(),
        })
    }

    /// One call.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = self.post(method, &body).await?;
        let malformed = |error: serde_json::Error| RpcError::Malformed {
            method,
            problem: error.to_string(),
        };
        let reply: Reply = serde_json::from_slice(&answer).map_err(malformed)?;
        if let Some(error) = reply.error {
            return Err(refused_by_server(method, &error));
        }
        // A missing result is the null that JSON-RPC servers mean by it.
        let result = reply.result.as_deref().map_or("null", |raw| raw.get());
        serde_json::from_str(result).map_err(malformed)
    }

    async fn post(&self, method: &'static str, body: &Value) -> Result<Vec<u8>, RpcError> {
        let failed = |source: reqwest::Error| {
            let server = Arc::clone(&self.server);
            if source.is_timeout() {
                RpcError::Timeout { method, server }
            } else {
                RpcError::Transport {
                    method,
                    server,
                    source: source.without_url(),
                }
            }
        };
        let mut response = self
            .client
            .post(self.url.clone())
            .json(body)
            .send()
            .await
            .map_err(failed)?;
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if answer.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(RpcError::TooLong { method });
            }
            answer.extend_from_slice(&piece);
        }
        // Some servers say in the body of an error status what is wrong.
        let status = response.status();
        if status.is_success() || serde_json::from_slice::<Reply>(&answer).is_ok_and(says_why) {
            return Ok(answer);
        }
        Err(RpcError::Status {
            method,
            server: Arc::clone(&self.server),
            status: status.as_u16(),
        })
    }

    /// A contract's view function.
    pub(crate) async fn view<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<C::Return, RpcError> {
        let data = Bytes::from(call.abi_encode());
        let message = Message {
            from: None,
            to: Some(to),
            data: &data,
            value: U256::ZERO,
        };
        let answer = self.call(message, "latest").await?;
        C::abi_decode_returns(&answer).map_err(|error| RpcError::Malformed {
            method: "eth_call",
            problem: format!("{}: {error}", C::SIGNATURE),
        })
    }

    /// What a message call would return, or its revert.
    pub(crate) async fn call(&self, message: Message<'_>, block: &str) -> Result<Bytes, RpcError> {
        self.request("eth_call", json!([message.json(), block]))
            .await
    }

    /// The gas that it would take at the latest block, or its revert.
    pub(crate) async fn estimate(&self, message: Message<'_>) -> Result<u64, RpcError> {
        let gas: U64 = self
            .request("eth_estimateGas", json!([message.json(), "latest"]))
            .await?;
        Ok(gas.to())
    }

    /// The chain's id.
    pub(crate) async fn chain_id(&self) -> Result<u64, RpcError> {
        let id: U64 = self.request("eth_chainId", json!([])).await?;
        Ok(id.to())
    }

    /// The latest block's head.
    pub(crate) async fn head(&self) -> Result<Head, RpcError> {
        self.request("eth_getBlockByNumber", json!(["latest", false]))
            .await
    }

    /// Code at an address.
    pub(crate) async fn code(&self, address: Address) -> Result<Bytes, RpcError> {
        self.request("eth_getCode", json!([address, "latest"]))
            .await
    }

    /// The chain's own coin.
    pub(crate) async fn coins(&self, owner: Address) -> Result<U256, RpcError> {
        self.request("eth_getBalance", json!([owner, "latest"]))
            .await
    }

    /// How many transactions of the account are included (`latest`) or at least known (`pending`).
    pub(crate) async fn transactions_of(
        &self,
        account: Address,
        block: &str,
    ) -> Result<u64, RpcError> {
        let count: U64 = self
            .request("eth_getTransactionCount", json!([account, block]))
            .await?;
        Ok(count.to())
    }

    /// The usual tip.
    pub(crate) async fn tip(&self) -> Result<U256, RpcError> {
        self.request("eth_maxPriorityFeePerGas", json!([])).await
    }

    /// Hands in a signed transaction.
    pub(crate) async fn send_raw(&self, raw: &Bytes) -> Result<B256, RpcError> {
        self.request("eth_sendRawTransaction", json!([raw])).await
    }

    /// What became of it; None: it is not included (yet).
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.request("eth_getTransactionReceipt", json!([hash]))
            .await
    }
}

fn says_why(reply: Reply) -> bool {
    reply.error.is_some()
}

fn refused_by_server(method: &'static str, error: &ServerError) -> RpcError {
    let reverted = error.code == REVERTED_CODE || error.message.contains("revert");
    // A transaction that is handed in is not executed: what a server then says is its own view.
    if reverted && method != "eth_sendRawTransaction" {
        return RpcError::Reverted {
            data: error.revert_data().unwrap_or_default(),
        };
    }
    RpcError::Answer {
        method,
        code: error.code,
        message: refusal::printable(&error.message, SERVER_TEXT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    fn payload(json: &str) -> ServerError {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_revert_is_told_from_a_servers_own_error() {
        let reverted = payload(
            r#"{"code":3,"message":"execution reverted: custom error","data":"0xdeadbeef"}"#,
        );
        match refused_by_server("eth_call", &reverted) {
            RpcError::Reverted { data } => assert_eq!(data[..], hex!("deadbeef")),
            other => panic!("taken for {other}"),
        }
        let nested = payload(
            r#"{"code":-32000,"message":"VM Exception: revert","data":{"data":"0x01020304"}}"#,
        );
        assert!(matches!(
            refused_by_server("eth_estimateGas", &nested),
            RpcError::Reverted { data } if data[..] == [1, 2, 3, 4]
        ));
        let limited = payload(r#"{"code":-32005,"message":"rate limit exceeded"}"#);
        assert!(matches!(
            refused_by_server("eth_call", &limited),
            RpcError::Answer { code: -32005, .. }
        ));
    }

    #[test]
    fn only_http_addresses_are_taken() {
        for url in ["ws://localhost:1", "not a url", "file:///etc/passwd"] {
            assert!(
                matches!(Rpc::new(url), Err(RpcError::Address { .. })),
                "{url} was taken"
            );
        }
    }

    /// A server that answers the first request with `head` and then `body` again and again.
    async fn server(head: &'static str, body: &'static [u8], times: usize) -> (Rpc, JoinSet<()>) {
        // A second test of the process finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..times {
                // The client may have had enough.
                if socket.write_all(body).await.is_err() {
                    return;
                }
            }
        });
        let rpc = Rpc::new(&format!("http://127.0.0.1:{port}/secret-key")).unwrap();
        (rpc, tasks)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let (rpc, _server) = server(OK, &[b' '; 65536], usize::MAX).await;
        let outcome = rpc.chain_id().await;
        assert!(
            matches!(outcome, Err(RpcError::TooLong { .. })),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn strange_answers_are_told_apart() {
        let (rpc, _server) = server(OK, br#"{"result":"0x7a69"}"#, 1).await;
        assert_eq!(rpc.chain_id().await.unwrap(), 31_337);

        let (rpc, _server) = server(OK, b"<html>", 1).await;
        let outcome = rpc.chain_id().await;
        assert!(
            matches!(outcome, Err(RpcError::Malformed { .. })),
            "{outcome:?}"
        );

        let moved =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n";
        let (rpc, _server) = server(moved, b"", 0).await;
        let outcome = rpc.chain_id().await;
        assert!(
            matches!(outcome, Err(RpcError::Status { status: 302, .. })),
            "{outcome:?}"
        );

        let limited = "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\r\n";
        let (rpc, _server) = server(
            limited,
            br#"{"error":{"code":-32005,"message":"slow down"}}"#,
            1,
        )
        .await;
        let outcome = rpc.chain_id().await;
        assert!(
            matches!(outcome, Err(RpcError::Answer { code: -32005, .. })),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn an_error_tells_the_server_and_not_the_key_in_its_address() {
        let (rpc, mut tasks) = server("", b"", 0).await;
        let error = rpc.chain_id().await.unwrap_err();
        assert!(tasks.join_next().await.is_some());
        assert!(matches!(error, RpcError::Transport { .. }), "{error:?}");
        assert!(error.to_string().contains("http://127.0.0.1:"), "{error}");
        let told = format!("{:?}", LedgerError::from(error));
        assert!(!told.contains("secret-key"), "{told}");
    }
}
