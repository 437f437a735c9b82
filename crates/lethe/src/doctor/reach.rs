//! What is elsewhere: the chain's servers, and the servers whose answers are to be sold.

use std::sync::Arc;
use std::time::Duration;

use chain::{EvmLedger, MemoryJournal, Network, NetworkError};
use market::{Address, Ledger, WalletKey};
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Check;
use super::node::{WALLET, empty};
use crate::chain_watch::clock_problem;
use crate::cli::{self, NamedBy};
use crate::clock;
use crate::config::without_secrets;
use crate::estate::last_chain;
use crate::folder::Folder;
use crate::keystore::Keystore;
use crate::last_chain::LastChain;
use crate::output;
use crate::served::{listed, models};

/// The longest that anybody is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

const CHAIN: &str = "chain";
const BACKEND: &str = "backend";

/// The chain to look at, and its servers.
pub(super) struct Servers {
    pub(super) network: Network,
    pub(super) urls: Vec<String>,
    /// Whether somebody said so: who asks, the folder, or the node that runs on it. Else a chain is
    /// looked for at the usual place.
    is_known: bool,
}

impl Servers {
    /// Those that are named; where none is, those that the folder was last used with, or the
    /// running node's own.
    pub(super) fn of(folder: &Folder, flags: &cli::Network) -> Result<Self, NetworkError> {
        let last = last_chain(folder, flags);
        let name = last.as_ref().map_or(&*flags.network, LastChain::network);
        let network = Network::by_name(name, true)?;
        let is_unsaid = flags.named_by == NamedBy::Nobody && network.is_local();
        let runs = folder.is_taken().unwrap_or(false);
        let own = folder.running().ok().filter(|_| runs && is_unsaid);
        let (urls, is_known) = match (last, own) {
            (Some(last), _) => (last.rpc_urls().to_vec(), true),
            (None, Some(own)) => (vec![own.rpc_url], true),
            (None, None) => (flags.rpc_url.clone(), !is_unsaid),
        };
        Ok(Self {
            network,
            urls,
            is_known,
        })
    }
}

/// Each server of the chain by itself.
pub(super) async fn chain(folder: &Folder, servers: &Servers) -> Vec<Check> {
    let network = &servers.network;
    let mut payer = payer(folder);
    let mut checks = Vec::new();
    for url in &servers.urls {
        let shown = without_secrets(url);
        let asked = timeout(PATIENCE, ask_chain(url, network, payer)).await;
        let problem = match asked {
            Ok(Ok(found)) => {
                checks.extend(found);
                // One server says it for all.
                payer = None;
                continue;
            }
            Ok(Err(error)) => output::with_causes(&*error).replace(url, &shown),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let nobody = nobody_at(url).await;
        checks.push(match (servers.is_known, nobody) {
            (false, Some(_)) => no_chain(folder, &shown),
            (true, Some(nobody)) => Check::fail(CHAIN, nobody, silent(network)),
            (_, None) => Check::fail(
                CHAIN,
                format!("{shown}: {problem}"),
                format!(
                    "is it of network {:?}? name another with --rpc-url URL",
                    network.name
                ),
            ),
        });
    }
    checks
}

/// What to do where nobody answers.
fn silent(network: &Network) -> &'static str {
    match network.is_local() {
        true => {
            "start the chain's server as before (`lethe chain`, or the `lethe up` that it is of), or name another with --rpc-url URL"
        }
        false => {
            "start the chain's server, or look at its address and the firewall; another one: --rpc-url URL"
        }
    }
}

/// Who pays on a folder on which no node runs: one that runs tells by itself.
fn payer(folder: &Folder) -> Option<Address> {
    let is_buyer = folder.roles().contains(&"consume") || folder.join("keys/payer.key").exists();
    let rests = !folder.is_taken().unwrap_or(true);
    let keys = Keystore::look(folder.join("keys"));
    // Keys that cannot be read are told of elsewhere.
    (is_buyer && rests).then(|| keys.address("payer").ok())?
}

