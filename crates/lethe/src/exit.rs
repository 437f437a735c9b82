//! `lethe exit`: brings all money of a data folder back, from any state.
//!
//! Each account takes the steps that [`market::exit`] plans from what the
//! chain says, so the command may be killed anywhere and run again. Sellers
//! go first, then the pseudonyms, whose money goes to the wallet, then the
//! wallet. Every step is told with the line of `cast` that does the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chain::{Call, EvmLedger, Network, Tokens};
use market::{
    Address, Amount, Blocked, ChannelConfig, Exit, ExitError, ExitStep, Holdings, Ledger,
    LedgerError, Timestamp,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli;
use crate::clock;
use crate::doorkeeper::serve_door;
use crate::estate::{Account, Bookless, Estate, EstateError, Role};
use crate::folder::{Folder, FolderError};
use crate::keystore::bearer;
use crate::listen::ListenError;
use crate::output;
use crate::own;
use crate::place::{PlaceError, cast_at};
use crate::policies::MOR_DECIMALS;

/// Between two looks at the time while a withdrawal's delay runs.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two lines of how long a wait still takes.
const TELL_EVERY_S: u64 = 300;

/// Why not everything could be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitCommandError {
    #[error(transparent)]
    Estate(#[from] EstateError),
    #[error(
        "nothing of a node is in data folder {path:?}: give the folder of the node with --data DIR"
    )]
    Nothing { path: std::path::PathBuf },
    #[error(
        "the exit of account {name:?} was interrupted; run `{command}` again, it goes on where it was"
    )]
    Interrupted {
        name: String,
        command: String,
        #[source]
        source: ExitError,
    },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("where the money is cannot be told while it waits")]
    Door(#[from] ListenError),
}

/// One step, as it is told.
#[derive(Debug, Serialize)]
struct Told {
    account: String,
    step: String,
    cast: String,
}

/// Money whose time has not come.
#[derive(Debug, Serialize)]
struct Waiting {
    account: String,
    token: Address,
    amount: Amount,
    unlocks_at: Timestamp,
    /// What the channel has beyond it; can be asked for then.
    more: Amount,
    cast: String,
}

