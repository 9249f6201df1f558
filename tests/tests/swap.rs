//! Promise: a component is the file that its operator means, and a new build of a watched one takes the place of the old
//! without a failed exchange, or changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{env, fs, thread};

use rustix::process::Signal;
use witgate_build::Build;
use witgate_tests::http::Connection;
use witgate_tests::upstream::response;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate, config, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The SHA-256 of nothing.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn builtin(name: &str) -> &'static [u8] {
    let builtin = witgate_builtin::find(name).expect("it is built in");
    builtin.component
}

/// A component that imports `http-client`.
fn fetching() -> Vec<u8> {
    let test = env::current_exe().expect("a test knows its own file");
    let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/fetching-guest");
    let built = Build::new(guest, target.join("plugins")).package("fetching-guest");
    let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
    components.remove(0).bytes
}

/// Replaces a file in one step, as build tools do.
fn replace(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    let new = directory.join(format!("{name}.new"));
    fs::write(&new, content).expect("the test's directory can be written");
    fs::rename(new, directory.join(name)).expect("a file can be renamed beside itself");
}

#[track_caller]
fn swapped(witgate: &Witgate, number: u64) -> LogLine {
    witgate.log_line(&format!("generation {number}"), |line| {
        let generation = line.field("generation").and_then(|n| n.as_u64());
        line.message() == "plugin swapped" && generation == Some(number)
    })
}

#[track_caller]
fn refused(witgate: &Witgate, what: &str) -> LogLine {
    let start = format!("{what} failed, nothing has changed");
    witgate.log_line(&start, |line| line.message().starts_with(&start))
}

fn closes(witgate: &Witgate) -> bool {
    let answer = witgate.get("main", "/");
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    answer.head.has_token("connection", "close")
}

const WATCHED: &str = "[plugin.mine]\ncomponent = 'mine.wasm'\nwatch = true\n";

#[test]
fn a_new_build_of_a_watched_component_takes_its_place_and_nothing_else_changes() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let config = config::through(&["mine", "other"], upstream.address())
        + WATCHED
        + "[plugin.other]\ncomponent = 'other.wasm'\n";
    let witgate = Setup::new()
        .file("mine.wasm", builtin("cdp-urls"))
        .file("other.wasm", builtin("connection-close"))
        .start(&config);
    assert!(closes(&witgate));
    let directory = witgate.setup().path();

    // Neither of these is watched, so neither counts.
    replace(directory, "other.wasm", builtin("cdp-urls"));
    replace(directory, "witgate.toml", "[[listener]");
    replace(directory, "mine.wasm", builtin("connection-close"));
    let line = swapped(&witgate, 2);

    assert!(closes(&witgate));
    assert_eq!(line.text("changes"), Some("plugin changed: mine"));
    let cause = line.text("cause").unwrap_or_default();
    assert!(cause.ends_with("mine.wasm changed"), "{cause}");
    assert_eq!(upstream.accepted(), 1, "the upstream's connection is kept");
    replace(directory, "mine.wasm", builtin("cdp-urls"));
    swapped(&witgate, 3);
    assert!(closes(&witgate), "the other plugin is as it was");
}

#[test]
fn a_broken_build_is_reported_and_the_old_component_goes_on() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = Setup::new()
        .file("mine.wasm", builtin("connection-close"))
        .start(&(config::through(&["mine"], upstream.address()) + WATCHED));
    let directory = witgate.setup().path();

    let next = builtin("cdp-urls");
    replace(directory, "mine.wasm", &next[..next.len() / 2]);
    let line = refused(&witgate, "plugin swap");
    assert_eq!(line.level(), "WARN");
    let report = line.message();
    for part in [
        "damaged or uses WebAssembly features",
        "witgate.toml:19:13",
        "the component that runs stays as it is",
    ] {
        assert!(report.contains(part), "{part:?} is not in {report}");
    }
    assert!(closes(&witgate));

    replace(directory, "mine.wasm", next);
    swapped(&witgate, 2);
    assert!(!closes(&witgate));
}

/// Answers `/` at once, `/json/version` in two pieces, the second when it is told to, and upgrades `/ws`.
fn origin(go_on: mpsc::Receiver<()>) -> Upstream {
    let go_on = Mutex::new(go_on);
    Upstream::start(move |peer| {
        while let Some(request) = peer.next_request() {
            if request.header("upgrade").is_some() {
                peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
                while let Ok(byte) = peer.try_read_exact(1) {
                    if peer.try_send(byte.to_ascii_uppercase()).is_err() {
                        break;
                    }
                }
                return;
            }
            if request.head.start_line.contains("/json/version") {
                let body = "{\"webSocketDebuggerUrl\":\"ws://127.0.0.1:9223/devtools/browser/b\"}";
                let (first, last) = body.split_at(20);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json";
                let length = body.len();
                peer.send(format!("{head}\r\nContent-Length: {length}\r\n\r\n{first}"));
                let go_on = go_on.lock().expect("nobody panics holding it");
                // For as long as three swaps take; an error is the end of the test.
                go_on.recv().expect("the test lets it go on");
                peer.send(last);
                continue;
            }
            peer.send(response("200 OK", &[], "hello"));
        }
    })
}

