//! Which pages a client may open by their address.

use serde::Deserialize;
use witgate_plugin::ConfigSchema;

/// `urls` of a rule.
#[derive(Deserialize, ConfigSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Urls {
    /// Those that a page may open too: not the browser's own, whose scripts do what commands do, and no files.
    #[default]
    Web,
    /// All.
    Any,
}

impl Urls {
    /// Whether `url` may be opened.
    pub(crate) fn allow(self, url: &str) -> bool {
        self == Self::Any || is_web(url)
    }
}

/// A list of what may be opened, and not of what may not: Chromium has more schemes of its own with each year, and reads
/// `about:settings` as one of them.
fn is_web(url: &str) -> bool {
    // As the URL standard has it, and Chromium after it.
    let url: String = url
        .trim_matches(|c: char| c <= ' ')
        .chars()
        .filter(|c| !matches!(c, '\t' | '\r' | '\n'))
        .collect();
    let mut rest = url.as_str();
    loop {
        let Some((scheme, path)) = rest.split_once(':') else {
            // Chromium opens `about:blank` in its place.
            return url.is_empty();
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" | "data" => return true,
            "about" => return matches!(path.split(['?', '#']).next(), Some("blank" | "srcdoc")),
            // Of a page without an origin: `blob:null/…`.
            "blob" if path.starts_with("null/") => return true,
            "blob" | "view-source" => rest = path.trim_start_matches(|c: char| c <= ' '),
            _ => return false,
        }
    }
}
