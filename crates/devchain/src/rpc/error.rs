//! The one place that turns what went wrong into a JSON-RPC error.
//!
//! Codes and texts are geth's where geth has one, because wallets and libraries
//! match on them.

use alloy::primitives::{B256, Bytes};
use alloy::sol_types::{Panic, Revert, SolError};
use serde::{Serialize, Serializer};

use crate::admission::Refusal;
use crate::evm::ExecuteError;
use crate::history::{LOGS_BYTES_MAX, LOGS_MAX, TooManyLogs};
use crate::past::STATES_KEPT;
use revm::context::result::{HaltReason, InvalidTransaction, OutOfGasError};

/// Why a request was not answered with a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The body isn't JSON.
    #[error("parse error: {0}")]
    Parse(String),
    /// The body is JSON but no request.
    #[error("invalid request: {0}")]
    Request(String),
    /// There is no such method (or it is a cheat and those are off).
    #[error("the method {method} does not exist/is not available")]
    Method {
        /// What was asked for.
        method: String,
    },
    /// An argument is missing.
    #[error("missing value for required argument {index} ({name})")]
    MissingParam {
        /// Counted from 0.
        index: usize,
        /// What it means.
        name: &'static str,
    },
    /// An argument can't be read.
    #[error("invalid argument {index} ({name}): {why}")]
    Param {
        /// Counted from 0.
        index: usize,
        /// What it means.
        name: &'static str,
        /// What is wrong and what is allowed.
        why: String,
    },
    /// More was asked than one answer may hold.
    #[error("{what} is {got}, at most {limit} is allowed")]
    Limit {
        /// What is too much.
        what: &'static str,
        /// How much it is.
        got: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// A log query matches too much.
    #[error(
        "query returned more than {LOGS_MAX} results or {LOGS_BYTES_MAX} bytes: ask for fewer blocks at once (the limit was reached at block {reached})"
    )]
    Logs {
        /// Where it was full.
        reached: u64,
    },
    /// The block is not (yet) on the chain.
    #[error("header not found: {asked} is not on this chain, whose latest block is {latest}")]
    UnknownBlock {
        /// What was asked for.
        asked: String,
        /// The newest block.
        latest: u64,
    },
    /// The state of an older block is gone.
    #[error(
        "the state at {asked} is no longer kept: ask at one of the {STATES_KEPT} before the latest, or at \"latest\" (block {latest})"
    )]
    HistoricalState {
        /// What was asked for.
        asked: String,
        /// The newest block.
        latest: u64,
    },
    /// There is no such filter (any more).
    #[error("filter not found")]
    UnknownFilter,
    /// There is no such subscription (any more).
    #[error("subscription not found")]
    UnknownSubscription,
    /// A subscription was asked for where nothing can be told later.
    #[error(
        "notifications not supported here: subscribe over a WebSocket, in a request of its own"
    )]
    NoSubscriptions,
    /// The transaction is not taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A call would not even start.
    #[error("{0}")]
    Unexecutable(String),
    /// A call or an estimate reverted.
    #[error("execution reverted{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Reverted {
        /// The contract's words, if it gave some.
        reason: Option<String>,
        /// The bytes that it returned.
        data: Bytes,
    },
    /// A call or an estimate failed without returning anything.
    #[error("{0}")]
    Halted(&'static str),
    /// No gas limit within what is allowed is enough.
    #[error("gas required exceeds allowance ({allowance})")]
    Allowance {
        /// The most that was tried.
        allowance: u64,
    },
    /// What was done can't be made durable; nothing more is served.
    #[error(
        "the chain's log cannot be written ({why}): free space or repair the disk, then start again; what was acknowledged is safe"
    )]
    NotDurable {
        /// The system's words.
        why: String,
    },
    /// The chain has stopped.
    #[error("the chain has stopped")]
    Stopped,
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RpcError {
    /// The JSON-RPC code.
    pub fn code(&self) -> i64 {
        match self {
            Self::Parse(_) => -32700,
            Self::Request(_) => -32600,
            Self::Method { .. } | Self::NoSubscriptions => -32601,
            Self::MissingParam { .. } | Self::Param { .. } => -32602,
            Self::Limit { .. } | Self::Logs { .. } => -32005,
            Self::UnknownBlock { .. }
            | Self::HistoricalState { .. }
            | Self::UnknownFilter
            | Self::UnknownSubscription
            | Self::Refused(_)
            | Self::Unexecutable(_)
            | Self::Halted(_)
            | Self::Allowance { .. } => -32000,
            Self::Reverted { .. } => 3,
            Self::NotDurable { .. } | Self::Stopped | Self::Internal(_) => -32603,
        }
    }

    /// The bytes that go with it.
    pub fn data(&self) -> Option<&Bytes> {
        match self {
            Self::Reverted { data, .. } => Some(data),
            _ => None,
        }
    }

    /// A revert with the reason read from its data.
    pub(crate) fn reverted(data: Bytes) -> Self {
        let revert = Revert::abi_decode(&data).map(|revert| revert.reason).ok();
        let panic = || Panic::abi_decode(&data).ok().map(|panic| panic.to_string());
        Self::Reverted {
            reason: revert.or_else(panic),
            data,
        }
    }

    /// An execution that ended badly, in geth's words.
    pub(crate) fn halted(reason: &HaltReason) -> Self {
        Self::Halted(match reason {
            HaltReason::OutOfGas(OutOfGasError::ReentrancySentry) => {
                "not enough gas for reentrancy sentry"
            }
            HaltReason::OutOfGas(_) => "out of gas",
            HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode",
            HaltReason::InvalidFEOpcode => "invalid opcode: INVALID",
            HaltReason::InvalidJump => "invalid jump destination",
            HaltReason::StackUnderflow => "stack underflow",
            HaltReason::StackOverflow => "stack limit reached 1024",
            HaltReason::OutOfOffset => "return data out of bounds",
            HaltReason::CreateCollision => "contract address collision",
            HaltReason::PrecompileError | HaltReason::PrecompileErrorWithContext(_) => {
                "precompile failed"
            }
            HaltReason::NonceOverflow => "nonce uint64 overflow",
            HaltReason::CreateContractSizeLimit => "max code size exceeded",
            HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef",
            HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded",
            HaltReason::OverflowPayment | HaltReason::OutOfFunds => {
                "insufficient balance for transfer"
            }
            HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
                "write protection"
            }
            HaltReason::CallTooDeep => "max call depth exceeded",
        })
    }
}

