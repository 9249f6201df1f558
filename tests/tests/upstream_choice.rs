//! Promise: requests go to the endpoints that the operator named as the operator wants, and to those that are well.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use witgate_tests::admin::{self, ADMIN, metric};
use witgate_tests::dns::{Answer, NameServer};
use witgate_tests::http::{exchange, get};
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, eventually, port};

/// One worker, one route, and the upstream `origin` with these keys.
fn config(keys: &str) -> String {
    format!(
        "[server]\nworkers = 1\n[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nupstream = \"origin\"\n{ADMIN}\n[upstream.origin]\n{keys}\n"
    )
}

/// Answers everything with its name.
fn named(name: &'static str) -> Upstream {
    Upstream::answering(move |_| response("200 OK", &[], name))
}

fn endpoints(upstreams: &[&Upstream]) -> String {
    let urls: Vec<_> = (upstreams.iter())
        .map(|upstream| format!("\"http://{}\"", upstream.address()))
        .collect();
    format!("endpoints = [{}]", urls.join(", "))
}

/// A request with a field, and who answered it.
fn answered_by(witgate: &Witgate, field: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    exchange(witgate.address("main"), request).text().to_owned()
}

#[test]
fn endpoints_are_used_by_their_weight() {
    let (one, other) = (named("one"), named("other"));
    let keys = format!(
        "endpoints = [{{ url = \"http://{}\", weight = 3 }}, \"http://{}\"]",
        one.address(),
        other.address()
    );
    let witgate = Witgate::start(&config(&keys));
    for _ in 0..8 {
        assert_eq!(witgate.get("main", "/").status(), 200);
    }
    assert_eq!((one.received().len(), other.received().len()), (6, 2));
}

#[test]
fn requests_with_one_key_go_to_one_endpoint_until_it_is_gone() {
    // On a port that the kernel gives to nobody else when it is free again.
    let a = TcpListener::bind((Ipv4Addr::LOCALHOST, port::unused())).expect("the port is free");
    let a = Upstream::on(a, |peer| peer.answer(|_| response("200 OK", &[], "a")));
    let (b, c) = (named("b"), named("c"));
    let keys = format!(
        "{}\nbalance = {{ hash = \"header:x-user\" }}",
        endpoints(&[&a, &b, &c])
    );
    let witgate = Witgate::start(&config(&keys));
    let by = |user: u32| answered_by(&witgate, &format!("X-User: {user}"));
    let before: Vec<_> = (0..30).map(by).collect();
    assert_eq!(before, (0..30).map(by).collect::<Vec<_>>());
    assert_eq!(
        before.iter().collect::<BTreeSet<_>>().len(),
        3,
        "{before:?}"
    );

    drop(a);
    // The connections that were kept still reach it, since its scripts run on.
    drop(witgate);
    let witgate = Witgate::start(&config(&keys));
    for (user, before) in (0..30).zip(before) {
        let now = answered_by(&witgate, &format!("X-User: {user}"));
        assert_ne!(now, "a");
        assert!(
            before == "a" || before == now,
            "user {user} moved from {before} to {now}"
        );
    }
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    let setup = Setup::new();
    let path = setup.path().join("origin.sock");
    let listener = UnixListener::bind(&path).expect("the test's directory can be written");
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream
                .read_exact(&mut byte)
                .expect("the proxy sends a head");
            head.extend(byte);
        }
        let answer = response("200 OK", &["Connection: close"], "from a socket");
        stream.write_all(&answer).expect("the proxy reads");
        String::from_utf8(head).expect("a head is text")
    });
    let keys = format!("endpoints = [\"unix:{}\"]", path.display());
    let witgate = setup.start(&config(&keys));
    assert_eq!(witgate.get("main", "/a").text(), "from a socket");
    let head = serving.join().expect("it did not panic");
    assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
    fs::remove_file(path).expect("it is there");
    assert_eq!(witgate.get("main", "/a").status(), 502);
}

#[test]
fn an_endpoint_is_used_while_its_checks_pass() {
    let status = Arc::new(AtomicU16::new(204));
    let checked = Arc::clone(&status);
    let one = Upstream::answering(move |request| {
        if request.head.start_line.starts_with("GET /up ") {
            let status = checked.load(Ordering::SeqCst);
            return format!("HTTP/1.1 {status} Fine\r\nContent-Length: 0\r\n\r\n").into_bytes();
        }
        response("200 OK", &[], "one")
    });
    let other = Upstream::answering(|_| response("204 No Content", &[], ""));
    let keys = format!(
        "{}\nhealth = {{ path = \"/up\", interval = \"20ms\", timeout = \"20s\", expect = [204, \"4xx\"], healthy = 2, unhealthy = 2 }}",
        endpoints(&[&one, &other])
    );
    let witgate = Witgate::start(&config(&keys));
    let admin = admin::address(&witgate);
    let healthy = format!(
        "witgate_upstream_healthy{{upstream=\"origin\",endpoint=\"{}\"}}",
        one.address()
    );
    let is = |value: f64| {
        eventually("the endpoint's health", || {
            (metric(admin, &healthy) == value).then_some(())
        })
    };

    is(1.0);
    status.store(200, Ordering::SeqCst);
    is(0.0);
    let notes = get(admin, "/ready");
    assert_eq!(notes.status(), 200);
    assert!(notes.text().contains("is unhealthy"), "{}", notes.text());
    for _ in 0..6 {
        assert_eq!(witgate.get("main", "/").status(), 204);
    }
    status.store(404, Ordering::SeqCst);
    is(1.0);
    let answers: Vec<_> = (0..4).map(|_| witgate.get("main", "/").status()).collect();
    assert_eq!(
        answers.iter().filter(|status| **status == 200).count(),
        2,
        "{answers:?}"
    );
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_left_alone_but_not_half_of_them() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let bad = Upstream::answering(|_| response("503 Service Unavailable", &[], "bad"));
    let good = Upstream::answering(move |_| match fails.load(Ordering::SeqCst) {
        true => response("500 Internal Server Error", &[], "bad as well"),
        false => response("200 OK", &[], "good"),
    });
    let keys = format!(
        "{}\nejection = {{ failures = 2, time = \"1h\" }}",
        endpoints(&[&bad, &good])
    );
    let witgate = Witgate::start(&config(&keys));
    let admin = admin::address(&witgate);

    let answers: Vec<_> = (0..20).map(|_| witgate.get("main", "/").status()).collect();
    assert_eq!(
        answers.iter().filter(|status| **status == 503).count(),
        2,
        "{answers:?}"
    );
    assert_eq!(bad.received().len(), 2);
    assert_eq!(
        metric(
            admin,
            "witgate_upstream_ejections_total{upstream=\"origin\"}"
        ),
        1.0
    );
    let notes = get(admin, "/ready");
    assert!(
        notes.text().contains("failed too often"),
        "{}",
        notes.text()
    );

    failing.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(witgate.get("main", "/").status(), 500, "the last one stays");
    }
    assert_eq!(
        metric(
            admin,
            "witgate_upstream_ejections_total{upstream=\"origin\"}"
        ),
        1.0
    );
}

