//! Promise: trailers pass both ways as far as they may, plugins read and write them, and no trailer can do a header's
//! work.

use std::io;

use witgate_tests::http::Connection;
use witgate_tests::{Upstream, Witgate, config};

use super::through_guest;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

/// An upstream that answers every request with this, and reads chunked bodies to the end of their trailers.
fn answering(answer: &'static str) -> Upstream {
    Upstream::start(move |peer| {
        while peer.next_request().is_some() {
            peer.send(answer);
        }
    })
}

/// An upstream that keeps the trailers of what it is sent, as its answer, and does not mind a request that breaks off.
fn echoing_trailers() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            let Ok(trailers) = try_read_trailers(peer, &request.head) else {
                return;
            };
            let announced = request.header("trailer").unwrap_or("nothing");
            let said = format!("{announced}: {}", trailers.join(", "));
            peer.send(witgate_tests::upstream::response("200 OK", &[], said));
        }
    })
}

/// The trailer lines behind a chunked body, in order.
fn try_read_trailers(
    connection: &mut Connection,
    head: &witgate_tests::http::Head,
) -> io::Result<Vec<String>> {
    assert!(
        head.has_token("transfer-encoding", "chunked"),
        "trailers need chunks: {head:?}"
    );
    Ok(connection.try_read_chunked()?.1)
}

fn read_trailers(connection: &mut Connection, head: &witgate_tests::http::Head) -> Vec<String> {
    try_read_trailers(connection, head)
        .unwrap_or_else(|error| panic!("cannot read the body: {error}"))
}

fn upload(witgate: &Witgate, fields: &str, trailers: &str) -> String {
    let mut client = witgate.connect("main");
    client.send(format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n4\r\nbody\r\n0\r\n{trailers}\r\n"
    ));
    client.read_response().text().to_owned()
}

#[test]
fn those_of_a_request_reach_the_upstream() {
    let upstream = echoing_trailers();
    let witgate = Witgate::start(&config::relay(upstream.address()));

    let said = upload(
        &witgate,
        "Trailer: X-Sum, Host\r\n",
        "X-Sum: 1\r\nHost: forged\r\nX-Sum: 2\r\nX-Other: 3\r\n",
    );

    assert_eq!(said, "x-sum: x-sum: 1, x-sum: 2");
    assert_eq!(upload(&witgate, "", "X-Other: 3\r\n"), "nothing: ");
}

#[test]
fn those_of_a_response_reach_a_client_that_takes_them_and_the_connections_stay() {
    let upstream = answering(concat!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, content-length\r\n\r\n",
        "5\r\nhello\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\nset-cookie: a=b\r\n\r\n"
    ));
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
        let head = client.read_head();
        assert_eq!(head.header("trailer"), Some("x-sum"));
        assert_eq!(read_trailers(&mut client, &head), ["x-sum: 1"]);
    }
    client.send("GET /without HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();
    assert_eq!(head.header("trailer"), None);
    assert!(read_trailers(&mut client, &head).is_empty());

    assert_eq!(upstream.accepted(), 1, "its connection was not used again");
    let received = upstream.received();
    let asked = received.iter().map(|r| r.request.header("te"));
    assert_eq!(
        asked.collect::<Vec<_>>(),
        [Some("trailers"), Some("trailers"), None]
    );
    for _ in 0..2 {
        witgate.log_line("a complete exchange", |line| {
            line.message() == "exchange" && line.text("outcome") == Some("complete")
        });
    }
    let aborted = witgate
        .log()
        .iter()
        .any(|line| line.text("outcome") == Some("aborted"));
    assert!(!aborted, "a response with trailers counts as cut off");
}

#[test]
fn a_plugin_adds_one_to_a_request_that_is_sent_on_as_it_comes() {
    let upstream = echoing_trailers();
    let witgate = through_guest(&upstream, "");

    let said = upload(
        &witgate,
        "x-do: sum\r\nTrailer: x-before\r\n",
        "x-before:  and before\r\n",
    );

    // What the guest had not announced, it was told so.
    witgate.log_line("a refused trailer", |line| {
        line.message() == "trailer `x-unannounced` was not announced in the head"
    });
    assert!(said.starts_with("x-before, x-sum: "), "{said}");
    assert!(said.contains("x-sum: 4and before"), "{said}");
}

#[test]
fn a_held_body_with_trailers_goes_out_in_chunks_and_announces_them_all() {
    let upstream = echoing_trailers();
    let witgate = through_guest(&upstream, "");

    let said = upload(&witgate, "x-do: sum-held\r\n", "x-late: 1\r\n");

    for expected in ["x-late: 1", "x-sum: 4", "x-unannounced: 1"] {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
}

#[test]
fn a_plugin_adds_one_to_a_response_for_a_client_that_takes_it() {
    let answer = [CHUNKED, "\r\n5\r\nhello\r\n0\r\n\r\n"].concat();
    let upstream = answering(answer.leak());
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");

    for order in ["sum-back", "sum-held-back"] {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nx-do: {order}\r\n\r\n"
        ));
        let head = client.read_head();
        assert!(head.has_token("trailer", "x-sum"), "{order}: {head:?}");
        let trailers = read_trailers(&mut client, &head);
        assert!(
            trailers.contains(&"x-sum: 5".to_owned()),
            "{order}: {trailers:?}"
        );
    }
    for (order, length) in [("sum-back", None), ("sum-held-back", Some("5"))] {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nx-do: {order}\r\n\r\n"
        ));
        let answer = client.read_response();
        assert_eq!(answer.text(), "hello", "{order}");
        assert_eq!(answer.header("content-length"), length, "{order}");
        assert_eq!(answer.header("trailer"), None, "{order}");
    }
}

#[test]
fn too_many_are_refused_and_the_next_exchange_is_served() {
    let upstream = echoing_trailers();
    let text = config::relay(upstream.address())
        .replace("bind = ", "limits.header-size = \"4KiB\"\nbind = ");
    let witgate = Witgate::start(&text);
    let mut client = witgate.connect("main");
    let large = format!("x-sum: {}\r\n", "x".repeat(8 << 10));

    client.send(format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n4\r\nbody\r\n0\r\n{large}\r\n"
    ));

    assert_eq!(client.read_response().status(), 400);
    let said = upload(&witgate, "Trailer: x-sum\r\n", "x-sum: 1\r\n");
    assert_eq!(said, "x-sum: x-sum: 1");
}
