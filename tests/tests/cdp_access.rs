//! Promise: nobody reaches the browser whom the operator did not let in, neither by a page that rebinds its name nor
//! without a token; and a token that was presented in a URL leaves no trace in the log.

use std::time::Duration;

use serde_json::Value;
use witgate_tests::http::{Head, Message, exchange};
use witgate_tests::upstream::response;
use witgate_tests::wait::within;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, clients, config, port};

/// Its first letters are in no other word, so that a log can be searched for it in every encoding.
const TOKEN: &str = "Qzx7vKw+q/3==";
const IN_QUERY: &str = "Qzx7vKw%2Bq%2F3%3D%3D";
const MARK: &str = "Qzx7vKw";

const PAGE: &str = "https://dashboard.example";

fn plugins() -> String {
    format!(
        r#"
[plugin.allow]
component = "builtin:allow-list"
config.hosts = ["{host}", "localhost", "box.example"]
config.origins = ["{PAGE}"]

[plugin.token]
component = "builtin:bearer-auth"
config.tokens = [{{ name = "agent", value = "{TOKEN}" }}]
config.query-parameter = "token"
config.failures = {{ per-minute = 1, burst = 1000 }}

[plugin.close]
component = "builtin:connection-close"

[plugin.cdp-host]
component = "builtin:host-rewrite"
config.host = "localhost:9222"

[plugin.cdp-urls]
component = "builtin:cdp-urls"
config.carry-query = ["token"]
"#,
        host = clients::host_name()
    )
}

/// A request that opens a WebSocket or, without `Upgrade`, does not.
fn request(target: &str, host: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
];

fn ask(witgate: &Witgate, target: &str, host: &str, fields: &[&str]) -> Message {
    exchange(witgate.address("main"), request(target, host, fields))
}

/// The head of the answer to a WebSocket's handshake.
fn shake_hands(witgate: &Witgate, target: &str, host: &str, fields: &[&str]) -> Head {
    let mut client = witgate.connect("main");
    client.send(request(target, host, &[&UPGRADE, fields].concat()));
    client.read_head()
}

const CHAIN: [&str; 5] = ["allow", "token", "close", "cdp-host", "cdp-urls"];

fn guarded(upstream: &Upstream, chain: &[&str]) -> Witgate {
    let config = config::through(chain, upstream.address()) + &plugins();
    // A plugin that no route uses is a mistake.
    let unused = CHAIN.iter().filter(|name| !chain.contains(name));
    let config = unused.fold(config, |config, name| {
        let table = format!("\n[plugin.{name}]");
        let start = config.find(&table).expect("its table is there");
        let end = config[start + 1..].find("\n[plugin.");
        let end = end.map_or(config.len(), |length| start + 1 + length);
        config[..start].to_owned() + &config[end..]
    });
    Witgate::start(&config)
}

#[test]
fn a_page_that_rebinds_its_name_reaches_nothing() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "secret"));
    let witgate = guarded(&upstream, &["allow", "cdp-host"]);

    for host in [
        "rebind.attacker.example",
        "rebind.attacker.example:9222",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
    ] {
        for target in ["/json", "/json/version", "/json/list", "/"] {
            let answer = ask(&witgate, target, host, &[]);
            assert_eq!(answer.status(), 421, "{host}{target}");
            assert!(!answer.text().contains("secret"));
        }
        let head = shake_hands(&witgate, "/devtools/browser/1", host, &[]);
        assert_eq!(head.status(), 421, "{host}");
        // What a page can set makes no difference.
        let fields = ["X-Forwarded-Host: localhost", "Forwarded: host=localhost"];
        assert_eq!(ask(&witgate, "/json", host, &fields).status(), 421);
    }
    let without_host = exchange(witgate.address("main"), "GET /json HTTP/1.0\r\n\r\n");
    assert_eq!(without_host.status(), 421);
    let foreign = ["Origin: http://rebind.attacker.example"];
    assert_eq!(ask(&witgate, "/json", "localhost", &foreign).status(), 403);
    assert_eq!(upstream.received(), []);

    let line = witgate.log_line("the refusal", |line| line.text("attributes").is_some());
    assert_eq!(line.text("attributes"), Some("allow.refused=host"));
}

