//! What the system lets this process have.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use witgate_proxy::config::CodeCache as Setting;
use witgate_runtime::CodeCache;

use super::Findings;
use crate::load::{self, Loaded};
use crate::open_files;

/// Connections that wait to be accepted: what the listeners ask for.
const BACKLOG: u64 = 4096;

/// Each connection to an upstream address takes a port of this machine, and keeps it for a minute after its end.
const FEW_PORTS: u64 = 10_000;

const MIB: u64 = 1 << 20;

/// Without a browser, some plugins and a thousand connections fit.
const LITTLE_MEMORY: u64 = 128 * MIB;

/// A browser with a few tabs.
const LITTLE_MEMORY_FOR_CHROMIUM: u64 = 1024 * MIB;

/// Compiled components take a few megabytes each.
const LITTLE_SPACE: u64 = 64 * MIB;

pub(super) fn look(loaded: Option<&Loaded>, findings: &mut Findings) {
    open_files_of(loaded, findings);
    backlog(findings);
    ephemeral_ports(findings);
    memory(
        loaded.is_some_and(|loaded| loaded.chrome.is_some()),
        findings,
    );
    clock(loaded, findings);
    code_cache(loaded, findings);
}

/// A number that the kernel shows.
pub(super) fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn open_files_of(loaded: Option<&Loaded>, findings: &mut Findings) {
    const ABOUT: &str = "open files";
    let needed = loaded.map_or(1024, |loaded| open_files::needed(&loaded.config));
    let most = getrlimit(Resource::Nofile).maximum;
    match most {
        Some(most) if most < needed => findings.doubtful(
            ABOUT,
            format!("at most {most} may be open, and {needed} are needed when all connections that are let in are there"),
            "raise the hard limit (`ulimit -Hn`, `LimitNOFILE=` in a unit), or lower `limits.connections`",
        ),
        Some(most) => findings.good(ABOUT, format!("{most} may be open, {needed} are enough")),
        None => findings.good(ABOUT, "no limit"),
    }
}

fn backlog(findings: &mut Findings) {
    const ABOUT: &str = "accept queue";
    match number("/proc/sys/net/core/somaxconn") {
        Some(most) if most < BACKLOG => findings.doubtful(
            ABOUT,
            format!("net.core.somaxconn is {most}: in a burst, connections beyond it are dropped"),
            format!("sysctl -w net.core.somaxconn={BACKLOG}"),
        ),
        Some(most) => findings.good(ABOUT, format!("net.core.somaxconn is {most}")),
        None => {}
    }
}

/// The ports that the kernel gives to connections that leave this machine.
pub(super) fn port_range() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn ephemeral_ports(findings: &mut Findings) {
    const ABOUT: &str = "outgoing ports";
    let Some((from, to)) = port_range() else {
        return;
    };
    let ports = u64::from(to.saturating_sub(from)) + 1;
    let message = format!("{ports} for connections to one upstream address ({from} to {to})");
    match ports < FEW_PORTS {
        true => findings.doubtful(
            ABOUT,
            message,
            "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"",
        ),
        false => findings.good(ABOUT, message),
    }
}

fn memory(has_chromium: bool, findings: &mut Findings) {
    const ABOUT: &str = "memory";
    let little = match has_chromium {
        true => LITTLE_MEMORY_FOR_CHROMIUM,
        false => LITTLE_MEMORY,
    };
    let Some(available) = available_memory() else {
        return;
    };
    let message = format!("{} MiB are to be had", available / MIB);
    match available < little {
        true => findings.doubtful(
            ABOUT,
            format!("{message}, and {} MiB are not much", little / MIB),
            "give the machine or the container more, or lower `limits.memory` and `limits.concurrency` of plugins",
        ),
        false => findings.good(ABOUT, message),
    }
}

/// Of the machine, or of the container (cgroup v2) if that is less.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().trim_end_matches("kB").trim();
    let available = available.parse::<u64>().ok()? * 1024;
    let most = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    let here = most.map(|most| most.saturating_sub(used));
    Some(here.map_or(available, |here| here.min(available)))
}

/// A clock that is behind files that were written before: certificates and tokens would be judged wrongly.
fn clock(loaded: Option<&Loaded>, findings: &mut Findings) {
    const ABOUT: &str = "clock";
    /// Another machine may have written them.
    const DRIFT: std::time::Duration = std::time::Duration::from_secs(120);
    let configuration = loaded.map(|loaded| PathBuf::from(&loaded.file));
    let files = configuration.into_iter().chain(env::current_exe().ok());
    let now = SystemTime::now();
    let later = files.into_iter().find(|file| {
        let written = fs::metadata(file).and_then(|found| found.modified());
        written.is_ok_and(|written| written > now + DRIFT)
    });
    match later {
        Some(file) => findings.wrong(
            ABOUT,
            format!(
                "it is behind: {} was written later than now",
                file.display()
            ),
            "set it, and let NTP keep it: certificates, tokens and schedules go by it",
        ),
        None => findings.good(ABOUT, "later than all that was written"),
    }
}

fn code_cache(loaded: Option<&Loaded>, findings: &mut Findings) {
    const ABOUT: &str = "code cache";
    let setting = loaded.map_or(&Setting::Default, |loaded| &loaded.config.server.code_cache);
    let Some(directory) = load::cache_directory(setting) else {
        let because = match setting {
            Setting::Off => "`code-cache` is false",
            _ => "neither XDG_CACHE_HOME nor HOME is set",
        };
        return findings.doubtful(
            ABOUT,
            format!("there is none ({because}): components are compiled at every start"),
            "set `[server] code-cache` to a directory",
        );
    };
    let shown = directory.display();
    if !directory.exists() {
        // Not here: one that belongs to another user than witgate's would not be trusted.
        return findings.good(ABOUT, format!("{shown} is made at the first start"));
    }
    let usable = CodeCache::open(&directory).map_err(|error| error.to_string());
    let usable = usable.and_then(|_| can_be_written(&directory));
    if let Err(error) = usable {
        return findings.doubtful(
            ABOUT,
            format!("{shown} cannot be used: {error}; components are compiled at every start"),
            "let this user own it, or set `[server] code-cache` to another directory",
        );
    }
    let free = statvfs(&directory).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match free {
        Ok(free) if free < LITTLE_SPACE => findings.doubtful(
            ABOUT,
            format!("only {} MiB are free at {shown}", free / MIB),
            "make room, or set `[server] code-cache` to another disk",
        ),
        _ => findings.good(ABOUT, format!("{shown}")),
    }
}

fn can_be_written(directory: &Path) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new_in(directory);
    file.map(drop).map_err(|error| error.to_string())
}

/// What plugins can be written with here: nothing that a server needs.
pub(super) fn toolchains(findings: &mut Findings) {
    let found = |program: &str| {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    let rust = match (found("cargo"), has_target()) {
        (true, true) => "Rust",
        (true, false) => "Rust without its target (`rustup target add wasm32-unknown-unknown`)",
        (false, _) => "no Rust",
    };
    let say = |has: bool, yes: &'static str, no: &'static str| if has { yes } else { no };
    let node = say(found("node"), "Node.js", "no Node.js");
    let python = say(found("python3"), "Python", "no Python");
    let message = format!("{rust}, {node}, {python}: only who writes plugins needs them");
    findings.good("toolchains", message);
}

fn has_target() -> bool {
    let asked = Command::new("rustc")
        .args([
            "--print",
            "target-libdir",
            "--target",
            "wasm32-unknown-unknown",
        ])
        // Nothing is to be fetched.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|told| {
        let directory = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        told.status.success() && Path::new(&directory).is_dir()
    })
}
