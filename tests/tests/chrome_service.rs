//! Promise: `examples/chrome-service` gives real clients on other machines one persistent Chromium, and takes its
//! signed-in state to browsers of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use witgate_tests::http::{exchange, get};
use witgate_tests::process::Process;
use witgate_tests::site::{SIGNED_IN, Site};
use witgate_tests::wait::within;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Witgate, chromium, clients, port};

const TOKEN: &str = "9f2c41d07be85a36";

/// Chromium's own intervals for writing to disk are up to 30 s.
const ON_DISK: Duration = Duration::from_secs(120);

/// How long a start or an end of Chromium, a harvest, or a client's way in may take on a busy machine.
const BROWSER: Duration = Duration::from_secs(120);

/// Waits for what Chromium has a part in.
#[track_caller]
fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(BROWSER, condition).unwrap_or_else(|| panic!("waited {BROWSER:?} in vain for {what}"))
}

/// The example, on ports that are free.
struct Service {
    witgate: Witgate,
    profile: PathBuf,
    /// As a user on another machine writes it.
    cdp_url: String,
}

impl Service {
    fn start() -> Self {
        Self::start_with(&config("0 0 1 1 *"))
    }

    fn start_with(config: &str) -> Self {
        let setup = directory();
        let profile = setup.path().join("profile");
        let witgate = setup.start(config);
        let cdp_url = format!(
            "http://{}:{}",
            clients::host_name(),
            witgate.address("cdp").port()
        );
        let service = Self {
            witgate,
            profile,
            cdp_url,
        };
        service.wait_until_ready();
        service
    }

    fn wait_until_ready(&self) {
        let ready = within(BROWSER, || {
            (self.witgate.get("cdp", "/json/version").status() == 200).then_some(())
        });
        assert!(
            ready.is_some(),
            "Chromium does not answer through the proxy"
        );
    }

    fn sign_in_with(&self, client: fn(&str, &[&str]) -> Value, script: &str, site: &str) {
        check(&client(script, &[&self.cdp_url, "sign-in", site]));
    }

    fn look_with(&self, client: fn(&str, &[&str]) -> Value, script: &str, site: &str) {
        check(&client(script, &[&self.cdp_url, "look", site]));
    }

    fn snapshot_file(&self) -> PathBuf {
        self.witgate
            .setup()
            .path()
            .join("snapshots/storage-state.json")
    }

    /// Harvests until the snapshot holds the localStorage of this origin, which Chromium writes to disk after 5 s.
    fn harvest_until_it_holds(&self, origin: &str) -> Value {
        let held = within(ON_DISK, || {
            let ended = self
                .witgate
                .setup()
                .run_to_end(&["harvest", "--config", "witgate.toml"]);
            assert!(ended.status.success(), "{}", ended.output());
            let state: Value =
                serde_json::from_slice(&fs::read(self.snapshot_file()).ok()?).expect("valid JSON");
            let held = state["origins"]
                .as_array()?
                .iter()
                .any(|entry| entry["origin"] == origin);
            held.then_some(state)
        });
        held.unwrap_or_else(|| panic!("no harvest holds the localStorage of {origin}"))
    }
}

/// What the example expects around it. The sandbox cannot be had where tests run as root.
fn directory() -> Setup {
    let setup = Setup::new().file("snapshots/keep", "");
    setup
        .env("WITGATE_SNAPSHOT_TOKEN", TOKEN)
        .env("WITGATE_CHROMIUM_SANDBOX", "false")
}