#[test]
fn the_host_that_the_client_sent_is_judged_wherever_the_plugin_stands() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = guarded(&upstream, &["cdp-host", "allow"]);

    assert_eq!(ask(&witgate, "/", "attacker.example", &[]).status(), 421);
    let page = format!("Origin: {PAGE}");
    assert_eq!(ask(&witgate, "/", "BOX.example.:1", &[&page]).status(), 200);

    let request = upstream.only_request();
    assert_eq!(request.header("host"), Some("localhost:9222"));
    assert_eq!(request.header("origin"), None);
}

#[test]
fn a_token_in_the_query_does_not_reach_the_upstream_and_comes_back_in_the_urls() {
    let upstream = Upstream::answering(|_| {
        let list = r#"[{"webSocketDebuggerUrl":"ws://localhost:9222/devtools/page/A"}]"#;
        response("200 OK", &["Content-Type: application/json"], list)
    });
    let config = config::through(&CHAIN, upstream.address()) + &plugins();
    let config = config
        .replace(
            "workers = 1",
            "workers = 1\ntrusted-proxies = [\"127.0.0.1/32\"]",
        )
        .replace(
            "path = \"/*\"",
            "path = \"/team/*\"\nstrip-prefix = \"/team\"",
        );
    let witgate = Witgate::start(&config);

    let target = format!("/team/json/list?for_tab&token={IN_QUERY}");
    let referer = format!("Referer: https://box.example{target}");
    let fields = ["X-Forwarded-Proto: https", &referer];
    let answer = ask(&witgate, &target, "box.example", &fields);

    assert_eq!(
        answer.text(),
        format!(
            r#"[{{"webSocketDebuggerUrl":"wss://box.example/team/devtools/page/A?token={IN_QUERY}"}}]"#
        )
    );
    let sent = upstream.only_request();
    assert_eq!(sent.head.start_line, "GET /json/list?for_tab HTTP/1.1");
    assert!(!format!("{sent:?}").contains(MARK), "{sent:?}");
}

#[test]
fn who_polls_with_a_wrong_token_is_told_to_wait_and_nobody_else_is() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::through(&["token"], upstream.address())
        + &format!(
            "\n[plugin.token]\ncomponent = \"builtin:bearer-auth\"\n\
             config.tokens = [{{ name = \"agent\", value = \"{TOKEN}\" }}]\n\
             config.failures = {{ per-minute = 1, burst = 2 }}\n"
        );
    let witgate = Witgate::start(&config);
    let poll = || ask(&witgate, "/", "a", &["Authorization: Bearer wrong"]);

    assert_eq!([poll().status(), poll().status()], [401, 401]);
    // A failure leaks away in a minute; more than one cannot on the slowest machine, as each is bounded by 20 s.
    let limited = [poll(), poll()];
    let limited = limited.iter().find(|answer| answer.status() == 429);
    let wait = limited.and_then(|answer| answer.header("retry-after"));
    let wait: u64 = wait.and_then(|wait| wait.parse().ok()).expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");

    let right = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(ask(&witgate, "/", "a", &[&right]).status(), 200);
    let line = witgate.log_line("the poller", |line| {
        line.message().contains("fails to authenticate")
    });
    assert_eq!(line.level(), "WARN");
    assert!(
        line.message()
            .starts_with("127.0.0.1 fails to authenticate"),
        "{line:?}"
    );
}

/// How long a start or an end of Chromium may take on a busy machine.
const BROWSER: Duration = Duration::from_secs(120);

/// All that is logged while it serves. Compilers tell millions of lines of how they compile, and know no request.
const EVERYTHING: &str = "trace,cranelift=warn,regalloc2=warn,wasmtime_internal_cranelift=warn";

/// A real Chromium behind all five plugins, logging all there is to log.
struct Browser {
    witgate: Witgate,
}

