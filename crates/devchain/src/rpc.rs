//! What is asked over JSON-RPC and what is answered: a table from method names
//! to the chain. No sockets here; [`Node::answer`] is a plain method, called by
//! the thread that owns the chain.

pub(crate) mod answers;
pub(crate) mod call;
pub(crate) mod cheats;
pub(crate) mod error;
pub(crate) mod fees;
pub(crate) mod filters;
pub(crate) mod reads;
pub(crate) mod request;
pub(crate) mod subscriptions;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::chain::Chain;
use error::RpcError;
use filters::Filters;
use request::Params;

/// An answer, already as JSON.
pub(crate) type Answer = Result<Box<RawValue>, RpcError>;

/// The chain and what its clients left with it.
pub(crate) struct Node {
    pub(crate) chain: Chain,
    pub(crate) filters: Filters,
    /// Whether `evm_*` and the like exist.
    pub(crate) cheats: bool,
}

impl Node {
    /// Answers one request; `clock` is the present time in Unix seconds.
    pub(crate) fn answer(&mut self, method: &str, params: Option<&RawValue>, clock: u64) -> Answer {
        let mut params = Params::parse(params)?;
        let known = match self.read(method, &mut params, clock) {
            None => self.ask_fees(method, &mut params),
            answered => answered,
        };
        let known = match known {
            None => self.submit_or_filter(method, &mut params, clock),
            answered => answered,
        };
        let known = match known {
            None if self.cheats => self.cheat(method, &mut params, clock),
            answered => answered,
        };
        known.unwrap_or_else(|| {
            Err(RpcError::Method {
                method: shortened(method),
            })
        })
    }
}

/// A result as JSON.
pub(crate) fn json<T: Serialize>(value: T) -> Answer {
    to_raw_value(&value).map_err(|error| RpcError::Internal(error.to_string()))
}

/// A method's name may be megabytes of rubbish; an error shows its beginning.
fn shortened(method: &str) -> String {
    const SHOWN: usize = 64;
    method.chars().take(SHOWN).collect()
}
