//! Origins as they are listed, and the one that a browser sent (RFC 6454 §6.2).

use witgate_plugin::ConfigErrors;

use crate::host;

/// The origins whose pages may make requests, serialized: lower case, without the scheme's own port.
pub(crate) struct Origins(Vec<String>);

impl Origins {
    /// Mistakes go to `errors`, each at its place in `origins`.
    pub(crate) fn new(list: &[String], errors: &mut ConfigErrors) -> Self {
        let mut origins = Vec::new();
        for (i, text) in list.iter().enumerate() {
            match serialized(text) {
                Some(origin) => origins.push(origin),
                None => errors.push(
                    format!("origins.{i}"),
                    "must be a scheme, a host and an optional port without anything behind, like \
                     `https://app.example.com`, or `null`",
                ),
            }
        }
        Self(origins)
    }

    /// Whether a request with this value of `Origin` may pass.
    pub(crate) fn allow(&self, origin: &[u8]) -> bool {
        let origin = str::from_utf8(origin).ok().and_then(serialized);
        origin.is_some_and(|origin| self.0.contains(&origin))
    }
}

/// `scheme://host[:port]` in its one spelling, or `null`; `None` if it is neither.
fn serialized(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let (scheme, authority) = text.split_once("://")?;
    let mut letters = scheme.bytes();
    let legal = letters
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = host::split(authority).filter(|_| legal)?;
    let scheme = scheme.to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let own = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Some(match port.filter(|_| port != own) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str]) -> Origins {
        let mut errors = ConfigErrors::default();
        let list: Vec<String> = list.iter().map(|&origin| origin.to_owned()).collect();
        let origins = Origins::new(&list, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        origins
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origins = origins(&[
            "https://App.example.com:443",
            "http://localhost:3000",
            "chrome-extension://abcdefgh",
            "http://[::1]",
        ]);
        for allowed in [
            "https://app.example.com",
            "https://app.example.com:443",
            "http://localhost:3000",
            "chrome-extension://abcdefgh",
            "http://[::1]:80",
        ] {
            assert!(origins.allow(allowed.as_bytes()), "{allowed}");
        }
        for refused in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil.example",
            "https://app.example.com/",
            "https://app.example.com https://evil.example",
            "https://user@app.example.com",
            "http://localhost",
            "http://localhost:30000",
            "null",
            "",
            "app.example.com",
            "://",
        ] {
            assert!(!origins.allow(refused.as_bytes()), "{refused}");
        }
        assert!(!origins.allow(b"https://app.example.com\xff"));
    }

    #[test]
    fn null_is_an_origin_only_if_it_is_listed() {
        assert!(origins(&["null"]).allow(b"null"));
        assert!(!origins(&[]).allow(b"null"));
        assert!(!origins(&["null"]).allow(b"Null"));
    }

    #[test]
    fn what_is_no_origin_is_refused_at_its_place() {
        let list = [
            "https://a",
            "",
            "*",
            "a",
            "https://a/",
            "https://*.a",
            "https://",
            "1x://a",
            "NULL",
        ];
        let mut errors = ConfigErrors::default();
        Origins::new(&list.map(str::to_owned), &mut errors);
        let paths: Vec<&str> = errors.iter().map(|(path, _)| path).collect();
        let expected: Vec<String> = (1..list.len()).map(|i| format!("origins.{i}")).collect();
        assert_eq!(paths, expected);
    }
}
