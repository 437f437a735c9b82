//! The binary: reads the flags, sets up logging and the runtime, runs one
//! command, and turns its error into text and an exit code.

mod admin;
mod api_keys;
mod backends;
mod begun;
mod bookkeeping;
mod buying;
mod card;
mod chain_watch;
mod chat;
mod chats;
mod claiming;
mod cli;
mod client;
mod clock;
mod codes;
mod config;
mod cursors;
mod doctor;
mod doorkeeper;
mod endpoint;
mod estate;
mod exit;
mod explorer;
mod failing;
mod faucet;
mod first_money;
mod flows;
mod folder;
mod history;
mod hosts;
mod identity;
mod keystore;
mod last_chain;
mod listen;
mod local;
mod logging;
mod manual;
mod model;
mod models;
mod money;
mod namesakes;
mod offering;
mod openapi;
mod output;
mod own;
mod phrase;
mod place;
mod places;
mod policies;
mod pricing;
mod progress;
mod pseudonyms;
mod rate_sources;
mod rates;
mod relaying;
mod reset;
mod role_error;
mod roles;
mod route;
mod scrape;
mod secret;
mod selling;
mod served;
mod service;
mod signals;
mod signed_claims;
mod started;
mod summary;
mod tokens;
mod top;
mod tower;
mod tx_journal;
mod up;
mod wallet;
mod watched;
mod when;
mod whereabouts;

use std::process::ExitCode;

use cli::{Cli, Command};
use codes::{ENDED_AT_ONCE, FAILED, INCOMPLETE, NOT_ALL, UNWELL, USAGE};

fn main() -> ExitCode {
    let cli = match config::read() {
        Ok(cli) => cli,
        Err(error) => {
            fail(&error.into());
            return ExitCode::from(USAGE);
        }
    };
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
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => {
            fail(&error);
            ExitCode::from(code_of(&error))
        }
    }
}

/// What an error ends the process with: a command line that is wrong does not become right by itself.
fn code_of(error: &anyhow::Error) -> u8 {
    let role = error.downcast_ref::<role_error::RoleError>();
    let of_sale = error.downcast_ref::<offering::OfferingError>();
    let is_usage = role.is_some_and(role_error::RoleError::is_usage)
        || of_sale.is_some_and(offering::OfferingError::is_usage)
        || matches!(
            error.downcast_ref::<api_keys::ApiKeysError>(),
            Some(api_keys::ApiKeysError::Asked { .. })
        );
    match is_usage {
        true => USAGE,
        false => FAILED,
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(args) => Box::pin(up::up(args)).await?,
        Command::Chat(args) => {
            if !Box::pin(chat::chat(args)).await? {
                return Ok(ExitCode::from(ENDED_AT_ONCE));
            }
        }
        Command::Chats(args) => chats::chats(args)?,
        Command::Chain(args) => Box::pin(roles::chain(args)).await?,
        Command::Faucet(args) => faucet::faucet(args).await?,
        Command::Model(args) => Box::pin(models::model(args)).await?,
        Command::Sell(args) => Box::pin(offering::sell(*args)).await?,
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
        Command::Top(args) => Box::pin(top::top(args)).await?,
        Command::Key(args) => Box::pin(api_keys::key(args)).await?,
        Command::Host(args) => hosts::host(args)?,
        Command::Backend(args) => backends::backend(args).await?,
        Command::Price(args) => pricing::price(args).await?,
        Command::Claim(args) => claiming::claim(args).await?,
        Command::Wallet(args) => wallet::wallet(args).await?,
        Command::Config(args) => {
            if let Err(error) = config::config(&args, cli.config.as_deref()) {
                fail(&error.into());
                return Ok(ExitCode::from(USAGE));
            }
        }
        Command::Doctor(args) => {
            if !Box::pin(doctor::doctor(args)).await? {
                return Ok(ExitCode::from(UNWELL));
            }
        }
        Command::Reset(args) => reset::reset(args).await?,
        Command::Service(args) => {
            if let Err(error) = service::service(args, cli.config) {
                fail(&error.into());
                return Ok(ExitCode::from(USAGE));
            }
        }
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { folder } => manual::pages(&folder)?,
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
