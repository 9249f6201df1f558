//! Promise: an upgrade is relayed, and after the 101 the two sides speak to each other as if nobody were between.

use std::net::Shutdown;

use witgate_tests::http::Connection;
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config, eventually};

const UPGRADE: &str = "GET /devtools/browser/1 HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

/// Chromium's own words.
const SWITCHING: &str = "HTTP/1.1 101 WebSocket Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

/// Grants the upgrade, greets in the same segment, sends back what it gets in capitals, and closes after its peer.
fn echo() -> Upstream {
    Upstream::start(|peer| {
        peer.next_request();
        peer.send([SWITCHING, "greeting"].concat());
        while let Ok(byte) = peer.try_read_exact(1) {
            if peer.try_send(byte.to_ascii_uppercase()).is_err() {
                return;
            }
        }
    })
}

fn upgraded(witgate: &Witgate) -> Connection {
    let mut client = witgate.connect("main");
    client.send(UPGRADE);
    assert_eq!(client.read_head().status(), 101);
    assert_eq!(client.read_exact(8), b"greeting");
    client
}

#[test]
fn a_101_is_relayed_with_its_reason_phrase_and_fields() {
    let upstream = echo();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send(UPGRADE);
    let head = client.read_head();

    assert_eq!(head.start_line, "HTTP/1.1 101 WebSocket Protocol Handshake");
    assert!(
        head.header("upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    );
    assert!(head.has_token("connection", "upgrade"));
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("ICX+Yqv66kxgM0FcWaLWlFLwTAI=")
    );
    let request = upstream.only_request();
    assert!(request.head.has_token("connection", "upgrade"));
    assert_eq!(request.header("upgrade"), Some("websocket"));
    assert_eq!(
        request.header("sec-websocket-key"),
        Some("AAAAAAAAAAAAAAAAAAAAAA==")
    );
}

#[test]
fn bytes_pass_both_ways_right_after_the_101() {
    let upstream = echo();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = upgraded(&witgate);

    for message in ["hello", "again", "\0\r\n\r\nGET / HTTP/1.1"] {
        client.send(message);
        assert_eq!(
            client.read_exact(message.len()),
            message.to_ascii_uppercase().as_bytes()
        );
    }
}

#[test]
fn bytes_that_the_client_sends_with_its_request_are_not_lost() {
    let upstream = echo();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send([UPGRADE, "early"].concat());

    assert_eq!(client.read_head().status(), 101);
    assert_eq!(client.read_exact(13), b"greetingEARLY");
}

#[test]
fn an_upgrade_that_the_upstream_refuses_is_an_ordinary_response() {
    let upstream = Upstream::answering(|_| response("404 Not Found", &[], "no such browser"));
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send(UPGRADE);
        let answer = client.read_response();
        assert_eq!((answer.status(), answer.text()), (404, "no such browser"));
    }
}

#[test]
fn an_upstream_that_closes_ends_the_client() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send([SWITCHING, "greeting"].concat());
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));

    let mut client = upgraded(&witgate);

    client.expect_close();
}

#[test]
fn a_client_that_goes_away_ends_the_upstream_at_once() {
    type Leave = fn(Connection);
    let ways: [(&str, Leave); 2] = [
        ("FIN", |client| {
            client
                .stream()
                .shutdown(Shutdown::Both)
                .expect("the client was connected")
        }),
        ("RST", Connection::reset),
    ];
    let upstream = echo();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    for (way, leave) in ways {
        let client = upgraded(&witgate);
        assert_eq!(upstream.open(), 1);

        leave(client);

        eventually(
            &format!("the upstream socket to end after the client's {way}"),
            || (upstream.open() == 0).then_some(()),
        );
    }
}

#[test]
fn an_upgraded_connection_outlives_the_time_limit_on_responses() {
    let upstream = Upstream::start(|peer| {
        let request = peer.next_request().expect("a request");
        if request.header("upgrade").is_none() {
            peer.read_to_end().ok(); // never answered
            return;
        }
        peer.send([SWITCHING, "greeting"].concat());
        assert_eq!(peer.read_exact(5), b"hello");
        peer.send("still there");
        peer.read_to_end().ok();
    });
    let config = format!(
        "{}response-timeout = \"300ms\"\n",
        config::relay(upstream.address())
    );
    let witgate = Witgate::start(&config);
    let mut idle = upgraded(&witgate);

    // A later exchange that runs into the limit shows that it has passed for the earlier one.
    assert_eq!(witgate.get("main", "/").status(), 504);

    idle.send("hello");
    assert_eq!(idle.read_exact(11), b"still there");
}
