//! Stories on the real binary: processes, sockets, files and signals, as a
//! user has them.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod accounts;
mod anvil;
mod backend;
mod cards;
mod chatting;
mod copies;
mod crash;
mod document;
mod drain;
mod embeddings;
mod exits;
mod explorer;
mod failover;
mod history;
mod hosts;
mod keys;
mod life;
mod matrix;
mod models;
mod outage;
mod paced;
mod paying;
mod prices;
mod process;
mod pseudonyms;
mod refusals;
mod relays;
mod secrets;
mod sells;
mod silence;
mod surroundings;
mod tokens;
mod told;
mod towers;
mod town;
mod up;
mod wallets;