fn config(schedule: &str) -> String {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chrome-service/witgate.toml");
    let example = fs::read_to_string(example).expect("the example is there");
    let port = port::unused();
    let replaced = [
        ("0.0.0.0:9222", "0.0.0.0:0".to_owned()),
        ("0.0.0.0:8088", "0.0.0.0:0".to_owned()),
        ("127.0.0.1:9901", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:6667", format!("127.0.0.1:{port}")),
        ("port = 6667 ", format!("port = {port} ")),
        ("0 * * * *", schedule.to_owned()),
    ];
    replaced.iter().fold(example, |text, (from, to)| {
        assert!(text.contains(from), "the example no longer says {from:?}");
        text.replace(from, to)
    })
}

/// What every client prints after it signed in, or found itself signed in.
#[track_caller]
fn check(seen: &Value) {
    assert_eq!(seen["who"], SIGNED_IN, "{seen}");
    assert_eq!(seen["theme"], "dark", "{seen}");
    assert_eq!(seen["contexts"], 1, "{seen}");
}

#[test]
fn real_clients_by_any_name_share_one_browser() {
    let site = Site::start();
    let service = Service::start();

    service.sign_in_with(clients::node, "playwright_connect.mjs", &site.origin("a"));
    service.sign_in_with(clients::python, "playwright_connect.py", &site.origin("b"));
    service.sign_in_with(clients::node, "puppeteer_connect.mjs", &site.origin("c"));

    // One of them takes it for its own and closes it when it is done.
    let browser = chromium::browser_process(&service.profile);
    let closed = clients::node("puppeteer_close.mjs", &[&service.cdp_url]);
    assert_eq!(closed["connected"], false, "{closed}");
    let logged = |line: &LogLine| line.message().starts_with("pretended Browser.close, id ");
    service.witgate.log_line("what was not carried out", logged);

    service.look_with(clients::python, "playwright_connect.py", &site.origin("a"));
    service.look_with(clients::node, "puppeteer_connect.mjs", &site.origin("b"));
    service.look_with(clients::node, "playwright_connect.mjs", &site.origin("c"));
    assert_eq!(chromium::browser_process(&service.profile), browser);
}

#[test]
fn the_state_survives_the_death_of_chromium() {
    let site = Site::start();
    let service = Service::start();
    service.sign_in_with(
        clients::node,
        "playwright_connect.mjs",
        &site.origin("shop"),
    );
    let on_disk = within(ON_DISK, || {
        let cookies = holds(&service.profile.join("Default/Cookies"), b"shop.localhost");
        let storage = fs::read_dir(service.profile.join("Default/Local Storage/leveldb")).ok()?;
        let storage = storage
            .filter_map(Result::ok)
            .any(|file| holds(&file.path(), b"shop.localhost"));
        (cookies && storage).then_some(())
    });
    assert!(on_disk.is_some(), "Chromium wrote no state to disk");

    let killed = chromium::kill(&service.profile);
    let again = within(BROWSER, || {
        chromium::browser_process(&service.profile).filter(|&browser| browser != killed)
    });
    assert!(again.is_some(), "Chromium was not started again");
    service.wait_until_ready();

    service.look_with(
        clients::python,
        "playwright_connect.py",
        &site.origin("shop"),
    );
}

fn holds(file: &Path, wanted: &[u8]) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.windows(wanted.len()).any(|window| window == wanted))
}

