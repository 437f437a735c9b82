//! Where a node's description is served, as it stands in the registry: an address of
//! this machine, or a name that leads to it.
//!
//! A name may lead to other machines, too: those that sell for the same wallet. It is
//! registered as it is written, and the node listens at the first of its addresses
//! that is one of this machine; which one that is, `--listen` can say. So it can where
//! the address is a router's or a cloud's that passes its ports on to this machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::listen::{ListenError, listen};
use crate::output;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 253;

/// Time for the resolver.
const LOOKUP_WITHIN: Duration = Duration::from_secs(10);

const FLAG: &str = "--endpoint";

/// As `--endpoint` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// An address of this machine, or one that is passed on to it; port 0: any that is free.
    Address(SocketAddr),
    /// A name, and the port at whatever it leads to.
    Name(String, u16),
}

/// A text that is no such place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error(
        "allowed: an IP address and a port, such as 203.0.113.7:3333, or a name and a port, such as market.example:3333"
    )]
    Unreadable,
    #[error(
        "{0} is nowhere that others could ask; allowed: the address of this machine that they reach"
    )]
    Unspecified(SocketAddr),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.ip().is_unspecified() {
                true => Err(EndpointError::Unspecified(address)),
                false => Ok(Self::Address(address)),
            };
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::Address((Ipv4Addr::LOCALHOST, port).into()));
        }
        let (name, port) = text.rsplit_once(':').ok_or(EndpointError::Unreadable)?;
        match port.parse() {
            Ok(port @ 1..) if is_name(name) => Ok(Self::Name(name.to_owned(), port)),
            _ => Err(EndpointError::Unreadable),
        }
    }
}

/// Whether it is a name as the DNS has them, and no mistyped address.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_label = |label: &str| !label.is_empty() && label.chars().all(plain);
    let labels = || text.strip_suffix('.').unwrap_or(text).split('.');
    let last = labels().next_back().unwrap_or_default();
    let is_number = last.chars().all(|c| c.is_ascii_digit());
    text.len() <= NAME_BYTES_MAX && !is_number && labels().all(is_label)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// A listener for a node's description.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    /// Where it came to listen.
    pub(crate) at: SocketAddr,
    /// What others are told of it.
    pub(crate) endpoint: String,
    /// Whose ports are passed on to this machine.
    pub(crate) public: Option<IpAddr>,
}

impl Listening {
    /// At an address that others are told as it is.
    pub(crate) async fn at(address: SocketAddr) -> Result<Self, ListenError> {
        let (listener, at) = listen(address, FLAG).await?;
        Ok(Self {
            listener,
            at,
            endpoint: at.to_string(),
            public: None,
        })
    }
}

impl Endpoint {
    /// Listens there. `bind`: where the node itself is to listen; one of this machine alone
    /// says nothing about that.
    ///
    /// # Errors
    ///
    /// The port is taken, the name leads nowhere, or not to this machine.
    pub(crate) async fn listen(&self, bind: SocketAddr) -> Result<Listening, ListenError> {
        let (name, port) = match self {
            Self::Address(address) => return listen_for(*address, bind).await,
            Self::Name(name, port) => (name, *port),
        };
        if bind.ip().is_unspecified() {
            return Err(ListenError::Everywhere { bind });
        }
        let found = addresses(name, port).await;
        let here = match (bind.ip().is_loopback(), found) {
            (true, Ok(found)) => self.listen_among(&found).await?,
            (true, Err(source)) => {
                let name = name.clone();
                return Err(ListenError::Nowhere { name, source });
            }
            (false, found) => {
                if let Err(error) = found {
                    let wait = "nobody finds this node until it leads here";
                    output::aside(format!("WARNING: {name} leads nowhere ({error}): {wait}."));
                }
                Listening::at(SocketAddr::new(bind.ip(), port)).await?
            }
        };
        Ok(Listening {
            endpoint: self.to_string(),
            ..here
        })
    }

    /// At the first of these that this machine has.
    async fn listen_among(&self, found: &[SocketAddr]) -> Result<Listening, ListenError> {
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for address in found {
            match Listening::at(*address).await {
                Err(ListenError::Refused { source, .. }) => last = source,
                other => return other,
            }
        }
        let leads_to: Vec<_> = found.iter().map(|one| one.ip().to_string()).collect();
        Err(ListenError::NotHere {
            endpoint: self.to_string(),
            leads_to: leads_to.join(", "),
            source: last,
        })
    }
}

