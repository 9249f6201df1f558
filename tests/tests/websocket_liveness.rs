//! Promise: with `websocket.ping-interval`, a WebSocket's client that lives is left alone, one that hangs is cut off,
//! and neither side can tell from the bytes that the proxy asked.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use witgate_tests::http::Connection;
use witgate_tests::upstream::Peer;
use witgate_tests::wait::PATIENCE;
use witgate_tests::websocket::read;
use witgate_tests::witgate::LogLine;
use witgate_tests::{Upstream, Witgate, config, eventually};

const MASK: [u8; 4] = [0x11, 0x00, 0xff, 0x7e];

/// Long enough that a loaded machine's pauses are not taken for a death, where nobody is to die.
const PATIENT: &str = "{ ping-interval = \"100ms\", ping-timeout = \"60s\" }";

/// Where somebody is to die; what is to happen before takes milliseconds.
const STRICT: &str = "{ ping-interval = \"100ms\", ping-timeout = \"5s\" }";

fn start(endpoint: SocketAddr, websocket: &str) -> Witgate {
    let config = config::relay(endpoint);
    let route = "upstream = \"origin\"\n";
    Witgate::start(&config.replace(route, &format!("{route}websocket = {websocket}\n")))
}

fn upgrade(protocol: &str) -> String {
    format!(
        "GET /devtools/browser/1 HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}

fn switching(protocol: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n\r\n"
    )
}

/// A client whose upgrade was granted.
fn upgraded(witgate: &Witgate) -> Connection {
    let mut client = witgate.connect("main");
    client.send(upgrade("websocket"));
    assert_eq!(client.read_head().status(), 101);
    client
}

/// Grants WebSocket and then does what `script` says.
fn upstream(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |peer| {
        if peer.next_request().is_some() {
            peer.send(switching("WebSocket"));
            script(peer);
        }
    })
}

/// Sends every byte that comes to the test.
fn recording() -> (Upstream, Receiver<Vec<u8>>) {
    let (bytes, received) = channel();
    let bytes: Mutex<Sender<Vec<u8>>> = Mutex::new(bytes);
    let upstream = upstream(move |peer| {
        while let Ok(byte) = peer.try_read_exact(1) {
            let bytes = bytes.lock().expect("no script panics");
            if bytes.send(byte).is_err() {
                return;
            }
        }
    });
    (upstream, received)
}

/// A frame of the server.
fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    assert!(length < 126, "a short frame");
    [&[first, length], payload].concat()
}

/// A frame of the client.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = unmasked(first, payload);
    frame[1] |= 0x80;
    frame.truncate(2);
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// Reads one short frame of the server: its first byte and its payload.
#[track_caller]
fn read_frame(client: &mut Connection) -> (u8, Vec<u8>) {
    let head = client.read_exact(2);
    assert!(head[1] < 126, "not a short unmasked frame: {head:?}");
    (head[0], client.read_exact(usize::from(head[1])))
}

/// Reads a ping of the proxy and gives its payload.
#[track_caller]
fn read_ping(client: &mut Connection) -> Vec<u8> {
    let (first, payload) = read_frame(client);
    assert_eq!(first, 0x89, "not a ping: {payload:?}");
    assert!(
        payload.starts_with(b"witgate/"),
        "not the proxy's: {payload:?}"
    );
    payload
}

/// Reads the next frame that is no ping of the proxy's.
#[track_caller]
fn next_foreign(client: &mut Connection) -> (u8, Vec<u8>) {
    loop {
        let frame = read_frame(client);
        if !frame.1.starts_with(b"witgate/") {
            return frame;
        }
    }
}

#[track_caller]
fn end_of_tunnel(witgate: &Witgate) -> LogLine {
    witgate.log_line("the end of the tunnel", |line| {
        line.message() == "exchange" && line.field("status").is_some_and(|status| status == 101)
    })
}

#[track_caller]
fn assert_cut(witgate: &Witgate, upstream: &Upstream, fault: &str, reason: &str) {
    eventually("the upstream socket to be closed", || {
        (upstream.open() == 0).then_some(())
    });
    let line = end_of_tunnel(witgate);
    assert_eq!(line.text("outcome"), Some("failed"), "{line:?}");
    assert_eq!(line.text("fault"), Some(fault), "{line:?}");
    assert!(
        line.text("reason")
            .is_some_and(|text| text.contains(reason)),
        "{line:?}"
    );
}

#[test]
fn a_silent_client_is_asked_and_its_answers_stay_here() {
    let (upstream, received) = recording();
    let witgate = start(upstream.address(), PATIENT);
    let mut client = upgraded(&witgate);

    let mut expected = Vec::new();
    for round in 0..3_u8 {
        let mark = read_ping(&mut client);
        // A pong of the client's to a ping of the upstream's, before and behind ours.
        let foreign = masked(0x8a, &[round; 16]);
        let text = masked(0x81, b"text");
        client.send([&*foreign, &masked(0x8a, &mark), &text].concat());
        expected.extend([foreign, text].concat());
    }

    let mut got = Vec::new();
    while got.len() < expected.len() {
        let byte = received.recv_timeout(PATIENCE);
        got.extend(byte.expect("what the client sent arrives"));
    }
    assert_eq!(got, expected);
    assert_eq!(upstream.open(), 1, "the tunnel goes on");
}

