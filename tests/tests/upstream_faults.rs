//! Promise: whatever an upstream sends, the client gets a right status or a body that visibly breaks off, and the next
//! exchange gets its own response.

use std::time::Duration;

use witgate_tests::http::Connection;
use witgate_tests::upstream::{Peer, response};
use witgate_tests::{Upstream, Witgate, config};

/// What an upstream does behind its answer.
#[derive(Clone, Copy)]
enum Then {
    KeepsOpen,
    Closes,
    Resets,
}

/// What the client gets.
#[derive(Debug, PartialEq)]
enum Gets {
    /// A whole response, as this status with this body.
    Whole(u16, &'static str),
    /// A response of status 200 whose end is missing.
    CutOff,
}

use Gets::{CutOff, Whole};
use Then::{Closes, KeepsOpen, Resets};

const BAD_GATEWAY: Gets = Whole(502, "bad gateway\n");

type Case = (&'static str, &'static str, Then, Gets);

/// Answers a request for `/N` with the bytes of case N, and all others properly.
fn upstream(cases: &'static [Case]) -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            let Some((_, bytes, then, _)) = number(&request.head.start_line).map(|n| &cases[n])
            else {
                if peer.try_send(response("200 OK", &[], "sound")).is_err() {
                    return;
                }
                continue;
            };
            // The proxy may close before it has read all.
            let sent = peer.try_send(bytes);
            match then {
                KeepsOpen if sent.is_ok() => {}
                KeepsOpen | Closes => return,
                Resets => return reset(peer),
            }
        }
    })
}

/// The N of `GET /N HTTP/1.1`.
fn number(start_line: &str) -> Option<usize> {
    start_line.split([' ', '/']).nth(2)?.parse().ok()
}

fn reset(peer: &mut Peer) {
    rustix::net::sockopt::set_socket_linger(peer.stream(), Some(Duration::ZERO))
        .expect("a TCP socket lingers");
}

