//! `bearer-auth` under the runtime.

use std::time::Duration;

use witgate_testkit::{Component, Exchange, Plugin, Reply, ReplyBody};

/// Two tokens, as while one is rotated out.
const TWO: &str =
    r#"{"tokens":[{"name":"old","value":"0ld.token"},{"name":"new","value":"new-t0ken=="}]}"#;

fn plugin(config: &str) -> Plugin {
    Component::of_this_package("plugin").start(config)
}

fn request(authorization: &[&str]) -> Exchange {
    let exchange = Exchange::get("/api/snapshot").authority("box:8088");
    authorization.iter().fold(exchange, |exchange, value| {
        exchange.header("authorization", value)
    })
}

fn body(reply: &Reply) -> &[u8] {
    match &reply.body {
        ReplyBody::Bytes(body) => body,
        other => panic!("expected bytes, got {other:?}"),
    }
}

fn is_challenge(reply: &Reply, challenge: &str) {
    assert_eq!(reply.status, 401);
    assert_eq!(reply.headers["www-authenticate"], challenge);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(body(reply), br#"{"error":"invalid bearer"}"#);
}

#[test]
fn it_has_the_request_hook_only() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.request && !hooks.response);
}

#[test]
fn each_token_passes_under_its_name_and_is_not_sent_on() {
    let plugin = plugin(TWO);
    for (value, name) in [
        ("Bearer 0ld.token", "old"),
        ("Bearer new-t0ken==", "new"),
        ("bearer new-t0ken==", "new"),
        ("BEARER  0ld.token", "old"),
    ] {
        let mut exchange = request(&[value]);
        plugin.on_request(&mut exchange).expect_next();
        assert_eq!(
            exchange.attribute("token").as_deref(),
            Some(name),
            "{value}"
        );
        assert_eq!(exchange.request_header("authorization"), None);
    }
}

