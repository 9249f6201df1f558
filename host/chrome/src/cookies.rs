//! All cookies of the browser, in Playwright's form, less those that Playwright would refuse.

use chromiumoxide::cdp::browser_protocol::storage::GetCookiesParams;
use serde::Deserialize;
use tracing::warn;

use crate::cdp::{CdpError, Client};
use crate::storage_state::{Cookie, LATEST_EXPIRY, SESSION, SameSite};

/// The cookies that a storage state can hold, and how many it cannot.
pub(crate) struct Cookies {
    pub(crate) cookies: Vec<Cookie>,
    pub(crate) left_out: usize,
}

/// Chromium's cookie, as far as a storage state needs it. An own type, because the typed one turns the whole answer
/// down when a newer Chromium adds a value to one of its enumerations.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BrowserCookie {
    name: String,
    value: String,
    domain: String,
    path: String,
    expires: f64,
    http_only: bool,
    secure: bool,
    same_site: Option<String>,
    partition_key: Option<PartitionKey>,
    #[serde(default)]
    partition_key_opaque: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartitionKey {
    top_level_site: String,
    has_cross_site_ancestor: bool,
}

/// Asks the browser for its cookies, of every site at once.
pub(crate) async fn all(client: &mut Client) -> Result<Cookies, CdpError> {
    #[derive(Deserialize)]
    struct Answer {
        cookies: Vec<BrowserCookie>,
    }
    let answer: Answer = client.call_as(None, GetCookiesParams::default()).await?;
    let total = answer.cookies.len();
    let cookies: Vec<Cookie> = answer.cookies.into_iter().filter_map(convert).collect();
    Ok(Cookies {
        left_out: total - cookies.len(),
        cookies,
    })
}

/// One bad cookie would make Playwright refuse the whole file, so it is left out, and said so.
fn convert(cookie: BrowserCookie) -> Option<Cookie> {
    let leave_out =
        |name: &str, domain: &str, reason: &str| warn!(name, domain, reason, "cookie left out");
    if cookie.partition_key_opaque {
        // Without its partition key it would come back as an ordinary cookie that is sent everywhere.
        leave_out(
            &cookie.name,
            &cookie.domain,
            "its partition cannot be restored",
        );
        return None;
    }
    let (partition_key, has_cross_site_ancestor) = match cookie.partition_key {
        Some(key) => (Some(key.top_level_site), Some(key.has_cross_site_ancestor)),
        None => (None, None),
    };
    let cookie = Cookie {
        name: cookie.name,
        value: cookie.value,
        domain: cookie.domain,
        path: cookie.path,
        expires: if cookie.expires < 0.0 {
            SESSION
        } else {
            cookie.expires.min(LATEST_EXPIRY)
        },
        http_only: cookie.http_only,
        secure: cookie.secure,
        same_site: match cookie.same_site.as_deref() {
            Some("Strict") => SameSite::Strict,
            Some("None") => SameSite::None,
            _ => SameSite::Lax,
        },
        partition_key,
        has_cross_site_ancestor,
        url: None,
    };
    match cookie.check() {
        Ok(()) => Some(cookie),
        Err(refusal) => {
            leave_out(&cookie.name, &cookie.domain, &refusal.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn converted(changes: Value) -> Option<Cookie> {
        let mut cookie = json!({
            "name": "n", "value": "v", "domain": "a.example", "path": "/", "expires": -1, "size": 2,
            "httpOnly": false, "secure": true, "session": true, "priority": "Invented", "sourceScheme": "Secure",
        });
        for (key, value) in changes.as_object().unwrap() {
            cookie[key] = value.clone();
        }
        convert(serde_json::from_value(cookie).unwrap())
    }

    #[test]
    fn a_partition_key_is_kept_in_both_halves() {
        let key = json!({"topLevelSite": "https://top.example", "hasCrossSiteAncestor": true});
        let cookie = converted(json!({"partitionKey": key, "sameSite": "None"})).unwrap();
        assert_eq!(cookie.partition_key.as_deref(), Some("https://top.example"));
        assert_eq!(cookie.has_cross_site_ancestor, Some(true));
        assert_eq!(cookie.same_site, SameSite::None);
    }

    #[test]
    fn a_cookie_without_same_site_is_lax_and_a_session_cookie_expires_at_minus_one() {
        let cookie = converted(json!({"expires": -2.0})).unwrap();
        assert_eq!((cookie.same_site, cookie.expires), (SameSite::Lax, SESSION));
    }

    #[test]
    fn an_expiry_beyond_what_playwright_accepts_is_cut() {
        assert_eq!(
            converted(json!({"expires": 1e15})).unwrap().expires,
            LATEST_EXPIRY
        );
    }

    #[test]
    fn cookies_that_playwright_would_refuse_are_left_out() {
        assert_eq!(
            converted(json!({"name": "__Host-n", "domain": ".a.example"})),
            None
        );
        assert_eq!(converted(json!({"domain": ""})), None);
        assert_eq!(converted(json!({"partitionKeyOpaque": true})), None);
    }
}
