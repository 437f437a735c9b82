//! What every role needs: a data folder, keys, a chain.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use chain::{Endpoints, EvmLedger, MemoryJournal, Movements, Network, Token};
use market::{Account, Address, Amount, Ledger, LedgerError, WalletKey};
use store::Store;

use crate::chain_watch::{self, ChainIdentityError};
use crate::cli;
use crate::config::without_secrets;
use crate::estate::WALLET;
use crate::folder::{Folder, FolderError, quoted};
use crate::identity::{Books, IdentityError};
use crate::keystore::{Keystore, KeystoreError};
use crate::last_chain::LastChain;
use crate::output;
use crate::phrase::Branch;
use crate::places::Place as Holding;
use crate::tx_journal::StoredTransactions;

/// Why a role has no ground to stand on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Network(#[from] chain::NetworkError),
    #[error("the chain at {0} cannot be used", without_secrets(rpc_url))]
    Chain {
        rpc_url: String,
        #[source]
        source: Box<LedgerError>,
    },
    #[error(
        "the chain at {rpc_url} does not answer: {}, or name another with --rpc-url URL",
        start_it(*is_local)
    )]
    Silent {
        /// Without secrets.
        rpc_url: String,
        is_local: bool,
        #[source]
        source: Innermost,
    },
    #[error("{}", too_few(*given, away))]
    TooFew { given: usize, away: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    OtherChain(#[from] ChainIdentityError),
    #[error("the journal {path:?} cannot be opened")]
    Store {
        path: std::path::PathBuf,
        #[source]
        source: store::OpenError,
    },
}

impl PlaceError {
    /// Of a chain at these servers that was not to be had.
    fn chain(endpoints: &Endpoints, network: &Network, source: LedgerError) -> Self {
        let urls = endpoints.urls();
        match innermost(&source).is::<std::io::Error>() {
            true => Self::Silent {
                rpc_url: urls
                    .iter()
                    .map(|url| without_secrets(url))
                    .collect::<Vec<_>>()
                    .join(", "),
                is_local: network.is_local(),
                source: Innermost(Box::new(source)),
            },
            false => Self::Chain {
                rpc_url: urls.first().cloned().unwrap_or_default(),
                source: Box::new(source),
            },
        }
    }
}

/// Nobody was to be connected to. Shown is what the system says to that: the layers above it say
/// no more than that nobody answered.
#[derive(Debug)]
pub(crate) struct Innermost(Box<LedgerError>);

impl fmt::Display for Innermost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(innermost(&*self.0), out)
    }
}

impl Error for Innermost {}

/// The last of an error's causes, or itself.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last
}

fn start_it(is_local: bool) -> &'static str {
    match is_local {
        true => "start `lethe up` or `lethe chain`",
        false => "look at the address and the firewall",
    }
}

fn too_few(given: usize, away: &str) -> String {
    match given {
        2 => format!(
            "of two servers of the chain both must agree, and {away} does not answer: name a third with --rpc-url, or \
             leave that one out"
        ),
        given => format!(
            "of {given} servers of the chain two must agree, and these do not answer: {away}; name others with --rpc-url"
        ),
    }
}

/// Where roles live.
pub(crate) struct Place {
    pub(crate) folder: Folder,
    pub(crate) keys: Keystore,
    pub(crate) network: Network,
    pub(crate) endpoints: Endpoints,
    /// The first of them.
    pub(crate) rpc_url: String,
    /// Whether commands find the chain by the folder alone.
    finds_chain: bool,
}

/// An account of the folder's keys that no role uses.
#[derive(Debug, Clone)]
pub(crate) struct Spare {
    /// The name of its key.
    pub(crate) name: String,
    pub(crate) address: Address,
}

impl Spare {
    /// Where what it holds is, in words.
    pub(crate) fn holding(&self, held: Amount) -> Holding {
        let Self { name, address } = self;
        let detail = format!(
            "at {address}, which nothing here pays from; yours at any time with the key that `lethe wallet export {name}` of this folder gives"
        );
        Holding::new(format!("account {name}"), "wallet", held, &detail)
    }
}

/// The flag of cast for a chain's server. A URL with a key in it stays out of
/// the terminal and the log; the shell puts it in from the variable.
pub(crate) fn cast_flag(rpc_url: &str) -> String {
    match without_secrets(rpc_url) == rpc_url {
        true => format!("--rpc-url {}", quoted(rpc_url)),
        false => "--rpc-url \"$ETH_RPC_URL\"".to_owned(),
    }
}

/// Lines of cast with that flag in each.
pub(crate) fn cast_at(lines: &str, flag: &str) -> String {
    let send = lines.replace("cast send ", &format!("cast send {flag} "));
    send.replace("cast balance ", &format!("cast balance {flag} "))
}

