//! Promise: what an upstream fails at is made up for where that is safe, within limits that the operator sets, and else
//! told to the client.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use witgate_tests::admin::{self, ADMIN, metric};
use witgate_tests::http::{Message, exchange};
use witgate_tests::upstream::response;
use witgate_tests::{Upstream, Witgate, eventually, port};

/// One worker, one route with these keys, and the upstream `origin` with those.
fn config(route: &str, keys: &str) -> String {
    format!(
        "[server]\nworkers = 1\n[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nupstream = \"origin\"\n{route}\n{ADMIN}\n[upstream.origin]\n{keys}\n"
    )
}

fn endpoints(upstreams: &[&Upstream]) -> String {
    let urls: Vec<_> = (upstreams.iter())
        .map(|upstream| format!("\"http://{}\"", upstream.address()))
        .collect();
    format!("endpoints = [{}]", urls.join(", "))
}

fn post(witgate: &Witgate) -> Message {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    exchange(witgate.address("main"), request)
}

const RETRIES: &str = "witgate_upstream_retries_total{upstream=\"origin\"}";

fn refused(limit: &str) -> String {
    format!("witgate_upstream_refused_total{{upstream=\"origin\",limit=\"{limit}\"}}")
}

#[test]
fn only_what_is_safe_is_sent_again() {
    for bad in [
        Upstream::answering(|_| response("503 Service Unavailable", &[], "bad")),
        Upstream::start(|peer| drop(peer.next_request())),
    ] {
        let good = Upstream::answering(|_| response("200 OK", &[], "good"));
        let keys = format!(
            "{}\nretry = {{ back-off = \"1ms\" }}",
            endpoints(&[&bad, &good])
        );
        let witgate = Witgate::start(&config("", &keys));
        for _ in 0..6 {
            assert_eq!(witgate.get("main", "/").text(), "good");
        }
        let tried = bad.received().len();
        assert!((1..=6).contains(&tried), "{tried}");
        let retries = metric(admin::address(&witgate), RETRIES);
        assert_eq!(retries, tried as f64);

        let answers: Vec<_> = (0..4).map(|_| post(&witgate).status()).collect();
        assert_eq!(
            answers.iter().filter(|status| **status == 200).count(),
            2,
            "{answers:?}"
        );
        assert_eq!(
            metric(admin::address(&witgate), RETRIES),
            retries,
            "not safe to repeat"
        );
    }
}

#[test]
fn what_was_never_sent_goes_elsewhere_whatever_it_is() {
    let good = Upstream::answering(|_| response("200 OK", &[], "good"));
    let (gone, good_one) = (port::unused(), good.address());
    let keys = format!("endpoints = [\"http://127.0.0.1:{gone}\", \"http://{good_one}\"]");
    let witgate = Witgate::start(&config("", &keys));
    for _ in 0..4 {
        assert_eq!(post(&witgate).text(), "good");
    }
    assert_eq!(good.received().len(), 4);
}

#[test]
fn retries_are_a_share_of_the_requests_and_a_few() {
    let bad = Upstream::answering(|_| response("502 Bad Gateway", &[], "bad"));
    let keys = format!(
        "{}\nretry = {{ attempts = 1, budget = \"1%\", back-off = \"1ms\" }}",
        endpoints(&[&bad])
    );
    let witgate = Witgate::start(&config("", &keys));
    for _ in 0..30 {
        assert_eq!(witgate.get("main", "/").text(), "bad");
    }
    let admin = admin::address(&witgate);
    assert_eq!(bad.received().len(), 40);
    assert_eq!(metric(admin, RETRIES), 10.0);
    assert_eq!(metric(admin, &refused("budget")), 20.0);
}

/// An upstream that tells of each request, and answers it when told to.
fn held() -> (Upstream, Receiver<()>, Sender<()>) {
    let ((came, has_come), (go, may_go)) = (channel(), channel());
    let (came, may_go) = (Mutex::new(came), Arc::new(Mutex::new(may_go)));
    let origin = Upstream::answering(move |_| {
        // Errors mean that the test is over.
        came.lock().expect("no script panics").send(()).ok();
        may_go.lock().expect("no script panics").recv().ok();
        response("200 OK", &[], "at last")
    });
    (origin, has_come, go)
}

