//! `allow-list` under the runtime.

use witgate_testkit::{Component, Exchange, Plugin, Reply, ReplyBody, Scheme};

const BOTH: &str =
    r#"{"hosts":["box","*.example.com:9222"],"origins":["https://app.example.com"]}"#;

fn plugin(config: &str) -> Plugin {
    Component::of_this_package("plugin").start(config)
}

fn to(authority: &str) -> Exchange {
    Exchange::get("/json/version").authority(authority)
}

fn is_refusal(reply: &Reply, status: u16, expected: &str) {
    assert_eq!(reply.status, status);
    assert_eq!(reply.headers["content-type"], "application/json");
    match &reply.body {
        ReplyBody::Bytes(body) => assert_eq!(str::from_utf8(body), Ok(expected)),
        other => panic!("expected bytes, got {other:?}"),
    }
}

#[test]
fn it_has_the_request_hook_only() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.request && !hooks.response);
}

#[test]
fn a_listed_host_passes_and_another_is_misdirected() {
    let plugin = plugin(BOTH);
    for authority in ["box", "BOX:1", "chrome.example.com:9222"] {
        plugin.on_request(&mut to(authority)).expect_next();
    }
    for authority in [
        "rebind.attacker.example",
        "box.attacker.example:9222",
        "127.0.0.1",
        "chrome.example.com",
    ] {
        let mut exchange = to(authority);
        let reply = plugin.on_request(&mut exchange).expect_answer();
        is_refusal(&reply, 421, r#"{"error":"host not allowed"}"#);
        assert_eq!(
            exchange.attribute("refused").as_deref(),
            Some("host"),
            "{authority}"
        );
    }
}

#[test]
fn a_client_that_names_no_host_is_refused() {
    let reply = plugin(BOTH)
        .on_request(&mut Exchange::get("/json"))
        .expect_answer();
    assert_eq!(reply.status, 421);
}

#[test]
fn the_port_of_a_client_that_names_none_is_that_of_its_scheme() {
    let plugin = plugin(r#"{"hosts":["box:443"]}"#);
    plugin
        .on_request(&mut to("box").scheme(Scheme::Https))
        .expect_next();
    plugin.on_request(&mut to("box")).expect_answer();
}

#[test]
fn a_listed_origin_passes_and_is_not_sent_on() {
    let mut exchange = to("box").header("origin", "https://app.example.com");
    plugin(BOTH).on_request(&mut exchange).expect_next();
    assert_eq!(exchange.request_header("origin"), None);

    let keep = BOTH.replacen('{', r#"{"keep-origin":true,"#, 1);
    let mut exchange = to("box").header("origin", "https://app.example.com");
    plugin(&keep).on_request(&mut exchange).expect_next();
    assert_eq!(
        exchange.request_header("origin"),
        Some("https://app.example.com")
    );
}

#[test]
fn any_other_origin_is_refused_and_named_in_the_log() {
    let plugin = plugin(BOTH);
    for origin in ["https://evil.example", "null", "", "http://app.example.com"] {
        let mut exchange = to("box").header("origin", origin);
        let reply = plugin.on_request(&mut exchange).expect_answer();
        is_refusal(&reply, 403, r#"{"error":"origin not allowed"}"#);
        let expected = format!("origin {origin}");
        assert_eq!(
            exchange.attribute("refused").as_deref(),
            Some(expected.as_str())
        );
    }
}

#[test]
fn two_origins_are_refused_even_if_both_are_listed() {
    let mut exchange = to("box")
        .header("origin", "https://app.example.com")
        .header("origin", "https://app.example.com");
    let reply = plugin(BOTH).on_request(&mut exchange).expect_answer();
    assert_eq!(reply.status, 403);
}

#[test]
fn an_origin_of_any_length_and_bytes_is_refused_and_not_a_failure() {
    let plugin = plugin(BOTH);
    let long = "ü".repeat(8000);
    for origin in [long.as_bytes(), b"\xff\xfe"] {
        let mut exchange = to("box").header("origin", origin);
        let reply = plugin.on_request(&mut exchange).expect_answer();
        assert_eq!(reply.status, 403);
    }
}

#[test]
fn no_origin_is_allowed_unless_one_is_listed() {
    for config in [r#"{"hosts":["box"]}"#, r#"{"origins":[]}"#] {
        let plugin = plugin(config);
        plugin.on_request(&mut to("box")).expect_next();
        let mut exchange = to("box").header("origin", "http://box");
        assert_eq!(plugin.on_request(&mut exchange).expect_answer().status, 403);
    }
}

#[test]
fn without_a_list_of_hosts_any_will_do() {
    plugin(r#"{"origins":["null"]}"#)
        .on_request(&mut to("any.example").header("origin", "null"))
        .expect_next();
}

#[test]
fn mistakes_are_all_reported_at_their_places() {
    let mistakes = |config: &str| {
        let mistakes = Component::of_this_package("plugin").config_errors(config);
        let paths = mistakes.into_iter().map(|mistake| mistake.path);
        paths.collect::<Vec<_>>()
    };
    assert_eq!(mistakes("{}"), [""]);
    assert_eq!(mistakes(r#"{"keep-origin":true}"#), [""]);
    assert_eq!(mistakes(r#"{"hosts":[]}"#), ["hosts"]);
    assert_eq!(
        mistakes(r#"{"hosts":["box","*"],"origins":["https://a/","https://b"]}"#),
        ["hosts.1", "origins.0"]
    );
    assert_eq!(mistakes(r#"{"host":["box"]}"#), ["host"]);
}
