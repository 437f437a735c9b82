//! What a relay is asked, and what it tells: descriptions and load digests of all
//! registered nodes, so that nothing shows which of them matter.

use std::collections::BTreeMap;

use bytes::Bytes;
use market::{Address, B256, LOAD_BYTES_MAX, LoadBook};
use transport::describe::DescribeError;
use transport::message::{FromRelay, Hello, MAX_LOADS, RelayRefusal};
use transport::{Node, NodeAddr, OpenError, ReceiveError, SendError};

use crate::paths::PathError;

/// The longest message with some of them.
const LOADS_FRAME_BYTES: usize = MAX_LOADS * (LOAD_BYTES_MAX + 2) + 16;

/// The most that a relay's descriptions may come to.
const TOLD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a guard told, word for word.
pub(crate) type Told = BTreeMap<Address, Bytes>;

/// Why a relay told nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TellError {
    #[error("it does not say that it is a relay")]
    NoRelay,
    #[error("it took too long")]
    Late,
    #[error("it spoke out of turn")]
    OutOfTurn,
    #[error("it told more than anybody needs")]
    TooMuch,
    #[error(transparent)]
    Describe(#[from] DescribeError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

impl TellError {
    /// Whether it only said that it is busy.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Receive(error) if is_busy(error))
    }
}

/// Whether a relay said that it is busy.
pub(crate) fn is_busy(error: &ReceiveError) -> bool {
    matches!(error, ReceiveError::Relay(RelayRefusal::Busy))
}

/// Asks a relay for what it knows; none: what it told before, named by `known`,
/// still stands.
pub(crate) async fn ask(
    node: &Node,
    relay: &NodeAddr,
    known: Option<B256>,
) -> Result<Option<(Told, B256)>, TellError> {
    let mut stream = node.open(relay).await?;
    stream.send.send(&Hello::Describe { known }).await?;
    stream.send.finish().await?;
    let (mut told, mut bytes) = (Told::new(), 0);
    loop {
        match stream.receive.receive::<FromRelay>().await? {
            Some(FromRelay::Described(part)) => {
                bytes += part.iter().map(|one| one.text.len()).sum::<usize>();
                if bytes > TOLD_BYTES_MAX {
                    return Err(TellError::TooMuch);
                }
                told.extend(part.into_iter().map(|one| (one.account, one.text)));
            }
            Some(FromRelay::Complete { digest }) => return Ok(Some((told, digest))),
            Some(FromRelay::Unchanged) if known.is_some() => return Ok(None),
            Some(FromRelay::Refused(refusal)) => return Err(ReceiveError::Relay(refusal).into()),
            _ => return Err(TellError::OutOfTurn),
        }
    }
}

/// Asks a relay for all load digests.
pub(crate) async fn ask_loads(node: &Node, relay: &NodeAddr) -> Result<Vec<Bytes>, TellError> {
    let mut stream = node.open(relay).await?;
    stream.send.send(&Hello::Loads).await?;
    stream.send.finish().await?;
    stream.receive.limit(LOADS_FRAME_BYTES);
    let mut loads = Vec::new();
    loop {
        match stream.receive.receive::<FromRelay>().await? {
            Some(FromRelay::Loads(part)) => loads.extend(part),
            Some(FromRelay::Refused(refusal)) => return Err(ReceiveError::Relay(refusal).into()),
            None => return Ok(loads),
            Some(_) => return Err(TellError::OutOfTurn),
        }
        if loads.len() > LoadBook::PROVIDERS_MAX {
            return Err(TellError::TooMuch);
        }
    }
}
