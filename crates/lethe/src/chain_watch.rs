//! Whether the machine's clock and the chain's server are what the node takes
//! them for: looked at when it starts and every half a minute after, and told
//! in the log, at `/readyz` and by `lethe where`.
//!
//! A clock that is wrong makes quotes, keys and delays look expired. A chain
//! that was begun anew under a node has none of its channels. Neither is an
//! error of any single request, so nobody would name it there.

use std::sync::Arc;
use std::time::Duration;

use chain::{EvmLedger, REORG_MAX};
use gateway::Notice;
use market::{B256, LedgerError, Timestamp};
use store::{Entry, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock;

/// The clock may be so far from the chain's time, either way. Quotes are good
/// for ten minutes, the shortest delay of a channel is fifteen.
pub(crate) const CLOCK_OFF_MAX_S: u64 = 300;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The journal that remembers which chain it was.
pub(crate) const JOURNAL: &str = "chain";
/// Its kind of entry: the key is the chain's id, the payload its first block.
pub(crate) const FIRST_BLOCK: &str = "first-block";

/// Why the chain is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainIdentityError {
    #[error(
        "the chain is not the one that this data folder was used with: its first block is {found}, it was {known}. \
         If this is another chain, give the right one with --rpc-url. If it was begun anew, \
         what the folder had on it is gone: `lethe reset --data DIR` deletes those books of a demonstration, or choose \
         another folder with --data DIR"
    )]
    Other { found: B256, known: B256 },
    #[error("the journal does not say which chain it belongs to")]
    Load(#[from] store::LoadError),
    #[error("the journal does not take which chain it belongs to")]
    Append(#[from] store::AppendError),
}

/// Refuses a chain that is another one than before; remembers the first.
pub(crate) async fn is_the_same(
    store: &Store,
    ledger: &EvmLedger,
) -> Result<(), ChainIdentityError> {
    let Some(found) = first_block(ledger).await else {
        return Ok(());
    };
    let chain_id = ledger.network().chain_id;
    match first_known(store, chain_id).await? {
        Some(known) => compare(found, known),
        None => {
            let entry = Entry {
                kind: FIRST_BLOCK.to_owned(),
                key: Some(chain_id.to_string()),
                payload: found.to_string().into_bytes(),
            };
            store.journal(JOURNAL).append(vec![entry]).await?;
            Ok(())
        }
    }
}

/// Refuses a chain that is another one than these books know; nothing is written.
pub(crate) async fn is_no_other(
    store: &Store,
    chain_id: u64,
    found: B256,
) -> Result<(), ChainIdentityError> {
    match first_known(store, chain_id).await? {
        Some(known) => compare(found, known),
        None => Ok(()),
    }
}

/// The chain's first block. Not every server has it: who does not say, is not compared.
pub(crate) async fn first_block(ledger: &EvmLedger) -> Option<B256> {
    match ledger.first_block().await {
        Ok(found) => found,
        Err(error) => {
            debug!(%error, "the first block is not told");
            None
        }
    }
}

fn compare(found: B256, known: B256) -> Result<(), ChainIdentityError> {
    match found == known {
        true => Ok(()),
        false => Err(ChainIdentityError::Other { found, known }),
    }
}

/// The first block of the chain of this id that a journal was used with.
async fn first_known(store: &Store, chain_id: u64) -> Result<Option<B256>, store::LoadError> {
    let journal = store.journal(JOURNAL);
    let known = journal.find(FIRST_BLOCK, &chain_id.to_string()).await?;
    Ok(known.and_then(|entry| String::from_utf8(entry.payload).ok()?.parse().ok()))
}

/// The chains that a journal was used with, by their ids; those that did not
/// tell their first block are not in there.
pub(crate) async fn known(store: &Store) -> Result<Vec<String>, store::LoadError> {
    /// More chains than anybody has used one folder with.
    const CHAINS_MAX: usize = 64;
    let entries = store
        .journal(JOURNAL)
        .recent(FIRST_BLOCK, CHAINS_MAX)
        .await?;
    Ok(entries.into_iter().filter_map(|entry| entry.key).collect())
}

/// What was seen of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    first: Option<B256>,
    head: u64,
    /// The time of its latest block; where blocks are made only on demand, of
    /// the one that would come now.
    time: Timestamp,
}

async fn see(ledger: &EvmLedger) -> Result<Seen, LedgerError> {
    Ok(Seen {
        first: ledger.first_block().await?,
        head: ledger.block_number().await?,
        time: ledger.time_there().await?,
    })
}

/// What is wrong with the clock, if something is.
pub(crate) fn clock_problem(here: Timestamp, there: Timestamp) -> Option<String> {
    let (off, word) = match here >= there {
        true => (here.since_s(there), "ahead of"),
        false => (there.since_s(here), "behind"),
    };
    (off > CLOCK_OFF_MAX_S).then(|| {
        format!(
            "this machine's clock is {off} s {word} the chain's time (allowed: {CLOCK_OFF_MAX_S} s): \
             set the clock (`timedatectl set-ntp true`); if it is right, the server of --rpc-url is behind: name another"
        )
    })
}

