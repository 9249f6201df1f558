//! Reads test files, with the reports that configuration files get: every mistake at once, each at its line.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use witgate_proxy::config::{Document, Item, Problems, Section, read_config, shape};
use witgate_runtime::{Origin, is_authority};
use witgate_testkit::{Direction, Message, Scheme};

use super::case::{
    Answer, Case, Ending, Exchange, Expect, Expected, Fate, Grants, Request, Response, Sent, Suite,
};

/// Reads a test file.
///
/// # Errors
///
/// Everything that is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Suite, Problems> {
    let with_outcome = |mut problems: Problems| {
        problems.set_outcome("its tests were not run");
        problems
    };
    let document = Document::read(path).map_err(with_outcome)?;
    let reader = document.reader();
    let mut root = reader.root();
    let cases = root.required("test", "[{ name = \"…\" }]", shape::tables("test", case));
    root.finish();
    let (cases, _) = reader.finish(cases).map_err(with_outcome)?;
    Ok(Suite {
        file: path.to_owned(),
        cases,
    })
}

fn case(section: &mut Section<'_>) -> Option<Case> {
    let name = section.required("name", "\"what is promised\"", shape::string);
    let (config, _) = read_config(section);
    let grants = section.default("grant", Grants::default(), shape::table(grants));
    let upstream = section.default(
        "upstream",
        Vec::new(),
        shape::tables("test.upstream", answer),
    );
    let mut config_errors = None;
    let alone = exchange(section, Some(&mut config_errors));
    let more = section.default(
        "exchange",
        Vec::new(),
        shape::tables("test.exchange", |section| exchange(section, None)),
    );
    if !more.is_empty() {
        for key in ["after", "request", "response", "messages", "end", "expect"] {
            section.optional(key, |item| {
                item.reject::<()>(
                    format!(
                        "`{key}` of a test that has `[[test.exchange]]` would not be looked at"
                    ),
                    "move it to the exchange that it is about",
                )
            });
        }
    }
    Some(Case {
        name: name?,
        location: section.location(),
        config,
        grants,
        upstream,
        config_errors,
        exchanges: match more.is_empty() {
            true => vec![alone?],
            false => more,
        },
    })
}

fn grants(section: &mut Section<'_>) -> Option<Grants> {
    Some(Grants {
        keyvalue: section.optional("keyvalue", |item| texts(item)),
        metrics: section.optional("metrics", shape::integer(0..=10_000)),
        secrets: section.default("secrets", Vec::new(), texts),
        origins: section.default("http-client", Vec::new(), shape::list(origin)),
    })
}

fn answer(section: &mut Section<'_>) -> Option<Answer> {
    const EXAMPLE: &str = "\"GET http://127.0.0.1:9000/path\"";
    let request = section.required("request", EXAMPLE, |item| {
        let text = item.text("method and URL of the request")?;
        let read = text.split_once(' ').and_then(|(method, url)| {
            Some((Method::from_bytes(method.as_bytes()).ok()?, url.to_owned()))
        });
        read.or_else(|| {
            item.reject(
                format!("{} is no method and URL", item.shown()),
                format!("write {EXAMPLE}"),
            )
        })
    });
    let status = section.default("status", StatusCode::OK, status);
    let headers = section.default("headers", Vec::new(), headers);
    let body = section.default("body", Vec::new(), bytes);
    let (method, url) = request?;
    Some(Answer {
        method,
        url,
        status,
        headers,
        body,
    })
}

/// An exchange; `config_errors` is for that of a test which has no more.
fn exchange(
    section: &mut Section<'_>,
    mut config_errors: Option<&mut Option<Vec<(String, String)>>>,
) -> Option<Exchange> {
    let endings = [
        ("complete", Ending::Complete),
        ("client-left", Ending::ClientLeft),
        ("failed", Ending::Failed),
    ];
    let expect = shape::table(|section: &mut Section<'_>| {
        match &mut config_errors {
            Some(config_errors) => **config_errors = section.optional("config-errors", texts),
            None => {
                section.optional("config-errors", |item| {
                    item.reject::<()>(
                        "a configuration is refused before there is any exchange",
                        "make it a `[[test]]` of its own, without `[[test.exchange]]`",
                    )
                });
            }
        }
        expect(section)
    });
    Some(Exchange {
        after: section.default("after", Duration::ZERO, shape::duration),
        request: section.default("request", Request::default(), shape::table(request)),
        response: section.optional("response", shape::table(response)),
        messages: section.default("messages", Vec::new(), shape::list(shape::table(message))),
        end: section.optional("end", shape::word(&endings)),
        expect: section.default("expect", Expect::default(), expect),
    })
}

