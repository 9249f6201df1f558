//! Shapes of HTTP's own things: header fields, methods, hosts and paths.

use std::net::Ipv6Addr;

use http::{HeaderName, HeaderValue, Method};
use regex::bytes::{Regex, RegexBuilder};

use super::matching::{Condition, PathPattern, ValueMatch};
use super::model::HostPattern;
use super::shape::{one_or_many, string, table};
use super::value::Value;
use super::{Item, Problem, Section};
use crate::path;

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
        let Some(name) = header_name(&item) else {
            continue;
        };
        let values = one_or_many(header_value)(&item).unwrap_or_default();
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Some(headers)
}

fn header_name(item: &Item<'_>) -> Option<HeaderName> {
    let name = HeaderName::try_from(item.name());
    if name.is_err() {
        let problem = Problem::error(
            item.name_location(),
            item.path(),
            format!("`{}` is no header name", item.name()),
        );
        item.reader().report(problem.with_help(
            "a header name is made of letters, digits and some punctuation, without spaces or colons",
        ));
    }
    name.ok()
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

/// `/exact`, `/prefix/*`, and either with placeholders: `/users/{id}/posts`.
pub(super) fn path_pattern(item: &Item<'_>) -> Option<PathPattern> {
    let text = item.text("a path, such as \"/api/*\"")?;
    let (path, open) = match text.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (text, false),
    };
    let pattern = match path.contains(['{', '}']) {
        false => PathPattern {
            open,
            ..PathPattern::exact(path)
        },
        true => with_placeholders(item, path, open)?,
    };
    let bare = text_without_placeholders(&pattern);
    let ends_well = match open {
        true => !path.ends_with('/'),
        false => !path.is_empty(),
    };
    if !(bare.is_empty() || is_path(&bare)) || !ends_well || !text.starts_with('/') {
        let help = if text.contains('*') {
            "`*` stands only at the end, as `/*`: \"/api/*\" matches /api and all below"
        } else if !text.starts_with('/') {
            "a path starts with `/`"
        } else {
            "write it as clients send it, percent-encoded, without query, `.` and `..`"
        };
        return item.reject(format!("{} is no path pattern", item.shown()), help);
    }
    if path::has_other_readings(&bare) {
        return item.reject(
            format!("servers differ in how they read {}", item.shown()),
            "no request that may mean another path is served: leave out `//`, `;`, %2F, %5C, %3B and %25",
        );
    }
    match path::normal(&bare) {
        Ok(normal) if bare.is_empty() || normal == bare => Some(pattern),
        Ok(normal) => item.reject(
            format!("no request has the path {}", item.shown()),
            format!("paths are compared without needless escapes: this one is \"{normal}\""),
        ),
        Err(reason) => item.reject(reason, "write it as clients send it, percent-encoded"),
    }
}

fn with_placeholders(item: &Item<'_>, path: &str, open: bool) -> Option<PathPattern> {
    let mut pattern = PathPattern {
        open,
        ..PathPattern::exact("")
    };
    let mut literal = String::new();
    for segment in path.split('/').skip(1) {
        let placeholder = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match placeholder {
            Some(name) => {
                check_placeholder(item, &pattern, name)?;
                finish_literal(&mut pattern, &mut literal);
                pattern.placeholders.push((name.into(), "".into()));
            }
            None if segment.contains(['{', '}']) => {
                return item.reject(
                    format!("a placeholder of {} is not a whole segment", item.shown()),
                    "write it between two `/`: \"/users/{id}/posts\"",
                );
            }
            None => {
                literal.push('/');
                literal.push_str(segment);
            }
        }
    }
    finish_literal(&mut pattern, &mut literal);
    Some(pattern)
}

/// Puts what was read since the last placeholder behind it.
fn finish_literal(pattern: &mut PathPattern, literal: &mut String) {
    let text = std::mem::take(literal).into();
    match pattern.placeholders.last_mut() {
        Some((_, behind)) => *behind = text,
        None => pattern.head = text,
    }
}

/// Names that stand for something else where placeholders are used.
pub(super) const RESERVED: [&str; 5] = ["scheme", "host", "authority", "path", "rest"];

fn check_placeholder(item: &Item<'_>, pattern: &PathPattern, name: &str) -> Option<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(legal) {
        return item.reject(
            format!("a placeholder of {} has no name", item.shown()),
            "a name is made of `a`-`z`, `A`-`Z`, `0`-`9`, `-` and `_`: \"/users/{id}\"",
        );
    }
    if RESERVED.contains(&name) || pattern.has_placeholder(name) {
        let message = match RESERVED.contains(&name) {
            true => format!("`{{{name}}}` stands for something else"),
            false => format!("`{{{name}}}` stands twice in {}", item.shown()),
        };
        return item.reject(message, "choose another name");
    }
    Some(())
}

fn text_without_placeholders(pattern: &PathPattern) -> String {
    let mut text = pattern.head.to_string();
    for (_, literal) in &pattern.placeholders {
        text.push_str("/x");
        text.push_str(literal);
    }
    text
}

/// A table of header fields and what is asked of them.
pub(super) fn header_conditions(item: &Item<'_>) -> Option<Vec<Condition<HeaderName>>> {
    let expected = "a table of header fields, such as { x-version = \"2\" }";
    conditions(item, expected, header_name)
}

/// A table of query parameters and what is asked of them.
pub(super) fn query_conditions(item: &Item<'_>) -> Option<Vec<Condition<Box<str>>>> {
    let expected = "a table of query parameters, such as { version = \"2\" }";
    conditions(item, expected, |item| Some(item.name().into()))
}

