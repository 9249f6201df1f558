//! What Playwright, or Chromium behind it, refuses in a storage state.
//!
//! One bad item makes `browser.newContext({ storageState })` fail as a whole, so the same checks serve twice: a
//! harvest leaves out what would be refused, and [`StorageState::parse`] turns down a file that would be.
//!
//! [`StorageState::parse`]: crate::StorageState::parse

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
    /// A control character, `;`, `=` in the name, or blanks at an end.
    #[error("the name or value has a character that no cookie may have")]
    Characters,
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
        ensure(is_cookie_text(&self.value), Refusal::Characters)?;
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

    /// RFC 6265bis, section 4.1.3. Browsers match the prefixes without regard to case.
    fn keeps_its_prefix(&self) -> bool {
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
    /// Whether Playwright could open a page of this origin.
    ///
    /// # Errors
    /// [`Refusal::Origin`].
    pub fn check(&self) -> Result<(), Refusal> {
        ensure(
            is_web_origin(self.origin.strip_suffix('/').unwrap_or(&self.origin)),
            Refusal::Origin,
        )
    }
}

/// Whether `origin` is `http://host[:port]` or `https://host[:port]` and nothing more.
pub(crate) fn is_web_origin(origin: &str) -> bool {
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    authority.is_some_and(|authority| {
        !authority.is_empty()
            && !authority.starts_with(':')
            && !authority
                .contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@\\^".contains(c))
    })
}

fn is_cookie_text(text: &str) -> bool {
    let blank = |c: char| c == ' ' || c == '\t';
    !text.starts_with(blank)
        && !text.ends_with(blank)
        && !text.contains(|c: char| c == ';' || (c.is_ascii_control() && c != '\t'))
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
        let cases: [(Refusal, Change); 15] = [
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
        for good in ["http://a", "https://a.example:8443", "http://[::1]:80"] {
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
        ] {
            assert!(!is_web_origin(bad), "{bad}");
        }
    }
}
