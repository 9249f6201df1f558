//! Promise: a plugin may send requests to the origins that it was granted and to no other, and whoever waits for an
//! answer holds up nobody else.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs};

use witgate_build::Build;
use witgate_tests::http::{Connection, Message};
use witgate_tests::nginx::Nginx;
use witgate_tests::tls::Certificates;
use witgate_tests::upstream::response;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate, config, eventually, port};

/// How long a hook may run. Less than the tests below make it wait, and more than a busy machine takes to run it.
const DEADLINE: Duration = Duration::from_millis(300);

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fetching-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("fetching-guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

/// The guest in front of an upstream that says hello.
struct Proxy {
    witgate: Witgate,
    config: String,
    _upstream: Upstream,
}

impl Proxy {
    /// With `grant.http-client = { origins = […], MORE }`.
    fn granting(origin: &Upstream, more: &str) -> Self {
        let address = origin.address();
        Self::with(&format!(
            "grant.http-client = {{ origins = [\"http://{address}\"], timeout = \"60s\"{more} }}"
        ))
    }

    fn with(grant: &str) -> Self {
        Self::in_setup(Setup::new(), grant)
    }

    fn in_setup(setup: Setup, grant: &str) -> Self {
        let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
        let table = format!(
            "\n[plugin.guest]\ncomponent = \"guest.wasm\"\nlimits.deadline = \"{DEADLINE:?}\"\n{grant}\n"
        );
        let text = config::through(&["guest"], upstream.address()) + &table;
        Self {
            witgate: setup.file("guest.wasm", component()).start(&text),
            config: text,
            _upstream: upstream,
        }
    }

    /// Sends a request that makes the guest send one.
    fn order(&self, url: &str, fields: &[&str]) -> Connection {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let mut client = self.witgate.connect("main");
        client.send(format!(
            "GET /order HTTP/1.1\r\nHost: a\r\nx-url: {url}\r\n{fields}\r\n"
        ));
        client
    }

    /// What came of it.
    fn outcome(&self, url: &str, fields: &[&str]) -> String {
        let answer = self.order(url, fields).read_response();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text().to_owned()
    }

    #[track_caller]
    fn assert_serves(&self) {
        assert_eq!(self.witgate.get("main", "/").text(), "hello");
    }
}

impl Proxy {
    #[track_caller]
    fn assert_serves_for_longer_than_a_hook_may_run(&self) {
        let since = Instant::now();
        while since.elapsed() <= DEADLINE {
            self.assert_serves();
        }
    }
}

fn url(origin: &Upstream, path: &str) -> String {
    format!("http://{}{path}", origin.address())
}

/// An origin that answers each request when the test says so, and tells it of each that came.
fn held() -> (Upstream, Receiver<()>, Sender<()>) {
    let ((came, has_come), (go, may_go)) = (channel(), channel());
    let (came, may_go) = (Mutex::new(came), Mutex::new(may_go));
    let origin = Upstream::answering(move |_| {
        let came = came.lock().expect("no script panics");
        came.send(()).expect("the test still runs");
        drop(came);
        // An error means that the test is over.
        let _over = may_go.lock().expect("no script panics").recv();
        response("200 OK", &[], "at last")
    });
    (origin, has_come, go)
}

#[test]
fn a_granted_origin_gets_the_request_and_the_plugin_the_response() {
    let origin = Upstream::answering(|_| {
        let fields = ["X-Answer: yes", "Connection: x-hop", "X-Hop: 1"];
        response("202 Accepted", &fields, "body")
    });
    let proxy = Proxy::granting(&origin, "");

    let fields = [
        "x-method: POST",
        "x-field: X-Asked: a",
        "x-field: x-asked: b",
        "x-body: data",
    ];
    let outcome = proxy.outcome(&url(&origin, "/path?q=1"), &fields);

    assert_eq!(outcome, "202\ncontent-length: 4\nx-answer: yes\nbody");
    let request: Message = origin.only_request();
    assert_eq!(request.head.start_line, "POST /path?q=1 HTTP/1.1");
    assert_eq!(request.header("host"), Some(&*origin.address().to_string()));
    assert_eq!(request.header("content-length"), Some("4"));
    assert_eq!(
        request.head.header_values("x-asked").collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(request.text(), "data");
    assert_eq!(request.header("user-agent"), None);
}

#[test]
fn requests_one_after_the_other_share_a_connection_until_it_is_closed() {
    let origin = Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            let close = request.head.start_line.starts_with("GET /close-unsaid ");
            let fields: &[&str] = match request.head.start_line.starts_with("GET /close ") {
                true => &["Connection: close"],
                false => &[],
            };
            if peer.try_send(response("200 OK", fields, "body")).is_err() || close {
                return;
            }
        }
    });
    let proxy = Proxy::granting(&origin, "");
    let assert_accepted = |path: &str, connections: usize| {
        let outcome = proxy.outcome(&url(&origin, path), &[]);
        assert!(outcome.starts_with("200\n"), "{path}: {outcome}");
        assert_eq!(origin.accepted(), connections, "after {path}");
    };

    assert_accepted("/", 1);
    let outcome = proxy.outcome(&url(&origin, "/"), &["x-times: 5", "x-body: data"]);
    assert!(outcome.starts_with("200\n"), "{outcome}");
    // Within seconds, which is what connections are kept for; a machine may be slower than that.
    assert!(
        origin.accepted() < 6,
        "{} connections for 6 requests",
        origin.accepted()
    );
    let before = origin.accepted();
    let outcome = proxy.outcome(&url(&origin, "/close"), &[]);
    assert!(outcome.starts_with("200\n"), "{outcome}");
    eventually("the connections to end", || {
        (origin.open() == 0).then_some(())
    });
    assert_accepted("/close-unsaid", origin.accepted().max(before) + 1);
    eventually("the connection to end", || {
        (origin.open() == 0).then_some(())
    });
    assert_accepted("/", origin.accepted() + 1);
}

