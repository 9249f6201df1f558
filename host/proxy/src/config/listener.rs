//! Reads `[[listener]]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::model::{Listener, ListenerLimits, Protocols};
use super::shape::{
    Located, integer, list, located, name, positive_duration, size, size_within, table, word,
};
use super::value::Value;
use super::{Item, Problem, Section, bind, tls};

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_count: 100,
            header_size: 64 * 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_size: None,
            body_timeout: Duration::from_secs(60),
            requests: None,
            streams: 100,
        }
    }
}

/// A `[[listener]]` of the file. Others may refer to it by its name even when the rest of it is wrong.
pub(super) struct Declared {
    pub(super) name: Option<Located<String>>,
    pub(super) listener: Option<Listener>,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Declared> {
    let name = section.required("name", "\"main\"", located(name));
    let bind = section.required("bind", "\"0.0.0.0:8080\"", located(bind::read));
    let bind = bind::finish(bind, section);
    let proxy_protocol = section.optional("proxy-protocol", word(&[("require", true)]));
    let has_tls = section.has("tls");
    let protocols = section
        .optional("protocols", protocols)
        .unwrap_or(Protocols {
            http1: true,
            http2: has_tls,
        });
    let tls = section.optional("tls", table(|tls| tls::read(tls, protocols)));
    if has_tls && tls.is_none() && !section.reader().has_errors() {
        // A listener that was to have TLS is never served without.
        let message = "`tls` cannot be used";
        let problem = Problem::error(section.location(), section.path(), message);
        section.reader().report(problem);
    }
    let limits = section
        .optional("limits", table(read_limits))
        .unwrap_or_default();
    let listener = name.as_ref().zip(bind).map(|(name, bind)| Listener {
        name: name.value.as_str().into(),
        bind: bind.value,
        protocols,
        proxy_protocol: proxy_protocol.unwrap_or(false),
        tls,
        limits,
        bind_location: bind.location,
    });
    Some(Declared { name, listener })
}

fn protocols(item: &Item<'_>) -> Option<Protocols> {
    let known = word(&[("http/1.1", false), ("h2", true)]);
    let named = list(known)(item)?;
    if named.is_empty() {
        return item.reject(
            "a listener without a protocol serves nobody",
            "name \"http/1.1\", \"h2\" (HTTP/2) or both",
        );
    }
    Some(Protocols {
        http1: named.contains(&false),
        http2: named.contains(&true),
    })
}

fn read_limits(section: &mut Section<'_>) -> Option<ListenerLimits> {
    let default = ListenerLimits::default();
    Some(ListenerLimits {
        connections: section.default("connections", default.connections, integer(1..=10_000_000)),
        header_count: section.default("header-count", default.header_count, integer(1..=10_000)),
        header_size: section.default(
            "header-size",
            default.header_size,
            size_within(1024..=16 << 20),
        ),
        header_timeout: section.default(
            "header-timeout",
            default.header_timeout,
            positive_duration,
        ),
        idle_timeout: section.default("idle-timeout", default.idle_timeout, positive_duration),
        body_size: section.default("body-size", default.body_size, size_or_none),
        body_timeout: section.default("body-timeout", default.body_timeout, positive_duration),
        requests: section.default("requests", default.requests, integer_or_none),
        streams: section.default("streams", default.streams, integer(1..=10_000)),
    })
}

fn integer_or_none(item: &Item<'_>) -> Option<Option<u64>> {
    match item.value() {
        Value::String(text) if text == "none" => Some(None),
        _ => integer(1..=1_000_000_000_000)(item).map(Some),
    }
}

fn size_or_none(item: &Item<'_>) -> Option<Option<u64>> {
    match item.value() {
        Value::String(text) if text == "none" => Some(None),
        _ => size(item).map(Some),
    }
}

pub(super) fn socket_address(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text("an address with its port, such as \"0.0.0.0:8080\"")?;
    text.parse().ok().or_else(|| {
        let message = format!("{} is no address with a port", item.shown());
        item.reject(message, advice(text, item.is_interpolated()))
    })
}

/// What was probably meant; the text itself is only used when it is no secret.
fn advice(text: &str, secret: bool) -> String {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match text.rsplit_once(':') {
        _ if secret => "set it to an address and a port, such as 0.0.0.0:8080".into(),
        _ if bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv6()) =>
        {
            format!("add the port: \"[{bare}]:8080\"")
        }
        _ if bare.parse::<IpAddr>().is_ok() => format!("add the port: \"{bare}:8080\""),
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
            format!("write \"0.0.0.0:{port}\" for every IPv4 address, or \"[::]:{port}\" for IPv6")
        }
        Some((_, port))
            if port
                .parse::<u64>()
                .is_ok_and(|port| port > u64::from(u16::MAX)) =>
        {
            "a port is at most 65535".into()
        }
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => {
            format!("names are not looked up here; write the address: \"127.0.0.1:{port}\"")
        }
        _ => "write an address and a port: \"0.0.0.0:8080\" or \"[::]:8080\"".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::super::fuzzed;
    use super::*;

