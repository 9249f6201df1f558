//! Promise: an upstream's fault is a 502 or 504 that says no more than it should; a client's is a 4xx and the end of
//! its connection, and no message is ever read in two ways.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config};

/// A loopback address that nobody listens on.
fn nobody() -> SocketAddr {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
    listener
        .local_addr()
        .expect("a bound listener has an address")
}

fn anything() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

#[test]
fn an_upstream_that_is_down_is_a_502_that_names_nothing() {
    let address = nobody();
    let witgate = Witgate::start(&config::relay(address));
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.read_response();
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.text().trim().to_lowercase(), "bad gateway");
    }

    let told = witgate.log_line("the failure", |line| line.text("fault") == Some("upstream"));
    let reason = told.text("reason").unwrap_or_default();
    assert!(
        reason.contains(&address.to_string()) && reason.contains("refused"),
        "{told:?}"
    );
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_a_502() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));

    let mut client = witgate.connect("main");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");

    assert_eq!(client.read_response().status(), 502);
    assert_eq!(
        upstream.received().len(),
        1,
        "a request that may have been acted on was sent again"
    );
}

#[test]
fn an_upstream_that_talks_nonsense_is_a_502() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));

    let answer = witgate.get("main", "/");

    assert_eq!(
        (
            answer.status(),
            answer.text().trim().to_lowercase().as_str()
        ),
        (502, "bad gateway")
    );
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_a_504() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.read_to_end().ok(); // until the proxy gives up
    });
    let config = format!(
        "{}response-timeout = \"200ms\"\n",
        config::relay(upstream.address())
    );
    let witgate = Witgate::start(&config);

    let answer = witgate.get("main", "/");

    assert_eq!(
        (
            answer.status(),
            answer.text().trim().to_lowercase().as_str()
        ),
        (504, "gateway timeout")
    );
}

#[test]
fn a_response_that_the_upstream_cuts_off_is_cut_off_for_the_client() {
    let upstream = Upstream::start(|peer| {
        let request = peer.next_request().expect("a request");
        match request.head.start_line.as_str() {
            "GET /length HTTP/1.1" => {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
            }
            _ => peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"),
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));

    for path in ["/length", "/chunked"] {
        let mut client = witgate.connect("main");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.read_head();
        assert_eq!(head.status(), 200);
        client
            .try_read_body(&head, true)
            .expect_err("a body that was cut off is not complete");
    }
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_a_400_and_never_sent_on() {
    let cases = [
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        ),
        (
            "a list of lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcd",
        ),
        (
            "a signed length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        ),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        (
            "white space before the colon",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
        ),
        (
            "a folded line",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
        ),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
        (
            "a host with a quotation mark",
            "GET / HTTP/1.1\r\nHost: x\"},\"y\":{\"z\r\n\r\n",
        ),
        (
            "a host with user information",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        ),
        (
            "a NUL in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        ),
        ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
    ];
    let upstream = anything();
    let witgate = Witgate::start(&config::relay(upstream.address()));

    for (what, request) in cases {
        let mut client = witgate.connect("main");
        client.send(request);
        let answer = client.read_response();
        assert_eq!(answer.status(), 400, "{what}: {answer:?}");
        assert_eq!(
            client.read_to_end().unwrap_or_default(),
            b"",
            "{what}: more than one answer"
        );
    }

    assert_eq!(upstream.received(), []);
}

#[test]
fn a_length_beside_chunked_framing_is_refused_or_dropped_never_passed_on() {
    // RFC 9112 §6.1 allows both.
    let upstream = anything();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let status = client.read_response().status();

    assert!(matches!(status, 200 | 400), "status {status}");
    for received in upstream.received() {
        let head = &received.request.head;
        let lengths = head.header_values("content-length").count()
            + head.header_values("transfer-encoding").count();
        assert!(lengths <= 1, "two framings were passed on: {head:?}");
    }
}

#[test]
fn a_head_over_the_limit_is_a_431() {
    let upstream = anything();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let large = format!("X-Large: {}\r\n", "a".repeat(100_000));
    let many: String = (0..150)
        .map(|number| format!("X-{number}: a\r\n"))
        .collect();

    for (what, fields) in [("too large", large), ("too many fields", many)] {
        let mut client = witgate.connect("main");
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.read_response().status(), 431, "{what}");
    }

    assert_eq!(upstream.received(), []);
}

#[test]
fn a_body_over_the_limit_is_a_413() {
    let upstream = anything();
    let config = config::relay(upstream.address()).replace(
        "bind = \"127.0.0.1:0\"",
        "bind = \"127.0.0.1:0\"\nlimits.body-size = \"10B\"",
    );
    let witgate = Witgate::start(&config);
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world");

    assert_eq!(client.read_response().status(), 413);
    assert_eq!(upstream.received(), []);
}

#[test]
fn a_client_that_dawdles_over_its_head_holds_nobody_up_and_is_sent_away() {
    let upstream = anything();
    let config = config::relay(upstream.address()).replace(
        "bind = \"127.0.0.1:0\"",
        "bind = \"127.0.0.1:0\"\nlimits.header-timeout = \"500ms\"",
    );
    let witgate = Witgate::start(&config);
    let mut slow = witgate.connect("main");
    slow.send("GET / HTTP/1.1\r\nHost:");

    assert_eq!(witgate.get("main", "/").text(), "hello");

    // 408 or nothing, and then the end.
    let last = slow.read_to_end().unwrap_or_default();
    assert!(
        last.is_empty() || last.starts_with(b"HTTP/1.1 408 "),
        "{:?}",
        String::from_utf8_lossy(&last)
    );
}

#[test]
fn connect_is_refused_because_this_is_no_forward_proxy() {
    let upstream = anything();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n");

    assert_eq!(client.read_response().status(), 405);
    assert_eq!(upstream.received(), []);
}

#[test]
fn no_route_is_a_404() {
    let upstream = anything();
    let config = config::relay(upstream.address()).replace("path = \"/*\"", "path = \"/only\"");
    let witgate = Witgate::start(&config);

    assert_eq!(witgate.get("main", "/only").text(), "hello");
    assert_eq!(witgate.get("main", "/else").status(), 404);
}