/// nginx that says by which connection a request came, and for which host.
fn by_tls() -> Nginx {
    let told = "$ssl_protocol $http_host $connection";
    Nginx::start(
        &["localhost"],
        &format!("location / {{ return 203 {told:?}; }}"),
    )
}

#[test]
fn an_origin_by_https_is_reached_when_its_certificate_is_vouched_for() {
    let nginx = by_tls();
    let origin = format!("https://localhost:{}", nginx.port());
    let grant = |ca: &str| {
        format!("grant.http-client = {{ origins = [{origin:?}], timeout = \"60s\"{ca} }}")
    };

    let proxy = Proxy::with(&grant(&format!(", ca = {:?}", nginx.ca())));
    let first = proxy.outcome(&format!("{origin}/"), &[]);
    assert!(first.starts_with("203\n"), "{first}");
    let by_tls_for = format!(" localhost:{} ", nginx.port());
    let told = first.lines().last().unwrap_or_default();
    assert!(
        told.starts_with("TLSv1.") && told.contains(&by_tls_for),
        "{first}"
    );
    // The same connection serves the next request of the same call, as without TLS.
    let times = proxy.outcome(&format!("{origin}/"), &["x-times: 3"]);
    assert!(times.starts_with("203\n"), "{times}");
    // Plain HTTP to the same port is another origin.
    let plain = origin.replace("https", "http");
    let refused = proxy.outcome(&plain, &[]);
    assert!(refused.starts_with("NotGranted\n"), "{refused}");

    // Where nothing else is said, what the system trusts counts.
    let trusting = |ca: PathBuf| {
        let setup = Setup::new().env("SSL_CERT_DIR", "");
        setup.env("SSL_CERT_FILE", ca)
    };
    let others = Certificates::new(&["DNS:localhost"]);
    let proxy = Proxy::in_setup(trusting(others.ca()), &grant(""));
    let refused = proxy.outcome(&origin, &[]);
    assert!(refused.starts_with("Connect\n"), "{refused}");
    assert!(
        refused.contains("its certificate is not accepted"),
        "{refused}"
    );
    let proxy = Proxy::in_setup(trusting(nginx.ca()), &grant(""));
    let outcome = proxy.outcome(&origin, &[]);
    assert!(outcome.starts_with("203\n"), "{outcome}");
    let nobody = trusting("/no/such/file".into()).file("guest.wasm", component());
    let report = nobody.run_and_fail(&proxy.config).output();
    assert!(
        report.contains("the system trusts no certificate authority"),
        "{report}"
    );
}

#[test]
fn a_server_with_a_certificate_for_another_name_gets_no_request() {
    let nginx = by_tls();
    let origin = format!("https://127.0.0.1:{}", nginx.port());
    let proxy = Proxy::with(&format!(
        "grant.http-client = {{ origins = [{origin:?}], timeout = \"60s\", ca = {:?} }}",
        nginx.ca()
    ));

    let outcome = proxy.outcome(&origin, &[]);

    assert!(outcome.starts_with("Connect\n"), "{outcome}");
    assert!(outcome.contains("not valid for name"), "{outcome}");
}

