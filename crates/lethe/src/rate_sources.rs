//! What tokens are worth now: as the user says, or as a price feed or a pool on
//! the chain does, read again and again. What is believed of a reading is
//! decided in `market`; here it is read, published, and said when it fails.

use std::time::Duration;

use chain::{EvmLedger, POOL_WINDOW_MAX_S, POOL_WINDOW_MIN_S, RateError, Token};
use market::{
    Address, PoolSide, RateBook, RateFault, RateReading, RateRule, Timestamp, UsdRate, UsdRates,
};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cli::token::{Rated, Said};
use crate::clock;
use crate::output;
use crate::tokens::{self, TokenError};

/// Between two readings of the chain.
const EVERY: Duration = Duration::from_secs(60);
/// The longest that one source is waited for.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// The last good reading is shown so much longer than it is fresh.
const KEPT_S: u64 = 3_600;
/// The oldest mean of a pool that is taken, behind the chain's head.
const POOL_FRESH_S: u64 = 300;
/// From one reading to the next no price is believed to change by more than this factor.
const JUMP_MAX: u64 = 3;
/// Rates of one node.
const RATES_MAX: usize = 16;

/// Why there are no rates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RatesError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("--usd-rate for {symbol} cannot be read")]
    Source {
        symbol: String,
        #[source]
        source: RateError,
    },
    #[error(
        "--usd-rate: pool {pool} prices {symbol} in token {other}, and nobody says what that is worth, or \
         only another pool; say it with --usd-rate {other}=…, as dollars or by a feed"
    )]
    Through {
        symbol: String,
        pool: Address,
        other: Address,
    },
    #[error("--usd-rate names {symbol} twice; say it once")]
    Twice { symbol: String },
    #[error("--usd-rate is given {given} times, allowed is {RATES_MAX} times at most")]
    Many { given: usize },
}

/// A token, and who says what it is worth.
struct Watched {
    token: Token,
    source: Source,
    /// Why it could not be read last, so that it is said once.
    problem: Option<String>,
}

enum Source {
    Fixed(UsdRate),
    Feed {
        feed: Address,
        book: RateBook,
    },
    Pool {
        pool: Address,
        window_s: u32,
        is_first: bool,
        other: Address,
        book: RateBook,
    },
}

/// All rates of a node, and their readers.
pub(crate) struct RateSources {
    ledger: EvmLedger,
    watched: Vec<Watched>,
    told: watch::Sender<UsdRates>,
}

impl RateSources {
    /// As the flags say; sources on the chain are read once. What is no feed and no pool is an error; what only
    /// says nothing believable now may do so later.
    pub(crate) async fn start(ledger: EvmLedger, rated: &[Rated]) -> Result<Self, RatesError> {
        if rated.len() > RATES_MAX {
            let given = rated.len();
            return Err(RatesError::Many { given });
        }
        let mut watched: Vec<Watched> = Vec::with_capacity(rated.len());
        for rated in rated {
            let token = tokens::named(&ledger, "--usd-rate", &rated.token).await?;
            if watched
                .iter()
                .any(|other| other.token.address == token.address)
            {
                let symbol = token.symbol;
                return Err(RatesError::Twice { symbol });
            }
            let source = source(&ledger, &token, &rated.said).await;
            let source = source.map_err(|source| RatesError::Source {
                symbol: token.symbol.clone(),
                source,
            })?;
            watched.push(Watched {
                token,
                source,
                problem: None,
            });
        }
        let is_priced = |token| {
            let mut priced = watched
                .iter()
                .filter(|one| !matches!(one.source, Source::Pool { .. }));
            priced.any(|one| one.token.address == token)
        };
        for one in &watched {
            if let Source::Pool { pool, other, .. } = one.source
                && !is_priced(other)
            {
                let symbol = one.token.symbol.clone();
                return Err(RatesError::Through {
                    symbol,
                    pool,
                    other,
                });
            }
        }
        // Who is priced in another one comes after it.
        watched.sort_by_key(|one| matches!(one.source, Source::Pool { .. }));
        let mut rates = Self {
            ledger,
            watched,
            told: watch::Sender::default(),
        };
        rates.read().await;
        Ok(rates)
    }

    /// What the tokens are worth, now and later.
    pub(crate) fn receiver(&self) -> watch::Receiver<UsdRates> {
        self.told.subscribe()
    }

    /// Whether somebody is to say what a token is worth, even if not now.
    pub(crate) fn is_rated(&self, token: Address) -> bool {
        self.watched.iter().any(|one| one.token.address == token)
    }

