//! The head of a request, made fit to be routed and sent on: one reading, or none.

pub(crate) mod trace;
pub(crate) mod via;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::uri::{Scheme as UriScheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request};
use witgate_runtime::{ClientAddress, Facts, Scheme, is_authority};

use crate::config::Server;
use crate::connection::Peer;
use crate::failure::Failure;
use crate::path;
use crate::trailers;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether a field belongs to one connection and is never sent on (RFC 9110 §7.6.1). What is between a client and its own
/// forward proxy (§11.7) is no upstream's business either.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What the head said that the rest of the exchange needs, beside the edited head itself.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) client: ClientAddress,
    pub(crate) scheme: Scheme,
    /// Host and optional port; empty in HTTP/1.0 without `Host`.
    pub(crate) authority: Arc<str>,
    pub(crate) path_with_query: Arc<str>,
    /// Servers differ in how they read the path.
    pub(crate) has_other_readings: bool,
    pub(crate) id: Arc<str>,
    /// Protocol that the client wants to upgrade to, lower case.
    pub(crate) upgrade: Option<Arc<str>>,
}

/// Normalises a request's head: one valid authority, a path without dot segments, no hop-by-hop fields, forwarding
/// fields that can be believed, a request id.
pub(crate) fn receive(
    parts: &mut request::Parts,
    peer: &Peer,
    server: &Server,
    new_id: impl FnOnce() -> Arc<str>,
) -> Result<Received, Failure> {
    if parts.method == Method::CONNECT {
        return Err(Failure::client(
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT: this is no forward proxy",
        ));
    }
    let trusted = server.trusts(peer.address.client());
    let sent_authority = authority(parts)?;
    let (path_with_query, has_other_readings) = normalise_target(parts)?;
    let mut upgrade = None;
    // Most requests say nothing of their connection.
    if parts.headers.keys().any(is_hop_by_hop) {
        upgrade = asked_upgrade(parts);
        trailers::note_taken(parts);
        trailers::remove_all_but_announcement(&mut parts.headers);
    }
    let (client, scheme, authority) = forwarded(
        &mut parts.headers,
        peer,
        trusted.then_some(server),
        sent_authority,
    )?;
    if server.forwarded {
        note_forwarded(&mut parts.headers, peer, trusted);
    }
    let id = match parts
        .headers
        .get(X_REQUEST_ID)
        .filter(|id| trusted && is_request_id(id))
    {
        Some(id) => Arc::from(id.to_str().expect("a request id is visible ASCII")),
        None => {
            let id = new_id();
            let value = HeaderValue::from_str(&id).expect("our ids are hex digits");
            parts.headers.insert(X_REQUEST_ID, value);
            id
        }
    };
    Ok(Received {
        client,
        scheme,
        authority,
        path_with_query,
        has_other_readings,
        id,
        upgrade,
    })
}

impl Received {
    /// The facts of the exchange, once its route is known.
    pub(crate) fn facts(self, peer: &Peer, listener: Arc<str>, route: Arc<str>) -> Facts {
        Facts {
            id: self.id,
            listener,
            route,
            peer: peer.address,
            client: self.client,
            client_scheme: self.scheme,
            client_authority: self.authority,
            client_path_with_query: self.path_with_query,
            upgrade: self.upgrade,
        }
    }
}

/// Refuses a body that announces itself as too large before any of it is read.
pub(crate) fn check_length(headers: &HeaderMap, limit: Option<u64>) -> Result<(), Failure> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match (announced, limit) {
        (Some(length), Some(limit)) if length > limit => Err(Failure::client(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "a body of {length} bytes is over the listener's `limits.body-size` of {limit} bytes"
            ),
        )),
        _ => Ok(()),
    }
}

/// RFC 9112 §3.2: exactly one valid `Host`; a target in absolute form overrides it.
fn authority(parts: &mut request::Parts) -> Result<Arc<str>, Failure> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Failure::bad_request("several Host fields")),
        (None, None) if parts.version >= Version::HTTP_11 => {
            return Err(Failure::bad_request("no Host field"));
        }
        (host, None) => host.map(HeaderValue::to_str),
    };
    let host = match host {
        Some(Ok(host)) if is_authority(host) || host.is_empty() => host,
        Some(_) => return Err(Failure::bad_request("the Host field is no host and port")),
        None => "",
    };
    let authority: Arc<str> = match parts.uri.authority() {
        Some(target) if is_authority(target.as_str()) => target.as_str().into(),
        Some(_) => {
            return Err(Failure::bad_request(
                "the request target's authority is no host and port",
            ));
        }
        None => host.into(),
    };
    if authority.is_empty() {
        parts.headers.remove(header::HOST);
    } else if *authority != *host {
        let value =
            HeaderValue::from_str(&authority).expect("a checked authority is visible ASCII");
        parts.headers.insert(header::HOST, value);
    }
    Ok(authority)
}