#[test]
fn the_state_goes_from_the_shared_browser_to_an_isolated_one() {
    let site = Site::start();
    let service = Service::start();
    let origin = site.origin("shop");
    service.sign_in_with(clients::node, "playwright_connect.mjs", &origin);
    let snapshots = service.witgate.address("snapshots");

    let state = service.harvest_until_it_holds(&origin);
    let cookies = state["cookies"].as_array().expect("a list");
    assert!(
        cookies
            .iter()
            .any(|cookie| cookie["domain"] == "shop.localhost" && cookie["httpOnly"] == true),
        "{state}"
    );

    let health = service.witgate.get("snapshots", "/healthz?verbose");
    let status: Value = serde_json::from_slice(&health.body).expect("valid JSON");
    assert_eq!(health.status(), 200, "{status}");
    assert_eq!(status["last_success"]["cookies"], cookies.len(), "{status}");
    assert_eq!(status["last_attempt"]["error"], Value::Null, "{status}");
    assert!(health.header("age").is_some(), "{health:?}");

    let without = exchange(snapshots, "GET /api/snapshot HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (without.status(), without.text()),
        (401, r#"{"error":"invalid bearer"}"#)
    );
    let request =
        format!("GET /api/snapshot HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let with = exchange(snapshots, request);
    assert_eq!(with.status(), 200);
    assert_eq!(
        serde_json::from_slice::<Value>(&with.body).expect("valid JSON"),
        state
    );

    let box_setup = Setup::new().env("TOKEN", TOKEN);
    let url = format!(
        "http://{}:{}/api/snapshot",
        clients::host_name(),
        snapshots.port()
    );
    let pulled = box_setup.run_to_end(&[
        "snapshot",
        "pull",
        "--url",
        &url,
        "--file",
        "state.json",
        "--token-env",
        "TOKEN",
    ]);
    assert!(pulled.status.success(), "{}", pulled.output());

    let file = box_setup.path().join("state.json");
    let (file, browser) = (file.to_string_lossy(), chromium::binary());
    let arguments = [
        &*file,
        &format!("{origin}/home"),
        &browser.to_string_lossy(),
    ];
    let seen = clients::node("mcp_storage_state.mjs", &arguments);
    let page = seen["snapshot"].as_str().expect("text");
    assert!(page.contains(SIGNED_IN) && page.contains("dark"), "{page}");
}

/// The command with a limit of 64 KiB on every file that it writes, as if the disk were full then.
fn on_a_full_disk(command: &Command) -> Command {
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    limited
}

#[test]
fn a_disk_that_fills_up_during_a_harvest_costs_neither_the_last_snapshot_nor_the_next() {
    let site = Site::start();
    // Nobody else harvests meanwhile.
    let config = config("0 0 1 1 *");
    let at_start = "on-start = true";
    assert!(
        config.contains(at_start),
        "the example no longer says {at_start:?}"
    );
    let service = Service::start_with(&config.replace(at_start, "on-start = false"));
    let setup = service.witgate.setup();
    let harvest = ["harvest", "--config", "witgate.toml"];
    let ended = setup.run_to_end(&harvest);
    assert!(ended.status.success(), "{}", ended.output());
    let last = fs::read(service.snapshot_file()).expect("the snapshot is there");
    let temporary = || {
        let directory = fs::read_dir(setup.path().join("snapshots")).expect("the directory");
        let names = directory.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .count()
    };
    let before = temporary();

    let origin = site.origin("app");
    let stored = clients::node("playwright_store.mjs", &[&service.cdp_url, &origin, "200"]);
    assert_eq!(stored["stored"], 200 * 1024);
    let limited = on_a_full_disk(&setup.command(&harvest));
    let ended = Process::start("witgate harvest", limited).wait(ON_DISK);
    assert!(!ended.status.success(), "{}", ended.output());
    let output = ended.output();
    assert!(
        output.contains("storage-state.json") && output.contains("File too large"),
        "{output}"
    );
    assert!(last == fs::read(service.snapshot_file()).expect("the snapshot is there"));
    assert_eq!(temporary(), before, "nothing half-written stays");

    let state = service.harvest_until_it_holds(&origin);
    let app = state["origins"].as_array().expect("a list").iter();
    let mut app = app.filter(|entry| entry["origin"] == origin);
    let records = &app.next().expect("it is held")["indexedDB"][0]["stores"][0]["records"];
    assert_eq!(records[0]["key"], "page", "{records:.200}");
}

#[test]
fn a_client_that_is_killed_while_it_is_attached_freezes_nobody() {
    let site = Site::start();
    let service = Service::start();
    for _ in 0..2 {
        let attached = clients::start_node("playwright_hold.mjs", &[&service.cdp_url]);
        attached
            .find_line(BROWSER, |line| (line == "attached").then_some(()))
            .expect("it attaches");
        attached.kill();
    }

    service.sign_in_with(
        clients::node,
        "playwright_connect.mjs",
        &site.origin("shop"),
    );
}

#[test]
fn readiness_and_metrics_tell_of_chromium_and_its_snapshot() {
    let service = Service::start();
    let line = service
        .witgate
        .log_line_within(BROWSER, "the admin listener", |line| {
            line.message() == "admin listening"
        });
    let admin = line.text("address").expect("the line has it");
    let admin = admin.parse().expect("an address");
    eventually("witgate to be ready", || {
        (get(admin, "/ready").status() == 200).then_some(())
    });
    let series = |name: &str| {
        let metrics = get(admin, "/metrics");
        let mut lines = metrics.text().lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse::<f64>().expect("a number"))
    };
    assert_eq!(series("witgate_chrome_up"), Some(1.0));
    // A start may take longer than it may on a busy machine, and the next one is a restart.
    let restarts = series("witgate_chrome_restarts_total").expect("they are counted");
    let harvested = eventually("the first harvest", || {
        series("witgate_snapshot_last_success_timestamp_seconds")
    });
    assert!(harvested > 1.7e9, "{harvested} is long ago");
    assert_eq!(series("witgate_snapshot_failures_in_a_row"), Some(0.0));

    chromium::kill(&service.profile);

    eventually("it to be not ready, with the reason", || {
        let ready = get(admin, "/ready");
        (ready.status() == 503 && ready.text().contains("chromium")).then_some(())
    });
    eventually("the restart to be counted", || {
        // One start may fail on a busy machine.
        (series("witgate_chrome_restarts_total") > Some(restarts)).then_some(())
    });
}

#[test]
fn a_client_that_is_stopped_while_it_is_attached_is_cut_off_and_freezes_nobody() {
    let site = Site::start();
    let watched = "ping-interval = \"10s\", ping-timeout = \"10s\"";
    // Still long enough for a client that is well on a machine that is not.
    let sooner = "ping-interval = \"500ms\", ping-timeout = \"20s\"";
    let config = config("0 0 1 1 *");
    assert!(
        config.contains(watched),
        "the example no longer says {watched:?}"
    );
    let service = Service::start_with(&config.replace(watched, sooner));
    let attached = clients::start_node("playwright_hold.mjs", &[&service.cdp_url]);
    attached
        .find_line(BROWSER, |line| (line == "attached").then_some(()))
        .expect("it attaches");

    attached.signal_group(Signal::STOP);

    let cut = service
        .witgate
        .log_line_within(BROWSER, "the stopped client's end", |line| {
            line.message() == "exchange" && line.text("fault") == Some("client")
        });
    assert!(
        cut.text("reason")
            .is_some_and(|reason| reason.contains("ping-timeout")),
        "{cut:?}"
    );
    // Opens tabs of its own, which would wait for every client that is attached.
    service.sign_in_with(
        clients::node,
        "playwright_connect.mjs",
        &site.origin("shop"),
    );
    attached.kill();
}

#[test]
fn a_stop_leaves_no_process_behind_and_a_profile_that_starts_again() {
    let service = Service::start();
    assert!(!chromium::processes(&service.profile).is_empty());

    let ended = service.witgate.stop_within(BROWSER);

    assert!(ended.status.success(), "{}", ended.output());
    assert_eq!(chromium::processes(&service.profile), []);
}

#[test]
fn chromium_that_ends_at_once_is_tried_again_while_the_rest_serves() {
    let crashing = "#!/bin/sh\necho 'no usable GPU' >&2\nexit 21\n";
    let setup = directory().file("chromium", crashing);
    make_executable(&setup.path().join("chromium"));
    let witgate = setup
        .start(&config("0 0 1 1 *").replace("[chrome]\n", "[chrome]\nbinary = \"chromium\"\n"));

    let failed = witgate.log_line_within(BROWSER, "Chromium's end", |line| {
        matches!(line.level(), "WARN" | "ERROR") && format!("{line:?}").contains("21")
    });
    assert!(
        format!("{failed:?}").to_lowercase().contains("chrom"),
        "{failed:?}"
    );
    eventually("a second attempt", || {
        let failures = witgate
            .log()
            .into_iter()
            .filter(|line| line.message() == failed.message());
        (failures.count() >= 2).then_some(())
    });

    assert_eq!(witgate.get("snapshots", "/healthz").text(), "ok\n");
    assert_eq!(witgate.get("cdp", "/json/version").status(), 502);
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

#[test]
fn a_missing_chromium_is_said_at_the_start_with_line_and_remedy() {
    let setup = directory();
    let config =
        config("0 0 1 1 *").replace("[chrome]\n", "[chrome]\nbinary = \"/nowhere/chromium\"\n");

    let output = setup.run_and_fail(&config).output();

    let line = 1 + config
        .lines()
        .position(|line| line.starts_with("binary"))
        .expect("the line is there");
    assert!(output.contains(&format!("witgate.toml:{line}")), "{output}");
    assert!(output.contains("/nowhere/chromium"), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn a_snapshot_directory_that_cannot_be_written_is_said_at_the_start() {
    // A file stands where a directory should be: that stops root as well.
    let setup = directory().file("blocked", "");
    let config =
        config("0 0 1 1 *").replace("file = \"snapshots/storage", "file = \"blocked/storage");

    let output = setup.run_and_fail(&config).output();

    assert!(output.contains("blocked"), "{output}");
    let line = 1 + config
        .lines()
        .position(|line| line.contains("blocked/storage"))
        .expect("the line is there");
    assert!(output.contains(&format!("witgate.toml:{line}")), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}
