//! Promise: a request takes the most specific route that matches, and no spelling of a path gets past the route that it
//! belongs to.

use witgate_tests::http::{Message, exchange};
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config};

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

/// Two gates before an upstream that is open otherwise.
fn gated(upstream: &Upstream) -> Witgate {
    let gates = r#"
[[route]]
name = "gate"
listener = "main"
path = "/admin/*"
reply = { status = 403, body = "gate" }

[[route]]
name = "inner-gate"
listener = "main"
path = "/users/{id}/keys"
reply = { status = 403, body = "gate" }
"#;
    Witgate::start(&(config::relay(upstream.address()) + gates))
}

fn get(witgate: &Witgate, target: &str) -> Message {
    let address = witgate.address("main");
    exchange(
        address,
        format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn no_spelling_of_a_gated_path_gets_past_its_gate() {
    let upstream = hello();
    let witgate = gated(&upstream);
    for (target, status) in [
        // Spellings of the same path: RFC 3986 §6.2.2.
        ("/admin", 403),
        ("/admin/", 403),
        ("/admin/x", 403),
        ("/%61dmin/x", 403),
        ("/%61%64%6D%69%6e", 403),
        ("/./admin/x", 403),
        ("/public/../admin", 403),
        ("/public/%2e%2e/admin", 403),
        ("/public/%2E./admin", 403),
        ("/public/x/../../admin/x", 403),
        ("/../admin", 403),
        ("/admin/x/../../admin", 403),
        ("/public/../%61dmin?x", 403),
        ("/users/7/keys", 403),
        ("/users/%2e%2e/users/7/%6beys", 403),
        // Absolute form.
        ("http://h/admin", 403),
        ("http://h/public/../admin", 403),
        ("http://h/%61dmin?x=/public", 403),
        // Another path here, and the gated one to some servers.
        ("//admin", 400),
        ("///admin/x", 400),
        ("/admin%2Fx", 400),
        ("/admin%2fx", 400),
        ("/public%2F..%2Fadmin", 400),
        ("/public/..%2Fadmin", 400),
        ("/public/%2e%2e%2fadmin", 400),
        ("/public/..%5Cadmin", 400),
        ("/public%5c..%5cadmin", 400),
        ("/admin;v=1", 400),
        ("/admin;v=1/x", 400),
        ("/;/admin", 400),
        ("/public/..;/admin", 400),
        ("/public/..;a=b/admin", 400),
        ("/public/..%3b/admin", 400),
        ("/%2561dmin", 400),
        ("/%2561%2564min/x", 400),
        ("/public/%252e%252e/admin", 400),
        ("/public/..%252fadmin", 400),
        ("/public/..%255cadmin", 400),
        ("/public/x%2f..%2f..%2fadmin%2f..;%2f..;%2fpublic", 400),
        ("/users/7%2Fkeys", 400),
        ("/users//7/keys", 400),
        ("/users/7;a/keys", 403),
        ("/users/7;a/keys;b", 400),
        ("http://h//admin", 400),
        // No path at all.
        ("/public\\..\\admin", 400),
        ("\\admin", 400),
        ("/admin%00", 400),
        ("/%00/admin", 400),
        ("/admin%", 400),
        ("/%c0%ae%c0%ae/admin", 400),
        ("/%u0061dmin", 400),
        ("admin", 400),
        ("h:80", 400),
        ("*", 400),
        ("ftp://h/admin", 400),
        ("http://user@h/admin", 400),
    ] {
        let answer = get(&witgate, target);
        assert_eq!(answer.status(), status, "{target}");
    }
    assert_eq!(upstream.received(), [], "nothing of it goes upstream");
}

#[test]
fn what_goes_upstream_is_what_was_checked() {
    let upstream = hello();
    let witgate = gated(&upstream);
    for (target, sent_on) in [
        ("/", "/"),
        ("/a/../b/./c", "/b/c"),
        ("/a%2fb%20c?x=%2e%2e//;", "/a%2Fb%20c?x=%2e%2e//;"),
        ("//a//b", "//a//b"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/%7euser", "/~user"),
        ("/administrator", "/administrator"),
        ("/users/7", "/users/7"),
        ("/users/7/keys/1", "/users/7/keys/1"),
        ("http://h", "/"),
        ("http://h?x", "/?x"),
        // A fragment is no part of what a client asks for; without it, the target is what it should have been.
        ("/a#/../admin", "/a"),
    ] {
        let answer = get(&witgate, target);
        assert_eq!(answer.text(), "hello", "{target}");
        let received = upstream.received();
        let line = &received
            .last()
            .expect("it was sent on")
            .request
            .head
            .start_line;
        assert_eq!(*line, format!("GET {sent_on} HTTP/1.1"), "{target}");
    }
    let options = exchange(
        witgate.address("main"),
        "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(
        options.status(),
        404,
        "no route is about the server as a whole"
    );
}

#[test]
fn routes_are_told_apart_by_path_method_field_and_parameter() {
    let witgate = Witgate::start(
        r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
path = "/users/{id}"
reply = { body = "user" }

[[route]]
path = "/users/me"
reply = { body = "me" }

[[route]]
path = "/users/{id}/*"
reply = { body = "below a user" }

[[route]]
path = "/users/me/*"
reply = { body = "below me" }

[[route]]
path = "/users/{id}"
query = { version = "2" }
reply = { body = "user 2" }

[[route]]
path = "/users/{id}"
headers = { x-version = { regex = "[23]" }, x-legacy = false }
reply = { body = "user by field" }

[[route]]
path = "/users/{id}"
methods = ["DELETE"]
headers = { authorization = { prefix = "Bearer " } }
reply = { body = "deleted" }
"#,
    );
    for (request, body) in [
        ("GET /users/7 HTTP/1.1\r\n", "user"),
        ("GET /users/me HTTP/1.1\r\n", "me"),
        ("GET /users/7/posts HTTP/1.1\r\n", "below a user"),
        ("GET /users/me/posts HTTP/1.1\r\n", "below me"),
        ("GET /users/7?a&version=2 HTTP/1.1\r\n", "user 2"),
        ("GET /users/7?%76ersion=%32 HTTP/1.1\r\n", "user 2"),
        ("GET /users/7 HTTP/1.1\r\nX-Version: 3\r\n", "user by field"),
        (
            "GET /users/7 HTTP/1.1\r\nX-Version: 3\r\nX-Legacy: 1\r\n",
            "user",
        ),
        ("GET /users/7 HTTP/1.1\r\nX-Version: 33\r\n", "user"),
        (
            "DELETE /users/7 HTTP/1.1\r\nAuthorization: Bearer x\r\n",
            "deleted",
        ),
        (
            "DELETE /users/7 HTTP/1.1\r\nAuthorization: Basic x\r\n",
            "user",
        ),
    ] {
        let answer = exchange(
            witgate.address("main"),
            format!("{request}Host: h\r\nConnection: close\r\n\r\n"),
        );
        assert_eq!(answer.text(), body, "{request}");
    }
}

#[test]
fn a_path_is_rewritten_before_it_goes_upstream() {
    let upstream = hello();
    let config = config::relay(upstream.address()).replace("path = \"/*\"", "path = \"/else/*\"")
        + r#"
[[route]]
path = "/users/{id}/posts"
rewrite = { path = "/v2/posts/{id}" }
upstream = "origin"

[[route]]
path = "/tenants/{tenant}/*"
rewrite = { prefix = "/t-{tenant}" }
upstream = "origin"
"#;
    let witgate = Witgate::start(&config);
    for (target, sent_on) in [
        ("/users/7%208/posts?a=b", "/v2/posts/7%208?a=b"),
        ("/tenants/x/a//b/?c", "/t-x/a//b/?c"),
        ("/tenants/x", "/t-x"),
    ] {
        assert_eq!(get(&witgate, target).text(), "hello", "{target}");
        let received = upstream.received();
        let line = &received
            .last()
            .expect("it was sent on")
            .request
            .head
            .start_line;
        assert_eq!(*line, format!("GET {sent_on} HTTP/1.1"), "{target}");
    }
    for escaping in [
        "/tenants/x/..%2f..%2felse",
        "/tenants/x/..%2ft-y/secret",
        "/tenants/x/..;/t-y/secret",
    ] {
        assert_eq!(get(&witgate, escaping).status(), 400, "{escaping}");
    }
}

#[test]
fn a_redirect_leads_where_the_operator_says_and_nowhere_else() {
    let witgate = Witgate::start(
        r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
redirect = { to = "https://{host}{path}" }

[[route]]
path = "/here/*"
redirect = { to = "{rest}", status = 302 }

[[route]]
path = "/docs/{version}/*"
redirect = { to = "https://docs.example/{version}{rest}?from=old", status = 301 }

[[route]]
host = "old.example"
redirect = { to = "{scheme}://new.example:8443/", status = 307 }
"#,
    );
    for (host, target, status, location) in [
        (
            "h.example:80",
            "/a/../b%20c?d=e",
            308,
            "https://h.example/b%20c?d=e",
        ),
        (
            "h.example",
            "//evil.example/x",
            308,
            "https://h.example//evil.example/x",
        ),
        ("[::1]:80", "/a", 308, "https://[::1]/a"),
        ("h", "/here/a?b", 302, "/a?b"),
        ("h", "/here", 302, "/"),
        ("h", "/here//evil.example", 302, "/evil.example"),
        ("h", "/docs/2/a?b", 301, "https://docs.example/2/a?from=old"),
        ("old.example", "/x?y", 307, "http://new.example:8443/?y"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = exchange(witgate.address("main"), request);
        assert_eq!(answer.status(), status, "{target}");
        assert_eq!(answer.header("location"), Some(location), "{target}");
        assert_eq!(answer.header("content-length"), Some("0"), "{target}");
    }
    let nowhere = exchange(witgate.address("main"), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(nowhere.status(), 400, "there is no host to lead to");
}

#[test]
fn requests_are_split_by_weight_and_a_cookie_stays_with_its_upstream() {
    let named = |name: &'static str| Upstream::answering(move |_| response("200 OK", &[], name));
    let (a, b, none) = (named("a"), named("b"), named("none"));
    let endpoint = |name: &str, upstream: &Upstream| {
        let address = upstream.address();
        format!("[upstream.{name}]\nendpoints = [\"http://{address}\"]\n")
    };
    let witgate = Witgate::start(&format!(
        r#"
[server]
workers = 1

[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
upstream = [{{ name = "a", weight = 9 }}, "b", {{ name = "none", weight = 0 }}]
sticky = {{ cookie = "session" }}

{}{}{}"#,
        endpoint("a", &a),
        endpoint("b", &b),
        endpoint("none", &none)
    ));
    for _ in 0..20 {
        get(&witgate, "/");
    }
    let counts = [&a, &b, &none].map(|upstream| upstream.received().len());
    assert_eq!(counts, [18, 2, 0]);

    let with = |session: usize| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: h\r\nCookie: x=1; session={session}\r\nConnection: close\r\n\r\n"
        );
        exchange(witgate.address("main"), request).text().to_owned()
    };
    let first: Vec<String> = (0..60).map(with).collect();
    assert!(first.iter().any(|name| name == "b"), "sessions are spread");
    assert!(first.iter().any(|name| name == "a"), "sessions are spread");
    let again: Vec<String> = (0..60).map(with).collect();
    assert_eq!(first, again);
}
