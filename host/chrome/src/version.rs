//! Which Chromium wrote a profile, and whether an older one runs on it now, or is about to.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::{debug, warn};

/// How long a program may take to tell its version. Chromium takes some tens of milliseconds, and longer when it is
/// read from a slow disk.
const TELL_LIMIT: Duration = Duration::from_secs(10);

/// How much of what a program tells is looked at: `Chromium 156.0.8078.79 built on Debian GNU/Linux 12 (bookworm)`.
const TOLD: u64 = 4096;

/// The file in which Chromium notes its version at every start, inside the profile.
const LAST_VERSION: &str = "Last Version";

/// Milestone, minor, build and patch. Ordered as releases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BrowserVersion([u32; 4]);

impl FromStr for BrowserVersion {
    type Err = ();

    /// `156.0.8078.79`, or the same after a product: `Chrome/156.0.8078.79`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let numbers = text.rsplit('/').next().unwrap_or(text).trim();
        let mut version = [0; 4];
        let mut parts = numbers.split('.');
        for number in &mut version {
            *number = parts.next().ok_or(())?.parse().map_err(|_| ())?;
        }
        match parts.next() {
            None => Ok(Self(version)),
            Some(_) => Err(()),
        }
    }
}

/// The version that a profile was last used with, as Chromium noted it; `None` for a fresh profile.
pub(crate) fn of_profile(profile: &Path) -> Option<String> {
    let text = fs::read_to_string(profile.join(LAST_VERSION)).ok()?;
    let text = text.trim();
    text.parse::<BrowserVersion>().is_ok().then(|| text.into())
}

/// The version that `BINARY --version` tells. `None`, and a line in the log, when it tells none in time: a program that
/// does not know the switch may be Chromium all the same.
pub(crate) async fn of_binary(binary: &Path) -> Option<String> {
    of_binary_within(binary, TELL_LIMIT).await
}

async fn of_binary_within(binary: &Path, limit: Duration) -> Option<String> {
    let told = match timeout(limit, tell(binary)).await {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => {
            warn!(binary = %binary.display(), %error, "cannot ask chromium for its version");
            return None;
        }
        Err(_elapsed) => {
            let limit_ms = limit.as_millis() as u64;
            warn!(binary = %binary.display(), limit_ms, "chromium does not tell its version in time");
            return None;
        }
    };
    let version = told
        .split_whitespace()
        .find(|word| word.parse::<BrowserVersion>().is_ok());
    if version.is_none() {
        warn!(binary = %binary.display(), told = told.trim(), "chromium tells no version");
    }
    version.map(str::to_owned)
}

/// What the program writes to its standard output. It is gone when this returns or is dropped, and so is what it has
/// started.
async fn tell(binary: &Path) -> io::Result<String> {
    let mut child = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let _group = group.map(Group);
    let mut told = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(TOLD).read_to_end(&mut told).await?;
    }
    Ok(String::from_utf8_lossy(&told).into_owned())
}

/// A process group that is killed in the end. Its leader must not have been waited for yet: until then nobody else's
/// group can have its number.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        match kill_process_group(self.0, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => debug!(%error, "cannot end the program that was asked for its version"),
        }
    }
}

/// Whether `browser` is older than `last`, the version of its profile. Unknown versions are not.
pub(crate) fn is_older(browser: &str, last: &str) -> bool {
    match (browser.parse::<BrowserVersion>(), last.parse()) {
        (Ok(browser), Ok(last)) => browser < last,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        assert!(is_older("Chrome/99.0.4844.51", "156.0.8078.79"));
        assert!(is_older("Chrome/156.0.8078.79", "156.0.8078.100"));
        assert!(!is_older("Chrome/156.0.8078.79", "156.0.8078.79"));
        assert!(!is_older("Chrome/156.0.8078.79", "99.0.1.1"));
        assert!(!is_older("Chrome/next", "156.0.8078.79"));
    }

    /// A program in `directory` that runs a shell script.
    fn program(directory: &Path, script: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join("chromium");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_program_tells_its_version_among_other_words_or_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let asked = |script: &str| {
            let program = program(directory.path(), script);
            async move { of_binary_within(&program, Duration::from_secs(60)).await }
        };
        let told = asked("echo Chromium 156.0.8078.79 built on Debian 12").await;
        assert_eq!(told.as_deref(), Some("156.0.8078.79"));
        assert_eq!(asked("echo usage: chromium [options]; exit 1").await, None);
        assert_eq!(of_binary(&directory.path().join("none")).await, None);
    }

    #[tokio::test]
    async fn a_program_that_tells_nothing_in_time_is_unknown_and_gone() {
        let directory = tempfile::tempdir().unwrap();
        let written = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", written.display());
        let program = program(directory.path(), &script);
        let pid = async {
            loop {
                match fs::read_to_string(&written)
                    .unwrap_or_default()
                    .trim()
                    .parse()
                {
                    Ok(pid) => return Pid::from_raw(pid).unwrap(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        // It is given up once its helper runs.
        let helper = tokio::select! {
            told = tell(&program) => panic!("told {told:?}"),
            pid = timeout(Duration::from_secs(60), pid) => pid.unwrap(),
        };
        let gone = async {
            let stat = format!("/proc/{}/stat", helper.as_raw_nonzero());
            // A zombie is gone too, where nobody collects orphans.
            while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.unwrap();
        assert_eq!(
            of_binary_within(&program, Duration::from_millis(50)).await,
            None
        );
    }

    #[test]
    fn a_profile_tells_its_version_unless_it_is_fresh_or_foreign() {
        let profile = tempfile::tempdir().unwrap();
        assert_eq!(of_profile(profile.path()), None);
        fs::write(profile.path().join(LAST_VERSION), "156.0.8078.79").unwrap();
        assert_eq!(of_profile(profile.path()).as_deref(), Some("156.0.8078.79"));
        fs::write(profile.path().join(LAST_VERSION), "something else").unwrap();
        assert_eq!(of_profile(profile.path()), None);
    }
}