#[test]
fn another_authority_in_the_file_is_taken_up_without_a_restart() {
    let nginx = by_tls();
    let origin = format!("https://localhost:{}", nginx.port());
    let others = fs::read(Certificates::new(&["DNS:localhost"]).ca()).expect("it was made");
    let proxy = Proxy::in_setup(
        Setup::new().file("ca.pem", others),
        &format!(
            "grant.http-client = {{ origins = [{origin:?}], timeout = \"60s\", ca = \"ca.pem\" }}"
        ),
    );
    let refused = proxy.outcome(&origin, &[]);
    assert!(refused.starts_with("Connect\n"), "{refused}");

    let file = proxy.witgate.setup().path().join("ca.pem");
    fs::copy(nginx.ca(), file).expect("the test's directory can be written");

    let reloaded = |line: &LogLine| line.message() == "reloaded";
    proxy.witgate.log_line("the reload", reloaded);
    let outcome = proxy.outcome(&origin, &[]);
    assert!(outcome.starts_with("203\n"), "{outcome}");
}

#[test]
fn a_server_that_never_shakes_hands_holds_up_nobody_and_is_given_up() {
    let silent = Upstream::start(|peer| {
        peer.read_to_end().ok();
    });
    let origin = format!("https://{}", silent.address());
    let certificates = Certificates::new(&["IP:127.0.0.1"]);
    let proxy = Proxy::with(&format!(
        "grant.http-client = {{ origins = [{origin:?}], timeout = \"60s\", ca = {:?} }}",
        certificates.ca()
    ));
    let mut waiting = proxy.order(&origin, &["x-timeout: 400"]);
    eventually("the connection", || (silent.accepted() == 1).then_some(()));

    proxy.assert_serves();

    let answer = waiting.read_response();
    assert!(answer.text().starts_with("Timeout\n"), "{}", answer.text());
    eventually("the end of the connection", || {
        (silent.open() == 0).then_some(())
    });
}

