//! All channels of this provider: found in the journal at the start, opened
//! when a consumer pays over a new one, and kept abreast of the chain.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{Stream, StreamExt, stream};
use market::{
    ChannelConfig, ChannelId, ChannelState, Domain, Durable, Earning, Ledger, LedgerError, Move,
    Receipt, TillEvent, Timestamp, read_json,
};
use store::{Journal, Line, LoadError, Loaded, Page, Scan, Store};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;
use transport::message::MAX_RECEIPTS;

use crate::payment::{CHANNEL, Channel, Opened, RECEIPTED, Reading, receipt_in, till_entry};
use crate::tasks::Tasks;

/// The journals of channels are named after them.
pub(crate) const PREFIX: &str = "till/";

/// Channels that are known at a time.
const CHANNELS_MAX: usize = 262_144;

/// Pages of journals that are replayed at a time, each on a thread.
const REPLAYS: usize = 4;

/// Pages that are read before a thread is free for them: a few megabytes, and
/// more than a commit takes.
const PAGES_AHEAD: usize = 12;

/// Channels whose cut answers are closed at a time: as many as share a commit.
const CLOSINGS: usize = 512;

/// One channel's escrow is not read more often than this, whatever a consumer sends.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// An escrow that is older than this is read again before the channel is used:
/// its payer may have begun to withdraw.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// While the chain does not answer, an escrow that was read so long ago is
/// still good: a payer's withdrawal takes at least three times as long
/// ([`market::WITHDRAW_DELAY_MIN_S`]), and claims are our own.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// Between two tries to read the chain when it does not answer.
const TRY_AFTER: Duration = Duration::from_secs(5);

/// Reads of the chain at a time.
const CHAIN_READS: usize = 8;

/// Reads of receipts at a time.
const RECEIPT_READS: usize = 2;

/// Empty channels that are remembered, so that naming them again costs us nothing.
const EMPTY_KEPT: usize = 1024;

/// Why a channel cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Ledger(#[from] LedgerError),
    /// There is no money in it.
    #[error("channel {channel} holds nothing: deposit first")]
    Empty {
        /// Which.
        channel: ChannelId,
    },
    /// Too many are known.
    #[error("the provider knows {CHANNELS_MAX} channels and takes no new ones")]
    TooMany,
}

