//! One JSON-RPC server over HTTP.
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

use super::quorum::Disagreement;
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
    /// It wants to be asked less.
    #[error("{server} wants to be asked less often")]
    Limited {
        /// Scheme, host and port.
        server: Arc<str>,
        /// When it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It speaks of another chain.
    #[error("{server} is on chain {got}, not on chain {expected}")]
    WrongChain {
        /// Scheme, host and port.
        server: Arc<str>,
        /// Its chain's id.
        got: u64,
        /// The right one.
        expected: u64,
    },
    /// Several servers do not say the same.
    #[error(transparent)]
    Disputed(Disagreement),
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
            RpcError::Malformed { .. } | RpcError::TooLong { .. } | RpcError::WrongChain { .. } => {
                Self::Nonsense {
                    problem: error.to_string(),
                }
            }
            RpcError::Disputed(disagreement) => Self::Unreachable(Box::new(disagreement)),
            unanswered => Self::Unreachable(Box::new(unanswered)),
        }
    }
}

/// Of which block something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The newest.
    Latest,
    /// The newest, and what waits for the next.
    Pending,
    /// The newest that stays, as the chain itself says.
    Finalized,
    /// This one.
    Number(u64),
}

impl At {
    pub(super) fn json(self) -> Value {
        match self {
            Self::Latest => json!("latest"),
            Self::Pending => json!("pending"),
            Self::Finalized => json!("finalized"),
            Self::Number(number) => json!(U64::from(number)),
        }
    }
}

/// One server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: reqwest::Client,
    url: reqwest::Url,
    /// What errors may tell of it.
    server: Arc<str>,
    next_id: Arc<AtomicU64>,
}

/// The head of a block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    /// Which.
    pub(crate) number: U64,
    /// Its hash.
    pub(crate) hash: B256,
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
    /// Of that block.
    pub(crate) block_hash: B256,
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
    pub(super) fn json(&self) -> Value {
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

impl Endpoint {
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
            return Err(self.refused(method, &error));
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
        if response.status() == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(RpcError::Limited {
                server: Arc::clone(&self.server),
                retry_after: retry_after(response.headers()),
            });
        }
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

    fn refused(&self, method: &'static str, error: &ServerError) -> RpcError {
        let reverted = error.code == REVERTED_CODE || error.message.contains("revert");
        // A transaction that is handed in is not executed: what a server then says is its own view.
        if reverted && method != "eth_sendRawTransaction" {
            return RpcError::Reverted {
                data: error.revert_data().unwrap_or_default(),
            };
        }
        if says_limited(error) {
            return RpcError::Limited {
                server: Arc::clone(&self.server),
                retry_after: None,
            };
        }
        RpcError::Answer {
            method,
            code: error.code,
            message: refusal::printable(&error.message, SERVER_TEXT_MAX),
        }
    }

    /// Scheme, host and port.
    pub(crate) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// A contract's view function.
    pub(crate) async fn view<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        at: At,
    ) -> Result<C::Return, RpcError> {
        let data = Bytes::from(call.abi_encode());
        let message = Message {
            from: None,
            to: Some(to),
            data: &data,
            value: U256::ZERO,
        };
        let params = json!([message.json(), at.json()]);
        let answer: Bytes = self.request("eth_call", params).await?;
        decoded::<C>(&answer)
    }

    /// The chain's id.
    pub(crate) async fn chain_id(&self) -> Result<u64, RpcError> {
        let id: U64 = self.request("eth_chainId", json!([])).await?;
        Ok(id.to())
    }

    /// A block's head.
    pub(crate) async fn head(&self, at: At) -> Result<Head, RpcError> {
        self.request("eth_getBlockByNumber", json!([at.json(), false]))
            .await
    }

    /// How many transactions of the account there are.
    pub(crate) async fn transactions_of(&self, account: Address, at: At) -> Result<u64, RpcError> {
        let params = json!([account, at.json()]);
        let count: U64 = self.request("eth_getTransactionCount", params).await?;
        Ok(count.to())
    }

    /// Gives it a signed transaction; what it says to it.
    pub(crate) async fn hand_in(&self, raw: &Bytes) -> Result<(), RpcError> {
        let _: B256 = self.request("eth_sendRawTransaction", json!([raw])).await?;
        Ok(())
    }

    /// What became of a transaction; None: it is not included (yet).
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.request("eth_getTransactionReceipt", json!([hash]))
            .await
    }
}

/// What a view function returned.
pub(super) fn decoded<C: SolCall>(answer: &Bytes) -> Result<C::Return, RpcError> {
    C::abi_decode_returns(answer).map_err(|error| RpcError::Malformed {
        method: "eth_call",
        problem: format!("{}: {error}", C::SIGNATURE),
    })
}

fn says_why(reply: Reply) -> bool {
    reply.error.is_some()
}

/// In seconds; a date is not understood, nor needed.
fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let value = headers.get(reqwest::header::RETRY_AFTER)?;
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Some servers say in a plain answer that they are asked too often.
fn says_limited(error: &ServerError) -> bool {
    let lower = error.message.to_ascii_lowercase();
    let words = [
        "rate limit",
        "too many requests",
        "compute units per second",
    ];
    error.code == 429 || words.iter().any(|words| lower.contains(words))
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

    fn refused_by_server(method: &'static str, error: &ServerError) -> RpcError {
        // A second test of the process finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let endpoint = Endpoint::new("http://127.0.0.1:1/secret-key").unwrap();
        endpoint.refused(method, error)
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
            RpcError::Limited { .. }
        ));
        let other = payload(r#"{"code":-32000,"message":"header not found"}"#);
        assert!(matches!(
            refused_by_server("eth_call", &other),
            RpcError::Answer { code: -32000, .. }
        ));
    }

    #[test]
    fn only_http_addresses_are_taken() {
        for url in ["ws://localhost:1", "not a url", "file:///etc/passwd"] {
            assert!(
                matches!(Endpoint::new(url), Err(RpcError::Address { .. })),
                "{url} was taken"
            );
        }
    }

    /// A server that answers the first request with `head` and then `body` again and again.
    async fn server(
        head: &'static str,
        body: &'static [u8],
        times: usize,
    ) -> (Endpoint, JoinSet<()>) {
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
        let rpc = Endpoint::new(&format!("http://127.0.0.1:{port}/secret-key")).unwrap();
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

        let limited =
            "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nconnection: close\r\n\r\n";
        let (rpc, _server) = server(
            limited,
            br#"{"error":{"code":-32005,"message":"slow down"}}"#,
            1,
        )
        .await;
        let outcome = rpc.chain_id().await;
        assert!(
            matches!(outcome, Err(RpcError::Limited { retry_after: Some(rest), .. }) if rest.as_secs() == 7),
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
