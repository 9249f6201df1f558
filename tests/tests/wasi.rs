//! Promise: of the machine's files, variables and network a plugin sees what its operator granted, and nothing else.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use rustix::process::Signal;
use witgate_build::Build;
use witgate_tests::http::exchange;
use witgate_tests::process::Ended;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate};

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/wasi-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("wasi-guest");
        let mut components = built.wasi().run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

fn config(grant: &str) -> String {
    format!(
        "[server]\nworkers = 1\n[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n\
         [[route]]\nplugins = ['guest']\nreply = {{ body = 'passed' }}\n\
         [plugin.guest]\ncomponent = 'guest.wasm'\nlimits.deadline = '10s'\n{grant}\n"
    )
}

/// A guest beside `data/inside` and `outside`, and links in `data` that lead there.
fn guest(grant: &str) -> Witgate {
    let setup = Setup::new()
        .env("WITGATE_TEST_TOKEN", "t0ken-of-the-host")
        .file("guest.wasm", component())
        .file("data/inside", "inside")
        .file("outside", "outside");
    let data = setup.path().join("data");
    let outside = setup.path().join("outside");
    symlink("inside", data.join("to-inside")).expect("a new link");
    symlink("../outside", data.join("to-outside")).expect("a new link");
    symlink(outside, data.join("to-absolute")).expect("a new link");
    setup.start(&config(grant))
}

