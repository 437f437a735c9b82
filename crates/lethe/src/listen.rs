//! Taking a TCP port, with an error that says what to do.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

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
