//! The real Chromium, from the outside: where it is, which of its processes run, and its sudden death.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Where Chromium is installed.
///
/// # Panics
///
/// When it is not.
#[must_use]
#[track_caller]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).flat_map(|directory| {
        [
            "chromium",
            "chromium-browser",
            "google-chrome-stable",
            "google-chrome",
        ]
        .map(|name| directory.join(name))
    });
    let found = candidates.find(|candidate| candidate.is_file());
    found.expect("Chromium is not installed: run `scripts/setup.sh test` first")
}

/// The ids of all processes whose command line names this profile directory.
///
/// Only the browser process and the few helpers that are given the profile name it; see
/// [`browser_process`] for the one that owns it.
#[must_use]
pub fn processes(profile: &Path) -> Vec<Pid> {
    let profile = profile.to_string_lossy();
    command_lines()
        .filter(|(_, line)| line.contains(&*profile))
        .map(|(pid, _)| pid)
        .collect()
}

/// The browser process that owns this profile directory: the one that is no helper (`--type=…`).
#[must_use]
pub fn browser_process(profile: &Path) -> Option<Pid> {
    let profile = format!("--user-data-dir={}", profile.display());
    let mut browsers =
        command_lines().filter(|(_, line)| line.split('\0').any(|argument| argument == profile));
    browsers
        .find(|(_, line)| !line.contains("\0--type="))
        .map(|(pid, _)| pid)
}

/// Kills the browser process that owns this profile directory as the kernel would for lack of memory, and gives its id.
///
/// # Panics
///
/// When there is none.
#[track_caller]
pub fn kill(profile: &Path) -> Pid {
    let browser = browser_process(profile).expect("a browser with this profile runs");
    kill_process(browser, Signal::KILL).expect("our own browser can be killed");
    browser
}

fn command_lines() -> impl Iterator<Item = (Pid, String)> {
    let processes = fs::read_dir("/proc").expect("Linux has /proc");
    processes.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        // A process may end at any moment.
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).into_owned()))
    })
}