fn request(section: &mut Section<'_>) -> Option<Request> {
    let default = Request::default();
    let schemes = [("http", Scheme::Http), ("https", Scheme::Https)];
    Some(Request {
        method: section.default("method", default.method, method),
        path: section.default("path", default.path, path),
        authority: section.default("authority", default.authority, authority),
        scheme: section.default("scheme", default.scheme, shape::word(&schemes)),
        client: section.optional("client", address),
        upgrade: section.optional("upgrade", shape::string),
        headers: section.default("headers", default.headers, headers),
        body: section.default("body", default.body, shape::one_or_many(bytes)),
        attributes: section.default("attributes", default.attributes, notes),
    })
}

fn response(section: &mut Section<'_>) -> Option<Response> {
    Some(Response {
        status: section.default("status", StatusCode::OK, status),
        headers: section.default("headers", Vec::new(), headers),
        body: section.default("body", Vec::new(), shape::one_or_many(bytes)),
    })
}

fn message(section: &mut Section<'_>) -> Option<Sent> {
    let directions = [
        ("client", Direction::ToUpstream),
        ("upstream", Direction::ToClient),
    ];
    let from = section.default("from", Direction::ToUpstream, shape::word(&directions));
    let binary = section.optional("hex", hex).map(Message::Binary);
    let message = match binary {
        Some(binary) => Some(binary),
        None => section
            .required("text", "\"…\"", shape::string)
            .map(Message::Text),
    };
    Some(Sent {
        direction: from,
        message: message?,
        expect: section.optional("expect", fate),
    })
}

/// A text, or `{ hex = "00ff" }` for bytes that are none.
fn bytes(item: &Item<'_>) -> Option<Vec<u8>> {
    match item.is_table() {
        true => {
            shape::table(|section: &mut Section<'_>| section.required("hex", "\"00ff\"", hex))(item)
        }
        false => shape::string(item).map(String::into_bytes),
    }
}

fn hex(item: &Item<'_>) -> Option<Vec<u8>> {
    let text = item.text("bytes in hex, such as \"00ff\"")?;
    let digits: Vec<u32> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map_while(|character| character.to_digit(16))
        .collect();
    let all = text.chars().filter(|character| !character.is_whitespace());
    if digits.len() != all.count() || !digits.len().is_multiple_of(2) {
        return item.reject(
            format!("{} is not in hex", item.shown()),
            "write two of `0`-`9` and `a`-`f` for each byte; spaces and line breaks may stand between",
        );
    }
    let byte = |pair: &[u32]| (pair[0] << 4 | pair[1]) as u8;
    Some(digits.chunks_exact(2).map(byte).collect())
}

fn fate(item: &Item<'_>) -> Option<Fate> {
    if !item.is_table() {
        return shape::word(&[("forward", false), ("drop", true)])(item).map(
            |dropped| match dropped {
                true => Fate::Drop,
                false => Fate::Forward,
            },
        );
    }
    shape::table(|section: &mut Section<'_>| {
        let reply = section.optional("reply", sent).map(Fate::Reply);
        let replace = section.optional("replace", sent).map(Fate::Replace);
        let close = section.optional("close", shape::integer(1000..=4999));
        reply.or(replace).or(close.map(Fate::Close))
    })(item)
}

/// A text is a text message, and `{ hex = "00ff" }` a binary one.
fn sent(item: &Item<'_>) -> Option<Message> {
    match item.is_table() {
        true => bytes(item).map(Message::Binary),
        false => shape::string(item).map(Message::Text),
    }
}

fn expect(section: &mut Section<'_>) -> Option<Expect> {
    Some(Expect {
        request: section.optional("request", shape::table(|section| expected(section, true))),
        response: section.optional("response", shape::table(|section| expected(section, false))),
        reply: section.optional("reply", shape::table(reply)),
        attributes: section.default("attributes", Vec::new(), texts_or_none),
        log: section.default("log", Vec::new(), shape::one_or_many(shape::string)),
        cost: section.optional("cost", shape::integer(1..=i64::MAX)),
        failure: section.optional("failure", shape::string),
        keyvalue: section.default("keyvalue", Vec::new(), texts_or_none),
    })
}

fn expected(section: &mut Section<'_>, of_a_request: bool) -> Option<Expected> {
    let verdicts = ["next", "transform", "hold"].map(|verdict| (verdict, verdict));
    let mut expected = Expected {
        verdict: section.optional("verdict", shape::word(&verdicts)),
        headers: section.default("headers", Vec::new(), fields),
        body: section.optional("body", bytes),
        ..Expected::default()
    };
    if of_a_request {
        expected.path = section.optional("path", path);
        expected.authority = section.optional("authority", shape::string);
    } else {
        expected.status = section.optional("status", status);
    }
    Some(expected)
}

fn reply(section: &mut Section<'_>) -> Option<Expected> {
    Some(Expected {
        status: section.optional("status", status),
        headers: section.default("headers", Vec::new(), fields),
        body: section.optional("body", bytes),
        file: section.optional("file", shape::string),
        ..Expected::default()
    })
}

