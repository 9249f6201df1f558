//! Promise: the image of `examples/chrome-service`, run as compose.yaml and the manifests run it (read-only, another user
//! than root, no capability, no new privileges, a process 1 of its own), has what it needs and leaves nothing behind.
//!
//! There is no container engine here. bubblewrap makes the same confinement from this machine's files, and the image's
//! instructions say what is run in it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use witgate_tests::deployment::{self, list};
use witgate_tests::http::{self, Message};
use witgate_tests::process::{Ended, Process};
use witgate_tests::wait::within;
use witgate_tests::{port, witgate};

/// On a busy machine a debug build compiles the plugins for a while before it listens.
const START: Duration = Duration::from_secs(120);

/// How long a start of Chromium, its end, or a harvest may take.
const BROWSER: Duration = Duration::from_secs(120);

const TOKENS: [&str; 3] = ["cdp-token", "snapshot-token", "metrics-token"];

/// The ports of the image, on ones of this machine that are free.
#[derive(Clone, Copy)]
struct Ports {
    cdp: u16,
    snapshots: u16,
    admin: u16,
    chromium: u16,
}

struct Container {
    process: Process,
    ports: Ports,
    directory: TempDir,
}

impl Container {
    /// Starts what the image starts.
    fn run() -> Self {
        let command = [
            deployment::image_list("ENTRYPOINT"),
            deployment::image_list("CMD"),
        ]
        .concat();
        let ports = Ports {
            cdp: port::unused(),
            snapshots: port::unused(),
            admin: port::unused(),
            chromium: port::unused(),
        };
        let directory = volumes(ports);
        let mut bubblewrap = confinement(directory.path());
        bubblewrap.arg("--").args(command);
        let process = Process::start("the container", bubblewrap);
        Self {
            process,
            ports,
            directory,
        }
    }

    fn get(&self, port: u16, path: &str, token: &str) -> Message {
        let mut connection = http::Connection::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let credentials = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {}\r\n", secret(token)),
        };
        connection.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{credentials}Connection: close\r\n\r\n"
        ));
        connection.read_response()
    }

    fn wait_until_ready(&self) {
        let listening = self.process.find_line(START, |line| {
            line.contains(&format!(":{}", self.ports.admin))
                .then_some(())
        });
        assert!(listening.is_some(), "nothing listens");
        let ready = within(BROWSER, || {
            (self.get(self.ports.admin, "/ready", "").status() == 200).then_some(())
        });
        assert!(ready.is_some(), "it is not ready");
    }

    /// Every process in it, bubblewrap's own aside.
    fn processes(&self) -> Vec<Running> {
        let all = all_processes();
        let mut inside = vec![self.process.id()];
        loop {
            let more: Vec<_> = all
                .iter()
                .filter(|process| inside.contains(&process.parent) && !inside.contains(&process.id))
                .map(|process| process.id)
                .collect();
            if more.is_empty() {
                break;
            }
            inside.extend(more);
        }
        let ours = all
            .into_iter()
            .filter(|process| inside.contains(&process.id));
        ours.filter(|process| process.name != "bwrap").collect()
    }

    /// The browser's main process: the one whose parent is witgate, and that is no crash handler.
    fn browser(&self) -> Option<u32> {
        let processes = self.processes();
        let witgate = processes
            .iter()
            .find(|process| process.name == "witgate")?
            .id;
        let mut children = processes.iter().filter(|process| process.parent == witgate);
        let browser =
            children.find(|process| process.name == "chromium" && process.state != 'Z')?;
        Some(browser.id)
    }

    /// As `docker stop` does: SIGTERM to process 1.
    fn stop(self) -> Ended {
        let processes = self.processes();
        let first = processes.iter().find(|process| process.name == "tini");
        signal(first.expect("process 1 runs").id, Signal::TERM);
        self.process.wait(BROWSER)
    }
}

struct Running {
    id: u32,
    parent: u32,
    name: String,
    state: char,
}

/// What /proc says of every process of the machine.
fn all_processes() -> Vec<Running> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc");
    let processes = entries.filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // A process may end at any moment.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut rest = rest.split(' ');
        Some(Running {
            id,
            state: rest.next()?.chars().next()?,
            parent: rest.next()?.parse().ok()?,
            name: name.to_owned(),
        })
    });
    processes.collect()
}

fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.cast_signed()).expect("a process id is positive");
    kill_process(id, signal).expect("our own process can be signalled");
}

fn secret(token: &str) -> String {
    format!("{token}-of-some-length")
}

