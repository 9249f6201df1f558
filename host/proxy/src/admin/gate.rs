//! Who may see what, and who may do something.
//!
//! What names routes, upstreams and what is wrong with them is for the bearer of `admin.token`. Without a token it is for
//! those who reach a loopback address, and nobody else. The token is that of the generation that serves.
//!
//! A browser on the same machine reaches the loopback as well, with any page in it. So there, without a token:
//!
//! - `Host` has to be an address or `localhost`. A page whose name was made to lead to this machine (DNS rebinding) says
//!   its own.
//! - What changes something needs the field `x-witgate-admin`, which a page of another origin may send only if this
//!   listener allowed it, and it never does (CORS).

use std::net::IpAddr;

use http::{HeaderMap, Request, StatusCode, header};
use subtle::ConstantTimeEq;

use super::Shown;
use super::api::Answer;

/// The field that tells an operator's tool from a page.
const OWN_FIELD: &str = "x-witgate-admin";

/// What one who asks may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// All, having shown the token.
    Bearer,
    /// All, being on this machine.
    Local,
    /// There is a token, and it was not shown.
    NeedsToken,
    /// There is no token that could be shown, and the address is not the loopback.
    Never,
    /// A page of somebody else's seems to ask.
    Foreign,
}

impl Access {
    pub(super) fn is_granted(self) -> bool {
        matches!(self, Self::Bearer | Self::Local)
    }
}

impl Shown {
    pub(super) fn access<B>(&self, request: &Request<B>) -> Access {
        let generation = self.generations.borrow();
        let admin = generation.config().admin.as_ref();
        match admin.and_then(|admin| admin.token.as_ref()) {
            Some(token) => {
                let given = bearer(request.headers()).unwrap_or_default();
                match bool::from(given.ct_eq(token.reveal().as_bytes())) {
                    true => Access::Bearer,
                    false => Access::NeedsToken,
                }
            }
            // A generation without `[admin]`, whose listener is to go with the next start, says nothing of a token.
            None if self.is_loopback && admin.is_some() => match is_local(request.headers()) {
                true => Access::Local,
                false => Access::Foreign,
            },
            None => Access::Never,
        }
    }

    /// Lets those pass who may see everything, and who may change something when `changes`.
    pub(super) fn admit<B>(&self, request: &Request<B>, changes: bool) -> Result<(), Answer> {
        let refuse = |status, why: &str| Err(Answer::error(status, why));
        match self.access(request) {
            Access::Bearer => Ok(()),
            Access::Local if changes && !request.headers().contains_key(OWN_FIELD) => refuse(
                StatusCode::FORBIDDEN,
                "to change something, send the header `x-witgate-admin: 1`, which no page of another site can",
            ),
            Access::Local => Ok(()),
            Access::NeedsToken => Err(Answer::needs_token()),
            Access::Never => refuse(
                StatusCode::FORBIDDEN,
                "this is shown on a loopback address, or to the bearer of `admin.token`, which is not set",
            ),
            Access::Foreign => refuse(
                StatusCode::FORBIDDEN,
                "ask for it by an address or by `localhost`, and not from a page of another site; or set `admin.token`",
            ),
        }
    }
}

/// Whether nothing says that a page of another site asks.
fn is_local(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host");
    let same_site =
        text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let same_origin = text("origin").is_none_or(|origin| {
        let (_, authority) = origin.split_once("://").unwrap_or_default();
        host == Some(authority)
    });
    // HTTP/1.0 without the field: no browser.
    host.is_none_or(names_this_machine) && same_site && same_origin
}

/// An address cannot be made to lead elsewhere, and neither can `localhost`.
fn names_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// The credentials of `Authorization: Bearer …` (RFC 6750 §2.1), when there is exactly one such field.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (field, None) = (fields.next()?.as_bytes(), fields.next()) else {
        return None;
    };
    let (scheme, credentials) = field.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| credentials.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(fields: &[(&'static str, &'static str)]) -> bool {
        let fields = fields.iter().map(|(name, value)| {
            let value = http::HeaderValue::from_static(value);
            (http::HeaderName::from_static(name), value)
        });
        is_local(&fields.collect())
    }

    #[test]
    fn a_name_that_could_lead_anywhere_is_foreign() {
        for host in [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1:9901",
            "[::1]:9901",
            "10.0.0.1",
        ] {
            assert!(local(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9901",
            "",
            "[::1",
            "127.0.0.1.evil",
        ] {
            assert!(!local(&[("host", host)]), "{host}");
        }
        assert!(local(&[]));
    }

    #[test]
    fn a_page_of_another_site_is_foreign() {
        let host = ("host", "127.0.0.1:9901");
        assert!(local(&[host, ("origin", "http://127.0.0.1:9901")]));
        assert!(local(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!local(&[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(!local(&[host, ("origin", "null")]));
        assert!(!local(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!local(&[host, ("sec-fetch-site", "same-site")]));
    }
}
