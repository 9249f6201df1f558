//! Promise: a new configuration takes effect without a restart and without a failed request, or changes nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use rustix::process::Signal;
use witgate_tests::http::{Connection, exchange};
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate, config, eventually, port};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// One listener, `main`, that answers everything with these words, from two workers.
fn saying(words: &str) -> String {
    format!(
        "[server]\nworkers = 2\n[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n\
         [[route]]\nname = 'words'\nlistener = 'main'\nreply = {{ body = '{words}' }}\n"
    )
}

fn with_listener(config: &str, name: &str, address: SocketAddr) -> String {
    format!(
        "{config}[[listener]]\nname = '{name}'\nbind = '{address}'\n\
         [[route]]\nname = 'on-{name}'\nlistener = '{name}'\nreply = {{ body = '{name}' }}\n"
    )
}

/// Replaces a file in one step, as tools do that hand out secrets.
fn replace(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    let new = directory.join(format!("{name}.new"));
    fs::write(&new, content).expect("the test's directory can be written");
    fs::rename(new, directory.join(name)).expect("a file can be renamed beside itself");
}

/// Puts a configuration in place and asks for it.
fn ask_for(witgate: &mut Witgate, config: &str) {
    replace(witgate.setup().path(), "witgate.toml", config);
    witgate.process().signal(Signal::HUP);
}

/// Has it serve another configuration, as the generation of this number.
#[track_caller]
fn reload(witgate: &mut Witgate, config: &str, number: u64) -> LogLine {
    ask_for(witgate, config);
    reloaded(witgate, number)
}

#[track_caller]
fn reloaded(witgate: &Witgate, number: u64) -> LogLine {
    witgate.log_line(&format!("generation {number}"), |line| {
        line.message() == "reloaded"
            && line.field("generation").and_then(|n| n.as_u64()) == Some(number)
    })
}

#[track_caller]
fn refused(witgate: &Witgate, times: usize) -> LogLine {
    let mut seen = 0;
    witgate.log_line("a reload that failed", |line| {
        seen += usize::from(line.message().starts_with("reload failed"));
        seen == times
    })
}

fn body(client: &mut Connection) -> String {
    client.send(GET);
    let answer = client.read_response();
    assert_eq!(answer.status(), 200);
    answer.text().to_owned()
}

fn status_with(address: SocketAddr, token: &str) -> u16 {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    exchange(address, request).status()
}

const OLD: &str = "0ld-5f1d0c9b7a3e";
const NEW: &str = "n3w-81c4e6f20d7b";

const TOKENS: &str = r#"
[plugin.token]
component = "builtin:bearer-auth"
config.tokens = [{ name = "ada", value = "${file:secrets/token}" }]
"#;

/// Answers requests, and turns what upgraded connections say into capitals.
fn origin() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            if request.header("upgrade").is_none() {
                peer.send(response("200 OK", &[], "hello"));
                continue;
            }
            peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
            while let Ok(byte) = peer.try_read_exact(1) {
                if peer.try_send(byte.to_ascii_uppercase()).is_err() {
                    break;
                }
            }
            return;
        }
    })
}

#[test]
fn a_token_is_rotated_and_what_was_let_in_with_the_old_one_stays() {
    let origin = origin();
    let setup = Setup::new().file("secrets/token", OLD);
    let witgate = setup.start(&(config::through(&["token"], origin.address()) + TOKENS));
    let address = witgate.address("main");
    let mut tunnel = witgate.connect("main");
    tunnel.send(format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OLD}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ));
    assert_eq!(tunnel.read_head().status(), 101);
    assert_eq!(
        (status_with(address, OLD), status_with(address, NEW)),
        (200, 401)
    );

    replace(&witgate.setup().path().join("secrets"), "token", NEW);
    let line = reloaded(&witgate, 2);

    assert_eq!(
        (status_with(address, OLD), status_with(address, NEW)),
        (401, 200)
    );
    tunnel.send("still here");
    assert_eq!(tunnel.read_exact(10), b"STILL HERE");
    assert_eq!(line.text("changes"), Some("plugin changed: token"));
    assert!(
        line.text("cause")
            .is_some_and(|cause| cause.ends_with("secrets/token changed")),
        "{line:?}"
    );
    drop(tunnel);
    let printed = witgate.stop().output();
    assert!(
        !printed.contains(OLD) && !printed.contains(NEW),
        "{printed}"
    );
}

