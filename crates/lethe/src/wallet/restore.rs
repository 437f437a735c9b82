//! `lethe wallet restore`: from the words alone, on an empty disk or beside
//! old books, every channel that a payer of these words ever opened.
//!
//! The contract's event names the payer of each channel. Pseudonyms are
//! numbered from 1 on, so they are looked for until so many in a row never
//! paid ([`GAP`]). What was signed on the channels is not known, so all of
//! them are marked as restored: nothing is signed before the chain proves it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chain::{Endpoints, EvmLedger, MemoryJournal, Network, NetworkError, Token, Tokens};
use consumer::{Found, RestoredChannel};
use market::{Address, Amount, ChannelConfig, ChannelState, Domain, Ledger, LedgerError};
use serde_json::json;

use crate::chain_watch;
use crate::cli;
use crate::cli::wallet::Restore;
use crate::estate::last_chain;
use crate::folder::{Folder, FolderError};
use crate::identity::{Books, IdentityError};
use crate::keystore::{Keystore, KeystoreError};
use crate::last_chain::LastChain;
use crate::phrase::{Phrase, PhraseError};
use crate::place::{self, PlaceError};
use crate::policies::MOR_DECIMALS;
use crate::secret::SecretError;
use crate::{output, secret};

/// So many pseudonyms in a row that never paid end the search.
pub(super) const GAP: u32 = 20;