#[test]
fn nothing_reaches_an_origin_that_was_not_granted() {
    let granted = Upstream::answering(|_| response("200 OK", &[], ""));
    let other = Upstream::answering(|_| response("200 OK", &[], ""));
    let proxy = Proxy::granting(&granted, "");
    let port = granted.address().port();
    let address = other.address();
    for url in [
        url(&other, "/"),
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.1.:{port}/"),
        format!("http://127.1:{port}/"),
        "http://127.0.0.1/".to_owned(),
        format!("http://127.0.0.1:{port}.example/"),
        format!("http://127.0.0.1:{port}@{address}/"),
        format!("http://{address}#@127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
    ] {
        let outcome = proxy.outcome(&url, &[]);
        let kind = outcome.lines().next().unwrap_or_default();
        assert!(
            ["NotGranted", "InvalidUrl", "UnsupportedScheme"].contains(&kind),
            "{url}: {outcome}"
        );
    }
    assert_eq!((granted.accepted(), other.accepted()), (0, 0));
}

#[test]
fn without_a_grant_the_operator_is_warned_and_the_plugin_refused() {
    let origin = Upstream::answering(|_| response("200 OK", &[], ""));
    let proxy = Proxy::with("");

    let outcome = proxy.outcome(&url(&origin, "/"), &[]);
    let checked = proxy.witgate.setup().run_to_end(&["check", "witgate.toml"]);

    assert!(outcome.starts_with("NotGranted\n"), "{outcome}");
    assert_eq!(origin.accepted(), 0);
    assert!(checked.status.success(), "{}", checked.output());
    let said = checked.output();
    assert!(
        said.contains("warning: the component sends requests"),
        "{said}"
    );
    assert!(said.contains("grant.http-client"), "{said}");
}

#[test]
fn framing_host_and_line_breaks_cannot_be_written() {
    let origin = Upstream::answering(|_| response("200 OK", &[], ""));
    let proxy = Proxy::granting(&origin, ", body-size = \"4B\"");
    for field in [
        "Host: other",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Upgrade: websocket",
        "x-a: 1\\r\\nx-b: 2",
        "x-a\\r\\nx-b: 2",
        ": 1",
    ] {
        let outcome = proxy.outcome(&url(&origin, "/"), &[&format!("x-field: {field}")]);
        assert!(outcome.starts_with("InvalidHeader\n"), "{field}: {outcome}");
    }
    for method in ["CONNECT", "G ET"] {
        let outcome = proxy.outcome(&url(&origin, "/"), &[&format!("x-method: {method}")]);
        assert!(
            outcome.starts_with("InvalidMethod\n"),
            "{method}: {outcome}"
        );
    }
    let outcome = proxy.outcome(&url(&origin, "/"), &["x-body: 12345"]);
    assert!(outcome.starts_with("TooLarge\n"), "{outcome}");
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn what_is_no_usable_response_is_an_error_value() {
    let origin = Upstream::start(|peer| {
        let Some(request) = peer.next_request() else {
            return;
        };
        let bytes = match request.head.start_line.as_str() {
            "GET /large HTTP/1.1" => response("200 OK", &[], "x".repeat(2000)),
            "GET /chunked HTTP/1.1" => {
                let chunk = format!("7d0\r\n{}\r\n", "x".repeat(2000));
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into()
            }
            "GET /cut HTTP/1.1" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec(),
            "GET /garbage HTTP/1.1" => b"220 mail.example ESMTP\r\n".to_vec(),
            "GET /head HTTP/1.1" => {
                response("200 OK", &[&format!("a: {}", "x".repeat(300_000))], "")
            }
            "GET /switch HTTP/1.1" => b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            "GET /redirect HTTP/1.1" => response("302 Found", &["Location: /large"], ""),
            _ => return, // closed without a word
        };
        // It may have heard enough.
        peer.try_send(bytes).ok();
    });
    let proxy = Proxy::granting(&origin, ", body-size = \"1000B\"");
    for (path, expected) in [
        ("/large", "TooLarge\n"),
        ("/chunked", "TooLarge\n"),
        ("/cut", "Broken\n"),
        ("/garbage", "Broken\n"),
        ("/head", "Broken\n"),
        ("/switch", "Broken\n"),
        ("/closed", "Broken\n"),
        ("/redirect", "302\n"),
    ] {
        let outcome = proxy.outcome(&url(&origin, path), &[]);
        assert!(outcome.starts_with(expected), "{path}: {outcome}");
    }
}

#[test]
fn an_origin_that_is_not_there_is_an_error_value() {
    let origin = format!("http://127.0.0.1:{}", port::unused());
    let proxy = Proxy::with(&format!("grant.http-client.origins = [{origin:?}]"));

    let outcome = proxy.outcome(&origin, &[]);

    assert!(outcome.starts_with("Connect\n"), "{outcome}");
}

#[test]
fn who_waits_for_an_origin_holds_up_nobody_and_is_not_cut_by_the_deadline_of_hooks() {
    let (origin, has_come, go) = held();
    let proxy = Proxy::granting(&origin, "");
    let mut waiting = proxy.order(&url(&origin, "/"), &[]);
    has_come.recv().expect("the origin is asked");

    // By the one worker there is.
    proxy.assert_serves_for_longer_than_a_hook_may_run();
    go.send(()).expect("the origin still waits");

    let answer = waiting.read_response();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().ends_with("at last"), "{}", answer.text());
}

#[test]
fn many_wait_side_by_side() {
    const CLIENTS: usize = 20;
    let (origin, has_come, go) = held();
    let proxy = Proxy::granting(&origin, ", concurrency = 20");
    let mut clients: Vec<Connection> = (0..CLIENTS)
        .map(|_| proxy.order(&url(&origin, "/"), &[]))
        .collect();

    // All are there before the first is answered. The answers are one after the other: the origin holds a lock.
    eventually("all requests", || {
        (origin.accepted() == CLIENTS).then_some(())
    });
    proxy.assert_serves();
    for _ in 0..CLIENTS {
        has_come.recv().expect("the origin is asked");
        go.send(()).expect("the origin still waits");
    }

    for client in &mut clients {
        let answer = client.read_response();
        assert!(answer.text().ends_with("at last"), "{}", answer.text());
    }
}

#[test]
fn more_than_were_granted_at_once_wait_for_their_turn_as_long_as_they_may() {
    let (origin, has_come, go) = held();
    let proxy = Proxy::granting(&origin, ", concurrency = 1");
    let mut first = proxy.order(&url(&origin, "/"), &[]);
    has_come.recv().expect("the origin is asked");

    let outcome = proxy.outcome(&url(&origin, "/"), &["x-timeout: 100"]);
    assert!(outcome.starts_with("Busy\n"), "{outcome}");
    let mut second = proxy.order(&url(&origin, "/"), &[]);
    for _ in 0..2 {
        go.send(()).expect("the origin still waits");
    }

    for client in [&mut first, &mut second] {
        let answer = client.read_response();
        assert!(answer.text().ends_with("at last"), "{}", answer.text());
    }
}

#[test]
fn a_plugin_that_asks_itself_again_and_again_comes_to_an_end_and_holds_up_nobody() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let origin = format!("127.0.0.1:{}", port::unused());
    let text = config::through(&["guest"], upstream.address()).replace("127.0.0.1:0", &origin)
        + &format!(
            "\n[plugin.guest]\ncomponent = \"guest.wasm\"\n\
             grant.http-client = {{ origins = [\"http://{origin}\"], timeout = \"1s\", concurrency = 3 }}\n"
        );
    let proxy = Proxy {
        witgate: Setup::new().file("guest.wasm", component()).start(&text),
        config: text,
        _upstream: upstream,
    };
    let mut client = proxy.order(&format!("http://{origin}/order"), &["x-then: again"]);

    // The first three ask the next, and the fourth has no turn.
    proxy.assert_serves();
    let answer = client.read_response();

    assert_eq!(answer.status(), 200);
    // Which of the two it is depends on whose time is over first, on a busy machine.
    let said = answer.text();
    assert!(said.contains("Timeout") || said.contains("Busy"), "{said}");
    proxy.assert_serves();
    let ended = proxy.witgate.stop();
    assert!(ended.status.success(), "{}", ended.output());
    let deep = ended.output().matches("\"path\":\"/order\"").count();
    assert!(deep < 100, "{deep} asked one another");
}

