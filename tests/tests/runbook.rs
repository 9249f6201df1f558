//! Promise: the commands of docs/chrome-runbook.md do what the page says. A block that begins with "```sh,run" is run
//! from the page, in the order of the page, against the configuration of the container; "```sh,run-stopped" is run when
//! the service has stopped.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use witgate_tests::http::{self, Message};
use witgate_tests::process::Process;
use witgate_tests::wait::within;
use witgate_tests::witgate::{self, LogLine, Setup};
use witgate_tests::{Witgate, deployment, port};

/// A start of Chromium, a harvest, or the time until a changed file is noticed.
const BOUND: Duration = Duration::from_secs(120);

const TOKEN: &str = "a-token-of-some-length";

struct Service {
    witgate: Witgate,
    admin: u16,
}

impl Service {
    /// The container's configuration with directories and ports of the test's.
    fn start() -> Self {
        let admin = port::unused();
        let chromium = port::unused();
        let setup = ["cdp-token", "snapshot-token", "metrics-token"]
            .iter()
            .fold(
                Setup::new().file("state/snapshots/keep", ""),
                |setup, name| setup.file(&format!("secrets/{name}"), TOKEN),
            );
        let moved = [
            ("0.0.0.0:9222", "127.0.0.1:0".to_owned()),
            ("0.0.0.0:8088", "127.0.0.1:0".to_owned()),
            ("0.0.0.0:9901", format!("127.0.0.1:{admin}")),
            ("127.0.0.1:6667", format!("127.0.0.1:{chromium}")),
            ("port = 6667", format!("port = {chromium}")),
            ("/run/secrets/witgate/", "secrets/".to_owned()),
            (
                "--disk-cache-dir=/var/cache/witgate/",
                format!("--disk-cache-dir={}/cache/", setup.path().display()),
            ),
            ("/var/cache/witgate/", "cache/".to_owned()),
            ("/var/lib/witgate/", "state/".to_owned()),
        ];
        let config = moved.iter().fold(
            deployment::file("container/witgate.toml"),
            |text, (from, to)| {
                assert!(
                    text.contains(from),
                    "the configuration no longer says {from:?}"
                );
                text.replace(from, to)
            },
        );
        let witgate = setup.start(&config);
        Self { witgate, admin }
    }

    fn wait_until_ready(&self) {
        let port = format!(":{}", self.admin);
        self.witgate
            .log_line_within(BOUND, "the admin listener", |line| {
                line.text("address").is_some_and(|at| at.ends_with(&port))
            });
        let ready = within(BOUND, || {
            let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin));
            (http::get(admin, "/ready").status() == 200).then_some(())
        });
        assert!(ready.is_some(), "it is not ready");
    }

    /// The first harvest is taken when Chromium is ready.
    fn wait_for_the_first_snapshot(&self) {
        self.witgate
            .log_line_within(BOUND, "the first harvest", |line: &LogLine| {
                line.message().starts_with("harvested")
            });
    }

    fn version_with(&self, token: &str) -> Message {
        let mut connection = self.witgate.connect("cdp");
        connection.send(format!(
            "GET /json/version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ));
        connection.read_response()
    }
}

/// The blocks of the page whose fence has this word.
fn blocks(word: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/chrome-runbook.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let fence = format!("\n```{word}\n");
    let blocks = page.split(&fence).skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned())
        .collect()
}

/// Runs a block with the variables that the page's table names.
#[track_caller]
fn run(block: &str, directory: &Path, variables: &[(&str, String)]) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", block])
        .current_dir(directory);
    let programs = witgate::binary();
    let programs = programs
        .parent()
        .expect("a program is in a directory")
        .display();
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{programs}:{path}"))
        .env("no_proxy", "*");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let ended = Process::start("the block", command).wait(BOUND);
    assert!(ended.status.success(), "{block}\n\n{}", ended.output());
    ended.output()
}

#[test]
fn the_commands_of_the_runbook_work_from_the_first_look_to_a_restore() {
    let service = Service::start();
    service.wait_until_ready();
    service.wait_for_the_first_snapshot();
    let directory = service.witgate.setup().path().to_owned();
    let url = |listener: &str| format!("http://{}", service.witgate.address(listener));
    let at = |name: &str| directory.join(name).display().to_string();
    let variables = [
        ("CDP", url("cdp")),
        ("SNAPSHOTS", url("snapshots")),
        ("ADMIN", format!("http://127.0.0.1:{}", service.admin)),
        ("CONFIG", at("witgate.toml")),
        ("SECRETS", at("secrets")),
        ("STATE", at("state")),
        ("BACKUPS", at("backups")),
    ];

    let (running, stopped) = (blocks("sh,run"), blocks("sh,run-stopped"));
    assert!(
        running.len() >= 8 && stopped.len() == 1,
        "blocks are missing"
    );
    let mut printed = String::new();
    for block in &running {
        printed.push_str(&run(block, &directory, &variables));
    }

    assert!(printed.contains("webSocketDebuggerUrl"), "{printed}");
    assert!(printed.contains("witgate_chrome_up"), "{printed}");
    assert!(!printed.contains(TOKEN), "a command shows a token");
    // The page's rotation: the new token opens, the old one no longer does, and nobody restarted anything.
    let token = fs::read_to_string(directory.join("secrets/cdp-token")).expect("the file is there");
    let rotated = within(BOUND, || {
        (service.version_with(token.trim()).status() == 200).then_some(())
    });
    assert!(rotated.is_some(), "the new token is not taken");
    // Each worker takes it by itself, and too many refusals are another one.
    let refused = within(BOUND, || {
        matches!(service.version_with(TOKEN).status(), 401 | 429).then_some(())
    });
    assert!(refused.is_some(), "the old token still opens");

    let profile = directory.join("state/profile");
    // Only `setup` keeps the directory, so it has to outlive the process.
    let Service { mut witgate, .. } = service;
    witgate.process().signal(rustix::process::Signal::TERM);
    let ended = within(BOUND, || witgate.process().ended());
    assert!(ended.expect("it stops").success());
    fs::write(profile.join("Local State"), "damaged").expect("the profile is ours");
    run(&stopped[0], &directory, &variables);
    let restored = fs::read_to_string(profile.join("Local State")).expect("it is restored");
    assert!(restored.starts_with('{'), "{restored}");
}
