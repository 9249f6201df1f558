//! Promise: plugins are told once how an exchange ended, after the client has all of it, and no exchange is the worse
//! for what they do then.

use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};

use serde_json::Value;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, config, eventually};

use super::{component, through_guest, through_two, told};

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

#[track_caller]
fn assert_says(line: &str, facts: &[&str]) {
    for fact in facts {
        assert!(line.contains(fact), "no {fact:?} in {line:?}");
    }
}

#[test]
fn what_was_received_and_sent_and_how_long_it_took_is_told() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");

    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.read_response().text(), "hello");

    let line = told(&witgate, "/a");
    assert_says(
        line.message(),
        &[
            "end=Complete status=Some(200) received=3 sent=5",
            "upstream=true timed=true answered=None",
            "seen=Some(\"/a\")",
            "through=Some(\"\")",
        ],
    );
    assert_eq!(line.text("route"), Some("all"));
    let access = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(line.text("request_id"), access.text("request_id"));
    assert_eq!(access.text("attributes"), Some("guest.seen=/a"));
}

#[test]
fn whoever_was_passed_or_answered_is_told_and_the_inner_one_first() {
    let upstream = hello();
    let witgate = through_two(&upstream);
    let ask = |order: &str, path: &str| {
        let mut client = witgate.connect("main");
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nx-do: {order}\r\n\r\n"
        ));
        client.read_response().status()
    };
    let tellers = |path: &str| -> Vec<String> {
        let start = format!("over: {path} ");
        let log = witgate.log();
        let lines = log.iter().filter(|line| line.message().starts_with(&start));
        lines
            .filter_map(|line| line.text("plugin").map(str::to_owned))
            .collect()
    };

    assert_eq!(ask("", "/both"), 200);
    assert_eq!(ask("outer:answer", "/outer"), 200);
    assert_eq!(ask("inner:fail", "/failed"), 500);
    assert_eq!(ask("inner:answer-back", "/back"), 200);
    // One after the other, so when this is told of, all are.
    assert_eq!(ask("", "/last"), 200);
    eventually("both are told of the last", || {
        (tellers("/last").len() == 2).then_some(())
    });

    assert_eq!(tellers("/both"), ["inner", "outer"]);
    assert_eq!(tellers("/outer"), ["outer"]);
    assert_eq!(tellers("/failed"), ["outer"]);
    assert_eq!(tellers("/back"), ["inner", "outer"]);
    assert_says(told(&witgate, "/both").message(), &["earlier="]);
    let outer = |path: &str| {
        let start = format!("over: {path} ");
        witgate.log_line("what the outer one tells", |line| {
            line.message().starts_with(&start) && line.text("plugin") == Some("outer")
        })
    };
    assert_says(outer("/both").message(), &["earlier=yes"]);
    assert_says(
        outer("/outer").message(),
        &["answered=Some(\"outer\")", "upstream=false"],
    );
    assert_says(
        outer("/failed").message(),
        &["end=Failed(Plugin, ", "status=Some(500)", "answered=None"],
    );
    assert_says(
        outer("/back").message(),
        &["answered=Some(\"inner\")", "upstream=true"],
    );
}

#[test]
fn a_client_that_leaves_before_its_answer_is_told_of_with_its_notes() {
    let (arrived, arrival) = channel();
    let arrived = Mutex::new(arrived);
    let done = Arc::new(Barrier::new(2));
    let upstream = Upstream::start({
        let done = done.clone();
        move |peer| {
            if peer.next_request().is_some() {
                let sent = arrived.lock().map(|arrived| arrived.send(()).is_ok());
                assert!(sent.is_ok_and(|sent| sent), "the test still waits");
                done.wait();
            }
        }
    });
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    arrival.recv().expect("the request arrives");

    client.reset();

    let line = told(&witgate, "/left");
    done.wait();
    assert_says(
        line.message(),
        &[
            "end=ClientLeft status=None",
            "sent=0 upstream=true",
            "through=None",
        ],
    );
    let access = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(access.text("attributes"), Some("guest.seen=/left"));
}

#[test]
fn a_response_that_is_cut_off_is_told_of_as_its_upstreams_fault() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
    });
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");

    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_to_end().ok();

    assert_says(
        told(&witgate, "/cut").message(),
        &["end=Failed(Upstream, ", "status=Some(200)", "sent=5"],
    );
}

