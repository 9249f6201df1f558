//! Promise: a request reaches the upstream and its response the client as they were sent, over connections that
//! both sides keep open.

use std::net::Shutdown;

use witgate_tests::http::{Connection, exchange};
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config, eventually};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: example.test\r\n\r\n";

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &["X-From: origin"], "hello"))
}

#[test]
fn a_request_and_its_response_arrive_as_they_were_sent() {
    let upstream = Upstream::answering(|_| {
        response(
            "299 Odd But Fine",
            &["X-From: origin", "X-From: again"],
            "hello",
        )
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("PATCH /a%2Fb/c?d=%20 HTTP/1.1\r\nHost: example.test:81\r\nX-To: you\r\nContent-Length: 3\r\n\r\nabc");
    let answer = client.read_response();

    assert_eq!(answer.status(), 299);
    assert_eq!(
        answer.head.header_values("x-from").collect::<Vec<_>>(),
        ["origin", "again"]
    );
    assert_eq!(answer.text(), "hello");
    let request = upstream.only_request();
    assert_eq!(request.head.start_line, "PATCH /a%2Fb/c?d=%20 HTTP/1.1");
    assert_eq!(
        request.head.header_values("host").collect::<Vec<_>>(),
        ["example.test:81"]
    );
    assert_eq!(request.header("x-to"), Some("you"));
    assert_eq!(request.body, b"abc");
}

#[test]
fn a_path_has_one_spelling_before_it_is_routed() {
    let upstream = hello();
    let config = config::relay(upstream.address()).replace("path = \"/*\"", "path = \"/api/*\"");
    let witgate = Witgate::start(&config);

    for sent in ["/api/a", "/x/../api/a", "/%61pi/./a", "/api/x/%2e%2e/a"] {
        assert_eq!(witgate.get("main", sent).text(), "hello", "{sent}");
    }
    assert_eq!(witgate.get("main", "/api/../secret").status(), 404);

    for received in upstream.received() {
        assert_eq!(received.request.head.start_line, "GET /api/a HTTP/1.1");
    }
}

#[test]
fn a_target_in_absolute_form_names_the_host() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));

    let request = "GET http://real.example:81/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(exchange(witgate.address("main"), request).text(), "hello");

    let received = upstream.only_request();
    assert_eq!(received.head.start_line, "GET /a?b HTTP/1.1");
    assert_eq!(
        received.head.header_values("host").collect::<Vec<_>>(),
        ["real.example:81"]
    );
}

#[test]
fn a_client_of_http_1_0_gets_its_answer_and_a_close() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.read_response();

    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        answer.header("transfer-encoding"),
        None,
        "HTTP/1.0 knows no chunks"
    );
}

#[test]
fn one_client_connection_serves_many_requests() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.read_response().text(), "hello");
    }

    assert_eq!(upstream.received().len(), 3);
}

#[test]
fn the_upstream_connection_is_used_again_by_the_next_client() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));

    // A client may be back before the connection is in the pool, so one of several is what can be asked for.
    eventually(
        "a request on an upstream connection that was used before",
        || {
            assert_eq!(witgate.get("main", "/").text(), "hello");
            (upstream.accepted() < upstream.received().len()).then_some(())
        },
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|request| response("200 OK", &[], &request.head.start_line));
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send([get("/1"), get("/2"), get("/3")].concat());

    for path in ["/1", "/2", "/3"] {
        assert_eq!(
            client.read_response().text(),
            format!("GET {path} HTTP/1.1")
        );
    }
}

#[test]
fn a_client_that_asks_for_a_close_gets_it() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client.read_response();

    assert_eq!(answer.text(), "hello");
    assert!(answer.head.has_token("connection", "close"));
    client.expect_close();
}

