//! Ethereum's JSON-RPC, as little of it as the client needs, from one server
//! or several.
//!
//! * An ordinary read is answered by the first server that can: one that
//!   fails, is behind or wants to rest is passed over.
//! * A signed transaction is handed to all.
//! * What decides money ([`Rpc::decided`]) is what two servers say alike of the
//!   same block; of two servers both. With one server there is only its word:
//!   who wants more names three of different operators.

mod endpoint;
mod health;
mod quorum;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, LogData, U64, U256};
use alloy::rpc::types::Log;
use alloy::sol_types::SolCall;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use market::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::refusal;
use crate::sender::words::{Said, understood};
pub(crate) use endpoint::{At, Endpoint, Head, Message, Receipt, RpcError};
use health::{Came, Health, Seen};
pub use quorum::Disagreement;

/// Servers that are used; more add nothing but traffic.
const ENDPOINTS_MAX: usize = 8;
/// How often what servers contradict each other on is asked again at once: a
/// block may be taken back between two answers.
const DECIDE_ATTEMPTS: u32 = 3;
/// Between those.
const DECIDE_PAUSE: Duration = Duration::from_millis(300);
/// How long a server is waited for where others can answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How much of a server's word is shown in a disagreement.
const SAID_MAX: usize = 160;

/// Where a chain's JSON-RPC is: one URL, or several of the same chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// The URLs, as the user named them.
    pub fn urls(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Endpoints {
    fn from(url: &str) -> Self {
        Self(vec![url.to_owned()])
    }
}

impl From<String> for Endpoints {
    fn from(url: String) -> Self {
        Self(vec![url])
    }
}

impl From<&String> for Endpoints {
    fn from(url: &String) -> Self {
        Self(vec![url.clone()])
    }
}

impl From<Vec<String>> for Endpoints {
    fn from(urls: Vec<String>) -> Self {
        Self(urls)
    }
}

impl From<&Endpoints> for Endpoints {
    fn from(endpoints: &Endpoints) -> Self {
        endpoints.clone()
    }
}

/// A chain's JSON-RPC. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rpc(Arc<Inner>);

struct Inner {
    endpoints: Vec<Endpoint>,
    /// The chain that all must be on. None: whichever.
    chain_id: Option<u64>,
    health: Mutex<Health>,
    started: Instant,
}

/// What several said to one question.
enum Tally<T> {
    Agreed(T),
    Split {
        said: Vec<(String, String)>,
        /// The first that did not answer, if nobody did.
        error: Option<RpcError>,
    },
}

impl Rpc {
    /// Speaks to these servers. Nothing is sent yet.
    pub(crate) fn new(endpoints: &Endpoints, chain_id: Option<u64>) -> Result<Self, RpcError> {
        let urls = endpoints.0.iter().take(ENDPOINTS_MAX);
        let endpoints: Vec<Endpoint> = urls
            .map(|url| Endpoint::new(url))
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            let url_scheme = String::new();
            return Err(RpcError::Address { url_scheme });
        }
        Ok(Self(Arc::new(Inner {
            health: Mutex::new(Health::new(endpoints.len())),
            endpoints,
            chain_id,
            started: Instant::now(),
        })))
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        let locked = self.0.health.lock();
        locked.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, endpoint: usize, came: Came) {
        let now = self.0.started.elapsed();
        self.health().note(endpoint, came, now);
    }

    /// All of them, for people.
    pub(crate) fn servers(&self) -> Vec<Arc<str>> {
        let all = self.0.endpoints.iter();
        all.map(|endpoint| Arc::clone(endpoint.server())).collect()
    }

    /// Those to ask, best first.
    fn order(&self) -> Vec<usize> {
        let now = self.0.started.elapsed();
        self.health().order(now)
    }

    /// How many must agree on what decides money.
    fn need(&self) -> usize {
        quorum::need(self.0.endpoints.len())
    }

    /// Asks one server, once it is known to be on the right chain.
    async fn ask<T, F>(&self, number: usize, ask: impl FnOnce(Endpoint) -> F) -> Result<T, RpcError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let answer = match self.check_chain(number).await {
            Ok(()) => ask(self.0.endpoints[number].clone()).await,
            Err(error) => Err(error),
        };
        let came = match &answer {
            Ok(_) | Err(RpcError::Reverted { .. } | RpcError::Answer { .. }) => Came::Answer,
            Err(RpcError::Limited { retry_after, .. }) => Came::Limited {
                retry_after: *retry_after,
            },
            Err(RpcError::WrongChain { .. }) => Came::Chain { right: false },
            Err(_) => Came::Failure,
        };
        self.note(number, came);
        answer
    }

    /// The same, but not for long where others can answer.
    async fn ask_soon<T, F>(
        &self,
        number: usize,
        ask: impl FnOnce(Endpoint) -> F,
    ) -> Result<T, RpcError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        if self.0.endpoints.len() == 1 {
            return self.ask(number, ask).await;
        }
        match tokio::time::timeout(ANSWER_WITHIN, self.ask(number, ask)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.note(number, Came::Failure);
                Err(RpcError::Timeout {
                    method: "(a call that others can answer)",
                    server: Arc::clone(self.0.endpoints[number].server()),
                })
            }
        }
    }

    async fn check_chain(&self, number: usize) -> Result<(), RpcError> {
        let Some(expected) = self.0.chain_id else {
            return Ok(());
        };
        if self.health().is_checked(number) {
            return Ok(());
        }
        let endpoint = &self.0.endpoints[number];
        let got = endpoint.chain_id().await?;
        if got != expected {
            let server = Arc::clone(endpoint.server());
            return Err(RpcError::WrongChain {
                server,
                got,
                expected,
            });
        }
        self.note(number, Came::Chain { right: true });
        Ok(())
    }

    /// Asks all for their chain: fails if none is on the right one.
    pub(crate) async fn check_chains(&self) -> Result<(), RpcError> {
        let all =
            (0..self.0.endpoints.len()).map(|number| self.ask_soon(number, |_| async { Ok(()) }));
        let mut errors = Vec::new();
        let mut right = false;
        for checked in join_all(all).await {
            match checked {
                Ok(()) => right = true,
                Err(error) => errors.push(error),
            }
        }
        if right {
            for error in errors {
                tracing::warn!(%error, "an RPC endpoint is not used");
            }
            return Ok(());
        }
        // That one is on another chain says more than that one is away.
        let wrong = |error: &RpcError| matches!(error, RpcError::WrongChain { .. });
        let telling = errors.iter().position(wrong).unwrap_or_default();
        Err(errors.swap_remove(telling))
    }

    /// Those that do not answer, or are on another chain, where too few others are left to agree on
    /// what decides money; else nobody.
    pub(crate) async fn lacking(&self) -> Vec<Arc<str>> {
        let all = (0..self.0.endpoints.len()).map(|number| async move {
            let asked = self.ask_soon(number, |endpoint| async move { endpoint.chain_id().await });
            let away = asked.await.is_err();
            away.then(|| Arc::clone(self.0.endpoints[number].server()))
        });
        let asked = join_all(all).await;
        let away: Vec<_> = asked.iter().flatten().cloned().collect();
        match asked.len() - away.len() < self.need() {
            true => away,
            false => Vec::new(),
        }
    }

    /// One call, of the first server that answers.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let mut failed = None;
        for number in self.order() {
            let params = params.clone();
            let asked = self.ask_soon(number, move |endpoint| async move {
                endpoint.request(method, params).await
            });
            match asked.await {
                // The contract's own word: another server would say the same.
                Err(error @ RpcError::Reverted { .. }) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, method, "another endpoint is asked");
                    failed.get_or_insert(error);
                }
                answered => return answered,
            }
        }
        Err(failed.unwrap_or_else(|| self.all_rest()))
    }

    /// Nobody may be asked now.
    fn all_rest(&self) -> RpcError {
        let now = self.0.started.elapsed();
        let rested_at = self.health().rested_at();
        RpcError::Limited {
            server: Arc::clone(self.0.endpoints[0].server()),
            retry_after: rested_at.map(|at| at.saturating_sub(now)),
        }
    }

    /// What enough servers say alike of the same block: the newest that enough
    /// of them have. `ask` is given that block.
    pub(crate) async fn decided<'a, T, F>(&self, what: &'static str, ask: F) -> Result<T, RpcError>
    where
        T: PartialEq + Debug,
        F: Fn(Endpoint, At) -> BoxFuture<'a, Result<T, RpcError>>,
    {
        let need = self.need();
        if need < 2 {
            return self.of_the_only(&ask).await;
        }
        let mut last = Vec::new();
        for attempt in 0..DECIDE_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(DECIDE_PAUSE).await;
            }
            let heads = self.heads().await;
            let numbers = heads.iter().map(|(_, seen)| seen.number);
            let Some(block) = quorum::common_block(numbers, need) else {
                last = vec![("the others".to_owned(), "nothing".to_owned())];
                continue;
            };
            let have = heads.iter().filter(|(_, seen)| seen.number >= block);
            let have = have.map(|(number, _)| *number).collect();
            match self.tally(have, need, At::Number(block), &ask).await {
                Tally::Agreed(value) => return Ok(value),
                Tally::Split { said, .. } => last = said,
            }
        }
        let said = last;
        Err(RpcError::Disputed(Disagreement { what, need, said }))
    }

    async fn of_the_only<'a, T, F>(&self, ask: &F) -> Result<T, RpcError>
    where
        F: Fn(Endpoint, At) -> BoxFuture<'a, Result<T, RpcError>>,
    {
        if self.order().is_empty() {
            return Err(self.all_rest());
        }
        self.ask(0, |endpoint| ask(endpoint, At::Latest)).await
    }

    /// Asks these until enough say the same.
    async fn tally<'a, T, F>(&self, of: Vec<usize>, need: usize, at: At, ask: &F) -> Tally<T>
    where
        T: PartialEq + Debug,
        F: Fn(Endpoint, At) -> BoxFuture<'a, Result<T, RpcError>>,
    {
        let mut asked: FuturesUnordered<_> = of
            .into_iter()
            .map(|number| {
                let answer = self.ask_soon(number, |endpoint| ask(endpoint, at));
                answer.map(move |answer| (number, answer))
            })
            .collect();
        let (mut values, mut said, mut first_error) = (Vec::new(), Vec::new(), None);
        while let Some((number, answer)) = asked.next().await {
            let server = self.0.endpoints[number].server().to_string();
            match answer {
                Ok(value) => {
                    said.push((server, refusal::printable(&format!("{value:?}"), SAID_MAX)));
                    values.push(value);
                    if let Some(value) = quorum::agreed(&values, need) {
                        let place = values.iter().position(|other| other == value);
                        return Tally::Agreed(values.swap_remove(place.unwrap_or_default()));
                    }
                }
                Err(error) => {
                    said.push((server, format!("nothing ({error})")));
                    first_error.get_or_insert(error);
                }
            }
        }
        let error = first_error;
        Tally::Split { said, error }
    }

    /// The heads of all that answer in time, compared.
    async fn heads(&self) -> Vec<(usize, Seen)> {
        let all = self.order().into_iter().map(|number| async move {
            let head = self.ask_soon(
                number,
                |endpoint| async move { endpoint.head(At::Latest).await },
            );
            Some((number, seen(&head.await.ok()?)))
        });
        let heads: Vec<_> = join_all(all).await.into_iter().flatten().collect();
        self.health().heads(&heads);
        let fresh = self.order();
        heads
            .into_iter()
            .filter(|(number, _)| fresh.contains(number))
            .collect()
    }

    /// Gives a signed transaction to all; what they say to it together.
    pub(crate) async fn hand_in(&self, raw: &Bytes) -> Said {
        let all = self.order().into_iter().map(|number| async move {
            let handed = self.ask(
                number,
                |endpoint| async move { endpoint.hand_in(raw).await },
            );
            match handed.await {
                Ok(()) => Said::Taken,
                Err(RpcError::Answer { message, .. }) => understood(message),
                Err(error) => {
                    tracing::warn!(%error, "not sure that the node has a transaction");
                    Said::Unknown
                }
            }
        });
        Said::together(join_all(all).await)
    }

    /// What became of a transaction, as enough servers say; None: it is not
    /// included (yet).
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.decided("the receipt of a transaction", move |endpoint, _| {
            Box::pin(async move { endpoint.receipt(hash).await })
        })
        .await
    }

    /// A block's head, as enough servers say: the newest that they have.
    pub(crate) async fn decided_head(&self) -> Result<Head, RpcError> {
        self.decided("the head of the chain", |endpoint, at| {
            Box::pin(async move { endpoint.head(at).await })
        })
        .await
    }

    /// Logs up to block `to`, as enough servers say.
    pub(crate) async fn logs(&self, filter: Value, to: u64) -> Result<Vec<Log>, RpcError> {
        let need = self.need();
        if need < 2 {
            return self.request("eth_getLogs", json!([filter])).await;
        }
        let heads = self.heads().await;
        let have = heads.iter().filter(|(_, seen)| seen.number >= to);
        let have = have.map(|(number, _)| *number).collect();
        let ask = |endpoint: Endpoint, _: At| -> BoxFuture<'_, Result<Vec<Log>, RpcError>> {
            let filter = filter.clone();
            Box::pin(async move {
                let mut logs: Vec<Log> = endpoint.request("eth_getLogs", json!([filter])).await?;
                // Not every server tells it.
                logs.iter_mut().for_each(|log| log.block_timestamp = None);
                Ok(logs)
            })
        };
        match self.tally(have, need, At::Number(to), &ask).await {
            Tally::Agreed(logs) => Ok(logs),
            // Less may be answered by all.
            Tally::Split {
                error: Some(error), ..
            } => Err(error),
            Tally::Split { said, error: None } => Err(RpcError::Disputed(Disagreement {
                what: "the logs of a contract",
                need,
                said,
            })),
        }
    }

    /// The number that enough servers reach or exceed. One whose server lies
    /// upwards is not followed.
    async fn vouched<F>(&self, ask: impl Fn(Endpoint) -> F) -> Result<u64, RpcError>
    where
        F: Future<Output = Result<u64, RpcError>>,
    {
        let all = self
            .order()
            .into_iter()
            .map(|number| self.ask_soon(number, &ask));
        let (mut numbers, mut failed) = (Vec::new(), None);
        for answer in join_all(all).await {
            match answer {
                Ok(number) => numbers.push(number),
                Err(error) => failed = Some(error),
            }
        }
        // Some may be away: those that are there count.
        let need = self.need().min(numbers.len());
        quorum::vouched(numbers, need).ok_or_else(|| failed.unwrap_or_else(|| self.all_rest()))
    }

    /// How many transactions of the account there are, with those that wait.
    pub(crate) async fn pending_of(&self, account: Address) -> Result<u64, RpcError> {
        self.vouched(|endpoint| async move { endpoint.transactions_of(account, At::Pending).await })
            .await
    }

    /// The number of the latest block that stays, where the chain tells.
    pub(crate) async fn finalized(&self) -> Result<u64, RpcError> {
        self.vouched(|endpoint| async move { Ok(endpoint.head(At::Finalized).await?.number.to()) })
            .await
    }

    /// A contract's view function, of the latest block of one server.
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
        endpoint::decoded::<C>(&self.call(message, At::Latest).await?)
    }

    /// What a message call would return, or its revert.
    pub(crate) async fn call(&self, message: Message<'_>, at: At) -> Result<Bytes, RpcError> {
        self.request("eth_call", json!([message.json(), at.json()]))
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

    /// The latest block's head, of one server.
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

    /// How many transactions of the account are included.
    pub(crate) async fn transactions_of(&self, account: Address) -> Result<u64, RpcError> {
        let count: U64 = self
            .request("eth_getTransactionCount", json!([account, "latest"]))
            .await?;
        Ok(count.to())
    }

    /// The usual tip.
    pub(crate) async fn tip(&self) -> Result<U256, RpcError> {
        self.request("eth_maxPriorityFeePerGas", json!([])).await
    }
}

fn seen(head: &Head) -> Seen {
    Seen {
        number: head.number.to(),
        timestamp: head.timestamp.to(),
    }
}

/// Servers write the same receipt in more or fewer words.
impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        let place = |receipt: &Self| {
            (
                receipt.transaction_hash,
                receipt.block_hash,
                receipt.block_number,
                receipt.status,
            )
        };
        let logs = |receipt: &Self| -> Vec<(Address, LogData)> {
            let logs = receipt.logs.iter();
            logs.map(|log| (log.address(), log.inner.data.clone()))
                .collect()
        };
        place(self) == place(other) && logs(self) == logs(other)
    }
}
