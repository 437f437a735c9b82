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
use super::shelf;
use crate::backends;
use crate::chain_watch::{self, clock_problem};
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
    let known = known(folder, network);
    let mut checks = Vec::new();
    for url in &servers.urls {
        let shown = without_secrets(url);
        let asked = timeout(PATIENCE, ask_chain(url, (folder, network), &known, payer)).await;
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

/// First blocks by which books of this folder know a chain of this network elsewhere, with the
/// names of the books.
fn known(folder: &Folder, network: &Network) -> Vec<(String, String)> {
    if folder.join("chain").is_dir() {
        return Vec::new();
    }
    let id = network.chain_id.to_string();
    let chains = shelf::chains(folder).into_iter();
    let known = chains.filter(|((of, _), _)| *of == id);
    known
        .map(|((_, first), books)| (first, books.join(", ")))
        .collect()
}

/// What it means that a chain begins with another block than the books know: no role starts.
fn another(folder: &Folder, shown: &str, first: &str, known: &[(String, String)]) -> Option<Check> {
    let (before, books) = known.iter().find(|(before, _)| before != first)?;
    let data = folder.flag();
    Some(Check::fail(
        CHAIN,
        format!(
            "{shown}: not the one that the books of this folder ({books}) know: its first block is {first}, it was {before}"
        ),
        format!(
            "name the right one with --rpc-url URL; if it was begun anew, what the folder had on it is gone: \
             `lethe reset{data}` deletes the books of a demonstration, or choose another folder"
        ),
    ))
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
    (folder, network): (&Folder, &Network),
    known: &[(String, String)],
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
    let first = chain_watch::first_block(&ledger).await;
    let other = first.and_then(|first| another(folder, &shown, &first.to_string(), known));
    if let Some(other) = other {
        return Ok(vec![other]);
    }
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

/// The servers that are named; else those that the folder's provider sells from, or, where
/// no role says that it needs none, those that are found on this machine.
pub(super) async fn backends(folder: &Folder, urls: &[String], key: Option<&str>) -> Vec<Check> {
    if urls.is_empty() {
        let kept = match backends::kept(folder) {
            Ok(kept) => kept,
            Err(error) => {
                let found = output::with_causes(&error);
                return vec![Check::fail(BACKEND, found, "look at that file")];
            }
        };
        if let Some(kept) = kept {
            return sold_from(folder, kept, key).await;
        }
        let roles = folder.roles();
        if !roles.iter().all(|role| ["up", "chain"].contains(role)) {
            return Vec::new();
        }
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
        return found.collect();
    }
    let mut checks = Vec::new();
    for url in urls {
        checks.push(backend(url, key).await);
    }
    checks
}

/// The servers of the folder's provider: as it finds them while it runs, else as they answer here.
async fn sold_from(folder: &Folder, kept: Vec<(String, bool)>, key: Option<&str>) -> Vec<Check> {
    // One that does not answer is told of the node.
    if folder.is_taken().unwrap_or(false)
        && let Ok(Ok(told)) = timeout(PATIENCE, backends::asked(folder)).await
    {
        return of_running(&told);
    }
    let mut checks = Vec::new();
    for (url, is_drained) in kept {
        let check = match key {
            // Which one it is, only the start says.
            None if nobody_at(&url).await.is_none() && wants_key(&url).await => Check::ok(
                BACKEND,
                format!(
                    "{} listens and wants a key; --backend-key-file FILE looks further",
                    without_secrets(&url)
                ),
            ),
            key => backend(&url, key).await,
        };
        checks.push(match is_drained {
            true => Check {
                found: format!("{}; drained", check.found),
                ..check
            },
            false => check,
        });
    }
    checks
}

async fn wants_key(url: &str) -> bool {
    let asked = timeout(PATIENCE, models(url, None)).await;
    matches!(asked, Ok(Err(problem)) if problem.wants_key())
}

/// The servers of a provider that runs: with none left it answers nobody.
fn of_running(told: &[backends::Told]) -> Vec<Check> {
    let answers = |told: &&backends::Told| !told.failing && !told.drained;
    let is_served = told.iter().any(|told| answers(&told));
    let check = |told: &backends::Told| {
        let found = format!("{}: {}", told.url, told.state());
        let advice = "start the server, or look at its address and the firewall; the node goes back to it by itself";
        match (told.failing, is_served) {
            (false, _) => Check::ok(BACKEND, found),
            (true, true) => Check::warn(BACKEND, found, advice),
            (true, false) => Check::fail(BACKEND, found, advice),
        }
    };
    told.iter().map(check).collect()
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

    #[test]
    fn a_chain_that_was_begun_anew_fails_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let known = [("0xaa".to_owned(), "consumer".to_owned())];
        assert_eq!(another(&folder, "u", "0xaa", &known), None);
        assert_eq!(another(&folder, "u", "0xaa", &[]), None);
        let told = another(&folder, "u", "0xbb", &known).unwrap();
        assert_eq!(told.verdict, Verdict::Fail);
        let advice = told.advice.unwrap();
        assert!(advice.contains("`lethe reset --data"), "{advice}");
    }

    #[test]
    fn a_provider_without_a_server_that_answers_fails() {
        let told = |all: &[(bool, bool)]| {
            let of = |(failing, drained): &(bool, bool)| backends::Told {
                url: "http://a/v1".into(),
                drained: *drained,
                running: Some(0),
                failing: *failing,
            };
            let told: Vec<_> = all.iter().map(of).collect();
            let checks = of_running(&told).into_iter();
            checks.map(|check| check.verdict).collect::<Vec<_>>()
        };
        let (well, failing) = ((false, false), (true, false));
        assert_eq!(told(&[well, failing]), [Verdict::Ok, Verdict::Warn]);
        assert_eq!(told(&[failing, failing]), [Verdict::Fail; 2]);
        let drained = (false, true);
        assert_eq!(told(&[drained, failing]), [Verdict::Ok, Verdict::Fail]);
    }

    #[tokio::test]
    async fn a_role_that_needs_no_server_is_told_of_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        std::fs::write(dir.path().join("relay.sqlite"), "").unwrap();
        assert_eq!(backends(&folder, &[], None).await, []);
        // What its provider sold from is looked at.
        let kept = r#"{"backends":[{"url":"http://127.0.0.1:9/v1","drained":true}]}"#;
        crate::keystore::write_private(&folder.join("backends.json"), kept.as_bytes()).unwrap();
        let told = backends(&folder, &[], None).await;
        assert_eq!(
            (told.len(), told[0].verdict),
            (1, Verdict::Fail),
            "{told:?}"
        );
        assert!(told[0].found.ends_with("; drained"), "{told:?}");
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