impl From<ExecuteError> for RpcError {
    fn from(error: ExecuteError) -> Self {
        use InvalidTransaction as Invalid;
        Self::Unexecutable(match error {
            ExecuteError::Failed(why) => return Self::Internal(why),
            ExecuteError::Invalid(Invalid::LackOfFundForMaxFee { fee, balance }) => {
                format!("insufficient funds for gas * price + value: have {balance} want {fee}")
            }
            ExecuteError::Invalid(
                Invalid::CallGasCostMoreThanGasLimit {
                    initial_gas: least,
                    gas_limit,
                }
                | Invalid::GasFloorMoreThanGasLimit {
                    gas_floor: least,
                    gas_limit,
                },
            ) => format!("intrinsic gas too low: have {gas_limit}, want {least}"),
            ExecuteError::Invalid(Invalid::GasPriceLessThanBasefee) => {
                "max fee per gas less than block base fee".to_owned()
            }
            ExecuteError::Invalid(Invalid::PriorityFeeGreaterThanMaxFee) => {
                "max priority fee per gas higher than max fee per gas".to_owned()
            }
            ExecuteError::Invalid(Invalid::CreateInitCodeSizeLimit) => {
                "max initcode size exceeded".to_owned()
            }
            ExecuteError::Invalid(other) => other.to_string(),
        })
    }
}

impl From<TooManyLogs> for RpcError {
    fn from(TooManyLogs { reached }: TooManyLogs) -> Self {
        Self::Logs { reached }
    }
}

impl RpcError {
    pub(crate) fn unknown_hash(hash: B256, latest: u64) -> Self {
        Self::UnknownBlock {
            asked: format!("block {hash}"),
            latest,
        }
    }
}

impl Serialize for RpcError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            code: i64,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a Bytes>,
        }
        Wire {
            code: self.code(),
            message: self.to_string(),
            data: self.data(),
        }
        .serialize(serializer)
    }
}
