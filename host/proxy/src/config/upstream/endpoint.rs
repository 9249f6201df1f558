//! Reads `endpoints` of `[upstream.NAME]`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use http::HeaderValue;
use http::uri::Authority;

use super::model::{Endpoint, Place};
use crate::config::shape::{Located, integer, list, located, table};
use crate::config::{Item, Problem};

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// At least one endpoint, all of one scheme.
pub(super) fn read(item: &Item<'_>) -> Option<(Vec<Endpoint>, Scheme)> {
    let empty = item.elements("a list of endpoints")?.is_empty();
    if empty {
        return item.reject(
            "an upstream without an endpoint serves nothing",
            "add one: [\"http://127.0.0.1:8080\"]",
        );
    }
    let endpoints = list(located(weighted))(item)?;
    let (_, scheme) = endpoints.first()?.value;
    let is_other = |other: &&Located<(Endpoint, Scheme)>| other.value.1 != scheme;
    if let Some(other) = endpoints.iter().find(is_other) {
        let message = "one upstream has both http and https endpoints";
        let problem = Problem::error(other.location.clone(), &other.path, message)
            .with_help(
                "make two upstreams of it: what is encrypted to one must not be plain to another",
            )
            .with_related(endpoints[0].location.clone(), "the other kind");
        item.reader().report(problem);
        return None;
    }
    let endpoints = endpoints.into_iter().map(|located| located.value.0);
    Some((endpoints.collect(), scheme))
}

/// A URL, or a table with one and a weight.
fn weighted(item: &Item<'_>) -> Option<(Endpoint, Scheme)> {
    if !item.is_table() {
        return endpoint(item);
    }
    table(|section| {
        let read = section.required("url", "\"http://127.0.0.1:8080\"", endpoint);
        let weight = section.default("weight", 1, integer(1..=1000));
        let (endpoint, scheme) = read?;
        Some((Endpoint { weight, ..endpoint }, scheme))
    })(item)
}

fn endpoint(item: &Item<'_>) -> Option<(Endpoint, Scheme)> {
    const HELP: &str =
        "write scheme, host and port: \"http://127.0.0.1:8080\", \"https://origin.example.com\"";
    let text = item.text("an endpoint, such as \"http://127.0.0.1:8080\"")?;
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(item, path);
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return item.reject(format!("{} has no scheme", item.shown()), HELP);
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => {
            let message = format!("the scheme of {} is neither http nor https", item.shown());
            return item.reject(message, HELP);
        }
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return item.reject(
            format!("{} is more than an endpoint", item.shown()),
            "an endpoint ends with its port; requests keep the path that the client sent",
        );
    }
    if authority.contains('@') {
        let message = "an endpoint holds no user name and password";
        return item.reject(
            message,
            "send an `Authorization` header from a plugin instead",
        );
    }
    match parse_authority(authority, scheme) {
        Some(endpoint) => Some((endpoint, scheme)),
        None => item.reject(format!("{} is no endpoint", item.shown()), HELP),
    }
}

/// The path of a socket. That it is there is not asked for: whoever listens may start later.
fn unix(item: &Item<'_>, path: &str) -> Option<(Endpoint, Scheme)> {
    // What the kernel takes, with the byte that ends it (unix(7)).
    const LONGEST: usize = 107;
    if !path.starts_with('/') || path.len() > LONGEST || path.contains('\0') {
        let message = format!("{} is no path of a socket", item.shown());
        let help = "write an absolute path of at most 107 bytes: \"unix:/run/origin.sock\"";
        return item.reject(message, help);
    }
    let endpoint = Endpoint {
        place: Place::Unix(Path::new(path).into()),
        authority: HeaderValue::from_static("localhost"),
        weight: 1,
    };
    Some((endpoint, Scheme::Http))
}

fn parse_authority(text: &str, scheme: Scheme) -> Option<Endpoint> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        "" => scheme.port(),
        port => port
            .strip_prefix(':')?
            .parse()
            .ok()
            .filter(|port| *port != 0)?,
    };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let place = match name.parse::<IpAddr>() {
        Ok(address) if address.is_ipv6() == host.starts_with('[') => {
            Place::Address(SocketAddr::new(address, port))
        }
        Err(_) if !host.starts_with('[') && !name.is_empty() && !name.contains(['*', '%', ':']) => {
            let host = name.into();
            Place::Name { host, port }
        }
        _ => return None,
    };
    Some(Endpoint {
        place,
        authority: HeaderValue::from_str(text).ok()?,
        weight: 1,
    })
}
