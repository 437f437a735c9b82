//! All that a data folder has in the market, found in its keys and journals
//! while no node runs on it. With the chain at hand it can be told and brought back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use chain::{Endpoints, EvmLedger, Network};
use consumer::PurseView;
use market::{Address, Belongings, LedgerError, WalletKey};
use provider::TillView;
use store::Store;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain_watch::{self, ChainIdentityError};
use crate::cli::{self, NamedBy};
use crate::clock;
use crate::folder::{Folder, FolderError};
use crate::keystore::{Keystore, is_former};
use crate::last_chain::LastChain;
use crate::local::{self, LocalError};
use crate::output;
use crate::phrase::Branch;
use crate::place::{Place, PlaceError};
use crate::pseudonyms::payer_name;

/// The name of the consumer's journal.
pub(crate) const CONSUMER: &str = "consumer";
/// The name of the key that signs a buyer's vouchers.
const SIGNER: &str = "hot";
/// The name of the wallet's key.
pub(crate) const WALLET: &str = "payer";

/// The network if nothing is said.
const LOCAL: &str = "local";

/// Why it cannot be found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EstateError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Place(Box<PlaceError>),
    #[error(transparent)]
    Network(#[from] chain::NetworkError),
    #[error(transparent)]
    Chain(#[from] LocalError),
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
    #[error("the consumer's journal is not understood")]
    Purses(#[from] consumer::StartError),
    #[error("the journal of {name:?} is not understood")]
    Tills {
        name: String,
        #[source]
        source: Box<provider::ReplayError>,
    },
}

impl From<PlaceError> for EstateError {
    fn from(error: PlaceError) -> Self {
        Self::Place(Box::new(error))
    }
}

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A provider, a relay or a tower.
    Seller,
    /// Pays one provider; its money comes from the wallet.
    Pseudonym,
    /// Of the folder's keys, and used by none of its roles, as a wallet that an imported key took the place of.
    Spare,
    /// Where a consumer's money is.
    Wallet,
}

/// One account of the folder.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) purses: Vec<PurseView>,
    pub(crate) tills: Vec<TillView>,
    key: Arc<WalletKey>,
    /// Where its transactions are journalled. None: there are no books, and it sends nothing.
    store: Option<Store>,
}

/// What is made of a folder that has keys and no books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bookless {
    /// Its accounts are looked at.
    Look,
    /// Its accounts may send what they have: books are begun.
    Begin,
}

impl Account {
    /// Its address.
    pub(crate) fn address(&self) -> market::Address {
        self.key.address()
    }

    /// What it may have; without a home.
    pub(crate) fn belongings(&self, network: &Network) -> Belongings {
        let account = self.address();
        let tills = || self.tills.iter().map(|till| till.config);
        let tokens = network.tokens.iter().map(|token| token.address);
        let tokens: BTreeSet<_> = tokens.chain(tills().map(|config| config.token)).collect();
        let receivers = tills().map(|config| config.receiver);
        Belongings {
            earns_for: receivers.filter(|receiver| *receiver != account).collect(),
            pays: self.purses.iter().map(|purse| purse.config).collect(),
            claims: self.tills.iter().filter_map(TillView::claim).collect(),
            tokens: tokens.into_iter().collect(),
            home: None,
        }
    }
}

/// A data folder, taken, with its chain.
pub(crate) struct Estate {
    pub(crate) place: Place,
    /// Sellers, then pseudonyms, then the wallet: the order in which money comes home.
    pub(crate) accounts: Vec<Account>,
    stores: Vec<Store>,
    /// A buyer's keys were used here, and its books are not there.
    has_lost_books: bool,
    /// One for each account at most: a ledger owns its account's nonce.
    ledgers: Mutex<BTreeMap<String, EvmLedger>>,
    chain_stop: CancellationToken,
    chain_tasks: TaskTracker,
}

