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
