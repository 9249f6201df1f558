//! Where the client reaches the browser.

use witgate_plugin::{Exchange, Request, is_authority};

/// Scheme, authority and path prefix of the URLs that the client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// `ws` or `wss`.
    pub(crate) scheme: &'static str,
    /// Host and optional port.
    pub(crate) authority: String,
    /// Empty, or `/` and more, without a `/` at its end. Only characters that a URL's path has (RFC 3986 §3.3).
    pub(crate) prefix: String,
}

impl Base {
    /// From the configuration. `None` unless it is `ws` or `wss`, an authority, and perhaps a path.
    pub(crate) fn public(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.split_once("://")? {
            ("ws", rest) => ("ws", rest),
            ("wss", rest) => ("wss", rest),
            _ => return None,
        };
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let prefix = prefix.trim_end_matches('/');
        let legal =
            is_authority(authority) && prefix.bytes().all(|byte| is_path(byte) || byte == b'%');
        legal.then(|| Self {
            scheme,
            authority: authority.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// What this client used. `None` if it did not say (HTTP/1.0 without `Host`).
    pub(crate) fn of_client(exchange: &Exchange, request: &Request) -> Option<Self> {
        let authority = exchange.client_authority();
        if authority.is_empty() {
            return None;
        }
        let scheme = if exchange.client_scheme() == "https" {
            "wss"
        } else {
            "ws"
        };
        let prefix = prefix(
            &exchange.client_path_with_query(),
            &request.path_with_query(),
        );
        Some(Self {
            scheme,
            authority,
            prefix,
        })
    }
}

/// What the route took off the client's path. Nothing, if what is left is not what the client sent: then a plugin has
/// made another path of it.
fn prefix(client: &str, upstream: &str) -> String {
    let prefix = client.strip_suffix(upstream).unwrap_or_default();
    let mut legal = String::with_capacity(prefix.len());
    for byte in prefix.trim_end_matches('/').bytes() {
        if is_path(byte) || byte == b'%' {
            legal.push(char::from(byte));
        } else {
            legal.push_str(&format!("%{byte:02X}"));
        }
    }
    legal
}

/// A character of a path that stands for itself (RFC 3986 §3.3).
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_websocket_url_without_query() {
        let base = |scheme, authority: &str, prefix: &str| {
            Some(Base {
                scheme,
                authority: authority.to_owned(),
                prefix: prefix.to_owned(),
            })
        };
        assert_eq!(
            Base::public("wss://cdp.example.com"),
            base("wss", "cdp.example.com", "")
        );
        assert_eq!(
            Base::public("wss://cdp.example.com/"),
            base("wss", "cdp.example.com", "")
        );
        assert_eq!(
            Base::public("ws://[::1]:9222/a/b%20/"),
            base("ws", "[::1]:9222", "/a/b%20")
        );
        for bad in [
            "",
            "cdp.example.com",
            "http://a",
            "wss://",
            "wss:///a",
            "wss://a?b",
            "wss://a/b?c",
            "wss://u@a",
            "wss://a/\"",
            "wss://a b",
        ] {
            assert_eq!(Base::public(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_prefix_is_what_the_route_took_off() {
        assert_eq!(prefix("/chrome/json/version", "/json/version"), "/chrome");
        assert_eq!(
            prefix("/a/b/json/list?for_tab", "/json/list?for_tab"),
            "/a/b"
        );
        assert_eq!(prefix("/json/version", "/json/version"), "");
        assert_eq!(prefix("/browser", "/json/version"), "");
        assert_eq!(prefix("//json/version", "/json/version"), "");
    }

    #[test]
    fn a_prefix_cannot_end_the_string_it_is_put_into() {
        assert_eq!(prefix("/a\"},{\"b%20/json", "/json"), "/a%22%7D,%7B%22b%20");
    }
}
