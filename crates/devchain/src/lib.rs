//! An Ethereum development chain inside the process, spoken to over JSON-RPC.
//!
//! `lethe up` runs a whole market on one machine; this is its chain. It is made
//! of revm and alloy, needs no other program, and keeps to the rules of anvil,
//! against which `tests/anvil.rs` compares it transaction by transaction.
//!
//! What makes it a toy, on purpose:
//!
//! * one producer of blocks, no peers, no reorganisations (but `evm_revert`);
//! * everything in memory; with [`Options::data`] what came in is written down,
//!   and executed again when the chain is opened;
//! * the states at the latest 129 blocks are kept: questions about the state at
//!   older ones are answered with an error, those about blocks, receipts and logs
//!   are answered;
//! * no keys: it signs nothing, so there is no `eth_sendTransaction`;
//! * `stateRoot` is zero after the first block (all other roots are real), no
//!   blobs, and the system contracts of EIP-4788 and EIP-2935 are only there if
//!   the genesis has them, and are not called.
//!
//! Where it is not like anvil 1.7, although it could be:
//!
//! * refusals and reverts have geth's codes and texts, which libraries match on;
//! * EIP-1559 holds from block 0 on (anvil's block 1 repeats its base fee);
//! * a call at `latest` sees the present time, not the last block's, and an
//!   estimate is made for the next block: an idle chain makes no blocks;
//! * an estimate for value that the sender lacks is an error;
//! * a transaction that pays less than the floor of EIP-7623 is refused at once;
//! * transactions that waited for the one before them get a block each;
//! * `prevrandao` follows from the parent block: the same log, the same hashes.

mod admission;
mod answering;
mod block;
mod chain;
mod evm;
mod genesis;
mod history;
mod http;
mod journal;
mod keeper;
mod past;
mod pool;
mod record;
mod rpc;
mod time;
mod websocket;

use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::B256;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

pub use admission::{Refusal, TRANSACTION_BYTES_MAX};
pub use chain::ReplayError;
pub use genesis::{Genesis, GenesisAccount};
pub use http::{BODY_BYTES_MAX, serve};
pub use journal::OpenError;
pub use rpc::error::RpcError;

use chain::Chain;
use genesis::Birth;
use journal::Journal;
use keeper::{Asker, Running};
use record::{Record, VERSION};
use rpc::Node;

/// How the chain is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder for what must survive a restart; `None` forgets everything.
    pub data: Option<PathBuf>,
    /// The time between blocks; `None` makes one for each transaction at once.
    pub block_time: Option<Duration>,
    /// Whether `evm_*`, `anvil_*` and `hardhat_*` exist: moving time, editing
    /// accounts, making blocks, going back.
    pub cheats: bool,
}

/// An open chain. Dropping it closes it, after what it was told is on disk.
#[derive(Debug)]
pub struct Devchain {
    running: Running,
    block_time: Option<Duration>,
    genesis_hash: B256,
}

impl Devchain {
    /// Opens the chain, executing again what an earlier run left in
    /// [`Options::data`]. Blocking: about a second for some thousand transactions.
    ///
    /// `clock` gives Unix seconds.
    ///
    /// # Errors
    /// When the folder can't be used, is in use, is damaged, or belongs to
    /// another genesis. The text says what to do.
    pub fn open(
        genesis: &Genesis,
        options: Options,
        clock: impl Fn() -> u64 + Send + 'static,
    ) -> Result<Self, OpenError> {
        let birth = match genesis.timestamp {
            Some(timestamp) => Birth::at(timestamp),
            None => Birth {
                timestamp: clock(),
                randomness: B256::new(rand::random()),
            },
        };
        let automine = options.block_time.is_none();
        let (chain, journal) = match &options.data {
            None => (Chain::new(genesis, birth, automine), None),
            Some(folder) => {
                let fingerprint = genesis.fingerprint();
                let first = Record::Genesis {
                    version: VERSION,
                    fingerprint,
                    timestamp: birth.timestamp,
                    randomness: birth.randomness,
                };
                let mut journal = Journal::open(folder, &first)?;
                let mut chain = Chain::new(genesis, birth, automine);
                journal.replay(fingerprint, |record| {
                    if let Record::Genesis {
                        timestamp,
                        randomness,
                        ..
                    } = record
                    {
                        let birth = Birth {
                            timestamp,
                            randomness,
                        };
                        chain = Chain::new(genesis, birth, automine);
                        return Ok(());
                    }
                    chain.replay(record)
                })?;
                (chain, Some(journal))
            }
        };
        let genesis_hash = chain.history.first().header.hash();
        let node = Node {
            chain,
            filters: rpc::filters::Filters::default(),
            cheats: options.cheats,
        };
        let running = keeper::start(node, journal, Box::new(clock))?;
        Ok(Self {
            running,
            block_time: options.block_time,
            genesis_hash,
        })
    }

    /// Asks without HTTP, as `Devchain::ask("eth_blockNumber", ())` for no or
    /// `("0x..", "latest")` for two arguments.
    ///
    /// # Errors
    /// What would be the JSON-RPC error.
    pub async fn ask(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<Box<RawValue>, RpcError> {
        let params = to_raw_value(&params).map_err(|error| RpcError::Request(error.to_string()))?;
        let params = Some(params).filter(|params| params.get() != "null");
        let answer = self.asker().ask(method.to_owned(), params).await;
        answer.await.unwrap_or(Err(RpcError::Stopped))
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    pub(crate) fn block_time(&self) -> Option<Duration> {
        self.block_time
    }

    pub(crate) fn asker(&self) -> &Asker {
        self.running.asker()
    }
}
