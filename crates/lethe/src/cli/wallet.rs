//! `lethe wallet` and its flags. Words and passphrases never come from an
//! argument or the environment, where others can see them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Data, Network, values};

#[derive(Debug, Args)]
pub(crate) struct Wallet {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(subcommand)]
    pub(crate) act: Act,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Say which keys there are, their addresses and where each comes from. Shows no secret.
    Show(Show),
    /// Make the words that all keys follow from; other commands do it by themselves.
    New(New),
    /// Print the words. Who sees them has the money.
    Phrase(Phrase),
    /// Take words that were kept, find every channel of theirs on chain, and sign nothing on them that is not proved.
    Restore(Restore),
    /// Keep a key that another program made: Keystore V3 (geth, Foundry), or 64 hexadecimal digits.
    Import(Import),
    /// Write a key for another program, encrypted: Keystore V3 (geth, Foundry).
    Export(Export),
    /// Go on with books that are a copy, because the original is gone for good.
    Adopt(Adopt),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Also show so many accounts that pay one provider each.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) pseudonyms: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// How many words: 12 or 24.
    #[arg(long, default_value_t = 12, value_parser = values::words)]
    pub(crate) words: u8,
    /// The account of the words that this folder uses.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) account: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Phrase {
    /// Print them even if nobody is at a terminal.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) network: Network,
    /// Take the words from this file, or from standard input with `-`, in place of asking for them.
    #[arg(long, value_name = "FILE")]
    pub(crate) phrase_file: Option<PathBuf>,
    /// The account of the words that this folder is to use.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) account: u32,
    /// Look for channels from this block on.
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub(crate) from_block: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file of the key.
    pub(crate) file: PathBuf,
    /// What it is called here: `payer` for the wallet, `provider`, `relay`.
    #[arg(long, default_value = "payer", value_parser = values::key_name)]
    pub(crate) name: String,
    /// Take the place of a key that the folder uses already; `where` and `exit` go on counting what that one has.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Take the passphrase from the first line of this file in place of asking for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Which: `payer` for the wallet, `payer-1`, `hot-1`, `provider`.
    #[arg(default_value = "payer")]
    pub(crate) name: String,
    /// Where to write it; standard output if nothing is said.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Take the passphrase from the first line of this file in place of asking for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
