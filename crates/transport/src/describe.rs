//! What a registered node says of itself, and how it is fetched.
//!
//! The endpoint in the registry answers `GET /.well-known/lethe` with one JSON
//! text: the record that its wallet signed, and, if it takes requests, the
//! epoch record that its node key signed. The same text is what relays pass on.
//! A provider with several hosts has such a text of each, with the certificate of all
//! of them in it: whichever of them answers, the others are known after that.
//! Who cannot be asked itself has the relays' doors at which it waits in the
//! registry ([`Endpoint`]); these answer with its text at a path of its own.
//! A door may be a name that leads to several addresses: each is asked until one of them
//! tells something, so that an address at which nobody is hides none of the others.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::HOST;
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

/// A relay is asked for the text of one that waits so long after the one before it, or as
/// soon as that one failed.
const RELAYS_APART: Duration = Duration::from_millis(500);

/// The same of the addresses of one name.
const ADDRESSES_APART: Duration = Duration::from_millis(250);

/// Of a name so many addresses are asked, the first that the resolver has. The last of them
/// has its time within what a look at all nodes takes.
const ADDRESSES_MAX: usize = 8;

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
    /// A name that nobody has.
    #[error("the name of its endpoint leads nowhere")]
    Lookup(#[source] io::Error),
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

    /// What each door is asked for.
    fn path(&self) -> String {
        match self.guest {
            Some(guest) => format!("{DESCRIPTOR_PATH}/{guest:#x}"),
            None => DESCRIPTOR_PATH.to_owned(),
        }
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
/// for it: the first that has it. Of a name every address is a node that may have it.
pub async fn fetch(http: &reqwest::Client, endpoint: &str) -> Result<Vec<u8>, DescribeError> {
    let endpoint: Endpoint = endpoint.parse()?;
    let path = endpoint.path();
    let doors = endpoint.hosts.iter();
    let doors = doors.map(|host| fetch_from(http, host, &path)).collect();
    first(doors, RELAYS_APART).await
}

/// From whoever answers first of those to whom `host`, a `host:port`, leads.
async fn fetch_from(
    http: &reqwest::Client,
    host: &str,
    path: &str,
) -> Result<Vec<u8>, DescribeError> {
    if host.parse::<SocketAddr>().is_ok() {
        return fetch_at(http, host, (host, path)).await;
    }
    let found = tokio::time::timeout(WITHIN, tokio::net::lookup_host(host)).await;
    let found = found.map_err(io::Error::from).flatten();
    let found = found.map_err(DescribeError::Lookup)?;
    fetch_any(http, found.collect(), (host, path)).await
}

/// From whoever answers first at these addresses of `host`.
async fn fetch_any(
    http: &reqwest::Client,
    mut addresses: Vec<SocketAddr>,
    (host, path): (&str, &str),
) -> Result<Vec<u8>, DescribeError> {
    addresses.truncate(ADDRESSES_MAX);
    let is_one = addresses.len() == 1;
    let tries = addresses.into_iter().map(|address| async move {
        let text = fetch_at(http, &address.to_string(), (host, path)).await?;
        // Whoever else is at one address hides none of the others.
        if !is_one {
            Described::parse(&text)?;
        }
        Ok(text)
    });
    first(tries.collect(), ADDRESSES_APART).await
}

/// The first that comes out well. They begin one after the other, so long apart, or as soon as
/// one failed; if all fail, how the last of them did. Of nothing nothing is to be had.
async fn first<T>(
    tries: Vec<impl Future<Output = Result<T, DescribeError>>>,
    apart: Duration,
) -> Result<T, DescribeError> {
    let mut waiting = tries.into_iter();
    let mut running: FuturesUnordered<_> = waiting.next().into_iter().collect();
    loop {
        let next = tokio::time::timeout(apart, running.next()).await;
        let failed = match next {
            Ok(Some(Err(error))) => Some(error),
            Ok(Some(good)) => return good,
            Ok(None) => return Err(DescribeError::Lookup(io::ErrorKind::NotFound.into())),
            Err(_) => None,
        };
        match (waiting.next(), failed) {
            (Some(next), _) => running.push(next),
            (None, Some(error)) if running.is_empty() => return Err(error),
            (None, _) => {}
        }
    }
}

/// From one address, which is asked for what `host` has at `path`.
async fn fetch_at(
    http: &reqwest::Client,
    address: &str,
    (host, path): (&str, &str),
) -> Result<Vec<u8>, DescribeError> {
    let request = http.get(format!("http://{address}{path}"));
    let response = request.header(HOST, host).timeout(WITHIN).send().await;
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
    use bytes::Bytes;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn an_endpoint_is_one_door_or_those_of_a_few_relays() {
        let guest = "0x00000000000000000000000000000000000000aB";
        let doors = |text: &str| {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text.to_lowercase());
            let doors = endpoint.hosts.iter();
            let doors = doors.map(|host| format!("{host}{}", endpoint.path()));
            doors.collect::<Vec<_>>()
        };
        assert_eq!(doors("[::1]:3333"), ["[::1]:3333/.well-known/lethe"]);
        let path = format!("/.well-known/lethe/{}", guest.to_lowercase());
        assert_eq!(
            doors(&format!("a:1,b.example:2/{guest}")),
            [format!("a:1{path}"), format!("b.example:2{path}")]
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

    /// A description of nobody.
    fn text() -> Vec<u8> {
        let node = market::NodeKey::from_bytes(&[2; 32]);
        let wallet = market::WalletKey::from_bytes(&[3; 32]).unwrap();
        let record = Record {
            version: 1,
            chain_id: 1,
            settlement: Address::ZERO,
            provider: wallet.address(),
            receiver_authorizer: wallet.address(),
            withdraw_delay_min_s: market::WITHDRAW_DELAY_MIN_S,
            node: node.id(),
            addresses: vec![],
            relays: vec![],
            offers: vec![],
            capabilities: vec![],
            issued_at: Timestamp(1),
            expires_at: Timestamp(601),
        };
        let described = Described {
            descriptor: record.sign(&wallet, &node),
            epoch: None,
            hosts: None,
        };
        described.to_text()
    }

    /// A door at which this stands.
    async fn door(text: Vec<u8>, tasks: &mut JoinSet<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move {
            let (text, stands) = watch::channel(Bytes::from(text));
            crate::door::serve(listener, stands).await;
            drop(text);
        });
        address
    }

    #[tokio::test]
    async fn who_is_dead_silent_or_somebody_else_at_a_name_hides_none_of_the_others() {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut tasks = JoinSet::new();
        let [dead, silent] = [(); 2].map(|()| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket
        });
        // It takes the connection and says nothing.
        let silent = silent.listen(8).unwrap();
        let at = silent.local_addr().unwrap();
        let (silent, dead_at) = ((silent, at), dead.local_addr().unwrap());
        let other = door(b"<html>".into(), &mut tasks).await;
        let good = door(text(), &mut tasks).await;
        let http = http_client().unwrap();
        let at = ("market.example:3333", DESCRIPTOR_PATH);
        let all = vec![dead_at, silent.1, other, good];
        assert_eq!(fetch_any(&http, all, at).await.unwrap(), text());
        let error = fetch_any(&http, vec![dead_at, other], at)
            .await
            .unwrap_err();
        assert!(matches!(error, DescribeError::Malformed(_)), "{error}");
        let error = fetch_any(&http, vec![], at).await.unwrap_err();
        assert!(matches!(error, DescribeError::Lookup(_)), "{error}");

        let name = format!("localhost:{}", good.port());
        assert_eq!(fetch(&http, &name).await.unwrap(), text());
        // Longer than a name can be: no resolver is asked.
        let nobody = format!("{}:1", "a".repeat(64));
        let error = fetch(&http, &nobody).await.unwrap_err();
        assert!(matches!(error, DescribeError::Lookup(_)), "{error}");
    }
}
