//! Promise: what is refused is counted by its reason, once; and `docs/limits.md` says which limits and reasons there are, and
//! which test shows each.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use ::http::Request;
use witgate_tests::admin::{self, ADMIN};
use witgate_tests::http::{self, Connection};
use witgate_tests::http2::{self, END_HEADERS, END_STREAM, frame, kind};
use witgate_tests::upstream::response;
use witgate_tests::websocket::{switching, upgrade};
use witgate_tests::{Upstream, Witgate, config, eventually};

/// Grants every WebSocket, answers what is for `/much` without end, and everything else at once.
fn upstream() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request_head() {
            if request.head.header("upgrade").is_some() {
                peer.send(switching(&[]));
                peer.expect_close();
                return;
            }
            if request.head.start_line.contains("/much") {
                peer.send("HTTP/1.1 200 OK\r\n\r\n");
                while peer.try_send(vec![b'a'; 1 << 16]).is_ok() {}
                return;
            }
            if peer.try_read_body(&request.head, false).is_err() {
                return;
            }
            if peer.try_send(response("200 OK", &[], "hello")).is_err() {
                return;
            }
        }
    })
}

/// The listeners `main`, `hasty`, `single` and `balanced`.
fn start(upstream: SocketAddr) -> Witgate {
    let both = "protocols = ['http/1.1', 'h2']";
    let listener = |name: &str, keys: &str| {
        format!(
            "\n[[listener]]\nname = '{name}'\nbind = '127.0.0.1:0'\n{keys}\n[[route]]\nlistener = '{name}'\nupstream = 'origin'\nlimits.upgrades-per-client = 1\n"
        )
    };
    let main = listener("main", &format!("{both}\nlimits.body-size = '1KiB'"));
    let hasty = "limits = { header-timeout = '100ms', body-timeout = '100ms' }";
    let hasty = listener("hasty", hasty);
    let single = listener("single", "limits.connections = 1");
    let balanced = listener("balanced", "proxy-protocol = 'require'");
    let server = "[server]\nworkers = 1\nvia = 'edge'\ntrusted-proxies = ['127.0.0.1']\n";
    let origin = format!("[upstream.origin]\nendpoints = ['http://{upstream}']\n");
    Witgate::start(&format!(
        "{server}{main}{hasty}{single}{balanced}{origin}{ADMIN}"
    ))
}

