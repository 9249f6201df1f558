//! Promise: a plugin that misbehaves ends its own exchange, says why in the log, and harms nobody else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier, OnceLock};
use std::{env, fs};

use witgate_build::Build;
use witgate_tests::http::Message;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually, http};

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guests");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUESTS, target.join("plugins")).package("misbehaving-guest");
        let built = built.profile("guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

struct Proxy {
    witgate: Witgate,
    upstream: Upstream,
}

/// The guest in front of an upstream that says hello.
fn misbehaving(misbehaviour: &str, more: &str) -> Proxy {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let text = format!(
        "{}\n[plugin.guest]\ncomponent = \"guest.wasm\"\nconfig.misbehaviour = {misbehaviour:?}\n{more}\n",
        config::through(&["guest"], upstream.address())
    );
    let setup = Setup::new()
        .file("guest.wasm", component())
        .file("mount/inside", "inside")
        .file("outside", "outside");
    std::os::unix::fs::symlink("../outside", setup.path().join("mount/link")).expect("a new link");
    let pipe = setup.path().join("mount/pipe");
    let made = Command::new("mkfifo").arg(pipe).status();
    assert!(made.is_ok_and(|made| made.success()), "no pipe");
    Proxy {
        witgate: setup.start(&text),
        upstream,
    }
}

impl Proxy {
    fn bad(&self) -> Message {
        self.witgate.get("main", "/bad")
    }

    /// The client learns no more than the status, the log has `kind`, the next exchange is served.
    #[track_caller]
    fn assert_failed(&self, answer: &Message, status: u16, said: &str) {
        assert_eq!(answer.status(), status, "{}", answer.text());
        let words = [
            "internal server error\n",
            "service unavailable\n",
            "bad gateway\n",
        ];
        assert!(words.contains(&answer.text()), "{:?}", answer.text());
        self.witgate
            .log_line(&format!("a failure that says {said:?}"), |line| {
                line.text("reason").is_some_and(|reason| {
                    reason.contains("plugin `guest`") && reason.contains(said)
                })
            });
        self.assert_serves();
    }

    /// The exchange is as if nothing had happened, the log has what did, and the next one is served.
    #[track_caller]
    fn assert_logged(&self, answer: &Message, said: &str) {
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        self.witgate
            .log_line(&format!("a failure that says {said:?}"), |line| {
                line.message().contains("plugin `guest`") && line.message().contains(said)
            });
        self.assert_serves();
    }

    #[track_caller]
    fn assert_serves(&self) {
        let good = self.witgate.get("main", "/good");
        assert_eq!((good.status(), good.text()), (200, "hello"));
    }
}

#[test]
fn panic() {
    let proxy = misbehaving("panic", "");
    proxy.assert_failed(&proxy.bad(), 500, "trapped in on-request");
    proxy
        .witgate
        .log_line("the guest's own function and line", |line| {
            line.text("reason").is_some_and(|reason| {
                reason.contains("misbehaving_guest::panic::on_request")
                    && reason.contains("tests/guests/src/panic.rs:8")
            })
        });
    assert_eq!(
        proxy.upstream.received().len(),
        1,
        "the upstream saw the bad request"
    );
}

#[test]
fn spin() {
    let proxy = misbehaving("spin", "limits.deadline = \"20ms\"");
    proxy.assert_failed(&proxy.bad(), 500, "deadline of 20ms");
}

/// One worker serves all. No time is over in this test: the hook would run for an hour.
#[test]
fn one_that_spins_lets_its_worker_serve_its_neighbours() {
    let proxy = misbehaving("spin", "limits.deadline = \"1h\"");
    let mut spinning = proxy.witgate.connect("main");
    spinning.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut another = proxy.witgate.connect("main");
    another.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..10 {
        proxy.assert_serves();
    }
}

#[test]
fn when_all_calls_at_once_are_taken_the_next_waits_and_is_refused() {
    let limits = "limits.deadline = \"1h\"\nlimits.concurrency = 2\nlimits.wait = \"20ms\"";
    let proxy = misbehaving("spin", limits);
    let mut spinning = proxy.witgate.connect("main");
    spinning.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.assert_serves();
    let mut another = proxy.witgate.connect("main");
    another.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("there is no turn left", || {
        (proxy.witgate.get("main", "/good").status() == 503).then_some(())
    });
    proxy.witgate.log_line("why", |line| {
        line.text("reason")
            .is_some_and(|reason| reason.contains("raise `limits.concurrency`"))
    });
    // Whoever leaves makes room.
    drop(another);
    eventually("its turn is free again", || {
        (proxy.witgate.get("main", "/good").status() == 200).then_some(())
    });
}

#[test]
fn a_call_waits_no_longer_for_an_instance_that_a_body_holds_than_for_its_turn() {
    let limits = "limits.deadline = \"1h\"\nlimits.concurrency = 1\nlimits.wait = \"20ms\"";
    let proxy = misbehaving("spin-in-finish", limits);
    let mut spinning = proxy.witgate.connect("main");
    spinning.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the only instance is in a body", || {
        (proxy.witgate.get("main", "/good").status() == 503).then_some(())
    });
    drop(spinning);
    eventually("another instance takes its place", || {
        (proxy.witgate.get("main", "/good").status() == 200).then_some(())
    });
}

