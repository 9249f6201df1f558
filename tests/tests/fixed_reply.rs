//! Promise: a route may answer by itself.

use witgate_tests::Witgate;

const CONFIG: &str = r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
path = "/healthz"
reply = { body = "ok\n" }

[[route]]
path = "/api/*"
methods = ["GET", "HEAD"]
reply = { status = 418, headers = { content-type = "application/json", x-why = "teapot" }, body = "{}" }
"#;

#[test]
fn a_fixed_reply_says_what_the_configuration_says() {
    let witgate = Witgate::start(CONFIG);

    let health = witgate.get("main", "/healthz");
    assert_eq!((health.status(), health.text()), (200, "ok\n"));
    assert_eq!(
        health.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(health.header("content-length"), Some("3"));

    let teapot = witgate.get("main", "/api/tea");
    assert_eq!((teapot.status(), teapot.text()), (418, "{}"));
    assert_eq!(teapot.header("content-type"), Some("application/json"));
    assert_eq!(teapot.header("x-why"), Some("teapot"));
}

#[test]
fn a_fixed_reply_to_head_has_no_body_and_the_connection_stays() {
    let witgate = Witgate::start(CONFIG);
    let mut client = witgate.connect("main");

    client.send("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_response_to_head();
    assert_eq!(
        (head.status(), head.header("content-length")),
        (200, Some("3"))
    );
    client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().text(), "ok\n");
}

#[test]
fn the_body_of_a_request_that_is_answered_at_once_does_not_become_the_next_request() {
    let witgate = Witgate::start(CONFIG);
    let mut client = witgate.connect("main");

    client.send("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nGET /api/tea HTTP/1.1\r\nHost: smuggled\r\n");
    assert_eq!(client.read_response().text(), "ok\n");

    // The connection goes on in step, or ends; it never answers what stood in the body.
    let next = client.try_send("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let rest = next.and_then(|()| client.read_to_end()).unwrap_or_default();
    assert!(
        !String::from_utf8_lossy(&rest).contains("418"),
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
}
