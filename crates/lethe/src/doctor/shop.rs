//! What a folder's provider sells, where it is reached, and whose answers it sells: by the word
//! of the one that runs, and tried from here.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use transport::describe::{DescribeError, Described, fetch, http_client};

use super::{Check, reach, relays};
use crate::backends;
use crate::client::{Client, ClientError, json};
use crate::folder::Folder;
use crate::output;

const ENDPOINT: &str = "endpoint";
const OFFER: &str = "offer";

/// The longest that the provider is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the provider that runs on the folder says of itself; nothing of others.
pub(super) async fn look(folder: &Folder) -> Vec<Check> {
    let asked = async {
        let client = Client::of(Some(folder.path().to_owned()))?;
        let state: Value = json(client.get("/api/state").await?).await?;
        Ok::<_, ClientError>((state, client.running.endpoint))
    };
    // Who sells serves its description somewhere.
    let Ok(Ok((state, Some(here)))) = timeout(PATIENCE, asked).await else {
        return Vec::new();
    };
    let data = folder.flag();
    let mut checks = Vec::new();
    for seller in state["sellers"].as_array().into_iter().flatten() {
        let offers = seller["offers"].as_array().into_iter().flatten();
        checks.extend(offers.map(|offer| sold(offer, &data)));
        let behind = seller["behind"].as_array().into_iter().flatten();
        let behind: Vec<_> = behind.map(|relay| relays::standing(relay, &data)).collect();
        let endpoint = seller["endpoint"].as_str().unwrap_or_default();
        if behind.is_empty() && here != endpoint {
            let account = seller["account"].as_str().unwrap_or_default();
            checks.push(reached(endpoint, account, fetched(endpoint).await));
        }
        checks.extend(behind);
    }
    checks
}

/// An offer, as the provider tells of it.
fn sold(offer: &Value, data: &str) -> Check {
    let name = output::plain(offer["name"].as_str().unwrap_or_default());
    match offer["problem"].as_str() {
        None => Check::ok(OFFER, format!("{name} can be asked for")),
        Some(problem) => Check::fail(
            OFFER,
            format!("{name}: {}", output::plain(problem)),
            format!("see to the server; `lethe backend list{data}` says how each one stands"),
        ),
    }
}

/// What is told at an endpoint, from here.
async fn fetched(endpoint: &str) -> Result<Described, DescribeError> {
    let http = http_client().map_err(DescribeError::Fetch)?;
    Described::parse(&fetch(&http, endpoint).await?)
}

/// What it means that a provider's own endpoint tells this from here.
fn reached(endpoint: &str, account: &str, told: Result<Described, DescribeError>) -> Check {
    let problem = match told {
        Ok(told) => {
            let signer = told.descriptor.signer().map(|it| it.to_string());
            match signer.is_some_and(|signer| signer.eq_ignore_ascii_case(account)) {
                true => {
                    let found = format!(
                        "{endpoint}, as others are told, leads from here to this folder's provider"
                    );
                    return Check::ok(ENDPOINT, found);
                }
                false => "somebody else answers there".to_owned(),
            }
        }
        Err(error) => output::with_causes(&error),
    };
    Check::warn(
        ENDPOINT,
        format!(
            "{endpoint}, as others are told, does not lead from here to this folder's provider: {problem}"
        ),
        format!(
            "try http://{endpoint}/.well-known/lethe from another network. If it answers there, only the way back from here to one's own \
             public address is missing (hairpin): relays elsewhere reach this provider, a relay on this machine looks for it here, one on \
             another machine behind the same address does not reach it. If it does not, pass the port on, TCP and UDP, or wait at relays (--behind)"
        ),
    )
}

/// The servers that are named; else those of the folder's provider, or, where nothing is
/// sold yet, those that are found on this machine. `key`: what opens them.
pub(super) async fn servers(folder: &Folder, named: &[String], key: Option<&str>) -> Vec<Check> {
    if !named.is_empty() {
        return reach::backends(named, key).await;
    }
    let roles = folder.roles();
    if roles.contains(&"provide") {
        // A file that cannot be read is told of by those who need it.
        let own = backends::urls(folder).unwrap_or_default();
        // One that runs says it itself, and knows their key.
        return match folder.is_taken() {
            Ok(true) => Vec::new(),
            _ => reach::backends(&own, key).await,
        };
    }
    match roles.is_empty() || roles.contains(&"up") {
        true => reach::found().await,
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use serde_json::json;

    use super::*;
    use crate::doctor::{Verdict, tests::warned};

    #[test]
    fn an_offer_whose_backend_is_not_well_fails() {
        assert_eq!(sold(&json!({ "name": "m" }), "").verdict, Verdict::Ok);
        let offer = json!({ "name": "m", "problem": "the backend cannot be reached" });
        let told = sold(&offer, " --data shop");
        assert_eq!(told.verdict, Verdict::Fail);
        assert_eq!(told.found, "m: the backend cannot be reached");
        assert!(told.advice.unwrap().contains("backend list --data shop"));
    }

    #[test]
    fn who_does_not_reach_itself_is_told_what_that_means() {
        let lost = DescribeError::Lookup(ErrorKind::NotFound.into());
        let told = reached("192.0.2.1:3333", "0xaa", Err(lost));
        warned(&told, "192.0.2.1:3333, as others are told", "hairpin");
        warned(&told, "leads nowhere", "--behind");
    }

    #[tokio::test]
    async fn servers_are_looked_for_where_a_role_has_some() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        let book = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        book("relay.sqlite");
        assert_eq!(servers(&folder, &[], None).await, []);
        book("provider.sqlite");
        assert_eq!(servers(&folder, &[], None).await, []);
        let file = r#"{"backends":[{"url":"http://127.0.0.1:9/v1"}]}"#;
        crate::keystore::write_private(&dir.path().join("backends.json"), file.as_bytes()).unwrap();
        let own = servers(&folder, &[], None).await;
        assert_eq!((own.len(), own[0].verdict), (1, Verdict::Fail), "{own:?}");
    }
}
