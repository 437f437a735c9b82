//! Where a folder's provider is reached: by the word of the one that runs, and tried from here.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use transport::describe::{DescribeError, Described, fetch, http_client};

use super::{Check, relays};
use crate::client::{Client, ClientError, json};
use crate::folder::Folder;
use crate::output;

const ENDPOINT: &str = "endpoint";

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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::doctor::tests::warned;

    #[test]
    fn who_does_not_reach_itself_is_told_what_that_means() {
        let lost = DescribeError::Lookup(ErrorKind::NotFound.into());
        let told = reached("192.0.2.1:3333", "0xaa", Err(lost));
        warned(&told, "192.0.2.1:3333, as others are told", "hairpin");
        warned(&told, "leads nowhere", "--behind");
    }
}