#[track_caller]
fn all(cases: &'static [Case]) {
    let upstream = upstream(cases);
    let witgate = Witgate::start(&config::relay(upstream.address()));
    for (n, (what, bytes, _, expected)) in cases.iter().enumerate() {
        let mut client = witgate.connect("main");
        client.send(format!(
            "GET /{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(&outcome(&mut client), expected, "{what}: {bytes:?}");

        // There is one worker: it would use the same upstream connection again.
        let next = witgate.get("main", "/next");
        assert_eq!((next.status(), next.text()), (200, "sound"), "{what}");
    }
}

#[track_caller]
fn outcome(client: &mut Connection) -> Gets {
    let head = client.read_head();
    match client.try_read_body(&head, false) {
        Ok(body) => {
            let body = String::from_utf8(body).expect("the bodies here are text");
            Whole(head.status(), body.leak())
        }
        Err(_) => {
            assert_eq!(head.status(), 200);
            CutOff
        }
    }
}

#[test]
fn a_length_is_one_number_or_nothing_is_believed() {
    all(&[
        (
            "RFC 9112 §6.3: two lengths that differ",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9110 §8.6: the same length twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            KeepsOpen,
            Whole(200, "hello"),
        ),
        (
            "RFC 9110 §8.6: a sign",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9110 §8.6: less than nothing",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9110 §8.6: more than there is in the world",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §6.3: a coding that is not chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §6.1: a coding in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Closes,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §6.3: a body that ends with the connection",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            Closes,
            Whole(200, "hello"),
        ),
    ]);
}

#[test]
fn a_body_that_is_not_as_was_said_breaks_off() {
    all(&[
        (
            "RFC 9112 §8: shorter than its length",
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
            Closes,
            CutOff,
        ),
        (
            "RFC 9112 §8: chunks without the last one",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Closes,
            CutOff,
        ),
        (
            "RFC 9112 §7.1: a chunk's size that is no number",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
            KeepsOpen,
            CutOff,
        ),
        (
            "RFC 9112 §7.1: a chunk without its end",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
            KeepsOpen,
            CutOff,
        ),
        (
            "RFC 9112 §7.1: a chunk's size that overflows",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            KeepsOpen,
            CutOff,
        ),
        (
            "a connection that is reset",
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
            Resets,
            CutOff,
        ),
    ]);
}

#[test]
fn what_comes_behind_a_response_is_nobodys() {
    all(&[
        (
            "RFC 9112 §9.2: more than its length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloEVIL",
            KeepsOpen,
            Whole(200, "hello"),
        ),
        (
            "RFC 9112 §9.2: a second response",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
            KeepsOpen,
            Whole(200, "hello"),
        ),
        (
            "RFC 9110 §15.3.5: a body behind a 204",
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nEVIL",
            KeepsOpen,
            Whole(204, ""),
        ),
        (
            "RFC 9112 §6.3: chunks behind a 204",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",
            KeepsOpen,
            Whole(204, ""),
        ),
        (
            "RFC 9110 §15.4.5: a body behind a 304",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nEVIL",
            KeepsOpen,
            Whole(304, ""),
        ),
        (
            "RFC 9112 §6.3: chunks behind a 304",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",
            KeepsOpen,
            Whole(304, ""),
        ),
        (
            "RFC 9112 §6.3: a length beside chunks",
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            KeepsOpen,
            Whole(200, "hello"),
        ),
        (
            "RFC 9110 §15.2: an interim response with a length",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            KeepsOpen,
            Whole(200, "hello"),
        ),
        (
            "RFC 9110 §15.2: nothing but an interim response",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            Closes,
            BAD_GATEWAY,
        ),
        (
            "RFC 9110 §15.2.2: a switch of protocols that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nEVIL",
            KeepsOpen,
            BAD_GATEWAY,
        ),
    ]);
}

#[test]
fn a_head_that_is_none_is_a_bad_gateway() {
    all(&[
        (
            "RFC 9112 §4: a status of two digits",
            "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §4: a status of four digits",
            "HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §4: a status that is no number",
            "HTTP/1.1 20x OK\r\nContent-Length: 0\r\n\r\n",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §4: a control character in the reason",
            "HTTP/1.1 200 O\u{1}K\r\nContent-Length: 0\r\n\r\n",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        ("HTTP/0.9", "hello world\n", Closes, BAD_GATEWAY),
        (
            "RFC 9112 §2.3: another version",
            "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §5.2: a folded line",
            "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §5.1: a space before the colon",
            "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9110 §5.5: NUL in a value",
            "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "RFC 9112 §2.2: a CR that ends no line",
            "HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 2\r\n\r\nok",
            KeepsOpen,
            BAD_GATEWAY,
        ),
        (
            "a head that breaks off",
            "HTTP/1.1 200 OK\r\nContent-Le",
            Closes,
            BAD_GATEWAY,
        ),
        ("a connection that is reset", "", Resets, BAD_GATEWAY),
    ]);
}

#[test]
fn a_head_or_its_chunks_do_not_fill_the_memory() {
    const MUCH: usize = 4_000_000;
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            let much = "a".repeat(MUCH);
            let bomb = match number(&request.head.start_line) {
                Some(0) => format!("HTTP/1.1 200 OK\r\nX-A: {much}\r\n\r\n"),
                Some(1) => format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: a\r\n".repeat(MUCH / 8)),
                Some(2) => {
                    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{much}\r\n")
                }
                Some(3) => format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: {much}\r\n\r\n"
                ),
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsound".to_owned(),
            };
            // The proxy closes long before the end.
            if peer.try_send(bomb).is_err() {
                return;
            }
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    for (n, expected) in [BAD_GATEWAY, BAD_GATEWAY, CutOff, CutOff]
        .iter()
        .enumerate()
    {
        let mut client = witgate.connect("main");
        client.send(format!(
            "GET /{n} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
        ));
        assert_eq!(&outcome(&mut client), expected, "bomb {n}");
        assert_eq!(witgate.get("main", "/next").text(), "sound");
    }
}

#[test]
fn interim_responses_without_end_are_no_answer_and_hold_up_nobody_else() {
    let upstream = Upstream::start(|peer| {
        let Some(request) = peer.next_request() else {
            return;
        };
        if number(&request.head.start_line).is_none() {
            peer.send(response("200 OK", &["Connection: close"], "sound"));
            return;
        }
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        // Until the proxy has had enough.
        while peer.try_send(&interim).is_ok() {}
    });
    let toml = config::relay(upstream.address()) + "response-timeout = '500ms'\n";
    let witgate = Witgate::start(&toml);
    let mut client = witgate.connect("main");

    client.send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(witgate.get("main", "/next").text(), "sound");

    assert_eq!(client.read_response().status(), 504);
}

#[test]
fn a_few_interim_responses_are_passed_over() {
    all(&[(
        "RFC 9110 §15.2: interim responses",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        KeepsOpen,
        Whole(200, "hello"),
    )]);
}

#[test]
fn a_body_behind_the_answer_to_a_head_request_is_nobodys() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            let answer = match request.head.start_line.starts_with("HEAD") {
                true if request.head.start_line.contains("chunked") => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n"
                }
                true => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
                false => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsound",
            };
            if peer.try_send(answer).is_err() {
                return;
            }
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    for path in ["/", "/chunked"] {
        let mut client = witgate.connect("main");
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.read_response_to_head().status(), 200);
        assert_eq!(witgate.get("main", "/next").text(), "sound");
        // The client's own connection is not out of step either.
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "sound");
    }
}

#[test]
fn an_answer_that_comes_before_the_body_leaves_neither_connection_out_of_step() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            let mut words = request.head.start_line.split(' ');
            let answer = match (words.next(), words.next()) {
                (Some("GET"), Some(target)) => response("200 OK", &[], target),
                _ => response("413 Content Too Large", &[], "early"),
            };
            if peer.try_send(answer).is_err() {
                return;
            }
            // What is behind an early answer is read as the next request, as a careless server would.
        }
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = witgate.connect("main");
    client.send(&head);
    assert_eq!(client.read_response().text(), "early");
    assert_eq!(witgate.get("main", "/next").text(), "/next");
    // The rest of the body is that, whether the connection is still there or not.
    client
        .try_send(format!("{body}GET /last HTTP/1.1\r\nHost: a\r\n\r\n"))
        .ok();
    if let Ok(Some(head)) = client.try_read_head() {
        assert_eq!(head.status(), 200);
        assert_eq!(client.read_body(&head, false), b"/last");
        client.finish_sending();
        client.expect_close();
    }
    assert_eq!(witgate.get("main", "/next").text(), "/next");
}
