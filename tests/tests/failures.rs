//! Promise: an upstream's fault is a 502 or 504 that says no more than it should; a client's is a 4xx and the end of
//! its connection.

use std::net::{Ipv4Addr, SocketAddr};

use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config, port};

/// A loopback address that nobody listens on.
fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port::unused()))
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
        "bind = \"127.0.0.1:0\"\nlimits.header-timeout = \"5s\"",
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