/// Brings the target into origin form and its path into its normal form, so that one resource has one spelling before
/// anything is decided by its path. Returns the target as the client sent it, and whether servers differ in how they
/// read the path.
fn normalise_target(parts: &mut request::Parts) -> Result<(Arc<str>, bool), Failure> {
    let sent: Arc<str> = match parts.uri.path_and_query() {
        Some(target) => target.as_str().into(),
        None if parts.uri.scheme().is_some() => "/".into(),
        None => return Err(Failure::bad_request("a host and port are no path")),
    };
    if parts.uri.path() == "*" {
        return match parts.method == Method::OPTIONS {
            true => Ok((sent, false)),
            false => Err(Failure::bad_request("`*` is no path")),
        };
    }
    let look = path::look(parts.uri.path());
    let absolute = match parts.uri.scheme() {
        Some(scheme) if *scheme == UriScheme::HTTP || *scheme == UriScheme::HTTPS => true,
        Some(_) => return Err(Failure::bad_request("the target is of another scheme")),
        None => false,
    };
    if !absolute && !look.normalise {
        return Ok((sent, look.readings));
    }
    let path = path::normal(parts.uri.path()).map_err(Failure::bad_request)?;
    let readings = path::has_other_readings(&path);
    let target = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    parts.uri =
        Uri::try_from(target).map_err(|_| Failure::bad_request("the path is no URI path"))?;
    Ok((sent, readings))
}

/// `h2c` is none: it would move the connection out of the reach of routes and plugins (RFC 9113 §3.1 withdrew it).
fn asked_upgrade(parts: &request::Parts) -> Option<Arc<str>> {
    let nominated = tokens(&parts.headers, &header::CONNECTION)
        .any(|token| token.eq_ignore_ascii_case("upgrade"));
    if !nominated || parts.version < Version::HTTP_11 {
        return None;
    }
    let mut protocols = tokens(&parts.headers, &header::UPGRADE);
    if protocols.any(|protocol| protocol.eq_ignore_ascii_case("h2c")) {
        return None;
    }
    let protocol = parts.headers.get(header::UPGRADE)?.to_str().ok()?;
    Some(protocol.to_ascii_lowercase().into())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lists = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

/// Takes off what belongs to one connection, with what `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        // What most servers name goes anyway.
        let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
            .filter(|token| !token.eq_ignore_ascii_case("keep-alive"))
            .filter_map(|token| token.parse().ok())
            .collect();
        for name in named {
            // A client must not be able to take the authority or the framing out of our hands.
            if !matches!(name, header::HOST | header::CONTENT_LENGTH) {
                headers.remove(name);
            }
        }
    }
    // One look at the names of the few that are there, instead of a search for each that might be.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

/// Who asked a trusted proxy. Only what that proxy itself added counts, since what stands before it anybody can have
/// written; where that is a trusted proxy too, what it added counts, and so on.
fn client(headers: &HeaderMap, peer: &Peer, server: &Server) -> ClientAddress {
    let hops: Vec<&str> = tokens(headers, &X_FORWARDED_FOR).collect();
    let mut client = peer.address.client();
    for hop in hops.iter().rev() {
        match ClientAddress::parse(hop) {
            Some(address) => client = address,
            None => break,
        }
        if !server.trusts(client) {
            break;
        }
    }
    client
}

