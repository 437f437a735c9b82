//! What a client is told of as it happens, over its WebSocket.
//!
//! Pure: news comes in, messages go out. What a subscription finds is what it
//! would have asked for: heads, logs and transactions look as the methods of
//! [`super::reads`] give them. Told is what is on disk, in its order. What
//! `evm_revert` takes back is not told.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::U64;
use alloy::rpc::types::Filter;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::RpcError;
use super::reads::check_filter;
use super::request::Params;
use super::{Answer, answers, json};
use crate::block::Block;
use crate::history::logs_of;
use crate::pool::Signed;

/// Subscriptions of one connection at once.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 64;

/// Something that happened to the chain.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A transaction was taken.
    Waiting(Signed),
    /// A block was made.
    Block(Arc<Block>),
}

#[derive(Debug)]
enum Interest {
    Heads,
    Logs(Box<Filter>),
    Transactions { whole: bool },
}

/// What one connection wants to be told.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    interests: BTreeMap<u64, Interest>,
    given: u64,
}

impl Subscriptions {
    /// Answers a request to begin or to end one; `None` if it is none.
    pub(crate) fn answer(&mut self, method: &str, params: Option<&RawValue>) -> Option<Answer> {
        Some(match method {
            "eth_subscribe" => self.subscribe(params),
            "eth_unsubscribe" => self.unsubscribe(params),
            _ => return None,
        })
    }

    /// The messages that tell of `news`, each made when it is asked for.
    pub(crate) fn told<'a>(&'a self, news: &'a News) -> impl Iterator<Item = String> + 'a {
        let each = self.interests.iter();
        each.flat_map(move |(id, interest)| interest.messages(*id, news))
    }

    fn subscribe(&mut self, params: Option<&RawValue>) -> Answer {
        let mut params = Params::parse(params)?;
        let kind: String = params.required("subscription")?;
        let interest = match kind.as_str() {
            "newHeads" => Interest::Heads,
            "logs" => {
                let filter: Filter = params.optional("filter")?.unwrap_or_default();
                check_filter(&filter)?;
                Interest::Logs(Box::new(filter))
            }
            "newPendingTransactions" => {
                let whole = params.optional("whole transactions")?.unwrap_or(false);
                Interest::Transactions { whole }
            }
            _ => {
                return Err(RpcError::Param {
                    index: 0,
                    name: "subscription",
                    why: "there are newHeads, logs and newPendingTransactions".to_owned(),
                });
            }
        };
        if self.interests.len() >= SUBSCRIPTIONS_MAX {
            return Err(RpcError::Limit {
                what: "the number of this connection's subscriptions",
                got: SUBSCRIPTIONS_MAX as u64 + 1,
                limit: SUBSCRIPTIONS_MAX as u64,
            });
        }
        self.given += 1;
        self.interests.insert(self.given, interest);
        json(U64::from(self.given))
    }

    fn unsubscribe(&mut self, params: Option<&RawValue>) -> Answer {
        let id: U64 = Params::parse(params)?.required("subscription id")?;
        if self.interests.remove(&id.to()).is_none() {
            return Err(RpcError::UnknownSubscription);
        }
        json(true)
    }
}

impl Interest {
    fn messages(&self, id: u64, news: &News) -> Vec<String> {
        match (self, news) {
            (Self::Heads, News::Block(block)) => {
                vec![message(id, answers::block(block, false).header)]
            }
            (Self::Logs(filter), News::Block(block))
                if filter.matches_bloom(block.header.logs_bloom) =>
            {
                let all = block.transactions.iter().enumerate();
                let all = all.flat_map(|(index, mined)| logs_of(block, index, mined));
                all.filter(|log| filter.matches(&log.inner))
                    .map(|log| message(id, log))
                    .collect()
            }
            (Self::Transactions { whole: true }, News::Waiting(tx)) => {
                vec![message(id, answers::waiting(tx))]
            }
            (Self::Transactions { whole: false }, News::Waiting(tx)) => {
                vec![message(id, tx.tx_hash())]
            }
            _ => Vec::new(),
        }
    }
}

/// One notification as text.
fn message(id: u64, result: impl Serialize) -> String {
    #[derive(Serialize)]
    struct Notification<T> {
        jsonrpc: &'static str,
        method: &'static str,
        params: Told<T>,
    }
    #[derive(Serialize)]
    struct Told<T> {
        subscription: U64,
        result: T,
    }
    let notification = Notification {
        jsonrpc: "2.0",
        method: "eth_subscription",
        params: Told {
            subscription: U64::from(id),
            result,
        },
    };
    serde_json::to_string(&notification).unwrap_or_default()
}
