//! Promise: the units under `examples/chrome-service/systemd` are whole and hardened, and their very command lines serve
//! a snapshot, pull it, and start an isolated browser that is signed in.

use std::collections::HashMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use witgate_tests::process::Process;
use witgate_tests::site::{SIGNED_IN, Site};
use witgate_tests::wait::within;
use witgate_tests::witgate::{Setup, binary};
use witgate_tests::{chromium, clients, port};

const TOKEN: &str = "9f2c41d07be85a36";

/// A start, a reload, or a pull, where a debug build compiles plugins on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chrome-service/systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(units().join(name)).expect("the unit is there")
}

/// All units as they would be installed for the user `ada`, with programs that are there.
fn installed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for entry in fs::read_dir(units()).expect("the units are there") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("a name in ASCII");
        let text = unit(name)
            .replace("/usr/local/bin/witgate", "/bin/true")
            .replace("/usr/local/bin/playwright-mcp", "/bin/true");
        for name in [name.to_owned(), name.replace('@', "@ada")] {
            fs::write(directory.path().join(name), &text).expect("a written unit");
        }
    }
    directory
}

fn systemd_analyze(arguments: &[&str], directory: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("systemd-analyze is installed: run `scripts/setup.sh test` first");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn systemd_finds_nothing_to_say_against_the_units() {
    let directory = installed();
    for unit in [
        "witgate.service",
        "witgate-snapshot-pull@ada.service",
        "witgate-snapshot-pull@ada.timer",
        "playwright-mcp@ada.service",
    ] {
        let file = format!("./{unit}");
        let (well, said) = systemd_analyze(&["verify", "--man=no", &file], directory.path());
        // It speaks of other units of the machine, too; and an unknown key is no failure to it.
        let of_ours = directory.path().to_string_lossy().into_owned();
        let of_ours: Vec<_> = said
            .lines()
            .filter(|line| line.contains(&of_ours) || line.contains("witgate"))
            .collect();
        assert!(well && of_ours.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn the_services_are_hardened_as_far_as_what_they_run_allows() {
    let directory = installed();
    // Out of 100, the less the better. Chromium makes namespaces of its own for its sandbox.
    for (unit, threshold) in [
        ("witgate.service", "45"),
        ("witgate-snapshot-pull@ada.service", "15"),
        ("playwright-mcp@ada.service", "45"),
    ] {
        let file = format!("./{unit}");
        let threshold = format!("--threshold={threshold}");
        let arguments = [
            "security",
            "--offline=true",
            "--no-pager",
            &threshold,
            &file,
        ];
        let (well, said) = systemd_analyze(&arguments, directory.path());
        assert!(well, "{unit}: {said}");
    }
}

#[test]
fn the_units_of_a_plain_service_are_whole_and_hardened() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd");
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["witgate.service", "witgate.socket"] {
        let text = fs::read_to_string(from.join(name)).expect("the unit is there");
        let text = text.replace("/usr/local/bin/witgate", "/bin/true");
        fs::write(directory.path().join(name), text).expect("it can be written");
        let file = format!("./{name}");
        let (well, said) = systemd_analyze(&["verify", "--man=no", &file], directory.path());
        let of_ours = said.lines().any(|line| line.contains("witgate"));
        assert!(well && !of_ours, "{name}: {said}");
    }
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold=18"];
    let arguments = [&arguments[..], &["./witgate.service"]].concat();
    let (well, said) = systemd_analyze(&arguments, directory.path());
    assert!(well, "{said}");
    let setup = Setup::new().file(
        "witgate.toml",
        fs::read_to_string(from.join("witgate.toml"))
            .expect("it is there")
            .replace("code-cache = \"/var/cache/witgate/code\"\n", ""),
    );
    let checked = setup.run_to_end(&["check", "witgate.toml"]);
    assert!(checked.status.success(), "{}", checked.output());
}

/// The words of a unit's `ExecStart` or the like, with its specifiers and variables replaced.
fn command_line(name: &str, key: &str, replaced: &HashMap<&str, String>) -> Vec<String> {
    let text = unit(name);
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let line = lines.next().expect("a command line");
    assert_eq!(lines.next(), None, "{name} has several");
    let words = line.split(' ').flat_map(|word| {
        // As systemd has it: `$NAME` alone is split into words.
        match word.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(_) => replaced[word]
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            None => vec![word.to_owned()],
        }
    });
    let words: Vec<_> = words
        .map(|word| {
            replaced
                .iter()
                .fold(word, |word, (from, to)| word.replace(from, to))
        })
        .collect();
    assert!(
        !words.iter().any(|word| word.contains(['%', '$'])),
        "something is not replaced: {words:?}"
    );
    words
}

fn run(words: &[String], setup: &Setup) -> Command {
    assert_eq!(words[0], binary().to_string_lossy());
    let arguments: Vec<_> = words[1..].iter().map(String::as_str).collect();
    setup.command(&arguments)
}

/// The configuration that the unit comes with, in another directory and on other ports (as its own stand in it: CDP,
/// snapshots, admin, Chromium), and with a snapshot that stays what it is.
fn configuration(directory: &Path, [cdp, snapshots, admin, chromium]: [u16; 4]) -> String {
    let directory = directory.display();
    let moved = [
        ("0.0.0.0:9222", format!("127.0.0.1:{cdp}")),
        ("0.0.0.0:8088", format!("127.0.0.1:{snapshots}")),
        ("127.0.0.1:9901", format!("127.0.0.1:{admin}")),
        ("127.0.0.1:6667", format!("127.0.0.1:{chromium}")),
        ("port = 6667", format!("port = {chromium}")),
        ("/etc/witgate/", format!("{directory}/etc/")),
        ("/var/lib/witgate/", format!("{directory}/state/witgate/")),
        // All tests share a cache of compiled plugins.
        ("code-cache = \"/var/cache/witgate/code\"\n", String::new()),
        ("/var/cache/witgate/", format!("{directory}/cache/")),
        ("\"0 * * * *\"", "\"never\"".to_owned()),
        ("on-start = true", "on-start = false".to_owned()),
    ];
    moved.iter().fold(unit("witgate.toml"), |text, (from, to)| {
        assert!(text.contains(from), "it no longer says {from:?}");
        text.replace(from, to)
    })
}

/// As `systemctl reload` does.
fn reload(witgate: &Process) {
    let replaced = HashMap::from([("$MAINPID", witgate.id().to_string())]);
    let words = command_line("witgate.service", "ExecReload", &replaced);
    let told = Command::new(&words[0]).args(&words[1..]).status();
    assert!(told.expect("the program is there").success(), "{words:?}");
    let reloaded = witgate.find_line(BOUND, |line| line.contains(" reloaded ").then_some(()));
    assert!(reloaded.is_some(), "it does not reload");
}

#[test]
fn the_command_lines_serve_a_snapshot_pull_it_and_start_a_browser_from_it() {
    let site = Site::start();
    let origin = site.origin("shop");
    let state = json!({
        "cookies": [{
            "name": "session", "value": "5f0c2b", "domain": "shop.localhost", "path": "/",
            "expires": -1, "httpOnly": true, "secure": false, "sameSite": "Lax",
        }],
        "origins": [{ "origin": origin, "localStorage": [{ "name": "theme", "value": "dark" }] }],
    });
    let ports @ [_, served, _, _] = [(); 4].map(|()| port::unused());
    let mcp = port::unused();
    let setup = Setup::new()
        .file("etc/cdp-token", TOKEN)
        .file("etc/snapshot-token", TOKEN)
        .file("etc/token", TOKEN)
        .file(
            "state/witgate/snapshots/storage-state.json",
            state.to_string(),
        )
        .file("state/witgate-snapshot/ada/keep", "")
        // The tests may run as root, as whom Chromium has no sandbox.
        .env("WITGATE_CHROMIUM_SANDBOX", "false")
        .env(
            "WITGATE_SNAPSHOT_URL",
            format!("http://127.0.0.1:{served}/api/snapshot"),
        );
    let config = configuration(setup.path(), ports);
    let setup = setup.file("etc/witgate.toml", config);
    let checked = setup.run_to_end(&["check", "etc/witgate.toml"]);
    assert!(checked.status.success(), "{}", checked.output());
    let directory = setup.path().to_string_lossy().into_owned();
    let package =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node_modules/@playwright/mcp/cli.js");
    let replaced = HashMap::from([
        (
            "/usr/local/bin/witgate",
            binary().to_string_lossy().into_owned(),
        ),
        (
            "/usr/local/bin/playwright-mcp",
            package.to_string_lossy().into_owned(),
        ),
        (
            "/usr/bin/chromium",
            chromium::binary().to_string_lossy().into_owned(),
        ),
        ("/etc/witgate", format!("{directory}/etc")),
        ("%S", format!("{directory}/state")),
        ("%d", format!("{directory}/etc")),
        ("%i", "ada".to_owned()),
        ("${PLAYWRIGHT_MCP_PORT}", mcp.to_string()),
        ("$PLAYWRIGHT_MCP_OPTIONS", "--no-sandbox".to_owned()),
    ]);

    let words = command_line("witgate.service", "ExecStart", &replaced);
    let witgate = Process::start("witgate.service", run(&words, &setup));
    await_listener(served, &witgate);
    reload(&witgate);

    let words = command_line("witgate-snapshot-pull@.service", "ExecStart", &replaced);
    let pull = Process::start("witgate-snapshot-pull@ada", run(&words, &setup));
    let pulled = pull.wait(BOUND);
    assert!(pulled.status.success(), "{}", pulled.output());
    let file = setup.path().join("state/witgate-snapshot/ada/state.json");
    assert_eq!(
        fs::read_to_string(&file).expect("the file"),
        state.to_string()
    );

    let words = command_line("playwright-mcp@.service", "ExecStart", &replaced);
    let arguments: Vec<_> = words[1..].iter().map(String::as_str).collect();
    let service = ControlGroup(clients::start_node_package(
        Path::new(&words[0]),
        &arguments,
        setup.path(),
    ));
    await_listener(mcp, &service.0);
    let arguments = [
        &*format!("http://localhost:{mcp}/mcp"),
        &format!("{origin}/home"),
    ];
    let seen = clients::node("mcp_service.mjs", &arguments);
    let page = seen["snapshot"].as_str().expect("text");
    assert!(page.contains(SIGNED_IN) && page.contains("dark"), "{page}");

    drop(service);
    let ended = within(BOUND, || {
        let connected = TcpStream::connect(("127.0.0.1", mcp));
        connected.is_err().then_some(())
    });
    assert!(ended.is_some(), "the service does not end");
}

/// Ends as systemd ends a service: every process of it is told, not only the first.
struct ControlGroup(Process);

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.0.signal_group(Signal::TERM);
    }
}

#[track_caller]
fn await_listener(port: u16, process: &Process) {
    let listening = within(BOUND, || TcpStream::connect(("127.0.0.1", port)).ok());
    assert!(listening.is_some(), "nobody listens: {:?}", process.lines());
}
