//! `host-rewrite` under the runtime.

use witgate_testkit::{Component, Exchange, Plugin};

fn plugin(config: &str) -> Plugin {
    Component::of_this_package("plugin").start(config)
}

fn mistake(config: &str) -> (String, String) {
    let mut mistakes = Component::of_this_package("plugin").config_errors(config);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    let mistake = mistakes.remove(0);
    (mistake.path, mistake.message)
}

#[test]
fn it_has_the_request_hook_only() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.request && !hooks.response);
}

#[test]
fn the_configured_host_is_sent_and_the_clients_is_noted() {
    let mut exchange = Exchange::get("/json").authority("box.example:9222");
    plugin(r#"{"host":"localhost:9223"}"#)
        .on_request(&mut exchange)
        .expect_next();
    assert_eq!(exchange.upstream_authority(), "localhost:9223");
    assert_eq!(
        exchange.attribute("original-host").as_deref(),
        Some("box.example:9222")
    );
    assert!(!exchange.uses_upstream_authority());
}

#[test]
fn the_upstreams_own_host_is_asked_for_and_the_clients_is_noted() {
    let mut exchange = Exchange::get("/json").authority("box.example:9222");
    plugin(r#"{"upstream":true}"#)
        .on_request(&mut exchange)
        .expect_next();
    assert!(exchange.uses_upstream_authority());
    assert_eq!(
        exchange.attribute("original-host").as_deref(),
        Some("box.example:9222")
    );
}

#[test]
fn a_request_without_host_gets_one_and_leaves_no_note() {
    let mut exchange = Exchange::get("/json");
    plugin(r#"{"host":"localhost"}"#)
        .on_request(&mut exchange)
        .expect_next();
    assert_eq!(exchange.upstream_authority(), "localhost");
    assert_eq!(exchange.attribute("original-host"), None);
}

#[test]
fn path_and_other_headers_stay() {
    let mut exchange = Exchange::get("/a?b=c")
        .authority("x")
        .header("accept", "*/*");
    plugin(r#"{"host":"localhost"}"#)
        .on_request(&mut exchange)
        .expect_next();
    assert_eq!(exchange.path_with_query(), "/a?b=c");
    assert_eq!(exchange.request_header("accept"), Some("*/*"));
}

#[test]
fn exactly_one_of_host_and_upstream_is_wanted() {
    assert_eq!(mistake("{}").0, "");
    assert_eq!(mistake(r#"{"upstream":false}"#).0, "");
    assert_eq!(mistake(r#"{"host":"a","upstream":true}"#).0, "upstream");
}

#[test]
fn a_host_that_is_none_is_refused_at_its_key() {
    for host in ["", "http://a", "a b", "a:x", "user@a", "a/"] {
        assert_eq!(
            mistake(&format!(r#"{{"host":"{host}"}}"#)).0,
            "host",
            "{host}"
        );
    }
    assert_eq!(
        mistake(r#"{"host":7}"#),
        ("host".into(), "expected a string, found an integer".into())
    );
}

#[test]
fn an_unknown_key_is_refused_at_itself() {
    let expected = (
        "hots".into(),
        "unknown key; there is `host`, `upstream`".into(),
    );
    assert_eq!(mistake(r#"{"hots":"a"}"#), expected);
}
