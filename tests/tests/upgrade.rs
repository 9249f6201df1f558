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
        "{}response-timeout = \"5s\"\n",
        config::relay(upstream.address())
    );
    let witgate = Witgate::start(&config);
    let mut idle = upgraded(&witgate);

    // A later exchange that runs into the limit shows that it has passed for the earlier one.
    assert_eq!(witgate.get("main", "/").status(), 504);

    idle.send("hello");
    assert_eq!(idle.read_exact(11), b"still there");
}

/// As [`config::relay`], with these limits of the route.
fn limited(upstream: &Upstream, limits: &str) -> String {
    let route = "upstream = \"origin\"\n";
    config::relay(upstream.address()).replace(route, &format!("{route}limits = {limits}\n"))
}

#[test]
fn an_upgrade_beyond_the_limit_of_its_route_is_503_until_another_ends() {
    let upstream = echo();
    let config = limited(&upstream, "{ upgrades = 2 }").replace("workers = 1", "workers = 3");
    let witgate = Witgate::start(&config);
    let (first, second) = (upgraded(&witgate), upgraded(&witgate));

    for _ in 0..3 {
        let mut third = witgate.connect("main");
        third.send(UPGRADE);
        let answer = third.read_response();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(upstream.received().len(), 2, "they went no further");

    first.reset();
    let again = eventually("a place to be free again", || {
        let mut again = witgate.connect("main");
        again.send(UPGRADE);
        (again.read_head().status() == 101).then_some(again)
    });
    drop((second, again));
}

#[test]
fn an_upgrade_beyond_the_limit_of_its_client_is_429_and_other_clients_go_on() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            match request.header("upgrade") {
                Some(_) => {
                    peer.send(SWITCHING);
                    peer.read_to_end().ok();
                    return;
                }
                None => peer.send(response("200 OK", &[], "hello")),
            }
        }
    });
    let config = limited(&upstream, "{ upgrades-per-client = 1 }");
    let trusting = config.replace(
        "workers = 1",
        "workers = 1\ntrusted-proxies = [\"127.0.0.1\"]",
    );
    let witgate = Witgate::start(&trusting);
    let ask = |client: &str| {
        let mut connection = witgate.connect("main");
        let forwarded = format!("Host: example.test\r\nX-Forwarded-For: {client}");
        connection.send(UPGRADE.replace("Host: example.test", &forwarded));
        (connection.read_response(), connection)
    };

    let (granted, held) = ask("192.0.2.1");
    assert_eq!(granted.status(), 101);
    assert_eq!(ask("192.0.2.1").0.status(), 429);
    let (other, _held_too) = ask("192.0.2.2");
    assert_eq!(other.status(), 101);
    // What is no upgrade does not count.
    assert_eq!(witgate.get("main", "/").status(), 200);

    drop(held);
    eventually("the place to be free again", || {
        (ask("192.0.2.1").0.status() == 101).then_some(())
    });
}

#[test]
fn an_upgrade_that_the_upstream_refuses_does_not_count_against_the_limit() {
    let upstream = Upstream::answering(|_| response("404 Not Found", &[], "no such browser"));
    let witgate = Witgate::start(&limited(
        &upstream,
        "{ upgrades = 1, upgrades-per-client = 1 }",
    ));

    for _ in 0..5 {
        let mut client = witgate.connect("main");
        client.send(UPGRADE);
        assert_eq!(client.read_response().status(), 404);
    }
}

#[test]
fn an_upgrade_leaves_a_line_when_it_begins_and_one_when_it_ends() {
    let upstream = echo();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let client = upgraded(&witgate);

    let begin = witgate.log_line("the upgrade", |line| line.message() == "upgraded");
    assert_eq!(begin.level(), "INFO");
    assert_eq!(begin.text("target"), Some("access"));
    assert_eq!(begin.text("route"), Some("all"));
    assert_eq!(begin.text("client"), Some("127.0.0.1"));
    assert_eq!(begin.text("host"), Some("example.test"));
    assert_eq!(begin.text("path"), Some("/devtools/browser/1"));
    assert!(begin.text("attributes").is_some(), "{begin:?}");
    assert!(
        witgate
            .log()
            .iter()
            .all(|line| line.message() != "exchange")
    );

    drop(client);
    let end = witgate.log_line("the end", |line| line.message() == "exchange");
    assert_eq!(end.text("request_id"), begin.text("request_id"));
}

/// How the kernel writes a loopback port: `0100007F:1F90`.
fn as_in_proc(address: std::net::SocketAddr) -> String {
    format!("0100007F:{:04X}", address.port())
}

#[test]
fn the_kernel_probes_both_peers_of_an_idle_tunnel() {
    let upstream = echo();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let client = upgraded(&witgate);
    let client_address = client.stream().local_addr().expect("it is connected");

    // Field 1 is the local address, 2 the peer's, 5 the timer that runs: 02 is keepalive.
    let probed = |local: Option<String>, peer: String| {
        eventually(&format!("keepalive on the socket to {peer}"), || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
            let sockets = table
                .lines()
                .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
            let found = sockets.into_iter().any(|fields| {
                local
                    .as_ref()
                    .is_none_or(|local| fields.get(1) == Some(&&**local))
                    && fields.get(2) == Some(&&*peer)
                    && fields.get(3) == Some(&"01")
                    && fields.get(5).is_some_and(|timer| timer.starts_with("02:"))
            });
            found.then_some(())
        });
    };
    probed(
        Some(as_in_proc(witgate.address("main"))),
        as_in_proc(client_address),
    );
    probed(None, as_in_proc(upstream.address()));
}
