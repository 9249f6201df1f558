//! Promise: the admin listener says whether witgate lives, whether it is ready and what it counted, and says the last
//! to nobody who may not know.

use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;

use rustix::process::Signal;
use serde_json::Value;
use witgate_tests::http::{self, Message};
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

const LOOPBACK: &str = "\n[admin]\nbind = \"127.0.0.1:0\"\n";

const REWRITE: &str = "
[plugin.rewrite]
component = \"builtin:host-rewrite\"
config.host = \"localhost\"
";

const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn admin(witgate: &Witgate) -> SocketAddr {
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let address = line.text("address").expect("the line has the address");
    let mut address: SocketAddr = address.parse().expect("an address");
    address.set_ip([127, 0, 0, 1].into());
    address
}

/// The value of a series, written as it stands in the text: `name{label="value"}`.
#[track_caller]
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no series {series} in\n{metrics}"));
    line.parse()
        .unwrap_or_else(|_| panic!("{series} is {line}"))
}

fn metrics(witgate: &Witgate) -> String {
    let answer = http::get(admin(witgate), "/metrics");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text().to_owned()
}

fn json(answer: &Message) -> Value {
    serde_json::from_str(answer.text()).expect("the body is JSON")
}

#[test]
fn what_went_through_is_counted_by_route_status_upstream_and_plugin() {
    let upstream = Upstream::answering(|request| {
        let missing = request.head.start_line.contains("/missing");
        let status = if missing { "404 Not Found" } else { "200 OK" };
        response(status, &[], "hello")
    });
    let config = config::through(&["rewrite"], upstream.address()).replace("/*", "/in/*");
    let witgate = Witgate::start(&format!("{config}{REWRITE}{LOOPBACK}"));
    for path in ["/in/a", "/in/missing", "/in/b", "/outside", "/in/c"] {
        drop(witgate.get("main", path));
    }
    let by_status = |status| {
        format!("witgate_requests_total{{listener=\"main\",route=\"all\",status=\"{status}\"}}")
    };

    // An exchange is counted after its last byte was sent, which its client may have seen before.
    let text = eventually("the last exchange to be counted", || {
        let text = metrics(&witgate);
        (value(&text, &by_status("2xx")) == 3.0).then_some(text)
    });

    let route = "listener=\"main\",route=\"all\"";
    let expected = [
        (by_status("4xx"), 1.0),
        (by_status("5xx"), 0.0),
        (format!("witgate_sent_bytes_total{{{route}}}"), 20.0),
        (format!("witgate_received_bytes_total{{{route}}}"), 0.0),
        (
            format!("witgate_request_duration_seconds_count{{{route}}}"),
            4.0,
        ),
        (
            "witgate_requests_total{listener=\"main\",route=\"\",status=\"4xx\"}".into(),
            1.0,
        ),
        (
            "witgate_upstream_requests_total{upstream=\"origin\",status=\"2xx\"}".into(),
            3.0,
        ),
        (
            "witgate_upstream_response_seconds_bucket{le=\"+Inf\",upstream=\"origin\"}".into(),
            4.0,
        ),
        (
            format!(
                "witgate_upstream_healthy{{upstream=\"origin\",endpoint=\"{}\"}}",
                upstream.address()
            ),
            1.0,
        ),
        (
            "witgate_plugin_calls_total{plugin=\"rewrite\",hook=\"on-request\"}".into(),
            4.0,
        ),
        (
            "witgate_plugin_failures_total{plugin=\"rewrite\",kind=\"trap\"}".into(),
            0.0,
        ),
        ("witgate_plugin_quarantined{plugin=\"rewrite\"}".into(), 0.0),
        (
            format!(
                "witgate_build_info{{version=\"{}\"}}",
                env!("CARGO_PKG_VERSION")
            ),
            1.0,
        ),
    ];
    for (series, expected) in expected {
        assert_eq!(value(&text, &series), expected, "{series} in\n{text}");
    }
    assert!(value(&text, "process_start_time_seconds") > 1.7e9);
}

#[test]
fn connections_and_tunnels_are_gauges_that_fall_again() {
    let upstream = Upstream::start(|peer| {
        peer.next_request();
        peer.send(SWITCHING);
        peer.read_to_end().ok();
    });
    let witgate = Witgate::start(&format!("{}{LOOPBACK}", config::relay(upstream.address())));
    let open = |expected: f64| {
        eventually("the gauges to follow", || {
            let text = metrics(&witgate);
            let connections = value(&text, "witgate_connections{listener=\"main\"}");
            let tunnels = "witgate_upgraded_connections{listener=\"main\",route=\"all\"}";
            (connections == expected && value(&text, tunnels) == expected).then_some(())
        });
    };
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.read_head().status(), 101);
    open(1.0);
    let shown = || {
        let mut shown = json(&http::get(admin(&witgate), "/connections"));
        shown["workers"][0].take()
    };
    let worker = eventually("the connection to be shown as a tunnel", || {
        let worker = shown();
        (worker["oldest"][0]["state"] == "upgraded").then_some(worker)
    });
    assert_eq!(worker["open"], 1, "{worker}");
    let connection = &worker["oldest"][0];
    let peer = client.stream().local_addr().expect("it is connected");
    for (key, expected) in [
        ("peer", peer.to_string().into()),
        ("listener", "main".into()),
        ("protocol", "HTTP/1.1".into()),
        ("exchanges", Value::from(1)),
    ] {
        assert_eq!(connection[key], expected, "{key} of {connection}");
    }
    drop(client);
    open(0.0);
    eventually("the connection to be gone from the list", || {
        (shown()["open"] == 0).then_some(())
    });
}

