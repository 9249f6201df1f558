//! `connection-close` under the runtime.

use witgate_testkit::{Component, Exchange, Plugin};

fn plugin() -> Plugin {
    Component::of_this_package("plugin").start("{}")
}

#[test]
fn it_has_the_response_hook_only() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.response && !hooks.request);
}

#[test]
fn every_ordinary_response_ends_its_connection() {
    for status in [200, 204, 304, 401, 404, 500, 502] {
        let mut exchange =
            Exchange::get("/json").response(status, &[("content-type", "application/json")]);
        plugin().on_response(&mut exchange).expect_next();
        assert!(exchange.ends_connection(), "{status}");
        assert_eq!(exchange.status(), status);
        assert_eq!(
            exchange.response_header("content-type"),
            Some("application/json")
        );
    }
}

#[test]
fn a_granted_upgrade_is_left_alone() {
    let mut exchange = Exchange::get("/devtools/browser/1")
        .upgrade("websocket")
        .response(101, &[]);
    plugin().on_response(&mut exchange).expect_next();
    assert!(!exchange.ends_connection());
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let mut exchange = Exchange::get("/devtools/browser/1")
        .upgrade("websocket")
        .response(404, &[]);
    plugin().on_response(&mut exchange).expect_next();
    assert!(exchange.ends_connection());
}

#[test]
fn one_instance_serves_many_exchanges() {
    let plugin = plugin();
    for status in [200, 101, 200] {
        let mut exchange = Exchange::get("/").response(status, &[]);
        plugin.on_response(&mut exchange).expect_next();
        assert_eq!(exchange.ends_connection(), status != 101);
    }
}

#[test]
fn there_is_nothing_to_configure() {
    let mistakes = Component::of_this_package("plugin").config_errors(r#"{"always":true}"#);
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].path, "always");
    assert_eq!(
        mistakes[0].message,
        "unknown key; there is nothing to configure"
    );
}
