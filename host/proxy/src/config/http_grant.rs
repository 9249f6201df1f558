//! Reads `grant.http-client`.

use std::time::Duration;

use witgate_runtime::Origin;

use super::model::HttpClientGrant;
use super::shape::{integer, list, positive_duration, size_within};
use super::{Item, Section};

/// 2 s: a client waits for it. 1 MiB: it is copied into the plugin's memory. 16: each keeps an instance of the plugin.
pub(super) fn read(section: &mut Section<'_>) -> Option<HttpClientGrant> {
    let origins = section.required("origins", "[\"http://127.0.0.1:8080\"]", list(origin));
    let timeout = section.default("timeout", Duration::from_secs(2), positive_duration);
    let body_size = section.default("body-size", 1 << 20, size_within(0..=1 << 30));
    let concurrency = section.default("concurrency", 16, integer(1..=1024));
    Some(HttpClientGrant {
        origins: origins?,
        timeout,
        body_size,
        concurrency,
    })
}

fn origin(item: &Item<'_>) -> Option<Origin> {
    const HELP: &str = "write scheme, host and port: \"http://127.0.0.1:8080\"";
    let text = item.text("an origin, such as \"http://127.0.0.1:8080\"")?;
    let authority = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return item.reject(
                "requests of plugins by https are not supported yet",
                "name a plain http port on a network you trust",
            );
        }
        Some(_) => return item.reject(format!("the scheme of {} is not http", item.shown()), HELP),
        None => return item.reject(format!("{} has no scheme", item.shown()), HELP),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return item.reject(
            format!("{} is more than an origin", item.shown()),
            "an origin ends with its port; the plugin may ask for any path there",
        );
    }
    if authority.contains('*') {
        return item.reject(
            "origins are granted one by one",
            "name each host; there are no wildcards",
        );
    }
    Origin::parse(authority).or_else(|| item.reject(format!("{} is no origin", item.shown()), HELP))
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn grant(text: &str) -> Result<HttpClientGrant, String> {
        let document = Document::parse("a.toml", text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let grant = read(&mut root);
        root.finish();
        reader
            .finish(grant)
            .map(|(grant, _)| grant)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn origins_are_named_and_limits_have_defaults() {
        let found = grant("origins = ['http://127.0.0.1:9223', 'HTTP://[::1]/']").expect("valid");
        let origin = |text| Origin::parse(text).expect("an origin");
        let expected = HttpClientGrant {
            origins: vec![origin("127.0.0.1:9223"), origin("[::1]:80")],
            timeout: Duration::from_secs(2),
            body_size: 1 << 20,
            concurrency: 16,
        };
        assert_eq!(found, expected);
        let set = "origins = []\ntimeout = '5s'\nbody-size = '2MiB'\nconcurrency = 1";
        let found = grant(set).expect("valid");
        assert_eq!(
            (found.timeout, found.body_size),
            (Duration::from_secs(5), 2 << 20)
        );
        assert_eq!((found.origins, found.concurrency), (Vec::new(), 1));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_would_be_right() {
        for (origin, message) in [
            ("https://a", "by https are not supported yet"),
            ("a:80", "has no scheme"),
            ("ws://a", "the scheme of 'ws://a' is not http"),
            ("http://a/b", "is more than an origin"),
            ("http://*.a", "origins are granted one by one"),
            ("http://u:p@a", "is no origin"),
            ("http://", "is no origin"),
            ("http://a:0", "is no origin"),
        ] {
            let report = grant(&format!("origins = ['{origin}']")).expect_err(origin);
            assert!(report.contains(message), "{report}");
        }
        assert!(
            grant("")
                .expect_err("none named")
                .contains("`origins` is missing")
        );
        let zero = grant("origins = []\nconcurrency = 0").expect_err("none at once");
        assert!(zero.contains("concurrency"), "{zero}");
    }
}
