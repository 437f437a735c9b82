//! `lethe tower`: claims for a provider that is away, before a payer's
//! withdrawal ends.
//!
//! It knows the provider's signed claims and nothing else of it, and its own
//! key pays for gas only: what it claims is the provider's. It hears of
//! withdrawals by the contract's logs, from where it was when it was last
//! off, and follows [`market::plan_claims`] with some patience, in which the
//! provider itself may claim. A server may leave a log out, so now and then
//! each channel of the file is asked for all the same.

mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chain::{
    Cursor, CursorBook, EvmLedger, JournalError, Network, NetworkError, News, REORG_MAX,
    WatchError, WithdrawStarted,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use market::{
    Amount, ChannelId, ClaimPolicy, Departure, Earned, Ledger, LedgerError, SignedClaim, Timestamp,
    plan_claims,
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::cli;
use crate::clock;
use crate::cursors::StoredCursor;
use crate::doorkeeper::{DoorError, open_door};
use crate::folder::{Folder, FolderError, Tenant};
use crate::keystore::{KeystoreError, bearer};
use crate::listen::ListenError;
use crate::output;
use crate::own::Own;
use crate::place::{Place, PlaceError};
use crate::policies::{PolicyError, watching};
use crate::scrape::{self, Figures};
use crate::signals::{Signals, stopped, waits_for};
use crate::signed_claims::{self, ClaimsFileError};
use crate::tokens::{self, TokenError};

pub(crate) use tally::Tally;

/// Channels read from the chain at a time.
const READS: usize = 8;
/// Between two times that every channel of the file is asked for. The shortest
/// delay of a channel is 900 s, and the last 300 s are left for the claim.
const ASK_ALL_EVERY: Duration = Duration::from_secs(600);
/// A withdrawal of somebody else is forgotten so long after it could end.
const FORGET_AFTER_S: u64 = 86_400;

/// Why a tower does not watch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TowerError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Claims(#[from] ClaimsFileError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
    #[error("how far the chain was read cannot be kept")]
    Cursor(#[source] JournalError),
}

/// Watches until it is told to stop.
pub(crate) async fn tower(args: cli::Tower) -> Result<(), TowerError> {
    let network = Network::by_name(&args.network.network, args.network.unaudited)?;
    let folder = Folder::take_for(args.data.folder.clone(), Tenant::Role("tower"))?;
    let place = Place::new(folder, network, args.network.rpc_url.clone())?;
    let key = Arc::new(place.keys.wallet("tower").map_err(PlaceError::from)?);
    place.begin(Arc::clone(&key), &[]).await?;
    let store = place.store("tower").await?;
    if let Some(treasury) = place.treasury().await? {
        treasury.fund(key.address(), &[]).await?;
    }
    let ledger = place.ledger(key, &store, "tower").await?;
    let token = tokens::named(&ledger, "--token", &args.token).await?;
    let policy = watching(&args, &token)?;
    let book = StoredCursor::new(&store, "withdrawals");
    let tally = Arc::new(Tally::default());
    let mut watch = Watch {
        ledger,
        policy,
        file: args.claims,
        departures: Departures::new(book.load().await.map_err(TowerError::Cursor)?),
        book,
        tally: Arc::clone(&tally),
    };
    let held = signed_claims::read(&watch.file, &place.network)?.len();
    let account = watch.ledger.account();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let spares = place.spares(&["tower"])?;
    let own = Own::staker("tower", &watch.ledger, place.flags(), spares).await?;
    let key = bearer(&place.folder.join("api-key"))?;
    let figures: Figures = Arc::new(move || tally.page());
    let figures = scrape::routes(figures, &key);
    let routes = own.routes(&key).merge(figures.clone());
    open_door(&place, None, routes, &tasks, &stop).await?;
    let metrics = scrape::open(args.scraped.metrics).await?;
    scrape::serve(metrics, figures, &tasks, &stop);
    let signals = Signals::listen();
    match args.json {
        true => output::json(&json!({ "tower": account, "claims": held })),
        false => output::line(format!(
            "Watching {}; account {account} pays the gas",
            channels(held)
        )),
    }
    let watching = watch.run(Duration::from_secs(args.look_every));
    tokio::select! {
        () = stopped(signals, &place.folder, args.json, || waits_for(0)) => {}
        () = watching => {}
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    drop(watch);
    store.close().await;
    Ok(())
}

fn channels(count: usize) -> String {
    match count {
        1 => "1 channel".to_owned(),
        more => format!("{more} channels"),
    }
}

struct Watch {
    ledger: EvmLedger,
    policy: ClaimPolicy,
    file: PathBuf,
    book: StoredCursor,
    departures: Departures,
    tally: Arc<Tally>,
}

/// What a signed claim would bring now.
struct Weighed {
    signed: SignedClaim,
    /// Nothing: it was made, or is not covered.
    earned: Option<Earned>,
    departure: Option<Departure>,
}

impl Watch {
    async fn run(&mut self, every: Duration) {
        loop {
            let wait = match self.look().await {
                Ok(next) => next.map_or(every, |next| next.min(every)),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "not looked after; tried again");
                    self.tally.failed();
                    every
                }
            };
            tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
        }
    }

    /// One look at the file and the chain. How soon the next is wanted.
    async fn look(&mut self) -> Result<Option<Duration>, TowerError> {
        let mut claims = signed_claims::read(&self.file, self.ledger.network())?;
        let held = claims.len();
        let asks_all = self.hear().await?;
        let domain = self.ledger.domain();
        if !asks_all {
            claims.retain(|signed| self.departures.has(signed.claim.config.id(&domain)));
        }
        let ledger = &self.ledger;
        let reads = stream::iter(claims).map(|signed| weigh(ledger, signed));
        let weighed: Vec<Weighed> = reads.buffered(READS).try_collect().await?;
        for Weighed {
            signed, departure, ..
        } in &weighed
        {
            let channel = signed.claim.config.id(&domain);
            self.departures.seen(channel, *departure);
        }
        // Of those whose claims are held: what else leaves is nothing to this provider.
        let leaving = weighed.iter().filter(|one| one.departure.is_some()).count();
        let due = weighed
            .into_iter()
            .filter_map(|one| Some((one.signed, one.earned?)));
        let due: Vec<(SignedClaim, Earned)> = due.collect();
        let next = self.claim(&due).await?;
        if asks_all {
            self.departures.asked_all();
        }
        self.keep(&due).await?;
        self.tally.looked(held, leaving, clock::now());
        Ok(next)
    }

    /// Reads the logs up to the head. Whether each channel is to be asked for.
    async fn hear(&mut self) -> Result<bool, TowerError> {
        if self.departures.cursor.is_none() {
            let head = self.ledger.block_number().await?;
            let from = head.saturating_sub(REORG_MAX);
            self.departures = Departures::from_block(from);
        }
        while let Some(cursor) = &mut self.departures.cursor {
            match self.ledger.withdrawals_started(cursor).await {
                Ok(news) => {
                    let at_head = news.at_head;
                    self.departures.told(news);
                    if at_head {
                        break;
                    }
                }
                Err(WatchError::Ledger(error)) => return Err(error.into()),
                Err(WatchError::TooDeep(error)) => {
                    warn!(%error, "each channel is asked for anew");
                    let head = self.ledger.block_number().await?;
                    let from = head.saturating_sub(REORG_MAX);
                    self.departures = Departures::from_block(from);
                }
            }
        }
        let now = self.ledger.now().await?.max(clock::now());
        self.departures.forget(now);
        Ok(self.departures.asks_all())
    }

    /// Claims what the plan says. How soon to look again.
    async fn claim(&self, due: &[(SignedClaim, Earned)]) -> Result<Option<Duration>, TowerError> {
        if due.iter().all(|(_, earned)| earned.departure.is_none()) {
            return Ok(None);
        }
        let gas_price = match self.policy.gas {
            Some(_) => self.ledger.gas_price().await?,
            None => Amount::ZERO,
        };
        // Where no blocks are made, the chain's time stands still.
        let now: Timestamp = self.ledger.now().await?.max(clock::now());
        let earned: Vec<Earned> = due.iter().map(|(_, earned)| *earned).collect();
        let plan = plan_claims(&earned, gas_price, now, &self.policy);
        for (signed, earned) in due {
            if !plan.claim.contains(&earned.channel) {
                continue;
            }
            let (channel, amount) = (earned.channel, earned.amount);
            match self.ledger.claim_signed(*signed).await {
                Ok(_) => {
                    self.tally.claimed(earned.token, amount, clock::now());
                    info!(%channel, %amount, "claimed for the provider");
                }
                Err(LedgerError::Refused { reason }) => {
                    self.tally.refused();
                    warn!(%channel, %amount, reason, "the contract does not take a claim");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(plan.look_after)
    }

    /// Saves how far was read, once nothing that was heard of is left to do:
    /// who is killed before hears of it again, and finds it claimed.
    async fn keep(&mut self, due: &[(SignedClaim, Earned)]) -> Result<(), TowerError> {
        let waits = due.iter().any(|(_, earned)| earned.departure.is_some());
        if let (false, Some(cursor)) = (waits, self.departures.to_save()) {
            self.book.save(&cursor).await.map_err(TowerError::Cursor)?;
            self.departures.saved = Some(cursor);
        }
        Ok(())
    }
}

/// What one claim would bring now.
async fn weigh(ledger: &EvmLedger, signed: SignedClaim) -> Result<Weighed, TowerError> {
    let config = signed.claim.config;
    let channel = config.id(&ledger.domain());
    let state = ledger.channel(channel).await?;
    let departure = Departure::of(&config, &state);
    let amount = signed.claim.total.less(state.total_claimed);
    let nothing = amount.is_zero() || signed.claim.total > state.balance;
    let earned = (!nothing).then_some(Earned {
        channel,
        token: config.token,
        amount,
        waiting: Duration::ZERO,
        departure,
    });
    Ok(Weighed {
        signed,
        earned,
        departure,
    })
}

/// The payers that are on their way out, as far as was heard.
struct Departures {
    /// None: never read.
    cursor: Option<Cursor>,
    saved: Option<Cursor>,
    /// With the time from which on it may end.
    leaving: BTreeMap<ChannelId, Timestamp>,
    /// None: every channel must be asked for.
    asked_all_at: Option<Instant>,
}

impl Departures {
    /// From a saved cursor, which tells what happened since, or from nothing.
    fn new(saved: Option<Cursor>) -> Self {
        Self {
            asked_all_at: saved.as_ref().map(|_| Instant::now()),
            cursor: saved.clone(),
            saved,
            leaving: BTreeMap::new(),
        }
    }

    /// Without knowing what happened before this block.
    fn from_block(from: u64) -> Self {
        Self {
            cursor: Some(Cursor::new(from)),
            saved: None,
            leaving: BTreeMap::new(),
            asked_all_at: None,
        }
    }

    fn has(&self, channel: ChannelId) -> bool {
        self.leaving.contains_key(&channel)
    }

    /// By the contract's log.
    fn told(&mut self, news: News<WithdrawStarted>) {
        for gone in news.retracted {
            self.leaving.remove(&gone.channel);
        }
        for begun in news.fresh {
            self.leaving.insert(begun.channel, begun.finalize_after);
        }
    }

    /// By the channel's own state.
    fn seen(&mut self, channel: ChannelId, departure: Option<Departure>) {
        match departure {
            Some(departure) => self.leaving.insert(channel, departure.ends_at),
            None => self.leaving.remove(&channel),
        };
    }

    /// What ended long ago and is in no file.
    fn forget(&mut self, now: Timestamp) {
        self.leaving
            .retain(|_, ends_at| now < ends_at.after_s(FORGET_AFTER_S));
    }

    fn asks_all(&self) -> bool {
        self.asked_all_at
            .is_none_or(|at| at.elapsed() >= ASK_ALL_EVERY)
    }

    fn asked_all(&mut self) {
        self.asked_all_at = Some(Instant::now());
    }

    fn to_save(&self) -> Option<Cursor> {
        let cursor = self.cursor.as_ref()?;
        cursor
            .is_worth_saving(self.saved.as_ref())
            .then(|| cursor.clone())
    }
}

#[cfg(test)]
mod tests {
    use market::B256;

    use super::*;

    fn begun(channel: u8) -> WithdrawStarted {
        WithdrawStarted {
            channel: ChannelId(B256::repeat_byte(channel)),
            amount: Amount::new(1),
            finalize_after: Timestamp(1_000),
            block: 5,
        }
    }

    fn news(fresh: &[u8], retracted: &[u8]) -> News<WithdrawStarted> {
        News {
            fresh: fresh.iter().map(|channel| begun(*channel)).collect(),
            retracted: retracted.iter().map(|channel| begun(*channel)).collect(),
            at_head: true,
        }
    }

    #[test]
    fn what_a_reorganisation_takes_back_is_not_watched_and_what_it_moves_is() {
        let mut departures = Departures::new(Some(Cursor::new(5)));
        departures.told(news(&[1, 2], &[]));
        departures.told(news(&[2], &[1, 2]));
        assert!(!departures.has(begun(1).channel));
        assert!(departures.has(begun(2).channel));
        departures.seen(begun(2).channel, None);
        assert!(!departures.has(begun(2).channel));
    }

    #[test]
    fn who_has_no_cursor_asks_for_every_channel_first() {
        assert!(Departures::new(None).asks_all());
        assert!(Departures::from_block(7).asks_all());
        assert!(!Departures::new(Some(Cursor::new(5))).asks_all());
    }

    #[test]
    fn what_could_end_long_ago_is_forgotten() {
        let mut departures = Departures::new(None);
        departures.told(news(&[1], &[]));
        departures.forget(Timestamp(1_000 + FORGET_AFTER_S - 1));
        assert!(departures.has(begun(1).channel));
        departures.forget(Timestamp(1_000 + FORGET_AFTER_S));
        assert!(!departures.has(begun(1).channel));
    }
}