#[test]
fn when_all_endpoints_are_unwell_they_are_tried_all_the_same() {
    let one =
        Upstream::answering(
            |request| match request.head.start_line.starts_with("GET /up ") {
                true => response("500 Internal Server Error", &[], ""),
                false => response("200 OK", &[], "still here"),
            },
        );
    let keys = format!(
        "{}\nhealth = {{ path = \"/up\", interval = \"20ms\", timeout = \"20s\" }}",
        endpoints(&[&one])
    );
    let witgate = Witgate::start(&config(&keys));
    let admin = admin::address(&witgate);
    let healthy = format!(
        "witgate_upstream_healthy{{upstream=\"origin\",endpoint=\"{}\"}}",
        one.address()
    );
    eventually("a failed check", || {
        (metric(admin, &healthy) == 0.0).then_some(())
    });
    assert_eq!(witgate.get("main", "/").text(), "still here");
    assert_eq!(
        metric(
            admin,
            "witgate_upstream_none_well_total{upstream=\"origin\"}"
        ),
        1.0
    );
    witgate.log_line("a warning", |line| {
        line.message()
            .starts_with("something speaks against every endpoint")
    });
}

#[test]
fn a_name_stands_for_what_the_name_server_says_now() {
    let port = port::unused();
    let listen = |last| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port));
    let first = listen(1).expect("the port is free");
    let second = listen(2).expect("the port is free on the other address");
    let _first = Upstream::on(first, |peer| {
        peer.answer(|_| response("200 OK", &[], "first"))
    });
    let _second = Upstream::on(second, |peer| {
        peer.answer(|_| response("200 OK", &[], "second"))
    });
    let names = NameServer::start();
    let address = |last| Ipv4Addr::new(127, 0, 0, last);
    let known = |addresses: &[u8]| {
        Answer::Addresses(addresses.iter().map(|last| address(*last)).collect(), 0)
    };
    names.set("origin.test", known(&[1]));
    let keys = format!(
        "endpoints = [\"http://origin.test:{port}\"]\ndns = {{ servers = [\"{}\"], min-ttl = \"20ms\" }}",
        names.address()
    );
    let witgate = Witgate::start(&config(&keys));
    let answers = |count: usize| -> BTreeSet<String> {
        (0..count).map(|_| answered_by(&witgate, "X: y")).collect()
    };
    let only = |name: &str| {
        eventually("the other answer", || {
            (answers(4) == BTreeSet::from([name.to_owned()])).then_some(())
        });
    };

    assert_eq!(answers(2), BTreeSet::from(["first".to_owned()]));
    names.set("origin.test", known(&[1, 2]));
    eventually("both addresses", || (answers(4).len() == 2).then_some(()));
    names.set("origin.test", known(&[2]));
    only("second");
    // A name server that fails, or denies all, takes nothing away.
    names.set("origin.test", Answer::Failure);
    witgate.log_line("a failed look-up", |line| {
        line.message().contains("its addresses stay")
    });
    only("second");
    let many = (0..70).map(|n| Ipv4Addr::new(127, 1, 0, n)).collect();
    names.set("origin.test", Answer::Addresses(many, 0));
    let line = witgate.log_line("too many", |line| {
        line.message().contains("more than 64 addresses")
    });
    assert_eq!(
        line.field("found").and_then(serde_json::Value::as_u64),
        Some(70)
    );
    names.set("origin.test", known(&[1]));
    only("first");
}

#[test]
fn a_name_without_an_address_is_a_502_and_served_once_it_has_one() {
    let origin = named("here");
    let names = NameServer::start();
    let keys = format!(
        "endpoints = [\"http://origin.test:{}\"]\ndns = {{ servers = [\"{}\"], min-ttl = \"20ms\", max-ttl = \"100ms\" }}",
        origin.address().port(),
        names.address()
    );
    let witgate = Witgate::start(&config(&keys));
    assert_eq!(witgate.get("main", "/").status(), 502);
    let line = witgate.log_line("the reason", |line| line.message() == "exchange failed");
    let reason = line.text("reason").unwrap_or_default();
    assert!(reason.contains("origin.test"), "{reason}");
    names.set(
        "origin.test",
        Answer::Addresses(vec![Ipv4Addr::LOCALHOST], 60),
    );
    eventually("an answer", || {
        (witgate.get("main", "/").status() == 200).then_some(())
    });
}
