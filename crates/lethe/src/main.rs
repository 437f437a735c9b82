//! The binary: reads the flags, sets up logging and the runtime, runs one
//! command, and turns its error into text and an exit code.

mod admin;
mod api_keys;
mod bookkeeping;
mod buying;
mod card;
mod chain_watch;
mod chat;
mod chats;
mod cli;
mod client;
mod clock;
mod cursors;
mod doorkeeper;
mod estate;
mod exit;
mod failing;
mod flows;
mod folder;
mod history;
mod identity;
mod keystore;
mod listen;
mod local;
mod logging;
mod model;
mod money;
mod output;
mod own;
mod phrase;
mod place;
mod places;
mod policies;
mod progress;
mod pseudonyms;
mod relaying;
mod roles;
mod route;
mod secret;
mod selling;
mod signals;
mod signed_claims;
mod summary;
mod tower;
mod tx_journal;
mod up;
mod wallet;
mod whereabouts;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Something went wrong; the text says what.
const FAILED: u8 = 1;
/// `lethe where` found that the sum is not right.
const INCOMPLETE: u8 = 3;
/// `lethe exit` did what could be done, and some money has to wait.
const NOT_ALL: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(&cli.command);
    if let Err(error) = failing::arm() {
        return fail(&error.into());
    }
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return fail(&anyhow::anyhow!("the crypto provider was installed twice"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("no runtime")),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => Box::pin(up::up(args)).await?,
        Command::Chat(args) => chat::chat(args).await?,
        Command::Chats(args) => chats::chats(args)?,
        Command::Chain(args) => Box::pin(roles::chain(args)).await?,
        Command::Provide(args) => Box::pin(roles::provide(*args)).await?,
        Command::Consume(args) => Box::pin(roles::consume(args)).await?,
        Command::Relay(args) => Box::pin(roles::relay(args)).await?,
        Command::Tower(args) => Box::pin(tower::tower(args)).await?,
        Command::Exit(args) => {
            if !Box::pin(exit::exit(args)).await? {
                return Ok(ExitCode::from(NOT_ALL));
            }
        }
        Command::Route(args) => route::route(args).await?,
        Command::Key(args) => api_keys::key(args)?,
        Command::Wallet(args) => wallet::wallet(args).await?,
        Command::Where(args) => {
            if !Box::pin(whereabouts::whereabouts(args)).await? {
                return Ok(ExitCode::from(INCOMPLETE));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    // Where standard error is gone there is nobody to tell.
    let text = output::plain(&causes.join(": "));
    let _ = writeln!(std::io::stderr(), "lethe: {text}");
    ExitCode::from(FAILED)
}