impl Browser {
    fn start() -> Self {
        let port = port::unused();
        let endpoint = format!("127.0.0.1:{port}").parse().expect("an address");
        let config = config::through(&CHAIN, endpoint).replace("127.0.0.1:0", "0.0.0.0:0")
            + &plugins()
            + &format!("\n[chrome]\nprofile = \"profile\"\nport = {port}\nsandbox = false\n");
        let witgate = Setup::new().env("WITGATE_LOG", EVERYTHING).start(&config);
        let browser = Self { witgate };
        let right = format!("Authorization: Bearer {TOKEN}");
        let ready = within(BROWSER, || {
            let answer = ask(&browser.witgate, "/json/version", "localhost", &[&right]);
            (answer.status() == 200).then_some(())
        });
        assert!(ready.is_some(), "Chromium does not answer");
        browser
    }

    fn url(&self, query: &str) -> String {
        let port = self.witgate.address("main").port();
        format!("http://{}:{port}/{query}", clients::host_name())
    }

    fn play(&self, query: &str, token: &[&str]) -> Value {
        let url = self.url(query);
        clients::node("playwright_access.mjs", &[&[&*url], token].concat())
    }

    /// The path of a WebSocket that is there.
    fn devtools(&self) -> String {
        let target = format!("/json/version?token={IN_QUERY}");
        let answer = ask(&self.witgate, &target, "localhost", &[]);
        let version: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let url = version["webSocketDebuggerUrl"].as_str().expect("a URL");
        let rest = url.strip_prefix("ws://localhost").expect("our own host");
        let path = rest.strip_suffix(&format!("?token={IN_QUERY}"));
        path.expect("the token is carried on").to_owned()
    }
}

#[test]
fn a_real_browser_opens_to_a_token_in_header_or_query_and_to_nothing_else() {
    let browser = Browser::start();
    let witgate = &browser.witgate;

    for (query, token) in [("", &[TOKEN][..]), (&format!("?token={IN_QUERY}"), &[])] {
        let seen = browser.play(query, token);
        assert_eq!(seen["title"], "in", "{seen}");
    }
    for (query, token) in [("", &[][..]), ("?token=wrong", &[]), ("", &["wrong"])] {
        let seen = browser.play(query, token);
        let error = seen["error"].as_str().unwrap_or_default();
        assert!(error.contains("401"), "{seen}");
    }

    let path = browser.devtools();
    let right = format!("{path}?token={IN_QUERY}");
    for target in [&*path, "/devtools/browser", "/devtools/page/1", "/"] {
        let head = shake_hands(witgate, target, "localhost", &[]);
        assert_eq!(head.status(), 401, "{target}");
        assert_eq!(head.header("www-authenticate"), Some("Bearer"));
    }
    let page = format!("Origin: {PAGE}");
    for (target, host, fields, status) in [
        (&right, "localhost", &[][..], 101),
        // Chromium itself refuses every foreign origin, so this shows that the allowed one was taken off.
        (&right, "localhost", &[&*page], 101),
        (&right, "localhost", &["Origin: https://evil.example"], 403),
        (&right, "localhost", &["Origin: null"], 403),
        (&right, "rebind.attacker.example", &[], 421),
    ] {
        let head = shake_hands(witgate, target, host, fields);
        assert_eq!(head.status(), status, "{host} {fields:?}");
    }
    for target in ["/json", "/json/version", "/json/list", "/json/protocol"] {
        let target = format!("{target}?token={IN_QUERY}");
        let answer = ask(witgate, &target, "rebind.attacker.example", &[]);
        assert_eq!(answer.status(), 421);
        assert_eq!(answer.text(), r#"{"error":"host not allowed"}"#);
    }

    let log = browser.witgate.stop_within(BROWSER).output();
    assert!(
        log.contains("\"TRACE\""),
        "nothing was logged at trace level"
    );
    assert!(log.contains("token.token=agent"), "no line names the token");
    let told: Vec<_> = log.lines().filter(|line| line.contains(MARK)).collect();
    assert!(told.is_empty(), "{told:#?}");
}
