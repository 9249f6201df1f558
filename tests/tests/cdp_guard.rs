//! Promise: with `cdp-guard`, clients work in the shared browser as before, each sends no more than its token may, and
//! nobody ends the browser or empties its profile.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::http::Connection;
use witgate_tests::site::{SIGNED_IN, Site};
use witgate_tests::wait::within;
use witgate_tests::websocket::{BINARY, TEXT, masked, read, upgrade};
use witgate_tests::witgate::Setup;
use witgate_tests::{Witgate, chromium, clients, eventually};

const ADMIN: &str = "8f3a61c05e";
const AGENT: &str = "b92e7d14aa";
const READER: &str = "4c07f5e8d3";

/// How long a start or an end of Chromium may take on a busy machine.
const BROWSER: Duration = Duration::from_secs(120);

/// Ports that Chromium opens no page at and sends no request to.
const BLOCKED_BY_CHROMIUM: [u16; 8] = [6667, 6666, 6668, 6669, 6665, 6697, 6679, 10080];

/// One of them that nobody listens on.
fn blocked_port() -> u16 {
    let mut ports = BLOCKED_BY_CHROMIUM.into_iter();
    let free = ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.expect("nobody listens on all of these ports")
}

/// A browser of which an operator may do everything, a reader little, and all others what harms nobody.
fn start(browser: u16) -> Witgate {
    let setup = Setup::new();
    let text = format!(
        r#"
[[listener]]
name = "cdp"
bind = "0.0.0.0:0"

[[route]]
plugins = ["access", "guard", "host", "urls"]
upstream = "chromium"

[upstream.chromium]
endpoints = ["http://127.0.0.1:{browser}"]

[plugin.access]
component = "builtin:bearer-auth"
config.query-parameter = "token"
config.tokens = [
    {{ name = "admin", value = "{ADMIN}" }},
    {{ name = "agent", value = "{AGENT}" }},
    {{ name = "reader", value = "{READER}" }},
]

[plugin.guard]
component = "builtin:cdp-guard"
config.tokens-of = "access"
config.rules.admin = {{ deny = [], urls = "any" }}
config.rules.agent = {{}}
config.rules.reader = {{ allow = ["Browser.getVersion", "Target.*"], deny = ["Target.createTarget"] }}
limits.log-lines = 10000

[plugin.host]
component = "builtin:host-rewrite"
config.host = "localhost"

[plugin.urls]
component = "builtin:cdp-urls"
config.carry-query = ["token"]

[chrome]
profile = "profile"
port = {browser}
sandbox = false
"#
    );
    let witgate = setup.start(&text);
    wait_for_browser(&witgate);
    witgate
}

/// The path of the browser's WebSocket.
fn wait_for_browser(witgate: &Witgate) -> String {
    let path = within(BROWSER, || {
        let answer = witgate.get("cdp", &format!("/json/version?token={ADMIN}"));
        let version: Value = serde_json::from_slice(&answer.body).ok()?;
        let url = version.get("webSocketDebuggerUrl")?.as_str()?;
        let (_, path) = url.strip_prefix("ws://")?.split_once('/')?;
        Some(format!("/{}", path.split('?').next()?))
    });
    path.expect("no browser answers through the proxy")
}

/// A client of the protocol that says what it likes.
struct Client {
    connection: Connection,
    next: u64,
    /// The target that commands are for, if not the browser.
    session: Option<String>,
}

impl Client {
    fn connect(witgate: &Witgate, token: &str) -> Self {
        let path = wait_for_browser(witgate);
        let mut connection = witgate.connect("cdp");
        let authorization = format!("Authorization: Bearer {token}");
        connection.send(upgrade(&path, &[&authorization]));
        assert_eq!(connection.read_head().status(), 101);
        Self {
            connection,
            next: 1,
            session: None,
        }
    }

    /// The answer to a command.
    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        let mut command = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.connection.send(masked(TEXT, command.to_string()));
        self.answer(|answer| answer["id"] == id)
    }

    /// The first message that is meant.
    #[track_caller]
    fn answer(&mut self, is_meant: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = read(&mut self.connection);
            let message = serde_json::from_slice(&frame.payload).expect("the protocol is JSON");
            if is_meant(&message) {
                return message;
            }
        }
    }

    /// What a script comes to in the page.
    #[track_caller]
    fn evaluate(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        self.call("Runtime.evaluate", params)["result"]["result"]["value"].clone()
    }

    #[track_caller]
    fn assert_refused(&mut self, method: &str, params: Value) {
        let answer = self.call(method, params);
        assert_eq!(answer["error"]["code"], -32000, "{method}: {answer}");
    }

    #[track_caller]
    fn assert_lives(&mut self) {
        let answer = self.call("Browser.getVersion", json!({}));
        let product = answer["result"]["product"].as_str().unwrap_or_default();
        assert!(product.contains("Chrome"), "{answer}");
    }
}

