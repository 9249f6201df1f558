//! Paths and routes beside a plain reading of what the documentation says.

use std::sync::OnceLock;

use http::{HeaderMap, Method, Uri, request};

use crate::config::{Config, Document, Server};
use crate::connection::Peer;
use crate::head;
use crate::path;
use crate::router::{Asked, Router};

const ROUTES: &str = r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"
[[route]]
path = "/*"
reply = { status = 200 }
[[route]]
path = "/private/*"
reply = { status = 403 }
[[route]]
path = "/private/open"
reply = { status = 200 }
[[route]]
path = "/a/b/*"
reply = { status = 200 }
"#;

const ALL: usize = 0;
const PRIVATE: usize = 1;
const OPEN: usize = 2;
const BELOW: usize = 3;

/// Normalises any target, and routes it.
pub fn paths(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else {
        return;
    };
    let (sent, path) = (uri.to_string(), uri.path().to_owned());
    let is_absolute = uri.authority().is_some();
    let query = uri.query().map(str::to_owned);
    let Some((parts, is_doubtful)) = received(uri) else {
        // What is before the path may be wrong as well.
        let refused = is_absolute || !path.starts_with('/') || spelled(&path).is_none();
        assert!(refused, "{sent:?} is refused");
        return;
    };
    let normal = parts.uri.path();
    assert_eq!(Some(normal), spelled(&path).as_deref(), "{sent:?}");
    assert_eq!(parts.uri.query(), query.as_deref(), "{sent:?}");
    let (again, _) = received(parts.uri.clone()).expect("it was received once");
    assert_eq!(again.uri, parts.uri, "{sent:?} is normalised twice");

    let found = routed(normal);
    assert_eq!(found, route(normal), "{sent:?}");
    let is_refused = is_doubtful
        && (path::hides_dot_segments(normal)
            || path::other_readings(normal).any(|other| routed(&other) != found));
    if !is_refused && found != Some(PRIVATE) {
        for reading in careless(normal) {
            assert_ne!(
                route(&reading),
                Some(PRIVATE),
                "{sent:?} gets past the gate as {reading:?}"
            );
        }
    }
}

fn received(uri: Uri) -> Option<(request::Parts, bool)> {
    let request = http::Request::builder().uri(uri).header("host", "a");
    let (mut parts, ()) = request.body(()).expect("a request").into_parts();
    let peer = Peer::new(std::net::SocketAddr::from(([192, 0, 2, 7], 1)));
    let received = head::receive(&mut parts, &peer, &Server::default(), || "id".into()).ok()?;
    Some((parts, received.has_other_readings))
}

/// What servers make of a path that decode it whole, none, one or two times, and then go on in their own ways.
fn careless(path: &str) -> Vec<String> {
    let mut readings = Vec::new();
    let mut spelling = path.to_owned();
    for _ in 0..3 {
        for habits in 0..8 {
            let mut read = spelling.clone();
            if habits & 1 > 0 {
                read = read.replace('\\', "/");
            }
            let mut segments: Vec<&str> = Vec::new();
            for mut segment in read.split('/').skip(1) {
                if habits & 2 > 0 {
                    segment = segment.split(';').next().unwrap_or_default();
                }
                match segment {
                    "." => {}
                    ".." => drop(segments.pop()),
                    "" if habits & 4 > 0 => {}
                    _ => segments.push(segment),
                }
            }
            readings.push(format!("/{}", segments.join("/")));
        }
        spelling = decoded_whole(&spelling);
    }
    readings
}

/// Every escape that is one, decoded; bytes that are no UTF-8 are of no matter here.
fn decoded_whole(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = path
            .get(at + 1..at + 3)
            .filter(|hex| byte == b'%' && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (decoded.push(byte), at += 3).1,
            None => (decoded.push(byte), at += 1).1,
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// RFC 3986 §6.2.2, segment by segment: escapes of unreserved characters are decoded, the others in capitals, then `.`
/// and `..` are resolved. A NUL, half an escape, a backslash, and UTF-8 that is longer than it has to be have no reading.
fn spelled(path: &str) -> Option<String> {
    let escapes = path.to_ascii_uppercase();
    let is_long = |start: &str| {
        escapes.split(start).skip(1).any(|rest| {
            rest.starts_with("%8")
                || rest.starts_with("%9")
                || rest.starts_with("%A")
                || rest.starts_with("%B")
        })
    };
    if path.contains('\\') || is_long("%C0") || is_long("%C1") {
        return None;
    }
    let mut segments: Vec<String> = Vec::new();
    let sent: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    for (at, segment) in sent.iter().enumerate() {
        let segment = decoded(segment)?;
        let is_last = at + 1 == sent.len();
        match &*segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => {
                segments.push(segment);
                continue;
            }
        }
        if is_last {
            segments.push(String::new());
        }
    }
    Some(format!("/{}", segments.join("/")))
}

fn decoded(segment: &str) -> Option<String> {
    let mut pieces = segment.split('%');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        let byte = hex
            .chars()
            .all(|c| c.is_ascii_hexdigit())
            .then(|| u8::from_str_radix(hex, 16))?
            .ok()?;
        match char::from(byte) {
            '\0' => return None,
            c @ ('a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~') => out.push(c),
            _ => out.push_str(&format!("%{}", hex.to_ascii_uppercase())),
        }
        out.push_str(rest);
    }
    Some(out)
}

/// Who serves a normalised path, by reading the routes above.
fn route(path: &str) -> Option<usize> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    Some(match &segments[..] {
        ["private", "open"] => OPEN,
        ["private", ..] => PRIVATE,
        ["a", "b", ..] => BELOW,
        _ => ALL,
    })
}

fn routed(path: &str) -> Option<usize> {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    let router = ROUTER.get_or_init(|| {
        let document = Document::parse("a.toml", ROUTES).expect("valid TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        let (config, _) = reader.finish(config).expect("a valid configuration");
        Router::new(1, &config.routes)
    });
    let (method, headers) = (&Method::GET, &HeaderMap::new());
    let query = "";
    let asked = Asked {
        path,
        query,
        method,
        headers,
    };
    router.find(0, "a", asked)
}
