//! Hosts as they are listed, and the one that a client asked for.

use std::net::Ipv6Addr;

use witgate_plugin::{ConfigErrors, is_authority};

/// The hosts that may be asked for.
pub(crate) struct Hosts(Vec<Entry>);

struct Entry {
    name: Name,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    /// Lower case, without a dot at the end. IPv4 addresses are names: they have one spelling.
    Exact(String),
    /// `.example.com`, for what stands before it.
    Below(String),
    V6(Ipv6Addr),
}

impl Hosts {
    /// Mistakes go to `errors`, each at its place in `hosts`.
    pub(crate) fn new(list: &[String], errors: &mut ConfigErrors) -> Self {
        if list.is_empty() {
            errors.push(
                "hosts",
                "is empty, so that nobody would be let in; list a host, or leave the key out to allow any",
            );
        }
        let mut hosts = Vec::new();
        for (i, text) in list.iter().enumerate() {
            match Entry::parse(text) {
                Ok(entry) => hosts.push(entry),
                Err(message) => errors.push(format!("hosts.{i}"), message),
            }
        }
        Self(hosts)
    }

    /// Whether a client may ask for this authority, which is empty when it named none. Where it names no port it means
    /// that of its scheme.
    pub(crate) fn allow(&self, authority: &str, scheme: &str) -> bool {
        let Some((name, port)) = split(authority) else {
            return false;
        };
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let name = Name::exact(name);
        self.0
            .iter()
            .any(|entry| entry.port.is_none_or(|wanted| wanted == port) && entry.name.covers(&name))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (below, authority) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text == "*" {
            return Err("would allow every host; leave `hosts` out for that");
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err("is an IPv6 address without brackets; write `[::1]` or `[::1]:9222`");
        }
        let (name, port) = split(authority).ok_or(
            "must be a host and an optional port, like `box`, `*.example.com`, `192.0.2.1:9222` or `[::1]`",
        )?;
        let name = match (below, Name::exact(name)) {
            (false, name) => name,
            (true, Name::Exact(name)) => Name::Below(format!(".{name}")),
            (true, _) => return Err("is a `*.` before an address; list the address alone"),
        };
        Ok(Self { name, port })
    }
}

impl Name {
    /// Of a legal host.
    fn exact(host: &str) -> Self {
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            return Self::V6(address);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        Self::Exact(host.to_ascii_lowercase())
    }

    fn covers(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Below(suffix), Self::Exact(name)) => {
                name.len() > suffix.len() && name.ends_with(suffix.as_str())
            }
            (listed, asked) => listed == asked,
        }
    }
}

/// Host and port of a legal authority; `None` if it is none.
pub(crate) fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    if !is_authority(authority) {
        return None;
    }
    let (host, port) = match authority.rfind(':') {
        Some(at) if !authority.ends_with(']') => {
            let (host, port) = authority.split_at(at);
            (host, Some(port.get(1..)?.parse().ok()?))
        }
        _ => (authority, None),
    };
    // A name of dots alone is none.
    host.bytes()
        .any(|byte| byte != b'.')
        .then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[&str]) -> Hosts {
        let mut errors = ConfigErrors::default();
        let list: Vec<String> = list.iter().map(|&host| host.to_owned()).collect();
        let hosts = Hosts::new(&list, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        hosts
    }

    #[track_caller]
    fn check(list: &[&str], allowed: &[&str], refused: &[&str]) {
        let hosts = hosts(list);
        for authority in allowed {
            assert!(hosts.allow(authority, "http"), "{authority} of {list:?}");
        }
        for authority in refused {
            assert!(!hosts.allow(authority, "http"), "{authority} of {list:?}");
        }
    }

    #[test]
    fn a_name_is_that_name_in_any_case_with_any_port_and_a_dot_at_its_end() {
        check(
            &["Box.Example.com"],
            &[
                "box.example.com",
                "BOX.example.COM:9222",
                "box.example.com.",
                "box.example.com.:80",
            ],
            &[
                "",
                "example.com",
                "a.box.example.com",
                "xbox.example.com",
                "box.example.com.evil.example",
                "box.example.co",
                "box.example.com..",
            ],
        );
        check(&["box."], &["box", "box."], &[]);
    }

    #[test]
    fn a_port_is_that_port_and_none_is_that_of_the_scheme() {
        check(
            &["box:9222", "web:80"],
            &["box:9222", "web", "web:80"],
            &["box", "box:9223", "web:443"],
        );
        let hosts = hosts(&["box:443"]);
        assert!(hosts.allow("box", "https") && hosts.allow("box:443", "http"));
        assert!(!hosts.allow("box", "http"));
    }

    #[test]
    fn a_star_is_any_name_below() {
        check(
            &["*.example.com", "*.internal:9222"],
            &["a.example.com", "a.b.EXAMPLE.com.:1", "box.internal:9222"],
            &[
                "example.com",
                ".example.com",
                "aexample.com",
                "a.example.com.evil.example",
                "box.internal",
            ],
        );
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        check(
            &["192.0.2.1", "[2001:DB8::1]", "[::1]:9222"],
            &[
                "192.0.2.1:9222",
                "[2001:db8:0:0:0:0:0:1]",
                "[2001:db8::1]:443",
                "[::1]:9222",
            ],
            &["192.0.2.10", "[2001:db8::2]", "[::1]", "0300.0.2.1"],
        );
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_to_do() {
        let list = [
            "box",
            "",
            "http://box",
            "box/",
            "a b",
            "*",
            "::1",
            "*.[::1]",
            "a.*.example",
            "box:x",
            ".",
            "*.",
        ];
        let mut errors = ConfigErrors::default();
        Hosts::new(&list.map(str::to_owned), &mut errors);
        let paths: Vec<&str> = errors.iter().map(|(path, _)| path).collect();
        let expected: Vec<String> = (1..list.len()).map(|i| format!("hosts.{i}")).collect();
        assert_eq!(paths, expected);
        let mut errors = ConfigErrors::default();
        Hosts::new(&[], &mut errors);
        assert_eq!(errors.iter().next().map(|(path, _)| path), Some("hosts"));
    }
}
