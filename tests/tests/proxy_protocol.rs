//! Promise: behind a load balancer that speaks the PROXY protocol, clients have their own addresses; nobody else can say who he
//! is.

use std::net::SocketAddr;

use witgate_tests::curl::curl;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config};

/// As [`config::relay`], behind a load balancer at one of these addresses, with these more keys.
fn relay(upstream: SocketAddr, trusted: &str, keys: &str) -> String {
    let bind = "bind = \"127.0.0.1:0\"\n";
    config::relay(upstream)
        .replace(
            "workers = 1\n",
            &format!("workers = 1\ntrusted-proxies = {trusted}\n"),
        )
        .replace(
            bind,
            &format!("{bind}proxy-protocol = \"require\"\n{keys}\n"),
        )
}

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len())
        .expect("it is short")
        .to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

#[test]
fn the_client_is_whom_the_header_names() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), "[\"127.0.0.1\"]", ""));
    let ipv4 = [&[192, 0, 2, 9, 127, 0, 0, 1, 0, 1, 0, 2][..], &[3, 0, 1, 0]].concat();
    let mut ipv6 = [0; 36];
    (ipv6[0], ipv6[1], ipv6[15]) = (0x20, 0x01, 7);
    for (header, client) in [
        (
            b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 80\r\n".to_vec(),
            "192.0.2.7",
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n".to_vec(),
            "2001:db8::7",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (
            b"PROXY UNKNOWN whatever else it says\r\n".to_vec(),
            "127.0.0.1",
        ),
        (binary(1, 0x11, &ipv4), "192.0.2.9"),
        (binary(1, 0x21, &ipv6), "2001::7"),
        (binary(0, 0x00, &[]), "127.0.0.1"),
        (binary(1, 0x31, &[b'x'; 216]), "127.0.0.1"),
    ] {
        let mut balancer = witgate.connect("main");
        balancer.send([&header, GET].concat());
        assert_eq!(balancer.read_response().status(), 200, "{header:?}");
        // It is said once for a connection.
        balancer.send(GET);
        assert_eq!(balancer.read_response().status(), 200, "{header:?}");
        let received = upstream.received();
        for received in &received[received.len() - 2..] {
            assert_eq!(received.request.header("x-forwarded-for"), Some(client));
        }
    }
}

#[test]
fn what_is_no_header_and_who_is_no_balancer_is_refused() {
    let upstream = hello();
    let witgate = Witgate::start(&relay(upstream.address(), "[\"127.0.0.1\"]", ""));
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.7 127.0.0.1 5000\r\n",
        b"PROXY TCP4 192.0.2.700 127.0.0.1 5000 80\r\n",
        b"PROXY UDP4 192.0.2.7 127.0.0.1 5000 80\r\n",
        &[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(),
        b"PROXY UNKNOWN \n \r x\r\n",
        &binary(2, 0x11, &[0; 12]),
        &binary(1, 0x11, &[0; 3]),
        &binary(1, 0x11, &[0; 5000]),
        &[SIGNATURE, &[0x31, 0x11, 0, 0]].concat(),
    ] {
        let mut balancer = witgate.connect("main");
        balancer.try_send([header, GET].concat()).ok();
        while balancer.try_read_exact(1).is_ok() {}
    }
    let strangers = Witgate::start(&relay(upstream.address(), "[\"192.0.2.1\"]", ""));
    let mut stranger = strangers.connect("main");
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 80\r\n";
    stranger.try_send([header, GET].concat()).ok();
    while stranger.try_read_exact(1).is_ok() {}
    assert_eq!(upstream.received(), []);
}

#[test]
fn tls_and_http2_come_behind_the_header() {
    let upstream = hello();
    let tls = "tls = { self-signed = true }";
    let witgate = Setup::new().start(&relay(upstream.address(), "[\"127.0.0.1\"]", tls));
    let url = format!("https://{}/", witgate.address("main"));
    let got = curl(&["--insecure", "--http2", "--haproxy-protocol", &url]);
    assert_eq!(
        (got.outcome.as_str(), got.body.as_str()),
        ("HTTP/2 200", "hello"),
        "{}",
        got.said
    );
    assert_ne!(curl(&["--insecure", &url]).code, 0);
}

#[test]
fn without_anybody_to_believe_it_is_a_mistake() {
    let upstream = "127.0.0.1:1".parse().expect("an address");
    let ended = Setup::new().run_and_fail(&relay(upstream, "[]", ""));
    assert!(
        ended.output().contains("nobody is believed"),
        "{}",
        ended.output()
    );
}