#[test]
fn ready_turns_before_the_listeners_close() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        let may_go_on = may_go_on.lock().expect("nobody panics holding it");
        may_go_on.recv_timeout(PATIENCE).expect("the test goes on");
        peer.send(response("200 OK", &[], "hello"));
    });
    let config = config::relay(upstream.address())
        .replace("workers = 1", "workers = 1\ndrain-delay = \"1h\"");
    let mut witgate = Witgate::start(&format!("{config}{LOOPBACK}"));
    let admin = admin(&witgate);
    let ready = http::get(admin, "/ready");
    assert_eq!(
        (ready.status(), &json(&ready)["ready"]),
        (200, &true.into())
    );
    assert_eq!(http::get(admin, "/health").text(), "ok\n");
    let mut client = witgate.connect("main");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    witgate.process().signal(Signal::TERM);

    let drained = eventually("it to be ready no longer", || {
        let answer = http::get(admin, "/ready");
        (answer.status() == 503).then_some(answer)
    });
    assert_eq!(json(&drained)["reasons"][0]["part"], "proxy");
    assert_eq!(http::get(admin, "/health").status(), 200);
    TcpStream::connect(witgate.address("main")).expect("connections are taken during the delay");
    go_on.send(()).expect("the script waits");
    assert_eq!(client.read_response().text(), "hello");
    // The second signal cuts the delay short.
    assert!(witgate.stop().status.success());
}

#[test]
fn metrics_are_for_the_bearer_of_the_token_or_for_the_loopback() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let with = |bind: &str, token: &str| {
        let relay = config::relay(upstream.address());
        Setup::new()
            .file("token", "0123456789abcdef0123456789abcdef\n")
            .start(&format!("{relay}\n[admin]\nbind = \"{bind}\"\n{token}"))
    };
    let witgate = with("127.0.0.1:0", "token = \"${file:token}\"");
    let ask = |authorization: &str| {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{authorization}\r\n");
        http::exchange(admin(&witgate), request)
    };
    let refused = ask("");
    assert_eq!(refused.status(), 401);
    assert!(refused.header("www-authenticate").is_some());
    assert_eq!(ask("Authorization: Bearer \r\n").status(), 401);
    assert_eq!(
        ask("Authorization: Bearer 0123456789abcdef\r\n").status(),
        401
    );
    let right = "Authorization: bearer 0123456789abcdef0123456789abcdef\r\n";
    assert_eq!(ask(right).status(), 200);
    assert_eq!(ask(&right.repeat(2)).status(), 401, "which of the two?");
    let ready = http::get(admin(&witgate), "/ready");
    assert_eq!((ready.status(), json(&ready).get("notes")), (200, None));

    let exposed = with("0.0.0.0:0", "");
    let refused = http::get(admin(&exposed), "/metrics");
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("admin.token"), "{}", refused.text());
    assert_eq!(http::get(admin(&exposed), "/health").status(), 200);
}

#[test]
fn the_token_is_rotated_without_a_restart() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let relay = config::relay(upstream.address());
    let (old, new) = ("0123456789abcdef-old", "0123456789abcdef-new");
    let witgate = Setup::new().file("token", old).start(&format!(
        "{relay}\n[admin]\nbind = \"127.0.0.1:0\"\ntoken = \"${{file:token}}\"\n"
    ));
    let admin = admin(&witgate);
    let status = |token: &str| {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        http::exchange(admin, request).status()
    };
    assert_eq!((status(old), status(new)), (200, 401));

    let directory = witgate.setup().path();
    std::fs::write(directory.join("next"), new).expect("the directory can be written");
    std::fs::rename(directory.join("next"), directory.join("token")).expect("in one step");

    eventually("the new token to be taken up", || {
        (status(new) == 200).then_some(())
    });
    assert_eq!(status(old), 401);
}

#[test]
fn what_it_does_not_have_is_said() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = Witgate::start(&format!("{}{LOOPBACK}", config::relay(upstream.address())));
    let admin = admin(&witgate);
    assert_eq!(http::get(admin, "/nothing").status(), 404);
    let post = http::exchange(
        admin,
        "POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(
        (post.status(), post.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let mut client = http::Connection::open(admin);
    client.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let head = client.read_response_to_head();
    assert_eq!(head.status(), 200);
}
