//! Promise: a WebSocket on a stream of HTTP/2 (RFC 8441) is the same WebSocket: the same hooks and message plugins, the same
//! pings and limits, an upgrade of HTTP/1.1 upstream; and what is no WebSocket is never taken for one.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use http::Method;
use witgate_build::Build;
use witgate_tests::http2::{self, Client, Socket, kind};
use witgate_tests::upstream::{Peer, response};
use witgate_tests::websocket::{
    CLOSE, PING, PONG, TEXT, closing, masked, switching, switching_for, try_read, unmasked,
};
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config};

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/message-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("message-guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

/// As [`config::through`] these plugins, on a listener of HTTP/2, with these more keys of the route.
fn relay(plugins: &[&str], upstream: SocketAddr, route: &str) -> String {
    let bind = "bind = \"127.0.0.1:0\"\n";
    let destination = "upstream = \"origin\"\n";
    config::through(plugins, upstream)
        .replace(bind, &format!("{bind}protocols = [\"h2\"]\n"))
        .replace(destination, &format!("{destination}{route}\n"))
}

/// Grants WebSocket, as the key wants it, and then does what `script` says.
fn upstream(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |peer| {
        if let Some(request) = peer.next_request() {
            peer.send(switching_for(&request, &["Sec-WebSocket-Protocol: chat"]));
            script(peer);
        }
    })
}

/// Sends every message back, its payload as it came, and ends with the client.
fn echo() -> Upstream {
    upstream(|peer| {
        while let Ok(frame) = try_read(peer) {
            if peer.try_send(unmasked(frame.first, frame.payload)).is_err() {
                return;
            }
        }
    })
}

const FIELDS: [(&str, &str); 2] = [
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "chat"),
];

#[track_caller]
fn open(client: &mut Client) -> Socket {
    let (answer, socket) = client.websocket("/a?b", &FIELDS);
    assert_eq!(answer.status, 200);
    socket.expect("it was granted")
}

#[track_caller]
fn assert_receives(client: &Client, socket: &mut Socket, frame: &[u8]) {
    let came = client.receive(socket, frame.len());
    assert!(came == frame, "{:?}", String::from_utf8_lossy(&came));
}

#[test]
fn messages_go_both_ways_and_several_share_a_connection() {
    let upstream = echo();
    let witgate = Witgate::start(&relay(&[], upstream.address(), ""));
    let mut client = Client::open(witgate.address("main"));
    let (answer, socket) = client.websocket("/a?b", &FIELDS);
    assert_eq!(answer.headers["sec-websocket-protocol"], "chat");
    for gone in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    let mut sockets = [socket.expect("it was granted"), open(&mut client)];
    for (number, size) in [3, 100_000, 0].into_iter().enumerate() {
        for socket in &mut sockets {
            let message = vec![b'0' + u8::try_from(number).expect("few"); size];
            client.send(socket, masked(TEXT, &message));
            assert_receives(&client, socket, &unmasked(TEXT, &message));
        }
    }
    let request = http::Request::get("http://example.test/")
        .body(())
        .expect("a request");
    drop(
        client
            .begin(request, true)
            .expect("the connection takes requests beside them"),
    );
    for mut socket in sockets {
        client.finish(&mut socket);
        assert_eq!(
            client.receive(&mut socket, 1),
            b"",
            "the end is passed on and comes back"
        );
    }
    let head = &upstream.received()[0].request.head;
    assert_eq!(head.start_line, "GET /a?b HTTP/1.1");
    assert_eq!(head.header("host"), Some("example.test"));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("connection"), Some("Upgrade"));
    let line = witgate.log_line("the end", |line| {
        line.message() == "exchange" && line.field("status").is_some_and(|status| status == 101)
    });
    assert_eq!(line.text("outcome"), Some("complete"));
}

#[test]
fn message_plugins_and_pings_are_those_of_http1() {
    let upstream = echo();
    let route = "websocket = { ping-interval = \"100ms\", ping-timeout = \"20s\" }";
    let text = relay(&["a"], upstream.address(), route);
    let plugin = "\n[plugin.a]\ncomponent = \"guest.wasm\"\nconfig.name = \"a\"\nconfig.wants = \"both-ways\"\n";
    let witgate = Setup::new()
        .file("guest.wasm", component())
        .start(&format!("{text}{plugin}"));
    let mut client = Client::open(witgate.address("main"));
    let mut socket = open(&mut client);

    let ping = client.receive(&mut socket, 18);
    assert_eq!(ping[..2], [PING, 16], "it is asked whether it lives");
    client.send(&mut socket, masked(PONG, &ping[2..]));
    client.send(&mut socket, masked(TEXT, "sign"));
    assert_eq!(next(&client, &mut socket), (TEXT, b"sign a a".to_vec()));
    client.send(&mut socket, masked(TEXT, "close enough"));
    assert_eq!(next(&client, &mut socket), (CLOSE, closing(4321, "enough")));
}

/// The next short frame that is no ping, which may stand anywhere.
#[track_caller]
fn next(client: &Client, socket: &mut Socket) -> (u8, Vec<u8>) {
    loop {
        let head = client.receive(socket, 2);
        let payload = client.receive(socket, usize::from(head[1]));
        if head[0] != PING {
            return (head[0], payload);
        }
    }
}

#[test]
fn limits_on_upgrades_count_streams() {
    let upstream = echo();
    let route = "limits.upgrades = 1";
    let witgate = Witgate::start(&relay(&[], upstream.address(), route));
    let mut client = Client::open(witgate.address("main"));
    let _socket = open(&mut client);
    let (refused, socket) = client.websocket("/", &FIELDS);
    assert_eq!(refused.status, 503);
    assert!(socket.is_none());
}

#[test]
fn an_answer_that_grants_nothing_is_no_websocket() {
    for (answer, status) in [
        (response("200 OK", &[], "hello"), 502),
        (response("204 No Content", &[], ""), 502),
        (response("404 Not Found", &[], "no"), 404),
        // An Accept that fits another key.
        (switching(&[]).into_bytes(), 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(), 502),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let upstream = Upstream::start(move |peer| {
            if peer.next_request().is_some() {
                peer.try_send(&answer).ok();
            }
        });
        let witgate = Witgate::start(&relay(&[], upstream.address(), ""));
        let mut client = Client::open(witgate.address("main"));
        let (refused, socket) = client.websocket("/", &FIELDS);
        assert_eq!(refused.status, status, "{shown}");
        assert!(socket.is_none(), "{shown}");
    }
}

#[test]
fn other_protocols_are_not_spoken() {
    let upstream = echo();
    let witgate = Witgate::start(&relay(&[], upstream.address(), ""));
    let mut raw = http2::begin(witgate.address("main"));
    let settings = http2::read_to(&mut raw, kind::SETTINGS);
    assert!(
        settings
            .payload
            .chunks(6)
            .any(|one| one == [0, 8, 0, 0, 0, 1]),
        "RFC 8441 §3"
    );
    let mut client = Client::open(witgate.address("main"));
    let (answer, _) = client.extended_connect("webtransport", "/", &[]);
    assert_eq!(answer.status, 501);
    let mut plain = http::Request::new(());
    *plain.method_mut() = Method::CONNECT;
    *plain.uri_mut() = "example.test:443".parse().expect("an authority");
    assert_eq!(client.exchange(plain).expect("an answer").status, 405);
    assert_eq!(upstream.received(), []);
}