fn method(item: &Item<'_>) -> Option<Method> {
    let text = item.text("a method, such as \"GET\"")?;
    let rejected = || {
        item.reject(
            format!("{} is no method", item.shown()),
            "write one such as \"GET\"",
        )
    };
    Method::from_bytes(text.as_bytes()).ok().or_else(rejected)
}

fn path(item: &Item<'_>) -> Option<String> {
    let text = item.text("a path, such as \"/a?b=c\"")?;
    let is_path = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    let rejected = || {
        item.reject(
            format!("{} is no path", item.shown()),
            "write path and query, such as \"/a?b=c\"",
        )
    };
    is_path.then(|| text.to_owned()).or_else(rejected)
}

fn address(item: &Item<'_>) -> Option<IpAddr> {
    let text = item.text("the client's address, such as \"192.0.2.7\"")?;
    let rejected = || {
        item.reject(
            format!("{} is no IP address", item.shown()),
            "write one without a port, such as \"192.0.2.7\" or \"2001:db8::1\"",
        )
    };
    text.parse().ok().or_else(rejected)
}

fn authority(item: &Item<'_>) -> Option<String> {
    let text = item.text("a host and an optional port")?;
    let rejected = || {
        item.reject(
            format!("{} is no host and port", item.shown()),
            "write one such as \"example.com:8080\"",
        )
    };
    is_authority(text)
        .then(|| text.to_owned())
        .or_else(rejected)
}

fn status(item: &Item<'_>) -> Option<StatusCode> {
    let number = shape::integer::<u16>(100..=599)(item)?;
    StatusCode::from_u16(number).ok()
}

fn origin(item: &Item<'_>) -> Option<String> {
    let text = item.text("an origin, such as \"http://127.0.0.1:9000\"")?;
    let parse = |(scheme, authority)| Origin::parse(Scheme::parse(scheme)?, authority);
    let is_origin = text.split_once("://").and_then(parse).is_some();
    let rejected = || {
        item.reject(
            format!("{} is no origin", item.shown()),
            "write scheme, host and port, such as \"http://127.0.0.1:9000\"",
        )
    };
    is_origin.then(|| text.to_owned()).or_else(rejected)
}

fn name(item: &Item<'_>) -> Option<HeaderName> {
    let rejected = || {
        item.reject(
            format!("`{}` is no name of a header field", item.name()),
            "write letters, digits and `-`",
        )
    };
    HeaderName::from_bytes(item.name().as_bytes())
        .ok()
        .or_else(rejected)
}

/// Header fields: a text or several for each name.
fn headers(item: &Item<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for item in item.section("a table of header fields")?.items() {
        let name = name(&item)?;
        for text in shape::one_or_many(shape::string)(&item)? {
            match HeaderValue::from_str(&text) {
                Ok(value) => headers.push((name.clone(), value)),
                Err(_) => {
                    return item.reject("a header field is one line", "take out what is no text");
                }
            }
        }
    }
    Some(headers)
}

/// Header fields as they are expected: a text or several for each name, or `false` for none.
fn fields(item: &Item<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let mut fields = Vec::new();
    for item in item.section("a table of header fields")?.items() {
        let name = name(&item)?.as_str().to_owned();
        let values = shape::or_false(shape::one_or_many(shape::string))(&item)?;
        fields.push((name, values.unwrap_or_default()));
    }
    Some(fields)
}

fn texts(item: &Item<'_>) -> Option<Vec<(String, String)>> {
    let items = item.section("a table of texts")?.items();
    let text = |item: &Item<'_>| Some((item.name().to_owned(), shape::string(item)?));
    Some(items.iter().filter_map(text).collect())
}

/// `false` for what is not there.
fn texts_or_none(item: &Item<'_>) -> Option<Vec<(String, Option<String>)>> {
    let items = item.section("a table of texts")?.items();
    let text = |item: &Item<'_>| {
        Some((
            item.name().to_owned(),
            shape::or_false(shape::string)(item)?,
        ))
    };
    Some(items.iter().filter_map(text).collect())
}

/// Notes of other plugins: `{ "plugin.note" = "text" }`.
fn notes(item: &Item<'_>) -> Option<Vec<(String, String, String)>> {
    let mut notes = Vec::new();
    for item in item.section("a table of attributes")?.items() {
        let text = shape::string(&item)?;
        let Some((plugin, note)) = item.name().split_once('.') else {
            return item.reject(
                format!("`{}` names no plugin", item.name()),
                "write \"PLUGIN.NOTE\" = \"…\", in quotation marks",
            );
        };
        notes.push((plugin.to_owned(), note.to_owned(), text));
    }
    Some(notes)
}
