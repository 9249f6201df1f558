//! The two kinds of URL in the DevTools JSON.

use crate::base::Base;

/// `ws://HOST/devtools/browser/ID` at the client's base; `None` if it is no such URL.
pub(crate) fn web_socket(url: &str, base: &Base) -> Option<String> {
    let rest = url
        .strip_prefix("ws://")
        .or_else(|| url.strip_prefix("wss://"))?;
    let path = &rest[rest.find('/')?..];
    let query = match base.query.as_str() {
        "" => String::new(),
        query if path.contains('?') => format!("&{query}"),
        query => format!("?{query}"),
    };
    Some(format!(
        "{}://{}{}{path}{query}",
        base.scheme, base.authority, base.prefix
    ))
}

/// The front end's page with a `ws=HOST/devtools/page/ID` in its query: at another host (`https://…`), in the browser
/// (`devtools://…`), or below the browser's own endpoint (`/devtools/inspector.html?ws=…`), which the client then
/// reaches below its base. `None` if there is no such parameter.
///
/// A page at another host does not get the base's query, which may hold a token: that host would read it.
pub(crate) fn front_end(url: &str, base: &Base) -> Option<String> {
    let (url, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
    let (page, query) = url.split_once('?')?;
    // `//host/…` names a host.
    let is_below = page.starts_with('/') && !page.starts_with("//");
    let carried = if is_below || page.starts_with("devtools://") {
        base.query.as_str()
    } else {
        ""
    };
    let mut found = false;
    let parameters: Vec<String> = query
        .split('&')
        .map(
            |parameter| match web_socket_parameter(parameter, base, carried) {
                Some(parameter) => {
                    found = true;
                    parameter
                }
                None => parameter.to_owned(),
            },
        )
        .collect();
    let below = if is_below { base.prefix.as_str() } else { "" };
    found.then(|| format!("{below}{page}?{}{fragment}", parameters.join("&")))
}

fn web_socket_parameter(parameter: &str, base: &Base, carried: &str) -> Option<String> {
    let target = parameter
        .strip_prefix("ws=")
        .or_else(|| parameter.strip_prefix("wss="))?;
    let path = &target[target.find('/')?..];
    let carried = match carried {
        "" => String::new(),
        carried => in_query(&format!("?{carried}")),
    };
    Some(format!(
        "{}={}{}{path}{carried}",
        base.scheme,
        in_query(&base.authority),
        in_query(&base.prefix)
    ))
}

/// Whoever reads the query decodes it, so what has a meaning there is encoded (once more).
fn in_query(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => encoded.push_str("%26"),
            '+' => encoded.push_str("%2B"),
            '%' => encoded.push_str("%25"),
            '=' => encoded.push_str("%3D"),
            '?' => encoded.push_str("%3F"),
            other => encoded.push(other),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(scheme: &'static str, authority: &str, prefix: &str) -> Base {
        Base {
            scheme,
            authority: authority.to_owned(),
            prefix: prefix.to_owned(),
            query: String::new(),
        }
    }

    #[test]
    fn a_web_socket_url_keeps_its_path_and_nothing_else() {
        let base = base("wss", "box:9222", "/chrome");
        for (url, expected) in [
            (
                "ws://127.0.0.1:9223/devtools/browser/1f-2e",
                Some("wss://box:9222/chrome/devtools/browser/1f-2e"),
            ),
            (
                "wss://other/devtools/page/A?x=1",
                Some("wss://box:9222/chrome/devtools/page/A?x=1"),
            ),
            (
                "ws:///devtools/page/A",
                Some("wss://box:9222/chrome/devtools/page/A"),
            ),
            ("ws://127.0.0.1:9223", None),
            ("http://127.0.0.1:9223/devtools/page/A", None),
            ("", None),
        ] {
            assert_eq!(web_socket(url, &base).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_front_end_url_gets_the_clients_base_in_its_parameter_only() {
        let base = base("wss", "box:9222", "/chrome");
        for (url, expected) in [
            (
                "https://frontend.example/serve_rev/@1/inspector.html?ws=127.0.0.1:9223/devtools/page/A",
                Some(
                    "https://frontend.example/serve_rev/@1/inspector.html?wss=box:9222/chrome/devtools/page/A",
                ),
            ),
            (
                "/devtools/inspector.html?a=b&ws=127.0.0.1:9223/devtools/page/A&c=d#e?f",
                Some(
                    "/chrome/devtools/inspector.html?a=b&wss=box:9222/chrome/devtools/page/A&c=d#e?f",
                ),
            ),
            (
                "devtools://devtools/bundled/inspector.html?wss=h/devtools/page/A",
                Some(
                    "devtools://devtools/bundled/inspector.html?wss=box:9222/chrome/devtools/page/A",
                ),
            ),
            ("https://frontend.example/inspector.html", None),
            ("https://frontend.example/inspector.html?aws=h/p", None),
            ("https://frontend.example/inspector.html#?ws=h/p", None),
            ("https://frontend.example/inspector.html?ws=h", None),
        ] {
            assert_eq!(front_end(url, &base).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_prefix_cannot_split_the_query() {
        let base = base("ws", "box", "/a&b+c%20");
        let url = front_end("/devtools/inspector.html?ws=h/devtools/page/A", &base)
            .expect("it has the parameter");
        assert_eq!(
            url,
            "/a&b+c%20/devtools/inspector.html?ws=box/a%26b%2Bc%2520/devtools/page/A"
        );
    }

    #[test]
    fn the_carried_query_is_the_web_sockets_own() {
        let base = Base {
            query: "token=a%2B/b==".to_owned(),
            ..base("wss", "box", "/chrome")
        };
        for (url, expected) in [
            (
                "ws://h/devtools/page/A",
                "wss://box/chrome/devtools/page/A?token=a%2B/b==",
            ),
            (
                "ws://h/devtools/page/A?x=1",
                "wss://box/chrome/devtools/page/A?x=1&token=a%2B/b==",
            ),
        ] {
            assert_eq!(web_socket(url, &base).as_deref(), Some(expected));
        }
        for page in [
            "/devtools/inspector.html",
            "devtools://devtools/bundled/x.html",
        ] {
            let url = front_end(&format!("{page}?ws=h/devtools/page/A"), &base);
            let url = url.expect("it has the parameter");
            assert!(
                url.ends_with("?wss=box/chrome/devtools/page/A%3Ftoken%3Da%252B/b%3D%3D"),
                "{url}"
            );
        }
    }

    #[test]
    fn a_front_end_at_another_host_is_not_told_the_token() {
        let base = Base {
            query: "token=secret".to_owned(),
            ..base("ws", "box", "")
        };
        for page in [
            "https://frontend.example/inspector.html",
            "http://frontend.example/inspector.html",
            "//frontend.example/inspector.html",
        ] {
            let url = front_end(&format!("{page}?ws=h/devtools/page/A"), &base);
            assert_eq!(url, Some(format!("{page}?ws=box/devtools/page/A")));
        }
    }
}
