//! Promise: `/healthz?verbose` tells how the harvests went and how old the snapshot is, and 503 when it is too old.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use witgate_tests::Witgate;
use witgate_tests::http::exchange;
use witgate_tests::witgate::Setup;

const CONFIG: &str = r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
path = "/healthz"
plugins = ["snapshot-health"]

[plugin.snapshot-health]
component = "builtin:snapshot-server"
config = { file = "/snapshots/state.json", health = { stale-after = "1h" } }
grant.files = [{ path = "snapshots", as = "/snapshots" }]
"#;

const STATUS: &str = r#"{"last_success":{"at":"2026-01-01T00:00:00Z","cookies":3}}"#;

fn start(files: &[&str]) -> Witgate {
    let setup = Setup::new().file("snapshots/keep", "");
    let setup = files.iter().fold(setup, |setup, file| {
        setup.file(&format!("snapshots/{file}"), STATUS)
    });
    setup.start(CONFIG)
}

fn set_age(witgate: &Witgate, age: Duration) {
    let path = witgate.setup().path().join("snapshots/state.json");
    let file = File::options().write(true).open(path).expect("the file");
    file.set_modified(SystemTime::now() - age)
        .expect("a time that the file system can hold");
}

fn age(answer: &witgate_tests::http::Message) -> u64 {
    let age = answer.header("age").expect("an age");
    age.parse().expect("a number of seconds")
}

#[test]
fn a_fresh_snapshot_is_a_200_with_the_status_and_its_age() {
    let witgate = start(&["state.json", "state.json.status.json"]);
    set_age(&witgate, Duration::from_secs(1_000));

    let answer = witgate.get("main", "/healthz?verbose");

    assert_eq!((answer.status(), answer.text()), (200, STATUS));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!((1_000..3_600).contains(&age(&answer)), "{answer:?}");
    assert_eq!(witgate.get("main", "/healthz").text(), "ok\n");
}

#[test]
fn a_stale_snapshot_is_a_503_with_the_status_and_its_age_whatever_the_client_has() {
    let witgate = start(&["state.json", "state.json.status.json"]);
    let fresh = witgate.get("main", "/healthz?verbose");
    let etag = fresh.header("etag").expect("an entity tag").to_owned();
    set_age(&witgate, Duration::from_secs(3_700));

    let asked =
        format!("GET /healthz?verbose HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n");
    for answer in [
        witgate.get("main", "/healthz?verbose"),
        exchange(witgate.address("main"), asked),
    ] {
        assert_eq!((answer.status(), answer.text()), (503, STATUS));
        assert!(age(&answer) >= 3_700, "{answer:?}");
    }
    let plain = witgate.get("main", "/healthz");
    assert_eq!((plain.status(), plain.text()), (200, "ok\n"), "it serves");
}

#[test]
fn a_missing_snapshot_or_status_is_a_503() {
    let neither = start(&[]);
    let answer = neither.get("main", "/healthz?verbose");
    assert_eq!(
        (answer.status(), answer.text()),
        (503, r#"{"error":"no harvest yet"}"#)
    );
    assert_eq!(answer.header("age"), None);

    let failed_so_far = start(&["state.json.status.json"]);
    let answer = failed_so_far.get("main", "/healthz?verbose");
    assert_eq!((answer.status(), answer.text()), (503, STATUS));
    assert_eq!(answer.header("age"), None);

    let pulled_here = start(&["state.json"]);
    assert_eq!(pulled_here.get("main", "/healthz?verbose").status(), 503);
}

#[test]
fn the_snapshot_itself_is_never_served_by_it() {
    let witgate = start(&["state.json", "state.json.status.json"]);
    let path = witgate.setup().path().join("snapshots/state.json");
    fs::write(path, "a secret").expect("our own file");
    for target in [
        "/healthz",
        "/healthz?verbose",
        "/healthz?file=/snapshots/state.json",
    ] {
        assert!(
            !witgate.get("main", target).text().contains("secret"),
            "{target}"
        );
    }
}