impl Estate {
    /// Takes the folder. None: there are neither books nor keys in it. Where the
    /// folder has an embedded chain of its own, that one is started, if the
    /// command line names no other; elsewhere the chain is where the flags say.
    pub(crate) async fn open(
        data: cli::Data,
        flags: &cli::Network,
        bookless: Bookless,
    ) -> Result<Option<Self>, EstateError> {
        let look = Folder::look(data.folder.clone())?;
        let last = last_chain(&look, flags);
        let name = last.as_ref().map_or(&*flags.network, LastChain::network);
        let network = Network::by_name(name, flags.unaudited)?;
        let names = journals(&look)?;
        if names.is_empty() && !has_accounts(&look)? {
            return Ok(None);
        }
        let folder = Folder::take(data.folder)?;
        let (chain_stop, chain_tasks) = (CancellationToken::new(), TaskTracker::new());
        let has_chain = folder.join("chain").is_dir();
        let is_own = has_chain && flags.named_by != NamedBy::Flag;
        let endpoints = match is_own {
            true => {
                let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
                let path = folder.path();
                Box::pin(local::start(
                    path,
                    anywhere,
                    false,
                    &chain_tasks,
                    &chain_stop,
                ))
                .await?
                .into()
            }
            false => match &last {
                Some(last) => Endpoints::from(last.rpc_urls().to_vec()),
                None => Endpoints::from(flags.rpc_url.clone()),
            },
        };
        let mut place = Place::new(folder, network, endpoints)?;
        if let Some(last) = &last {
            last.tell();
        }
        if is_own || last.is_some() {
            place = place.with_chain_found();
        }
        let mut estate = Self {
            place,
            accounts: Vec::new(),
            stores: Vec::new(),
            has_lost_books: false,
            ledgers: Mutex::default(),
            chain_stop,
            chain_tasks,
        };
        let others = estate.of_other_chains(&names, has_chain).await?;
        if names.is_empty() && bookless == Bookless::Begin {
            let store = estate.place.store(CONSUMER).await?;
            estate.stores.push(store);
        }
        estate.fill(&names, &others).await?;
        Ok(Some(estate))
    }

    /// Finds the accounts: those of the books, but for the ones that are left out, and those of the keys.
    async fn fill(&mut self, names: &[String], left_out: &[String]) -> Result<(), EstateError> {
        for name in names.iter().filter(|name| !left_out.contains(name)) {
            self.read(name.clone()).await?;
        }
        let signer = self.place.keys.in_use(SIGNER);
        let was_buyer = signer.map_err(PlaceError::from)?.is_some();
        self.has_lost_books = was_buyer && !names.iter().any(|name| name == CONSUMER);
        self.add_the_rest(left_out)?;
        self.accounts.sort_by_key(|account| account.role);
        Ok(())
    }

    /// Adds the accounts of the keys that no books speak of. Those of the books that are
    /// left out are left out, too.
    fn add_the_rest(&mut self, left_out: &[String]) -> Result<(), EstateError> {
        let keys = self.place.keys.clone();
        let is_buyer = self.wallet().is_some() || self.has_lost_books;
        let has_books = !self.accounts.is_empty();
        for name in keys.accounts().map_err(PlaceError::from)? {
            let role = match Branch::of(&name) {
                Branch::Payer(_) if is_buyer => Role::Pseudonym,
                Branch::Wallet if name == WALLET && (is_buyer || !has_books) => Role::Wallet,
                _ => Role::Spare,
            };
            let of_consumer = matches!(Branch::of(&name), Branch::Payer(_) | Branch::Wallet);
            let book = if of_consumer { CONSUMER } else { &name };
            let is_left_out = left_out.iter().any(|other| other == book);
            let address = keys.address(&name).map_err(PlaceError::from)?;
            let is_known = self.accounts.iter().any(|one| one.address() == address);
            if !is_known && !is_left_out {
                let store = self.stores.first().cloned();
                self.add(name, role, store, vec![], vec![])?;
            }
        }
        Ok(())
    }