/// What was counted so far on this listener, without what was not.
fn counted(admin: SocketAddr, listener: &str) -> BTreeMap<String, u64> {
    let metrics = http::get(admin, "/metrics");
    let series = format!("witgate_refused_total{{listener=\"{listener}\",reason=\"");
    let lines = metrics.text().lines();
    lines
        .filter_map(|line| line.strip_prefix(&series)?.split_once("\"} "))
        .map(|(reason, count)| (reason.to_owned(), count.parse().expect("a number")))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Sends what is refused, and waits for the end of the connection.
fn ended(witgate: &Witgate, listener: &str, sent: &[u8]) {
    let mut client = witgate.connect(listener);
    // The proxy may close before all of it is written.
    client.try_send(sent).ok();
    // It does not end its own side: whoever does may be taken for gone before it is looked at.
    while client.try_read_exact(1).is_ok() {}
}

#[test]
fn a_refusal_is_counted_once_by_its_reason() {
    let upstream = upstream();
    let witgate = start(upstream.address());
    let admin = admin::address(&witgate);
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let (much, fields) = ("a".repeat(70_000), "a: b\r\n".repeat(200));
    let cases = [
        ("bad-head", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned()),
        ("bad-head", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("bad-line", "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned()),
        (
            "ambiguous-length",
            format!("{post}Content-Length: +1\r\n\r\na"),
        ),
        ("bad-chunk", format!("{chunked}1 \r\na\r\n0\r\n\r\n")),
        ("bad-chunk", format!("{chunked}1;\0\r\na\r\n0\r\n\r\n")),
        (
            "bad-body",
            format!("{chunked}1\r\na\r\n0\r\nX A: b\r\n\r\n"),
        ),
        (
            "header-too-large",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {much}\r\n\r\n"),
        ),
        (
            "header-too-large",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
        ),
        (
            "body-too-large",
            format!("{post}Content-Length: 1025\r\n\r\n{much}"),
        ),
        ("body-too-large", format!("{chunked}11170\r\n{much}")),
        (
            "unsupported",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(),
        ),
        (
            "loop",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 edge\r\n\r\n".to_owned(),
        ),
    ];
    let mut expected = BTreeMap::new();
    for (reason, sent) in &cases {
        ended(&witgate, "main", sent.as_bytes());
        *expected.entry((*reason).to_owned()).or_default() += 1;
        eventually(&format!("{reason} to be counted"), || {
            (counted(admin, "main") == expected).then_some(())
        });
    }
    let mut first = witgate.connect("main");
    first.send(upgrade("/", &[]));
    assert_eq!(first.read_head().status(), 101);
    ended(&witgate, "main", upgrade("/", &[]).as_bytes());
    expected.insert("too-many-upgrades".to_owned(), 1);
    eventually("the second WebSocket to be counted", || {
        (counted(admin, "main") == expected).then_some(())
    });
}

#[test]
fn who_is_slow_or_one_too_many_is_counted() {
    let upstream = upstream();
    let witgate = start(upstream.address());
    let admin = admin::address(&witgate);
    let is_counted = |listener: &str, reason: &str| {
        eventually(&format!("{reason} to be counted"), || {
            counted(admin, listener).contains_key(reason).then_some(())
        });
    };
    let mut head = witgate.connect("hasty");
    head.send("GET / HT");
    is_counted("hasty", "slow-head");

    // On a slow machine the time for its head may be over before that has arrived: once more then.
    eventually("slow-body to be counted", || {
        let mut body = witgate.connect("hasty");
        let sent = body.try_send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
        sent.ok()?;
        while body.try_read_exact(1).is_ok() {}
        counted(admin, "hasty")
            .contains_key("slow-body")
            .then_some(())
    });
    eventually("slow-reader to be counted", || {
        let mut reader = witgate.connect("hasty");
        reader
            .try_send("GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
            .ok()?;
        reader.try_read_head().ok()??;
        eventually("its upstream connection to be closed", || {
            (upstream.open() == 0).then_some(())
        });
        counted(admin, "hasty")
            .contains_key("slow-reader")
            .then_some(())
    });

    let held = witgate.connect("single");
    let waits = witgate.connect("single");
    is_counted("single", "too-many-connections");
    drop((held, waits));

    ended(&witgate, "balanced", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    is_counted("balanced", "proxy-protocol");
}

#[test]
fn what_only_http2_makes_possible_is_counted() {
    let upstream = upstream();
    let witgate = start(upstream.address());
    let admin = admin::address(&witgate);
    // A name and a long value that are indexed, and then meant again and again (RFC 7541 §6.1).
    let value = [&[0x40, 1, b'x', 127, 0x81 + 0x20, 0x1e][..], &[b'a'; 4000]].concat();
    let bomb = [value, vec![0xbe; 12_000]].concat();
    let pings = frame(kind::PING, 0, 0, &[0; 8]).repeat(100_000);
    let cases = [
        (
            "http2-error",
            frame(
                kind::HEADERS,
                END_STREAM | END_HEADERS,
                0,
                &http2::get_block(),
            ),
        ),
        (
            "http2-abuse",
            frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &bomb),
        ),
        ("flood", pings),
    ];
    for (reason, sent) in cases {
        let mut client: Connection = http2::begin(witgate.address("main"));
        // It is closed before all of it is written.
        client.try_send(sent).ok();
        while http2::try_read(&mut client).is_ok() {}
        eventually(&format!("{reason} to be counted"), || {
            (counted(admin, "main").get(reason) == Some(&1)).then_some(())
        });
    }
    assert_eq!(counted(admin, "main").len(), 3);
}

#[test]
fn a_connection_ends_after_so_many_requests_or_so_long_without_one() {
    let upstream = upstream();
    let relay = config::relay(upstream.address());
    let limited = |limit: &str| {
        let bind = "bind = \"127.0.0.1:0\"\n";
        let keys = format!("{bind}protocols = ['http/1.1', 'h2']\nlimits = {{ {limit} }}\n");
        Witgate::start(&relay.replace(bind, &keys))
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let witgate = limited("requests = 2");
    let mut client = witgate.connect("main");
    for closes in [false, true] {
        client.send(get);
        let response = client.read_response();
        assert_eq!(response.status(), 200);
        let says = response
            .header("connection")
            .is_some_and(|value| value == "close");
        assert_eq!(says, closes);
    }
    client.expect_close();
    let mut client = http2::Client::open(witgate.address("main"));
    for _ in 0..2 {
        let request = Request::get("http://a.example/").body(());
        let answer = client.exchange(request.expect("a request"));
        assert_eq!(answer.expect("an answer").status, 200);
    }
    client.expect_close();

    let witgate = limited("idle-timeout = \"100ms\"");
    let mut client = witgate.connect("main");
    client.send(get);
    assert_eq!(client.read_response().status(), 200);
    client.expect_close();
}

#[test]
fn a_chunk_says_little_beside_its_size() {
    let upstream = upstream();
    let witgate = Witgate::start(&config::relay(upstream.address()));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (extensions, status) in [(100, 200), (20_000, 400)] {
        let mut client = witgate.connect("main");
        let extension = "a".repeat(extensions);
        let request = format!("{chunked}1;{extension}\r\na\r\n0\r\n\r\n");
        client.try_send(request).ok();
        assert_eq!(client.read_head().status(), status);
    }
}

/// The first and the last cell of each row of the tables under a heading.
fn rows(page: &str, heading: &str) -> Vec<(String, String)> {
    let part = page.split(&format!("\n## {heading}\n")).nth(1);
    let part = part.expect("the page has this heading");
    let part = part.split("\n## ").next().unwrap_or_default();
    let lines = part
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = lines.map(|line| line.split(" | ").collect::<Vec<_>>());
    cells
        .filter(|cells| !matches!(cells[0], "key" | "what" | "reason"))
        .map(|cells| (cells[0].to_owned(), cells[cells.len() - 1].to_owned()))
        .collect()
}

#[test]
fn the_page_of_limits_names_every_reason_and_a_test_of_every_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/limits.md")).expect("the page is there");

    let upstream = upstream();
    let witgate = start(upstream.address());
    let metrics = http::get(admin::address(&witgate), "/metrics");
    let series = "witgate_refused_total{listener=\"main\",reason=\"";
    let lines = metrics.text().lines();
    let reasons = lines.filter_map(|line| line.strip_prefix(series)?.split('"').next());
    let mut counted: Vec<String> = reasons.map(|reason| format!("`{reason}`")).collect();
    let mut told: Vec<String> = rows(&page, "Reasons")
        .into_iter()
        .map(|row| row.0)
        .collect();
    counted.sort();
    told.sort();
    assert_eq!(told, counted);

    let folders = ["tests/tests", "host/proxy/src/connection"];
    let files = folders.map(|folder| fs::read_dir(root.join(folder)).expect("it is there"));
    let files = files.into_iter().flatten().filter_map(Result::ok);
    let files = files.filter(|file| file.path().is_file());
    let code: String = files
        .map(|file| fs::read_to_string(file.path()).expect("code is text"))
        .collect();
    for (limit, tests) in rows(&page, "Clients") {
        for test in tests.split(", ") {
            let name = test.trim_matches('`');
            assert!(
                code.contains(&format!("\nfn {name}("))
                    || code.contains(&format!("    fn {name}(")),
                "{limit}: {test}"
            );
        }
    }
}
