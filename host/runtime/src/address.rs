//! Who is at the other end of a connection, which has no address where it came over a Unix socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How one without an address is written, as nginx does.
const UNIX: &str = "unix:";

/// The other end of a connection: `192.0.2.7:51324`, `[2001:db8::1]:443`, or `unix:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// An address and a port.
    Internet(SocketAddr),
    /// A process of this machine, over a Unix socket.
    Unix,
}

/// A client, behind trusted proxies: `192.0.2.7`, `2001:db8::1`, or `unix:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// An address.
    Ip(IpAddr),
    /// A process of this machine, over a Unix socket. All of them are one client.
    Unix,
}

impl PeerAddress {
    /// The address without the port.
    pub fn client(self) -> ClientAddress {
        match self {
            Self::Internet(address) => ClientAddress::Ip(address.ip()),
            Self::Unix => ClientAddress::Unix,
        }
    }
}

impl ClientAddress {
    /// An IPv4 address that came to an IPv6 socket is that IPv4 address.
    pub fn to_canonical(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(address.to_canonical()),
            Self::Unix => Self::Unix,
        }
    }

    /// Reads an address, with or without a port, or `unix:`.
    pub fn parse(text: &str) -> Option<Self> {
        let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
        match text {
            UNIX => Some(Self::Unix),
            _ => text.parse().ok().or_else(with_port).map(Self::Ip),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}