    /// The books that are of another chain than the one that is used now; they are
    /// told. If all are, the chain is refused. `has_chain`: the folder has one in it.
    async fn of_other_chains(
        &self,
        names: &[String],
        has_chain: bool,
    ) -> Result<Vec<String>, EstateError> {
        // It only reads: any key that the folder has will do.
        let is_buyer = names.iter().any(|name| name == CONSUMER);
        let seller = names.first().filter(|_| !is_buyer);
        let of_keys = match names.is_empty() {
            true => self.place.keys.accounts().map_err(PlaceError::from)?,
            false => Vec::new(),
        };
        let name = seller.or(of_keys.first());
        let key = self.place.keys.wallet(name.map_or(WALLET, String::as_str));
        let key = Arc::new(key.map_err(PlaceError::from)?);
        let ledger = self.place.reader(key).await?;
        let Some(first) = chain_watch::first_block(&ledger).await else {
            return Ok(Vec::new());
        };
        let chain_id = self.place.network.chain_id;
        let mut others = Vec::new();
        for name in names {
            let store = self.place.store_or_copy(name)?;
            let fits = chain_watch::is_no_other(&store, chain_id, first).await;
            let known = chain_watch::known(&store).await;
            store.close().await;
            let known = known.map_err(ChainIdentityError::from);
            let known = known.map_err(PlaceError::from)?;
            match fits {
                Ok(()) if known.is_empty() || known.contains(&chain_id.to_string()) => {}
                // Elsewhere a server may not have told the first block before.
                Ok(()) if !has_chain => {}
                Ok(()) => others.push(name.clone()),
                Err(ChainIdentityError::Other { .. }) if others.len() + 1 < names.len() => {
                    others.push(name.clone());
                }
                Err(error) => return Err(PlaceError::from(error).into()),
            }
        }
        if !others.is_empty() {
            let usual = match has_chain {
                true => "the chain in the folder is taken",
                false => "the one is asked that the folder was last used with",
            };
            output::aside(format!(
                "WARNING: left out are books of another chain in this folder: {}. Name that chain with --rpc-url URL; \
                 without it, {usual}.",
                others.join(", ")
            ));
        }
        Ok(others)
    }

    async fn read(&mut self, name: String) -> Result<(), EstateError> {
        let store = self.place.store_or_copy(&name)?;
        self.stores.push(store.clone());
        let domain = self.place.network.domain();
        if name == CONSUMER {
            let purses = consumer::read_books(&store, &domain).await?;
            let mut payers: Vec<u32> = purses.iter().map(|purse| purse.payer).collect();
            payers.extend([0]);
            let former = self.former()?;
            payers.sort_unstable();
            payers.dedup();
            for number in payers {
                let (name, role) = match number {
                    0 => (WALLET.to_owned(), Role::Wallet),
                    number => (payer_name(number), Role::Pseudonym),
                };
                // Some were opened before another key took this one's place.
                let mut own = Vec::new();
                let mut of_former: BTreeMap<&str, Vec<PurseView>> = BTreeMap::new();
                for purse in purses.iter().filter(|purse| purse.payer == number) {
                    match former.get(&purse.config.payer) {
                        Some(former) => of_former.entry(former).or_default().push(*purse),
                        None => own.push(*purse),
                    }
                }
                self.add(name, role, Some(store.clone()), own, vec![])?;
                for (name, purses) in of_former {
                    let store = Some(store.clone());
                    self.add(name.to_owned(), Role::Spare, store, purses, vec![])?;
                }
            }
            return Ok(());
        }
        let tills = provider::read_books(&store, &domain, clock::now()).await;
        let tills = tills.map_err(|source| EstateError::Tills {
            name: name.clone(),
            source: Box::new(source),
        })?;
        self.add(name, Role::Seller, Some(store), vec![], tills)
    }