#[test]
fn clients_work_as_before_and_nobody_ends_the_browser_but_who_may() {
    let site = Site::start();
    let debugging_port = blocked_port();
    let witgate = start(debugging_port);
    let profile = witgate.setup().path().join("profile");
    let browser = chromium::browser_process(&profile).expect("a browser runs");
    let port = witgate.address("cdp").port();
    let url = |token| format!("http://{}:{port}?token={token}", clients::host_name());

    let seen = clients::node(
        "playwright_connect.mjs",
        &[&url(AGENT), "sign-in", &site.origin("a")],
    );
    assert_eq!(seen["who"], SIGNED_IN, "{seen}");
    witgate.log_line("the audit of a command", |line| {
        line.message()
            .starts_with("allowed Page.navigate, token agent, id ")
    });

    let mut agent = Client::connect(&witgate, AGENT);
    agent.assert_refused("Browser.close", json!({}));
    agent.assert_refused("Storage.clearCookies", json!({}));
    ways_around(&mut agent);
    pages_reach_no_commands(&mut agent, debugging_port, &site);
    let cookies = agent.call("Storage.getCookies", json!({}));
    let cookies = cookies["result"]["cookies"].as_array().map(Vec::len);
    assert!(
        cookies.is_some_and(|count| count > 0),
        "the session is there"
    );
    witgate.log_line("what was refused", |line| {
        line.level() == "WARN" && line.message() == "refused Browser.close, token agent, id 1"
    });

    let mut reader = Client::connect(&witgate, READER);
    let page = json!({ "url": "about:blank" });
    reader.assert_refused("Target.createTarget", page.clone());
    reader.assert_refused("Storage.getCookies", json!({}));
    reader.assert_lives();

    agent.assert_lives();
    assert_eq!(chromium::browser_process(&profile), Some(browser));

    let mut admin = Client::connect(&witgate, ADMIN);
    let made = admin.call("Target.createTarget", page);
    assert!(made["result"]["targetId"].is_string(), "{made}");
    admin.call("Browser.close", json!({}));
    let ended = within(BROWSER, || {
        (chromium::browser_process(&profile) != Some(browser)).then_some(())
    });
    assert!(ended.is_some(), "the browser does not end");
}

/// Commands that end the browser when whoever judges them reads them otherwise than Chromium.
fn ways_around(agent: &mut Client) {
    let close = r#"{"id":100,"method":"Browser.close"}"#;
    agent.assert_refused(
        "Target.sendMessageToTarget",
        json!({ "targetId": "any", "message": close }),
    );
    agent.assert_refused(
        "Target.exposeDevToolsProtocol",
        json!({ "targetId": "any" }),
    );
    let escaped = r#"{"id":101,"m\u0065thod":"Browser.\u0063lose"}"#;
    agent.connection.send(masked(TEXT, escaped));
    let answer = agent.answer(|answer| answer["id"] == 101);
    assert_eq!(answer["error"]["code"], -32000, "{answer}");
    for (kind, text) in [
        (
            TEXT,
            r#"{"id":102,"method":"Browser.getVersion","method":"Browser.close"}"#,
        ),
        (TEXT, r#"{"id":102,"method":/**/"Browser.close"}"#),
        (TEXT, "\u{feff}{\"id\":102,\"method\":\"Browser.close\"}"),
        (BINARY, close),
    ] {
        agent.connection.send(masked(kind, text));
        let answer = agent.answer(|answer| answer["error"]["code"] == -32700);
        assert_eq!(answer.get("id"), None, "{answer}");
    }
    agent.assert_lives();
}

/// Pages that would do what commands do: the browser's own, and one that asks the debugging port for a connection.
fn pages_reach_no_commands(agent: &mut Client, debugging_port: u16, site: &Site) {
    let settings = json!({ "url": "chrome://settings/clearBrowserData" });
    agent.assert_refused("Target.createTarget", settings.clone());
    // Chromium ends when a hidden target opens some of them.
    let hidden = json!({ "url": "about:blank", "hidden": true });
    let target = agent.call("Target.createTarget", hidden)["result"]["targetId"].clone();
    let attach = json!({ "targetId": target, "flatten": true });
    let attached = agent.call("Target.attachToTarget", attach);
    let session = attached["result"]["sessionId"].as_str();
    agent.session = Some(session.expect("the page can be attached to").to_owned());
    agent.assert_refused("Page.navigate", settings);

    let page = json!({ "url": format!("http://127.0.0.1:{debugging_port}/json/version") });
    let answer = agent.call("Page.navigate", page);
    assert_eq!(answer["result"]["errorText"], "net::ERR_UNSAFE_PORT");
    page_reaches_no_debugging_port(agent, debugging_port, site);
    agent.session = None;
    let closed = agent.call("Target.closeTarget", json!({ "targetId": target }));
    assert_eq!(closed["result"]["success"], true, "{closed}");
}

/// The same from a script of a site, which reaches other ports of the machine.
fn page_reaches_no_debugging_port(agent: &mut Client, debugging_port: u16, site: &Site) {
    let origin = site.origin("a");
    agent.call("Page.navigate", json!({ "url": format!("{origin}/login") }));
    eventually("the page to be the site's", || {
        (agent.evaluate("location.origin") == origin.as_str()).then_some(())
    });
    let fetch = |port: u16| {
        format!(
            "fetch('http://127.0.0.1:{port}/json/version', {{ mode: 'no-cors' }})
                .then(() => 'answered', () => 'blocked')"
        )
    };
    assert_eq!(agent.evaluate(&fetch(site.address().port())), "answered");
    assert_eq!(agent.evaluate(&fetch(debugging_port)), "blocked");
    let socket = format!(
        "new Promise(done => {{
            const socket = new WebSocket('ws://127.0.0.1:{debugging_port}/devtools/browser/any');
            socket.onopen = () => done('opened');
            socket.onerror = () => done('blocked');
        }})"
    );
    assert_eq!(agent.evaluate(&socket), "blocked");
}