impl Place {
    /// On this folder and this chain.
    pub(crate) fn new(
        folder: Folder,
        network: Network,
        endpoints: impl Into<Endpoints>,
    ) -> Result<Self, PlaceError> {
        let endpoints = endpoints.into();
        let rpc_url = endpoints.urls().first().cloned().unwrap_or_default();
        let keys = Keystore::open(folder.join("keys"), folder.has_books()?)?;
        Ok(Self {
            folder,
            keys,
            network,
            endpoints,
            rpc_url,
            finds_chain: false,
        })
    }

    /// Of a folder that says by itself where its chain is: it has it in it, or remembers it.
    pub(crate) fn with_chain_found(mut self) -> Self {
        self.finds_chain = true;
        self
    }

    /// What a command needs beside its name to work on this folder and its chain.
    pub(crate) fn flags(&self) -> String {
        let mut flags = self.folder.flag();
        if self.finds_chain {
            return flags;
        }
        if !self.network.is_local() {
            flags.push_str(&format!(" --network {} --unaudited", self.network.name));
        }
        let urls = self.endpoints.urls();
        if urls != [cli::RPC_URL] {
            let named = urls.iter().map(|url| format!(" --rpc-url {}", quoted(url)));
            flags.extend(named);
        }
        flags
    }

    /// The accounts of the folder's keys that a role does not use. `used`: the names of its own.
    pub(crate) fn spares(&self, used: &[&str]) -> Result<Vec<Spare>, PlaceError> {
        let own = |name: &str| {
            let is_pseudonym = matches!(Branch::of(name), Branch::Payer(_));
            used.contains(&name) || is_pseudonym && used.contains(&WALLET)
        };
        let mut spares = Vec::new();
        for name in self.keys.accounts()? {
            if !own(&name) {
                let address = self.keys.address(&name)?;
                spares.push(Spare { name, address });
            }
        }
        Ok(spares)
    }

    /// Where a line of cast finds the chain.
    pub(crate) fn cast_flag(&self) -> String {
        cast_flag(&self.rpc_url)
    }

    /// The journal of a role for who only takes money out: a copy will do.
    pub(crate) fn store_or_copy(&self, role: &str) -> Result<Store, PlaceError> {
        open(&self.folder.join(&format!("{role}.sqlite")))
    }

    /// The journal of a role; a copy of one is refused.
    pub(crate) async fn store(&self, role: &str) -> Result<Store, PlaceError> {
        let path = self.folder.join(&format!("{role}.sqlite"));
        let store = open(&path)?;
        Books::at(&store, &path)?.start().await?;
        Ok(store)
    }

    /// The chain as the account of `key` sees it; its transactions are journalled in `store`.
    pub(crate) async fn ledger(
        &self,
        key: Arc<WalletKey>,
        store: &Store,
        name: &str,
    ) -> Result<EvmLedger, PlaceError> {
        let journal = Arc::new(StoredTransactions::new(store, name));
        let ledger = EvmLedger::connect(&self.endpoints, self.network.clone(), key, journal)
            .await
            .map_err(|source| PlaceError::chain(&self.endpoints, &self.network, source))?;
        chain_watch::is_the_same(store, &ledger).await?;
        Ok(ledger)
    }

    /// The chain as the account of `key` sees it, to read only: what its journal
    /// has open is left alone, and nothing may be written.
    pub(crate) async fn reader(&self, key: Arc<WalletKey>) -> Result<EvmLedger, PlaceError> {
        let journal = Arc::new(MemoryJournal::default());
        EvmLedger::connect(&self.endpoints, self.network.clone(), key, journal)
            .await
            .map_err(|source| PlaceError::chain(&self.endpoints, &self.network, source))
    }

    /// The same, of a role that starts: a chain is refused on which the books of
    /// this folder are not, before anything is written there or sent. Books of
    /// these names, `without`, are not its own. The chain is remembered.
    pub(crate) async fn begin(
        &self,
        key: Arc<WalletKey>,
        without: &[&str],
    ) -> Result<EvmLedger, PlaceError> {
        let ledger = self.reader(key).await?;
        // A folder with books goes on with what it has until all answer again.
        if !self.folder.has_books()? {
            self.has_enough_servers(&ledger).await?;
        }
        let Some(first) = chain_watch::first_block(&ledger).await else {
            self.remember()?;
            return Ok(ledger);
        };
        for path in self.folder.books()? {
            let name = path.file_stem().unwrap_or_default();
            if without.iter().any(|other| name == *other) {
                continue;
            }
            let store = open(&path)?;
            let fits = chain_watch::is_no_other(&store, self.network.chain_id, first).await;
            store.close().await;
            fits?;
        }
        self.remember()?;
        Ok(ledger)
    }

    /// Nothing that a new node sends would be known to have come where too few servers answer.
    async fn has_enough_servers(&self, ledger: &EvmLedger) -> Result<(), PlaceError> {
        let away = ledger.lacking().await;
        match away.is_empty() {
            true => Ok(()),
            false => Err(PlaceError::TooFew {
                given: self.endpoints.urls().len(),
                away: away.join(", "),
            }),
        }
    }

