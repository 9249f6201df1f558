//! Promise: who moves from the Python bridge and the Python snapshot server finds the same bytes on the wire, and
//! none of their faults.

use witgate_tests::http::{Connection, exchange};
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

const BRIDGE: &str = r#"
[plugin.close]
component = "builtin:connection-close"

[plugin.cdp-host]
component = "builtin:host-rewrite"
config.host = "localhost:9222"

[plugin.cdp-urls]
component = "builtin:cdp-urls"
"#;

/// Chromium's endpoint as far as the bridge is concerned: it reflects the Host it is sent, unescaped.
fn chromium() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            let host = request.header("host").unwrap_or_default();
            if request.header("upgrade").is_some() {
                peer.send("HTTP/1.1 101 WebSocket Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n");
                while let Ok(byte) = peer.try_read_exact(1) {
                    if peer.try_send(byte).is_err() {
                        return;
                    }
                }
                return;
            }
            let body = format!(
                "{{\n   \"webSocketDebuggerUrl\": \"ws://{host}/devtools/browser/5b31\"\n}}\n"
            );
            peer.send(response(
                "200 OK",
                &["Content-Type:application/json; charset=UTF-8"],
                body,
            ));
        }
    })
}

fn bridge(upstream: &Upstream) -> Witgate {
    Witgate::start(
        &(config::through(&["close", "cdp-host", "cdp-urls"], upstream.address()) + BRIDGE),
    )
}

#[test]
fn chromium_sees_the_fixed_host_once_and_the_client_sees_itself_and_a_close() {
    let upstream = chromium();
    let witgate = bridge(&upstream);
    let mut client = witgate.connect("main");

    client.send("GET /json/version HTTP/1.1\r\nhost: box:9222\r\nUser-Agent: any\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.read_response();

    assert_eq!(answer.head.start_line, "HTTP/1.1 200 OK");
    assert_eq!(
        answer.text(),
        "{\n   \"webSocketDebuggerUrl\": \"ws://box:9222/devtools/browser/5b31\"\n}\n"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=UTF-8")
    );
    assert!(answer.head.has_token("connection", "close"));
    client.expect_close();
    let request = upstream.only_request();
    assert_eq!(request.head.start_line, "GET /json/version HTTP/1.1");
    assert_eq!(
        request.head.header_values("host").collect::<Vec<_>>(),
        ["localhost:9222"]
    );
    assert_eq!(request.header("user-agent"), Some("any"));
}

#[test]
fn a_websocket_gets_chromiums_101_and_then_a_pipe() {
    let upstream = chromium();
    let witgate = bridge(&upstream);
    let mut client = witgate.connect("main");

    client.send(
        "GET /devtools/browser/5b31 HTTP/1.1\r\nHost: box:9222\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    let head = client.read_head();

    assert_eq!(head.start_line, "HTTP/1.1 101 WebSocket Protocol Handshake");
    assert!(!head.has_token("connection", "close"));
    client.send("frames");
    assert_eq!(client.read_exact(6), b"frames");
    let request = upstream.only_request();
    assert_eq!(
        request.head.header_values("host").collect::<Vec<_>>(),
        ["localhost:9222"]
    );
    assert!(request.head.has_token("connection", "upgrade"));
    assert_eq!(
        request.header("sec-websocket-key"),
        Some("AAAAAAAAAAAAAAAAAAAAAA==")
    );
}

#[test]
fn a_host_that_would_break_out_of_the_json_is_refused_not_reflected() {
    let upstream = chromium();
    let witgate = bridge(&upstream);

    for host in [
        "x\"},\"y\":{\"z",
        "a b",
        "a\\u0022",
        "localhost:1,evil.example",
        "evil.example/path",
        "<script>",
    ] {
        let answer = exchange(
            witgate.address("main"),
            format!("GET /json/version HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        assert_eq!(answer.status(), 400, "{host}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains(host),
            "{host} was reflected"
        );
    }

    assert_eq!(upstream.received(), []);
}

#[test]
fn a_client_that_dies_does_not_leave_its_socket_to_chromium_open() {
    let upstream = chromium();
    let witgate = bridge(&upstream);
    let leave: [fn(Connection); 2] = [drop, Connection::reset];
    for leave in leave {
        let mut client = witgate.connect("main");
        client.send("GET /devtools/browser/5b31 HTTP/1.1\r\nHost: box\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.read_head().status(), 101);
        assert_eq!(upstream.open(), 1);

        leave(client);

        eventually("Chromium's side to be closed", || {
            (upstream.open() == 0).then_some(())
        });
    }
}

#[test]
fn idle_connections_and_half_sent_requests_keep_nobody_from_the_snapshot() {
    let witgate = snapshots("secret");
    let _idle: Vec<_> = (0..100).map(|_| witgate.connect("main")).collect();
    let _half: Vec<_> = (0..100)
        .map(|_| {
            let mut client = witgate.connect("main");
            client.send("GET /api/snapshot HTTP/1.1\r\nHost:");
            client
        })
        .collect();

    for path in ["/api/snapshot", "/api/snapshot?x=1"] {
        let answer = exchange(
            witgate.address("main"),
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: bearer secret\r\n\r\n"),
        );
        assert_eq!(
            (answer.status(), answer.text()),
            (200, "{\"cookies\":[],\"origins\":[]}")
        );
    }
    assert_eq!(witgate.get("main", "/healthz").text(), "ok\n");
}

#[test]
fn an_empty_token_lets_nobody_in() {
    let witgate = snapshots("");

    for field in ["Authorization: Bearer ", "Authorization: Bearer", "X: y"] {
        let request = format!("GET /api/snapshot HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        let answer = exchange(witgate.address("main"), request);
        assert_eq!(
            (answer.status(), answer.text()),
            (503, "{\"error\":\"token not configured\"}")
        );
    }
    assert_eq!(witgate.get("main", "/healthz").status(), 200);
}

fn snapshots(token: &str) -> Witgate {
    let setup = Setup::new().env("PW_TOKEN", token).file(
        "state/storage-state.json",
        "{\"cookies\":[],\"origins\":[]}",
    );
    setup.start(
        r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
path = "/api/snapshot"
plugins = ["token", "snapshot"]

[[route]]
path = "/healthz"
reply = { body = "ok\n" }

[plugin.token]
component = "builtin:bearer-auth"
config.tokens = [{ name = "devbox", value = "${env:PW_TOKEN}" }]

[plugin.snapshot]
component = "builtin:snapshot-server"
config.file = "/snapshots/storage-state.json"
grant.files = [{ path = "state", as = "/snapshots" }]
"#,
    )
}
