//! What is elsewhere: the chain's servers, and the servers whose answers are to be sold.

use std::sync::Arc;
use std::time::Duration;

use chain::{EvmLedger, MemoryJournal, Network};
use market::WalletKey;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Check;
use crate::chain_watch::clock_problem;
use crate::cli::RPC_URL;
use crate::clock;
use crate::config::without_secrets;
use crate::folder::Folder;
use crate::output;
use crate::served::{listed, models};

/// The longest that anybody is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

const CHAIN: &str = "chain";
const BACKEND: &str = "backend";

/// The servers of the chain: those that are named; where none is, the running node's own.
pub(super) fn servers(folder: &Folder, network: &Network, urls: &[String]) -> Vec<String> {
    let own = folder.running().ok().map(|running| running.rpc_url);
    match (urls == [RPC_URL] && network.is_local(), own) {
        (true, Some(own)) => vec![own],
        _ => urls.to_vec(),
    }
}

/// Each server of the chain by itself.
pub(super) async fn chain(folder: &Folder, network: &Network, urls: &[String]) -> Vec<Check> {
    let usual = urls == [RPC_URL];
    let urls = servers(folder, network, urls);
    let mut checks = Vec::new();
    for url in &urls {
        let shown = without_secrets(url);
        let asked = timeout(PATIENCE, ask_chain(url, network)).await;
        let problem = match asked {
            Ok(Ok(found)) => {
                checks.extend(found);
                continue;
            }
            Ok(Err(error)) => output::with_causes(&*error).replace(url, &shown),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let nobody = nobody_at(url).await;
        checks.push(match (usual && network.is_local(), nobody) {
            (true, Some(_)) => no_chain(folder, &shown),
            (false, Some(nobody)) => Check::fail(
                CHAIN,
                nobody,
                "start the chain's server, or look at its address and the firewall; another one: --rpc-url URL",
            ),
            (_, None) => Check::fail(
                CHAIN,
                format!("{shown}: {problem}"),
                format!("is it of network {:?}? name another with --rpc-url URL", network.name),
            ),
        });
    }
    checks
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
        None => Check::ok(
            CHAIN,
            format!(
                "{found}, where `lethe up` and `lethe chain` have theirs; --rpc-url looks at another"
            ),
        ),
        Some(role) => Check::warn(
            CHAIN,
            format!("{found}, and `lethe {role}` needs one"),
            "start `lethe chain` or `lethe up` on a folder of its own, or name the chain that is used with --rpc-url URL",
        ),
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn ask_chain(url: &str, network: &Network) -> Result<Vec<Check>, Trouble> {
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
    Ok(checks)
}

/// The servers that are named, or those that are found on this machine.
pub(super) async fn backends(urls: &[String], key: Option<&str>) -> Vec<Check> {
    if urls.is_empty() {
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
    use crate::doctor::{Verdict, tests::warned};

    #[test]
    fn a_role_without_its_chain_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        assert_eq!(no_chain(&folder, RPC_URL).verdict, Verdict::Ok);
        std::fs::write(dir.path().join("consumer.sqlite"), "").unwrap();
        let told = no_chain(&folder, RPC_URL);
        warned(&told, "`lethe consume` needs one", "--rpc-url URL");
    }
}
