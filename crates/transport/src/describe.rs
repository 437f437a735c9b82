//! What a registered node says of itself, and how it is fetched.
//!
//! The endpoint in the registry answers `GET /.well-known/lethe` with one JSON
//! text: the record that its wallet signed, and, if it takes requests, the
//! epoch record that its node key signed. The same text is what relays pass on.
//! A provider with several hosts has such a text of each, with the certificate of all
//! of them in it: whichever of them answers, the others are known after that.
//! Who cannot be asked itself has the relays' doors at which it waits in the
//! registry ([`Endpoint`]); these answer with its text at a path of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use market::{
    Address, Certificate, CertificateError, DescriptorError, Domain, Host, NodeId, Record,
    SignedCertificate, SignedRecord, Timestamp,
};
use seal::{EpochKey, SignedEpoch};
use serde::{Deserialize, Serialize};

use crate::door::DESCRIPTOR_PATH;
use crate::message::MAX_DESCRIPTION_BYTES;

/// Time for one node to answer for its description.
const WITHIN: Duration = Duration::from_secs(3);

/// A relay is asked for the text of one that waits so long after the one before it.
const APART: Duration = Duration::from_millis(500);

/// A node's description as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Who it is, where, and what it offers.
    #[serde(flatten)]
    pub descriptor: SignedRecord,
    /// The key that requests are sealed to; none if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<SignedEpoch>,
    /// Who the hosts of its provider are; none if it has one node only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<SignedCertificate>,
}

/// A description that was checked.
#[derive(Debug)]
pub struct Opened {
    /// Whose it is. Whether the certificate is its provider's newest is not looked at.
    pub host: Host,
    /// Who it is, where, and what it offers.
    pub record: Record,
    /// What requests are sealed to; none, or why it is not believed.
    pub epoch: Option<Result<Arc<EpochKey>, seal::EpochError>>,
    /// Who the hosts of its provider are; none, or none that is believed.
    pub hosts: Option<Arc<Certificate>>,
}

/// Why a node's description is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Not an address.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody there.
    #[error("its endpoint does not answer")]
    Fetch(#[source] reqwest::Error),
    /// Somebody else there.
    #[error("its endpoint answers with status {status}")]
    Status {
        /// Its status.
        status: u16,
    },
    /// More than anybody needs.
    #[error("its description is longer than {MAX_DESCRIPTION_BYTES} bytes")]
    TooLong,
    /// Not a description.
    #[error("its description is not JSON of the right form")]
    Malformed(#[source] serde_json::Error),
    /// Forged, stale, or of another chain.
    #[error("its description is not believed")]
    Disbelieved(#[source] DescriptorError),
    /// Of a host that is not certified.
    #[error("its description is of no host that counts")]
    Host(#[source] CertificateError),
}

/// Where a node's description is, as the registry has it: `host:port`, or
/// `host:port[,host:port…]/ACCOUNT` of one that waits at relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port` each: its own, or those of relays.
    hosts: Vec<String>,
    /// Whose, where the doors are relays'.
    guest: Option<Address>,
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "endpoint {endpoint:?} is not host:port, nor up to {allowed} of them with commas between and /ACCOUNT behind",
    allowed = Record::RELAYS_MAX
)]
pub struct EndpointError {
    /// What it says.
    pub endpoint: String,
}

impl Endpoint {
    /// Of one that waits at the relays whose doors these are.
    pub fn at_relays(hosts: Vec<String>, guest: Address) -> Self {
        Self {
            hosts,
            guest: Some(guest),
        }
    }

    /// Whether the doors are relays'.
    pub fn is_at_relays(&self) -> bool {
        self.guest.is_some()
    }

    /// Whether this is one of the doors.
    pub fn has(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own == host)
    }

    fn urls(&self) -> impl Iterator<Item = String> {
        let guest = self.guest.map(|guest| format!("/{guest:#x}"));
        let guest = guest.unwrap_or_default();
        self.hosts
            .iter()
            .map(move |host| format!("http://{host}{DESCRIPTOR_PATH}{guest}"))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError {
            endpoint: text.to_owned(),
        };
        let is_plain =
            |host: &str| !host.contains(['/', '@', '?', '#', ' ', ',']) && host.contains(':');
        let (hosts, guest) = match text.split_once('/') {
            None => (vec![text.to_owned()], None),
            Some((hosts, guest)) => {
                let guest = guest.parse().map_err(|_| error())?;
                (hosts.split(',').map(str::to_owned).collect(), Some(guest))
            }
        };
        let good = hosts.len() <= Record::RELAYS_MAX && hosts.iter().all(|host| is_plain(host));
        good.then_some(Self { hosts, guest }).ok_or_else(error)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hosts.join(","))?;
        match self.guest {
            Some(guest) => write!(f, "/{guest:#x}"),
            None => Ok(()),
        }
    }
}