/// Money that somebody else holds back.
#[derive(Debug, Serialize)]
struct Stuck {
    account: String,
    step: String,
    reason: String,
    cast: String,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Report {
    done: bool,
    steps: Vec<Told>,
    waiting: Vec<Waiting>,
    blocked: Vec<Stuck>,
    /// Where the money is now: account and MOR.
    returned: Vec<(Address, Amount)>,
    /// The same of other tokens.
    returned_others: Vec<Returned>,
    /// Bids that were deleted now.
    bids_deleted: usize,
    /// What posting so many costs, in MOR; it does not come back.
    fees: Amount,
}

/// Money of another token than MOR that an account has now.
#[derive(Debug, Serialize)]
struct Returned {
    account: Address,
    token: Address,
    symbol: String,
    amount: Amount,
}

/// Brings everything back that can be had now; with `--wait` all of it. Whether it was all.
pub(crate) async fn exit(args: cli::Exit) -> Result<bool, ExitCommandError> {
    let look = Folder::look(args.data.folder.clone())?;
    let bookless = match args.to {
        Some(_) => Bookless::Begin,
        None => Bookless::Look,
    };
    let Some(estate) = Box::pin(Estate::open(args.data, &args.network, bookless)).await? else {
        return Err(ExitCommandError::Nothing {
            path: look.path().to_owned(),
        });
    };
    let mut command = format!("lethe exit{}", estate.place.flags());
    if let Some(to) = args.to {
        command.push_str(&format!(" --to {to}"));
    }
    let mut teller = Teller {
        json: args.json,
        casts: args.cast.then(|| estate.place.cast_flag()),
        command,
        tokens: tokens(&estate).await?,
        names: names(&estate),
        told_left_s: 0,
        is_chain_away: false,
        report: Report::default(),
    };
    let estate = Arc::new(estate);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let outcome = match args.wait.then(|| told_at(&estate, &tasks, &stop)) {
        Some(door) => match door.await {
            Ok(()) => leave(&estate, args.to, args.wait, &mut teller).await,
            Err(error) => Err(error),
        },
        None => leave(&estate, args.to, args.wait, &mut teller).await,
    };
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    // Nobody else holds it by now.
    if let Some(estate) = Arc::into_inner(estate) {
        estate.close().await;
    }
    let all = outcome?;
    teller.end();
    Ok(all)
}

/// While it waits it has the folder: where the money is can be asked of it.
async fn told_at(
    estate: &Arc<Estate>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), ExitCommandError> {
    let place = &estate.place;
    let key = bearer(&place.folder.join("api-key")).map_err(PlaceError::from);
    let routes = own::left(Arc::clone(estate), &key.map_err(EstateError::from)?);
    let exit = serve_door(place, routes, tasks, stop).await?;
    Ok(place.folder.announce_exit(&exit)?)
}

/// What the folder's accounts are called here.
fn names(estate: &Estate) -> BTreeMap<Address, String> {
    let accounts = estate.accounts.iter();
    accounts
        .map(|account| (account.address(), account.name.clone()))
        .collect()
}

/// All tokens that the folder has to do with.
async fn tokens(estate: &Estate) -> Result<Tokens, ExitCommandError> {
    let Some(ledger) = estate.reader().await? else {
        return Ok(Tokens::default());
    };
    let accounts = estate.accounts.iter();
    let belongings = accounts.map(|account| account.belongings(ledger.network()));
    let addresses = belongings.flat_map(|belongings| belongings.tokens());
    Ok(Tokens::read(&ledger, addresses.collect()).await?)
}

async fn leave(
    estate: &Estate,
    to: Option<Address>,
    wait: bool,
    teller: &mut Teller,
) -> Result<bool, ExitCommandError> {
    let mut next_at = round(estate, to, teller).await?;
    // What was asked for stays asked: a chain that is away for a while costs time only.
    while let Some(at) = next_at.filter(|_| wait) {
        teller.waits_until(at);
        while let Err(error) = until(estate, at, teller).await {
            teller.rides_out(error).await?;
        }
        next_at = loop {
            match round(estate, to, teller).await {
                Ok(next_at) => break next_at,
                Err(error) => teller.rides_out(error).await?,
            }
        };
    }
    returned(estate, to, teller).await?;
    let report = &teller.report;
    teller.report.done = report.waiting.is_empty() && report.blocked.is_empty();
    Ok(teller.report.done)
}

/// One exit of every account. When to come again, if something waits.
async fn round(
    estate: &Estate,
    to: Option<Address>,
    teller: &mut Teller,
) -> Result<Option<Timestamp>, ExitCommandError> {
    (teller.report.waiting, teller.report.blocked) = (vec![], vec![]);
    let mut next_at: Option<Timestamp> = None;
    for account in &estate.accounts {
        let home = match account.role {
            Role::Pseudonym => estate.wallet().map(Account::address),
            Role::Seller | Role::Spare | Role::Wallet => to,
        };
        let ledger = estate.ledger(account).await?;
        if matches!(account.role, Role::Pseudonym | Role::Spare) {
            gas_for(estate, account, &ledger, home).await?;
        }
        let outcome = leave_as(account, &ledger, home, teller).await?;
        next_at = [next_at, outcome.next_at()].into_iter().flatten().min();
        // Who still waits needs gas; the wallet gives it to the others.
        let over = match account.role {
            Role::Wallet => teller.report.waiting.is_empty(),
            Role::Seller | Role::Pseudonym | Role::Spare => outcome.waits.is_empty(),
        };
        if let (true, Some(home)) = (over && outcome.blocked.is_empty(), home) {
            sweep(account, &ledger, home, teller).await?;
        }
    }
    Ok(next_at)
}

/// The steps of a pseudonym, or of an account that no role uses, need gas that the wallet has.
async fn gas_for(
    estate: &Estate,
    account: &Account,
    ledger: &EvmLedger,
    home: Option<Address>,
) -> Result<(), ExitCommandError> {
    let mut belongings = account.belongings(ledger.network());
    belongings.home = home;
    let holdings = Holdings::read(ledger, &belongings).await?;
    let now = ledger.now().await?.max(clock::now());
    let idle = holdings.plan(now).0.is_empty() && holdings.homeward().is_empty();
    if let (false, Some(wallet)) = (idle, estate.wallet()) {
        let wallet = estate.ledger(wallet).await?;
        wallet.provide_gas(account.address()).await?;
    }
    Ok(())
}

async fn leave_as(
    account: &Account,
    ledger: &EvmLedger,
    home: Option<Address>,
    teller: &mut Teller,
) -> Result<Exit, ExitCommandError> {
    let network = ledger.network();
    let mut belongings = account.belongings(network);
    belongings.home = home;
    let told = |step: &ExitStep| teller.step(network, account, step);
    let outcome = market::exit(ledger, &belongings, clock::now(), told).await;
    let outcome = outcome.map_err(|source| ExitCommandError::Interrupted {
        name: account.name.clone(),
        command: teller.command.clone(),
        source,
    })?;
    let waiting = outcome.waits.iter().map(|wait| Waiting {
        account: account.name.clone(),
        token: wait.config.token,
        amount: wait.amount,
        unlocks_at: wait.ready_at,
        more: wait.more,
        cast: Call::finalize_withdraw(network, &wait.config).cast(),
    });
    teller.report.waiting.extend(waiting);
    let tokens = &teller.tokens;
    let stuck = outcome
        .blocked
        .iter()
        .map(|Blocked { step, reason }| Stuck {
            account: account.name.clone(),
            step: words(step, tokens),
            reason: reason.clone(),
            cast: Call::of_exit(network, account.address(), step).cast(),
        });
    teller.report.blocked.extend(stuck);
    Ok(outcome)
}

/// What is left for gas goes home too.
async fn sweep(
    account: &Account,
    ledger: &EvmLedger,
    home: Address,
    teller: &mut Teller,
) -> Result<(), ExitCommandError> {
    if home == account.address() {
        return Ok(());
    }
    if ledger.sweep_coins(home).await?.is_some() {
        let from = account.address();
        let cast = format!(
            "cast send {home} --value AMOUNT, where AMOUNT is `cast balance {from}` less the gas"
        );
        teller.tell(
            account,
            "send the coins that are left for gas".to_owned(),
            cast,
        );
    }
    Ok(())
}

/// Where the money of these accounts is now.
async fn returned(
    estate: &Estate,
    to: Option<Address>,
    teller: &mut Teller,
) -> Result<(), ExitCommandError> {
    let mut owners: Vec<Address> = estate.accounts.iter().map(Account::address).collect();
    owners.extend(to);
    owners.dedup();
    let Some(ledger) = estate.reader().await? else {
        return Ok(());
    };
    let report = &mut teller.report;
    if report.bids_deleted > 0 {
        let fee = ledger.stakes().await?.bid_fee;
        for _ in 0..report.bids_deleted {
            report.fees = report.fees.plus(fee).unwrap_or(report.fees);
        }
    }
    for account in owners {
        for token in teller.tokens.all() {
            let amount = ledger.balance(token.address, account).await?;
            match amount.is_zero() {
                true => {}
                false if token.address == ledger.mor() => report.returned.push((account, amount)),
                false => report.returned_others.push(Returned {
                    account,
                    token: token.address,
                    symbol: token.symbol.clone(),
                    amount,
                }),
            }
        }
    }
    Ok(())
}

/// Until the chain, or the clock where no blocks are made, is so far.
async fn until(
    estate: &Estate,
    at: Timestamp,
    teller: &mut Teller,
) -> Result<(), ExitCommandError> {
    let Some(ledger) = estate.reader().await? else {
        return Ok(());
    };
    loop {
        let now = ledger.now().await?.max(clock::now());
        teller.is_back();
        if now >= at {
            return Ok(());
        }
        teller.still_waits(at.since_s(now));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl ExitCommandError {
    /// Whether it is only that nobody answers for the chain: its state is as it was.
    fn is_away(&self) -> bool {
        let unreachable = |error: &LedgerError| matches!(error, LedgerError::Unreachable(_));
        match self {
            Self::Ledger(error) | Self::Estate(EstateError::Ledger(error)) => unreachable(error),
            Self::Interrupted {
                source: ExitError::Ledger(error),
                ..
            } => unreachable(error),
            Self::Estate(EstateError::Place(error)) => match &**error {
                PlaceError::Silent { .. } => true,
                PlaceError::Chain { source, .. } => unreachable(source),
                _ => false,
            },
            _ => false,
        }
    }
}

/// A step for people.
fn words(step: &ExitStep, tokens: &Tokens) -> String {
    let of = |config: &ChannelConfig, amount: &Amount| tokens.shown(config.token, *amount);
    match step {
        ExitStep::Claim(rows) => format!("claim what was earned on {}", channels(rows.len())),
        ExitStep::Settle {
            receiver,
            token,
            amount,
        } => format!(
            "pay {} that were claimed out to {receiver}",
            tokens.shown(*token, *amount)
        ),
        ExitStep::DeleteBid(bid) => format!("delete bid {bid}"),
        ExitStep::DeregisterModel(model) => format!("take model {model} off the market"),
        ExitStep::DeregisterProvider => "leave the registry".to_owned(),
        ExitStep::Initiate { config, amount } => {
            format!("ask for {} of a channel", of(config, amount))
        }
        ExitStep::Finalise { config, amount } => {
            format!("take {} out of a channel", of(config, amount))
        }
        ExitStep::Send { token, to, amount } => {
            format!("send {} to {to}", tokens.shown(*token, *amount))
        }
    }
}

/// So many channels, in words.
fn channels(count: usize) -> String {
    match count {
        1 => "a channel".to_owned(),
        count => format!("{count} channels"),
    }
}

/// Says what happens, and keeps it for the report.
struct Teller {
    json: bool,
    /// Where the chain is, if the same by hand is told beside each step.
    casts: Option<String>,
    /// The one that goes on where this one stopped.
    command: String,
    tokens: Tokens,
    /// What the folder's own accounts are called.
    names: BTreeMap<Address, String>,
    /// What was last told of the wait.
    told_left_s: u64,
    /// Whether it was told that the chain does not answer.
    is_chain_away: bool,
    report: Report,
}

impl Teller {
    fn step(&mut self, network: &Network, account: &Account, step: &ExitStep) {
        let cast = Call::of_exit(network, account.address(), step).cast();
        let words = words(step, &self.tokens);
        if matches!(step, ExitStep::DeleteBid(_)) {
            self.report.bids_deleted += 1;
        }
        self.tell(account, words, cast);
    }

    fn tell(&mut self, account: &Account, step: String, cast: String) {
        if !self.json {
            output::line(format!("{}: {step}", account.name));
            self.by_hand(&account.name, &cast);
        }
        self.report.steps.push(Told {
            account: account.name.clone(),
            step,
            cast,
        });
    }

    /// `key`: the name of the one that signs.
    fn by_hand(&self, key: &str, cast: &str) {
        if let Some(flag) = &self.casts {
            let cast = cast_at(cast, flag);
            output::line(format!(
                "  by hand, with the key that `lethe wallet export {key}` gives: {cast}"
            ));
        }
    }

    fn waits_until(&mut self, at: Timestamp) {
        if !self.json {
            self.waits();
            let left = at.since_s(clock::now());
            output::line(format!(
                "waiting {left} s for the first of them; Ctrl-C is safe: `{}` goes on where this stops",
                self.command
            ));
            self.told_left_s = left;
        }
    }

    /// Now and then, how long it still takes.
    fn still_waits(&mut self, left_s: u64) {
        if !self.json && left_s.saturating_add(TELL_EVERY_S) <= self.told_left_s {
            output::line(format!("{} min more", left_s.div_ceil(60)));
            self.told_left_s = left_s;
        }
    }

    /// Goes on with the waiting where only the chain does not answer.
    async fn rides_out(&mut self, error: ExitCommandError) -> Result<(), ExitCommandError> {
        if !error.is_away() {
            return Err(error);
        }
        if !std::mem::replace(&mut self.is_chain_away, true) {
            output::aside(format!(
                "The chain does not answer; what was asked for stays asked, and this goes on when it answers again. \
                 ({})",
                output::with_causes(&error)
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    fn is_back(&mut self) {
        if std::mem::take(&mut self.is_chain_away) {
            output::aside("The chain answers again.");
        }
    }

    /// What waits for its delay: one line for each token and time.
    fn waits(&self) {
        let now = clock::now();
        let mut waits: BTreeMap<(u64, Address), (Amount, usize)> = BTreeMap::new();
        let mut more: BTreeMap<Address, Amount> = BTreeMap::new();
        for wait in &self.report.waiting {
            // To the minute: they began one after the other.
            let minutes = wait.unlocks_at.since_s(now).div_ceil(60);
            let (sum, channels) = waits.entry((minutes, wait.token)).or_default();
            *sum = sum.plus(wait.amount).unwrap_or(*sum);
            *channels += 1;
            let rest = more.entry(wait.token).or_default();
            *rest = rest.plus(wait.more).unwrap_or(*rest);
        }
        for ((minutes, token), (sum, count)) in waits {
            let sum = self.tokens.shown(token, sum);
            let channels = channels(count);
            output::line(format!(
                "{sum} can be taken out of {channels} in {minutes} min"
            ));
        }
        for (token, rest) in more.into_iter().filter(|(_, rest)| !rest.is_zero()) {
            let rest = self.tokens.shown(token, rest);
            output::line(format!(
                "{rest} more came into these channels since: they can only be asked for then, and wait once more"
            ));
        }
    }

    /// Where the money is now, the folder's own together, and what is spent for good.
    fn money(&self) -> Vec<String> {
        let report = &self.report;
        let mor = |amount: Amount| format!("{} MOR", amount.to_decimal(MOR_DECIMALS));
        let shown = |token, amount| match token {
            None => mor(amount),
            Some(token) => self.tokens.shown(token, amount),
        };
        let others = report.returned_others.iter();
        let others = others.map(|other| (other.account, Some(other.token), other.amount));
        let all = report.returned.iter();
        let all = all.map(|(owner, amount)| (*owner, None, *amount));
        let mut lines = Vec::new();
        let mut own: BTreeMap<Option<Address>, (Amount, usize)> = BTreeMap::new();
        for (owner, token, amount) in all.chain(others) {
            let name = self.names.get(&owner);
            let called = name.map_or(String::new(), |name| format!(" ({name})"));
            lines.push(format!("{} at {owner}{called}", shown(token, amount)));
            if name.is_some() {
                let (sum, accounts) = own.entry(token).or_default();
                *sum = sum.plus(amount).unwrap_or(*sum);
                *accounts += 1;
            }
        }
        for (token, (sum, accounts)) in own {
            if accounts > 1 {
                let sum = shown(token, sum);
                lines.push(format!(
                    "{sum} together in these {accounts} accounts, all yours"
                ));
            }
        }
        if !report.fees.is_zero() {
            let bids = match report.bids_deleted {
                1 => "The fee of a bid does".to_owned(),
                bids => format!("The fees of {bids} bids do"),
            };
            let fees = mor(report.fees);
            lines.push(format!("{bids} not come back: {fees}, as fees are now"));
        }
        lines
    }

    fn end(&self) {
        let report = &self.report;
        if self.json {
            return output::json(report);
        }
        for stuck in &report.blocked {
            output::line(format!(
                "{}: cannot {} now: {}",
                stuck.account, stuck.step, stuck.reason
            ));
            self.by_hand(&stuck.account, &stuck.cast);
        }
        for line in self.money() {
            output::line(line);
        }
        self.waits();
        for wait in &report.waiting {
            self.by_hand(&wait.account, &wait.cast);
        }
        output::line(match (report.done, report.waiting.is_empty()) {
            (true, _) => "all is back; nothing is left to do".to_owned(),
            (false, true) => "not all is back yet: see above".to_owned(),
            (false, false) => format!(
                "not all is back yet: run `{0}` again then, or `{0} --wait` now, which waits",
                self.command
            ),
        });
    }
}

impl From<FolderError> for ExitCommandError {
    fn from(error: FolderError) -> Self {
        Self::Estate(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_names_a_sum_that_is_ours_and_what_is_gone() {
        let address = Address::repeat_byte;
        let mor = |whole: u128| Amount::new(whole * 10_u128.pow(18));
        let names = [(address(1), "payer"), (address(2), "amber")];
        let teller = Teller {
            json: false,
            casts: None,
            command: String::new(),
            tokens: Tokens::default(),
            names: names.map(|(at, name)| (at, name.to_owned())).into(),
            told_left_s: 0,
            is_chain_away: false,
            report: Report {
                returned: [1, 2, 3].map(|n| (address(n), mor(u128::from(n)))).into(),
                bids_deleted: 3,
                fees: mor(1),
                ..Report::default()
            },
        };
        let lines = teller.money();
        let expected = [
            format!("1 MOR at {} (payer)", address(1)),
            format!("2 MOR at {} (amber)", address(2)),
            format!("3 MOR at {}", address(3)),
            "3 MOR together in these 2 accounts, all yours".to_owned(),
            "The fees of 3 bids do not come back: 1 MOR, as fees are now".to_owned(),
        ];
        assert_eq!(lines, expected);
    }
}
