//! `cdp-endpoint` under the runtime, with a browser that the test plays.

use bytes::Bytes;
use http::{Request, Response};
use witgate_testkit::{Component, Exchange, Plugin, ReplyBody, SendError};

const BROWSER: &str = "http://127.0.0.1:9223";
const CONFIG: &str = r#"{"browser":"http://127.0.0.1:9223"}"#;
const CURRENT: &str = "/devtools/browser/2c1b0e6a-83f3-4a5d-9f5e-6d0f1f5b7a11";

fn component() -> Component {
    Component::of_this_package("plugin")
}

/// What Chromium answers to `GET /json/version`, for the Host that it was asked by.
fn version(request: &Request<Bytes>) -> Result<Response<Bytes>, SendError> {
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("GET", "/json/version")
    );
    let host = request.headers()["host"].to_str().expect("visible ASCII");
    assert_eq!(host, "127.0.0.1:9223");
    let body = format!(r#"{{"Browser":"Chrome/1","webSocketDebuggerUrl":"ws://{host}{CURRENT}"}}"#);
    Ok(Response::new(body.into()))
}

fn plugin(config: &str) -> Plugin {
    component().answering(&[BROWSER], version).start(config)
}

fn answering(body: &'static str) -> Plugin {
    let answer = move |_: &_| Ok(Response::new(Bytes::from_static(body.as_bytes())));
    component().answering(&[BROWSER], answer).start(CONFIG)
}

fn upgrade(path: &str) -> Exchange {
    Exchange::get(path)
        .authority("box:9222")
        .upgrade("websocket")
}

/// Where an upgrade to `path` is sent.
fn sent_to(plugin: &Plugin, path: &str) -> String {
    let mut exchange = upgrade(path);
    plugin.on_request(&mut exchange).expect_next();
    exchange.path_with_query().to_owned()
}

#[track_caller]
fn expect_not_ready(plugin: &Plugin, said: &str) {
    let mut exchange = upgrade("/");
    let reply = plugin.on_request(&mut exchange).expect_answer();
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers["retry-after"], "1");
    let ReplyBody::Bytes(body) = reply.body else {
        panic!("{:?}", reply.body)
    };
    assert_eq!(&body[..], b"the browser is not ready\n");
    let log = plugin.log();
    assert!(
        log.iter().any(|line| line.message.contains(said)),
        "{log:?}"
    );
}

#[test]
fn an_upgrade_to_the_endpoint_is_sent_to_the_current_browser() {
    let plugin = plugin(CONFIG);
    for path in ["/", "/devtools/browser", "/devtools/browser/"] {
        assert_eq!(sent_to(&plugin, path), CURRENT, "{path}");
    }
}

#[test]
fn the_query_is_kept() {
    assert_eq!(
        sent_to(&plugin(CONFIG), "/?a=b&c=/?"),
        format!("{CURRENT}?a=b&c=/?")
    );
}

#[test]
fn an_upgrade_to_anything_else_stays_as_it_is_and_the_browser_is_not_asked() {
    let nobody = |_: &_| panic!("the browser was asked");
    let plugin = component().answering(&[BROWSER], nobody).start(CONFIG);
    for path in [
        "/devtools/browser/0000",
        "/devtools/page/1",
        "/devtools/browsers",
        "/devtools",
        "//",
        "/json/version",
    ] {
        assert_eq!(sent_to(&plugin, path), path);
    }
}

#[test]
fn a_request_that_is_no_upgrade_to_a_web_socket_passes() {
    let nobody = |_: &_| panic!("the browser was asked");
    let plugin = component().answering(&[BROWSER], nobody).start(CONFIG);
    for mut exchange in [Exchange::get("/"), Exchange::get("/").upgrade("h2c")] {
        plugin.on_request(&mut exchange).expect_next();
        assert_eq!(exchange.path_with_query(), "/");
    }
}

#[test]
fn the_id_of_a_browser_that_is_gone_leads_to_the_current_one_where_that_is_wanted() {
    let plugin = plugin(r#"{"browser":"http://127.0.0.1:9223","any-browser-id":true}"#);
    let old = "/devtools/browser/11111111-2222-3333-4444-555555555555";
    assert_eq!(
        sent_to(&plugin, &format!("{old}/?a")),
        format!("{CURRENT}?a")
    );
    assert_eq!(sent_to(&plugin, "/"), CURRENT);
    for path in ["/devtools/browser/a/b", "/devtools/page/1"] {
        assert_eq!(sent_to(&plugin, path), path);
    }
}

#[test]
fn without_a_browser_the_client_is_asked_to_come_again() {
    let refused = |_: &_| Err(SendError::Connect("connection refused".into()));
    let plugin = component().answering(&[BROWSER], refused).start(CONFIG);
    expect_not_ready(&plugin, "connection refused");
}

#[test]
fn a_browser_that_says_nothing_of_use_is_not_ready() {
    let failing = |_: &_| {
        let response = Response::builder().status(500).body(Bytes::new());
        Ok(response.expect("a legal response"))
    };
    let plugin = component().answering(&[BROWSER], failing).start(CONFIG);
    expect_not_ready(&plugin, "it answers 500");
    expect_not_ready(&answering("<html>"), "is not Chromium's");
    expect_not_ready(&answering("{}"), "webSocketDebuggerUrl");
}

#[test]
fn only_the_path_of_a_browser_is_taken_from_what_the_browser_says() {
    for url in [
        "ws://a/devtools/page/1",
        "ws://a/devtools/browser/",
        "ws://a/devtools/browser/../page/1",
        "ws://a/devtools/browser/1?x=1",
        "ws://a/devtools/browser/1 2",
        "/devtools/browser/1",
        "",
    ] {
        let body = format!(r#"{{"webSocketDebuggerUrl":"{url}"}}"#);
        let answer = move |_: &_| Ok(Response::new(Bytes::from(body.clone())));
        let plugin = component().answering(&[BROWSER], answer).start(CONFIG);
        expect_not_ready(&plugin, "does not name a browser");
    }
}

#[test]
fn without_the_grant_it_says_what_is_missing() {
    expect_not_ready(&component().start(CONFIG), "grant.http-client");
}

#[test]
fn a_browser_is_named_by_an_address_or_as_localhost() {
    for browser in [
        "http://localhost:9223/",
        "http://[::1]:9223",
        "http://127.0.0.1",
    ] {
        component().start(&format!(r#"{{"browser":"{browser}"}}"#));
    }
    for browser in [
        "",
        "127.0.0.1:9223",
        "http://chromium:9223",
        "http://127.0.0.1/json",
        "https://127.0.0.1",
    ] {
        let mistakes = component().config_errors(&format!(r#"{{"browser":"{browser}"}}"#));
        assert_eq!(mistakes[0].path, "browser", "{browser}: {mistakes:?}");
    }
    assert_eq!(component().config_errors("{}")[0].path, "");
}