/// Why the journal could not be brought back to life.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the provider's journal cannot be read")]
    Load(#[from] LoadError),
    /// It cannot be written.
    #[error("the provider's journal cannot be written")]
    Append(#[from] store::AppendError),
    /// An entry is not what this version writes.
    #[error("journal {journal} holds an entry that is not understood")]
    Entry {
        /// Which journal.
        journal: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It does not say which channel it is about.
    #[error("journal {journal} does not begin with its channel")]
    Headless {
        /// Which journal.
        journal: String,
    },
    /// What was written is not what was to be written: a bug.
    #[error("journal {journal} is out of step")]
    Order {
        /// Which journal.
        journal: String,
        /// What is wrong.
        #[source]
        source: market::OrderError,
    },
    /// Amounts in it cannot be added up.
    #[error("journal {journal} does not add up")]
    Till {
        /// Which journal.
        journal: String,
        /// What is wrong.
        #[source]
        source: market::TillError,
    },
}

/// All channels.
pub(crate) struct Sessions {
    ledger: Arc<dyn Ledger>,
    store: Store,
    tasks: Tasks,
    known: Mutex<BTreeMap<ChannelId, Arc<Channel>>>,
    empty: Mutex<HashMap<ChannelId, Instant>>,
    chain_reads: Semaphore,
    receipt_reads: Semaphore,
}

impl Sessions {
    /// What the journal knows. Answers that were running when it ended are closed.
    pub(crate) async fn load(
        ledger: Arc<dyn Ledger>,
        store: Store,
        tasks: Tasks,
        now: Timestamp,
    ) -> Result<Self, ReplayError> {
        let sessions = Self {
            ledger,
            store,
            tasks,
            known: Mutex::default(),
            empty: Mutex::default(),
            chain_reads: Semaphore::new(CHAIN_READS),
            receipt_reads: Semaphore::new(RECEIPT_READS),
        };
        failpoint::hit("provider.replay.begun");
        let replay = Replay {
            domain: sessions.ledger.domain(),
            store: sessions.store.clone(),
            tasks: sessions.tasks.clone(),
            now,
        };
        let replayed = read_ahead(sessions.store.scan(PREFIX)).map(|page| async {
            let (page, replay) = (page?, replay.clone());
            let replayed = tokio::task::spawn_blocking(move || replay.all(&page)).await;
            replayed.unwrap_or_else(|broken| resume_unwind(broken.into_panic()))
        });
        let mut replayed = pin!(replayed.buffer_unordered(REPLAYS));
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        let mut closings = JoinSet::new();
        while let Some(page) = replayed.next().await {
            for revived in page? {
                match revived {
                    Revived::Whole(channel) => whole.push((channel.id, channel)),
                    Revived::Cut(channel) => cut.push(*channel),
                }
            }
            if cut.len() >= CLOSINGS {
                closings.spawn(close(mem::take(&mut cut), replay.clone()));
            }
        }
        failpoint::hit("provider.replay.closing");
        closings.spawn(close(cut, replay.clone()));
        while let Some(closed) = closings.join_next().await {
            let closed = closed.unwrap_or_else(|broken| resume_unwind(broken.into_panic()))?;
            whole.extend(closed.into_iter().map(|channel| (channel.id, channel)));
        }
        failpoint::hit("provider.replay.closed");
        *sessions.known() = whole.into_iter().collect();
        failpoint::hit("provider.replay.ended");
        Ok(sessions)
    }

    /// The channel, its escrow known well enough.
    pub(crate) async fn acquire(
        &self,
        config: &ChannelConfig,
    ) -> Result<Arc<Channel>, SessionError> {
        let id = config.id(&self.ledger.domain());
        if let Some(channel) = self.find(id) {
            self.keep_fresh(&channel).await?;
            return Ok(channel);
        }
        if self
            .empty()
            .get(&id)
            .is_some_and(|seen| seen.elapsed() < READ_PAUSE)
        {
            return Err(SessionError::Empty { channel: id });
        }
        let state = {
            let _one_of_few = self.chain_reads.acquire().await;
            self.ledger.channel(id).await?
        };
        if state.covered().is_zero() {
            let mut empty = self.empty();
            if empty.len() >= EMPTY_KEPT {
                empty.clear();
            }
            empty.insert(id, Instant::now());
            return Err(SessionError::Empty { channel: id });
        }
        self.open(config, id, state).await
    }

    async fn open(
        &self,
        config: &ChannelConfig,
        id: ChannelId,
        state: ChannelState,
    ) -> Result<Arc<Channel>, SessionError> {
        let channel = {
            let mut known = self.known();
            if let Some(channel) = known.get(&id) {
                return Ok(Arc::clone(channel));
            }
            if known.len() >= CHANNELS_MAX {
                return Err(SessionError::TooMany);
            }
            failpoint::hit("provider.channel.found");
            let mut earning = Earning::new(id);
            earning.funded(state);
            let domain = self.ledger.domain();
            let (journal, tasks) = (self.journal(id), self.tasks.clone());
            let channel = Channel::open(*config, domain, journal, earning, tasks);
            let channel = Arc::new(channel);
            known.insert(id, Arc::clone(&channel));
            failpoint::hit("provider.channel.opened");
            channel
        };
        channel.reading.lock().await.at = Some(Instant::now());
        Ok(channel)
    }

    fn journal(&self, id: ChannelId) -> Journal {
        self.store.journal(&format!("{PREFIX}{id}"))
    }

    /// The channel, if it was ever used.
    pub(crate) fn find(&self, id: ChannelId) -> Option<Arc<Channel>> {
        self.known().get(&id).cloned()
    }

    /// All channels.
    pub(crate) fn all(&self) -> Vec<Arc<Channel>> {
        self.known().values().cloned().collect()
    }

    /// Lets go of all channels; their writers end when nobody uses them.
    pub(crate) fn forget(&self) {
        self.known().clear();
    }

    /// Reads a channel's escrow anew after a voucher that it does not cover:
    /// waits its turn rather than to do it too often.
    pub(crate) async fn reread(&self, channel: &Channel) -> Result<(), SessionError> {
        let last = channel.reading.lock().await.at;
        if let Some(last) = last {
            tokio::time::sleep_until(last + READ_PAUSE).await;
        }
        self.read(channel, READ_PAUSE).await
    }

    /// Reads a channel's escrow, unless it was read within `fresh`.
    pub(crate) async fn read(
        &self,
        channel: &Channel,
        fresh: Duration,
    ) -> Result<(), SessionError> {
        let mut reading = channel.reading.lock().await;
        if reading.is_within(fresh, Instant::now()) {
            return Ok(());
        }
        self.read_now(channel, &mut reading).await
    }

    /// Reads a channel's escrow if it is stale. When the chain is gone, work
    /// goes on with what was read last, for a while.
    async fn keep_fresh(&self, channel: &Channel) -> Result<(), SessionError> {
        let mut reading = channel.reading.lock().await;
        let now = Instant::now();
        if !reading.is_due(now) {
            return Ok(());
        }
        match self.read_now(channel, &mut reading).await {
            Err(SessionError::Ledger(LedgerError::Unreachable(error))) if reading.is_good(now) => {
                warn!(channel = %channel.id, %error, "escrow not read; it is trusted as it was");
                Ok(())
            }
            read => read,
        }
    }

    async fn read_now(&self, channel: &Channel, reading: &mut Reading) -> Result<(), SessionError> {
        let read = {
            let _one_of_few = self.chain_reads.acquire().await;
            self.ledger.channel(channel.id).await
        };
        if read.is_err() {
            reading.failed_at = Some(Instant::now());
        }
        channel.earning(|earning| read.map(|state| earning.funded(state)))?;
        failpoint::hit("provider.escrow.read");
        *reading = Reading {
            at: Some(Instant::now()),
            failed_at: None,
        };
        Ok(())
    }

    /// The receipts of a channel that are numbered above `after`, oldest first:
    /// read from the journal, so they may be signed.
    pub(crate) async fn receipts(
        &self,
        channel: &Channel,
        after: u64,
    ) -> Result<Vec<Durable<Receipt>>, ReplayError> {
        let missing = channel.till(|till| till.sequence()).saturating_sub(after);
        if missing == 0 {
            return Ok(vec![]);
        }
        let _one_of_few = self.receipt_reads.acquire().await;
        let limit = usize::try_from(missing).unwrap_or(usize::MAX);
        let entries = channel.journal.recent(RECEIPTED, limit).await?;
        let parsed = entries.iter().rev().map(receipt_in);
        let parsed: Result<Vec<_>, _> = parsed.collect();
        let receipts = parsed.map_err(|source| ReplayError::Entry {
            journal: channel.journal.name().to_owned(),
            source,
        })?;
        let unseen = receipts
            .into_iter()
            .flatten()
            .filter(|receipt| receipt.sequence > after);
        let some = unseen.take(MAX_RECEIPTS);
        Ok(some.map(Durable::read_back).collect())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ChannelId, Arc<Channel>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn empty(&self) -> MutexGuard<'_, HashMap<ChannelId, Instant>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn is_within(&self, age: Duration, now: Instant) -> bool {
        self.at.is_some_and(|at| now.duration_since(at) < age)
    }

    /// Whether work may go on with it while the chain does not answer.
    fn is_good(&self, now: Instant) -> bool {
        self.is_within(GOOD_FOR, now)
    }

    /// Whether the chain is to be asked before the channel is used.
    fn is_due(&self, now: Instant) -> bool {
        let asked = self
            .failed_at
            .is_some_and(|at| now.duration_since(at) < TRY_AFTER);
        let rests = asked && self.is_good(now);
        !(rests || self.is_within(STALE_AFTER, now))
    }
}

/// A channel as its journal has it.
pub(crate) struct Replayed {
    pub(crate) config: ChannelConfig,
    pub(crate) earning: Earning,
}

pub(crate) fn replay<'a>(
    name: &str,
    mut lines: impl Iterator<Item = Line<'a>>,
    domain: &Domain,
) -> Result<Replayed, ReplayError> {
    let odd = |source| ReplayError::Entry {
        journal: name.to_owned(),
        source,
    };
    let headless = || ReplayError::Headless {
        journal: name.to_owned(),
    };
    let head = lines.next().ok_or_else(headless)?;
    if head.kind != CHANNEL {
        return Err(headless());
    }
    let Opened { config } = read_json(head.payload).map_err(odd)?;
    let id = config.id(domain);
    if name.strip_prefix(PREFIX).map(str::parse) != Some(Ok(id)) {
        return Err(headless());
    }
    let mut unread = None;
    // Nothing is kept of an event but what follows from it.
    let events = lines.map_while(|line| {
        let event = read_json::<TillEvent>(line.payload);
        event.map_err(|error| unread = Some(error)).ok()
    });
    let earning = Earning::replay(id, events);
    match unread {
        None => Ok(Replayed { config, earning }),
        Some(source) => Err(odd(source)),
    }
}

/// What brings channels back to life, on whatever thread.
#[derive(Clone)]
struct Replay {
    domain: Domain,
    store: Store,
    tasks: Tasks,
    now: Timestamp,
}

/// A channel on its way back to life.
enum Revived {
    /// Nothing was cut short.
    Whole(Arc<Channel>),
    /// The journal has to be told first how its answers ended.
    Cut(Box<Cut>),
}

/// A channel of which answers were running.
struct Cut {
    name: String,
    config: ChannelConfig,
    earning: Earning,
    /// What ends them.
    closing: Move<TillEvent>,
}

impl Replay {
    fn all(&self, page: &Page) -> Result<Vec<Revived>, ReplayError> {
        page.journals().map(|loaded| self.one(loaded)).collect()
    }

    fn one(&self, loaded: Loaded<'_>) -> Result<Revived, ReplayError> {
        let Replayed {
            config,
            mut earning,
        } = replay(loaded.name, loaded.lines(), &self.domain)?;
        let closing = earning
            .interrupted(self.now)
            .map_err(|source| ReplayError::Till {
                journal: loaded.name.to_owned(),
                source,
            })?;
        let cut = Cut {
            name: loaded.name.to_owned(),
            config,
            earning,
            closing,
        };
        if cut.closing.events().is_empty() {
            // There is nothing to write: it is as durable as it will be.
            return Ok(Revived::Whole(cut.closed(self)?));
        }
        Ok(Revived::Cut(Box::new(cut)))
    }
}

/// The pages of a scan, some of them read before they are asked for: replays
/// go on while the store writes.
fn read_ahead(mut scan: Scan) -> impl Stream<Item = Result<Page, LoadError>> {
    let (read, pages) = mpsc::channel(PAGES_AHEAD);
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        loop {
            let page = scan.next().await;
            let is_last = page.is_err();
            if page.as_ref().is_ok_and(Page::is_empty) || read.send(page).await.is_err() || is_last
            {
                return;
            }
        }
    });
    stream::unfold((pages, reading), |(mut pages, reading)| async move {
        let page = pages.recv().await?;
        Some((page, (pages, reading)))
    })
}

