//! What Playwright, or Chromium behind it, refuses in a storage state.
//!
//! One bad item makes `browser.newContext({ storageState })` fail as a whole, so the same checks serve twice: a
//! harvest leaves out what would be refused, and [`StorageState::parse`] turns down a file that would be.
//!
//! [`StorageState::parse`]: crate::StorageState::parse

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::opfs::OpfsEntry;
use crate::storage_state::{Cookie, LATEST_EXPIRY, OriginStorage, SESSION};

/// Chromium's limit on name and value together, in bytes.
const MAX_NAME_AND_VALUE: usize = 4096;

/// Chromium's limit on each attribute (domain, path), in bytes.
const MAX_ATTRIBUTE: usize = 1024;

/// Why Playwright, or Chromium behind it, refuses an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither `url` nor both `domain` and `path`.
    #[error("needs a domain and a path that starts with /")]
    Place,
    /// `expires` is negative and not -1, or after the year 9999, or no number.
    #[error("expires must be -1 or seconds since 1970, up to the year 9999")]
    Expires,
    /// A control character or `;` in name, value or path, `=` in the name (or in the value of a nameless cookie), or
    /// blanks at an end.
    #[error("the name, value or path has a character that no cookie may have")]
    Characters,
    /// A domain that is no host.
    #[error("the domain is no host")]
    Domain,
    /// Both name and value are empty.
    #[error("name and value are both empty")]
    Empty,
    /// Over 4096 bytes of name and value, or 1024 of domain or path.
    #[error("larger than a browser accepts")]
    TooLarge,
    /// `__Host-`, `__Secure-`, `__Http-` or `__Host-Http-` without what it promises.
    #[error("the name's prefix promises attributes that the cookie does not have")]
    Prefix,
    /// Partitioned without `secure`, or by something that is no site.
    #[error("a partitioned cookie must be secure and its key an http or https site")]
    Partition,
    /// Another scheme than http and https, or no bare origin.
    #[error("the origin must be http://host or https://host, with an optional port")]
    Origin,
    /// The Chrome Web Store, whose pages only Chrome itself may make: a Chromium that is given one ends at once.
    #[error("a browser without the Chrome Web Store crashes on its origins")]
    WebStore,
    /// A database of IndexedDB without version, or with records or indexes that lack a key.
    #[error("the database cannot be made: version, keys and key paths do not fit each other")]
    Database,
    /// A file of the private file system without path or content.
    #[error("each file needs a path and its content in base64, a directory a path alone")]
    File,
    /// Files in an origin that has no private file system.
    #[error("only https and local origins have a private file system")]
    Files,
}

impl Cookie {
    /// Whether Playwright and Chromium would take this cookie.
    ///
    /// # Errors
    /// The first [`Refusal`] found.
    pub fn check(&self) -> Result<(), Refusal> {
        self.check_place()?;
        let in_range = self.expires >= 0.0 && self.expires <= LATEST_EXPIRY;
        ensure(in_range || self.expires == SESSION, Refusal::Expires)?;
        ensure(
            !self.name.is_empty() || !self.value.is_empty(),
            Refusal::Empty,
        )?;
        ensure(
            is_cookie_text(&self.name) && !self.name.contains('='),
            Refusal::Characters,
        )?;
        ensure(
            is_cookie_text(&self.value) && !(self.name.is_empty() && self.value.contains('=')),
            Refusal::Characters,
        )?;
        ensure(
            !self.path.contains(forbidden_in_cookies),
            Refusal::Characters,
        )?;
        ensure(
            self.url.is_some() || is_domain(&self.domain),
            Refusal::Domain,
        )?;
        ensure(
            self.name.len() + self.value.len() <= MAX_NAME_AND_VALUE,
            Refusal::TooLarge,
        )?;
        ensure(
            self.domain.len() <= MAX_ATTRIBUTE && self.path.len() <= MAX_ATTRIBUTE,
            Refusal::TooLarge,
        )?;
        ensure(self.keeps_its_prefix(), Refusal::Prefix)?;
        match &self.partition_key {
            Some(site) => ensure(self.secure && is_web_origin(site), Refusal::Partition),
            None => Ok(()),
        }
    }

    fn check_place(&self) -> Result<(), Refusal> {
        match &self.url {
            Some(_) => ensure(
                self.domain.is_empty() && self.path.is_empty(),
                Refusal::Place,
            ),
            None => ensure(
                !self.domain.is_empty() && self.path.starts_with('/'),
                Refusal::Place,
            ),
        }
    }