/// What came of it.
#[track_caller]
fn order(witgate: &Witgate, what: &str, on: &str) -> String {
    let answer = exchange(
        witgate.address("main"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx-do: {what}\r\nx-on: {on}\r\nx-with: new\r\n\r\n"),
    );
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text().to_owned()
}

const DATA: &str = "grant.wasi.directories = [{ path = 'data', as = '/data' }]";
const WRITABLE: &str = "grant.wasi.directories = [{ path = 'data', as = '/data', write = true }]";

#[test]
fn without_a_grant_there_are_clocks_and_nothing_else() {
    let origin = Upstream::answering(|_| panic!("no plugin may reach it by a socket"));
    let witgate = guest("");
    assert_eq!(order(&witgate, "all-env", ""), "");
    assert_eq!(order(&witgate, "env", "WITGATE_TEST_TOKEN"), "nothing");
    assert_eq!(order(&witgate, "config", "colour"), "nothing");
    for (what, on) in [
        ("read", "/etc/hostname"),
        ("list", "/"),
        ("list", "."),
        ("write", "/tmp/x"),
    ] {
        let outcome = order(&witgate, what, on);
        assert!(outcome.starts_with("error: "), "{what} {on}: {outcome}");
    }
    let connected = order(&witgate, "connect", &origin.address().to_string());
    assert_eq!(connected, "error: PermissionDenied");
    assert_eq!(order(&witgate, "time", ""), "it passes");
    assert_eq!(witgate.get("main", "/").text(), "passed");
}

/// The second test is to fail, so that the report shows what was drawn.
const OF_TIME: &str = r#"
[[test]]
name = "time stands still until the test moves it"
[[test.exchange]]
request.headers = { x-do = "clock" }
expect.reply.body = "0 Some(1767225600000)"
[[test.exchange]]
after = "90s"
request.headers = { x-do = "clock" }
expect.reply.body = "90000 Some(1767225690000)"

[[test]]
name = "a seed"
request.headers = { x-do = "seed" }
expect.reply.body = "not drawn"
"#;

#[test]
fn under_test_the_clocks_stand_still_and_what_is_random_is_the_same_each_time() {
    let setup = Setup::new()
        .file("guest.wasm", component())
        .file("time.test.toml", OF_TIME);
    let test = || {
        setup.run_to_end(&[
            "plugin",
            "test",
            "time.test.toml",
            "--component",
            "guest.wasm",
        ])
    };

    let (first, second) = (test(), test());

    let passed = "pass  time stands still until the test moves it";
    assert!(first.stdout.contains(passed), "{}", first.output());
    assert!(first.stdout.contains("- not drawn"), "{}", first.output());
    let seed = |ended: &Ended| ended.stdout.split("FAIL").nth(1).map(str::to_owned);
    assert_eq!(seed(&first), seed(&second));
}

#[test]
fn variables_and_strings_are_those_that_were_granted() {
    let witgate = guest(
        "grant.wasi.env = { LANG = 'C', TOKEN = '${env:WITGATE_TEST_TOKEN}' }\n\
         grant.wasi.config = { colour = 'green' }",
    );
    assert_eq!(order(&witgate, "all-env", ""), "LANG TOKEN");
    assert_eq!(order(&witgate, "env", "TOKEN"), "t0ken-of-the-host");
    assert_eq!(order(&witgate, "config", "colour"), "green");
    assert_eq!(order(&witgate, "config", "shape"), "nothing");
    let printed = witgate.stop().output();
    assert!(!printed.contains("t0ken-of-the-host"), "{printed}");
}

#[test]
fn a_store_is_opened_in_the_words_of_the_standard_if_it_was_granted() {
    let refused = guest("");
    let outcome = order(&refused, "count", "");
    assert!(outcome.contains("AccessDenied"), "{outcome}");
    let checked = refused.setup().run_to_end(&["check", "witgate.toml"]);
    let said = checked.output();
    assert!(said.contains("grant.keyvalue = {}"), "{said}");
    assert!(said.contains("wasi:keyvalue/store@0.2.0-draft"), "{said}");

    let witgate =
        guest("grant.keyvalue = { store = 'counts' }\n[keyvalue.counts]\nkind = 'memory'");
    let counts = ["", "default", "counts"].map(|store| order(&witgate, "count", store));
    assert_eq!(counts, ["1", "2", "3"]);
    let outcome = order(&witgate, "count", "others");
    assert!(outcome.contains("NoSuchStore"), "{outcome}");

    let reader = guest("grant.keyvalue.operations = 'read'");
    let outcome = order(&reader, "count", "");
    assert!(outcome.contains("AccessDenied"), "{outcome}");
}

#[test]
fn a_directory_is_read_and_neither_written_nor_left() {
    let witgate = guest(DATA);
    let data = witgate.setup().path().join("data");
    assert_eq!(order(&witgate, "read", "/data/inside"), "inside");
    assert_eq!(order(&witgate, "read", "/data/to-inside"), "inside");
    let names = order(&witgate, "list", "/data");
    assert_eq!(names, "inside to-absolute to-inside to-outside");
    for (what, on) in [
        ("read", "/data/to-outside"),
        ("read", "/data/to-absolute"),
        ("read", "/data/../outside"),
        ("read", "/outside"),
        ("read", "/etc/hostname"),
        ("list", "/data/.."),
        ("write", "/data/inside"),
        ("write", "/data/new"),
        ("write", "/data/to-outside"),
        ("remove", "/data/inside"),
    ] {
        let outcome = order(&witgate, what, on);
        assert!(outcome.starts_with("error: "), "{what} {on}: {outcome}");
    }
    let content = |path: &str| fs::read_to_string(data.join(path)).ok();
    assert_eq!(content("inside").as_deref(), Some("inside"));
    assert_eq!(content("../outside").as_deref(), Some("outside"));
    assert_eq!(content("new"), None);
}

#[test]
fn a_directory_that_may_be_written_is_not_left_either() {
    let witgate = guest(WRITABLE);
    let data = witgate.setup().path().join("data");
    assert_eq!(order(&witgate, "write", "/data/new"), "written");
    assert_eq!(order(&witgate, "remove", "/data/inside"), "removed");
    for on in ["/data/to-outside", "/data/to-absolute", "/data/../outside"] {
        let outcome = order(&witgate, "write", on);
        assert!(outcome.starts_with("error: "), "{on}: {outcome}");
    }
    let content = |path: &str| fs::read_to_string(data.join(path)).ok();
    assert_eq!(content("new").as_deref(), Some("new"));
    assert_eq!(content("inside"), None);
    assert_eq!(content("../outside").as_deref(), Some("outside"));
}

#[test]
fn a_guest_that_closes_no_file_runs_into_its_own_limit_and_leaves_none_open() {
    let mut witgate = guest(DATA);
    let files = format!("/proc/{}/fd", witgate.process().id());
    let open = || fs::read_dir(&files).expect("it runs").count();
    assert_eq!(order(&witgate, "read", "/data/inside"), "inside");
    let before = open();
    for _ in 0..3 {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nx-do: leak\r\nx-on: /data/inside\r\n\r\n";
        let answer = exchange(witgate.address("main"), request);
        // An error or a trap, as the host's functions have it.
        let refused = answer.status() == 500 || answer.text().starts_with("error: ");
        assert!(refused, "{} {}", answer.status(), answer.text());
        assert_eq!(order(&witgate, "read", "/data/inside"), "inside");
    }
    // The connections of the test itself come and go; a leak would leave hundreds.
    let after = open();
    assert!(
        after < before + 100,
        "{before} files were open, and then {after}"
    );
}

#[test]
fn a_file_that_never_opens_ends_the_call_by_its_deadline_and_holds_up_nobody() {
    let setup = Setup::new()
        .file("guest.wasm", component())
        .file("data/inside", "inside");
    let pipe = Command::new("mkfifo")
        .arg(setup.path().join("data/pipe"))
        .status();
    assert!(pipe.expect("it is in coreutils").success());
    let witgate = setup.start(&config(DATA).replace("10s", "5s"));
    let mut waits = witgate.connect("main");
    // Whoever opens a pipe to read waits for somebody who writes.
    waits.send("GET / HTTP/1.1\r\nHost: a\r\nx-do: read\r\nx-on: /data/pipe\r\n\r\n");
    assert_eq!(order(&witgate, "read", "/data/inside"), "inside");
    assert_eq!(waits.read_response().status(), 500);
    witgate.log_line("the reason", |line| {
        let reason = line.text("reason").unwrap_or_default();
        reason.contains("deadline of 5s")
    });
    assert_eq!(order(&witgate, "read", "/data/inside"), "inside");
    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.status);
}

#[test]
fn a_grant_changes_with_a_reload_and_a_directory_that_is_away_changes_nothing() {
    let mut witgate = guest(DATA);
    let ask_for = |witgate: &mut Witgate, grant: &str| {
        let file = witgate.setup().path().join("witgate.toml");
        fs::write(file, config(grant)).expect("a written file");
        witgate.process().signal(Signal::HUP);
    };
    ask_for(&mut witgate, &DATA.replace("'data'", "'no-such'"));
    let refused = |line: &LogLine| line.message().starts_with("reload failed");
    let line = witgate.log_line("a reload that failed", refused);
    let message = line.message();
    assert!(message.contains("cannot use 'no-such'"), "{message}");
    assert_eq!(order(&witgate, "read", "/data/inside"), "inside");

    ask_for(&mut witgate, "grant.wasi.env.LANG = 'C'");
    witgate.log_line("the reload", |line| line.message() == "reloaded");
    assert_eq!(order(&witgate, "all-env", ""), "LANG");
    let outcome = order(&witgate, "read", "/data/inside");
    assert!(outcome.starts_with("error: "), "{outcome}");
}