    /// Reads the chain until it is told to stop.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let is_fixed = |one: &Watched| matches!(one.source, Source::Fixed(_));
        if self.watched.iter().all(is_fixed) {
            // Nothing to read; who listens hears nothing more.
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => self.read().await,
            }
        }
    }

    /// One look at every source.
    async fn read(&mut self) {
        let clock = clock::wall();
        let mut rates: Vec<UsdRate> = Vec::with_capacity(self.watched.len());
        for one in &mut self.watched {
            let reading = timeout(
                READ_WITHIN,
                one.source.read(&self.ledger, &one.token, &rates),
            );
            let problem = match reading.await {
                Ok(Ok(reading)) => one
                    .source
                    .believe(reading, clock())
                    .map(|fault| fault.to_string()),
                Ok(Err(error)) => Some(output::with_causes(&error)),
                Err(_) => Some(format!("no answer within {} s", READ_WITHIN.as_secs())),
            };
            if one.problem != problem {
                if let Some(problem) = &problem {
                    let symbol = &one.token.symbol;
                    warn!(symbol, problem, "what a token is worth could not be read");
                }
                one.problem = problem;
            }
            rates.extend(one.known(clock(), &rates));
        }
        let rates = UsdRates::new(rates);
        self.told.send_if_modified(|told| {
            let is_other = *told != rates;
            if is_other {
                *told = rates;
            }
            is_other
        });
    }
}

/// The source that a flag names, if it is one.
async fn source(ledger: &EvmLedger, token: &Token, said: &Said) -> Result<Source, RateError> {
    let book = |fresh_for_s: u64| {
        RateBook::new(RateRule {
            fresh_for_s,
            kept_for_s: fresh_for_s.saturating_add(KEPT_S),
            jump_max: JUMP_MAX,
        })
    };
    match said {
        Said::Fixed { micro_usd, source } => Ok(Source::Fixed(UsdRate {
            token: token.address,
            decimals: token.decimals,
            micro_usd: *micro_usd,
            source: source.clone(),
            at: None,
        })),
        Said::Feed { feed, fresh_for_s } => match ledger.feed(*feed).await {
            Err(error @ RateError::NoFeed { .. }) => Err(error),
            _ => Ok(Source::Feed {
                feed: *feed,
                book: book(*fresh_for_s),
            }),
        },
        Said::Pool { pool, window_s } => {
            let tokens = ledger.pool_tokens(*pool, token.address).await?;
            Ok(Source::Pool {
                pool: *pool,
                window_s: (*window_s).clamp(POOL_WINDOW_MIN_S, POOL_WINDOW_MAX_S),
                is_first: tokens.is_first,
                other: tokens.other,
                book: book(POOL_FRESH_S),
            })
        }
    }
}

impl Source {
    /// None: there is nothing to read, or not now.
    async fn read(
        &self,
        ledger: &EvmLedger,
        token: &Token,
        known: &[UsdRate],
    ) -> Result<Option<RateReading>, RateError> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::Feed { feed, .. } => ledger.feed(*feed).await.map(Some),
            Self::Pool {
                pool,
                window_s,
                is_first,
                other,
                ..
            } => {
                let Some(other) = known.iter().find(|rate| rate.token == *other) else {
                    return Ok(None);
                };
                let side = PoolSide {
                    is_first: *is_first,
                    decimals: token.decimals,
                    other_decimals: other.decimals,
                    other_micro_usd: other.micro_usd,
                };
                ledger.pool(*pool, *window_s, &side).await.map(Some)
            }
        }
    }

    /// Why a reading is not believed, if it is not.
    fn believe(&mut self, reading: Option<RateReading>, now: Timestamp) -> Option<RateFault> {
        let reading = reading?;
        match self {
            Self::Fixed(_) => None,
            Self::Feed { book, .. } | Self::Pool { book, .. } => book.read(reading, now).err(),
        }
    }
}

impl Watched {
    /// What it is worth, as far as somebody said so that is believed; in a pool by the rates of others.
    fn known(&self, now: Timestamp, others: &[UsdRate]) -> Option<UsdRate> {
        let (reading, source) = match &self.source {
            Source::Fixed(rate) => return Some(rate.clone()),
            Source::Feed { feed, book } => (book.known(now)?, format!("price feed {feed}")),
            Source::Pool {
                pool,
                window_s,
                other,
                book,
                ..
            } => {
                let reading = book.known(now)?;
                // Of what it is priced in nobody says the worth any more.
                let other = others.iter().find(|rate| rate.token == *other)?;
                let at = other.at.map_or(reading.at, |at| at.min(reading.at));
                let source = format!("pool {pool}, mean of {window_s} s, times {}", other.source);
                (RateReading { at, ..reading }, source)
            }
        };
        Some(UsdRate {
            token: self.token.address,
            decimals: self.token.decimals,
            micro_usd: reading.micro_usd,
            source,
            at: Some(reading.at),
        })
    }
}
