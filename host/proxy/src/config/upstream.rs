//! Reads `[upstream.NAME]`.

mod balance;
mod care;
mod endpoint;
mod model;
mod tls;

use std::time::Duration;

use self::endpoint::Scheme;
use super::shape::{duration, integer, positive_duration, table, word};
use super::{Item, Section};

pub use model::*;

pub(super) fn read(section: &mut Section<'_>) -> Option<Upstream> {
    const EXAMPLE: &str = "[\"http://127.0.0.1:8080\"]";
    let endpoints = section.required("endpoints", EXAMPLE, endpoint::read);
    // What is wrong with `tls` is said whatever is wrong with the endpoints.
    let encrypted = endpoints
        .as_ref()
        .is_none_or(|(_, scheme)| *scheme == Scheme::Https);
    let tls = tls::read(section, encrypted);
    let protocol = section.default("protocol", Protocol::Http1, |item| {
        protocol(item, encrypted)
    });
    let balance = section.default("balance", Balance::RoundRobin, balance::read);
    let connect_timeout = seconds(section, "connect-timeout", 5);
    let response_timeout = seconds(section, "response-timeout", 60);
    let idle_connections = section.default("idle-connections", 64, integer(0..=65_536));
    let idle_timeout = seconds(section, "idle-timeout", 60);
    let health = section.optional("health", table(care::health));
    let ejection = section.optional("ejection", table(care::ejection));
    let slow_start = section.default("slow-start", Duration::ZERO, duration);
    let dns = section
        .item("dns")
        .map_or_else(|| Some(Dns::default()), |item| table(care::dns)(&item));
    let retry = section.optional("retry", table(care::retry));
    let limits = section.default("limits", UpstreamLimits::default(), table(care::limits));
    Some(Upstream {
        endpoints: endpoints?.0,
        tls,
        protocol,
        balance,
        connect_timeout,
        response_timeout,
        idle_connections,
        idle_timeout,
        health,
        ejection,
        slow_start,
        dns: dns?,
        retry,
        limits,
        location: section.location(),
    })
}

fn protocol(item: &Item<'_>, encrypted: bool) -> Option<Protocol> {
    const WORDS: [(&str, Protocol); 3] = [
        ("http/1.1", Protocol::Http1),
        ("h2", Protocol::Http2),
        ("auto", Protocol::Auto),
    ];
    match word(&WORDS)(item)? {
        Protocol::Auto if !encrypted => item.reject(
            "only TLS lets the server choose a protocol, and the endpoints are not https",
            "write \"http/1.1\" or \"h2\"",
        ),
        protocol => Some(protocol),
    }
}

fn seconds(section: &mut Section<'_>, key: &str, default: u64) -> Duration {
    section.default(key, Duration::from_secs(default), positive_duration)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        let address = |text: &str| Place::Address(text.parse().expect("an address"));
        let name = |host: &str, port| Place::Name {
            host: host.into(),
            port,
        };
        for (text, place, authority) in [
            (
                "http://127.0.0.1:9223",
                address("127.0.0.1:9223"),
                "127.0.0.1:9223",
            ),
            ("http://origin", name("origin", 80), "origin"),
            ("HTTP://origin:81/", name("origin", 81), "origin:81"),
            ("http://[::1]:80", address("[::1]:80"), "[::1]:80"),
            ("https://origin", name("origin", 443), "origin"),
            (
                "unix:/run/a.sock",
                Place::Unix(Path::new("/run/a.sock").into()),
                "localhost",
            ),
        ] {
            let upstream = upstream(&format!("endpoints = ['{text}']")).expect(text);
            let expected = Endpoint {
                place,
                authority: HeaderValue::from_static(authority),
                weight: 1,
            };
            assert_eq!(upstream.endpoints, [expected]);
        }
    }

    #[test]
    fn an_endpoint_may_have_a_weight_of_more_than_0() {
        let of = |weight: &str| {
            upstream(&format!(
                "endpoints = ['http://a', {{ url = 'http://b', weight = {weight} }}]"
            ))
        };
        let weights = |upstream: Upstream| -> Vec<u32> {
            upstream
                .endpoints
                .iter()
                .map(|endpoint| endpoint.weight)
                .collect()
        };
        assert_eq!(of("9").map(weights), Ok(vec![1, 9]));
        let report = of("0").expect_err("it would never be used");
        assert!(report.contains("0 is out of range"), "{report}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_would_be_right() {
        for (keys, message) in [
            (
                "balance = 'random'",
                "expected one of `round-robin` and `least-request`",
            ),
            ("balance = { hash = 'headr:x' }", "is nothing to hash"),
            ("balance = { hash = 'header:a b' }", "is nothing to hash"),
            ("balance = {}", "`hash` is missing"),
            ("protocol = 'auto'", "only TLS lets the server choose"),
            ("protocol = 'h3'", "expected one of"),
            ("health = { path = '/', expect = '6xx' }", "is no status"),
            ("health = { path = '/', expect = [] }", "no status would do"),
            ("health = { path = '/', healthy = 0 }", "0 is out of range"),
            ("ejection = { max = '101%' }", "is no share"),
            ("ejection = { failures = 0 }", "0 is out of range"),
            ("retry = { on = ['500s'] }", "expected one of"),
            ("retry = { on = [] }", "nothing is sent again"),
            ("limits = { connections = 0 }", "0 is out of range"),
            ("limits = { pending = 5 }", "nobody waits"),
            ("dns = { min-ttl = '1h' }", "longer than `max-ttl`"),
            (
                "dns = { servers = ['resolver'] }",
                "is no address of a name server",
            ),
        ] {
            let text = format!("endpoints = ['http://a']\n{keys}");
            let report = upstream(&text).expect_err(keys);
            assert!(report.contains(message), "{keys}: {report}");
        }
    }

    #[test]
    fn a_table_without_keys_has_their_defaults() {
        let text = "endpoints = ['http://a']\nejection = {}\nretry = {}\nlimits = {}\ndns = {}";
        let upstream = upstream(text).expect("it is valid");
        let ejection = upstream.ejection.expect("it is there");
        assert_eq!((ejection.failures, ejection.most), (5, 50));
        let retry = upstream.retry.expect("it is there");
        assert_eq!((retry.attempts, retry.budget), (2, 20));
        assert_eq!(retry.on.statuses, [502, 503, 504]);
        assert!(retry.on.connect && retry.on.reset && !retry.on.timeout);
        assert_eq!(
            (upstream.limits.connections, upstream.limits.pending),
            (None, 100)
        );
        assert_eq!(upstream.dns, Dns::default());
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
            ("unix:a.sock", "is no path of a socket"),
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
