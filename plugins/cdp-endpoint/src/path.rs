//! The paths of Chromium's DevTools that are about the browser as a whole.

/// What stands before a browser's id.
const BROWSER: &str = "/devtools/browser";

/// Longest id that is taken for one; Chromium's are UUIDs of 36 characters.
const MAX_ID: usize = 64;

/// Whether it asks for the browser, whichever it is.
pub(crate) fn is_endpoint(path: &str) -> bool {
    matches!(path.strip_suffix('/').unwrap_or(path), "" | BROWSER)
}

/// Whether it is the path of one browser: `/devtools/browser/ID`, with or without a slash behind.
pub(crate) fn is_of_a_browser(path: &str) -> bool {
    let id = path
        .strip_prefix(BROWSER)
        .and_then(|rest| rest.strip_prefix('/'));
    id.is_some_and(|id| is_id(id.strip_suffix('/').unwrap_or(id)))
}

/// The path in a WebSocket URL of Chromium's, if it is that of a browser.
pub(crate) fn in_url(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let path = &rest[rest.find('/')?..];
    let is_whole = path
        .strip_prefix(BROWSER)?
        .strip_prefix('/')
        .is_some_and(is_id);
    is_whole.then_some(path)
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