#[test]
fn a_client_that_answers_nothing_is_cut_off() {
    let upstream = upstream(|peer| drop(peer.read_to_end()));
    let witgate = start(upstream.address(), STRICT);
    let mut client = upgraded(&witgate);

    read_ping(&mut client);

    assert_cut(&witgate, &upstream, "client", "did not answer a ping");
    client.expect_close();
}

/// Answers the first ping, and sends `go`.
fn introduce(client: &mut Connection) {
    let mark = read_ping(client);
    client.send([masked(0x8a, &mark), masked(0x81, b"go")].concat());
}

/// Waits, in a script, for the `go` of [`introduce`].
fn await_go(peer: &mut Peer) {
    assert_eq!(peer.read_exact(8), masked(0x81, b"go"));
}

#[test]
fn a_client_that_answers_one_ping_and_not_the_next_is_cut_off() {
    let upstream = upstream(|peer| drop(peer.read_to_end()));
    let witgate = start(upstream.address(), STRICT);
    let mut client = upgraded(&witgate);
    introduce(&mut client);

    assert_cut(&witgate, &upstream, "client", "did not answer a ping");
}

#[test]
fn a_client_that_speaks_but_knows_no_pings_is_left_alone() {
    let upstream = upstream(|peer| {
        assert_eq!(peer.read_exact(8), masked(0x81, b"go"));
        peer.read_to_end().ok();
    });
    let witgate = start(upstream.address(), STRICT);
    let mut client = upgraded(&witgate);
    read_ping(&mut client);
    client.send(masked(0x81, b"go"));

    // A third ping is sent only after the second went unanswered for `ping-timeout`.
    for _ in 0..2 {
        read_ping(&mut client);
    }

    assert_eq!(upstream.open(), 1);
}

