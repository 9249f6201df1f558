//! Reads `endpoints` of `[upstream.NAME]`.

use http::HeaderValue;
use http::uri::Authority;

use super::model::Endpoint;
use crate::config::Item;
use crate::config::shape::{Located, list, located};

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
    let endpoints = list(located(endpoint))(item)?;
    let (_, scheme) = endpoints.first()?.value;
    let is_other = |other: &&Located<(Endpoint, Scheme)>| other.value.1 != scheme;
    if let Some(other) = endpoints.iter().find(is_other) {
        let message = "one upstream has both http and https endpoints";
        let problem = crate::config::Problem::error(other.location.clone(), &other.path, message)
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

fn endpoint(item: &Item<'_>) -> Option<(Endpoint, Scheme)> {
    const HELP: &str =
        "write scheme, host and port: \"http://127.0.0.1:8080\", \"https://origin.example.com\"";
    let text = item.text("an endpoint, such as \"http://127.0.0.1:8080\"")?;
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
    let legal = if host.starts_with('[') {
        name.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !name.is_empty() && !name.contains(['*', '%', ':'])
    };
    legal.then_some(Endpoint {
        host: name.into(),
        port,
        authority: HeaderValue::from_str(text).ok()?,
    })
}
