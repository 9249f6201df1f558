//! Promise: a message has one reading. What somebody else in the chain might frame otherwise is answered with 400, ends
//! its connection, and reaches no upstream, nor does anything behind it.

use std::io::ErrorKind;

use witgate_tests::http::Connection;
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, config};

/// What stands behind each refused message: to be read by nobody.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers every request when it is whole, and does not mind one that breaks off.
fn upstream() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            if peer.try_read_body(&request.head, false).is_err() {
                return;
            }
            peer.send(response("200 OK", &[], "hello"));
        }
    })
}

/// The statuses of all responses up to the close.
fn statuses(client: &mut Connection) -> Vec<u16> {
    let mut statuses = Vec::new();
    loop {
        let head = match client.try_read_head() {
            Ok(Some(head)) => head,
            Ok(None) => return statuses,
            // What it sent was not wanted any more.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return statuses,
            Err(error) => panic!("neither a response nor a close: {error}"),
        };
        statuses.push(head.status());
        client
            .try_read_body(&head, true)
            .expect("the body is as long as its head says");
    }
}

/// Sends each request with another one behind it, and expects a refusal of both.
#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    let upstream = upstream();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    for (what, request) in cases {
        let mut client = witgate.connect("main");
        client.send(format!("{request}{SMUGGLED}"));
        assert_eq!(statuses(&mut client), [400], "{what}: {request:?}");
    }
    let received = upstream.received();
    let smuggled = received
        .iter()
        .find(|received| received.request.head.start_line.contains("smuggled"));
    assert_eq!(smuggled, None);

    // Nothing of it is left in what the next client gets.
    let mut client = witgate.connect("main");
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn a_request_line_has_one_form() {
    refused(&[
        (
            "RFC 9112 §3: two spaces",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §3: a tab for a space",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        ("RFC 9112 §3: no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "RFC 9112 §3: more behind the version",
            "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §3: white space before it",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §2.3: the name in lower case",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §2.3: a version of one digit",
            "GET / HTTP/1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §2.3: the version of another protocol",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §2.3: a version that nobody speaks",
            "GET / HTTP/1.9\r\nHost: a\r\n\r\n",
        ),
        ("RFC 1945 §4.1: HTTP/0.9", "GET /\r\n\r\n"),
        (
            "RFC 9110 §5.6.2: a method that is no token",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 3986 §2: a NUL in the target",
            "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 3986 §2: a CR in the target",
            "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §3.2: a target of no form",
            "GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §2.2: two blank lines before it",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        ("no HTTP at all", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n"),
    ]);
}

#[test]
fn a_line_of_a_head_ends_with_crlf_and_nothing_else() {
    refused(&[
        (
            "RFC 9112 §2.2: LF ends the request line",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
        ),
        (
            "RFC 9112 §2.2: LF ends a field",
            "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
        ),
        (
            "RFC 9112 §2.2: LF ends the head",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ),
        (
            "RFC 9112 §2.2: nothing but LF",
            "GET / HTTP/1.1\nHost: a\n\n",
        ),
        (
            "RFC 9112 §2.2: CR alone",
            "GET / HTTP/1.1\r\nHost: a\rX-A: b\r\n\r\n",
        ),
        (
            "RFC 9112 §2.2: two CR",
            "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        ),
        (
            "RFC 9112 §5.2: a folded field",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
        ),
        (
            "RFC 9112 §5.2: a length that is folded",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\nabc",
        ),
        (
            "RFC 9112 §2.2: white space before the first field",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        ),
    ]);
}

#[test]
fn a_field_has_a_name_a_colon_and_a_value() {
    refused(&[
        (
            "RFC 9112 §5.1: a space before the colon",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
        ),
        (
            "RFC 9112 §5.1: a tab before the colon",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "RFC 9110 §5.1: no colon",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n",
        ),
        (
            "RFC 9110 §5.1: no name",
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        ),
        (
            "RFC 9110 §5.6.2: a space in the name",
            "GET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n",
        ),
        (
            "RFC 9110 §5.6.2: a NUL in the name",
            "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n",
        ),
        (
            "RFC 9110 §5.6.2: a vertical tab before the name",
            "GET / HTTP/1.1\r\nHost: a\r\n\x0bTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "RFC 9110 §5.5: a NUL in the value",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        ),
        (
            "RFC 9110 §5.5: a control byte in the value",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x01c\r\n\r\n",
        ),
        (
            "RFC 9110 §5.5: DEL in the value",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x7fc\r\n\r\n",
        ),
    ]);
}

#[test]
fn there_is_one_host_and_it_is_one() {
    refused(&[
        ("RFC 9112 §3.2: none", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
        (
            "RFC 9112 §3.2: two",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
        (
            "RFC 9112 §3.2: the same twice",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        ),
        (
            "RFC 9110 §7.2: a list",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        ),
        (
            "RFC 9110 §7.2: a quotation mark",
            "GET / HTTP/1.1\r\nHost: x\"},\"y\":{\"z\r\n\r\n",
        ),
        (
            "RFC 9110 §4.2.4: user information",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        ),
        (
            "RFC 9110 §7.2: a path",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        ),
        (
            "RFC 9110 §7.2: a port that is none",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        ),
        (
            "RFC 9110 §4.2.4: user information in the target",
            "GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
        ),
    ]);
}

#[test]
fn there_is_one_length_and_it_is_a_number() {
    let cases = [
        ("RFC 9112 §6.3: two that differ", "3\r\nContent-Length: 4"),
        ("RFC 9112 §6.3: the same twice", "3\r\nContent-Length: 3"),
        ("RFC 9112 §6.3: a list", "3, 4"),
        ("RFC 9112 §6.3: a list of the same", "3, 3"),
        ("RFC 9110 §8.6: a sign", "+3"),
        ("RFC 9110 §8.6: a negative one", "-3"),
        ("RFC 9110 §8.6: hexadecimal", "0x3"),
        ("RFC 9110 §8.6: a fraction", "3.0"),
        ("RFC 9110 §8.6: nothing", ""),
        ("RFC 9110 §8.6: a word", "three"),
        ("RFC 9110 §8.6: a space in it", "3 3"),
        ("RFC 9110 §8.6: quoted", "\"3\""),
        ("RFC 9110 §8.6: more than 64 bits", "18446744073709551619"),
    ];
    let cases = cases.map(|(what, value)| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\nabc");
        (what, head)
    });
    let cases: Vec<(&str, &str)> = cases.iter().map(|(what, head)| (*what, &**head)).collect();
    refused(&cases);
}

#[test]
fn there_is_one_coding_and_it_is_chunked() {
    let cases = [
        (
            "RFC 9112 §6.1: beside a length",
            "chunked\r\nContent-Length: 5",
        ),
        (
            "RFC 9112 §6.1: beside a length of nothing",
            "chunked\r\nContent-Length: 0",
        ),
        (
            "RFC 9112 §6.1: twice",
            "chunked\r\nTransfer-Encoding: chunked",
        ),
        ("RFC 9112 §6.1: twice in one", "chunked, chunked"),
        (
            "RFC 9112 §6.1: with identity behind",
            "chunked\r\nTransfer-Encoding: identity",
        ),
        (
            "RFC 9112 §6.1: with identity before",
            "identity\r\nTransfer-Encoding: chunked",
        ),
        ("RFC 9112 §6.1: chunked not last", "chunked, gzip"),
        ("RFC 9112 §6.1: another before it", "gzip, chunked"),
        ("RFC 9112 §7: unknown", "xchunked"),
        ("RFC 9112 §7: with a parameter", "chunked;q=1"),
        ("RFC 9112 §7: quoted", "\"chunked\""),
        ("RFC 9112 §7: a space in it", "chu nked"),
        ("RFC 9112 §7: a vertical tab before it", "\x0bchunked"),
        ("RFC 9112 §7: nothing", ""),
    ];
    let cases = cases.map(|(what, value)| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ";
        (what, format!("{head}{value}\r\n\r\n0\r\n\r\n"))
    });
    let mut cases: Vec<(&str, &str)> = cases.iter().map(|(what, head)| (*what, &**head)).collect();
    cases.extend([
        ("RFC 9112 §6.1: behind a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("RFC 9112 §6.1: in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ]);
    refused(&cases);
}

#[test]
fn a_chunked_body_has_one_end() {
    let cases = [
        ("RFC 9112 §7.1: no size", "\r\nabc\r\n0\r\n\r\n"),
        (
            "RFC 9112 §7.1: a size that is none",
            "g\r\nabc\r\n0\r\n\r\n",
        ),
        ("RFC 9112 §7.1: a sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1: a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1: 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        (
            "RFC 9112 §7.1: more than 64 bits",
            "10000000000000003\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1: a space behind the size",
            "3 \r\nabc\r\n0\r\n\r\n",
        ),
        ("RFC 9112 §7.1: LF behind the size", "3\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1: CR behind the size", "3\rabc\r\n0\r\n\r\n"),
        (
            "RFC 9112 §7.1.1: LF ends an extension",
            "3;a\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.1: LF within an extension",
            "3;a\nb\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.1: NUL within an extension",
            "3;a=\0\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.1: a control byte within an extension",
            "3;a=\x01\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.1: CR within an extension",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.1: CR within an extension of the last chunk",
            "3\r\nabc\r\n0;\r\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1: a space before an extension",
            "3 ;a\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.2: a trailer without a colon",
            "3\r\nabc\r\n0\r\nX-A\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1.2: a NUL in a trailer",
            "3\r\nabc\r\n0\r\nX-A: \0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1: LF behind the content",
            "3\r\nabc\n0\r\n\r\n",
        ),
        (
            "RFC 9112 §7.1: more than the size",
            "3\r\nabcd\r\n0\r\n\r\n",
        ),
        ("RFC 9112 §7.1: less than the size", "3\r\nab\r\n0\r\n\r\n"),
        (
            "RFC 9112 §7.1.2: LF ends the last chunk",
            "3\r\nabc\r\n0\n\r\n",
        ),
        (
            "RFC 9112 §7.1.2: LF ends the trailers",
            "3\r\nabc\r\n0\r\n\n",
        ),
        (
            "RFC 9112 §7.1.2: LF ends a trailer",
            "3\r\nabc\r\n0\r\nX-A: b\n\r\n",
        ),
        (
            "RFC 9112 §7.1.2: a folded trailer",
            "3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n",
        ),
    ];
    let cases = cases.map(|(what, body)| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        (what, format!("{head}{body}"))
    });
    let cases: Vec<(&str, &str)> = cases.iter().map(|(what, head)| (*what, &**head)).collect();
    refused(&cases);
}

#[test]
fn what_has_one_reading_is_served() {
    let upstream = upstream();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost:a\r\n\r\n",
        "POST / HTTP/1.1\r\nhOST: \t a \t \r\ncontent-length:3\r\n\r\n\nb\n",
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tCHUNKED \r\n\r\n00003;x;y=\"z\"\r\n\nb\n\r\n000\r\nX-A: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: caf\u{e9}\r\nX-B:\r\n\r\n",
    ] {
        client.send(request);
        assert_eq!(client.read_response().status(), 200, "{request:?}");
    }
    assert_eq!(upstream.received().len(), 5);
}

#[test]
fn behind_a_request_for_another_protocol_nothing_is_read_as_http_until_it_is_answered() {
    let upstream = upstream();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";

    let mut client = witgate.connect("main");
    client.send(format!("{request}{SMUGGLED}"));
    assert_eq!(statuses(&mut client), [200]);
    assert_eq!(upstream.received().len(), 1);

    // And afterwards there is one reading again.
    let mut client = witgate.connect("main");
    for _ in 0..2 {
        client.send(request);
        assert_eq!(client.read_response().status(), 200);
    }
    client.send(format!("GET / HTTP/1.1\nHost: a\r\n\r\n{SMUGGLED}"));
    assert_eq!(statuses(&mut client), [400]);
    assert_eq!(upstream.received().len(), 3);
}

#[test]
fn behind_what_is_refused_nothing_is_read_and_before_it_everything_is_answered() {
    let upstream = upstream();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let sound = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = witgate.connect("main");
    client.send(format!(
        "{sound}{sound}GET / HTTP/1.1\nHost: a\r\n\r\n{SMUGGLED}"
    ));
    assert_eq!(statuses(&mut client), [200, 200, 400]);
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_client_cannot_take_framing_or_authority_out_of_the_proxys_hands() {
    let upstream = upstream();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let body = "GET /in-the-body HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", body.len());
    for fields in [
        // RFC 9110 §7.6.1: what belongs to the connection is the sender's word.
        "Connection: content-length\r\n",
        "Connection: close, host, content-length\r\n",
        "Connection: keep-alive, transfer-encoding\r\n",
        // RFC 9110 §7.8: HTTP/2 by an upgrade, which RFC 9113 withdrew.
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        // RFC 9110 §10.1.1: an expectation that nobody knows.
        "Expect: 200-ok\r\n",
        // Fields that only look like those of the framing.
        "Content_Length: 0\r\nTransfer_Encoding: chunked\r\nX-Content-Length: 0\r\n",
    ] {
        let mut client = witgate.connect("main");
        client.send(format!(
            "POST /framed HTTP/1.1\r\nHost: a\r\n{length}{fields}\r\n{body}"
        ));
        assert_eq!(client.read_response().status(), 200, "{fields}");
    }
    for received in upstream.received() {
        let head = &received.request.head;
        assert_eq!(head.start_line, "POST /framed HTTP/1.1");
        assert_eq!(head.header("host"), Some("a"));
        assert_eq!(
            head.header("content-length"),
            Some(&*body.len().to_string())
        );
        for gone in ["transfer-encoding", "upgrade", "http2-settings"] {
            assert_eq!(head.header(gone), None, "{head:?}");
        }
    }
    assert_eq!(upstream.received().len(), 6);
}