#[test]
fn fields_that_belong_to_one_connection_are_not_passed_on() {
    let upstream = Upstream::answering(|_| {
        response(
            "200 OK",
            &[
                "Connection: x-private",
                "X-Private: 1",
                "Keep-Alive: timeout=5",
                "X-Public: 1",
            ],
            "",
        )
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nX-Yours: 1\r\n\r\n",
    );
    let answer = client.read_response();

    assert_eq!(answer.header("x-public"), Some("1"));
    assert_eq!(answer.header("x-private"), None);
    assert_eq!(answer.header("keep-alive"), None);
    let request = upstream.only_request();
    assert_eq!(request.header("x-yours"), Some("1"));
    for name in ["x-mine", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(request.header(name), None, "{name} was passed on");
    }
}

#[test]
fn a_chunked_response_arrives_whole_and_the_connection_stays() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n".to_vec()
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.read_response().text(), "abcdefg");
    }
}

#[test]
fn a_response_that_ends_with_its_connection_arrives_whole() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));

    assert_eq!(witgate.get("main", "/").text(), "all of it");
}

#[test]
fn a_chunked_request_arrives_whole() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");

    assert_eq!(client.read_response().text(), "hello");
    assert_eq!(upstream.only_request().body, b"abcdefg");
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_before_its_body_is_sent() {
    let upstream = hello();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    let interim = client.read_head();
    assert_eq!(interim.status(), 100);
    client.send("abc");

    assert_eq!(client.read_response().text(), "hello");
    assert_eq!(upstream.only_request().body, b"abc");
}

#[test]
fn megabytes_arrive_unchanged_in_both_directions() {
    let upstream = Upstream::answering(|request| response("200 OK", &[], &request.body));
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");
    let body: Vec<u8> = (0..8_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();

    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    let answer = client.read_response();

    assert!(
        answer.body == body,
        "the body came back changed ({} bytes)",
        answer.body.len()
    );
}

#[test]
fn head_gets_the_length_and_no_body_and_the_connection_stays_in_step() {
    let upstream = Upstream::answering(|request| {
        let whole = response("200 OK", &[], "hello");
        let body = if request.head.start_line.starts_with("HEAD") {
            5
        } else {
            0
        };
        whole[..whole.len() - body].to_vec()
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        client.read_response_to_head().header("content-length"),
        Some("5")
    );
    client.send(GET);
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn an_upstream_that_answers_head_with_a_body_does_not_put_the_connection_out_of_step() {
    // Chromium's DevTools endpoint does this.
    let upstream = Upstream::answering(|request| {
        response("200 OK", &[], request.head.start_line.to_lowercase())
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response_to_head().status(), 200);
    client.send(GET);

    assert_eq!(client.read_response().text(), "get /a?b=c http/1.1");
}

#[test]
fn responses_204_and_304_have_no_body_and_the_connection_stays_in_step() {
    let upstream = Upstream::answering(|request| match request.head.start_line.as_str() {
        "GET /204 HTTP/1.1" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "GET /304 HTTP/1.1" => {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n".to_vec()
        }
        _ => response("200 OK", &[], "hello"),
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    let no_content = client.read_response();
    assert_eq!(no_content.status(), 204);
    assert_eq!(no_content.header("content-length"), None);
    client.send("GET /304 HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\"\r\n\r\n");
    let not_modified = client.read_response();
    assert_eq!(not_modified.status(), 304);
    assert_eq!(not_modified.header("etag"), Some("\"a\""));
    client.send(GET);
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn a_pooled_connection_that_the_upstream_has_closed_is_not_seen_by_the_client() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send(response("200 OK", &[], "hello"));
        // The connection ends without notice.
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));

    for _ in 0..5 {
        assert_eq!(witgate.get("main", "/").text(), "hello");
    }
}

#[test]
fn a_client_that_goes_away_ends_its_upstream_connection() {
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
    for (way, leave) in ways {
        // Starts a response and never ends it; the script returns when its connection is closed.
        let upstream = Upstream::start(|peer| {
            peer.next_request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nfirst");
            peer.read_to_end().ok();
        });
        let witgate = Witgate::start(&config::relay(upstream.address()));
        let mut client = witgate.connect("main");
        client.send(GET);
        client.read_head();
        client.read_exact(5);
        assert_eq!(upstream.open(), 1);

        leave(client);

        eventually(
            &format!("the upstream connection to end after the client's {way}"),
            || (upstream.open() == 0).then_some(()),
        );
    }
}