    /// For who asks when no node runs.
    fn remember(&self) -> Result<(), FolderError> {
        match self.finds_chain {
            true => Ok(()),
            false => LastChain::new(&self.network, self.endpoints.urls()).keep(&self.folder),
        }
    }

    /// The treasury of a local chain: its key is published, so every role may ask it for money.
    pub(crate) async fn treasury(&self) -> Result<Option<Treasury>, PlaceError> {
        if !self.network.is_local() {
            return Ok(None);
        }
        let mut treasury = Treasury::of(&self.endpoints, &self.network).await?;
        // The demonstration's own roles take it from themselves.
        treasury.tells = !self.finds_chain;
        Ok(Some(treasury))
    }
}

/// The journals in this file.
pub(crate) fn open(path: &Path) -> Result<Store, PlaceError> {
    Store::open(path).map_err(|source| PlaceError::Store {
        path: path.to_owned(),
        source,
    })
}

/// Money for those who take part in a demonstration.
pub(crate) struct Treasury {
    pub(crate) ledger: EvmLedger,
    /// Whether it says what it gave.
    tells: bool,
}

impl Treasury {
    /// Coins given to an account that has less than a tenth of it: 10.
    const COINS: Amount = Amount::new(10_000_000_000_000_000_000);

    /// Of this chain, which is a local one: others refuse the key.
    pub(crate) async fn of(endpoints: &Endpoints, network: &Network) -> Result<Self, PlaceError> {
        let key = Arc::new(chain::DEVELOPMENT_ACCOUNTS[0].wallet());
        let journal = Arc::new(MemoryJournal::default());
        let ledger = EvmLedger::connect(endpoints, network.clone(), key, journal)
            .await
            .map_err(|source| PlaceError::chain(endpoints, network, source))?;
        Ok(Self {
            ledger,
            tells: false,
        })
    }

    /// Gives it, whatever the account has.
    pub(crate) async fn give(
        &self,
        account: Address,
        coins: Amount,
        tokens: &[(Address, Amount)],
    ) -> Result<(), LedgerError> {
        self.ledger.transfer_coins(account, coins).await?;
        for (token, amount) in tokens {
            self.ledger.transfer(*token, account, *amount).await?;
        }
        Ok(())
    }

    /// Sees that an account has coins for gas and, of each of these tokens that it
    /// never had any of, so much.
    pub(crate) async fn fund(
        &self,
        account: Address,
        tokens: &[(Address, Amount)],
    ) -> Result<(), LedgerError> {
        // Tokens first: who has no coins was not given all of them, wherever a start was cut off.
        let coins = self.ledger.coins(account).await?;
        let mut given = Vec::new();
        for (token, amount) in tokens {
            let held = self.ledger.balance(*token, account).await?;
            let is_due = match coins.is_zero() {
                true => held < *amount,
                // It started before, and then perhaps with other tokens.
                false => held.is_zero() && !self.has_had(account, *token).await?,
            };
            if is_due {
                self.ledger.transfer(*token, account, *amount).await?;
                failpoint::hit("treasury.mor.given");
                let known = self.ledger.network().token(*token).cloned();
                let known = known.unwrap_or_else(|| Token::unknown(*token));
                given.push(known.shown(*amount));
            }
        }
        if coins.base_units() < Self::COINS.base_units() / 10 {
            self.ledger.transfer_coins(account, Self::COINS).await?;
            failpoint::hit("treasury.coins.given");
            given.push(format!("{} ETH", Self::COINS.to_decimal(18)));
        }
        if self.tells && !given.is_empty() {
            output::aside(format!(
                "{account} got {} of this chain's demo money, which is worth nothing.",
                given.join(" and ")
            ));
        }
        Ok(())
    }

    /// Gives an account what it lacks to have so much of a token: what it had before may
    /// have gone elsewhere with it (`lethe exit --to`).
    pub(crate) async fn make_up(
        &self,
        account: Address,
        token: Address,
        needed: Amount,
    ) -> Result<(), LedgerError> {
        let held = self.ledger.balance(token, account).await?;
        let lacking = needed.less(held);
        if !lacking.is_zero() {
            self.ledger.transfer(token, account, lacking).await?;
        }
        Ok(())
    }

    /// Whether an account was ever given any of a token.
    async fn has_had(&self, account: Address, token: Address) -> Result<bool, LedgerError> {
        let wallet = Account::Wallet(account);
        let mut movements = Movements::new(token, 0);
        loop {
            let moved = self.ledger.moved(&mut movements).await?;
            if moved.postings.iter().any(|posting| posting.to == wallet) {
                return Ok(true);
            }
            if moved.at_head {
                return Ok(false);
            }
        }
    }
}
