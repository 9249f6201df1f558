//! Promise: bodies stream. What one side has sent the other side has, before the rest is written.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

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

#[test]
fn a_client_that_does_not_read_its_response_yet_can_send_its_whole_request() {
    const REQUEST: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (received, whole) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        let mut response = stream.try_clone().expect("a second handle");
        let mut buffer = vec![0; 64 << 10];
        let mut left = REQUEST;
        // No response before its request.
        let mut answer = Some(move || {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
            let mut written = response.write_all(head.as_bytes());
            // More than anybody buffers; ends when the proxy does.
            while written.is_ok() {
                written = response.write_all(&[b'r'; 64 << 10]);
            }
        });
        while left > 0 {
            let length = match stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("the request goes on"),
            };
            assert!(length > 0, "the request ends before its end");
            if let Some(answer) = answer.take() {
                thread::spawn(answer);
            }
            left = left.saturating_sub(buffer[..length].iter().filter(|b| **b == b'!').count());
        }
        received.send(()).expect("the test waits");
    });
    let witgate = Witgate::start(&config::relay(address));
    let mut client = witgate.connect("main");
    let sending = thread::spawn(move || {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {REQUEST}\r\n\r\n"
        ));
        client.send(vec![b'!'; REQUEST]);
        client
    });

    whole
        .recv_timeout(PATIENCE)
        .expect("the whole request arrives although nobody reads the response");
    drop(sending.join());
}