/// What compose.yaml and the manifests mount: state, configuration, tokens.
fn volumes(ports: Ports) -> TempDir {
    let directory =
        TempDir::with_prefix("witgate-test-").expect("the temporary directory can be written");
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("state/snapshots")).expect("our own directory");
    fs::create_dir_all(at("secrets")).expect("our own directory");
    for token in TOKENS {
        fs::write(at("secrets").join(token), secret(token)).expect("our own directory");
    }
    let config = deployment::file("container/witgate.toml");
    let moved = [
        ("0.0.0.0:9222", format!("127.0.0.1:{}", ports.cdp)),
        ("0.0.0.0:8088", format!("127.0.0.1:{}", ports.snapshots)),
        ("0.0.0.0:9901", format!("127.0.0.1:{}", ports.admin)),
        ("127.0.0.1:6667", format!("127.0.0.1:{}", ports.chromium)),
        ("port = 6667", format!("port = {}", ports.chromium)),
    ];
    let config = moved.iter().fold(config, |text, (from, to)| {
        assert!(
            text.contains(from),
            "the configuration no longer says {from:?}"
        );
        text.replace(from, to)
    });
    fs::write(at("witgate.toml"), config).expect("our own directory");
    directory
}

/// The confinement of compose.yaml and the manifests. This machine's programs and libraries stand for the image's.
fn confinement(volumes: &Path) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-user", "--uid", "10001", "--gid", "10001"]);
    command.args([
        "--unshare-pid",
        "--as-pid-1",
        "--unshare-ipc",
        "--die-with-parent",
    ]);
    command.args([
        "--ro-bind",
        "/usr",
        "/usr",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]);
    for link in ["bin", "lib", "lib64", "sbin"] {
        command.args(["--symlink", &format!("usr/{link}"), &format!("/{link}")]);
    }
    for parent in [
        "/etc",
        "/etc/witgate",
        "/run/secrets",
        "/var/lib",
        "/var/cache",
    ] {
        command.args(["--perms", "0755", "--dir", parent]);
    }
    for file in [
        "alternatives",
        "chromium",
        "chromium.d",
        "fonts",
        "hosts",
        "ld.so.cache",
        "nsswitch.conf",
        "ssl",
    ] {
        let file = format!("/etc/{file}");
        command.args(["--ro-bind-try", &file, &file]);
    }
    let service = deployment::compose()["services"]["chrome"].clone();
    for tmpfs in service["tmpfs"].as_array().into_iter().flatten() {
        let (path, options) = tmpfs
            .as_str()
            .and_then(|tmpfs| tmpfs.split_once(':'))
            .expect("a path and options");
        let mode = options
            .split(',')
            .find_map(|option| option.strip_prefix("mode="))
            .expect("a mode");
        command.args(["--perms", mode, "--tmpfs", path]);
    }
    let mut bind = |option: &str, from: PathBuf, to: &str| {
        command.arg(option).arg(from).arg(to);
    };
    bind("--bind", volumes.join("state"), "/var/lib/witgate");
    bind(
        "--ro-bind",
        volumes.join("witgate.toml"),
        "/etc/witgate/witgate.toml",
    );
    bind("--ro-bind", volumes.join("secrets"), "/run/secrets/witgate");
    bind("--ro-bind", witgate::binary(), "/opt/bin/witgate");
    command.args(["--remount-ro", "/", "--chdir", "/", "--clearenv"]);
    command.args(["--setenv", "PATH", "/opt/bin:/usr/local/bin:/usr/bin:/bin"]);
    let environment = deployment::image()
        .into_iter()
        .filter(|(name, _)| name == "ENV");
    for (_, assignment) in environment {
        let (name, value) = assignment.split_once('=').expect("ENV NAME=VALUE");
        command.args(["--setenv", name, value]);
    }
    command
}

