//! The web origins of URLs and cookies: what is asked for local storage besides the origins found on disk.

use std::collections::BTreeSet;

use crate::refusal::is_web_origin;
use crate::storage_state::Cookie;

/// The origins of the given URLs; other schemes than http and https have none that Playwright could restore.
///
/// Pages that are open now may have written within the last 5 s, which is not on disk yet.
pub(crate) fn of_urls<'a>(urls: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    urls.into_iter().filter_map(of_url).collect()
}

/// Guesses from cookies, for when no profile is at hand: `https://DOMAIN`, and `http://DOMAIN` for cookies that are
/// not confined to TLS. Misses other ports and hosts without cookies.
pub(crate) fn of_cookies(cookies: &[Cookie]) -> BTreeSet<String> {
    let guesses = cookies.iter().flat_map(|cookie| {
        let host = cookie.domain.trim_start_matches('.');
        let plain = (!cookie.secure).then(|| format!("http://{host}"));
        [Some(format!("https://{host}")), plain]
    });
    guesses
        .flatten()
        .filter(|origin| is_web_origin(origin))
        .collect()
}

/// Chromium's URLs are canonical already (lower case, default port left out), so cutting is enough.
fn of_url(url: &str) -> Option<String> {
    let url = url.strip_prefix("blob:").unwrap_or(url);
    let start = url.find("://")? + 3;
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |length| start + length);
    let origin = match url[start..end].rsplit_once('@') {
        Some((_user_info, authority)) => format!("{}{authority}", &url[..start]),
        None => url[..end].to_owned(),
    };
    is_web_origin(&origin).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_state::{SESSION, SameSite};

    #[test]
    fn urls_are_cut_down_to_web_origins() {
        let urls = [
            "https://a.example/path?q#f",
            "http://b.example:8080",
            "http://user:pass@c.example/",
            "blob:https://d.example/0a1b",
            "https://a.example/other",
            "about:blank",
            "chrome://newtab/",
            "chrome-extension://abc/page.html",
            "file:///etc/hostname",
            "data:text/html,http://no",
            "",
        ];
        let origins = Vec::from_iter(of_urls(urls));
        assert_eq!(
            origins,
            [
                "http://b.example:8080",
                "http://c.example",
                "https://a.example",
                "https://d.example"
            ]
        );
    }

    #[test]
    fn cookies_suggest_the_schemes_they_are_sent_on() {
        let cookie = |domain: &str, secure| Cookie {
            name: "n".into(),
            value: "v".into(),
            domain: domain.into(),
            path: "/".into(),
            expires: SESSION,
            http_only: false,
            secure,
            same_site: SameSite::Lax,
            partition_key: None,
            has_cross_site_ancestor: None,
            url: None,
        };
        let origins = Vec::from_iter(of_cookies(&[
            cookie(".a.example", true),
            cookie("b.example", false),
        ]));
        assert_eq!(
            origins,
            ["http://b.example", "https://a.example", "https://b.example"]
        );
    }
}