    /// The accounts that other keys took the place of.
    fn former(&self) -> Result<BTreeMap<Address, String>, EstateError> {
        let keys = &self.place.keys;
        let mut former = BTreeMap::new();
        let names = keys.accounts().map_err(PlaceError::from)?;
        for name in names.into_iter().filter(|name| is_former(name)) {
            let address = keys.address(&name).map_err(PlaceError::from)?;
            former.insert(address, name);
        }
        Ok(former)
    }

    /// What is not right with the folder, in words.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let lost = self.has_lost_books.then(|| {
            format!(
                "a buyer's keys were used here and its books are not there, reset or lost: what is in its channels is not \
                 counted; `lethe wallet restore{}` finds the channels",
                self.place.flags()
            )
        });
        lost.into_iter().collect()
    }

    /// Whether there are books in the folder.
    pub(crate) fn has_books(&self) -> bool {
        !self.stores.is_empty()
    }

    fn add(
        &mut self,
        name: String,
        role: Role,
        store: Option<Store>,
        purses: Vec<PurseView>,
        tills: Vec<TillView>,
    ) -> Result<(), EstateError> {
        let key = self.place.keys.wallet(&name).map_err(PlaceError::from)?;
        self.accounts.push(Account {
            name,
            role,
            purses,
            tills,
            key: Arc::new(key),
            store,
        });
        Ok(())
    }

    /// The wallet, if there is a consumer.
    pub(crate) fn wallet(&self) -> Option<&Account> {
        self.accounts
            .iter()
            .find(|account| account.role == Role::Wallet)
    }

    /// The chain as an account sees it; what its journal has open is gone after.
    pub(crate) async fn ledger(&self, account: &Account) -> Result<EvmLedger, EstateError> {
        let mut ledgers = self.ledgers.lock().await;
        if let Some(ledger) = ledgers.get(&account.name) {
            return Ok(ledger.clone());
        }
        let (key, name) = (Arc::clone(&account.key), &account.name);
        let ledger = match &account.store {
            Some(store) => self.place.ledger(key, store, name).await?,
            None => self.place.reader(key).await?,
        };
        ledgers.insert(name.clone(), ledger.clone());
        Ok(ledger)
    }

    /// The chain, to read only.
    pub(crate) async fn reader(&self) -> Result<Option<EvmLedger>, EstateError> {
        let Some(first) = self.accounts.first() else {
            return Ok(None);
        };
        Ok(Some(self.place.reader(Arc::clone(&first.key)).await?))
    }

    /// Lets go of everything.
    pub(crate) async fn close(self) {
        drop(self.ledgers);
        for store in self.stores {
            store.close().await;
        }
        self.chain_stop.cancel();
        self.chain_tasks.close();
        self.chain_tasks.wait().await;
        drop(self.place);
    }
}

/// Whether there are keys of accounts in a folder. Nothing is made.
fn has_accounts(look: &Folder) -> Result<bool, EstateError> {
    let path = look.join("keys");
    if !path.is_dir() {
        return Ok(false);
    }
    let keys = Keystore::look(path);
    let has_words = keys.phrase().map_err(PlaceError::from)?.is_some();
    let accounts = keys.accounts().map_err(PlaceError::from)?;
    Ok(has_words || !accounts.is_empty())
}

/// The chain that this folder was last used with, where it has none of its own and
/// nobody names one. Of another network than the one that is named it says nothing.
pub(crate) fn last_chain(folder: &Folder, flags: &cli::Network) -> Option<LastChain> {
    if folder.join("chain").is_dir() || flags.named_by != NamedBy::Nobody {
        return None;
    }
    let is_unsaid = flags.network == LOCAL;
    let fits = |last: &LastChain| is_unsaid || last.network() == flags.network;
    LastChain::read(folder).filter(fits)
}

/// The names of the journals in a folder, which are those of its roles.
fn journals(folder: &Folder) -> Result<Vec<String>, FolderError> {
    let at = |source| FolderError::Unusable {
        path: folder.path().to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder.path()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(at)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(at)?.file_name();
        let name = name.to_string_lossy();
        names.extend(name.strip_suffix(".sqlite").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
