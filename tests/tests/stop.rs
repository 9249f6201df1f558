//! Promise: asked to stop, witgate takes nothing new, finishes what is in flight, and ends well.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;

use rustix::process::Signal;
use witgate_tests::admin::{self, ADMIN};
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::{Upstream, Witgate, config, eventually};

#[test]
fn an_exchange_in_flight_finishes_and_then_the_process_ends_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let upstream = Upstream::start(move |peer| {
            peer.next_request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
            let may_go_on = may_go_on.lock().expect("nobody panics holding it");
            may_go_on
                .recv_timeout(PATIENCE)
                .expect("the test lets it go on");
            peer.send("last");
        });
        let mut witgate = Witgate::start(&config::relay(upstream.address()));
        let address = witgate.address("main");
        let mut client = witgate.connect("main");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_head();
        assert_eq!(client.read_exact(5), b"first");

        witgate.process().signal(signal);
        eventually("new connections to be refused", || {
            TcpStream::connect(address).err()
        });
        go_on.send(()).expect("the script waits");

        assert_eq!(client.read_exact(4), b"last");
        client.expect_close();
        let ended = witgate.stop();
        assert!(ended.status.success(), "{} after {signal:?}", ended.status);
    }
}

#[test]
fn a_full_listener_refuses_new_connections_and_serves_the_one_that_waits() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::answering(move |_| {
        let may_go_on = may_go_on.lock().expect("nobody panics holding it");
        may_go_on
            .recv_timeout(PATIENCE)
            .expect("the test lets it go on");
        response("200 OK", &[], "hello")
    });
    let config = config::relay(upstream.address()).replace(
        "bind = \"127.0.0.1:0\"",
        "bind = \"127.0.0.1:0\"\nlimits.connections = 1",
    ) + ADMIN;
    let mut witgate = Witgate::start(&config);
    let address = witgate.address("main");
    let admin = admin::address(&witgate);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = witgate.connect("main");
    client.send(get);
    let mut waits = witgate.connect("main");
    waits.send(get);
    let series = "witgate_refused_total{listener=\"main\",reason=\"too-many-connections\"}";
    eventually("the second to wait", || {
        (admin::metric(admin, series) > 0.0).then_some(())
    });

    witgate.process().signal(Signal::TERM);
    eventually("new connections to be refused", || {
        TcpStream::connect(address).err()
    });
    for client in [&mut client, &mut waits] {
        go_on.send(()).expect("the script waits");
        assert_eq!(client.read_response().body, b"hello");
    }
    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.status);
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut used = witgate.connect("main");
    used.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    used.read_response();
    let _unused = witgate.connect("main");

    let ended = witgate.stop();

    assert!(ended.status.success(), "{}", ended.status);
    used.expect_close();
}

#[test]
fn what_outlasts_the_grace_is_cut_off_and_the_process_ends() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        peer.read_to_end().ok();
    });
    let config = config::relay(upstream.address())
        .replace("workers = 1", "workers = 1\nshutdown-grace = \"300ms\"");
    let witgate = Witgate::start(&config);
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head();
    client.read_exact(5);

    drop(witgate.stop()); // panics when it does not end

    client
        .try_read_exact(4)
        .expect_err("the rest was never sent");
}