#[test]
fn the_confined_image_serves_restarts_its_browser_and_leaves_nothing_behind() {
    let container = Container::run();
    container.wait_until_ready();
    let Ports {
        cdp,
        snapshots,
        admin,
        ..
    } = container.ports;

    // Nobody comes in without the right token.
    assert_eq!(container.get(cdp, "/json/version", "").status(), 401);
    assert_eq!(
        container
            .get(cdp, "/json/version", "snapshot-token")
            .status(),
        401
    );
    assert_eq!(
        container.get(cdp, "/json/version", "cdp-token").status(),
        200
    );
    assert_eq!(
        container
            .get(snapshots, "/api/snapshot", "cdp-token")
            .status(),
        401
    );
    assert_eq!(container.get(admin, "/metrics", "").status(), 401);
    assert_eq!(
        container.get(admin, "/metrics", "metrics-token").status(),
        200
    );
    let harvested = within(BROWSER, || {
        let answer = container.get(snapshots, "/api/snapshot", "snapshot-token");
        (answer.status() == 200)
            .then(|| serde_json::from_slice::<Value>(&answer.body).expect("JSON"))
    });
    assert!(harvested.expect("a snapshot is taken at the start")["cookies"].is_array());

    let health = deployment::image_list("HEALTHCHECK")
        .join(" ")
        .replace("9901", &admin.to_string());
    // As the engine does, which asks again when an answer takes too long.
    let healthy = within(BROWSER, || {
        let asked = Command::new("sh")
            .args(["-c", &health])
            .env("no_proxy", "*")
            .output();
        let asked = asked.expect("there is a shell");
        asked.status.success().then_some(())
    });
    assert!(healthy.is_some(), "{health}");

    // Crash handlers are orphaned by a browser that dies, and somebody has to bury them.
    let first = container.browser().expect("a browser runs");
    signal(first, Signal::KILL);
    let second = within(BROWSER, || {
        container.browser().filter(|browser| *browser != first)
    });
    assert!(second.is_some(), "no browser comes back");
    let buried = within(BROWSER, || {
        container
            .processes()
            .iter()
            .all(|process| process.state != 'Z')
            .then_some(())
    });
    assert!(buried.is_some(), "dead processes stay");

    // Its caches are not in the volume; its profile is.
    let state = container.directory.path().join("state");
    assert!(state.join("profile/Default").is_dir());
    assert!(!state.join("profile/Default/Cache").exists());

    let log = container.process.lines().join("\n");
    assert!(!log.contains("no code cache"), "{log}");
    let ended = container.stop();
    assert!(ended.status.success(), "{}", ended.output());
}

#[test]
fn the_compose_services_are_confined() {
    let compose = deployment::compose();
    let services = compose["services"].as_object().expect("a table");

    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(
            service["security_opt"],
            json!(["no-new-privileges:true"]),
            "{name}"
        );
        assert!(
            !service["mem_limit"].is_null() && !service["pids_limit"].is_null(),
            "{name}"
        );
        assert_eq!(service["image"], "witgate-chrome:0.1.0", "{name}");
        assert!(
            service["privileged"].is_null() && service["user"].is_null(),
            "{name}"
        );
    }
    let chrome = &services["chrome"];
    for port in list(&chrome["ports"]) {
        // This machine alone, unless somebody says otherwise; and never the admin port.
        let port = port.as_str().expect("text");
        assert!(
            port.starts_with("127.0.0.1:") && !port.contains("9901"),
            "{port}"
        );
    }
    let check = &chrome["healthcheck"]["test"];
    let image = deployment::image_list("HEALTHCHECK");
    assert_eq!(
        &list(check)[1..],
        image.iter().map(|part| json!(part)).collect::<Vec<_>>()
    );
    for (name, secret) in compose["secrets"].as_object().expect("a table") {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
    }
}

#[test]
fn compose_passes_on_every_variable_that_the_configuration_reads() {
    let config = deployment::file("container/witgate.toml");
    let compose = deployment::compose();
    let passed = &compose["services"]["chrome"]["environment"];

    let read: Vec<_> = config
        .split("${env:")
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .collect();

    assert!(read.len() >= 3, "{read:?}");
    for variable in read {
        let (name, default) = variable.split_once(":-").expect("every one has a default");
        assert_eq!(passed[name], default, "{name}");
    }
}

#[test]
fn the_image_runs_as_a_user_without_privileges() {
    let image = deployment::image();
    let said = |wanted: &str| -> Vec<&str> {
        let found = image.iter().filter(|(name, _)| name == wanted);
        found.map(|(_, rest)| rest.as_str()).collect()
    };

    assert_eq!(said("USER"), ["10001:10001"]);
    assert_eq!(deployment::image_list("VOLUME"), ["/var/lib/witgate"]);
    assert_eq!(deployment::image_list("ENTRYPOINT")[0], "tini");
    let copied: Vec<_> = said("COPY")
        .iter()
        .filter_map(|copy| copy.split(' ').next())
        .collect();
    assert_eq!(
        copied,
        [
            "--from=build",
            "examples/chrome-service/container/witgate.toml"
        ]
    );
    let ignored = deployment::file("Containerfile.dockerignore");
    for secret in [
        "examples/*/profile",
        "examples/*/snapshots",
        "examples/*/secrets",
        "examples/**/*-token",
    ] {
        assert!(
            ignored.lines().any(|line| line == secret),
            "{secret} could get into the build"
        );
    }
    for from in deployment::file("Containerfile")
        .lines()
        .filter(|line| line.starts_with("FROM"))
    {
        assert!(from.contains(':') && !from.contains(":latest"), "{from}");
    }
}