/// Why nothing, or not all, was restored. It can be done again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("these are not the words of a wallet")]
    Words(#[source] PhraseError),
    #[error("the chain does not tell which channels there are")]
    Ledger(#[from] LedgerError),
    #[error("the damaged books {path:?} could not be set aside")]
    Aside {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the channels could not be written down")]
    Channels(#[from] consumer::RestoreError),
}

/// An account of the words.
struct Account {
    number: u32,
    signer: Address,
}

/// What the chain has of the words.
#[derive(Default)]
struct Search {
    /// Channels that this folder can sign for.
    found: Vec<Found>,
    /// Channels of its payers with a signer that is none of its keys: it can withdraw, and no more.
    foreign: Vec<ChannelConfig>,
    /// Payers beside the wallet, up to the end of the search.
    pseudonyms: BTreeMap<u32, Address>,
}

/// The words that are given, if the folder has none or others are named. Nothing is written.
pub(super) fn given(folder: &Folder, args: &Restore) -> Result<Option<Phrase>, RestoreError> {
    network(folder, &args.network)?;
    let path = folder.join("keys");
    let has_words = path.is_dir()
        && Keystore::open(path, folder.has_books()?)?
            .phrase()?
            .is_some();
    if has_words && args.phrase_file.is_none() {
        return Ok(None);
    }
    let words = secret::words(args.phrase_file.as_deref())?;
    Phrase::parse(&words).map(Some).map_err(RestoreError::Words)
}

/// The one that is named, or that the folder was last used with.
fn network(folder: &Folder, flags: &cli::Network) -> Result<Network, NetworkError> {
    let last = last_chain(folder, flags);
    let name = last.as_ref().map_or(&*flags.network, LastChain::network);
    Network::by_name(name, flags.unaudited)
}

/// Does it, and says what was found.
pub(super) async fn restore(
    folder: Folder,
    args: Restore,
    phrase: Option<Phrase>,
) -> Result<(), RestoreError> {
    let network = network(&folder, &args.network)?;
    let keys = Keystore::open(folder.join("keys"), folder.has_books()?)?;
    if let Some(phrase) = phrase {
        keys.take_phrase(&phrase, args.account)?;
    }
    let endpoints = match last_chain(&folder, &args.network) {
        Some(last) => {
            last.tell();
            Endpoints::from(last.rpc_urls().to_vec())
        }
        None => Endpoints::from(args.network.rpc_url.clone()),
    };
    let wallet = Arc::new(keys.wallet("payer")?);
    let journal = Arc::new(MemoryJournal::default());
    let connected = EvmLedger::connect(&endpoints, network.clone(), wallet, journal).await;
    let ledger = connected.map_err(|source| PlaceError::Chain {
        rpc_url: endpoints.urls().join(", "),
        source: Box::new(source),
    })?;
    let configs = created(&ledger, args.from_block).await?;
    let search = search(&keys, &configs)?;

    let path = folder.join("consumer.sqlite");
    let domain = ledger.domain();
    let mut aside = None;
    let channels = match write(&path, &domain, &search.found).await {
        Err(error) if error.is_of_damaged_books() => {
            aside = Some(set_aside(&path)?);
            write(&path, &domain, &search.found).await?
        }
        written => written?,
    };
    note_chain(&path, &ledger).await?;
    // For who asks when no node runs. A folder with its own chain in it needs nothing said.
    if !folder.join("chain").is_dir() {
        LastChain::new(&network, endpoints.urls()).keep(&folder)?;
    }
    let found = Report {
        search,
        channels,
        aside,
    };
    found.tell(&ledger, args.json).await
}

/// Writes what was found into the books, which are bound to where they are.
async fn write(
    path: &Path,
    domain: &Domain,
    found: &[Found],
) -> Result<Vec<RestoredChannel>, RestoreError> {
    let store = place::open(path)?;
    let written = async {
        let channels = consumer::restore(&store, domain, found).await?;
        Books::at(&store, path)?.adopt().await?;
        Ok::<_, RestoreError>(channels)
    };
    let written = written.await;
    store.close().await;
    written
}

/// Notes in the books which chain they are of: another one in its place is noticed.
async fn note_chain(path: &Path, ledger: &EvmLedger) -> Result<(), PlaceError> {
    let store = place::open(path)?;
    let same = chain_watch::is_the_same(&store, ledger).await;
    store.close().await;
    Ok(same?)
}

impl RestoreError {
    /// Whether the books cannot be used, whoever holds them.
    fn is_of_damaged_books(&self) -> bool {
        use consumer::RestoreError::{Entry, Purse};
        use store::OpenError::{Damaged, Foreign};
        match self {
            Self::Place(PlaceError::Store { source, .. }) => {
                matches!(source, Damaged { .. } | Foreign { .. })
            }
            Self::Channels(error) => matches!(error, Entry { .. } | Purse { .. }),
            _ => false,
        }
    }
}

/// Moves damaged books to a name that nothing here uses; never wipes them.
fn set_aside(path: &Path) -> Result<PathBuf, RestoreError> {
    let with = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let at = |source| RestoreError::Aside {
        path: path.to_owned(),
        source,
    };
    let free = (1u32..)
        .map(|n| format!(".aside-{n}"))
        .find(|name| !with(name).exists());
    let ending = free.unwrap_or_default();
    // What the log holds belongs to the books; the mark is of their last start.
    for part in ["-wal", "-shm", ".mark", ""] {
        match std::fs::rename(with(part), with(&format!("{part}{ending}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
    }
    Ok(with(&ending))
}

/// Every channel that was created from this block on.
async fn created(ledger: &EvmLedger, mut from: u64) -> Result<Vec<ChannelConfig>, LedgerError> {
    let mut configs = Vec::new();
    loop {
        let (created, next) = ledger.channels_created(from).await?;
        configs.extend(created.into_iter().map(|(config, _)| config));
        if next <= from {
            return Ok(configs);
        }
        from = next;
    }
}

/// Sorts the channels on chain by what these keys can do with them.
fn search(keys: &Keystore, configs: &[ChannelConfig]) -> Result<Search, RestoreError> {
    let mut by_payer: BTreeMap<Address, Vec<&ChannelConfig>> = BTreeMap::new();
    for config in configs {
        by_payer.entry(config.payer).or_default().push(config);
    }
    let mut search = Search::default();
    let (mut number, mut unused) = (0, 0);
    while unused < GAP {
        let (payer, account) = account(keys, number)?;
        let paid = by_payer.get(&payer);
        if number > 0 {
            search.pseudonyms.insert(number, payer);
            unused = if paid.is_some() { 0 } else { unused + 1 };
        }
        for config in paid.into_iter().flatten() {
            search.sort(&account, config);
        }
        number += 1;
    }
    Ok(search)
}

fn account(keys: &Keystore, number: u32) -> Result<(Address, Account), RestoreError> {
    let (payer, hot) = match number {
        0 => ("payer".to_owned(), "hot".to_owned()),
        number => (format!("payer-{number}"), format!("hot-{number}")),
    };
    let signer = keys.address(&hot)?;
    Ok((keys.address(&payer)?, Account { number, signer }))
}

impl Search {
    fn sort(&mut self, account: &Account, config: &ChannelConfig) {
        // The event comes again when a channel that was emptied is filled.
        let known = |found: &Found| found.config == *config;
        if self.found.iter().any(known) || self.foreign.contains(config) {
            return;
        }
        match config.voucher_signer() == account.signer {
            true => self.found.push(Found {
                config: *config,
                payer: account.number,
            }),
            false => self.foreign.push(*config),
        }
    }
}

/// The most that anybody could still take of a channel, however much was
/// signed before: what is left in it.
fn at_risk(state: &ChannelState) -> Amount {
    state.balance.less(state.total_claimed)
}

/// What is told in the end.
struct Report {
    search: Search,
    channels: Vec<RestoredChannel>,
    /// Where the damaged books are now.
    aside: Option<PathBuf>,
}

/// A channel with what the chain says of it.
type Told<'a> = (&'a RestoredChannel, ChannelState);
/// An account with what it has of one token.
type Held = (u32, Address, Token, Amount);

impl Report {
    async fn tell(&self, ledger: &EvmLedger, as_json: bool) -> Result<(), RestoreError> {
        let mut told = Vec::with_capacity(self.channels.len());
        for channel in &self.channels {
            told.push((channel, ledger.channel(channel.id).await?));
        }
        let paid = self.channels.iter().map(|channel| channel.config.token);
        let tokens = Tokens::read(ledger, paid.collect()).await?;
        let mut wallet = Vec::new();
        let mut held = Vec::new();
        for token in tokens.all() {
            let amount = ledger.balance(token.address, ledger.account()).await?;
            if token.address == ledger.mor() || !amount.is_zero() {
                wallet.push((token.clone(), amount));
            }
            for (number, account) in &self.search.pseudonyms {
                let amount = ledger.balance(token.address, *account).await?;
                if !amount.is_zero() {
                    held.push((*number, *account, token.clone(), amount));
                }
            }
        }
        wallet.sort_by_key(|(token, _)| (token.address != ledger.mor(), token.address));
        match as_json {
            true => self.json(ledger, &wallet, &told, &held),
            false => {
                let coins = ledger.coins(ledger.account()).await?;
                self.print(ledger, &tokens, (&wallet, coins), &told, &held);
            }
        }
        Ok(())
    }

    fn json(
        &self,
        ledger: &EvmLedger,
        wallet: &[(Token, Amount)],
        told: &[Told<'_>],
        held: &[Held],
    ) {
        let mor = ledger.mor();
        let (own, others): (Vec<_>, Vec<_>) =
            wallet.iter().partition(|(token, _)| token.address == mor);
        let own = own.first().map_or(Amount::ZERO, |(_, amount)| *amount);
        let other = |(token, amount): &&(Token, Amount)| {
            json!({
                "token": token.address, "symbol": token.symbol, "amount": amount,
            })
        };
        let of_channel = |(channel, state): &Told<'_>| {
            json!({
                "id": channel.id, "payer": channel.config.payer, "number": channel.payer,
                "provider": channel.config.receiver, "token": channel.config.token, "new": channel.is_new,
                "balance": state.balance, "claimed": state.total_claimed,
                "charged": channel.charged, "signed": channel.ceiling, "at_risk": at_risk(state),
            })
        };
        let of_account = |(number, account, token, amount): &Held| match token.address == mor {
            true => json!({ "number": number, "account": account, "mor": amount }),
            false => json!({
                "number": number, "account": account, "token": token.address, "symbol": token.symbol,
                "amount": amount,
            }),
        };
        output::json(&json!({
            "wallet": ledger.account(), "mor": own,
            "others": others.iter().map(other).collect::<Vec<_>>(),
            "channels": told.iter().map(of_channel).collect::<Vec<_>>(),
            "foreign": self.search.foreign,
            "accounts": held.iter().map(of_account).collect::<Vec<_>>(),
            "set_aside": self.aside,
        }));
    }

    fn print(
        &self,
        ledger: &EvmLedger,
        tokens: &Tokens,
        (wallet, coins): (&[(Token, Amount)], Amount),
        told: &[Told<'_>],
        held: &[Held],
    ) {
        if let Some(path) = &self.aside {
            output::line(format!(
                "The books were damaged; they are in {} now.",
                path.display()
            ));
        }
        output::line(holdings(ledger.account(), wallet, coins, told.len()));
        for (channel, state) in told {
            output::line(format!(
                "{}  to {}  holds {}; how much of that was spent is not known here",
                channel.id,
                channel.config.receiver,
                tokens.shown(channel.config.token, at_risk(state)),
            ));
        }
        for config in &self.search.foreign {
            output::line(format!(
                "{}  to {}  has a signer that is none of these keys; its payer {} can withdraw with initiateWithdraw",
                config.id(&ledger.domain()),
                config.receiver,
                config.payer,
            ));
        }
        for (number, account, token, amount) in held {
            let amount = token.shown(*amount);
            output::line(format!("payer-{number} {account}: {amount}"));
        }
        if !told.is_empty() {
            output::line(
                "Nothing is signed on these channels until their provider's receipts are fetched and the chain proves them.",
            );
        }
    }
}

/// What a wallet has of each token and for gas, and in how many channels there is more.
fn holdings(
    account: Address,
    wallet: &[(Token, Amount)],
    coins: Amount,
    channels: usize,
) -> String {
    let tokens = wallet.iter().map(|(token, amount)| token.shown(*amount));
    let tokens: Vec<_> = tokens.collect();
    let channels = match channels {
        0 => "No channel of its words is on this chain".to_owned(),
        1 => "1 channel".to_owned(),
        channels => format!("{channels} channels"),
    };
    format!(
        "Wallet {account}: {} and {} ETH for gas. {channels}.",
        tokens.join(", "),
        coins.to_decimal(MOR_DECIMALS)
    )
}

#[cfg(test)]
mod tests {
    use market::B256;

    use super::*;
    use crate::keystore::Keystore;

    fn keys() -> (tempfile::TempDir, Keystore) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keystore::open(folder.path().join("keys"), false).unwrap();
        let words = "test test test test test test test test test test test junk";
        keys.take_phrase(&Phrase::parse(words).unwrap(), 0).unwrap();
        (folder, keys)
    }

    fn config(keys: &Keystore, number: u32, salt: u8) -> ChannelConfig {
        let (payer, account) = account(keys, number).unwrap();
        ChannelConfig {
            payer,
            payer_authorizer: account.signer,
            receiver: Address::repeat_byte(9),
            receiver_authorizer: Address::repeat_byte(9),
            token: Address::repeat_byte(8),
            withdraw_delay_s: 900,
            salt: B256::with_last_byte(salt),
        }
    }

    fn numbers(keys: &Keystore, configs: &[ChannelConfig]) -> Vec<u32> {
        let search = search(keys, configs).unwrap();
        search.found.iter().map(|found| found.payer).collect()
    }

    #[tokio::test]
    async fn wrong_words_leave_no_folder_behind() {
        use clap::Parser as _;
        let folder = tempfile::tempdir().unwrap();
        let (data, words) = (folder.path().join("new"), folder.path().join("words"));
        crate::keystore::write_private(&words, b"these are none").unwrap();
        let (path, words) = (data.to_str().unwrap(), words.to_str().unwrap());
        let line = ["lethe", "wallet", "--data", path, "restore"];
        let line = [&line[..], &["--phrase-file", words]].concat();
        let crate::cli::Command::Wallet(args) = crate::cli::Cli::parse_from(line).command else {
            panic!("another command");
        };
        let told = super::super::wallet(args).await.unwrap_err().to_string();
        assert!(!data.exists(), "{told}");
    }

    #[test]
    fn channels_are_found_up_to_the_gap_and_beyond_those_that_are_found() {
        let (_folder, keys) = keys();
        let of = |numbers: &[u32]| -> Vec<_> {
            numbers
                .iter()
                .map(|number| config(&keys, *number, 0))
                .collect()
        };
        assert_eq!(numbers(&keys, &of(&[0])), [0]);
        assert_eq!(numbers(&keys, &of(&[20])), [20]);
        assert_eq!(numbers(&keys, &of(&[21])), Vec::<u32>::new());
        assert_eq!(numbers(&keys, &of(&[40, 20, 60])), [20, 40, 60]);
        assert_eq!(numbers(&keys, &[]), Vec::<u32>::new());
    }

    #[test]
    fn the_same_event_twice_is_one_channel_and_salts_are_several() {
        let (_folder, keys) = keys();
        let first = config(&keys, 1, 0);
        let configs = [first, config(&keys, 1, 1), first];
        assert_eq!(numbers(&keys, &configs), [1, 1]);
    }

    #[test]
    fn what_these_keys_cannot_sign_for_is_told_apart() {
        let (_folder, keys) = keys();
        let mut foreign = config(&keys, 1, 0);
        foreign.payer_authorizer = Address::repeat_byte(7);
        let mut somebodys = config(&keys, 2, 0);
        somebodys.payer = Address::repeat_byte(6);
        let search = search(&keys, &[foreign, somebodys]).unwrap();
        assert!(search.found.is_empty());
        assert_eq!(search.foreign, [foreign]);
    }

    #[tokio::test]
    async fn damaged_books_are_set_aside_and_never_wiped() {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::repeat_byte(9),
        };
        let (_keys_folder, keys) = keys();
        let found = Found {
            config: config(&keys, 1, 0),
            payer: 1,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consumer.sqlite");
        let damage: [&[u8]; 2] = [
            b"no database, but long enough to be told apart from one",
            &[7; 9000],
        ];
        for (n, bytes) in (1..).zip(damage) {
            std::fs::write(&path, bytes).unwrap();
            let error = write(&path, &domain, &[found]).await.unwrap_err();
            assert!(error.is_of_damaged_books(), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            let aside = set_aside(&path).unwrap();
            assert_eq!(
                aside,
                folder.path().join(format!("consumer.sqlite.aside-{n}"))
            );
            assert_eq!(std::fs::read(&aside).unwrap(), bytes);
            let channels = write(&path, &domain, &[found]).await.unwrap();
            assert_eq!(channels.len(), 1);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn books_that_do_not_add_up_are_damaged_and_those_of_a_newer_program_are_not() {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::repeat_byte(9),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consumer.sqlite");
        let store = place::open(&path).unwrap();
        let odd = store::Entry {
            kind: "opened".into(),
            key: None,
            payload: b"odd".to_vec(),
        };
        store
            .journal("consumer/channels")
            .append(vec![odd])
            .await
            .unwrap();
        store.close().await;
        let error = write(&path, &domain, &[]).await.unwrap_err();
        assert!(error.is_of_damaged_books(), "{error}");
        let in_use = place::open(&path).unwrap();
        let error = write(&path, &domain, &[]).await.unwrap_err();
        assert!(!error.is_of_damaged_books(), "{error}");
        in_use.close().await;
    }
}
