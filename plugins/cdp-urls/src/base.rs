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
    /// Empty, or `name=value` pairs that the URLs are to have in their query. Only characters that a URL's query has
    /// (RFC 3986 §3.4).
    pub(crate) query: String,
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
            query: String::new(),
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
            query: String::new(),
        })
    }
}

/// The parameters of these names in the query of what the client sent, as they came.
pub(crate) fn carried(names: &[String], client: &str) -> String {
    let (_, query) = client.split_once('?').unwrap_or_default();
    let pairs = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        names.iter().any(|wanted| wanted == name)
    });
    pairs.map(legal).collect::<Vec<_>>().join("&")
}

/// What the route took off the client's path. Nothing, if what is left is not what the client sent: then a plugin has
/// made another path of it. What plugins made of the query does not matter.
fn prefix(client: &str, upstream: &str) -> String {
    let [client, upstream] = [client, upstream].map(|target| match target.split_once('?') {
        Some((path, _query)) => path,
        None => target,
    });
    let prefix = client.strip_suffix(upstream).unwrap_or_default();
    legal(prefix.trim_end_matches('/'))
}

/// With everything percent-encoded that has no place in a URL.
fn legal(text: &str) -> String {
    let mut legal = String::with_capacity(text.len());
    for byte in text.bytes() {
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
                query: String::new(),
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
    fn a_query_that_a_plugin_changed_does_not_hide_the_prefix() {
        assert_eq!(prefix("/a/json/list?token=x", "/json/list"), "/a");
        assert_eq!(
            prefix("/a/json/list?token=x&for_tab", "/json/list?for_tab"),
            "/a"
        );
    }

    #[test]
    fn only_the_named_parameters_are_carried_and_none_ends_the_string() {
        let names = ["token".to_owned(), "team".to_owned()];
        for (client, expected) in [
            ("/json", ""),
            ("/json?", ""),
            ("/json?for_tab&tokens=a&x=token", ""),
            ("/json?token=a%2B/b==&for_tab", "token=a%2B/b=="),
            ("/json?team=x&for_tab&token=y", "team=x&token=y"),
            ("/json?token", "token"),
            ("/json?token=a\"},{\"b", "token=a%22%7D,%7B%22b"),
            ("/json?token=a?b", "token=a%3Fb"),
            ("/token=a", ""),
        ] {
            assert_eq!(carried(&names, client), expected, "{client}");
        }
    }

    #[test]
    fn a_prefix_cannot_end_the_string_it_is_put_into() {
        assert_eq!(prefix("/a\"},{\"b%20/json", "/json"), "/a%22%7D,%7B%22b%20");
    }
}