#[test]
fn the_end_of_a_tunnel_is_told_with_its_bytes() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n",
        );
        assert_eq!(peer.read_exact(4), b"ping");
        peer.send("pong!");
    });
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");

    client.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(client.read_head().status(), 101);
    client.send("ping");
    assert_eq!(client.read_exact(5), b"pong!");
    client.finish_sending();

    assert_says(
        told(&witgate, "/tunnel").message(),
        &[
            "end=Complete status=Some(101) received=4 sent=5",
            "seen=Some(\"/tunnel\")",
        ],
    );
    let upgraded = witgate.log_line("the upgrade", |line| line.message() == "upgraded");
    assert_eq!(upgraded.text("attributes"), Some("guest.seen=/tunnel"));
}

#[test]
fn a_hook_that_fails_at_the_end_is_logged_and_harms_nobody() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "");
    let mut client = witgate.connect("main");

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nx-do: fail-at-the-end\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }

    let line = witgate.log_line("the failure", |line| {
        line.message()
            .contains("gave up in on-complete: asked to, at the end")
    });
    assert_eq!(line.text("kind"), Some("error"));
    assert_eq!(line.text("route"), Some("all"));
}

#[test]
fn records_are_sent_off_the_clients_clock_and_a_stop_waits_for_them() {
    let release = Arc::new(Barrier::new(2));
    let collector = Upstream::start({
        let release = release.clone();
        move |peer| {
            if peer.next_request().is_some() {
                release.wait();
                peer.send(response("204 No Content", &[], ""));
            }
        }
    });
    let upstream = hello();
    let origin = format!("http://{}", collector.address());
    let witgate = through_guest(
        &upstream,
        &format!(
            "config.tell = \"{origin}/\"\ngrant.http-client = {{ origins = [\"{origin}\"], timeout = \"60s\" }}"
        ),
    );

    // The answer is there although nobody takes the record yet.
    assert_eq!(witgate.get("main", "/sent").text(), "hello");
    eventually("the collector has the record", || {
        let received = collector.received();
        received
            .iter()
            .any(|record| record.request.text().starts_with("over: /sent "))
            .then_some(())
    });

    let address = witgate.address("main");
    let stopping = std::thread::spawn(move || witgate.stop());
    eventually("it takes no more connections", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    release.wait();
    let ended = stopping.join().expect("it stops");
    assert!(ended.status.success(), "{}", ended.output());
    assert!(
        ended.output().contains("the record was taken"),
        "the record was cut off:\n{}",
        ended.output()
    );
}

#[test]
fn when_too_many_wait_the_next_ones_are_not_told_of_and_their_clients_do_not_notice() {
    // It takes records and never says so.
    let collector = Upstream::start(|peer| while peer.next_request().is_some() {});
    let upstream = hello();
    let origin = format!("http://{}", collector.address());
    // Those that wait at the end of the test hold up the stop for as long as this.
    let text = config::through(&["guest"], upstream.address())
        .replace("workers = 1", "workers = 1\nshutdown-grace = \"100ms\"");
    let table = format!(
        "\n[plugin.guest]\ncomponent = \"guest.wasm\"\nconfig.tell = \"{origin}/\"\n\
         grant.http-client = {{ origins = [\"{origin}\"], timeout = \"60s\" }}\n"
    );
    let setup = Setup::new().file("guest.wasm", component());
    let witgate = setup.start(&(text + &table));
    let mut client = witgate.connect("main");

    // 1,024 may wait beside those that are being told of.
    for _ in 0..1100 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }

    let line = witgate.log_line("what is not told", |line| {
        line.message().contains("was not told of an exchange's end")
    });
    assert_eq!(line.text("kind"), Some("not-told"));
    assert!(line.field("exchanges").and_then(Value::as_u64) > Some(0));
}

#[test]
fn calls_at_the_end_are_counted() {
    let upstream = hello();
    let witgate = through_guest(&upstream, "[admin]\nbind = \"127.0.0.1:0\"");
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin = line.text("address").and_then(|text| text.parse().ok());
    let admin = admin.expect("an address");
    assert_eq!(witgate.get("main", "/counted").status(), 200);
    told(&witgate, "/counted");

    let metrics = witgate_tests::http::get(admin, "/metrics");

    let series = "witgate_plugin_calls_total{plugin=\"guest\",hook=\"on-complete\"} 1\n";
    assert!(metrics.text().contains(series), "{}", metrics.text());
    let access = witgate.log_line("the exchange", |line| line.message() == "exchange");
    assert_eq!(access.field("status").and_then(Value::as_u64), Some(200));
}