#[test]
fn a_client_that_reads_nothing_of_a_long_frame_is_cut_off() {
    let upstream = upstream(|peer| {
        await_go(peer);
        let length = 1_u64 << 30;
        let head = [&[0x82, 127][..], &length.to_be_bytes()].concat();
        let piece = vec![0; 1 << 20];
        let mut sent = peer.try_send(head);
        while sent.is_ok() {
            sent = peer.try_send(&piece);
        }
    });
    let witgate = start(upstream.address(), STRICT);
    let mut reads_nothing_more = upgraded(&witgate);
    introduce(&mut reads_nothing_more);
    while reads_nothing_more.read_exact(2) != [0x82, 127] {
        // A ping that came before the frame: unanswered, it would be the reason.
        let mark = reads_nothing_more.read_exact(16);
        reads_nothing_more.send(masked(0x8a, &mark));
    }

    assert_cut(&witgate, &upstream, "client", "took no byte");
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_while_events_flow_to_it() {
    let upstream = upstream(|peer| {
        let event = unmasked(0x81, b"an event");
        while peer.try_send(&event).is_ok() {
            // What has arrived meanwhile is left to the kernel.
            std::thread::yield_now();
        }
    });
    let witgate = start(upstream.address(), STRICT);
    let _reads_nothing = upgraded(&witgate);

    assert_cut(&witgate, &upstream, "client", "the client");
}

#[test]
fn an_upstream_that_reads_nothing_is_cut_off_and_the_client_is_not_blamed() {
    let (over, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = upstream(move |_| {
        // An error is the end of the test.
        wait.lock().expect("nobody panics").recv().ok();
    });
    let witgate = start(upstream.address(), STRICT);
    let mut client = upgraded(&witgate);

    let length = 1_u64 << 30;
    client.send([&[0x82, 0xff][..], &length.to_be_bytes(), &MASK].concat());
    let piece = vec![0; 1 << 20];
    while client.try_send(&piece).is_ok() {}

    let line = end_of_tunnel(&witgate);
    assert_eq!(line.text("fault"), Some("upstream"), "{line:?}");
    assert!(
        line.text("reason")
            .is_some_and(|text| text.contains("took no byte")),
        "{line:?}"
    );
    drop(over);
}

#[test]
fn a_ping_waits_for_the_end_of_the_upstreams_frame() {
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = upstream(move |peer| {
        await_go(peer);
        if peer.number() == 1 {
            let (before, after) = ([0x81, 10, b'h', b'a', b'l'], *b"fway-on");
            peer.send(before);
            wait.lock()
                .expect("nobody panics")
                .recv()
                .expect("the test goes on");
            peer.send(after);
        }
        peer.read_to_end().ok();
    });
    let witgate = start(upstream.address(), PATIENT);
    let mut within = upgraded(&witgate);
    introduce(&mut within);
    while within.read_exact(2) != [0x81, 10] {
        // A ping that came before the frame.
        let mark = within.read_exact(16);
        within.send(masked(0x8a, &mark));
    }
    assert_eq!(within.read_exact(3), b"hal");

    // Another tunnel, begun later, shows that the time for a ping has passed.
    let mut other = upgraded(&witgate);
    introduce(&mut other);
    read_ping(&mut other);
    go_on.send(()).expect("the script waits");

    assert_eq!(within.read_exact(7), b"fway-on");
    read_ping(&mut within);
}

#[test]
fn a_ping_of_the_upstream_and_its_pong_go_through() {
    let upstream = upstream(|peer| {
        peer.send(unmasked(0x89, b"are you there?"));
        assert_eq!(peer.read_exact(20), masked(0x8a, b"are you there?"));
        peer.send(unmasked(0x81, b"good"));
        peer.read_to_end().ok();
    });
    let witgate = start(upstream.address(), PATIENT);
    let mut client = upgraded(&witgate);

    assert_eq!(
        next_foreign(&mut client),
        (0x89, b"are you there?".to_vec())
    );
    client.send(masked(0x8a, b"are you there?"));

    assert_eq!(next_foreign(&mut client), (0x81, b"good".to_vec()));
}

#[test]
fn what_is_no_frame_ends_the_tunnel_with_the_side_that_sent_it() {
    let cases = [
        ("client", "not masked"),
        ("upstream", "reserved opcode 0xf"),
    ];
    for (side, reason) in cases {
        let upstream = upstream(move |peer| {
            if side == "upstream" {
                peer.send([0x8f, 0x00]);
            }
            peer.read_to_end().ok();
        });
        let witgate = start(upstream.address(), PATIENT);
        let mut client = upgraded(&witgate);

        if side == "client" {
            client.send(unmasked(0x81, b"bare"));
        }

        assert_cut(&witgate, &upstream, side, reason);
    }
}

/// RFC 6455 §7.1.7.
#[test]
fn what_stands_before_no_frame_arrives_and_both_ends_get_a_close() {
    let closed = [&1002u16.to_be_bytes()[..], b"protocol error"].concat();
    let (seen, heard) = channel();
    let upstream = upstream(move |peer| {
        let frames = [read(peer), read(peer)];
        seen.send(frames.map(|frame| (frame.first, frame.payload)))
            .expect("the test waits");
        peer.read_to_end().ok();
    });
    let witgate = start(upstream.address(), PATIENT);
    let mut client = upgraded(&witgate);

    client.send([masked(0x81, b"hello"), unmasked(0x81, b"bare")].concat());

    let expected = [(0x81, b"hello".to_vec()), (0x88, closed.clone())];
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(expected));
    assert_eq!(next_foreign(&mut client), (0x88, closed));
    drop(client);
    assert_cut(&witgate, &upstream, "client", "not masked");
}

#[test]
fn another_protocol_than_websocket_is_not_looked_at() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send([switching("tunnel").as_bytes(), b"\xff\xff\xff"].concat());
            assert_eq!(peer.read_exact(4), b"\x01\xff\x0f\x00");
            peer.send("bytes");
            peer.read_to_end().ok();
        }
    });
    let witgate = start(upstream.address(), STRICT);
    let mut client = witgate.connect("main");

    client.send([upgrade("tunnel").as_bytes(), b"\x01\xff\x0f\x00"].concat());

    assert_eq!(client.read_head().status(), 101);
    assert_eq!(client.read_exact(8), b"\xff\xff\xffbytes");
}

#[test]
fn frames_that_come_with_the_handshake_are_followed_too() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            // The rest of the frame comes behind the client's.
            peer.send([switching("websocket").as_bytes(), b"\x81\x06ear"].concat());
            assert_eq!(peer.read_exact(9), masked(0x81, b"abc"));
            peer.send("ly!");
            peer.read_to_end().ok();
        }
    });
    let witgate = start(upstream.address(), PATIENT);
    let mut client = witgate.connect("main");
    let frame = masked(0x81, b"abc");

    client.send([upgrade("websocket").as_bytes(), &frame[..4]].concat());
    assert_eq!(client.read_head().status(), 101);
    assert_eq!(client.read_exact(5), b"\x81\x06ear");
    client.send(&frame[4..]);

    assert_eq!(client.read_exact(3), b"ly!");
    read_ping(&mut client);
}

#[test]
fn an_end_that_goes_away_ends_the_other_at_once() {
    type Leave = fn(Connection);
    let (upstream, received) = recording();
    let witgate = start(upstream.address(), PATIENT);
    let leave: [(&str, Leave); 2] = [("FIN", drop), ("RST", Connection::reset)];
    for (way, leave) in leave {
        let mut client = upgraded(&witgate);
        introduce(&mut client);
        let byte = received.recv_timeout(PATIENCE);
        byte.expect("the tunnel is there");
        leave(client);
        eventually(
            &format!("the upstream to end after the client's {way}"),
            || (upstream.open() == 0).then_some(()),
        );
    }

    let ending = self::upstream(await_go);
    let witgate = start(ending.address(), PATIENT);
    let mut client = upgraded(&witgate);
    introduce(&mut client);
    // A ping may have come before the end.
    client.read_to_end().expect("it is closed");
}
