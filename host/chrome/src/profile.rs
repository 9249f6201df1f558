//! Who may use a profile: one supervisor at a time, and no Chromium but its own.
//!
//! Chromium guards a profile with `SingletonLock`, a symbolic link to `HOST-PID`. After a crash it stays behind, and
//! a Chromium that finds a link of another host name (a container that was made anew) refuses to start. The
//! supervisor therefore holds a lock of its own, which the kernel releases whatever happens, and under it can tell
//! what is left over from what is alive.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::system::uname;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::file::{WriteError, create_private_directory};

/// The supervisor's lock, inside the profile. Its content is the Chromium that was started last: `PID START`.
const LOCK: &str = "witgate.lock";

/// What Chromium leaves behind when it crashes.
const SINGLETONS: [&str; 3] = ["SingletonLock", "SingletonCookie", "SingletonSocket"];

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// The profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The directory or the lock in it cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another supervisor runs Chromium on this profile.
    #[error("the profile {} is supervised by another witgate: stop that one, or choose another profile", .0.display())]
    Supervised(PathBuf),
    /// A Chromium that no supervisor started.
    #[error("the profile {} is in use by Chromium, process {pid}: close that one, or choose another profile", profile.display())]
    InUse {
        /// The profile.
        profile: PathBuf,
        /// The process that holds it.
        pid: i32,
    },
}

/// The right to run Chromium on a profile; given back when dropped, or by the kernel.
#[derive(Debug)]
pub(crate) struct Profile {
    path: PathBuf,
    lock: File,
}

/// One process, told apart from a later one with the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Incarnation {
    pid: i32,
    start: u64,
}

impl Profile {
    /// Takes the right to `path`, creating it with mode 0700 if it is missing.
    pub(crate) fn claim(path: &Path) -> Result<Self, ProfileError> {
        create_private_directory(path)?;
        // Chromium resolves it against its own working directory, and the link names are compared with it.
        let path =
            fs::canonicalize(path).map_err(|source| WriteError::new("open", path, source))?;
        let file = path.join(LOCK);
        let failed = |source| WriteError::new("lock", &file, source);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ProfileError::Supervised(path)),
            Err(TryLockError::Error(source)) => return Err(failed(source).into()),
        }
        let profile = Self { path, lock };
        match profile.holder() {
            Some(pid) if profile.left_running() != Some(pid) => Err(ProfileError::InUse {
                profile: profile.path,
                pid,
            }),
            _ => Ok(profile),
        }
    }

    /// As [`Profile::claim`], and no browser may run on it either, not even one that an earlier supervisor left.
    pub(crate) fn claim_at_rest(path: &Path) -> Result<Self, ProfileError> {
        let profile = Self::claim(path)?;
        match profile.left_running() {
            Some(pid) => Err(ProfileError::InUse {
                profile: profile.path,
                pid,
            }),
            None => Ok(profile),
        }
    }

    /// The real path, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether [`Profile::prepare`] will have a Chromium to end.
    pub(crate) fn is_left_running(&self) -> bool {
        self.left_running().is_some()
    }

    /// Clears the way for a start: ends the Chromium that a killed supervisor left running, and removes stale links.
    pub(crate) async fn prepare(&mut self, limit: Duration) -> Result<(), ProfileError> {
        if let Some(pid) = self.left_running() {
            warn!(
                pid,
                "ending the chromium that an earlier witgate left running"
            );
            end_group(pid, limit).await;
        }
        if let Some(pid) = self.holder() {
            return Err(ProfileError::InUse {
                profile: self.path.clone(),
                pid,
            });
        }
        for name in SINGLETONS {
            let link = self.path.join(name);
            match fs::remove_file(&link) {
                Ok(()) => info!(link = %link.display(), "stale lock of chromium removed"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(WriteError::new("remove the stale", &link, source).into());
                }
            }
        }
        Ok(())
    }

    /// Notes which Chromium was started, for the supervisor after this one.
    pub(crate) fn record(&mut self, pid: i32) -> io::Result<()> {
        let start = start_time(pid).unwrap_or_default();
        self.lock.set_len(0)?;
        self.lock.seek(SeekFrom::Start(0))?;
        self.lock.write_all(format!("{pid} {start}\n").as_bytes())
    }

    /// The recorded Chromium, if it still runs.
    fn left_running(&self) -> Option<i32> {
        let mut text = String::new();
        let mut lock = &self.lock;
        lock.seek(SeekFrom::Start(0)).ok()?;
        lock.read_to_string(&mut text).ok()?;
        let (pid, start) = text.trim_end().split_once(' ')?;
        let recorded = Incarnation {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        };
        (start_time(recorded.pid) == Some(recorded.start)).then_some(recorded.pid)
    }

    /// The live Chromium of this host that holds the profile by its own lock.
    fn holder(&self) -> Option<i32> {
        let target = fs::read_link(self.path.join("SingletonLock")).ok()?;
        let (host, pid) = target.to_str()?.rsplit_once('-')?;
        let pid: i32 = pid.parse().ok()?;
        let here = uname();
        (here.nodename().to_bytes() == host.as_bytes() && is_chromium_of(pid, &self.path))
            .then_some(pid)
    }
}

