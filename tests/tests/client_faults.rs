//! Promise: a client that is slow, gone, greedy or mistaken costs itself its connection, and nobody else anything; and one
//! that is refused learns why.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;

use rustix::net::sockopt;
use witgate_tests::http::Connection;
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::{Upstream, Witgate, config, eventually};

/// More than sockets and the proxy hold together, so that whoever sends it goes on while it is refused.
const LARGE: usize = 12 << 20;

fn hello() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            if peer.try_read_body(&request.head, false).is_err() {
                return;
            }
            peer.send(response("200 OK", &[], "hello"));
        }
    })
}

fn relay(upstream: &Upstream, limits: &str) -> Witgate {
    let listener = format!("{limits}\nbind = ");
    Witgate::start(&config::relay(upstream.address()).replace("bind = ", &listener))
}

/// As little as possible is held for a client that reads nothing, so that it is noticed soon.
fn with_small_buffer(client: Connection) -> Connection {
    sockopt::set_socket_recv_buffer_size(client.stream(), 16 << 10).expect("a buffer has a size");
    client
}

/// Sends all of it before it looks for an answer, as simple clients do.
fn send_all_then_read(witgate: &Witgate, request: &str, more: &[u8]) -> Result<u16, String> {
    let mut client = witgate.connect("main");
    let sent = client
        .try_send(request)
        .and_then(|()| client.try_send(more));
    match client.try_read_head() {
        Ok(Some(head)) => Ok(head.status()),
        Ok(None) => Err(format!("closed without an answer; sent: {sent:?}")),
        Err(error) => Err(format!("{error}; sent: {sent:?}")),
    }
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let upstream = hello();
    let witgate = relay(&upstream, "limits.body-size = \"1MiB\"");
    let length = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        ("RFC 9110 §15.5.14: too long, as it says", 413, length),
        (
            "RFC 9110 §15.5.14: too long, as it turns out",
            413,
            format!("{chunked}{LARGE:x}\r\n"),
        ),
        (
            "RFC 9112 §7.1: no chunk",
            400,
            format!("{chunked}1\r\nab\r\n"),
        ),
        (
            "RFC 9112 §2.2: LF alone",
            400,
            "POST / HTTP/1.1\nHost: a\r\n\r\n".into(),
        ),
        (
            "RFC 9110 §15.5.1: no Host",
            400,
            format!("POST / HTTP/1.1\r\nContent-Length: {LARGE}\r\n\r\n"),
        ),
        (
            "RFC 6585 §5: a head without end",
            431,
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: ".into(),
        ),
    ];
    let more = vec![b'a'; LARGE];
    for (what, status, request) in cases {
        assert_eq!(
            send_all_then_read(&witgate, &request, &more),
            Ok(status),
            "{what}"
        );
    }
}

#[test]
fn a_client_that_is_refused_before_its_body_is_not_asked_for_it() {
    let upstream = hello();
    let witgate = relay(&upstream, "limits.body-size = \"10B\"");
    let mut client = witgate.connect("main");
    // RFC 9110 §10.1.1: a final status instead of 100, and the body may then never come.
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    let head = client.read_head();
    assert_eq!(head.status(), 413);
    assert!(head.has_token("connection", "close"), "{head:?}");
    client.read_body(&head, true);
    client.finish_sending();
    client.expect_close();
    assert_eq!(upstream.received(), []);
}

