//! What price feeds and pools on the chain say that a token is worth.
//!
//! Read as everything that decides something: enough servers must say the same
//! of the same block. What a reading comes to, and whether it is believed, is
//! decided in [`market`]; nothing is kept here.

use alloy::primitives::{Address, I256};
use alloy::sol;
use market::{
    LedgerError, PoolSide, RateFault, RateReading, Timestamp, feed_micro_usd, mean_tick,
    pool_micro_usd,
};

use crate::ledger::EvmLedger;
use crate::rpc::RpcError;

sol! {
    /// A price feed, as Chainlink's proxies are.
    interface Feed {
        function decimals() returns (uint8);
        function latestRoundData() returns (
            uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound
        );
    }

    /// A pool, as Uniswap's of version 3 are.
    interface Pool {
        function token0() returns (address);
        function token1() returns (address);
        function observe(uint32[] secondsAgos) returns (
            int56[] tickCumulatives, uint160[] secondsPerLiquidityCumulativeX128s
        );
    }
}

/// A price in a pool is a mean over so many seconds at least: that of a moment
/// is whatever somebody makes it for a moment.
pub const POOL_WINDOW_MIN_S: u32 = 60;
/// And at most so many; pools forget what is older.
pub const POOL_WINDOW_MAX_S: u32 = 86_400;

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RateError {
    /// The chain does not answer.
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
    /// It is no feed.
    #[error("{feed} is no price feed: it does not answer `latestRoundData` and `decimals`")]
    NoFeed {
        /// What was asked.
        feed: Address,
    },
    /// It is no pool of the token.
    #[error("{pool} is no pool of token {token}")]
    NoPool {
        /// What was asked.
        pool: Address,
        /// The token that it was to price.
        token: Address,
    },
    /// It does not know its price of so long ago.
    #[error("pool {pool} does not know its price of {window_s} s ago; ask for a shorter time")]
    Window {
        /// Which.
        pool: Address,
        /// Seconds.
        window_s: u32,
    },
    /// It says what makes no sense.
    #[error("{source_at}: {fault}")]
    Fault {
        /// Which contract.
        source_at: Address,
        /// What.
        fault: RateFault,
    },
}

impl From<RpcError> for RateError {
    fn from(error: RpcError) -> Self {
        Self::Ledger(error.into())
    }
}

/// What a feed says of a round.
#[derive(Debug, PartialEq)]
struct Round {
    answer: I256,
    decimals: u8,
    updated_at: u64,
}

/// A pool's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolTokens {
    /// The one that is priced is the first.
    pub is_first: bool,
    /// The other one.
    pub other: Address,
}

impl EvmLedger {
    /// What a feed says: dollars for one of what it is a feed of.
    pub async fn feed(&self, feed: Address) -> Result<RateReading, RateError> {
        let round = self.rpc().decided("a price feed", move |endpoint, at| {
            Box::pin(async move {
                let decimals = told(endpoint.view(feed, &Feed::decimalsCall {}, at).await)?;
                let round = told(endpoint.view(feed, &Feed::latestRoundDataCall {}, at).await)?;
                let both = decimals.zip(round);
                Ok(both.map(|(decimals, round)| Round {
                    answer: round.answer,
                    decimals,
                    updated_at: round.updatedAt.saturating_to(),
                }))
            })
        });
        let round = round.await?.ok_or(RateError::NoFeed { feed })?;
        let micro_usd = feed_micro_usd(round.answer, round.decimals);
        Ok(RateReading {
            micro_usd: micro_usd.map_err(|fault| RateError::Fault {
                source_at: feed,
                fault,
            })?,
            at: Timestamp(round.updated_at),
        })
    }

    /// The other token of a pool that prices this one.
    pub async fn pool_tokens(
        &self,
        pool: Address,
        token: Address,
    ) -> Result<PoolTokens, RateError> {
        let tokens = self.rpc().decided("a pool's tokens", move |endpoint, at| {
            Box::pin(async move {
                let first = told(endpoint.view(pool, &Pool::token0Call {}, at).await)?;
                let second = told(endpoint.view(pool, &Pool::token1Call {}, at).await)?;
                Ok(first.zip(second))
            })
        });
        match tokens.await? {
            Some((first, other)) if first == token => Ok(PoolTokens {
                is_first: true,
                other,
            }),
            Some((other, second)) if second == token => Ok(PoolTokens {
                is_first: false,
                other,
            }),
            _ => Err(RateError::NoPool { pool, token }),
        }
    }

    /// What a pool's mean price of the last `window_s` seconds comes to, if
    /// one of the other token is worth `other_micro_usd`.
    pub async fn pool(
        &self,
        pool: Address,
        window_s: u32,
        side: &PoolSide,
    ) -> Result<RateReading, RateError> {
        let sums = self.rpc().decided("a pool's price", move |endpoint, at| {
            Box::pin(async move {
                let call = Pool::observeCall {
                    secondsAgos: vec![window_s, 0],
                };
                let head = endpoint.head(at).await?;
                let said = told(endpoint.view(pool, &call, at).await)?;
                Ok(said.map(|said| {
                    let sums = said.tickCumulatives.iter();
                    let sums: Vec<i64> = sums.map(|sum| sum.as_i64()).collect();
                    (sums, Timestamp(head.timestamp.to()))
                }))
            })
        });
        let (sums, at) = sums.await?.ok_or(RateError::Window { pool, window_s })?;
        let tick = match sums.as_slice() {
            [then, now] => mean_tick([*then, *now], window_s),
            _ => None,
        };
        let micro_usd = tick
            .ok_or(RateFault::Range)
            .and_then(|tick| pool_micro_usd(tick, side));
        Ok(RateReading {
            micro_usd: micro_usd.map_err(|fault| RateError::Fault {
                source_at: pool,
                fault,
            })?,
            at,
        })
    }
}

/// None: the contract has no such answer.
fn told<T>(answer: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(RpcError::Reverted { .. } | RpcError::Malformed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