/// Whether `pid` is alive and a Chromium that may have `profile` open: the number may have gone to something else.
fn is_chromium_of(pid: i32, profile: &Path) -> bool {
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut arguments = command_line
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let program = arguments.next().unwrap_or_default().to_lowercase();
    let program = program.rsplit('/').next().unwrap_or_default();
    match arguments
        .find_map(|argument| argument.strip_prefix("--user-data-dir=").map(PathBuf::from))
    {
        Some(directory) => fs::canonicalize(&directory).is_ok_and(|real| real == profile),
        // Without the switch it is the default directory of the user, which may be this one.
        None => program.starts_with("chrom"),
    }
}

/// When a live process started, in clock ticks since boot.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name, may hold blanks and parentheses; its last parenthesis ends it.
    let mut after_name = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = after_name.next()?;
    // Fields 3 (state) and 22 (start time). A zombie has ended.
    if state == "Z" {
        None
    } else {
        after_name.nth(18)?.parse().ok()
    }
}

/// Asks a process group to end, and kills what is left of it after `limit`.
async fn end_group(pid: i32, limit: Duration) {
    let Some(group) = Pid::from_raw(pid) else {
        return;
    };
    let incarnation = start_time(pid);
    // Helpers that outlive the leader are killed with the second signal, which finds nobody in the usual case.
    for (signal, limit) in [(Signal::TERM, limit), (Signal::KILL, KILL_LIMIT)] {
        match kill_process_group(group, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => warn!(pid, %error, "cannot signal the chromium that was left running"),
        }
        let deadline = Instant::now() + limit;
        while start_time(pid).is_some()
            && start_time(pid) == incarnation
            && Instant::now() < deadline
        {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn host() -> String {
        uname().nodename().to_str().unwrap().to_owned()
    }

    fn stale(profile: &Path, target: &str) {
        symlink(target, profile.join("SingletonLock")).unwrap();
        symlink("123", profile.join("SingletonCookie")).unwrap();
    }

    async fn is_cleared(profile: &Path) -> bool {
        let mut claimed = Profile::claim(profile).unwrap();
        claimed.prepare(Duration::from_secs(1)).await.unwrap();
        SINGLETONS
            .iter()
            .all(|name| fs::symlink_metadata(profile.join(name)).is_err())
    }

    #[tokio::test]
    async fn the_lock_of_another_host_is_stale() {
        let profile = tempfile::tempdir().unwrap();
        stale(profile.path(), "other-container-1");
        assert!(is_cleared(profile.path()).await);
    }

    #[tokio::test]
    async fn the_lock_of_a_process_that_is_gone_or_something_else_is_stale() {
        for pid in ["999999999".to_owned(), std::process::id().to_string()] {
            let profile = tempfile::tempdir().unwrap();
            stale(profile.path(), &format!("{}-{pid}", host()));
            assert!(is_cleared(profile.path()).await);
        }
    }

    #[test]
    fn a_living_chromium_on_the_profile_is_named() {
        let profile = tempfile::tempdir().unwrap();
        // A process that looks like Chromium: the name and the switch are what is looked at.
        let program = profile.path().join("chromium");
        fs::copy("/bin/sleep", &program).unwrap();
        let script = format!("exec -a {} /bin/sleep 600", program.display());
        let mut child = std::process::Command::new("bash")
            .args(["-c", &script])
            .spawn()
            .unwrap();
        let renamed = || {
            fs::read(format!("/proc/{}/cmdline", child.id()))
                .unwrap()
                .starts_with(program.to_str().unwrap().as_bytes())
        };
        while !renamed() {
            std::thread::yield_now();
        }
        stale(profile.path(), &format!("{}-{}", host(), child.id()));
        let error = Profile::claim(profile.path()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            matches!(error, ProfileError::InUse { pid, .. } if pid == child.id() as i32),
            "{error}"
        );
    }

    #[test]
    fn two_supervisors_cannot_have_one_profile() {
        let profile = tempfile::tempdir().unwrap();
        let first = Profile::claim(profile.path()).unwrap();
        assert!(matches!(
            Profile::claim(profile.path()),
            Err(ProfileError::Supervised(_))
        ));
        drop(first);
        Profile::claim(profile.path()).unwrap();
    }

    #[test]
    fn a_profile_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("profile");
        let error = Profile::claim(&path).unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_an_earlier_supervisor_left_running_is_ended() {
        use std::os::unix::process::CommandExt;
        let profile = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap();
        Profile::claim(profile.path())
            .unwrap()
            .record(child.id() as i32)
            .unwrap();
        Profile::claim(profile.path())
            .unwrap()
            .prepare(Duration::from_secs(10))
            .await
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    }
}
