//! Events of the contracts from a cursor on, as the chain has them now.

use alloy::primitives::{B256, U64};
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use market::{Amount, ChannelId, LedgerError, Timestamp};
use serde_json::json;

use crate::bindings::Settlement;
use crate::cursor::{Cursor, Mark, News, TooDeep};
use crate::ledger::EvmLedger;
use crate::logs::{self, Query};
use crate::rpc::Rpc;

/// How often a reading is begun anew because the chain changed under it.
const READ_ATTEMPTS: u32 = 3;

/// A payer has started its way out of a channel: what is not claimed by then
/// is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithdrawStarted {
    /// Of which channel.
    pub channel: ChannelId,
    /// How much is to leave.
    pub amount: Amount,
    /// When it may leave.
    pub finalize_after: Timestamp,
    /// In which block it was started.
    pub block: u64,
}

/// Why logs were not read on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// As of any reading: later it may work.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The cursor is of no use any more.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
}

impl From<WatchError> for LedgerError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Ledger(error) => error,
            WatchError::TooDeep(error) => Self::Nonsense {
                problem: error.to_string(),
            },
        }
    }
}

impl EvmLedger {
    /// The withdrawals that were started since the cursor's last step, and
    /// those that a reorganisation took back. Moves the cursor; one reading is
    /// bounded, see [`News::at_head`].
    pub async fn withdrawals_started(
        &self,
        cursor: &mut Cursor,
    ) -> Result<News<WithdrawStarted>, WatchError> {
        let query = Query {
            addresses: &[self.network().settlement],
            topics: &[Settlement::WithdrawInitiated::SIGNATURE_HASH],
        };
        // The cursor moves only once all of it could be read.
        let mut moved = cursor.clone();
        let news = advance(self.rpc(), query, &mut moved).await?;
        let typed = |logs: &[Log]| logs.iter().map(started).collect::<Result<_, _>>();
        let news = News {
            fresh: typed(&news.fresh)?,
            retracted: typed(&news.retracted)?,
            at_head: news.at_head,
        };
        *cursor = moved;
        Ok(news)
    }
}

fn started(log: &Log) -> Result<WithdrawStarted, LedgerError> {
    let event = Settlement::WithdrawInitiated::decode_log(&log.inner).map_err(|error| {
        LedgerError::Nonsense {
            problem: format!("a log of a withdrawal cannot be read: {error}"),
        }
    })?;
    Ok(WithdrawStarted {
        channel: ChannelId(event.channelId),
        amount: Amount::new(event.amount),
        finalize_after: Timestamp(event.finalizeAfter.to()),
        block: log.block_number.unwrap_or_default(),
    })
}

/// One step of a cursor.
pub(crate) async fn advance(
    rpc: &Rpc,
    query: Query<'_>,
    cursor: &mut Cursor,
) -> Result<News<Log>, WatchError> {
    let before = cursor.clone();
    for _ in 0..READ_ATTEMPTS {
        cursor.clone_from(&before);
        if let Some(news) = try_advance(rpc, query, cursor).await? {
            return Ok(news);
        }
    }
    cursor.clone_from(&before);
    let nothing = News {
        fresh: Vec::new(),
        retracted: Vec::new(),
        at_head: false,
    };
    Ok(nothing)
}

/// None: the chain changed meanwhile.
async fn try_advance(
    rpc: &Rpc,
    query: Query<'_>,
    cursor: &mut Cursor,
) -> Result<Option<News<Log>>, WatchError> {
    let head = rpc.decided_head().await.map_err(LedgerError::from)?;
    let head = Mark {
        number: head.number.to(),
        hash: head.hash,
    };
    let newest = cursor.marks().next();
    if newest.is_some_and(|newest| newest.number > head.number) {
        // A server that is behind, or a chain that has not grown again yet.
        return Ok(Some(News {
            fresh: Vec::new(),
            retracted: Vec::new(),
            at_head: true,
        }));
    }
    let mut common = None;
    let marks: Vec<Mark> = cursor.marks().collect();
    for mark in marks {
        if block_hash(rpc, mark.number).await? == Some(mark.hash) {
            common = Some(mark);
            break;
        }
    }
    let doubted = cursor.go_back_to(common)?;
    let page = logs::read(rpc, query, cursor.next_block(), head.number).await?;
    let mut marks = Vec::new();
    for number in cursor.to_mark(page.next_block) {
        let Some(hash) = block_hash(rpc, number).await? else {
            return Ok(None);
        };
        marks.push(Mark { number, hash });
    }
    // The head that was there before and after: so all below it stood still.
    if block_hash(rpc, head.number).await? != Some(head.hash) {
        return Ok(None);
    }
    let (fresh, retracted) = cursor.advance(page.next_block, marks, page.logs, doubted);
    Ok(Some(News {
        fresh,
        retracted,
        at_head: page.next_block > head.number,
    }))
}

/// The hash of a block, as enough servers say; None: there is no such block.
pub(crate) async fn block_hash(rpc: &Rpc, number: u64) -> Result<Option<B256>, LedgerError> {
    let hash = rpc
        .decided("the hash of a block", move |endpoint, _| {
            Box::pin(async move {
                let params = json!([U64::from(number), false]);
                let head: Option<crate::rpc::Head> =
                    endpoint.request("eth_getBlockByNumber", params).await?;
                Ok(head.map(|head| head.hash))
            })
        })
        .await?;
    Ok(hash)
}