#[test]
fn keep_state() {
    let seen = |more: &str| {
        let proxy = misbehaving("keep-state", more);
        let answers = (0..4).map(|_| proxy.bad().text().to_owned());
        answers.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(seen(""), "seen 1, seen 2, seen 3, seen 4");
    assert_eq!(
        seen("isolation = \"exchange\""),
        "seen 1, seen 1, seen 1, seen 1"
    );
    assert_eq!(
        seen("limits.exchanges = 2"),
        "seen 1, seen 2, seen 1, seen 2"
    );
}

#[test]
fn when_an_exchange_with_an_instance_of_its_own_is_over_the_next_ones_is_made() {
    let proxy = misbehaving("keep-state", "isolation = \"exchange\"");
    let configured = || {
        let log = proxy.witgate.log();
        log.iter().filter(|l| l.message() == "configured").count()
    };
    // The one worker has an instance before it serves, and nobody asks for another.
    eventually("the first is made", || (configured() == 1).then_some(()));
    assert_eq!(proxy.bad().text(), "seen 1");
    eventually("another is made", || (configured() > 1).then_some(()));
    assert_eq!(proxy.bad().text(), "seen 1");
}

#[test]
fn leak_memory() {
    let leaking =
        |more: &str| misbehaving("leak-memory", &format!("limits.memory = \"8MiB\"\n{more}"));
    let proxy = leaking("");
    for _ in 0..30 {
        assert_eq!(proxy.bad().text(), "hello");
    }
    let never_recycled = leaking("limits.recycle-memory = \"8MiB\"");
    let failed = (0..30).find(|_| never_recycled.bad().status() == 500);
    assert!(failed.is_some(), "it leaks nothing");
    // More than that is there before the first call.
    let small = misbehaving("keep-state", "limits.recycle-memory = \"64KiB\"");
    for _ in 0..3 {
        assert!(small.bad().text().starts_with("seen "));
    }
}

#[test]
fn hog_memory() {
    let proxy = misbehaving(
        "hog-memory",
        "limits.memory = \"8MiB\"\nlimits.deadline = \"5s\"",
    );
    proxy.assert_failed(&proxy.bad(), 500, "8388608 bytes of memory");
}

#[test]
fn overflow_stack() {
    let proxy = misbehaving("overflow-stack", "limits.deadline = \"5s\"");
    proxy.assert_failed(&proxy.bad(), 500, "stack");
}

#[test]
fn give_up() {
    let proxy = misbehaving("give-up", "");
    proxy.assert_failed(&proxy.bad(), 500, "the moon is in the wrong place");
}

#[test]
fn impossible_status() {
    let proxy = misbehaving("impossible-status", "");
    for status in [0, 99, 101, 199, 600, 999, 65535] {
        let answer = proxy.witgate.get("main", &format!("/bad?{status}"));
        proxy.assert_failed(&answer, 500, &format!("a status of {status}"));
    }
}

#[test]
fn forge_framing() {
    let proxy = misbehaving("forge-framing", "");
    assert_eq!(proxy.bad().text(), "nothing was taken");
    proxy.assert_serves();
}

#[test]
fn leave_mount() {
    let proxy = misbehaving(
        "leave-mount",
        "grant.files = [{ path = \"mount\", as = \"/files\" }, { path = \"/dev\", as = \"/devices\" }]",
    );
    assert_eq!(
        proxy.witgate.get("main", "/bad?/files/inside").text(),
        "inside"
    );
    assert_eq!(
        proxy.witgate.get("main", "/bad?/files/missing").status(),
        404
    );
    for outside in [
        "/files/../outside",
        "/files/link",
        "/files//etc/passwd",
        "/etc/passwd",
        "/files",
        "/files/.",
        "outside",
        "/files/pipe",
        "/devices/zero",
        "/devices/../etc/passwd",
    ] {
        let answer = proxy.witgate.get("main", &format!("/bad?{outside}"));
        assert_eq!(answer.status(), 500, "{outside}: {:?}", answer.text());
    }
    proxy.assert_serves();
}

#[test]
fn grow_body() {
    let proxy = misbehaving("grow-body", "");
    proxy.assert_failed(
        &proxy.bad(),
        502,
        "holds a body back that is over 1048576 bytes",
    );
}

/// The smallest store there is.
const SMALL_STORE: &str = "limits.deadline = \"20s\"\ngrant.keyvalue = { value-size = \"1MiB\" }\n\
     [keyvalue.default]\nkind = \"memory\"\nsize = \"4MiB\"";

#[test]
fn huge_value() {
    let proxy = misbehaving("huge-value", SMALL_STORE);
    let answer = proxy.bad();
    assert_eq!((answer.status(), answer.text()), (200, "some"));
    proxy.assert_serves();
}

#[test]
fn key_flood() {
    let proxy = misbehaving("key-flood", SMALL_STORE);
    assert_eq!(proxy.bad().text(), "refused 0, first false, last true");
    proxy.assert_serves();
}

#[test]
fn label_explosion() {
    let more = "limits.deadline = \"20s\"\ngrant.metrics = { series = 7 }\n\
         [admin]\nbind = \"127.0.0.1:0\"";
    let proxy = misbehaving("label-explosion", more);
    assert_eq!(proxy.bad().text(), "made 7");
    assert_eq!(proxy.bad().text(), "made 7");
    let line = proxy.witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin = line.text("address").expect("the line has it");
    let metrics = http::get(admin.parse().expect("an address"), "/metrics");
    let series = metrics
        .text()
        .matches("witgate_plugin_custom_explosion_total{");
    assert_eq!(series.count(), 7, "{}", metrics.text());
    proxy.assert_serves();
}

#[test]
fn fail_in_body() {
    // The second piece comes only when the first has arrived, so that they are two.
    let arrived = Arc::new(Barrier::new(2));
    let first_arrived = arrived.clone();
    let upstream = Upstream::start(move |peer| {
        if peer.next_request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            first_arrived.wait();
            peer.send("6\r\nsecond\r\n0\r\n\r\n");
        }
    });
    let text = format!(
        "{}\n[plugin.guest]\ncomponent = \"guest.wasm\"\nconfig.misbehaviour = \"fail-in-body\"\n",
        config::through(&["guest"], upstream.address())
    );
    let witgate = Setup::new().file("guest.wasm", component()).start(&text);
    let mut client = http::Connection::open(witgate.address("main"));

    client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head();
    let first = client.try_read_chunk().expect("the first piece");

    assert_eq!(first.as_deref(), Some(&b"first"[..]));
    arrived.wait();
    assert!(
        client.try_read_chunk().is_err(),
        "a cut-off body looks whole"
    );
}

