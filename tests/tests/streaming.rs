//! Promise: bodies stream. What one side has sent the other side has, before the rest is written.

use std::sync::Mutex;
use std::sync::mpsc;

use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::{Upstream, Witgate, config};

/// What a script and its test tell each other.
struct Signal {
    sender: Mutex<mpsc::Sender<()>>,
    receiver: Mutex<mpsc::Receiver<()>>,
}

impl Signal {
    fn new() -> &'static Self {
        let (sender, receiver) = mpsc::channel();
        // Lives as long as the test process: a script may outlive its test's last line.
        Box::leak(Box::new(Self {
            sender: Mutex::new(sender),
            receiver: Mutex::new(receiver),
        }))
    }

    fn give(&self) {
        let sender = self.sender.lock().expect("nobody panics holding it");
        sender.send(()).expect("the receiver lives as long");
    }

    #[track_caller]
    fn wait(&self, what: &str) {
        let receiver = self.receiver.lock().expect("nobody panics holding it");
        receiver
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{what} did not happen in time"));
    }
}

#[test]
fn the_first_chunk_of_a_chunked_response_arrives_before_the_last_is_sent() {
    let seen = Signal::new();
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        seen.wait("the client's sight of the first chunk");
        peer.send("4\r\nlast\r\n0\r\n\r\n");
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();
    assert!(head.has_token("transfer-encoding", "chunked"));
    assert_eq!(
        client.try_read_chunk().expect("a chunk").as_deref(),
        Some(b"first".as_slice())
    );
    seen.give();

    assert_eq!(
        client.try_read_chunk().expect("a chunk").as_deref(),
        Some(b"last".as_slice())
    );
    assert_eq!(client.try_read_chunk().expect("the end"), None);
}

#[test]
fn the_first_bytes_of_a_response_of_known_length_arrive_before_the_last_are_sent() {
    let seen = Signal::new();
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        seen.wait("the client's sight of the first bytes");
        peer.send("last");
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_head().header("content-length"), Some("9"));
    assert_eq!(client.read_exact(5), b"first");
    seen.give();

    assert_eq!(client.read_exact(4), b"last");
}

#[test]
fn the_first_chunk_of_a_request_arrives_before_the_last_is_sent() {
    let seen = Signal::new();
    let upstream = Upstream::start(move |peer| {
        peer.next_request_head();
        assert_eq!(
            peer.try_read_chunk().expect("a chunk").as_deref(),
            Some(b"first".as_slice())
        );
        seen.give();
        assert_eq!(
            peer.try_read_chunk().expect("a chunk").as_deref(),
            Some(b"last".as_slice())
        );
        assert_eq!(peer.try_read_chunk().expect("the end"), None);
        peer.send(response("200 OK", &[], "got it"));
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    seen.wait("the upstream's sight of the first chunk");
    client.send("4\r\nlast\r\n0\r\n\r\n");

    assert_eq!(client.read_response().text(), "got it");
}

#[test]
fn the_first_bytes_of_a_request_of_known_length_arrive_before_the_last_are_sent() {
    let seen = Signal::new();
    let upstream = Upstream::start(move |peer| {
        let request = peer.next_request_head().expect("a request");
        assert_eq!(request.header("content-length"), Some("9"));
        assert_eq!(peer.read_exact(5), b"first");
        seen.give();
        assert_eq!(peer.read_exact(4), b"last");
        peer.send(response("200 OK", &[], "got it"));
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfirst");
    seen.wait("the upstream's sight of the first bytes");
    client.send("last");

    assert_eq!(client.read_response().text(), "got it");
}

#[test]
fn a_response_may_end_before_the_request_has() {
    let upstream = Upstream::start(|peer| {
        peer.next_request_head();
        peer.send(response(
            "413 Content Too Large",
            &["Connection: close"],
            "no",
        ));
        // Reads on until the proxy has had enough, so that the answer is not lost to a reset.
        peer.read_to_end().ok();
    });
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst");

    let answer = client.read_response();
    assert_eq!((answer.status(), answer.text()), (413, "no"));
}