    /// RFC 6265bis, section 4.1.3. Browsers match the prefixes without regard to case, and a nameless cookie must not
    /// look as if it had one when it is sent.
    fn keeps_its_prefix(&self) -> bool {
        if self.name.is_empty() {
            let value = self.value.to_ascii_lowercase();
            return !["__host-", "__http-", "__secure-"]
                .iter()
                .any(|prefix| value.starts_with(prefix));
        }
        let name = self.name.to_ascii_lowercase();
        let host_only = self.secure
            && !self.domain.starts_with('.')
            && (self.path == "/" || self.url.is_some());
        if name.starts_with("__host-http-") {
            host_only && self.http_only
        } else if name.starts_with("__host-") {
            host_only
        } else if name.starts_with("__http-") {
            self.secure && self.http_only
        } else if name.starts_with("__secure-") {
            self.secure
        } else {
            true
        }
    }
}

impl OriginStorage {
    /// Whether Playwright could open a page of this origin and store there what is listed.
    ///
    /// # Errors
    /// The first [`Refusal`] found.
    pub fn check(&self) -> Result<(), Refusal> {
        let origin = self.origin.strip_suffix('/').unwrap_or(&self.origin);
        check_origin(origin)?;
        for database in &self.indexed_db {
            database.check()?;
        }
        ensure(
            self.opfs.is_empty() || is_secure_context(origin),
            Refusal::Files,
        )?;
        self.opfs.iter().try_for_each(OpfsEntry::check)
    }
}

/// Whether a page of this origin can be opened.
pub(crate) fn check_origin(origin: &str) -> Result<(), Refusal> {
    ensure(is_web_origin(origin), Refusal::Origin)?;
    let host = host_and_port(origin).map_or("", |(host, _port)| host);
    let web_store = ["chrome.google.com", "chromewebstore.google.com"]
        .iter()
        .any(|store| host.eq_ignore_ascii_case(store));
    ensure(!web_store, Refusal::WebStore)
}

/// Whether `origin` is `http://host[:port]` or `https://host[:port]` and nothing more.
pub(crate) fn is_web_origin(origin: &str) -> bool {
    host_and_port(origin).is_some_and(|(host, port)| {
        is_host(host) && port.is_none_or(|port| port.parse::<u16>().is_ok())
    })
}

