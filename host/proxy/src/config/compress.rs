//! Reads `compress` of a route.

use super::shape::{list, size, table, word};
use super::{Item, Section};

/// `compress`: responses are compressed for clients that take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// `algorithms`: of those that a client takes equally well, the first one here. Default `["zstd", "br", "gzip"]`.
    pub algorithms: Vec<Algorithm>,
    /// `types`: what is worth it. Default: text, JSON, XML, JavaScript, WebAssembly, SVG and fonts that are not compressed.
    pub types: Vec<TypePattern>,
    /// `min-size`: shorter responses stay as they are, where their length is known. Default `1KiB`.
    pub min_size: u64,
    /// `level`: default `"fast"`.
    pub level: Level,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 8878
    Zstd,
    /// RFC 7932
    Brotli,
    /// RFC 1952
    Gzip,
}

impl Algorithm {
    /// As `Content-Encoding` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// How much time is spent on a smaller response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The least: zstd 1, brotli 1, gzip 1.
    Fast,
    /// What the tools do by themselves, or somewhat less: zstd 3, brotli 4, gzip 5.
    Balanced,
    /// Several times as much: zstd 7, brotli 6, gzip 7. What is stronger still is for files that are compressed once.
    Small,
}

/// `text/html`, `text/*` or `application/*+json`: what stands before the star and behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypePattern {
    start: Box<str>,
    /// `None` without a star.
    end: Option<Box<str>>,
}

impl TypePattern {
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once('*') {
            Some((start, end)) => Self {
                start: start.into(),
                end: Some(end.into()),
            },
            None => Self {
                start: text.into(),
                end: None,
            },
        }
    }

    /// `media_type` is without parameters and in lower case.
    pub(crate) fn admits(&self, media_type: &str) -> bool {
        match (media_type.strip_prefix(&*self.start), &self.end) {
            (Some(rest), Some(end)) => rest.len() > end.len() && rest.ends_with(&**end),
            (Some(rest), None) => rest.is_empty(),
            (None, _) => false,
        }
    }
}

const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("zstd", Algorithm::Zstd),
    ("br", Algorithm::Brotli),
    ("gzip", Algorithm::Gzip),
];

const LEVELS: [(&str, Level); 3] = [
    ("fast", Level::Fast),
    ("balanced", Level::Balanced),
    ("small", Level::Small),
];

const TYPES: [&str; 11] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/wasm",
    "application/x-ndjson",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];

pub(super) fn read(section: &mut Section<'_>) -> Option<Compress> {
    let all = ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec();
    let types = TYPES.map(TypePattern::parse).to_vec();
    Some(Compress {
        algorithms: section.default("algorithms", all, algorithms),
        types: section.default("types", types, list(type_pattern)),
        min_size: section.default("min-size", 1024, size),
        level: section.default("level", Level::Fast, word(&LEVELS)),
    })
}

fn algorithms(item: &Item<'_>) -> Option<Vec<Algorithm>> {
    let algorithms = list(word(&ALGORITHMS))(item)?;
    let listed = item.elements("a list of algorithms")?;
    if listed.is_empty() {
        return item.reject(
            "a list without an algorithm compresses nothing",
            "leave `compress` out, or name one of `zstd`, `br` and `gzip`",
        );
    }
    Some(algorithms)
}

fn type_pattern(item: &Item<'_>) -> Option<TypePattern> {
    let text = item.text("a media type, such as \"text/*\"")?;
    let legal = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$&-^_.+*".contains(&byte)
    };
    let is_type = text.split_once('/').is_some_and(|(kind, subtype)| {
        [kind, subtype]
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(legal))
            && !kind.contains('*')
            && subtype.matches('*').count() <= 1
    });
    if is_type {
        return Some(TypePattern::parse(text));
    }
    item.reject(
        format!("{} is no media type", item.shown()),
        "write one in lower case and without parameters: \"text/html\", \"text/*\", \"application/*+json\"",
    )
}

/// `compress = { … }`
pub(super) fn compress(item: &Item<'_>) -> Option<Compress> {
    table(read)(item)
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn read(text: &str) -> Result<Compress, String> {
        let document = Document::parse("a.toml", &format!("a = {text}")).expect("this is TOML");
        let reader = document.reader();
        let value = reader.root().required("a", "", |item| compress(item));
        reader
            .finish(value)
            .map(|(value, _)| value)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let default = read("{}").expect("nothing is required");
        assert_eq!(default.algorithms.len(), 3);
        assert_eq!((default.min_size, default.level), (1024, Level::Fast));
        let admits = |name: &str| default.types.iter().any(|pattern| pattern.admits(name));
        for name in [
            "text/html",
            "text/event-stream",
            "application/problem+json",
            "image/svg+xml",
        ] {
            assert!(admits(name), "{name}");
        }
        for name in [
            "image/png",
            "application/octet-stream",
            "text/",
            "application/+json",
            "",
        ] {
            assert!(!admits(name), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, message) in [
            ("{ algorithms = [] }", "compresses nothing"),
            (
                "{ algorithms = ['deflate'] }",
                "expected one of `zstd`, `br` and `gzip`",
            ),
            ("{ types = ['text'] }", "is no media type"),
            ("{ types = ['*/*'] }", "is no media type"),
            ("{ types = ['text/*a*'] }", "is no media type"),
            (
                "{ types = ['Text/HTML; charset=utf-8'] }",
                "is no media type",
            ),
            (
                "{ level = 11 }",
                "expected one of `fast`, `balanced` and `small`",
            ),
            ("{ min-size = 1024 }", "with its unit"),
        ] {
            let report = read(text).expect_err(text);
            assert!(report.contains(message), "{report}");
        }
    }
}
