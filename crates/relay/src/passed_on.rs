//! Nodes that share a public address with this relay, which is not this machine's
//! own: a cloud or a router passes it on. Many of those bring nobody back in who
//! goes out to their own address. So such a node is looked for on this machine, too,
//! under the same port. Who it is says its signature, not the place.

use std::net::{IpAddr, SocketAddr};

use transport::NodeAddr;

/// A public address, and this machine's own to which it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOn {
    /// As others are told.
    pub public: IpAddr,
    /// Where nodes of this machine listen.
    pub here: IpAddr,
}

impl PassedOn {
    /// The same port of this machine, if it is the public address's.
    fn here(&self, address: SocketAddr) -> Option<SocketAddr> {
        let is_public = address.ip() == self.public;
        is_public.then(|| SocketAddr::new(self.here, address.port()))
    }

    /// Where a node's description is asked for on this machine; none: it is elsewhere.
    pub(crate) fn door(&self, endpoint: &str) -> Option<String> {
        let address = endpoint.parse().ok()?;
        Some(self.here(address)?.to_string())
    }

    /// A node's addresses, and those on this machine.
    pub(crate) fn widened(&self, mut addr: NodeAddr) -> NodeAddr {
        let here = addr.addresses.iter().filter_map(|one| self.here(*one));
        let here: Vec<_> = here.collect();
        addr.addresses.extend(here);
        addr
    }
}

#[cfg(test)]
mod tests {
    use market::{B256, NodeId};

    use super::*;

    #[test]
    fn who_has_the_same_public_address_is_looked_for_here_too() {
        let passed_on = PassedOn {
            public: "192.0.2.1".parse().unwrap(),
            here: "10.0.0.5".parse().unwrap(),
        };
        assert_eq!(
            passed_on.door("192.0.2.1:3333").as_deref(),
            Some("10.0.0.5:3333")
        );
        for elsewhere in ["192.0.2.2:3333", "a.example:3333", "192.0.2.1:3333/0xaa"] {
            assert_eq!(passed_on.door(elsewhere), None);
        }
        let at = |texts: &[&str]| NodeAddr {
            id: NodeId(B256::repeat_byte(1)),
            addresses: texts.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let both = passed_on.widened(at(&["192.0.2.1:4433", "192.0.2.2:4433"]));
        assert_eq!(
            both.addresses,
            at(&["192.0.2.1:4433", "192.0.2.2:4433", "10.0.0.5:4433"]).addresses
        );
    }
}
