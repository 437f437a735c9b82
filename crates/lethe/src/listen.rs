//! Taking a TCP port, with an error that says what to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::output;

/// Why a port was not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "address {address} is in use by another program; stop it, or choose another with {flag} ADDR"
    )]
    InUse {
        address: SocketAddr,
        flag: &'static str,
    },
    #[error("address {address} cannot be listened on; choose another with {flag} ADDR")]
    Refused {
        address: SocketAddr,
        flag: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "{name} leads nowhere; let it lead to this machine, or say with --listen ADDR where it listens until it does"
    )]
    Nowhere {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{endpoint} leads to {leads_to}, which this machine does not have; let it lead here, or say with --listen ADDR \
         where it listens"
    )]
    NotHere {
        endpoint: String,
        leads_to: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "--listen {bind} is no address that others could be told; with a name as --endpoint give the one of this \
         machine that the name leads to"
    )]
    Everywhere { bind: SocketAddr },
    #[error(
        "address {address} is not one of this machine; if a router or a cloud passes its ports on, say with --listen ADDR \
         where this machine takes them (such as 0.0.0.0:{port}); without an open port a provider waits at relays: --behind RELAY",
        port = address.port()
    )]
    Elsewhere {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Listens; `flag` is what the user would change. Also the address that it came to be.
pub(crate) async fn listen(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, flag },
        _ => ListenError::Refused {
            address,
            flag,
            source,
        },
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// Where something that listens at an address is found from this machine: one
/// that means all addresses opens nowhere.
pub(crate) fn opens_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What stands open to whoever reaches a port.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Exposed {
    Dashboard,
    Chain,
    Metrics,
}

/// Says on standard error what others can do there, if others can get there.
pub(crate) fn warn_if_open(address: SocketAddr, what: Exposed) {
    if !address.ip().is_loopback() {
        output::aside(warning(address, what));
    }
}

fn warning(address: SocketAddr, what: Exposed) -> String {
    let port = address.port();
    let told = match what {
        Exposed::Dashboard => format!(
            "the gateway and the dashboard with all money in it, without TLS. Who can watch the network reads the key, the \
             questions and the answers; who has the key spends your money. Safer: --http 127.0.0.1:{port} and a tunnel \
             (`ssh -L {port}:127.0.0.1:{port} HOST`), or a proxy with TLS in front of it"
        ),
        Exposed::Metrics => format!(
            "what the node counts and earns, without TLS: who can watch the network reads the node's key. Safer: --metrics \
             127.0.0.1:{port}, and Prometheus on this machine or a tunnel"
        ),
        Exposed::Chain => format!(
            "the embedded chain, whose keys are published: everybody there can move what is on it. Safer: --rpc 127.0.0.1:{port}"
        ),
    };
    format!("WARNING: {address} is open to the network: {told}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_found_here() {
        for (listens, opens) in [
            ("0.0.0.0:9000", "127.0.0.1:9000"),
            ("[::]:9000", "[::1]:9000"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(opens_at(listens.parse().unwrap()).to_string(), opens);
        }
    }

    #[test]
    fn an_open_port_says_what_is_behind_it() {
        let address = "0.0.0.0:8082".parse().unwrap();
        for (what, word) in [
            (Exposed::Dashboard, "without TLS"),
            (Exposed::Dashboard, "dashboard"),
            (Exposed::Chain, "--rpc 127.0.0.1:8082"),
            (Exposed::Metrics, "--metrics 127.0.0.1:8082"),
        ] {
            let told = warning(address, what);
            assert!(
                told.contains("0.0.0.0:8082") && told.contains(word),
                "{told}"
            );
        }
    }
}