#[test]
fn a_secret_that_is_away_for_a_while_is_reported_and_read_when_it_is_back() {
    let origin = origin();
    let setup = Setup::new().file("secrets/token", OLD);
    let witgate = setup.start(&(config::through(&["token"], origin.address()) + TOKENS));
    let secrets = witgate.setup().path().join("secrets");

    fs::rename(secrets.join("token"), secrets.join("away")).expect("it was there");
    let line = refused(&witgate, 1);
    assert!(
        line.message()
            .contains("cannot read the file `secrets/token`"),
        "{line:?}"
    );
    assert_eq!(status_with(witgate.address("main"), OLD), 200);

    replace(&secrets, "token", NEW);
    reloaded(&witgate, 2);
    assert_eq!(status_with(witgate.address("main"), NEW), 200);
}

#[test]
fn a_bad_edit_changes_nothing_and_is_reported_as_check_would() {
    let mut witgate = Witgate::start(&saying("one"));
    let mut kept_alive = witgate.connect("main");
    assert_eq!(body(&mut kept_alive), "one");

    let secret = "s3cret-in-the-file";
    ask_for(
        &mut witgate,
        &(saying("two")
            + &format!(
                "path = 7\n[plugin.x]\ncomponent = 'builtin:bearer-auth'\nconfig.tokens = '{secret}'\nno-such-key = 1\n"
            )),
    );
    let line = refused(&witgate, 1);

    assert_eq!(body(&mut kept_alive), "one");
    assert_eq!(witgate.get("main", "/").text(), "one");
    assert_eq!(line.level(), "WARN");
    let report = line.message();
    for part in [
        "unknown key `no-such-key`",
        "witgate.toml:10:8",
        "stays as it is",
    ] {
        assert!(report.contains(part), "{part:?} is not in {report}");
    }
    assert!(
        line.field("problems").and_then(|n| n.as_u64()) >= Some(2),
        "{line:?}"
    );
    assert!(!report.contains(secret), "{report}");

    ask_for(&mut witgate, "[[listener]");
    refused(&witgate, 2);
    assert_eq!(witgate.get("main", "/").text(), "one");

    reload(&mut witgate, &saying("two"), 2);
    assert_eq!(body(&mut kept_alive), "two");
}

#[test]
fn a_plugin_that_refuses_its_new_configuration_keeps_the_old_one() {
    let origin = origin();
    let setup = Setup::new().file("secrets/token", OLD);
    let config = config::through(&["token"], origin.address()) + TOKENS;
    let mut witgate = setup.start(&config);

    ask_for(
        &mut witgate,
        &config.replace("config.tokens", "config.token"),
    );
    let line = refused(&witgate, 1);

    assert!(line.message().contains("plugin.token.config"), "{line:?}");
    assert_eq!(status_with(witgate.address("main"), OLD), 200);
}

#[test]
fn an_exchange_in_flight_ends_as_it_began_and_the_next_one_is_new() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |peer| {
        peer.next_request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        let may_go_on = may_go_on.lock().expect("nobody panics holding it");
        may_go_on
            .recv_timeout(PATIENCE)
            .expect("the test lets it go on");
        peer.send("last");
    });
    let mut witgate = Witgate::start(&config::relay(upstream.address()));
    let mut client = witgate.connect("main");
    client.send(GET);
    client.read_head();
    assert_eq!(client.read_exact(5), b"first");

    reload(&mut witgate, &saying("new"), 2);
    go_on.send(()).expect("the script waits");

    assert_eq!(client.read_exact(4), b"last");
    assert_eq!(body(&mut client), "new");
}