#[test]
fn one_that_fails_again_and_again_is_left_alone_and_comes_back() {
    let proxy = misbehaving("panic", "[admin]\nbind = \"127.0.0.1:0\"");
    let line = proxy.witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin = line.text("address").expect("the line has it");
    let admin = admin.parse().expect("an address");
    // It is left alone for a second, which may be over before the next request comes.
    let mut failures = 0;
    eventually("the plugin is left alone", || {
        for _ in 0..5 {
            assert_eq!(proxy.bad().status(), 500);
        }
        failures += 5;
        (proxy.witgate.get("main", "/good").status() == 503).then_some(())
    });

    let ready = http::get(admin, "/ready");
    assert_eq!(ready.status(), 200, "the proxy itself is well");
    assert!(
        ready.text().contains("plugin `guest` failed again"),
        "{}",
        ready.text()
    );
    let metrics = http::get(admin, "/metrics");
    let traps =
        format!("witgate_plugin_failures_total{{plugin=\"guest\",kind=\"trap\"}} {failures}\n");
    for series in [
        &*traps,
        "witgate_plugin_failures_total{plugin=\"guest\",kind=\"quarantined\"} 1\n",
        "witgate_plugin_quarantined{plugin=\"guest\"} 1\n",
    ] {
        assert!(
            metrics.text().contains(series),
            "no {series} in {}",
            metrics.text()
        );
    }
    eventually("the plugin is called again", || {
        (proxy.witgate.get("main", "/good").status() == 200).then_some(())
    });
}

