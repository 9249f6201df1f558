//! `bearer-auth` under the runtime.

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
        assert_eq!(exchange.attribute("token"), Some(name), "{value}");
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
