//! Text with `{placeholders}` in it, which a request fills: where a redirect leads, what a path is rewritten to.

use super::http_shape::RESERVED;
use super::suggest::enumerate;
use super::{Item, PathPattern};
use crate::path;

/// Text, with what a request puts into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Scheme,
    Host,
    Authority,
    Path,
    /// What stands for a placeholder of the route's path, by its place, or behind them for its `/*`.
    Capture(usize),
}

/// What a request fills a template with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    pub(crate) scheme: &'a str,
    /// Without the port.
    pub(crate) host: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    /// As [`PathPattern::captures`] gives them.
    pub(crate) captures: &'a [&'a str],
}

impl Template {
    pub(crate) fn fill(&self, with: Filling<'_>) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            let text = match piece {
                Piece::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Piece::Scheme => with.scheme,
                Piece::Host => with.host,
                Piece::Authority => with.authority,
                Piece::Path => with.path,
                Piece::Capture(at) => with.captures.get(*at).copied().unwrap_or_default(),
            };
            match filled.contains('?') {
                true => push_into_query(&mut filled, text),
                false => filled.push_str(text),
            }
        }
        filled
    }

    /// Whether it says a query of its own.
    pub(crate) fn has_query(&self) -> bool {
        let has = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains('?'));
        self.0.iter().any(has)
    }

    /// Whether it asks for the host that the client used.
    pub(crate) fn needs_host(&self) -> bool {
        let is_host = |piece: &Piece| matches!(piece, Piece::Host | Piece::Authority);
        self.0.iter().any(is_host)
    }
}

/// What divides a query may stand in a path, and is a part of one value here.
fn push_into_query(filled: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => filled.push_str("%26"),
            '=' => filled.push_str("%3D"),
            '+' => filled.push_str("%2B"),
            ';' => filled.push_str("%3B"),
            other => filled.push(other),
        }
    }
}

/// A path: `/v2/{id}`, `/tenants{path}`. What comes of it is in its normal form when what it is filled with is: a
/// capture is neither empty nor a dot segment, so that no text around one makes it one, and what stands behind a path
/// begins a new segment.
pub(super) fn path_template(item: &Item<'_>, pattern: &PathPattern) -> Option<Template> {
    let template = parse(item, pattern, &["path", "rest"])?;
    let mut bare = String::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => bare.push_str(text),
            Piece::Path => bare.push_str("/x"),
            Piece::Capture(at) if *at == pattern.placeholders.len() => bare.push_str("/x"),
            _ => bare.push('x'),
        }
    }
    check_joints(item, pattern, &template)?;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"*?#\\\"<>^`{|}".contains(&byte);
    if !bare.starts_with('/') || !bare.bytes().all(legal) {
        return item.reject(
            format!("{} is no path", item.shown()),
            "write it as it is sent: starting with `/`, percent-encoded; the request's query stays as it is",
        );
    }
    match path::normal(&bare) {
        Ok(normal) if normal == bare && !path::has_other_readings(&bare) => Some(template),
        _ => item.reject(
            format!("servers differ in how they read {}", item.shown()),
            "leave out dot segments, `//`, `;`, %2F, %5C, %3B, %25 and needless escapes",
        ),
    }
}

/// A URL, or a path on the same host: `https://{host}{path}`, `/new{rest}`. No request decides on another host: what
/// stands for one is the host that the client used, or text.
pub(super) fn url_template(item: &Item<'_>, pattern: &PathPattern) -> Option<Template> {
    const HELP: &str = "write a URL or a path, such as \"https://{host}{path}\", \"https://example.com/new\" or \"/new{rest}\"";
    let template = parse(item, pattern, &RESERVED)?;
    let text = item.text("a URL")?;
    let target = ["http://", "https://", "{scheme}://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match target {
        Some(rest) => {
            let path = rest.find('/').unwrap_or(rest.len());
            let path = rest.find("{path}").map_or(path, |at| at.min(path));
            let path = rest.find("{rest}").map_or(path, |at| at.min(path));
            let authority = rest[..path].split('?').next().unwrap_or_default();
            let bare = authority.replace("{host}", "h").replace("{authority}", "h");
            if !witgate_runtime::is_authority(&bare) {
                return item.reject(
                    format!("{} leads to no host", item.shown()),
                    "the host is text, `{host}` or `{authority}`; no other placeholder may be a part of it",
                );
            }
        }
        None if ["/", "{path}", "{rest}"]
            .iter()
            .any(|start| text.starts_with(start)) => {}
        None => return item.reject(format!("{} is no URL", item.shown()), HELP),
    }
    check_joints(item, pattern, &template)?;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte);
    let is_legal = |piece: &Piece| match piece {
        Piece::Text(text) => text.bytes().all(legal),
        _ => true,
    };
    match template.0.iter().all(is_legal) {
        true => Some(template),
        false => item.reject(format!("{} is no URL", item.shown()), HELP),
    }
}

/// Neither two slashes before a path, nor text that goes on in its last segment.
fn check_joints(item: &Item<'_>, pattern: &PathPattern, template: &Template) -> Option<()> {
    let is_path = |piece: &Piece| {
        matches!(piece, Piece::Path)
            || matches!(piece, Piece::Capture(at) if *at == pattern.placeholders.len())
    };
    for (at, _) in template
        .0
        .iter()
        .enumerate()
        .filter(|(_, piece)| is_path(piece))
    {
        let before = at.checked_sub(1).map(|before| &template.0[before]);
        let doubled = matches!(before, Some(Piece::Text(text)) if text.ends_with('/'));
        let joined = match template.0.get(at + 1) {
            None => false,
            Some(Piece::Text(text)) => !text.starts_with(['/', '?', '#']),
            Some(_) => true,
        };
        if doubled || joined {
            return item.reject(
                format!("a path in {} does not stand between two segments", item.shown()),
                "`{path}` and `{rest}` begin with a `/` of their own, and only a new segment can follow: \"/a{rest}/b\"",
            );
        }
    }
    Some(())
}

fn parse(item: &Item<'_>, pattern: &PathPattern, words: &[&str]) -> Option<Template> {
    let text = item.text("a text, such as \"/v2/{id}\"")?;
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        let Some((name, behind)) = behind.split_once('}') else {
            return item.reject(
                format!("a placeholder of {} has no end", item.shown()),
                "close it with `}`",
            );
        };
        let mut names = pattern.placeholders.iter().map(|(name, _)| &**name);
        pieces.push(match (name, names.position(|other| other == name)) {
            (_, Some(at)) => Piece::Capture(at),
            ("rest", _) if pattern.open => Piece::Capture(pattern.placeholders.len()),
            (name, None) if name != "rest" && words.contains(&name) => match name {
                "scheme" => Piece::Scheme,
                "host" => Piece::Host,
                "authority" => Piece::Authority,
                _ => Piece::Path,
            },
            _ => return unknown(item, pattern, words, name),
        });
        rest = behind;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Some(Template(pieces))
}

fn unknown<T>(item: &Item<'_>, pattern: &PathPattern, words: &[&str], name: &str) -> Option<T> {
    let words = words.iter().copied();
    let words = words.filter(|word| *word != "rest" || pattern.open);
    let known = words.chain(pattern.placeholders.iter().map(|(name, _)| &**name));
    let problem = item.problem(format!("nothing stands for `{{{name}}}` here"));
    let note = format!("known here: {}", enumerate(known));
    item.reader().report(match name {
        "rest" => problem.with_help(
            "`{rest}` is what stands for `/*`, with which the route's `path` does not end",
        ),
        _ => problem.with_help(note),
    });
    None
}