impl Described {
    /// From the text that was served.
    pub fn parse(text: &[u8]) -> Result<Self, DescribeError> {
        if text.len() > MAX_DESCRIPTION_BYTES {
            return Err(DescribeError::TooLong);
        }
        serde_json::from_slice(text).map_err(DescribeError::Malformed)
    }

    /// The text to serve.
    pub fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a description has only string keys")
    }

    /// What it says, if `provider` or a host that it certifies says it for this chain
    /// and it is good now.
    pub fn open(
        &self,
        provider: Address,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<Opened, DescribeError> {
        let hosts = self.hosts.as_ref();
        let hosts = hosts.map(|hosts| hosts.open(provider, domain, now));
        let (host, hosts) = self.host(provider, hosts)?;
        let record = self
            .descriptor
            .open(host, domain, now)
            .map_err(DescribeError::Disbelieved)?;
        let node: NodeId = record.node;
        let account = host.account;
        let epoch = self.epoch.as_ref();
        let epoch = epoch.map(|epoch| epoch.open(node, account, domain, now).map(Arc::new));
        Ok(Opened {
            host,
            record,
            epoch,
            hosts: hosts.map(Arc::new),
        })
    }

    /// Whose it is: the provider's own needs no certificate, and stands without one
    /// that is believed.
    fn host(
        &self,
        provider: Address,
        hosts: Option<Result<Certificate, CertificateError>>,
    ) -> Result<(Host, Option<Certificate>), DescribeError> {
        let disbelieved = DescriptorError::BadSignature { account: provider };
        let signer = self.descriptor.signer();
        let Some(account) = signer else {
            return Err(DescribeError::Disbelieved(disbelieved));
        };
        let host = Host { account, provider };
        if host.is_own() {
            return Ok((host, hosts.and_then(Result::ok)));
        }
        let Some(hosts) = hosts else {
            return Err(DescribeError::Disbelieved(disbelieved));
        };
        let hosts = hosts.map_err(DescribeError::Host)?;
        match hosts.endpoint_of(account) {
            Some(_) => Ok((host, Some(hosts))),
            None => Err(DescribeError::Host(CertificateError::NotAHost { host })),
        }
    }

    /// The provider that it claims to be a host of; none: it claims no such thing.
    pub fn host_of(&self) -> Option<Address> {
        let certificate = self.hosts.as_ref()?.read().ok()?;
        Some(certificate.provider)
    }
}

/// Fetches the text that the node at `endpoint` serves, or that relays serve
/// for it: the first that has it.
pub async fn fetch(http: &reqwest::Client, endpoint: &str) -> Result<Vec<u8>, DescribeError> {
    let endpoint: Endpoint = endpoint.parse()?;
    let tries = endpoint.urls().zip(0..).map(|(url, before)| {
        Box::pin(async move {
            if before > 0 {
                tokio::time::sleep(APART * before).await;
            }
            fetch_at(http, url).await
        })
    });
    let (text, _) = select_ok(tries).await?;
    Ok(text)
}

async fn fetch_at(http: &reqwest::Client, url: String) -> Result<Vec<u8>, DescribeError> {
    let response = http.get(url).timeout(WITHIN).send().await;
    let mut response = response.map_err(|error| DescribeError::Fetch(error.without_url()))?;
    if !response.status().is_success() {
        return Err(DescribeError::Status {
            status: response.status().as_u16(),
        });
    }
    let mut text = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| DescribeError::Fetch(error.without_url()))?
    {
        if text.len() + piece.len() > MAX_DESCRIPTION_BYTES {
            return Err(DescribeError::TooLong);
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// A client for [`fetch`]: it follows no redirect and uses no proxy.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_door_or_those_of_a_few_relays() {
        let guest = "0x00000000000000000000000000000000000000aB";
        let doors = |text: &str| {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text.to_lowercase());
            endpoint.urls().collect::<Vec<_>>()
        };
        assert_eq!(doors("[::1]:3333"), ["http://[::1]:3333/.well-known/lethe"]);
        let path = format!("/.well-known/lethe/{}", guest.to_lowercase());
        assert_eq!(
            doors(&format!("a:1,b.example:2/{guest}")),
            [
                format!("http://a:1{path}"),
                format!("http://b.example:2{path}")
            ]
        );
        for bad in [
            "a",
            "a:1,b:2",
            "a:1/",
            "a:1/b",
            "me@a:1",
            &format!("/{guest}"),
            &format!("a:1,/{guest}"),
            &format!("a:1/{guest}/"),
            &format!("a:1/{guest}?x"),
            &format!("a:1,b:1,c:1,d:1/{guest}"),
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
