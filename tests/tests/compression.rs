//! Promise: a route that says so compresses its responses for clients that take it, and holds nothing back for it.

use std::io::Read as _;
use std::sync::mpsc;

use witgate_tests::http::{Message, exchange};
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::{Upstream, Witgate, config};

fn compressing(upstream: &Upstream, compress: &str) -> Witgate {
    let keys = format!("path = \"/*\"\ncompress = {compress}");
    let config = config::relay(upstream.address()).replace("path = \"/*\"", &keys);
    Witgate::start(&config)
}

fn ask(witgate: &Witgate, path: &str, accepted: &str) -> Message {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {accepted}\r\nConnection: close\r\n\r\n"
    );
    exchange(witgate.address("main"), request)
}

/// As far as it can be read.
fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    // A stream that has not ended yet ends in an error, behind all that was flushed.
    let _cut_off = match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded),
        _ => zstd::stream::read::Decoder::new(bytes)
            .expect("a decoder")
            .read_to_end(&mut decoded),
    };
    decoded
}

/// 600 kB that can be made smaller.
fn large() -> String {
    let lines = (0..20_000).map(|number| format!("line {number}, and what it says\n"));
    lines.collect()
}

#[test]
fn a_large_text_arrives_smaller_and_whole_by_each_algorithm() {
    let upstream = Upstream::answering(|_| {
        let fields = ["Content-Type: text/plain", "ETag: \"x\""];
        response("200 OK", &fields, large())
    });
    let witgate = compressing(&upstream, "{}");
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br", "br"),
        ("br;q=0.5, gzip", "gzip"),
    ] {
        let answer = ask(&witgate, "/", accepted);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.header("etag"), Some("W/\"x\""));
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert!(
            answer.body.len() < 300_000,
            "{coding}: {}",
            answer.body.len()
        );
        assert!(
            decoded(coding, &answer.body) == large().as_bytes(),
            "{coding}"
        );
    }
    let plain = ask(&witgate, "/", "deflate, br;q=0");
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("etag"), Some("\"x\""));
    assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
    assert!(plain.body == large().as_bytes());
}

#[test]
fn what_an_upstream_compressed_or_forbids_to_is_left_alone() {
    let upstream = Upstream::answering(|request| {
        let text = "Content-Type: text/plain";
        let long = "x".repeat(5000);
        match request.head.start_line.split(' ').nth(1) {
            Some("/coded") => response("200 OK", &[text, "Content-Encoding: br"], long),
            Some("/forbidden") => response("200 OK", &[text, "Cache-Control: no-transform"], long),
            Some("/part") => response(
                "206 Partial Content",
                &[text, "Content-Range: bytes 0-4999/9000"],
                long,
            ),
            Some("/image") => response("200 OK", &["Content-Type: image/png"], long),
            Some("/short") => response("200 OK", &[text], "short"),
            _ => response("200 OK", &[text], long),
        }
    });
    let witgate = compressing(&upstream, "{ algorithms = [\"gzip\"] }");
    for (path, coding) in [
        ("/coded", Some("br")),
        ("/forbidden", None),
        ("/part", None),
        ("/image", None),
        ("/short", None),
        ("/", Some("gzip")),
    ] {
        let answer = ask(&witgate, path, "gzip");
        assert_eq!(answer.header("content-encoding"), coding, "{path}");
        let length = answer.header("content-length").is_some();
        assert_eq!(length, path != "/", "{path}");
    }
    let mut client = witgate.connect("main");
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.read_response_to_head();
    assert_eq!(head.header("content-encoding"), None);
    assert_eq!(
        head.header("content-length"),
        None,
        "that of GET is another one"
    );
    assert_eq!(head.header("vary"), Some("Accept-Encoding"));
    client.send("GET /short HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        client.read_response().text(),
        "short",
        "the connection is in step"
    );
}

#[test]
fn an_event_arrives_before_the_next_one_is_sent() {
    let (see, seen) = mpsc::channel::<()>();
    let seen = std::sync::Mutex::new(seen);
    let upstream = Upstream::start(move |peer| {
        if peer.next_request().is_none() {
            return;
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            peer.send(format!("{:x}\r\n{event}\r\n", event.len()));
            let seen = seen.lock().expect("one connection at a time");
            seen.recv_timeout(PATIENCE).expect("the client sees it");
        }
        peer.send("0\r\n\r\n");
    });
    let witgate = compressing(&upstream, "{}");
    for coding in ["gzip", "br", "zstd"] {
        let mut client = witgate.connect("main");
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {coding}\r\n\r\n"
        ));
        let head = client.read_head();
        assert_eq!(head.header("content-encoding"), Some(coding));
        let mut coded = Vec::new();
        let mut expected = String::new();
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            expected.push_str(event);
            while decoded(coding, &coded).len() < expected.len() {
                let chunk = client.try_read_chunk().expect("more of it");
                coded.extend(chunk.expect("it has not ended"));
            }
            assert_eq!(decoded(coding, &coded), expected.as_bytes(), "{coding}");
            see.send(()).expect("the upstream waits for it");
        }
        while let Some(chunk) = client.try_read_chunk().expect("the end of it") {
            coded.extend(chunk);
        }
        assert_eq!(decoded(coding, &coded), expected.as_bytes(), "{coding}");
    }
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9000\r\n\r\nonly this");
        }
    });
    let witgate = compressing(&upstream, "{}");
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.read_head();
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    assert!(client.try_read_chunked().is_err(), "there is no last chunk");
}
