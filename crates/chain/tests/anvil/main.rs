//! The client against the contracts on anvil, and against the ledger in
//! memory: the same deeds on both, the same outcomes and balances.
//!
//! Needs Foundry: `ANVIL=path CAST=path cargo test -p chain --test anvil`.

mod deeds;
mod differential;
mod logs;
mod node;
mod sending;
mod tools;