#[test]
fn listeners_come_and_go_and_those_that_stay_keep_their_connections() {
    let base = saying("main");
    let (first, second) = (port::unused(), port::unused());
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut witgate = Witgate::start(&with_listener(&base, "first", local(first)));
    let mut stays = witgate.connect("main");
    let mut goes = Connection::open(local(first));
    assert_eq!(
        (body(&mut stays), body(&mut goes)),
        ("main".into(), "first".into())
    );

    let line = reload(
        &mut witgate,
        &with_listener(&base, "second", local(second)),
        2,
    );

    assert_eq!(body(&mut Connection::open(local(second))), "second");
    goes.expect_close();
    eventually("the removed listener to be closed", || {
        std::net::TcpStream::connect(local(first)).err()
    });
    assert_eq!(body(&mut stays), "main");
    assert_eq!(
        line.text("changes"),
        Some(
            "listener added: second; listener removed: first; route added: on-second; route removed: on-first"
        )
    );

    // Another name for the same address is the same socket.
    let mut renamed = Connection::open(local(second));
    assert_eq!(body(&mut renamed), "second");
    reload(
        &mut witgate,
        &with_listener(&base, "third", local(second)),
        3,
    );
    assert_eq!(body(&mut renamed), "third");
}

#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let mut witgate = Witgate::start(&saying("one"));

    ask_for(
        &mut witgate,
        &with_listener(&saying("two"), "other", address),
    );
    let line = refused(&witgate, 1);

    assert!(
        line.message().contains("listener `other` cannot be bound"),
        "{line:?}"
    );
    assert!(line.message().contains("witgate.toml:12:8"), "{line:?}");
    assert_eq!(witgate.get("main", "/").text(), "one");
}

#[test]
fn an_address_that_a_removed_listener_still_has_is_explained() {
    let port = port::unused();
    let at = |host: &str| format!("{host}:{port}").parse().expect("an address");
    let mut witgate = Witgate::start(&with_listener(&saying("a"), "old", at("127.0.0.1")));

    ask_for(
        &mut witgate,
        &with_listener(&saying("b"), "new", at("0.0.0.0")),
    );
    let line = refused(&witgate, 1);

    let words = format!("`old` still has the port on 127.0.0.1:{port}");
    assert!(line.message().contains(&words), "{line:?}");
    assert_eq!(witgate.get("old", "/").text(), "old");
}

#[test]
fn no_request_fails_while_the_configuration_is_reloaded_again_and_again() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = |round: usize| {
        config::through(&["close", "host"], upstream.address())
            .replace("workers = 1", "workers = 2")
            .replace(
                "\"close\", ",
                if round.is_multiple_of(2) {
                    ""
                } else {
                    "\"close\", "
                },
            )
            + &format!("idle-connections = {}\n", 8 + round % 3)
            + &format!(
                "[plugin.host]\ncomponent = 'builtin:host-rewrite'\nconfig.host = 'h{round}:80'\n"
            )
            + if round.is_multiple_of(2) {
                ""
            } else {
                "[plugin.close]\ncomponent = 'builtin:connection-close'\n"
            }
    };
    let mut witgate = Witgate::start(&config(0));
    let address = witgate.address("main");
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let stop_when_done = StopOnDrop(&stop);
        for _ in 0..3 {
            scope.spawn(|| {
                // Kept alive as long as the proxy does, which says so when it does not.
                let mut kept: Option<Connection> = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut client = kept.take().unwrap_or_else(|| Connection::open(address));
                    client.send(GET);
                    let answer = client.read_response();
                    assert_eq!((answer.status(), answer.text()), (200, "hello"));
                    served.fetch_add(1, Ordering::Relaxed);
                    kept = (!answer.head.has_token("connection", "close")).then_some(client);
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(exchange(address, GET).text(), "hello");
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 1..=10 {
            let before = served.load(Ordering::Relaxed);
            reload(&mut witgate, &config(round), round as u64 + 1);
            eventually("requests between two reloads", || {
                (served.load(Ordering::Relaxed) >= before + 20).then_some(())
            });
        }
        drop(stop_when_done);
    });
    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.status);
}

