//! Shapes of HTTP's own things: header fields, methods, hosts and paths.

use std::net::Ipv6Addr;

use http::{HeaderName, HeaderValue, Method};

use super::model::{HostPattern, PathPattern};
use super::shape::one_or_many;
use super::{Item, Problem};

/// Fields that frame a message or belong to one connection. The proxy writes them itself.
const FRAMING_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A table of header fields; a list as value stands for several fields of one name.
pub(super) fn headers(item: &Item<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut section =
        item.section("a table of header fields, such as { cache-control = \"no-cache\" }")?;
    let mut headers = Vec::new();
    for item in section.items() {
        let Ok(name) = HeaderName::try_from(item.name()) else {
            let problem = Problem::error(
                item.name_location(),
                item.path(),
                format!("`{}` is no header name", item.name()),
            );
            item.reader().report(problem.with_help(
                "a header name is made of letters, digits and some punctuation, without spaces or colons",
            ));
            continue;
        };
        let values = one_or_many(header_value)(&item).unwrap_or_default();
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Some(headers)
}

/// As [`headers`], for a message that we write: framing is not the operator's.
pub(super) fn reply_headers(item: &Item<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    for item in item.section("a table of header fields")?.items() {
        let name = item.name().to_ascii_lowercase();
        if FRAMING_HEADERS.contains(&name.as_str()) {
            let problem = Problem::error(
                item.name_location(),
                item.path(),
                format!("`{name}` is written by the proxy itself"),
            );
            item.reader().report(problem.with_help("leave it out"));
        }
    }
    headers(item)
}

fn header_value(item: &Item<'_>) -> Option<HeaderValue> {
    let text = item.text("a header value")?;
    match HeaderValue::from_str(text) {
        Ok(mut value) => {
            value.set_sensitive(item.is_interpolated());
            Some(value)
        }
        Err(_) => item.reject(
            "this is no header value: it holds a line break or another control character",
            "write it on one line",
        ),
    }
}

/// A request method: `GET`.
pub(super) fn method(item: &Item<'_>) -> Option<Method> {
    let text = item.text("a method, such as \"GET\"")?;
    let upper = text.to_ascii_uppercase();
    if upper != text {
        let help = if item.is_interpolated() {
            "write it so".into()
        } else {
            format!("write \"{upper}\"")
        };
        return item.reject("methods are written in capital letters", help);
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) => Some(method),
        Err(_) => item.reject(
            format!("{} is no method", item.shown()),
            "write one such as \"GET\"",
        ),
    }
}

/// `example.com`, `[::1]` or `*.example.com`; kept in lower case.
pub(super) fn host(item: &Item<'_>) -> Option<HostPattern> {
    const HELP: &str = "write a name such as \"example.com\" or \"*.example.com\", or an address";
    let text = item.text("a host name")?.to_ascii_lowercase();
    if text == "*" {
        return item.reject(
            "`*` alone is no host pattern",
            "leave `host` out to match every host",
        );
    }
    if text.contains("://") || text.contains('/') {
        let message = format!("{} is more than a host", item.shown());
        return item.reject(message, "write the name alone, without scheme and path");
    }
    if let Some(address) = text.strip_prefix('[') {
        let address = address
            .strip_suffix(']')
            .and_then(|text| text.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Some(HostPattern::Exact(format!("[{address}]").into())),
            None => item.reject(format!("{} is no IPv6 address", item.shown()), HELP),
        };
    }
    if text.contains(':') {
        let message = format!("{} is not a host alone", item.shown());
        return item.reject(
            message,
            "leave the port out: the listener has it; an IPv6 address stands in brackets",
        );
    }
    let (name, below) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text.as_str(), false),
    };
    if !is_host_name(name) {
        return item.reject(format!("{} is no host pattern", item.shown()), HELP);
    }
    Some(if below {
        HostPattern::Below(format!(".{name}").into())
    } else {
        HostPattern::Exact(name.into())
    })
}

fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

/// `/exact` or `/prefix/*`.
pub(super) fn path_pattern(item: &Item<'_>) -> Option<PathPattern> {
    let text = item.text("a path, such as \"/api/*\"")?;
    match text.strip_suffix("/*") {
        Some(prefix) if prefix.is_empty() || is_path(prefix) && !prefix.ends_with('/') => {
            Some(PathPattern::Prefix(prefix.into()))
        }
        None if is_path(text) => Some(PathPattern::Exact(text.into())),
        _ => {
            let help = if text.contains('*') {
                "`*` stands only at the end, as `/*`: \"/api/*\" matches /api and all below"
            } else if !text.starts_with('/') {
                "a path starts with `/`"
            } else {
                "write it as clients send it, percent-encoded, without query, `.` and `..`"
            };
            item.reject(format!("{} is no path pattern", item.shown()), help)
        }
    }
}

