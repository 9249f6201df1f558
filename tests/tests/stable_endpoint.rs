//! Promise: `ws://HOST:PORT/` and `ws://HOST:PORT/devtools/browser` lead to the browser that runs now, so that a client
//! need not know the id that changes with every start.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use witgate_tests::http::Message;
use witgate_tests::site::{SIGNED_IN, Site};
use witgate_tests::upstream::response;
use witgate_tests::wait::within;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, chromium, clients, config, port};

const SWITCHING: &str = "HTTP/1.1 101 WebSocket Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

/// The plugin in front of a browser at this address.
fn endpoint(browser: &str) -> String {
    format!(
        "\n[plugin.endpoint]\ncomponent = \"builtin:cdp-endpoint\"\nconfig.browser = \"http://{browser}\"\n\
         grant.http-client = {{ origins = [\"http://{browser}\"], timeout = \"20s\" }}\n"
    )
}

fn upgrade(witgate: &Witgate, path: &str) -> Message {
    let mut client = witgate.connect("main");
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: box.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ));
    let head = client.read_head();
    let body = match head.status() {
        101 => Vec::new(),
        _ => client.read_body(&head, false),
    };
    Message { head, body }
}

#[test]
fn every_connect_asks_for_the_browser_of_that_moment() {
    let starts = AtomicU32::new(0);
    let browser = Upstream::start(move |peer| {
        while let Some(request) = peer.next_request() {
            let bytes = match request.header("upgrade") {
                Some(_) => SWITCHING.into(),
                None => {
                    let id = starts.fetch_add(1, Ordering::SeqCst);
                    let url = format!("ws://127.0.0.1/devtools/browser/id-{id}");
                    let body = format!("{{\"webSocketDebuggerUrl\":\"{url}\"}}");
                    response("200 OK", &[], body)
                }
            };
            if peer.try_send(bytes).is_err() {
                return;
            }
        }
    });
    let address = browser.address();
    let text = config::through(&["endpoint"], address) + &endpoint(&address.to_string());
    let witgate = Witgate::start(&text);

    for path in ["/", "/devtools/browser?token=1", "/devtools/browser/old-id"] {
        assert_eq!(upgrade(&witgate, path).status(), 101, "{path}");
    }

    let lines: Vec<String> = browser
        .received()
        .into_iter()
        .map(|received| received.request.head.start_line)
        .collect();
    assert_eq!(
        lines,
        [
            "GET /json/version HTTP/1.1",
            "GET /devtools/browser/id-0 HTTP/1.1",
            "GET /json/version HTTP/1.1",
            "GET /devtools/browser/id-1?token=1 HTTP/1.1",
            "GET /devtools/browser/old-id HTTP/1.1",
        ]
    );
}

#[test]
fn while_there_is_no_browser_the_client_is_asked_to_come_again() {
    let nowhere = format!("127.0.0.1:{}", port::unused());
    let address = nowhere.parse().expect("an address");
    let witgate = Witgate::start(&(config::through(&["endpoint"], address) + &endpoint(&nowhere)));

    let answer = upgrade(&witgate, "/");

    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.text(), "the browser is not ready\n");
}

/// A real browser behind the plugin, under `/` and under a prefix.
struct Service {
    witgate: Witgate,
    profile: PathBuf,
}

impl Service {
    fn start() -> Self {
        let port = port::unused();
        let browser = format!("127.0.0.1:{port}");
        let text = format!(
            r#"
[[listener]]
name = "cdp"
bind = "0.0.0.0:0"

[[route]]
plugins = ["host", "endpoint", "urls"]
upstream = "chromium"

[[route]]
path = "/browsers/one/*"
strip-prefix = "/browsers/one"
plugins = ["host", "endpoint", "urls"]
upstream = "chromium"

[upstream.chromium]
endpoints = ["http://{browser}"]

[plugin.host]
component = "builtin:host-rewrite"
config.host = "localhost"

[plugin.urls]
component = "builtin:cdp-urls"
{endpoint}
[chrome]
profile = "profile"
port = {port}
sandbox = false
"#,
            endpoint = endpoint(&browser)
        );
        let setup = Setup::new();
        let profile = setup.path().join("profile");
        let witgate = setup.start(&text);
        let service = Self { witgate, profile };
        service.wait_for_another_than(&Value::Null);
        service
    }

    /// Waits for a browser with another WebSocket URL than this, and gives it.
    fn wait_for_another_than(&self, old: &Value) -> Value {
        let ready = within(Duration::from_secs(120), || {
            let answer = self.witgate.get("cdp", "/json/version");
            let version: Value = serde_json::from_slice(&answer.body).ok()?;
            let url = version.get("webSocketDebuggerUrl")?.clone();
            (url != *old).then_some(url)
        });
        ready.expect("no browser answers through the proxy")
    }

    fn url(&self, path: &str) -> String {
        let port = self.witgate.address("cdp").port();
        format!("ws://{}:{port}{path}", clients::host_name())
    }
}

#[track_caller]
fn sign_in(client: fn(&str, &[&str]) -> Value, script: &str, url: &str, site: &str) {
    let seen = client(script, &[url, "sign-in", site]);
    assert_eq!(seen["who"], SIGNED_IN, "{url}: {seen}");
}

#[test]
fn real_clients_connect_by_a_url_that_outlives_the_browser() {
    let site = Site::start();
    let service = Service::start();
    let (root, named) = (service.url("/"), service.url("/devtools/browser"));
    let node = "playwright_connect.mjs";

    sign_in(clients::node, node, &root, &site.origin("a"));
    sign_in(
        clients::python,
        "playwright_connect.py",
        &named,
        &site.origin("b"),
    );
    sign_in(
        clients::node,
        "puppeteer_connect.mjs",
        &root,
        &site.origin("c"),
    );
    let prefixed = service.url("/browsers/one/");
    sign_in(clients::node, node, &prefixed, &site.origin("d"));

    let before = service.wait_for_another_than(&Value::Null);
    chromium::kill(&service.profile);
    service.wait_for_another_than(&before);

    sign_in(clients::node, node, &root, &site.origin("e"));
    sign_in(
        clients::node,
        "puppeteer_connect.mjs",
        &named,
        &site.origin("f"),
    );
}