fn conditions<N: Clone>(
    item: &Item<'_>,
    expected: &str,
    name: impl Fn(&Item<'_>) -> Option<N>,
) -> Option<Vec<Condition<N>>> {
    let mut conditions = Vec::new();
    for item in item.section(expected)?.items() {
        let Some(name) = name(&item) else { continue };
        let values = one_or_many(value_match)(&item).unwrap_or_default();
        conditions.extend(values.into_iter().map(|value| Condition {
            name: name.clone(),
            value,
        }));
    }
    Some(conditions)
}

fn value_match(item: &Item<'_>) -> Option<ValueMatch> {
    const EXPECTED: &str = "a value, `true`, `false`, { prefix = \"…\" } or { regex = \"…\" }";
    match item.value() {
        Value::Boolean(true) => Some(ValueMatch::Present),
        Value::Boolean(false) => Some(ValueMatch::Absent),
        Value::Table(_) => table(part_match)(item),
        _ => Some(ValueMatch::Exact(item.text(EXPECTED)?.as_bytes().into())),
    }
}

fn part_match(section: &mut Section<'_>) -> Option<ValueMatch> {
    let prefix = section.optional("prefix", string);
    let pattern = section.item("regex");
    match (prefix, pattern) {
        (Some(prefix), None) if !prefix.is_empty() => {
            Some(ValueMatch::Prefix(prefix.as_bytes().into()))
        }
        (None, Some(pattern)) => regex(&pattern).map(ValueMatch::Regex),
        _ => {
            let message = "one of `prefix` and `regex` says what a value has to look like";
            let problem = Problem::error(section.location(), section.path(), message);
            let help =
                "write { prefix = \"v1\" } or { regex = \"v[0-9]+\" }, or `true` for any value";
            section.reader().report(problem.with_help(help));
            None
        }
    }
}

/// A regular expression that matches a whole value. The crate takes time linear in the value's length for any of them;
/// what they may take of memory is bounded here.
fn regex(item: &Item<'_>) -> Option<Regex> {
    const LARGEST: usize = 256 * 1024;
    let text = item.text("a regular expression")?;
    let built = RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(LARGEST)
        .dfa_size_limit(LARGEST)
        .build();
    // On its own, so that what closes our group is none.
    match built.and_then(|built| Regex::new(text).map(|_| built)) {
        Ok(built) => Some(built),
        Err(regex::Error::CompiledTooBig(_)) => item.reject(
            "this regular expression would take too much memory",
            "repeat less: `{n,m}` counts for as many copies of what it repeats",
        ),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            item.reject(
                format!("{} is no regular expression: {reason}", item.shown()),
                "it is written as Rust's crate `regex` reads them: no look-around, no back-references",
            )
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
        let prefix = PathPattern::prefix;
        assert_eq!(read("'/*'", path_pattern), Ok(prefix("")));
        assert_eq!(read("'/json/*'", path_pattern), Ok(prefix("/json")));
        assert_eq!(read("'/a/'", path_pattern), Ok(PathPattern::exact("/a/")));
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
            "'/a//b'",
            "'/a;b'",
            "'/a%2Fb'",
            "'/%zz'",
            "'/%61'",
            "'/%c3%a4'",
        ] {
            assert!(read(text, path_pattern).is_err(), "{text}");
        }
    }

    #[test]
    fn a_placeholder_is_a_segment_with_a_name_of_its_own() {
        let pattern = read("'/users/{id}/{post}/raw/*'", path_pattern).expect("a pattern");
        assert_eq!(pattern.shape(), ("/users", vec!["", "/raw"], true));
        assert!(pattern.has_placeholder("id") && pattern.has_placeholder("post"));
        let pattern = read("'/{id}/'", path_pattern).expect("a pattern");
        assert_eq!(pattern.shape(), ("", vec!["/"], false));
        for text in [
            "'/a{id}'",
            "'/{id}x'",
            "'/{}'",
            "'/{a b}'",
            "'/{id}/{id}'",
            "'/{host}'",
            "'/{a'",
            "'{a}'",
        ] {
            assert!(read(text, path_pattern).is_err(), "{text}");
        }
    }

    #[test]
    fn a_condition_is_a_value_a_part_of_one_or_whether_there_is_one() {
        let read = |text: &str| read(text, query_conditions);
        let found = read(
            "{ a = '1', b = true, c = false, d = { prefix = 'x' }, e = { regex = 'v[0-9]+|w' }, f = ['1', '2'] }",
        );
        assert_eq!(found.expect("all are conditions").len(), 7);
        for (text, report) in [
            ("{ a = 1 }", "expected a value"),
            ("{ a = {} }", "one of `prefix` and `regex`"),
            ("{ a = { prefix = '' } }", "one of `prefix` and `regex`"),
            (
                "{ a = { prefix = 'a', regex = 'a' } }",
                "one of `prefix` and `regex`",
            ),
            (
                "{ a = { regex = '(' } }",
                "is no regular expression: unclosed group",
            ),
            ("{ a = { regex = 'a)(b' } }", "is no regular expression"),
            ("{ a = { regex = '(?=a)' } }", "no look-around"),
            (
                "{ a = { regex = '((a{100}){100}){100}' } }",
                "too much memory",
            ),
            ("{ a = { suffix = 'a' } }", "unknown key `suffix`"),
        ] {
            let report_found = read(text).expect_err(text);
            assert!(report_found.contains(report), "{report_found}");
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
