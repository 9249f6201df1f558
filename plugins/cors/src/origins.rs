//! Origins as they are listed, and the one that a browser sent.

use witgate_plugin::{ConfigErrors, is_authority};

/// Whose pages may.
pub(crate) struct Origins {
    any: bool,
    /// As browsers write them: lower case, without the scheme's own port.
    exact: Vec<String>,
    /// `https://` and `.example.com:8443`.
    below: Vec<(String, String)>,
}

const RULE: &str = "must be a scheme, a host and an optional port without anything behind, like \
                    `https://app.example.com` or `https://*.example.com`; `null`; or `*` alone";

impl Origins {
    /// Mistakes go to `errors`, each at its place in `origins`.
    pub(crate) fn new(list: &[String], errors: &mut ConfigErrors) -> Self {
        let mut origins = Self {
            any: false,
            exact: Vec::new(),
            below: Vec::new(),
        };
        if list.is_empty() {
            errors.push(
                "origins",
                "is empty, so that no page could use this; list an origin, or `*`",
            );
        }
        for (at, text) in list.iter().enumerate() {
            if text == "*" && list.len() > 1 {
                errors.push(
                    format!("origins.{at}"),
                    "`*` is all origins; leave the others out",
                );
            } else if !origins.add(text) {
                errors.push(format!("origins.{at}"), RULE);
            }
        }
        origins
    }

    fn add(&mut self, text: &str) -> bool {
        if text == "*" {
            self.any = true;
            return true;
        }
        if text == "null" {
            self.exact.push(text.to_owned());
            return true;
        }
        let text = text.to_ascii_lowercase();
        let Some((scheme, authority)) = text.split_once("://") else {
            return false;
        };
        let own = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(legal);
        let (below, authority) = match authority.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, authority),
        };
        if !is_scheme || !is_authority(authority) {
            return false;
        }
        let authority = match own {
            "" => authority,
            own => authority.strip_suffix(own).unwrap_or(authority),
        };
        match below {
            true => self
                .below
                .push((format!("{scheme}://"), format!(".{authority}"))),
            false => self.exact.push(format!("{scheme}://{authority}")),
        }
        true
    }

    pub(crate) fn is_any(&self) -> bool {
        self.any
    }

    /// Whether pages of the origin that a browser sent may. A browser writes an origin in one way only, so that anything
    /// else is none of it.
    pub(crate) fn allow(&self, origin: &str) -> bool {
        self.any
            || self.exact.iter().any(|listed| listed == origin)
            || self.below.iter().any(|(scheme, suffix)| {
                origin
                    .strip_prefix(scheme.as_str())
                    .and_then(|host| host.strip_suffix(suffix.as_str()))
                    .is_some_and(is_name)
            })
    }
}

/// One or several labels of a host name.
fn is_name(text: &str) -> bool {
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(legal)
}
