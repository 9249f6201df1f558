//! Promise: an upstream can believe what the forwarding fields say of the client.

use witgate_tests::http::{Message, exchange};
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config};

const CLAIMS: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n\
    X-Request-Id: chosen-outside\r\n";

fn request_seen_upstream(server: &str) -> (Message, Witgate) {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::relay(upstream.address()).replace("workers = 1", server);
    let witgate = Witgate::start(&config);
    let answer = exchange(
        witgate.address("main"),
        format!("GET /x HTTP/1.1\r\nHost: inner.example:81\r\n{CLAIMS}\r\n"),
    );
    assert_eq!(answer.text(), "hello");
    (upstream.only_request(), witgate)
}

#[test]
fn a_strangers_claims_are_replaced_by_what_is_known() {
    let (request, witgate) = request_seen_upstream("workers = 1");

    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("inner.example:81"));
    let id = request.header("x-request-id").expect("an id");
    assert_ne!(id, "chosen-outside");
    let line = witgate.log_line("the exchange", |line| line.text("request_id") == Some(id));
    assert_eq!(line.text("client"), Some("127.0.0.1"));
}

#[test]
fn a_trusted_proxys_claims_are_kept_and_it_is_added_to_the_chain() {
    let (request, witgate) =
        request_seen_upstream("workers = 1\ntrusted-proxies = [\"127.0.0.0/8\"]");

    assert_eq!(
        request.header("x-forwarded-for"),
        Some("203.0.113.9, 127.0.0.1")
    );
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("public.example"));
    assert_eq!(request.header("x-request-id"), Some("chosen-outside"));
    let line = witgate.log_line("the exchange", |line| {
        line.text("request_id") == Some("chosen-outside")
    });
    assert_eq!(line.text("client"), Some("203.0.113.9"));
}