/// At an address, or where `bind` says if it is another machine's, which passes it on.
async fn listen_for(address: SocketAddr, bind: SocketAddr) -> Result<Listening, ListenError> {
    match Listening::at(address).await {
        // All addresses are none that others could be told: this one is.
        Ok(here) if bind.ip().is_unspecified() => Ok(Listening {
            public: Some(here.at.ip()),
            ..here
        }),
        Err(ListenError::Refused { source, .. })
            if source.kind() == io::ErrorKind::AddrNotAvailable =>
        {
            if bind.ip().is_loopback() || address.port() == 0 {
                return Err(ListenError::Elsewhere { address, source });
            }
            let here = Listening::at(SocketAddr::new(bind.ip(), address.port())).await?;
            Ok(Listening {
                endpoint: address.to_string(),
                public: Some(address.ip()),
                ..here
            })
        }
        other => other,
    }
}

/// Where a name leads.
async fn addresses(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(LOOKUP_WITHIN, tokio::net::lookup_host((name, port))).await;
    let found: Vec<_> = found.map_err(io::Error::from)??.collect();
    match found.is_empty() {
        true => Err(io::ErrorKind::NotFound.into()),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_or_a_name_with_a_port() {
        for good in [
            "127.0.0.1:0",
            "[::1]:3333",
            "localhost:3333",
            "market.example:1",
            "a-1.market.example.:65535",
        ] {
            let endpoint: Endpoint = good.parse().unwrap();
            assert_eq!(endpoint.to_string(), good);
            assert_eq!(
                matches!(endpoint, Endpoint::Address(_)),
                good.parse::<SocketAddr>().is_ok()
            );
        }
        let long = format!("{}:1", "a".repeat(NAME_BYTES_MAX + 1));
        for bad in [
            "",
            "market.example",
            "market.example:",
            "market.example:0",
            "market.example:65536",
            "300.0.0.1:3333",
            "10.0.0:3333",
            "::1:3333",
            ":3333",
            ".:3333",
            "a..b:3333",
            "http://market.example:3333",
            "market.example:3333/x",
            "me@market.example:3333",
            "a:1,b:2",
            "0.0.0.0:3333",
            "[::]:3333",
            &long,
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    async fn listened(endpoint: &str, bind: &str) -> Result<Listening, ListenError> {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        endpoint.listen(bind.parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_name_is_told_as_it_is_and_listened_at_where_it_leads() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = free.local_addr().unwrap();
        let name = format!("localhost:{}", taken.port());
        let held = std::net::TcpListener::bind(("::1", taken.port()));
        let error = listened(&name, "127.0.0.1:0").await.unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        drop((free, held));

        let listening = listened(&name, "127.0.0.1:0").await.unwrap();
        assert_eq!(listening.endpoint, name);
        assert!(listening.at.ip().is_loopback() && listening.at.port() == taken.port());
        // Longer than a name can be: no resolver is asked.
        let nobody = format!("{}:3333", "a".repeat(64));
        let error = listened(&nobody, "127.0.0.1:0").await.unwrap_err();
        assert!(error.to_string().contains("a leads nowhere"), "{error}");
        let error = listened(&name, "0.0.0.0:3333").await.unwrap_err();
        assert!(
            error.to_string().contains("--listen 0.0.0.0:3333"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_address_that_is_passed_on_is_told_and_listened_at_where_listen_says() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        // Kept for documents: no machine has it.
        let outer = format!("192.0.2.1:{port}");
        let error = listened(&outer, "127.0.0.1:0").await.unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("--listen ADDR") && told.contains("--behind"),
            "{told}"
        );
        let listening = listened(&outer, "0.0.0.0:0").await.unwrap();
        assert_eq!(listening.endpoint, outer);
        assert_eq!(listening.public, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(listening.at.port(), port);
    }

    #[tokio::test]
    async fn who_listens_everywhere_is_told_by_its_endpoint() {
        let listening = listened("127.0.0.1:0", "0.0.0.0:0").await.unwrap();
        assert_eq!(listening.public, Some(Ipv4Addr::LOCALHOST.into()));
        let listening = listened("127.0.0.1:0", "127.0.0.1:0").await.unwrap();
        assert_eq!(listening.public, None);
    }

    #[tokio::test]
    async fn of_a_names_addresses_the_one_of_this_machine_is_listened_at() {
        let endpoint: Endpoint = "market.example:3333".parse().unwrap();
        // Kept for documents: nobody has the first one.
        let found = ["192.0.2.1:0", "127.0.0.1:0"].map(|one| one.parse().unwrap());
        let listening = endpoint.listen_among(&found).await.unwrap();
        assert!(listening.at.ip().is_loopback());
        let error = endpoint.listen_among(&found[..1]).await.unwrap_err();
        let told = error.to_string();
        assert!(told.contains("leads to 192.0.2.1"), "{told}");
    }
}
