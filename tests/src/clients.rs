//! Clients that know nothing of witgate, run as a user runs them. `scripts/setup.sh test` installs them.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;

/// A client's own time limits are shorter, so that it can say what it waited for.
const BOUND: Duration = Duration::from_secs(240);

/// Runs `tests/clients/SCRIPT.mjs` with Node and gives the JSON object it prints.
///
/// # Panics
///
/// When it fails, takes longer than a minute, or is not installed.
#[must_use]
#[track_caller]
pub fn node(script: &str, arguments: &[&str]) -> Value {
    run("node", script, arguments)
}

/// Runs `tests/clients/SCRIPT.py` with Python and gives the JSON object it prints.
///
/// # Panics
///
/// When it fails, takes longer than a minute, or is not installed.
#[must_use]
#[track_caller]
pub fn python(script: &str, arguments: &[&str]) -> Value {
    run("python", script, arguments)
}

/// A program that `tests/checkers/requirements.txt` installs.
#[must_use]
pub fn checker(program: &str) -> Command {
    let bin = "checkers/.venv/bin";
    Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(bin)
            .join(program),
    )
}

/// A name of this machine that is neither an address nor below `localhost`, so that Chromium itself would refuse it.
///
/// # Panics
///
/// When the host name does not resolve to an address of this machine.
#[must_use]
#[track_caller]
pub fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let own = (name.as_str(), 0)
        .to_socket_addrs()
        .is_ok_and(|mut addresses| {
            // Only an address of this machine can be bound.
            addresses
                .any(|address| address.is_ipv4() && std::net::TcpListener::bind(address).is_ok())
        });
    assert!(
        own,
        "the host name {name:?} does not resolve to this machine: add it to /etc/hosts"
    );
    name
}

/// Starts `tests/clients/SCRIPT.mjs` with Node and leaves it running.
///
/// # Panics
///
/// When it is not installed.
#[must_use]
#[track_caller]
pub fn start_node(script: &str, arguments: &[&str]) -> Process {
    Process::start(script, command("node", script, arguments))
}

/// Starts a script of an installed package with Node, as its command does, and leaves it running in `directory`.
///
/// # Panics
///
/// When it is not installed.
#[must_use]
#[track_caller]
pub fn start_node_package(script: &Path, arguments: &[&str], directory: &Path) -> Process {
    assert!(
        script.exists(),
        "{} is not installed: run `scripts/setup.sh test` first",
        script.display()
    );
    let mut command = command("node", script, arguments);
    command.current_dir(directory);
    Process::start(&script.to_string_lossy(), command)
}

/// As [`node`], with a client that trusts this certificate, in PEM, beside those that it trusts anyhow.
///
/// # Panics
///
/// When it fails, takes longer than a minute, or is not installed.
#[must_use]
#[track_caller]
pub fn node_trusting(certificate: &Path, script: &str, arguments: &[&str]) -> Value {
    let mut command = command("node", script, arguments);
    command.env("NODE_EXTRA_CA_CERTS", certificate);
    finish(command, script, arguments)
}

/// Where the clients and their packages are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A command that runs the clients' `node` or `python`, without the proxies of the environment.
///
/// # Panics
///
/// When it is not installed.
#[must_use]
#[track_caller]
pub fn interpreter(name: &str) -> Command {
    let interpreter = directory().join(".venv/bin").join(name);
    assert!(
        interpreter.exists(),
        "the clients are not installed: run `scripts/setup.sh test` first"
    );
    let mut command = Command::new(interpreter);
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
}

#[track_caller]
fn run(interpreter: &str, script: &str, arguments: &[&str]) -> Value {
    finish(command(interpreter, script, arguments), script, arguments)
}

#[track_caller]
fn finish(mut command: Command, script: &str, arguments: &[&str]) -> Value {
    // Some clients leave files where they run.
    let scratch = tempfile::TempDir::new().expect("the temporary directory can be written");
    command.current_dir(scratch.path());
    let ended = Process::start(script, command).wait(BOUND);
    assert!(
        ended.status.success(),
        "{script} {arguments:?} failed:\n{}",
        ended.output()
    );
    let last = ended.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("{script} printed no JSON:\n{}", ended.output()))
}

#[track_caller]
fn command(name: &str, script: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = interpreter(name);
    command.arg(directory().join(script)).args(arguments);
    command
}