/// So that the clients end when an assertion fails, and with them the test.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_hundred_reloads_leave_one_generation_and_what_it_needs() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = |round: u64| {
        config::through(&["token", "mine"], upstream.address())
            + &format!("idle-connections = {}\n", 8 + round % 2)
            + &format!(
                "[plugin.mine]\ncomponent = 'mine.wasm'\n\
                 [plugin.token]\ncomponent = 'builtin:bearer-auth'\n\
                 config.tokens = [{{ name = 'ada', value = 'token-of-round-{round:04}' }}]\n"
            )
    };
    // A new component each time, of which the code cache has both.
    let component = |round: u64| {
        let name = ["connection-close", "cdp-urls"][usize::from(round.is_multiple_of(2))];
        let builtin = witgate_builtin::find(name).expect("it is built in");
        builtin.component
    };
    let setup = Setup::new().file("mine.wasm", component(1));
    let mut witgate = setup.start(&config(1));
    let address = witgate.address("main");
    let process = witgate.process().id();
    let mut idle = witgate.connect("main");
    idle.send(GET);
    idle.read_response();
    assert_eq!(status_with(address, "token-of-round-0001"), 200);
    let mut next = |round| {
        replace(witgate.setup().path(), "mine.wasm", component(round));
        let line = reload(&mut witgate, &config(round), round);
        let older = line.field("older_generations").and_then(|n| n.as_u64());
        assert_eq!(older, Some(0), "{line:?}");
        let changes = line.text("changes").unwrap_or_default();
        assert!(changes.contains("plugin changed: token, mine"), "{changes}");
        if round % 10 == 0 {
            assert_eq!(
                status_with(address, &format!("token-of-round-{round:04}")),
                200
            );
        }
    };
    for round in 2..=22 {
        next(round);
    }
    let before = Held::by(process);
    for round in 23..=102 {
        next(round);
    }

    let after = Held::by(process);
    // Compiled components, instances and configurations of eighty generations would be several times as much.
    let grown = after.memory.saturating_sub(before.memory);
    assert!(grown < 32 << 20, "{before:?} became {after:?}");
    // An instance reserves gigabytes of address space for its memory, so instances can be counted by it.
    let grown = after.reserved.saturating_sub(before.reserved);
    assert!(grown < 20 << 30, "{before:?} became {after:?}");
    // Idle threads for blocking calls and the test's own connections come and go.
    assert!(
        after.threads < before.threads + 20,
        "{before:?} became {after:?}"
    );
    assert!(
        after.files < before.files + 20,
        "{before:?} became {after:?}"
    );
    eventually("connections of former generations to be closed", || {
        (upstream.open() <= 1).then_some(())
    });
}

/// What a process has of the machine.
#[derive(Debug)]
struct Held {
    /// Bytes in use.
    memory: u64,
    /// Bytes of address space, used or not.
    reserved: u64,
    threads: u64,
    files: usize,
}

impl Held {
    fn by(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let number = |key: &str| -> u64 {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let value = value.expect("Linux says so").trim();
            let digits = value.strip_suffix(" kB").unwrap_or(value);
            digits.parse().expect("a number")
        };
        Self {
            memory: number("VmRSS") * 1024,
            reserved: number("VmSize") * 1024,
            threads: number("Threads"),
            files: fs::read_dir(format!("/proc/{process}/fd"))
                .expect("it runs")
                .count(),
        }
    }
}

#[test]
fn what_is_unchanged_keeps_its_connections_and_is_not_said_to_have_changed() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::through(&["close"], upstream.address())
        + "[plugin.close]\ncomponent = 'builtin:connection-close'\n";
    let mut witgate = Witgate::start(&config);
    assert_eq!(witgate.get("main", "/").status(), 200);

    let line = reload(&mut witgate, &format!("# a comment\n\n{config}"), 2);

    assert_eq!(witgate.get("main", "/").status(), 200);
    assert_eq!(upstream.accepted(), 1);
    assert_eq!(line.text("changes"), Some("none"));
}

