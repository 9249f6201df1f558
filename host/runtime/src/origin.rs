//! Where a plugin may send requests to.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::exchange::Scheme;
use crate::head;

/// A scheme, a host and a port, in the one form in which two of them can be compared: letters of a name in lower case,
/// an address as it is written shortest, the port always there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
}

impl Origin {
    /// Reads `host`, `host:port`, `[address]` or `[address]:port`; the port is the scheme's own (80 or 443) when left
    /// out. `None` when it is something else, has user information, or port 0, to which nothing can be sent.
    ///
    /// Names are not resolved, and a name is never equal to an address.
    pub fn parse(scheme: Scheme, authority: &str) -> Option<Self> {
        if !head::is_authority(authority) {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (address.to_string(), port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
                None => (authority.to_ascii_lowercase(), None),
            },
        };
        let port = port.map_or(Some(scheme.default_port()), |port| port.parse().ok())?;
        (port != 0).then(|| Self {
            scheme,
            host: host.into(),
            port,
        })
    }

    /// Whether requests go there by TLS.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As it stands in `Host`: `127.0.0.1:9223`, without the port that is the scheme's own.
    pub fn authority(&self) -> String {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        match self.port {
            port if port == self.scheme.default_port() => format!("{open}{}{close}", self.host),
            port => format!("{open}{}{close}:{port}", self.host),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(text: &str) -> Origin {
        Origin::parse(Scheme::Http, text).unwrap_or_else(|| panic!("{text:?}"))
    }

    fn https(text: &str) -> Origin {
        Origin::parse(Scheme::Https, text).unwrap_or_else(|| panic!("{text:?}"))
    }

    #[test]
    fn two_ways_to_write_an_origin_are_equal_and_two_origins_are_not() {
        for (a, b) in [
            ("LocalHost", "localhost:80"),
            ("127.0.0.1:080", "127.0.0.1"),
            ("[0:0::1]:81", "[::1]:81"),
        ] {
            assert_eq!(http(a), http(b));
        }
        for (a, b) in [
            ("localhost", "127.0.0.1"),
            ("localhost.", "localhost"),
            ("a:80", "a:81"),
            ("a.example", "b.a.example"),
            ("127.0.0.1", "127.1"),
        ] {
            assert_ne!(http(a), http(b));
        }
        assert_eq!(https("a"), https("A:443"));
        assert_ne!(https("a:80"), http("a"));
    }

    #[test]
    fn it_is_written_as_a_host_field_has_it() {
        for text in ["localhost:9223", "a.example", "[::1]", "[::1]:81", "a:443"] {
            assert_eq!(http(text).to_string(), format!("http://{text}"));
        }
        for (text, written) in [("a:443", "https://a"), ("a:80", "https://a:80")] {
            assert_eq!(https(text).to_string(), written);
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_none() {
        for text in [
            "", ":80", "a:0", "a:99999", "u@a", "a/b", "::1", "[::1", "a b",
        ] {
            assert_eq!(Origin::parse(Scheme::Http, text), None, "{text:?}");
        }
    }
}
