//! The relays of a provider without an open port: whether it could wait at
//! them, or does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chain::{EvmLedger, MemoryJournal, Network};
use market::{NodeKey, WalletKey};
use provider::{TryRelayError, find_relays, try_relay};
use serde_json::Value;
use tokio::time::timeout;
use transport::Node;

use super::Check;
use super::reach::Servers;
use crate::clock;
use crate::output;
use crate::selling::{AUTO, RELAYS};

const NAME: &str = "relay";
/// The longest that one is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Those that are named are tried.
pub(super) async fn look(servers: &Servers, behind: &[String]) -> Vec<Check> {
    if behind.is_empty() {
        return Vec::new();
    }
    match timeout(PATIENCE, tried(&servers.network, &servers.urls, behind)).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(error)) => vec![Check::fail(
            NAME,
            output::with_causes(&*error),
            "relays are found in the registry of the chain: name its server with --rpc-url URL",
        )],
        Err(_) => vec![Check::fail(
            NAME,
            format!("no answer within {} s", PATIENCE.as_secs()),
            "name another relay, or let the registry say: --behind auto",
        )],
    }
}

/// How a provider that runs does at one of its relays, by its own word.
/// `data`: the flag of its folder, which knows its chain.
pub(super) fn standing(behind: &Value, data: &str) -> Check {
    let relay = behind["relay"].as_str().unwrap_or_default();
    match behind["reached"].as_bool() {
        Some(true) => Check::ok(NAME, format!("{relay} takes this folder's provider")),
        _ => Check::fail(
            NAME,
            format!("{relay} does not take this folder's provider now"),
            format!(
                "the provider's log says why, and it goes on trying; `lethe doctor{data} --behind {relay}` tries it from here; \
                 with a second --behind one relay may be away"
            ),
        ),
    }
}

async fn tried(
    network: &Network,
    urls: &[String],
    behind: &[String],
) -> Result<Vec<Check>, Trouble> {
    let url = urls.first().ok_or("no server of the chain is named")?;
    // It only reads: any key will do.
    let key = Arc::new(WalletKey::from_bytes(&rand::random())?);
    let journal = Arc::new(MemoryJournal::default());
    let ledger = EvmLedger::connect(url, network.clone(), key, journal).await?;
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let node = Node::quic(&NodeKey::from_bytes(&rand::random()), anywhere).await?;
    let now = clock::now();
    let relays = match behind == [AUTO] {
        true => find_relays(&ledger, now, RELAYS).await?,
        false => behind.to_vec(),
    };
    let mut checks = Vec::with_capacity(relays.len() + 1);
    for relay in &relays {
        let tried = try_relay(&ledger, &node, relay, now).await;
        checks.push(verdict(relay, tried));
    }
    if relays.len() == 1 {
        checks.push(Check::warn(
            NAME,
            format!("{} is the only one", relays[0]),
            "give --behind a second time: while one relay is away the other still brings requests",
        ));
    }
    node.close().await;
    Ok(checks)
}

fn verdict(relay: &str, tried: Result<(), TryRelayError>) -> Check {
    let Err(error) = tried else {
        let found =
            format!("{relay} is registered, says that it is a relay, and takes a connection");
        return Check::ok(NAME, found);
    };
    let advice = match &error {
        TryRelayError::NotRegistered => {
            "give its host:port as it stands in the registry (`lethe relay` prints its own), or --behind auto"
        }
        TryRelayError::NoRelay => "name a relay, not a provider; or --behind auto",
        TryRelayError::Describe(_) => {
            "is the relay up? let TCP out to this host and port in the firewall; or name another one, or --behind auto"
        }
        TryRelayError::Open(_) => {
            "let UDP out in the firewall of this machine and its router: nodes speak QUIC; or name another one"
        }
        TryRelayError::Ledger(_) | TryRelayError::Http(_) => {
            "first see to the chain, above; --rpc-url URL names another server of it"
        }
    };
    Check::fail(
        NAME,
        format!("{relay}: {}", output::with_causes(&error)),
        advice,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn what_is_wrong_with_a_relay_comes_with_what_to_do() {
        let told = verdict("a:1", Err(TryRelayError::NotRegistered));
        assert_eq!(told.verdict, Verdict::Fail);
        assert!(
            told.found.starts_with("a:1: no relay is registered"),
            "{told:?}"
        );
        assert!(told.advice.unwrap().contains("--behind auto"));
        assert_eq!(verdict("a:1", Ok(())).verdict, Verdict::Ok);
        let reached = |reached: bool| {
            let behind = json!({ "relay": "a:1", "reached": reached });
            standing(&behind, " --data shop")
        };
        assert_eq!(reached(true).verdict, Verdict::Ok);
        assert!(
            reached(false)
                .advice
                .unwrap()
                .contains("doctor --data shop --behind a:1")
        );
    }

    #[tokio::test]
    async fn without_the_chain_the_flag_that_names_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let flags = crate::cli::Network {
            network: "local".into(),
            rpc_url: vec!["http://127.0.0.1:9".into()],
            named_by: crate::cli::NamedBy::Flag,
            unaudited: false,
        };
        let servers = Servers::of(&folder, &flags).unwrap();
        let told = look(&servers, &["a:1".to_owned()]).await;
        assert_eq!(told[0].verdict, Verdict::Fail, "{told:?}");
        let advice = told[0].advice.as_deref().unwrap();
        assert!(advice.contains("--rpc-url URL"), "{advice}");
    }
}
