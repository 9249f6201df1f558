//! Promise: in the DevTools JSON the client finds itself, and finds everything else as Chromium wrote it.

use witgate_tests::http::{Message, exchange};
use witgate_tests::{Upstream, Witgate, config};

const VERSION: &str = r#"{
   "Browser": "Chrome/156.0.8078.79",
   "Protocol-Version": "1.3",
   "webSocketDebuggerUrl": "ws://localhost:9222/devtools/browser/5b31-4f"
}
"#;

/// A title that tries to be an address, odd white space, and an escape that a careless rewriter would change.
const LIST: &str = r#"[ {
   "description": "",
   "devtoolsFrontendUrl": "https://chrome-devtools-frontend.appspot.com/serve_rev/@0a1b/inspector.html?ws=localhost:9222/devtools/page/4A",
   "id": "4A",
   "title": "ws://localhost:9222/devtools/page/4A \u003c\"webSocketDebuggerUrl\": \"ws://localhost:9222/\"",
   "type": "page",
   "url":   "http://localhost:9222/?ws=localhost:9222/devtools/page/4A",
   "webSocketDebuggerUrl": "ws://localhost:9222/devtools/page/4A"
} ]
"#;

/// Chromium's own header lines: no space behind the colon, and nothing else.
fn devtools(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Security-Policy:frame-ancestors 'none'\r\nContent-Length:{length}\r\n\
         Content-Type:application/json; charset=UTF-8\r\n\r\n{body}"
    )
    .into_bytes()
}

fn chromium() -> Upstream {
    Upstream::answering(|request| {
        let path = request
            .head
            .start_line
            .split(' ')
            .nth(1)
            .unwrap_or_default();
        match path
            .split('?')
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
        {
            "/json/version" => devtools(VERSION),
            "/json" | "/json/list" => devtools(LIST),
            "/json/new" => devtools(LIST.trim().trim_start_matches("[ ").trim_end_matches(" ]")),
            "/json/protocol" => devtools(&format!(
                "{{\"webSocketDebuggerUrl\":\"{}\"}}",
                "ws://x/".repeat(300_000)
            )),
            "/json/broken" => devtools("{\"webSocketDebuggerUrl\": \"ws://localhost:9222/"),
            _ => b"HTTP/1.1 404 Not Found\r\nContent-Length:0\r\n\r\n".to_vec(),
        }
    })
}

fn config_text(upstream: &Upstream) -> String {
    let tables = "\n[plugin.urls]\ncomponent = \"builtin:cdp-urls\"\n\
                  \n[plugin.host]\ncomponent = \"builtin:host-rewrite\"\nconfig.host = \"localhost:9222\"\n";
    config::through(&["host", "urls"], upstream.address()) + tables
}

fn ask(witgate: &Witgate, request_line: &str, fields: &str) -> Message {
    exchange(
        witgate.address("main"),
        format!("{request_line} HTTP/1.1\r\nHost: box.example:81\r\n{fields}\r\n"),
    )
}

/// What a client of `ws://box.example:81` is to see.
fn rewritten(document: &str) -> String {
    document
        .replace(
            "\"webSocketDebuggerUrl\": \"ws://localhost:9222/d",
            "\"webSocketDebuggerUrl\": \"ws://box.example:81/d",
        )
        .replace(
            "inspector.html?ws=localhost:9222/",
            "inspector.html?ws=box.example:81/",
        )
}

#[test]
fn the_urls_name_the_authority_that_the_client_used_and_the_rest_is_byte_for_byte_the_same() {
    let upstream = chromium();
    let witgate = Witgate::start(&config_text(&upstream));
    assert_ne!(rewritten(LIST), LIST);

    for (path, document) in [
        ("/json/version", VERSION),
        ("/json/version/", VERSION),
        ("/json/version?x=1", VERSION),
        ("/json", LIST),
        ("/json/list", LIST),
        ("/json/list/", LIST),
    ] {
        let answer = ask(&witgate, &format!("GET {path}"), "");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text(), rewritten(document), "{path}");
        assert_eq!(
            answer.header("content-length"),
            Some(rewritten(document).len().to_string().as_str()),
            "{path}"
        );
        assert_eq!(
            answer.header("content-security-policy"),
            Some("frame-ancestors 'none'")
        );
    }
    let opened = ask(&witgate, "PUT /json/new?about:blank", "");
    assert!(
        opened
            .text()
            .contains("\"webSocketDebuggerUrl\": \"ws://box.example:81/devtools/page/4A\"")
    );
}

#[test]
fn the_protocol_document_streams_through_untouched() {
    let upstream = chromium();
    let witgate = Witgate::start(&config_text(&upstream));

    let answer = ask(&witgate, "GET /json/protocol", "");

    assert_eq!(answer.body.len(), 2_100_027);
    assert!(!answer.text().contains("box.example"));
}

#[test]
fn a_document_that_is_no_json_passes_as_it_is() {
    let upstream =
        Upstream::answering(|_| devtools("{\"webSocketDebuggerUrl\": \"ws://localhost:9222/"));
    let witgate = Witgate::start(&config_text(&upstream));

    let answer = ask(&witgate, "GET /json/version", "");

    assert_eq!(
        (answer.status(), answer.text()),
        (200, "{\"webSocketDebuggerUrl\": \"ws://localhost:9222/")
    );
}

#[test]
fn a_path_prefix_that_the_route_strips_is_in_the_urls() {
    let upstream = chromium();
    let config = config_text(&upstream).replace(
        "path = \"/*\"",
        "path = \"/team/a/*\"\nstrip-prefix = \"/team/a\"",
    );
    let witgate = Witgate::start(&config);

    let answer = ask(&witgate, "GET /team/a/json/version", "");

    assert!(
        answer
            .text()
            .contains("\"ws://box.example:81/team/a/devtools/browser/5b31-4f\""),
        "{}",
        answer.text()
    );
    assert_eq!(
        upstream.only_request().head.start_line,
        "GET /json/version HTTP/1.1"
    );
}

#[test]
fn behind_tls_the_urls_are_wss() {
    let upstream = chromium();
    let config = config_text(&upstream).replace(
        "workers = 1",
        "workers = 1\ntrusted-proxies = [\"127.0.0.1/32\"]",
    );
    let witgate = Witgate::start(&config);

    let answer = ask(&witgate, "GET /json/list", "X-Forwarded-Proto: https\r\n");

    assert!(
        answer
            .text()
            .contains("\"wss://box.example:81/devtools/page/4A\""),
        "{}",
        answer.text()
    );
    assert!(
        answer
            .text()
            .contains("inspector.html?wss=box.example:81/devtools/page/4A"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_stranger_cannot_claim_tls() {
    let upstream = chromium();
    let witgate = Witgate::start(&config_text(&upstream));

    let answer = ask(
        &witgate,
        "GET /json/version",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n",
    );

    assert_eq!(answer.text(), rewritten(VERSION));
}
