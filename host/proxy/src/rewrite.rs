//! What a route makes of a request's path: another path, or a place to go to instead.

use http::{HeaderValue, Response, StatusCode, Uri, header, request};
use witgate_runtime::Exchange;

use crate::body::Body;
use crate::config::{Filling, PathPattern, Redirect, Rewrite};
use crate::failure::Failure;
use crate::router::host_of;

/// Rewrites the path, which the pattern matches; the query stays.
///
/// # Errors
///
/// A path that has become longer than a target may be: 414.
pub(crate) fn path(
    parts: &mut request::Parts,
    rewrite: &Rewrite,
    pattern: &PathPattern,
) -> Result<(), Failure> {
    let path = parts.uri.path();
    let captures = pattern.captures(path).unwrap_or_default();
    let filling = |captures| Filling {
        scheme: "",
        host: "",
        authority: "",
        path,
        captures,
    };
    let mut target = match rewrite {
        Rewrite::Strip(prefix) => path.strip_prefix(&**prefix).unwrap_or(path).to_owned(),
        Rewrite::Path(template) => template.fill(filling(&captures)),
        Rewrite::Prefix(template) => {
            let rest = captures.last().copied().unwrap_or_default();
            template.fill(filling(&captures)) + rest
        }
    };
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    parts.uri = Uri::try_from(target).map_err(|_| {
        Failure::client(
            StatusCode::URI_TOO_LONG,
            "the rewritten path is no path, or too long for one",
        )
    })?;
    Ok(())
}

/// Sends the client elsewhere. Placeholders are filled from the path as plugins left it.
///
/// # Errors
///
/// 400 to a client that names no host where one is asked for; 500 when a plugin made the path one that the route's
/// pattern does not match.
pub(crate) fn redirect(
    redirect: &Redirect,
    pattern: &PathPattern,
    exchange: &Exchange,
) -> Result<Response<Body>, Failure> {
    let uri = &exchange.request.uri;
    let captures = pattern.captures(uri.path()).ok_or_else(|| {
        Failure::plugin("a plugin changed the path, and the redirect is made from what it was")
    })?;
    let authority = &*exchange.facts.client_authority;
    if authority.is_empty() && redirect.to.needs_host() {
        return Err(Failure::bad_request(
            "no Host field, and the redirect is to be made from it",
        ));
    }
    let mut location = redirect.to.fill(Filling {
        scheme: exchange.facts.client_scheme.as_str(),
        host: host_of(authority),
        authority,
        path: uri.path(),
        captures: &captures,
    });
    // `//host` would lead to that host.
    while location.starts_with("//") {
        location.remove(0);
    }
    if location.is_empty() {
        location.push('/');
    }
    if !redirect.to.has_query()
        && let Some(query) = uri.query()
    {
        let at = location.find('#').unwrap_or(location.len());
        location.insert_str(at, &format!("?{query}"));
    }
    let location = HeaderValue::try_from(location)
        .map_err(|_| Failure::bad_request("the redirect would not fit into a field"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Destination, Document};

    fn route(keys: &str) -> crate::config::Route {
        let text = format!(
            "[[listener]]\nname = 'a'\nbind = '127.0.0.1:0'\n[upstream.o]\nendpoints = ['http://o']\n[[route]]\n{keys}"
        );
        let document = Document::parse("a.toml", &text).expect("valid TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        let (config, _) = reader.finish(config).expect(keys);
        config.routes.into_iter().next().expect("one route")
    }

    fn rewritten(keys: &str, target: &str) -> String {
        let route = route(&format!("upstream = 'o'\n{keys}"));
        let request = http::Request::builder().uri(target).body(());
        let (mut parts, ()) = request.expect("a request").into_parts();
        let rewrite = route.rewrite.expect("there is one");
        path(&mut parts, &rewrite, &route.path).expect("it becomes a path");
        parts.uri.to_string()
    }

    #[test]
    fn a_path_is_rewritten_and_its_query_kept() {
        for (keys, sent, expected) in [
            ("path = '/api/*'\nstrip-prefix = '/api'", "/api/a?b", "/a?b"),
            ("path = '/api/*'\nstrip-prefix = '/api'", "/api?b", "/?b"),
            (
                "path = '/api/v1/*'\nstrip-prefix = '/api'",
                "/api/v1/a",
                "/v1/a",
            ),
            (
                "path = '/api/*'\nrewrite = { prefix = '/v2' }",
                "/api/a/b?c",
                "/v2/a/b?c",
            ),
            (
                "path = '/api/*'\nrewrite = { prefix = '/v2' }",
                "/api",
                "/v2",
            ),
            (
                "path = '/u/{id}/*'\nrewrite = { prefix = '/v2/{id}' }",
                "/u/7%2F/a/",
                "/v2/7%2F/a/",
            ),
            (
                "path = '/u/{id}/posts'\nrewrite = { path = '/p/{id}.json' }",
                "/u/7/posts?x",
                "/p/7.json?x",
            ),
            (
                "path = '/{a}/{b}'\nrewrite = { path = '/{b}/{a}' }",
                "/1/2",
                "/2/1",
            ),
            (
                "rewrite = { path = '/tenant{path}' }",
                "/a/b",
                "/tenant/a/b",
            ),
            (
                "path = '/a/*'\nrewrite = { path = '/b{rest}/c' }",
                "/a/x",
                "/b/x/c",
            ),
            ("path = '/a/*'\nrewrite = { path = '/b' }", "/a/x", "/b"),
        ] {
            assert_eq!(rewritten(keys, sent), expected, "{keys}");
        }
    }

    #[test]
    fn a_redirect_keeps_the_query_unless_it_has_its_own() {
        for (keys, status) in [
            ("redirect = { to = 'https://{host}{path}' }", 308),
            ("redirect = { to = '/a', status = 302 }", 302),
        ] {
            let Destination::Redirect(redirect) = route(keys).destination else {
                panic!("a redirect was written");
            };
            assert_eq!(redirect.status, status);
            assert!(!redirect.to.has_query());
        }
        let Destination::Redirect(redirect) = route("redirect = { to = '/a?b' }").destination
        else {
            panic!("a redirect was written");
        };
        assert!(redirect.to.has_query());
    }
}