#[test]
fn the_header_is_kept_if_told_so() {
    let mut exchange = request(&["Bearer abc"]);
    plugin(r#"{"tokens":[{"name":"a","value":"abc"}],"keep-header":true}"#)
        .on_request(&mut exchange)
        .expect_next();
    assert_eq!(exchange.request_header("authorization"), Some("Bearer abc"));
}

#[test]
fn a_wrong_token_is_told_that_it_is() {
    let plugin = plugin(TWO);
    for value in [
        "Bearer 0ld.toke",
        "Bearer 0ld.token1",
        "Bearer 0LD.TOKEN",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer 0ld.token,",
        "Bearer \"0ld.token\"",
    ] {
        let mut exchange = request(&[value]);
        is_challenge(
            &plugin.on_request(&mut exchange).expect_answer(),
            r#"Bearer error="invalid_token""#,
        );
        assert_eq!(exchange.attribute("token"), None, "{value}");
    }
}

#[test]
fn no_token_is_asked_for_one() {
    let plugin = plugin(TWO);
    for values in [
        &[][..],
        &["Basic b2xkOjBsZC50b2tlbg=="],
        &["0ld.token"],
        &[""],
    ] {
        is_challenge(
            &plugin.on_request(&mut request(values)).expect_answer(),
            "Bearer",
        );
    }
}

#[test]
fn two_authorizations_are_none_even_if_one_is_right() {
    let plugin = plugin(TWO);
    for values in [
        ["Bearer 0ld.token", "Bearer 0ld.token"],
        ["Bearer x", "Bearer 0ld.token"],
        ["Basic eA==", "Bearer 0ld.token"],
    ] {
        is_challenge(
            &plugin.on_request(&mut request(&values)).expect_answer(),
            r#"Bearer error="invalid_token""#,
        );
    }
}

#[test]
fn the_realm_stands_in_the_challenge() {
    let plugin = plugin(r#"{"tokens":[{"name":"a","value":"abc"}],"realm":"dev box"}"#);
    is_challenge(
        &plugin.on_request(&mut request(&[])).expect_answer(),
        r#"Bearer realm="dev box""#,
    );
    let wrong = plugin
        .on_request(&mut request(&["Bearer x"]))
        .expect_answer();
    is_challenge(&wrong, r#"Bearer realm="dev box", error="invalid_token""#);
}

#[test]
fn without_a_token_nobody_passes() {
    for config in [
        "{}",
        r#"{"tokens":[]}"#,
        r#"{"tokens":[{"name":"a","value":""}]}"#,
        r#"{"tokens":[{"name":"a","value":"\n"}]}"#,
    ] {
        let plugin = plugin(config);
        for values in [&[][..], &["Bearer "], &["Bearer"], &["Bearer x"]] {
            let reply = plugin.on_request(&mut request(values)).expect_answer();
            assert_eq!(reply.status, 503, "{config} {values:?}");
            assert_eq!(reply.headers["content-type"], "application/json");
            assert_eq!(body(&reply), br#"{"error":"token not configured"}"#);
        }
        let log = plugin.log();
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!(
            log[0].to_string(),
            "WARN no token is configured, so every request is answered with 503"
        );
    }
}

#[test]
fn an_empty_token_does_not_open_the_door_beside_a_real_one() {
    let plugin = plugin(r#"{"tokens":[{"name":"unset","value":""},{"name":"a","value":"abc"}]}"#);
    for values in [&["Bearer "][..], &["Bearer"], &[]] {
        assert_eq!(
            plugin
                .on_request(&mut request(values))
                .expect_answer()
                .status,
            401
        );
    }
    plugin
        .on_request(&mut request(&["Bearer abc"]))
        .expect_next();
}

#[test]
fn no_token_is_ever_logged() {
    let plugin = plugin(TWO);
    plugin
        .on_request(&mut request(&["Bearer 0ld.token"]))
        .expect_next();
    plugin
        .on_request(&mut request(&["Bearer presented"]))
        .expect_answer();
    let log = plugin.log();
    assert!(!log.is_empty(), "being turned away is logged");
    for line in log {
        for secret in ["0ld.token", "new-t0ken", "presented"] {
            assert!(!line.message.contains(secret), "{line}");
        }
    }
}

#[test]
fn mistakes_are_all_reported_at_their_keys_and_without_values() {
    let config = r#"{"tokens":[{"name":"a","value":"hunter2"},{"name":"a","value":"hun ter2"},{"name":"","value":"hunter2"}]}"#;
    let mistakes = Component::of_this_package("plugin").config_errors(config);
    let paths: Vec<&str> = mistakes
        .iter()
        .map(|mistake| mistake.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "tokens.1.name",
            "tokens.1.value",
            "tokens.2.name",
            "tokens.2.value"
        ]
    );
    assert!(
        mistakes
            .iter()
            .all(|mistake| !mistake.message.contains("hun")),
        "{mistakes:?}"
    );
}

#[test]
fn a_value_of_a_wrong_type_is_not_shown() {
    for (config, path) in [
        (r#"{"tokens":"hunter2"}"#, "tokens"),
        (r#"{"tokens":["hunter2"]}"#, "tokens.0"),
        (
            r#"{"tokens":[{"name":"a","value":4711}]}"#,
            "tokens.0.value",
        ),
        (
            r#"{"tokens":[{"name":"a","value":{"hunter2":1}}]}"#,
            "tokens.0.value",
        ),
    ] {
        let mistakes = Component::of_this_package("plugin").config_errors(config);
        assert_eq!(mistakes[0].path, path);
        let message = &mistakes[0].message;
        assert!(
            !message.contains("hunter2") && !message.contains("4711"),
            "{message}"
        );
    }
}

#[test]
fn a_realm_that_cannot_be_quoted_is_refused() {
    for realm in ["", r#"a\"b"#, r"a\\b", r"a\nb", "ä"] {
        let config = format!(r#"{{"realm":"{realm}"}}"#);
        let mistakes = Component::of_this_package("plugin").config_errors(&config);
        assert_eq!(mistakes[0].path, "realm", "{realm}");
    }
}

/// [`TWO`] with `query-parameter = "token"`.
fn by_parameter() -> Plugin {
    plugin(&TWO.replacen('{', r#"{"query-parameter":"token","#, 1))
}

#[test]
fn a_token_in_the_query_passes_where_it_is_allowed_and_is_not_sent_on() {
    let plugin = by_parameter();
    for (target, rest, name) in [
        ("/json?token=0ld.token", "/json", "old"),
        ("/json?a=b&token=new-t0ken%3D%3D&c", "/json?a=b&c", "new"),
        ("/json?%74oken=new-t0ken==", "/json", "new"),
    ] {
        let mut exchange = Exchange::get(target);
        plugin.on_request(&mut exchange).expect_next();
        assert_eq!(exchange.path_with_query(), rest);
        assert_eq!(
            exchange.attribute("token").as_deref(),
            Some(name),
            "{target}"
        );
    }
}

#[test]
fn a_token_in_the_query_is_none_where_it_is_not_allowed() {
    let mut exchange = Exchange::get("/json?token=0ld.token");
    is_challenge(
        &plugin(TWO).on_request(&mut exchange).expect_answer(),
        "Bearer",
    );
}

#[test]
fn a_wrong_empty_or_repeated_parameter_is_turned_away() {
    let plugin = by_parameter();
    for target in [
        "/json?token=wrong",
        "/json?token=",
        "/json?token",
        "/json?token=Bearer%200ld.token",
        "/json?token=0ld.token&token=0ld.token",
        "/json?token=0ld.token&%74oken=x",
        "/json?token=0ld.token%00",
    ] {
        let mut exchange = Exchange::get(target);
        is_challenge(
            &plugin.on_request(&mut exchange).expect_answer(),
            r#"Bearer error="invalid_token""#,
        );
    }
    let mut exchange = Exchange::get("/json?Token=0ld.token");
    is_challenge(&plugin.on_request(&mut exchange).expect_answer(), "Bearer");
}

#[test]
fn a_header_decides_before_the_query_and_the_parameter_is_taken_off_all_the_same() {
    let plugin = by_parameter();
    let with = |header, target| Exchange::get(target).header("authorization", header);
    let mut exchange = with("Bearer new-t0ken==", "/json?token=wrong&token=again&a");
    plugin.on_request(&mut exchange).expect_next();
    assert_eq!(exchange.attribute("token").as_deref(), Some("new"));
    assert_eq!(exchange.path_with_query(), "/json?a");

    let mut exchange = with("Bearer wrong", "/json?token=0ld.token");
    plugin.on_request(&mut exchange).expect_answer();

    let mut exchange = with("Basic eDp5", "/json?token=0ld.token");
    plugin.on_request(&mut exchange).expect_next();
    assert_eq!(exchange.attribute("token").as_deref(), Some("old"));
}

#[test]
fn a_referer_with_the_parameter_is_not_sent_on_and_another_is() {
    let plugin = by_parameter();
    for (referer, kept) in [
        ("http://box/page?token=0ld.token", false),
        ("http://box/page?a&token=0ld.token", false),
        ("http://box/page?a", true),
    ] {
        let mut exchange = request(&["Bearer 0ld.token"]).header("referer", referer);
        plugin.on_request(&mut exchange).expect_next();
        assert_eq!(
            exchange.request_header("referer").is_some(),
            kept,
            "{referer}"
        );
    }
}

#[test]
fn a_query_that_no_url_may_hold_does_not_fail_for_the_token_in_it() {
    let mut exchange = Exchange::get("/json?token=0ld.token&q={a|b}");
    by_parameter().on_request(&mut exchange).expect_next();
    assert_eq!(exchange.path_with_query(), "/json?q=%7Ba%7Cb%7D");
}

#[test]
fn who_fails_too_often_is_told_when_to_come_back_and_a_right_token_passes_all_the_time() {
    let plugin = plugin(&TWO.replacen('{', r#"{"failures":{"per-minute":6,"burst":2},"#, 1));
    let status = |value: &str| {
        plugin
            .on_request(&mut request(&[value]))
            .expect_answer()
            .status
    };
    assert_eq!([status("Bearer x"), status("Bearer y")], [401, 401]);
    let reply = plugin.on_request(&mut request(&[])).expect_answer();
    assert_eq!(reply.status, 429);
    assert_eq!(reply.headers["retry-after"], "10");
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(body(&reply), br#"{"error":"too many failures"}"#);

    plugin
        .on_request(&mut request(&["Bearer 0ld.token"]))
        .expect_next();

    plugin.advance(Duration::from_secs(10));
    assert_eq!([status("Bearer x"), status("Bearer x")], [401, 429]);
}

#[test]
fn a_poller_costs_one_log_line_a_minute_without_what_it_presented() {
    let plugin = plugin(TWO);
    let warnings = || {
        let log = plugin.log();
        let lines = log.iter().map(ToString::to_string);
        lines
            .filter(|line| line.starts_with("WARN"))
            .collect::<Vec<_>>()
    };
    // A minute of ChromeDriver.
    for _ in 0..1200 {
        plugin
            .on_request(&mut request(&["Bearer hunter2"]))
            .expect_answer();
        plugin.advance(Duration::from_millis(50));
    }
    assert_eq!(warnings().len(), 1, "{:?}", warnings());
    plugin.advance(Duration::from_secs(1));
    plugin
        .on_request(&mut request(&["Bearer hunter2"]))
        .expect_answer();
    plugin
        .on_request(&mut request(&["Bearer hunter2"]))
        .expect_answer();
    let warnings = warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("192.0.2.7 fails to authenticate"),
        "{warnings:?}"
    );
    assert!(!format!("{:?}", plugin.log()).contains("hunter2"));
}

#[test]
fn a_parameter_and_limits_that_cannot_be_are_refused_at_their_keys() {
    for (config, path) in [
        (r#"{"query-parameter":""}"#, "query-parameter"),
        (r#"{"query-parameter":"a b"}"#, "query-parameter"),
        (r#"{"failures":{"per-minute":0}}"#, "failures.per-minute"),
        (r#"{"failures":{"burst":0}}"#, "failures.burst"),
        (r#"{"failures":{"per-hour":1}}"#, "failures.per-hour"),
    ] {
        let mistakes = Component::of_this_package("plugin").config_errors(config);
        assert_eq!(mistakes[0].path, path);
    }
}
