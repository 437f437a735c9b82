//! The contracts as a client: bindings, reads, one owner of the nonce,
//! profiles of networks.
//!
//! [`EvmLedger`] is `market::Ledger` on a chain; that it behaves as
//! `market::MemoryLedger` does is held by `tests/anvil.rs`. Nothing here reads
//! a clock: time is that of the latest block.

mod artifact;
mod bindings;
mod call;
mod cast;
mod cursor;
mod decode;
mod deploy;
mod deposit;
mod development;
mod directory;
mod explorer;
mod journal;
mod ledger;
mod logs;
mod movements;
mod profile;
mod rates;
mod refusal;
mod rpc;
pub mod sender;
mod token;
mod watch;

pub use call::{Call, ModelEntry};
pub use cursor::{Cursor, CursorBook, Mark, News, REORG_MAX, TooDeep};
pub use decode::{Argument, Decoded, Shown};
pub use deploy::{DeployError, Deployment, Grant, LocalMarket, deploy, genesis_code, place_code};
pub use development::{DEPLOYER, DEVELOPMENT_ACCOUNTS, DevelopmentAccount, is_development_account};
pub use explorer::{
    AccountView, BlockView, ChannelLine, ChannelWhole, EventView, Explorer, Found, Holding,
    PAGE_BLOCKS, Registrations, TokenName, TransactionLine, TransactionView, Transfer,
    TransferLine,
};
pub use journal::{Ended, JournalError, MemoryJournal, OpenTx, OpenTxs, SignedTx, TxJournal};
pub use ledger::{CAST, CLAIMS_MAX, EvmLedger};
pub use movements::{Moved, Movements};
pub use profile::{
    ALLOWANCE_COLLECTOR, CALL_AGGREGATOR, Collectors, EIP3009_COLLECTOR, LOCAL_CHAIN_ID, Network,
    NetworkError, PERMIT2, PERMIT2_COLLECTOR, SETTLEMENT, Token, UNAUDITED_FLAG,
};
pub use rates::{POOL_WINDOW_MAX_S, POOL_WINDOW_MIN_S, PoolTokens, RateError};
pub use rpc::{Disagreement, Endpoints};
pub use token::Tokens;
pub use watch::{WatchError, WithdrawStarted};
