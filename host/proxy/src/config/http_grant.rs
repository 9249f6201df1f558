//! Reads `grant.http-client`.

use std::time::Duration;

use witgate_runtime::{Origin, Scheme};

use super::model::HttpClientGrant;
use super::shape::{integer, list, located, positive_duration, size_within};
use super::{Item, Problem, Section, authorities};

/// 2 s: a client waits for it. 1 MiB: it is copied into the plugin's memory. 16: each keeps an instance of the plugin.
pub(super) fn read(section: &mut Section<'_>) -> Option<HttpClientGrant> {
    let origins = section.required("origins", "[\"http://127.0.0.1:8080\"]", list(origin));
    let timeout = section.default("timeout", Duration::from_secs(2), positive_duration);
    let body_size = section.default("body-size", 1 << 20, size_within(0..=1 << 30));
    let concurrency = section.default("concurrency", 16, integer(1..=1024));
    let ca = section.optional("ca", located(authorities::read));
    let origins = origins?;
    if let Some(ca) = &ca
        && !origins.iter().any(|o| o.scheme() == Scheme::Https)
    {
        let message = "`ca` is for `https` origins, and there is none";
        let problem = Problem::error(ca.location.clone(), &ca.path, message);
        section
            .reader()
            .report(problem.with_help("remove it, or write https:// before an origin"));
    }
    Some(HttpClientGrant {
        origins,
        timeout,
        body_size,
        concurrency,
        ca: ca.map(|ca| ca.value),
    })
}

fn origin(item: &Item<'_>) -> Option<Origin> {
    const HELP: &str = "write scheme, host and port: \"http://127.0.0.1:8080\"";
    let text = item.text("an origin, such as \"http://127.0.0.1:8080\"")?;
    let Some((scheme, authority)) = text.split_once("://") else {
        return item.reject(format!("{} has no scheme", item.shown()), HELP);
    };
    let Some(scheme) = Scheme::parse(scheme) else {
        let message = format!("the scheme of {} is neither http nor https", item.shown());
        return item.reject(message, HELP);
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
    Origin::parse(scheme, authority)
        .or_else(|| item.reject(format!("{} is no origin", item.shown()), HELP))
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
        let found = grant("origins = ['http://127.0.0.1:9223', 'HTTPS://[::1]/']").expect("valid");
        let origin = |scheme, text| Origin::parse(scheme, text).expect("an origin");
        let expected = HttpClientGrant {
            origins: vec![
                origin(Scheme::Http, "127.0.0.1:9223"),
                origin(Scheme::Https, "[::1]:443"),
            ],
            timeout: Duration::from_secs(2),
            body_size: 1 << 20,
            concurrency: 16,
            ca: None,
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
            ("a:80", "has no scheme"),
            ("ws://a", "the scheme of 'ws://a' is neither http nor https"),
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

    #[test]
    fn what_vouches_for_nobody_is_refused() {
        for (key, message) in [
            (
                "ca = 'no-such.pem'",
                "cannot use 'no-such.pem': no such file",
            ),
            ("ca = 'src/lib.rs'", "there is no certificate in it"),
        ] {
            let text = format!("origins = ['https://a']\n{key}");
            let report = grant(&text).expect_err(key);
            assert!(report.contains(message), "{report}");
        }
        let plain = grant("origins = ['http://a']\nca = 'src/lib.rs'").expect_err("no certificate");
        assert!(plain.contains("cannot use"), "{plain}");
    }
}