/// What is wrong, compared with what was seen before.
fn notices(before: &Seen, seen: &Seen, here: Timestamp) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let (Some(known), Some(found)) = (before.first, seen.first)
        && known != found
    {
        notices.push(Notice {
            text: format!(
                "the chain was begun anew under this node: its first block is {found}, it was {known}; \
                 stop the node, and start it with another --data DIR or with the right --rpc-url"
            ),
            stops: true,
        });
    }
    if seen.head + REORG_MAX < before.head {
        notices.push(Notice {
            text: format!(
                "the chain's server is at block {}, it had {}: it is behind, or the chain was set back; \
                 name another server with --rpc-url",
                seen.head, before.head
            ),
            stops: false,
        });
    }
    notices.extend(clock_problem(here, seen.time).map(|text| Notice { text, stops: false }));
    notices
}

/// What is wrong with the clock now; nothing, if the chain does not say.
pub(crate) async fn warnings(ledger: &EvmLedger) -> Vec<String> {
    match ledger.time_there().await {
        Ok(there) => clock_problem(clock::now(), there).into_iter().collect(),
        Err(error) => {
            debug!(%error, "the chain's time is not told");
            Vec::new()
        }
    }
}

/// Looks until `stop`, and tells what has come to be wrong.
pub(crate) async fn keep(
    ledger: EvmLedger,
    told: watch::Sender<Vec<Notice>>,
    stop: CancellationToken,
) {
    let mut before: Option<Seen> = None;
    loop {
        match see(&ledger).await {
            Ok(seen) => {
                let first = *before.get_or_insert(seen);
                let now = notices(&first, &seen, clock::now());
                tell(&told, now);
                before = Some(Seen {
                    head: first.head.max(seen.head),
                    ..first
                });
            }
            Err(error) => {
                debug!(%error, "the chain is not looked at");
                tell(&told, vec![silence(&ledger.servers())]);
            }
        }
        let wait = tokio::time::sleep(LOOK_EVERY);
        if stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// Tells these, and logs those that are new.
fn tell(told: &watch::Sender<Vec<Notice>>, now: Vec<Notice>) {
    told.send_if_modified(|told| {
        let is_new = |notice: &&Notice| !told.iter().any(|old| alike(old, notice));
        for notice in now.iter().filter(is_new) {
            warn!("{}", notice.text);
        }
        let changed = *told != now;
        *told = now;
        changed
    });
}

/// What it means that none of these servers answers: what runs goes on with the money that is
/// in its channels.
fn silence(servers: &[Arc<str>]) -> Notice {
    let text = format!(
        "the chain does not answer at {}: no channel is opened, filled or settled until it does; is its server running \
         (`lethe chain`, or the `lethe up` that it is of)?",
        servers.join(", ")
    );
    Notice { text, stops: false }
}

/// Whether both tell the same, but for the numbers in it.
fn alike(one: &Notice, other: &Notice) -> bool {
    let beginning = |notice: &Notice| notice.text.chars().take(20).collect::<String>();
    beginning(one) == beginning(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn seen(first: u8, head: u64, time: u64) -> Seen {
        Seen {
            first: Some(B256::repeat_byte(first)),
            head,
            time: Timestamp(time),
        }
    }

    fn told(before: Seen, now: Seen) -> Vec<(String, bool)> {
        let notices = notices(&before, &now, NOW).into_iter();
        notices.map(|notice| (notice.text, notice.stops)).collect()
    }

    #[test]
    fn a_clock_within_its_limit_is_right() {
        for time in [NOW.0 - CLOCK_OFF_MAX_S, NOW.0, NOW.0 + CLOCK_OFF_MAX_S] {
            assert_eq!(clock_problem(NOW, Timestamp(time)), None, "{time}");
        }
    }

    #[test]
    fn a_wrong_clock_is_named_with_how_far_and_what_to_do() {
        let late = clock_problem(NOW, Timestamp(NOW.0 + 301)).unwrap();
        assert!(
            late.contains("301 s behind") && late.contains("set the clock"),
            "{late}"
        );
        let early = clock_problem(NOW, Timestamp(NOW.0 - 4_000)).unwrap();
        assert!(early.contains("4000 s ahead of"), "{early}");
    }

    #[test]
    fn a_silent_chain_is_named_once_and_taken_back() {
        let (told, seen) = watch::channel(Vec::new());
        tell(&told, vec![silence(&["http://a:1".into()])]);
        let text = seen.borrow()[0].text.clone();
        assert!(
            text.contains("at http://a:1:") && text.contains("`lethe chain`"),
            "{text}"
        );
        assert!(!seen.borrow()[0].stops);
        tell(&told, vec![]);
        assert!(seen.borrow().is_empty());
    }

    #[test]
    fn a_chain_that_was_begun_anew_or_set_back_is_noticed() {
        let before = seen(1, 500, NOW.0);
        assert_eq!(told(before, seen(1, 500 - REORG_MAX, NOW.0)), []);
        let anew = told(before, seen(2, 3, NOW.0));
        assert!(anew[0].1 && anew[0].0.contains("begun anew"), "{anew:?}");
        let back = told(before, seen(1, 499 - REORG_MAX, NOW.0));
        assert!(!back[0].1 && back[0].0.contains("it had 500"), "{back:?}");
        let silent = Seen {
            first: None,
            ..seen(1, 600, NOW.0)
        };
        assert_eq!(told(before, silent), []);
    }
}