#[test]
fn one_that_may_fail_is_skipped() {
    let proxy = misbehaving("panic", "on-failure = \"open\"");
    let answer = proxy.bad();
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
}

#[test]
fn panic_in_response() {
    let proxy = misbehaving("panic-in-response", "");
    proxy.assert_failed(&proxy.bad(), 500, "trapped in on-response");
}

#[test]
fn panic_in_push() {
    let proxy = misbehaving("panic-in-push", "");
    proxy.assert_failed(&proxy.bad(), 500, "trapped in transform.push");
}

#[test]
fn panic_in_finish() {
    let proxy = misbehaving("panic-in-finish", "");
    proxy.assert_failed(&proxy.bad(), 500, "trapped in transform.finish");
}

#[test]
fn panic_in_drop() {
    let proxy = misbehaving("panic-in-drop", "");
    proxy.assert_logged(&proxy.bad(), "trapped in transform.drop");
}

#[test]
fn panic_at_completion() {
    let proxy = misbehaving("panic-at-completion", "");
    proxy.assert_logged(&proxy.bad(), "trapped in on-complete");
}

#[test]
fn spin_at_completion() {
    let proxy = misbehaving("spin-at-completion", "limits.deadline = \"20ms\"");
    proxy.assert_logged(
        &proxy.bad(),
        "stopped in on-complete after its deadline of 20ms",
    );
}

#[test]
fn spin_in_finish() {
    let proxy = misbehaving("spin-in-finish", "limits.deadline = \"20ms\"");
    let said = "stopped in transform.finish after its deadline of 20ms";
    proxy.assert_failed(&proxy.bad(), 500, said);
}

#[test]
fn panic_at_start() {
    let text = "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n[[route]]\nplugins = [\"guest\"]\n\
                [plugin.guest]\ncomponent = \"guest.wasm\"\nconfig.misbehaviour = \"panic-at-start\"\n";
    let ended = Setup::new()
        .file("guest.wasm", component())
        .run_and_fail(text);
    let said = ended.output();
    assert!(said.contains("trapped while it was started"), "{said}");
}

#[test]
fn forge_headers() {
    let proxy = misbehaving("forge-headers", "");
    let answer = proxy.bad();
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    assert_eq!(answer.header("x-taken"), Some("0"));
    assert_eq!(answer.header("x-forged"), None);
    let sent = proxy.upstream.only_request();
    assert_eq!(sent.head.start_line, "GET /bad HTTP/1.1");
    for name in ["x-forged", "x-a", "trailer"] {
        assert_eq!(sent.header(name), None, "{sent:?}");
    }
    proxy.assert_serves();
}

