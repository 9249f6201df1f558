//! Promise: one line per exchange says who asked for what, where it went, how it ended and what it took.

use serde_json::Value;
use witgate_tests::upstream::response;
use witgate_tests::witgate::LogLine;
use witgate_tests::{Upstream, Witgate, config};

fn access_line(witgate: &Witgate, path: &str) -> LogLine {
    witgate.log_line(&format!("the exchange for {path}"), |line| {
        line.message() == "exchange" && line.text("path") == Some(path)
    })
}

#[test]
fn an_exchange_leaves_one_line_with_all_that_is_known_of_it() {
    let upstream = Upstream::answering(|_| response("201 Created", &[], "hello"));
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send(
        "POST /things?secret=1 HTTP/1.1\r\nHost: example.test\r\nContent-Length: 3\r\n\r\nabc",
    );
    client.read_response();

    let line = access_line(&witgate, "/things");
    assert_eq!(line.level(), "INFO");
    assert_eq!(line.text("listener"), Some("main"));
    assert_eq!(line.text("route"), Some("all"));
    assert_eq!(
        line.text("upstream"),
        Some(upstream.address().to_string().as_str())
    );
    assert_eq!(line.text("method"), Some("POST"));
    assert_eq!(line.field("status").and_then(Value::as_u64), Some(201));
    assert_eq!(
        line.field("bytes_received").and_then(Value::as_u64),
        Some(3)
    );
    assert_eq!(line.field("bytes_sent").and_then(Value::as_u64), Some(5));
    assert!(
        line.text("request_id")
            .is_some_and(|id| !id.is_empty() && id.len() <= 128)
    );
    for time in ["duration_ms", "upstream_ms"] {
        assert!(line.field(time).is_some_and(Value::is_number), "{line:?}");
    }
    assert_eq!(line.text("outcome"), Some("complete"));
    assert!(
        !format!("{line:?}").contains("secret"),
        "a query may hold secrets: {line:?}"
    );
    assert_eq!(
        witgate
            .log()
            .iter()
            .filter(|line| line.message() == "exchange")
            .count(),
        1
    );
}

#[test]
fn an_upstreams_fault_is_told_with_its_reason() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET /cut-off HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_to_end().ok();

    let line = access_line(&witgate, "/cut-off");
    assert_eq!(line.text("outcome"), Some("failed"));
    assert_eq!(line.text("fault"), Some("upstream"));
    assert!(line.text("reason").is_some_and(|reason| !reason.is_empty()));
    assert_eq!(line.field("bytes_sent").and_then(Value::as_u64), Some(5));
}

#[test]
fn a_client_that_goes_away_is_told_apart_from_a_fault() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        peer.read_to_end().ok();
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head();
    client.read_exact(5);
    drop(client);

    let line = access_line(&witgate, "/left");
    assert_eq!(line.text("outcome"), Some("aborted"));
    assert_eq!(line.field("status").and_then(Value::as_u64), Some(200));
}

#[test]
fn every_exchange_has_an_id_of_its_own() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = Witgate::start(&config::relay(upstream.address()));

    let ids = ["/1", "/2"].map(|path| {
        assert_eq!(witgate.get("main", path).status(), 200);
        access_line(&witgate, path)
            .text("request_id")
            .expect("an id")
            .to_owned()
    });

    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_control_character_in_a_request_does_not_make_a_second_line() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = Witgate::start(&config::relay(upstream.address()));

    assert_eq!(witgate.get("main", "/a%0Ab").status(), 200);

    assert_eq!(
        access_line(&witgate, "/a%0Ab")
            .field("status")
            .and_then(Value::as_u64),
        Some(200)
    );
}
