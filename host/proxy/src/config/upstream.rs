//! Reads `[upstream.NAME]`.

mod endpoint;
mod model;
mod tls;

use std::time::Duration;

use self::endpoint::Scheme;
use super::Section;
use super::http_shape::path_with_query;
use super::shape::{integer, positive_duration, table};

pub use model::*;

pub(super) fn read(section: &mut Section<'_>) -> Option<Upstream> {
    const EXAMPLE: &str = "[\"http://127.0.0.1:8080\"]";
    let endpoints = section.required("endpoints", EXAMPLE, endpoint::read);
    // What is wrong with `tls` is said whatever is wrong with the endpoints.
    let encrypted = endpoints
        .as_ref()
        .is_none_or(|(_, scheme)| *scheme == Scheme::Https);
    let tls = tls::read(section, encrypted);
    let connect_timeout = seconds(section, "connect-timeout", 5);
    let response_timeout = seconds(section, "response-timeout", 60);
    let idle_connections = section.default("idle-connections", 64, integer(0..=65_536));
    let idle_timeout = seconds(section, "idle-timeout", 60);
    let health = section.optional("health", table(read_health));
    Some(Upstream {
        endpoints: endpoints?.0,
        tls,
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
    fn an_endpoint_is_a_scheme_and_a_host_with_a_port() {
        for (text, host, port, authority) in [
            ("http://127.0.0.1:9223", "127.0.0.1", 9223, "127.0.0.1:9223"),
            ("http://origin", "origin", 80, "origin"),
            ("HTTP://origin:81/", "origin", 81, "origin:81"),
            ("http://[::1]:80", "::1", 80, "[::1]:80"),
            ("https://origin", "origin", 443, "origin"),
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
            ("127.0.0.1:80", "has no scheme"),
            ("ws://a", "the scheme of 'ws://a' is neither http nor https"),
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

    #[test]
    fn tls_is_for_https_and_a_certificate_comes_with_its_key() {
        let report = |text: &str| upstream(text).expect_err(text);
        let https = "endpoints = ['https://a']\n";
        let tls = upstream(https).expect("it is valid").tls;
        assert!(tls.expect("https is by TLS").verify);
        for (text, message) in [
            (
                "endpoints = ['http://a', 'https://b']",
                "both http and https",
            ),
            ("endpoints = ['http://a']\ntls = {}", "not https"),
            (
                "endpoints = ['https://a']\ntls.certificate = 'a'",
                "without its key",
            ),
            (
                "endpoints = ['https://a']\ntls.key = 'a'",
                "without its certificate",
            ),
            (
                "endpoints = ['https://a']\ntls.server-name = 'a b'",
                "no name of a server",
            ),
            (
                "endpoints = ['https://a']\ntls.ca = 'missing.pem'",
                "cannot use",
            ),
        ] {
            assert!(report(text).contains(message), "{}", report(text));
        }
    }
}