/// `Forwarded` (RFC 7239): what the peer asked for, behind what a trusted one says of those before it.
fn note_forwarded(headers: &mut HeaderMap, peer: &Peer, trusted: bool) {
    let mut hop = match peer.address.client() {
        ClientAddress::Ip(IpAddr::V4(address)) => format!("for={address}"),
        ClientAddress::Ip(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
        // RFC 7239 §6.2
        ClientAddress::Unix => "for=unknown".to_owned(),
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if let Some(host) = host {
        // A colon, or a bracket, is no part of a token (§4).
        let quote = if host.contains([':', '[']) { "\"" } else { "" };
        write!(hop, ";host={quote}{host}{quote}").expect("a String takes everything");
    }
    hop.push_str(";proto=");
    hop.push_str(match peer.scheme() {
        Scheme::Http => "http",
        Scheme::Https => "https",
    });
    let hop = HeaderValue::try_from(hop).expect("an address and a checked host are visible ASCII");
    match trusted {
        true => drop(headers.append(header::FORWARDED, hop)),
        false => drop(headers.insert(header::FORWARDED, hop)),
    }
}

/// Reads the forwarding fields of a trusted proxy, and writes ours.
fn forwarded(
    headers: &mut HeaderMap,
    peer: &Peer,
    trusting: Option<&Server>,
    sent_authority: Arc<str>,
) -> Result<(ClientAddress, Scheme, Arc<str>), Failure> {
    let Some(server) = trusting else {
        headers.remove(header::FORWARDED);
        headers.insert(X_FORWARDED_FOR, peer.forwarded_for.clone());
        headers.insert(X_FORWARDED_PROTO, scheme_value(peer.scheme()));
        match headers.get(header::HOST).cloned() {
            Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
            None => drop(headers.remove(X_FORWARDED_HOST)),
        }
        return Ok((peer.address.client(), peer.scheme(), sent_authority));
    };
    let client = client(headers, peer, server);
    let told = tokens(headers, &X_FORWARDED_PROTO).last();
    let scheme = told.and_then(Scheme::parse).unwrap_or(peer.scheme());
    let mut authority = sent_authority;
    if let Some(host) = tokens(headers, &X_FORWARDED_HOST).last() {
        if !is_authority(host) {
            return Err(Failure::bad_request(
                "X-Forwarded-Host of a trusted proxy is no host and port",
            ));
        }
        authority = host.into();
    }
    let mut chain = String::new();
    for hop in tokens(headers, &X_FORWARDED_FOR) {
        chain.push_str(hop);
        chain.push_str(", ");
    }
    write!(chain, "{}", peer.address.client()).expect("a String takes everything");
    set(headers, X_FORWARDED_FOR, &chain);
    headers.insert(X_FORWARDED_PROTO, scheme_value(scheme));
    match authority.is_empty() {
        true => drop(headers.remove(X_FORWARDED_HOST)),
        false => set(headers, X_FORWARDED_HOST, &authority),
    }
    Ok((client, scheme, authority))
}

fn scheme_value(scheme: Scheme) -> HeaderValue {
    HeaderValue::from_static(match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    })
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(headers.insert(name, value)),
        // What a trusted proxy sent had bytes outside ASCII: better none than a wrong one.
        Err(_) => drop(headers.remove(name)),
    }
}

fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn receive_from(parts: &mut request::Parts, trusted: bool) -> Result<Received, Failure> {
        let peer = Peer::new(std::net::SocketAddr::from(([192, 0, 2, 7], 1)));
        let net = || "192.0.2.0/24".parse().expect("a net");
        let server = Server {
            trusted_proxies: trusted.then(net).into_iter().collect(),
            forwarded: true,
            ..Server::default()
        };
        receive(parts, &peer, &server, || "id".into())
    }

    #[test]
    fn a_target_has_one_form() {
        for (sent, normal, readings) in [
            ("/a/b", "/a/b", false),
            (
                "/%61pi/./snapshot?x=%2e%2e",
                "/api/snapshot?x=%2e%2e",
                false,
            ),
            ("//a?b=//", "//a?b=//", true),
            ("/a?b=;%2F", "/a?b=;%2F", false),
            ("/a%2fb", "/a%2Fb", true),
            ("/a/%2e%2e//b;c", "//b;c", true),
            ("http://h", "/", false),
            ("http://h?x=1", "/?x=1", false),
            ("HTTP://h/a/../b?c", "/b?c", false),
            ("https://h//a", "//a", true),
        ] {
            let mut parts = parts(sent, &[("host", "h")]);
            let received = receive_from(&mut parts, false).expect(sent);
            assert_eq!(parts.uri.to_string(), normal, "{sent}");
            assert_eq!(received.has_other_readings, readings, "{sent}");
        }
        for broken in [
            "/%",
            "/a%00b",
            "/a\\b",
            "*",
            "h:80",
            "h",
            "ftp://h/a",
            "http://h/\\",
        ] {
            let mut parts = parts(broken, &[("host", "h")]);
            assert!(receive_from(&mut parts, false).is_err(), "{broken}");
        }
        let mut options = parts("*", &[("host", "h")]);
        options.method = Method::OPTIONS;
        receive_from(&mut options, false).expect("OPTIONS may ask for the server as a whole");
        assert_eq!(options.uri.path(), "*");
    }

    #[test]
    fn there_is_exactly_one_valid_host() {
        for hosts in [
            &[][..],
            &["a", "b"],
            &["a b"],
            &["x\"},\"y\":{\"z"],
            &["a/b"],
            &["u@h"],
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let refused =
                receive_from(&mut parts("/", &headers), false).expect_err("no single valid host");
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{hosts:?}");
        }
        let mut absolute = parts("http://real.example:8080/x", &[("host", "other.example")]);
        let received = receive_from(&mut absolute, false).expect("absolute form");
        assert_eq!(&*received.authority, "real.example:8080");
        assert_eq!(absolute.headers[header::HOST], "real.example:8080");
        assert_eq!(absolute.uri.to_string(), "/x");
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_sent_on() {
        let mut parts = parts(
            "/",
            &[
                ("host", "h"),
                ("connection", "close, X-Private, host"),
                ("x-private", "1"),
                ("te", "trailers"),
                ("keep-alive", "5"),
                ("proxy-authorization", "Basic eDp5"),
                ("proxy-connection", "keep-alive"),
                ("http2-settings", "AAMAAABkAAQAAP__"),
                ("upgrade-insecure-requests", "1"),
            ],
        );
        receive_from(&mut parts, false).expect("a legal head");
        for gone in [
            "connection",
            "x-private",
            "te",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "http2-settings",
        ] {
            assert!(!parts.headers.contains_key(gone), "{gone}");
        }
        assert!(parts.headers.contains_key("upgrade-insecure-requests"));
        assert!(parts.headers.contains_key("host"));
    }

    #[test]
    fn forwarding_fields_are_believed_only_from_trusted_proxies() {
        let headers = [
            ("host", "inner"),
            ("x-forwarded-for", "198.51.100.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer.example"),
        ];
        let mut stranger = parts("/", &headers);
        let received = receive_from(&mut stranger, false).expect("a legal head");
        assert_eq!(
            (received.client.to_string().as_str(), received.scheme),
            ("192.0.2.7", Scheme::Http)
        );
        assert_eq!(&*received.authority, "inner");
        assert_eq!(stranger.headers[X_FORWARDED_FOR], "192.0.2.7");
        assert_eq!(stranger.headers[X_FORWARDED_PROTO], "http");

        let mut proxy = parts("/", &headers);
        let received = receive_from(&mut proxy, true).expect("a legal head");
        assert_eq!(
            (received.client.to_string().as_str(), received.scheme),
            ("198.51.100.9", Scheme::Https)
        );
        assert_eq!(&*received.authority, "outer.example");
        assert_eq!(proxy.headers[X_FORWARDED_FOR], "198.51.100.9, 192.0.2.7");
    }

    #[test]
    fn the_client_is_the_first_from_behind_that_is_no_trusted_proxy() {
        for (sent, client) in [
            ("198.51.100.9", "198.51.100.9"),
            ("203.0.113.1, 198.51.100.9", "198.51.100.9"),
            (
                "203.0.113.1, 198.51.100.9, 192.0.2.8, 192.0.2.9:81",
                "198.51.100.9",
            ),
            ("192.0.2.8", "192.0.2.8"),
            ("203.0.113.1, unknown, 192.0.2.8", "192.0.2.8"),
            ("", "192.0.2.7"),
        ] {
            let mut parts = parts("/", &[("host", "h"), ("x-forwarded-for", sent)]);
            let received = receive_from(&mut parts, true).expect("a legal head");
            assert_eq!(received.client.to_string(), client, "{sent}");
        }
    }

    #[test]
    fn forwarded_says_who_asked_for_what() {
        let headers = [("host", "h:81"), ("forwarded", "for=198.51.100.9")];
        let ours = "for=192.0.2.7;host=\"h:81\";proto=http";
        let mut stranger = parts("/", &headers);
        receive_from(&mut stranger, false).expect("a legal head");
        let values = |parts: &request::Parts| -> Vec<String> {
            let values = parts.headers.get_all(header::FORWARDED).iter();
            values
                .map(|value| value.to_str().expect("ASCII").to_owned())
                .collect()
        };
        assert_eq!(values(&stranger), [ours]);
        let mut proxy = parts("/", &headers);
        receive_from(&mut proxy, true).expect("a legal head");
        assert_eq!(values(&proxy), ["for=198.51.100.9", ours]);
    }
}