#[test]
fn what_is_under_way_ends_on_the_old_component_and_no_exchange_fails() {
    let (go_on, may_go_on) = mpsc::channel();
    let upstream = origin(may_go_on);
    let config = config::through(&["mine"], upstream.address());
    let witgate = Setup::new()
        .file("mine.wasm", builtin("cdp-urls"))
        .start(&(config.replace("workers = 1", "workers = 2") + WATCHED));
    let address = witgate.address("main");
    let mut tunnel = witgate.connect("main");
    tunnel.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    assert_eq!(tunnel.read_head().status(), 101);
    let mut half = witgate.connect("main");
    half.send("GET /json/version HTTP/1.1\r\nHost: devbox:9222\r\n\r\n");
    eventually("the body to be under way", || {
        (upstream.received().len() >= 2).then_some(())
    });

    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let stop_when_done = StopOnDrop(&stop);
        for _ in 0..2 {
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
        let directory = witgate.setup().path();
        for (round, component) in [
            (2, "connection-close"),
            (3, "cdp-urls"),
            (4, "connection-close"),
        ] {
            replace(directory, "mine.wasm", builtin(component));
            swapped(&witgate, round);
            let before = served.load(Ordering::Relaxed);
            eventually("requests after a swap", || {
                (served.load(Ordering::Relaxed) >= before + 20).then_some(())
            });
            // Each time, because the upstream's patience with a silent tunnel ends.
            tunnel.send("still here");
            assert_eq!(tunnel.read_exact(10), b"STILL HERE");
        }
        drop(stop_when_done);
    });
    go_on.send(()).expect("the script waits");
    let answer = half.read_response();
    let rewritten = "ws://devbox:9222/devtools/browser/b";
    assert!(answer.text().contains(rewritten), "{}", answer.text());
    drop(tunnel);
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
fn a_component_that_imports_more_than_the_one_before_it_says_so() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let witgate = Setup::new()
        .file("mine.wasm", builtin("connection-close"))
        .start(&(config::through(&["mine"], upstream.address()) + WATCHED));

    replace(witgate.setup().path(), "mine.wasm", fetching());
    let line = witgate.log_line("a warning", |line| {
        line.message().starts_with("the new component has warnings")
    });

    swapped(&witgate, 2);
    assert_eq!(line.level(), "WARN");
    let report = line.message();
    for part in [
        "wants more than the one before it",
        "`witgate:plugin/http-client@0.1.0` (not granted: `grant.http-client`)",
        "witgate.toml:19:13",
    ] {
        assert!(report.contains(part), "{part:?} is not in {report}");
    }
}

/// What `witgate check` says the digest is.
fn found_digest(report: &str) -> String {
    let (_, rest) = report.split_once("sha256 = \"").expect("it is named");
    let (_, found) = rest
        .rsplit_once("sha256 = \"")
        .expect("after the line itself");
    found.chars().take_while(char::is_ascii_hexdigit).collect()
}

#[test]
fn a_pinned_component_is_that_file_or_none() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "hello"));
    let pinned = |digest: &str| {
        config::through(&["mine"], upstream.address())
            + &format!(
                "[plugin.mine]\ncomponent = {{ path = 'mine.wasm', sha256 = \"{digest}\" }}\n"
            )
    };
    let setup = || Setup::new().file("mine.wasm", builtin("connection-close"));
    let report = setup().run_and_fail(&pinned(OF_NOTHING)).output();
    let message = "the component's file is not the one that is pinned here";
    assert!(report.contains(message), "{report}");
    assert!(report.contains("witgate.toml:19:44"), "{report}");
    let digest = found_digest(&report);
    assert_eq!(digest.len(), 64, "{report}");

    let mut witgate = setup().start(&pinned(&digest.to_uppercase()));
    assert!(closes(&witgate));
    let directory = witgate.setup().path().to_owned();
    replace(&directory, "mine.wasm", builtin("cdp-urls"));
    witgate.process().signal(Signal::HUP);
    let line = refused(&witgate, "reload");
    assert!(line.message().contains(message), "{line:?}");
    assert!(closes(&witgate));

    let digest = found_digest(line.message());
    replace(&directory, "witgate.toml", pinned(&digest));
    witgate.process().signal(Signal::HUP);
    witgate.log_line("the reload", |line| line.message() == "reloaded");
    assert!(!closes(&witgate));
}

#[test]
fn check_puts_what_a_component_imports_beside_what_it_is_granted() {
    let config = "[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n\
        [[route]]\nplugins = ['asks', 'close']\nreply = {}\n\
        [plugin.asks]\ncomponent = 'fetching.wasm'\n\
        [plugin.asks.grant]\nhttp-client.origins = []\n\
        [plugin.close]\ncomponent = 'builtin:connection-close'\n\
        [plugin.close.grant]\nhttp-client.origins = []\nwasi.env = { A = 'b' }\n";
    let setup = Setup::new()
        .file("fetching.wasm", fetching())
        .file("witgate.toml", config);
    let ended = setup.run_to_end(&["check", "witgate.toml"]);
    let output = ended.output();
    assert!(ended.status.success(), "{output}");
    for part in [
        "plugin asks (fetching.wasm): request-hook",
        "witgate:plugin/http-client@0.1.0  grant.http-client      granted",
        "plugin close (builtin:connection-close): response-hook",
        "without a grant: witgate:plugin (",
        "the component imports nothing that `grant.http-client` is for",
        "the component imports nothing that `grant.wasi.env` is for",
        "witgate.toml:14:1",
        "witgate.toml:15:6",
    ] {
        assert!(output.contains(part), "{part:?} is not in {output}");
    }
}