#[test]
fn a_limit_on_connections_is_raised_and_lowered_for_those_that_are_open() {
    let limited = |connections: u32| {
        saying("hi").replace(
            "bind = '127.0.0.1:0'",
            &format!("bind = '127.0.0.1:0'\nlimits.connections = {connections}"),
        )
    };
    let mut witgate = Witgate::start(&limited(1).replace("workers = 2", "workers = 1"));
    let mut first = witgate.connect("main");
    assert_eq!(body(&mut first), "hi");
    let mut second = witgate.connect("main");
    second.send(GET);

    reload(
        &mut witgate,
        &limited(2).replace("workers = 2", "workers = 1"),
        2,
    );
    assert_eq!(second.read_response().text(), "hi");

    reload(
        &mut witgate,
        &limited(1).replace("workers = 2", "workers = 1"),
        3,
    );
    let mut third = witgate.connect("main");
    third.send(GET);
    assert_eq!(
        (body(&mut first), body(&mut second)),
        ("hi".into(), "hi".into())
    );
    drop((first, second));
    assert_eq!(third.read_response().text(), "hi");
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_takes_effect() {
    let mut witgate = Witgate::start(&saying("one"));

    reload(
        &mut witgate,
        &saying("two").replace("workers = 2", "workers = 3"),
        2,
    );

    let line = witgate.log_line("what waits", |line| {
        line.message().contains("waits for a restart")
    });
    assert_eq!(
        (line.level(), line.text("what")),
        ("WARN", Some("server.workers"))
    );
    assert_eq!(witgate.get("main", "/").text(), "two");
}

#[test]
fn with_watch_an_edit_is_enough_and_a_half_written_one_is_tried_again() {
    let setup = Setup::new().env("WITGATE_WATCH", "true");
    let witgate = setup.start(&saying("one"));
    let directory = witgate.setup().path();

    replace(directory, "witgate.toml", &saying("two")[..60]);
    refused(&witgate, 1);
    assert_eq!(witgate.get("main", "/").text(), "one");

    replace(directory, "witgate.toml", saying("two"));
    reloaded(&witgate, 2);
    assert_eq!(witgate.get("main", "/").text(), "two");
}

#[test]
fn with_watch_a_new_build_of_a_component_is_taken_up_and_half_of_one_is_not() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let component = |name| {
        witgate_builtin::find(name)
            .expect("it is built in")
            .component
    };
    let config =
        config::through(&["mine"], upstream.address()) + "[plugin.mine]\ncomponent = 'mine.wasm'\n";
    let witgate = Setup::new()
        .env("WITGATE_WATCH", "true")
        .file("mine.wasm", component("connection-close"))
        .start(&config);
    let closes = || {
        witgate
            .get("main", "/")
            .head
            .has_token("connection", "close")
    };
    assert!(closes());
    let directory = witgate.setup().path();

    let next = component("cdp-urls");
    replace(directory, "mine.wasm", &next[..next.len() / 2]);
    refused(&witgate, 1);
    assert!(closes());

    replace(directory, "mine.wasm", next);
    let line = reloaded(&witgate, 2);
    assert!(!closes());
    assert_eq!(line.text("changes"), Some("plugin changed: mine"));
}

#[test]
fn chromium_goes_on_through_a_reload() {
    let port = port::unused();
    let config = format!(
        "[[listener]]\nname = 'cdp'\nbind = '127.0.0.1:0'\n[[route]]\nlistener = 'cdp'\nplugins = ['token', 'host']\n\
         upstream = 'chromium'\n[upstream.chromium]\nendpoints = ['http://127.0.0.1:{port}']\n\
         [plugin.host]\ncomponent = 'builtin:host-rewrite'\nconfig.host = 'localhost'\n\
         [chrome]\nprofile = 'profile'\nport = {port}\nsandbox = false\n{TOKENS}"
    );
    let setup = Setup::new().file("secrets/token", OLD);
    let witgate = setup.start(&config);
    let address = witgate.address("cdp");
    let version = |token: &str| {
        let request = format!(
            "GET /json/version HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let answer = exchange(address, request);
        (answer.status() == 200).then(|| answer.text().to_owned())
    };
    let before = witgate_tests::wait::within(3 * PATIENCE, || version(OLD))
        .expect("Chromium answers through the proxy");

    replace(&witgate.setup().path().join("secrets"), "token", NEW);
    reloaded(&witgate, 2);

    // The browser's id in the answer is a new one with each start.
    assert_eq!(version(NEW), Some(before));
}