/// Nobody is where a local chain usually is: what that means says what the folder is for.
fn no_chain(folder: &Folder, shown: &str) -> Check {
    let roles = folder.roles();
    let found = format!("none at {shown}");
    if folder.join("chain").is_dir() {
        let found = format!("{found}; this folder's own starts with {}", folder.starts());
        return Check::ok(CHAIN, found);
    }
    match roles.first() {
        None => Check::note(
            CHAIN,
            format!("{found}; `lethe up` brings its own, every other role needs one"),
            "start `lethe up` or `lethe chain`, or name one with --rpc-url URL",
        ),
        Some(role) => Check::fail(
            CHAIN,
            format!("{found}, and `lethe {role}` does not start without one"),
            "start `lethe chain` or `lethe up` on a folder of its own, or name the chain that is used with --rpc-url URL",
        ),
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn ask_chain(
    url: &str,
    network: &Network,
    payer: Option<Address>,
) -> Result<Vec<Check>, Trouble> {
    // It only reads: any key will do.
    let key = Arc::new(WalletKey::from_bytes(&rand::random())?);
    let journal = Arc::new(MemoryJournal::default());
    // Its id and the contracts are checked here.
    let ledger = EvmLedger::connect(url, network.clone(), key, journal).await?;
    let head = ledger.block_number().await?;
    let there = ledger.time_there().await?;
    let shown = without_secrets(url);
    let found = format!(
        "{shown}: {} (id {}), the contracts are there, block {head}",
        network.name, network.chain_id
    );
    let mut checks = vec![Check::ok(CHAIN, found)];
    checks.push(match clock_problem(clock::now(), there) {
        None => Check::ok("clock", format!("agrees with the chain's time at {shown}")),
        Some(problem) => match problem.split_once("): ") {
            Some((found, advice)) => Check::fail("clock", format!("{found})"), advice),
            None => Check::fail("clock", problem, "set the clock"),
        },
    });
    if let Some(payer) = payer {
        checks.extend(purse(&ledger, payer).await?);
    }
    Ok(checks)
}

/// What a wallet has of the network's tokens.
async fn purse(ledger: &EvmLedger, payer: Address) -> Result<Option<Check>, Trouble> {
    let network = ledger.network();
    let mut has = Vec::new();
    for token in &network.tokens {
        let amount = ledger.balance(token.address, payer).await?;
        if !amount.is_zero() {
            has.push(token.shown(amount));
        }
    }
    let names: Vec<_> = network.tokens.iter().map(|it| &*it.symbol).collect();
    Ok(match has.is_empty() {
        true => Some(empty(
            &format!("no {}", names.join(" and no ")),
            Some(payer),
        )),
        false => Some(Check::ok(WALLET, format!("{payer} has {}", has.join(", ")))),
    })
}

/// Servers that are found on this machine.
pub(super) async fn found() -> Vec<Check> {
    let found = provider::detect().await;
    if found.is_empty() {
        return vec![Check::ok(
            BACKEND,
            "none at the usual ports of this machine; --backend URL looks at one",
        )];
    }
    let found = found.into_iter().map(|found| {
        let listed = listed(&found.models);
        Check::ok(
            BACKEND,
            format!("{} at {}: {listed}", found.name, found.url),
        )
    });
    found.collect()
}

/// The servers at these URLs.
pub(super) async fn backends(urls: &[String], key: Option<&str>) -> Vec<Check> {
    let mut checks = Vec::new();
    for url in urls {
        checks.push(backend(url, key).await);
    }
    checks
}

async fn backend(url: &str, key: Option<&str>) -> Check {
    let shown = without_secrets(url);
    if host_and_port(url).is_none() {
        return Check::fail(
            BACKEND,
            format!("{shown} is no URL"),
            "such as http://127.0.0.1:8000/v1",
        );
    }
    if let Some(nobody) = nobody_at(url).await {
        return Check::fail(
            BACKEND,
            nobody,
            "start the server, or look at its address and the firewall",
        );
    }
    match timeout(PATIENCE, models(url, key)).await {
        Ok(Ok(models)) => Check::ok(BACKEND, format!("{shown}: {}", listed(&models))),
        Ok(Err(problem)) if problem.wants_key() => Check::fail(
            BACKEND,
            format!("{shown} wants a key: {problem}"),
            "put it into a private file (mode 600) and give --backend-key-file FILE",
        ),
        Ok(Err(problem)) => Check::fail(
            BACKEND,
            format!("{shown} listens and does not list its models: {problem}"),
            "the URL goes up to where the API begins, mostly /v1; GET URL/models must answer",
        ),
        Err(_) => Check::fail(
            BACKEND,
            format!(
                "{shown} takes the connection and says nothing for {} s",
                PATIENCE.as_secs()
            ),
            "restart the server",
        ),
    }
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?))
}

/// What is wrong if nobody takes a connection there.
async fn nobody_at(url: &str) -> Option<String> {
    let (host, port) = host_and_port(url)?;
    let why = match timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    Some(format!("nobody listens at {host}:{port} (TCP): {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RPC_URL;
    use crate::doctor::Verdict;

    fn flags(urls: &[&str], named_by: NamedBy) -> cli::Network {
        cli::Network {
            network: "local".into(),
            rpc_url: urls.iter().map(|url| (*url).to_owned()).collect(),
            named_by,
            unaudited: false,
        }
    }

    #[test]
    fn a_role_without_its_chain_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let told = no_chain(&folder, RPC_URL);
        assert_eq!(told.verdict, Verdict::Note);
        assert!(
            told.advice
                .unwrap()
                .contains("start `lethe up` or `lethe chain`")
        );
        std::fs::write(dir.path().join("consumer.sqlite"), "").unwrap();
        let told = no_chain(&folder, RPC_URL);
        assert_eq!(told.verdict, Verdict::Fail);
        assert!(
            told.found.contains("`lethe consume` does not start"),
            "{told:?}"
        );
        std::fs::create_dir(dir.path().join("chain")).unwrap();
        assert_eq!(no_chain(&folder, RPC_URL).verdict, Verdict::Ok);
    }

    #[test]
    fn the_folder_says_where_its_chain_is_if_nobody_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let of = |urls: &[&str], by| {
            let servers = Servers::of(&folder, &flags(urls, by)).unwrap();
            (servers.urls, servers.is_known)
        };
        let usual = || of(&[RPC_URL], NamedBy::Nobody);
        assert_eq!(usual(), (vec![RPC_URL.to_owned()], false));
        let both = ["http://a:1", "http://b:2"].map(str::to_owned);
        let last = LastChain::new(&Network::local(), &both);
        last.keep(&folder).unwrap();
        assert_eq!(usual(), (both.to_vec(), true));
        let named = of(&["http://c:3"], NamedBy::Flag);
        assert_eq!(named, (vec!["http://c:3".to_owned()], true));
    }

    #[tokio::test]
    async fn a_known_chain_that_is_away_fails_with_what_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let servers = Servers::of(&folder, &flags(&["http://127.0.0.1:9"], NamedBy::Flag));
        let told = chain(&folder, &servers.unwrap()).await;
        assert_eq!(
            (told.len(), told[0].verdict),
            (1, Verdict::Fail),
            "{told:?}"
        );
        let advice = told[0].advice.as_deref().unwrap();
        assert!(advice.contains("`lethe chain`") && advice.contains("--rpc-url URL"));
    }
}
