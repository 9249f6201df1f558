//! Promise: a route may end in a standard component of `wasi:http`, made by whatever toolchain, and a misbehaving one
//! ends its own exchange, says why in the log, and harms nobody else.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::Signal;
use witgate_tests::http::{Connection, Message, exchange};
use witgate_tests::nginx::Nginx;
use witgate_tests::tls::Certificates;
use witgate_tests::upstream::response;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate, config, wasi_http};

const MEBIBYTE: usize = 1 << 20;

fn wstd() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| wasi_http::rust("wstd-component"))
}

fn wasip3() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| wasi_http::rust("wasip3-component"))
}

fn middleware() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| wasi_http::rust("middleware-component"))
}

/// One worker, one route that ends in the plugin `app`, whose table ends the text.
fn ending_in_app(route: &str) -> String {
    format!(
        r#"
[server]
workers = 1

[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
name = "all"
component = "app"
{route}

[plugin.app]
component = "app.wasm"
"#
    )
}

fn serving(component: &[u8], table: &str) -> Witgate {
    let text = ending_in_app("") + table;
    Setup::new().file("app.wasm", component).start(&text)
}

fn post(witgate: &Witgate, path: &str, body: &str) -> Message {
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    exchange(witgate.address("main"), request)
}

/// The client learns no more than the status, the log names plugin, route and reason, the next exchange is served.
#[track_caller]
fn assert_failed(witgate: &Witgate, path: &str, said: &str) {
    let answer = witgate.get("main", path);
    assert_eq!(
        (answer.status(), answer.text()),
        (500, "internal server error\n")
    );
    let line = reason(witgate, said);
    assert_eq!(line.text("route"), Some("all"));
    assert_eq!(witgate.get("main", "/").status(), 200);
}

#[track_caller]
fn reason(witgate: &Witgate, said: &str) -> LogLine {
    witgate.log_line(&format!("a failure that says {said:?}"), |line| {
        let reason = line.text("reason").unwrap_or_default();
        reason.contains("plugin `app`") && reason.contains(said)
    })
}

/// Sends a body in two halves and reads each back before the next is sent, then sends so much that no buffer holds it.
fn assert_streams(witgate: &Witgate) {
    let mut client = witgate.connect("main");
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    assert_eq!(client.read_head().status(), 200);
    assert_eq!(read_chunks(&mut client, 5), b"first");
    client.send("6\r\nsecond\r\n");
    assert_eq!(read_chunks(&mut client, 6), b"second");
    let piece = vec![b'x'; MEBIBYTE];
    for _ in 0..10 {
        client.send(format!("{MEBIBYTE:x}\r\n"));
        client.send(&piece);
        client.send("\r\n");
        assert_eq!(read_chunks(&mut client, MEBIBYTE), piece);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.try_read_chunk().expect("the last chunk"), None);
}

#[track_caller]
fn read_chunks(client: &mut Connection, length: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < length {
        let chunk = client.try_read_chunk().expect("a chunk");
        read.extend(chunk.expect("the body goes on"));
    }
    read
}

#[test]
fn a_component_made_with_wstd_serves_and_streams() {
    let witgate = serving(wstd(), "");
    let answer = witgate.get("main", "/");
    assert_eq!((answer.status(), answer.text()), (200, "hello from wstd\n"));
    assert_eq!(post(&witgate, "/echo", "some words").text(), "some words");
    assert_streams(&witgate);
}

#[test]
fn a_component_made_with_wasip3_serves_and_streams() {
    let witgate = serving(wasip3(), "");
    let answer = witgate.get("main", "/");
    assert_eq!(
        (answer.status(), answer.text()),
        (200, "hello from wasip3\n")
    );
    assert_eq!(post(&witgate, "/echo", "some words").text(), "some words");
    assert_streams(&witgate);
}

#[test]
fn a_component_made_with_jco_and_starlingmonkey_serves() {
    let witgate = serving(&wasi_http::starlingmonkey(), "");
    let answer = witgate.get("main", "/some/path?query");
    assert_eq!(answer.text(), "hello from javascript at /some/path\n");
    assert_eq!(answer.header("x-engine"), Some("starlingmonkey"));
    let answer = post(&witgate, "/", "four");
    assert_eq!(answer.text(), "javascript read 4 characters\n");
}

#[test]
fn a_component_made_with_jco_and_quickjs_serves() {
    let witgate = serving(&wasi_http::quickjs(), "");
    let answer = witgate.get("main", "/some/path");
    assert_eq!(answer.text(), "hello from javascript at /some/path\n");
    assert_eq!(answer.header("x-engine"), Some("quickjs"));
    assert_eq!(
        post(&witgate, "/upper", "a few words").text(),
        "A FEW WORDS"
    );
}

#[test]
fn a_component_made_with_componentize_py_serves() {
    let witgate = serving(&wasi_http::python(), "");
    let answer = witgate.get("main", "/some/path?query");
    assert_eq!(answer.text(), "hello from python at /some/path?query\n");
    assert_eq!(answer.header("x-engine"), Some("cpython"));
}

#[test]
fn a_component_sees_the_request_as_an_upstream_would() {
    let witgate = serving(wstd(), "");
    let request = "PUT /head?a=b HTTP/1.1\r\nHost: example.com:81\r\nConnection: x-private\r\n\
                   X-Private: 1\r\nX-Kept: 2\r\n\r\n";
    let seen = exchange(witgate.address("main"), request);
    let lines: Vec<_> = seen.text().lines().collect();
    assert_eq!(lines[0], "PUT http://example.com:81/head?a=b");
    for there in ["x-kept: 2", "x-forwarded-for: 127.0.0.1"] {
        assert!(lines.contains(&there), "{lines:#?}");
    }
    for gone in ["x-private:", "connection:", "host:"] {
        assert!(
            !lines.iter().any(|line| line.starts_with(gone)),
            "{lines:#?}"
        );
    }
}

#[test]
fn nothing_is_granted_that_was_not_asked_for() {
    let witgate = serving(wstd(), "");
    assert_eq!(witgate.get("main", "/environment").text(), "[] no files\n");
}

#[test]
fn what_a_component_prints_is_in_the_log_with_plugin_and_route() {
    let witgate = serving(wstd(), "");
    assert_eq!(witgate.get("main", "/print").status(), 200);
    let line = witgate.log_line("the words", |line| {
        line.message() == "printed by the component"
    });
    let fields =
        ["plugin", "stream", "route"].map(|name| line.text(name).unwrap_or_default().to_owned());
    assert_eq!(fields, ["app", "stdout", "all"]);
}

#[test]
fn a_slow_reader_does_not_make_the_proxy_buffer_a_response() {
    let mut witgate = serving(wstd(), "");
    let mut client = witgate.connect("main");
    client.send("GET /stream?1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_head().status(), 200);
    read_chunks(&mut client, 20 * MEBIBYTE);
    // A thousand MiB are under way to a client that has read twenty.
    let status = fs::read_to_string(format!("/proc/{}/status", witgate.process().id()));
    let status = status.expect("the proxy runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let resident: usize = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("a number of KiB");
    assert!(resident < 500 << 10, "{resident} KiB");
}

#[test]
fn hook_plugins_stand_around_a_component() {
    let component = wstd();
    let text = ending_in_app("plugins = [\"rewrite\"]")
        + "[plugin.rewrite]\ncomponent = \"builtin:host-rewrite\"\nconfig.host = \"inner.example\"\n";
    let witgate = Setup::new().file("app.wasm", component).start(&text);
    let seen = witgate.get("main", "/head");
    assert!(
        seen.text().starts_with("GET http://inner.example/head\n"),
        "{}",
        seen.text()
    );
}

#[test]
fn a_component_sends_requests_where_it_was_granted_and_nowhere_else() {
    let origin = Upstream::answering(|_| response("203 Odd", &[], "from the origin"));
    let other = Upstream::answering(|_| response("200 OK", &[], "not granted"));
    let (granted, refused) = (origin.address(), other.address());
    let grant = format!("grant.http-client = {{ origins = [\"http://{granted}\"] }}");
    let witgate = serving(wstd(), &grant);
    let answer = witgate.get("main", &format!("/fetch?http://{granted}/x"));
    assert_eq!(answer.text(), "from the origin");
    assert_eq!(answer.header("x-fetched"), Some("203"));
    assert_eq!(origin.only_request().head.start_line, "GET /x HTTP/1.1");
    let answer = witgate.get("main", &format!("/fetch?http://{refused}/"));
    assert!(answer.text().starts_with("refused: "), "{}", answer.text());
    assert_eq!(other.accepted(), 0);
}

#[test]
fn without_a_grant_no_request_is_sent() {
    let origin = Upstream::answering(|_| response("200 OK", &[], "not granted"));
    let witgate = serving(wstd(), "");
    let answer = witgate.get("main", &format!("/fetch?http://{}/", origin.address()));
    // The guest's library tells of the refusal or of the body that nobody takes, whichever it sees first.
    assert!(answer.text().starts_with("refused: "), "{}", answer.text());
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_component_keeps_in_a_store_what_its_instances_do_not() {
    let component = wasi_http::rust("keyvalue-component");
    let witgate = serving(&component, "grant.keyvalue = { value-size = \"5B\" }");
    let ask = |path: &str| witgate.get("main", path).text().to_owned();
    assert_eq!(
        ["/", "/", "/"].map(ask),
        ["exchange 1", "exchange 2", "exchange 3"]
    );
    assert_eq!(ask("/many"), "[\"a\", \"b\"], then false");
    assert_eq!(ask("/set?k=value"), "Some(Ok(\"value\"))");
    assert_eq!(
        ask("/set?k=longer"),
        "a value is over the 5 bytes of `grant.keyvalue.value-size`"
    );
    assert_eq!(ask("/open?other"), "no such store");
    let listed = ask("/list");
    let mut keys: Vec<&str> = listed.trim_matches(['[', ']']).split(", ").collect();
    keys.sort_unstable();
    assert_eq!(keys, ["\"exchanges\"", "\"k\""]);

    let refused = serving(&component, "");
    assert_eq!(refused.get("main", "/").text(), "access denied");
    let checked = refused.setup().run_to_end(&["check", "witgate.toml"]);
    let said = checked.output();
    assert!(said.contains("keeps values in a store"), "{said}");
}

#[test]
fn a_component_sends_requests_by_https() {
    let nginx = Nginx::start(
        &["localhost"],
        "location / { return 203 \"$ssl_protocol\"; }",
    );
    let origin = format!("https://localhost:{}", nginx.port());
    let grant =
        |ca: &Path| format!("grant.http-client = {{ origins = [{origin:?}], ca = {ca:?} }}");
    let witgate = serving(wstd(), &grant(&nginx.ca()));
    let answer = witgate.get("main", &format!("/fetch?{origin}/"));
    assert!(answer.text().starts_with("TLSv1."), "{}", answer.text());

    let others = Certificates::new(&["DNS:localhost"]);
    let witgate = serving(wstd(), &grant(&others.ca()));
    let answer = witgate.get("main", &format!("/fetch?{origin}/"));
    assert!(
        answer.text().contains("TlsCertificateError"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_component_waits_no_longer_than_it_wants_to() {
    // It takes connections, and says as much as it is asked for before it says nothing more.
    let origin = Upstream::start(|peer| {
        let Ok(Some(head)) = peer.try_read_head() else {
            // No head but the beginning of a handshake.
            return;
        };
        if head.start_line.contains("/head") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        }
        peer.read_to_end().ok();
    });
    let address = origin.address();
    let certificates = Certificates::new(&["IP:127.0.0.1"]);
    let ca = certificates.ca();
    let witgate = serving(
        wstd(),
        &format!(
            "grant.http-client = {{ origins = [\"http://{address}\", \"https://{address}\"], \
             timeout = \"60s\", ca = {ca:?} }}\nlimits.first-byte = \"60s\""
        ),
    );
    for (wanted, url, said) in [
        (
            "connect",
            format!("https://{address}/"),
            "ConnectionTimeout",
        ),
        (
            "first-byte",
            format!("http://{address}/"),
            "HttpResponseTimeout",
        ),
        (
            "between-bytes",
            format!("http://{address}/head"),
            "broken off",
        ),
    ] {
        let answer = witgate.get("main", &format!("/fetch-within?{wanted}&{url}"));
        assert!(answer.text().contains(said), "{wanted}: {}", answer.text());
    }
}

#[test]
fn a_component_that_spins_holds_nobody_up_and_is_ended() {
    for component in [wstd(), wasip3()] {
        let witgate = serving(component, "limits.processor = \"1s\"");
        let mut spinning = witgate.connect("main");
        spinning.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n");
        // The one worker serves these while the other still runs.
        for _ in 0..20 {
            assert_eq!(witgate.get("main", "/").status(), 200);
        }
        assert_eq!(spinning.read_response().status(), 500);
        reason(&witgate, "1s of a processor");
        assert_eq!(witgate.get("main", "/").status(), 200);
    }
}

#[test]
fn a_component_that_never_answers_is_ended() {
    let witgate = serving(wstd(), "limits.first-byte = \"5s\"");
    assert_failed(&witgate, "/wait", "no response began within 5s");
}

#[test]
fn a_component_that_traps_is_named_with_its_own_functions() {
    for component in [wstd(), wasip3()] {
        let witgate = serving(component, "");
        assert_failed(&witgate, "/trap", "trapped in handle");
        witgate.log_line("the panic's own words", |line| {
            line.message().contains("this component panics")
        });
    }
}

#[test]
fn a_component_that_gives_up_is_a_failure_with_its_reason() {
    assert_failed(&serving(wstd(), ""), "/fail", "this component gives up");
    assert_failed(&serving(wasip3(), ""), "/fail", "it gives up");
}

#[test]
fn a_component_that_ends_without_a_response_is_a_failure() {
    let answer = serving(wstd(), "").get("main", "/exit");
    assert_eq!(answer.status(), 500);
}

#[test]
fn a_component_that_traps_in_its_body_cuts_the_connection() {
    for component in [wstd(), wasip3()] {
        let witgate = serving(component, "");
        let mut client = witgate.connect("main");
        client.send("GET /trap-in-body HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.read_head();
        assert_eq!(head.status(), 200);
        // The last chunk would say that this was all.
        client
            .try_read_body(&head, false)
            .expect_err("the body has no end");
        assert_eq!(witgate.get("main", "/").status(), 200);
    }
}

#[test]
fn a_component_gets_no_more_memory_than_its_limit() {
    let witgate = serving(wstd(), "limits.memory = \"16MiB\"");
    assert_failed(&witgate, "/hog", "16777216 bytes of memory");
}

#[test]
fn the_framing_is_the_proxys_own() {
    let witgate = serving(wstd(), "");
    let answer = witgate.get("main", "/framing");
    assert_eq!((answer.status(), answer.text()), (200, "12345"));
    assert_eq!(answer.header("x-own"), Some("kept"));
    let mut client = witgate.connect("main");
    client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    if let Some(head) = client.try_read_head().expect("a head or an end") {
        // It promised more than it wrote: either nothing is sent, or the connection ends early.
        assert!(head.status() == 500 || client.try_read_body(&head, false).is_err());
    }
    assert_failed(&witgate, "/status?103", "a status of 103");
}

#[test]
fn a_client_that_leaves_ends_its_instance() {
    let witgate = serving(
        wstd(),
        "limits.concurrency = 1\nlimits.first-byte = \"60s\"",
    );
    let mut leaving = witgate.connect("main");
    leaving.send("GET /stream?100000 HTTP/1.1\r\nHost: a\r\n\r\n");
    leaving.read_head();
    leaving.reset();
    // There is room for one, so this is served when the other has ended.
    assert_eq!(witgate.get("main", "/").status(), 200);
}

#[test]
fn a_reload_replaces_a_component() {
    let mut witgate = serving(wstd(), "");
    assert_eq!(witgate.get("main", "/").text(), "hello from wstd\n");
    let file = witgate.setup().path().join("app.wasm");
    fs::write(file, wasip3()).expect("the test's directory can be written");
    witgate.process().signal(Signal::HUP);
    witgate.log_line("the next generation", |line| line.message() == "reloaded");
    assert_eq!(witgate.get("main", "/").text(), "hello from wasip3\n");
}

/// A middleware before an upstream, with a hook plugin behind it.
fn through_middleware() -> (Witgate, Upstream) {
    let upstream = Upstream::answering(|request| {
        response(
            "201 Made",
            &["X-Origin: there"],
            request.head.start_line.as_bytes(),
        )
    });
    let text = config::through(&["middle", "rewrite"], upstream.address())
        + "[plugin.middle]\ncomponent = \"middle.wasm\"\n\
           [plugin.rewrite]\ncomponent = \"builtin:host-rewrite\"\nconfig.host = \"inner.example\"\n";
    let setup = Setup::new().file("middle.wasm", middleware());
    (setup.start(&text), upstream)
}

#[test]
fn a_middleware_stands_in_a_chain_of_hook_plugins() {
    let (witgate, upstream) = through_middleware();
    let answer = witgate.get("main", "/passed?on");
    assert_eq!(
        (answer.status(), answer.text()),
        (201, "GET /passed?on HTTP/1.1")
    );
    assert_eq!(answer.header("x-middleware"), Some("passed"));
    assert_eq!(answer.header("x-origin"), Some("there"));
    let request = upstream.only_request();
    assert_eq!(request.head.header("host"), Some("inner.example"));
    // A body goes both through it and on.
    let answer = post(&witgate, "/body", "some words");
    assert_eq!(answer.status(), 201);
    assert_eq!(upstream.received()[1].request.body, b"some words");
}

#[test]
fn a_middleware_may_answer_itself_or_ask_twice() {
    let (witgate, upstream) = through_middleware();
    assert_eq!(witgate.get("main", "/closed").status(), 403);
    assert_eq!(upstream.accepted(), 0);
    assert_eq!(witgate.get("main", "/twice").text(), "GET /twice HTTP/1.1");
    let asked = upstream.received();
    let asked: Vec<_> = asked
        .iter()
        .map(|it| &*it.request.head.start_line)
        .collect();
    assert_eq!(asked, ["GET /first HTTP/1.1", "GET /twice HTTP/1.1"]);
    // One of them it made itself.
    for request in upstream.received() {
        let head = &request.request.head;
        for framing in ["transfer-encoding", "content-length"] {
            assert_eq!(head.header(framing), None, "{head:?}");
        }
    }
}

#[test]
fn a_request_without_a_body_that_a_middleware_makes_is_sent_again_when_that_is_safe() {
    // Each connection answers once and swallows what comes after.
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send(response("200 OK", &[], "well"));
            peer.next_request_head();
        }
    });
    let text = config::through(&["middle"], upstream.address())
        + "[plugin.middle]\ncomponent = \"middle.wasm\"\n";
    let setup = Setup::new().file("middle.wasm", middleware());
    let witgate = setup.start(&text);
    for _ in 0..5 {
        assert_eq!(witgate.get("main", "/twice").text(), "well");
    }
}

#[test]
fn a_failure_behind_a_middleware_is_told_unless_it_made_up_for_it() {
    let upstream = Upstream::answering(|request| {
        match ["/first", "/broken"]
            .iter()
            .any(|path| request.head.start_line.contains(path))
        {
            true => b"no response\r\n\r\n".to_vec(),
            false => response("200 OK", &[], b"well"),
        }
    });
    let text = config::through(&["middle"], upstream.address())
        + "[plugin.middle]\ncomponent = \"middle.wasm\"\n";
    let setup = Setup::new().file("middle.wasm", middleware());
    let witgate = setup.start(&text);
    let outcome = |path: &str| {
        let line = witgate.log_line("the exchange's line in the access log", |line| {
            line.message() == "exchange" && line.text("path") == Some(path)
        });
        line.text("outcome").map(str::to_owned)
    };

    assert_eq!(witgate.get("main", "/broken").status(), 502);
    assert_eq!(outcome("/broken").as_deref(), Some("failed"));
    assert_eq!(witgate.get("main", "/twice").status(), 200);
    assert_eq!(outcome("/twice").as_deref(), Some("complete"));
}

/// The report of a configuration that names components where they cannot stand.
#[track_caller]
fn refused(component: &[u8], config: &str) -> String {
    let setup = Setup::new().file("app.wasm", component);
    setup.run_and_fail(config).output()
}

#[test]
fn a_component_stands_only_where_it_can() {
    let hooks = ending_in_app("").replace("app.wasm", "builtin:connection-close");
    let report = refused(b"", &hooks);
    assert!(
        report.contains("is called at hooks, and is no component of `wasi:http`"),
        "{report}"
    );

    let in_chain =
        ending_in_app("").replace("component = \"app\"", "plugins = [\"app\"]\nreply = {}");
    let report = refused(wstd(), &in_chain);
    assert!(report.contains("answers every request itself"), "{report}");
    assert!(report.contains("component = \"app\""), "{report}");

    let report = refused(middleware(), &ending_in_app(""));
    assert!(
        report.contains("is a middleware, which needs something behind it"),
        "{report}"
    );
}

#[test]
fn keys_that_mean_nothing_for_a_component_are_refused() {
    let keys = "limits.deadline = \"1s\"\nconfig.a = \"b\"\non-failure = \"open\"\n";
    let report = refused(wstd(), &(ending_in_app("") + keys));
    for said in [
        "are about hooks, and this component of `wasi:http` has none",
        "does not read a configuration",
        "cannot be skipped",
    ] {
        assert!(report.contains(said), "{report}");
    }
}