#[test]
fn the_requests_of_one_call_share_the_time_that_was_granted() {
    let silent = Upstream::start(|peer| {
        peer.next_request();
        peer.read_to_end().ok();
    });
    let address = silent.address();
    let grant =
        format!("grant.http-client = {{ origins = [\"http://{address}\"], timeout = \"300ms\" }}");
    let proxy = Proxy::with(&grant);

    // The first has it all, so the others are not even sent.
    let outcome = proxy.outcome(&url(&silent, "/"), &["x-times: 50"]);

    assert!(outcome.starts_with("Timeout\n"), "{outcome}");
    eventually("the request that timed out to end", || {
        (silent.accepted() > 0 && silent.open() == 0).then_some(())
    });
    assert_eq!(silent.accepted(), 1);
    proxy.assert_serves();
}

#[test]
fn a_client_that_leaves_ends_the_request_for_it() {
    let silent = Upstream::start(|peer| {
        peer.next_request();
        peer.read_to_end().ok();
    });
    let proxy = Proxy::granting(&silent, "");
    for round in 1..=3 {
        let client = proxy.order(&url(&silent, "/"), &[]);
        eventually("the request of the plugin", || {
            (silent.received().len() == round).then_some(())
        });

        drop(client);

        eventually("the end of the plugin's request", || {
            (silent.open() == 0).then_some(())
        });
        proxy.assert_serves();
    }
}

#[test]
fn waiting_is_no_leave_to_run_on_afterwards() {
    let (origin, has_come, go) = held();
    let proxy = Proxy::granting(&origin, "");
    let mut client = proxy.order(&url(&origin, "/"), &["x-then: spin"]);
    has_come.recv().expect("the origin is asked");

    // Its first deadline has passed when it goes on.
    proxy.assert_serves_for_longer_than_a_hook_may_run();
    go.send(()).expect("the origin still waits");

    assert_eq!(client.read_response().status(), 500);
    proxy.witgate.log_line("the exceeded deadline", |line| {
        line.text("reason").is_some_and(|reason| {
            reason.contains("plugin `guest`") && reason.contains("deadline of 300ms")
        })
    });
    proxy.assert_serves();
}

#[test]
fn a_transform_of_a_body_cannot_send_requests() {
    let origin = Upstream::answering(|_| response("200 OK", &[], ""));
    let proxy = Proxy::granting(&origin, "");
    let mut client = proxy.witgate.connect("main");

    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nx-url: {}\r\nx-then: transform\r\nContent-Length: 4\r\n\r\ndata",
        url(&origin, "/")
    ));

    assert!(client.read_response().status() >= 400);
    proxy.witgate.log_line("the call out of place", |line| {
        line.text("reason")
            .is_some_and(|reason| reason.contains("requests are sent in hooks only"))
    });
    assert_eq!(origin.accepted(), 0);
}