/// The host and the port of an http or https origin, neither of them checked.
fn host_and_port(origin: &str) -> Option<(&str, Option<&str>)> {
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"))?;
    match authority.rsplit_once(':') {
        // A colon inside an IPv6 address.
        Some((_, end)) if end.ends_with(']') => Some((authority, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// The URL standard: an IPv6 address in brackets, an IPv4 address if the last label is a number, or a name without
/// the code points that no host may have.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return labels.parse::<Ipv4Addr>().is_ok();
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "/?#@\\^:<>[]|%\"".contains(c);
    !host.is_empty() && !host.contains(forbidden)
}

/// Whether pages of this origin may use what the web keeps for secure contexts, in any browser's default settings.
fn is_secure_context(origin: &str) -> bool {
    let host = host_and_port(origin).map_or("", |(host, _port)| host);
    let loopback = host
        .parse::<Ipv4Addr>()
        .is_ok_and(|address| address.is_loopback());
    origin.starts_with("https://")
        || host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || loopback
}

fn is_cookie_text(text: &str) -> bool {
    !text.starts_with(' ') && !text.ends_with(' ') && !text.contains(forbidden_in_cookies)
}

/// Tabs, too: a server can set a cookie with one, but nobody else can give it back to a browser.
fn forbidden_in_cookies(character: char) -> bool {
    character == ';' || character.is_ascii_control()
}

/// Whether Chromium makes a host of a cookie's domain. It is lenient about what it can repair.
fn is_domain(domain: &str) -> bool {
    let host = domain.strip_prefix('.').unwrap_or(domain);
    let four_numbers = host.split('.').count() == 4
        && host
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    !host.is_empty()
        && !host.starts_with('.')
        && !host.contains(['<', '>', '^', '|'])
        && (!four_numbers || host.parse::<Ipv4Addr>().is_ok())
}

fn ensure(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_state::SameSite;

    fn cookie(name: &str) -> Cookie {
        Cookie {
            name: name.into(),
            value: "v".into(),
            domain: "example.com".into(),
            path: "/".into(),
            expires: SESSION,
            http_only: true,
            secure: true,
            same_site: SameSite::Lax,
            partition_key: None,
            has_cross_site_ancestor: None,
            url: None,
        }
    }

    #[test]
    fn the_items_that_playwright_refuses_are_refused() {
        type Change = fn(&mut Cookie);
        let cases: [(Refusal, Change); 20] = [
            (Refusal::Prefix, |c| {
                (c.name, c.domain) = ("__Host-id".into(), ".example.com".into())
            }),
            (Refusal::Prefix, |c| {
                (c.name, c.path) = ("__Host-id".into(), "/a".into())
            }),
            (Refusal::Prefix, |c| {
                (c.name, c.secure) = ("__secure-id".into(), false)
            }),
            (Refusal::Prefix, |c| {
                (c.name, c.http_only) = ("__Http-id".into(), false)
            }),
            (Refusal::Expires, |c| c.expires = -2.0),
            (Refusal::Expires, |c| c.expires = LATEST_EXPIRY + 1.0),
            (Refusal::Expires, |c| c.expires = f64::NAN),
            (Refusal::Place, |c| c.domain.clear()),
            (Refusal::Place, |c| c.path = "a".into()),
            (Refusal::Empty, |c| {
                (c.name, c.value) = (String::new(), String::new())
            }),
            (Refusal::Characters, |c| c.value = "a\nb".into()),
            (Refusal::Characters, |c| c.name = "a=b".into()),
            (Refusal::Characters, |c| c.value = "a\tb".into()),
            (Refusal::Characters, |c| c.path = "/a;b".into()),
            (Refusal::Characters, |c| {
                (c.name, c.value) = (String::new(), "a=b".into())
            }),
            (Refusal::Prefix, |c| {
                (c.name, c.value) = (String::new(), "__Host-a".into())
            }),
            (Refusal::Domain, |c| c.domain = "..a.example".into()),
            (Refusal::TooLarge, |c| c.value = "x".repeat(4096)),
            (Refusal::Partition, |c| {
                (c.partition_key, c.secure) = (Some("https://top.example".into()), false)
            }),
            (Refusal::Partition, |c| {
                c.partition_key = Some("opaque".into())
            }),
        ];
        for (refusal, change) in cases {
            let mut bad = cookie("id");
            change(&mut bad);
            assert_eq!(bad.check(), Err(refusal), "{bad:?}");
        }
        assert_eq!(cookie("__Host-id").check(), Ok(()));
        assert_eq!(cookie("").check(), Ok(()));
    }

    #[test]
    fn origins_are_http_or_https_and_bare() {
        for good in [
            "http://a",
            "https://a.example:8443",
            "http://[::1]:80",
            "http://[2001:db8::1]",
            "http://127.0.0.1",
            "https://xn--mnchen-3ya.example",
            "http://under_score.example.",
        ] {
            assert!(is_web_origin(good), "{good}");
        }
        for bad in [
            "",
            "http://",
            "ftp://a",
            "http://a/b",
            "https://u@a",
            "file://",
            "null",
            "http://:80",
            "http://a b",
            "http://a:65536",
            "http://a:b",
            "http://[::1",
            "http://256.1.1.1",
            "http://a%00b",
            "http://a<b",
            "http://a|b",
            "chrome-extension://abc",
            "https://a.example/^0https://top.example",
        ] {
            assert!(!is_web_origin(bad), "{bad}");
        }
    }

    #[test]
    fn origins_that_crash_a_browser_are_refused() {
        for origin in [
            "https://chrome.google.com",
            "http://ChromeWebStore.google.com:8080",
        ] {
            assert_eq!(check_origin(origin), Err(Refusal::WebStore), "{origin}");
        }
        assert_eq!(check_origin("https://mail.google.com"), Ok(()));
    }

    #[test]
    fn files_are_for_secure_origins_alone() {
        let with_files = |origin: &str| OriginStorage {
            origin: origin.into(),
            opfs: vec![OpfsEntry {
                path: "a".into(),
                kind: crate::opfs::OpfsKind::Directory,
                base64: None,
            }],
            ..OriginStorage::default()
        };
        for origin in [
            "https://a.example",
            "http://a.localhost:80",
            "http://127.0.0.2",
            "http://[::1]:1",
        ] {
            assert_eq!(with_files(origin).check(), Ok(()), "{origin}");
        }
        for origin in ["http://a.example", "http://notlocalhost", "http://10.0.0.1"] {
            assert_eq!(with_files(origin).check(), Err(Refusal::Files), "{origin}");
        }
    }
}