/// Ends what was cut short, together, so that commits are shared; the next
/// pages are replayed meanwhile.
async fn close(cut: Vec<Cut>, replay: Replay) -> Result<Vec<Arc<Channel>>, ReplayError> {
    for some in cut.chunks(CLOSINGS) {
        try_join_all(some.iter().map(|cut| cut.close(&replay.store))).await?;
    }
    cut.into_iter().map(|cut| cut.closed(&replay)).collect()
}

impl Cut {
    async fn close(&self, store: &Store) -> Result<(), ReplayError> {
        let journal = store.journal(&self.name);
        let entries: Vec<_> = self.closing.events().iter().map(till_entry).collect();
        for some in entries.chunks(store::MAX_ENTRIES) {
            journal.append(some.to_vec()).await?;
        }
        Ok(())
    }

    /// Once the journal has it.
    fn closed(self, replay: &Replay) -> Result<Arc<Channel>, ReplayError> {
        let Self {
            name,
            config,
            mut earning,
            closing,
        } = self;
        // Consumers ask for these receipts; they are then read back.
        if let Err(source) = earning.written(closing.id()) {
            let journal = name;
            return Err(ReplayError::Order { journal, source });
        }
        let (journal, tasks) = (replay.store.journal(&name), replay.tasks.clone());
        let channel = Channel::known(config, replay.domain, journal, earning, tasks);
        Ok(Arc::new(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an escrow is read again, and trusted if the chain is gone, so
    /// many seconds after it was read and after the chain was last asked in vain.
    fn verdict(read_s: Option<u64>, failed_s: Option<u64>) -> (bool, bool) {
        let start = Instant::now();
        let now = start + Duration::from_secs(10_000);
        let ago = |seconds: u64| now - Duration::from_secs(seconds);
        let reading = Reading {
            at: read_s.map(ago),
            failed_at: failed_s.map(ago),
        };
        (reading.is_due(now), reading.is_good(now))
    }

    #[test]
    fn an_escrow_is_trusted_for_a_while_when_the_chain_is_gone() {
        for (read_s, failed_s, due, good) in [
            (None, None, true, false),
            (None, Some(1), true, false),
            (Some(59), None, false, true),
            (Some(60), None, true, true),
            (Some(60), Some(1), false, true),
            (Some(60), Some(5), true, true),
            (Some(300), Some(1), true, false),
        ] {
            assert_eq!(
                verdict(read_s, failed_s),
                (due, good),
                "{read_s:?} {failed_s:?}"
            );
        }
        let delay = Duration::from_secs(market::WITHDRAW_DELAY_MIN_S);
        assert!(3 * GOOD_FOR <= delay, "a withdrawal could be over by then");
    }

    use market::Till;
    use store::Entry;

    const DOMAIN: market::Domain = market::Domain {
        chain_id: 1,
        settlement: market::Address::repeat_byte(9),
    };

    /// The journal of a channel with a voucher, a running answer and a receipt.
    fn lines() -> (String, Vec<Entry>) {
        use market::{Address, Amount, B256, ModelId, Rates, RequestId, Sold, Voucher, WalletKey};
        let config = ChannelConfig {
            payer: Address::repeat_byte(1),
            payer_authorizer: Address::repeat_byte(2),
            receiver: Address::repeat_byte(3),
            receiver_authorizer: Address::repeat_byte(3),
            token: Address::repeat_byte(4),
            withdraw_delay_s: 900,
            salt: B256::ZERO,
        };
        let id = config.id(&DOMAIN);
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let channel = id;
        let ceiling = Amount::new(1000);
        let voucher = market::Durable::read_back(Voucher { channel, ceiling }).sign(&DOMAIN, &key);
        let sold = Sold {
            model: ModelId(B256::ZERO),
            rates: Rates {
                input_per_million: Amount::new(1_000_000),
                output_per_million: Amount::new(1_000_000),
            },
            upstream: market::Upstream::OwnEngine,
        };
        let mut till = Till::new(id);
        till.count(&voucher);
        let first = till.admit(RequestId([1; 16].into()), sold, 10).unwrap();
        let outcome = market::Outcome::Complete;
        let closed = till.close(RequestId([1; 16].into()), 10, 5, outcome, Timestamp(1));
        let events = [
            TillEvent::Voucher { voucher },
            first,
            TillEvent::receipted(&closed.unwrap()),
            till.admit(RequestId([2; 16].into()), sold, 10).unwrap(),
        ];
        let payload = serde_json::to_vec(&Opened { config }).unwrap();
        let head = Entry {
            kind: CHANNEL.into(),
            key: None,
            payload,
        };
        let lines = [head].into_iter().chain(events.iter().map(till_entry));
        (format!("{PREFIX}{id}"), lines.collect())
    }

    /// As the provider's start does it; an error has a text that names the journal.
    fn loaded(name: &str, lines: &[Entry]) -> Result<u64, String> {
        let replayed = replay(name, lines.iter().map(Entry::line), &DOMAIN);
        let mut earning = replayed.map_err(|error| error.to_string())?.earning;
        let closed = earning.interrupted(Timestamp(2));
        let _to_write = closed.map_err(|error| format!("journal {name}: {error}"))?;
        Ok(earning.till().sequence())
    }

    proptest::proptest! {
        #[test]
        fn a_journal_of_any_bytes_is_told_by_name(
            at in 0usize..5,
            payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let (name, mut lines) = lines();
            assert_eq!(loaded(&name, &lines), Ok(2));
            lines[at].payload = payload;
            let told = loaded(&name, &lines);
            assert!(told.as_ref().is_err_and(|text| text.contains(&name)), "{told:?}");
        }

        /// What still is JSON may say anything: it adds up, or that is told.
        #[test]
        fn a_journal_with_a_changed_byte_does_not_end_the_process(
            at in 0usize..5,
            place in 0usize..600,
            byte in proptest::sample::select(b"0123456789abcdef\"{}[],:-".to_vec()),
        ) {
            let (name, mut lines) = lines();
            let payload = &mut lines[at].payload;
            let place = place % payload.len();
            payload[place] = byte;
            if let Err(text) = loaded(&name, &lines) {
                assert!(text.contains(&name), "{text}");
            }
        }
    }

    #[test]
    fn a_journal_at_the_end_of_all_numbers_is_an_error() {
        let (name, mut lines) = lines();
        let text = String::from_utf8(lines[3].payload.clone()).unwrap();
        let last = text.replace("\"sequence\":1,", &format!("\"sequence\":{},", u64::MAX));
        assert_ne!(last, text);
        lines[3].payload = last.into_bytes();
        assert!(loaded(&name, &lines).is_err());
    }
}