#[test]
fn forge_reply() {
    let proxy = misbehaving("forge-reply", "");
    for which in [
        "break-in-name",
        "break-in-value",
        "nul",
        "pseudo",
        "empty",
        "huge-name",
        "many",
        "length",
        "coding",
        "trailer",
    ] {
        let answer = proxy.witgate.get("main", &format!("/bad?{which}"));
        proxy.assert_failed(&answer, 500, "returned from on-request what cannot be sent");
        assert_eq!(answer.header("x-forged"), None);
    }
    assert!(
        proxy.upstream.received().iter().all(|received| !received
            .request
            .head
            .start_line
            .contains("/bad"))
    );
}

#[test]
fn huge_log() {
    let proxy = misbehaving("huge-log", "");
    assert_eq!(proxy.bad().text(), "hello");
    let line = proxy
        .witgate
        .log_line("the line", |line| line.message().starts_with("huge"));
    assert!(line.message().starts_with("huge\\nxxx"), "it is one line");
    assert!(line.message().len() < 4200, "{}", line.message().len());
    proxy.assert_serves();
}

#[test]
fn flood_log() {
    flood("worker");
}

#[test]
fn flood_log_from_instances_of_their_own() {
    flood("exchange");
}

fn flood(isolation: &str) {
    let limits = format!("limits.log-lines = 5\nisolation = \"{isolation}\"");
    let proxy = misbehaving("flood-log", &limits);
    assert_eq!(proxy.bad().text(), "hello");
    eventually("the loss is told", || {
        // The next second, which may begin amid the flood, has lines of its own, the first of which says how many
        // were lost.
        assert_eq!(proxy.bad().text(), "hello");
        let log = proxy.witgate.log();
        let told = log
            .iter()
            .filter(|line| line.message().contains("lines were lost"));
        let lost: u64 = told.filter_map(|line| line.field("lost")?.as_u64()).sum();
        (lost >= 900).then_some(())
    });
    proxy.assert_serves();
}

#[test]
fn leak_handles() {
    let proxy = misbehaving("leak-handles", "limits.deadline = \"20s\"");
    for _ in 0..2 {
        assert_eq!(proxy.bad().status(), 200);
    }
    proxy.assert_failed(&proxy.bad(), 500, "handle limit exceeded");
    assert_eq!(proxy.bad().status(), 200, "the next instance has handles");
}

#[test]
fn a_component_of_another_version_of_the_contract_is_refused() {
    let (ours, other) = (b"@0.1.0", b"@0.7.0");
    let mut bytes = component().to_vec();
    for at in 0..bytes.len() - ours.len() {
        if bytes[at..].starts_with(ours) {
            bytes[at..at + other.len()].copy_from_slice(other);
        }
    }
    let text = "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n[[route]]\nplugins = [\"guest\"]\n\
                [plugin.guest]\ncomponent = \"guest.wasm\"\nconfig.misbehaviour = \"panic\"\n";
    let ended = Setup::new().file("guest.wasm", bytes).run_and_fail(text);
    let said = ended.output();
    for part in ["version 0.7.0 of the contract", "this witgate speaks 0.1.0"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// All tests, of whichever file: those of an area stand with the others of that area.
fn tests(directory: &Path) -> String {
    let entries = fs::read_dir(directory).expect("the tests are there");
    let entries = entries.map(|entry| entry.expect("the tests can be read").path());
    entries
        .map(|path| match path.is_dir() {
            true => tests(&path),
            false => fs::read_to_string(&path).unwrap_or_default(),
        })
        .collect()
}

#[test]
fn every_guest_has_its_test() {
    let tests = tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    for file in fs::read_dir(Path::new(GUESTS).join("src")).expect("the guests are there") {
        let path = file.expect("the guests can be read").path();
        let name = path
            .file_stem()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        if name != "lib" {
            assert!(
                tests.contains(&format!("\nfn {name}() {{")),
                "{name} has no test"
            );
        }
    }
}