/// A path to ask for: starts with `/`, may have a query.
pub(super) fn path_with_query(item: &Item<'_>) -> Option<String> {
    let text = item.text("a path, such as \"/healthz\"")?;
    let path = text.split('?').next().unwrap_or(text);
    if is_path(path) && text.parse::<http::uri::PathAndQuery>().is_ok() {
        return Some(text.to_owned());
    }
    item.reject(
        format!("{} is no path", item.shown()),
        "write it as it is sent: starting with `/`, percent-encoded",
    )
}

/// The start of paths that is taken off: `/api`.
pub(super) fn prefix(item: &Item<'_>) -> Option<String> {
    let text = item.text("the start of a path, such as \"/api\"")?;
    if is_path(text) && !text.ends_with('/') {
        return Some(text.to_owned());
    }
    item.reject(
        format!("{} is no prefix of a path", item.shown()),
        "write it with a `/` before and none behind: \"/api\"",
    )
}

/// Whether requests can have this path once it is normalised (RFC 3986 §6.2.2.3 takes dot segments out).
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"*?#\\\"<>^`{|}".contains(&byte))
        && !text
            .split('/')
            .any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn read<T>(text: &str, shape: impl Fn(&Item<'_>) -> Option<T>) -> Result<T, String> {
        let document = Document::parse("a.toml", &format!("a = {text}")).expect("this is TOML");
        let reader = document.reader();
        let value = reader.root().required("a", "", |item| shape(item));
        reader
            .finish(value)
            .map(|(value, _)| value)
            .map_err(|problems| problems.to_string())
    }

    fn exact(text: &str) -> HostPattern {
        HostPattern::Exact(text.into())
    }

    #[test]
    fn hosts_are_names_addresses_or_everything_below_a_name() {
        assert_eq!(read("'Example.com'", host), Ok(exact("example.com")));
        assert_eq!(read("'127.0.0.1'", host), Ok(exact("127.0.0.1")));
        assert_eq!(read("'[0::1]'", host), Ok(exact("[::1]")));
        assert_eq!(read("'*.a.b'", host), Ok(HostPattern::Below(".a.b".into())));
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_would_be_right() {
        for (text, help) in [
            ("'*'", "leave `host` out"),
            ("'a.com:80'", "leave the port out"),
            ("'http://a.com'", "without scheme and path"),
            ("'a.*.com'", "write a name such as"),
            ("'a..com'", "write a name such as"),
            ("'[::z]'", "write a name such as"),
            ("''", "write a name such as"),
        ] {
            let report = read(text, host).expect_err(text);
            assert!(report.contains(help), "{report}");
        }
    }

    #[test]
    fn a_path_pattern_is_exact_or_ends_in_a_star() {
        let prefix = |text: &str| PathPattern::Prefix(text.into());
        assert_eq!(read("'/*'", path_pattern), Ok(prefix("")));
        assert_eq!(read("'/json/*'", path_pattern), Ok(prefix("/json")));
        assert_eq!(
            read("'/a/'", path_pattern),
            Ok(PathPattern::Exact("/a/".into()))
        );
        for text in [
            "''",
            "'*'",
            "'a'",
            "'/a*'",
            "'/*/a'",
            "'/a?b'",
            "'/a/../b'",
            "'/a b'",
            "'/a//*'",
        ] {
            assert!(read(text, path_pattern).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_to_ask_for_may_have_a_query() {
        assert_eq!(read("'/a?b=1'", path_with_query).as_deref(), Ok("/a?b=1"));
        assert!(read("'a'", path_with_query).is_err());
        assert!(read("'/a#b'", path_with_query).is_err());
    }

    #[test]
    fn headers_are_checked_and_may_have_several_values() {
        let read_headers = |text| read(text, headers);
        let found = read_headers("{ X-A = '1', set-cookie = ['a', 'b'] }").expect("these are fine");
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-a", "set-cookie", "set-cookie"]);
        for text in [
            "{ 'a b' = '1' }",
            "{ a = \"b\\nc\" }",
            "{ a = 1 }",
            "'a: b'",
        ] {
            assert!(read_headers(text).is_err(), "{text}");
        }
        let report = read("{ Content-Length = '1' }", reply_headers).expect_err("it is ours");
        assert!(
            report.contains("`content-length` is written by the proxy itself"),
            "{report}"
        );
    }

    #[test]
    fn methods_are_written_in_capitals() {
        assert_eq!(
            read("'PROPFIND'", method).map(|method| method.to_string()),
            Ok("PROPFIND".into())
        );
        let report = read("'get'", method).expect_err("it is lower case");
        assert!(report.contains("write \"GET\""), "{report}");
        assert!(read("'A B'", method).is_err());
    }
}