    fn listener(text: &str) -> Result<Listener, String> {
        let document = Document::parse("a.toml", text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let declared = read(&mut root);
        root.finish();
        reader
            .finish(declared.and_then(|declared| declared.listener))
            .map(|(listener, _)| listener)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_listener_is_a_name_and_an_address_and_defaults() {
        let listener = listener("name = 'main'\nbind = '[::1]:80'").expect("it is valid");
        assert_eq!(&*listener.name, "main");
        assert_eq!(listener.bind.to_string(), "[::1]:80");
        assert_eq!(listener.bind_location.to_string(), "a.toml:2:8");
        assert_eq!(listener.limits.body_size, None);
        assert_eq!(listener.limits.idle_timeout, Duration::from_secs(75));
    }

    #[test]
    fn limits_replace_the_defaults() {
        let text =
            "name = 'main'\nbind = '[::1]:80'\nlimits = { body-size = '1MiB', header-count = 7 }";
        let limits = listener(text).expect("it is valid").limits;
        assert_eq!((limits.body_size, limits.header_count), (Some(1 << 20), 7));
        let text = "name = 'main'\nbind = '[::1]:80'\nlimits.body-size = 'none'";
        assert_eq!(listener(text).expect("it is valid").limits.body_size, None);
    }

    #[test]
    fn a_bad_address_gets_the_advice_that_fits_it() {
        for (bind, help) in [
            (":9222", "write \"0.0.0.0:9222\" for every IPv4 address"),
            ("*:80", "write \"0.0.0.0:80\" for every IPv4 address"),
            ("localhost:80", "write the address: \"127.0.0.1:80\""),
            ("10.0.0.1", "add the port: \"10.0.0.1:8080\""),
            ("::1", "add the port: \"[::1]:8080\""),
            ("[::1]", "add the port: \"[::1]:8080\""),
            ("0.0.0.0:70000", "a port is at most 65535"),
            ("8080", "write an address and a port"),
        ] {
            let report = listener(&format!("name = 'main'\nbind = '{bind}'")).expect_err(bind);
            assert!(report.contains(help), "{report}");
        }
    }

    #[test]
    fn a_listener_without_name_and_address_is_two_problems() {
        let report = listener("").expect_err("both are required");
        assert!(report.contains("`name` is missing"), "{report}");
        assert!(report.contains("`bind` is missing"), "{report}");
    }

    /// The first cells of the rows of a page's table, between these two headings of it.
    fn rows<'a>(page: &'a str, from: &str, to: &str) -> Vec<Vec<&'a str>> {
        let part = page.split(from).nth(1).expect("the page has this part");
        let part = part.split(to).next().expect("a split has a first part");
        let lines = part.lines().filter_map(|line| line.strip_prefix("| `"));
        lines
            .map(|line| {
                line.split(" | ")
                    .map(|cell| cell.trim_matches('`'))
                    .collect()
            })
            .collect()
    }

    fn limits(key: &str) -> String {
        let text = format!(
            "[[listener]]\nname = 'a'\nbind = '127.0.0.1:0'\n{key}\n[[route]]\nreply = {{ status = 200 }}\n"
        );
        let (config, _) = fuzzed::read(&text).expect("it is sound");
        format!("{:?}", config.listeners[0].limits)
    }

    #[test]
    fn the_page_of_limits_has_each_with_its_default() {
        let page = include_str!("../../../../docs/limits.md");
        let rows = rows(page, "`[[listener]] limits`:", "What follows");
        let default = limits("");
        for row in &rows {
            assert_eq!(
                limits(&format!("limits.{} = {}", row[0], row[1])),
                default,
                "{row:?}"
            );
        }
        let fields = default.matches(": ").count();
        assert_eq!(rows.len(), fields, "{default}");
    }
}
