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

#[test]
fn a_chain_of_trusted_proxies_is_followed_to_the_client() {
    let (request, _witgate) = request_seen_upstream(
        "workers = 1\nforwarded = true\ntrusted-proxies = [\"127.0.0.0/8\", \"203.0.113.0/24\"]",
    );
    assert_eq!(
        request.header("forwarded"),
        Some("for=127.0.0.1;host=\"inner.example:81\";proto=http")
    );
}

#[test]
fn a_request_tells_which_proxies_it_has_passed_and_does_not_pass_one_twice() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::relay(upstream.address());
    let witgate = Witgate::start(&config.replace("workers = 1", "workers = 1\nvia = \"edge-1\""));
    let send = |via: &str| {
        let request = format!("GET /x HTTP/1.1\r\nHost: h\r\nVia: {via}\r\n\r\n");
        exchange(witgate.address("main"), request)
    };
    assert_eq!(send("1.0 outer (x)").text(), "hello");
    let received = upstream.only_request();
    let via: Vec<&str> = received.head.header_values("via").collect();
    assert_eq!(via, ["1.0 outer (x)", "1.1 edge-1"]);
    assert_eq!(send("1.0 outer, 1.1 Edge-1").status(), 508);
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_trace_goes_on_with_a_span_of_its_own_and_its_id_is_in_the_access_log() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::relay(upstream.address());
    let witgate = Witgate::start(&config.replace(
        "workers = 1",
        "workers = 1\ntrace-context = { sampled = 0 }",
    ));
    let send = |path: &str, fields: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        assert_eq!(exchange(witgate.address("main"), request).text(), "hello");
        let received = upstream.received();
        received.last().expect("it was sent on").request.clone()
    };
    let logged = |path: &str| {
        let line = witgate.log_line("the exchange", |line| line.text("path") == Some(path));
        line.text("trace_id").expect("a trace").to_owned()
    };

    let fields = format!("Traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nTracestate: a=1\r\n");
    let continued = send("/continued", &fields);
    let parent = continued.header("traceparent").expect("it goes on");
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"),
        "{parent}"
    );
    assert!(!parent.contains("00f067aa0ba902b7"), "{parent}");
    assert_eq!(continued.header("tracestate"), Some("a=1"));
    assert_eq!(logged("/continued"), TRACE);

    let begun = send("/begun", "Traceparent: 00-xyz\r\nTracestate: a=1\r\n");
    let parent = begun.header("traceparent").expect("one is begun");
    assert_eq!(
        parent,
        format!("00-{}-{}-00", logged("/begun"), &parent[36..52])
    );
    assert_eq!(begun.header("tracestate"), None);
}