/// Sends so many requests at once, and tells the status of each answer when it comes.
fn clients(witgate: &Witgate, count: usize) -> Receiver<Message> {
    let (tell, told) = channel();
    for _ in 0..count {
        let (tell, address) = (tell.clone(), witgate.address("main"));
        thread::spawn(move || {
            let answer = exchange(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            // The test may be over.
            tell.send(answer).ok();
        });
    }
    told
}

#[test]
fn more_requests_than_the_limit_are_a_503_that_says_when_to_come_again() {
    let (origin, has_come, go) = held();
    let keys = format!("{}\nlimits.requests = 1", endpoints(&[&origin]));
    let witgate = Witgate::start(&config("", &keys));
    let first = clients(&witgate, 1);
    has_come.recv().expect("it reaches the upstream");
    let second = witgate.get("main", "/");
    assert_eq!(
        (second.status(), second.header("retry-after")),
        (503, Some("5"))
    );
    assert_eq!(metric(admin::address(&witgate), &refused("requests")), 1.0);
    go.send(()).expect("the script waits");
    assert_eq!(first.recv().expect("an answer").status(), 200);
    go.send(()).expect("the script runs on");
    // The first is over when its client has it, or soon after.
    eventually("room for one more", || {
        (witgate.get("main", "/").status() == 200).then_some(())
    });
}

#[test]
fn a_request_waits_for_a_connection_unless_too_many_do() {
    let (origin, has_come, go) = held();
    let keys = format!(
        "{}\nlimits = {{ connections = 1, pending = 1 }}",
        endpoints(&[&origin])
    );
    let witgate = Witgate::start(&config("", &keys));
    let first = clients(&witgate, 1);
    has_come.recv().expect("it reaches the upstream");
    // One of two waits; which one, nobody says.
    let others = clients(&witgate, 2);
    assert_eq!(others.recv().expect("an answer").status(), 503);
    assert_eq!(metric(admin::address(&witgate), &refused("pending")), 1.0);
    for _ in 0..2 {
        go.send(()).expect("the script waits");
    }
    assert_eq!(first.recv().expect("an answer").status(), 200);
    assert_eq!(others.recv().expect("an answer").status(), 200);
    assert_eq!(origin.accepted(), 1, "it was handed on");
}

#[test]
fn connections_that_nobody_uses_make_room_for_other_endpoints() {
    let (one, other) = (
        Upstream::answering(|_| response("200 OK", &[], "one")),
        Upstream::answering(|_| response("200 OK", &[], "other")),
    );
    let keys = format!("{}\nlimits.connections = 1", endpoints(&[&one, &other]));
    let witgate = Witgate::start(&config("", &keys));
    for _ in 0..4 {
        assert_eq!(witgate.get("main", "/").status(), 200);
    }
    assert_eq!((one.received().len(), other.received().len()), (2, 2));
}

#[test]
fn a_route_has_limits_of_its_own_on_how_long_things_take() {
    let origin = Upstream::start(|peer| {
        let Some(request) = peer.next_request() else {
            return;
        };
        if request.head.start_line.starts_with("GET /late ") {
            peer.read_to_end().ok();
            return;
        }
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        if peer.try_send(head).is_ok() {
            // Never a pause, and never an end.
            while peer.try_send("1\r\na\r\n").is_ok() {}
        }
    });
    let timeouts = "timeouts = { total = \"3s\" }\n[[route]]\nname = \"late\"\npath = \"/late\"\n\
                    upstream = \"origin\"\ntimeouts = { response = \"100ms\" }";
    let witgate = Witgate::start(&config(timeouts, &endpoints(&[&origin])));
    assert_eq!(witgate.get("main", "/late").status(), 504);
    let mut client = witgate.connect("main");
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();
    assert_eq!(head.status(), 200);
    assert!(client.try_read_body(&head, true).is_err(), "it is cut off");
    witgate.log_line("the reason", |line| {
        line.text("reason")
            .is_some_and(|reason| reason.contains("timeouts.total"))
    });
}
