//! `snapshot-server` under the runtime. What the host does with the file is the proxy's to test.

use witgate_testkit::{Component, Exchange, Plugin, Reply, ReplyBody};

fn plugin() -> Plugin {
    Component::of_this_package("plugin").start(r#"{"file":"/snapshots/state.json"}"#)
}

fn reply_to(method: &str) -> Reply {
    plugin()
        .on_request(&mut Exchange::new(method, "/api/snapshot?x=1").authority("box:8088"))
        .expect_answer()
}

#[test]
fn it_has_the_request_hook_only() {
    let hooks = Component::of_this_package("plugin").hooks();
    assert!(hooks.request && !hooks.response);
}

#[test]
fn get_and_head_get_the_file_to_be_revalidated_each_time() {
    for method in ["GET", "HEAD"] {
        let reply = reply_to(method);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.headers["cache-control"], "no-cache");
        let ReplyBody::File(file) = reply.body else {
            panic!("{method} got {:?}", reply.body)
        };
        assert_eq!(file.path, "/snapshots/state.json");
    }
}

#[test]
fn a_missing_file_has_a_json_answer() {
    let ReplyBody::File(file) = reply_to("GET").body else {
        panic!("no file")
    };
    let not_found = file.not_found.expect("an answer for a missing file");
    assert_eq!(not_found.content_type, "application/json");
    assert_eq!(not_found.body, r#"{"error":"snapshot not yet available"}"#);
}

#[test]
fn an_encrypted_file_is_not_called_json() {
    let reply = Component::of_this_package("plugin")
        .start(r#"{"file":"/snapshots/state.json.age"}"#)
        .on_request(&mut Exchange::new("GET", "/").authority("box"))
        .expect_answer();
    assert_eq!(reply.headers["content-type"], "application/octet-stream");
}

#[test]
fn with_health_it_answers_for_the_age_and_never_serves_the_file() {
    let health = |config: &str, target: &str| {
        Component::of_this_package("plugin")
            .start(config)
            .on_request(&mut Exchange::new("GET", target).authority("box"))
            .expect_answer()
    };
    let config = r#"{"file":"/s/state.json","health":{"stale-after":"3h"}}"#;
    for target in [
        "/healthz",
        "/healthz?x=verbose",
        "/api/snapshot?",
        "/?verbosely",
    ] {
        let reply = health(config, target);
        assert_eq!(reply.status, 200);
        assert!(
            matches!(&reply.body, ReplyBody::Bytes(body) if body == "ok\n"),
            "{target}"
        );
    }
    for target in ["/healthz?verbose", "/healthz?a=b&verbose=1"] {
        let reply = health(config, target);
        assert_eq!(reply.status, 200);
        let ReplyBody::File(file) = reply.body else {
            panic!("{target} got {:?}", reply.body)
        };
        assert_eq!(file.path, "/s/state.json.status.json");
        let stale = file.stale.expect("a limit on the age");
        assert_eq!(
            (&*stale.of, stale.after.as_secs()),
            ("/s/state.json", 3 * 3600)
        );
        assert_eq!(stale.status, 503);
    }
    let elsewhere =
        r#"{"file":"/s/state.json","health":{"stale-after":"90s","status-file":"/t/status"}}"#;
    let ReplyBody::File(file) = health(elsewhere, "/?verbose").body else {
        panic!("no file")
    };
    assert_eq!(file.path, "/t/status");
    assert_eq!(file.stale.expect("a limit on the age").after.as_secs(), 90);
}

#[test]
fn mistakes_in_health_are_refused_at_their_keys() {
    for wrong in [
        "",
        "3",
        "h",
        "-1h",
        "+1h",
        "0s",
        "1.5h",
        "3 h",
        "3w",
        "99999999999999999999d",
        "3ü",
        "ühs",
    ] {
        let config = format!(r#"{{"file":"/s/state.json","health":{{"stale-after":"{wrong}"}}}}"#);
        let mistakes = Component::of_this_package("plugin").config_errors(&config);
        assert_eq!(mistakes[0].path, "health.stale-after", "{wrong}");
    }
    let config = r#"{"file":"/s","health":{"stale-after":"1h","status-file":"status"}}"#;
    let mistakes = Component::of_this_package("plugin").config_errors(config);
    assert_eq!(mistakes[0].path, "health.status-file");
}

#[test]
fn other_methods_are_told_which_there_are() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
        let reply = reply_to(method);
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.headers["allow"], "GET, HEAD");
        assert_eq!(reply.headers["content-type"], "application/json");
        assert!(
            matches!(&reply.body, ReplyBody::Bytes(body) if body == r#"{"error":"method not allowed"}"#)
        );
    }
}

#[test]
fn a_file_that_is_no_absolute_path_is_refused_at_its_key() {
    for file in ["", "/", "state.json", "/a/../b", "/a//b", "/a/", "./a"] {
        let mistakes =
            Component::of_this_package("plugin").config_errors(&format!(r#"{{"file":"{file}"}}"#));
        assert_eq!(mistakes[0].path, "file", "{file}");
    }
}

#[test]
fn the_file_must_be_named() {
    let mistakes = Component::of_this_package("plugin").config_errors("{}");
    assert_eq!(
        (mistakes[0].path.as_str(), mistakes[0].message.as_str()),
        ("", "the key `file` is missing")
    );
}
