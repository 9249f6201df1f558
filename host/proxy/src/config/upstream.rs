//! Reads `[upstream.NAME]`.

use std::time::Duration;

use http::HeaderValue;
use http::uri::Authority;

use super::http_shape::path_with_query;
use super::model::{Endpoint, HealthCheck, Upstream};
use super::shape::{integer, list, positive_duration, table};
use super::{Item, Section};

pub(super) fn read(section: &mut Section<'_>) -> Option<Upstream> {
    const EXAMPLE: &str = "[\"http://127.0.0.1:8080\"]";
    let endpoints = section.required("endpoints", EXAMPLE, endpoints);
    let connect_timeout = seconds(section, "connect-timeout", 5);
    let response_timeout = seconds(section, "response-timeout", 60);
    let idle_connections = section.default("idle-connections", 64, integer(0..=65_536));
    let idle_timeout = seconds(section, "idle-timeout", 60);
    let health = section.optional("health", table(read_health));
    Some(Upstream {
        endpoints: endpoints?,
        connect_timeout,
        response_timeout,
        idle_connections,
        idle_timeout,
        health,
        location: section.location(),
    })
}

fn seconds(section: &mut Section<'_>, key: &str, default: u64) -> Duration {
    section.default(key, Duration::from_secs(default), positive_duration)
}

fn read_health(section: &mut Section<'_>) -> Option<HealthCheck> {
    let path = section.required("path", "\"/healthz\"", path_with_query);
    let interval = seconds(section, "interval", 5);
    let timeout = seconds(section, "timeout", 2);
    Some(HealthCheck {
        path: path?.into(),
        interval,
        timeout,
    })
}

fn endpoints(item: &Item<'_>) -> Option<Vec<Endpoint>> {
    let empty = item.elements("a list of endpoints")?.is_empty();
    if empty {
        return item.reject(
            "an upstream without an endpoint serves nothing",
            "add one: [\"http://127.0.0.1:8080\"]",
        );
    }
    list(endpoint)(item)
}

fn endpoint(item: &Item<'_>) -> Option<Endpoint> {
    const HELP: &str = "write scheme, host and port: \"http://127.0.0.1:8080\"";
    let text = item.text("an endpoint, such as \"http://127.0.0.1:8080\"")?;
    let scheme_end = text.find("://").unwrap_or(0);
    let authority = match text.split_at(scheme_end) {
        (scheme, rest) if scheme.eq_ignore_ascii_case("http") => &rest[3..],
        (scheme, _) if scheme.eq_ignore_ascii_case("https") => {
            return item.reject(
                "https to an upstream is not supported yet",
                "name the plain http port of an upstream on a network you trust",
            );
        }
        ("", _) => return item.reject(format!("{} has no scheme", item.shown()), HELP),
        _ => return item.reject(format!("the scheme of {} is not http", item.shown()), HELP),
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
    parse_authority(authority)
        .or_else(|| item.reject(format!("{} is no endpoint", item.shown()), HELP))
}

fn parse_authority(text: &str) -> Option<Endpoint> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        "" => 80,
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

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn upstream(text: &str) -> Result<Upstream, String> {
        let document = Document::parse("a.toml", text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let upstream = read(&mut root);
        root.finish();
        reader
            .finish(upstream)
            .map(|(upstream, _)| upstream)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_endpoint_is_http_and_a_host_with_a_port() {
        for (text, host, port, authority) in [
            ("http://127.0.0.1:9223", "127.0.0.1", 9223, "127.0.0.1:9223"),
            ("http://origin", "origin", 80, "origin"),
            ("HTTP://origin:81/", "origin", 81, "origin:81"),
            ("http://[::1]:80", "::1", 80, "[::1]:80"),
        ] {
            let upstream = upstream(&format!("endpoints = ['{text}']")).expect(text);
            let expected = Endpoint {
                host: host.into(),
                port,
                authority: HeaderValue::from_static(authority),
            };
            assert_eq!(upstream.endpoints, [expected]);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_what_would_be_right() {
        for (endpoint, message) in [
            ("https://a", "https to an upstream is not supported yet"),
            ("127.0.0.1:80", "has no scheme"),
            ("ws://a", "the scheme of 'ws://a' is not http"),
            ("http://a/b", "is more than an endpoint"),
            ("http://user:pass@a", "holds no user name and password"),
            ("http://", "is no endpoint"),
            ("http://:80", "is no endpoint"),
            ("http://a:0", "is no endpoint"),
            ("http://a:99999", "is no endpoint"),
            ("http://a:", "is no endpoint"),
            ("http://::1:80", "is no endpoint"),
            ("http://*.a", "is no endpoint"),
        ] {
            let report = upstream(&format!("endpoints = ['{endpoint}']")).expect_err(endpoint);
            assert!(report.contains(message), "{report}");
        }
        let report = upstream("endpoints = []").expect_err("none is too few");
        assert!(report.contains("without an endpoint"), "{report}");
    }

    #[test]
    fn health_is_off_until_it_has_a_path() {
        let with = |health: &str| upstream(&format!("endpoints = ['http://a']\n{health}"));
        assert!(with("").expect("it is valid").health.is_none());
        let health = with("health = { path = '/up', interval = '1s' }")
            .expect("it is valid")
            .health;
        let health = health.expect("it was configured");
        assert_eq!(
            (&*health.path, health.interval),
            ("/up", Duration::from_secs(1))
        );
        assert_eq!(health.timeout, Duration::from_secs(2));
        assert!(with("health = {}").is_err());
    }
}
