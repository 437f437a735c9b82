//! The commands and their flags.

pub(crate) mod backend;
pub(crate) mod claim;
pub(crate) mod config;
pub(crate) mod host;
pub(crate) mod hosts;
pub(crate) mod key;
pub(crate) mod model;
pub(crate) mod price;
pub(crate) mod sell;
pub(crate) mod service;
pub(crate) mod token;
pub(crate) mod top;
mod values;
pub(crate) mod wallet;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use consumer::Pacing;
use market::{Address, Amount, Payer, Stated};
use provider::BACKENDS_MAX;

use crate::endpoint::Endpoint;
use crate::when::When;

/// The longest that a server is waited for, if nothing is said, in seconds: until it begins, and within an answer.
pub(crate) const FIRST_CHUNK_WITHIN_S: u64 = 60;
/// See [`FIRST_CHUNK_WITHIN_S`].
pub(crate) const STALL_AFTER_S: u64 = 15;
/// The longest answer sold if nothing is said, in tokens.
pub(crate) const ANSWER_MAX: u32 = 8192;
/// Where a chain is looked for if nothing is said.
pub(crate) const RPC_URL: &str = "http://127.0.0.1:8545";

/// The node of a permissionless market for AI compute.
#[derive(Debug, Parser)]
#[command(name = "lethe", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// The config file; without this, `lethe/config.toml` in $XDG_CONFIG_HOME or in ~/.config, if it is there.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What no flag shows alone to be wrong.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        let wrong = |text: String| {
            let kind = clap::error::ErrorKind::ValueValidation;
            // Without a usage: that of the whole program would stand there.
            Err(clap::Error::raw(kind, text + "\n"))
        };
        if let Some(flags) = self.command.network()
            && let Err(error) = chain::Network::by_name(&flags.network, flags.unaudited)
        {
            return wrong(error.to_string());
        }
        let chains = self
            .command
            .network()
            .map_or(&[][..], |flags| &flags.rpc_url);
        let backends = match &self.command {
            Command::Provide(args) => args.backend.as_slice(),
            _ => &[],
        };
        for (flag, urls) in [("--rpc-url", chains), ("--backend", backends)] {
            // Clap would print the whole of it, and there may be a key in it.
            if let Some(fault) = urls.iter().find_map(|url| values::server_fault(url)) {
                return wrong(format!("{flag}: {fault}"));
            }
        }
        match &self.command {
            Command::Chat(args) if !args.unquoted.is_empty() => wrong(format!(
                "a question of several words stands in quotes: lethe chat \"{}\"",
                args.question
                    .iter()
                    .chain(&args.unquoted)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            )),
            Command::Provide(args) if args.backend.len() > BACKENDS_MAX => wrong(format!(
                "--backend is given {} times, allowed is {BACKENDS_MAX} times at most",
                args.backend.len()
            )),
            _ => Ok(()),
        }
    }
}

impl Command {
    /// Tells who said `--rpc-url` to the commands for which a folder may say it, too.
    pub(crate) fn set_named_by(&mut self, by: NamedBy) {
        match self {
            Self::Where(args) => args.network.named_by = by,
            Self::Exit(args) => args.network.named_by = by,
            Self::Doctor(args) => args.network.named_by = by,
            _ => {}
        }
    }