#[test]
fn a_client_that_reads_nothing_of_a_large_response_loses_it_and_its_upstream() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [
                b"10000\r\n".to_vec(),
                vec![b'r'; 0x1_0000],
                b"\r\n".to_vec(),
            ]
            .concat();
            // Without end: until the proxy gives up, or the test does.
            while peer.try_send(&chunk).is_ok() {}
        }
    });
    let witgate = relay(&upstream, "limits.body-timeout = \"300ms\"");
    let mut client = with_small_buffer(witgate.connect("main"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_head().status(), 200);

    eventually("the upstream's connection to be closed", || {
        (upstream.accepted() == 1 && upstream.open() == 0).then_some(())
    });
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_it() {
    let body = vec![b'r'; LARGE];
    let expected = body.clone();
    let upstream = Upstream::answering(move |_| response("200 OK", &[], &body));
    let witgate = relay(&upstream, "limits.body-timeout = \"5s\"");
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();
    // Small pieces, each of which lets the window open a little.
    let mut read = Vec::with_capacity(LARGE);
    while read.len() < LARGE {
        read.extend(client.read_exact((LARGE - read.len()).min(100_000)));
    }
    assert_eq!(head.status(), 200);
    assert!(read == expected);
}

#[test]
fn a_client_that_pipelines_and_reads_nothing_is_not_read_either() {
    const MOST: usize = 64 << 20;
    let large = vec![b'r'; 1 << 20];
    let upstream = Upstream::answering(move |_| response("200 OK", &[], &large));
    let witgate = relay(&upstream, "limits.body-timeout = \"300ms\"");
    let client = with_small_buffer(witgate.connect("main"));
    let mut stream = client.stream();
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut sent = 0;
    // Ends when the proxy does not take more, which closes the connection in the end.
    while sent < MOST && stream.write_all(requests.as_bytes()).is_ok() {
        sent += requests.len();
    }
    assert!(
        sent < MOST,
        "{sent} bytes of requests were taken from a client that reads nothing"
    );
    assert_eq!(witgate.get("main", "/").status(), 200);
}

#[test]
fn a_client_that_resets_within_its_upload_ends_its_upstream_request() {
    let (seen, half) = mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        let Some(request) = peer.next_request_head() else {
            return;
        };
        if request.head.start_line.starts_with("POST") {
            peer.read_exact(4);
            seen.send(()).ok();
            let ends = peer.read_to_end();
            assert!(
                ends.map_or(true, |more| more.is_empty()),
                "more of the body came"
            );
        } else {
            peer.send(response("200 OK", &[], "hello"));
        }
    });
    let witgate = relay(&upstream, "");
    for by_reset in [true, false] {
        let mut client = witgate.connect("main");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        half.recv_timeout(PATIENCE)
            .expect("half of the body arrives");
        match by_reset {
            true => client.reset(),
            false => drop(client),
        }
        eventually("the upstream's connection to be closed", || {
            (upstream.open() == 0).then_some(())
        });
    }
    assert_eq!(witgate.get("main", "/").text(), "hello");
}

#[test]
fn a_body_that_comes_byte_by_byte_arrives() {
    let upstream = hello();
    let witgate = relay(&upstream, "");
    let mut client = witgate.connect("main");
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: u\r\n\r\n";
    for byte in request.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn behind_the_last_request_of_a_connection_nothing_is_read_and_its_answer_arrives() {
    let upstream = hello();
    let witgate = relay(&upstream, "");
    // RFC 9112 §9.6: the client says that it is the last, and goes on.
    let request = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let more = "GET /more HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    assert_eq!(
        send_all_then_read(&witgate, request, more.as_bytes()),
        Ok(200)
    );
    let received = upstream.received();
    assert_eq!(received.len(), 1, "{received:?}");
}

#[test]
fn a_client_that_only_half_closes_and_never_leaves_holds_no_upstream() {
    let upstream = hello();
    let witgate = relay(&upstream, "");
    let client: Connection = witgate.connect("main");
    client
        .stream()
        .shutdown(Shutdown::Write)
        .expect("it is open");
    // Whatever it gets, it is the end.
    let mut client = client;
    match client.read_to_end() {
        Ok(bytes) => assert_eq!(bytes, b""),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Refusals of other clients at the same time are no reason to keep anybody waiting.
#[test]
fn many_refused_clients_at_once_hold_nobody_up() {
    let upstream = hello();
    let witgate = relay(&upstream, "");
    let refused: Vec<_> = (0..50)
        .map(|_| {
            let mut client = witgate.connect("main");
            client.send("GET / HTTP/1.1\nHost: a\r\n\r\n");
            client
        })
        .collect();
    assert_eq!(witgate.get("main", "/").text(), "hello");
    let read = refused
        .into_iter()
        .map(|mut client| thread::spawn(move || client.read_response().status()));
    for status in read.collect::<Vec<_>>() {
        assert_eq!(status.join().expect("a client"), 400);
    }
}