    /// The chain that it uses; none where it uses none, or only looks.
    fn network(&self) -> Option<&Network> {
        match self {
            Self::Where(args) => Some(&args.network),
            Self::Exit(args) => Some(&args.network),
            Self::Tower(args) => Some(&args.network),
            Self::Sell(args) => Some(&args.network),
            Self::Provide(args) => Some(&args.network),
            Self::Consume(args) => Some(&args.network),
            Self::Relay(args) => Some(&args.network),
            Self::Wallet(args) => match &args.act {
                wallet::Act::Restore(restore) => Some(&restore.network),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the whole market on this machine: chain, providers, gateway, dashboard. A demonstration by one operator.
    Up(Up),
    /// Say where each unit of money is, when it can be had and how; also without a running node.
    Where(Where),
    /// Bring all money of a data folder back: claim, settle, withdraw, give up stakes, send it home.
    Exit(Exit),
    /// Watch a running node on the terminal: requests, speed, offers, channels, errors. `q` quits.
    Top(top::Top),
    /// Claim for a provider that is away, before a payer's withdrawal ends; needs no key of its own but one for gas.
    Tower(Tower),
    /// Chat on the terminal, showing provider, time to first token, speed ("–" where the answer is too short for one) and cost.
    Chat(Chat),
    /// List the kept conversations, show one, or forget one.
    Chats(Chats),
    /// Run the embedded chain alone.
    Chain(Chain),
    /// Get demo money for an account of your own, from a running `lethe up`. It is worth nothing.
    Faucet(Faucet),
    /// Models on this machine: pull one, list or remove them.
    Model(model::Model),
    /// Sell one model of this machine: a pulled one, a GGUF file, or one of a local Ollama.
    Sell(Box<sell::Sell>),
    /// Sell answers of one model, of a server or of a GGUF file, with everything that can be said of it.
    Provide(Box<Provide>),
    /// Buy answers: the gateway alone.
    Consume(Consume),
    /// Carry sealed requests to registered nodes, so that they do not see who asks.
    Relay(Relay),
    /// Say why requests go where they go: candidates, what each would cost, term by term.
    Route(Route),
    /// Further keys of the gateway, each with what holds for its requests: make, list, remove them.
    Key(key::Key),
    /// Several machines under one provider's registration: name a host's account, certify the hosts with the wallet.
    Host(host::Host),
    /// A running provider's servers: list them, send nothing new to one, send to it again.
    Backend(backend::Backend),
    /// What a running provider asks; with a flag, another price from now on.
    Price(price::Price),
    /// Claim what a running provider has earned and pay it out to its account, now.
    Claim(claim::Claim),
    /// The keys: show them, make, restore, import or export them.
    Wallet(wallet::Wallet),
    /// The config file: write one with all defaults, or say what holds and who says so.
    Config(config::Config),
    /// Look at everything that a node needs: folder, disk, clock, ports, limits, keys, chain, backend, journals.
    Doctor(Doctor),
    /// Begin a demonstration anew: delete its chain and its books. Keys and kept conversations stay.
    Reset(Reset),
    /// Print a unit with which systemd runs a command in the background, for your user.
    Service(service::Service),
    /// Print what a shell needs to complete commands and flags.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one a command.
    Man {
        /// The folder that they are written into.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// `lethe faucet`.
#[derive(Debug, Args)]
pub(crate) struct Faucet {
    #[command(flatten)]
    pub(crate) data: Data,
    /// The account, such as the one that your wallet shows.
    #[arg(value_name = "ADDRESS", value_parser = account)]
    pub(crate) address: Address,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// An amount of a token, as it is written.
fn amount(text: &str) -> Result<String, String> {
    match Amount::from_decimal(text, crate::policies::MOR_DECIMALS) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// At least one: who answers nobody sells nothing.
fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("allowed: 1 and more".to_owned()),
        Ok(slots) => Ok(slots),
        Err(error) => Err(format!("{error} (allowed: 1 and more)")),
    }
}

/// Where a command keeps its state.
#[derive(Debug, Args)]
pub(crate) struct Data {
    /// The data folder; without this, `lethe` in $XDG_DATA_HOME or in ~/.local/share. Each running node needs its own.
    #[arg(long = "data", value_name = "DIR", global = true)]
    pub(crate) folder: Option<PathBuf>,
}

/// Whose account providers and the chain see.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum PayerChoice {
    /// An account for each provider; the chain shows that the wallet puts money into it.
    #[default]
    Pseudonym,
    /// The wallet: the same for all providers, and less gas.
    Wallet,
}

/// What `--paced` means.
pub(crate) fn pacing(paced: bool) -> Pacing {
    match paced {
        true => Pacing::Paced,
        false => Pacing::Fast,
    }
}

impl From<PayerChoice> for Payer {
    fn from(choice: PayerChoice) -> Self {
        match choice {
            PayerChoice::Pseudonym => Self::Pseudonym,
            PayerChoice::Wallet => Self::Wallet,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Where the gateway and the dashboard listen. An IP address and a port; a port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082", value_parser = values::listener)]
    pub(crate) http: SocketAddr,
    #[command(flatten)]
    pub(crate) hosts: hosts::Hosts,
    /// Where the embedded chain listens. An IP address and a port; a port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545", value_parser = values::listener)]
    pub(crate) rpc: SocketAddr,
    /// Send and be answered at a steady beat, padded in the end: slower, and times and sizes tell less.
    #[arg(long)]
    pub(crate) paced: bool,
    /// Who pays: an account for each provider, or the wallet itself.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) payer: PayerChoice,
    #[command(flatten)]
    pub(crate) paying: token::Paying,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    /// Use this GGUF file in place of the built-in demonstration model.
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Begin anew: first delete the folder's chain and books, as `lethe reset` does, if they are a demonstration's.
    #[arg(long)]
    pub(crate) reset: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Where {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Tell also how to bring it back with cast, without this program.
    #[arg(long)]
    pub(crate) cast: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exit {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Send everything to this account in the end; without it, it stays in the wallets of the folder.
    #[arg(long, value_name = "ADDRESS", value_parser = account)]
    pub(crate) to: Option<Address>,
    /// Wait for withdrawals until their delay is over; without it, run the command again then.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Tell beside each step how to do the same with cast, without this program.
    #[arg(long)]
    pub(crate) cast: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a transaction's gas may cost of what it brings.
#[derive(Debug, Args)]
pub(crate) struct Gas {
    /// What one of the chain's own coins is worth in the token that is earned (--token); without it gas is not weighed.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub(crate) coin_price: Option<String>,
    /// A claim or a settlement waits while its gas costs more of what it brings.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) gas_share: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Tower {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// The token that the provider sells for, as it says it to `lethe provide`.
    #[arg(long, value_name = "TOKEN", default_value = "mor", value_parser = token::token)]
    pub(crate) token: market::Named,
    /// The file of signed claims that the provider writes (`lethe provide --tower-file`).
    #[arg(long, value_name = "FILE")]
    pub(crate) claims: PathBuf,
    /// Between two looks at the file and the chain.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) look_every: u64,
    /// How long after a withdrawal began the provider itself has to claim.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) patience: u64,
    /// Claim at the latest so long before a withdrawal's delay is over, whatever the share of gas.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(60..=86_400))]
    pub(crate) claim_margin: u64,
    #[command(flatten)]
    pub(crate) gas: Gas,
    #[command(flatten)]
    pub(crate) scraped: Scraped,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// An account as people write it: with a checksum, if it has letters of both cases.
fn account(text: &str) -> Result<Address, String> {
    let lower = text.chars().any(|c| c.is_ascii_lowercase() && c != 'x');
    let upper = text.chars().any(|c| c.is_ascii_uppercase());
    let parsed = match lower && upper {
        true => Address::parse_checksummed(text, None).map_err(|error| error.to_string()),
        false => text.parse::<Address>().map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(zero) if zero.is_zero() => Err("nobody has the key of the zero account".into()),
        Ok(account) => Ok(account),
        Err(problem) => Err(format!(
            "{problem} (allowed: 0x and 40 hexadecimal digits; names, as of ENS, are not known here)"
        )),
    }
}

/// Where Prometheus reads what is counted.
#[derive(Debug, Default, Args)]
pub(crate) struct Scraped {
    /// Serve `/metrics` for Prometheus here, behind the node's key (the file api-key); without it only the local address that
    /// other commands use has it. An IP address and a port; a port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", value_parser = values::listener)]
    pub(crate) metrics: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) data: Data,
    /// The model; without it the one that was asked last, or the first on offer.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Keep the conversation in the data folder, encrypted; without this nothing is written.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Go on with a kept conversation; `lethe chats` lists them.
    #[arg(long = "continue", value_name = "ID", value_parser = values::conversation)]
    pub(crate) resume: Option<String>,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// The longest answer, in tokens; without it the model ends by itself, or where the provider does.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,
    /// Print one line of JSON: the answer, who gave it, and its figures.
    #[arg(long, requires = "question")]
    pub(crate) json: bool,
    /// Ask this one question, in quotes, and end.
    #[arg(value_parser = values::question)]
    pub(crate) question: Option<String>,
    /// Words behind a question without quotes.
    #[arg(hide = true)]
    pub(crate) unquoted: Vec<String>,
}

/// What kept conversations are encrypted with; a passphrase that is asked for, if nothing is said.
#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// Encrypt kept conversations to this file's age identity in place of a passphrase.
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Take the passphrase from the first line of this file in place of asking for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Chats {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Print this conversation.
    #[arg(long, value_name = "ID", value_parser = values::conversation)]
    pub(crate) show: Option<String>,
    /// Delete this conversation; no passphrase is needed for it.
    #[arg(long, value_name = "ID", conflicts_with = "show", value_parser = values::conversation)]
    pub(crate) forget: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Chain {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Let anybody move its time (`evm_increaseTime` and the like), to try out delays.
    #[arg(long)]
    pub(crate) cheats: bool,
    /// Where it listens. An IP address and a port; a port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545", value_parser = values::listener)]
    pub(crate) rpc: SocketAddr,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Route {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) act: RouteAct,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RouteAct {
    /// Say whom a request for this model would go to now; nobody is asked.
    Explain {
        /// The model's name.
        model: String,
        /// Labels that it must have, as in the header x-lethe-demand.
        #[arg(long, value_name = "LABELS", value_parser = values::labels)]
        demand: Option<String>,
    },
    /// Say why an answer came from where it came: its header x-lethe-route has the id.
    Show {
        /// The id.
        #[arg(value_parser = crate::route::id)]
        id: String,
    },
}

/// Which chain, and whose contracts.
#[derive(Debug, Args)]
pub(crate) struct Network {
    /// `local`, `arbitrum-one`, `arbitrum-sepolia`, `base` or `base-sepolia`.
    #[arg(long, default_value = "local", value_parser = values::network)]
    pub(crate) network: String,
    /// The chain's JSON-RPC endpoint. Given three times, for servers of three
    /// operators, what decides money is believed only if two of them agree; of
    /// two both must. Transactions go to all.
    #[arg(long, value_name = "URL", default_value = RPC_URL)]
    pub(crate) rpc_url: Vec<String>,
    /// Who said `rpc_url`.
    #[arg(skip)]
    pub(crate) named_by: NamedBy,
    /// Use a public chain, test networks included, although nobody has audited this software.
    #[arg(long)]
    pub(crate) unaudited: bool,
}

/// Who said where the chain is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// It is looked for at the usual place.
    #[default]
    Nobody,
    /// The environment or the config file.
    Settings,
    /// The command line.
    Flag,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// A server whose answers are to be sold, up to and including `/v1` (of an address without a path that is added); without it, usual ports of this machine are tried.
    #[arg(long, value_name = "URL")]
    pub(crate) backend: Vec<String>,
    /// A file with the API key of that server, sent as `Authorization: Bearer …`; nobody but its owner may be able to read it.
    #[arg(long, value_name = "FILE", requires = "backend")]
    pub(crate) backend_key_file: Option<PathBuf>,
    /// A relay at which a provider is to wait (`lethe provide --behind`), or `auto`: whether it can be reached from here. Without
    /// it, those at which this folder's running provider waits.
    #[arg(long, value_name = "RELAY")]
    pub(crate) behind: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["backend", "gguf", "embedder"]).required(true).multiple(true))]
pub(crate) struct Provide {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// The model's name in the market.
    #[arg(long, value_parser = values::model)]
    pub(crate) model: String,
    /// An OpenAI-compatible server to sell the answers of, up to and including `/v1`. Given several times, for servers of
    /// the same model: each request goes to the one with the least work, a conversation back to where it was.
    #[arg(long, value_name = "URL", conflicts_with_all = ["gguf", "embedder"])]
    pub(crate) backend: Vec<String>,
    /// A file with the API key of that server, sent as `Authorization: Bearer …`; nobody but its owner may be able to read it.
    #[arg(long, value_name = "FILE", requires = "backend")]
    pub(crate) backend_key_file: Option<PathBuf>,
    /// The model's name at that server, if it has another there.
    #[arg(long, requires = "backend")]
    pub(crate) backend_model: Option<String>,
    /// The longest that server is waited for, from a request to the first chunk of its answer.
    #[arg(long, value_name = "SECONDS", default_value_t = FIRST_CHUNK_WITHIN_S, requires = "backend", value_parser = clap::value_parser!(u64).range(1..=90))]
    pub(crate) first_chunk_within: u64,
    /// The longest silence of that server within an answer; a consumer waits for 20 s.
    #[arg(long, value_name = "SECONDS", default_value_t = STALL_AFTER_S, requires = "backend", value_parser = clap::value_parser!(u64).range(1..=90))]
    pub(crate) stall_after: u64,
    /// A GGUF file to serve with the embedded engine. (The demonstration model is sold by `lethe up`.)
    #[arg(long, value_name = "FILE")]
    pub(crate) gguf: Option<PathBuf>,
    /// A folder with a BERT model for embeddings, as Hugging Face has them (config.json, tokenizer.json, model.safetensors),
    /// to serve with the embedded engine.
    #[arg(long, value_name = "FOLDER", conflicts_with = "gguf")]
    pub(crate) embedder: Option<PathBuf>,
    /// A JSON file that says what exactly the model is: repo, and if known revision, weights, quantization, context_length,
    /// modality, template. Of the embedded engine's file most is known without it. A model of a --backend that makes
    /// embeddings needs one, with the modality text->embeddings.
    #[arg(long, value_name = "FILE")]
    pub(crate) card: Option<PathBuf>,
    /// Fields of a request that the backend heeds, such as `temperature,top_p,tools`; the embedded engine's are known.
    #[arg(
        long,
        value_name = "FIELDS",
        value_delimiter = ',',
        requires = "backend",
        value_parser = values::field
    )]
    pub(crate) heeds: Vec<String>,
    /// What a million tokens of a request cost, in the token that is sold for (--token).
    #[arg(long, value_name = "AMOUNT", default_value = "0.5", value_parser = amount)]
    pub(crate) input_price: String,
    /// What a million tokens of an answer cost, in the same.
    #[arg(long, value_name = "AMOUNT", default_value = "1", value_parser = amount)]
    pub(crate) output_price: String,
    /// Do not try, with two short requests at the start, whether the backend goes on with a begun answer; such answers are then left to others.
    #[arg(long)]
    pub(crate) no_probe: bool,
    #[command(flatten)]
    pub(crate) sale: Sale,
}

/// What holds for whatever is sold.
#[derive(Debug, Args)]
pub(crate) struct Sale {
    /// In which token it is paid: `mor`, `usdc`, or a token's address. Prices and all amounts here are in whole ones of it.
    #[arg(long, value_name = "TOKEN", default_value = "mor", value_parser = token::token)]
    pub(crate) token: market::Named,
    #[command(flatten)]
    pub(crate) worth: token::Worth,
    /// Where the descriptor is served; registered on chain as the provider's endpoint, but with --behind. An address of this
    /// machine, or a name that leads to it, and maybe to others that sell for the same wallet: market.example:3333. A port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3333")]
    pub(crate) endpoint: Endpoint,
    /// Where the node listens (QUIC, UDP), and where --endpoint is a name, its descriptor, too; a port alone is of 127.0.0.1. In place of an address of this machine alone it is that of --endpoint where that is not
    /// of this machine alone (without a port its port, too), and any where a relay of --behind is elsewhere.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = values::listener)]
    pub(crate) listen: SocketAddr,
    /// Sell without an open port: wait at this relay, and be reached through it alone. Its host:port as in the registry, better
    /// given twice, for two relays; or `auto`, for two that the registry has.
    #[arg(long, value_name = "RELAY")]
    pub(crate) behind: Vec<String>,
    /// Sell as one of several hosts of a provider: the file that its wallet made with `lethe host certify`. Stakes, bids and
    /// earnings are then the provider's. The file is read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) hosts: Option<PathBuf>,
    /// Sell at these times only: ranges of hours such as 22:00-07:00, with commas between, or `idle`, while others leave
    /// the processor alone. Outside of them nothing is on offer, and what runs comes to its end.
    #[arg(long, value_name = "HOURS")]
    pub(crate) when: Option<When>,
    /// Answers at a time.
    #[arg(long, default_value_t = 2, value_parser = slots)]
    pub(crate) slots: usize,
    /// Requests that may wait for a place.
    #[arg(long, default_value_t = 8)]
    pub(crate) queue: usize,
    /// The longest answer sold, in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = ANSWER_MAX, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) answer_max: u32,
    /// Claim as soon as so much is earned.
    #[arg(long, value_name = "AMOUNT", default_value = "1", value_parser = amount)]
    pub(crate) claim_at: String,
    /// Claim what has waited so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) claim_every: u64,
    /// When a payer withdraws: claim at the latest so long before its delay is over, whatever the share of gas.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(60..=86_400))]
    pub(crate) claim_margin: u64,
    /// Be paid out as soon as so much is claimed.
    #[arg(long, value_name = "AMOUNT", default_value = "0", value_parser = amount)]
    pub(crate) settle_at: String,
    #[command(flatten)]
    pub(crate) gas: Gas,
    /// Keep signed claims in this file, for `lethe tower` elsewhere.
    #[arg(long, value_name = "FILE")]
    pub(crate) tower_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scraped: Scraped,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Relay {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Where the description is served; registered on chain as the relay's endpoint: an address of this machine, or a name
    /// that leads to it. A port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3334")]
    pub(crate) endpoint: Endpoint,
    /// Where the node listens (QUIC, UDP), and where --endpoint is a name, its description, too; a port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = values::listener)]
    pub(crate) listen: SocketAddr,
    /// Streams that begin in a second before each peer has only its share of as many.
    #[arg(long, value_name = "N", default_value_t = relay::STREAMS_PER_SECOND, value_parser = slots)]
    pub(crate) streams_per_second: usize,
    #[command(flatten)]
    pub(crate) scraped: Scraped,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Consume {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Where the gateway listens. An IP address and a port; a port alone is of 127.0.0.1.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082", value_parser = values::listener)]
    pub(crate) http: SocketAddr,
    #[command(flatten)]
    pub(crate) hosts: hosts::Hosts,
    /// Let requests go straight to providers, which then see this machine's
    /// address; without it they go through a relay.
    #[arg(long)]
    pub(crate) direct: bool,
    /// Send and be answered at a steady beat, padded in the end: slower, and times and sizes tell less.
    #[arg(long)]
    pub(crate) paced: bool,
    /// Who pays: an account for each provider, or the wallet itself.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) payer: PayerChoice,
    /// Fund no channel ahead: without it, one more provider than the one that answers has a deposit, so that an
    /// answer whose provider is lost goes on without waiting for the chain.
    #[arg(long)]
    pub(crate) no_standby: bool,
    #[command(flatten)]
    pub(crate) paying: token::Paying,
    #[command(flatten)]
    pub(crate) worth: token::Worth,
    #[command(flatten)]
    pub(crate) funding: Funding,
    /// Print one line of JSON when ready, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What goes into a channel, and when it comes out again: amounts of a token each, such as `5` or `20usdc`. One without a token's
/// name is in the one that --pay-with names first; of a token that is not named it is as if nothing were said.
#[derive(Debug, Args)]
pub(crate) struct Funding {
    /// Paid into a channel at a time. Such as `5`, or `5,20usdc` for several tokens that are paid with; what has no name is of the
    /// one that --pay-with names first.
    #[arg(long, value_name = "AMOUNTS", default_value = "1", value_delimiter = ',', value_parser = token::stated)]
    pub(crate) deposit: Vec<Stated>,
    /// The most that one channel may hold of what is not spent; for several tokens as --deposit.
    #[arg(long, value_name = "AMOUNTS", default_value = "10", value_delimiter = ',', value_parser = token::stated)]
    pub(crate) channel_max: Vec<Stated>,
    /// Pay in again when a channel in use has less than this left; for several tokens as --deposit.
    #[arg(long, value_name = "AMOUNTS", default_value = "0.1", value_delimiter = ',', value_parser = token::stated)]
    pub(crate) top_up_below: Vec<Stated>,
    /// Empty a channel that was not used for so long; never, if it is not given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) withdraw_idle: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_quotes_is_told_of_them() {
        let wrong = |words: &[&str]| {
            let cli = Cli::try_parse_from(words).map_err(|error| error.to_string());
            let checked = cli.and_then(|cli| cli.check().map_err(|error| error.to_string()));
            checked.err()
        };
        let told = wrong(&["lethe", "chat", "What", "is", "a", "cat?"]).unwrap();
        assert!(told.contains("lethe chat \"What is a cat?\""), "{told}");
        assert!(!told.contains("Usage"), "{told}");
        let told = wrong(&["lethe", "chat", " "]).unwrap();
        assert!(told.contains("nothing to ask"), "{told}");
        assert_eq!(wrong(&["lethe", "chat", "What is a cat?"]), None);
    }
}
